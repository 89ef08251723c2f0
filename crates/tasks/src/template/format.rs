//! How Go prints values.

use std::fmt::Write as _;

use super::value::Value;

/// How wide or precise a number in `%5.2f` may be.
const MAX_WIDTH: usize = 1000;

/// `%v` of a number with a fraction.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => format!("{value}"),
    }
}

/// Spaces stand between two that are not text.
pub(super) fn print(values: &[Value]) -> String {
    let mut out = String::new();
    let mut was_text = true;
    for (index, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Text(_));
        if index > 0 && !is_text && !was_text {
            out.push(' ');
        }
        out.push_str(&value.show());
        was_text = is_text;
    }
    out
}

pub(super) fn println(values: &[Value]) -> String {
    let mut out = values.iter().map(Value::show).collect::<Vec<_>>().join(" ");
    out.push('\n');
    out
}

#[derive(Default)]
struct Flags {
    minus: bool,
    zero: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
}

pub(super) fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = format.chars().peekable();
    let mut arguments = arguments.iter();
    while let Some(next) = rest.next() {
        if next != '%' {
            out.push(next);
            continue;
        }
        let mut flags = Flags::default();
        while let Some(flag) = rest.next_if(|next| "-0+# ".contains(*next)) {
            match flag {
                '-' => flags.minus = true,
                '0' => flags.zero = true,
                '+' => flags.plus = true,
                '#' => flags.sharp = true,
                _ => flags.space = true,
            }
        }
        flags.width = number(&mut rest)?;
        if rest.next_if_eq(&'.').is_some() {
            flags.precision = Some(number(&mut rest)?);
        }
        let Some(verb) = rest.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match arguments.next() {
            Some(value) => out.push_str(&verb_of(verb, value, &flags)),
            None => {
                let _ = write!(out, "%!{verb}(MISSING)");
            }
        }
        if out.len() > super::functions::MAX_MADE {
            return Err("the text becomes too long".to_owned());
        }
    }
    let extra: Vec<_> = arguments.map(|value| format!("{}={}", value.kind(), value.show())).collect();
    if !extra.is_empty() {
        let _ = write!(out, "%!(EXTRA {})", extra.join(", "));
    }
    Ok(out)
}

fn number(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<usize, String> {
    let mut number = 0;
    while let Some(digit) = rest.next_if(char::is_ascii_digit) {
        number = number * 10 + usize::try_from(digit.to_digit(10).unwrap_or(0)).unwrap_or(0);
        if number > MAX_WIDTH {
            return Err(format!("a width of more than {MAX_WIDTH}"));
        }
    }
    Ok(number)
}

fn verb_of(verb: char, value: &Value, flags: &Flags) -> String {
    let is_number = matches!(value, Value::Int(_) | Value::Float(_));
    let body = match (verb, value) {
        ('T', value) => value.kind().to_owned(),
        ('v', Value::Text(text)) if flags.sharp => quote(text.as_str()),
        ('v', Value::Int(_)) => signed(&value.show(), flags),
        ('s', Value::Text(text)) => cut(text.as_str(), flags),
        ('v', _) | ('s', Value::List(_) | Value::Map(_) | Value::Time(_)) => value.show(),
        ('q', Value::Text(text)) => quote(&cut(text.as_str(), flags)),
        ('t', Value::Bool(value)) => value.to_string(),
        ('d', Value::Int(value)) => signed(&value.to_string(), flags),
        ('b', Value::Int(value)) => signed(&radix(*value, |size| format!("{size:b}")), flags),
        ('o', Value::Int(value)) => signed(&radix(*value, |size| format!("{size:o}")), flags),
        ('x', Value::Int(value)) => signed(&radix(*value, |size| format!("{size:x}")), flags),
        ('X', Value::Int(value)) => signed(&radix(*value, |size| format!("{size:X}")), flags),
        ('x', Value::Text(text)) => hex(text.as_str().as_bytes()),
        ('X', Value::Text(text)) => hex(text.as_str().as_bytes()).to_uppercase(),
        ('c', Value::Int(value)) => {
            u32::try_from(*value).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER).to_string()
        }
        ('f' | 'F', Value::Float(value)) => signed(&format!("{value:.*}", flags.precision.unwrap_or(6)), flags),
        ('g' | 'G', Value::Float(value)) => signed(&float(*value), flags),
        ('e', Value::Float(value)) => signed(&exponent(*value, flags.precision.unwrap_or(6)), flags),
        (_, Value::Nil) => format!("%!{verb}(<nil>)"),
        _ => format!("%!{verb}({}={})", value.kind(), value.show()),
    };
    pad(body, flags, is_number)
}

/// Two digits for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn radix(value: i64, digits: fn(u64) -> String) -> String {
    format!("{}{}", if value < 0 { "-" } else { "" }, digits(value.unsigned_abs()))
}

fn exponent(value: f64, precision: usize) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
    format!("{digits}e{sign}{size:0>2}")
}

fn signed(number: &str, flags: &Flags) -> String {
    match (flags.plus, flags.space) {
        _ if number.starts_with('-') => number.to_owned(),
        (true, _) => format!("+{number}"),
        (false, true) => format!(" {number}"),
        _ => number.to_owned(),
    }
}

fn cut(text: &str, flags: &Flags) -> String {
    text.chars().take(flags.precision.unwrap_or(usize::MAX)).collect()
}

fn pad(body: String, flags: &Flags, is_number: bool) -> String {
    let missing = flags.width.saturating_sub(body.chars().count());
    if flags.minus {
        return body + &" ".repeat(missing);
    }
    if flags.zero && is_number {
        let signs = body.len() - body.trim_start_matches(['-', '+', ' ']).len();
        let (sign, digits) = body.split_at_checked(signs).unwrap_or(("", &body));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &body
}

/// A Go string literal.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
