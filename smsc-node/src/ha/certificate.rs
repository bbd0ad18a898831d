//! The release certificate: how a peer learns that a lease need not be waited out.
//!
//! The leader tells its peers the hash of a secret, once per term, over the channel they trust. Whoever has made sure
//! that the address is off and its sockets are gone (the guard, or the daemon itself) then shows the secret. A
//! datagram suffices: it proves itself, and losing it costs no more than the rest of the lease.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use smsc_raft::leadership::ReleaseToken;

use super::error::HaError;

const MAGIC: [u8; 4] = *b"SMRC";
const VERSION: u8 = 1;
/// magic 4, version 1, cluster id 8, node id 8, term 8, token 32; numbers in network order.
const CERTIFICATE_LEN: usize = 61;
/// Datagrams get lost; the copies follow each other closely, since they are worth something only at once.
const COPIES: u32 = 3;
const COPY_GAP: Duration = Duration::from_millis(4);

/// Says that `node_id` held the address as leader of `term`, and that the address is off that node now and its
/// sockets are destroyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseCertificate {
    /// The cluster it speaks of; one network may carry several.
    pub cluster_id: u64,
    /// The node that held the address.
    pub node_id: u64,
    /// The term under which it did.
    pub term: u64,
    token: ReleaseToken,
}

impl ReleaseCertificate {
    pub(super) fn new(cluster_id: u64, node_id: u64, term: u64, token: ReleaseToken) -> Self {
        Self { cluster_id, node_id, term, token }
    }

    /// The secret that it shows.
    #[must_use]
    pub fn token(&self) -> &ReleaseToken {
        &self.token
    }

    /// Whether the certificate shows the secret whose hash the leader of its term made known.
    #[must_use]
    pub fn proves(&self, token_hash: &[u8; 32]) -> bool {
        self.token.hash() == *token_hash
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CERTIFICATE_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        for number in [self.cluster_id, self.node_id, self.term] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(self.token.as_bytes());
        bytes
    }

    /// Reads a datagram; `None` if it is not a certificate of a version known here.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != CERTIFICATE_LEN || bytes[..4] != MAGIC || bytes[4] != VERSION {
            return None;
        }
        let number = |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_be_bytes);
        let token = ReleaseToken::from_bytes(bytes[29..].try_into().ok()?);
        Some(Self::new(number(5)?, number(13)?, number(21)?, token))
    }

    /// Sends the certificate to every peer, three copies a few milliseconds apart; blocks about ten milliseconds.
    /// Returns to how many peers at least one copy left: a peer that cannot be reached waits out the lease.
    #[must_use]
    pub fn send_to(&self, peers: &[SocketAddr]) -> usize {
        let datagram = self.encode();
        let v4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
        let v6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
        let mut reached = vec![false; peers.len()];
        for copy in 0..COPIES {
            if copy > 0 {
                std::thread::sleep(COPY_GAP);
            }
            for (peer, reached) in peers.iter().zip(&mut reached) {
                let socket = if peer.is_ipv4() { &v4 } else { &v6 };
                if let Ok(socket) = socket {
                    *reached |= socket.send_to(&datagram, peer).is_ok();
                }
            }
        }
        reached.into_iter().filter(|reached| *reached).count()
    }
}

/// Receives release certificates on a UDP port.
pub struct ReleaseListener {
    socket: tokio::net::UdpSocket,
    address: SocketAddr,
    last: Option<ReleaseCertificate>,
}

impl ReleaseListener {
    /// Listens on `address`.
    ///
    /// # Errors
    /// [`HaError::ReleaseListener`] if the port is taken or the address is not on this host.
    pub async fn bind(address: SocketAddr) -> Result<Self, HaError> {
        let failed = |source| HaError::ReleaseListener { address, source };
        let socket = tokio::net::UdpSocket::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, last: None })
    }

    /// The address listened on, with the port that was chosen if none was given.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The next certificate, whoever sent it; its further copies and anything else on the port are passed over. The
    /// caller compares cluster, node and term with what it knows and asks [`ReleaseCertificate::proves`]. Nothing is
    /// lost if the future is dropped.
    ///
    /// # Errors
    /// [`HaError::ReleaseListener`] if the socket fails.
    pub async fn receive(&mut self) -> Result<ReleaseCertificate, HaError> {
        // One byte more than a certificate, so that a longer datagram is not taken for one.
        let mut buffer = [0; CERTIFICATE_LEN + 1];
        loop {
            let length = match self.socket.recv_from(&mut buffer).await {
                Ok((length, _)) => length,
                // An ICMP error about a datagram sent from this port says nothing about what may still arrive.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(source) => {
                    return Err(HaError::ReleaseListener { address: self.address, source });
                }
            };
            if let Some(certificate) = ReleaseCertificate::decode(&buffer[..length])
                && self.last.as_ref() != Some(&certificate)
            {
                self.last = Some(certificate.clone());
                return Ok(certificate);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use smsc_raft::leadership::release_token_hash;

    use super::*;

    fn certificate(term: u64) -> ReleaseCertificate {
        ReleaseCertificate::new(0x0102, 7, term, ReleaseToken::from_bytes([9; 32]))
    }

    #[test]
    fn a_certificate_reads_back_and_proves_its_own_hash_alone() {
        let certificate = certificate(42);
        assert_eq!(certificate.encode().len(), CERTIFICATE_LEN);
        assert_eq!(ReleaseCertificate::decode(&certificate.encode()), Some(certificate.clone()));
        assert!(certificate.proves(&release_token_hash(&[9; 32])));
        assert!(!certificate.proves(&release_token_hash(&[8; 32])));
        assert!(!certificate.proves(&[9; 32]));
    }

    #[test]
    fn other_lengths_magics_and_versions_are_no_certificates() {
        let good = certificate(1).encode();
        for cut in 0..good.len() {
            assert_eq!(ReleaseCertificate::decode(&good[..cut]), None);
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(ReleaseCertificate::decode(&long), None);
        for at in 0..5 {
            let mut wrong = good.clone();
            wrong[at] ^= 1;
            assert_eq!(ReleaseCertificate::decode(&wrong), None);
        }
    }

    #[tokio::test]
    async fn copies_and_noise_are_passed_over() {
        let mut listener = ReleaseListener::bind("127.0.0.1:0".parse().expect("literal")).await.expect("a free port");
        let to = listener.local_addr();
        let noise = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        noise.send_to(b"hello", to).expect("loopback");
        assert_eq!(certificate(1).send_to(&[to]), 1);
        noise.send_to(&[0; 500], to).expect("loopback");
        assert_eq!(certificate(2).send_to(&[to]), 1);
        assert_eq!(listener.receive().await.expect("sent above").term, 1);
        assert_eq!(listener.receive().await.expect("sent above").term, 2);
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let first = ReleaseListener::bind("127.0.0.1:0".parse().expect("literal")).await.expect("a free port");
        let error = ReleaseListener::bind(first.local_addr()).await.err().expect("the port is taken");
        assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
    }
}
