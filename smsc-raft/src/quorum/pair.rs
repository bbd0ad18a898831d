//! When one node of two may go on alone. Pure: what happened and the time go in, what is to be done comes out.
//!
//! ```text
//!   start ──▶ Outdated ◀───────── too late, or the peer went on alone ─────────┐
//!                │  the peer confirms, by a live leader                        │
//!                ▼                                                             │
//!             InSync ── device says yes, or the peer yields ──▶ Arming ── on disk ──▶ Sole
//!                ▲                                                             │ the peer has nearly all
//!                └── on disk ── Disarming ◀── the peer has all ── Rejoining ◀──┘
//! ```
//!
//! The arbiter answers in the stage `Sole` alone. Why nothing acknowledged is lost:
//!
//! - As long as no arbiter answers, a commit needs both nodes, so both hold everything acknowledged. A node is *in sync*
//!   when the other one has confirmed just that, under a leader that both follow: the leader has an entry of its own
//!   term committed, and the follower has everything up to the point at which the leader's arbiter last answered.
//! - Being in sync is not kept over a restart and lasts for a limited time without a new confirmation, counted from
//!   when the question was *sent*. A node that stood still therefore does not take an old answer for a new one.
//! - While a node is sole, the other is never confirmed as in sync, so it cannot become sole as well, whatever its
//!   device says. A sole node says so on disk before its arbiter answers, and goes on alone after a restart.
//! - It stops being sole in this order: its arbiter falls silent, the peer has everything up to that point, the disk
//!   says so, the peer is told.
//!
//! That not both nodes are let go on alone at the same time, each while the other lives, is the device's part.

use std::time::Duration;

use crate::leadership::MonoTime;

/// How far a peer may be behind when its sole partner begins to let it count again. Log entries: less than what is
/// replicated within the time for which a leader's lease lasts.
const NEARLY_ALL_ENTRIES: u64 = 1000;

/// What a node of a pair goes by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Whether the device may be asked without an operator, and when.
    pub device: Device,
    /// How long after the peer's last confirmation this node may still arm.
    pub window: Duration,
    /// How long a leader may act on its quorum's last answer: a peer that may be alive has stopped by then.
    pub lease: Duration,
    /// How long a peer that returns may take for the last entries before its partner goes on alone again.
    pub rejoin_within: Duration,
}

/// The device as far as the rules go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// Nobody but an operator.
    Operator,
    /// A command or an observation.
    Automatic {
        /// How long the peer must have been lost.
        after: Duration,
        /// How much longer a node waits that does not lead, when the peer may be alive: two that ask at the same
        /// moment must not switch each other off.
        standby_delay: Duration,
        /// The pause after a no.
        retry: Duration,
        /// Whether a yes proves that the peer is off, so that its lease need not be waited out.
        proves_off: bool,
    },
}

/// Who leads, as a node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Leads {
    /// Nobody.
    Nobody,
    /// This node, elected by a quorum.
    Me,
    /// The other node, elected by a quorum.
    Peer,
}

/// Whether the peer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contact {
    /// It answers.
    Connected,
    /// It does not.
    Lost {
        /// Since when.
        since: MonoTime,
        /// Whether its connections were closed, as they are when a process ends.
        closed: bool,
    },
}

/// What is the case on this node as an event is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    /// The Raft term.
    pub term: u64,
    /// Who leads in it.
    pub leads: Leads,
    /// Whether an entry of this term is committed and applied here.
    pub settled: bool,
    /// Last entry in this node's log, read after everything that the arbiter has answered.
    pub last_log_index: u64,
    /// If this node leads: the last entry that the peer has on its disk.
    pub peer_matched: u64,
    /// Whether the peer is there.
    pub peer: Contact,
}

/// What a node says when its peer asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Says {
    /// Its term.
    pub term: u64,
    /// Who leads in it, as the one who answers sees it.
    pub leads: Leads,
    /// Since when it has gone on alone, if it has.
    pub sole: Option<Sole>,
    /// As the leader: that the asker has everything acknowledged, and that nothing is acknowledged without it.
    pub you_hold_all: bool,
}

/// On whose word a node went on alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// The quorum device's.
    Device,
    /// An operator's.
    Operator,
    /// The peer's own, as it stopped in an orderly way.
    Yielded,
    /// An operator's who accepted that acknowledged messages may be lost.
    Forced,
}

/// That a node has gone on alone: nothing after this point need be on its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sole {
    /// The term in which it was armed.
    pub since_term: u64,
    /// The last entry in its log then.
    pub since_index: u64,
    /// On whose word.
    pub grant: Grant,
}

/// What a node's disk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Record {
    /// Nothing was acknowledged without the peer, as far as this node knows.
    #[default]
    Shared,
    /// This node has gone on alone.
    Sole(Sole),
}

/// Why a node may not arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It has started and no live leader has confirmed yet that it is up to date.
    Started,
    /// Its peer was lost for too long and may have gone on alone.
    TooLate,
    /// Its peer has gone on alone.
    PeerSole,
    /// It is stopping and has left everything to its peer.
    Yielded,
}

/// Where a node stands, for those who ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// It must be brought up to date before it may go on alone.
    Outdated(Why),
    /// It holds everything acknowledged and may arm, if it loses its peer, until then.
    InSync {
        /// The end of the time within which it may arm, unless the peer confirms again.
        until: MonoTime,
    },
    /// It goes on alone.
    Sole(Sole),
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Time passed, or the facts changed.
    Look,
    /// What [`Effect::Save`] asked for is on the disk.
    Saved,
    /// The device answered a question.
    Device {
        /// Which.
        ask: u64,
        /// Whether this node may go on alone.
        granted: bool,
    },
    /// The peer answered.
    PeerSaid {
        /// When the question was sent.
        asked_at: MonoTime,
        /// What it said.
        says: Says,
    },
}

/// What is to be done, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Let the arbiter answer, or not. Takes effect before the next event is handled.
    Arbiter(bool),
    /// Write to disk and sync, then tell [`Event::Saved`].
    Save(Record),
    /// Ask the device, then tell [`Event::Device`].
    AskDevice {
        /// To be returned with the answer.
        ask: u64,
    },
    /// The answer is not needed any more.
    DropDevice,
    /// The arbiter answers now: stand for election at once, or have it asked at once.
    GoOnAlone,
    /// Both nodes have gone on alone. This one has less right and must stop before either takes anything from the
    /// other.
    Split(Sole),
}

/// Why a node does not go on alone although it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The peer is alive.
    #[error("its peer answers this node: it is not down")]
    PeerAnswers,
    /// This node may lack something acknowledged.
    #[error("{}", .0.sentence())]
    Outdated(Why),
    /// The peer's lease may still run.
    #[error("its peer was lost only a moment ago and may still serve; try again in a second")]
    TooSoon,
    /// This node is writing to its disk what it was told before.
    #[error("it is just changing over; look at smscctl status and try again in a second")]
    Busy,
    /// The peer has started again since it said so.
    #[error("its peer has started again since")]
    Stale,
}

impl Why {
    /// For an operator.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Why::Started => {
                "it has started without its peer and cannot know whether that one went on alone meanwhile: start the \
                 peer, which has everything"
            }
            Why::TooLate => {
                "it lost its peer too long ago, and that one may have gone on alone since: start the peer, or heal the \
                 network between the two"
            }
            Why::PeerSole => {
                "its peer has gone on alone and has messages that this node lacks: start the peer, or heal the network \
                 between the two"
            }
            Why::Yielded => "it is stopping and has left everything to its peer",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Outdated(Why),
    InSync {
        /// When the question was sent that the peer answered last.
        at: MonoTime,
        /// The question that the device was asked.
        asked: Option<u64>,
        /// When the device last said no.
        refused_at: Option<MonoTime>,
    },
    /// The disk is being told.
    Arming(Sole),
    /// The arbiter answers.
    Sole {
        sole: Sole,
        /// A peer that did not make it is given this much rest.
        rejoin_from: MonoTime,
    },
    /// The arbiter is silent, the disk says sole.
    Rejoining {
        sole: Sole,
        since: MonoTime,
        /// Everything that the arbiter has answered is at or before this; known from the first look on.
        floor: Option<u64>,
    },
    /// The disk is being told that the peer has everything.
    Disarming {
        sole: Sole,
        at: MonoTime,
    },
}

/// The rules that tests put out one at a time, to see that each is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(test), allow(dead_code, reason = "outside of tests every rule holds and nobody names all of them"))]
pub(crate) enum Rule {
    /// A restart ends being in sync.
    RestartOutdates,
    /// Being in sync ends with its time.
    WindowEnds,
    /// An answer counts from when it was asked for.
    CountedFromAsking,
    /// The disk says sole before the arbiter answers.
    SavedBeforeSolo,
    /// A peer is confirmed only once it has what the arbiter has answered.
    PeerHasAll,
    /// A node confirms nothing while it is sole.
    SoleConfirmsNothing,
    /// Who has yielded never arms.
    YieldedStays,
    /// A node arms only while it is in sync.
    ArmsInSync,
    /// What a node said before it started again is void.
    OldYieldIsVoid,
}

/// One node of two. What it decides is told at the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    policy: Policy,
    own_id: u64,
    peer_id: u64,
    stage: Stage,
    /// The peer has everything acknowledged once it has this, because from here on the arbiter was silent.
    floor: u64,
    /// What the peer said last, while it was there.
    heard: Option<Says>,
    /// The newest start of the peer that this node has answered; see [`Pair::answer`].
    peer_starts: u64,
    asks: u64,
    #[cfg(test)]
    broken: Option<Rule>,
}

impl Pair {
    /// The node as it starts, and what is to be done first.
    #[must_use]
    pub fn start(policy: Policy, own_id: u64, peer_id: u64, record: Record, now: MonoTime) -> (Self, Vec<Effect>) {
        let stage = match record {
            Record::Shared => Stage::Outdated(Why::Started),
            Record::Sole(sole) => Stage::Sole { sole, rejoin_from: now },
        };
        let pair = Self {
            policy,
            own_id,
            peer_id,
            stage,
            floor: 0,
            heard: None,
            peer_starts: 0,
            asks: 0,
            #[cfg(test)]
            broken: None,
        };
        let effects = match record {
            Record::Shared => vec![],
            Record::Sole(_) => vec![Effect::Arbiter(true), Effect::GoOnAlone],
        };
        (pair, effects)
    }

    /// The other node.
    #[must_use]
    pub fn peer_id(&self) -> u64 {
        self.peer_id
    }

    /// Whether the arbiter is to answer at this moment.
    #[must_use]
    pub fn arbiter(&self) -> bool {
        matches!(self.stage, Stage::Sole { .. })
    }

    /// Where this node stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.stage {
            Stage::Outdated(why) => Standing::Outdated(why),
            Stage::InSync { at, .. } => Standing::InSync { until: at + self.policy.window },
            Stage::Arming(sole)
            | Stage::Sole { sole, .. }
            | Stage::Rejoining { sole, .. }
            | Stage::Disarming { sole, .. } => Standing::Sole(sole),
        }
    }

    /// Whether the peer's part in Raft is welcome: a node that goes on alone waits until the peer has said that it does
    /// not do so as well.
    #[must_use]
    pub fn trusts_peer(&self) -> bool {
        let alone = matches!(self.standing(), Standing::Sole(_));
        !alone || self.heard.is_some_and(|says| says.sole.is_none())
    }

    /// Whether the device is being asked.
    #[must_use]
    pub fn asks_device(&self) -> bool {
        matches!(self.stage, Stage::InSync { asked: Some(_), .. })
    }

    /// What this node says when the peer asks it that has started so many times. `None` if the peer has started again
    /// since: what it asked or said before counts for nothing.
    #[must_use]
    pub fn answer(&mut self, facts: &Facts, peer_starts: u64) -> Option<Says> {
        if peer_starts < self.peer_starts {
            return None;
        }
        self.peer_starts = peer_starts;
        let sole = match self.standing() {
            Standing::Sole(sole) if self.keeps(Rule::SoleConfirmsNothing) => Some(sole),
            _ => None,
        };
        // Who is leaving says nothing on which somebody could rely afterwards.
        let lasting = !matches!(self.stage, Stage::Outdated(Why::Yielded));
        let has_all = facts.peer_matched >= self.floor || !self.keeps(Rule::PeerHasAll);
        let holds = facts.leads == Leads::Me && facts.settled && has_all;
        Some(Says { term: facts.term, leads: facts.leads, sole, you_hold_all: sole.is_none() && lasting && holds })
    }

    /// Handles an event.
    pub fn handle(&mut self, now: MonoTime, event: Event, facts: &Facts) -> Vec<Effect> {
        match event {
            Event::Look => self.look(now, facts),
            Event::Saved => self.saved(now),
            Event::Device { ask, granted } => self.device(now, ask, granted, facts),
            Event::PeerSaid { asked_at, says } => self.peer_said(now, asked_at, says, facts),
        }
    }

    /// An operator says that the peer is down; with `accept_loss`, that this node is to go on even if that loses
    /// messages which only the peer has.
    ///
    /// # Errors
    /// Why it does not. Nothing has changed then.
    pub fn take_over(&mut self, now: MonoTime, facts: &Facts, accept_loss: bool) -> Result<Vec<Effect>, Refusal> {
        if let Stage::Sole { .. } = self.stage {
            return Ok(vec![]);
        }
        let Contact::Lost { since, .. } = facts.peer else {
            return Err(Refusal::PeerAnswers);
        };
        if now.since(since) < self.policy.lease {
            return Err(Refusal::TooSoon);
        }
        match self.stage {
            Stage::InSync { at, .. } if self.in_time(now, at) => Ok(self.arm(Grant::Operator, facts)),
            Stage::InSync { .. } | Stage::Outdated(Why::Started | Why::TooLate | Why::PeerSole) if accept_loss => {
                Ok(self.arm(Grant::Forced, facts))
            }
            Stage::InSync { .. } => Err(Refusal::Outdated(Why::TooLate)),
            Stage::Outdated(_) if !self.keeps(Rule::ArmsInSync) => Ok(self.arm(Grant::Operator, facts)),
            Stage::Outdated(why) => Err(Refusal::Outdated(why)),
            Stage::Arming(_) | Stage::Sole { .. } | Stage::Rejoining { .. } | Stage::Disarming { .. } => {
                Err(Refusal::Busy)
            }
        }
    }

    /// The peer stops and leaves everything to this node; it will not arm until it has been brought up to date.
    ///
    /// # Errors
    /// Why this node cannot take it up. The peer stops all the same.
    pub fn peer_yields(&mut self, facts: &Facts, peer_starts: u64) -> Result<Vec<Effect>, Refusal> {
        // Confirmed as in sync again after a start, it would be let go on alone a second time.
        if peer_starts < self.peer_starts && self.keeps(Rule::OldYieldIsVoid) {
            return Err(Refusal::Stale);
        }
        match self.stage {
            // However long ago the peer confirmed: it has not gone on alone, or it could not yield.
            Stage::InSync { .. } => Ok(self.arm(Grant::Yielded, facts)),
            Stage::Sole { .. } => Ok(vec![]),
            Stage::Outdated(why) => Err(Refusal::Outdated(why)),
            Stage::Arming(_) | Stage::Rejoining { .. } | Stage::Disarming { .. } => Err(Refusal::Busy),
        }
    }

    /// This node is about to stop. `true`: it has nothing that the peer lacks, will not arm any more, and the peer is
    /// to be told so.
    #[must_use]
    pub fn stop(&mut self) -> bool {
        if let Stage::InSync { .. } = self.stage {
            self.stage = Stage::Outdated(Why::Yielded);
            return true;
        }
        false
    }

    fn look(&mut self, now: MonoTime, facts: &Facts) -> Vec<Effect> {
        if facts.peer != Contact::Connected {
            self.heard = None;
        }
        match self.stage {
            Stage::InSync { at, asked, refused_at } => self.look_in_sync(now, facts, at, asked, refused_at),
            Stage::Sole { sole, rejoin_from } if now >= rejoin_from && self.peer_nearly_there(facts) => {
                self.stage = Stage::Rejoining { sole, since: now, floor: None };
                vec![Effect::Arbiter(false)]
            }
            Stage::Rejoining { sole, since, floor } => {
                let floor = floor.unwrap_or(facts.last_log_index);
                let has_all = match facts.leads {
                    Leads::Me => facts.settled && facts.peer_matched >= floor,
                    // A leader that this node has elected has what this node has.
                    Leads::Peer => facts.settled,
                    Leads::Nobody => false,
                };
                if has_all || !self.keeps(Rule::PeerHasAll) {
                    self.floor = floor;
                    self.stage = Stage::Disarming { sole, at: now };
                    return vec![Effect::Save(Record::Shared)];
                }
                if facts.peer != Contact::Connected || now.since(since) > self.policy.rejoin_within {
                    self.stage = Stage::Sole { sole, rejoin_from: now + self.policy.rejoin_within };
                    return vec![Effect::Arbiter(true), Effect::GoOnAlone];
                }
                self.stage = Stage::Rejoining { sole, since, floor: Some(floor) };
                vec![]
            }
            Stage::Outdated(_) | Stage::Arming(_) | Stage::Sole { .. } | Stage::Disarming { .. } => vec![],
        }
    }

    fn look_in_sync(
        &mut self,
        now: MonoTime,
        facts: &Facts,
        at: MonoTime,
        asked: Option<u64>,
        refused_at: Option<MonoTime>,
    ) -> Vec<Effect> {
        let given_up = || asked.map(|_| Effect::DropDevice).into_iter().collect();
        if !self.in_time(now, at) {
            self.stage = Stage::Outdated(Why::TooLate);
            return given_up();
        }
        let Contact::Lost { since, closed } = facts.peer else {
            self.stage = Stage::InSync { at, asked: None, refused_at: None };
            return given_up();
        };
        let Device::Automatic { after, standby_delay, retry, proves_off } = self.policy.device else {
            return vec![];
        };
        let delay = if closed || facts.leads == Leads::Me { Duration::ZERO } else { standby_delay };
        let wait = if proves_off { after + delay } else { (after + delay).max(self.policy.lease) };
        let rested = refused_at.is_none_or(|refused| now.since(refused) >= retry);
        if asked.is_some() || now.since(since) < wait || !rested {
            return vec![];
        }
        self.asks += 1;
        self.stage = Stage::InSync { at, asked: Some(self.asks), refused_at };
        vec![Effect::AskDevice { ask: self.asks }]
    }

    fn saved(&mut self, now: MonoTime) -> Vec<Effect> {
        match self.stage {
            Stage::Arming(sole) => {
                self.stage = Stage::Sole { sole, rejoin_from: now };
                vec![Effect::Arbiter(true), Effect::GoOnAlone]
            }
            // Only now may the peer be told. This node holds everything, so it is in sync whether or not that one
            // hears of it.
            Stage::Disarming { at, .. } => {
                self.stage = Stage::InSync { at, asked: None, refused_at: None };
                vec![]
            }
            _ => vec![],
        }
    }

    fn device(&mut self, now: MonoTime, ask: u64, granted: bool, facts: &Facts) -> Vec<Effect> {
        let Stage::InSync { at, asked: Some(asked), .. } = self.stage else {
            return vec![];
        };
        if asked != ask {
            return vec![];
        }
        if granted && facts.peer != Contact::Connected && self.in_time(now, at) {
            return self.arm(Grant::Device, facts);
        }
        self.stage = Stage::InSync { at, asked: None, refused_at: Some(now) };
        vec![]
    }

    fn peer_said(&mut self, now: MonoTime, asked_at: MonoTime, says: Says, facts: &Facts) -> Vec<Effect> {
        self.heard = Some(says);
        let at = if self.keeps(Rule::CountedFromAsking) { asked_at } else { now };
        let (known, asked) = match self.stage {
            Stage::InSync { at, asked, .. } => (Some(at), asked),
            Stage::Outdated(Why::Yielded) if self.keeps(Rule::YieldedStays) => return vec![],
            Stage::Outdated(_) => (None, None),
            Stage::Sole { sole, .. } | Stage::Rejoining { sole, .. } => return self.meet(sole, says),
            Stage::Arming(_) | Stage::Disarming { .. } => return vec![],
        };
        let given_up = || asked.map(|_| Effect::DropDevice).into_iter().collect();
        if says.sole.is_some() {
            if known.is_none_or(|known| asked_at >= known) {
                self.stage = Stage::Outdated(Why::PeerSole);
                return given_up();
            }
            return vec![];
        }
        let confirmed = says.term == facts.term
            && match (facts.leads, says.leads) {
                (Leads::Me, Leads::Peer) => facts.settled,
                (Leads::Peer, Leads::Me) => says.you_hold_all,
                _ => false,
            };
        if !confirmed || !self.in_time(now, at) || known.is_some_and(|known| known > at) {
            return vec![];
        }
        let asked = asked.filter(|_| facts.peer != Contact::Connected);
        self.stage = Stage::InSync { at, asked, refused_at: None };
        if asked.is_none() { given_up() } else { vec![] }
    }

    /// Both have gone on alone: the device let both, or an operator was wrong. What either acknowledged cannot be
    /// brought together. The later one goes on, of two in the same term the one with the lower id.
    fn meet(&self, sole: Sole, says: Says) -> Vec<Effect> {
        let Some(other) = says.sole else { return vec![] };
        let rank = |sole: Sole, id: u64| (sole.since_term, std::cmp::Reverse(id));
        if rank(sole, self.own_id) < rank(other, self.peer_id) { vec![Effect::Split(other)] } else { vec![] }
    }

    /// Whether the peer follows and lacks so little that commits may soon wait for it.
    fn peer_nearly_there(&self, facts: &Facts) -> bool {
        let Some(says) = self.heard else { return false };
        let agree = says.term == facts.term && says.sole.is_none() && facts.peer == Contact::Connected && facts.settled;
        agree
            && match facts.leads {
                Leads::Me => {
                    says.leads == Leads::Peer && facts.peer_matched + NEARLY_ALL_ENTRIES >= facts.last_log_index
                }
                Leads::Peer => says.leads == Leads::Me,
                Leads::Nobody => false,
            }
    }

    fn arm(&mut self, grant: Grant, facts: &Facts) -> Vec<Effect> {
        let sole = Sole { since_term: facts.term, since_index: facts.last_log_index, grant };
        if !self.keeps(Rule::SavedBeforeSolo) {
            self.stage = Stage::Sole { sole, rejoin_from: MonoTime::from_nanos(0) };
            return vec![Effect::Arbiter(true), Effect::GoOnAlone];
        }
        self.stage = Stage::Arming(sole);
        vec![Effect::Save(Record::Sole(sole))]
    }

    fn in_time(&self, now: MonoTime, at: MonoTime) -> bool {
        now.since(at) <= self.policy.window || !self.keeps(Rule::WindowEnds)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "in tests a rule may be out")]
    const fn keeps(&self, _: Rule) -> bool {
        true
    }

    #[cfg(test)]
    fn keeps(&self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    /// What tells two states of a node apart.
    #[cfg(test)]
    pub(crate) fn hash_state(&self, into: &mut impl std::hash::Hasher) {
        use std::hash::Hash as _;
        (self.stage, self.floor, self.heard, self.peer_starts).hash(into);
    }

    /// The same node with a rule out.
    #[cfg(test)]
    pub(crate) fn with_rule_out(mut self, rule: Option<Rule>, now: MonoTime) -> Self {
        self.broken = rule;
        if rule == Some(Rule::RestartOutdates) && self.stage == Stage::Outdated(Why::Started) {
            self.stage = Stage::InSync { at: now, asked: None, refused_at: None };
        }
        self
    }
}
