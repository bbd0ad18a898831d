//! Who is let in, and to what.

use std::net::SocketAddr;
use std::time::Duration;

use smsc_proto::rpc::raft::raft_client::RaftClient;
use smsc_proto::rpc::raft::{LeaderId, PeerStatusRequest, Vote, VoteRequest};
use smsc_raft::consensus::tls::{Security, TlsError};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use crate::node::{Node, members};
use crate::pki::Pki;

/// Asks the node for its status the way a client with that configuration would.
async fn ask(addr: SocketAddr, tls: ClientTlsConfig) -> Result<u64, Status> {
    Ok(client(addr, tls).status(PeerStatusRequest {}).await?.into_inner().node_id)
}

fn client(addr: SocketAddr, tls: ClientTlsConfig) -> RaftClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("https://{addr}")).expect("an address");
    RaftClient::new(endpoint.tls_config(tls).expect("sound").connect_lazy())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_clusters_nodes_are_let_in() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let node = Node::start(1, &pki.node(1)).await;
    let trusting = || ClientTlsConfig::new().ca_certificate(pki.ca()).domain_name("node-1");

    let known = trusting().identity(pki.identity("node-2"));
    assert_eq!(ask(node.addr, known).await.expect("let in"), 1);
    let nobody = trusting();
    assert!(ask(node.addr, nobody).await.is_err(), "a client without certificate was let in");
    let stranger = trusting().identity(foreign.identity("node-2"));
    assert!(ask(node.addr, stranger).await.is_err(), "a certificate of another CA was let in");
    let admin = trusting().identity(pki.identity("admin-kim"));
    assert_eq!(ask(node.addr, admin).await.expect_err("no node").code(), Code::PermissionDenied);
    let nameless = trusting().identity(pki.identity("host.example"));
    assert_eq!(ask(node.addr, nameless).await.expect_err("no node").code(), Code::Unauthenticated);

    let plain = Endpoint::from_shared(format!("http://{}", node.addr)).expect("an address").connect_lazy();
    assert!(RaftClient::new(plain).status(PeerStatusRequest {}).await.is_err(), "plaintext was let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_speaks_for_itself_only() {
    let pki = Pki::new();
    let node = Node::start(1, &pki.node(1)).await;
    let tls = ClientTlsConfig::new().ca_certificate(pki.ca()).domain_name("node-1").identity(pki.identity("node-2"));
    let mut client = client(node.addr, tls);
    let vote = |node_id| VoteRequest {
        vote: Some(Vote { leader_id: Some(LeaderId { term: 1, node_id }), committed: false }),
        ..VoteRequest::default()
    };
    assert_eq!(client.vote(vote(3)).await.expect_err("posing").code(), Code::PermissionDenied);
    client.vote(vote(2)).await.expect("its own candidate");
    let empty = VoteRequest::default();
    assert_eq!(client.vote(empty).await.expect_err("says nothing").code(), Code::InvalidArgument);
}

/// The address of a member leads to another node, or to an impostor: nobody talks to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_must_be_the_one_that_was_called() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let nodes = [Node::start(1, &pki.node(1)).await, Node::start(2, &pki.node(2)).await];
    let peer = members(&nodes)[&2].clone();
    let within = Duration::from_secs(2);
    let transport = &nodes[0].transport;
    let refused = transport.status(3, &peer, within).await.expect_err("that is node 2");
    assert!(refused.to_string().contains("certificate"), "{refused}");

    let impostor = Node::start(2, &foreign.node(2)).await;
    let refused = transport.status(2, &impostor.member(), within).await.expect_err("another CA");
    assert!(refused.to_string().contains("certificate"), "{refused}");
    transport.status(2, &peer, within).await.expect("the real one");
}

#[test]
fn mistakes_show_at_the_start() {
    let (pki, foreign) = (Pki::new(), Pki::new());
    let own = pki.load(&["node-1"]).expect("good");
    assert!(matches!(Security::mutual(own, 2), Err(TlsError::WrongHolder { node_id: 2, .. })));
    assert!(matches!(pki.load(&["host.example"]), Err(TlsError::Nameless { .. })));
    assert!(matches!(pki.load(&["node-1", "node-2"]), Err(TlsError::Nameless { .. })));

    use smsc_raft::consensus::tls::Credentials;
    let mut files = pki.files(&["node-1"]);
    files.ca = foreign.files(&["node-1"]).ca;
    assert!(matches!(Credentials::load(&files), Err(TlsError::NotTrusted { .. })));
    let mut files = pki.files(&["node-1"]);
    files.key = pki.files(&["node-2"]).key;
    assert!(matches!(Credentials::load(&files), Err(TlsError::KeyMismatch { .. })));
    files.key = files.cert.clone();
    assert!(matches!(Credentials::load(&files), Err(TlsError::Malformed { .. })));
    files.key = "/nonexistent/key".into();
    assert!(matches!(Credentials::load(&files), Err(TlsError::Unreadable { .. })));

    use std::os::unix::fs::PermissionsExt as _;
    let files = pki.files(&["node-1"]);
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).expect("own file");
    assert!(matches!(Credentials::load(&files), Err(TlsError::KeyExposed { .. })));
}
