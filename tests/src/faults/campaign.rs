//! Rounds of faults under load, and what must be true afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::plan::{self, Fault, Hit, Round, Victim};
use super::strike::{Struck, strike, thaw, undo};
use crate::lab::Lab;
use crate::owners::OwnerWatch;
use crate::process::{LoadProcess, verify};

/// Service without a fault before each round, so that it strikes in full swing.
const CALM: Duration = Duration::from_millis(300);
/// How long all nodes may take to come to the same state once nothing is submitted any more.
const SAME_WITHIN: Duration = Duration::from_secs(60);
const NODES: [&str; 3] = ["a", "b", "w"];
/// What a panic of a node looks like in its log.
const PANIC: &str = "panicked at";

/// What to do.
#[derive(Clone, Debug)]
pub struct CampaignOptions {
    /// Chooses everything.
    pub seed: u64,
    /// The first round; those before were done by another run.
    pub first: u64,
    /// How many.
    pub rounds: u64,
    /// Rounds under one load, after which everything is looked at.
    pub epoch: u64,
    /// Messages per second, each with a receipt.
    pub rate: u32,
    /// Faults that are left out.
    pub without: Vec<String>,
    /// Where the logs of all nodes and the journals are kept when something goes wrong.
    pub keep: PathBuf,
}

/// What a campaign came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Rounds done.
    pub rounds: u64,
    /// Faults that struck, by name.
    pub faults: BTreeMap<&'static str, u64>,
    /// Messages acknowledged, each found in one final state and with a receipt.
    pub acked: u64,
    /// Submissions that the end of a connection left without an answer.
    pub unknown: u64,
    /// Receipts that came again after a failover.
    pub receipts_repeated: u64,
    /// How often the address went to a host.
    pub tenures: usize,
    /// ARP requests and attempts to connect: looks for a second owner.
    pub looks: u64,
    /// The longest time without an acknowledgement, faults included.
    pub longest_gap_ms: f64,
    /// Nodes that ended by themselves, as one does whose disk is full.
    pub ended: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: u64 = self.faults.values().sum();
        writeln!(f, "{} rounds with {faults} faults:", self.rounds)?;
        for (fault, count) in &self.faults {
            writeln!(f, "  {count:>5} {fault}")?;
        }
        writeln!(f, "{} messages acknowledged, all of them in one final state and with a receipt", self.acked)?;
        writeln!(f, "{} submissions without an answer, {} receipts came again", self.unknown, self.receipts_repeated)?;
        writeln!(f, "{} tenures of the address, one owner in each of {} looks", self.tenures, self.looks)?;
        writeln!(f, "{} nodes ended by themselves and were started again", self.ended)?;
        write!(f, "longest time without an acknowledgement: {:.0} ms, faults included", self.longest_gap_ms)
    }
}

/// A campaign in a lab.
pub struct Campaign<'l> {
    lab: &'l Lab,
    options: CampaignOptions,
    summary: Summary,
    /// Who led when somebody was last known to.
    leader: String,
    tell: Box<dyn Fn(&str) + 'l>,
}

#[derive(Deserialize)]
struct Digest {
    index: u64,
    digest: Option<String>,
}

impl<'l> Campaign<'l> {
    /// A campaign that tells what it does, a line at a time.
    pub fn new(lab: &'l Lab, options: CampaignOptions, tell: impl Fn(&str) + 'l) -> Self {
        Campaign { lab, options, summary: Summary::default(), leader: NODES[0].to_owned(), tell: Box::new(tell) }
    }

    /// Does all rounds.
    ///
    /// # Panics
    /// With everything that is not as promised; logs and journals are kept then.
    pub fn run(mut self) -> Summary {
        let end = self.options.first + self.options.rounds;
        let mut from = self.options.first;
        self.lab.await_whole();
        while from < end {
            let until = (from + self.options.epoch.max(1)).min(end);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.epoch(from, until)));
            let wrong = match done {
                Ok(wrong) if wrong.is_empty() => {
                    from = until;
                    continue;
                }
                Ok(wrong) => wrong.join("\n"),
                Err(panic) => text_of(panic.as_ref()),
            };
            let kept = keep(self.lab, &self.options.keep);
            panic!(
                "rounds {from} to {} failed:\n{wrong}\nlogs and journals: {kept}\nreplay: scripts/faults --seed {} --first {from} --rounds {}",
                until - 1,
                self.options.seed,
                until - from,
            );
        }
        self.summary
    }

    /// Rounds under one load, then judgement: everything that is not as promised.
    fn epoch(&mut self, from: u64, until: u64) -> Vec<String> {
        let lab = self.lab;
        // The journal is this epoch's alone.
        let _ = std::fs::remove_file(lab.state_dir.join("load.journal"));
        let watch = OwnerWatch::start(lab);
        let rate = self.options.rate.to_string();
        let load = LoadProcess::start(lab, &["--sessions", "6", "--window", "20", "--rate", &rate]);
        for number in from..until {
            let round = plan::round(self.options.seed, number);
            load.await_ack();
            thread::sleep(CALM);
            self.round(&round);
            load.await_ack();
            self.summary.rounds += 1;
        }
        let journal = load.journal.clone();
        let report = load.finish();
        lab.await_whole();
        let verdict = verify(lab, &journal);
        let owners = watch.finish();
        let mut wrong = owners.violations;
        // A host that stands still as a whole cannot take its address off; it must be silent about it all the same.
        let paused = (from..until).flat_map(|number| plan::round(self.options.seed, number).hits);
        if !paused.into_iter().any(|hit| hit.fault == Fault::FreezeHost) {
            wrong.extend(owners.held_twice);
        }
        if !report.passed {
            wrong.push(format!("the load found: {report}"));
        }
        if !verdict.passed {
            wrong.push(format!("the journal and the cluster disagree: {verdict}"));
        }
        if verdict.acked != report.acked {
            wrong.push(format!("{} acknowledged, {} in the journal", report.acked, verdict.acked));
        }
        wrong.extend(self.states_differ());
        wrong.extend(panics(lab));
        let summary = &mut self.summary;
        summary.acked += report.acked;
        summary.unknown += report.unknown;
        summary.receipts_repeated += report.receipts_repeated;
        summary.tenures += owners.tenures;
        summary.looks += owners.asked + owners.knocked;
        summary.longest_gap_ms = summary.longest_gap_ms.max(report.longest_gap_ms);
        (self.tell)(&format!(
            "rounds {from} to {}: {} acknowledged, {} unknown, {} receipts again, longest gap {:.0} ms, {} tenures, \
             {} of {} ARP requests and {} of {} knocks answered",
            until - 1,
            report.acked,
            report.unknown,
            report.receipts_repeated,
            report.longest_gap_ms,
            owners.tenures,
            owners.answered,
            owners.asked,
            owners.accepted,
            owners.knocked
        ));
        wrong
    }

    fn round(&mut self, round: &Round) {
        (self.tell)(&round.to_string());
        let mut struck: Vec<Struck> = Vec::new();
        let mut stalls_until = Instant::now();
        for Hit { fault, victim, after } in &round.hits {
            thread::sleep(*after);
            if self.options.without.iter().any(|word| word == fault.word()) {
                continue;
            }
            let host = self.host(*victim, &struck);
            if let Some(done) = strike(self.lab, *fault, &host) {
                *self.summary.faults.entry(fault.word()).or_default() += 1;
                struck.push(done);
                if let Fault::DiskStall(freeze_ms) = fault {
                    stalls_until = stalls_until.max(Instant::now() + Duration::from_millis(u64::from(*freeze_ms)));
                }
            }
        }
        thread::sleep(round.hold);
        // A stall ends by itself, and until then it may move leadership.
        thread::sleep(stalls_until.saturating_duration_since(Instant::now()));
        let at = Instant::now();
        for done in struck.iter().rev() {
            undo(self.lab, done);
        }
        for host in NODES {
            let killed = |done: &Struck| done.host == host && matches!(done.fault, Fault::Kill | Fault::Restart);
            if self.stopping(host, &struck) && !struck.iter().any(killed) {
                self.summary.ended += 1;
            }
            self.lab.heal(host);
        }
        self.lab.await_whole();
        (self.tell)(&format!("  settled {} ms after the faults ended", at.elapsed().as_millis()));
    }

    /// Whether the node on `host` has ended; one that is stopping is waited for, and one that is killed: until the kernel
    /// has taken it apart it does not count as dead, and nobody would start it again.
    fn stopping(&self, host: &str, struck: &[Struck]) -> bool {
        if struck.iter().any(|done| done.host == host && matches!(done.fault, Fault::Kill | Fault::Restart)) {
            // What stands still does not hear that it is to stop.
            thaw(self.lab, host);
            let deadline = Instant::now() + Duration::from_secs(30);
            while self.lab.node_pid(host).is_some() {
                assert!(Instant::now() < deadline, "the node on {host} does not stop");
                thread::sleep(Duration::from_millis(20));
            }
        }
        self.lab.node_pid(host).is_none()
    }

    /// Who that is now. While nobody leads, whoever led last counts as the leader. Hosts that stand still are not asked:
    /// they do not answer before the faults are over.
    fn host(&mut self, victim: Victim, struck: &[Struck]) -> String {
        if victim == Victim::Witness {
            return "w".to_owned();
        }
        let frozen = |host: &str| {
            struck.iter().any(|done| done.host == host && matches!(done.fault, Fault::Freeze | Fault::FreezeHost))
        };
        let leads = |host: &str| {
            let status = self.lab.cluster_status(host)?;
            let leader = status.members.iter().find(|member| member.node_id == status.leader_id)?;
            (leader.role == "data").then(|| leader.name.clone())
        };
        if let Some(leader) = NODES.iter().rev().filter(|host| !frozen(host)).find_map(|host| leads(host)) {
            self.leader = leader;
        }
        match victim {
            Victim::Standby => if self.leader == "a" { "b" } else { "a" }.to_owned(),
            Victim::Leader | Victim::Witness => self.leader.clone(),
        }
    }

    /// Waits until all nodes have applied the same, and compares what they came to.
    fn states_differ(&self) -> Option<String> {
        let deadline = Instant::now() + SAME_WITHIN;
        loop {
            let output = self.lab.ctl("w", &["cluster", "digest", "--json"]);
            let digests: Vec<Digest> = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let same = |part: fn(&Digest) -> String| {
                let mut parts = digests.iter().map(part);
                parts.next().is_some_and(|first| parts.all(|other| other == first))
            };
            let all = digests.len() == NODES.len() && digests.iter().all(|digest| digest.digest.is_some());
            if all && same(|digest| digest.index.to_string()) {
                let told = String::from_utf8_lossy(&output.stdout).into_owned();
                return (!same(|digest| digest.digest.clone().unwrap_or_default()))
                    .then(|| format!("equal index, different states: {told}"));
            }
            if Instant::now() >= deadline {
                return Some(format!(
                    "the nodes do not come to the same index: {}{}",
                    String::from_utf8_lossy(&output.stdout),
                    String::from_utf8_lossy(&output.stderr)
                ));
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Panics in the logs of the nodes.
fn panics(lab: &Lab) -> Vec<String> {
    let of = |host: &&str| {
        let log = std::fs::read_to_string(lab.state_dir.join(format!("{host}.log"))).unwrap_or_default();
        log.lines().find(|line| line.contains(PANIC)).map(|line| format!("{host} has a bug: {line}"))
    };
    NODES.iter().filter_map(of).collect()
}

/// Copies what is needed to find out what happened; where that is, or why it is nowhere.
fn keep(lab: &Lab, into: &Path) -> String {
    let copy = || -> std::io::Result<()> {
        std::fs::create_dir_all(into)?;
        for entry in std::fs::read_dir(&lab.state_dir)? {
            let path = entry?.path();
            let wanted = path.extension().is_some_and(|end| ["log", "journal", "toml"].iter().any(|w| end == *w));
            if let Some(name) = path.file_name().filter(|_| wanted) {
                std::fs::copy(&path, into.join(name))?;
            }
        }
        Ok(())
    };
    match copy() {
        Ok(()) => into.display().to_string(),
        Err(error) => format!("could not be kept in {}: {error}", into.display()),
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
