//! What a node of a pair keeps on its disk: whether it has gone on alone, and how often it has started.
//!
//! One small file, written beside, synced and renamed: `smscpair`, the CRC-32 and the length of what follows, each four
//! octets with the lowest first, and a `PairRecord` of raft.proto.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;
use smsc_proto::rpc::raft as wire;

use super::pair::{Grant, Record, Sole};

const MAGIC: &[u8; 8] = b"smscpair";
const HEADER_LEN: usize = 16;
/// The newest form that this version can read.
const VERSION: u32 = 1;

/// The file's name in the data directory.
const FILE: &str = "pair.state";

/// The file of a node.
#[derive(Debug)]
pub(crate) struct RecordFile {
    path: PathBuf,
    kept: wire::PairRecord,
}

impl RecordFile {
    /// Reads the file in `dir`, if there is one, and counts this start, on disk.
    ///
    /// # Errors
    /// The file cannot be read or written, is damaged, or was written by a newer version; the text says what to do.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let kept = match fs::read(&path) {
            Ok(bytes) => decode(&bytes).map_err(|what| damaged(&path, what))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => wire::PairRecord::default(),
            Err(error) => return Err(named(&path, &error)),
        };
        // Not only counted, so that the number grows also when the file was lost.
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let mut file = Self { path, kept };
        file.kept.version = VERSION;
        file.kept.starts = clock.max(file.kept.starts + 1);
        file.write()?;
        Ok(file)
    }

    /// How often this node has started, or a larger number that grew with each start.
    pub fn starts(&self) -> u64 {
        self.kept.starts
    }

    /// What the disk says.
    pub fn record(&self) -> Record {
        self.kept.sole.as_ref().map_or(Record::Shared, |sole| Record::Sole(sole_from_wire(sole)))
    }

    /// Since when this node has gone on alone, UTC milliseconds; 0 if it has not.
    pub fn sole_at_ms(&self) -> u64 {
        self.kept.sole.map_or(0, |sole| sole.at_ms)
    }

    /// Writes and syncs. Blocks for the time of the disk.
    ///
    /// # Errors
    /// What the system said, with the file's name. What was on the disk before counts then.
    pub fn save(&mut self, record: Record, at_ms: u64) -> io::Result<()> {
        self.kept.sole = match record {
            Record::Shared => None,
            Record::Sole(sole) => Some(wire::Sole { at_ms, ..sole_to_wire(sole) }),
        };
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let written = || -> io::Result<()> {
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            out.write_all(&encode(&self.kept))?;
            out.sync_all()?;
            fs::rename(&new, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        written().map_err(|error| named(&self.path, &error))
    }
}

fn encode(record: &wire::PairRecord) -> Vec<u8> {
    let body = record.encode_to_vec();
    let mut bytes = Vec::with_capacity(HEADER_LEN + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<wire::PairRecord, &'static str> {
    let (header, body) = bytes.split_at_checked(HEADER_LEN).ok_or("is cut short")?;
    let number = |at: usize| header[at..at + 4].try_into().map_or(0, u32::from_le_bytes);
    if header[..8] != *MAGIC {
        return Err("does not begin as it should");
    }
    if usize::try_from(number(12)) != Ok(body.len()) || crc32fast::hash(body) != number(8) {
        return Err("does not match its checksum");
    }
    let record = wire::PairRecord::decode(body).map_err(|_| "holds no record")?;
    if record.version > VERSION {
        return Err("was written by a newer version, which must be run again");
    }
    Ok(record)
}

fn damaged(path: &Path, what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!(
            "{} {what}; without the file the node starts as outdated and goes on only together with its peer, which is \
             safe: move it away, and start the peer too",
            path.display()
        ),
    )
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// As records and peers know it, without the time.
pub(crate) fn sole_to_wire(sole: Sole) -> wire::Sole {
    let grant = match sole.grant {
        Grant::Device => wire::Grant::Device,
        Grant::Operator => wire::Grant::Operator,
        Grant::Yielded => wire::Grant::Yielded,
        Grant::Forced => wire::Grant::Forced,
    };
    wire::Sole { since_term: sole.since_term, since_index: sole.since_index, grant: grant.into(), at_ms: 0 }
}

/// A grant of a later version counts as the device's.
pub(crate) fn sole_from_wire(sole: &wire::Sole) -> Sole {
    let grant = match sole.grant() {
        wire::Grant::Device => Grant::Device,
        wire::Grant::Operator => Grant::Operator,
        wire::Grant::Yielded => Grant::Yielded,
        wire::Grant::Forced => Grant::Forced,
    };
    Sole { since_term: sole.since_term, since_index: sole.since_index, grant }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOLE: Record = Record::Sole(Sole { since_term: 7, since_index: 1234, grant: Grant::Operator });

    #[test]
    fn what_was_saved_is_read_again_and_each_start_is_a_later_one() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut file = RecordFile::open(dir.path()).expect("new");
        assert_eq!(file.record(), Record::Shared);
        file.save(SOLE, 99).expect("room");
        let again = RecordFile::open(dir.path()).expect("there");
        assert_eq!((again.record(), again.sole_at_ms()), (SOLE, 99));
        assert!(again.starts() > file.starts());
    }

    #[test]
    fn damage_is_told_and_never_taken_for_a_state() {
        let dir = tempfile::tempdir().expect("a folder");
        RecordFile::open(dir.path()).and_then(|mut file| file.save(SOLE, 99)).expect("room");
        let path = dir.path().join(FILE);
        let good = fs::read(&path).expect("there");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).expect("room");
            let error = RecordFile::open(dir.path()).expect_err("damaged").to_string();
            assert!(error.contains("pair.state") && error.contains("move it away"), "{error}");
            fs::write(&path, &good[..at]).expect("room");
            RecordFile::open(dir.path()).expect_err("cut short");
        }
        fs::write(&path, encode(&wire::PairRecord { version: VERSION + 1, ..Default::default() })).expect("room");
        assert!(RecordFile::open(dir.path()).expect_err("newer").to_string().contains("newer version"));
    }
}
