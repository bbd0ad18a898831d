//! Which of a queue's messages are in memory, and from where on the store must be read.

use std::collections::BTreeSet;

use smsc_raft::model::{Message, Submission};

/// A message's place in its queue, in the order in which messages leave: higher priority first, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// 255 less the priority_flag, as the store orders them.
    rank: u8,
    /// The message.
    pub id: u64,
}

impl Position {
    /// In front of every message.
    pub const FIRST: Position = Position { rank: 0, id: 0 };

    /// The place of a message.
    pub fn of(message: &Message) -> Self {
        let priority = message.submission.as_ref().map_or(0, |submission: &Submission| submission.priority_flag);
        Self { rank: u8::MAX - u8::try_from(priority).unwrap_or(u8::MAX), id: message.id }
    }

    /// What to hand to the store to read from this place on, the message here included: priority_flag and id of the
    /// place before, `None` for the beginning.
    pub fn read_after(self) -> Option<(u32, u64)> {
        match (self.rank, self.id) {
            (0, 0) => None,
            (rank, 0) => Some((u32::from(u8::MAX - (rank - 1)), u64::MAX)),
            (rank, id) => Some((u32::from(u8::MAX - rank), id - 1)),
        }
    }

    fn next(self) -> Self {
        Self { rank: self.rank, id: self.id.saturating_add(1) }
    }
}

/// What comes first in a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Nothing waits.
    Empty,
    /// The store must be read from this place on to tell.
    Unread(Position),
    /// This message.
    Held(Position),
}

/// What became of a message that was offered to a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    /// It is held now; otherwise it is found in the store again.
    pub held: bool,
    /// This one had to make room; it is found in the store again.
    pub evicted: Option<Position>,
}

/// The places of the messages that wait in one queue: some in memory, the rest in the store.
///
/// Every waiting message in front of [`Backlog::unread`] is held or known to the engine otherwise (on its way, being
/// recorded, put off); those from there on may be in the store alone.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    held: BTreeSet<Position>,
    unread: Option<Position>,
    loading: Option<Position>,
}

impl Backlog {
    /// A backlog of which nothing has been read.
    pub fn unread() -> Self {
        Self { unread: Some(Position::FIRST), ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn all_read(&self) -> bool {
        self.unread.is_none()
    }

    /// The first of those in memory, whatever may come before it in the store.
    pub fn first_held(&self) -> Option<Position> {
        self.held.first().copied()
    }

    pub fn head(&self) -> Head {
        match (self.held.first(), self.unread) {
            (None, None) => Head::Empty,
            (Some(first), Some(unread)) if unread <= *first => Head::Unread(unread),
            (None, Some(unread)) => Head::Unread(unread),
            (Some(first), _) => Head::Held(*first),
        }
    }

    /// Takes in a message that the store has just been given, if it belongs in front of what is unread and fits.
    pub fn offer(&mut self, at: Position, held_max: usize) -> Admission {
        if self.unread.is_some_and(|unread| unread <= at) {
            return Admission { held: false, evicted: None };
        }
        self.admit(at, held_max)
    }

    /// Takes in a message that was offered or read, if it fits or comes before one that is held.
    pub fn admit(&mut self, at: Position, held_max: usize) -> Admission {
        if self.held.len() < held_max {
            self.held.insert(at);
            return Admission { held: true, evicted: None };
        }
        match self.held.last().copied() {
            Some(last) if last > at => {
                self.held.pop_last();
                self.leave_unread(last);
                self.held.insert(at);
                Admission { held: true, evicted: Some(last) }
            }
            _ => {
                self.leave_unread(at);
                Admission { held: false, evicted: None }
            }
        }
    }

    /// Takes in a message again that was on its way.
    pub fn put_back(&mut self, at: Position) {
        self.held.insert(at);
    }

    pub fn remove(&mut self, at: Position) -> bool {
        self.held.remove(&at)
    }

    /// Forgets what is held; all of it is found in the store again.
    pub fn drop_held(&mut self) -> BTreeSet<Position> {
        if let Some(first) = self.held.first().copied() {
            self.leave_unread(first);
        }
        std::mem::take(&mut self.held)
    }

    /// From this place on the store must be read.
    pub fn leave_unread(&mut self, at: Position) {
        self.unread = Some(self.unread.map_or(at, |unread| unread.min(at)));
    }

    /// Where to read next; `None` when all is read or a reading is under way.
    pub fn begin_load(&mut self) -> Option<Position> {
        if self.loading.is_some() {
            return None;
        }
        self.loading = self.unread;
        self.unread
    }

    /// The reading that began at `from` has ended: it went up to `last`, and to the end of the queue if `to_end`.
    /// `false` if no such reading was under way, as when the queue was let go and taken up again in between.
    pub fn end_load(&mut self, from: Position, last: Option<Position>, to_end: bool) -> bool {
        if self.loading != Some(from) {
            return false;
        }
        self.loading = None;
        // Something may have come in, meanwhile, in front of where the reading began: then that is where to go on.
        if self.unread.is_none_or(|unread| unread >= from) {
            self.unread = match last {
                _ if to_end => None,
                Some(last) => Some(last.next().max(from)),
                None => Some(from),
            };
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(priority: u32, id: u64) -> Position {
        let submission = Submission { priority_flag: priority, ..Default::default() };
        Position::of(&Message { id, submission: Some(submission), ..Default::default() })
    }

    #[test]
    fn places_follow_the_store() {
        assert!(at(3, 9) < at(0, 1));
        assert!(at(1, 1) < at(1, 2));
        assert_eq!(Position::FIRST.read_after(), None);
        assert_eq!(at(2, 7).read_after(), Some((2, 6)));
        assert_eq!(at(2, 0).read_after(), Some((3, u64::MAX)));
    }

    #[test]
    fn what_does_not_fit_is_left_to_the_store() {
        let mut backlog = Backlog::default();
        assert!(backlog.offer(at(0, 1), 2).held);
        assert!(backlog.offer(at(0, 2), 2).held);
        assert!(!backlog.offer(at(0, 3), 2).held);
        assert_eq!(backlog.offer(at(1, 4), 2), Admission { held: true, evicted: Some(at(0, 2)) });
        assert_eq!(backlog.head(), Head::Held(at(1, 4)));
        assert!(backlog.remove(at(1, 4)) && backlog.remove(at(0, 1)));
        assert_eq!(backlog.head(), Head::Unread(at(0, 2)));
        // What comes behind the unread ones waits for them.
        assert!(!backlog.offer(at(0, 5), 2).held);
    }

    #[test]
    fn a_reading_moves_the_unread_place_on() {
        let mut backlog = Backlog::unread();
        assert_eq!(backlog.begin_load(), Some(Position::FIRST));
        assert_eq!(backlog.begin_load(), None);
        assert!(backlog.end_load(Position::FIRST, Some(at(0, 5)), false));
        assert_eq!(backlog.head(), Head::Unread(at(0, 6)));
        backlog.begin_load();
        backlog.leave_unread(at(1, 9));
        assert!(!backlog.end_load(Position::FIRST, None, true));
        assert!(backlog.end_load(at(0, 6), None, true));
        assert_eq!(backlog.head(), Head::Unread(at(1, 9)));
        backlog.begin_load();
        assert!(backlog.end_load(at(1, 9), None, true));
        assert_eq!(backlog.head(), Head::Empty);
    }
}
