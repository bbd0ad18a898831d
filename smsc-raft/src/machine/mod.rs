//! The replicated state machine: every node applies the same commands and comes to the same state.
//!
//! Pure: no clock, no IO but reads of the checkpoint below. Time comes in the batches, stamped by the leader; the
//! machine keeps the largest stamp seen, so that a failover to a slower clock never turns time back. Equal machines
//! give equal digests ([`Machine::digest`]), whatever lies in the overlay and what in the base.

mod addressed;
mod apply;
pub mod base;
mod checkpoint;
mod encoded;
mod finals;
pub mod keys;
mod links;
mod messages;
mod number_lists;
mod pending;
mod ranges;
mod read;
mod resident;
mod sessions;
pub mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use base::{Base, TableId};
use bytes::Bytes;
pub use checkpoint::Checkpoint;
use finals::Finals;
use keys::{DueKey, QueueKey, WaitingKey};
pub use links::link_id_key;
use pending::Pending;
use resident::Resident;
use smol_str::SmolStr;
use table::{Table, Value};

use crate::model;

/// The newest format of [`model::Batch`] that this version applies.
pub const BATCH_VERSION: u32 = 1;
/// The newest format of a checkpoint that this version reads.
pub const CHECKPOINT_VERSION: u32 = 1;

/// What applying told, for the one who delivers. Only the leader listens.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Stored and waiting: a submission, an MO message or a receipt.
    Queued {
        /// The message.
        message: Arc<model::Message>,
        /// Whether nothing else waits in its queue, which then need not be read.
        alone: bool,
    },
    /// Came to its end and left its queue.
    Finished {
        /// The message.
        id: u64,
        /// The queue it waited in.
        queue: QueueKey,
    },
    /// Another message centre has it and owes the outcome: it left its queue and waits for a report.
    HandedOver {
        /// The message.
        id: u64,
        /// The queue it waited in.
        queue: QueueKey,
    },
    /// Another message centre did not deliver what it had accepted: it waits in its queue again.
    TakenBack(Arc<model::Message>),
    /// An attempt is recorded; the message waits on.
    Retry(Arc<model::Message>),
    /// Its text or times were changed while it waited.
    Replaced(Arc<model::Message>),
    /// A queue is due at once.
    Woken(QueueKey),
    /// The number has a delivery pending flag more.
    Pending(SmolStr),
    /// The number has no delivery pending flags any more: they were told of, or are over.
    NotPending(SmolStr),
    /// Accounts, routes, links, handsets or settings changed.
    Config,
    /// A bind was registered or removed.
    Sessions,
}

/// Where the log stands that the machine has applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    /// Term of the entry's leader.
    pub term: u64,
    /// The leader.
    pub node_id: u64,
    /// The entry.
    pub index: u64,
}

/// See the [module](self).
pub struct Machine {
    base: Arc<dyn Base>,
    applied: Option<Applied>,
    /// Encoded `StoredMembership`: opaque here, the consensus room's own.
    membership: Bytes,
    next_message_id: u64,
    next_session_id: u64,
    next_drill_id: u64,
    next_cdr: u64,
    stamp_ms: u64,
    waiting_count: u64,
    waiting_by_account: BTreeMap<String, u64>,
    purge_from: u64,

    messages: Table<u64, Arc<model::Message>>,
    waiting: Table<WaitingKey, ()>,
    queues: Table<QueueKey, model::Queue>,
    due: Table<DueKey, ()>,
    expiry: Table<(u64, u64), ()>,
    scheduled: Table<(u64, u64), ()>,
    addressed: Table<(u64, u64), ()>,
    /// Earliest time in `scheduled`, `u64::MAX` for none.
    next_scheduled_ms: u64,
    finals: Finals,

    sessions: Resident<u64, model::SessionRecord>,
    accounts: Resident<String, Arc<model::Account>>,
    routes: Resident<(String, String), model::Route>,
    handsets: Resident<String, model::HandsetRange>,
    settings: Resident<String, model::Settings>,
    drills: Resident<u64, model::DrillRecord>,
    number_lists: Resident<String, model::NumberList>,
    number_chunks: Resident<(String, String), model::NumberChunk>,
    lists: Resident<String, model::DistributionList>,
    links: Resident<String, model::Link>,
    link_ids: Table<(String, String), model::LinkIdRow>,
    pending: Pending,
}

impl Machine {
    /// The machine as a checkpoint holds it; new when the base is empty.
    ///
    /// # Errors
    /// The base cannot be read, holds a corrupt record or one of a newer format.
    pub fn open(base: Arc<dyn Base>) -> io::Result<Self> {
        let below = base.as_ref();
        let meta = match below.get(TableId::Meta, b"")? {
            Some(bytes) => <model::CheckpointMeta as prost::Message>::decode(bytes).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("the checkpoint's header cannot be read: {error}"))
            })?,
            None => model::CheckpointMeta { version: CHECKPOINT_VERSION, addressed: true, ..Default::default() },
        };
        if meta.version > CHECKPOINT_VERSION {
            let text = format!(
                "the message store was written by a newer version (format {}, this one knows {CHECKPOINT_VERSION}); \
                 start that version again",
                meta.version
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let applied = (meta.applied_index > 0 || meta.applied_term > 0).then_some(Applied {
            term: meta.applied_term,
            node_id: meta.applied_node,
            index: meta.applied_index,
        });
        let mut machine = Self {
            applied,
            membership: meta.membership,
            next_message_id: meta.next_message_id.max(1),
            next_session_id: meta.next_session_id.max(1),
            next_drill_id: meta.next_drill_id.max(1),
            next_cdr: meta.next_cdr.max(1),
            stamp_ms: meta.stamp_ms,
            waiting_count: meta.waiting,
            waiting_by_account: meta.waiting_by_account,
            purge_from: meta.finals_from,
            messages: Table::new(TableId::Messages),
            waiting: Table::new(TableId::Waiting),
            queues: Table::new(TableId::Queues),
            due: Table::new(TableId::Due),
            expiry: Table::new(TableId::Expiry),
            scheduled: Table::new(TableId::Scheduled),
            addressed: Table::new(TableId::Addressed),
            next_scheduled_ms: u64::MAX,
            finals: Finals::default(),
            sessions: Resident::load(TableId::Sessions, below)?,
            accounts: Resident::load(TableId::Accounts, below)?,
            routes: Resident::load(TableId::Routes, below)?,
            handsets: Resident::load(TableId::Handsets, below)?,
            settings: Resident::load(TableId::Settings, below)?,
            drills: Resident::load(TableId::Drills, below)?,
            number_lists: Resident::load(TableId::NumberLists, below)?,
            number_chunks: Resident::load(TableId::NumberChunks, below)?,
            lists: Resident::load(TableId::Lists, below)?,
            links: Resident::load(TableId::Links, below)?,
            link_ids: Table::new(TableId::LinkIds),
            pending: Pending::load(below)?,
            base,
        };
        machine.find_next_scheduled()?;
        if !meta.addressed {
            machine.address_all()?;
        }
        Ok(machine)
    }

    /// Bytes of memory that the overlay takes, roughly; grows until the next checkpoint.
    pub fn overlay_weight(&self) -> usize {
        self.messages.weight()
            + self.waiting.weight()
            + self.queues.weight()
            + self.due.weight()
            + self.expiry.weight()
            + self.scheduled.weight()
            + self.addressed.weight()
            + self.finals.weight()
            + self.link_ids.weight()
    }

    fn meta(&self) -> model::CheckpointMeta {
        let applied = self.applied.unwrap_or_default();
        model::CheckpointMeta {
            version: CHECKPOINT_VERSION,
            applied_index: applied.index,
            applied_term: applied.term,
            applied_node: applied.node_id,
            membership: self.membership.clone(),
            next_message_id: self.next_message_id,
            next_session_id: self.next_session_id,
            next_drill_id: self.next_drill_id,
            stamp_ms: self.stamp_ms,
            waiting: self.waiting_count,
            waiting_by_account: self.waiting_by_account.clone(),
            finals_from: self.purge_from,
            addressed: true,
            next_cdr: self.next_cdr,
        }
    }

    /// A checksum over the whole state, in memory or on disk: equal for machines that applied the same entries.
    /// Reads everything; for tests and for `smscctl`'s comparison of nodes at rest.
    ///
    /// # Errors
    /// The base cannot be read.
    pub fn digest(&self) -> io::Result<u32> {
        let mut crc = crc32fast::Hasher::new();
        // The counts of an account are exact from the version on that keeps them: not the same on every node.
        let meta = model::CheckpointMeta { waiting_by_account: BTreeMap::new(), ..self.meta() };
        crc.update(&Value::encode(&MetaValue(meta)));
        self.for_each_row(|_, key, value| {
            crc.update(&key);
            crc.update(&value);
        })?;
        Ok(crc.finalize())
    }
}

/// The header as a table value.
#[derive(Clone)]
struct MetaValue(model::CheckpointMeta);

impl Value for MetaValue {
    fn encode(&self) -> Bytes {
        Bytes::from(prost::Message::encode_to_vec(&self.0))
    }
    fn decode(bytes: Bytes) -> Option<Self> {
        <model::CheckpointMeta as prost::Message>::decode(bytes).ok().map(MetaValue)
    }
    fn weight(&self) -> usize {
        128
    }
}
