//! What each version of SMPP may be sent, and may ask for.

use super::*;
use crate::pdu::{AlertNotification, BroadcastSm, DataSm, DataSmResp, QuerySmResp};

const CONGESTED: u8 = 85;

/// The answer to one submit_sm of an ESME of this version, from a centre that tells how busy it is.
fn answer_to(version: InterfaceVersion, status: CommandStatus) -> Pdu {
    let mut script = Script::bound_with(BindMode::Transceiver, version);
    script.session.set_congestion(Some(CONGESTED));
    script.send(2, submit());
    let (ticket, _) = script.request();
    match RefusalStatus::new(status) {
        Some(refusal) => script.session.refuse(ticket, refusal),
        None => script.session.respond(ticket, status, submit_resp("1")),
    }
    script.take_output().remove(0)
}

#[test]
fn answers_to_version_5_tell_of_congestion_and_others_do_not() {
    let told = |version| answer_to(version, CommandStatus::ESME_ROK).body.tlvs().value::<u8>(Tag::CONGESTION_STATE);
    assert_eq!(told(InterfaceVersion::V5_0), Some(CONGESTED));
    assert_eq!(told(InterfaceVersion::V3_4), None);
    assert_eq!(told(InterfaceVersion::V3_3), None);
}

#[test]
fn a_refusal_is_a_header_alone_for_every_version() {
    for version in [InterfaceVersion::V3_3, InterfaceVersion::V3_4, InterfaceVersion::V5_0] {
        let refused = answer_to(version, CommandStatus::ESME_RTHROTTLED);
        assert_eq!(octets(&refused).len(), 16, "{version}");
    }
}

#[test]
fn the_bind_response_tells_the_version_and_nothing_else() {
    let mut script = Script::centre();
    script.session.set_congestion(Some(200));
    script.send(1, Body::BindReceiver(Bind { interface_version: InterfaceVersion::V5_0, ..Bind::default() }));
    let _ = script.event();
    script.session.bind_accept(at(0), "smsc".parse().expect("short")).expect("a bind waits");
    let answer = script.take_output().remove(0);
    assert_eq!(answer.body.tlvs().value::<u8>(Tag::SC_INTERFACE_VERSION), Some(0x50));
    assert_eq!(answer.body.tlvs().iter().count(), 1);
}

#[test]
fn statuses_that_version_5_added_stay_there() {
    let status = |version| answer_to(version, CommandStatus::ESME_RPROHIBITED).status;
    assert_eq!(status(InterfaceVersion::V5_0), CommandStatus::ESME_RPROHIBITED);
    assert_eq!(status(InterfaceVersion::V3_4), CommandStatus::ESME_RINVBNDSTS);
}

#[test]
fn operations_are_those_of_the_version() {
    let answer = |version, body| {
        let mut script = Script::bound_with(BindMode::Transceiver, version);
        script.send(2, body);
        match script.take_output().as_slice() {
            [] => None,
            [answer] => Some((answer.command_id(), answer.status)),
            more => panic!("{more:?}"),
        }
    };
    let broadcast = || Body::BroadcastSm(BroadcastSm::default());
    let refused = Some((CommandId::BROADCAST_SM_RESP, CommandStatus::ESME_RINVCMDID));
    assert_eq!(answer(InterfaceVersion::V3_4, broadcast()), refused);
    assert_eq!(answer(InterfaceVersion::V5_0, broadcast()), None, "the owner answers");
    let data = || Body::DataSm(DataSm::default());
    assert_eq!(answer(InterfaceVersion::V3_3, data()), Some((CommandId::DATA_SM_RESP, CommandStatus::ESME_RINVCMDID)));
    assert_eq!(answer(InterfaceVersion::V3_4, data()), None, "the owner answers");
}

#[test]
fn version_3_3_is_not_sent_what_came_later() {
    let mut script = Script::bound_with(BindMode::Transceiver, InterfaceVersion::V3_3);
    assert!(matches!(
        script.session.request(at(0), 1, Body::DataSm(DataSm::default())),
        Err(RequestError::NotAllowed { .. })
    ));
    let alert = || Body::AlertNotification(AlertNotification::default());
    assert!(matches!(script.session.notify(alert()), Err(RequestError::NotAllowed { .. })));
    assert!(script.take_output().is_empty());
    let mut script = Script::bound_with(BindMode::Transceiver, InterfaceVersion::V3_4);
    script.session.notify(alert()).expect("3.4 knows it");
    assert_eq!(script.take_output().len(), 1);
}

#[test]
fn only_answers_that_list_tlvs_tell_of_congestion() {
    let mut script = Script::bound_with(BindMode::Transceiver, InterfaceVersion::V5_0);
    script.session.set_congestion(Some(200));
    script.send(2, Body::EnquireLink(EnquireLink::default()));
    assert_eq!(octets(&script.take_output()[0]).len(), 16);
    script.send(3, Body::DataSm(DataSm::default()));
    let (ticket, _) = script.request();
    let body = DataSmResp { message_id: Some(MessageId::default()), ..DataSmResp::default() };
    script.session.respond(ticket, CommandStatus::ESME_ROK, Body::DataSmResp(body));
    assert_eq!(script.take_output()[0].body.tlvs().value::<u8>(Tag::CONGESTION_STATE), Some(100));
    assert!(!carries_congestion(Body::QuerySmResp(QuerySmResp::default()).command_id()));
    // A request is no answer.
    script.session.request(at(0), 1, deliver()).expect("room");
    assert!(script.take_output()[0].body.tlvs().is_empty());
}
