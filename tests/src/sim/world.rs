//! What every part of the simulation shares.

use smsc_raft::machine::Machine;

use super::chance::Chance;
use super::clock::SimClock;
use super::net::SimNet;
use crate::invariant::{Invariants, Seen, Serving};
use crate::oracle::{Answer, Oracle};

/// How many steps of the story a failure tells, unless `SMSC_SIM_STORY` says otherwise.
const TOLD: usize = 60;

/// Time, chance, the network, what ESMEs know, and the properties that are looked after.
pub struct World {
    /// Time.
    pub clock: SimClock,
    /// Chance.
    pub chance: Chance,
    /// The network.
    pub net: SimNet,
    /// What ESMEs know.
    pub oracle: Oracle,
    /// Whether faults are over: everybody behaves and everything settles.
    pub calm: bool,
    invariants: Invariants,
    story: Vec<String>,
    failure: Option<String>,
}

impl World {
    /// A world of so many nodes.
    pub fn new(seed: u64, nodes: usize) -> Self {
        let mut chance = Chance::new(seed);
        Self {
            clock: SimClock::new(nodes, &mut chance),
            chance,
            net: SimNet::new(nodes),
            oracle: Oracle::default(),
            calm: false,
            invariants: Invariants::default(),
            story: Vec::new(),
            failure: None,
        }
    }

    /// True time, milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Something happened that properties are about.
    pub fn see(&mut self, seen: &Seen<'_>) {
        if let Err(text) = self.invariants.see(seen) {
            self.fail(text);
        }
    }

    /// A leader begins to serve with this machine.
    pub fn see_serves(&mut self, serving: Serving, machine: &Machine) {
        let seen = Seen::Serves { serving, machine, oracle: &self.oracle };
        if let Err(text) = self.invariants.see(&seen) {
            self.fail(text);
        }
    }

    /// Everything is at rest in this state.
    pub fn see_settled(&mut self, machine: &Machine) {
        if let Err(text) = self.invariants.see(&Seen::Settled { machine, oracle: &self.oracle }) {
            self.fail(text);
        }
    }

    /// An ESME knows what became of a submission.
    pub fn answer(&mut self, tag: usize, answer: Answer) {
        if let Err(text) = self.oracle.answer(tag, answer) {
            self.fail(text);
        }
    }

    /// A step of the story, told when it ends badly.
    pub fn tell(&mut self, text: impl FnOnce() -> String) {
        let at_ms = self.now_ms();
        self.story.push(format!("{at_ms:>7} ms  {}", text()));
    }

    /// The world is broken. The first reason counts.
    pub fn fail(&mut self, text: String) {
        let at_ms = self.now_ms();
        self.failure.get_or_insert_with(|| format!("after {at_ms} ms: {text}"));
    }

    /// Why the world is broken, with the last steps of the story.
    pub fn failure(&self) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let told = std::env::var("SMSC_SIM_STORY").ok().and_then(|steps| steps.parse().ok()).unwrap_or(TOLD);
        let told = self.story[self.story.len().saturating_sub(told)..].join("\n");
        Some(format!("{told}\n{failure}"))
    }
}
