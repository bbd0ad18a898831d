//! The thread of the daemon that is the guard's parent.
//!
//! The end of a large process takes a tenth of a second (see [`crate::ending`]). The kernel tells a child when the *thread*
//! that started it is gone (prctl(2), `PR_SET_PDEATHSIG`), and the memory goes with the last thread only. So the guard is
//! started by a thread that does nothing else, which the scheduler prefers, and hears of the end as it begins.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Its nice value, where it may set one: it sleeps, and is not to be the last to see that the process ends.
const NICE: i32 = -18;

/// The thread; ends when this is dropped, which the guard takes for the beginning of the daemon's end.
#[derive(Debug)]
pub(super) struct Parent {
    _lives: Sender<()>,
}

/// Starts `command` from a thread that lives as long as the result.
///
/// # Errors
/// The system's, if the thread or the process cannot be started.
pub(super) fn spawn(mut command: Command) -> io::Result<(Child, Parent)> {
    let (say, started) = channel();
    let (lives, until) = channel::<()>();
    thread::Builder::new().name("ha-guard".to_owned()).spawn(move || {
        // Without CAP_SYS_NICE it waits its turn like others.
        let _ = rustix::process::setpriority_process(None, NICE);
        // Whoever asked waits for it.
        let _ = say.send(command.spawn());
        // What was handed to the guard is open in it alone from here on.
        drop(command);
        // Nothing is ever sent: this returns when the other end is dropped.
        let _ = until.recv();
    })?;
    let child = started.recv().map_err(|_| io::Error::other("the thread that starts it has ended"))??;
    Ok((child, Parent { _lives: lives }))
}
