//! The daemon's command line as a process: exit codes, and what is said.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const WITNESS: &str = include_str!("../../deploy/config/witness.toml");

fn smsc_node(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_smsc-node")).args(args).output().expect("the program was built for this test")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A configuration on loopback without certificates, ready to be spoilt.
fn written(dir: &Path, change: (&str, &str)) -> String {
    let text = WITNESS
        .replace("10.75.0.", "127.0.0.")
        .lines()
        .filter(|line| !["ca =", "cert =", "key ="].iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect::<String>()
        .replace("#mode = \"mutual\"", "mode = \"off\"")
        .replace("/var/lib/smsc", "data");
    assert!(text.contains(change.0));
    let file = dir.join("node.toml");
    fs::write(&file, text.replacen(change.0, change.1, 1)).unwrap();
    file.display().to_string()
}

#[test]
fn a_good_file_is_checked_and_nothing_is_started() {
    let temp = tempfile::tempdir().unwrap();
    let output = smsc_node(&["check-config", &written(temp.path(), ("", ""))]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("witness node 3 (w) of cluster demo"), "{said}");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn a_bad_file_ends_with_64_and_all_its_problems() {
    let temp = tempfile::tempdir().unwrap();
    let change = ("#heartbeat_ms = 50", "heartbeat_ms = 0\nlease = 3");
    let file = written(temp.path(), change);
    for args in [["check-config", &file], ["--config", &file]] {
        let output = smsc_node(&args);
        assert_eq!(output.status.code(), Some(64));
        let said = stderr(&output);
        for line in [
            "2 problems",
            "raft.heartbeat_ms = 0: must be a whole number from 5 to 10000 milliseconds",
            "raft.lease: unknown key; did you mean `lease_ms`?",
        ] {
            assert!(said.contains(line), "{said}");
        }
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    for args in [&[][..], &["--config"], &["start"], &["--config", "/nonexistent/node.toml"]] {
        let output = smsc_node(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    for args in [["--help"], ["--version"]] {
        assert_eq!(smsc_node(&args).status.code(), Some(0));
    }
}
