//! Delivery pending flags (SMPP v3.4 section 5.3.2.29): ESMEs that want to be told by alert_notification when a number
//! that could not be reached can be.
//!
//! The flags are the store's; the engine knows which numbers have any, sets those that messages ask for, and proposes
//! that they be told of once a number is reached: something was delivered there, it wrote something, or its link says
//! so.

use foldhash::HashSet;
use smol_str::SmolStr;
use smsc_proto::tlv::Tlvs;
use smsc_raft::machine::keys::QueueKey;
use smsc_raft::model::command::Op;
use smsc_raft::model::{
    Command, DeliveryPending, ErrorClass, Message, MessageKind, MessageState, NumberReached, Submission,
};

use super::outcome::Ended;
use super::{DeliveryEngine, Effect, Load, content};
use crate::delivery::receipt::RECEIPT_VALIDITY_DEFAULT_S;

/// Numbers read at once.
const SCAN_NUMBERS: usize = 1_024;
/// How long an ESME is told of a number that comes back: no message waits longer for one, unless the operator lets it.
const PENDING_MS: u64 = 7 * 86_400_000;

/// The numbers that have flags.
#[derive(Debug, Default)]
pub(super) struct Pending {
    numbers: HashSet<SmolStr>,
    /// All of the store's were read; before, every number may have one.
    all_read: bool,
}

impl Pending {
    pub fn remove(&mut self, number: &str) {
        self.numbers.remove(number);
    }
}

/// The flag that is to be set because this became of a message that asked for it with set_dpf: the number could not be
/// reached. What the network or the message is to blame for, and what no other attempt would change, sets none.
pub(super) fn flag(message: &Message, queue: &QueueKey, ended: &Ended, now_ms: u64) -> Option<DeliveryPending> {
    let out_of_reach = match ended {
        Ended::Failed { class, .. } | Ended::Final { class: Some(class), .. } => {
            matches!(class, ErrorClass::Absent | ErrorClass::Busy | ErrorClass::MemoryFull)
        }
        // It waited for the number until the end.
        Ended::Final { state, .. } => *state == MessageState::Expired,
        Ended::PutOff { .. } | Ended::Handed(_) => false,
    };
    let submission = content(message);
    let asks = |submission: &Submission| {
        submission.kind() == MessageKind::Submitted
            && !submission.account.is_empty()
            && Tlvs::try_from(submission.tlvs.clone()).is_ok_and(|tlvs| tlvs.set_dpf() == Some(1))
    };
    (out_of_reach && !queue.is_esme() && asks(submission)).then(|| DeliveryPending {
        number: queue.key.to_string(),
        account: submission.account.clone(),
        subscriber: submission.destination.clone(),
        esme: submission.source.clone(),
        set_at_ms: now_ms,
        expires_at_ms: now_ms.saturating_add(PENDING_MS),
    })
}

impl DeliveryEngine {
    pub(super) fn scan_pending(&mut self, after: Option<SmolStr>) {
        self.effects.push_back(Effect::Load(Load::Pending { after, limit: SCAN_NUMBERS }));
    }

    pub(super) fn pending_loaded(&mut self, limit: usize, numbers: Vec<(SmolStr, u64)>) {
        let last = numbers.last().filter(|_| numbers.len() >= limit).map(|row| row.0.clone());
        for (number, since_ms) in numbers {
            self.watch_pending(number, since_ms);
        }
        match last {
            Some(last) => self.scan_pending(Some(last)),
            None => self.pending.all_read = true,
        }
    }

    pub(super) fn pending_set(&mut self, now_ms: u64, number: SmolStr) {
        self.watch_pending(number, now_ms);
    }

    fn watch_pending(&mut self, number: SmolStr, failing_since_ms: u64) {
        if let Some(range) = self.routes.handset(&number) {
            let range = range.clone();
            let (number, at_once) = (number.clone(), true);
            self.effects.push_back(Effect::WatchHandset { number, range, failing_since_ms, at_once });
        }
        self.pending.numbers.insert(number);
    }

    /// A phone that writes can be reached.
    pub(super) fn heard_from(&mut self, now_ms: u64, submission: &Submission) {
        if submission.kind() == MessageKind::Mo
            && let Some(source) = &submission.source
            && !self.pending.numbers.is_empty()
        {
            let number = SmolStr::from(self.routes.number(source));
            if self.pending.numbers.contains(&number) {
                self.number_reached(now_ms, &number);
            }
        }
    }

    /// Those who asked to be told when this number can be reached are told.
    pub(super) fn number_reached(&mut self, now_ms: u64, number: &SmolStr) {
        if !self.pending.numbers.remove(number) && self.pending.all_read {
            return;
        }
        let validity_s =
            if self.receipt_validity_s == 0 { RECEIPT_VALIDITY_DEFAULT_S } else { self.receipt_validity_s };
        let reached = NumberReached {
            number: number.to_string(),
            alerts_expire_at_ms: now_ms.saturating_add(validity_s.saturating_mul(1_000)),
        };
        self.effects.push_back(Effect::Propose(Command { op: Some(Op::NumberReached(reached)) }));
    }
}
