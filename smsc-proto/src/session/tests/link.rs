//! The timers.

use super::*;
use crate::pdu::EnquireLinkResp;

fn enquire_link() -> Body {
    Body::EnquireLink(EnquireLink::default())
}

fn enquire_link_resp() -> Body {
    Body::EnquireLinkResp(EnquireLinkResp::default())
}

#[test]
fn without_a_bind_the_session_ends() {
    let mut script = Script::centre();
    assert_eq!(script.session.poll_timeout(), Some(at(10)));
    script.send(1, submit());
    let _ = script.take_output();
    assert_eq!(script.session.poll_timeout(), Some(at(10)), "what is out of turn gains no time");
    script.wait_until(at(10));
    assert_eq!(script.close_reason(), CloseReason::SessionInit);
}

#[test]
fn an_enquire_link_is_answered_while_the_window_is_full() {
    let mut script = Script::bound(BindMode::Transmitter);
    for sequence in 2..5 {
        script.send(sequence, submit());
    }
    script.send(5, enquire_link());
    assert_eq!(script.answer(), (CommandId::ENQUIRE_LINK_RESP, 5, CommandStatus::ESME_ROK));
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let mut script = Script::bound(BindMode::Receiver);
    assert_eq!(script.session.poll_timeout(), Some(at(30)));
    script.wait_until(at(30));
    assert_eq!(script.answer(), (CommandId::ENQUIRE_LINK, 1, CommandStatus::ESME_ROK));
    assert_eq!(script.session.poll_timeout(), Some(at(60)));
    script.wait_until(at(60));
    assert_eq!(script.close_reason(), CloseReason::EnquireLink);
}

#[test]
fn a_peer_that_answers_is_asked_again() {
    let mut script = Script::bound(BindMode::Receiver);
    script.wait_until(at(30));
    let _ = script.take_output();
    script.now = at(31);
    script.send(1, enquire_link_resp());
    assert_eq!(script.session.poll_timeout(), Some(at(61)));
    script.wait_until(at(61));
    assert_eq!(script.answer(), (CommandId::ENQUIRE_LINK, 2, CommandStatus::ESME_ROK));
}

#[test]
fn a_peer_that_talks_but_does_not_answer_enquire_link_is_kept() {
    let mut script = Script::bound(BindMode::Transmitter);
    script.wait_until(at(30));
    let _ = script.take_output();
    script.now = at(59);
    script.send(2, enquire_link());
    let _ = script.take_output();
    script.wait_until(at(60));
    assert!(script.event().is_none());
    assert_eq!(script.session.poll_timeout(), Some(at(90)));
}

#[test]
fn a_session_without_transactions_is_unbound() {
    let mut script = Script::bound(BindMode::Receiver);
    // Answering our enquire_link is no transaction.
    for (asked, sequence) in [(30, 1), (60, 2), (90, 3)] {
        script.wait_until(at(asked));
        script.send(sequence, enquire_link_resp());
    }
    let _ = script.take_output();
    script.wait_until(at(100));
    assert_eq!(script.answer(), (CommandId::UNBIND, 4, CommandStatus::ESME_ROK));
    script.send(4, Body::UnbindResp(UnbindResp::default()));
    assert_eq!(script.close_reason(), CloseReason::Inactivity);
}

#[test]
fn a_peer_that_asks_for_the_link_keeps_it() {
    let mut script = Script::bound(BindMode::Receiver);
    for (sequence, now) in (2..20).zip((25..).step_by(25)) {
        script.now = at(now);
        script.send(sequence, enquire_link());
        script.wait_until(at(now));
        assert_eq!(script.answer().0, CommandId::ENQUIRE_LINK_RESP);
    }
}

#[test]
fn a_request_without_answer_is_lost_and_the_session_goes_on() {
    let mut script = Script::bound(BindMode::Receiver);
    script.session.request(at(5), 41, deliver()).expect("room");
    script.session.request(at(6), 42, deliver()).expect("room");
    let _ = script.take_output();
    script.now = at(20);
    script.send(9, enquire_link());
    script.wait_until(at(35));
    assert!(matches!(script.event(), Some(Event::Lost { token: 41 })));
    assert!(script.event().is_none());
    assert_eq!(script.session.poll_timeout(), Some(at(36)));
    assert_eq!(script.session.outgoing_room(), 1);
    // The answer comes after all, too late to count.
    script.send(1, deliver_resp());
    assert_eq!(script.session.counts().unexpected_answers, 1);
}

#[test]
fn a_peer_that_answers_enquire_link_alone_is_given_up() {
    let mut script = Script::bound(BindMode::Receiver);
    for (token, asked) in [(1, 0), (2, 30), (3, 60)] {
        script.wait_until(at(asked));
        script.session.request(at(asked), token, deliver()).expect("room");
        for pdu in script.take_output() {
            if pdu.command_id() == CommandId::ENQUIRE_LINK {
                script.send(pdu.sequence.0, enquire_link_resp());
            }
        }
        assert!(matches!(script.session.state(), State::Bound(_)), "after {token}");
        script.wait_until(at(asked + 30));
        assert!(matches!(script.event(), Some(Event::Lost { token: lost }) if lost == token));
    }
    assert_eq!(script.close_reason(), CloseReason::NoAnswer(CommandId::DELIVER_SM));
}

#[test]
fn a_peer_that_leaves_one_request_unanswered_is_kept() {
    let mut script = Script::bound(BindMode::Receiver);
    for round in 0..6_u64 {
        let asked = at(round * 40);
        script.wait_until(asked);
        for token in [2 * round, 2 * round + 1] {
            script.session.request(asked, token, deliver()).expect("room");
        }
        let sequences: Vec<_> = script.take_output().iter().map(|pdu| (pdu.command_id(), pdu.sequence.0)).collect();
        script.now = at(round * 40 + 29);
        for (command_id, sequence) in &sequences[1..] {
            let answer = if *command_id == CommandId::ENQUIRE_LINK { enquire_link_resp() } else { deliver_resp() };
            script.send(*sequence, answer);
        }
        script.wait_until(at(round * 40 + 30));
    }
    assert!(matches!(script.session.state(), State::Bound(_)));
}

#[test]
fn an_account_s_own_timers_run_from_its_bind_on() {
    let mut script = Script::centre();
    script.send(1, Body::BindReceiver(Bind::default()));
    let _ = script.event();
    script.session.set_timers(Some(5 * SECOND), Some(12 * SECOND), 3 * SECOND);
    script.session.bind_accept(at(0), "smsc".parse().expect("short")).expect("a bind waits");
    let _ = script.take_output();
    assert_eq!(script.session.poll_timeout(), Some(at(5)));
    script.wait_until(at(5));
    assert_eq!(script.answer().0, CommandId::ENQUIRE_LINK);
    assert_eq!(script.session.poll_timeout(), Some(at(8)));
    script.wait_until(at(8));
    assert_eq!(script.close_reason(), CloseReason::EnquireLink);
}

#[test]
fn a_bind_of_ours_that_is_not_answered_ends_the_session() {
    let mut script = Script::esme();
    script.session.config.session_init = 60 * SECOND;
    script.session.timers.set(Timer::SessionInit, at(60));
    script.session.bind(at(0), BindMode::Receiver, Bind::default()).expect("open");
    script.wait_until(at(30));
    assert_eq!(script.close_reason(), CloseReason::NoAnswer(CommandId::BIND_RECEIVER));
}
