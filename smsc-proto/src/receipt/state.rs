//! The states a receipt reports.

/// The state of a message as a receipt reports it: `stat` in the text, `message_state` in the TLV
/// (SMPP v3.4 section 5.2.28 and Appendix B; SCHEDULED and SKIPPED are of v5.0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReceiptState {
    /// Waits for its time of delivery (v5.0).
    Scheduled = 0,
    /// On its way.
    Enroute = 1,
    /// Delivered to its destination.
    Delivered = 2,
    /// Its validity period ended.
    Expired = 3,
    /// Cancelled.
    Deleted = 4,
    /// Cannot be delivered.
    Undeliverable = 5,
    /// Accepted and dealt with by customer service.
    Accepted = 6,
    /// Its state is not known.
    Unknown = 7,
    /// Refused.
    Rejected = 8,
    /// Passed over (v5.0).
    Skipped = 9,
}

/// Every state with the seven letters it has in a receipt and its full name.
const NAMES: [(ReceiptState, &str, &str); 10] = [
    // The specification abbreviates final states only; these seven letters for SCHEDULED are our own.
    (ReceiptState::Scheduled, "SCHEDLD", "SCHEDULED"),
    (ReceiptState::Enroute, "ENROUTE", "ENROUTE"),
    (ReceiptState::Delivered, "DELIVRD", "DELIVERED"),
    (ReceiptState::Expired, "EXPIRED", "EXPIRED"),
    (ReceiptState::Deleted, "DELETED", "DELETED"),
    (ReceiptState::Undeliverable, "UNDELIV", "UNDELIVERABLE"),
    (ReceiptState::Accepted, "ACCEPTD", "ACCEPTED"),
    (ReceiptState::Unknown, "UNKNOWN", "UNKNOWN"),
    (ReceiptState::Rejected, "REJECTD", "REJECTED"),
    (ReceiptState::Skipped, "SKIPPED", "SKIPPED"),
];

impl ReceiptState {
    /// The value of the `message_state` parameter.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The seven letters after `stat:`.
    #[must_use]
    pub const fn receipt_name(self) -> &'static str {
        // The table is in the order of the codes, which a test asserts.
        NAMES[self as usize].1
    }

    /// The state that `stat` names, in capitals or not, abbreviated or in full; `None` for a name not known here.
    #[must_use]
    pub fn from_receipt_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(_, short, full)| name.eq_ignore_ascii_case(short) || name.eq_ignore_ascii_case(full))
            .map(|&(state, _, _)| state)
    }
}

impl TryFrom<u8> for ReceiptState {
    type Error = UnknownState;

    /// # Errors
    /// [`UnknownState`] for a code over 9; the caller treats the message's state as unknown or refuses the code.
    fn try_from(code: u8) -> Result<Self, UnknownState> {
        NAMES.get(usize::from(code)).map(|&(state, _, _)| state).ok_or(UnknownState { code })
    }
}

impl From<ReceiptState> for u8 {
    fn from(state: ReceiptState) -> u8 {
        state.code()
    }
}

/// A `message_state` that the specification does not define.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message state {code} is not defined, expected 0 to 9")]
pub struct UnknownState {
    /// The code found.
    pub code: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_names_match_the_specification() {
        for (code, (state, short, full)) in (0u8..).zip(NAMES) {
            assert_eq!(state.code(), code);
            assert_eq!(ReceiptState::try_from(code), Ok(state));
            assert_eq!(short.len(), 7);
            assert_eq!(state.receipt_name(), short);
            assert_eq!(ReceiptState::from_receipt_name(short), Some(state));
            assert_eq!(ReceiptState::from_receipt_name(&full.to_lowercase()), Some(state));
        }
        assert_eq!(
            ReceiptState::try_from(10).unwrap_err().to_string(),
            "message state 10 is not defined, expected 0 to 9"
        );
        assert_eq!(ReceiptState::from_receipt_name("DELIV"), None);
        assert_eq!(ReceiptState::Delivered.code(), 2);
        assert_eq!(ReceiptState::Rejected.code(), 8);
    }
}
