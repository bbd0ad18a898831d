//! What the engine sends its RPCs with.

use std::future::Future;
use std::iter;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{
    Backoff, NetAppend, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RPCTypes,
    RaftNetworkFactory, stream_append_sequential,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::{Response, Status};

use super::arbiter::MemberNetwork;
use super::heartbeat_stream::HeartbeatStream;
use super::link::{Lane, PeerLink};
use super::snapshot::SnapshotSource;
use super::transport::{PeerError, Transport};
use super::wire::EngineSnapshot;
use super::{Member, append, snapshot, wire};
use crate::consensus::types::{TypeConfig, Vote};
use crate::convert::ConvertError;

/// The pause before the first retry to an unreachable peer; doubles with every further one.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest pause: a peer that is back is found within this.
const BACKOFF_MAX: Duration = Duration::from_millis(200);

type RpcError = RPCError<TypeConfig>;

/// Makes the engine's clients; see [`Transport::factory`].
pub struct PeerFactory<D> {
    pub(super) transport: Transport,
    pub(super) snapshot: PhantomData<fn(D)>,
}

impl<D: SnapshotSource> PeerFactory<D> {
    fn network(&self, target: u64, node: &Member, appends: Appends) -> MemberNetwork<D> {
        if node.is_arbiter() {
            return MemberNetwork::Arbiter(self.transport.arbiter().clone());
        }
        let link = self.transport.link(target, node);
        let node_id = self.transport.node_id();
        let heartbeats = HeartbeatStream::new(link.clone());
        MemberNetwork::Peer(PeerNetwork { node_id, link, appends, heartbeats, snapshot: PhantomData })
    }
}

impl<D: SnapshotSource> RaftNetworkFactory<TypeConfig> for PeerFactory<D> {
    type Network = MemberNetwork<D>;

    async fn new_client(&mut self, target: u64, node: &Member) -> MemberNetwork<D> {
        self.network(target, node, Appends::Streamed)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Member) -> MemberNetwork<D> {
        self.network(target, node, Appends::Single)
    }
}

/// How a client sends what the engine gives it as a stream of appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Appends {
    /// Pipelined over one stream on the replication lane.
    Streamed,
    /// One after the other on the control lane: to the engine a heartbeat is a stream of one.
    Single,
}

/// The engine's client of one peer. Which connection an RPC takes depends on the RPC, see [`super`].
pub struct PeerNetwork<D> {
    node_id: u64,
    link: Arc<PeerLink>,
    appends: Appends,
    heartbeats: HeartbeatStream,
    snapshot: PhantomData<fn(D)>,
}

impl<D> PeerNetwork<D> {
    /// Waits for a unary call, no longer than the engine will.
    async fn answer<T>(
        &self,
        action: RPCTypes,
        option: &RPCOption,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, RpcError> {
        let timeout = option.soft_ttl();
        match tokio::time::timeout(timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(unreachable(&self.link.failed(&status))),
            Err(_) => Err(self.timeout(action, timeout)),
        }
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RpcError {
        RPCError::Timeout(Timeout { action, id: self.node_id, target: self.link.node_id(), timeout })
    }
}

/// An answer that makes no sense; asked again at once it would make none either, so the engine is to back off.
pub(super) fn nonsense(link: &PeerLink, error: &ConvertError) -> RpcError {
    unreachable(&link.error(format!("sent an answer that cannot be understood: {error}")))
}

pub(super) fn unreachable(error: &PeerError) -> RpcError {
    RPCError::Unreachable(Unreachable::from_string(error))
}

impl<D: SnapshotSource> NetAppend<TypeConfig> for PeerNetwork<D> {
    /// The engine waits for a heartbeat's answer until the next one is due, and no longer: there is no timer here.
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let response = self.heartbeats.send(&rpc).await?;
        if response.is_conflict() && rpc.prev_log_id.is_none() {
            // The engine relies on it that nothing conflicts with the empty log.
            return Err(unreachable(&self.link.error("claims a conflict with the beginning of the log")));
        }
        Ok(response)
    }
}

impl<D: SnapshotSource> NetStreamAppend<TypeConfig> for PeerNetwork<D> {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        match self.appends {
            Appends::Single => stream_append_sequential(self, input, option),
            Appends::Streamed => Box::pin(append::stream(self.link.clone(), input)),
        }
    }
}

impl<D: SnapshotSource> NetVote<TypeConfig> for PeerNetwork<D> {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.link.client(Lane::Control).map_err(|e| unreachable(&e))?;
        let call = client.vote(wire::vote_request(&rpc));
        let response = self.answer(RPCTypes::Vote, &option, call).await?;
        let response = wire::vote_response_from(&response).map_err(|e| nonsense(&self.link, &e))?;
        self.link.note_vote(&rpc, &response);
        Ok(response)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.link.client(Lane::Control).map_err(|e| unreachable(&e))?;
        let call = client.pre_vote(wire::vote_request(&rpc));
        let response = self.answer(RPCTypes::Vote, &option, call).await?;
        wire::vote_response_from(&response).map_err(|e| nonsense(&self.link, &e))
    }
}

impl<D: SnapshotSource> NetTransferLeader<TypeConfig> for PeerNetwork<D> {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let mut client = self.link.client(Lane::Control).map_err(|e| unreachable(&e))?;
        let call = client.transfer_leader(wire::transfer_request(&req));
        let response = self.answer(RPCTypes::TransferLeader, &option, call).await?;
        if response.refused.is_empty() {
            return Ok(Ok(()));
        }
        // The engine only logs the outcome; the peer's own words say most.
        let error = self.link.error(format!("refused the transfer of leadership: {}", response.refused));
        Err(RPCError::Network(NetworkError::from_string(error)))
    }
}

impl<D: SnapshotSource> NetSnapshot<TypeConfig> for PeerNetwork<D> {
    type SnapshotData = D;

    /// The option's time is not enforced: how long a snapshot takes depends on its size. A peer that is gone is
    /// noticed by the connection's keepalive, one that is slow is waited for.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: EngineSnapshot<D>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = snapshot::send(&self.link, &vote, snapshot) => sent,
        }
    }
}

impl<D: SnapshotSource> NetBackoff<TypeConfig> for PeerNetwork<D> {
    fn backoff(&self) -> Option<Backoff> {
        let delays = iter::successors(Some(BACKOFF_MIN), |last| Some((*last * 2).min(BACKOFF_MAX)));
        Some(Backoff::new(delays))
    }
}
