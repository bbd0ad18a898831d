//! How sessions are held: where from, through what, for how long, and what a peer that misbehaves costs the others.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use smsc_proto::types::{InterfaceVersion, Password, SystemId};
use smsc_raft::model::{Outbind, SessionPolicy};
use tokio::net::TcpListener;

use super::*;
use crate::config::SmppTlsConfig;

fn bind_as(version: InterfaceVersion) -> Body {
    Body::BindTransceiver(Bind {
        system_id: "esme1".parse().expect("short"),
        password: "secret1".parse().expect("short"),
        interface_version: version,
        ..Bind::default()
    })
}

#[tokio::test]
async fn version_5_is_told_how_busy_the_node_is() {
    let world = World::start(|_| {});
    world.centre.load_percent.store(60, Ordering::Relaxed);
    let state = |answer: &Pdu| answer.body.tlvs().value::<u8>(Tag::CONGESTION_STATE);
    let mut esme = world.connect().await;
    let answer = esme.ask(1, bind_as(InterfaceVersion::V5_0)).await;
    assert_eq!(answer.body.tlvs().value::<u8>(Tag::SC_INTERFACE_VERSION), Some(0x50));
    assert_eq!(state(&answer), None, "a bind response has a table of its own");
    assert_eq!(state(&esme.ask(5, submit("15551")).await), Some(60));
    world.centre.load_percent.store(90, Ordering::Relaxed);
    let answer = esme.ask(2, submit("15551")).await;
    assert_eq!(state(&answer), Some(90));
    let broadcast = esme.ask(3, Body::BroadcastSm(BroadcastSm::default())).await;
    assert_eq!(broadcast.status, CommandStatus::ESME_RMISSINGTLV);
    let mut older = world.connect().await;
    assert!(older.ask(1, bind_as(InterfaceVersion::V3_3)).await.body.tlvs().is_empty());
}

#[tokio::test]
async fn an_account_is_bound_from_its_networks_only() {
    let policy = |network: &str| SessionPolicy { networks: vec![network.to_owned()], ..SessionPolicy::default() };
    let world = World::start(|account| {
        let network = if account.system_id == "esme1" { "127.0.0.0/8" } else { "192.0.2.0/24" };
        account.session = Some(policy(network));
    });
    let mut esme = world.connect().await;
    assert_eq!(esme.bind(BindMode::Transmitter, "esme2", "secret2").await, CommandStatus::ESME_RBINDFAIL);
    assert_eq!(esme.bind(BindMode::Transmitter, "esme1", "secret1").await, CommandStatus::ESME_ROK);
}

#[tokio::test]
async fn an_address_range_that_is_no_expression_is_refused_and_a_good_one_told_on() {
    let world = World::start(|_| {});
    let mut esme = world.connect().await;
    let bind = |range: &str| {
        Body::BindReceiver(Bind {
            system_id: "esme1".parse().expect("short"),
            password: "secret1".parse().expect("short"),
            address_range: range.parse().expect("short"),
            ..Bind::default()
        })
    };
    assert_eq!(esme.ask(1, bind("[")).await.status, CommandStatus::ESME_RBINDFAIL);
    assert_eq!(esme.ask(2, bind("^10")).await.status, CommandStatus::ESME_ROK);
    let handle = world.receivers.bound.lock().unwrap()[0].clone();
    assert!(handle.serves.covers("1000") && !handle.serves.covers("2000"));
    assert_eq!(world.centre.sessions()[0].address_range, "^10");
}

#[tokio::test]
async fn an_account_s_own_timers_hold() {
    let world = World::start(|account| {
        account.session = Some(SessionPolicy { enquire_link_s: 1, response_s: 1, ..SessionPolicy::default() });
    });
    let mut esme = world.bound(BindMode::Receiver).await;
    // The node's own would be half a minute.
    assert_eq!(esme.answer().await.command_id(), CommandId::ENQUIRE_LINK);
    assert_eq!(esme.receive().await, None, "left unanswered, the session ends");
}

#[tokio::test]
async fn a_long_message_is_taken_whole_whatever_the_rate() {
    let world = World::start(|account| account.rate_per_s = 1);
    let mut esme = world.bound(BindMode::Transmitter).await;
    let part = |number: u8| {
        let mut submit = SubmitSm {
            destination_addr: Address::international("15551").expect("short"),
            short_message: "part".into(),
            ..SubmitSm::default()
        };
        submit.tlvs.push_u16(Tag::SAR_MSG_REF_NUM, 7);
        submit.tlvs.push_u8(Tag::SAR_TOTAL_SEGMENTS, 5);
        submit.tlvs.push_u8(Tag::SAR_SEGMENT_SEQNUM, number);
        Body::SubmitSm(submit)
    };
    for number in 1..=5 {
        assert_eq!(esme.ask(10 + u32::from(number), part(number)).await.status, CommandStatus::ESME_ROK, "{number}");
    }
    assert_eq!(esme.ask(20, submit("15551")).await.status, CommandStatus::ESME_RTHROTTLED);
}

#[tokio::test]
async fn a_proxy_tells_whom_it_speaks_for_and_nobody_else_may() {
    let proxied = SmppConfig { proxy_networks: vec!["127.0.0.0/8".parse().expect("a network")], ..config() };
    let policy = SessionPolicy { networks: vec!["192.0.2.0/24".to_owned()], ..SessionPolicy::default() };
    let world = World::start_with(proxied, None, |account| account.session = Some(policy.clone()));
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([192, 0, 2, 7, 127, 0, 0, 1, 0x9c, 0xac, 0x0a, 0xd7]);
    let mut esme = world.connect().await;
    esme.stream.write_all(&header).await.expect("the server reads");
    assert_eq!(esme.bind(BindMode::Transmitter, "esme1", "secret1").await, CommandStatus::ESME_ROK);
    assert_eq!(world.centre.sessions()[0].client, "192.0.2.7:40108");
    let mut without = world.connect().await;
    without.send([(1, bind_as(InterfaceVersion::V3_4))]).await;
    assert_eq!(without.receive().await, None, "a proxy's connection has a header");
    // And where no proxy is expected, a header is no PDU.
    let world = World::start(|_| {});
    let mut liar = world.connect().await;
    liar.stream.write_all(&header).await.expect("the server reads");
    assert_eq!(liar.answer().await.command_id(), CommandId::GENERIC_NACK);
    assert_eq!(liar.receive().await, None);
}

#[tokio::test]
async fn an_esme_with_messages_waiting_is_called_and_binds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("bound").to_string();
    let outbind = Outbind { addr, system_id: "centre".to_owned(), password: "hello".to_owned() };
    let world = World::start(|account| {
        account.outbind = Some(outbind.clone()).filter(|_| account.system_id == "esme1");
    });
    *world.centre.waiting_for.lock().unwrap() = Some("esme1".to_owned());
    let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("a call").expect("accepted");
    let mut esme = Esme { stream: accepted.0, input: BytesMut::new() };
    match esme.answer().await.body {
        Body::Outbind(outbind) => {
            assert_eq!(outbind.system_id, "centre".parse::<SystemId>().expect("short"));
            assert_eq!(outbind.password, "hello".parse::<Password>().expect("short"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(esme.bind(BindMode::Receiver, "esme1", "secret1").await, CommandStatus::ESME_ROK);
    until("the receiver is known", || world.receivers.bound.lock().unwrap().len() == 1).await;
    // While it receives, it is not called again.
    let again = tokio::time::timeout(Duration::from_secs(3), listener.accept()).await;
    assert!(again.is_err(), "called although it receives");
}

/// What is wrong, its octets, and the operation and status of the answer that they earn.
type Malformed = (&'static str, Vec<u8>, (CommandId, CommandStatus));

fn malformed() -> Vec<Malformed> {
    let pdu = |command_id: u32, status: u32, body: &[u8]| {
        let length = u32::try_from(16 + body.len()).expect("short");
        let header = [length, command_id, status, 99].map(u32::to_be_bytes).concat();
        [header.as_slice(), body].concat()
    };
    let mut short = BytesMut::new();
    Pdu::new(SequenceNumber(99), submit("15551")).encode(&mut short).expect("it fits");
    let mut lying = short.to_vec();
    let sm_length = lying.len() - 6;
    lying[sm_length] = 200;
    let with_tlv = |tlv: &[u8]| pdu(4, 0, &[&short[16..], tlv].concat());
    let answer = |status| (CommandId::SUBMIT_SM_RESP, status);
    let mut huge = pdu(4, 0, b"");
    huge[0] = 0x40;
    let no_frame = (CommandId::GENERIC_NACK, CommandStatus::ESME_RINVCMDLEN);
    vec![
        ("sm_length beyond the end", lying, answer(CommandStatus::ESME_RINVMSGLEN)),
        ("a TLV longer than the PDU", with_tlv(&[2, 4, 0, 9, 1]), answer(CommandStatus::ESME_RINVOPTPARSTREAM)),
        ("half a TLV", with_tlv(&[2, 4]), answer(CommandStatus::ESME_RINVOPTPARSTREAM)),
        ("a text without its end", pdu(4, 0, b"CMT"), answer(CommandStatus::ESME_RINVCMDLEN)),
        ("no command", pdu(0x77, 0, b""), (CommandId::GENERIC_NACK, CommandStatus::ESME_RINVCMDID)),
        (
            "an operation of the centre",
            pdu(5, 0, &[0; 17]),
            (CommandId::DELIVER_SM_RESP, CommandStatus::ESME_RINVBNDSTS),
        ),
        ("bound already", pdu(9, 0, b""), (CommandId::BIND_TRANSCEIVER_RESP, CommandStatus::ESME_RALYBND)),
        ("a length below a header", vec![0, 0, 0, 4], no_frame),
        ("a length of a gibibyte", huge, no_frame),
    ]
}

#[tokio::test]
async fn what_is_malformed_earns_its_answer_and_harms_no_other_session() {
    let config = SmppConfig { connections_max: 100, binds_max_default: 100, ..config() };
    let world = World::start_with(config, None, |_| {});
    let mut good = world.bound(BindMode::Transmitter).await;
    let mut sequence = 10;
    for (what, octets, earned) in malformed() {
        let mut bad = world.bound(BindMode::Transmitter).await;
        bad.stream.write_all(&octets).await.expect("the server reads");
        let answer = bad.answer().await;
        assert_eq!((answer.command_id(), answer.status), earned, "{what}");
        if earned == (CommandId::GENERIC_NACK, CommandStatus::ESME_RINVCMDLEN) {
            assert_eq!(bad.receive().await, None, "{what}: the boundary of the next PDU is lost");
        } else {
            // The PDU alone was wrong: the session goes on.
            assert_eq!(bad.ask(100, submit("15551")).await.status, CommandStatus::ESME_ROK, "{what}");
        }
        sequence += 1;
        assert_eq!(good.ask(sequence, submit("15551")).await.status, CommandStatus::ESME_ROK, "{what}");
    }
}

#[tokio::test]
async fn a_peer_that_sends_and_never_reads_costs_bounded_memory_and_is_ended() {
    let world = World::start(|account| {
        let policy = SessionPolicy { enquire_link_s: 1, response_s: 1, ..SessionPolicy::default() };
        account.session = Some(policy).filter(|_| account.system_id == "esme1");
    });
    let mut good = world.connect().await;
    assert_eq!(good.bind(BindMode::Transmitter, "esme2", "secret2").await, CommandStatus::ESME_ROK);
    let mut deaf = world.bound(BindMode::Transmitter).await;
    let mut octets = BytesMut::new();
    for _ in 0..2_000 {
        Pdu::new(SequenceNumber(5), Body::EnquireLink(EnquireLink::default())).encode(&mut octets).expect("it fits");
    }
    // The server stops reading once its answers wait: then the socket's buffers fill and writing stands still.
    let writing = async { while deaf.stream.write_all(&octets).await.is_ok() {} };
    let answering = async {
        for sequence in 2..200 {
            let answer = good.ask(sequence, submit("15551")).await;
            assert!(matches!(answer.command_id(), CommandId::SUBMIT_SM_RESP), "{answer:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::join!(answering, async {
        // Ends when the server has closed.
        tokio::time::timeout(Duration::from_secs(30), writing).await.expect("the deaf session is ended");
    });
}

/// A certificate with key for `name`, signed by `issuer`.
fn issue(name: &str, issuer: &rcgen::Issuer<'_, rcgen::KeyPair>) -> (String, String) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
    (params.signed_by(&key, issuer).expect("signed").pem(), key.serialize_pem())
}

/// Binds through TLS and says with what the bind was answered and which certificate was shown.
fn bind_through_tls(
    server: SocketAddr,
    ca: &str,
    identity: Option<&(String, String)>,
) -> (CommandStatus, CertificateDer<'static>) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).expect("PEM")).expect("usable");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let client = match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    let name = ServerName::try_from("smsc.example").expect("a name");
    let stream = std::net::TcpStream::connect(server).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(client), name).expect("a client"), stream);
    let mut octets = BytesMut::new();
    Pdu::new(SequenceNumber(1), bind_as(InterfaceVersion::V3_4)).encode(&mut octets).expect("it fits");
    tls.write_all(&octets).expect("the handshake succeeds");
    let mut header = [0; 16];
    tls.read_exact(&mut header).expect("an answer");
    let status = CommandStatus(u32::from_be_bytes(header[8..12].try_into().expect("four octets")));
    let shown = tls.conn.peer_certificates().expect("shown")[0].clone().into_owned();
    (status, shown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn esmes_bind_through_tls_with_certificates_that_are_renewed_without_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no name");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().expect("a key");
    let ca = params.self_signed(&ca_key).expect("signed").pem();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("the folder is ours");
    let renew = || {
        let (certificate, key) = issue("smsc.example", &issuer);
        write("cert.pem", &certificate);
        write("key.pem", &key);
    };
    renew();
    write("ca.pem", &ca);
    let path = |name: &str| Path::new(dir.path()).join(name);
    let files =
        SmppTlsConfig { listen_port: 0, cert: path("cert.pem"), key: path("key.pem"), client_ca: Some(path("ca.pem")) };
    let certificates = Arc::new(Certificates::load(files.clone()).expect("good files"));
    let config = SmppConfig { tls: Some(files), connections_max: 20, binds_max_default: 20, ..config() };
    let policy = SessionPolicy { client_name: "esme.example".to_owned(), ..SessionPolicy::default() };
    let world = World::start_with(config, Some(certificates.clone()), |account| account.session = Some(policy.clone()));
    let mut plain = world.connect().await;
    assert_eq!(plain.bind(BindMode::Transmitter, "esme1", "secret1").await, CommandStatus::ESME_RBINDFAIL);

    let server = world.server.addresses()[1];
    let bind = async |identity: Option<(String, String)>| {
        let ca = ca.clone();
        let bound = tokio::task::spawn_blocking(move || bind_through_tls(server, &ca, identity.as_ref()));
        bound.await.expect("no panic")
    };
    let own = issue("esme.example", &issuer);
    assert_eq!(bind(None).await.0, CommandStatus::ESME_RBINDFAIL, "no certificate");
    assert_eq!(bind(Some(issue("other.example", &issuer))).await.0, CommandStatus::ESME_RBINDFAIL, "another's");
    let (status, first) = bind(Some(own.clone())).await;
    assert_eq!(status, CommandStatus::ESME_ROK);

    assert!(!certificates.reload(false).expect("good files"), "nothing has changed");
    renew();
    assert!(certificates.reload(false).expect("good files"));
    let (status, second) = bind(Some(own.clone())).await;
    assert_eq!(status, CommandStatus::ESME_ROK);
    assert_ne!(first, second);
    // A renewal that went wrong leaves what was in use.
    write("key.pem", "nothing");
    certificates.reload(false).expect_err("no key");
    assert_eq!(bind(Some(own)).await.1, second);
}

#[tokio::test]
async fn a_full_queue_is_told() {
    let world = World::start(|account| account.waiting_max = 2);
    let mut esme = world.bound(BindMode::Transmitter).await;
    for sequence in [2, 3] {
        assert_eq!(esme.ask(sequence, submit("15551")).await.status, CommandStatus::ESME_ROK);
    }
    assert_eq!(esme.ask(4, submit("15551")).await.status, CommandStatus::ESME_RMSGQFUL);
}

#[tokio::test]
async fn an_alert_is_sent_and_counts_as_told() {
    let world = World::start(|_| {});
    let mut esme = world.bound(BindMode::Receiver).await;
    let handle = world.receivers.bound.lock().unwrap()[0].clone();
    assert!(handle.alerts);
    let mut alert = Message::clone(&message(11));
    alert.submission.as_mut().expect("stored with it").kind = model::MessageKind::Alert as i32;
    handle.to_session.send(ToSession::Deliver(Arc::new(alert))).await.expect("the session takes it");
    match esme.answer().await.body {
        Body::AlertNotification(alert) => {
            assert!(alert.source_addr.addr == "15551" && alert.esme_addr.addr == "1000", "{alert:?}");
            assert_eq!(alert.tlvs.ms_availability_status(), Some(0));
        }
        other => panic!("{other:?}"),
    }
    let told = || *world.receivers.delivered.lock().unwrap() == [(11, DeliverResult::Accepted)];
    until("it is told", told).await;
    let mut older = world.connect().await;
    older.ask(1, bind_as(InterfaceVersion::V3_3)).await;
    assert!(!world.receivers.bound.lock().unwrap()[1].alerts, "version 3.3 knows none");
}
