//! One node: its log, its machine over checkpoints in memory, and whether it runs.

use std::io;
use std::sync::Arc;

use smsc_raft::machine::base::MemoryBase;
use smsc_raft::machine::{Applied, Change, Checkpoint, Machine};
use smsc_raft::outcome::Outcome;

use super::chance::Chance;
use super::log::{Entry, SimLog};
use super::serving::Engaged;

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Running,
    /// Its process is dead until then.
    Dead {
        /// Milliseconds since the beginning.
        until_ms: u64,
    },
    /// It stands still; when it goes on it has no idea, if its clock stood still too.
    Frozen {
        /// Milliseconds since the beginning.
        since_ms: u64,
        /// The same.
        until_ms: u64,
        /// Whether its monotonic clock stood still.
        clock_stood: bool,
    },
}

/// What a node that was elected keeps, until it hears of a newer term.
#[derive(Debug)]
pub struct Leading {
    /// The term.
    pub term: u64,
    /// Index of the entry with which the term began.
    pub first: u64,
    /// What each node has on disk, as far as is known.
    pub matched: Vec<u64>,
    /// What each node is sent next.
    pub next: Vec<u64>,
    /// When the message was sent that each node has answered last.
    pub heard_ms: Vec<u64>,
    /// Until when it may act.
    pub lease_ms: u64,
    /// When the next sign of life is sent.
    pub heartbeat_ms: u64,
    /// It gives leadership away and serves no more.
    pub retired: bool,
}

/// See the [module](self).
pub struct SimNode {
    /// The log.
    pub log: SimLog,
    /// The newest term it knows of.
    pub term: u64,
    /// When it last heard of a leader: it votes for no other for a lease.
    pub promised_ms: u64,
    /// Whether it runs.
    pub life: Life,
    /// Counts the lives of its process.
    pub epoch: u64,
    /// What it keeps as a leader.
    pub leading: Option<Leading>,
    /// What it does as a leader that may act.
    pub engaged: Option<Engaged>,
    /// The machine.
    pub machine: Machine,
    /// The newest entry applied.
    pub applied: u64,
    /// The last checkpoint.
    pub base: Arc<MemoryBase>,
    /// The entry it stands for.
    pub base_index: u64,
    writing: Option<Checkpoint>,
    /// When the next checkpoint begins, or the one under way is written.
    pub checkpoint_ms: u64,
}

impl SimNode {
    /// A node that has never run.
    ///
    /// # Errors
    /// The machine cannot be opened.
    pub fn new() -> io::Result<Self> {
        let base = Arc::new(MemoryBase::default());
        Ok(Self {
            log: SimLog::default(),
            term: 0,
            promised_ms: 0,
            life: Life::Running,
            epoch: 0,
            leading: None,
            engaged: None,
            machine: Machine::open(base.clone())?,
            applied: 0,
            base,
            base_index: 0,
            writing: None,
            checkpoint_ms: 0,
        })
    }

    /// Whether its process does anything.
    pub fn runs(&self) -> bool {
        self.life == Life::Running
    }

    /// The process starts, over what lies on disk.
    ///
    /// # Errors
    /// The machine cannot be opened.
    pub fn restart(&mut self) -> io::Result<()> {
        self.log.crash(self.base_index);
        self.open()
    }

    /// A checkpoint of the leader takes the place of what is here.
    ///
    /// # Errors
    /// The machine cannot be opened.
    pub fn install(&mut self, base: Arc<MemoryBase>, index: u64) -> io::Result<()> {
        (self.base, self.base_index) = (base, index);
        self.open()
    }

    fn open(&mut self) -> io::Result<()> {
        self.writing = None;
        self.machine = Machine::open(self.base.clone())?;
        self.applied = self.machine.applied().map_or(0, |applied| applied.index);
        Ok(())
    }

    /// Applies the next entry that is committed.
    ///
    /// # Errors
    /// The machine cannot be read.
    pub fn apply_next(&mut self, outcomes: &mut Vec<Outcome>, changes: &mut Vec<Change>) -> io::Result<Option<u64>> {
        if self.applied >= self.log.committed() {
            return Ok(None);
        }
        let index = self.applied + 1;
        let entry = self.log.get(index).cloned().expect("what is committed is in the log");
        apply(&mut self.machine, index, &entry, outcomes, changes)?;
        self.applied = index;
        Ok(Some(index))
    }

    /// Begins a checkpoint, or ends the one under way, when it is time.
    ///
    /// # Errors
    /// The machine cannot be read.
    pub fn checkpoint(&mut self, now_ms: u64, chance: &mut Chance) -> io::Result<()> {
        if self.checkpoint_ms > now_ms {
            return Ok(());
        }
        match self.writing.take() {
            Some(checkpoint) => {
                let mut base = (*self.base).clone();
                checkpoint.for_each(|table, key, value| {
                    base.write(table, key, value);
                    Ok::<_, io::Error>(())
                })?;
                self.base_index = checkpoint.applied().map_or(0, |applied| applied.index);
                self.base = Arc::new(base);
                self.machine.checkpoint_written(self.base.clone());
                self.checkpoint_ms = now_ms + chance.between(20, 1_500);
            }
            None => {
                self.writing = Some(self.machine.take_checkpoint());
                self.checkpoint_ms = now_ms + chance.between(1, 120);
            }
        }
        Ok(())
    }
}

/// Applies an entry to a machine.
///
/// # Errors
/// The machine cannot be read.
pub fn apply(
    machine: &mut Machine,
    index: u64,
    entry: &Entry,
    outcomes: &mut Vec<Outcome>,
    changes: &mut Vec<Change>,
) -> io::Result<()> {
    let at = Applied { term: entry.term, node_id: entry.leader as u64, index };
    match &entry.batch {
        Some(batch) => machine.apply(at, batch.clone(), outcomes, changes),
        None => {
            machine.apply_membership(at, None);
            Ok(())
        }
    }
}
