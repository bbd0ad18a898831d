//! Which numbers a receiver serves: address_range of its bind (SMPP v3.4 section 5.2.7). Pure.

use regex::{Regex, RegexBuilder};
use smsc_proto::types::AddressRange;

/// Octets that a compiled expression may take: each session keeps one.
const SIZE_MAX: usize = 64 * 1024;

/// The numbers of an account that one of its receivers serves.
#[derive(Clone, Debug, Default)]
pub struct Serves {
    range: Option<Regex>,
}

/// address_range cannot be used; the bind is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address_range is no regular expression, or a very large one")]
pub struct BadRange;

impl Serves {
    /// Every number of the account.
    pub const fn all() -> Self {
        Serves { range: None }
    }

    /// The numbers of an address_range: a UNIX regular expression that matches anywhere in the number unless it is
    /// anchored. Empty is every number, and so are the lone `*` and `%` that many ESMEs send for it.
    ///
    /// # Errors
    /// [`BadRange`].
    pub fn of(range: &AddressRange) -> Result<Self, BadRange> {
        let text = range.as_str().ok_or(BadRange)?;
        match text {
            "" | "*" | "%" => Ok(Serves::all()),
            // Matching takes time linear in the number, whatever the expression.
            _ => match RegexBuilder::new(text).size_limit(SIZE_MAX).build() {
                Ok(range) => Ok(Serves { range: Some(range) }),
                Err(_) => Err(BadRange),
            },
        }
    }

    /// Whether every number is served.
    pub fn is_all(&self) -> bool {
        self.range.is_none()
    }

    /// Whether messages to `number` may go there.
    pub fn covers(&self, number: &str) -> bool {
        self.range.as_ref().is_none_or(|range| range.is_match(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serves(range: &str) -> Result<Serves, BadRange> {
        Serves::of(&range.parse().expect("short"))
    }

    #[test]
    fn the_specification_s_examples_select_what_it_says() {
        for (range, number, covered) in [
            ("", "1000", true),
            ("*", "1000", true),
            ("^1234", "12345", true),
            ("^1234", "51234", false),
            ("5678$", "12345678", true),
            ("^123456$", "123456", true),
            ("^123456$", "1234567", false),
            ("[13579]$", "104", false),
            ("100[0-4]", "1003", true),
        ] {
            assert_eq!(serves(range).expect("good").covers(number), covered, "{range} {number}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for range in ["[", "a{9999}{9999}", "(((((((((("] {
            assert!(serves(range).is_err(), "{range}");
        }
    }
}
