//! The driver over a store of one node, in real time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use smsc_raft::consensus::types::Member;
use smsc_raft::model::command::Op;
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{Account, AccountPut, Address, HandsetPut, HandsetRange, QueueKind, Submission, Submit};
use tempfile::TempDir;

use super::*;
use crate::delivery::route::{LINK_ESME, LINK_HANDSET};
use crate::fixture::store_config;
use crate::link::LinkParts;
use crate::smpp::serves::Serves;

const SOON: Duration = Duration::from_secs(20);

struct Node {
    store: Store,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    _dir: TempDir,
}

async fn node() -> Node {
    let dir = tempfile::tempdir().expect("a directory");
    let addr: SocketAddr = "127.0.0.1:1".parse().expect("an address");
    let config = store_config(dir.path(), addr);
    let store = Store::open(config).await.expect("opened");
    let member = Member { addr: addr.to_string(), name: "a".to_owned(), witness: false };
    store.initialize(BTreeMap::from([(1, member)])).await.expect("formed");
    let mut watched = store.leadership();
    let leads = tokio::time::timeout(SOON, watched.wait_for(Option::is_some)).await;
    let leadership = leads.expect("in time").expect("open").clone().expect("leads");
    let account = Account { system_id: "one".to_owned(), ..Default::default() };
    store.propose(Op::AccountPut(AccountPut { account: Some(account) })).await.expect("stored");
    Node { store, leadership, metrics: Arc::default(), _dir: dir }
}

impl Node {
    fn deliver(&self) -> Delivery {
        let store = self.store.clone();
        let table = move || {
            let built =
                store.read(|machine| Ok(RouteTable::build(machine.accounts(), machine.routes(), machine.handsets())));
            Arc::new(built.expect("in memory"))
        };
        let table: TableSource = Arc::new(table);
        let (events, link_events) = mpsc::unbounded_channel();
        let links = Links::start(LinkParts {
            store: self.store.clone(),
            leadership: self.leadership.clone(),
            table: table.clone(),
            metrics: self.metrics.clone(),
            events,
        });
        Delivery::start(DeliveryParts {
            pace: Arc::default(),
            store: self.store.clone(),
            leadership: self.leadership.clone(),
            metrics: self.metrics.clone(),
            table,
            ends: Arc::default(),
            links,
            link_events,
        })
    }

    async fn range(&self, prefix: &str, behaviour: Behaviour, absent_ms: u32, delay_ms: u32) {
        let (prefix, behaviour) = (prefix.to_owned(), behaviour as i32);
        let range = HandsetRange { prefix, behaviour, absent_ms, delay_ms, ..Default::default() };
        self.store.propose(Op::HandsetPut(HandsetPut { range: Some(range) })).await.expect("stored");
    }

    async fn submit(&self, submission: Submission) -> u64 {
        let submit = Op::Submit(Submit { submission: Some(submission) });
        match self.store.propose(submit).await.expect("stored") {
            Outcome::Stored(id) => id,
            other => panic!("not stored: {other:?}"),
        }
    }

    async fn waiting(&self, count: u64) {
        let look = async {
            while self.store.read(|machine| Ok(machine.waiting_count())).expect("read") != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, look).await.expect("in time");
    }
}

fn to_number(digits: &str) -> Submission {
    Submission {
        account: "one".to_owned(),
        source: Some(Address { ton: 0, npi: 1, digits: "1000".to_owned() }),
        destination: Some(Address { ton: 1, npi: 1, digits: digits.to_owned() }),
        registered_delivery: 1,
        queue_kind: QueueKind::Number as i32,
        link: LINK_HANDSET.to_owned(),
        ..Default::default()
    }
}

fn bind(delivery: &Delivery, session_id: u64, window: usize) -> mpsc::Receiver<ToSession> {
    let (to_session, received) = mpsc::channel(window);
    let serves = Serves::all();
    delivery.bound(SessionHandle { session_id, system_id: "one".to_owned(), window, serves, alerts: true, to_session });
    received
}

async fn next(session: &mut mpsc::Receiver<ToSession>) -> Arc<Message> {
    let ToSession::Deliver(message) =
        tokio::time::timeout(SOON, session.recv()).await.expect("in time").expect("bound");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_handsets_and_receipts_reach_the_session() {
    let node = node().await;
    let delivery = node.deliver();
    // Ranges that come while it runs are known to it.
    node.range("1555", Behaviour::Deliver, 0, 0).await;
    node.range("1777", Behaviour::Absent, 300, 0).await;
    tokio::time::sleep(Duration::from_millis(3 * CONFIG_INTERVAL_MS)).await;
    let mut session = bind(&delivery, 7, 10);
    for digits in ["15551", "17771", "15552"] {
        let id = node.submit(to_number(digits)).await;
        let receipt = next(&mut session).await;
        assert_eq!(receipt.submission.as_ref().map(|submission| submission.receipt_for), Some(id));
        delivery.delivered(7, receipt.id, DeliverResult::Accepted);
    }
    node.waiting(0).await;
    assert!(delivery.settle(SOON).await);
    delivery.stop().await;
    assert_eq!(node.metrics.finals.get(FinalState::Delivered), 6);
    assert_eq!(node.metrics.receipts.get(), 3);
    assert_eq!(node.metrics.attempts_handset.get(AttemptResult::Temporary), 1);
    assert_eq!(node.metrics.attempts_esme.get(AttemptResult::Delivered), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_goes_leaves_its_messages_to_the_next() {
    let node = node().await;
    let delivery = node.deliver();
    let to_esme = Submission {
        queue_kind: QueueKind::Esme as i32,
        queue_key: "one".to_owned(),
        link: LINK_ESME.to_owned(),
        registered_delivery: 0,
        ..to_number("1000")
    };
    let id = node.submit(to_esme).await;
    let mut first = bind(&delivery, 1, 5);
    assert_eq!(next(&mut first).await.id, id);
    delivery.unbound(1);
    let mut second = bind(&delivery, 2, 5);
    // The first one may still answer while it unbinds: only when it has not does the message go on.
    assert!(tokio::time::timeout(Duration::from_millis(50), second.recv()).await.is_err());
    delivery.delivered(1, id, DeliverResult::Lost);
    assert_eq!(next(&mut second).await.id, id);
    assert!(!delivery.settle(Duration::from_millis(100)).await, "a message is under way");
    delivery.delivered(2, id, DeliverResult::Accepted);
    assert!(delivery.settle(SOON).await);
    node.waiting(0).await;
    delivery.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_under_way_when_delivery_ended_is_delivered_by_the_next() {
    let node = node().await;
    node.range("1555", Behaviour::Deliver, 0, 60_000).await;
    let delivery = node.deliver();
    node.submit(Submission { registered_delivery: 0, ..to_number("15551") }).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    delivery.stop().await;
    delivery.stop().await;
    node.range("1555", Behaviour::Deliver, 0, 0).await;
    let delivery = node.deliver();
    node.waiting(0).await;
    // Losing leadership ends it.
    node.leadership.lease().end();
    let ended = async {
        while !delivery.inputs.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, ended).await.expect("in time");
}
