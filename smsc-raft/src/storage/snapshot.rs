//! Snapshots: a view of a checkpoint on its way out, a store being gathered on its way in.

use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::checkpoints::{CheckpointStore, INCOMING_FILE, StoreView};
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

impl SnapshotData {
    /// The pages of rows to send, table by table in key order.
    ///
    /// # Errors
    /// A received snapshot is not sent on; otherwise each page may fail with what the disk said.
    pub fn pages(&self) -> io::Result<Pages> {
        match self {
            SnapshotData::View(view) => Ok(Pages { view: view.clone(), table: 0, from: Bound::Unbounded }),
            SnapshotData::Received(path) => {
                Err(io::Error::other(format!("{} came from the leader and is not sent on", path.display())))
            }
        }
    }
}

/// See [`SnapshotData::pages`].
pub struct Pages {
    view: Arc<StoreView>,
    table: usize,
    from: Bound<Bytes>,
}

impl Iterator for Pages {
    type Item = io::Result<(TableId, Vec<Row>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let table = *TableId::ALL.get(self.table)?;
            match self.view.range(table, self.from.as_ref().map(Bytes::as_ref), PAGE_ROWS) {
                Err(error) => {
                    self.table = TableId::ALL.len();
                    return Some(Err(error));
                }
                Ok(rows) => match rows.last() {
                    Some((last, _)) => {
                        self.from = Bound::Excluded(last.clone());
                        return Some(Ok((table, rows)));
                    }
                    None => {
                        self.table += 1;
                        self.from = Bound::Unbounded;
                    }
                },
            }
        }
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

    /// Adds a row.
    ///
    /// # Errors
    /// The table is unknown (the leader runs a newer version), or the disk failed.
    pub fn push(&mut self, table: &str, key: Bytes, value: Bytes) -> io::Result<()> {
        let table = TableId::from_name(table).ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, format!("the snapshot holds a table {table:?}: upgrade this node"))
        })?;
        self.bytes += key.len() + value.len();
        self.batch.push((table, key, value));
        if self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        self.store.transaction(|write| {
            batch.into_iter().try_for_each(|(table, key, value)| write(table, key, Some(value)))
        })
    }

    /// The whole snapshot, on disk.
    ///
    /// # Errors
    /// The disk failed.
    pub fn finish(mut self) -> io::Result<SnapshotData> {
        self.flush()?;
        drop(self.store);
        Ok(SnapshotData::Received(self.path))
    }
}
