//! Instants, as policies write them and clocks tell them.
//!
//! A little calendar, because the `time` crate's parser and formatter would cost 6 KiB of filter.wasm for one format.
//! Tests hold the two against each other.

use std::fmt;
use std::str::FromStr;

/// An instant: whole seconds since 1970-01-01T00:00:00Z, negative before, and the nanoseconds after them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct UnixTime {
    seconds: i64,
    nanoseconds: u32,
}

const SECOND: u32 = 1_000_000_000;
const DAY: i64 = 86_400;

impl UnixTime {
    /// An instant; nanoseconds beyond a second are cut to the last one before the next.
    pub const fn new(seconds: i64, nanoseconds: u32) -> Self {
        let nanoseconds = if nanoseconds < SECOND { nanoseconds } else { SECOND - 1 };
        Self { seconds, nanoseconds }
    }

    /// The start of a second.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self::new(seconds, 0)
    }

    /// Whole seconds since 1970.
    pub const fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds after [`Self::seconds`], below 1,000,000,000.
    pub const fn nanoseconds(self) -> u32 {
        self.nanoseconds
    }
}

/// Not a time such as `2026-12-20T00:00:00Z`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnixTimeError;

impl fmt::Display for UnixTimeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("expected a time such as `2026-12-20T00:00:00Z`")
    }
}

impl std::error::Error for UnixTimeError {}

impl FromStr for UnixTime {
    type Err = UnixTimeError;

    /// RFC 3339 in UTC, as Java's `Instant` prints it: `2026-12-20T00:00:00Z`, with up to nine digits of a fraction.
    fn from_str(text: &str) -> Result<Self, UnixTimeError> {
        let (text, fraction) = match text.strip_suffix('Z').ok_or(UnixTimeError)?.split_once('.') {
            Some((text, fraction)) => (text, nanoseconds(fraction)?),
            None => (&text[..text.len() - 1], 0),
        };
        let bytes = text.as_bytes();
        let punctuated = bytes.len() == 19
            && [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')]
                .iter()
                .all(|(at, c)| bytes[*at] == *c);
        if !punctuated {
            return Err(UnixTimeError);
        }
        let number = |from: usize, to: usize| digits(&bytes[from..to]);
        let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
        let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
        let in_range = (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
        if !in_range || hour > 23 || minute > 59 || second > 59 {
            return Err(UnixTimeError);
        }
        let seconds = days_from_civil(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        Ok(Self::new(seconds, fraction))
    }
}

impl fmt::Display for UnixTime {
    /// RFC 3339, with nine digits of a fraction where there is one; `@seconds` for a year that it cannot name.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.seconds.div_euclid(DAY), self.seconds.rem_euclid(DAY));
        let (year, month, day) = civil_from_days(days);
        if !(0..=9999).contains(&year) {
            return write!(formatter, "@{}", self.seconds);
        }
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        write!(formatter, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")?;
        if self.nanoseconds > 0 {
            write!(formatter, ".{:09}", self.nanoseconds)?;
        }
        formatter.write_str("Z")
    }
}

fn nanoseconds(fraction: &str) -> Result<u32, UnixTimeError> {
    if fraction.is_empty() || fraction.len() > 9 {
        return Err(UnixTimeError);
    }
    let number = digits(format!("{fraction:0<9}").as_bytes())?;
    u32::try_from(number).map_err(|_| UnixTimeError)
}

fn digits(bytes: &[u8]) -> Result<i64, UnixTimeError> {
    bytes.iter().try_fold(0, |number, byte| match byte {
        b'0'..=b'9' => Ok(number * 10 + i64::from(byte - b'0')),
        _ => Err(UnixTimeError),
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar. Years begin in March, so that the leap day is the last; an
/// era has 400 years.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    #[test]
    fn only_utc_instants_are_read() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some((0, 0))),
            ("1970-01-02T00:00:00.001Z", Some((86_400, 1_000_000))),
            ("1969-12-31T23:59:59.999999999Z", Some((-1, 999_999_999))),
            ("2024-02-29T00:00:00Z", Some((1_709_164_800, 0))),
            ("9999-12-31T23:59:59Z", Some((253_402_300_799, 0))),
            ("2023-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-00T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:00:60Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00ZZ", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00.0000000001Z", None),
            ("2026-01-01T00:00:00+00:00", None),
            ("2026-01-01 00:00:00Z", None),
            ("+026-01-01T00:00:00Z", None),
            ("2026-01-01", None),
            ("", None),
        ] {
            let expected = expected
                .map(|(seconds, nanoseconds)| UnixTime::new(seconds, nanoseconds))
                .ok_or(UnixTimeError);
            assert_eq!(text.parse::<UnixTime>(), expected, "{text}");
        }
        assert_eq!(UnixTime::from_seconds(i64::MAX).to_string(), format!("@{}", i64::MAX));
        assert_eq!(UnixTime::from_seconds(i64::MIN).to_string(), format!("@{}", i64::MIN));
    }

    proptest! {
        #[test]
        fn the_time_crate_agrees(seconds in -62_167_219_200_i64..253_402_300_800, nanoseconds in 0..1_000_000_000_u32) {
            let theirs = OffsetDateTime::from_unix_timestamp(seconds).unwrap().replace_nanosecond(nanoseconds).unwrap();
            let text = theirs.format(&Rfc3339).unwrap();
            let ours = UnixTime::new(seconds, nanoseconds);
            prop_assert_eq!(text.parse::<UnixTime>(), Ok(ours));
            prop_assert_eq!(ours.to_string().parse::<UnixTime>(), Ok(ours));
            let read = OffsetDateTime::parse(&ours.to_string(), &Rfc3339).unwrap();
            prop_assert_eq!(read, theirs);
        }
    }
}
