//! What came of a message, and how it goes into the log.

use std::sync::Arc;

use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::command::Op;
use smsc_raft::model::{
    AttemptDone, Command, ErrorClass, Finish, HandOver, HandedOver, LinkPart, Message, MessageState, PendingSet,
};

use super::{DeliveryEngine, Effect, LinkResult, State, content, is_expired, is_last_attempt, pending};
use crate::delivery::receipt;
use crate::delivery::retry::{Next, RetryPolicies};
use crate::link::outbound::segment_count;

/// What came of a message, as it goes into the log.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// It waits on.
    Failed {
        class: ErrorClass,
        error: u32,
        due_at_ms: u64,
    },
    /// Nothing was sent: its link is down, or has a long line.
    PutOff {
        class: ErrorClass,
        due_at_ms: u64,
    },
    Handed(HandedOver),
    Final {
        state: MessageState,
        error: u32,
        attempted: bool,
        /// Of the error that ended it.
        class: Option<ErrorClass>,
    },
}

/// An attempt's circumstances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt<'a> {
    pub now_ms: u64,
    pub link: &'a str,
    /// Failures in a row before this one.
    pub failures: u32,
}

impl Ended {
    /// Its validity ended before it was tried (again); the error of the last attempt, if any, is what stood in the way.
    /// One that another message centre never reported on has the state that was agreed on then.
    pub fn expired(message: &Message) -> Self {
        let state = message.handed.as_ref().map_or(MessageState::Expired, HandedOver::give_up_state);
        Self::Final { state, error: message.last_error, attempted: false, class: None }
    }

    /// What a link said; `None` for a message that was lost on its way. The operator's classes of errors go before the
    /// link's.
    pub fn of(result: LinkResult, message: &Message, retry: &RetryPolicies, attempt: Attempt<'_>) -> Option<Self> {
        let Attempt { now_ms, link, failures } = attempt;
        let (class, error, state) = match result {
            LinkResult::Lost => return None,
            LinkResult::Delivered => {
                return Some(Self::Final { state: MessageState::Delivered, error: 0, attempted: true, class: None });
            }
            LinkResult::Accepted { remote_ids, grace_ms, give_up_state } => {
                let remote_id = remote_ids.first().cloned().unwrap_or_default();
                let part = |message_id| LinkPart { message_id, ..Default::default() };
                let parts = remote_ids.into_iter().map(part).collect();
                return Some(Self::Handed(HandedOver {
                    link: link.to_owned(),
                    remote_id,
                    at_ms: now_ms,
                    give_up_at_ms: content(message).expires_at_ms.max(now_ms).saturating_add(grace_ms),
                    give_up_state: give_up_state as i32,
                    parts,
                }));
            }
            LinkResult::Temporary { class, error } => {
                (retry.class_of(link, error).unwrap_or(class), error, MessageState::Undeliverable)
            }
            LinkResult::Permanent { error, state } => {
                (retry.class_of(link, error).unwrap_or(ErrorClass::Permanent), error, state)
            }
        };
        Some(match retry.next(now_ms, link, class, failures, message) {
            Next::At(due_at_ms) => Self::Failed { class, error, due_at_ms },
            Next::Never => Self::Final { state, error, attempted: true, class: Some(class) },
        })
    }
}

impl DeliveryEngine {
    /// Proposes what came of an attempt at `link` (empty for none). The message is being recorded from here on; an
    /// attempt that failed for now but past the message's validity ends it.
    pub(super) fn record(&mut self, now_ms: u64, id: u64, link: &str, result: Ended) {
        let Some(entry) = self.index.get_mut(id) else { return };
        let expired = entry.message.handed.is_none() && is_expired(&entry.message, now_ms);
        let result = match result {
            Ended::Failed { class, error, .. } if expired => {
                Ended::Final { state: MessageState::Expired, error, attempted: true, class: Some(class) }
            }
            Ended::Failed { class, error, .. } if is_last_attempt(&entry.message) => {
                Ended::Final { state: MessageState::Undeliverable, error, attempted: true, class: Some(class) }
            }
            Ended::PutOff { .. } if expired => Ended::expired(&entry.message),
            result => result,
        };
        let reached = matches!(&result, Ended::Final { state: MessageState::Delivered, .. });
        let flag = pending::flag(&entry.message, &entry.queue, &result, now_ms);
        let queue = entry.queue.clone();
        let terms = self.routes.receipt_terms(&content(&entry.message).account, self.receipt_validity_s);
        let link = link.to_owned();
        let (mut delivered, mut counts) = (false, false);
        let op = match result {
            Ended::Failed { class, error, due_at_ms } => {
                counts = true;
                let class = class as i32;
                let notification = receipt::notification(&entry.message, now_ms, error, terms);
                let put_off = false;
                Op::AttemptDone(AttemptDone { id, at_ms: now_ms, error, due_at_ms, notification, link, class, put_off })
            }
            Ended::PutOff { class, due_at_ms } => {
                counts = class == ErrorClass::LinkDown;
                let class = class as i32;
                let attempt =
                    AttemptDone { id, at_ms: now_ms, due_at_ms, link, class, put_off: true, ..Default::default() };
                Op::AttemptDone(attempt)
            }
            Ended::Handed(handed) => {
                delivered = true;
                Op::HandOver(HandOver { id, handed: Some(handed) })
            }
            Ended::Final { state, error, attempted, .. } => {
                delivered = state == MessageState::Delivered;
                let receipt = receipt::submission(&entry.message, state, now_ms, error, terms);
                let account = String::new();
                let state = state as i32;
                let segments = segment_count(content(&entry.message));
                Op::Finish(Finish { id, state, at_ms: now_ms, error, receipt, attempted, account, link, segments })
            }
        };
        entry.state = State::Recording { delivered, counts };
        // In front: the record of a message that has failed tells whether its flag is set.
        if let Some(flag) = flag {
            let set = Op::PendingSet(PendingSet { pending: Some(flag) });
            self.effects.push_back(Effect::Propose(Command { op: Some(set) }));
        }
        self.effects.push_back(Effect::Propose(Command { op: Some(op) }));
        if reached && !queue.is_esme() {
            self.number_reached(now_ms, &queue.key);
        }
    }

    /// Another message centre reports on a message that it had accepted ([`LinkResult::Accepted`]), which the caller
    /// found by the report's id: `message` is as the store has it now. A temporary failure has the message sent again.
    ///
    /// Returns `false` if the store has the acceptance already and the engine was not told yet: tell it again behind
    /// that [`Change::HandedOver`](smsc_raft::machine::Change::HandedOver).
    pub fn reported(&mut self, now_ms: u64, message: Arc<Message>, result: LinkResult) -> bool {
        let (id, Some(handed)) = (message.id, message.handed.clone()) else { return true };
        if let Some(entry) = self.index.get(id) {
            // If it is known as handed over, its end is being recorded already.
            return entry.message.handed.is_some();
        }
        let attempt = Attempt { now_ms, link: &handed.link, failures: 0 };
        let ended = match Ended::of(result, &message, &self.retry, attempt) {
            None | Some(Ended::Handed(_)) => return true,
            // The attempt was counted when it was handed over.
            Some(Ended::Final { state, error, class, .. }) => Ended::Final { state, error, attempted: false, class },
            Some(ended) => ended,
        };
        let queue = QueueKey::of(content(&message));
        self.index.insert(message, queue, State::Waiting);
        self.record(now_ms, id, &handed.link, ended);
        true
    }
}
