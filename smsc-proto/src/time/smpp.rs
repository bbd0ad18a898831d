//! The time strings of SMPP: `schedule_delivery_time`, `validity_period`, `final_date` (SMPP v3.4 section 7.1.1).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::WallTime;
use super::civil::{self, Civil};
use super::error::{TimeError, TimeField};

/// Octets of a time string, without the terminating NUL.
const TIME_LEN: usize = 16;

/// A time as a peer wrote it: an instant, or a distance from the moment of receipt (SMPP v3.4 section 7.1.1).
///
/// Displays in the format of the wire, which is canonical: an offset of nothing is `00+`, and the digits that a relative
/// time ignores are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SmppTime {
    /// `YYMMDDhhmmsstnn+` or `…-` (section 7.1.1.1).
    Absolute(AbsoluteTime),
    /// `YYMMDDhhmmss000R` (section 7.1.1.2).
    Relative(RelativeTime),
}

impl SmppTime {
    /// Reads a time string of 16 octets, without its terminating NUL.
    ///
    /// A relative time may hold any two digits in each of its fields, because 24 hours or 90 minutes are unambiguous and
    /// commonly sent; its tenths and offset must be digits and are ignored, as the specification says.
    ///
    /// # Errors
    /// [`TimeError`] names the field and what was wrong with it; the caller answers ESME_RINVSCHED or ESME_RINVEXPIRY.
    pub fn parse(text: &[u8]) -> Result<Self, TimeError> {
        if text.is_empty() {
            return Err(TimeError::Empty);
        }
        let text: &[u8; TIME_LEN] = text.try_into().map_err(|_| TimeError::Length { found: text.len() })?;
        let two = |field: TimeField| {
            let at = field.position();
            Ok(digit(text, field, at)? * 10 + digit(text, field, at + 1)?)
        };
        let year = two(TimeField::Year)?;
        let month = two(TimeField::Month)?;
        let day = two(TimeField::Day)?;
        let hour = two(TimeField::Hour)?;
        let minute = two(TimeField::Minute)?;
        let second = two(TimeField::Second)?;
        let tenth = digit(text, TimeField::Tenth, TimeField::Tenth.position())?;
        let quarters = two(TimeField::Offset)?;
        let behind = match text[TIME_LEN - 1] {
            b'R' => {
                return RelativeTime::new(year, month, day, hour, minute, second).map(SmppTime::Relative);
            }
            b'+' => false,
            b'-' => true,
            found => return Err(TimeError::Indicator { found }),
        };
        in_range(TimeField::Month, month, 1, 12)?;
        // The century is open until the time is resolved, and with it whether a year 00 has a 29 February.
        let leap_or_not = 2000 + i64::from(year);
        in_range(TimeField::Day, day, 1, civil::days_in_month(leap_or_not, month))?;
        in_range(TimeField::Hour, hour, 0, 23)?;
        in_range(TimeField::Minute, minute, 0, 59)?;
        in_range(TimeField::Second, second, 0, 59)?;
        in_range(TimeField::Offset, quarters, 0, UtcOffset::QUARTERS_MAX)?;
        // At most 48, so the sign fits.
        let quarters = quarters as i8;
        Ok(SmppTime::Absolute(AbsoluteTime {
            year,
            month,
            day,
            hour,
            minute,
            second,
            tenth,
            offset: UtcOffset(if behind { -quarters } else { quarters }),
        }))
    }

    /// Reads a time field in which nothing means "not given": immediate delivery, the default validity.
    ///
    /// # Errors
    /// As [`SmppTime::parse`], but an empty field is `None`.
    pub fn parse_field(text: &[u8]) -> Result<Option<Self>, TimeError> {
        if text.is_empty() {
            return Ok(None);
        }
        Self::parse(text).map(Some)
    }

    /// The instant meant, seen from `now`, the moment of receipt.
    ///
    /// # Errors
    /// See [`AbsoluteTime::resolve`]; a relative time always resolves.
    pub fn resolve(self, now: WallTime) -> Result<WallTime, TimeError> {
        match self {
            SmppTime::Absolute(time) => time.resolve(now),
            SmppTime::Relative(time) => Ok(time.resolve(now)),
        }
    }
}

impl FromStr for SmppTime {
    type Err = TimeError;

    fn from_str(text: &str) -> Result<Self, TimeError> {
        Self::parse(text.as_bytes())
    }
}

impl fmt::Display for SmppTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmppTime::Absolute(time) => time.fmt(f),
            SmppTime::Relative(time) => time.fmt(f),
        }
    }
}

/// An instant written as a local time and its distance from UTC (SMPP v3.4 section 7.1.1.1), to a tenth of a second.
///
/// The year has two digits. It means the matching year from 50 years before to 49 years after the year of `now` in UTC;
/// seen from 2026 that is 1976 to 2075.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AbsoluteTime {
    year: u8,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
    tenth: u8,
    offset: UtcOffset,
}

impl AbsoluteTime {
    /// How `at` is written by a clock of the zone `offset`; hundredths and thousandths of a second are cut off.
    ///
    /// Only instants within the year window of the reader come back as the same year.
    #[must_use]
    pub fn from_wall(at: WallTime, offset: UtcOffset) -> Self {
        let c = Civil::from_wall(at, offset.millis());
        AbsoluteTime {
            // Both below 100 by their remainder or range.
            year: c.year.rem_euclid(100) as u8,
            month: c.month,
            day: c.day,
            hour: c.hour,
            minute: c.minute,
            second: c.second,
            tenth: (c.milli / 100) as u8,
            offset,
        }
    }

    /// The instant meant, with the year taken from the window around `now`.
    ///
    /// # Errors
    /// [`TimeError::NoSuchDay`] for 29 February of a year that turns out to have none, [`TimeError::BeforeEpoch`] for an
    /// instant before 1970, which only a `now` before 2020 can give.
    pub fn resolve(self, now: WallTime) -> Result<WallTime, TimeError> {
        let year = civil::year_in_window(self.year, now);
        if self.day > civil::days_in_month(year, self.month) {
            return Err(TimeError::NoSuchDay { year, month: self.month, day: self.day });
        }
        let civil = Civil {
            year,
            month: self.month,
            day: self.day,
            hour: self.hour,
            minute: self.minute,
            second: self.second,
            milli: u16::from(self.tenth) * 100,
        };
        civil.to_wall(self.offset.millis()).ok_or(TimeError::BeforeEpoch { year })
    }

    /// The distance from UTC of the clock that wrote this.
    #[must_use]
    pub fn offset(self) -> UtcOffset {
        self.offset
    }
}

impl fmt::Display for AbsoluteTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02}{:02}{:02}{:02}{:02}{:02}{}{:02}{}",
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute,
            self.second,
            self.tenth,
            self.offset.0.unsigned_abs(),
            if self.offset.0 < 0 { '-' } else { '+' }
        )
    }
}

impl From<AbsoluteTime> for SmppTime {
    fn from(time: AbsoluteTime) -> Self {
        SmppTime::Absolute(time)
    }
}

/// A distance in calendar units from the moment of receipt (SMPP v3.4 section 7.1.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelativeTime {
    years: u8,
    months: u8,
    days: u8,
    hours: u8,
    minutes: u8,
    seconds: u8,
}

impl RelativeTime {
    /// A distance of that many units, each 0 to 99, all added up.
    ///
    /// # Errors
    /// [`TimeError::OutOfRange`] with the first unit over 99, which two digits cannot hold.
    pub fn new(years: u8, months: u8, days: u8, hours: u8, minutes: u8, seconds: u8) -> Result<Self, TimeError> {
        in_range(TimeField::Year, years, 0, 99)?;
        in_range(TimeField::Month, months, 0, 99)?;
        in_range(TimeField::Day, days, 0, 99)?;
        in_range(TimeField::Hour, hours, 0, 99)?;
        in_range(TimeField::Minute, minutes, 0, 99)?;
        in_range(TimeField::Second, seconds, 0, 99)?;
        Ok(RelativeTime { years, months, days, hours, minutes, seconds })
    }

    /// The instant that far after `now`, at most [`WallTime::MAX`].
    ///
    /// Years and months move the calendar date (31 January and a month is the last of February); days, hours, minutes and
    /// seconds are then added as fixed lengths.
    #[must_use]
    pub fn resolve(self, now: WallTime) -> WallTime {
        let mut civil = Civil::from_wall(now, 0);
        let months = i64::from(civil.month) - 1 + i64::from(self.months);
        civil.year += i64::from(self.years) + months.div_euclid(12);
        // A remainder of 12, plus one.
        civil.month = (months.rem_euclid(12) + 1) as u8;
        civil.day = civil.day.min(civil::days_in_month(civil.year, civil.month));
        let fixed = u64::from(self.days) * 86_400
            + u64::from(self.hours) * 3_600
            + u64::from(self.minutes) * 60
            + u64::from(self.seconds);
        // Never before `now`, hence never before the epoch.
        civil.to_wall(0).unwrap_or(now).saturating_add(Duration::from_secs(fixed))
    }
}

impl fmt::Display for RelativeTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:02}{:02}{:02}{:02}{:02}{:02}000R",
            self.years, self.months, self.days, self.hours, self.minutes, self.seconds
        )
    }
}

impl From<RelativeTime> for SmppTime {
    fn from(time: RelativeTime) -> Self {
        SmppTime::Relative(time)
    }
}

/// How far a local clock is ahead of UTC, in quarter hours, -48 to 48 (12 hours).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UtcOffset(i8);

impl UtcOffset {
    /// No distance: the clock shows UTC.
    pub const UTC: UtcOffset = UtcOffset(0);
    const QUARTERS_MAX: u8 = 48;

    /// An offset of that many quarter hours, positive where local time is ahead of UTC.
    ///
    /// # Errors
    /// [`TimeError::OutOfRange`] beyond 12 hours in either direction, which the wire cannot hold.
    pub fn from_quarter_hours(quarters: i8) -> Result<Self, TimeError> {
        in_range(TimeField::Offset, quarters.unsigned_abs(), 0, Self::QUARTERS_MAX)?;
        Ok(UtcOffset(quarters))
    }

    /// Quarter hours ahead of UTC, -48 to 48.
    #[must_use]
    pub const fn quarter_hours(self) -> i8 {
        self.0
    }

    fn millis(self) -> i64 {
        i64::from(self.0) * 900_000
    }
}

fn digit(text: &[u8; TIME_LEN], field: TimeField, position: usize) -> Result<u8, TimeError> {
    match text[position] {
        found @ b'0'..=b'9' => Ok(found - b'0'),
        found => Err(TimeError::NotDigit { field, position, found }),
    }
}

fn in_range(field: TimeField, value: u8, min: u8, max: u8) -> Result<(), TimeError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(TimeError::OutOfRange { field, value, min, max }) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-11-21T02:52:49Z.
    const NOW: WallTime = WallTime::from_millis(1_795_229_569_000);

    fn resolved(text: &str) -> String {
        let time: SmppTime = text.parse().expect("parses");
        assert_eq!(time.to_string(), text, "canonical text comes back");
        time.resolve(NOW).expect("resolves").to_string()
    }

    #[test]
    fn absolute_times_resolve_to_utc() {
        assert_eq!(NOW.to_string(), "2026-11-21T02:52:49.000Z");
        assert_eq!(resolved("261121025249000+"), "2026-11-21T02:52:49.000Z");
        // Local time ahead of UTC is earlier in UTC: 4 quarter hours are one hour.
        assert_eq!(resolved("261121001500704+"), "2026-11-20T23:15:00.700Z");
        assert_eq!(resolved("261231233000020-"), "2027-01-01T04:30:00.000Z");
        assert_eq!(resolved("760101000000048+"), "1975-12-31T12:00:00.000Z");
        assert_eq!(resolved("750101000000000+"), "2075-01-01T00:00:00.000Z");
        assert_eq!(resolved("280229000000000+"), "2028-02-29T00:00:00.000Z");
    }

    #[test]
    fn relative_times_follow_the_calendar() {
        // The example of section 7.1.1.2: 2 years, 6 months, 10 days, 23 hours, 34 minutes, 29 seconds.
        assert_eq!(resolved("020610233429000R"), "2029-06-01T02:27:18.000Z");
        assert_eq!(resolved("000000240000000R"), "2026-11-22T02:52:49.000Z");
        assert_eq!(resolved("000000000000000R"), NOW.to_string());
        assert_eq!(resolved("000100000000000R"), "2026-12-21T02:52:49.000Z");
        assert_eq!(resolved("000200000000000R"), "2027-01-21T02:52:49.000Z");
        let last_of_january = WallTime::from_millis(1_801_353_600_000);
        assert_eq!(last_of_january.to_string(), "2027-01-31T00:00:00.000Z");
        let month: SmppTime = "000100000000000R".parse().unwrap();
        assert_eq!(month.resolve(last_of_january).unwrap().to_string(), "2027-02-28T00:00:00.000Z");
        let longest = RelativeTime::new(99, 99, 99, 99, 99, 99).unwrap();
        assert_eq!(longest.resolve(WallTime::MAX), WallTime::MAX);
    }

    #[test]
    fn ignored_digits_and_negative_zero_become_canonical() {
        let relative: SmppTime = "000001000000512R".parse().unwrap();
        assert_eq!(relative.to_string(), "000001000000000R");
        let absolute: SmppTime = "261121025249000-".parse().unwrap();
        assert_eq!(absolute.to_string(), "261121025249000+");
    }

    #[test]
    fn refusals_name_the_field() {
        let refused = |text: &str| SmppTime::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(SmppTime::parse_field(b""), Ok(None));
        assert_eq!(refused(""), "the time is empty, expected YYMMDDhhmmsstnnp");
        assert!(refused("2611210252490").contains("13 characters"));
        assert!(refused("26x121025249000+").contains("month (MM) holds octet 0x78 at position 2"));
        assert!(refused("261321025249000+").contains("month (MM) is 13, expected 1 to 12"));
        assert!(refused("260021025249000+").contains("month (MM) is 0"));
        assert!(refused("260431025249000+").contains("day (DD) is 31, expected 1 to 30"));
        assert!(refused("270229025249000+").contains("day (DD) is 29, expected 1 to 28"));
        assert!(refused("261121245249000+").contains("hour (hh) is 24"));
        assert!(refused("261121026049000+").contains("minute (mm) is 60"));
        assert!(refused("261121025260000+").contains("second (ss) is 60"));
        assert!(refused("261121025249049+").contains("(nn) is 49, expected 0 to 48"));
        assert!(refused("261121025249000Z").contains("ends with octet 0x5a"));
        assert!(refused("261121025249-00+").contains("tenths of a second"));
    }

    #[test]
    fn days_that_the_resolved_year_lacks_are_refused() {
        let leap: SmppTime = "000229000000000+".parse().unwrap();
        assert!(leap.resolve(NOW).is_ok(), "2000 is a leap year");
        let in_2080 = WallTime::from_millis(3_471_292_800_000);
        assert_eq!(leap.resolve(in_2080), Err(TimeError::NoSuchDay { year: 2100, month: 2, day: 29 }));
        let old: SmppTime = "600101000000000+".parse().unwrap();
        assert_eq!(old.resolve(WallTime::EPOCH), Err(TimeError::BeforeEpoch { year: 1960 }));
    }

    #[test]
    fn offsets_beyond_twelve_hours_are_refused() {
        assert_eq!(UtcOffset::from_quarter_hours(-48).unwrap().quarter_hours(), -48);
        assert!(UtcOffset::from_quarter_hours(49).is_err());
        assert!(UtcOffset::from_quarter_hours(i8::MIN).is_err());
        assert!(RelativeTime::new(0, 0, 0, 100, 0, 0).is_err());
    }

    proptest! {
        #[test]
        fn instants_survive_being_written(
            // 1977 to 2074, inside the window of NOW at any offset.
            tenths in 2_208_988_800u64..33_134_745_600,
            quarters in -48i8..=48,
        ) {
            let at = WallTime::from_millis(tenths * 100);
            let offset = UtcOffset::from_quarter_hours(quarters).unwrap();
            let written = AbsoluteTime::from_wall(at, offset);
            let text = written.to_string();
            prop_assert_eq!(text.len(), TIME_LEN);
            let read: SmppTime = text.parse().unwrap();
            prop_assert_eq!(read, SmppTime::Absolute(written));
            prop_assert_eq!(read.resolve(NOW), Ok(at));
        }

        #[test]
        fn relative_times_survive_being_written(
            units in prop::array::uniform6(0u8..=99), now in any::<u64>(),
        ) {
            let [y, mo, d, h, mi, s] = units;
            let time = RelativeTime::new(y, mo, d, h, mi, s).unwrap();
            prop_assert_eq!(time.to_string().parse(), Ok(SmppTime::Relative(time)));
            let now = WallTime::from_millis(now);
            prop_assert!(time.resolve(now) >= now);
        }

        #[test]
        fn no_instant_panics(at in any::<u64>(), now in any::<u64>(), quarters in -48i8..=48) {
            let offset = UtcOffset::from_quarter_hours(quarters).unwrap();
            let written = AbsoluteTime::from_wall(WallTime::from_millis(at), offset);
            let read: SmppTime = written.to_string().parse().unwrap();
            let _ = read.resolve(WallTime::from_millis(now));
        }
    }
}
