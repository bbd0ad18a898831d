//! alert_notification (SMPP v3.4 section 4.12).

use crate::pdu::macros::parameters;
use crate::tlv::Tlvs;
use crate::types::LongAddress;

parameters! {
    /// Tells an ESME that a subscriber it could not reach is there again (SMPP v3.4 section 4.12.1).
    AlertNotification {
        /// The subscriber.
        source_addr: LongAddress,
        /// The ESME that asked to be told.
        esme_addr: LongAddress,
        /// Optional parameters: ms_availability_status.
        tlvs: Tlvs,
    }
}
