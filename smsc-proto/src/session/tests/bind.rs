//! Binding, refusing, unbinding.

use super::*;
use crate::pdu::Outbind;
use crate::types::SystemId;

fn bind_of(version: InterfaceVersion) -> Body {
    Body::BindTransceiver(Bind { interface_version: version, ..Bind::default() })
}

fn smsc() -> SystemId {
    "smsc".parse().expect("short")
}

#[test]
fn the_answer_tells_the_version_to_those_who_know_tlvs() {
    for (asked, told) in [(0x00, None), (0x33, None), (0x34, Some(0x34)), (0x50, Some(0x50)), (0x51, Some(0x50))] {
        let mut script = Script::centre();
        script.send(7, bind_of(InterfaceVersion(asked)));
        assert!(matches!(script.event(), Some(Event::BindRequested { mode: BindMode::Transceiver, .. })));
        assert!(!script.session.has_input());
        script.session.bind_accept(at(1), smsc()).expect("it waits");
        let answers = script.take_output();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].sequence, SequenceNumber(7));
        let tlvs = answers[0].body.tlvs();
        assert_eq!(tlvs.value::<u8>(Tag::SC_INTERFACE_VERSION), told);
        assert_eq!(script.session.peer_version(), InterfaceVersion(asked));
        assert!(script.session.bind_accept(at(1), smsc()).is_err());
    }
}

#[test]
fn no_tlv_goes_to_a_peer_of_version_3_3() {
    let mut script = Script::centre();
    script.send(1, bind_of(InterfaceVersion::V3_3));
    let _ = script.event();
    script.session.bind_accept(at(0), smsc()).expect("it waits");
    let mut body = deliver();
    body.tlvs_mut().push_u8(Tag::USER_RESPONSE_CODE, 1);
    script.session.request(at(0), 1, body).expect("there is room");
    let sent = script.take_output();
    assert!(sent.iter().all(|pdu| pdu.body.tlvs().is_empty()), "{sent:?}");
}

#[test]
fn before_the_bind_everything_else_is_out_of_turn() {
    let mut script = Script::centre();
    script.send(5, submit());
    assert_eq!(script.answer(), (CommandId::SUBMIT_SM_RESP, 5, CommandStatus::ESME_RINVBNDSTS));
    script.send(6, Body::Outbind(Outbind::default()));
    assert_eq!(script.answer(), (CommandId::GENERIC_NACK, 6, CommandStatus::ESME_RINVBNDSTS));
    assert!(script.event().is_none());
    assert_eq!(script.session.state(), State::Open);
}

#[test]
fn what_follows_a_bind_waits_for_its_answer() {
    let mut script = Script::centre();
    let mut octets = octets(&Pdu::new(SequenceNumber(1), bind_of(InterfaceVersion::V3_4)));
    for (sequence, body) in [(2, submit()), (3, bind_of(InterfaceVersion::V3_4))] {
        octets.extend_from_slice(&super::octets(&Pdu::new(SequenceNumber(sequence), body)));
    }
    script.session.handle_bytes(at(0), &octets);
    assert!(matches!(script.event(), Some(Event::BindRequested { .. })));
    assert!(script.event().is_none());
    assert!(script.take_output().is_empty());
    // The time it takes to answer is not the peer's.
    assert_eq!(script.session.poll_timeout(), None);

    script.session.bind_accept(at(60), smsc()).expect("it waits");
    let answers: Vec<_> =
        script.take_output().iter().map(|pdu| (pdu.command_id(), pdu.sequence.0, pdu.status)).collect();
    assert_eq!(
        answers,
        [
            (CommandId::BIND_TRANSCEIVER_RESP, 1, CommandStatus::ESME_ROK),
            (CommandId::BIND_TRANSCEIVER_RESP, 3, CommandStatus::ESME_RALYBND),
        ]
    );
    let (ticket, _) = script.request();
    assert_eq!(ticket.sequence(), SequenceNumber(2));
    script.session.respond(ticket, CommandStatus::ESME_ROK, submit_resp("1"));
    assert_eq!(script.answer(), (CommandId::SUBMIT_SM_RESP, 2, CommandStatus::ESME_ROK));
}

#[test]
fn input_behind_a_bind_is_bounded() {
    let mut script = Script::centre();
    script.send(1, bind_of(InterfaceVersion::V3_4));
    assert!(script.session.wants_input());
    script.session.handle_bytes(at(0), &[0; INPUT_HIGH]);
    assert!(!script.session.wants_input());
}

#[test]
fn a_refused_bind_leaves_the_session_open() {
    let mut script = Script::centre();
    script.send(1, bind_of(InterfaceVersion::V3_4));
    let _ = script.event();
    script.session.bind_refuse(at(1), RefusalStatus::ESME_RINVPASWD).expect("it waits");
    assert_eq!(script.answer(), (CommandId::BIND_TRANSCEIVER_RESP, 1, CommandStatus::ESME_RINVPASWD));
    script.send(2, bind_of(InterfaceVersion::V3_4));
    assert!(matches!(script.event(), Some(Event::BindRequested { .. })));
}

#[test]
fn an_esme_binds_and_unbinds() {
    let mut script = Script::esme();
    script.session.bind(at(0), BindMode::Transmitter, Bind::default()).expect("the session is open");
    assert_eq!(script.answer(), (CommandId::BIND_TRANSMITTER, 1, CommandStatus::ESME_ROK));
    let resp = BindResp { system_id: Some(smsc()), ..BindResp::default() };
    script.send(1, Body::BindTransmitterResp(resp));
    assert!(matches!(script.event(), Some(Event::Bound { mode: BindMode::Transmitter, .. })));
    assert_eq!(
        script.session.request(at(0), 1, deliver()),
        Err(RequestError::NotAllowed {
            command_id: CommandId::DELIVER_SM,
            side: Side::Esme,
            state: State::Bound(BindMode::Transmitter),
        })
    );
    script.session.unbind(at(1));
    assert_eq!(script.answer(), (CommandId::UNBIND, 2, CommandStatus::ESME_ROK));
    script.send(2, Body::UnbindResp(UnbindResp::default()));
    assert_eq!(script.close_reason(), CloseReason::Unbound);
}

#[test]
fn an_esme_learns_that_it_was_refused() {
    let mut script = Script::esme();
    let bind = |script: &mut Script| script.session.bind(at(0), BindMode::Receiver, Bind::default());
    assert_eq!(bind(&mut script), Ok(()));
    assert!(bind(&mut script).is_err());
    script.send_pdu(Pdu::refusal(CommandId::BIND_RECEIVER, SequenceNumber(1), RefusalStatus::ESME_RINVSYSID));
    assert!(matches!(script.event(), Some(Event::BindRefused { status: RefusalStatus::ESME_RINVSYSID })));
    assert_eq!(bind(&mut script), Ok(()));
}

#[test]
fn an_invited_esme_binds_as_receiver() {
    let mut centre = Script::centre();
    centre.session.notify(Body::Outbind(Outbind::default())).expect("the session is open");
    let mut esme = Script::esme();
    let invitation = centre.session.output().split();
    esme.session.handle_bytes(at(0), &invitation);
    assert!(matches!(esme.event(), Some(Event::Outbind(_))));
    assert!(esme.session.bind(at(0), BindMode::Transmitter, Bind::default()).is_err());
    esme.session.bind(at(0), BindMode::Receiver, Bind::default()).expect("that is what outbind is for");
    let bind = esme.session.output().split();
    centre.session.handle_bytes(at(0), &bind);
    assert!(matches!(centre.event(), Some(Event::BindRequested { .. })));
}

#[test]
fn the_peers_unbind_waits_for_what_it_has_open() {
    let mut script = Script::bound(BindMode::Transceiver);
    script.session.request(at(0), 8, deliver()).expect("room");
    script.send(2, submit());
    let (ticket, _) = script.request();
    script.send(3, Body::Unbind(Unbind::default()));
    assert!(matches!(script.event(), Some(Event::Unbinding)));
    let _ = script.take_output();
    assert!(script.session.request(at(0), 9, deliver()).is_err());
    script.send(4, submit());
    assert_eq!(script.answer(), (CommandId::SUBMIT_SM_RESP, 4, CommandStatus::ESME_RINVBNDSTS));

    script.session.respond(ticket, CommandStatus::ESME_ROK, submit_resp("1"));
    let answers: Vec<_> = script.take_output().iter().map(Pdu::command_id).collect();
    assert_eq!(answers, [CommandId::SUBMIT_SM_RESP, CommandId::UNBIND_RESP]);
    assert!(matches!(script.event(), Some(Event::Lost { token: 8 })));
    assert_eq!(script.close_reason(), CloseReason::Unbound);
    assert_eq!(script.session.poll_timeout(), None);
}

#[test]
fn an_unbind_does_not_wait_for_ever() {
    let mut script = Script::bound(BindMode::Transmitter);
    script.send(2, submit());
    let (ticket, _) = script.request();
    script.send(3, Body::Unbind(Unbind::default()));
    assert!(matches!(script.event(), Some(Event::Unbinding)));
    script.wait_until(at(30));
    assert_eq!(script.answer(), (CommandId::UNBIND_RESP, 3, CommandStatus::ESME_ROK));
    assert_eq!(script.close_reason(), CloseReason::Unbound);
    script.session.respond(ticket, CommandStatus::ESME_ROK, submit_resp("1"));
    assert!(script.take_output().is_empty(), "nothing follows the end");
}

#[test]
fn an_unbind_of_ours_that_is_not_answered_ends_the_session() {
    let mut script = Script::bound(BindMode::Transmitter);
    script.session.unbind(at(1));
    script.session.unbind(at(2));
    assert_eq!(script.answer(), (CommandId::UNBIND, 1, CommandStatus::ESME_ROK));
    script.wait_until(at(31));
    assert_eq!(script.close_reason(), CloseReason::NoAnswer(CommandId::UNBIND));
}

#[test]
fn both_sides_may_unbind_at_once() {
    let mut script = Script::bound(BindMode::Transmitter);
    script.session.unbind(at(1));
    let _ = script.take_output();
    script.send(9, Body::Unbind(Unbind::default()));
    assert_eq!(script.answer(), (CommandId::UNBIND_RESP, 9, CommandStatus::ESME_ROK));
    script.send(1, Body::UnbindResp(UnbindResp::default()));
    assert_eq!(script.close_reason(), CloseReason::Unbound);
}
