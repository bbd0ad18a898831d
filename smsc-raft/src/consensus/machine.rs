//! The machine as the Raft engine drives it, and the checkpoints it writes beside.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::entry::RaftEntry as _;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, RaftSnapshotBuilder};
use prost::Message as _;
use tokio::sync::mpsc::UnboundedSender;

use super::types::{LogId, StoredMembership, TypeConfig};
use crate::convert;
use crate::machine::base::{Base, TableId};
use crate::machine::{Applied, Change, Machine};
use crate::model;
use crate::outcome::{Outcome, Outcomes};
use crate::preference::without_preference;
use crate::storage::checkpoints::{CheckpointStore, STORE_FILE, StoreView};
use crate::storage::compaction::{self, Copying, REST_KEYS, Wish};
use crate::storage::snapshot::SnapshotData;

type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// Called where entries are applied, with every final state: must be quick.
pub type FinalsSink = Box<dyn Fn(&Arc<model::FinalRecord>) + Send>;

/// The machine with its store, shared between the engine, the checkpointer and those who read.
#[derive(Clone)]
pub struct StateMachine {
    shared: Arc<Shared>,
}

struct Shared {
    machine: Mutex<Machine>,
    /// Held while a checkpoint is written or a snapshot installed; taken before `machine`.
    store: Mutex<Option<CheckpointStore>>,
    /// The checkpoint on disk, as snapshots send it; `None` once closed.
    view: Mutex<Option<Arc<StoreView>>>,
    changes: Mutex<Option<UnboundedSender<Vec<Change>>>>,
    finals: Mutex<Option<FinalsSink>>,
    dir: PathBuf,
    cache_bytes: usize,
    overlay_bytes: AtomicUsize,
    frozen_bytes: AtomicUsize,
    checkpoint_index: AtomicU64,
    checkpoint_took_us: AtomicU64,
    config_version: AtomicU64,
    live_bytes: AtomicU64,
    file_bytes: AtomicU64,
}

impl StateMachine {
    /// Opens the store in the node's data directory.
    ///
    /// # Errors
    /// The store cannot be opened or read; the text says what to do.
    pub fn open(dir: PathBuf, cache_bytes: usize) -> io::Result<Self> {
        compaction::clean(&dir)?;
        let store = CheckpointStore::open(&dir.join(STORE_FILE), cache_bytes)?;
        let (live_bytes, file_bytes) = (store.live_bytes(), store.file_bytes()?);
        let view = store.view()?;
        let machine = Machine::open(view.clone())?;
        let shared = Shared {
            checkpoint_index: AtomicU64::new(machine.applied().map_or(0, |applied| applied.index)),
            machine: Mutex::new(machine),
            store: Mutex::new(Some(store)),
            view: Mutex::new(Some(view)),
            changes: Mutex::new(None),
            finals: Mutex::new(None),
            dir,
            cache_bytes,
            overlay_bytes: AtomicUsize::new(0),
            frozen_bytes: AtomicUsize::new(0),
            checkpoint_took_us: AtomicU64::new(0),
            config_version: AtomicU64::new(1),
            live_bytes: AtomicU64::new(live_bytes),
            file_bytes: AtomicU64::new(file_bytes),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The machine, for reading. Hold it briefly: entries wait to be applied.
    pub fn lock(&self) -> MutexGuard<'_, Machine> {
        self.shared.machine.lock().expect("a panic while applying ends the process")
    }

    /// Sends what is applied from now on to `sink`; the one before gets no more.
    pub fn listen(&self, sink: Option<UnboundedSender<Vec<Change>>>) {
        *self.shared.changes.lock().expect("never held across a panic") = sink;
    }

    /// Tells `sink` of every final state that is applied from now on.
    pub fn follow_finals(&self, sink: Option<FinalsSink>) {
        *self.shared.finals.lock().expect("never held across a panic") = sink;
    }

    /// Bytes of memory in the overlay and in the checkpoint being written, roughly.
    pub fn overlay_bytes(&self) -> usize {
        self.shared.overlay_bytes.load(Ordering::Relaxed) + self.shared.frozen_bytes.load(Ordering::Relaxed)
    }

    /// The last entry that the checkpoint on disk holds.
    pub fn checkpoint_index(&self) -> u64 {
        self.shared.checkpoint_index.load(Ordering::Relaxed)
    }

    /// How long the last checkpoint took to write, microseconds.
    pub fn checkpoint_took_us(&self) -> u64 {
        self.shared.checkpoint_took_us.load(Ordering::Relaxed)
    }

    /// Grows whenever accounts, routes, handsets or settings change.
    pub fn config_version(&self) -> u64 {
        self.shared.config_version.load(Ordering::Acquire)
    }

    /// The node's data directory.
    pub fn dir(&self) -> &PathBuf {
        &self.shared.dir
    }

    /// Writes what changed since the last checkpoint. Blocks for the time of the disk; applying goes on meanwhile.
    /// Returns whether there was anything to write.
    ///
    /// # Errors
    /// The disk is full or failed: the node must stop, the checkpoint before stands.
    pub fn checkpoint(&self) -> io::Result<bool> {
        let shared = &self.shared;
        let store = shared.store.lock().expect("a panic while writing ends the process");
        let Some(store) = store.as_ref() else {
            return Ok(false);
        };
        let started = Instant::now();
        let checkpoint = {
            let mut machine = self.lock();
            if machine.applied().map_or(0, |applied| applied.index) == self.checkpoint_index() {
                return Ok(false);
            }
            if machine.is_frozen() {
                let text = "the checkpoint before could not be written; the log holds what it was to hold";
                return Err(io::Error::other(text));
            }
            shared.frozen_bytes.store(machine.overlay_weight(), Ordering::Relaxed);
            shared.overlay_bytes.store(0, Ordering::Relaxed);
            machine.take_checkpoint()
        };
        let view = without_preference(|| store.write(&checkpoint))?;
        self.note_bytes(store);
        let applied = checkpoint.applied();
        let before = self.lock().checkpoint_written(view.clone());
        let shown = shared.view.lock().expect("never held across a panic").replace(view);
        // What a checkpoint has held is much to free: not while applying, and with it heartbeats, wait for the lock.
        without_preference(|| drop((checkpoint, before, shown)));
        shared.frozen_bytes.store(0, Ordering::Relaxed);
        shared.checkpoint_index.store(applied.map_or(0, |applied| applied.index), Ordering::Relaxed);
        let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        shared.checkpoint_took_us.store(took, Ordering::Relaxed);
        Ok(true)
    }

    /// Writes a checkpoint and gives its index and the checksum over its whole content. Applying goes on meanwhile.
    ///
    /// # Errors
    /// As for [`StateMachine::checkpoint`]; or the store is closed.
    pub fn checkpoint_digest(&self) -> io::Result<(u64, u32)> {
        self.checkpoint()?;
        let view = self.shared.view.lock().expect("never held across a panic").clone();
        let view = view.ok_or_else(|| io::Error::other("the message store is closed"))?;
        // Of its own, so that the one that applies is not held up.
        let machine = Machine::open(view)?;
        Ok((machine.applied().map_or(0, |applied| applied.index), machine.digest()?))
    }

    /// Bytes of the message store's rows, and of its file.
    pub fn store_bytes(&self) -> (u64, u64) {
        let shared = &self.shared;
        (shared.live_bytes.load(Ordering::Relaxed), shared.file_bytes.load(Ordering::Relaxed))
    }

    fn note_bytes(&self, store: &CheckpointStore) {
        self.shared.live_bytes.store(store.live_bytes(), Ordering::Relaxed);
        self.shared.file_bytes.store(store.file_bytes().unwrap_or(0), Ordering::Relaxed);
    }

    /// Copies the store into a smaller file if that gives much room back. Blocks for as long as that takes; checkpoints
    /// are written meanwhile. Returns whether it did. A copy that the disk has no room for is given up: the store before
    /// stands.
    ///
    /// # Errors
    /// The finished copy could not take the store's place: the node must stop.
    pub fn compact(&self, wish: &mut Wish, go_on: impl FnMut() -> bool) -> io::Result<bool> {
        let (live, file) = self.store_bytes();
        if !wish.wants(file, live) {
            return Ok(false);
        }
        let Some(copying) = self.copy_store(go_on) else { return Ok(false) };
        let shared = &self.shared;
        let mut slot = shared.store.lock().expect("a panic while writing ends the process");
        let Some(store) = slot.take_if(|store| copying.is_of(store)) else {
            // Another store was installed meanwhile, or it is closed.
            drop(slot);
            copying.abandon();
            return Ok(false);
        };
        let followed = store.view().and_then(|view| copying.follow(&view, store.take_written()));
        if let Err(error) = followed {
            tracing::warn!(%error, "the message store stays as large as it is");
            store.stop_noting();
            *slot = Some(store);
            drop(slot);
            copying.abandon();
            return Ok(false);
        }
        let store = store.replace(&copying.finish(), shared.cache_bytes)?;
        let view = store.view()?;
        let before = self.lock().rebase(view.clone());
        let shown = shared.view.lock().expect("never held across a panic").replace(view);
        // Closes the old file, outside of the locks.
        drop((before, shown));
        self.note_bytes(&store);
        *slot = Some(store);
        drop(slot);
        let (live, after) = self.store_bytes();
        wish.made(after, live);
        tracing::info!(before = file, after, live, "gave room on the disk back: bytes of the message store");
        Ok(true)
    }

    /// The copy but for its rest, or nothing when it was given up.
    fn copy_store(&self, go_on: impl FnMut() -> bool) -> Option<Copying> {
        let shared = &self.shared;
        let locked = || shared.store.lock().expect("a panic while writing ends the process");
        let copying = match Copying::begin(locked().as_ref()?, &shared.dir) {
            Ok(copying) => copying,
            Err(error) => {
                tracing::warn!(%error, "the message store stays as large as it is");
                return None;
            }
        };
        let copied = without_preference(|| copying.copy(go_on)).and_then(|whole| {
            // Each round takes less long than the one before, and so leaves less; a few are enough.
            for _ in 0..if whole { 10 } else { 0 } {
                let (view, written) = {
                    let store = locked();
                    let Some(store) = store.as_ref().filter(|store| copying.is_of(store)) else { return Ok(false) };
                    (store.view()?, store.take_written())
                };
                let rest = written.len();
                without_preference(|| copying.follow(&view, written))?;
                if rest <= REST_KEYS {
                    break;
                }
            }
            Ok(whole)
        });
        match copied {
            Ok(true) => return Some(copying),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "the message store stays as large as it is"),
        }
        if let Some(store) = locked().as_ref().filter(|store| copying.is_of(store)) {
            store.stop_noting();
        }
        copying.abandon();
        None
    }

    /// Writes the last checkpoint and lets go of the file. Whoever reads after this finds an empty machine. A checkpoint
    /// that is under way is the last one: the next start finds in the log what came since.
    ///
    /// # Errors
    /// The last checkpoint could not be written; the log still holds everything.
    pub fn close(&self) -> io::Result<()> {
        let idle = self.shared.store.try_lock().is_ok();
        let written = if idle { self.checkpoint() } else { Ok(false) };
        let mut store = self.shared.store.lock().expect("a panic while writing ends the process");
        let empty: Arc<dyn Base> = Arc::new(crate::machine::base::MemoryBase::default());
        *self.lock() = Machine::open(empty)?;
        *self.shared.view.lock().expect("never held across a panic") = None;
        *store = None;
        written.map(drop)
    }

    fn snapshot(&self) -> io::Result<Option<Snapshot>> {
        let view = self.shared.view.lock().expect("never held across a panic").clone();
        let Some(view) = view else { return Ok(None) };
        let Some(meta) = view.get(TableId::Meta, b"")? else {
            return Ok(None);
        };
        let meta = model::CheckpointMeta::decode(meta).map_err(invalid)?;
        let meta = SnapshotMeta {
            last_log_id: Some(log_id(meta.applied_term, meta.applied_node, meta.applied_index)),
            last_membership: membership(&meta.membership)?,
        };
        Ok(Some(Snapshot { meta, snapshot: SnapshotData::View(view) }))
    }

    fn apply_entry(&self, (entry, responder): EntryResponder<TypeConfig>) -> io::Result<()> {
        let id = entry.log_id();
        let at = Applied { term: id.leader_id.term, node_id: id.leader_id.node_id, index: id.index };
        let mut outcomes = Vec::new();
        let mut changes = Vec::new();
        match entry.payload {
            EntryPayload::Blank => self.lock().apply_membership(at, None),
            EntryPayload::Membership(membership) => {
                let stored = StoredMembership::new(Some(id), membership);
                let bytes = Bytes::from(convert::membership::stored_to_wire(&stored).encode_to_vec());
                self.lock().apply_membership(at, Some(bytes));
            }
            EntryPayload::Normal(batch) => {
                let decoded = batch.take_decoded();
                let mut machine = self.lock();
                match decoded {
                    Some(decoded) => machine.apply(at, decoded, &mut outcomes, &mut changes)?,
                    None => machine.apply_encoded(at, batch.encoded(), &mut outcomes, &mut changes)?,
                }
                self.shared.overlay_bytes.store(machine.overlay_weight(), Ordering::Relaxed);
            }
        }
        self.tell_finals(&outcomes);
        if changes.contains(&Change::Config) {
            self.shared.config_version.fetch_add(1, Ordering::AcqRel);
        }
        if !changes.is_empty()
            && let Some(sink) = self.shared.changes.lock().expect("never held across a panic").as_ref()
        {
            // A listener that is gone has ended its term.
            let _ = sink.send(changes);
        }
        if let Some(responder) = responder {
            responder.send(Outcomes(outcomes));
        }
        Ok(())
    }

    fn tell_finals(&self, outcomes: &[Outcome]) {
        let sink = self.shared.finals.lock().expect("never held across a panic");
        let Some(sink) = sink.as_ref() else { return };
        for outcome in outcomes {
            if let Outcome::Finished { record } = outcome {
                sink(record);
            }
        }
    }

    fn install(&self, path: &std::path::Path) -> io::Result<()> {
        let shared = &self.shared;
        let mut slot = shared.store.lock().expect("a panic while writing ends the process");
        let mut machine = self.lock();
        // The views of the old file go before the file does.
        let empty: Arc<dyn Base> = Arc::new(crate::machine::base::MemoryBase::default());
        *machine = Machine::open(empty)?;
        let Some(store) = slot.take() else {
            return Err(io::Error::other("the message store is closed"));
        };
        let store = store.replace(path, shared.cache_bytes)?;
        let view = store.view()?;
        *machine = Machine::open(view.clone())?;
        shared.checkpoint_index.store(machine.applied().map_or(0, |applied| applied.index), Ordering::Relaxed);
        shared.overlay_bytes.store(0, Ordering::Relaxed);
        *shared.view.lock().expect("never held across a panic") = Some(view);
        self.note_bytes(&store);
        *slot = Some(store);
        shared.config_version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
    convert::log_id::from_wire(&smsc_proto::rpc::raft::LogId { term, node_id, index })
}

fn membership(bytes: &Bytes) -> io::Result<StoredMembership> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let wire = smsc_proto::rpc::raft::StoredMembership::decode(bytes.clone()).map_err(invalid)?;
    convert::membership::stored_from_wire(wire).map_err(invalid)
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        if let Some(snapshot) = self.snapshot()? {
            return Ok(snapshot);
        }
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.checkpoint()).await.map_err(io::Error::other)??;
        self.snapshot()?
            .ok_or_else(|| io::Error::other("nothing is applied yet, there is nothing to take a snapshot of"))
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let machine = self.lock();
        let applied = machine.applied().map(|applied| log_id(applied.term, applied.node_id, applied.index));
        Ok((applied, membership(machine.membership())?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some(entry) = entries.next().await {
            self.apply_entry(entry?)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let SnapshotData::Received(path) = snapshot else {
            return Ok(());
        };
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.install(&path)).await.map_err(io::Error::other)?
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Applied;

    #[test]
    fn after_a_checkpoint_that_failed_no_other_is_taken_and_the_store_stands() {
        let dir = tempfile::tempdir().unwrap();
        let machine = StateMachine::open(dir.path().to_owned(), 1 << 20).unwrap();
        machine.lock().apply_membership(Applied { term: 1, node_id: 1, index: 1 }, None);
        assert!(machine.checkpoint().unwrap());
        machine.lock().apply_membership(Applied { term: 1, node_id: 1, index: 2 }, None);
        // As when the disk was full while it was written.
        drop(machine.lock().take_checkpoint());
        let error = machine.checkpoint().unwrap_err();
        assert!(error.to_string().contains("could not be written"), "{error}");
        machine.close().unwrap_err();
        let again = StateMachine::open(dir.path().to_owned(), 1 << 20).unwrap();
        assert_eq!(again.lock().applied().map(|applied| applied.index), Some(1));
    }
}
