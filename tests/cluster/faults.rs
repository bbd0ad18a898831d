//! Faults under full load with receipts, five rounds of each: every acknowledged message id ends in exactly one final
//! state and at least one receipt, no id appears twice, none is unknown to the leader that is left, and the address never
//! has two owners.

use std::thread;
use std::time::Duration;

use smsc_tests::lab::{Fault, Lab, tell};
use smsc_tests::owners::OwnerWatch;
use smsc_tests::process::{LoadProcess, verify};

const ROUNDS: usize = 5;
/// Load without a fault, so that each round starts in full swing.
const CALM: Duration = Duration::from_secs(1);

/// Runs `round` five times under load and then looks at everything that was promised.
fn check(what: &str, round: impl Fn(&Lab, &LoadProcess)) {
    let Some(lab) = Lab::up() else { return };
    lab.await_whole();
    let watch = OwnerWatch::start(&lab);
    let load = LoadProcess::start(&lab, &["--sessions", "8", "--window", "20"]);
    for _ in 0..ROUNDS {
        load.await_ack();
        thread::sleep(CALM);
        round(&lab, &load);
        load.await_ack();
        lab.await_whole();
    }
    let journal = load.journal.clone();
    let report = load.finish();
    let owners = watch.finish();
    let verdict = verify(&lab, &journal);
    tell(&format!(
        "{what}: {} acknowledged at {:.0}/s, {} unknown, longest gap {:.0} ms, {} receipts ({} came again), {} tenures of \
         the address, {} of {} ARP requests answered",
        report.acked,
        report.rate_per_s,
        report.unknown,
        report.longest_gap_ms,
        report.receipts,
        report.receipts_repeated,
        owners.tenures,
        owners.answered,
        owners.asked
    ));
    assert_eq!(owners.violations, Vec::<String>::new(), "the address had two owners");
    assert_eq!(owners.held_twice, Vec::<String>::new(), "two hosts held the address");
    assert!(report.passed, "{report}");
    assert!(verdict.passed, "{verdict}");
    assert_eq!(verdict.acked, report.acked, "the journal and the report agree");
}

/// A round of one fault: to the leader, until another node serves, then undone.
fn fault(fault: Fault) -> impl Fn(&Lab, &LoadProcess) {
    move |lab, load| {
        let host = lab.fault(fault, "leader");
        lab.await_other_leader(&host);
        load.await_ack();
        lab.heal(&host);
    }
}

#[test]
fn kill_the_leader() {
    check("kill -9 of the leader", fault(Fault::Kill));
}

#[test]
fn freeze_the_leader() {
    check("freezing the leader", fault(Fault::Freeze));
}

#[test]
fn cut_the_leader_off() {
    check("cutting the leader off", fault(Fault::Cut));
}

#[test]
fn partition_the_leader() {
    check("partitioning the leader", fault(Fault::Partition));
}

#[test]
fn hand_over() {
    check("handover", |lab, _| {
        let leader = lab.leader();
        let output = lab.ctl(&leader, &["cluster", "handover"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        lab.await_other_leader(&leader);
    });
}

#[test]
fn restart_each_node_in_turn() {
    check("restarting each node in turn", |lab, load| {
        for host in ["a", "b", "w"] {
            lab.stop(host);
            load.await_ack();
            lab.heal(host);
            lab.await_whole();
        }
    });
}

/// The leader's quorum is gone for longer than its lease and then there again, with nobody else to lead: it serves anew.
#[test]
fn a_quorum_that_comes_back() {
    check("a quorum that comes back", |lab, load| {
        let standby = lab.fault(Fault::Kill, "standby");
        lab.fault(Fault::Freeze, "w");
        thread::sleep(Duration::from_secs(1));
        lab.heal("w");
        load.await_ack();
        lab.heal(&standby);
    });
}
