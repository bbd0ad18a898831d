//! deliver_sm (SMPP v3.4 section 4.6, v5.0 section 4.3.1).

use bytes::Bytes;

use crate::pdu::macros::{answer, parameters};
use crate::tlv::Tlvs;
use crate::types::{
    Address, DataCoding, EsmClass, MessageId, PriorityFlag, RegisteredDelivery, ReplaceIfPresent, ServiceType,
    TimeString,
};

parameters! {
    /// Delivers a message or a receipt to an ESME (SMPP v3.4 section 4.6.1).
    DeliverSm {
        /// The application; empty for the default.
        service_type: ServiceType,
        /// Who sent it.
        source_addr: Address,
        /// Who receives: an address of the ESME.
        destination_addr: Address,
        /// Type and features; tells a receipt from a message.
        esm_class: EsmClass,
        /// Protocol identifier of the network (GSM 03.40 TP-PID).
        protocol_id: u8,
        /// How urgent.
        priority_flag: PriorityFlag,
        /// Not used here, empty.
        schedule_delivery_time: TimeString,
        /// Not used here, empty.
        validity_period: TimeString,
        /// Which acknowledgements are asked for.
        registered_delivery: RegisteredDelivery,
        /// Not used here, 0.
        replace_if_present_flag: ReplaceIfPresent,
        /// Alphabet of the message.
        data_coding: DataCoding,
        /// Not used here, 0.
        sm_default_msg_id: u8,
        /// The message or the receipt, at most 254 octets (255 in v5.0). sm_length follows from it.
        short_message: Bytes,
        /// Optional parameters.
        tlvs: Tlvs,
    }
}

answer! {
    /// Answers deliver_sm (SMPP v3.4 section 4.6.2).
    DeliverSmResp {
        /// Not used here, empty.
        message_id: MessageId,
    }
}
