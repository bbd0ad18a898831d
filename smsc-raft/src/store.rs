//! The one door: what the rest of the node may do with what all nodes agree on.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver as _;
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{Config, Raft, ServerState, SnapshotPolicy};
use smsc_proto::rpc::raft::{PairRequest, PairResponse, PairStatus, PeerStatus};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::service::Routes;
use tonic::transport::Channel;

use crate::consensus::election::{self, ElectionConfig, LogRefusals, ReleaseNotes};
use crate::consensus::machine::{FinalsSink, StateMachine};
use crate::consensus::network::{
    self, Elections, PeerHandler, PeerState, PeerWatch, RaftService, Transport, TransportConfig,
};
use crate::consensus::predecessor::Predecessors;
use crate::consensus::proposer::{Done, Proposer};
use crate::consensus::tls::Security;
use crate::consensus::types::{ARBITER_ID, Member, TypeConfig};
use crate::leadership::{Keeper, KeeperConfig, Leadership};
use crate::machine::{Change, Machine};
use crate::model::{Command, command::Op};
use crate::outcome::Outcome;
use crate::quorum::{Parts, Quorum, QuorumConfig, RecordFile, TakeoverError};
use crate::storage::compaction::Wish;
use crate::storage::log::{LogConfig, LogMetrics, LogMonitor, LogStore};
use crate::storage::snapshot::Inbox;
use crate::storage::threads;

pub use crate::consensus::proposer::ProposeError;

/// Entries kept behind a checkpoint, so that a peer that was away for a moment needs no snapshot.
const LOG_KEEP_ENTRIES: u64 = 4096;

/// How often it is looked whether the message store's file is too large for what it holds, at most, and for how many
/// times the duration of a copy there is no other.
const COMPACT_LOOK: Duration = Duration::from_secs(10);
const COMPACT_REST: u32 = 10;

/// How often it is looked whether a transfer's target has the whole log.
const TRANSFER_LOOK: Duration = Duration::from_millis(1);
/// How often it is looked whether a new member is up to date.
const JOIN_LOOK: Duration = Duration::from_millis(50);
/// A new member votes when it is no more than so many entries behind.
const JOIN_LAG_ENTRIES: u64 = 100;
/// After which time a transfer that was not taken up is asked for again.
const TRANSFER_RETRY: Duration = Duration::from_millis(250);

/// How a node takes part.
pub struct StoreConfig {
    /// This node, 1 to 255.
    pub node_id: u64,
    /// Whether it only votes and keeps.
    pub witness: bool,
    /// Where its log and store lie.
    pub dir: PathBuf,
    /// Where it listens for its peers and for operators.
    pub listen: SocketAddr,
    /// How nodes trust each other.
    pub security: Security,
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Shortest and longest wait before a node stands for election.
    pub election: (Duration, Duration),
    /// How long a leader may act on a quorum's answer; less than the longest election wait.
    pub lease: Duration,
    /// Size of a log segment and of the log's cache, bytes.
    pub log_segment_bytes: u32,
    /// See `log_segment_bytes`.
    pub log_cache_bytes: usize,
    /// Cache of the message store, bytes.
    pub store_cache_bytes: usize,
    /// Changes kept in memory between checkpoints, bytes: a checkpoint is written at half of it, load refused at all.
    pub overlay_bytes: usize,
    /// Longest time between checkpoints.
    pub checkpoint_interval: Duration,
    /// How a data node stands in for its peer's vote where there are two without a witness; `None` on a witness.
    pub quorum: Option<QuorumConfig>,
    /// The wall clock, UTC milliseconds.
    pub clock_ms: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// Why the store could not be opened or asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk, a file or a record.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// The Raft log.
    #[error("{0}")]
    Log(#[from] crate::storage::log::LogError),
    /// The address for peers cannot be listened on.
    #[error("cannot listen on {address} for peers: {source}; is another process using it? (raft.listen)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The engine refused or has stopped.
    #[error("consensus: {0}")]
    Engine(String),
}

/// What a node knows of the cluster at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The current term.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<u64>,
    /// Whether this node is the leader.
    pub leads: bool,
    /// Voting members, without the arbiter.
    pub voters: Vec<u64>,
    /// All members, without the arbiter.
    pub members: BTreeMap<u64, Member>,
    /// Whether the cluster is a pair whose third voter is an arbiter.
    pub arbiter: bool,
    /// Last entry in this node's log.
    pub last_log_index: u64,
    /// Last entry applied.
    pub applied_index: u64,
    /// Last entry on this node's checkpoint.
    pub checkpoint_index: u64,
    /// On a leader: the last entry that each peer is known to have.
    pub replicated: BTreeMap<u64, u64>,
    /// Whether this node has ever been part of a cluster.
    pub initialized: bool,
}

/// Changes of a [`ClusterView`], seen one after the other.
pub struct ViewChanges {
    metrics: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
}

impl ViewChanges {
    /// The next change; never, once the engine has stopped, which [`Store::failure`] tells.
    pub async fn next(&mut self) {
        if self.metrics.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// See the [module](self). Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    node_id: u64,
    witness: bool,
    raft: Raft<TypeConfig, StateMachine>,
    machine: StateMachine,
    proposer: Proposer,
    leadership: watch::Receiver<Option<Leadership>>,
    transport: Transport,
    peers: Arc<PeerWatch>,
    quorum: Option<Quorum>,
    with_arbiter: bool,
    notes: ReleaseNotes,
    refusals: LogRefusals,
    predecessors: Predecessors,
    log: LogMonitor,
    security: Security,
    transport_config: TransportConfig,
    listen: SocketAddr,
    failure: watch::Sender<Option<String>>,
    shutdown: watch::Sender<bool>,
    election_max: Duration,
}

impl Store {
    /// Opens what lies on the disk and starts to take part. Call it on the runtime that is to carry consensus: its
    /// tasks stay there. [`Store::serve`] must follow for peers to reach this node.
    ///
    /// # Errors
    /// The data directory cannot be used or holds what this version cannot read.
    pub async fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let log_config = LogConfig {
            segment_bytes: config.log_segment_bytes,
            cache_bytes: config.log_cache_bytes,
            ..LogConfig::new(config.dir.join("log"))
        };
        let (dir, cache) = (config.dir.clone(), config.store_cache_bytes);
        let pair = config.quorum.is_some();
        let opened = tokio::task::spawn_blocking(move || {
            let record = pair.then(|| RecordFile::open(&dir)).transpose()?;
            let log = LogStore::open(log_config)?;
            Ok::<_, StoreError>((log, StateMachine::open(dir, cache)?, record))
        });
        let (log, machine, record) = opened.await.map_err(|error| StoreError::Engine(error.to_string()))??;
        let monitor = log.monitor();
        let transport_config = TransportConfig::for_heartbeat(config.heartbeat, config.quorum.is_some());
        let transport = Transport::new(config.node_id, config.security.clone(), transport_config.clone());
        let engine = Arc::new(engine_config(&config)?);
        let raft = Raft::new(config.node_id, engine, transport.factory(), log, machine.clone())
            .await
            .map_err(|error| StoreError::Engine(error.to_string()))?;
        let (published, leadership) = watch::channel(None);
        let proposer =
            Proposer::new(machine.clone(), leadership.clone(), config.overlay_bytes, config.clock_ms.clone());
        let peers = Arc::new(PeerWatch::new(transport.clone()));
        let own_answers = transport.own_answers().clone();
        let failure = watch::Sender::new(None);
        let quorum = config.quorum.clone().zip(record).map(|(quorum, record)| {
            let failure = failure.clone();
            Quorum::start(Parts {
                node_id: config.node_id,
                config: quorum,
                record,
                raft: raft.clone(),
                transport: transport.clone(),
                peers: peers.clone(),
                interval: config.heartbeat * 2,
                fail: Arc::new(move |text| fail(&failure, text)),
            })
        });
        let inner = Inner {
            node_id: config.node_id,
            witness: config.witness,
            raft: raft.clone(),
            machine,
            proposer: proposer.clone(),
            leadership,
            peers,
            quorum,
            with_arbiter: config.quorum.is_some(),
            transport,
            notes: ReleaseNotes::default(),
            refusals: LogRefusals::default(),
            predecessors: Predecessors::default(),
            log: monitor,
            security: config.security.clone(),
            transport_config,
            listen: config.listen,
            failure,
            shutdown: watch::Sender::new(false),
            election_max: config.election.1,
        };
        let store = Self { inner: Arc::new(inner) };
        let keeper = KeeperConfig { lease: config.lease, heartbeat: config.heartbeat, serves: !config.witness };
        tokio::spawn(Keeper::new(raft.clone(), keeper, published, own_answers).run());
        tokio::spawn(proposer.run(raft.clone()));
        tokio::spawn(election::watch(
            raft,
            store.inner.log.clone(),
            ElectionConfig {
                node_id: config.node_id,
                lease: config.election.1,
                witness: config.witness,
                witness_patience: config.election.1 * 8,
            },
            store.inner.refusals.clone(),
        ));
        tokio::spawn(store.clone().follow_membership());
        tokio::spawn(store.clone().follow_failures());
        store.start_checkpointer(config.checkpoint_interval, config.overlay_bytes / 2)?;
        Ok(store)
    }

    /// Listens for peers and, through `extra`, for whatever else is served on the same port. Returns once it listens;
    /// serving goes on until [`Store::shutdown`].
    ///
    /// # Errors
    /// [`StoreError::Listen`].
    pub async fn serve(
        &self,
        handler: Arc<dyn PeerHandler>,
        extra: impl FnOnce(Routes) -> Routes,
    ) -> Result<(), StoreError> {
        let inner = &self.inner;
        let service = RaftService::new(
            inner.raft.clone(),
            Inbox(inner.machine.dir().clone()),
            handler,
            Elections {
                refusals: inner.refusals.clone(),
                predecessors: inner.predecessors.clone(),
                lease: inner.election_max,
            },
            inner.shutdown.subscribe(),
        )
        .with_arbiter(inner.transport.arbiter().clone());
        let routes = extra(network::routes(service, &inner.security));
        let incoming = network::incoming(inner.listen)
            .await
            .map_err(|source| StoreError::Listen { address: inner.listen, source })?;
        let this = self.clone();
        tokio::spawn(async move {
            let inner = &this.inner;
            let shutdown = inner.shutdown.subscribe();
            let served = network::serve(incoming, routes, &inner.security, &inner.transport_config, shutdown).await;
            if let Err(error) = served {
                this.fail(format!("serving peers ended: {error}"));
            }
        });
        Ok(())
    }

    /// Proposes one command and waits for its outcome.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, op: Op) -> Result<Outcome, ProposeError> {
        let (tell, told) = oneshot::channel();
        let done = Box::new(move |result: Result<Vec<Outcome>, ProposeError>| {
            // Whoever asked may have gone.
            let _ = tell.send(result);
        });
        self.propose_group(vec![Command { op: Some(op) }], done);
        let outcomes = told.await.map_err(|_| ProposeError::Unknown)??;
        outcomes.into_iter().next().ok_or(ProposeError::Unknown)
    }

    /// Proposes commands, all in one log entry. `done` runs where entries are applied and must be quick.
    pub fn propose_group(&self, commands: Vec<Command>, done: Done) {
        self.inner.proposer.propose_group(commands, done);
    }

    /// Whether new submissions would be refused for overload now.
    pub fn overloaded(&self) -> bool {
        self.inner.proposer.overloaded()
    }

    /// How much of what this node can hold waits to be replicated or written: 0 for idle; at 100 new submissions are
    /// refused.
    pub fn load_percent(&self) -> u8 {
        self.inner.proposer.load_percent()
    }

    /// Commands that wait for their log entry.
    pub fn queued(&self) -> usize {
        self.inner.proposer.queued()
    }

    /// Bytes of memory that changes since the last checkpoint take.
    pub fn overlay_bytes(&self) -> usize {
        self.inner.machine.overlay_bytes()
    }

    /// Bytes of the message store's rows, and of its file.
    pub fn store_bytes(&self) -> (u64, u64) {
        self.inner.machine.store_bytes()
    }

    /// How long the last checkpoint took, microseconds.
    pub fn checkpoint_took_us(&self) -> u64 {
        self.inner.machine.checkpoint_took_us()
    }

    /// `Some` while this node leads: its lease runs and everything acknowledged before is applied.
    pub fn leadership(&self) -> watch::Receiver<Option<Leadership>> {
        self.inner.leadership.clone()
    }

    /// Reads the state. Hold no longer than needed: entries wait to be applied meanwhile.
    ///
    /// # Errors
    /// What `read` returned: the disk failed; the node is stopped then.
    pub fn read<R>(&self, read: impl FnOnce(&Machine) -> io::Result<R>) -> io::Result<R> {
        let result = read(&self.inner.machine.lock());
        if let Err(error) = &result {
            self.fail(format!("reading the message store failed: {error}"));
        }
        result
    }

    /// What is applied from now on. A second call takes over from the first.
    pub fn changes(&self) -> mpsc::UnboundedReceiver<Vec<Change>> {
        let (sink, changes) = mpsc::unbounded_channel();
        self.inner.machine.listen(Some(sink));
        changes
    }

    /// Tells `sink`, where entries are applied, of every final state from now on; it must be quick. `None` ends it.
    pub fn follow_finals(&self, sink: Option<FinalsSink>) {
        self.inner.machine.follow_finals(sink);
    }

    /// This node's view of the cluster.
    pub fn view(&self) -> ClusterView {
        let inner = &self.inner;
        let metrics = inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let replication = metrics.replication.iter().flatten();
        ClusterView {
            term: metrics.current_term,
            leader: metrics.current_leader,
            leads: metrics.state == ServerState::Leader,
            voters: membership.voter_ids().filter(|id| *id != ARBITER_ID).collect(),
            members: machines(membership).map(|(id, member)| (*id, member.clone())).collect(),
            arbiter: membership.voter_ids().any(|id| id == ARBITER_ID),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
            checkpoint_index: inner.machine.checkpoint_index(),
            replicated: replication.map(|(id, log)| (*id, log.as_ref().map_or(0, |log| log.index))).collect(),
            initialized: metrics.last_log_index.is_some(),
        }
    }

    /// Grows whenever accounts, routes, handsets or settings change; cheap to ask.
    pub fn config_version(&self) -> u64 {
        self.inner.machine.config_version()
    }

    /// Tells of every change of role, term, leader or membership from here on, and once at first.
    pub fn view_changes(&self) -> ViewChanges {
        ViewChanges { metrics: self.inner.raft.server_metrics() }
    }

    /// Who answers and who does not.
    pub fn peers(&self) -> watch::Receiver<BTreeMap<u64, PeerState>> {
        self.inner.peers.subscribe()
    }

    /// Asks a member how it sees itself.
    ///
    /// # Errors
    /// It cannot be reached or does not answer in time.
    pub async fn peer_status(
        &self,
        id: u64,
        member: &Member,
        within: Duration,
    ) -> Result<PeerStatus, network::PeerError> {
        self.inner.transport.status(id, member, within).await
    }

    /// A connection to a member, to pass on what an operator asked this node.
    ///
    /// # Errors
    /// The member's address is none.
    pub fn admin_channel(&self, id: u64, member: &Member) -> Result<Channel, network::PeerError> {
        self.inner.transport.admin_channel(id, member)
    }

    /// Who may use the admin service on the peers' port.
    pub fn admin_gate(&self) -> network::Gate {
        network::Gate::admins(&self.inner.security)
    }

    /// The hashes of release tokens that leaders have made known; the node's [`PeerHandler`] feeds it.
    pub fn release_notes(&self) -> &ReleaseNotes {
        &self.inner.notes
    }

    /// Tells every other member the hash of this term's release token. Waits no longer than `within`; a peer that did
    /// not hear waits out the lease when this node dies.
    pub async fn announce_release_hash(&self, leadership: &Leadership, within: Duration) {
        let note = smsc_proto::rpc::raft::LeaderNote {
            term: leadership.term,
            node_id: self.inner.node_id,
            release_token_hash: leadership.lease().release_token_hash().to_vec().into(),
        };
        let members = self.view().members;
        let others = members.iter().filter(|(id, _)| **id != self.inner.node_id);
        let told = others.map(|(id, member)| self.inner.transport.note(*id, member, note.clone(), within));
        for result in futures::future::join_all(told).await {
            if let Err(error) = result {
                tracing::debug!(%error, "a peer did not hear of the release token");
            }
        }
    }

    /// A leader has proven that its address is released: a data node stands for election at once, unless it is that
    /// leader's successor already and claims the address now.
    pub async fn leader_released(&self, node_id: u64, term: u64, token: &[u8; 32]) {
        if self.inner.witness {
            return;
        }
        if !self.inner.notes.proves(node_id, term, token) {
            tracing::warn!(node_id, term, "ignored a release certificate that proves nothing");
            return;
        }
        self.inner.predecessors.released(node_id, term);
        let inner = &self.inner;
        if let Err(error) = election::stand_released(&inner.raft, &inner.log, node_id, term, inner.node_id).await {
            self.fail(error);
        }
    }

    /// Waits until no leader that transferred its leadership can hold the address any more: it has proven so, or its
    /// lease is over. To be awaited before the address is claimed.
    pub async fn predecessors_released(&self) {
        self.inner.predecessors.all_released().await;
    }

    /// Forms a cluster of these members, and of an arbiter if they are two data nodes and this node has a quorum device.
    /// Once in a cluster's life, on one node.
    ///
    /// # Errors
    /// The cluster exists already, or the engine has stopped.
    pub async fn initialize(&self, mut members: BTreeMap<u64, Member>) -> Result<(), StoreError> {
        if self.inner.with_arbiter && members.len() == 2 && members.values().all(|member| !member.witness) {
            members.insert(ARBITER_ID, Member::arbiter());
        }
        self.inner.raft.initialize(members).await.map_err(engine_error)
    }

    /// Adds a member: first it is brought up to date, however long that takes, then it votes, in the place of an arbiter
    /// if there is one. On the leader. Given up meanwhile, it is a member without a vote, and may be added again.
    ///
    /// # Errors
    /// This node does not lead or leads no more, another change is under way, or the new member cannot be reached.
    pub async fn join(&self, id: u64, member: Member) -> Result<(), StoreError> {
        let raft = &self.inner.raft;
        raft.add_learner(id, member, false).await.map_err(engine_error)?;
        // The engine itself calls a learner up to date however far behind it is, because it is to bring every follower up
        // to date by the log if it can.
        loop {
            let view = self.view();
            if !view.leads {
                return Err(StoreError::Engine("this node leads no more; have the new node join again".to_owned()));
            }
            if view.replicated.get(&id).is_some_and(|index| index + JOIN_LAG_ENTRIES >= view.last_log_index) {
                break;
            }
            tokio::time::sleep(JOIN_LOOK).await;
        }
        let mut voters = self.view().voters;
        voters.push(id);
        let voters = voters.into_iter().collect::<std::collections::BTreeSet<_>>();
        raft.change_membership(voters, false).await.map_err(engine_error)?;
        Ok(())
    }

    /// Removes a member. On the leader.
    ///
    /// # Errors
    /// This node does not lead, or another change is under way.
    pub async fn leave(&self, id: u64) -> Result<(), StoreError> {
        let voters = self.view().voters.into_iter().filter(|voter| *voter != id);
        let voters = voters.collect::<std::collections::BTreeSet<_>>();
        self.inner.raft.change_membership(voters, false).await.map_err(engine_error)?;
        Ok(())
    }

    /// How this node stands in its pair; `None` while it is in none that has an arbiter.
    pub fn pair_status(&self) -> Option<PairStatus> {
        self.inner.quorum.as_ref().and_then(Quorum::status)
    }

    /// Answers the other node of a pair; `None` if this node is in no pair with it.
    pub async fn pair_asked(&self, request: PairRequest) -> Option<PairResponse> {
        self.inner.quorum.as_ref()?.asked(request).await
    }

    /// An operator says that the other node of the pair is down, and this one is to go on alone; with `accept_loss`
    /// also where that may lose messages which only the other one has. Returns when it was taken up; leading follows.
    ///
    /// # Errors
    /// Why this node does not go on alone.
    pub async fn take_over(&self, peer_id: u64, accept_loss: bool) -> Result<(), TakeoverError> {
        let Some(quorum) = &self.inner.quorum else {
            let reason = "it is a witness, or a witness is its quorum device";
            return Err(TakeoverError::NoPair { own_id: self.inner.node_id, reason });
        };
        quorum.take_over(peer_id, accept_loss).await
    }

    /// Gives leadership to another member that has the whole log. The caller neither answers nor delivers any more. It
    /// keeps the address until this returns and releases it then; its lease is extended no further from here on, and the
    /// target claims the address once it is shown the release certificate or that lease is over. Waits until the target
    /// leads.
    ///
    /// # Errors
    /// The target did not take over in time. A transfer that hangs would leave the cluster without writes, so the
    /// caller must then restart this node.
    pub async fn transfer(&self, to: u64, within: Duration) -> Result<(), StoreError> {
        if let Some(leadership) = self.inner.leadership.borrow().as_ref() {
            leadership.lease().leave_to_successor();
        }
        let deadline = tokio::time::Instant::now() + within;
        // The engine refuses a target whose log is not whole, and what is under way may still be settling.
        while self.view().replicated.get(&to).copied() != Some(self.view().last_log_index) {
            if tokio::time::Instant::now() >= deadline {
                return Err(StoreError::Engine(format!("node {to} did not catch up with the log in time")));
            }
            tokio::time::sleep(TRANSFER_LOOK).await;
        }
        loop {
            self.inner.raft.trigger().transfer_leader(to).await.map_err(engine_error)?;
            let wait = self.inner.raft.wait(Some(TRANSFER_RETRY));
            let moved = wait.metrics(|metrics| metrics.current_leader == Some(to), "leadership moved").await;
            match moved {
                Ok(_) => return Ok(()),
                // The engine of a node whose disk stalls stands still at the vote for its successor and sees nothing.
                Err(_) if self.leads_by_its_own_word(to).await => return Ok(()),
                Err(error) if tokio::time::Instant::now() >= deadline => return Err(engine_error(error)),
                Err(_) => {}
            }
        }
    }

    async fn leads_by_its_own_word(&self, id: u64) -> bool {
        let view = self.view();
        let Some(member) = view.members.get(&id) else { return false };
        let told = self.peer_status(id, member, TRANSFER_RETRY).await;
        told.is_ok_and(|status| status.leader_id == id && status.term > view.term)
    }

    /// Figures of the Raft log.
    pub fn log_metrics(&self) -> LogMetrics {
        self.inner.log.metrics()
    }

    /// How long the flush of the Raft log that is under way has been going on; zero between flushes. Much more than a
    /// flush usually takes means that the disk stalls.
    pub fn disk_stalled_for(&self) -> Duration {
        self.inner.log.stalled_for()
    }

    /// Has the Raft log wait for so long before it writes on, as on a disk that stalls: for drills.
    pub fn stall_disk(&self, pause: Duration) {
        self.inner.log.stall(pause);
    }

    /// A checksum over everything this node has applied up to the index that stands with it: nodes with equal indexes
    /// have equal checksums. Writes a checkpoint and reads the whole of it while entries go on being applied; with a
    /// million messages that is seconds of a core.
    ///
    /// # Errors
    /// The disk is full or failed: the node stops.
    pub async fn digest(&self) -> Result<(u64, u32), StoreError> {
        let machine = self.inner.machine.clone();
        let taken = tokio::task::spawn_blocking(move || machine.checkpoint_digest()).await;
        let taken = taken.map_err(|error| StoreError::Engine(error.to_string()))?;
        taken.inspect_err(|error| self.fail(format!("reading the message store failed: {error}"))).map_err(Into::into)
    }

    /// Becomes `Some` when the node can go on no more: a sentence for the operator.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.inner.failure.subscribe()
    }

    /// Stops taking part: leaves a pair to its other node, and writes a last checkpoint so that the next start is quick.
    pub async fn shutdown(&self) {
        if let Some(quorum) = &self.inner.quorum {
            quorum.stop().await;
        }
        self.inner.shutdown.send_replace(true);
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "the consensus engine ended badly");
        }
        let machine = self.inner.machine.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || machine.close()).await {
            tracing::error!(%error, "the last checkpoint failed; the log still holds everything");
        }
    }

    fn fail(&self, text: String) {
        fail(&self.inner.failure, text);
    }

    /// Watches the connections to whoever is a member.
    async fn follow_membership(self) {
        let mut metrics = self.inner.raft.server_metrics();
        loop {
            let members = metrics.borrow_watched().membership_config.clone();
            self.inner.peers.set_members(machines(members.membership()).map(|(id, member)| (*id, member)));
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Reports the end of the engine or of the log.
    async fn follow_failures(self) {
        let mut log = self.inner.log.failure();
        let mut metrics = self.inner.raft.metrics();
        let mut shutdown = self.inner.shutdown.subscribe();
        loop {
            tokio::select! {
                failed = log.wait_for(Option::is_some) => {
                    let text = failed.ok().and_then(|error| error.as_ref().map(ToString::to_string));
                    return self.fail(text.unwrap_or_else(|| "the Raft log has stopped".to_owned()));
                }
                _ = shutdown.wait_for(|stop| *stop) => return,
                changed = metrics.changed() => {
                    let state = metrics.borrow_watched().running_state.clone();
                    match (changed, state) {
                        (_, Err(fatal)) => return self.fail(format!("the consensus engine has stopped: {fatal}")),
                        (Err(_), _) => return,
                        (Ok(()), Ok(())) => {}
                    }
                }
            }
            tokio::time::sleep(self.inner.election_max).await;
        }
    }

    fn start_checkpointer(&self, interval: Duration, overlay_bytes: usize) -> Result<(), StoreError> {
        let store = self.clone();
        let runtime = tokio::runtime::Handle::current();
        let body = move || {
            let step = (interval / 20).min(Duration::from_millis(100));
            let mut waited = Duration::ZERO;
            while !*store.inner.shutdown.borrow() {
                std::thread::sleep(step);
                waited += step;
                if waited < interval && store.inner.machine.overlay_bytes() < overlay_bytes {
                    continue;
                }
                waited = Duration::ZERO;
                match store.inner.machine.checkpoint() {
                    // The engine takes note of the new snapshot and lets go of the log behind it.
                    Ok(true) => drop(runtime.block_on(store.inner.raft.trigger().snapshot())),
                    Ok(false) => {}
                    Err(error) => {
                        return store.fail(format!("writing a checkpoint failed: {error}"));
                    }
                }
            }
        };
        std::thread::Builder::new().name(threads::CHECKPOINT.to_owned()).spawn(body)?;
        let store = self.clone();
        let body = move || {
            let mut wish = Wish::default();
            let stopped = || *store.inner.shutdown.borrow();
            let mut wait = COMPACT_LOOK;
            while !stopped() {
                let begun = Instant::now();
                while begun.elapsed() < wait && !stopped() {
                    std::thread::sleep(Duration::from_millis(100));
                }
                let begun = Instant::now();
                if let Err(error) = store.inner.machine.compact(&mut wish, || !stopped()) {
                    return store.fail(format!("the message store's copy could not take its place: {error}"));
                }
                // Copying never takes more than a small part of the disk's time.
                wait = COMPACT_LOOK.max(begun.elapsed() * COMPACT_REST);
            }
        };
        std::thread::Builder::new().name(threads::COMPACT.to_owned()).spawn(body)?;
        Ok(())
    }
}

fn fail(failure: &watch::Sender<Option<String>>, text: String) {
    tracing::error!("{text}");
    failure.send_if_modified(|failure| {
        let first = failure.is_none();
        failure.get_or_insert(text);
        first
    });
}

/// The members that are machines.
fn machines(membership: &openraft::Membership<u64, Member>) -> impl Iterator<Item = (&u64, &Member)> {
    membership.nodes().filter(|(_, member)| !member.is_arbiter())
}

fn engine_config(config: &StoreConfig) -> Result<Config, StoreError> {
    let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let engine = Config {
        cluster_name: "smsc".to_owned(),
        heartbeat_interval: millis(config.heartbeat),
        election_timeout_min: millis(config.election.0),
        election_timeout_max: millis(config.election.1),
        max_payload_entries: 64,
        max_append_entries: Some(256),
        // Checkpoints are snapshots; the checkpointer tells the engine of each.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: LOG_KEEP_ENTRIES,
        purge_batch_size: 256,
        replication_lag_threshold: u64::MAX,
        enable_pre_vote: Some(true),
        enable_elect: !config.witness,
        install_snapshot_timeout: 600_000,
        ..Default::default()
    };
    engine.validate().map_err(|error| StoreError::Engine(error.to_string()))
}

fn engine_error(error: impl std::fmt::Display) -> StoreError {
    StoreError::Engine(error.to_string())
}
