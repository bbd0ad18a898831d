//! A world around one engine: it applies what is proposed, answers readings, plays the handsets and the ESMEs, and
//! checks at every step what must always hold.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use smsc_proto::status::CommandStatus;
use smsc_raft::machine::base::MemoryBase;
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::machine::{Applied, BATCH_VERSION, Change, Machine};
use smsc_raft::model::handset_range::Behaviour;
use smsc_raft::model::{
    Account, Address, Batch, Command, Finish, HandsetRange, Message, MessageState, QueueKind, Route, Settings,
    Submission, Submit, command::Op,
};
use smsc_raft::outcome::Outcome;

use crate::delivery::engine::{
    DeliveryEngine, Effect, EngineConfig, LinkCapacity, LinkResult, Load, Loaded, Receiver, content, is_expired,
};
use crate::delivery::handset::{HandsetEvent, Handsets};
use crate::delivery::route::{LINK_ESME, LINK_HANDSET, RouteTable};
use crate::smpp::ports::DeliverResult;
use crate::smpp::serves::Serves;

/// The time at which worlds begin. UTC milliseconds.
pub(super) const START_MS: u64 = 1_795_229_569_000;

/// How the ESMEs answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// At once.
    Accept,
    /// At once, with this status.
    Refuse(CommandStatus),
    /// Not until the test says so.
    Hold,
}

pub(super) struct World {
    pub machine: Machine,
    pub engine: DeliveryEngine,
    pub handsets: Handsets,
    pub now_ms: u64,
    pub answer: Answer,
    /// Proposals take effect at once, or when the test says so.
    pub commits: bool,
    /// What is with a session, not answered, in the order sent.
    pub unanswered: BTreeMap<u64, VecDeque<Arc<Message>>>,
    /// What was handed to handsets: when, number, message.
    pub attempts: Vec<(u64, String, u64)>,
    /// What was handed to sessions: when, session, message.
    pub sent: Vec<(u64, u64, Arc<Message>)>,
    /// How links answer, by name; those that are not here hold what they get until the test says so.
    pub link_answers: HashMap<String, LinkResult>,
    /// What is with a link, not answered.
    pub with_link: BTreeMap<String, VecDeque<Arc<Message>>>,
    /// What was handed to links: when, link, message.
    pub to_links: Vec<(u64, String, u64)>,
    /// Messages that a link's message centre was to cancel.
    pub called_back: Vec<u64>,
    /// Final states as they were recorded, with their time.
    pub finals: HashMap<u64, (MessageState, u64)>,
    /// Messages that others than the engine ended.
    pub cancelled: HashSet<u64>,
    pub rows_read: usize,
    config: EngineConfig,
    windows: HashMap<u64, (String, usize)>,
    pending: Vec<Command>,
    proposed: HashSet<u64>,
    with_handset: HashMap<String, u64>,
    applied: u64,
    routes: Arc<RouteTable>,
    settings: Settings,
}

pub(super) fn number(digits: &str) -> Submission {
    Submission {
        account: "one".to_owned(),
        source: Some(Address { ton: 1, npi: 1, digits: "1000".to_owned() }),
        destination: Some(Address { ton: 1, npi: 1, digits: digits.to_owned() }),
        registered_delivery: 0,
        short_message: bytes::Bytes::from_static(b"text"),
        queue_kind: QueueKind::Number as i32,
        link: LINK_HANDSET.to_owned(),
        ..Default::default()
    }
}

pub(super) fn esme(system_id: &str) -> Submission {
    Submission {
        queue_kind: QueueKind::Esme as i32,
        queue_key: system_id.to_owned(),
        link: LINK_ESME.to_owned(),
        ..number("2000")
    }
}

fn routes() -> Arc<RouteTable> {
    let range = |prefix: &str, behaviour: Behaviour, absent_ms| HandsetRange {
        prefix: prefix.to_owned(),
        behaviour: behaviour as i32,
        absent_ms,
        ..Default::default()
    };
    let slow = HandsetRange { delay_ms: 1_000, ..range("1888", Behaviour::Deliver, 0) };
    let account = |system_id: &str| Account { system_id: system_id.to_owned(), ..Default::default() };
    let route = |link: &str, priority| Route {
        prefix: "49".to_owned(),
        name: link.to_owned(),
        target: format!("link:{link}"),
        priority,
        ..Default::default()
    };
    Arc::new(RouteTable::build(
        &[account("one"), account("two")],
        &[route("x", 0), route("y", 1)],
        &[
            range("1555", Behaviour::Deliver, 0),
            range("1666", Behaviour::Fail, 0),
            range("1777", Behaviour::Absent, 7_000),
            range("1778", Behaviour::Absent, u32::MAX),
            slow,
        ],
    ))
}

impl World {
    pub fn new() -> Self {
        Self::with(EngineConfig::default(), &[5_000, 60_000, 3_600_000])
    }

    pub fn with(config: EngineConfig, retry_delays_ms: &[u64]) -> Self {
        let settings = Settings { retry_delays_ms: retry_delays_ms.to_vec(), ..Default::default() };
        let routes = routes();
        let mut world = Self {
            machine: Machine::open(Arc::new(MemoryBase::default())).expect("an empty base opens"),
            engine: DeliveryEngine::new(START_MS, config, routes.clone(), &settings),
            handsets: Handsets::new(1_000, 1),
            now_ms: START_MS,
            answer: Answer::Accept,
            commits: true,
            unanswered: BTreeMap::new(),
            attempts: Vec::new(),
            sent: Vec::new(),
            link_answers: HashMap::new(),
            with_link: BTreeMap::new(),
            to_links: Vec::new(),
            called_back: Vec::new(),
            finals: HashMap::new(),
            cancelled: HashSet::new(),
            rows_read: 0,
            config,
            windows: HashMap::new(),
            pending: Vec::new(),
            proposed: HashSet::new(),
            with_handset: HashMap::new(),
            applied: 0,
            routes,
            settings,
        };
        world.settle();
        world
    }

    /// Stores without letting the engine act, as another leader might have.
    pub fn store(&mut self, submission: Submission) -> u64 {
        let submit = Op::Submit(Submit { submission: Some(submission) });
        let outcomes = self.apply(vec![Command { op: Some(submit) }]).0;
        let Some(Outcome::Stored(id)) = outcomes.first() else { panic!("not stored: {outcomes:?}") };
        *id
    }

    pub fn submit(&mut self, submission: Submission) -> u64 {
        let submit = Op::Submit(Submit { submission: Some(submission) });
        let outcomes = self.commit(vec![Command { op: Some(submit) }]);
        let Some(Outcome::Stored(id)) = outcomes.first() else { panic!("not stored: {outcomes:?}") };
        self.settle();
        *id
    }

    pub fn submit_all(&mut self, submissions: impl IntoIterator<Item = Submission>) -> Vec<u64> {
        submissions.into_iter().map(|submission| self.submit(submission)).collect()
    }

    pub fn cancel(&mut self, id: u64) {
        self.cancelled.insert(id);
        let finish = Finish { id, state: MessageState::Deleted as i32, at_ms: self.now_ms, ..Default::default() };
        self.commit(vec![Command { op: Some(Op::Finish(finish)) }]);
        self.settle();
    }

    pub fn command(&mut self, op: Op) {
        self.commit(vec![Command { op: Some(op) }]);
        self.settle();
    }

    pub fn bind(&mut self, session_id: u64, system_id: &str, window: usize) {
        self.windows.insert(session_id, (system_id.to_owned(), window));
        self.engine.bound(self.now_ms, session_id, system_id, window);
        self.settle();
    }

    pub fn bind_serving(&mut self, session_id: u64, system_id: &str, window: usize, serves: Serves) {
        self.bind_as(session_id, system_id, Receiver { window, serves, alerts: true });
    }

    pub fn bind_as(&mut self, session_id: u64, system_id: &str, receiver: Receiver) {
        self.windows.insert(session_id, (system_id.to_owned(), receiver.window));
        self.engine.bound_as(self.now_ms, session_id, system_id, receiver);
        self.settle();
    }

    pub fn unbind(&mut self, session_id: u64) {
        self.windows.remove(&session_id);
        let lost = self.unanswered.remove(&session_id).unwrap_or_default();
        self.engine.unbound(self.now_ms, session_id);
        for message in lost {
            self.engine.session_outcome(self.now_ms, session_id, message.id, LinkResult::Lost);
        }
        self.settle();
    }

    pub fn bound(&self) -> Vec<u64> {
        let mut sessions: Vec<_> = self.windows.keys().copied().collect();
        sessions.sort_unstable();
        sessions
    }

    /// The session answers to the oldest message that it has.
    pub fn answer_first(&mut self, session_id: u64, result: DeliverResult) -> Option<u64> {
        let message = self.unanswered.get_mut(&session_id)?.pop_front()?;
        self.engine.session_outcome(self.now_ms, session_id, message.id, LinkResult::from(result));
        self.settle();
        Some(message.id)
    }

    /// The operator changes routes and settings.
    pub fn configure(&mut self, routes: RouteTable, settings: Settings) {
        (self.routes, self.settings) = (Arc::new(routes), settings);
        self.engine.configure(self.routes.clone(), &self.settings);
        self.settle();
    }

    pub fn link_up(&mut self, name: &str, window: usize, rate_per_s: u32) {
        self.engine.link_up(self.now_ms, name, LinkCapacity { window, rate_per_s });
        self.settle();
    }

    /// The link's connection ends: what is with it is lost.
    pub fn link_down(&mut self, name: &str) {
        self.engine.link_down(self.now_ms, name);
        self.settle();
        while self.link_answers_first(name, LinkResult::Lost).is_some() {}
    }

    /// A link answers to the oldest message that it has.
    pub fn link_answers_first(&mut self, name: &str, result: LinkResult) -> Option<u64> {
        let message = self.with_link.get_mut(name)?.pop_front()?;
        self.with_handset.retain(|_, busy| *busy != message.id);
        self.engine.link_outcome(self.now_ms, message.id, result);
        self.settle();
        Some(message.id)
    }

    /// Another message centre reports on what it had accepted.
    pub fn report(&mut self, id: u64, result: LinkResult) {
        let message = self.machine.message(id).unwrap().expect("it waits for its report");
        assert!(message.handed.is_some(), "{id} was not accepted by a link");
        assert!(self.engine.reported(self.now_ms, message, result), "the engine knows that {id} was handed over");
        self.settle();
    }

    /// Another leader: a new engine over the same store. What was proposed and not applied is gone; so are sessions.
    pub fn take_over(&mut self) {
        self.pending.clear();
        self.proposed.clear();
        self.with_handset.clear();
        self.unanswered.clear();
        self.windows.clear();
        self.with_link.clear();
        self.handsets = Handsets::new(1_000, 1);
        self.engine = DeliveryEngine::new(self.now_ms, self.config, self.routes.clone(), &self.settings);
        self.settle();
    }

    /// Lets time pass, doing at its time what is due.
    pub fn run_ms(&mut self, span_ms: u64) {
        let until_ms = self.now_ms + span_ms;
        self.settle();
        let mut idle = 0;
        loop {
            let deadlines = [
                Some(self.engine.next_deadline_ms()),
                self.handsets.next_deadline_ms(),
                self.machine.next_scheduled_ms(),
            ];
            let next_ms = deadlines.into_iter().flatten().min().unwrap_or(u64::MAX).max(self.now_ms);
            if next_ms > until_ms {
                break;
            }
            idle = if next_ms > self.now_ms { 0 } else { idle + 1 };
            assert!(idle < 100, "something is due that is never done: {deadlines:?} at {}", self.now_ms);
            self.now_ms = next_ms;
            self.step();
        }
        self.now_ms = until_ms;
        self.step();
    }

    fn step(&mut self) {
        if self.machine.next_scheduled_ms().is_some_and(|due_ms| due_ms <= self.now_ms) {
            self.commit(Vec::new());
        }
        self.engine.timeout(self.now_ms);
        self.settle();
    }

    /// Puts into effect what was proposed while `commits` was off.
    pub fn commit_pending(&mut self) {
        let commands = std::mem::take(&mut self.pending);
        if !commands.is_empty() {
            self.commit(commands);
        }
        self.settle();
    }

    /// The same, but for the engine, which is to be told of these changes.
    pub fn apply_pending(&mut self) -> Vec<Change> {
        let commands = std::mem::take(&mut self.pending);
        for id in commands.iter().filter_map(recorded_id) {
            self.proposed.remove(&id);
        }
        self.apply(commands).1
    }

    /// Carries out what the engine asks until it asks for nothing more.
    pub fn settle(&mut self) {
        let mut loads = 0;
        loop {
            if let Some(effect) = self.engine.poll_effect() {
                loads = if matches!(effect, Effect::Load(_)) { loads + 1 } else { 0 };
                assert!(loads < 1_000, "the engine reads and reads: {effect:?}");
                self.carry_out(effect);
            } else if let Some(event) = self.handsets.poll(self.now_ms) {
                self.handset_event(event);
            } else if self.commits && !self.pending.is_empty() {
                let commands = std::mem::take(&mut self.pending);
                self.commit(commands);
            } else {
                return;
            }
            assert!(self.engine.held() <= self.config.window_messages, "{} messages in memory", self.engine.held());
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Propose(command) => {
                if let Some(Op::Finish(Finish { id, .. })) = &command.op {
                    assert!(self.proposed.insert(*id), "{id} is finished twice");
                } else if let Some(id) = recorded_id(&command) {
                    assert!(self.proposed.insert(id), "{id} is recorded twice");
                }
                self.pending.push(command);
            }
            Effect::Load(load) => {
                let loaded = self.read(load);
                self.engine.loaded(self.now_ms, loaded);
            }
            Effect::SendToHandset { message, number, range, failing_since_ms } => {
                self.check_number(&message, &number);
                self.with_handset.insert(number.to_string(), message.id);
                self.attempts.push((self.now_ms - START_MS, number.to_string(), message.id));
                self.handsets.deliver(self.now_ms, &message, &number, range.as_deref(), failing_since_ms);
            }
            Effect::SendToLink { link, message } => self.link_gets(&link, message),
            Effect::CallBack { message } => self.called_back.push(message.id),
            Effect::WatchHandset { number, range, failing_since_ms, at_once } => {
                self.handsets.watch(self.now_ms, &number, &range, failing_since_ms, at_once);
            }
            Effect::SendToSession { session_id, message } => self.session_gets(session_id, message),
        }
    }

    fn link_gets(&mut self, link: &str, message: Arc<Message>) {
        let number = content(&message).queue_key.clone();
        self.check_number(&message, &number);
        self.with_handset.insert(number, message.id);
        self.to_links.push((self.now_ms - START_MS, link.to_owned(), message.id));
        self.with_link.entry(link.to_owned()).or_default().push_back(message);
        if let Some(answer) = self.link_answers.get(link).cloned() {
            let message = self.with_link.get_mut(link).and_then(VecDeque::pop_front).expect("just pushed");
            self.with_handset.retain(|_, busy| *busy != message.id);
            self.engine.link_outcome(self.now_ms, message.id, answer);
        }
    }

    /// One at a time, the first of those that wait, not before the queue's time, not after its own.
    fn check_number(&self, message: &Arc<Message>, number: &str) {
        assert!(!self.with_handset.contains_key(number), "two messages under way to {number}");
        assert!(!is_expired(message, self.now_ms), "{} is sent after its validity", message.id);
        let key = QueueKey::new(QueueKind::Number, number);
        let queue = self.machine.queue(&key).unwrap().expect("the queue is there");
        assert!(queue.due_at_ms <= self.now_ms, "{number} is tried {} ms early", queue.due_at_ms - self.now_ms);
        let waiting = self.machine.queue_messages(&key, None, 1_000).unwrap();
        let first = waiting.iter().find(|first| !self.proposed.contains(&first.id) && !is_expired(first, self.now_ms));
        assert_eq!(first.map(|first| first.id), Some(message.id), "{number} gets its messages out of order");
    }

    fn session_gets(&mut self, session_id: u64, message: Arc<Message>) {
        let (system_id, window) = self.windows.get(&session_id).expect("only bound sessions are sent to").clone();
        assert_eq!(content(&message).queue_key, system_id);
        assert!(message.due_at_ms <= self.now_ms, "{} is sent before its time", message.id);
        assert!(!is_expired(&message, self.now_ms), "{} is sent after its validity", message.id);
        assert!(!self.proposed.contains(&message.id), "{} is sent while it is being recorded", message.id);
        let elsewhere = self.unanswered.values().flatten().any(|other| other.id == message.id);
        assert!(!elsewhere, "{} is with two sessions", message.id);
        self.sent.push((self.now_ms - START_MS, session_id, message.clone()));
        let result = match self.answer {
            Answer::Accept => DeliverResult::Accepted,
            Answer::Refuse(status) => DeliverResult::Refused(status),
            Answer::Hold => {
                let unanswered = self.unanswered.entry(session_id).or_default();
                unanswered.push_back(message);
                assert!(unanswered.len() <= window, "session {session_id} has more than its window");
                return;
            }
        };
        self.engine.session_outcome(self.now_ms, session_id, message.id, LinkResult::from(result));
    }

    fn handset_event(&mut self, event: HandsetEvent) {
        match event {
            HandsetEvent::Done { id, result } => {
                self.with_handset.retain(|_, busy| *busy != id);
                self.engine.link_outcome(self.now_ms, id, LinkResult::from(result));
            }
            HandsetEvent::Reachable { number } => self.engine.reachable(self.now_ms, &number),
            HandsetEvent::Answer { .. } => {}
        }
    }

    fn read(&mut self, load: Load) -> Loaded {
        match load {
            Load::Due { after, limit } => {
                let queues = self.machine.due_queues(after.as_ref(), u64::MAX, limit).unwrap();
                self.rows_read += queues.len();
                Loaded::Due { limit, queues }
            }
            Load::Queue { key, from, limit } => {
                let queue = self.machine.queue(&key).unwrap();
                let messages = self.machine.queue_messages(&key, from.read_after(), limit).unwrap();
                self.rows_read += messages.len();
                Loaded::Queue { key, from, limit, queue, messages }
            }
            Load::Expired { until_ms, limit } => {
                Loaded::Expired { limit, messages: self.machine.expired(until_ms, limit).unwrap() }
            }
            Load::Pending { after, limit } => {
                Loaded::Pending { limit, numbers: self.machine.pending_numbers(after.as_deref(), limit) }
            }
        }
    }

    fn commit(&mut self, commands: Vec<Command>) -> Vec<Outcome> {
        let (outcomes, changes) = self.apply(commands.clone());
        for (command, outcome) in commands.iter().zip(&outcomes) {
            let Some(id) = recorded_id(command) else { continue };
            self.proposed.remove(&id);
            match outcome {
                Outcome::Finished { record } => {
                    let before = self.finals.insert(id, (record.state(), record.final_at_ms));
                    assert_eq!(before, None, "{id} has two final states");
                }
                Outcome::Waiting(_) => {}
                Outcome::AlreadyFinal(_) | Outcome::NotFound => {
                    assert!(self.cancelled.contains(&id), "{id} was recorded in vain: {outcome:?}");
                }
                other => panic!("unexpected outcome {other:?}"),
            }
        }
        for change in changes {
            self.engine.change(self.now_ms, change);
        }
        outcomes
    }

    fn apply(&mut self, commands: Vec<Command>) -> (Vec<Outcome>, Vec<Change>) {
        self.applied += 1;
        let batch = Batch { version: BATCH_VERSION, stamp_ms: self.now_ms, commands };
        let (mut outcomes, mut changes) = (Vec::new(), Vec::new());
        let at = Applied { term: 1, node_id: 1, index: self.applied };
        self.machine.apply(at, batch, &mut outcomes, &mut changes).expect("the machine applies everything");
        (outcomes, changes)
    }

    /// Whether something is proposed for the message that is not applied.
    pub fn is_proposed(&self, id: u64) -> bool {
        self.proposed.contains(&id)
    }

    pub fn state(&self, id: u64) -> Option<MessageState> {
        self.finals.get(&id).map(|row| row.0)
    }

    /// When the message became final, counted from the start of the world.
    pub fn final_after_ms(&self, id: u64) -> u64 {
        self.finals[&id].1 - START_MS
    }

    /// The receipts that were sent, by the message that they report on.
    pub fn receipts(&self) -> HashMap<u64, String> {
        let receipts = self.sent.iter().map(|row| content(&row.2)).filter(|submission| submission.receipt_for > 0);
        let text = |submission: &Submission| String::from_utf8_lossy(&submission.short_message).into_owned();
        receipts.map(|submission| (submission.receipt_for, text(submission))).collect()
    }
}

fn recorded_id(command: &Command) -> Option<u64> {
    match &command.op {
        Some(Op::Finish(finish)) => Some(finish.id),
        Some(Op::AttemptDone(attempt)) => Some(attempt.id),
        Some(Op::HandOver(handed)) => Some(handed.id),
        _ => None,
    }
}
