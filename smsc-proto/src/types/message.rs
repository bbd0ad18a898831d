//! Strings that belong to a message (SMPP v3.4 sections 5.2.11, 5.2.15, 5.2.16 and 5.2.23).

use crate::types::macros::c_octet_string;

c_octet_string! {
    /// What the message centre calls an accepted message, at most 64 octets (SMPP v3.4 section 5.2.23).
    MessageId, "message_id", 64, shown
}

c_octet_string! {
    /// The application a message belongs to, such as "CMT" or "WAP", at most 5 octets (SMPP v3.4 section 5.2.11).
    ServiceType, "service_type", 5, shown
}

c_octet_string! {
    /// An SMPP time as it stands on the wire: empty or 16 octets (SMPP v3.4 section 7.1.1).
    ///
    /// The codec checks the maximum alone; whether it is a time is checked where it is used, because the answer
    /// depends on the parameter and on the clock.
    TimeString, "time", 16, shown
}
