//! The user data header: what stands before the text of a segment (3GPP TS 23.040 section 9.2.3.24).

use std::fmt;

const CONCATENATION_8: u8 = 0x00;
const PORTS_8: u8 = 0x04;
const PORTS_16: u8 = 0x05;
const CONCATENATION_16: u8 = 0x08;

/// The information elements of a user data header, in the order in which they stand on the wire.
///
/// What was parsed is written back octet for octet; elements that are not known are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct UserDataHeader {
    /// The elements in order.
    pub elements: Vec<Element>,
}

impl UserDataHeader {
    /// Reads the header at the start of a user data field and returns it with the octets behind it.
    ///
    /// Call this when `esm_class` says that there is a header (SMPP v3.4 section 5.2.12, bit 6). The octets behind it are
    /// the text; in packed form they start with [`FillBits`](super::gsm7::FillBits).
    ///
    /// # Errors
    /// [`UdhError`] if a length reaches past the end; the text can then not be told from the header.
    pub fn parse(user_data: &[u8]) -> Result<(Self, &[u8]), UdhError> {
        let (&length, rest) = user_data.split_first().ok_or(UdhError::Empty)?;
        let Some((mut header, text)) = rest.split_at_checked(usize::from(length)) else {
            return Err(UdhError::HeaderTruncated { announced: length, available: rest.len() });
        };
        let mut elements = Vec::new();
        while let Some((&id, after_id)) = header.split_first() {
            let offset = 1 + usize::from(length) - header.len();
            let Some((&announced, after_length)) = after_id.split_first() else {
                return Err(UdhError::ElementWithoutLength { id, offset });
            };
            let Some((data, next)) = after_length.split_at_checked(usize::from(announced)) else {
                return Err(UdhError::ElementTruncated { id, offset, announced, available: after_length.len() });
            };
            elements.push(Element::from_wire(id, data));
            header = next;
        }
        Ok((UserDataHeader { elements }, text))
    }

    /// The octets of the header, its length octet first.
    ///
    /// # Errors
    /// [`UdhError::TooLong`] if the elements together take more than the 255 octets that the length octet can say.
    pub fn to_bytes(&self) -> Result<Vec<u8>, UdhError> {
        let mut octets = vec![0];
        for element in &self.elements {
            element.append_to(&mut octets);
        }
        let octets_len = octets.len() - 1;
        octets[0] = u8::try_from(octets_len).map_err(|_| UdhError::TooLong { octets: octets_len })?;
        Ok(octets)
    }

    /// Which part of which message this is; `None` if the message has one part only.
    ///
    /// Where the element is repeated the last one counts, and one that numbers no part (total 0, part 0, part beyond the
    /// total) is passed over, both as TS 23.040 says.
    #[must_use]
    pub fn concatenation(&self) -> Option<Concatenation> {
        self.elements.iter().rev().find_map(Element::concatenation)
    }
}

/// One information element.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Element {
    /// Part of a message, 8-bit reference (9.2.3.24.1).
    Concatenation8 {
        /// The same in all parts of a message.
        reference: u8,
        /// Parts of the message, 1 to 255.
        total: u8,
        /// This part, 1 to `total`.
        sequence: u8,
    },
    /// Part of a message, 16-bit reference (9.2.3.24.8).
    Concatenation16 {
        /// The same in all parts of a message.
        reference: u16,
        /// Parts of the message, 1 to 255.
        total: u8,
        /// This part, 1 to `total`.
        sequence: u8,
    },
    /// Application ports of 8 bits, 240 to 255 (9.2.3.24.3).
    Ports8 {
        /// Port of the receiving application.
        destination: u8,
        /// Port of the sending application.
        originator: u8,
    },
    /// Application ports of 16 bits (9.2.3.24.4).
    Ports16 {
        /// Port of the receiving application.
        destination: u16,
        /// Port of the sending application.
        originator: u16,
    },
    /// Any other element, and any of the above with a length that is not its own.
    Other {
        /// Information element identifier.
        id: u8,
        /// Its data, at most 253 octets if it is to fit a header.
        data: Vec<u8>,
    },
}

impl Element {
    fn from_wire(id: u8, data: &[u8]) -> Self {
        match (id, data) {
            (CONCATENATION_8, &[reference, total, sequence]) => Element::Concatenation8 { reference, total, sequence },
            (CONCATENATION_16, &[high, low, total, sequence]) => {
                Element::Concatenation16 { reference: u16::from_be_bytes([high, low]), total, sequence }
            }
            (PORTS_8, &[destination, originator]) => Element::Ports8 { destination, originator },
            (PORTS_16, &[d_high, d_low, o_high, o_low]) => Element::Ports16 {
                destination: u16::from_be_bytes([d_high, d_low]),
                originator: u16::from_be_bytes([o_high, o_low]),
            },
            _ => Element::Other { id, data: data.to_vec() },
        }
    }

    fn append_to(&self, octets: &mut Vec<u8>) {
        match self {
            Element::Concatenation8 { reference, total, sequence } => {
                octets.extend([CONCATENATION_8, 3, *reference, *total, *sequence])
            }
            Element::Concatenation16 { reference, total, sequence } => {
                let [high, low] = reference.to_be_bytes();
                octets.extend([CONCATENATION_16, 4, high, low, *total, *sequence]);
            }
            Element::Ports8 { destination, originator } => octets.extend([PORTS_8, 2, *destination, *originator]),
            Element::Ports16 { destination, originator } => {
                octets.extend([PORTS_16, 4]);
                octets.extend(destination.to_be_bytes());
                octets.extend(originator.to_be_bytes());
            }
            Element::Other { id, data } => {
                // A length past 255 makes the header too long as well, which its writer refuses.
                octets.extend([*id, data.len() as u8]);
                octets.extend(data);
            }
        }
    }

    fn concatenation(&self) -> Option<Concatenation> {
        let (reference, total, sequence) = match *self {
            Element::Concatenation8 { reference, total, sequence } => (u16::from(reference), total, sequence),
            Element::Concatenation16 { reference, total, sequence } => (reference, total, sequence),
            _ => return None,
        };
        (1..=total).contains(&sequence).then_some(Concatenation { reference, total, sequence })
    }
}

/// Which part of which message: valid numbers, wherever they came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Concatenation {
    /// The same in all parts of a message between the same two addresses.
    pub reference: u16,
    /// Parts of the message, 1 to 255.
    pub total: u8,
    /// This part, 1 to `total`.
    pub sequence: u8,
}

impl fmt::Display for Concatenation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part {} of {}, reference {}", self.sequence, self.total, self.reference)
    }
}

/// Why a user data header could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UdhError {
    /// The message has no octet, not even the header's length.
    #[error("esm_class announces a user data header, but the message is empty")]
    Empty,
    /// The header is longer than the message.
    #[error("the user data header announces {announced} octets, the message has {available} left")]
    HeaderTruncated {
        /// Octets announced by the length octet.
        announced: u8,
        /// Octets behind it.
        available: usize,
    },
    /// The header ends behind an element's identifier.
    #[error("the header ends before the length of information element {id:#04x} at offset {offset}")]
    ElementWithoutLength {
        /// Information element identifier.
        id: u8,
        /// Offset of the identifier in the message.
        offset: usize,
    },
    /// An element is longer than what is left of the header.
    #[error(
        "information element {id:#04x} at offset {offset} announces {announced} octets, the header has {available} left"
    )]
    ElementTruncated {
        /// Information element identifier.
        id: u8,
        /// Offset of the identifier in the message.
        offset: usize,
        /// Octets announced by the element.
        announced: u8,
        /// Octets left in the header.
        available: usize,
    },
    /// The elements take more room than a header has.
    #[error("the information elements take {octets} octets, a user data header holds at most 255")]
    TooLong {
        /// Octets of all elements.
        octets: usize,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks a header against its elements, and that it is written as it was read.
    fn check(octets: &[u8], elements: &[Element]) {
        let mut user_data = octets.to_vec();
        user_data.extend(b"text");
        let (header, text) = UserDataHeader::parse(&user_data).unwrap();
        assert_eq!(header.elements, elements);
        assert_eq!(text, b"text");
        assert_eq!(header.to_bytes().unwrap(), octets);
    }

    #[test]
    fn elements_are_read_and_written() {
        check(&[0], &[]);
        check(&[5, 0, 3, 0x2a, 2, 1], &[Element::Concatenation8 { reference: 0x2a, total: 2, sequence: 1 }]);
        check(&[6, 8, 4, 0x12, 0x34, 3, 2], &[Element::Concatenation16 { reference: 0x1234, total: 3, sequence: 2 }]);
        check(&[6, 5, 4, 0x0b, 0x84, 0x23, 0xf0], &[Element::Ports16 { destination: 2948, originator: 9200 }]);
        // Unknown elements and a concatenation of the wrong length keep their place.
        check(
            &[11, 4, 2, 0xf0, 0xf1, 0x24, 1, 1, 0, 2, 9, 9],
            &[
                Element::Ports8 { destination: 0xf0, originator: 0xf1 },
                Element::Other { id: 0x24, data: vec![1] },
                Element::Other { id: 0, data: vec![9, 9] },
            ],
        );
    }

    #[test]
    fn the_last_valid_concatenation_counts() {
        let parse = |octets: &[u8]| UserDataHeader::parse(octets).unwrap().0.concatenation();
        assert_eq!(parse(&[0]), None);
        assert_eq!(parse(&[5, 0, 3, 1, 0, 0]), None);
        assert_eq!(parse(&[5, 0, 3, 1, 2, 3]), None);
        assert_eq!(parse(&[5, 0, 3, 1, 2, 0]), None);
        let expected = Concatenation { reference: 7, total: 3, sequence: 3 };
        assert_eq!(parse(&[16, 0, 3, 1, 2, 1, 8, 4, 0, 7, 3, 3, 0, 3, 9, 0, 0]), Some(expected));
        assert_eq!(expected.to_string(), "part 3 of 3, reference 7");
    }

    #[test]
    fn lengths_that_reach_too_far_are_refused() {
        let refused = |octets: &[u8]| UserDataHeader::parse(octets).unwrap_err();
        assert_eq!(refused(&[]), UdhError::Empty);
        assert_eq!(refused(&[5, 0, 3]), UdhError::HeaderTruncated { announced: 5, available: 2 });
        assert_eq!(refused(&[4, 0x24, 1, 0, 7, 1]), UdhError::ElementWithoutLength { id: 7, offset: 4 });
        assert_eq!(
            refused(&[3, 0, 3, 1, 2, 1]),
            UdhError::ElementTruncated { id: 0, offset: 1, announced: 3, available: 1 }
        );
    }

    #[test]
    fn headers_past_255_octets_are_refused() {
        let header =
            |octets: usize| UserDataHeader { elements: vec![Element::Other { id: 0x70, data: vec![0; octets] }] };
        assert_eq!(header(253).to_bytes().unwrap().len(), 256);
        assert_eq!(header(254).to_bytes(), Err(UdhError::TooLong { octets: 256 }));
        assert_eq!(header(256).to_bytes(), Err(UdhError::TooLong { octets: 258 }));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_again(octets in any::<Vec<u8>>()) {
            if let Ok((header, text)) = UserDataHeader::parse(&octets) {
                let mut again = header.to_bytes().unwrap();
                again.extend(text);
                prop_assert_eq!(again, octets);
            }
        }

        #[test]
        fn well_formed_headers_are_read(
            elements in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..6)), 0..8),
        ) {
            let mut octets = vec![0];
            for (id, data) in &elements {
                octets.extend([*id, data.len() as u8]);
                octets.extend(data);
            }
            octets[0] = (octets.len() - 1) as u8;
            let (header, text) = UserDataHeader::parse(&octets).unwrap();
            prop_assert_eq!(text, b"");
            prop_assert_eq!(header.elements.len(), elements.len());
            prop_assert_eq!(header.to_bytes().unwrap(), octets);
        }
    }
}
