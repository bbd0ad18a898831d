//! Random events: whatever happens, every message comes to exactly one end, and the world's checks hold on the way.

use bytes::Bytes;
use proptest::prelude::*;
use smsc_proto::status::CommandStatus;
use smsc_raft::model::{
    Account, AccountPut, ErrorClass, MessageState, QueueKind, QueueWake, Replace, Submission, command::Op,
};

use super::world::{Answer, World, esme, number};
use crate::delivery::engine::{EngineConfig, LinkResult};
use crate::smpp::ports::DeliverResult;

#[derive(Clone, Debug)]
enum Step {
    ToNumber { digits: String, priority: u32, expires_in_ms: u64, scheduled_in_ms: u64 },
    ToEsme { two: bool, priority: u32, expires_in_ms: u64, receipt: bool },
    ToLink { digits: String, two: bool, priority: u32, expires_in_ms: u64 },
    LinkUp { link: &'static str, window: usize, rate_per_s: u32 },
    LinkDown(&'static str),
    LinkPaused(&'static str, u64),
    LinkAnswers(&'static str, Option<u8>),
    LinkAnswerFirst(&'static str, u8),
    Report(usize, u8),
    Cancel(usize),
    Replace(usize),
    Wake(String),
    Bind { two: bool, window: usize },
    Unbind(usize),
    Answers(Answer),
    AnswerFirst(usize, u8),
    Commits(bool),
    CommitPending,
    Pass(u64),
    TakeOver,
}

fn digits() -> impl Strategy<Value = String> {
    let prefix =
        prop_oneof![3 => Just("1555"), 1 => Just("1666"), 3 => Just("1777"), 1 => Just("1778"), 3 => Just("1888")];
    (prefix, 0..12u32).prop_map(|(prefix, number)| format!("{prefix}{number}"))
}

fn soon() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0u64), 1 => 1..30_000u64]
}

fn link() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("x"), Just("y")]
}

/// How a link answers, but for what it loses.
const LINK_RESULTS: u8 = 5;

fn link_result(kind: u8) -> LinkResult {
    let error = 8 << 16 | 0x58;
    match kind {
        0 => LinkResult::Delivered,
        1 => LinkResult::Temporary { class: ErrorClass::Congestion, error },
        2 => LinkResult::Temporary { class: ErrorClass::Absent, error },
        3 => LinkResult::Permanent { error, state: MessageState::Undeliverable },
        4 => LinkResult::Accepted {
            remote_ids: vec!["ab".to_owned()],
            grace_ms: 1_000,
            give_up_state: MessageState::Unknown,
        },
        _ => LinkResult::Lost,
    }
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        Just(Answer::Hold),
        Just(Answer::Accept),
        Just(Answer::Refuse(CommandStatus::ESME_RMSGQFUL)),
        Just(Answer::Refuse(CommandStatus::ESME_RX_R_APPN)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (digits(), 0..3u32, soon(), soon()).prop_map(|(digits, priority, expires_in_ms, scheduled_in_ms)| {
            Step::ToNumber { digits, priority, expires_in_ms, scheduled_in_ms }
        }),
        12 => (any::<bool>(), 0..3u32, soon(), any::<bool>()).prop_map(|(two, priority, expires_in_ms, receipt)| {
            Step::ToEsme { two, priority, expires_in_ms, receipt }
        }),
        8 => (0..12u32, any::<bool>(), 0..3u32, soon()).prop_map(|(number, two, priority, expires_in_ms)| {
            Step::ToLink { digits: format!("49{number}"), two, priority, expires_in_ms }
        }),
        3 => (link(), 1..4usize, prop_oneof![Just(0u32), 1..50u32]).prop_map(|(link, window, rate_per_s)| {
            Step::LinkUp { link, window, rate_per_s }
        }),
        1 => link().prop_map(Step::LinkDown),
        1 => (link(), 1..5_000u64).prop_map(|(link, span_ms)| Step::LinkPaused(link, span_ms)),
        2 => (link(), prop::option::of(0..LINK_RESULTS)).prop_map(|(link, kind)| Step::LinkAnswers(link, kind)),
        4 => (link(), 0..=LINK_RESULTS).prop_map(|(link, kind)| Step::LinkAnswerFirst(link, kind)),
        3 => (any::<usize>(), 0..4u8).prop_map(|(pick, kind)| Step::Report(pick, kind)),
        2 => any::<usize>().prop_map(Step::Cancel),
        2 => any::<usize>().prop_map(Step::Replace),
        1 => digits().prop_map(Step::Wake),
        2 => (any::<bool>(), 1..6usize).prop_map(|(two, window)| Step::Bind { two, window }),
        1 => any::<usize>().prop_map(Step::Unbind),
        2 => answer().prop_map(Step::Answers),
        6 => (any::<usize>(), 0..5u8).prop_map(|(session, result)| Step::AnswerFirst(session, result)),
        1 => any::<bool>().prop_map(Step::Commits),
        2 => Just(Step::CommitPending),
        6 => prop_oneof![3 => 1..2_000u64, 1 => 1..60_000u64].prop_map(Step::Pass),
        1 => Just(Step::TakeOver),
    ]
}

fn result(kind: u8) -> DeliverResult {
    match kind {
        0 | 1 => DeliverResult::Accepted,
        2 => DeliverResult::Refused(CommandStatus::ESME_RX_T_APPN),
        3 => DeliverResult::Refused(CommandStatus::ESME_RX_P_APPN),
        _ => DeliverResult::Lost,
    }
}

/// set_dpf, as it stands on the wire.
const SET_DPF: Bytes = Bytes::from_static(b"\x04\x21\0\x01\x01");

fn run(steps: Vec<Step>, config: EngineConfig) {
    let mut world = World::with(config, &[1_000, 10_000]);
    let owner = Account { system_id: "one".to_owned(), ..Account::default() };
    world.command(Op::AccountPut(AccountPut { account: Some(owner) }));
    let mut ids = Vec::new();
    let mut session_id = 0;
    let account = |two: bool| if two { "two" } else { "one" };
    let within = |world: &World, span_ms: u64| if span_ms == 0 { 0 } else { world.now_ms + span_ms };
    for step in steps {
        match step {
            Step::ToNumber { digits, priority, expires_in_ms, scheduled_in_ms } => {
                let expires_at_ms = within(&world, expires_in_ms + u64::from(digits.starts_with("1778")) * 500_000);
                let scheduled_at_ms = within(&world, scheduled_in_ms);
                let submission = number(&digits);
                ids.push(world.submit(Submission {
                    priority_flag: priority,
                    expires_at_ms,
                    scheduled_at_ms,
                    registered_delivery: 1,
                    tlvs: if digits.ends_with(['1', '3', '5']) { SET_DPF } else { Bytes::new() },
                    ..submission
                }));
            }
            Step::ToEsme { two, priority, expires_in_ms, receipt } => {
                let expires_at_ms = within(&world, expires_in_ms);
                ids.push(world.submit(Submission {
                    priority_flag: priority,
                    expires_at_ms,
                    registered_delivery: u32::from(receipt),
                    ..esme(account(two))
                }));
            }
            Step::ToLink { digits, two, priority, expires_in_ms } => {
                let expires_at_ms = within(&world, expires_in_ms);
                ids.push(world.submit(Submission {
                    account: account(two).to_owned(),
                    link: "x".to_owned(),
                    queue_key: digits.clone(),
                    priority_flag: priority,
                    expires_at_ms,
                    registered_delivery: 1,
                    ..number(&digits)
                }));
            }
            Step::LinkUp { link, window, rate_per_s } => world.link_up(link, window, rate_per_s),
            Step::LinkDown(link) => world.link_down(link),
            Step::LinkPaused(link, span_ms) => {
                let until_ms = world.now_ms + span_ms;
                world.engine.link_paused(link, until_ms);
            }
            Step::LinkAnswers(link, None) => drop(world.link_answers.remove(link)),
            Step::LinkAnswers(link, Some(kind)) => {
                world.link_answers.insert(link.to_owned(), link_result(kind));
            }
            Step::LinkAnswerFirst(link, kind) => drop(world.link_answers_first(link, link_result(kind))),
            Step::Report(pick, kind) => {
                let handed =
                    |id: &&u64| world.machine.message(**id).unwrap().is_some_and(|message| message.handed.is_some());
                let handed: Vec<u64> = ids.iter().filter(handed).copied().collect();
                if !handed.is_empty() {
                    world.report(handed[pick % handed.len()], link_result(kind));
                }
            }
            Step::Cancel(pick) if !ids.is_empty() => {
                let id = ids[pick % ids.len()];
                if world.state(id).is_none() {
                    world.cancel(id);
                }
            }
            Step::Replace(pick) if !ids.is_empty() => {
                let id = ids[pick % ids.len()];
                // One that is replaced and waits for its schedule is told of as finished: its end, if already
                // proposed, may then be proposed again, which the store takes once.
                if world.is_proposed(id) {
                    continue;
                }
                let short_message = Bytes::from_static(b"new");
                let account = "one".to_owned();
                world.command(Op::Replace(Replace { id, account, short_message, ..Default::default() }));
            }
            Step::Wake(key) => world.command(Op::QueueWake(QueueWake { kind: QueueKind::Number as i32, key })),
            Step::Bind { two, window } => {
                session_id += 1;
                world.bind(session_id, account(two), window);
            }
            Step::Unbind(pick) if !world.bound().is_empty() => {
                let bound = world.bound();
                world.unbind(bound[pick % bound.len()]);
            }
            Step::Answers(answer) => world.answer = answer,
            Step::AnswerFirst(pick, kind) if !world.bound().is_empty() => {
                let bound = world.bound();
                world.answer_first(bound[pick % bound.len()], result(kind));
            }
            Step::Commits(commits) => world.commits = commits,
            Step::CommitPending => world.commit_pending(),
            Step::Pass(span_ms) => world.run_ms(span_ms),
            Step::TakeOver => world.take_over(),
            Step::Cancel(_) | Step::Replace(_) | Step::Unbind(_) | Step::AnswerFirst(..) => {}
        }
    }
    // Everything works from here on: all comes to its end.
    world.commits = true;
    world.commit_pending();
    world.answer = Answer::Accept;
    for session in world.bound() {
        while world.answer_first(session, DeliverResult::Accepted).is_some() {}
    }
    for link in ["x", "y"] {
        world.link_answers.insert(link.to_owned(), LinkResult::Delivered);
        while world.link_answers_first(link, LinkResult::Delivered).is_some() {}
        world.link_up(link, 5, 0);
    }
    world.bind(1_000_001, "one", 5);
    world.bind(1_000_002, "two", 5);
    world.run_ms(700_000);
    let left = world.machine.messages_from(0, 5).unwrap();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert_eq!(world.engine.held(), 0, "the engine remembers what is gone");
    let pending = world.machine.pending_numbers(None, 100);
    let never_there = |number: &str| number.starts_with("1778") || number.starts_with("1666");
    assert!(pending.iter().all(|(number, _)| never_there(number)), "in reach and not told of: {pending:?}");
    for id in ids {
        assert!(world.finals.contains_key(&id), "{id} has no final state");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_to_one_end(steps in prop::collection::vec(step(), 1..200)) {
        run(steps, EngineConfig::default());
    }

    /// The same with a window so small that most of what waits is in the store alone.
    #[test]
    fn every_message_comes_to_one_end_with_little_memory(steps in prop::collection::vec(step(), 1..200)) {
        run(steps, EngineConfig { window_messages: 100, number_messages: 2, seed: 7 });
    }
}
