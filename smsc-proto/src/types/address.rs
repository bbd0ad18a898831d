//! Addresses: type of number, numbering plan, digits (SMPP v3.4 sections 5.2.5 to 5.2.9).

use std::fmt;

use bytes::Bytes;

use crate::codec::{Field, Reader, Writer};
use crate::error::{EncodeError, FieldError, ValueError};
use crate::types::macros::{c_octet_string, octet_code};

octet_code! {
    /// Type of number (SMPP v3.4 section 5.2.5).
    Ton {
        /// Not known.
        UNKNOWN = 0;
        /// With country code.
        INTERNATIONAL = 1;
        /// Without country code.
        NATIONAL = 2;
        /// Known to the network only.
        NETWORK_SPECIFIC = 3;
        /// Number of a subscriber.
        SUBSCRIBER_NUMBER = 4;
        /// Letters, not digits.
        ALPHANUMERIC = 5;
        /// Short form of a number.
        ABBREVIATED = 6;
    }
}

octet_code! {
    /// Numbering plan indicator (SMPP v3.4 section 5.2.6).
    Npi {
        /// Not known.
        UNKNOWN = 0;
        /// ISDN (E.163, E.164).
        ISDN = 1;
        /// Data (X.121).
        DATA = 3;
        /// Telex (F.69).
        TELEX = 4;
        /// Land mobile (E.212).
        LAND_MOBILE = 6;
        /// National.
        NATIONAL = 8;
        /// Private.
        PRIVATE = 9;
        /// ERMES.
        ERMES = 10;
        /// Internet (IP).
        INTERNET = 14;
        /// WAP client id.
        WAP_CLIENT_ID = 18;
    }
}

c_octet_string! {
    /// The digits (or letters) of an address, at most 20 (SMPP v3.4 sections 5.2.8 and 5.2.9). Empty: not given.
    Addr, "addr", 20, shown
}

c_octet_string! {
    /// The address of data_sm and alert_notification, at most 64 octets (SMPP v3.4 sections 4.7.1 and 4.12.1).
    LongAddr, "addr", 64, shown
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $addr:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name {
            /// Type of number.
            pub ton: Ton,
            /// Numbering plan.
            pub npi: Npi,
            /// Digits or letters; empty for "not given".
            pub addr: $addr,
        }

        impl $name {
            /// Puts an address together.
            ///
            /// # Errors
            /// [`ValueError`] if `addr` is too long or contains a NUL.
            pub fn new(ton: Ton, npi: Npi, addr: impl Into<Bytes>) -> Result<Self, ValueError> {
                Ok($name { ton, npi, addr: $addr::new(addr)? })
            }

            /// Whether no address is given; the numbers in front of it may still say something.
            #[inline]
            pub fn is_empty(&self) -> bool {
                self.addr.is_empty()
            }
        }

        impl Field for $name {
            #[inline]
            fn read(reader: &mut Reader<'_>, name: &'static str) -> Result<Self, FieldError> {
                Ok($name {
                    ton: Field::read(reader, name)?,
                    npi: Field::read(reader, name)?,
                    addr: Field::read(reader, name)?,
                })
            }

            #[inline]
            fn write(&self, writer: &mut Writer<'_>, name: &'static str) -> Result<(), EncodeError> {
                self.ton.write(writer, name)?;
                self.npi.write(writer, name)?;
                self.addr.write(writer, name)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?} ({:?}, {:?})", self.addr, self.ton, self.npi)
            }
        }

        #[cfg(any(test, feature = "testing"))]
        impl crate::arbitrary::Sample for $name {
            fn sample(source: &mut crate::arbitrary::Source<'_>) -> Self {
                $name {
                    ton: crate::arbitrary::Sample::sample(source),
                    npi: crate::arbitrary::Sample::sample(source),
                    addr: crate::arbitrary::Sample::sample(source),
                }
            }
        }
    };
}

address! {
    /// An SME address: *_addr_ton, *_addr_npi and *_addr of most operations.
    Address, Addr
}

address! {
    /// An address with up to 64 octets, as data_sm and alert_notification carry it.
    LongAddress, LongAddr
}

impl Address {
    /// An international ISDN number (E.164), given without the leading "+".
    ///
    /// # Errors
    /// [`ValueError`] if `digits` is too long or contains a NUL.
    pub fn international(digits: impl Into<Bytes>) -> Result<Self, ValueError> {
        Address::new(Ton::INTERNATIONAL, Npi::ISDN, digits)
    }
}

impl From<Address> for LongAddress {
    fn from(address: Address) -> Self {
        // What fits 20 octets fits 64.
        LongAddress { ton: address.ton, npi: address.npi, addr: LongAddr(address.addr.0) }
    }
}

impl TryFrom<LongAddress> for Address {
    type Error = ValueError;

    fn try_from(address: LongAddress) -> Result<Self, ValueError> {
        Address::new(address.ton, address.npi, address.addr.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_does_not_fit_names_its_parameter() {
        let long = Address::international("123456789012345678901").expect_err("21 digits");
        assert_eq!(long.to_string(), "addr has 21 octets, at most 20 are allowed");
        let nul = "1\0".parse::<Addr>().expect_err("a NUL");
        assert_eq!(nul.to_string(), "addr contains a NUL at octet 1; a string ends with its first NUL");
    }

    #[test]
    fn a_long_address_becomes_a_short_one_if_it_fits() {
        let address = Address::international("15551234567").expect("a short number");
        assert_eq!(Address::try_from(LongAddress::from(address.clone())), Ok(address));
        let long = LongAddress::new(Ton::UNKNOWN, Npi::INTERNET, "2001:db8::1234:5678:9abc").expect("24 octets");
        assert!(Address::try_from(long).is_err());
    }

    #[test]
    fn a_detached_value_has_a_buffer_of_its_own() {
        let frame = Bytes::from_static(b"...15551234567...");
        let addr = Addr::new(frame.slice(3..14)).expect("11 digits");
        let detached = addr.detached();
        assert_eq!(detached, addr);
        assert!(!frame.as_ptr_range().contains(&detached.as_bytes().as_ptr()));
    }

    #[test]
    fn debug_names_the_numbers() {
        let address = Address::international("1555").expect("a short number");
        assert_eq!(format!("{address:?}"), "\"1555\" (INTERNATIONAL, ISDN)");
        assert_eq!(format!("{:?}", Ton(9)), "Ton(0x09)");
    }
}
