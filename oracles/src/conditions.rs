//! Conditions of role assignments: read into postfix order, judged on a stack of yes, no and unknown.

use crate::Mutation;
use crate::text::{covers, like};

/// What a condition is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// The operation's full name.
    pub action: &'a str,
    /// The repository's name, where there is one.
    pub repository: Option<&'a str>,
}

/// A condition in postfix order.
#[derive(Clone, Debug)]
pub struct Condition(Vec<Step>);

#[derive(Clone, Debug)]
enum Step {
    And,
    Or,
    Not,
    Action(String),
    SubOperation,
    Exists(String),
    Compare(Side, String, Side),
}

/// One side of a comparison.
#[derive(Clone, Debug)]
enum Side {
    Attribute(String),
    Values(Vec<String>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Open,
    Close,
    Not,
    And,
    Or,
    Word(String),
    /// As between the quotes, backslashes and all.
    Quoted(String),
    Attribute(String),
    Brace,
    Unbrace,
    Comma,
}

const NAME: &str = "request[microsoft.containerregistry/registries/repositories:name]";

impl Condition {
    /// Reads the text; `None` where it is no condition. It is not a judge of bad conditions: it takes more than it should.
    pub fn read(text: &str) -> Option<Self> {
        let tokens = tokens(text)?;
        let mut output = Vec::new();
        let mut waiting: Vec<Token> = Vec::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                Token::Open | Token::Not => waiting.push(token.clone()),
                Token::Close => {
                    while let Some(top) = waiting.pop().filter(|top| *top != Token::Open) {
                        output.push(step(&top));
                    }
                    settle_negations(&mut waiting, &mut output);
                }
                Token::And | Token::Or => {
                    while matches!(waiting.last(), Some(Token::And | Token::Or)) {
                        output.push(step(&waiting.pop()?));
                    }
                    waiting.push(token.clone());
                }
                _ => {
                    let (leaf, taken) = leaf(&tokens[at - 1..])?;
                    at += taken - 1;
                    output.extend(leaf);
                    settle_negations(&mut waiting, &mut output);
                }
            }
        }
        while let Some(top) = waiting.pop() {
            output.push(step(&top));
        }
        Some(Self(output))
    }

    /// Whether it holds; `None` when that cannot be known.
    pub fn holds(&self, attributes: &Attributes<'_>, mutation: Option<Mutation>) -> Option<bool> {
        let mut stack: Vec<Option<bool>> = Vec::new();
        for step in &self.0 {
            let value = match step {
                Step::Not => stack.pop()?.map(|value| !value),
                Step::And | Step::Or => {
                    let (right, left) = (stack.pop()?, stack.pop()?);
                    let decisive = matches!(step, Step::Or) || mutation == Some(Mutation::AndIsOr);
                    match (left, right) {
                        (Some(one), _) | (_, Some(one)) if one == decisive => Some(decisive),
                        (Some(_), Some(_)) => Some(!decisive),
                        _ => None,
                    }
                }
                Step::Action(pattern) => Some(covers(pattern, attributes.action)),
                Step::Exists(name) if name == NAME => Some(attributes.repository.is_some()),
                Step::SubOperation | Step::Exists(_) => None,
                Step::Compare(left, operator, right) => compare(left, operator, right, attributes, mutation),
            };
            stack.push(value);
        }
        stack.pop()?
    }
}

fn settle_negations(waiting: &mut Vec<Token>, output: &mut Vec<Step>) {
    while waiting.last() == Some(&Token::Not) {
        waiting.pop();
        output.push(Step::Not);
    }
}

fn step(token: &Token) -> Step {
    match token {
        Token::And => Step::And,
        Token::Or => Step::Or,
        _ => Step::Not,
    }
}

/// A test with no AND, OR or NOT in it, and how many tokens it took.
fn leaf(tokens: &[Token]) -> Option<(Vec<Step>, usize)> {
    if let [Token::Word(word), rest @ ..] = tokens {
        match (word.to_ascii_lowercase().as_str(), rest) {
            ("actionmatches", [Token::Brace, Token::Quoted(pattern), Token::Unbrace, ..]) => {
                return Some((vec![Step::Action(plain(pattern))], 4));
            }
            ("suboperationmatches", [Token::Brace, Token::Quoted(_), Token::Unbrace, ..]) => {
                return Some((vec![Step::SubOperation], 4));
            }
            ("exists", [Token::Attribute(name), ..]) => return Some((vec![Step::Exists(name.clone())], 2)),
            ("notexists", [Token::Attribute(name), ..]) => {
                return Some((vec![Step::Exists(name.clone()), Step::Not], 2));
            }
            _ => {}
        }
    }
    if let [Token::Attribute(name), Token::Word(word), ..] = tokens {
        match word.to_ascii_lowercase().as_str() {
            "exists" => return Some((vec![Step::Exists(name.clone())], 2)),
            "notexists" => return Some((vec![Step::Exists(name.clone()), Step::Not], 2)),
            _ => {}
        }
    }
    let (left, taken) = side(tokens)?;
    let [Token::Word(operator), rest @ ..] = tokens.get(taken..)? else { return None };
    let (right, more) = side(rest)?;
    Some((vec![Step::Compare(left, operator.to_ascii_lowercase(), right)], taken + 1 + more))
}

fn side(tokens: &[Token]) -> Option<(Side, usize)> {
    match tokens {
        [Token::Attribute(name), ..] => Some((Side::Attribute(name.clone()), 1)),
        [Token::Quoted(text) | Token::Word(text), ..] => Some((Side::Values(vec![text.clone()]), 1)),
        [Token::Brace, rest @ ..] => {
            let end = rest.iter().position(|token| *token == Token::Unbrace)?;
            let values = rest[..end].iter().filter_map(|token| match token {
                Token::Quoted(text) | Token::Word(text) => Some(text.clone()),
                _ => None,
            });
            Some((Side::Values(values.collect()), end + 2))
        }
        _ => None,
    }
}

fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = match first {
            '(' => (Token::Open, &rest[1..]),
            ')' => (Token::Close, &rest[1..]),
            '{' => (Token::Brace, &rest[1..]),
            '}' => (Token::Unbrace, &rest[1..]),
            ',' => (Token::Comma, &rest[1..]),
            '!' => (Token::Not, &rest[1..]),
            '&' => (Token::And, rest.strip_prefix("&&")?),
            '|' => (Token::Or, rest.strip_prefix("||")?),
            '@' => {
                let (name, after) = rest[1..].split_once(']')?;
                let (source, name) = name.split_once('[')?;
                let name = format!("{}[{}]", source.trim(), name.trim()).to_lowercase();
                (Token::Attribute(name), after)
            }
            '\'' => {
                let end = closing_quote(&rest[1..])?;
                (Token::Quoted(rest[1..=end].to_owned()), &rest[end + 2..])
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "(){},!&|@'".contains(c)).unwrap_or(rest.len());
                let word = &rest[..end];
                let token = match word.to_ascii_lowercase().as_str() {
                    "and" => Token::And,
                    "or" => Token::Or,
                    "not" => Token::Not,
                    _ => Token::Word(word.to_owned()),
                };
                (token, &rest[end..])
            }
        };
        found.push(token);
        rest = after.trim_start();
    }
    Some(found)
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == '\'' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

/// The text without the backslashes before quotes and backslashes.
fn plain(text: &str) -> String {
    let placeholder = "\u{0}";
    text.replace("\\\\", placeholder).replace("\\'", "'").replace(placeholder, "\\")
}

fn compare(
    left: &Side,
    operator: &str,
    right: &Side,
    attributes: &Attributes<'_>,
    mutation: Option<Mutation>,
) -> Option<bool> {
    let (quantifier, operator) = operator.split_once(':').unwrap_or(("foranyofanyvalues", operator));
    let (of_left, of_right) = match quantifier {
        "foranyofanyvalues" => (false, false),
        "forallofanyvalues" => (true, false),
        "foranyofallvalues" => (false, true),
        "forallofallvalues" => (true, true),
        _ => panic!("`{quantifier}` is no quantifier"),
    };
    let lefts = left.texts(attributes)?;
    let rights = right.texts(attributes)?;
    let mut each = Vec::new();
    for (left, literal) in &lefts {
        let mut inner = Vec::new();
        for (right, right_literal) in &rights {
            inner.push(relates((left, *literal), operator, (right, *right_literal), mutation)?);
        }
        each.push(if of_right { inner.into_iter().all(|holds| holds) } else { inner.into_iter().any(|holds| holds) });
    }
    Some(if of_left { each.into_iter().all(|holds| holds) } else { each.into_iter().any(|holds| holds) })
}

impl Side {
    /// The texts, and whether each is a literal.
    fn texts(&self, attributes: &Attributes<'_>) -> Option<Vec<(String, bool)>> {
        match self {
            Self::Attribute(name) if name == NAME => Some(vec![(attributes.repository?.to_owned(), false)]),
            Self::Attribute(_) => None,
            Self::Values(values) => Some(values.iter().map(|value| (value.clone(), true)).collect()),
        }
    }
}

fn relates(left: (&str, bool), operator: &str, right: (&str, bool), mutation: Option<Mutation>) -> Option<bool> {
    let (positive, negated) = match operator.replacen("not", "", 1) {
        changed if changed != operator => (changed, true),
        same => (same, false),
    };
    let holds = if let Some(name) = positive.strip_prefix("string") {
        text_relates(left, name, right, mutation)
    } else if let Some(name) = positive.strip_prefix("numeric") {
        ordered(left.0.parse::<i64>().ok()?.cmp(&right.0.parse::<i64>().ok()?), name)
    } else if let Some(name) = positive.strip_prefix("datetime") {
        ordered(moment(left.0)?.cmp(&moment(right.0)?), name)
    } else if positive == "boolequals" {
        let truth = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        };
        truth(left.0)? == truth(right.0)?
    } else if positive == "guidequals" {
        let hexadecimal = |text: &str| {
            let digits: String = text.to_ascii_lowercase().chars().filter(|c| *c != '-').collect();
            (digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit())).then_some(digits)
        };
        hexadecimal(left.0)? == hexadecimal(right.0)?
    } else {
        panic!("`{operator}` is no operator")
    };
    Some(holds != negated)
}

fn text_relates(left: (&str, bool), name: &str, right: (&str, bool), mutation: Option<Mutation>) -> bool {
    let read = |(text, literal): (&str, bool)| if literal { plain(text) } else { text.to_owned() };
    let (name, ignore_case) = name.strip_suffix("ignorecase").map_or((name, false), |name| (name, true));
    let fold = |text: String| if ignore_case { text.to_ascii_lowercase() } else { text };
    let left = fold(read(left));
    match name {
        "startswith" if mutation == Some(Mutation::StartsWithIsEquals) => left == fold(read(right)),
        "equals" => left == fold(read(right)),
        "startswith" => left.starts_with(&fold(read(right))),
        "like" => {
            let pattern: Vec<char> = fold(right.0.to_owned()).chars().collect();
            like(&left.chars().collect::<Vec<_>>(), &pattern)
        }
        other => panic!("`{other}` is no operator on text"),
    }
}

fn ordered(order: std::cmp::Ordering, name: &str) -> bool {
    match name {
        "equals" => order.is_eq(),
        "lessthan" => order.is_lt(),
        "lessthanequals" => order.is_le(),
        "greaterthan" => order.is_gt(),
        "greaterthanequals" => order.is_ge(),
        other => panic!("`{other}` is no order"),
    }
}

/// Days before each month.
const BEFORE: [i128; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// A moment as nanoseconds since the year 0 at Greenwich, leap seconds left out.
fn moment(text: &str) -> Option<i128> {
    let (date, time) = text.split_once(['T', 't'])?;
    let numbers =
        |text: &str, by: char| text.split(by).map(|part| part.parse::<i128>().ok()).collect::<Option<Vec<_>>>();
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let zone = time.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = time.split_at(zone);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':')?.try_into().ok()?;
    let fraction: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let ahead = match zone.split_at(1) {
        ("Z" | "z", _) => 0,
        (sign, away) => {
            let [hours, minutes] = numbers(away, ':')?.try_into().ok()?;
            (hours * 60 + minutes) * if sign == "-" { -60 } else { 60 }
        }
    };
    let leaps = |years: i128| years / 4 - years / 100 + years / 400;
    let is_leap = leaps(year) != leaps(year - 1);
    let leap_day = i128::from(is_leap && month > 2);
    let days = year * 365 + leaps(year - 1) + BEFORE[usize::try_from(month - 1).ok()?] + leap_day + day;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second - ahead) * 1_000_000_000 + fraction)
}
