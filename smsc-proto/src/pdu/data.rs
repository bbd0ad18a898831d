//! data_sm (SMPP v3.4 section 4.7, v5.0 section 4.2.2).

use crate::pdu::macros::{answer, parameters};
use crate::tlv::Tlvs;
use crate::types::{DataCoding, EsmClass, LongAddress, MessageId, RegisteredDelivery, ServiceType};

parameters! {
    /// Submits or delivers a message in the leaner form; the message is the TLV message_payload (SMPP v3.4 section
    /// 4.7.1).
    DataSm {
        /// The application; empty for the default.
        service_type: ServiceType,
        /// Who sends.
        source_addr: LongAddress,
        /// Who receives.
        destination_addr: LongAddress,
        /// Mode, type and features.
        esm_class: EsmClass,
        /// Which receipts are asked for.
        registered_delivery: RegisteredDelivery,
        /// Alphabet of the message.
        data_coding: DataCoding,
        /// Optional parameters: message_payload and others.
        tlvs: Tlvs,
    }
}

answer! {
    /// Answers data_sm (SMPP v3.4 section 4.7.2). Optional parameters: delivery_failure_reason, network_error_code,
    /// additional_status_info_text, dpf_result.
    DataSmResp {
        /// What the message is called from now on.
        message_id: MessageId,
    }
}
