//! Requests of one connection that have no answer yet.

use std::collections::VecDeque;

use smsc_proto::command::SequenceNumber;
use tokio::time::Instant;

/// A submission that waits for its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    /// Number of the message within the run.
    pub number: u64,
    /// When it was due to be sent: latency counts from here, so that a stalled server does not hide behind messages
    /// that were sent late because of it.
    pub due: Instant,
    /// When it was sent: the response timer counts from here.
    pub at: Instant,
}

/// What waits, by sequence number. Numbers are given out in order, so that place in a queue and number differ by a
/// constant.
#[derive(Debug)]
pub struct InFlight {
    first: u32,
    slots: VecDeque<Option<Sent>>,
    waiting: usize,
}

impl Default for InFlight {
    fn default() -> Self {
        InFlight { first: SequenceNumber::FIRST.0, slots: VecDeque::new(), waiting: 0 }
    }
}

impl InFlight {
    /// Submissions without an answer.
    pub fn len(&self) -> usize {
        self.waiting
    }

    /// Whether every submission was answered.
    pub fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The next sequence number, for `sent`; `None` while the numbers have run out and the last ones are not answered.
    pub fn push(&mut self, sent: Sent) -> Option<SequenceNumber> {
        let sequence = self.reserve()?;
        if let Some(slot) = self.slots.back_mut() {
            *slot = Some(sent);
            self.waiting += 1;
        }
        Some(sequence)
    }

    /// The next sequence number, for a request that is no submission.
    pub fn reserve(&mut self) -> Option<SequenceNumber> {
        let offset = u32::try_from(self.slots.len()).ok()?;
        let mut next = SequenceNumber(self.first.checked_add(offset)?);
        if !next.is_valid() {
            if self.waiting > 0 {
                return None;
            }
            self.slots.clear();
            next = SequenceNumber::FIRST;
            self.first = next.0;
        }
        self.slots.push_back(None);
        Some(next)
    }

    /// The submission that `sequence` answers; `None` if nothing waits under this number.
    pub fn take(&mut self, sequence: SequenceNumber) -> Option<Sent> {
        let place = usize::try_from(sequence.0.checked_sub(self.first)?).ok()?;
        let sent = self.slots.get_mut(place)?.take()?;
        self.waiting -= 1;
        while self.waiting > 0 && self.slots.front().is_some_and(Option::is_none) {
            self.slots.pop_front();
            self.first += 1;
        }
        if self.waiting == 0 {
            // Every number given out is done with: go on behind the last one.
            self.first += u32::try_from(self.slots.len()).unwrap_or(0);
            self.slots.clear();
        }
        Some(sent)
    }

    /// Whether a submission waits under this number.
    pub fn contains(&self, sequence: SequenceNumber) -> bool {
        let place = sequence.0.checked_sub(self.first);
        let place = place.and_then(|place| usize::try_from(place).ok());
        place.is_some_and(|place| matches!(self.slots.get(place), Some(Some(_))))
    }

    /// The submission that waits longest.
    pub fn oldest(&self) -> Option<&Sent> {
        self.slots.iter().flatten().next()
    }

    /// Gives up on everything that waits.
    pub fn drain(&mut self) -> impl Iterator<Item = Sent> + '_ {
        self.waiting = 0;
        self.slots.drain(..).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u64) -> Sent {
        let now = Instant::now();
        Sent { number, due: now, at: now }
    }

    fn taken(in_flight: &mut InFlight, sequence: u32) -> Option<u64> {
        in_flight.take(SequenceNumber(sequence)).map(|sent| sent.number)
    }

    #[test]
    fn answers_find_their_submission_in_any_order() {
        let mut in_flight = InFlight::default();
        for number in 100..104 {
            let sequence = in_flight.push(sent(number));
            assert_eq!(sequence.map(|s| u64::from(s.0) + 99), Some(number), "numbers start at 1");
        }
        assert_eq!(taken(&mut in_flight, 3), Some(102));
        assert_eq!(taken(&mut in_flight, 3), None, "answered once");
        assert_eq!(taken(&mut in_flight, 1), Some(100));
        assert_eq!(in_flight.oldest().map(|s| s.number), Some(101));
        assert_eq!(taken(&mut in_flight, 9), None);
        assert_eq!(taken(&mut in_flight, 0), None);
        assert_eq!(in_flight.reserve(), Some(SequenceNumber(5)));
        assert_eq!(taken(&mut in_flight, 5), None, "no submission");
        assert_eq!(in_flight.len(), 2);
        let left: Vec<u64> = in_flight.drain().map(|s| s.number).collect();
        assert_eq!(left, [101, 103]);
    }

    #[test]
    fn numbers_start_again_when_all_are_answered() {
        let mut in_flight = InFlight { first: SequenceNumber::LAST.0, ..InFlight::default() };
        assert_eq!(in_flight.push(sent(1)), Some(SequenceNumber::LAST));
        assert_eq!(in_flight.push(sent(2)), None);
        assert_eq!(taken(&mut in_flight, SequenceNumber::LAST.0), Some(1));
        assert_eq!(in_flight.push(sent(2)), Some(SequenceNumber::FIRST));
    }
}
