//! How the links stand, for operators and metrics: each link writes its row, anyone reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::core::Counts;
use crate::clock::{Clock as _, SystemClock};

/// How one bind stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindStatus {
    /// transmitter, receiver or transceiver.
    pub mode: &'static str,
    /// connecting, bound, or waiting for the next try.
    pub state: &'static str,
    /// Where to.
    pub address: String,
    /// Why it is not bound; empty if nothing went wrong.
    pub error: String,
    /// Since when it stands so, UTC milliseconds.
    pub since_ms: u64,
}

impl BindStatus {
    pub(super) fn connecting(&mut self, address: String) {
        self.address = address;
        self.set("connecting");
    }

    fn set(&mut self, state: &'static str) {
        self.state = state;
        self.since_ms = SystemClock.wall().as_millis();
    }

    pub(super) fn bound(&mut self) {
        self.error.clear();
        self.set("bound");
    }

    pub(super) fn fail(&mut self, reason: String) {
        self.error = reason;
        self.set("waiting");
    }
}

/// How one link stands.
#[derive(Clone, Debug, Default)]
pub struct LinkBoardRow {
    /// Its name.
    pub name: String,
    /// Its binds.
    pub binds: Vec<BindStatus>,
    /// submit_sm that wait for their answer.
    pub in_flight: usize,
    /// Until when it is held back, UTC milliseconds; 0 if it is not.
    pub throttled_until_ms: u64,
    /// submit_sm per second that it is held to; `None` for no limit.
    pub rate_per_s: Option<f64>,
    /// What went over it since it was started.
    pub counts: Counts,
    /// Receipts that came.
    pub receipts: u64,
    /// Of these, those of no message of ours.
    pub receipts_unmatched: u64,
    /// Receipts that wait until their message is known.
    pub receipts_held: usize,
    /// Messages from phones.
    pub mo: u64,
}

impl LinkBoardRow {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Binds that are bound.
    pub fn bound(&self) -> usize {
        self.binds.iter().filter(|bind| bind.state == "bound").count()
    }
}

/// The links of this node; empty while it does not lead.
#[derive(Debug, Default)]
pub struct Board {
    rows: Mutex<BTreeMap<String, LinkBoardRow>>,
}

impl Board {
    pub(super) fn put(&self, row: LinkBoardRow) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(row.name.clone(), row);
    }

    pub(super) fn remove(&self, name: &str) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// All rows, by name.
    pub fn rows(&self) -> Vec<LinkBoardRow> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The metrics of all links, in Prometheus' text format.
    pub fn render(&self, out: &mut String) {
        let rows = self.rows();
        type Value = fn(&LinkBoardRow) -> u64;
        let metrics: [(&str, &str, &str, Value); 11] = [
            ("smsc_link_binds", "gauge", "Binds of a link that are bound.", |row| row.bound() as u64),
            ("smsc_link_binds_wanted", "gauge", "Binds that a link should have.", |row| row.binds.len() as u64),
            ("smsc_link_in_flight", "gauge", "submit_sm that wait for their answer.", |row| row.in_flight as u64),
            ("smsc_link_submitted_total", "counter", "submit_sm sent.", |row| row.counts.submitted),
            ("smsc_link_accepted_total", "counter", "submit_sm accepted.", |row| row.counts.accepted),
            ("smsc_link_refused_total", "counter", "submit_sm refused.", |row| row.counts.refused),
            ("smsc_link_throttled_total", "counter", "submit_sm refused by throttling.", |row| row.counts.throttled),
            ("smsc_link_unanswered_total", "counter", "submit_sm without an answer.", |row| row.counts.lost),
            ("smsc_link_receipts_total", "counter", "Receipts that came.", |row| row.receipts),
            ("smsc_link_receipts_unmatched_total", "counter", "Receipts for no message of ours.", |row| {
                row.receipts_unmatched
            }),
            ("smsc_link_mo_total", "counter", "Messages from phones.", |row| row.mo),
        ];
        for (name, kind, help, value) in metrics {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for row in &rows {
                let _ = writeln!(out, "{name}{{link=\"{}\"}} {}", row.name, value(row));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_name_their_link() {
        let board = Board::default();
        let bind = BindStatus { state: "bound", ..Default::default() };
        board.put(LinkBoardRow { binds: vec![bind, BindStatus::default()], mo: 7, ..LinkBoardRow::new("one") });
        let mut text = String::new();
        board.render(&mut text);
        assert!(text.contains("# TYPE smsc_link_binds gauge\nsmsc_link_binds{link=\"one\"} 1\n"));
        assert!(text.contains("smsc_link_binds_wanted{link=\"one\"} 2\n"));
        assert!(text.contains("smsc_link_mo_total{link=\"one\"} 7\n"));
        board.remove("one");
        assert!(board.rows().is_empty());
    }
}
