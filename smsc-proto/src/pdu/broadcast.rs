//! Cell broadcast: broadcast_sm, query_broadcast_sm, cancel_broadcast_sm (SMPP v5.0 sections 4.4 and 4.6).

use crate::pdu::macros::{answer, parameters};
use crate::tlv::{Tag, Tlvs};
use crate::types::{Address, DataCoding, MessageId, PriorityFlag, ReplaceIfPresent, ServiceType, TimeString};

parameters! {
    /// Submits a cell broadcast (SMPP v5.0 section 4.4.1).
    BroadcastSm {
        /// The application; empty for the default.
        service_type: ServiceType,
        /// Who sends.
        source_addr: Address,
        /// The broadcast to replace; empty for a new one.
        message_id: MessageId,
        /// How urgent.
        priority_flag: PriorityFlag,
        /// When to start; empty for at once.
        schedule_delivery_time: TimeString,
        /// Until when to broadcast; empty for the operator's default.
        validity_period: TimeString,
        /// Whether to replace an earlier broadcast.
        replace_if_present_flag: ReplaceIfPresent,
        /// Alphabet of the message.
        data_coding: DataCoding,
        /// Number of a predefined message, 0 for none.
        sm_default_msg_id: u8,
        /// Parameters as TLVs: those of [`BroadcastSm::MANDATORY_TLVS`], message_payload and others.
        tlvs: Tlvs,
    }
}

impl BroadcastSm {
    /// TLVs without which a broadcast_sm is refused with ESME_RMISSINGTLV (SMPP v5.0 section 4.4.1).
    pub const MANDATORY_TLVS: [Tag; 4] = [
        Tag::BROADCAST_AREA_IDENTIFIER,
        Tag::BROADCAST_CONTENT_TYPE,
        Tag::BROADCAST_REP_NUM,
        Tag::BROADCAST_FREQUENCY_INTERVAL,
    ];

    /// The first mandatory TLV that is missing.
    pub fn missing_tlv(&self) -> Option<Tag> {
        Self::MANDATORY_TLVS.into_iter().find(|tag| !self.tlvs.contains(*tag))
    }
}

answer! {
    /// Answers broadcast_sm (SMPP v5.0 section 4.4.1). Optional parameters: broadcast_error_status,
    /// broadcast_area_identifier for each area that was refused.
    BroadcastSmResp {
        /// What the broadcast is called from now on.
        message_id: MessageId,
    }
}

parameters! {
    /// Asks for the state of a cell broadcast (SMPP v5.0 section 4.6.1).
    QueryBroadcastSm {
        /// The broadcast.
        message_id: MessageId,
        /// Who sent it, as in the submission.
        source_addr: Address,
        /// Optional parameters: user_message_reference.
        tlvs: Tlvs,
    }
}

answer! {
    /// Answers query_broadcast_sm (SMPP v5.0 section 4.6.1) with the TLVs message_state, broadcast_area_identifier
    /// and broadcast_area_success.
    QueryBroadcastSmResp {
        /// The broadcast.
        message_id: MessageId,
    }
}

parameters! {
    /// Cancels one broadcast, or all of a source (SMPP v5.0 section 4.6.2).
    CancelBroadcastSm {
        /// The application, when message_id is empty.
        service_type: ServiceType,
        /// The broadcast; empty to cancel by the other parameters.
        message_id: MessageId,
        /// Who sent it.
        source_addr: Address,
        /// Optional parameters: broadcast_content_type, user_message_reference.
        tlvs: Tlvs,
    }
}

parameters! {
    /// Answers cancel_broadcast_sm (SMPP v5.0 section 4.6.2).
    CancelBroadcastSmResp {
        /// Optional parameters.
        tlvs: Tlvs,
    }
}
