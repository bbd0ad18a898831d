//! Receipts to the bind that submitted, notifications of attempts, and messages that are tried once.

use smsc_proto::status::CommandStatus;
use smsc_raft::model::{MessageKind, MessageState, Submission};

use super::world::{Answer, World, esme, number};
use crate::delivery::engine::content;
use crate::smpp::ports::DeliverResult;

fn receipt(session_id: u64) -> Submission {
    Submission { kind: MessageKind::Receipt as i32, account: String::new(), session_id, ..esme("one") }
}

/// Which session each message was sent to.
fn sessions(world: &World) -> Vec<u64> {
    world.sent.iter().map(|row| row.1).collect()
}

#[test]
fn a_receipt_goes_to_the_bind_that_submitted_while_that_takes_it() {
    let mut world = World::new();
    world.answer = Answer::Hold;
    for session in [1, 2, 3] {
        world.bind(session, "one", 2);
    }
    world.submit_all((0..3).map(|_| receipt(2)));
    let sent = sessions(&world);
    assert_eq!((&sent[..2], sent[2] != 2), (&[2, 2][..], true), "its window holds two: {sent:?}");
    world.answer_first(2, DeliverResult::Accepted);
    world.submit(receipt(2));
    assert_eq!(sessions(&world).last(), Some(&2));
    world.unbind(2);
    assert_eq!(world.unanswered.values().map(|held| held.len()).sum::<usize>(), 3, "the others take them over");
}

#[test]
fn a_message_is_nobody_s_in_particular() {
    let mut world = World::new();
    world.answer = Answer::Hold;
    for session in [1, 2] {
        world.bind(session, "one", 10);
    }
    world.submit_all((0..4).map(|_| Submission { session_id: 1, ..esme("one") }));
    assert_eq!((world.unanswered[&1].len(), world.unanswered[&2].len()), (2, 2));
}

#[test]
fn attempts_that_fail_for_now_are_notified_where_that_was_asked_for() {
    let mut world = World::new();
    world.bind(1, "one", 10);
    let id = world.submit(Submission { registered_delivery: 0x11, ..number("17771") });
    world.run_ms(7_000);
    assert_eq!(world.state(id), Some(MessageState::Delivered));
    let told: Vec<_> = world.sent.iter().map(|row| content(&row.2)).filter(|made| made.receipt_for == id).collect();
    assert_eq!(told.iter().map(|made| made.esm_class).collect::<Vec<_>>(), [0x20, 0x20, 0x04]);
    assert!(String::from_utf8_lossy(&told[0].short_message).contains("stat:ENROUTE err:027"));
}

#[test]
fn what_may_be_tried_once_is_not_tried_again() {
    let mut world = World::new();
    let once = |submission: Submission| Submission { attempts_max: 1, ..submission };
    let absent = world.submit(once(number("17771")));
    let delivered = world.submit(once(number("15551")));
    world.answer = Answer::Refuse(CommandStatus::ESME_RX_T_APPN);
    world.bind(1, "two", 10);
    let refused = world.submit(once(esme("two")));
    for (id, state) in [
        (absent, MessageState::Undeliverable),
        (delivered, MessageState::Delivered),
        (refused, MessageState::Undeliverable),
    ] {
        assert_eq!(world.state(id), Some(state));
        assert_eq!(world.machine.final_record(id).unwrap().unwrap().attempts, 1);
    }
}
