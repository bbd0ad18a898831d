//! What the daemon and its guard say to each other: one JSON value per packet of a local socket pair.
//!
//! Both ends are the same program file at the time the daemon started, so there is no version to agree on.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::MsgFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use smsc_raft::leadership::ReleaseToken;
use socket2::Socket;

use crate::ha::certificate::ReleaseCertificate;
use crate::ha::link::wait_readable;

/// The largest message: a claim with a few hundred peers.
const MESSAGE_LEN_MAX: usize = 64 * 1024;

/// What the guard must undo, and whom it tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::ha) struct Claim {
    pub term: u64,
    pub cluster_id: u64,
    pub node_id: u64,
    pub token: ReleaseToken,
    /// To be removed; empty where holding means listening, which ends with the daemon's process.
    pub addresses: Vec<IpAddr>,
    /// Of each of the addresses.
    pub interfaces: Vec<String>,
    pub peers: Vec<SocketAddr>,
    /// CLOCK_MONOTONIC nanoseconds.
    pub deadline_ns: u64,
}

impl Claim {
    /// Whether a listener of the daemon holds what is claimed: that is there until its process has ended.
    pub(super) fn is_held_by_listening(&self) -> bool {
        self.addresses.is_empty()
    }

    pub(in crate::ha) fn certificate(&self) -> ReleaseCertificate {
        ReleaseCertificate::new(self.cluster_id, self.node_id, self.term, self.token.clone())
    }
}

/// From the daemon.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToGuard {
    /// The address is about to be added.
    Claimed(Claim),
    /// The lease of the term lasts until then.
    Extended { term: u64, deadline_ns: u64 },
    /// Whom the certificate of the term is for, from now on.
    Peers { term: u64, peers: Vec<SocketAddr> },
    /// The daemon took the address down itself.
    Released { term: u64 },
    /// Are you there?
    Ping,
}

/// From the guard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromGuard {
    /// It watches the socket.
    Ready,
    /// It will undo the claim of this term.
    Armed { term: u64 },
    /// It has undone it, because the lease passed.
    Removed { term: u64 },
    /// It has forgotten it.
    StoodDown { term: u64 },
    /// It is there.
    Pong,
}

/// From the daemon, on a channel of its own so that the lease never waits behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum OnSocket {
    /// The socket that comes with this is a session's: hold it.
    Keep { id: u64 },
    /// The session has ended: close it.
    LetGo { id: u64 },
}

/// What a read brought.
#[derive(Debug)]
pub(super) enum Received<T> {
    Message(T),
    /// Nothing came in time.
    Nothing,
    /// The other end is gone.
    Closed,
}

/// One end of the socket pair.
#[derive(Debug)]
pub(super) struct Channel {
    socket: Socket,
}

impl Channel {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket }
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if the other end does not read, `BrokenPipe` if it is gone.
    pub(super) fn send<T: Serialize>(&self, message: &T) -> io::Result<()> {
        let packet = serde_json::to_vec(message)?;
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        self.socket.send_with_flags(&packet, flags.bits()).map(drop)
    }

    /// Waits up to `timeout` for one message.
    ///
    /// # Errors
    /// The system's; a message that does not parse is `InvalidData`.
    pub(super) fn receive<T: DeserializeOwned>(&self, timeout: Duration) -> io::Result<Received<T>> {
        if !wait_readable(&self.socket, timeout)? {
            return Ok(Received::Nothing);
        }
        let mut packet = vec![0; MESSAGE_LEN_MAX];
        match (&self.socket).read(&mut packet) {
            Ok(0) => Ok(Received::Closed),
            Ok(length) => Ok(Received::Message(serde_json::from_slice(&packet[..length])?)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Received::Nothing),
            // The other end died with messages of ours unread.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Received::Closed),
            Err(error) => Err(error),
        }
    }

    /// Lets the other end see the end.
    pub(super) fn close(&self) {
        // Failing means that the other end is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

/// Longest [`OnSocket`].
const WORD_LEN_MAX: usize = 64;

/// One end of the socket pair by which sockets are handed over.
#[derive(Debug)]
pub(in crate::ha) struct SocketChannel {
    socket: Socket,
}

impl SocketChannel {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket }
    }

    /// Lets the other end see the end.
    pub(super) fn close(&self) {
        // Failing means that the other end is gone already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Sends a word, and the socket that it is about; waits while the other end is behind.
    ///
    /// # Errors
    /// `BrokenPipe` if the other end is gone.
    pub(super) fn send(&self, word: OnSocket, about: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let packet = serde_json::to_vec(&word)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let sockets = about.as_slice();
        if !sockets.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(sockets));
        }
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next word and its socket, without waiting. A socket for which this process has no room is left out.
    ///
    /// # Errors
    /// The system's; a word that does not parse is `InvalidData`.
    pub(super) fn receive(&self) -> io::Result<Received<(OnSocket, Option<OwnedFd>)>> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut packet = [0; WORD_LEN_MAX];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let length = match rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut packet)], &mut control, flags)
        {
            Ok(received) => received.bytes,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(Received::Nothing),
            Err(rustix::io::Errno::CONNRESET) => return Ok(Received::Closed),
            Err(error) => return Err(error.into()),
        };
        if length == 0 {
            return Ok(Received::Closed);
        }
        let mut sockets = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
            _ => None,
        });
        let socket = sockets.next().and_then(|mut sockets| sockets.next());
        Ok(Received::Message((serde_json::from_slice(&packet[..length])?, socket)))
    }
}

impl AsFd for SocketChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
