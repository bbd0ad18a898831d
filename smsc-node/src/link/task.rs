//! One link at work: its binds, what it sends, what it receives. Lives for a term, or until its configuration changes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smsc_proto::pdu::Body;
use smsc_proto::session::Ticket;
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::time::MonoTime;
use smsc_proto::types::{BindMode, InterfaceVersion};
use smsc_raft::model::command::Op;
use smsc_raft::model::link::Mode;
use smsc_raft::model::{Command, Link, LinkPartDone, Message, MessageState, Submit};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::ProposeError;
use tokio::sync::{mpsc, oneshot};

use super::bind::{BindEvent, BindTask, ToBind, seconds};
use super::board::{BindStatus, LinkBoardRow};
use super::call_back::{Calls, is_call};
use super::core::{Core, Effect};
use super::ids::{candidates, same_number};
use super::report::{Incoming, Report};
use super::{LinkEvent, LinkShared, Reported};
use super::{inbound, outbound};
use crate::clock::{Clock as _, SystemClock};

/// Messages that may wait to be cancelled at the message centre.
const CALLS_WAITING_MAX: usize = 4096;
/// How often receipts that wait for their message look for it.
const LOOK: Duration = Duration::from_millis(20);
/// How long a receipt waits at least: its message's acceptance may be on its way through the log.
const HOLD_MIN: Duration = Duration::from_secs(2);
/// How often the status board is renewed while nothing changes state.
const BOARD: Duration = Duration::from_millis(200);

/// What a link is asked to do.
pub(super) enum ToLink {
    /// Send this message.
    Send(Arc<Message>),
    /// The report on this message is recorded, or needs no recording.
    Recorded(u64),
    /// Have the message centre cancel this message, and tell whether it has.
    CallBack { message: Arc<Message>, done: oneshot::Sender<bool> },
    /// Send nothing more, settle what is under way until then, unbind and end.
    Stop(MonoTime),
}

/// What comes back from the log.
enum Logged {
    /// The report of a part, or a message from a phone.
    Part {
        id: u64,
        result: Result<Vec<Outcome>, ProposeError>,
    },
    Message {
        asked: Asked,
        result: Result<Vec<Outcome>, ProposeError>,
    },
}

/// Whom to answer.
struct Asked {
    bind: usize,
    session: u64,
    ticket: Ticket,
}

/// A receipt that is not acknowledged yet.
struct Held {
    asked: Asked,
    report: Report,
    state: MessageState,
    came: MonoTime,
    /// Since when nothing that was sent before it is unanswered.
    clear: Option<MonoTime>,
}

struct BindHandle {
    mode: BindMode,
    commands: mpsc::UnboundedSender<ToBind>,
    status: BindStatus,
    up: bool,
}

pub(super) struct LinkTask {
    shared: Arc<LinkShared>,
    link: Arc<Link>,
    core: Core,
    binds: BTreeMap<usize, BindHandle>,
    events: mpsc::UnboundedReceiver<(usize, BindEvent)>,
    asked: mpsc::UnboundedReceiver<ToLink>,
    logged: mpsc::UnboundedReceiver<Logged>,
    to_logged: mpsc::UnboundedSender<Logged>,
    /// Receipts whose message is not known yet.
    held: VecDeque<Held>,
    /// Messages whose report is being recorded: the receipt to acknowledge then, and others that wait behind it.
    recording: HashMap<u64, VecDeque<Held>>,
    /// What the engine was last told: the most that may be with the link, and how long it is held back.
    told: (usize, Option<MonoTime>),
    /// cancel_sm that wait for their answers.
    calls: Calls,
    /// Messages that are to be cancelled once there is room for more.
    to_call: VecDeque<(Arc<Message>, oneshot::Sender<bool>)>,
    row: LinkBoardRow,
    board_at: MonoTime,
    look_at: MonoTime,
    stop: Option<MonoTime>,
}

impl LinkTask {
    /// A link with its binds, which begin to connect at once.
    pub(super) fn new(shared: Arc<LinkShared>, link: Arc<Link>, asked: mpsc::UnboundedReceiver<ToLink>) -> Self {
        let (to_events, events) = mpsc::unbounded_channel();
        let (to_logged, logged) = mpsc::unbounded_channel();
        let now = SystemClock.mono();
        let mut binds = BTreeMap::new();
        let modes = modes(&link);
        for (index, mode) in (0..link.binds.max(1)).flat_map(|_| modes.iter().copied()).enumerate() {
            let (commands, received) = mpsc::unbounded_channel();
            let task = BindTask {
                index,
                mode,
                link: link.clone(),
                leadership: shared.leadership.clone(),
                events: to_events.clone(),
                commands: received,
                session: 0,
                bound_at: None,
            };
            tokio::spawn(task.run());
            let status = BindStatus { mode: mode_name(mode), ..BindStatus::default() };
            binds.insert(index, BindHandle { mode, commands, status, up: false });
        }
        Self {
            core: Core::new(link.clone(), now),
            row: LinkBoardRow::new(&link.name),
            shared,
            link,
            binds,
            events,
            asked,
            logged,
            to_logged,
            held: VecDeque::new(),
            recording: HashMap::new(),
            told: (0, None),
            calls: Calls::default(),
            to_call: VecDeque::new(),
            board_at: now,
            look_at: now,
            stop: None,
        }
    }

    /// Runs until it is stopped and its binds have ended.
    pub(super) async fn run(mut self) {
        self.show(true);
        while !self.binds.is_empty() {
            let now = SystemClock.mono();
            let deadline = self.deadline(now);
            tokio::select! {
                Some((bind, event)) = self.events.recv() => {
                    self.take_event(bind, event);
                    while let Ok((bind, event)) = self.events.try_recv() {
                        self.take_event(bind, event);
                    }
                }
                asked = self.asked.recv() => {
                    // Whoever owned the link is gone without a word: there is nothing to settle for.
                    self.take_asked(asked.unwrap_or(ToLink::Stop(MonoTime::ZERO)));
                    while let Ok(asked) = self.asked.try_recv() {
                        self.take_asked(asked);
                    }
                }
                Some(logged) = self.logged.recv() => self.take_logged(logged),
                () = tokio::time::sleep(SystemClock.until(deadline)) => {}
            }
            self.turn();
        }
        self.shared.tell(LinkEvent::Down { link: self.link.name.clone() });
        self.shared.metrics.links.remove(&self.link.name);
    }

    fn deadline(&self, now: MonoTime) -> MonoTime {
        let look = if self.held.is_empty() { MonoTime::MAX } else { self.look_at };
        // Without the lease nothing is sent, whatever is due.
        let core = self.core.next_deadline(now).filter(|_| self.shared.leadership.valid_now());
        let core = core.unwrap_or(MonoTime::MAX);
        let stop = self.stop.map_or(MonoTime::MAX, |stop| stop.min(now + LOOK));
        look.min(core).min(stop).min(now + BOARD)
    }

    fn turn(&mut self) {
        let now = SystemClock.mono();
        if self.shared.leadership.valid_now() {
            self.core.pump(now, SystemClock.wall().as_millis());
        }
        while let Some(effect) = self.core.poll_effect() {
            match effect {
                Effect::Send { bind, token, submit } => {
                    let body = Box::new(Body::SubmitSm(*submit));
                    let sent = self.binds.get(&bind).map(|bind| bind.commands.send(ToBind::Send { token, body }));
                    if !matches!(sent, Some(Ok(()))) {
                        self.core.lost(token);
                    }
                }
                Effect::Outcome { id, outcome } => {
                    let result = outcome.into_result(&self.link);
                    self.shared.tell(LinkEvent::Outcome { link: self.link.name.clone(), id, result });
                }
            }
        }
        self.look_again(now);
        self.tell_capacity(now);
        self.go_on_stopping(now);
        self.show(now >= self.board_at);
    }

    /// Tells the engine how much the link takes, when that has changed.
    fn tell_capacity(&mut self, now: MonoTime) {
        let up = self.core.is_up() && self.stop.is_none();
        let window = if up { self.core.window_total().max(1) } else { 0 };
        let paused = self.core.pace().held_until(now);
        let link = || self.link.name.clone();
        if window != self.told.0 {
            self.shared.tell(match window {
                0 => LinkEvent::Down { link: link() },
                window => LinkEvent::Up { link: link(), window, rate_per_s: self.link.rate_per_s },
            });
        }
        if up && paused.is_some() && paused != self.told.1 {
            let wait = paused.map_or(Duration::ZERO, |until| SystemClock.until(until));
            let until_ms = SystemClock.wall().saturating_add(wait).as_millis();
            self.shared.tell(LinkEvent::Paused { link: link(), until_ms });
        }
        self.told = (window, paused);
    }

    fn take_asked(&mut self, asked: ToLink) {
        match asked {
            ToLink::Send(message) => {
                let now_ms = SystemClock.wall().as_millis();
                let destination = (self.shared.table)().towards(&self.link.name, &message, now_ms);
                self.core.offer(SystemClock.mono(), now_ms, message, &destination);
            }
            ToLink::Recorded(id) => self.recorded(id),
            ToLink::CallBack { message, done } => self.call_back(message, done),
            ToLink::Stop(deadline) => {
                self.stop = Some(self.stop.map_or(deadline, |stop| stop.min(deadline)));
                self.core.pause();
            }
        }
    }

    fn call_back(&mut self, message: Arc<Message>, done: oneshot::Sender<bool>) {
        if self.to_call.len() < CALLS_WAITING_MAX {
            self.to_call.push_back((message, done));
            self.call_next();
        } else {
            // Whoever asked may have stopped waiting.
            let _ = done.send(false);
        }
    }

    /// Asks the message centre to cancel all parts of messages that it has not reported on, as many as there is room for.
    fn call_next(&mut self) {
        while let Some((message, done)) = self.to_call.pop_front() {
            let now_ms = SystemClock.wall().as_millis();
            let destination = (self.shared.table)().towards(&self.link.name, &message, now_ms);
            let cancels = outbound::cancel_sms(&message, &destination, &self.link).unwrap_or_default();
            let bind = self.binds.values().find(|bind| bind.up && bind.mode.can_submit());
            let may_ask = !cancels.is_empty() && self.stop.is_none() && self.shared.leadership.valid_now();
            let Some(bind) = bind.filter(|_| may_ask) else {
                let _ = done.send(false);
                continue;
            };
            if !self.calls.has_room(cancels.len()) {
                self.to_call.push_front((message, done));
                return;
            }
            let tokens = self.calls.begin(cancels.len(), done);
            for (token, cancel) in tokens.zip(cancels) {
                let body = Box::new(Body::CancelSm(cancel));
                if bind.commands.send(ToBind::Send { token, body }).is_err() {
                    self.calls.answered(token, false);
                }
            }
        }
    }

    fn called(&mut self, token: u64, granted: bool) {
        self.calls.answered(token, granted);
        self.call_next();
    }

    fn take_event(&mut self, index: usize, event: BindEvent) {
        let now = SystemClock.mono();
        let Some(bind) = self.binds.get_mut(&index) else { return };
        match event {
            BindEvent::Connecting { address } => bind.status.connecting(address),
            BindEvent::Bound { version } => self.bound(index, version),
            BindEvent::Answered { token, status, .. } if is_call(token) => {
                self.called(token, status == CommandStatus::ESME_ROK);
            }
            BindEvent::Lost { token } if is_call(token) => self.called(token, false),
            BindEvent::Answered { token, status, message_id } => self.core.answered(now, token, status, message_id),
            BindEvent::Lost { token } => self.core.lost(token),
            BindEvent::Request { session, ticket, body } => {
                self.request(Asked { bind: index, session, ticket }, *body);
            }
            BindEvent::Alert { address } => {
                let number = (self.shared.table)().number(&address);
                self.shared.tell(LinkEvent::Reachable { number });
            }
            BindEvent::Down { reason } => {
                bind.up = false;
                bind.status.fail(reason);
                self.unbound(index);
            }
            BindEvent::Ended => {
                self.unbound(index);
                self.binds.remove(&index);
            }
        }
        self.board_at = MonoTime::ZERO;
    }

    fn bound(&mut self, index: usize, version: InterfaceVersion) {
        let Some(bind) = self.binds.get_mut(&index) else { return };
        bind.up = true;
        bind.status.bound();
        if bind.mode.can_submit() {
            self.core.bound(index, version);
        }
    }

    /// Receipts of a session that is gone come again on the next one.
    fn unbound(&mut self, index: usize) {
        self.core.unbound(index);
        self.held.retain(|held| held.asked.bind != index);
    }

    fn request(&mut self, asked: Asked, body: Body) {
        match Incoming::of(body) {
            Some(Incoming::Report(report)) => {
                self.row.receipts += 1;
                match report.final_state() {
                    Some(state) => self.report(Held { asked, report, state, came: SystemClock.mono(), clear: None }),
                    None => self.answer(asked, None),
                }
            }
            Some(Incoming::Notification) => self.answer(asked, None),
            Some(Incoming::Message(deliver)) => self.message(asked, &deliver),
            Some(Incoming::Unusable) => self.answer(asked, Some(RefusalStatus::ESME_RX_P_APPN)),
            None => self.answer(asked, Some(RefusalStatus::ESME_RINVCMDID)),
        }
    }

    /// A message from a phone: acknowledged when it is committed.
    fn message(&mut self, asked: Asked, deliver: &smsc_proto::pdu::DeliverSm) {
        let validity_s = self.shared.store.read(|machine| Ok(machine.settings().validity_default_s));
        let now_ms = SystemClock.wall().as_millis();
        let made = inbound::submission(
            &(self.shared.table)(),
            self.link.default_alphabet(),
            deliver,
            now_ms,
            validity_s.unwrap_or(0),
        );
        match made {
            Ok(submission) => {
                self.row.mo += 1;
                let submit = Command { op: Some(Op::Submit(Submit { submission: Some(submission) })) };
                let logged = self.to_logged.clone();
                // A link that has ended answers nobody.
                let done = move |result| drop(logged.send(Logged::Message { asked, result }));
                self.shared.store.propose_group(vec![submit], Box::new(done));
            }
            Err(status) => {
                tracing::debug!(link = self.link.name, to = ?deliver.destination_addr, %status, "message refused");
                self.answer(asked, Some(status));
            }
        }
    }

    fn take_logged(&mut self, logged: Logged) {
        match logged {
            Logged::Message { asked, result } => match result.as_deref() {
                Ok([Outcome::Stored(_)]) => self.answer(asked, None),
                // Nothing was proposed: the message centre keeps it.
                Err(ProposeError::Overloaded) => self.answer(asked, Some(RefusalStatus::ESME_RX_T_APPN)),
                Ok(_) => self.answer(asked, Some(RefusalStatus::ESME_RX_T_APPN)),
                // It may be stored or not: no answer, and the session ends with the term.
                Err(_) => {}
            },
            Logged::Part { id, result: Ok(outcomes) } => {
                self.recorded(id);
                // Two links at work, of the configuration before and after, may each have taken a part for one of several
                // that are missing.
                if let Some(Outcome::Waiting(message)) = outcomes.into_iter().next() {
                    self.report_whole(Arc::new(*message));
                }
            }
            Logged::Part { result: Err(_), .. } => {}
        }
    }

    /// The report that was being recorded is: acknowledge it, and go on with those behind.
    fn recorded(&mut self, id: u64) {
        let Some(mut waiting) = self.recording.remove(&id) else { return };
        if let Some(done) = waiting.pop_front() {
            self.answer(done.asked, None);
        }
        for held in waiting {
            self.report(held);
        }
    }

    /// A receipt: finds its message and has it recorded, or is held.
    fn report(&mut self, mut held: Held) {
        match self.find(&held.report) {
            Some((message, part)) => self.record(held, message, part),
            None if self.may_still_match(&mut held) => self.held.push_back(held),
            None => {
                self.row.receipts_unmatched += 1;
                tracing::debug!(link = self.link.name, ids = ?held.report.message_ids, "a receipt for no message of ours");
                self.answer(held.asked, None);
            }
        }
    }

    /// Whether the message that a receipt is for may yet become known: one sent before it is unanswered, or an answer
    /// is on its way through the log.
    fn may_still_match(&self, held: &mut Held) -> bool {
        let now = SystemClock.mono();
        if self.core.has_sent_before(held.came) {
            return held.came + seconds(self.link.response_s) > now;
        }
        *held.clear.get_or_insert(now) + HOLD_MIN > now
    }

    fn look_again(&mut self, now: MonoTime) {
        if self.look_at > now {
            return;
        }
        for held in std::mem::take(&mut self.held) {
            self.report(held);
        }
        // The more there are, the less often: each look asks the store.
        self.look_at = now + LOOK * (1 + u32::try_from(self.held.len() / 50).unwrap_or(u32::MAX).min(50));
    }

    /// The message that a report is for, and which part of it. Where its ids may mean several, the one whose number fits
    /// goes before one that is only spelled alike: 10 in a response may be the 16 of a receipt, and there may be a 10.
    fn find(&self, report: &Report) -> Option<(Arc<Message>, u32)> {
        let mut alike = None;
        for message_id in &report.message_ids {
            for candidate in candidates(message_id, self.link.response_ids(), self.link.receipt_ids()) {
                let found = self.shared.store.read(|machine| machine.link_message(&self.link.name, &candidate.key));
                // A failing disk stops the node.
                let Some((message, part)) = found.ok().flatten() else { continue };
                let fits = message.submission.as_ref().is_some_and(|content| {
                    let digits = content.destination.as_ref().map_or("", |to| to.digits.as_str());
                    same_number(digits, &report.source) || same_number(&content.queue_key, &report.source)
                });
                if fits {
                    return Some((message, part));
                }
                if !candidate.guessed {
                    alike.get_or_insert((message, part));
                }
            }
        }
        alike
    }

    fn record(&mut self, held: Held, message: Arc<Message>, part: u32) {
        let id = message.id;
        if let Some(waiting) = self.recording.get_mut(&id) {
            return waiting.push_back(held);
        }
        let Some(handed) = &message.handed else { return self.answer(held.asked, None) };
        let (state, error) = (held.state, held.report.error);
        let part = part as usize;
        let mut others = handed.parts.iter().enumerate().map(|(index, other)| (index, other.state(), other.error));
        let missing = others.clone().any(|(index, other, _)| index != part && other == MessageState::Scheduled);
        if handed.parts.get(part).is_some_and(|part| part.state() != MessageState::Scheduled) {
            // The same receipt again.
            return self.answer(held.asked, None);
        }
        self.recording.insert(id, VecDeque::from([held]));
        if missing {
            let done = LinkPartDone { id, part: part as u32, state: state as i32, error };
            let logged = self.to_logged.clone();
            // A link that has ended answers nobody.
            let done_with = move |result| drop(logged.send(Logged::Part { id, result }));
            let command = Command { op: Some(Op::LinkPartDone(done)) };
            return self.shared.store.propose_group(vec![command], Box::new(done_with));
        }
        let failed = others.find(|(index, other, _)| *index != part && !has_arrived(*other));
        let (state, error) = match failed {
            Some((_, other, error)) if has_arrived(state) => (other, error),
            _ => (state, error),
        };
        let link = self.link.name.clone();
        self.shared.tell(LinkEvent::Report(Reported { link, message, state, error }));
    }

    /// A message all of whose parts have been reported on is at its end.
    fn report_whole(&self, message: Arc<Message>) {
        let Some(handed) = &message.handed else { return };
        if handed.parts.is_empty() || handed.parts.iter().any(|part| part.state() == MessageState::Scheduled) {
            return;
        }
        let failed = handed.parts.iter().find(|part| !has_arrived(part.state()));
        let (state, error) =
            failed.or(handed.parts.first()).map_or_else(Default::default, |part| (part.state(), part.error));
        let link = self.link.name.clone();
        self.shared.tell(LinkEvent::Report(Reported { link, message, state, error }));
    }

    fn answer(&self, asked: Asked, refusal: Option<RefusalStatus>) {
        let Asked { bind, session, ticket } = asked;
        if let Some(bind) = self.binds.get(&bind) {
            // A bind that has ended answers nothing.
            let _ = bind.commands.send(ToBind::Answer { session, ticket, refusal });
        }
    }

    /// On the way out: unbinds once nothing is under way.
    fn go_on_stopping(&mut self, now: MonoTime) {
        let Some(deadline) = self.stop else { return };
        let settled = self.core.in_flight() == 0 && self.recording.is_empty();
        for bind in self.binds.values() {
            // It may have ended already.
            let _ = match (deadline <= now, settled) {
                (true, _) => bind.commands.send(ToBind::Close),
                (false, true) => bind.commands.send(ToBind::Unbind),
                (false, false) => Ok(()),
            };
        }
    }

    fn show(&mut self, due: bool) {
        if !due {
            return;
        }
        let now = SystemClock.mono();
        self.board_at = now + BOARD;
        let row = &mut self.row;
        row.binds = self.binds.values().map(|bind| bind.status.clone()).collect();
        row.in_flight = self.core.in_flight();
        row.receipts_held = self.held.len();
        row.counts = self.core.counts();
        row.rate_per_s = self.core.pace().rate();
        row.throttled_until_ms = self
            .core
            .pace()
            .held_until(now)
            .map_or(0, |until| SystemClock.wall().saturating_add(SystemClock.until(until)).as_millis());
        self.shared.metrics.links.put(row.clone());
    }
}

/// A message arrived when all of its segments did.
fn has_arrived(state: MessageState) -> bool {
    matches!(state, MessageState::Delivered | MessageState::Accepted)
}

fn modes(link: &Link) -> &'static [BindMode] {
    match link.mode() {
        Mode::Transceiver => &[BindMode::Transceiver],
        Mode::Pair => &[BindMode::Transmitter, BindMode::Receiver],
        Mode::Transmitter => &[BindMode::Transmitter],
        Mode::Receiver => &[BindMode::Receiver],
    }
}

fn mode_name(mode: BindMode) -> &'static str {
    match mode {
        BindMode::Transmitter => "transmitter",
        BindMode::Receiver => "receiver",
        BindMode::Transceiver => "transceiver",
    }
}
