//! The RPCs' messages to and from the engine's types.

use openraft::Snapshot;
use openraft::alias::SnapshotMetaOf;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderRequest, VoteRequest, VoteResponse,
};
use smsc_proto::rpc::raft as wire;

use crate::consensus::types::{TypeConfig, Vote};
use crate::convert::{ConvertError, entry, log_id, membership, vote};

pub(super) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
pub(super) type EngineSnapshot<D> = Snapshot<openraft::alias::CommittedLeaderIdOf<TypeConfig>, u64, super::Member, D>;

fn missing(record: &'static str, field: &'static str) -> ConvertError {
    ConvertError::Missing { record, field }
}

/// The vote that a message carries.
fn vote_of(carried: Option<&wire::Vote>, record: &'static str) -> Result<Vote, ConvertError> {
    vote::from_wire(carried.ok_or_else(|| missing(record, "vote"))?)
}

pub(super) fn append_request(request: &AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(vote::to_wire(&request.vote)),
        prev_log_id: log_id::opt_to_wire(request.prev_log_id.as_ref()),
        entries: request.entries.iter().map(entry::to_wire).collect(),
        leader_commit: log_id::opt_to_wire(request.leader_commit.as_ref()),
    }
}

pub(super) fn append_request_from(
    request: wire::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, ConvertError> {
    Ok(AppendEntriesRequest {
        vote: vote_of(request.vote.as_ref(), "AppendRequest")?,
        prev_log_id: log_id::opt_from_wire(request.prev_log_id.as_ref()),
        entries: request.entries.into_iter().map(entry::from_wire).collect::<Result<_, _>>()?,
        leader_commit: log_id::opt_from_wire(request.leader_commit.as_ref()),
    })
}

pub(super) fn append_response(response: &AppendEntriesResponse<TypeConfig>) -> wire::AppendResponse {
    use wire::append_response::{PartialSuccess, Result as Kind};
    let kind = match response {
        AppendEntriesResponse::Success => Kind::Success(true),
        AppendEntriesResponse::PartialSuccess(upto) => {
            Kind::PartialSuccess(PartialSuccess { log_id: log_id::opt_to_wire(upto.as_ref()) })
        }
        AppendEntriesResponse::Conflict => Kind::Conflict(true),
        AppendEntriesResponse::HigherVote(higher) => Kind::HigherVote(vote::to_wire(higher)),
    };
    wire::AppendResponse { result: Some(kind) }
}

pub(super) fn append_response_from(
    response: wire::AppendResponse,
) -> Result<AppendEntriesResponse<TypeConfig>, ConvertError> {
    use wire::append_response::Result as Kind;
    Ok(match response.result.ok_or_else(|| missing("AppendResponse", "result"))? {
        Kind::Success(_) => AppendEntriesResponse::Success,
        Kind::PartialSuccess(upto) => {
            AppendEntriesResponse::PartialSuccess(log_id::opt_from_wire(upto.log_id.as_ref()))
        }
        Kind::Conflict(_) => AppendEntriesResponse::Conflict,
        Kind::HigherVote(higher) => AppendEntriesResponse::HigherVote(vote::from_wire(&higher)?),
    })
}

pub(super) fn stream_response(result: &StreamAppendResult<TypeConfig>) -> wire::StreamAppendResponse {
    use wire::stream_append_response::{Matched, Result as Kind};
    let kind = match result {
        Ok(upto) => Kind::Matched(Matched { log_id: log_id::opt_to_wire(upto.as_ref()) }),
        Err(StreamAppendError::Conflict(at)) => Kind::Conflict(log_id::to_wire(at)),
        Err(StreamAppendError::HigherVote(higher)) => Kind::HigherVote(vote::to_wire(higher)),
    };
    wire::StreamAppendResponse { result: Some(kind) }
}

pub(super) fn stream_response_from(
    response: wire::StreamAppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, ConvertError> {
    use wire::stream_append_response::Result as Kind;
    Ok(match response.result.ok_or_else(|| missing("StreamAppendResponse", "result"))? {
        Kind::Matched(upto) => Ok(log_id::opt_from_wire(upto.log_id.as_ref())),
        Kind::Conflict(at) => Err(StreamAppendError::Conflict(log_id::from_wire(&at))),
        Kind::HigherVote(higher) => Err(StreamAppendError::HigherVote(vote::from_wire(&higher)?)),
    })
}

pub(super) fn vote_request(request: &VoteRequest<TypeConfig>) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote::to_wire(&request.vote)),
        last_log_id: log_id::opt_to_wire(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

pub(super) fn vote_request_from(request: &wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, ConvertError> {
    let vote = vote_of(request.vote.as_ref(), "VoteRequest")?;
    let mut converted = VoteRequest::new(vote, log_id::opt_from_wire(request.last_log_id.as_ref()));
    converted.leadership_transfer = request.leadership_transfer;
    Ok(converted)
}

pub(super) fn vote_response(response: &VoteResponse<TypeConfig>) -> wire::VoteResponse {
    wire::VoteResponse {
        vote: Some(vote::to_wire(&response.vote)),
        vote_granted: response.vote_granted,
        last_log_id: log_id::opt_to_wire(response.last_log_id.as_ref()),
    }
}

pub(super) fn vote_response_from(response: &wire::VoteResponse) -> Result<VoteResponse<TypeConfig>, ConvertError> {
    let vote = vote_of(response.vote.as_ref(), "VoteResponse")?;
    let last_log_id = log_id::opt_from_wire(response.last_log_id.as_ref());
    Ok(VoteResponse::new(vote, last_log_id, response.vote_granted))
}

pub(super) fn transfer_request(request: &TransferLeaderRequest<TypeConfig>) -> wire::TransferLeaderRequest {
    wire::TransferLeaderRequest {
        from_leader: Some(vote::to_wire(request.from_leader())),
        to_node_id: *request.to_node_id(),
        last_log_id: log_id::opt_to_wire(request.last_log_id()),
    }
}

pub(super) fn transfer_request_from(
    request: &wire::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, ConvertError> {
    let from = request.from_leader.as_ref().ok_or_else(|| missing("TransferLeaderRequest", "from_leader"))?;
    let last_log_id = log_id::opt_from_wire(request.last_log_id.as_ref());
    Ok(TransferLeaderRequest::new(vote::from_wire(from)?, request.to_node_id, last_log_id))
}

pub(super) fn snapshot_header(by: &Vote, meta: &SnapshotMeta) -> wire::SnapshotHeader {
    wire::SnapshotHeader {
        vote: Some(vote::to_wire(by)),
        last_log_id: log_id::opt_to_wire(meta.last_log_id.as_ref()),
        last_membership: Some(membership::stored_to_wire(&meta.last_membership)),
    }
}

pub(super) fn snapshot_header_from(header: wire::SnapshotHeader) -> Result<(Vote, SnapshotMeta), ConvertError> {
    let by = vote_of(header.vote.as_ref(), "SnapshotHeader")?;
    let last_membership = header.last_membership.ok_or_else(|| missing("SnapshotHeader", "last_membership"))?;
    let meta = SnapshotMeta {
        last_log_id: log_id::opt_from_wire(header.last_log_id.as_ref()),
        last_membership: membership::stored_from_wire(last_membership)?,
    };
    Ok((by, meta))
}

pub(super) fn snapshot_response(response: &SnapshotResponse<TypeConfig>) -> wire::SnapshotResponse {
    wire::SnapshotResponse { vote: Some(vote::to_wire(&response.vote)) }
}

pub(super) fn snapshot_response_from(
    response: &wire::SnapshotResponse,
) -> Result<SnapshotResponse<TypeConfig>, ConvertError> {
    Ok(SnapshotResponse::new(vote_of(response.vote.as_ref(), "SnapshotResponse")?))
}
