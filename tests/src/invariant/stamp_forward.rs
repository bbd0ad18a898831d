//! The log's time never goes back, on no node, whatever the leaders' clocks do.
//!
//! Due times and validity are told in it: were it to go back, what is due would wait for nothing.

use std::collections::BTreeMap;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct StampForward(BTreeMap<usize, u64>);

impl Invariant for StampForward {
    fn name(&self) -> &'static str {
        "the log's time never goes back"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Restarted { node, machine } => drop(self.0.insert(*node, machine.stamp_ms())),
            Seen::Applied { node, machine, index } => {
                let stamp_ms = machine.stamp_ms();
                if let Some(before) = self.0.insert(*node, stamp_ms).filter(|before| *before > stamp_ms) {
                    return Err(format!("node {node}: from {before} to {stamp_ms} by entry {index}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
