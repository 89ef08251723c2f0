use postern_model::Timestamp;

/// Ages beyond this are cut to it: nothing is that old.
pub(crate) const MAX_YEARS: i64 = 150;
const MAX_DAYS: i64 = MAX_YEARS * 365;
const MICROS_PER_DAY: i64 = 24 * 3600 * MICROS_PER_SECOND;
const MICROS_PER_SECOND: i64 = 1_000_000;
const MAX_MICROS: i64 = MAX_DAYS * MICROS_PER_DAY;
/// Longest text that is read as an age.
const MAX_BYTES: usize = 64;

/// How old something has to be: `[N]d[duration]`, the duration as Go writes it: `7d`, `2d3h6m`, `1.5h`, `0d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    micros: i64,
    is_capped: bool,
}

/// The text is no age.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid duration {text:?} for --ago: {why}; write a number of days and a Go duration, for instance 7d, 2d3h6m or 36h"
)]
pub struct AgeError {
    text: String,
    why: &'static str,
}

impl Age {
    /// No age: whatever there is, is older.
    pub const ZERO: Self = Self { micros: 0, is_capped: false };

    /// Reads the text. What cannot be read as a whole is refused: half of an age would delete what should stay.
    pub fn parse(text: &str) -> Result<Self, AgeError> {
        let error = |why| AgeError { text: text.chars().take(MAX_BYTES).collect(), why };
        if text.is_empty() {
            return Err(error("it is empty"));
        }
        if text.len() > MAX_BYTES {
            return Err(error("it is too long"));
        }
        if text.starts_with(['-', '+']) {
            return Err(error("an age has no sign"));
        }
        let (days, rest) = match text.split_once('d') {
            Some((days, rest)) => (whole(days).map_err(error)?, rest),
            None => (0, text),
        };
        let rest = if rest.is_empty() { 0 } else { go_duration(rest).map_err(error)? };
        let micros = i64::try_from(i128::from(days) * i128::from(MICROS_PER_DAY) + rest).unwrap_or(i64::MAX);
        Ok(Self { micros: micros.min(MAX_MICROS), is_capped: micros > MAX_MICROS })
    }

    /// Whether the text asked for more than 150 years.
    pub fn is_capped(self) -> bool {
        self.is_capped
    }

    /// The moment that was this long ago.
    pub fn before(self, now: Timestamp) -> Timestamp {
        Timestamp::from_unix_micros(now.unix_micros().saturating_sub(self.micros))
    }
}

/// Digits only. More than any number holds is still a number, and a large one.
fn whole(digits: &str) -> Result<i64, &'static str> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err("the days are no whole number");
    }
    Ok(digits.parse().unwrap_or(i64::MAX))
}

/// A Go duration in microseconds: numbers, each with its unit. `0` needs none.
///
/// Source: Go, package time, `ParseDuration` (read 2026-11).
fn go_duration(text: &str) -> Result<i128, &'static str> {
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text;
    let mut sum: i128 = 0;
    while !rest.is_empty() {
        let (number, after) = take(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = take(after, |c| !c.is_ascii_digit() && c != '.');
        sum = sum.saturating_add(part(number, unit)?);
        rest = after;
    }
    Ok(sum)
}

fn take(text: &str, wanted: impl Fn(char) -> bool) -> (&str, &str) {
    let at = text.find(|c| !wanted(c)).unwrap_or(text.len());
    text.split_at(at)
}

fn part(number: &str, unit: &str) -> Result<i128, &'static str> {
    let nanos_per_unit: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err("a number has no unit"),
        _ => return Err("a unit is none of h, m, s, ms, us, ns"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err("a unit has no number");
    }
    let digits = |text: &str| if text.is_empty() { Ok(0) } else { text.parse::<i128>() };
    // At most 64 digits: more than a number holds is a very long time.
    let whole = digits(whole).unwrap_or(i128::from(i64::MAX)).min(i128::from(i64::MAX));
    let fraction = fraction.get(..fraction.len().min(9)).unwrap_or_default();
    let scale = 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let nanos = whole * nanos_per_unit + digits(fraction).unwrap_or(0) * nanos_per_unit / scale;
    Ok(nanos / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: f64) {
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        let age = Age::parse(text).unwrap_or_else(|error| panic!("{error}"));
        #[expect(clippy::cast_precision_loss, reason = "ages in tests are small")]
        let found = (now.unix_micros() - age.before(now).unix_micros()) as f64 / 1e6;
        assert!((found - seconds).abs() < 1e-6, "{text}: {found}");
    }

    #[test]
    fn ages() {
        const DAY: f64 = 86400.0;
        check("0d", 0.0);
        check("0", 0.0);
        check("7d", 7.0 * DAY);
        check("1d", DAY);
        check("2d3h6m", 2.0 * DAY + 3.0 * 3600.0 + 360.0);
        check("1.5h", 5400.0);
        check(".5h", 1800.0);
        check("1h1m1s1ms1us", 3_661.001_001);
        check("10µs", 0.000_01);
        check("5d0", 5.0 * DAY);
        check("54750d", 54_750.0 * DAY);
        assert!(!Age::parse("54750d").is_ok_and(Age::is_capped));
    }

    #[test]
    fn what_is_longer_than_anything_is_cut() {
        for text in ["54751d", "99999999999999999999999d", "9999999999999999999h", "54750d1h", &"9".repeat(60).add("h")]
        {
            let age = Age::parse(text).unwrap_or_else(|error| panic!("{error}"));
            assert!(age.is_capped(), "{text}");
            let now = Timestamp::from_unix_seconds(1_800_000_000);
            assert_eq!(now.unix_seconds() - age.before(now).unix_seconds(), MAX_DAYS * 86400, "{text}");
        }
    }

    #[test]
    fn half_an_age_is_none() {
        for (text, why) in [
            ("", "empty"),
            ("7", "no unit"),
            ("d", "no whole number"),
            ("1.5d", "no whole number"),
            ("-1d", "sign"),
            ("-3h", "sign"),
            ("1d-3h", "a unit is none of"),
            ("7days", "a unit is none of"),
            ("2d3", "no unit"),
            ("3w", "a unit is none of"),
            ("h", "a unit has no number"),
            ("1..5h", "a unit has no number"),
            ("1h 2m", "a unit is none of"),
            (&"1h".repeat(40), "too long"),
        ] {
            let error = Age::parse(text).map(|age| panic!("{text} is {age:?}")).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    use std::ops::Add as _;
}
