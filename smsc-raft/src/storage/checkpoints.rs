//! The message store on disk: the machine's checkpoints in redb, each one atomic transaction.
//!
//! redb writes changed pages beside the old ones and keeps the room that a backlog has left; `compaction` gives it back.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use redb::{Database, ReadOnlyTable, ReadableDatabase as _, TableDefinition};

use crate::machine::Checkpoint;
use crate::machine::base::{Base, Row, TableId};

/// The store's file inside the node's data directory.
pub const STORE_FILE: &str = "messages.redb";
/// Where a snapshot that comes in is gathered.
pub const INCOMING_FILE: &str = "incoming.redb";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// The unit of [`std::os::unix::fs::MetadataExt::blocks`].
const BLOCK_BYTES: u64 = 512;

/// What this node keeps about its file; part of no snapshot.
const FILE_TABLE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("file");
/// Bytes of keys and values in all tables.
const LIVE_BYTES: &str = "live_bytes";

fn definition(table: TableId) -> Definition {
    TableDefinition::new(table.name())
}

/// The open store.
pub struct CheckpointStore {
    db: Arc<Database>,
    path: PathBuf,
    live_bytes: AtomicU64,
    /// Keys written since a copy of the store was begun; `None` while there is none.
    written: Mutex<Option<HashSet<(TableId, Bytes)>>>,
}

impl CheckpointStore {
    /// Opens the store at `path`, making it when it is not there.
    ///
    /// # Errors
    /// The file cannot be read or written, belongs to a process that runs, or is no message store.
    pub fn open(path: &Path, cache_bytes: usize) -> io::Result<Self> {
        let db =
            Database::builder().set_cache_size(cache_bytes).create(path).map_err(|error| at(path, error.into()))?;
        let store =
            Self { db: Arc::new(db), path: path.to_owned(), live_bytes: AtomicU64::new(0), written: Mutex::new(None) };
        let made = store.db.begin_write().map_err(|error| at(path, error.into())).and_then(|txn| {
            for table in TableId::ALL {
                txn.open_table(definition(table)).map_err(|error| at(path, error.into()))?;
            }
            txn.commit().map_err(|error| at(path, error.into()))
        });
        made?;
        store.live_bytes.store(store.count_live()?, Ordering::Relaxed);
        Ok(store)
    }

    /// The bytes of all rows: as the last transaction noted them, or counted, in a store of a version that did not.
    fn count_live(&self) -> io::Result<u64> {
        let txn = self.db.begin_read().map_err(|error| at(&self.path, error.into()))?;
        match txn.open_table(FILE_TABLE) {
            Ok(table) => {
                let noted = table.get(LIVE_BYTES).map_err(|error| at(&self.path, error.into()))?;
                if let Some(noted) = noted {
                    return Ok(noted.value());
                }
            }
            Err(redb::TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(at(&self.path, error.into())),
        }
        let mut bytes = 0;
        for table in TableId::ALL {
            let rows = txn.open_table(definition(table)).map_err(|error| at(&self.path, error.into()))?;
            for row in rows.range::<&[u8]>(..).map_err(|error| at(&self.path, error.into()))? {
                let (key, value) = row.map_err(|error| at(&self.path, error.into()))?;
                bytes += (key.value().len() + value.value().len()) as u64;
            }
        }
        Ok(bytes)
    }

    /// Bytes of keys and values in all rows.
    pub fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    /// Bytes that the file takes on the disk; its length may be more, for it grows with holes.
    ///
    /// # Errors
    /// The file is not there.
    pub fn file_bytes(&self) -> io::Result<u64> {
        Ok(std::fs::metadata(&self.path)?.blocks() * BLOCK_BYTES)
    }

    /// Whether a view is one of this store's, and not of the one before it.
    pub(crate) fn is_of(&self, view: &StoreView) -> bool {
        Arc::ptr_eq(&self.db, &view.db)
    }

    /// From now on the keys that are written are noted.
    pub(crate) fn note_written(&self) {
        *self.written() = Some(HashSet::new());
    }

    /// The keys that were written since this was last asked.
    pub(crate) fn take_written(&self) -> HashSet<(TableId, Bytes)> {
        self.written().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Notes keys no more.
    pub(crate) fn stop_noting(&self) {
        *self.written() = None;
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Option<HashSet<(TableId, Bytes)>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A consistent view of the last checkpoint.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn view(&self) -> io::Result<Arc<StoreView>> {
        let txn = self.db.begin_read().map_err(|error| at(&self.path, error.into()))?;
        let tables = TableId::ALL.iter().map(|table| txn.open_table(definition(*table)));
        let tables = tables.collect::<Result<Vec<_>, _>>().map_err(|error| at(&self.path, error.into()))?;
        Ok(Arc::new(StoreView { tables, path: self.path.clone(), db: self.db.clone() }))
    }

    /// Writes a checkpoint and returns the view of it. On disk when this returns.
    ///
    /// # Errors
    /// The disk is full or failed; the store holds the checkpoint before then, and the node must stop.
    pub fn write(&self, checkpoint: &Checkpoint) -> io::Result<Arc<StoreView>> {
        self.transaction(|write| checkpoint.for_each(write))?;
        self.view()
    }

    /// Writes rows in one durable transaction.
    ///
    /// # Errors
    /// As for [`CheckpointStore::write`].
    pub fn transaction(
        &self,
        fill: impl FnOnce(&mut dyn FnMut(TableId, Bytes, Option<Bytes>) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<()> {
        let path = &self.path;
        let mut live_bytes = self.live_bytes();
        let mut txn = self.db.begin_write().map_err(|error| at(path, error.into()))?;
        // Costs a little at each commit and spares a scan of the whole file after a crash.
        txn.set_quick_repair(true);
        {
            let tables = TableId::ALL.iter().map(|table| txn.open_table(definition(*table)));
            let mut tables = tables.collect::<Result<Vec<_>, _>>().map_err(|error| at(path, error.into()))?;
            let mut written = self.written();
            fill(&mut |table, key, value| {
                let rows = &mut tables[table as usize];
                let before = match &value {
                    Some(value) => rows.insert(key.as_ref(), value.as_ref()),
                    None => rows.remove(key.as_ref()),
                };
                let before = before.map_err(|error| at(path, error.into()))?;
                let size = |value: usize| (key.len() + value) as u64;
                live_bytes += value.map_or(0, |value| size(value.len()));
                live_bytes = live_bytes.saturating_sub(before.map_or(0, |before| size(before.value().len())));
                if let Some(written) = written.as_mut() {
                    written.insert((table, key));
                }
                Ok(())
            })?;
            drop(written);
            let mut file = txn.open_table(FILE_TABLE).map_err(|error| at(path, error.into()))?;
            file.insert(LIVE_BYTES, live_bytes).map_err(|error| at(path, error.into()))?;
        }
        txn.commit().map_err(|error| at(path, error.into()))?;
        self.live_bytes.store(live_bytes, Ordering::Relaxed);
        Ok(())
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts another store's file in this one's place, and opens it. Views of the store before stay good; its room on the
    /// disk is given back with the last of them.
    ///
    /// # Errors
    /// The file cannot be renamed or opened; the store before is still in place when the renaming failed.
    pub fn replace(self, incoming: &Path, cache_bytes: usize) -> io::Result<Self> {
        let path = self.path.clone();
        drop(self);
        File::open(incoming)?.sync_all()?;
        std::fs::rename(incoming, &path)?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Self::open(&path, cache_bytes)
    }
}

/// See [`CheckpointStore::view`].
pub struct StoreView {
    tables: Vec<ReadOnlyTable<&'static [u8], &'static [u8]>>,
    path: PathBuf,
    /// Keeps the file open.
    db: Arc<Database>,
}

impl Base for StoreView {
    fn get(&self, table: TableId, key: &[u8]) -> io::Result<Option<Bytes>> {
        let value = self.tables[table as usize].get(key).map_err(|error| at(&self.path, error.into()))?;
        Ok(value.map(|guard| Bytes::copy_from_slice(guard.value())))
    }

    fn range(&self, table: TableId, from: Bound<&[u8]>, limit: usize) -> io::Result<Vec<Row>> {
        let rows = self.tables[table as usize]
            .range::<&[u8]>((from, Bound::Unbounded))
            .map_err(|error| at(&self.path, error.into()))?;
        rows.take(limit)
            .map(|row| {
                let (key, value) = row.map_err(|error| at(&self.path, error.into()))?;
                Ok((Bytes::copy_from_slice(key.value()), Bytes::copy_from_slice(value.value())))
            })
            .collect()
    }
}

fn at(path: &Path, error: redb::Error) -> io::Error {
    let path = path.display();
    match error {
        redb::Error::DatabaseAlreadyOpen => io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!("{path} is in use by another process: end that one first"),
        ),
        redb::Error::Io(error) => io::Error::new(error.kind(), format!("{path}: {error}")),
        redb::Error::Corrupted(what) => io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "{path} is corrupt ({what}): leave the cluster with this node, empty its data directory and join again"
            ),
        ),
        error => io::Error::other(format!("{path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_does_not_change_while_writes_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(&dir.path().join(STORE_FILE), 1 << 20).unwrap();
        let put = |value: &'static [u8]| {
            store
                .transaction(|write| {
                    write(TableId::Accounts, Bytes::from_static(b"k"), Some(Bytes::from_static(value)))
                })
                .unwrap();
        };
        put(b"one");
        let view = store.view().unwrap();
        put(b"two");
        assert_eq!(view.get(TableId::Accounts, b"k").unwrap().as_deref(), Some(&b"one"[..]));
        assert_eq!(store.view().unwrap().get(TableId::Accounts, b"k").unwrap().as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn a_store_in_use_and_a_foreign_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        let _open = CheckpointStore::open(&path, 1 << 20).unwrap();
        let busy = CheckpointStore::open(&path, 1 << 20).err().unwrap();
        assert!(busy.to_string().contains("in use"), "{busy}");
        let foreign = dir.path().join("foreign");
        std::fs::write(&foreign, b"something else entirely").unwrap();
        let error = CheckpointStore::open(&foreign, 1 << 20).err().unwrap();
        assert!(error.to_string().contains("foreign"), "{error}");
        assert_eq!(std::fs::read(&foreign).unwrap(), b"something else entirely");
    }
}
