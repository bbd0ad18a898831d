//! Every call that the log makes to the file system, behind one trait, so that tests can make each of them fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A file system, as far as the log needs one. Paths are whole; nothing is durable before it is synced.
pub trait Disk: Send + Sync + 'static {
    /// Makes the directory and those above it, durably; no error when it is there already.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in the directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Takes the lock file for as long as the guard lives.
    fn lock(&self, path: &Path) -> io::Result<Lock>;
    /// Makes a file that was not there, for reading and writing.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file that is there, for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Renames within one directory, replacing nothing.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in the directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. Shared between the writer and readers, so positions are always given.
pub trait DiskFile: Send + Sync {
    /// The file's length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Fills the whole buffer from `offset` on; an error when the file ends before.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes the whole buffer at `offset`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, and the length with it (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
}

/// The answer to an attempt at the lock.
pub enum Lock {
    /// Ours until the guard is dropped.
    Taken(Box<dyn Send + Sync>),
    /// Another process has it; its id, if it wrote one.
    HeldBy(Option<u32>),
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let fresh: Vec<&Path> = dir.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
        fs::create_dir_all(dir)?;
        for made in fresh {
            if let Some(parent) = made.parent() {
                let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
                self.sync_dir(parent)?;
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut held) => {
                // Always of the same length: once it is there, a full disk does not keep the log from opening.
                held.rewind()?;
                write!(held, "{:<10}", std::process::id())?;
                Ok(Lock::Taken(Box::new(held)))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder)?;
                Ok(Lock::HeldBy(holder.trim().parse().ok()))
            }
            Err((_, errno)) => Err(errno.into()),
        }
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).create_new(true).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
