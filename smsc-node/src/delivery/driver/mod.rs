//! Owns a delivery engine while this node leads: feeds it what is applied, what sessions report and the time, and
//! carries out what it asks.
//!
//! One task, woken by whatever comes first; everything that has come meanwhile is taken in one turn, and what the engine
//! proposes in that turn goes into one log entry.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use smol_str::SmolStr;
use smsc_raft::leadership::Leadership;
use smsc_raft::machine::{Change, Machine};
use smsc_raft::model::command::Op;
use smsc_raft::model::{Command, Message, MessageState, Settings, Submit};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::{ProposeError, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::clock::{Clock as _, SystemClock};
use crate::delivery::ends::Ends;
use crate::delivery::engine::{DeliveryEngine, Effect, EngineConfig, LinkCapacity, LinkResult, Load, Loaded, Receiver};
use crate::delivery::handset::{HandsetEvent, Handsets};
use crate::delivery::mo;
use crate::delivery::pace::Pace;
use crate::delivery::route::RouteTable;
use crate::link::{LinkEvent, Links};
use crate::metrics::{AttemptResult, FinalState, LinkKind, Metrics};
use crate::smpp::ports::{DeliverResult, Receivers, SessionHandle, ToSession};

/// Reports taken in one turn.
const INPUTS_PER_TURN: usize = 4_096;
/// Readings of the store in one turn: entries wait to be applied meanwhile.
const LOADS_PER_TURN: usize = 32;
/// Numbers that simulated handsets remember.
const HANDSETS_REMEMBERED: usize = 100_000;
/// How often the replicated configuration is looked at anew while it keeps changing.
const CONFIG_INTERVAL_MS: u64 = 100;
/// How often it is looked whether everything is settled.
const SETTLE_LOOK_MS: u64 = 5;

/// The replicated configuration as routes, made ready by whoever shares it.
pub type TableSource = Arc<dyn Fn() -> Arc<RouteTable> + Send + Sync>;

/// What delivery is made of.
pub struct DeliveryParts {
    /// The replicated store.
    pub store: Store,
    /// The proof that this node may deliver; when it is over, delivery ends.
    pub leadership: Leadership,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The routes as they are now.
    pub table: TableSource,
    /// Who waits for messages to come to their end.
    pub ends: Arc<Ends>,
    /// Who asks how far behind deliveries are.
    pub pace: Arc<Pace>,
    /// The links to other message centres.
    pub links: Links,
    /// What they tell.
    pub link_events: mpsc::UnboundedReceiver<LinkEvent>,
}

enum Input {
    Bound(SessionHandle),
    Unbound(u64),
    Delivered {
        session_id: u64,
        message_id: u64,
        result: DeliverResult,
    },
    /// A group is in the log and applied, or it is not known to be.
    Recorded(Result<(), ProposeError>),
    /// Send nothing more and tell when nothing is under way.
    Settle(oneshot::Sender<()>),
    Stop,
}

/// Delivery while this node leads. Cheap to clone; whatever is told after its end goes nowhere.
#[derive(Clone)]
pub struct Delivery {
    inputs: mpsc::UnboundedSender<Input>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Delivery {
    /// Starts to deliver, on the runtime of the caller.
    pub fn start(parts: DeliveryParts) -> Self {
        // Bounded by its senders: a session reports no more than its window, and each report answers a message sent.
        let (inputs, received) = mpsc::unbounded_channel();
        let changes = parts.store.changes();
        let own = inputs.clone();
        let task = tokio::spawn(async move {
            match Driver::new(parts, own, received, changes) {
                Ok(driver) => driver.run().await,
                // The store has reported the failure; the node stops.
                Err(error) => tracing::error!(%error, "delivery cannot read the message store"),
            }
        });
        Self { inputs, task: Arc::new(Mutex::new(Some(task))) }
    }

    /// Sends nothing more, and waits for at most `within` until what is under way has ended and is recorded. Call it
    /// while sessions are still bound. Returns whether everything is settled.
    pub async fn settle(&self, within: Duration) -> bool {
        let (tell, told) = oneshot::channel();
        self.tell(Input::Settle(tell));
        matches!(tokio::time::timeout(within, told).await, Ok(Ok(())))
    }

    /// Ends delivery. What was under way is delivered again by whoever leads next.
    pub async fn stop(&self) {
        self.tell(Input::Stop);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "delivery ended badly");
        }
    }

    fn tell(&self, input: Input) {
        // Once delivery has ended, nothing that happens to a session matters to it.
        let _ = self.inputs.send(input);
    }
}

impl Receivers for Delivery {
    fn bound(&self, session: SessionHandle) {
        self.tell(Input::Bound(session));
    }

    fn unbound(&self, session_id: u64) {
        self.tell(Input::Unbound(session_id));
    }

    fn delivered(&self, session_id: u64, message_id: u64, result: DeliverResult) {
        self.tell(Input::Delivered { session_id, message_id, result });
    }
}

/// Why a turn is the last one.
struct End;

struct Driver {
    store: Store,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    table: TableSource,
    ends: Arc<Ends>,
    pace: Arc<Pace>,
    engine: DeliveryEngine,
    routes: Arc<RouteTable>,
    settings: Settings,
    handsets: Handsets,
    sessions: HashMap<u64, mpsc::Sender<ToSession>>,
    changes: mpsc::UnboundedReceiver<Vec<Change>>,
    received: mpsc::UnboundedReceiver<Input>,
    inputs: mpsc::UnboundedSender<Input>,
    loads: VecDeque<Load>,
    /// The largest time seen: that of the log at first. Time never turns back, whatever the clock does.
    now_ms: u64,
    /// When the configuration is to be looked at, if it has changed; `u64::MAX` if not.
    configure_at_ms: u64,
    configured_at_ms: u64,
    settling: Vec<oneshot::Sender<()>>,
    recording: usize,
    links: Links,
    link_events: mpsc::UnboundedReceiver<LinkEvent>,
    /// Messages whose reported end is being recorded, and the link that waits for it.
    reported: HashMap<u64, String>,
    /// Reports on messages that the engine has not been told of as handed over yet, though the store has that.
    early: HashMap<u64, (Arc<Message>, LinkResult)>,
}

impl Driver {
    fn new(
        parts: DeliveryParts,
        inputs: mpsc::UnboundedSender<Input>,
        received: mpsc::UnboundedReceiver<Input>,
        changes: mpsc::UnboundedReceiver<Vec<Change>>,
    ) -> io::Result<Self> {
        let DeliveryParts { store, leadership, metrics, table, ends, pace, links, link_events } = parts;
        let (stamp_ms, settings) = store.read(|machine| Ok((machine.stamp_ms(), machine.settings())))?;
        let now_ms = stamp_ms.max(SystemClock.wall().as_millis());
        let config = EngineConfig { seed: leadership.term, ..Default::default() };
        let routes = table();
        Ok(Self {
            engine: DeliveryEngine::new(now_ms, config, routes.clone(), &settings),
            routes,
            settings,
            handsets: Handsets::new(HANDSETS_REMEMBERED, leadership.term),
            store,
            leadership,
            metrics,
            table,
            ends,
            pace,
            sessions: HashMap::new(),
            changes,
            received,
            inputs,
            loads: VecDeque::new(),
            now_ms,
            configure_at_ms: u64::MAX,
            configured_at_ms: now_ms,
            settling: Vec::new(),
            recording: 0,
            links,
            link_events,
            reported: HashMap::new(),
            early: HashMap::new(),
        })
    }

    async fn run(mut self) {
        let mut leaderships = self.store.leadership();
        let term = self.leadership.term;
        loop {
            if self.turn().is_err() {
                return;
            }
            let sleep = Duration::from_millis(self.next_deadline_ms().saturating_sub(self.wall_ms()));
            tokio::select! {
                // Left over from this turn: others run first.
                () = tokio::task::yield_now(), if !self.loads.is_empty() => {}
                changes = self.changes.recv() => match changes {
                    Some(changes) => {
                        self.now_ms = self.wall_ms();
                        self.take_changes(changes);
                    }
                    // Somebody else listens: another term has begun.
                    None => return,
                },
                Some(input) = self.received.recv() => {
                    self.now_ms = self.wall_ms();
                    if self.take_input(input).is_err() {
                        return;
                    }
                }
                Some(event) = self.link_events.recv() => {
                    self.now_ms = self.wall_ms();
                    if self.take_link_event(event).is_err() {
                        return;
                    }
                }
                _ = leaderships.wait_for(|now| now.as_ref().is_none_or(|now| now.term != term)) => return,
                () = tokio::time::sleep(sleep) => {}
            }
        }
    }

    /// Takes in everything that has come, changes first: a message must be known before a session answers to it.
    fn turn(&mut self) -> Result<(), End> {
        self.now_ms = self.wall_ms();
        for _ in 0..INPUTS_PER_TURN {
            let Ok(changes) = self.changes.try_recv() else { break };
            self.take_changes(changes);
        }
        for _ in 0..INPUTS_PER_TURN {
            let Ok(input) = self.received.try_recv() else { break };
            self.take_input(input)?;
        }
        for _ in 0..INPUTS_PER_TURN {
            let Ok(event) = self.link_events.try_recv() else { break };
            self.take_link_event(event)?;
        }
        if self.configure_at_ms <= self.now_ms {
            self.configure()?;
        }
        if self.engine.next_deadline_ms() <= self.now_ms {
            self.engine.timeout(self.now_ms);
        }
        self.carry_out()?;
        if let Some(lag_ms) = self.engine.take_lag_ms() {
            self.pace.tell(lag_ms);
        }
        if !self.settling.is_empty() && self.recording == 0 && self.engine.settled() {
            // Whoever asked may have stopped waiting.
            for tell in self.settling.drain(..) {
                // Whoever waited may have given up.
                let _ = tell.send(());
            }
        }
        Ok(())
    }

    fn wall_ms(&self) -> u64 {
        self.now_ms.max(SystemClock.wall().as_millis())
    }

    fn next_deadline_ms(&self) -> u64 {
        let settle = if self.settling.is_empty() { u64::MAX } else { self.now_ms + SETTLE_LOOK_MS };
        let handsets = self.handsets.next_deadline_ms().unwrap_or(u64::MAX);
        self.engine.next_deadline_ms().min(handsets).min(self.configure_at_ms).min(settle)
    }

    fn take_changes(&mut self, changes: Vec<Change>) {
        for change in changes {
            if change == Change::Config {
                // The first change takes effect at once, a flood of them together.
                self.configure_at_ms = self.configured_at_ms + CONFIG_INTERVAL_MS;
            }
            self.tell_links(&change);
            let handed = if let Change::HandedOver { id, .. } = &change { Some(*id) } else { None };
            self.engine.change(self.now_ms, change);
            if let Some((message, result)) = handed.and_then(|id| self.early.remove(&id)) {
                self.engine.reported(self.now_ms, message, result);
            }
        }
    }

    fn take_input(&mut self, input: Input) -> Result<(), End> {
        match input {
            Input::Bound(session) => {
                let SessionHandle { session_id, system_id, window, serves, alerts, to_session } = session;
                self.sessions.insert(session_id, to_session);
                let receiver = Receiver { window, serves, alerts };
                self.engine.bound_as(self.now_ms, session_id, &system_id, receiver);
            }
            Input::Unbound(session_id) => {
                self.sessions.remove(&session_id);
                self.engine.unbound(self.now_ms, session_id);
            }
            Input::Delivered { session_id, message_id, result } => {
                let result = LinkResult::from(result);
                self.metrics.attempts(LinkKind::Esme).inc(attempt_result(&result));
                self.engine.session_outcome(self.now_ms, session_id, message_id, result);
            }
            Input::Recorded(Ok(())) => self.recording -= 1,
            Input::Recorded(Err(error)) => {
                // What this term delivered and could not record, the next leader delivers again.
                tracing::info!(%error, "delivery ends");
                return Err(End);
            }
            Input::Settle(tell) => {
                self.engine.pause();
                self.settling.push(tell);
            }
            Input::Stop => return Err(End),
        }
        Ok(())
    }

    fn take_link_event(&mut self, event: LinkEvent) -> Result<(), End> {
        let now_ms = self.now_ms;
        match event {
            LinkEvent::Up { link, window, rate_per_s } => {
                self.engine.link_up(now_ms, &link, LinkCapacity { window, rate_per_s });
            }
            LinkEvent::Down { link } => self.engine.link_down(now_ms, &link),
            LinkEvent::Paused { link, until_ms } => self.engine.link_paused(&link, until_ms),
            LinkEvent::Outcome { id, result, .. } => {
                self.metrics.attempts(LinkKind::Smpp).inc(attempt_result(&result));
                self.engine.link_outcome(now_ms, id, result);
            }
            LinkEvent::Reachable { number } => self.engine.reachable(now_ms, &SmolStr::from(number)),
            LinkEvent::Report(report) => {
                let id = report.message.id;
                // As it is now: its end may have been recorded since the link has looked.
                let message = self.store.read(|machine| machine.message(id)).map_err(stopped)?;
                match message.filter(|message| message.handed.is_some()) {
                    Some(message) => {
                        let result = report.result();
                        self.reported.insert(id, report.link);
                        if !self.engine.reported(now_ms, message.clone(), result.clone()) {
                            self.early.insert(id, (message, result));
                        }
                    }
                    None => self.links.recorded(&report.link, id),
                }
            }
        }
        Ok(())
    }

    /// What a link waits for: the end of a message that it has reported on.
    fn tell_links(&mut self, change: &Change) {
        let id = match change {
            Change::Finished { id, .. } => *id,
            Change::TakenBack(message) | Change::Retry(message) => message.id,
            _ => return,
        };
        if let Some(link) = self.reported.remove(&id) {
            self.links.recorded(&link, id);
        }
    }

    fn configure(&mut self) -> Result<(), End> {
        self.settings = self.store.read(|machine| Ok(machine.settings())).map_err(stopped)?;
        self.routes = (self.table)();
        self.engine.configure(self.routes.clone(), &self.settings);
        let routes = &self.routes;
        self.handsets.changed(self.now_ms, |number| routes.handset(number).map(|range| &**range));
        self.configure_at_ms = u64::MAX;
        self.configured_at_ms = self.now_ms;
        Ok(())
    }

    /// Carries out what the engine asks until it asks for no more, or for more readings than one turn may take.
    fn carry_out(&mut self) -> Result<(), End> {
        let mut commands = Vec::new();
        let mut loads = 0;
        // Checked again at every turn: a turn takes milliseconds, and what is sent after the lease has ended is sent
        // again by the next leader, which the duplicate contract covers.
        if !self.leadership.valid_now() {
            return Err(End);
        }
        loop {
            while let Some(effect) = self.engine.poll_effect() {
                match effect {
                    Effect::Propose(command) => commands.push(command),
                    Effect::Load(load) => self.loads.push_back(load),
                    Effect::SendToSession { session_id, message } => self.send(session_id, message),
                    Effect::SendToLink { link, message } => {
                        let id = message.id;
                        if !self.links.send(&link, message) {
                            // It has ended, and its word of that is on the way: without this the engine would offer it
                            // the message again, at once and for ever.
                            self.engine.link_down(self.now_ms, &link);
                            self.engine.link_outcome(self.now_ms, id, LinkResult::Lost);
                        }
                    }
                    // Whether it still can be cancelled there or not changes nothing here.
                    Effect::CallBack { message } => drop(self.links.call_back(message)),
                    Effect::SendToHandset { message, number, range, failing_since_ms } => {
                        self.handsets.deliver(self.now_ms, &message, &number, range.as_deref(), failing_since_ms);
                    }
                    Effect::WatchHandset { number, range, failing_since_ms, at_once } => {
                        self.handsets.watch(self.now_ms, &number, &range, failing_since_ms, at_once);
                    }
                }
            }
            if let Some(event) = self.handsets.poll(self.now_ms) {
                commands.extend(self.handset_event(event));
            } else if loads < LOADS_PER_TURN
                && let Some(load) = self.loads.pop_front()
            {
                loads += 1;
                let loaded = self.store.read(|machine| read(machine, load)).map_err(stopped)?;
                self.engine.loaded(self.now_ms, loaded);
            } else {
                break;
            }
        }
        if !commands.is_empty() {
            self.propose(commands);
        }
        Ok(())
    }

    fn send(&mut self, session_id: u64, message: Arc<Message>) {
        let id = message.id;
        let Some(session) = self.sessions.get(&session_id) else {
            return self.engine.session_outcome(self.now_ms, session_id, id, LinkResult::Lost);
        };
        if let Err(error) = session.try_send(ToSession::Deliver(message)) {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                tracing::error!(session_id, "a session takes fewer messages than its window: it gets no more");
            }
            self.sessions.remove(&session_id);
            self.engine.unbound(self.now_ms, session_id);
            // The session never had it and will not report it.
            self.engine.session_outcome(self.now_ms, session_id, id, LinkResult::Lost);
        }
    }

    /// Returns what is to be put into the log beside what the engine asks.
    fn handset_event(&mut self, event: HandsetEvent) -> Option<Command> {
        match event {
            HandsetEvent::Done { id, result } => {
                let result = LinkResult::from(result);
                self.metrics.attempts(LinkKind::Handset).inc(attempt_result(&result));
                self.engine.link_outcome(self.now_ms, id, result);
            }
            HandsetEvent::Reachable { number } => self.engine.reachable(self.now_ms, &number),
            HandsetEvent::Answer { number, message } => return self.answer(&number, &message),
        }
        None
    }

    /// A handset's answer is a message of its own; where nobody takes it, as from a name, there is none.
    fn answer(&self, number: &str, message: &Message) -> Option<Command> {
        match mo::answer(&self.routes, number, message, self.now_ms, self.settings.validity_default_s) {
            Ok(submission) => Some(Command { op: Some(Op::Submit(Submit { submission: Some(submission) })) }),
            Err(error) => {
                tracing::debug!(number, %error, "a handset's answer goes nowhere");
                None
            }
        }
    }

    fn propose(&mut self, commands: Vec<Command>) {
        self.recording += 1;
        self.metrics.raft_commands.add(commands.len() as u64);
        let (inputs, metrics, ends) = (self.inputs.clone(), self.metrics.clone(), self.ends.clone());
        let done = Box::new(move |result: Result<Vec<Outcome>, ProposeError>| {
            let recorded = result.map(|outcomes| {
                for outcome in &outcomes {
                    count(&metrics, outcome);
                    ends.tell(outcome);
                }
            });
            // Delivery may have ended meanwhile.
            let _ = inputs.send(Input::Recorded(recorded));
        });
        self.store.propose_group(commands, done);
    }
}

/// The store has told the node why it stops.
fn stopped(_: io::Error) -> End {
    End
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
        Load::Pending { after, limit } => {
            Loaded::Pending { limit, numbers: machine.pending_numbers(after.as_deref(), limit) }
        }
        Load::Expired { until_ms, limit } => Loaded::Expired { limit, messages: machine.expired(until_ms, limit)? },
    })
}

fn attempt_result(result: &LinkResult) -> AttemptResult {
    match result {
        LinkResult::Delivered | LinkResult::Accepted { .. } => AttemptResult::Delivered,
        LinkResult::Temporary { .. } => AttemptResult::Temporary,
        LinkResult::Permanent { .. } => AttemptResult::Permanent,
        LinkResult::Lost => AttemptResult::Lost,
    }
}

fn count(metrics: &Metrics, outcome: &Outcome) {
    let Outcome::Finished { record } = outcome else { return };
    let state = match record.state() {
        MessageState::Delivered => FinalState::Delivered,
        MessageState::Expired => FinalState::Expired,
        MessageState::Deleted => FinalState::Deleted,
        MessageState::Accepted => FinalState::Accepted,
        MessageState::Rejected => FinalState::Rejected,
        _ => FinalState::Undeliverable,
    };
    metrics.finals.inc(state);
    if record.receipt_id > 0 {
        metrics.receipts.inc();
    }
}
