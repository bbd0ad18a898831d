//! From a stored message to the submit_sm, one or several, that carry it over a link. Pure.

use bytes::Bytes;
use smsc_proto::pdu::{CancelSm, SubmitSm};
use smsc_proto::text::{Content, FormError, LongForm, Reference};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{
    Address, DataCoding, EsmClass, InterfaceVersion, MessagingMode, Npi, PriorityFlag, RegisteredDelivery, TimeString,
    Ton,
};
use smsc_raft::model::link::{LongMessages, Receipts};
use smsc_raft::model::{self, DefaultAlphabet, Link, Message, Submission};
use thiserror::Error;

use crate::smpp::alphabet::{self, Rewritten, Text};

/// Octets that short_message holds for every version (SMPP v3.4 section 5.2.22).
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// Octets that one short message carries in any alphabet (3GPP TS 23.040 section 9.2.3.24).
const SEGMENT_OCTETS: usize = 140;
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
/// `destination` is how its route has the number written, `version` what the peer of the bind speaks. A message that is
/// a segment already keeps its numbers, in the form that the link takes.
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
    let head = head(submission, destination, link, now_ms)?;
    let (content, rewritten) = in_alphabet(content(submission)?, link.default_alphabet());
    let form = match link.long_messages() {
        _ if !version.has_tlvs() => LongForm::UserDataHeader,
        LongMessages::Udh => LongForm::UserDataHeader,
        LongMessages::Sar => LongForm::SegmentTlvs,
        LongMessages::Payload => LongForm::Payload,
    };
    let contents = match content.in_form(form, Reference::Eight(reference(message.id))) {
        Ok(contents) => contents,
        // Nothing can be made of a header that cannot be read: it goes as it came.
        Err(FormError::Header(_)) => vec![content],
        Err(FormError::Split(_) | FormError::TooLong) => return Err(Unsendable::TooLong),
    };
    let written = |content: Content| match rewritten {
        true => with_text(content, |text| alphabet::delivered(link.default_alphabet(), text)),
        false => content,
    };
    contents.into_iter().map(|content| submit_sm(&head, written(content), version)).collect()
}

/// The cancel_sm for each part of a message that another message centre has accepted and not reported on.
///
/// `destination` is how its route has the number written. Empty for a message that nobody has, or not under ids.
///
/// # Errors
/// [`Unsendable`]: the record is not one that this version can read.
pub fn cancel_sms(message: &Message, destination: &model::Address, link: &Link) -> Result<Vec<CancelSm>, Unsendable> {
    let submission = message.submission.as_ref().ok_or(Unsendable::Record)?;
    let Some(handed) = &message.handed else { return Ok(Vec::new()) };
    let source_addr = address(submission.source.as_ref(), link.source_ton, link.source_npi)?;
    let destination_addr = address(Some(destination), link.destination_ton, link.destination_npi)?;
    let open = |part: &&model::LinkPart| part.state() == model::MessageState::Scheduled;
    let ids = handed.parts.iter().filter(open).map(|part| part.message_id.as_str());
    let whole = handed.parts.is_empty().then_some(handed.remote_id.as_str());
    let ids: Vec<&str> = ids.chain(whole).collect();
    // One part without an id, and the message cannot be cancelled.
    if ids.contains(&"") {
        return Ok(Vec::new());
    }
    let cancel = |id: &str| {
        Ok(CancelSm {
            message_id: id.parse().map_err(|_| Unsendable::Record)?,
            source_addr: source_addr.clone(),
            destination_addr: destination_addr.clone(),
            ..CancelSm::default()
        })
    };
    ids.into_iter().map(cancel).collect()
}

/// The text as the peer reads it, which has data_coding 0 stand for `alphabet`. In UCS-2 if that alphabet cannot write all
/// of it; otherwise as it is, and to be rewritten once it is split, because phones count its septets. Whether it is.
fn in_alphabet(content: Content, alphabet: DefaultAlphabet) -> (Content, bool) {
    let octets = alphabet::octets_of(&content.short_message, &content.tlvs);
    let text = text(&content, &octets);
    if text.is_part() {
        return (with_text(content, |text| alphabet::delivered_segment(alphabet, text)), false);
    }
    match alphabet::delivered(alphabet, text) {
        None => (content, false),
        Some((0, _)) => (content, true),
        Some(other) => (with_text(content, |_| Some(other)), false),
    }
}

fn text<'a>(content: &Content, octets: &'a [u8]) -> Text<'a> {
    Text::new(content.data_coding, content.udhi, &content.tlvs, octets)
}

/// The same with its text written otherwise, in short_message, if it can be.
fn with_text(content: Content, rewrite: impl FnOnce(Text<'_>) -> Option<Rewritten>) -> Content {
    let octets = alphabet::octets_of(&content.short_message, &content.tlvs);
    match rewrite(text(&content, &octets)) {
        None => content,
        Some((data_coding, octets)) => Content {
            data_coding,
            short_message: octets.into(),
            tlvs: content.tlvs.without(|tag| tag == Tag::MESSAGE_PAYLOAD),
            ..content
        },
    }
}

/// One submit_sm: the text in short_message if that holds it.
fn submit_sm(head: &SubmitSm, content: Content, version: InterfaceVersion) -> Result<SubmitSm, Unsendable> {
    let text = alphabet::octets_of(&content.short_message, &content.tlvs);
    let mut tlvs = match version.has_tlvs() {
        true => content.tlvs.without(|tag| tag == Tag::MESSAGE_PAYLOAD),
        false => Tlvs::new(),
    };
    let short_message = if text.len() <= SHORT_MESSAGE_OCTETS_MAX {
        text
    } else if version.has_tlvs() {
        tlvs.push(Tag::MESSAGE_PAYLOAD, &text).map_err(|_| Unsendable::TooLong)?;
        Bytes::new()
    } else {
        return Err(Unsendable::TooLong);
    };
    Ok(SubmitSm {
        esm_class: head.esm_class.with_udhi(content.udhi),
        data_coding: DataCoding(content.data_coding),
        short_message,
        tlvs,
        ..head.clone()
    })
}

/// Short messages that a submission takes on the radio side; one that is a segment itself counts as one. 0 for a text
/// that no number of them could carry.
pub fn segment_count(submission: &Submission) -> u32 {
    let Ok(content) = content(submission) else { return 0 };
    if !content.udhi && alphabet::octets_of(&content.short_message, &content.tlvs).len() <= SEGMENT_OCTETS {
        return 1;
    }
    match content.in_form(LongForm::UserDataHeader, Reference::Eight(0)) {
        Ok(segments) => u32::try_from(segments.len()).unwrap_or(u32::MAX),
        Err(FormError::Header(_)) => 1,
        Err(FormError::Split(_) | FormError::TooLong) => 0,
    }
}

fn content(submission: &Submission) -> Result<Content, Unsendable> {
    Ok(Content {
        udhi: EsmClass(octet(submission.esm_class)?).udhi(),
        data_coding: octet(submission.data_coding)?,
        short_message: submission.short_message.clone(),
        tlvs: Tlvs::try_from(submission.tlvs.clone()).map_err(|_| Unsendable::Record)?,
    })
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
    fn text_is_written_in_the_link_s_alphabet() {
        let latin1 = Link { default_alphabet: DefaultAlphabet::Latin1 as i32, ..Link::default() };
        let send = |text: Vec<u8>| made(&latin1, InterfaceVersion::V3_4, |made| made.short_message = text.into());
        let sent = send(vec![0x7b, 0]);
        assert_eq!((sent[0].data_coding.0, &sent[0].short_message[..]), (0, &b"\xe4@"[..]));
        // A euro sign, which Latin-1 has not: all of it goes as UCS-2.
        let sent = send(vec![0x1b, 0x65, 0x7b]);
        assert_eq!((sent[0].data_coding.0, &sent[0].short_message[..]), (8, &b"\x20\xac\0\xe4"[..]));
        // 80 brackets are 160 septets and fit; 81 are two segments, split where phones count.
        assert_eq!(send([0x1b, 0x3c].repeat(80)).len(), 1);
        let sent = send([0x1b, 0x3c].repeat(81));
        assert_eq!(sent.len(), 2);
        assert!(
            sent.iter().all(|part| part.data_coding.0 == 0 && part.short_message[6..].iter().all(|it| *it == b'['))
        );
        assert_eq!(sent.iter().map(|part| part.short_message.len() - 6).sum::<usize>(), 81);
        // A segment stays one, whatever is in it.
        let segment = [&b"\x05\0\x03\x09\x02\x01"[..], &[0x1b, 0x65].repeat(76)].concat();
        let sent = made(&latin1, InterfaceVersion::V3_4, |made| {
            (made.esm_class, made.short_message) = (0x40, segment.clone().into());
        });
        assert_eq!((sent.len(), sent[0].data_coding.0, sent[0].short_message.len()), (1, 0, 6 + 76));
        assert!(sent[0].short_message.starts_with(&segment[..6]) && sent[0].short_message.ends_with(b"??"));
        let gsm = made(&Link::default(), InterfaceVersion::V3_4, |made| made.short_message = vec![0x7b, 0].into());
        assert_eq!(&gsm[0].short_message[..], [0x7b, 0]);
    }

    #[test]
    fn what_is_a_segment_already_keeps_its_numbers_in_the_form_that_the_link_takes() {
        let form = |form: LongMessages| Link { long_messages: form as i32, ..Link::default() };
        let segment = Bytes::from_static(b"\x05\0\x03\x09\x02\x01text");
        let with_header = |link: &Link| {
            let sent = made(link, InterfaceVersion::V3_4, |submission| {
                submission.esm_class = 0x40;
                submission.short_message = segment.clone();
            });
            assert_eq!(sent.len(), 1);
            sent.into_iter().next().unwrap()
        };
        for as_it_is in [LongMessages::Udh, LongMessages::Payload] {
            let sent = with_header(&form(as_it_is));
            assert_eq!((sent.esm_class.udhi(), &sent.short_message), (true, &segment));
        }
        let sent = with_header(&form(LongMessages::Sar));
        assert_eq!((sent.esm_class.udhi(), &sent.short_message[..]), (false, &b"text"[..]));
        assert_eq!((sent.tlvs.sar_msg_ref_num(), sent.tlvs.sar_segment_seqnum()), (Some(9), Some(1)));

        let mut tlvs = Tlvs::new();
        tlvs.push_u16(Tag::SAR_MSG_REF_NUM, 9);
        tlvs.push_u8(Tag::SAR_TOTAL_SEGMENTS, 2);
        tlvs.push_u8(Tag::SAR_SEGMENT_SEQNUM, 1);
        let stored = Bytes::copy_from_slice(tlvs.as_bytes());
        let with_tlvs = |submission: &mut Submission| {
            (submission.tlvs, submission.short_message) = (stored.clone(), Bytes::from_static(b"text"));
        };
        let sent = made(&form(LongMessages::Sar), InterfaceVersion::V3_4, with_tlvs);
        assert_eq!(sent[0].tlvs.sar_total_segments(), Some(2));
        // A peer without TLVs would take it for a whole message.
        let sent = made(&form(LongMessages::Sar), InterfaceVersion::V3_3, with_tlvs);
        assert_eq!((sent.len(), sent[0].esm_class.udhi(), &sent[0].short_message), (1, true, &segment));
    }

    #[test]
    fn other_headers_are_in_every_segment_and_broken_ones_pass() {
        let ports = [b"\x06\x05\x04\x0b\x84\0\0".as_slice(), &[b'x'; 200]].concat();
        let with = |text: Vec<u8>| {
            made(&Link::default(), InterfaceVersion::V3_3, |submission| {
                (submission.esm_class, submission.data_coding, submission.short_message) = (0x40, 4, text.into());
            })
        };
        let sent = with(ports);
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|part| part.short_message.windows(6).any(|at| at == b"\x05\x04\x0b\x84\0\0")));
        let broken = b"\x03\x24\x09\x01text".to_vec();
        let sent = with(broken.clone());
        assert_eq!((sent.len(), &sent[0].short_message[..]), (1, &broken[..]));
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
