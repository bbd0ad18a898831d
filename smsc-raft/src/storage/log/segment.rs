//! A segment file: its name, its header and its life.
//!
//! A file is made as a spare (zero-filled, so that later writes change no metadata), becomes a segment by getting a
//! header and a name, and goes back to the spares when all its entries are purged. Sequence numbers are never reused.

use std::path::{Path, PathBuf};

use super::disk::{Disk, DiskFile};
use super::error::LogError;
use super::record::{u32_at, u64_at};

/// Where the first record lies. A block of its own, so that no later write touches the header's sectors.
pub(super) const RECORDS_START: u32 = 4096;
/// The newest format this version reads, and the one it writes.
pub(super) const FORMAT: u32 = 1;

const MAGIC: [u8; 8] = *b"SMSCRLOG";
const HEADER_LEN: usize = 28;
const SUFFIX: &str = ".seg";

/// A segment that is open.
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    /// The file's length, fixed when it was made.
    pub(super) capacity: u32,
}

impl Segment {
    /// Opens the segment with this number and checks its header.
    pub(super) fn open(disk: &dyn Disk, dir: &Path, sequence: u64) -> Result<Self, LogError> {
        let path = dir.join(file_name(sequence));
        let file = disk.open(&path).map_err(LogError::io("open", &path))?;
        let len = file.length().map_err(LogError::io("read the length of", &path))?;
        let capacity = u32::try_from(len)
            .ok()
            .filter(|len| *len > RECORDS_START)
            .ok_or_else(|| LogError::corrupt(&path, 0, format!("a length of {len} bytes cannot be")))?;
        let mut header = [0; HEADER_LEN];
        file.read_at(&mut header, 0).map_err(LogError::io("read", &path))?;
        check_header(&header, &path, sequence)?;
        Ok(Self { sequence, path, file, capacity })
    }

    /// Turns a spare into the segment with this number; durable when it returns.
    pub(super) fn activate(disk: &dyn Disk, dir: &Path, spare: Spare, sequence: u64) -> Result<Self, LogError> {
        let Spare { path: from, file, len } = spare;
        let path = dir.join(file_name(sequence));
        file.write_at(&header(sequence), 0).map_err(LogError::io("write", &from))?;
        file.sync().map_err(LogError::io("sync", &from))?;
        disk.rename(&from, &path).map_err(LogError::io("rename a spare segment to", &path))?;
        disk.sync_dir(dir).map_err(LogError::io("sync the directory", dir))?;
        Ok(Self { sequence, path, file, capacity: len })
    }
}

/// A file that waits to become a segment.
pub(super) struct Spare {
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) len: u32,
}

/// The name of the segment with this number.
pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}{SUFFIX}")
}

/// The number in a segment's name; `None` for any other name.
pub(super) fn sequence_of(name: &str) -> Option<u64> {
    let sequence = u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    (file_name(sequence) == name).then_some(sequence)
}

fn header(sequence: u64) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[16..24].copy_from_slice(&sequence.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..24]);
    bytes[24..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The magic comes first and the version next, so that a later version may lay out the rest anew.
fn check_header(bytes: &[u8; HEADER_LEN], path: &Path, sequence: u64) -> Result<(), LogError> {
    if bytes[..8] != MAGIC {
        return Err(LogError::corrupt(path, 0, "it does not begin like a segment"));
    }
    let found = u32_at(bytes, 8);
    if found > FORMAT {
        return Err(LogError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
    }
    if crc32fast::hash(&bytes[..24]) != u32_at(bytes, 24) {
        return Err(LogError::corrupt(path, 0, "the header's checksum is wrong"));
    }
    if u64_at(bytes, 16) != sequence {
        let what = format!("the header belongs to segment {}", file_name(u64_at(bytes, 16)));
        return Err(LogError::corrupt(path, 0, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_segments_own_name_is_one() {
        assert_eq!(sequence_of(&file_name(0x1f)), Some(0x1f));
        for name in ["1f.seg", "000000000000001F.seg", "000000000000001f", "+00000000000001f.seg", ".seg", "LOCK"] {
            assert_eq!(sequence_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_header_is_checked() {
        let path = Path::new("x.seg");
        assert!(check_header(&header(9), path, 9).is_ok());
        assert!(matches!(check_header(&header(9), path, 8), Err(LogError::Corrupt { .. })));
        let mut newer = header(9);
        newer[8] = 2;
        assert!(matches!(check_header(&newer, path, 9), Err(LogError::NewerFormat { found: 2, known: 1, .. })));
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = header(9);
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(check_header(&damaged, path, 9).is_err(), "bit {bit}");
        }
    }
}
