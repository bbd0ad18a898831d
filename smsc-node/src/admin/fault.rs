//! The failures that a drill brings about: the leader kills or freezes itself.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use smsc_proto::rpc::admin::{FaultRequest, fault_request::Kind};

/// Time for the answer to get out before the failure.
pub(super) const HEADSTART: Duration = Duration::from_millis(50);

/// What was asked for, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process ends at once.
    Kill,
    /// The process stands still for so long.
    Freeze(Duration),
}

impl Fault {
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn of(request: &FaultRequest) -> Result<Self, String> {
        match Kind::try_from(request.kind) {
            Ok(Kind::Kill) => Ok(Fault::Kill),
            Ok(Kind::Freeze) if (100..=60_000).contains(&request.freeze_ms) => {
                Ok(Fault::Freeze(Duration::from_millis(u64::from(request.freeze_ms))))
            }
            Ok(Kind::Freeze) => Err(format!("freeze time {} ms is out of the range 100 to 60000", request.freeze_ms)),
            Err(_) => Err(format!("failure {} is unknown to this version", request.kind)),
        }
    }

    /// Brings the failure about after [`HEADSTART`], on a thread of its own. `program` is this one.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(super) fn strike(self, program: &Path) -> io::Result<()> {
        let program = program.to_owned();
        let body = move || {
            thread::sleep(HEADSTART);
            match self {
                Fault::Kill => {
                    tracing::warn!("a drill kills this process");
                    stop_self(Signal::SIGKILL);
                }
                Fault::Freeze(pause) => freeze(&program, pause),
            }
        };
        thread::Builder::new().name("drill".to_owned()).spawn(body).map(drop)
    }
}

/// Stands still until a child process, started before, wakes this one.
fn freeze(program: &Path, pause: Duration) {
    let waker = Command::new(program)
        .arg("thaw")
        .arg(pause.as_millis().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut waker = match waker {
        Ok(waker) => waker,
        Err(error) => {
            tracing::error!(%error, "the drill is off: the process that would wake this one cannot be started");
            return;
        }
    };
    tracing::warn!(pause_ms = pause.as_millis(), "a drill freezes this process");
    stop_self(Signal::SIGSTOP);
    // It has done its work or never will; either way it ends.
    if let Err(error) = waker.wait() {
        tracing::debug!(%error, "the end of the waking process was not seen");
    }
    tracing::warn!("the freeze of the drill is over");
}

fn stop_self(signal: Signal) {
    // A process may always signal itself.
    if let Err(error) = kill(Pid::this(), signal) {
        tracing::error!(%error, "the drill is off: the signal was refused");
    }
}

/// What `smsc-node thaw MS` does: after the pause it wakes the process that started it, if that is still there.
///
/// # Errors
/// The signal was refused.
pub fn thaw(pause: Duration) -> io::Result<()> {
    let frozen = getppid();
    thread::sleep(pause);
    if getppid() != frozen {
        return Ok(());
    }
    Ok(kill(frozen, Signal::SIGCONT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_has_its_range() {
        let freeze = |freeze_ms| Fault::of(&FaultRequest { kind: Kind::Freeze as i32, freeze_ms });
        assert_eq!(freeze(3000), Ok(Fault::Freeze(Duration::from_secs(3))));
        assert!(freeze(0).is_err() && freeze(60_001).is_err());
        assert_eq!(Fault::of(&FaultRequest { kind: Kind::Kill as i32, freeze_ms: 0 }), Ok(Fault::Kill));
        assert!(Fault::of(&FaultRequest { kind: 7, freeze_ms: 0 }).is_err());
    }
}
