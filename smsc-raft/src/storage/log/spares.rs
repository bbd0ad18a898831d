//! Zero-filled files kept ready, so that the writer never has to make one while an acknowledgement waits.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::segment::{Segment, Spare};

const PREFIX: &str = "spare-";
/// Purged segments beyond this number of spares are removed instead of kept.
const KEPT_MAX: usize = 2;
const FILL_CHUNK: usize = 1 << 20;

/// The spare files of one log.
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u32,
    pool: Mutex<Pool>,
    /// Bytes of all files of this log.
    disk_bytes: AtomicU64,
}

struct Pool {
    ready: Vec<Spare>,
    next_number: u64,
}

impl Spares {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segment_bytes: u32) -> Self {
        let pool = Mutex::new(Pool { ready: Vec::new(), next_number: 0 });
        Self { disk, dir, segment_bytes, pool, disk_bytes: AtomicU64::new(0) }
    }

    /// Whether a file of this name is a spare.
    pub(super) fn is_name(name: &str) -> bool {
        number_of(name).is_some()
    }

    /// Takes over a spare of an earlier run; one of another size, or half made, is removed.
    pub(super) fn adopt(&self, name: &str) -> Result<(), LogError> {
        let path = self.dir.join(name);
        let file = self.disk.open(&path).map_err(LogError::io("open", &path))?;
        let len = file.length().map_err(LogError::io("read the length of", &path))?;
        let mut pool = self.pool();
        pool.next_number = pool.next_number.max(number_of(name).map_or(0, |n| n.saturating_add(1)));
        if len == u64::from(self.segment_bytes) && pool.ready.len() < KEPT_MAX {
            pool.ready.push(Spare { path, file, len: self.segment_bytes });
            self.count(len);
            Ok(())
        } else {
            self.disk.remove(&path).map_err(LogError::io("remove", &path))
        }
    }

    /// A file of at least `room` bytes: the one at hand, or a new one, which takes as long as writing it.
    pub(super) fn take(&self, room: usize) -> Result<Spare, LogError> {
        let mut pool = self.pool();
        if room <= self.segment_bytes as usize {
            match pool.ready.pop() {
                Some(spare) => Ok(spare),
                None => self.make(&mut pool, self.segment_bytes),
            }
        } else {
            let len = u32::try_from(room.next_multiple_of(4096))
                .map_err(|_| LogError::TooLarge { bytes: room, max: u32::MAX as usize })?;
            self.make(&mut pool, len)
        }
    }

    /// Makes a spare if there is none.
    pub(super) fn prepare(&self) -> Result<(), LogError> {
        let mut pool = self.pool();
        if pool.ready.is_empty() {
            let spare = self.make(&mut pool, self.segment_bytes)?;
            pool.ready.push(spare);
        }
        Ok(())
    }

    /// Keeps a purged segment as a spare or removes it; durable when it returns.
    ///
    /// A segment that someone still reads is removed: its bytes stay until the reader is done.
    pub(super) fn recycle(&self, segment: Arc<Segment>) -> Result<(), LogError> {
        let mut pool = self.pool();
        let len = u64::from(segment.capacity);
        match Arc::try_unwrap(segment) {
            Ok(Segment { path: from, file, .. }) if self.keeps(&pool, len) => {
                let path = self.next_path(&mut pool);
                self.disk.rename(&from, &path).map_err(LogError::io("rename", &from))?;
                pool.ready.push(Spare { path, file, len: self.segment_bytes });
            }
            Ok(segment) => self.discard(&segment)?,
            Err(shared) => self.discard(&shared)?,
        }
        self.disk.sync_dir(&self.dir).map_err(LogError::io("sync the directory", &self.dir))
    }

    /// Bytes of all files of this log, the spares among them.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// Adds a file to the sum.
    pub(super) fn count(&self, len: u64) {
        self.disk_bytes.fetch_add(len, Ordering::Relaxed);
    }

    fn keeps(&self, pool: &Pool, len: u64) -> bool {
        len == u64::from(self.segment_bytes) && pool.ready.len() < KEPT_MAX
    }

    fn discard(&self, segment: &Segment) -> Result<(), LogError> {
        self.disk.remove(&segment.path).map_err(LogError::io("remove", &segment.path))?;
        self.disk_bytes.fetch_sub(u64::from(segment.capacity), Ordering::Relaxed);
        Ok(())
    }

    /// A file that could not be filled is removed again, so that a full disk is left with the room it had.
    fn make(&self, pool: &mut Pool, len: u32) -> Result<Spare, LogError> {
        let path = self.next_path(pool);
        let file = self.disk.create(&path).map_err(LogError::io("create", &path))?;
        match fill(file.as_ref(), len) {
            Ok(()) => {
                self.count(u64::from(len));
                Ok(Spare { path, file, len })
            }
            Err(source) => {
                // What counts is the first error; a leftover is removed at the next start.
                let _ = self.disk.remove(&path);
                Err(LogError::io("fill", &path)(source))
            }
        }
    }

    fn next_path(&self, pool: &mut Pool) -> PathBuf {
        let path = self.dir.join(format!("{PREFIX}{}", pool.next_number));
        pool.next_number += 1;
        path
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().expect("no holder of this lock panics")
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn fill(file: &dyn DiskFile, len: u32) -> std::io::Result<()> {
    let zeroes = vec![0; FILL_CHUNK.min(len as usize)];
    let mut at = 0;
    while at < len as usize {
        let chunk = zeroes.len().min(len as usize - at);
        file.write_at(&zeroes[..chunk], at as u64)?;
        at += chunk;
    }
    file.sync()
}
