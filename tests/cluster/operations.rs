//! Every operation on messages against real nodes, and the same answers about the same messages after kill -9 of the
//! leader.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use smsc_proto::pdu::{Body, CancelSm, DataSm, Pdu, QuerySm, QuerySmResult, ReplaceSm, SubmitMulti, SubmitSm};
use smsc_proto::receipt::ParsedReceipt;
use smsc_proto::status::CommandStatus;
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{
    Address, DestAddress, EsmClass, InterfaceVersion, MessageId, MessageState, Npi, RegisteredDelivery,
    ReplaceIfPresent, TimeString, Ton,
};
use smsc_tests::esme::{Delivered, Esme};
use smsc_tests::lab::{Fault, Lab, tell};

const PATIENCE: Duration = Duration::from_secs(30);

/// How long the numbers of this prefix stay out of reach: longer than the test.
const ABSENT_MS: &str = "3600000";

/// Does `work` as an ESME on `esme`.
fn as_esme<T: Send + 'static>(lab: &Lab, work: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
    let target: SocketAddr = lab.target().parse().expect("address and port");
    let done = lab.inside("esme", move || work(target)).join();
    done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
}

fn bound(to: SocketAddr) -> Esme {
    Esme::bound(to, "esme1", "secret1", InterfaceVersion::V5_0)
}

pub fn message(to: &str, text: &'static str) -> SubmitSm {
    SubmitSm {
        source_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, "1000").expect("short"),
        destination_addr: Address::international(to.to_owned()).expect("short"),
        registered_delivery: RegisteredDelivery::RECEIPT,
        short_message: text.into(),
        ..SubmitSm::default()
    }
}

pub fn time(text: &str) -> TimeString {
    text.parse().expect("a time has 16 characters")
}

fn id_of(answer: &Pdu) -> MessageId {
    assert_eq!(answer.status, CommandStatus::ESME_ROK, "{answer:?}");
    match &answer.body {
        Body::SubmitSmResp(resp) => resp.message_id.clone(),
        Body::DataSmResp(resp) => resp.message_id.clone(),
        Body::SubmitMultiResp(resp) => resp.result.as_ref().map(|result| result.message_id.clone()),
        _ => None,
    }
    .unwrap_or_else(|| panic!("no message_id: {answer:?}"))
}

pub fn submit(esme: &mut Esme, submit: SubmitSm) -> MessageId {
    id_of(&esme.ask(Body::SubmitSm(submit)))
}

pub fn query(esme: &mut Esme, id: &MessageId) -> Result<QuerySmResult, CommandStatus> {
    let query = QuerySm { message_id: id.clone(), source_addr: message("", "").source_addr, tlvs: Tlvs::new() };
    let answer = esme.ask(Body::QuerySm(query));
    match answer.body {
        Body::QuerySmResp(resp) if answer.status == CommandStatus::ESME_ROK => Ok(resp.result.expect("a result")),
        _ => Err(answer.status),
    }
}

/// Queries until the message has this state.
fn await_state(esme: &mut Esme, id: &MessageId, state: MessageState) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = query(esme, id).expect("it is there");
        if told.message_state == state {
            return;
        }
        assert!(Instant::now() < deadline, "message {id} is {told:?}, not {state:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Waits for the receipt of this message about this number, or about any, and gives its `stat`.
fn await_receipt(esme: &mut Esme, id: &MessageId, from: &str) -> String {
    let id_text = id.to_string();
    let receipt = |delivered: &Delivered| match delivered {
        Delivered::Deliver(deliver) if deliver.esm_class == EsmClass::DELIVERY_RECEIPT => {
            let parsed = ParsedReceipt::parse(&deliver.short_message).ok()?;
            let same = parsed.id.as_deref() == Some(id_text.as_str())
                && deliver.tlvs.receipted_message_id().is_some_and(|told| told.to_string() == id_text)
                && deliver.source_addr.addr.to_string().starts_with(from);
            parsed.stat.filter(|_| same)
        }
        _ => None,
    };
    let what = format!("the receipt of message {id}");
    receipt(&esme.await_delivered(&what, |delivered| receipt(delivered).is_some())).expect("it was found")
}

pub fn cancel(esme: &mut Esme, change: impl FnOnce(&mut CancelSm)) -> CommandStatus {
    let mut cancel = CancelSm { source_addr: message("", "").source_addr, ..CancelSm::default() };
    change(&mut cancel);
    esme.ask(Body::CancelSm(cancel)).status
}

pub fn replace(esme: &mut Esme, id: &MessageId, change: impl FnOnce(&mut ReplaceSm)) -> CommandStatus {
    let mut replace =
        ReplaceSm { message_id: id.clone(), source_addr: message("", "").source_addr, ..ReplaceSm::default() };
    change(&mut replace);
    esme.ask(Body::ReplaceSm(replace)).status
}

/// The messages of the test, and what was told about them.
struct Told {
    ids: Vec<(&'static str, MessageId)>,
    answers: Vec<Result<QuerySmResult, CommandStatus>>,
}

impl Told {
    fn id(&self, name: &str) -> MessageId {
        self.ids.iter().find(|(known, _)| *known == name).map(|(_, id)| id.clone()).expect("it was submitted")
    }
}

/// Brings messages into every state that there is, and asks for each.
fn before(to: SocketAddr) -> Told {
    let esme = &mut bound(to);
    let mut ids = Vec::new();

    let delivered = submit(esme, message("15550001", "hello"));
    assert_eq!(await_receipt(esme, &delivered, "15550001"), "DELIVRD");
    let failed = submit(esme, message("16660001", "hello"));
    assert_eq!(await_receipt(esme, &failed, "16660001"), "UNDELIV");
    let waiting = submit(esme, message("18880001", "still waiting"));
    let scheduled =
        submit(esme, SubmitSm { schedule_delivery_time: time("000001000000000R"), ..message("18880002", "tomorrow") });
    await_state(esme, &waiting, MessageState::ENROUTE);
    await_state(esme, &scheduled, MessageState::SCHEDULED);

    let expiring =
        submit(esme, SubmitSm { validity_period: time("000000000002000R"), ..message("18880003", "soon over") });
    let cancelled = submit(esme, message("18880004", "never mind"));
    assert_eq!(cancel(esme, |cancel| cancel.message_id = cancelled.clone()), CommandStatus::ESME_ROK);
    assert_eq!(await_receipt(esme, &cancelled, "18880004"), "DELETED");
    assert_eq!(await_receipt(esme, &expiring, "18880003"), "EXPIRED");

    // Replaced: by a longer text, and put off.
    let replaced = submit(esme, message("18880005", "first"));
    let mut payload = Tlvs::new();
    payload.push(Tag::MESSAGE_PAYLOAD, b"a longer second text").expect("it fits");
    let put_off = replace(esme, &replaced, |replace| {
        replace.tlvs = payload;
        replace.registered_delivery = RegisteredDelivery::RECEIPT;
        replace.schedule_delivery_time = time("000001000000000R");
        replace.validity_period = time("000002000000000R");
    });
    assert_eq!(put_off, CommandStatus::ESME_ROK);
    // Replaced by another submission.
    let present =
        SubmitSm { replace_if_present_flag: ReplaceIfPresent::REPLACE, ..message("18880002", "the day after") };
    let again = submit(esme, SubmitSm { schedule_delivery_time: time("000002000000000R"), ..present });
    assert_eq!(again, scheduled);

    // Several destinations: addresses, a list, and one that is refused.
    let sme = |digits: &'static str| DestAddress::Sme(Address::international(digits).expect("short"));
    let single = message("", "to all");
    let multi = SubmitMulti {
        source_addr: single.source_addr,
        registered_delivery: single.registered_delivery,
        short_message: single.short_message,
        dest_addresses: vec![
            sme("15550002"),
            sme("999"),
            DestAddress::DistributionList("friends".parse().expect("short")),
        ],
        ..SubmitMulti::default()
    };
    let answer = esme.ask(Body::SubmitMulti(multi));
    let multi = id_of(&answer);
    let Body::SubmitMultiResp(resp) = answer.body else { panic!("{answer:?}") };
    let refused = resp.result.expect("a result").unsuccess_smes;
    assert_eq!((refused.len(), refused[0].error_status_code), (1, CommandStatus::ESME_RINVDSTADR));
    for number in ["15550002", "15550003"] {
        assert_eq!(await_receipt(esme, &multi, number), "DELIVRD");
    }
    await_state(esme, &multi, MessageState::ENROUTE);

    // data_sm, and the outcome in the response.
    let mut tlvs = Tlvs::new();
    tlvs.push(Tag::MESSAGE_PAYLOAD, b"by data_sm").expect("it fits");
    let data = |to: &'static str, class: u8| DataSm {
        source_addr: message("", "").source_addr.into(),
        destination_addr: Address::international(to).expect("short").into(),
        esm_class: EsmClass(class),
        tlvs: tlvs.clone(),
        ..DataSm::default()
    };
    let transaction = id_of(&esme.ask(Body::DataSm(data("15550004", 2))));
    assert_eq!(query(esme, &transaction).expect("it is there").message_state, MessageState::DELIVERED);
    let answer = esme.ask(Body::DataSm(data("16660002", 2)));
    assert_eq!(answer.status, CommandStatus::ESME_RDELIVERYFAILURE);
    let Body::DataSmResp(resp) = answer.body else { panic!("{answer:?}") };
    assert!(resp.tlvs.network_error_code().is_some() && resp.tlvs.delivery_failure_reason() == Some(2), "{resp:?}");
    let answer = esme.ask(Body::DataSm(data("18880009", 2)));
    assert_eq!(answer.status, CommandStatus::ESME_RDELIVERYFAILURE, "out of reach, and tried once");

    for text in ["one", "two"] {
        submit(esme, message("18880006", text));
    }
    ids.extend([("delivered", delivered), ("failed", failed), ("waiting", waiting), ("scheduled", scheduled)]);
    ids.extend([("expired", expiring), ("cancelled", cancelled), ("replaced", replaced), ("multi", multi)]);
    ids.extend([("transaction", transaction), ("none", "4000000000".parse().expect("short"))]);
    let answers = ids.iter().map(|(_, id)| query(esme, id)).collect();
    Told { ids, answers }
}

/// Asks by data_sm in transaction mode to be told when a number that is out of reach is back.
fn ask_for_alert(to: SocketAddr) {
    let esme = &mut bound(to);
    let mut tlvs = Tlvs::new();
    tlvs.push(Tag::MESSAGE_PAYLOAD, b"call me back").expect("it fits");
    tlvs.push_u8(Tag::SET_DPF, 1);
    let data = DataSm {
        source_addr: message("", "").source_addr.into(),
        destination_addr: Address::international("18990001").expect("short").into(),
        esm_class: EsmClass(2),
        tlvs,
        ..DataSm::default()
    };
    let answer = esme.ask(Body::DataSm(data));
    assert_eq!(answer.status, CommandStatus::ESME_RDELIVERYFAILURE);
    let Body::DataSmResp(resp) = answer.body else { panic!("{answer:?}") };
    assert_eq!(resp.tlvs.dpf_result(), Some(1), "{resp:?}");
}

fn await_alert(to: SocketAddr) {
    let esme = &mut bound(to);
    let alert = esme.await_delivered("the alert", |delivered| matches!(delivered, Delivered::Alert(_)));
    let Delivered::Alert(alert) = alert else { panic!("{alert:?}") };
    assert!(alert.source_addr.addr == "18990001" && alert.esme_addr.addr == "1000", "{alert:?}");
    assert_eq!(alert.tlvs.ms_availability_status(), Some(0));
}

/// Asks again, and does to what waits what could be done before.
fn after(to: SocketAddr, told: &Told) {
    let esme = &mut bound(to);
    for ((name, id), before) in told.ids.iter().zip(&told.answers) {
        assert_eq!(&query(esme, id), before, "{name}");
    }
    for name in ["delivered", "failed", "expired", "cancelled", "none"] {
        let id = told.id(name);
        let text = |replace: &mut ReplaceSm| replace.short_message = "too late".into();
        assert_eq!(cancel(esme, |cancel| cancel.message_id = id.clone()), CommandStatus::ESME_RCANCELFAIL, "{name}");
        assert_eq!(replace(esme, &id, text), CommandStatus::ESME_RREPLACEFAIL, "{name}");
    }
    // Only what is still to come of the several is ended.
    let multi = told.id("multi");
    assert_eq!(cancel(esme, |cancel| cancel.message_id = multi.clone()), CommandStatus::ESME_ROK);
    assert_eq!(await_receipt(esme, &multi, "18880007"), "DELETED");
    let between = |cancel: &mut CancelSm| {
        cancel.destination_addr = Address::international("18880006").expect("short");
    };
    assert_eq!(cancel(esme, between), CommandStatus::ESME_ROK);
    assert_eq!(cancel(esme, between), CommandStatus::ESME_RCANCELFAIL, "there are no more");
    let waiting = told.id("waiting");
    assert_eq!(replace(esme, &waiting, |replace| replace.short_message = "new".into()), CommandStatus::ESME_ROK);
    // registered_delivery was replaced as well: nobody asked for this receipt any more.
    assert_eq!(cancel(esme, |cancel| cancel.message_id = waiting.clone()), CommandStatus::ESME_ROK);
    await_state(esme, &waiting, MessageState::DELETED);
}

#[test]
fn the_answers_are_the_same_after_the_leader_is_killed() {
    let Some(lab) = Lab::up() else { return };
    lab.await_whole();
    lab.ctl_leader(&["handset", "put", "1888", "absent", "--absent-ms", ABSENT_MS]);
    lab.ctl_leader(&["list", "put", "friends", "15550003,18880007", "--account", "esme1"]);
    lab.ctl_leader(&["handset", "put", "1899", "deliver"]);
    lab.ctl_leader(&["handset", "off", "1899"]);
    as_esme(&lab, ask_for_alert);
    let told = as_esme(&lab, before);
    let replaced = told.id("replaced").to_string();
    let shown = lab.ctl_leader(&["--json", "message", "show", &replaced]);
    let leader = lab.fault(Fault::Kill, "leader");
    let next = lab.await_other_leader(&leader);
    let output = lab.ctl(&next, &["--json", "message", "show", &replaced]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), shown, "the replacement");
    let count = told.ids.len();
    as_esme(&lab, move |to| after(to, &told));
    // The new leader knows who is to be told, though nobody is bound when the number comes back.
    let output = lab.ctl(&next, &["handset", "on", "1899"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    as_esme(&lab, await_alert);
    tell(&format!("operations: {count} messages, the same answers before and after kill -9 of {leader}"));
    lab.heal(&leader);
}
