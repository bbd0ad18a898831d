//! Elections, replication and leadership transfer over the transport.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver as _;
use smsc_proto::rpc::raft::LeaderNote;
use smsc_raft::consensus::tls::Security;
use smsc_raft::consensus::types::Batch;

use crate::node::{Node, form, leader_of, members, start};
use crate::pki::Pki;

fn batch(number: u64) -> Batch {
    let mut bytes = vec![0; 250];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Batch::from_encoded(Bytes::from(bytes))
}

/// A cluster of so many nodes on loopback, without certificates, and its leader.
async fn unencrypted(count: u64) -> (Vec<Node>, u64) {
    let security = Security::plaintext("127.0.0.1:0".parse().expect("an address")).expect("loopback");
    let nodes = start(count, |_| security.clone()).await;
    let leader = form(&nodes).await;
    (nodes, leader)
}

/// Proposes batches, many at a time, and waits until every node has applied them.
async fn replicate(nodes: &[Node], leader: u64, count: u64) {
    let leader = nodes.iter().find(|node| node.id == leader).expect("one of them");
    let writes = stream::iter(0..count).map(|number| leader.engine.client_write(batch(number))).buffer_unordered(256);
    let last = writes.map(|written| written.expect("committed").log_id.index()).fold(0, async |a, b| a.max(b)).await;
    for node in nodes {
        let waiting = node.engine.wait(Some(Duration::from_secs(20)));
        waiting.applied_index_at_least(Some(last), "all batches").await.expect("applied");
    }
    let rows = leader.machine.rows();
    assert_eq!(rows.len() as u64, count);
    for node in nodes {
        assert!(node.machine.rows() == rows, "node {} applied something else", node.id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_elect_and_replicate() {
    let pki = Pki::new();
    let nodes = start(3, |id| pki.node(id)).await;
    let leader = form(&nodes).await;
    let begin = Instant::now();
    replicate(&nodes, leader, 10_000).await;
    println!("10000 batches of 250 B on three nodes in {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn loopback_needs_no_certificates() {
    let (nodes, leader) = unencrypted(2).await;
    replicate(&nodes, leader, 100).await;
}

/// The leader's lease rests on its followers' having heard of it, and not on their disks.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_are_answered_while_the_disks_of_the_followers_stand_still() {
    let (nodes, id) = unencrypted(3).await;
    replicate(&nodes, id, 10).await;
    let leader = nodes.iter().find(|node| node.id == id).expect("one of them");
    let followers = || nodes.iter().filter(|node| node.id != id);
    followers().for_each(|node| node.log.stall());
    let engine = leader.engine.clone();
    let write = tokio::spawn(async move { engine.client_write(batch(10)).await });
    let metrics = leader.engine.data_metrics();
    let begun = Instant::now();
    let mut oldest = Duration::ZERO;
    while begun.elapsed() < Duration::from_millis(1500) {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let heard = metrics.borrow_watched().last_quorum_acked.expect("a leader").elapsed();
        oldest = oldest.max(heard);
    }
    assert!(oldest < Duration::from_millis(500), "a quorum was not heard of for {oldest:?}");
    assert!(!write.is_finished(), "nothing is committed that is on one disk only");
    followers().for_each(|node| node.log.go_on());
    let written = tokio::time::timeout(Duration::from_secs(10), write).await.expect("the disks go on");
    written.expect("no panic").expect("committed");
    assert_eq!(leader.engine.metrics().borrow_watched().current_leader, Some(id));
}

/// Entries above the size of a message must come through, in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn large_batches_come_through() {
    let (nodes, leader) = unencrypted(2).await;
    let leader = nodes.iter().find(|node| node.id == leader).expect("one of them");
    let large = Batch::from_encoded(Bytes::from(vec![7; 5 << 20]));
    let writes = (0..20).map(|_| leader.engine.client_write(large.clone()));
    for written in futures::future::join_all(writes).await {
        written.expect("committed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over() {
    let pki = Pki::new();
    let nodes = start(3, |id| pki.node(id)).await;
    let from = form(&nodes).await;
    replicate(&nodes, from, 10).await;
    let to = from % 3 + 1;
    let (old, new) = (&nodes[from as usize - 1], &nodes[to as usize - 1]);
    let begin = Instant::now();
    old.engine.trigger().transfer_leader(to).await.expect("running");
    new.engine.wait(Some(Duration::from_secs(5))).current_leader(to, "handed over").await.expect("leads");
    println!("handed over in {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_millis(300), "that was an election timeout and no handover");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_survivors_elect_and_go_on() {
    let pki = Pki::new();
    let mut nodes = start(3, |id| pki.node(id)).await;
    let dead = form(&nodes).await;
    replicate(&nodes, dead, 100).await;
    nodes[dead as usize - 1].kill();
    nodes.remove(dead as usize - 1);
    let leader = leader_of(&nodes).await;
    let leader = nodes.iter().find(|node| node.id == leader).expect("a survivor");
    leader.engine.client_write(batch(0)).await.expect("committed by the two");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_and_notes_reach_the_peer() {
    let pki = Pki::new();
    let nodes = start(2, |id| pki.node(id)).await;
    let peer = members(&nodes)[&2].clone();
    let within = Duration::from_secs(2);
    let transport = &nodes[0].transport;
    assert_eq!(transport.status(2, &peer, within).await.expect("answered").node_id, 2);
    let note = LeaderNote { term: 3, node_id: 1, release_token_hash: Bytes::from_static(b"hash") };
    transport.note(2, &peer, note.clone(), within).await.expect("taken");
    assert_eq!(*nodes[1].notes.lock().expect("no panic under the lock"), std::slice::from_ref(&note));

    let forged = LeaderNote { node_id: 2, ..note };
    let refused = transport.note(2, &peer, forged, within).await.expect_err("not node 2");
    assert!(refused.to_string().contains("certificate"), "{refused}");
}
