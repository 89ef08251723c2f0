//! Moments, in Go's layouts. All are UTC.

use postern_model::Timestamp;
use time::OffsetDateTime;

use super::functions::{Call, Function, function};
use super::value::Value;

pub(super) const DATES: &[Function] = &[
    function("now", 0, 0, |call| Ok(Value::Time(call.now))),
    function("date", 2, 2, |call| {
        let moment = moment(call, 1);
        layout(call.text(0)?, moment).map(Value::text)
    }),
    function("htmlDate", 1, 1, |call| layout("2006-01-02", moment(call, 0)).map(Value::text)),
    function("unixEpoch", 1, 1, |call| Ok(Value::text(moment(call, 0).unix_seconds().to_string()))),
];

/// As Go prints a moment.
pub(super) fn show(moment: Timestamp) -> String {
    layout("2006-01-02 15:04:05.000000 -0700 UTC", moment).unwrap_or_default()
}

/// A moment, or seconds since 1970; anything else is now, as in Sprig.
fn moment(call: &Call<'_>, index: usize) -> Timestamp {
    match call.value(index) {
        Value::Time(moment) => *moment,
        Value::Int(seconds) => Timestamp::from_unix_seconds(*seconds),
        _ => call.now,
    }
}

/// A part of a moment as text.
type Part = fn(OffsetDateTime) -> String;

/// What stands for a part of a moment, the longest first where one begins like another.
const PARTS: &[(&str, Part)] = &[
    ("2006", |at| format!("{:04}", at.year())),
    ("06", |at| format!("{:02}", at.year().rem_euclid(100))),
    ("January", |at| at.month().to_string()),
    ("Jan", |at| at.month().to_string().chars().take(3).collect()),
    ("Monday", |at| at.weekday().to_string()),
    ("Mon", |at| at.weekday().to_string().chars().take(3).collect()),
    ("MST", |_| "UTC".to_owned()),
    ("01", |at| format!("{:02}", u8::from(at.month()))),
    ("002", |at| format!("{:03}", at.ordinal())),
    ("02", |at| format!("{:02}", at.day())),
    ("03", |at| format!("{:02}", twelve(at))),
    ("04", |at| format!("{:02}", at.minute())),
    ("05", |at| format!("{:02}", at.second())),
    ("15", |at| format!("{:02}", at.hour())),
    ("_2", |at| format!("{:2}", at.day())),
    ("PM", |at| if at.hour() < 12 { "AM" } else { "PM" }.to_owned()),
    ("pm", |at| if at.hour() < 12 { "am" } else { "pm" }.to_owned()),
    ("Z07:00", |_| "Z".to_owned()),
    ("Z0700", |_| "Z".to_owned()),
    ("-07:00", |_| "+00:00".to_owned()),
    ("-0700", |_| "+0000".to_owned()),
    ("-07", |_| "+00".to_owned()),
    (".000000", |at| format!(".{:06}", at.microsecond())),
    (".000", |at| format!(".{:03}", at.millisecond())),
    ("1", |at| u8::from(at.month()).to_string()),
    ("2", |at| at.day().to_string()),
    ("3", |at| twelve(at).to_string()),
    ("4", |at| at.minute().to_string()),
    ("5", |at| at.second().to_string()),
];

fn twelve(at: OffsetDateTime) -> u8 {
    match at.hour() % 12 {
        0 => 12,
        hour => hour,
    }
}

pub(super) fn layout(layout: &str, moment: Timestamp) -> Result<String, String> {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(moment.unix_micros()) * 1000)
        .map_err(|_| "a moment that is too far away".to_owned())?;
    let mut out = String::new();
    let mut rest = layout;
    while let Some(first) = rest.chars().next() {
        // `Janet` is no month: Go asks the same.
        let part = PARTS.iter().find(|(name, _)| {
            rest.strip_prefix(name).is_some_and(|after| *name != "Jan" || !after.starts_with(char::is_lowercase))
        });
        let length = if let Some((name, write)) = part {
            out.push_str(&write(at));
            name.len()
        } else {
            out.push(first);
            first.len_utf8()
        };
        rest = rest.get(length..).unwrap_or_default();
        if out.len() > super::functions::MAX_MADE {
            return Err("the text becomes too long".to_owned());
        }
    }
    Ok(out)
}
