//! What can be wrong with a time string, and where.

use std::fmt;

/// A field of a time string, named as in the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeField {
    /// `YY`, the last two digits of the year.
    Year,
    /// `MM`.
    Month,
    /// `DD`, day of the month.
    Day,
    /// `hh`.
    Hour,
    /// `mm`.
    Minute,
    /// `ss`.
    Second,
    /// `t`, tenths of a second.
    Tenth,
    /// `nn`, quarter hours between local time and UTC.
    Offset,
}

impl TimeField {
    /// Where in the string the field starts.
    pub(super) fn position(self) -> usize {
        match self {
            TimeField::Year => 0,
            TimeField::Month => 2,
            TimeField::Day => 4,
            TimeField::Hour => 6,
            TimeField::Minute => 8,
            TimeField::Second => 10,
            TimeField::Tenth => 12,
            TimeField::Offset => 13,
        }
    }
}

impl fmt::Display for TimeField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimeField::Year => "year (YY)",
            TimeField::Month => "month (MM)",
            TimeField::Day => "day (DD)",
            TimeField::Hour => "hour (hh)",
            TimeField::Minute => "minute (mm)",
            TimeField::Second => "second (ss)",
            TimeField::Tenth => "tenths of a second (t)",
            TimeField::Offset => "quarter hours from UTC (nn)",
        })
    }
}

/// Why a time string was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Nothing was given where a time is required.
    #[error("the time is empty, expected YYMMDDhhmmsstnnp")]
    Empty,
    /// A time string has 16 characters.
    #[error("the time has {found} characters, expected the 16 of YYMMDDhhmmsstnnp")]
    Length {
        /// Octets that were given.
        found: usize,
    },
    /// A field holds something other than digits.
    #[error("the time's {field} holds octet {found:#04x} at position {position}, expected a digit")]
    NotDigit {
        /// The field.
        field: TimeField,
        /// Position in the string, from 0.
        position: usize,
        /// The octet found.
        found: u8,
    },
    /// A field holds a number that it cannot mean.
    #[error("the time's {field} is {value}, expected {min} to {max}")]
    OutOfRange {
        /// The field.
        field: TimeField,
        /// What it held.
        value: u8,
        /// Smallest value allowed.
        min: u8,
        /// Largest value allowed (for a day, in that month).
        max: u8,
    },
    /// The last character says neither absolute nor relative.
    #[error("the time ends with octet {found:#04x}, expected '+' or '-' (absolute) or 'R' (relative)")]
    Indicator {
        /// The octet found.
        found: u8,
    },
    /// The date does not exist in the year that the two digits mean.
    #[error("the time names day {day} of month {month}, which the year {year} does not have")]
    NoSuchDay {
        /// Year with four digits.
        year: i64,
        /// Month, 1 to 12.
        month: u8,
        /// Day of the month.
        day: u8,
    },
    /// The instant lies before 1970.
    #[error("the time lies in {year}, before 1970; check the clock of this host")]
    BeforeEpoch {
        /// Year with four digits.
        year: i64,
    },
}
