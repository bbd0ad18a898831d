//! Scripts: what goes in, what comes out, octet by octet where it matters.

mod bind;
mod link;
mod properties;
mod requests;
mod versions;

use std::time::Duration;

use bytes::BytesMut;

use super::*;
use crate::pdu::{DeliverSm, DeliverSmResp, SubmitSm, SubmitSmResp};
use crate::types::{Address, MessageId};

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn at(seconds: u64) -> MonoTime {
    MonoTime::from_nanos(seconds * 1_000_000_000)
}

pub(super) fn config() -> SessionConfig {
    SessionConfig { window_incoming: 3, window_outgoing: 2, inactivity: Some(100 * SECOND), ..SessionConfig::default() }
}

/// A session and its peer, who sends PDUs and reads the answers.
pub(super) struct Script {
    pub(super) session: Session,
    pub(super) now: MonoTime,
}

impl Script {
    pub(super) fn centre() -> Script {
        Script::new(Side::MessageCentre)
    }

    pub(super) fn esme() -> Script {
        Script::new(Side::Esme)
    }

    fn new(side: Side) -> Script {
        Script { session: Session::new(side, config(), at(0)), now: at(0) }
    }

    /// A message centre whose ESME has bound.
    pub(super) fn bound(mode: BindMode) -> Script {
        Script::bound_with(mode, InterfaceVersion::V3_4)
    }

    /// The same, of an ESME that speaks `version`.
    pub(super) fn bound_with(mode: BindMode, version: InterfaceVersion) -> Script {
        let mut script = Script::centre();
        script.send(1, Body::bind(mode, Bind { interface_version: version, ..Bind::default() }));
        assert!(matches!(script.event(), Some(Event::BindRequested { .. })));
        script.session.bind_accept(script.now, "smsc".parse().expect("short")).expect("a bind waits");
        let answers = script.take_output();
        assert_eq!(answers.len(), 1, "{answers:?}");
        script
    }

    pub(super) fn send(&mut self, sequence: u32, body: Body) {
        self.send_pdu(Pdu::new(SequenceNumber(sequence), body));
    }

    pub(super) fn send_pdu(&mut self, pdu: Pdu) {
        let octets = octets(&pdu);
        self.session.handle_bytes(self.now, &octets);
    }

    pub(super) fn event(&mut self) -> Option<Event> {
        self.session.poll_event()
    }

    /// The request that came out, and the right to answer it.
    pub(super) fn request(&mut self) -> (Ticket, Body) {
        match self.event() {
            Some(Event::Request { ticket, body }) => (ticket, body),
            other => panic!("expected a request, got {other:?}"),
        }
    }

    pub(super) fn wait_until(&mut self, now: MonoTime) {
        self.now = now;
        self.session.handle_timeout(now);
    }

    pub(super) fn take_output(&mut self) -> Vec<Pdu> {
        decode_all(&self.session.output().split())
    }

    /// The one answer that is there, as operation, sequence_number and status.
    pub(super) fn answer(&mut self) -> (CommandId, u32, CommandStatus) {
        let pdus = self.take_output();
        assert_eq!(pdus.len(), 1, "{pdus:?}");
        (pdus[0].command_id(), pdus[0].sequence.0, pdus[0].status)
    }

    pub(super) fn close_reason(&mut self) -> CloseReason {
        match self.event() {
            Some(Event::Closed { reason }) => reason,
            other => panic!("expected the end, got {other:?}"),
        }
    }
}

pub(super) fn octets(pdu: &Pdu) -> BytesMut {
    let mut octets = BytesMut::new();
    pdu.encode(&mut octets).expect("it fits");
    octets
}

pub(super) fn decode_all(octets: &[u8]) -> Vec<Pdu> {
    let mut octets = BytesMut::from(octets);
    let mut framer = Framer::default();
    let mut pdus = vec![];
    while let Some(frame) = framer.next_frame(&mut octets).expect("whole PDUs") {
        pdus.push(Pdu::decode(frame).expect("what we send decodes"));
    }
    assert!(octets.is_empty(), "half a PDU was sent");
    pdus
}

pub(super) fn submit() -> Body {
    Body::SubmitSm(SubmitSm {
        destination_addr: Address::international("15551234567").expect("short"),
        short_message: "hello".into(),
        ..SubmitSm::default()
    })
}

pub(super) fn submit_resp(id: &str) -> Body {
    Body::SubmitSmResp(SubmitSmResp {
        message_id: Some(MessageId::new(id.to_owned()).expect("short")),
        ..SubmitSmResp::default()
    })
}

pub(super) fn deliver() -> Body {
    Body::DeliverSm(DeliverSm { short_message: "hello".into(), ..DeliverSm::default() })
}

pub(super) fn deliver_resp() -> Body {
    Body::DeliverSmResp(DeliverSmResp { message_id: Some(MessageId::default()), ..DeliverSmResp::default() })
}
