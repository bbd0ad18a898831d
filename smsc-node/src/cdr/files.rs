//! The files of call detail records: one that grows, and finished ones that never change.
//!
//! `cdr-CLUSTER-FIRST.jsonl.part` grows; when it is full or old it becomes `cdr-CLUSTER-FIRST-LAST.jsonl`. A line that a
//! crash has left half written is cut off at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::record;

/// What a file that grows is called at its end.
const PART: &str = ".jsonl.part";
/// What a finished file is called at its end.
const DONE: &str = ".jsonl";

/// How files are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesConfig {
    /// Where they lie.
    pub dir: PathBuf,
    /// The cluster, part of their names.
    pub cluster: String,
    /// A file that has grown to this is finished. Bytes.
    pub rotate_bytes: u64,
    /// So is one that holds records and is this old.
    pub rotate_after: Duration,
    /// Finished files that are kept, the oldest go first; 0 for all.
    pub keep_files: usize,
}

/// The files of one node.
#[derive(Debug)]
pub struct Files {
    config: FilesConfig,
    file: File,
    path: PathBuf,
    /// Number of the first record of the file that grows.
    first: u64,
    /// Number of the last record written; 0 for none.
    last: u64,
    bytes: u64,
    begun: Instant,
    dirty: bool,
}

impl Files {
    /// Opens the directory, makes it if it is not there, and goes on behind the last whole line. Without any file, the
    /// first record will be number `next`.
    ///
    /// # Errors
    /// The directory or a file cannot be used.
    pub fn open(config: FilesConfig, next: u64) -> io::Result<Self> {
        fs::create_dir_all(&config.dir)?;
        let prefix = format!("cdr-{}-", config.cluster);
        let (mut parts, mut done) = (Vec::new(), 0);
        for entry in fs::read_dir(&config.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(numbers) = name.strip_prefix(&prefix) else { continue };
            if let Some(first) = numbers.strip_suffix(PART).and_then(|first| first.parse::<u64>().ok()) {
                parts.push(first);
            } else if let Some((_, last)) = numbers.strip_suffix(DONE).and_then(|numbers| numbers.split_once('-')) {
                done = done.max(last.parse::<u64>().unwrap_or(0));
            }
        }
        parts.sort_unstable();
        let first = match parts.pop() {
            Some(first) => first,
            None if done > 0 => done + 1,
            None => next,
        };
        let path = config.dir.join(format!("{prefix}{first:020}{PART}"));
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).append(true).open(&path)?;
        let (last, bytes) = cut_torn(&mut file, first.saturating_sub(1).max(done))?;
        sync_dir(&config.dir)?;
        Ok(Self { config, file, path, first, last, bytes, begun: Instant::now(), dirty: false })
    }

    /// Number of the last record written; 0 for none.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Appends lines; `last` is the number of the last record among them. On disk after [`Files::sync`].
    ///
    /// # Errors
    /// The disk is full or failed: open the files anew, which cuts off what was half written.
    pub fn append(&mut self, lines: &[u8], last: u64) -> io::Result<()> {
        self.file.write_all(lines)?;
        self.bytes += lines.len() as u64;
        self.last = last;
        self.dirty = true;
        if self.bytes >= self.config.rotate_bytes { self.rotate() } else { Ok(()) }
    }

    /// Brings what was appended to the disk, and finishes a file that is old enough.
    ///
    /// # Errors
    /// As for [`Files::append`].
    pub fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.file.sync_data()?;
            self.dirty = false;
        }
        if self.bytes > 0 && self.begun.elapsed() >= self.config.rotate_after { self.rotate() } else { Ok(()) }
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let FilesConfig { dir, cluster, .. } = &self.config;
        let done = dir.join(format!("cdr-{cluster}-{:020}-{:020}{DONE}", self.first, self.last));
        fs::rename(&self.path, done)?;
        self.first = self.last + 1;
        self.path = dir.join(format!("cdr-{cluster}-{:020}{PART}", self.first));
        self.file = OpenOptions::new().create(true).truncate(false).read(true).append(true).open(&self.path)?;
        sync_dir(dir)?;
        (self.bytes, self.begun, self.dirty) = (0, Instant::now(), false);
        self.drop_old()
    }

    fn drop_old(&self) -> io::Result<()> {
        if self.config.keep_files == 0 {
            return Ok(());
        }
        let prefix = format!("cdr-{}-", self.config.cluster);
        let mut done = Vec::new();
        for entry in fs::read_dir(&self.config.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(&prefix) && name.ends_with(DONE) {
                done.push(name);
            }
        }
        // Their numbers have leading zeros: names sort as they do.
        done.sort_unstable();
        let surplus = done.len().saturating_sub(self.config.keep_files);
        for name in &done[..surplus] {
            fs::remove_file(self.config.dir.join(name))?;
        }
        Ok(())
    }
}

/// Cuts off what follows the last whole line. Returns the number of its record, `before` if there is none, and the
/// length of what is left.
fn cut_torn(file: &mut File, before: u64) -> io::Result<(u64, u64)> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    let (mut last, mut whole) = (before, 0);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let Some(number) = line.strip_suffix(b"\n").and_then(record::sequence) else { break };
        last = number;
        whole += line.len();
    }
    if whole < content.len() {
        file.set_len(whole as u64)?;
        file.sync_all()?;
    }
    Ok((last, whole as u64))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use smsc_raft::model::FinalRecord;

    fn config(dir: &Path) -> FilesConfig {
        FilesConfig {
            dir: dir.to_owned(),
            cluster: "c".to_owned(),
            rotate_bytes: 2_000,
            rotate_after: Duration::from_secs(3_600),
            keep_files: 0,
        }
    }

    fn line(number: u64) -> Vec<u8> {
        record::line("c", &FinalRecord { id: number, cdr: number, ..Default::default() })
    }

    fn append(files: &mut Files, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            files.append(&line(number), number).unwrap();
        }
        files.sync().unwrap();
    }

    /// The numbers in all files, in the order of their names.
    fn numbers(dir: &Path) -> Vec<u64> {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        let lines = names.iter().flat_map(|path| fs::read(path).unwrap());
        let content: Vec<u8> = lines.collect();
        content
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| record::sequence(line).unwrap())
            .collect()
    }

    #[test]
    fn files_are_finished_and_go_on_where_they_ended() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(config(dir.path()), 5).unwrap();
        assert_eq!(files.last(), 4);
        append(&mut files, 5..=24);
        drop(files);
        let mut files = Files::open(config(dir.path()), 99).unwrap();
        assert_eq!(files.last(), 24);
        append(&mut files, 25..=30);
        assert_eq!(numbers(dir.path()), (5..=30).collect::<Vec<_>>());
        let done = fs::read_dir(dir.path())
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().to_string_lossy().ends_with(".jsonl"));
        assert!(done.count() >= 3);
    }

    #[test]
    fn a_torn_line_is_cut_off_wherever_it_was_torn() {
        let whole = [line(1), line(2), line(3)].concat();
        for length in 0..=whole.len() {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(format!("cdr-c-{:020}.jsonl.part", 1));
            fs::write(&path, &whole[..length]).unwrap();
            let mut files = Files::open(config(dir.path()), 77).unwrap();
            let last = files.last();
            assert_eq!(last, whole[..length].iter().filter(|byte| **byte == b'\n').count() as u64);
            append(&mut files, last + 1..=4);
            assert_eq!(numbers(dir.path()), [1, 2, 3, 4]);
        }
    }

    #[test]
    fn old_files_go_and_a_file_may_be_finished_by_age() {
        let dir = tempfile::tempdir().unwrap();
        let keep = FilesConfig { keep_files: 2, rotate_after: Duration::ZERO, ..config(dir.path()) };
        let mut files = Files::open(keep, 1).unwrap();
        for number in 1..=5 {
            append(&mut files, number..=number);
        }
        // An empty file is not finished.
        files.sync().unwrap();
        assert_eq!(numbers(dir.path()), [4, 5]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
