//! Which of the stored ids a receipt may mean. Pure.
//!
//! The store keeps the message_id of a submit_sm_resp as [`link_id_key`] spells it. A receipt may name the same message
//! in another spelling: the same number with leading zeros or in capitals, or in the other base. Which base is
//! configured per link, or found out; the addresses then tell apart what the numbers alone do not.

use smsc_raft::machine::link_id_key;
use smsc_raft::model::link::IdBase;

/// A stored id that a receipt may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As the store keeps it.
    pub key: String,
    /// The bases are guessed: take it only if the addresses fit as well.
    pub guessed: bool,
}

/// The stored ids that `message_id` of a receipt may mean, the likeliest first.
///
/// `response` and `receipt` are the bases of the link's ids. An id that is no number in its base is looked for as it
/// stands.
pub fn candidates(message_id: &str, response: IdBase, receipt: IdBase) -> Vec<Candidate> {
    let message_id = message_id.trim();
    let as_it_stands = link_id_key(message_id);
    let mut found: Vec<Candidate> = Vec::new();
    let mut add = |key: Option<String>, guessed: bool| {
        if let Some(key) = key.filter(|key| !found.iter().any(|known| known.key == *key)) {
            found.push(Candidate { key, guessed });
        }
    };
    match (response, receipt) {
        (IdBase::Decimal, IdBase::Hex) => add(hex_as_decimal(message_id), false),
        (IdBase::Hex, IdBase::Decimal) => add(decimal_as_hex(message_id), false),
        (IdBase::Decimal, IdBase::Decimal) | (IdBase::Hex, IdBase::Hex) => {}
        (IdBase::Auto, _) | (_, IdBase::Auto) => {
            add(Some(as_it_stands.clone()), false);
            if response != IdBase::Decimal && receipt != IdBase::Hex {
                add(decimal_as_hex(message_id), true);
            }
            if response != IdBase::Hex && receipt != IdBase::Decimal {
                add(hex_as_decimal(message_id), true);
            }
        }
    }
    add(Some(as_it_stands), false);
    found
}

fn decimal_as_hex(message_id: &str) -> Option<String> {
    let digits = !message_id.is_empty() && message_id.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| message_id.parse::<u128>().ok()).flatten().map(|number| format!("{number:x}"))
}

fn hex_as_decimal(message_id: &str) -> Option<String> {
    let digits = !message_id.is_empty() && message_id.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u128::from_str_radix(message_id, 16).ok()).flatten().map(|number| number.to_string())
}

/// Whether two numbers are the same but for how they are written: one may lack the country code or the plus sign.
///
/// The shorter one must be the end of the longer one, and have seven digits at least unless they are equal.
pub fn same_number(one: &str, other: &str) -> bool {
    let bare = |number: &str| number.trim_start_matches('+').trim_start_matches('0').to_owned();
    let (one, other) = (bare(one), bare(other));
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    short == long || (short.len() >= 7 && long.ends_with(&short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(message_id: &str, response: IdBase, receipt: IdBase) -> Vec<String> {
        candidates(message_id, response, receipt).into_iter().map(|candidate| candidate.key).collect()
    }

    #[test]
    fn numbers_are_found_across_bases() {
        use IdBase::{Auto, Decimal, Hex};
        // 0x1a2b is 6699.
        assert_eq!(keys("0000006699", Hex, Decimal), ["1a2b", "6699"]);
        assert_eq!(keys("00001A2B", Decimal, Hex), ["6699", "1a2b"]);
        assert_eq!(keys("0000006699", Decimal, Decimal), ["6699"]);
        assert_eq!(keys("1A2B", Hex, Hex), ["1a2b"]);
        assert_eq!(keys("6699", Auto, Auto), ["6699", "1a2b", "26265"]);
        assert_eq!(keys("1A2B", Auto, Auto), ["1a2b", "6699"]);
        assert_eq!(keys("6699", Hex, Auto), ["6699", "1a2b"]);
        assert_eq!(keys("0", Auto, Auto), ["0"]);
    }

    #[test]
    fn what_is_no_number_is_looked_for_as_it_stands() {
        assert_eq!(keys(" Msg-Zz ", IdBase::Hex, IdBase::Decimal), ["Msg-Zz"]);
        let uuid = "5F6D0B54-9D3E-4C8A-8E52-0D1C2B3A4F5E";
        assert_eq!(keys(uuid, IdBase::Auto, IdBase::Auto), [uuid.to_ascii_lowercase()]);
        // More than fits a number of 128 bits.
        let long = "9".repeat(60);
        assert_eq!(keys(&long, IdBase::Hex, IdBase::Decimal), [long]);
    }

    #[test]
    fn numbers_may_lack_their_country_code() {
        assert!(same_number("+4915112345678", "4915112345678"));
        assert!(same_number("015112345678", "4915112345678"));
        assert!(!same_number("345678", "4915112345678"));
        assert!(same_number("1000", "1000"));
        assert!(!same_number("1000", "2000"));
    }

    proptest! {
        /// Whatever bases a message centre writes in, its receipt finds the id of its response.
        #[test]
        fn a_receipt_finds_its_response(
            number: u64, pad in 0..12usize, capitals: bool, response_hex: bool, receipt_hex: bool, configured: bool,
        ) {
            let write = |hex: bool| {
                let text = if hex { format!("{number:x}") } else { number.to_string() };
                let text = format!("{}{text}", "0".repeat(pad));
                if capitals { text.to_ascii_uppercase() } else { text }
            };
            let base = |hex: bool| match (configured, hex) {
                (false, _) => IdBase::Auto,
                (true, true) => IdBase::Hex,
                (true, false) => IdBase::Decimal,
            };
            let stored = link_id_key(&write(response_hex));
            let found = keys(&write(receipt_hex), base(response_hex), base(receipt_hex));
            prop_assert!(found.contains(&stored), "{stored} is not among {found:?}");
        }
    }
}
