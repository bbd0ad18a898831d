//! Where a message stands in its life (SMPP v3.4 section 5.2.28, v5.0 section 4.7.15).

use crate::types::macros::octet_code;

octet_code! {
    /// message_state.
    MessageState {
        /// Waiting for its schedule_delivery_time (v5.0).
        SCHEDULED = 0;
        /// On its way.
        ENROUTE = 1;
        /// Delivered.
        DELIVERED = 2;
        /// validity_period over.
        EXPIRED = 3;
        /// Cancelled, or deleted by an operator.
        DELETED = 4;
        /// Cannot be delivered.
        UNDELIVERABLE = 5;
        /// Accepted by someone on behalf of the subscriber.
        ACCEPTED = 6;
        /// Nothing valid is known.
        UNKNOWN = 7;
        /// Rejected.
        REJECTED = 8;
        /// Accepted, but deliberately not sent (v5.0).
        SKIPPED = 9;
    }
}

impl MessageState {
    /// Whether nothing follows this state.
    #[inline]
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            MessageState::DELIVERED
                | MessageState::EXPIRED
                | MessageState::DELETED
                | MessageState::UNDELIVERABLE
                | MessageState::ACCEPTED
                | MessageState::UNKNOWN
                | MessageState::REJECTED
                | MessageState::SKIPPED
        )
    }
}
