//! A file with one line per event, fields parted by tabs: what, microseconds since 1970 (UTC), then
//!
//! - `ack` SESSION NUMBER ID: message NUMBER was acknowledged under ID
//! - `receipt` SESSION ID STAT: a receipt with this `stat` came
//! - `refused` SESSION NUMBER STATUS
//! - `unknown` SESSION NUMBER: the connection ended before the answer came
//! - `connection` SESSION TEXT: bound, lost, could not connect

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::time::Instant;

use crate::load::LoadError;

/// One line of a journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Microseconds since 1970 (UTC).
    pub at_us: u64,
    /// The session of the generator, counted from 0.
    pub session: usize,
    /// What happened.
    pub event: Event,
}

/// What a line of a journal tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A message was acknowledged.
    Ack {
        /// Its number within the run.
        number: u64,
        /// Its message id.
        id: u64,
    },
    /// A receipt came.
    Receipt {
        /// The message id it names.
        id: u64,
        /// The state it names, in the letters of the receipt.
        stat: String,
    },
    /// A message was refused.
    Refused {
        /// Its number within the run.
        number: u64,
        /// The status, by its name in the specification.
        status: String,
    },
    /// The connection ended before the answer came.
    Unknown {
        /// Its number within the run.
        number: u64,
    },
    /// A connection was bound, lost, or could not be made.
    Connection(String),
}

/// Appends to a journal file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: BufWriter<File>,
    start: Instant,
    start_us: u64,
}

impl Journal {
    /// Opens `path` to append to it.
    ///
    /// # Errors
    /// [`LoadError::Journal`] if that fails.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(|source| failed(path, source))?;
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Journal {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 16, file),
            start: Instant::now(),
            start_us: u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX),
        })
    }

    /// Writes what is gathered to the file.
    ///
    /// # Errors
    /// [`LoadError::Journal`] if that fails.
    pub fn flush(&mut self) -> Result<(), LoadError> {
        self.file.flush().map_err(|source| failed(&self.path, source))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`LoadError::Journal`] if it cannot be written.
    pub fn append(&mut self, at: Instant, session: usize, event: &Event) -> Result<(), LoadError> {
        let since = at.saturating_duration_since(self.start).as_micros();
        let at_us = self.start_us + u64::try_from(since).unwrap_or(0);
        self.write(at_us, session, event).map_err(|source| failed(&self.path, source))
    }

    fn write(&mut self, at_us: u64, session: usize, event: &Event) -> io::Result<()> {
        let out = &mut self.file;
        match event {
            Event::Ack { number, id } => writeln!(out, "ack\t{at_us}\t{session}\t{number}\t{id}"),
            Event::Receipt { id, stat } => {
                writeln!(out, "receipt\t{at_us}\t{session}\t{id}\t{stat}")
            }
            Event::Refused { number, status } => {
                writeln!(out, "refused\t{at_us}\t{session}\t{number}\t{status}")
            }
            Event::Unknown { number } => writeln!(out, "unknown\t{at_us}\t{session}\t{number}"),
            Event::Connection(text) => {
                let text = text.replace(['\t', '\n', '\r'], " ");
                writeln!(out, "connection\t{at_us}\t{session}\t{text}")
            }
        }
    }
}

/// Reads a journal. A last line that was cut off by the end of the generator is left out.
///
/// # Errors
/// [`LoadError::Journal`] if the file cannot be read, [`LoadError::JournalLine`] if it holds another line.
pub fn read(path: &Path) -> Result<Vec<Record>, LoadError> {
    let file = File::open(path).map_err(|source| failed(path, source))?;
    let mut reader = BufReader::new(file);
    let mut records = Vec::new();
    let mut line = String::new();
    loop {
        line.clear();
        let octets = reader.read_line(&mut line).map_err(|source| failed(path, source))?;
        if octets == 0 || !line.ends_with('\n') {
            return Ok(records);
        }
        let record = parse(line.trim_end()).ok_or_else(|| LoadError::JournalLine {
            path: path.display().to_string(),
            line: records.len() + 1,
            text: line.trim_end().to_owned(),
        })?;
        records.push(record);
    }
}

fn parse(line: &str) -> Option<Record> {
    let mut fields = line.split('\t');
    let what = fields.next()?;
    let at_us = fields.next()?.parse().ok()?;
    let session = fields.next()?.parse().ok()?;
    let first = fields.next()?;
    let event = match what {
        "ack" => Event::Ack { number: first.parse().ok()?, id: fields.next()?.parse().ok()? },
        "receipt" => Event::Receipt { id: first.parse().ok()?, stat: fields.next()?.to_owned() },
        "refused" => Event::Refused { number: first.parse().ok()?, status: fields.next()?.to_owned() },
        "unknown" => Event::Unknown { number: first.parse().ok()? },
        "connection" => Event::Connection(first.to_owned()),
        _ => return None,
    };
    Some(Record { at_us, session, event })
}

fn failed(path: &Path, source: io::Error) -> LoadError {
    LoadError::Journal { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("journal");
        let events = [
            Event::Ack { number: 4, id: 99 },
            Event::Receipt { id: 99, stat: "DELIVRD".into() },
            Event::Refused { number: 5, status: "ESME_RTHROTTLED".into() },
            Event::Unknown { number: 6 },
            Event::Connection("lost: connection reset by peer".into()),
        ];
        for half in events.chunks(3) {
            let mut journal = Journal::open(&path).expect("opens");
            for event in half {
                journal.append(Instant::now(), 2, event).expect("written");
            }
            journal.flush().expect("written");
        }
        let read: Vec<Event> = read(&path).expect("readable").into_iter().map(|record| record.event).collect();
        assert_eq!(read, events);
    }

    #[test]
    fn a_last_line_cut_off_is_no_error_but_another_line_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("journal");
        std::fs::write(&path, "unknown\t1\t0\t6\nack\t1\t0\t7").expect("written");
        assert_eq!(read(&path).expect("readable").len(), 1);
        std::fs::write(&path, "unknown\t1\t0\t6\nack\t1\t0\t7\n").expect("written");
        let error = read(&path).expect_err("an ack without an id");
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
