//! Journals against the cluster: every acknowledged id was given out once, is known, is final in one state, and had at
//! least one receipt that tells this state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smsc_proto::receipt::ReceiptState;

use crate::load::LoadError;
use crate::load::journal::{Event, Record};

/// Violations that are kept as text; more are only counted.
const VIOLATIONS_SHOWN: usize = 50;

/// What became of a message, as the cluster tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It has no final state yet.
    Waiting,
    /// It has this final state.
    Final(ReceiptState),
}

/// What journals tell, by message id.
#[derive(Clone, Debug, Default)]
pub struct History {
    receipts_expected: bool,
    acked: BTreeMap<u64, u64>,
    receipts: BTreeMap<u64, BTreeSet<String>>,
    receipts_count: u64,
    refused: u64,
    unknown: u64,
    disconnects: u64,
}

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Nothing contradicts the contract.
    pub passed: bool,
    /// Acknowledged ids.
    pub acked: u64,
    /// Refused submissions.
    pub refused: u64,
    /// Submissions of unknown outcome.
    pub unknown: u64,
    /// Connections lost.
    pub disconnects: u64,
    /// Receipts, repeated ones included.
    pub receipts: u64,
    /// Ids with a receipt but without an acknowledgement; at most as many as outcomes are unknown.
    pub receipts_of_unknown: u64,
    /// Final states of the acknowledged ids, as the cluster tells; empty if it was not asked.
    pub states: BTreeMap<String, u64>,
    /// How often something contradicts the contract.
    pub violations_count: u64,
    /// The first ones.
    pub violations: Vec<String>,
}

impl Verdict {
    fn violation(&mut self, sentence: String) {
        self.violations_count += 1;
        if self.violations.len() < VIOLATIONS_SHOWN {
            self.violations.push(sentence);
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} acknowledged, {} refused, {} unknown, {} connections lost",
            self.acked, self.refused, self.unknown, self.disconnects
        )?;
        writeln!(f, "{} receipts, {} messages of unknown outcome had one", self.receipts, self.receipts_of_unknown)?;
        for (state, count) in &self.states {
            writeln!(f, "{state} {count}")?;
        }
        for violation in &self.violations {
            writeln!(f, "VIOLATION {violation}")?;
        }
        let hidden = self.violations_count - self.violations.len() as u64;
        if hidden > 0 {
            writeln!(f, "VIOLATION and {hidden} more")?;
        }
        write!(f, "{}", if self.passed { "passed" } else { "FAILED" })
    }
}

impl History {
    /// What these records tell. With `receipts_expected`, every acknowledged message must have had a receipt.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>, receipts_expected: bool) -> History {
        let mut history = History { receipts_expected, ..History::default() };
        for record in records {
            match &record.event {
                Event::Ack { id, .. } => *history.acked.entry(*id).or_default() += 1,
                Event::Receipt { id, stat } => {
                    history.receipts_count += 1;
                    let stats = history.receipts.entry(*id).or_default();
                    if !stats.contains(stat) {
                        stats.insert(stat.clone());
                    }
                }
                Event::Refused { .. } => history.refused += 1,
                Event::Unknown { .. } => history.unknown += 1,
                Event::Connection(text) => {
                    history.disconnects += u64::from(text.starts_with("lost"));
                }
            }
        }
        history
    }

    /// Every acknowledged id, smallest first.
    pub fn acked_ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.acked.keys().copied()
    }

    /// Compares. `fates` is what the cluster tells of every message it knows; without it only the journals are checked
    /// for contradictions among themselves.
    pub fn check(&self, fates: Option<&HashMap<u64, Fate>>) -> Verdict {
        let mut verdict = Verdict {
            acked: self.acked.len() as u64,
            refused: self.refused,
            unknown: self.unknown,
            disconnects: self.disconnects,
            receipts: self.receipts_count,
            ..Verdict::default()
        };
        for (id, times) in self.acked.iter().filter(|(_, times)| **times > 1) {
            verdict.violation(format!("id {id} was acknowledged {times} times"));
        }
        for (id, stats) in self.receipts.iter().filter(|(_, stats)| stats.len() > 1) {
            verdict.violation(format!("the receipts of id {id} tell different states: {stats:?}"));
        }
        for id in self.acked.keys() {
            self.check_one(*id, fates, &mut verdict);
        }
        let unasked = self.receipts.keys().filter(|id| !self.acked.contains_key(id));
        verdict.receipts_of_unknown = unasked.count() as u64;
        if verdict.receipts_of_unknown > self.unknown {
            verdict.violation(format!(
                "{} ids have receipts and no acknowledgement, but only {} outcomes are unknown",
                verdict.receipts_of_unknown, self.unknown
            ));
        }
        verdict.passed = verdict.violations_count == 0;
        verdict
    }

    fn check_one(&self, id: u64, fates: Option<&HashMap<u64, Fate>>, verdict: &mut Verdict) {
        let stats = self.receipts.get(&id);
        if self.receipts_expected && stats.is_none() {
            verdict.violation(format!("id {id} was acknowledged and has no receipt"));
        }
        let Some(fates) = fates else {
            return;
        };
        match fates.get(&id) {
            None => verdict.violation(format!("id {id} was acknowledged and is not known to the cluster")),
            Some(Fate::Waiting) => verdict.violation(format!("id {id} has no final state")),
            Some(Fate::Final(state)) => {
                let name = state.receipt_name();
                *verdict.states.entry(name.to_owned()).or_default() += 1;
                if let Some(other) = stats.and_then(|stats| stats.iter().find(|s| *s != name)) {
                    verdict.violation(format!("id {id} is {name} in the cluster and {other} in its receipt"));
                }
            }
        }
    }
}

/// Asks the cluster by a shell command that prints messages as JSON: once, or for every id if `{id}` is in it. An id
/// for which such a command fails counts as not known.
///
/// # Errors
/// [`LoadError::Command`] if the one command fails, or what is printed is not understood.
pub fn show_messages(command: &str, ids: impl Iterator<Item = u64>) -> Result<HashMap<u64, Fate>, LoadError> {
    let failed = |reason: String| LoadError::Command { command: command.to_owned(), reason };
    let run = |line: &str| Command::new("sh").args(["-c", line]).output().map_err(|error| failed(error.to_string()));
    let mut fates = HashMap::new();
    if command.contains("{id}") {
        for id in ids {
            let output = run(&command.replace("{id}", &id.to_string()))?;
            if output.status.success() {
                let text = String::from_utf8_lossy(&output.stdout);
                fates.extend(parse_messages(&text).map_err(&failed)?);
            }
        }
    } else {
        let output = run(command)?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(failed(format!("{}: {}", output.status, said.trim())));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        fates.extend(parse_messages(&text).map_err(&failed)?);
    }
    Ok(fates)
}

/// Reads messages as `smscctl --json message show` and `message find` print them: one object, an array, an object with
/// an array `messages`, or several of these one after the other.
///
/// # Errors
/// A sentence if the text is not JSON or holds an object without id or state.
pub fn parse_messages(text: &str) -> Result<Vec<(u64, Fate)>, String> {
    let mut messages = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        let value = value.map_err(|error| format!("not JSON: {error}"))?;
        collect(&value, &mut messages)?;
    }
    Ok(messages)
}

fn collect(value: &Value, messages: &mut Vec<(u64, Fate)>) -> Result<(), String> {
    if let Some(array) = value.as_array() {
        return array.iter().try_for_each(|item| collect(item, messages));
    }
    if let Some(list) = value.get("messages") {
        return collect(list, messages);
    }
    let id = match value.get("id") {
        Some(Value::Number(id)) => id.as_u64(),
        Some(Value::String(id)) => id.parse().ok(),
        _ => None,
    };
    let id = id.ok_or_else(|| format!("a message without a decimal id: {value}"))?;
    let state = match value.get("state") {
        Some(Value::Number(code)) => {
            code.as_u64().and_then(|code| u8::try_from(code).ok()).and_then(|code| ReceiptState::try_from(code).ok())
        }
        Some(Value::String(name)) => {
            let name = name.to_uppercase();
            let name = name.strip_prefix("MESSAGE_STATE_").unwrap_or(&name);
            ReceiptState::from_receipt_name(name)
        }
        _ => None,
    };
    let state = state.ok_or_else(|| format!("message {id} without a known state: {value}"))?;
    let fate = match state {
        ReceiptState::Scheduled | ReceiptState::Enroute => Fate::Waiting,
        state => Fate::Final(state),
    };
    messages.push((id, fate));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(events: &[Event]) -> Vec<Record> {
        events.iter().map(|event| Record { at_us: 0, session: 0, event: event.clone() }).collect()
    }

    fn receipt(id: u64, stat: &str) -> Event {
        Event::Receipt { id, stat: stat.into() }
    }

    #[test]
    fn a_journal_that_agrees_with_the_cluster_passes() {
        let records = records(&[
            Event::Ack { number: 0, id: 10 },
            Event::Unknown { number: 1 },
            receipt(10, "DELIVRD"),
            receipt(10, "DELIVRD"),
            receipt(11, "UNDELIV"),
        ]);
        let history = History::of(&records, true);
        let fates = HashMap::from([(10, Fate::Final(ReceiptState::Delivered))]);
        let verdict = history.check(Some(&fates));
        assert_eq!(verdict.violations, Vec::<String>::new());
        assert!(verdict.passed);
        assert_eq!((verdict.acked, verdict.receipts), (1, 3));
        assert_eq!(verdict.receipts_of_unknown, 1);
        assert_eq!(verdict.states, BTreeMap::from([("DELIVRD".into(), 1)]));
    }

    #[test]
    fn every_contradiction_is_named() {
        let records = records(&[
            Event::Ack { number: 0, id: 1 },
            Event::Ack { number: 1, id: 1 },
            receipt(1, "DELIVRD"),
            receipt(1, "EXPIRED"),
            Event::Ack { number: 2, id: 2 },
            receipt(2, "DELIVRD"),
            Event::Ack { number: 3, id: 3 },
            receipt(4, "DELIVRD"),
        ]);
        let fates = HashMap::from([(1, Fate::Final(ReceiptState::Expired)), (3, Fate::Waiting)]);
        let verdict = History::of(&records, true).check(Some(&fates));
        let expected = [
            "id 1 was acknowledged 2 times",
            "the receipts of id 1 tell different states",
            "id 1 is EXPIRED in the cluster and DELIVRD in its receipt",
            "id 2 was acknowledged and is not known",
            "id 3 was acknowledged and has no receipt",
            "id 3 has no final state",
            "1 ids have receipts and no acknowledgement",
        ];
        assert_eq!(verdict.violations.len(), expected.len());
        for (found, expected) in verdict.violations.iter().zip(expected) {
            assert!(found.contains(expected), "{found}: {expected}");
        }
    }

    #[test]
    fn messages_are_read_in_every_form() {
        let expected = vec![(5, Fate::Final(ReceiptState::Delivered)), (6, Fate::Waiting)];
        for text in [
            r#"{"messages":[{"id":5,"state":"delivered"},{"id":"6","state":"ENROUTE"}],"more":false}"#,
            r#"[{"id":5,"state":2},{"id":6,"state":1}]"#,
            "{\"id\":5,\"state\":\"MESSAGE_STATE_DELIVERED\"}\n{\"id\":6,\"state\":\"scheduled\"}",
        ] {
            assert_eq!(parse_messages(text), Ok(expected.clone()), "{text}");
        }
        assert!(parse_messages(r#"{"id":5}"#).is_err());
        assert!(parse_messages("no JSON").is_err());
    }

    #[test]
    fn a_command_is_run_once_or_for_every_id() {
        let fates = show_messages(r#"echo '{"id":{id},"state":"delivered"}'"#, [7, 8].into_iter());
        assert_eq!(fates.expect("both are shown").len(), 2);
        let one = show_messages(r#"echo '[{"id":7,"state":2}]'"#, [7, 8].into_iter());
        assert_eq!(one.expect("one is shown").len(), 1);
        assert!(show_messages("exit 3", [7].into_iter()).is_err());
    }
}
