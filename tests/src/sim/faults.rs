//! What goes wrong, when, and for how long: picked by the seed.

use super::cluster::SimCluster;
use super::node::Life;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The leader's process dies.
    KillLeader,
    /// Some process dies.
    KillAny,
    /// All processes die at once.
    KillAll,
    /// The leader stands still.
    FreezeLeader,
    /// The leader is cut off, one way or both.
    IsolateLeader,
    /// A follower is cut off.
    IsolateAny,
    /// Messages between nodes are lost.
    LoseMessages,
    /// A node is slow to hear and to be heard.
    SlowDown,
    /// Connections of ESMEs break.
    CutConnections,
    /// Leadership is handed over.
    Handover,
}

const FAULTS: [Fault; 10] = [
    Fault::KillLeader,
    Fault::KillAny,
    Fault::KillAll,
    Fault::FreezeLeader,
    Fault::IsolateLeader,
    Fault::IsolateAny,
    Fault::LoseMessages,
    Fault::SlowDown,
    Fault::CutConnections,
    Fault::Handover,
];

impl SimCluster {
    /// Lets the next fault happen.
    pub(super) fn next_fault(&mut self) {
        let now_ms = self.world.now_ms();
        self.fault_ms = now_ms + self.world.chance.between(60, 1_500);
        // One thing at a time in the network; processes die and freeze on top of that.
        if self.world.chance.one_in(2) {
            self.world.net.heal();
        }
        let fault = FAULTS[self.world.chance.index(FAULTS.len())];
        let any = self.world.chance.index(self.nodes.len());
        let leader = self.newest_leader();
        self.world.tell(|| format!("{fault:?} (leader {leader:?}, any {any})"));
        match (fault, leader) {
            (Fault::KillLeader, Some(id)) => self.kill(id),
            (Fault::KillAny, _) => self.kill(any),
            (Fault::KillAll, _) => (0..self.nodes.len()).for_each(|id| self.kill(id)),
            (Fault::FreezeLeader, Some(id)) => self.freeze(id),
            (Fault::IsolateLeader, Some(id)) => self.isolate(id),
            (Fault::IsolateAny, _) => self.isolate(any),
            (Fault::LoseMessages, _) => {
                let one_in = self.world.chance.between(2, 12);
                self.world.net.lose_one_in(one_in);
            }
            (Fault::SlowDown, _) => {
                let by_ms = self.world.chance.between(5, 80);
                self.world.net.slow_down(any, by_ms);
            }
            (Fault::CutConnections, _) => self.cut_connections(),
            (Fault::Handover, Some(id)) => self.hand_over(id),
            (_, None) => {}
        }
    }

    /// Faults are over: everything runs and is heard again.
    pub(super) fn end_faults(&mut self) {
        let now_ms = self.world.now_ms();
        self.world.tell(|| "faults are over".to_owned());
        self.world.calm = true;
        self.world.net.heal();
        for node in &mut self.nodes {
            match &mut node.life {
                Life::Running => {}
                Life::Dead { until_ms } | Life::Frozen { until_ms, .. } => *until_ms = now_ms,
            }
        }
        self.esmes.iter_mut().for_each(super::esme::Esme::calm_down);
    }

    fn kill(&mut self, id: usize) {
        let now_ms = self.world.now_ms();
        let until_ms = now_ms + self.world.chance.between(50, 2_000);
        if matches!(self.nodes[id].life, Life::Dead { .. }) {
            return;
        }
        if let Some(engaged) = self.nodes[id].engaged.take() {
            for connection in engaged.connections() {
                self.world.net.cut(now_ms, connection, &mut self.world.chance);
            }
        }
        let led = self.nodes[id].leading.take().is_some();
        let node = &mut self.nodes[id];
        node.epoch += 1;
        node.life = Life::Dead { until_ms };
        // A process that dies is often known to be dead at once.
        if led && self.world.chance.one_in(2) {
            self.known_dead = true;
            self.election_ms = now_ms + self.world.chance.between(1, 5);
        }
    }

    fn freeze(&mut self, id: usize) {
        let now_ms = self.world.now_ms();
        if !self.nodes[id].runs() {
            return;
        }
        let until_ms = now_ms + self.world.chance.between(20, 1_200);
        let clock_stood = self.world.chance.one_in(2);
        self.nodes[id].life = Life::Frozen { since_ms: now_ms, until_ms, clock_stood };
    }

    fn isolate(&mut self, id: usize) {
        let way = self.world.chance.index(4);
        self.world.net.isolate(id, way != 1, way != 2);
    }

    fn cut_connections(&mut self) {
        let now_ms = self.world.now_ms();
        for connection in self.esmes.iter().filter_map(super::esme::Esme::connection) {
            if self.world.chance.one_in(2) {
                self.world.net.cut(now_ms, connection, &mut self.world.chance);
            }
        }
    }

    /// The leader serves no more and lets another one be elected at once.
    fn hand_over(&mut self, id: usize) {
        let Some(leading) = &mut self.nodes[id].leading else { return };
        leading.retired = true;
        leading.lease_ms = 0;
        self.disengage(id);
        self.known_dead = true;
        self.election_ms = self.world.now_ms() + self.world.chance.between(1, 20);
    }
}
