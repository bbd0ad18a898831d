//! What the rest of the node may ask of the machine. Nothing here changes it.

use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use smol_str::SmolStr;

use super::base::TableId;
use super::keys::{DueKey, QueueKey, WaitingKey};
use super::resident::Resident;
use super::table::{Key, Table, Value};
use super::{Applied, Machine};
use crate::model::{self, FinalRecord, Message};

/// Rows read at once when everything is read.
const PAGE: usize = 1024;

impl Machine {
    /// The last entry applied.
    pub fn applied(&self) -> Option<Applied> {
        self.applied
    }

    /// The membership as the last membership entry set it, encoded.
    pub fn membership(&self) -> &Bytes {
        &self.membership
    }

    /// The largest stamp applied, UTC milliseconds.
    pub fn stamp_ms(&self) -> u64 {
        self.stamp_ms
    }

    /// Messages without a final state.
    pub fn waiting_count(&self) -> u64 {
        self.waiting_count
    }

    /// The id that the next message gets: every message ever stored has a smaller one.
    pub fn next_message_id(&self) -> u64 {
        self.next_message_id
    }

    /// Number of the next call detail record: every final state recorded so far has a smaller one.
    pub fn next_cdr(&self) -> u64 {
        self.next_cdr
    }

    /// When the next scheduled message moves into its queue, UTC milliseconds; it does with the first batch after.
    pub fn next_scheduled_ms(&self) -> Option<u64> {
        (self.next_scheduled_ms != u64::MAX).then_some(self.next_scheduled_ms)
    }

    /// Whether the last purge of final records stopped before it had seen all: another one goes on.
    pub fn purge_unfinished(&self) -> bool {
        self.purge_from != 0
    }

    /// A message that waits.
    ///
    /// # Errors
    /// As every read here: the disk failed or the store is corrupt, the node stops.
    pub fn message(&self, id: u64) -> io::Result<Option<Arc<Message>>> {
        self.messages.get(self.base.as_ref(), &id)
    }

    /// What is kept of a message that has come to its end.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn final_record(&self, id: u64) -> io::Result<Option<FinalRecord>> {
        self.finals.get(self.base.as_ref(), id)
    }

    /// Up to `limit` final records with ids below `below`, newest first.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn newest_finals(&self, below: Option<u64>, limit: usize) -> io::Result<Vec<FinalRecord>> {
        self.finals.newest(self.base.as_ref(), below.unwrap_or(self.next_message_id), limit)
    }

    /// Up to `limit` waiting messages with ids from `from` on, oldest first.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn messages_from(&self, from: u64, limit: usize) -> io::Result<Vec<Arc<Message>>> {
        let rows = self.messages.range(self.base.as_ref(), Bound::Included(from), limit, |_| true)?;
        Ok(rows.into_iter().map(|row| row.1).collect())
    }

    /// Queues towards numbers that are due until `until_ms`, in order of time, behind `after`.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn due_queues(
        &self,
        after: Option<&DueKey>,
        until_ms: u64,
        limit: usize,
    ) -> io::Result<Vec<(DueKey, model::Queue)>> {
        let from = after.cloned().map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.due.range(self.base.as_ref(), from, limit, |key| key.due_at_ms <= until_ms)?;
        let mut found = Vec::with_capacity(rows.len());
        for (key, ()) in rows {
            if let Some(queue) = self.queues.get(self.base.as_ref(), &key.queue)? {
                found.push((key, queue));
            }
        }
        Ok(found)
    }

    /// When the first queue towards a number is due, UTC milliseconds.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn next_due_ms(&self) -> io::Result<Option<u64>> {
        let first = self.due.range(self.base.as_ref(), Bound::Unbounded, 1, |_| true)?;
        Ok(first.first().map(|row| row.0.due_at_ms))
    }

    /// A queue, if anything waits in it.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn queue(&self, key: &QueueKey) -> io::Result<Option<model::Queue>> {
        self.queues.get(self.base.as_ref(), key)
    }

    /// Up to `limit` messages of a queue in the order they leave, behind the one with this priority_flag and id.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn queue_messages(
        &self,
        key: &QueueKey,
        after: Option<(u32, u64)>,
        limit: usize,
    ) -> io::Result<Vec<Arc<Message>>> {
        let from = match after {
            Some((priority, id)) => {
                let rank = u8::MAX - u8::try_from(priority).unwrap_or(u8::MAX);
                Bound::Excluded(WaitingKey { queue: key.clone(), rank, id })
            }
            None => Bound::Included(WaitingKey { queue: key.clone(), rank: 0, id: 0 }),
        };
        let rows = self.waiting.range(self.base.as_ref(), from, limit, |place| place.queue == *key)?;
        let mut found = Vec::with_capacity(rows.len());
        for (place, ()) in rows {
            if let Some(message) = self.messages.get(self.base.as_ref(), &place.id)? {
                found.push(message);
            }
        }
        Ok(found)
    }

    /// Messages whose validity ended until `until_ms`, the earliest first.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn expired(&self, until_ms: u64, limit: usize) -> io::Result<Vec<Arc<Message>>> {
        let rows = self.expiry.range(self.base.as_ref(), Bound::Unbounded, limit, |key| key.0 <= until_ms)?;
        let mut found = Vec::with_capacity(rows.len());
        for ((_, id), ()) in rows {
            if let Some(message) = self.messages.get(self.base.as_ref(), &id)? {
                found.push(message);
            }
        }
        Ok(found)
    }

    /// When the first message's validity ends, UTC milliseconds.
    ///
    /// # Errors
    /// As for [`Machine::message`].
    pub fn next_expiry_ms(&self) -> io::Result<Option<u64>> {
        let first = self.expiry.range(self.base.as_ref(), Bound::Unbounded, 1, |_| true)?;
        Ok(first.first().map(|row| row.0.0))
    }

    /// The account of a system_id.
    pub fn account(&self, system_id: &str) -> Option<&model::Account> {
        self.accounts.get(system_id).map(|account| &**account)
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &model::Account> {
        self.shared_accounts().map(|account| &**account)
    }

    /// All accounts, to be kept without a copy.
    pub fn shared_accounts(&self) -> impl Iterator<Item = &Arc<model::Account>> {
        self.accounts.iter().map(|row| row.1)
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &model::Route> {
        self.routes.iter().map(|row| row.1)
    }

    /// All ranges of simulated handsets.
    pub fn handsets(&self) -> impl Iterator<Item = &model::HandsetRange> {
        self.handsets.iter().map(|row| row.1)
    }

    /// The operator's settings; the default ones when none were stored.
    pub fn settings(&self) -> model::Settings {
        self.settings.get("").cloned().unwrap_or_default()
    }

    /// All drills, the latest last.
    pub fn drills(&self) -> impl DoubleEndedIterator<Item = &model::DrillRecord> {
        self.drills.iter().map(|row| row.1)
    }

    /// All number lists.
    pub fn number_lists(&self) -> impl Iterator<Item = &model::NumberList> {
        self.number_lists.iter().map(|row| row.1)
    }

    /// The messages without a final state that an account submitted.
    pub fn waiting_of_account(&self, account: &str) -> u64 {
        self.waiting_by_account.get(account).copied().unwrap_or(0)
    }

    /// All distribution lists.
    pub fn lists(&self) -> impl Iterator<Item = &model::DistributionList> {
        self.lists.iter().map(|row| row.1)
    }

    /// Up to `limit` numbers behind `after` that have delivery pending flags, in order, each with the time at which its
    /// first flag of an account was set (UTC milliseconds).
    pub fn pending_numbers(&self, after: Option<&str>, limit: usize) -> Vec<(SmolStr, u64)> {
        self.pending.numbers(after, limit)
    }

    /// The session registry.
    pub fn sessions(&self) -> impl Iterator<Item = &model::SessionRecord> {
        self.sessions.iter().map(|row| row.1)
    }

    /// Number of entries in the session registry.
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Calls `visit` for every row but the header, table by table in key order, wherever it lies.
    pub(super) fn for_each_row(&self, mut visit: impl FnMut(TableId, Bytes, Bytes)) -> io::Result<()> {
        self.visit_table(TableId::Messages, &self.messages, &mut visit)?;
        self.visit_table(TableId::Waiting, &self.waiting, &mut visit)?;
        self.visit_table(TableId::Queues, &self.queues, &mut visit)?;
        self.visit_table(TableId::Due, &self.due, &mut visit)?;
        self.visit_table(TableId::Expiry, &self.expiry, &mut visit)?;
        self.visit_table(TableId::Scheduled, &self.scheduled, &mut visit)?;
        let mut records = self.newest_finals(None, usize::MAX)?;
        records.reverse();
        for record in records {
            visit(TableId::Finals, Key::encode(&record.id), Value::encode(&record));
        }
        visit_resident(TableId::Sessions, &self.sessions, &mut visit);
        visit_resident(TableId::Accounts, &self.accounts, &mut visit);
        visit_resident(TableId::Routes, &self.routes, &mut visit);
        visit_resident(TableId::Handsets, &self.handsets, &mut visit);
        visit_resident(TableId::Settings, &self.settings, &mut visit);
        visit_resident(TableId::Drills, &self.drills, &mut visit);
        visit_resident(TableId::NumberLists, &self.number_lists, &mut visit);
        visit_resident(TableId::NumberChunks, &self.number_chunks, &mut visit);
        self.visit_table(TableId::Addressed, &self.addressed, &mut visit)?;
        visit_resident(TableId::Lists, &self.lists, &mut visit);
        visit_resident(TableId::Links, &self.links, &mut visit);
        self.visit_table(TableId::LinkIds, &self.link_ids, &mut visit)?;
        visit_resident(TableId::Pending, self.pending.rows(), &mut visit);
        Ok(())
    }

    fn visit_table<K: Key, V: Value>(
        &self,
        id: TableId,
        table: &Table<K, V>,
        visit: &mut impl FnMut(TableId, Bytes, Bytes),
    ) -> io::Result<()> {
        let mut from = Bound::Unbounded;
        loop {
            let rows = table.range(self.base.as_ref(), from, PAGE, |_| true)?;
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            from = Bound::Excluded(last.clone());
            for (key, value) in &rows {
                visit(id, key.encode(), value.encode());
            }
        }
    }
}

fn visit_resident<K: Key, V: Value>(
    id: TableId,
    table: &Resident<K, V>,
    visit: &mut impl FnMut(TableId, Bytes, Bytes),
) {
    for (key, value) in table.iter() {
        visit(id, key.encode(), value.encode());
    }
}
