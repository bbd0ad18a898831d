//! A short campaign with a fixed seed: all kinds of faults, alone and together, then everything is looked at from
//! outside. `scripts/faults` does as many rounds as one likes.

use smsc_tests::faults::{Campaign, CampaignOptions};
use smsc_tests::lab::{Lab, tell};

const SEED: u64 = 1;
const ROUNDS: u64 = 12;

#[test]
fn nothing_is_lost_and_nothing_has_two_owners_whatever_fails() {
    let Some(lab) = Lab::up_with(&[("SMSC_LAB_DISK_MIB", "512")]) else { return };
    let options = CampaignOptions {
        seed: SEED,
        first: 0,
        rounds: ROUNDS,
        epoch: ROUNDS,
        rate: 300,
        without: Vec::new(),
        keep: std::env::temp_dir().join(format!("smsc-campaign-{}", std::process::id())),
    };
    let summary = Campaign::new(&lab, options, tell).run();
    tell(&summary.to_string());
    assert_eq!(summary.rounds, ROUNDS);
    assert!(summary.acked > 0 && summary.looks > 0, "{summary}");
}
