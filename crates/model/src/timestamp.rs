use std::fmt;
use std::str::FromStr;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// A moment, in microseconds since 1970-01-01 UTC. Prints as `2026-11-22T01:02:03.1234560Z`, the way the emulated service does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 date and time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 date and time")]
pub struct TimestampError;

const MICROS_PER_SECOND: i64 = 1_000_000;

impl Timestamp {
    /// From whole seconds since 1970-01-01 UTC.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// From microseconds since 1970-01-01 UTC.
    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// Microseconds since 1970-01-01 UTC.
    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// This moment and so many seconds (negative: before it).
    #[must_use]
    pub const fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(MICROS_PER_SECOND)))
    }

    fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| TimestampError)?;
        i64::try_from(moment.unix_timestamp_nanos() / 1000).map(Self).map_err(|_| TimestampError)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]Z");
        f.write_str(&self.date_time().format(&format).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_seven_digits_and_parses_back() {
        let moment = Timestamp::from_unix_micros(1_795_308_729_630_001);
        assert_eq!(moment.to_string(), "2026-11-22T00:52:09.6300010Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!("2026-11-22T03:32:09+02:00".parse(), Ok(Timestamp::from_unix_seconds(1_795_311_129)));
        assert_eq!("yesterday".parse::<Timestamp>(), Err(TimestampError));
    }
}
