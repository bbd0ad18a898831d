//! How fast the Raft log is, beside what the disk itself can do in the same run.
//!
//! `bench_log [DIR]`: works in a fresh folder in DIR (default: the folder for temporary files, which may be in memory)
//! and removes it again. Entries are of 250 bytes.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;
use smsc_proto::rpc::raft as wire;
use smsc_raft::consensus::types::{Batch, Entry, TypeConfig};
use smsc_raft::convert;
use smsc_raft::storage::log::{LogConfig, LogStore};

type Error = Box<dyn std::error::Error>;

const ENTRY_BYTES: usize = 250;
const EACH: Duration = Duration::from_secs(2);
/// The log is purged down to this many entries, as checkpoints would do.
const KEPT: u64 = 100_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let parent = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(parent)?;

    let mut sync = sync_times(dir.path())?;
    println!(
        "raw write + fdatasync of 4 KiB, preallocated: p50 {:.0} us, p99 {:.0} us",
        us(&mut sync, 50),
        us(&mut sync, 99)
    );
    println!(
        "{:>8} {:>10} {:>12} {:>10} {:>10} {:>12}",
        "batch", "in flight", "entries/s", "p50 us", "p99 us", "per flush"
    );
    for (batch, in_flight) in [(1, 1), (16, 1), (128, 1), (1024, 1), (1, 64), (1, 1024), (16, 64)] {
        let mut run = Run::start(&dir.path().join(format!("log-{batch}-{in_flight}")))?;
        let (entries, mut times) = run.measure(batch, in_flight).await?;
        let per_second = entries as f64 / EACH.as_secs_f64();
        let per_flush = entries as f64 / run.store.monitor().metrics().flushes.max(1) as f64;
        let (p50, p99) = (us(&mut times, 50), us(&mut times, 99));
        println!("{batch:>8} {in_flight:>10} {per_second:>12.0} {p50:>10.0} {p99:>10.0} {per_flush:>12.1}");
    }
    Ok(())
}

/// A log that is being filled.
struct Run {
    store: LogStore,
    payload: Bytes,
    next: u64,
}

impl Run {
    fn start(dir: &Path) -> Result<Self, Error> {
        let store = LogStore::open(LogConfig::new(dir))?;
        Ok(Self { store, payload: vec![7; ENTRY_BYTES].into(), next: 0 })
    }

    /// Appends batches, so many at a time unanswered, and gives the entries written and each batch's time.
    async fn measure(&mut self, batch: usize, in_flight: usize) -> Result<(u64, Vec<Duration>), Error> {
        let begin = Instant::now();
        let mut waiting = VecDeque::new();
        let mut times = Vec::new();
        while begin.elapsed() < EACH || !waiting.is_empty() {
            if begin.elapsed() < EACH && waiting.len() < in_flight {
                let entries: Vec<Entry> = (0..batch).map(|_| self.entry()).collect();
                let (flushed, answer) = TypeConfig::oneshot();
                let sent = Instant::now();
                self.store.append(entries, IOFlushed::signal(flushed)).await?;
                waiting.push_back((sent, answer));
                self.purge().await?;
            } else if let Some((sent, answer)) = waiting.pop_front() {
                answer.await??;
                times.push(sent.elapsed());
            }
        }
        Ok((self.next, times))
    }

    fn entry(&mut self) -> Entry {
        let log_id = convert::log_id::from_wire(&wire::LogId { term: 1, node_id: 1, index: self.next });
        self.next += 1;
        Entry { log_id, payload: EntryPayload::Normal(Batch::from_encoded(self.payload.clone())) }
    }

    async fn purge(&mut self) -> Result<(), Error> {
        let purged = self.store.get_log_state().await?.last_purged_log_id.map_or(0, |id| id.index);
        if self.next > purged + 2 * KEPT {
            let upto = wire::LogId { term: 1, node_id: 1, index: self.next - KEPT };
            self.store.purge(convert::log_id::from_wire(&upto)).await?;
        }
        Ok(())
    }
}

/// What one write and sync costs without any log.
fn sync_times(dir: &Path) -> Result<Vec<Duration>, Error> {
    let file = File::create(dir.join("raw"))?;
    file.write_all_at(&vec![0; 4 << 20], 0)?;
    file.sync_all()?;
    let block = [1; 4096];
    (0..1000)
        .map(|number| {
            let begin = Instant::now();
            file.write_all_at(&block, number * 4096)?;
            file.sync_data()?;
            Ok(begin.elapsed())
        })
        .collect()
}

/// A percentile in microseconds.
fn us(times: &mut [Duration], percentile: usize) -> f64 {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * percentile / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
