//! One bind of a link: connects, binds, carries PDUs, and begins anew when it ends.

use std::sync::Arc;
use std::time::Duration;

use smsc_proto::command::CommandId;
use smsc_proto::pdu::{Bind, Body, DataSmResp, DeliverSmResp};
use smsc_proto::session::{CloseReason, Event, Session, SessionConfig, Side, State, Ticket};
use smsc_proto::status::{CommandStatus, RefusalStatus};
use smsc_proto::time::MonoTime;
use smsc_proto::types::{
    AddressRange, BindMode, InterfaceVersion, LongAddress, MessageId, Password, SystemId, SystemType,
};
use smsc_raft::leadership::{Leadership, MonoTime as LeaseTime};
use smsc_raft::model::{self, Link};
use tokio::sync::mpsc;

use super::call_back::OPEN_MAX;
use super::core::WINDOW_DEFAULT;
use super::wire::Wire;
use crate::clock::{Clock as _, SystemClock};

/// Requests of the peer that may wait for our answer: receipts are held until their message is known.
const WINDOW_INCOMING: usize = 1_000;
/// enquire_link interval and response timer when the link names none.
const TIMER_DEFAULT_S: u32 = 30;
/// Waits before a bind is tried again when the link names none.
const RECONNECT_MIN_MS: u32 = 1_000;
/// See [`RECONNECT_MIN_MS`].
const RECONNECT_MAX_MS: u32 = 60_000;
/// A bind that lasted this long was a good one: the next wait is the first one again.
const GOOD: Duration = Duration::from_secs(10);
/// How often it is looked whether this node still may be bound.
const LEASE_LOOK: Duration = Duration::from_millis(100);
/// How long a peer may take to answer our unbind: a handover waits for it.
const UNBIND_MAX: Duration = Duration::from_millis(300);
/// The longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// What a bind is asked to do.
pub(super) enum ToBind {
    /// Send this request; the token comes back with its answer.
    Send { token: u64, body: Box<Body> },
    /// Answer a request of this session of the bind: with ESME_ROK, or with a refusal.
    Answer { session: u64, ticket: Ticket, refusal: Option<RefusalStatus> },
    /// Unbind and end.
    Unbind,
    /// End without a word: another node may be about to bind.
    Close,
}

/// What a bind tells.
pub(super) enum BindEvent {
    /// It tries this address.
    Connecting { address: String },
    /// It is bound to a peer that speaks this version.
    Bound { version: InterfaceVersion },
    /// The answer to a request; the message_id is that of a submit_sm_resp.
    Answered { token: u64, status: CommandStatus, message_id: String },
    /// No answer came, or it was never sent.
    Lost { token: u64 },
    /// A request of the peer: answer it with [`ToBind::Answer`].
    Request { session: u64, ticket: Ticket, body: Box<Body> },
    /// A subscriber is there again.
    Alert { address: model::Address },
    /// It is not bound, for this reason; it tries again after a while. All that it had is reported before.
    Down { reason: String },
    /// It has ended for good.
    Ended,
}

/// One bind.
pub(super) struct BindTask {
    pub index: usize,
    pub mode: BindMode,
    pub link: Arc<Link>,
    pub leadership: Leadership,
    pub events: mpsc::UnboundedSender<(usize, BindEvent)>,
    pub commands: mpsc::UnboundedReceiver<ToBind>,
    /// Counts the sessions of this bind: the answer to a request of one must not go out on the next.
    pub session: u64,
    /// Since when the session at hand is bound; `None` while it is not.
    pub bound_at: Option<MonoTime>,
}

/// Why a connection ended.
enum Over {
    /// Asked to, or the link is gone.
    Ended,
    Failed(String),
}

impl BindTask {
    pub(super) async fn run(mut self) {
        let min = Duration::from_millis(u64::from(or(self.link.reconnect_min_ms, RECONNECT_MIN_MS)));
        let max = Duration::from_millis(u64::from(or(self.link.reconnect_max_ms, RECONNECT_MAX_MS))).max(min);
        let mut wait = min;
        let mut tried = 0;
        loop {
            self.bound_at = None;
            match self.connect_once(tried).await {
                Over::Ended => break,
                Over::Failed(reason) => {
                    tracing::info!(link = self.link.name, bind = self.index, reason, "not bound");
                    self.tell(BindEvent::Down { reason });
                }
            }
            let lasted = self.bound_at.map(|at| SystemClock.mono().saturating_since(at));
            if lasted.is_some_and(|lasted| lasted >= GOOD) {
                wait = min;
            } else {
                tried += 1;
            }
            if self.rest(wait).await.is_err() {
                break;
            }
            wait = (wait * 2).min(max);
        }
        self.tell(BindEvent::Ended);
    }

    fn tell(&self, event: BindEvent) {
        // A link that has ended waits for nothing.
        let _ = self.events.send((self.index, event));
    }

    /// Waits, giving back what still comes in.
    async fn rest(&mut self, wait: Duration) -> Result<(), ()> {
        let until = tokio::time::sleep(wait);
        tokio::pin!(until);
        loop {
            tokio::select! {
                () = &mut until => return if self.leadership.valid_now() { Ok(()) } else { Err(()) },
                command = self.commands.recv() => match command {
                    Some(ToBind::Send { token, .. }) => self.tell(BindEvent::Lost { token }),
                    Some(ToBind::Answer { .. }) => {}
                    Some(ToBind::Unbind | ToBind::Close) | None => return Err(()),
                },
            }
        }
    }

    async fn connect_once(&mut self, tried: usize) -> Over {
        if !self.leadership.valid_now() {
            return Over::Ended;
        }
        let addresses = &self.link.addresses;
        let Some(address) = addresses.get((self.index + tried) % addresses.len().max(1)).cloned() else {
            return Over::Failed("the link has no address".to_owned());
        };
        self.tell(BindEvent::Connecting { address: address.clone() });
        let response = seconds(self.link.response_s);
        let connected = tokio::select! {
            connected = Wire::connect(&address, &self.link, response.min(CONNECT_MAX)) => connected,
            () = ended(&mut self.commands, &self.events, self.index) => return Over::Ended,
        };
        match connected {
            Ok(wire) => self.carry(wire, &address).await,
            Err(error) => Over::Failed(format!("{address}: {error}")),
        }
    }

    /// Binds and carries PDUs until the session has ended.
    async fn carry(&mut self, mut wire: Wire, address: &str) -> Over {
        let bind = match bind_of(&self.link) {
            Ok(bind) => bind,
            Err(reason) => return Over::Failed(reason),
        };
        let mut session = Session::new(Side::Esme, session_config(&self.link), SystemClock.mono());
        self.session += 1;
        if let Err(error) = session.bind(SystemClock.mono(), self.mode, bind) {
            return Over::Failed(error.to_string());
        }
        let mut refused = None;
        // Until when the peer may answer our unbind.
        let mut unbinding: Option<MonoTime> = None;
        let over = loop {
            if let Some(reason) = self.take_events(&mut session, address, &mut refused) {
                break reason;
            }
            // Whatever the session says next would be said without the right to.
            if !self.leadership.valid_now() || unbinding.is_some_and(|until| until <= SystemClock.mono()) {
                session.close();
                continue;
            }
            if session.has_input() {
                session.handle_input(SystemClock.mono());
                continue;
            }
            let deadline = session.poll_timeout().unwrap_or(MonoTime::MAX);
            let until = SystemClock.until(deadline.min(unbinding.unwrap_or(MonoTime::MAX))).min(self.lease_look());
            let wants_input = session.wants_input();
            let mut output = session.output().split();
            let mut input = bytes::BytesMut::new();
            let (moved, command) = tokio::select! {
                moved = wire.transfer(&mut output, wants_input.then_some(&mut input)) => (Some(moved), None),
                command = self.commands.recv() => (None, Some(command)),
                () = tokio::time::sleep(until) => (None, None),
            };
            // What was not written stays in front of what the session says meanwhile.
            output.unsplit(session.output().split());
            *session.output() = output;
            let now = SystemClock.mono();
            if !input.is_empty() {
                session.handle_bytes(now, &input);
            }
            if let Some(Err(error)) = moved {
                tracing::debug!(link = self.link.name, bind = self.index, %error, "the connection ended");
                session.handle_disconnect();
            }
            if let Some(command) = command {
                self.take_command(&mut session, command, &mut unbinding);
                while let Ok(command) = self.commands.try_recv() {
                    self.take_command(&mut session, Some(command), &mut unbinding);
                }
            }
            if deadline <= now {
                session.handle_timeout(now);
            }
        };
        let mut output = session.output().split();
        if !self.leadership.valid_now() {
            // Another node may be delivering what stands there.
            output.clear();
        }
        let last = async {
            while !output.is_empty() && wire.transfer(&mut output, None).await.is_ok() {}
            wire.shutdown().await;
        };
        // A peer that does not read its last answers goes without them.
        let _ = tokio::time::timeout(Duration::from_secs(1), last).await;
        if unbinding.is_some() || !self.leadership.valid_now() {
            return Over::Ended;
        }
        Over::Failed(match refused {
            Some(status) => format!("{address}: the bind was refused with {status}"),
            None => format!("{address}: {over}"),
        })
    }

    /// How long this bind may go on without looking whether this node still may be bound: never past the lease.
    fn lease_look(&self) -> Duration {
        let deadline = self.leadership.lease().deadline();
        deadline.map_or(Duration::ZERO, |deadline| deadline.since(LeaseTime::now())).min(LEASE_LOOK)
    }

    /// Tells what happened; why the session ended, if it did.
    fn take_events(
        &mut self,
        session: &mut Session,
        address: &str,
        refused: &mut Option<CommandStatus>,
    ) -> Option<CloseReason> {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Bound { mode, .. } => {
                    tracing::info!(link = self.link.name, bind = self.index, address, %mode, "bound");
                    self.bound_at = Some(SystemClock.mono());
                    self.tell(BindEvent::Bound { version: session.peer_version() });
                }
                Event::BindRefused { status } => {
                    *refused = Some(status.get());
                    session.close();
                }
                Event::Answered { token, answer } => {
                    let message_id = match &answer.body {
                        Body::SubmitSmResp(resp) => resp.message_id.as_ref(),
                        _ => None,
                    };
                    let message_id = message_id.and_then(|id| id.as_str()).unwrap_or_default().to_owned();
                    // A generic_nack that claims success has accepted nothing.
                    let status = match (answer.status, &answer.body) {
                        (CommandStatus::ESME_ROK, Body::GenericNack(_)) => CommandStatus::ESME_RSYSERR,
                        (status, _) => status,
                    };
                    self.tell(BindEvent::Answered { token, status, message_id });
                }
                Event::Lost { token } => self.tell(BindEvent::Lost { token }),
                Event::Request { ticket, body } => {
                    self.tell(BindEvent::Request { session: self.session, ticket, body: Box::new(body) });
                }
                Event::Alert(alert) => {
                    let LongAddress { ton, npi, addr } = &alert.source_addr;
                    let digits = String::from_utf8_lossy(addr.as_ref()).into_owned();
                    let address = model::Address { ton: u32::from(ton.0), npi: u32::from(npi.0), digits };
                    self.tell(BindEvent::Alert { address });
                }
                Event::Closed { reason } => return Some(reason),
                // These come to the message centre's side alone, or are followed by the end.
                Event::BindRequested { .. } | Event::Outbind(_) | Event::Unbinding => {}
            }
        }
        None
    }

    fn take_command(&self, session: &mut Session, command: Option<ToBind>, unbinding: &mut Option<MonoTime>) {
        let now = SystemClock.mono();
        match command {
            Some(ToBind::Send { token, body }) => {
                let bound = matches!(session.state(), State::Bound(_)) && self.leadership.valid_now();
                if !bound || session.request(now, token, *body).is_err() {
                    self.tell(BindEvent::Lost { token });
                }
            }
            // Its peer asks again, on this session.
            Some(ToBind::Answer { session: asked, .. }) if asked != self.session => {}
            Some(ToBind::Answer { ticket, refusal: Some(status), .. }) => session.refuse(ticket, status),
            Some(ToBind::Answer { ticket, refusal: None, .. }) => {
                let message_id = Some(MessageId::default());
                let body = match ticket.command_id() {
                    CommandId::DATA_SM => Body::DataSmResp(DataSmResp { message_id, ..Default::default() }),
                    _ => Body::DeliverSmResp(DeliverSmResp { message_id, ..Default::default() }),
                };
                session.respond(ticket, CommandStatus::ESME_ROK, body);
            }
            Some(ToBind::Unbind) => {
                unbinding.get_or_insert(now + UNBIND_MAX);
                session.unbind(now);
            }
            Some(ToBind::Close) | None => {
                unbinding.get_or_insert(now);
                session.close();
            }
        }
    }
}

/// Waits until the bind is asked to end.
async fn ended(
    commands: &mut mpsc::UnboundedReceiver<ToBind>,
    events: &mpsc::UnboundedSender<(usize, BindEvent)>,
    index: usize,
) {
    loop {
        match commands.recv().await {
            Some(ToBind::Unbind | ToBind::Close) | None => return,
            // A link that has ended waits for nothing.
            Some(ToBind::Send { token, .. }) => drop(events.send((index, BindEvent::Lost { token }))),
            Some(ToBind::Answer { .. }) => {}
        }
    }
}

fn bind_of(link: &Link) -> Result<Bind, String> {
    let wrong = |error: smsc_proto::error::ValueError| format!("the link's configuration: {error}");
    Ok(Bind {
        system_id: link.system_id.parse::<SystemId>().map_err(wrong)?,
        password: link.password.parse::<Password>().map_err(wrong)?,
        system_type: link.system_type.parse::<SystemType>().map_err(wrong)?,
        interface_version: version(link),
        address_range: link.address_range.parse::<AddressRange>().map_err(wrong)?,
        ..Bind::default()
    })
}

fn version(link: &Link) -> InterfaceVersion {
    match u8::try_from(link.interface_version) {
        Ok(0) | Err(_) => InterfaceVersion::V3_4,
        Ok(version) => InterfaceVersion(version),
    }
}

fn session_config(link: &Link) -> SessionConfig {
    SessionConfig {
        interface_version: version(link),
        window_incoming: WINDOW_INCOMING,
        // The window itself is kept by whoever sends submit_sm.
        window_outgoing: or(link.window, WINDOW_DEFAULT) as usize + OPEN_MAX,
        session_init: seconds(link.response_s),
        enquire_link: Some(seconds(link.enquire_link_s)),
        response: seconds(link.response_s),
        ..SessionConfig::default()
    }
}

pub(super) fn seconds(value: u32) -> Duration {
    Duration::from_secs(u64::from(or(value, TIMER_DEFAULT_S)))
}

fn or(value: u32, default: u32) -> u32 {
    if value == 0 { default } else { value }
}
