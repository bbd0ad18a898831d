//! What a follower's log is known to hold, because the follower said so with its vote.
//!
//! The engine learns how far a follower's log reaches by halving: a dozen probes, one after the other, before a new
//! leader's first entry is sent. But whoever voted for the leader told the end of its log with the vote, and both are on
//! its disk. If that end was written by the same leader as the end of the log of whoever asked for the vote, and lies not
//! behind it, both logs hold the same entries up to there (Raft section 5.3, log matching). Probes up to there need not be
//! sent: the answer is known.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::raft::{AppendEntriesRequest, VoteRequest, VoteResponse};

use crate::consensus::types::{LogId, TypeConfig, Vote};
use crate::leadership::MonoTime;

/// The end of a follower's log, which is a part of the log of the leader that it voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownLog {
    /// The vote; what it was given for.
    vote: Vote,
    /// The last entry of the follower's log.
    last: LogId,
}

impl KnownLog {
    /// What a vote tells; nothing if it was refused, or if the logs may differ before the follower's ends.
    pub(super) fn by_vote(request: &VoteRequest<TypeConfig>, response: &VoteResponse<TypeConfig>) -> Option<Self> {
        let (own, last) = (request.last_log_id?, response.last_log_id?);
        let same = last.leader_id == own.leader_id && last.index <= own.index;
        (response.vote_granted && same).then_some(Self { vote: request.vote, last })
    }

    /// The last entry of an append, if the follower has all of it: what the follower would answer.
    pub(super) fn answer(&self, append: &AppendEntriesRequest<TypeConfig>) -> Option<LogId> {
        let last = append.entries.last()?.log_id;
        (append.vote.leader_id == self.vote.leader_id && last.index <= self.last.index).then_some(last)
    }
}

/// When this node last answered its engine itself, in a follower's place.
///
/// The engine takes each answer for a sign that the follower heard of the leader just then. It did not: what rests on a
/// quorum's having heard, as the lease does, counts from signs that are later than the last such answer.
#[derive(Debug, Default)]
pub(crate) struct OwnAnswers(AtomicU64);

impl OwnAnswers {
    /// The engine is being answered now.
    pub(super) fn note(&self) {
        self.0.fetch_max(MonoTime::now().as_nanos(), Ordering::AcqRel);
    }

    /// Whether what was sent to a quorum then was surely answered by the followers themselves.
    pub(crate) fn all_before(&self, sent: MonoTime) -> bool {
        self.0.load(Ordering::Acquire) < sent.as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;

    use super::*;
    use crate::consensus::types::Entry;
    use crate::convert::log_id;

    fn id(term: u64, index: u64) -> LogId {
        log_id::from_wire(&smsc_proto::rpc::raft::LogId { term, node_id: 1, index })
    }

    fn append(term: u64, last: Option<LogId>) -> AppendEntriesRequest<TypeConfig> {
        let entries = last.map(|log_id| Entry { log_id, payload: EntryPayload::Blank });
        AppendEntriesRequest {
            vote: Vote::new_committed(term, 2),
            prev_log_id: None,
            entries: entries.into_iter().collect(),
            leader_commit: None,
        }
    }

    fn by_vote(own: Option<LogId>, follower: Option<LogId>, granted: bool) -> Option<KnownLog> {
        let vote = Vote::new(7, 2);
        KnownLog::by_vote(&VoteRequest::new(vote, own), &VoteResponse::new(vote, follower, granted))
    }

    #[test]
    fn the_end_of_a_log_is_known_only_if_the_same_leader_wrote_both_ends() {
        assert!(by_vote(Some(id(5, 90)), Some(id(5, 90)), true).is_some());
        assert!(by_vote(Some(id(5, 90)), Some(id(5, 88)), true).is_some());
        for (own, follower) in [
            (Some(id(5, 90)), Some(id(4, 80))),
            (Some(id(5, 90)), Some(id(4, 95))),
            (Some(id(5, 90)), Some(id(5, 91))),
            (Some(id(5, 90)), None),
            (None, None),
        ] {
            assert_eq!(by_vote(own, follower, true), None, "{own:?} {follower:?}");
        }
        assert_eq!(by_vote(Some(id(5, 90)), Some(id(5, 90)), false), None);
    }

    #[test]
    fn only_the_elected_leaders_appends_up_to_there_are_answered() {
        let known = by_vote(Some(id(5, 90)), Some(id(5, 88)), true).expect("the same leader's");
        for last in [id(3, 10), id(5, 88)] {
            assert_eq!(known.answer(&append(7, Some(last))), Some(last));
        }
        assert_eq!(known.answer(&append(7, Some(id(5, 89)))), None);
        assert_eq!(known.answer(&append(8, Some(id(5, 88)))), None, "of another term");
        assert_eq!(known.answer(&append(7, None)), None, "there is nothing to answer for");
    }

    #[test]
    fn what_was_sent_before_an_own_answer_proves_nothing() {
        let answers = OwnAnswers::default();
        let before = MonoTime::now();
        assert!(answers.all_before(before));
        answers.note();
        assert!(!answers.all_before(before));
        std::thread::sleep(std::time::Duration::from_millis(1));
        assert!(answers.all_before(MonoTime::now()));
    }
}
