//! What the network said about a failed delivery (SMPP v3.4 section 5.3.2.31).

use std::fmt;

/// Value of the network_error_code TLV.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkErrorCode {
    /// Which network the code belongs to: 1 ANSI-136, 2 IS-95, 3 GSM; v5.0 adds 4 to 8, of which 8 is the
    /// message centre itself.
    pub network_type: u8,
    /// The code, as that network numbers it.
    pub error_code: u16,
}

impl NetworkErrorCode {
    /// network_type of GSM.
    pub const GSM: u8 = 3;

    /// The value as it stands in its TLV.
    pub const fn to_octets(self) -> [u8; 3] {
        let [high, low] = self.error_code.to_be_bytes();
        [self.network_type, high, low]
    }

    /// Reads the value of the TLV.
    pub const fn from_octets([network_type, high, low]: [u8; 3]) -> Self {
        NetworkErrorCode { network_type, error_code: u16::from_be_bytes([high, low]) }
    }
}

impl fmt::Debug for NetworkErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of network {}", self.error_code, self.network_type)
    }
}
