//! submit_sm (SMPP v3.4 section 4.4, v5.0 section 4.2.1).

use bytes::Bytes;

use crate::pdu::macros::{answer, parameters};
use crate::tlv::Tlvs;
use crate::types::{
    Address, DataCoding, EsmClass, MessageId, PriorityFlag, RegisteredDelivery, ReplaceIfPresent, ServiceType,
    TimeString,
};

parameters! {
    /// Submits a message (SMPP v3.4 section 4.4.1).
    SubmitSm {
        /// The application; empty for the default.
        service_type: ServiceType,
        /// Who sends; empty for the account's own address.
        source_addr: Address,
        /// Who receives.
        destination_addr: Address,
        /// Mode, type and features.
        esm_class: EsmClass,
        /// Protocol identifier of the network (GSM 03.40 TP-PID).
        protocol_id: u8,
        /// How urgent.
        priority_flag: PriorityFlag,
        /// When to deliver; empty for at once.
        schedule_delivery_time: TimeString,
        /// Until when to try; empty for the operator's default.
        validity_period: TimeString,
        /// Which receipts are asked for.
        registered_delivery: RegisteredDelivery,
        /// Whether to replace an earlier message.
        replace_if_present_flag: ReplaceIfPresent,
        /// Alphabet of the message.
        data_coding: DataCoding,
        /// Number of a predefined message, 0 for none.
        sm_default_msg_id: u8,
        /// The message, at most 254 octets (255 in v5.0); empty if message_payload carries it. sm_length follows from
        /// it.
        short_message: Bytes,
        /// Optional parameters.
        tlvs: Tlvs,
    }
}

answer! {
    /// Answers submit_sm (SMPP v3.4 section 4.4.2).
    SubmitSmResp {
        /// What the message is called from now on.
        message_id: MessageId,
    }
}
