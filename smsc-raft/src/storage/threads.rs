//! The names of the threads that only read and write files, and start no others (which would be named like them). A thread in a system call on a file stays in it for as long
//! as the disk takes, even when its process is killed; by the name others can tell that no harm comes of it. At most 15
//! octets each, which is what the kernel keeps (pthread_setname_np(3)).

/// Writes and flushes the Raft log.
pub const LOG_WRITE: &str = "smsc-log-write";
/// Prepares segments of the log.
pub const LOG_SPARE: &str = "smsc-log-spare";
/// Writes checkpoints.
pub const CHECKPOINT: &str = "smsc-checkpoint";
/// Copies the message store into a smaller file.
pub const COMPACT: &str = "smsc-compact";

/// All of them.
pub const ALL: [&str; 4] = [LOG_WRITE, LOG_SPARE, CHECKPOINT, COMPACT];
