//! What goes to standard output: tables for people, JSON for scripts.

use std::io::{self, Write as _};

use serde::Serialize;
use smsc_proto::time::WallTime;

use crate::exit::Failure;

/// How a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Tables and sentences.
    Human,
    /// One JSON value.
    Json,
}

impl Format {
    /// Prints the value as JSON, or what `human` makes of it.
    pub fn show<T: Serialize>(self, value: &T, human: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self {
            Format::Human => print(&human(value)),
            Format::Json => print(&json(value)?),
        }
    }

    /// Says that a change was made: the sentence, or `{"done": true}`.
    pub fn done(self, sentence: &str) -> Result<(), Failure> {
        match self {
            Format::Human => print(sentence),
            Format::Json => print("{\n  \"done\": true\n}"),
        }
    }
}

/// The value as indented JSON.
pub fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(Failure::refused)
}

/// Prints a text and ends its line. A reader that has gone away, such as `head`, is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::refused(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Rows under a heading, each column as wide as its widest cell; `none` instead when there are no rows.
pub fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]], none: &str) -> String {
    if rows.is_empty() {
        return none.to_owned();
    }
    let heading = heading.map(str::to_owned);
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().chain([&heading]).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in [&heading].into_iter().chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let pad = width - cell.chars().count();
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', pad + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A UTC time as people and JSON get it; `None` for 0, which means never.
pub fn time(ms: u64) -> Option<String> {
    (ms != 0).then(|| WallTime::from_millis(ms).to_string())
}

/// A list in one cell.
pub fn list(items: &[String]) -> String {
    dash(&items.join(","))
}

/// A cell that is never empty.
pub fn dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows =
            [["1".to_owned(), "alpha".to_owned(), "x".to_owned()], ["20".to_owned(), "b".to_owned(), String::new()]];
        assert_eq!(table(["ID", "NAME", ""], &rows, "none"), "ID  NAME\n1   alpha  x\n20  b\n");
        assert_eq!(table::<1>(["ID"], &[], "none"), "none");
    }
}
