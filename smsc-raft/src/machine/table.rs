//! One ordered table: an overlay of changes in memory over the rows of the last checkpoint.
//!
//! A row that is made and removed between two checkpoints never reaches the disk. While a checkpoint is being written
//! its changes are a frozen layer between the overlay and the base.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::base::{Base, TableId};

/// A key whose encoded bytes sort as the key does.
pub trait Key: Ord + Clone {
    /// The key's bytes.
    fn encode(&self) -> Bytes;
    /// The key of these bytes, `None` when they are no key.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// A value as it is stored.
pub trait Value: Clone {
    /// The value's bytes.
    fn encode(&self) -> Bytes;
    /// The value of these bytes, `None` when they are no value.
    fn decode(bytes: Bytes) -> Option<Self>;
    /// Bytes it takes in memory, roughly.
    fn weight(&self) -> usize;
}

impl Value for () {
    fn encode(&self) -> Bytes {
        Bytes::new()
    }
    fn decode(_: Bytes) -> Option<Self> {
        Some(())
    }
    fn weight(&self) -> usize {
        0
    }
}

/// Bytes that a row costs in the overlay beside its value: keys, tree nodes.
const ROW_OVERHEAD: usize = 64;

#[derive(Clone)]
struct Slot<V> {
    /// `None`: removed.
    value: Option<V>,
    /// A layer below may hold the key, so that a removal must be remembered.
    below: bool,
}

type Layer<K, V> = BTreeMap<K, Slot<V>>;

/// The changes of one table that a checkpoint writes.
pub struct Frozen<K, V> {
    id: TableId,
    layer: Arc<Layer<K, V>>,
}

impl<K: Key, V: Value> Frozen<K, V> {
    /// Calls `write` for every changed row, in key order; `None` removes.
    ///
    /// # Errors
    /// What `write` returned.
    pub fn for_each<E>(&self, mut write: impl FnMut(TableId, Bytes, Option<Bytes>) -> Result<(), E>) -> Result<(), E> {
        for (key, slot) in self.layer.iter() {
            if slot.value.is_some() || slot.below {
                write(self.id, key.encode(), slot.value.as_ref().map(Value::encode))?;
            }
        }
        Ok(())
    }
}

/// See the [module](self).
pub struct Table<K, V> {
    id: TableId,
    active: Layer<K, V>,
    frozen: Option<Arc<Layer<K, V>>>,
    weight: usize,
}

impl<K: Key, V: Value> Table<K, V> {
    /// A table without changes.
    pub fn new(id: TableId) -> Self {
        Self { id, active: BTreeMap::new(), frozen: None, weight: 0 }
    }

    /// Bytes of memory that the overlay takes, roughly; without the frozen layer.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn get(&self, base: &dyn Base, key: &K) -> io::Result<Option<V>> {
        match self.active.get(key) {
            Some(slot) => Ok(slot.value.clone()),
            None => Self::get_below(self.id, self.frozen.as_deref(), base, key),
        }
    }

    /// The value of a key, to be changed where it is. What it weighs must stay about the same.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn get_mut(&mut self, base: &dyn Base, key: &K) -> io::Result<Option<&mut V>> {
        match self.active.entry(key.clone()) {
            Entry::Occupied(slot) => Ok(slot.into_mut().value.as_mut()),
            Entry::Vacant(place) => {
                let Some(value) = Self::get_below(self.id, self.frozen.as_deref(), base, key)? else {
                    return Ok(None);
                };
                self.weight += value.weight() + ROW_OVERHEAD;
                Ok(place.insert(Slot { value: Some(value), below: true }).value.as_mut())
            }
        }
    }

    fn get_below(id: TableId, frozen: Option<&Layer<K, V>>, base: &dyn Base, key: &K) -> io::Result<Option<V>> {
        if let Some(slot) = frozen.and_then(|layer| layer.get(key)) {
            return Ok(slot.value.clone());
        }
        match base.get(id, &key.encode())? {
            Some(bytes) => V::decode(bytes).map(Some).ok_or_else(|| corrupt(id)),
            None => Ok(None),
        }
    }

    /// Stores a row whose key was never used before.
    pub fn insert_new(&mut self, key: K, value: V) {
        self.store(key, value, false);
    }

    /// Stores a row, replacing the one that may be there.
    pub fn put(&mut self, key: K, value: V) {
        self.store(key, value, true);
    }

    fn store(&mut self, key: K, value: V, below: bool) {
        self.weight += value.weight() + ROW_OVERHEAD;
        match self.active.entry(key) {
            Entry::Occupied(slot) => slot.into_mut().value = Some(value),
            Entry::Vacant(place) => drop(place.insert(Slot { value: Some(value), below })),
        }
    }

    /// Removes a row if it is there.
    pub fn remove(&mut self, key: &K) {
        match self.active.entry(key.clone()) {
            Entry::Occupied(mut slot) if slot.get().below => slot.get_mut().value = None,
            Entry::Occupied(slot) => {
                let freed = slot.remove().value.as_ref().map_or(0, Value::weight) + ROW_OVERHEAD;
                self.weight = self.weight.saturating_sub(freed);
            }
            Entry::Vacant(place) => {
                self.weight += ROW_OVERHEAD;
                place.insert(Slot { value: None, below: true });
            }
        }
    }

    /// Up to `limit` rows from `from` on while `wanted` says so, in key order.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn range(
        &self,
        base: &dyn Base,
        from: Bound<K>,
        limit: usize,
        mut wanted: impl FnMut(&K) -> bool,
    ) -> io::Result<Vec<(K, V)>> {
        let mut found = Vec::new();
        let bound = (from.clone(), Bound::Unbounded);
        let mut active = self.active.range(bound.clone()).peekable();
        let mut frozen = self.frozen.as_ref().map(|layer| layer.range(bound)).into_iter().flatten().peekable();
        let mut below = BaseCursor::new(self.id, base, &from, limit);
        while found.len() < limit {
            let lowest = [active.peek().map(|row| row.0), frozen.peek().map(|row| row.0), below.peek()?]
                .into_iter()
                .flatten()
                .min()
                .cloned();
            let Some(key) = lowest else { break };
            if !wanted(&key) {
                break;
            }
            let upper = active.next_if(|row| *row.0 == key).map(|row| row.1);
            let middle = frozen.next_if(|row| *row.0 == key).map(|row| row.1);
            let lower = below.take(&key);
            let value = match upper.or(middle) {
                Some(slot) => slot.value.clone(),
                None => lower.map(|bytes| V::decode(bytes).ok_or_else(|| corrupt(self.id))).transpose()?,
            };
            if let Some(value) = value {
                found.push((key, value));
            }
        }
        Ok(found)
    }

    /// Turns the overlay into the frozen layer, for a checkpoint to write.
    ///
    /// # Panics
    /// When the checkpoint before is still being written: our own broken order.
    pub fn freeze(&mut self) -> Frozen<K, V> {
        assert!(self.frozen.is_none(), "a checkpoint of {} is still being written", self.id.name());
        let layer = Arc::new(std::mem::take(&mut self.active));
        self.frozen = Some(layer.clone());
        self.weight = 0;
        Frozen { id: self.id, layer }
    }

    /// Whether a checkpoint is being written.
    pub fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// The frozen layer is in the base now.
    pub fn thaw(&mut self) {
        self.frozen = None;
    }
}

fn corrupt(table: TableId) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "a record of table {} in the message store cannot be read; leave the cluster with this node, empty its data \
             directory and join again",
            table.name()
        ),
    )
}

/// The largest page that is read of the base at once.
const PAGE_ROWS_MAX: usize = 256;

/// Walks the base in pages. The first is of one row, and each of the following four times as large: most walks end with
/// the few rows of a queue, and often with none, whatever lies behind it in the base.
struct BaseCursor<'a, K> {
    id: TableId,
    base: &'a dyn Base,
    page: std::collections::VecDeque<(K, Bytes)>,
    next: Option<Bound<Bytes>>,
    page_rows: usize,
    page_rows_max: usize,
}

impl<'a, K: Key> BaseCursor<'a, K> {
    fn new(id: TableId, base: &'a dyn Base, from: &Bound<K>, limit: usize) -> Self {
        let next = match from {
            Bound::Included(key) => Bound::Included(key.encode()),
            Bound::Excluded(key) => Bound::Excluded(key.encode()),
            Bound::Unbounded => Bound::Unbounded,
        };
        Self {
            id,
            base,
            page: Default::default(),
            next: Some(next),
            page_rows: 1,
            page_rows_max: limit.clamp(1, PAGE_ROWS_MAX),
        }
    }

    fn peek(&mut self) -> io::Result<Option<&K>> {
        if self.page.is_empty()
            && let Some(next) = self.next.take()
        {
            let from = match &next {
                Bound::Included(key) => Bound::Included(key.as_ref()),
                Bound::Excluded(key) => Bound::Excluded(key.as_ref()),
                Bound::Unbounded => Bound::Unbounded,
            };
            let rows = self.base.range(self.id, from, self.page_rows)?;
            if rows.len() == self.page_rows {
                self.next = rows.last().map(|row| Bound::Excluded(row.0.clone()));
            }
            self.page_rows = (self.page_rows * 4).min(self.page_rows_max);
            for (key, value) in rows {
                let key = K::decode(&key).ok_or_else(|| corrupt(self.id))?;
                self.page.push_back((key, value));
            }
        }
        Ok(self.page.front().map(|row| &row.0))
    }

    fn take(&mut self, key: &K) -> Option<Bytes> {
        if self.page.front().is_some_and(|row| row.0 == *key) { self.page.pop_front().map(|row| row.1) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::base::MemoryBase;
    use super::*;
    use proptest::prelude::*;

    impl Value for u8 {
        fn encode(&self) -> Bytes {
            Bytes::copy_from_slice(&[*self])
        }
        fn decode(bytes: Bytes) -> Option<Self> {
            bytes.first().copied()
        }
        fn weight(&self) -> usize {
            1
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(u64, u8),
        Remove(u64),
        Freeze,
        Thaw,
        Range(u64, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..40u64, any::<u8>()).prop_map(|(k, v)| Step::Put(k, v)),
            3 => (0..40u64).prop_map(Step::Remove),
            1 => Just(Step::Freeze),
            1 => Just(Step::Thaw),
            2 => (0..40u64, 1..30usize).prop_map(|(k, n)| Step::Range(k, n)),
        ];
        proptest::collection::vec(step, 1..200)
    }

    proptest! {
        /// Overlay, frozen layer and base together read like one map.
        #[test]
        fn reads_like_a_map(steps in steps()) {
            let mut base = MemoryBase::default();
            let mut pending: Option<Frozen<u64, u8>> = None;
            let mut table = Table::<u64, u8>::new(TableId::Messages);
            let mut model = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Put(k, v) => { table.put(k, v); model.insert(k, v); }
                    Step::Remove(k) => { table.remove(&k); model.remove(&k); }
                    Step::Freeze => if pending.is_none() { pending = Some(table.freeze()); },
                    Step::Thaw => if let Some(frozen) = pending.take() {
                        frozen.for_each(|t, k, v| { base.write(t, k, v); Ok::<_, io::Error>(()) }).unwrap();
                        table.thaw();
                    },
                    Step::Range(k, n) => {
                        let got = table.range(&base, Bound::Included(k), n, |_| true).unwrap();
                        let want: Vec<_> = model.range(k..).take(n).map(|(k, v)| (*k, *v)).collect();
                        prop_assert_eq!(got, want);
                    }
                }
                for k in 0..40 {
                    prop_assert_eq!(table.get(&base, &k).unwrap(), model.get(&k).copied());
                    if let Step::Put(touched, _) = step && k % 8 == touched % 8 {
                        let changed = table.get_mut(&base, &k).unwrap().map(|value| { *value ^= 1; *value });
                        prop_assert_eq!(changed, model.get_mut(&k).map(|value| { *value ^= 1; *value }));
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_made_and_removed_between_checkpoints_is_never_written() {
        let mut table = Table::<u64, u8>::new(TableId::Messages);
        table.insert_new(7, 1);
        table.remove(&7);
        let mut written = 0;
        table
            .freeze()
            .for_each(|_, _, _| {
                written += 1;
                Ok::<_, ()>(())
            })
            .unwrap();
        assert_eq!(written, 0);
    }
}
