//! The arbiter of a pair: answered here, on this node, and only while this node has gone on alone.
//!
//! It keeps nothing. Its votes and acknowledgements go to this node alone, whose own log and vote are on disk, and the
//! rules of [`quorum`](crate::quorum) see to it that no other node's arbiter answers at the same time.

use std::future::Future;
use std::iter;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetAppend, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use super::client::PeerNetwork;
use super::snapshot::SnapshotSource;
use super::wire::EngineSnapshot;
use crate::consensus::types::{TypeConfig, Vote};
use crate::quorum::Arbiter;

/// How often the engine tries an arbiter that is silent: its silence is the normal case, and when it answers the engine
/// is told to try at once.
const SILENT_PAUSE: Duration = Duration::from_secs(1);

type RpcError = RPCError<TypeConfig>;

/// The engine's client of a member: of a machine, or of this node's arbiter.
pub enum MemberNetwork<D> {
    /// A machine.
    Peer(PeerNetwork<D>),
    /// The vote without a machine.
    Arbiter(Arbiter),
}

fn silent() -> Unreachable<TypeConfig> {
    Unreachable::from_string("the arbiter answers only a node that goes on alone")
}

fn check(arbiter: &Arbiter) -> Result<(), RpcError> {
    if arbiter.answers() { Ok(()) } else { Err(RPCError::Unreachable(silent())) }
}

fn grant(arbiter: &Arbiter, rpc: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, RpcError> {
    check(arbiter)?;
    Ok(VoteResponse { vote: rpc.vote, vote_granted: true, last_log_id: None })
}

/// Acknowledges one append, whatever it holds.
fn acknowledge(
    arbiter: &Arbiter,
    rpc: &AppendEntriesRequest<TypeConfig>,
) -> Result<StreamAppendResult<TypeConfig>, RpcError> {
    check(arbiter)?;
    let last = rpc.entries.last().map(|entry| entry.log_id);
    Ok(Ok(last.or(rpc.prev_log_id)))
}

impl<D: SnapshotSource> NetAppend<TypeConfig> for MemberNetwork<D> {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        match self {
            Self::Peer(peer) => peer.append_entries(rpc, option).await,
            Self::Arbiter(arbiter) => check(arbiter).map(|()| AppendEntriesResponse::Success),
        }
    }
}

impl<D: SnapshotSource> NetStreamAppend<TypeConfig> for MemberNetwork<D> {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        match self {
            Self::Peer(peer) => peer.stream_append(input, option),
            Self::Arbiter(arbiter) => {
                let arbiter = arbiter.clone();
                Box::pin(async move {
                    // The engine's pause before a retry is inside the input, so the first append is waited for before
                    // the stream may fail.
                    let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
                    let first = acknowledge(&arbiter, &first)?;
                    let rest = input.map(move |rpc| acknowledge(&arbiter, &rpc));
                    Ok(futures::stream::iter(iter::once(Ok(first))).chain(rest).boxed())
                })
            }
        }
    }
}

impl<D: SnapshotSource> NetVote<TypeConfig> for MemberNetwork<D> {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self {
            Self::Peer(peer) => peer.vote(rpc, option).await,
            Self::Arbiter(arbiter) => grant(arbiter, rpc),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        match self {
            Self::Peer(peer) => peer.pre_vote(rpc, option).await,
            Self::Arbiter(arbiter) => grant(arbiter, rpc),
        }
    }
}

impl<D: SnapshotSource> NetTransferLeader<TypeConfig> for MemberNetwork<D> {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        match self {
            Self::Peer(peer) => peer.transfer_leader(req, option).await,
            // It hears of every transfer, as a voter, and has nothing to do about it.
            Self::Arbiter(_) => Err(RPCError::Unreachable(silent())),
        }
    }
}

impl<D: SnapshotSource> NetSnapshot<TypeConfig> for MemberNetwork<D> {
    type SnapshotData = D;

    /// The arbiter needs no snapshot. As long as it is silent it is waited for, so that the engine does not try again
    /// and again.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: EngineSnapshot<D>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        match self {
            Self::Peer(peer) => peer.full_snapshot(vote, snapshot, cancel, option).await,
            Self::Arbiter(arbiter) => {
                drop(snapshot);
                tokio::select! {
                    biased;
                    closed = cancel => Err(StreamingError::Closed(closed)),
                    () = arbiter.answering() => Ok(SnapshotResponse::new(vote)),
                }
            }
        }
    }
}

impl<D: SnapshotSource> NetBackoff<TypeConfig> for MemberNetwork<D> {
    fn backoff(&self) -> Option<Backoff> {
        match self {
            Self::Peer(peer) => peer.backoff(),
            Self::Arbiter(_) => Some(Backoff::new(iter::repeat(SILENT_PAUSE))),
        }
    }
}
