//! One SMPP session as a pure state machine, for either end: octets and time in; octets, events and the next deadline
//! out.
//!
//! The owner reads into [`Session::input`], calls [`Session::handle_input`], takes events until there are none, writes
//! [`Session::output`], and sleeps until [`Session::poll_timeout`]. While [`Session::wants_input`] is false it does not
//! read, which holds back the peer by the window of TCP; so memory is bounded by one PDU, one read, and the windows.
//!
//! What the session answers itself: enquire_link, unbind, whatever is malformed, unknown, out of turn or beyond the
//! window. Every other request comes out as an [`Event::Request`] with a [`Ticket`] that pays for exactly one answer.
//!
//! Rules in files of their own: [`state`] which operation is allowed when, [`window`] what waits for an answer,
//! [`timers`] what happens when nothing happens.

mod config;
mod event;
mod receive;
pub mod state;
pub mod timers;
pub mod window;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;

pub use config::{SessionConfig, SessionCounts};
pub use event::{CloseReason, Event, NoBind, RequestError};
pub use state::{Side, State};
pub use window::Ticket;

use self::timers::{Timer, Timers};
use self::window::{Incoming, Outgoing, Sent, Waiting};
use crate::command::{CommandId, SequenceNumber};
use crate::error::EncodeError;
use crate::frame::Framer;
use crate::pdu::{Bind, BindResp, Body, EnquireLink, Pdu, Unbind, UnbindResp};
use crate::status::{CommandStatus, RefusalStatus};
use crate::time::MonoTime;
use crate::tlv::{Tag, Tlvs};
use crate::types::{BindMode, InterfaceVersion, SystemId};

/// Octets of output that wait to be written before the session stops reading. A peer that sends without reading
/// answers is held back here.
const OUTPUT_HIGH: usize = 256 * 1024;

/// Octets of input that may wait while a bind is being answered, besides what one read adds.
const INPUT_HIGH: usize = 64 * 1024;

/// So many response times in a row in which no request was answered though some waited, and the peer counts as gone. More
/// than one, because a peer may be slow for once, or drop a request that it cannot handle.
const UNANSWERED_MAX: u32 = 3;

/// One SMPP session; see the module.
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    side: Side,
    state: State,
    framer: Framer,
    input: BytesMut,
    output: BytesMut,
    events: VecDeque<Event>,
    timers: Timers,
    incoming: Incoming,
    outgoing: Outgoing,
    /// Of the peer's bind that is not answered, or of its unbind.
    pending_sequence: SequenceNumber,
    /// What the peer said it speaks.
    peer_version: InterfaceVersion,
    /// Why this side unbinds.
    leaving: CloseReason,
    last_heard: MonoTime,
    /// Response times that passed without an answer since the last one.
    unanswered: u32,
    /// When the last of them ended: only what was sent later counts for the next.
    unanswered_at: MonoTime,
    /// What answers to a peer of v5.0 tell; `None` tells nothing.
    congestion: Option<u8>,
    /// The same as it is written, made once for many answers.
    congestion_tlvs: Tlvs,
    counts: SessionCounts,
}

impl Session {
    /// A session on a connection that was made at `now`; `side` is which end this one is.
    pub fn new(side: Side, config: SessionConfig, now: MonoTime) -> Session {
        let mut timers = Timers::new();
        timers.set(Timer::SessionInit, now + config.session_init);
        Session {
            side,
            state: State::Open,
            framer: Framer::new(config.command_length_max),
            input: BytesMut::new(),
            output: BytesMut::new(),
            events: VecDeque::new(),
            timers,
            incoming: Incoming::new(config.window_incoming),
            outgoing: Outgoing::new(config.window_outgoing),
            pending_sequence: SequenceNumber::UNKNOWN,
            peer_version: config.interface_version,
            leaving: CloseReason::Unbound,
            last_heard: now,
            unanswered: 0,
            unanswered_at: MonoTime::ZERO,
            congestion: None,
            congestion_tlvs: Tlvs::new(),
            counts: SessionCounts::default(),
            config,
        }
    }

    /// Where the session stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What the peer speaks: what its bind said, or its answer to ours; before, what this side speaks.
    pub fn peer_version(&self) -> InterfaceVersion {
        self.peer_version
    }

    /// What went through the session, and what it dealt with without telling its owner.
    pub fn counts(&self) -> SessionCounts {
        self.counts
    }

    /// Requests of the peer that wait for an answer of the owner.
    pub fn incoming_open(&self) -> usize {
        self.incoming.open()
    }

    /// Requests that may be made before the next answer.
    pub fn outgoing_room(&self) -> usize {
        self.outgoing.room()
    }

    /// Sets how many requests of the peer, and of this side, may wait for their answer; at least 1 each.
    pub fn set_windows(&mut self, incoming: usize, outgoing: usize) {
        self.incoming.set_limit(incoming);
        self.outgoing.set_limit(outgoing);
    }

    /// Sets the timers of a session that is about to be bound: enquire_link and inactivity, of which `None` switches one
    /// off, and response. They run anew with the bind.
    pub fn set_timers(&mut self, enquire_link: Option<Duration>, inactivity: Option<Duration>, response: Duration) {
        self.config.enquire_link = enquire_link;
        self.config.inactivity = inactivity;
        self.config.response = response;
    }

    /// Sets congestion_state (v5.0 section 4.8.4.18), which answers to a peer of v5.0 carry from now on: 0 idle, 80 to 89
    /// at its best, 100 congested. Beyond 100 counts as 100; `None` carries none.
    pub fn set_congestion(&mut self, percent: Option<u8>) {
        let percent = percent.map(|percent| percent.min(100));
        if percent != self.congestion {
            self.congestion = percent;
            self.congestion_tlvs = Tlvs::new();
            if let Some(percent) = percent {
                self.congestion_tlvs.push_u8(Tag::CONGESTION_STATE, percent);
            }
        }
    }

    /// Whether the owner should read from the connection: not while a bind is being answered, not while the peer does
    /// not read its answers, not after the end.
    pub fn wants_input(&self) -> bool {
        self.state != State::Closed
            && self.output.len() < OUTPUT_HIGH
            && (self.is_reading() || self.input.len() < INPUT_HIGH)
    }

    /// Where the owner appends what it read; then [`Session::handle_input`].
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Appends a copy of `octets` and handles them.
    pub fn handle_bytes(&mut self, now: MonoTime, octets: &[u8]) {
        self.input.extend_from_slice(octets);
        self.handle_input(now);
    }

    /// Handles whole PDUs of the input as far as the session may; called after reading, and after writing when
    /// [`Session::has_input`].
    pub fn handle_input(&mut self, now: MonoTime) {
        self.receive(now);
    }

    /// Whether there is input that was held back and can be handled now: the start of a PDU alone cannot.
    pub fn has_input(&self) -> bool {
        self.is_reading() && self.output.len() < OUTPUT_HIGH && self.framer.has_frame(&self.input)
    }

    /// What is to be written: the owner takes from its front what it has written.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Session::handle_timeout`] wants to be called; `None` for never.
    pub fn poll_timeout(&self) -> Option<MonoTime> {
        self.timers.next()
    }

    /// Message centre: accepts the bind that was asked for and handles what came behind it.
    ///
    /// The answer carries sc_interface_version, the older of what both sides speak, unless the ESME speaks v3.3.
    ///
    /// # Errors
    /// [`NoBind`]: undo what was done for the bind.
    pub fn bind_accept(&mut self, now: MonoTime, system_id: SystemId) -> Result<(), NoBind> {
        let mode = self.binding()?;
        let mut tlvs = Tlvs::new();
        if self.peer_version.has_tlvs() {
            tlvs.push_u8(Tag::SC_INTERFACE_VERSION, self.version().0);
        }
        let resp = BindResp { system_id: Some(system_id), tlvs };
        self.state = State::Bound(mode);
        self.send(Pdu::new(self.pending_sequence, Body::bind_resp(mode, resp)));
        self.start_bound_timers(now);
        self.receive(now);
        Ok(())
    }

    /// Message centre: refuses the bind that was asked for. The session is open again, the ESME may try once more.
    ///
    /// # Errors
    /// [`NoBind`]: there is nothing to undo.
    pub fn bind_refuse(&mut self, now: MonoTime, status: RefusalStatus) -> Result<(), NoBind> {
        let mode = self.binding()?;
        let command_id = Body::bind(mode, Bind::default()).command_id();
        self.state = State::Open;
        self.send(Pdu::refusal(command_id, self.pending_sequence, status));
        self.timers.set(Timer::SessionInit, now + self.config.session_init);
        self.receive(now);
        Ok(())
    }

    /// ESME: asks to be bound. [`Event::Bound`] or [`Event::BindRefused`] follows, or the session ends.
    ///
    /// # Errors
    /// [`RequestError`] if the session is not open.
    pub fn bind(&mut self, now: MonoTime, mode: BindMode, bind: Bind) -> Result<(), RequestError> {
        let body = Body::bind(mode, bind);
        self.check_ours(body.command_id())?;
        self.send_request(now, body, Waiting::Bind(mode))?;
        self.state = State::Binding(mode);
        Ok(())
    }

    /// Sends a request. [`Event::Answered`] or [`Event::Lost`] follows with the same `token`, which means nothing to
    /// the session. Binds and unbind have calls of their own.
    ///
    /// # Errors
    /// [`RequestError`]: nothing was sent and nothing follows.
    pub fn request(&mut self, now: MonoTime, token: u64, body: Body) -> Result<(), RequestError> {
        let command_id = body.command_id();
        self.check_ours(command_id)?;
        if command_id.response().is_none() || body.as_bind().is_some() {
            return Err(self.not_allowed(command_id));
        }
        if self.outgoing.room() == 0 {
            return Err(RequestError::WindowFull);
        }
        self.send_request(now, body, Waiting::Request(token))?;
        Ok(())
    }

    /// Sends outbind or alert_notification, which have no answer.
    ///
    /// # Errors
    /// [`RequestError`] if it is not allowed, or if the operation has an answer.
    pub fn notify(&mut self, body: Body) -> Result<(), RequestError> {
        let command_id = body.command_id();
        self.check_ours(command_id)?;
        if command_id.response().is_some() {
            return Err(self.not_allowed(command_id));
        }
        self.encode(Pdu::new(self.outgoing.next_sequence(), body))?;
        self.outgoing.skip();
        if command_id == CommandId::OUTBIND {
            self.state = State::Outbound;
        }
        Ok(())
    }

    /// Answers a request positively, or with a body that tells more than a status. `body` is the answer that belongs to
    /// the request; anything else is a fault of ours and goes out as ESME_RSYSERR.
    ///
    /// Does nothing once the session has ended.
    pub fn respond(&mut self, ticket: Ticket, status: CommandStatus, body: Body) {
        let (sequence, command_id) = self.incoming.redeem(ticket);
        if self.state == State::Closed {
            return;
        }
        let answer = Pdu { status, sequence, body };
        let fits = command_id.response() == Some(answer.command_id());
        debug_assert!(fits, "{} does not answer {command_id}", answer.command_id());
        if !fits || self.encode(answer).is_err() {
            self.send(Pdu::refusal(command_id, sequence, RefusalStatus::ESME_RSYSERR));
        }
        self.settled();
    }

    /// Answers a request with a status and no body. Does nothing once the session has ended.
    pub fn refuse(&mut self, ticket: Ticket, status: RefusalStatus) {
        let (sequence, command_id) = self.incoming.redeem(ticket);
        if self.state == State::Closed {
            return;
        }
        self.counts.refused += 1;
        self.send(Pdu::refusal(command_id, sequence, status));
        self.settled();
    }

    /// Asks the peer to end the session, which then ends within the response timeout. Answer its requests before: they
    /// can still be answered, but it need not wait for that. A session that is not bound ends at once.
    pub fn unbind(&mut self, now: MonoTime) {
        match self.state {
            State::Bound(_) => self.leave(now, CloseReason::Unbound),
            State::Open | State::Outbound | State::Binding(_) => {
                self.finish(CloseReason::Closed);
            }
            State::Unbinding | State::Unbound | State::Closed => {}
        }
    }

    /// Ends the session without a word to the peer.
    pub fn close(&mut self) {
        self.finish(CloseReason::Closed);
    }

    /// The connection has ended, or could not be written to.
    pub fn handle_disconnect(&mut self) {
        self.finish(CloseReason::Disconnected);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: MonoTime) {
        while let Some(timer) = self.timers.take_expired(now) {
            match timer {
                Timer::SessionInit => self.finish(CloseReason::SessionInit),
                Timer::EnquireLink => self.enquire_link(now),
                Timer::Inactivity => self.leave(now, CloseReason::Inactivity),
                Timer::Response => self.response_timeout(now),
                Timer::Settle => self.answer_unbind(),
            }
        }
    }

    /// Whether PDUs of the peer are handled now.
    fn is_reading(&self) -> bool {
        // An ESME that binds reads the answer; a message centre keeps what comes until it has answered.
        match self.state {
            State::Binding(_) => self.side == Side::Esme,
            State::Closed => false,
            _ => true,
        }
    }

    fn binding(&self) -> Result<BindMode, NoBind> {
        match (self.state, self.side) {
            (State::Binding(mode), Side::MessageCentre) => Ok(mode),
            (state, _) => Err(NoBind { state }),
        }
    }

    fn check_ours(&self, command_id: CommandId) -> Result<(), RequestError> {
        // Nothing new is begun once either side has asked to unbind.
        let leaving = matches!(self.state, State::Unbinding | State::Unbound);
        let known = state::is_known(command_id, self.version());
        match state::check(self.state, self.side, command_id) {
            Ok(()) if known && !leaving && command_id != CommandId::UNBIND => Ok(()),
            _ => Err(self.not_allowed(command_id)),
        }
    }

    /// The version that both sides speak.
    fn version(&self) -> InterfaceVersion {
        self.peer_version.min(self.config.interface_version)
    }

    fn not_allowed(&self, command_id: CommandId) -> RequestError {
        RequestError::NotAllowed { command_id, side: self.side, state: self.state }
    }

    fn start_bound_timers(&mut self, now: MonoTime) {
        self.last_heard = now;
        self.timers.stop(Timer::SessionInit);
        self.restart(Timer::EnquireLink, now);
        self.restart(Timer::Inactivity, now);
    }

    /// Starts one of the two timers that run while a session is bound, unless it is switched off.
    fn restart(&mut self, timer: Timer, now: MonoTime) {
        let after = match timer {
            Timer::EnquireLink => self.config.enquire_link,
            _ => self.config.inactivity,
        };
        if let Some(after) = after {
            self.timers.set(timer, now + after);
        }
    }

    fn enquire_link(&mut self, now: MonoTime) {
        if self.outgoing.has(Waiting::EnquireLink) {
            return;
        }
        self.send_own(now, Body::EnquireLink(EnquireLink::default()), Waiting::EnquireLink);
    }

    fn leave(&mut self, now: MonoTime, reason: CloseReason) {
        self.leaving = reason;
        self.state = State::Unbinding;
        self.timers.stop(Timer::EnquireLink);
        self.timers.stop(Timer::Inactivity);
        self.send_own(now, Body::Unbind(Unbind::default()), Waiting::Unbind);
    }

    fn response_timeout(&mut self, now: MonoTime) {
        let expired = now.saturating_sub(self.config.response);
        while let Some(sent) = self.outgoing.take_oldest(expired) {
            match sent.waiting {
                Waiting::Request(token) => {
                    self.events.push_back(Event::Lost { token });
                    if sent.at >= self.unanswered_at {
                        self.unanswered += 1;
                        self.unanswered_at = now;
                    }
                    if self.unanswered >= UNANSWERED_MAX {
                        return self.finish(CloseReason::NoAnswer(sent.command_id));
                    }
                }
                // A peer that says other things is there, however it treats enquire_link.
                Waiting::EnquireLink if self.last_heard > sent.at => {
                    self.restart(Timer::EnquireLink, now);
                }
                Waiting::EnquireLink => return self.finish(CloseReason::EnquireLink),
                Waiting::Unbind if self.leaving == CloseReason::Inactivity => {
                    return self.finish(CloseReason::Inactivity);
                }
                Waiting::Unbind | Waiting::Bind(_) => {
                    return self.finish(CloseReason::NoAnswer(sent.command_id));
                }
            }
        }
        self.rearm_response();
    }

    /// The response timer is that of the oldest request.
    fn rearm_response(&mut self) {
        match self.outgoing.oldest() {
            Some(at) => self.timers.set(Timer::Response, at + self.config.response),
            None => self.timers.stop(Timer::Response),
        }
    }

    /// After an answer: an unbind of the peer may have waited for it.
    fn settled(&mut self) {
        if self.state == State::Unbound && self.incoming.open() == 0 {
            self.answer_unbind();
        }
    }

    fn answer_unbind(&mut self) {
        self.send(Pdu::new(self.pending_sequence, Body::UnbindResp(UnbindResp::default())));
        self.finish(CloseReason::Unbound);
    }

    /// Ends the session: what waits is lost, nothing else follows.
    fn finish(&mut self, reason: CloseReason) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.timers.stop_all();
        self.input = BytesMut::new();
        while let Some(sent) = self.outgoing.take_oldest(MonoTime::MAX) {
            if let Waiting::Request(token) = sent.waiting {
                self.events.push_back(Event::Lost { token });
            }
        }
        self.events.push_back(Event::Closed { reason });
    }

    fn send_request(&mut self, now: MonoTime, body: Body, waiting: Waiting) -> Result<(), EncodeError> {
        let command_id = body.command_id();
        self.encode(Pdu::new(self.outgoing.next_sequence(), body))?;
        self.outgoing.push(Sent { command_id, waiting, at: now });
        self.rearm_response();
        Ok(())
    }

    /// A request of the session itself: a header alone.
    fn send_own(&mut self, now: MonoTime, body: Body, waiting: Waiting) {
        self.send_request(now, body, waiting).expect("a header without body has no length field to overflow");
    }

    /// Sends a PDU whose fields have no length that could overflow: headers, and strings that were checked when they
    /// were made.
    fn send(&mut self, pdu: Pdu) {
        self.encode(pdu).expect("an answer of the session itself has no list and no short_message");
    }

    /// Encodes a PDU as the peer's version has it: v3.3 knows no TLVs, v3.4 not the statuses that v5.0 added, and v5.0 is
    /// told of congestion.
    fn encode(&mut self, mut pdu: Pdu) -> Result<(), EncodeError> {
        if !self.peer_version.has_tlvs() {
            *pdu.body.tlvs_mut() = Tlvs::new();
        }
        pdu.status = pdu.status.for_version(self.peer_version);
        if let Some(percent) = self.congestion.filter(|_| self.peer_version >= InterfaceVersion::V5_0)
            && pdu.status.is_ok()
            && carries_congestion(pdu.command_id())
        {
            let tlvs = pdu.body.tlvs_mut();
            if tlvs.is_empty() {
                *tlvs = self.congestion_tlvs.clone();
            } else {
                tlvs.push_u8(Tag::CONGESTION_STATE, percent);
            }
        }
        pdu.encode(&mut self.output)?;
        self.counts.sent += 1;
        Ok(())
    }
}

/// Whether an answer tells of congestion: any may (v5.0 section 4.8.4.18), but there are peers that take those whose
/// tables list no TLVs, or one in particular, at their word and lose their way behind a further one.
fn carries_congestion(command_id: CommandId) -> bool {
    matches!(
        command_id,
        CommandId::SUBMIT_SM_RESP
            | CommandId::SUBMIT_MULTI_RESP
            | CommandId::DATA_SM_RESP
            | CommandId::DELIVER_SM_RESP
            | CommandId::BROADCAST_SM_RESP
            | CommandId::QUERY_BROADCAST_SM_RESP
    )
}
