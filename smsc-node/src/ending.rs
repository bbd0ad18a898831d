//! What can be told of a process whose end has begun.
//!
//! A process that is killed gives its memory back before it closes what it has open, which takes some 0.2 ms for each MB
//! and is waited for by whoever waits for its end. Meanwhile none of its threads makes a system call any more: a thread
//! whose end has begun is marked so in /proc/PID/task/TID/stat (proc_pid_stat(5)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use smsc_raft::storage::threads;

use crate::cdr;

/// `PF_EXITING` of linux/sched.h, in the field `flags`: the thread's end has begun.
const PF_EXITING: u32 = 0x0000_0004;
/// Where that field stands, counted from `state`, which follows the name; and `num_threads`.
const FLAGS_FIELD: usize = 6;
/// See [`FLAGS_FIELD`].
const THREADS_FIELD: usize = 17;

/// Whether no thread of this process will ever make a system call again, but for those under way on files: the disk may
/// keep threads that only write files for long, and what they write is theirs to the end. For a process whose end was told;
/// true also of one that is not there. False where it cannot be told.
///
/// Not to be asked too often: the kernel holds a process's memory while it tells of a thread that is not exiting, and
/// should the thread's end come just then, gives it back in the name of the one who asked.
pub(crate) fn is_past_acting(process: Pid) -> bool {
    all_threads(process, |task| {
        let name = fs::read_to_string(task.join("comm"));
        Ok(name.is_ok_and(|name| writes_files_only(name.trim_end()))
            || stat(task)?.is_none_or(|stat| is_exiting(&stat)))
    })
}

/// Whether this process is gone, or a zombie that has nothing open any more; false where it cannot be told.
pub(crate) fn has_ended(process: Pid) -> bool {
    all_threads(process, |task| Ok(stat(task)?.is_none_or(|stat| is_zombie(&stat))))
}

/// Whether /proc tells of this process and its threads: it may be hidden, or that of another namespace.
pub(crate) fn is_visible(process: Pid) -> bool {
    let own = fs::read_link("/proc/self").ok().and_then(|to| to.to_str()?.parse().ok());
    own == Some(Pid::this().as_raw()) && tasks(process).is_ok_and(|tasks| !tasks.is_empty())
}

/// Whether this is so of every thread; an error says that it cannot be told.
fn all_threads(process: Pid, is_so: impl Fn(&Path) -> io::Result<bool>) -> bool {
    tasks(process).is_ok_and(|tasks| tasks.iter().all(|task| is_so(task).unwrap_or(false)))
}

/// The folders of its threads, none if it is not there.
fn tasks(process: Pid) -> io::Result<Vec<PathBuf>> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    // Read first: a process whose end has begun gets no more threads.
    let Some(stat) = stat(&folder)? else { return Ok(Vec::new()) };
    let threads = field(&stat, THREADS_FIELD).and_then(|threads| threads.parse::<usize>().ok());
    let tasks = match fs::read_dir(folder.join("task")) {
        Ok(tasks) => tasks.map(|task| task.map(|task| task.path())).collect::<io::Result<Vec<_>>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    // A list that is read while threads go may leave out some that do not.
    if threads.is_some_and(|threads| tasks.len() >= threads) {
        Ok(tasks)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// The line of a process or thread; nothing if it is gone.
fn stat(task: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(task.join("stat")) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => Ok(None),
        Err(error) => Err(error),
    }
}

fn writes_files_only(name: &str) -> bool {
    threads::ALL.contains(&name) || name == cdr::THREAD
}

/// A field of the line, counted from the state, which follows the name; the name may hold anything, blanks and
/// parentheses, too.
fn field(stat: &str, at: usize) -> Option<&str> {
    stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(at))
}

fn is_exiting(stat: &str) -> bool {
    let flags = field(stat, FLAGS_FIELD).and_then(|flags| flags.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

fn is_zombie(stat: &str) -> bool {
    matches!(field(stat, 0), Some("Z" | "X"))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_process_is_past_acting_when_it_is_killed_and_not_before() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        for process in [pid, Pid::this()] {
            assert!(!is_past_acting(process) && !has_ended(process));
        }
        child.kill().unwrap();
        let begun = Instant::now();
        // A zombie until it is waited for.
        while !(is_past_acting(pid) && has_ended(pid)) {
            assert!(begun.elapsed() < Duration::from_secs(5));
        }
        child.wait().unwrap();
        assert!(is_past_acting(pid) && has_ended(pid));
    }

    /// Threads that go while they are counted must not hide one that stays.
    #[test]
    fn a_thread_that_lives_is_never_overlooked_while_others_end() {
        for _ in 0..20 {
            let (stop, stopped) = std::sync::mpsc::channel::<()>();
            let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
            let threads: Vec<_> = (0..30)
                .map(|_| {
                    let stopped = stopped.clone();
                    std::thread::spawn(move || stopped.lock().unwrap().recv().is_err())
                })
                .collect();
            drop(stop);
            while threads.iter().any(|thread| !thread.is_finished()) {
                assert!(!is_past_acting(Pid::this()));
            }
        }
    }

    #[test]
    fn only_what_is_there_is_visible() {
        assert!(is_visible(Pid::this()));
        // The largest id that the kernel gives is below this.
        assert!(!is_visible(Pid::from_raw(1 << 23)));
    }

    #[test]
    fn threads_that_write_files_are_known_by_the_names_that_the_kernel_keeps() {
        for name in threads::ALL.into_iter().chain([cdr::THREAD]) {
            let told = std::thread::Builder::new().name(name.to_owned());
            let told = told.spawn(|| fs::read_to_string("/proc/thread-self/comm").unwrap()).unwrap().join().unwrap();
            assert!(writes_files_only(told.trim_end()), "{told:?}");
        }
        assert!(!writes_files_only("smsc-node"));
    }

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = |state: char, flags: u32| format!("12 (a) R (b)) {state} 1 1 1 0 -1 {flags} 0 0");
        assert!(is_exiting(&stat('D', 0x40_040c)) && !is_zombie(&stat('D', 0x40_040c)));
        assert!(!is_exiting(&stat('Z', 0x40_0400)) && is_zombie(&stat('Z', 0x40_0400)));
        assert!(!is_exiting("12 (a") && !is_zombie("12 (a"));
    }
}
