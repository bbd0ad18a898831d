//! The one thread that writes the log.
//!
//! It takes every request that waits, in order, writes their records with one call and syncs once; only then are the
//! requests answered. What is known to be committed needs no sync of its own and rides along with the next request.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use openraft::storage::IOFlushed;
use prost::Message;
use tokio::sync::oneshot;

use super::disk::Disk;
use super::error::LogError;
use super::marks::{Mark, MarkChange, Marker};
use super::record::{END_LEN, Head, Kind, Place, encode, record_len};
use super::segment::{RECORDS_START, Segment};
use super::spares::Spares;
use super::stream::{Stream, next_index, position};
use super::view::Shared;
use crate::consensus::types::{Entry, LogId, TypeConfig, Vote};
use crate::convert;

/// A round takes no more requests in once it has this many bytes to write.
const ROUND_BYTES: usize = 8 << 20;
/// A buffer that one huge round has made larger than this is not kept.
const BUFFER_KEPT_BYTES: usize = 16 << 20;

/// The answer to a request that has to be on disk first.
pub(super) type Answer = oneshot::Sender<Result<(), LogError>>;

/// A request to the writer.
pub(super) enum Request {
    Append { entries: Vec<Entry>, ticket: u64, flushed: IOFlushed<TypeConfig> },
    Vote { vote: Vote, answer: Answer },
    Truncate { after: Option<LogId>, answer: Answer },
    Purge { upto: LogId },
}

/// A segment that is complete.
pub(super) struct Sealed {
    pub(super) segment: Arc<Segment>,
    /// The largest index of an entry that it ever held.
    pub(super) index_max: Option<u64>,
}

/// The segment that is being written.
pub(super) struct Active {
    pub(super) segment: Arc<Segment>,
    /// Where the next write goes; everything before is durable.
    pub(super) position: u32,
    pub(super) index_max: Option<u64>,
}

/// What the writer starts from.
pub(super) struct Start {
    pub(super) stream: Stream,
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) active: Active,
    pub(super) marker: Marker,
}

/// See the module.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    /// Asks for another spare.
    wanted: Sender<()>,
    stream: Stream,
    sealed: VecDeque<Sealed>,
    active: Active,
    marker: Marker,
    /// Records that go to the active segment's position.
    buffer: Vec<u8>,
    changes: Vec<MarkChange>,
}

/// What a round owes its requests.
#[derive(Default)]
struct Round {
    flushed: Vec<IOFlushed<TypeConfig>>,
    answers: Vec<Answer>,
    ticket: Option<u64>,
    purges: bool,
}

impl Writer {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        shared: Arc<Shared>,
        spares: Arc<Spares>,
        wanted: Sender<()>,
        start: Start,
    ) -> Self {
        let Start { stream, sealed, active, marker } = start;
        let (buffer, changes) = (Vec::new(), Vec::new());
        Self { disk, dir, shared, spares, wanted, stream, sealed, active, marker, buffer, changes }
    }

    /// Serves requests until nobody can send any more.
    pub(super) fn run(mut self, requests: &Receiver<Request>) {
        let guard = StopGuard(self.shared.clone());
        while let Ok(first) = requests.recv() {
            // Read before the requests behind `first` are taken, so that what it names is among them or before.
            let committed = self.shared.lock().stream.committed;
            let mut round = Round::default();
            let result = self.round(first, requests, committed, &mut round);
            let purged = result.is_ok() && round.purges;
            round.answer(result.map_err(|error| self.shared.counters.fail(error)));
            if purged && let Err(error) = self.drop_purged() {
                self.shared.counters.fail(error);
            }
        }
        if self.shared.counters.check().is_ok()
            && let Err(error) = self.finish()
        {
            self.shared.counters.fail(error);
        }
        drop(guard);
    }

    fn round(
        &mut self,
        first: Request,
        requests: &Receiver<Request>,
        committed: Option<LogId>,
        round: &mut Round,
    ) -> Result<(), LogError> {
        let mut next = Some(first);
        let mut result = self.shared.counters.check();
        while let Some(request) = next {
            if result.is_ok() {
                result = self.take(request, round);
            } else {
                round.owe(request);
            }
            next = if self.buffer.len() < ROUND_BYTES { requests.try_recv().ok() } else { None };
        }
        result?;
        self.put_committed(committed)?;
        self.flush()?;
        self.shared.lock().written(round.ticket, std::mem::take(&mut self.changes), self.stream.vote);
        Ok(())
    }

    /// Encodes one request. The state follows the record, so that a segment begun for it has the state before.
    fn take(&mut self, request: Request, round: &mut Round) -> Result<(), LogError> {
        let result = match &request {
            Request::Append { entries, ticket, .. } => {
                round.ticket = Some(*ticket);
                entries.iter().try_for_each(|entry| self.put_entry(entry))
            }
            Request::Vote { vote, .. } => {
                self.put(Kind::Vote, 0, &convert::vote::to_wire(vote)).map(|_| self.stream.vote = Some(*vote))
            }
            Request::Truncate { after, .. } => {
                self.put(Kind::Truncate, 0, &position(*after)).map(|_| self.truncated(*after))
            }
            Request::Purge { upto } => {
                round.purges = true;
                self.put(Kind::Purge, 0, &position(Some(*upto))).map(|_| self.purged(*upto))
            }
        };
        round.owe(request);
        result
    }

    fn put_entry(&mut self, entry: &Entry) -> Result<(), LogError> {
        let index = entry.log_id.index;
        let offset = self.put(Kind::Entry, index, &convert::entry::to_wire(entry))?;
        self.stream.last = Some(entry.log_id);
        self.active.index_max = self.active.index_max.max(Some(index));
        if self.marker.marks(offset) {
            self.changes.push(MarkChange::Add(Mark { index, segment: self.active.segment.clone(), offset }));
        }
        Ok(())
    }

    fn truncated(&mut self, after: Option<LogId>) {
        self.stream.truncate(after);
        self.changes.push(MarkChange::RemoveFrom(next_index(self.stream.last)));
        self.marker.interrupt();
    }

    fn purged(&mut self, upto: LogId) {
        self.stream.purge(upto);
        let next = next_index(self.stream.purged);
        if next_index(self.stream.last) <= next {
            self.marker.interrupt();
            self.changes.push(MarkChange::RemoveAll);
        } else {
            self.changes.push(MarkChange::RemoveBefore(next));
        }
    }

    /// Notes what is committed if that is news, and the log has it.
    fn put_committed(&mut self, committed: Option<LogId>) -> Result<(), LogError> {
        if committed == self.stream.committed || next_index(committed) > next_index(self.stream.last) {
            return Ok(());
        }
        self.put(Kind::Committed, 0, &position(committed))?;
        self.stream.committed = committed;
        Ok(())
    }

    /// Adds a record to the buffer, in the next segment if this one is full, and gives its offset.
    fn put(&mut self, kind: Kind, index: u64, payload: &impl Message) -> Result<u32, LogError> {
        let len = record_len(payload.encoded_len());
        if self.end() + len + END_LEN > self.active.segment.capacity as usize {
            self.roll(len)?;
        }
        if self.end() == RECORDS_START as usize && kind != Kind::Head {
            self.encode(Kind::Head, 0, &self.stream.to_head());
        }
        Ok(self.encode(kind, index, payload))
    }

    fn encode(&mut self, kind: Kind, index: u64, payload: &impl Message) -> u32 {
        let offset = u32::try_from(self.end()).expect("a segment is smaller than 4 GiB");
        let place = Place { sequence: self.active.segment.sequence, offset, synced: self.active.position };
        encode(&mut self.buffer, place, kind, index, payload);
        offset
    }

    /// Where in the active segment the buffer ends.
    fn end(&self) -> usize {
        self.active.position as usize + self.buffer.len()
    }

    /// Completes the segment, and goes on in a new one with room for a record of this length.
    ///
    /// The old segment is durable to its end before the new one exists.
    fn roll(&mut self, len: usize) -> Result<(), LogError> {
        self.encode(Kind::End, 0, &Head::default());
        self.flush()?;
        let head = record_len(self.stream.to_head().encoded_len());
        let spare = self.spares.take(RECORDS_START as usize + head + len + END_LEN)?;
        let sequence = self.active.segment.sequence + 1;
        let segment = Arc::new(Segment::activate(self.disk.as_ref(), &self.dir, spare, sequence)?);
        let fresh = Active { segment, position: RECORDS_START, index_max: None };
        let full = std::mem::replace(&mut self.active, fresh);
        self.sealed.push_back(Sealed { segment: full.segment, index_max: full.index_max });
        self.marker.interrupt();
        // Without its thread there is no spare ahead, and the next roll makes one itself.
        let _ = self.wanted.send(());
        Ok(())
    }

    /// Writes and syncs the buffer.
    fn flush(&mut self) -> Result<(), LogError> {
        let Active { segment, position, .. } = &mut self.active;
        self.shared.counters.measure(self.buffer.len(), || {
            let offset = u64::from(*position);
            segment.file.write_at(&self.buffer, offset).map_err(LogError::io("write", &segment.path))?;
            segment.file.sync().map_err(LogError::io("sync", &segment.path))
        })?;
        *position += u32::try_from(self.buffer.len()).expect("the buffer fits into the segment");
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT_BYTES);
        Ok(())
    }

    /// Lets segments go whose entries are all purged. The active one begins with the state, so nothing else is lost.
    fn drop_purged(&mut self) -> Result<(), LogError> {
        let purged = self.stream.purged.map(|purged| purged.index);
        while self.sealed.front().is_some_and(|oldest| oldest.index_max <= purged)
            && let Some(oldest) = self.sealed.pop_front()
        {
            self.spares.recycle(oldest.segment)?;
        }
        Ok(())
    }

    /// Leaves nothing behind that a restart would have to find out again.
    fn finish(&mut self) -> Result<(), LogError> {
        let committed = self.shared.lock().stream.committed;
        self.put_committed(committed)?;
        if self.buffer.is_empty() { Ok(()) } else { self.flush() }
    }
}

impl Round {
    /// Remembers whom to answer.
    fn owe(&mut self, request: Request) {
        match request {
            Request::Append { flushed, .. } => self.flushed.push(flushed),
            Request::Vote { answer, .. } | Request::Truncate { answer, .. } => self.answers.push(answer),
            Request::Purge { .. } => {}
        }
    }

    /// Answers everybody. A caller that has gone away needs no answer.
    fn answer(self, result: Result<(), LogError>) {
        for flushed in self.flushed {
            flushed.io_completed(result.clone().map_err(Into::into));
        }
        for answer in self.answers {
            let _ = answer.send(result.clone());
        }
    }
}

/// Makes the end of the thread known if it ends by a panic.
struct StopGuard(Arc<Shared>);

impl Drop for StopGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.counters.fail(LogError::Stopped);
        }
    }
}
