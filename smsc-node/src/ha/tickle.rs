//! Tickle ACKs: how the clients of a lost owner learn at once that their connection is gone.
//!
//! A client that waits for the server would notice the failover at its next enquire_link or retransmission. A bare
//! segment from the floating address makes its kernel answer with an acknowledgement; the new owner knows no such
//! connection and resets it, and the client reconnects. Linux answers such a segment at most every 500 ms, so rounds
//! closer than that have no effect.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::checksum::{self, IPPROTO_TCP};
use super::error::HaError;

/// A raw socket of this protocol is handed whole IP packets (raw(7)).
const IPPROTO_RAW: i32 = 255;
const TTL: u8 = 64;
const FLAG_ACK: u8 = 0x10;
/// Any window does; a small one that is not zero looks like nothing special.
const WINDOW: u16 = 1024;
const TCP_HEADER_LEN: usize = 20;

/// Its thread's nice value, where it may set one. Each client that is told comes back at once: on a busy host hundreds of
/// them would keep the others from being told.
const NICE: i32 = -5;

const ROUNDS: u32 = 4;
const ROUND_GAP: Duration = Duration::from_millis(1_100);

/// The IP packet with a bare ACK from `server` to `client`, sequence and acknowledgement number 0. The two are of one
/// family.
#[must_use]
pub fn segment(server: SocketAddr, client: SocketAddr) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(TCP_HEADER_LEN);
    tcp.extend_from_slice(&server.port().to_be_bytes());
    tcp.extend_from_slice(&client.port().to_be_bytes());
    tcp.extend_from_slice(&[0; 8]);
    tcp.extend_from_slice(&[5 << 4, FLAG_ACK]);
    tcp.extend_from_slice(&WINDOW.to_be_bytes());
    tcp.extend_from_slice(&[0; 4]);
    let sum = checksum::upper_layer(server.ip(), client.ip(), IPPROTO_TCP, &tcp);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());

    let mut packet = match (server.ip(), client.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            // The kernel fills in the identification and the header checksum.
            let mut header = vec![0x45, 0, 0, 40, 0, 0, 0, 0, TTL, IPPROTO_TCP, 0, 0];
            header.extend_from_slice(&from.octets());
            header.extend_from_slice(&to.octets());
            header
        }
        (from, to) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 20, IPPROTO_TCP, TTL];
            for address in [from, to] {
                match address {
                    IpAddr::V4(address) => header.extend_from_slice(&address.to_ipv6_mapped().octets()),
                    IpAddr::V6(address) => header.extend_from_slice(&address.octets()),
                }
            }
            header
        }
    };
    packet.extend_from_slice(&tcp);
    packet
}

/// The raw sockets by which tickles leave.
pub struct Tickler {
    v4: Socket,
    /// Missing where the kernel has no IPv6.
    v6: Option<Socket>,
}

impl Tickler {
    /// Opens the sockets.
    ///
    /// # Errors
    /// [`HaError::Capability`] without CAP_NET_RAW.
    pub fn open() -> Result<Self, HaError> {
        let open = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)));
        let v4 = open(Domain::IPV4).map_err(|error| HaError::kernel("open a raw socket", error))?;
        Ok(Self { v4, v6: open(Domain::IPV6).ok() })
    }

    /// Sends one segment to `client` as if from `server`; microseconds.
    ///
    /// # Errors
    /// The system's: no route to the client, or the two are of different families.
    pub fn tickle(&self, server: SocketAddr, client: SocketAddr) -> io::Result<()> {
        let socket = match (server.ip(), client.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => Some(&self.v4),
            (IpAddr::V6(_), IpAddr::V6(_)) => self.v6.as_ref(),
            _ => None,
        };
        let socket = socket.ok_or(io::ErrorKind::Unsupported)?;
        // A raw socket takes the protocol from the port field, where only 0 fits.
        let destination = SockAddr::from(SocketAddr::new(client.ip(), 0));
        socket.send_to(&segment(server, client), &destination).map(drop)
    }

    /// Tickles every one of `clients` on a thread of its own: at once, then three more rounds 1.1 s apart, leaving
    /// out those that were stopped. Clients of another family than `server` are left out.
    ///
    /// # Errors
    /// The system's, if no thread can be started.
    pub fn run(
        self: &Arc<Self>,
        server: SocketAddr,
        clients: impl IntoIterator<Item = SocketAddr>,
    ) -> io::Result<TickleRun> {
        let waiting: BTreeSet<_> = clients.into_iter().map(canonical).collect();
        let state = Arc::new(RunState { waiting: Mutex::new(waiting), changed: Condvar::new() });
        let (tickler, shared) = (Arc::clone(self), Arc::clone(&state));
        let server = canonical(server);
        thread::Builder::new().name("ha-tickle".to_owned()).spawn(move || tickler.rounds(server, &shared))?;
        Ok(TickleRun { state })
    }

    fn rounds(&self, server: SocketAddr, state: &RunState) {
        // Without CAP_SYS_NICE it waits its turn like others.
        let _ = rustix::process::setpriority_process(None, NICE);
        for round in 1..=ROUNDS {
            let clients: Vec<_> = state.lock().iter().copied().collect();
            let mut failed = 0_usize;
            for client in &clients {
                failed += usize::from(self.tickle(server, *client).is_err());
            }
            tracing::debug!(%server, round, clients = clients.len(), failed, "tickled the clients of the former owner");
            let (waiting, _) = state
                .changed
                .wait_timeout_while(state.lock(), ROUND_GAP, |waiting| !waiting.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            if waiting.is_empty() {
                return;
            }
        }
    }
}

struct RunState {
    waiting: Mutex<BTreeSet<SocketAddr>>,
    changed: Condvar,
}

impl RunState {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<SocketAddr>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tickling under way; dropping it ends it.
pub struct TickleRun {
    state: Arc<RunState>,
}

impl TickleRun {
    /// A run without clients.
    pub(super) fn idle() -> Self {
        Self { state: Arc::new(RunState { waiting: Mutex::new(BTreeSet::new()), changed: Condvar::new() }) }
    }

    /// Sends no more to this client: it has reconnected, or its session is known to be gone.
    pub fn stop(&self, client: SocketAddr) {
        let mut waiting = self.state.lock();
        waiting.remove(&canonical(client));
        if waiting.is_empty() {
            self.state.changed.notify_all();
        }
    }

    /// Sends no more to hosts from which as many connections are bound again as were lost. `bound` counts them by host:
    /// a client comes back from another port, so which of its connections one replaces is not known.
    pub fn came_back(&self, bound: &BTreeMap<IpAddr, usize>) {
        let mut waiting = self.state.lock();
        let mut lost: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for client in waiting.iter() {
            *lost.entry(client.ip()).or_default() += 1;
        }
        waiting.retain(|client| bound.get(&client.ip()).copied().unwrap_or(0) < lost[&client.ip()]);
        if waiting.is_empty() {
            self.state.changed.notify_all();
        }
    }

    /// How many clients have not been stopped.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.state.lock().len()
    }
}

impl Drop for TickleRun {
    fn drop(&mut self) {
        self.state.lock().clear();
        self.state.changed.notify_all();
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_segment_is_a_bare_ack_with_a_good_checksum() {
        let (server, client): (SocketAddr, SocketAddr) =
            ("10.75.0.100:2775".parse().expect("literal"), "10.75.0.4:40000".parse().expect("literal"));
        let packet = segment(server, client);
        assert_eq!(packet.len(), 40);
        assert_eq!(packet[..4], [0x45, 0, 0, 40]);
        assert_eq!(packet[12..20], [10, 75, 0, 100, 10, 75, 0, 4]);
        assert_eq!(packet[20..24], [0x0a, 0xd7, 0x9c, 0x40]);
        assert_eq!(packet[24..34], [0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10]);
        assert_eq!(checksum::upper_layer(server.ip(), client.ip(), IPPROTO_TCP, &packet[20..]), 0);
    }

    #[test]
    fn an_ipv6_segment_has_its_own_header() {
        let (server, client): (SocketAddr, SocketAddr) =
            ("[fd00::64]:2775".parse().expect("literal"), "[fd00::4]:40000".parse().expect("literal"));
        let packet = segment(server, client);
        assert_eq!(packet.len(), 60);
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 20, 6, 64]);
        assert_eq!(checksum::upper_layer(server.ip(), client.ip(), IPPROTO_TCP, &packet[40..]), 0);
    }

    #[test]
    fn a_host_is_left_alone_when_as_many_are_back_as_were_lost() {
        let host = |last: u8| IpAddr::from([10, 75, 0, last]);
        let clients = [(4, 1), (4, 2), (5, 1)].map(|(last, port)| SocketAddr::new(host(last), port));
        let state = Arc::new(RunState { waiting: Mutex::new(BTreeSet::from(clients)), changed: Condvar::new() });
        let run = TickleRun { state };
        run.came_back(&BTreeMap::from([(host(4), 1), (host(6), 9)]));
        assert_eq!(run.waiting(), 3, "one of two may be the other's");
        run.came_back(&BTreeMap::from([(host(4), 2)]));
        assert_eq!(run.waiting(), 1);
        run.came_back(&BTreeMap::from([(host(4), 2), (host(5), 1)]));
        assert_eq!(run.waiting(), 0);
    }

    #[test]
    fn a_client_is_stopped_under_its_mapped_address_too() {
        let client: SocketAddr = "10.75.0.4:40000".parse().expect("literal");
        let state = Arc::new(RunState { waiting: Mutex::new(BTreeSet::from([client])), changed: Condvar::new() });
        let run = TickleRun { state };
        run.stop("[::ffff:10.75.0.4]:40000".parse().expect("literal"));
        assert_eq!(run.waiting(), 0);
    }
}
