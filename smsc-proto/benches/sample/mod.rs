//! The message that the benches send.

use bytes::Bytes;
use smsc_proto::pdu::SubmitSm;
use smsc_proto::tlv::{Tag, Tlvs};
use smsc_proto::types::{Address, Npi, RegisteredDelivery, Ton};

/// A submit_sm of so many octets. A short text stands in short_message, a long one in message_payload.
pub fn submit_sm(octets: usize) -> SubmitSm {
    let text = Bytes::from(vec![b'x'; octets]);
    let mut tlvs = Tlvs::new();
    let fits = octets <= 254;
    if !fits {
        tlvs.push(Tag::MESSAGE_PAYLOAD, &text).expect("it is short enough");
    }
    SubmitSm {
        source_addr: Address::new(Ton::UNKNOWN, Npi::ISDN, "1000").expect("short"),
        destination_addr: Address::international("15550001234").expect("short"),
        registered_delivery: RegisteredDelivery(1),
        short_message: if fits { text } else { Bytes::new() },
        tlvs,
        ..SubmitSm::default()
    }
}
