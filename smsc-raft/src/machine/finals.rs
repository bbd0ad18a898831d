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
                continue;
            }
            looked_at += 1;
            // Nothing accepted later than this can be old enough: ids follow the order of acceptance.
            if records.values().all(|record| record.accepted_at_ms >= before_ms) {
                return Ok(0);
            }
            for (id, _) in records.iter().filter(|(_, record)| record.final_at_ms < before_ms) {
                self.active.insert(*id, None);
            }
        }
        Ok(next)
    }

    /// The first block from `from` on that may hold a record.
    fn first_block(&self, base: &dyn Base, from: u64) -> io::Result<Option<u64>> {
        let mut layers = self.frozen.as_deref().into_iter().chain([&self.active]);
        let above = layers.by_ref().filter_map(|layer| {
            let mut later = layer.range(from * BLOCK_IDS..).filter(|(_, record)| record.is_some());
            later.next().map(|(id, _)| id / BLOCK_IDS)
        });
        let above = above.min();
        let row = base.range(TableId::Finals, Bound::Included(&from.to_be_bytes()), 1)?;
        let below = row.first().and_then(|(key, _)| <u64 as Key>::decode(key));
        Ok(above.into_iter().chain(below).min())
    }

    /// As [`super::table::Table::freeze`].
    pub fn freeze(&mut self) -> FrozenFinals {
        let layer = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(layer.clone());
        FrozenFinals(layer)
    }

    /// The frozen layer is in the base now.
    pub fn thaw(&mut self) {
        self.frozen = None;
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
    use super::super::base::MemoryBase;
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
}
