//! cancel_sm (SMPP v3.4 section 4.9).

use crate::pdu::macros::parameters;
use crate::tlv::Tlvs;
use crate::types::{Address, MessageId, ServiceType};

parameters! {
    /// Cancels one message, or all of a source for a destination (SMPP v3.4 section 4.9.1).
    CancelSm {
        /// The application, when message_id is empty.
        service_type: ServiceType,
        /// The message; empty to cancel by the addresses.
        message_id: MessageId,
        /// Who sent it.
        source_addr: Address,
        /// Who was to receive it; may be empty when message_id is given.
        destination_addr: Address,
        /// Optional parameters; none is defined here.
        tlvs: Tlvs,
    }
}

parameters! {
    /// Answers cancel_sm (SMPP v3.4 section 4.9.2).
    CancelSmResp {
        /// Optional parameters.
        tlvs: Tlvs,
    }
}
