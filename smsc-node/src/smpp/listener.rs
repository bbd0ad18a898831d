//! Accepting connections while this node leads.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use smsc_raft::leadership::Leadership;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};
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
use crate::ha::Keeper;
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
/// How long accepting rests after a failure that would come again at once, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server needs of the node.
#[derive(Clone)]
pub struct ServerParts {
    /// Ports, timers, limits.
    pub config: SmppConfig,
    /// This node.
    pub node_id: u64,
    /// The store.
    pub centre: Arc<dyn Centre>,
    /// Whoever delivers.
    pub receivers: Arc<dyn Receivers>,
    /// The host's clocks.
    pub clock: Arc<dyn Clock>,
    /// Keeps the connections of bound sessions open should this process die, so that their ESMEs hear of it from the
    /// next leader.
    pub keeper: Option<Keeper>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
}

/// The ports, listened on and not served yet: whoever connects waits.
pub struct Ports {
    listeners: Vec<(TcpListener, Option<Arc<Certificates>>)>,
    addresses: Vec<IpAddr>,
}

impl Ports {
    /// Listens on the ports of the configuration at each of `addresses`, which this host need not have yet, on that for
    /// TLS if there are `certificates`. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ListenError`]: nothing listens then.
    pub fn open(
        config: &SmppConfig,
        certificates: Option<&Arc<Certificates>>,
        addresses: &[IpAddr],
    ) -> Result<Ports, ListenError> {
        let mut listeners = Vec::new();
        for address in addresses {
            let ports = [(PORT_KEY, config.listen_port, None)].into_iter();
            let tls = config.tls.as_ref().zip(certificates);
            for (key, port, tls) in ports.chain(tls.map(|(tls, used)| (TLS_PORT_KEY, tls.listen_port, Some(used)))) {
                let address = SocketAddr::new(*address, port);
                let listener = listen(address).map_err(|error| ListenError::new(key, address, error))?;
                listeners.push((listener, tls.cloned()));
            }
        }
        Ok(Ports { listeners, addresses: addresses.to_vec() })
    }
}

/// What becomes of whoever connects while nobody is served any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomers {
    /// They are refused: the ports are closed.
    Refused,
    /// Nobody answers them here, because the successor will: their requests are kept for it.
    Unanswered,
}

/// What becomes of the registry's records of the sessions that a stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Records {
    /// They are closed.
    Close,
    /// They lapse with the term, because another node leads from now on.
    Lapse,
}

/// Ports at which nobody is served any more; closed when dropped.
#[must_use]
pub struct QuietPorts {
    /// Those that do not answer; what was refused is closed already.
    _listeners: Vec<TcpListener>,
}

/// A running server. Dropping it ends all connections at once; [`SmppServer::stop`] lets them settle.
pub struct SmppServer {
    shared: Arc<Shared>,
    stop: watch::Sender<Stop>,
    clock: Arc<dyn Clock>,
    accepting: JoinSet<Accepted>,
    addresses: Vec<SocketAddr>,
}

impl SmppServer {
    /// Serves what connects to the ports, and calls the ESMEs that want to be called. To be called within a tokio runtime,
    /// by the leader.
    pub fn start(leadership: &Leadership, parts: ServerParts, ports: Ports) -> SmppServer {
        let ServerParts { config, node_id, centre, receivers, clock, keeper, metrics } = parts;
        let Ports { listeners, addresses } = ports;
        let bound = listeners.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect();
        let slots = Slots { open: Arc::default(), metrics: metrics.clone(), limit: config.connections_max as usize };
        let shared = Arc::new(Shared {
            config,
            node_id,
            term: leadership.term,
            centre,
            receivers,
            buckets: Buckets::default(),
            newcomers_unanswered: AtomicBool::new(false),
            records_lapse: AtomicBool::new(false),
            rest: Arc::default(),
            outbinds: Outbinds::default(),
            clock: clock.clone(),
            keeper,
            metrics,
        });
        let (stop, stopped) = watch::channel(Stop::GoOn);
        let mut accepting = JoinSet::new();
        for (listener, certificates) in listeners {
            accepting.spawn(accept(listener, certificates, shared.clone(), slots.clone(), stopped.clone()));
        }
        accepting.spawn(outbind::call(shared.clone(), slots, addresses, stopped));
        SmppServer { shared, stop, clock, accepting, addresses: bound }
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Accepts and reads nothing more and answers what was taken, while the sessions stay. Returns whether everything is
    /// answered `within` that time.
    pub async fn quiesce(&self, newcomers: Newcomers, within: Duration) -> bool {
        self.shared.newcomers_unanswered.store(newcomers == Newcomers::Unanswered, Ordering::Release);
        self.stop.send_replace(Stop::Quiesce);
        tokio::time::timeout(within, self.shared.rest.all()).await.is_ok()
    }

    /// Accepts nothing more, lets every session settle what is in flight and unbind, and closes what is left after
    /// `grace`. With no grace all connections are closed at once, as when leadership is lost.
    ///
    /// Ports whose newcomers go unanswered stay so until the result is dropped, which is for when the address is gone.
    pub async fn stop(mut self, grace: Duration, records: Records) -> QuietPorts {
        self.shared.records_lapse.store(records == Records::Lapse, Ordering::Release);
        self.stop.send_replace(Stop::Unbind(self.clock.mono() + grace));
        let mut listeners = Vec::new();
        while let Some(accepted) = self.accepting.join_next().await {
            let Ok(Accepted { mut connections, quiet }) = accepted else { continue };
            listeners.extend(quiet);
            while connections.join_next().await.is_some() {}
        }
        QuietPorts { _listeners: listeners }
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

/// What accepting leaves behind.
pub(super) struct Accepted {
    /// The connections that are still there.
    pub(super) connections: JoinSet<()>,
    /// The listener, if it answers nobody.
    pub(super) quiet: Option<TcpListener>,
}

/// Lets no more requests to connect through to the listener, whose host neither answers nor refuses them then; who was
/// let in already and is not served yet is sent away.
fn turn_quiet(listener: TcpListener) -> Option<TcpListener> {
    /// A filter of one instruction (classic BPF): return 0, which is to drop.
    const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    if let Err(error) = SockRef::from(&listener).attach_filter(&[DROP]) {
        tracing::warn!(%error, "who connects during the handover is refused");
        return None;
    }
    while let Some(Ok(connection)) = listener.accept().now_or_never() {
        drop(connection);
    }
    Some(listener)
}

/// Accepts until the server stops.
async fn accept(
    listener: TcpListener,
    certificates: Option<Arc<Certificates>>,
    shared: Arc<Shared>,
    slots: Slots,
    mut stop: watch::Receiver<Stop>,
) -> Accepted {
    let mut connections = JoinSet::new();
    let told = stop.clone();
    loop {
        tokio::select! {
            // Ends when the server is asked to stop, and when it is dropped.
            _ = stop.changed() => {
                let unanswered = shared.newcomers_unanswered.load(Ordering::Acquire);
                return Accepted { connections, quiet: if unanswered { turn_quiet(listener) } else { None } };
            }
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
