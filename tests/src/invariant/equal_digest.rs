//! Equal index, equal state: on every node, whatever lies in its overlay and what in its checkpoints.
//!
//! A node that comes to another state than its peers loses or doubles messages the day it leads. Digests read the whole
//! state, so they are taken at every so many entries, at restarts and at rest.

use std::collections::BTreeMap;

use super::{Invariant, Seen, read};

/// A digest is taken of every entry whose index is a multiple of this.
const EVERY: u64 = 24;

#[derive(Default)]
pub(super) struct EqualDigest(BTreeMap<u64, u32>);

impl Invariant for EqualDigest {
    fn name(&self) -> &'static str {
        "equal index, equal digest"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Committed { index, machine, .. } if index % EVERY == 0 => {
                self.0.insert(*index, read(machine.digest())?);
                Ok(())
            }
            Seen::Applied { node, index, machine } if index % EVERY == 0 => {
                let digest = read(machine.digest())?;
                match self.0.get(index) {
                    Some(expected) if *expected == digest => Ok(()),
                    Some(expected) => Err(format!("node {node} at {index} has {digest:08x}, not {expected:08x}")),
                    None => Err(format!("node {node} applied {index}, which is not committed")),
                }
            }
            _ => Ok(()),
        }
    }
}
