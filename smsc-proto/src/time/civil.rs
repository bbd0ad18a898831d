//! Civil dates of the Gregorian calendar, extended to all years, and the window of two-digit years.

use super::WallTime;

/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_CYCLE: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAY: i64 = 719_468;
const MILLIS_PER_DAY: i64 = 86_400_000;

/// A date and a time of day, without a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: u8,
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
    pub(crate) milli: u16,
}

impl Civil {
    /// What a clock `ahead_millis` ahead of UTC (negative: behind) shows at `at`. At most a day in either direction.
    pub(crate) fn from_wall(at: WallTime, ahead_millis: i64) -> Civil {
        let (day, millis) = at.day_and_millis();
        let shifted = millis + ahead_millis;
        let (year, month, day) = date_of_day(day + shifted.div_euclid(MILLIS_PER_DAY));
        // Below 86_400_000, so each part fits its field.
        let millis = shifted.rem_euclid(MILLIS_PER_DAY);
        Civil {
            year,
            month,
            day,
            hour: (millis / 3_600_000) as u8,
            minute: (millis / 60_000 % 60) as u8,
            second: (millis / 1_000 % 60) as u8,
            milli: (millis % 1_000) as u16,
        }
    }

    /// The instant at which a clock `ahead_millis` ahead of UTC shows this; `None` before 1970.
    ///
    /// The day must exist in its month; hours, minutes and seconds may be any number, they are added up.
    pub(crate) fn to_wall(self, ahead_millis: i64) -> Option<WallTime> {
        let day = day_of_date(self.year, self.month, self.day);
        let millis = i64::from(self.hour) * 3_600_000
            + i64::from(self.minute) * 60_000
            + i64::from(self.second) * 1_000
            + i64::from(self.milli);
        WallTime::from_day_and_millis(day, millis - ahead_millis)
    }
}

/// The year that two digits mean at `now`: the one matching year from 50 before to 49 after the year of `now` (UTC).
///
/// A hundred years exactly, so every pair of digits means one year; seen from 2026 they run from 1976 to 2075.
pub(crate) fn year_in_window(two_digits: u8, now: WallTime) -> i64 {
    let first = Civil::from_wall(now, 0).year - 50;
    first + (i64::from(two_digits) - first).rem_euclid(100)
}

/// Days of a month, 28 to 31; `month` is 1 to 12.
pub(crate) fn days_in_month(year: i64, month: u8) -> u8 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days since 1970-01-01 of a date.
///
/// Years are counted from March, so that the leap day is the last of its year and month lengths follow one formula:
/// 153 days for each run of five months.
fn day_of_date(year: i64, month: u8, day: u8) -> i64 {
    let from_march = (i64::from(month) + 9) % 12;
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * from_march + 2) / 5 + i64::from(day) - 1;
    cycle * DAYS_PER_CYCLE + 365 * year + year / 4 - year / 100 + day_of_year - EPOCH_DAY
}

/// The inverse of [`day_of_date`].
fn date_of_day(day: i64) -> (i64, u8, u8) {
    let day = day + EPOCH_DAY;
    let (cycle, day) = (day.div_euclid(DAYS_PER_CYCLE), day.rem_euclid(DAYS_PER_CYCLE));
    // Take out the leap days that lie before `day`: one per 1_460 days, none at a century, one again at the cycle's end.
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = cycle * 400 + year + i64::from(month <= 2);
    (year, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_of_eight_centuries_follows_the_one_before() {
        let mut expected = (1600, 1, 1);
        let first = day_of_date(1600, 1, 1);
        assert_eq!(day_of_date(1970, 1, 1), 0);
        for day in first..first + 2 * DAYS_PER_CYCLE {
            assert_eq!(date_of_day(day), expected);
            assert_eq!(day_of_date(expected.0, expected.1, expected.2), day);
            let (year, month, day) = expected;
            expected = if day < days_in_month(year, month) {
                (year, month, day + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
        assert_eq!(expected, (2400, 1, 1));
    }

    #[test]
    fn two_digits_mean_the_year_near_now() {
        let in_2026 = WallTime::from_millis(1_795_229_569_000);
        assert_eq!(year_in_window(26, in_2026), 2026);
        assert_eq!(year_in_window(75, in_2026), 2075);
        assert_eq!(year_in_window(76, in_2026), 1976);
        assert_eq!(year_in_window(0, in_2026), 2000);
        assert_eq!(year_in_window(69, WallTime::EPOCH), 1969);
        assert_eq!(year_in_window(20, WallTime::EPOCH), 1920);
    }
}
