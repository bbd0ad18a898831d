//! The node: builds the parts, owns every task, and drives the phases of leadership.

mod directory;
mod error;
mod host;
mod housekeeping;
mod leader;
mod peer;
mod serving;
mod takeover;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use error::NodeError;
use smsc_raft::consensus::tls::{Credentials, Security, TlsFiles};
use smsc_raft::consensus::types::Member;
use smsc_raft::store::{Store, StoreConfig};
use tokio::runtime::{Builder, Runtime};

use crate::admin::fault::Victim;
use crate::admin::socket::AdminSocket;
use crate::admin::{self, AdminConfig, AdminService};
use crate::cdr::CdrWriter;
use crate::cdr::files::FilesConfig;
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, FloatingIpMode, Role};
use crate::data_dir::DataDir;
use crate::ha::certificate::ReleaseListener;
use crate::ha::floating_ip::{FloatingAddress, FloatingIp, FloatingIpConfig, FloatingMode};
use crate::ha::guard::GuardCommand;
use crate::http::HttpServer;
use crate::memory;
use crate::metrics::Metrics;
use crate::quorum::quorum;
use crate::shutdown::{Lifecycle, NodePhase, watch_signals};
use crate::smpp::tls::Certificates;
use leader::Leader;
use peer::{NodeState, Peer};

/// How often the daemon renews the kernel's lifetime of a held address.
const RENEW_INTERVAL: Duration = Duration::from_millis(300);
/// How often the names of members are resolved.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// The most threads that carry consensus; nothing else runs on them.
const CONSENSUS_THREADS_MAX: usize = 2;
/// Their nice value, where the process may set one.
const CONSENSUS_NICE: i32 = -10;
/// Cache of the message store.
const STORE_CACHE_BYTES: usize = 16 << 20;

/// Runs the node until it is asked to stop or can go on no more.
///
/// # Errors
/// What kept it from starting, or ended it; [`NodeError::exit`] is the process's exit code.
pub fn run(config: Config) -> Result<(), NodeError> {
    if let Err(reason) = memory::lock() {
        tracing::warn!("memory is not locked, so that a busy disk may delay heartbeats: {reason}");
    }
    let data_dir = DataDir::open(&config.data_dir, &config.cluster, config.node_id)?;
    data_dir.require_room(config.store.disk_free_min_mib)?;
    for warning in data_dir.warnings() {
        tracing::warn!("{warning}");
    }
    let security = security(&config)?;
    let lifecycle = Lifecycle::default();
    watch_signals(lifecycle.clone())?;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // Preferred by the scheduler, these would leave deliveries nothing of two cores.
    let consensus = runtime("smsc-raft", (cores / 2).clamp(1, CONSENSUS_THREADS_MAX), prefer_this_thread)?;
    let service = runtime("smsc-node", cores, || ())?;
    let floating = config.floating_ip.is_some().then(|| open_floating(&config)).transpose()?.map(Arc::new);
    let result = service.block_on(operate(
        &config,
        &data_dir,
        security,
        floating.clone(),
        lifecycle.clone(),
        consensus.handle(),
    ));
    if let Some(Err(error)) = floating.map(|floating| floating.close()) {
        tracing::warn!(%error, "the filter of the floating address stays on its interface, closed");
    }
    lifecycle.advance(NodePhase::Stopped);
    consensus.shutdown_timeout(Duration::from_secs(1));
    service.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn operate(
    config: &Config,
    data_dir: &DataDir,
    security: Security,
    floating: Option<Arc<FloatingIp>>,
    lifecycle: Lifecycle,
    consensus: &tokio::runtime::Handle,
) -> Result<(), NodeError> {
    let metrics = Arc::new(Metrics::default());
    let http = config.http_listen.map(HttpServer::bind).transpose()?;
    let certificates = config.smpp.as_ref().and_then(|smpp| smpp.tls.clone()).map(Certificates::load).transpose()?;
    let certificates = certificates.map(Arc::new);
    if let Some(certificates) = &certificates {
        certificates.watch()?;
    }
    let store_config = store_config(config, security, &tokio::runtime::Handle::current());
    let store = consensus.spawn(Store::open(store_config)).await.map_err(NodeError::task)??;
    let state = NodeState::new(config, store.clone(), floating, certificates, lifecycle.clone(), metrics.clone());
    let state = Arc::new(state);
    let peer = Arc::new(Peer::new(state.clone()));
    let mut releases = {
        let address = config.raft.release_listen();
        consensus.spawn(ReleaseListener::bind(address)).await.map_err(NodeError::task)??
    };
    let admin = AdminService::new(store.clone(), state.clone(), admin_config(config)?);
    let (serving, remote_admin) = (store.clone(), admin.clone());
    consensus
        .spawn(async move {
            let with_admin = |routes| admin::add_to_peers_port(routes, remote_admin, &serving);
            serving.serve(peer, with_admin).await
        })
        .await
        .map_err(NodeError::task)??;
    let stopping = lifecycle.clone();
    let socket = AdminSocket::bind(&config.admin_socket)?;
    tokio::spawn(async move { socket.serve(admin::server(admin), stopping.reached(NodePhase::Stopped)).await });
    if let Some(http) = http {
        let (state, metrics) = (state.clone(), metrics.clone());
        tokio::spawn(http.serve(metrics, Arc::new(move || state.readiness())));
    }
    let (releasing, told) = (store.clone(), state.clone());
    let cluster = state.cluster_id();
    consensus.spawn(async move {
        while let Ok(certificate) = releases.receive().await {
            if certificate.cluster_id == cluster {
                told.takeovers.noticed("the certificate that its address is released");
                if let Some(floating) = told.floating.clone().filter(|floating| floating.may_clear_ahead()) {
                    tokio::task::spawn_blocking(move || floating.clear_ahead());
                }
                releasing.leader_released(certificate.node_id, certificate.term, certificate.token().as_bytes()).await;
            }
        }
    });
    if data_dir.is_fresh() && config.raft.bootstrap {
        tokio::spawn(bootstrap(store.clone(), config.clone()));
    }
    tokio::spawn(housekeeping::observe(state.clone()));
    tokio::spawn(follow_release_addresses(state.clone()));
    let cdrs = start_cdrs(config, &state)?;
    tokio::spawn(takeover::watch(state.clone()));
    lifecycle.advance(NodePhase::Running);
    tracing::info!(node = config.node_id, name = %config.name, role = %config.role, "running");
    let ended = Leader::new(state.clone()).run().await;
    if let Some(cdrs) = cdrs {
        // It says itself what went wrong.
        let _ = tokio::task::spawn_blocking(move || cdrs.stop()).await;
    }
    tracing::info!("closing the store");
    let closing = store.clone();
    // The engine's tasks live there; a failure of the node is reported below in any case.
    let _ = consensus.spawn(async move { closing.shutdown().await }).await;
    ended
}

fn start_cdrs(config: &Config, state: &NodeState) -> Result<Option<CdrWriter>, NodeError> {
    let Some(cdr) = &config.cdr else { return Ok(None) };
    let files = FilesConfig {
        dir: cdr.dir.clone(),
        cluster: config.cluster.clone(),
        rotate_bytes: u64::from(cdr.rotate_mib) << 20,
        rotate_after: cdr.rotate_after,
        keep_files: cdr.keep_files as usize,
    };
    Ok(Some(CdrWriter::start(state.store.clone(), files, state.cdr.clone())?))
}

/// Forms the cluster of the configuration's first members. Every first member may say so: the one with the lowest id
/// among the data nodes does it, and does not if it finds that another knows a leader.
async fn bootstrap(store: Store, config: Config) {
    let first = config.raft.members.iter().filter(|member| member.role == Role::Data).map(|member| member.id).min();
    if first != Some(config.node_id) || store.view().initialized {
        return;
    }
    let members: BTreeMap<u64, Member> =
        config.raft.members.iter().map(|member| (member.id, to_member(member))).collect();
    for (id, member) in members.iter().filter(|(id, _)| **id != config.node_id) {
        let known = store.peer_status(*id, member, Duration::from_millis(500)).await;
        if known.is_ok_and(|status| status.leader_id != 0) {
            tracing::warn!("the cluster exists already: this node has an empty data directory and waits to be joined");
            return;
        }
    }
    match store.initialize(members).await {
        Ok(()) => tracing::info!("formed the cluster"),
        Err(error) => tracing::warn!(%error, "the cluster was not formed"),
    }
}

fn to_member(member: &crate::config::Member) -> Member {
    Member { addr: member.addr.clone(), name: member.name.clone(), witness: member.role == Role::Witness }
}

fn admin_config(config: &Config) -> Result<AdminConfig, NodeError> {
    let addresses = config.floating_ip.iter().flat_map(|floating| &floating.addresses);
    Ok(AdminConfig {
        cluster: config.cluster.clone(),
        node_id: config.node_id,
        drills: config.admin_drills,
        floating_addresses: addresses.clone().map(|floating| floating.net.addr.to_string()).collect(),
        victim: Victim {
            program: std::env::current_exe()?,
            peers_ip: config.raft.listen.ip(),
            floating_interfaces: addresses
                .map(|floating| floating.interface.clone())
                .filter(|name| !name.is_empty())
                .collect(),
        },
    })
}

fn runtime(name: &'static str, threads: usize, started: fn()) -> Result<Runtime, NodeError> {
    let mut builder = Builder::new_multi_thread();
    Ok(builder.worker_threads(threads).thread_name(name).on_thread_start(started).enable_all().build()?)
}

/// Heartbeats must not wait behind SMPP work when the machine is busy. On Linux a nice value is a thread's own.
fn prefer_this_thread() {
    // Without CAP_SYS_NICE it stays as it is: a matter of degree, not of correctness.
    let _ = rustix::process::setpriority_process(None, CONSENSUS_NICE);
}

fn security(config: &Config) -> Result<Security, NodeError> {
    let Some(tls) = &config.tls else { return Ok(Security::plaintext(config.raft.listen)?) };
    let files = TlsFiles { ca: tls.ca.clone(), cert: tls.cert.clone(), key: tls.key.clone() };
    Ok(Security::mutual(Credentials::load(&files)?, config.node_id)?)
}

fn store_config(config: &Config, security: Security, service: &tokio::runtime::Handle) -> StoreConfig {
    StoreConfig {
        node_id: config.node_id,
        witness: config.role == Role::Witness,
        dir: config.data_dir.clone(),
        listen: config.raft.listen,
        security,
        heartbeat: config.raft.heartbeat,
        election: (config.raft.election_min, config.raft.election_max),
        lease: config.raft.lease,
        log_segment_bytes: config.store.log_segment_mib.saturating_mul(1 << 20),
        log_cache_bytes: (config.store.log_cache_mib as usize) << 20,
        store_cache_bytes: STORE_CACHE_BYTES,
        overlay_bytes: (config.store.overlay_mib as usize) << 20,
        checkpoint_interval: config.store.checkpoint_interval,
        quorum: quorum(config, service),
        clock_ms: Arc::new(|| SystemClock.wall().as_millis()),
    }
}

fn open_floating(config: &Config) -> Result<FloatingIp, NodeError> {
    let floating = config.floating_ip.as_ref().expect("asked for data nodes only");
    let mode = match floating.mode {
        FloatingIpMode::Interface => FloatingMode::Netlink,
        FloatingIpMode::Loopback => FloatingMode::Loopback,
    };
    let addresses = floating.addresses.iter().map(|floating| FloatingAddress {
        address: floating.net.addr,
        prefix_len: floating.net.prefix_len,
        interface: floating.interface.clone(),
    });
    Ok(FloatingIp::open(FloatingIpConfig {
        mode,
        addresses: addresses.collect(),
        valid_lft_s: u32::try_from(floating.valid_lft.as_secs()).unwrap_or(u32::MAX),
        renew_interval: RENEW_INTERVAL,
        probe_wait: floating.probe,
        cluster_id: peer::cluster_id(&config.cluster),
        node_id: config.node_id,
        peers: Vec::new(),
        guard: GuardCommand::this_program(),
    })?)
}

/// Keeps the addresses at hand to which release certificates go: a takeover must not wait for names to be resolved.
async fn follow_release_addresses(state: Arc<NodeState>) {
    let Some(floating) = state.floating.clone() else { return };
    let mut known = None;
    let mut changes = state.store.view_changes();
    while state.lifecycle.phase() < NodePhase::Stopped {
        let members = state.store.view().members;
        if known.as_ref() != Some(&members) {
            floating.set_peers(release_addresses(&state.config.raft, state.config.node_id, &members).await);
            known = Some(members);
        }
        // A name may come to mean another address.
        if tokio::time::timeout(RESOLVE_INTERVAL, changes.next()).await.is_err() {
            known = None;
        }
    }
}

/// Where the members hear release certificates, as far as their names resolve.
async fn release_addresses(
    config: &crate::config::RaftConfig,
    own_id: u64,
    members: &BTreeMap<u64, Member>,
) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for (_, member) in members.iter().filter(|(id, _)| **id != own_id) {
        match tokio::net::lookup_host(config.release_addr(&member.addr)).await {
            Ok(mut addresses) => found.extend(addresses.next()),
            Err(error) => tracing::warn!(member = %member.name, %error, "no address to send release certificates to"),
        }
    }
    found
}
