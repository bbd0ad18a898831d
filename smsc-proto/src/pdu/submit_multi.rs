//! submit_multi (SMPP v3.4 section 4.5).

use bytes::Bytes;

use crate::pdu::macros::{answer, parameters};
use crate::tlv::Tlvs;
use crate::types::{
    Address, DataCoding, DestAddress, EsmClass, MessageId, PriorityFlag, RegisteredDelivery, ReplaceIfPresent,
    ServiceType, TimeString, UnsuccessSme,
};

parameters! {
    /// Submits a message for several destinations (SMPP v3.4 section 4.5.1).
    SubmitMulti {
        /// The application; empty for the default.
        service_type: ServiceType,
        /// Who sends; empty for the account's own address.
        source_addr: Address,
        /// Who receives, at most 254 (255 in v5.0). number_of_dests follows from it.
        dest_addresses: Vec<DestAddress>,
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
        /// Not used here, 0.
        replace_if_present_flag: ReplaceIfPresent,
        /// Alphabet of the message.
        data_coding: DataCoding,
        /// Number of a predefined message, 0 for none.
        sm_default_msg_id: u8,
        /// The message, at most 254 octets (255 in v5.0). sm_length follows from it.
        short_message: Bytes,
        /// Optional parameters.
        tlvs: Tlvs,
    }
}

parameters! {
    /// What became of a submit_multi (SMPP v3.4 section 4.5.2).
    SubmitMultiResult {
        /// What the message is called from now on.
        message_id: MessageId,
        /// The destinations that were refused. no_unsuccess follows from it.
        unsuccess_smes: Vec<UnsuccessSme>,
    }
}

answer! {
    /// Answers submit_multi (SMPP v3.4 section 4.5.2).
    SubmitMultiResp {
        /// What became of it.
        result: SubmitMultiResult,
    }
}
