//! Requests and answers, both ways, and what is wrong with them.

use super::*;
use crate::pdu::GenericNack;

#[test]
fn a_second_bind_is_refused_and_harms_nothing() {
    let mut script = Script::bound(BindMode::Transmitter);
    script.send(2, Body::BindReceiver(Bind::default()));
    assert_eq!(script.answer(), (CommandId::BIND_RECEIVER_RESP, 2, CommandStatus::ESME_RALYBND));
    assert_eq!(script.session.state(), State::Bound(BindMode::Transmitter));
}

#[test]
fn a_receiver_does_not_submit() {
    let mut script = Script::bound(BindMode::Receiver);
    script.send(2, submit());
    assert_eq!(script.answer(), (CommandId::SUBMIT_SM_RESP, 2, CommandStatus::ESME_RINVBNDSTS));
}

#[test]
fn a_transmitter_is_not_delivered_to() {
    let mut script = Script::bound(BindMode::Transmitter);
    assert!(script.session.request(at(0), 1, deliver()).is_err());
    assert!(script.take_output().is_empty());
}

#[test]
fn an_unknown_command_earns_a_generic_nack() {
    let mut script = Script::bound(BindMode::Transceiver);
    let mut octets = [0u8; 16];
    octets[3] = 16;
    octets[7] = 0x77;
    octets[15] = 9;
    script.session.handle_bytes(at(0), &octets);
    assert_eq!(script.answer(), (CommandId::GENERIC_NACK, 9, CommandStatus::ESME_RINVCMDID));
    assert!(matches!(script.session.state(), State::Bound(_)));
}

#[test]
fn a_body_that_is_wrong_earns_its_own_answer() {
    let mut script = Script::bound(BindMode::Transceiver);
    let mut octets = octets(&Pdu::new(SequenceNumber(4), submit()));
    // sm_length claims one octet more than there is.
    let sm_length = octets.len() - 6;
    octets[sm_length] = 6;
    script.session.handle_bytes(at(0), &octets);
    assert_eq!(script.answer(), (CommandId::SUBMIT_SM_RESP, 4, CommandStatus::ESME_RINVMSGLEN));
    assert_eq!(script.session.counts().undecodable, 1);
    script.send(5, submit());
    let _ = script.request();
}

#[test]
fn a_hostile_command_length_ends_the_session() {
    let mut script = Script::bound(BindMode::Transceiver);
    let mut octets = octets(&Pdu::new(SequenceNumber(4), submit()));
    octets[0] = 0x7f;
    script.session.handle_bytes(at(0), &octets);
    assert_eq!(script.answer(), (CommandId::GENERIC_NACK, 4, CommandStatus::ESME_RINVCMDLEN));
    assert!(matches!(script.close_reason(), CloseReason::Malformed(_)));
    assert!(!script.session.wants_input());
}

#[test]
fn beyond_the_window_requests_are_throttled() {
    let mut script = Script::bound(BindMode::Transmitter);
    for sequence in 2..7 {
        script.send(sequence, submit());
    }
    let throttled: Vec<_> = script.take_output().iter().map(|pdu| (pdu.sequence.0, pdu.status)).collect();
    assert_eq!(throttled, [5, 6].map(|sequence| (sequence, CommandStatus::ESME_RTHROTTLED)));
    assert_eq!(script.session.counts().throttled, 2);
    let (ticket, _) = script.request();
    script.session.refuse(ticket, RefusalStatus::ESME_RMSGQFUL);
    assert_eq!(script.answer(), (CommandId::SUBMIT_SM_RESP, 2, CommandStatus::ESME_RMSGQFUL));
    script.send(7, submit());
    assert!(script.take_output().is_empty());
    assert_eq!(script.session.incoming_open(), 3);
}

#[test]
fn requests_with_the_same_number_are_each_answered() {
    let mut script = Script::bound(BindMode::Transmitter);
    script.send(2, submit());
    script.send(2, submit());
    for id in ["1", "2"] {
        let (ticket, _) = script.request();
        script.session.respond(ticket, CommandStatus::ESME_ROK, submit_resp(id));
    }
    assert_eq!(script.take_output().len(), 2);
    assert_eq!(script.session.incoming_open(), 0);
}

#[test]
fn our_window_is_kept_and_answers_make_room() {
    let mut script = Script::bound(BindMode::Receiver);
    for token in [100, 101] {
        script.session.request(at(0), token, deliver()).expect("room");
    }
    assert_eq!(script.session.request(at(0), 102, deliver()), Err(RequestError::WindowFull));
    assert_eq!(script.take_output().len(), 2);
    script.send(2, deliver_resp());
    match script.event() {
        Some(Event::Answered { token: 101, answer }) => assert!(answer.status.is_ok()),
        other => panic!("expected an answer, got {other:?}"),
    }
    script.session.request(at(0), 102, deliver()).expect("room");
    // A generic_nack answers as well as the right answer does.
    script.send_pdu(Pdu {
        status: CommandStatus::ESME_RINVCMDID,
        sequence: SequenceNumber(1),
        body: Body::GenericNack(GenericNack::default()),
    });
    match script.event() {
        Some(Event::Answered { token: 100, answer }) => {
            assert_eq!(answer.status, CommandStatus::ESME_RINVCMDID);
        }
        other => panic!("expected an answer, got {other:?}"),
    }
}

#[test]
fn answers_to_nothing_are_counted_and_ignored() {
    let mut script = Script::bound(BindMode::Transceiver);
    script.session.request(at(0), 1, deliver()).expect("room");
    let _ = script.take_output();
    script.send(1, submit_resp("1"));
    script.send(77, deliver_resp());
    script.send_pdu(Pdu::refusal(CommandId(0x77), SequenceNumber(77), RefusalStatus::ESME_RINVCMDID));
    assert_eq!(script.session.counts().unexpected_answers, 3);
    assert!(script.event().is_none());
    assert!(script.take_output().is_empty());
    script.send(1, deliver_resp());
    assert!(matches!(script.event(), Some(Event::Answered { token: 1, .. })));
}

#[test]
fn an_answer_without_a_readable_body_still_answers() {
    let mut script = Script::bound(BindMode::Receiver);
    script.session.request(at(0), 1, deliver()).expect("room");
    let mut octets = octets(&Pdu::new(SequenceNumber(1), deliver_resp()));
    let last = octets.len() - 1;
    octets[last] = b'x';
    script.session.handle_bytes(at(0), &octets);
    match script.event() {
        Some(Event::Answered { token: 1, answer }) => {
            assert_eq!(answer.command_id(), CommandId::DELIVER_SM_RESP);
            assert!(answer.status.is_ok());
        }
        other => panic!("expected an answer, got {other:?}"),
    }
}

#[test]
fn a_request_too_long_for_the_wire_leaves_the_session_as_it_was() {
    let mut script = Script::bound(BindMode::Receiver);
    let body = Body::DeliverSm(DeliverSm { short_message: vec![0; 256].into(), ..DeliverSm::default() });
    assert!(matches!(script.session.request(at(0), 1, body), Err(RequestError::Encode(_))));
    assert!(script.take_output().is_empty());
    assert_eq!(script.session.outgoing_room(), 2);
}

#[test]
fn a_peer_that_does_not_read_is_not_read_from() {
    let mut script = Script::bound(BindMode::Receiver);
    let request = octets(&Pdu::new(SequenceNumber(3), submit()));
    let count = 2 * OUTPUT_HIGH / 16;
    script.session.handle_bytes(at(0), &request.repeat(count));
    assert!(!script.session.wants_input());
    assert!(script.session.output().len() < OUTPUT_HIGH + 64);
    let mut answered = 0;
    loop {
        answered += script.take_output().len();
        if !script.session.has_input() {
            break;
        }
        script.session.handle_input(at(0));
    }
    assert_eq!(answered, count);
}

#[test]
fn the_start_of_a_pdu_is_no_input_to_handle() {
    let mut script = Script::bound(BindMode::Transceiver);
    let request = octets(&Pdu::new(SequenceNumber(3), submit()));
    for (at_octet, octet) in request.iter().enumerate() {
        assert!(!script.session.has_input(), "its owner would not wait for the rest after {at_octet} octets");
        script.session.handle_bytes(at(0), &[*octet]);
    }
}

#[test]
fn a_lost_connection_loses_what_waits() {
    let mut script = Script::bound(BindMode::Receiver);
    for token in [5, 6] {
        script.session.request(at(0), token, deliver()).expect("room");
    }
    script.session.handle_disconnect();
    script.session.handle_disconnect();
    assert!(matches!(script.event(), Some(Event::Lost { token: 5 })));
    assert!(matches!(script.event(), Some(Event::Lost { token: 6 })));
    assert_eq!(script.close_reason(), CloseReason::Disconnected);
    assert!(script.event().is_none());
}
