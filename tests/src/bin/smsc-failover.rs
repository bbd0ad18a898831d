//! `smsc-failover`: how long ESMEs are without service, beside keepalived; started by scripts/bench failover. Needs root.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use smsc_tests::failover::event::Event;
use smsc_tests::failover::ours::{Ours, Round};
use smsc_tests::failover::spread::Spread;
use smsc_tests::failover::vrrp::{self, Vrrp};
use smsc_tests::lab::tell;
use smsc_tests::owners::Owners;

/// Where no longest outage is wanted, the logs are kept of those that are so many times the median wanted.
const OUTLIER: f64 = 5.0;

/// Outages that an ESME sees which reconnects at once, from its last acknowledgement to the next, under load in network
/// namespaces; beside them keepalived with adverts every 0.1 s, from the event to the other host's first answer.
///
/// Exit code 0: every figure is as wanted; 1: one is not, or a round failed.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Rounds of each event.
    #[arg(default_value_t = 20)]
    rounds: usize,
    /// Only these events.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Event::ALL)]
    events: Vec<Event>,
    /// Messages per second beside the probe; 0 for none.
    #[arg(long, default_value_t = 4000)]
    rate: u32,
    /// Receivers that are bound and idle.
    #[arg(long, default_value_t = 1)]
    idle: usize,
    /// Messages that are stored and wait.
    #[arg(long, default_value_t = 0)]
    stored: u64,
    /// Do not measure keepalived.
    #[arg(long)]
    without_keepalived: bool,
    /// Name of the lab.
    #[arg(long, default_value = "bench")]
    name: String,
    /// Its network; keepalived's is the one behind it.
    #[arg(long, default_value = "10.77.0")]
    net: String,
    /// Where the logs of rounds are kept that took longer than wanted.
    #[arg(long, default_value = "failover-logs")]
    keep: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// The trivial server beside keepalived.
    #[command(hide = true)]
    ServeName {
        /// Of its host.
        name: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(Command::ServeName { name }) = &arguments.command {
        return match vrrp::serve_name(name) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the trivial server cannot listen: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut good = true;
    println!(
        "{:<14} {:>20} {:>9} {:>9} {:>20} {:>20}  verdict",
        "EVENT", "min/median/max ms", "WANTED", "MAX", "idle told, ms", "keepalived, ms"
    );
    let beside = if arguments.without_keepalived { Vec::new() } else { keepalived(&arguments) };
    let mut ours = Ours::start(&arguments.name, &arguments.net, arguments.rate, arguments.idle, arguments.stored);
    for event in &arguments.events {
        let rounds = measure(&mut ours, *event, &arguments);
        let theirs = beside.iter().find(|(measured, _)| measured == event).and_then(|(_, spread)| *spread);
        good &= row(*event, &rounds, arguments.rounds, theirs);
    }
    let owners = ours.finish();
    good &= owners.violations.is_empty();
    println!("owners of the address: {}", told(&owners));
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(ours: &mut Ours, event: Event, arguments: &Arguments) -> Vec<Round> {
    let (median, longest) = event.wanted_ms();
    let longest = longest.unwrap_or(median * OUTLIER);
    let mut rounds = Vec::new();
    for number in 0..arguments.rounds {
        let keep = arguments.keep.join(format!("{event}-{number}").replace(' ', "-"));
        match ours.round(event, longest, &keep) {
            Ok(round) => {
                tell(&format!("{event} {number}: {:.0} ms, told {:?}", round.outage_ms, round.told_ms));
                rounds.push(round);
            }
            Err(text) => tell(&format!("{event} {number}: FAILED: {text}")),
        }
    }
    rounds
}

fn row(event: Event, rounds: &[Round], wanted_rounds: usize, theirs: Option<Spread>) -> bool {
    let shown = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| spread.to_string());
    let outages = Spread::of(&rounds.iter().map(|round| round.outage_ms).collect::<Vec<_>>());
    let told = Spread::of(&rounds.iter().filter_map(|round| round.told_ms).collect::<Vec<_>>());
    let (median, longest) = event.wanted_ms();
    let good = rounds.len() == wanted_rounds
        && outages
            .is_some_and(|outages| outages.median <= median && longest.is_none_or(|longest| outages.max <= longest));
    let failed = wanted_rounds - rounds.len();
    println!(
        "{event:<14} {:>20} {median:>9} {:>9} {:>20} {:>20}  {}{}",
        shown(outages),
        longest.map_or_else(|| "-".to_owned(), |longest| longest.to_string()),
        shown(told),
        shown(theirs),
        if good { "reached" } else { "MISSED" },
        if failed > 0 { format!(", {failed} rounds failed") } else { String::new() }
    );
    good
}

fn keepalived(arguments: &Arguments) -> Vec<(Event, Option<Spread>)> {
    let mut vrrp = Vrrp::start(&format!("{}-vrrp", arguments.name), &next_net(&arguments.net));
    let mut measured = Vec::new();
    for event in &arguments.events {
        let mut figures = Vec::new();
        for number in 0..arguments.rounds {
            match vrrp.round(*event) {
                Ok(ms) => figures.push(ms),
                Err(text) => tell(&format!("keepalived, {event} {number}: {text}")),
            }
        }
        measured.push((*event, Spread::of(&figures)));
    }
    println!("owners of keepalived's address: {}", told(&vrrp.finish()));
    measured
}

/// The /24 behind this one, for a lab beside it.
fn next_net(net: &str) -> String {
    match net.rsplit_once('.').map(|(head, last)| (head, last.parse::<u8>())) {
        Some((head, Ok(last))) => format!("{head}.{}", last.wrapping_add(1)),
        _ => net.to_owned(),
    }
}

fn told(owners: &Owners) -> String {
    let looks = owners.asked + owners.knocked;
    let held = match owners.held_twice.len() {
        0 => "never on two interfaces".to_owned(),
        times => format!("on two interfaces {times} times, as when a host is frozen ({})", owners.held_twice[0]),
    };
    match owners.violations.len() {
        0 => format!("one or none in each of {looks} looks, {held}"),
        times => format!("TWO in {times} of {looks} looks (first: {}), {held}", owners.violations[0]),
    }
}
