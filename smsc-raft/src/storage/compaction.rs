//! Giving room on the disk back: the store is copied into a new file while checkpoints go on, what they wrote meanwhile
//! follows, and the new file takes the old one's place.
//!
//! redb's own compaction needs the store to itself, and moves pages where this writes them full. What applies entries
//! and what writes checkpoints never wait for the copy; a checkpoint waits for its last, short part.

use std::collections::HashSet;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::checkpoints::{CheckpointStore, StoreView};
use crate::machine::base::{Base, TableId};

/// Where the copy is gathered, inside the node's data directory.
pub const COMPACT_FILE: &str = "compact.redb";

/// A store smaller than this is left alone. Bytes.
const FILE_BYTES_MIN: u64 = 64 << 20;
/// A store is copied when its file is more than so many halves of its rows: the promise is three times.
const HALVES_MAX: u64 = 5;
/// And only if the copy is expected to be smaller by a quarter at least.
const QUARTERS_KEPT_MAX: u64 = 3;
/// A fresh copy's size in tenths of its rows, until one was made: pages of a tree are not full.
const COPY_TENTHS: u64 = 15;
/// Bytes of rows that are copied in one transaction, and the pause behind it, so that a log on the same disk is served.
const BATCH_BYTES: usize = 4 << 20;
const BATCH_PAUSE: Duration = Duration::from_millis(10);
/// Rows read at once.
const PAGE_ROWS: usize = 1024;
/// So many keys may be left for the part that a checkpoint waits for.
pub const REST_KEYS: usize = 20_000;
/// Cache of the copy, bytes.
const CACHE_BYTES: usize = 16 << 20;

/// Whether a store should be copied.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// How large a copy was, in tenths of its rows.
    copy_tenths: u64,
}

impl Default for Wish {
    fn default() -> Self {
        Self { copy_tenths: COPY_TENTHS }
    }
}

impl Wish {
    /// Whether a file of this size, with rows of that, should be copied.
    pub fn wants(self, file_bytes: u64, live_bytes: u64) -> bool {
        let copy_bytes = live_bytes.saturating_mul(self.copy_tenths) / 10;
        file_bytes > FILE_BYTES_MIN
            && file_bytes > live_bytes.saturating_mul(HALVES_MAX) / 2
            && copy_bytes < file_bytes / 4 * QUARTERS_KEPT_MAX
    }

    /// Learns from a copy.
    pub fn made(&mut self, file_bytes: u64, live_bytes: u64) {
        self.copy_tenths = (file_bytes.saturating_mul(10) / live_bytes.max(1)).clamp(10, 100);
    }
}

/// A copy in the making.
pub struct Copying {
    source: Arc<StoreView>,
    target: CheckpointStore,
}

impl Copying {
    /// Begins; the caller keeps checkpoints away until this returns. An unfinished copy from before is dropped.
    ///
    /// # Errors
    /// The disk failed or is full: nothing has begun.
    pub fn begin(store: &CheckpointStore, dir: &Path) -> io::Result<Self> {
        let path = dir.join(COMPACT_FILE);
        remove(&path)?;
        let target = CheckpointStore::open(&path, CACHE_BYTES)?;
        let source = store.view()?;
        store.note_written();
        Ok(Self { source, target })
    }

    /// Copies everything as it was at the beginning, and stops early with `false` when `go_on` says no.
    ///
    /// # Errors
    /// The disk failed or is full.
    pub fn copy(&self, mut go_on: impl FnMut() -> bool) -> io::Result<bool> {
        for table in TableId::ALL {
            let mut from: Bound<Bytes> = Bound::Unbounded;
            loop {
                let mut batch = Vec::new();
                let mut bytes = 0;
                while bytes < BATCH_BYTES {
                    let rows = self.source.range(table, from.as_ref().map(Bytes::as_ref), PAGE_ROWS)?;
                    let Some((last, _)) = rows.last() else { break };
                    from = Bound::Excluded(last.clone());
                    bytes += rows.iter().map(|row| row.0.len() + row.1.len()).sum::<usize>();
                    batch.extend(rows);
                }
                if batch.is_empty() {
                    break;
                }
                self.target.transaction(|write| {
                    batch.into_iter().try_for_each(|(key, value)| write(table, key, Some(value)))
                })?;
                if !go_on() {
                    return Ok(false);
                }
                std::thread::sleep(BATCH_PAUSE);
            }
        }
        Ok(true)
    }

    /// Brings what was written meanwhile to the copy, as `view` has it.
    ///
    /// # Errors
    /// The disk failed or is full.
    pub fn follow(&self, view: &StoreView, written: HashSet<(TableId, Bytes)>) -> io::Result<()> {
        let mut written: Vec<_> = written.into_iter().collect();
        written.sort_unstable();
        self.target.transaction(|write| {
            written.into_iter().try_for_each(|(table, key)| {
                let value = view.get(table, &key)?;
                write(table, key, value)
            })
        })
    }

    /// Whether the store that was copied is the one in use still.
    pub fn is_of(&self, store: &CheckpointStore) -> bool {
        store.is_of(&self.source)
    }

    /// The finished file, closed.
    pub fn finish(self) -> PathBuf {
        self.target.path().to_owned()
    }

    /// Drops what was copied.
    pub fn abandon(self) {
        let path = self.target.path().to_owned();
        drop(self);
        if let Err(error) = remove(&path) {
            tracing::warn!(path = %path.display(), %error, "an unfinished copy of the message store stays on the disk");
        }
    }
}

/// Removes what an interrupted copy has left.
///
/// # Errors
/// The directory cannot be written.
pub fn clean(dir: &Path) -> io::Result<()> {
    remove(&dir.join(COMPACT_FILE))
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::checkpoints::STORE_FILE;
    use super::*;

    fn row(number: u32) -> (TableId, Bytes, Option<Bytes>) {
        (TableId::Accounts, Bytes::from(number.to_string()), Some(Bytes::from(vec![7; 500])))
    }

    fn rows_of(store: &CheckpointStore) -> Vec<(Bytes, Bytes)> {
        store.view().unwrap().range(TableId::Accounts, Bound::Unbounded, usize::MAX).unwrap()
    }

    #[test]
    fn a_copy_holds_what_was_written_before_and_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        let store = CheckpointStore::open(&path, 1 << 20).unwrap();
        let write = |rows: Vec<(TableId, Bytes, Option<Bytes>)>| {
            store.transaction(|write| rows.into_iter().try_for_each(|(table, key, value)| write(table, key, value)))
        };
        write((0..20_000).map(row).collect()).unwrap();
        write((0..19_000).map(|number| (row(number).0, row(number).1, None)).collect()).unwrap();
        let counted = rows_of(&store).iter().map(|row| row.0.len() + row.1.len()).sum::<usize>() as u64;
        assert_eq!(store.live_bytes(), counted);
        let copying = Copying::begin(&store, dir.path()).unwrap();
        write((30_000..30_100).map(row).collect()).unwrap();
        write(vec![(TableId::Accounts, row(19_500).1, None)]).unwrap();
        assert!(copying.copy(|| true).unwrap());
        copying.follow(&store.view().unwrap(), store.take_written()).unwrap();
        assert!(copying.is_of(&store));
        let (before, old_view, large) = (rows_of(&store), store.view().unwrap(), store.file_bytes().unwrap());
        let store = store.replace(&copying.finish(), 1 << 20).unwrap();
        assert_eq!(rows_of(&store), before);
        assert_eq!(before.len(), 1_099);
        assert_eq!(store.live_bytes(), before.iter().map(|row| row.0.len() + row.1.len()).sum::<usize>() as u64);
        assert!(store.file_bytes().unwrap() < large / 3, "{} of {large}", store.file_bytes().unwrap());
        // Whoever reads the old file still, as a snapshot on its way, reads on.
        assert_eq!(old_view.range(TableId::Accounts, Bound::Unbounded, usize::MAX).unwrap(), before);
    }

    #[test]
    fn it_is_done_when_it_gives_much_back() {
        let wish = Wish::default();
        const MB: u64 = 1 << 20;
        assert!(!wish.wants(60 * MB, MB));
        assert!(wish.wants(600 * MB, 100 * MB));
        assert!(!wish.wants(240 * MB, 100 * MB));
        let mut learned = wish;
        learned.made(260 * MB, 100 * MB);
        assert!(!learned.wants(300 * MB, 100 * MB));
        assert!(learned.wants(600 * MB, 100 * MB));
    }
}
