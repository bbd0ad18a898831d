//! Who answers a call, and how a call reaches the leader.

use smsc_proto::rpc::admin::admin_client::AdminClient;
use smsc_raft::store::Store;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::MESSAGE_BYTES_MAX;
use super::refusal::{self, Cause};

/// Metadata by which a read is asked of the leader: the value is `leader`.
pub const AT: &str = "smsc-at";
/// Metadata on a call that a node passed on: the value is the node's id.
const PASSED_ON_BY: &str = "smsc-passed-on-by";

/// Whose word a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answers {
    /// The leader's: it changes something, or asks for what only the leader knows.
    Leader,
    /// The asked node's, unless the caller wants the leader's.
    Anyone,
}

/// The way to the leader from the node that was asked.
#[derive(Clone)]
pub(super) struct Relay {
    pub(super) store: Store,
    pub(super) node_id: u64,
}

impl Relay {
    /// A client of the leader when it is not for this node to answer the call; `None` when it is.
    ///
    /// # Errors
    /// No node leads, or the call was passed on already and this node does not lead.
    pub(super) fn way<T>(
        &self,
        request: &Request<T>,
        answers: Answers,
    ) -> Result<Option<AdminClient<Channel>>, Status> {
        let at_leader = request.metadata().get(AT).is_some_and(|value| value == "leader");
        if answers == Answers::Anyone && !at_leader {
            return Ok(None);
        }
        let view = self.store.view();
        if view.leads {
            return Ok(None);
        }
        let Some((leader, member)) = view.leader.and_then(|id| Some((id, view.members.get(&id)?))) else {
            let text = if view.initialized {
                "no node leads now; see smscctl status"
            } else {
                "this node is part of no cluster yet: form one with smscctl cluster init, or have it join one"
            };
            return Err(refusal::cluster(Cause::NoLeader, text, None));
        };
        if request.metadata().contains_key(PASSED_ON_BY) {
            let text = format!("this node does not lead, node {leader} at {} does; try again", member.addr);
            return Err(refusal::cluster(Cause::NotLeader, text, Some(&member.addr)));
        }
        let channel = self.store.admin_channel(leader, member).map_err(|error| {
            refusal::cluster(Cause::LeaderUnreachable, format!("the leader: {error}"), Some(&member.addr))
        })?;
        let client = AdminClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Ok(Some(client))
    }

    /// The call as it is passed on: the same words, and whence they come.
    pub(super) fn passed_on<T>(&self, request: Request<T>) -> Request<T> {
        let mut passed_on = Request::new(request.into_inner());
        passed_on.metadata_mut().insert(PASSED_ON_BY, MetadataValue::from(self.node_id));
        passed_on.metadata_mut().insert(AT, MetadataValue::from_static("leader"));
        passed_on
    }

    /// The leader's answer as it is passed back.
    ///
    /// # Errors
    /// The leader's refusal, or that it could not be reached.
    pub(super) fn passed_back<T>(&self, answer: Result<Response<T>, Status>) -> Result<Response<T>, Status> {
        match answer {
            Ok(response) => Ok(Response::new(response.into_inner())),
            Err(status) if is_transport(&status) => {
                let text = format!(
                    "the leader could not be reached or fell away while it was asked ({}); see whether the change took effect before you repeat it",
                    status.message()
                );
                Err(refusal::cluster(Cause::LeaderUnreachable, text, None))
            }
            Err(status) => Err(refusal::passed_back(&status)),
        }
    }
}

/// Whether the status was made on this side, for want of an answer: one that came from the other has no source.
fn is_transport(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}
