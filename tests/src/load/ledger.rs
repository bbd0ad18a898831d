//! What was sent, acknowledged and reported, and everything in it that contradicts the contract.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;

use hdrhistogram::Histogram;
use smsc_proto::receipt::ReceiptState;
use smsc_proto::status::CommandStatus;
use tokio::time::Instant;

use crate::load::in_flight::Sent;

/// Contradictions that are kept as text; more are only counted.
const VIOLATIONS_SHOWN: usize = 20;

/// Latencies from 1 us to 10 minutes with three digits.
pub type Latencies = Histogram<u64>;

/// Message ids of one cluster are near one another, so that spreading them needs one multiplication.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, value: u64) {
        let product = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}

type ById<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// What is known about one message id.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Number of the message and when it was due, once its acknowledgement is there.
    acked: Option<(u64, Instant)>,
    /// Number in the receipt's text and when the first receipt came.
    reported: Option<(Option<u64>, Instant)>,
    state: Option<ReceiptState>,
    receipts: u32,
}

/// The account of one run.
#[derive(Debug)]
pub struct Ledger {
    start: Instant,
    by_id: ById<Entry>,
    unknown_numbers: HashSet<u64>,
    /// Submissions written to a connection.
    pub sent: u64,
    /// Positive answers.
    pub acked: u64,
    /// Negative answers, by status.
    pub refused: BTreeMap<u32, u64>,
    /// Submissions whose connection ended before their answer came.
    pub unknown: u64,
    /// Receipts with a final state, repeated ones included.
    pub receipts: u64,
    /// Receipts for a message that had one already.
    pub receipts_repeated: u64,
    /// Receipts that report no final state.
    pub notifications: u64,
    /// Receipts for messages of other runs.
    pub receipts_foreign: u64,
    /// Deliveries that are no receipts.
    pub messages_received: u64,
    /// Final states by the letters of their receipt.
    pub states: BTreeMap<&'static str, u64>,
    /// Messages with a receipt and an acknowledgement.
    pub settled: u64,
    /// Connections bound.
    pub binds: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Attempts to connect or to bind that failed.
    pub connects_failed: u64,
    /// When the first submission was sent and the last acknowledgement came.
    pub first_sent: Option<Instant>,
    /// See `first_sent`.
    pub last_ack: Option<Instant>,
    /// The longest time without any acknowledgement, and when it began.
    pub longest_gap: (Duration, Option<Instant>),
    /// From due to acknowledged.
    pub ack_latency: Latencies,
    /// From due to the first receipt.
    pub receipt_latency: Latencies,
    violations: Vec<String>,
    violations_count: u64,
}

/// Final figures of the ledger: see [`Ledger::close`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Acknowledged messages without a receipt.
    pub missing: u64,
    /// Messages of unknown outcome of which a receipt tells that they were accepted.
    pub unknown_accepted: u64,
    /// Everything that contradicts the contract: how often, and the first ones as text.
    pub violations_count: u64,
    /// See `violations_count`.
    pub violations: Vec<String>,
}

/// None yet.
pub(super) fn latencies() -> Latencies {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are constants in range")
}

/// One more.
pub(super) fn record(latencies: &mut Latencies, time: Duration) {
    latencies.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

impl Ledger {
    /// An empty account; times in reports count from `start`.
    pub fn new(start: Instant) -> Self {
        Ledger {
            start,
            by_id: ById::default(),
            unknown_numbers: HashSet::new(),
            sent: 0,
            acked: 0,
            refused: BTreeMap::new(),
            unknown: 0,
            receipts: 0,
            receipts_repeated: 0,
            notifications: 0,
            receipts_foreign: 0,
            messages_received: 0,
            states: BTreeMap::new(),
            settled: 0,
            binds: 0,
            disconnects: 0,
            connects_failed: 0,
            first_sent: None,
            last_ack: None,
            longest_gap: (Duration::ZERO, None),
            ack_latency: latencies(),
            receipt_latency: latencies(),
            violations: Vec::new(),
            violations_count: 0,
        }
    }

    /// When the run began.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// A submission is on its way.
    pub fn sent(&mut self, now: Instant) {
        self.sent += 1;
        self.first_sent.get_or_insert(now);
    }

    /// A submission was acknowledged under `id`.
    pub fn acked(&mut self, id: u64, sent: Sent, now: Instant) {
        self.acked += 1;
        record(&mut self.ack_latency, now.saturating_duration_since(sent.due));
        if let Some(since) = self.last_ack.or(self.first_sent) {
            let gap = now.saturating_duration_since(since);
            if gap > self.longest_gap.0 {
                self.longest_gap = (gap, Some(since));
            }
        }
        self.last_ack = Some(now);
        let entry = self.by_id.entry(id).or_default();
        if let Some((number, _)) = entry.acked {
            let again = sent.number;
            self.violation(format!("id {id} was acknowledged twice: for message {number} and for message {again}"));
            return;
        }
        entry.acked = Some((sent.number, sent.due));
        if let Some((number, at)) = entry.reported {
            self.settled += 1;
            record(&mut self.receipt_latency, at.saturating_duration_since(sent.due));
            self.same_number(id, sent.number, number);
        }
    }

    /// A submission was refused.
    pub fn refused(&mut self, status: CommandStatus) {
        *self.refused.entry(status.0).or_default() += 1;
    }

    /// The connection ended before the answer came.
    pub fn unknown(&mut self, number: u64) {
        self.unknown += 1;
        self.unknown_numbers.insert(number);
    }

    /// A receipt with a final state came for `id`; `number` is the message its text names, if it repeats the text.
    pub fn reported(&mut self, id: u64, number: Option<u64>, state: ReceiptState, now: Instant) {
        self.receipts += 1;
        *self.states.entry(state.receipt_name()).or_default() += 1;
        let entry = self.by_id.entry(id).or_default();
        entry.receipts = entry.receipts.saturating_add(1);
        if let Some(earlier) = entry.state.replace(state) {
            self.receipts_repeated += 1;
            if earlier != state {
                self.violation(format!(
                    "id {id} has two final states: {} and then {}",
                    earlier.receipt_name(),
                    state.receipt_name()
                ));
            }
            return;
        }
        entry.reported = Some((number, now));
        if let Some((sent_number, due)) = entry.acked {
            self.settled += 1;
            record(&mut self.receipt_latency, now.saturating_duration_since(due));
            self.same_number(id, sent_number, number);
        }
    }

    /// Something that contradicts the contract.
    pub fn violation(&mut self, sentence: String) {
        self.violations_count += 1;
        if self.violations.len() < VIOLATIONS_SHOWN {
            self.violations.push(sentence);
        }
    }

    /// Acknowledged messages without a receipt.
    pub fn missing(&self) -> u64 {
        self.acked.saturating_sub(self.settled)
    }

    /// Draws the line, when nothing more is expected. With `receipts`, every acknowledged message must have one, and
    /// every receipt must be for a message that was acknowledged or whose outcome is unknown.
    pub fn close(&mut self, receipts: bool) -> Closing {
        let mut missing = 0;
        let mut unknown_accepted = 0;
        let mut stray = Vec::new();
        let mut lost = Vec::new();
        for (id, entry) in &self.by_id {
            match (entry.acked, entry.reported) {
                (Some(_), None) if receipts => {
                    missing += 1;
                    lost.push(*id);
                }
                (None, Some((number, _))) => match number {
                    Some(number) if self.unknown_numbers.contains(&number) => unknown_accepted += 1,
                    None if unknown_accepted < self.unknown => unknown_accepted += 1,
                    _ => stray.push(*id),
                },
                _ => {}
            }
        }
        stray.sort_unstable();
        for id in stray {
            self.violation(format!("a receipt came for id {id}, which no answer of this run gave out"));
        }
        if missing > 0 {
            lost.sort_unstable();
            lost.truncate(VIOLATIONS_SHOWN);
            self.violation(format!(
                "{missing} acknowledged messages have no receipt, ids {lost:?}{}",
                if missing > lost.len() as u64 { " and more" } else { "" }
            ));
        }
        Closing {
            missing,
            unknown_accepted,
            violations_count: self.violations_count,
            violations: self.violations.clone(),
        }
    }

    fn same_number(&mut self, id: u64, acked: u64, reported: Option<u64>) {
        if let Some(reported) = reported.filter(|reported| *reported != acked) {
            self.violation(format!("id {id} was given to message {acked}, its receipt is about message {reported}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(number: u64, at: Instant) -> Sent {
        Sent { number, due: at, at }
    }

    #[test]
    fn a_clean_run_has_nothing_to_complain_about() {
        let start = Instant::now();
        let later = start + Duration::from_millis(30);
        let mut ledger = Ledger::new(start);
        ledger.sent(start);
        ledger.sent(start);
        ledger.acked(7, sent(0, start), later);
        ledger.reported(7, Some(0), ReceiptState::Delivered, later);
        assert_eq!(ledger.missing(), 0);
        // The receipt may overtake the answer.
        ledger.reported(8, None, ReceiptState::Undeliverable, later);
        ledger.acked(8, sent(1, start), later + Duration::from_millis(1));
        let closing = ledger.close(true);
        assert_eq!(closing.violations, Vec::<String>::new());
        assert_eq!((closing.missing, closing.unknown_accepted), (0, 0));
        assert_eq!(ledger.longest_gap, (Duration::from_millis(30), Some(start)));
        assert_eq!(ledger.ack_latency.max() / 1000, 31);
    }

    #[test]
    fn an_unknown_outcome_may_turn_out_accepted() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        ledger.unknown(3);
        ledger.reported(9, Some(3), ReceiptState::Delivered, start);
        let closing = ledger.close(true);
        assert_eq!((closing.unknown_accepted, closing.violations_count), (1, 0));
    }

    #[test]
    fn contradictions_are_found() {
        let start = Instant::now();
        let mut ledger = Ledger::new(start);
        ledger.acked(1, sent(0, start), start);
        ledger.acked(1, sent(1, start), start);
        ledger.reported(1, Some(5), ReceiptState::Delivered, start);
        ledger.reported(1, Some(5), ReceiptState::Expired, start);
        ledger.reported(2, Some(77), ReceiptState::Delivered, start);
        ledger.acked(3, sent(2, start), start);
        let closing = ledger.close(true);
        let expected = [
            "acknowledged twice",
            "its receipt is about message 5",
            "two final states",
            "a receipt came for id 2",
            "have no receipt, ids [3]",
        ];
        assert_eq!(closing.violations_count, expected.len() as u64);
        for (found, expected) in closing.violations.iter().zip(expected) {
            assert!(found.contains(expected), "{found}: {expected}");
        }
        assert_eq!(ledger.receipts_repeated, 1);
    }
}
