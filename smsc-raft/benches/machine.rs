//! What applying costs, command by command, over a checkpoint on the disk as a node has it; and how many allocations.
//!
//! `scripts/bench micro machine`. The store lies below cargo's target directory, on whatever disk that is. For
//! instruction counts, which other programs on the machine do not disturb, run the program that cargo names under
//! `valgrind --tool=callgrind` with `--sample-count 1`.

use std::path::Path;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use prost::Message as _;
use smsc_raft::machine::{Applied, BATCH_VERSION, Machine};
use smsc_raft::model::{
    Account, AccountPut, Address, AttemptDone, Batch, Command, Finish, MessageState, Submission, Submit, command::Op,
};
use smsc_raft::storage::checkpoints::CheckpointStore;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: AllocProfiler<Jemalloc> = AllocProfiler::new(Jemalloc);

/// Commands of one entry, about as many as a busy leader puts into one.
const COMMANDS: u64 = 256;
const NOW_MS: u64 = 1_700_000_000_000;

fn main() {
    divan::main();
}

/// A machine over an empty store, and what it still has to keep.
struct Node {
    machine: Machine,
    store: CheckpointStore,
    index: u64,
    next_number: u64,
    _dir: tempfile::TempDir,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
        let store = CheckpointStore::open(&dir.path().join(Path::new("messages.redb")), 16 << 20).expect("a new store");
        let machine = Machine::open(store.view().expect("a view")).expect("an empty machine");
        let mut node = Self { machine, store, index: 0, next_number: 0, _dir: dir };
        let account = Account { system_id: "esme1".into(), ..Account::default() };
        node.apply(batch([Op::AccountPut(AccountPut { account: Some(account) })]));
        node
    }

    fn apply(&mut self, batch: Batch) {
        self.index += 1;
        let (mut outcomes, mut changes) = (Vec::new(), Vec::new());
        let at = Applied { term: 1, node_id: 1, index: self.index };
        self.machine.apply(at, batch, &mut outcomes, &mut changes).expect("applied");
        black_box((outcomes, changes));
    }

    fn follow(&mut self, encoded: &bytes::Bytes) {
        self.index += 1;
        let (mut outcomes, mut changes) = (Vec::new(), Vec::new());
        let at = Applied { term: 1, node_id: 1, index: self.index };
        self.machine.apply_encoded(at, encoded, &mut outcomes, &mut changes).expect("applied");
        black_box((outcomes, changes));
    }

    /// Submissions to numbers that nothing waits for, for the ids that it also gives.
    fn submissions(&mut self) -> (Batch, std::ops::Range<u64>) {
        let first = self.next_number;
        self.next_number += COMMANDS;
        (submissions_from(first), first + 1..self.next_number + 1)
    }

    fn checkpoint(&mut self) {
        let checkpoint = self.machine.take_checkpoint();
        let view = self.store.write(&checkpoint).expect("written");
        drop(self.machine.checkpoint_written(view));
    }
}

fn submissions_from(first: u64) -> Batch {
    batch((first..first + COMMANDS).map(|number| {
        Op::Submit(Submit { submission: Some(submission(49_150_000_000 + number * 7_919 % 1_000_000_007)) })
    }))
}

fn submission(number: u64) -> Submission {
    let address = |digits: String| Some(Address { ton: 1, npi: 1, digits });
    Submission {
        account: "esme1".into(),
        source: address("1000".into()),
        destination: address(number.to_string()),
        registered_delivery: 1,
        short_message: vec![b'x'; 60].into(),
        link: "handset".into(),
        expires_at_ms: NOW_MS + 86_400_000 + number % 1_000,
        session_id: 7,
        ..Submission::default()
    }
}

/// The batch as a follower has it: decoded from an entry.
fn batch(ops: impl IntoIterator<Item = Op>) -> Batch {
    let commands = ops.into_iter().map(|op| Command { op: Some(op) }).collect();
    let batch = Batch { version: BATCH_VERSION, stamp_ms: NOW_MS, commands };
    Batch::decode(bytes::Bytes::from(batch.encode_to_vec())).expect("just encoded")
}

fn finishes(ids: std::ops::Range<u64>) -> Batch {
    batch(ids.map(|id| {
        let link = "handset".to_owned();
        let state = MessageState::Delivered as i32;
        Op::Finish(Finish { id, state, at_ms: NOW_MS + 5, attempted: true, link, segments: 1, ..Finish::default() })
    }))
}

#[divan::bench]
fn decode_submissions(bencher: Bencher) {
    let (batch, _) = Node::new().submissions();
    let encoded = bytes::Bytes::from(batch.encode_to_vec());
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| Batch::decode(encoded.clone()));
}

#[divan::bench]
fn encode_submissions(bencher: Bencher) {
    let (batch, _) = Node::new().submissions();
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| batch.encode_to_vec());
}

/// Submitted and at once delivered, over and over: what most messages are to an SMS centre.
#[divan::bench(args = [false, true])]
fn submit_and_finish(bencher: Bencher, in_flight_checkpoint: bool) {
    let mut node = Node::new();
    let frozen = in_flight_checkpoint.then(|| node.machine.take_checkpoint());
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| {
        let (batch, ids) = node.submissions();
        node.apply(batch);
        node.apply(finishes(ids));
        if node.machine.overlay_weight() > 64 << 20 && !in_flight_checkpoint {
            node.checkpoint();
        }
    });
    drop(frozen);
}

/// The same as a follower does it, which decodes the entries.
#[divan::bench]
fn decode_submit_and_finish(bencher: Bencher) {
    let mut node = Node::new();
    let mut first = 0;
    bencher
        .counter(ItemsCount::new(COMMANDS))
        .with_inputs(|| {
            let entries = [submissions_from(first), finishes(first + 1..first + 1 + COMMANDS)];
            first += COMMANDS;
            entries.map(|batch| bytes::Bytes::from(batch.encode_to_vec()))
        })
        .bench_local_values(|entries| {
            for entry in &entries {
                node.follow(entry);
            }
            if node.machine.overlay_weight() > 64 << 20 {
                node.checkpoint();
            }
        });
}

/// Submitted and waiting for a number out of reach.
#[divan::bench]
fn submit_and_retry(bencher: Bencher) {
    let mut node = Node::new();
    bencher.counter(ItemsCount::new(COMMANDS)).bench_local(|| {
        let (submitted, ids) = node.submissions();
        node.apply(submitted);
        node.apply(batch(ids.map(|id| {
            Op::AttemptDone(AttemptDone { id, at_ms: NOW_MS + 5, due_at_ms: NOW_MS + 60_000, ..AttemptDone::default() })
        })));
        if node.machine.overlay_weight() > 64 << 20 {
            node.checkpoint();
        }
    });
}

/// Written to the disk: the rows of as many messages that wait.
#[divan::bench(sample_count = 10)]
fn checkpoint(bencher: Bencher) {
    let mut node = Node::new();
    bencher.counter(ItemsCount::new(40 * COMMANDS)).bench_local(|| {
        for _ in 0..40 {
            let (batch, _) = node.submissions();
            node.apply(batch);
        }
        node.checkpoint();
    });
}
