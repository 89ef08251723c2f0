use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

mod comparison;
mod parse;
pub(crate) mod wildcard;

use comparison::{Attribute, Comparison};
pub use parse::{ConditionError, ConditionProblem, Found};
use wildcard::action_matches;

/// Longest text of a condition.
///
/// Source: Azure role assignment conditions, "Limits": 8 KB (read 2026-11).
pub const MAX_CONDITION_BYTES: usize = 8 * 1024;

/// Most levels of parentheses and negations in a condition.
pub const MAX_CONDITION_DEPTH: usize = 32;

/// Most values in one set of a condition.
pub const MAX_CONDITION_VALUES: usize = 256;

/// The condition of a role assignment, as `az` writes it: `!(ActionMatches{'…'}) OR (@Request[…:name] StringEquals 'a')`.
///
/// Prints as it was written. `AND` and `OR` side by side need parentheses; a chain of the same one does not.
///
/// Source: Azure role assignment condition format and syntax, version 2.0 (read 2026-11).
#[derive(Clone)]
pub struct Condition {
    text: Arc<str>,
    expression: Expression,
}

/// What a condition is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConditionRequest<'a> {
    /// The action or data action in full: `Microsoft.ContainerRegistry/registries/repositories/content/read`.
    pub action: &'a str,
    /// The repository's name, where the request has one.
    pub repository: Option<&'a str>,
}

/// Why a condition has no answer. The caller denies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionFault {
    /// The request does not carry this attribute.
    #[error("the request has no attribute `{0}`")]
    UnknownAttribute(Arc<str>),
    /// No operation of a registry has sub-operations, so whether one matches is unknown.
    #[error("`SubOperationMatches` has no meaning for a registry")]
    SubOperation,
    /// An attribute's text is not of the kind that the operator compares.
    #[error("an attribute's value is not of the kind that the operator compares")]
    NotComparable,
}

#[derive(Clone, Debug)]
enum Expression {
    All(Box<[Expression]>),
    Any(Box<[Expression]>),
    Not(Box<Expression>),
    ActionMatches(Box<str>),
    SubOperationMatches,
    Exists(Attribute),
    Compare(Comparison),
}

impl Condition {
    /// The text it was read from.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the condition holds for the request. A fault counts only where the other operands leave the answer open,
    /// so the order of operands never matters.
    pub fn evaluate(&self, request: &ConditionRequest<'_>) -> Result<bool, ConditionFault> {
        self.expression.evaluate(request)
    }
}

impl Expression {
    fn evaluate(&self, request: &ConditionRequest<'_>) -> Result<bool, ConditionFault> {
        match self {
            Self::All(operands) => joined(operands, false, request),
            Self::Any(operands) => joined(operands, true, request),
            Self::Not(inner) => inner.evaluate(request).map(|holds| !holds),
            Self::ActionMatches(pattern) => Ok(action_matches(pattern, request.action)),
            Self::SubOperationMatches => Err(ConditionFault::SubOperation),
            Self::Exists(attribute) => attribute.exists(request),
            Self::Compare(comparison) => comparison.evaluate(request),
        }
    }
}

/// One operand that is `decisive` settles the whole: true for OR, false for AND.
fn joined(operands: &[Expression], decisive: bool, request: &ConditionRequest<'_>) -> Result<bool, ConditionFault> {
    let mut fault = None;
    for operand in operands {
        match operand.evaluate(request) {
            Ok(value) if value == decisive => return Ok(decisive),
            Ok(_) => {}
            Err(found) => fault = fault.or(Some(found)),
        }
    }
    fault.map_or(Ok(!decisive), Err)
}

impl FromStr for Condition {
    type Err = ConditionError;

    fn from_str(text: &str) -> Result<Self, ConditionError> {
        let expression = parse::condition(text)?;
        Ok(Self { text: text.into(), expression })
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Condition {}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
