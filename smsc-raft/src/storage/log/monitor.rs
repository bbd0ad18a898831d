//! What the daemon watches of the log: its figures, and whether it has failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::LogError;
use super::spares::Spares;

/// How soon a drill's stall that was cut short is noticed.
const STALL_STEP: Duration = Duration::from_millis(5);

/// A flush that takes longer is told of: whoever wonders about a gap in the acknowledgements looks for it in the log.
const SLOW_FLUSH: Duration = Duration::from_millis(200);

/// The log's figures at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogMetrics {
    /// Flushes completed since the log was opened.
    pub flushes: u64,
    /// How long the last completed flush took, from the write to the end of the sync.
    pub last_flush_duration: Duration,
    /// When the flush that is under way began; `None` between flushes. Long ago means a stalled disk.
    pub last_flush_started: Option<Instant>,
    /// Bytes of records written since the log was opened.
    pub bytes_written: u64,
    /// Bytes of all the log's files, spares among them.
    pub disk_bytes: u64,
}

/// A handle on a running log for everyone but the Raft engine. Cheap to clone.
#[derive(Clone)]
pub struct LogMonitor {
    counters: Arc<Counters>,
    spares: Arc<Spares>,
}

impl LogMonitor {
    pub(super) fn new(counters: Arc<Counters>, spares: Arc<Spares>) -> Self {
        Self { counters, spares }
    }

    /// The figures as they are now.
    pub fn metrics(&self) -> LogMetrics {
        let counters = &self.counters;
        let started_ns = counters.flush_started_ns.load(Ordering::Relaxed);
        LogMetrics {
            flushes: counters.flushes.load(Ordering::Relaxed),
            last_flush_duration: Duration::from_nanos(counters.last_flush_ns.load(Ordering::Relaxed)),
            last_flush_started: (started_ns != 0).then(|| counters.opened + Duration::from_nanos(started_ns)),
            bytes_written: counters.bytes_written.load(Ordering::Relaxed),
            disk_bytes: self.spares.disk_bytes(),
        }
    }

    /// How long the flush that is under way has been going on; zero between flushes.
    pub fn stalled_for(&self) -> Duration {
        self.metrics().last_flush_started.map_or(Duration::ZERO, |started| started.elapsed())
    }

    /// Has every flush until `pause` from now wait, as on a disk that stalls: for drills. Reads go on. A later call
    /// takes the place of an earlier one; zero lets the flushes go on.
    pub fn stall(&self, pause: Duration) {
        let until = self.counters.opened.elapsed() + pause;
        self.counters.stalled_until_ns.store(nanos(until), Ordering::Relaxed);
    }

    /// Becomes `Some` when the log has failed and stays so: the node must stop serving and be restarted.
    pub fn failure(&self) -> watch::Receiver<Option<LogError>> {
        self.counters.failure.subscribe()
    }
}

/// Where the writer counts and reports.
pub(super) struct Counters {
    opened: Instant,
    flushes: AtomicU64,
    last_flush_ns: AtomicU64,
    /// Since `opened`; zero while no flush is under way.
    flush_started_ns: AtomicU64,
    /// Since `opened`; a drill has flushes wait until then.
    stalled_until_ns: AtomicU64,
    bytes_written: AtomicU64,
    failure: watch::Sender<Option<LogError>>,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            opened: Instant::now(),
            flushes: AtomicU64::new(0),
            last_flush_ns: AtomicU64::new(0),
            flush_started_ns: AtomicU64::new(0),
            stalled_until_ns: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            failure: watch::Sender::new(None),
        }
    }

    /// Runs one flush of this many bytes and measures it. One that fails stays under way.
    pub(super) fn measure<E>(&self, bytes: usize, flush: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        let started_ns = nanos(self.opened.elapsed()).max(1);
        self.flush_started_ns.store(started_ns, Ordering::Relaxed);
        self.wait_out_stall();
        flush()?;
        let took_ns = nanos(self.opened.elapsed()).saturating_sub(started_ns);
        let took = Duration::from_nanos(took_ns);
        if took > SLOW_FLUSH {
            tracing::warn!(?took, bytes, "the disk was slow to write the Raft log");
        }
        self.last_flush_ns.store(took_ns, Ordering::Relaxed);
        self.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.flush_started_ns.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn wait_out_stall(&self) {
        while nanos(self.opened.elapsed()) < self.stalled_until_ns.load(Ordering::Relaxed) {
            std::thread::sleep(STALL_STEP);
        }
    }

    /// The log has failed; the first reason stays.
    pub(super) fn fail(&self, error: LogError) -> LogError {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            if first {
                tracing::error!(%error, "the Raft log has failed");
                *failure = Some(error.clone());
            }
            first
        });
        self.check().err().unwrap_or(error)
    }

    /// Whether the log can be used.
    ///
    /// # Errors
    /// Why it failed.
    pub(super) fn check(&self) -> Result<(), LogError> {
        match &*self.failure.borrow() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

/// Enough for five hundred years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
