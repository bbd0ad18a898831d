//! The count of waiting messages is the number of messages that wait, and at rest that is none.
//!
//! It is kept, not counted, because operators look at it every second; a drift would never heal.

use super::{Invariant, Seen, read};

/// Counted at every entry whose index is a multiple of this.
const EVERY: u64 = 16;

pub(super) struct WaitingCount;

impl Invariant for WaitingCount {
    fn name(&self) -> &'static str {
        "the count of waiting messages is right"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        let machine = match seen {
            Seen::Applied { index, machine, .. } if index % EVERY == 0 => machine,
            Seen::Settled { machine, .. } => machine,
            _ => return Ok(()),
        };
        let waiting = read(machine.messages_from(0, usize::MAX))?.len() as u64;
        if machine.waiting_count() != waiting {
            return Err(format!("{} instead of {waiting}", machine.waiting_count()));
        }
        match seen {
            Seen::Settled { .. } if waiting > 0 => Err(format!("{waiting} messages wait at rest")),
            _ => Ok(()),
        }
    }
}
