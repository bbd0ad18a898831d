//! The parameters of bind and outbind (SMPP v3.4 sections 5.2.1 to 5.2.7).

use std::fmt;

use crate::types::macros::{c_octet_string, octet_field};

c_octet_string! {
    /// Who binds, at most 15 octets (SMPP v3.4 section 5.2.1).
    SystemId, "system_id", 15, shown
}

c_octet_string! {
    /// The password of a bind, at most 8 octets (SMPP v3.4 section 5.2.2). Debug does not show it.
    Password, "password", 8, secret
}

c_octet_string! {
    /// What kind of system binds, at most 12 octets (SMPP v3.4 section 5.2.3).
    SystemType, "system_type", 12, shown
}

c_octet_string! {
    /// The addresses an ESME serves, as a UNIX regular expression of at most 40 octets (SMPP v3.4 section 5.2.7).
    AddressRange, "address_range", 40, shown
}

/// The version of SMPP a side speaks (SMPP v3.4 section 5.2.4). Values up to 0x33 stand for v3.3 and older.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceVersion(pub u8);

impl InterfaceVersion {
    /// SMPP v3.3.
    pub const V3_3: InterfaceVersion = InterfaceVersion(0x33);
    /// SMPP v3.4.
    pub const V3_4: InterfaceVersion = InterfaceVersion(0x34);
    /// SMPP v5.0.
    pub const V5_0: InterfaceVersion = InterfaceVersion(0x50);

    /// Whether this side understands TLVs: v3.4 and newer (SMPP v3.4 section 3.4).
    #[inline]
    pub const fn has_tlvs(self) -> bool {
        self.0 >= Self::V3_4.0
    }
}

/// v3.4, the version of nearly every ESME.
impl Default for InterfaceVersion {
    fn default() -> Self {
        InterfaceVersion::V3_4
    }
}

impl fmt::Display for InterfaceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 4, self.0 & 0x0f)
    }
}

impl fmt::Debug for InterfaceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{self}")
    }
}

octet_field!(InterfaceVersion);

/// What a session may carry: one of the three bind operations (SMPP v3.4 section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BindMode {
    /// The ESME submits.
    Transmitter,
    /// The ESME receives.
    Receiver,
    /// Both.
    Transceiver,
}

impl BindMode {
    /// Every mode.
    pub const ALL: [BindMode; 3] = [BindMode::Transmitter, BindMode::Receiver, BindMode::Transceiver];

    /// Whether the ESME may submit.
    #[inline]
    pub const fn can_submit(self) -> bool {
        matches!(self, BindMode::Transmitter | BindMode::Transceiver)
    }

    /// Whether messages may be delivered to the ESME.
    #[inline]
    pub const fn can_receive(self) -> bool {
        matches!(self, BindMode::Receiver | BindMode::Transceiver)
    }
}

impl fmt::Display for BindMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BindMode::Transmitter => "transmitter",
            BindMode::Receiver => "receiver",
            BindMode::Transceiver => "transceiver",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let password: Password = "secret1".parse().expect("7 octets");
        assert_eq!(format!("{password:?}"), "(hidden)");
        assert_eq!(format!("{:?}", Password::default()), "(empty)");
    }

    #[test]
    fn versions_know_whether_they_have_tlvs() {
        assert!(!InterfaceVersion::V3_3.has_tlvs());
        assert!(!InterfaceVersion(0).has_tlvs());
        assert!(InterfaceVersion::V3_4.has_tlvs() && InterfaceVersion::V5_0.has_tlvs());
        assert_eq!(InterfaceVersion::V5_0.to_string(), "5.0");
    }

    #[test]
    fn modes_say_what_they_may() {
        let submit: Vec<BindMode> = BindMode::ALL.into_iter().filter(|mode| mode.can_submit()).collect();
        let receive: Vec<BindMode> = BindMode::ALL.into_iter().filter(|mode| mode.can_receive()).collect();
        assert_eq!(submit, [BindMode::Transmitter, BindMode::Transceiver]);
        assert_eq!(receive, [BindMode::Receiver, BindMode::Transceiver]);
    }
}
