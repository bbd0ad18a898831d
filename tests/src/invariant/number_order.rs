//! Messages to one number leave in order: the higher priority first, within a priority as they were accepted.
//!
//! The parts of a long text, and one code that replaces another, must not overtake each other. Looked at with what the
//! engine was told; what has expired is not in the way.

use std::collections::BTreeMap;

use smsc_raft::machine::Change;
use smsc_raft::machine::keys::{QueueKey, WaitingKey};
use smsc_raft::model::Message;
use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen};

struct Waits {
    place: WaitingKey,
    since: u64,
    until: u64,
    expires_at_ms: u64,
}

#[derive(Default)]
pub(super) struct NumberOrder {
    messages: BTreeMap<u64, Waits>,
    /// Those that wait, or waited until lately, by queue.
    queues: BTreeMap<QueueKey, Vec<u64>>,
}

impl NumberOrder {
    fn waits(&mut self, index: u64, message: &Message) {
        let Some(submission) = &message.submission else { return };
        let place = WaitingKey::of(message.id, submission);
        if place.queue.is_esme() {
            return;
        }
        let queue = self.queues.entry(place.queue.clone()).or_default();
        if !queue.contains(&message.id) {
            queue.push(message.id);
        }
        let expires_at_ms = submission.expires_at_ms;
        self.messages.insert(message.id, Waits { place, since: index, until: u64::MAX, expires_at_ms });
    }
}

impl Invariant for NumberOrder {
    fn name(&self) -> &'static str {
        "messages to one number leave in order"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { index, outcomes, changes, .. } => {
                for change in *changes {
                    match change {
                        Change::Queued(message) | Change::Replaced(message) => self.waits(*index, message),
                        // Left its queue, for good or until its time comes.
                        Change::Finished { id, .. } => {
                            if let Some(waits) = self.messages.get_mut(id) {
                                waits.until = *index;
                            }
                        }
                        _ => {}
                    }
                }
                for outcome in *outcomes {
                    if let Outcome::Finished { record } = outcome
                        && let Some(waits) = self.messages.get_mut(&record.id)
                    {
                        waits.until = *index;
                    }
                }
                Ok(())
            }
            Seen::Sent { told, now_ms, queue, message, .. } if !queue.is_esme() => {
                let Some(submission) = &message.submission else { return Ok(()) };
                let place = WaitingKey::of(message.id, submission);
                let in_front = |waits: &&Waits| {
                    let expired = waits.expires_at_ms > 0 && waits.expires_at_ms <= *now_ms;
                    waits.place < place && waits.since <= *told && waits.until > *told && !expired
                };
                let others = self.queues.get(*queue).into_iter().flatten();
                match others.filter_map(|id| self.messages.get(id)).find(in_front) {
                    Some(first) => Err(format!("{} is sent to {} before {}", message.id, queue.key, first.place.id)),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}
