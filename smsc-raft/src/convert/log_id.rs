//! Log ids: the leader that wrote an entry, and the entry's index.

use openraft::alias::CommittedLeaderIdOf;
use smsc_proto::rpc::raft as wire;

use crate::consensus::types::{LogId, TypeConfig};

/// The log id as a record.
pub fn to_wire(id: &LogId) -> wire::LogId {
    let leader = id.committed_leader_id();
    wire::LogId { term: leader.term, node_id: leader.node_id, index: id.index() }
}

/// The log id that a record holds; every field of it has a meaning when zero, so none is missed.
pub fn from_wire(id: &wire::LogId) -> LogId {
    LogId::new(CommittedLeaderIdOf::<TypeConfig> { term: id.term, node_id: id.node_id }, id.index)
}

/// A log id that may be absent, as of an empty log.
pub fn opt_to_wire(id: Option<&LogId>) -> Option<wire::LogId> {
    id.map(to_wire)
}

/// A log id that may be absent, as of an empty log.
pub fn opt_from_wire(id: Option<&wire::LogId>) -> Option<LogId> {
    id.map(from_wire)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_id_survives_the_round_trip() {
        for (term, node_id, index) in [(0, 0, 0), (1, 2, 3), (u64::MAX, u64::MAX, u64::MAX)] {
            let record = wire::LogId { term, node_id, index };
            assert_eq!(to_wire(&from_wire(&record)), record);
        }
        assert_eq!(opt_from_wire(None), None);
        assert_eq!(opt_to_wire(None), None);
    }
}
