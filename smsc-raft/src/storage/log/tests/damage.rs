//! Damaged, foreign and full disks: told apart from torn writes, named, and left as they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use openraft::EntryPayload;

use super::super::{LogConfig, LogError, LogStore};
use super::model::{Model, Op, done, entry, log_id, send};
use super::sim::{Rng, SimDisk};
use crate::consensus::types::Vote;

const SEGMENT: u32 = 64 << 10;

fn open(disk: &SimDisk) -> Result<LogStore, LogError> {
    let config = LogConfig { segment_bytes: SEGMENT, cache_bytes: 0, ..LogConfig::new("/log") };
    LogStore::open_on(Arc::new(disk.clone()), config)
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    disk.names().into_iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).collect()
}

async fn fill(store: &mut LogStore, indexes: std::ops::Range<u64>, bytes: usize) {
    for index in indexes {
        done(store, &Op::Append(vec![entry(1, index, bytes)])).await.expect("a disk in order");
    }
}

fn corrupt(result: Result<LogStore, LogError>) -> (PathBuf, u64) {
    match result.err().expect("damage is no log") {
        error @ LogError::Corrupt { .. } => {
            let text = error.to_string();
            assert!(text.contains("/log/") && text.contains("joining it again"), "{text}");
            let LogError::Corrupt { path, offset, .. } = error else { unreachable!("just matched") };
            (path, offset)
        }
        other => panic!("{other}"),
    }
}

/// A disk with entries 0 to 299 in several segments, its last write being entry 299 alone.
async fn several_segments() -> (SimDisk, Model) {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    done(&mut store, &Op::Vote(Vote::new_committed(1, 1))).await.expect("a disk in order");
    fill(&mut store, 0..300, 600).await;
    let model = Model::of(&mut store).await;
    drop(store);
    assert!(segments(&disk).len() >= 3);
    (disk, model)
}

#[tokio::test]
async fn a_flipped_bit_is_reported_and_left_alone() {
    let (disk, whole) = several_segments().await;
    let mut without_last = whole.clone();
    without_last.entries.pop();
    without_last.last = without_last.entries.last().map(|entry| entry.log_id);
    let mut rng = Rng(5);
    let mut reported = 0;
    for _ in 0..400 {
        let paths = segments(&disk);
        let path = &paths[usize::try_from(rng.below(paths.len() as u64)).expect("few")];
        let before = disk.bytes(path);
        let bit = usize::try_from(rng.below(before.len() as u64 * 8)).expect("small");
        disk.tamper(path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let damaged = disk.bytes(path);
        match open(&disk) {
            Ok(mut store) => {
                let found = Model::of(&mut store).await;
                // The last write of all cannot be told from one that was cut short.
                assert!(found == whole || found == without_last, "{} bit {bit}", path.display());
                assert!(found == whole || path == paths.last().expect("several"));
            }
            Err(LogError::Corrupt { path: named, offset, .. }) => {
                reported += 1;
                assert_eq!(&named, path);
                assert!(offset <= bit as u64 / 8, "named {offset} for bit {bit}");
                assert_eq!(disk.bytes(path), damaged);
            }
            Err(LogError::NewerFormat { .. }) => assert!((64..96).contains(&bit)),
            Err(other) => panic!("{other}"),
        }
        disk.tamper(path, |bytes| *bytes = before);
    }
    assert!(reported > 200, "only {reported}");
}

#[tokio::test]
async fn a_lost_segment_is_reported() {
    for position in 0..2 {
        let (disk, _) = several_segments().await;
        let lost = segments(&disk)[position].clone();
        disk.lose(&lost);
        corrupt(open(&disk));
    }
}

#[tokio::test]
async fn a_segment_that_has_lost_all_others_and_its_head_is_reported() {
    let (disk, _) = several_segments().await;
    let paths = segments(&disk);
    let (last, others) = paths.split_last().expect("several");
    others.iter().for_each(|path| disk.lose(path));
    disk.tamper(last, |bytes| bytes[4096..].fill(0));
    assert_eq!(corrupt(open(&disk)), (last.clone(), 4096));
}

#[tokio::test]
async fn a_lost_beginning_is_reported_after_a_purge_too() {
    let (disk, _) = several_segments().await;
    let mut store = open(&disk).expect("in order");
    done(&mut store, &Op::Purge(log_id(1, 150))).await.expect("in order");
    done(&mut store, &Op::Vote(Vote::new(2, 1))).await.expect("in order");
    let purged = Model::of(&mut store).await;
    drop(store);
    let mut store = open(&disk).expect("in order");
    assert_eq!(Model::of(&mut store).await, purged);
    drop(store);
    let first = segments(&disk)[0].clone();
    disk.lose(&first);
    corrupt(open(&disk));
}

#[tokio::test]
async fn damage_found_while_running_stops_the_log() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    fill(&mut store, 0..300, 600).await;
    disk.tamper(&segments(&disk)[0], |bytes| bytes[30_000..40_000].fill(7));
    let error = Model::read(&mut store).await.expect_err("damage");
    assert!(error.to_string().contains("damaged"), "{error}");
    assert!(store.monitor().failure().borrow().is_some());
    assert!(send(&mut store, &Op::Vote(Vote::new(9, 1))).await.is_err());
}

/// The record behind a torn one must not join a log that was continued in front of it.
#[tokio::test]
async fn what_a_torn_write_leaves_behind_never_comes_back() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    fill(&mut store, 0..1, 600).await;
    let path = segments(&disk)[0].clone();
    done(&mut store, &Op::Append(vec![entry(1, 1, 600), entry(1, 2, 600)])).await.expect("in order");
    let EntryPayload::Normal(torn) = entry(1, 1, 600).payload else { unreachable!("a batch") };
    let torn = disk.bytes(&path).windows(600).position(|at| at == torn.encoded()).expect("it is on the disk");
    drop(store);
    disk.tamper(&path, |bytes| bytes[torn] ^= 1);

    let mut store = open(&disk).expect("a torn end is no damage");
    assert_eq!(Model::of(&mut store).await.last, Some(log_id(1, 0)));
    done(&mut store, &Op::Append(vec![entry(2, 1, 600)])).await.expect("in order");
    drop(store);
    let mut store = open(&disk).expect("in order");
    let found = Model::of(&mut store).await;
    assert_eq!(found.entries, [entry(1, 0, 600), entry(2, 1, 600)]);
}

#[tokio::test]
async fn records_of_a_files_earlier_use_are_not_taken_for_new_ones() {
    let disk = SimDisk::new(1);
    let mut store = open(&disk).expect("an empty disk");
    let mut from = 0;
    for round in 1..20 {
        fill(&mut store, from..round * 60, 1000).await;
        from = round * 60;
        done(&mut store, &Op::Purge(log_id(1, from - 2))).await.expect("in order");
        done(&mut store, &Op::Vote(Vote::new(round, 1))).await.expect("in order");
        let before = Model::of(&mut store).await;
        drop(store);
        store = open(&disk).expect("in order");
        assert_eq!(Model::of(&mut store).await, before);
    }
    let numbers = segments(&disk);
    assert!(disk.names().len() < 8, "files are used again: {:?}", disk.names());
    assert!(*numbers[0] > *Path::new("/log/0000000000000005.seg"), "{numbers:?}");
    assert!(store.monitor().metrics().disk_bytes <= 6 * u64::from(SEGMENT));
}

#[tokio::test]
async fn a_full_disk_stops_the_log_and_harms_nothing() {
    let disk = SimDisk::new(1);
    disk.limit(u64::from(SEGMENT) * 3 + 100);
    let mut store = open(&disk).expect("an empty disk");
    let mut model = Model::default();
    let error = loop {
        let op = Op::Append(vec![entry(1, model.next_index(), 900)]);
        match done(&mut store, &op).await {
            Ok(()) => model.apply(&op),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.to_string().contains("make room"), "{error}");
    drop(store);
    let still = open(&disk).err().expect("there is still no room");
    assert!(still.to_string().contains("make room"), "{still}");
    disk.limit(u64::MAX);
    let mut store = open(&disk).expect("room");
    let found = Model::of(&mut store).await;
    assert!(found == model || found.entries.len() == model.entries.len() + 1);
    assert_eq!(found.entries[..model.entries.len()], model.entries);
    let next = found.next_index();
    fill(&mut store, next..next + 3, 900).await;
}

#[tokio::test]
async fn a_foreign_directory_is_refused() {
    let disk = SimDisk::new(1);
    disk.plant(Path::new("/log/holiday.jpg"), b"");
    let error = open(&disk).err().expect("foreign");
    assert!(matches!(error, LogError::Foreign { .. }), "{error}");
    assert_eq!(segments(&disk), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let (disk, _) = several_segments().await;
    for path in segments(&disk) {
        disk.tamper(&path, |bytes| bytes[8] = 9);
    }
    let error = open(&disk).err().expect("newer");
    assert!(matches!(error, LogError::NewerFormat { found: 9, .. }), "{error}");
}
