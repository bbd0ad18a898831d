//! The text of a delivery receipt (SMPP v3.4 Appendix B).
//!
//! `id:… sub:001 dlvrd:001 submit date:YYMMDDhhmm done date:YYMMDDhhmm stat:DELIVRD err:000 text:…` is a convention, not
//! part of the protocol: [`Receipt`] renders it as the specification shows it, [`ParsedReceipt`] reads what other message
//! centres make of it.

mod date;
mod parse;
mod state;

pub use date::ReceiptDate;
pub use parse::{ParsedReceipt, ReceiptError};
pub use state::{ReceiptState, UnknownState};

/// Octets of the original message that a receipt repeats.
pub const TEXT_OCTETS_MAX: usize = 20;

/// A receipt that we write: every field is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The message id as the response to the submission gave it.
    pub id: String,
    /// Messages submitted under this id; rendered with three digits, at most 999.
    pub submitted: u16,
    /// Of these, messages delivered; rendered with three digits, at most 999.
    pub delivered: u16,
    /// When the message was submitted.
    pub submit_date: ReceiptDate,
    /// When it reached its state.
    pub done_date: ReceiptDate,
    /// The state it reached.
    pub state: ReceiptState,
    /// Error code of the network or of the message centre, 0 for none; rendered with three digits, at most 999.
    pub error: u16,
    /// The start of the original message, in its own coding; the first [`TEXT_OCTETS_MAX`] octets are rendered.
    pub text: Vec<u8>,
}

impl Receipt {
    /// The octets for `short_message`: ASCII, then the start of the original message as it is.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        let three_digits = |number: u16| number.min(999);
        let mut octets = format!(
            "id:{} sub:{:03} dlvrd:{:03} submit date:{} done date:{} stat:{} err:{:03} text:",
            self.id,
            three_digits(self.submitted),
            three_digits(self.delivered),
            self.submit_date,
            self.done_date,
            self.state.receipt_name(),
            three_digits(self.error),
        )
        .into_bytes();
        octets.extend(self.text.iter().take(TEXT_OCTETS_MAX));
        octets
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::WallTime;

    fn receipt() -> Receipt {
        Receipt {
            id: "1234567890".into(),
            submitted: 1,
            delivered: 1,
            submit_date: ReceiptDate::from_wall(WallTime::from_millis(1_795_229_569_000), 0),
            done_date: ReceiptDate::from_wall(WallTime::from_millis(1_795_229_629_000), 0),
            state: ReceiptState::Delivered,
            error: 0,
            text: b"The first twenty octets and more".to_vec(),
        }
    }

    #[test]
    fn receipts_look_as_in_the_specification() {
        let expected = "id:1234567890 sub:001 dlvrd:001 submit date:2611210252 done date:2611210253 \
                        stat:DELIVRD err:000 text:The first twenty oct";
        assert_eq!(String::from_utf8(receipt().render()).unwrap(), expected);
    }

    #[test]
    fn numbers_stay_within_three_digits() {
        let mut large = receipt();
        large.error = 4_095;
        let text = String::from_utf8(large.render()).unwrap();
        assert!(text.contains("err:999 "));
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_parsed(
            id in "[!-9;-~]{1,64}",
            numbers in prop::array::uniform3(0u16..=999),
            state in 0u8..=9,
            at in 0u64..4_102_444_800_000,
            took in 0u64..1_000_000_000,
            text in prop::collection::vec(any::<u8>(), 0..=TEXT_OCTETS_MAX),
        ) {
            let [submitted, delivered, error] = numbers;
            let receipt = Receipt {
                id,
                submitted,
                delivered,
                submit_date: ReceiptDate::from_wall(WallTime::from_millis(at), 0),
                done_date: ReceiptDate::from_wall(WallTime::from_millis(at + took), 0),
                state: ReceiptState::try_from(state).unwrap(),
                error,
                text,
            };
            let parsed = ParsedReceipt::parse(&receipt.render()).unwrap();
            prop_assert_eq!(parsed.state(), Some(receipt.state));
            prop_assert_eq!(parsed.id.as_deref(), Some(receipt.id.as_str()));
            prop_assert_eq!(parsed.submitted, Some(submitted));
            prop_assert_eq!(parsed.delivered, Some(delivered));
            prop_assert_eq!(parsed.submit_date, Some(receipt.submit_date));
            prop_assert_eq!(parsed.done_date, Some(receipt.done_date));
            prop_assert_eq!(parsed.error, Some(format!("{error:03}")));
            prop_assert_eq!(parsed.text, Some(receipt.text));
        }
    }
}
