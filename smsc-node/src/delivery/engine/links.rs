//! Links that are no ESMEs, as the engine sees them: whether they are connected, how much they take, and whose turn it
//! is.
//!
//! A number whose message could go but for the link's window or rate waits in line: the accounts take turns, each in
//! the order in which its numbers came. The line is bounded, and each account has its share of it; what is beyond goes
//! back to the store until about its turn, so that what waits for one link, or of one account, never fills the memory
//! that others need.

use std::collections::{BTreeSet, VecDeque};

use super::EngineConfig;
use foldhash::HashMap;
use smol_str::SmolStr;

/// How long a link that nobody has told of may still come up before its messages are put off: what a new leader needs
/// to connect.
const UNKNOWN_GRACE_MS: u64 = 3_000;
/// What a link may catch up of its rate after a pause. Microseconds.
const BURST_US: u64 = 100_000;
/// Put off for at least so long.
const PUT_OFF_MS_MIN: u64 = 1_000;
/// How fast a line without a rate is taken to move until it has been seen to. Microseconds per message.
const PACE_US_UNSEEN: u64 = 1_000;
/// A new observation of the pace counts by one part in so many.
const PACE_PARTS: u64 = 16;
/// The longest that a message is put off for the length of the line.
const PUT_OFF_MS_MAX: u64 = 600_000;
/// However many numbers wait for a link that is down, they come back to ask one by one, so far apart, in rounds that are
/// no longer than this: asking is recorded, and must not crowd out the traffic of other links. Microseconds.
const DOWN_APART_US: u64 = 1_000;
const DOWN_ROUND_US: u64 = 1_800_000_000;

/// How much a link takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkCapacity {
    /// Messages that may be with it unanswered; at least 1.
    pub window: usize,
    /// Messages per second; 0 for no limit but the window.
    pub rate_per_s: u32,
}

/// Numbers that wait for a link, by account.
#[derive(Debug, Default)]
struct Line {
    by_account: HashMap<SmolStr, VecDeque<SmolStr>>,
    /// Accounts that have numbers in line, the next one in front.
    turns: VecDeque<SmolStr>,
    len: usize,
    /// When the next number of an account that finds no place is to come back. Microseconds.
    later_us: HashMap<SmolStr, u64>,
}

impl Line {
    fn push(&mut self, account: &SmolStr, number: SmolStr) {
        let numbers = self.by_account.entry(account.clone()).or_default();
        if numbers.is_empty() {
            self.turns.push_back(account.clone());
        }
        numbers.push_back(number);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<SmolStr> {
        let account = self.turns.pop_front()?;
        let numbers = self.by_account.get_mut(&account)?;
        let number = numbers.pop_front();
        if numbers.is_empty() {
            self.by_account.remove(&account);
        } else {
            self.turns.push_back(account);
        }
        self.len -= usize::from(number.is_some());
        number
    }

    /// When a number without a place in line is to come back, with one message of the line each `pace_us`: behind those
    /// of its account that were sent away before, as if they stood in line.
    fn later_ms(&mut self, now_ms: u64, account: &SmolStr, pace_us: u64) -> u64 {
        let accounts = self.turns.len().max(1) as u64;
        let earliest_us = now_ms * 1_000 + (self.len as u64 * pace_us).max(PUT_OFF_MS_MIN * 1_000);
        let latest_us = (now_ms + PUT_OFF_MS_MAX) * 1_000;
        let at_us = self.later_us.get(account).map_or(earliest_us, |at_us| (*at_us).clamp(earliest_us, latest_us));
        self.later_us.insert(account.clone(), at_us + pace_us * accounts);
        at_us / 1_000
    }

    fn len_of(&self, account: &str) -> usize {
        self.by_account.get(account).map_or(0, VecDeque::len)
    }

    /// Numbers that one account may have in line, with it among them.
    fn share(&self, account: &str, len_max: usize) -> usize {
        let accounts = self.turns.len() + usize::from(!self.by_account.contains_key(account));
        (len_max / accounts.max(1)).max(1)
    }
}

#[derive(Debug)]
struct Link {
    up: bool,
    /// Whether it was ever said to be up or down.
    told: bool,
    capacity: LinkCapacity,
    with_it: usize,
    /// When the rate allows the next message. Microseconds.
    next_us: u64,
    /// How fast it takes messages when it has no rate, as seen. Microseconds per message.
    pace_us: u64,
    answered_ms: u64,
    /// The link asked for a pause until then. UTC milliseconds.
    paused_until_ms: u64,
    /// While it is down: when the next number may come back to ask. Microseconds.
    ask_us: u64,
    line: Line,
    timer_ms: Option<u64>,
}

impl Link {
    fn down() -> Self {
        let capacity = LinkCapacity { window: 1, rate_per_s: 0 };
        Self {
            up: false,
            told: false,
            capacity,
            with_it: 0,
            next_us: 0,
            pace_us: PACE_US_UNSEEN,
            answered_ms: 0,
            paused_until_ms: 0,
            ask_us: 0,
            line: Line::default(),
            timer_ms: None,
        }
    }

    fn interval_us(&self) -> u64 {
        1_000_000u64.checked_div(u64::from(self.capacity.rate_per_s)).unwrap_or(0)
    }

    /// When it takes a message, going by rate and pause alone. UTC milliseconds.
    fn open_at_ms(&self) -> u64 {
        let rated_ms = if self.capacity.rate_per_s == 0 { 0 } else { self.next_us.div_ceil(1_000) };
        rated_ms.max(self.paused_until_ms)
    }

    fn takes(&self, now_ms: u64) -> bool {
        self.up && self.with_it < self.capacity.window && self.open_at_ms() <= now_ms
    }

    fn take(&mut self, now_ms: u64) {
        self.with_it += 1;
        let floor_us = now_ms.saturating_mul(1_000).saturating_sub(BURST_US);
        self.next_us = self.next_us.max(floor_us).saturating_add(self.interval_us());
    }
}

/// What a link says to a number whose message is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Send it: the place in the window is taken.
    Take,
    /// It stands in line.
    Wait,
    /// There is no place in line: come back at this time, UTC milliseconds.
    Later(u64),
    /// The link is not connected.
    Down,
}

/// See the [module](self).
#[derive(Debug)]
pub(super) struct Links {
    links: HashMap<SmolStr, Link>,
    timers: BTreeSet<(u64, SmolStr)>,
    line_max: usize,
    started_ms: u64,
}

impl Links {
    pub fn new(now_ms: u64, config: &EngineConfig) -> Self {
        Self {
            links: HashMap::default(),
            timers: BTreeSet::new(),
            line_max: (config.window_messages / 20).max(2),
            started_ms: now_ms,
        }
    }

    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.first().map(|(at_ms, _)| *at_ms)
    }

    /// Links whose rate, pause or grace is over.
    pub fn due(&mut self, now_ms: u64) -> Vec<SmolStr> {
        let mut due = Vec::new();
        while let Some((at_ms, name)) = self.timers.first().cloned() {
            if at_ms > now_ms {
                break;
            }
            self.timers.pop_first();
            if let Some(link) = self.links.get_mut(&name) {
                link.timer_ms = None;
            }
            due.push(name);
        }
        due
    }

    pub fn set_up(&mut self, name: &SmolStr, capacity: LinkCapacity) {
        let link = self.links.entry(name.clone()).or_insert_with(Link::down);
        if !link.up {
            (link.paused_until_ms, link.ask_us) = (0, 0);
        }
        (link.up, link.told) = (true, true);
        link.capacity = LinkCapacity { window: capacity.window.max(1), ..capacity };
    }

    pub fn set_down(&mut self, name: &SmolStr) {
        let link = self.links.entry(name.clone()).or_insert_with(Link::down);
        (link.up, link.told, link.paused_until_ms) = (false, true, 0);
    }

    /// The time before which a number that found the link down does not ask again, given when its schedule would have it
    /// ask. UTC milliseconds.
    pub fn ask_again_ms(&mut self, now_ms: u64, name: &SmolStr, scheduled_ms: u64) -> u64 {
        let link = self.links.entry(name.clone()).or_insert_with(Link::down);
        let now_us = now_ms.saturating_mul(1_000);
        if link.ask_us > now_us.saturating_add(DOWN_ROUND_US) {
            link.ask_us = now_us;
        }
        let at_us = link.ask_us.max(now_us);
        link.ask_us = at_us + DOWN_APART_US;
        scheduled_ms.max(at_us / 1_000)
    }

    pub fn pause(&mut self, name: &SmolStr, until_ms: u64) {
        if let Some(link) = self.links.get_mut(name) {
            link.paused_until_ms = link.paused_until_ms.max(until_ms);
        }
        self.set_timer(name);
    }

    /// Whether a message may be offered to it: it is connected, or about to be.
    pub fn is_up(&self, now_ms: u64, name: &str) -> bool {
        match self.links.get(name) {
            Some(link) if link.told => link.up,
            Some(_) | None => now_ms < self.started_ms + UNKNOWN_GRACE_MS,
        }
    }

    /// Offers the message that a number of `account` has in front. With `in_turn` it comes from the line itself.
    pub fn offer(&mut self, now_ms: u64, name: &SmolStr, account: &SmolStr, number: &SmolStr, in_turn: bool) -> Answer {
        if !self.is_up(now_ms, name) {
            return Answer::Down;
        }
        let line_max = self.line_max;
        let link = self.links.entry(name.clone()).or_insert_with(Link::down);
        if link.takes(now_ms) && (in_turn || link.line.len == 0) {
            link.take(now_ms);
            return Answer::Take;
        }
        let fits = link.line.len < line_max || link.line.len_of(account) < link.line.share(account, line_max);
        if fits && link.line.len < 2 * line_max {
            link.line.push(account, number.clone());
            if !link.up {
                link.paused_until_ms = self.started_ms + UNKNOWN_GRACE_MS;
            }
            self.set_timer(name);
            return Answer::Wait;
        }
        let pace_us = link.pace_us.max(link.interval_us());
        Answer::Later(link.line.later_ms(now_ms, account, pace_us))
    }

    /// A message that was with the link is there no more.
    pub fn answered(&mut self, now_ms: u64, name: &str) {
        let Some(link) = self.links.get_mut(name) else { return };
        // An idle link says nothing of how fast it could be.
        if link.line.len > 0 {
            let seen_us = now_ms.saturating_sub(link.answered_ms).min(PUT_OFF_MS_MIN) * 1_000;
            link.pace_us = (link.pace_us * (PACE_PARTS - 1) + seen_us) / PACE_PARTS;
        }
        link.answered_ms = now_ms;
        link.with_it = link.with_it.saturating_sub(1);
    }

    /// The number whose turn it is, if the link takes a message or takes none any more.
    pub fn next_in_line(&mut self, now_ms: u64, name: &SmolStr) -> Option<SmolStr> {
        let may_take = self.is_up(now_ms, name);
        let link = self.links.get_mut(name)?;
        if link.takes(now_ms) || !may_take {
            return link.line.pop();
        }
        self.set_timer(name);
        None
    }

    fn set_timer(&mut self, name: &SmolStr) {
        let Some(link) = self.links.get_mut(name) else { return };
        let open_at_ms = link.open_at_ms();
        // With a full window it is an answer that moves the line.
        let wanted = link.line.len > 0 && (!link.up || link.with_it < link.capacity.window);
        let next = wanted.then_some(open_at_ms);
        if link.timer_ms == next {
            return;
        }
        if let Some(before) = std::mem::replace(&mut link.timer_ms, next) {
            self.timers.remove(&(before, name.clone()));
        }
        if let Some(next) = next {
            self.timers.insert((next, name.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SmolStr {
        SmolStr::from(text)
    }

    fn links() -> Links {
        Links::new(0, &EngineConfig { window_messages: 200, ..Default::default() })
    }

    #[test]
    fn accounts_take_turns() {
        let (mut links, link) = (links(), name("x"));
        links.set_up(&link, LinkCapacity { window: 1, rate_per_s: 0 });
        assert_eq!(links.offer(0, &link, &name("one"), &name("0"), false), Answer::Take);
        for number in ["1", "2", "3"] {
            assert_eq!(links.offer(0, &link, &name("one"), &name(number), false), Answer::Wait);
        }
        assert_eq!(links.offer(0, &link, &name("two"), &name("4"), false), Answer::Wait);
        let mut order = Vec::new();
        for _ in 0..4 {
            assert_eq!(links.next_in_line(0, &link), None);
            links.answered(0, "x");
            let number = links.next_in_line(0, &link).expect("somebody waits");
            assert_eq!(links.offer(0, &link, &name("any"), &number, true), Answer::Take);
            order.push(number.to_string());
        }
        assert_eq!(order, ["1", "4", "2", "3"]);
    }

    #[test]
    fn a_rate_is_kept_and_wakes_the_line() {
        let (mut links, link) = (links(), name("x"));
        links.set_up(&link, LinkCapacity { window: 100, rate_per_s: 10 });
        let mut now_ms = 10_000;
        let mut sent = 0;
        for number in 0..9u32 {
            sent +=
                u32::from(links.offer(now_ms, &link, &name("a"), &name(&number.to_string()), false) == Answer::Take);
        }
        // What it may catch up, and one.
        assert_eq!(sent, 2);
        while let Some(at_ms) = links.next_deadline_ms() {
            now_ms = at_ms;
            for due in links.due(now_ms) {
                while let Some(number) = links.next_in_line(now_ms, &due) {
                    assert_eq!(links.offer(now_ms, &due, &name("a"), &number, true), Answer::Take);
                    sent += 1;
                }
            }
        }
        assert_eq!((sent, now_ms), (9, 10_700));
    }

    #[test]
    fn a_long_line_leaves_room_for_other_accounts() {
        let (mut links, link) = (links(), name("x"));
        links.set_up(&link, LinkCapacity { window: 1, rate_per_s: 0 });
        let answers: Vec<_> =
            (0..100u32).map(|n| links.offer(0, &link, &name("big"), &name(&n.to_string()), false)).collect();
        assert_eq!(answers.iter().filter(|answer| **answer == Answer::Wait).count(), 10);
        assert!(matches!(answers[99], Answer::Later(at_ms) if at_ms >= PUT_OFF_MS_MIN));
        assert_eq!(links.offer(0, &link, &name("small"), &name("7"), false), Answer::Wait);
    }

    #[test]
    fn numbers_that_wait_for_a_link_that_is_down_ask_one_by_one() {
        let (mut links, link) = (links(), name("x"));
        links.set_down(&link);
        let asked: Vec<_> = (0..4_000_000u64).map(|_| links.ask_again_ms(0, &link, 500)).collect();
        assert_eq!(asked[0], 500);
        assert_eq!(asked[10_000], 10_000);
        assert_eq!(asked.iter().max(), Some(&(DOWN_ROUND_US / 1_000)));
        let within = |from: u64| asked.iter().filter(|at_ms| (from..from + 1_000).contains(*at_ms)).count();
        assert!(within(60_000) <= 3_000, "{} in one second", within(60_000));
        links.set_up(&link, LinkCapacity { window: 1, rate_per_s: 0 });
        links.set_down(&link);
        assert_eq!(links.ask_again_ms(0, &link, 500), 500);
    }

    #[test]
    fn a_link_that_is_down_takes_nothing_and_a_new_leader_waits_for_it() {
        let (mut links, link) = (links(), name("x"));
        assert_eq!(links.offer(0, &link, &name("a"), &name("1"), false), Answer::Wait);
        assert_eq!(links.next_in_line(0, &link), None);
        let deadline_ms = links.next_deadline_ms().expect("the grace ends");
        assert_eq!(links.due(deadline_ms), std::slice::from_ref(&link));
        let number = links.next_in_line(deadline_ms, &link).expect("it stands in line no more");
        assert_eq!(links.offer(deadline_ms, &link, &name("a"), &number, true), Answer::Down);
        links.set_up(&link, LinkCapacity { window: 1, rate_per_s: 0 });
        assert_eq!(links.offer(deadline_ms, &link, &name("a"), &number, false), Answer::Take);
        links.set_down(&link);
        assert_eq!(links.offer(deadline_ms, &link, &name("a"), &name("2"), false), Answer::Down);
    }
}
