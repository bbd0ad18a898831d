//! A whole run: send, wait for the answers, wait for the receipts, unbind, report.

use std::cell::{Cell, RefCell};
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::load::LoadError;
use crate::load::journal::Journal;
use crate::load::ledger::Ledger;
use crate::load::options::LoadOptions;
use crate::load::report::Report;
use crate::load::session::{self, Phase, Shared};
use crate::load::supply::Supply;
use crate::load::template::{RunTag, SubmitTemplate};

/// How often the run looks whether it may go on.
const LOOK: Duration = Duration::from_millis(10);

/// Runs the load that `options` describe on this thread, until it is done or stopped by Ctrl-C or SIGTERM.
///
/// # Errors
/// [`LoadError`] if it could not be carried out: wrong options, a refused bind, a lost connection without `reconnect`,
/// a journal that cannot be written. What the cluster did wrong is no error but in the report.
pub fn run(options: LoadOptions) -> Result<Report, LoadError> {
    options.check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, drive(options))
}

/// CPU time of this process, user and system.
pub(super) fn cpu_time() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Duration::ZERO;
    };
    [usage.user_time(), usage.system_time()]
        .iter()
        .map(|time| {
            let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
            let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
            Duration::from_secs(seconds) + Duration::from_micros(micros)
        })
        .sum()
}

async fn drive(options: LoadOptions) -> Result<Report, LoadError> {
    let cpu_before = cpu_time();
    let run = RunTag::new(rand::random());
    let template = SubmitTemplate::new(&options, run)?;
    let journal = options.journal.as_deref().map(Journal::open).transpose()?;
    let start = Instant::now();
    let shared = Rc::new(Shared {
        run,
        template,
        ledger: RefCell::new(Ledger::new(start)),
        supply: RefCell::new(Supply::new(start, options.count, options.rate)),
        journal: RefCell::new(journal),
        phase: Cell::new(Phase::Sending),
        in_flight: Cell::new(0),
        failed: RefCell::new(None),
        options,
    });
    let mut sessions = JoinSet::new();
    for index in 0..shared.options.sessions {
        let shared = Rc::clone(&shared);
        sessions.spawn_local(async move { session::run(&shared, index).await });
    }
    send(&shared).await?;
    shared.phase.set(Phase::Settling);
    settle(&shared).await;
    let elapsed = start.elapsed();
    let cpu = cpu_time().saturating_sub(cpu_before);
    shared.phase.set(Phase::Closing);
    while sessions.join_next().await.is_some() {}
    if let Some(journal) = shared.journal.borrow_mut().as_mut() {
        journal.flush()?;
    }
    if let Some(error) = shared.failed.take() {
        return Err(error);
    }
    let mut ledger = shared.ledger.borrow_mut();
    let closing = ledger.close(shared.options.receipts);
    Ok(Report::new(&shared.options, &ledger, closing, elapsed, cpu))
}

/// Lets the sessions submit until they are to stop and every answer is there.
async fn send(shared: &Shared) -> Result<(), LoadError> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut stdin_closed = shared.options.until_stdin_closes.then(watch_stdin);
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let start = shared.ledger.borrow().start();
    let mut progress = Progress::new(shared, start);
    loop {
        let stop = tokio::select! {
            _ = looks.tick() => false,
            _ = interrupt.recv() => true,
            _ = terminate.recv() => true,
            () = closed(&mut stdin_closed) => true,
        };
        if shared.failed.borrow().is_some() {
            return Ok(());
        }
        let over = shared.options.seconds.is_some_and(|seconds| start.elapsed().as_secs_f64() >= seconds);
        if stop || over {
            shared.supply.borrow_mut().stop();
        }
        progress.look(Instant::now());
        if shared.supply.borrow().is_exhausted() && shared.in_flight.get() == 0 {
            return Ok(());
        }
    }
}

/// Waits for the receipts that are missing, as long as some still come.
async fn settle(shared: &Shared) {
    if !shared.options.receipts {
        return;
    }
    let limit = Duration::from_secs_f64(shared.options.settle);
    let mut progress = Progress::new(shared, Instant::now());
    let mut receipts = shared.ledger.borrow().receipts;
    let mut last = Instant::now();
    while shared.ledger.borrow().missing() > 0 && shared.failed.borrow().is_none() {
        tokio::time::sleep(LOOK).await;
        let now = Instant::now();
        progress.look(now);
        let so_far = shared.ledger.borrow().receipts;
        if so_far != receipts {
            receipts = so_far;
            last = now;
        } else if now.saturating_duration_since(last) > limit {
            return;
        }
    }
}

/// Flushes the journal ten times a second and prints the counts of every second, if asked to.
struct Progress<'a> {
    shared: &'a Shared,
    flushed: Instant,
    printed: Instant,
    acked: u64,
    receipts: u64,
}

impl<'a> Progress<'a> {
    fn new(shared: &'a Shared, now: Instant) -> Self {
        let ledger = shared.ledger.borrow();
        Progress { shared, flushed: now, printed: now, acked: ledger.acked, receipts: ledger.receipts }
    }

    fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.flushed) >= Duration::from_millis(100) {
            self.flushed = now;
            let flushed = self.shared.journal.borrow_mut().as_mut().map_or(Ok(()), Journal::flush);
            if let Err(error) = flushed {
                self.shared.fail(error);
            }
        }
        let since = now.saturating_duration_since(self.printed);
        if self.shared.options.progress && since >= Duration::from_secs(1) {
            let ledger = self.shared.ledger.borrow();
            let per_second = |count: u64| count as f64 / since.as_secs_f64();
            eprintln!(
                "{:7.1} s  acked {:8.0}/s  receipts {:8.0}/s  missing {}  in flight {}  unknown {}",
                now.saturating_duration_since(ledger.start()).as_secs_f64(),
                per_second(ledger.acked - self.acked),
                per_second(ledger.receipts - self.receipts),
                ledger.missing(),
                self.shared.in_flight.get(),
                ledger.unknown,
            );
            self.printed = now;
            self.acked = ledger.acked;
            self.receipts = ledger.receipts;
        }
    }
}

/// Tells when standard input is closed. A thread of its own, because reading it cannot be given up.
fn watch_stdin() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut octets = [0; 256];
        let mut stdin = std::io::stdin().lock();
        while stdin.read(&mut octets).is_ok_and(|count| count > 0) {}
        // Nobody listens any more once the run is over.
        let _ = sender.send(());
    });
    receiver
}

async fn closed(stdin: &mut Option<oneshot::Receiver<()>>) {
    match stdin {
        Some(receiver) => {
            // An error means that the thread is gone, which is the end of standard input, too.
            let _ = receiver.await;
            *stdin = None;
        }
        None => std::future::pending().await,
    }
}
