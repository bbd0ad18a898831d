//! The figures of a run, for people and for scripts.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use smsc_proto::status::CommandStatus;

use crate::load::ledger::{Closing, Latencies, Ledger};
use crate::load::options::LoadOptions;

/// Above this part of one core the generator may be what limits the rate.
const CPU_SHARE_LIMIT: f64 = 0.9;

/// Whether a generator that used so much CPU time in so long may be what limits the rate: it has one thread.
pub(super) fn is_limit(cpu: Duration, elapsed: Duration) -> bool {
    cpu.as_secs_f64() > CPU_SHARE_LIMIT * elapsed.as_secs_f64()
}

/// Milliseconds from when a message was due.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The shortest.
    pub min_ms: f64,
    /// Half are no longer.
    pub p50_ms: f64,
    /// 99 of 100 are no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Spread {
    pub(super) fn of(latencies: &Latencies) -> Option<Spread> {
        let ms = |micros: u64| micros as f64 / 1000.0;
        (!latencies.is_empty()).then(|| Spread {
            min_ms: ms(latencies.min()),
            p50_ms: ms(latencies.value_at_quantile(0.5)),
            p99_ms: ms(latencies.value_at_quantile(0.99)),
            max_ms: ms(latencies.max()),
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "min {:.2} ms, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            self.min_ms, self.p50_ms, self.p99_ms, self.max_ms
        )
    }
}

/// What a run did and found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Nothing contradicts the contract.
    pub passed: bool,
    /// Submissions sent.
    pub sent: u64,
    /// Positive answers.
    pub acked: u64,
    /// Negative answers, by name of the status.
    pub refused: BTreeMap<String, u64>,
    /// Submissions whose connection ended before their answer.
    pub unknown: u64,
    /// Of these, how many a receipt tells were accepted.
    pub unknown_accepted: u64,
    /// Receipts with a final state, repeated ones included.
    pub receipts: u64,
    /// Acknowledged messages without a receipt, when receipts were asked for.
    pub receipts_missing: u64,
    /// Receipts for a message that had one already: allowed after a failover.
    pub receipts_repeated: u64,
    /// Receipts for messages of earlier runs.
    pub receipts_foreign: u64,
    /// Receipts that report no final state.
    pub notifications: u64,
    /// Deliveries that are no receipts.
    pub messages_received: u64,
    /// Receipts by final state.
    pub states: BTreeMap<String, u64>,
    /// Connections bound.
    pub binds: u64,
    /// Bound connections lost.
    pub disconnects: u64,
    /// Attempts to connect or bind that failed.
    pub connects_failed: u64,
    /// Acknowledgements per second, from the first submission to the last acknowledgement.
    pub rate_per_s: f64,
    /// Receipts of this run per second, from the first submission to the end.
    pub receipts_per_s: f64,
    /// From the start to the end, settling included.
    pub elapsed_s: f64,
    /// From due to acknowledged.
    pub ack_latency: Option<Spread>,
    /// From due to the first receipt.
    pub receipt_latency: Option<Spread>,
    /// The longest time without any acknowledgement.
    pub longest_gap_ms: f64,
    /// When it began, since the start.
    pub longest_gap_at_s: f64,
    /// CPU time of the generator.
    pub cpu_s: f64,
    /// The generator used nearly all of one core: the cluster may be faster than this.
    pub generator_is_limit: bool,
    /// How often something contradicted the contract.
    pub violations_count: u64,
    /// The first ones.
    pub violations: Vec<String>,
}

impl Report {
    /// Sums up `ledger`. `elapsed` and `cpu` cover the run without closing.
    pub fn new(options: &LoadOptions, ledger: &Ledger, closing: Closing, elapsed: Duration, cpu: Duration) -> Self {
        let refused: BTreeMap<String, u64> =
            ledger.refused.iter().map(|(status, count)| (CommandStatus(*status).to_string(), *count)).collect();
        let mut violations = closing.violations;
        let mut violations_count = closing.violations_count;
        if options.strict {
            let refusals: u64 = refused.values().sum();
            let strict = [
                (refusals, "submissions were refused"),
                (ledger.unknown, "submissions have an unknown outcome"),
                (ledger.receipts_repeated, "receipts came again"),
            ];
            for (count, what) in strict.into_iter().filter(|(count, _)| *count > 0) {
                violations_count += 1;
                violations.push(format!("{count} {what}, which --strict does not allow"));
            }
        }
        if ledger.acked == 0 {
            violations_count += 1;
            violations.push("nothing was acknowledged".into());
        }
        let sending = match (ledger.first_sent, ledger.last_ack) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        };
        let per_second = |count: u64, time: Duration| {
            if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
        };
        let (gap, gap_since) = ledger.longest_gap;
        Report {
            passed: violations_count == 0,
            sent: ledger.sent,
            acked: ledger.acked,
            refused,
            unknown: ledger.unknown,
            unknown_accepted: closing.unknown_accepted,
            receipts: ledger.receipts,
            receipts_missing: closing.missing,
            receipts_repeated: ledger.receipts_repeated,
            receipts_foreign: ledger.receipts_foreign,
            notifications: ledger.notifications,
            messages_received: ledger.messages_received,
            states: ledger.states.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect(),
            binds: ledger.binds,
            disconnects: ledger.disconnects,
            connects_failed: ledger.connects_failed,
            rate_per_s: per_second(ledger.acked, sending),
            receipts_per_s: per_second(ledger.receipts, elapsed),
            elapsed_s: elapsed.as_secs_f64(),
            ack_latency: Spread::of(&ledger.ack_latency),
            receipt_latency: Spread::of(&ledger.receipt_latency),
            longest_gap_ms: gap.as_secs_f64() * 1000.0,
            longest_gap_at_s: gap_since
                .map_or(0.0, |since| since.saturating_duration_since(ledger.start()).as_secs_f64()),
            cpu_s: cpu.as_secs_f64(),
            generator_is_limit: is_limit(cpu, elapsed),
            violations_count,
            violations,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |map: &BTreeMap<String, u64>| {
            let entries: Vec<String> = map.iter().map(|(name, count)| format!("{name} {count}")).collect();
            if entries.is_empty() { "none".to_owned() } else { entries.join(", ") }
        };
        writeln!(f, "sent             {}", self.sent)?;
        writeln!(f, "acknowledged     {} ({:.0} per second)", self.acked, self.rate_per_s)?;
        writeln!(f, "refused          {}", shown(&self.refused))?;
        writeln!(
            f,
            "unknown          {} ({} of them accepted, as their receipts tell)",
            self.unknown, self.unknown_accepted
        )?;
        writeln!(
            f,
            "receipts         {} ({:.0} per second): {}",
            self.receipts,
            self.receipts_per_s,
            shown(&self.states)
        )?;
        writeln!(
            f,
            "                 {} missing, {} came again, {} of other runs, {} not final",
            self.receipts_missing, self.receipts_repeated, self.receipts_foreign, self.notifications
        )?;
        writeln!(f, "messages         {} received", self.messages_received)?;
        writeln!(
            f,
            "connections      {} bound, {} lost, {} attempts failed",
            self.binds, self.disconnects, self.connects_failed
        )?;
        if let Some(latency) = &self.ack_latency {
            writeln!(f, "submit to answer {latency}")?;
        }
        if let Some(latency) = &self.receipt_latency {
            writeln!(f, "submit to receipt {latency}")?;
        }
        writeln!(
            f,
            "longest gap      {:.1} ms without an acknowledgement, {:.1} s after the start",
            self.longest_gap_ms, self.longest_gap_at_s
        )?;
        writeln!(
            f,
            "generator        {:.2} s of CPU in {:.2} s{}",
            self.cpu_s,
            self.elapsed_s,
            if self.generator_is_limit { ": it may be the limit itself" } else { "" }
        )?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION        {violation}")?;
        }
        let hidden = self.violations_count - self.violations.len() as u64;
        if hidden > 0 {
            writeln!(f, "VIOLATION        and {hidden} more")?;
        }
        write!(f, "{}", if self.passed { "passed" } else { "FAILED" })
    }
}
