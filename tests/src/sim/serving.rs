//! What a leader does while it may act: sessions, deliveries, proposals. It stands where the product has its driver,
//! its connections and its proposer, and puts their pure parts together in the same way.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use smsc_node::delivery::engine::{DeliveryEngine, Effect, EngineConfig, LinkResult, Load, Loaded};
use smsc_node::delivery::handset::{HandsetEvent, Handsets};
use smsc_node::smpp::ports::Directory;
use smsc_proto::time::MonoTime;
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::machine::{BATCH_VERSION, Change, Machine};
use smsc_raft::model::{Batch, Command};
use smsc_raft::outcome::Outcome;

use super::clock::mono;
use super::net::{Arrived, ConnectionId, End};
use super::operator::{self, Operator};
use super::server::{self, Report, Served, Server, Waiter};
use super::world::World;
use crate::invariant::{Seen, Serving};

/// Batches on their way at once.
const IN_FLIGHT_MAX: usize = 4;

type Waiting = Option<(ConnectionId, Waiter)>;

/// See the [module](self).
pub struct Engaged {
    node: usize,
    serving: Serving,
    engine: DeliveryEngine,
    window_messages: usize,
    handsets: Handsets,
    directory: Directory,
    operator: Operator,
    /// Time as delivery has it: it never turns back, whatever the clock does.
    now_ms: u64,
    /// Changes on their way to the engine, with the index of their entry.
    changes: VecDeque<(u64, u64, Vec<Change>)>,
    told: u64,
    /// What the engine asked for.
    effects: VecDeque<Effect>,
    connections: BTreeMap<ConnectionId, Server>,
    /// The connection of each registered session.
    sessions: BTreeMap<u64, ConnectionId>,
    group: Vec<(Command, Waiting)>,
    group_ms: u64,
    in_flight: BTreeMap<u64, Vec<Waiting>>,
    reports: VecDeque<(ConnectionId, Report)>,
}

impl Engaged {
    /// A leader of this term begins to serve.
    pub fn new(world: &mut World, node: usize, serving: Serving, machine: &Machine) -> Self {
        let chance = &mut world.chance;
        let window_messages = usize::try_from(chance.between(100, 400)).expect("a small number");
        let number_messages = 1 + chance.index(6);
        let config = EngineConfig { window_messages, number_messages, seed: chance.any() };
        let now_ms = machine.stamp_ms().max(world.clock.wall_ms(node));
        let (table, directory) = server::directory(machine);
        Self {
            node,
            serving,
            engine: DeliveryEngine::new(now_ms, config, table, &machine.settings()),
            window_messages,
            handsets: Handsets::new(4 + world.chance.index(100), serving.term),
            operator: Operator::new(world, serving.term),
            directory,
            now_ms,
            changes: VecDeque::new(),
            told: machine.applied().map_or(0, |applied| applied.index),
            effects: VecDeque::new(),
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            group: Vec::new(),
            group_ms: 0,
            in_flight: BTreeMap::new(),
            reports: VecDeque::new(),
        }
    }

    /// An ESME connects.
    pub fn accept(&mut self, id: ConnectionId, now: MonoTime) {
        self.connections.insert(id, Server::new(now));
    }

    /// The ids of all connections.
    pub fn connections(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    /// Nothing is on its way: no proposal, no change, no report.
    pub fn is_quiet(&self) -> bool {
        self.group.is_empty() && self.in_flight.is_empty() && self.changes.is_empty() && self.reports.is_empty()
    }

    /// Ends: what is on its way is known to nobody here any more.
    pub fn end(self, world: &mut World) {
        let now_ms = world.now_ms();
        for id in self.connections.into_keys() {
            world.net.close(now_ms, id, End::Centre);
        }
    }

    /// When there is something to do that time brings.
    pub fn next_ms(&self, world: &World) -> u64 {
        let ahead = world.clock.wall_ms(self.node) - world.now_ms();
        let wall = |at_ms: u64| at_ms.saturating_sub(ahead);
        let mut next = wall(self.engine.next_deadline_ms()).min(self.operator.next_ms());
        next = next.min(self.handsets.next_deadline_ms().map_or(u64::MAX, wall));
        next = next.min(self.changes.front().map_or(u64::MAX, |change| change.0));
        if !self.group.is_empty() && self.in_flight.len() < IN_FLIGHT_MAX {
            next = next.min(self.group_ms);
        }
        for (id, server) in &self.connections {
            let timeout = timer_ms(server.poll_timeout());
            next = next.min(timeout).min(world.net.arrives_ms(*id, End::Centre).unwrap_or(u64::MAX));
        }
        next
    }

    /// The next entry, if one is due; [`Engaged::proposed`] follows.
    pub fn take_batch(&mut self, world: &World) -> Option<Batch> {
        if self.group.is_empty() || self.group_ms > world.now_ms() || self.in_flight.len() >= IN_FLIGHT_MAX {
            return None;
        }
        let commands = self.group.iter_mut().map(|(command, _)| std::mem::take(command)).collect();
        Some(Batch { version: BATCH_VERSION, stamp_ms: world.clock.wall_ms(self.node), commands })
    }

    /// The batch is the entry of this index.
    pub fn proposed(&mut self, index: u64) {
        let waiting = self.group.drain(..).map(|(_, waiting)| waiting).collect();
        self.in_flight.insert(index, waiting);
    }

    /// An entry is applied here.
    pub fn applied(&mut self, world: &mut World, index: u64, outcomes: &[Outcome], changes: Vec<Change>) {
        let after = world.chance.between(0, 4);
        let at_ms = self.changes.back().map_or(0, |last| last.0).max(world.now_ms() + after);
        self.changes.push_back((at_ms, index, changes));
        let mut reports = Vec::new();
        for (waiting, outcome) in self.in_flight.remove(&index).into_iter().flatten().zip(outcomes) {
            let Some((id, waiter)) = waiting else { continue };
            match self.connections.get_mut(&id) {
                Some(server) => server.outcome(world.clock.mono(), waiter, outcome, &mut reports),
                None => {
                    if let Outcome::SessionOpened(id) = outcome {
                        self.propose(world, server::close(*id), None);
                    }
                }
            }
            self.reports.extend(reports.drain(..).map(|report| (id, report)));
        }
    }

    /// Does everything that can be done now.
    ///
    /// # Errors
    /// The machine cannot be read.
    pub fn step(&mut self, world: &mut World, machine: &Machine) -> io::Result<()> {
        self.now_ms = self.now_ms.max(world.clock.wall_ms(self.node));
        self.take_changes(world, machine);
        self.take_octets(world);
        self.take_reports(world);
        if self.engine.next_deadline_ms() <= self.now_ms {
            self.engine.timeout(self.now_ms);
        }
        for command in self.operator.step(world, machine, self.now_ms)? {
            self.propose(world, command, None);
        }
        self.carry_out(world, machine)?;
        self.write(world);
        let (messages, messages_max) = (self.engine.held(), self.window_messages);
        world.see(&Seen::Held { messages, messages_max });
        Ok(())
    }

    fn take_changes(&mut self, world: &mut World, machine: &Machine) {
        while self.changes.front().is_some_and(|change| change.0 <= world.now_ms()) {
            let Some((_, index, changes)) = self.changes.pop_front() else { return };
            self.collect(world);
            for change in changes {
                world.see(&Seen::Told { serving: self.serving, index, change: &change });
                if change == Change::Config {
                    let (table, directory) = server::directory(machine);
                    self.engine.configure(table, &machine.settings());
                    self.directory = directory;
                }
                self.engine.change(self.now_ms, change);
                self.collect(world);
            }
            self.told = index;
        }
    }

    /// Takes what the engine asks for, and tells what it sends while it knows no more than it did.
    fn collect(&mut self, world: &mut World) {
        while let Some(effect) = self.engine.poll_effect() {
            if let Effect::SendToHandset { message, .. } | Effect::SendToSession { message, .. } = &effect {
                self.sent(world, message);
            }
            self.effects.push_back(effect);
        }
    }

    fn take_octets(&mut self, world: &mut World) {
        let now = world.clock.mono();
        let served =
            Served { node: self.node, term: self.serving.term, mono: now, wall_ms: world.clock.wall_ms(self.node) };
        let mut reports = Vec::new();
        for (id, server) in &mut self.connections {
            while let Some(arrived) = world.net.read(world.clock.now_ms(), *id, End::Centre) {
                match arrived {
                    Arrived::Octets(octets) => server.octets(now, &octets),
                    Arrived::Closed => {
                        server.disconnected();
                        break;
                    }
                }
            }
            server.timeout(now);
            server.settle(served, &self.directory, &mut reports);
            self.reports.extend(reports.drain(..).map(|report| (*id, report)));
        }
    }

    fn take_reports(&mut self, world: &mut World) {
        while let Some((id, report)) = self.reports.pop_front() {
            match report {
                Report::Propose(command, waiter) => self.propose(world, *command, waiter.map(|waiter| (id, waiter))),
                Report::Bound { session_id, account, window } => {
                    self.sessions.insert(session_id, id);
                    self.engine.bound(self.now_ms, session_id, &account, window);
                }
                Report::Unbound { session_id } => {
                    self.sessions.remove(&session_id);
                    self.engine.unbound(self.now_ms, session_id);
                }
                Report::Delivered { session_id, id, result } => {
                    self.ended(world, id, &result);
                    self.engine.session_outcome(self.now_ms, session_id, id, result);
                }
                Report::Accepted { id, tag } => world.see(&Seen::Accepted { id, tag }),
                // The last words are written first.
                Report::Closed => {}
            }
        }
    }

    fn ended(&self, world: &mut World, id: u64, result: &LinkResult) {
        let delivered = *result == LinkResult::Delivered;
        world.tell(|| format!("{:?}: {id} ended {result:?}", self.serving));
        world.see(&Seen::Ended { serving: self.serving, id, delivered });
    }

    fn propose(&mut self, world: &mut World, command: Command, waiting: Waiting) {
        if self.group.is_empty() {
            self.group_ms = world.now_ms() + world.chance.between(0, 3);
        }
        self.group.push((command, waiting));
    }

    fn carry_out(&mut self, world: &mut World, machine: &Machine) -> io::Result<()> {
        loop {
            self.collect(world);
            while let Some(effect) = self.effects.pop_front() {
                self.carry_out_one(world, machine, effect)?;
                self.collect(world);
            }
            match self.handsets.poll(self.now_ms) {
                Some(HandsetEvent::Done { id, result }) => {
                    let result = LinkResult::from(result);
                    self.ended(world, id, &result);
                    self.engine.link_outcome(self.now_ms, id, result);
                }
                Some(HandsetEvent::Reachable { number }) => self.engine.reachable(self.now_ms, &number),
                // No range of these worlds answers.
                Some(HandsetEvent::Answer { .. }) => {}
                None if self.reports.is_empty() => return Ok(()),
                None => self.take_reports(world),
            }
        }
    }

    fn carry_out_one(&mut self, world: &mut World, machine: &Machine, effect: Effect) -> io::Result<()> {
        match effect {
            Effect::Propose(command) => self.propose(world, command, None),
            Effect::Load(load) => {
                let loaded = read(machine, load)?;
                self.engine.loaded(self.now_ms, loaded);
            }
            Effect::WatchHandset { number, range, failing_since_ms, at_once } => {
                self.handsets.watch(self.now_ms, &number, &range, failing_since_ms, at_once);
            }
            // The routes of these worlds lead to no other message centre.
            Effect::CallBack { message } => unreachable!("message {} was accepted by none", message.id),
            Effect::SendToLink { message, .. } => {
                self.engine.link_outcome(self.now_ms, message.id, LinkResult::Lost);
            }
            Effect::SendToHandset { message, number, range, failing_since_ms } => {
                self.handsets.deliver(self.now_ms, &message, &number, range.as_deref(), failing_since_ms);
            }
            Effect::SendToSession { session_id, message } => {
                // One that is gone meanwhile will report nothing.
                let Some(id) = self.sessions.get(&session_id).copied() else {
                    self.engine.session_outcome(self.now_ms, session_id, message.id, LinkResult::Lost);
                    return Ok(());
                };
                let mut reports = Vec::new();
                if let Some(server) = self.connections.get_mut(&id) {
                    server.deliver(world.clock.mono(), &message, &mut reports);
                }
                self.reports.extend(reports.into_iter().map(|report| (id, report)));
            }
        }
        Ok(())
    }

    fn sent(&self, world: &mut World, message: &Arc<smsc_raft::model::Message>) {
        let Some(submission) = &message.submission else { return };
        let queue = QueueKey::of(submission);
        world.tell(|| format!("{:?}: {} is sent to {}", self.serving, message.id, queue.key));
        let (serving, told, now_ms) = (self.serving, self.told, self.now_ms);
        world.see(&Seen::Sent { serving, told, now_ms, queue: &queue, message });
    }

    fn write(&mut self, world: &mut World) {
        let now_ms = world.now_ms();
        self.connections.retain(|id, server| {
            world.net.write(now_ms, *id, End::Centre, server.output(), &mut world.chance);
            if server.ended() {
                world.net.close(now_ms, *id, End::Centre);
            }
            !server.ended()
        });
    }

    /// The next thing that the operator of a calm world does: everything works again.
    pub fn calm(&mut self, world: &mut World) {
        for command in operator::repair() {
            self.propose(world, command, None);
        }
    }

    /// Puts a command into the log for nobody in particular.
    pub fn command(&mut self, world: &mut World, command: Command) {
        self.propose(world, command, None);
    }

    /// Time as delivery has it.
    pub fn delivery_ms(&self) -> u64 {
        self.now_ms
    }

    /// Sessions that are bound here, by their id in the registry.
    pub fn bound(&self) -> Vec<u64> {
        let mut bound: Vec<u64> = self.connections.values().filter_map(Server::session_id).collect();
        bound.sort_unstable();
        bound
    }
}

impl std::fmt::Debug for Engaged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engaged").field("node", &self.node).field("serving", &self.serving).finish()
    }
}

fn read(machine: &Machine, load: Load) -> io::Result<Loaded> {
    Ok(match load {
        Load::Due { after, limit } => {
            Loaded::Due { limit, queues: machine.due_queues(after.as_ref(), u64::MAX, limit)? }
        }
        Load::Queue { key, from, limit } => {
            let queue = machine.queue(&key)?;
            let messages = machine.queue_messages(&key, from.read_after(), limit)?;
            Loaded::Queue { key, from, limit, queue, messages }
        }
        Load::Expired { until_ms, limit } => Loaded::Expired { limit, messages: machine.expired(until_ms, limit)? },
        Load::Pending { after, limit } => {
            Loaded::Pending { limit, numbers: machine.pending_numbers(after.as_deref(), limit) }
        }
    })
}

/// When a session's timer rings, milliseconds since the beginning.
pub fn timer_ms(at: Option<MonoTime>) -> u64 {
    at.map_or(u64::MAX, |at| if at == MonoTime::MAX { u64::MAX } else { at.as_nanos().div_ceil(mono(1).as_nanos()) })
}
