//! Queues towards numbers.

use smsc_raft::machine::Change;
use smsc_raft::model::{MessageState, Replace, Submission, command::Op};

use super::world::{Answer, START_MS, World, esme, number};

const DAY_MS: u64 = 86_400_000;

fn with_receipt(submission: Submission) -> Submission {
    Submission { registered_delivery: 1, ..submission }
}

#[test]
fn a_message_is_delivered_and_its_receipt_too() {
    let mut world = World::new();
    world.bind(1, "one", 10);
    let delivered = world.submit(with_receipt(number("15551")));
    let failed = world.submit(with_receipt(number("16661")));
    assert_eq!(world.state(delivered), Some(MessageState::Delivered));
    assert_eq!(world.state(failed), Some(MessageState::Undeliverable));
    let receipts = world.receipts();
    assert!(receipts[&delivered].contains("stat:DELIVRD err:000"), "{receipts:?}");
    assert!(receipts[&failed].contains("stat:UNDELIV err:001"), "{receipts:?}");
    assert_eq!(world.machine.waiting_count(), 0);
    assert_eq!(world.engine.held(), 0);
}

#[test]
fn the_queue_of_an_absent_number_waits_once_and_moves_at_once() {
    let mut world = World::new();
    let ids = world.submit_all((0..100).map(|_| number("17771")));
    world.run_ms(6_999);
    assert_eq!(world.attempts.len(), 2, "the first attempt and its repetition: {:?}", world.attempts);
    assert_eq!(world.finals.len(), 0);
    world.run_ms(1);
    assert!(ids.iter().all(|id| world.state(*id) == Some(MessageState::Delivered)));
    let order: Vec<_> = world.attempts[2..].iter().map(|row| row.2).collect();
    assert_eq!(order, ids);
    // It stays reachable.
    let later = world.submit(number("17771"));
    assert_eq!(world.state(later), Some(MessageState::Delivered));
}

#[test]
fn how_late_a_first_attempt_is_is_told_once() {
    let mut world = World::new();
    let id = world.store(number("15551"));
    let message = world.machine.message(id).expect("in memory").expect("stored");
    world.now_ms += 700;
    world.engine.change(world.now_ms, Change::Queued { message, alone: false });
    assert_eq!(world.engine.take_lag_ms(), Some(700));
    assert_eq!(world.engine.take_lag_ms(), None);
}

#[test]
fn what_waits_for_its_number_is_not_late() {
    let mut world = World::new();
    // Its handset takes a second for each: the second of one batch waits for the first.
    let ids: Vec<u64> = (0..2).map(|_| world.store(number("18881"))).collect();
    for id in ids {
        let message = world.machine.message(id).expect("in memory").expect("stored");
        world.engine.change(world.now_ms, Change::Queued { message, alone: false });
    }
    world.run_ms(1_000);
    assert_eq!(world.attempts.len(), 2, "the second is under way");
    assert_eq!(world.engine.take_lag_ms().unwrap_or(0), 0);
    world.run_ms(1_000);
    world.submit_all([number("17771"), number("17771")]);
    world.run_ms(7_000);
    assert_eq!(world.finals.len(), 4);
    assert_eq!(world.engine.take_lag_ms().unwrap_or(0), 0);
}

#[test]
fn a_week_of_retries_ends_with_the_validity() {
    let mut world = World::new();
    world.bind(1, "one", 10);
    let expires_at_ms = START_MS + 7 * DAY_MS;
    let id = world.submit(Submission { expires_at_ms, ..with_receipt(number("17781")) });
    world.run_ms(8 * DAY_MS);
    assert_eq!(world.state(id), Some(MessageState::Expired));
    let late_ms = world.final_after_ms(id) - 7 * DAY_MS;
    assert!(late_ms <= 1_000, "{late_ms} ms late");
    // After 5 s and a minute every hour, more or less.
    assert!((150..=190).contains(&world.attempts.len()), "{} attempts", world.attempts.len());
    assert!(world.receipts()[&id].contains("stat:EXPIRED err:027"));
    assert_eq!(world.machine.waiting_count(), 0);
}

#[test]
fn one_at_a_time_by_priority_then_by_age() {
    let mut world = World::new();
    let first = world.submit(number("18881"));
    let second = world.submit(number("18881"));
    let urgent = world.submit(Submission { priority_flag: 2, ..number("18881") });
    let third = world.submit(number("18881"));
    let other = world.submit(number("18882"));
    world.run_ms(999);
    assert_eq!(world.finals.len(), 0);
    world.run_ms(9_000);
    let to_first: Vec<_> = world.attempts.iter().filter(|row| row.1 == "18881").map(|row| (row.0, row.2)).collect();
    assert_eq!(to_first, [(0, first), (1_000, urgent), (2_000, second), (3_000, third)]);
    assert_eq!(world.final_after_ms(other), 1_000);
}

#[test]
fn a_permanent_failure_lets_the_next_one_go() {
    let mut world = World::new();
    let ids = world.submit_all((0..5).map(|_| number("16661")));
    assert!(ids.iter().all(|id| world.state(*id) == Some(MessageState::Undeliverable)));
    assert_eq!(world.attempts.len(), 5);
}

#[test]
fn a_scheduled_message_is_not_tried_before_its_time() {
    let mut world = World::new();
    let id = world.submit(Submission { scheduled_at_ms: START_MS + 90_000, ..number("15551") });
    world.run_ms(89_999);
    assert_eq!(world.attempts.len(), 0);
    world.run_ms(1);
    assert_eq!(world.final_after_ms(id), 90_000);
}

#[test]
fn validity_is_kept_to_the_second_while_the_number_is_busy_absent_or_both() {
    let mut world = World::new();
    let until = |seconds: u64, digits: &str| Submission { expires_at_ms: START_MS + seconds * 1_000, ..number(digits) };
    let head = world.submit(until(2_000, "17781"));
    let behind = world.submit(until(100, "17781"));
    let busy = world.submit_all((0..5).map(|_| until(3, "18881")));
    world.run_ms(300_000);
    assert_eq!(world.state(behind), Some(MessageState::Expired));
    assert!((100_000..=101_000).contains(&world.final_after_ms(behind)));
    let delivered = busy.iter().filter(|id| world.state(**id) == Some(MessageState::Delivered)).count();
    assert_eq!(delivered, 3, "one a second until their validity ends");
    assert_eq!(world.finals.len(), 6);
    assert_eq!(world.state(head), None);
}

#[test]
fn a_message_that_is_cancelled_under_way_ends_once_and_the_next_one_waits_for_it() {
    let mut world = World::new();
    let ids = world.submit_all((0..2).map(|_| number("18881")));
    world.run_ms(500);
    world.cancel(ids[0]);
    assert_eq!(world.attempts.len(), 1);
    world.run_ms(2_000);
    assert_eq!(world.state(ids[0]), Some(MessageState::Deleted));
    assert_eq!(world.final_after_ms(ids[1]), 2_000);
}

#[test]
fn a_queue_that_lost_its_last_message_begins_anew() {
    let mut world = World::new();
    let id = world.submit(number("17781"));
    world.run_ms(10_000);
    assert_eq!(world.attempts.len(), 2);
    world.cancel(id);
    // A fresh queue is due at once, whatever the old one waited for.
    world.submit(number("17781"));
    assert_eq!(world.attempts.len(), 3);
}

#[test]
fn a_replaced_message_goes_out_with_its_new_text() {
    let mut world = World::new();
    world.bind(1, "two", 10);
    world.answer = Answer::Hold;
    let id = world.submit(number("17771"));
    world.command(Op::Replace(Replace {
        id,
        account: "one".to_owned(),
        short_message: bytes::Bytes::from_static(b"new"),
        ..Default::default()
    }));
    world.run_ms(7_000);
    assert_eq!(world.state(id), Some(MessageState::Delivered));
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let mut world = World::new();
    let absent = world.submit_all((0..40).map(|_| number("17771")));
    let slow = world.submit(number("18881"));
    world.run_ms(500);
    for _ in 0..10 {
        world.store(number("15552"));
    }
    world.store(esme("one"));
    world.take_over();
    assert_eq!(world.finals.len(), 10, "what is due is delivered at once");
    world.bind(9, "one", 10);
    assert_eq!(world.finals.len(), 11);
    // The number comes back when it would have come back to the old leader.
    world.run_ms(6_499);
    assert!(absent.iter().all(|id| world.state(*id).is_none()));
    world.run_ms(1);
    assert!(absent.iter().all(|id| world.state(*id) == Some(MessageState::Delivered)));
    assert_eq!(world.state(slow), Some(MessageState::Delivered), "it was not recorded, so it was sent again");
    assert_eq!(world.machine.waiting_count(), 0);
}

#[test]
fn what_is_proposed_is_not_sent_again_before_it_is_recorded() {
    let mut world = World::new();
    world.commits = false;
    let id = world.submit(Submission { expires_at_ms: START_MS + 2_000, ..number("15551") });
    world.submit(number("15551"));
    world.run_ms(10_000);
    assert_eq!(world.attempts.len(), 1);
    world.commits = true;
    world.commit_pending();
    assert_eq!(world.state(id), Some(MessageState::Delivered));
    assert_eq!(world.attempts.len(), 2);
}

#[test]
fn a_paused_engine_sends_nothing_and_comes_to_rest() {
    let mut world = World::new();
    world.submit_all((0..3).map(|_| number("18881")));
    world.engine.pause();
    assert!(!world.engine.settled());
    world.run_ms(5_000);
    assert!(world.engine.settled());
    assert_eq!((world.attempts.len(), world.finals.len()), (1, 1));
}
