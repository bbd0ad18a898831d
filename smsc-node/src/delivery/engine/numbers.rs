//! Queues towards numbers: one message under way at a time, in order; a failure makes the queue wait.
//!
//! The engine holds queues in the order in which they are due. A queue that waits for its time costs an entry without
//! messages. When there are more queues than it may hold, it lets go of those that wait longest and remembers up to
//! where, in the store's order of due times, it knows all of them: the *horizon*.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashMap;
use smol_str::SmolStr;
use smsc_raft::machine::keys::{DueKey, QueueKey};
use smsc_raft::model::command::Op;
use smsc_raft::model::{Command, ErrorClass, Message, Queue, QueueKind, QueueWake};

use super::backlog::{Backlog, Head, Position};
use super::links::Answer;
use super::outcome::{Attempt, Ended};
use super::{
    DeliveryEngine, Effect, EngineConfig, Entry, Failure, LinkCapacity, LinkResult, Load, State, With, content,
    is_expired,
};
use crate::delivery::retry::Next;
use crate::delivery::route::LINK_HANDSET;

/// Queues read at once.
const SCAN_QUEUES: usize = 128;

#[derive(Debug, Default)]
struct NumberQueue {
    backlog: Backlog,
    /// The message under way or being recorded.
    busy: Option<u64>,
    due_at_ms: u64,
    failures: u32,
    failing_since_ms: u64,
    /// It stands in this link's line.
    in_line: Option<SmolStr>,
    /// Links that have refused the message in front, which others may take.
    refused: Vec<SmolStr>,
    /// It was put off because this link is down.
    waits_for: Option<SmolStr>,
    /// It waits for its time and holds no messages meanwhile.
    parked: bool,
    /// The number became reachable while an attempt was under way.
    wake: bool,
    /// Messages that expired are being recorded beside: the store has the queue until they are.
    ending: bool,
    /// Something of it was sent since it is held.
    begun: bool,
}

/// All queues towards numbers that the engine holds.
#[derive(Debug)]
pub(super) struct Numbers {
    queues: HashMap<SmolStr, NumberQueue>,
    /// The parked ones by due time.
    parked: BTreeSet<(u64, SmolStr)>,
    /// Every queue of the store up to here, in order of due time, is held; `None`: all are.
    horizon: Option<DueKey>,
    /// A reading behind this place is under way.
    scanning: Option<DueKey>,
    queues_max: usize,
    messages_max: usize,
    queue_messages_max: usize,
}

impl Numbers {
    /// At most one message under way and one behind it for each of a fifth of the window, and more per queue as long
    /// as that leaves room for ESMEs.
    pub fn new(config: &EngineConfig) -> Self {
        Self {
            queues: HashMap::default(),
            parked: BTreeSet::new(),
            horizon: Some(in_front_of(0)),
            scanning: None,
            queues_max: config.window_messages / 5,
            messages_max: config.window_messages * 2 / 5,
            queue_messages_max: config.number_messages,
        }
    }

    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.parked.first().map(|(due_at_ms, _)| *due_at_ms)
    }

    /// A message that waited in the queue is at its end and being recorded.
    pub fn ending(&mut self, number: &str) {
        if let Some(queue) = self.queues.get_mut(number) {
            queue.ending = true;
        }
    }

    pub fn remove_held(&mut self, number: &str, place: Position) {
        if let Some(queue) = self.queues.get_mut(number) {
            queue.backlog.remove(place);
        }
    }

    fn knows(&self, due_at_ms: u64, key: &QueueKey) -> bool {
        let Some(horizon) = &self.horizon else { return true };
        (due_at_ms, key) <= (horizon.due_at_ms, &horizon.queue)
    }

    /// From this time on there may be queues that are not held.
    fn lower_horizon(&mut self, due_at_ms: u64) {
        let lower = in_front_of(due_at_ms);
        self.horizon = Some(self.horizon.take().map_or(lower.clone(), |horizon| horizon.min(lower)));
    }

    /// Makes room for a queue that is due then: one that is due later may have to go.
    fn make_room(&mut self, due_at_ms: u64) -> bool {
        if self.queues.len() < self.queues_max {
            return true;
        }
        if self.parked.last().is_none_or(|(last, _)| *last <= due_at_ms) {
            self.lower_horizon(due_at_ms);
            return false;
        }
        if let Some((last, number)) = self.parked.pop_last() {
            self.queues.remove(&number);
            self.lower_horizon(last);
        }
        true
    }

    fn unpark(&mut self, number: &str) {
        let Some(queue) = self.queues.get_mut(number).filter(|queue| queue.parked) else { return };
        queue.parked = false;
        let key =
            (queue.due_at_ms, self.queues.get_key_value(number).map_or(SmolStr::from(number), |row| row.0.clone()));
        self.parked.remove(&key);
    }

    fn remove(&mut self, number: &str) {
        self.unpark(number);
        self.queues.remove(number);
    }

    /// Messages of a queue that may be held beside the one under way, with so many in memory over all.
    fn held_max(&self, queue: &NumberQueue, messages: usize) -> usize {
        match () {
            () if queue.parked => 0,
            () if messages < self.messages_max => self.queue_messages_max,
            () => usize::from(queue.busy.is_none()),
        }
    }
}

/// In the order of due times, behind all that is due before and in front of all that is due then.
fn in_front_of(due_at_ms: u64) -> DueKey {
    DueKey { due_at_ms, queue: QueueKey::new(QueueKind::Number, "") }
}

impl DeliveryEngine {
    /// A message came into a queue, in which it may be known to be `alone`.
    pub(super) fn number_queued(&mut self, now_ms: u64, key: &QueueKey, message: Arc<Message>, alone: bool) {
        let due_at_ms = message.due_at_ms;
        if !self.numbers.queues.contains_key(&key.key) {
            // Either new, or let go of, and then due behind the horizon: the store tells which.
            if !self.numbers.knows(due_at_ms, key) {
                return;
            }
            let all_known = self.numbers.horizon.is_none();
            if !self.numbers.make_room(due_at_ms) {
                return;
            }
            let backlog = if all_known || alone { Backlog::default() } else { Backlog::unread() };
            self.numbers.queues.insert(key.key.clone(), NumberQueue { backlog, due_at_ms, ..Default::default() });
        }
        let Some(queue) = self.numbers.queues.get(&key.key) else { return };
        let held_max = self.numbers.held_max(queue, self.index.to_numbers());
        let Some(queue) = self.numbers.queues.get_mut(&key.key) else { return };
        let admission = queue.backlog.offer(Position::of(&message), held_max);
        if let Some(evicted) = admission.evicted {
            self.index.remove(evicted.id);
        }
        if admission.held {
            self.index.insert(message, key.clone(), State::Waiting);
        }
        self.pump_number(now_ms, &key.key);
    }

    /// A message that is on its way out is in its queue, or comes into it at its scheduled time: the store has the queue
    /// until the end is recorded, with the time at which the message came. One that joins it is not due by its own time.
    pub(super) fn number_still_has(&mut self, message: &Message) {
        let key = QueueKey::of(content(message));
        let leaves = |entry: &Entry| matches!(entry.state, State::Recording { .. } | State::Orphan { .. });
        if key.is_esme() || !self.index.get(message.id).is_some_and(leaves) {
            return;
        }
        let due_at_ms = message.due_at_ms;
        if let Some(queue) = self.numbers.queues.get_mut(&key.key) {
            queue.ending |= queue.busy != Some(message.id);
        } else if self.numbers.knows(due_at_ms, &key) && self.numbers.make_room(due_at_ms) {
            let queue = NumberQueue { backlog: Backlog::unread(), due_at_ms, ending: true, ..Default::default() };
            self.numbers.queues.insert(key.key, queue);
        }
    }

    /// Does the next thing that a queue waits for, if its time has come.
    pub(super) fn pump_number(&mut self, now_ms: u64, number: &SmolStr) {
        while !self.paused {
            let Some(queue) = self.numbers.queues.get_mut(number) else { return };
            if queue.busy.is_some() || queue.in_line.is_some() {
                return;
            }
            let head = queue.backlog.head();
            if head == Head::Empty {
                // A queue that the store still has, with its due time, is not to be taken for a new one.
                if !queue.ending {
                    self.numbers.remove(number);
                    self.scan_numbers_when_few();
                }
                return;
            }
            if queue.due_at_ms > now_ms {
                return self.park_number(number);
            }
            match head {
                Head::Empty => return,
                Head::Unread(_) => return self.load_number(number),
                Head::Held(place) => {
                    let Some(entry) = self.index.get(place.id) else {
                        queue.backlog.remove(place);
                        continue;
                    };
                    if is_expired(&entry.message, now_ms) {
                        queue.backlog.remove(place);
                        let ended = Ended::expired(&entry.message);
                        queue.ending = true;
                        self.record(now_ms, place.id, "", ended);
                        continue;
                    }
                    return self.offer_number(now_ms, number, place, None);
                }
            }
        }
    }

    /// Offers the message in front to the links that lead to it, the best one that is connected first. `turn` is the
    /// link in whose line its turn has come.
    fn offer_number(&mut self, now_ms: u64, number: &SmolStr, place: Position, turn: Option<&SmolStr>) {
        let Some(entry) = self.index.get(place.id) else { return };
        let Some(queue) = self.numbers.queues.get(number) else { return };
        let submission = content(&entry.message);
        let account: SmolStr = SmolStr::from(submission.account.as_str());
        let choices = self.routes.links(&entry.message, now_ms);
        let up = |link: &&SmolStr| !queue.refused.contains(link) && self.links.is_up(now_ms, link);
        let Some(link) = choices.iter().find(up) else {
            let down = choices.first().cloned().unwrap_or_else(|| SmolStr::from(submission.link.as_str()));
            return self.put_off(now_ms, number, place, &down, None);
        };
        match self.links.offer(now_ms, link, &account, number, turn == Some(link)) {
            Answer::Take => {
                let link = link.clone();
                // What stands in the line of a slow link is not late because of this node.
                if turn.is_none() || link == LINK_HANDSET {
                    self.note_lag(now_ms, number, place);
                }
                self.send_number(number, place, link);
            }
            Answer::Wait => {
                let link = link.clone();
                if let Some(queue) = self.numbers.queues.get_mut(number) {
                    queue.in_line = Some(link);
                }
            }
            Answer::Later(at_ms) => self.put_off(now_ms, number, place, &link.clone(), Some(at_ms)),
            Answer::Down => self.put_off(now_ms, number, place, &link.clone(), None),
        }
    }

    /// Notes how late a first attempt is, of a message that came into an empty queue and waited for nothing but its turn.
    fn note_lag(&mut self, now_ms: u64, number: &SmolStr, place: Position) {
        let (Some(queue), Some(entry)) = (self.numbers.queues.get(number), self.index.get(place.id)) else { return };
        let message = &entry.message;
        if !queue.begun && message.attempts == 0 && queue.failures == 0 && queue.due_at_ms == message.accepted_at_ms {
            let since_ms = message.accepted_at_ms.max(self.began_at_ms);
            self.lag_ms = Some(now_ms.saturating_sub(since_ms));
        }
    }

    fn send_number(&mut self, number: &SmolStr, place: Position, link: SmolStr) {
        let Some(queue) = self.numbers.queues.get_mut(number) else { return };
        let Some(entry) = self.index.get_mut(place.id) else { return };
        queue.backlog.remove(place);
        queue.busy = Some(place.id);
        queue.begun = true;
        queue.wake = false;
        queue.waits_for = None;
        let message = entry.message.clone();
        entry.state = State::OnLink(link.clone());
        self.effects.push_back(if &*link == LINK_HANDSET {
            let range = self.routes.handset(number).cloned();
            Effect::SendToHandset { message, number: number.clone(), range, failing_since_ms: queue.failing_since_ms }
        } else {
            Effect::SendToLink { link, message }
        });
    }

    /// Nothing can be sent: until `at_ms` because the line is long, or on the schedule of a link that is down.
    fn put_off(&mut self, now_ms: u64, number: &SmolStr, place: Position, link: &SmolStr, at_ms: Option<u64>) {
        let Some(queue) = self.numbers.queues.get_mut(number) else { return };
        let Some(entry) = self.index.get(place.id) else { return };
        queue.backlog.remove(place);
        queue.busy = Some(place.id);
        queue.refused.clear();
        let (class, due_at_ms) = match at_ms {
            Some(at_ms) => (ErrorClass::Congestion, at_ms),
            None => {
                queue.waits_for = Some(link.clone());
                let next = self.retry.next(now_ms, link, ErrorClass::LinkDown, queue.failures, &entry.message);
                // However often nothing could be sent, that ends no message.
                let Next::At(due_at_ms) = next else { unreachable!("a link that is down has no last attempt") };
                (ErrorClass::LinkDown, self.links.ask_again_ms(now_ms, link, due_at_ms))
            }
        };
        self.record(now_ms, place.id, link, Ended::PutOff { class, due_at_ms });
    }

    /// A link is connected and takes so much; also tells of a change. What waits for it moves at once.
    pub fn link_up(&mut self, now_ms: u64, name: &str, capacity: LinkCapacity) {
        let link: SmolStr = SmolStr::from(name);
        self.links.set_up(&link, capacity);
        let mut back: Vec<_> =
            self.numbers.queues.iter().filter(|row| row.1.waits_for.as_ref() == Some(&link)).collect();
        back.sort_unstable_by_key(|row| (row.1.due_at_ms, row.0.clone()));
        let back: Vec<SmolStr> = back.into_iter().map(|row| row.0.clone()).collect();
        for number in back {
            if let Some(queue) = self.numbers.queues.get_mut(&number) {
                queue.waits_for = None;
            }
            self.reachable(now_ms, &number);
        }
        self.pump_link(now_ms, &link);
    }

    /// A link is not connected any more. What it has not answered stays with it until its owner has reported each.
    pub fn link_down(&mut self, now_ms: u64, name: &str) {
        let link: SmolStr = SmolStr::from(name);
        self.links.set_down(&link);
        self.pump_link(now_ms, &link);
    }

    /// A link takes nothing until then: its message centre throttles. UTC milliseconds.
    pub fn link_paused(&mut self, name: &str, until_ms: u64) {
        self.links.pause(&SmolStr::from(name), until_ms);
    }

    pub(super) fn links_timeout(&mut self, now_ms: u64) {
        for link in self.links.due(now_ms) {
            self.pump_link(now_ms, &link);
        }
    }

    /// Sends from a link's line as far as its window and rate allow.
    fn pump_link(&mut self, now_ms: u64, link: &SmolStr) {
        while !self.paused
            && let Some(number) = self.links.next_in_line(now_ms, link)
        {
            let Some(queue) = self.numbers.queues.get_mut(&number) else { continue };
            // A queue that was let go of and taken up again may stand in line twice.
            if queue.in_line.as_ref() != Some(link) {
                continue;
            }
            queue.in_line = None;
            match queue.backlog.head() {
                Head::Held(place)
                    if queue.busy.is_none()
                        && queue.due_at_ms <= now_ms
                        && self.index.get(place.id).is_some_and(|entry| !is_expired(&entry.message, now_ms)) =>
                {
                    self.offer_number(now_ms, &number, place, Some(link));
                }
                _ => self.pump_number(now_ms, &number),
            }
        }
    }

    fn park_number(&mut self, number: &SmolStr) {
        let numbers = &mut self.numbers;
        let Some(queue) = numbers.queues.get_mut(number) else { return };
        let due_at_ms = queue.due_at_ms;
        for place in queue.backlog.drop_held() {
            self.index.remove(place.id);
        }
        if !queue.parked {
            queue.parked = true;
            numbers.parked.insert((due_at_ms, number.clone()));
        }
        // Others that are due as late were let go of; with this one among them, those that are due sooner have room.
        if !numbers.knows(due_at_ms, &QueueKey::new(QueueKind::Number, number)) {
            numbers.remove(number);
            self.scan_numbers_when_few();
        }
    }

    fn load_number(&mut self, number: &SmolStr) {
        let Some(queue) = self.numbers.queues.get(number) else { return };
        let held_max = self.numbers.held_max(queue, self.index.to_numbers());
        let limit = held_max.saturating_sub(queue.backlog.len()).max(1);
        let Some(from) = self.numbers.queues.get_mut(number).and_then(|queue| queue.backlog.begin_load()) else {
            return;
        };
        let key = QueueKey::new(QueueKind::Number, number);
        self.effects.push_back(Effect::Load(Load::Queue { key, from, limit }));
    }

    /// Asks for the record of a queue whose state in the store only its record tells: it is held without all of its
    /// messages, or some of them are at their end.
    pub(super) fn refresh_number(&mut self, key: &QueueKey) {
        if key.is_esme() {
            return;
        }
        let stale = |queue: &NumberQueue| queue.busy.is_none() && (queue.ending || !queue.backlog.all_read());
        if self.numbers.queues.get(&key.key).is_some_and(stale) {
            let load = Load::Queue { key: key.clone(), from: Position::FIRST, limit: 0 };
            self.effects.push_back(Effect::Load(load));
        }
    }

    pub(super) fn number_loaded(
        &mut self,
        now_ms: u64,
        key: &QueueKey,
        from: Position,
        limit: usize,
        record: Option<Queue>,
        messages: Vec<Arc<Message>>,
    ) {
        let Some(queue) = self.numbers.queues.get_mut(&key.key) else { return };
        if limit > 0 {
            let last = messages.last().map(|message| Position::of(message));
            if !queue.backlog.end_load(from, last, messages.len() < limit) {
                return;
            }
        }
        if queue.busy.is_none() {
            self.numbers.unpark(&key.key);
            let Some(queue) = self.numbers.queues.get_mut(&key.key) else { return };
            match &record {
                Some(record) => {
                    queue.due_at_ms = record.due_at_ms;
                    queue.failures = record.failures;
                    queue.failing_since_ms = record.failing_since_ms;
                }
                None => {
                    for place in queue.backlog.drop_held() {
                        self.index.remove(place.id);
                    }
                    self.numbers.remove(&key.key);
                    return self.scan_numbers_when_few();
                }
            }
        }
        for message in messages {
            if self.known(&message) {
                self.number_still_has(&message);
                continue;
            }
            let Some(queue) = self.numbers.queues.get(&key.key) else { return };
            let held_max = self.numbers.held_max(queue, self.index.to_numbers());
            let Some(queue) = self.numbers.queues.get_mut(&key.key) else { return };
            // In a full window a message in front takes the place of one behind: else the queue is read for ever.
            let admission = queue.backlog.admit(Position::of(&message), held_max);
            if let Some(evicted) = admission.evicted {
                self.index.remove(evicted.id);
            }
            if !admission.held {
                break;
            }
            self.index.insert(message, key.clone(), State::Waiting);
        }
        self.pump_number(now_ms, &key.key);
    }

    /// A link took a message, or did not.
    pub fn link_outcome(&mut self, now_ms: u64, id: u64, result: LinkResult) {
        let Some(entry) = self.index.get_mut(id) else { return };
        let key = entry.queue.clone();
        let Some(queue) = self.numbers.queues.get_mut(&key.key).filter(|queue| queue.busy == Some(id)) else { return };
        match &mut entry.state {
            State::OnLink(link) => {
                let link = link.clone();
                self.links.answered(now_ms, &link);
                let attempt = Attempt { now_ms, link: &link, failures: queue.failures };
                match Ended::of(result, &entry.message, &self.retry, attempt) {
                    Some(Ended::Failed { class, error, due_at_ms }) => {
                        let due_at_ms = self.or_fall_back(now_ms, id, &link, class).unwrap_or(due_at_ms);
                        self.record(now_ms, id, &link, Ended::Failed { class, error, due_at_ms });
                    }
                    Some(ended) => {
                        queue.refused.clear();
                        self.record(now_ms, id, &link, ended);
                    }
                    None => {
                        entry.state = State::Waiting;
                        queue.backlog.put_back(entry.place());
                        queue.busy = None;
                        self.pump_number(now_ms, &key.key);
                    }
                }
                self.pump_link(now_ms, &link);
            }
            State::Orphan { with, again } => {
                let (with, again) = (with.clone(), again.take());
                if let With::Link(link) = &with
                    && let LinkResult::Accepted { .. } = result
                {
                    let attempt = Attempt { now_ms, link, failures: 0 };
                    if let Some(Ended::Handed(handed)) = Ended::of(result, &entry.message, &self.retry, attempt) {
                        let message = Arc::new(Message { handed: Some(handed), ..(*entry.message).clone() });
                        self.effects.push_back(Effect::CallBack { message });
                    }
                }
                queue.busy = None;
                self.index.remove(id);
                match again {
                    Some(message) => self.number_queued(now_ms, &key, message, false),
                    None => self.pump_number(now_ms, &key.key),
                }
                // What was finished, and how that left the queue, is in the store.
                self.refresh_number(&key);
                if let With::Link(link) = with {
                    self.links.answered(now_ms, &link);
                    self.pump_link(now_ms, &link);
                }
            }
            State::Waiting | State::PutOff(_) | State::OnSession(_) | State::Recording { .. } => {}
        }
    }

    /// When a link cannot take a message, another one that leads there may at once.
    fn or_fall_back(&mut self, now_ms: u64, id: u64, link: &SmolStr, class: ErrorClass) -> Option<u64> {
        let entry = self.index.get(id)?;
        let queue = self.numbers.queues.get_mut(&entry.queue.key)?;
        if matches!(class, ErrorClass::Congestion | ErrorClass::LinkDown | ErrorClass::SystemFailure) {
            queue.refused.push(link.clone());
            let choices = self.routes.links(&entry.message, now_ms);
            if choices.iter().any(|choice| !queue.refused.contains(choice) && self.links.is_up(now_ms, choice)) {
                return Some(now_ms);
            }
        }
        queue.refused.clear();
        None
    }

    /// An attempt that failed is recorded: the queue waits.
    pub(super) fn number_failed(&mut self, now_ms: u64, key: &QueueKey, message: &Message, failure: Failure) {
        let Some(queue) = self.numbers.queues.get_mut(&key.key) else { return };
        if queue.busy == Some(message.id) {
            queue.busy = None;
        }
        queue.failures += u32::from(failure.counts);
        if failure.tried && queue.failing_since_ms == 0 {
            queue.failing_since_ms = message.last_attempt_at_ms;
        }
        queue.backlog.leave_unread(Position::of(message));
        let wake = std::mem::take(&mut queue.wake);
        self.numbers.unpark(&key.key);
        if let Some(queue) = self.numbers.queues.get_mut(&key.key) {
            queue.due_at_ms = message.due_at_ms;
        }
        if wake {
            self.propose_wake(&key.key);
        }
        self.pump_number(now_ms, &key.key);
    }

    /// A final state is recorded; a delivery lets the rest of the queue go at once.
    pub(super) fn number_recorded(&mut self, now_ms: u64, key: &QueueKey, id: u64, delivered: bool) {
        let Some(queue) = self.numbers.queues.get_mut(&key.key) else { return };
        let beside = queue.busy != Some(id);
        if !beside {
            queue.busy = None;
            if delivered {
                queue.failures = 0;
                queue.failing_since_ms = 0;
                queue.due_at_ms = queue.due_at_ms.min(now_ms);
            }
        }
        if beside || queue.ending {
            self.refresh_number(key);
        }
        self.pump_number(now_ms, &key.key);
    }

    /// The number of a simulated handset came back.
    pub fn reachable(&mut self, now_ms: u64, number: &SmolStr) {
        self.number_reached(now_ms, number);
        match self.numbers.queues.get_mut(number) {
            Some(queue) if queue.busy.is_some() => queue.wake = true,
            Some(queue) if queue.due_at_ms > now_ms => self.propose_wake(number),
            // It may wait in the store alone.
            None if self.numbers.horizon.is_some() => self.propose_wake(number),
            Some(_) | None => {}
        }
    }

    fn propose_wake(&mut self, number: &SmolStr) {
        let wake = QueueWake { kind: QueueKind::Number as i32, key: number.to_string() };
        self.effects.push_back(Effect::Propose(Command { op: Some(Op::QueueWake(wake)) }));
    }

    pub(super) fn number_woken(&mut self, now_ms: u64, number: &SmolStr) {
        if !self.numbers.queues.contains_key(number) {
            if !self.numbers.make_room(now_ms) {
                // Its due time is the stamp of the log entry, which may be before now: look from the beginning.
                self.numbers.lower_horizon(0);
                return self.scan_numbers_when_few();
            }
            let queue = NumberQueue { backlog: Backlog::unread(), ..Default::default() };
            self.numbers.queues.insert(number.clone(), queue);
        }
        self.numbers.unpark(number);
        if let Some(queue) = self.numbers.queues.get_mut(number) {
            queue.failures = 0;
            queue.failing_since_ms = 0;
            queue.due_at_ms = queue.due_at_ms.min(now_ms);
        }
        self.pump_number(now_ms, number);
    }

    pub(super) fn numbers_timeout(&mut self, now_ms: u64) {
        while let Some((due_at_ms, number)) = self.numbers.parked.first().cloned() {
            if due_at_ms > now_ms {
                return;
            }
            self.numbers.unpark(&number);
            self.pump_number(now_ms, &number);
        }
    }

    /// Reads on behind the horizon, unless everything is known.
    pub(super) fn scan_numbers(&mut self) {
        let numbers = &mut self.numbers;
        if numbers.scanning.is_none() && numbers.queues.len() < numbers.queues_max {
            numbers.scanning = numbers.horizon.clone();
            if let Some(after) = &numbers.scanning {
                let load = Load::Due { after: Some(after.clone()), limit: SCAN_QUEUES };
                self.effects.push_back(Effect::Load(load));
            }
        }
    }

    /// The same once a quarter of the room is free, so that a reading never costs much for little.
    fn scan_numbers_when_few(&mut self) {
        if self.numbers.queues.len() <= self.numbers.queues_max * 3 / 4 {
            self.scan_numbers();
        }
    }

    pub(super) fn numbers_loaded(&mut self, now_ms: u64, limit: usize, queues: Vec<(DueKey, Queue)>) {
        let Some(from) = self.numbers.scanning.take() else { return };
        // Where something had to be let go of in front of what was read, the next reading begins there.
        if self.numbers.horizon.as_ref().is_some_and(|horizon| *horizon >= from) {
            self.numbers.horizon = match queues.last() {
                Some((last, _)) if queues.len() >= limit => Some(last.clone()),
                _ => None,
            };
        }
        for (key, record) in queues {
            let number = &key.queue.key;
            if self.numbers.queues.contains_key(number) {
                continue;
            }
            if !self.numbers.make_room(key.due_at_ms) {
                break;
            }
            let queue = NumberQueue {
                backlog: Backlog::unread(),
                due_at_ms: key.due_at_ms,
                failures: record.failures,
                failing_since_ms: record.failing_since_ms,
                ..Default::default()
            };
            self.numbers.queues.insert(number.clone(), queue);
            if record.failing_since_ms > 0
                && let Some(range) = self.routes.handset(number)
            {
                self.effects.push_back(Effect::WatchHandset {
                    number: number.clone(),
                    range: range.clone(),
                    failing_since_ms: record.failing_since_ms,
                    at_once: false,
                });
            }
            self.pump_number(now_ms, number);
        }
        self.scan_numbers();
    }
}
