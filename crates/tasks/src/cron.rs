//! Schedules: `minute hour day month weekday`, in UTC.
//!
//! The day and the weekday must both fit, other than in cron.
//!
//! Source: ACR Tasks documentation, which names NCrontab; NCrontab, `TryGetNextOccurrence` (read 2026-11).
//!
//! ```
//! use postern_tasks::Schedule;
//!
//! let nightly: Schedule = "30 1 * * Mon-Fri".parse()?;
//! let friday = "2026-11-20T01:30:00Z".parse()?;
//! assert_eq!(nightly.next(friday), Some("2026-11-23T01:30:00Z".parse()?));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;

use postern_model::Timestamp;
use time::{Date, OffsetDateTime, Time};

/// How long a schedule may be, in bytes.
pub const MAX_SCHEDULE_BYTES: usize = 256;

/// After so many days every combination of date and weekday was there, also the 29th of February around 2100.
const MAX_DAYS: usize = 366 * 41;

/// When a task runs. It runs at some time: what never does is not read as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    text: String,
    /// One bit for each value.
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// It is too long.
    #[error("the schedule is longer than {MAX_SCHEDULE_BYTES} characters")]
    TooLong,
    /// It has more or fewer fields.
    #[error("the schedule has {0} fields; five are needed: minute hour day month weekday")]
    Fields(usize),
    /// A field is not what it should be.
    #[error("{field} {text:?}: {problem}")]
    Field {
        /// Which one.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// No day is like that.
    #[error("the schedule never fires: no month that it names has such a day")]
    Never,
}

struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &[
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const WEEKDAYS: &[&str] = &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
/// So many letters of a name are enough.
const NAME_LETTERS: usize = 3;
const FIELDS: [Field; 5] = [
    Field { name: "minute", first: 0, last: 59, names: &[] },
    Field { name: "hour", first: 0, last: 23, names: &[] },
    Field { name: "day", first: 1, last: 31, names: &[] },
    Field { name: "month", first: 1, last: 12, names: MONTHS },
    Field { name: "weekday", first: 0, last: 7, names: WEEKDAYS },
];
/// The longest that each month can be.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl Field {
    fn fail<T>(&self, text: &str, problem: impl Into<String>) -> Result<T, ScheduleError> {
        Err(ScheduleError::Field { field: self.name, text: text.to_owned(), problem: problem.into() })
    }

    fn bits(&self, text: &str) -> Result<u64, ScheduleError> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(text, part)?))
    }

    /// `*`, `5`, `1-5`, each with `/step` behind it or not.
    fn part(&self, text: &str, part: &str) -> Result<u64, ScheduleError> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let step = match step.map(|step| (step, number(step))) {
            None => None,
            Some((_, Some(step))) if step >= 1 && step <= self.last => Some(step),
            Some((step, _)) => {
                return self.fail(text, format!("a step is a number from 1 to {}, not {step:?}", self.last));
            }
        };
        let (from, to) = if range == "*" {
            (self.first, self.last - u32::from(self.last == 7))
        } else if let Some((from, to)) = range.split_once('-') {
            let (from, to) = (self.value(text, from)?, self.value(text, to)?);
            // `Fri-Sun`: Sunday ends a week as well as it begins one.
            let to = if self.last == 7 && to == 0 && from > 0 { 7 } else { to };
            if from > to {
                return self.fail(text, format!("the range {range:?} ends before it begins"));
            }
            (from, to)
        } else {
            let from = self.value(text, range)?;
            // `5/15` goes on to the end.
            (from, if step.is_some() { self.last } else { from })
        };
        let mut bits = 0;
        for value in (from..=to).step_by(usize::try_from(step.unwrap_or(1)).unwrap_or(1)) {
            bits |= 1 << if self.last == 7 { value % 7 } else { value };
        }
        Ok(bits)
    }

    fn value(&self, text: &str, value: &str) -> Result<u32, ScheduleError> {
        let lower = value.to_ascii_lowercase();
        let by_name = self.names.iter().position(|name| lower.len() >= NAME_LETTERS && name.starts_with(&lower));
        if let Some(index) = by_name.and_then(|index| u32::try_from(index).ok()) {
            return Ok(index + self.first);
        }
        match number(value) {
            Some(value) if (self.first..=self.last).contains(&value) => Ok(value),
            Some(value) => self.fail(text, format!("{value} is not between {} and {}", self.first, self.last)),
            None => self.fail(text, format!("{value:?} is neither a number nor a name for one")),
        }
    }
}

/// Digits only: no sign, no space.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn has(bits: u64, value: impl Into<u32>) -> bool {
    bits >> value.into() & 1 == 1
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(text: &str) -> Result<Self, ScheduleError> {
        if text.len() > MAX_SCHEDULE_BYTES {
            return Err(ScheduleError::TooLong);
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(ScheduleError::Fields(fields.len()));
        };
        let [of_minute, of_hour, of_day, of_month, of_weekday] = &FIELDS;
        let schedule = Self {
            text: fields.join(" "),
            minutes: of_minute.bits(minute)?,
            hours: of_hour.bits(hour)?,
            days: of_day.bits(day)?,
            months: of_month.bits(month)?,
            weekdays: of_weekday.bits(weekday)?,
        };
        let fires = (1..=12).zip(LENGTHS).any(|(month, length): (u32, u32)| {
            has(schedule.months, month) && (1..=length).any(|day| has(schedule.days, day))
        });
        if fires { Ok(schedule) } else { Err(ScheduleError::Never) }
    }
}

impl Schedule {
    /// The first time after a moment; none when the calendar ends before.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = OffsetDateTime::from_unix_timestamp(after.unix_seconds()).ok()?;
        let earliest = Time::from_hms(after.hour(), after.minute(), 0).ok()?;
        let mut date = after.date();
        if self.is_on(date)
            && let Some(time) = self.times().find(|time| *time > earliest)
        {
            return Some(moment(date, time));
        }
        for _ in 0..MAX_DAYS {
            date = date.next_day()?;
            if self.is_on(date) {
                return self.times().next().map(|time| moment(date, time));
            }
        }
        None
    }

    /// Whether it runs in the minute of a moment.
    pub fn matches(&self, moment: Timestamp) -> bool {
        OffsetDateTime::from_unix_timestamp(moment.unix_seconds()).is_ok_and(|moment| {
            has(self.minutes, moment.minute()) && has(self.hours, moment.hour()) && self.is_on(moment.date())
        })
    }

    fn is_on(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().number_days_from_sunday());
        has(self.months, u8::from(date.month())) && day && weekday
    }

    fn times(&self) -> impl Iterator<Item = Time> + '_ {
        (0..24_u8).filter(|hour| has(self.hours, *hour)).flat_map(move |hour| {
            (0..60_u8)
                .filter(|minute| has(self.minutes, *minute))
                .filter_map(move |minute| Time::from_hms(hour, minute, 0).ok())
        })
    }
}

fn moment(date: Date, time: Time) -> Timestamp {
    Timestamp::from_unix_seconds(date.with_time(time).assume_utc().unix_timestamp())
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, after: &str, expected: &str) {
        let after: Timestamp = after.parse().unwrap();
        let found = match text.parse::<Schedule>() {
            Ok(schedule) => schedule
                .next(after)
                .map_or_else(|| "none".to_owned(), |next| next.to_string().replace(":00.0000000Z", "")),
            Err(error) => format!("! {error}"),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn times() {
        let sunday = "2026-11-22T12:34:56Z";
        check("* * * * *", sunday, "2026-11-22T12:35");
        check("0 1 * * *", sunday, "2026-11-23T01:00");
        check("34 12 * * *", sunday, "2026-11-23T12:34");
        check("*/15 * * * *", sunday, "2026-11-22T12:45");
        check("5/20 * * * *", sunday, "2026-11-22T12:45");
        check("0 9-17/4 * * *", sunday, "2026-11-22T13:00");
        check("0 0 * * Mon", sunday, "2026-11-23T00:00");
        check("0 13 * * 0", sunday, "2026-11-22T13:00");
        check("0 13 * * 7", sunday, "2026-11-22T13:00");
        check("0 0 * * 5-7", sunday, "2026-11-27T00:00");
        check("0 0 * * Sat-Sun", "2026-11-21T12:00:00Z", "2026-11-22T00:00");
        check("0 0 29 feb *", sunday, "2028-02-29T00:00");
        check("0 0 29 2 *", "2096-03-01T00:00:00Z", "2104-02-29T00:00");
        check("0 0 31 4,5 *", sunday, "2027-05-31T00:00");
        check("0 0 13 * Friday", sunday, "2027-08-13T00:00");
        check("0 0 29 2 Sun", "2060-03-01T00:00:00Z", "2088-02-29T00:00");
        check("0 0 29 2 Mon", "2072-03-01T00:00:00Z", "2112-02-29T00:00");
        check("0 0 1 jan *", "9999-06-01T00:00:00Z", "none");
    }

    #[test]
    fn what_is_refused() {
        let now = "2026-11-22T12:34:56Z";
        check("0 0 30 2 *", now, "! the schedule never fires: no month that it names has such a day");
        check("0 0 30 2 1", now, "! the schedule never fires: no month that it names has such a day");
        check("0 0 * * Fr", now, "! weekday \"Fr\": \"Fr\" is neither a number nor a name for one");
        check("0 0 31 4,6,9,11 *", now, "! the schedule never fires: no month that it names has such a day");
        check("0 0 * *", now, "! the schedule has 4 fields; five are needed: minute hour day month weekday");
        check("", now, "! the schedule has 0 fields; five are needed: minute hour day month weekday");
        check("60 0 * * *", now, "! minute \"60\": 60 is not between 0 and 59");
        check("0 24 * * *", now, "! hour \"24\": 24 is not between 0 and 23");
        check("0 0 0 * *", now, "! day \"0\": 0 is not between 1 and 31");
        check("0 0 * foo *", now, "! month \"foo\": \"foo\" is neither a number nor a name for one");
        check("0 0 * * 8", now, "! weekday \"8\": 8 is not between 0 and 7");
        check("5-1 * * * *", now, "! minute \"5-1\": the range \"5-1\" ends before it begins");
        check("*/0 * * * *", now, "! minute \"*/0\": a step is a number from 1 to 59, not \"0\"");
        check("1,,2 * * * *", now, "! minute \"1,,2\": \"\" is neither a number nor a name for one");
        check("+1 * * * *", now, "! minute \"+1\": \"+1\" is neither a number nor a name for one");
        check("@daily", now, "! the schedule has 1 fields; five are needed: minute hour day month weekday");
        check(&"1".repeat(300), now, "! the schedule is longer than 256 characters");
    }

    fn field(first: u32, last: u32) -> impl Strategy<Value = String> {
        let value = first..=last;
        prop_oneof![
            3 => Just("*".to_owned()),
            2 => value.clone().prop_map(|value| value.to_string()),
            1 => (1..=last).prop_map(|step| format!("*/{step}")),
            1 => (value.clone(), value.clone()).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
            1 => (value.clone(), value).prop_map(|(a, b)| format!("{a},{b}")),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn the_next_time_matches_and_none_before_it_does(
            fields in (field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)),
            seconds in 1_700_000_000_i64..2_000_000_000,
        ) {
            let (minute, hour, day, month, weekday) = fields;
            let Ok(schedule) = format!("{minute} {hour} {day} {month} {weekday}").parse::<Schedule>() else {
                return Ok(());
            };
            let after = Timestamp::from_unix_seconds(seconds);
            let next = schedule.next(after).unwrap();
            prop_assert!(next > after && schedule.matches(next) && next.unix_seconds() % 60 == 0);
            // Two weeks of minutes at most; what is further away is looked at day by day in `times`.
            let mut minute = Timestamp::from_unix_seconds(seconds - seconds.rem_euclid(60) + 60);
            for _ in 0..20_000 {
                if minute >= next {
                    break;
                }
                prop_assert!(!schedule.matches(minute), "{} also at {}", schedule, minute);
                minute = minute.plus_seconds(60);
            }
        }
    }
}
