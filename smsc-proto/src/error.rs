//! What can be wrong with octets from a peer, and with values of ours that do not fit on the wire.
//!
//! Two severities: *answerable* errors carry the [`Header`], so that the session answers with the status the error
//! earns and reads on behind this PDU; *fatal* ones mean that the boundary of the next PDU is lost.

use thiserror::Error;

use crate::command::Header;
use crate::status::RefusalStatus;
use crate::tlv::Tag;

/// Why a frame is not a PDU.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The frame is whole but its content is not: answer it and go on with the next frame.
    #[error(transparent)]
    Answerable(#[from] BadPdu),
    /// The octets are no frame: answer at most once, then close the connection.
    #[error(transparent)]
    Fatal(#[from] FrameError),
}

impl DecodeError {
    /// The header of the PDU that was refused, when there is one to answer.
    pub fn header(&self) -> Option<&Header> {
        match self {
            DecodeError::Answerable(bad) => Some(&bad.header),
            DecodeError::Fatal(FrameError::TooLong { header, .. } | FrameError::Length { header, .. }) => Some(header),
            DecodeError::Fatal(FrameError::TooShort { .. } | FrameError::NoHeader { .. }) => None,
        }
    }

    /// The status an answer to these octets carries.
    pub fn status(&self) -> RefusalStatus {
        match self {
            DecodeError::Answerable(bad) => bad.status(),
            DecodeError::Fatal(error) => error.status(),
        }
    }
}

/// A whole frame whose body is not what its command_id promises.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} with sequence_number {}: {fault}", .header.command_id, .header.sequence_number)]
pub struct BadPdu {
    /// The header as received, for the answer.
    pub header: Header,
    /// The parameter and what was wrong with it.
    pub fault: FieldError,
}

impl BadPdu {
    /// The status the answer carries.
    pub fn status(&self) -> RefusalStatus {
        self.fault.status()
    }
}

/// A parameter that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// The name of the parameter in the specification.
    pub field: &'static str,
    /// What was wrong with it.
    pub problem: Problem,
}

impl FieldError {
    pub(crate) const fn new(field: &'static str, problem: Problem) -> Self {
        FieldError { field, problem }
    }

    /// The command_status this error earns (SMPP v3.4 section 5.1.3, v5.0 section 4.7.6).
    ///
    /// A parameter that is too long has a status of its own where the specification knows one. A body that ends too
    /// early is a wrong command_length, whichever parameter happened to stand at its end.
    pub fn status(&self) -> RefusalStatus {
        match self.problem {
            Problem::UnknownCommand => RefusalStatus::ESME_RINVCMDID,
            Problem::TlvStream => RefusalStatus::ESME_RINVOPTPARSTREAM,
            Problem::DestFlag { .. } => RefusalStatus::ESME_RINVDESTFLAG,
            Problem::Truncated { .. } | Problem::Unterminated if self.field == "short_message" => {
                RefusalStatus::ESME_RINVMSGLEN
            }
            Problem::Truncated { .. } | Problem::Unterminated => RefusalStatus::ESME_RINVCMDLEN,
            Problem::TooLong { .. } => match self.field {
                "system_id" => RefusalStatus::ESME_RINVSYSID,
                "password" => RefusalStatus::ESME_RINVPASWD,
                "system_type" => RefusalStatus::ESME_RINVSYSTYP,
                "service_type" => RefusalStatus::ESME_RINVSERTYP,
                "message_id" => RefusalStatus::ESME_RINVMSGID,
                "source_addr" => RefusalStatus::ESME_RINVSRCADR,
                "destination_addr" | "dest_addresses" => RefusalStatus::ESME_RINVDSTADR,
                "dl_name" => RefusalStatus::ESME_RINVDLNAME,
                "schedule_delivery_time" => RefusalStatus::ESME_RINVSCHED,
                "validity_period" => RefusalStatus::ESME_RINVEXPIRY,
                _ => RefusalStatus::ESME_RINVPARLEN,
            },
        }
    }
}

/// What was wrong with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Problem {
    /// The body ends before the parameter does.
    #[error("needs {needed} octets, but the PDU ends after {left}")]
    Truncated {
        /// Octets the parameter takes.
        needed: usize,
        /// Octets the body still held.
        left: usize,
    },
    /// A C-Octet String without a NUL before the end of the body.
    #[error("the PDU ends before the NUL that ends the string")]
    Unterminated,
    /// A C-Octet String above its maximum.
    #[error("longer than {octets_max} octets before its NUL")]
    TooLong {
        /// The maximum, without the NUL.
        octets_max: usize,
    },
    /// The octets behind the mandatory parameters are not a sequence of TLVs.
    #[error("the octets behind the mandatory parameters are no sequence of tag, length and value")]
    TlvStream,
    /// A dest_flag of submit_multi that is neither an SME address nor a distribution list.
    #[error("dest_flag is {value}, must be 1 (SME address) or 2 (distribution list)")]
    DestFlag {
        /// The flag as received.
        value: u8,
    },
    /// A command_id that neither SMPP v3.4 nor v5.0 defines.
    #[error("no operation of SMPP v3.4 or v5.0")]
    UnknownCommand,
}

/// Why a stream of octets holds no further frame. The connection cannot be read on after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A command_length that does not even cover the header.
    #[error("command_length is {command_length}, below the 16 octets of a header")]
    TooShort {
        /// command_length as received.
        command_length: u32,
    },
    /// A command_length above what this side accepts.
    #[error("command_length is {}, above the {limit} octets accepted here", .header.command_length)]
    TooLong {
        /// The whole header, so that a generic_nack can name the sequence_number.
        header: Header,
        /// The largest command_length accepted.
        limit: u32,
    },
    /// Fewer octets than a header has were handed to the decoder.
    #[error("{length} octets were handed over as a PDU, a header alone has 16")]
    NoHeader {
        /// Octets handed over.
        length: usize,
    },
    /// The frame handed to the decoder is not as long as its command_length says.
    #[error("command_length is {}, but {length} octets were handed over as one PDU", .header.command_length)]
    Length {
        /// The header at the front of the frame.
        header: Header,
        /// Octets handed over.
        length: usize,
    },
}

impl FrameError {
    /// The status a last generic_nack carries before the connection is closed: ESME_RINVCMDLEN.
    pub fn status(&self) -> RefusalStatus {
        RefusalStatus::ESME_RINVCMDLEN
    }
}

/// A list or string of ours that its length field cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field} has {count} entries or octets, its length field holds at most {count_max}")]
pub struct EncodeError {
    /// The name of the parameter in the specification.
    pub field: &'static str,
    /// What was to be encoded.
    pub count: usize,
    /// What the length field can hold.
    pub count_max: usize,
}

/// A value that the specification does not allow for its parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ValueError {
    /// More octets than the parameter may have.
    #[error("{field} has {length} octets, at most {octets_max} are allowed")]
    TooLong {
        /// The name of the parameter in the specification.
        field: &'static str,
        /// Octets given.
        length: usize,
        /// The maximum, without the NUL that ends a string.
        octets_max: usize,
    },
    /// A NUL inside a string that ends with its first NUL.
    #[error("{field} contains a NUL at octet {position}; a string ends with its first NUL")]
    Nul {
        /// The name of the parameter in the specification.
        field: &'static str,
        /// Where the NUL stands, from 0.
        position: usize,
    },
}

/// A TLV whose value has a length that its tag does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("TLV {tag:?} has {length} octets, must have {length_min} to {length_max}")]
pub struct TlvLengthError {
    /// The tag.
    pub tag: Tag,
    /// Octets of the value.
    pub length: usize,
    /// The fewest octets allowed.
    pub length_min: usize,
    /// The most octets allowed.
    pub length_max: usize,
}

impl TlvLengthError {
    /// The command_status this error earns.
    pub fn status(&self) -> RefusalStatus {
        RefusalStatus::ESME_RINVPARLEN
    }
}
