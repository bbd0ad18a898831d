//! What this node is at the moment, as peers, operators and supervisors ask.

use std::sync::{Arc, Mutex, PoisonError};

use smsc_proto::rpc::raft::{DataPathLease, LeaderNote, NodeRole, PairRequest, PairResponse, PeerStatus};
use smsc_raft::consensus::network::PeerHandler;
use smsc_raft::store::Store;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;

use super::directory::DirectoryCache;
use super::takeover::Takeovers;
use crate::cdr::CdrStatus;
use crate::config::{Config, Role};
use crate::data_dir::disk_free;
use crate::delivery::route::RouteTable;
use crate::ha::floating_ip::FloatingIp;
use crate::ha::{DataPathState, HaError, Phase};
use crate::http::Readiness;
use crate::metrics::Metrics;
use crate::shutdown::{Lifecycle, NodePhase};
use crate::smpp::ports::Directory;
use crate::smpp::tls::Certificates;

/// Entries that a standby may be behind and still take over at once.
pub const LAG_MAX_ENTRIES: u64 = 1000;

/// How a handover went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandoverReport {
    /// Who led.
    pub from: u64,
    /// Who leads.
    pub to: u64,
    /// The new term.
    pub term: u64,
    /// From the request to the new leader being known. Milliseconds.
    pub took_ms: u32,
}

/// A wish for a handover: to this node, or to the best standby.
pub(super) struct HandoverWish {
    pub(super) to: Option<u64>,
    pub(super) answer: oneshot::Sender<Result<HandoverReport, String>>,
}

/// Everything that several rooms of the node share.
pub struct NodeState {
    /// The checked configuration.
    pub config: Config,
    /// The replicated store.
    pub store: Store,
    /// The floating addresses; `None` on a witness.
    pub floating: Option<Arc<FloatingIp>>,
    /// What ESMEs are shown at the port for TLS, if there is one.
    pub certificates: Option<Arc<Certificates>>,
    /// The process's life.
    pub lifecycle: Lifecycle,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How this node came to lead.
    pub(super) takeovers: Takeovers,
    phase: Mutex<Phase>,
    handovers: mpsc::Sender<HandoverWish>,
    directories: DirectoryCache,
    /// How the writing of call detail records stands.
    pub cdr: Arc<CdrStatus>,
    pub(super) wished: Mutex<Option<mpsc::Receiver<HandoverWish>>>,
}

impl NodeState {
    pub(super) fn new(
        config: &Config,
        store: Store,
        floating: Option<Arc<FloatingIp>>,
        certificates: Option<Arc<Certificates>>,
        lifecycle: Lifecycle,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (handovers, wished) = mpsc::channel(4);
        Self {
            config: config.clone(),
            store,
            floating,
            certificates,
            lifecycle,
            metrics,
            takeovers: Takeovers::default(),
            phase: Mutex::new(Phase::Standby),
            handovers,
            directories: DirectoryCache::default(),
            cdr: Arc::default(),
            wished: Mutex::new(Some(wished)),
        }
    }

    /// Where this node stands between standby and serving.
    pub fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves to the next phase.
    ///
    /// # Panics
    /// On a step that [`Phase`] does not know: our own broken order.
    pub(super) fn step(&self, next: Phase) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        *phase = phase.step(next).expect("the leader's driver keeps to the order of phases");
        tracing::info!(phase = next.as_str(), "leadership phase");
    }

    /// Whether the floating addresses are held here now.
    pub fn holds_address(&self) -> bool {
        self.floating.as_ref().is_some_and(|floating| floating.held_by_term().is_some())
    }

    /// The cluster, as release certificates name it.
    pub fn cluster_id(&self) -> u64 {
        cluster_id(&self.config.cluster)
    }

    /// Why this node would not take over now; empty when it would.
    pub fn not_ready(&self) -> String {
        if self.config.role == Role::Witness {
            return "a witness never serves".to_owned();
        }
        if self.lifecycle.phase() != NodePhase::Running {
            return format!("the node is {}", self.lifecycle.phase());
        }
        if let Some(short) = self.disk_short() {
            return short;
        }
        if let Some(interface) = self.floating.as_ref().and_then(|floating| floating.interface_without_carrier()) {
            return HaError::NoCarrier { interface }.to_string();
        }
        if let Some(stalled) = self.disk_stalled() {
            return stalled;
        }
        let view = self.store.view();
        if view.last_log_index > view.applied_index + LAG_MAX_ENTRIES {
            return format!("{} log entries are not applied yet", view.last_log_index - view.applied_index);
        }
        String::new()
    }

    /// The replicated configuration as it is now.
    pub fn directory(&self) -> Arc<Directory> {
        self.directories.directory(&self.store)
    }

    /// The routes as they are now.
    pub fn table(&self) -> Arc<RouteTable> {
        self.directories.table(&self.store)
    }

    /// What is wrong with the room on the disk, if anything is.
    pub fn disk_short(&self) -> Option<String> {
        let free_mib = disk_free(&self.config.data_dir).unwrap_or(0) >> 20;
        let min_mib = u64::from(self.config.store.disk_free_min_mib);
        let dir = self.config.data_dir.display();
        (free_mib < min_mib).then(|| format!("only {free_mib} MiB are left on the disk of {dir}, less than {min_mib}"))
    }

    /// How long the disk has kept the Raft log waiting, if that is too long.
    pub fn disk_stalled(&self) -> Option<String> {
        let stalled = self.store.disk_stalled_for();
        let dir = self.config.data_dir.display();
        (stalled > self.config.store.disk_stall_max)
            .then(|| format!("the disk of {dir} has written nothing for {} ms", stalled.as_millis()))
    }

    /// Asks the leader's driver of this node to hand over, and waits for the end.
    ///
    /// # Errors
    /// A sentence for the operator: why nothing was handed over.
    pub async fn hand_over_to(&self, to: Option<u64>) -> Result<HandoverReport, String> {
        let (answer, answered) = oneshot::channel();
        let stopped = |_| "the node is stopping".to_owned();
        self.handovers.send(HandoverWish { to, answer }).await.map_err(|_| "the node is stopping".to_owned())?;
        answered.await.map_err(stopped)?
    }

    pub(super) fn readiness(&self) -> Readiness {
        if self.lifecycle.phase() != NodePhase::Running {
            return Err(format!("the node is {}", self.lifecycle.phase()));
        }
        let view = self.store.view();
        match view.leader {
            None => Err("no leader is known".to_owned()),
            Some(id) if id == self.config.node_id && self.phase() != Phase::Active => Err("taking over".to_owned()),
            Some(_) => Ok(()),
        }
    }
}

/// The cluster's name as a number, FNV-1a: one network may carry several clusters.
pub(super) fn cluster_id(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Answers the peers.
pub(super) struct Peer {
    state: Arc<NodeState>,
}

impl Peer {
    pub(super) fn new(state: Arc<NodeState>) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl PeerHandler for Peer {
    async fn status(&self) -> PeerStatus {
        self.state.status()
    }

    async fn pair(&self, request: PairRequest) -> Result<PairResponse, Status> {
        let (name, asks) = (&self.state.config.name, request.node_id);
        let none = || Status::failed_precondition(format!("{name} is in no pair with node {asks} at this moment"));
        self.state.store.pair_asked(request).await.ok_or_else(none)
    }

    async fn note(&self, note: LeaderNote) {
        if let Ok(hash) = <[u8; 32]>::try_from(note.release_token_hash.as_ref()) {
            self.state.store.release_notes().note(note.node_id, note.term, hash);
        }
    }

    async fn leadership_offered(&self, by: u64, term: u64) {
        let view = self.state.store.view();
        // A witness passes on what a failure has left it with.
        if view.members.get(&by).is_some_and(|member| !member.witness) {
            self.state.takeovers.offered(term);
        }
    }
}

impl NodeState {
    /// Whether the kernel itself keeps to the lease, and if not why.
    fn data_path(&self) -> (DataPathLease, String) {
        match self.floating.as_ref().map_or(DataPathState::NotNeeded, |floating| floating.data_path()) {
            DataPathState::Active(_) => (DataPathLease::Active, String::new()),
            DataPathState::NotNeeded => (DataPathLease::NotNeeded, String::new()),
            DataPathState::Missing(why) => (DataPathLease::Missing, why),
        }
    }

    /// Who else was heard to use a floating address lately; empty for nobody.
    fn address_conflict(&self) -> String {
        let conflict = self.floating.as_ref().and_then(|floating| floating.conflict());
        conflict.map(|conflict| conflict.to_string()).unwrap_or_default()
    }

    /// This node as it sees itself.
    pub fn status(&self) -> PeerStatus {
        let view = self.store.view();
        let role = if self.config.role == Role::Witness { NodeRole::Witness } else { NodeRole::Data };
        let (data_path_lease, data_path_missing) = self.data_path();
        PeerStatus {
            node_id: self.config.node_id,
            name: self.config.name.clone(),
            role: role as i32,
            term: view.term,
            leader_id: view.leader.unwrap_or(0),
            last_log_index: view.last_log_index,
            applied_index: view.applied_index,
            checkpoint_index: view.checkpoint_index,
            phase: self.phase().as_str().to_owned(),
            holds_address: self.holds_address(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            not_ready: self.not_ready(),
            waiting: self.store.read(|machine| Ok(machine.waiting_count())).unwrap_or(0),
            data_path_lease: data_path_lease as i32,
            data_path_missing,
            address_conflict: self.address_conflict(),
            pair: self.store.pair_status(),
        }
    }
}
