//! What the daemon and its guard say to each other: one JSON value per packet of a local socket pair.
//!
//! Both ends are the same program file at the time the daemon started, so there is no version to agree on.

use std::io::{self, Read};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::Duration;

use nix::sys::socket::MsgFlags;
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
    pub peers: Vec<SocketAddr>,
    /// CLOCK_MONOTONIC nanoseconds.
    pub deadline_ns: u64,
}

impl Claim {
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
