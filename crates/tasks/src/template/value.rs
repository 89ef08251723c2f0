use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use postern_model::Timestamp;

use crate::yaml::{Node, Tree};

/// What a template works with. Copies are cheap.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing: a name that is not there.
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A moment.
    Time(Timestamp),
    /// Text.
    Text(Text),
    /// Values in order.
    List(Arc<[Value]>),
    /// Values by name.
    Map(Arc<BTreeMap<String, Value>>),
}

/// Text that may be secret, or made of something secret.
#[derive(Clone, Debug)]
pub struct Text {
    text: Arc<str>,
    is_secret: bool,
}

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Value {
    /// Text.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(Text { text: text.into(), is_secret: false })
    }

    /// Text that may not be shown.
    pub fn secret(text: impl Into<Arc<str>>) -> Self {
        Self::Text(Text { text: text.into(), is_secret: true })
    }

    /// Values by name.
    pub fn map<K: Into<String>>(entries: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Map(Arc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
    }

    /// Values in order.
    pub fn list(values: impl IntoIterator<Item = Value>) -> Self {
        Self::List(values.into_iter().collect())
    }

    /// Its texts are secret from here on.
    pub(super) fn into_secret(self) -> Self {
        match self {
            Self::Text(text) => Self::Text(Text { is_secret: true, ..text }),
            Self::List(values) => Self::list(values.iter().cloned().map(Self::into_secret)),
            Self::Map(entries) => {
                Self::map(entries.iter().map(|(key, value)| (key.clone(), value.clone().into_secret())))
            }
            other => other,
        }
    }

    /// How much it is, and whether something in it is secret.
    pub(crate) fn weigh(&self) -> (usize, bool) {
        let add = |(weight, is_secret): (usize, bool), (more, also): (usize, bool)| (weight + more, is_secret || also);
        match self {
            Self::Text(text) => (1 + text.text.len(), text.is_secret),
            Self::List(values) => values.iter().map(Self::weigh).fold((1, false), add),
            Self::Map(entries) => {
                entries.iter().map(|(key, value)| add(value.weigh(), (key.len(), false))).fold((1, false), add)
            }
            _ => (1, false),
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Time(_) => true,
            Self::Text(text) => !text.text.is_empty(),
            Self::List(values) => !values.is_empty(),
            Self::Map(entries) => !entries.is_empty(),
        }
    }

    /// What Go calls its type.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Time(_) => "time.Time",
            Self::Text(_) => "string",
            Self::List(_) => "[]interface {}",
            Self::Map(_) => "map[string]interface {}",
        }
    }

    /// As `%v` prints it.
    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Nil => out.push_str("<nil>"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Int(value) => {
                let _ = write!(out, "{value}");
            }
            Self::Float(value) => out.push_str(&super::format::float(*value)),
            Self::Time(moment) => out.push_str(&super::dates::show(*moment)),
            Self::Text(text) => out.push_str(&text.text),
            Self::List(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    value.write(out);
                }
                out.push(']');
            }
            Self::Map(entries) => {
                out.push_str("map[");
                for (index, (key, value)) in entries.iter().enumerate() {
                    if index > 0 {
                        out.push(' ');
                    }
                    out.push_str(key);
                    out.push(':');
                    value.write(out);
                }
                out.push(']');
            }
        }
    }
}

impl From<&Node> for Value {
    fn from(node: &Node) -> Self {
        match &node.tree {
            Tree::Scalar { text, is_plain: false } => Self::text(text.as_str()),
            Tree::Scalar { text, .. } => plain(text),
            Tree::List(nodes) => Self::list(nodes.iter().map(Self::from)),
            Tree::Map(entries) => Self::map(entries.iter().map(|(key, node)| (key.clone(), Self::from(node)))),
        }
    }
}

/// What text without quotes means in YAML.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Nil,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => return Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => return Value::Bool(false),
        ".inf" | ".Inf" | "+.inf" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" => return Value::Float(f64::NAN),
        _ => {}
    }
    if let Some(number) = integer(text) {
        return Value::Int(number);
    }
    let is_number = text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        && text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match text.parse() {
        Ok(number) if is_number => Value::Float(number),
        _ => Value::text(text),
    }
}

/// A whole number as YAML and Go write it.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let plain = digits.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    let (radix, digits) = match lower.as_str() {
        text if text.starts_with("0x") => (16, text.get(2..)?),
        text if text.starts_with("0o") => (8, text.get(2..)?),
        text if text.starts_with("0b") => (2, text.get(2..)?),
        text if text.starts_with('0') && text.len() > 1 => (8, text.get(1..)?),
        text => (10, text),
    };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().filter(|_| !digits.starts_with(['+', '-']))
}
