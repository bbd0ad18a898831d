//! The header by which a proxy tells whom it speaks for: PROXY protocol, version 2. Pure.
//!
//! It is read to its last octet and no further, because what follows may be TLS.

use std::net::{IpAddr, SocketAddr};

use ppp::v2::{Addresses, Command, Header, PROTOCOL_PREFIX};
use thiserror::Error;

/// Octets in front of the addresses: signature, version and command, family and protocol, length of the rest.
const MINIMUM_LENGTH: usize = 16;
/// Longest header taken. The addresses need at most 216 octets; the rest is for what proxies add.
const LENGTH_MAX: usize = 2048;

/// Why there is no header. The connection is closed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProxyError {
    /// It does not begin with the protocol's signature.
    #[error("the connection does not begin with a header of PROXY protocol version 2")]
    Signature,
    /// The header claims to be longer than any that is sensible.
    #[error("the header has {0} octets, more than {LENGTH_MAX}")]
    Length(usize),
    /// The header is not well-formed.
    #[error("the header is wrong: {0}")]
    Malformed(String),
    /// It speaks for a datagram or a local socket, not for a TCP connection.
    #[error("the header speaks for no TCP connection")]
    Family,
}

/// A header that is being read.
#[derive(Debug, Default)]
pub struct ProxyHeader {
    octets: Vec<u8>,
}

impl ProxyHeader {
    /// How many octets are missing, at least: read no more than these. Zero once the header is whole.
    ///
    /// # Errors
    /// [`ProxyError::Signature`] as soon as the octets cannot be a header, [`ProxyError::Length`].
    pub fn missing(&self) -> Result<usize, ProxyError> {
        let have = self.octets.len();
        let signature = have.min(PROTOCOL_PREFIX.len());
        if self.octets[..signature] != PROTOCOL_PREFIX[..signature] {
            return Err(ProxyError::Signature);
        }
        if have < MINIMUM_LENGTH {
            return Ok(MINIMUM_LENGTH - have);
        }
        let rest = u16::from_be_bytes([self.octets[MINIMUM_LENGTH - 2], self.octets[MINIMUM_LENGTH - 1]]);
        let length = MINIMUM_LENGTH + usize::from(rest);
        if length > LENGTH_MAX { Err(ProxyError::Length(length)) } else { Ok(length.saturating_sub(have)) }
    }

    /// Adds what was read.
    pub fn push(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Whom the proxy speaks for; `None` if for itself, as in a health check. To be called once nothing is missing.
    ///
    /// # Errors
    /// [`ProxyError`].
    pub fn client(&self) -> Result<Option<SocketAddr>, ProxyError> {
        let header = Header::try_from(self.octets.as_slice());
        let header = header.map_err(|error| ProxyError::Malformed(error.to_string()))?;
        match (header.command, header.addresses) {
            (Command::Local, _) => Ok(None),
            (Command::Proxy, Addresses::IPv4(pair)) => {
                Ok(Some(SocketAddr::new(IpAddr::V4(pair.source_address), pair.source_port)))
            }
            (Command::Proxy, Addresses::IPv6(pair)) => {
                Ok(Some(SocketAddr::new(IpAddr::V6(pair.source_address).to_canonical(), pair.source_port)))
            }
            (Command::Proxy, Addresses::Unspecified | Addresses::Unix(_)) => Err(ProxyError::Family),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Signature, version 2 and command, family and protocol, length; then what is given.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [PROTOCOL_PREFIX, &[command, family], &length, rest].concat()
    }

    /// Reads as a connection would: what is missing, no more.
    fn read(octets: &[u8]) -> Result<(Option<SocketAddr>, usize), ProxyError> {
        let (mut header, mut at) = (ProxyHeader::default(), 0);
        loop {
            match header.missing()? {
                0 => return Ok((header.client()?, at)),
                missing => {
                    // In pieces, as they may come.
                    let piece = missing.min(5).min(octets.len() - at);
                    assert!(piece > 0, "waits for more than there is");
                    header.push(&octets[at..at + piece]);
                    at += piece;
                }
            }
        }
    }

    #[test]
    fn the_client_is_told_and_nothing_behind_the_header_is_read() {
        let v4 = header(0x21, 0x11, &[192, 0, 2, 7, 10, 0, 0, 1, 0x9c, 0xac, 0x0a, 0xd7]);
        let with_more = [v4.as_slice(), b"bind"].concat();
        assert_eq!(read(&with_more), Ok((Some("192.0.2.7:40108".parse().expect("good")), v4.len())));
        let mut rest = vec![0; 36];
        rest[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        rest[15] = 9;
        rest[33] = 99;
        // A proxy may add TLVs behind the addresses.
        rest.extend([0x04, 0, 1, 0]);
        assert_eq!(
            read(&header(0x21, 0x21, &rest)).map(|read| read.0),
            Ok(Some("[2001:db8::9]:99".parse().expect("good")))
        );
    }

    #[test]
    fn a_health_check_speaks_for_nobody() {
        assert_eq!(read(&header(0x20, 0x00, &[])), Ok((None, 16)));
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_octet() {
        assert_eq!(read(b"\x00\x00\x00\x2f"), Err(ProxyError::Signature));
        assert_eq!(read(b"PROXY TCP4 192.0.2.7"), Err(ProxyError::Signature), "that is version 1");
        let mut long = header(0x21, 0x11, &[]);
        long[14] = 0xff;
        assert!(matches!(read(&long), Err(ProxyError::Length(_))));
        assert!(matches!(read(&header(0x21, 0x11, &[1, 2, 3])), Err(ProxyError::Malformed(_))));
        assert!(matches!(read(&header(0x31, 0x11, &[0; 12])), Err(ProxyError::Malformed(_))));
        assert_eq!(read(&header(0x21, 0x00, &[])), Err(ProxyError::Family));
    }
}
