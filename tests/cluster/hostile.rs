//! Peers that misbehave against a real node, while another ESME goes on; and an ESME that is called by outbind.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use smsc_proto::command::{CommandId, SequenceNumber};
use smsc_proto::pdu::{Bind, Body, Pdu, SubmitSm};
use smsc_proto::status::CommandStatus;
use smsc_proto::types::{Address, BindMode, InterfaceVersion, RegisteredDelivery};
use smsc_tests::esme::{Delivered, Esme};
use smsc_tests::lab::{Lab, tell};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest answer that the ESME beside may see: the machine is shared with builds and other tests, and without them
/// the longest is some milliseconds. One that were held up by a peer would wait for a timer of many seconds.
const HELD_UP: Duration = Duration::from_secs(5);

fn submit(to: &'static str) -> Body {
    Body::SubmitSm(SubmitSm {
        destination_addr: Address::international(to).expect("short"),
        short_message: "hello".into(),
        ..SubmitSm::default()
    })
}

fn octets(sequence: u32, body: Body) -> BytesMut {
    let mut octets = BytesMut::new();
    Pdu::new(SequenceNumber(sequence), body).encode(&mut octets).expect("it fits");
    octets
}

/// A PDU with this command_length, whatever follows.
fn header(length: u32, command_id: CommandId, status: u32) -> Vec<u8> {
    [length, command_id.0, status, 7].iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn with_body(command_id: CommandId, status: u32, body: &[u8]) -> Vec<u8> {
    let mut pdu = header(16 + u32::try_from(body.len()).expect("short"), command_id, status);
    pdu.extend(body);
    pdu
}

/// What is sent after a bind, the answer that it earns, and whether the session goes on.
fn malformed() -> Vec<(&'static str, Vec<u8>, CommandId, CommandStatus, bool)> {
    let submit_resp = CommandId::SUBMIT_SM_RESP;
    let addressed = b"\0\0\0\x31\0\x01\x01\x31\x35\x35\x35\x31\0";
    let tail = [0u8; 9];
    let mut too_long = [addressed.as_slice(), &tail].concat();
    too_long.extend(b"\xffshort");
    let mut bad_tlv = [addressed.as_slice(), &tail].concat();
    bad_tlv.extend(b"\x01x\x02\x04\xff\xff\0");
    vec![
        (
            "a length below a header",
            header(15, CommandId::SUBMIT_SM, 0),
            CommandId::GENERIC_NACK,
            CommandStatus::ESME_RINVCMDLEN,
            false,
        ),
        (
            "a length of gigabytes",
            header(u32::MAX, CommandId::SUBMIT_SM, 0),
            CommandId::GENERIC_NACK,
            CommandStatus::ESME_RINVCMDLEN,
            false,
        ),
        (
            "a command that there is not",
            with_body(CommandId(0x0777), 0, b""),
            CommandId::GENERIC_NACK,
            CommandStatus::ESME_RINVCMDID,
            true,
        ),
        (
            "a string without its end",
            with_body(CommandId::SUBMIT_SM, 0, b"\0\0\x00555"),
            submit_resp,
            CommandStatus::ESME_RINVCMDLEN,
            true,
        ),
        (
            "a string that is too long",
            with_body(CommandId::SUBMIT_SM, 0, b"service_type\0"),
            submit_resp,
            CommandStatus::ESME_RINVSERTYP,
            true,
        ),
        (
            "a sm_length beyond the PDU",
            with_body(CommandId::SUBMIT_SM, 0, &too_long),
            submit_resp,
            CommandStatus::ESME_RINVMSGLEN,
            true,
        ),
        (
            "a TLV beyond the PDU",
            with_body(CommandId::SUBMIT_SM, 0, &bad_tlv),
            submit_resp,
            CommandStatus::ESME_RINVOPTPARSTREAM,
            true,
        ),
        (
            "more destinations than follow",
            with_body(CommandId::SUBMIT_MULTI, 0, b"\0\0\0\0\xff\x01\x01\x01\x31\0"),
            CommandId::SUBMIT_MULTI_RESP,
            CommandStatus::ESME_RINVCMDLEN,
            true,
        ),
        (
            "a bind on a bound session",
            octets(7, Body::bind(BindMode::Receiver, Bind::default())).to_vec(),
            CommandId::BIND_RECEIVER_RESP,
            CommandStatus::ESME_RALYBND,
            true,
        ),
        (
            "an operation of the other side",
            octets(7, Body::DeliverSm(Default::default())).to_vec(),
            CommandId::DELIVER_SM_RESP,
            CommandStatus::ESME_RINVBNDSTS,
            true,
        ),
    ]
}

/// Sends what is wrong and checks what it earns.
fn misbehave(to: SocketAddr) {
    for (what, octets, command_id, status, goes_on) in malformed() {
        let mut esme = Esme::bound(to, "esme2", "secret2", InterfaceVersion::V3_4);
        // An answer with a body behind a status: it answers nothing, and is passed over whole.
        esme.send_octets(&with_body(CommandId::DELIVER_SM_RESP, 8, b"some body\0"));
        esme.send_octets(&octets);
        let answer = esme.next_pdu().unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((answer.command_id(), answer.status), (command_id, status), "{what}");
        if goes_on {
            assert_eq!(esme.ask(submit("15559001")).status, CommandStatus::ESME_ROK, "{what}");
        } else {
            assert!(esme.next_pdu().is_err(), "{what}: nobody knows where the next PDU begins");
        }
    }
}

/// Connections that begin something and never go on: silent, half a header, half a PDU, pipelining without an end and
/// without reading.
fn linger(to: SocketAddr) -> Vec<TcpStream> {
    let connect = || TcpStream::connect_timeout(&to, PATIENCE).expect("the node listens");
    let mut held: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    for (index, stream) in held.iter_mut().enumerate() {
        let start = header(4_000, CommandId::SUBMIT_SM, 0);
        let _ = stream.write_all(&start[..index.min(start.len())]);
    }
    let mut deaf = connect();
    let bind = Bind {
        system_id: "esme2".parse().expect("short"),
        password: "secret2".parse().expect("short"),
        ..Bind::default()
    };
    deaf.set_nonblocking(true).expect("a socket option");
    let mut flood = octets(1, Body::bind(BindMode::Transceiver, bind));
    let request = octets(2, submit("15559002"));
    for _ in 0..50_000 {
        flood.extend_from_slice(&request);
    }
    // As much as it takes: it is held back by the window of TCP when the other side stops reading.
    let (mut sent, deadline) = (0, Instant::now() + Duration::from_secs(5));
    while sent < flood.len() && Instant::now() < deadline {
        match deaf.write(&flood[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(5)),
            Err(_) => break,
        }
    }
    held.push(deaf);
    held
}

/// Submits one message after the other until told to stop; the longest wait for an answer, and how many there were.
fn go_on(to: SocketAddr, stop: &AtomicBool) -> (Duration, u32) {
    let mut esme = Esme::bound(to, "esme1", "secret1", InterfaceVersion::V3_4);
    let (mut longest, mut answers) = (Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        assert_eq!(esme.ask(submit("15559003")).status, CommandStatus::ESME_ROK);
        longest = longest.max(asked.elapsed());
        answers += 1;
        thread::sleep(Duration::from_millis(2));
    }
    (longest, answers)
}

#[test]
fn peers_that_misbehave_earn_their_answers_and_hold_up_nobody() {
    let Some(lab) = Lab::up() else { return };
    let target: SocketAddr = lab.target().parse().expect("address and port");
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let good = lab.inside("esme", move || go_on(target, &told));
    let bad = lab.inside("esme", move || {
        let held = linger(target);
        misbehave(target);
        held.len()
    });
    let bad = bad.join();
    stop.store(true, Ordering::Relaxed);
    let (longest, answers) = good.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
    let held = bad.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
    assert!(answers > 0 && longest < HELD_UP, "an answer took {longest:?} beside peers that misbehave");
    tell(&format!("hostile: {held} connections held, {answers} answers meanwhile, the longest after {longest:?}"));
    outbind(&lab);
}

/// An account with messages waiting and nobody bound is called, and binds on that connection.
fn outbind(lab: &Lab) {
    let listener = lab.inside("esme", || TcpListener::bind("0.0.0.0:13775")).join();
    let listener = listener.expect("no panic").expect("nobody else listens there");
    let addr = format!("{}:13775", lab.host("esme").ip);
    let ctl = |arguments: &[&str]| {
        let output = lab.ctl(&lab.leader(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    ctl(&["account", "put", "called", "--password", "secret3", "--short-code", "3000"]);
    ctl(&["account", "put", "called", "--outbind", &addr, "--outbind-system-id", "centre"]);
    ctl(&["handset", "send", "15559004", "3000", "call me"]);
    listener.set_nonblocking(true).expect("a socket option");
    let deadline = Instant::now() + PATIENCE;
    let (stream, _) = loop {
        match listener.accept() {
            Ok(accepted) => break accepted,
            Err(error) => assert!(Instant::now() < deadline, "nobody calls: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    };
    stream.set_nonblocking(false).expect("a socket option");
    let mut esme = Esme::on(stream);
    match esme.next_pdu().expect("a call").body {
        Body::Outbind(outbind) => assert_eq!(outbind.system_id.to_string(), "centre"),
        other => panic!("{other:?}"),
    }
    let status = esme.bind_as(BindMode::Receiver, "called", "secret3", InterfaceVersion::V3_4).expect("an answer");
    assert_eq!(status, CommandStatus::ESME_ROK);
    esme.await_delivered("the message", |delivered| {
        matches!(delivered, Delivered::Deliver(deliver) if deliver.short_message == "call me"
            && deliver.registered_delivery == RegisteredDelivery::default())
    });
    tell("outbind: called, bound, and the message came");
}
