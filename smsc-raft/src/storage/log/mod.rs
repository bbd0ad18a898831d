//! The Raft log: entries, vote and what is committed, in one stream of records over preallocated segment files.
//!
//! What is promised: an answered request is on disk, with everything that was asked for before it. Records are written
//! in the order of the requests by `writer`, a batch at a time with one sync each; `recovery` reads them back.
//! `view` is the log as the engine sees it, which is ahead of the disk; `reader` serves from it and from the
//! segments. After a failed write or sync nothing is tried again: every call gets the same error, [`LogMonitor`] tells
//! the daemon, and the next start finds out what is on the disk.
//!
//! What is synced before what:
//! - a spare's zeroes and length, then its header as a segment, then its name and the directory, then its records;
//! - a segment to its very end, before the next one exists; so only the last can end in a torn write;
//! - a write, before the next one of the same segment; each record tells how far that was, see `record`;
//! - a purge, and the state at the head of a later segment, before a segment is dropped, the oldest first.

pub mod disk;
mod error;
mod marks;
mod monitor;
mod reader;
mod record;
mod recovery;
mod segment;
mod spares;
mod stream;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use tokio::sync::oneshot;

pub use error::LogError;
pub use monitor::{LogMetrics, LogMonitor};
pub use reader::LogReader;

use self::disk::{Disk, Lock, OsDisk};
use self::monitor::Counters;
use self::recovery::{LOCK_FILE, Recovered};
use self::spares::Spares;
use self::view::{Shared, View};
use self::writer::{Request, Writer};
use crate::consensus::types::{Entry, LogId, TypeConfig, Vote};
use crate::storage::threads;

/// The largest batch that fits into a record.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// Where the log lies and how much room it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A directory for the log alone. Made if it is not there.
    pub dir: PathBuf,
    /// Size of a segment file, 65_536 to 1_073_741_824 bytes. A log takes at least two of them.
    pub segment_bytes: u32,
    /// The newest entries are kept in memory up to about this many bytes, and those not yet written in any case.
    pub cache_bytes: usize,
}

impl LogConfig {
    /// A log in this directory with segments and memory of 32 MiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), segment_bytes: 32 << 20, cache_bytes: 32 << 20 }
    }

    fn check(&self) -> Result<(), LogError> {
        if (64 << 10..=1 << 30).contains(&self.segment_bytes) {
            Ok(())
        } else {
            let (key, value) = ("segment_bytes", self.segment_bytes.into());
            Err(LogError::Config { key, value, allowed: "65536 to 1073741824" })
        }
    }
}

/// The log, as the Raft engine writes it. Dropping it ends its threads and lets the directory go.
pub struct LogStore {
    shared: Arc<Shared>,
    monitor: LogMonitor,
    spares: Arc<Spares>,
    /// `None` only while being dropped.
    requests: Option<Sender<Request>>,
    threads: Vec<JoinHandle<()>>,
    _lock: Box<dyn Send + Sync>,
}

impl LogStore {
    /// Opens the log or begins one, and starts its threads. Blocks while it reads the segments back.
    ///
    /// # Errors
    /// Any [`LogError`] but `Refused`, `TooLarge` and `Stopped`; nothing that was stored has been changed then.
    pub fn open(config: LogConfig) -> Result<Self, LogError> {
        Self::open_on(Arc::new(OsDisk), config)
    }

    /// Like [`LogStore::open`], on any file system.
    ///
    /// # Errors
    /// The same.
    pub fn open_on(disk: Arc<dyn Disk>, config: LogConfig) -> Result<Self, LogError> {
        config.check()?;
        let LogConfig { dir, segment_bytes, cache_bytes } = config;
        disk.create_dir(&dir).map_err(LogError::io("create the directory", &dir))?;
        // Before the lock is taken, so that nothing is put into a directory that is not ours.
        recovery::list(disk.as_ref(), &dir)?;
        let lock_file = dir.join(LOCK_FILE);
        let lock = match disk.lock(&lock_file).map_err(LogError::io("lock", &lock_file))? {
            Lock::Taken(lock) => lock,
            Lock::HeldBy(holder) => return Err(LogError::InUse { dir, holder }),
        };
        let spares = Arc::new(Spares::new(disk.clone(), dir.clone(), segment_bytes));
        let Recovered { start, marks } = recovery::recover(disk.as_ref(), &dir, &spares)?;

        let counters = Arc::new(Counters::new());
        let monitor = LogMonitor::new(counters.clone(), spares.clone());
        let shared = Arc::new(Shared::new(View::new(start.stream.clone(), marks, cache_bytes), counters));
        let (requests, waiting) = mpsc::channel();
        let (wanted, wishes) = mpsc::channel();
        let (requests, threads) = (Some(requests), Vec::new());
        let mut store = Self { shared, monitor, spares: spares.clone(), requests, threads, _lock: lock };
        let writer = Writer::new(disk, dir, store.shared.clone(), spares.clone(), wanted, start);
        store.spawn(threads::LOG_WRITE, move || writer.run(&waiting))?;
        store.spawn(threads::LOG_SPARE, move || prepare_spares(&spares, &wishes))?;
        Ok(store)
    }

    /// The handle for everyone but the engine.
    pub fn monitor(&self) -> LogMonitor {
        self.monitor.clone()
    }

    fn spawn(&mut self, name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), LogError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
        self.threads.push(thread.map_err(LogError::io("start the thread", name.as_ref()))?);
        Ok(())
    }

    fn send(&self, request: Request) -> Result<(), LogError> {
        let requests = self.requests.as_ref().expect("taken in drop only");
        requests.send(request).map_err(|_| self.stopped())
    }

    async fn answered(&self, answer: oneshot::Receiver<Result<(), LogError>>) -> Result<(), LogError> {
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    /// Why the writer is gone.
    fn stopped(&self) -> LogError {
        self.shared.counters.check().err().unwrap_or(LogError::Stopped)
    }
}

impl Drop for LogStore {
    fn drop(&mut self) {
        self.requests = None;
        self.spares.hurry();
        for thread in self.threads.drain(..) {
            // A thread that panicked has been reported by its own guard.
            let _ = thread.join();
        }
    }
}

/// Keeps a spare at hand. One that cannot be made is no failure yet: the writer tries again when it needs it.
fn prepare_spares(spares: &Spares, wishes: &Receiver<()>) {
    loop {
        if let Err(error) = spares.prepare() {
            tracing::warn!(%error, "no spare segment for the Raft log");
        }
        if wishes.recv().is_err() {
            return;
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let view = self.shared.checked()?;
        Ok(LogState { last_purged_log_id: view.stream.purged, last_log_id: view.stream.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(self.shared.clone())
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.shared.counters.check()?;
        let (answer, answered) = oneshot::channel();
        self.send(Request::Vote { vote: *vote, answer })?;
        Ok(self.answered(answered).await?)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.shared.checked()?.stream.committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.shared.checked()?.stream.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let taken = self.shared.checked().and_then(|mut view| view.append(&entries, BATCH_BYTES_MAX));
        match taken {
            Ok(ticket) => Ok(self.send(Request::Append { entries, ticket, flushed: callback })?),
            Err(error) => {
                callback.io_completed(Err(error.clone().into()));
                Err(error.into())
            }
        }
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.shared.checked()?.truncate(last_log_id)?;
        let (answer, answered) = oneshot::channel();
        self.send(Request::Truncate { after: last_log_id, answer })?;
        Ok(self.answered(answered).await?)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.shared.checked()?.purge(log_id);
        Ok(self.send(Request::Purge { upto: log_id })?)
    }
}
