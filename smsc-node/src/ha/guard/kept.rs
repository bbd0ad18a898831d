//! The guard's side of keeping sessions' sockets.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};

use super::protocol::{OnSocket, Received, SocketChannel};

/// What is taken in before the lease is looked at again.
const TURN_MAX: usize = 64;

/// The sockets of the daemon's sessions, held so that its death alone ends no connection.
pub(super) struct KeptSockets {
    /// `None` once the daemon's end is closed.
    channel: Option<SocketChannel>,
    sockets: HashMap<u64, OwnedFd>,
}

impl KeptSockets {
    pub(super) fn new(channel: SocketChannel) -> Self {
        // A socket that finds no room is closed by the kernel here, and its session ends with the daemon as all would
        // without this.
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        }
        Self { channel: Some(channel), sockets: HashMap::new() }
    }

    /// Readable when the daemon has said something of a socket.
    pub(super) fn ear(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(AsFd::as_fd)
    }

    /// Takes in what the daemon has said, some of it if it is much. Returns whether there may be more.
    pub(super) fn take_in(&mut self) -> bool {
        for _ in 0..TURN_MAX {
            match self.channel.as_ref().map(SocketChannel::receive) {
                Some(Ok(Received::Message((OnSocket::Keep { id }, Some(socket))))) => {
                    self.sockets.insert(id, socket);
                }
                Some(Ok(Received::Message((OnSocket::LetGo { id }, _)))) => {
                    self.sockets.remove(&id);
                }
                // There was no room for it.
                Some(Ok(Received::Message((OnSocket::Keep { .. }, None)))) => {}
                Some(Ok(Received::Nothing)) | None => return false,
                Some(Ok(Received::Closed) | Err(_)) => {
                    // Standard output is the same socket: a daemon that still speaks must not wait for nobody.
                    if let Some(channel) = self.channel.take() {
                        channel.close();
                    }
                    return false;
                }
            }
        }
        true
    }

    /// Lets the connections vanish: no segment leaves, on neither address family, though the daemon may have them open
    /// yet. For after the address is off. Returns how many there were.
    pub(super) fn vanish(&mut self) -> usize {
        while self.take_in() {}
        let count = self.sockets.len();
        for socket in self.sockets.values() {
            // A socket under repair ends its connection without a word (tcp(7) leaves it out; kernel: tcp_disconnect). If
            // it cannot be, its last segment finds no way without the address.
            if setsockopt(socket, sockopt::TcpRepair, &1).is_ok() {
                // Failing means that the connection is over already, or that somebody waits in a call on the socket:
                // those that are left are destroyed next.
                let _ = rustix::net::connect_unspec(socket);
            }
        }
        self.sockets.clear();
        count
    }

    /// Holds nothing more: the daemon has seen to it that the connections are gone.
    pub(super) fn let_go(&mut self) {
        self.sockets.clear();
    }
}
