//! Backlogs far larger than the window.

use std::sync::Arc;

use smsc_proto::status::CommandStatus;
use smsc_raft::machine::Change;
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::{Message, MessageState, Queue, QueueKind, Settings, command::Op};

use super::world::{Answer, START_MS, World, esme, number};
use crate::delivery::engine::{DeliveryEngine, Effect, EngineConfig, LinkResult, Load, Loaded};
use crate::delivery::route::RouteTable;

fn small() -> EngineConfig {
    EngineConfig { window_messages: 500, number_messages: 8, seed: 1 }
}

/// The world asserts at every step that no more than the window is in memory.
#[test]
fn a_backlog_of_many_numbers_is_delivered_through_a_small_window() {
    let mut world = World::with(small(), &[5_000]);
    for id in 0..6_000u32 {
        world.store(number(&format!("1555{}", id % 3_000)));
    }
    world.take_over();
    // What finds no place in the line of its link comes back a little later.
    world.run_ms(10_000);
    assert_eq!(world.finals.len(), 6_000);
    assert_eq!((world.machine.waiting_count(), world.engine.held()), (0, 0));
    assert!(world.rows_read < 30_000, "{} rows read for 6,000 messages", world.rows_read);
}

#[test]
fn a_long_queue_of_one_number_is_delivered_in_order() {
    let mut world = World::with(small(), &[5_000]);
    let ids: Vec<_> = (0..1_000).map(|_| world.store(number("15551"))).collect();
    world.take_over();
    let order: Vec<_> = world.attempts.iter().map(|row| row.2).collect();
    assert_eq!(order, ids);
    assert!(world.rows_read < 3_000, "{} rows read", world.rows_read);
}

#[test]
fn numbers_that_wait_long_do_not_stand_in_the_way() {
    let mut world = World::with(small(), &[600_000]);
    world.submit_all((0..1_000).map(|id| number(&format!("1778{id}"))));
    let ids = world.submit_all((0..1_000).map(|id| number(&format!("1555{id}"))));
    assert!(ids.iter().all(|id| world.state(*id) == Some(MessageState::Delivered)));
    assert_eq!(world.attempts.len(), 2_000);
    // Each of them is tried again in its time, in memory or not.
    world.run_ms(700_000);
    assert_eq!(world.attempts.len(), 3_000);
    // A number that is not in memory keeps waiting when more comes for it.
    world.submit_all((0..1_000).map(|id| number(&format!("1778{id}"))));
    assert_eq!(world.attempts.len(), 3_000);
}

#[test]
fn beside_a_backlog_numbers_for_which_nothing_waits_are_not_looked_up() {
    let mut world = World::with(small(), &[600_000]);
    world.submit_all((0..1_000).map(|id| number(&format!("1778{id}"))));
    let before = world.rows_read;
    let ids = world.submit_all((0..1_000).map(|id| number(&format!("1555{id}"))));
    assert!(ids.iter().all(|id| world.state(*id) == Some(MessageState::Delivered)));
    assert_eq!(world.rows_read, before);
}

#[test]
fn slow_numbers_beyond_the_window_take_their_turns() {
    let mut world = World::with(small(), &[5_000]);
    world.submit_all((0..1_000).map(|id| number(&format!("1888{id}"))));
    world.run_ms(30_000);
    assert_eq!(world.finals.len(), 1_000);
}

#[test]
fn a_long_queue_of_an_account_flows_through() {
    let mut world = World::with(small(), &[5_000]);
    for _ in 0..3_000 {
        world.store(esme("one"));
        world.store(esme("two"));
    }
    world.take_over();
    world.bind(1, "one", 10);
    world.bind(2, "two", 10);
    assert_eq!(world.finals.len(), 6_000);
    assert!(world.rows_read < 20_000, "{} rows read", world.rows_read);
}

#[test]
fn an_account_that_refuses_everything_holds_up_nobody() {
    let mut world = World::with(small(), &[30_000]);
    world.answer = Answer::Refuse(CommandStatus::ESME_RMSGQFUL);
    world.bind(1, "one", 10);
    world.submit_all((0..2_000).map(|_| esme("one")));
    world.answer = Answer::Accept;
    world.bind(2, "two", 10);
    let ids = world.submit_all((0..100).map(|_| esme("two")));
    assert!(ids.iter().all(|id| world.state(*id) == Some(MessageState::Delivered)));
    world.run_ms(120_000);
    assert_eq!(world.machine.waiting_count(), 0);
}

#[test]
fn a_flood_that_expires_is_ended_in_time() {
    let mut world = World::with(small(), &[5_000]);
    for _ in 0..5_000 {
        world.store(smsc_raft::model::Submission { expires_at_ms: START_MS + 1_000, ..esme("one") });
    }
    world.run_ms(4_000);
    assert_eq!(world.finals.len(), 5_000);
    assert_eq!(world.engine.held(), 0);
}

/// A million messages for one account and a million numbers with one each, made up as they are read.
#[test]
fn a_new_leader_delivers_before_it_has_read_a_million_messages() {
    const MILLION: u64 = 1_000_000;
    let message = |id: u64| {
        let submission = if id <= MILLION { esme("one") } else { number(&format!("1555{id}")) };
        Arc::new(Message { id, submission: Some(submission), due_at_ms: START_MS, ..Default::default() })
    };
    let range = smsc_raft::model::HandsetRange { prefix: "1555".to_owned(), ..Default::default() };
    let routes = Arc::new(RouteTable::build([], [], [&range]));
    let mut engine = DeliveryEngine::new(START_MS, EngineConfig::default(), routes, &Settings::default());
    engine.bound(START_MS, 1, "one", 50);
    let (mut rows, mut first_after, mut finished, mut held_max) = (0, None, 0u64, 0);
    while let Some(effect) = engine.poll_effect() {
        if finished >= 40_000 {
            break;
        }
        held_max = held_max.max(engine.held());
        match effect {
            Effect::SendToSession { message, .. } => {
                first_after.get_or_insert(rows);
                engine.session_outcome(START_MS, 1, message.id, LinkResult::Delivered);
            }
            Effect::SendToHandset { message, .. } => {
                first_after.get_or_insert(rows);
                engine.link_outcome(START_MS, message.id, LinkResult::Delivered);
            }
            Effect::Propose(command) => {
                let Some(Op::Finish(finish)) = command.op else { panic!("everything is delivered") };
                let queue = QueueKey::of(message(finish.id).submission.as_ref().unwrap());
                engine.change(START_MS, Change::Finished { id: finish.id, queue });
                finished += 1;
            }
            Effect::Load(Load::Queue { key, from, limit }) => {
                let first = if key.is_esme() { from.id.max(1) } else { key.key[4..].parse().unwrap() };
                let last = if key.is_esme() { MILLION } else { first };
                let messages: Vec<_> = (first..=last).take(limit).map(message).collect();
                rows += messages.len();
                let queue = Some(Queue { due_at_ms: START_MS, ..Default::default() });
                engine.loaded(START_MS, Loaded::Queue { key, from, limit, queue, messages });
            }
            Effect::Load(Load::Due { after, limit }) => {
                let last = after.and_then(|after| after.queue.key.get(4..)?.parse().ok()).unwrap_or(MILLION);
                let numbers = (last + 1..=2 * MILLION).take(limit);
                let row = |id: u64| {
                    let queue = QueueKey::new(QueueKind::Number, &format!("1555{id}"));
                    (smsc_raft::machine::keys::DueKey { due_at_ms: START_MS, queue }, Queue::default())
                };
                let queues: Vec<_> = numbers.map(row).collect();
                rows += queues.len();
                engine.loaded(START_MS, Loaded::Due { limit, queues });
            }
            Effect::Load(Load::Pending { limit, .. }) => {
                engine.loaded(START_MS, Loaded::Pending { limit, numbers: Vec::new() });
            }
            Effect::Load(Load::Expired { .. }) | Effect::WatchHandset { .. } => {}
            Effect::SendToLink { .. } | Effect::CallBack { .. } => {}
        }
    }
    assert!(first_after.is_some_and(|rows| rows <= 1_000), "{first_after:?} rows before the first delivery");
    assert!(held_max <= 100_000, "{held_max} messages in memory");
    assert_eq!(finished, 40_000);
}
