//! Messages whose validity ends while they wait, in memory or in the store.

use std::sync::Arc;

use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::Message;

use super::outcome::Ended;
use super::{DeliveryEngine, Effect, EngineConfig, Load, State, content};

/// Between two looks at what has expired: validity is counted in whole seconds.
const LOOK_MS: u64 = 500;
/// The same while there is more.
const LOOK_AGAIN_MS: u64 = 20;
/// Messages read at once.
const LOOK_MESSAGES: usize = 512;

/// When to look next, and how far.
#[derive(Debug)]
pub(super) struct Expiry {
    look_at_ms: u64,
    looking: bool,
    /// Those found last time that were under way or being recorded: the store still tells of them.
    skipped: usize,
    skipped_max: usize,
}

impl Expiry {
    pub fn new(now_ms: u64, config: &EngineConfig) -> Self {
        Self { look_at_ms: now_ms, looking: false, skipped: 0, skipped_max: config.window_messages / 10 }
    }

    pub fn next_deadline_ms(&self) -> u64 {
        if self.looking { u64::MAX } else { self.look_at_ms }
    }
}

impl DeliveryEngine {
    pub(super) fn expiry_timeout(&mut self, now_ms: u64) {
        if self.expiry.next_deadline_ms() > now_ms {
            return;
        }
        self.expiry.looking = true;
        let more = self.expiry.skipped_max.saturating_sub(self.expiry.skipped).min(LOOK_MESSAGES);
        let limit = (self.expiry.skipped + more).max(1);
        self.effects.push_back(Effect::Load(Load::Expired { until_ms: now_ms, limit }));
    }

    pub(super) fn expired_loaded(&mut self, now_ms: u64, limit: usize, messages: Vec<Arc<Message>>) {
        self.expiry.looking = false;
        self.expiry.skipped = 0;
        let more = messages.len() >= limit;
        self.expiry.look_at_ms = now_ms + if more { LOOK_AGAIN_MS } else { LOOK_MS };
        for message in messages {
            // Whether it is new or was found before, the store tells of it until its end is recorded.
            self.expiry.skipped += 1;
            match self.index.get(message.id).map(|entry| &entry.state) {
                Some(State::Waiting | State::PutOff(_)) => self.forget_waiting(message.id),
                Some(_) => continue,
                None => {}
            }
            let (id, ended) = (message.id, Ended::expired(&message));
            let queue = QueueKey::of(content(&message));
            if !queue.is_esme() {
                self.numbers.ending(&queue.key);
            }
            self.index.insert(message, queue, State::Waiting);
            self.record(now_ms, id, "", ended);
        }
    }
}
