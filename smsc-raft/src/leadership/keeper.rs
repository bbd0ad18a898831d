//! Keeps the lease: from what Raft says of its quorum to the `Leadership` that the node acts on.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, Raft, ServerState};
use tokio::sync::watch;

use super::{Leadership, Lease, MonoTime};
use crate::consensus::election;
use crate::consensus::machine::StateMachine;
use crate::consensus::network::OwnAnswers;
use crate::consensus::types::TypeConfig;

/// The times of the lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeeperConfig {
    /// How long a quorum's answer lets the leader act, counted from when it was asked. Less than the time for which
    /// followers refuse to elect another.
    pub lease: Duration,
    /// How often the quorum is asked, by heartbeats.
    pub heartbeat: Duration,
    /// Whether this node may act as leader at all: a witness may not.
    pub serves: bool,
}

/// A quorum's answer is looked for so long after its heartbeat at the latest, and as often until it has come.
const ANSWER_LOOK: Duration = Duration::from_millis(5);
/// The engine sends a heartbeat at the first tick after it is due. Its ticks are 13/64 of a heartbeat apart.
const LATE_BEAT: (u32, u32) = (77, 64);

/// How long a leader that gave its lease up may take to give leadership away before it stands for a new term.
const GIVEN_UP_PAUSE: Duration = Duration::from_secs(1);

/// The task that owns the lease.
pub(crate) struct Keeper {
    raft: Raft<TypeConfig, StateMachine>,
    config: KeeperConfig,
    published: watch::Sender<Option<Leadership>>,
    lease: Option<Arc<Lease>>,
    /// Since when the lease of this term is known to be over.
    over_since: Option<MonoTime>,
    /// Whether this node leads and has no lease of its term yet.
    awaits_lease: bool,
    /// When a quorum was asked last that surely answered itself, and in which term.
    asked: Option<(u64, MonoTime)>,
    own_answers: Arc<OwnAnswers>,
    /// Index of the last entry applied when the quorum's answers were looked at last.
    applied_before: Option<u64>,
}

impl Keeper {
    pub(crate) fn new(
        raft: Raft<TypeConfig, StateMachine>,
        config: KeeperConfig,
        published: watch::Sender<Option<Leadership>>,
        own_answers: Arc<OwnAnswers>,
    ) -> Self {
        Self {
            raft,
            config,
            published,
            lease: None,
            over_since: None,
            awaits_lease: false,
            asked: None,
            own_answers,
            applied_before: None,
        }
    }

    /// Runs until the engine stops.
    pub(crate) async fn run(mut self) {
        let mut server = self.raft.server_metrics();
        let mut data = self.raft.data_metrics();
        let tick = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(tick);
        loop {
            tokio::select! {
                changed = server.changed() => if changed.is_err() { break },
                // A new leader serves as soon as its first entry is applied and its quorum has answered.
                changed = data.changed(), if self.awaits_lease => if changed.is_err() { break },
                // How far the lease reaches changes without a word of the engine.
                () = &mut tick, if self.awaits_lease || self.lease.is_some() => {}
            }
            let own_delay = tokio::time::Instant::now().saturating_duration_since(tick.deadline());
            match self.step(own_delay).await {
                Ok(look_after) => tick.as_mut().reset(tokio::time::Instant::now() + look_after),
                Err(()) => break,
            }
        }
        self.resign();
    }

    /// A look that comes so late. Returns when to look again at the latest.
    async fn step(&mut self, own_delay: Duration) -> Result<Duration, ()> {
        let often = self.config.heartbeat / 2;
        let (leads, term, voters) = {
            let metrics = self.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let voters = metrics.membership_config.membership().voter_ids().count();
            (metrics.state == ServerState::Leader, metrics.vote.leader_id.term, voters)
        };
        if self.lease.as_ref().is_some_and(|lease| !leads || lease.term() != term) {
            self.resign();
        }
        self.awaits_lease = leads && self.config.serves && self.lease.is_none();
        if !leads || !self.config.serves {
            return Ok(often);
        }
        let (applied, acked) = {
            let metrics = self.raft.data_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.last_applied, metrics.last_quorum_acked)
        };
        // Everything acknowledged by leaders before is applied once an entry of the own term is.
        if applied.map(|id| id.leader_id.term) != Some(term) {
            return Ok(often);
        }
        let applied = applied.map(|id| id.index);
        let is_idle = std::mem::replace(&mut self.applied_before, applied) == applied;
        let now = MonoTime::now();
        let asked = match acked {
            // A quorum of one answers itself.
            _ if voters == 1 => now,
            Some(at) => MonoTime::from_nanos(now.as_nanos().saturating_sub(nanos(at.elapsed()))),
            None => return Ok(often),
        };
        if voters == 1 || self.own_answers.all_before(asked) {
            self.asked = Some((term, asked));
        } else {
            // Somebody may be counted who was not asked: ask.
            self.raft.trigger().heartbeat().await.map_err(drop)?;
        }
        let Some((_, asked)) = self.asked.filter(|(of, _)| *of == term) else { return Ok(ANSWER_LOOK) };
        let deadline = asked + self.config.lease;
        match &self.lease {
            None if deadline > now => {
                let lease = Lease::new(term);
                lease.extend(deadline);
                self.published.send_replace(Some(Leadership::new(lease.clone())));
                self.lease = Some(lease);
                self.awaits_lease = false;
            }
            None => {}
            Some(lease) if lease.extend(deadline) => {}
            Some(lease) => {
                // Whoever gave it up, or leaves it to a successor, hands leadership to another or stops; should
                // neither come to be, go on.
                let on_purpose = lease.is_given_up() || lease.is_left();
                if self.over_since.is_none() && !on_purpose {
                    let answer_age = now.since(asked);
                    let stood_still = own_delay > self.config.heartbeat;
                    let cause = if stood_still { "this node stood still" } else { "no quorum answered" };
                    tracing::warn!(term, ?answer_age, ?own_delay, "the lease ran out: {cause}");
                }
                let over_since = *self.over_since.get_or_insert(now);
                let pause = if on_purpose { GIVEN_UP_PAUSE } else { Duration::ZERO };
                self.published.send_replace(None);
                // A lease that ran out is over for its whole term, and peers may have been told so: with a quorum back,
                // stand for a new one.
                if deadline > now && now.since(over_since) >= pause {
                    tracing::warn!(term, "the lease is over, and a quorum answers: standing for a new term");
                    election::stand_anew(&self.raft).await.map_err(drop)?;
                }
            }
        }
        // Entries are answered all the time; without any, there is nothing new before the next heartbeat's answer.
        let beat = self.config.heartbeat * LATE_BEAT.0 / LATE_BEAT.1;
        let next_answer = (asked + beat + ANSWER_LOOK).since(now).min(deadline.since(now) / 2);
        let waits = is_idle && !self.awaits_lease && self.over_since.is_none();
        Ok(if waits { next_answer.max(ANSWER_LOOK) } else { often })
    }

    fn resign(&mut self) {
        self.over_since = None;
        if let Some(lease) = self.lease.take() {
            // In a transfer, whoever holds the address ends it, once the address is off.
            if !lease.is_left() {
                lease.end();
            }
            self.published.send_replace(None);
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
