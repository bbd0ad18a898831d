//! The log of one node: what is written, what of it has reached the disk, what is committed.
//!
//! The rules are those of Raft (an entry is found by term and index, a conflict cuts off the tail, only what a majority
//! has on disk is committed); the engine that the product uses for it is tested elsewhere.

use std::sync::Arc;

use smsc_raft::model::Batch;

/// An entry of the log.
#[derive(Debug)]
pub struct Entry {
    /// Term of the leader that wrote it.
    pub term: u64,
    /// That leader.
    pub leader: usize,
    /// The commands; `None` for the entry with which a term begins.
    pub batch: Option<Batch>,
}

/// See the [module](self). Indexes begin at 1.
#[derive(Debug, Default)]
pub struct SimLog {
    entries: Vec<Arc<Entry>>,
    durable: u64,
    committed: u64,
}

impl SimLog {
    /// Index of the last entry.
    pub fn last_index(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Term and index of the last entry: the greater, the newer the log.
    pub fn last(&self) -> (u64, u64) {
        (self.term_at(self.last_index()).unwrap_or_default(), self.last_index())
    }

    /// Term of an entry; 0 for the place in front of the first.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == 0 { Some(0) } else { self.get(index).map(|entry| entry.term) }
    }

    /// An entry.
    pub fn get(&self, index: u64) -> Option<&Arc<Entry>> {
        self.entries.get(usize::try_from(index).ok()?.checked_sub(1)?)
    }

    /// The entries behind an index.
    pub fn behind(&self, index: u64) -> Vec<Arc<Entry>> {
        self.entries.get(index as usize..).unwrap_or_default().to_vec()
    }

    /// The entries up to an index.
    pub fn up_to(&self, index: u64) -> Vec<Arc<Entry>> {
        self.entries[..index as usize].to_vec()
    }

    /// Index up to which everything is committed, as far as this node knows.
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// A leader writes an entry of its own.
    pub fn append(&mut self, entry: Entry) -> u64 {
        self.entries.push(Arc::new(entry));
        self.last_index()
    }

    /// A follower writes what its leader sent behind `previous`.
    ///
    /// # Errors
    /// A committed entry would be overwritten: its index.
    pub fn accept(&mut self, previous: u64, entries: &[Arc<Entry>]) -> Result<(), u64> {
        for (index, entry) in (previous + 1..).zip(entries) {
            match self.get(index) {
                Some(there) if there.term == entry.term => continue,
                Some(_) if index <= self.committed => return Err(index),
                Some(_) => self.cut(index - 1),
                None => {}
            }
            self.entries.push(entry.clone());
        }
        Ok(())
    }

    /// Everything up to an index is on disk.
    pub fn flushed(&mut self, index: u64) {
        self.durable = self.durable.max(index.min(self.last_index()));
    }

    /// Everything up to an index is known to be committed; what is not on disk here yet counts later.
    pub fn commit(&mut self, index: u64) {
        self.committed = self.committed.max(index.min(self.durable));
    }

    /// What a snapshot stands for is taken over as it is.
    ///
    /// # Errors
    /// A committed entry would be overwritten: its index.
    pub fn install(&mut self, entries: &[Arc<Entry>]) -> Result<(), u64> {
        self.accept(0, entries)?;
        self.flushed(entries.len() as u64);
        self.commit(entries.len() as u64);
        Ok(())
    }

    /// The process dies: what is not on disk is lost, and so is the knowledge of what was committed behind `kept`.
    pub fn crash(&mut self, kept: u64) {
        self.cut(self.durable);
        self.committed = kept;
    }

    fn cut(&mut self, last: u64) {
        self.entries.truncate(last as usize);
        self.durable = self.durable.min(last);
    }
}
