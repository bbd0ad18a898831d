//! The result an answer carries: command_status (SMPP v3.4 section 5.1.3, v5.0 section 4.7.6).

use std::fmt;

use crate::types::InterfaceVersion;

/// A command_status. Any value survives a round trip; Debug and Display print the specification's name.
///
/// 0x400 to 0x4ff are the operator's own; every other value without a name is reserved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommandStatus(pub u32);

/// A command_status that is not ESME_ROK, so that a refusal cannot be sent as a success.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefusalStatus(CommandStatus);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        impl CommandStatus {
            /// No error.
            pub const ESME_ROK: CommandStatus = CommandStatus(0);
            $($(#[$doc])* pub const $name: CommandStatus = CommandStatus($value);)*

            /// The specification's name (that of v3.4 where the versions differ), if it defines this value.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    0 => Some("ESME_ROK"),
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }

        impl RefusalStatus {
            $($(#[$doc])* pub const $name: RefusalStatus = RefusalStatus(CommandStatus::$name);)*
        }
    };
}

/// Other names of values above: those of v5.0.
macro_rules! aliases {
    ($($(#[$doc:meta])* $name:ident = $other:ident;)*) => {
        impl CommandStatus {
            $($(#[$doc])* pub const $name: CommandStatus = CommandStatus::$other;)*
        }

        impl RefusalStatus {
            $($(#[$doc])* pub const $name: RefusalStatus = RefusalStatus::$other;)*
        }
    };
}

statuses! {
    /// Message length is invalid: short_message does not fit its sm_length, or is longer than allowed.
    ESME_RINVMSGLEN = 0x0000_0001;
    /// command_length is invalid.
    ESME_RINVCMDLEN = 0x0000_0002;
    /// command_id is not known or not supported.
    ESME_RINVCMDID = 0x0000_0003;
    /// The operation is not allowed in this state of the session.
    ESME_RINVBNDSTS = 0x0000_0004;
    /// Already bound.
    ESME_RALYBND = 0x0000_0005;
    /// priority_flag is invalid.
    ESME_RINVPRTFLG = 0x0000_0006;
    /// registered_delivery is invalid.
    ESME_RINVREGDLVFLG = 0x0000_0007;
    /// The message centre has a fault of its own.
    ESME_RSYSERR = 0x0000_0008;
    /// Source address is invalid.
    ESME_RINVSRCADR = 0x0000_000A;
    /// Destination address is invalid.
    ESME_RINVDSTADR = 0x0000_000B;
    /// message_id is invalid.
    ESME_RINVMSGID = 0x0000_000C;
    /// Bind refused for a reason that has no status of its own.
    ESME_RBINDFAIL = 0x0000_000D;
    /// Password is wrong.
    ESME_RINVPASWD = 0x0000_000E;
    /// system_id is not known.
    ESME_RINVSYSID = 0x0000_000F;
    /// cancel_sm failed.
    ESME_RCANCELFAIL = 0x0000_0011;
    /// replace_sm failed.
    ESME_RREPLACEFAIL = 0x0000_0013;
    /// Message queue is full.
    ESME_RMSGQFUL = 0x0000_0014;
    /// service_type is invalid.
    ESME_RINVSERTYP = 0x0000_0015;
    /// number_of_dests is invalid.
    ESME_RINVNUMDESTS = 0x0000_0033;
    /// Name of a distribution list is invalid.
    ESME_RINVDLNAME = 0x0000_0034;
    /// dest_flag is invalid.
    ESME_RINVDESTFLAG = 0x0000_0040;
    /// submit_sm with replace_if_present_flag is not possible here.
    ESME_RINVSUBREP = 0x0000_0042;
    /// esm_class is invalid.
    ESME_RINVESMCLASS = 0x0000_0043;
    /// Submitting to a distribution list is not possible.
    ESME_RCNTSUBDL = 0x0000_0044;
    /// submit_sm, data_sm or submit_multi failed.
    ESME_RSUBMITFAIL = 0x0000_0045;
    /// source_addr_ton is invalid.
    ESME_RINVSRCTON = 0x0000_0048;
    /// source_addr_npi is invalid.
    ESME_RINVSRCNPI = 0x0000_0049;
    /// dest_addr_ton is invalid.
    ESME_RINVDSTTON = 0x0000_0050;
    /// dest_addr_npi is invalid.
    ESME_RINVDSTNPI = 0x0000_0051;
    /// system_type is invalid.
    ESME_RINVSYSTYP = 0x0000_0053;
    /// replace_if_present_flag is invalid.
    ESME_RINVREPFLAG = 0x0000_0054;
    /// Number of messages is invalid.
    ESME_RINVNUMMSGS = 0x0000_0055;
    /// The ESME exceeded what it may send: send it again later.
    ESME_RTHROTTLED = 0x0000_0058;
    /// schedule_delivery_time is invalid.
    ESME_RINVSCHED = 0x0000_0061;
    /// validity_period is invalid.
    ESME_RINVEXPIRY = 0x0000_0062;
    /// Predefined message is invalid or not found.
    ESME_RINVDFTMSGID = 0x0000_0063;
    /// The receiving ESME has a temporary error: deliver again later.
    ESME_RX_T_APPN = 0x0000_0064;
    /// The receiving ESME has a permanent error: do not deliver this message again.
    ESME_RX_P_APPN = 0x0000_0065;
    /// The receiving ESME rejects the message.
    ESME_RX_R_APPN = 0x0000_0066;
    /// query_sm failed.
    ESME_RQUERYFAIL = 0x0000_0067;
    /// Error in the optional part of the PDU.
    ESME_RINVOPTPARSTREAM = 0x0000_00C0;
    /// TLV is not allowed here.
    ESME_ROPTPARNOTALLWD = 0x0000_00C1;
    /// A parameter has an invalid length.
    ESME_RINVPARLEN = 0x0000_00C2;
    /// A TLV is missing that this operation needs.
    ESME_RMISSINGOPTPARAM = 0x0000_00C3;
    /// A TLV has an invalid value.
    ESME_RINVOPTPARAMVAL = 0x0000_00C4;
    /// Delivery failed (data_sm_resp).
    ESME_RDELIVERYFAILURE = 0x0000_00FE;
    /// An error without a status of its own.
    ESME_RUNKNOWNERR = 0x0000_00FF;
    /// The ESME may not use this service_type (v5.0).
    ESME_RSERTYPUNAUTH = 0x0000_0100;
    /// The ESME may not use this operation (v5.0).
    ESME_RPROHIBITED = 0x0000_0101;
    /// service_type is not available (v5.0).
    ESME_RSERTYPUNAVAIL = 0x0000_0102;
    /// service_type is denied (v5.0).
    ESME_RSERTYPDENIED = 0x0000_0103;
    /// data_coding is invalid or not supported (v5.0).
    ESME_RINVDCS = 0x0000_0104;
    /// source_addr_subunit is invalid (v5.0).
    ESME_RINVSRCADDRSUBUNIT = 0x0000_0105;
    /// dest_addr_subunit is invalid (v5.0).
    ESME_RINVDSTADDRSUBUNIT = 0x0000_0106;
    /// broadcast_frequency_interval is invalid (v5.0).
    ESME_RINVBCASTFREQINT = 0x0000_0107;
    /// Broadcast alias name is invalid (v5.0).
    ESME_RINVBCASTALIAS_NAME = 0x0000_0108;
    /// broadcast_area_identifier has an invalid format (v5.0).
    ESME_RINVBCASTAREAFMT = 0x0000_0109;
    /// Number of broadcast areas is invalid (v5.0).
    ESME_RINVNUMBCAST_AREAS = 0x0000_010A;
    /// broadcast_content_type is invalid (v5.0).
    ESME_RINVBCASTCNTTYPE = 0x0000_010B;
    /// broadcast_message_class is invalid (v5.0).
    ESME_RINVBCASTMSGCLASS = 0x0000_010C;
    /// broadcast_sm failed (v5.0).
    ESME_RBCASTFAIL = 0x0000_010D;
    /// query_broadcast_sm failed (v5.0).
    ESME_RBCASTQUERYFAIL = 0x0000_010E;
    /// cancel_broadcast_sm failed (v5.0).
    ESME_RBCASTCANCELFAIL = 0x0000_010F;
    /// broadcast_rep_num is invalid (v5.0).
    ESME_RINVBCAST_REP = 0x0000_0110;
    /// broadcast_service_group is invalid (v5.0).
    ESME_RINVBCASTSRVGRP = 0x0000_0111;
    /// broadcast_channel_indicator is invalid (v5.0).
    ESME_RINVBCASTCHANIND = 0x0000_0112;
}

aliases! {
    /// v5.0's name of `ESME_RINVOPTPARSTREAM`.
    ESME_RINVTLVSTREAM = ESME_RINVOPTPARSTREAM;
    /// v5.0's name of `ESME_ROPTPARNOTALLWD`.
    ESME_RTLVNOTALLWD = ESME_ROPTPARNOTALLWD;
    /// v5.0's name of `ESME_RINVPARLEN`.
    ESME_RINVTLVLEN = ESME_RINVPARLEN;
    /// v5.0's name of `ESME_RMISSINGOPTPARAM`.
    ESME_RMISSINGTLV = ESME_RMISSINGOPTPARAM;
    /// v5.0's name of `ESME_RINVOPTPARAMVAL`.
    ESME_RINVTLVVAL = ESME_RINVOPTPARAMVAL;
}

impl CommandStatus {
    /// Whether the request succeeded.
    #[inline]
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }
}

impl CommandStatus {
    /// The status for a peer that speaks `version`: what v5.0 added is reserved in older versions, and becomes the nearest
    /// that they have.
    pub const fn for_version(self, version: InterfaceVersion) -> CommandStatus {
        if version.0 >= InterfaceVersion::V5_0.0 {
            return self;
        }
        match self {
            Self::ESME_RSERTYPUNAUTH | Self::ESME_RSERTYPUNAVAIL | Self::ESME_RSERTYPDENIED => Self::ESME_RINVSERTYP,
            Self::ESME_RPROHIBITED => Self::ESME_RINVBNDSTS,
            CommandStatus(0x0100..=0x03FF) => Self::ESME_RUNKNOWNERR,
            other => other,
        }
    }
}

impl RefusalStatus {
    /// `None` for ESME_ROK, which refuses nothing.
    #[inline]
    pub const fn new(status: CommandStatus) -> Option<RefusalStatus> {
        if status.is_ok() { None } else { Some(RefusalStatus(status)) }
    }

    /// The status as it goes on the wire.
    #[inline]
    pub const fn get(self) -> CommandStatus {
        self.0
    }
}

impl From<RefusalStatus> for CommandStatus {
    fn from(refusal: RefusalStatus) -> Self {
        refusal.0
    }
}

impl fmt::Display for CommandStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "command_status {:#010x}", self.0),
        }
    }
}

impl fmt::Debug for CommandStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RefusalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for RefusalStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_never_a_success() {
        assert_eq!(RefusalStatus::new(CommandStatus::ESME_ROK), None);
        let refusal = RefusalStatus::new(CommandStatus(0x0400)).expect("not ESME_ROK");
        assert_eq!(CommandStatus::from(refusal), CommandStatus(0x0400));
    }

    #[test]
    fn older_versions_are_told_what_they_know() {
        let told = |status: CommandStatus| {
            [InterfaceVersion::V3_3, InterfaceVersion::V3_4, InterfaceVersion::V5_0].map(|to| status.for_version(to))
        };
        let (known, newer) = (CommandStatus::ESME_RINVSERTYP, CommandStatus::ESME_RSERTYPUNAVAIL);
        assert_eq!(told(newer), [known, known, newer]);
        let (other, newer) = (CommandStatus::ESME_RUNKNOWNERR, CommandStatus::ESME_RBCASTFAIL);
        assert_eq!(told(newer), [other, other, newer]);
        for kept in [CommandStatus::ESME_ROK, CommandStatus::ESME_RTHROTTLED, CommandStatus(0x0400)] {
            assert_eq!(told(kept), [kept; 3]);
        }
    }

    #[test]
    fn names_are_those_of_the_specification() {
        assert_eq!(format!("{:?}", CommandStatus::ESME_ROK), "ESME_ROK");
        assert_eq!(format!("{:?}", RefusalStatus::ESME_RINVTLVSTREAM), "ESME_RINVOPTPARSTREAM");
        assert_eq!(format!("{:?}", CommandStatus(0x0112)), "ESME_RINVBCASTCHANIND");
        assert_eq!(format!("{:?}", CommandStatus(0x0405)), "command_status 0x00000405");
    }
}
