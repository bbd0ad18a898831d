//! When to stand for election sooner than the engine's own timers would, and when a witness may.
//!
//! - The leader's guard has shown the token of its term: the address is released for certain, so nobody's lease need be
//!   waited out, and the vote is asked for as in a transfer of leadership.
//! - The leader has been silent for as long as followers wait before they listen to another candidate: stand at once
//!   instead of after a further random wait. Voters who still hear the leader refuse, so that this takes nothing from
//!   a leader who has its quorum.
//! - A witness does not stand unless no data node became leader for a while: its log may be the only one that holds
//!   everything acknowledged. It then brings a data node up to date and hands over.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::TransferLeaderRequest;
use openraft::{Instant as _, Raft, ServerState};

use super::machine::StateMachine;
use super::types::TypeConfig;
use crate::leadership::release_token_hash;

/// The shortest pause between two looks at the leader's silence.
const LOOK_MIN: Duration = Duration::from_millis(5);

type Engine = Raft<TypeConfig, StateMachine>;

/// How a node stands for election.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElectionConfig {
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

/// Stands for election at once because the leader of `term` has released its address. Does nothing when that is not
/// the leader this node follows.
///
/// # Errors
/// The engine has stopped.
pub(crate) async fn stand_released(raft: &Engine, node_id: u64, term: u64, own_id: u64) -> Result<bool, String> {
    let (vote, last_log) = {
        let server = raft.server_metrics();
        let vote = server.borrow_watched().vote;
        let data = raft.data_metrics();
        let last_log = data.borrow_watched().last_log;
        (vote, last_log)
    };
    if vote.leader_id.term != term || vote.leader_id.node_id != node_id || !vote.committed {
        return Ok(false);
    }
    let request = TransferLeaderRequest::new(vote, own_id, last_log);
    match raft.handle_transfer_leader(request).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(refused)) => {
            tracing::info!(%refused, "the leader released its address, but this node cannot stand yet");
            Ok(false)
        }
        Err(fatal) => Err(fatal.to_string()),
    }
}

/// Watches for a silent leader until the engine stops.
pub(crate) async fn watch(raft: Engine, config: ElectionConfig) {
    let mut last_stood = tokio::time::Instant::now();
    let mut pause = config.lease;
    loop {
        tokio::time::sleep(pause).await;
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
        if config.witness {
            raft.runtime_config().elect(voter && state != ServerState::Leader && heard > config.witness_patience);
            if state == ServerState::Leader && last_stood.elapsed() > config.lease {
                last_stood = tokio::time::Instant::now();
                if pass_on(&raft).await.is_err() {
                    return;
                }
            }
            continue;
        }
        if !voter || state == ServerState::Leader {
            continue;
        }
        // One try per silence and lease; the engine's own timer repeats.
        if heard > config.lease && last_stood.elapsed() > config.lease && state == ServerState::Follower {
            last_stood = tokio::time::Instant::now();
            if raft.trigger().elect(true).await.is_err() {
                return;
            }
        }
    }
}

/// A witness that leads gives leadership to the data node that has the most of its log, once one has all of it.
async fn pass_on(raft: &Engine) -> Result<(), ()> {
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
    let Some(to) = target else { return Ok(()) };
    tracing::info!(to, "this witness was elected for its log; a data node has it all now and takes over");
    raft.trigger().transfer_leader(to).await.map_err(drop)
}
