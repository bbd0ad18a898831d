//! The rules by which nodes agree: who leads, what is committed, until when a leader may act.
//!
//! Elections are decided by the world as a whole, with the rules of Raft: a majority that hears the candidate, has no
//! newer log than it, and is bound by no promise to another leader.

use std::sync::Arc;

use super::cluster::SimCluster;
use super::log::Entry;
use super::net::{NodeMessage, SharedBase};
use super::node::Leading;
use crate::invariant::Seen;

/// How long a leader may act after the last message that a majority has answered.
pub const LEASE_MS: u64 = 150;
const HEARTBEAT_MS: u64 = 30;
/// Entries of one message.
const ENTRIES_MAX: usize = 64;

impl SimCluster {
    fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }

    /// Tries to make `candidate` the leader. `known_dead` frees everybody from their promise to the leader before.
    pub(super) fn elect(&mut self, candidate: usize, known_dead: bool) -> bool {
        let now_ms = self.world.now_ms();
        if !self.nodes[candidate].runs() {
            return false;
        }
        let newest = self.nodes[candidate].log.last();
        let grants = |voter: &usize| {
            let node = &self.nodes[*voter];
            let free = known_dead || node.promised_ms <= now_ms;
            let leads = node.leading.as_ref().is_some_and(|leading| leading.lease_ms > now_ms && !leading.retired);
            node.runs()
                && self.world.net.reaches(candidate, *voter)
                && node.log.last() <= newest
                && (*voter == candidate || (free && !leads))
        };
        let voters: Vec<usize> = (0..self.nodes.len()).filter(grants).collect();
        if voters.len() < self.majority() || !voters.contains(&candidate) {
            return false;
        }
        self.term += 1;
        let term = self.term;
        for voter in voters {
            self.hear_of_term(voter, term);
        }
        self.world.tell(|| format!("node {candidate} leads in term {term}"));
        self.world.see(&Seen::Elected { node: candidate, term });
        if self.world.chance.one_in(3) {
            self.world.clock.jump(candidate, &mut self.world.chance);
        }
        let count = self.nodes.len();
        let node = &mut self.nodes[candidate];
        let next = node.log.last_index() + 1;
        node.leading = Some(Leading {
            term,
            first: next,
            matched: vec![0; count],
            next: vec![next; count],
            heard_ms: vec![now_ms; count],
            lease_ms: now_ms,
            heartbeat_ms: now_ms,
            retired: false,
        });
        // Nobody has answered yet: heard_ms of the others counts from their first answer on.
        if let Some(leading) = &mut node.leading {
            leading.heard_ms.iter_mut().for_each(|heard_ms| *heard_ms = now_ms.saturating_sub(LEASE_MS));
        }
        self.append(candidate, Entry { term, leader: candidate, batch: None });
        true
    }

    /// A node learns of a term; if it led in an older one, that is over.
    pub(super) fn hear_of_term(&mut self, id: usize, term: u64) {
        let node = &mut self.nodes[id];
        if term <= node.term {
            return;
        }
        node.term = term;
        node.leading = None;
        self.disengage(id);
    }

    /// A leader writes an entry and sends it on.
    pub(super) fn append(&mut self, id: usize, entry: Entry) -> u64 {
        let now_ms = self.world.now_ms();
        let flush_ms = now_ms + self.world.chance.between(0, 3);
        let node = &mut self.nodes[id];
        let term = entry.term;
        let index = node.log.append(entry);
        let (epoch, committed) = (node.epoch, node.log.committed());
        let flushed = NodeMessage::Flushed { epoch, term, index, leader: id, sent_ms: now_ms, committed };
        self.world.net.put(flush_ms, id, flushed);
        self.replicate(id);
        index
    }

    /// Sends to every other node what it lacks, or a sign of life.
    pub(super) fn replicate(&mut self, id: usize) {
        let now_ms = self.world.now_ms();
        for to in 0..self.nodes.len() {
            let node = &mut self.nodes[id];
            let Some(leading) = &mut node.leading else { return };
            leading.heartbeat_ms = now_ms + HEARTBEAT_MS;
            if to == id {
                continue;
            }
            let previous = leading.next[to] - 1;
            let mut entries = node.log.behind(previous);
            entries.truncate(ENTRIES_MAX);
            leading.next[to] += entries.len() as u64;
            let term_before = node.log.term_at(previous).unwrap_or_default();
            let append = NodeMessage::Append {
                term: leading.term,
                leader: id,
                previous: (term_before, previous),
                entries,
                committed: node.log.committed(),
                sent_ms: now_ms,
            };
            self.world.net.send(now_ms, id, to, append, &mut self.world.chance);
        }
    }

    /// A node hears something.
    pub(super) fn hear(&mut self, id: usize, message: NodeMessage) {
        match message {
            NodeMessage::Append { term, leader, previous, entries, committed, sent_ms } => {
                if self.follows(id, term, leader) {
                    self.hear_append(id, term, leader, previous, &entries, committed, sent_ms);
                }
            }
            NodeMessage::Snapshot { term, leader, base, entries } => {
                if self.follows(id, term, leader) {
                    self.hear_snapshot(id, term, leader, &base, &entries);
                }
            }
            NodeMessage::Flushed { epoch, term, index, leader, sent_ms, committed } => {
                let node = &mut self.nodes[id];
                if epoch != node.epoch || term != node.term {
                    return;
                }
                node.log.flushed(index);
                node.log.commit(committed.min(index));
                let appended = NodeMessage::Appended { term, from: id, index, sent_ms };
                if leader == id {
                    self.hear(id, appended);
                } else {
                    self.answer(id, leader, appended);
                }
            }
            NodeMessage::Appended { term, from, index, sent_ms } => self.hear_appended(id, term, from, index, sent_ms),
            NodeMessage::Missing { term, from, matched } => self.hear_missing(id, term, from, matched),
            NodeMessage::Deposed { term } => self.hear_of_term(id, term),
        }
    }

    fn answer(&mut self, from: usize, to: usize, message: NodeMessage) {
        self.world.net.send(self.world.now_ms(), from, to, message, &mut self.world.chance);
    }

    /// Whether the sender leads, as far as this node knows.
    fn follows(&mut self, id: usize, term: u64, leader: usize) -> bool {
        if term < self.nodes[id].term {
            let term = self.nodes[id].term;
            self.answer(id, leader, NodeMessage::Deposed { term });
            return false;
        }
        self.hear_of_term(id, term);
        self.nodes[id].promised_ms = self.world.now_ms() + LEASE_MS;
        true
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of one message")]
    fn hear_append(
        &mut self,
        id: usize,
        term: u64,
        leader: usize,
        (term_before, previous): (u64, u64),
        entries: &[Arc<Entry>],
        committed: u64,
        sent_ms: u64,
    ) {
        let now_ms = self.world.now_ms();
        let node = &mut self.nodes[id];
        if node.log.term_at(previous) != Some(term_before) {
            let matched = node.log.committed();
            return self.answer(id, leader, NodeMessage::Missing { term, from: id, matched });
        }
        if let Err(index) = node.log.accept(previous, entries) {
            return self.world.fail(format!("node {id} is told to overwrite entry {index}, which is committed"));
        }
        let index = previous + entries.len() as u64;
        let flush_ms = now_ms + if entries.is_empty() { 0 } else { self.world.chance.between(0, 5) };
        let flushed = NodeMessage::Flushed { epoch: node.epoch, term, index, leader, sent_ms, committed };
        self.world.net.put(flush_ms, id, flushed);
    }

    fn hear_snapshot(&mut self, id: usize, term: u64, leader: usize, base: &SharedBase, entries: &[Arc<Entry>]) {
        let node = &mut self.nodes[id];
        let index = entries.len() as u64;
        if index > node.log.committed() {
            self.world.tell(|| format!("node {id} takes a snapshot at {index}"));
            if let Err(index) = node.log.install(entries) {
                return self.world.fail(format!("node {id} is told to overwrite entry {index}, which is committed"));
            }
            if let Err(error) = node.install(base.0.clone(), index) {
                return self.world.fail(format!("node {id} cannot open its snapshot: {error}"));
            }
            self.world.see(&Seen::Restarted { node: id, machine: &self.nodes[id].machine });
        }
        let matched = self.nodes[id].log.committed();
        self.answer(id, leader, NodeMessage::Missing { term, from: id, matched });
    }

    fn hear_appended(&mut self, id: usize, term: u64, from: usize, index: u64, sent_ms: u64) {
        let majority = self.majority();
        let now_ms = self.world.now_ms();
        let node = &mut self.nodes[id];
        let Some(leading) = node.leading.as_mut().filter(|leading| leading.term == term) else { return };
        leading.matched[from] = leading.matched[from].max(index);
        leading.heard_ms[from] = leading.heard_ms[from].max(sent_ms);
        leading.heard_ms[id] = now_ms;
        let mut heard_ms = leading.heard_ms.clone();
        heard_ms.sort_unstable_by(|a, b| b.cmp(a));
        leading.lease_ms = leading.lease_ms.max(heard_ms[majority - 1] + LEASE_MS);
        let mut matched = leading.matched.clone();
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let everywhere = matched[majority - 1];
        if everywhere > node.log.committed() && node.log.term_at(everywhere) == Some(term) {
            node.log.commit(everywhere);
            self.committed(id);
        }
    }

    fn hear_missing(&mut self, id: usize, term: u64, from: usize, matched: u64) {
        let node = &mut self.nodes[id];
        let Some(leading) = node.leading.as_mut().filter(|leading| leading.term == term) else { return };
        leading.next[from] = matched + 1;
        if node.base_index > matched && self.world.chance.one_in(2) {
            let entries = node.log.up_to(node.base_index);
            let snapshot = NodeMessage::Snapshot { term, leader: id, base: SharedBase(node.base.clone()), entries };
            self.answer(id, from, snapshot);
        }
    }
}
