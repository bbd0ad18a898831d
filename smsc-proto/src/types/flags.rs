//! Flags of one octet: priority_flag and replace_if_present_flag (SMPP v3.4 sections 5.2.14 and 5.2.18).

use crate::types::macros::octet_code;

octet_code! {
    /// How urgent a message is, 0 to 3 (0 to 4 on some networks), higher is more urgent.
    PriorityFlag {
        /// Bulk (GSM: no priority).
        LEVEL_0 = 0;
        /// Normal (GSM: priority).
        LEVEL_1 = 1;
        /// Urgent.
        LEVEL_2 = 2;
        /// Emergency.
        LEVEL_3 = 3;
    }
}

octet_code! {
    /// Whether a message replaces an earlier one of same source, destination and service_type.
    ReplaceIfPresent {
        /// Add it beside the earlier one.
        DO_NOT_REPLACE = 0;
        /// Put it in the place of the earlier one.
        REPLACE = 1;
    }
}
