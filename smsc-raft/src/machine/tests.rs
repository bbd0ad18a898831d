//! The machine by itself, over a base in memory.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use smsc_proto::tlv::{Tag, Tlvs};

use super::base::{MemoryBase, TableId};
use super::table::Value as _;
use super::{Applied, Change, Machine, MetaValue};
use crate::model::{self, Address, Command, MessageState, Submission, command::Op};
use crate::outcome::Outcome;

/// A machine with the base it was opened on, as a checkpoint fills it.
pub(super) struct World {
    pub machine: Machine,
    base: MemoryBase,
    index: u64,
}

impl World {
    pub fn new() -> Self {
        let base = MemoryBase::default();
        Self { machine: Machine::open(Arc::new(base.clone())).unwrap(), base, index: 0 }
    }

    pub fn apply(&mut self, stamp_ms: u64, ops: impl IntoIterator<Item = Op>) -> (Vec<Outcome>, Vec<Change>) {
        self.index += 1;
        let commands = ops.into_iter().map(|op| Command { op: Some(op) }).collect();
        let batch = model::Batch { version: 1, stamp_ms, commands };
        let (mut outcomes, mut changes) = (Vec::new(), Vec::new());
        let at = Applied { term: 1, node_id: 1, index: self.index };
        self.machine.apply(at, batch, &mut outcomes, &mut changes).unwrap();
        (outcomes, changes)
    }

    pub fn submit(&mut self, submission: Submission) -> u64 {
        let op = Op::Submit(model::Submit { submission: Some(submission) });
        match self.apply(1_000, [op]).0[..] {
            [Outcome::Stored(id)] => id,
            ref other => panic!("{other:?}"),
        }
    }

    fn finish(&mut self, id: u64) {
        let finish = model::Finish { id, state: MessageState::Deleted as i32, at_ms: 2_000, ..Default::default() };
        self.apply(2_000, [Op::Finish(finish)]);
    }

    pub fn checkpoint(&mut self) {
        let taken = self.machine.take_checkpoint();
        let base = &mut self.base;
        let written = taken.for_each(|table, key, value| {
            base.write(table, key, value);
            Ok::<_, io::Error>(())
        });
        written.unwrap();
        self.machine.checkpoint_written(Arc::new(self.base.clone()));
    }

    fn reopen(&mut self) {
        self.machine = Machine::open(Arc::new(self.base.clone())).unwrap();
    }

    fn ids(&self, account: &str, source: &str, destination: &str) -> Vec<u64> {
        let found = self.machine.addressed(account, source, destination, 0, 1_000, |_| true).unwrap();
        found.iter().map(|message| message.id).collect()
    }
}

fn address(digits: &str) -> Option<Address> {
    Some(Address { ton: 1, npi: 1, digits: digits.to_owned() })
}

fn submission(source: &str, destination: &str) -> Submission {
    Submission {
        account: "one".to_owned(),
        source: address(source),
        destination: address(destination),
        short_message: Bytes::from_static(b"first"),
        expires_at_ms: 90_000,
        ..Default::default()
    }
}

#[test]
fn messages_are_found_by_their_addresses_wherever_they_lie() {
    let mut world = World::new();
    let waiting = world.submit(submission("1000", "15551"));
    world.submit(submission("1000", "15552"));
    let scheduled = world.submit(Submission { scheduled_at_ms: 50_000, ..submission("1000", "+15551") });
    world.submit(Submission { account: "two".to_owned(), ..submission("1000", "15551") });
    world.submit(Submission { account: String::new(), ..submission("1000", "15551") });
    assert_eq!(world.ids("one", "1000", "15551"), [waiting, scheduled]);
    world.checkpoint();
    world.reopen();
    assert_eq!(world.ids("one", "+1000", "15551"), [waiting, scheduled]);
    world.finish(waiting);
    assert_eq!(world.ids("one", "1000", "15551"), [scheduled]);
    world.checkpoint();
    world.finish(scheduled);
    assert_eq!(world.ids("one", "1000", "15551"), [] as [u64; 0]);
}

#[test]
fn a_search_goes_on_where_the_last_one_ended() {
    let mut world = World::new();
    let ids: Vec<u64> = (0..600).map(|_| world.submit(submission("1000", "15551"))).collect();
    world.checkpoint();
    let search = |from, limit| {
        let found = world.machine.addressed("one", "1000", "15551", from, limit, |_| true).unwrap();
        found.iter().map(|message| message.id).collect::<Vec<_>>()
    };
    assert_eq!(search(0, 1_000), ids);
    assert_eq!(search(ids[299] + 1, 200), ids[300..500]);
}

#[test]
fn a_checkpoint_without_the_table_of_addresses_is_brought_up_to_date() {
    let mut world = World::new();
    let id = world.submit(submission("1000", "15551"));
    world.checkpoint();
    let digest = world.machine.digest().unwrap();
    // As the version before wrote it.
    let meta = model::CheckpointMeta { addressed: false, ..world.machine.meta() };
    world.base.write(TableId::Meta, Bytes::new(), Some(MetaValue(meta).encode()));
    let hash = super::keys::address_hash("one", "1000", "15551");
    world.base.write(TableId::Addressed, super::table::Key::encode(&(hash, id)), None);
    world.reopen();
    assert_eq!(world.ids("one", "1000", "15551"), [id]);
    assert_eq!(world.machine.digest().unwrap(), digest);
}

#[test]
fn replace_if_present_finds_what_is_scheduled_too_and_minds_the_service() {
    let mut world = World::new();
    let first = world.submit(Submission { scheduled_at_ms: 50_000, ..submission("1000", "15551") });
    let flag = |service_type: &str| Submission {
        replace_if_present: true,
        service_type: service_type.to_owned(),
        short_message: Bytes::from_static(b"second"),
        ..submission("1000", "15551")
    };
    let other = world.submit(flag("WAP"));
    assert_ne!(other, first, "another service");
    assert_eq!(world.submit(flag("")), first);
    let stored = world.machine.message(first).unwrap().unwrap();
    assert_eq!(stored.submission.as_ref().unwrap().short_message, "second");
    assert_eq!(stored.due_at_ms, 1_000, "no longer scheduled");
    assert_eq!(world.ids("one", "1000", "15551"), [first, other]);
}

#[test]
fn a_replacement_changes_form_between_short_message_and_payload() {
    let mut world = World::new();
    let mut tlvs = Tlvs::new();
    tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 7);
    let id = world.submit(Submission { tlvs: Bytes::copy_from_slice(tlvs.as_bytes()), ..submission("1000", "15551") });
    let mut replaced = |short_message: &'static str, message_payload: Option<&'static str>| {
        let replace = model::Replace {
            id,
            account: "one".to_owned(),
            short_message: short_message.into(),
            message_payload: message_payload.map(Bytes::from),
            ..Default::default()
        };
        assert_eq!(world.apply(2_000, [Op::Replace(replace)]).0, [Outcome::Stored(id)]);
        let stored = world.machine.message(id).unwrap().unwrap().submission.clone().unwrap();
        let tlvs = Tlvs::try_from(stored.tlvs).unwrap();
        assert_eq!(tlvs.user_message_reference(), Some(7));
        (stored.short_message, tlvs.message_payload())
    };
    assert_eq!(replaced("", Some("long")), (Bytes::new(), Some("long".into())));
    assert_eq!(replaced("", Some("longer")), (Bytes::new(), Some("longer".into())));
    assert_eq!(replaced("short", None), ("short".into(), None));
}

#[test]
fn a_notification_is_stored_with_the_attempt() {
    let mut world = World::new();
    let id = world.submit(submission("1000", "15551"));
    let notification = Submission {
        account: String::new(),
        kind: model::MessageKind::Receipt as i32,
        queue_kind: model::QueueKind::Esme as i32,
        queue_key: "one".to_owned(),
        receipt_for: id,
        ..submission("15551", "1000")
    };
    let attempt = model::AttemptDone {
        id,
        at_ms: 3_000,
        due_at_ms: 8_000,
        notification: Some(notification),
        ..Default::default()
    };
    let (_, changes) = world.apply(3_000, [Op::AttemptDone(attempt)]);
    assert!(matches!(&changes[..], [Change::Retry(first), Change::Queued { message: second, alone: true }]
        if first.id == id && second.submission.as_ref().unwrap().receipt_for == id));
}

#[test]
fn lists_are_kept_and_deleted() {
    let mut world = World::new();
    let list = model::DistributionList {
        name: "friends".to_owned(),
        members: vec![address("15551").unwrap(), address("15552").unwrap()],
        ..Default::default()
    };
    let put = Op::ListPut(model::ListPut { list: Some(list.clone()) });
    assert_eq!(world.apply(1_000, [put]), (vec![Outcome::Done], vec![Change::Config]));
    world.checkpoint();
    world.reopen();
    assert_eq!(world.machine.lists().collect::<Vec<_>>(), [&list]);
    let delete = || Op::ListDelete(model::ListDelete { name: "friends".to_owned() });
    assert_eq!(world.apply(1_000, [delete(), delete()]).0, [Outcome::Done, Outcome::NotFound]);
}

fn pending(number: &str, account: &str, expires_at_ms: u64) -> Op {
    let pending = model::DeliveryPending {
        number: number.to_owned(),
        account: account.to_owned(),
        subscriber: address(number),
        esme: address("1000"),
        set_at_ms: 1_000,
        expires_at_ms,
    };
    Op::PendingSet(model::PendingSet { pending: Some(pending) })
}

fn reached(number: &str) -> Op {
    Op::NumberReached(model::NumberReached { number: number.to_owned(), alerts_expire_at_ms: 9_000 })
}

#[test]
fn a_reached_number_has_an_alert_stored_for_each_account_that_asked() {
    let mut world = World::new();
    for system_id in ["one", "two"] {
        let account = model::Account { system_id: system_id.to_owned(), ..Default::default() };
        world.apply(1_000, [Op::AccountPut(model::AccountPut { account: Some(account) })]);
    }
    let set = [("1555", "one"), ("15551", "two"), ("15551", "one"), ("15551", "gone"), ("15552", "one")];
    world.apply(1_000, set.map(|(number, account)| pending(number, account, 5_000)));
    // Again by the same account: it is told once.
    world.apply(1_000, [pending("15551", "one", 5_000)]);
    world.checkpoint();
    world.reopen();
    let numbers: Vec<_> = world.machine.pending_numbers(Some("1555"), 1).into_iter().map(|row| row.0).collect();
    assert_eq!(numbers, ["15551"]);
    let (outcomes, changes) = world.apply(2_000, [reached("15551"), reached("15551"), reached("7")]);
    assert_eq!(outcomes, [Outcome::Done, Outcome::NotFound, Outcome::NotFound]);
    let queued = |change: &Change| match change {
        Change::Queued { message, .. } => message.submission.clone(),
        _ => None,
    };
    let alerts: Vec<_> = changes.iter().filter_map(queued).collect();
    assert_eq!(alerts.iter().map(|alert| alert.queue_key.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!((alerts[0].kind(), &alerts[0].source), (model::MessageKind::Alert, &address("15551")));
    assert_eq!((&alerts[0].destination, alerts[0].expires_at_ms), (&address("1000"), 9_000));
    // What is too old is told to nobody, and goes with the next purge.
    assert_eq!(world.apply(5_000, [reached("15552")]).1, [Change::NotPending("15552".into())]);
    let purge = Op::Purge(model::Purge { final_before_ms: 0 });
    assert_eq!(world.apply(5_000, [purge]).1, [Change::NotPending("1555".into())]);
    assert!(world.machine.pending_numbers(None, 10).is_empty());
}

#[test]
fn an_account_has_so_many_flags_and_no_more() {
    let mut world = World::new();
    let flags = (0..20_001).map(|number| pending(&number.to_string(), "one", 5_000));
    let outcomes = world.apply(1_000, flags).0;
    assert!(outcomes[..20_000].iter().all(|outcome| *outcome == Outcome::Done));
    assert_eq!(outcomes[20_000], Outcome::NotFound);
    let again = [pending("7", "one", 5_000), pending("20001", "two", 5_000), reached("7"), pending("20001", "one", 1)];
    let expected = [Outcome::Done, Outcome::Done, Outcome::Done, Outcome::Done];
    assert_eq!(world.apply(1_000, again).0, expected, "one more once another is gone");
}
