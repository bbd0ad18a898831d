//! The delivery engine: what is stored, who is bound and what time it is go in; what to send, to record and to look up
//! comes out.
//!
//! It holds a window of what waits, the rest stays in the store and is found again by place (within a queue) or by due
//! time (among numbers): memory does not grow with the backlog, and a new leader starts with an empty engine and
//! delivers after its first readings. What it proposes takes effect when it comes back as a [`Change`]; until then the
//! message is *being recorded*, neither sent nor proposed a second time. An engine lives for one term: when a proposal
//! fails, leadership is gone and the engine is dropped.
//!
//! Towards a number one message is under way at a time, in order, and a failure makes the whole queue wait
//! (`numbers`), whichever link leads there; each link has its window and rate, and accounts take turns at it (`links`).
//! Towards an account messages go to whichever receiver has room in its window, and a failure puts off
//! that message alone (`esmes`).

mod backlog;
mod effect;
mod esmes;
mod expiry;
mod links;
mod numbers;
mod outcome;
mod pending;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

pub use backlog::Position;
pub use effect::{Effect, LinkResult, Load, Loaded};
use esmes::Esmes;
pub use esmes::Receiver;
use expiry::Expiry;
use foldhash::HashMap;
pub use links::LinkCapacity;
use links::Links;
use numbers::Numbers;
use pending::Pending;
use smol_str::SmolStr;
use smsc_raft::machine::Change;
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::{Message, Settings, Submission};

use super::retry::RetryPolicies;
use super::route::{LINK_HANDSET, RouteTable};

/// Bounds of an engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// Messages held at most, whatever waits. At least 100.
    pub window_messages: usize,
    /// Messages held at most of one queue towards a number.
    pub number_messages: usize,
    /// Seed of the jitter between attempts.
    pub seed: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { window_messages: 100_000, number_messages: 32, seed: 0 }
    }
}

/// Where a message that the engine knows of stands.
#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Held in its queue's backlog.
    Waiting,
    /// Held until then, for an ESME that could not take it.
    PutOff(u64),
    /// Sent to a session, not answered.
    OnSession(u64),
    /// Sent to a link, not answered.
    OnLink(SmolStr),
    /// Its outcome is proposed.
    Recording {
        /// The outcome is that it has left: delivered, or accepted by another message centre.
        delivered: bool,
        /// It counts as a failure of the number, when it is one.
        counts: bool,
    },
    /// Finished by somebody else while it was on its way; kept until whoever has it answers.
    Orphan {
        /// Who has it.
        with: With,
        /// It was stored again under its id, meanwhile.
        again: Option<Arc<Message>>,
    },
}

/// What a message's waiting on says of its number.
#[derive(Clone, Copy, Debug)]
struct Failure {
    /// It moves the number's schedule on.
    counts: bool,
    /// It was sent, in vain.
    tried: bool,
}

/// Who has a message that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
enum With {
    Session(u64),
    Link(SmolStr),
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    queue: QueueKey,
    state: State,
}

impl Entry {
    fn place(&self) -> Position {
        Position::of(&self.message)
    }
}

/// What the engine knows of messages, by id, counted by the kind of their queue.
#[derive(Debug, Default)]
struct Index {
    entries: HashMap<u64, Entry>,
    to_esmes: usize,
}

impl Index {
    fn to_esmes(&self) -> usize {
        self.to_esmes
    }

    fn to_numbers(&self) -> usize {
        self.entries.len() - self.to_esmes
    }

    fn get(&self, id: u64) -> Option<&Entry> {
        self.entries.get(&id)
    }

    fn get_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.get_mut(&id)
    }

    fn insert(&mut self, message: Arc<Message>, queue: QueueKey, state: State) {
        self.to_esmes += usize::from(queue.is_esme());
        let before = self.entries.insert(message.id, Entry { message, queue, state });
        debug_assert!(before.is_none(), "a message is taken in once");
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.to_esmes -= usize::from(entry.queue.is_esme());
        Some(entry)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct DeliveryEngine {
    config: EngineConfig,
    routes: Arc<RouteTable>,
    retry: RetryPolicies,
    receipt_validity_s: u64,
    index: Index,
    numbers: Numbers,
    links: Links,
    esmes: Esmes,
    expiry: Expiry,
    pending: Pending,
    effects: VecDeque<Effect>,
    /// How late the first attempt was of the last message that waited for nothing but its turn.
    lag_ms: Option<u64>,
    /// What was accepted before was another's to deliver.
    began_at_ms: u64,
    /// Nothing more is sent: this node is about to hand over.
    paused: bool,
}

impl DeliveryEngine {
    /// An engine that knows of nothing yet; its first effects read the store.
    pub fn new(now_ms: u64, config: EngineConfig, routes: Arc<RouteTable>, settings: &Settings) -> Self {
        let config = EngineConfig {
            window_messages: config.window_messages.max(100),
            number_messages: config.number_messages.max(1),
            ..config
        };
        let mut engine = Self {
            config,
            routes,
            retry: RetryPolicies::new(settings, config.seed),
            receipt_validity_s: settings.receipt_validity_s,
            index: Index::default(),
            numbers: Numbers::new(&config),
            links: Links::new(now_ms, &config),
            esmes: Esmes::new(&config),
            expiry: Expiry::new(now_ms, &config),
            pending: Pending::default(),
            effects: VecDeque::new(),
            lag_ms: None,
            began_at_ms: now_ms,
            paused: false,
        };
        // Handsets are part of this node; slow ones may have half of the numbers that are held.
        let handsets = LinkCapacity { window: config.window_messages / 10, rate_per_s: 0 };
        engine.links.set_up(&SmolStr::from(LINK_HANDSET), handsets);
        engine.scan_numbers();
        engine.scan_pending(None);
        engine
    }

    /// Accounts, routes, handsets or settings changed.
    pub fn configure(&mut self, routes: Arc<RouteTable>, settings: &Settings) {
        self.routes = routes;
        self.retry = RetryPolicies::new(settings, self.config.seed);
        self.receipt_validity_s = settings.receipt_validity_s;
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`DeliveryEngine::timeout`] is to be called, UTC milliseconds.
    pub fn next_deadline_ms(&self) -> u64 {
        [self.numbers.next_deadline_ms(), self.links.next_deadline_ms(), self.esmes.next_deadline_ms()]
            .into_iter()
            .flatten()
            .fold(self.expiry.next_deadline_ms(), u64::min)
    }

    /// Sends nothing more; what is under way is recorded as ever.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether nothing is under way or being recorded. Looks at everything in memory.
    pub fn settled(&self) -> bool {
        let at_rest = |entry: &Entry| matches!(entry.state, State::Waiting | State::PutOff(_));
        self.index.entries.values().all(at_rest)
    }

    /// How late the first attempt was of the last message that had nothing to wait for but its turn, if there was one since
    /// this was last asked. Milliseconds, by the clock that stamps messages: a step of that clock makes one of them wrong.
    pub fn take_lag_ms(&mut self) -> Option<u64> {
        self.lag_ms.take()
    }

    /// Messages in memory.
    pub fn held(&self) -> usize {
        self.index.entries.len()
    }

    /// Time has come for something.
    pub fn timeout(&mut self, now_ms: u64) {
        self.numbers_timeout(now_ms);
        self.links_timeout(now_ms);
        self.esmes_timeout(now_ms);
        self.expiry_timeout(now_ms);
    }

    /// An entry of the log was applied.
    pub fn change(&mut self, now_ms: u64, change: Change) {
        // Whoever stamps messages may be ahead of whoever reads the clock here: a new one is not of the future.
        let now_ms = match &change {
            Change::Queued { message, .. } => now_ms.max(message.accepted_at_ms),
            _ => now_ms,
        };
        match change {
            Change::Queued { message, alone } => self.queued(now_ms, message, alone),
            Change::Replaced(message) => self.replaced(now_ms, message),
            Change::Retry(message) => self.retried(now_ms, message),
            Change::TakenBack(message) => self.taken_back(now_ms, message),
            Change::Finished { id, queue } | Change::HandedOver { id, queue } => self.finished(now_ms, id, &queue),
            Change::Woken(queue) if queue.is_esme() => self.esme_woken(now_ms, &queue.key),
            Change::Woken(queue) => self.number_woken(now_ms, &queue.key),
            Change::Pending(number) => self.pending_set(now_ms, number),
            Change::NotPending(number) => self.pending.remove(&number),
            // The driver builds what configure() wants; sessions come by bound().
            Change::Config | Change::Sessions => {}
        }
    }

    fn queued(&mut self, now_ms: u64, message: Arc<Message>, alone: bool) {
        if self.known(&message) {
            return self.number_still_has(&message);
        }
        self.heard_from(now_ms, content(&message));
        let queue = QueueKey::of(content(&message));
        if queue.is_esme() {
            self.esme_queued(now_ms, &queue, message);
        } else {
            self.number_queued(now_ms, &queue, message, alone);
        }
    }

    /// Whether a message that was stored or read is held or under way; one that somebody finished while it was under
    /// way is remembered, to be taken in once the link has answered.
    fn known(&mut self, message: &Arc<Message>) -> bool {
        let Some(entry) = self.index.get_mut(message.id) else { return false };
        if let State::Orphan { again, .. } = &mut entry.state {
            *again = Some(message.clone());
        }
        true
    }

    fn replaced(&mut self, now_ms: u64, message: Arc<Message>) {
        match self.index.get_mut(message.id) {
            Some(entry) if !matches!(entry.state, State::Waiting | State::PutOff(_) | State::Orphan { .. }) => {
                entry.message = message;
            }
            Some(_) => {
                self.forget_waiting(message.id);
                self.queued(now_ms, message, false);
            }
            None => {
                let queue = QueueKey::of(content(&message));
                self.queued(now_ms, message, false);
                // The store may have made the queue anew.
                self.refresh_number(&queue);
            }
        }
    }

    fn retried(&mut self, now_ms: u64, message: Arc<Message>) {
        let Some(Entry { state: State::Recording { counts, .. }, .. }) = self.index.get(message.id) else {
            return self.refresh_number(&QueueKey::of(content(&message)));
        };
        let counts = *counts;
        let attempts_before = self.index.get(message.id).map_or(0, |entry| entry.message.attempts);
        let tried = message.attempts > attempts_before;
        let Some(entry) = self.index.remove(message.id) else { return };
        if entry.queue.is_esme() {
            self.esme_put_off(now_ms, &entry.queue, message);
        } else {
            self.number_failed(now_ms, &entry.queue, &message, Failure { counts, tried });
        }
    }

    /// A message that another message centre had is in its queue again, behind what has come due meanwhile.
    fn taken_back(&mut self, now_ms: u64, message: Arc<Message>) {
        self.index.remove(message.id);
        let queue = QueueKey::of(content(&message));
        self.queued(now_ms, message, false);
        self.refresh_number(&queue);
    }

    fn finished(&mut self, now_ms: u64, id: u64, queue: &QueueKey) {
        let Some(entry) = self.index.get_mut(id) else { return self.refresh_number(queue) };
        let with = match &entry.state {
            State::OnSession(session) => Some(With::Session(*session)),
            State::OnLink(link) => Some(With::Link(link.clone())),
            _ => None,
        };
        if let Some(with) = with {
            entry.state = State::Orphan { with, again: None };
            return;
        }
        match &mut entry.state {
            State::Orphan { again, .. } => *again = None,
            State::Recording { delivered, .. } => {
                let delivered = *delivered;
                self.index.remove(id);
                if queue.is_esme() {
                    self.feed_esmes(now_ms);
                } else {
                    self.number_recorded(now_ms, queue, id, delivered);
                }
            }
            _ => {
                self.forget_waiting(id);
                if queue.is_esme() {
                    self.feed_esmes(now_ms);
                } else {
                    self.pump_number(now_ms, &queue.key);
                }
            }
        }
    }

    /// Lets go of a message that waits; others are left as they are.
    fn forget_waiting(&mut self, id: u64) {
        let Some(entry) = self.index.get(id) else { return };
        match entry.state {
            State::Waiting if entry.queue.is_esme() => self.esmes.remove_ready(&entry.queue.key, entry.place()),
            State::Waiting => self.numbers.remove_held(&entry.queue.key, entry.place()),
            State::PutOff(due_at_ms) => self.esmes.remove_put_off(&entry.queue.key, due_at_ms, entry.place()),
            _ => return,
        }
        self.index.remove(id);
    }

    /// What was asked for by [`Effect::Load`].
    pub fn loaded(&mut self, now_ms: u64, loaded: Loaded) {
        match loaded {
            Loaded::Due { limit, queues } => self.numbers_loaded(now_ms, limit, queues),
            Loaded::Queue { key, from, limit, messages, .. } if key.is_esme() => {
                self.esme_loaded(now_ms, &key, from, limit, messages);
            }
            Loaded::Queue { key, from, limit, queue, messages } => {
                self.number_loaded(now_ms, &key, from, limit, queue, messages);
            }
            Loaded::Expired { limit, messages } => self.expired_loaded(now_ms, limit, messages),
            Loaded::Pending { limit, numbers } => self.pending_loaded(limit, numbers),
        }
    }
}

fn content(message: &Message) -> &Submission {
    message.submission.as_ref().expect("a message is stored with its submission")
}

/// Whether no attempt may follow the one that is under way.
fn is_last_attempt(message: &Message) -> bool {
    let attempts_max = content(message).attempts_max;
    attempts_max > 0 && message.attempts + 1 >= attempts_max
}

fn is_expired(message: &Message, now_ms: u64) -> bool {
    let expires_at_ms = content(message).expires_at_ms;
    expires_at_ms > 0 && expires_at_ms <= now_ms
}
