//! Many worlds, each from a seed. `SMSC_SIM_SEED` runs one of them, `SMSC_SIM_SECONDS` sets how long to go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use smsc_tests::sim;

/// How long worlds are tried when nobody says.
const SECONDS: u64 = 20;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a whole number, not {text:?}")))
}

/// Lives through one world, and says how to do so again if that ends badly.
fn live(seed: u64) -> u64 {
    let lived = catch_unwind(AssertUnwindSafe(|| sim::run(seed)));
    let text = match lived {
        Ok(Ok(entries)) => return entries,
        Ok(Err(text)) => text,
        Err(_) => "a panic, told above".to_owned(),
    };
    panic!("{text}\nSMSC_SIM_SEED={seed} cargo test -p smsc-tests --test fast sim");
}

#[test]
fn every_world_keeps_what_is_promised() {
    if let Some(seed) = number("SMSC_SIM_SEED") {
        println!("seed {seed}: {} entries", live(seed));
        return;
    }
    let started = Instant::now();
    // A soak looks at worlds that no push has looked at.
    let (first, seconds) = match number("SMSC_SIM_SECONDS") {
        Some(seconds) => {
            (SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs() << 20), seconds)
        }
        None => (1, SECONDS),
    };
    let (mut seed, mut entries) = (first, 0);
    while started.elapsed() < Duration::from_secs(seconds) {
        entries += live(seed);
        seed += 1;
    }
    println!("{} worlds from seed {first} on, {entries} entries", seed - first);
}

#[test]
fn the_same_seed_is_the_same_world() {
    assert_eq!(live(7), live(7));
}
