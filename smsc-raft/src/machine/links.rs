//! Links to other message centres: their configuration, and which id of theirs is which message of ours.

use std::io;
use std::sync::Arc;

use super::Machine;
use crate::model::{self, HandedOver, LinkIdRow, LinkPart, Message, MessageState};
use crate::outcome::Outcome;

impl Machine {
    /// All links.
    pub fn links(&self) -> impl Iterator<Item = &model::Link> {
        self.links.iter().map(|row| row.1)
    }

    /// The link of a name.
    pub fn link(&self, name: &str) -> Option<&model::Link> {
        self.links.get(name)
    }

    /// The message that `message_id` of a link's message centre stands for, and which part of it; `message_id` as
    /// [`link_id_key`] spells it. Only while its report is waited for.
    ///
    /// # Errors
    /// As every read here: the disk failed or the store is corrupt, the node stops.
    pub fn link_message(&self, link: &str, message_id: &str) -> io::Result<Option<(Arc<Message>, u32)>> {
        let key = (link.to_owned(), message_id.to_owned());
        let Some(row) = self.link_ids.get(self.base.as_ref(), &key)? else { return Ok(None) };
        Ok(self.messages.get(self.base.as_ref(), &row.id)?.map(|message| (message, row.part)))
    }

    /// A message was handed over: its report will find it by these ids.
    pub(super) fn remember_link_ids(&mut self, id: u64, handed: &HandedOver) {
        for (part, message_id) in (0..).zip(link_ids(handed)) {
            if !message_id.is_empty() {
                // An id that comes again is the newer message's: the peer has begun to count anew.
                let key = (handed.link.clone(), link_id_key(message_id));
                self.link_ids.put(key, LinkIdRow { id, part });
            }
        }
    }

    /// Its report is not waited for any more.
    pub(super) fn forget_link_ids(&mut self, id: u64, handed: &HandedOver) -> io::Result<()> {
        for message_id in link_ids(handed).filter(|message_id| !message_id.is_empty()) {
            let key = (handed.link.clone(), link_id_key(message_id));
            if self.link_ids.get(self.base.as_ref(), &key)?.is_some_and(|row| row.id == id) {
                self.link_ids.remove(&key);
            }
        }
        Ok(())
    }

    pub(super) fn link_part_done(&mut self, command: &model::LinkPartDone) -> io::Result<Outcome> {
        let Some(mut message) = self.messages.get(self.base.as_ref(), &command.id)? else {
            return self.gone(command.id);
        };
        let handed = Arc::make_mut(&mut message).handed.as_mut();
        let part = handed.and_then(|handed| handed.parts.get_mut(command.part as usize));
        let Some(part) = part else { return Ok(Outcome::NotFound) };
        // The first report counts.
        if part.state() == MessageState::Scheduled {
            (part.state, part.error) = (command.state, command.error);
            self.messages.put(command.id, message.clone());
        }
        Ok(Outcome::Waiting(Box::new(Arc::unwrap_or_clone(message))))
    }
}

/// The ids of a message's parts, in their order.
fn link_ids(handed: &HandedOver) -> impl Iterator<Item = &str> {
    let whole = handed.parts.is_empty().then_some(handed.remote_id.as_str());
    whole.into_iter().chain(handed.parts.iter().map(|part: &LinkPart| part.message_id.as_str()))
}

/// The spelling under which a link's message_id is kept: numbers, decimal or hexadecimal, without leading zeros and in
/// small letters, because message centres write the same one differently in a response and in a receipt; anything else
/// as it is.
pub fn link_id_key(message_id: &str) -> String {
    let number = !message_id.is_empty() && message_id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if !number {
        return message_id.to_owned();
    }
    match message_id.trim_start_matches('0') {
        "" => "0".to_owned(),
        digits => digits.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::World;
    use super::*;
    use crate::model::command::Op;
    use crate::model::{Address, AttemptDone, Finish, HandOver, LinkPartDone, Submission};

    fn apply(world: &mut World, op: Op) -> Outcome {
        world.apply(1_000, [op]).0.remove(0)
    }

    /// A message that another message centre has accepted under these ids.
    fn handed_over(world: &mut World, ids: &[&str]) -> u64 {
        let destination = Some(Address { ton: 1, npi: 1, digits: "15551".to_owned() });
        let id = world.submit(Submission { destination, expires_at_ms: 50_000, ..Default::default() });
        let part = |id: &&str| LinkPart { message_id: (*id).to_owned(), ..Default::default() };
        let handed = HandedOver {
            link: "c1".to_owned(),
            remote_id: ids[0].to_owned(),
            give_up_at_ms: 60_000,
            parts: ids.iter().map(part).collect(),
            ..Default::default()
        };
        apply(world, Op::HandOver(HandOver { id, handed: Some(handed) }));
        id
    }

    fn found(world: &World, message_id: &str) -> Option<(u64, u32)> {
        let found = world.machine.link_message("c1", &link_id_key(message_id)).unwrap();
        found.map(|(message, part)| (message.id, part))
    }

    fn delivered(world: &mut World, id: u64) -> model::FinalRecord {
        let finish = Finish { id, state: MessageState::Delivered as i32, segments: 2, ..Default::default() };
        match apply(world, Op::Finish(finish)) {
            Outcome::Finished { record } => Arc::unwrap_or_clone(record),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_receipt_finds_its_part_until_the_message_has_ended() {
        for checkpoints in [false, true] {
            let mut world = World::new();
            let id = handed_over(&mut world, &["00AB", "00ac"]);
            if checkpoints {
                world.checkpoint();
            }
            assert_eq!((found(&world, "ab"), found(&world, "0AC")), (Some((id, 0)), Some((id, 1))));
            assert_eq!(world.machine.link_message("other", "ab").unwrap(), None);
            // The first report of a part counts.
            for state in [MessageState::Delivered, MessageState::Expired] {
                apply(&mut world, Op::LinkPartDone(LinkPartDone { id, part: 1, state: state as i32, error: 0 }));
            }
            let message = world.machine.message(id).unwrap().unwrap();
            let parts = &message.handed.as_ref().unwrap().parts;
            assert_eq!((parts[0].state(), parts[1].state()), (MessageState::Scheduled, MessageState::Delivered));
            let record = delivered(&mut world, id);
            assert_eq!((record.link_message_id.as_str(), record.segments, record.cdr), ("00AB", 2, 1));
            assert_eq!((found(&world, "ab"), found(&world, "ac")), (None, None));
            world.checkpoint();
            assert_eq!(found(&world, "ab"), None);
            assert_eq!(world.machine.next_cdr(), 2);
        }
    }

    #[test]
    fn an_id_that_comes_again_is_the_newer_message_s() {
        let mut world = World::new();
        let (old, new) = (handed_over(&mut world, &["7"]), handed_over(&mut world, &["7"]));
        assert_eq!(found(&world, "7"), Some((new, 0)));
        delivered(&mut world, old);
        assert_eq!(found(&world, "7"), Some((new, 0)));
    }

    #[test]
    fn what_is_sent_again_is_known_by_its_new_id_alone() {
        let mut world = World::new();
        let id = handed_over(&mut world, &["7"]);
        apply(&mut world, Op::AttemptDone(AttemptDone { id, due_at_ms: 5_000, ..Default::default() }));
        assert_eq!(found(&world, "7"), None);
        assert!(world.machine.message(id).unwrap().unwrap().handed.is_none());
    }

    #[test]
    fn records_are_numbered_without_gaps() {
        let mut world = World::new();
        for number in 1..=3 {
            let id = handed_over(&mut world, &["1"]);
            assert_eq!(delivered(&mut world, id).cdr, number);
            // A second end is none.
            assert!(matches!(
                apply(&mut world, Op::Finish(Finish { id, ..Default::default() })),
                Outcome::AlreadyFinal(_)
            ));
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        for (text, key) in [("00AB", "ab"), ("0", "0"), ("000", "0"), ("Msg-1", "Msg-1"), ("", ""), ("7", "7")] {
            assert_eq!(link_id_key(text), key);
        }
    }
}
