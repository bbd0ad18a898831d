//! The guard: a small process that takes the address back when the daemon cannot.
//!
//! The daemon starts it from its own binary and tells it, before it adds an address, which one it is, for which term,
//! and until when the lease lasts. From then on the guard hears of every extension before the daemon counts on it.
//! When the daemon dies (the kernel tells, and none of its threads can act any more; or the socket between them closes)
//! or stands still (the deadline passes without another), the guard takes the address off, destroys its sockets, makes
//! sure of both, and only then shows the peers the release certificate. It runs no runtime and lives in a session of its
//! own, so that what stops the daemon does not stop it.
//!
//! It also holds the sockets of the sessions, so that the daemon's death alone ends no connection (see [`keep`]).

pub mod keep;
mod kept;
mod notice;
mod parent;
mod process;
mod protocol;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use smsc_raft::leadership::MonoTime;
use socket2::Socket;

use super::error::HaError;
use parent::Parent;
use protocol::{Channel, FromGuard, Received, SocketChannel, ToGuard};

pub use process::guard_main;
pub(super) use protocol::Claim;

/// Starting a process takes milliseconds; a machine under load gets some more.
pub(super) const START_WITHIN: Duration = Duration::from_secs(3);
/// The same while an address is held: less than the kernel keeps one, which the replacing thread has to renew.
pub(super) const REPLACE_WITHIN: Duration = Duration::from_secs(1);
/// A guard that has not answered for so long stands still. A machine under load makes it late by less.
const PONG_TIMEOUT: Duration = Duration::from_secs(2);
/// The guard answers in microseconds; if it does not in this time it is replaced.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a guard with nothing to do may take to end after the daemon let go of it.
const END_TIMEOUT: Duration = Duration::from_millis(300);

/// How the guard is started.
#[derive(Clone, Debug)]
pub struct GuardCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments, after which the program calls [`guard_main`].
    pub args: Vec<OsString>,
}

impl GuardCommand {
    /// The running program itself with the argument `guard`, and the very file it runs from even if an upgrade has
    /// put another in its place: both ends must speak the same words.
    #[must_use]
    pub fn this_program() -> Self {
        Self { program: "/proc/self/exe".into(), args: vec!["guard".into()] }
    }
}

/// A running guard, seen from the daemon. Dropping it lets it go: with nothing claimed it ends.
#[derive(Debug)]
pub struct Guard {
    child: Mutex<Child>,
    channel: Channel,
    /// By which it is handed the sockets of sessions.
    sockets: Arc<SocketChannel>,
    gone: AtomicBool,
    /// When the first ping without an answer was sent, CLOCK_MONOTONIC nanoseconds, or [`NONE`].
    pinged_at: AtomicU64,
    /// The last term whose addresses it said it took away, or [`NONE`].
    taken: AtomicU64,
    /// Outlives it.
    _parent: Parent,
}

const NONE: u64 = 0;

impl Guard {
    /// Starts a guard and waits until it is ready, some milliseconds, at most `within`.
    ///
    /// # Errors
    /// [`HaError::Guard`] if it does not start or does not answer.
    pub fn spawn(command: &GuardCommand, within: Duration) -> Result<Self, HaError> {
        let failed = |source| HaError::Guard { what: "could not be started", source };
        let pair = || {
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|errno| failed(errno.into()))
        };
        let ((ours, theirs), (sockets, their_sockets)) = (pair()?, pair()?);
        // What it has to say to people goes to standard error.
        let mut program = Command::new(&command.program);
        program.args(&command.args).stdin(Stdio::from(theirs)).stdout(Stdio::from(their_sockets));
        let (child, parent) = parent::spawn(program).map_err(failed)?;
        let guard = Self {
            child: Mutex::new(child),
            channel: Channel::new(Socket::from(ours)),
            sockets: Arc::new(SocketChannel::new(Socket::from(sockets))),
            gone: AtomicBool::new(false),
            pinged_at: AtomicU64::new(NONE),
            taken: AtomicU64::new(NONE),
            _parent: parent,
        };
        match guard.answer(within, |message| matches!(message, FromGuard::Ready)) {
            Ok(()) => Ok(guard),
            Err(source) => {
                guard.put_down();
                Err(failed(source))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// By which it is handed the sockets of sessions.
    pub(super) fn sockets(&self) -> Arc<SocketChannel> {
        Arc::clone(&self.sockets)
    }

    /// Whether it was lost: ended by someone, or given up because it no longer listened.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        if !self.gone.load(Ordering::Acquire) {
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            if !matches!(child.try_wait(), Ok(None)) {
                self.gone.store(true, Ordering::Release);
            }
        }
        self.gone.load(Ordering::Acquire)
    }

    /// Hands over the claim and waits until the guard stands ready to undo it.
    pub(super) fn arm(&self, claim: &Claim) -> Result<(), HaError> {
        let term = claim.term;
        self.channel
            .send(&ToGuard::Claimed(claim.clone()))
            .and_then(|()| {
                self.answer(
                    ANSWER_TIMEOUT,
                    |message| matches!(message, FromGuard::Armed { term: armed } if *armed == term),
                )
            })
            .map_err(|source| {
                self.put_down();
                HaError::Guard { what: "did not take over the watch", source }
            })
    }

    /// Tells it a new deadline. A guard that cannot take it in is ended at once: it would act on an old one.
    pub(super) fn extend(&self, term: u64, deadline: MonoTime) {
        if self.gone.load(Ordering::Acquire) {
            return;
        }
        if self.channel.send(&ToGuard::Extended { term, deadline_ns: deadline.as_nanos() }).is_err() {
            self.put_down();
        }
    }

    /// Tells it that the daemon itself has taken the address down, and waits for its word that it lets go.
    pub(super) fn stand_down(&self, term: u64) -> Result<(), HaError> {
        self.channel
            .send(&ToGuard::Released { term })
            .and_then(|()| {
                self.answer(
                    ANSWER_TIMEOUT,
                    |message| matches!(message, FromGuard::StoodDown { term: over } if *over == term),
                )
            })
            .map_err(|source| {
                self.put_down();
                HaError::Guard { what: "did not stand down", source }
            })
    }

    /// Tells it whom the certificate of `term` is for.
    pub(super) fn tell_peers(&self, term: u64, peers: &[std::net::SocketAddr]) {
        if self.channel.send(&ToGuard::Peers { term, peers: peers.to_vec() }).is_err() {
            self.put_down();
        }
    }

    /// Whether it is there and answers; asks it once more. One that stands still is ended, because it would not act,
    /// or act on an old deadline when it comes to.
    pub(super) fn is_well(&self) -> bool {
        if self.is_gone() {
            return false;
        }
        self.hear();
        let now = MonoTime::now();
        match self.pinged_at.load(Ordering::Acquire) {
            NONE => {
                self.pinged_at.store(now.as_nanos(), Ordering::Release);
                if self.channel.send(&ToGuard::Ping).is_ok() {
                    return true;
                }
            }
            since if now.since(MonoTime::from_nanos(since)) < PONG_TIMEOUT => return true,
            _ => {}
        }
        self.put_down();
        false
    }

    /// Whether the guard has said that it took the addresses of `term` away.
    pub(super) fn has_taken(&self, term: u64) -> bool {
        self.hear();
        self.taken.load(Ordering::Acquire) == term
    }

    /// Takes note of everything it has said.
    fn hear(&self) {
        while let Ok(Received::Message(message)) = self.channel.receive::<FromGuard>(Duration::ZERO) {
            self.note(&message);
        }
    }

    fn note(&self, message: &FromGuard) {
        match message {
            FromGuard::Removed { term } => self.taken.store(*term, Ordering::Release),
            FromGuard::Pong => self.pinged_at.store(NONE, Ordering::Release),
            FromGuard::Ready | FromGuard::Armed { .. } | FromGuard::StoodDown { .. } => {}
        }
    }

    fn answer(&self, timeout: Duration, wanted: impl Fn(&FromGuard) -> bool) -> io::Result<()> {
        let deadline = MonoTime::now() + timeout;
        loop {
            match self.channel.receive::<FromGuard>(deadline.since(MonoTime::now()))? {
                Received::Message(message) => {
                    self.note(&message);
                    if wanted(&message) {
                        return Ok(());
                    }
                }
                Received::Nothing if MonoTime::now() < deadline => {}
                Received::Nothing => return Err(io::ErrorKind::TimedOut.into()),
                Received::Closed => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    fn put_down(&self) {
        self.gone.store(true, Ordering::Release);
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        // Failing means that it has ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.channel.close();
        let deadline = MonoTime::now() + END_TIMEOUT;
        while !self.is_gone() {
            if MonoTime::now() >= deadline {
                self.put_down();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The sockets to the daemon, as the guard's process finds them: its standard input, and its standard output for the
/// sockets of sessions.
fn inherited_channels() -> io::Result<(Channel, SocketChannel)> {
    Ok((Channel::new(inherited(io::stdin())?), SocketChannel::new(inherited(io::stdout())?)))
}

fn inherited(stream: impl AsFd) -> io::Result<Socket> {
    let fd: OwnedFd = stream.as_fd().try_clone_to_owned()?;
    let socket = Socket::from(fd);
    // Anything but a socket of ours was put there by somebody who started the guard by hand.
    if socket.r#type()? != socket2::Type::SEQPACKET {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(socket)
}
