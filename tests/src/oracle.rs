//! What ESMEs know of their submissions: acknowledged, refused, or unknown because no answer came.
//!
//! Each submission carries a text of its own, which tells it apart wherever it turns up; none is sent twice.

use std::collections::BTreeMap;

use bytes::Bytes;

/// What an ESME knows of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing yet.
    Pending,
    /// Accepted under this id: never to be lost.
    Acked(u64),
    /// Refused: never to be delivered.
    Refused,
    /// The answer was lost: it may be stored or not, once at most.
    Unknown,
}

/// A submission as its ESME remembers it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The account.
    pub account: String,
    /// registered_delivery.
    pub registered_delivery: u8,
    /// What became of it.
    pub answer: Answer,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Oracle {
    asked: Vec<Asked>,
    acked: BTreeMap<u64, usize>,
    receipts: BTreeMap<u64, u64>,
}

impl Oracle {
    /// A submission is sent; its number.
    pub fn ask(&mut self, account: &str, registered_delivery: u8) -> usize {
        self.asked.push(Asked { account: account.to_owned(), registered_delivery, answer: Answer::Pending });
        self.asked.len() - 1
    }

    /// Its answer came, or is known not to come.
    ///
    /// # Errors
    /// It was answered before, or the id is that of another.
    pub fn answer(&mut self, tag: usize, answer: Answer) -> Result<(), String> {
        let asked = &mut self.asked[tag];
        if asked.answer != Answer::Pending {
            return Err(format!("submission {tag} was {:?} and is now {answer:?}", asked.answer));
        }
        asked.answer = answer;
        if let Answer::Acked(id) = answer
            && let Some(other) = self.acked.insert(id, tag)
        {
            return Err(format!("submissions {other} and {tag} were both acknowledged as {id}"));
        }
        Ok(())
    }

    /// An ESME has taken a receipt for this message.
    pub fn receipt(&mut self, id: u64) {
        *self.receipts.entry(id).or_default() += 1;
    }

    /// Receipts taken for this message.
    pub fn receipts(&self, id: u64) -> u64 {
        self.receipts.get(&id).copied().unwrap_or_default()
    }

    /// All submissions, by number.
    pub fn submissions(&self) -> &[Asked] {
        &self.asked
    }

    /// The acknowledged ids and their submissions.
    pub fn acked(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        self.acked.iter().map(|(id, tag)| (*id, *tag))
    }
}

/// The text of a submission.
pub fn text(tag: usize) -> Bytes {
    Bytes::from(format!("submission {tag}"))
}

/// The submission with this text.
pub fn tag(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.strip_prefix("submission ")?.parse().ok()
}
