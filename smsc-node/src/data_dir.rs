//! The data directory: whose it is, whether it can be used, and how much room is left. Nothing in it is changed before
//! all of that is known.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

use crate::ending::{has_ended, is_past_acting};

/// Tells that a directory is ours: format, cluster and node, a line each.
const MARK: &str = "IDENTITY";
/// Held as long as a daemon uses the directory; contains its process id.
const LOCK: &str = "LOCK";
const FORMAT: &str = "smsc data 1";
const MIB: u64 = 1024 * 1024;
/// How long the end of a killed daemon may take, and how often it is looked for.
const END_WAIT: Duration = Duration::from_secs(5);
/// See [`END_WAIT`].
const END_LOOK: Duration = Duration::from_millis(5);

/// Why the data directory cannot be used. Exit code 73; nothing stored was touched.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be created.
    #[error("cannot create the data directory {}: {source}; create it for the user that runs the node, or correct data_dir", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a file or something else.
    #[error("the data directory {} is not a directory; correct data_dir", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("cannot use {} in the data directory: {source}; give it to the user that runs the node (`chown`, `chmod`)", path.display())]
    Denied {
        /// The directory or the file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Somebody else's files are in it.
    #[error("the data directory {} holds files of something else ({found}) and was left alone; name an empty or a new directory in data_dir", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// The first strange entry.
        found: String,
    },
    /// It is the data of another node.
    #[error("the data directory {} belongs to {owner}, but this is {me}; correct data_dir, or cluster and node_id", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Cluster and node it belongs to.
        owner: String,
        /// Cluster and node of the configuration.
        me: String,
    },
    /// A newer version wrote it, or its mark is damaged.
    #[error("the data directory {} has the format {found:?}, which this version does not know; run the version that wrote it, or restore {MARK} from a backup", path.display())]
    UnknownFormat {
        /// The directory.
        path: PathBuf,
        /// First line of the mark.
        found: String,
    },
    /// Another daemon has it open.
    #[error("the data directory {} is in use by another smsc-node (process {pid}); stop that one first", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process id, or a question mark.
        pid: String,
    },
    /// Its file system is full.
    #[error("the data directory {} has {free_mib} MiB of room left, less than store.disk_free_min_mib = {min_mib}; free some, or enlarge the disk", path.display())]
    NoRoom {
        /// The directory.
        path: PathBuf,
        /// Room for this user. MiB.
        free_mib: u64,
        /// What is required. MiB.
        min_mib: u64,
    },
}

/// A data directory that is ours and locked. Dropping it gives the lock back.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    fresh: bool,
    _lock: Flock<File>,
}

impl DataDir {
    /// Creates the directory if it is missing, checks that it belongs to this node of this cluster, and locks it
    /// against a second daemon.
    ///
    /// # Errors
    /// [`DataDirError`]; nothing stored was changed.
    pub fn open(path: &Path, cluster: &str, node_id: u64) -> Result<DataDir, DataDirError> {
        make(path)?;
        let denied = |file: &Path| {
            let file = file.to_owned();
            move |source| DataDirError::Denied { path: file, source }
        };
        let mark = path.join(MARK);
        let identity = format!("{FORMAT}\n{}\n", owner(cluster, node_id));
        let fresh = match fs::read_to_string(&mark) {
            Ok(found) => {
                check_mark(path, &found, cluster, node_id)?;
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                refuse_foreign(path)?;
                true
            }
            Err(error) => return Err(denied(&mark)(error)),
        };
        let lock = lock(path)?;
        if fresh {
            write_durably(path, &mark, &identity).map_err(denied(&mark))?;
        }
        Ok(DataDir { path: path.to_owned(), fresh, _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it was empty: this node has never run with it.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// What an operator should be told about it, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mode = fs::metadata(&self.path).map_or(0, |found| found.mode());
        if mode & 0o022 == 0 {
            return Vec::new();
        }
        let who = if mode & 0o002 == 0 { "its group" } else { "every user of this host" };
        vec![format!("the data directory {} may be changed by {who}; `chmod 700` closes it", self.path.display())]
    }

    /// Checks that at least `min_mib` MiB are left.
    ///
    /// # Errors
    /// [`DataDirError::NoRoom`] if not, [`DataDirError::Denied`] if the system does not tell.
    pub fn require_room(&self, min_mib: u32) -> Result<(), DataDirError> {
        let free_mib =
            disk_free(&self.path).map_err(|source| DataDirError::Denied { path: self.path.clone(), source })? / MIB;
        let min_mib = u64::from(min_mib);
        if free_mib >= min_mib {
            Ok(())
        } else {
            Err(DataDirError::NoRoom { path: self.path.clone(), free_mib, min_mib })
        }
    }
}

/// Room left for this user on the file system that holds `path`. Bytes.
///
/// # Errors
/// What the system said.
pub fn disk_free(path: &Path) -> io::Result<u64> {
    let stat = statvfs(path).map_err(io::Error::from)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

fn make(path: &Path) -> Result<(), DataDirError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(DataDirError::NotADirectory { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| DataDirError::Create { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(DataDirError::Create { path: path.to_owned(), source: error })
        }
        Err(source) => Err(DataDirError::Denied { path: path.to_owned(), source }),
    }
}

fn owner(cluster: &str, node_id: u64) -> String {
    format!("node {node_id} of cluster {cluster}")
}

fn check_mark(path: &Path, found: &str, cluster: &str, node_id: u64) -> Result<(), DataDirError> {
    let mut lines = found.lines();
    let format = lines.next().unwrap_or_default();
    let Some(owned_by) = lines.next().filter(|_| format == FORMAT) else {
        return Err(DataDirError::UnknownFormat { path: path.to_owned(), found: format.to_owned() });
    };
    let me = owner(cluster, node_id);
    if owned_by == me {
        Ok(())
    } else {
        Err(DataDirError::OtherNode { path: path.to_owned(), owner: owned_by.to_owned(), me })
    }
}

/// A directory without our mark must be empty, but for what a file system or an interrupted first start leaves.
fn refuse_foreign(path: &Path) -> Result<(), DataDirError> {
    const HARMLESS: [&str; 3] = ["lost+found", LOCK, "IDENTITY.new"];
    let denied = |source| DataDirError::Denied { path: path.to_owned(), source };
    for entry in fs::read_dir(path).map_err(denied)? {
        let name = entry.map_err(denied)?.file_name();
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            let found = name.to_string_lossy().into_owned();
            return Err(DataDirError::Foreign { path: path.to_owned(), found });
        }
    }
    Ok(())
}

/// Locks it; waits for a holder that has been killed and is on its way out, also if the lock is free already: other things
/// may be open yet.
fn lock(path: &Path) -> Result<Flock<File>, DataDirError> {
    let deadline = Instant::now() + END_WAIT;
    loop {
        let tried = try_lock(path)?;
        let before = tried.before.filter(|before| is_past_acting(*before) && !has_ended(*before));
        let wait = before.is_some() && Instant::now() < deadline;
        match tried.lock {
            _ if wait => std::thread::sleep(END_LOOK),
            Some(mut lock) => {
                let denied = |source| DataDirError::Denied { path: path.join(LOCK), source };
                lock.set_len(0).map_err(denied)?;
                lock.rewind().map_err(denied)?;
                writeln!(lock, "{}", std::process::id()).map_err(denied)?;
                return Ok(lock);
            }
            None => {
                let pid = tried.before.map_or_else(|| "?".to_owned(), |pid| pid.to_string());
                return Err(DataDirError::InUse { path: path.to_owned(), pid });
            }
        }
    }
}

/// What came of an attempt to lock.
struct Tried {
    lock: Option<Flock<File>>,
    /// The process that has it, or had it last.
    before: Option<Pid>,
}

fn try_lock(path: &Path) -> Result<Tried, DataDirError> {
    let file_path = path.join(LOCK);
    let denied = |source| DataDirError::Denied { path: file_path.clone(), source };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&file_path)
        .map_err(denied)?;
    let holder = |mut file: &File| {
        let mut pid = String::new();
        // Only to be helpful: the lock is refused whether or not its holder can be named.
        let _ = file.read_to_string(&mut pid);
        pid.trim().parse().ok().map(Pid::from_raw)
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Tried { before: holder(&lock), lock: Some(lock) }),
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => Ok(Tried { before: holder(&file), lock: None }),
        Err((_, errno)) => Err(denied(errno.into())),
    }
}

/// Writes beside, syncs, renames, syncs the directory: the mark is there whole or not at all.
fn write_durably(dir: &Path, file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn error(path: &Path, cluster: &str, node_id: u64) -> DataDirError {
        let error = DataDir::open(path, cluster, node_id).unwrap_err();
        assert!(!error.to_string().contains('\n'));
        error
    }

    #[test]
    fn a_new_directory_is_made_and_known_again() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("deep/data");
        let dir = DataDir::open(&path, "demo", 1).unwrap();
        assert!(dir.is_fresh() && dir.warnings().is_empty());
        let in_use = error(&path, "demo", 1).to_string();
        assert!(in_use.contains(&std::process::id().to_string()), "{in_use}");
        drop(dir);
        let dir = DataDir::open(&path, "demo", 1).unwrap();
        assert!(!dir.is_fresh());
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let strange = temp.path().join("photo.jpg");
        fs::write(&strange, "x").unwrap();
        assert!(matches!(error(temp.path(), "demo", 1), DataDirError::Foreign { .. }));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        assert!(matches!(error(&strange, "demo", 1), DataDirError::NotADirectory { .. }));
        assert!(matches!(error(&strange.join("below"), "demo", 1), DataDirError::Create { .. }));
    }

    #[test]
    fn another_node_another_cluster_another_format() {
        let temp = tempfile::tempdir().unwrap();
        drop(DataDir::open(temp.path(), "demo", 1).unwrap());
        let other = error(temp.path(), "demo", 2).to_string();
        assert!(other.contains("node 1 of cluster demo") && other.contains("node 2 of cluster demo"), "{other}");
        assert!(matches!(error(temp.path(), "live", 1), DataDirError::OtherNode { .. }));
        fs::write(temp.path().join(MARK), "smsc data 9\nnode 1 of cluster demo\n").unwrap();
        assert!(matches!(error(temp.path(), "demo", 1), DataDirError::UnknownFormat { .. }));
        fs::write(temp.path().join(MARK), "").unwrap();
        assert!(matches!(error(temp.path(), "demo", 1), DataDirError::UnknownFormat { .. }));
    }

    #[test]
    fn an_open_directory_is_warned_about() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let warnings = DataDir::open(temp.path(), "demo", 1).unwrap().warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("every user"), "{warnings:?}");
    }

    #[test]
    fn room_is_required() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::open(temp.path(), "demo", 1).unwrap();
        dir.require_room(0).unwrap();
        assert!(disk_free(temp.path()).unwrap() > 0);
        let refused = dir.require_room(u32::MAX).unwrap_err();
        assert!(matches!(refused, DataDirError::NoRoom { .. }), "{refused}");
    }
}
