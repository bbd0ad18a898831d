//! The kernel's addresses, links, packet filters and TCP sockets over raw netlink.
//!
//! Blocking and without a runtime: the guard uses it too, and a renewal must not wait for a busy one. The few
//! messages it takes (of rtnetlink(7) for addresses, links, routes and filters; TCPDIAG_GETSOCK and SOCK_DESTROY of
//! sock_diag(7)) are written out here. A process is never started for them: that would cost milliseconds on the way to
//! serving.

mod events;
mod route;
mod sock_diag;
mod tc;

use std::io::{self, Read};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

pub use events::LinkEvents;
pub use route::{AddressEntry, AddressTable, Lifetime, LinkInfo};
pub use sock_diag::SocketTable;
pub use tc::{FilterEntry, FilterTable, Hook};

/// `AF_NETLINK`, `NETLINK_ROUTE` and `NETLINK_SOCK_DIAG` of linux/netlink.h.
const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
const NETLINK_SOCK_DIAG: i32 = 4;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// The kernel fills at most 32 KiB per read of a dump.
const BUFFER_LEN: usize = 64 * 1024;
/// The kernel answers at once; this only keeps a renewal from hanging for ever should it not.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// A dump that raced with a change is asked for again.
const DUMP_ATTEMPTS_MAX: u32 = 5;

/// One netlink socket: request, answers, acknowledgement.
struct NetlinkSocket {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    fn open(protocol: i32) -> io::Result<Self> {
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(protocol)))?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; BUFFER_LEN] })
    }

    /// One change or one look-up: `each` sees the answers before the acknowledgement.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8], mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.exchange(kind, flags | NLM_F_ACK, body, &mut each).map(drop)
    }

    /// A whole table, collected by `parse`; read again if it changed on the way.
    fn dump<T>(
        &mut self,
        kind: u16,
        body: &[u8],
        mut parse: impl FnMut(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_ATTEMPTS_MAX {
            let mut rows = Vec::new();
            let whole = self.exchange(kind, NLM_F_DUMP, body, &mut |kind, body| rows.extend(parse(kind, body)))?;
            if whole {
                return Ok(rows);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "the kernel's table kept changing while it was read"))
    }

    /// Returns whether the answer is consistent (a dump may be interrupted by a change).
    fn exchange(&mut self, kind: u16, flags: u16, body: &[u8], each: &mut dyn FnMut(u16, &[u8])) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER_LEN + body.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "netlink request too long"))?;
        let mut message = Vec::with_capacity(HEADER_LEN + body.len());
        message.extend_from_slice(&length.to_ne_bytes());
        message.extend_from_slice(&kind.to_ne_bytes());
        message.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        message.extend_from_slice(&self.sequence.to_ne_bytes());
        message.extend_from_slice(&0u32.to_ne_bytes());
        message.extend_from_slice(body);
        self.socket.send(&message)?;

        let mut whole = true;
        loop {
            let received = (&self.socket).read(&mut self.buffer)?;
            let mut rest = &self.buffer[..received];
            while let Some((header, body, next)) = split_message(rest) {
                rest = next;
                if header.sequence != self.sequence {
                    continue; // the answer to a request that was given up
                }
                whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.kind {
                    NLMSG_DONE => return Ok(whole),
                    NLMSG_ERROR => {
                        let code = read_i32(body, 0).ok_or_else(malformed)?;
                        return if code == 0 { Ok(whole) } else { Err(io::Error::from_raw_os_error(-code)) };
                    }
                    kind => each(kind, body),
                }
            }
        }
    }
}

struct MessageHeader {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// The first message of a buffer and what follows it; `None` at the end or if the rest is no message.
fn split_message(bytes: &[u8]) -> Option<(MessageHeader, &[u8], &[u8])> {
    let length = usize::try_from(read_u32(bytes, 0)?).ok()?;
    let header = MessageHeader { kind: read_u16(bytes, 4)?, flags: read_u16(bytes, 6)?, sequence: read_u32(bytes, 8)? };
    let body = bytes.get(HEADER_LEN..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((header, body, next))
}

/// The attributes behind a fixed part, as (type, payload); stops at the first malformed one.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(bytes, 0)?);
        let kind = read_u16(bytes, 2)? & 0x3fff; // the upper two bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER)
        let payload = bytes.get(ATTRIBUTE_HEADER_LEN..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload))
    })
}

fn push_attribute(body: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(ATTRIBUTE_HEADER_LEN + payload.len()).expect("our attributes are a few bytes long");
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(payload);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes)
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes)
}

fn read_i32(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed netlink answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_found_again() {
        let mut body = Vec::new();
        push_attribute(&mut body, 3, b"eth0\0");
        push_attribute(&mut body, 8, &7u32.to_ne_bytes());
        assert_eq!(body.len(), 12 + 8);
        let found: Vec<_> = attributes(&body).collect();
        assert_eq!(found, vec![(3, &b"eth0\0"[..]), (8, &7u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn truncated_input_ends_the_walk_instead_of_panicking() {
        let mut body = Vec::new();
        push_attribute(&mut body, 3, b"eth0\0");
        for cut in 0..9 {
            assert_eq!(attributes(&body[..cut]).count(), 0, "cut at {cut}");
            assert!(split_message(&body[..cut]).is_none());
        }
        let lying = [3u8, 0, 1, 0]; // a length shorter than its own header
        assert_eq!(attributes(&lying).count(), 0);
    }
}
