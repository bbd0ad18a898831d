//! A link to a message centre that others wrote, while leaders are killed: every message that was acknowledged to its ESME
//! ends in one final state and one receipt, and has one call detail record.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use smsc_tests::lab::{Fault, Lab, skip, tell};
use smsc_tests::process::{LoadProcess, verify};

use crate::children::{Running, installed, script};

const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

fn await_bound(lab: &Lab, binds: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status: Value = serde_json::from_str(&lab.ctl_leader(&["link", "status", "--json"])).expect("JSON");
        let bound = status[0]["binds"].as_array().map_or(0, |all| all.iter().filter(|b| b["state"] == "bound").count());
        if bound == binds {
            return;
        }
        assert!(Instant::now() < deadline, "the link is not bound: {status}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// The call detail records in the files of a node, by message id; each must be there once.
pub fn records(lab: &Lab, host: &str) -> HashMap<u64, Value> {
    let mut found = HashMap::new();
    let dir = lab.state_dir.join(format!("{host}.cdr"));
    let mut last = 0;
    let mut files: Vec<_> = fs::read_dir(&dir).expect("records").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    for file in files {
        for line in fs::read_to_string(file).expect("text").lines() {
            let record: Value = serde_json::from_str(line).expect("JSON");
            let (seq, id) = (record["seq"].as_u64().expect("seq"), record["id"].as_str().expect("id"));
            assert_eq!(seq, last + 1, "records of {host} are without gaps and in order");
            last = seq;
            let twice = found.insert(id.parse().expect("a number"), record);
            assert!(twice.is_none(), "two records of one message on {host}");
        }
    }
    found
}

#[test]
fn node_smpp_as_message_centre_while_leaders_die() {
    let modules = installed("node_modules");
    if !modules.join("smpp").exists() {
        return skip(&format!("node's package smpp in {} is not installed", modules.display()));
    }
    let Some(lab) = Lab::up_with(&[("SMSC_CDR", "1")]) else { return };
    lab.await_whole();
    let host = lab.host("esme").ip;
    let mut command = lab.command("esme", "node");
    command
        .arg(script("node_centre.js"))
        .args([&host, "2776"])
        .env("NODE_PATH", modules)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut centre = Running(command.spawn().expect("node runs"));
    let address = format!("{host}:2776");
    lab.ctl_leader(&[
        "link",
        "put",
        "npm",
        "--address",
        &address,
        "--system-id",
        "us",
        "--password",
        "secret",
        "--mode",
        "pair",
        "--reconnect-min-ms",
        "50",
        "--reconnect-max-ms",
        "500",
        "--window",
        "20",
    ]);
    lab.ctl_leader(&["route", "put", "1888", "link:npm"]);
    await_bound(&lab, 2);

    let load = LoadProcess::start(&lab, &["--sessions", "2", "--rate", "100", "--destination-prefix", "1888"]);
    for _ in 0..ROUNDS {
        load.await_ack();
        thread::sleep(Duration::from_secs(3));
        let killed = lab.fault(Fault::Kill, "leader");
        lab.await_other_leader(&killed);
        load.await_ack();
        lab.heal(&killed);
        lab.await_whole();
    }
    let journal = load.journal.clone();
    let report = load.finish();
    let verdict = verify(&lab, &journal);
    let _ = centre.0.kill();
    let mut said = String::new();
    centre.0.stdout.take().expect("piped").read_to_string(&mut said).expect("text");
    let counts = said.lines().last().unwrap_or_default().to_owned();
    let status = lab.ctl_leader(&["link", "status"]);
    tell(&format!(
        "npm smpp as message centre, {ROUNDS} leaders killed: {} acknowledged, {} receipts ({} came again); the message centre: {counts}\n{status}",
        report.acked, report.receipts, report.receipts_repeated
    ));
    assert!(report.passed, "{report}");
    assert!(verdict.passed, "{verdict}");

    // The same records on both data nodes, one for each message.
    thread::sleep(Duration::from_secs(3));
    let (a, b) = (records(&lab, "a"), records(&lab, "b"));
    assert_eq!(a.len(), b.len());
    assert!(a.iter().all(|(id, record)| b.get(id) == Some(record)), "the nodes' records differ");
    assert!(a.len() as u64 >= report.acked, "{} records of {} messages", a.len(), report.acked);
    assert!(a.values().all(|record| record["link"] == "npm" && record["segments"] == 1), "{:?}", a.values().next());
}
