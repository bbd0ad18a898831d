//! What can go wrong with the log, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the log does not open, or has stopped. It never goes on after a failed write or sync: what is on the disk is
/// then unknown until the node is restarted and the log read back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// A call to the file system failed.
    #[error("the Raft log cannot {action} {}: {source}; {}", path.display(), advice(source))]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Another process has the directory open.
    #[error("the Raft log in {} is in use by {}: stop it, or give this node a directory of its own", dir.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    InUse {
        /// The log's directory.
        dir: PathBuf,
        /// The other process, if known.
        holder: Option<u32>,
    },
    /// The directory holds something that no log put there.
    #[error("{} is no file of a Raft log: give the log a directory of its own", path.display())]
    Foreign {
        /// The file that does not belong.
        path: PathBuf,
    },
    /// A newer version of this program wrote the log.
    #[error("{} has log format {found}, this version reads up to {known}: start the newer version again", path.display())]
    NewerFormat {
        /// The segment file.
        path: PathBuf,
        /// The format in its header.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// What was once durable is damaged. Nothing has been changed.
    #[error(
        "the Raft log is damaged in {} at byte {offset}: {what}; nothing was changed; restore this node by leaving the \
         cluster and joining it again with an empty data directory", path.display()
    )]
    Corrupt {
        /// The segment file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// A setting is out of its range.
    #[error("{key} = {value} is out of range, allowed is {allowed}")]
    Config {
        /// The field of [`super::LogConfig`].
        key: &'static str,
        /// Its value.
        value: u64,
        /// The values it may have.
        allowed: &'static str,
    },
    /// An entry is larger than a segment can ever be.
    #[error("an entry of {bytes} bytes is too large for the Raft log, at most {max} are possible")]
    TooLarge {
        /// The entry's size.
        bytes: usize,
        /// The largest size possible.
        max: usize,
    },
    /// The caller asked for what would leave a hole in the log, or take back what was purged.
    #[error("the Raft log refuses {what}")]
    Refused {
        /// The request, and why it does not fit.
        what: String,
    },
    /// The writer thread is gone without having said why.
    #[error("the Raft log's writer has stopped unexpectedly: restart this node")]
    Stopped,
}

impl LogError {
    /// For `map_err` on a call to the file system.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
    }

    pub(super) fn corrupt(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), offset, what: what.into() }
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on this file system, then restart",
        io::ErrorKind::PermissionDenied => "give the user that runs this node the right to read and write there",
        io::ErrorKind::ReadOnlyFilesystem => "mount the file system for writing, then restart",
        io::ErrorKind::NotFound => "check the path, and that its file system is mounted",
        _ => "check the disk and the kernel's messages, then restart",
    }
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        let kind = match &error {
            LogError::Io { source, .. } => source.kind(),
            LogError::InUse { .. } => io::ErrorKind::ResourceBusy,
            LogError::Corrupt { .. } | LogError::Foreign { .. } => io::ErrorKind::InvalidData,
            LogError::NewerFormat { .. } => io::ErrorKind::Unsupported,
            LogError::Config { .. } | LogError::TooLarge { .. } | LogError::Refused { .. } => {
                io::ErrorKind::InvalidInput
            }
            LogError::Stopped => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_says_where_and_what_to_do() {
        for (kind, advice) in [
            (io::ErrorKind::StorageFull, "make room"),
            (io::ErrorKind::PermissionDenied, "give the user"),
            (io::ErrorKind::ReadOnlyFilesystem, "mount the file system"),
            (io::ErrorKind::Other, "check the disk"),
        ] {
            let error = LogError::io("write", Path::new("/var/log-dir/x.seg"))(kind.into());
            let text = error.to_string();
            assert!(text.contains("cannot write /var/log-dir/x.seg") && text.contains(advice), "{text}");
            assert_eq!(io::Error::from(error).kind(), kind);
        }
    }
}
