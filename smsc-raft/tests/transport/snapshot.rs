//! Snapshots over the transport.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::errors::{ReplicationClosed, StreamingError};
use openraft::network::{NetSnapshot as _, RPCOption, RaftNetworkFactory as _};
use smsc_proto::rpc::raft::raft_client::RaftClient;
use smsc_proto::rpc::raft::snapshot_chunk::Part;
use smsc_proto::rpc::raft::{
    LeaderId, LogId, Membership, NodeInfo, SnapshotChunk, SnapshotEnd, SnapshotHeader, SnapshotResponse, SnapshotRow,
    SnapshotRows, StoredMembership, Vote, membership,
};
use smsc_raft::consensus::network::{SnapshotRow as NetRow, SnapshotSource};
use smsc_raft::consensus::tls::Security;
use smsc_raft::consensus::types::{Batch, Member, TypeConfig};
use tonic::{Code, Status};

use crate::node::{Node, form, start};
use crate::pki::Pki;
use crate::proxy::Proxy;

/// A node that joins after the log was purged gets it all as a snapshot, of many pieces and two tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_gets_a_snapshot() {
    let pki = Pki::new();
    let mut nodes = vec![Node::start(1, &pki.node(1)).await];
    form(&nodes).await;
    let leader = nodes[0].engine.clone();
    for number in 0..200_usize {
        let batch = Batch::from_encoded(Bytes::from(vec![number as u8; 20_000 + number]));
        leader.client_write(batch).await.expect("committed");
    }
    let applied = leader.client_write(Batch::from_encoded(Bytes::new())).await.expect("committed").log_id;
    leader.trigger().snapshot().await.expect("running");
    let waiting = leader.wait(Some(Duration::from_secs(10)));
    waiting.snapshot(applied, "built").await.expect("built");
    leader.trigger().purge_log(applied.index()).await.expect("running");
    let waiting = leader.wait(Some(Duration::from_secs(10)));
    waiting.purged(Some(applied), "purged").await.expect("purged");

    let joining = Node::start(2, &pki.node(2)).await;
    let proxy = Proxy::to(joining.addr).await;
    let member = Member { addr: proxy.addr.to_string(), ..joining.member() };
    let joined = leader.add_learner(2, member, true).await.expect("caught up").log_id.index();
    let waiting = joining.engine.wait(Some(Duration::from_secs(10)));
    waiting.applied_index_at_least(Some(joined), "all of it").await.expect("applied");
    nodes.push(joining);
    assert!(nodes[0].machine.rows() == nodes[1].machine.rows());
    assert_eq!(nodes[1].machine.rows().len(), 201);
    assert_eq!(*nodes[1].inbox.finished.lock().expect("no panic under the lock"), 1);
    // Heartbeats, replication and the snapshot do not share a connection.
    assert_eq!(proxy.accepted(), 3);
}

/// Rows without end; tells when it is let go.
struct Endless(Arc<()>);

impl SnapshotSource for Endless {
    fn rows(self) -> impl Iterator<Item = io::Result<NetRow>> {
        let value = Bytes::from(vec![0; 10_000]);
        (0_u64..).map(move |number| {
            let _held = &self.0;
            Ok(NetRow { table: "even", key: Bytes::copy_from_slice(&number.to_be_bytes()), value: value.clone() })
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_snapshot_ends_on_both_sides() {
    let security = Security::plaintext("127.0.0.1:0".parse().expect("an address")).expect("loopback");
    let nodes = start(2, |_| security.clone()).await;
    let mut client = nodes[0].transport.factory::<Endless>().new_snapshot_client(2, &nodes[1].member()).await;
    let held = Arc::new(());
    let snapshot =
        SnapshotOf::<TypeConfig, _> { meta: SnapshotMetaOf::<TypeConfig>::default(), snapshot: Endless(held.clone()) };
    let opened = nodes[1].inbox.opened.clone();
    let cancel = async move {
        while *opened.lock().expect("no panic under the lock") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        ReplicationClosed::new("enough")
    };
    let vote = smsc_raft::consensus::types::Vote::new_committed(1, 1);
    let option = RPCOption::new(Duration::from_secs(1));
    let ended = client.full_snapshot(vote, snapshot, cancel, option).await.expect_err("never whole");
    assert!(matches!(ended, StreamingError::Closed(_)), "{ended}");

    let begin = Instant::now();
    while Arc::strong_count(&held) > 1 {
        assert!(begin.elapsed() < Duration::from_secs(2), "the reader goes on");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The place for snapshots is free again, though nobody said so to the peer.
    let whole =
        tokio::time::timeout(Duration::from_secs(5), send(&nodes[1], vec![header(), rows(b"ab"), end(1, b"keyab")]));
    whole.await.expect("the receiver goes on").expect("taken");
    assert_eq!(*nodes[1].inbox.finished.lock().expect("no panic under the lock"), 1);
}

fn header() -> Part {
    let id = LogId { term: 1, node_id: 9, index: 5 };
    let node = NodeInfo { addr: "192.0.2.9:1".to_owned(), name: "nine".to_owned(), role: 0 };
    let membership = Membership { configs: vec![membership::Config { voters: vec![9] }], nodes: [(9, node)].into() };
    Part::Header(SnapshotHeader {
        vote: Some(Vote { leader_id: Some(LeaderId { term: 1, node_id: 9 }), committed: true }),
        last_log_id: Some(id),
        last_membership: Some(StoredMembership { log_id: Some(id), membership: Some(membership) }),
    })
}

fn rows(value: &'static [u8]) -> Part {
    let row = SnapshotRow { key: Bytes::from_static(b"key"), value: Bytes::from_static(value) };
    Part::Rows(SnapshotRows { table: "even".to_owned(), rows: vec![row] })
}

fn end(rows: u64, content: &[u8]) -> Part {
    Part::End(SnapshotEnd { rows, crc: crc32fast::hash(content) })
}

async fn send(node: &Node, parts: Vec<Part>) -> Result<SnapshotResponse, Status> {
    let mut client = RaftClient::connect(format!("http://{}", node.addr)).await.expect("listening");
    let chunks = parts.into_iter().map(|part| SnapshotChunk { part: Some(part) });
    Ok(client.snapshot(stream::iter(chunks.collect::<Vec<_>>())).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_is_refused() {
    let security = Security::plaintext("127.0.0.1:0".parse().expect("an address")).expect("loopback");
    let node = Node::start(1, &security).await;
    for (parts, code) in [
        (vec![], Code::InvalidArgument),
        (vec![rows(b"ab")], Code::InvalidArgument),
        (vec![Part::Header(SnapshotHeader::default()), end(0, b"")], Code::InvalidArgument),
        (vec![header()], Code::DataLoss),
        (vec![header(), rows(b"ab")], Code::DataLoss),
        (vec![header(), rows(b"ab"), end(2, b"keyab")], Code::DataLoss),
        (vec![header(), rows(b"ab"), end(1, b"keyaB")], Code::DataLoss),
        (vec![header(), header(), end(0, b"")], Code::DataLoss),
        // The sink itself refuses a row in the wrong table.
        (vec![header(), rows(b"abc"), end(1, b"keyabc")], Code::Internal),
    ] {
        let sent = format!("{parts:?}");
        assert_eq!(send(&node, parts).await.expect_err(&sent).code(), code, "{sent}");
    }
    assert_eq!(*node.inbox.finished.lock().expect("no panic under the lock"), 0);
    assert!(node.machine.rows().is_empty());

    send(&node, vec![header(), rows(b"ab"), end(1, b"keyab")]).await.expect("a whole one is taken");
    assert_eq!(node.machine.rows().len(), 1);
}
