//! Two stores alone with an arbiter, over real connections and disks, each on a runtime of its own that can be ended as a
//! process is.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smsc_proto::rpc::raft::pair_status::Standing;
use smsc_proto::rpc::raft::{Grant, LeaderNote, PairRequest, PairResponse, PeerStatus};
use smsc_raft::consensus::network::PeerHandler;
use smsc_raft::consensus::tls::Security;
use smsc_raft::consensus::types::Member;
use smsc_raft::model::{self, Address, Submission, command::Op};
use smsc_raft::outcome::Outcome;
use smsc_raft::quorum::{Device, DevicePeer, Policy, QuorumConfig, QuorumDevice};
use smsc_raft::store::{Store, StoreConfig};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

const PATIENCE: Duration = Duration::from_secs(30);
const LEASE: Duration = Duration::from_millis(1500);

#[derive(Default)]
struct Handler {
    store: OnceLock<Store>,
}

#[tonic::async_trait]
impl PeerHandler for Handler {
    async fn status(&self) -> PeerStatus {
        PeerStatus::default()
    }

    async fn note(&self, _: LeaderNote) {}

    async fn pair(&self, request: PairRequest) -> Result<PairResponse, tonic::Status> {
        let none = || tonic::Status::failed_precondition("no pair");
        self.store.get().ok_or_else(none)?.pair_asked(request).await.ok_or_else(none)
    }
}

/// Says yes once per permit that the test gives, which it does when the peer is off.
struct Switch(Arc<Semaphore>);

#[tonic::async_trait]
impl QuorumDevice for Switch {
    async fn ask(&self, _: &DevicePeer) -> Result<(), String> {
        self.0.acquire().await.map(tokio::sync::SemaphorePermit::forget).map_err(|error| error.to_string())
    }
}

struct Node {
    runtime: Option<Runtime>,
    store: Store,
}

impl Node {
    fn open(id: u64, listen: SocketAddr, dir: &Path, fence: Option<&Arc<Semaphore>>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
        let device = fence.map(|switch| Arc::new(Switch(switch.clone())) as Arc<dyn QuorumDevice>);
        let rules = match &device {
            None => Device::Operator,
            Some(_) => Device::Automatic {
                after: Duration::ZERO,
                standby_delay: Duration::ZERO,
                retry: Duration::from_secs(1),
                proves_off: true,
            },
        };
        let window = Duration::from_secs(3600);
        let policy = Policy { device: rules, window, lease: LEASE, rejoin_within: Duration::from_secs(2) };
        let name = if device.is_some() { "fence" } else { "operator" };
        let config = StoreConfig {
            node_id: id,
            witness: false,
            dir: dir.to_owned(),
            listen,
            security: Security::plaintext(listen).expect("loopback"),
            heartbeat: Duration::from_millis(100),
            election: (Duration::from_millis(800), LEASE),
            lease: Duration::from_millis(1200),
            log_segment_bytes: 4 << 20,
            log_cache_bytes: 4 << 20,
            store_cache_bytes: 16 << 20,
            overlay_bytes: 64 << 20,
            checkpoint_interval: Duration::from_millis(500),
            quorum: Some(QuorumConfig { name, policy, device }),
            clock_ms: Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis() as u64)),
        };
        let store = runtime.block_on(async {
            let handler = Arc::new(Handler::default());
            let store = Store::open(config).await.expect("a folder of its own");
            let _ = handler.store.set(store.clone());
            store.serve(handler, |routes| routes).await.expect("a free port");
            store
        });
        Self { runtime: Some(runtime), store }
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it was not ended").block_on(work)
    }

    /// Ends it as a process is killed: no task goes on, its connections are closed.
    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn stop(mut self) {
        self.run(self.store.shutdown());
        self.kill();
    }

    fn leads(&self) -> bool {
        self.store.leadership().borrow().is_some()
    }

    fn stands(&self, standing: Standing) -> bool {
        self.store.pair_status().is_some_and(|pair| pair.standing() == standing)
    }

    fn submit(&self, from: u64, count: u64) -> Vec<u64> {
        self.run(async {
            let mut ids = Vec::new();
            for n in from..from + count {
                match self.store.propose(submission(n)).await {
                    Ok(Outcome::Stored(id)) => ids.push(id),
                    other => panic!("{other:?}"),
                }
            }
            ids
        })
    }

    fn has(&self, ids: &[u64]) -> bool {
        ids.iter().all(|id| self.store.read(|machine| machine.message(*id)).expect("readable").is_some())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn submission(n: u64) -> Op {
    let address = |digits: String| Some(Address { ton: 1, npi: 1, digits });
    Op::Submit(model::Submit {
        submission: Some(Submission {
            account: "esme1".to_owned(),
            source: address("1000".to_owned()),
            destination: address(format!("1555{n:07}")),
            short_message: bytes::Bytes::from_static(b"hello"),
            expires_at_ms: u64::MAX / 2,
            ..Default::default()
        }),
    })
}

#[track_caller]
fn wait(what: &str, nodes: &[&Node], done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        let seen = nodes.iter().map(|node| (node.store.pair_status(), node.store.view())).collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "{what}: {seen:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Pair {
    dirs: [TempDir; 2],
    listens: [SocketAddr; 2],
    fence: Option<Arc<Semaphore>>,
}

impl Pair {
    fn new(fence: Option<Arc<Semaphore>>) -> Self {
        let listen = |()| TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let dir = |()| tempfile::tempdir().expect("a folder");
        Self { dirs: [(); 2].map(dir), listens: [(); 2].map(listen), fence }
    }

    fn open(&self, x: usize) -> Node {
        Node::open(x as u64 + 1, self.listens[x], self.dirs[x].path(), self.fence.as_ref())
    }

    /// Both, in sync, the one that leads first; with its number.
    fn whole(&self) -> (usize, Node, Node) {
        let (a, b) = (self.open(0), self.open(1));
        let member = |x: usize| Member { addr: self.listens[x].to_string(), name: format!("n{x}"), witness: false };
        let members = BTreeMap::from([(1, member(0)), (2, member(1))]);
        a.run(a.store.initialize(members)).expect("a new cluster");
        in_sync(&a, &b);
        assert!(a.store.view().arbiter && a.store.view().voters == [1, 2] && a.store.view().members.len() == 2);
        if a.leads() { (0, a, b) } else { (1, b, a) }
    }
}

fn in_sync(a: &Node, b: &Node) {
    wait("in sync", &[a, b], || a.stands(Standing::InSync) && b.stands(Standing::InSync) && (a.leads() || b.leads()));
}

#[test]
fn a_fence_lets_a_standby_and_a_leader_go_on_alone() {
    let switch = Arc::new(Semaphore::new(0));
    let pair = Pair::new(Some(switch.clone()));
    let (_, mut leader, standby) = pair.whole();
    let ids = leader.submit(0, 50);

    leader.kill();
    wait("the device is asked", &[&standby], || standby.store.pair_status().is_some_and(|pair| pair.asking));
    std::thread::sleep(LEASE * 2);
    assert!(!standby.leads(), "it leads without its device's word");
    switch.add_permits(1);
    wait("the standby leads", &[&standby], || standby.leads());
    assert!(standby.stands(Standing::Sole) && standby.has(&ids));
    standby.submit(100, 50);

    let pair = Pair::new(Some(switch.clone()));
    let (_, leader, mut standby) = pair.whole();
    let ids = leader.submit(0, 50);
    standby.kill();
    switch.add_permits(1);
    wait("the leader leads again", &[&leader], || leader.leads() && leader.stands(Standing::Sole));
    assert!(leader.has(&ids));
    leader.submit(100, 50);
}

#[test]
fn an_operator_is_refused_while_the_peer_answers_and_heard_when_it_is_dead() {
    let pair = Pair::new(None);
    let (led, mut leader, standby) = pair.whole();
    let ids = leader.submit(0, 50);
    let word = || standby.run(standby.store.take_over(led as u64 + 1, false));
    let refused = word().expect_err("the peer answers").to_string();
    assert!(refused.contains("it is not down"), "{refused}");
    let other = standby.run(standby.store.take_over(9, false)).expect_err("no peer").to_string();
    assert!(other.contains("not the peer"), "{other}");

    leader.kill();
    wait("an operator is heard", &[&standby], || word().is_ok());
    wait("the standby leads", &[&standby], || standby.leads());
    assert!(standby.has(&ids));
    standby.submit(100, 50);
}

#[test]
fn a_node_that_stops_leaves_everything_to_its_peer_and_a_sole_node_restarts_alone() {
    let pair = Pair::new(None);
    let (led, leader, standby) = pair.whole();
    let mut ids = leader.submit(0, 50);
    leader.stop();
    wait("the standby leads", &[&standby], || standby.leads());
    let sole = standby.store.pair_status().and_then(|pair| pair.sole).expect("sole");
    assert_eq!(sole.grant(), Grant::Yielded);
    ids.extend(standby.submit(100, 50));

    // It stops, and goes on alone when it is started alone.
    standby.stop();
    let sole = pair.open(1 - led);
    wait("a sole node goes on alone", &[&sole], || sole.leads() && sole.stands(Standing::Sole));
    assert!(sole.has(&ids));
    ids.extend(sole.submit(200, 50));

    // The other one returns, is brought up to date, and counts again.
    let back = pair.open(led);
    in_sync(&sole, &back);
    wait("it has everything", &[&back], || back.has(&ids));
    ids.extend(if sole.leads() { sole.submit(300, 50) } else { back.submit(300, 50) });
    sole.stop();
    wait("the one that returned leads", &[&back], || back.leads());
    assert!(back.has(&ids));
    back.stop();

    // The one that stopped first is stale: alone it stands still, whatever an operator says.
    let stale = pair.open(1 - led);
    std::thread::sleep(LEASE * 3);
    assert!(!stale.leads() && stale.stands(Standing::Outdated));
    let refused = stale.run(stale.store.take_over(led as u64 + 1, false)).expect_err("outdated").to_string();
    assert!(refused.contains("cannot know"), "{refused}");
}
