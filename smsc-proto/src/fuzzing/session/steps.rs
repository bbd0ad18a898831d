//! What may happen to a session.

use std::time::Duration;

use super::{Asked, Phase, VERSIONS, World};
use crate::arbitrary::{Sample, Source};
use crate::command::{CommandId, SequenceNumber};
use crate::fuzzing::framed;
use crate::pdu::{Bind, BindResp, Body, COMMAND_IDS, DeliverSm, EnquireLink, Pdu, SubmitSm, Unbind};
use crate::session::{RequestError, Side, State, Ticket};
use crate::status::{CommandStatus, RefusalStatus};
use crate::time::MonoTime;
use crate::tlv::{Tag, Tlvs};
use crate::types::{BindMode, SystemId};

/// Octets that are read at once.
const READ_MAX: usize = 16 * 1024;

/// Octets of a message_payload of which a few reach the limits of what waits to be read or written.
const LARGE: usize = 60_000;

impl World {
    pub(super) fn step(&mut self, source: &mut Source<'_>) {
        match source.u8() % 16 {
            0 => {
                let pdu = Pdu::sample(source);
                self.peer_sends(&pdu);
            }
            1 => self.peer_asks(source, Body::SubmitSm(SubmitSm::default())),
            2 => self.peer_binds(source),
            3 => self.peer_sends_octets(source),
            4 => {
                self.now = self.now + Duration::from_millis(u64::from(source.u16()));
                self.time_passes();
            }
            5 | 6 => self.owner_answers(source),
            7 => self.owner_asks(source),
            8 => self.owner_binds(source),
            9 => self.peer_answers(source),
            10 => match source.u8() % 16 {
                0 => self.session.unbind(self.now),
                1 => self.session.handle_disconnect(),
                2 => self.session.close(),
                _ => self.peer_asks(source, Body::EnquireLink(EnquireLink::default())),
            },
            11 => {
                let body = match source.u8() % 8 {
                    0 => Body::Unbind(Unbind::default()),
                    1 => Body::DeliverSm(DeliverSm { tlvs: large(), ..DeliverSm::default() }),
                    2 => Body::SubmitSm(SubmitSm { tlvs: large(), ..SubmitSm::default() }),
                    _ => Body::DeliverSm(DeliverSm::default()),
                };
                self.peer_asks(source, body);
            }
            12 => self.time_passes_to_deadline(source),
            // Nobody has told the session yet.
            13 => self.now = self.now + Duration::from_millis(u64::from(source.u16())),
            14 => self.owner_sets(source),
            _ => match source.u8() {
                count if count & 1 == 0 => self.arrive(usize::from(count) / 2),
                u8::MAX => self.write(usize::MAX),
                count => self.write(usize::from(count) * 1_024),
            },
        }
    }

    fn time_passes(&mut self) {
        self.session.handle_timeout(self.now);
        self.check_outcome();
        self.check_due();
    }

    /// To just before the deadline, to it, or past it.
    fn time_passes_to_deadline(&mut self, source: &mut Source<'_>) {
        let Some(deadline) = self.session.poll_timeout() else {
            return;
        };
        let nanos = deadline.as_nanos();
        let then = MonoTime::from_nanos(match source.u8() % 4 {
            0 => nanos - 1,
            1 => nanos + 1,
            _ => nanos,
        });
        self.now = self.now.max(then);
        self.time_passes();
    }

    fn peer_asks(&mut self, source: &mut Source<'_>, body: Body) {
        let sequence = SequenceNumber(u32::from(source.u8()));
        self.peer_sends(&Pdu::new(sequence, body));
    }

    fn peer_binds(&mut self, source: &mut Source<'_>) {
        let interface_version = VERSIONS[usize::from(source.u8()) % VERSIONS.len()];
        let bind = Bind { interface_version, ..Bind::default() };
        let mode = mode(source);
        self.peer_asks(source, Body::bind(mode, bind));
    }

    fn peer_sends(&mut self, pdu: &Pdu) {
        pdu.encode(&mut self.peer.wire).expect("what is sampled fits");
        self.sent_by_peer();
    }

    /// A frame with a body that need not be its operation's; an operation that does not exist; or no frame.
    fn peer_sends_octets(&mut self, source: &mut Source<'_>) {
        let choice = source.u8();
        let octets = match choice % 64 {
            0 => source.octets(60),
            1 => framed(CommandId(source.u32()), &source.octets(60)),
            _ => framed(COMMAND_IDS[usize::from(choice) % COMMAND_IDS.len()], &source.octets(60)),
        };
        self.peer.wire.extend_from_slice(&octets);
        self.sent_by_peer();
    }

    fn sent_by_peer(&mut self) {
        if !self.in_pieces {
            self.arrive(usize::MAX);
        }
    }

    /// Up to so many octets are read.
    fn arrive(&mut self, mut octets_max: usize) {
        while octets_max > 0 && !self.peer.wire.is_empty() && self.session.wants_input() {
            let count = self.peer.wire.len().min(octets_max).min(READ_MAX);
            octets_max -= count;
            let octets = self.peer.wire.split_to(count);
            self.peer.arrives(&octets);
            self.session.handle_bytes(self.now, &octets);
        }
    }

    fn peer_answers(&mut self, source: &mut Source<'_>) {
        if self.peer.asked.is_empty() {
            return;
        }
        // Mostly the first that was asked; what is answered is asked about no more, mostly.
        let choice = source.u8();
        let at = usize::from(choice & 15) % self.peer.asked.len();
        let (command_id, sequence) = self.peer.asked[at];
        if choice & 0x80 == 0 {
            self.peer.asked.remove(at);
        }
        let kind = source.u8();
        let response = command_id.response();
        let status = CommandStatus(u32::from(kind >> 3));
        let body = match (kind % 8, response) {
            (0..4, Some(response)) => Body::empty(response),
            (4, Some(response)) => Body::sample_of(response, source),
            (
                5,
                Some(
                    CommandId::BIND_RECEIVER_RESP | CommandId::BIND_TRANSMITTER_RESP | CommandId::BIND_TRANSCEIVER_RESP,
                ),
            ) => {
                let mut tlvs = Tlvs::new();
                tlvs.push_u8(Tag::SC_INTERFACE_VERSION, source.u8());
                let resp = BindResp { system_id: Some(SystemId::default()), tlvs };
                BindMode::ALL
                    .into_iter()
                    .map(|mode| Body::bind_resp(mode, resp.clone()))
                    .find(|body| Some(body.command_id()) == response)
            }
            (6, _) => Some(Body::sample(source)),
            _ => Body::empty(CommandId::GENERIC_NACK),
        };
        if let Some(body) = body {
            self.peer_sends(&Pdu { status, sequence, body });
        }
    }

    fn owner_answers(&mut self, source: &mut Source<'_>) {
        if self.tickets.is_empty() {
            return;
        }
        let choice = source.u8();
        let at = usize::from(choice & 15) % self.tickets.len();
        let ticket = self.tickets.swap_remove(at);
        self.answer(source, choice >> 4, ticket);
    }

    fn answer(&mut self, source: &mut Source<'_>, kind: u8, ticket: Ticket) {
        let response = ticket.command_id().response().expect("the owner is asked what it can answer");
        let body = if kind < 4 { Body::empty(response) } else { Body::sample_of(response, source) };
        match body {
            Some(body) if kind != 1 => {
                let status = CommandStatus(if kind.is_multiple_of(2) { 0 } else { source.u32() });
                self.session.respond(ticket, status, body);
            }
            _ => self.session.refuse(ticket, RefusalStatus::ESME_RMSGQFUL),
        }
    }

    fn owner_asks(&mut self, source: &mut Source<'_>) {
        let body = match source.u8() % 8 {
            0 => Body::sample(source),
            1 => Body::DeliverSm(DeliverSm { tlvs: large(), ..DeliverSm::default() }),
            2 => Body::SubmitSm(SubmitSm { tlvs: large(), ..SubmitSm::default() }),
            3 | 4 => Body::SubmitSm(SubmitSm::default()),
            _ => Body::DeliverSm(DeliverSm::default()),
        };
        let room = self.session.outgoing_room();
        let token = self.next_token;
        let command_id = body.command_id();
        match self.session.request(self.now, token, body.clone()) {
            Ok(()) => {
                assert!(room > 0, "a request went out beyond the window");
                self.next_token += 1;
                self.asked.insert(token, Asked { command_id, at: self.now });
            }
            Err(RequestError::WindowFull) => assert_eq!(room, 0),
            Err(RequestError::NotAllowed { .. }) => {
                let _ = self.session.notify(body);
            }
            Err(RequestError::Encode(_)) => {}
        }
    }

    fn owner_binds(&mut self, source: &mut Source<'_>) {
        match source.u8() % 4 {
            0 => {
                self.refuse_bind();
            }
            1 => {
                let mode = mode(source);
                if self.session.bind(self.now, mode, Bind::default()).is_ok() {
                    self.phase = Phase::Binding(mode);
                }
            }
            _ => {
                let accepted = self.session.bind_accept(self.now, SystemId::default());
                if let (Ok(()), Phase::Binding(mode)) = (accepted, self.phase) {
                    self.phase = Phase::Bound(mode);
                }
            }
        }
    }

    /// What an account brings along, which is known when it binds, and what changes while it is bound.
    fn owner_sets(&mut self, source: &mut Source<'_>) {
        let choice = source.u8();
        let window = 1 + usize::from(choice >> 4) % 8;
        match choice % 4 {
            0 => {
                let percent = source.u8();
                self.session.set_congestion((percent < 200).then_some(percent));
            }
            1 if self.is_about_to_be_bound() => {
                self.config.enquire_link = (choice & 4 == 0).then_some(Duration::from_secs(1 + u64::from(source.u8())));
                self.config.inactivity = (choice & 8 == 0).then_some(Duration::from_secs(1 + u64::from(source.u8())));
                self.config.response = Duration::from_secs(1 + u64::from(source.u8()));
                let (enquire_link, inactivity) = (self.config.enquire_link, self.config.inactivity);
                self.session.set_timers(enquire_link, inactivity, self.config.response);
            }
            _ => {
                self.config.window_incoming = window;
                self.config.window_outgoing = 1 + (window + usize::from(choice % 4)) % 8;
                self.session.set_windows(self.config.window_incoming, self.config.window_outgoing);
            }
        }
    }

    fn is_about_to_be_bound(&self) -> bool {
        match self.session.state() {
            State::Open | State::Outbound => true,
            State::Binding(_) => self.side == Side::MessageCentre,
            _ => false,
        }
    }
}

fn mode(source: &mut Source<'_>) -> BindMode {
    BindMode::ALL[usize::from(source.u8()) % BindMode::ALL.len()]
}

fn large() -> Tlvs {
    let mut tlvs = Tlvs::new();
    tlvs.push(Tag::MESSAGE_PAYLOAD, &[0; LARGE]).expect("it fits a length of two octets");
    tlvs
}
