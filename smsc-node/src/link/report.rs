//! What a link's message centre delivers: a receipt for what we sent, or a message from a phone. Pure.

use smsc_proto::pdu::{Body, DataSm, DeliverSm};
use smsc_proto::receipt::{ParsedReceipt, ReceiptState};
use smsc_proto::tlv::Tag;
use smsc_proto::types::{Address, MessageType, NetworkErrorCode};
use smsc_raft::model::MessageState;

use crate::delivery::receipt::error_of;

/// A receipt, in either form: the TLVs count before the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The ids it names, each once: receipted_message_id and that of the text, which some write in different bases.
    pub message_ids: Vec<String>,
    /// The state; `None` if it names none that is known.
    pub state: Option<MessageState>,
    /// The error as the records keep it, 0 for none.
    pub error: u32,
    /// Where our message went to.
    pub source: String,
}

impl Report {
    /// The final state that it tells; `None` while the message is still on its way.
    ///
    /// A state that cannot be read is unknown: the message centre has come to an end with the message.
    pub fn final_state(&self) -> Option<MessageState> {
        match self.state {
            Some(MessageState::Scheduled | MessageState::Enroute) => None,
            Some(MessageState::Skipped) => Some(MessageState::Undeliverable),
            Some(state) => Some(state),
            None => Some(MessageState::Unknown),
        }
    }
}

/// What came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A receipt.
    Report(Report),
    /// An intermediate notification: it changes nothing.
    Notification,
    /// A message.
    Message(Box<DeliverSm>),
    /// An address is longer than a message of ours may have.
    Unusable,
}

impl Incoming {
    /// What `body`, a deliver_sm or a data_sm, brings; `None` for any other operation.
    pub fn of(body: Body) -> Option<Self> {
        let deliver = match body {
            Body::DeliverSm(deliver) => deliver,
            Body::DataSm(data) => match of_data_sm(data) {
                Some(deliver) => deliver,
                None => return Some(Incoming::Unusable),
            },
            _ => return None,
        };
        let kind = deliver.esm_class.message_type();
        let receipted = deliver.tlvs.contains(Tag::RECEIPTED_MESSAGE_ID);
        Some(match kind {
            MessageType::IntermediateNotification => Incoming::Notification,
            MessageType::DeliveryReceipt => Incoming::Report(report(&deliver)),
            MessageType::Default if receipted => Incoming::Report(report(&deliver)),
            _ => Incoming::Message(Box::new(deliver)),
        })
    }
}

fn of_data_sm(data: DataSm) -> Option<DeliverSm> {
    Some(DeliverSm {
        service_type: data.service_type,
        source_addr: Address::try_from(data.source_addr).ok()?,
        destination_addr: Address::try_from(data.destination_addr).ok()?,
        esm_class: data.esm_class,
        registered_delivery: data.registered_delivery,
        data_coding: data.data_coding,
        tlvs: data.tlvs,
        ..DeliverSm::default()
    })
}

fn report(deliver: &DeliverSm) -> Report {
    let text = match deliver.tlvs.message_payload() {
        Some(payload) if deliver.short_message.is_empty() => payload,
        _ => deliver.short_message.clone(),
    };
    let parsed = ParsedReceipt::parse(&text).unwrap_or_default();
    let tlv_id = deliver.tlvs.receipted_message_id().map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    let mut message_ids: Vec<String> = Vec::new();
    for id in tlv_id.into_iter().chain(parsed.id.clone()).filter(|id| !id.trim().is_empty()) {
        if !message_ids.contains(&id) {
            message_ids.push(id);
        }
    }
    let tlv_state = deliver.tlvs.get(Tag::MESSAGE_STATE).and_then(|value| value.first().copied());
    let state = tlv_state.and_then(|code| ReceiptState::try_from(code).ok()).or_else(|| parsed.state());
    let error = match deliver.tlvs.network_error_code() {
        Some(code) => error_of(code),
        None => parsed.error.as_deref().map_or(0, text_error),
    };
    Report {
        message_ids,
        state: state.and_then(|state| MessageState::try_from(i32::from(state.code())).ok()),
        error,
        source: String::from_utf8_lossy(deliver.source_addr.addr.as_ref()).into_owned(),
    }
}

/// `err:` of a receipt's text: decimal by the specification, with letters in some networks.
fn text_error(text: &str) -> u32 {
    let code = text.parse::<u16>().or_else(|_| u16::from_str_radix(text, 16)).unwrap_or_default();
    match code {
        0 => 0,
        error_code => error_of(NetworkErrorCode { network_type: NetworkErrorCode::GSM, error_code }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use smsc_proto::tlv::Tlvs;
    use smsc_proto::types::EsmClass;

    fn deliver(esm_class: u8, text: &str, tlvs: impl FnOnce(&mut Tlvs)) -> DeliverSm {
        let mut deliver = DeliverSm {
            esm_class: EsmClass(esm_class),
            source_addr: Address::international("4915112345678").expect("short"),
            short_message: Bytes::copy_from_slice(text.as_bytes()),
            ..DeliverSm::default()
        };
        tlvs(&mut deliver.tlvs);
        deliver
    }

    fn read(deliver: DeliverSm) -> Report {
        match Incoming::of(Body::DeliverSm(deliver)) {
            Some(Incoming::Report(report)) => report,
            other => panic!("no receipt: {other:?}"),
        }
    }

    #[test]
    fn the_text_alone_is_enough() {
        let text = "id:00AB sub:001 dlvrd:000 submit date:2611210252 done date:2611210253 stat:UNDELIV err:027 text:x";
        let report = read(deliver(4, text, |_| ()));
        assert_eq!(report.message_ids, ["00AB"]);
        assert_eq!(report.final_state(), Some(MessageState::Undeliverable));
        assert_eq!(report.error, 3 << 16 | 27);
        assert_eq!(report.source, "4915112345678");
    }

    #[test]
    fn the_tlvs_alone_are_enough_and_count_first() {
        let mark = |tlvs: &mut Tlvs| {
            tlvs.push_c_octets(Tag::RECEIPTED_MESSAGE_ID, b"6699").expect("short");
            tlvs.push_u8(Tag::MESSAGE_STATE, 2);
            tlvs.push(Tag::NETWORK_ERROR_CODE, &[8, 0, 5]).expect("short");
        };
        // Without the mark in esm_class, too: the TLV says what it is.
        for (esm_class, text) in [(4, ""), (0, ""), (4, "id:1a2b stat:EXPIRED err:009")] {
            let report = read(deliver(esm_class, text, mark));
            assert_eq!(report.message_ids[0], "6699");
            assert_eq!(report.final_state(), Some(MessageState::Delivered));
            assert_eq!(report.error, 8 << 16 | 5);
        }
        assert_eq!(read(deliver(4, "id:1a2b stat:EXPIRED", mark)).message_ids, ["6699", "1a2b"]);
    }

    #[test]
    fn what_is_not_final_changes_nothing() {
        assert_eq!(read(deliver(4, "id:1 stat:ENROUTE", |_| ())).final_state(), None);
        assert_eq!(read(deliver(4, "id:1 stat:NONSENSE", |_| ())).final_state(), Some(MessageState::Unknown));
        assert_eq!(
            Incoming::of(Body::DeliverSm(deliver(0x20, "id:1 stat:ENROUTE", |_| ()))),
            Some(Incoming::Notification)
        );
    }

    #[test]
    fn a_phone_cannot_pose_as_a_receipt() {
        let message = deliver(0, "id:1 stat:DELIVRD", |_| ());
        assert_eq!(Incoming::of(Body::DeliverSm(message.clone())), Some(Incoming::Message(Box::new(message))));
    }

    #[test]
    fn errors_with_letters_are_read() {
        assert_eq!(text_error("0B4"), 3 << 16 | 0xb4);
        assert_eq!(text_error("000"), 0);
        assert_eq!(text_error("zz"), 0);
    }
}
