//! A message comes to its end once, in one state, with one stored receipt at most.
//!
//! A second final state is a lie to whoever read the first; a second stored receipt is billed twice.

use std::collections::BTreeMap;

use smsc_raft::machine::Change;
use smsc_raft::model::MessageKind;
use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct OneFinal {
    finals: BTreeMap<u64, i32>,
    receipts: BTreeMap<u64, u64>,
}

impl Invariant for OneFinal {
    fn name(&self) -> &'static str {
        "one final state and one stored receipt at most"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Committed { outcomes, changes, .. } = seen else { return Ok(()) };
        for outcome in *outcomes {
            match outcome {
                Outcome::Finished { record } => {
                    if let Some(before) = self.finals.insert(record.id, record.state) {
                        return Err(format!("{} ended in {before} and again in {}", record.id, record.state));
                    }
                }
                Outcome::AlreadyFinal(record) if self.finals.get(&record.id) != Some(&record.state) => {
                    return Err(format!("{} is told to have ended in {}, which it did not", record.id, record.state));
                }
                _ => {}
            }
        }
        for change in *changes {
            let Change::Queued { message, .. } = change else { continue };
            let Some(submission) = &message.submission else { continue };
            if submission.kind() != MessageKind::Receipt {
                continue;
            }
            let reports_on = submission.receipt_for;
            if let Some(before) = self.receipts.insert(reports_on, message.id) {
                return Err(format!("receipts {before} and {} are stored for {reports_on}", message.id));
            }
        }
        Ok(())
    }
}
