//! One leader acts per term, and nothing of a deposed one is recorded.
//!
//! Every committed entry is of its term's leader, terms do not go back, and what a message centre accepts was committed
//! before it said so.

use std::collections::{BTreeMap, BTreeSet};

use smsc_raft::outcome::Outcome;

use super::{Invariant, Seen};

#[derive(Default)]
pub(super) struct OneLeader {
    leaders: BTreeMap<u64, usize>,
    index: u64,
    term: u64,
    stored: BTreeSet<u64>,
}

impl Invariant for OneLeader {
    fn name(&self) -> &'static str {
        "one leader acts per term"
    }

    fn see(&mut self, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Elected { node, term } => {
                if let Some(other) = self.leaders.insert(*term, *node) {
                    return Err(format!("{other} and {node} lead in term {term}"));
                }
            }
            Seen::Committed { index, entry, outcomes, .. } => {
                if *index != self.index + 1 {
                    return Err(format!("entry {index} is committed after {}", self.index));
                }
                if entry.term < self.term {
                    return Err(format!("entry {index} of term {} is committed after {}", entry.term, self.term));
                }
                if self.leaders.get(&entry.term) != Some(&entry.leader) {
                    return Err(format!("entry {index} is of {}, who does not lead in {}", entry.leader, entry.term));
                }
                (self.index, self.term) = (*index, entry.term);
                self.stored.extend(outcomes.iter().filter_map(|outcome| match outcome {
                    Outcome::Stored(id) => Some(*id),
                    _ => None,
                }));
            }
            Seen::Accepted { id, tag } if !self.stored.contains(id) => {
                return Err(format!("submission {tag} is accepted as {id} before that is committed"));
            }
            _ => {}
        }
        Ok(())
    }
}
