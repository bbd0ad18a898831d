//! The log as the engine sees it: what was asked for counts at once, whether or not it is on disk yet.
//!
//! The newest entries are here in memory, those not yet written always among them; the older ones have marks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use openraft::EntryPayload;

use super::error::LogError;
use super::marks::{MarkChange, Marks, Span};
use super::monitor::Counters;
use super::stream::{Stream, next_index};
use crate::consensus::types::{Entry, LogId, Vote};

/// What an entry takes besides its batch.
const ENTRY_OVERHEAD: usize = 128;

/// The view behind its lock, and the failure that ends its use. Held briefly, never across IO.
pub(super) struct Shared {
    view: Mutex<View>,
    pub(super) counters: Arc<Counters>,
}

impl Shared {
    pub(super) fn new(view: View, counters: Arc<Counters>) -> Self {
        Self { view: Mutex::new(view), counters }
    }

    /// The view, whether or not the log has failed.
    pub(super) fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("no holder of this lock panics")
    }

    /// The view of a log in order.
    pub(super) fn checked(&self) -> Result<MutexGuard<'_, View>, LogError> {
        self.counters.check()?;
        Ok(self.lock())
    }
}

/// See the module.
pub(super) struct View {
    /// Vote as it is on disk; the rest as it was asked for.
    pub(super) stream: Stream,
    /// The first entry there is.
    first: u64,
    cached: VecDeque<Cached>,
    cached_bytes: usize,
    cache_bytes_max: usize,
    /// Index of the first entry in `cached`; behind the last entry when there is none.
    cached_from: u64,
    marks: Marks,
    /// The ticket of the newest request.
    ticket: u64,
    /// The newest ticket whose entries are on disk.
    written: u64,
}

struct Cached {
    entry: Entry,
    bytes: usize,
    ticket: u64,
}

/// How to come by a range of entries: first from disk, then these.
pub(super) struct ReadPlan {
    pub(super) spans: Vec<Span>,
    pub(super) cached: Vec<Entry>,
}

impl View {
    pub(super) fn new(stream: Stream, marks: Marks, cache_bytes_max: usize) -> Self {
        let next = next_index(stream.last);
        let first = match stream.purged {
            Some(purged) => purged.index + 1,
            None => marks.first_index().unwrap_or(next),
        };
        Self {
            stream,
            first,
            cached: VecDeque::new(),
            cached_bytes: 0,
            cache_bytes_max,
            cached_from: next,
            marks,
            ticket: 0,
            written: 0,
        }
    }

    /// Takes new entries in and gives the ticket under which they are to be written.
    ///
    /// # Errors
    /// `Refused` if they leave a hole, `TooLarge` if one fits no segment; nothing is taken then.
    pub(super) fn append(&mut self, entries: &[Entry], batch_bytes_max: usize) -> Result<u64, LogError> {
        let mut last = self.stream.last;
        for entry in entries {
            if last.is_some_and(|last| last.index.checked_add(1) != Some(entry.log_id.index)) {
                let what = format!("an entry {} behind {}: a hole", entry.log_id, next_index(last).saturating_sub(1));
                return Err(LogError::Refused { what });
            }
            let bytes = batch_bytes(entry);
            if bytes > batch_bytes_max {
                return Err(LogError::TooLarge { bytes, max: batch_bytes_max });
            }
            last = Some(entry.log_id);
        }
        self.ticket += 1;
        let Some(head) = entries.first() else { return Ok(self.ticket) };
        if self.stream.last.is_none() {
            self.first = head.log_id.index;
            self.cached_from = head.log_id.index;
        }
        for entry in entries {
            let bytes = batch_bytes(entry) + ENTRY_OVERHEAD;
            self.cached_bytes += bytes;
            self.cached.push_back(Cached { entry: entry.clone(), bytes, ticket: self.ticket });
        }
        self.stream.last = last;
        Ok(self.ticket)
    }

    /// Takes entries behind the position out.
    ///
    /// # Errors
    /// `Refused` if it lies in what was purged.
    pub(super) fn truncate(&mut self, after: Option<LogId>) -> Result<(), LogError> {
        if let Some(purged) = self.stream.purged
            && after.is_none_or(|after| after.index < purged.index)
        {
            let what = format!("to truncate into what was purged up to {purged}");
            return Err(LogError::Refused { what });
        }
        let next = next_index(after);
        self.stream.truncate(after);
        while self.cached.back().is_some_and(|cached| cached.entry.log_id.index >= next) {
            let cached = self.cached.pop_back().expect("just seen");
            self.cached_bytes -= cached.bytes;
        }
        if self.cached.is_empty() {
            self.cached_from = self.cached_from.min(next);
        }
        Ok(())
    }

    /// Takes entries up to the position out.
    pub(super) fn purge(&mut self, upto: LogId) {
        self.stream.purge(upto);
        let next = upto.index.saturating_add(1);
        self.first = self.first.max(next);
        while self.cached.front().is_some_and(|cached| cached.entry.log_id.index < next) {
            self.pop_cached();
        }
        self.cached_from = self.cached_from.max(next);
    }

    /// The writer has made all this durable.
    pub(super) fn written(&mut self, ticket: Option<u64>, changes: Vec<MarkChange>, vote: Option<Vote>) {
        for change in changes {
            self.marks.apply(change);
        }
        self.written = ticket.unwrap_or(self.written);
        self.stream.vote = vote;
        while self.cached_bytes > self.cache_bytes_max
            && self.cached.front().is_some_and(|cached| cached.ticket <= self.written)
        {
            self.pop_cached();
        }
    }

    /// How to read the entries of a range that are there, up to about `bytes_max`, but at least one.
    pub(super) fn plan(&self, from: u64, to: u64, bytes_max: usize) -> ReadPlan {
        let from = from.max(self.first);
        let to = if self.stream.last.is_none() { from } else { to.min(next_index(self.stream.last)) };
        if from >= to {
            return ReadPlan { spans: Vec::new(), cached: Vec::new() };
        }
        let disk_to = to.min(self.cached_from);
        let spans = if from < disk_to {
            self.marks.spans(from, disk_to).expect("an entry that is not in memory has been written and marked")
        } else {
            Vec::new()
        };
        let skip = usize::try_from(from.saturating_sub(self.cached_from)).unwrap_or(usize::MAX);
        let mut left = bytes_max;
        let mut cached = Vec::new();
        for known in self.cached.iter().skip(skip).take_while(|known| known.entry.log_id.index < to) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(known.bytes);
            cached.push(known.entry.clone());
        }
        ReadPlan { spans, cached }
    }

    fn pop_cached(&mut self) {
        if let Some(cached) = self.cached.pop_front() {
            self.cached_bytes -= cached.bytes;
            self.cached_from = cached.entry.log_id.index + 1;
        }
    }
}

fn batch_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(batch) => batch.encoded().len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}
