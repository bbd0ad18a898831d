//! Where in the segments the entries are: a sparse index, one mark for a run of neighbours.

use std::collections::VecDeque;
use std::sync::Arc;

use super::segment::Segment;

/// A run of entries gets another mark after this many bytes, which bounds both the memory of the index (below 100 KiB
/// per GiB of log) and what is read in vain to find one entry.
const MARK_EVERY: u32 = 16 << 10;

/// Here lies the entry with this index, and those behind it follow up to the next mark.
#[derive(Clone)]
pub(super) struct Mark {
    pub(super) index: u64,
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u32,
}

/// A change of the index, as it follows from a record.
pub(super) enum MarkChange {
    /// A run begins.
    Add(Mark),
    /// Entries from this index on are no more.
    RemoveFrom(u64),
    /// Entries before this index are no more, but some behind it are.
    RemoveBefore(u64),
    /// There is no entry any more.
    RemoveAll,
}

/// Decides which entries get a mark, in the order they are written.
#[derive(Default)]
pub(super) struct Marker {
    last: Option<u32>,
}

impl Marker {
    /// Whether the entry at this offset begins a run.
    pub(super) fn marks(&mut self, offset: u32) -> bool {
        let due = self.last.is_none_or(|last| offset - last >= MARK_EVERY);
        if due {
            self.last = Some(offset);
        }
        due
    }

    /// The next entry begins a run: it is in another segment, or does not follow the one before.
    pub(super) fn interrupt(&mut self) {
        self.last = None;
    }
}

/// Entries to read from one segment.
pub(super) struct Span {
    pub(super) segment: Arc<Segment>,
    /// Where to begin looking.
    pub(super) offset: u32,
    /// The first entry wanted.
    pub(super) from: u64,
    /// Behind the last entry wanted.
    pub(super) to: u64,
}

/// The index over everything written.
#[derive(Default)]
pub(super) struct Marks {
    marks: VecDeque<Mark>,
}

impl Marks {
    pub(super) fn apply(&mut self, change: MarkChange) {
        match change {
            MarkChange::Add(mark) => self.marks.push_back(mark),
            MarkChange::RemoveFrom(index) => {
                self.marks.truncate(self.marks.partition_point(|mark| mark.index < index));
            }
            MarkChange::RemoveAll => self.marks.clear(),
            MarkChange::RemoveBefore(index) => {
                while self.marks.get(1).is_some_and(|second| second.index <= index) {
                    self.marks.pop_front();
                }
            }
        }
    }

    /// The first entry that has been written and not taken out.
    pub(super) fn first_index(&self) -> Option<u64> {
        self.marks.front().map(|mark| mark.index)
    }

    /// Where the entries from `from` up to before `to` are; `None` if one has no place.
    pub(super) fn spans(&self, from: u64, to: u64) -> Option<Vec<Span>> {
        let first = self.marks.partition_point(|mark| mark.index <= from).checked_sub(1)?;
        let mut spans = Vec::new();
        let mut at = from;
        for (position, mark) in self.marks.iter().enumerate().skip(first) {
            if at >= to {
                break;
            }
            let end = self.marks.get(position + 1).map_or(to, |next| next.index.min(to));
            spans.push(Span { segment: mark.segment.clone(), offset: mark.offset, from: at, to: end });
            at = end;
        }
        Some(spans)
    }
}
