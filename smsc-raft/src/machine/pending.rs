//! Delivery pending flags (SMPP v3.4 section 5.3.2.29): which account wants to be told when which number can be reached
//! again.
//!
//! All are in memory, and bounded: an account that has as many as it may gets no further one. When the number is reached
//! each becomes a message of its own, an alert, in the queue of its account; from there on it is kept, sent and given up
//! as a receipt is.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

use super::base::{Base, TableId};
use super::keys::QueueKey;
use super::resident::Resident;
use super::{Change, Machine};
use crate::model::{DeliveryPending, MessageKind, NumberReached, QueueKind, Submission};
use crate::outcome::Outcome;
use smol_str::SmolStr;

/// Flags that there may be in all: some 20 MB.
const PENDING_MAX: usize = 100_000;
/// Flags that one account may have.
const PENDING_MAX_OF_ACCOUNT: usize = 20_000;

/// See the [module](self).
pub(super) struct Pending {
    /// By number and account.
    rows: Resident<(String, String), DeliveryPending>,
    by_account: BTreeMap<String, usize>,
    /// No flag is over before. UTC milliseconds.
    over_from_ms: u64,
}

impl Pending {
    pub fn load(base: &dyn Base) -> io::Result<Self> {
        let rows: Resident<(String, String), DeliveryPending> = Resident::load(TableId::Pending, base)?;
        let mut pending = Self { rows, by_account: BTreeMap::new(), over_from_ms: 0 };
        for ((_, account), _) in pending.rows.iter() {
            *pending.by_account.entry(account.clone()).or_default() += 1;
        }
        pending.find_over_from();
        Ok(pending)
    }

    pub fn rows(&self) -> &Resident<(String, String), DeliveryPending> {
        &self.rows
    }

    pub fn take_changes(&mut self) -> Vec<(TableId, bytes::Bytes, Option<bytes::Bytes>)> {
        self.rows.take_changes()
    }

    /// Whether the account that submitted this has a flag for its number.
    pub fn has(&self, submission: &Submission) -> bool {
        if self.rows.len() == 0 || submission.queue_kind() != QueueKind::Number {
            return false;
        }
        let number = QueueKey::of(submission).key.to_string();
        self.rows.get(&(number, submission.account.clone())).is_some()
    }

    /// See [`Machine::pending_numbers`].
    pub fn numbers(&self, after: Option<&str>, limit: usize) -> Vec<(SmolStr, u64)> {
        // No account sorts behind this one.
        let after = after.map(|number| (number.to_owned(), String::from(char::MAX)));
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut found: Vec<(SmolStr, u64)> = Vec::new();
        for ((number, _), flag) in self.rows.range(from) {
            if let Some((_, set_at_ms)) = found.last_mut().filter(|row| *row.0 == **number) {
                *set_at_ms = flag.set_at_ms.min(*set_at_ms);
                continue;
            }
            if found.len() == limit {
                break;
            }
            found.push((SmolStr::from(number.as_str()), flag.set_at_ms));
        }
        found
    }

    fn find_over_from(&mut self) {
        self.over_from_ms = self.rows.iter().map(|row| row.1.expires_at_ms).min().unwrap_or(u64::MAX);
    }

    fn has_number(&self, number: &str) -> bool {
        let from = (number.to_owned(), String::new());
        self.rows.range(Bound::Included(&from)).next().is_some_and(|(key, _)| key.0 == number)
    }

    fn remove(&mut self, key: &(String, String)) {
        if self.rows.remove(key)
            && let Some(count) = self.by_account.get_mut(&key.1)
        {
            *count -= 1;
            if *count == 0 {
                self.by_account.remove(&key.1);
            }
        }
    }
}

impl Machine {
    /// One that is set already stays as it is, but for its end: the number has been out of reach since then.
    pub(super) fn set_pending(&mut self, flag: DeliveryPending, changes: &mut Vec<Change>) -> Outcome {
        let pending = &mut self.pending;
        let key = (flag.number.clone(), flag.account.clone());
        let before = pending.rows.get(&key);
        let of_account = pending.by_account.get(&flag.account).copied().unwrap_or(0);
        if before.is_none() && (pending.rows.len() >= PENDING_MAX || of_account >= PENDING_MAX_OF_ACCOUNT) {
            return Outcome::NotFound;
        }
        if before.is_none() {
            *pending.by_account.entry(flag.account.clone()).or_default() += 1;
        }
        let set_at_ms = before.map_or(flag.set_at_ms, |before| before.set_at_ms);
        pending.over_from_ms = pending.over_from_ms.min(flag.expires_at_ms);
        changes.push(Change::Pending(SmolStr::from(flag.number.as_str())));
        pending.rows.put(key, DeliveryPending { set_at_ms, ..flag });
        Outcome::Done
    }

    pub(super) fn number_reached(&mut self, command: &NumberReached, changes: &mut Vec<Change>) -> io::Result<Outcome> {
        let first = (command.number.clone(), String::new());
        let rows = self.pending.rows.range(Bound::Included(&first));
        let flags: Vec<_> = rows
            .take_while(|(key, _)| key.0 == command.number)
            .map(|(key, flag)| (key.clone(), flag.clone()))
            .collect();
        if flags.is_empty() {
            return Ok(Outcome::NotFound);
        }
        changes.push(Change::NotPending(SmolStr::from(command.number.as_str())));
        for (key, flag) in flags {
            self.pending.remove(&key);
            // An account that was deleted has nobody to tell.
            if flag.expires_at_ms > self.stamp_ms && self.accounts.get(&flag.account).is_some() {
                self.store(alert(flag, command.alerts_expire_at_ms), changes)?;
            }
        }
        Ok(Outcome::Done)
    }

    /// Drops the flags whose time is over.
    pub(super) fn purge_pending(&mut self, changes: &mut Vec<Change>) {
        if self.pending.over_from_ms > self.stamp_ms {
            return;
        }
        let over = self.pending.rows.iter().filter(|row| row.1.expires_at_ms <= self.stamp_ms);
        let over: Vec<_> = over.map(|row| row.0.clone()).collect();
        for key in over {
            self.pending.remove(&key);
            if !self.pending.has_number(&key.0) {
                changes.push(Change::NotPending(SmolStr::from(key.0)));
            }
        }
        self.pending.find_over_from();
    }
}

/// The alert as a message to the account: from the number, to the address that submitted to it.
fn alert(flag: DeliveryPending, expires_at_ms: u64) -> Submission {
    Submission {
        kind: MessageKind::Alert as i32,
        source: flag.subscriber,
        destination: flag.esme,
        queue_kind: QueueKind::Esme as i32,
        queue_key: flag.account,
        // As routes name the way to an ESME.
        link: "esme".to_owned(),
        expires_at_ms,
        ..Default::default()
    }
}
