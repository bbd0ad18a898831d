//! One route made ready: its target, and whether a message fits it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use regex::Regex;
use smol_str::SmolStr;
use smsc_proto::text::Alphabet;
use smsc_raft::model::{Address, Route, Submission, TimeWindow};

use super::list::NumberSet;
use super::{LINK_HANDSET, TARGET_ESME, TARGET_LINK, TARGET_REFUSE};

const DAY_MINUTES: i64 = 24 * 60;
/// The first day of 1970 was a Thursday; Monday is 0.
const WEEKDAY_OF_EPOCH: i64 = 3;

/// What a route is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// The submitting account; empty for MO.
    pub account: &'a str,
    /// Who sends.
    pub source: &'a str,
    /// To whom.
    pub destination: &'a Address,
    /// The message's service_type.
    pub service_type: &'a str,
    /// The message's data_coding, esm_class and text, for routes by keyword.
    pub text: Text<'a>,
    /// UTC milliseconds.
    pub now_ms: u64,
}

impl<'a> Query<'a> {
    /// The question where this message goes.
    pub fn of(submission: &'a Submission, destination: &'a Address, now_ms: u64) -> Self {
        Self {
            account: &submission.account,
            source: submission.source.as_ref().map_or("", |source| source.digits.as_str()),
            destination,
            service_type: &submission.service_type,
            text: Text {
                data_coding: submission.data_coding,
                esm_class: submission.esm_class,
                octets: &submission.short_message,
            },
            now_ms,
        }
    }
}

/// A message's text as it stands on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text<'a> {
    /// data_coding.
    pub data_coding: u32,
    /// esm_class.
    pub esm_class: u32,
    /// short_message.
    pub octets: &'a [u8],
}

impl Text<'_> {
    /// The first word, in capitals; of a message with a user data header none.
    fn first_word(&self) -> Option<String> {
        const UDH_INDICATOR: u32 = 0x40;
        if self.esm_class & UDH_INDICATOR != 0 {
            return None;
        }
        let alphabet = Alphabet::from_data_coding(u8::try_from(self.data_coding).ok()?)?;
        let text = alphabet.decode_lossy(self.octets);
        text.split_whitespace().next().map(str::to_uppercase)
    }
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A link to numbers: the simulated handsets or another message centre.
    Link(SmolStr),
    /// An account's receivers.
    Esme(String),
    /// Nowhere.
    Refuse,
}

impl Target {
    /// The target of these words; `None` for what this version does not know.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(system_id) = text.strip_prefix(TARGET_ESME) {
            return Some(Self::Esme(system_id.to_owned()));
        }
        if let Some(name) = text.strip_prefix(TARGET_LINK) {
            return Some(Self::Link(SmolStr::from(name)));
        }
        match text {
            LINK_HANDSET => Some(Self::Link(SmolStr::from(LINK_HANDSET))),
            TARGET_REFUSE => Some(Self::Refuse),
            _ => None,
        }
    }
}

/// Why a message does not fit a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    Source,
    ServiceType,
    Window,
    Pattern,
    List,
    NoList,
    Keyword,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "the source address does not begin with the route's",
            Self::ServiceType => "the service_type is another one",
            Self::Window => "it is outside the route's hours",
            Self::Pattern => "the number does not match the route's pattern",
            Self::List => "the number is not on the route's list",
            Self::NoList => "the route's list does not exist",
            Self::Keyword => "the first word is another one",
        })
    }
}

/// A route made ready.
#[derive(Debug)]
pub(super) struct Rule {
    pub route: Route,
    pub target: Target,
    pattern: Option<Regex>,
    keyword: String,
}

impl Rule {
    /// `None` for a target or a pattern that this version cannot read: such a route covers nothing.
    pub fn new(route: &Route) -> Option<Self> {
        let pattern = match route.pattern.as_str() {
            "" => None,
            pattern => Some(Regex::new(pattern).ok()?),
        };
        let keyword = route.keyword.to_uppercase();
        Some(Self { target: Target::parse(&route.target)?, route: route.clone(), pattern, keyword })
    }

    /// A list of numbers that are refused, wherever other routes lead.
    pub fn is_blacklist(&self) -> bool {
        self.target == Target::Refuse && !self.route.list.is_empty()
    }

    pub fn has_keyword(&self) -> bool {
        !self.keyword.is_empty()
    }

    pub fn weight(&self) -> u64 {
        u64::from(self.route.weight.max(1))
    }

    pub fn misfit(&self, query: &Query<'_>, number: &str, lists: &HashMap<String, Arc<NumberSet>>) -> Option<Misfit> {
        let route = &self.route;
        if !query.source.starts_with(route.source.as_str()) {
            return Some(Misfit::Source);
        }
        if !route.service_type.is_empty() && route.service_type != query.service_type {
            return Some(Misfit::ServiceType);
        }
        if route.window.as_ref().is_some_and(|window| !is_open(window, query.now_ms)) {
            return Some(Misfit::Window);
        }
        if self.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(number)) {
            return Some(Misfit::Pattern);
        }
        if !route.list.is_empty() {
            match lists.get(&route.list) {
                Some(list) if list.contains(number) => {}
                Some(_) => return Some(Misfit::List),
                None => return Some(Misfit::NoList),
            }
        }
        (self.has_keyword() && query.text.first_word().as_ref() != Some(&self.keyword)).then_some(Misfit::Keyword)
    }
}

fn is_open(window: &TimeWindow, now_ms: u64) -> bool {
    let minutes = i64::try_from(now_ms / 60_000).unwrap_or(i64::MAX / 2) + i64::from(window.utc_offset_minutes);
    let (day, minute) = (minutes.div_euclid(DAY_MINUTES), minutes.rem_euclid(DAY_MINUTES));
    let on = |day: i64| {
        let weekday = (day + WEEKDAY_OF_EPOCH).rem_euclid(7);
        window.weekdays == 0 || window.weekdays >> weekday & 1 == 1
    };
    let (from, to) = (i64::from(window.from_minute), i64::from(window.to_minute));
    if from < to {
        return on(day) && (from..to).contains(&minute);
    }
    (minute >= from && on(day)) || (minute < to && on(day - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Wednesday, 25 November 2026, 21:30 UTC.
    const NOW_MS: u64 = 1_795_642_200_000;

    #[test]
    fn windows_know_weekdays_midnight_and_offsets() {
        let window = |from_minute, to_minute, weekdays, utc_offset_minutes| {
            is_open(&TimeWindow { from_minute, to_minute, weekdays, utc_offset_minutes }, NOW_MS)
        };
        let wednesday = 1 << 2;
        assert!(window(21 * 60, 22 * 60, wednesday, 0));
        assert!(!window(21 * 60, 22 * 60, !wednesday, 0));
        assert!(!window(21 * 60, 21 * 60 + 30, 0, 0));
        assert!(window(22 * 60, 23 * 60, 0, 60));
        assert!(window(20 * 60, 6 * 60, wednesday, 0));
        // Half past two on Thursday is still Wednesday's night.
        assert!(window(20 * 60, 6 * 60, wednesday, 5 * 60));
        assert!(!window(20 * 60, 6 * 60, 1 << 3, 5 * 60));
        assert!(window(0, 0, wednesday, 0) && !window(0, 0, 1, 0));
    }

    #[test]
    fn the_first_word_counts_whatever_its_case_and_coding() {
        let word = |data_coding, esm_class, octets: &[u8]| Text { data_coding, esm_class, octets }.first_word();
        assert_eq!(word(0, 0, b"  join us"), Some("JOIN".to_owned()));
        assert_eq!(word(8, 0, b"\0J\0o\0i\0n"), Some("JOIN".to_owned()));
        assert_eq!(word(0, 0x40, b"join"), None);
        assert_eq!(word(4, 0, b"join"), None);
        assert_eq!(word(0, 0, b""), None);
    }

    #[test]
    fn unknown_targets_and_broken_patterns_cover_nothing() {
        let route = |target: &str, pattern: &str| Route {
            target: target.to_owned(),
            pattern: pattern.to_owned(),
            ..Default::default()
        };
        assert!(Rule::new(&route("handset", "^49")).is_some());
        assert!(Rule::new(&route("pigeon", "")).is_none());
        assert!(Rule::new(&route("handset", "(")).is_none());
    }
}
