//! Keeping the process in memory, so that no page of it has to be read back from a disk while a heartbeat is due.

use std::fs;

use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit};

/// CAP_IPC_LOCK of linux/capability.h.
const CAP_IPC_LOCK: u32 = 14;

/// Keeps what the process uses now and later in memory. Pages are locked as they are first used, so that this takes no
/// more memory than before.
///
/// # Errors
/// Why it is not done, for the log: the process runs as well, but may wait for a busy disk under memory pressure.
pub fn lock() -> Result<(), String> {
    // A finite limit would turn a later need for memory into a failure.
    let (limit, _) =
        getrlimit(Resource::RLIMIT_MEMLOCK).map_err(|errno| format!("its limit cannot be read: {errno}"))?;
    if limit != libc::RLIM_INFINITY && !may_lock_all() {
        return Err(format!(
            "the limit of locked memory is {} KiB: set LimitMEMLOCK=infinity or grant CAP_IPC_LOCK",
            limit >> 10
        ));
    }
    // Since Linux 4.4.
    let on_fault = MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | on_fault)
        .map_err(|errno| format!("the system refused: {errno}"))
}

fn may_lock_all() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status).is_some_and(|capabilities| capabilities & (1 << CAP_IPC_LOCK) != 0)
}

/// The effective capabilities out of `/proc/self/status` (proc(5)).
fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read() {
        assert_eq!(effective("Name:\tx\nCapEff:\t0000000000004000\nCapBnd:\t0\n"), Some(1 << CAP_IPC_LOCK));
        assert_eq!(effective("Name:\tx\n"), None);
    }
}
