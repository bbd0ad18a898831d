//! Reading entries: from memory when they are new, else from the segments.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use openraft::alias::LeaderIdOf;
use openraft::errors::LeaderChanged;
use openraft::storage::{LeaderBoundedStreamError, LeaderBoundedStreamResult, RaftLogReader};
use prost::Message as _;
use smsc_proto::rpc::raft as wire;

use super::error::LogError;
use super::marks::Span;
use super::record::{HEADER, Kind, Parsed, parse};
use super::segment::Segment;
use super::view::{ReadPlan, Shared};
use crate::consensus::types::{Entry, TypeConfig, Vote};
use crate::convert;

/// What a stream or a limited read takes into memory at a time, roughly.
const CHUNK_BYTES: usize = 1 << 20;
/// What is read from a segment at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// Reads the log beside its writer. Cheap to clone.
#[derive(Clone)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The entries of the range that are there, in order, up to about `bytes_max` but at least one.
    async fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        let plan = self.shared.checked()?.plan(from, to, bytes_max);
        self.carry_out(plan, bytes_max).await
    }

    async fn carry_out(&self, plan: ReadPlan, bytes_max: usize) -> Result<Vec<Entry>, LogError> {
        let ReadPlan { spans, cached } = plan;
        if spans.is_empty() {
            return Ok(cached);
        }
        let read = tokio::task::spawn_blocking(move || read_spans(&spans, bytes_max)).await;
        let (mut entries, whole) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Err(self.shared.counters.fail(error)),
            Err(_) => return Err(LogError::Stopped),
        };
        if whole {
            entries.extend(cached);
        }
        Ok(entries)
    }

    /// A chunk for a stream that is bound to a leader, or the vote that says it has changed.
    async fn read_of_leader(
        &self,
        leader: LeaderIdOf<TypeConfig>,
        from: u64,
        to: u64,
    ) -> Result<Result<Vec<Entry>, Option<Vote>>, LogError> {
        // Under one lock: entries are truncated only for another leader, and only after its vote was saved.
        let plan = {
            let view = self.shared.checked()?;
            let vote = view.stream.vote;
            if !vote.is_some_and(|vote| vote.leader_id == leader && vote.committed) {
                return Ok(Err(vote));
            }
            view.plan(from, to, CHUNK_BYTES)
        };
        self.carry_out(plan, CHUNK_BYTES).await.map(Ok)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderIdOf<TypeConfig>,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let reader = self.clone();
        let (from, to) = bounds(&range);
        let chunks = stream::unfold(Some(from), move |from| {
            let reader = reader.clone();
            async move {
                let from = from?;
                let chunk = reader.read_of_leader(leader, from, to).await;
                let (items, next) = match chunk {
                    Ok(Ok(entries)) => {
                        let next = following(&entries, to);
                        (entries.into_iter().map(Ok).collect(), next)
                    }
                    Ok(Err(vote)) => {
                        let changed = LeaderChanged::new(leader, vote);
                        (vec![Err(LeaderBoundedStreamError::LeaderChanged(changed))], None)
                    }
                    Err(error) => (vec![Err(LeaderBoundedStreamError::IoError(error.into()))], None),
                };
                Some((stream::iter(items), next))
            }
        });
        Box::pin(futures::StreamExt::flatten(chunks))
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let reader = self.clone();
        let (from, to) = bounds(&range);
        let chunks = stream::unfold(Some(from), move |from| {
            let reader = reader.clone();
            async move {
                let from = from?;
                let (items, next) = match reader.read(from, to, CHUNK_BYTES).await {
                    Ok(entries) => {
                        let next = following(&entries, to);
                        (entries.into_iter().map(Ok).collect(), next)
                    }
                    Err(error) => (vec![Err(error.into())], None),
                };
                Some((stream::iter(items), next))
            }
        });
        Box::pin(futures::StreamExt::flatten(chunks))
    }

    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let (from, to) = bounds(&range);
        Ok(self.read(from, to, usize::MAX).await?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.shared.checked()?.stream.vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        Ok(self.read(start, end, CHUNK_BYTES).await?)
    }
}

/// First index, and the one behind the last.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

/// Where the next chunk begins, if there is one.
fn following(entries: &[Entry], to: u64) -> Option<u64> {
    entries.last().map(|last| last.log_id.index + 1).filter(|next| *next < to)
}

/// The entries of the spans, and whether these are all.
pub(super) fn read_spans(spans: &[Span], bytes_max: usize) -> Result<(Vec<Entry>, bool), LogError> {
    let mut entries = Vec::new();
    let mut left = bytes_max;
    for span in spans {
        if !read_span(span, &mut entries, &mut left)? {
            return Ok((entries, false));
        }
    }
    Ok((entries, true))
}

/// Reads one span; `false` when the bytes allowed were used up before its end.
fn read_span(span: &Span, entries: &mut Vec<Entry>, left: &mut usize) -> Result<bool, LogError> {
    let segment = &span.segment;
    let mut wanted = span.from;
    let mut offset = span.offset;
    let mut block_bytes = BLOCK_BYTES;
    loop {
        let block = read_block(segment, offset, block_bytes)?;
        block_bytes = BLOCK_BYTES;
        let mut at = 0;
        loop {
            if wanted >= span.to {
                return Ok(true);
            }
            if *left == 0 {
                return Ok(false);
            }
            let here = offset + u32::try_from(at).expect("a block lies within a segment");
            match parse(&block[at..], segment.sequence, here) {
                Parsed::Record(found) => {
                    if found.kind == Kind::Entry && found.index == wanted {
                        let payload = block.slice(at + HEADER..at + HEADER + found.payload_len);
                        entries.push(decode_entry(segment, here, wanted, payload)?);
                        *left = left.saturating_sub(found.len());
                        wanted += 1;
                    }
                    at += found.len();
                }
                Parsed::Partial(len) if here as usize + len <= segment.capacity as usize => {
                    offset = here;
                    block_bytes = block_bytes.max(len);
                    break;
                }
                Parsed::Partial(_) | Parsed::Invalid => {
                    let what = format!("the record that leads to entry {wanted} is not valid");
                    return Err(LogError::corrupt(&segment.path, here.into(), what));
                }
            }
        }
    }
}

fn read_block(segment: &Segment, offset: u32, len: usize) -> Result<Bytes, LogError> {
    let mut block = vec![0; len.min((segment.capacity - offset) as usize)];
    segment.file.read_at(&mut block, offset.into()).map_err(LogError::io("read", &segment.path))?;
    Ok(block.into())
}

/// The entry that a valid record holds.
fn decode_entry(segment: &Segment, offset: u32, index: u64, payload: Bytes) -> Result<Entry, LogError> {
    let corrupt = |what: String| LogError::corrupt(&segment.path, offset.into(), what);
    let record = wire::Entry::decode(payload).map_err(|e| corrupt(format!("an entry that cannot be decoded: {e}")))?;
    let entry = convert::entry::from_wire(record).map_err(|e| corrupt(e.to_string()))?;
    if entry.log_id.index == index {
        Ok(entry)
    } else {
        Err(corrupt(format!("the record of entry {index} holds entry {}", entry.log_id)))
    }
}
