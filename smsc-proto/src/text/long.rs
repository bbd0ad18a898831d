//! Long messages in the forms that SMPP has for them, and from one to the other: segments with a user data header,
//! segments with sar_* TLVs, or whole in message_payload.
//!
//! For links whose other side takes one form alone. Towards ESMEs nothing is split or joined: they get what was
//! submitted.

use bytes::Bytes;

use super::alphabet::Alphabet;
use super::segment::{self, JoinError, Part, Reference, SplitError};
use super::udh::{Concatenation, Element, UdhError, UserDataHeader};
use crate::tlv::{Tag, Tlvs};

/// Octets that short_message holds for every version (SMPP v3.4 section 5.2.22).
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// TLVs that say which segment a message is, and the one that holds a whole text.
const FORM_TLVS: [Tag; 4] =
    [Tag::SAR_MSG_REF_NUM, Tag::SAR_TOTAL_SEGMENTS, Tag::SAR_SEGMENT_SEQNUM, Tag::MESSAGE_PAYLOAD];

/// How the other side takes a message that is longer than one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LongForm {
    /// As segments, each with a concatenation element in its user data header (3GPP TS 23.040 section 9.2.3.24.1).
    UserDataHeader,
    /// As segments with sar_msg_ref_num, sar_total_segments and sar_segment_seqnum (SMPP v3.4 section 5.3.2.22).
    SegmentTlvs,
    /// As one message with message_payload.
    Payload,
}

/// The part of a message that its length changes: the text and what tells how to read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Whether esm_class announces a user data header in front of the text.
    pub udhi: bool,
    /// Alphabet of the text; 0 is the GSM one.
    pub data_coding: u8,
    /// The text, with its header; empty if message_payload carries it.
    pub short_message: Bytes,
    /// All optional parameters.
    pub tlvs: Tlvs,
}

/// Why a message cannot be brought into another form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// esm_class announces a header that is none.
    #[error(transparent)]
    Header(#[from] UdhError),
    /// The text takes more segments than there can be.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The header and TLVs are longer than a message may be.
    #[error("the message with its header is longer than a TLV may be")]
    TooLong,
}

/// A message taken apart.
struct Apart {
    /// The header's elements but for concatenation.
    elements: Vec<Element>,
    /// Which segment it is, if it is one.
    segment: Option<Concatenation>,
    text: Bytes,
    /// Without those that belong to a form.
    tlvs: Tlvs,
}

impl Content {
    /// Header and text, wherever they stand.
    fn octets(&self) -> Bytes {
        match self.tlvs.get(Tag::MESSAGE_PAYLOAD) {
            Some(payload) if self.short_message.is_empty() => payload,
            _ => self.short_message.clone(),
        }
    }

    fn sar(&self) -> Option<Concatenation> {
        let reference = self.tlvs.sar_msg_ref_num()?;
        let (total, sequence) = (self.tlvs.sar_total_segments()?, self.tlvs.sar_segment_seqnum()?);
        (1..=total).contains(&sequence).then_some(Concatenation { reference, total, sequence })
    }

    fn apart(&self) -> Result<Apart, UdhError> {
        let octets = self.octets();
        let (header, text) = match self.udhi {
            false => (UserDataHeader::default(), octets),
            true => {
                let (header, text) = UserDataHeader::parse(&octets)?;
                let text = octets.slice_ref(text);
                (header, text)
            }
        };
        let segment = header.concatenation().or_else(|| self.sar());
        let mut elements = header.elements;
        elements.retain(|element| !matches!(element, Element::Concatenation8 { .. } | Element::Concatenation16 { .. }));
        let tlvs = self.tlvs.without(|tag| FORM_TLVS.contains(&tag));
        Ok(Apart { elements, segment: segment.filter(|segment| segment.total > 1), text, tlvs })
    }

    /// Which part of a longer message this is, with its text; `None` for a whole one.
    ///
    /// # Errors
    /// The header cannot be read.
    pub fn part(&self) -> Result<Option<Part>, UdhError> {
        let Apart { segment, text, .. } = self.apart()?;
        Ok(segment.map(|concatenation| Part { concatenation, body: text.to_vec() }))
    }

    /// The message as the other side takes it: as it is if it is short, else as one message or as several, which are to
    /// be sent in their order.
    ///
    /// `reference` tells the segments of this message from those of others between the same numbers. A message that is a
    /// segment already keeps its numbers and its reference, and stays a segment where [`LongForm::Payload`] is wanted:
    /// it is not whole. Text in an alphabet that is not known here, and binary data, are cut between octets.
    ///
    /// # Errors
    /// [`FormError`]: it cannot be sent to that side.
    pub fn in_form(&self, form: LongForm, reference: Reference) -> Result<Vec<Content>, FormError> {
        let apart = self.apart()?;
        if let Some(segment) = apart.segment {
            let reference = match u8::try_from(segment.reference) {
                Ok(reference) => Reference::Eight(reference),
                Err(_) => Reference::Sixteen(segment.reference),
            };
            let one = match form {
                LongForm::Payload => self.clone(),
                _ => self.segment(&apart, form, reference, (segment.total, segment.sequence), apart.text.clone())?,
            };
            return Ok(vec![one]);
        }
        let alphabet = Alphabet::from_data_coding(self.data_coding).unwrap_or(Alphabet::Latin1);
        let own_octets = header_octets(&apart.elements)?.len();
        let fits = apart.text.len() <= segment::capacity(alphabet, own_octets);
        if fits || form == LongForm::Payload {
            return Ok(vec![self.whole(&apart)?]);
        }
        let segments_header = own_octets.max(1) + reference.header_octets() - 1;
        let cuts = segment::cut(&apart.text, alphabet, segments_header)?;
        // At most SEGMENTS_MAX, as `cut` has seen to.
        let total = cuts.len() as u8;
        let made = (1..=total)
            .zip(cuts)
            .map(|(sequence, range)| self.segment(&apart, form, reference, (total, sequence), apart.text.slice(range)));
        made.collect()
    }

    /// The whole message: in short_message if that holds it.
    fn whole(&self, apart: &Apart) -> Result<Content, FormError> {
        let octets = Bytes::from([&header_octets(&apart.elements)?, &apart.text[..]].concat());
        let mut tlvs = apart.tlvs.clone();
        let short_message = if octets.len() <= SHORT_MESSAGE_OCTETS_MAX {
            octets
        } else {
            tlvs.push(Tag::MESSAGE_PAYLOAD, &octets).map_err(|_| FormError::TooLong)?;
            Bytes::new()
        };
        Ok(Content { udhi: !apart.elements.is_empty(), data_coding: self.data_coding, short_message, tlvs })
    }

    fn segment(
        &self,
        apart: &Apart,
        form: LongForm,
        reference: Reference,
        (total, sequence): (u8, u8),
        text: Bytes,
    ) -> Result<Content, FormError> {
        let mut elements = apart.elements.clone();
        let mut tlvs = apart.tlvs.clone();
        if form == LongForm::SegmentTlvs {
            tlvs.push_u16(Tag::SAR_MSG_REF_NUM, reference.number());
            tlvs.push_u8(Tag::SAR_TOTAL_SEGMENTS, total);
            tlvs.push_u8(Tag::SAR_SEGMENT_SEQNUM, sequence);
        } else {
            elements.insert(0, reference.element(total, sequence));
        }
        let short_message = Bytes::from([&header_octets(&elements)?, &text[..]].concat());
        Ok(Content { udhi: !elements.is_empty(), data_coding: self.data_coding, short_message, tlvs })
    }
}

/// The header that these elements make, its length octet first; nothing if there are none.
fn header_octets(elements: &[Element]) -> Result<Vec<u8>, UdhError> {
    match elements {
        [] => Ok(Vec::new()),
        elements => UserDataHeader { elements: elements.to_vec() }.to_bytes(),
    }
}

/// Puts a message together from all of its segments, in any order: the text of all, and what the first one given says
/// beside.
///
/// # Errors
/// [`JoinError`] says which segment is missing or does not belong.
pub fn join_contents(segments: &[Content]) -> Result<Content, JoinError> {
    let first = segments.first().ok_or(JoinError::NoParts)?;
    let parts = segments.iter().map(|segment| segment.part()?.ok_or(JoinError::NotAPart));
    let text = segment::join(&parts.collect::<Result<Vec<_>, JoinError>>()?)?;
    let apart = Apart { segment: None, text: text.into(), ..first.apart()? };
    // Up to 255 segments fit message_payload, even of 254 octets each.
    first.whole(&apart).map_err(|_| JoinError::TooLong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REFERENCE: Reference = Reference::Eight(0x2a);

    fn payload(octets: &[u8]) -> Content {
        let mut tlvs = Tlvs::new();
        tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 7);
        tlvs.push(Tag::MESSAGE_PAYLOAD, octets).unwrap();
        Content { tlvs, ..Content::default() }
    }

    #[test]
    fn short_messages_stay_whole_in_every_form() {
        for form in [LongForm::UserDataHeader, LongForm::SegmentTlvs, LongForm::Payload] {
            let made = payload(&[b'x'; 160]).in_form(form, REFERENCE).unwrap();
            assert_eq!(made.len(), 1);
            assert_eq!((made[0].udhi, made[0].short_message.len()), (false, 160));
            assert_eq!(made[0].tlvs.as_bytes(), b"\x02\x04\0\x02\0\x07");
        }
    }

    #[test]
    fn long_ones_are_cut_with_headers_or_with_tlvs() {
        let long = payload(&[b'x'; 161]);
        let made = long.in_form(LongForm::UserDataHeader, REFERENCE).unwrap();
        let starts: Vec<_> = made.iter().map(|content| (content.udhi, content.short_message.slice(..7))).collect();
        assert_eq!(starts, [(true, "\x05\0\x03\x2a\x02\x01x".into()), (true, "\x05\0\x03\x2a\x02\x02x".into())]);
        assert_eq!(made[0].short_message.len(), 6 + 153);
        let made = long.in_form(LongForm::SegmentTlvs, Reference::Sixteen(0x1234)).unwrap();
        assert_eq!((made.len(), made[1].udhi, made[0].short_message.len()), (2, false, 152));
        let tlvs = &made[1].tlvs;
        assert_eq!(
            (tlvs.sar_msg_ref_num(), tlvs.sar_total_segments(), tlvs.sar_segment_seqnum()),
            (Some(0x1234), Some(2), Some(2))
        );
        assert_eq!(tlvs.user_message_reference(), Some(7));
        let made = long.in_form(LongForm::Payload, REFERENCE).unwrap();
        assert_eq!((made.len(), made[0].short_message.len()), (1, 161));
        let made = payload(&[b'x'; 255]).in_form(LongForm::Payload, REFERENCE).unwrap();
        assert_eq!((made.len(), &made[0]), (1, &payload(&[b'x'; 255])));
    }

    #[test]
    fn other_elements_of_a_header_are_in_every_segment() {
        let ports = [b"\x06\x05\x04\x0b\x84\0\0".as_slice(), &[b'x'; 200]].concat();
        let long = Content { udhi: true, data_coding: 4, ..payload(&ports) };
        for (form, header, each) in [
            (LongForm::UserDataHeader, b"\x0b\0\x03\x2a\x02\x01\x05\x04\x0b\x84\0\0".as_slice(), 128),
            (LongForm::SegmentTlvs, b"\x06\x05\x04\x0b\x84\0\0".as_slice(), 128),
        ] {
            let made = long.in_form(form, REFERENCE).unwrap();
            assert_eq!(made.len(), 2);
            assert!(made[0].udhi && made[0].short_message.starts_with(header), "{:?}", made[0]);
            assert_eq!(made[0].short_message.len(), header.len() + each);
        }
    }

    #[test]
    fn a_segment_changes_form_and_keeps_its_numbers() {
        let with_header =
            Content { udhi: true, short_message: "\x05\0\x03\x07\x03\x02text".into(), ..Content::default() };
        let made = with_header.in_form(LongForm::SegmentTlvs, REFERENCE).unwrap();
        assert_eq!((made.len(), made[0].udhi, &made[0].short_message[..]), (1, false, &b"text"[..]));
        assert_eq!(made[0].tlvs.sar_msg_ref_num(), Some(7));
        assert_eq!(made[0].in_form(LongForm::UserDataHeader, REFERENCE).unwrap(), std::slice::from_ref(&with_header));
        for form in [LongForm::UserDataHeader, LongForm::Payload] {
            assert_eq!(with_header.in_form(form, REFERENCE).unwrap(), std::slice::from_ref(&with_header));
        }
        assert!(matches!(
            Content { udhi: true, ..Content::default() }.in_form(LongForm::Payload, REFERENCE),
            Err(FormError::Header(UdhError::Empty))
        ));
        let endless = Content { data_coding: 4, ..payload(&[0; 40_000]) };
        let refused = endless.in_form(LongForm::UserDataHeader, REFERENCE);
        assert_eq!(refused, Err(FormError::Split(SplitError::TooManySegments)));
    }

    #[test]
    fn what_is_no_whole_message_is_not_joined() {
        let segments = payload(&[b'x'; 400]).in_form(LongForm::UserDataHeader, REFERENCE).unwrap();
        assert!(matches!(join_contents(&segments[1..]), Err(JoinError::Missing { sequence: 1, .. })));
        assert_eq!(join_contents(&[]), Err(JoinError::NoParts));
        assert_eq!(join_contents(&[payload(b"x")]), Err(JoinError::NotAPart));
    }

    proptest! {
        #[test]
        fn cut_messages_join_again(
            octets in prop::collection::vec(0u8..0x80, 255..2_000), tlvs in any::<bool>(), wide in any::<bool>(),
            data_coding in prop::sample::select(vec![0u8, 3, 4, 8]), header in any::<bool>(), rotate in any::<usize>(),
        ) {
            let octets = if header { [b"\x04\x24\x02\x01\x02".as_slice(), &octets].concat() } else { octets };
            let whole = Content { udhi: header, data_coding, ..payload(&octets) };
            let form = if tlvs { LongForm::SegmentTlvs } else { LongForm::UserDataHeader };
            let reference = if wide { Reference::Sixteen(999) } else { REFERENCE };
            let mut segments = whole.in_form(form, reference).unwrap();
            prop_assert!(segments.len() > 1);
            let rotate = rotate % segments.len();
            segments.rotate_left(rotate);
            prop_assert_eq!(join_contents(&segments).unwrap(), whole);
        }
    }
}
