//! A session between a random peer, a random owner, a random network and a random clock.
//!
//! What happens is in [`steps`]; what the peer has sent and is owed in [`peer`]; what must hold after each step here.

mod peer;
mod steps;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;

use self::peer::Peer;
use crate::arbitrary::Source;
use crate::command::{CommandId, SequenceNumber};
use crate::frame::{COMMAND_LENGTH_MAX_DEFAULT, Framer};
use crate::pdu::{Bind, Body, Pdu};
use crate::session::state::check;
use crate::session::{CloseReason, Event, Session, SessionConfig, Side, State, Ticket};
use crate::status::RefusalStatus;
use crate::time::MonoTime;
use crate::types::{BindMode, InterfaceVersion};

const VERSIONS: [InterfaceVersion; 3] = [InterfaceVersion::V3_3, InterfaceVersion::V3_4, InterfaceVersion::V5_0];

/// Takes the octets of `input` as steps: the peer sends PDUs and other octets, which arrive whole or in pieces; the
/// owner answers, asks and writes; time passes, up to a deadline or past it.
///
/// # Panics
/// If a request is answered twice, by another operation's answer, or not at all though the session goes on; if a request
/// of the owner has not exactly one outcome, or a late one; if a window is exceeded; if the owner is told of what may
/// not be sent in that state; if anything follows the end; if the session sends what is no PDU, or what the peer's
/// version does not know; or if a session with a silent peer goes on for longer than its timers say.
pub fn session(input: &[u8]) {
    run(input);
}

/// Why the session ended.
pub(super) fn run(input: &[u8]) -> CloseReason {
    let mut source = Source::new(input);
    let mut world = World::new(&mut source);
    world.observe();
    while !source.is_empty() {
        world.step(&mut source);
        world.observe();
    }
    world.end()
}

/// Where the session stands by what its owner was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    Binding(BindMode),
    Bound(BindMode),
    Leaving,
    Over(CloseReason),
}

/// A request of the owner without an outcome.
struct Asked {
    command_id: CommandId,
    at: MonoTime,
}

struct World {
    session: Session,
    side: Side,
    config: SessionConfig,
    now: MonoTime,
    phase: Phase,
    /// What the peer sends arrives in pieces, when a step says so.
    in_pieces: bool,
    /// Output stays until a step writes it.
    slow_writer: bool,
    /// At the end the peer says nothing more, and its requests stay open.
    silent_end: bool,
    peer: Peer,
    /// When the peer asked to unbind.
    unbinding_since: Option<MonoTime>,
    tickets: Vec<Ticket>,
    /// By token.
    asked: BTreeMap<u64, Asked>,
    next_token: u64,
    next_sequence: SequenceNumber,
    /// Octets at the front of the output that were checked and wait to be written.
    checked: usize,
    /// PDUs sent.
    sent: u64,
    incoming_before: usize,
}

impl World {
    fn new(source: &mut Source<'_>) -> World {
        let (choice, habits) = (source.u8(), source.u8());
        let window = 1 + usize::from(choice >> 4) % 8;
        let side = if choice & 1 == 1 { Side::Esme } else { Side::MessageCentre };
        let config = SessionConfig {
            interface_version: VERSIONS[2 - usize::from(choice >> 1 & 3) % 3],
            window_incoming: window,
            window_outgoing: window,
            command_length_max: [COMMAND_LENGTH_MAX_DEFAULT, COMMAND_LENGTH_MAX_DEFAULT, 1_024, 64]
                [usize::from(habits & 3)],
            enquire_link: (habits & 4 == 0).then_some(Duration::from_secs(30)),
            inactivity: (habits & 8 == 0).then_some(Duration::from_secs(100)),
            ..SessionConfig::default()
        };
        World {
            session: Session::new(side, config.clone(), MonoTime::ZERO),
            side,
            now: MonoTime::ZERO,
            phase: Phase::Open,
            in_pieces: habits & 16 != 0,
            slow_writer: habits & 32 != 0,
            silent_end: habits & 64 != 0,
            peer: Peer::new(config.command_length_max),
            unbinding_since: None,
            tickets: vec![],
            asked: BTreeMap::new(),
            next_token: 0,
            next_sequence: SequenceNumber::FIRST,
            checked: 0,
            sent: 0,
            incoming_before: 0,
            config,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// Takes what came out and checks it.
    fn observe(&mut self) {
        self.check_outcome();
        while self.session.has_input() {
            let before = self.session.counts().received;
            self.session.handle_input(self.now);
            let done = self.session.counts().received > before || self.session.state() == State::Closed;
            assert!(done, "there is input that can be handled, and it is not");
            self.check_outcome();
        }
        self.check_standing();
    }

    fn check_outcome(&mut self) {
        if self.session.state() == State::Unbinding {
            self.phase = Phase::Leaving;
        }
        self.peer.heard(self.session.counts().received);
        self.check_output();
        let mut early = None;
        while let Some(event) = self.session.poll_event() {
            self.event(event, &mut early);
        }
        assert!(early.is_none() || self.is_over(), "request {early:?} was given up too early");
        if !self.slow_writer {
            self.write(usize::MAX);
        }
    }

    fn write(&mut self, octets_max: usize) {
        let count = self.session.output().len().min(octets_max);
        drop(self.session.output().split_to(count));
        self.checked -= count;
    }

    fn event(&mut self, event: Event, early: &mut Option<u64>) {
        assert!(!self.is_over(), "{event:?} after the end");
        match event {
            Event::Request { ticket, body } => {
                assert_eq!(ticket.command_id(), body.command_id());
                let Phase::Bound(mode) = self.phase else {
                    panic!("{body:?} in {:?}", self.phase);
                };
                assert_eq!(check(State::Bound(mode), self.side.peer(), body.command_id()), Ok(()));
                self.tickets.push(ticket);
            }
            Event::Answered { token, answer } => {
                let asked = self.asked.remove(&token).expect("a request has one outcome");
                let answers = [asked.command_id.response(), Some(CommandId::GENERIC_NACK)];
                assert!(answers.contains(&Some(answer.command_id())), "{answer:?} to {}", asked.command_id);
            }
            Event::Lost { token } => {
                let asked = self.asked.remove(&token).expect("a request has one outcome");
                if asked.at + self.config.response > self.now {
                    *early = Some(token);
                }
            }
            Event::Closed { reason } => {
                self.phase = Phase::Over(reason);
                assert!(self.asked.is_empty(), "requests without an outcome");
                if let (CloseReason::Unbound, Some(since)) = (reason, self.unbinding_since) {
                    let settled = self.tickets.is_empty() && self.peer.owed() == 0;
                    assert!(settled || since + self.config.response <= self.now, "unbound with requests unanswered");
                }
            }
            Event::BindRequested { mode, .. } => {
                assert_eq!((self.phase, self.side), (Phase::Open, Side::MessageCentre));
                self.phase = Phase::Binding(mode);
            }
            Event::Bound { mode, .. } => {
                assert_eq!((self.phase, self.side), (Phase::Binding(mode), Side::Esme));
                self.phase = Phase::Bound(mode);
            }
            Event::BindRefused { .. } => {
                assert!(matches!(self.phase, Phase::Binding(_)) && self.side == Side::Esme);
                self.phase = Phase::Open;
            }
            Event::Outbind(_) => assert_eq!((self.phase, self.side), (Phase::Open, Side::Esme)),
            Event::Alert(_) => assert!(matches!(self.phase, Phase::Bound(_)) && self.side == Side::Esme),
            Event::Unbinding => {
                assert!(matches!(self.phase, Phase::Bound(_)));
                self.phase = Phase::Leaving;
                self.unbinding_since = Some(self.now);
            }
        }
    }

    fn check_output(&mut self) {
        let version = self.session.peer_version();
        let mut octets = BytesMut::from(&self.session.output()[self.checked..]);
        self.checked += octets.len();
        assert!(!self.is_over() || octets.is_empty(), "something was sent after the end");
        let mut framer = Framer::new(u32::MAX);
        while let Some(frame) = framer.next_frame(&mut octets).expect("the session sends PDUs") {
            let pdu = Pdu::decode(frame).expect("the session sends PDUs that decode");
            self.sent += 1;
            assert!(version.has_tlvs() || pdu.body.tlvs().is_empty(), "{pdu:?} to a peer of {version}");
            if pdu.command_id().is_response() {
                self.peer.answered(&pdu);
            } else {
                assert_eq!(pdu.sequence, self.next_sequence, "our own sequence_numbers have no gap");
                self.next_sequence = self.next_sequence.next();
                self.peer.asked(&pdu);
            }
        }
        assert!(octets.is_empty(), "half a PDU was sent");
        assert_eq!(self.session.counts().sent, self.sent);
    }

    /// What must hold whenever nothing is left to be done.
    fn check_standing(&mut self) {
        let state = self.session.state();
        let agrees = match self.phase {
            Phase::Open => matches!(state, State::Open | State::Outbound),
            Phase::Binding(mode) => state == State::Binding(mode),
            Phase::Bound(mode) => state == State::Bound(mode),
            Phase::Leaving => matches!(state, State::Unbinding | State::Unbound),
            Phase::Over(_) => state == State::Closed,
        };
        assert!(agrees, "the owner was told of {:?}, the session is in {state:?}", self.phase);

        let open = self.session.incoming_open();
        assert!(open <= self.config.window_incoming.max(self.incoming_before), "a request beyond the window");
        assert_eq!(open, self.tickets.len());
        self.incoming_before = open;
        assert_eq!(self.session.outgoing_room(), self.config.window_outgoing.saturating_sub(self.asked.len()));

        let deadline = self.session.poll_timeout();
        match self.phase {
            Phase::Over(_) => assert_eq!(deadline, None),
            Phase::Open | Phase::Leaving => assert!(deadline.is_some(), "in {state:?} the peer is waited for forever"),
            // The owner is waited for, and what comes behind the bind waits too.
            Phase::Binding(mode) if self.side == Side::MessageCentre => {
                let bind = Body::bind(mode, Bind::default()).command_id();
                assert_eq!(self.peer.last_heard, Some(bind), "heard before the bind was answered");
            }
            Phase::Binding(_) => assert!(deadline.is_some(), "a bind waits forever"),
            Phase::Bound(_) => {
                let limited = self.config.enquire_link.or(self.config.inactivity).is_some() || !self.asked.is_empty();
                assert!(deadline.is_some() || !limited, "no timer runs");
            }
        }
    }

    /// What must hold once the session was told the time.
    fn check_due(&self) {
        let deadline = self.session.poll_timeout();
        assert!(deadline.is_none_or(|deadline| deadline > self.now), "what was due is still due");
        for (token, asked) in &self.asked {
            assert!(
                asked.at + self.config.response > self.now,
                "request {token} waits for longer than the response time"
            );
        }
    }

    fn end(mut self) -> CloseReason {
        self.slow_writer = false;
        if self.silent_end {
            self.end_in_silence();
        } else {
            self.end_in_order();
        }
        self.session.handle_disconnect();
        self.observe();
        assert!(self.asked.is_empty());
        match self.phase {
            Phase::Over(reason) => reason,
            phase => panic!("the connection is gone and the session in {phase:?}"),
        }
    }

    /// Everything is settled as far as the session lets it be, then nothing may be left open.
    fn end_in_order(&mut self) {
        loop {
            for ticket in std::mem::take(&mut self.tickets) {
                self.session.refuse(ticket, RefusalStatus::ESME_RSYSERR);
            }
            let bind = self.refuse_bind();
            self.observe();
            if !bind && self.tickets.is_empty() {
                break;
            }
        }
        if !self.is_over() {
            // What crosses an unbind is left for the peer to ask again.
            let (owed, possible) = (self.peer.owed(), self.peer.possible());
            let crossed = self.session.counts().crossed;
            assert!(
                (owed..=owed + possible).contains(&crossed),
                "{owed} answers have not come, but {crossed} requests crossed"
            );
        }
    }

    /// Nothing but time passes: a session that watches its peer finds out.
    fn end_in_silence(&mut self) {
        self.observe();
        while self.refuse_bind() {
            self.observe();
        }
        let response = self.config.response;
        let longest = match (self.phase, self.config.enquire_link, self.config.inactivity) {
            (Phase::Bound(_), Some(enquire_link), _) => response + enquire_link + response,
            (Phase::Bound(_), None, Some(inactivity)) => inactivity + response,
            (Phase::Bound(_), None, None) => return,
            (Phase::Open, ..) => self.config.session_init,
            _ => response,
        };
        // An unread deadline may have passed already.
        let start = self.now;
        self.session.handle_timeout(self.now);
        self.observe();
        while let Some(deadline) = self.session.poll_timeout() {
            self.now = deadline;
            self.session.handle_timeout(self.now);
            self.observe();
            self.check_due();
        }
        assert!(self.is_over(), "no timer runs in {:?}", self.phase);
        assert!(
            self.now <= start + longest,
            "a silent peer was found out after {:?}",
            self.now.saturating_since(start)
        );
    }

    fn refuse_bind(&mut self) -> bool {
        let refused = self.session.bind_refuse(self.now, RefusalStatus::ESME_RBINDFAIL).is_ok();
        if refused {
            self.phase = Phase::Open;
        }
        refused
    }
}
