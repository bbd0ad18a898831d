//! What happens in each round of a campaign. The same seed and number give the same round, in every version.

use std::fmt;
use std::time::Duration;

use crate::sim::chance::Chance;

/// Something that goes wrong on a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// kill -9 of the node.
    Kill,
    /// SIGSTOP of the node's process.
    Freeze,
    /// SIGSTOP of all its processes, the guard among them, as when a virtual machine is paused.
    FreezeHost,
    /// The cable is pulled.
    Cut,
    /// Nothing the host sends arrives.
    Mute,
    /// Nothing arrives at the host.
    Deaf,
    /// The host and the other data host do not reach each other; all else does.
    Split,
    /// So many kbit/s in and out, everything behind waits.
    SlowLink(u32),
    /// The wall clock jumps by so many milliseconds.
    ClockStep(i32),
    /// No byte is left on the disk.
    DiskFull,
    /// The disk writes nothing for so many milliseconds.
    DiskStall(u32),
    /// The node is stopped in an orderly way and started again.
    Restart,
    /// kill -9 of the guard.
    GuardKill,
    /// Leadership is handed over.
    Handover,
}

impl Fault {
    /// Its name without its size.
    pub fn word(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Freeze => "freeze",
            Fault::FreezeHost => "freeze-host",
            Fault::Cut => "cut",
            Fault::Mute => "mute",
            Fault::Deaf => "deaf",
            Fault::Split => "split",
            Fault::SlowLink(_) => "slow-link",
            Fault::ClockStep(_) => "clock-step",
            Fault::DiskFull => "disk-full",
            Fault::DiskStall(_) => "disk-stall",
            Fault::Restart => "restart",
            Fault::GuardKill => "guard-kill",
            Fault::Handover => "handover",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())?;
        match self {
            Fault::SlowLink(kbit) => write!(f, " ({kbit} kbit/s)"),
            Fault::ClockStep(ms) => write!(f, " ({ms:+} ms)"),
            Fault::DiskStall(ms) => write!(f, " ({ms} ms)"),
            _ => Ok(()),
        }
    }
}

/// Whom it befalls, found out when it strikes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victim {
    /// Who leads.
    Leader,
    /// The data host that does not.
    Standby,
    /// The witness.
    Witness,
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Victim::Leader => "leader",
            Victim::Standby => "standby",
            Victim::Witness => "witness",
        })
    }
}

/// One fault of a round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hit {
    /// What.
    pub fault: Fault,
    /// To whom.
    pub victim: Victim,
    /// How long after the one before, or after the round's start.
    pub after: Duration,
}

/// Faults that are there together, and then undone together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    /// Counted from 0.
    pub number: u64,
    /// In the order in which they strike.
    pub hits: Vec<Hit>,
    /// How long they last once all have struck.
    pub hold: Duration,
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {}:", self.number)?;
        for hit in &self.hits {
            write!(f, " after {} ms {} of the {},", hit.after.as_millis(), hit.fault, hit.victim)?;
        }
        write!(f, " for {} ms", self.hold.as_millis())
    }
}

/// What happens in this round.
pub fn round(seed: u64, number: u64) -> Round {
    let mut chance = Chance::new(seed ^ number.wrapping_mul(0xd6e8_feb8_6659_fd93));
    // Neighbouring seeds begin alike.
    chance.any();
    let ms = |chance: &mut Chance, low, high| Duration::from_millis(chance.between(low, high));
    // Several at once in one round of three.
    let count = if chance.one_in(3) { chance.between(2, 3) } else { 1 };
    let hits = (0..count)
        .map(|at| Hit {
            fault: fault(&mut chance),
            victim: victim(&mut chance),
            after: if at == 0 { ms(&mut chance, 0, 300) } else { ms(&mut chance, 0, 600) },
        })
        .collect();
    Round { number, hits, hold: ms(&mut chance, 200, 2500) }
}

fn fault(chance: &mut Chance) -> Fault {
    let sign = |chance: &mut Chance, size: u64| {
        let size = i32::try_from(size).unwrap_or(i32::MAX);
        if chance.one_in(2) { size } else { -size }
    };
    match chance.between(0, 13) {
        0 => Fault::Kill,
        1 => Fault::Freeze,
        2 => Fault::FreezeHost,
        3 => Fault::Cut,
        4 => Fault::Mute,
        5 => Fault::Deaf,
        6 => Fault::Split,
        7 => Fault::SlowLink(u32::try_from(chance.between(1000, 8000)).unwrap_or(u32::MAX)),
        8 => {
            let size = chance.between(100, 60_000);
            Fault::ClockStep(sign(chance, size))
        }
        9 => Fault::DiskFull,
        10 => Fault::DiskStall(u32::try_from(chance.between(200, 4000)).unwrap_or(u32::MAX)),
        11 => Fault::Restart,
        12 => Fault::GuardKill,
        _ => Fault::Handover,
    }
}

fn victim(chance: &mut Chance) -> Victim {
    match chance.between(0, 9) {
        0..=5 => Victim::Leader,
        6..=8 => Victim::Standby,
        _ => Victim::Witness,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_gives_the_same_rounds_and_all_faults_come() {
        let rounds: Vec<Round> = (0..300).map(|number| round(7, number)).collect();
        assert_eq!(rounds, (0..300).map(|number| round(7, number)).collect::<Vec<_>>());
        assert_ne!(rounds[3], round(8, 3));
        let faults: BTreeSet<&str> = rounds.iter().flat_map(|r| &r.hits).map(|hit| hit.fault.word()).collect();
        assert_eq!(faults.len(), 14, "{faults:?}");
        assert!(rounds.iter().any(|round| round.hits.len() > 1));
    }

    #[test]
    fn a_round_is_told_in_one_line() {
        let hit = Hit { fault: Fault::ClockStep(-250), victim: Victim::Leader, after: Duration::from_millis(10) };
        let round = Round { number: 4, hits: vec![hit], hold: Duration::from_millis(900) };
        assert_eq!(round.to_string(), "round 4: after 10 ms clock-step (-250 ms) of the leader, for 900 ms");
    }
}
