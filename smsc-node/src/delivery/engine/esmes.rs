//! Queues towards accounts: messages go to whichever receiver has room in its window, and wait in the store while
//! nobody is bound. A message that the ESME cannot take now is put off alone.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use smol_str::SmolStr;
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::{Message, MessageKind, QueueKind, Submission};

use super::backlog::{Backlog, Position};
use super::outcome::{Attempt, Ended};
use super::{DeliveryEngine, Effect, EngineConfig, LinkResult, Load, State, With, content, is_expired};
use crate::delivery::route::LINK_ESME;
use crate::smpp::serves::Serves;

/// Messages of an account held ready beside twice the windows of its sessions.
const READY_EXTRA: usize = 256;
/// Messages read at once.
const LOAD_MESSAGES: usize = 256;
/// A queue is not read from the beginning again sooner than so many milliseconds per message that the last reading
/// passed over: what is put off may not cost more than what moves.
const REREAD_MS_PER_MESSAGE: u64 = 1;
/// The longest wait that follows from that.
const REREAD_MS_MAX: u64 = 600_000;
/// How long a message is put off whose number no bound receiver serves; a further receiver takes it up at once.
const UNSERVED_MS: u64 = 60_000;

/// What a receiver takes.
#[derive(Clone, Debug)]
pub struct Receiver {
    /// Messages that it may have unanswered.
    pub window: usize,
    /// The numbers that it serves.
    pub serves: Serves,
    /// Whether it can be sent alert_notification: from version 3.4 on.
    pub alerts: bool,
}

impl Receiver {
    fn takes(&self, submission: &Submission) -> bool {
        let number = submission.destination.as_ref().map_or("", |destination| destination.digits.as_str());
        (self.alerts || submission.kind() != MessageKind::Alert) && self.serves.covers(number)
    }
}

#[derive(Debug)]
struct Session {
    account: SmolStr,
    receiver: Receiver,
    unanswered: HashSet<u64>,
    /// Takes nothing more, but what it has may still be answered.
    retired: bool,
}

#[derive(Debug)]
struct EsmeQueue {
    sessions: Vec<u64>,
    /// Whose turn it is.
    turn: usize,
    window: usize,
    unanswered: usize,
    ready: Backlog,
    /// Messages that were refused for now, by the time of their next attempt.
    put_off: BTreeSet<(u64, Position)>,
    /// Some that are put off are in the store alone: read it from the beginning then.
    reread_at_ms: Option<u64>,
    reread_not_before_ms: u64,
    /// Messages passed over since the last reading from the beginning.
    read: u64,
    timer_ms: Option<u64>,
    hungry: bool,
    /// Messages were put off because no receiver serves their number.
    unserved: bool,
}

/// Which receiver a message goes to.
enum Taker {
    Session(u64),
    /// None has room now.
    Busy,
    /// None serves its number, or can be sent such a thing.
    Nobody,
}

impl EsmeQueue {
    fn ready_max(&self) -> usize {
        2 * self.window + READY_EXTRA
    }

    fn next_timer_ms(&self) -> Option<u64> {
        let reread = self.reread_at_ms.map(|at_ms| at_ms.max(self.reread_not_before_ms));
        let put_off = self.put_off.first().map(|(due_at_ms, _)| *due_at_ms);
        reread.into_iter().chain(put_off).min()
    }

    fn reread_by(&mut self, at_ms: u64) {
        self.reread_at_ms = Some(self.reread_at_ms.map_or(at_ms, |before| before.min(at_ms)));
    }
}

/// The accounts that have a receiver bound, and their sessions.
#[derive(Debug)]
pub(super) struct Esmes {
    queues: HashMap<SmolStr, EsmeQueue>,
    sessions: HashMap<u64, Session>,
    timers: BTreeSet<(u64, SmolStr)>,
    /// Queues that could take more than there was room for, in turn.
    hungry: VecDeque<SmolStr>,
    messages_max: usize,
    put_off: usize,
}

impl Esmes {
    pub fn new(config: &EngineConfig) -> Self {
        Self {
            queues: HashMap::default(),
            sessions: HashMap::default(),
            timers: BTreeSet::new(),
            hungry: VecDeque::new(),
            messages_max: config.window_messages * 3 / 10,
            put_off: 0,
        }
    }

    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.first().map(|(at_ms, _)| *at_ms)
    }

    pub fn remove_ready(&mut self, account: &str, place: Position) {
        if let Some(queue) = self.queues.get_mut(account) {
            queue.ready.remove(place);
        }
    }

    pub fn remove_put_off(&mut self, account: &str, due_at_ms: u64, place: Position) {
        let Some(queue) = self.queues.get_mut(account) else { return };
        self.put_off -= usize::from(queue.put_off.remove(&(due_at_ms, place)));
    }

    fn set_timer(&mut self, account: &SmolStr) {
        let Some(queue) = self.queues.get_mut(account) else { return };
        let next = queue.next_timer_ms();
        if queue.timer_ms == next {
            return;
        }
        if let Some(before) = std::mem::replace(&mut queue.timer_ms, next) {
            self.timers.remove(&(before, account.clone()));
        }
        if let Some(next) = next {
            self.timers.insert((next, account.clone()));
        }
    }

    /// The next session of an account that serves the number and has room in its window; a receipt goes to the session
    /// that it prefers, if that one does.
    fn taker(&mut self, account: &str, message: &Message) -> Taker {
        let Some(queue) = self.queues.get_mut(account) else { return Taker::Busy };
        if queue.unanswered >= queue.window {
            return Taker::Busy;
        }
        let submission = content(message);
        let has_room = |session: &Session| session.unanswered.len() < session.receiver.window;
        // Of a receipt alone: a message's session is the one it came from.
        let preferred = if submission.kind() == MessageKind::Receipt { submission.session_id } else { 0 };
        if preferred > 0 && queue.sessions.contains(&preferred) {
            let takes = |session: &Session| session.receiver.takes(submission) && has_room(session);
            if self.sessions.get(&preferred).is_some_and(takes) {
                return Taker::Session(preferred);
            }
        }
        let mut served = false;
        for _ in 0..queue.sessions.len() {
            queue.turn = (queue.turn + 1) % queue.sessions.len();
            let id = queue.sessions[queue.turn];
            let Some(session) = self.sessions.get(&id).filter(|session| session.receiver.takes(submission)) else {
                continue;
            };
            if has_room(session) {
                return Taker::Session(id);
            }
            served = true;
        }
        if served { Taker::Busy } else { Taker::Nobody }
    }

    /// An answer to a message frees its place in the window.
    fn answered(&mut self, session_id: u64, id: u64) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        if !session.unanswered.remove(&id) {
            return;
        }
        if session.retired {
            if session.unanswered.is_empty() {
                self.sessions.remove(&session_id);
            }
        } else if let Some(queue) = self.queues.get_mut(&session.account) {
            queue.unanswered -= 1;
        }
    }
}

impl DeliveryEngine {
    /// A receiver of all that its account is sent is bound: it may have `window` messages unanswered.
    pub fn bound(&mut self, now_ms: u64, session_id: u64, system_id: &str, window: usize) {
        self.bound_as(now_ms, session_id, system_id, Receiver { window, serves: Serves::all(), alerts: true });
    }

    /// A receiver is bound.
    pub fn bound_as(&mut self, now_ms: u64, session_id: u64, system_id: &str, receiver: Receiver) {
        let esmes = &mut self.esmes;
        if esmes.sessions.contains_key(&session_id) {
            return;
        }
        let account: SmolStr = SmolStr::from(system_id);
        let window = receiver.window.max(1);
        let receiver = Receiver { window, ..receiver };
        let session = Session { account: account.clone(), receiver, unanswered: HashSet::default(), retired: false };
        esmes.sessions.insert(session_id, session);
        let queue = esmes.queues.entry(account.clone()).or_insert_with(|| EsmeQueue {
            sessions: Vec::new(),
            turn: 0,
            window: 0,
            unanswered: 0,
            ready: Backlog::unread(),
            put_off: BTreeSet::new(),
            reread_at_ms: None,
            reread_not_before_ms: 0,
            read: 0,
            timer_ms: None,
            hungry: false,
            unserved: false,
        });
        queue.sessions.push(session_id);
        queue.window += window;
        if std::mem::take(&mut queue.unserved) {
            queue.reread_not_before_ms = now_ms;
            return self.esme_woken(now_ms, &account);
        }
        self.pump_esme(now_ms, &account);
    }

    /// A receiver takes nothing more. What it has not answered stays with it until its owner has reported each: an ESME
    /// that unbinds may still answer, and must not be sent the same by way of another of its sessions.
    pub fn unbound(&mut self, now_ms: u64, session_id: u64) {
        let Some(session) = self.esmes.sessions.get_mut(&session_id).filter(|session| !session.retired) else { return };
        session.retired = true;
        let (account, window, unanswered) =
            (session.account.clone(), session.receiver.window, session.unanswered.len());
        if unanswered == 0 {
            self.esmes.sessions.remove(&session_id);
        }
        if let Some(queue) = self.esmes.queues.get_mut(&account) {
            queue.sessions.retain(|id| *id != session_id);
            queue.window -= window;
            queue.unanswered -= unanswered;
            if queue.sessions.is_empty() {
                self.drop_esme(&account);
            }
        }
        self.pump_esme(now_ms, &account);
        self.feed_esmes(now_ms);
    }

    /// Nobody is bound: what is ready and what is put off waits in the store.
    fn drop_esme(&mut self, account: &SmolStr) {
        let Some(mut queue) = self.esmes.queues.remove(account) else { return };
        for place in queue.ready.drop_held() {
            self.index.remove(place.id);
        }
        self.esmes.put_off -= queue.put_off.len();
        for (_, place) in queue.put_off {
            self.index.remove(place.id);
        }
        if let Some(at_ms) = queue.timer_ms {
            self.esmes.timers.remove(&(at_ms, account.clone()));
        }
        if queue.hungry {
            self.esmes.hungry.retain(|hungry| hungry != account);
        }
    }

    pub(super) fn esme_queued(&mut self, now_ms: u64, key: &QueueKey, message: Arc<Message>) {
        let full = self.index.to_esmes() >= self.esmes.messages_max;
        let Some(queue) = self.esmes.queues.get_mut(&key.key) else { return };
        if message.due_at_ms > now_ms {
            return self.esme_put_off(now_ms, key, message);
        }
        let ready_max = if full { 0 } else { queue.ready_max() };
        let admission = queue.ready.offer(Position::of(&message), ready_max);
        if let Some(evicted) = admission.evicted {
            self.index.remove(evicted.id);
        }
        if admission.held {
            self.index.insert(message, key.clone(), State::Waiting);
        }
        self.pump_esme(now_ms, &key.key);
    }

    /// Holds a message, or only remembers that it is there, until the time of its next attempt.
    pub(super) fn esme_put_off(&mut self, now_ms: u64, key: &QueueKey, message: Arc<Message>) {
        let esmes = &mut self.esmes;
        let Some(queue) = esmes.queues.get_mut(&key.key) else { return self.feed_esmes(now_ms) };
        let place = Position::of(&message);
        let due_at_ms = message.due_at_ms;
        if due_at_ms <= now_ms {
            queue.ready.put_back(place);
            self.index.insert(message, key.clone(), State::Waiting);
            return self.pump_esme(now_ms, &key.key);
        }
        if queue.put_off.len() < queue.ready_max() / 2 && esmes.put_off < esmes.messages_max / 2 {
            esmes.put_off += usize::from(queue.put_off.insert((due_at_ms, place)));
            self.index.insert(message, key.clone(), State::PutOff(due_at_ms));
        } else {
            queue.reread_by(due_at_ms);
        }
        esmes.set_timer(&key.key);
        self.feed_esmes(now_ms);
    }

    /// Sends what is ready as far as windows allow, and reads on when little is left. What is ready does not wait for
    /// what was put off before it and is to be read again.
    pub(super) fn pump_esme(&mut self, now_ms: u64, account: &SmolStr) {
        if self.paused {
            return;
        }
        while let Some(queue) = self.esmes.queues.get_mut(account) {
            let Some(place) = queue.ready.first_held() else { break };
            let expired = |message: &Arc<Message>| is_expired(message, now_ms);
            let taker = match self.index.get(place.id).map(|entry| &entry.message) {
                Some(message) if expired(message) => {
                    let ended = Ended::expired(message);
                    queue.ready.remove(place);
                    self.record(now_ms, place.id, "", ended);
                    continue;
                }
                Some(message) => self.esmes.taker(account, message),
                None => {
                    queue.ready.remove(place);
                    continue;
                }
            };
            let session_id = match taker {
                Taker::Session(session_id) => session_id,
                Taker::Busy => break,
                Taker::Nobody => {
                    self.put_off_unserved(now_ms, account, place);
                    continue;
                }
            };
            let Some(entry) = self.index.get_mut(place.id) else { continue };
            entry.state = State::OnSession(session_id);
            self.effects.push_back(Effect::SendToSession { session_id, message: entry.message.clone() });
            if let Some(queue) = self.esmes.queues.get_mut(account) {
                queue.ready.remove(place);
                queue.unanswered += 1;
            }
            if let Some(session) = self.esmes.sessions.get_mut(&session_id) {
                session.unanswered.insert(place.id);
            }
        }
        self.load_esme(account);
    }

    /// No receiver serves this message's number: those behind it do not wait for it.
    fn put_off_unserved(&mut self, now_ms: u64, account: &SmolStr, place: Position) {
        let esmes = &mut self.esmes;
        let Some(queue) = esmes.queues.get_mut(account) else { return };
        let due_at_ms = now_ms.saturating_add(UNSERVED_MS);
        queue.ready.remove(place);
        queue.unserved = true;
        if queue.put_off.len() < queue.ready_max() / 2
            && esmes.put_off < esmes.messages_max / 2
            && let Some(entry) = self.index.get_mut(place.id)
        {
            entry.state = State::PutOff(due_at_ms);
            esmes.put_off += usize::from(queue.put_off.insert((due_at_ms, place)));
        } else {
            self.index.remove(place.id);
            queue.reread_by(due_at_ms);
        }
        esmes.set_timer(account);
    }

    fn load_esme(&mut self, account: &SmolStr) {
        let room = self.esmes.messages_max.saturating_sub(self.index.to_esmes());
        let Some(queue) = self.esmes.queues.get_mut(account) else { return };
        if queue.ready.all_read() || queue.ready.len() > queue.window {
            return;
        }
        if room == 0 {
            if !queue.hungry {
                queue.hungry = true;
                self.esmes.hungry.push_back(account.clone());
            }
            return;
        }
        let limit = (queue.ready_max() - queue.ready.len().min(queue.ready_max())).min(LOAD_MESSAGES).min(room).max(1);
        if let Some(from) = queue.ready.begin_load() {
            let key = QueueKey::new(QueueKind::Esme, account);
            self.effects.push_back(Effect::Load(Load::Queue { key, from, limit }));
        }
    }

    /// Room was made: the next queue in turn may read on.
    pub(super) fn feed_esmes(&mut self, now_ms: u64) {
        if self.index.to_esmes() >= self.esmes.messages_max {
            return;
        }
        let Some(account) = self.esmes.hungry.pop_front() else { return };
        if let Some(queue) = self.esmes.queues.get_mut(&account) {
            queue.hungry = false;
        }
        self.pump_esme(now_ms, &account);
    }

    pub(super) fn esme_loaded(
        &mut self,
        now_ms: u64,
        key: &QueueKey,
        from: Position,
        limit: usize,
        messages: Vec<Arc<Message>>,
    ) {
        let Some(queue) = self.esmes.queues.get_mut(&key.key) else { return };
        let to_end = messages.len() < limit;
        let last = messages.last().map(|message| Position::of(message));
        if !queue.ready.end_load(from, last, to_end) {
            return;
        }
        queue.read += messages.len() as u64;
        if to_end {
            let wait_ms = queue.read.saturating_mul(REREAD_MS_PER_MESSAGE).min(REREAD_MS_MAX);
            queue.reread_not_before_ms = now_ms.saturating_add(wait_ms);
            queue.read = 0;
        }
        for message in messages {
            if self.known(&message) {
                continue;
            }
            if message.due_at_ms > now_ms {
                self.esme_put_off(now_ms, key, message);
                continue;
            }
            let full = self.index.to_esmes() >= self.esmes.messages_max;
            let Some(queue) = self.esmes.queues.get_mut(&key.key) else { return };
            let ready_max = if full { 0 } else { queue.ready_max() };
            let admission = queue.ready.admit(Position::of(&message), ready_max);
            if let Some(evicted) = admission.evicted {
                self.index.remove(evicted.id);
            }
            if !admission.held {
                break;
            }
            self.index.insert(message, key.clone(), State::Waiting);
        }
        self.esmes.set_timer(&key.key);
        self.pump_esme(now_ms, &key.key);
    }

    /// A session's ESME took a message, or did not.
    pub fn session_outcome(&mut self, now_ms: u64, session_id: u64, id: u64, result: LinkResult) {
        let Some(entry) = self.index.get_mut(id) else { return };
        let key = entry.queue.clone();
        match &mut entry.state {
            State::OnSession(session) if *session == session_id => {
                let attempt = Attempt { now_ms, link: LINK_ESME, failures: entry.message.attempts };
                match Ended::of(result, &entry.message, &self.retry, attempt) {
                    Some(ended) => self.record(now_ms, id, LINK_ESME, ended),
                    None => match self.esmes.queues.get_mut(&key.key) {
                        Some(queue) => {
                            entry.state = State::Waiting;
                            queue.ready.put_back(entry.place());
                        }
                        // Nobody is bound any more: it waits in the store.
                        None => drop(self.index.remove(id)),
                    },
                }
                self.esmes.answered(session_id, id);
            }
            State::Orphan { with, again } if *with == With::Session(session_id) => {
                let again = again.take();
                self.index.remove(id);
                self.esmes.answered(session_id, id);
                if let Some(message) = again {
                    self.esme_queued(now_ms, &key, message);
                }
            }
            _ => return,
        }
        self.pump_esme(now_ms, &key.key);
    }

    /// Everything that is put off may go now.
    pub(super) fn esme_woken(&mut self, now_ms: u64, account: &SmolStr) {
        let Some(queue) = self.esmes.queues.get_mut(account) else { return };
        if queue.reread_at_ms.is_some() {
            queue.reread_at_ms = Some(now_ms);
        }
        self.take_up_put_off(now_ms, u64::MAX, account);
    }

    pub(super) fn esmes_timeout(&mut self, now_ms: u64) {
        while let Some((at_ms, account)) = self.esmes.timers.first().cloned() {
            if at_ms > now_ms {
                return;
            }
            self.take_up_put_off(now_ms, now_ms, &account);
        }
    }

    fn take_up_put_off(&mut self, now_ms: u64, until_ms: u64, account: &SmolStr) {
        let Some(queue) = self.esmes.queues.get_mut(account) else { return };
        while let Some((due_at_ms, place)) = queue.put_off.first().copied() {
            if due_at_ms > until_ms {
                break;
            }
            queue.put_off.pop_first();
            self.esmes.put_off -= 1;
            if let Some(entry) = self.index.get_mut(place.id) {
                entry.state = State::Waiting;
                queue.ready.put_back(place);
            }
        }
        if queue.reread_at_ms.is_some_and(|at_ms| at_ms.max(queue.reread_not_before_ms) <= now_ms) {
            queue.reread_at_ms = None;
            queue.read = 0;
            queue.ready.leave_unread(Position::FIRST);
        }
        self.esmes.set_timer(account);
        self.pump_esme(now_ms, account);
    }
}
