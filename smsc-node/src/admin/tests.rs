//! The service over a store of one node, reached through its Unix socket.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use smsc_proto::rpc::admin::admin_client::AdminClient;
use smsc_proto::rpc::admin::{
    AccountPutRequest, AccountsRequest, FaultRequest, HandoverRequest, HandsetSendRequest, InitRequest,
    LastTakeoverResponse, Member, MessageCancelRequest, MessageFindRequest, MessageShowRequest, RouteTestRequest,
    RouteTestResponse, StatusRequest,
};
use smsc_proto::rpc::raft::{LeaderNote, NodeInfo, PeerStatus};
use smsc_raft::consensus::network::PeerHandler;
use smsc_raft::model::{
    Account, AccountDelete, Address, DrillRecord, HandsetRange, Message, MessageKind, MessageState, Route, RouteDelete,
    Settings, Submission,
};
use smsc_raft::store::{Store, StoreConfig};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::fault::Victim;
use super::refusal::Cause;
use super::socket::AdminSocket;
use super::{AdminConfig, AdminHost, AdminService, server};
use crate::fixture::store_config;

struct Host {
    store: Store,
}

#[tonic::async_trait]
impl AdminHost for Host {
    fn links(&self) -> Vec<crate::link::board::LinkBoardRow> {
        Vec::new()
    }

    async fn status(&self) -> PeerStatus {
        let view = self.store.view();
        PeerStatus {
            node_id: 1,
            name: "a".to_owned(),
            term: view.term,
            leader_id: view.leader.unwrap_or(0),
            last_log_index: view.last_log_index,
            holds_address: view.leads,
            version: "0.1.0".to_owned(),
            ..Default::default()
        }
    }

    fn warnings(&self) -> Vec<String> {
        vec!["the disk has 3 MiB left".to_owned()]
    }

    fn last_takeover(&self) -> LastTakeoverResponse {
        LastTakeoverResponse::default()
    }

    fn now_ms(&self) -> u64 {
        5_000
    }

    async fn handover(&self, _to: u64) -> Result<(), String> {
        Err("a lone node has nobody".to_owned())
    }

    fn mobile_originated(&self, from: &str, to: &str, text: &str) -> Result<Submission, String> {
        let address = |digits: &str| Some(Address { digits: digits.to_owned(), ..Default::default() });
        Ok(Submission {
            kind: MessageKind::Mo as i32,
            source: address(from),
            destination: address(to),
            short_message: text.to_owned().into(),
            ..Default::default()
        })
    }

    fn explain_route(&self, request: &RouteTestRequest) -> RouteTestResponse {
        RouteTestResponse { number: request.number.clone(), ..Default::default() }
    }

    fn receipt(&self, message: &Message, _state: MessageState, _at_ms: u64) -> Option<Submission> {
        Some(Submission { kind: MessageKind::Receipt as i32, receipt_for: message.id, ..Default::default() })
    }

    fn hash_password(&self, password: &str) -> Vec<u8> {
        password.bytes().rev().collect()
    }
}

#[tonic::async_trait]
impl PeerHandler for Host {
    async fn status(&self) -> PeerStatus {
        AdminHost::status(self).await
    }

    async fn note(&self, _note: LeaderNote) {}
}

struct Node {
    store: Store,
    client: AdminClient<Channel>,
    addr: SocketAddr,
    _stop: oneshot::Sender<()>,
    _dir: TempDir,
}

async fn node() -> Node {
    let dir = tempfile::tempdir().expect("a directory");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = free.local_addr().expect("bound");
    drop(free);
    let config = StoreConfig {
        election: (Duration::from_millis(100), Duration::from_millis(200)),
        lease: Duration::from_millis(150),
        clock_ms: Arc::new(|| 4_000),
        ..store_config(dir.path(), addr)
    };
    let store = Store::open(config).await.expect("opened");
    let host = Arc::new(Host { store: store.clone() });
    store.serve(host.clone(), |routes| routes).await.expect("served");
    let admin = AdminConfig {
        cluster: "demo".to_owned(),
        node_id: 1,
        drills: false,
        floating_addresses: vec!["127.0.0.100/32".to_owned()],
        victim: Victim { program: "/nowhere".into(), peers_ip: addr.ip(), floating_interfaces: Vec::new() },
    };
    let service = AdminService::new(store.clone(), host, admin);
    let path = dir.path().join("admin.sock");
    let socket = AdminSocket::bind(&path).expect("bound");
    let (stop, stopped) = oneshot::channel();
    tokio::spawn(socket.serve(server(service), async {
        // Dropping the sender stops it as well.
        let _ = stopped.await;
    }));
    Node { store, client: connect(&path).await, addr, _stop: stop, _dir: dir }
}

async fn connect(path: &Path) -> AdminClient<Channel> {
    let uri = format!("unix:{}", path.display());
    AdminClient::new(Endpoint::from_shared(uri).expect("a path").connect().await.expect("connected"))
}

/// A node that leads its cluster of one.
async fn leader() -> Node {
    let mut node = node().await;
    let info = NodeInfo { addr: node.addr.to_string(), name: "a".to_owned(), role: 0 };
    let members = vec![Member { node_id: 1, info: Some(info) }];
    node.client.init(InitRequest { members }).await.expect("formed");
    let mut leadership = node.store.leadership();
    let leads = leadership.wait_for(Option::is_some);
    tokio::time::timeout(Duration::from_secs(10), leads).await.expect("in time").expect("open");
    node
}

fn esme(system_id: &str, short_code: &str) -> Account {
    Account {
        system_id: system_id.to_owned(),
        may_transmit: true,
        may_receive: true,
        short_codes: vec![short_code.to_owned()],
        ..Default::default()
    }
}

fn put(account: Account, password: &str) -> AccountPutRequest {
    AccountPutRequest { account: Some(account), password: password.to_owned() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_cluster_says_so_and_forms_one_once() {
    let mut node = node().await;
    let status = node.client.status(StatusRequest {}).await.expect("answered").into_inner();
    assert!(status.warnings[0].contains("no cluster yet"), "{:?}", status.warnings);
    let refused = node.client.handset_put(HandsetRange { prefix: "1".to_owned(), ..Default::default() }).await;
    let refused = refused.expect_err("nobody leads");
    assert_eq!(Cause::of(&refused), Some(Cause::NoLeader));
    let info = NodeInfo { addr: node.addr.to_string(), name: "b".to_owned(), role: 0 };
    let others = vec![Member { node_id: 2, info: Some(info) }];
    let refused = node.client.init(InitRequest { members: others }).await.expect_err("without itself");
    assert_eq!(refused.code(), Code::InvalidArgument);

    let mut node = leader().await;
    let status = node.client.status(StatusRequest {}).await.expect("answered").into_inner();
    assert!(status.quorum_healthy);
    assert_eq!((status.leader_id, status.address_holder), (1, 1));
    assert!(status.warnings.iter().any(|warning| warning.contains("3 MiB")), "{:?}", status.warnings);
    let refused = node.client.init(InitRequest::default()).await.expect_err("once only");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let refused = node.client.handover(HandoverRequest { node_id: 0 }).await.expect_err("alone");
    assert!(refused.message().contains("no other data node"), "{}", refused.message());
    let refused = node.client.fault(FaultRequest::default()).await.expect_err("no drills here");
    assert_eq!(refused.code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_routes_are_kept_consistent() {
    let mut node = leader().await;
    let client = &mut node.client;
    let refused = client.account_put(put(esme("esme1", "1000"), "")).await.expect_err("no password");
    assert!(refused.message().contains("needs a password"), "{}", refused.message());
    client.account_put(put(esme("esme1", "1000"), "secret1")).await.expect("made");
    client.account_put(put(esme("esme1", "1001"), "")).await.expect("changed");
    let refused = client.account_put(put(esme("esme2", "1001"), "secret2")).await.expect_err("taken");
    assert_eq!(refused.code(), Code::InvalidArgument);

    let all = |with_hashes| AccountsRequest { with_hashes };
    let told = client.accounts(all(false)).await.expect("told").into_inner().accounts;
    assert_eq!(told, [esme("esme1", "1001")]);
    let told = client.accounts(all(true)).await.expect("told").into_inner().accounts;
    assert_eq!(told[0].password_hash, "1terces");

    let route = |target: &str| Route { prefix: "49".to_owned(), target: target.to_owned(), ..Default::default() };
    assert!(client.route_put(route("esme:nobody")).await.is_err());
    client.route_put(route("esme:esme1")).await.expect("made");
    let delete = AccountDelete { system_id: "esme1".to_owned() };
    assert_eq!(client.account_delete(delete.clone()).await.expect_err("in use").code(), Code::FailedPrecondition);
    let prefix = RouteDelete { prefix: "49".to_owned(), ..Default::default() };
    client.route_delete(prefix.clone()).await.expect("deleted");
    assert_eq!(client.route_delete(prefix).await.expect_err("gone").code(), Code::NotFound);
    client.account_delete(delete).await.expect("deleted");

    let settings = Settings { retry_delays_ms: vec![1_000], ..Default::default() };
    client.settings_put(settings.clone()).await.expect("set");
    assert_eq!(
        client.settings(smsc_proto::rpc::admin::SettingsRequest {}).await.expect("told").into_inner().settings,
        Some(settings)
    );
    let drill = DrillRecord { kind: "kill".to_owned(), report: "{}".to_owned(), ..Default::default() };
    assert_eq!(client.drill_put(drill).await.expect("kept").into_inner().id, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_sent_found_page_by_page_and_cancelled() {
    let mut node = leader().await;
    let client = &mut node.client;
    let send = || HandsetSendRequest { from: "15550001".to_owned(), to: "1000".to_owned(), text: "hello".to_owned() };
    let refused = client.handset_send(send()).await.expect_err("no handset");
    assert!(refused.message().contains("no simulated handset"), "{}", refused.message());
    client.handset_put(HandsetRange { prefix: "1555".to_owned(), ..Default::default() }).await.expect("made");
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(client.handset_send(send()).await.expect("sent").into_inner().message_id);
    }
    let cancelled = client.message_cancel(MessageCancelRequest { id: ids[1] }).await.expect("done").into_inner();
    assert_eq!(cancelled.state(), MessageState::Deleted);
    let receipt_id = cancelled.r#final.expect("final").receipt_id;
    assert_eq!(receipt_id, ids[4] + 1);
    let again = client.message_cancel(MessageCancelRequest { id: ids[1] }).await.expect_err("over");
    assert_eq!((again.code(), again.message()), (Code::FailedPrecondition, "message 2 is deleted already"));
    let unknown = client.message_show(MessageShowRequest { id: 99 }).await.expect_err("never was");
    assert_eq!(unknown.code(), Code::NotFound);

    let wanted = |before| MessageFindRequest { source: "15550001".to_owned(), limit: 2, before, ..Default::default() };
    let (mut before, mut found) = (0, Vec::new());
    loop {
        let page = client.message_find(wanted(before)).await.expect("found").into_inner();
        assert!(page.messages.len() <= 2);
        found.extend(page.messages.iter().map(|message| message.id));
        before = page.before;
        if !page.more {
            break;
        }
    }
    let newest_first: Vec<u64> = ids.iter().rev().copied().collect();
    assert_eq!(found, newest_first);
    let waiting = MessageFindRequest { waiting_only: true, ..wanted(0) };
    let waiting = client.message_find(MessageFindRequest { limit: 100, ..waiting }).await.expect("found").into_inner();
    assert_eq!(waiting.messages.len(), 4);
    assert!(!waiting.more);
}
