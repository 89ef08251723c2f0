//! Sprig's functions on lists, dictionaries, numbers and defaults.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::functions::{ANY, Call, Function, function, selection};
use super::value::Value;

/// How long a list that a function makes may be.
const MAX_LIST: usize = 10_000;
/// How deep JSON may lie in itself.
const MAX_JSON_DEPTH: usize = 64;

type Outcome = Result<Value, String>;

pub(super) const COLLECTIONS: &[Function] = &[
    selection("default", 2, 2, |call| Ok(if call.value(1).is_true() { call.value(1) } else { call.value(0) }.clone())),
    function("empty", 1, 1, |call| Ok(Value::Bool(!call.value(0).is_true()))),
    selection("coalesce", 0, ANY, |call| {
        Ok(call.arguments.iter().find(|value| value.is_true()).cloned().unwrap_or(Value::Nil))
    }),
    selection("ternary", 3, 3, |call| match call.value(2) {
        Value::Bool(is_first) => Ok(call.value(usize::from(!is_first)).clone()),
        other => Err(format!("wrong type for value; expected bool; got {}", other.kind())),
    }),
    selection("required", 2, 2, |call| match call.value(1) {
        value if value.is_true() => Ok(value.clone()),
        _ => Err(call.text(0)?.to_owned()),
    }),
    selection("list", 0, ANY, |call| Ok(Value::list(call.arguments.iter().cloned()))),
    selection("first", 1, 1, |call| Ok(call.list(0)?.first().cloned().unwrap_or(Value::Nil))),
    selection("last", 1, 1, |call| Ok(call.list(0)?.last().cloned().unwrap_or(Value::Nil))),
    selection("rest", 1, 1, |call| Ok(Value::list(call.list(0)?.iter().skip(1).cloned()))),
    selection("initial", 1, 1, |call| {
        let values = call.list(0)?;
        Ok(Value::list(values.iter().take(values.len().saturating_sub(1)).cloned()))
    }),
    selection("append", 2, 2, |call| Ok(Value::list(call.list(0)?.iter().chain([call.value(1)]).cloned()))),
    selection("prepend", 2, 2, |call| Ok(Value::list([call.value(1)].into_iter().chain(call.list(0)?).cloned()))),
    selection("concat", 0, ANY, |call| {
        let mut values = Vec::new();
        for index in 0..call.arguments.len() {
            values.extend_from_slice(call.list(index)?);
        }
        Ok(Value::list(values))
    }),
    selection("reverse", 1, 1, |call| Ok(Value::list(call.list(0)?.iter().rev().cloned()))),
    selection("compact", 1, 1, |call| Ok(Value::list(call.list(0)?.iter().filter(|value| value.is_true()).cloned()))),
    selection("uniq", 1, 1, |call| {
        let mut seen = std::collections::BTreeSet::new();
        let fresh = call.list(0)?.iter().filter(|value| seen.insert((value.kind(), value.show())));
        Ok(Value::list(fresh.cloned()))
    }),
    selection("without", 1, ANY, |call| {
        let others: Vec<_> = call.arguments.iter().skip(1).map(|value| (value.kind(), value.show())).collect();
        let kept = call.list(0)?.iter().filter(|value| !others.contains(&(value.kind(), value.show())));
        Ok(Value::list(kept.cloned()))
    }),
    function("has", 2, 2, |call| {
        let wanted = (call.value(0).kind(), call.value(0).show());
        Ok(Value::Bool(call.list(1)?.iter().any(|value| (value.kind(), value.show()) == wanted)))
    }),
    function("sortAlpha", 1, 1, |call| {
        let mut texts: Vec<_> = call.list(0)?.iter().map(Value::show).collect();
        texts.sort_unstable();
        Ok(Value::list(texts.into_iter().map(Value::text)))
    }),
    function("until", 1, 1, |call| {
        let count = call.int(0)?;
        if count.unsigned_abs() > MAX_LIST as u64 {
            return Err(format!("a list of more than {MAX_LIST}"));
        }
        Ok(Value::list(if count < 0 {
            ((count + 1)..=0).rev().map(Value::Int).collect::<Vec<_>>()
        } else {
            (0..count).map(Value::Int).collect()
        }))
    }),
    selection("dict", 0, ANY, |call| {
        let mut entries = BTreeMap::new();
        for pair in call.arguments.chunks(2) {
            if let [key, rest @ ..] = pair {
                entries.insert(key.show(), rest.first().cloned().unwrap_or_else(|| Value::text("")));
            }
        }
        Ok(Value::Map(Arc::new(entries)))
    }),
    selection("get", 2, 2, |call| Ok(map(call, 0)?.get(call.text(1)?).cloned().unwrap_or_else(|| Value::text("")))),
    function("hasKey", 2, 2, |call| Ok(Value::Bool(map(call, 0)?.contains_key(call.text(1)?)))),
    function("keys", 1, ANY, |call| {
        let mut keys = Vec::new();
        for index in 0..call.arguments.len() {
            keys.extend(map(call, index)?.keys().map(|key| Value::text(key.as_str())));
        }
        Ok(Value::list(keys))
    }),
    selection("values", 1, 1, |call| Ok(Value::list(map(call, 0)?.values().cloned()))),
    function("int", 1, 1, |call| Ok(Value::Int(to_int(call.value(0))))),
    function("int64", 1, 1, |call| Ok(Value::Int(to_int(call.value(0))))),
    function("float64", 1, 1, |call| {
        Ok(Value::Float(match call.value(0) {
            Value::Float(number) => *number,
            Value::Text(text) => text.as_str().parse().unwrap_or(0.0),
            other => to_int(other).to_string().parse().unwrap_or(0.0),
        }))
    }),
    function("add1", 1, 1, |call| Ok(Value::Int(to_int(call.value(0)).wrapping_add(1)))),
    function("add", 0, ANY, |call| Ok(Value::Int(call.arguments.iter().map(to_int).fold(0, i64::wrapping_add)))),
    function("sub", 2, 2, |call| Ok(Value::Int(to_int(call.value(0)).wrapping_sub(to_int(call.value(1)))))),
    function("mul", 1, ANY, |call| Ok(Value::Int(call.arguments.iter().map(to_int).fold(1, i64::wrapping_mul)))),
    function("div", 2, 2, |call| divide(call, i64::checked_div)),
    function("mod", 2, 2, |call| divide(call, i64::checked_rem)),
    function("max", 1, ANY, |call| Ok(call.arguments.iter().map(to_int).max().map_or(Value::Nil, Value::Int))),
    function("min", 1, ANY, |call| Ok(call.arguments.iter().map(to_int).min().map_or(Value::Nil, Value::Int))),
    function("kindOf", 1, 1, |call| {
        let kind = call.value(0).kind();
        Ok(Value::text(match call.value(0) {
            Value::List(_) => "slice",
            Value::Map(_) => "map",
            Value::Nil => "invalid",
            _ => kind,
        }))
    }),
    function("toJson", 1, 1, |call| Ok(Value::text(to_json(call.value(0)).to_string()))),
    function("toPrettyJson", 1, 1, |call| Ok(Value::text(format!("{:#}", to_json(call.value(0)))))),
    function("fromJson", 1, 1, |call| {
        let value: serde_json::Value =
            serde_json::from_str(call.text(0)?).map_err(|error| format!("not JSON: {error}"))?;
        from_json(&value, 0)
    }),
];

fn map<'a>(call: &Call<'a>, index: usize) -> Result<&'a BTreeMap<String, Value>, String> {
    match call.value(index) {
        Value::Map(entries) => Ok(entries),
        other => Err(format!("wrong type for value; expected map[string]interface {{}}; got {}", other.kind())),
    }
}

/// Any value as a number, as Sprig understands it.
fn to_int(value: &Value) -> i64 {
    match value {
        Value::Int(number) => *number,
        Value::Bool(value) => i64::from(*value),
        #[expect(clippy::cast_possible_truncation, reason = "a number that is too large becomes the largest")]
        Value::Float(number) => *number as i64,
        Value::Text(text) => super::value::integer(text.as_str()).unwrap_or(0),
        _ => 0,
    }
}

fn divide(call: &Call<'_>, operation: fn(i64, i64) -> Option<i64>) -> Outcome {
    operation(to_int(call.value(0)), to_int(call.value(1)))
        .map(Value::Int)
        .ok_or_else(|| "integer divide by zero".to_owned())
}

pub(super) fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Nil => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Time(moment) => moment.to_string().into(),
        Value::Text(text) => text.as_str().into(),
        Value::List(values) => values.iter().map(to_json).collect(),
        Value::Map(entries) => entries.iter().map(|(key, value)| (key.clone(), to_json(value))).collect(),
    }
}

fn from_json(value: &serde_json::Value, depth: usize) -> Outcome {
    if depth > MAX_JSON_DEPTH {
        return Err(format!("JSON that lies more than {MAX_JSON_DEPTH} deep in itself"));
    }
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Value::text(text.as_str()),
        serde_json::Value::Array(values) => {
            Value::list(values.iter().map(|value| from_json(value, depth + 1)).collect::<Result<Vec<_>, _>>()?)
        }
        serde_json::Value::Object(entries) => Value::map(
            entries
                .iter()
                .map(|(key, value)| Ok((key.clone(), from_json(value, depth + 1)?)))
                .collect::<Result<Vec<_>, String>>()?,
        ),
    })
}
