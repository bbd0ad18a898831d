//! An acknowledged submission exists under every later term.
//!
//! This is the promise of the whole product: the ESME has dropped its copy. A leader that serves must know every
//! acknowledged id, waiting or final, unless its record was old enough for a purge; at rest each must have come to its
//! end.

use std::collections::BTreeMap;

use smsc_raft::model::command::Op;
use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen, read};

#[derive(Default)]
pub(super) struct AckedSurvives {
    finals: BTreeMap<u64, u64>,
    purged_before_ms: u64,
}

impl Invariant for AckedSurvives {
    fn name(&self) -> &'static str {
        "an acknowledged submission exists under every later term"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let (machine, oracle, at_rest) = match seen {
            Seen::Serves { machine, oracle, .. } => (machine, oracle, false),
            Seen::Settled { machine, oracle } => (machine, oracle, true),
            Seen::Committed { entry, outcomes, .. } => {
                for command in entry.batch.iter().flat_map(|batch| &batch.commands) {
                    if let Some(Op::Purge(purge)) = &command.op {
                        self.purged_before_ms = self.purged_before_ms.max(purge.final_before_ms);
                    }
                }
                for outcome in *outcomes {
                    if let Outcome::Finished { record } = outcome {
                        self.finals.insert(record.id, record.final_at_ms);
                    }
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        for (id, tag) in oracle.acked() {
            if self.finals.get(&id).is_some_and(|at_ms| *at_ms < self.purged_before_ms) {
                continue;
            }
            if read(machine.final_record(id))?.is_some() {
                continue;
            }
            match read(machine.message(id))? {
                None => return Err(format!("submission {tag} was acknowledged as {id}, which nobody knows")),
                Some(_) if at_rest => return Err(format!("message {id} of submission {tag} never came to its end")),
                Some(_) => {}
            }
        }
        Ok(())
    }
}
