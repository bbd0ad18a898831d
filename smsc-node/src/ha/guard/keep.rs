//! The daemon's side of keeping sessions' sockets: what the guard is handed, and what it is told to let go of.
//!
//! When a process dies its kernel ends its connections as soon as its memory is given back. The ESMEs reconnect within a
//! millisecond and meet nobody, because the guard takes the address away just then; what their kernels sent is tried
//! again only after a second. So the guard holds a duplicate of the socket of every session that is in the registry: with
//! the daemon's death nothing leaves, the guard lets the connections vanish without a word once the address is off, and
//! the ESMEs hear of it from the new owner, who listens already when it tells them.
//!
//! A duplicate keeps a connection open that the daemon has closed. Whoever closes one therefore shuts it down first,
//! which takes effect whoever else holds the socket, and the guard is told to let go.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use super::protocol::{OnSocket, SocketChannel};

/// A socket that is open as long as somebody has use for it.
pub type SharedSocket = dyn AsFd + Send + Sync;

/// Keeps sockets open in the guard. Clones are the same one.
///
/// Asking it costs the caller no more than a lock: a thread of its own speaks with the guard, in the order in which it
/// was asked, and waits if the guard is slow.
#[derive(Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

/// A socket that is kept in the guard until this is dropped.
pub struct Kept {
    shared: Arc<Shared>,
    id: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// To the guard that runs now.
    channel: Option<Arc<SocketChannel>>,
    /// What a guard is to hold.
    open: HashMap<u64, Weak<SharedSocket>>,
    to_say: VecDeque<OnSocket>,
    ids_given: u64,
    stopped: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, mut state: MutexGuard<'_, State>, word: OnSocket) {
        state.to_say.push_back(word);
        drop(state);
        self.changed.notify_one();
    }
}

impl Keeper {
    /// Starts the thread that speaks with the guard.
    ///
    /// # Errors
    /// The system's, if no thread can be started.
    pub(in crate::ha) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let keeper = Self { shared: Arc::clone(&shared) };
        thread::Builder::new().name("ha-keep".to_owned()).spawn(move || speak(&shared))?;
        Ok(keeper)
    }

    /// From now on there is this guard, which holds nothing yet: it is handed everything that is to be kept.
    pub(in crate::ha) fn connect(&self, channel: Arc<SocketChannel>) {
        let mut state = self.shared.lock();
        state.channel = Some(channel);
        state.to_say = state.open.keys().map(|id| OnSocket::Keep { id: *id }).collect();
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Ends the thread.
    pub(in crate::ha) fn stop(&self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_one();
    }

    /// Keeps a connected socket open, whatever becomes of this process, until the result is dropped. Whoever closes the
    /// socket shuts it down before.
    #[must_use]
    pub fn keep(&self, socket: Weak<SharedSocket>) -> Kept {
        let mut state = self.shared.lock();
        state.ids_given += 1;
        let id = state.ids_given;
        state.open.insert(id, socket);
        self.shared.say(state, OnSocket::Keep { id });
        Kept { shared: Arc::clone(&self.shared), id }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.open.remove(&self.id);
        self.shared.say(state, OnSocket::LetGo { id: self.id });
    }
}

/// Says everything that is to be said, until the keeper is stopped.
fn speak(shared: &Shared) {
    loop {
        let state = shared.lock();
        let waiting = shared.changed.wait_while(state, |state| state.to_say.is_empty() && !state.stopped);
        let mut state = waiting.unwrap_or_else(PoisonError::into_inner);
        if state.stopped {
            return;
        }
        let word = state.to_say.pop_front();
        let (Some(word), Some(channel)) = (word, state.channel.clone()) else { continue };
        let socket = match word {
            OnSocket::LetGo { .. } => None,
            // One that is closed meanwhile need not be kept.
            OnSocket::Keep { id } => match state.open.get(&id).and_then(Weak::upgrade) {
                Some(socket) => Some(socket),
                None => continue,
            },
        };
        drop(state);
        if let Err(error) = channel.send(word, socket.as_deref().map(AsFd::as_fd)) {
            // A guard that is gone is replaced, and the next one is handed everything again.
            tracing::debug!(%error, ?word, "the guard did not hear of a session's socket");
        }
    }
}
