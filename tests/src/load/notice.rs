//! What a deliver_sm tells: a receipt of this run, of another one, or a message.

use smsc_proto::pdu::DeliverSm;
use smsc_proto::receipt::{ParsedReceipt, ReceiptState};
use smsc_proto::types::{MessageId, MessageType};

use crate::load::template::RunTag;

/// What a deliver_sm tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A message is final.
    Final {
        /// The message.
        id: u64,
        /// Its number within the run, if the receipt repeats the start of its text.
        number: Option<u64>,
        /// Its final state.
        state: ReceiptState,
    },
    /// A message is not final yet.
    Intermediate,
    /// A receipt for a message of another run.
    Foreign,
    /// No receipt.
    Message,
}

/// The id as a number; `None` if it is no decimal number or has leading zeros.
pub fn decimal_id(id: &MessageId) -> Option<u64> {
    let octets = id.as_bytes();
    let canonical = matches!(octets.first(), Some(b'1'..=b'9'));
    if !canonical || octets.len() > 20 {
        return None;
    }
    octets.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Reads a deliver_sm that came to the run with this tag.
///
/// # Errors
/// A sentence if it is a receipt that contradicts itself or names no message: text and TLVs must say the same.
pub fn read(deliver: &DeliverSm, run: RunTag) -> Result<Notice, String> {
    match deliver.esm_class.message_type() {
        MessageType::DeliveryReceipt => {}
        MessageType::IntermediateNotification => return Ok(Notice::Intermediate),
        _ => return Ok(Notice::Message),
    }
    let payload = deliver.tlvs.message_payload();
    let octets = payload.as_ref().unwrap_or(&deliver.short_message);
    let parsed = ParsedReceipt::parse(octets).unwrap_or_default();
    let text = parsed.text.as_deref().filter(|text| !text.is_empty());
    let number = text.and_then(|text| run.number_in(text));
    if text.is_some() && number.is_none() {
        return Ok(Notice::Foreign);
    }
    let shown = || String::from_utf8_lossy(octets).into_owned();
    let in_tlv = deliver.tlvs.receipted_message_id();
    let in_text = parsed.id.as_deref();
    if let (Some(tlv), Some(text)) = (&in_tlv, in_text)
        && tlv.as_bytes() != text.as_bytes()
    {
        return Err(format!("a receipt names {tlv:?} in receipted_message_id and \"{text}\" in its text"));
    }
    let id = match (&in_tlv, in_text) {
        (Some(id), _) => decimal_id(id),
        (None, Some(id)) => id.parse().ok(),
        (None, None) => None,
    };
    let id = id.ok_or_else(|| format!("a receipt without a decimal message id: {}", shown()))?;
    let in_tlv = deliver.tlvs.message_state().and_then(|state| ReceiptState::try_from(state.0).ok());
    let state = match (in_tlv, parsed.state()) {
        (Some(tlv), Some(text)) if tlv != text => {
            return Err(format!("the receipt for id {id} says {tlv:?} in message_state and {text:?} in its text"));
        }
        (tlv, text) => tlv.or(text).ok_or_else(|| format!("the receipt for id {id} names no state: {}", shown()))?,
    };
    if matches!(state, ReceiptState::Enroute | ReceiptState::Scheduled) {
        return Ok(Notice::Intermediate);
    }
    Ok(Notice::Final { id, number, state })
}

#[cfg(test)]
mod tests {
    use smsc_proto::types::EsmClass;

    use super::*;

    fn receipt(text: &str, tlv_id: Option<&str>) -> DeliverSm {
        let mut deliver = DeliverSm {
            esm_class: EsmClass::DELIVERY_RECEIPT,
            short_message: text.to_owned().into(),
            ..DeliverSm::default()
        };
        if let Some(id) = tlv_id {
            deliver.tlvs.push_c_octets(smsc_proto::tlv::Tag::RECEIPTED_MESSAGE_ID, id.as_bytes()).expect("short");
        }
        deliver
    }

    #[test]
    fn receipts_are_told_apart() {
        let run = RunTag::new(1);
        let ours = "id:12 stat:DELIVRD err:000 text:00000001000000000042";
        assert_eq!(
            read(&receipt(ours, Some("12")), run),
            Ok(Notice::Final { id: 12, number: Some(42), state: ReceiptState::Delivered })
        );
        assert_eq!(read(&receipt(ours, None), RunTag::new(2)), Ok(Notice::Foreign));
        let bare = receipt("id:12 stat:UNDELIV", None);
        assert_eq!(read(&bare, run), Ok(Notice::Final { id: 12, number: None, state: ReceiptState::Undeliverable }));
        let enroute = receipt("id:12 stat:ENROUTE", None);
        assert_eq!(read(&enroute, run), Ok(Notice::Intermediate));
        let message = DeliverSm::default();
        assert_eq!(read(&message, run), Ok(Notice::Message));
    }

    #[test]
    fn receipts_that_contradict_themselves_are_refused() {
        let run = RunTag::new(1);
        let text = "id:12 stat:DELIVRD";
        let error = read(&receipt(text, Some("13")), run).expect_err("12 is not 13");
        assert!(error.contains("receipted_message_id"), "{error}");
        assert!(read(&receipt("id:c0ffee stat:DELIVRD", None), run).is_err());
        assert!(read(&receipt("id:12 err:000", None), run).is_err());
    }
}
