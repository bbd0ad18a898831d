//! The other end of the transport: what peers may ask of this node.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{Stream, StreamExt as _, future, stream};
use openraft::Raft;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{Fatal, RaftError};
use openraft::storage::RaftStateMachine;
use smsc_proto::rpc::raft::raft_server::{self, RaftServer};
use smsc_proto::rpc::raft::{
    AppendRequest, AppendResponse, LeaderNote, LeaderNoteAck, PairRequest, PairResponse, PeerStatus, PeerStatusRequest,
    SnapshotChunk, SnapshotResponse, StreamAppendResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse, WatchPing,
};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::access::{Caller, Gate};
use super::heartbeat::Heartbeats;
use super::snapshot::{SnapshotInbox, SnapshotSink};
use super::transport::{TransportConfig, with_causes};
use super::{CONNECTION_WINDOW_BYTES, MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES, snapshot, wire};
use crate::consensus::election::{self, LogRefusals};
use crate::consensus::predecessor::Predecessors;
use crate::consensus::tls::Security;
use crate::consensus::types::{TypeConfig, Vote};
use crate::convert::ConvertError;
use crate::quorum::Arbiter;

/// How long calls under way may take to end once the server is told to.
const CLOSING_MAX: Duration = Duration::from_secs(1);

/// What a node answers to its peers beside Raft.
#[tonic::async_trait]
pub trait PeerHandler: Send + Sync + 'static {
    /// This node as it sees itself now.
    async fn status(&self) -> PeerStatus;

    /// Takes note of what a leader says; the leader counts on it once this returns. The sender is authenticated, its
    /// term is not: an older one's note must not displace a newer one's.
    async fn note(&self, note: LeaderNote);

    /// Answers the other node of a pair. Nodes that have no quorum device refuse.
    ///
    /// # Errors
    /// This node is none of a pair, or is stopping.
    async fn pair(&self, request: PairRequest) -> Result<PairResponse, Status> {
        Err(Status::failed_precondition(format!("this node is in no pair with node {}", request.node_id)))
    }

    /// The leader of this term is about to give leadership to this node.
    async fn leadership_offered(&self, _by: u64, _term: u64) {}
}

/// What elections need to know of the requests that come in.
#[derive(Clone)]
pub struct Elections {
    /// Hears of the votes that this node refuses.
    pub refusals: LogRefusals,
    /// Hears of leaders that transfer their leadership.
    pub predecessors: Predecessors,
    /// How long such a leader may hold the address after its request.
    pub lease: Duration,
}

/// The Raft service of this node.
pub struct RaftService<SM, I>
where
    SM: RaftStateMachine<TypeConfig>,
{
    raft: Raft<TypeConfig, SM>,
    inbox: I,
    handler: Arc<dyn PeerHandler>,
    elections: Elections,
    /// Held while a snapshot is received: there is one place for it.
    receiving: Arc<Mutex<()>>,
    shutdown: watch::Receiver<bool>,
    arbiter: Arbiter,
    heartbeats: Arc<Heartbeats>,
}

impl<SM, I> RaftService<SM, I>
where
    SM: RaftStateMachine<TypeConfig>,
    I: SnapshotInbox<Sink: SnapshotSink<Data = SM::SnapshotData>>,
{
    /// Answers for this engine, and lets `elections` know of what it hears about them. Long-lived streams end when
    /// `shutdown` turns true or its sender is dropped.
    pub fn new(
        raft: Raft<TypeConfig, SM>,
        inbox: I,
        handler: Arc<dyn PeerHandler>,
        elections: Elections,
        shutdown: watch::Receiver<bool>,
    ) -> Self {
        let (receiving, arbiter, heartbeats) = (Arc::default(), Arbiter::default(), Arc::default());
        Self { raft, inbox, handler, elections, receiving, shutdown, arbiter, heartbeats }
    }

    /// Listens to the other node of a pair only as this node's arbiter allows.
    #[must_use]
    pub fn with_arbiter(self, arbiter: Arbiter) -> Self {
        Self { arbiter, ..self }
    }

    fn listens(&self) -> Result<(), Status> {
        listens(&self.arbiter)
    }
}

fn listens(arbiter: &Arbiter) -> Result<(), Status> {
    if arbiter.trusts_peer() {
        return Ok(());
    }
    Err(Status::unavailable("this node goes on alone and does not know yet whether its peer does so as well"))
}

/// The Raft service, open to the cluster's nodes only; other services can be added to the result.
pub fn routes<SM, I>(service: RaftService<SM, I>, security: &Security) -> Routes
where
    SM: RaftStateMachine<TypeConfig>,
    I: SnapshotInbox<Sink: SnapshotSink<Data = SM::SnapshotData>>,
{
    let server = RaftServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Routes::new(InterceptedService::new(server, Gate::nodes(security)))
}

/// Listens for peers and operators.
///
/// # Errors
/// The address is not this host's, or taken.
pub async fn incoming(listen: SocketAddr) -> io::Result<TcpIncoming> {
    let listener = TcpListener::bind(listen).await?;
    Ok(TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(Duration::from_secs(5))))
}

/// Serves until `shutdown` turns true or its sender is dropped, then lets the calls under way end for a second.
///
/// # Errors
/// The listener broke, or the TLS configuration cannot be used.
pub async fn serve(
    incoming: TcpIncoming,
    routes: Routes,
    security: &Security,
    config: &TransportConfig,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let to_io = |e: tonic::transport::Error| io::Error::other(with_causes(&e));
    let mut server = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(config.keepalive))
        .http2_keepalive_timeout(Some(config.keepalive));
    if let Some(credentials) = security.credentials() {
        let tls = credentials.server().timeout(config.connect_timeout);
        server = server.tls_config(tls).map_err(to_io)?;
    }
    let serving = server.add_routes(routes).serve_with_incoming_shutdown(incoming, closing(shutdown.clone()));
    tokio::select! {
        served = serving => served.map_err(to_io),
        () = async { closing(shutdown).await; tokio::time::sleep(CLOSING_MAX).await } => Ok(()),
    }
}

async fn closing(mut shutdown: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is the same to us.
    let _ = shutdown.wait_for(|closing| *closing).await;
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<SM, I> raft_server::Raft for RaftService<SM, I>
where
    SM: RaftStateMachine<TypeConfig>,
    I: SnapshotInbox<Sink: SnapshotSink<Data = SM::SnapshotData>>,
{
    type HeartbeatsStream = Answers<AppendResponse>;
    type StreamAppendStream = Answers<StreamAppendResponse>;
    type WatchStream = Answers<WatchPing>;

    async fn heartbeats(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::HeartbeatsStream>, Status> {
        let caller = Caller::of(&request)?;
        let requests = request.into_inner().take_until(closing(self.shutdown.clone()));
        let (raft, heartbeats, arbiter) = (self.raft.clone(), self.heartbeats.clone(), self.arbiter.clone());
        let answers = requests.then(move |request| {
            // Whether this node listens may change while the stream is open.
            let append = listens(&arbiter).and_then(|()| checked_append(request, &caller));
            let (raft, heartbeats) = (raft.clone(), heartbeats.clone());
            async move {
                let response = heartbeats.answer(&raft, append?).await.map_err(stopped)?;
                Ok(wire::append_response(&response))
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn stream_append(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        self.listens()?;
        let caller = Caller::of(&request)?;
        let refusal = Arc::new(OnceLock::new());
        let leader = Arc::new(OnceLock::new());
        let of_first = leader.clone();
        let requests = request.into_inner().scan(refusal.clone(), move |refusal, request| {
            future::ready(match checked_append(request, &caller) {
                Ok(append) => {
                    of_first.get_or_init(|| append.vote);
                    Some(append)
                }
                Err(status) => {
                    // The first refusal ends the stream, so there is no second.
                    let _ = refusal.set(status);
                    None
                }
            })
        });
        let requests = requests.take_until(closing(self.shutdown.clone()));
        let heartbeats = self.heartbeats.clone();
        let mut is_first = true;
        let answers = self.raft.stream_append(requests).map(move |answer| match answer {
            Ok(answer) => {
                // Answers come in the order of the requests.
                if std::mem::take(&mut is_first)
                    && answer.is_ok()
                    && let Some(vote) = leader.get()
                {
                    heartbeats.settle(*vote);
                }
                Ok(wire::stream_response(&answer))
            }
            Err(fatal) => Err(fatal_status(&fatal)),
        });
        // What came before the refused request is answered first.
        let refused = stream::once(future::lazy(move |_| refusal.get().cloned())).filter_map(future::ready).map(Err);
        Ok(Response::new(Box::pin(answers.chain(refused))))
    }

    async fn vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        self.listens()?;
        let caller = Caller::of(&request)?;
        let vote = wire::vote_request_from(request.get_ref()).map_err(invalid)?;
        check_voice(&caller, &vote.vote)?;
        let mut admitted = vote.clone();
        election::admit(&self.raft, &mut admitted).await.map_err(|e| fatal_status(&e))?;
        let response = self.raft.vote(admitted).await.map_err(stopped)?;
        self.elections.refusals.note(&vote, &response);
        Ok(Response::new(wire::vote_response(&response)))
    }

    async fn pre_vote(&self, request: Request<VoteRequest>) -> Result<Response<VoteResponse>, Status> {
        self.listens()?;
        let caller = Caller::of(&request)?;
        let vote = wire::vote_request_from(request.get_ref()).map_err(invalid)?;
        check_voice(&caller, &vote.vote)?;
        let response = self.raft.pre_vote(vote.clone()).await.map_err(stopped)?;
        self.elections.refusals.note(&vote, &response);
        Ok(Response::new(wire::vote_response(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderResponse>, Status> {
        let caller = Caller::of(&request)?;
        let transfer = wire::transfer_request_from(request.get_ref()).map_err(invalid)?;
        check_voice(&caller, transfer.from_leader())?;
        let leader = transfer.from_leader().leader_id;
        let witness = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().get_node(&leader.node_id).is_some_and(|member| member.witness)
        };
        // Before the engine hears of it: a successor must know whom to wait for. A witness never holds the address.
        if !witness {
            self.elections.predecessors.yields(leader.node_id, leader.term, self.elections.lease);
        }
        // Every voter hears of it.
        if transfer.to_node_id() == self.raft.node_id() {
            self.handler.leadership_offered(leader.node_id, leader.term).await;
        }
        let response = self.raft.handle_transfer_leader(transfer).await.map_err(|e| fatal_status(&e))?;
        let refused = response.err().map(|reason| reason.to_string()).unwrap_or_default();
        Ok(Response::new(TransferLeaderResponse { refused }))
    }

    async fn snapshot(&self, request: Request<Streaming<SnapshotChunk>>) -> Result<Response<SnapshotResponse>, Status> {
        self.listens()?;
        let caller = Caller::of(&request)?;
        let mut pieces = request.into_inner();
        let (vote, meta) = snapshot::receive_header(&mut pieces).await?;
        check_voice(&caller, &vote)?;
        let place = self.receiving.clone().lock_owned().await;
        let sink = self.inbox.open().map_err(|e| {
            tracing::error!(error = %e, "there is no place for the leader's snapshot");
            Status::internal(format!("there is no place for a snapshot: {e}"))
        })?;
        let (snapshot, _place) = snapshot::receive_rows(&mut pieces, sink, meta, place).await?;
        let response = self.raft.install_full_snapshot(vote, snapshot).await.map_err(|e| fatal_status(&e))?;
        Ok(Response::new(wire::snapshot_response(&response)))
    }

    async fn note(&self, request: Request<LeaderNote>) -> Result<Response<LeaderNoteAck>, Status> {
        let caller = Caller::of(&request)?;
        let note = request.into_inner();
        check_speaker(&caller, note.node_id)?;
        self.handler.note(note).await;
        Ok(Response::new(LeaderNoteAck {}))
    }

    async fn status(&self, _request: Request<PeerStatusRequest>) -> Result<Response<PeerStatus>, Status> {
        Ok(Response::new(self.handler.status().await))
    }

    async fn pair(&self, request: Request<PairRequest>) -> Result<Response<PairResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        check_speaker(&caller, request.node_id)?;
        self.handler.pair(request).await.map(Response::new)
    }

    async fn watch(&self, request: Request<Streaming<WatchPing>>) -> Result<Response<Self::WatchStream>, Status> {
        let pings = request.into_inner().take_until(closing(self.shutdown.clone()));
        Ok(Response::new(Box::pin(pings)))
    }
}

fn checked_append(
    request: Result<AppendRequest, Status>,
    caller: &Caller,
) -> Result<openraft::raft::AppendEntriesRequest<TypeConfig>, Status> {
    let append = wire::append_request_from(request?).map_err(invalid)?;
    check_voice(caller, &append.vote)?;
    Ok(append)
}

/// A candidate or leader speaks for itself only.
fn check_voice(caller: &Caller, vote: &Vote) -> Result<(), Status> {
    check_speaker(caller, vote.leader_id.node_id)
}

fn check_speaker(caller: &Caller, node_id: u64) -> Result<(), Status> {
    if caller.speaks_for(node_id) {
        return Ok(());
    }
    Err(Status::permission_denied(format!("the caller's certificate is not that of node-{node_id}")))
}

fn invalid(error: ConvertError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn stopped(error: RaftError<TypeConfig>) -> Status {
    Status::unavailable(format!("this node's consensus has stopped: {error}"))
}

fn fatal_status(error: &Fatal<TypeConfig>) -> Status {
    Status::unavailable(format!("this node's consensus has stopped: {error}"))
}
