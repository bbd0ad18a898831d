//! When to stand for election sooner than the engine's own timers would, and when a witness may.
//!
//! - The leader's guard has shown the token of its term: the address is released for certain, so nobody's lease need be
//!   waited out, and the vote is asked for as in a transfer of leadership.
//! - A candidate was refused because this node's log is longer: nobody but this node, or one like it, can win. It stands
//!   itself, as urgently as the candidate did. So the time of a takeover does not depend on which of the followers had
//!   the leader's last entries.
//! - The leader has been silent for as long as followers wait before they listen to another candidate: stand at once
//!   instead of after a further random wait. Voters who still hear the leader refuse, so that this takes nothing from
//!   a leader who has its quorum.
//! - A witness does not stand unless it had to refuse a data node for its log, or no data node became leader for a
//!   while: its log may be the only one that holds everything acknowledged. It then brings a data node up to date and
//!   hands over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::Fatal;
use openraft::raft::{TransferLeaderRequest, VoteRequest, VoteResponse};
use openraft::storage::RaftStateMachine;
use openraft::{Instant as _, Raft, ServerState};
use tokio::sync::Notify;

use super::machine::StateMachine;
use super::types::{TypeConfig, Vote};
use crate::leadership::release_token_hash;
use crate::storage::log::LogMonitor;

/// The shortest pause between two looks at the leader's silence.
const LOOK_MIN: Duration = Duration::from_millis(5);
/// How often a witness that leads looks whether a data node has its whole log.
const PASS_ON_LOOK: Duration = Duration::from_millis(2);
/// How long a witness waits before it asks a data node again to take over.
const PASS_ON_RETRY: Duration = Duration::from_millis(100);
/// How long a vote may take to be decided before it is asked for again, and how often that is done at once. Later the
/// engine's own timer repeats it.
const STAND_RETRY: Duration = Duration::from_millis(40);
/// See [`STAND_RETRY`].
const STANDS_MAX: usize = 4;
/// How long it is left at that in all while this node's own disk is busy with a vote.
const STAND_WAIT_MAX: Duration = Duration::from_secs(1);

type Engine = Raft<TypeConfig, StateMachine>;

/// How a node stands for election.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElectionConfig {
    /// This node.
    pub node_id: u64,
    /// How long followers refuse to elect another after they heard the leader.
    pub lease: Duration,
    /// Whether this node is a witness.
    pub witness: bool,
    /// How long a witness leaves the election to the data nodes.
    pub witness_patience: Duration,
}

/// A term, and the hash of the token that proves that its leader has released the address.
type ReleaseNote = (u64, [u8; 32]);

/// What leaders have made known, by node.
#[derive(Clone, Default)]
pub struct ReleaseNotes {
    known: Arc<Mutex<HashMap<u64, ReleaseNote>>>,
}

impl ReleaseNotes {
    /// Remembers what the leader of a term said, unless a later term of its was heard of.
    pub fn note(&self, node_id: u64, term: u64, hash: [u8; 32]) {
        let mut known = self.known.lock().expect("never held across a panic");
        let entry = known.entry(node_id).or_insert((term, hash));
        if entry.0 <= term {
            *entry = (term, hash);
        }
    }

    /// Whether the token is the one that this leader of this term spoke of.
    pub fn proves(&self, node_id: u64, term: u64, token: &[u8; 32]) -> bool {
        let known = self.known.lock().expect("never held across a panic");
        known.get(&node_id).is_some_and(|(at, hash)| *at == term && *hash == release_token_hash(token))
    }
}

/// What this node refused of others because its own log is longer.
#[derive(Clone, Default)]
pub struct LogRefusals {
    inner: Arc<Refused>,
}

#[derive(Default)]
struct Refused {
    /// The highest term that a candidate asked for whose leader before had released the address.
    released_term: Mutex<Option<u64>>,
    /// A candidate asked because the leader was silent.
    silent: Mutex<bool>,
    wake: Notify,
}

impl LogRefusals {
    /// Looks at an answer to a request for a vote, or for a promise of one.
    pub fn note(&self, request: &VoteRequest<TypeConfig>, response: &VoteResponse<TypeConfig>) {
        if response.vote_granted || response.last_log_id <= request.last_log_id {
            return;
        }
        if request.leadership_transfer {
            let mut term = self.inner.released_term.lock().expect("never held across a panic");
            *term = (*term).max(Some(request.vote.leader_id.term));
        } else {
            *self.inner.silent.lock().expect("never held across a panic") = true;
        }
        self.inner.wake.notify_one();
    }

    fn take_released(&self) -> Option<u64> {
        self.inner.released_term.lock().expect("never held across a panic").take()
    }

    fn take_silent(&self) -> bool {
        std::mem::take(&mut *self.inner.silent.lock().expect("never held across a panic"))
    }
}

/// Stands for election at once because the leader of `term` has released its address. Does nothing when that is not
/// the leader this node follows.
///
/// # Errors
/// The engine has stopped.
pub(crate) async fn stand_released(
    raft: &Engine,
    disk: &LogMonitor,
    node_id: u64,
    term: u64,
    own_id: u64,
) -> Result<(), String> {
    let (_, vote) = standing(raft);
    if vote.leader_id.term != term || vote.leader_id.node_id != node_id || !vote.committed {
        return Ok(());
    }
    tracing::info!(node_id, term, "the leader released its address: standing for election");
    insist(raft, disk, term + 1, own_id).await
}

/// Lets voters see a candidate whose leader before is known to have let go of the address: that leader's lease need not
/// be waited out here. Nothing is said against the lease of a leader of the asked term or a later one: the request may
/// have been under way for long. To be called before the engine sees the request, which must not see it as a transfer:
/// it would put it above every lease.
///
/// # Errors
/// The engine has stopped.
pub(crate) async fn admit(
    raft: &Raft<TypeConfig, impl RaftStateMachine<TypeConfig>>,
    request: &mut VoteRequest<TypeConfig>,
) -> Result<(), Fatal<TypeConfig>> {
    let (own_id, vote) = {
        let metrics = raft.server_metrics();
        let metrics = metrics.borrow_watched();
        (metrics.id, metrics.vote)
    };
    let candidate = request.vote.leader_id;
    // A leader that votes for its successor has no lease of another to keep.
    if !request.leadership_transfer || !vote.committed || vote.leader_id.node_id == own_id {
        return Ok(());
    }
    request.leadership_transfer = false;
    if vote.leader_id.term < candidate.term {
        // Only if the vote is still this one when the engine looks: so no later leader's lease is lost.
        let let_go = TransferLeaderRequest::new(vote, candidate.node_id, None);
        // To others than the target the engine has nothing to refuse.
        let _ = raft.handle_transfer_leader(let_go).await?;
    }
    Ok(())
}

/// A leader whose lease ran out, and which has its quorum back, stands for a new term: the old one's lease may have been
/// told to be over, and cannot be taken up again. Its own lease is what voters would wait for, so it asks them not to.
///
/// # Errors
/// The engine has stopped.
pub(crate) async fn stand_anew(raft: &Engine) -> Result<(), String> {
    let (state, vote) = standing(raft);
    let Vote { leader_id, .. } = vote;
    if state != ServerState::Leader {
        return Ok(());
    }
    let last_log_id = {
        let metrics = raft.data_metrics();
        let metrics = metrics.borrow_watched();
        metrics.last_log
    };
    // The engine knows no other way to step down than to meet a higher vote. This one is of the same term, so that the
    // term asked for is the next: voters let no lease go but those of terms before.
    let step_down = Vote::new(leader_id.term, u64::MAX);
    let mut request = VoteRequest::new(step_down, last_log_id);
    request.leadership_transfer = true;
    if !raft.vote(request).await.map_err(|error| error.to_string())?.vote_granted {
        // An entry was appended meanwhile; the next look repeats it.
        return Ok(());
    }
    let request = TransferLeaderRequest::new(step_down, leader_id.node_id, None);
    if let Err(refused) = raft.handle_transfer_leader(request).await.map_err(|fatal| fatal.to_string())? {
        tracing::info!(%refused, "this node's lease ran out, and it cannot stand anew yet");
    }
    Ok(())
}

/// Asks for votes, for `term` at first and without regard to the lease of the leader before, until somebody leads that
/// term or a later one. That lease is known to be over or released; nothing is known of a later leader's, so a second
/// try respects leases.
async fn insist(raft: &Engine, disk: &LogMonitor, term: u64, own_id: u64) -> Result<(), String> {
    let decided = |state: ServerState, vote: &Vote| {
        state == ServerState::Leader || (vote.committed && vote.leader_id.term >= term)
    };
    let begun = tokio::time::Instant::now();
    for _ in 0..STANDS_MAX {
        let (state, vote) = standing(raft);
        if decided(state, &vote) {
            return Ok(());
        }
        if vote.committed {
            // No log is named: the engine would refuse while the last entries are on their way to the disk. They count
            // for the vote as they do in every other election, and for a commit only once they are on the disk.
            let request = TransferLeaderRequest::new(vote, own_id, None);
            if let Err(refused) = raft.handle_transfer_leader(request).await.map_err(|fatal| fatal.to_string())? {
                tracing::info!(%refused, "the leader released its address, but this node cannot stand yet");
            }
        } else {
            raft.trigger().elect(false).await.map_err(|fatal| fatal.to_string())?;
        }
        let mut server = raft.server_metrics();
        let over = async {
            while {
                let (state, vote) = standing(raft);
                !decided(state, &vote)
            } {
                if server.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::pin!(over);
        // A vote that waits for this disk would only be followed by another one there.
        while tokio::time::timeout(STAND_RETRY, over.as_mut()).await.is_err()
            && disk.stalled_for() >= STAND_RETRY
            && begun.elapsed() < STAND_WAIT_MAX
        {}
    }
    Ok(())
}

/// What this node is, and whom it votes for or follows.
fn standing(raft: &Engine) -> (ServerState, Vote) {
    let metrics = raft.server_metrics();
    let metrics = metrics.borrow_watched();
    (metrics.state, metrics.vote)
}

/// Watches for a silent leader until the engine stops.
pub(crate) async fn watch(raft: Engine, disk: LogMonitor, config: ElectionConfig, refusals: LogRefusals) {
    let mut server = raft.server_metrics();
    let mut last_stood = tokio::time::Instant::now();
    let mut last_passed_on = None::<tokio::time::Instant>;
    let mut pause = config.lease;
    let mut wanted = false;
    let mut leads = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = refusals.inner.wake.notified() => {}
            changed = server.changed(), if config.witness || leads => if changed.is_err() {
                return;
            },
        }
        if let Some(term) = refusals.take_released() {
            tracing::info!(term, "a candidate's log was too short, this node's is longer: standing for election");
            if insist(&raft, &disk, term, config.node_id).await.is_err() {
                return;
            }
        }
        wanted |= refusals.take_silent();
        let Ok(heard) = raft.with_raft_state(|state| state.vote_last_modified().map(|at| at.elapsed())).await else {
            return;
        };
        let Some(heard) = heard else { continue };
        // A leader that goes on is heard again before this; one that does not is noticed just when its time is over.
        pause = config.lease.saturating_sub(heard).max(LOOK_MIN);
        let (state, voter) = {
            let metrics = raft.server_metrics();
            let metrics = metrics.borrow_watched();
            let voter = metrics.membership_config.membership().voter_ids().any(|id| id == metrics.id);
            (metrics.state, voter)
        };
        leads = state == ServerState::Leader;
        if leads {
            wanted = false;
            // A leader hears of itself as little as of another.
            pause = config.lease;
            if config.witness {
                pause = PASS_ON_LOOK;
                if last_passed_on.is_none_or(|at| at.elapsed() > PASS_ON_RETRY) {
                    match pass_on(&raft).await {
                        Ok(true) => last_passed_on = Some(tokio::time::Instant::now()),
                        Ok(false) => {}
                        Err(()) => return,
                    }
                }
            }
            continue;
        }
        last_passed_on = None;
        if config.witness {
            raft.runtime_config().elect(voter && heard > config.witness_patience);
        }
        if !voter || heard <= config.lease {
            wanted &= voter;
            continue;
        }
        // One try per silence and lease; the engine's own timer repeats. A witness leaves it to the data nodes unless
        // none of them can win.
        let stand = if config.witness { wanted } else { wanted || state == ServerState::Follower };
        if stand && last_stood.elapsed() > config.lease {
            wanted = false;
            last_stood = tokio::time::Instant::now();
            if raft.trigger().elect(true).await.is_err() {
                return;
            }
        }
    }
}

/// A witness that leads gives leadership to the data node that has the most of its log, once one has all of it.
/// Returns whether one had.
async fn pass_on(raft: &Engine) -> Result<bool, ()> {
    let target = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters = membership.voter_ids().collect::<Vec<_>>();
        let last = metrics.last_log_index;
        let serves = |id: &u64| voters.contains(id) && membership.get_node(id).is_some_and(|member| !member.witness);
        let replicated = metrics.replication.iter().flatten();
        let whole = replicated.filter(|(id, log)| serves(id) && log.as_ref().map(|log| log.index) == last);
        whole.map(|(id, _)| *id).next()
    };
    let Some(to) = target else { return Ok(false) };
    tracing::info!(to, "this witness was elected for its log; a data node has it all now and takes over");
    raft.trigger().transfer_leader(to).await.map_err(drop)?;
    Ok(true)
}
