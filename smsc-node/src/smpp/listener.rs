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

use super::connection::{Connection, Shared, Stop};
use super::ports::{Centre, Receivers};
use super::rate::Buckets;
use crate::clock::Clock;
use crate::config::SmppConfig;
use crate::listen::ListenError;
use crate::metrics::{ConnectionResult, Metrics};

/// The key of the configuration that names the port.
const PORT_KEY: &str = "smpp.listen_port";
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
    /// Port, timers, limits.
    pub config: SmppConfig,
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
    /// Listens on the port of the configuration at each of `addresses`, which this host need not have yet, and serves
    /// what connects. To be called within a tokio runtime, by the leader.
    ///
    /// # Errors
    /// [`ListenError`]: nothing listens then.
    pub fn start(leadership: &Leadership, parts: ServerParts, addresses: &[IpAddr]) -> Result<SmppServer, ListenError> {
        let port = parts.config.listen_port;
        let listeners = addresses
            .iter()
            .map(|address| {
                let address = SocketAddr::new(*address, port);
                listen(address).map_err(|error| ListenError::new(PORT_KEY, address, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let ServerParts { config, node_id, centre, receivers, clock, metrics } = parts;
        let shared = Arc::new(Shared {
            config,
            node_id,
            term: leadership.term,
            centre,
            receivers,
            buckets: Buckets::default(),
            open_requests: AtomicUsize::new(0),
            clock: clock.clone(),
            metrics,
        });
        let (stop, stopped) = watch::channel(Stop::GoOn);
        let open = Arc::new(AtomicUsize::new(0));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, shared.clone(), open.clone(), stopped.clone()));
        }
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
    shared: Arc<Shared>,
    open: Arc<AtomicUsize>,
    mut stop: watch::Receiver<Stop>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let told = stop.clone();
    loop {
        tokio::select! {
            // Ends when the server is asked to stop, and when it is dropped.
            _ = stop.changed() => return connections,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => serve(&mut connections, &shared, &open, &told, stream, peer),
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

fn serve(
    connections: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    open: &Arc<AtomicUsize>,
    stop: &watch::Receiver<Stop>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let metrics = shared.metrics.clone();
    let slot = Slot::take(open.clone(), metrics.clone(), shared.config.connections_max as usize);
    let Some(slot) = slot else {
        metrics.smpp_connections.inc(ConnectionResult::Refused);
        tracing::warn!(%peer, limit = shared.config.connections_max, "too many connections (smpp.connections_max)");
        return;
    };
    let connection = prepare(&stream).and_then(|()| Connection::new(shared.clone(), stream, peer));
    match connection {
        Ok(connection) => {
            metrics.smpp_connections.inc(ConnectionResult::Accepted);
            let stop = stop.clone();
            connections.spawn(async move {
                let _slot = slot;
                connection.run(stop).await;
            });
        }
        // The peer was gone before we looked.
        Err(error) => tracing::debug!(%peer, %error, "connection lost at once"),
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let (idle, interval) = KEEPALIVE;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle).with_interval(interval))
}

/// One of the connections that may be open; given back when dropped.
struct Slot {
    open: Arc<AtomicUsize>,
    metrics: Arc<Metrics>,
}

impl Slot {
    fn take(open: Arc<AtomicUsize>, metrics: Arc<Metrics>, limit: usize) -> Option<Slot> {
        let free = |count: usize| (count < limit).then_some(count + 1);
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok()?;
        metrics.smpp_connections_open.inc();
        Some(Slot { open, metrics })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.smpp_connections_open.dec();
    }
}
