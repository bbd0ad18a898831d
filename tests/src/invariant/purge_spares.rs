//! A purge drops what is old enough and nothing else, and does get to all of it.
//!
//! Too early, and a query after the fact finds nothing; never, and the store grows for ever.

use std::collections::BTreeMap;

use smsc_raft::model::command::Op;
use smsc_raft::model::{MessageKind, MessageState};
use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen, read};

#[derive(Default)]
pub(super) struct PurgeSpares {
    /// When what is kept came to its end.
    kept: BTreeMap<u64, u64>,
}

impl Invariant for PurgeSpares {
    fn name(&self) -> &'static str {
        "a purge drops what is old enough, and only that"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { entry, outcomes, .. } => {
                for command in entry.batch.iter().flat_map(|batch| &batch.commands) {
                    if let Some(Op::Purge(purge)) = &command.op {
                        self.kept.retain(|_, final_at_ms| *final_at_ms >= purge.final_before_ms);
                    }
                }
                for outcome in *outcomes {
                    let Outcome::Finished { record } = outcome else { continue };
                    let untold = matches!(record.kind(), MessageKind::Receipt | MessageKind::Alert)
                        && record.state() == MessageState::Delivered;
                    if !untold {
                        self.kept.insert(record.id, record.final_at_ms);
                    }
                }
                Ok(())
            }
            Seen::Settled { machine, .. } => {
                let found = read(machine.newest_finals(None, usize::MAX))?;
                let found: Vec<u64> = found.iter().rev().map(|record| record.id).collect();
                let kept: Vec<u64> = self.kept.keys().copied().collect();
                if found == kept {
                    return Ok(());
                }
                let lost = kept.iter().find(|id| !found.contains(id));
                let left = found.iter().find(|id| !kept.contains(id));
                Err(format!("dropped too early: {lost:?}, not dropped: {left:?}"))
            }
            _ => Ok(()),
        }
    }
}
