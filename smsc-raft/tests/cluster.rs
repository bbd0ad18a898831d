//! Three stores in one process, over real connections and disks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smsc_proto::rpc::raft::{LeaderNote, PeerStatus};
use smsc_raft::consensus::network::PeerHandler;
use smsc_raft::consensus::tls::Security;
use smsc_raft::consensus::types::Member;
use smsc_raft::model::{self, Address, Submission, command::Op};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::{Store, StoreConfig};

struct Handler;

#[tonic::async_trait]
impl PeerHandler for Handler {
    async fn status(&self) -> PeerStatus {
        PeerStatus::default()
    }
    async fn note(&self, _: LeaderNote) {}
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn open(id: u64, listen: SocketAddr, dir: &std::path::Path) -> Store {
    let config = StoreConfig {
        node_id: id,
        witness: id == 3,
        dir: dir.to_owned(),
        listen,
        security: Security::plaintext(listen).unwrap(),
        heartbeat: Duration::from_millis(100),
        election: (Duration::from_millis(800), Duration::from_millis(1500)),
        lease: Duration::from_millis(1200),
        log_segment_bytes: 4 << 20,
        log_cache_bytes: 4 << 20,
        store_cache_bytes: 16 << 20,
        overlay_bytes: 64 << 20,
        checkpoint_interval: Duration::from_millis(500),
        quorum: None,
        clock_ms: Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64),
    };
    let store = Store::open(config).await.unwrap();
    store.serve(Arc::new(Handler), |routes| routes).await.unwrap();
    store
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

async fn leader(stores: &[Store]) -> Store {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(store) = stores.iter().find(|store| store.leadership().borrow().is_some()) {
            return store.clone();
        }
        assert!(Instant::now() < deadline, "nobody leads");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn submit_all(store: &Store, from: u64, count: u64) -> Vec<u64> {
    let mut ids = Vec::new();
    let proposed = (from..from + count).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { store.propose(submission(n)).await })
    });
    for proposal in proposed.collect::<Vec<_>>() {
        match proposal.await.unwrap().unwrap() {
            Outcome::Stored(id) => ids.push(id),
            other => panic!("{other:?}"),
        }
    }
    ids
}

async fn settled(stores: &[Store], index: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while stores.iter().any(|store| store.view().applied_index < index) {
        assert!(Instant::now() < deadline, "not all caught up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_acknowledged_is_everywhere_and_outlives_a_leader_a_restart_and_a_snapshot() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let listens = [(); 3].map(|()| free_address());
    let mut stores = Vec::new();
    for (i, dir) in dirs.iter().enumerate() {
        stores.push(open(i as u64 + 1, listens[i], dir.path()).await);
    }
    let members = (0..3).map(|i| {
        let id = i as u64 + 1;
        (id, Member { addr: listens[i].to_string(), name: format!("n{id}"), witness: id == 3 })
    });
    stores[0].initialize(members.collect::<BTreeMap<_, _>>()).await.unwrap();

    let first = leader(&stores).await;
    let ids = submit_all(&first, 0, 500).await;
    let unique = ids.iter().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(unique.len(), 500, "an id came twice");

    // A planned change of leader.
    let from = first.view().leader.unwrap();
    let to = if from == 1 { 2 } else { 1 };
    first.transfer(to, Duration::from_secs(5)).await.unwrap();
    // The one before may believe itself leader for a moment more.
    let second = leader(std::slice::from_ref(&stores[to as usize - 1])).await;
    assert_eq!(second.view().leader, Some(to));
    for id in &ids {
        assert!(second.read(|machine| machine.message(*id)).unwrap().is_some(), "{id} is lost");
    }
    let more = submit_all(&second, 500, 500).await;
    assert!(more.iter().min() > ids.iter().max(), "ids go on");

    // Equal machines at equal indexes, with checkpoints in different places.
    let index = second.view().last_log_index;
    settled(&stores, index).await;
    let digests = stores.iter().map(|store| store.read(|machine| machine.digest()).unwrap()).collect::<Vec<_>>();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
    // The same out of the checkpoints, with the index it is of.
    for (store, digest) in stores.iter().zip(digests) {
        assert_eq!(store.digest().await.unwrap(), (index, digest));
    }

    // One leaves while others go on, and comes back from its disk.
    let index_of = |id: u64| id as usize - 1;
    let other = if to == 1 { 2 } else { 1 };
    stores[index_of(other)].shutdown().await;
    let gone = stores.remove(index_of(other));
    drop(gone);
    let third = submit_all(&second, 1000, 200).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let back = open(other, free_address_of(&listens, other), dirs[index_of(other)].path()).await;
    settled(std::slice::from_ref(&back), second.view().last_log_index).await;
    assert!(back.read(|machine| machine.message(third[0])).unwrap().is_some());

    // A new node gets a snapshot: the log it would need is not all that it takes.
    let dir = tempfile::tempdir().unwrap();
    let listen = free_address();
    let fourth = open(4, listen, dir.path()).await;
    let member = Member { addr: listen.to_string(), name: "n4".to_owned(), witness: false };
    second.join(4, member).await.unwrap();
    settled(std::slice::from_ref(&fourth), second.view().last_log_index).await;
    assert_eq!(fourth.read(|machine| machine.digest()).unwrap(), second.read(|machine| machine.digest()).unwrap());
    second.leave(4).await.unwrap();
}

fn free_address_of(listens: &[SocketAddr], id: u64) -> SocketAddr {
    listens[id as usize - 1]
}
