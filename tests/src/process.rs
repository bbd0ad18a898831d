//! The load generator as a process in the lab.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde::de::DeserializeOwned;

use crate::lab::{Lab, program};
use crate::load::Report;
use crate::load::verify::Verdict;

/// `smsc-load` on the host `esme`, submitting until it is told to stop. Ended when dropped.
#[derive(Debug)]
pub struct LoadProcess {
    child: Child,
    /// Its journal.
    pub journal: PathBuf,
}

impl LoadProcess {
    /// Starts it against the floating address, reconnecting, with receipts and a journal in the lab's folder.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(lab: &Lab, more: &[&str]) -> LoadProcess {
        let journal = lab.state_dir.join("load.journal");
        let mut command = lab.command("esme", program("smsc-load"));
        command
            .args(["--target", &lab.target(), "--json", "--reconnect", "--receipts", "--until-stdin-closes"])
            .args(["--response-timeout-ms", "1000", "--settle", "30", "--journal"])
            .arg(&journal)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("smsc-load: {error}"));
        LoadProcess { child, journal }
    }

    /// Waits until a message is acknowledged later than now.
    ///
    /// # Panics
    /// If none is for ten seconds.
    pub fn await_ack(&self) {
        let since = SystemTime::now();
        let deadline = Instant::now() + Duration::from_secs(10);
        while last_ack(&self.journal).is_none_or(|at| at <= since) {
            assert!(Instant::now() < deadline, "no message was acknowledged for ten seconds");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Lets it stop submitting, wait for the receipts, and report.
    ///
    /// # Panics
    /// If it prints no report.
    pub fn finish(mut self) -> Report {
        drop(self.child.stdin.take());
        let mut text = String::new();
        let stdout = self.child.stdout.as_mut().expect("piped above");
        stdout.read_to_string(&mut text).expect("a report in UTF-8");
        // The report tells more than the exit code.
        let status = self.child.wait().expect("the child was started");
        parse(&text).unwrap_or_else(|error| panic!("smsc-load ({status}): {error}: {text}"))
    }
}

impl Drop for LoadProcess {
    fn drop(&mut self) {
        // Both fail when it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compares a journal with what the leader answers to query_sm.
///
/// # Panics
/// If that could not be done.
pub fn verify(lab: &Lab, journal: &Path) -> Verdict {
    let mut command: Command = lab.command("esme", program("smsc-load"));
    command.arg("verify").arg("--journal").arg(journal).args(["--query", &lab.target(), "--json"]);
    let output = command.output().unwrap_or_else(|error| panic!("smsc-load verify: {error}"));
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).unwrap_or_else(|error| {
        panic!("smsc-load verify ({}): {error}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    serde_json::from_str(text.trim())
}

/// When the last acknowledgement in the journal came; only the end of the file is read.
fn last_ack(journal: &Path) -> Option<SystemTime> {
    const END_OCTETS: u64 = 16 * 1024;
    let mut file = File::open(journal).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(END_OCTETS))).ok()?;
    let mut end = Vec::new();
    file.read_to_end(&mut end).ok()?;
    BufReader::new(&end[..])
        .split(b'\n')
        .map_while(Result::ok)
        .filter_map(|line| {
            let line = String::from_utf8(line).ok()?;
            let at_us = line.strip_prefix("ack\t")?.split('\t').next()?.parse().ok()?;
            Some(SystemTime::UNIX_EPOCH + Duration::from_micros(at_us))
        })
        .last()
}
