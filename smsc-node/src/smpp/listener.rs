//! Accepting connections while this node leads.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use smsc_raft::leadership::Leadership;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::connection::{Connection, Shared, Stop, Transport};
use super::outbind::{self, Outbinds};
use super::ports::{Centre, Receivers};
use super::rate::Buckets;
use super::tls::Certificates;
use crate::clock::Clock;
use crate::config::SmppConfig;
use crate::listen::ListenError;
use crate::metrics::{ConnectionResult, Metrics};

/// The keys of the configuration that name the ports.
const PORT_KEY: &str = "smpp.listen_port";
/// See [`PORT_KEY`].
const TLS_PORT_KEY: &str = "smpp.tls.listen_port";
/// Connections the kernel keeps for us until we accept them: after a failover all ESMEs come at once.
const BACKLOG: i32 = 4_096;
/// How long sent octets may stay unacknowledged before the kernel gives the connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a connection may be silent before the kernel asks, and how often it asks then.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5));
/// How often it is looked whether everything is answered.
const QUIESCE_LOOK: Duration = Duration::from_millis(1);
/// How long accepting rests after a failure that would come again at once, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server needs of the node.
#[derive(Clone)]
pub struct ServerParts {
    /// Ports, timers, limits.
    pub config: SmppConfig,
    /// What ESMEs are shown at the port for TLS; without it nothing listens there.
    pub certificates: Option<Arc<Certificates>>,
    /// This node.
    pub node_id: u64,
    /// The store.
    pub centre: Arc<dyn Centre>,
    /// Whoever delivers.
    pub receivers: Arc<dyn Receivers>,
    /// The host's clocks.
    pub clock: Arc<dyn Clock>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// A running server. Dropping it ends all connections at once; [`SmppServer::stop`] lets them settle.
pub struct SmppServer {
    shared: Arc<Shared>,
    stop: watch::Sender<Stop>,
    clock: Arc<dyn Clock>,
    accepting: JoinSet<JoinSet<()>>,
    addresses: Vec<SocketAddr>,
}

impl SmppServer {
    /// Listens on the ports of the configuration at each of `addresses`, which this host need not have yet, serves what
    /// connects, and calls the ESMEs that want to be called. To be called within a tokio runtime, by the leader.
    ///
    /// # Errors
    /// [`ListenError`]: nothing listens then.
    pub fn start(leadership: &Leadership, parts: ServerParts, addresses: &[IpAddr]) -> Result<SmppServer, ListenError> {
        let ServerParts { config, certificates, node_id, centre, receivers, clock, metrics } = parts;
        let mut listeners = Vec::new();
        for address in addresses {
            let ports = [(PORT_KEY, config.listen_port, None)].into_iter();
            let tls = config.tls.as_ref().zip(certificates.as_ref());
            for (key, port, tls) in ports.chain(tls.map(|(tls, used)| (TLS_PORT_KEY, tls.listen_port, Some(used)))) {
                let address = SocketAddr::new(*address, port);
                let listener = listen(address).map_err(|error| ListenError::new(key, address, error))?;
                listeners.push((listener, tls.cloned()));
            }
        }
        let bound = listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect();
        let slots = Slots { open: Arc::default(), metrics: metrics.clone(), limit: config.connections_max as usize };
        let shared = Arc::new(Shared {
            config,
            node_id,
            term: leadership.term,
            centre,
            receivers,
            buckets: Buckets::default(),
            open_requests: AtomicUsize::new(0),
            outbinds: Outbinds::default(),
            clock: clock.clone(),
            metrics,
        });
        let (stop, stopped) = watch::channel(Stop::GoOn);
        let mut accepting = JoinSet::new();
        for (listener, certificates) in listeners {
            accepting.spawn(accept(listener, certificates, shared.clone(), slots.clone(), stopped.clone()));
        }
        accepting.spawn(outbind::call(shared.clone(), slots, addresses.to_vec(), stopped));
        let addresses = bound;
        Ok(SmppServer { shared, stop, clock, accepting, addresses })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts and reads nothing more and answers what was taken, while the sessions stay. Returns whether everything is
    /// answered `within` that time.
    pub async fn quiesce(&self, within: Duration) -> bool {
        self.stop.send_replace(Stop::Quiesce);
        let deadline = tokio::time::Instant::now() + within;
        // Connections that have not seen it yet may still take something in: twice in a row shows that none has.
        let mut quiet = 0;
        while quiet < 2 {
            if tokio::time::Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(QUIESCE_LOOK).await;
            quiet = if self.shared.open_requests.load(Ordering::Acquire) == 0 { quiet + 1 } else { 0 };
        }
        true
    }

    /// Accepts nothing more, lets every session settle what is in flight and unbind, and closes what is left after
    /// `grace`. With no grace all connections are closed at once, as when leadership is lost.
    pub async fn stop(mut self, grace: Duration) {
        self.stop.send_replace(Stop::Unbind(self.clock.mono() + grace));
        while let Some(connections) = self.accepting.join_next().await {
            let Ok(mut connections) = connections else { continue };
            while connections.join_next().await.is_some() {}
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // The port is open before the floating address is there, so that the first ESME to come finds it.
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until the server stops; gives back the connections that are still there.
async fn accept(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    shared: Arc<Shared>,
    slots: Slots,
    mut stop: watch::Receiver<Stop>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let told = stop.clone();
    loop {
        tokio::select! {
            // Ends when the server is asked to stop, and when it is dropped.
            _ = stop.changed() => return connections,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => match slots.admit(&shared, stream, peer, certificates.as_deref()) {
                    Ok(Some((slot, connection))) => {
                        let stop = told.clone();
                        connections.spawn(async move {
                            let _slot = slot;
                            connection.run(stop).await;
                        });
                    }
                    Ok(None) => {
                        let limit = shared.config.connections_max;
                        tracing::warn!(%peer, limit, "too many connections (smpp.connections_max)");
                    }
                    // The peer was gone before we looked.
                    Err(error) => tracing::debug!(%peer, %error, "connection lost at once"),
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection at the SMPP port");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection's task failed");
                }
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let (idle, interval) = KEEPALIVE;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval))
}

/// The connections that may be open.
#[derive(Clone)]
pub(super) struct Slots {
    open: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
    limit: usize,
}

impl Slots {
    /// A connection to serve in a place of its own; `None` if there is no place left.
    ///
    /// # Errors
    /// The connection is gone already.
    pub(super) fn admit(
        &self,
        shared: &Arc<Shared>,
        stream: TcpStream,
        peer: SocketAddr,
        certificates: Option<&Certificates>,
    ) -> io::Result<Option<(Slot, Connection)>> {
        let Some(slot) = self.take() else {
            self.metrics.smpp_connections.inc(ConnectionResult::Refused);
            return Ok(None);
        };
        prepare(&stream)?;
        let from = peer.ip().to_canonical();
        let proxied = shared.config.proxy_networks.iter().any(|network| network.contains(&from));
        let transport = Transport::new(stream, certificates.map(Certificates::current), proxied)?;
        let connection = Connection::new(shared.clone(), transport, peer)?;
        self.metrics.smpp_connections.inc(ConnectionResult::Accepted);
        Ok(Some((slot, connection)))
    }

    fn take(&self) -> Option<Slot> {
        let free = |count: usize| (count < self.limit).then_some(count + 1);
        self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        self.metrics.smpp_connections_open.inc();
        Some(Slot { slots: self.clone() })
    }
}

/// One of the connections that may be open; given back when dropped.
pub(super) struct Slot {
    slots: Slots,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.open.fetch_sub(1, Ordering::Relaxed);
        self.slots.metrics.smpp_connections_open.dec();
    }
}
