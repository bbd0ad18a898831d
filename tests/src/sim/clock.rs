//! The clocks of the world: one true time, and what each node's wall clock makes of it.

use smsc_proto::time::MonoTime;

use super::chance::Chance;

/// The wall clocks' reading at the beginning, UTC milliseconds.
const EPOCH_MS: u64 = 1_795_000_000_000;
/// How far a wall clock may be off.
const OFF_MS: u64 = 1_500;

/// True time since the beginning, and the wall clock of each node.
#[derive(Debug)]
pub struct SimClock {
    now_ms: u64,
    ahead_ms: Vec<u64>,
}

impl SimClock {
    /// Clocks of so many nodes.
    pub fn new(nodes: usize, chance: &mut Chance) -> Self {
        Self { now_ms: 0, ahead_ms: (0..nodes).map(|_| chance.between(0, OFF_MS)).collect() }
    }

    /// Milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The clock that never jumps.
    pub fn mono(&self) -> MonoTime {
        mono(self.now_ms)
    }

    /// A node's wall clock, UTC milliseconds.
    pub fn wall_ms(&self, node: usize) -> u64 {
        EPOCH_MS + self.now_ms + self.ahead_ms[node]
    }

    /// Time goes on.
    pub fn advance_to(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// Sets a node's wall clock anew, forwards or back.
    pub fn jump(&mut self, node: usize, chance: &mut Chance) {
        self.ahead_ms[node] = chance.between(0, OFF_MS);
    }
}

/// A reading of the clock that never jumps.
pub fn mono(at_ms: u64) -> MonoTime {
    MonoTime::from_nanos(at_ms * 1_000_000)
}
