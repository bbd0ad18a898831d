//! How the guard hears of the daemon's end before it is over.
//!
//! The kernel tells when the thread that started the guard is gone (see [`super::parent`]). That alone proves nothing of
//! the other threads, one of which may just be putting the address back: see [`crate::ending`].

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getppid};

use crate::ending::is_visible;

/// The kernel's word that the thread which started this process is gone.
pub(super) struct DeathNotice {
    signals: SignalFd,
    daemon: Pid,
}

impl DeathNotice {
    /// Asks for it. To be called by the only thread of the process.
    ///
    /// # Errors
    /// The system's; or /proc does not tell of the daemon, which it has to when the notice comes.
    pub(super) fn ask(daemon: Pid) -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGUSR1);
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::USR1))?;
        if !is_visible(daemon) || getppid() != daemon {
            return Err(io::Error::new(io::ErrorKind::NotFound, "/proc does not tell of it"));
        }
        Ok(Self { signals, daemon })
    }

    /// Whether it has come. The same signal from anybody else counts for nothing.
    pub(super) fn has_come(&self) -> bool {
        let mut come = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            come |= i32::try_from(signal.ssi_pid) == Ok(self.daemon.as_raw());
        }
        come
    }
}

impl AsFd for DeathNotice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
