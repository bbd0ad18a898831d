//! A submission is stored once if it was acknowledged, never if it was refused, once at most if that is unknown; and
//! under the id that the ESME was told.

use std::collections::BTreeMap;

use smsc_raft::model::command::Op;
use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen};
use crate::oracle::{Answer, tag};

#[derive(Default)]
pub(super) struct StoredOnce(BTreeMap<usize, u64>);

impl Invariant for StoredOnce {
    fn name(&self) -> &'static str {
        "an acknowledged submission is stored once, under the id that was told"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { entry, outcomes, .. } => {
                let Some(batch) = &entry.batch else { return Ok(()) };
                for (command, outcome) in batch.commands.iter().zip(*outcomes) {
                    let (Some(Op::Submit(submit)), Outcome::Stored(id)) = (&command.op, outcome) else { continue };
                    let text = submit.submission.as_ref().map(|submission| &submission.short_message);
                    if let Some(tag) = text.and_then(|text| tag(text))
                        && let Some(before) = self.0.insert(tag, *id)
                    {
                        return Err(format!("submission {tag} is stored as {before} and as {id}"));
                    }
                }
                Ok(())
            }
            Seen::Settled { oracle, .. } => {
                for (tag, asked) in oracle.submissions().iter().enumerate() {
                    let stored = self.0.get(&tag);
                    let right = match asked.answer {
                        Answer::Acked(id) => stored == Some(&id),
                        Answer::Refused => stored.is_none(),
                        Answer::Unknown | Answer::Pending => true,
                    };
                    if !right {
                        return Err(format!("submission {tag} was answered {:?}, stored as {stored:?}", asked.answer));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
