//! The message centre's end of a connection: the session, and what the connection task of the product does with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use smsc_node::delivery::engine::LinkResult;
use smsc_node::delivery::receipt;
use smsc_node::delivery::route::{Query, RouteTable};
use smsc_node::smpp::deliver;
use smsc_node::smpp::ports::{DeliverResult, Directory, Routed, Routes};
use smsc_node::smpp::submit::{self, Submitter};
use smsc_proto::pdu::{Body, SubmitSm, SubmitSmResp};
use smsc_proto::session::{Event, Session, SessionConfig, Side, State, Ticket};
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::time::{MonoTime, WallTime};
use smsc_proto::types::{BindMode, MessageId};
use smsc_raft::machine::Machine;
use smsc_raft::model::{self, Account, Command, Message, MessageState, SessionClose, SessionOpen, Submission, Submit};
use smsc_raft::model::{SessionRecord, command::Op};
use smsc_raft::outcome::Outcome;

use crate::oracle::tag;

/// The replicated configuration, made ready to be asked.
pub fn directory(machine: &Machine) -> (Arc<RouteTable>, Directory) {
    let table = Arc::new(RouteTable::build(machine.accounts(), machine.routes(), machine.handsets()));
    let accounts = machine.accounts().map(|account| (account.system_id.clone(), Arc::new(account.clone())));
    let accounts: HashMap<_, _> = accounts.collect();
    let lists = machine.lists().map(|list| (list.name.clone(), Arc::new(list.clone()))).collect();
    let routes = Box::new(Table(table.clone()));
    let directory = Directory { accounts, lists, routes, settings: machine.settings() };
    (table, directory)
}

struct Table(Arc<RouteTable>);

impl Routes for Table {
    fn route(&self, query: &Query<'_>) -> Result<Routed, RefusalStatus> {
        self.0.route(query).map_err(|refusal| refusal.status())
    }

    fn deletion_receipt(&self, message: &Message, at_ms: u64, validity_s: u64) -> Option<Submission> {
        receipt::submission(message, MessageState::Deleted, at_ms, 0, self.0.receipt_terms("", validity_s))
    }
}

/// Who waits for the outcome of a command.
#[derive(Debug)]
pub enum Waiter {
    /// A bind.
    Bind { account: Arc<Account>, mode: BindMode },
    /// A submission.
    Submit { ticket: Ticket, tag: usize },
}

/// What the session has for the rest of the node.
#[derive(Debug)]
pub enum Report {
    /// To be put into the log.
    Propose(Box<Command>, Option<Waiter>),
    /// A receiver is bound.
    Bound { session_id: u64, account: String, window: usize },
    /// It takes no more.
    Unbound { session_id: u64 },
    /// What became of a message.
    Delivered { session_id: u64, id: u64, result: LinkResult },
    /// A submission was answered positively.
    Accepted { id: u64, tag: usize },
    /// The connection is to be closed.
    Closed,
}

/// Where and when a session is served.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The node.
    pub node: usize,
    /// The term.
    pub term: u64,
    /// What never jumps.
    pub mono: MonoTime,
    /// The node's wall clock.
    pub wall_ms: u64,
}

#[derive(Debug)]
struct Bound {
    session_id: u64,
    account: Arc<Account>,
    receives: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Server {
    session: Session,
    bound: Option<Bound>,
    ended: bool,
}

impl Server {
    /// A connection was accepted.
    pub fn new(now: MonoTime) -> Self {
        let config = SessionConfig {
            enquire_link: Some(Duration::from_millis(1_500)),
            response: Duration::from_secs(3),
            ..SessionConfig::default()
        };
        Self { session: Session::new(Side::MessageCentre, config, now), bound: None, ended: false }
    }

    /// What is to be written.
    pub fn output(&mut self) -> &mut BytesMut {
        self.session.output()
    }

    /// When it wants to be called next.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.session.poll_timeout()
    }

    /// Octets have come.
    pub fn octets(&mut self, now: MonoTime, octets: &[u8]) {
        self.session.handle_bytes(now, octets);
    }

    /// The connection has ended.
    pub fn disconnected(&mut self) {
        self.session.handle_disconnect();
    }

    /// Time has come for something.
    pub fn timeout(&mut self, now: MonoTime) {
        self.session.handle_timeout(now);
    }

    /// Acts on all events.
    pub fn settle(&mut self, served: Served, directory: &Directory, reports: &mut Vec<Report>) {
        if self.session.has_input() {
            self.session.handle_input(served.mono);
        }
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::BindRequested { mode, bind } => {
                    match directory.accounts.get(bind.system_id.as_str().unwrap_or("")) {
                        Some(account) => reports.push(open(served, account, mode)),
                        None => drop(self.session.bind_refuse(served.mono, RefusalStatus::ESME_RINVSYSID)),
                    }
                }
                Event::Request { ticket, body } => match body {
                    Body::SubmitSm(submit) => self.submit(ticket, &submit, served, directory, reports),
                    _ => self.session.refuse(ticket, RefusalStatus::ESME_RINVCMDID),
                },
                Event::Answered { token, answer } => {
                    let result = match answer.status {
                        CommandStatus::ESME_ROK => DeliverResult::Accepted,
                        status => DeliverResult::Refused(status),
                    };
                    self.delivered(token, result, reports);
                }
                Event::Lost { token } => self.delivered(token, DeliverResult::Lost, reports),
                Event::Unbinding => self.stop_receiving(reports),
                Event::Closed { .. } => {
                    self.stop_receiving(reports);
                    self.ended = true;
                    if let Some(bound) = self.bound.take() {
                        reports.push(Report::Propose(Box::new(close(bound.session_id)), None));
                    }
                    reports.push(Report::Closed);
                }
                Event::Bound { .. } | Event::BindRefused { .. } | Event::Outbind(_) | Event::Alert(_) => {}
            }
        }
    }

    fn submit(
        &mut self,
        ticket: Ticket,
        submit: &SubmitSm,
        served: Served,
        directory: &Directory,
        reports: &mut Vec<Report>,
    ) {
        let Some(bound) = &self.bound else { return self.session.refuse(ticket, RefusalStatus::ESME_RSYSERR) };
        let version = self.session.peer_version();
        let submitter = Submitter { account: &bound.account, version, session_id: bound.session_id };
        match submit::submission(submit, submitter, directory, WallTime::from_millis(served.wall_ms)) {
            Ok(submission) => {
                let tag = tag(&submission.short_message).unwrap_or(usize::MAX);
                let command = Command { op: Some(Op::Submit(Submit { submission: Some(submission) })) };
                reports.push(Report::Propose(Box::new(command), Some(Waiter::Submit { ticket, tag })));
            }
            Err(refusal) => self.session.refuse(ticket, refusal.status()),
        }
    }

    /// The outcome of what was proposed for this connection.
    pub fn outcome(&mut self, now: MonoTime, waiter: Waiter, outcome: &Outcome, reports: &mut Vec<Report>) {
        match (waiter, outcome) {
            (Waiter::Bind { account, mode }, Outcome::SessionOpened(id)) => self.bind(now, account, mode, *id, reports),
            // An end meanwhile is told by the session itself.
            (Waiter::Bind { .. }, _) => drop(self.session.bind_refuse(now, RefusalStatus::ESME_RALYBND)),
            (Waiter::Submit { ticket, tag }, Outcome::Stored(id)) => {
                reports.push(Report::Accepted { id: *id, tag });
                let message_id = Some(MessageId::new(id.to_string()).expect("a decimal number is short"));
                let body = Body::SubmitSmResp(SubmitSmResp { message_id, ..SubmitSmResp::default() });
                self.session.respond(ticket, CommandStatus::ESME_ROK, body);
            }
            (Waiter::Submit { ticket, .. }, _) => self.session.refuse(ticket, RefusalStatus::ESME_RSUBMITFAIL),
        }
    }

    fn bind(
        &mut self,
        now: MonoTime,
        account: Arc<Account>,
        mode: BindMode,
        session_id: u64,
        reports: &mut Vec<Report>,
    ) {
        let window = account.window.max(1) as usize;
        self.session.set_windows(window, window);
        let system_id = "centre".parse().expect("a short name");
        if self.session.bind_accept(now, system_id).is_err() {
            return reports.push(Report::Propose(Box::new(close(session_id)), None));
        }
        let receives = mode.can_receive();
        if receives {
            reports.push(Report::Bound { session_id, account: account.system_id.clone(), window });
        }
        self.bound = Some(Bound { session_id, account, receives });
    }

    /// Sends a message; what becomes of it is reported, at once if it cannot be sent.
    pub fn deliver(&mut self, now: MonoTime, message: &Message, reports: &mut Vec<Report>) {
        let receiver = self.bound.as_ref().filter(|bound| bound.receives);
        if let Some(alert) = deliver::alert(message) {
            let told = receiver.is_some()
                && alert.is_ok_and(|alert| self.session.notify(Body::AlertNotification(alert)).is_ok());
            let result = if told { DeliverResult::Accepted } else { DeliverResult::Lost };
            return self.delivered(message.id, result, reports);
        }
        let version = self.session.peer_version();
        let request = receiver.and_then(|bound| deliver::request(message, version, &bound.account).ok());
        let sent = matches!(self.session.state(), State::Bound(_))
            && request.is_some_and(|body| self.session.request(now, message.id, body).is_ok());
        if !sent {
            self.delivered(message.id, DeliverResult::Lost, reports);
        }
    }

    fn delivered(&self, id: u64, result: DeliverResult, reports: &mut Vec<Report>) {
        if let Some(bound) = &self.bound {
            reports.push(Report::Delivered { session_id: bound.session_id, id, result: result.into() });
        }
    }

    fn stop_receiving(&mut self, reports: &mut Vec<Report>) {
        if let Some(bound) = self.bound.as_mut().filter(|bound| bound.receives) {
            bound.receives = false;
            reports.push(Report::Unbound { session_id: bound.session_id });
        }
    }

    /// Its id in the registry, while it is bound.
    pub fn session_id(&self) -> Option<u64> {
        self.bound.as_ref().map(|bound| bound.session_id)
    }

    /// Whether it has ended.
    pub fn ended(&self) -> bool {
        self.ended
    }
}

fn open(served: Served, account: &Arc<Account>, mode: BindMode) -> Report {
    let registered = match mode {
        BindMode::Transmitter => model::BindMode::Transmitter,
        BindMode::Receiver => model::BindMode::Receiver,
        BindMode::Transceiver => model::BindMode::Transceiver,
    };
    let record = SessionRecord {
        system_id: account.system_id.clone(),
        mode: registered as i32,
        peer: "192.0.2.1:1000".to_owned(),
        node: served.node as u64,
        term: served.term,
        since_ms: served.wall_ms,
        ..SessionRecord::default()
    };
    let command = Op::SessionOpen(SessionOpen { session: Some(record), binds_max: account.binds_max });
    Report::Propose(Box::new(Command { op: Some(command) }), Some(Waiter::Bind { account: account.clone(), mode }))
}

/// Takes a bind out of the registry.
pub fn close(id: u64) -> Command {
    Command { op: Some(Op::SessionClose(SessionClose { id })) }
}
