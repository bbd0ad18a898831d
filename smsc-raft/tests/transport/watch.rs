//! How soon the loss of a peer shows.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use smsc_raft::consensus::network::{Link, Loss};

use crate::node::{Node, form, leader_of, members, start, until, until_connected};
use crate::pki::Pki;
use crate::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_peer_shows_at_once() {
    let pki = Pki::new();
    let mut nodes = start(3, |id| pki.node(id)).await;
    form(&nodes).await;
    for node in &nodes[..2] {
        until_connected(&node.watch, 3).await;
    }
    let killed = nodes[2].kill();
    for node in &nodes[..2] {
        let state = until(&node.watch, 3, |state| matches!(state.link, Link::Lost { .. })).await;
        let Link::Lost { at, cause } = state.link else { unreachable!("waited for it") };
        println!("node {}: lost after {:?}, {cause:?}", node.id, at - killed);
        assert!(matches!(cause, Loss::Closed(_)), "{cause:?}");
        assert!(at - killed < Duration::from_millis(100), "noticed after {:?} only", at - killed);
        assert_eq!(state.losses, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_shuts_down_ends_its_streams() {
    let pki = Pki::new();
    let mut nodes = start(2, |id| pki.node(id)).await;
    form(&nodes).await;
    until_connected(&nodes[0].watch, 2).await;
    let begin = Instant::now();
    nodes[1].shutdown.send_replace(true);
    let state = until(&nodes[0].watch, 2, |state| matches!(state.link, Link::Lost { .. })).await;
    let Link::Lost { at, .. } = state.link else { unreachable!("waited for it") };
    assert!(at - begin < Duration::from_millis(100), "noticed after {:?} only", at - begin);
    let serving = nodes[1].serving.take().expect("was serving");
    serving.await.expect("no panic").expect("a clean end");
    assert!(begin.elapsed() < Duration::from_millis(1500), "took {:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_peer_is_lost_and_found_again() {
    let pki = Pki::new();
    let nodes = start(2, |id| pki.node(id)).await;
    let proxy = Proxy::to(nodes[1].addr).await;
    let mut known: BTreeMap<_, _> = members(&nodes);
    known.get_mut(&2).expect("a member").addr = proxy.addr.to_string();
    nodes[0].watch_members(&known);
    until_connected(&nodes[0].watch, 2).await;

    let begin = Instant::now();
    proxy.set_silent(true);
    let state = until(&nodes[0].watch, 2, |state| matches!(state.link, Link::Lost { .. })).await;
    let Link::Lost { at, cause } = state.link else { unreachable!("waited for it") };
    println!("silence noticed after {:?}", at - begin);
    assert_eq!(cause, Loss::Silent(3));
    assert!(at - begin < Duration::from_millis(500), "noticed after {:?} only", at - begin);

    proxy.set_silent(false);
    let begin = Instant::now();
    until_connected(&nodes[0].watch, 2).await;
    println!("found again after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(1), "found again after {:?} only", begin.elapsed());
}

/// What was under way when the peer fell silent is given up with the connection and sent again.
#[tokio::test(flavor = "multi_thread")]
async fn replication_goes_on_after_a_silence() {
    let pki = Pki::new();
    let nodes = start(2, |id| pki.node(id)).await;
    let (to_first, to_second) = (Proxy::to(nodes[0].addr).await, Proxy::to(nodes[1].addr).await);
    let mut known = members(&nodes);
    known.get_mut(&1).expect("a member").addr = to_first.addr.to_string();
    known.get_mut(&2).expect("a member").addr = to_second.addr.to_string();
    for node in &nodes {
        node.watch_members(&known);
    }
    nodes[0].engine.initialize(known).await.expect("pristine");
    leader_of(&nodes).await;
    for (node, peer) in [(&nodes[0], 2), (&nodes[1], 1)] {
        until_connected(&node.watch, peer).await;
    }
    to_first.set_silent(true);
    to_second.set_silent(true);
    until(&nodes[0].watch, 2, |state| matches!(state.link, Link::Lost { .. })).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    to_first.set_silent(false);
    to_second.set_silent(false);
    let begin = Instant::now();
    leader_of(&nodes).await;
    println!("committed {:?} after the end of the silence", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(3), "committed after {:?} only", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_survives_a_restart_and_a_removal() {
    let pki = Pki::new();
    let mut nodes = start(2, |id| pki.node(id)).await;
    let mut known = members(&nodes);
    nodes[0].watch_members(&known);
    until_connected(&nodes[0].watch, 2).await;
    nodes[1].kill();
    until(&nodes[0].watch, 2, |state| matches!(state.link, Link::Lost { .. })).await;

    // It comes back under another address.
    nodes[1] = Node::start(2, &pki.node(2)).await;
    known.insert(2, nodes[1].member());
    nodes[0].watch_members(&known);
    until_connected(&nodes[0].watch, 2).await;

    known.remove(&2);
    nodes[0].watch_members(&known);
    assert!(nodes[0].watch.subscribe().borrow().is_empty());
}
