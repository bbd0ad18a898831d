//! Final records: what is kept of a message once it has come to its end.
//!
//! Neighbouring ids share a row of the base, because messages that arrive together mostly end together: one write for
//! [`BLOCK_IDS`] messages instead of one each.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::base::{Base, TableId};
use super::ranges::Ranges;
use super::table::{Key, Value};
use crate::model::{FinalBlock, FinalRecord};

/// Ids that share a row.
pub const BLOCK_IDS: u64 = 64;

/// Number of the field of [`FinalBlock`] that holds the records.
const RECORDS_FIELD: u32 = 1;

/// Bytes a record costs in memory, roughly.
const RECORD_WEIGHT: usize = 320;

type Layer = BTreeMap<u64, Option<Arc<FinalRecord>>>;

/// The final records, layered as [`super::table::Table`] is.
#[derive(Default)]
pub struct Finals {
    active: Layer,
    frozen: Option<Arc<Layer>>,
    /// Blocks of which nothing is left, though the layers and the base still have their rows: to pass over at once. A
    /// node's own knowledge; what the records are does not depend on it.
    emptied: Ranges,
    /// The same as of the frozen layer; with the next checkpoint their rows go.
    emptied_frozen: Ranges,
}

/// The changes that a checkpoint writes.
pub struct FrozenFinals(Arc<Layer>);

impl Finals {
    /// Bytes of memory the overlay takes, roughly.
    pub fn weight(&self) -> usize {
        self.active.len() * RECORD_WEIGHT
    }

    /// Keeps the record of a message that has just become final.
    pub fn insert(&mut self, record: Arc<FinalRecord>) {
        self.emptied.remove(record.id / BLOCK_IDS);
        self.emptied_frozen.remove(record.id / BLOCK_IDS);
        self.active.insert(record.id, Some(record));
    }

    /// The record of a message.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn get(&self, base: &dyn Base, id: u64) -> io::Result<Option<FinalRecord>> {
        if let Some(record) = self.active.get(&id) {
            return Ok(record.as_deref().cloned());
        }
        if let Some(record) = self.frozen.as_ref().and_then(|layer| layer.get(&id)) {
            return Ok(record.as_deref().cloned());
        }
        let block = read_block(base, id / BLOCK_IDS)?;
        Ok(block.records.into_iter().find(|record| record.id == id))
    }

    /// The records of one block, in order of id.
    fn block(&self, base: &dyn Base, block: u64) -> io::Result<BTreeMap<u64, FinalRecord>> {
        let mut records: BTreeMap<_, _> =
            read_block(base, block)?.records.into_iter().map(|record| (record.id, record)).collect();
        let ids = block * BLOCK_IDS..=block * BLOCK_IDS + (BLOCK_IDS - 1);
        for layer in self.frozen.as_deref().into_iter().chain([&self.active]) {
            for (id, record) in layer.range(ids.clone()) {
                match record {
                    Some(record) => records.insert(*id, (**record).clone()),
                    None => records.remove(id),
                };
            }
        }
        Ok(records)
    }

    /// Up to `limit` records with ids below `below`, newest first.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn newest(&self, base: &dyn Base, below: u64, limit: usize) -> io::Result<Vec<FinalRecord>> {
        let mut found = Vec::new();
        let mut block = below / BLOCK_IDS;
        let mut empty = 0;
        loop {
            let records = self.block(base, block)?;
            empty = if records.is_empty() { empty + 1 } else { 0 };
            found.extend(records.into_values().rev().filter(|record| record.id < below));
            // Ids are dense: a long run of empty blocks is what the retention has dropped.
            if found.len() >= limit || block == 0 || empty > 1024 {
                found.truncate(limit);
                return Ok(found);
            }
            block -= 1;
        }
    }

    /// Drops what became final before `before_ms`, looking at no more than `blocks` blocks from block `from` on.
    /// Returns the block to go on with, 0 when the end was reached.
    ///
    /// Blocks of which nothing is left do not count: how long they lie in the base depends on when this node made its
    /// last checkpoint, and what is dropped must not.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn purge(&mut self, base: &dyn Base, from: u64, before_ms: u64, blocks: usize) -> io::Result<u64> {
        let mut next = from;
        let mut looked_at = 0;
        while looked_at < blocks {
            let Some(block) = self.first_block(base, next)? else {
                return Ok(0);
            };
            next = block + 1;
            let records = self.block(base, block)?;
            if records.is_empty() {
                self.emptied.insert(block);
                continue;
            }
            looked_at += 1;
            // Nothing accepted later than this can be old enough: ids follow the order of acceptance.
            if records.values().all(|record| record.accepted_at_ms >= before_ms) {
                return Ok(0);
            }
            let mut left = records.len();
            for (id, _) in records.iter().filter(|(_, record)| record.final_at_ms < before_ms) {
                self.active.insert(*id, None);
                left -= 1;
            }
            if left == 0 {
                self.emptied.insert(block);
            }
        }
        Ok(next)
    }

    /// The first block from `from` on that may hold a record.
    fn first_block(&self, base: &dyn Base, from: u64) -> io::Result<Option<u64>> {
        let mut from = from;
        loop {
            let row = base.range(TableId::Finals, Bound::Included(&from.to_be_bytes()), 1)?;
            let below = row.first().and_then(|(key, _)| <u64 as Key>::decode(key));
            let layers = self.frozen.as_deref().into_iter().chain([&self.active]);
            let above = layers.filter_map(|layer| layer.range(from * BLOCK_IDS..).next().map(|(id, _)| id / BLOCK_IDS));
            let Some(first) = above.chain(below).min() else { return Ok(None) };
            match self.emptied.end_of(first).or_else(|| self.emptied_frozen.end_of(first)) {
                Some(end) => from = end + 1,
                None => return Ok(Some(first)),
            }
        }
    }

    /// As [`super::table::Table::freeze`].
    pub fn freeze(&mut self) -> FrozenFinals {
        let layer = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(layer.clone());
        self.emptied_frozen = std::mem::take(&mut self.emptied);
        FrozenFinals(layer)
    }

    /// The frozen layer is in the base now.
    pub fn thaw(&mut self) {
        self.frozen = None;
        self.emptied_frozen = Ranges::default();
    }
}

impl FrozenFinals {
    /// Calls `write` for every changed block. `base` is the checkpoint before.
    ///
    /// # Errors
    /// The base cannot be read, or what `write` returned.
    pub fn for_each<E: From<io::Error>>(
        &self,
        base: &dyn Base,
        mut write: impl FnMut(TableId, Bytes, Option<Bytes>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rows = self.0.iter().peekable();
        while let Some((first, _)) = rows.peek() {
            let block = **first / BLOCK_IDS;
            let before = read_block(base, block)?;
            let mut records: BTreeMap<_, _> = before.records.iter().map(|record| (record.id, record)).collect();
            while let Some((id, record)) = rows.next_if(|row| row.0 / BLOCK_IDS == block) {
                match record {
                    Some(record) => records.insert(*id, record),
                    None => records.remove(id),
                };
            }
            let key = Key::encode(&block);
            let value = (!records.is_empty()).then(|| encode_block(records.values().copied()));
            write(TableId::Finals, key, value)?;
        }
        Ok(())
    }
}

/// The bytes of a [`FinalBlock`] of these records, without a copy of each.
fn encode_block<'a>(records: impl Iterator<Item = &'a FinalRecord>) -> Bytes {
    let mut bytes = Vec::new();
    for record in records {
        prost::encoding::message::encode(RECORDS_FIELD, record, &mut bytes);
    }
    bytes.into()
}

fn read_block(base: &dyn Base, block: u64) -> io::Result<FinalBlock> {
    match base.get(TableId::Finals, &block.to_be_bytes())? {
        Some(bytes) => Value::decode(bytes)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a block of final records cannot be read")),
        None => Ok(FinalBlock::default()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::base::{MemoryBase, Row};
    use super::*;

    fn checkpoint(finals: &mut Finals, base: &mut MemoryBase) {
        let before = base.clone();
        let frozen = finals.freeze();
        frozen
            .for_each(&before, |table, key, value| {
                base.write(table, key, value);
                Ok::<_, io::Error>(())
            })
            .unwrap();
        finals.thaw();
    }

    #[test]
    fn a_block_is_encoded_as_its_message_is() {
        let record = |id| FinalRecord { id, account: "a".repeat(id as usize), ..Default::default() };
        let block = FinalBlock { records: vec![record(1), record(300)] };
        assert_eq!(encode_block(block.records.iter()), Value::encode(&block));
    }

    #[test]
    fn a_purge_drops_the_same_whatever_is_checkpointed() {
        let mut nodes = [Finals::default(), Finals::default()];
        let mut bases = [MemoryBase::default(), MemoryBase::default()];
        for (finals, base) in nodes.iter_mut().zip(&mut bases) {
            for id in 0..4 * BLOCK_IDS {
                finals.insert(Arc::new(FinalRecord { id, final_at_ms: 1, ..Default::default() }));
            }
            checkpoint(finals, base);
            assert_eq!(finals.purge(base, 0, 2, 2).unwrap(), 2);
        }
        checkpoint(&mut nodes[0], &mut bases[0]);
        for (finals, base) in nodes.iter_mut().zip(&bases) {
            assert_eq!(finals.purge(base, 0, 2, 1).unwrap(), 3);
            let left = finals.newest(base, 4 * BLOCK_IDS, usize::MAX).unwrap();
            assert_eq!(left.len() as u64, BLOCK_IDS);
        }
    }

    /// Counts the reads.
    struct Counting<'b>(&'b MemoryBase, AtomicU64);

    impl Counting<'_> {
        fn reads(&self) -> u64 {
            self.1.load(Ordering::Relaxed)
        }
    }

    impl Base for Counting<'_> {
        fn get(&self, table: TableId, key: &[u8]) -> io::Result<Option<Bytes>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.get(table, key)
        }

        fn range(&self, table: TableId, from: Bound<&[u8]>, limit: usize) -> io::Result<Vec<Row>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.range(table, from, limit)
        }
    }

    /// Until the next checkpoint the rows of what was dropped are still there; a purge that walked through them again
    /// each time would hold up the log for longer and longer.
    #[test]
    fn a_purge_passes_over_what_those_before_have_dropped() {
        const BLOCKS: u64 = 2_000;
        let mut finals = Finals::default();
        let mut memory = MemoryBase::default();
        let keep = [3, 1_000 * BLOCK_IDS];
        for id in 0..BLOCKS * BLOCK_IDS {
            let final_at_ms = if keep.contains(&id) { 9 } else { 1 };
            finals.insert(Arc::new(FinalRecord { id, final_at_ms, ..Default::default() }));
        }
        checkpoint(&mut finals, &mut memory);
        let base = Counting(&memory, Default::default());
        let mut from = 0;
        let mut passes = 0;
        while passes < 2 {
            let before = base.reads();
            from = finals.purge(&base, from, 5, 64).unwrap();
            passes += u32::from(from == 0);
            let reads = base.reads() - before;
            assert!(reads <= 2 * 64 + 4, "{reads} reads in one step");
        }
        // The second pass has only the two that are left to look at, frozen or not.
        for freeze in [false, true] {
            if freeze {
                finals.freeze();
            }
            let before = base.reads();
            assert_eq!(finals.purge(&base, 0, 5, 64).unwrap(), 0);
            let reads = base.reads() - before;
            assert!(reads <= 12, "{reads} reads");
        }
        // One that comes late is seen all the same.
        finals.insert(Arc::new(FinalRecord { id: 77, final_at_ms: 1, ..Default::default() }));
        finals.purge(&base, 0, 5, 64).unwrap();
        assert_eq!(finals.get(&base, 77).unwrap(), None);
        let left = finals.newest(&base, BLOCKS * BLOCK_IDS, 10).unwrap();
        assert_eq!(left.iter().map(|record| record.id).collect::<Vec<_>>(), [keep[1], keep[0]]);
    }
}
