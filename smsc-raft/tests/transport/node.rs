//! A node in a runtime of its own, which can be killed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use openraft::{Config, Raft};
use smsc_proto::rpc::raft::{LeaderNote, PeerStatus};
use smsc_raft::consensus::election::LogRefusals;
use smsc_raft::consensus::network::{
    self, Elections, Link, PeerHandler, PeerState, PeerWatch, RaftService, Transport, TransportConfig,
};
use smsc_raft::consensus::predecessor::Predecessors;
use smsc_raft::consensus::tls::Security;
use smsc_raft::consensus::types::{Member, TypeConfig};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::store::{MemInbox, MemLog, MemMachine};

pub const HEARTBEAT: Duration = Duration::from_millis(50);

pub type Engine = Raft<TypeConfig, MemMachine>;

pub fn config() -> TransportConfig {
    TransportConfig::for_heartbeat(HEARTBEAT, true)
}

pub struct Node {
    pub id: u64,
    pub addr: SocketAddr,
    pub engine: Engine,
    pub log: MemLog,
    pub machine: MemMachine,
    pub inbox: MemInbox,
    pub notes: Arc<Mutex<Vec<LeaderNote>>>,
    pub transport: Transport,
    pub watch: Arc<PeerWatch>,
    pub shutdown: watch::Sender<bool>,
    pub serving: Option<JoinHandle<std::io::Result<()>>>,
    pub runtime: Option<Runtime>,
}

struct Handler {
    id: u64,
    notes: Arc<Mutex<Vec<LeaderNote>>>,
}

#[tonic::async_trait]
impl PeerHandler for Handler {
    async fn status(&self) -> PeerStatus {
        PeerStatus { node_id: self.id, version: "test".to_owned(), ..PeerStatus::default() }
    }

    async fn note(&self, note: LeaderNote) {
        self.notes.lock().expect("no panic under the lock").push(note);
    }
}

impl Node {
    pub async fn start(id: u64, security: &Security) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(format!("node-{id}"))
            .enable_all()
            .build()
            .expect("a runtime");
        let security = security.clone();
        let built = runtime.spawn(async move {
            let raft_config = Config {
                heartbeat_interval: 50,
                election_timeout_min: 300,
                election_timeout_max: 600,
                enable_pre_vote: Some(true),
                max_in_snapshot_log_to_keep: 0,
                purge_batch_size: 1,
                snapshot_policy: openraft::SnapshotPolicy::Never,
                ..Config::default()
            };
            let raft_config = Arc::new(raft_config.validate().expect("a sound configuration"));
            let transport = Transport::new(id, security.clone(), config());
            let (log, machine) = (MemLog::default(), MemMachine::default());
            let engine = Engine::new(id, raft_config, transport.factory(), log.clone(), machine.clone());
            let engine = engine.await.expect("an empty store opens");
            let (shutdown, closing) = watch::channel(false);
            let (inbox, notes) = (MemInbox::default(), Arc::new(Mutex::new(Vec::new())));
            let handler = Arc::new(Handler { id, notes: notes.clone() });
            let elections = Elections {
                refusals: LogRefusals::default(),
                predecessors: Predecessors::default(),
                lease: Duration::ZERO,
            };
            let service = RaftService::new(engine.clone(), inbox.clone(), handler, elections, closing.clone());
            let routes = network::routes(service, &security);
            let incoming = network::incoming((Ipv4Addr::LOCALHOST, 0).into()).await.expect("a free port");
            let addr = incoming.local_addr().expect("bound");
            let serving =
                tokio::spawn(async move { network::serve(incoming, routes, &security, &config(), closing).await });
            let watch = Arc::new(PeerWatch::new(transport.clone()));
            Node {
                id,
                addr,
                engine,
                log,
                machine,
                inbox,
                notes,
                transport,
                watch,
                shutdown,
                serving: Some(serving),
                runtime: None,
            }
        });
        let mut node = built.await.expect("no panic");
        node.runtime = Some(runtime);
        node
    }

    pub fn member(&self) -> Member {
        Member { addr: self.addr.to_string(), name: format!("n{}", self.id), witness: false }
    }

    /// Watches all of these but itself.
    pub fn watch_members(&self, members: &BTreeMap<u64, Member>) {
        let _consensus_runtime = self.runtime.as_ref().expect("not killed").enter();
        self.watch.set_members(members.iter().map(|(id, member)| (*id, member)));
    }

    /// Ends everything the node does, as the end of its process would.
    pub fn kill(&mut self) -> Instant {
        let at = Instant::now();
        self.runtime.take().expect("not killed before").shutdown_background();
        at
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Nodes 1 to `count`.
pub async fn start(count: u64, security: impl Fn(u64) -> Security) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in 1..=count {
        nodes.push(Node::start(id, &security(id)).await);
    }
    nodes
}

pub fn members(nodes: &[Node]) -> BTreeMap<u64, Member> {
    nodes.iter().map(|node| (node.id, node.member())).collect()
}

/// Waits until the peer's state is as wanted.
pub async fn until(watch: &PeerWatch, peer: u64, wanted: impl Fn(&PeerState) -> bool) -> PeerState {
    let mut states = watch.subscribe();
    let wait = states.wait_for(|states| states.get(&peer).is_some_and(&wanted));
    let states = tokio::time::timeout(Duration::from_secs(10), wait).await.expect("within ten seconds");
    states.expect("the watch is alive")[&peer].clone()
}

pub async fn until_connected(watch: &PeerWatch, peer: u64) {
    until(watch, peer, |state| matches!(state.link, Link::Connected { .. })).await;
}

/// A cluster of these nodes with a leader.
pub async fn form(nodes: &[Node]) -> u64 {
    let members = members(nodes);
    for node in nodes {
        node.watch_members(&members);
    }
    nodes[0].engine.initialize(members).await.expect("pristine");
    leader_of(nodes).await
}

/// The node that leads and has committed an entry of its own term.
pub async fn leader_of(nodes: &[Node]) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        for node in nodes.iter().filter(|node| node.runtime.is_some()) {
            if node.engine.current_leader().await == Some(node.id) && node.engine.write_blank().await.is_ok() {
                return node.id;
            }
        }
        assert!(Instant::now() < deadline, "no leader in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
