//! One connection: select one event, apply it, write what the session says.
//!
//! A task owns the socket and its [`Session`]. Whatever one read brings is checked and proposed as one group; outcomes
//! come back through a channel and are written together. No answer is given for what has no outcome: if leadership is
//! lost while a submission is under way the connection ends, and the submission is unknown to the ESME.

mod replies;
mod requests;
mod rest;
mod transaction;
mod transport;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use smsc_proto::pdu::{Bind, Body};
use smsc_proto::session::{CloseReason, Event, RequestError, Session, SessionConfig, Side, State};
use smsc_proto::status::CommandStatus;
use smsc_proto::time::MonoTime;
use smsc_proto::types::BindMode;
use smsc_raft::model::{self, Account, Command, SessionClose, SessionOpen, SessionRecord, command::Op};
use smsc_raft::outcome::Outcome;
use tokio::io::Interest;
use tokio::sync::{mpsc, watch};

use self::replies::Reply;
use self::requests::Group;
use self::rest::{Rest, Working};
use self::transport::Received;
pub(super) use self::transport::Transport;
use super::account::{self, Origin};
use super::deliver;
use super::outbind::{Outbinds, Receiving};
use super::ports::{Centre, DeliverResult, Receivers, SessionHandle, ToSession};
use super::rate::{Bucket, Buckets};
use super::serves::Serves;
use super::status::BindRefusal;
use crate::clock::Clock;
use crate::config::SmppConfig;
use crate::ha::Keeper;
use crate::metrics::{BindKind, BindResult, Direction, Metrics, SubmitResult};

/// Octets read at once when a connection is busy.
const READ_BUSY: usize = 64 * 1024;
/// Octets of buffer that an idle connection is given.
const READ_IDLE: usize = 2 * 1024;
/// How long the last answers may take to be written once the session has ended.
const LINGER: Duration = Duration::from_secs(1);

/// What all connections of one term share.
pub(super) struct Shared {
    pub config: SmppConfig,
    /// This node and its term, for the session registry.
    pub node_id: u64,
    pub term: u64,
    pub centre: Arc<dyn Centre>,
    pub receivers: Arc<dyn Receivers>,
    pub buckets: Buckets,
    /// Whether those who connect once nothing is accepted any more go unanswered.
    pub newcomers_unanswered: AtomicBool,
    /// Whether sessions end because another node leads from now on. It knows by their term that they have, and the log
    /// has better things to carry to it.
    pub records_lapse: AtomicBool,
    /// Which connections still take requests in, or have some to answer.
    pub rest: Arc<Rest>,
    pub outbinds: Outbinds,
    pub clock: Arc<dyn Clock>,
    pub keeper: Option<Keeper>,
    pub metrics: Arc<Metrics>,
}

/// How far connections are on their way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// They need not stop.
    GoOn,
    /// They take nothing more and answer what they have taken: another node is about to serve. The sessions stay.
    Quiesce,
    /// They unbind once what was taken is answered, and close by then.
    Unbind(MonoTime),
}

/// A bind that is accepted.
struct Bound {
    account: Arc<Account>,
    session_id: u64,
    mode: BindMode,
    bucket: Arc<Bucket>,
    /// Messages for the ESME, while it receives.
    messages: Option<mpsc::Receiver<ToSession>>,
}

pub(super) struct Connection {
    shared: Arc<Shared>,
    transport: Transport,
    /// Who is connected: the ESME, or a proxy.
    peer: SocketAddr,
    local: SocketAddr,
    session: Session,
    bound: Option<Bound>,
    group: Group,
    /// Until when that is held back.
    held_until: Option<MonoTime>,
    /// What address_range of the bind said.
    serves: Serves,
    /// Keeps the account from being called by outbind while it receives here.
    receiving: Option<Receiving>,
    replies: mpsc::UnboundedReceiver<Reply>,
    to_replies: mpsc::UnboundedSender<Reply>,
    stop: Stop,
    /// Octets to make room for before the next read.
    read_size: usize,
    counted_received: u64,
    counted_sent: u64,
    counted_throttled: u64,
    /// While this connection takes requests in or has some to answer.
    working: Option<Working>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, transport: Transport, peer: SocketAddr) -> io::Result<Connection> {
        let config = &shared.config;
        let session_config = SessionConfig {
            window_incoming: config.window_default as usize,
            window_outgoing: config.window_default as usize,
            command_length_max: config.pdu_bytes_max,
            session_init: config.session_init_timer,
            enquire_link: nonzero(config.enquire_link_interval),
            inactivity: nonzero(config.inactivity_timer),
            response: config.response_timer,
            ..SessionConfig::default()
        };
        let (to_replies, replies) = mpsc::unbounded_channel();
        Ok(Connection {
            session: Session::new(Side::MessageCentre, session_config, shared.clock.mono()),
            local: transport.local_addr()?,
            shared,
            transport,
            peer,
            bound: None,
            group: Group::default(),
            held_until: None,
            serves: Serves::all(),
            receiving: None,
            replies,
            to_replies,
            stop: Stop::GoOn,
            working: None,
            read_size: READ_IDLE,
            counted_received: 0,
            counted_sent: 0,
            counted_throttled: 0,
        })
    }

    /// Invites the ESME that this connection was made to: it is to bind within the session_init time.
    ///
    /// # Errors
    /// Our own outbind does not fit on the wire.
    pub(super) fn invite(&mut self, outbind: smsc_proto::pdu::Outbind) -> Result<(), RequestError> {
        self.session.notify(Body::Outbind(outbind))
    }

    /// Runs until the session and the connection have ended.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<Stop>) {
        let reason = loop {
            if let Some(reason) = self.settle() {
                break reason;
            }
            if let Err(error) = self.write() {
                tracing::debug!(peer = %self.peer, %error, "writing failed");
                self.session.handle_disconnect();
                continue;
            }
            if self.session.has_input() && self.stop != Stop::Quiesce {
                let now = self.shared.clock.mono();
                self.session.handle_input(now);
                continue;
            }
            self.wait(&mut stop).await;
        };
        self.end(reason).await;
    }

    /// Waits for one thing to happen and applies it.
    async fn wait(&mut self, stop: &mut watch::Receiver<Stop>) {
        let wants_read = self.wants_read();
        let wants_write = !self.session.output().is_empty();
        let interest = self.transport.interest(wants_read, wants_write);
        let deadline = [self.session.poll_timeout(), self.stop_deadline(), self.held_until].into_iter().flatten().min();
        let until = deadline.map(|deadline| self.shared.clock.until(deadline));
        let takes_messages = self.takes_messages();
        let transport = &self.transport;
        let messages = self.bound.as_mut().and_then(|bound| bound.messages.as_mut());
        tokio::select! {
            ready = async { transport.ready(interest.unwrap_or(Interest::ERROR)).await }, if interest.is_some() => {
                match ready {
                    Ok(ready) if wants_read && (ready.is_readable() || ready.is_read_closed()) => self.read(),
                    Ok(_) => {}
                    Err(_) => self.session.handle_disconnect(),
                }
            }
            Some(reply) = self.replies.recv() => self.take_replies(reply),
            message = next_message(messages), if takes_messages => self.take_messages(message),
            () = tokio::time::sleep(until.unwrap_or_default()), if until.is_some() => self.take_timeout(),
            changed = stop.changed() => {
                let asked = *stop.borrow_and_update();
                // A server that is gone without a word has nobody left to settle for.
                self.begin_stop(if changed.is_ok() { asked } else { Stop::Unbind(MonoTime::ZERO) });
            }
        }
    }

    /// Whether to read: not while the session is full, and on the way out only when nothing of the ESME is open, so
    /// that no new submission is taken that could not be settled.
    fn wants_read(&self) -> bool {
        self.session.wants_input()
            && match self.stop {
                Stop::GoOn => true,
                Stop::Quiesce => false,
                Stop::Unbind(_) => self.session.incoming_open() == 0,
            }
    }

    fn stop_deadline(&self) -> Option<MonoTime> {
        match self.stop {
            Stop::Unbind(deadline) => Some(deadline),
            Stop::GoOn | Stop::Quiesce => None,
        }
    }

    fn takes_messages(&self) -> bool {
        let receives = self.bound.as_ref().is_some_and(|bound| bound.messages.is_some());
        receives && self.session.outgoing_room() > 0 && matches!(self.session.state(), State::Bound(_))
    }

    /// Reads what is there, up to a buffer full, and handles it.
    fn read(&mut self) {
        let input = self.session.input();
        input.reserve(self.read_size);
        match self.transport.read(input) {
            Ok(Received::End) => return self.session.handle_disconnect(),
            Ok(Received::Nothing) => return,
            Ok(Received::Octets(count)) => {
                self.shared.metrics.smpp_bytes.add(Direction::In, count as u64);
                self.read_size = if count >= self.read_size { READ_BUSY } else { self.read_size };
                if count < READ_IDLE {
                    self.read_size = READ_IDLE;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // Wrong TLS, or no header of the proxy: somebody has to look at the other side's configuration.
                tracing::info!(peer = %self.peer, %error, "connection refused");
                return self.session.handle_disconnect();
            }
            Err(error) => {
                tracing::debug!(peer = %self.peer, %error, "reading failed");
                return self.session.handle_disconnect();
            }
        }
        let now = self.shared.clock.mono();
        self.session.handle_input(now);
    }

    /// Writes what the socket takes now.
    fn write(&mut self) -> io::Result<()> {
        let count = self.transport.write(self.session.output())?;
        self.shared.metrics.smpp_bytes.add(Direction::Out, count as u64);
        Ok(())
    }

    /// Applies all events and proposes what they gave, until the session is quiet. Tells why it ended, if it did.
    fn settle(&mut self) -> Option<CloseReason> {
        let mut ended = None;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::BindRequested { mode, bind } => self.bind(mode, &bind),
                Event::Request { ticket, body } => self.request(ticket, body),
                Event::Answered { token, answer } => {
                    let result = match answer.status {
                        CommandStatus::ESME_ROK => DeliverResult::Accepted,
                        status => DeliverResult::Refused(status),
                    };
                    self.delivered(token, result);
                }
                Event::Lost { token } => self.delivered(token, DeliverResult::Lost),
                Event::Unbinding => self.stop_receiving(),
                Event::Closed { reason } => ended = Some(reason),
                // These come to the ESME's side alone.
                Event::Bound { .. } | Event::BindRefused { .. } | Event::Outbind(_) | Event::Alert(_) => {}
            }
        }
        self.propose_group(ended.is_some());
        self.count();
        if matches!(self.stop, Stop::Unbind(_)) && ended.is_none() {
            return self.go_on_stopping();
        }
        ended
    }

    fn count(&mut self) {
        let counts = self.session.counts();
        let metrics = &self.shared.metrics;
        metrics.smpp_pdus.add(Direction::In, counts.received - self.counted_received);
        metrics.smpp_pdus.add(Direction::Out, counts.sent - self.counted_sent);
        metrics.submits.add(SubmitResult::Throttled, counts.throttled - self.counted_throttled);
        self.counted_received = counts.received;
        self.counted_sent = counts.sent;
        self.counted_throttled = counts.throttled;
        let works = self.stop == Stop::GoOn || self.session.incoming_open() > 0;
        match works {
            true if self.working.is_none() => self.working = Some(self.shared.rest.begin()),
            true => {}
            false => self.working = None,
        }
    }

    /// Checks a bind and asks for its place in the session registry; it is answered when that is committed.
    fn bind(&mut self, mode: BindMode, bind: &Bind) {
        let directory = self.shared.centre.directory();
        let client = self.transport.client();
        let origin = Origin {
            address: client.unwrap_or(self.peer).ip(),
            tls: self.transport.is_tls(),
            certificate: self.transport.certificate(),
        };
        let admitted = account::authenticate(&directory, mode, bind, origin).and_then(|account| {
            let serves = Serves::of(&bind.address_range).map_err(|_| BindRefusal::AddressRange)?;
            Ok((account, serves))
        });
        let (account, serves) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let from = origin.address;
                tracing::info!(peer = %self.peer, %from, system_id = %bind.system_id, %mode, %refusal, "bind refused");
                return self.refuse_bind(refusal.status(), refusal.result());
            }
        };
        self.serves = serves;
        let shared = &self.shared;
        let binds_max = match account.binds_max {
            0 => shared.config.binds_max_default,
            binds_max => binds_max,
        };
        let record = SessionRecord {
            id: 0,
            system_id: account.system_id.clone(),
            mode: registry_mode(mode) as i32,
            peer: self.peer.to_string(),
            local: self.local.to_string(),
            interface_version: u32::from(bind.interface_version.0),
            node: shared.node_id,
            term: shared.term,
            since_ms: shared.clock.wall().as_millis(),
            system_type: String::from_utf8_lossy(bind.system_type.as_bytes()).into_owned(),
            client: client.map(|client| client.to_string()).unwrap_or_default(),
            tls: self.transport.is_tls(),
            address_range: String::from_utf8_lossy(bind.address_range.as_bytes()).into_owned(),
        };
        let open = Op::SessionOpen(SessionOpen { session: Some(record), binds_max });
        let (replies, centre) = (self.to_replies.clone(), shared.centre.clone());
        let done = move |result: Result<Vec<Outcome>, _>| {
            let outcome = result.map(|outcomes| outcomes.into_iter().next());
            let opened = match &outcome {
                Ok(Some(Outcome::SessionOpened(id))) => Some(*id),
                _ => None,
            };
            let told = replies.send(Reply::Bind { account, mode, outcome });
            if let (Err(_), Some(id)) = (told, opened) {
                // The connection ended meanwhile.
                close_session(centre.as_ref(), id);
            }
        };
        shared.centre.propose_group(vec![Command { op: Some(open) }], Box::new(done));
    }

    fn refuse_bind(&mut self, status: smsc_proto::status::RefusalStatus, result: BindResult) {
        self.shared.metrics.smpp_binds.inc(result);
        // If the session has ended meanwhile nobody waits for the answer.
        let _ = self.session.bind_refuse(self.shared.clock.mono(), status);
    }

    /// The bind is in the registry: answer it, and let the ESME receive.
    fn accept_bind(&mut self, account: Arc<Account>, mode: BindMode, session_id: u64) {
        let shared = self.shared.clone();
        let window = match account.window {
            0 => shared.config.window_default,
            window => window,
        } as usize;
        let now = shared.clock.mono();
        self.session.set_windows(window, window);
        let policy = account.session.clone().unwrap_or_default();
        let or = |seconds: u32, default: Duration| match seconds {
            0 => default,
            seconds => Duration::from_secs(seconds.into()),
        };
        self.session.set_timers(
            nonzero(or(policy.enquire_link_s, shared.config.enquire_link_interval)),
            nonzero(or(policy.inactivity_s, shared.config.inactivity_timer)),
            or(policy.response_s, shared.config.response_timer),
        );
        self.session.set_congestion(Some(shared.centre.load_percent()));
        let system_id = shared.config.system_id.parse().expect("the configuration was checked for its length");
        if self.session.bind_accept(now, system_id).is_err() {
            return close_session(shared.centre.as_ref(), session_id);
        }
        // From here on it is in the registry, so that the next leader tells the ESME should this process die.
        if let Some(keeper) = &shared.keeper {
            self.transport.keep(keeper);
        }
        shared.metrics.bind_accepted();
        shared.metrics.smpp_sessions.of(bind_kind(mode)).inc();
        tracing::info!(peer = %self.peer, system_id = account.system_id, %mode, session_id, "bound");
        let messages = mode.can_receive().then(|| {
            let (to_session, messages) = mpsc::channel(window.max(1));
            let system_id = account.system_id.clone();
            let serves = self.serves.clone();
            let alerts = self.session.peer_version().has_tlvs();
            shared.receivers.bound(SessionHandle { session_id, system_id, window, serves, alerts, to_session });
            self.receiving = Some(shared.outbinds.receives(&account.system_id));
            messages
        });
        let bucket = shared.buckets.of(&account.system_id);
        self.bound = Some(Bound { account, session_id, mode, bucket, messages });
    }

    /// Sends messages while there is room.
    fn take_messages(&mut self, first: Option<ToSession>) {
        let mut next = first;
        while let Some(ToSession::Deliver(message)) = next {
            self.deliver(&message);
            if !self.takes_messages() {
                return;
            }
            let Some(messages) = self.bound.as_mut().and_then(|bound| bound.messages.as_mut()) else { return };
            next = match messages.try_recv() {
                Ok(message) => Some(message),
                Err(mpsc::error::TryRecvError::Empty) => return,
                Err(mpsc::error::TryRecvError::Disconnected) => None,
            };
        }
        // Nobody delivers any more.
        if let Some(bound) = &mut self.bound {
            bound.messages = None;
        }
    }

    fn deliver(&mut self, message: &model::Message) {
        let now = self.shared.clock.mono();
        if let Some(alert) = deliver::alert(message) {
            // It has no answer: what is written counts as told.
            let told = alert.is_ok_and(|alert| self.session.notify(Body::AlertNotification(alert)).is_ok());
            return self.delivered(message.id, if told { DeliverResult::Accepted } else { DeliverResult::Lost });
        }
        let Some(account) = self.account() else { return self.delivered(message.id, DeliverResult::Lost) };
        let sent = match deliver::request(message, self.session.peer_version(), &account) {
            Ok(body) => self.session.request(now, message.id, body).is_ok(),
            Err(error) => {
                tracing::warn!(peer = %self.peer, message_id = message.id, %error, "not deliverable to this ESME");
                return self.delivered(message.id, DeliverResult::Refused(CommandStatus::ESME_RINVMSGLEN));
            }
        };
        if !sent {
            self.delivered(message.id, DeliverResult::Lost);
        }
    }

    /// The account of the session as it is set now, or as it was when it bound if it is deleted.
    fn account(&self) -> Option<Arc<Account>> {
        let bound = self.bound.as_ref()?;
        let directory = self.shared.centre.directory();
        Some(directory.accounts.get(&bound.account.system_id).unwrap_or(&bound.account).clone())
    }

    fn delivered(&mut self, message_id: u64, result: DeliverResult) {
        let Some(bound) = &self.bound else { return };
        self.shared.receivers.delivered(bound.session_id, message_id, result);
    }

    /// No further messages; those that wait to be sent are given back.
    fn stop_receiving(&mut self) {
        let Some(mut messages) = self.bound.as_mut().and_then(|bound| bound.messages.take()) else { return };
        let Some(session_id) = self.bound.as_ref().map(|bound| bound.session_id) else { return };
        self.receiving = None;
        self.shared.receivers.unbound(session_id);
        messages.close();
        while let Ok(ToSession::Deliver(message)) = messages.try_recv() {
            self.delivered(message.id, DeliverResult::Lost);
        }
    }

    fn take_timeout(&mut self) {
        let now = self.shared.clock.mono();
        self.session.handle_timeout(now);
        if self.stop_deadline().is_some_and(|deadline| deadline <= now) {
            self.session.close();
        }
    }

    fn begin_stop(&mut self, stop: Stop) {
        self.stop = stop;
        if matches!(stop, Stop::Unbind(_)) {
            self.stop_receiving();
        }
    }

    /// On the way out: unbinds once everything that the ESME asked is answered.
    fn go_on_stopping(&mut self) -> Option<CloseReason> {
        let now = self.shared.clock.mono();
        if self.stop_deadline().is_some_and(|deadline| deadline <= now) {
            self.session.close();
        } else if self.session.incoming_open() == 0 {
            self.session.unbind(now);
        }
        // What the end leaves behind, and the reason for it.
        let mut ended = None;
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Lost { token } => self.delivered(token, DeliverResult::Lost),
                Event::Closed { reason } => ended = Some(reason),
                _ => {}
            }
        }
        ended
    }

    /// The session has ended: give back what it held, write the last answers, close.
    async fn end(mut self, reason: CloseReason) {
        self.working = None;
        self.stop_receiving();
        self.replies.close();
        while let Ok(reply) = self.replies.try_recv() {
            if let Reply::Bind { outcome: Ok(Some(Outcome::SessionOpened(id))), .. } = reply {
                close_session(self.shared.centre.as_ref(), id);
            }
        }
        if let Some(bound) = self.bound.take() {
            tracing::info!(peer = %self.peer, system_id = bound.account.system_id, session_id = bound.session_id, %reason, "unbound");
            self.shared.metrics.smpp_sessions.of(bind_kind(bound.mode)).dec();
            if !self.shared.records_lapse.load(Ordering::Acquire) {
                close_session(self.shared.centre.as_ref(), bound.session_id);
            }
        } else {
            tracing::debug!(peer = %self.peer, %reason, "closed");
        }
        // A peer that does not read its last answers goes without them.
        let _ = tokio::time::timeout(LINGER, self.flush()).await;
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.transport.is_open() {
            self.drain().await?;
            self.transport.close_notify();
            self.drain().await?;
        }
        self.transport.shutdown()
    }

    async fn drain(&mut self) -> io::Result<()> {
        loop {
            self.write()?;
            if self.session.output().is_empty() && self.transport.is_flushed() {
                return Ok(());
            }
            self.transport.writable().await?;
        }
    }
}

/// The next message for the ESME; never, while it receives none.
async fn next_message(messages: Option<&mut mpsc::Receiver<ToSession>>) -> Option<ToSession> {
    match messages {
        Some(messages) => messages.recv().await,
        None => std::future::pending().await,
    }
}

/// Takes a bind out of the registry. Without leadership it cannot be, and need not: the next leader knows its term.
fn close_session(centre: &dyn Centre, id: u64) {
    let close = Command { op: Some(Op::SessionClose(SessionClose { id })) };
    centre.propose_group(vec![close], Box::new(|_| ()));
}

fn nonzero(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn registry_mode(mode: BindMode) -> model::BindMode {
    match mode {
        BindMode::Transmitter => model::BindMode::Transmitter,
        BindMode::Receiver => model::BindMode::Receiver,
        BindMode::Transceiver => model::BindMode::Transceiver,
    }
}

fn bind_kind(mode: BindMode) -> BindKind {
    match mode {
        BindMode::Transmitter => BindKind::Transmitter,
        BindMode::Receiver => BindKind::Receiver,
        BindMode::Transceiver => BindKind::Transceiver,
    }
}
