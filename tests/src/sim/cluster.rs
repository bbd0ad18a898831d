//! The whole world: nodes, their leader, ESMEs, faults; and the time that drives them.

use std::io;
use std::sync::Arc;

use smsc_proto::types::BindMode;
use smsc_raft::machine::Machine;
use smsc_raft::machine::base::MemoryBase;
use smsc_raft::model::{Command, Purge, command::Op};

use super::esme::Esme;
use super::log::Entry;
use super::node::{Life, SimNode, apply};
use super::operator::{self, ACCOUNTS};
use super::serving::Engaged;
use super::world::World;
use crate::invariant::{Seen, Serving};

/// How long things go wrong.
const FAULTS_MS: (u64, u64) = (2_000, 9_000);
/// How long everything may take to settle then: the longest validity, retries, the ESMEs' response timers.
const SETTLE_MS: u64 = 60_000;
/// Purges of a world at rest until nothing may be left.
const LAST_PURGES: usize = 3;

/// See the [module](self).
pub struct SimCluster {
    pub(super) world: World,
    pub(super) nodes: Vec<SimNode>,
    pub(super) esmes: Vec<Esme>,
    pub(super) term: u64,
    pub(super) election_ms: u64,
    /// The leader is known to be gone: nobody is bound by a promise to it.
    pub(super) known_dead: bool,
    pub(super) fault_ms: u64,
    /// Everything that is committed, applied by a machine that never makes a checkpoint nor restarts.
    reference: Machine,
    history: Vec<Arc<Entry>>,
    engagements: u64,
    set_up: bool,
    repaired: bool,
    last_purges: usize,
}

impl SimCluster {
    /// The world of this seed.
    ///
    /// # Errors
    /// A machine cannot be opened.
    pub fn new(seed: u64) -> io::Result<Self> {
        let count = if seed % 5 == 4 { 5 } else { 3 };
        let mut world = World::new(seed, count);
        let nodes = (0..count).map(|_| SimNode::new()).collect::<io::Result<Vec<_>>>()?;
        let modes = [BindMode::Transceiver, BindMode::Transceiver, BindMode::Transmitter, BindMode::Receiver];
        let account = |at: usize| at % ACCOUNTS.len();
        let extra = world.chance.index(modes.len());
        let esmes = (0..ACCOUNTS.len()).map(|at| Esme::new(at, BindMode::Transceiver));
        let esmes = esmes.chain((0..=extra).map(|at| Esme::new(account(at), modes[at]))).collect();
        Ok(Self {
            world,
            nodes,
            esmes,
            term: 0,
            election_ms: 0,
            known_dead: false,
            fault_ms: 500,
            reference: Machine::open(Arc::new(MemoryBase::default()))?,
            history: Vec::new(),
            engagements: 0,
            set_up: false,
            repaired: false,
            last_purges: 0,
        })
    }

    /// Lets things go wrong for a while, then everything settle. Returns how many entries were committed.
    ///
    /// # Errors
    /// What property was broken, with the last steps of the story.
    pub fn run(mut self) -> Result<u64, String> {
        let faults_ms = self.world.chance.between(FAULTS_MS.0, FAULTS_MS.1);
        loop {
            if let Err(error) = self.step() {
                self.world.fail(format!("a machine cannot be read: {error}"));
            }
            if let Some(failure) = self.world.failure() {
                return Err(failure);
            }
            let now_ms = self.world.now_ms();
            if self.world.calm && self.is_settled() {
                self.at_rest();
                return self.world.failure().map_or(Ok(self.history.len() as u64), Err);
            }
            if !self.world.calm && now_ms >= faults_ms {
                self.end_faults();
            }
            if now_ms > faults_ms + SETTLE_MS {
                self.world.fail(format!("nothing comes to rest: {}", self.unrest()));
            }
            let next_ms = self.next_ms().max(now_ms + 1).min(now_ms + 100);
            self.world.clock.advance_to(next_ms);
        }
    }

    fn next_ms(&self) -> u64 {
        let mut next = self.world.net.next_ms().unwrap_or(u64::MAX).min(self.election_ms);
        if !self.world.calm {
            next = next.min(self.fault_ms);
        }
        for node in &self.nodes {
            next = next.min(match node.life {
                Life::Running => node.checkpoint_ms,
                Life::Dead { until_ms } | Life::Frozen { until_ms, .. } => until_ms,
            });
            if let Some(leading) = node.leading.as_ref().filter(|_| node.runs()) {
                next = next.min(leading.heartbeat_ms).min(if node.engaged.is_some() {
                    leading.lease_ms
                } else {
                    u64::MAX
                });
            }
            if let Some(engaged) = node.engaged.as_ref().filter(|_| node.runs()) {
                next = next.min(engaged.next_ms(&self.world));
            }
        }
        self.esmes.iter().fold(next, |next, esme| next.min(esme.next_ms(&self.world)))
    }

    fn step(&mut self) -> io::Result<()> {
        let now_ms = self.world.now_ms();
        self.revive()?;
        if !self.world.calm && self.fault_ms <= now_ms {
            self.next_fault();
        }
        while let Some((to, message)) = self.world.net.take(now_ms) {
            match self.nodes[to].life {
                Life::Running => self.hear(to, message),
                Life::Frozen { until_ms, .. } => self.world.net.put(until_ms.max(now_ms + 1), to, message),
                Life::Dead { .. } => {}
            }
        }
        self.hold_elections();
        for id in 0..self.nodes.len() {
            if self.nodes[id].runs() {
                self.node_step(id)?;
            }
        }
        for at in 0..self.esmes.len() {
            if self.esmes[at].wants_connection(now_ms) {
                self.connect(at);
            }
            self.esmes[at].step(&mut self.world);
        }
        Ok(())
    }

    /// Processes that were dead or frozen go on.
    fn revive(&mut self) -> io::Result<()> {
        let now_ms = self.world.now_ms();
        for id in 0..self.nodes.len() {
            let node = &mut self.nodes[id];
            match node.life {
                Life::Dead { until_ms } if until_ms <= now_ms => {
                    node.life = Life::Running;
                    node.restart()?;
                    // It does not know what it promised: it waits as long as it may have.
                    node.promised_ms = now_ms + super::raft::LEASE_MS;
                    self.world.tell(|| format!("node {id} starts"));
                    self.world.see(&Seen::Restarted { node: id, machine: &self.nodes[id].machine });
                }
                Life::Frozen { since_ms, until_ms, clock_stood } if until_ms <= now_ms => {
                    node.life = Life::Running;
                    if clock_stood && let Some(leading) = &mut node.leading {
                        leading.lease_ms += now_ms - since_ms;
                    }
                    self.world.tell(|| format!("node {id} goes on"));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn hold_elections(&mut self) {
        let now_ms = self.world.now_ms();
        if self.election_ms > now_ms {
            return;
        }
        self.election_ms = now_ms + self.world.chance.between(20, 150);
        let healthy = self.newest_leader().is_some_and(|id| {
            let node = &self.nodes[id];
            node.runs()
                && node.leading.as_ref().is_some_and(|leading| {
                    !leading.retired && (leading.lease_ms > now_ms || leading.first > node.log.committed())
                })
        });
        if healthy && !self.known_dead && !self.world.chance.one_in(200) {
            return;
        }
        // One whose lease ran out, with a quorum back, stands for a new term: it is bound by nobody but itself.
        if let Some(id) = self.newest_leader()
            && self.nodes[id].leading.as_ref().is_some_and(|leading| leading.retired)
            && self.world.chance.one_in(2)
            && self.elect(id, true)
        {
            return;
        }
        let known_dead = std::mem::take(&mut self.known_dead);
        let first = self.world.chance.index(self.nodes.len());
        for at in 0..self.nodes.len() {
            if self.elect((first + at) % self.nodes.len(), known_dead) {
                return;
            }
        }
    }

    fn node_step(&mut self, id: usize) -> io::Result<()> {
        let now_ms = self.world.now_ms();
        if self.nodes[id].leading.as_ref().is_some_and(|leading| leading.heartbeat_ms <= now_ms) {
            self.replicate(id);
        }
        self.apply(id)?;
        self.nodes[id].checkpoint(now_ms, &mut self.world.chance)?;
        self.engage(id);
        let Some(mut engaged) = self.nodes[id].engaged.take() else { return Ok(()) };
        if self.world.calm && !self.repaired {
            self.repaired = true;
            engaged.calm(&mut self.world);
        }
        engaged.step(&mut self.world, &self.nodes[id].machine)?;
        if let Some(batch) = engaged.take_batch(&self.world)
            && let Some(term) = self.nodes[id].leading.as_ref().map(|leading| leading.term)
        {
            let index = self.append(id, Entry { term, leader: id, batch: Some(batch) });
            engaged.proposed(index);
        }
        self.nodes[id].engaged = Some(engaged);
        Ok(())
    }

    fn apply(&mut self, id: usize) -> io::Result<()> {
        // A follower may lag behind what it knows to be committed.
        if self.nodes[id].leading.is_none() && self.world.chance.one_in(4) {
            return Ok(());
        }
        loop {
            let (mut outcomes, mut changes) = (Vec::new(), Vec::new());
            let Some(index) = self.nodes[id].apply_next(&mut outcomes, &mut changes)? else { return Ok(()) };
            let ours = self.nodes[id].log.get(index).zip(self.history.get(index as usize - 1));
            if !ours.is_some_and(|(entry, committed)| Arc::ptr_eq(entry, committed)) {
                self.world.fail(format!("node {id} applies another entry {index} than what is committed"));
            }
            self.world.see(&Seen::Applied { node: id, index, machine: &self.nodes[id].machine });
            if let Some(engaged) = &mut self.nodes[id].engaged {
                engaged.applied(&mut self.world, index, &outcomes, changes);
            }
        }
    }

    /// A leader knows that more is committed.
    pub(super) fn committed(&mut self, id: usize) {
        let known = self.history.len() as u64;
        for index in known + 1..=self.nodes[id].log.committed() {
            let Some(entry) = self.nodes[id].log.get(index).cloned() else { return };
            let (mut outcomes, mut changes) = (Vec::new(), Vec::new());
            if let Err(error) = apply(&mut self.reference, index, &entry, &mut outcomes, &mut changes) {
                return self.world.fail(format!("entry {index} cannot be applied: {error}"));
            }
            self.history.push(entry.clone());
            let machine = &self.reference;
            self.world.see(&Seen::Committed { index, entry: &entry, outcomes: &outcomes, changes: &changes, machine });
        }
    }

    /// Begins or ends to serve, as the lease says.
    fn engage(&mut self, id: usize) {
        let now_ms = self.world.now_ms();
        let node = &self.nodes[id];
        let Some(leading) = &node.leading else { return self.disengage(id) };
        let (term, ready) = (leading.term, node.applied >= leading.first && !leading.retired);
        let may = ready && leading.lease_ms > now_ms;
        if !may {
            // A lease that ran out is over for its whole term.
            if node.engaged.is_some()
                && let Some(leading) = &mut self.nodes[id].leading
            {
                leading.retired = true;
            }
            return self.disengage(id);
        }
        if node.engaged.is_some() {
            return;
        }
        if !self.set_up {
            self.set_up = true;
            let commands = operator::set_up(&mut self.world);
            let stamp_ms = self.world.clock.wall_ms(id);
            let batch = smsc_raft::model::Batch { version: smsc_raft::machine::BATCH_VERSION, stamp_ms, commands };
            self.append(id, Entry { term, leader: id, batch: Some(batch) });
            return;
        }
        if self.nodes[id].machine.accounts().next().is_none() {
            // What was set up is on its way, or was lost with its leader.
            self.set_up = self.nodes[id].log.last_index() > self.nodes[id].applied;
            return;
        }
        self.engagements += 1;
        let serving = Serving { term, number: self.engagements };
        self.world.tell(|| format!("node {id} serves as {serving:?}"));
        self.world.see_serves(serving, &self.nodes[id].machine);
        self.nodes[id].engaged = Some(Engaged::new(&mut self.world, id, serving, &self.nodes[id].machine));
    }

    /// A node serves no more.
    pub(super) fn disengage(&mut self, id: usize) {
        if let Some(engaged) = self.nodes[id].engaged.take() {
            self.world.tell(|| format!("node {id} serves no more"));
            engaged.end(&mut self.world);
        }
    }

    /// The node that was elected last, if it still thinks that it leads.
    pub(super) fn newest_leader(&self) -> Option<usize> {
        (0..self.nodes.len()).find(|id| {
            let leading = self.nodes[*id].leading.as_ref();
            leading.is_some_and(|leading| leading.term == self.term)
        })
    }

    /// Connects an ESME to whoever holds the address.
    fn connect(&mut self, at: usize) {
        let serves = |id: &usize| self.nodes[*id].runs() && self.nodes[*id].engaged.is_some();
        let Some(holder) = self.newest_leader().filter(serves) else {
            return self.esmes[at].try_later(&mut self.world);
        };
        let id = self.world.net.connect();
        self.esmes[at].connect(&mut self.world, id);
        let now = self.world.clock.mono();
        if let Some(engaged) = &mut self.nodes[holder].engaged {
            engaged.accept(id, now);
        }
    }

    fn unrest(&self) -> String {
        let waiting = self.reference.messages_from(0, 3).unwrap_or_default();
        let ids: Vec<_> = waiting.iter().map(|message| (message.id, message.attempts, message.due_at_ms)).collect();
        format!(
            "{} messages wait, the first {ids:?}, stamp {}, ESMEs quiet: {:?}",
            self.reference.waiting_count(),
            self.reference.stamp_ms(),
            self.esmes.iter().map(Esme::is_quiet).collect::<Vec<_>>()
        )
    }

    /// Whether nothing is left to be done: then what is final is purged, and it is looked once more.
    fn is_settled(&mut self) -> bool {
        let Some(id) = self.newest_leader() else { return false };
        let index = self.history.len() as u64;
        let rests = self.repaired
            && self.reference.waiting_count() == 0
            && self.esmes.iter().all(Esme::is_quiet)
            && self.nodes.iter().all(|node| node.runs() && node.applied == index && node.log.last_index() == index)
            && self.nodes[id].engaged.as_ref().is_some_and(Engaged::is_quiet);
        if !rests {
            return false;
        }
        if self.last_purges == 0 {
            self.world.see_settled(&self.reference);
        }
        if self.last_purges == LAST_PURGES {
            return true;
        }
        self.last_purges += 1;
        if let Some(engaged) = &mut self.nodes[id].engaged {
            let purge = Op::Purge(Purge { final_before_ms: engaged.delivery_ms() + 60_000 });
            engaged.command(&mut self.world, Command { op: Some(purge) });
        }
        false
    }

    /// The last look at a world at rest.
    fn at_rest(&mut self) {
        self.world.see_settled(&self.reference);
        let expected = self.reference.digest().ok();
        for (id, node) in self.nodes.iter().enumerate() {
            if node.machine.digest().ok() != expected {
                self.world.fail(format!("node {id} is at rest in another state"));
            }
        }
        let Some(engaged) = self.newest_leader().and_then(|id| self.nodes[id].engaged.as_ref()) else { return };
        let bound = engaged.bound();
        let registered: Vec<u64> =
            self.reference.sessions().filter(|session| session.term == self.term).map(|session| session.id).collect();
        if bound != registered {
            self.world.fail(format!("sessions {bound:?} are bound, {registered:?} are registered"));
        }
    }
}
