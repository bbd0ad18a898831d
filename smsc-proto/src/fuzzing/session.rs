//! A session between a random peer, a random owner and a random clock.

use std::collections::HashMap;
use std::time::Duration;

use bytes::BytesMut;

use crate::arbitrary::{Sample, Source};
use crate::command::{CommandId, SequenceNumber};
use crate::frame::Framer;
use crate::pdu::{Bind, Body, DeliverSm, EnquireLink, Pdu, SubmitSm, SubmitSmResp, Unbind};
use crate::session::{Event, RequestError, Session, SessionConfig, Side, State, Ticket};
use crate::status::{CommandStatus, RefusalStatus};
use crate::time::MonoTime;
use crate::types::{BindMode, InterfaceVersion, SystemId};

const WINDOW: usize = 4;

/// Takes the octets of `input` as steps: the peer sends PDUs and plain octets, the owner answers and asks, time passes.
///
/// # Panics
/// If a request is answered twice, or not at all though the session goes on; if a request of the owner has not exactly
/// one outcome; if a window is exceeded; if anything follows the end; if the session sends what is no PDU.
pub fn session(input: &[u8]) {
    let mut source = Source::new(input);
    let side = if source.flag() { Side::Esme } else { Side::MessageCentre };
    let mut world = World::new(side);
    // Each step takes an octet, so there are no more steps than octets.
    for _ in 0..input.len() {
        world.step(&mut source);
        world.observe();
    }
    world.end();
}

struct World {
    session: Session,
    now: MonoTime,
    tickets: Vec<Ticket>,
    /// Requests of the owner without an outcome, by token.
    open_tokens: HashMap<u64, ()>,
    next_token: u64,
    /// Requests of the session that the peer has seen and not answered.
    asked: Vec<Pdu>,
    /// How often each sequence_number waits for an answer; `None` once the peer has sent octets that are no PDUs.
    unanswered: Option<HashMap<SequenceNumber, u32>>,
    /// Requests that have an answer only when they are refused.
    silent: HashMap<SequenceNumber, u32>,
    ended: bool,
}

impl World {
    fn new(side: Side) -> World {
        let config = SessionConfig {
            window_incoming: WINDOW,
            window_outgoing: WINDOW,
            inactivity: Some(Duration::from_secs(100)),
            ..SessionConfig::default()
        };
        World {
            session: Session::new(side, config, MonoTime::ZERO),
            now: MonoTime::ZERO,
            tickets: vec![],
            open_tokens: HashMap::new(),
            next_token: 0,
            asked: vec![],
            unanswered: Some(HashMap::new()),
            silent: HashMap::new(),
            ended: false,
        }
    }

    fn step(&mut self, source: &mut Source<'_>) {
        match source.u8() % 12 {
            0 => {
                let pdu = Pdu::sample(source);
                self.peer_sends(pdu);
            }
            1 => self.peer_asks(source, Body::SubmitSm(SubmitSm::default())),
            2 => {
                let versions = [InterfaceVersion::V3_3, InterfaceVersion::V3_4, InterfaceVersion::V5_0];
                let interface_version = versions[usize::from(source.u8()) % versions.len()];
                let bind = Bind { interface_version, ..Bind::default() };
                let mode = mode(source);
                self.peer_asks(source, Body::bind(mode, bind));
            }
            3 => {
                // Rarely, because nothing can be said about answers afterwards.
                if source.u8().is_multiple_of(8) && self.session.wants_input() {
                    self.unanswered = None;
                    let octets = source.octets(60);
                    self.session.handle_bytes(self.now, &octets);
                }
            }
            4 => {
                self.now = self.now + Duration::from_millis(u64::from(source.u16()));
                self.session.handle_timeout(self.now);
                let next = self.session.poll_timeout();
                assert!(next.is_none_or(|next| next > self.now), "what was due is still due");
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
            _ => {
                let body = match source.u8() % 8 {
                    0 => Body::Unbind(Unbind::default()),
                    _ => Body::DeliverSm(DeliverSm::default()),
                };
                self.peer_asks(source, body);
            }
        }
    }

    fn peer_asks(&mut self, source: &mut Source<'_>, body: Body) {
        let sequence = SequenceNumber(u32::from(source.u8()));
        self.peer_sends(Pdu::new(sequence, body));
    }

    fn peer_sends(&mut self, pdu: Pdu) {
        if !self.session.wants_input() {
            return;
        }
        let command_id = pdu.command_id();
        if let Some(unanswered) = &mut self.unanswered {
            match command_id {
                _ if command_id.is_response() => {}
                CommandId::OUTBIND | CommandId::ALERT_NOTIFICATION => {
                    *self.silent.entry(pdu.sequence).or_default() += 1;
                }
                _ => *unanswered.entry(pdu.sequence).or_default() += 1,
            }
        }
        let mut octets = BytesMut::new();
        pdu.encode(&mut octets).expect("what is sampled fits");
        self.session.handle_bytes(self.now, &octets);
    }

    fn peer_answers(&mut self, source: &mut Source<'_>) {
        if self.asked.is_empty() {
            return;
        }
        let at = usize::from(source.u8()) % self.asked.len();
        let request = self.asked.swap_remove(at);
        let status = RefusalStatus::new(CommandStatus(u32::from(source.u8() % 3)));
        let pdu = match (status, request.command_id().response().and_then(Body::empty)) {
            (None, Some(body)) => Pdu::new(request.sequence, body),
            (status, _) => {
                Pdu::refusal(request.command_id(), request.sequence, status.unwrap_or(RefusalStatus::ESME_RSYSERR))
            }
        };
        self.peer_sends(pdu);
    }

    fn owner_answers(&mut self, source: &mut Source<'_>) {
        if self.tickets.is_empty() {
            return;
        }
        let at = usize::from(source.u8()) % self.tickets.len();
        let ticket = self.tickets.swap_remove(at);
        self.answer(ticket);
    }

    fn answer(&mut self, ticket: Ticket) {
        match ticket.command_id() {
            CommandId::SUBMIT_SM => {
                self.session.respond(ticket, CommandStatus::ESME_ROK, Body::SubmitSmResp(SubmitSmResp::default()))
            }
            _ => self.session.refuse(ticket, RefusalStatus::ESME_RSYSERR),
        }
    }

    fn owner_asks(&mut self, source: &mut Source<'_>) {
        let body = match source.u8() % 4 {
            0 => Body::sample(source),
            1 => Body::SubmitSm(SubmitSm::default()),
            _ => Body::DeliverSm(DeliverSm::default()),
        };
        let room = self.session.outgoing_room();
        let token = self.next_token;
        match self.session.request(self.now, token, body.clone()) {
            Ok(()) => {
                assert!(room > 0, "a request went out beyond the window");
                self.next_token += 1;
                self.open_tokens.insert(token, ());
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
                let _ = self.session.bind_refuse(self.now, RefusalStatus::ESME_RBINDFAIL);
            }
            1 => {
                let mode = mode(source);
                let _ = self.session.bind(self.now, mode, Bind::default());
            }
            _ => {
                let _ = self.session.bind_accept(self.now, SystemId::default());
            }
        }
    }

    /// Takes what came out and checks it.
    fn observe(&mut self) {
        loop {
            while let Some(event) = self.session.poll_event() {
                self.event(event);
            }
            let octets = self.session.output().split();
            self.written(octets);
            if !self.session.has_input() {
                break;
            }
            let before = self.session.input().len();
            self.session.handle_input(self.now);
            if self.session.input().len() == before {
                break;
            }
        }
        assert!(self.session.incoming_open() <= WINDOW);
        assert_eq!(self.ended, self.session.state() == State::Closed);
        if self.ended {
            assert_eq!(self.session.poll_timeout(), None);
        }
    }

    fn event(&mut self, event: Event) {
        assert!(!self.ended, "{event:?} after the end");
        match event {
            Event::Request { ticket, .. } => self.tickets.push(ticket),
            Event::Answered { token, .. } | Event::Lost { token } => {
                let open = self.open_tokens.remove(&token);
                assert!(open.is_some(), "request {token} has two outcomes");
            }
            Event::Closed { .. } => {
                self.ended = true;
                assert!(self.open_tokens.is_empty(), "requests without an outcome");
            }
            Event::BindRequested { .. }
            | Event::Bound { .. }
            | Event::BindRefused { .. }
            | Event::Outbind(_)
            | Event::Alert(_)
            | Event::Unbinding => {}
        }
    }

    fn written(&mut self, mut octets: BytesMut) {
        let mut framer = Framer::default();
        while let Some(frame) = framer.next_frame(&mut octets).expect("the session sends PDUs") {
            let pdu = Pdu::decode(frame).expect("the session sends PDUs that decode");
            if pdu.command_id().is_response() {
                self.answered(&pdu);
            } else {
                self.asked.push(pdu);
            }
        }
        assert!(octets.is_empty(), "half a PDU was sent");
    }

    fn answered(&mut self, pdu: &Pdu) {
        let Some(unanswered) = &mut self.unanswered else {
            return;
        };
        for waiting in [unanswered, &mut self.silent] {
            if let Some(count) = waiting.get_mut(&pdu.sequence).filter(|count| **count > 0) {
                *count -= 1;
                return;
            }
        }
        panic!("an answer to nothing: {pdu:?}");
    }

    /// Everything is settled as far as the session lets it be, then nothing may be left open.
    fn end(&mut self) {
        loop {
            for ticket in std::mem::take(&mut self.tickets) {
                self.answer(ticket);
            }
            let refused = self.session.bind_refuse(self.now, RefusalStatus::ESME_RBINDFAIL);
            self.observe();
            if refused.is_err() && self.tickets.is_empty() {
                break;
            }
        }
        if !self.ended {
            let left = self.unanswered.iter().flat_map(HashMap::values).sum::<u32>();
            // What crosses an unbind is left for the peer to ask again.
            assert!(u64::from(left) <= self.session.counts().crossed, "requests without an answer");
        }
        self.session.handle_disconnect();
        self.observe();
        assert!(self.ended && self.open_tokens.is_empty());
    }
}

fn mode(source: &mut Source<'_>) -> BindMode {
    BindMode::ALL[usize::from(source.u8()) % BindMode::ALL.len()]
}
