//! Heartbeats, answered without waiting for this node's disk.
//!
//! The engine answers an append once all that it accepted before is on the disk: an append's answer counts for a commit.
//! A heartbeat's counts for the leader's lease only, for which it matters that this node has heard of the leader and
//! elects nobody else for a while; and it does both as soon as the engine has looked at the heartbeat. With the engine's
//! answer a disk that stands still for the length of a lease, as under another's flush, would end a lease that is well.

use std::sync::{Mutex, PoisonError};

use openraft::Raft;
use openraft::errors::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::storage::RaftStateMachine;

use crate::consensus::types::{TypeConfig, Vote};

/// Answers the heartbeats of one node.
#[derive(Default)]
pub(super) struct Heartbeats {
    /// The leader that is known to be on the disk as the one this node follows.
    settled: Mutex<Option<Vote>>,
}

impl Heartbeats {
    /// The answer to an append, which for a heartbeat says nothing of the disk. One of a leader that nothing was answered
    /// to yet does wait: the leader's vote has to be on the disk.
    ///
    /// # Errors
    /// The engine has stopped.
    pub(super) async fn answer<SM: RaftStateMachine<TypeConfig>>(
        &self,
        raft: &Raft<TypeConfig, SM>,
        request: AppendEntriesRequest<TypeConfig>,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RaftError<TypeConfig>> {
        let AppendEntriesRequest { vote, prev_log_id, .. } = request;
        let early = request.entries.is_empty() && *self.settled() == Some(vote);
        let whole = raft.append_entries(request);
        if !early {
            let response = whole.await?;
            if response.is_success() {
                self.settle(vote);
            }
            return Ok(response);
        }
        // The engine takes one after the other: when it looks at its state for us, it has heard the heartbeat.
        let heard = raft.with_raft_state(move |state| {
            *state.vote_ref() == vote && state.log_ids.last().map(|id| id.index) >= prev_log_id.map(|id| id.index)
        });
        tokio::pin!(whole, heard);
        tokio::select! {
            biased;
            response = &mut whole => response,
            heard = &mut heard => if heard? { Ok(AppendEntriesResponse::Success) } else { whole.await },
        }
    }

    /// An append of this leader was answered by the engine: everything accepted from it then is on the disk.
    pub(super) fn settle(&self, vote: Vote) {
        *self.settled() = Some(vote);
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, Option<Vote>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
