//! Messages to one number leave in order: the higher priority first, within a priority as they were accepted.
//!
//! The parts of a long text, and one code that replaces another, must not overtake each other. Looked at with what each
//! engine found when it began and was told since; what has expired, or has left its queue without the engine being told
//! yet, is not in the way.

use std::collections::{BTreeMap, BTreeSet};

use smsc_raft::machine::keys::WaitingKey;
use smsc_raft::machine::{Change, Machine};
use smsc_raft::model::Message;

use super::{Invariant, Seen, Serving, read};

#[derive(Default)]
struct View {
    /// Place and end of validity of what waits for numbers.
    waiting: BTreeMap<WaitingKey, u64>,
    places: BTreeMap<u64, WaitingKey>,
}

impl View {
    fn of(machine: &Machine) -> Result<Self, String> {
        let mut view = Self::default();
        for (key, _) in read(machine.due_queues(None, u64::MAX, usize::MAX))? {
            for message in read(machine.queue_messages(&key.queue, None, usize::MAX))? {
                view.waits(&message);
            }
        }
        Ok(view)
    }

    fn waits(&mut self, message: &Message) {
        self.left(message.id);
        let Some(submission) = &message.submission else { return };
        let place = WaitingKey::of(message.id, submission);
        if !place.queue.is_esme() {
            self.waiting.insert(place.clone(), submission.expires_at_ms);
            self.places.insert(message.id, place);
        }
    }

    fn left(&mut self, id: u64) {
        if let Some(place) = self.places.remove(&id) {
            self.waiting.remove(&place);
        }
    }
}

#[derive(Default)]
pub(super) struct NumberOrder {
    views: BTreeMap<Serving, View>,
    /// Left their queues, whoever knows.
    left: BTreeSet<u64>,
}

impl Invariant for NumberOrder {
    fn name(&self) -> &'static str {
        "messages to one number leave in order"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { changes, .. } => {
                for change in *changes {
                    match change {
                        Change::Queued { message, .. } | Change::Replaced(message) => {
                            self.left.remove(&message.id);
                        }
                        // For good, or until its time comes.
                        Change::Finished { id, .. } => drop(self.left.insert(*id)),
                        _ => {}
                    }
                }
            }
            Seen::Serves { serving, machine, .. } => drop(self.views.insert(*serving, View::of(machine)?)),
            Seen::Told { serving, change, .. } => {
                let Some(view) = self.views.get_mut(serving) else { return Ok(()) };
                match change {
                    Change::Queued { message, .. } | Change::Replaced(message) => view.waits(message),
                    Change::Finished { id, .. } => view.left(*id),
                    _ => {}
                }
            }
            Seen::Sent { serving, now_ms, queue, message, .. } if !queue.is_esme() => {
                let (Some(view), Some(submission)) = (self.views.get(serving), &message.submission) else {
                    return Ok(());
                };
                let place = WaitingKey::of(message.id, submission);
                let first = WaitingKey { queue: (*queue).clone(), rank: 0, id: 0 };
                let expired = |at_ms: u64| at_ms > 0 && at_ms <= *now_ms;
                let mut in_front = view.waiting.range(first..place);
                if let Some((first, _)) = in_front.find(|(at, until)| !expired(**until) && !self.left.contains(&at.id))
                {
                    return Err(format!("{} is sent to {} before {}", message.id, queue.key, first.id));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
