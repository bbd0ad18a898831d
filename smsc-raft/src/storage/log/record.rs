//! The form of one record in a segment.
//!
//! Little endian, at a multiple of eight bytes:
//!
//! | bytes | field |
//! |---|---|
//! | 2 | magic |
//! | 1 | kind |
//! | 1 | zero |
//! | 4 | payload length |
//! | 8 | index: the entry's, else zero |
//! | 4 | synced: how far the segment was durable when this record was written |
//! | 4 | CRC-32 over segment sequence, offset, the fields above and the payload |
//! | n | payload, then zeroes up to a multiple of eight |
//!
//! The segment sequence in the checksum keeps the leftovers of a recycled file from looking valid. `synced` tells
//! damage from a torn write: what lies before it was durable, so a bad record there was not lost with the power.

use prost::Message;
use smsc_proto::rpc::raft as wire;

/// Bytes before the payload.
pub(super) const HEADER: usize = 24;
/// Records begin at multiples of this.
pub(super) const ALIGN: usize = 8;
/// The room an [`Kind::End`] takes, kept free in every segment.
pub(super) const END_LEN: usize = HEADER;

const MAGIC: u16 = 0x52B7;

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The state of the stream where the segment begins; every segment's first record.
    Head,
    /// A log entry.
    Entry,
    /// A vote.
    Vote,
    /// What is known to be committed.
    Committed,
    /// Entries behind the position are no more.
    Truncate,
    /// Entries up to the position are no more.
    Purge,
    /// The segment is complete, the next one continues.
    End,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Entry => 2,
            Self::Vote => 3,
            Self::Committed => 4,
            Self::Truncate => 5,
            Self::Purge => 6,
            Self::End => 7,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Head,
            2 => Self::Entry,
            3 => Self::Vote,
            4 => Self::Committed,
            5 => Self::Truncate,
            6 => Self::Purge,
            7 => Self::End,
            _ => return None,
        })
    }
}

/// A place in the log that may be its very beginning: the payload of committed, truncate and purge records.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Position {
    #[prost(message, optional, tag = "1")]
    pub(super) log_id: Option<wire::LogId>,
}

/// Everything that a segment needs to know of those before it.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(message, optional, tag = "1")]
    pub(super) vote: Option<wire::Vote>,
    #[prost(message, optional, tag = "2")]
    pub(super) committed: Option<wire::LogId>,
    #[prost(message, optional, tag = "3")]
    pub(super) purged: Option<wire::LogId>,
    #[prost(message, optional, tag = "4")]
    pub(super) last: Option<wire::LogId>,
}

/// Where a record goes, and what was durable before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) offset: u32,
    pub(super) synced: u32,
}

/// The room that a record with this payload takes.
pub(super) fn record_len(payload_len: usize) -> usize {
    (HEADER + payload_len).next_multiple_of(ALIGN)
}

/// Appends the record to the buffer.
pub(super) fn encode(buf: &mut Vec<u8>, place: Place, kind: Kind, index: u64, payload: &impl Message) {
    let start = buf.len();
    buf.extend_from_slice(&MAGIC.to_le_bytes());
    buf.extend_from_slice(&[kind.code(), 0]);
    let len = u32::try_from(payload.encoded_len()).expect("append refuses entries beyond 1 GiB");
    buf.extend_from_slice(&len.to_le_bytes());
    buf.extend_from_slice(&index.to_le_bytes());
    buf.extend_from_slice(&place.synced.to_le_bytes());
    buf.extend_from_slice(&[0; 4]);
    payload.encode(buf).expect("a Vec grows as needed");
    let crc = checksum(place.sequence, place.offset, &buf[start..start + 20], &buf[start + HEADER..]);
    buf[start + 20..start + HEADER].copy_from_slice(&crc.to_le_bytes());
    buf.resize(start + record_len(len as usize), 0);
}

/// A record as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) index: u64,
    pub(super) synced: u32,
    /// Bytes of payload, which begin [`HEADER`] bytes behind the record's start.
    pub(super) payload_len: usize,
}

impl Found {
    /// The room the record takes.
    pub(super) fn len(&self) -> usize {
        record_len(self.payload_len)
    }
}

/// What lies at the start of a piece of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A whole, valid record.
    Record(Found),
    /// The beginning of what may be a record of this many bytes.
    Partial(usize),
    /// No record.
    Invalid,
}

/// Reads the record that `bytes` begin with, lying at `offset` of the segment with this sequence number.
pub(super) fn parse(bytes: &[u8], sequence: u64, offset: u32) -> Parsed {
    if bytes.len() < HEADER {
        return Parsed::Partial(HEADER);
    }
    if bytes[..2] != MAGIC.to_le_bytes() || bytes[3] != 0 {
        return Parsed::Invalid;
    }
    let Some(kind) = Kind::from_code(bytes[2]) else { return Parsed::Invalid };
    let payload_len = u32_at(bytes, 4) as usize;
    let synced = u32_at(bytes, 16);
    if synced > offset {
        return Parsed::Invalid;
    }
    let found = Found { kind, index: u64_at(bytes, 8), synced, payload_len };
    if bytes.len() < found.len() {
        return Parsed::Partial(found.len());
    }
    let crc = checksum(sequence, offset, &bytes[..20], &bytes[HEADER..HEADER + payload_len]);
    if crc == u32_at(bytes, 20) { Parsed::Record(found) } else { Parsed::Invalid }
}

fn checksum(sequence: u64, offset: u32, header: &[u8], payload: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&sequence.to_le_bytes());
    crc.update(&offset.to_le_bytes());
    crc.update(header);
    crc.update(payload);
    crc.finalize()
}

/// The number at a place that the caller has found to be there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The number at a place that the caller has found to be there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { sequence: 7, offset: 4096, synced: 4096 };

    fn sample() -> Vec<u8> {
        let mut buf = Vec::new();
        let payload = Position { log_id: Some(wire::LogId { term: 3, node_id: 1, index: 300 }) };
        encode(&mut buf, PLACE, Kind::Truncate, 0, &payload);
        buf
    }

    #[test]
    fn a_record_is_read_as_written() {
        let buf = sample();
        let Parsed::Record(found) = parse(&buf, 7, 4096) else { panic!("a record") };
        assert_eq!((found.kind, found.index, found.synced), (Kind::Truncate, 0, 4096));
        assert_eq!(found.len(), buf.len());
        assert_eq!(buf.len() % ALIGN, 0);
        let payload = Position::decode(&buf[HEADER..HEADER + found.payload_len]).expect("as encoded");
        assert_eq!(payload.log_id.map(|id| id.index), Some(300));
    }

    #[test]
    fn another_segment_or_place_does_not_take_it_for_its_own() {
        assert_eq!(parse(&sample(), 8, 4096), Parsed::Invalid);
        assert_eq!(parse(&sample(), 7, 4104), Parsed::Invalid);
    }

    #[test]
    fn a_flipped_bit_is_noticed_anywhere() {
        let whole = sample();
        let Parsed::Record(found) = parse(&whole, 7, 4096) else { panic!("a record") };
        for bit in 0..(HEADER + found.payload_len) * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(parse(&damaged, 7, 4096), Parsed::Record(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_piece_says_how_much_is_missing() {
        let whole = sample();
        assert_eq!(parse(&whole[..10], 7, 4096), Parsed::Partial(HEADER));
        assert_eq!(parse(&whole[..HEADER], 7, 4096), Parsed::Partial(whole.len()));
    }

    #[test]
    fn zeroes_are_no_record() {
        assert_eq!(parse(&[0; 64], 7, 4096), Parsed::Invalid);
    }
}
