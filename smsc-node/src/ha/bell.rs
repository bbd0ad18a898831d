//! Waking the thread that holds the address, which sleeps on several sockets at once.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};

/// What the holding thread is woken for before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// Give the address back.
    Release,
    /// The lease is over.
    LeaseEnded,
    /// Tell the neighbours again from the start.
    Announce,
}

/// A list of wishes and a socket that can be read while there are any.
pub(super) struct Bell {
    wishes: Mutex<Vec<Wake>>,
    ringer: UnixStream,
    ear: UnixStream,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let (ringer, ear) = UnixStream::pair()?;
        ringer.set_nonblocking(true)?;
        ear.set_nonblocking(true)?;
        Ok(Self { wishes: Mutex::default(), ringer, ear })
    }

    /// Wakes the thread; never blocks, and no wish is lost.
    pub(super) fn ring(&self, wish: Wake) {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        if !wishes.contains(&wish) {
            wishes.push(wish);
        }
        // Failing means that the socket is full, so the bell is ringing already.
        let _ = (&self.ringer).write(&[1]);
    }

    /// Everything wished since the last call.
    pub(super) fn take(&self) -> Vec<Wake> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = [0; 64];
        while matches!((&self.ear).read(&mut buffer), Ok(read) if read > 0) {}
        std::mem::take(&mut *wishes)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ear.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::link::wait_readable;
    use super::*;

    #[test]
    fn it_rings_until_it_is_heard_and_loses_nothing() {
        let bell = Bell::new().expect("a socket pair");
        assert!(!wait_readable(&bell, Duration::ZERO).expect("poll"));
        for _ in 0..100_000 {
            bell.ring(Wake::Announce);
        }
        bell.ring(Wake::Release);
        assert!(wait_readable(&bell, Duration::ZERO).expect("poll"));
        assert_eq!(bell.take(), vec![Wake::Announce, Wake::Release]);
        assert!(!wait_readable(&bell, Duration::ZERO).expect("poll"));
        assert_eq!(bell.take(), Vec::new());
    }
}
