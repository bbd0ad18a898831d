//! replace_sm (SMPP v3.4 section 4.10).

use bytes::Bytes;

use crate::pdu::macros::parameters;
use crate::tlv::Tlvs;
use crate::types::{Address, MessageId, RegisteredDelivery, TimeString};

parameters! {
    /// Replaces the content of a message that is not delivered yet (SMPP v3.4 section 4.10.1).
    ReplaceSm {
        /// The message.
        message_id: MessageId,
        /// Who sent it, as in the submission.
        source_addr: Address,
        /// When to deliver; empty to leave it as it is.
        schedule_delivery_time: TimeString,
        /// Until when to try; empty to leave it as it is.
        validity_period: TimeString,
        /// Which receipts are asked for.
        registered_delivery: RegisteredDelivery,
        /// Number of a predefined message, 0 for none.
        sm_default_msg_id: u8,
        /// The new message, at most 254 octets (255 in v5.0). sm_length follows from it.
        short_message: Bytes,
        /// Optional parameters: message_payload (v5.0).
        tlvs: Tlvs,
    }
}

parameters! {
    /// Answers replace_sm (SMPP v3.4 section 4.10.2).
    ReplaceSmResp {
        /// Optional parameters.
        tlvs: Tlvs,
    }
}
