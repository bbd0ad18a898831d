//! The failures that a drill brings about: a node kills, freezes or cuts itself off, stalls its disk, sets its clock.
//! Each that lasts ends by itself, whatever becomes of the one who asked for it.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use smsc_proto::rpc::admin::{FaultRequest, fault_request::Kind};
use smsc_raft::store::Store;

use super::cut::Cut;
use crate::clock;

/// Time for the answer to get out before the failure.
pub(super) const HEADSTART: Duration = Duration::from_millis(50);

/// What was asked for, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The process ends at once.
    Kill,
    /// The process stands still for so long.
    Freeze(Duration),
    /// The host's network is cut off for so long.
    Cut(Duration),
    /// The Raft log is not written for so long.
    DiskStall(Duration),
    /// The wall clock jumps by so many milliseconds.
    ClockStep(i64),
}

/// What a failure needs of the node it befalls.
#[derive(Clone, Debug)]
pub struct Victim {
    /// The program whose `thaw` wakes a frozen node, which is this one: see [`thaw`].
    pub program: PathBuf,
    /// The address towards the peers, whose interface a cut concerns.
    pub peers_ip: IpAddr,
    /// The interfaces of the floating addresses; none where they are not on one.
    pub floating_interfaces: Vec<String>,
}

impl Fault {
    /// # Errors
    /// A sentence for the operator.
    pub(super) fn of(request: &FaultRequest) -> Result<Self, String> {
        let kind =
            Kind::try_from(request.kind).map_err(|_| format!("failure {} is unknown to this version", request.kind))?;
        let lasting = |fault: fn(Duration) -> Fault| match request.freeze_ms {
            ms @ 100..=60_000 => Ok(fault(Duration::from_millis(u64::from(ms)))),
            ms => Err(format!("a failure of {ms} ms is out of the range 100 to 60000")),
        };
        match kind {
            Kind::Kill => Ok(Fault::Kill),
            Kind::Freeze => lasting(Fault::Freeze),
            Kind::Cut => lasting(Fault::Cut),
            Kind::DiskStall => lasting(Fault::DiskStall),
            Kind::ClockStep => Ok(Fault::ClockStep(request.clock_step_ms)),
        }
    }

    /// Brings the failure about after [`HEADSTART`], on a thread of its own.
    ///
    /// # Errors
    /// A sentence for the operator: it cannot be brought about here.
    pub(super) fn strike(self, victim: &Victim, store: &Store) -> Result<(), String> {
        let cut = match self {
            Fault::Cut(_) => Some(Cut::prepare(victim.peers_ip, &victim.floating_interfaces)?),
            _ => None,
        };
        let (program, store) = (victim.program.clone(), store.clone());
        let body = move || {
            thread::sleep(HEADSTART);
            match (self, cut) {
                (Fault::Kill, _) => {
                    tracing::warn!("a drill kills this process");
                    stop_self(Signal::SIGKILL);
                }
                (Fault::Freeze(pause), _) => freeze(&program, pause),
                (Fault::DiskStall(pause), _) => {
                    tracing::warn!(pause_ms = pause.as_millis(), "a drill stalls the disk of the Raft log");
                    store.stall_disk(pause);
                }
                (Fault::ClockStep(by_ms), _) => match clock::step_wall(by_ms) {
                    Ok(()) => tracing::warn!(by_ms, "a drill has set the wall clock"),
                    Err(text) => tracing::error!("the drill is off: {text}"),
                },
                (Fault::Cut(pause), Some(cut)) => cut.strike(pause),
                (Fault::Cut(_), None) => unreachable!("prepared above"),
            }
        };
        let started = thread::Builder::new().name("drill".to_owned()).spawn(body);
        started.map(drop).map_err(|error| format!("the failure cannot be brought about: {error}"))
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
    fn what_lasts_has_its_range() {
        for (kind, fault) in [
            (Kind::Freeze, Fault::Freeze as fn(Duration) -> Fault),
            (Kind::Cut, Fault::Cut),
            (Kind::DiskStall, Fault::DiskStall),
        ] {
            let of = |freeze_ms| Fault::of(&FaultRequest { kind: kind as i32, freeze_ms, ..Default::default() });
            assert_eq!(of(3000), Ok(fault(Duration::from_secs(3))));
            assert!(of(0).is_err() && of(60_001).is_err());
        }
        let of = |kind| Fault::of(&FaultRequest { kind, clock_step_ms: -7, ..Default::default() });
        assert_eq!(of(Kind::Kill as i32), Ok(Fault::Kill));
        assert_eq!(of(Kind::ClockStep as i32), Ok(Fault::ClockStep(-7)));
        assert!(of(7).is_err());
    }
}
