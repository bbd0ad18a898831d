//! A log at work: what it answers, refuses, measures, and how it behaves beside its readers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use openraft::EntryPayload;
use openraft::storage::{RaftLogReader as _, RaftLogStorage as _};
use proptest::prelude::*;

use super::super::reader::read_spans;
use super::super::{LogConfig, LogError, LogStore};
use super::model::{Model, Op, Sent, done, entry, log_id, send};
use super::sim::{Fault, Rng, SimDisk};
use crate::consensus::types::{LogId, Vote};

fn open(disk: &SimDisk, cache_bytes: usize) -> LogStore {
    let config = LogConfig { segment_bytes: 64 << 10, cache_bytes, ..LogConfig::new("/log") };
    LogStore::open_on(Arc::new(disk.clone()), config).expect("a disk in order")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Against a plain list, with reopening now and then.
    #[test]
    fn the_log_is_the_list(seed: u64, steps in 1_usize..150, cache_bytes in 0_usize..20_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut rng = Rng(seed);
            let disk = SimDisk::new(seed);
            let mut store = open(&disk, cache_bytes);
            let mut model = Model::default();
            let mut committed = None;
            for _ in 0..steps {
                let op = model.choose(&mut rng);
                if rng.chance(2) {
                    done(&mut store, &op).await.expect("a disk in order");
                } else {
                    send(&mut store, &op).await.expect("a disk in order");
                }
                model.apply(&op);
                if let Op::Committed(id) = op {
                    committed = Some(id);
                }
                if rng.chance(15) {
                    drop(store);
                    store = open(&disk, cache_bytes);
                    let found = store.read_committed().await.expect("a disk in order");
                    assert!(found.is_none() || committed.is_some());
                }
                check_range(&mut store, &model, &mut rng).await;
            }
            assert_eq!(Model::of(&mut store).await, model);
            drop(store);
            assert_eq!(Model::of(&mut open(&disk, cache_bytes)).await, model);
        });
    }
}

/// Reads a range in each way there is.
async fn check_range(store: &mut LogStore, model: &Model, rng: &mut Rng) {
    let from = rng.below(model.next_index() + 3);
    let to = from + rng.below(30);
    let expected: Vec<_> =
        model.entries.iter().filter(|entry| (from..to).contains(&entry.log_id.index)).cloned().collect();
    let mut reader = store.get_log_reader().await;
    assert_eq!(reader.try_get_log_entries(from..to).await.expect("in order"), expected);
    let streamed: Vec<_> = reader.entries_stream(from..to).await.map(|entry| entry.expect("in order")).collect().await;
    assert_eq!(streamed, expected);
    let limited = reader.limited_get_log_entries(from, to).await.expect("in order");
    assert_eq!(limited, expected[..limited.len()]);
    assert_eq!(limited.is_empty(), expected.is_empty());
}

#[tokio::test]
async fn a_reader_beside_the_writer_sees_no_hole_and_no_foreign_entry() {
    let disk = SimDisk::new(3);
    let mut store = open(&disk, 4096);
    let mut reader = store.get_log_reader().await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let reading = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let mut reads = 0_u64;
        while !stopped.load(Ordering::Relaxed) || reads < 10 {
            let entries = runtime.block_on(reader.try_get_log_entries(..)).expect("in order");
            for pair in entries.windows(2) {
                assert_eq!(pair[0].log_id.index + 1, pair[1].log_id.index);
            }
            for found in &entries {
                let EntryPayload::Normal(batch) = &found.payload else { panic!("only batches were appended") };
                let LogId { leader_id, index } = found.log_id;
                assert_eq!(*found, entry(leader_id.term, index, batch.encoded().len()));
            }
            reads += 1;
        }
    });
    let mut rng = Rng(3);
    let mut model = Model::default();
    for _ in 0..1500 {
        let op = model.choose(&mut rng);
        done(&mut store, &op).await.expect("a disk in order");
        model.apply(&op);
    }
    stop.store(true, Ordering::Relaxed);
    reading.join().expect("the reader's checks hold");
    assert_eq!(Model::of(&mut store).await, model);
}

/// Waits until the other thread has no more to do with the disk.
async fn spare_is_ready(disk: &SimDisk) {
    loop {
        let calls = disk.calls();
        tokio::time::sleep(Duration::from_millis(50)).await;
        if calls == disk.calls() {
            return;
        }
    }
}

#[tokio::test]
async fn what_waits_while_the_disk_is_busy_is_flushed_together() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, 1 << 20);
    let monitor = store.monitor();
    done(&mut store, &Op::Append(vec![entry(1, 0, 100)])).await.expect("in order");
    spare_is_ready(&disk).await;
    let before = monitor.metrics();
    let held = disk.hold();
    let mut answers = Vec::new();
    for index in 1..100 {
        answers.push(send(&mut store, &Op::Append(vec![entry(1, index, 100)])).await.expect("in order"));
        if index == 1 {
            while monitor.metrics().last_flush_started.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    let readable = Model::of(&mut store).await;
    assert_eq!(readable.last, Some(log_id(1, 99)), "an entry is readable before it is on disk");
    drop(held);
    for answer in answers {
        let Sent::Waiting(answer) = answer else { panic!("an append waits") };
        answer.await.expect("an answer").expect("in order");
    }
    let after = monitor.metrics();
    assert_eq!(after.flushes - before.flushes, 2, "the first one alone, then all the others");
    assert!(after.bytes_written > before.bytes_written + 99 * 100);
    assert_eq!(after.last_flush_started, None);
}

#[tokio::test]
async fn an_entry_stays_in_memory_until_it_is_on_disk() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, 0);
    spare_is_ready(&disk).await;
    let held = disk.hold();
    let first = send(&mut store, &Op::Append(vec![entry(1, 0, 100)])).await.expect("in order");
    while store.monitor().metrics().last_flush_started.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    send(&mut store, &Op::Append(vec![entry(1, 1, 100)])).await.expect("in order");
    held.allow(2);
    let Sent::Waiting(first) = first else { panic!("an append waits") };
    first.await.expect("an answer").expect("in order");
    assert_eq!(Model::of(&mut store).await.entries, [entry(1, 0, 100), entry(1, 1, 100)]);
}

#[tokio::test]
async fn a_segment_is_not_used_again_while_it_is_read() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, 0);
    let append = async |store: &mut LogStore, indexes: std::ops::Range<u64>| {
        for index in indexes {
            done(store, &Op::Append(vec![entry(1, index, 1000)])).await.expect("in order");
        }
    };
    append(&mut store, 0..100).await;
    let plan = store.shared.lock().plan(0, 50, usize::MAX);
    done(&mut store, &Op::Purge(log_id(1, 99))).await.expect("in order");
    append(&mut store, 100..400).await;
    let (entries, _) = read_spans(&plan.spans, usize::MAX).expect("the segment is still whole");
    assert_eq!(entries, (0..50).map(|index| entry(1, index, 1000)).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stalled_flush_is_seen_and_ends_when_the_stall_does() {
    let disk = SimDisk::new(9);
    let mut store = open(&disk, 1 << 20);
    let monitor = store.monitor();
    assert_eq!(monitor.stalled_for(), Duration::ZERO);
    monitor.stall(Duration::from_secs(3600));
    let sent = send(&mut store, &Op::Append(vec![entry(1, 0, 100)])).await.expect("taken");
    let Sent::Waiting(mut answer) = sent else { panic!("an append waits") };
    tokio::time::timeout(Duration::from_millis(50), &mut answer).await.expect_err("the disk stalls");
    assert!(monitor.stalled_for() >= Duration::from_millis(20));
    monitor.stall(Duration::ZERO);
    answer.await.expect("an answer").expect("in order");
    assert_eq!(monitor.stalled_for(), Duration::ZERO);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_tried_again() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, 1 << 20);
    let monitor = store.monitor();
    done(&mut store, &Op::Append(vec![entry(1, 0, 100)])).await.expect("in order");
    spare_is_ready(&disk).await;
    let held = disk.hold();
    let first = send(&mut store, &Op::Append(vec![entry(1, 1, 100)])).await.expect("in order");
    while monitor.metrics().last_flush_started.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = send(&mut store, &Op::Append(vec![entry(1, 2, 100)])).await.expect("in order");
    let calls = disk.calls();
    disk.fail_at(calls + 2, Fault::Fail);
    drop(held);
    for answer in [first, second] {
        let Sent::Waiting(answer) = answer else { panic!("an append waits") };
        let error = answer.await.expect("an answer").expect_err("the sync failed");
        assert!(error.to_string().contains("cannot sync"), "{error}");
    }
    assert!(matches!(*monitor.failure().borrow(), Some(LogError::Io { action: "sync", .. })));
    for op in [Op::Vote(Vote::new(2, 1)), Op::Truncate(None), Op::Purge(log_id(1, 0)), Op::Committed(log_id(1, 0))] {
        assert!(send(&mut store, &op).await.is_err(), "{op:?}");
    }
    assert!(Model::read(&mut store).await.is_err());
    drop(store);
    assert_eq!(disk.calls(), calls + 2, "one write, one sync");
}

#[tokio::test]
async fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, 0);
    let entries = [entry(1, 0, 500), entry(1, 1, 300_000), entry(1, 2, 5000)];
    for entry in &entries {
        done(&mut store, &Op::Append(vec![entry.clone()])).await.expect("in order");
    }
    drop(store);
    let mut store = open(&disk, 0);
    assert_eq!(Model::of(&mut store).await.entries, entries);
    done(&mut store, &Op::Purge(log_id(1, 2))).await.expect("in order");
    done(&mut store, &Op::Vote(Vote::new(2, 1))).await.expect("in order");
    drop(store);
    assert!(open(&disk, 0).monitor().metrics().disk_bytes < 300_000, "a large file is not kept as a spare");
}

#[tokio::test]
async fn what_would_leave_a_hole_is_refused_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, 1 << 20);
    done(&mut store, &Op::Append(vec![entry(1, 0, 10), entry(1, 1, 10), entry(1, 2, 10)])).await.expect("in order");
    done(&mut store, &Op::Purge(log_id(1, 1))).await.expect("in order");
    let before = Model::of(&mut store).await;
    assert!(send(&mut store, &Op::Append(vec![entry(1, 5, 10)])).await.is_err());
    assert!(send(&mut store, &Op::Append(vec![entry(1, 3, 10), entry(1, 3, 10)])).await.is_err());
    assert!(send(&mut store, &Op::Truncate(Some(log_id(1, 0)))).await.is_err());
    assert!(send(&mut store, &Op::Truncate(None)).await.is_err());
    assert_eq!(Model::of(&mut store).await, before);
    assert!(store.monitor().failure().borrow().is_none());
    done(&mut store, &Op::Append(vec![entry(1, 3, 10)])).await.expect("it goes on");
}

#[tokio::test]
async fn what_is_committed_rides_along() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk, 1 << 20);
    let monitor = store.monitor();
    done(&mut store, &Op::Append(vec![entry(1, 0, 10)])).await.expect("in order");
    let flushes = monitor.metrics().flushes;
    done(&mut store, &Op::Committed(log_id(1, 0))).await.expect("in order");
    assert_eq!(store.read_committed().await.expect("in order"), Some(log_id(1, 0)));
    assert_eq!(monitor.metrics().flushes, flushes, "no flush of its own");
    drop(store);
    let mut store = open(&disk, 1 << 20);
    assert_eq!(store.read_committed().await.expect("in order"), Some(log_id(1, 0)));

    done(&mut store, &Op::Committed(log_id(1, 7))).await.expect("in order");
    done(&mut store, &Op::Vote(Vote::new(2, 1))).await.expect("in order");
    drop(store);
    let mut store = open(&disk, 1 << 20);
    let found = store.read_committed().await.expect("in order");
    assert_eq!(found, Some(log_id(1, 0)), "never ahead of the entries on disk");
}

#[test]
fn a_second_process_is_refused_and_the_first_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = LogConfig { segment_bytes: 64 << 10, ..LogConfig::new(dir.path().join("deep/log")) };
    let first = LogStore::open(config.clone()).expect("an empty directory");
    let error = LogStore::open(config.clone()).err().expect("in use");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    LogStore::open(config).expect("free again");
}

#[test]
fn a_path_that_is_no_directory_is_named() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    std::fs::write(&file, b"keep me").expect("a temporary file");
    let error = LogStore::open(LogConfig::new(&file)).err().expect("no directory");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    assert_eq!(std::fs::read(&file).expect("still there"), b"keep me");
}

#[test]
fn nothing_is_put_into_a_directory_of_others() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (lock, other) = (dir.path().join("LOCK"), dir.path().join("MANIFEST-000001"));
    std::fs::write(&lock, b"not ours").expect("a temporary file");
    std::fs::write(&other, b"not ours").expect("a temporary file");
    let error = LogStore::open(LogConfig::new(dir.path())).err().expect("foreign");
    assert!(error.to_string().contains("MANIFEST-000001"), "{error}");
    assert_eq!(std::fs::read(&lock).expect("still there"), b"not ours");
    assert_eq!(std::fs::read_dir(dir.path()).expect("still there").count(), 2);
}

#[test]
fn a_segment_size_out_of_range_is_refused() {
    let config = LogConfig { segment_bytes: 1000, ..LogConfig::new("/nowhere") };
    let error = LogStore::open(config).err().expect("too small");
    assert_eq!(error.to_string(), "segment_bytes = 1000 is out of range, allowed is 65536 to 1073741824");
}
