//! From a stored message to the deliver_sm that carries it. Pure.

use bytes::Bytes;
use smsc_proto::pdu::DeliverSm;
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{
    Address, DataCoding, EsmClass, InterfaceVersion, MessagingMode, Npi, PriorityFlag, RegisteredDelivery, Ton,
};
use smsc_raft::model::{self, Message, MessageKind};
use thiserror::Error;

/// Octets that short_message holds for every version (SMPP v3.4 section 5.2.22); longer text is message_payload.
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// The acknowledgements that the receiving SME is asked for: bits 3 and 2 of registered_delivery.
const ACKNOWLEDGEMENTS: u32 = 0b1100;

/// TLVs that speak to the message centre and have no place in deliver_sm (v5.0 section 4.3.1).
const SUBMISSION_TLVS: [Tag; 9] = [
    Tag::QOS_TIME_TO_LIVE,
    Tag::SET_DPF,
    Tag::MORE_MESSAGES_TO_SEND,
    Tag::NUMBER_OF_MESSAGES,
    Tag::ALERT_ON_MESSAGE_DELIVERY,
    Tag::MS_MSG_WAIT_FACILITIES,
    Tag::MS_VALIDITY,
    Tag::DISPLAY_TIME,
    Tag::BILLING_IDENTIFICATION,
];

/// Why a message cannot be put into a deliver_sm for this ESME.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Undeliverable {
    /// More text than short_message holds, for a peer without message_payload.
    #[error("the text has {octets} octets; an ESME of version 3.3 takes at most {SHORT_MESSAGE_OCTETS_MAX}")]
    TooLong {
        /// Octets of the text.
        octets: usize,
    },
    /// The record is not one that this version can read.
    #[error("the stored message cannot be put into a deliver_sm")]
    Record,
}

/// The deliver_sm for `message` to an ESME that speaks `version`.
///
/// # Errors
/// [`Undeliverable`]: no attempt can succeed in this session.
pub fn deliver_sm(message: &Message, version: InterfaceVersion) -> Result<DeliverSm, Undeliverable> {
    let submission = message.submission.as_ref().ok_or(Undeliverable::Record)?;
    let tlvs = Tlvs::try_from(submission.tlvs.clone()).map_err(|_| Undeliverable::Record)?;
    let payload = tlvs.get(Tag::MESSAGE_PAYLOAD).filter(|_| submission.short_message.is_empty());
    let text = payload.unwrap_or_else(|| submission.short_message.clone());
    let fits = text.len() <= SHORT_MESSAGE_OCTETS_MAX;
    if !fits && !version.has_tlvs() {
        return Err(Undeliverable::TooLong { octets: text.len() });
    }
    let mut kept = without_submission_tlvs(tlvs)?;
    let short_message = if fits {
        text
    } else {
        kept.push(Tag::MESSAGE_PAYLOAD, &text).map_err(|_| Undeliverable::Record)?;
        Bytes::new()
    };
    let acknowledgements = match submission.kind() {
        MessageKind::Submitted => submission.registered_delivery & ACKNOWLEDGEMENTS,
        MessageKind::Mo | MessageKind::Receipt => 0,
    };
    Ok(DeliverSm {
        service_type: submission.service_type.parse().map_err(|_| Undeliverable::Record)?,
        source_addr: address(submission.source.as_ref())?,
        destination_addr: address(submission.destination.as_ref())?,
        // The mode was for us; type and features are for the receiver.
        esm_class: EsmClass(octet(submission.esm_class)?).with_mode(MessagingMode::Default),
        protocol_id: octet(submission.protocol_id)?,
        priority_flag: PriorityFlag(octet(submission.priority_flag)?),
        registered_delivery: RegisteredDelivery(octet(acknowledgements)?),
        data_coding: DataCoding(octet(submission.data_coding)?),
        short_message,
        tlvs: kept,
        ..DeliverSm::default()
    })
}

/// The TLVs that go on, in their order; message_payload is put back where the text needs it.
fn without_submission_tlvs(tlvs: Tlvs) -> Result<Tlvs, Undeliverable> {
    let goes_on = |tag: Tag| tag != Tag::MESSAGE_PAYLOAD && !SUBMISSION_TLVS.contains(&tag);
    if tlvs.iter().all(|tlv| goes_on(tlv.tag)) {
        return Ok(tlvs);
    }
    let mut kept = Tlvs::new();
    for tlv in tlvs.iter().filter(|tlv| goes_on(tlv.tag)) {
        kept.push(tlv.tag, &tlv.value).map_err(|_| Undeliverable::Record)?;
    }
    Ok(kept)
}

fn address(stored: Option<&model::Address>) -> Result<Address, Undeliverable> {
    let Some(stored) = stored else { return Ok(Address::default()) };
    let digits = stored.digits.clone();
    Address::new(Ton(octet(stored.ton)?), Npi(octet(stored.npi)?), digits).map_err(|_| Undeliverable::Record)
}

fn octet(value: u32) -> Result<u8, Undeliverable> {
    u8::try_from(value).map_err(|_| Undeliverable::Record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_raft::model::Submission;

    fn message(change: impl FnOnce(&mut Submission)) -> Message {
        let address = |digits: &str| Some(model::Address { ton: 1, npi: 1, digits: digits.to_owned() });
        let mut submission = Submission {
            source: address("15551"),
            destination: address("1000"),
            esm_class: 0x43,
            registered_delivery: 0x05,
            short_message: Bytes::from_static(b"hello"),
            ..Submission::default()
        };
        change(&mut submission);
        Message { id: 1, submission: Some(submission), ..Message::default() }
    }

    #[test]
    fn the_mode_stays_here_and_the_header_mark_goes_on() {
        let made = deliver_sm(&message(|_| {}), InterfaceVersion::V3_4).expect("good");
        assert_eq!((made.esm_class, made.registered_delivery), (EsmClass(0x40), RegisteredDelivery(0x04)));
        assert_eq!(made.source_addr, Address::international("15551").expect("short"));
        assert_eq!(made.short_message, "hello");
    }

    #[test]
    fn long_text_goes_as_payload_and_not_to_version_3_3() {
        let long = message(|submission| submission.short_message = vec![b'x'; 255].into());
        let made = deliver_sm(&long, InterfaceVersion::V3_4).expect("good");
        assert!(made.short_message.is_empty());
        assert_eq!(made.tlvs.message_payload().map(|payload| payload.len()), Some(255));
        assert_eq!(deliver_sm(&long, InterfaceVersion::V3_3), Err(Undeliverable::TooLong { octets: 255 }));
    }

    #[test]
    fn a_payload_that_fits_goes_as_short_message() {
        let mut tlvs = Tlvs::new();
        tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 9);
        tlvs.push(Tag::MESSAGE_PAYLOAD, b"payload").expect("short");
        tlvs.push_u8(Tag::SET_DPF, 1);
        let short = message(|submission| {
            submission.short_message = Bytes::new();
            submission.tlvs = Bytes::copy_from_slice(tlvs.as_bytes());
        });
        let made = deliver_sm(&short, InterfaceVersion::V3_3).expect("good");
        assert_eq!(made.short_message, "payload");
        assert_eq!(made.tlvs.as_bytes(), b"\x02\x04\0\x02\0\x09");
    }

    #[test]
    fn a_record_that_cannot_be_is_told_and_harms_nothing() {
        for change in [
            (|s: &mut Submission| s.service_type = "far too long".into()) as fn(&mut Submission),
            |s| s.tlvs = Bytes::from_static(b"x"),
            |s| s.data_coding = 256,
            |s| s.source.as_mut().expect("set above").digits = "1".repeat(21),
        ] {
            assert_eq!(deliver_sm(&message(change), InterfaceVersion::V3_4), Err(Undeliverable::Record));
        }
    }
}
