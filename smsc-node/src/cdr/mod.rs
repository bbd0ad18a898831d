//! Call detail records: a line for every message that has come to its end, in files on every data node.
//!
//! The log gives each final state a number, without gaps and the same on all nodes; each data node writes the records
//! as it applies the log. So a takeover neither loses nor repeats any: whichever node's files are collected, they hold
//! each number once, and files of several nodes are joined by it. What a node has missed (it was away and got a
//! snapshot, its disk was full, it lost power before a line was on disk) it writes from the final records that the
//! message store keeps, as long as they are retained; what is not there any more is named in a line of its own.
//!
//! Writing never holds up the log: a thread of its own takes what is applied from a bounded queue, and what does not fit
//! is a gap like any other.

pub mod files;
pub mod record;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use smsc_raft::model::FinalRecord;
use smsc_raft::store::Store;

use self::files::{Files, FilesConfig};

/// The name of the thread, which only reads the store and writes files.
pub(crate) const THREAD: &str = "smsc-cdr";
/// Records that may wait to be written.
const QUEUED_MAX: usize = 50_000;
/// How long a record may wait for its way to the disk.
const SYNC: Duration = Duration::from_secs(1);
/// How often it is looked whether records were missed.
const LOOK: Duration = Duration::from_secs(1);
/// How long a disk that failed is left alone.
const RETRY: Duration = Duration::from_secs(5);
/// Records of a gap that are looked for at once.
const GAP_RECORDS: u64 = 20_000;
/// Final records read at once.
const PAGE_RECORDS: usize = 1_000;

/// How the writing stands.
#[derive(Debug, Default)]
pub struct CdrStatus {
    /// Number of the last record on disk or on its way there.
    pub last: AtomicU64,
    /// Why it does not go on; empty while it does.
    failure: Mutex<String>,
}

impl CdrStatus {
    /// A sentence for operators; `None` while all is well.
    pub fn warning(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        (!failure.is_empty()).then(|| format!("call detail records are not written: {failure}"))
    }

    fn set(&self, failure: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

/// The thread that writes.
pub struct CdrWriter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    store: Store,
}

impl CdrWriter {
    /// Starts to write what is applied from now on, and what was missed before.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(store: Store, config: FilesConfig, status: Arc<CdrStatus>) -> io::Result<Self> {
        let (sink, records) = sync_channel(QUEUED_MAX);
        follow(&store, sink);
        let stop = Arc::new(AtomicBool::new(false));
        let writer = Writer { store: store.clone(), config, status, stop: stop.clone(), records };
        let thread = std::thread::Builder::new().name(THREAD.to_owned()).spawn(move || writer.run())?;
        Ok(Self { stop, thread: Some(thread), store })
    }

    /// Writes what is applied and ends.
    pub fn stop(mut self) {
        self.store.follow_finals(None);
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of call detail records ended badly");
        }
    }
}

fn follow(store: &Store, sink: SyncSender<Arc<FinalRecord>>) {
    store.follow_finals(Some(Box::new(move |record: &Arc<FinalRecord>| match sink.try_send(record.clone()) {
        // What does not fit is found again as a gap.
        Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
    })));
}

struct Writer {
    store: Store,
    config: FilesConfig,
    status: Arc<CdrStatus>,
    stop: Arc<AtomicBool>,
    records: Receiver<Arc<FinalRecord>>,
}

impl Writer {
    fn run(self) {
        while !self.stop.load(Ordering::Acquire) {
            match self.write() {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(%error, dir = %self.config.dir.display(), "call detail records are not written");
                    self.status.set(format!("{}: {error}", self.config.dir.display()));
                }
            }
            let again = Instant::now() + RETRY;
            while Instant::now() < again && !self.stop.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(100));
            }
            // They are found again as a gap.
            while self.records.try_recv().is_ok() {}
        }
    }

    fn next_cdr(&self) -> io::Result<u64> {
        self.store.read(|machine| Ok(machine.next_cdr()))
    }

    /// Writes until it is to stop.
    fn write(&self) -> io::Result<()> {
        let mut files = Files::open(self.config.clone(), self.next_cdr()?)?;
        self.status.set(String::new());
        let (mut synced, mut looked) = (Instant::now(), Instant::now());
        let mut looked_at = u64::MAX;
        loop {
            let stopping = self.stop.load(Ordering::Acquire);
            match self.records.recv_timeout(Duration::from_millis(if stopping { 0 } else { 200 })) {
                Ok(record) => {
                    let mut batch = vec![record];
                    batch.extend(self.records.try_iter().take(1_000));
                    self.write_batch(&mut files, &batch)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The store has let go of the sink: what is missing is read from it below.
                Err(RecvTimeoutError::Disconnected) if !stopping => std::thread::sleep(Duration::from_millis(200)),
                Err(RecvTimeoutError::Disconnected) => {}
            }
            if stopping || looked.elapsed() >= LOOK {
                looked = Instant::now();
                let next = self.next_cdr()?;
                // Between being applied and being queued there is a moment: missed is what does not come at all.
                let stands_still = looked_at == files.last();
                if next > files.last() + 1 && (stopping || stands_still) {
                    self.fill(&mut files, next - 1)?;
                }
                looked_at = files.last();
            }
            if stopping || synced.elapsed() >= SYNC {
                synced = Instant::now();
                files.sync()?;
            }
            self.status.last.store(files.last(), Ordering::Relaxed);
            if stopping {
                return Ok(());
            }
        }
    }

    fn write_batch(&self, files: &mut Files, batch: &[Arc<FinalRecord>]) -> io::Result<()> {
        let mut lines = Vec::new();
        let mut last = files.last();
        for record in batch.iter().filter(|record| record.cdr > 0) {
            // Written from the store already, or applied again after a restart.
            if record.cdr <= last {
                continue;
            }
            if record.cdr > last + 1 {
                files.append(&std::mem::take(&mut lines), last)?;
                self.fill(files, record.cdr - 1)?;
            }
            lines.extend(record::line(&self.config.cluster, record));
            last = record.cdr;
        }
        if lines.is_empty() { Ok(()) } else { files.append(&lines, last) }
    }

    /// Writes the records up to `to` from what the store keeps; a stretch that it does not keep any more gets a line
    /// that says so.
    fn fill(&self, files: &mut Files, to: u64) -> io::Result<()> {
        tracing::info!(from = files.last() + 1, to, "writing call detail records from the message store");
        while files.last() < to {
            let from = files.last() + 1;
            let until = to.min(from + GAP_RECORDS - 1);
            let mut found = self.find(from, until)?;
            found.sort_unstable_by_key(|record| record.cdr);
            let mut lines = Vec::new();
            let mut next = from;
            for record in &found {
                if record.cdr > next {
                    lines.extend(self.missing(next, record.cdr - 1));
                }
                lines.extend(record::line(&self.config.cluster, record));
                next = record.cdr + 1;
            }
            if next <= until {
                lines.extend(self.missing(next, until));
            }
            files.append(&lines, until)?;
        }
        Ok(())
    }

    fn missing(&self, from: u64, to: u64) -> Vec<u8> {
        tracing::error!(
            from,
            to,
            "call detail records that this node cannot get any more; another node's files have them"
        );
        record::gap(&self.config.cluster, from, to)
    }

    /// The final records with these numbers, as far as they are kept. Young messages end first, mostly, so the newest
    /// are looked at first.
    fn find(&self, from: u64, to: u64) -> io::Result<Vec<FinalRecord>> {
        let wanted = usize::try_from(to - from + 1).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut below = None;
        while found.len() < wanted {
            let page = self.store.read(|machine| machine.newest_finals(below, PAGE_RECORDS))?;
            let Some(last) = page.last() else { break };
            below = Some(last.id);
            found.extend(page.into_iter().filter(|record| (from..=to).contains(&record.cdr)));
        }
        Ok(found)
    }
}
