//! What appending an entry to the Raft log costs until it is on the disk, and without the wait for the disk.
//!
//! `scripts/bench micro log`. The files lie below cargo's target directory, on whatever disk that is. Allocations are
//! those of the caller: what the writer's thread allocates is not counted.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{AllocProfiler, Bencher};
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use prost::Message as _;
use smsc_proto::rpc::raft as wire;
use smsc_raft::consensus::types::{Batch, Entry, TypeConfig};
use smsc_raft::convert;
use smsc_raft::machine::BATCH_VERSION;
use smsc_raft::model::{self, Address, Command, Submission, Submit, command::Op};
use smsc_raft::storage::log::disk::{Disk, DiskFile, Lock, OsDisk};
use smsc_raft::storage::log::{LogConfig, LogStore};
use tikv_jemallocator::Jemalloc;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: AllocProfiler<Jemalloc> = AllocProfiler::new(Jemalloc);

/// Submissions of 160 octets in an entry: of an idle node, of one session with a window of 50, of eight.
const COMMANDS: [u64; 3] = [1, 50, 256];
/// The log is purged down to this many entries, as checkpoints would do.
const KEPT: u64 = 1_000;

fn main() {
    divan::main();
}

/// A log that is being filled.
struct Log {
    runtime: Runtime,
    store: LogStore,
    next: u64,
    _dir: tempfile::TempDir,
}

impl Log {
    fn new(disk: Arc<dyn Disk>) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
        let store = LogStore::open_on(disk, LogConfig::new(dir.path().join("log"))).expect("a new log");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { runtime, store, next: 0, _dir: dir }
    }

    /// Appends `entries` entries of these bytes at once, and waits until they are on the disk.
    fn append(&mut self, entries: u64, encoded: &Bytes) {
        let first = self.next;
        self.next += entries;
        let entries: Vec<Entry> = (first..self.next).map(|index| entry(index, encoded.clone())).collect();
        let purged = (self.next % KEPT < first % KEPT && first > KEPT).then(|| log_id(first - KEPT));
        let store = &mut self.store;
        self.runtime.block_on(async {
            let (flushed, answer) = TypeConfig::oneshot();
            store.append(entries, IOFlushed::signal(flushed)).await.expect("taken");
            answer.await.expect("answered").expect("written");
            if let Some(purged) = purged {
                store.purge(convert::log_id::from_wire(&purged)).await.expect("purged");
            }
        });
    }
}

fn log_id(index: u64) -> wire::LogId {
    wire::LogId { term: 1, node_id: 1, index }
}

fn entry(index: u64, encoded: Bytes) -> Entry {
    Entry {
        log_id: convert::log_id::from_wire(&log_id(index)),
        payload: EntryPayload::Normal(Batch::from_encoded(encoded)),
    }
}

/// An entry's bytes, as a leader encodes them.
fn encoded(commands: u64) -> Bytes {
    let address = |digits: String| Some(Address { ton: 1, npi: 1, digits });
    let submission = |number: u64| Submission {
        account: "esme1".into(),
        source: address("1000".into()),
        destination: address(format!("1555{number:07}")),
        registered_delivery: 1,
        short_message: vec![b'x'; 160].into(),
        link: "handset".into(),
        expires_at_ms: 1_700_086_400_000,
        session_id: 7,
        ..Submission::default()
    };
    let submit = |number| Command { op: Some(Op::Submit(Submit { submission: Some(submission(number)) })) };
    let commands = (0..commands).map(submit).collect();
    model::Batch { version: BATCH_VERSION, stamp_ms: 1_700_000_000_000, commands }.encode_to_vec().into()
}

/// One entry at a time, each on the disk before the next.
#[divan::bench(args = COMMANDS, sample_size = 1, sample_count = 300)]
fn append_and_flush(bencher: Bencher, commands: u64) {
    let mut log = Log::new(Arc::new(OsDisk));
    let encoded = encoded(commands);
    bencher.counter(BytesCount::new(encoded.len())).bench_local(|| log.append(1, &encoded));
}

/// The same without the wait for the disk: encoding, checksum, the copy into the page cache, and two changes of thread.
#[divan::bench(args = COMMANDS, sample_size = 1, sample_count = 300)]
fn append_without_flush(bencher: Bencher, commands: u64) {
    let mut log = Log::new(Arc::new(Forgetful));
    let encoded = encoded(commands);
    bencher.counter(BytesCount::new(encoded.len())).bench_local(|| log.append(1, &encoded));
}

/// Sixteen entries by one call, as a follower that catches up gets them: what each costs beside the changes of thread.
#[divan::bench(args = COMMANDS, sample_size = 1, sample_count = 300)]
fn append_sixteen_without_flush(bencher: Bencher, commands: u64) {
    let mut log = Log::new(Arc::new(Forgetful));
    let encoded = encoded(commands);
    bencher.counter(BytesCount::new(16 * encoded.len())).bench_local(|| log.append(16, &encoded));
}

/// What the disk alone takes: a write of so many bytes to a preallocated file, and fdatasync.
#[divan::bench(args = COMMANDS, sample_size = 1, sample_count = 300)]
fn raw_write_and_flush(bencher: Bencher, commands: u64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory");
    let file = OsDisk.create(&dir.path().join("raw")).expect("a new file");
    let encoded = encoded(commands);
    let room = 32 << 20;
    file.write_at(&vec![0; room], 0).expect("room for it");
    file.sync().expect("on the disk");
    let mut offset = 0;
    bencher.counter(BytesCount::new(encoded.len())).bench_local(|| {
        offset = if offset + encoded.len() > room { 0 } else { offset };
        file.write_at(&encoded, offset as u64).expect("written");
        file.sync().expect("on the disk");
        offset += encoded.len();
    });
}

/// A file system that does not wait for its disk.
struct Forgetful;

impl Disk for Forgetful {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        OsDisk.lock(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ForgetfulFile(OsDisk.create(path)?)))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ForgetfulFile(OsDisk.open(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
}

struct ForgetfulFile(Box<dyn DiskFile>);

impl DiskFile for ForgetfulFile {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
