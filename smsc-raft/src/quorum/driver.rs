//! Carries out what the rules of a [`Pair`] ask for, and tells them what happens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;
use openraft::{ChangeMembers, Raft, ServerState};
use smsc_proto::rpc::raft as wire;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::arbiter::Arbiter;
use super::pair::{Contact, Effect, Event, Facts, Leads, Pair, Policy, Record, Refusal, Says, Sole, Standing};
use super::record::{RecordFile, sole_from_wire, sole_to_wire};
use crate::consensus::machine::StateMachine;
use crate::consensus::network::{Link, Loss, PeerWatch, Transport};
use crate::consensus::types::{ARBITER_ID, Member, TypeConfig};
use crate::leadership::MonoTime;

/// The longest that the peer may take to answer; longer ones were asked too long ago to be of use.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// How long a stopping node waits for its peer to take over from it.
const YIELD_WITHIN: Duration = Duration::from_secs(1);
/// How often a node that goes on alone and is not elected stands again.
const STAND_AGAIN: Duration = Duration::from_millis(250);
/// How often a leader of two data nodes tries to add the arbiter that its configuration asks for.
const ADD_ARBITER_EVERY: Duration = Duration::from_secs(5);

/// What decides whether a node may go on alone.
#[tonic::async_trait]
pub trait QuorumDevice: Send + Sync + 'static {
    /// Asks, with retries. Dropped when the answer is not needed any more: whatever was begun must end then.
    ///
    /// # Errors
    /// Why not, a sentence for the operator.
    async fn ask(&self, peer: &DevicePeer) -> Result<(), String>;
}

/// The peer that a device is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePeer {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `host:port` of its gRPC.
    pub addr: String,
}

/// How a data node takes part in a pair.
#[derive(Clone)]
pub struct QuorumConfig {
    /// The device's name in the configuration.
    pub name: &'static str,
    /// Its rules.
    pub policy: Policy,
    /// The device itself; `None` leaves the decision to operators.
    pub device: Option<Arc<dyn QuorumDevice>>,
}

/// The driver's handle.
#[derive(Clone)]
pub(crate) struct Quorum {
    requests: mpsc::Sender<Request>,
    status: watch::Receiver<Option<wire::PairStatus>>,
}

/// Why a node does not go on alone although an operator said so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeoverError {
    /// It is in no pair with an arbiter.
    #[error("node {own_id} has no peer in whose place its arbiter could vote: {reason}")]
    NoPair {
        /// This node.
        own_id: u64,
        /// Why.
        reason: &'static str,
    },
    /// The pair's other node is another.
    #[error("node {asked} is not the peer of node {own_id}; that is node {peer}")]
    OtherPeer {
        /// The node that was named.
        asked: u64,
        /// This node.
        own_id: u64,
        /// Its peer.
        peer: u64,
    },
    /// The rules forbid it.
    #[error("node {own_id} does not go on alone: {refusal}")]
    Refused {
        /// This node.
        own_id: u64,
        /// Why.
        refusal: Refusal,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

enum Request {
    Asked { request: wire::PairRequest, answer: oneshot::Sender<Option<wire::PairResponse>> },
    TakeOver { peer_id: u64, accept_loss: bool, answer: oneshot::Sender<Result<(), TakeoverError>> },
    Stop { done: oneshot::Sender<()> },
}

/// What the tasks beside the driver tell it.
enum Told {
    PeerSaid { asked_at: MonoTime, says: Result<Says, ()> },
    Device { ask: u64, result: Result<(), String> },
    Saved,
}

/// What the driver works with.
pub(crate) struct Parts {
    pub node_id: u64,
    pub config: QuorumConfig,
    pub record: RecordFile,
    pub raft: Raft<TypeConfig, StateMachine>,
    pub transport: Transport,
    pub peers: Arc<PeerWatch>,
    /// How often the peer is asked.
    pub interval: Duration,
    /// Ends the node with a sentence.
    pub fail: Arc<dyn Fn(String) + Send + Sync>,
}

impl Quorum {
    /// Starts the driver on this runtime. It ends with the engine, or when asked to stop.
    pub fn start(parts: Parts) -> Self {
        let (requests, asked) = mpsc::channel(16);
        let (publish, status) = watch::channel(None);
        let (tell, told) = mpsc::channel(16);
        let driver = Driver {
            arbiter: parts.transport.arbiter().clone(),
            record: Arc::new(Mutex::new(parts.record)),
            node_id: parts.node_id,
            config: parts.config,
            raft: parts.raft,
            transport: parts.transport,
            peers: parts.peers,
            interval: parts.interval,
            fail: parts.fail,
            tell,
            publish,
            pair: None,
            asking: None,
            device: None,
            device_said: String::new(),
            lost_since: None,
            stood_at: None,
            adding: None,
            added_at: None,
        };
        tokio::spawn(driver.run(asked, told));
        Self { requests, status }
    }

    /// How this node stands; `None` while it is in no pair with an arbiter.
    pub fn status(&self) -> Option<wire::PairStatus> {
        self.status.borrow().clone()
    }

    /// Answers the peer; `None` if this node is in no pair with it.
    pub async fn asked(&self, request: wire::PairRequest) -> Option<wire::PairResponse> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(Request::Asked { request, answer }).await.ok()?;
        answered.await.ok().flatten()
    }

    /// An operator's word.
    pub async fn take_over(&self, peer_id: u64, accept_loss: bool) -> Result<(), TakeoverError> {
        let (answer, answered) = oneshot::channel();
        let request = Request::TakeOver { peer_id, accept_loss, answer };
        self.requests.send(request).await.map_err(|_| TakeoverError::Stopping)?;
        answered.await.map_err(|_| TakeoverError::Stopping)?
    }

    /// The node stops: leaves everything to the peer if that is possible. The driver ends.
    pub async fn stop(&self) {
        let (done, is_done) = oneshot::channel();
        if self.requests.send(Request::Stop { done }).await.is_ok() {
            // An error means that the driver has ended, which is what is wanted.
            let _ = is_done.await;
        }
    }
}

struct Driver {
    node_id: u64,
    config: QuorumConfig,
    record: Arc<Mutex<RecordFile>>,
    raft: Raft<TypeConfig, StateMachine>,
    transport: Transport,
    peers: Arc<PeerWatch>,
    arbiter: Arbiter,
    interval: Duration,
    fail: Arc<dyn Fn(String) + Send + Sync>,
    tell: mpsc::Sender<Told>,
    publish: watch::Sender<Option<wire::PairStatus>>,
    pair: Option<(Pair, Member)>,
    asking: Option<JoinHandle<()>>,
    device: Option<JoinHandle<()>>,
    device_said: String,
    /// Since when the peer is not connected, by the clock of the rules.
    lost_since: Option<MonoTime>,
    stood_at: Option<Instant>,
    adding: Option<JoinHandle<()>>,
    added_at: Option<Instant>,
}

impl Driver {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, mut told: mpsc::Receiver<Told>) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut server = self.raft.server_metrics();
        let mut peers = self.peers.subscribe();
        loop {
            if self.follow_membership().await.is_err() {
                break;
            }
            let went_on = tokio::select! {
                Some(told) = told.recv() => self.told(told).await,
                request = requests.recv() => match request {
                    None => break,
                    Some(Request::Stop { done }) => {
                        self.stop().await;
                        // Whoever waits may have been given up on.
                        let _ = done.send(());
                        break;
                    }
                    Some(request) => self.requested(request).await,
                },
                changed = server.changed() => if changed.is_err() { break } else { Ok(()) },
                // The watch lives as long as the store.
                _ = peers.changed() => Ok(()),
                _ = ticks.tick() => { self.ask_peer(); Ok(()) }
            };
            if went_on.is_err() || self.look().await.is_err() {
                break;
            }
        }
        self.arbiter.set(false);
        for task in [self.asking, self.device, self.adding].into_iter().flatten() {
            task.abort();
        }
    }

    /// Starts or ends being a pair as the membership says, and has the arbiter added where the configuration asks for
    /// it.
    async fn follow_membership(&mut self) -> Result<(), ()> {
        let (members, leads) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.membership_config.clone(), metrics.state == ServerState::Leader)
        };
        let membership = members.membership();
        let voters = membership.voter_ids().collect::<Vec<_>>();
        let with_arbiter = voters.contains(&ARBITER_ID);
        let mut others = voters.iter().filter(|id| **id != self.node_id && **id != ARBITER_ID);
        let peer = match (others.next(), others.next()) {
            (Some(id), None) if voters.contains(&self.node_id) => membership.get_node(id).map(|member| (*id, member)),
            _ => None,
        };
        let peer = peer.filter(|(_, member)| !member.witness);
        match (peer, with_arbiter) {
            (Some((id, member)), true) => {
                let known = self.pair.as_ref().is_some_and(|(pair, known)| pair.peer_id() == id && known == member);
                if !known {
                    let record = self.record.lock().unwrap_or_else(PoisonError::into_inner).record();
                    let (pair, effects) =
                        Pair::start(self.config.policy.clone(), self.node_id, id, record, boot_time());
                    self.pair = Some((pair, member.clone()));
                    self.lost_since = Some(boot_time());
                    tracing::info!(peer = %member.name, device = self.config.name, ?record, "one of a pair");
                    self.carry_out(effects).await?;
                }
            }
            (peer, _) => {
                if self.pair.take().is_some() {
                    tracing::info!("no longer one of a pair with an arbiter");
                    self.arbiter.set(false);
                    self.arbiter.trust_peer(true);
                    self.publish.send_replace(None);
                    self.drop_device();
                }
                // With other voters Raft alone decides, and what was acknowledged is on a majority of them.
                let sole = self.record.lock().unwrap_or_else(PoisonError::into_inner).record() != Record::Shared;
                if sole && voters.contains(&self.node_id) && !with_arbiter && leads {
                    self.save(Record::Shared).await?;
                }
                if peer.is_some() && leads && !with_arbiter && voters.len() == 2 {
                    self.add_arbiter();
                }
            }
        }
        Ok(())
    }

    fn add_arbiter(&mut self) {
        let under_way = self.adding.as_ref().is_some_and(|task| !task.is_finished());
        if under_way || self.added_at.is_some_and(|at| at.elapsed() < ADD_ARBITER_EVERY) {
            return;
        }
        self.added_at = Some(Instant::now());
        let raft = self.raft.clone();
        self.adding = Some(tokio::spawn(async move {
            let arbiter = ChangeMembers::AddVoters([(ARBITER_ID, Member::arbiter())].into());
            match raft.change_membership(arbiter, false).await {
                Ok(_) => tracing::info!("the pair has an arbiter now"),
                Err(error) => tracing::warn!(%error, "the pair's arbiter could not be added yet"),
            }
        }));
    }

    /// What is the case now. `Err` when the engine has stopped.
    async fn facts(&mut self) -> Result<Option<Facts>, ()> {
        let Some((pair, _)) = &self.pair else { return Ok(None) };
        let peer_id = pair.peer_id();
        // Handled by the engine after everything that the arbiter has answered so far.
        let (term, last_log_index) = self
            .raft
            .with_raft_state(|state| {
                let last = state.log_ids.last().map_or(0, |id| id.index);
                (state.vote_ref().leader_id.term, last)
            })
            .await
            .map_err(drop)?;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let agreed = metrics.vote.committed && metrics.vote.leader_id.term == term;
        let leads = match (agreed, metrics.state, metrics.vote.leader_id.node_id) {
            (true, ServerState::Leader, _) => Leads::Me,
            (true, ServerState::Follower, id) if id == peer_id => Leads::Peer,
            _ => Leads::Nobody,
        };
        let matched = metrics.replication.iter().flatten().find(|(id, _)| **id == peer_id);
        let facts = Facts {
            term,
            leads,
            settled: leads != Leads::Nobody && metrics.last_applied.is_some_and(|id| id.leader_id.term == term),
            last_log_index,
            peer_matched: matched.and_then(|(_, id)| id.as_ref()).map_or(0, |id| id.index),
            peer: self.contact(peer_id),
        };
        Ok(Some(facts))
    }

    fn contact(&mut self, peer_id: u64) -> Contact {
        let peers = self.peers.subscribe();
        let link = peers.borrow().get(&peer_id).map(|state| state.link.clone());
        let (connected, closed, lost_for) = match link {
            Some(Link::Connected { .. }) => (true, false, Duration::ZERO),
            Some(Link::Lost { at, cause }) => (false, matches!(cause, Loss::Closed(_)), at.elapsed()),
            Some(Link::Connecting) | None => (false, false, Duration::ZERO),
        };
        if connected {
            self.lost_since = None;
            return Contact::Connected;
        }
        let now = boot_time();
        let lost = u64::try_from(lost_for.as_nanos()).unwrap_or(u64::MAX);
        let since = *self.lost_since.get_or_insert(MonoTime::from_nanos(now.as_nanos().saturating_sub(lost)));
        Contact::Lost { since, closed }
    }

    async fn look(&mut self) -> Result<(), ()> {
        self.event(Event::Look).await?;
        self.stand_again().await?;
        self.publish();
        Ok(())
    }

    async fn event(&mut self, event: Event) -> Result<(), ()> {
        let Some(facts) = self.facts().await? else { return Ok(()) };
        let Some((pair, _)) = &mut self.pair else { return Ok(()) };
        let before = pair.standing();
        let effects = pair.handle(boot_time(), event, &facts);
        self.report(before);
        self.carry_out(effects).await
    }

    fn report(&self, before: Standing) {
        let Some((pair, member)) = &self.pair else { return };
        match (before, pair.standing()) {
            (Standing::Outdated(_), Standing::InSync { .. }) | (Standing::Sole(_), Standing::InSync { .. }) => {
                tracing::info!(peer = %member.name, "in sync with the peer");
            }
            (Standing::InSync { .. } | Standing::Sole(_), Standing::Outdated(why)) => {
                tracing::warn!(peer = %member.name, "may not go on alone: {}", why.sentence());
            }
            (Standing::Outdated(_) | Standing::InSync { .. }, Standing::Sole(sole)) => {
                tracing::warn!(peer = %member.name, ?sole, "going on alone");
            }
            _ => {}
        }
    }

    async fn carry_out(&mut self, effects: Vec<Effect>) -> Result<(), ()> {
        self.arbiter.trust_peer(self.pair.as_ref().is_none_or(|(pair, _)| pair.trusts_peer()));
        for effect in effects {
            match effect {
                Effect::Arbiter(answers) => {
                    self.arbiter.set(answers);
                    tracing::info!(answers, "arbiter");
                }
                Effect::Save(record) => self.save_then_tell(record),
                Effect::AskDevice { ask } => self.ask_device(ask),
                Effect::DropDevice => self.drop_device(),
                Effect::GoOnAlone => self.go_on_alone().await?,
                Effect::Split(other) => {
                    (self.fail)(format!(
                        "this node and its peer have both gone on alone (the peer since term {} and entry {}): what this \
                         one has accepted since then is not on the peer. Keep its data directory aside for recovery, then \
                         start it with an empty one and have it join",
                        other.since_term, other.since_index
                    ));
                    return Err(());
                }
            }
        }
        Ok(())
    }

    fn save_then_tell(&self, record: Record) {
        let (file, tell, fail) = (self.record.clone(), self.tell.clone(), self.fail.clone());
        tokio::spawn(async move {
            match tokio::task::spawn_blocking(move || write(&file, record)).await {
                // The driver may have ended.
                Ok(Ok(())) => drop(tell.send(Told::Saved).await),
                Ok(Err(error)) => fail(format!("what the node knows of its peer cannot be written: {error}")),
                Err(error) => fail(format!("writing what the node knows of its peer ended badly: {error}")),
            }
        });
    }

    async fn save(&self, record: Record) -> Result<(), ()> {
        let file = self.record.clone();
        match tokio::task::spawn_blocking(move || write(&file, record)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                (self.fail)(format!("what the node knows of its peer cannot be written: {error}"));
                Err(())
            }
            Err(_) => Err(()),
        }
    }

    fn ask_device(&mut self, ask: u64) {
        let (Some(device), Some((pair, member))) = (self.config.device.clone(), &self.pair) else { return };
        let peer = DevicePeer { id: pair.peer_id(), name: member.name.clone(), addr: member.addr.clone() };
        tracing::warn!(peer = %member.name, device = self.config.name, "the peer is lost: asking the quorum device");
        let tell = self.tell.clone();
        self.device = Some(tokio::spawn(async move {
            let result = device.ask(&peer).await;
            // The driver may have ended.
            let _ = tell.send(Told::Device { ask, result }).await;
        }));
    }

    fn drop_device(&mut self) {
        if let Some(task) = self.device.take() {
            task.abort();
        }
    }

    fn ask_peer(&mut self) {
        let Some((pair, member)) = &self.pair else { return };
        if self.lost_since.is_some() || self.asking.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let request = self.request(false);
        let (transport, tell) = (self.transport.clone(), self.tell.clone());
        let (peer_id, member, own_id) = (pair.peer_id(), member.clone(), self.node_id);
        self.asking = Some(tokio::spawn(async move {
            let asked_at = boot_time();
            let answer = transport.pair(peer_id, &member, request, ANSWER_WITHIN).await;
            let says = answer.map(|answer| says(&answer, own_id, peer_id)).map_err(drop);
            // The driver may have ended.
            let _ = tell.send(Told::PeerSaid { asked_at, says }).await;
        }));
    }

    fn request(&self, yields: bool) -> wire::PairRequest {
        let starts = self.record.lock().unwrap_or_else(PoisonError::into_inner).starts();
        wire::PairRequest { node_id: self.node_id, starts, yields }
    }

    async fn told(&mut self, told: Told) -> Result<(), ()> {
        match told {
            Told::PeerSaid { asked_at, says: Ok(says) } => self.event(Event::PeerSaid { asked_at, says }).await,
            Told::PeerSaid { says: Err(()), .. } => Ok(()),
            Told::Saved => self.event(Event::Saved).await,
            Told::Device { ask, result } => {
                let granted = result.is_ok();
                self.device_said = match result {
                    Ok(()) => format!("the {} device lets this node go on alone", self.config.name),
                    Err(reason) => format!("the {} device does not let this node go on: {reason}", self.config.name),
                };
                tracing::warn!("{}", self.device_said);
                self.event(Event::Device { ask, granted }).await
            }
        }
    }

    async fn requested(&mut self, request: Request) -> Result<(), ()> {
        let facts = self.facts().await?;
        match request {
            Request::Asked { request, answer } => {
                // Whoever asked may have gone.
                let _ = answer.send(self.answer(&request, facts).await?);
            }
            Request::TakeOver { peer_id, accept_loss, answer } => {
                let result = self.take_over(peer_id, accept_loss, facts).await?;
                // Whoever asked may have gone.
                let _ = answer.send(result);
            }
            Request::Stop { .. } => {}
        }
        Ok(())
    }

    async fn answer(
        &mut self,
        request: &wire::PairRequest,
        facts: Option<Facts>,
    ) -> Result<Option<wire::PairResponse>, ()> {
        let (Some(facts), Some((pair, _))) = (facts, &mut self.pair) else { return Ok(None) };
        if pair.peer_id() != request.node_id {
            return Ok(None);
        }
        let before = pair.standing();
        let (mut refused, mut effects) = (String::new(), Vec::new());
        if request.yields {
            match pair.peer_yields(&facts, request.starts) {
                Ok(taken) => effects = taken,
                Err(refusal) => refused = refusal.to_string(),
            }
        }
        let Some(says) = pair.answer(&facts, request.starts) else { return Ok(None) };
        let leader_id = match says.leads {
            Leads::Me => self.node_id,
            Leads::Peer => request.node_id,
            Leads::Nobody => 0,
        };
        self.report(before);
        self.carry_out(effects).await?;
        let (sole, you_hold_all) = (says.sole.map(sole_to_wire), says.you_hold_all);
        Ok(Some(wire::PairResponse { term: says.term, leader_id, sole, you_hold_all, refused }))
    }

    async fn take_over(
        &mut self,
        peer_id: u64,
        accept_loss: bool,
        facts: Option<Facts>,
    ) -> Result<Result<(), TakeoverError>, ()> {
        let own_id = self.node_id;
        let (Some(facts), Some((pair, _))) = (facts, &mut self.pair) else {
            let reason = "its cluster is not a pair of data nodes with an arbiter; a witness needs no such word";
            return Ok(Err(TakeoverError::NoPair { own_id, reason }));
        };
        let peer = pair.peer_id();
        if peer != peer_id {
            return Ok(Err(TakeoverError::OtherPeer { asked: peer_id, own_id, peer }));
        }
        let before = pair.standing();
        match pair.take_over(boot_time(), &facts, accept_loss) {
            Ok(effects) => {
                tracing::warn!(peer_id, accept_loss, "an operator says that the peer is down");
                self.report(before);
                self.carry_out(effects).await?;
                Ok(Ok(()))
            }
            Err(refusal) => Ok(Err(TakeoverError::Refused { own_id, refusal })),
        }
    }

    /// Leaves everything to the peer, if it can take it up.
    async fn stop(&mut self) {
        self.drop_device();
        let (request, connected) = (self.request(true), self.lost_since.is_none());
        let Some((pair, member)) = &mut self.pair else { return };
        if !connected || !pair.stop() {
            return;
        }
        match self.transport.pair(pair.peer_id(), member, request, YIELD_WITHIN).await {
            Ok(answer) if answer.refused.is_empty() => tracing::info!(peer = %member.name, "the peer goes on alone"),
            Ok(answer) => tracing::warn!(peer = %member.name, reason = answer.refused, "the peer does not go on alone"),
            Err(error) => tracing::warn!(%error, "the peer did not hear that this node stops"),
        }
    }

    /// Has the arbiter asked at once: by the replication that waits for it, or in an election.
    async fn go_on_alone(&mut self) -> Result<(), ()> {
        self.stood_at = Some(Instant::now());
        self.raft.trigger().reset_backoff([ARBITER_ID]).await.map_err(drop)?;
        let (state, vote) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.state, metrics.vote)
        };
        if state == ServerState::Leader {
            return self.raft.trigger().heartbeat().await.map_err(drop);
        }
        if vote.committed && vote.leader_id.node_id != self.node_id {
            // As in a transfer of leadership, because the lease of a leader that is gone need not be waited out.
            let last_log = self.raft.with_raft_state(|state| state.log_ids.last().copied()).await.map_err(drop)?;
            let request = TransferLeaderRequest::new(vote, self.node_id, last_log);
            if let Ok(()) = self.raft.handle_transfer_leader(request).await.map_err(drop)? {
                return Ok(());
            }
        }
        self.raft.trigger().elect(false).await.map_err(drop)
    }

    /// An election may fail once, as when the log was still on its way to the disk.
    async fn stand_again(&mut self) -> Result<(), ()> {
        let sole = self.pair.as_ref().is_some_and(|(pair, _)| pair.arbiter());
        if !sole || self.lost_since.is_none() || self.stood_at.is_some_and(|at| at.elapsed() < STAND_AGAIN) {
            return Ok(());
        }
        let leads = self.raft.server_metrics().borrow_watched().state == ServerState::Leader;
        if leads { Ok(()) } else { self.go_on_alone().await }
    }

    fn publish(&self) {
        let Some((pair, _)) = &self.pair else { return };
        let standing = pair.standing();
        let at_ms = self.record.lock().unwrap_or_else(PoisonError::into_inner).sole_at_ms();
        let sole = |sole: Sole| wire::Sole { at_ms, ..sole_to_wire(sole) };
        let lost = self.lost_since.is_some();
        let status = wire::PairStatus {
            standing: match standing {
                Standing::Outdated(_) => wire::pair_status::Standing::Outdated,
                Standing::InSync { .. } => wire::pair_status::Standing::InSync,
                Standing::Sole(_) => wire::pair_status::Standing::Sole,
            }
            .into(),
            device: self.config.name.to_owned(),
            armed: pair.arbiter(),
            sole: if let Standing::Sole(since) = standing { Some(sole(since)) } else { None },
            note: match standing {
                Standing::Outdated(why) => why.sentence().to_owned(),
                Standing::InSync { .. } if lost => self.device_said.clone(),
                _ => String::new(),
            },
            left_ms: match standing {
                Standing::InSync { until } => u64::try_from(until.since(boot_time()).as_millis()).unwrap_or(u64::MAX),
                _ => 0,
            },
            asking: pair.asks_device(),
        };
        self.publish.send_if_modified(|published| {
            let changed = published.as_ref() != Some(&status);
            *published = Some(status);
            changed
        });
    }
}

fn write(file: &Mutex<RecordFile>, record: Record) -> std::io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    file.lock().unwrap_or_else(PoisonError::into_inner).save(record, at_ms)
}

fn says(answer: &wire::PairResponse, own_id: u64, peer_id: u64) -> Says {
    Says {
        term: answer.term,
        leads: match answer.leader_id {
            id if id == peer_id => Leads::Me,
            id if id == own_id => Leads::Peer,
            _ => Leads::Nobody,
        },
        sole: answer.sole.as_ref().map(sole_from_wire),
        you_hold_all: answer.you_hold_all,
    }
}

/// The clock of the rules: unlike the monotonic one it does not stand still while the host sleeps.
fn boot_time() -> MonoTime {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .expect("Linux has had CLOCK_BOOTTIME since before any kernel this runs on");
    let nanos = Duration::new(u64::try_from(now.tv_sec()).unwrap_or(0), u32::try_from(now.tv_nsec()).unwrap_or(0));
    MonoTime::from_nanos(u64::try_from(nanos.as_nanos()).unwrap_or(u64::MAX))
}
