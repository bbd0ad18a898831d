//! The preference over other threads that consensus is given (a nice value, which on Linux is a thread's own).

use rustix::process::{getpid, getpriority_process, setpriority_process};

/// Does `work`, which may take long, as if this thread had not inherited the preference of consensus: beside heartbeats it
/// has to wait. The preference is there again afterwards, for whoever holds a lock that applying waits for must not wait
/// itself behind everybody else.
pub(crate) fn without_preference<T>(work: impl FnOnce() -> T) -> T {
    let (Ok(own), Ok(of_process)) = (getpriority_process(None), getpriority_process(Some(getpid()))) else {
        return work();
    };
    let lowered = own < of_process && setpriority_process(None, of_process).is_ok();
    let done = work();
    if lowered {
        // Who could have it before may have it again; failing costs that preference alone.
        let _ = setpriority_process(None, own);
    }
    done
}
