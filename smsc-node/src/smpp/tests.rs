//! The server over real connections, with a store that does what the test says.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use smsc_proto::command::{CommandId, SequenceNumber};
use smsc_proto::frame::Framer;
use smsc_proto::pdu::{
    Bind, Body, BroadcastSm, CancelSm, DataSm, DeliverSmResp, EnquireLink, Pdu, QuerySm, ReplaceSm, SubmitMulti,
    SubmitSm, Unbind, UnbindResp,
};
use smsc_proto::status::CommandStatus;
use smsc_proto::tlv::Tag;
use smsc_proto::types::{Address, BindMode, DestAddress, EsmClass, MessageId, MessageState, Ton};
use smsc_raft::leadership::{Leadership, Lease};
use smsc_raft::model::{self, Account, FinalRecord, Message, Submission};
use smsc_raft::store::ProposeError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fakes::{FakeCentre, FakeReceivers, Mode, directory};
use super::listener::{Newcomers, Ports, Records, ServerParts, SmppServer};
use super::ports::{DeliverResult, ToSession};
use super::tls::Certificates;
use crate::clock::SystemClock;
use crate::config::SmppConfig;
use crate::metrics::{Direction, Metrics, SubmitResult};

mod sessions;

const PATIENCE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);

struct World {
    server: SmppServer,
    centre: Arc<FakeCentre>,
    receivers: Arc<FakeReceivers>,
    metrics: Arc<Metrics>,
}

fn config() -> SmppConfig {
    SmppConfig {
        listen_port: 0,
        system_id: "smsc".to_owned(),
        window_default: 10,
        binds_max_default: 2,
        connections_max: 3,
        session_init_timer: Duration::from_secs(5),
        enquire_link_interval: Duration::from_secs(30),
        inactivity_timer: Duration::ZERO,
        response_timer: Duration::from_secs(5),
        pdu_bytes_max: 70_000,
        proxy_networks: vec![],
        tls: None,
    }
}

impl World {
    fn start(change: impl Fn(&mut Account)) -> World {
        World::start_with(config(), None, change)
    }

    fn start_with(config: SmppConfig, certificates: Option<Arc<Certificates>>, change: impl Fn(&mut Account)) -> World {
        let centre = FakeCentre::new(directory(change));
        let receivers = Arc::new(FakeReceivers::default());
        let metrics = Arc::new(Metrics::default());
        let ports =
            Ports::open(&config, certificates.as_ref(), &[IpAddr::V4(Ipv4Addr::LOCALHOST)]).expect("free ports");
        let parts = ServerParts {
            config,
            node_id: 7,
            centre: centre.clone(),
            receivers: receivers.clone(),
            clock: Arc::new(SystemClock),
            keeper: None,
            metrics: metrics.clone(),
        };
        let leadership = Leadership::new(Lease::new(3));
        let server = SmppServer::start(&leadership, parts, ports);
        World { server, centre, receivers, metrics }
    }

    async fn connect(&self) -> Esme {
        let stream = TcpStream::connect(self.server.addresses()[0]).await.expect("the server listens");
        Esme { stream, input: BytesMut::new() }
    }

    async fn bound(&self, mode: BindMode) -> Esme {
        let mut esme = self.connect().await;
        assert_eq!(esme.bind(mode, "esme1", "secret1").await, CommandStatus::ESME_ROK);
        esme
    }
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("{what}"));
}

struct Esme {
    stream: TcpStream,
    input: BytesMut,
}

impl Esme {
    async fn send(&mut self, requests: impl IntoIterator<Item = (u32, Body)>) {
        let mut octets = BytesMut::new();
        for (sequence, body) in requests {
            Pdu::new(SequenceNumber(sequence), body).encode(&mut octets).expect("it fits");
        }
        self.stream.write_all(&octets).await.expect("the server reads");
    }

    /// The next PDU; `None` when the server has closed.
    async fn receive(&mut self) -> Option<Pdu> {
        loop {
            let frame = Framer::default().next_frame(&mut self.input).expect("the server sends PDUs");
            if let Some(frame) = frame {
                return Some(Pdu::decode(frame).expect("the server sends PDUs that decode"));
            }
            let read = tokio::time::timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            match read.expect("the server answers in time") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    async fn answer(&mut self) -> Pdu {
        self.receive().await.expect("an answer, not the end")
    }

    async fn ask(&mut self, sequence: u32, body: Body) -> Pdu {
        self.send([(sequence, body)]).await;
        let answer = self.answer().await;
        assert_eq!(answer.sequence, SequenceNumber(sequence), "{answer:?}");
        answer
    }

    async fn bind(&mut self, mode: BindMode, system_id: &str, password: &str) -> CommandStatus {
        let bind = Bind {
            system_id: system_id.parse().expect("short"),
            password: password.parse().expect("short"),
            ..Bind::default()
        };
        self.ask(1, Body::bind(mode, bind)).await.status
    }
}

fn submit(to: &str) -> Body {
    Body::SubmitSm(SubmitSm {
        destination_addr: Address::international(to.to_owned()).expect("short"),
        short_message: "hello".into(),
        ..SubmitSm::default()
    })
}

fn id_of(answer: &Pdu) -> &MessageId {
    match &answer.body {
        Body::SubmitSmResp(resp) => resp.message_id.as_ref().expect("an id"),
        other => panic!("expected submit_sm_resp, got {other:?}"),
    }
}

#[tokio::test]
async fn submissions_of_one_read_are_one_group_and_each_is_answered() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    let sessions = world.centre.sessions();
    assert_eq!((sessions[0].system_id.as_str(), sessions[0].node, sessions[0].term), ("esme1", 7, 3));
    let peer = esme.stream.local_addr().expect("connected").to_string();
    assert_eq!(sessions[0].peer, peer);

    esme.send([(2, submit("15551")), (3, submit("999")), (4, submit("15552"))]).await;
    let mut answers = [esme.answer().await, esme.answer().await, esme.answer().await];
    answers.sort_by_key(|answer| answer.sequence);
    assert_eq!(id_of(&answers[0]), &"1");
    assert_eq!(answers[1].status, CommandStatus::ESME_RINVDSTADR);
    assert_eq!(id_of(&answers[2]), &"2");
    assert_eq!(world.centre.groups(), [2]);
    assert_eq!(world.metrics.submits.get(SubmitResult::Accepted), 2);
    assert_eq!(world.metrics.submits.get(SubmitResult::Destination), 1);

    assert_eq!(esme.ask(5, Body::Unbind(Unbind::default())).await.command_id(), CommandId::UNBIND_RESP);
    assert!(esme.receive().await.is_none());
    until("the registry forgets the bind", || world.centre.sessions().is_empty()).await;
    assert_eq!(*world.receivers.unbound.lock().unwrap(), [1]);
}

#[tokio::test]
async fn binds_are_refused_each_for_its_reason() {
    let world = World::start(|_| {});
    let mut esme = world.connect().await;
    let mode = BindMode::Transmitter;
    assert_eq!(esme.bind(mode, "nobody", "x").await, CommandStatus::ESME_RINVSYSID);
    assert_eq!(esme.bind(mode, "esme1", "wrong").await, CommandStatus::ESME_RINVPASWD);
    assert_eq!(esme.bind(mode, "esme1", "secret1").await, CommandStatus::ESME_ROK);
    assert_eq!(esme.bind(mode, "esme1", "secret1").await, CommandStatus::ESME_RALYBND);
    let _second = world.bound(mode).await;
    let mut third = world.connect().await;
    assert_eq!(third.bind(mode, "esme1", "secret1").await, CommandStatus::ESME_RALYBND);
    assert_eq!(third.bind(mode, "esme2", "secret2").await, CommandStatus::ESME_ROK);
}

#[tokio::test]
async fn a_bind_waits_for_the_registry_and_what_follows_waits_for_the_bind() {
    let world = World::start(|_| {});
    world.centre.set_mode(Mode::Hold);
    let mut esme = world.connect().await;
    let bind = Bind {
        system_id: "esme1".parse().expect("short"),
        password: "secret1".parse().expect("short"),
        ..Bind::default()
    };
    esme.send([(1, Body::BindTransmitter(bind)), (2, submit("15551"))]).await;
    until("the bind is proposed", || world.centre.held() == 1).await;
    world.centre.set_mode(Mode::Apply);
    assert_eq!(esme.answer().await.command_id(), CommandId::BIND_TRANSMITTER_RESP);
    assert_eq!(id_of(&esme.answer().await), &"1");
}

#[tokio::test]
async fn a_bind_whose_connection_is_gone_leaves_the_registry() {
    let world = World::start(|_| {});
    world.centre.set_mode(Mode::Hold);
    let mut esme = world.connect().await;
    let bind = Bind {
        system_id: "esme1".parse().expect("short"),
        password: "secret1".parse().expect("short"),
        ..Bind::default()
    };
    esme.send([(1, Body::BindTransceiver(bind))]).await;
    until("the bind is proposed", || world.centre.held() == 1).await;
    drop(esme);
    until("the connection ends", || world.metrics.smpp_connections_open.get() == 0).await;
    world.centre.set_mode(Mode::Apply);
    until("the registry forgets the bind", || world.centre.sessions().is_empty()).await;
    assert!(world.receivers.bound.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_has_no_outcome_has_no_answer() {
    let world = World::start(|_| {});
    for error in [ProposeError::Unknown, ProposeError::NotLeader { leader: Some(2) }] {
        let mut esme = world.bound(BindMode::Transmitter).await;
        world.centre.set_mode(Mode::Fail(error));
        esme.send([(2, submit("15551"))]).await;
        assert_eq!(esme.receive().await, None);
        world.centre.set_mode(Mode::Apply);
    }
    assert_eq!(world.metrics.submits.get(SubmitResult::Unknown), 2);
}

#[tokio::test]
async fn overload_and_rate_throttle() {
    let world = World::start(|account| account.rate_per_s = 2);
    let mut esme = world.bound(BindMode::Transmitter).await;
    world.centre.set_mode(Mode::Fail(ProposeError::Overloaded));
    assert_eq!(esme.ask(2, submit("15551")).await.status, CommandStatus::ESME_RTHROTTLED);
    world.centre.set_mode(Mode::Apply);
    assert_eq!(esme.ask(3, submit("15551")).await.status, CommandStatus::ESME_ROK);
    assert_eq!(esme.ask(4, submit("15551")).await.status, CommandStatus::ESME_RTHROTTLED);
    assert_eq!(world.metrics.submits.get(SubmitResult::Throttled), 2);
}

fn message(id: u64) -> Arc<Message> {
    let address = |digits: &str| Some(model::Address { ton: 1, npi: 1, digits: digits.to_owned() });
    let submission = Submission {
        source: address("15551"),
        destination: address("1000"),
        short_message: Bytes::from_static(b"hello"),
        ..Submission::default()
    };
    Arc::new(Message { id, submission: Some(submission), ..Message::default() })
}

#[tokio::test]
async fn messages_reach_the_receiver_and_what_became_of_them_is_told() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Receiver).await;
    let handle = world.receivers.bound.lock().unwrap()[0].clone();
    assert_eq!((handle.system_id.as_str(), handle.window), ("esme1", 10));
    for id in [11, 12, 13] {
        handle.to_session.send(ToSession::Deliver(message(id))).await.expect("the session takes it");
    }
    for (id, status) in [(11, CommandStatus::ESME_ROK), (12, CommandStatus::ESME_RX_T_APPN)] {
        let delivered = esme.answer().await;
        assert_eq!(delivered.command_id(), CommandId::DELIVER_SM);
        let body = Body::DeliverSmResp(DeliverSmResp { message_id: Some(MessageId::default()), ..Default::default() });
        let mut octets = BytesMut::new();
        Pdu { status, sequence: delivered.sequence, body }.encode(&mut octets).expect("it fits");
        esme.stream.write_all(&octets).await.expect("the server reads");
        until("the answer is told", || world.receivers.delivered.lock().unwrap().iter().any(|told| told.0 == id)).await;
    }
    // The third is never answered.
    drop(esme);
    until("the session is unbound", || !world.receivers.unbound.lock().unwrap().is_empty()).await;
    let expected = [
        (11, DeliverResult::Accepted),
        (12, DeliverResult::Refused(CommandStatus::ESME_RX_T_APPN)),
        (13, DeliverResult::Lost),
    ];
    until("the third is told lost", || *world.receivers.delivered.lock().unwrap() == expected).await;
}

#[tokio::test]
async fn every_other_operation_is_answered() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    let id = id_of(&esme.ask(2, submit("15551")).await).clone();

    let query =
        |message_id: &MessageId| Body::QuerySm(QuerySm { message_id: message_id.clone(), ..Default::default() });
    match esme.ask(3, query(&id)).await.body {
        Body::QuerySmResp(resp) => {
            assert_eq!(resp.result.expect("found").message_state, MessageState::ENROUTE);
        }
        other => panic!("{other:?}"),
    }
    let nobody = "77".parse().expect("short");
    assert_eq!(esme.ask(4, query(&nobody)).await.status, CommandStatus::ESME_RQUERYFAIL);

    let replace = ReplaceSm { message_id: id.clone(), short_message: "new".into(), ..Default::default() };
    assert_eq!(esme.ask(5, Body::ReplaceSm(replace)).await.status, CommandStatus::ESME_ROK);
    let cancel = || Body::CancelSm(CancelSm { message_id: id.clone(), ..Default::default() });
    assert_eq!(esme.ask(6, cancel()).await.status, CommandStatus::ESME_ROK);
    assert_eq!(esme.ask(7, cancel()).await.status, CommandStatus::ESME_RCANCELFAIL);
    let replace = ReplaceSm { message_id: id.clone(), ..Default::default() };
    assert_eq!(esme.ask(8, Body::ReplaceSm(replace)).await.status, CommandStatus::ESME_RREPLACEFAIL);
    match esme.ask(9, query(&id)).await.body {
        Body::QuerySmResp(resp) => assert_eq!(resp.result.expect("found").message_state, MessageState::DELETED),
        other => panic!("{other:?}"),
    }

    let mut data =
        DataSm { destination_addr: Address::international("15551").expect("short").into(), ..Default::default() };
    data.tlvs.push(Tag::MESSAGE_PAYLOAD, b"hello").expect("short");
    match esme.ask(10, Body::DataSm(data)).await.body {
        Body::DataSmResp(resp) => assert_eq!(resp.message_id.expect("an id"), "2"),
        other => panic!("{other:?}"),
    }
    let to = |digits: &'static str| DestAddress::Sme(Address::international(digits).expect("short"));
    let multi = SubmitMulti {
        dest_addresses: vec![to("15551"), to("999"), to("15552")],
        short_message: "hello".into(),
        ..Default::default()
    };
    match esme.ask(11, Body::SubmitMulti(multi)).await.body {
        Body::SubmitMultiResp(resp) => {
            let result = resp.result.expect("a result");
            assert_eq!(result.message_id, "3");
            assert_eq!(result.unsuccess_smes.len(), 1);
            assert_eq!(result.unsuccess_smes[0].destination_addr, "999");
            assert_eq!(result.unsuccess_smes[0].error_status_code, CommandStatus::ESME_RINVDSTADR);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.centre.messages().len(), 4);
    let none = esme.ask(12, Body::SubmitMulti(SubmitMulti::default())).await;
    assert_eq!(none.status, CommandStatus::ESME_RINVNUMDESTS);
    let broadcast = esme.ask(13, Body::BroadcastSm(BroadcastSm::default())).await;
    assert_eq!(
        (broadcast.command_id(), broadcast.status),
        (CommandId::BROADCAST_SM_RESP, CommandStatus::ESME_RINVCMDID),
        "cell broadcast came with version 5.0"
    );
    let alive = esme.ask(14, Body::EnquireLink(EnquireLink::default())).await;
    assert_eq!(alive.command_id(), CommandId::ENQUIRE_LINK_RESP);
}

#[tokio::test]
async fn a_transaction_is_answered_with_its_outcome() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    let end = |id: u64, state: model::MessageState, error: u32| {
        world.centre.set_end(FinalRecord { id, state: state as i32, error, ..FinalRecord::default() });
    };
    end(1, model::MessageState::Delivered, 0);
    end(2, model::MessageState::Undeliverable, 3 << 16 | 27);
    let data = || {
        let to = Address::international("15551").expect("short").into();
        Body::DataSm(DataSm { destination_addr: to, esm_class: EsmClass(2), ..Default::default() })
    };
    let answer = esme.ask(2, data()).await;
    assert!(matches!(&answer.body, Body::DataSmResp(resp) if resp.message_id.as_ref().is_some_and(|id| *id == "1")));
    let answer = esme.ask(3, data()).await;
    assert_eq!(answer.status, CommandStatus::ESME_RDELIVERYFAILURE);
    let Body::DataSmResp(resp) = answer.body else { panic!("{answer:?}") };
    assert_eq!(resp.tlvs.get(Tag::NETWORK_ERROR_CODE).as_deref(), Some(&[3, 0, 27][..]));
    // One that is under way still when the wait for it is over.
    assert_eq!(esme.ask(4, data()).await.status, CommandStatus::ESME_RDELIVERYFAILURE);
    assert_eq!(world.centre.messages()[0].submission.as_ref().expect("stored with it").attempts_max, 1);
    assert_eq!(world.metrics.submits.get(SubmitResult::Accepted), 3);
}

#[tokio::test]
async fn a_cancel_by_addresses_ends_all_that_is_between_them() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    // More than one command ends at once.
    for sequence in 2..302 {
        assert_eq!(esme.ask(sequence, submit("15551")).await.status, CommandStatus::ESME_ROK);
    }
    let other = id_of(&esme.ask(302, submit("15552")).await).clone();
    let cancel = |ton: u8| {
        let mut destination_addr = Address::international("15551").expect("short");
        destination_addr.ton = Ton(ton);
        Body::CancelSm(CancelSm { destination_addr, ..CancelSm::default() })
    };
    assert_eq!(esme.ask(303, cancel(2)).await.status, CommandStatus::ESME_RCANCELFAIL, "another type of number");
    assert_eq!(esme.ask(304, cancel(1)).await.status, CommandStatus::ESME_ROK);
    assert_eq!(esme.ask(305, cancel(1)).await.status, CommandStatus::ESME_RCANCELFAIL, "nothing is left");
    let nowhere = Body::CancelSm(CancelSm::default());
    assert_eq!(esme.ask(306, nowhere).await.status, CommandStatus::ESME_RINVDSTADR);
    let strange = Body::CancelSm(CancelSm { message_id: "x".parse().expect("short"), ..Default::default() });
    assert_eq!(esme.ask(307, strange).await.status, CommandStatus::ESME_RINVMSGID);
    let cancel = Body::CancelSm(CancelSm { message_id: other, ..Default::default() });
    assert_eq!(esme.ask(308, cancel).await.status, CommandStatus::ESME_ROK);
}

#[tokio::test]
async fn a_cancel_of_what_another_message_centre_has_is_answered_as_that_answers() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    let mut ids = Vec::new();
    for sequence in 2..6 {
        ids.push(id_of(&esme.ask(sequence, submit("15551")).await).clone());
    }
    for (id, link) in [(1, "obliging"), (2, "stubborn"), (3, "obliging")] {
        world.centre.hand_over(id, link);
    }
    let by_id = |id: &MessageId| Body::CancelSm(CancelSm { message_id: id.clone(), ..CancelSm::default() });
    assert_eq!(esme.ask(6, by_id(&ids[0])).await.status, CommandStatus::ESME_ROK);
    assert_eq!(esme.ask(7, by_id(&ids[0])).await.status, CommandStatus::ESME_RCANCELFAIL, "it is over");
    assert_eq!(esme.ask(8, by_id(&ids[1])).await.status, CommandStatus::ESME_RCANCELFAIL);
    // What waits here and what waits there, as far as it can be had.
    let destination_addr = Address::international("15551").expect("short");
    let all = Body::CancelSm(CancelSm { destination_addr, ..CancelSm::default() });
    assert_eq!(esme.ask(9, all.clone()).await.status, CommandStatus::ESME_ROK);
    assert_eq!(esme.ask(10, all).await.status, CommandStatus::ESME_RCANCELFAIL, "the stubborn one is left");
}

#[tokio::test]
async fn the_id_of_submit_multi_stands_for_all_of_its_messages() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    let to = |digits: &'static str| DestAddress::Sme(Address::international(digits).expect("short"));
    let multi = SubmitMulti {
        dest_addresses: vec![to("15551"), to("15552"), to("15553")],
        short_message: "hello".into(),
        ..Default::default()
    };
    assert_eq!(esme.ask(2, Body::SubmitMulti(multi)).await.status, CommandStatus::ESME_ROK);
    let id: MessageId = "1".parse().expect("short");
    let state = async |esme: &mut Esme, sequence: u32| {
        let query = QuerySm { message_id: "1".parse().expect("short"), ..Default::default() };
        match esme.ask(sequence, Body::QuerySm(query)).await.body {
            Body::QuerySmResp(resp) => resp.result.expect("found").message_state,
            other => panic!("{other:?}"),
        }
    };
    let replace = ReplaceSm { message_id: id.clone(), short_message: "new".into(), ..Default::default() };
    assert_eq!(esme.ask(3, Body::ReplaceSm(replace)).await.status, CommandStatus::ESME_ROK);
    let cancel = |to: &'static str| {
        let destination_addr = Address { addr: to.parse().expect("short"), ..Address::default() };
        Body::CancelSm(CancelSm { message_id: "1".parse().expect("short"), destination_addr, ..Default::default() })
    };
    assert_eq!(esme.ask(4, cancel("15552")).await.status, CommandStatus::ESME_ROK);
    assert_eq!(state(&mut esme, 5).await, MessageState::ENROUTE, "two are under way");
    assert_eq!(esme.ask(6, cancel("15552")).await.status, CommandStatus::ESME_RCANCELFAIL);
    assert_eq!(esme.ask(7, cancel("")).await.status, CommandStatus::ESME_ROK);
    assert_eq!(state(&mut esme, 8).await, MessageState::DELETED);
}

#[tokio::test]
async fn a_deleted_account_submits_no_more() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transmitter).await;
    let mut without = directory(|_| {});
    without.accounts.remove("esme1");
    *world.centre.directory.lock().unwrap() = Arc::new(without);
    assert_eq!(esme.ask(2, submit("15551")).await.status, CommandStatus::ESME_RSUBMITFAIL);
}

#[tokio::test]
async fn a_stop_settles_what_is_in_flight_and_unbinds() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    let mut open = world.connect().await;
    world.centre.set_mode(Mode::Hold);
    esme.send([(2, submit("15551"))]).await;
    until("the submission is proposed", || world.centre.held() == 1).await;
    let stopping = tokio::spawn(world.server.stop(GRACE, Records::Close));
    assert_eq!(open.receive().await, None, "what is not bound is closed");
    // What comes now is not taken: it could not be settled.
    esme.send([(3, submit("15552"))]).await;
    world.centre.set_mode(Mode::Apply);
    assert_eq!(id_of(&esme.answer().await), &"1");
    let unbind = esme.answer().await;
    assert_eq!(unbind.command_id(), CommandId::UNBIND);
    esme.send([(unbind.sequence.0, Body::UnbindResp(UnbindResp::default()))]).await;
    while esme.receive().await.is_some() {}
    drop(tokio::time::timeout(PATIENCE, stopping).await.expect("well before the grace is over").expect("no panic"));
    assert_eq!(world.centre.messages().len(), 1);
    assert!(world.centre.sessions().is_empty());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_esme_that_does_not_answer() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    let stopping = tokio::spawn(world.server.stop(Duration::from_millis(50), Records::Close));
    assert_eq!(esme.answer().await.command_id(), CommandId::UNBIND);
    assert_eq!(esme.receive().await, None);
    drop(tokio::time::timeout(PATIENCE, stopping).await.expect("the grace is short").expect("no panic"));
}

#[tokio::test]
async fn connections_are_limited() {
    let world = World::start(|_| {});
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut esme = world.connect().await;
        esme.bind(BindMode::Transmitter, "nobody", "x").await;
        kept.push(esme);
    }
    assert_eq!(world.connect().await.receive().await, None);
    kept.pop();
    until("a place is free", || world.metrics.smpp_connections_open.get() == 2).await;
    let mut esme = world.connect().await;
    assert_eq!(esme.bind(BindMode::Transmitter, "nobody", "x").await, CommandStatus::ESME_RINVSYSID);
}

#[tokio::test]
async fn newcomers_of_a_handover_go_unanswered_until_the_ports_close() {
    let world = World::start(|_| ());
    let address = world.server.addresses()[0];
    let unanswered =
        || async { tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await.is_err() };
    assert!(world.server.quiesce(Newcomers::Unanswered, PATIENCE).await, "nothing is under way");
    // Who is accepted by the kernel before it is told is sent away.
    let turned_quiet = async { while !unanswered().await {} };
    tokio::time::timeout(PATIENCE, turned_quiet).await.expect("the ports turn quiet");
    let ports = world.server.stop(GRACE, Records::Close).await;
    assert!(unanswered().await, "the ports stay quiet when the server has stopped");
    drop(ports);
    let refused = TcpStream::connect(address).await.expect_err("nobody listens any more");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn submissions_are_held_back_while_deliveries_are_behind() {
    const HOLD: Duration = Duration::from_millis(300);
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Transceiver).await;
    world.centre.hold_back_ms.store(300, Ordering::Relaxed);
    let begun = std::time::Instant::now();
    esme.send([(2, submit("15551"))]).await;
    until("the first is taken", || world.metrics.smpp_pdus.get(Direction::In) == 2).await;
    esme.send([(3, submit("15552"))]).await;
    assert_eq!(esme.answer().await.status, CommandStatus::ESME_ROK);
    assert_eq!(esme.answer().await.status, CommandStatus::ESME_ROK);
    assert!(begun.elapsed() >= HOLD);
    assert_eq!(world.centre.groups(), [2], "what comes meanwhile joins it");
    // What a peer leaves behind is stored.
    world.centre.hold_back_ms.store(600_000, Ordering::Relaxed);
    let mut gone = world.bound(BindMode::Transmitter).await;
    gone.send([(2, submit("15554"))]).await;
    drop(gone);
    until("it is stored", || world.centre.messages().len() == 3).await;
    // Whoever stops waits for nothing.
    world.centre.hold_back_ms.store(600_000, Ordering::Relaxed);
    esme.send([(4, submit("15553"))]).await;
    until("it is taken", || world.metrics.smpp_pdus.get(Direction::In) == 6).await;
    let stopping = tokio::spawn(world.server.stop(GRACE, Records::Close));
    let answer = esme.answer().await;
    assert_eq!((answer.sequence.0, answer.status), (4, CommandStatus::ESME_ROK));
    drop(esme);
    drop(tokio::time::timeout(PATIENCE, stopping).await.expect("the ESME is gone").expect("no panic"));
}
