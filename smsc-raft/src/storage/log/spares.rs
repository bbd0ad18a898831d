//! Zero-filled files kept ready, so that the writer never has to make one while an acknowledgement waits.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::segment::{Segment, Spare};

const PREFIX: &str = "spare-";
/// Purged segments beyond this number of spares are removed instead of kept. A checkpoint lets several go at once, and
/// one that is written again need not be filled first.
const KEPT_MAX: usize = 4;
/// What is written between two syncs: so little that the writer's own sync, which the disk serves behind it, hardly
/// takes longer.
const FILL_CHUNK: usize = 256 << 10;
/// A spare that nobody waits for leaves the disk alone for this many times what a piece took. Nodes roll their logs at
/// the same entries: with a shared disk below them, they would otherwise fill it at the same time.
const FILL_REST: u32 = 3;

/// The spare files of one log.
pub(super) struct Spares {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u32,
    pool: Mutex<Pool>,
    /// Notified when [`Pool::filling`] turns false.
    filled: Condvar,
    /// Somebody waits for the spare that is being filled.
    hurry: AtomicBool,
    /// Bytes of all files of this log.
    disk_bytes: AtomicU64,
}

struct Pool {
    ready: Vec<Spare>,
    next_number: u64,
    /// A spare is being filled, without the lock.
    filling: bool,
}

impl Spares {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segment_bytes: u32) -> Self {
        let pool = Mutex::new(Pool { ready: Vec::new(), next_number: 0, filling: false });
        let (filled, hurry, disk_bytes) = (Condvar::new(), AtomicBool::new(false), AtomicU64::new(0));
        Self { disk, dir, segment_bytes, pool, filled, hurry, disk_bytes }
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
        if room > self.segment_bytes as usize {
            let len = u32::try_from(room.next_multiple_of(4096))
                .map_err(|_| LogError::TooLarge { bytes: room, max: u32::MAX as usize })?;
            let path = self.pool().next_path(&self.dir);
            return self.make(path, len, || false);
        }
        let mut pool = self.pool();
        while pool.ready.is_empty() && pool.filling {
            self.hurry();
            pool = self.filled.wait(pool).expect("no holder of this lock panics");
        }
        if let Some(spare) = pool.ready.pop() {
            return Ok(spare);
        }
        let path = pool.next_path(&self.dir);
        drop(pool);
        self.make(path, self.segment_bytes, || false)
    }

    /// Makes a spare if there is none, gently: see [`FILL_REST`].
    pub(super) fn prepare(&self) -> Result<(), LogError> {
        let path = {
            let mut pool = self.pool();
            if !pool.ready.is_empty() || pool.filling {
                return Ok(());
            }
            pool.filling = true;
            pool.next_path(&self.dir)
        };
        let made = self.make(path, self.segment_bytes, || !self.hurry.load(Ordering::Relaxed));
        let mut pool = self.pool();
        pool.filling = false;
        self.hurry.store(false, Ordering::Relaxed);
        self.filled.notify_all();
        pool.ready.push(made?);
        Ok(())
    }

    /// Has the spare that is being filled finished without rests.
    pub(super) fn hurry(&self) {
        self.hurry.store(true, Ordering::Relaxed);
    }

    /// Keeps a purged segment as a spare or removes it; durable when it returns.
    ///
    /// A segment that someone still reads is removed: its bytes stay until the reader is done.
    pub(super) fn recycle(&self, segment: Arc<Segment>) -> Result<(), LogError> {
        let mut pool = self.pool();
        let len = u64::from(segment.capacity);
        match Arc::try_unwrap(segment) {
            Ok(Segment { path: from, file, .. }) if self.keeps(&pool, len) => {
                let path = pool.next_path(&self.dir);
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
    fn make(&self, path: PathBuf, len: u32, rests: impl Fn() -> bool) -> Result<Spare, LogError> {
        let file = self.disk.create(&path).map_err(LogError::io("create", &path))?;
        match fill(file.as_ref(), len, rests) {
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

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().expect("no holder of this lock panics")
    }
}

impl Pool {
    fn next_path(&mut self, dir: &Path) -> PathBuf {
        let path = dir.join(format!("{PREFIX}{}", self.next_number));
        self.next_number += 1;
        path
    }
}

fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
}

fn fill(file: &dyn DiskFile, len: u32, rests: impl Fn() -> bool) -> std::io::Result<()> {
    let zeroes = vec![0; FILL_CHUNK.min(len as usize)];
    let mut at = 0;
    while at < len as usize {
        let begun = Instant::now();
        let chunk = zeroes.len().min(len as usize - at);
        file.write_at(&zeroes[..chunk], at as u64)?;
        file.sync()?;
        at += chunk;
        if rests() {
            std::thread::sleep(begun.elapsed() * FILL_REST);
        }
    }
    Ok(())
}
