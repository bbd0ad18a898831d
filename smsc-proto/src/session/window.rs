//! Requests that wait for their answer, both ways, bounded.

use std::collections::BTreeMap;

use crate::command::{CommandId, SequenceNumber};
use crate::time::MonoTime;
use crate::types::BindMode;

/// The right, and the duty, to answer one request of the peer.
///
/// It cannot be copied and answering consumes it, so a request is answered at most once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a request whose ticket is dropped is never answered"]
pub struct Ticket {
    sequence: SequenceNumber,
    command_id: CommandId,
}

impl Ticket {
    /// The peer's number for the request.
    pub fn sequence(&self) -> SequenceNumber {
        self.sequence
    }

    /// The operation asked for.
    pub fn command_id(&self) -> CommandId {
        self.command_id
    }
}

/// Counts the requests of the peer that the caller has not answered.
#[derive(Debug)]
pub(super) struct Incoming {
    limit: usize,
    open: usize,
}

impl Incoming {
    pub(super) fn new(limit: usize) -> Self {
        Incoming { limit: limit.max(1), open: 0 }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    pub(super) fn open(&self) -> usize {
        self.open
    }

    pub(super) fn is_full(&self) -> bool {
        self.open >= self.limit
    }

    pub(super) fn issue(&mut self, sequence: SequenceNumber, command_id: CommandId) -> Ticket {
        self.open += 1;
        Ticket { sequence, command_id }
    }

    pub(super) fn redeem(&mut self, ticket: Ticket) -> (SequenceNumber, CommandId) {
        self.open = self.open.saturating_sub(1);
        (ticket.sequence, ticket.command_id)
    }
}

/// What waits for an answer of the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiting {
    /// A request of the caller, under the caller's own name for it.
    Request(u64),
    EnquireLink,
    Unbind,
    Bind(BindMode),
}

/// A request of ours on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) command_id: CommandId,
    pub(super) waiting: Waiting,
    pub(super) at: MonoTime,
}

/// Requests of ours that wait for their answer.
///
/// They are kept by a number that counts every request sent; sequence_number is that number folded into 1 to
/// 0x7fff_ffff, and since far fewer requests wait than there are sequence numbers, it unfolds to one candidate. The
/// response timeout is the same for all, so the first is always the next to expire.
#[derive(Debug)]
pub(super) struct Outgoing {
    limit: usize,
    /// Only those of the caller count against the limit.
    requests: usize,
    next: u64,
    sent: BTreeMap<u64, Sent>,
}

/// sequence_numbers there are.
const SEQUENCES: u64 = SequenceNumber::LAST.0 as u64;

impl Outgoing {
    pub(super) fn new(limit: usize) -> Self {
        Outgoing { limit: limit.max(1), requests: 0, next: 0, sent: BTreeMap::new() }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Requests of the caller that may be sent before the next answer.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.requests)
    }

    /// The sequence_number of the next request.
    pub(super) fn next_sequence(&self) -> SequenceNumber {
        fold(self.next)
    }

    /// Uses up the next sequence_number for a request that has no answer.
    pub(super) fn skip(&mut self) {
        self.next += 1;
    }

    /// Records the request that was sent under [`Outgoing::next_sequence`].
    pub(super) fn push(&mut self, sent: Sent) {
        self.requests += usize::from(matches!(sent.waiting, Waiting::Request(_)));
        self.sent.insert(self.next, sent);
        self.next += 1;
    }

    /// Whether a request of this kind waits.
    pub(super) fn has(&self, waiting: Waiting) -> bool {
        self.sent.values().any(|sent| sent.waiting == waiting)
    }

    /// The request of this sequence_number, if it is one that `answer` can answer; it waits no longer.
    pub(super) fn take(&mut self, sequence: SequenceNumber, answer: CommandId) -> Option<Sent> {
        let (first, _) = self.sent.first_key_value()?;
        if !sequence.is_valid() {
            return None;
        }
        let distance = (u64::from(sequence.0) + SEQUENCES - u64::from(fold(*first).0)) % SEQUENCES;
        let number = first + distance;
        let sent = self.sent.get(&number)?;
        if answer != CommandId::GENERIC_NACK && sent.command_id.response() != Some(answer) {
            return None;
        }
        self.remove(number)
    }

    /// When the oldest request was sent.
    pub(super) fn oldest(&self) -> Option<MonoTime> {
        self.sent.first_key_value().map(|(_, sent)| sent.at)
    }

    /// The oldest request, if it was sent no later than `at`; it waits no longer.
    pub(super) fn take_oldest(&mut self, at: MonoTime) -> Option<Sent> {
        let (number, sent) = self.sent.first_key_value()?;
        let (number, due) = (*number, sent.at <= at);
        if due { self.remove(number) } else { None }
    }

    fn remove(&mut self, number: u64) -> Option<Sent> {
        let sent = self.sent.remove(&number)?;
        self.requests -= usize::from(matches!(sent.waiting, Waiting::Request(_)));
        Some(sent)
    }
}

fn fold(number: u64) -> SequenceNumber {
    // The remainder is below 0x7fff_ffff.
    SequenceNumber((number % SEQUENCES) as u32 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(token: u64) -> Sent {
        Sent { command_id: CommandId::DELIVER_SM, waiting: Waiting::Request(token), at: MonoTime::from_nanos(token) }
    }

    #[test]
    fn answers_find_their_request_across_the_end_of_the_numbers() {
        let mut outgoing = Outgoing::new(10);
        outgoing.next = SEQUENCES * 3 - 2;
        let mut sequences = vec![];
        for token in 0..4 {
            sequences.push(outgoing.next_sequence());
            outgoing.push(request(token));
        }
        assert_eq!(sequences, [SequenceNumber::LAST.0 - 1, SequenceNumber::LAST.0, 1, 2].map(SequenceNumber));
        assert_eq!(outgoing.room(), 6);
        for (token, sequence) in sequences.into_iter().enumerate().rev() {
            assert!(outgoing.take(sequence, CommandId::SUBMIT_SM_RESP).is_none());
            let sent = outgoing.take(sequence, CommandId::DELIVER_SM_RESP);
            assert_eq!(sent.map(|sent| sent.waiting), Some(Waiting::Request(token as u64)));
            assert!(outgoing.take(sequence, CommandId::DELIVER_SM_RESP).is_none());
        }
        assert_eq!(outgoing.room(), 10);
    }

    #[test]
    fn the_oldest_expires_first() {
        let mut outgoing = Outgoing::new(2);
        outgoing.push(request(5));
        outgoing.push(request(7));
        assert_eq!(outgoing.room(), 0);
        assert!(outgoing.take_oldest(MonoTime::from_nanos(4)).is_none());
        assert!(outgoing.take_oldest(MonoTime::from_nanos(5)).is_some());
        assert_eq!(outgoing.oldest(), Some(MonoTime::from_nanos(7)));
        assert_eq!(outgoing.room(), 1);
    }
}
