//! The life of the process: its published phase, and the signals that end it.

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Where the process stands in its life. It only ever moves forward; phases may be skipped.
///
/// Not to be mixed up with the node's role in the cluster, which changes to and fro while the process is `Running`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodePhase {
    /// Opening the store, replaying the log. Signal handlers are in place, nothing is served.
    Starting,
    /// Member of the cluster; serves when it leads.
    Running,
    /// Asked to stop: accepts nothing new, settles what is in flight, unbinds, releases the address, hands over
    /// leadership, closes the store, in this order.
    Draining,
    /// All settled; the process is about to exit.
    Stopped,
}

impl NodePhase {
    /// All phases in their order.
    pub const ALL: [NodePhase; 4] = [NodePhase::Starting, NodePhase::Running, NodePhase::Draining, NodePhase::Stopped];

    /// The word used in logs, metrics and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            NodePhase::Starting => "starting",
            NodePhase::Running => "running",
            NodePhase::Draining => "draining",
            NodePhase::Stopped => "stopped",
        }
    }
}

impl fmt::Display for NodePhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Owner of the phase; clones are the same one.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Arc<watch::Sender<NodePhase>>,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: Arc::new(watch::Sender::new(NodePhase::Starting)) }
    }
}

impl Lifecycle {
    /// The phase now.
    #[must_use]
    pub fn phase(&self) -> NodePhase {
        *self.phase.borrow()
    }

    /// Watches the phase. A slow watcher may miss one that was short, but never sees one go back.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<NodePhase> {
        self.phase.subscribe()
    }

    /// Moves on to `next`. Says whether it did: a phase that is reached or passed already is left alone, so that
    /// several causes may ask for the stop.
    pub fn advance(&self, next: NodePhase) -> bool {
        self.phase.send_if_modified(|phase| {
            let forward = next > *phase;
            if forward {
                tracing::info!(from = %phase, to = %next, "phase");
                *phase = next;
            }
            forward
        })
    }

    /// Waits until `phase` is reached or passed.
    pub async fn reached(&self, phase: NodePhase) {
        let mut watcher = self.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = watcher.wait_for(|now| *now >= phase).await;
    }
}

/// Which signal asks for the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM, from a supervisor.
    Terminate,
    /// SIGINT, from a keyboard.
    Interrupt,
}

impl StopSignal {
    /// Exit status of a process that this signal ended, as shells count: 128 plus the signal's number.
    #[must_use]
    pub const fn exit_status(self) -> i32 {
        match self {
            StopSignal::Terminate => 128 + 15,
            StopSignal::Interrupt => 128 + 2,
        }
    }
}

/// Handlers of SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Puts the handlers in place. To be called within a tokio runtime, before `Running` is announced.
    ///
    /// # Errors
    /// What the system said.
    pub fn install() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of them. Cancel safe.
    pub async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}

/// Watches the signals on a thread of its own, so that a busy or stuck runtime does not keep the process from ending.
///
/// The first signal moves `lifecycle` to [`NodePhase::Draining`]; the second ends the process at once with the
/// signal's exit status. Nothing acknowledged is lost by that; the guard drops the floating address.
///
/// # Errors
/// If the handlers or the thread cannot be made.
pub fn watch_signals(lifecycle: Lifecycle) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::install()?
    };
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            let first = signals.next().await;
            tracing::info!(signal = ?first, "stopping; a second signal ends the process at once");
            lifecycle.advance(NodePhase::Draining);
            let second = signals.next().await;
            tracing::warn!(signal = ?second, "ending at once, work in flight is left to the other node");
            std::process::exit(second.exit_status());
        });
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn phases_are_published_in_order_and_never_go_back() {
        let lifecycle = Lifecycle::default();
        let mut watcher = lifecycle.subscribe();
        let mut seen = vec![*watcher.borrow_and_update()];
        for next in NodePhase::ALL {
            let moved = lifecycle.advance(next);
            assert_eq!(moved, next != NodePhase::Starting);
            if moved {
                watcher.changed().await.unwrap();
                seen.push(*watcher.borrow_and_update());
            }
        }
        assert_eq!(seen, NodePhase::ALL);
        for earlier in NodePhase::ALL {
            assert!(!lifecycle.advance(earlier));
            assert_eq!(lifecycle.phase(), NodePhase::Stopped);
        }
    }

    #[tokio::test]
    async fn a_stop_while_starting_skips_running() {
        let lifecycle = Lifecycle::default();
        assert!(lifecycle.advance(NodePhase::Draining));
        assert!(!lifecycle.advance(NodePhase::Running));
        tokio::time::timeout(Duration::from_secs(1), lifecycle.reached(NodePhase::Running)).await.unwrap();
    }

    #[tokio::test]
    async fn the_first_signal_starts_the_drain() {
        let lifecycle = Lifecycle::default();
        watch_signals(lifecycle.clone()).unwrap();
        lifecycle.advance(NodePhase::Running);
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
        tokio::time::timeout(Duration::from_secs(5), lifecycle.reached(NodePhase::Draining)).await.unwrap();
        assert_eq!(lifecycle.phase(), NodePhase::Draining);
    }
}
