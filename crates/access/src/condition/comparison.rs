use std::cmp::Ordering;
use std::sync::Arc;

use postern_model::Timestamp;
use uuid::Uuid;

use super::wildcard::LikePattern;
use super::{ConditionFault, ConditionRequest};

/// The one attribute that a registry's requests carry.
///
/// Source: Azure Container Registry, "Entra-based repository permissions" (read 2026-11).
const REPOSITORY_NAME: &str = "Microsoft.ContainerRegistry/registries/repositories:name";

/// An attribute as written: `@Request[…:name]`.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    text: Arc<str>,
    is_repository_name: bool,
}

impl Attribute {
    pub(super) fn new(source: &str, name: &str) -> Self {
        let is_repository_name =
            source.eq_ignore_ascii_case("Request") && name.trim().eq_ignore_ascii_case(REPOSITORY_NAME);
        Self { text: format!("@{source}[{name}]").into(), is_repository_name }
    }

    /// Whether the request carries it. Of an attribute that no request of a registry carries, that is not known: it may well be
    /// there for the service that the condition was written for.
    pub(super) fn exists(&self, request: &ConditionRequest<'_>) -> Result<bool, ConditionFault> {
        if self.is_repository_name {
            return Ok(request.repository.is_some());
        }
        Err(ConditionFault::UnknownAttribute(Arc::clone(&self.text)))
    }

    pub(super) fn value<'r>(&self, request: &ConditionRequest<'r>) -> Option<&'r str> {
        request.repository.filter(|_| self.is_repository_name)
    }
}

/// A literal, read as the kind that its comparison needs.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(Box<str>),
    Pattern(LikePattern),
    Integer(i64),
    Boolean(bool),
    Time(Timestamp),
    Guid(Uuid),
}

/// One side of a comparison.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Attribute(Attribute),
    Values(Box<[Value]>),
}

/// How many of the values on each side must satisfy the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quantifier {
    all_left: bool,
    all_right: bool,
}

impl Quantifier {
    /// For one value on each side.
    pub(super) const SINGLE: Self = Self { all_left: false, all_right: false };

    /// `ForAnyOfAllValues` and its three siblings.
    pub(super) fn named(word: &str) -> Option<Self> {
        const NAMES: [(&str, Quantifier); 4] = [
            ("ForAnyOfAnyValues", Quantifier { all_left: false, all_right: false }),
            ("ForAllOfAnyValues", Quantifier { all_left: true, all_right: false }),
            ("ForAnyOfAllValues", Quantifier { all_left: false, all_right: true }),
            ("ForAllOfAllValues", Quantifier { all_left: true, all_right: true }),
        ];
        NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)).map(|&(_, quantifier)| quantifier)
    }
}

/// What is compared, and how.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    Equals { ignore_case: bool },
    StartsWith { ignore_case: bool },
    Like { ignore_case: bool },
    Integer(fn(Ordering) -> bool),
    Time(fn(Ordering) -> bool),
    Boolean,
    Guid,
}

/// A comparison's operator: `StringNotLikeIgnoreCase`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    pub(super) test: Test,
    negated: bool,
}

impl Operator {
    pub(super) fn named(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let (kind, test) = ["string", "numeric", "datetime", "bool", "guid"]
            .iter()
            .find_map(|kind| Some((*kind, word.strip_prefix(kind)?)))?;
        let (test, negated) = test.strip_prefix("not").map_or((test, false), |test| (test, true));
        let test = match kind {
            "string" => text_test(test)?,
            "numeric" => Test::Integer(order(test, negated)?),
            "datetime" => Test::Time(order(test, negated)?),
            "bool" if test == "equals" => Test::Boolean,
            "guid" if test == "equals" => Test::Guid,
            _ => return None,
        };
        Some(Self { test, negated })
    }
}

fn text_test(name: &str) -> Option<Test> {
    let (name, ignore_case) = name.strip_suffix("ignorecase").map_or((name, false), |name| (name, true));
    match name {
        "equals" => Some(Test::Equals { ignore_case }),
        "startswith" => Some(Test::StartsWith { ignore_case }),
        "like" => Some(Test::Like { ignore_case }),
        _ => None,
    }
}

/// `NotLessThan` and the like do not exist; only equality has a negation.
fn order(name: &str, negated: bool) -> Option<fn(Ordering) -> bool> {
    match (name, negated) {
        ("equals", _) => Some(Ordering::is_eq),
        ("lessthan", false) => Some(Ordering::is_lt),
        ("lessthanequals", false) => Some(Ordering::is_le),
        ("greaterthan", false) => Some(Ordering::is_gt),
        ("greaterthanequals", false) => Some(Ordering::is_ge),
        _ => None,
    }
}

/// `<operand> <quantifier>:<operator> <operand>`.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    pub(super) left: Operand,
    pub(super) quantifier: Quantifier,
    pub(super) operator: Operator,
    pub(super) right: Operand,
}

impl Comparison {
    pub(super) fn evaluate(&self, request: &ConditionRequest<'_>) -> Result<bool, ConditionFault> {
        let left = self.left.data(request)?;
        let right = self.right.data(request)?;
        quantified(self.quantifier.all_left, left, |left| {
            quantified(self.quantifier.all_right, right.clone(), |right| {
                Ok(self.operator.test.holds(left, right)? != self.operator.negated)
            })
        })
    }
}

/// Whether the test holds for all (or any) of the data.
fn quantified<'a>(
    all: bool,
    data: impl Iterator<Item = Datum<'a>>,
    mut test: impl FnMut(Datum<'a>) -> Result<bool, ConditionFault>,
) -> Result<bool, ConditionFault> {
    for datum in data {
        if test(datum)? != all {
            return Ok(!all);
        }
    }
    Ok(all)
}

impl Operand {
    fn data<'a>(
        &'a self,
        request: &ConditionRequest<'a>,
    ) -> Result<impl Iterator<Item = Datum<'a>> + Clone, ConditionFault> {
        let (one, many) = match self {
            Self::Attribute(attribute) => match attribute.value(request) {
                Some(text) => (Some(text), [].as_slice()),
                None => return Err(ConditionFault::UnknownAttribute(Arc::clone(&attribute.text))),
            },
            Self::Values(values) => (None, &**values),
        };
        Ok(one.into_iter().map(Datum::Text).chain(many.iter().map(Datum::Value)))
    }
}

/// What is compared: an attribute's text, or a literal.
#[derive(Clone, Copy)]
enum Datum<'a> {
    Text(&'a str),
    Value(&'a Value),
}

impl Test {
    fn holds(self, left: Datum<'_>, right: Datum<'_>) -> Result<bool, ConditionFault> {
        Ok(match self {
            Self::Equals { ignore_case: false } => left.text()? == right.text()?,
            Self::Equals { ignore_case: true } => left.text()?.eq_ignore_ascii_case(right.text()?),
            Self::StartsWith { ignore_case } => starts_with(left.text()?, right.text()?, ignore_case),
            Self::Like { ignore_case } => match right {
                Datum::Value(Value::Pattern(pattern)) => pattern.matches(left.text()?, ignore_case),
                Datum::Value(_) | Datum::Text(_) => return Err(ConditionFault::NotComparable),
            },
            Self::Integer(holds) => holds(left.integer()?.cmp(&right.integer()?)),
            Self::Time(holds) => holds(left.time()?.cmp(&right.time()?)),
            Self::Boolean => left.boolean()? == right.boolean()?,
            Self::Guid => left.guid()? == right.guid()?,
        })
    }
}

fn starts_with(text: &str, start: &str, ignore_case: bool) -> bool {
    let (text, start) = (text.as_bytes(), start.as_bytes());
    if !ignore_case {
        return text.starts_with(start);
    }
    text.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

macro_rules! datum_as {
    ($name:ident, $variant:ident, $kind:ty, $parse:expr) => {
        fn $name(self) -> Result<$kind, ConditionFault> {
            let parse: fn(&str) -> Option<$kind> = $parse;
            match self {
                Self::Value(Value::$variant(value)) => Ok(*value),
                Self::Text(text) => parse(text).ok_or(ConditionFault::NotComparable),
                Self::Value(_) => Err(ConditionFault::NotComparable),
            }
        }
    };
}

impl<'a> Datum<'a> {
    fn text(self) -> Result<&'a str, ConditionFault> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Value(Value::Text(text)) => Ok(text),
            Self::Value(_) => Err(ConditionFault::NotComparable),
        }
    }

    datum_as!(integer, Integer, i64, |text| text.parse().ok());
    datum_as!(time, Time, Timestamp, |text| text.parse().ok());
    datum_as!(boolean, Boolean, bool, parse_boolean);
    datum_as!(guid, Guid, Uuid, |text| Uuid::try_parse(text).ok());
}

pub(super) fn parse_boolean(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}
