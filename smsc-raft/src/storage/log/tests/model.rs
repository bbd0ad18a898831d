//! The log as a plain list, the requests made to it, and what may be left of them after a crash.

use openraft::EntryPayload;
use openraft::alias::OneshotReceiverOf;
use openraft::storage::{IOFlushed, RaftLogReader as _, RaftLogStorage as _};
use openraft::type_config::TypeConfigExt as _;

use super::super::LogStore;
use super::sim::Rng;
use crate::consensus::types::{Batch, Entry, LogId, TypeConfig, Vote};
use crate::convert;

/// A request to the log.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Append(Vec<Entry>),
    Vote(Vote),
    Committed(LogId),
    Truncate(Option<LogId>),
    Purge(LogId),
}

/// What a log has to hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    pub(super) last: Option<LogId>,
    pub(super) entries: Vec<Entry>,
}

pub(super) fn log_id(term: u64, index: u64) -> LogId {
    convert::log_id::from_wire(&smsc_proto::rpc::raft::LogId { term, node_id: 1, index })
}

/// An entry whose bytes no other entry has: a torn record must not be completed by chance by what is written over it.
pub(super) fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let mut rng = Rng(term << 48 ^ index << 24 ^ bytes as u64);
    let words = std::iter::repeat_with(|| rng.next().to_le_bytes()).flatten();
    let batch = Batch::from_encoded(words.take(bytes).collect::<Vec<u8>>().into());
    Entry { log_id: log_id(term, index), payload: EntryPayload::Normal(batch) }
}

impl Model {
    pub(super) fn next_index(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    fn purged_next(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(entries) => {
                self.entries.extend_from_slice(entries);
                self.last = entries.last().map(|entry| entry.log_id).or(self.last);
            }
            Op::Vote(vote) => self.vote = Some(*vote),
            Op::Committed(_) => {}
            Op::Truncate(after) => {
                self.entries.retain(|entry| after.is_some_and(|after| entry.log_id.index <= after.index));
                self.last = self.entries.last().map(|entry| entry.log_id).or(self.purged);
            }
            Op::Purge(upto) => {
                if self.purged.is_none_or(|purged| purged.index < upto.index) {
                    self.purged = Some(*upto);
                }
                self.entries.retain(|entry| entry.log_id.index > upto.index);
                self.last = self.entries.last().map(|entry| entry.log_id).or(self.purged);
            }
        }
    }

    /// A request that fits the log as it is.
    pub(super) fn choose(&self, rng: &mut Rng) -> Op {
        let term = self.vote.map_or(0, |vote| vote.leader_id.term).max(self.last.map_or(0, |l| l.leader_id.term));
        match rng.below(20) {
            0..=11 => {
                let next = self.next_index();
                let count = 1 + rng.below(5);
                let sizes = if rng.chance(10) { 9000 } else { 400 };
                let size = |rng: &mut Rng| usize::try_from(rng.below(sizes)).expect("small");
                Op::Append((next..next + count).map(|index| entry(term, index, size(rng))).collect())
            }
            12 | 13 => Op::Vote(Vote::new(term + 1, rng.below(3))),
            14 | 15 => Op::Committed(self.last.unwrap_or(log_id(0, 0))),
            16 | 17 => {
                let purged = self.purged_next();
                let kept = rng.below((self.next_index() - purged).min(12) + 1);
                let index = self.next_index() - kept;
                let after = self.entries.iter().find(|entry| entry.log_id.index + 1 == index);
                Op::Truncate(after.map(|entry| entry.log_id).or(self.purged))
            }
            _ => match self.entries.len() as u64 {
                0 => Op::Purge(log_id(term, self.next_index() + rng.below(3))),
                count => {
                    let position = usize::try_from(rng.below(count)).expect("small");
                    Op::Purge(self.entries[position].log_id)
                }
            },
        }
    }

    /// What may be there when everything in `ops` was asked for and the first `acked` of them were answered: a log
    /// loses its end only, and an append may get halfway.
    pub(super) fn possible(&self, ops: &[Op], acked: usize) -> Vec<Model> {
        let mut state = self.clone();
        let mut states = Vec::new();
        for (position, op) in ops.iter().enumerate() {
            if position >= acked {
                states.push(state.clone());
                if let Op::Append(entries) = op {
                    for count in 1..entries.len() {
                        let mut half = state.clone();
                        half.apply(&Op::Append(entries[..count].to_vec()));
                        states.push(half);
                    }
                }
            }
            state.apply(op);
        }
        states.push(state);
        states
    }

    /// Reads everything back.
    pub(super) async fn read(store: &mut LogStore) -> std::io::Result<Self> {
        let state = store.get_log_state().await?;
        let mut reader = store.get_log_reader().await;
        let vote = reader.read_vote().await?;
        let entries = reader.try_get_log_entries(..).await?;
        Ok(Self { vote, purged: state.last_purged_log_id, last: state.last_log_id, entries })
    }

    /// Reads everything back from a log that is in order.
    pub(super) async fn of(store: &mut LogStore) -> Self {
        Self::read(store).await.expect("a log in order")
    }
}

/// How a request stands.
pub(super) enum Sent {
    /// It is on disk, or does not say when it is.
    Done,
    /// It will be answered.
    Waiting(OneshotReceiverOf<TypeConfig, std::io::Result<()>>),
}

/// Sends a request.
pub(super) async fn send(store: &mut LogStore, op: &Op) -> std::io::Result<Sent> {
    match op {
        Op::Append(entries) => {
            let (flushed, waiting) = TypeConfig::oneshot();
            store.append(entries.clone(), IOFlushed::signal(flushed)).await?;
            return Ok(Sent::Waiting(waiting));
        }
        Op::Vote(vote) => store.save_vote(vote).await?,
        Op::Committed(committed) => store.save_committed(Some(*committed)).await?,
        Op::Truncate(after) => store.truncate_after(*after).await?,
        Op::Purge(upto) => store.purge(*upto).await?,
    }
    Ok(Sent::Done)
}

/// Sends a request and waits until it is on disk, if it tells.
pub(super) async fn done(store: &mut LogStore, op: &Op) -> std::io::Result<()> {
    match send(store, op).await? {
        Sent::Waiting(answer) => answer.await.expect("an answer"),
        Sent::Done => Ok(()),
    }
}

/// Whether an answer to this request means that it is on disk.
pub(super) fn is_durable_when_done(op: &Op) -> bool {
    matches!(op, Op::Vote(_) | Op::Truncate(_))
}
