//! The cluster's state and warnings out of what its members said. Pure.

use std::collections::{BTreeMap, BTreeSet};

use smsc_proto::rpc::admin::StatusResponse;
use smsc_proto::rpc::raft::pair_status::Standing;
use smsc_proto::rpc::raft::{DataPathLease, NodeRole, PeerStatus};
use smsc_raft::store::ClusterView;

/// Entries by which a member may be behind before that is worth a warning; a second or so under full load.
pub(super) const LAG_ENTRIES_MAX: u64 = 2000;

/// What is known when the members have been asked.
pub(super) struct Findings<'a> {
    /// Name of the cluster.
    pub(super) cluster: &'a str,
    /// The node that asked.
    pub(super) node_id: u64,
    /// Its view of the cluster.
    pub(super) view: &'a ClusterView,
    /// Who answered, this node included.
    pub(super) answers: BTreeMap<u64, PeerStatus>,
    /// The floating addresses of this node's configuration.
    pub(super) floating_addresses: &'a [String],
    /// What this host has to say.
    pub(super) host_warnings: Vec<String>,
    /// Messages that wait here.
    pub(super) waiting: u64,
    /// Entries in the session registry here.
    pub(super) sessions: u64,
}

impl Findings<'_> {
    /// The answer to an operator.
    pub(super) fn into_response(self) -> StatusResponse {
        let leader_id = self.leader().unwrap_or(0);
        let term = self.answers.values().map(|answer| answer.term).fold(self.view.term, u64::max);
        let holders: Vec<u64> = self.answers.values().filter(|a| a.holds_address).map(|a| a.node_id).collect();
        let quorum_healthy = self.quorum_healthy(leader_id);
        let unreachable: Vec<u64> =
            self.view.members.keys().filter(|id| !self.answers.contains_key(id)).copied().collect();
        let warnings = self.warnings(leader_id, quorum_healthy, &holders, &unreachable);
        let mut members: BTreeMap<u64, PeerStatus> = self
            .view
            .members
            .iter()
            .map(|(id, member)| {
                let silent = PeerStatus {
                    node_id: *id,
                    name: member.name.clone(),
                    role: member.role() as i32,
                    ..Default::default()
                };
                (*id, silent)
            })
            .collect();
        members.extend(self.answers);
        StatusResponse {
            node_id: self.node_id,
            leader_id,
            term,
            members: members.into_values().collect(),
            quorum_healthy,
            floating_addresses: self.floating_addresses.to_vec(),
            address_holder: match holders[..] {
                [holder] => holder,
                _ => 0,
            },
            waiting: self.waiting,
            sessions: self.sessions,
            warnings,
            cluster: self.cluster.to_owned(),
            voters: self.view.voters.clone(),
            unreachable,
            arbiter: self.view.arbiter,
        }
    }

    /// The leader of the newest term that any member who answered knows of.
    fn leader(&self) -> Option<u64> {
        let known = self.answers.values().filter(|answer| answer.leader_id != 0);
        let newest = known.max_by_key(|answer| answer.term).map(|answer| (answer.term, answer.leader_id));
        let own = self.view.leader.map(|id| (self.view.term, id));
        own.max(newest).map(|(_, id)| id)
    }

    /// A majority answers, agrees on the leader, and the leader is among them.
    fn quorum_healthy(&self, leader_id: u64) -> bool {
        let agree = |id: &&u64| self.answers.get(id).is_some_and(|answer| answer.leader_id == leader_id);
        let arbiter = usize::from(self.view.arbiter);
        // The arbiter votes with the node that goes on alone, and with nobody otherwise.
        let armed = self.answers.get(&leader_id).and_then(|leader| leader.pair.as_ref()).is_some_and(|pair| pair.armed);
        let agreeing = self.view.voters.iter().filter(agree).count() + arbiter * usize::from(armed);
        let voters = self.view.voters.len() + arbiter;
        leader_id != 0 && self.answers.contains_key(&leader_id) && agreeing > voters / 2
    }

    fn warnings(&self, leader_id: u64, quorum_healthy: bool, holders: &[u64], unreachable: &[u64]) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.view.voters.is_empty() {
            warnings.push(format!(
                "node {} is part of no cluster yet: form one with smscctl cluster init, or have it join one",
                self.node_id
            ));
            warnings.extend(self.host_warnings.iter().cloned());
            return warnings;
        }
        for id in unreachable {
            let addr = self.view.members.get(id).map_or("", |member| member.addr.as_str());
            warnings.push(format!("{} at {addr} does not answer", self.named(*id)));
        }
        if leader_id == 0 {
            warnings.push("no node leads: nothing is accepted".to_owned());
        } else if !quorum_healthy {
            warnings.push("no majority of the voters answers and agrees on the leader".to_owned());
        }
        self.warn_of_address(leader_id, holders, &mut warnings);
        self.warn_of_the_network(&mut warnings);
        self.warn_of_standbys(leader_id, &mut warnings);
        self.warn_of_votes(&mut warnings);
        let versions: BTreeSet<&str> = self.answers.values().map(|a| a.version.as_str()).collect();
        if versions.len() > 1 {
            let versions = versions.into_iter().collect::<Vec<_>>().join(", ");
            warnings.push(format!("the nodes run different versions: {versions}"));
        }
        warnings.extend(self.host_warnings.iter().cloned());
        warnings
    }

    fn warn_of_address(&self, leader_id: u64, holders: &[u64], warnings: &mut Vec<String>) {
        match holders {
            [] => warnings.push("no node holds the floating address: ESMEs reach nobody".to_owned()),
            [holder] if *holder != leader_id => {
                warnings.push(format!("{} holds the floating address but does not lead", self.named(*holder)));
            }
            [_] => {}
            _ => {
                let names = holders.iter().map(|id| self.named(*id)).collect::<Vec<_>>().join(" and ");
                warnings.push(format!("{names} both hold the floating address: stop the one that does not lead"));
            }
        }
    }

    fn warn_of_the_network(&self, warnings: &mut Vec<String>) {
        for answer in self.answers.values() {
            let name = self.named(answer.node_id);
            if !answer.address_conflict.is_empty() {
                warnings.push(format!(
                    "{name} hears another host use the floating address, {}: an old owner is not fenced; switch it off \
                     or remove the address there",
                    answer.address_conflict
                ));
            }
            if answer.data_path_lease() == DataPathLease::Missing {
                warnings.push(format!("{name} has no lease in the data path: {}", answer.data_path_missing));
            }
        }
    }

    fn warn_of_standbys(&self, leader_id: u64, warnings: &mut Vec<String>) {
        let mut ready = 0;
        for answer in self.answers.values().filter(|answer| answer.node_id != leader_id) {
            let lag = self.lag(leader_id, answer);
            if lag > LAG_ENTRIES_MAX {
                warnings.push(format!("{} is {lag} log entries behind the leader", self.named(answer.node_id)));
            }
            if answer.role() != NodeRole::Data {
                continue;
            }
            if answer.not_ready.is_empty() {
                ready += usize::from(lag <= LAG_ENTRIES_MAX);
            } else {
                warnings.push(format!("{} would not take over: {}", self.named(answer.node_id), answer.not_ready));
            }
        }
        if leader_id != 0 && ready == 0 {
            warnings.push("no standby is ready to take over".to_owned());
        }
    }

    fn warn_of_votes(&self, warnings: &mut Vec<String>) {
        for (id, _) in self.view.members.iter().filter(|(id, _)| !self.view.voters.contains(id)) {
            warnings.push(format!("{} is being brought up to date and does not vote yet", self.named(*id)));
        }
        if self.view.arbiter {
            return self.warn_of_pair(warnings);
        }
        match self.view.voters.len() {
            1 => warnings.push("a single voter: nothing is replicated; join more nodes".to_owned()),
            votes if votes.is_multiple_of(2) => warnings.push(format!(
                "{votes} voters survive no more failures than {} would; {}",
                votes - 1,
                if votes == 2 {
                    "a pair stops when one fails: set a quorum device on both nodes, or join a witness"
                } else {
                    "join one more, a witness will do"
                }
            )),
            _ => {}
        }
    }

    /// What the nodes of a pair may do without each other, and what to do when they stand still.
    fn warn_of_pair(&self, warnings: &mut Vec<String>) {
        for (id, pair) in self.answers.iter().filter_map(|(id, answer)| Some((*id, answer.pair.as_ref()?))) {
            let peers = self.view.voters.iter().find(|voter| **voter != id);
            let lost = peers.filter(|peer| !self.answers.contains_key(peer));
            let name = self.named(id);
            match (pair.standing(), lost) {
                (Standing::Sole, _) => {
                    let since = pair.sole.unwrap_or_default();
                    warnings.push(format!(
                        "{name} goes on alone since term {}, entry {}: nothing accepted since is on a second node",
                        since.since_term, since.since_index
                    ));
                }
                (Standing::InSync, Some(peer)) if pair.device == "operator" => warnings.push(format!(
                    "{name} waits for an operator: once node {peer} is certainly off, run smscctl cluster takeover \
                     --peer-is-down {peer} on {name}, within {} s",
                    pair.left_ms / 1000
                )),
                (Standing::InSync, Some(_)) if pair.asking => {
                    warnings.push(format!("{name} is asking its quorum device ({})", pair.device));
                }
                (Standing::InSync, Some(_)) => warnings.push(format!("{name} does not go on alone yet: {}", pair.note)),
                (Standing::Outdated, _) => warnings.push(format!("{name} may not go on alone: {}", pair.note)),
                (Standing::InSync, None) => {}
            }
        }
    }

    fn lag(&self, leader_id: u64, answer: &PeerStatus) -> u64 {
        let end = self.answers.get(&leader_id).map_or(0, |leader| leader.last_log_index);
        end.saturating_sub(answer.last_log_index)
    }

    fn named(&self, id: u64) -> String {
        match self.view.members.get(&id) {
            Some(member) => format!("node {id} ({})", member.name),
            None => format!("node {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use smsc_raft::consensus::types::Member;

    use super::*;

    fn view() -> ClusterView {
        let member = |id: u64| Member { addr: format!("host{id}:7400"), name: format!("n{id}"), witness: id == 3 };
        ClusterView {
            term: 4,
            leader: Some(1),
            voters: vec![1, 2, 3],
            members: (1..=3).map(|id| (id, member(id))).collect(),
            initialized: true,
            ..Default::default()
        }
    }

    fn answer(node_id: u64) -> (u64, PeerStatus) {
        let role = if node_id == 3 { NodeRole::Witness } else { NodeRole::Data };
        let status = PeerStatus {
            node_id,
            name: format!("n{node_id}"),
            role: role as i32,
            term: 4,
            leader_id: 1,
            last_log_index: 100,
            holds_address: node_id == 1,
            version: "0.1.0".to_owned(),
            ..Default::default()
        };
        (node_id, status)
    }

    fn response(view: &ClusterView, answers: impl IntoIterator<Item = (u64, PeerStatus)>) -> StatusResponse {
        let findings = Findings {
            cluster: "demo",
            node_id: 1,
            view,
            answers: answers.into_iter().collect(),
            floating_addresses: &["192.0.2.1/32".to_owned()],
            host_warnings: Vec::new(),
            waiting: 0,
            sessions: 0,
        };
        findings.into_response()
    }

    #[test]
    fn a_cluster_at_its_best_gives_no_warning() {
        let status = response(&view(), [answer(1), answer(2), answer(3)]);
        assert_eq!(status.warnings, Vec::<String>::new());
        assert!(status.quorum_healthy);
        assert_eq!((status.leader_id, status.address_holder, status.term), (1, 1, 4));
    }

    #[test]
    fn a_dead_standby_is_named() {
        let status = response(&view(), [answer(1), answer(3)]);
        assert!(status.quorum_healthy);
        assert_eq!(status.unreachable, [2]);
        assert_eq!(status.members.len(), 3);
        assert_eq!(status.warnings, ["node 2 (n2) at host2:7400 does not answer", "no standby is ready to take over"]);
    }

    #[test]
    fn a_lone_survivor_is_no_quorum() {
        let (id, alone) = answer(2);
        let status = response(&view(), [(id, PeerStatus { leader_id: 0, ..alone })]);
        assert!(!status.quorum_healthy);
        assert_eq!(status.address_holder, 0);
    }

    #[test]
    fn two_holders_are_told_and_none_is_named_as_the_one() {
        let (id, mut second) = answer(2);
        second.holds_address = true;
        let status = response(&view(), [answer(1), (id, second), answer(3)]);
        assert_eq!(status.address_holder, 0);
        assert!(status.warnings.iter().any(|w| w.contains("both hold")), "{:?}", status.warnings);
    }

    #[test]
    fn a_newer_term_decides_who_leads() {
        let newer = |id| {
            let (id, status) = answer(id);
            (id, PeerStatus { term: 5, leader_id: 2, holds_address: id == 2, ..status })
        };
        let status = response(&view(), [answer(1), newer(2), newer(3)]);
        assert_eq!((status.leader_id, status.term), (2, 5));
        assert!(status.quorum_healthy);
    }

    #[test]
    fn a_pair_that_stands_still_is_told_what_to_do() {
        let mut pair = view();
        (pair.voters, pair.arbiter) = (vec![1, 2], true);
        pair.members.remove(&3);
        let standing = |standing: Standing, device: &str, armed: bool| smsc_proto::rpc::raft::PairStatus {
            standing: standing.into(),
            device: device.to_owned(),
            armed,
            left_ms: 90_000,
            ..Default::default()
        };
        let (id, alone) = answer(2);
        let waits =
            PeerStatus { leader_id: 0, pair: Some(standing(Standing::InSync, "operator", false)), ..alone.clone() };
        let status = response(&pair, [(id, waits)]);
        assert!(!status.quorum_healthy);
        assert!(status.warnings.iter().any(|w| w.contains("--peer-is-down 1")), "{:?}", status.warnings);
        let sole = PeerStatus { leader_id: 2, pair: Some(standing(Standing::Sole, "fence", true)), ..alone };
        let status = response(&ClusterView { leader: Some(2), ..pair }, [(id, sole)]);
        assert!(status.quorum_healthy, "{:?}", status.warnings);
        assert!(status.warnings.iter().any(|w| w.contains("goes on alone since")), "{:?}", status.warnings);
    }

    #[test]
    fn a_pair_is_told_what_it_lacks() {
        let mut pair = view();
        pair.voters = vec![1, 2];
        pair.members.remove(&3);
        let status = response(&pair, [answer(1), answer(2)]);
        assert!(status.warnings.iter().any(|w| w.contains("quorum device")), "{:?}", status.warnings);
    }
}
