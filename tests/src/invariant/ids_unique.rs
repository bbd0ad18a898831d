//! No id is used twice, across leaders and restarts.
//!
//! An ESME keys its records by the id; a second message under it would overwrite the first. Ids rise with the log, so
//! the order of acceptance can be read from them.

use smsc_raft::model::command::Op;
use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct IdsUnique {
    last: u64,
}

impl IdsUnique {
    fn take(&mut self, id: u64) -> Result<(), String> {
        if id <= self.last {
            return Err(format!("id {id} was given after {}", self.last));
        }
        self.last = id;
        Ok(())
    }
}

impl Invariant for IdsUnique {
    fn name(&self) -> &'static str {
        "no id is used twice"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Committed { entry, outcomes, .. } = seen else { return Ok(()) };
        let Some(batch) = &entry.batch else { return Ok(()) };
        for (command, outcome) in batch.commands.iter().zip(*outcomes) {
            match (&command.op, outcome) {
                (Some(Op::Submit(_)), Outcome::Stored(id)) => self.take(*id)?,
                (_, Outcome::Finished { record }) if record.receipt_id > 0 => self.take(record.receipt_id)?,
                _ => {}
            }
        }
        Ok(())
    }
}
