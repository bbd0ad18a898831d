//! The state that the records of the log add up to, kept alike by the writer and by recovery.

use prost::Message as _;

use super::record::{Head, Kind, Position};
use crate::consensus::types::{LogId, Vote};
use crate::convert;

/// What all records up to a place in the stream say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Stream {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    /// The last entry, or what was purged last when there is none.
    pub(super) last: Option<LogId>,
}

impl Stream {
    /// The state as a segment's first record.
    pub(super) fn to_head(&self) -> Head {
        Head {
            vote: self.vote.as_ref().map(convert::vote::to_wire),
            committed: convert::log_id::opt_to_wire(self.committed.as_ref()),
            purged: convert::log_id::opt_to_wire(self.purged.as_ref()),
            last: convert::log_id::opt_to_wire(self.last.as_ref()),
        }
    }

    /// The state as a segment's first record has it.
    pub(super) fn from_head(payload: &[u8]) -> Result<Self, String> {
        let head = Head::decode(payload).map_err(|e| e.to_string())?;
        Ok(Self {
            vote: head.vote.as_ref().map(convert::vote::from_wire).transpose().map_err(|e| e.to_string())?,
            committed: convert::log_id::opt_from_wire(head.committed.as_ref()),
            purged: convert::log_id::opt_from_wire(head.purged.as_ref()),
            last: convert::log_id::opt_from_wire(head.last.as_ref()),
        })
    }

    /// Whether an entry with this index can be the next.
    pub(super) fn takes(&self, index: u64) -> bool {
        self.last.is_none_or(|last| last.index.checked_add(1) == Some(index))
    }

    /// Takes entries behind the position out; it never reaches into what was purged.
    pub(super) fn truncate(&mut self, after: Option<LogId>) {
        let kept = if index_of(after) < index_of(self.purged) { self.purged } else { after };
        if index_of(kept) < index_of(self.last) {
            self.last = kept;
        }
    }

    /// Takes entries up to the position out, which may lie behind the last entry.
    pub(super) fn purge(&mut self, upto: LogId) {
        if self.purged.is_none_or(|purged| purged.index < upto.index) {
            self.purged = Some(upto);
        }
        if self.last.is_none_or(|last| last.index < upto.index) {
            self.last = Some(upto);
        }
    }

    /// Follows one of the records that carry a position.
    pub(super) fn follow(&mut self, kind: Kind, payload: &[u8]) -> Result<(), String> {
        let position = Position::decode(payload).map_err(|e| e.to_string())?;
        let position = convert::log_id::opt_from_wire(position.log_id.as_ref());
        match (kind, position) {
            (Kind::Committed, committed) => self.committed = committed,
            (Kind::Truncate, after) => self.truncate(after),
            (Kind::Purge, Some(upto)) => self.purge(upto),
            (Kind::Purge, None) => return Err("a purge up to nowhere".to_owned()),
            (other, _) => return Err(format!("{other:?} carries no position")),
        }
        Ok(())
    }
}

/// The index behind which the next entry comes; nothing is before index zero.
pub(super) fn next_index(last: Option<LogId>) -> u64 {
    last.map_or(0, |last| last.index.saturating_add(1))
}

fn index_of(id: Option<LogId>) -> Option<u64> {
    id.map(|id| id.index)
}

/// A position as the payload of a record.
pub(super) fn position(id: Option<LogId>) -> Position {
    Position { log_id: convert::log_id::opt_to_wire(id.as_ref()) }
}
