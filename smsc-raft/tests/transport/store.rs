//! A log and a state machine in memory.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use smsc_raft::consensus::network::{SnapshotInbox, SnapshotRow, SnapshotSink, SnapshotSource};
use smsc_raft::consensus::types::{Entry, LogId, StoredMembership, TypeConfig, Vote};
use smsc_raft::outcome::Outcomes;

#[derive(Clone, Default)]
pub struct MemLog(Arc<Mutex<LogData>>);

#[derive(Default)]
struct LogData {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
    /// What is to be told once the disk goes on; `None` while it does.
    stalled: Option<Vec<IOFlushed<TypeConfig>>>,
}

impl MemLog {
    /// From now on nothing is on the disk, as on one that stands still.
    pub fn stall(&self) {
        self.data().stalled = Some(Vec::new());
    }

    /// The disk goes on: what was written meanwhile is on it.
    pub fn go_on(&self) {
        let stalled = self.data().stalled.take();
        stalled.into_iter().flatten().for_each(|callback| callback.io_completed(Ok(())));
    }

    fn data(&self) -> MutexGuard<'_, LogData> {
        self.0.lock().expect("no panic under the lock")
    }
}

impl RaftLogReader<TypeConfig> for MemLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.data().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.data().vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let data = self.data();
        let last = data.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState { last_purged_log_id: data.purged, last_log_id: last.or(data.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.data().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let mut data = self.data();
        data.entries.extend(entries.into_iter().map(|entry| (entry.log_id.index(), entry)));
        match &mut data.stalled {
            Some(stalled) => stalled.push(callback),
            None => callback.io_completed(Ok(())),
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let keep = last_log_id.map_or(0, |id| id.index() + 1);
        self.data().entries.split_off(&keep);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let mut data = self.data();
        data.entries = data.entries.split_off(&(log_id.index() + 1));
        data.purged = Some(log_id);
        Ok(())
    }
}

pub type Rows = BTreeMap<Bytes, Bytes>;

/// Keeps every batch under its index.
#[derive(Clone, Default)]
pub struct MemMachine(Arc<Mutex<MachineData>>);

#[derive(Clone, Default)]
struct MachineData {
    applied: Option<LogId>,
    membership: StoredMembership,
    rows: Rows,
    snapshot: Option<SnapshotOf<TypeConfig, MemSnapshot>>,
}

impl MemMachine {
    fn data(&self) -> MutexGuard<'_, MachineData> {
        self.0.lock().expect("no panic under the lock")
    }

    pub fn rows(&self) -> Rows {
        self.data().rows.clone()
    }
}

impl RaftStateMachine<TypeConfig> for MemMachine {
    type SnapshotData = MemSnapshot;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let data = self.data();
        Ok((data.applied, data.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let mut data = self.data();
            data.applied = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(batch) => {
                    let key = Bytes::copy_from_slice(&entry.log_id.index().to_be_bytes());
                    data.rows.insert(key, batch.encoded().clone());
                }
                EntryPayload::Membership(membership) => {
                    data.membership = StoredMembership::new(Some(entry.log_id), membership);
                }
            }
            if let Some(responder) = responder {
                responder.send(Outcomes::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: MemSnapshot,
    ) -> Result<(), io::Error> {
        let mut data = self.data();
        data.applied = meta.last_log_id;
        data.membership = meta.last_membership.clone();
        data.rows = snapshot.0.clone();
        data.snapshot = Some(SnapshotOf::<TypeConfig, _> { meta: meta.clone(), snapshot });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, MemSnapshot>>, io::Error> {
        Ok(self.data().snapshot.clone())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for MemMachine {
    type SnapshotData = MemSnapshot;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, MemSnapshot>, io::Error> {
        let mut data = self.data();
        let meta = SnapshotMetaOf::<TypeConfig> { last_log_id: data.applied, last_membership: data.membership.clone() };
        let snapshot = SnapshotOf::<TypeConfig, _> { meta, snapshot: MemSnapshot(data.rows.clone()) };
        data.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }
}

#[derive(Clone, Debug, Default)]
pub struct MemSnapshot(pub Rows);

/// Even and odd values lie in tables of their own, so that a snapshot has more than one.
fn table_of(value: &[u8]) -> &'static str {
    if value.len().is_multiple_of(2) { "even" } else { "odd" }
}

impl SnapshotSource for MemSnapshot {
    fn rows(self) -> impl Iterator<Item = io::Result<SnapshotRow>> {
        let tables = ["even", "odd"].into_iter();
        tables.flat_map(move |table| {
            let rows = self.0.clone().into_iter().filter(move |(_, value)| table_of(value) == table);
            rows.map(move |(key, value)| Ok(SnapshotRow { table, key, value }))
        })
    }
}

/// Counts what became of the snapshots it was sent.
#[derive(Clone, Default)]
pub struct MemInbox {
    pub opened: Arc<Mutex<u32>>,
    pub finished: Arc<Mutex<u32>>,
}

pub struct MemSink {
    rows: Rows,
    finished: Arc<Mutex<u32>>,
}

impl SnapshotInbox for MemInbox {
    type Sink = MemSink;

    fn open(&self) -> io::Result<MemSink> {
        *self.opened.lock().expect("no panic under the lock") += 1;
        Ok(MemSink { rows: Rows::new(), finished: self.finished.clone() })
    }
}

impl SnapshotSink for MemSink {
    type Data = MemSnapshot;

    fn push(&mut self, table: &str, key: Bytes, value: Bytes) -> io::Result<()> {
        if table != table_of(&value) {
            return Err(io::Error::other(format!("a row of {} came for the table {table}", table_of(&value))));
        }
        self.rows.insert(key, value);
        Ok(())
    }

    fn finish(self) -> io::Result<MemSnapshot> {
        *self.finished.lock().expect("no panic under the lock") += 1;
        Ok(MemSnapshot(self.rows))
    }
}
