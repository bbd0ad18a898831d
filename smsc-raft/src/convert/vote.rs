//! Votes: for whom, in which term, and whether a quorum granted it.

use openraft::alias::LeaderIdOf;
use smsc_proto::rpc::raft as wire;

use super::{ConvertError, required};
use crate::consensus::types::{TypeConfig, Vote};

/// The vote as a record.
pub fn to_wire(vote: &Vote) -> wire::Vote {
    let leader = vote.leader_id();
    wire::Vote {
        leader_id: Some(wire::LeaderId { term: leader.term, node_id: leader.node_id }),
        committed: vote.is_committed(),
    }
}

/// The vote that a record holds.
///
/// # Errors
/// The record names no leader.
pub fn from_wire(vote: &wire::Vote) -> Result<Vote, ConvertError> {
    let leader = required(vote.leader_id, "Vote", "leader_id")?;
    Ok(Vote {
        leader_id: LeaderIdOf::<TypeConfig> { term: leader.term, node_id: leader.node_id },
        committed: vote.committed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vote_survives_the_round_trip() {
        for vote in [Vote::new(0, 0), Vote::new(7, 2), Vote::new_committed(7, 2)] {
            assert_eq!(from_wire(&to_wire(&vote)), Ok(vote));
        }
    }

    #[test]
    fn a_vote_for_nobody_is_refused() {
        let refused = from_wire(&wire::Vote { leader_id: None, committed: true });
        assert_eq!(refused, Err(ConvertError::Missing { record: "Vote", field: "leader_id" }));
    }
}
