//! The cluster grows and shrinks while it serves.

use std::fs::{self, File};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use smsc_tests::lab::{Lab, program};
use smsc_tests::process::{LoadProcess, verify};

use crate::children::Running;

const PATIENCE: Duration = Duration::from_secs(30);

/// What is read of `smscctl cluster digest --json`.
#[derive(Debug, Deserialize)]
struct Digest {
    node_id: u64,
    index: u64,
    digest: Option<String>,
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// A fourth node, d with id 4, on the host `esme`; it has no data and is in no cluster yet.
fn fourth(lab: &Lab, address: &str) -> Running {
    let dir = &lab.state_dir;
    let own = |name: &str| dir.join(name);
    let made = std::process::Command::new(program("smscctl"))
        .args(["cert", "node", "--id", "4", "--name", "d", "--host", address, "--dir"])
        .arg(own("tls"))
        .stdout(Stdio::null())
        .status();
    assert!(made.expect("smscctl can be started").success(), "no certificate for node 4");
    let mut text = fs::read_to_string(own("a.toml")).expect("the lab has written it");
    let first = lab.host("a").ip;
    for (from, to) in [
        ("node_id = 1", "node_id = 4".to_owned()),
        ("name = \"a\"\n", "name = \"d\"\n".to_owned()),
        ("data_dir = \"a\"", "data_dir = \"d\"".to_owned()),
        ("bootstrap = true", "bootstrap = false".to_owned()),
        ("node-1.", "node-4.".to_owned()),
        ("\"a.sock\"", "\"d.sock\"".to_owned()),
        (
            "members = [\n",
            format!("members = [\n    {{ id = 4, name = \"d\", addr = \"{address}:7400\", role = \"data\" }},\n"),
        ),
        (&format!("listen = \"{first}:"), format!("listen = \"{address}:")),
    ] {
        assert!(text.contains(from), "{from:?} is not in the configuration of node a");
        text = text.replace(from, &to);
    }
    fs::write(own("d.toml"), text).expect("the lab's folder is ours");
    let log = File::create(own("d.log")).expect("the lab's folder is ours");
    let mut command = lab.command("esme", program("smsc-node"));
    command.arg("--config").arg(own("d.toml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    Running(command.spawn().expect("smsc-node can be started"))
}

fn digests(lab: &Lab) -> Vec<Digest> {
    serde_json::from_str(&lab.ctl_leader(&["cluster", "digest", "--json"])).expect("a list")
}

#[test]
fn a_node_joins_under_load_has_everything_and_leaves() {
    let Some(lab) = Lab::up() else { return };
    let load = LoadProcess::start(&lab, &["--rate", "500"]);
    load.await_ack();
    let address = lab.host("esme").ip;
    let running = fourth(&lab, &address);
    wait_until("node d answers", || lab.ctl("d", &["status"]).status.success());
    let addr = format!("{address}:7400");
    lab.ctl_leader(&["cluster", "join", "--id", "4", "--name", "d", "--raft-addr", &addr]);
    wait_until("node d would take over", || {
        let status = lab.cluster_status("d");
        status.is_some_and(|status| {
            status.members.iter().any(|member| member.node_id == 4 && member.not_ready.is_empty())
        })
    });
    load.await_ack();
    let report = load.finish();
    assert!(report.passed && report.unknown == 0, "{report}");
    wait_until("all four have come to the same", || {
        let all = digests(&lab);
        let first = &all[0];
        all.iter().map(|digest| digest.node_id).eq(1..=4)
            && first.digest.is_some()
            && all.iter().all(|digest| (digest.index, &digest.digest) == (first.index, &first.digest))
    });
    // A majority of four is three: with the new node in the place of the standby, the others go on.
    let standby = if lab.leader() == "a" { "b" } else { "a" };
    lab.stop(standby);
    lab.ctl_leader(&["account", "put", "later", "--password", "secret"]);
    lab.heal(standby);
    lab.await_whole();
    lab.ctl_leader(&["cluster", "leave", "4"]);
    drop(running);
    lab.await_whole();
    assert_eq!(lab.cluster_status("w").map(|status| status.members.len()), Some(3));
    let journal = lab.state_dir.join("load.journal");
    let verdict = verify(&lab, &journal);
    assert!(verdict.passed, "{verdict}");
}
