//! Links to other message centres: capacity, turns, fallback, and messages that they accepted.

use smsc_raft::model::{ErrorClass, MessageState, Route, Settings, Submission};

use super::world::{START_MS, World, number};
use crate::delivery::engine::{EngineConfig, LinkResult};
use crate::delivery::route::RouteTable;

fn routed(routes: &[(&str, u32)]) -> RouteTable {
    let route = |(link, priority): &(&str, u32)| Route {
        prefix: "49".to_owned(),
        name: (*link).to_owned(),
        target: format!("link:{link}"),
        priority: *priority,
        ..Default::default()
    };
    RouteTable::build([], &routes.iter().map(route).collect::<Vec<_>>(), [])
}

fn world(routes: &[(&str, u32)]) -> World {
    let mut world = World::new();
    world.configure(routed(routes), Settings::default());
    world
}

fn to(digits: &str, account: &str) -> Submission {
    let account = account.to_owned();
    Submission { account, link: "x".to_owned(), queue_key: digits.to_owned(), ..number(digits) }
}

fn accepted() -> LinkResult {
    LinkResult::Accepted { remote_ids: vec!["ab".to_owned()], grace_ms: 60_000, give_up_state: MessageState::Unknown }
}

fn temporary(class: ErrorClass) -> LinkResult {
    LinkResult::Temporary { class, error: 8 << 16 | 0x58 }
}

#[test]
fn a_window_is_kept_and_accounts_take_turns() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 2, 0);
    let big: Vec<_> = (0..20).map(|n| world.submit(to(&format!("49{n}"), "one"))).collect();
    let small = world.submit(to("4999", "two"));
    assert_eq!(world.with_link["x"].len(), 2);
    for _ in 0..3 {
        world.link_answers_first("x", LinkResult::Delivered);
    }
    let sent: Vec<_> = world.to_links.iter().map(|row| row.2).collect();
    assert_eq!(sent, [big[0], big[1], big[2], small, big[3]]);
    while world.link_answers_first("x", LinkResult::Delivered).is_some() {}
    assert_eq!((world.finals.len(), world.engine.held()), (21, 0));
}

#[test]
fn a_rate_is_kept() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 100, 10);
    world.link_answers.insert("x".to_owned(), LinkResult::Delivered);
    world.submit_all((0..100).map(|n| to(&format!("49{n}"), "one")));
    world.run_ms(5_000);
    assert!((50..=53).contains(&world.to_links.len()), "{} sent in 5 s at 10 per second", world.to_links.len());
    world.run_ms(5_000);
    assert_eq!(world.finals.len(), 100);
}

/// A hundred times more than the line holds: the rest is put off in the store, and another link and another account
/// are not held up by it.
#[test]
fn a_long_line_holds_nobody_else_up() {
    let config = EngineConfig { window_messages: 200, number_messages: 4, seed: 1 };
    let mut world = World::with(config, &[]);
    let mut routes = vec![Route { prefix: "49".to_owned(), target: "link:x".to_owned(), ..Default::default() }];
    routes.push(Route { prefix: "33".to_owned(), target: "link:y".to_owned(), ..Default::default() });
    world.configure(RouteTable::build([], &routes, []), Settings::default());
    world.link_up("x", 5, 20);
    world.link_up("y", 5, 0);
    world.link_answers = ["x", "y"].map(|link| (link.to_owned(), LinkResult::Delivered)).into();
    world.submit_all((0..1_000).map(|n| to(&format!("49{n}"), "one")));
    let other_link = world.submit(to("331", "one"));
    assert_eq!(world.state(other_link), Some(MessageState::Delivered));
    let other_account = world.submit(to("499999", "two"));
    world.run_ms(2_000);
    assert_eq!(world.state(other_account), Some(MessageState::Delivered));
    world.run_ms(120_000);
    assert_eq!(world.finals.len(), 1_002);
    let times: Vec<u64> = world.to_links.iter().filter(|row| row.1 == "x").map(|row| row.0).collect();
    assert!(*times.last().unwrap() >= 49_000, "the rate was exceeded");
    assert_eq!(world.engine.held(), 0);
}

#[test]
fn a_link_that_is_down_makes_numbers_wait_and_they_move_when_it_is_back() {
    let mut world = world(&[("x", 0)]);
    world.link_answers.insert("x".to_owned(), LinkResult::Delivered);
    world.link_down("x");
    let ids = world.submit_all((0..10).map(|n| to(&format!("49{n}"), "one")));
    world.run_ms(600_000);
    assert!(world.to_links.is_empty());
    let message = world.machine.message(ids[0]).unwrap().unwrap();
    assert_eq!(message.attempts, 0, "nothing was sent");
    assert_eq!(message.attempt_log.len(), 1, "the last time that its link was down is kept");
    assert_eq!(message.attempt_log[0].class(), ErrorClass::LinkDown);
    world.link_up("x", 5, 0);
    assert_eq!(world.finals.len(), 10);
}

#[test]
fn a_new_leader_waits_for_its_links_to_connect() {
    let mut world = world(&[("x", 0)]);
    let id = world.store(to("491", "one"));
    world.take_over();
    world.run_ms(500);
    assert!(world.machine.message(id).unwrap().unwrap().attempt_log.is_empty());
    world.link_answers.insert("x".to_owned(), LinkResult::Delivered);
    world.link_up("x", 5, 0);
    assert_eq!(world.state(id), Some(MessageState::Delivered));
}

#[test]
fn what_a_link_accepted_too_late_is_called_back() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 5, 0);
    for (answer, expected) in [(accepted(), 1), (temporary(ErrorClass::Busy), 1), (LinkResult::Lost, 1)] {
        let id = world.submit(to("491", "one"));
        world.cancel(id);
        world.link_answers_first("x", answer);
        assert_eq!((world.called_back.len(), world.state(id)), (expected, Some(MessageState::Deleted)));
    }
    assert_eq!((world.to_links.len(), world.engine.held()), (3, 0));
}

#[test]
fn what_a_link_loses_goes_out_again() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 5, 0);
    let id = world.submit(to("491", "one"));
    world.link_down("x");
    world.link_answers.insert("x".to_owned(), LinkResult::Delivered);
    world.link_up("x", 5, 0);
    assert_eq!(world.state(id), Some(MessageState::Delivered));
    assert_eq!(world.to_links.len(), 2);
}

#[test]
fn the_next_route_takes_over_when_a_link_is_down_or_refuses() {
    let mut world = world(&[("x", 0), ("y", 1)]);
    world.link_up("x", 5, 0);
    world.link_up("y", 5, 0);
    world.link_answers = [("x", temporary(ErrorClass::Congestion)), ("y", LinkResult::Delivered)]
        .map(|(link, answer)| (link.to_owned(), answer))
        .into();
    let refused = world.submit(to("491", "one"));
    assert_eq!(world.state(refused), Some(MessageState::Delivered));
    let tried: Vec<_> = world.to_links.iter().map(|row| row.1.as_str()).collect();
    assert_eq!(tried, ["x", "y"]);
    let record = world.machine.final_record(refused).unwrap().unwrap();
    assert_eq!((record.attempts, record.link.as_str(), record.attempted), (2, "y", true));
    assert_eq!(record.attempt_log[0].link, "x");
    world.link_down("x");
    let down = world.submit(to("492", "one"));
    assert_eq!(world.state(down), Some(MessageState::Delivered));
    assert_eq!(world.to_links.len(), 3);
    // When all refuse, the schedule counts.
    world.link_answers.insert("y".to_owned(), temporary(ErrorClass::Congestion));
    let late = world.submit(to("493", "one"));
    assert_eq!(world.to_links.len(), 4);
    world.run_ms(1_000);
    assert_eq!(world.to_links.len(), 4);
    world.link_answers.insert("y".to_owned(), LinkResult::Delivered);
    world.run_ms(60_000);
    assert_eq!(world.state(late), Some(MessageState::Delivered));
}

#[test]
fn an_absent_number_is_not_tried_by_another_link() {
    let mut world = world(&[("x", 0), ("y", 1)]);
    world.link_up("x", 5, 0);
    world.link_up("y", 5, 0);
    world.link_answers.insert("x".to_owned(), temporary(ErrorClass::Absent));
    world.submit(to("491", "one"));
    world.run_ms(1_000);
    assert_eq!(world.to_links.len(), 1);
}

#[test]
fn what_a_link_accepted_waits_for_its_report_and_blocks_nobody() {
    let mut world = world(&[("x", 0)]);
    world.bind(1, "one", 10);
    world.link_up("x", 5, 0);
    world.link_answers.insert("x".to_owned(), accepted());
    let first = world.submit(Submission { registered_delivery: 1, ..to("491", "one") });
    let second = world.submit(to("491", "one"));
    assert_eq!(world.to_links.len(), 2, "the second one follows at once");
    assert_eq!((world.finals.len(), world.engine.held(), world.machine.waiting_count()), (0, 0, 2));
    world.take_over();
    world.bind(2, "one", 10);
    world.report(first, LinkResult::Delivered);
    assert_eq!(world.state(first), Some(MessageState::Delivered));
    assert!(world.receipts()[&first].contains("stat:DELIVRD"));
    let failed = LinkResult::Permanent { error: 5, state: MessageState::Undeliverable };
    world.report(second, failed);
    assert_eq!(world.state(second), Some(MessageState::Undeliverable));
    let record = world.machine.final_record(second).unwrap().unwrap();
    assert_eq!((record.attempts, record.link.as_str()), (1, "x"));
    assert_eq!(world.machine.waiting_count(), 0);
}

#[test]
fn a_report_is_told_again_if_the_engine_did_not_know_of_the_acceptance() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 5, 0);
    world.link_answers.insert("x".to_owned(), accepted());
    world.commits = false;
    let id = world.submit(to("491", "one"));
    // Applied, and on its way to the engine, when the receipt is read.
    let changes = world.apply_pending();
    let message = world.machine.message(id).unwrap().unwrap();
    assert!(message.handed.is_some());
    assert!(!world.engine.reported(world.now_ms, message, LinkResult::Delivered));
    world.settle();
    assert!(!world.is_proposed(id));
    for change in changes {
        world.engine.change(world.now_ms, change);
    }
    world.report(id, LinkResult::Delivered);
    // The same again while its end is being recorded is no reason to wait for anything.
    world.report(id, LinkResult::Delivered);
    world.commit_pending();
    assert_eq!(world.state(id), Some(MessageState::Delivered));
}

#[test]
fn without_a_report_it_is_given_up_after_its_validity() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 5, 0);
    world.link_answers.insert("x".to_owned(), accepted());
    let id = world.submit(Submission { expires_at_ms: START_MS + 10_000, ..to("491", "one") });
    world.run_ms(69_000);
    assert_eq!(world.state(id), None);
    world.run_ms(2_000);
    assert_eq!(world.state(id), Some(MessageState::Unknown));
    assert!(world.machine.next_expiry_ms().unwrap().is_none());
}

#[test]
fn a_report_that_it_failed_for_now_sends_it_again() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 5, 0);
    world.link_answers.insert("x".to_owned(), accepted());
    let id = world.submit(Submission { expires_at_ms: START_MS + 600_000, ..to("491", "one") });
    world.report(id, temporary(ErrorClass::Absent));
    world.link_answers.insert("x".to_owned(), LinkResult::Delivered);
    assert_eq!(world.to_links.len(), 1);
    world.run_ms(10_000);
    assert_eq!(world.state(id), Some(MessageState::Delivered));
    assert!(world.machine.next_expiry_ms().unwrap().is_none());
}

#[test]
fn a_report_of_delivery_moves_the_numbers_queue() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 5, 0);
    world.link_answers.insert("x".to_owned(), accepted());
    let first = world.submit(to("491", "one"));
    world.link_answers.insert("x".to_owned(), temporary(ErrorClass::Absent));
    let second = world.submit(to("491", "one"));
    world.link_answers.insert("x".to_owned(), LinkResult::Delivered);
    world.run_ms(1_000);
    assert_eq!(world.state(second), None);
    world.report(first, LinkResult::Delivered);
    assert_eq!(world.state(second), Some(MessageState::Delivered));
}

#[test]
fn a_throttled_link_pauses_alone() {
    let mut world = world(&[("x", 0)]);
    world.link_up("x", 5, 0);
    world.link_answers.insert("x".to_owned(), LinkResult::Delivered);
    let until_ms = world.now_ms + 3_000;
    world.engine.link_paused("x", until_ms);
    let id = world.submit(to("491", "one"));
    world.run_ms(2_999);
    assert_eq!(world.state(id), None);
    world.run_ms(1);
    assert_eq!(world.state(id), Some(MessageState::Delivered));
}

#[test]
fn what_waits_for_a_slow_link_is_not_late() {
    let mut world = World::new();
    world.link_up("x", 1, 0);
    world.submit_all([to("491", "one"), to("492", "one")]);
    world.now_ms += 5_000;
    assert!(world.link_answers_first("x", accepted()).is_some());
    assert_eq!(world.with_link["x"].len(), 1, "its turn has come");
    assert_eq!(world.engine.take_lag_ms(), Some(0), "only what was taken at once counts");
}
