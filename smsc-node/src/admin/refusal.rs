//! Refusals as gRPC statuses, so that the caller can tell a refused change from a cluster that cannot make any.

use smsc_raft::store::{ProposeError, StoreError};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

/// Metadata that says which state of the cluster stands in the way: one of [`Cause`]'s words.
pub const REASON: &str = "smsc-reason";
/// Metadata with the leader's `host:port`, where it is known.
pub const LEADER: &str = "smsc-leader";

/// A state of the cluster in which nothing can be changed through the asked node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The asked node does not lead, and the call was passed on already.
    NotLeader,
    /// No node leads, as far as the asked one knows.
    NoLeader,
    /// The leader does not answer the asked node.
    LeaderUnreachable,
}

impl Cause {
    /// The word in the metadata.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::NotLeader => "not-leader",
            Cause::NoLeader => "no-leader",
            Cause::LeaderUnreachable => "leader-unreachable",
        }
    }

    /// The cause that a status names, if its cause is the state of the cluster.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let word = status.metadata().get(REASON)?.to_str().ok()?;
        [Cause::NotLeader, Cause::NoLeader, Cause::LeaderUnreachable].into_iter().find(|cause| cause.as_str() == word)
    }
}

/// A refusal by the state of the cluster.
pub(super) fn cluster(cause: Cause, text: impl Into<String>, leader_addr: Option<&str>) -> Status {
    let code = match cause {
        Cause::NotLeader => Code::FailedPrecondition,
        Cause::NoLeader | Cause::LeaderUnreachable => Code::Unavailable,
    };
    let mut status = Status::new(code, text);
    status.metadata_mut().insert(REASON, MetadataValue::from_static(cause.as_str()));
    if let Some(Ok(addr)) = leader_addr.map(str::parse) {
        status.metadata_mut().insert(LEADER, addr);
    }
    status
}

/// A refusal that another node gave, to be passed back: its words and what this service put beside them.
pub(super) fn passed_back(from: &Status) -> Status {
    let mut status = Status::new(from.code(), from.message());
    for name in [REASON, LEADER] {
        if let Some(value) = from.metadata().get(name) {
            status.metadata_mut().insert(name, value.clone());
        }
    }
    status
}

/// Why a command has no outcome.
pub(super) fn proposal(error: &ProposeError) -> Status {
    match error {
        ProposeError::NotLeader { .. } => cluster(Cause::NoLeader, format!("{error}; try again in a moment"), None),
        ProposeError::Unknown => Status::aborted(error.to_string()),
        ProposeError::Overloaded => Status::resource_exhausted(error.to_string()),
        ProposeError::Stopped(_) => Status::unavailable(error.to_string()),
    }
}

/// Why the store or the engine refused.
pub(super) fn store(error: &StoreError) -> Status {
    Status::failed_precondition(error.to_string())
}

/// The store cannot be read: the node is about to stop.
pub(super) fn disk(error: &std::io::Error) -> Status {
    Status::internal(format!("the message store cannot be read: {error}; the node stops, see its log"))
}
