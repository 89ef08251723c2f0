//! The functions by name, and what Go itself brings along.

use std::cmp::Ordering;

use postern_model::Timestamp;

use super::value::{Text, Value};
use super::{collections, dates, format, texts};

/// How long a text or list that a function makes may be.
pub(super) const MAX_MADE: usize = super::run::MAX_TEMPLATE_OUTPUT;

/// A function.
#[derive(Debug)]
pub(super) struct Function {
    pub(super) name: &'static str,
    least: usize,
    most: usize,
    /// It gives back one of its arguments, or a part of one.
    pub(super) is_selection: bool,
    pub(super) run: fn(&Call<'_>) -> Result<Value, String>,
}

/// As many arguments as one likes.
pub(super) const ANY: usize = usize::MAX;

/// A function that makes something new.
pub(super) const fn function(
    name: &'static str,
    least: usize,
    most: usize,
    run: fn(&Call<'_>) -> Result<Value, String>,
) -> Function {
    Function { name, least, most, is_selection: false, run }
}

/// A function that chooses among what it is given.
pub(super) const fn selection(
    name: &'static str,
    least: usize,
    most: usize,
    run: fn(&Call<'_>) -> Result<Value, String>,
) -> Function {
    Function { name, least, most, is_selection: true, run }
}

impl Function {
    pub(super) fn check_count(&self, count: usize) -> Result<(), String> {
        if (self.least..=self.most).contains(&count) {
            return Ok(());
        }
        let want = if self.most == ANY { format!("at least {}", self.least) } else { self.least.to_string() };
        Err(format!("wrong number of args for {}: want {want} got {count}", self.name))
    }

    /// The truth value at which it needs no further arguments.
    pub(super) fn stops_at(&self) -> Option<bool> {
        match self.name {
            "and" => Some(false),
            "or" => Some(true),
            _ => None,
        }
    }
}

/// A function's arguments.
pub(super) struct Call<'a> {
    pub(super) arguments: &'a [Value],
    pub(super) now: Timestamp,
}

impl<'a> Call<'a> {
    pub(super) fn value(&self, index: usize) -> &'a Value {
        self.arguments.get(index).unwrap_or(&Value::Nil)
    }

    pub(super) fn text(&self, index: usize) -> Result<&'a str, String> {
        match self.value(index) {
            Value::Text(text) => Ok(text.as_str()),
            Value::Nil => Err("invalid value; expected string".to_owned()),
            other => Err(format!("wrong type for value; expected string; got {}", other.kind())),
        }
    }

    /// A number that a function asks for as such.
    pub(super) fn int(&self, index: usize) -> Result<i64, String> {
        match self.value(index) {
            Value::Int(number) => Ok(*number),
            Value::Nil => Err("invalid value; expected int".to_owned()),
            other => Err(format!("wrong type for value; expected int; got {}", other.kind())),
        }
    }

    /// A length or position; below zero is zero.
    pub(super) fn size(&self, index: usize) -> Result<usize, String> {
        Ok(usize::try_from(self.int(index)?.max(0)).unwrap_or(usize::MAX))
    }

    pub(super) fn list(&self, index: usize) -> Result<&'a [Value], String> {
        match self.value(index) {
            Value::List(values) => Ok(values),
            other => Err(format!("wrong type for value; expected a list; got {}", other.kind())),
        }
    }
}

/// All of them.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    [GO, texts::TEXTS, collections::COLLECTIONS, dates::DATES].into_iter().flatten().map(|function| function.name)
}

pub(super) fn find(name: &str) -> Option<&'static Function> {
    [GO, texts::TEXTS, collections::COLLECTIONS, dates::DATES]
        .into_iter()
        .flatten()
        .find(|function| function.name == name)
}

const GO: &[Function] = &[
    selection("and", 1, ANY, |call| Ok(call.value(0).clone())),
    selection("or", 1, ANY, |call| Ok(call.value(0).clone())),
    function("not", 1, 1, |call| Ok(Value::Bool(!call.value(0).is_true()))),
    function("eq", 2, ANY, |call| {
        for other in call.arguments.iter().skip(1) {
            if is_equal(call.value(0), other)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
    function("ne", 2, 2, |call| Ok(Value::Bool(!is_equal(call.value(0), call.value(1))?))),
    function("lt", 2, 2, |call| Ok(Value::Bool(order(call)?.is_lt()))),
    function("le", 2, 2, |call| Ok(Value::Bool(order(call)?.is_le()))),
    function("gt", 2, 2, |call| Ok(Value::Bool(order(call)?.is_gt()))),
    function("ge", 2, 2, |call| Ok(Value::Bool(order(call)?.is_ge()))),
    function("len", 1, 1, |call| length(call.value(0))),
    selection("index", 1, ANY, |call| {
        call.arguments.iter().skip(1).try_fold(call.value(0).clone(), |value, key| index(&value, key))
    }),
    selection("slice", 1, 3, slice),
    function("print", 0, ANY, |call| Ok(Value::text(format::print(call.arguments)))),
    function("println", 0, ANY, |call| Ok(Value::text(format::println(call.arguments)))),
    function("printf", 1, ANY, |call| {
        let rest = call.arguments.get(1..).unwrap_or_default();
        format::printf(call.text(0)?, rest).map(Value::text)
    }),
    function("html", 0, ANY, |call| Ok(Value::text(texts::escape_html(&format::print(call.arguments))))),
    function("js", 0, ANY, |call| Ok(Value::text(texts::escape_script(&format::print(call.arguments))))),
    function("urlquery", 0, ANY, |call| Ok(Value::text(texts::escape_query(&format::print(call.arguments))))),
];

fn is_equal(left: &Value, right: &Value) -> Result<bool, String> {
    match (left, right) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::List(_) | Value::Map(_), _) | (_, Value::List(_) | Value::Map(_)) => {
            Err("non-comparable type".to_owned())
        }
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Int(left), Value::Int(right)) => Ok(left == right),
        (Value::Float(left), Value::Float(right)) => Ok(left.partial_cmp(right) == Some(Ordering::Equal)),
        (Value::Time(left), Value::Time(right)) => Ok(left == right),
        (Value::Text(left), Value::Text(right)) => Ok(left.as_str() == right.as_str()),
        _ => Err(incompatible(left, right)),
    }
}

fn incompatible(left: &Value, right: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", left.kind(), right.kind())
}

fn order(call: &Call<'_>) -> Result<Ordering, String> {
    match (call.value(0), call.value(1)) {
        (Value::Int(left), Value::Int(right)) => Ok(left.cmp(right)),
        (Value::Float(left), Value::Float(right)) => Ok(left.total_cmp(right)),
        (Value::Text(left), Value::Text(right)) => Ok(left.as_str().cmp(right.as_str())),
        (left, right) if left.kind() == right.kind() => Err("invalid type for comparison".to_owned()),
        (left, right) => Err(incompatible(left, right)),
    }
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::Text(text) => text.as_str().len(),
        Value::List(values) => values.len(),
        Value::Map(entries) => entries.len(),
        Value::Nil => return Err("len of nil pointer".to_owned()),
        other => return Err(format!("len of type {}", other.kind())),
    };
    Ok(Value::Int(i64::try_from(length).unwrap_or(i64::MAX)))
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Map(entries), Value::Text(key)) => Ok(entries.get(key.as_str()).cloned().unwrap_or(Value::Nil)),
        (Value::List(values), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| values.get(at))
            .cloned()
            .ok_or_else(|| format!("index out of range: {at}")),
        (Value::Text(text), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| text.as_str().as_bytes().get(at))
            .map(|byte| Value::Int(i64::from(*byte)))
            .ok_or_else(|| format!("index out of range: {at}")),
        (Value::Nil, _) => Err("index of untyped nil".to_owned()),
        (Value::Map(_) | Value::List(_) | Value::Text(_), key) => {
            Err(format!("cannot index {} with type {}", value.kind(), key.kind()))
        }
        _ => Err(format!("can't index item of type {}", value.kind())),
    }
}

fn slice(call: &Call<'_>) -> Result<Value, String> {
    let from = if call.arguments.len() > 1 { call.size(1)? } else { 0 };
    let to = if call.arguments.len() > 2 { Some(call.size(2)?) } else { None };
    let problem = || "slice index out of range".to_owned();
    match call.value(0) {
        Value::List(values) => {
            let part = values.get(from..to.unwrap_or(values.len())).ok_or_else(problem)?;
            Ok(Value::list(part.iter().cloned()))
        }
        Value::Text(text) => part(text, from, to).ok_or_else(problem),
        other => Err(format!("can't slice item of type {}", other.kind())),
    }
}

fn part(text: &Text, from: usize, to: Option<usize>) -> Option<Value> {
    let whole = text.as_str();
    let part = Value::text(whole.get(from..to.unwrap_or(whole.len()))?);
    let is_secret = Value::Text(text.clone()).weigh().1;
    Some(if is_secret { part.into_secret() } else { part })
}
