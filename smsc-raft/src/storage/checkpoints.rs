//! The message store on disk: the machine's checkpoints in redb, each one atomic transaction.

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadOnlyTable, ReadableDatabase as _, TableDefinition};

use crate::machine::Checkpoint;
use crate::machine::base::{Base, Row, TableId};

/// The store's file inside the node's data directory.
pub const STORE_FILE: &str = "messages.redb";
/// Where a snapshot that comes in is gathered.
pub const INCOMING_FILE: &str = "incoming.redb";

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn definition(table: TableId) -> Definition {
    TableDefinition::new(table.name())
}

/// The open store.
pub struct CheckpointStore {
    db: Database,
    path: PathBuf,
}

impl CheckpointStore {
    /// Opens the store at `path`, making it when it is not there.
    ///
    /// # Errors
    /// The file cannot be read or written, belongs to a process that runs, or is no message store.
    pub fn open(path: &Path, cache_bytes: usize) -> io::Result<Self> {
        let db =
            Database::builder().set_cache_size(cache_bytes).create(path).map_err(|error| at(path, error.into()))?;
        let store = Self { db, path: path.to_owned() };
        let made = store.db.begin_write().map_err(|error| at(path, error.into())).and_then(|txn| {
            for table in TableId::ALL {
                txn.open_table(definition(table)).map_err(|error| at(path, error.into()))?;
            }
            txn.commit().map_err(|error| at(path, error.into()))
        });
        made.map(|()| store)
    }

    /// A consistent view of the last checkpoint.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn view(&self) -> io::Result<Arc<StoreView>> {
        let txn = self.db.begin_read().map_err(|error| at(&self.path, error.into()))?;
        let tables = TableId::ALL.iter().map(|table| txn.open_table(definition(*table)));
        let tables = tables.collect::<Result<Vec<_>, _>>().map_err(|error| at(&self.path, error.into()))?;
        Ok(Arc::new(StoreView { tables, path: self.path.clone() }))
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
        let mut txn = self.db.begin_write().map_err(|error| at(path, error.into()))?;
        // Costs a little at each commit and spares a scan of the whole file after a crash.
        txn.set_quick_repair(true);
        {
            let tables = TableId::ALL.iter().map(|table| txn.open_table(definition(*table)));
            let mut tables = tables.collect::<Result<Vec<_>, _>>().map_err(|error| at(path, error.into()))?;
            fill(&mut |table, key, value| {
                let rows = &mut tables[table as usize];
                let done = match value {
                    Some(value) => rows.insert(key.as_ref(), value.as_ref()).map(drop),
                    None => rows.remove(key.as_ref()).map(drop),
                };
                done.map_err(|error| at(path, error.into()))
            })?;
        }
        txn.commit().map_err(|error| at(path, error.into()))
    }

    /// The store's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a store that was gathered from a snapshot in this one's place, and opens it.
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
