//! `smscctl status`.

use serde::Serialize;
use smsc_proto::rpc::admin::{StatusRequest, StatusResponse};
use smsc_proto::rpc::raft::pair_status::Standing;
use smsc_proto::rpc::raft::{DataPathLease, NodeRole, PairStatus, PeerStatus};

use crate::connect::ConnectArgs;
use crate::exit::Failure;
use crate::output::{Format, dash, table};

/// The fields of `status --json`.
pub const JSON_HELP: &str = "\
JSON fields:
  cluster, node_id (the node that was asked), leader_id (0: none), term, quorum_healthy, address_holder (0: none),
  floating_addresses, voters, arbiter (whether a pair's third voter is one), unreachable, waiting (messages),
  sessions, warnings (sentences),
  members: [{ node_id, name, role (data|witness), leads, votes, answers, phase, holds_address, not_ready, term,
              last_log_index, applied_index, checkpoint_index, lag (log entries), version,
              data_path_lease (active|missing|not needed|unknown), data_path_missing (why),
              address_conflict (another host heard to use the address),
              pair (null, or { device (fence|operator), standing (outdated|in-sync|sole), armed, asking, left_ms (how
              long it may still go on alone), since_term, since_index (of a sole node), note }) }]";

#[derive(Debug, Serialize)]
struct StatusView {
    cluster: String,
    node_id: u64,
    leader_id: u64,
    term: u64,
    quorum_healthy: bool,
    address_holder: u64,
    floating_addresses: Vec<String>,
    voters: Vec<u64>,
    arbiter: bool,
    unreachable: Vec<u64>,
    waiting: u64,
    sessions: u64,
    warnings: Vec<String>,
    members: Vec<MemberView>,
}

#[derive(Debug, Serialize)]
struct MemberView {
    node_id: u64,
    name: String,
    role: &'static str,
    leads: bool,
    votes: bool,
    answers: bool,
    phase: String,
    holds_address: bool,
    not_ready: String,
    term: u64,
    last_log_index: u64,
    applied_index: u64,
    checkpoint_index: u64,
    lag: u64,
    version: String,
    data_path_lease: &'static str,
    data_path_missing: String,
    address_conflict: String,
    pair: Option<PairView>,
}

/// How a node of a pair stands.
#[derive(Debug, Serialize)]
struct PairView {
    device: String,
    standing: &'static str,
    armed: bool,
    asking: bool,
    left_ms: u64,
    since_term: u64,
    since_index: u64,
    note: String,
}

fn pair(pair: &PairStatus) -> PairView {
    let sole = pair.sole.unwrap_or_default();
    PairView {
        device: pair.device.clone(),
        standing: match pair.standing() {
            Standing::Outdated => "outdated",
            Standing::InSync => "in-sync",
            Standing::Sole => "sole",
        },
        armed: pair.armed,
        asking: pair.asking,
        left_ms: pair.left_ms,
        since_term: sole.since_term,
        since_index: sole.since_index,
        note: pair.note.clone(),
    }
}

/// Asks and prints.
pub async fn run(connect: &ConnectArgs, format: Format) -> Result<(), Failure> {
    let status = connect.client().await?.status(StatusRequest {}).await?.into_inner();
    format.show(&view(status), human)
}

/// A role's word.
pub fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Data => "data",
        NodeRole::Witness => "witness",
        NodeRole::Arbiter => "arbiter",
    }
}

fn data_path_lease(state: DataPathLease) -> &'static str {
    match state {
        DataPathLease::Unknown => "unknown",
        DataPathLease::Active => "active",
        DataPathLease::Missing => "missing",
        DataPathLease::NotNeeded => "not needed",
    }
}

fn view(status: StatusResponse) -> StatusView {
    let end = status.members.iter().find(|member| member.node_id == status.leader_id);
    let end = end.map_or(0, |leader| leader.last_log_index);
    let member = |member: &PeerStatus| {
        let answers = !status.unreachable.contains(&member.node_id);
        MemberView {
            node_id: member.node_id,
            name: member.name.clone(),
            role: role(member.role()),
            leads: member.node_id == status.leader_id,
            votes: status.voters.contains(&member.node_id),
            answers,
            phase: member.phase.clone(),
            holds_address: member.holds_address,
            not_ready: member.not_ready.clone(),
            term: member.term,
            last_log_index: member.last_log_index,
            applied_index: member.applied_index,
            checkpoint_index: member.checkpoint_index,
            lag: if answers { end.saturating_sub(member.last_log_index) } else { 0 },
            version: member.version.clone(),
            data_path_lease: data_path_lease(member.data_path_lease()),
            data_path_missing: member.data_path_missing.clone(),
            address_conflict: member.address_conflict.clone(),
            pair: member.pair.as_ref().map(pair),
        }
    };
    StatusView {
        members: status.members.iter().map(member).collect(),
        cluster: status.cluster,
        node_id: status.node_id,
        leader_id: status.leader_id,
        term: status.term,
        quorum_healthy: status.quorum_healthy,
        address_holder: status.address_holder,
        floating_addresses: status.floating_addresses,
        voters: status.voters,
        arbiter: status.arbiter,
        unreachable: status.unreachable,
        waiting: status.waiting,
        sessions: status.sessions,
        warnings: status.warnings,
    }
}

fn human(status: &StatusView) -> String {
    let leader = match status.members.iter().find(|member| member.leads) {
        Some(member) => format!("led by {} (node {}) in term {}", member.name, member.node_id, status.term),
        None => format!("without a leader in term {}", status.term),
    };
    let address = match status.members.iter().find(|member| member.node_id == status.address_holder) {
        Some(member) => format!("held by {} (node {})", member.name, member.node_id),
        None => "held by nobody".to_owned(),
    };
    let mut text = format!(
        "cluster {}, {leader}, quorum {}\n",
        status.cluster,
        if status.quorum_healthy { "healthy" } else { "NOT HEALTHY" }
    );
    if !status.floating_addresses.is_empty() {
        text.push_str(&format!("address {} {address}{}\n", status.floating_addresses.join(", "), guarding(status)));
    }
    text.push_str(&format!("{} messages waiting, {} sessions\n\n", status.waiting, status.sessions));
    let rows: Vec<[String; 9]> = status.members.iter().map(row).collect();
    let heading = ["NODE", "NAME", "ROLE", "STATE", "ADDRESS", "LOG", "APPLIED", "LAG", "VERSION"];
    text.push_str(&table(heading, &rows, "no members"));
    for member in &status.members {
        if let Some(pair) = &member.pair {
            let since = match pair.standing {
                "sole" => format!(" since term {}, entry {}", pair.since_term, pair.since_index),
                _ => String::new(),
            };
            let armed = if pair.armed { "armed" } else { "unarmed" };
            text.push_str(&format!(
                "\n{}: {}{since}, {armed}, quorum device {}",
                member.name, pair.standing, pair.device
            ));
        }
    }
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        text.push_str(&format!("\nwarning: {warning}"));
    }
    text
}

/// What is said of the lease in the data path behind the address: nothing where there are no packets to filter.
fn guarding(status: &StatusView) -> String {
    let with = |state: &str| {
        let names = status.members.iter().filter(|member| member.data_path_lease == state).map(|member| &*member.name);
        names.collect::<Vec<_>>().join(", ")
    };
    match (with("active"), with("missing")) {
        (active, missing) if active.is_empty() && missing.is_empty() => String::new(),
        (active, missing) if missing.is_empty() => format!(", lease in the data path on {active}"),
        (_, missing) => format!(", NO lease in the data path on {missing}"),
    }
}

fn row(member: &MemberView) -> [String; 9] {
    let number = |value: u64| if member.answers { value.to_string() } else { "-".to_owned() };
    let state = match (member.answers, member.leads, member.role) {
        (false, _, _) => "no answer".to_owned(),
        (true, true, _) => format!("leader, {}", dash(&member.phase)),
        (true, false, "witness") => "votes".to_owned(),
        (true, false, _) if member.not_ready.is_empty() => dash(&member.phase),
        (true, false, _) => format!("{}, not ready", dash(&member.phase)),
    };
    [
        member.node_id.to_string(),
        member.name.clone(),
        member.role.to_owned(),
        state,
        if member.holds_address { "held" } else { "-" }.to_owned(),
        number(member.last_log_index),
        number(member.applied_index),
        number(member.lag),
        dash(&member.version),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> StatusResponse {
        let member = |node_id: u64, name: &str, role: NodeRole| PeerStatus {
            node_id,
            name: name.to_owned(),
            role: role as i32,
            term: 4,
            leader_id: 1,
            last_log_index: 100 - node_id,
            applied_index: 90,
            phase: if node_id == 1 { "active" } else { "standby" }.to_owned(),
            holds_address: node_id == 1,
            version: "0.1.0".to_owned(),
            data_path_lease: DataPathLease::Active as i32,
            ..Default::default()
        };
        let silent =
            PeerStatus { node_id: 3, name: "w".to_owned(), role: NodeRole::Witness as i32, ..Default::default() };
        StatusResponse {
            node_id: 2,
            leader_id: 1,
            term: 4,
            members: vec![member(1, "a", NodeRole::Data), member(2, "b", NodeRole::Data), silent],
            quorum_healthy: true,
            floating_addresses: vec!["192.0.2.1/24".to_owned()],
            address_holder: 1,
            waiting: 7,
            sessions: 2,
            warnings: vec!["node 3 (w) at host3:7400 does not answer".to_owned()],
            cluster: "demo".to_owned(),
            voters: vec![1, 2, 3],
            unreachable: vec![3],
            arbiter: false,
        }
    }

    #[test]
    fn people_read_a_table() {
        assert_eq!(
            human(&view(status())),
            "\
cluster demo, led by a (node 1) in term 4, quorum healthy
address 192.0.2.1/24 held by a (node 1), lease in the data path on a, b
7 messages waiting, 2 sessions

NODE  NAME  ROLE     STATE           ADDRESS  LOG  APPLIED  LAG  VERSION
1     a     data     leader, active  held     99   90       0    0.1.0
2     b     data     standby         -        98   90       1    0.1.0
3     w     witness  no answer       -        -    -        -    -


warning: node 3 (w) at host3:7400 does not answer"
        );
    }

    #[test]
    fn scripts_read_the_clusters_own_fields_first() {
        let json = crate::output::json(&view(status())).expect("serializable");
        let at = |field: &str| json.find(field).expect(field);
        assert!(at("\"leader_id\": 1") < at("\"members\""));
        assert!(at("\"address_holder\": 1") < at("\"members\""));
        assert!(at("\"quorum_healthy\": true") < at("\"members\""));
    }
}
