//! The life of a message: stored, attempted, replaced, finished; and the queues that messages wait in.

use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use smsc_proto::tlv::{Tag, Tlvs};

use super::keys::{DueKey, QueueKey, WaitingKey, address_key};
use super::table::Table;
use super::{Change, Machine};
use crate::model::{
    self, AttemptOutcome, DeliveryAttempt, ErrorClass, FinalRecord, HandedOver, Message, MessageKind, MessageState,
    Submission,
};
use crate::outcome::Outcome;

/// Blocks of final records that one [`model::Purge`] looks at, so that none holds up the log.
const PURGE_BLOCKS: usize = 64;

/// Attempts that are kept of a message, the latest.
const ATTEMPTS_KEPT: usize = 16;

impl Machine {
    pub(super) fn submit(&mut self, submission: Submission, changes: &mut Vec<Change>) -> io::Result<Outcome> {
        if submission.replace_if_present
            && let Some(replaced) = self.find_replaceable(&submission)?
        {
            return self.replace_whole(replaced, submission, changes);
        }
        Ok(Outcome::Stored(self.store(submission, changes)?))
    }

    pub(super) fn store(&mut self, submission: Submission, changes: &mut Vec<Change>) -> io::Result<u64> {
        let id = self.next_message_id;
        self.next_message_id += 1;
        self.waiting_count += 1;
        if !submission.account.is_empty() {
            match self.waiting_by_account.get_mut(&submission.account) {
                Some(waiting) => *waiting += 1,
                None => drop(self.waiting_by_account.insert(submission.account.clone(), 1)),
            }
        }
        let due_at_ms = self.stamp_ms.max(submission.scheduled_at_ms);
        let message = Arc::new(Message {
            id,
            accepted_at_ms: self.stamp_ms,
            due_at_ms,
            submission: Some(submission),
            ..Default::default()
        });
        let submission = content(&message);
        if submission.expires_at_ms > 0 {
            self.expiry.insert_new((submission.expires_at_ms, id), ());
        }
        if let Some(key) = address_key(id, submission) {
            self.addressed.insert_new(key, ());
        }
        self.messages.insert_new(id, message.clone());
        if due_at_ms > self.stamp_ms {
            self.schedule(due_at_ms, id);
        } else {
            let alone = self.enqueue(&message)?;
            changes.push(Change::Queued { message, alone });
        }
        Ok(id)
    }

    /// Puts a message into its queue. Returns whether it is alone there.
    fn enqueue(&mut self, message: &Message) -> io::Result<bool> {
        let place = WaitingKey::of(message.id, content(message));
        let key = place.queue.clone();
        self.waiting.insert_new(place, ());
        match self.queues.get_mut(self.base.as_ref(), &key)? {
            Some(queue) => {
                queue.messages += 1;
                Ok(false)
            }
            None => {
                let due_at_ms = self.stamp_ms;
                let queue = model::Queue {
                    kind: key.queue_kind() as i32,
                    key: key.key.to_string(),
                    due_at_ms,
                    messages: 1,
                    ..Default::default()
                };
                if !key.is_esme() {
                    self.due.insert_new(DueKey { due_at_ms, queue: key.clone() }, ());
                }
                self.queues.insert_new(key, queue);
                Ok(true)
            }
        }
    }

    /// Takes a message out of its queue; `moves` says that the number was reached, so that the rest may go at once.
    fn dequeue(&mut self, message: &Message, moves: bool) -> io::Result<QueueKey> {
        let place = WaitingKey::of(message.id, content(message));
        let key = place.queue.clone();
        self.waiting.remove(&place);
        if let Some(queue) = self.queues.get_mut(self.base.as_ref(), &key)? {
            queue.messages = queue.messages.saturating_sub(1);
            if queue.messages == 0 {
                if !key.is_esme() {
                    self.due.remove(&DueKey { due_at_ms: queue.due_at_ms, queue: key.clone() });
                }
                self.queues.remove(&key);
            } else if moves {
                go_at(&mut self.due, &key, queue, self.stamp_ms);
            }
        }
        Ok(key)
    }

    pub(super) fn attempt_done(
        &mut self,
        command: model::AttemptDone,
        changes: &mut Vec<Change>,
    ) -> io::Result<Outcome> {
        let Some(mut message) = self.messages.get(self.base.as_ref(), &command.id)? else {
            return self.gone(command.id);
        };
        // Replaced and put off while the attempt was under way: it is in no queue, and keeps its time.
        let scheduled = self.is_scheduled(&message);
        let handed = message.handed.clone();
        let changed = Arc::make_mut(&mut message);
        if !command.put_off {
            // One that another message centre had accepted was counted then.
            changed.attempts += u32::from(handed.is_none());
            changed.last_attempt_at_ms = command.at_ms;
            changed.last_error = command.error;
        }
        log_attempt(changed, &command);
        if !scheduled {
            changed.due_at_ms = command.due_at_ms;
        }
        if let Some(handed) = handed {
            let outcome = self.take_back(message, &handed, changes)?;
            if let Some(notification) = command.notification {
                self.store(notification, changes)?;
            }
            return Ok(outcome);
        }
        let counts = !command.put_off || command.class() == ErrorClass::LinkDown;
        let key = QueueKey::of(content(&message));
        if !key.is_esme()
            && !scheduled
            && let Some(queue) = self.queues.get_mut(self.base.as_ref(), &key)?
        {
            queue.failures += u32::from(counts);
            if queue.failing_since_ms == 0 && !command.put_off {
                queue.failing_since_ms = command.at_ms;
            }
            set_due(&mut self.due, &key, queue, command.due_at_ms);
        }
        self.messages.put(command.id, message.clone());
        changes.push(Change::Retry(message.clone()));
        if let Some(notification) = command.notification {
            self.store(notification, changes)?;
        }
        Ok(Outcome::Waiting(Box::new(Arc::unwrap_or_clone(message))))
    }

    /// Another message centre has accepted the message: it leaves its queue, as if it had been delivered, and waits for
    /// the report until it is given up.
    pub(super) fn hand_over(&mut self, command: model::HandOver, changes: &mut Vec<Change>) -> io::Result<Outcome> {
        let Some(mut message) = self.messages.get(self.base.as_ref(), &command.id)? else {
            return self.gone(command.id);
        };
        let handed = command.handed.unwrap_or_default();
        if message.handed.is_some() {
            return Ok(Outcome::Waiting(Box::new(Arc::unwrap_or_clone(message))));
        }
        let submission = content(&message);
        let queue = if self.is_scheduled(&message) {
            self.unschedule(submission.scheduled_at_ms, message.id)?;
            QueueKey::of(submission)
        } else {
            self.dequeue(&message, true)?
        };
        if submission.expires_at_ms > 0 {
            self.expiry.remove(&(submission.expires_at_ms, command.id));
        }
        self.expiry.put((handed.give_up_at_ms, command.id), ());
        let changed = Arc::make_mut(&mut message);
        changed.attempts += 1;
        changed.last_attempt_at_ms = handed.at_ms;
        changed.last_error = 0;
        push_attempt(
            &mut changed.attempt_log,
            DeliveryAttempt {
                at_ms: handed.at_ms,
                link: handed.link.clone(),
                outcome: AttemptOutcome::Accepted as i32,
                ..Default::default()
            },
        );
        self.remember_link_ids(command.id, &handed);
        changed.handed = Some(handed);
        self.messages.put(command.id, message.clone());
        changes.push(Change::HandedOver { id: command.id, queue });
        Ok(Outcome::Waiting(Box::new(Arc::unwrap_or_clone(message))))
    }

    /// The other message centre did not deliver it and it is to be sent again: it waits in its queue as before.
    fn take_back(
        &mut self,
        mut message: Arc<Message>,
        handed: &HandedOver,
        changes: &mut Vec<Change>,
    ) -> io::Result<Outcome> {
        Arc::make_mut(&mut message).handed = None;
        self.forget_give_up(&message, handed);
        self.forget_link_ids(message.id, handed)?;
        let submission = content(&message);
        if submission.expires_at_ms > 0 {
            self.expiry.put((submission.expires_at_ms, message.id), ());
        }
        let key = QueueKey::of(submission);
        self.enqueue(&message)?;
        if !key.is_esme()
            && let Some(queue) = self.queues.get_mut(self.base.as_ref(), &key)?
            && queue.messages == 1
        {
            set_due(&mut self.due, &key, queue, message.due_at_ms);
        }
        self.messages.put(message.id, message.clone());
        // Whoever reported it is told as of an attempt, the queue as of a new message.
        changes.push(Change::TakenBack(message.clone()));
        Ok(Outcome::Waiting(Box::new(Arc::unwrap_or_clone(message))))
    }

    fn forget_give_up(&mut self, message: &Message, handed: &HandedOver) {
        self.expiry.remove(&(handed.give_up_at_ms, message.id));
    }

    pub(super) fn finish(&mut self, command: model::Finish, changes: &mut Vec<Change>) -> io::Result<Outcome> {
        let Some(message) = self.messages.get(self.base.as_ref(), &command.id)? else {
            return self.gone(command.id);
        };
        let submission = content(&message);
        if !command.account.is_empty() && command.account != submission.account {
            return Ok(Outcome::NotFound);
        }
        let state = command.state();
        if let Some(handed) = &message.handed {
            // Another message centre has it: whoever asks is told so, and has it cancelled there.
            if state == MessageState::Deleted && !command.account.is_empty() {
                return Ok(Outcome::Waiting(Box::new(Arc::unwrap_or_clone(message))));
            }
            self.forget_give_up(&message, handed);
            self.forget_link_ids(message.id, handed)?;
            let queue = QueueKey::of(submission);
            changes.push(Change::Finished { id: message.id, queue: queue.clone() });
            if state == MessageState::Delivered {
                self.reached(&queue, changes)?;
            }
        } else if self.is_scheduled(&message) {
            self.unschedule(submission.scheduled_at_ms, message.id)?;
            changes.push(Change::Finished { id: message.id, queue: QueueKey::of(submission) });
        } else {
            let queue = self.dequeue(&message, state == MessageState::Delivered)?;
            changes.push(Change::Finished { id: message.id, queue });
        }
        self.messages.remove(&command.id);
        if submission.expires_at_ms > 0 && message.handed.is_none() {
            self.expiry.remove(&(submission.expires_at_ms, command.id));
        }
        if let Some(key) = address_key(command.id, submission) {
            self.addressed.remove(&key);
        }
        self.waiting_count = self.waiting_count.saturating_sub(1);
        self.uncount(&submission.account);
        let cdr = match submission.kind() {
            MessageKind::Receipt | MessageKind::Alert => 0,
            MessageKind::Submitted | MessageKind::Mo => {
                self.next_cdr += 1;
                self.next_cdr - 1
            }
        };
        let receipt_id = match command.receipt {
            Some(receipt) => self.store(receipt, changes)?,
            None => 0,
        };
        let record = Arc::new(FinalRecord {
            id: command.id,
            state: state as i32,
            final_at_ms: command.at_ms,
            error: command.error,
            account: submission.account.clone(),
            source: submission.source.clone(),
            destination: submission.destination.clone(),
            kind: submission.kind,
            attempts: message.attempts + u32::from(command.attempted),
            accepted_at_ms: message.accepted_at_ms,
            receipt_id,
            receipt_for: submission.receipt_for,
            attempt_log: message.attempt_log.clone(),
            link: match message.attempt_log.last() {
                Some(attempt) if command.link.is_empty() => attempt.link.clone(),
                _ => command.link,
            },
            attempted: command.attempted,
            multi_index: submission.multi_index,
            multi_count: submission.multi_count,
            segments: command.segments,
            link_message_id: message.handed.as_ref().map_or(String::new(), |handed| handed.remote_id.clone()),
            cdr,
            recorded_at_ms: self.stamp_ms,
            delivery_pending: state != MessageState::Delivered && self.pending.has(submission),
        });
        // A receipt or an alert that arrived has nothing more to tell.
        let told = matches!(submission.kind(), MessageKind::Receipt | MessageKind::Alert);
        if !told || state != MessageState::Delivered {
            self.finals.insert(record.clone());
        }
        Ok(Outcome::Finished { record })
    }

    /// A report says that a number was reached: what waits for it may go at once.
    fn reached(&mut self, key: &QueueKey, changes: &mut Vec<Change>) -> io::Result<()> {
        if key.is_esme() {
            return Ok(());
        }
        // Nearly always there is nothing to change, and then the row stays where it is.
        let failing = self.queues.get(self.base.as_ref(), key)?.is_some_and(|queue| queue.failures > 0);
        if failing && let Some(queue) = self.queues.get_mut(self.base.as_ref(), key)? {
            go_at(&mut self.due, key, queue, self.stamp_ms);
            changes.push(Change::Woken(key.clone()));
        }
        Ok(())
    }

    fn uncount(&mut self, account: &str) {
        if let Some(waiting) = self.waiting_by_account.get_mut(account) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                self.waiting_by_account.remove(account);
            }
        }
    }

    pub(super) fn gone(&self, id: u64) -> io::Result<Outcome> {
        Ok(match self.finals.get(self.base.as_ref(), id)? {
            Some(record) => Outcome::AlreadyFinal(Box::new(record)),
            None => Outcome::NotFound,
        })
    }

    pub(super) fn replace(&mut self, command: model::Replace, changes: &mut Vec<Change>) -> io::Result<Outcome> {
        let Some(message) = self.messages.get(self.base.as_ref(), &command.id)? else {
            return self.gone(command.id);
        };
        let mut submission = content(&message).clone();
        if submission.account != command.account {
            return Ok(Outcome::NotFound);
        }
        // Another message centre has it: what it delivers is what it was given.
        if message.handed.is_some() {
            return Ok(Outcome::Waiting(Box::new(Arc::unwrap_or_clone(message))));
        }
        // TLVs that cannot be read are of no message that the leader could have replaced.
        let Some(tlvs) = with_payload(submission.tlvs, command.message_payload) else {
            return Ok(Outcome::NotFound);
        };
        submission.tlvs = tlvs;
        submission.short_message = command.short_message;
        submission.registered_delivery = command.registered_delivery;
        if command.scheduled_at_ms > 0 {
            submission.scheduled_at_ms = command.scheduled_at_ms;
        }
        if command.expires_at_ms > 0 {
            submission.expires_at_ms = command.expires_at_ms;
        }
        self.replace_whole(message, submission, changes)
    }

    /// Puts new content under an id that waits, keeping its attempts and its age.
    fn replace_whole(
        &mut self,
        message: Arc<Message>,
        submission: Submission,
        changes: &mut Vec<Change>,
    ) -> io::Result<Outcome> {
        let id = message.id;
        let old = content(&message);
        if self.is_scheduled(&message) {
            self.unschedule(old.scheduled_at_ms, id)?;
        } else {
            self.dequeue(&message, false)?;
        }
        if old.expires_at_ms != submission.expires_at_ms {
            self.expiry.remove(&(old.expires_at_ms, id));
            // 0 never ends; a row of it would be found as ended long ago.
            if submission.expires_at_ms > 0 {
                self.expiry.put((submission.expires_at_ms, id), ());
            }
        }
        let due_at_ms = self.stamp_ms.max(submission.scheduled_at_ms);
        let replaced = Arc::new(Message { due_at_ms, submission: Some(submission), ..(*message).clone() });
        self.messages.put(id, replaced.clone());
        if due_at_ms > self.stamp_ms {
            self.schedule(due_at_ms, id);
            changes.push(Change::Finished { id, queue: QueueKey::of(content(&replaced)) });
        } else {
            self.enqueue(&replaced)?;
            changes.push(Change::Replaced(replaced));
        }
        Ok(Outcome::Stored(id))
    }

    pub(super) fn queue_wake(&mut self, command: &model::QueueWake, changes: &mut Vec<Change>) -> io::Result<Outcome> {
        let key = QueueKey::new(command.kind(), &command.key);
        let Some(queue) = self.queues.get_mut(self.base.as_ref(), &key)? else {
            return Ok(Outcome::NotFound);
        };
        go_at(&mut self.due, &key, queue, self.stamp_ms);
        changes.push(Change::Woken(key));
        Ok(Outcome::Done)
    }

    pub(super) fn purge_finals(&mut self, before_ms: u64) -> io::Result<Outcome> {
        self.purge_from = self.finals.purge(self.base.as_ref(), self.purge_from, before_ms, PURGE_BLOCKS)?;
        Ok(Outcome::Done)
    }

    /// Whether it waits for its scheduled time; those up to the stamp have moved to their queues. It may have been
    /// attempted before it was replaced and put off.
    fn is_scheduled(&self, message: &Message) -> bool {
        content(message).scheduled_at_ms > self.stamp_ms
    }

    fn schedule(&mut self, at_ms: u64, id: u64) {
        self.scheduled.put((at_ms, id), ());
        self.next_scheduled_ms = self.next_scheduled_ms.min(at_ms);
    }

    fn unschedule(&mut self, at_ms: u64, id: u64) -> io::Result<()> {
        self.scheduled.remove(&(at_ms, id));
        if at_ms == self.next_scheduled_ms { self.find_next_scheduled() } else { Ok(()) }
    }

    pub(super) fn find_next_scheduled(&mut self) -> io::Result<()> {
        let first = self.scheduled.range(self.base.as_ref(), Bound::Unbounded, 1, |_| true)?;
        self.next_scheduled_ms = first.first().map_or(u64::MAX, |(key, ())| key.0);
        Ok(())
    }

    /// Moves the messages whose scheduled time has come into their queues.
    pub(super) fn promote_scheduled(&mut self, changes: &mut Vec<Change>) -> io::Result<()> {
        while self.next_scheduled_ms <= self.stamp_ms {
            let until = self.stamp_ms;
            let rows = self.scheduled.range(self.base.as_ref(), Bound::Unbounded, 1024, |key| key.0 <= until)?;
            for (key, ()) in rows {
                self.scheduled.remove(&key);
                if let Some(message) = self.messages.get(self.base.as_ref(), &key.1)? {
                    let alone = self.enqueue(&message)?;
                    changes.push(Change::Queued { message, alone });
                }
            }
            self.find_next_scheduled()?;
        }
        Ok(())
    }
}

/// Keeps an attempt that failed. Of those that found their link down or busy, which sent nothing, the last one of a row
/// is kept, and of a long line none.
fn log_attempt(message: &mut Message, command: &model::AttemptDone) {
    let attempt = DeliveryAttempt {
        at_ms: command.at_ms,
        link: command.link.clone(),
        outcome: AttemptOutcome::Temporary as i32,
        class: command.class,
        error: command.error,
    };
    if command.put_off {
        if command.class() != ErrorClass::LinkDown {
            return;
        }
        let again = |last: &&mut DeliveryAttempt| last.class() == ErrorClass::LinkDown && last.link == attempt.link;
        if let Some(last) = message.attempt_log.last_mut().filter(again) {
            last.at_ms = attempt.at_ms;
            return;
        }
    }
    push_attempt(&mut message.attempt_log, attempt);
}

fn push_attempt(log: &mut Vec<DeliveryAttempt>, attempt: DeliveryAttempt) {
    if log.len() >= ATTEMPTS_KEPT {
        log.remove(0);
    }
    log.push(attempt);
}

/// The TLVs with another message_payload in the place of the one that may be there, or without one.
fn with_payload(tlvs: Bytes, payload: Option<Bytes>) -> Option<Bytes> {
    let stored = Tlvs::try_from(tlvs.clone()).ok()?;
    if payload.is_none() && !stored.contains(Tag::MESSAGE_PAYLOAD) {
        return Some(tlvs);
    }
    let mut kept = stored.without(|tag| tag == Tag::MESSAGE_PAYLOAD);
    if let Some(payload) = payload {
        kept.push(Tag::MESSAGE_PAYLOAD, &payload).ok()?;
    }
    Some(Bytes::copy_from_slice(kept.as_bytes()))
}

/// Moves a queue to another time.
fn set_due(due: &mut Table<DueKey, ()>, key: &QueueKey, queue: &mut model::Queue, due_at_ms: u64) {
    if !key.is_esme() && queue.due_at_ms != due_at_ms {
        due.remove(&DueKey { due_at_ms: queue.due_at_ms, queue: key.clone() });
        due.put(DueKey { due_at_ms, queue: key.clone() }, ());
    }
    queue.due_at_ms = due_at_ms;
}

/// Lets a queue go from `at_ms` on, as one that never failed: its number was reached.
fn go_at(due: &mut Table<DueKey, ()>, key: &QueueKey, queue: &mut model::Queue, at_ms: u64) {
    queue.failures = 0;
    queue.failing_since_ms = 0;
    set_due(due, key, queue, at_ms);
}

/// The submission inside a stored message.
pub(super) fn content(message: &Message) -> &Submission {
    message.submission.as_ref().expect("a message is stored with its submission")
}
