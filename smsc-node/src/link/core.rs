//! A link's way out: which message goes over which bind when, and what its message centre made of it. Pure.
//!
//! Messages come in by [`Core::offer`], no more than [`Core::window_total`] at a time; each leaves by one
//! [`Effect::Outcome`]. In between it is one submit_sm or, when it is long, several; a message has the outcome of all of
//! them. A segment that is refused because the message centre has too much to do is sent again by the link itself, at
//! the slower pace that [`Pace`] then keeps.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smsc_proto::pdu::SubmitSm;
use smsc_proto::status::CommandStatus;
use smsc_proto::time::MonoTime;
use smsc_proto::types::InterfaceVersion;
use smsc_raft::model::{Address, Link, Message};

use super::outbound;
use super::outcome::{self, LinkOutcome};
use super::pace::Pace;

/// How long a message is tried again at a slower pace before its outcome is congestion.
const THROTTLED_MAX: Duration = Duration::from_secs(10);
/// Window of a bind when the link names none.
pub const WINDOW_DEFAULT: u32 = 10;

/// What the core wants done.
#[derive(Debug)]
pub enum Effect {
    /// Send over this bind; [`Core::answered`] or [`Core::lost`] follows with the token.
    Send {
        /// The bind.
        bind: usize,
        /// Names the submit_sm until it is answered.
        token: u64,
        /// What to send.
        submit: Box<SubmitSm>,
    },
    /// A message is done with, here.
    Outcome {
        /// The message.
        id: u64,
        /// What became of it.
        outcome: LinkOutcome,
    },
}

#[derive(Debug)]
struct Transmitter {
    version: InterfaceVersion,
    in_flight: usize,
}

#[derive(Debug)]
enum Part {
    Waiting(Box<SubmitSm>),
    /// Kept until it is answered: it may have to be sent again.
    Sent(Box<SubmitSm>),
    Accepted(String),
    /// Not to be sent any more: another part failed.
    Dropped,
}

#[derive(Debug)]
struct Transfer {
    message: Arc<Message>,
    parts: Vec<Part>,
    begun: MonoTime,
    failed: Option<LinkOutcome>,
}

#[derive(Debug)]
struct Sent {
    id: u64,
    part: usize,
    bind: usize,
    at: MonoTime,
}

/// What a link has counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// submit_sm sent.
    pub submitted: u64,
    /// Of these, answered ESME_ROK.
    pub accepted: u64,
    /// Answered otherwise, but for throttling.
    pub refused: u64,
    /// Answered ESME_RTHROTTLED or ESME_RMSGQFUL.
    pub throttled: u64,
    /// Not answered.
    pub lost: u64,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Core {
    link: Arc<Link>,
    pace: Pace,
    transmitters: BTreeMap<usize, Transmitter>,
    transfers: HashMap<u64, Transfer>,
    /// Parts to be sent, in order.
    queue: VecDeque<(u64, usize)>,
    sent: BTreeMap<u64, Sent>,
    next_token: u64,
    effects: VecDeque<Effect>,
    counts: Counts,
    paused: bool,
}

impl Core {
    /// A link that is not bound yet.
    pub fn new(link: Arc<Link>, now: MonoTime) -> Self {
        Self {
            pace: Pace::new(link.rate_per_s, now),
            link,
            transmitters: BTreeMap::new(),
            transfers: HashMap::new(),
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            next_token: 0,
            effects: VecDeque::new(),
            counts: Counts::default(),
            paused: false,
        }
    }

    /// The next thing to be done.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Messages that may be with the link unanswered, over all of its transmitters; 0 without one.
    pub fn window_total(&self) -> usize {
        self.window() * self.transmitters.len()
    }

    /// Whether a transmitter is bound.
    pub fn is_up(&self) -> bool {
        !self.transmitters.is_empty()
    }

    /// What was counted.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How fast it goes.
    pub fn pace(&self) -> &Pace {
        &self.pace
    }

    /// submit_sm that wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.sent.len()
    }

    /// Whether a submit_sm that was sent no later than `at` waits for its answer.
    pub fn has_sent_before(&self, at: MonoTime) -> bool {
        self.sent.first_key_value().is_some_and(|(_, sent)| sent.at <= at)
    }

    /// Sends nothing more and gives back what was not sent; what is under way is answered as ever.
    pub fn pause(&mut self) {
        self.paused = true;
        self.give_back();
    }

    /// When [`Core::pump`] has something to do although nothing happened.
    pub fn next_deadline(&self, now: MonoTime) -> Option<MonoTime> {
        let pause = self.pace.held_until(now);
        if self.queue.is_empty() || self.paused {
            return pause;
        }
        let room = self.transmitters.values().any(|bind| bind.in_flight < self.window());
        pause.or_else(|| room.then(|| self.pace.ready_at(now).unwrap_or(now)))
    }

    /// A transmitter is bound to a peer that speaks `version`.
    pub fn bound(&mut self, bind: usize, version: InterfaceVersion) {
        self.transmitters.insert(bind, Transmitter { version, in_flight: 0 });
    }

    /// A transmitter is gone; what it has not reported on is lost with it.
    pub fn unbound(&mut self, bind: usize) {
        self.transmitters.remove(&bind);
        let left = self.sent.iter().filter(|(_, sent)| sent.bind == bind).map(|(token, _)| *token);
        for token in left.collect::<Vec<_>>() {
            self.lost(token);
        }
        if self.transmitters.is_empty() {
            self.give_back();
        }
    }

    /// Takes a message on, for `destination` as its route has the number written.
    pub fn offer(&mut self, now: MonoTime, now_ms: u64, message: Arc<Message>, destination: &Address) {
        let id = message.id;
        let version = self.transmitters.values().map(|bind| bind.version).min();
        let Some(version) = version.filter(|_| !self.paused) else {
            return self.effects.push_back(Effect::Outcome { id, outcome: LinkOutcome::NotSent });
        };
        match outbound::submit_sms(&message, destination, &self.link, version, now_ms) {
            Ok(submits) => {
                self.queue.extend((0..submits.len()).map(|part| (id, part)));
                let parts = submits.into_iter().map(|submit| Part::Waiting(Box::new(submit))).collect();
                self.transfers.insert(id, Transfer { message, parts, begun: now, failed: None });
            }
            Err(error) => {
                tracing::warn!(message_id = id, link = self.link.name, %error, "not sendable over this link");
                self.effects.push_back(Effect::Outcome { id, outcome: outcome::unsendable(error) });
            }
        }
    }

    /// Sends what may be sent.
    pub fn pump(&mut self, now: MonoTime, now_ms: u64) {
        while let Some((id, part)) = self.queue.front().copied() {
            if self.paused {
                return;
            }
            let window = self.window();
            let Some(transfer) = self.transfers.get_mut(&id) else {
                self.queue.pop_front();
                continue;
            };
            if !matches!(transfer.parts[part], Part::Waiting(_)) {
                self.queue.pop_front();
                continue;
            }
            let expires_at_ms = transfer.message.submission.as_ref().map_or(0, |content| content.expires_at_ms);
            if expires_at_ms > 0 && expires_at_ms <= now_ms {
                self.queue.pop_front();
                transfer.failed.get_or_insert(LinkOutcome::NotSent);
                self.settle(id);
                continue;
            }
            // The least busy bind with room, so that all of them are used.
            let free = self.transmitters.iter_mut().filter(|(_, bind)| bind.in_flight < window);
            let Some((bind, transmitter)) = free.min_by_key(|(_, bind)| bind.in_flight) else { return };
            if self.pace.take(now).is_err() {
                return;
            }
            transmitter.in_flight += 1;
            let bind = *bind;
            self.queue.pop_front();
            let Part::Waiting(submit) = std::mem::replace(&mut transfer.parts[part], Part::Dropped) else { continue };
            transfer.parts[part] = Part::Sent(submit.clone());
            let token = self.next_token;
            self.next_token += 1;
            self.counts.submitted += 1;
            self.sent.insert(token, Sent { id, part, bind, at: now });
            self.effects.push_back(Effect::Send { bind, token, submit });
        }
    }

    /// A submit_sm was answered.
    pub fn answered(&mut self, now: MonoTime, token: u64, status: CommandStatus, message_id: String) {
        let Some(sent) = self.take_sent(token) else { return };
        let Some(transfer) = self.transfers.get_mut(&sent.id) else { return };
        match status {
            CommandStatus::ESME_ROK => {
                self.counts.accepted += 1;
                self.pace.accepted(now);
                transfer.parts[sent.part] = Part::Accepted(message_id);
            }
            CommandStatus::ESME_RTHROTTLED | CommandStatus::ESME_RMSGQFUL => {
                self.counts.throttled += 1;
                self.pace.throttled(now);
                let patient = transfer.begun + THROTTLED_MAX > now && transfer.failed.is_none() && !self.paused;
                match std::mem::replace(&mut transfer.parts[sent.part], Part::Dropped) {
                    Part::Sent(submit) if patient => {
                        transfer.parts[sent.part] = Part::Waiting(submit);
                        self.queue.push_front((sent.id, sent.part));
                    }
                    _ => drop(transfer.failed.get_or_insert(outcome::refused(status))),
                }
            }
            status => {
                self.counts.refused += 1;
                transfer.parts[sent.part] = Part::Dropped;
                transfer.failed.get_or_insert(outcome::refused(status));
            }
        }
        self.settle(sent.id);
    }

    /// A submit_sm got no answer: its message centre may have accepted it or not.
    pub fn lost(&mut self, token: u64) {
        let Some(sent) = self.take_sent(token) else { return };
        self.counts.lost += 1;
        if let Some(transfer) = self.transfers.get_mut(&sent.id) {
            transfer.parts[sent.part] = Part::Dropped;
            transfer.failed.get_or_insert(outcome::unanswered());
        }
        self.settle(sent.id);
    }

    fn take_sent(&mut self, token: u64) -> Option<Sent> {
        let sent = self.sent.remove(&token)?;
        if let Some(bind) = self.transmitters.get_mut(&sent.bind) {
            bind.in_flight = bind.in_flight.saturating_sub(1);
        }
        Some(sent)
    }

    /// Reports a message once nothing of it is under way or to be sent.
    fn settle(&mut self, id: u64) {
        let Some(transfer) = self.transfers.get_mut(&id) else { return };
        if transfer.failed.is_some() {
            for part in transfer.parts.iter_mut().filter(|part| matches!(part, Part::Waiting(_))) {
                *part = Part::Dropped;
            }
        }
        let open = |part: &Part| matches!(part, Part::Waiting(_) | Part::Sent(_));
        if transfer.parts.iter().any(open) {
            return;
        }
        let Some(transfer) = self.transfers.remove(&id) else { return };
        let accepted = transfer.parts.into_iter().filter_map(|part| match part {
            Part::Accepted(message_id) => Some(message_id),
            _ => None,
        });
        let message_ids: Vec<String> = accepted.collect();
        let outcome = match transfer.failed {
            None => LinkOutcome::Accepted { message_ids },
            // Part of it is there: it is not as if nothing had been sent.
            Some(LinkOutcome::NotSent) if !message_ids.is_empty() => outcome::unanswered(),
            Some(failed) => failed,
        };
        self.effects.push_back(Effect::Outcome { id, outcome });
    }

    /// Nothing more can be sent: what waits goes back.
    fn give_back(&mut self) {
        for (id, _) in std::mem::take(&mut self.queue) {
            if let Some(transfer) = self.transfers.get_mut(&id) {
                transfer.failed.get_or_insert(LinkOutcome::NotSent);
            }
            self.settle(id);
        }
    }

    fn window(&self) -> usize {
        match self.link.window {
            0 => WINDOW_DEFAULT as usize,
            window => window as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_raft::model::Submission;

    fn at(millis: u64) -> MonoTime {
        MonoTime::from_nanos(1) + Duration::from_millis(millis)
    }

    fn message(id: u64, octets: usize) -> Arc<Message> {
        let submission = Submission {
            destination: Some(Address { ton: 1, npi: 1, digits: "15551".to_owned() }),
            short_message: vec![b'x'; octets].into(),
            expires_at_ms: 1_000_000,
            ..Default::default()
        };
        Arc::new(Message { id, submission: Some(submission), ..Default::default() })
    }

    fn to() -> Address {
        Address { ton: 1, npi: 1, digits: "15551".to_owned() }
    }

    /// A link with `binds` transmitters.
    fn core(link: Link, binds: usize) -> Core {
        let mut core = Core::new(Arc::new(link), at(0));
        for bind in 0..binds {
            core.bound(bind, InterfaceVersion::V3_4);
        }
        core
    }

    fn sends(core: &mut Core, now: u64) -> Vec<u64> {
        core.pump(at(now), now);
        let mut tokens = Vec::new();
        while let Some(effect) = core.poll_effect() {
            match effect {
                Effect::Send { token, .. } => tokens.push(token),
                Effect::Outcome { id, outcome } => panic!("message {id}: {outcome:?}"),
            }
        }
        tokens
    }

    fn outcomes(core: &mut Core) -> Vec<(u64, LinkOutcome)> {
        let mut found = Vec::new();
        while let Some(effect) = core.poll_effect() {
            if let Effect::Outcome { id, outcome } = effect {
                found.push((id, outcome));
            }
        }
        found
    }

    fn accepted(ids: &[&str]) -> LinkOutcome {
        LinkOutcome::Accepted { message_ids: ids.iter().map(|id| (*id).to_owned()).collect() }
    }

    #[test]
    fn windows_are_kept_and_all_binds_used() {
        let mut core = core(Link { window: 2, ..Default::default() }, 2);
        assert_eq!(core.window_total(), 4);
        for id in 1..=6 {
            core.offer(at(0), 0, message(id, 5), &to());
        }
        assert_eq!(sends(&mut core, 0), [0, 1, 2, 3]);
        core.answered(at(1), 2, CommandStatus::ESME_ROK, "a".to_owned());
        assert_eq!(outcomes(&mut core), [(3, accepted(&["a"]))]);
        assert_eq!(sends(&mut core, 1), [4]);
    }

    #[test]
    fn a_long_message_has_the_outcome_of_its_segments() {
        let mut long = core(Link::default(), 1);
        long.offer(at(0), 0, message(1, 400), &to());
        assert_eq!(sends(&mut long, 0), [0, 1, 2]);
        for (token, id) in [(1, "b"), (0, "a")] {
            long.answered(at(1), token, CommandStatus::ESME_ROK, id.to_owned());
            assert!(outcomes(&mut long).is_empty());
        }
        long.answered(at(1), 2, CommandStatus::ESME_ROK, "c".to_owned());
        assert_eq!(outcomes(&mut long), [(1, accepted(&["a", "b", "c"]))]);

        let mut refused = core(Link { window: 1, ..Default::default() }, 1);
        refused.offer(at(0), 0, message(1, 400), &to());
        assert_eq!(sends(&mut refused, 0), [0]);
        refused.answered(at(1), 0, CommandStatus::ESME_RINVDSTADR, String::new());
        // The other segments are not sent.
        assert_eq!(outcomes(&mut refused), [(1, outcome::refused(CommandStatus::ESME_RINVDSTADR))]);
        assert!(sends(&mut refused, 2).is_empty());
    }

    #[test]
    fn throttling_slows_down_and_sends_again() {
        let mut core = core(Link::default(), 1);
        core.offer(at(0), 0, message(1, 5), &to());
        assert_eq!(sends(&mut core, 0), [0]);
        core.answered(at(1), 0, CommandStatus::ESME_RTHROTTLED, String::new());
        assert!(sends(&mut core, 100).is_empty());
        let again = core.next_deadline(at(100)).expect("waits");
        assert_eq!(again, at(201));
        assert_eq!(sends(&mut core, 201), [1]);
        // It is not tried for ever.
        core.answered(at(10_001), 1, CommandStatus::ESME_RTHROTTLED, String::new());
        assert_eq!(outcomes(&mut core), [(1, outcome::refused(CommandStatus::ESME_RTHROTTLED))]);
    }

    #[test]
    fn what_was_not_sent_goes_back_and_what_was_is_doubtful() {
        let mut core = core(Link { window: 1, ..Default::default() }, 1);
        for id in 1..=3 {
            core.offer(at(0), 0, message(id, 5), &to());
        }
        assert_eq!(sends(&mut core, 0), [0]);
        // Whether the bind tells of it or not, before or after, it counts once.
        core.unbound(0);
        core.lost(0);
        assert_eq!(
            outcomes(&mut core),
            [(1, outcome::unanswered()), (2, LinkOutcome::NotSent), (3, LinkOutcome::NotSent)]
        );
        assert_eq!((core.in_flight(), core.counts().lost), (0, 1));
        assert_eq!((core.window_total(), core.is_up()), (0, false));
        core.offer(at(1), 1, message(4, 5), &to());
        assert_eq!(outcomes(&mut core), [(4, LinkOutcome::NotSent)]);
    }

    #[test]
    fn an_expired_message_is_not_sent() {
        let mut core = core(Link { window: 1, ..Default::default() }, 1);
        core.offer(at(0), 0, message(1, 5), &to());
        core.pump(at(1), 1_000_000);
        assert_eq!(outcomes(&mut core), [(1, LinkOutcome::NotSent)]);
    }
}
