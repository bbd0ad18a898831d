//! The three binds, their answers, and outbind (SMPP v3.4 section 4.1).

use crate::pdu::macros::{answer, parameters};
use crate::tlv::Tlvs;
use crate::types::{AddressRange, InterfaceVersion, Npi, Password, SystemId, SystemType, Ton};

parameters! {
    /// bind_transmitter, bind_receiver or bind_transceiver (SMPP v3.4 sections 4.1.1, 4.1.3 and 4.1.5).
    Bind {
        /// Who binds.
        system_id: SystemId,
        /// Proves it.
        password: Password,
        /// What kind of system it is.
        system_type: SystemType,
        /// The version it speaks.
        interface_version: InterfaceVersion,
        /// Type of number of the addresses it serves.
        addr_ton: Ton,
        /// Numbering plan of the addresses it serves.
        addr_npi: Npi,
        /// The addresses it serves.
        address_range: AddressRange,
        /// Optional parameters; v3.4 defines none here.
        tlvs: Tlvs,
    }
}

answer! {
    /// Answers a bind (SMPP v3.4 sections 4.1.2, 4.1.4 and 4.1.6). Optional parameter: sc_interface_version.
    BindResp {
        /// Who was bound to.
        system_id: SystemId,
    }
}

parameters! {
    /// The message centre invites an ESME to bind (SMPP v3.4 section 4.1.7.1).
    Outbind {
        /// The message centre.
        system_id: SystemId,
        /// Proves it.
        password: Password,
        /// Optional parameters; none is defined here.
        tlvs: Tlvs,
    }
}
