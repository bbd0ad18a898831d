//! The way of what the peer sends: cut into PDUs, checked against the table, answered or handed on.

use bytes::Bytes;

use super::event::{CloseReason, Event};
use super::state::{self, State};
use super::timers::Timer;
use super::window::Waiting;
use super::{OUTPUT_HIGH, Session};
use crate::command::{CommandId, Header, SequenceNumber};
use crate::error::{DecodeError, FrameError};
use crate::pdu::{Bind, Body, EnquireLinkResp, GenericNack, Pdu, UnbindResp};
use crate::status::RefusalStatus;
use crate::time::MonoTime;
use crate::tlv::Tag;
use crate::types::{BindMode, InterfaceVersion};

/// Whether a PDU shows that the session is in use.
#[derive(PartialEq)]
enum Activity {
    Transaction,
    LinkOnly,
}

impl Session {
    /// Handles PDUs until there is none whole, or the session must not read on.
    pub(super) fn receive(&mut self, now: MonoTime) {
        let before = self.counts.received;
        let mut active = false;
        while self.is_reading() && self.output.len() < OUTPUT_HIGH {
            match self.framer.next_frame(&mut self.input) {
                Ok(Some(frame)) => {
                    self.counts.received += 1;
                    active |= self.receive_frame(now, frame) == Activity::Transaction;
                }
                Ok(None) => break,
                Err(error) => {
                    self.malformed(error);
                    break;
                }
            }
        }
        if self.counts.received == before {
            return;
        }
        self.last_heard = now;
        if matches!(self.state, State::Bound(_)) {
            self.restart(Timer::EnquireLink, now);
            if active {
                self.restart(Timer::Inactivity, now);
            }
        }
    }

    /// The boundary of the next PDU is lost: say so once and close.
    fn malformed(&mut self, error: FrameError) {
        let header = DecodeError::Fatal(error).header().copied();
        let sequence = header.map_or(SequenceNumber::UNKNOWN, |header| header.sequence_number);
        self.counts.undecodable += 1;
        self.counts.refused += 1;
        self.send(Pdu { status: error.status().get(), sequence, body: Body::GenericNack(GenericNack::default()) });
        self.finish(CloseReason::Malformed(error));
    }

    fn receive_frame(&mut self, now: MonoTime, frame: Bytes) -> Activity {
        let header = match Header::decode(&frame) {
            Ok(header) => header,
            Err(error) => {
                self.malformed(error);
                return Activity::Transaction;
            }
        };
        if header.command_id.is_response() {
            self.receive_answer(now, header, frame);
        } else {
            self.receive_request(now, header, frame);
        }
        match header.command_id {
            CommandId::ENQUIRE_LINK_RESP => Activity::LinkOnly,
            _ => Activity::Transaction,
        }
    }

    fn receive_request(&mut self, now: MonoTime, header: Header, frame: Bytes) {
        let command_id = header.command_id;
        if self.state == State::Unbinding && self.takes_window(command_id) {
            // It crossed our unbind. Refused, the peer might give it up; unanswered, it is unknown to the peer like all
            // that was under way when a session ended, and may be sent again in the next one.
            self.counts.crossed += 1;
            return;
        }
        if let Err(status) = state::check(self.state, self.side.peer(), command_id) {
            return self.refuse_pdu(header, status);
        }
        let binds = matches!(self.state, State::Open | State::Outbound);
        if !binds && !state::is_known(command_id, self.version()) {
            return self.refuse_pdu(header, RefusalStatus::ESME_RINVCMDID);
        }
        if self.takes_window(command_id) && self.incoming.is_full() {
            self.counts.throttled += 1;
            return self.refuse_pdu(header, RefusalStatus::ESME_RTHROTTLED);
        }
        let pdu = match Pdu::decode(frame) {
            Ok(pdu) => pdu,
            Err(error) => {
                self.counts.undecodable += 1;
                return self.refuse_pdu(header, error.status());
            }
        };
        match pdu.body {
            Body::EnquireLink(_) => {
                self.send(Pdu::new(pdu.sequence, Body::EnquireLinkResp(EnquireLinkResp::default())))
            }
            Body::Unbind(_) => self.receive_unbind(now, header),
            Body::BindTransmitter(bind) => self.receive_bind(BindMode::Transmitter, bind, header),
            Body::BindReceiver(bind) => self.receive_bind(BindMode::Receiver, bind, header),
            Body::BindTransceiver(bind) => self.receive_bind(BindMode::Transceiver, bind, header),
            Body::Outbind(outbind) => {
                self.state = State::Outbound;
                self.events.push_back(Event::Outbind(Box::new(outbind)));
            }
            Body::AlertNotification(alert) => {
                self.events.push_back(Event::Alert(Box::new(alert)));
            }
            body => {
                let ticket = self.incoming.issue(pdu.sequence, command_id);
                self.events.push_back(Event::Request { ticket, body });
            }
        }
    }

    /// Whether the owner has to answer this request.
    fn takes_window(&self, command_id: CommandId) -> bool {
        !matches!(
            command_id,
            CommandId::ENQUIRE_LINK
                | CommandId::UNBIND
                | CommandId::OUTBIND
                | CommandId::ALERT_NOTIFICATION
                | CommandId::BIND_TRANSMITTER
                | CommandId::BIND_RECEIVER
                | CommandId::BIND_TRANSCEIVER
        )
    }

    fn refuse_pdu(&mut self, header: Header, status: RefusalStatus) {
        self.counts.refused += 1;
        self.send(Pdu::refusal(header.command_id, header.sequence_number, status));
    }

    fn receive_bind(&mut self, mode: BindMode, bind: Bind, header: Header) {
        self.state = State::Binding(mode);
        self.pending_sequence = header.sequence_number;
        self.peer_version = bind.interface_version;
        // The answer depends on this side now.
        self.timers.stop(Timer::SessionInit);
        self.events.push_back(Event::BindRequested { mode, bind: Box::new(bind) });
    }

    fn receive_unbind(&mut self, now: MonoTime, header: Header) {
        match self.state {
            State::Bound(_) => {
                self.state = State::Unbound;
                self.pending_sequence = header.sequence_number;
                self.timers.stop(Timer::EnquireLink);
                self.timers.stop(Timer::Inactivity);
                self.timers.set(Timer::Settle, now + self.config.response);
                self.events.push_back(Event::Unbinding);
                self.settled();
            }
            // Both asked at the same time, or the peer asks twice: agree, and go on waiting for what was asked.
            _ => self.send(Pdu::new(header.sequence_number, Body::UnbindResp(UnbindResp::default()))),
        }
    }

    fn receive_answer(&mut self, now: MonoTime, header: Header, frame: Bytes) {
        let Some(sent) = self.outgoing.take(header.sequence_number, header.command_id) else {
            self.counts.unexpected_answers += 1;
            return;
        };
        self.rearm_response();
        match sent.waiting {
            Waiting::Request(token) => {
                self.unanswered = 0;
                let answer = Box::new(self.decode_answer(header, frame));
                self.events.push_back(Event::Answered { token, answer });
            }
            Waiting::EnquireLink => {}
            Waiting::Unbind => self.finish(self.leaving),
            Waiting::Bind(mode) => {
                let answer = self.decode_answer(header, frame);
                self.receive_bind_answer(now, mode, answer);
            }
        }
    }

    /// An answer whose body cannot be read still tells its status.
    fn decode_answer(&mut self, header: Header, frame: Bytes) -> Pdu {
        Pdu::decode(frame).unwrap_or_else(|_| {
            self.counts.undecodable += 1;
            Pdu {
                status: header.command_status,
                sequence: header.sequence_number,
                body: Body::empty(header.command_id).unwrap_or_else(|| Body::GenericNack(GenericNack::default())),
            }
        })
    }

    fn receive_bind_answer(&mut self, now: MonoTime, mode: BindMode, answer: Pdu) {
        let refusal = RefusalStatus::new(answer.status);
        match (refusal, answer.body.as_bind_resp()) {
            (None, Some((_, resp))) => {
                // A message centre that does not tell its version is taken to speak the one that was asked for.
                let version = resp.tlvs.value::<InterfaceVersion>(Tag::SC_INTERFACE_VERSION);
                let ours = self.config.interface_version;
                self.peer_version = version.unwrap_or(ours).min(ours);
                let resp = resp.clone();
                self.state = State::Bound(mode);
                self.start_bound_timers(now);
                self.events.push_back(Event::Bound { mode, resp });
            }
            (refusal, _) => {
                // A generic_nack that claims success refuses all the same.
                let status = refusal.unwrap_or(RefusalStatus::ESME_RBINDFAIL);
                self.state = State::Open;
                self.timers.set(Timer::SessionInit, now + self.config.session_init);
                self.events.push_back(Event::BindRefused { status });
            }
        }
    }
}
