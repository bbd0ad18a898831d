//! Memberships: who votes, who is known, and which entry said so.

use std::collections::{BTreeMap, BTreeSet};

use openraft::Membership;
use smsc_proto::rpc::raft as wire;

use super::{ConvertError, log_id, required};
use crate::consensus::types::{Member, StoredMembership};

/// The membership as a record.
pub fn to_wire(membership: &Membership<u64, Member>) -> wire::Membership {
    let configs = membership.get_joint_config().iter();
    wire::Membership {
        configs: configs.map(|voters| wire::membership::Config { voters: voters.iter().copied().collect() }).collect(),
        nodes: membership.nodes().map(|(id, member)| (*id, member_to_wire(member))).collect(),
    }
}

/// The membership that a record holds.
///
/// # Errors
/// A set of voters is empty, or a voter is not among the nodes.
pub fn from_wire(membership: wire::Membership) -> Result<Membership<u64, Member>, ConvertError> {
    let configs: Vec<BTreeSet<u64>> =
        membership.configs.into_iter().map(|config| config.voters.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, Member> =
        membership.nodes.into_iter().map(|(id, node)| (id, member_from_wire(node))).collect();
    Membership::new(configs, nodes).map_err(|e| ConvertError::Membership { reason: e.to_string() })
}

/// The membership in force and the entry that set it, as a record.
pub fn stored_to_wire(stored: &StoredMembership) -> wire::StoredMembership {
    wire::StoredMembership {
        log_id: log_id::opt_to_wire(stored.log_id().as_ref()),
        membership: Some(to_wire(stored.membership())),
    }
}

/// The membership in force and the entry that set it; no log id means that none was ever set.
///
/// # Errors
/// The membership is absent, or one that cannot be.
pub fn stored_from_wire(stored: wire::StoredMembership) -> Result<StoredMembership, ConvertError> {
    let membership = from_wire(required(stored.membership, "StoredMembership", "membership")?)?;
    Ok(StoredMembership::new(log_id::opt_from_wire(stored.log_id.as_ref()), membership))
}

fn member_to_wire(member: &Member) -> wire::NodeInfo {
    wire::NodeInfo { addr: member.addr.clone(), name: member.name.clone(), role: member.role().into() }
}

/// A role of a later version counts as a data node's: it votes and keeps like any other.
fn member_from_wire(node: wire::NodeInfo) -> Member {
    let witness = matches!(node.role(), wire::NodeRole::Witness | wire::NodeRole::Arbiter);
    Member { addr: node.addr, name: node.name, witness }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consensus::types::LogId;

    fn member(name: &str, witness: bool) -> Member {
        Member { addr: format!("{name}.example:7000"), name: name.to_owned(), witness }
    }

    fn joint() -> Membership<u64, Member> {
        let nodes = BTreeMap::from([(1, member("a", false)), (2, member("b", false)), (3, member("w", true))]);
        Membership::new(vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])], nodes).expect("voters are nodes")
    }

    #[test]
    fn a_membership_survives_the_round_trip() {
        assert_eq!(from_wire(to_wire(&joint())), Ok(joint()));
        let id: LogId = log_id::from_wire(&wire::LogId { term: 3, node_id: 1, index: 9 });
        for stored in [StoredMembership::default(), StoredMembership::new(Some(id), joint())] {
            assert_eq!(stored_from_wire(stored_to_wire(&stored)), Ok(stored));
        }
    }

    #[test]
    fn an_arbiter_stays_one() {
        let nodes = BTreeMap::from([(1, member("a", false)), (2, member("b", false)), (256, Member::arbiter())]);
        let pair = Membership::new(vec![BTreeSet::from([1, 2, 256])], nodes).expect("voters are nodes");
        let record = to_wire(&pair);
        assert_eq!(record.nodes[&256].role(), wire::NodeRole::Arbiter);
        assert_eq!(from_wire(record), Ok(pair));
    }

    #[test]
    fn a_voter_that_is_no_node_is_refused() {
        let mut record = to_wire(&joint());
        record.nodes.remove(&3);
        assert!(matches!(from_wire(record), Err(ConvertError::Membership { .. })));
    }

    #[test]
    fn an_absent_membership_is_refused() {
        let record = wire::StoredMembership { log_id: None, membership: None };
        let missing = ConvertError::Missing { record: "StoredMembership", field: "membership" };
        assert_eq!(stored_from_wire(record), Err(missing));
    }
}
