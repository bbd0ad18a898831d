//! Snapshots: a view of a checkpoint on its way out, a store being gathered on its way in.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::checkpoints::{CheckpointStore, INCOMING_FILE, StoreView};
use crate::consensus::network::{SnapshotInbox, SnapshotRow, SnapshotSink, SnapshotSource};
use crate::machine::base::{Base, Row, TableId};

/// Rows read at once.
const PAGE_ROWS: usize = 512;
/// Bytes gathered before they are written.
const BATCH_BYTES: usize = 8 << 20;

/// The content of a snapshot.
pub enum SnapshotData {
    /// A checkpoint of this node, to be sent.
    View(Arc<StoreView>),
    /// A whole store that came from the leader, to be installed.
    Received(PathBuf),
}

impl SnapshotSource for SnapshotData {
    fn rows(self) -> impl Iterator<Item = io::Result<SnapshotRow>> {
        let (view, refused) = match self {
            SnapshotData::View(view) => (Some(view), None),
            SnapshotData::Received(path) => {
                let text = format!("{} came from the leader and is not sent on", path.display());
                (None, Some(Err(io::Error::other(text))))
            }
        };
        let rows = view.into_iter().flat_map(|view| {
            TableId::ALL.into_iter().flat_map(move |table| Pages {
                view: view.clone(),
                table,
                from: Some(Bound::Unbounded),
            })
        });
        refused.into_iter().chain(rows.flat_map(|page| {
            let (rows, failed) = match page {
                Ok((table, rows)) => (rows.into_iter().map(move |row| Ok(row_of(table, row))).collect(), None),
                Err(error) => (Vec::new(), Some(Err(error))),
            };
            rows.into_iter().chain(failed)
        }))
    }
}

fn row_of(table: TableId, (key, value): Row) -> SnapshotRow {
    SnapshotRow { table: table.name(), key, value }
}

/// The rows of one table, page by page; ends after an error.
struct Pages {
    view: Arc<StoreView>,
    table: TableId,
    from: Option<Bound<Bytes>>,
}

impl Iterator for Pages {
    type Item = io::Result<(TableId, Vec<Row>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.from.take()?;
        match self.view.range(self.table, from.as_ref().map(Bytes::as_ref), PAGE_ROWS) {
            Err(error) => Some(Err(error)),
            Ok(rows) => {
                let (last, _) = rows.last()?;
                self.from = Some(Bound::Excluded(last.clone()));
                Some(Ok((self.table, rows)))
            }
        }
    }
}

/// Where this node gathers the snapshots that come in: its data directory.
pub struct Inbox(pub PathBuf);

impl SnapshotInbox for Inbox {
    type Sink = SnapshotReceiver;

    fn open(&self) -> io::Result<SnapshotReceiver> {
        SnapshotReceiver::new(&self.0)
    }
}

/// Gathers a snapshot that comes in, beside the store in use.
pub struct SnapshotReceiver {
    store: CheckpointStore,
    path: PathBuf,
    batch: Vec<(TableId, Bytes, Bytes)>,
    bytes: usize,
}

impl SnapshotReceiver {
    /// Starts anew in the node's data directory; what an interrupted transfer left is dropped.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(INCOMING_FILE);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let store = CheckpointStore::open(&path, 16 << 20)?;
        Ok(Self { store, path, batch: Vec::new(), bytes: 0 })
    }

    fn flush(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        self.store
            .transaction(|write| batch.into_iter().try_for_each(|(table, key, value)| write(table, key, Some(value))))
    }
}

impl SnapshotSink for SnapshotReceiver {
    type Data = SnapshotData;

    fn push(&mut self, table: &str, key: Bytes, value: Bytes) -> io::Result<()> {
        let table = TableId::from_name(table).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the snapshot holds a table {table:?}: upgrade this node"),
            )
        })?;
        self.bytes += key.len() + value.len();
        self.batch.push((table, key, value));
        if self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn finish(mut self) -> io::Result<SnapshotData> {
        self.flush()?;
        drop(self.store);
        Ok(SnapshotData::Received(self.path))
    }
}
