//! Every call to the disk fails once, or is the last before the power goes; nothing acknowledged is ever lost.

use std::path::Path;
use std::sync::Arc;

use super::super::{LogConfig, LogError, LogStore};
use super::model::{Model, Op, Sent, is_durable_when_done, send};
use super::sim::{Fault, Rng, SimDisk, Survives};
use crate::consensus::types::Vote;

/// How often a log is opened on one disk; the last time without a fault.
const LIVES: u32 = 4;

fn config(rng: &mut Rng) -> LogConfig {
    let cache_bytes = if rng.chance(2) { 0 } else { 8 << 10 };
    LogConfig { segment_bytes: 64 << 10, cache_bytes, ..LogConfig::new("/log") }
}

/// What one life of the log was asked for, and how much of it was answered.
struct Life {
    ops: Vec<Op>,
    acked: usize,
    failed: bool,
}

/// Opens the log, which has to hold one of `possible`, and uses it until it fails or `count` requests are made.
async fn live(disk: &SimDisk, rng: &mut Rng, possible: &[Model], count: usize) -> Result<(Model, Life), LogError> {
    let mut store = LogStore::open_on(Arc::new(disk.clone()), config(rng))?;
    // The fault may hit a read, too; this life was short then.
    let Ok(found) = Model::read(&mut store).await else { return Err(LogError::Stopped) };
    assert!(possible.contains(&found), "found {found:#?}\nbut expected one of {possible:#?}");
    let mut state = found.clone();
    let mut life = Life { ops: Vec::new(), acked: 0, failed: false };
    let mut waiting = Vec::new();
    for _ in 0..count {
        let op = state.choose(rng);
        life.ops.push(op.clone());
        match send(&mut store, &op).await {
            Ok(Sent::Waiting(answer)) => waiting.push((life.ops.len(), answer)),
            Ok(Sent::Done) if is_durable_when_done(&op) => life.acked = life.ops.len(),
            Ok(Sent::Done) => {}
            Err(_) => {
                life.failed = true;
                break;
            }
        }
        state.apply(&op);
        if rng.chance(3)
            && let Some((number, answer)) = waiting.pop()
        {
            match answer.await.expect("an answer") {
                Ok(()) => life.acked = life.acked.max(number),
                Err(_) => life.failed = true,
            }
        }
        if life.failed {
            break;
        }
    }
    if life.failed {
        let failure = store.monitor().failure().borrow().clone().expect("the failure is told");
        for op in [Op::Vote(Vote::new(999, 1)), Op::Append(Vec::new())] {
            let refused = send(&mut store, &op).await.err().expect("a failed log refuses everything");
            assert_eq!(refused.to_string(), failure.to_string());
        }
    }
    drop(store);
    for (number, answer) in waiting {
        match answer.await.expect("an answer") {
            Ok(()) => life.acked = life.acked.max(number),
            Err(_) => life.failed = true,
        }
    }
    Ok((found, life))
}

/// Several lives on one disk, each ended by a fault at some call and then by the loss of power or of the process.
async fn lives(seed: u64, fault_call: u64, fault: Fault) -> bool {
    let mut rng = Rng(seed ^ (fault_call << 20));
    let disk = SimDisk::new(rng.next());
    let mut possible = vec![Model::default()];
    let mut reached = false;
    for life in 0..LIVES {
        let survives = match rng.below(4) {
            0 => Survives::All,
            1 => Survives::Nothing,
            2 => Survives::Prefix,
            _ => Survives::Any,
        };
        if life + 1 < LIVES {
            disk.fail_at(disk.calls() + fault_call, fault);
        }
        let before = disk.calls();
        match live(&disk, &mut rng, &possible, 60).await {
            Ok((found, life)) => possible = found.possible(&life.ops, life.acked),
            Err(error) => assert!(life + 1 < LIVES, "seed {seed}: does not open after the faults: {error}"),
        }
        reached |= life + 1 < LIVES && disk.calls() >= before + fault_call;
        disk.crash(survives);
    }
    assert!(disk.names().iter().all(|name| name.starts_with(Path::new("/log"))));
    reached
}

async fn every_call(fault: Fault, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut call = 1;
        while lives(seed, call, fault).await {
            call += 1;
        }
        assert!(call > 50, "the faults reached only {call} calls");
    }
}

#[tokio::test]
async fn each_call_fails_in_turn() {
    every_call(Fault::Fail, 0..3).await;
}

#[tokio::test]
async fn the_power_goes_at_each_call_in_turn() {
    every_call(Fault::Die, 100..103).await;
}
