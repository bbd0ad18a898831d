//! A message is never sent after its end, nor again after the other side took it.
//!
//! The duplicate contract allows a second delivery only when the node died between sending and recording. So within one
//! engine's life there is none after a positive answer, and no engine sends what it was told is final.

use std::collections::{BTreeMap, BTreeSet};

use smsc_raft::machine::Change;
use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen, Serving};

#[derive(Default)]
pub(super) struct NoRepeat {
    finals: BTreeMap<u64, u64>,
    taken: BTreeSet<(Serving, u64)>,
}

impl Invariant for NoRepeat {
    fn name(&self) -> &'static str {
        "no message is sent after its end or after it was taken"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { index, outcomes, .. } => {
                for outcome in *outcomes {
                    if let Outcome::Finished { record } = outcome {
                        self.finals.insert(record.id, *index);
                    }
                }
            }
            // Replaced and put off while it was under way: what is delivered then is another text.
            Seen::Told { serving, change: Change::Queued { message, .. }, .. } => {
                self.taken.remove(&(*serving, message.id));
            }
            Seen::Ended { serving, id, delivered: true } => {
                self.taken.insert((*serving, *id));
            }
            Seen::Sent { serving, told, message, .. } => {
                let id = message.id;
                if let Some(index) = self.finals.get(&id).filter(|index| *index <= told) {
                    return Err(format!("{id} is sent by {serving:?}, final since entry {index}, told up to {told}"));
                }
                if self.taken.contains(&(*serving, id)) {
                    return Err(format!("{id} is sent again by {serving:?} though it was taken"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
