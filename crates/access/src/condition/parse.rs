use std::fmt;

use uuid::Uuid;
use winnow::Parser;
use winnow::combinator::{alt, delimited, opt, peek, preceded, repeat};
use winnow::error::ParserError;
use winnow::stream::{LocatingSlice, Location, Stream};
use winnow::token::{any, literal, none_of, take_while};

use super::comparison::{Attribute, Comparison, Operand, Operator, Quantifier, Test, Value, parse_boolean};
use super::wildcard::LikePattern;
use super::{Expression, MAX_CONDITION_BYTES, MAX_CONDITION_DEPTH, MAX_CONDITION_VALUES};

/// Why a text is not a condition, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("condition cannot be read at byte {position}: {problem}")]
pub struct ConditionError {
    /// Bytes from the start of the text.
    pub position: usize,
    /// What is wrong there.
    pub problem: ConditionProblem,
}

/// What is wrong with a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConditionProblem {
    /// More than [`MAX_CONDITION_BYTES`].
    #[error("longer than {MAX_CONDITION_BYTES} bytes")]
    TooLong,
    /// More than [`MAX_CONDITION_DEPTH`] levels of parentheses and negations.
    #[error("nested more than {MAX_CONDITION_DEPTH} levels deep")]
    TooDeep,
    /// More than [`MAX_CONDITION_VALUES`] values in one set.
    #[error("more than {MAX_CONDITION_VALUES} values in one set")]
    TooManyValues,
    /// `a AND b OR c`.
    #[error("`AND` and `OR` are mixed: group the operands with parentheses")]
    Mixed,
    /// Something else is written where this belongs.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: Found,
    },
    /// A comparison that does not exist.
    #[error("`{0}` is not an operator")]
    UnknownOperator(Box<str>),
    /// Not `@Request`, `@Resource`, `@Principal` or `@Environment`.
    #[error("`@{0}` is not an attribute source: use `@Request`, `@Resource`, `@Principal` or `@Environment`")]
    UnknownSource(Box<str>),
    /// A quote without its partner.
    #[error("the quoted text has no closing `'`")]
    Unclosed,
    /// A set beside an operator for single values.
    #[error("a set of values needs `ForAnyOfAnyValues:` or one of its siblings before the operator")]
    SetWithoutQuantifier,
    /// A literal that the operator cannot compare.
    #[error("the operator needs {0}")]
    WrongValue(&'static str),
}

/// The text found where something else was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The text ends.
    End,
    /// The next characters.
    Text(Box<str>),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the end"),
            Self::Text(text) => write!(f, "`{text}`"),
        }
    }
}

type Input<'a> = LocatingSlice<&'a str>;
type Parsed<T> = Result<T, ConditionError>;

impl ParserError<Input<'_>> for ConditionError {
    type Inner = Self;

    fn from_input(input: &Input<'_>) -> Self {
        expected(input, "something else")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// Reads a whole text.
pub(super) fn condition(text: &str) -> Parsed<Expression> {
    if text.len() > MAX_CONDITION_BYTES {
        return Err(ConditionError { position: MAX_CONDITION_BYTES, problem: ConditionProblem::TooLong });
    }
    let mut input = Input::new(text);
    let whole = expression(&mut input, 0)?;
    skip_spaces(&mut input)?;
    if input.is_empty() { Ok(whole) } else { Err(expected(&input, "`AND`, `OR` or the end")) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Joiner {
    And,
    Or,
}

/// `term (AND term)*` or `term (OR term)*`.
fn expression(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    let first = term(input, depth)?;
    let Some(joined_by) = joiner(input)? else { return Ok(first) };
    let mut operands = vec![first];
    loop {
        operands.push(term(input, depth)?);
        skip_spaces(input)?;
        let position = input.current_token_start();
        match joiner(input)? {
            Some(next) if next == joined_by => {}
            Some(_) => return Err(ConditionError { position, problem: ConditionProblem::Mixed }),
            None => break,
        }
    }
    Ok(match joined_by {
        Joiner::And => Expression::All(operands.into()),
        Joiner::Or => Expression::Any(operands.into()),
    })
}

fn joiner(input: &mut Input<'_>) -> Parsed<Option<Joiner>> {
    Ok(if symbol(input, "&&")? || keyword(input, "AND")? {
        Some(Joiner::And)
    } else if symbol(input, "||")? || keyword(input, "OR")? {
        Some(Joiner::Or)
    } else {
        None
    })
}

/// `!term`, `(expression)`, a test of the action, of an attribute's presence, or a comparison.
fn term(input: &mut Input<'_>, depth: usize) -> Parsed<Expression> {
    skip_spaces(input)?;
    if depth > MAX_CONDITION_DEPTH {
        return Err(problem(input, ConditionProblem::TooDeep));
    }
    if symbol(input, "!")? || keyword(input, "NOT")? {
        return Ok(Expression::Not(Box::new(term(input, depth + 1)?)));
    }
    if symbol(input, "(")? {
        let inner = expression(input, depth + 1)?;
        expect(input, ")", "`)`, `AND` or `OR`")?;
        return Ok(inner);
    }
    if keyword(input, "ActionMatches")? {
        return Ok(Expression::ActionMatches(braced_text(input)?));
    }
    if keyword(input, "SubOperationMatches")? {
        braced_text(input)?;
        return Ok(Expression::SubOperationMatches);
    }
    if keyword(input, "Exists")? {
        return Ok(Expression::Exists(attribute(input)?));
    }
    if keyword(input, "NotExists")? {
        return Ok(Expression::Not(Box::new(Expression::Exists(attribute(input)?))));
    }
    comparison(input)
}

/// `{'pattern'}`.
fn braced_text(input: &mut Input<'_>) -> Parsed<Box<str>> {
    expect(input, "{", "`{`")?;
    let Literal { text, quoted: true, .. } = value(input, "a quoted pattern")? else {
        return Err(problem(input, ConditionProblem::WrongValue("a quoted pattern")));
    };
    expect(input, "}", "`}`")?;
    Ok(unescaped(text))
}

/// `operand operator operand`, or `@attribute Exists`.
fn comparison(input: &mut Input<'_>) -> Parsed<Expression> {
    let left = operand(input, "`(`, `!`, `ActionMatches`, an attribute or a value")?;
    if let RawOperand::Attribute(attribute) = &left {
        if keyword(input, "Exists")? {
            return Ok(Expression::Exists(attribute.clone()));
        }
        if keyword(input, "NotExists")? {
            return Ok(Expression::Not(Box::new(Expression::Exists(attribute.clone()))));
        }
    }
    skip_spaces(input)?;
    let position = input.current_token_start();
    let (quantifier, operator) = operator(input)?;
    let right = operand(input, "a value")?;
    let has_set = matches!(left, RawOperand::Set(_)) || matches!(right, RawOperand::Set(_));
    if has_set && quantifier.is_none() {
        return Err(ConditionError { position, problem: ConditionProblem::SetWithoutQuantifier });
    }
    if matches!((operator.test, &right), (Test::Like { .. }, RawOperand::Attribute(_))) {
        return Err(ConditionError {
            position,
            problem: ConditionProblem::WrongValue("a quoted pattern on its right"),
        });
    }
    Ok(Expression::Compare(Comparison {
        left: left.typed(operator.test, Side::Left)?,
        quantifier: quantifier.unwrap_or(Quantifier::SINGLE),
        operator,
        right: right.typed(operator.test, Side::Right)?,
    }))
}

/// `StringEquals` or `ForAnyOfAnyValues:StringEquals`.
fn operator(input: &mut Input<'_>) -> Parsed<(Option<Quantifier>, Operator)> {
    let position = input.current_token_start();
    let written = take_while(0.., |c: char| c.is_ascii_alphanumeric() || c == ':').parse_next(input)?;
    if written.is_empty() {
        return Err(expected(input, "an operator"));
    }
    let unknown = || ConditionError { position, problem: ConditionProblem::UnknownOperator(shortened(written)) };
    let (quantifier, name) = match written.split_once(':') {
        Some((quantifier, name)) => (Some(Quantifier::named(quantifier).ok_or_else(unknown)?), name),
        None => (None, written),
    };
    Ok((quantifier, Operator::named(name).ok_or_else(unknown)?))
}

/// One side of a comparison, before its operator says how to read it.
enum RawOperand<'a> {
    Attribute(Attribute),
    One(Literal<'a>),
    Set(Vec<Literal<'a>>),
}

#[derive(Clone, Copy)]
struct Literal<'a> {
    position: usize,
    text: &'a str,
    quoted: bool,
}

fn operand<'a>(input: &mut Input<'a>, what: &'static str) -> Parsed<RawOperand<'a>> {
    skip_spaces(input)?;
    if input.starts_with('@') {
        return attribute(input).map(RawOperand::Attribute);
    }
    if !symbol(input, "{")? {
        return value(input, what).map(RawOperand::One);
    }
    let mut values = vec![value(input, "a value")?];
    while symbol(input, ",")? {
        if values.len() >= MAX_CONDITION_VALUES {
            return Err(problem(input, ConditionProblem::TooManyValues));
        }
        values.push(value(input, "a value")?);
    }
    expect(input, "}", "`,` or `}`")?;
    Ok(RawOperand::Set(values))
}

/// `@Request[name]`.
fn attribute(input: &mut Input<'_>) -> Parsed<Attribute> {
    const SOURCES: [&str; 4] = ["Request", "Resource", "Principal", "Environment"];
    expect(input, "@", "an attribute: `@Request[…]`")?;
    let position = input.current_token_start();
    let source = word(input)?;
    if !SOURCES.iter().any(|known| known.eq_ignore_ascii_case(source)) {
        return Err(ConditionError { position, problem: ConditionProblem::UnknownSource(shortened(source)) });
    }
    expect(input, "[", "`[`")?;
    let name = take_while(0.., |c: char| !matches!(c, '[' | ']' | '\'') && !c.is_control()).parse_next(input)?;
    if name.trim().is_empty() {
        return Err(expected(input, "an attribute's name"));
    }
    expect(input, "]", "`]`")?;
    Ok(Attribute::new(source, name))
}

/// `'text'`, or a number, truth value, time or GUID without quotes.
fn value<'a>(input: &mut Input<'a>, what: &'static str) -> Parsed<Literal<'a>> {
    skip_spaces(input)?;
    let position = input.current_token_start();
    if input.starts_with('\'') {
        let character = alt((none_of(['\'', '\\']).void(), ('\\', any).void()));
        let body = repeat::<_, _, (), ConditionError, _>(0.., character).take();
        let quoted = delimited('\'', body, '\'').parse_next(input);
        let text =
            quoted.map_err(|_: ConditionError| ConditionError { position, problem: ConditionProblem::Unclosed })?;
        return Ok(Literal { position, text, quoted: true });
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.' | ':' | '_');
    let text: &str = take_while(0.., bare).parse_next(input)?;
    if text.is_empty() { Err(expected(input, what)) } else { Ok(Literal { position, text, quoted: false }) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl RawOperand<'_> {
    fn typed(self, test: Test, side: Side) -> Parsed<Operand> {
        Ok(match self {
            Self::Attribute(attribute) => Operand::Attribute(attribute),
            Self::One(literal) => Operand::Values([literal.typed(test, side)?].into()),
            Self::Set(literals) => Operand::Values(
                literals.into_iter().map(|literal| literal.typed(test, side)).collect::<Result<_, _>>()?,
            ),
        })
    }
}

impl Literal<'_> {
    fn typed(self, test: Test, side: Side) -> Parsed<Value> {
        let Self { position, text, quoted } = self;
        let (read, kind) = match test {
            Test::Like { .. } if side == Side::Right => {
                (quoted.then(|| Value::Pattern(LikePattern::new(text))), "a quoted pattern")
            }
            Test::Equals { .. } | Test::StartsWith { .. } | Test::Like { .. } => {
                (quoted.then(|| Value::Text(unescaped(text))), "quoted text")
            }
            Test::Integer(_) => (text.parse().ok().map(Value::Integer), "a whole number"),
            Test::Time(_) => (text.parse().ok().map(Value::Time), "a date and time as in RFC 3339"),
            Test::Boolean => (parse_boolean(text).map(Value::Boolean), "`true` or `false`"),
            Test::Guid => (Uuid::try_parse(text).ok().map(Value::Guid), "a GUID"),
        };
        read.ok_or(ConditionError { position, problem: ConditionProblem::WrongValue(kind) })
    }
}

/// The text between quotes with `\'` and `\\` resolved; other backslashes stand for themselves.
fn unescaped(text: &str) -> Box<str> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let escaped = if character == '\\' { characters.next_if(|next| matches!(next, '\'' | '\\')) } else { None };
        plain.push(escaped.unwrap_or(character));
    }
    plain.into()
}

fn skip_spaces(input: &mut Input<'_>) -> Parsed<()> {
    take_while(0.., char::is_whitespace).void().parse_next(input)
}

fn word<'a>(input: &mut Input<'a>) -> Parsed<&'a str> {
    preceded(skip_spaces, take_while(0.., |c: char| c.is_ascii_alphanumeric() || c == '_')).parse_next(input)
}

/// Takes the symbol if it comes next.
fn symbol(input: &mut Input<'_>, text: &'static str) -> Parsed<bool> {
    opt(preceded(skip_spaces, literal(text))).map(|found| found.is_some()).parse_next(input)
}

/// Takes the word if it comes next, in any letter case and whole.
fn keyword(input: &mut Input<'_>, text: &'static str) -> Parsed<bool> {
    let found = peek(word).parse_next(input)?.eq_ignore_ascii_case(text);
    if found {
        word(input)?;
    }
    Ok(found)
}

fn expect(input: &mut Input<'_>, text: &'static str, what: &'static str) -> Parsed<()> {
    if symbol(input, text)? {
        return Ok(());
    }
    skip_spaces(input)?;
    Err(expected(input, what))
}

fn problem(input: &Input<'_>, problem: ConditionProblem) -> ConditionError {
    ConditionError { position: input.current_token_start(), problem }
}

fn expected(input: &Input<'_>, expected: &'static str) -> ConditionError {
    let rest = input.peek_finish();
    let word = rest.split(|c: char| c.is_whitespace() || c.is_control()).find(|word| !word.is_empty());
    let found = word.map_or(Found::End, |word| Found::Text(shortened(word)));
    problem(input, ConditionProblem::Expected { expected, found })
}

/// As much of the text as a message should repeat.
fn shortened(text: &str) -> Box<str> {
    const LONGEST: usize = 32;
    text.chars().take(LONGEST).collect::<String>().into()
}
