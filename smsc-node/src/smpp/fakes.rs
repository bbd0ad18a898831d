//! A store, a router and a deliverer for tests.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use smsc_proto::status::RefusalStatus;
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::{
    Account, Address, Command, FinalRecord, Finish, HandedOver, Message, MessageKind, MessageState, QueueKind,
    SessionRecord, Settings, Submission, command::Op,
};
use smsc_raft::outcome::Outcome;
use smsc_raft::store::ProposeError;

use super::account::hash_password;
use super::ports::{
    Between, Centre, DeliverResult, Directory, Done, Found, Receivers, Routed, Routes, SessionHandle, Waiting,
};
use crate::delivery::route::Query;

/// Accounts esme1 (1000), esme2 (2000), sender and off, with passwords secret1 but for esme2; numbers that begin with
/// 1555 are handsets.
pub(super) fn directory(change: impl Fn(&mut Account)) -> Directory {
    let account = |system_id: &str, password: &str, code: &str| {
        let mut account = Account {
            system_id: system_id.to_owned(),
            password_hash: hash_password(password.as_bytes()).into(),
            may_transmit: true,
            may_receive: true,
            short_codes: vec![code.to_owned()],
            ..Account::default()
        };
        change(&mut account);
        (system_id.to_owned(), Arc::new(account))
    };
    let accounts = [
        account("esme1", "secret1", "1000"),
        account("esme2", "secret2", "2000"),
        account("sender", "secret1", "3000"),
        account("off", "secret1", "4000"),
    ];
    Directory {
        accounts: HashMap::from(accounts),
        lists: HashMap::new(),
        routes: Box::new(FakeRoutes),
        settings: Settings::default(),
    }
}

struct FakeRoutes;

impl Routes for FakeRoutes {
    fn route(&self, query: &Query<'_>) -> Result<Routed, RefusalStatus> {
        let digits = query.destination.digits.trim_start_matches('+');
        if digits.starts_with("1555") {
            Ok(Routed { kind: QueueKind::Number, key: digits.to_owned(), link: "handset".to_owned() })
        } else {
            Err(RefusalStatus::ESME_RINVDSTADR)
        }
    }

    fn deletion_receipt(&self, message: &Message, _at_ms: u64, _validity_s: u64) -> Option<Submission> {
        Some(Submission { kind: MessageKind::Receipt as i32, receipt_for: message.id, ..Submission::default() })
    }
}

/// What the fake store does with the next groups.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mode {
    Apply,
    Hold,
    Fail(ProposeError),
}

pub(super) struct FakeCentre {
    pub directory: Mutex<Arc<Directory>>,
    pub load_percent: AtomicU8,
    pub hold_back_ms: AtomicU64,
    /// The account that has messages waiting.
    pub waiting_for: Mutex<Option<String>>,
    state: Mutex<FakeState>,
}

struct FakeState {
    mode: Mode,
    held: Vec<(Vec<Command>, Done)>,
    groups: Vec<usize>,
    messages: Vec<Arc<Message>>,
    finals: HashMap<u64, FinalRecord>,
    /// How messages in transaction mode end.
    ends: HashMap<u64, FinalRecord>,
    sessions: Vec<SessionRecord>,
    next_session: u64,
}

impl FakeCentre {
    pub(super) fn new(directory: Directory) -> Arc<FakeCentre> {
        Arc::new(FakeCentre {
            directory: Mutex::new(Arc::new(directory)),
            load_percent: AtomicU8::new(0),
            hold_back_ms: AtomicU64::new(0),
            waiting_for: Mutex::new(None),
            state: Mutex::new(FakeState {
                mode: Mode::Apply,
                held: vec![],
                groups: vec![],
                messages: vec![],
                finals: HashMap::new(),
                ends: HashMap::new(),
                sessions: vec![],
                next_session: 1,
            }),
        })
    }

    /// Sets what follows; leaving [`Mode::Hold`] applies what was held.
    pub(super) fn set_mode(&self, mode: Mode) {
        let held = {
            let mut state = self.state.lock().unwrap();
            state.mode = mode;
            std::mem::take(&mut state.held)
        };
        for (commands, done) in held {
            self.propose_group(commands, done);
        }
    }

    pub(super) fn held(&self) -> usize {
        self.state.lock().unwrap().held.len()
    }

    /// How many commands each group of submissions had.
    pub(super) fn groups(&self) -> Vec<usize> {
        self.state.lock().unwrap().groups.clone()
    }

    /// Another message centre has accepted this message; that of the link `obliging` cancels what it is asked to.
    pub(super) fn hand_over(&self, id: u64, link: &str) {
        let handed = HandedOver { link: link.to_owned(), ..HandedOver::default() };
        let mut state = self.state.lock().unwrap();
        let message = state.messages.iter_mut().find(|message| message.id == id).expect("stored");
        Arc::make_mut(message).handed = Some(handed);
    }

    pub(super) fn messages(&self) -> Vec<Arc<Message>> {
        self.state.lock().unwrap().messages.clone()
    }

    /// What a message in transaction mode will have come to.
    pub(super) fn set_end(&self, record: FinalRecord) {
        self.state.lock().unwrap().ends.insert(record.id, record);
    }

    pub(super) fn sessions(&self) -> Vec<SessionRecord> {
        self.state.lock().unwrap().sessions.clone()
    }
}

impl FakeState {
    /// A message that another message centre has.
    fn elsewhere(&self, id: u64) -> Option<Arc<Message>> {
        let waits = |message: &&Arc<Message>| message.id == id && !self.finals.contains_key(&id);
        self.messages.iter().find(waits).filter(|message| message.handed.is_some()).cloned()
    }

    fn apply(&mut self, op: Op) -> Outcome {
        match op {
            Op::Submit(submit) => {
                let id = self.messages.len() as u64 + 1;
                self.messages.push(Arc::new(Message { id, submission: submit.submission, ..Message::default() }));
                Outcome::Stored(id)
            }
            Op::Finish(finish) if !finish.account.is_empty() && self.elsewhere(finish.id).is_some() => {
                let message = self.elsewhere(finish.id).expect("just seen");
                Outcome::Waiting(Box::new((*message).clone()))
            }
            Op::Finish(finish) => {
                let ended = self.messages.iter().find(|message| message.id == finish.id);
                let made = ended.and_then(|message| message.submission.clone()).unwrap_or_default();
                let record = FinalRecord {
                    id: finish.id,
                    state: finish.state,
                    account: finish.account,
                    source: made.source,
                    multi_index: made.multi_index,
                    multi_count: made.multi_count,
                    ..FinalRecord::default()
                };
                match self.finals.insert(finish.id, record.clone()) {
                    None => Outcome::Finished { record: Arc::new(record) },
                    Some(first) => Outcome::AlreadyFinal(Box::new(first)),
                }
            }
            Op::Replace(replace) => Outcome::Stored(replace.id),
            Op::SessionOpen(open) => {
                let record = open.session.expect("a record to open");
                let live = self.sessions.iter().filter(|session| session.system_id == record.system_id).count();
                if live >= open.binds_max as usize {
                    return Outcome::TooManyBinds;
                }
                let id = self.next_session;
                self.next_session += 1;
                self.sessions.push(SessionRecord { id, ..record });
                Outcome::SessionOpened(id)
            }
            Op::SessionClose(close) => {
                self.sessions.retain(|session| session.id != close.id);
                Outcome::Done
            }
            other => panic!("the SMPP server does not propose {other:?}"),
        }
    }
}

impl Centre for FakeCentre {
    fn propose_group(&self, commands: Vec<Command>, done: Done) {
        let mut state = self.state.lock().unwrap();
        match state.mode.clone() {
            Mode::Hold => state.held.push((commands, done)),
            Mode::Fail(error) => {
                drop(state);
                done(Err(error));
            }
            Mode::Apply => {
                let submissions = commands.iter().filter(|command| matches!(command.op, Some(Op::Submit(_)))).count();
                if submissions > 0 {
                    state.groups.push(submissions);
                }
                let ops = commands.into_iter().map(|command| command.op.expect("every command has an operation"));
                let outcomes = ops.map(|op| state.apply(op)).collect();
                drop(state);
                done(Ok(outcomes));
            }
        }
    }

    fn find(&self, id: u64) -> io::Result<Found> {
        let state = self.state.lock().unwrap();
        if let Some(record) = state.finals.get(&id) {
            return Ok(Found::Final(Box::new(record.clone())));
        }
        let message = state.messages.iter().find(|message| message.id == id);
        Ok(message.map_or(Found::Unknown, |message| Found::Waiting(message.clone())))
    }

    fn addressed(&self, account: &str, between: &Between, from: u64, limit: usize) -> io::Result<Vec<Arc<Message>>> {
        let state = self.state.lock().unwrap();
        let is = |address: &Option<Address>, digits: &str| address.as_ref().is_some_and(|made| made.digits == digits);
        let wanted = |message: &&Arc<Message>| {
            let made = message.submission.as_ref().expect("stored with it");
            message.id >= from
                && !state.finals.contains_key(&message.id)
                && made.account == account
                && is(&made.source, &between.source)
                && is(&made.destination, &between.destination)
                && (between.service_type.is_empty() || between.service_type == made.service_type)
        };
        Ok(state.messages.iter().filter(wanted).take(limit).cloned().collect())
    }

    fn outcome(&self, id: u64, _within: Duration) -> Pin<Box<dyn Future<Output = io::Result<Found>> + Send>> {
        let ended = self.state.lock().unwrap().ends.get(&id).cloned();
        let found = ended.map_or_else(|| self.find(id), |record| Ok(Found::Final(Box::new(record))));
        Box::pin(std::future::ready(found))
    }

    fn call_back(&self, messages: Vec<Arc<Message>>) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let mut state = self.state.lock().unwrap();
        let mut any = false;
        for message in messages.iter().filter(|message| message.handed.as_ref().is_some_and(|by| by.link == "obliging"))
        {
            let finish = Finish { id: message.id, state: MessageState::Deleted as i32, ..Default::default() };
            any |= matches!(state.apply(Op::Finish(finish)), Outcome::Finished { .. });
        }
        Box::pin(std::future::ready(any))
    }

    fn waiting(&self, account: &str, queue: &QueueKey) -> io::Result<Waiting> {
        let state = self.state.lock().unwrap();
        let submissions = || state.messages.iter().filter_map(|message| message.submission.as_ref());
        Ok(Waiting {
            of_account: submissions().filter(|submission| submission.account == account).count() as u64,
            in_queue: submissions().filter(|submission| QueueKey::of(submission) == *queue).count() as u64,
        })
    }

    fn directory(&self) -> Arc<Directory> {
        self.directory.lock().unwrap().clone()
    }

    fn load_percent(&self) -> u8 {
        self.load_percent.load(Ordering::Relaxed)
    }

    fn hold_back(&self) -> Duration {
        Duration::from_millis(self.hold_back_ms.load(Ordering::Relaxed))
    }

    fn has_messages(&self, account: &str) -> io::Result<bool> {
        Ok(self.waiting_for.lock().unwrap().as_deref() == Some(account))
    }
}

#[derive(Default)]
pub(super) struct FakeReceivers {
    pub bound: Mutex<Vec<SessionHandle>>,
    pub unbound: Mutex<Vec<u64>>,
    pub delivered: Mutex<Vec<(u64, DeliverResult)>>,
}

impl Receivers for FakeReceivers {
    fn bound(&self, session: SessionHandle) {
        self.bound.lock().unwrap().push(session);
    }

    fn unbound(&self, session_id: u64) {
        self.unbound.lock().unwrap().push(session_id);
    }

    fn delivered(&self, _session_id: u64, message_id: u64, result: DeliverResult) {
        self.delivered.lock().unwrap().push((message_id, result));
    }
}
