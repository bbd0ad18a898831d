//! Values of the broadcast TLVs that have fields of their own (SMPP v5.0 sections 4.8.4.8 and 4.8.4.11).

/// What a broadcast is about (SMPP v5.0 section 4.8.4.8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BroadcastContentType {
    /// The network the service type belongs to: 0 generic, 1 GSM, 2 TDMA, 3 CDMA.
    pub network_type: u8,
    /// The service, such as 0x0001 for emergency broadcasts.
    pub service: u16,
}

impl BroadcastContentType {
    /// The value as it stands in its TLV.
    pub const fn to_octets(self) -> [u8; 3] {
        let [high, low] = self.service.to_be_bytes();
        [self.network_type, high, low]
    }

    /// Reads the value of the TLV.
    pub const fn from_octets([network_type, high, low]: [u8; 3]) -> Self {
        BroadcastContentType { network_type, service: u16::from_be_bytes([high, low]) }
    }
}

/// How often a broadcast is repeated (SMPP v5.0 section 4.8.4.11).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct BroadcastFrequencyInterval {
    /// Unit of `count`: 0 as often as possible, 8 seconds, 9 minutes, 10 hours, 11 days, 12 weeks, 13 months, 14 years.
    pub unit: u8,
    /// Units between two broadcasts.
    pub count: u16,
}

impl BroadcastFrequencyInterval {
    /// The value as it stands in its TLV.
    pub const fn to_octets(self) -> [u8; 3] {
        let [high, low] = self.count.to_be_bytes();
        [self.unit, high, low]
    }

    /// Reads the value of the TLV.
    pub const fn from_octets([unit, high, low]: [u8; 3]) -> Self {
        BroadcastFrequencyInterval { unit, count: u16::from_be_bytes([high, low]) }
    }
}
