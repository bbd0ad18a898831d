//! Two nodes alone: a fence and an operator in the place of a witness, under load, with an outside look at the address
//! and at every acknowledged message.

use std::thread;
use std::time::{Duration, Instant};

use smsc_tests::lab::{Fault, Lab, tell};
use smsc_tests::owners::OwnerWatch;
use smsc_tests::process::{LoadProcess, verify};

const CALM: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(60);

/// What `host` says of itself: outdated, in-sync or sole.
fn standing(lab: &Lab, host: &str) -> Option<String> {
    let status = lab.cluster_status(host)?;
    status.members.into_iter().find(|member| member.name == host)?.pair.map(|pair| pair.standing)
}

fn await_standing(lab: &Lab, host: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    while standing(lab, host).as_deref() != Some(wanted) {
        assert!(Instant::now() < deadline, "{host} is {:?} and not {wanted}", standing(lab, host));
        thread::sleep(Duration::from_millis(50));
    }
}

fn other(host: &str) -> &'static str {
    if host == "a" { "b" } else { "a" }
}

fn id(host: &str) -> &'static str {
    if host == "a" { "1" } else { "2" }
}

/// A pair with this quorum device, watched, while messages are submitted.
fn pair_under_load(device: &str) -> Option<(Lab, OwnerWatch, LoadProcess)> {
    let lab = Lab::pair(device)?;
    lab.await_whole();
    let watch = OwnerWatch::start(&lab);
    let load = LoadProcess::start(&lab, &["--sessions", "4", "--window", "10"]);
    load.await_ack();
    thread::sleep(CALM);
    Some((lab, watch, load))
}

fn check_all(what: &str, lab: &Lab, load: LoadProcess, watch: OwnerWatch) {
    let journal = load.journal.clone();
    let report = load.finish();
    let owners = watch.finish();
    let verdict = verify(lab, &journal);
    tell(&format!("{what}: {} acknowledged, longest gap {:.0} ms", report.acked, report.longest_gap_ms));
    assert_eq!(owners.violations, Vec::<String>::new(), "the address had two owners");
    assert_eq!(owners.held_twice, Vec::<String>::new(), "two hosts held the address");
    assert!(report.passed, "{report}");
    assert!(verdict.passed, "{verdict}");
}

#[test]
fn a_fence_lets_the_survivor_go_on() {
    let Some((lab, watch, load)) = pair_under_load("fence") else { return };

    // The leader dies; the survivor goes on alone, also after it has died itself and started alone.
    let dead = lab.fault(Fault::Kill, "leader");
    let survivor = lab.await_other_leader(&dead);
    load.await_ack();
    assert_eq!(standing(&lab, &survivor).as_deref(), Some("sole"));
    lab.fault(Fault::Kill, &survivor);
    lab.heal(&survivor);
    lab.await_other_leader(&dead);
    load.await_ack();

    // The other one starts stale while the survivor is down: it stands still.
    lab.fault(Fault::Kill, &survivor);
    lab.heal(&dead);
    await_standing(&lab, &dead, "outdated");
    thread::sleep(CALM * 3);
    assert_eq!(standing(&lab, &dead).as_deref(), Some("outdated"));
    let refused = lab.ctl(&dead, &["cluster", "takeover", "--peer-is-down", id(&survivor), "--yes"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("cannot know"), "{said}");

    lab.heal(&survivor);
    lab.await_whole();
    load.await_ack();

    // Both live and do not reach each other: one of them goes on.
    let cut = lab.fault(Fault::Partition, "leader");
    let deadline = Instant::now() + PATIENCE;
    let sole = |host: &str| standing(&lab, host).as_deref() == Some("sole");
    while !(sole("a") || sole("b")) {
        assert!(Instant::now() < deadline, "neither node goes on");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(!(sole("a") && sole("b")), "both go on");
    lab.heal(&cut);
    lab.heal(other(&cut));
    lab.await_whole();
    load.await_ack();
    check_all("fence", &lab, load, watch);
}

#[test]
fn a_gateway_lets_the_survivor_go_on_and_stops_who_is_cut_off() {
    let Some((lab, watch, load)) = pair_under_load("gateway") else { return };

    let dead = lab.fault(Fault::Kill, "leader");
    let survivor = lab.await_other_leader(&dead);
    load.await_ack();
    assert_eq!(standing(&lab, &survivor).as_deref(), Some("sole"));
    lab.heal(&dead);
    lab.await_whole();

    // A leader that is cut off hears no gateway: the other one goes on, and it alone.
    let cut = lab.fault(Fault::Cut, "leader");
    lab.await_other_leader(&cut);
    load.await_ack();
    thread::sleep(CALM * 3);
    assert_ne!(standing(&lab, &cut).as_deref(), Some("sole"));
    lab.heal(&cut);
    lab.await_whole();
    load.await_ack();

    check_all("a pair with a gateway", &lab, load, watch);
}

#[test]
fn an_operator_lets_the_survivor_go_on() {
    let Some((lab, watch, load)) = pair_under_load("operator") else { return };

    let leader = lab.leader();
    let standby = other(&leader);
    let takeover = |host: &str, down: &str| {
        let output = lab.ctl(host, &["cluster", "takeover", "--peer-is-down", down, "--yes"]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (done, said) = takeover(standby, id(&leader));
    assert!(!done && said.contains("it is not down"), "{said}");
    let (done, said) = takeover(standby, "9");
    assert!(!done && said.contains("not the peer"), "{said}");

    lab.fault(Fault::Kill, &leader);
    // As soon as the lease of the dead leader is over for certain.
    let deadline = Instant::now() + PATIENCE;
    while !takeover(standby, id(&leader)).0 {
        assert!(Instant::now() < deadline, "refused for ever: {}", takeover(standby, id(&leader)).1);
        thread::sleep(Duration::from_millis(200));
    }
    lab.await_other_leader(&leader);
    load.await_ack();
    lab.heal(&leader);
    lab.await_whole();

    // A node that is stopped leaves everything to its peer: no word is needed.
    let leader = lab.leader();
    lab.stop(&leader);
    lab.await_other_leader(&leader);
    load.await_ack();
    lab.heal(&leader);
    lab.await_whole();
    check_all("operator", &lab, load, watch);
}
