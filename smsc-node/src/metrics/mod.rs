//! What the node counts: every metric's name, unit, labels and help in this one file.
//!
//! Plain atomics that any thread may touch; [`Metrics::render`] writes them in Prometheus' text format. Names begin
//! with `smsc_`, units are base units (seconds, bytes) and stand last, `_total` only ever grows.

mod firsts;
mod kinds;
mod process;

use std::fmt::Write as _;

pub use firsts::Firsts;
pub use kinds::{Counter, Counters, Gauge, Gauges, Histogram, Label};

use kinds::{Writer, labels};

use crate::link::board::Board;

labels! {
    /// What became of a connection at the SMPP port.
    pub enum ConnectionResult("result") { Accepted => "accepted", Refused => "refused" }
}
labels! {
    /// Kind of bind (SMPP v3.4 section 2.2.1).
    pub enum BindKind("bind") { Transmitter => "transmitter", Receiver => "receiver", Transceiver => "transceiver" }
}
labels! {
    /// What became of a bind request.
    pub enum BindResult("result") { Accepted => "accepted", Credentials => "credentials", Limit => "limit", Other => "other" }
}
labels! {
    /// Way of a PDU as seen from the node.
    pub enum Direction("direction") { In => "in", Out => "out" }
}
labels! {
    /// What became of a submission. `Unknown` lost its leader while in flight.
    pub enum SubmitResult("result") {
        Accepted => "accepted",
        Malformed => "malformed",
        Destination => "destination",
        Throttled => "throttled",
        QueueFull => "queue_full",
        Unknown => "unknown",
        Other => "other",
    }
}
labels! {
    /// Where a message was offered.
    pub enum LinkKind("link") { Esme => "esme", Handset => "handset", Smpp => "smpp" }
}
labels! {
    /// What became of one delivery attempt. `Lost` means that the session ended before it answered.
    pub enum AttemptResult("result") { Delivered => "delivered", Temporary => "temporary", Permanent => "permanent", Lost => "lost" }
}
labels! {
    /// Final state of a message (SMPP v3.4 section 5.2.28).
    pub enum FinalState("state") {
        Delivered => "delivered",
        Expired => "expired",
        Deleted => "deleted",
        Undeliverable => "undeliverable",
        Accepted => "accepted",
        Rejected => "rejected",
    }
}
labels! {
    /// How a leader came to hold the floating address.
    pub enum TakeoverKind("kind") { Start => "start", Handover => "handover", Failure => "failure" }
}

/// Everything the node counts. Shared as one `Arc`.
#[derive(Debug, Default)]
pub struct Metrics {
    /// What came first after the last takeover. Not a metric: the report of a takeover tells it.
    pub firsts: Firsts,
    /// Connections at the SMPP port, by what became of them.
    pub smpp_connections: Counters<ConnectionResult, 2>,
    /// Connections open at the SMPP port, bound or not.
    pub smpp_connections_open: Gauge,
    /// Bound sessions.
    pub smpp_sessions: Gauges<BindKind, 3>,
    /// Bind requests answered.
    pub smpp_binds: Counters<BindResult, 4>,
    /// PDUs read and written.
    pub smpp_pdus: Counters<Direction, 2>,
    /// Bytes read and written at the SMPP port.
    pub smpp_bytes: Counters<Direction, 2>,
    /// submit_sm, submit_multi and data_sm answered.
    pub submits: Counters<SubmitResult, 7>,
    /// From the last byte of a submission read to its response handed to the socket.
    pub submit_latency: Histogram,
    /// Delivery attempts that have ended, to ESMEs.
    pub attempts_esme: Counters<AttemptResult, 4>,
    /// Delivery attempts that have ended, to simulated handsets.
    pub attempts_handset: Counters<AttemptResult, 4>,
    /// Delivery attempts that have ended, to other message centres.
    pub attempts_smpp: Counters<AttemptResult, 4>,
    /// Messages that reached a final state on this leader.
    pub finals: Counters<FinalState, 6>,
    /// Messages stored and not final.
    pub messages_waiting: Gauge,
    /// Delivery receipts made.
    pub receipts: Counter,
    /// Term of the consensus.
    pub raft_term: Gauge,
    /// 1 while this node leads and holds its lease.
    pub raft_leading: Gauge,
    /// Index of the last entry in the log.
    pub raft_last_log_index: Gauge,
    /// Index of the last entry applied.
    pub raft_applied_index: Gauge,
    /// Times that this node saw another leader come up.
    pub raft_leader_changes: Counter,
    /// Commands proposed by this node.
    pub raft_commands: Counter,
    /// From a batch proposed to its outcome.
    pub raft_commit_latency: Histogram,
    /// One flush of the log to disk.
    pub log_flush_latency: Histogram,
    /// Checkpoints written.
    pub store_checkpoints: Counter,
    /// How long the last checkpoint took. Microseconds, rendered as seconds.
    pub store_checkpoint_last_us: Gauge,
    /// Changes held in memory until the next checkpoint.
    pub store_overlay_bytes: Gauge,
    /// Keys and values in the message store.
    pub store_live_bytes: Gauge,
    /// What the message store's file takes on the disk.
    pub store_file_bytes: Gauge,
    /// Room left on the file system of the data directory.
    pub disk_free_bytes: Gauge,
    /// 1 while this node holds the floating addresses.
    pub address_held: Gauge,
    /// 1 while the kernel does not itself keep to the lease of the floating addresses, though there are packets to filter.
    pub address_data_path_lease_missing: Gauge,
    /// Packets from or to the floating addresses that the kernel dropped because no lease covered them.
    pub address_packets_dropped: Gauge,
    /// 1 while another host is heard to use a floating address that this node holds.
    pub address_conflict: Gauge,
    /// Times that this node claimed the floating addresses.
    pub takeovers: Counters<TakeoverKind, 3>,
    /// From leadership to the address announced, last time. Microseconds, rendered as seconds.
    pub takeover_last_us: Gauge,
    /// Links to other message centres.
    pub links: Board,
    /// The process' phase, a number of [`crate::shutdown::NodePhase::ALL`].
    pub phase: Gauge,
}

impl Metrics {
    /// Counts a bind that is accepted.
    pub fn bind_accepted(&self) {
        self.smpp_binds.inc(BindResult::Accepted);
        self.firsts.bound();
    }

    /// Counts a submission that is acknowledged.
    pub fn submit_accepted(&self) {
        self.submits.inc(SubmitResult::Accepted);
        self.firsts.acknowledged();
    }

    /// Attempts of one kind of link.
    #[must_use]
    pub fn attempts(&self, link: LinkKind) -> &Counters<AttemptResult, 4> {
        match link {
            LinkKind::Esme => &self.attempts_esme,
            LinkKind::Handset => &self.attempts_handset,
            LinkKind::Smpp => &self.attempts_smpp,
        }
    }

    /// All metrics in Prometheus' text format 0.0.4, those of the process included.
    #[must_use]
    pub fn render(&self) -> String {
        let mut w = Writer::default();
        w.head("smsc_build_info", "gauge", "Always 1; the label holds the version.");
        let _ = writeln!(w.text, "smsc_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));

        w.counters("smsc_smpp_connections_total", "Connections at the SMPP port.", &self.smpp_connections);
        w.gauge("smsc_smpp_connections_open", "Connections open at the SMPP port.", &self.smpp_connections_open);
        w.gauges("smsc_smpp_sessions", "Bound sessions.", &self.smpp_sessions);
        w.counters("smsc_smpp_binds_total", "Bind requests answered.", &self.smpp_binds);
        w.counters("smsc_smpp_pdus_total", "PDUs read and written.", &self.smpp_pdus);
        w.counters("smsc_smpp_bytes_total", "Bytes read and written at the SMPP port.", &self.smpp_bytes);
        w.counters("smsc_submits_total", "Submissions answered.", &self.submits);
        w.histogram("smsc_submit_latency_seconds", "From a submission read to its response.", &self.submit_latency);
        w.head("smsc_delivery_attempts_total", "counter", "Delivery attempts that have ended.");
        for link in LinkKind::ALL {
            w.counter_rows("smsc_delivery_attempts_total", Some((LinkKind::NAME, link.value())), self.attempts(*link));
        }
        w.counters("smsc_messages_final_total", "Messages that reached a final state.", &self.finals);
        w.gauge("smsc_messages_waiting", "Messages stored and not final.", &self.messages_waiting);
        w.counter("smsc_receipts_total", "Delivery receipts made.", &self.receipts);

        w.gauge("smsc_raft_term", "Term of the consensus.", &self.raft_term);
        w.gauge("smsc_raft_leading", "1 while this node leads and holds its lease.", &self.raft_leading);
        w.gauge("smsc_raft_last_log_index", "Last entry in the log.", &self.raft_last_log_index);
        w.gauge("smsc_raft_applied_index", "Last entry applied.", &self.raft_applied_index);
        w.counter("smsc_raft_leader_changes_total", "New leaders seen.", &self.raft_leader_changes);
        w.counter("smsc_raft_commands_total", "Commands proposed by this node.", &self.raft_commands);
        w.histogram(
            "smsc_raft_commit_latency_seconds",
            "From a batch proposed to its outcome.",
            &self.raft_commit_latency,
        );
        w.histogram("smsc_log_flush_seconds", "One flush of the log to disk.", &self.log_flush_latency);

        w.counter("smsc_store_checkpoints_total", "Checkpoints written.", &self.store_checkpoints);
        w.micros(
            "smsc_store_checkpoint_last_seconds",
            "Duration of the last checkpoint.",
            &self.store_checkpoint_last_us,
        );
        w.gauge(
            "smsc_store_overlay_bytes",
            "Changes held in memory until the next checkpoint.",
            &self.store_overlay_bytes,
        );
        w.gauge("smsc_store_live_bytes", "Keys and values in the message store.", &self.store_live_bytes);
        w.gauge("smsc_store_file_bytes", "Disk that the message store's file takes.", &self.store_file_bytes);
        w.gauge("smsc_disk_free_bytes", "Room left where the data directory lies.", &self.disk_free_bytes);

        w.gauge("smsc_address_held", "1 while this node holds the floating addresses.", &self.address_held);
        w.gauge(
            "smsc_address_data_path_lease_missing",
            "1 while the kernel does not itself keep to the lease of the floating addresses.",
            &self.address_data_path_lease_missing,
        );
        w.gauge(
            "smsc_address_packets_dropped",
            "Packets from or to the floating addresses dropped because no lease covered them, since the start.",
            &self.address_packets_dropped,
        );
        w.gauge(
            "smsc_address_conflict",
            "1 while another host is heard to use a floating address that this node holds.",
            &self.address_conflict,
        );
        w.counters("smsc_takeovers_total", "Times this node claimed the floating addresses.", &self.takeovers);
        w.micros(
            "smsc_takeover_last_seconds",
            "From leadership to the address announced, last time.",
            &self.takeover_last_us,
        );
        w.gauge("smsc_phase", "0 starting, 1 running, 2 draining, 3 stopped.", &self.phase);
        self.links.render(&mut w.text);
        process::render(&mut w);
        w.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[test]
    fn every_line_is_of_the_text_format_and_every_name_stands_once() {
        let metrics = Metrics::default();
        metrics.submits.inc(SubmitResult::Accepted);
        metrics.attempts(LinkKind::Handset).inc(AttemptResult::Temporary);
        let text = metrics.render();
        let mut typed = BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(typed.insert(name.to_owned()), "{name} stands twice");
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<f64>().is_ok(), "{line}");
                let bare = name.split('{').next().unwrap();
                let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| bare.strip_suffix(end)).unwrap_or(bare);
                assert!(typed.contains(bare) || typed.contains(base), "{line}");
            }
        }
        assert!(text.contains("\nsmsc_submits_total{result=\"accepted\"} 1\n"));
        assert!(text.contains("\nsmsc_delivery_attempts_total{link=\"handset\",result=\"temporary\"} 1\n"));
        assert!(text.contains("\nprocess_resident_memory_bytes "));
    }

    #[test]
    fn buckets_are_cumulative() {
        let metrics = Metrics::default();
        for ms in [1, 1, 3, 40, 100_000] {
            metrics.submit_latency.observe(Duration::from_millis(ms));
        }
        let text = metrics.render();
        for line in [
            "smsc_submit_latency_seconds_bucket{le=\"0.0005\"} 0",
            "smsc_submit_latency_seconds_bucket{le=\"0.001\"} 2",
            "smsc_submit_latency_seconds_bucket{le=\"0.005\"} 3",
            "smsc_submit_latency_seconds_bucket{le=\"0.05\"} 4",
            "smsc_submit_latency_seconds_bucket{le=\"+Inf\"} 5",
            "smsc_submit_latency_seconds_count 5",
            "smsc_submit_latency_seconds_sum 100.045",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }

    #[test]
    fn phase_numbers_are_those_of_the_help_text() {
        let words: Vec<_> = crate::shutdown::NodePhase::ALL.iter().map(|phase| phase.as_str()).collect();
        assert_eq!(words, ["starting", "running", "draining", "stopped"]);
    }
}
