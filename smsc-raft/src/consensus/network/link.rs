//! The connections to one peer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::raft::{AppendEntriesRequest, VoteRequest, VoteResponse};
use smsc_proto::rpc::raft::PeerStatusRequest;
use smsc_proto::rpc::raft::raft_client::RaftClient;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::known::{KnownLog, OwnAnswers};
use super::transport::{PeerError, TransportConfig, describe, with_causes};
use super::{CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES};
use crate::consensus::tls::Security;
use crate::consensus::types::{LogId, TypeConfig, Vote};

/// Which of the connections; each is a TCP connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Votes, heartbeats, leadership transfer, notes, status and the watch: small and never to be kept waiting.
    Control,
    /// The replication stream.
    Replication,
    /// Snapshots.
    Snapshot,
    /// What operators ask and this node passes on.
    Admin,
}

struct Lanes {
    control: Channel,
    replication: Channel,
    snapshot: Channel,
    admin: Channel,
}

impl Lanes {
    /// Connections that live on `runtime`, whichever thread makes and uses them.
    fn new(endpoint: &Endpoint, runtime: &Handle) -> Self {
        // A channel spawns its task where it is made; that task spawns all others.
        let _entered = runtime.enter();
        Self {
            control: endpoint.connect_lazy(),
            replication: endpoint.connect_lazy(),
            snapshot: endpoint.connect_lazy(),
            admin: endpoint.connect_lazy(),
        }
    }
}

/// The connections to one peer at one address. They reconnect by themselves; a call while there is none tries once.
pub(super) struct PeerLink {
    node_id: u64,
    addr: String,
    /// Absent when there can be no connection, and why.
    dial: Result<Dial, String>,
    /// Changes whenever the streams are to end.
    resets: watch::Sender<u64>,
    /// Counts what the peer answered on the control lane beside pings.
    heard: AtomicU64,
    known: Mutex<Knowledge>,
    own_answers: Arc<OwnAnswers>,
}

/// What is known of the peer's log without asking.
#[derive(Default)]
enum Knowledge {
    #[default]
    Nothing,
    /// What its vote told, for as long as no append has gone further.
    Told(KnownLog),
    /// The leader of this vote has sent it an append: what the peer answers counts, and a vote that comes late does not.
    Asked(Vote),
}

struct Dial {
    endpoint: Endpoint,
    /// Carries the connections.
    runtime: Handle,
    lanes: Mutex<Lanes>,
}

impl PeerLink {
    /// Not connected yet; its connections will live on `runtime`.
    pub(super) fn new(
        node_id: u64,
        addr: &str,
        security: &Security,
        config: &TransportConfig,
        runtime: &Handle,
        own_answers: Arc<OwnAnswers>,
    ) -> Self {
        let dial = endpoint(node_id, addr, security, config).map(|endpoint| {
            let lanes = Mutex::new(Lanes::new(&endpoint, runtime));
            Dial { endpoint, runtime: runtime.clone(), lanes }
        });
        let (resets, heard) = (watch::Sender::new(0), AtomicU64::new(0));
        Self { node_id, addr: addr.to_owned(), dial, resets, heard, known: Mutex::default(), own_answers }
    }

    pub(super) fn node_id(&self) -> u64 {
        self.node_id
    }

    pub(super) fn addr(&self) -> &str {
        &self.addr
    }

    /// A client on that lane.
    ///
    /// # Errors
    /// The peer's address is none.
    pub(super) fn client(&self, lane: Lane) -> Result<RaftClient<Channel>, PeerError> {
        Ok(RaftClient::new(self.channel(lane)?)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// That lane's connection, for other services than Raft.
    ///
    /// # Errors
    /// The peer's address is none.
    pub(super) fn channel(&self, lane: Lane) -> Result<Channel, PeerError> {
        let dial = self.dial.as_ref().map_err(|reason| self.error(reason.clone()))?;
        let lanes = dial.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match lane {
            Lane::Control => lanes.control.clone(),
            Lane::Replication => lanes.replication.clone(),
            Lane::Snapshot => lanes.snapshot.clone(),
            Lane::Admin => lanes.admin.clone(),
        })
    }

    /// Connects the lane of replication by a call on it: a new leader that had to do it first would serve by the length of
    /// two TLS handshakes later. If it cannot, the engine tries again when it has something to send.
    pub(super) async fn warm(&self) {
        if let Ok(mut client) = self.client(Lane::Replication) {
            let _ = client.status(PeerStatusRequest {}).await;
        }
    }

    /// Gives up the present connections and what runs on them: after a silence their TCP may go on waiting long
    /// after the peer is back.
    pub(super) fn reset(&self) {
        if let Ok(dial) = &self.dial {
            *dial.lanes.lock().unwrap_or_else(PoisonError::into_inner) = Lanes::new(&dial.endpoint, &dial.runtime);
        }
        self.end_streams();
    }

    /// Ends what runs on the present connections; they close when nobody uses them any more.
    pub(super) fn end_streams(&self) {
        let mut known = self.known();
        if let Knowledge::Told(_) = &*known {
            *known = Knowledge::Nothing;
        }
        drop(known);
        self.resets.send_modify(|count| *count += 1);
    }

    /// Changes when the streams are to end.
    pub(super) fn resets(&self) -> watch::Receiver<u64> {
        self.resets.subscribe()
    }

    /// Looks at the peer's answer to a request for its vote.
    pub(super) fn note_vote(&self, request: &VoteRequest<TypeConfig>, response: &VoteResponse<TypeConfig>) {
        let mut known = self.known();
        if !matches!(&*known, Knowledge::Asked(vote) if vote.leader_id == request.vote.leader_id) {
            *known = KnownLog::by_vote(request, response).map_or(Knowledge::Nothing, Knowledge::Told);
        }
    }

    /// The answer to the first append of a stream, if the peer need not be asked for it, see [`KnownLog`]. From the first
    /// on that has to be sent, what the peer says counts.
    pub(super) fn known_answer(&self, append: &AppendEntriesRequest<TypeConfig>) -> Option<LogId> {
        let mut known = self.known();
        let answer = if let Knowledge::Told(log) = &*known { log.answer(append) } else { None };
        match answer {
            Some(_) => self.own_answers.note(),
            None => *known = Knowledge::Asked(append.vote),
        }
        answer
    }

    fn known(&self) -> MutexGuard<'_, Knowledge> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer has answered on the control lane just now.
    pub(super) fn note_heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has, by [`note_heard`](Self::note_heard).
    pub(super) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn error(&self, reason: impl Into<String>) -> PeerError {
        PeerError { node_id: self.node_id, addr: self.addr.clone(), reason: reason.into() }
    }

    pub(super) fn failed(&self, status: &Status) -> PeerError {
        self.error(describe(status))
    }
}

fn endpoint(node_id: u64, addr: &str, security: &Security, config: &TransportConfig) -> Result<Endpoint, String> {
    let scheme = if security.credentials().is_some() { "https" } else { "http" };
    let invalid = |e: tonic::transport::Error| format!("not an address of the form host:port: {}", with_causes(&e));
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{addr}")).map_err(invalid)?;
    if let Some(credentials) = security.credentials() {
        let tls = credentials.client(node_id).timeout(config.connect_timeout);
        endpoint = endpoint.tls_config(tls).map_err(|e| with_causes(&e))?;
    }
    Ok(endpoint
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(config.keepalive.max(Duration::from_secs(1))))
        .http2_keep_alive_interval(config.keepalive)
        .keep_alive_timeout(config.keepalive)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
}
