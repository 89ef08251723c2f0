//! Sprig's functions on text.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fancy_regex::{Regex, RegexBuilder};
use sha2::Digest as _;

use super::format;
use super::functions::{ANY, Call, Function, MAX_MADE, function, selection};
use super::value::Value;

/// How large a regular expression may become, in bytes.
const MAX_EXPRESSION_BYTES: usize = 64 * 1024;
/// How often a match may turn back.
const MAX_BACKTRACKS: usize = 100_000;

type Outcome = Result<Value, String>;

pub(super) const TEXTS: &[Function] = &[
    function("trim", 1, 1, |call| text(call.text(0)?.trim())),
    function("upper", 1, 1, |call| text(call.text(0)?.to_uppercase())),
    function("lower", 1, 1, |call| text(call.text(0)?.to_lowercase())),
    function("title", 1, 1, |call| text(title(call.text(0)?, char::is_uppercase, true))),
    function("untitle", 1, 1, |call| text(title(call.text(0)?, char::is_lowercase, false))),
    function("nospace", 1, 1, |call| text(call.text(0)?.split_whitespace().collect::<String>())),
    function("quote", 0, ANY, |call| text(quoted(call, format::quote))),
    function("squote", 0, ANY, |call| text(quoted(call, |text| format!("'{text}'")))),
    function("cat", 0, ANY, |call| {
        let shown: Vec<_> = call.arguments.iter().filter(|value| !is_nil(value)).map(Value::show).collect();
        text(shown.join(" "))
    }),
    function("replace", 3, 3, |call| {
        let (old, new, whole) = (call.text(0)?, call.text(1)?, call.text(2)?);
        made(whole.matches(old).count().saturating_mul(new.len()).saturating_add(whole.len()))?;
        text(whole.replace(old, new))
    }),
    function("repeat", 2, 2, |call| {
        let (count, one) = (call.size(0)?, call.text(1)?);
        made(count.saturating_mul(one.len()))?;
        text(one.repeat(if one.is_empty() { 0 } else { count }))
    }),
    function("contains", 2, 2, |call| Ok(Value::Bool(call.text(1)?.contains(call.text(0)?)))),
    function("hasPrefix", 2, 2, |call| Ok(Value::Bool(call.text(1)?.starts_with(call.text(0)?)))),
    function("hasSuffix", 2, 2, |call| Ok(Value::Bool(call.text(1)?.ends_with(call.text(0)?)))),
    function("trimPrefix", 2, 2, |call| {
        let (prefix, whole) = (call.text(0)?, call.text(1)?);
        text(whole.strip_prefix(prefix).unwrap_or(whole))
    }),
    function("trimSuffix", 2, 2, |call| {
        let (suffix, whole) = (call.text(0)?, call.text(1)?);
        text(whole.strip_suffix(suffix).unwrap_or(whole))
    }),
    function("trimAll", 2, 2, |call| {
        let set = call.text(0)?;
        text(call.text(1)?.trim_matches(|next| set.contains(next)))
    }),
    function("trunc", 2, 2, |call| {
        let (count, whole) = (call.int(0)?, call.text(1)?);
        let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let part = if count < 0 {
            whole.get(boundary(whole, whole.len().saturating_sub(size))..)
        } else {
            whole.get(..boundary(whole, size))
        };
        text(part.unwrap_or(whole))
    }),
    function("substr", 3, 3, |call| {
        let (from, to, whole) = (call.int(0)?, call.int(1)?, call.text(2)?);
        let at = |position: i64| boundary(whole, usize::try_from(position).unwrap_or(usize::MAX));
        let to = if to < 0 { whole.len() } else { at(to) };
        text(whole.get(if from < 0 { 0 } else { at(from) }..to).unwrap_or_default())
    }),
    function("indent", 2, 2, |call| indent(call, "")),
    function("nindent", 2, 2, |call| indent(call, "\n")),
    function("join", 2, 2, |call| {
        let parts: Vec<String> = match call.value(1) {
            Value::List(values) => values.iter().filter(|value| !is_nil(value)).map(Value::show).collect(),
            other => vec![other.show()],
        };
        let separator = call.text(0)?;
        made(parts.iter().map(|part| part.len() + separator.len()).sum())?;
        text(parts.join(separator))
    }),
    function("splitList", 2, 2, |call| Ok(Value::list(split(call)?.into_iter().map(Value::text)))),
    function("split", 2, 2, |call| {
        let parts = split(call)?.into_iter().enumerate();
        Ok(Value::map(parts.map(|(index, part)| (format!("_{index}"), Value::text(part)))))
    }),
    function("toString", 1, 1, |call| text(call.value(0).show())),
    function("b64enc", 1, 1, |call| text(STANDARD.encode(call.text(0)?))),
    function("b64dec", 1, 1, |call| {
        let bytes = STANDARD.decode(call.text(0)?).map_err(|_| "not base64".to_owned())?;
        text(String::from_utf8(bytes).map_err(|_| "what was in base64 is not text".to_owned())?)
    }),
    function("sha256sum", 1, 1, |call| {
        let digest = sha2::Sha256::digest(call.text(0)?.as_bytes());
        text(format::hex(&digest))
    }),
    function("regexMatch", 2, 2, |call| {
        let found = expression(call.text(0)?)?.is_match(call.text(1)?);
        found.map(Value::Bool).map_err(|_| "the expression is too much work".to_owned())
    }),
    function("regexFind", 2, 2, |call| {
        let found = expression(call.text(0)?)?.find(call.text(1)?);
        let found = found.map_err(|_| "the expression is too much work".to_owned())?;
        text(found.map(|found| found.as_str().to_owned()).unwrap_or_default())
    }),
    function("regexReplaceAll", 3, 3, |call| {
        let (expression, whole, new) = (expression(call.text(0)?)?, call.text(1)?, call.text(2)?);
        replace_all(&expression, whole, new)
    }),
    selection("fail", 1, 1, |call| Err(call.text(0)?.to_owned())),
];

fn text(text: impl AsRef<str>) -> Outcome {
    made(text.as_ref().len())?;
    Ok(Value::text(text.as_ref()))
}

fn made(length: usize) -> Result<(), String> {
    if length > MAX_MADE { Err("the text becomes too long".to_owned()) } else { Ok(()) }
}

fn is_nil(value: &Value) -> bool {
    matches!(value, Value::Nil)
}

fn quoted(call: &Call<'_>, quote: impl Fn(&str) -> String) -> String {
    let shown: Vec<_> =
        call.arguments.iter().filter(|value| !is_nil(value)).map(|value| quote(&value.show())).collect();
    shown.join(" ")
}

/// Every word begins in a certain way.
fn title(text: &str, is_done: fn(char) -> bool, upper: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut begins = true;
    for character in text.chars() {
        match (begins && !is_done(character), upper) {
            (true, true) => out.extend(character.to_uppercase()),
            (true, false) => out.extend(character.to_lowercase()),
            (false, _) => out.push(character),
        }
        begins = character.is_whitespace();
    }
    out
}

/// The next position at or before this one at which a character begins.
fn boundary(text: &str, position: usize) -> usize {
    let mut position = position.min(text.len());
    while !text.is_char_boundary(position) {
        position -= 1;
    }
    position
}

fn indent(call: &Call<'_>, first: &str) -> Outcome {
    let (count, whole) = (call.size(0)?, call.text(1)?);
    made((whole.matches('\n').count() + 1).saturating_mul(count).saturating_add(whole.len()))?;
    let gap = " ".repeat(count);
    text(format!("{first}{gap}{}", whole.replace('\n', &format!("\n{gap}"))))
}

fn split<'a>(call: &Call<'a>) -> Result<Vec<&'a str>, String> {
    let (separator, whole) = (call.text(0)?, call.text(1)?);
    if !separator.is_empty() {
        return Ok(whole.split(separator).collect());
    }
    Ok(whole.split("").filter(|part| !part.is_empty()).collect())
}

fn expression(source: &str) -> Result<Regex, String> {
    if source.len() > MAX_EXPRESSION_BYTES {
        return Err("the expression is too long".to_owned());
    }
    RegexBuilder::new(source)
        .backtrack_limit(MAX_BACKTRACKS)
        .delegate_size_limit(MAX_EXPRESSION_BYTES * 16)
        .delegate_dfa_size_limit(MAX_EXPRESSION_BYTES * 16)
        .build()
        .map_err(|error| format!("not a regular expression: {error}"))
}

/// `$1` and `${name}` stand for what a group found.
fn replace_all(expression: &Regex, whole: &str, new: &str) -> Outcome {
    let mut out = String::new();
    let mut at = 0;
    for found in expression.captures_iter(whole) {
        let found = found.map_err(|_| "the expression is too much work".to_owned())?;
        let Some(all) = found.get(0) else { continue };
        out.push_str(whole.get(at..all.start()).unwrap_or_default());
        found.expand(new, &mut out);
        at = all.end();
        made(out.len())?;
    }
    out.push_str(whole.get(at..).unwrap_or_default());
    text(out)
}

pub(super) fn escape_html(text: &str) -> String {
    escape(text, |character| match character {
        '"' => Some("&#34;".to_owned()),
        '\'' => Some("&#39;".to_owned()),
        '&' => Some("&amp;".to_owned()),
        '<' => Some("&lt;".to_owned()),
        '>' => Some("&gt;".to_owned()),
        _ => None,
    })
}

pub(super) fn escape_script(text: &str) -> String {
    escape(text, |character| match character {
        '\\' | '\'' | '"' => Some(format!("\\{character}")),
        '<' | '>' | '&' | '=' => Some(format!("\\u{:04X}", u32::from(character))),
        control if control.is_ascii_control() => Some(format!("\\u{:04X}", u32::from(control))),
        _ => None,
    })
}

pub(super) fn escape_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn escape(text: &str, instead: fn(char) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match instead(character) {
            Some(other) => out.push_str(&other),
            None => out.push(character),
        }
    }
    out
}
