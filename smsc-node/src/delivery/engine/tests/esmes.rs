//! Queues towards accounts.

use smsc_proto::status::CommandStatus;
use smsc_raft::machine::Change;
use smsc_raft::model::{MessageKind, MessageState, QueueKind, QueueWake, Submission, command::Op};

use super::world::{Answer, START_MS, World, esme, number};
use crate::smpp::ports::DeliverResult;
use crate::smpp::serves::Serves;

#[test]
fn messages_wait_while_nobody_is_bound() {
    let mut world = World::new();
    let ids = world.submit_all((0..1_000).map(|_| esme("one")));
    world.run_ms(3_600_000);
    assert_eq!((world.sent.len(), world.engine.held()), (0, 0));
    world.bind(1, "two", 10);
    assert_eq!(world.sent.len(), 0);
    world.bind(2, "one", 10);
    let sent: Vec<_> = world.sent.iter().map(|row| row.2.id).collect();
    assert_eq!(sent, ids);
    assert_eq!((world.finals.len(), world.engine.held()), (1_000, 0));
}

#[test]
fn windows_are_kept_and_shared() {
    let mut world = World::new();
    world.answer = Answer::Hold;
    world.bind(1, "one", 3);
    world.bind(2, "one", 5);
    world.submit_all((0..100).map(|_| esme("one")));
    assert_eq!((world.unanswered[&1].len(), world.unanswered[&2].len()), (3, 5));
    world.answer_first(1, DeliverResult::Accepted);
    assert_eq!((world.unanswered[&1].len(), world.sent.len()), (3, 9));
    while world.sent.len() < 100 {
        world.answer_first(2, DeliverResult::Accepted);
    }
    assert_eq!(world.finals.len(), 92);
}

#[test]
fn what_a_lost_session_had_goes_to_another_one_at_once_and_counts_as_no_attempt() {
    let mut world = World::new();
    world.answer = Answer::Hold;
    world.bind(1, "one", 4);
    let ids = world.submit_all((0..4).map(|_| esme("one")));
    world.bind(2, "one", 4);
    world.unbind(1);
    let second: Vec<_> = world.unanswered[&2].iter().map(|message| message.id).collect();
    assert_eq!(second, ids);
    // A response timer that ran out is a loss as well.
    assert_eq!(world.answer_first(2, DeliverResult::Lost), Some(ids[0]));
    assert_eq!(world.sent.last().map(|row| row.2.id), Some(ids[0]));
    world.unbind(2);
    assert_eq!(world.engine.held(), 0);
    world.answer = Answer::Accept;
    world.bind(3, "one", 1);
    let attempts = ids.iter().map(|id| world.machine.final_record(*id).unwrap().unwrap().attempts);
    assert_eq!(attempts.collect::<Vec<_>>(), [1; 4]);
}

#[test]
fn a_refusal_for_now_puts_off_that_message_alone() {
    let mut world = World::new();
    world.answer = Answer::Hold;
    world.bind(1, "one", 10);
    let ids = world.submit_all((0..5).map(|_| esme("one")));
    world.answer_first(1, DeliverResult::Refused(CommandStatus::ESME_RX_T_APPN));
    for _ in 0..4 {
        world.answer_first(1, DeliverResult::Accepted);
    }
    assert_eq!(world.finals.len(), 4);
    world.answer = Answer::Accept;
    world.run_ms(4_400);
    assert_eq!(world.sent.len(), 5);
    world.run_ms(1_200);
    assert_eq!(world.state(ids[0]), Some(MessageState::Delivered));
    assert_eq!(world.machine.final_record(ids[0]).unwrap().unwrap().attempts, 2);
}

#[test]
fn a_refusal_for_good_ends_the_message_and_tells_the_sender() {
    let mut world = World::new();
    let from_one = |status| {
        move |world: &mut World| {
            world.answer = Answer::Refuse(status);
            world.submit(Submission { registered_delivery: 1, account: "one".to_owned(), ..esme("two") })
        }
    };
    world.bind(2, "two", 10);
    let refused = from_one(CommandStatus::ESME_RX_P_APPN)(&mut world);
    let rejected = from_one(CommandStatus::ESME_RX_R_APPN)(&mut world);
    world.answer = Answer::Accept;
    world.bind(1, "one", 10);
    assert_eq!(world.state(refused), Some(MessageState::Undeliverable));
    assert_eq!(world.state(rejected), Some(MessageState::Rejected));
    assert!(world.receipts()[&refused].contains("stat:UNDELIV err:101"));
    assert!(world.receipts()[&rejected].contains("stat:REJECTD err:102"));
}

#[test]
fn receipts_and_mo_end_without_receipts() {
    let mut world = World::new();
    for kind in [MessageKind::Receipt, MessageKind::Mo] {
        world.submit(Submission { kind: kind as i32, registered_delivery: 1, account: String::new(), ..esme("one") });
    }
    let receipt = Submission { kind: MessageKind::Receipt as i32, expires_at_ms: START_MS + 60_000, ..esme("one") };
    let expired = world.submit(receipt);
    world.run_ms(61_000);
    assert_eq!(world.state(expired), Some(MessageState::Expired));
    world.answer = Answer::Refuse(CommandStatus::ESME_RX_P_APPN);
    world.bind(1, "one", 10);
    assert_eq!(world.machine.waiting_count(), 0);
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn a_message_that_is_cancelled_under_way_keeps_its_place_in_the_window() {
    let mut world = World::new();
    world.answer = Answer::Hold;
    world.bind(1, "one", 1);
    let ids = world.submit_all((0..2).map(|_| esme("one")));
    world.cancel(ids[0]);
    assert_eq!(world.sent.len(), 1);
    world.answer_first(1, DeliverResult::Accepted);
    assert_eq!(world.sent.len(), 2);
    assert_eq!(world.state(ids[0]), Some(MessageState::Deleted));
    // One that is cancelled when its session goes is gone with it.
    world.cancel(ids[1]);
    world.unbind(1);
    assert_eq!((world.engine.held(), world.machine.waiting_count()), (0, 0));
}

#[test]
fn validity_ends_in_the_store_in_memory_and_when_put_off() {
    let mut world = World::new();
    let short = |system_id| Submission { expires_at_ms: START_MS + 3_000, ..esme(system_id) };
    let stored = world.submit(short("two"));
    world.answer = Answer::Hold;
    world.bind(1, "one", 1);
    let under_way = world.submit(short("one"));
    let held = world.submit(short("one"));
    world.run_ms(3_500);
    assert_eq!((world.state(stored), world.state(held)), (Some(MessageState::Expired), Some(MessageState::Expired)));
    // What is under way may still arrive; refused for now, it has no time left.
    assert_eq!(world.state(under_way), None);
    world.answer_first(1, DeliverResult::Refused(CommandStatus::ESME_RTHROTTLED));
    assert_eq!(world.state(under_way), Some(MessageState::Expired));
    let put_off = world.submit(Submission { expires_at_ms: world.now_ms + 2_000, ..esme("one") });
    world.answer_first(1, DeliverResult::Refused(CommandStatus::ESME_RTHROTTLED));
    world.run_ms(2_500);
    assert_eq!(world.state(put_off), Some(MessageState::Expired));
    assert_eq!(world.engine.held(), 0);
}

#[test]
fn higher_priority_goes_first() {
    let mut world = World::new();
    let usual = world.submit_all((0..3).map(|_| esme("one")));
    let urgent = world.submit(Submission { priority_flag: 3, ..esme("one") });
    world.bind(1, "one", 1);
    let sent: Vec<_> = world.sent.iter().map(|row| row.2.id).collect();
    assert_eq!(sent, [urgent, usual[0], usual[1], usual[2]]);
}

#[test]
fn a_woken_queue_forgets_what_was_put_off() {
    let mut world = World::new();
    world.answer = Answer::Refuse(CommandStatus::ESME_RMSGQFUL);
    world.bind(1, "one", 10);
    let id = world.submit(esme("one"));
    world.answer = Answer::Accept;
    world.machine.queue(&smsc_raft::machine::keys::QueueKey::new(QueueKind::Esme, "one")).unwrap().unwrap();
    world.run_ms(6_000);
    assert_eq!(world.state(id), Some(MessageState::Delivered));
    world.command(Op::QueueWake(QueueWake { kind: QueueKind::Esme as i32, key: "one".to_owned() }));
    assert_eq!(world.machine.waiting_count(), 0);
}

#[test]
fn numbers_and_accounts_do_not_wait_for_each_other() {
    let mut world = World::new();
    world.answer = Answer::Hold;
    world.bind(1, "one", 1);
    world.submit_all((0..10).map(|_| esme("one")));
    let id = world.submit(number("15551"));
    assert_eq!(world.state(id), Some(MessageState::Delivered));
}

#[test]
fn a_receiver_is_sent_what_its_address_range_covers() {
    let to = |number: &str| {
        let mut submission = esme("one");
        let destination = submission.destination.get_or_insert_default();
        destination.digits = number.to_owned();
        submission
    };
    let serving = |range: &str| Serves::of(&range.parse().expect("short")).expect("an expression");
    let mut world = World::new();
    world.answer = Answer::Accept;
    let mut ids = Vec::new();
    for round in 0..300 {
        ids.push(world.submit(to(if round % 3 == 0 { "2000" } else { "1000" })));
    }
    world.bind_serving(1, "one", 5, serving("^1"));
    let taken = |world: &World| -> Vec<(u64, u64)> { world.sent.iter().map(|row| (row.1, row.2.id)).collect() };
    let (own, others): (Vec<u64>, Vec<u64>) = ids.iter().partition(|id| (*id - ids[0]) % 3 != 0);
    assert_eq!(taken(&world), own.iter().map(|id| (1, *id)).collect::<Vec<_>>(), "what is not served holds up nothing");
    world.run_ms(600_000);
    assert_eq!(world.sent.len(), own.len());
    world.sent.clear();
    world.bind_serving(2, "one", 5, serving("2000"));
    assert_eq!(
        taken(&world),
        others.iter().map(|id| (2, *id)).collect::<Vec<_>>(),
        "in order, once somebody serves it"
    );
    assert_eq!(world.finals.len(), ids.len());
}

#[test]
fn new_messages_do_not_wait_for_a_clock_that_is_behind() {
    const COUNT: usize = 2_000;
    let mut world = World::new();
    world.bind(1, "one", 10);
    let ids: Vec<u64> = (0..COUNT).map(|_| world.store(esme("one"))).collect();
    for id in ids {
        let message = world.machine.message(id).expect("in memory").expect("stored");
        world.engine.change(world.now_ms - 5, Change::Queued { message, alone: false });
        world.settle();
    }
    assert_eq!(world.finals.len(), COUNT, "none was put off");
}
