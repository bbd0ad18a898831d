//! What the delivery engine's steps cost, from a message that is stored to its recorded outcome, with more and more
//! queues waiting for absent numbers beside it; and how many allocations.
//!
//! `scripts/bench micro engine`. The store is played by tables in memory that hold what a reading needs, no more:
//! what the log and the state machine cost is measured in smsc-raft.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use smsc_node::delivery::engine::{DeliveryEngine, Effect, EngineConfig, LinkResult, Load, Loaded};
use smsc_node::delivery::route::{LINK_HANDSET, RouteTable};
use smsc_raft::machine::Change;
use smsc_raft::machine::keys::{DueKey, QueueKey};
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{
    Account, Address, AttemptDone, ErrorClass, Finish, HandsetRange, Message, Queue, QueueKind, Settings, Submission,
    command::Op,
};
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<Jemalloc> = AllocProfiler::new(Jemalloc);

const NOW_MS: u64 = 1_795_229_569_000;
/// When absent numbers are tried again.
const RETRY_MS: u64 = 3_600_000;
/// Queues that wait for absent numbers. The engine holds 20,000 of them and finds the others in the store.
const WAITING: [u64; 4] = [0, 1_000, 100_000, 1_000_000];
/// Messages that one log entry brings.
const TOGETHER: u64 = 64;
const SESSION: u64 = 7;

fn main() {
    divan::main();
}

/// An engine with what it needs around it.
struct World {
    engine: DeliveryEngine,
    /// Queues towards absent numbers, in the order in which they are due.
    due: BTreeMap<DueKey, Queue>,
    /// What was stored and has no outcome yet.
    stored: HashMap<u64, Arc<Message>>,
    /// The same by queue, for those with one message at most: towards numbers.
    queues: HashMap<QueueKey, u64>,
    next_id: u64,
}

impl World {
    /// So many messages wait, each for another absent number.
    fn new(waiting: u64) -> Self {
        let account = Account { system_id: "esme1".into(), short_codes: vec!["1000".into()], ..Account::default() };
        let range = |prefix: &str, behaviour: Behaviour| HandsetRange {
            prefix: prefix.into(),
            behaviour: behaviour as i32,
            ..HandsetRange::default()
        };
        let ranges = [range("1555", Behaviour::Deliver), range("1778", Behaviour::Absent)];
        let routes = Arc::new(RouteTable::build([&account], [], &ranges));
        let settings = Settings { retry_delays_ms: vec![RETRY_MS], ..Settings::default() };
        let engine = DeliveryEngine::new(NOW_MS, EngineConfig::default(), routes, &settings);
        let (due, stored, queues) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        let mut world = Self { engine, due, stored, queues, next_id: 1 };
        world.engine.bound(NOW_MS, SESSION, "esme1", 1_000);
        world.settle();
        for number in 0..waiting {
            let message = world.message(format!("1778{number:08}"), 0);
            world.store(message);
        }
        world
    }

    fn message(&mut self, digits: String, registered_delivery: u32) -> Message {
        let address = |digits: String| Some(Address { ton: 1, npi: 1, digits });
        let submission = Submission {
            account: "esme1".into(),
            source: address("1000".into()),
            destination: address(digits.clone()),
            registered_delivery,
            short_message: vec![b'x'; 160].into(),
            queue_kind: QueueKind::Number as i32,
            queue_key: digits,
            link: LINK_HANDSET.into(),
            expires_at_ms: NOW_MS + 86_400_000,
            session_id: SESSION,
            ..Submission::default()
        };
        self.next_id += 1;
        stored(self.next_id - 1, submission)
    }

    /// Messages to as many numbers that nothing waits for.
    fn fresh(&mut self, count: u64, registered_delivery: u32) -> Vec<Message> {
        (0..count)
            .map(|_| {
                let number = self.next_id % 100_000_000;
                self.message(format!("1555{number:08}"), registered_delivery)
            })
            .collect()
    }

    /// Tells of a message that is stored, and does what follows.
    fn store(&mut self, message: Message) {
        self.queued(message);
        self.settle();
    }

    fn queued(&mut self, message: Message) {
        let message = Arc::new(message);
        let alone = self.queues.insert(queue_of(&message), message.id).is_none();
        self.stored.insert(message.id, message.clone());
        self.engine.change(NOW_MS, Change::Queued { message, alone });
    }

    fn settle(&mut self) {
        while let Some(effect) = self.engine.poll_effect() {
            match effect {
                Effect::SendToHandset { message, number, .. } => {
                    let result = match number.starts_with("1555") {
                        true => LinkResult::Delivered,
                        false => LinkResult::Temporary { class: ErrorClass::Absent, error: 0 },
                    };
                    self.engine.link_outcome(NOW_MS, message.id, result);
                }
                Effect::SendToSession { session_id, message } => {
                    self.engine.session_outcome(NOW_MS, session_id, message.id, LinkResult::Delivered);
                }
                Effect::Propose(command) => match command.op {
                    Some(Op::Finish(finish)) => self.finished(finish),
                    Some(Op::AttemptDone(attempt)) => self.failed(&attempt),
                    other => panic!("unexpected {other:?}"),
                },
                Effect::Load(load) => {
                    let loaded = self.read(load);
                    self.engine.loaded(NOW_MS, loaded);
                }
                Effect::WatchHandset { .. } => {}
                other @ (Effect::SendToLink { .. } | Effect::CallBack { .. }) => panic!("there is no link: {other:?}"),
            }
        }
    }

    /// It is recorded; the receipt is stored in the same step.
    fn finished(&mut self, finish: Finish) {
        let message = self.stored.remove(&finish.id).expect("it is stored");
        let queue = queue_of(&message);
        self.queues.remove(&queue);
        self.engine.change(NOW_MS, Change::Finished { id: finish.id, queue });
        if let Some(receipt) = finish.receipt {
            self.next_id += 1;
            self.queued(stored(self.next_id - 1, receipt));
        }
    }

    fn failed(&mut self, attempt: &AttemptDone) {
        let before = self.stored.remove(&attempt.id).expect("it is stored");
        let message = Message {
            attempts: 1,
            last_attempt_at_ms: NOW_MS,
            due_at_ms: attempt.due_at_ms,
            ..Message::clone(&before)
        };
        let queue = queue_of(&message);
        self.queues.remove(&queue);
        let record = Queue {
            kind: QueueKind::Number as i32,
            key: queue.key.to_string(),
            due_at_ms: attempt.due_at_ms,
            failures: 1,
            failing_since_ms: NOW_MS,
            messages: 1,
        };
        self.due.insert(DueKey { due_at_ms: attempt.due_at_ms, queue }, record);
        self.engine.change(NOW_MS, Change::Retry(Arc::new(message)));
    }

    fn read(&self, load: Load) -> Loaded {
        match load {
            Load::Due { after, limit } => {
                let after = after.map_or(Bound::Unbounded, Bound::Excluded);
                let queues = self.due.range((after, Bound::Unbounded)).take(limit);
                Loaded::Due { limit, queues: queues.map(|(key, queue)| (key.clone(), queue.clone())).collect() }
            }
            Load::Queue { key, from, limit } => {
                let message = self.queues.get(&key).map(|id| self.stored[id].clone());
                let queue = message.as_ref().map(|message| Queue {
                    kind: key.queue_kind() as i32,
                    key: key.key.to_string(),
                    due_at_ms: message.due_at_ms,
                    messages: 1,
                    ..Queue::default()
                });
                let messages = message.into_iter().take(limit).collect();
                Loaded::Queue { key, from, limit, queue, messages }
            }
            Load::Expired { limit, .. } => Loaded::Expired { limit, messages: Vec::new() },
            Load::Pending { limit, .. } => Loaded::Pending { limit, numbers: Vec::new() },
        }
    }
}

fn stored(id: u64, submission: Submission) -> Message {
    Message { id, submission: Some(submission), accepted_at_ms: NOW_MS, due_at_ms: NOW_MS, ..Message::default() }
}

fn queue_of(message: &Message) -> QueueKey {
    QueueKey::of(message.submission.as_ref().expect("a message is stored with its submission"))
}

/// One message after the other, each delivered at once and recorded.
#[divan::bench(args = WAITING, sample_count = 20, sample_size = 1_000)]
fn deliver(bencher: Bencher, waiting: u64) {
    let mut world = World::new(waiting);
    let mut messages = Vec::new();
    // Made beforehand: what a submission costs is measured elsewhere.
    messages.extend(world.fresh(200_000, 0));
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        let message = messages.pop().unwrap_or_else(|| panic!("more were asked for than made"));
        world.store(message);
    });
}

/// The same for as many as one log entry brings, which are under way together.
#[divan::bench(args = WAITING, sample_count = 20, sample_size = 16)]
fn deliver_together(bencher: Bencher, waiting: u64) {
    let mut world = World::new(waiting);
    let mut messages = world.fresh(20 * 16 * 2 * TOGETHER, 0);
    bencher.counter(ItemsCount::new(TOGETHER)).bench_local(|| {
        for _ in 0..TOGETHER {
            world.queued(messages.pop().expect("enough were made"));
        }
        world.settle();
    });
}

/// One message after the other, each delivered and its receipt made, sent to its ESME and recorded.
#[divan::bench(args = [0, 100_000], sample_count = 20, sample_size = 1_000)]
fn deliver_and_report(bencher: Bencher, waiting: u64) {
    let mut world = World::new(waiting);
    let mut messages = world.fresh(40_000, 1);
    bencher.counter(ItemsCount::new(1_u32)).bench_local(|| {
        world.store(messages.pop().expect("enough were made"));
    });
}
