//! How the value of a TLV becomes a value of ours.

use bytes::Bytes;

use crate::types::{
    BroadcastContentType, BroadcastFrequencyInterval, InterfaceVersion, MessageId, MessageState, NetworkErrorCode,
    NetworkId, StatusText, TimeString,
};

/// A type that a TLV can hold.
pub trait TlvValue: Sized {
    /// Reads the value; `None` if it cannot have this length.
    fn from_value(value: Bytes) -> Option<Self>;
}

impl TlvValue for Bytes {
    #[inline]
    fn from_value(value: Bytes) -> Option<Self> {
        Some(value)
    }
}

macro_rules! fixed {
    ($($type:ty: $read:expr;)*) => {
        $(impl TlvValue for $type {
            #[inline]
            fn from_value(value: Bytes) -> Option<Self> {
                value.as_ref().try_into().ok().map($read)
            }
        })*
    };
}

fixed! {
    u8: u8::from_be_bytes;
    u16: u16::from_be_bytes;
    u32: u32::from_be_bytes;
    MessageState: |[octet]: [u8; 1]| MessageState(octet);
    InterfaceVersion: |[octet]: [u8; 1]| InterfaceVersion(octet);
    NetworkErrorCode: NetworkErrorCode::from_octets;
    BroadcastContentType: BroadcastContentType::from_octets;
    BroadcastFrequencyInterval: BroadcastFrequencyInterval::from_octets;
}

macro_rules! c_octets {
    ($($type:ty)*) => {
        $(impl TlvValue for $type {
            fn from_value(value: Bytes) -> Option<Self> {
                <$type>::new(without_nul(value)).ok()
            }
        })*
    };
}

c_octets! { MessageId NetworkId StatusText TimeString }

/// Many peers leave out the NUL, because the TLV has a length: both forms are read.
fn without_nul(mut value: Bytes) -> Bytes {
    if value.last() == Some(&0) {
        value.truncate(value.len() - 1);
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_is_read_with_and_without_its_nul() {
        for value in [b"42\0".as_slice(), b"42"] {
            let id = MessageId::from_value(Bytes::from_static(value)).expect("a short string");
            assert_eq!(id, "42");
        }
        assert_eq!(MessageId::from_value(Bytes::from_static(b"4\x002\0")), None);
    }

    #[test]
    fn an_integer_of_another_width_is_none() {
        assert_eq!(u16::from_value(Bytes::from_static(&[1])), None);
        assert_eq!(u16::from_value(Bytes::from_static(&[1, 2])), Some(0x0102));
        assert_eq!(u8::from_value(Bytes::new()), None);
    }
}
