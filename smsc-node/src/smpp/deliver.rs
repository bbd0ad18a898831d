//! From a stored message to the deliver_sm or data_sm that carries it. Pure.

use bytes::Bytes;
use smsc_proto::pdu::{AlertNotification, Body, DataSm, DeliverSm};
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{
    Address, DataCoding, EsmClass, InterfaceVersion, MessagingMode, Npi, PriorityFlag, RegisteredDelivery, Ton,
};
use smsc_raft::model::{self, Account, DeliverOperation, Message, MessageKind, ReceiptContent, Submission};
use thiserror::Error;

use super::alphabet::{self, Text};

/// Octets that short_message holds for every version (SMPP v3.4 section 5.2.22); longer text is message_payload.
const SHORT_MESSAGE_OCTETS_MAX: usize = 254;
/// The acknowledgements that the receiving SME is asked for: bits 3 and 2 of registered_delivery.
const ACKNOWLEDGEMENTS: u32 = 0b1100;

/// TLVs that speak to the message centre: how long it keeps the message, what it does when the number is away, and who
/// is charged. Others pass, those for the handset (ms_validity, display_time) included, known or not.
const SUBMISSION_TLVS: [Tag; 4] =
    [Tag::QOS_TIME_TO_LIVE, Tag::SET_DPF, Tag::MORE_MESSAGES_TO_SEND, Tag::BILLING_IDENTIFICATION];
/// ms_availability_status of a number that can be reached (SMPP v3.4 section 5.3.2.30).
const MS_AVAILABLE: u8 = 0;
/// TLVs that tell what the text of a receipt tells.
const RECEIPT_TLVS: [Tag; 3] = [Tag::RECEIPTED_MESSAGE_ID, Tag::MESSAGE_STATE, Tag::NETWORK_ERROR_CODE];

/// Why a message cannot be delivered to this ESME.
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

/// The request that carries `message` to an ESME of `account` that speaks `version`: deliver_sm, or data_sm where the
/// account asks for it. Version 3.3 knows no data_sm and no TLVs, and gets neither.
///
/// Text that fits short_message goes there, also where it came as message_payload: every ESME reads short_message.
///
/// # Errors
/// [`Undeliverable`]: no attempt can succeed in this session.
pub fn request(message: &Message, version: InterfaceVersion, account: &Account) -> Result<Body, Undeliverable> {
    let submission = message.submission.as_ref().ok_or(Undeliverable::Record)?;
    let content = content(submission, version, account)?;
    let operation = match submission.kind() {
        MessageKind::Receipt => account.receipt_operation(),
        MessageKind::Submitted | MessageKind::Mo | MessageKind::Alert => account.message_operation(),
    };
    match operation {
        DeliverOperation::DataSm if version.has_tlvs() => data_sm(submission, content).map(Body::DataSm),
        DeliverOperation::DataSm | DeliverOperation::DeliverSm => {
            deliver_sm(submission, content, version).map(Body::DeliverSm)
        }
    }
}

/// The alert_notification (SMPP v3.4 section 4.12) that `message` stands for: the number that it is from can be reached.
/// `None` for a message that is to be delivered.
pub fn alert(message: &Message) -> Option<Result<AlertNotification, Undeliverable>> {
    let submission = message.submission.as_ref().filter(|submission| submission.kind() == MessageKind::Alert)?;
    let made = || {
        let mut tlvs = Tlvs::new();
        tlvs.push_u8(Tag::MS_AVAILABILITY_STATUS, MS_AVAILABLE);
        Ok(AlertNotification {
            source_addr: address(submission.source.as_ref())?.into(),
            esme_addr: address(submission.destination.as_ref())?.into(),
            tlvs,
        })
    };
    Some(made())
}

/// What both operations have in common.
struct Content {
    data_coding: u8,
    text: Bytes,
    /// Without message_payload.
    tlvs: Tlvs,
}

fn content(submission: &Submission, version: InterfaceVersion, account: &Account) -> Result<Content, Undeliverable> {
    let tlvs = Tlvs::try_from(submission.tlvs.clone()).map_err(|_| Undeliverable::Record)?;
    let payload = tlvs.get(Tag::MESSAGE_PAYLOAD).filter(|_| submission.short_message.is_empty());
    let mut text = payload.unwrap_or_else(|| submission.short_message.clone());
    let mut data_coding = octet(submission.data_coding)?;
    let receipt_content = match submission.kind() {
        MessageKind::Receipt => account.receipt_content(),
        MessageKind::Submitted | MessageKind::Mo | MessageKind::Alert => ReceiptContent::TextAndTlvs,
    };
    // Without TLVs the text is all that a receipt has.
    if receipt_content == ReceiptContent::Tlvs && version.has_tlvs() {
        (data_coding, text) = (0, Bytes::new());
    }
    let written = Text::new(data_coding, EsmClass(octet(submission.esm_class)?).udhi(), &tlvs, &text);
    if let Some((coding, octets)) = alphabet::delivered(account.default_alphabet(), written) {
        (data_coding, text) = (coding, octets.into());
    }
    let stays_here = |tag: Tag| {
        tag == Tag::MESSAGE_PAYLOAD
            || SUBMISSION_TLVS.contains(&tag)
            || (receipt_content == ReceiptContent::Text && RECEIPT_TLVS.contains(&tag))
    };
    let tlvs = if version.has_tlvs() { tlvs.without(stays_here) } else { Tlvs::new() };
    Ok(Content { data_coding, text, tlvs })
}

fn deliver_sm(
    submission: &Submission,
    content: Content,
    version: InterfaceVersion,
) -> Result<DeliverSm, Undeliverable> {
    let Content { data_coding, text, mut tlvs } = content;
    let fits = text.len() <= SHORT_MESSAGE_OCTETS_MAX;
    if !fits && !version.has_tlvs() {
        return Err(Undeliverable::TooLong { octets: text.len() });
    }
    let short_message = if fits {
        text
    } else {
        tlvs.push(Tag::MESSAGE_PAYLOAD, &text).map_err(|_| Undeliverable::Record)?;
        Bytes::new()
    };
    Ok(DeliverSm {
        service_type: submission.service_type.parse().map_err(|_| Undeliverable::Record)?,
        source_addr: address(submission.source.as_ref())?,
        destination_addr: address(submission.destination.as_ref())?,
        esm_class: esm_class(submission)?,
        protocol_id: octet(submission.protocol_id)?,
        priority_flag: PriorityFlag(octet(submission.priority_flag)?),
        registered_delivery: registered_delivery(submission)?,
        data_coding: DataCoding(data_coding),
        short_message,
        tlvs,
        ..DeliverSm::default()
    })
}

fn data_sm(submission: &Submission, content: Content) -> Result<DataSm, Undeliverable> {
    let Content { data_coding, text, mut tlvs } = content;
    if !text.is_empty() {
        tlvs.push(Tag::MESSAGE_PAYLOAD, &text).map_err(|_| Undeliverable::Record)?;
    }
    Ok(DataSm {
        service_type: submission.service_type.parse().map_err(|_| Undeliverable::Record)?,
        source_addr: address(submission.source.as_ref())?.into(),
        destination_addr: address(submission.destination.as_ref())?.into(),
        esm_class: esm_class(submission)?,
        registered_delivery: registered_delivery(submission)?,
        data_coding: DataCoding(data_coding),
        tlvs,
    })
}

/// The mode was for us; type and features are for the receiver.
fn esm_class(submission: &Submission) -> Result<EsmClass, Undeliverable> {
    Ok(EsmClass(octet(submission.esm_class)?).with_mode(MessagingMode::Default))
}

/// The receipt was asked of us, the acknowledgements are asked of the receiver.
fn registered_delivery(submission: &Submission) -> Result<RegisteredDelivery, Undeliverable> {
    let acknowledgements = match submission.kind() {
        MessageKind::Submitted => submission.registered_delivery & ACKNOWLEDGEMENTS,
        MessageKind::Mo | MessageKind::Receipt | MessageKind::Alert => 0,
    };
    Ok(RegisteredDelivery(octet(acknowledgements)?))
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
    use smsc_raft::model::DefaultAlphabet;

    fn message(change: impl FnOnce(&mut Submission)) -> Message {
        let address = |digits: &str| Some(model::Address { ton: 1, npi: 1, digits: digits.to_owned() });
        let mut submission = Submission {
            source: address("15551"),
            destination: address("1000"),
            esm_class: 0x43,
            registered_delivery: 0x05,
            short_message: Bytes::from_static(b"\x01\0hello"),
            ..Submission::default()
        };
        change(&mut submission);
        Message { id: 1, submission: Some(submission), ..Message::default() }
    }

    fn tlvs(fill: impl FnOnce(&mut Tlvs)) -> Bytes {
        let mut tlvs = Tlvs::new();
        fill(&mut tlvs);
        Bytes::copy_from_slice(tlvs.as_bytes())
    }

    /// The deliver_sm for a session of this version.
    fn sent(message: &Message, version: InterfaceVersion) -> Result<DeliverSm, Undeliverable> {
        request(message, version, &Account::default()).map(|body| match body {
            Body::DeliverSm(deliver) => deliver,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_mode_stays_here_and_the_header_mark_goes_on() {
        let made = sent(&message(|_| {}), InterfaceVersion::V3_4).expect("good");
        assert_eq!((made.esm_class, made.registered_delivery), (EsmClass(0x40), RegisteredDelivery(0x04)));
        assert_eq!(made.source_addr, Address::international("15551").expect("short"));
        assert_eq!(made.short_message, &b"\x01\0hello"[..]);
    }

    #[test]
    fn long_text_goes_as_payload_and_not_to_version_3_3() {
        let long = message(|submission| submission.short_message = vec![b'x'; 255].into());
        let made = sent(&long, InterfaceVersion::V3_4).expect("good");
        assert!(made.short_message.is_empty());
        assert_eq!(made.tlvs.message_payload().map(|payload| payload.len()), Some(255));
        assert_eq!(sent(&long, InterfaceVersion::V3_3), Err(Undeliverable::TooLong { octets: 255 }));
    }

    #[test]
    fn a_payload_that_fits_goes_as_short_message() {
        let short = message(|submission| {
            submission.short_message = Bytes::new();
            submission.tlvs = tlvs(|tlvs| {
                tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 9);
                tlvs.push(Tag::MESSAGE_PAYLOAD, b"payload").expect("short");
                tlvs.push_u8(Tag::SET_DPF, 1);
            });
        });
        let made = sent(&short, InterfaceVersion::V3_4).expect("good");
        assert_eq!(made.short_message, "payload");
        assert_eq!(made.tlvs.as_bytes(), b"\x02\x04\0\x02\0\x09");
        let made = sent(&short, InterfaceVersion::V3_3).expect("good");
        assert_eq!((made.short_message, made.tlvs), ("payload".into(), Tlvs::new()));
    }

    #[test]
    fn tlvs_for_the_receiver_pass_in_their_order_known_or_not() {
        let given = tlvs(|tlvs| {
            tlvs.push(Tag(0x1400), b"vendor").expect("short");
            tlvs.push_u8(Tag::DEST_ADDR_SUBUNIT, 3);
            tlvs.push(Tag::CALLBACK_NUM, b"\x01\x01\x0115550").expect("short");
            tlvs.push_u16(Tag::SAR_MSG_REF_NUM, 7);
            tlvs.push_u8(Tag::SAR_TOTAL_SEGMENTS, 2);
            tlvs.push_u8(Tag::SAR_SEGMENT_SEQNUM, 1);
            tlvs.push_u8(Tag::MS_VALIDITY, 1);
            tlvs.push(Tag(0x3abc), b"").expect("short");
        });
        let with = message(|submission| submission.tlvs = given.clone());
        assert_eq!(sent(&with, InterfaceVersion::V5_0).expect("good").tlvs.as_bytes(), given);
    }

    #[test]
    fn data_sm_goes_where_the_account_asks_and_the_version_allows() {
        let account = Account { message_operation: DeliverOperation::DataSm as i32, ..Account::default() };
        let body = request(&message(|_| {}), InterfaceVersion::V3_4, &account).expect("good");
        let Body::DataSm(data) = body else { panic!("{body:?}") };
        assert_eq!(data.tlvs.message_payload().as_deref(), Some(&b"\x01\0hello"[..]));
        assert_eq!((data.esm_class, data.registered_delivery), (EsmClass(0x40), RegisteredDelivery(0x04)));
        assert_eq!(data.destination_addr.addr, "1000");
        let old = request(&message(|_| {}), InterfaceVersion::V3_3, &account).expect("good");
        assert!(matches!(old, Body::DeliverSm(_)));
        let receipt = message(|submission| submission.kind = MessageKind::Receipt as i32);
        assert!(matches!(request(&receipt, InterfaceVersion::V3_4, &account), Ok(Body::DeliverSm(_))));
    }

    #[test]
    fn receipts_hold_what_the_account_wants() {
        let receipt = message(|submission| {
            submission.kind = MessageKind::Receipt as i32;
            submission.esm_class = 4;
            submission.short_message = "id:7 stat:DELIVRD".into();
            submission.tlvs = tlvs(|tlvs| {
                tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"7").expect("short");
                tlvs.push_u8(Tag::MESSAGE_STATE, 2);
                tlvs.push_u16(Tag::USER_MESSAGE_REFERENCE, 9);
            });
        });
        let sent = |content: ReceiptContent, operation: DeliverOperation, version| {
            let account =
                Account { receipt_content: content as i32, receipt_operation: operation as i32, ..Account::default() };
            match request(&receipt, version, &account).expect("good") {
                Body::DeliverSm(deliver) => (deliver.short_message, deliver.tlvs),
                Body::DataSm(data) => (Bytes::from_static(b"data_sm"), data.tlvs),
                other => panic!("{other:?}"),
            }
        };
        let v3_4 = InterfaceVersion::V3_4;
        let text = Bytes::from_static(b"id:7 stat:DELIVRD");
        let (short, tlvs) = sent(ReceiptContent::TextAndTlvs, DeliverOperation::DeliverSm, v3_4);
        assert_eq!((&short, tlvs.iter().count()), (&text, 3));
        let (short, tlvs) = sent(ReceiptContent::Text, DeliverOperation::DeliverSm, v3_4);
        assert_eq!((&short, tlvs.as_bytes()), (&text, &b"\x02\x04\0\x02\0\x09"[..]));
        let (short, tlvs) = sent(ReceiptContent::Tlvs, DeliverOperation::DeliverSm, v3_4);
        assert_eq!((short, tlvs.iter().count()), (Bytes::new(), 3));
        let (short, tlvs) = sent(ReceiptContent::Tlvs, DeliverOperation::DeliverSm, InterfaceVersion::V3_3);
        assert_eq!((&short, tlvs.is_empty()), (&text, true), "the text is all that version 3.3 can get");
        let (operation, tlvs) = sent(ReceiptContent::Tlvs, DeliverOperation::DataSm, v3_4);
        assert_eq!((&operation[..], tlvs.message_payload()), (&b"data_sm"[..], None));
        let (_, tlvs) = sent(ReceiptContent::TextAndTlvs, DeliverOperation::DataSm, v3_4);
        assert_eq!(tlvs.message_payload(), Some(text));
    }

    #[test]
    fn text_is_written_in_the_account_s_alphabet() {
        let gsm = message(|submission| (submission.esm_class, submission.short_message) = (0, "\0".into()));
        let account = Account { default_alphabet: DefaultAlphabet::Latin1 as i32, ..Account::default() };
        let body = request(&gsm, InterfaceVersion::V3_4, &account).expect("good");
        assert!(matches!(body, Body::DeliverSm(deliver) if deliver.short_message == "@"));
    }

    #[test]
    fn a_record_that_cannot_be_is_told_and_harms_nothing() {
        for change in [
            (|s: &mut Submission| s.service_type = "far too long".into()) as fn(&mut Submission),
            |s| s.tlvs = Bytes::from_static(b"x"),
            |s| s.data_coding = 256,
            |s| s.source.as_mut().expect("set above").digits = "1".repeat(21),
        ] {
            assert_eq!(sent(&message(change), InterfaceVersion::V3_4), Err(Undeliverable::Record));
        }
    }
}
