//! Opening a log: reading back what is there, telling a torn end from damage.
//!
//! A write that the power cut short may leave any of its sectors behind, in any order. So a bad record ends the log if
//! it was part of the last write; it is damage if a record written later shows that it had been durable, or if the
//! segment is not the last. Damage is reported and left as it is.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use prost::Message as _;
use smsc_proto::rpc::raft as wire;

use super::disk::Disk;
use super::error::LogError;
use super::marks::{Mark, MarkChange, Marker, Marks};
use super::record::{ALIGN, Found, HEADER, Head, Kind, Parsed, Place, encode, parse};
use super::segment::{RECORDS_START, Segment, file_name, sequence_of};
use super::spares::Spares;
use super::stream::{Stream, next_index};
use super::writer::{Active, Sealed, Start};
use crate::consensus::types::LogId;
use crate::convert;

/// The name of the file that is locked while a process has the log open.
pub(super) const LOCK_FILE: &str = "LOCK";
/// What a file system puts into its root by itself.
const IGNORED: [&str; 1] = ["lost+found"];

/// What was found.
pub(super) struct Recovered {
    pub(super) start: Start,
    pub(super) marks: Marks,
}

/// The files of the directory, told apart.
pub(super) struct Listing {
    segments: Vec<u64>,
    spares: Vec<String>,
}

/// Reads the log back, or begins one in an empty directory. The caller holds the lock.
pub(super) fn recover(disk: &dyn Disk, dir: &Path, spares: &Spares) -> Result<Recovered, LogError> {
    let listing = list(disk, dir)?;
    check_sequence(&listing.segments, dir)?;
    let mut replay = Replay::default();
    let last = listing.segments.last().copied();
    let first = listing.segments.first().copied();
    let mut active = None;
    for sequence in listing.segments {
        let segment = Arc::new(Segment::open(disk, dir, sequence)?);
        spares.count(segment.capacity.into());
        let read = replay.segment(&segment, Some(sequence) == last)?;
        if Some(sequence) == last {
            disk.sync_dir(dir).map_err(LogError::io("sync the directory", dir))?;
        }
        if Some(sequence) == last && !read.ended {
            active = Some(Active { segment, position: read.end, index_max: read.index_max });
        } else {
            replay.sealed.push_back(Sealed { segment, index_max: read.index_max });
        }
    }
    replay.check_begin(first, dir)?;
    for name in listing.spares {
        spares.adopt(&name)?;
    }
    let active = match active {
        Some(active) if !replay.leftovers => active,
        torn => {
            if let Some(torn) = torn {
                replay.sealed.push_back(seal(torn)?);
            }
            replay.marker.interrupt();
            let sequence = last.map_or(1, |last| last + 1);
            let spare = spares.take(0)?;
            let segment = Arc::new(Segment::activate(disk, dir, spare, sequence)?);
            Active { segment, position: RECORDS_START, index_max: None }
        }
    };
    let Replay { stream, marks, marker, sealed, .. } = replay;
    Ok(Recovered { start: Start { stream, sealed, active, marker }, marks })
}

/// Lists the directory.
///
/// # Errors
/// `Foreign` if it holds anything that no log puts there.
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> Result<Listing, LogError> {
    let mut listing = Listing { segments: Vec::new(), spares: Vec::new() };
    for name in disk.list(dir).map_err(LogError::io("list", dir))? {
        if let Some(sequence) = sequence_of(&name) {
            listing.segments.push(sequence);
        } else if Spares::is_name(&name) {
            listing.spares.push(name);
        } else if name != LOCK_FILE && !IGNORED.contains(&name.as_str()) {
            return Err(LogError::Foreign { path: dir.join(name) });
        }
    }
    listing.segments.sort_unstable();
    listing.spares.sort_unstable();
    Ok(listing)
}

fn check_sequence(segments: &[u64], dir: &Path) -> Result<(), LogError> {
    match segments.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        Some(gap) => {
            let path = dir.join(file_name(gap[0] + 1));
            Err(LogError::corrupt(&path, 0, "the segment is missing"))
        }
        None => Ok(()),
    }
}

/// Marks the end of a segment behind which parts of a torn write lie, so that nothing can ever join them.
fn seal(torn: Active) -> Result<Sealed, LogError> {
    let Active { segment, position, index_max } = torn;
    let place = Place { sequence: segment.sequence, offset: position, synced: position };
    let mut end = Vec::new();
    encode(&mut end, place, Kind::End, 0, &Head::default());
    write_durably(&segment, position, &end)?;
    Ok(Sealed { segment, index_max })
}

/// Writes and syncs.
fn write_durably(segment: &Segment, offset: u32, bytes: &[u8]) -> Result<(), LogError> {
    segment.file.write_at(bytes, offset.into()).map_err(LogError::io("write", &segment.path))?;
    segment.file.sync().map_err(LogError::io("sync", &segment.path))
}

/// How one segment ended.
struct SegmentRead {
    /// Where the next record goes.
    end: u32,
    /// Whether it is complete.
    ended: bool,
    index_max: Option<u64>,
}

#[derive(Default)]
struct Replay {
    stream: Stream,
    marks: Marks,
    marker: Marker,
    sealed: VecDeque<Sealed>,
    /// What the first segment's entries follow, once its head was read.
    begin: Option<Option<LogId>>,
    /// Valid records of a torn write lie behind the log's end.
    leftovers: bool,
}

impl Replay {
    fn segment(&mut self, segment: &Arc<Segment>, is_last: bool) -> Result<SegmentRead, LogError> {
        let mut bytes = vec![0; segment.capacity as usize];
        segment.file.read_at(&mut bytes, 0).map_err(LogError::io("read", &segment.path))?;
        self.marker.interrupt();
        let mut read = SegmentRead { end: RECORDS_START, ended: false, index_max: None };
        let mut synced = RECORDS_START;
        loop {
            let rest = &bytes[read.end as usize..];
            let Parsed::Record(found) = parse(rest, segment.sequence, read.end) else { break };
            let payload = &rest[HEADER..HEADER + found.payload_len];
            synced = found.synced;
            read.ended = found.kind == Kind::End;
            if !read.ended {
                self.record(segment, read.end, found, payload)
                    .map_err(|what| LogError::corrupt(&segment.path, read.end.into(), what))?;
            }
            if found.kind == Kind::Entry {
                read.index_max = read.index_max.max(Some(found.index));
            }
            read.end += u32::try_from(found.len()).expect("a record lies within its segment");
            if read.ended {
                break;
            }
        }
        if is_last {
            if !read.ended {
                self.torn_end(segment, &bytes, read.end)?;
            }
            // Once more, the same bytes: what a killed process wrote can be read back and yet be lost with the power, and
            // after a sync that failed the next one has nothing to do, though the bytes never got to the disk.
            write_durably(segment, synced, &bytes[synced as usize..read.end as usize])?;
        } else if !read.ended {
            let what = "a record is not valid, though the next segment continues the log";
            return Err(LogError::corrupt(&segment.path, read.end.into(), what));
        }
        Ok(read)
    }

    fn record(&mut self, segment: &Arc<Segment>, offset: u32, found: Found, payload: &[u8]) -> Result<(), String> {
        let first = offset == RECORDS_START;
        if first != (found.kind == Kind::Head) {
            return Err(format!("{:?} is not expected here", found.kind));
        }
        match found.kind {
            Kind::Head => self.head(Stream::from_head(payload)?)?,
            Kind::Entry => {
                let id = entry_id(payload)?;
                if id.index != found.index || !self.stream.takes(id.index) {
                    return Err(format!("entry {id} does not follow entry {:?}", self.stream.last.map(|l| l.index)));
                }
                self.stream.last = Some(id);
                if self.marker.marks(offset) {
                    let mark = Mark { index: id.index, segment: segment.clone(), offset };
                    self.marks.apply(MarkChange::Add(mark));
                }
            }
            Kind::Vote => {
                let vote = wire::Vote::decode(payload).map_err(|e| e.to_string())?;
                self.stream.vote = Some(convert::vote::from_wire(&vote).map_err(|e| e.to_string())?);
            }
            Kind::Committed => self.stream.follow(found.kind, payload)?,
            Kind::Truncate | Kind::Purge => {
                self.stream.follow(found.kind, payload)?;
                self.follow_in_marks(found.kind);
            }
            Kind::End => {}
        }
        Ok(())
    }

    /// The first segment's head tells the state; that of a later one has to agree with what was read.
    fn head(&mut self, head: Stream) -> Result<(), String> {
        match self.begin {
            None => {
                self.begin = Some(head.last);
                self.stream = head;
                Ok(())
            }
            Some(_) if head == self.stream => Ok(()),
            Some(_) => Err("the segment does not continue the one before".to_owned()),
        }
    }

    fn follow_in_marks(&mut self, kind: Kind) {
        let next = next_index(self.stream.last);
        match kind {
            Kind::Truncate => {
                self.marks.apply(MarkChange::RemoveFrom(next));
                self.marker.interrupt();
            }
            _ => {
                let behind = next_index(self.stream.purged);
                if next <= behind {
                    self.marker.interrupt();
                    self.marks.apply(MarkChange::RemoveAll);
                } else {
                    self.marks.apply(MarkChange::RemoveBefore(behind));
                }
            }
        }
    }

    /// Decides about a bad record in the last segment.
    fn torn_end(&mut self, segment: &Segment, bytes: &[u8], end: u32) -> Result<(), LogError> {
        for at in (end as usize + ALIGN..bytes.len()).step_by(ALIGN) {
            let here = u32::try_from(at).expect("a segment is smaller than 4 GiB");
            if let Parsed::Record(later) = parse(&bytes[at..], segment.sequence, here) {
                if later.synced > end {
                    let what = format!("a record is not valid, though a later one, at {at}, is");
                    return Err(LogError::corrupt(&segment.path, end.into(), what));
                }
                self.leftovers = true;
            }
        }
        if self.leftovers {
            tracing::warn!(
                file = %segment.path.display(), offset = end,
                "the last write to the Raft log was cut short and is left out; nothing in it was acknowledged"
            );
        }
        Ok(())
    }

    /// The entries that were not purged must all be there: nobody has removed the oldest segments.
    fn check_begin(&self, first: Option<u64>, dir: &Path) -> Result<(), LogError> {
        let Some(first) = first else { return Ok(()) };
        let missing = match &self.begin {
            None if first == 1 => return Ok(()),
            None => "the segments before this one are gone".to_owned(),
            Some(before) if next_index(*before) <= next_index(self.stream.purged) => return Ok(()),
            Some(before) => {
                format!("the segments before this one, with entries up to {}, are gone", next_index(*before) - 1)
            }
        };
        Err(LogError::corrupt(&dir.join(file_name(first)), RECORDS_START.into(), missing))
    }
}

fn entry_id(payload: &[u8]) -> Result<LogId, String> {
    let entry = wire::Entry::decode(payload).map_err(|e| e.to_string())?;
    let id = entry.log_id.ok_or("an entry without its log id")?;
    Ok(convert::log_id::from_wire(&id))
}
