//! Operations that are a header alone: unbind, enquire_link, generic_nack (SMPP v3.4 sections 4.2, 4.3 and 4.11).
//!
//! They have no mandatory parameters, but v5.0 lets any answer carry congestion_state.

use crate::pdu::macros::parameters;
use crate::tlv::Tlvs;

parameters! {
    /// Ends a session (SMPP v3.4 section 4.2.1).
    Unbind {
        /// Optional parameters; none is defined here.
        tlvs: Tlvs,
    }
}

parameters! {
    /// Answers unbind (SMPP v3.4 section 4.2.2).
    UnbindResp {
        /// Optional parameters.
        tlvs: Tlvs,
    }
}

parameters! {
    /// Asks whether the peer is still there (SMPP v3.4 section 4.11.1).
    EnquireLink {
        /// Optional parameters; none is defined here.
        tlvs: Tlvs,
    }
}

parameters! {
    /// Answers enquire_link (SMPP v3.4 section 4.11.2).
    EnquireLinkResp {
        /// Optional parameters.
        tlvs: Tlvs,
    }
}

parameters! {
    /// Answers what is no PDU, or none this side knows (SMPP v3.4 section 4.3.1).
    GenericNack {
        /// Optional parameters.
        tlvs: Tlvs,
    }
}
