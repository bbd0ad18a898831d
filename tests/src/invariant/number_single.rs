//! One message at a time is under way to a number.
//!
//! A phone takes one at a time; a second that overtakes a failing first breaks the order. Under way means: sent, until
//! the handset has answered and what came of it is recorded.

use std::collections::BTreeMap;

use smsc_raft::machine::Change;

use super::{Invariant, Seen, Serving};

struct UnderWay {
    id: u64,
    answered: bool,
    recorded: bool,
}

#[derive(Default)]
pub(super) struct NumberSingle {
    serving: Option<Serving>,
    numbers: BTreeMap<(Serving, String), UnderWay>,
    by_id: BTreeMap<(Serving, u64), String>,
}

impl NumberSingle {
    fn find(&mut self, serving: Serving, id: u64) -> Option<&mut UnderWay> {
        let number = self.by_id.get(&(serving, id))?;
        self.numbers.get_mut(&(serving, number.clone())).filter(|under_way| under_way.id == id)
    }
}

impl Invariant for NumberSingle {
    fn name(&self) -> &'static str {
        "one message at a time is under way to a number"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Told { serving, change, .. } => {
                let id = match change {
                    Change::Finished { id, .. } => *id,
                    Change::Retry(message) => message.id,
                    _ => return Ok(()),
                };
                if let Some(under_way) = self.find(*serving, id) {
                    under_way.recorded = true;
                }
            }
            Seen::Ended { serving, id, .. } => {
                if let Some(under_way) = self.find(*serving, *id) {
                    under_way.answered = true;
                }
            }
            Seen::Sent { serving, queue, message, .. } if !queue.is_esme() => {
                self.serving = Some(*serving);
                let (id, number) = (message.id, queue.key.to_string());
                self.by_id.insert((*serving, id), number.clone());
                let sent = UnderWay { id, answered: false, recorded: false };
                if let Some(first) = self.numbers.insert((*serving, number), sent)
                    && !(first.answered && first.recorded)
                {
                    return Err(format!("{id} is sent to {} while {} is under way", queue.key, first.id));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
