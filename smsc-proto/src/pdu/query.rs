//! query_sm (SMPP v3.4 section 4.8).

use crate::pdu::macros::{answer, parameters};
use crate::tlv::Tlvs;
use crate::types::{Address, MessageId, MessageState, TimeString};

parameters! {
    /// Asks for the state of a message (SMPP v3.4 section 4.8.1).
    QuerySm {
        /// The message.
        message_id: MessageId,
        /// Who sent it, as in the submission.
        source_addr: Address,
        /// Optional parameters; none is defined here.
        tlvs: Tlvs,
    }
}

parameters! {
    /// What query_sm found out (SMPP v3.4 section 4.8.2).
    QuerySmResult {
        /// The message.
        message_id: MessageId,
        /// When it reached its final state; empty before.
        final_date: TimeString,
        /// Its state.
        message_state: MessageState,
        /// The network's error code, 0 for none.
        error_code: u8,
    }
}

answer! {
    /// Answers query_sm (SMPP v3.4 section 4.8.2).
    QuerySmResp {
        /// What was found out.
        result: QuerySmResult,
    }
}
