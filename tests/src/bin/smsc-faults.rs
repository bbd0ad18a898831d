//! `smsc-faults`: the fault campaign, started by scripts/faults. Needs root.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use smsc_tests::faults::{Campaign, CampaignOptions};
use smsc_tests::lab::{Lab, tell};

/// Faults from a seed, under load with receipts, in a lab of real processes; then a judge who trusts nobody.
///
/// Exit code 0: all was as promised; 1: it was not, and the last line replays it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Chooses what happens.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Rounds to do; each has one fault, or up to three at once.
    #[arg(long, default_value_t = 20)]
    rounds: u64,
    /// The first of them, to go on where another run ended or to replay a part.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Rounds under one load; after them everything is looked at.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=1000))]
    epoch: u64,
    /// Messages per second.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// Leave these faults out: kill, freeze, freeze-host, cut, mute, deaf, split, slow-link, clock-step, disk-full,
    /// disk-stall, restart, guard-kill, handover.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Name of the lab; labs of different names and networks run side by side.
    #[arg(long, default_value = "faults")]
    name: String,
    /// Its network.
    #[arg(long, default_value = "10.78.0")]
    net: String,
    /// Size of each node's disk, MiB.
    #[arg(long, default_value_t = 512)]
    disk_mib: u32,
    /// Where logs and journals are kept if something goes wrong; a folder of its own beside without.
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let disk_mib = arguments.disk_mib.to_string();
    let lab = Lab::named(&arguments.name, &arguments.net, &["up"], &[("SMSC_LAB_DISK_MIB", &disk_mib)]);
    // Every epoch is looked at before its messages are forgotten, and the small disk is not filled by old ones.
    let output = lab.ctl(&lab.leader(), &["settings", "set", "--final-retention-s", "900"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let options = CampaignOptions {
        seed: arguments.seed,
        first: arguments.first,
        rounds: arguments.rounds,
        epoch: arguments.epoch,
        rate: arguments.rate,
        without: arguments.without,
        keep: arguments.keep.unwrap_or_else(|| format!("faults-{}-{}", arguments.seed, arguments.first).into()),
    };
    // What went wrong is told at the end, once.
    std::panic::set_hook(Box::new(|_| {}));
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Campaign::new(&lab, options, tell).run()));
    match done {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map_or("it ended without a word", String::as_str);
            eprintln!("FAILED: {text}");
            ExitCode::FAILURE
        }
    }
}
