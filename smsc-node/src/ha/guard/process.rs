//! The guard's own process.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal};
use nix::unistd::Pid;
use smsc_raft::leadership::MonoTime;

use super::inherited_channels;
use super::kept::KeptSockets;
use super::notice::DeathNotice;
use super::protocol::{Channel, Claim, FromGuard, Received, ToGuard};
use crate::ending::is_past_acting;
use crate::ha::error::HaError;
use crate::ha::link::wait_any_readable;
use crate::ha::relay::Relay;
use crate::ha::takedown::{Takedown, TakenDown};

/// With nothing claimed there is nothing to wake up for.
const IDLE: Duration = Duration::from_secs(3_600);
/// A takedown that the kernel refused is tried again, until the kernel itself has dropped the address.
const RETRY: Duration = Duration::from_millis(20);
const RETRIES_MAX: u32 = 150;
/// Where holding means listening: how long after the end of its lease a daemon may take to close its listener.
const LISTENER_GRACE: Duration = Duration::from_millis(150);

/// How often it is looked whether a daemon whose end was told can act no more, and for how long. Its socket closes in any
/// case, if it was true.
const DYING_LOOK: Duration = Duration::from_micros(500);
/// See [`DYING_LOOK`].
const DYING_MAX: Duration = Duration::from_secs(2);

/// Its nice value, where it may set one: it sleeps nearly always.
const NICE: i32 = -15;
/// As `ps` shows it; at most 15 bytes.
const PROCESS_NAME: &str = "smsc-guard";
/// The wrong way to start it: by hand (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;

/// What the subcommand `guard` does: watch the daemon on the other end of standard input and, if it dies or stands
/// still with an address claimed, take the address back. Returns when the daemon is gone and all is done.
///
/// `args` are those after the subcommand; there are none.
pub fn guard_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (channel, sockets) = match inherited_channels() {
        Ok(channels) if args.into_iter().next().is_none() => channels,
        _ => {
            say("the guard is started by smsc-node itself, not by hand");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let daemon = nix::unistd::getppid();
    outlive_the_daemon();
    let takedown = match Takedown::open() {
        Ok(takedown) => takedown,
        Err(error) => {
            say(&format!("cannot watch the floating IP: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let notice = DeathNotice::ask(daemon);
    if let Err(error) = &notice {
        say(&format!("cannot hear of the daemon's end before it is over: {error}"));
    }
    stay_in_memory();
    // The time it takes to act is time without an owner. Without CAP_SYS_NICE it waits its turn like others.
    let _ = rustix::process::setpriority_process(None, NICE);
    let kept = KeptSockets::new(sockets);
    let notice = notice.ok();
    GuardProcess { channel, kept, takedown, claim: None, relay: None, daemon, notice, dying_until: None }.run()
}

/// Whatever memory the guard touches stays there: on a host that swaps itself to death it must still act. Only what is
/// touched, because the program's file is a hundred times larger than what the guard uses of it.
fn stay_in_memory() {
    use rustix::mm::{MlockAllFlags, mlockall};
    // Without CAP_IPC_LOCK or room under RLIMIT_MEMLOCK it goes without: a matter of degree.
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
}

/// What stops the daemon (a terminal's Ctrl-C, a supervisor's SIGTERM to the group) must not stop the guard first.
fn outlive_the_daemon() {
    // Only so that `ps` and `top` show what it is; it may have been started by way of /proc/self/exe.
    let _ = std::fs::write("/proc/self/comm", PROCESS_NAME);
    // Failing means that the process leads its group already, as it does when a shell started it.
    let _ = nix::unistd::setsid();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        // SAFETY: ignoring a signal installs no handler, so no code of ours ever runs inside one.
        if let Err(errno) = unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) } {
            say(&format!("cannot ignore {signal}: {errno}"));
        }
    }
}

struct GuardProcess {
    channel: Channel,
    kept: KeptSockets,
    takedown: Takedown,
    claim: Option<Claim>,
    /// From a claim on until it has been used.
    relay: Option<Relay>,
    daemon: Pid,
    notice: Option<DeathNotice>,
    /// The daemon's end was told; until when it is looked for.
    dying_until: Option<MonoTime>,
}

impl GuardProcess {
    fn run(mut self) -> ExitCode {
        if self.tell(&FromGuard::Ready).is_err() {
            return ExitCode::SUCCESS;
        }
        loop {
            let wait = match &self.claim {
                Some(claim) if claim.is_held_by_listening() => {
                    (MonoTime::from_nanos(claim.deadline_ns) + LISTENER_GRACE).since(MonoTime::now())
                }
                Some(claim) => MonoTime::from_nanos(claim.deadline_ns).since(MonoTime::now()),
                None => IDLE,
            };
            if let Err(error) = self.wait(wait) {
                say(&format!("cannot wait for the daemon, taking it for dead: {error}"));
                return self.handle_death();
            }
            // What it has said before it could say no more is read below.
            let is_past_acting = self.is_dying() && is_past_acting(self.daemon);
            match self.channel.receive(Duration::ZERO) {
                Ok(Received::Message(message)) => self.handle(message),
                Ok(Received::Nothing)
                    if is_past_acting && !self.claim.as_ref().is_some_and(Claim::is_held_by_listening) =>
                {
                    return self.handle_death();
                }
                Ok(Received::Nothing) => self.handle_silence(),
                Ok(Received::Closed) => return self.handle_death(),
                Err(error) => {
                    say(&format!("cannot understand the daemon, taking it for dead: {error}"));
                    return self.handle_death();
                }
            }
            self.kept.take_in();
        }
    }

    /// Sleeps until the daemon says something or is gone, for at most `wait`.
    fn wait(&self, wait: Duration) -> io::Result<()> {
        if self.dying_until.is_some() {
            std::thread::sleep(DYING_LOOK);
            return Ok(());
        }
        let notice = self.notice.as_ref().map(DeathNotice::as_fd);
        let ears: Vec<_> = std::iter::once(self.channel.as_fd()).chain(self.kept.ear()).chain(notice).collect();
        wait_any_readable(&ears, wait).map(drop)
    }

    /// Whether the daemon's end was told, lately.
    fn is_dying(&mut self) -> bool {
        let now = MonoTime::now();
        if self.notice.as_ref().is_some_and(DeathNotice::has_come) {
            self.dying_until = Some(now + DYING_MAX);
        }
        self.dying_until = self.dying_until.filter(|until| now < *until);
        self.dying_until.is_some()
    }

    fn handle(&mut self, message: ToGuard) {
        match message {
            ToGuard::Claimed(claim) => {
                let term = claim.term;
                self.claim = Some(claim);
                // A daemon that no longer listens is noticed at the next read.
                let _ = self.tell(&FromGuard::Armed { term });
                self.open_relay();
            }
            ToGuard::Extended { term, deadline_ns } => {
                if let Some(claim) = self.claim.as_mut().filter(|claim| claim.term == term) {
                    claim.deadline_ns = claim.deadline_ns.max(deadline_ns);
                }
            }
            ToGuard::Peers { term, peers } => {
                if let Some(claim) = self.claim.as_mut().filter(|claim| claim.term == term) {
                    claim.peers = peers;
                }
            }
            ToGuard::Released { term } => {
                if self.claim.take_if(|claim| claim.term == term).is_some() {
                    self.kept.let_go();
                }
                let _ = self.tell(&FromGuard::StoodDown { term });
            }
            ToGuard::Ping => {
                let _ = self.tell(&FromGuard::Pong);
            }
        }
    }

    /// Makes what passes on requests to connect ready for when the claim is undone.
    fn open_relay(&mut self) {
        let Some(claim) = self.claim.as_ref().filter(|_| self.relay.is_none()) else { return };
        if claim.is_held_by_listening() {
            return;
        }
        let addresses = claim.addresses.iter().copied().zip(claim.interfaces.iter().map(String::as_str));
        match Relay::open(addresses) {
            Ok(relay) => self.relay = Some(relay),
            Err(error) => say(&format!("who connects while nobody has the address asks again by itself: {error}")),
        }
    }

    /// Passes on who wants to connect since the address is off, for a while, and until the daemon says something if that
    /// lives.
    fn pass_on(&mut self, daemon_lives: bool) {
        if let Some(relay) = self.relay.take() {
            let passed = relay.pass_on(daemon_lives.then(|| self.channel.as_fd()));
            if passed > 0 {
                say(&format!("passed {passed} requests to connect on to the new owner"));
            }
        }
    }

    /// Nothing to read: if the deadline has passed, the daemon stands still. A takedown that failed is gone back to at
    /// the next silence.
    fn handle_silence(&mut self) {
        let now = MonoTime::now().as_nanos();
        // A daemon that lives gives up by itself when its lease ends; ending it is for one that does not.
        let grace = |claim: &Claim| if claim.is_held_by_listening() { as_nanos(LISTENER_GRACE) } else { 0 };
        let Some(claim) = self.claim.take_if(|claim| claim.deadline_ns + grace(claim) <= now) else {
            return;
        };
        let why = "the lease has passed without another";
        if claim.is_held_by_listening() {
            // Holding means listening here, and the daemon's process still does: only its end releases the address.
            // What follows its end is seen at the next read.
            say(&format!("{why} (term {}): ending the daemon, which stands still", claim.term));
            self.claim = Some(claim);
            self.end_the_daemon();
        } else if self.undo(&claim, why) {
            self.pass_on(true);
        } else {
            self.claim = Some(claim);
        }
    }

    /// Kills the process that started this one, unless it is gone and another stands in its place.
    fn end_the_daemon(&mut self) {
        if nix::unistd::getppid() != self.daemon {
            return;
        }
        if let Err(errno) = nix::sys::signal::kill(self.daemon, Signal::SIGKILL) {
            say(&format!("cannot end the daemon: {errno}"));
        }
        if let Some(claim) = self.claim.as_mut() {
            // The kernel needs a moment to close what the daemon had open.
            claim.deadline_ns = (MonoTime::now() + RETRY).as_nanos();
        }
    }

    fn handle_death(mut self) -> ExitCode {
        let Some(claim) = self.claim.take() else { return ExitCode::SUCCESS };
        if !self.undo(&claim, "the daemon is gone") {
            return ExitCode::FAILURE;
        }
        self.pass_on(false);
        ExitCode::SUCCESS
    }

    /// Takes the addresses down and, only if that is certain, tells the daemon (should it come to) and the peers.
    fn undo(&mut self, claim: &Claim, why: &str) -> bool {
        let begun = MonoTime::now();
        let term = claim.term;
        // Who is refused in the moment until the address is off is passed on all the same, which does no harm.
        if let Some(Err(error)) = self.relay.as_ref().map(Relay::listen) {
            say(&format!("who connects while nobody has the address asks again by itself: {error}"));
        }
        match self.take_down(claim) {
            Ok(TakenDown { addresses, sockets }) => {
                let took = MonoTime::now().since(begun);
                self.tell_removed(claim);
                let told = claim.certificate().send_to(&claim.peers);
                say(&format!(
                    "{why}: removed {addresses} addresses and {sockets} connections of term {term} in {took:?}, \
                     told {told} of {} peers",
                    claim.peers.len()
                ));
                true
            }
            Err(error) => {
                say(&format!("{why}, but: {error}; the peers are not told"));
                false
            }
        }
    }

    fn tell_removed(&self, claim: &Claim) {
        // A daemon that is dead, or reads nothing, does not need to know.
        let _ = self.tell(&FromGuard::Removed { term: claim.term });
    }

    fn take_down(&mut self, claim: &Claim) -> Result<TakenDown, HaError> {
        let mut retries = 0;
        loop {
            let took_off = self.takedown.take_off(&claim.addresses);
            let taken_down = took_off.and_then(|addresses| {
                let vanished = self.kept.vanish();
                let TakenDown { sockets, .. } = self.takedown.take_down(&claim.addresses)?;
                Ok(TakenDown { addresses, sockets: sockets + vanished })
            });
            match taken_down {
                Err(_) if retries < RETRIES_MAX => {
                    retries += 1;
                    std::thread::sleep(RETRY);
                }
                result => return result,
            }
        }
    }

    fn tell(&self, message: &FromGuard) -> io::Result<()> {
        self.channel.send(message)
    }
}

fn as_nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// A line on standard error, which is the daemon's; nobody may be reading it any more.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "smsc-node guard: {line}");
}
