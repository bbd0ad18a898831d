//! What the peer has sent, what of that has been heard, and what it is owed for that.

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;

use crate::command::{CommandId, Header, SequenceNumber};
use crate::error::FrameError;
use crate::frame::Framer;
use crate::pdu::Pdu;

pub(super) struct Peer {
    /// On its way.
    pub(super) wire: BytesMut,
    /// Arrived and not heard, as far as `framer` tells.
    arrived: BytesMut,
    framer: Framer,
    heard: u64,
    /// What was heard last.
    pub(super) last_heard: Option<CommandId>,
    /// Answers that have to come, by what they have to be.
    owed: BTreeMap<(CommandId, SequenceNumber), u64>,
    /// Refusals that may come: of operations that have no answer, and of octets that are no PDU.
    possible: BTreeMap<SequenceNumber, u64>,
    /// Requests of the session; those that were answered stay for a second answer.
    pub(super) asked: VecDeque<(CommandId, SequenceNumber)>,
}

/// Requests of the session that the peer remembers.
const ASKED_MAX: usize = 16;

impl Peer {
    pub(super) fn new(command_length_max: u32) -> Peer {
        Peer {
            wire: BytesMut::new(),
            arrived: BytesMut::new(),
            framer: Framer::new(command_length_max),
            heard: 0,
            last_heard: None,
            owed: BTreeMap::new(),
            possible: BTreeMap::new(),
            asked: VecDeque::new(),
        }
    }

    pub(super) fn arrives(&mut self, octets: &[u8]) {
        self.arrived.extend_from_slice(octets);
    }

    /// The session has heard `received` PDUs so far.
    pub(super) fn heard(&mut self, received: u64) {
        while self.heard < received {
            let frame =
                self.framer.next_frame(&mut self.arrived).ok().flatten().expect("it was sent before it is heard");
            let header = Header::decode(&frame).expect("a frame has a header");
            self.heard += 1;
            self.last_heard = Some(header.command_id);
            let (command_id, sequence) = (header.command_id, header.sequence_number);
            match (command_id, command_id.response()) {
                _ if command_id.is_response() => {}
                (CommandId::OUTBIND | CommandId::ALERT_NOTIFICATION, _) => {
                    *self.possible.entry(sequence).or_default() += 1;
                }
                (_, response) => {
                    let answer = response.unwrap_or(CommandId::GENERIC_NACK);
                    *self.owed.entry((answer, sequence)).or_default() += 1;
                }
            }
        }
    }

    /// An answer has come.
    pub(super) fn answered(&mut self, pdu: &Pdu) {
        let owed = self.owed.get_mut(&(pdu.command_id(), pdu.sequence));
        if let Some(count) = owed.filter(|count| **count > 0) {
            *count -= 1;
            return;
        }
        assert_eq!(pdu.command_id(), CommandId::GENERIC_NACK, "an answer to nothing: {pdu:?}");
        if let Some(count) = self.possible.get_mut(&pdu.sequence).filter(|count| **count > 0) {
            *count -= 1;
            return;
        }
        let sequence = match self.framer.next_frame(&mut self.arrived) {
            Err(FrameError::TooLong { header, .. }) => header.sequence_number,
            Err(_) => SequenceNumber::UNKNOWN,
            Ok(_) => panic!("an answer to nothing: {pdu:?}"),
        };
        assert_eq!(sequence, pdu.sequence, "the answer to octets that are no PDU");
        // Said once.
        self.arrived.clear();
    }

    /// Answers that have not come.
    pub(super) fn owed(&self) -> u64 {
        self.owed.values().sum()
    }

    /// Refusals that may come and have not. Where a generic_nack could be one or an answer that is owed, it counted as
    /// that answer.
    pub(super) fn possible(&self) -> u64 {
        self.possible.values().sum()
    }

    /// A request has come.
    pub(super) fn asked(&mut self, pdu: &Pdu) {
        if self.asked.len() == ASKED_MAX {
            self.asked.pop_front();
        }
        self.asked.push_back((pdu.command_id(), pdu.sequence));
    }
}
