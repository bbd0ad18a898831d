//! What lies below the overlay: the last checkpoint, as the machine reads it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use bytes::Bytes;

/// The tables of the store. Their names and numbers are part of the disk and snapshot format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TableId {
    /// [`crate::model::CheckpointMeta`], one row with the empty key.
    Meta,
    /// Message id -> [`crate::model::Message`], those without a final state.
    Messages,
    /// (queue, priority, id) of every message that waits in a queue.
    Waiting,
    /// Queue -> [`crate::model::Queue`].
    Queues,
    /// (due time, number) of every queue towards a number.
    Due,
    /// (expiry time, id) of every message.
    Expiry,
    /// (time, id) of every message whose scheduled time has not come.
    Scheduled,
    /// Block of ids -> [`crate::model::FinalBlock`].
    Finals,
    /// Session id -> [`crate::model::SessionRecord`].
    Sessions,
    /// system_id -> [`crate::model::Account`].
    Accounts,
    /// (account, prefix) -> [`crate::model::Route`].
    Routes,
    /// Prefix -> [`crate::model::HandsetRange`].
    Handsets,
    /// [`crate::model::Settings`], one row with the empty key.
    Settings,
    /// Drill id -> [`crate::model::DrillRecord`].
    Drills,
    /// Name -> [`crate::model::NumberList`].
    NumberLists,
    /// (list, generation and index) -> [`crate::model::NumberChunk`].
    NumberChunks,
    /// (hash of account, source and destination, id) of every submitted message, see [`super::keys::address_hash`].
    Addressed,
    /// Name -> [`crate::model::DistributionList`].
    Lists,
    /// Name -> [`crate::model::Link`].
    Links,
    /// (link, message_id of its message centre) -> [`crate::model::LinkIdRow`], for receipts that are waited for.
    LinkIds,
    /// (number, account) -> [`crate::model::DeliveryPending`].
    Pending,
}

impl TableId {
    /// Every table, in the order a snapshot sends them.
    pub const ALL: [TableId; 21] = [
        TableId::Meta,
        TableId::Messages,
        TableId::Waiting,
        TableId::Queues,
        TableId::Due,
        TableId::Expiry,
        TableId::Scheduled,
        TableId::Finals,
        TableId::Sessions,
        TableId::Accounts,
        TableId::Routes,
        TableId::Handsets,
        TableId::Settings,
        TableId::Drills,
        TableId::NumberLists,
        TableId::NumberChunks,
        TableId::Addressed,
        TableId::Lists,
        TableId::Links,
        TableId::LinkIds,
        TableId::Pending,
    ];

    /// The table's name on disk and in snapshots.
    pub fn name(self) -> &'static str {
        match self {
            TableId::Meta => "meta",
            TableId::Messages => "messages",
            TableId::Waiting => "waiting",
            TableId::Queues => "queues",
            TableId::Due => "due",
            TableId::Expiry => "expiry",
            TableId::Scheduled => "scheduled",
            TableId::Finals => "finals",
            TableId::Sessions => "sessions",
            TableId::Accounts => "accounts",
            TableId::Routes => "routes",
            TableId::Handsets => "handsets",
            TableId::Settings => "settings",
            TableId::Drills => "drills",
            TableId::NumberLists => "number_lists",
            TableId::NumberChunks => "number_chunks",
            TableId::Addressed => "addressed",
            TableId::Lists => "lists",
            TableId::Links => "links",
            TableId::LinkIds => "link_ids",
            TableId::Pending => "pending",
        }
    }

    /// The table of this name.
    pub fn from_name(name: &str) -> Option<TableId> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }
}

/// A row: key and value.
pub type Row = (Bytes, Bytes);

/// A consistent, unchanging view of a checkpoint.
pub trait Base: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// The disk failed or the store is corrupt: the node stops.
    fn get(&self, table: TableId, key: &[u8]) -> io::Result<Option<Bytes>>;

    /// Up to `limit` rows from `from` on, in key order.
    ///
    /// # Errors
    /// As for [`Base::get`].
    fn range(&self, table: TableId, from: Bound<&[u8]>, limit: usize) -> io::Result<Vec<Row>>;
}

/// A checkpoint in memory: empty for a new node, filled for simulations.
#[derive(Default, Clone)]
pub struct MemoryBase {
    tables: BTreeMap<TableId, BTreeMap<Bytes, Bytes>>,
}

impl MemoryBase {
    /// Applies what a checkpoint would write.
    pub fn write(&mut self, table: TableId, key: Bytes, value: Option<Bytes>) {
        let rows = self.tables.entry(table).or_default();
        match value {
            Some(value) => rows.insert(key, value),
            None => rows.remove(&key),
        };
    }
}

impl Base for MemoryBase {
    fn get(&self, table: TableId, key: &[u8]) -> io::Result<Option<Bytes>> {
        Ok(self.tables.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn range(&self, table: TableId, from: Bound<&[u8]>, limit: usize) -> io::Result<Vec<Row>> {
        let Some(rows) = self.tables.get(&table) else {
            return Ok(Vec::new());
        };
        let rows = rows.range::<[u8], _>((from, Bound::Unbounded)).take(limit);
        Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
