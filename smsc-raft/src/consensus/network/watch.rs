//! Notices at once when a peer goes away.
//!
//! A stream to every peer carries nothing but pings. The kernel closes a dead process's connections, so its end shows
//! within a network round trip, long before a heartbeat is missed; a peer that falls silent with its connection open
//! (a frozen host, a cut cable) is lost after a few pings without answer. A leader, whose heartbeats are answered on the
//! same connection, pings only a follower that it has not heard of since the last time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use smsc_proto::rpc::raft::WatchPing;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Member;
use super::link::{Lane, PeerLink};
use super::transport::{Transport, TransportConfig, describe};

/// The pause before a lost peer is tried again; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(20);
/// The longest pause: a peer that is back shows within this.
const RETRY_MAX: Duration = Duration::from_millis(200);

/// A peer as the watch sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Whether it is there.
    pub link: Link,
    /// How often it was lost. A reader who looks seldom sees by it that the peer was away in between.
    pub losses: u64,
}

/// Whether a peer is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not reached yet since the watch began.
    Connecting,
    /// Answering.
    Connected {
        /// Since when.
        since: Instant,
    },
    /// It was connected and is no more.
    Lost {
        /// When that was noticed.
        at: Instant,
        /// How.
        cause: Loss,
    },
}

/// How a peer was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connection was closed: its process has ended or is ending, or something on the way cut it. A strong hint
    /// and no proof. Holds what the transport said.
    Closed(String),
    /// It left this many pings in a row unanswered; it may be alive behind a broken network.
    Silent(u32),
}

type States = BTreeMap<u64, PeerState>;

/// Watches the members of the cluster from the runtime it was started on, until dropped.
pub struct PeerWatch {
    transport: Transport,
    states: Arc<watch::Sender<States>>,
    watched: Mutex<BTreeMap<u64, Watched>>,
}

struct Watched {
    member: Member,
    task: JoinHandle<()>,
}

impl PeerWatch {
    /// A watch over nobody yet.
    pub fn new(transport: Transport) -> Self {
        Self { transport, states: Arc::new(watch::Sender::new(States::new())), watched: Mutex::default() }
    }

    /// Watches these members from now on, but for this node itself, and closes the connections to all others. A
    /// member whose address has changed counts as new. Must be called on the consensus runtime.
    pub fn set_members<'m>(&self, members: impl IntoIterator<Item = (u64, &'m Member)>) {
        let own_id = self.transport.node_id();
        let members: BTreeMap<u64, &Member> = members.into_iter().filter(|(id, _)| *id != own_id).collect();
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.retain(|id, peer| {
            let keep = members.get(id).is_some_and(|member| member.addr == peer.member.addr);
            if !keep {
                peer.task.abort();
                self.states.send_modify(|states| {
                    states.remove(id);
                });
            }
            keep
        });
        self.transport.retain(|id| members.contains_key(&id));
        for (id, member) in members {
            watched.entry(id).or_insert_with(|| {
                let state = PeerState { link: Link::Connecting, losses: 0 };
                self.states.send_modify(|states| {
                    states.insert(id, state);
                });
                let link = self.transport.link(id, member);
                let watcher =
                    Watcher { link, config: self.transport.config().clone(), states: self.states.clone(), sequence: 0 };
                Watched { member: member.clone(), task: tokio::spawn(watcher.run()) }
            });
        }
    }

    /// The state of every watched peer, and a signal whenever one changes.
    pub fn subscribe(&self) -> watch::Receiver<BTreeMap<u64, PeerState>> {
        self.states.subscribe()
    }
}

impl Drop for PeerWatch {
    fn drop(&mut self) {
        for peer in self.watched.lock().unwrap_or_else(PoisonError::into_inner).values() {
            peer.task.abort();
        }
    }
}

struct Watcher {
    link: Arc<PeerLink>,
    config: TransportConfig,
    states: Arc<watch::Sender<States>>,
    sequence: u64,
}

impl Watcher {
    async fn run(mut self) {
        let mut pause = RETRY_MIN;
        // Why the peer cannot be reached, told once per reason and not per attempt.
        let mut told = String::new();
        loop {
            match self.connect().await {
                Ok((pings, answers)) => {
                    tracing::info!(node = self.link.node_id(), addr = self.link.addr(), "peer connected");
                    self.publish(Link::Connected { since: Instant::now() });
                    let link = self.link.clone();
                    tokio::spawn(async move { link.warm().await });
                    let cause = self.follow(pings, answers).await;
                    let at = Instant::now();
                    tracing::warn!(node = self.link.node_id(), addr = self.link.addr(), ?cause, "peer lost");
                    let silent = matches!(cause, Loss::Silent(_));
                    self.publish(Link::Lost { at, cause });
                    if silent {
                        self.link.reset();
                    }
                    pause = RETRY_MIN;
                    told.clear();
                }
                Err(reason) => {
                    if reason != told {
                        tracing::warn!(node = self.link.node_id(), addr = self.link.addr(), reason, "peer not reached");
                        told = reason;
                    }
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    /// Connected means that a first ping came back.
    async fn connect(&mut self) -> Result<(mpsc::Sender<WatchPing>, Streaming<WatchPing>), String> {
        let mut client = self.link.client(Lane::Control).map_err(|e| e.reason)?;
        // More pings than may be missed are never under way.
        let queue = usize::try_from(self.config.pings_missed_max).unwrap_or(usize::MAX).saturating_add(2).min(64);
        let (tx, rx) = mpsc::channel(queue);
        let first = self.next_ping();
        // Fresh and longer than one, the queue has room.
        let _ = tx.try_send(first);
        let connecting = async {
            let mut answers = client.watch(ReceiverStream::new(rx)).await?.into_inner();
            let answered = answers.message().await?;
            Ok::<_, tonic::Status>((answers, answered))
        };
        match timeout(self.config.connect_timeout, connecting).await {
            Ok(Ok((answers, Some(_)))) => Ok((tx, answers)),
            Ok(Ok((_, None))) => Err("it is shutting down".to_owned()),
            Ok(Err(status)) => Err(describe(&status)),
            Err(_) => Err(format!("no answer within {:?}", self.config.connect_timeout)),
        }
    }

    /// Pings until the peer is lost.
    ///
    /// Silence is counted in pings of ours and not in time: if this node itself stood still, one ping is missed and
    /// not the peer.
    async fn follow(&mut self, pings: mpsc::Sender<WatchPing>, mut answers: Streaming<WatchPing>) -> Loss {
        let mut missed = 0;
        let mut heard = self.link.heard();
        let mut ticks = interval(self.config.ping_interval.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                answer = answers.message() => match answer {
                    Ok(Some(_)) => missed = 0,
                    Ok(None) => return Loss::Closed("it is shutting down".to_owned()),
                    Err(status) => return Loss::Closed(describe(&status)),
                },
                _ = ticks.tick() => {
                    let heard_before = std::mem::replace(&mut heard, self.link.heard());
                    if heard != heard_before {
                        missed = 0;
                        continue;
                    }
                    if missed >= self.config.pings_missed_max.max(1) {
                        return Loss::Silent(missed);
                    }
                    missed += 1;
                    let ping = self.next_ping();
                    // A full queue means that earlier ones are still to be sent, which is missed all the same.
                    let _ = pings.try_send(ping);
                }
            }
        }
    }

    fn next_ping(&mut self) -> WatchPing {
        self.sequence += 1;
        WatchPing { sequence: self.sequence }
    }

    fn publish(&self, link: Link) {
        self.states.send_if_modified(|states| {
            // Gone when the member was removed a moment ago.
            let Some(state) = states.get_mut(&self.link.node_id()) else {
                return false;
            };
            if matches!(link, Link::Lost { .. }) {
                state.losses += 1;
            }
            state.link = link;
            true
        });
    }
}
