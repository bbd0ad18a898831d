//! Checkpoints: the overlay's net effect, written below while the machine goes on.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::base::{Base, TableId};
use super::finals::FrozenFinals;
use super::keys::{DueKey, QueueKey, WaitingKey};
use super::table::{Frozen, Value};
use super::{Applied, Machine, MetaValue};
use crate::model;

/// The changes since the last checkpoint, to be written in one transaction on top of the base they were made on.
pub struct Checkpoint {
    applied: Option<Applied>,
    base: Arc<dyn Base>,
    messages: Frozen<u64, Arc<model::Message>>,
    waiting: Frozen<WaitingKey, ()>,
    queues: Frozen<QueueKey, model::Queue>,
    due: Frozen<DueKey, ()>,
    expiry: Frozen<(u64, u64), ()>,
    scheduled: Frozen<(u64, u64), ()>,
    addressed: Frozen<(u64, u64), ()>,
    finals: FrozenFinals,
    link_ids: Frozen<(String, String), model::LinkIdRow>,
    small: Vec<(TableId, Bytes, Option<Bytes>)>,
}

impl Checkpoint {
    /// The last entry it holds the effect of.
    pub fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// Calls `write` for every changed row; `None` removes it.
    ///
    /// # Errors
    /// The base cannot be read, or what `write` returned: nothing of the checkpoint may be kept then.
    pub fn for_each<E: From<io::Error>>(
        &self,
        mut write: impl FnMut(TableId, Bytes, Option<Bytes>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.messages.for_each(&mut write)?;
        self.waiting.for_each(&mut write)?;
        self.queues.for_each(&mut write)?;
        self.due.for_each(&mut write)?;
        self.expiry.for_each(&mut write)?;
        self.scheduled.for_each(&mut write)?;
        self.addressed.for_each(&mut write)?;
        self.finals.for_each(self.base.as_ref(), &mut write)?;
        self.link_ids.for_each(&mut write)?;
        for (table, key, value) in &self.small {
            write(*table, key.clone(), value.clone())?;
        }
        Ok(())
    }
}

impl Machine {
    /// Takes the changes since the last checkpoint. The machine goes on at once; [`Machine::checkpoint_written`] must
    /// follow before the next one is taken.
    ///
    /// # Panics
    /// When the checkpoint before was never reported as written.
    pub fn take_checkpoint(&mut self) -> Checkpoint {
        let mut small = vec![(TableId::Meta, Bytes::new(), Some(MetaValue(self.meta()).encode()))];
        small.extend(self.sessions.take_changes());
        small.extend(self.accounts.take_changes());
        small.extend(self.routes.take_changes());
        small.extend(self.handsets.take_changes());
        small.extend(self.settings.take_changes());
        small.extend(self.drills.take_changes());
        small.extend(self.number_lists.take_changes());
        small.extend(self.number_chunks.take_changes());
        small.extend(self.lists.take_changes());
        small.extend(self.links.take_changes());
        small.extend(self.pending.take_changes());
        Checkpoint {
            applied: self.applied,
            base: self.base.clone(),
            messages: self.messages.freeze(),
            waiting: self.waiting.freeze(),
            queues: self.queues.freeze(),
            due: self.due.freeze(),
            expiry: self.expiry.freeze(),
            scheduled: self.scheduled.freeze(),
            addressed: self.addressed.freeze(),
            finals: self.finals.freeze(),
            link_ids: self.link_ids.freeze(),
            small,
        }
    }

    /// Whether a checkpoint was taken and never reported as written.
    pub fn is_frozen(&self) -> bool {
        self.messages.is_frozen()
    }

    /// The checkpoint moved to another file; `base` is a view of the same content there.
    ///
    /// # Panics
    /// When a checkpoint is being written, which is then missing there.
    pub fn rebase(&mut self, base: Arc<dyn Base>) -> Arc<dyn Base> {
        assert!(!self.is_frozen(), "the store moved while a checkpoint was being written");
        std::mem::replace(&mut self.base, base)
    }

    /// The checkpoint is on disk; `base` is a view of it. Gives the view before back. As long as the caller keeps that and
    /// the checkpoint, this frees nothing, and so takes no time.
    pub fn checkpoint_written(&mut self, base: Arc<dyn Base>) -> Arc<dyn Base> {
        let before = std::mem::replace(&mut self.base, base);
        self.messages.thaw();
        self.waiting.thaw();
        self.queues.thaw();
        self.due.thaw();
        self.expiry.thaw();
        self.scheduled.thaw();
        self.addressed.thaw();
        self.finals.thaw();
        self.link_ids.thaw();
        before
    }
}
