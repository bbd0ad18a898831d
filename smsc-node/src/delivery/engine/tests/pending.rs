//! Delivery pending flags and the alerts that come of them.

use smsc_proto::tlv::{Tag, Tlvs};
use smsc_raft::model::{Account, AccountPut, MessageKind, MessageState, NumberReached, Submission, command::Op};

use super::world::{Answer, START_MS, World, esme, number};
use crate::delivery::engine::{Receiver, content};
use crate::smpp::ports::DeliverResult;
use crate::smpp::serves::Serves;

fn world() -> World {
    let mut world = World::new();
    for system_id in ["one", "two"] {
        let account = Account { system_id: system_id.to_owned(), ..Account::default() };
        world.command(Op::AccountPut(AccountPut { account: Some(account) }));
    }
    world
}

/// A message that asks for a flag.
fn flagged(digits: &str) -> Submission {
    let mut tlvs = Tlvs::new();
    tlvs.push_u8(Tag::SET_DPF, 1);
    Submission { tlvs: bytes::Bytes::copy_from_slice(tlvs.as_bytes()), ..number(digits) }
}

/// The same, tried once, as in transaction mode.
fn once(digits: &str) -> Submission {
    Submission { attempts_max: 1, ..flagged(digits) }
}

/// When which session was sent an alert from which number.
fn alerts(world: &World) -> Vec<(u64, u64, String)> {
    let alerts = world.sent.iter().filter(|row| content(&row.2).kind() == MessageKind::Alert);
    let source = |submission: &Submission| submission.source.as_ref().expect("a number").digits.clone();
    alerts.map(|(at_ms, session, message)| (*at_ms, *session, source(content(message)))).collect()
}

fn pending(world: &World) -> Vec<String> {
    world.machine.pending_numbers(None, 10).into_iter().map(|row| row.0.to_string()).collect()
}

#[test]
fn an_alert_is_sent_when_the_number_can_be_reached_to_those_who_asked() {
    let mut world = world();
    world.bind(1, "one", 10);
    world.bind(2, "two", 10);
    let first = world.submit(once("17771"));
    world.submit(Submission { account: "two".to_owned(), ..number("17771") });
    assert_eq!(world.state(first), Some(MessageState::Undeliverable));
    assert!(world.machine.final_record(first).unwrap().unwrap().delivery_pending, "the response tells of it");
    assert_eq!(pending(&world), ["17771"]);
    world.run_ms(6_000);
    assert_eq!(alerts(&world), []);
    world.run_ms(60_000);
    // One account asked, once; the ESME is told at its own address.
    assert_eq!(alerts(&world), [(7_000, 1, "17771".to_owned())]);
    let alert = world.sent.iter().find(|row| content(&row.2).kind() == MessageKind::Alert).expect("seen above");
    assert_eq!(content(&alert.2).destination.as_ref().expect("an address").digits, "1000");
    assert_eq!(pending(&world), [""; 0]);
    world.submit(number("17771"));
    assert_eq!(alerts(&world).len(), 1, "an alert is given once");
}

#[test]
fn only_what_is_out_of_reach_sets_a_flag() {
    let mut world = world();
    for submission in [number("17771"), flagged("15551"), flagged("16661"), once("16662"), flagged("491")] {
        world.submit(submission);
    }
    assert_eq!(pending(&world), [""; 0], "not asked, delivered, failed for good, or no link there");
    // It waits behind another one and is never tried itself.
    let waited = world.submit(Submission { expires_at_ms: world.now_ms + 2_000, ..once("17771") });
    world.run_ms(3_000);
    assert_eq!((world.state(waited), pending(&world)), (Some(MessageState::Expired), vec!["17771".to_owned()]));
    world.submit(Submission { tlvs: flagged("1").tlvs, ..esme("two") });
    assert_eq!(pending(&world), ["17771"]);
}

#[test]
fn a_new_leader_gives_the_alerts_that_the_old_one_owed() {
    let mut world = world();
    world.submit(once("17771"));
    world.submit(once("17781"));
    world.run_ms(3_000);
    world.take_over();
    world.bind(1, "one", 10);
    assert_eq!(alerts(&world), []);
    world.run_ms(60_000);
    assert_eq!(alerts(&world), [(7_000, 1, "17771".to_owned())], "at the time at which the old one would have");
    assert_eq!(pending(&world), ["17781"]);
    // What came back while nobody led is told of at once.
    let mut world = self::world();
    world.submit(once("17771"));
    world.now_ms = START_MS + 20_000;
    world.take_over();
    world.bind(1, "one", 10);
    assert_eq!(alerts(&world), [(20_000, 1, "17771".to_owned())]);
}

#[test]
fn an_alert_waits_for_a_receiver_that_knows_alerts() {
    let mut world = world();
    world.submit(once("17771"));
    world.run_ms(8_000);
    let old = Receiver { window: 10, serves: Serves::all(), alerts: false };
    world.bind_as(1, "one", old);
    let id = world.submit(esme("one"));
    assert_eq!((world.sent.len(), world.state(id)), (1, Some(MessageState::Delivered)), "others go on meanwhile");
    assert_eq!(alerts(&world), []);
    world.take_over();
    world.bind(2, "one", 10);
    assert_eq!(alerts(&world), [(8_000, 2, "17771".to_owned())]);
    assert!(world.machine.messages_from(0, 5).unwrap().is_empty(), "what was told is gone");
}

#[test]
fn a_number_that_takes_a_message_or_writes_one_is_in_reach() {
    let mut world = world();
    world.bind(1, "one", 10);
    let writes = |digits: &str| Submission {
        kind: MessageKind::Mo as i32,
        account: String::new(),
        source: number(digits).destination,
        ..esme("two")
    };
    world.submit(once("17781"));
    world.submit(writes("17782"));
    assert_eq!(alerts(&world), []);
    world.submit(writes("17781"));
    assert_eq!(alerts(&world), [(0, 1, "17781".to_owned())]);

    // A link delivers what it could not before.
    world.link_up("x", 10, 0);
    let absent = crate::delivery::engine::LinkResult::Temporary {
        class: smsc_raft::model::ErrorClass::Absent,
        error: 3 << 16 | 27,
    };
    world.submit(Submission { link: "link:x".to_owned(), queue_key: "491".to_owned(), ..flagged("491") });
    world.link_answers_first("x", absent);
    assert_eq!(pending(&world), ["491"]);
    world.run_ms(6_000);
    world.link_answers_first("x", crate::delivery::engine::LinkResult::Delivered);
    assert_eq!(alerts(&world).last().map(|row| row.2.as_str()), Some("491"));
}

#[test]
fn alerts_keep_their_place_and_are_given_up_as_receipts_are() {
    let mut world = world();
    world.answer = Answer::Hold;
    world.submit(once("17771"));
    world.run_ms(8_000);
    world.bind(1, "one", 1);
    // The connection ended before it was written.
    world.answer_first(1, DeliverResult::Lost);
    world.answer_first(1, DeliverResult::Accepted);
    assert_eq!(alerts(&world).len(), 2);
    world.submit(once("17781"));
    let reached = |alerts_expire_at_ms| NumberReached { number: "17781".to_owned(), alerts_expire_at_ms };
    world.unbind(1);
    world.command(Op::NumberReached(reached(world.now_ms + 1_000)));
    world.run_ms(2_000);
    world.bind(2, "one", 1);
    assert_eq!(alerts(&world).len(), 2, "it was over");
    assert!(world.machine.messages_from(0, 5).unwrap().is_empty());
}
