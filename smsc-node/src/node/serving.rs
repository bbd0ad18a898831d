//! What runs while this node leads and holds the addresses: delivery, and the SMPP server in front.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use smsc_raft::leadership::Leadership;
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::{Command, Message, MessageState, QueueKind, Submission, command::Op};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::{ProposeError, Store};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::housekeeping;
use super::peer::NodeState;
use crate::clock::{Clock as _, SystemClock};
use crate::delivery::driver::{Delivery, DeliveryParts, TableSource};
use crate::delivery::ends::Ends;
use crate::delivery::pace::Pace;
use crate::ha::IpHold;
use crate::ha::tickle::TickleRun;
use crate::link::{LinkParts, Links};
use crate::listen::ListenError;
use crate::smpp::listener::{Newcomers, Ports, QuietPorts, Records, ServerParts, SmppServer};
use crate::smpp::ports::{Between, Centre, Directory, Done, Found, Waiting};
use crate::smpp::query;

/// How long an earlier leader on this host (a laptop's cluster) may take to close its listener, and how often it is
/// looked whether it has.
const PORT_WAIT: Duration = Duration::from_secs(3);
/// See [`PORT_WAIT`].
const PORT_RETRY: Duration = Duration::from_millis(2);

/// How often it is looked which ESMEs of the leader before are back; the rounds in which they are told are a second
/// apart.
const RETURNS_LOOK: Duration = Duration::from_millis(250);
/// How long ESMEs are told: all rounds.
const TELLING: Duration = Duration::from_secs(6);

/// See the [module](self).
pub(super) struct Serving {
    server: SmppServer,
    delivery: Delivery,
    links: Links,
    housekeeping: JoinHandle<()>,
    /// Owns the tickling, which ends with it.
    telling: JoinHandle<()>,
}

impl Serving {
    /// Starts to serve and to deliver.
    pub(super) fn start(state: Arc<NodeState>, leadership: Leadership, hold: &IpHold, ports: Ports) -> Self {
        let config = state.config.smpp.clone().expect("a data node has an SMPP server");
        let (ends, pace) = (Arc::new(Ends::default()), Arc::new(Pace::default()));
        let table: TableSource = {
            let state = state.clone();
            Arc::new(move || state.table())
        };
        let (events, link_events) = mpsc::unbounded_channel();
        let links = Links::start(LinkParts {
            store: state.store.clone(),
            leadership: leadership.clone(),
            table: table.clone(),
            metrics: state.metrics.clone(),
            events,
        });
        let delivery = Delivery::start(DeliveryParts {
            ends: ends.clone(),
            pace: pace.clone(),
            store: state.store.clone(),
            leadership: leadership.clone(),
            metrics: state.metrics.clone(),
            table,
            links: links.clone(),
            link_events,
        });
        let parts = ServerParts {
            config,
            node_id: state.config.node_id,
            centre: Arc::new(StoreCentre { state: state.clone(), ends, pace, links: links.clone() }),
            receivers: Arc::new(delivery.clone()),
            clock: Arc::new(SystemClock),
            keeper: state.floating.as_ref().and_then(|floating| floating.keeper()),
            metrics: state.metrics.clone(),
        };
        let server = SmppServer::start(&leadership, parts, ports);
        let tickles = tickle(&state.store, leadership.term, hold, server.addresses());
        let telling = tokio::spawn(watch_returns(state.store.clone(), leadership.term, tickles));
        let housekeeping = tokio::spawn(housekeeping::lead(state, leadership.term));
        Self { server, delivery, links, housekeeping, telling }
    }

    /// Ends the deliveries that are under way, for which it takes at most `within`. Submissions are still taken.
    pub(super) async fn settle(&self, within: Duration) {
        self.housekeeping.abort();
        if !self.delivery.settle(within).await {
            tracing::info!("some deliveries are still under way; they are made again by whoever leads next");
        }
    }

    /// Takes no more submissions and answers those that were taken, for which it takes at most `within`, while the
    /// sessions stay.
    pub(super) async fn quiesce(&self, newcomers: Newcomers, within: Duration) {
        if !self.server.quiesce(newcomers, within).await {
            tracing::info!("some submissions are not answered; they are unknown to their ESMEs");
        }
    }

    /// Lets sessions answer what is in flight and unbind, for at most `grace`, and ends delivery.
    pub(super) async fn unbind(self, grace: Duration, records: Records) -> QuietPorts {
        self.housekeeping.abort();
        self.telling.abort();
        let (ports, ()) = tokio::join!(self.server.stop(grace, records), self.links.stop(grace));
        self.delivery.stop().await;
        ports
    }

    /// The same, and closes the ports.
    pub(super) async fn stop(self, grace: Duration) {
        drop(self.unbind(grace, Records::Close).await);
    }

    /// Closes everything at once: another node may be about to serve.
    pub(super) async fn abort(self) {
        self.stop(Duration::ZERO).await;
    }
}

/// Listens at the floating addresses, waiting for an earlier leader on the same host to let go of the port.
///
/// # Errors
/// The SMPP port cannot be listened on.
pub(super) async fn listen(state: &NodeState, leadership: &Leadership) -> Result<Ports, ListenError> {
    let floating = state.config.floating_ip.as_ref().expect("a witness never serves");
    let config = state.config.smpp.as_ref().expect("a data node has an SMPP server");
    let addresses = floating.addresses.iter().map(|floating| floating.net.addr).collect::<Vec<_>>();
    let deadline = tokio::time::Instant::now() + PORT_WAIT;
    loop {
        match Ports::open(config, state.certificates.as_ref(), &addresses) {
            Err(ListenError::Busy { .. }) if leadership.valid_now() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(PORT_RETRY).await;
            }
            result => return result,
        }
    }
}

/// Makes the ESMEs that an earlier leader served come back now instead of at their next enquire_link.
fn tickle(store: &Store, term: u64, hold: &IpHold, servers: &[SocketAddr]) -> Vec<TickleRun> {
    let left = store.read(|machine| {
        let left = machine.sessions().filter(|session| session.term < term);
        Ok(left.map(|session| (session.local.clone(), session.peer.clone())).collect::<Vec<_>>())
    });
    let left = left.unwrap_or_default();
    let mut runs = Vec::new();
    for server in servers.iter().copied() {
        let clients = left.iter().filter(|(local, _)| local.parse() == Ok(server));
        let clients = clients.filter_map(|(_, peer)| peer.parse().ok()).collect::<Vec<SocketAddr>>();
        if clients.is_empty() {
            continue;
        }
        tracing::info!(%server, clients = clients.len(), "telling the ESMEs of the leader before");
        match hold.tickle(server, clients) {
            Ok(run) => runs.push(run),
            Err(error) => tracing::warn!(%error, "ESMEs are not told; they notice at their next enquire_link"),
        }
    }
    runs
}

/// Calls the tickling of each host off as its ESMEs are back, until all are or the last round is over.
async fn watch_returns(store: Store, term: u64, tickles: Vec<TickleRun>) {
    let over = tokio::time::Instant::now() + TELLING;
    while tickles.iter().any(|run| run.waiting() > 0) && tokio::time::Instant::now() < over {
        tokio::time::sleep(RETURNS_LOOK).await;
        let peers = store.read(|machine| {
            let back = machine.sessions().filter(|session| session.term >= term);
            Ok(back.filter_map(|session| session.peer.parse::<SocketAddr>().ok()).collect::<Vec<_>>())
        });
        let mut bound: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for peer in peers.unwrap_or_default() {
            *bound.entry(peer.ip().to_canonical()).or_default() += 1;
        }
        for run in &tickles {
            run.came_back(&bound);
        }
    }
}

/// The store as the SMPP server asks it.
struct StoreCentre {
    state: Arc<NodeState>,
    ends: Arc<Ends>,
    pace: Arc<Pace>,
    links: Links,
}

/// The end of a message that another message centre has cancelled; whether it is that end.
async fn called_back(state: &NodeState, ends: &Ends, message: &Message) -> bool {
    let finish = query::deletion(message, &state.directory(), SystemClock.wall());
    match state.store.propose(Op::Finish(finish)).await {
        Ok(outcome @ Outcome::Finished { .. }) => {
            ends.tell(&outcome);
            true
        }
        // Its receipt was here first.
        Ok(Outcome::AlreadyFinal(record)) => record.state() == MessageState::Deleted,
        // The receipt will tell whoever leads.
        Ok(_) | Err(_) => false,
    }
}

fn find(store: &Store, id: u64) -> io::Result<Found> {
    store.read(|machine| {
        if let Some(message) = machine.message(id)? {
            return Ok(Found::Waiting(message));
        }
        Ok(machine.final_record(id)?.map_or(Found::Unknown, |record| Found::Final(Box::new(record))))
    })
}

impl Centre for StoreCentre {
    fn propose_group(&self, commands: Vec<Command>, done: Done) {
        let submits = || commands.iter().any(|command| matches!(command.op, Some(Op::Submit(_))));
        if self.pace.overloaded() && submits() {
            return done(Err(ProposeError::Overloaded));
        }
        self.state.metrics.raft_commands.add(commands.len() as u64);
        let ends = commands.iter().any(|command| matches!(command.op, Some(Op::Finish(_)))).then(|| self.ends.clone());
        let done: Done = match ends {
            None => done,
            Some(ends) => Box::new(move |result| {
                result.iter().flatten().for_each(|outcome| ends.tell(outcome));
                done(result);
            }),
        };
        self.state.store.propose_group(commands, done);
    }

    fn find(&self, id: u64) -> io::Result<Found> {
        find(&self.state.store, id)
    }

    fn addressed(&self, account: &str, between: &Between, from: u64, limit: usize) -> io::Result<Vec<Arc<Message>>> {
        let Between { source, destination, service_type } = between;
        let of_service = |made: &Submission| service_type.is_empty() || made.service_type == *service_type;
        self.state.store.read(|machine| machine.addressed(account, source, destination, from, limit, of_service))
    }

    fn outcome(&self, id: u64, within: Duration) -> Pin<Box<dyn Future<Output = io::Result<Found>> + Send>> {
        let (store, ends) = (self.state.store.clone(), self.ends.clone());
        Box::pin(async move {
            let end = ends.watch(id);
            // It may have come to its end before it was watched.
            if matches!(find(&store, id), Ok(Found::Waiting(_))) {
                // Whether it was told or not: the store knows.
                let _ = tokio::time::timeout(within, end).await;
            }
            find(&store, id)
        })
    }

    fn call_back(&self, messages: Vec<Arc<Message>>) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let (state, ends) = (self.state.clone(), self.ends.clone());
        // All are asked before any is waited for.
        let asked: Vec<_> =
            messages.into_iter().map(|message| (self.links.call_back(message.clone()), message)).collect();
        Box::pin(async move {
            let mut any = false;
            for (answer, message) in asked {
                // A link that has ended tells nothing.
                any |= answer.await.unwrap_or(false) && called_back(&state, &ends, &message).await;
            }
            any
        })
    }

    fn waiting(&self, account: &str, queue: &QueueKey) -> io::Result<Waiting> {
        self.state.store.read(|machine| {
            let in_queue = machine.queue(queue)?.map_or(0, |queue| queue.messages);
            Ok(Waiting { of_account: machine.waiting_of_account(account), in_queue })
        })
    }

    fn directory(&self) -> Arc<Directory> {
        self.state.directory()
    }

    fn load_percent(&self) -> u8 {
        self.state.store.load_percent().max(self.pace.load_percent())
    }

    fn hold_back(&self) -> Duration {
        self.pace.hold_back()
    }

    fn has_messages(&self, account: &str) -> io::Result<bool> {
        let key = QueueKey::new(QueueKind::Esme, account);
        self.state.store.read(|machine| Ok(machine.queue(&key)?.is_some_and(|queue| queue.messages > 0)))
    }
}
