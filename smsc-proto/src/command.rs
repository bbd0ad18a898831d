//! The header of every PDU: command_length, command_id, command_status, sequence_number (SMPP v3.4 sections 3.2, 5.1).

use std::fmt;

use crate::error::FrameError;
use crate::status::CommandStatus;

/// Which operation a PDU belongs to, and whether it asks or answers (SMPP v3.4 section 5.1.2, v5.0 section 4.7.5).
///
/// Any value survives a round trip; Debug and Display print the specification's name, or the number if it has none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u32);

macro_rules! command_ids {
    ($($name:ident = $value:literal, $wire:literal;)*) => {
        impl CommandId {
            $(#[doc = concat!("`", $wire, "`")] pub const $name: CommandId = CommandId($value);)*

            /// The specification's name, if it defines this command_id.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($wire),)*
                    _ => None,
                }
            }
        }
    };
}

command_ids! {
    GENERIC_NACK = 0x8000_0000, "generic_nack";
    BIND_RECEIVER = 0x0000_0001, "bind_receiver";
    BIND_RECEIVER_RESP = 0x8000_0001, "bind_receiver_resp";
    BIND_TRANSMITTER = 0x0000_0002, "bind_transmitter";
    BIND_TRANSMITTER_RESP = 0x8000_0002, "bind_transmitter_resp";
    QUERY_SM = 0x0000_0003, "query_sm";
    QUERY_SM_RESP = 0x8000_0003, "query_sm_resp";
    SUBMIT_SM = 0x0000_0004, "submit_sm";
    SUBMIT_SM_RESP = 0x8000_0004, "submit_sm_resp";
    DELIVER_SM = 0x0000_0005, "deliver_sm";
    DELIVER_SM_RESP = 0x8000_0005, "deliver_sm_resp";
    UNBIND = 0x0000_0006, "unbind";
    UNBIND_RESP = 0x8000_0006, "unbind_resp";
    REPLACE_SM = 0x0000_0007, "replace_sm";
    REPLACE_SM_RESP = 0x8000_0007, "replace_sm_resp";
    CANCEL_SM = 0x0000_0008, "cancel_sm";
    CANCEL_SM_RESP = 0x8000_0008, "cancel_sm_resp";
    BIND_TRANSCEIVER = 0x0000_0009, "bind_transceiver";
    BIND_TRANSCEIVER_RESP = 0x8000_0009, "bind_transceiver_resp";
    OUTBIND = 0x0000_000B, "outbind";
    ENQUIRE_LINK = 0x0000_0015, "enquire_link";
    ENQUIRE_LINK_RESP = 0x8000_0015, "enquire_link_resp";
    SUBMIT_MULTI = 0x0000_0021, "submit_multi";
    SUBMIT_MULTI_RESP = 0x8000_0021, "submit_multi_resp";
    ALERT_NOTIFICATION = 0x0000_0102, "alert_notification";
    DATA_SM = 0x0000_0103, "data_sm";
    DATA_SM_RESP = 0x8000_0103, "data_sm_resp";
    BROADCAST_SM = 0x0000_0111, "broadcast_sm";
    BROADCAST_SM_RESP = 0x8000_0111, "broadcast_sm_resp";
    QUERY_BROADCAST_SM = 0x0000_0112, "query_broadcast_sm";
    QUERY_BROADCAST_SM_RESP = 0x8000_0112, "query_broadcast_sm_resp";
    CANCEL_BROADCAST_SM = 0x0000_0113, "cancel_broadcast_sm";
    CANCEL_BROADCAST_SM_RESP = 0x8000_0113, "cancel_broadcast_sm_resp";
}

/// Set in the command_id of every answer.
const RESPONSE_BIT: u32 = 0x8000_0000;

impl CommandId {
    /// Whether this is an answer (generic_nack included), known or not.
    #[inline]
    pub const fn is_response(self) -> bool {
        self.0 & RESPONSE_BIT != 0
    }

    /// The command_id that answers this request.
    ///
    /// `None` for answers, for outbind and alert_notification, which have none, and for values that the
    /// specification does not define, which earn a generic_nack.
    pub const fn response(self) -> Option<CommandId> {
        match self {
            CommandId::OUTBIND | CommandId::ALERT_NOTIFICATION => None,
            _ if self.is_response() || self.name().is_none() => None,
            _ => Some(CommandId(self.0 | RESPONSE_BIT)),
        }
    }

    /// The request this is the answer to; `None` for requests, generic_nack and values that are not defined.
    pub const fn request(self) -> Option<CommandId> {
        match self {
            CommandId::GENERIC_NACK => None,
            _ if !self.is_response() || self.name().is_none() => None,
            _ => Some(CommandId(self.0 & !RESPONSE_BIT)),
        }
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "command_id {:#010x}", self.0),
        }
    }
}

impl fmt::Debug for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Pairs an answer with its request (SMPP v3.4 section 5.1.4).
///
/// Ours run from 1 to 0x7fff_ffff. A peer's may be any value: it is echoed as it came.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SequenceNumber(pub u32);

impl SequenceNumber {
    /// The first number of a session.
    pub const FIRST: SequenceNumber = SequenceNumber(1);
    /// The last number before it starts again at 1.
    pub const LAST: SequenceNumber = SequenceNumber(0x7fff_ffff);
    /// For a generic_nack to octets whose own number could not be read (SMPP v3.4 section 4.3.1).
    pub const UNKNOWN: SequenceNumber = SequenceNumber(0);

    /// The number after this one; 1 after the last, and after any value that is out of range.
    #[inline]
    pub const fn next(self) -> SequenceNumber {
        if self.0 >= Self::LAST.0 { Self::FIRST } else { SequenceNumber(self.0 + 1) }
    }

    /// Whether the specification allows this number in a request.
    #[inline]
    pub const fn is_valid(self) -> bool {
        Self::FIRST.0 <= self.0 && self.0 <= Self::LAST.0
    }
}

impl fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The 16 octets in front of every PDU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Header {
    /// Octets of the whole PDU, these four included.
    pub command_length: u32,
    /// The operation.
    pub command_id: CommandId,
    /// The result an answer carries; ESME_ROK in requests.
    pub command_status: CommandStatus,
    /// Pairs request and answer.
    pub sequence_number: SequenceNumber,
}

impl Header {
    /// Octets of a header.
    pub const LENGTH: usize = 16;

    /// Reads the header at the front of `octets`, of which the body may still be missing.
    ///
    /// # Errors
    /// [`FrameError::NoHeader`] if there are fewer than 16 octets.
    #[inline]
    pub fn decode(octets: &[u8]) -> Result<Header, FrameError> {
        let Some(header) = octets.first_chunk::<{ Header::LENGTH }>() else {
            return Err(FrameError::NoHeader { length: octets.len() });
        };
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Ok(Header {
            command_length: word(0),
            command_id: CommandId(word(4)),
            command_status: CommandStatus(word(8)),
            sequence_number: SequenceNumber(word(12)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_pair_up() {
        assert_eq!(CommandId::SUBMIT_SM.response(), Some(CommandId::SUBMIT_SM_RESP));
        assert_eq!(CommandId::SUBMIT_SM_RESP.request(), Some(CommandId::SUBMIT_SM));
        assert_eq!(CommandId::CANCEL_BROADCAST_SM.response(), Some(CommandId::CANCEL_BROADCAST_SM_RESP));
        for unanswered in [CommandId::OUTBIND, CommandId::ALERT_NOTIFICATION, CommandId::GENERIC_NACK, CommandId(0x77)]
        {
            assert_eq!(unanswered.response(), None, "{unanswered}");
            assert_eq!(unanswered.request(), None, "{unanswered}");
        }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        assert_eq!(format!("{:?}", CommandId::BIND_TRANSCEIVER_RESP), "bind_transceiver_resp");
        assert_eq!(format!("{:?}", CommandId(0x0001_0200)), "command_id 0x00010200");
    }

    #[test]
    fn sequence_numbers_start_again_at_one() {
        assert_eq!(SequenceNumber::FIRST.next(), SequenceNumber(2));
        assert_eq!(SequenceNumber::LAST.next(), SequenceNumber::FIRST);
        assert_eq!(SequenceNumber(u32::MAX).next(), SequenceNumber::FIRST);
        assert!(!SequenceNumber::UNKNOWN.is_valid());
        assert!(SequenceNumber::LAST.is_valid());
    }
}
