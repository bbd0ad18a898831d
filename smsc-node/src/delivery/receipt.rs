//! Delivery receipts: from a message and the state it ends in to a message of their own.

use smsc_proto::receipt::{Receipt, ReceiptDate, ReceiptState, TEXT_OCTETS_MAX};
use smsc_proto::time::WallTime;
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{DataCoding, EsmClass, NetworkErrorCode, ReceiptRequest, RegisteredDelivery};
use smsc_raft::model::{Message, MessageKind, MessageState, QueueKind, Submission};

use super::route::LINK_ESME;

/// Life of a receipt when the operator's settings name none. Seconds.
pub const RECEIPT_VALIDITY_DEFAULT_S: u64 = 7 * 86_400;

/// A network_error_code as the records keep it: the network type in bits 16 to 23, its code below; 0 for none.
pub fn error_of(code: NetworkErrorCode) -> u32 {
    u32::from(code.network_type) << 16 | u32::from(code.error_code)
}

/// The network_error_code of a record; a number without a network type counts as one of GSM. `None` for 0.
pub fn network_error(error: u32) -> Option<NetworkErrorCode> {
    let [_, network_type, high, low] = error.to_be_bytes();
    let network_type = if network_type == 0 { NetworkErrorCode::GSM } else { network_type };
    (error != 0).then_some(NetworkErrorCode { network_type, error_code: u16::from_be_bytes([high, low]) })
}

/// How an account and its operator want receipts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long a receipt may wait, seconds; 0 for the default.
    pub validity_s: u64,
    /// Offset from UTC of the dates in its text, minutes.
    pub utc_offset_min: i32,
    /// Whether it goes to the bind that submitted, if that is there.
    pub to_submitter: bool,
}

/// The receipt for `message` ending in `state` at `at_ms`, if its ESME asked for one (registered_delivery, SMPP v3.4
/// section 5.2.17; 3, on success alone, is of v5.0).
///
/// `error` is the network's code as the records keep it ([`error_of`]). Receipts and MO messages never have a receipt.
/// What the account wants of text and TLVs is left to the delivery: both are here.
pub fn submission(message: &Message, state: MessageState, at_ms: u64, error: u32, terms: Terms) -> Option<Submission> {
    let original = submitted(message)?;
    let success = matches!(state, MessageState::Delivered | MessageState::Accepted);
    let asked = match RegisteredDelivery(octet(original.registered_delivery)).receipt() {
        ReceiptRequest::Never => false,
        ReceiptRequest::Always => true,
        ReceiptRequest::OnFailure => !success,
        ReceiptRequest::OnSuccess => success,
    };
    asked.then(|| report(message, original, state, EsmClass::DELIVERY_RECEIPT, at_ms, error, terms))
}

/// The intermediate notification for an attempt at `message` that failed for now with `error`, if its ESME asked for
/// them (bit 4 of registered_delivery). It looks as a receipt does; its state is ENROUTE.
pub fn notification(message: &Message, at_ms: u64, error: u32, terms: Terms) -> Option<Submission> {
    let original = submitted(message)?;
    let asked = RegisteredDelivery(octet(original.registered_delivery)).intermediate_notification();
    let class = EsmClass::INTERMEDIATE_NOTIFICATION;
    asked.then(|| report(message, original, MessageState::Enroute, class, at_ms, error, terms))
}

/// The content of a message that an ESME submitted: others are reported to nobody.
fn submitted(message: &Message) -> Option<&Submission> {
    let original = message.submission.as_ref()?;
    (original.kind() == MessageKind::Submitted && !original.account.is_empty()).then_some(original)
}

fn report(
    message: &Message,
    original: &Submission,
    state: MessageState,
    class: EsmClass,
    at_ms: u64,
    error: u32,
    terms: Terms,
) -> Submission {
    let state = ReceiptState::try_from(octet(state as u32)).unwrap_or(ReceiptState::Unknown);
    let delivered = matches!(state, ReceiptState::Delivered | ReceiptState::Accepted);
    let validity_s = if terms.validity_s == 0 { RECEIPT_VALIDITY_DEFAULT_S } else { terms.validity_s };
    let tlvs = Tlvs::try_from(original.tlvs.clone()).unwrap_or_default();
    let (data_coding, text) = quotation(original, &tlvs);
    // The messages of a submit_multi go by the first one's id: it is the one that the ESME was told.
    let id = message.id.saturating_sub(u64::from(original.multi_index)).to_string();
    let date = |at_ms: u64| ReceiptDate::from_wall(WallTime::from_millis(at_ms), terms.utc_offset_min);
    let rendered = Receipt {
        id: id.clone(),
        submitted: 1,
        delivered: u16::from(delivered),
        submit_date: date(message.accepted_at_ms),
        done_date: date(at_ms),
        state,
        error: network_error(error).map_or(0, |code| code.error_code),
        text,
    };
    Submission {
        kind: MessageKind::Receipt as i32,
        service_type: original.service_type.clone(),
        source: original.destination.clone(),
        destination: original.source.clone(),
        esm_class: u32::from(class.0),
        data_coding: u32::from(data_coding.0),
        short_message: rendered.render().into(),
        tlvs: receipt_tlvs(&id, state, error, &tlvs),
        queue_kind: QueueKind::Esme as i32,
        queue_key: original.account.clone(),
        link: LINK_ESME.to_owned(),
        expires_at_ms: at_ms.saturating_add(validity_s.saturating_mul(1_000)),
        receipt_for: message.id,
        session_id: if terms.to_submitter { original.session_id } else { 0 },
        ..Default::default()
    }
}

fn octet(value: u32) -> u8 {
    u8::try_from(value).unwrap_or_default()
}

/// TLVs of the message that its receipt carries back, and as what: the reference that the ESME chose, so that it need
/// not wait for our id to match its own; and the parts of the addresses, exchanged as the addresses are.
const CARRIED_BACK: [(Tag, Tag); 7] = [
    (Tag::USER_MESSAGE_REFERENCE, Tag::USER_MESSAGE_REFERENCE),
    (Tag::SOURCE_PORT, Tag::DESTINATION_PORT),
    (Tag::DESTINATION_PORT, Tag::SOURCE_PORT),
    (Tag::SOURCE_SUBADDRESS, Tag::DEST_SUBADDRESS),
    (Tag::DEST_SUBADDRESS, Tag::SOURCE_SUBADDRESS),
    (Tag::SOURCE_ADDR_SUBUNIT, Tag::DEST_ADDR_SUBUNIT),
    (Tag::DEST_ADDR_SUBUNIT, Tag::SOURCE_ADDR_SUBUNIT),
];

fn receipt_tlvs(id: &str, state: ReceiptState, error: u32, original: &Tlvs) -> bytes::Bytes {
    let mut tlvs = Tlvs::new();
    tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, id.as_bytes()).expect("a decimal number is short and holds no NUL");
    tlvs.push_u8(Tag::MESSAGE_STATE, state.code());
    if let Some(code) = network_error(error) {
        tlvs.push(Tag::NETWORK_ERROR_CODE, &code.to_octets()).expect("three octets fit");
    }
    for (given, carried) in CARRIED_BACK {
        if let Some(value) = original.get(given) {
            tlvs.push(carried, &value).expect("a value of a TLV fits one");
        }
    }
    bytes::Bytes::copy_from_slice(tlvs.as_bytes())
}

/// The coding of the receipt and the start of the message's text in it; no text if it cannot stand beside ASCII.
fn quotation(original: &Submission, tlvs: &Tlvs) -> (DataCoding, Vec<u8>) {
    let coding = DataCoding(octet(original.data_coding));
    let has_header = EsmClass(octet(original.esm_class)).udhi();
    if has_header || !matches!(coding, DataCoding::DEFAULT | DataCoding::IA5 | DataCoding::LATIN1) {
        return (DataCoding::DEFAULT, Vec::new());
    }
    let payload = tlvs.message_payload();
    let text = match &payload {
        Some(payload) if original.short_message.is_empty() => payload,
        _ => &original.short_message,
    };
    (coding, text.iter().take(TEXT_OCTETS_MAX).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use smsc_proto::receipt::ParsedReceipt;
    use smsc_raft::model::Address;

    const GSM_ABSENT: u32 = 3 << 16 | 27;

    fn address(digits: &str) -> Option<Address> {
        Some(Address { ton: 1, npi: 1, digits: digits.to_owned() })
    }

    fn message(registered_delivery: u32) -> Message {
        let submission = Submission {
            account: "one".to_owned(),
            source: address("1000"),
            destination: address("15551"),
            registered_delivery,
            short_message: Bytes::from_static(b"twenty octets and some more"),
            tlvs: Bytes::from_static(b"\x02\x04\0\x02\x12\x34"),
            queue_key: "15551".to_owned(),
            ..Default::default()
        };
        Message { id: 4711, submission: Some(submission), accepted_at_ms: 1_795_229_569_000, ..Default::default() }
    }

    fn receipt(message: &Message, state: MessageState, error: u32) -> Option<Submission> {
        submission(message, state, 1_795_229_629_000, error, Terms { validity_s: 3_600, ..Terms::default() })
    }

    #[test]
    fn it_is_made_when_it_was_asked_for() {
        use MessageState::{Deleted, Delivered, Expired, Rejected, Undeliverable};
        for (registered, on_success, on_failure) in
            [(0, false, false), (1, true, true), (2, false, true), (3, true, false)]
        {
            let message = message(registered);
            assert_eq!(receipt(&message, Delivered, 0).is_some(), on_success, "{registered}");
            for state in [Deleted, Expired, Rejected, Undeliverable] {
                assert_eq!(receipt(&message, state, 0).is_some(), on_failure, "{registered} {state:?}");
            }
        }
        // Bits that ask for something else ask for no receipt.
        assert!(receipt(&message(0x10 | 0x04), Delivered, 0).is_none());
    }

    #[test]
    fn receipts_and_mo_have_none() {
        for kind in [MessageKind::Receipt, MessageKind::Mo] {
            let mut message = message(1);
            message.submission.as_mut().unwrap().kind = kind as i32;
            assert!(receipt(&message, MessageState::Delivered, 0).is_none());
        }
    }

    #[test]
    fn it_goes_back_to_the_account_with_text_and_tlvs() {
        let made = receipt(&message(1), MessageState::Undeliverable, GSM_ABSENT).unwrap();
        assert_eq!((made.source.clone(), made.destination.clone()), (address("15551"), address("1000")));
        assert_eq!((made.queue_kind(), made.queue_key.as_str()), (QueueKind::Esme, "one"));
        assert_eq!((made.esm_class, made.registered_delivery, made.receipt_for), (4, 0, 4711));
        assert_eq!(made.expires_at_ms, 1_795_229_629_000 + 3_600_000);
        let text = "id:4711 sub:001 dlvrd:000 submit date:2611210252 done date:2611210253 stat:UNDELIV err:027 \
                    text:twenty octets and so";
        assert_eq!(made.short_message, text);
        let tlvs = Tlvs::try_from(made.tlvs).unwrap();
        assert_eq!(tlvs.get(Tag::RECEIPTED_MESSAGE_ID).as_deref(), Some(&b"4711\0"[..]));
        assert_eq!(tlvs.get(Tag::MESSAGE_STATE).as_deref(), Some(&[5][..]));
        assert_eq!(tlvs.get(Tag::NETWORK_ERROR_CODE).as_deref(), Some(&[3, 0, 27][..]));
        assert_eq!(tlvs.user_message_reference(), Some(0x1234));
    }

    #[test]
    fn every_final_state_has_its_words() {
        use MessageState::{Accepted, Deleted, Delivered, Expired, Rejected, Skipped, Undeliverable, Unknown};
        for (state, stat, delivered) in [
            (Delivered, "DELIVRD", 1),
            (Expired, "EXPIRED", 0),
            (Deleted, "DELETED", 0),
            (Undeliverable, "UNDELIV", 0),
            (Accepted, "ACCEPTD", 1),
            (Unknown, "UNKNOWN", 0),
            (Rejected, "REJECTD", 0),
            (Skipped, "SKIPPED", 0),
        ] {
            let made = receipt(&message(1), state, 0).unwrap();
            let parsed = ParsedReceipt::parse(&made.short_message).unwrap();
            assert_eq!((parsed.stat.as_deref(), parsed.delivered), (Some(stat), Some(delivered)));
            let tlvs = Tlvs::try_from(made.tlvs).unwrap();
            assert_eq!(tlvs.get(Tag::MESSAGE_STATE).as_deref(), Some(&[state as u8][..]));
        }
    }

    #[test]
    fn a_failed_attempt_is_notified_when_that_was_asked_for() {
        let terms = Terms::default();
        assert!(notification(&message(1), 1_795_229_629_000, GSM_ABSENT, terms).is_none());
        let made = notification(&message(0x10), 1_795_229_629_000, GSM_ABSENT, terms).unwrap();
        assert_eq!((made.esm_class, made.receipt_for, made.kind()), (0x20, 4711, MessageKind::Receipt));
        let parsed = ParsedReceipt::parse(&made.short_message).unwrap();
        assert_eq!((parsed.stat.as_deref(), parsed.error.as_deref()), (Some("ENROUTE"), Some("027")));
        assert_eq!(Tlvs::try_from(made.tlvs).unwrap().get(Tag::MESSAGE_STATE).as_deref(), Some(&[1][..]));
    }

    #[test]
    fn it_is_as_the_account_wants_it() {
        let mut message = message(1);
        message.submission.as_mut().unwrap().session_id = 9;
        let made = |terms| submission(&message, MessageState::Delivered, 1_795_229_629_000, 0, terms).unwrap();
        let plain = made(Terms::default());
        assert_eq!((plain.session_id, plain.expires_at_ms), (0, 1_795_229_629_000 + 7 * 86_400_000));
        let wanted = made(Terms { utc_offset_min: -330, to_submitter: true, ..Terms::default() });
        assert_eq!(wanted.session_id, 9);
        let text = String::from_utf8(wanted.short_message.to_vec()).unwrap();
        assert!(text.contains("submit date:2611202122 done date:2611202123"), "{text}");
    }

    #[test]
    fn messages_of_submit_multi_go_by_the_id_of_the_first_and_ports_are_exchanged() {
        let mut message = message(1);
        let mut tlvs = Tlvs::new();
        tlvs.push_u16(Tag::SOURCE_PORT, 1);
        tlvs.push_u16(Tag::DESTINATION_PORT, 2);
        tlvs.push_u8(Tag::DEST_ADDR_SUBUNIT, 3);
        tlvs.push(Tag(0x1400), b"vendor").unwrap();
        let original = message.submission.as_mut().unwrap();
        (original.multi_index, original.multi_count) = (11, 20);
        original.tlvs = Bytes::copy_from_slice(tlvs.as_bytes());
        let made = receipt(&message, MessageState::Delivered, 0).unwrap();
        assert_eq!(ParsedReceipt::parse(&made.short_message).unwrap().id.as_deref(), Some("4700"));
        assert_eq!(made.receipt_for, 4711);
        let tlvs = Tlvs::try_from(made.tlvs).unwrap();
        assert_eq!(tlvs.get(Tag::RECEIPTED_MESSAGE_ID).as_deref(), Some(&b"4700\0"[..]));
        assert_eq!(
            (tlvs.source_port(), tlvs.destination_port(), tlvs.source_addr_subunit()),
            (Some(2), Some(1), Some(3))
        );
        assert!(!tlvs.contains(Tag(0x1400)));
    }

    #[test]
    fn text_that_cannot_stand_beside_ascii_is_left_out() {
        let mut message = message(1);
        for (data_coding, esm_class, coding, quoted) in
            [(8, 0, 0, false), (4, 0, 0, false), (0, 0x40, 0, false), (3, 0, 3, true)]
        {
            let original = message.submission.as_mut().unwrap();
            (original.data_coding, original.esm_class) = (data_coding, esm_class);
            let made = receipt(&message, MessageState::Delivered, 0).unwrap();
            assert_eq!(made.data_coding, coding);
            let parsed = ParsedReceipt::parse(&made.short_message).unwrap();
            assert_eq!(parsed.text.is_some_and(|text| !text.is_empty()), quoted, "{data_coding} {esm_class}");
        }
    }

    #[test]
    fn errors_keep_their_network() {
        let code = NetworkErrorCode { network_type: 8, error_code: 0x14 };
        assert_eq!(network_error(error_of(code)), Some(code));
        assert_eq!(network_error(27), Some(NetworkErrorCode { network_type: NetworkErrorCode::GSM, error_code: 27 }));
        assert_eq!(network_error(0), None);
    }
}
