//! Reading the receipts of other message centres.

use super::date::ReceiptDate;
use super::state::ReceiptState;

/// What could be read of a receipt. Every field may be missing; one that cannot be read counts as missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParsedReceipt {
    /// The message id, as text; a sender may write another base than in its response. Octets that are not UTF-8 become
    /// U+FFFD.
    pub id: Option<String>,
    /// `sub`: messages submitted under the id.
    pub submitted: Option<u16>,
    /// `dlvrd`: messages delivered of these.
    pub delivered: Option<u16>,
    /// `submit date`.
    pub submit_date: Option<ReceiptDate>,
    /// `done date`.
    pub done_date: Option<ReceiptDate>,
    /// `stat` as it was written; [`ParsedReceipt::state`] gives its meaning.
    pub stat: Option<String>,
    /// `err` as it was written: digits by the specification, but some networks have letters.
    pub error: Option<String>,
    /// `text`: the start of the original message, in its own coding.
    pub text: Option<Vec<u8>>,
}

impl ParsedReceipt {
    /// Reads a receipt text.
    ///
    /// Keys may be in any order, in capitals or not, with spaces before the value; `submit date` may be written with an
    /// underscore or in one word; dates may have ten or twelve digits; what belongs to no key is passed over. The first
    /// occurrence of a key counts. The text field takes everything to the end, so that an original message which looks
    /// like a receipt changes nothing; only where it comes before `stat` does it end at the next key.
    ///
    /// # Errors
    /// [`ReceiptError`] if there is neither an id nor a stat: this is a message, not a receipt.
    pub fn parse(octets: &[u8]) -> Result<Self, ReceiptError> {
        let mut receipt = ParsedReceipt::default();
        let mut seen = Seen::default();
        let mut rest = octets;
        loop {
            rest = skip_separators(rest);
            if rest.is_empty() {
                break;
            }
            let Some((key, after_key)) = split_key(rest).filter(|(key, _)| !seen.contains(*key)) else {
                rest = skip_word(rest);
                continue;
            };
            seen.insert(key);
            rest = if key == Key::Text {
                let end = if seen.contains(Key::Stat) { after_key.len() } else { next_key(after_key, seen) };
                let (text, next) = after_key.split_at(end);
                receipt.text = Some(text.to_vec());
                next
            } else {
                let value = skip_separators(after_key);
                // A key in place of a value: the value is missing.
                let value_len = match split_key(value) {
                    Some(_) => 0,
                    None => value.len() - skip_word(value).len(),
                };
                let (value, next) = value.split_at(value_len);
                receipt.set(key, value);
                next
            };
        }
        if receipt.id.is_none() && receipt.stat.is_none() {
            return Err(ReceiptError);
        }
        Ok(receipt)
    }

    /// The state that `stat` names; `None` if it is missing or not known here.
    #[must_use]
    pub fn state(&self) -> Option<ReceiptState> {
        ReceiptState::from_receipt_name(self.stat.as_deref()?)
    }

    fn set(&mut self, key: Key, value: &[u8]) {
        let text = || (!value.is_empty()).then(|| String::from_utf8_lossy(value).into_owned());
        match key {
            Key::Id => self.id = text(),
            Key::Sub => self.submitted = number(value),
            Key::Dlvrd => self.delivered = number(value),
            Key::SubmitDate => self.submit_date = ReceiptDate::parse(value),
            Key::DoneDate => self.done_date = ReceiptDate::parse(value),
            Key::Stat => self.stat = text(),
            Key::Err => self.error = text(),
            // Taken by the caller, because its value is not a word.
            Key::Text => self.text = Some(value.to_vec()),
        }
    }
}

/// The text has neither an id nor a stat and is no receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not a delivery receipt: it has neither an \"id:\" nor a \"stat:\" field with a value")]
pub struct ReceiptError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    Sub,
    Dlvrd,
    SubmitDate,
    DoneDate,
    Stat,
    Err,
    Text,
}

/// How keys are written, in small letters and without the colon.
const KEYS: [(&[u8], Key); 12] = [
    (b"id", Key::Id),
    (b"sub", Key::Sub),
    (b"dlvrd", Key::Dlvrd),
    (b"submit date", Key::SubmitDate),
    (b"submit_date", Key::SubmitDate),
    (b"submitdate", Key::SubmitDate),
    (b"done date", Key::DoneDate),
    (b"done_date", Key::DoneDate),
    (b"donedate", Key::DoneDate),
    (b"stat", Key::Stat),
    (b"err", Key::Err),
    (b"text", Key::Text),
];

/// The keys already met, a bit each.
#[derive(Debug, Clone, Copy, Default)]
struct Seen(u8);

impl Seen {
    fn contains(self, key: Key) -> bool {
        self.0 & (1 << key as u8) != 0
    }

    fn insert(&mut self, key: Key) {
        self.0 |= 1 << key as u8;
    }
}

/// The key that `octets` start with, and what is behind its colon.
fn split_key(octets: &[u8]) -> Option<(Key, &[u8])> {
    KEYS.iter().find_map(|&(name, key)| {
        let (start, rest) = octets.split_at_checked(name.len())?;
        let rest = rest.strip_prefix(b":")?;
        start.eq_ignore_ascii_case(name).then_some((key, rest))
    })
}

/// Where within `octets` the next key starts that was not seen yet, the space before it included; else their end.
fn next_key(octets: &[u8], seen: Seen) -> usize {
    (0..octets.len())
        .find(|&at| {
            is_separator(octets[at]) && split_key(&octets[at + 1..]).is_some_and(|(key, _)| !seen.contains(key))
        })
        .unwrap_or(octets.len())
}

fn is_separator(octet: u8) -> bool {
    // Some senders end the text with a NUL.
    octet.is_ascii_whitespace() || octet == 0
}

fn skip_separators(octets: &[u8]) -> &[u8] {
    let end = octets.iter().position(|&octet| !is_separator(octet));
    &octets[end.unwrap_or(octets.len())..]
}

fn skip_word(octets: &[u8]) -> &[u8] {
    let end = octets.iter().position(|&octet| is_separator(octet));
    &octets[end.unwrap_or(octets.len())..]
}

/// A number of decimal digits that fits; `None` for anything else.
fn number(digits: &[u8]) -> Option<u16> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> ParsedReceipt {
        ParsedReceipt::parse(text.as_bytes()).expect("is a receipt")
    }

    #[test]
    fn the_conventional_text_is_read_whole() {
        let receipt = parse(
            "id:0a-7f sub:001 dlvrd:000 submit date:2611210252 done date:261121025349 stat:UNDELIV err:0B4 Text:hi there ",
        );
        assert_eq!(receipt.id.as_deref(), Some("0a-7f"));
        assert_eq!(receipt.submitted, Some(1));
        assert_eq!(receipt.delivered, Some(0));
        assert_eq!(receipt.submit_date, ReceiptDate::parse(b"2611210252"));
        assert_eq!(receipt.done_date, ReceiptDate::parse(b"261121025349"));
        assert_eq!(receipt.state(), Some(ReceiptState::Undeliverable));
        assert_eq!(receipt.error.as_deref(), Some("0B4"));
        assert_eq!(receipt.text.as_deref(), Some(b"hi there ".as_slice()));
    }

    #[test]
    fn order_case_and_gaps_do_not_matter() {
        let receipt = parse("STAT: expired  Done_Date:2611210253 junk ERR: ID:7\0");
        assert_eq!(receipt.state(), Some(ReceiptState::Expired));
        assert_eq!(receipt.id.as_deref(), Some("7"));
        assert_eq!(receipt.done_date, ReceiptDate::parse(b"2611210253"));
        assert_eq!(receipt.error, None);
        assert_eq!(receipt.submit_date, None);
        assert_eq!(receipt.text, None);

        let text_first = parse("text:a sub b stat:DELIVRD id:5");
        assert_eq!(text_first.text.as_deref(), Some(b"a sub b".as_slice()));
        assert_eq!(text_first.id.as_deref(), Some("5"));
    }

    #[test]
    fn the_original_message_cannot_pose_as_the_receipt() {
        let receipt = parse("id:1 stat:UNDELIV text:id:2 stat:DELIVRD err:000");
        assert_eq!(receipt.id.as_deref(), Some("1"));
        assert_eq!(receipt.state(), Some(ReceiptState::Undeliverable));
        assert_eq!(receipt.error, None);
        assert_eq!(receipt.text.as_deref(), Some(b"id:2 stat:DELIVRD err:000".as_slice()));
        // The first of two counts.
        assert_eq!(parse("id:1 id:2").id.as_deref(), Some("1"));
        // A key is a whole word.
        assert_eq!(parse("grid:9 id:1").id.as_deref(), Some("1"));
    }

    #[test]
    fn fields_that_cannot_be_read_count_as_missing() {
        let receipt = parse("id:1 sub:x dlvrd:99999 submit date:26 done date:9999999999 stat:FAILED");
        assert_eq!(receipt.submitted, None);
        assert_eq!(receipt.delivered, None);
        assert_eq!(receipt.submit_date, None);
        assert_eq!(receipt.done_date, None);
        assert_eq!(receipt.stat.as_deref(), Some("FAILED"));
        assert_eq!(receipt.state(), None);
    }

    #[test]
    fn ordinary_messages_are_no_receipts() {
        // The last is a text that starts with something like a key, and nothing else.
        for text in ["", "hello", "my id: ", "stat id", "sub:001 text:id:1"] {
            let parsed = ParsedReceipt::parse(text.as_bytes());
            assert_eq!(parsed, Err(ReceiptError), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_panic(octets in any::<Vec<u8>>()) {
            let _ = ParsedReceipt::parse(&octets);
        }

        #[test]
        fn no_likely_text_panics(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "id:", "ID:", "1", " ", "sub:", "dlvrd:", "submit date:", "done date:", "stat:", "err:", "text:",
                    "\0", "2611210252", "DELIVRD", "submit", "date:", ":",
                ]),
                0..30,
            ),
        ) {
            let _ = ParsedReceipt::parse(words.concat().as_bytes());
        }
    }
}
