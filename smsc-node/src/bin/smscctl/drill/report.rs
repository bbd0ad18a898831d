//! A drill's report, as it is printed and kept.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use smsc_proto::rpc::admin::{LastTakeoverResponse, StatusResponse};
use smsc_proto::time::WallTime;

use super::measure::Measured;
use super::owners::OwnersSeen;
use crate::exit::Failure;
use crate::output::{dash, table};

/// How the new leader came to lead, by its own account and clock.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Takeover {
    pub(super) noticed_by: String,
    pub(super) noticed_at: Option<String>,
    pub(super) voting_at: Option<String>,
    pub(super) elected_at: Option<String>,
    pub(super) leading_at: Option<String>,
    pub(super) announced_at: Option<String>,
    pub(super) serving_at: Option<String>,
    pub(super) first_bind_at: Option<String>,
    pub(super) first_ack_at: Option<String>,
}

/// See `JSON_HELP` of the commands. Kept for years: fields are added, never changed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Report {
    pub(super) id: Option<u64>,
    pub(super) kind: String,
    pub(super) started_at: String,
    pub(super) target: String,
    pub(super) system_id: String,
    pub(super) recovered: bool,
    pub(super) old_leader: u64,
    pub(super) old_term: u64,
    pub(super) new_leader: Option<u64>,
    pub(super) new_term: Option<u64>,
    pub(super) trigger_at: String,
    pub(super) last_ack_at: Option<String>,
    pub(super) noticed_at: Option<String>,
    pub(super) bound_at: Option<String>,
    pub(super) first_ack_at: Option<String>,
    pub(super) outage_ms: Option<u64>,
    pub(super) cause: Option<String>,
    pub(super) connects: u32,
    pub(super) acked_before: u64,
    pub(super) acked_after: u64,
    pub(super) unknown: u64,
    pub(super) refused: u64,
    pub(super) handover_ms: Option<u32>,
    pub(super) receipts_recovered: Option<u64>,
    pub(super) receipts_missing: Option<u64>,
    pub(super) lost: Option<u64>,
    pub(super) owners: OwnersSeen,
    pub(super) takeover: Option<Takeover>,
    #[serde(skip)]
    pub(super) triggered: Option<SystemTime>,
    #[serde(skip)]
    pub(super) started_at_ms: u64,
    /// What happened when, for people: milliseconds from the trigger.
    #[serde(skip)]
    pub(super) timeline: Vec<(f64, String)>,
}

impl Report {
    pub(super) fn new(
        kind: &str,
        target: SocketAddr,
        system_id: &str,
        before: &StatusResponse,
        measured: &Measured,
    ) -> Self {
        let trigger = measured.trigger_at;
        let mut report = Self {
            kind: kind.to_owned(),
            started_at: shown(trigger),
            started_at_ms: wall(trigger).as_millis(),
            target: target.to_string(),
            system_id: system_id.to_owned(),
            recovered: measured.recovered,
            old_leader: before.leader_id,
            old_term: before.term,
            trigger_at: shown(trigger),
            acked_before: measured.acked_before,
            acked_after: measured.acked_after,
            unknown: measured.summary.unknown,
            refused: measured.summary.refused,
            handover_ms: measured.handover_ms,
            receipts_recovered: measured.receipts_recovered,
            receipts_missing: measured.receipts_recovered.map(|_| measured.without_receipt.len() as u64),
            owners: measured.owners.clone(),
            triggered: Some(trigger),
            timeline: vec![(0.0, format!("{kind} of node {}", before.leader_id))],
            ..Self::default()
        };
        if let Some(outage) = &measured.outage {
            let noticed = outage.last_ack_at + outage.noticed_after;
            let bound = outage.last_ack_at + outage.bound_after;
            let first_ack = outage.last_ack_at + outage.duration;
            report.last_ack_at = Some(shown(outage.last_ack_at));
            report.noticed_at = Some(shown(noticed));
            report.bound_at = Some(shown(bound));
            report.first_ack_at = Some(shown(first_ack));
            report.outage_ms = Some(u64::try_from(outage.duration.as_millis()).unwrap_or(u64::MAX));
            report.cause = Some(outage.cause.clone());
            report.connects = outage.connects;
            report.timeline.extend([
                (after(trigger, outage.last_ack_at), "ESME: last acknowledgement before".to_owned()),
                (after(trigger, noticed), format!("ESME: connection lost: {}", outage.cause)),
                (after(trigger, bound), format!("ESME: bound again, at connection attempt {}", outage.connects)),
                (after(trigger, first_ack), "ESME: first acknowledgement after".to_owned()),
            ]);
        }
        report
    }

    /// Notes who leads now.
    pub(super) fn lead_by(&mut self, leader: u64, term: u64) {
        self.new_leader = (leader != 0).then_some(leader);
        self.new_term = Some(term);
    }

    /// Notes how the new leader came to lead; nothing if it has led since before the drill.
    pub(super) fn taken_over(&mut self, told: &LastTakeoverResponse) {
        let Some(trigger) = self.triggered.filter(|_| told.term > self.old_term) else { return };
        let at = |us: u64| (us != 0).then(|| UNIX_EPOCH + Duration::from_micros(us));
        let steps = [
            (told.noticed_at_us, format!("noticed: {}", told.noticed_by)),
            (told.voting_at_us, "vote under way".to_owned()),
            (told.elected_at_us, format!("elected in term {}", told.term)),
            (told.leading_at_us, "lease runs, everything acknowledged is applied".to_owned()),
            (told.announced_at_us, "address claimed and announced".to_owned()),
            (told.serving_at_us, "SMPP served".to_owned()),
            (told.first_bind_at_us, "first ESME bound".to_owned()),
            (told.first_ack_at_us, "first submission acknowledged".to_owned()),
        ];
        for (us, what) in steps {
            self.timeline.extend(at(us).map(|at| (after(trigger, at), format!("node {}: {what}", told.node_id))));
        }
        let shown = |us| at(us).map(shown);
        self.takeover = Some(Takeover {
            noticed_by: told.noticed_by.clone(),
            noticed_at: shown(told.noticed_at_us),
            voting_at: shown(told.voting_at_us),
            elected_at: shown(told.elected_at_us),
            leading_at: shown(told.leading_at_us),
            announced_at: shown(told.announced_at_us),
            serving_at: shown(told.serving_at_us),
            first_bind_at: shown(told.first_bind_at_us),
            first_ack_at: shown(told.first_ack_at_us),
        });
    }

    /// Whether the drill went well.
    pub(super) fn verdict(&self, limit_s: u64) -> Result<(), Failure> {
        let failed = if !self.recovered {
            format!("the service was not back within {limit_s} s: see smscctl status")
        } else if self.lost.is_some_and(|lost| lost > 0) {
            "acknowledged messages are unknown to the cluster: keep the logs and data of all nodes".to_owned()
        } else if self.owners.two_at_once > 0 {
            "two nodes held the floating address at once: keep the logs of all nodes".to_owned()
        } else {
            return Ok(());
        };
        Err(Failure::refused(failed))
    }

    pub(super) fn human(&self) -> String {
        let mut text = String::from("\n");
        let mut timeline = self.timeline.clone();
        timeline.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (at_ms, what) in &timeline {
            text.push_str(&format!("{at_ms:>+10.1} ms  {what}\n"));
        }
        let outage = match (self.recovered, self.outage_ms) {
            (true, Some(ms)) => format!("{ms} ms from acknowledgement to acknowledgement"),
            (true, None) => "none that the ESME noticed".to_owned(),
            (false, _) => "not over when the drill ended".to_owned(),
        };
        let leader = |id: u64, term: u64| format!("node {id} in term {term}");
        let new = match (self.new_leader, self.new_term) {
            (Some(id), Some(term)) => leader(id, term),
            _ => "not known".to_owned(),
        };
        text.push_str(&format!("\noutage           {outage}\n"));
        text.push_str(&format!("leader           {} before, {new} after\n", leader(self.old_leader, self.old_term)));
        text.push_str(&format!("acknowledged     {} before, {} after\n", self.acked_before, self.acked_after));
        text.push_str(&format!(
            "without answer   {} (unknown to the ESME, which would send them again)\n",
            self.unknown
        ));
        if self.refused > 0 {
            text.push_str(&format!("refused          {}\n", self.refused));
        }
        if let Some(ms) = self.handover_ms {
            text.push_str(&format!("handover         {ms} ms by the leader's count\n"));
        }
        if let (Some(recovered), Some(missing)) = (self.receipts_recovered, self.receipts_missing) {
            text.push_str(&format!(
                "receipts         {recovered} of messages from before came after, {missing} missing\n"
            ));
        }
        match self.lost {
            Some(lost) => text.push_str(&format!("lost             {lost} of what was acknowledged\n")),
            None => text.push_str("lost             not found out\n"),
        }
        text.push_str(&format!("address held by  {}\n", self.owners.human()));
        if let Some(id) = self.id {
            text.push_str(&format!("kept as          drill {id}, see smscctl drill history\n"));
        }
        text
    }
}

/// The table of all drills.
pub(super) fn history(reports: &[Report]) -> String {
    let row = |report: &Report| {
        let outage = match (report.recovered, report.outage_ms) {
            (true, Some(ms)) => ms.to_string(),
            (true, None) => "none".to_owned(),
            (false, _) => "not over".to_owned(),
        };
        [
            dash(&report.id.map(|id| id.to_string()).unwrap_or_default()),
            report.started_at.clone(),
            report.kind.clone(),
            report.old_leader.to_string(),
            dash(&report.new_leader.map(|id| id.to_string()).unwrap_or_default()),
            outage,
            report.unknown.to_string(),
            dash(&report.lost.map(|lost| lost.to_string()).unwrap_or_default()),
        ]
    };
    let rows: Vec<_> = reports.iter().map(row).collect();
    table(["ID", "STARTED", "KIND", "FROM", "TO", "OUTAGE MS", "UNKNOWN", "LOST"], &rows, "no drills yet")
}

fn wall(at: SystemTime) -> WallTime {
    WallTime::EPOCH + at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn shown(at: SystemTime) -> String {
    wall(at).to_string()
}

/// Milliseconds from `from` to `at`, negative when it lies before.
fn after(from: SystemTime, at: SystemTime) -> f64 {
    let ms = |span: Duration| span.as_secs_f64() * 1000.0;
    at.duration_since(from).map_or_else(|earlier| -ms(earlier.duration()), ms)
}

#[cfg(test)]
mod tests {
    use smsc_node::probe::{Outage, ProbeSummary};

    use super::*;

    fn report() -> Report {
        let trigger_at = UNIX_EPOCH + Duration::from_millis(1_000_000);
        let outage = Outage {
            last_ack_at: trigger_at - Duration::from_millis(2),
            duration: Duration::from_millis(182),
            noticed_after: Duration::from_millis(3),
            bound_after: Duration::from_millis(180),
            cause: "closed by the SMS centre".to_owned(),
            connects: 9,
        };
        let measured = Measured {
            trigger_at,
            outage: Some(outage),
            recovered: true,
            acked_before: 100,
            acked_after: 50,
            summary: ProbeSummary { unknown: 1, ..Default::default() },
            handover_ms: None,
            receipts_recovered: Some(4),
            without_receipt: Vec::new(),
            owners: OwnersSeen { in_turn: vec![1, 2], looks: 40, two_at_once: 0 },
        };
        let before = StatusResponse { leader_id: 1, term: 4, ..Default::default() };
        let mut report = Report::new("kill", SocketAddr::from(([127, 0, 0, 100], 2775)), "esme1", &before, &measured);
        report.lead_by(2, 5);
        let at = |ms: u64| 1_000_000_000 + ms * 1000;
        report.taken_over(&LastTakeoverResponse {
            node_id: 2,
            term: 5,
            noticed_by: "its silence".to_owned(),
            noticed_at_us: at(20),
            elected_at_us: at(25),
            ..Default::default()
        });
        report.lost = Some(0);
        report
    }

    #[test]
    fn people_read_a_timeline() {
        assert_eq!(
            report().human(),
            "
      -2.0 ms  ESME: last acknowledgement before
      +0.0 ms  kill of node 1
      +1.0 ms  ESME: connection lost: closed by the SMS centre
     +20.0 ms  node 2: noticed: its silence
     +25.0 ms  node 2: elected in term 5
    +178.0 ms  ESME: bound again, at connection attempt 9
    +180.0 ms  ESME: first acknowledgement after

outage           182 ms from acknowledgement to acknowledgement
leader           node 1 in term 4 before, node 2 in term 5 after
acknowledged     100 before, 50 after
without answer   1 (unknown to the ESME, which would send them again)
receipts         4 of messages from before came after, 0 missing
lost             0 of what was acknowledged
address held by  node 1, then 2; never two at once in 40 looks
"
        );
    }

    #[test]
    fn a_kept_report_is_read_again() {
        let kept = serde_json::to_string(&report()).expect("serializable");
        let read: Report = serde_json::from_str(&kept).expect("readable");
        assert_eq!((read.outage_ms, read.new_leader, read.unknown), (Some(182), Some(2), 1));
        let older: Report = serde_json::from_str(r#"{"kind":"kill","recovered":true,"unknown":2}"#).expect("readable");
        assert_eq!((older.unknown, older.lost, older.takeover), (2, None, None));
        let text = history(&[Report { id: Some(3), ..read }]);
        assert!(text.ends_with("\n3   1970-01-01T00:16:40.000Z  kill  1     2   182        1        0\n"), "{text}");
    }
}
