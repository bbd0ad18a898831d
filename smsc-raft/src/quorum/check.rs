//! Every order of events that two nodes can meet within a bounded number of steps: crash, freeze, cut, heal, restart,
//! orderly stop, the fence's results, an operator's words, time passing, answers that come late. The rules are the real
//! ones; Raft is reduced to what matters here: terms, logs, votes and what a quorum has.
//!
//! Looked for in each state: two that are sole, a leader that lacks something acknowledged, an acknowledgement beside
//! another. And progress: from each state, once the faults are undone, the pair becomes whole; a node in sync that loses
//! its peer goes on alone once the device says yes; a sole node that restarts goes on alone.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::Duration;

use super::pair::{Contact, Device, Effect, Event, Facts, Leads, Pair, Policy, Record, Rule, Says, Standing, Why};
use crate::leadership::MonoTime;

const TICK: Duration = Duration::from_secs(1);
const LOG_MAX: u32 = 4;
const TERM_MAX: u64 = 4;

/// How much may go wrong.
#[derive(Clone, Copy)]
struct Bounds {
    steps: usize,
    faults: u8,
    words: u8,
    ticks: u64,
}

/// Who lets a node go on alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    /// A fence that switches the peer off.
    Fence,
    /// Operators who say that a node is down when it is.
    Operator,
    /// An operator who tells the second node that its peer is down as soon as it cannot be reached, true or not, and the
    /// first one only when the time in which a node may arm is over.
    Careless,
}

/// The term of each entry, four bits each.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Log {
    terms: u64,
    len: u32,
}

impl Log {
    fn push(&mut self, term: u64) {
        assert!(term < 16 && self.len < 16, "the bounds keep both small");
        self.terms |= term << (4 * self.len);
        self.len += 1;
    }

    fn term_of(self, len: u32) -> u64 {
        if len == 0 { 0 } else { self.terms >> (4 * (len - 1)) & 0xf }
    }

    fn starts_with(self, other: Self) -> bool {
        let kept = if other.len == 16 { u64::MAX } else { (1 << (4 * other.len)) - 1 };
        other.len <= self.len && self.terms & kept == other.terms
    }

    /// What Raft compares when it votes.
    fn newest(self) -> (u64, u32) {
        (self.term_of(self.len), self.len)
    }
}

#[derive(Clone)]
struct Node {
    /// `None`: off.
    pair: Option<Pair>,
    /// How often it has started; on disk.
    starts: u64,
    frozen: bool,
    record: Record,
    saving: Option<Record>,
    term: u64,
    log: Log,
    leads: Leads,
    /// Entries known to be committed.
    committed: u32,
    /// As the leader: entries that the peer has.
    matched: u32,
    ask: Option<u64>,
    said: Option<(MonoTime, Says)>,
    /// The peer has said that it stops; in which of its lives.
    peer_yields: Option<u64>,
    lost_since: Option<MonoTime>,
}

#[derive(Clone)]
struct World {
    nodes: [Node; 2],
    cut: bool,
    now: u64,
    /// All entries acknowledged, in their order.
    acked: Log,
    faults: u8,
    words: u8,
}

impl Hash for Node {
    fn hash<H: Hasher>(&self, into: &mut H) {
        if let Some(pair) = &self.pair {
            pair.hash_state(into);
        }
        let position = (self.term, self.log, self.leads, self.committed, self.matched);
        let waiting = (self.ask.is_some(), self.said, self.peer_yields, self.lost_since);
        (self.pair.is_some(), self.starts, self.frozen, self.record, self.saving, position, waiting).hash(into);
    }
}

impl Hash for World {
    fn hash<H: Hasher>(&self, into: &mut H) {
        (&self.nodes, self.cut, self.now, self.acked, self.faults, self.words).hash(into);
    }
}

/// Quick, and good enough to tell states apart.
#[derive(Default)]
struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value.cast_unsigned() as u64);
    }

    fn write_u64(&mut self, value: u64) {
        let mixed = u128::from(self.0 ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = u64::try_from(mixed >> 64).unwrap_or(0)
            ^ u64::try_from(mixed & u128::from(u64::MAX)).unwrap_or(0).rotate_left(23);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn key(world: &World) -> u64 {
    let mut hasher = QuickHasher::default();
    world.hash(&mut hasher);
    hasher.finish()
}

type Seen = HashSet<u64, BuildHasherDefault<QuickHasher>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Saved(usize),
    Ask(usize),
    Hear(usize),
    HearYield(usize),
    Fenced(usize),
    Word(usize),
    Stop(usize),
    Elect(usize),
    Append(usize),
    Replicate(usize),
    ArbiterAcks(usize),
    Crash(usize),
    Start(usize),
    Freeze(usize),
    Thaw(usize),
    Cut,
    Heal,
    Tick,
}

type Violation = &'static str;

fn policy() -> Policy {
    let device =
        Device::Automatic { after: Duration::ZERO, standby_delay: Duration::ZERO, retry: TICK, proves_off: true };
    Policy { device, window: TICK, lease: Duration::ZERO, rejoin_within: Duration::ZERO }
}

fn start(x: usize, record: Record, now: MonoTime, broken: Option<Rule>) -> Pair {
    let (own, peer) = if x == 0 { (1, 2) } else { (2, 1) };
    let (pair, _) = Pair::start(policy(), own, peer, record, now);
    pair.with_rule_out(broken, now)
}

/// What may happen, and under which rules.
#[derive(Clone, Copy)]
struct Game {
    bounds: Bounds,
    trust: Trust,
    broken: Option<Rule>,
}

/// For the start and for runs that must succeed: no bounds.
const FREE: Game = Game {
    bounds: Bounds { steps: usize::MAX, faults: u8::MAX, words: u8::MAX, ticks: u64::MAX },
    trust: Trust::Fence,
    broken: None,
};

impl World {
    /// Both in sync, the first one leads and has one entry of its term acknowledged.
    fn whole(broken: Option<Rule>) -> Self {
        let now = MonoTime::from_nanos(0);
        let mut log = Log::default();
        log.push(1);
        let node = |x: usize| Node {
            pair: Some(start(x, Record::Shared, now, broken)),
            starts: 1,
            frozen: false,
            record: Record::Shared,
            saving: None,
            term: 1,
            log,
            leads: if x == 0 { Leads::Me } else { Leads::Peer },
            committed: 1,
            matched: 1,
            ask: None,
            said: None,
            peer_yields: None,
            lost_since: None,
        };
        let mut world = Self { nodes: [node(0), node(1)], cut: false, now: 0, acked: log, faults: 0, words: 0 };
        for x in [0, 1] {
            world = world.step(Step::Ask(x)).and_then(|world| world.step(Step::Hear(x))).expect("the pair is whole");
        }
        world
    }

    fn now(&self) -> MonoTime {
        MonoTime::from_nanos(0) + TICK * u32::try_from(self.now).unwrap_or(u32::MAX)
    }

    fn awake(&self, x: usize) -> bool {
        self.nodes[x].pair.is_some() && !self.nodes[x].frozen
    }

    fn connected(&self) -> bool {
        !self.cut && self.awake(0) && self.awake(1)
    }

    fn facts(&self, x: usize) -> Facts {
        let node = &self.nodes[x];
        Facts {
            term: node.term,
            leads: node.leads,
            settled: node.leads != Leads::Nobody && node.log.term_of(node.committed) == node.term,
            last_log_index: u64::from(node.log.len),
            peer_matched: u64::from(node.matched),
            peer: match node.lost_since {
                None => Contact::Connected,
                Some(since) => Contact::Lost { since, closed: true },
            },
        }
    }

    fn arbiter(&self, x: usize) -> bool {
        self.nodes[x].pair.as_ref().is_some_and(Pair::arbiter)
    }

    fn event(&mut self, x: usize, event: Event) -> Result<(), Violation> {
        let (now, facts) = (self.now(), self.facts(x));
        let effects = self.nodes[x].pair.as_mut().map(|pair| pair.handle(now, event, &facts));
        self.carry_out(x, effects.unwrap_or_default())
    }

    fn carry_out(&mut self, x: usize, effects: Vec<Effect>) -> Result<(), Violation> {
        for effect in effects {
            match effect {
                Effect::Save(record) => self.nodes[x].saving = Some(record),
                Effect::AskDevice { ask } => self.nodes[x].ask = Some(ask),
                Effect::DropDevice => self.nodes[x].ask = None,
                // The rules hold the arbiter's state, and an election may come at any time.
                Effect::Arbiter(_) | Effect::GoOnAlone => {}
                Effect::Split(_) => return Err("both have gone on alone"),
            }
        }
        Ok(())
    }

    fn off(&mut self, x: usize) {
        let node = &mut self.nodes[x];
        *node = Node {
            pair: None,
            starts: node.starts,
            frozen: false,
            record: node.record,
            saving: None,
            term: node.term,
            log: node.log,
            leads: Leads::Nobody,
            committed: 0,
            matched: 0,
            ask: None,
            said: None,
            peer_yields: None,
            lost_since: None,
        };
    }

    /// What `x` has, a quorum has.
    fn acknowledge(&mut self, x: usize) -> Result<(), Violation> {
        let node = &mut self.nodes[x];
        if node.log.term_of(node.log.len) != node.term {
            return Ok(());
        }
        if !node.log.starts_with(self.acked) {
            return Err("something is acknowledged in the place of something else");
        }
        node.committed = node.log.len;
        self.acked = node.log;
        Ok(())
    }

    /// The world after a step, in which whoever is awake has taken note of it; `None` where the step is not possible.
    /// A node that is slow to take note is one that is frozen or ends before.
    fn after(&self, step: Step, game: Game) -> Result<Option<Self>, Violation> {
        if !self.thinkable(step, game) {
            return Ok(None);
        }
        let mut world = self.clone();
        if !world.take(step, game)? {
            return Ok(None);
        }
        let (now, connected) = (world.now(), world.connected());
        for node in &mut world.nodes {
            node.lost_since = match (connected, node.pair.is_some()) {
                (true, _) | (_, false) => None,
                (false, true) => Some(node.lost_since.unwrap_or(now)),
            };
        }
        for x in [0, 1] {
            if world.awake(x) {
                world.event(x, Event::Look)?;
            }
        }
        if world.arbiter(0) && world.arbiter(1) {
            return Err("two arbiters answer");
        }
        if world.nodes.iter().all(|node| node.record != Record::Shared) {
            return Err("two disks say sole");
        }
        Ok(Some(world))
    }

    fn step(&self, step: Step) -> Option<Self> {
        self.after(step, FREE).unwrap_or_else(|violation| panic!("{step:?}: {violation}"))
    }

    /// Most steps are impossible in most worlds; said before the world is copied.
    fn thinkable(&self, step: Step, Game { bounds, trust, .. }: Game) -> bool {
        let fault = self.faults < bounds.faults;
        let leads = |x: usize| self.awake(x) && self.nodes[x].leads == Leads::Me;
        match step {
            Step::Saved(x) => self.awake(x) && self.nodes[x].saving.is_some(),
            Step::Ask(x) => self.connected() && self.nodes[x].said.is_none(),
            Step::Hear(x) => self.awake(x) && self.nodes[x].said.is_some(),
            Step::HearYield(x) => self.awake(x) && self.nodes[x].peer_yields.is_some(),
            Step::Fenced(x) => self.awake(x) && self.nodes[x].ask.is_some() && trust == Trust::Fence,
            Step::Word(x) => self.awake(x) && !self.connected() && self.words < bounds.words,
            Step::Stop(_) => self.connected() && fault,
            Step::Elect(x) => self.awake(x) && !leads(x),
            Step::Append(x) => leads(x) && (self.nodes[x].log.len < LOG_MAX || bounds.steps == usize::MAX),
            Step::Replicate(x) => leads(x) && self.connected(),
            Step::ArbiterAcks(x) => leads(x) && self.arbiter(x),
            Step::Crash(x) => self.nodes[x].pair.is_some() && fault,
            Step::Start(x) => self.nodes[x].pair.is_none(),
            Step::Freeze(x) => self.awake(x) && fault,
            Step::Thaw(x) => self.nodes[x].frozen,
            Step::Cut => !self.cut && fault,
            Step::Heal => self.cut,
            Step::Tick => self.now < bounds.ticks,
        }
    }

    fn take(&mut self, step: Step, game: Game) -> Result<bool, Violation> {
        match step {
            Step::Saved(x) => {
                let record = self.nodes[x].saving.take().expect("thinkable");
                self.nodes[x].record = record;
                self.event(x, Event::Saved)?;
            }
            Step::Ask(x) => {
                let (facts, starts, now) = (self.facts(1 - x), self.nodes[x].starts, self.now());
                let says = self.nodes[1 - x].pair.as_mut().and_then(|pair| pair.answer(&facts, starts));
                self.nodes[x].said = says.map(|says| (now, says));
            }
            Step::Hear(x) => {
                let (asked_at, says) = self.nodes[x].said.take().expect("thinkable");
                self.event(x, Event::PeerSaid { asked_at, says })?;
            }
            Step::HearYield(x) => {
                let starts = self.nodes[x].peer_yields.take().expect("thinkable");
                let facts = self.facts(x);
                let taken = self.nodes[x].pair.as_mut().and_then(|pair| pair.peer_yields(&facts, starts).ok());
                self.carry_out(x, taken.unwrap_or_default())?;
            }
            Step::Fenced(x) => {
                let ask = self.nodes[x].ask.take().expect("thinkable");
                self.off(1 - x);
                let now = self.now();
                self.nodes[x].lost_since.get_or_insert(now);
                self.event(x, Event::Device { ask, granted: true })?;
            }
            Step::Word(x) => {
                let late = self.nodes[x].lost_since.is_some_and(|since| self.now().since(since) > TICK);
                let spoken = match game.trust {
                    Trust::Operator => self.nodes[1 - x].pair.is_none(),
                    Trust::Careless => x == 1 || late,
                    Trust::Fence => false,
                };
                if !spoken {
                    return Ok(false);
                }
                self.words += 1;
                let (now, facts) = (self.now(), self.facts(x));
                let taken = self.nodes[x].pair.as_mut().and_then(|pair| pair.take_over(now, &facts, false).ok());
                self.carry_out(x, taken.unwrap_or_default())?;
            }
            Step::Stop(x) => {
                self.faults += 1;
                let starts = self.nodes[x].starts;
                let yields = self.nodes[x].pair.as_mut().is_some_and(Pair::stop);
                self.nodes[1 - x].peer_yields = yields.then_some(starts);
            }
            Step::Elect(x) => return self.elect(x, game.bounds),
            Step::Append(x) => {
                let term = self.nodes[x].term;
                self.nodes[x].log.push(term);
            }
            Step::Replicate(x) => self.replicate(x)?,
            Step::ArbiterAcks(x) => self.acknowledge(x)?,
            Step::Crash(x) => {
                self.faults += 1;
                self.off(x);
            }
            Step::Start(x) => {
                self.nodes[x].starts += 1;
                self.nodes[x].pair = Some(start(x, self.nodes[x].record, self.now(), game.broken));
            }
            Step::Freeze(x) => {
                self.faults += 1;
                self.nodes[x].frozen = true;
            }
            Step::Thaw(x) => self.nodes[x].frozen = false,
            Step::Cut => {
                self.faults += 1;
                self.cut = true;
            }
            Step::Heal => self.cut = false,
            Step::Tick => self.now += 1,
        }
        Ok(true)
    }

    /// Stands for election with the vote of the peer or of its own arbiter.
    fn elect(&mut self, x: usize, bounds: Bounds) -> Result<bool, Violation> {
        let (connected, peer) = (self.connected(), &self.nodes[1 - x]);
        let peer_votes = connected && peer.log.newest() <= self.nodes[x].log.newest();
        if !peer_votes && !self.arbiter(x) {
            return Ok(false);
        }
        let term = self.nodes[x].term.max(if connected { peer.term } else { 0 }) + 1;
        if (term > TERM_MAX || self.nodes[x].log.len >= LOG_MAX) && bounds.steps != usize::MAX {
            return Ok(false);
        }
        if peer_votes {
            let peer = &mut self.nodes[1 - x];
            (peer.term, peer.leads, peer.matched) = (term, Leads::Nobody, 0);
        }
        let node = &mut self.nodes[x];
        if !node.log.starts_with(self.acked) {
            return Err("a leader lacks something acknowledged");
        }
        (node.term, node.leads, node.matched, node.committed) = (term, Leads::Me, 0, 0);
        node.log.push(term);
        Ok(true)
    }

    fn replicate(&mut self, x: usize) -> Result<(), Violation> {
        let (term, log, newer) = (self.nodes[x].term, self.nodes[x].log, self.nodes[1 - x].term);
        if newer > term {
            let node = &mut self.nodes[x];
            (node.term, node.leads, node.matched) = (newer, Leads::Nobody, 0);
            return Ok(());
        }
        let peer = &mut self.nodes[1 - x];
        (peer.term, peer.leads, peer.log, peer.matched) = (term, Leads::Peer, log, 0);
        self.nodes[x].matched = log.len;
        self.acknowledge(x)?;
        self.nodes[1 - x].committed = self.nodes[x].committed;
        Ok(())
    }

    fn in_sync(&self, x: usize) -> bool {
        let standing = self.nodes[x].pair.as_ref().map(Pair::standing);
        matches!(standing, Some(Standing::InSync { .. }))
    }

    fn try_step(&mut self, step: Step) {
        if let Some(after) = self.step(step) {
            *self = after;
        }
    }

    /// What the nodes of `alive` do when nothing more goes wrong, until `done`.
    fn settle(mut self, alive: &[usize], done: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..6 {
            if done(&self) {
                return true;
            }
            for x in alive {
                if alive.iter().all(|y| self.nodes[*y].leads != Leads::Me) {
                    self.try_step(Step::Elect(*x));
                }
                for step in [Step::Replicate(*x), Step::ArbiterAcks(*x), Step::Saved(*x), Step::HearYield(*x)] {
                    self.try_step(step);
                }
                for step in [Step::Hear(*x), Step::Ask(*x), Step::Hear(*x), Step::Saved(*x)] {
                    self.try_step(step);
                }
            }
            self.try_step(Step::Tick);
        }
        done(&self)
    }

    /// Whether what is promised happens from here.
    fn progress(&self) -> Result<(), Violation> {
        let leads_with_all = |world: &Self, x: usize| {
            world.nodes[x].leads == Leads::Me && world.facts(x).settled && world.nodes[x].log.starts_with(self.acked)
        };
        let mut healed = self.clone();
        for x in [0, 1] {
            healed.try_step(Step::Heal);
            healed.try_step(Step::Thaw(x));
            // A node that was asked to stop does so before it takes part again.
            let stopping = |pair: &Pair| pair.standing() == Standing::Outdated(Why::Yielded);
            if healed.nodes[x].pair.as_ref().is_some_and(stopping) {
                healed.try_step(Step::Crash(x));
            }
            healed.try_step(Step::Start(x));
        }
        let whole = |world: &Self| {
            world.in_sync(0) && world.in_sync(1) && (leads_with_all(world, 0) || leads_with_all(world, 1))
        };
        if !healed.settle(&[0, 1], whole) {
            return Err("the pair does not become whole again");
        }
        for x in [0, 1] {
            if self.nodes[x].record != Record::Shared || self.arbiter(x) {
                let mut alone = self.clone();
                for step in [Step::Crash(0), Step::Crash(1), Step::Start(x)] {
                    alone.try_step(step);
                }
                if !alone.settle(&[x], |world| leads_with_all(world, x)) {
                    return Err("a sole node that restarts alone does not go on");
                }
            }
            if self.in_sync(x) && self.connected() {
                let mut alone = self.clone();
                alone.try_step(Step::Crash(1 - x));
                alone.try_step(Step::Fenced(x));
                if !alone.settle(&[x], |world| leads_with_all(world, x)) {
                    return Err("a node in sync whose peer was fenced does not go on alone");
                }
            }
        }
        Ok(())
    }
}

fn steps() -> Vec<Step> {
    let each = |x| {
        [
            Step::Saved(x),
            Step::Ask(x),
            Step::Hear(x),
            Step::HearYield(x),
            Step::Fenced(x),
            Step::Word(x),
            Step::Stop(x),
            Step::Elect(x),
            Step::Append(x),
            Step::Replicate(x),
            Step::ArbiterAcks(x),
            Step::Crash(x),
            Step::Start(x),
            Step::Freeze(x),
            Step::Thaw(x),
        ]
    };
    [each(0), each(1)].concat().into_iter().chain([Step::Cut, Step::Heal, Step::Tick]).collect()
}

#[derive(Debug)]
struct Found {
    violation: Violation,
    path: Vec<Step>,
}

/// Goes through everything within the bounds that begins with the steps of `first`. Returns how many states there are, or
/// the shortest way from there to a violation.
fn explore(game: Game, first: &[Step], progress: bool) -> Result<usize, Found> {
    let steps = steps();
    let mut start = World::whole(game.broken);
    for step in first {
        let after = start.after(*step, game).map_err(|violation| Found { violation, path: vec![*step] })?;
        start = after.unwrap_or_else(|| panic!("{step:?} is not possible"));
    }
    let mut seen = Seen::default();
    seen.insert(key(&start));
    // Per state the one before it and the step between the two.
    let mut ways: Vec<(usize, Step)> = vec![(0, Step::Tick)];
    let mut front = vec![(0, start)];
    for _ in 0..game.bounds.steps {
        let mut next = Vec::new();
        for (at, world) in front {
            for step in &steps {
                let found = |violation| Found { violation, path: path(&ways, at, *step) };
                let Some(after) = world.after(*step, game).map_err(found)? else { continue };
                if !seen.insert(key(&after)) {
                    continue;
                }
                if progress {
                    after.progress().map_err(found)?;
                }
                ways.push((at, *step));
                next.push((ways.len() - 1, after));
            }
        }
        front = next;
    }
    Ok(seen.len())
}

fn path(ways: &[(usize, Step)], mut at: usize, last: Step) -> Vec<Step> {
    let mut path = vec![last];
    while at != 0 {
        path.push(ways[at].1);
        at = ways[at].0;
    }
    path.reverse();
    path
}

/// In an unoptimised build the same with fewer steps, to take seconds there as well.
const STEPS: usize = if cfg!(debug_assertions) { 6 } else { 8 };

fn no_violation(what: &str, game: Game, progress: bool) {
    match explore(game, &[], progress) {
        Ok(states) => {
            println!("{what}: {states} states");
            assert!(states > 5_000, "the search was cut short: {states} states");
        }
        Err(found) => panic!("{what}: {}, after {:?}", found.violation, found.path),
    }
}

fn game(trust: Trust, steps: usize) -> Game {
    Game { bounds: Bounds { steps, faults: 2, words: 2, ticks: 2 }, trust, broken: None }
}

#[test]
fn with_a_fence_no_two_are_sole_and_nothing_acknowledged_is_lost() {
    no_violation("fence", game(Trust::Fence, STEPS), false);
}

#[test]
fn with_an_operator_no_two_are_sole_and_nothing_acknowledged_is_lost() {
    no_violation("operator", game(Trust::Operator, STEPS), false);
}

#[test]
fn an_operator_who_errs_and_then_comes_late_is_refused() {
    no_violation("careless operator", game(Trust::Careless, STEPS), false);
}

#[test]
fn what_is_promised_happens() {
    no_violation("progress", game(Trust::Fence, STEPS - 1), true);
}

#[test]
fn without_any_one_rule_something_goes_wrong() {
    use Step::{Append, ArbiterAcks, Ask, Crash, Cut, Fenced, Hear, Replicate, Saved, Start, Stop, Word};
    let returned = [Crash(1), Fenced(0), Saved(0), Start(1), Replicate(0)];
    let behind = [&returned[..], &[Append(0), ArbiterAcks(0), Ask(0), Hear(0)]].concat();
    let cases: [(Rule, Trust, &[Step], bool); 9] = [
        (Rule::RestartOutdates, Trust::Fence, &[Cut, Fenced(0), Saved(0)], false),
        (Rule::SavedBeforeSolo, Trust::Fence, &[], true),
        (Rule::PeerHasAll, Trust::Fence, &behind, false),
        (Rule::SoleConfirmsNothing, Trust::Fence, &returned, false),
        (Rule::ArmsInSync, Trust::Operator, &[Stop(0)], false),
        (Rule::YieldedStays, Trust::Operator, &[Ask(0), Stop(0)], false),
        (Rule::OldYieldIsVoid, Trust::Operator, &[Stop(1), Crash(1), Start(1), Replicate(0), Ask(1)], false),
        (Rule::WindowEnds, Trust::Careless, &[Cut, Word(1), Saved(1)], false),
        (Rule::CountedFromAsking, Trust::Careless, &[Ask(0), Cut, Word(1), Saved(1)], false),
    ];
    for (rule, trust, first, progress) in cases {
        let bounds = Bounds { steps: 9, faults: 3, words: 2, ticks: 3 };
        match explore(Game { bounds, trust, broken: Some(rule) }, first, progress) {
            Ok(states) => panic!("without {rule:?} nothing goes wrong in {states} states"),
            Err(found) => println!("without {rule:?}: {}, after {first:?} {:?}", found.violation, found.path),
        }
    }
}
