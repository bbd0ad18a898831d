//! Reading keys out of TOML tables so that every problem of a file is found in one pass.
//!
//! A derived deserialiser stops at the first fault. Here each key is taken out of its table on its own, faults are
//! collected, and what is left in a table at the end is an unknown key. A faulty key yields a stand-in so that reading
//! goes on; relations between keys are judged only where all keys concerned were good.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use toml::{Table, Value};

/// One thing wrong with a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key with its section, as in `raft.heartbeat_ms`.
    pub key: String,
    /// The value found, as TOML; `None` if the key is missing or the value is a secret or a whole table.
    pub value: Option<String>,
    /// What is allowed and what to do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value}: {}", self.key, self.reason),
            None => write!(f, "{}: {}", self.key, self.reason),
        }
    }
}

/// Everything found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    list: Vec<Problem>,
    faulty: BTreeSet<String>,
}

impl Problems {
    /// Records a fault of one key.
    pub(super) fn add(&mut self, key: &str, value: Option<String>, reason: impl Into<String>) {
        self.faulty.insert(key.to_owned());
        self.list.push(Problem { key: key.to_owned(), value, reason: reason.into() });
    }

    /// Records that keys which are good each for themselves do not go together. Says nothing if one of them is faulty,
    /// because then the relation is judged on a stand-in.
    pub(super) fn relation(
        &mut self,
        holds: bool,
        key: &str,
        value: impl fmt::Display,
        others: &[&str],
        reason: impl Into<String>,
    ) {
        let judged = !self.is_faulty(key) && !others.iter().any(|other| self.is_faulty(other));
        if judged && !holds {
            self.list.push(Problem { key: key.to_owned(), value: Some(value.to_string()), reason: reason.into() });
        }
    }

    pub(super) fn is_faulty(&self, key: &str) -> bool {
        self.faulty.contains(key)
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.list
    }
}

/// One table of the file. Every key is taken at most once; [`Section::end`] refuses the rest.
pub(super) struct Section {
    path: String,
    table: Table,
    known: Vec<&'static str>,
}

impl Section {
    /// The table at `path` (empty for the file itself).
    pub(super) fn new(path: impl Into<String>, table: Table) -> Self {
        Self { path: path.into(), table, known: Vec::new() }
    }

    /// The full name of a key of this section.
    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the file gives this key, which thereby becomes known.
    pub(super) fn holds(&mut self, key: &'static str) -> bool {
        let held = self.table.contains_key(key);
        if !held {
            self.known.push(key);
        }
        held
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    /// A sub-table; `None` if it is absent (or is no table, which is recorded).
    pub(super) fn section(&mut self, key: &'static str, problems: &mut Problems) -> Option<Section> {
        let full = self.key(key);
        match self.take(key)? {
            Value::Table(table) => Some(Section::new(full, table)),
            other => {
                problems.add(&full, Some(shown(&other)), format!("must be a section, written [{full}]"));
                None
            }
        }
    }

    /// The tables of an array; `None` if the key is absent.
    pub(super) fn sections(&mut self, key: &'static str, problems: &mut Problems) -> Option<Vec<Section>> {
        let full = self.key(key);
        let Value::Array(items) = self.take(key)? else {
            problems.add(
                &full,
                None,
                "must be a list of tables, as in [{ id = 1, name = \"a\", addr = \"10.0.0.1:7400\" }]",
            );
            return None;
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                Value::Table(table) => sections.push(Section::new(format!("{full}[{index}]"), table)),
                other => problems.add(&format!("{full}[{index}]"), Some(shown(&other)), "must be a table in braces"),
            }
        }
        Some(sections)
    }

    /// A text that must be there.
    pub(super) fn text(&mut self, key: &'static str, needs: &str, problems: &mut Problems) -> String {
        let full = self.key(key);
        let present = self.table.contains_key(key);
        let text = self.text_or_none(key, needs, problems);
        if text.is_none() && !present {
            problems.add(&full, None, format!("is missing; {needs}"));
        }
        text.unwrap_or_default()
    }

    /// A text that may be left out.
    pub(super) fn text_or_none(&mut self, key: &'static str, needs: &str, problems: &mut Problems) -> Option<String> {
        let full = self.key(key);
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => {
                problems.add(&full, Some(shown(&other)), needs);
                None
            }
        }
    }

    /// A whole number of `unit` within `range`; `default` if the key is absent, which without a default is a problem.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        default: Option<u64>,
        range: RangeInclusive<u64>,
        unit: &str,
        problems: &mut Problems,
    ) -> u64 {
        let full = self.key(key);
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        let allowed = format!("must be a whole number from {} to {}{unit}", range.start(), range.end());
        let stand_in = default.unwrap_or(*range.start());
        match self.take(key) {
            None => {
                if default.is_none() {
                    problems.add(&full, None, format!("is missing; {allowed}"));
                }
                stand_in
            }
            Some(Value::Integer(number)) if u64::try_from(number).is_ok_and(|n| range.contains(&n)) => {
                number.unsigned_abs()
            }
            Some(other) => {
                problems.add(&full, Some(shown(&other)), allowed);
                stand_in
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool, problems: &mut Problems) -> bool {
        let full = self.key(key);
        match self.take(key) {
            None => default,
            Some(Value::Boolean(flag)) => flag,
            Some(other) => {
                problems.add(&full, Some(shown(&other)), "must be true or false, without quotes");
                default
            }
        }
    }

    /// One of the words in `choices`; the first is the default unless `required`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        required: bool,
        problems: &mut Problems,
    ) -> T {
        let full = self.key(key);
        let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let allowed = format!("must be one of {}", words.join(", "));
        let stand_in = choices[0].1;
        match self.take(key) {
            None => {
                if required {
                    problems.add(&full, None, format!("is missing; {allowed}"));
                }
                stand_in
            }
            Some(value) => {
                let found = choices.iter().find(|(word, _)| value.as_str() == Some(word));
                if found.is_none() {
                    problems.add(&full, Some(shown(&value)), allowed);
                }
                found.map_or(stand_in, |(_, choice)| *choice)
            }
        }
    }

    /// An address and port to listen on; `None` if the key is absent.
    pub(super) fn socket_addr(&mut self, key: &'static str, problems: &mut Problems) -> Option<SocketAddr> {
        const NEEDS: &str =
            "must be an IP address and a port from 1 to 65535, as in \"10.75.0.1:7400\" or \"[fd00::1]:7400\"";
        let full = self.key(key);
        let text = self.text_or_none(key, NEEDS, problems)?;
        match text.parse::<SocketAddr>() {
            Ok(addr) if addr.port() != 0 => Some(addr),
            _ => {
                problems.add(&full, Some(format!("{text:?}")), NEEDS);
                None
            }
        }
    }

    /// A list of texts; `None` if the key is absent.
    pub(super) fn texts(&mut self, key: &'static str, needs: &str, problems: &mut Problems) -> Option<Vec<String>> {
        let full = self.key(key);
        let value = self.take(key)?;
        let texts = value
            .as_array()
            .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
        if texts.is_none() {
            problems.add(&full, Some(shown(&value)), needs);
        }
        Some(texts.unwrap_or_default())
    }

    /// Refuses every key that nobody asked for.
    pub(super) fn end(self, problems: &mut Problems) {
        for key in self.table.keys() {
            let reason = match nearest(key, &self.known) {
                Some(near) => format!("unknown key; did you mean `{near}`?"),
                None => format!("unknown key; known here: {}", self.known.join(", ")),
            };
            problems.add(&self.key(key), None, reason);
        }
    }
}

/// A value as it stands in the file, cut to one readable line.
fn shown(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = value.to_string();
    if text.chars().count() > CHARS_MAX {
        let cut: String = text.chars().take(CHARS_MAX).collect();
        format!("{cut}...")
    } else {
        text
    }
}

/// The known key that `key` is most likely a misspelling of.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let close = |candidate: &&&str| distance(key, candidate) <= 2 || (key.len() >= 4 && candidate.starts_with(key));
    known.iter().filter(close).min_by_key(|candidate| distance(key, candidate)).copied()
}

/// Edits (insert, delete, replace) that turn one word into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
