//! Optional parameters: tag, length, value (SMPP v3.4 section 5.3, v5.0 section 4.8).
//!
//! [`Tlvs`] keeps them as the octets they came in, checked once to be a sequence of TLVs: unknown tags, duplicates and
//! order survive a round trip, and a PDU with or without TLVs costs no allocation. Looking one up walks the sequence,
//! which is short.

mod tag;
mod value;

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

pub use tag::Tag;
pub use value::TlvValue;

use crate::codec::{Field, Reader, Writer};
use crate::error::{EncodeError, FieldError, Problem, TlvLengthError, ValueError};

/// Octets in front of every value: tag and length.
const TLV_HEADER_LENGTH: usize = 4;

/// One optional parameter.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Tlv {
    /// What it is.
    pub tag: Tag,
    /// The octets behind tag and length.
    pub value: Bytes,
}

impl fmt::Debug for Tlv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}=\"{}\"", self.tag, self.value.escape_ascii())
    }
}

/// The optional parameters of one PDU, in order.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Tlvs {
    /// A sequence of whole TLVs, always.
    octets: Bytes,
}

impl Tlvs {
    /// No optional parameters.
    pub const fn new() -> Self {
        Tlvs { octets: Bytes::new() }
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The value of the first TLV with this tag.
    #[inline]
    pub fn get(&self, tag: Tag) -> Option<Bytes> {
        self.iter().find(|tlv| tlv.tag == tag).map(|tlv| tlv.value)
    }

    /// The values of every TLV with this tag, in order: broadcast areas come several at a time.
    pub fn get_all(&self, tag: Tag) -> impl Iterator<Item = Bytes> + '_ {
        self.iter().filter(move |tlv| tlv.tag == tag).map(|tlv| tlv.value)
    }

    /// The first TLV with this tag as a value of type `T`; `None` if it is absent or has a length `T` cannot have.
    #[inline]
    pub fn value<T: TlvValue>(&self, tag: Tag) -> Option<T> {
        self.get(tag).and_then(T::from_value)
    }

    /// Whether there is a TLV with this tag.
    #[inline]
    pub fn contains(&self, tag: Tag) -> bool {
        self.raw_iter().any(|(candidate, _)| candidate == tag)
    }

    /// Every TLV, in order.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Tlv> + '_ {
        self.raw_iter().map(|(tag, value)| Tlv { tag, value: self.octets.slice_ref(value) })
    }

    /// Checks the length of every TLV whose tag is defined.
    ///
    /// Decoding does not do this, because a receiver may ignore what it does not use (SMPP v3.4 section 3.3); whoever
    /// acts on a TLV of a peer calls it first.
    ///
    /// # Errors
    /// [`TlvLengthError`] for the first one that is too short or too long: answer ESME_RINVPARLEN.
    pub fn check_lengths(&self) -> Result<(), TlvLengthError> {
        for (tag, value) in self.raw_iter() {
            let Some((length_min, length_max)) = tag.length_range() else {
                continue;
            };
            let length = value.len();
            if length < length_min || length > length_max {
                return Err(TlvLengthError { tag, length, length_min, length_max });
            }
        }
        Ok(())
    }

    /// Appends a TLV.
    ///
    /// # Errors
    /// [`ValueError::TooLong`] if `value` has more than 65_535 octets; nothing is appended then.
    pub fn push(&mut self, tag: Tag, value: &[u8]) -> Result<(), ValueError> {
        let Ok(length) = u16::try_from(value.len()) else {
            let field = tag.name().unwrap_or("vendor specific TLV");
            return Err(ValueError::TooLong { field, length: value.len(), octets_max: usize::from(u16::MAX) });
        };
        self.append(tag, length, value);
        Ok(())
    }

    /// Appends a TLV of one octet.
    pub fn push_u8(&mut self, tag: Tag, value: u8) {
        self.append(tag, 1, &[value]);
    }

    /// Appends a TLV of two octets.
    pub fn push_u16(&mut self, tag: Tag, value: u16) {
        self.append(tag, 2, &value.to_be_bytes());
    }

    /// Appends a TLV of four octets.
    pub fn push_u32(&mut self, tag: Tag, value: u32) {
        self.append(tag, 4, &value.to_be_bytes());
    }

    /// Appends a TLV that holds a C-Octet String, whose NUL is added here.
    ///
    /// # Errors
    /// [`ValueError`] if `value` contains a NUL or is too long; nothing is appended then.
    pub fn push_c_octets(&mut self, tag: Tag, value: &[u8]) -> Result<(), ValueError> {
        let field = tag.name().unwrap_or("vendor specific TLV");
        if let Some(position) = value.iter().position(|octet| *octet == 0) {
            return Err(ValueError::Nul { field, position });
        }
        let mut terminated = Vec::with_capacity(value.len() + 1);
        terminated.extend_from_slice(value);
        terminated.push(0);
        self.push(tag, &terminated)
    }

    /// The octets as they stand in the PDU.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets
    }

    /// The same without the tags that `unwanted` names, in their order.
    pub fn without(&self, unwanted: impl Fn(Tag) -> bool) -> Tlvs {
        if !self.raw_iter().any(|(tag, _)| unwanted(tag)) {
            return self.clone();
        }
        let mut kept = Tlvs::new();
        for (tag, value) in self.raw_iter().filter(|(tag, _)| !unwanted(*tag)) {
            let length = u16::try_from(value.len()).expect("it was read behind a length of two octets");
            kept.append(tag, length, value);
        }
        kept
    }

    /// The same, without the buffer of the connection they came from.
    pub fn detached(&self) -> Tlvs {
        Tlvs { octets: Bytes::copy_from_slice(&self.octets) }
    }

    fn append(&mut self, tag: Tag, length: u16, value: &[u8]) {
        let mut octets =
            std::mem::take(&mut self.octets).try_into_mut().unwrap_or_else(|shared| BytesMut::from(shared.as_ref()));
        octets.reserve(TLV_HEADER_LENGTH + value.len());
        octets.put_u16(tag.0);
        octets.put_u16(length);
        octets.put_slice(value);
        self.octets = octets.freeze();
    }

    #[inline]
    fn raw_iter(&self) -> RawIter<'_> {
        RawIter { rest: &self.octets }
    }
}

/// Checks that octets are a sequence of TLVs.
impl TryFrom<Bytes> for Tlvs {
    type Error = FieldError;

    fn try_from(octets: Bytes) -> Result<Self, FieldError> {
        let mut walk = RawIter { rest: &octets };
        walk.by_ref().for_each(drop);
        if walk.rest.is_empty() { Ok(Tlvs { octets }) } else { Err(FieldError::new("tlvs", Problem::TlvStream)) }
    }
}

impl fmt::Debug for Tlvs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The TLVs at the end of a body: everything that is left of it.
impl Field for Tlvs {
    #[inline]
    fn read(reader: &mut Reader<'_>, _name: &'static str) -> Result<Self, FieldError> {
        if reader.remaining() == 0 { Ok(Tlvs::new()) } else { Tlvs::try_from(reader.rest()) }
    }

    #[inline]
    fn write(&self, writer: &mut Writer<'_>, _name: &'static str) -> Result<(), EncodeError> {
        writer.octets(&self.octets);
        Ok(())
    }
}

/// Walks over whole TLVs and stops in front of the first octet that begins none.
struct RawIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for RawIter<'a> {
    type Item = (Tag, &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.rest.split_first_chunk::<TLV_HEADER_LENGTH>()?;
        let [tag_high, tag_low, length_high, length_low] = *header;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some((Tag(u16::from_be_bytes([tag_high, tag_low])), value))
    }
}

#[cfg(any(test, feature = "testing"))]
impl crate::arbitrary::Sample for Tlvs {
    fn sample(source: &mut crate::arbitrary::Source<'_>) -> Self {
        let mut tlvs = Tlvs::new();
        for _ in 0..source.u8() % 4 {
            let value = source.octets(40);
            tlvs.append(Tag(source.u16()), value.len() as u16, &value);
        }
        tlvs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{MessageId, MessageState, NetworkErrorCode};

    fn tlvs(octets: &'static [u8]) -> Result<Tlvs, FieldError> {
        Tlvs::try_from(Bytes::from_static(octets))
    }

    #[test]
    fn order_duplicates_and_unknown_tags_are_kept() {
        let octets = b"\x06\x06\0\x02\0a\x14\x00\0\0\x06\x06\0\x02\0b";
        let tlvs = tlvs(octets).expect("three TLVs");
        let tags: Vec<Tag> = tlvs.iter().map(|tlv| tlv.tag).collect();
        assert_eq!(tags, [Tag::BROADCAST_AREA_IDENTIFIER, Tag(0x1400), Tag::BROADCAST_AREA_IDENTIFIER]);
        assert_eq!(tlvs.get(Tag::BROADCAST_AREA_IDENTIFIER).as_deref(), Some(b"\0a".as_slice()));
        assert_eq!(tlvs.get_all(Tag::BROADCAST_AREA_IDENTIFIER).count(), 2);
        assert_eq!(tlvs.get(Tag(0x1400)).as_deref(), Some(b"".as_slice()));
        assert!(!tlvs.contains(Tag::MESSAGE_PAYLOAD));
        assert_eq!(tlvs.as_bytes(), octets);
    }

    #[test]
    fn a_cut_sequence_is_refused() {
        for octets in [b"\x02".as_slice(), b"\x02\x0c\0", b"\x02\x0c\0\x02\x01", b"\x02\x0c\xff\xff\x01\x02"] {
            assert_eq!(tlvs(octets), Err(FieldError::new("tlvs", Problem::TlvStream)));
        }
    }

    #[test]
    fn values_come_out_as_they_were_put_in() {
        let mut tlvs = Tlvs::new();
        tlvs.push_u16(Tag::SAR_MSG_REF_NUM, 0x1234);
        tlvs.push_u8(Tag::MESSAGE_STATE, MessageState::DELIVERED.0);
        tlvs.push_u32(Tag::QOS_TIME_TO_LIVE, 86_400);
        tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"4711").expect("short");
        let code = NetworkErrorCode { network_type: NetworkErrorCode::GSM, error_code: 27 };
        tlvs.push(Tag::NETWORK_ERROR_CODE, &code.to_octets()).expect("short");
        tlvs.push(Tag::MESSAGE_PAYLOAD, b"hello").expect("short");
        assert_eq!(tlvs.sar_msg_ref_num(), Some(0x1234));
        assert_eq!(tlvs.message_state(), Some(MessageState::DELIVERED));
        assert_eq!(tlvs.qos_time_to_live(), Some(86_400));
        assert_eq!(tlvs.receipted_message_id(), Some("4711".parse::<MessageId>().expect("short")));
        assert_eq!(tlvs.network_error_code(), Some(code));
        assert_eq!(tlvs.message_payload().as_deref(), Some(b"hello".as_slice()));
        assert_eq!(tlvs.source_port(), None);
        assert_eq!(tlvs.check_lengths(), Ok(()));
        assert_eq!(tlvs.iter().count(), 6);
    }

    #[test]
    fn a_value_of_the_wrong_length_is_kept_and_found_by_the_check() {
        let tlvs = tlvs(b"\x02\x0c\0\x01\x07").expect("one TLV");
        assert_eq!(tlvs.sar_msg_ref_num(), None);
        let error = tlvs.check_lengths().expect_err("one octet too few");
        assert_eq!(error.to_string(), "TLV sar_msg_ref_num has 1 octets, must have 2 to 2");
    }

    #[test]
    fn a_value_too_long_for_its_length_field_is_refused() {
        let mut tlvs = Tlvs::new();
        let error = tlvs.push(Tag::MESSAGE_PAYLOAD, &[0; 65_536]).expect_err("one octet too many");
        assert_eq!(error.to_string(), "message_payload has 65536 octets, at most 65535 are allowed");
        assert!(tlvs.is_empty());
    }

    #[test]
    fn a_clone_is_not_changed_by_a_push() {
        let mut first = Tlvs::new();
        first.push_u8(Tag::MORE_MESSAGES_TO_SEND, 1);
        let mut second = first.clone();
        second.push_u8(Tag::CONGESTION_STATE, 50);
        assert_eq!(first.iter().count(), 1);
        assert_eq!(second.iter().count(), 2);
    }
}
