//! The generator and the probe against a message centre that breaks the contract in known ways: what they do not notice
//! here they would not notice in a cluster.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use clap::Parser;
use smsc_node::probe::{self, ProbeEvent, ProbeOptions, ProbeSummary};
use smsc_proto::frame::Framer;
use smsc_proto::pdu::{Body, DeliverSm, Pdu, QuerySmResp, QuerySmResult, SubmitSmResp};
use smsc_proto::receipt::ReceiptState;
use smsc_proto::status::CommandStatus;
use smsc_proto::tlv::Tag;
use smsc_proto::types::{EsmClass, MessageId, MessageState};

use super::notice::decimal_id;
use super::query::Asker;
use super::verify::Fate;
use super::{LoadError, LoadOptions, Report, journal, run, verify};

/// What the centre does wrong with the n-th submission, counted from 1 over all connections.
#[derive(Clone, Copy, Default)]
struct Faults {
    same_id_as_before: u64,
    no_receipt: u64,
    two_receipts: u64,
    other_state_in_second_receipt: u64,
    refused: u64,
    connection_closed: u64,
    wrong_password: bool,
}

struct Centre {
    address: SocketAddr,
}

impl Centre {
    /// Threads serve until the test process ends.
    fn start(faults: Faults) -> Centre {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let count = Arc::new(AtomicU64::new(0));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                // The peer may be gone at any time; that ends its thread.
                std::thread::spawn(move || serve(stream, faults, &count).ok());
            }
        });
        Centre { address }
    }

    fn load(&self, more: &[&str]) -> Result<Report, LoadError> {
        run(options(self.address, more))
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: LoadOptions,
}

fn options(target: SocketAddr, more: &[&str]) -> LoadOptions {
    let target = target.to_string();
    let line = ["load", "--target", &target, "--sessions", "3", "--window", "7", "--settle", "0.2"];
    Line::parse_from(line.iter().chain(more)).options
}

fn serve(mut stream: TcpStream, faults: Faults, count: &AtomicU64) -> std::io::Result<()> {
    let mut framer = Framer::default();
    let mut inbox = BytesMut::new();
    let mut octets = [0; 4096];
    loop {
        let mut outbox = BytesMut::new();
        while let Some(frame) = framer.next_frame(&mut inbox).expect("the generator sends PDUs") {
            let request = Pdu::decode(frame).expect("the generator sends PDUs that can be read");
            if !answer(&request, faults, count, &mut outbox) {
                return Ok(());
            }
        }
        stream.write_all(&outbox)?;
        match stream.read(&mut octets)? {
            0 => return Ok(()),
            read => inbox.extend_from_slice(&octets[..read]),
        }
    }
}

/// Appends what answers `request`; false closes the connection.
fn answer(request: &Pdu, faults: Faults, count: &AtomicU64, outbox: &mut BytesMut) -> bool {
    let mut send = |pdu: Pdu| pdu.encode(outbox).expect("short");
    let command = request.command_id();
    if command.is_response() {
        return true;
    }
    let mut resp =
        Pdu::new(request.sequence, command.response().and_then(Body::empty).expect("every request here has an answer"));
    if let Body::QuerySm(query) = &request.body {
        let known = decimal_id(&query.message_id).is_some_and(|id| id <= count.load(Ordering::Relaxed));
        match known {
            true => {
                let result = QuerySmResult { message_state: MessageState::DELIVERED, ..QuerySmResult::default() };
                resp.body = Body::QuerySmResp(QuerySmResp { result: Some(result), ..QuerySmResp::default() });
            }
            false => resp.status = CommandStatus::ESME_RQUERYFAIL,
        }
        send(resp);
        return true;
    }
    let Body::SubmitSm(submit) = &request.body else {
        if faults.wrong_password {
            resp.status = CommandStatus::ESME_RINVPASWD;
        }
        send(resp);
        return true;
    };
    let nth = count.fetch_add(1, Ordering::Relaxed) + 1;
    if nth == faults.connection_closed {
        return false;
    }
    if nth == faults.refused {
        resp.status = CommandStatus::ESME_RTHROTTLED;
        send(resp);
        return true;
    }
    let id = if nth == faults.same_id_as_before { nth - 1 } else { nth };
    let message_id = MessageId::new(id.to_string()).ok();
    resp.body = Body::SubmitSmResp(SubmitSmResp { message_id, ..SubmitSmResp::default() });
    send(resp);
    if nth == faults.no_receipt || submit.registered_delivery.0 == 0 {
        return true;
    }
    let text = String::from_utf8_lossy(&submit.short_message[..20]).into_owned();
    let mut receipt = |stat: &str| {
        let mut deliver = DeliverSm {
            esm_class: EsmClass::DELIVERY_RECEIPT,
            short_message: format!("id:{id} stat:{stat} err:000 text:{text}").into(),
            ..DeliverSm::default()
        };
        deliver.tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, id.to_string().as_bytes()).expect("short");
        send(Pdu::new(request.sequence, Body::DeliverSm(deliver)));
    };
    receipt("DELIVRD");
    if nth == faults.two_receipts {
        receipt("DELIVRD");
    }
    if nth == faults.other_state_in_second_receipt {
        receipt("EXPIRED");
    }
    true
}

#[track_caller]
fn check_fault(faults: Faults, violation: &str) {
    let report = Centre::start(faults).load(&["--receipts", "--count", "100"]).expect("carried out");
    assert!(!report.passed);
    assert_eq!(report.violations.len(), 1, "{:?}", report.violations);
    assert!(report.violations[0].contains(violation), "{:?}", report.violations);
}

#[test]
fn a_centre_that_keeps_the_contract_passes() {
    let centre = Centre::start(Faults::default());
    let report = centre.load(&["--receipts", "--count", "1000", "--strict"]).expect("carried out");
    assert!(report.passed, "{report}");
    assert_eq!((report.sent, report.acked, report.receipts), (1000, 1000, 1000));
    assert_eq!(report.states, BTreeMap::from([("DELIVRD".into(), 1000)]));
    assert_eq!((report.binds, report.disconnects), (3, 0));
    let latency = report.ack_latency.clone().expect("measured");
    assert!(latency.min_ms <= latency.p50_ms && latency.p99_ms <= latency.max_ms, "{latency}");
    let read: Report = serde_json::from_str(&serde_json::json!(report).to_string()).expect("its own JSON");
    assert_eq!(read.acked, report.acked);
}

#[test]
fn breaches_of_the_contract_are_found() {
    check_fault(Faults { no_receipt: 50, ..Faults::default() }, "1 acknowledged messages have no receipt, ids [50]");
    check_fault(Faults { other_state_in_second_receipt: 50, ..Faults::default() }, "two final states");
}

#[test]
fn an_id_given_out_twice_is_found() {
    let centre = Centre::start(Faults { same_id_as_before: 50, ..Faults::default() });
    let report = centre.load(&["--count", "100"]).expect("carried out");
    assert_eq!(report.violations.len(), 1, "{:?}", report.violations);
    assert!(report.violations[0].contains("id 49 was acknowledged twice"), "{:?}", report.violations);
}

#[test]
fn refusals_and_repeated_receipts_are_breaches_only_when_strict() {
    let faults = Faults { refused: 10, two_receipts: 20, ..Faults::default() };
    let report = Centre::start(faults).load(&["--receipts", "--count", "100"]).expect("carried out");
    assert!(report.passed, "{report}");
    assert_eq!(report.refused, BTreeMap::from([("ESME_RTHROTTLED".into(), 1)]));
    assert_eq!((report.acked, report.receipts_repeated), (99, 1));
    let report = Centre::start(faults).load(&["--receipts", "--count", "100", "--strict"]).expect("carried out");
    assert_eq!(report.violations_count, 2, "{report}");
}

#[test]
fn lost_connections_leave_unknown_outcomes_and_are_replaced() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("journal");
    let path_text = path.to_str().expect("a plain path");
    let centre = Centre::start(Faults { connection_closed: 50, ..Faults::default() });
    let report =
        centre.load(&["--receipts", "--count", "200", "--reconnect", "--journal", path_text]).expect("carried out");
    assert!(report.passed, "{report}");
    assert_eq!((report.acked, report.binds, report.disconnects), (200, 4, 1));
    assert!(report.unknown >= 1, "{report}");
    assert_eq!(report.sent, 200 + report.unknown);
    let records = journal::read(&path).expect("its own journal");
    let verdict = verify::History::of(&records, true).check(None);
    assert!(verdict.passed, "{verdict}");
    assert_eq!((verdict.acked, verdict.unknown, verdict.disconnects), (200, report.unknown, 1));
}

#[test]
fn messages_are_asked_for_by_query_sm() {
    let centre = Centre::start(Faults::default());
    centre.load(&["--count", "120"]).expect("carried out");
    let asker = Asker { target: centre.address, system_id: "esme1".into(), password: "secret1".into() };
    let fates = asker.ask(1..=130).expect("answered");
    assert_eq!(fates.len(), 120);
    assert_eq!(fates.get(&120), Some(&Fate::Final(ReceiptState::Delivered)));
    assert_eq!(fates.get(&121), None);
}

#[test]
fn without_reconnect_a_lost_connection_is_an_error() {
    let centre = Centre::start(Faults { connection_closed: 50, ..Faults::default() });
    let error = centre.load(&["--count", "200"]).expect_err("the connection was closed");
    assert!(matches!(error, LoadError::Session { .. }), "{error}");
}

#[test]
fn a_wrong_password_is_an_error_even_with_reconnect() {
    let centre = Centre::start(Faults { wrong_password: true, ..Faults::default() });
    let error = centre.load(&["--count", "1", "--reconnect"]).expect_err("refused");
    assert!(error.to_string().contains("ESME_RINVPASWD"), "{error}");
}

#[test]
fn a_rate_is_kept() {
    let report = Centre::start(Faults::default()).load(&["--seconds", "0.5", "--rate", "400"]).expect("carried out");
    assert!(report.passed, "{report}");
    assert!((190..=210).contains(&report.acked), "{report}");
}

/// What the probe tells until the 50th submission has cost it its connection and it has another.
fn probed_through_an_outage(change: impl FnOnce(&mut ProbeOptions)) -> (ProbeSummary, Vec<ProbeEvent>) {
    let centre = Centre::start(Faults { connection_closed: 50, ..Faults::default() });
    let mut options = ProbeOptions::new(centre.address, "esme1", "secret1");
    options.retry_interval = Duration::from_millis(1);
    change(&mut options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut events = Vec::new();
    let summary = runtime.block_on(async {
        let (found, stop) = tokio::sync::oneshot::channel();
        let mut found = Some(found);
        let stop = async { stop.await.expect("the sender lives until the outage") };
        let probing = probe::run(&options, stop, |event| {
            if let ProbeEvent::Outage(_) = event {
                found.take().map(|found| found.send(()));
            }
            events.push(event);
        });
        tokio::time::timeout(Duration::from_secs(10), probing).await.expect("an outage").expect("valid options")
    });
    (summary, events)
}

#[test]
fn the_probe_measures_an_outage() {
    let (summary, events) = probed_through_an_outage(|_| ());
    assert_eq!((summary.outages, summary.unknown, summary.down_since), (1, 1, None));
    assert!(summary.acked >= 50, "{summary:?}");
    let outage =
        events.iter().find_map(|event| if let ProbeEvent::Outage(outage) = event { Some(outage) } else { None });
    let outage = outage.expect("it stopped there");
    assert_eq!(outage.connects, 1, "{outage:?}");
    assert!(outage.noticed_after <= outage.duration && outage.duration < Duration::from_secs(1), "{outage:?}");
    assert_eq!(outage.cause, "closed by the SMS centre");
}

#[test]
fn the_probe_tells_of_receipts_that_came_before_the_connection_was_lost() {
    let (_, events) = probed_through_an_outage(|options| {
        options.receipts = true;
        options.text = "a text of 20 octets.".to_owned();
    });
    let told = |wanted: u64| events.iter().any(|event| matches!(event, ProbeEvent::Receipt { id } if *id == wanted));
    let missed: Vec<u64> = (1..50).filter(|id| !told(*id)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}
