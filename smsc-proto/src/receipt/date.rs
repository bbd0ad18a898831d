//! The dates of a receipt: `YYMMDDhhmm`, and `YYMMDDhhmmss` from some message centres.

use std::fmt;

use crate::time::WallTime;
use crate::time::civil::{self, Civil};

/// A date in a receipt: ten digits down to the minute, or twelve down to the second.
///
/// The text names no zone. What we write is UTC or as far from it as the reader is known to expect; what we read is
/// taken as UTC, though another message centre may have meant its local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReceiptDate {
    year: u8,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: Option<u8>,
}

impl ReceiptDate {
    /// The minute that contains `at`, in the ten digits of the specification, on a clock that is `ahead_min` minutes
    /// ahead of UTC.
    #[must_use]
    pub fn from_wall(at: WallTime, ahead_min: i32) -> Self {
        let c = Civil::from_wall(at, i64::from(ahead_min) * 60_000);
        ReceiptDate {
            // Below 100 by the remainder.
            year: c.year.rem_euclid(100) as u8,
            month: c.month,
            day: c.day,
            hour: c.hour,
            minute: c.minute,
            second: None,
        }
    }

    /// Reads ten or twelve digits; `None` for anything else, and for a day or time that no year has.
    #[must_use]
    pub fn parse(digits: &[u8]) -> Option<Self> {
        if !matches!(digits.len(), 10 | 12) || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let two = |at: usize| (digits[at] - b'0') * 10 + (digits[at + 1] - b'0');
        let date = ReceiptDate {
            year: two(0),
            month: two(2),
            day: two(4),
            hour: two(6),
            minute: two(8),
            second: (digits.len() == 12).then(|| two(10)),
        };
        // The century is open until the date is resolved; a year 00 may have a 29 February.
        let some_year = 2000 + i64::from(date.year);
        let valid = (1..=12).contains(&date.month)
            && (1..=civil::days_in_month(some_year, date.month)).contains(&date.day)
            && date.hour < 24
            && date.minute < 60
            && date.second.is_none_or(|second| second < 60);
        valid.then_some(date)
    }

    /// The instant meant, with the year taken from the window around `now`, as for [`AbsoluteTime`].
    ///
    /// `None` for 29 February of a year that has none, and for an instant before 1970.
    ///
    /// [`AbsoluteTime`]: crate::time::AbsoluteTime
    #[must_use]
    pub fn resolve(self, now: WallTime) -> Option<WallTime> {
        let year = civil::year_in_window(self.year, now);
        if self.day > civil::days_in_month(year, self.month) {
            return None;
        }
        let civil = Civil {
            year,
            month: self.month,
            day: self.day,
            hour: self.hour,
            minute: self.minute,
            second: self.second.unwrap_or(0),
            milli: 0,
        };
        civil.to_wall(0)
    }
}

impl fmt::Display for ReceiptDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}{:02}{:02}{:02}{:02}", self.year, self.month, self.day, self.hour, self.minute)?;
        match self.second {
            Some(second) => write!(f, "{second:02}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T02:52:49Z.
    const NOW: WallTime = WallTime::from_millis(1_795_229_569_000);

    #[test]
    fn dates_resolve_near_now() {
        let resolved = |digits: &str| {
            let date = ReceiptDate::parse(digits.as_bytes()).expect("parses");
            assert_eq!(date.to_string(), digits);
            date.resolve(NOW).map(|at| at.to_string())
        };
        assert_eq!(resolved("2611210252").as_deref(), Some("2026-11-21T02:52:00.000Z"));
        assert_eq!(resolved("261121025249").as_deref(), Some("2026-11-21T02:52:49.000Z"));
        assert_eq!(resolved("9912312359").as_deref(), Some("1999-12-31T23:59:00.000Z"));
        assert_eq!(ReceiptDate::from_wall(NOW, 0).to_string(), "2611210252");
        assert_eq!(ReceiptDate::from_wall(NOW, -180).to_string(), "2611202352");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for digits in [
            "",
            "261121025",
            "26112102524",
            "2611210252490",
            "2613210252",
            "2611310252",
            "2702290000",
            "2611212452",
            "2611210260",
            "261121025260",
            "26112102x2",
            "+611210252",
        ] {
            assert_eq!(ReceiptDate::parse(digits.as_bytes()), None, "{digits:?}");
        }
        let leap = ReceiptDate::parse(b"0002290000").unwrap();
        let in_2080 = WallTime::from_millis(3_471_292_800_000);
        assert_eq!(leap.resolve(in_2080), None);
    }
}
