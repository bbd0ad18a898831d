//! Strings that TLVs of v3.4 and v5.0 carry (SMPP v3.4 section 5.3.2.11, v5.0 section 4.8.4).

use crate::types::macros::c_octet_string;

c_octet_string! {
    /// What an answer means, in words, at most 255 octets: additional_status_info_text.
    StatusText, "additional_status_info_text", 255, shown
}

c_octet_string! {
    /// A network: country code and operator code, at most 64 octets: source_network_id and dest_network_id (v5.0).
    NetworkId, "network_id", 64, shown
}
