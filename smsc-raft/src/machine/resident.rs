//! Small tables that are always whole in memory: accounts, routes, sessions. A checkpoint writes the rows that changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;

use bytes::Bytes;

use super::base::{Base, TableId};
use super::table::{Key, Value};

/// See the [module](self).
pub struct Resident<K, V> {
    id: TableId,
    rows: BTreeMap<K, V>,
    dirty: BTreeSet<K>,
}

impl<K: Key, V: Value> Resident<K, V> {
    /// Reads the whole table.
    ///
    /// # Errors
    /// The base cannot be read or holds a corrupt row.
    pub fn load(id: TableId, base: &dyn Base) -> io::Result<Self> {
        let mut rows = BTreeMap::new();
        let mut from = Bound::Unbounded;
        loop {
            let page = base.range(id, from.as_ref().map(Bytes::as_ref), 1024)?;
            let Some((last, _)) = page.last() else { break };
            from = Bound::Excluded(last.clone());
            for (key, value) in page {
                let corrupt =
                    || io::Error::new(io::ErrorKind::InvalidData, format!("corrupt row in table {}", id.name()));
                rows.insert(K::decode(&key).ok_or_else(corrupt)?, V::decode(value).ok_or_else(corrupt)?);
            }
        }
        Ok(Self { id, rows, dirty: BTreeSet::new() })
    }

    /// The value of a key.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.rows.get(key)
    }

    /// All rows in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> + Clone {
        self.rows.iter()
    }

    /// The rows from a key on, in key order.
    pub fn range(&self, from: Bound<&K>) -> impl Iterator<Item = (&K, &V)> {
        self.rows.range((from, Bound::Unbounded))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Stores a row.
    pub fn put(&mut self, key: K, value: V) {
        self.dirty.insert(key.clone());
        self.rows.insert(key, value);
    }

    /// Removes a row; whether it was there.
    pub fn remove(&mut self, key: &K) -> bool {
        let there = self.rows.remove(key).is_some();
        if there {
            self.dirty.insert(key.clone());
        }
        there
    }

    /// The rows changed since the last call, as a checkpoint writes them.
    pub fn take_changes(&mut self) -> Vec<(TableId, Bytes, Option<Bytes>)> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.into_iter().map(|key| (self.id, key.encode(), self.rows.get(&key).map(Value::encode))).collect()
    }
}
