//! A cluster of our own as the message centre behind a link, both of real processes: what goes over and what comes back,
//! in each version and form; what operations on such messages answer; and leaders of both that die under load.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use smsc_proto::pdu::{DeliverSm, SubmitSm};
use smsc_proto::receipt::ParsedReceipt;
use smsc_proto::status::CommandStatus;
use smsc_proto::text::Part;
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{
    DataCoding, EsmClass, InterfaceVersion, MessageId, MessageState, MessageType, NetworkErrorCode,
};
use smsc_tests::esme::{Delivered, Esme};
use smsc_tests::lab::{Fault, Lab, tell};
use smsc_tests::process::{LoadProcess, verify};

use crate::links::records;
use crate::operations::{cancel, message, query, replace, submit, time};

const PATIENCE: Duration = Duration::from_secs(60);
/// Unanswered submit_sm per bind, and binds, of the link while leaders die.
const WINDOW: usize = 10;
/// See [`WINDOW`].
const BINDS: usize = 2;
/// What is submitted before and after a leader dies.
const CALM: Duration = Duration::from_secs(2);

/// The first cluster, whose ESMEs submit, and the second one, which is the message centre behind its link `far`.
struct Both {
    /// In front: the turn of both is the first lab's, which is to be dropped last.
    far: Lab,
    near: Lab,
}

impl Both {
    /// Numbers of 49 go from the first to the second, where 4955 deliver, 4966 refuse, 4988 are out of reach, 4999 answer
    /// with what they got, and 49700001 is an ESME's. The short code 1000 is esme1's at home and the first cluster's away.
    fn up() -> Option<Both> {
        let [near, far] = Lab::two(&[("SMSC_CDR", "1"), ("SMSC_SMPP_TLS", "1")])?;
        near.await_whole();
        far.await_whole();
        near.ctl_leader(&["route", "put", "49", "link:far"]);
        far.ctl_leader(&["account", "put", "esme1", "--no-short-codes"]);
        far.ctl_leader(&["account", "put", "near", "--password", "secret", "--short-code", "1000"]);
        far.ctl_leader(&["account", "put", "phone", "--password", "secret", "--short-code", "49700001"]);
        far.ctl_leader(&["handset", "put", "4955", "deliver"]);
        far.ctl_leader(&["handset", "put", "4966", "fail"]);
        far.ctl_leader(&["handset", "put", "4988", "deliver"]);
        far.ctl_leader(&["handset", "off", "4988"]);
        far.ctl_leader(&["handset", "put", "4999", "deliver", "--echo"]);
        Some(Both { far, near })
    }

    /// Puts the link, with these options beside those of every test, and waits for its binds.
    fn link(&self, tls: bool, binds: usize, more: &[&str]) {
        let (secure, ca) = self.far.tls_target();
        let address = if tls { secure } else { self.far.target() };
        let ca = ca.to_str().expect("text");
        let peer = ["link", "put", "far", "--address", &address, "--system-id", "near", "--password", "secret"];
        let secured = ["--tls", if tls { "true" } else { "false" }, "--tls-ca-file", ca];
        let quick = ["--reconnect-min-ms", "50", "--reconnect-max-ms", "500", "--disabled", "false"];
        self.near.ctl_leader(&[&peer[..], &secured, &quick, more].concat());
        self.await_bound(binds);
    }

    fn await_bound(&self, binds: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status: Value =
                serde_json::from_str(&self.near.ctl_leader(&["link", "status", "--json"])).expect("JSON");
            let all = status[0]["binds"].as_array().map_or(&[][..], Vec::as_slice);
            if all.len() == binds && all.iter().all(|bind| bind["state"] == "bound") {
                return;
            }
            assert!(Instant::now() < deadline, "the link does not have {binds} binds: {status}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the second cluster has one message to this number, in this state.
    fn await_far_state(&self, number: &str, state: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found =
                self.far.ctl_leader(&["--json", "message", "find", "--account", "near", "--destination", number]);
            let found: Value = serde_json::from_str(&found).expect("JSON");
            if found[0]["state"] == state && found.as_array().map(Vec::len) == Some(1) {
                return;
            }
            assert!(Instant::now() < deadline, "not one message to {number} that is {state}: {found}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// An ESME on the lab's host for them.
fn esme(lab: &Lab, system_id: &'static str, password: &'static str) -> Esme {
    let target: SocketAddr = lab.target().parse().expect("address and port");
    let bound = lab.inside("esme", move || Esme::bound(target, system_id, password, InterfaceVersion::V5_0)).join();
    bound.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
}

fn octets(to: &str, octets: impl Into<Bytes>) -> SubmitSm {
    SubmitSm { short_message: octets.into(), ..message(to, "") }
}

/// The receipt of a message of ours.
fn receipt(esme: &mut Esme, id: &MessageId) -> DeliverSm {
    let meant = |delivered: &Delivered| match delivered {
        Delivered::Deliver(deliver) if deliver.esm_class == EsmClass::DELIVERY_RECEIPT => {
            let told = ParsedReceipt::parse(&deliver.short_message).ok().and_then(|parsed| parsed.id);
            told == Some(id.to_string()) && deliver.tlvs.receipted_message_id().as_ref() == Some(id)
        }
        _ => false,
    };
    match esme.await_delivered(&format!("the receipt of message {id}"), meant) {
        Delivered::Deliver(deliver) => deliver,
        other => panic!("{other:?}"),
    }
}

fn stat(receipt: &DeliverSm) -> String {
    ParsedReceipt::parse(&receipt.short_message).expect("a receipt").stat.expect("a state")
}

/// The next message from this number; no receipt.
fn delivered(esme: &mut Esme, from: &str) -> DeliverSm {
    let meant = |delivered: &Delivered| {
        matches!(delivered, Delivered::Deliver(deliver)
            if deliver.esm_class.message_type() == MessageType::Default && deliver.source_addr.addr == *from)
    };
    match esme.await_delivered(&format!("a message from {from}"), meant) {
        Delivered::Deliver(deliver) => deliver,
        other => panic!("{other:?}"),
    }
}

/// Every final state of the other cluster comes back as ours, with our id and the other one's error.
fn states_come_back(both: &Both, near: &mut Esme, suffix: &str) {
    let gsm = |error_code| Some(NetworkErrorCode { network_type: NetworkErrorCode::GSM, error_code });
    let cases = [
        ("4955", "", "DELIVRD", MessageState::DELIVERED, "delivered", None),
        ("4966", "", "UNDELIV", MessageState::UNDELIVERABLE, "undeliverable", gsm(1)),
        ("4988", "000000000003000R", "EXPIRED", MessageState::EXPIRED, "expired", gsm(27)),
    ];
    let sent = cases.map(|(prefix, validity, ..)| {
        let number = format!("{prefix}{suffix}");
        let id = submit(near, SubmitSm { validity_period: time(validity), ..message(&number, "hello") });
        (number, id)
    });
    for ((number, id), (_, _, told, state, far, error)) in sent.iter().zip(cases) {
        let receipt = receipt(near, id);
        assert_eq!((stat(&receipt).as_str(), receipt.tlvs.network_error_code()), (told, error), "{number}");
        assert_eq!(receipt.source_addr.addr, *number.as_str());
        assert_eq!(query(near, id).expect("it is there").message_state, state, "{number}");
        both.await_far_state(number, far);
    }
}

/// What is submitted here arrives there as it was, in every alphabet.
fn alphabets_pass(near: &mut Esme, phone: &mut Esme) {
    // All of the GSM alphabet and two characters behind its escape; Latin-1; UCS-2 with a surrogate pair; octets.
    let gsm: Vec<u8> = (0..0x80).filter(|septet| *septet != 0x1b).chain([0x1b, 0x65, 0x1b, 0x3c]).collect();
    let latin1: Vec<u8> = (0x20..0x7f).chain(0xc0..=0xec).collect();
    let ucs2: Vec<u8> = "Grüße, мир 🙂".encode_utf16().flat_map(u16::to_be_bytes).collect();
    for (coding, text) in [(0, gsm), (3, latin1), (8, ucs2), (4, (0..140).collect())] {
        let mut tlvs = Tlvs::new();
        tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 0x1200 | u16::from(coding));
        let sent = SubmitSm { data_coding: DataCoding(coding), tlvs, ..octets("49700001", text.clone()) };
        let id = submit(near, sent);
        let came = delivered(phone, "1000");
        assert_eq!((came.data_coding.0, &came.short_message[..]), (coding, &text[..]));
        assert_eq!(came.tlvs.value::<u16>(Tag::USER_MESSAGE_REFERENCE), Some(0x1200 | u16::from(coding)));
        assert_eq!(stat(&receipt(near, &id)), "DELIVRD");
    }
}

/// Long text arrives whole in the form that the link has, and what was submitted as one message has one receipt.
fn long_messages_pass(near: &mut Esme, phone: &mut Esme, form: &str) {
    // Segments that the ESME made, in an alphabet of seven bits and in one of sixteen.
    for (coding, reference) in [(0, 0x21), (8, 0x22)] {
        let texts: BTreeMap<u8, Vec<u8>> = (1..=3).map(|part| (part, vec![b'`' + part; 100])).collect();
        let mut ids = Vec::new();
        for (part, text) in &texts {
            let segment = [&[5, 0, 3, reference, 3, *part], &text[..]].concat();
            let esm_class = EsmClass::default().with_udhi(true);
            let data_coding = DataCoding(coding);
            ids.push(submit(near, SubmitSm { esm_class, data_coding, ..octets("49700001", segment) }));
        }
        let came: BTreeMap<_, _> = texts.iter().map(|_| part(&delivered(phone, "1000"))).collect();
        assert_eq!(came, texts, "{form}");
        for id in ids {
            assert_eq!(stat(&receipt(near, &id)), "DELIVRD");
        }
    }
    // Text that is too long for one short message, which the link divides or does not.
    let text: Vec<u8> = (0..1_000u32).map(|index| b'a' + (index % 26) as u8).collect();
    let mut tlvs = Tlvs::new();
    tlvs.push(Tag::MESSAGE_PAYLOAD, &text).expect("it fits");
    let id = submit(near, SubmitSm { tlvs, ..message("49700001", "") });
    if form == "payload" {
        let whole = delivered(phone, "1000");
        assert_eq!(whole.tlvs.message_payload().as_deref(), Some(&text[..]));
    } else {
        let mut came = BTreeMap::new();
        while came.values().map(Vec::len).sum::<usize>() < text.len() {
            let deliver = delivered(phone, "1000");
            assert_eq!(deliver.tlvs.contains(Tag::SAR_SEGMENT_SEQNUM), form == "sar");
            came.extend([part(&deliver)]);
        }
        assert_eq!(came.into_values().flatten().collect::<Vec<u8>>(), text, "{form}");
    }
    assert_eq!(stat(&receipt(near, &id)), "DELIVRD");
}

/// The number of a segment, and its text.
fn part(deliver: &DeliverSm) -> (u8, Vec<u8>) {
    if let Some(number) = deliver.tlvs.sar_segment_seqnum() {
        return (number, deliver.short_message.to_vec());
    }
    let part = Part::from_user_data(&deliver.short_message).unwrap_or_else(|error| panic!("{error}: {deliver:?}"));
    (part.concatenation.sequence, part.body)
}

/// What phones of the other cluster write reaches the ESME that owns the short code here, by itself and as an answer.
fn phones_write(both: &Both, near: &mut Esme) {
    both.far.ctl_leader(&["handset", "send", "49550001", "1000", "Καλημέρα"]);
    let came = delivered(near, "49550001");
    let text: Vec<u8> = "Καλημέρα".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!((came.destination_addr.addr.to_string().as_str(), came.data_coding.0), ("1000", 8));
    assert_eq!(&came.short_message[..], text);
    let id = submit(near, message("49990001", "there and back"));
    assert_eq!(delivered(near, "49990001").short_message, "there and back");
    assert_eq!(stat(&receipt(near, &id)), "DELIVRD");
}

/// query_sm, cancel_sm and replace_sm of what waits here for the link, and of what waits there for its phone.
fn operations_are_answered(both: &Both, near: &mut Esme, phone: &mut Esme) {
    both.near.ctl_leader(&["link", "put", "far", "--disabled", "true"]);
    both.await_bound(0);
    let [replaced, cancelled] = ["49700001", "49550002"].map(|number| submit(near, message(number, "old")));
    let text = |replace: &mut smsc_proto::pdu::ReplaceSm| replace.short_message = "new".into();
    for id in [&replaced, &cancelled] {
        assert_eq!(query(near, id).expect("it is there").message_state, MessageState::ENROUTE);
        assert_eq!(replace(near, id, text), CommandStatus::ESME_ROK);
    }
    assert_eq!(cancel(near, |cancel| cancel.message_id = cancelled.clone()), CommandStatus::ESME_ROK);
    assert_eq!(query(near, &cancelled).expect("it is there").message_state, MessageState::DELETED);
    both.link(false, 1, &["--mode", "transceiver"]);
    assert_eq!(delivered(phone, "1000").short_message, "new");

    // The other cluster has it and may deliver it at any moment: its text stays, and it is cancelled there.
    let [id, cancelled] = ["49880001", "49880002"].map(|number| {
        let id = submit(near, message(number, "waits there"));
        both.await_far_state(number, "enroute");
        assert_eq!(query(near, &id).expect("it is there").message_state, MessageState::ENROUTE);
        assert_eq!(replace(near, &id, text), CommandStatus::ESME_RREPLACEFAIL);
        id
    });
    assert_eq!(cancel(near, |cancel| cancel.message_id = cancelled.clone()), CommandStatus::ESME_ROK);
    assert_eq!(cancel(near, |cancel| cancel.message_id = cancelled.clone()), CommandStatus::ESME_RCANCELFAIL);
    both.await_far_state("49880002", "deleted");
    assert_eq!(query(near, &cancelled).expect("it is there").message_state, MessageState::DELETED);
    assert_eq!(stat(&receipt(near, &cancelled)), "DELETED");
    assert_eq!(query(near, &id).expect("it is there").message_state, MessageState::ENROUTE);
    both.far.ctl_leader(&["handset", "on", "4988"]);
    assert_eq!(stat(&receipt(near, &id)), "DELIVRD");
    assert_eq!(query(near, &id).expect("it is there").message_state, MessageState::DELIVERED);
    both.await_far_state("49880001", "delivered");
}

/// Under load with receipts the leader of each dies. Nothing is lost, everything has one end, and a phone gets a message
/// again only if its answer was lost.
fn leaders_die(both: &Both) {
    let window = WINDOW.to_string();
    both.link(true, 2 * BINDS, &["--mode", "pair", "--binds", &BINDS.to_string(), "--window", &window]);
    let load = LoadProcess::start(&both.near, &["--sessions", "2", "--rate", "60", "--destination-prefix", "49556"]);
    let mut kills = 0;
    for lab in [&both.near, &both.far] {
        load.await_ack();
        thread::sleep(CALM);
        let killed = lab.fault(Fault::Kill, "leader");
        kills += 1;
        lab.await_other_leader(&killed);
        load.await_ack();
        thread::sleep(CALM);
        lab.heal(&killed);
        lab.await_whole();
    }
    let journal = load.journal.clone();
    let report = load.finish();
    let verdict = verify(&both.near, &journal);
    let status = both.near.ctl_leader(&["link", "status"]);
    assert!(report.passed, "{report}\n{status}");
    assert!(verdict.passed, "{verdict}");
    assert_eq!(report.states.keys().collect::<Vec<_>>(), ["DELIVRD"], "{report}");

    // Both nodes of the first cluster have a record for each message, and one; the second one's tell what phones got.
    let taken = |lab: &Lab, host: &str| {
        let mut taken: HashMap<String, u64> = HashMap::new();
        for record in records(lab, host).values() {
            let number = record["destination"]["digits"].as_str().expect("digits");
            if number.starts_with("49556") {
                assert_eq!(record["state"], "delivered", "{record}");
                *taken.entry(number.to_owned()).or_default() += 1;
            }
        }
        taken
    };
    // Lines reach their files within a second.
    thread::sleep(CALM);
    let deadline = Instant::now() + PATIENCE;
    let (submitted, got) = loop {
        let [submitted, got] = [&both.near, &both.far].map(|lab| (taken(lab, "a"), taken(lab, "b")));
        if submitted.0 == submitted.1 && got.0 == got.1 && submitted.0.len() as u64 >= report.acked {
            break (submitted.0, got.0);
        }
        assert!(Instant::now() < deadline, "the nodes' records differ, or some are missing");
        thread::sleep(Duration::from_millis(200));
    };
    assert!(submitted.values().all(|count| *count == 1), "one final state for each");
    assert!(submitted.keys().all(|number| got.contains_key(number)), "the phones got all of it");
    let again = got.values().map(|count| count - 1).sum::<u64>();
    tell(&format!(
        "two clusters, a leader of each killed: {} acknowledged, {} receipts ({} came again), {again} messages came to \
         their phones again\n{status}",
        report.acked, report.receipts, report.receipts_repeated
    ));
    // Unanswered is what fits the windows; answered and not recorded yet is what was answered within a moment.
    assert!(again <= kills * 2 * (WINDOW * BINDS) as u64, "{again} came again");
}

#[test]
fn a_cluster_of_our_own_is_a_message_centre() {
    let Some(both) = Both::up() else { return };
    let (mut near, mut phone) = (esme(&both.near, "esme1", "secret1"), esme(&both.far, "phone", "secret"));
    for (round, (version, form, mode, binds, tls)) in [
        ("3.4", "udh", "transceiver", 1, false),
        ("5.0", "sar", "pair", 2, true),
        ("5.0", "payload", "transceiver", 1, true),
    ]
    .into_iter()
    .enumerate()
    {
        let options = ["--smpp-version", version, "--long-messages", form, "--mode", mode];
        both.link(tls, binds, &options);
        states_come_back(&both, &mut near, &format!("010{round}"));
        alphabets_pass(&mut near, &mut phone);
        long_messages_pass(&mut near, &mut phone, form);
        phones_write(&both, &mut near);
    }
    operations_are_answered(&both, &mut near, &mut phone);
    // The load has the account for itself: its receipts go to any receiver.
    drop((near, phone));
    leaders_die(&both);
}
