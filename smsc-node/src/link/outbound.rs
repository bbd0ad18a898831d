//! From a stored message to the submit_sm, one or several, that carry it over a link. Pure.

use bytes::Bytes;
use smsc_proto::pdu::SubmitSm;
use smsc_proto::text::{Alphabet, Reference, split_encoded};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{
    Address, DataCoding, EsmClass, InterfaceVersion, MessagingMode, Npi, PriorityFlag, RegisteredDelivery, TimeString,
    Ton,
};
use smsc_raft::model::link::{LongMessages, Receipts};
use smsc_raft::model::{self, Link, Message, Submission};
use thiserror::Error;

/// Octets that short_message holds for every version (SMPP v3.4 section 5.2.22).
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// The acknowledgements that the receiving SME is asked for: bits 3 and 2 of registered_delivery.
const ACKNOWLEDGEMENTS: u32 = 0b1100;
/// The longest validity_period asked for: a relative time holds 99 days.
const VALIDITY_MAX_S: u64 = 99 * 86_400;

/// Why a message cannot go over this link, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unsendable {
    /// More segments than can be numbered, or text that no form of this version can carry.
    #[error("the text is too long for this link")]
    TooLong,
    /// The record is not one that this version can read.
    #[error("the stored message cannot be put into a submit_sm")]
    Record,
}

/// The submit_sm for `message` over `link`, in the order of its segments, at `now_ms` (UTC milliseconds).
///
/// `destination` is how its route has the number written, `version` what the peer of the bind speaks. Text that is in segments already, by user data header or sar_
/// parameters, passes as it is; so does what fits a short message.
///
/// # Errors
/// [`Unsendable`]: no attempt over this link can succeed.
pub fn submit_sms(
    message: &Message,
    destination: &model::Address,
    link: &Link,
    version: InterfaceVersion,
    now_ms: u64,
) -> Result<Vec<SubmitSm>, Unsendable> {
    let submission = message.submission.as_ref().ok_or(Unsendable::Record)?;
    let tlvs = Tlvs::try_from(submission.tlvs.clone()).map_err(|_| Unsendable::Record)?;
    let text = text_of(submission, &tlvs);
    let mut kept = Tlvs::new();
    for tlv in tlvs.iter().filter(|tlv| version.has_tlvs() && tlv.tag != Tag::MESSAGE_PAYLOAD) {
        kept.push(tlv.tag, &tlv.value).map_err(|_| Unsendable::Record)?;
    }
    let head = head(submission, destination, link, now_ms)?;
    let one = |short_message: Bytes, tlvs: Tlvs| SubmitSm { short_message, tlvs, ..head.clone() };
    let whole = |mut tlvs: Tlvs| match text.len() <= SHORT_MESSAGE_OCTETS_MAX {
        true => Ok(vec![one(text.clone(), tlvs)]),
        false if !version.has_tlvs() => Err(Unsendable::TooLong),
        false => {
            tlvs.push(Tag::MESSAGE_PAYLOAD, &text).map_err(|_| Unsendable::TooLong)?;
            Ok(vec![one(Bytes::new(), tlvs)])
        }
    };
    let segments = match is_segment(submission, &tlvs) {
        true => return whole(kept),
        false => cut(submission, &text, Reference::Eight(reference(message.id)))?,
    };
    if segments.len() <= 1 {
        return whole(kept);
    }
    let total = u8::try_from(segments.len()).map_err(|_| Unsendable::TooLong)?;
    match link.long_messages() {
        LongMessages::Payload if version.has_tlvs() => {
            kept.push(Tag::MESSAGE_PAYLOAD, &text).map_err(|_| Unsendable::TooLong)?;
            Ok(vec![one(Bytes::new(), kept)])
        }
        LongMessages::Sar if version.has_tlvs() => (1..=total)
            .zip(segments)
            .map(|(sequence, segment)| {
                let mut tlvs = kept.clone();
                tlvs.push_u16(Tag::SAR_MSG_REF_NUM, u16::from(reference(message.id)));
                tlvs.push_u8(Tag::SAR_TOTAL_SEGMENTS, total);
                tlvs.push_u8(Tag::SAR_SEGMENT_SEQNUM, sequence);
                Ok(one(Bytes::copy_from_slice(segment.body()), tlvs))
            })
            .collect(),
        _ => Ok(segments
            .into_iter()
            .map(|segment| SubmitSm {
                esm_class: head.esm_class.with_udhi(true),
                ..one(segment.to_user_data().into(), kept.clone())
            })
            .collect()),
    }
}

/// Short messages that a submission takes on the radio side; one that is a segment itself counts as one.
pub fn segment_count(submission: &Submission) -> u32 {
    let tlvs = Tlvs::try_from(submission.tlvs.clone()).unwrap_or_default();
    if is_segment(submission, &tlvs) {
        return 1;
    }
    let text = text_of(submission, &tlvs);
    let segments = cut(submission, &text, Reference::Eight(0));
    segments.map_or(0, |segments| u32::try_from(segments.len()).unwrap_or(u32::MAX))
}

fn text_of(submission: &Submission, tlvs: &Tlvs) -> Bytes {
    match tlvs.get(Tag::MESSAGE_PAYLOAD) {
        Some(payload) if submission.short_message.is_empty() => payload,
        _ => submission.short_message.clone(),
    }
}

fn is_segment(submission: &Submission, tlvs: &Tlvs) -> bool {
    let class = EsmClass(u8::try_from(submission.esm_class).unwrap_or_default());
    class.udhi() || tlvs.contains(Tag::SAR_TOTAL_SEGMENTS)
}

fn cut(
    submission: &Submission,
    text: &[u8],
    reference: Reference,
) -> Result<Vec<smsc_proto::text::Segment>, Unsendable> {
    let coding = u8::try_from(submission.data_coding).map_err(|_| Unsendable::Record)?;
    // What is no text here is cut as the octets that it is.
    let alphabet = Alphabet::from_data_coding(coding).unwrap_or(Alphabet::Latin1);
    split_encoded(text, alphabet, reference).map_err(|_| Unsendable::TooLong)
}

/// What the segments of a message have in common: the same at every attempt, so that a phone puts together what came
/// over in parts.
fn reference(id: u64) -> u8 {
    id.to_le_bytes()[0]
}

/// Everything but the text and the TLVs.
fn head(
    submission: &Submission,
    destination: &model::Address,
    link: &Link,
    now_ms: u64,
) -> Result<SubmitSm, Unsendable> {
    let registered = match link.receipts() {
        Receipts::Always => u32::from(RegisteredDelivery::RECEIPT.0),
        Receipts::Never => 0,
    };
    let class = EsmClass(octet(submission.esm_class)?).with_mode(MessagingMode::Default);
    Ok(SubmitSm {
        service_type: submission.service_type.parse().map_err(|_| Unsendable::Record)?,
        source_addr: address(submission.source.as_ref(), link.source_ton, link.source_npi)?,
        destination_addr: address(Some(destination), link.destination_ton, link.destination_npi)?,
        esm_class: class,
        protocol_id: octet(submission.protocol_id)?,
        priority_flag: PriorityFlag(octet(submission.priority_flag)?),
        validity_period: validity(submission, now_ms),
        registered_delivery: RegisteredDelivery(octet(
            registered | (submission.registered_delivery & ACKNOWLEDGEMENTS),
        )?),
        data_coding: DataCoding(octet(submission.data_coding)?),
        ..SubmitSm::default()
    })
}

/// What is left of the message's life, as a relative time (SMPP v3.4 section 7.1.1.2); a second at least.
fn validity(submission: &Submission, now_ms: u64) -> TimeString {
    if submission.expires_at_ms == 0 {
        return TimeString::default();
    }
    let seconds = (submission.expires_at_ms.saturating_sub(now_ms) / 1_000).clamp(1, VALIDITY_MAX_S);
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    let [days, hours, minutes, seconds] = [hours / 24, hours % 24, minutes % 60, seconds % 60];
    let text = format!("0000{days:02}{hours:02}{minutes:02}{seconds:02}000R");
    text.parse().expect("a time string has 16 characters")
}

fn address(stored: Option<&model::Address>, ton: Option<u32>, npi: Option<u32>) -> Result<Address, Unsendable> {
    let Some(stored) = stored else { return Ok(Address::default()) };
    let (ton, npi) = (ton.unwrap_or(stored.ton), npi.unwrap_or(stored.npi));
    Address::new(Ton(octet(ton)?), Npi(octet(npi)?), stored.digits.clone()).map_err(|_| Unsendable::Record)
}

fn octet(value: u32) -> Result<u8, Unsendable> {
    u8::try_from(value).map_err(|_| Unsendable::Record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_proto::text::{Part, join};

    fn message(change: impl FnOnce(&mut Submission)) -> Message {
        let address = |digits: &str| Some(model::Address { ton: 1, npi: 1, digits: digits.to_owned() });
        let mut submission = Submission {
            source: address("1000"),
            destination: address("15551"),
            esm_class: 3,
            registered_delivery: 0x04,
            short_message: Bytes::from_static(b"hello"),
            expires_at_ms: 90_061_000,
            ..Submission::default()
        };
        change(&mut submission);
        Message { id: 0x1_07, submission: Some(submission), ..Message::default() }
    }

    fn made(link: &Link, version: InterfaceVersion, change: impl FnOnce(&mut Submission)) -> Vec<SubmitSm> {
        {
            let message = message(change);
            let destination = message.submission.as_ref().and_then(|content| content.destination.clone()).unwrap();
            submit_sms(&message, &destination, link, version, 0).expect("sendable")
        }
    }

    #[test]
    fn a_short_message_passes_and_asks_for_a_receipt() {
        let sent = made(&Link::default(), InterfaceVersion::V3_4, |_| ());
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].short_message, "hello");
        assert_eq!((sent[0].esm_class, sent[0].registered_delivery), (EsmClass(0), RegisteredDelivery(5)));
        // A day, an hour, a minute and a second.
        assert_eq!(sent[0].validity_period, "000001010101000R");
        let silent = Link { receipts: Receipts::Never as i32, ..Link::default() };
        assert_eq!(made(&silent, InterfaceVersion::V3_4, |_| ())[0].registered_delivery, RegisteredDelivery(4));
    }

    #[test]
    fn addresses_are_written_as_the_link_wants_them() {
        let link = Link { source_ton: Some(5), destination_npi: Some(0), ..Link::default() };
        let sent = made(&link, InterfaceVersion::V3_4, |_| ());
        assert_eq!((sent[0].source_addr.ton, sent[0].source_addr.npi), (Ton(5), Npi(1)));
        assert_eq!((sent[0].destination_addr.ton, sent[0].destination_addr.npi), (Ton(1), Npi(0)));
    }

    #[test]
    fn long_text_goes_in_the_form_that_the_link_takes() {
        let text: Bytes = (0..400u32).map(|index| b'a' + (index % 26) as u8).collect::<Vec<_>>().into();
        let long = |form: LongMessages| Link { long_messages: form as i32, ..Link::default() };
        let send = |form, version| made(&long(form), version, |submission| submission.short_message = text.clone());
        for version in [InterfaceVersion::V3_3, InterfaceVersion::V3_4] {
            let sent = send(LongMessages::Udh, version);
            assert_eq!(sent.len(), 3);
            assert!(sent.iter().all(|part| part.esm_class.udhi()));
            let parts: Vec<_> = sent.iter().map(|part| Part::from_user_data(&part.short_message).unwrap()).collect();
            assert_eq!(join(&parts).unwrap(), text);
        }
        let sent = send(LongMessages::Sar, InterfaceVersion::V3_4);
        assert_eq!(sent.iter().map(|part| part.tlvs.sar_segment_seqnum().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        assert!(sent.iter().all(|part| part.tlvs.sar_total_segments() == Some(3)));
        assert!(sent.iter().all(|part| part.tlvs.sar_msg_ref_num() == Some(7)));
        assert_eq!(sent.iter().map(|part| part.short_message.len()).sum::<usize>(), 400);
        let sent = send(LongMessages::Payload, InterfaceVersion::V3_4);
        assert_eq!((sent.len(), sent[0].tlvs.message_payload()), (1, Some(text.clone())));
        // A peer without TLVs gets what it can read.
        assert_eq!(send(LongMessages::Payload, InterfaceVersion::V3_3).len(), 3);
    }

    #[test]
    fn what_is_a_segment_already_passes_as_it_is() {
        let segment = Bytes::from_static(b"\x05\0\x03\x09\x02\x01text");
        let sent = made(&Link::default(), InterfaceVersion::V3_4, |submission| {
            submission.esm_class = 0x40;
            submission.short_message = segment.clone();
        });
        assert_eq!((sent.len(), &sent[0].short_message), (1, &segment));
        let mut tlvs = Tlvs::new();
        tlvs.push_u8(Tag::SAR_TOTAL_SEGMENTS, 2);
        let stored = Bytes::copy_from_slice(tlvs.as_bytes());
        let sent = made(&Link::default(), InterfaceVersion::V3_4, |submission| submission.tlvs = stored);
        assert_eq!(sent[0].tlvs.sar_total_segments(), Some(2));
    }

    #[test]
    fn segments_are_counted_as_the_radio_side_has_them() {
        let count = |text: usize, data_coding: u32, esm_class: u32| {
            let message = message(|submission| {
                submission.short_message = vec![b'x'; text].into();
                (submission.data_coding, submission.esm_class) = (data_coding, esm_class);
            });
            segment_count(message.submission.as_ref().unwrap())
        };
        assert_eq!([count(0, 0, 0), count(160, 0, 0), count(161, 0, 0), count(140, 8, 0)], [1, 1, 2, 1]);
        assert_eq!([count(142, 8, 0), count(140, 4, 0), count(141, 4, 0), count(254, 4, 0x40)], [2, 1, 2, 1]);
    }
}
