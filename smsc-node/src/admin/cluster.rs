//! Asks the members; forms, grows and shrinks the cluster; hands leadership over.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future;
use smsc_proto::rpc::admin::admin_client::AdminClient;
use smsc_proto::rpc::admin::{
    DigestRequest, DigestResponse, HandoverResponse, InitRequest, JoinRequest, StatusResponse, TakeoverResponse,
    digest_response,
};
use smsc_proto::rpc::raft::{NodeRole, PeerStatus};
use smsc_raft::consensus::types::Member;
use smsc_raft::quorum::TakeoverError;
use smsc_raft::store::{ClusterView, Store};
use tonic::Status;

use super::host::{AdminConfig, AdminHost};
use super::status::{Findings, LAG_ENTRIES_MAX};
use super::{check, refusal};

/// How long a node may take to write down that it goes on alone.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const TAKEOVER_LOOK: Duration = Duration::from_millis(10);
/// How long a member may take to tell how it is.
const STATUS_WITHIN: Duration = Duration::from_millis(300);

/// How the cluster stands, as far as its members answer.
pub(super) async fn status(
    store: &Store,
    host: &dyn AdminHost,
    config: &AdminConfig,
) -> Result<StatusResponse, Status> {
    let view = store.view();
    let answers = ask_all(store, host, config, &view).await;
    let (waiting, sessions) = store
        .read(|machine| Ok((machine.waiting_count(), machine.session_count())))
        .map_err(|error| refusal::disk(&error))?;
    let findings = Findings {
        cluster: &config.cluster,
        node_id: config.node_id,
        view: &view,
        answers,
        floating_addresses: &config.floating_addresses,
        host_warnings: host.warnings(),
        waiting,
        sessions: u64::try_from(sessions).unwrap_or(u64::MAX),
    };
    Ok(findings.into_response())
}

async fn ask_all(
    store: &Store,
    host: &dyn AdminHost,
    config: &AdminConfig,
    view: &ClusterView,
) -> BTreeMap<u64, PeerStatus> {
    let others = view.members.iter().filter(|(id, _)| **id != config.node_id);
    let asked = others.map(|(id, member)| async move {
        // Whoever does not answer is told apart by that; the transport logs why.
        let answer = store.peer_status(*id, member, STATUS_WITHIN).await.ok()?;
        Some((*id, answer))
    });
    let (own, answers) = future::join(host.status(), future::join_all(asked)).await;
    answers.into_iter().flatten().chain([(config.node_id, own)]).collect()
}

/// The state of this node, or of every member, as a checksum.
pub(super) async fn digest(
    store: &Store,
    config: &AdminConfig,
    request: DigestRequest,
) -> Result<DigestResponse, Status> {
    let own = async {
        let taken = store.digest().await;
        let item = digest_response::Item { node_id: config.node_id, ..Default::default() };
        match taken {
            Ok((index, digest)) => digest_response::Item { index, digest, ..item },
            Err(error) => digest_response::Item { failed: error.to_string(), ..item },
        }
    };
    if request.own {
        return Ok(DigestResponse { items: vec![own.await] });
    }
    let view = store.view();
    let others = view.members.iter().filter(|(id, _)| **id != config.node_id);
    let asked = others.map(|(id, member)| async move {
        let told = async {
            let channel = store.admin_channel(*id, member).map_err(|error| error.to_string())?;
            let mut client = AdminClient::new(channel);
            let answer = client.digest(DigestRequest { own: true }).await;
            let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
            answer.items.into_iter().next().ok_or_else(|| "it told none".to_owned())
        };
        told.await.unwrap_or_else(|failed| digest_response::Item { node_id: *id, failed, ..Default::default() })
    });
    let (own, others) = future::join(own, future::join_all(asked)).await;
    let mut items: Vec<_> = others.into_iter().chain([own]).collect();
    items.sort_by_key(|item| item.node_id);
    for item in &mut items {
        item.name = view.members.get(&item.node_id).map(|member| member.name.clone()).unwrap_or_default();
    }
    Ok(DigestResponse { items })
}

/// Forms a cluster.
pub(super) async fn init(store: &Store, config: &AdminConfig, request: InitRequest) -> Result<(), Status> {
    let view = store.view();
    if view.initialized {
        return Err(Status::failed_precondition(format!(
            "node {} is part of cluster {:?} already, with voters {:?}; a cluster is formed once",
            config.node_id, config.cluster, view.voters
        )));
    }
    let members = members(request.members).map_err(Status::invalid_argument)?;
    if !members.contains_key(&config.node_id) {
        return Err(Status::invalid_argument(format!(
            "the members do not hold node {}, which was asked to form the cluster",
            config.node_id
        )));
    }
    if members.values().all(|member| member.witness) {
        return Err(Status::invalid_argument("a cluster needs a data node; all members are witnesses"));
    }
    store.initialize(members).await.map_err(|error| refusal::store(&error))
}

fn members(given: Vec<smsc_proto::rpc::admin::Member>) -> Result<BTreeMap<u64, Member>, String> {
    let mut members: BTreeMap<u64, Member> = BTreeMap::new();
    for member in given {
        check::member(&member)?;
        let (id, member) = (member.node_id, to_member(member));
        if let Some((other, _)) = members.iter().find(|(_, m)| m.name == member.name || m.addr == member.addr) {
            return Err(format!("nodes {other} and {id} have the same name or address"));
        }
        if members.insert(id, member).is_some() {
            return Err(format!("node {id} is named twice"));
        }
    }
    Ok(members)
}

fn to_member(member: smsc_proto::rpc::admin::Member) -> Member {
    let info = member.info.unwrap_or_default();
    let witness = info.role() == NodeRole::Witness;
    Member { addr: info.addr, name: info.name, witness }
}

/// Adds a member, on the leader. Returns when it is up to date and votes.
pub(super) async fn join(store: &Store, request: JoinRequest) -> Result<(), Status> {
    let joining = request.member.ok_or_else(|| Status::invalid_argument("no member named"))?;
    check::member(&joining).map_err(Status::invalid_argument)?;
    let view = store.view();
    let (id, member) = (joining.node_id, to_member(joining));
    if view.voters.contains(&id) {
        return Err(Status::already_exists(format!("node {id} is a voting member already")));
    }
    if let Some((other, _)) = view
        .members
        .iter()
        .find(|(other, known)| **other != id && (known.name == member.name || known.addr == member.addr))
    {
        return Err(Status::invalid_argument(format!("node {other} has that name or address already")));
    }
    store
        .peer_status(id, &member, Duration::from_secs(2))
        .await
        .map_err(|error| Status::failed_precondition(format!("{error}; start it first, then have it join")))?;
    store.join(id, member).await.map_err(|error| refusal::store(&error))
}

/// Removes a member, on the leader.
pub(super) async fn leave(store: &Store, config: &AdminConfig, id: u64) -> Result<(), Status> {
    let view = store.view();
    let Some(member) = view.members.get(&id) else {
        return Err(Status::not_found(format!("node {id} is no member of the cluster")));
    };
    if id == config.node_id {
        return Err(Status::failed_precondition(format!(
            "node {id} leads: hand over first with smscctl cluster handover, then have it leave"
        )));
    }
    let data_left = view.members.iter().filter(|(other, m)| **other != id && !m.witness).count();
    if !member.witness && data_left == 0 {
        return Err(Status::failed_precondition(format!("node {id} is the last data node")));
    }
    store.leave(id).await.map_err(|error| refusal::store(&error))
}

/// Gives leadership to a standby that is ready, on the leader.
pub(super) async fn handover(
    store: &Store,
    host: &dyn AdminHost,
    config: &AdminConfig,
    to: u64,
) -> Result<HandoverResponse, Status> {
    let view = store.view();
    let answers = ask_all(store, host, config, &view).await;
    let target = target(&view, &answers, config.node_id, to).map_err(Status::failed_precondition)?;
    let began = Instant::now();
    host.handover(target).await.map_err(Status::aborted)?;
    let took_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
    Ok(HandoverResponse { from: config.node_id, to: target, term: store.view().term, took_ms })
}

/// Has this node go on alone on an operator's word, and waits until it does.
pub(super) async fn takeover(store: &Store, peer_id: u64, accept_loss: bool) -> Result<TakeoverResponse, Status> {
    match store.take_over(peer_id, accept_loss).await {
        Ok(()) => {}
        Err(error @ TakeoverError::Stopping) => return Err(Status::unavailable(error.to_string())),
        Err(error) => return Err(Status::failed_precondition(error.to_string())),
    }
    let deadline = Instant::now() + TAKEOVER_WITHIN;
    loop {
        if let Some(pair) = store.pair_status().filter(|pair| pair.armed) {
            return Ok(TakeoverResponse { sole: pair.sole });
        }
        if Instant::now() >= deadline {
            return Err(Status::deadline_exceeded("the node did not go on alone in time; look at smscctl status"));
        }
        tokio::time::sleep(TAKEOVER_LOOK).await;
    }
}

/// The node to hand over to: the one asked for, or with 0 the ready one that is the least behind.
fn target(view: &ClusterView, answers: &BTreeMap<u64, PeerStatus>, leader: u64, wanted: u64) -> Result<u64, String> {
    if wanted != 0 {
        return fitness(view, answers, leader, wanted).map(|_| wanted);
    }
    let candidates = view.members.iter().filter(|(id, member)| **id != leader && !member.witness);
    let judged: Vec<_> = candidates.map(|(id, _)| (*id, fitness(view, answers, leader, *id))).collect();
    let best = judged.iter().filter_map(|(id, fit)| Some((fit.as_ref().ok()?, *id))).min();
    best.map(|(_, id)| id).ok_or_else(|| {
        let reasons: Vec<String> = judged.into_iter().filter_map(|(_, fit)| fit.err()).collect();
        match reasons.is_empty() {
            true => "there is no other data node to hand over to".to_owned(),
            false => format!("no standby is ready: {}", reasons.join("; ")),
        }
    })
}

/// How many entries a possible target is behind, or why it is none.
fn fitness(view: &ClusterView, answers: &BTreeMap<u64, PeerStatus>, leader: u64, id: u64) -> Result<u64, String> {
    let Some(member) = view.members.get(&id) else {
        return Err(format!("node {id} is no member of the cluster"));
    };
    let name = format!("node {id} ({})", member.name);
    if id == leader {
        return Err(format!("{name} leads already"));
    }
    if member.witness {
        return Err(format!("{name} is a witness and never serves"));
    }
    if !view.voters.contains(&id) {
        return Err(format!("{name} does not vote yet"));
    }
    let Some(answer) = answers.get(&id) else {
        return Err(format!("{name} does not answer"));
    };
    if !answer.not_ready.is_empty() {
        return Err(format!("{name} would not take over: {}", answer.not_ready));
    }
    let behind = view.last_log_index.saturating_sub(answer.last_log_index);
    if behind > LAG_ENTRIES_MAX {
        return Err(format!("{name} is {behind} log entries behind; wait until it has caught up"));
    }
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> (ClusterView, BTreeMap<u64, PeerStatus>) {
        let member = |id: u64| Member { addr: format!("host{id}:7400"), name: format!("n{id}"), witness: id == 4 };
        let view = ClusterView {
            leader: Some(1),
            leads: true,
            voters: vec![1, 2, 3, 4],
            members: (1..=4).map(|id| (id, member(id))).collect(),
            last_log_index: 5000,
            initialized: true,
            ..Default::default()
        };
        let answer = |id: u64| PeerStatus { node_id: id, last_log_index: 4900 + id, ..Default::default() };
        (view, (1..=4).map(|id| (id, answer(id))).collect())
    }

    #[test]
    fn the_least_behind_ready_data_node_is_chosen() {
        let (view, mut answers) = cluster();
        assert_eq!(target(&view, &answers, 1, 0), Ok(3));
        if let Some(answer) = answers.get_mut(&3) {
            answer.not_ready = "its interface is down".to_owned();
        }
        assert_eq!(target(&view, &answers, 1, 0), Ok(2));
        answers.remove(&2);
        let refused = target(&view, &answers, 1, 0).expect_err("nobody is left");
        assert!(refused.contains("does not answer") && refused.contains("interface is down"), "{refused}");
    }

    #[test]
    fn an_unfit_target_is_refused_in_words() {
        let (view, mut answers) = cluster();
        for (wanted, words) in [(1, "leads already"), (4, "witness"), (9, "no member")] {
            let refused = target(&view, &answers, 1, wanted).expect_err("unfit");
            assert!(refused.contains(words), "{refused}");
        }
        if let Some(answer) = answers.get_mut(&2) {
            answer.last_log_index = 10;
        }
        assert!(target(&view, &answers, 1, 2).expect_err("behind").contains("4990 log entries behind"));
    }
}
