//! How this node came to lead: what told that the leader before was gone, and when each step was done. For the metrics,
//! and for the report of a drill.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smsc_proto::rpc::admin::{LastTakeoverResponse, last_takeover_response::Kind};
use smsc_raft::consensus::network::{Link, Loss};

use super::peer::NodeState;
use crate::clock::now_us;
use crate::metrics::{Firsts, TakeoverKind};

/// A step on the way to serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The lease runs, everything acknowledged before is applied.
    Leading,
    /// The addresses are held and announced.
    Announced,
    /// SMPP is listened for.
    Serving,
}

/// The takeover under way or the last one. Shared by those who see a part of it.
#[derive(Debug, Default)]
pub(super) struct Takeovers {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The last node but this one that led.
    before: Option<u64>,
    /// The term of a leader that offered leadership to this node.
    offered_in: Option<u64>,
    /// What is noticed while nobody leads.
    vacancy: LastTakeoverResponse,
    /// The last time that this node came to lead.
    last: LastTakeoverResponse,
}

impl Takeovers {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another node leads, so whatever was noticed of its predecessor is over.
    fn follows(&self, leader: u64) {
        let mut inner = self.lock();
        inner.before = Some(leader);
        inner.vacancy = LastTakeoverResponse::default();
    }

    /// Something tells that the leader is gone; the first word counts.
    pub(super) fn noticed(&self, by: impl Into<String>) {
        let mut inner = self.lock();
        if inner.vacancy.noticed_at_us == 0 {
            inner.vacancy.noticed_at_us = now_us();
            inner.vacancy.noticed_by = by.into();
        }
    }

    /// The leader of this term is about to give leadership to this node.
    pub(super) fn offered(&self, term: u64) {
        self.lock().offered_in = Some(term);
        self.noticed("the leader's offer to take over");
    }

    fn voting(&self) {
        let mut inner = self.lock();
        if inner.vacancy.voting_at_us == 0 {
            inner.vacancy.voting_at_us = now_us();
        }
    }

    /// The engine says that this node leads in this term.
    fn elected(&self, node_id: u64, term: u64) {
        let mut inner = self.lock();
        if inner.last.term == term {
            return;
        }
        let kind = match (inner.before, inner.offered_in) {
            // A transfer raises the term by one; with more between, others have tried meanwhile.
            (_, Some(offered)) if term == offered + 1 => Kind::Handover,
            (None, _) => Kind::Start,
            (Some(_), _) => Kind::Failure,
        };
        let vacancy = std::mem::take(&mut inner.vacancy);
        inner.last = LastTakeoverResponse { node_id, term, kind: kind as i32, elected_at_us: now_us(), ..vacancy };
        // Whoever leads next after this node takes over from it.
        inner.before = Some(node_id);
        inner.offered_in = None;
    }

    /// This node has come to this step of the takeover of this term.
    pub(super) fn reached(&self, node_id: u64, term: u64, step: Step) {
        self.elected(node_id, term);
        let now = now_us();
        let mut inner = self.lock();
        match step {
            Step::Leading => inner.last.leading_at_us = now,
            Step::Announced => inner.last.announced_at_us = now,
            Step::Serving => inner.last.serving_at_us = now,
        }
    }

    /// The last time that this node came to lead, and when ESMEs came back then.
    pub(super) fn last(&self, firsts: &Firsts) -> LastTakeoverResponse {
        let last = self.lock().last.clone();
        LastTakeoverResponse {
            first_bind_at_us: firsts.bound_at_us(),
            first_ack_at_us: firsts.acknowledged_at_us(),
            ..last
        }
    }

    /// Why this node leads in this term.
    pub(super) fn kind(&self) -> TakeoverKind {
        match self.lock().last.kind() {
            Kind::Start => TakeoverKind::Start,
            Kind::Handover => TakeoverKind::Handover,
            Kind::Failure => TakeoverKind::Failure,
        }
    }
}

/// Follows leaders and peers for as long as the process lives.
pub(super) async fn watch(state: Arc<NodeState>) {
    let own_id = state.config.node_id;
    let takeovers = &state.takeovers;
    let (mut views, mut peers) = (state.store.view_changes(), state.store.peers());
    let mut term_led = 0;
    loop {
        let view = state.store.view();
        match view.leader {
            Some(leader) if leader == own_id && view.leads => takeovers.elected(own_id, view.term),
            Some(leader) if leader != own_id => {
                let lost = peers.borrow_and_update().get(&leader).and_then(|peer| match &peer.link {
                    Link::Lost { cause: Loss::Closed(_), .. } => Some("its connection was closed".to_owned()),
                    Link::Lost { cause: Loss::Silent(pings), .. } => Some(format!("{pings} pings without answer")),
                    Link::Connecting | Link::Connected { .. } => None,
                });
                match lost {
                    Some(by) => takeovers.noticed(by),
                    None => takeovers.follows(leader),
                }
                term_led = view.term;
            }
            Some(_) => {}
            None => {
                if term_led != 0 {
                    takeovers.noticed("its silence");
                }
                if view.term > term_led {
                    takeovers.voting();
                }
            }
        }
        tokio::select! {
            () = views.next() => {}
            changed = peers.changed() => if changed.is_err() { return },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_handover_and_failure_are_told_apart() {
        let takeovers = Takeovers::default();
        takeovers.reached(1, 1, Step::Leading);
        assert_eq!(takeovers.kind(), TakeoverKind::Start);
        takeovers.follows(2);
        takeovers.noticed("its connection was closed");
        takeovers.noticed("its silence");
        takeovers.voting();
        takeovers.reached(1, 3, Step::Leading);
        assert_eq!(takeovers.kind(), TakeoverKind::Failure);
        let last = takeovers.last(&Firsts::default());
        assert_eq!(last.noticed_by, "its connection was closed");
        assert!(last.noticed_at_us <= last.voting_at_us && last.voting_at_us <= last.elected_at_us);
        takeovers.follows(2);
        takeovers.offered(4);
        takeovers.reached(1, 5, Step::Announced);
        assert_eq!(takeovers.kind(), TakeoverKind::Handover);
        // The offer was for one term.
        takeovers.follows(2);
        takeovers.offered(6);
        takeovers.follows(2);
        takeovers.reached(1, 8, Step::Leading);
        assert_eq!(takeovers.kind(), TakeoverKind::Failure);
    }

    #[test]
    fn a_leader_that_was_only_silent_for_a_moment_leaves_no_trace() {
        let takeovers = Takeovers::default();
        takeovers.follows(2);
        takeovers.noticed("its silence");
        takeovers.follows(2);
        takeovers.noticed("3 pings without answer");
        takeovers.reached(1, 2, Step::Serving);
        assert_eq!(takeovers.last(&Firsts::default()).noticed_by, "3 pings without answer");
        assert!(takeovers.last(&Firsts::default()).serving_at_us != 0);
    }
}
