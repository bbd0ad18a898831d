//! The timers of a session (SMPP v3.4 section 7.2): a closed list, and a table with one deadline each.

use crate::time::MonoTime;

/// What a session may be waiting for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timer {
    /// session_init_timer: from the connection to the bind. The connection is closed.
    SessionInit,
    /// enquire_link_timer: since the peer was last heard of. An enquire_link is sent.
    EnquireLink,
    /// inactivity_timer: since the last transaction. The session is unbound.
    Inactivity,
    /// response_timer of the oldest request that waits for its answer. The request is given up.
    Response,
    /// How long an unbind of the peer waits for its other requests to be answered.
    Settle,
}

impl Timer {
    /// Every timer.
    pub const ALL: [Timer; 5] =
        [Timer::SessionInit, Timer::EnquireLink, Timer::Inactivity, Timer::Response, Timer::Settle];
}

/// One deadline per timer; [`MonoTime::MAX`] while it does not run.
#[derive(Clone, Debug)]
pub struct Timers {
    deadlines: [MonoTime; Timer::ALL.len()],
}

impl Timers {
    /// No timer runs.
    pub const fn new() -> Self {
        Timers { deadlines: [MonoTime::MAX; Timer::ALL.len()] }
    }

    /// Starts `timer`, or moves its deadline.
    #[inline]
    pub fn set(&mut self, timer: Timer, deadline: MonoTime) {
        self.deadlines[timer as usize] = deadline;
    }

    /// Stops `timer`.
    #[inline]
    pub fn stop(&mut self, timer: Timer) {
        self.set(timer, MonoTime::MAX);
    }

    /// Stops all of them.
    pub fn stop_all(&mut self) {
        *self = Timers::new();
    }

    /// The earliest deadline; `None` if no timer runs.
    #[inline]
    pub fn next(&self) -> Option<MonoTime> {
        let earliest = self.deadlines.iter().min().copied()?;
        (earliest != MonoTime::MAX).then_some(earliest)
    }

    /// Stops and returns a timer whose deadline is not after `now`.
    pub fn take_expired(&mut self, now: MonoTime) -> Option<Timer> {
        let expired = Timer::ALL.into_iter().find(|timer| {
            let deadline = self.deadlines[*timer as usize];
            deadline <= now && deadline != MonoTime::MAX
        })?;
        self.stop(expired);
        Some(expired)
    }
}

impl Default for Timers {
    fn default() -> Self {
        Timers::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_next_and_each_expires_once() {
        let at = MonoTime::from_nanos;
        let mut timers = Timers::new();
        assert_eq!(timers.next(), None);
        timers.set(Timer::Inactivity, at(20));
        timers.set(Timer::EnquireLink, at(10));
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.take_expired(at(9)), None);
        assert_eq!(timers.take_expired(at(20)), Some(Timer::EnquireLink));
        assert_eq!(timers.take_expired(at(20)), Some(Timer::Inactivity));
        assert_eq!(timers.take_expired(MonoTime::MAX), None);
    }
}
