//! Three readings of the condition language: the real one, the oracle's own, and Microsoft's `regorus`.
//!
//! `regorus` knows a part of the language and spells some of it in another way. What both know is generated in both spellings and has
//! to come out the same; where they differ is a table, and the day on which they no longer differ fails the test.
#![expect(clippy::panic, reason = "a failed expectation is a failed test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use postern_access::{Condition, ConditionRequest};
use postern_oracles::generate::Tape;
use postern_oracles::{Attributes, Condition as OwnCondition};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestRunner};
use regorus::Value;
use regorus::languages::azure_rbac::ast::{
    EnvironmentContext, EvaluationContext, Principal, PrincipalType, RequestContext, Resource,
};
use regorus::languages::azure_rbac::interpreter::ConditionInterpreter;

const CASES: u32 = 40_000;
const SEED: u64 = 20_250_516;
const NAME: &str = "@Request[Microsoft.ContainerRegistry/registries/repositories:name]";
const READ: &str = "Microsoft.ContainerRegistry/registries/repositories/content/read";
const ACTIONS: [&str; 4] = [
    READ,
    "Microsoft.ContainerRegistry/registries/repositories/metadata/write",
    "Microsoft.ContainerRegistry/registries/catalog/read",
    "Microsoft.ContainerRegistry/registries/pull/read",
];

#[track_caller]
fn holds(regressions: &'static str, property: impl Fn(&mut Tape<'_>) -> Option<String>) {
    let persistence = Box::new(FileFailurePersistence::Direct(regressions));
    let mut config = Config { cases: CASES, failure_persistence: Some(persistence), ..Config::default() };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    let seed = config.rng_seed;
    let tapes = prop::collection::vec(any::<u8>(), 120);
    let outcome = TestRunner::new(config).run(&tapes, |choices| match property(&mut Tape::new(&choices)) {
        None => Ok(()),
        Some(difference) => Err(TestCaseError::fail(difference)),
    });
    if let Err(failure) = outcome {
        panic!("{failure}\nseed: {seed:?}");
    }
}

fn real(text: &str, action: &str, repository: Option<&str>) -> Option<bool> {
    let condition: Condition = text.parse().unwrap_or_else(|error| panic!("{error} in {text}"));
    assert_eq!(condition.to_string(), text);
    condition.evaluate(&ConditionRequest { action, repository }).ok()
}

fn regorus(text: &str, action: &str, repository: Option<&str>) -> Option<bool> {
    let name = "Microsoft.ContainerRegistry/registries/repositories:name";
    let attributes: BTreeMap<Value, Value> = repository
        .into_iter()
        .map(|repository| (Value::String(name.into()), Value::String(repository.into())))
        .collect();
    let context = EvaluationContext {
        principal: Principal {
            id: "somebody".to_owned(),
            principal_type: PrincipalType::User,
            custom_security_attributes: Value::new_object(),
        },
        resource: Resource {
            id: "/".to_owned(),
            resource_type: "Microsoft.ContainerRegistry/registries".to_owned(),
            scope: "/".to_owned(),
            attributes: Value::new_object(),
        },
        request: RequestContext {
            action: Some(action.to_owned()),
            data_action: Some(action.to_owned()),
            attributes: Value::from(attributes),
        },
        environment: EnvironmentContext { is_private_link: None, private_endpoint: None, subnet: None, utc_now: None },
        action: Some(action.to_owned()),
        suboperation: None,
    };
    // It takes no lines of more than 1024 characters.
    let lines = text.replace(" AND ", "\nAND ").replace(" OR ", "\nOR ");
    ConditionInterpreter::new(&context).evaluate_str(&lines).ok()
}

#[test]
fn the_oracle_agrees() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/conditions.txt");
    holds(regressions, |tape| {
        let text = tape.condition(4);
        let action = tape.one(&ACTIONS);
        let repository = (!tape.rarely(5)).then(|| tape.repository());
        let repository = repository.as_deref();
        let found = real(&text, action, repository);
        let own = OwnCondition::read(&text).expect("a condition").holds(&Attributes { action, repository }, None);
        (found != own).then(|| format!("{found:?}, the oracle says {own:?}: {text}\n{action} on {repository:?}"))
    });
}

/// A condition in both spellings.
#[derive(Debug)]
struct Both {
    azure: String,
    regorus: String,
}

fn both(azure: String, regorus: String) -> Both {
    Both { azure, regorus }
}

/// A condition of what both know, about this repository.
fn shared(tape: &mut Tape<'_>, depth: usize, repository: &str) -> Both {
    match if depth == 0 { tape.below(4) } else { tape.below(8) } {
        0 => {
            // `regorus` matches segment by segment: a `*` in the middle of as many segments means the same to both.
            let name = tape.one(&ACTIONS);
            let pattern = match tape.below(3) {
                0 => name.replace("/registries/", "/*/"),
                _ => name.to_owned(),
            };
            both(format!("ActionMatches{{'{pattern}'}}"), format!("ActionMatches('{pattern}')"))
        }
        1..4 => comparison(tape, repository),
        4 | 5 => {
            let inner = shared(tape, depth - 1, repository);
            let not = tape.one(&["!", "NOT ", "not "]);
            both(format!("{not}({})", inner.azure), format!("NOT ({})", inner.regorus))
        }
        joined => {
            let is_and = joined == 6;
            let by = if is_and { tape.one(&[" AND ", " && ", " and "]) } else { tape.one(&[" OR ", " || ", " or "]) };
            let operands: Vec<Both> = (0..2 + tape.below(2)).map(|_| shared(tape, depth - 1, repository)).collect();
            let join = |by: &str, text: fn(&Both) -> &String| {
                operands.iter().map(|one| format!("({})", text(one))).collect::<Vec<_>>().join(by)
            };
            both(join(by, |one| &one.azure), join(if is_and { " AND " } else { " OR " }, |one| &one.regorus))
        }
    }
}

fn comparison(tape: &mut Tape<'_>, repository: &str) -> Both {
    let numeric = repository.parse::<i64>().is_ok();
    let not = tape.one(&["", "Not"]);
    let orders = ["Equals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"];
    let texts = ["'team'", "'team/app'", "'TEAM/'", "''", "'Team/App'", "'te'", "'42'"];
    match tape.below(6) {
        0..3 => {
            let test = tape.one(&["Equals", "StartsWith", "Like"]);
            let ignore_case = tape.rarely(2);
            let likes = ["'team/*'", "'*'", "'*App'", "'t*m/*p'", "'team'", "'T*'"];
            let values = if test == "Like" { &likes[..] } else { &texts[..] };
            quantified(tape, &format!("String{not}{test}"), ignore_case, NAME, values)
        }
        3 => {
            let test = tape.one(&orders);
            let operator = if test == "Equals" { format!("Numeric{not}{test}") } else { format!("Numeric{test}") };
            let left = if numeric { NAME } else { tape.one(&["42", "-7"]) };
            quantified(tape, &operator, false, left, &["42", "0", "-7", "'42'", "100"])
        }
        4 => {
            let test = tape.one(&orders);
            let operator = if test == "Equals" { format!("DateTime{not}{test}") } else { format!("DateTime{test}") };
            let moments = [
                "'2024-02-29T12:00:00Z'",
                "'2024-02-29T14:00:00+02:00'",
                "'2025-01-01T00:00:00.5Z'",
                "'1999-12-31T23:59:59Z'",
            ];
            let left = tape.one(&moments);
            quantified(tape, &operator, false, left, &moments)
        }
        _ if tape.rarely(2) => {
            let left = tape.one(&["true", "false"]);
            quantified(tape, &format!("Bool{not}Equals"), false, left, &["true", "false"])
        }
        _ => {
            let ids = [
                "'a1d0c6e8-3f02-4327-9846-1063f4ac58a6'",
                "'A1D0C6E8-3F02-4327-9846-1063F4AC58A6'",
                "'00000000-0000-0000-0000-000000000000'",
            ];
            let left = tape.one(&ids);
            quantified(tape, &format!("Guid{not}Equals"), false, left, &ids)
        }
    }
}

/// `left Quantifier:operator {a, b}`, which is spelled out as the comparisons that it stands for.
fn quantified(tape: &mut Tape<'_>, operator: &str, ignore_case: bool, left: &str, values: &[&str]) -> Both {
    let names = ["", "ForAnyOfAnyValues:", "ForAllOfAnyValues:", "ForAnyOfAllValues:", "ForAllOfAllValues:"];
    let quantifier = tape.one(&names);
    let case = if ignore_case { "IgnoreCase" } else { "" };
    let one = |left: &str, right: &str| {
        // Of those that ignore case, `regorus` knows equality only.
        if ignore_case && !operator.ends_with("Equals") {
            format!("(ToLower({left}) {operator} ToLower({right}))")
        } else {
            format!("({left} {operator}{case} {right})")
        }
    };
    if quantifier.is_empty() {
        let right = tape.one(values);
        return both(format!("{left} {operator}{case} {right}"), one(left, right));
    }
    let lefts: Vec<&str> = if left.starts_with('@') { vec![left] } else { vec![left, tape.one(values)] };
    let lefts: Vec<&str> = lefts.into_iter().take(1 + tape.below(2)).collect();
    let rights: Vec<&str> = (0..=tape.below(3)).map(|_| tape.one(values)).collect();
    let (all_left, all_right) = (quantifier.starts_with("ForAllOf"), quantifier.ends_with("OfAllValues:"));
    let spelled = |all: bool, parts: Vec<String>| format!("({})", parts.join(if all { " AND " } else { " OR " }));
    let each = |left: &&str| spelled(all_right, rights.iter().map(|right| one(left, right)).collect());
    let written = if left.starts_with('@') { left.to_owned() } else { format!("{{{}}}", lefts.join(", ")) };
    both(
        format!("{written} {quantifier}{operator}{case} {{{}}}", rights.join(", ")),
        spelled(all_left, lefts.iter().map(each).collect()),
    )
}

#[test]
fn regorus_agrees_on_what_it_knows() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/regorus.txt");
    holds(regressions, |tape| {
        let repository = tape.one(&["team/app", "42", "team", "TEAM/App", "other", "-7"]);
        let action = tape.one(&ACTIONS);
        let condition = shared(tape, 3, repository);
        let found = real(&condition.azure, action, Some(repository));
        let other = regorus(&condition.regorus, action, Some(repository));
        (found.is_none() || found != other)
            .then(|| format!("{found:?}, regorus says {other:?}\n{action} on {repository}\n{condition:#?}"))
    });
}

/// Where `regorus` 0.14 differs from the documented language: what is asked (in its spelling, if that is another), the real answer,
/// its answer, and why ours stands. `None` is no answer: a condition that is refused or cannot be judged, which denies.
type Difference = (&'static str, Option<&'static str>, Option<bool>, Option<bool>, &'static str);

const DIFFERENCES: &[Difference] = &[
    (
        "ActionMatches{'Microsoft.ContainerRegistry/*'}",
        Some("ActionMatches('Microsoft.ContainerRegistry/*')"),
        Some(true),
        Some(false),
        "a `*` in an action is any run of characters, slashes too; regorus takes it for one segment",
    ),
    (
        "ActionMatches{'microsoft.containerregistry/registries/repositories/content/read'}",
        Some("ActionMatches('microsoft.containerregistry/registries/repositories/content/read')"),
        Some(true),
        Some(false),
        "operation names compare without case",
    ),
    (
        "ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'}",
        None,
        Some(true),
        None,
        "documented and written by `az` with braces; regorus has it as a function",
    ),
    (
        "!(true BoolEquals false)",
        None,
        Some(true),
        None,
        "`!` is documented and written by `az`; regorus reads `NOT` only",
    ),
    ("true BoolEquals true and true BoolEquals true", None, Some(true), None, "keywords are read in any case"),
    ("true boolequals true", None, Some(true), None, "operators are read in any case"),
    (
        "@request[microsoft.containerregistry/registries/repositories:NAME] StringEquals 'team/app'",
        None,
        Some(true),
        None,
        "attribute sources and names are read in any case",
    ),
    (
        "@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringStartsWithIgnoreCase 'TEAM/'",
        None,
        Some(true),
        None,
        "documented for registries; regorus lacks it",
    ),
    (
        "@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringLikeIgnoreCase 'TEAM/*'",
        None,
        Some(true),
        None,
        "documented; regorus lacks it",
    ),
    (
        "@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringLike 'team/?pp'",
        None,
        Some(true),
        Some(false),
        "`?` is documented as any one character; regorus takes it as itself",
    ),
    (
        r"@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringLike 'te\*'",
        None,
        Some(false),
        None,
        r"`\*` is documented as a star; regorus refuses the escape",
    ),
    (
        r"'it\'s' StringLike 'it?s'",
        None,
        Some(true),
        Some(false),
        "an escaped quote is the quote; regorus keeps the backslash",
    ),
    (
        "@Request[Microsoft.ContainerRegistry/registries/repositories:name] ForAnyOfAnyValues:StringEquals {'team/app', 'x'}",
        None,
        Some(true),
        None,
        "quantifiers are documented before an operator; regorus has them alone, for equality",
    ),
    (
        "NOT (@Request[other] StringEquals 'a')",
        None,
        None,
        Some(true),
        "an attribute that the request lacks leaves the answer open, which denies; regorus reads it as unequal and lets in",
    ),
    ("@Request[other] StringNotEquals 'a'", None, None, Some(true), "the same: what is not known is not unequal"),
    (
        "NotExists @Environment[isPrivateLink]",
        None,
        None,
        Some(true),
        "nothing here says whether the attribute is there, so it does not let in",
    ),
    (
        "@Request[Microsoft.ContainerRegistry/registries/repositories:name] NotExists",
        None,
        Some(false),
        None,
        "also written behind the attribute; regorus reads it before only",
    ),
    (
        "@Request[other] NumericEquals 3 OR true BoolEquals true",
        None,
        Some(true),
        None,
        "an operand without an answer matters only where the others leave the answer open; regorus goes by their order",
    ),
    (
        "9007199254740993 NumericEquals 9007199254740992",
        None,
        Some(false),
        Some(true),
        "whole numbers are compared exactly; regorus reads them as floating point",
    ),
    (
        "'true' BoolEquals true",
        None,
        Some(true),
        None,
        "truth values may be quoted; regorus takes a quoted one for text",
    ),
    (
        "'not a guid' GuidEquals 'NOT A GUID'",
        None,
        None,
        Some(true),
        "refused when it is written; regorus compares any text",
    ),
    (
        "true BoolEquals true OR true BoolEquals true AND true BoolEquals false",
        None,
        None,
        Some(true),
        "three or more operands of different operators need parentheses; regorus has a precedence",
    ),
    (
        "@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEquals {'team/app', 'x'}",
        None,
        None,
        Some(true),
        "a set needs a quantifier; regorus reads it as containing",
    ),
    (
        "@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringContains 'app'",
        None,
        None,
        Some(true),
        "no documented operator",
    ),
    (
        "@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringMatches '.*'",
        None,
        None,
        Some(true),
        "no documented operator",
    ),
];

#[test]
fn where_regorus_differs_is_known() {
    let mut wrong = String::new();
    for (azure, spelled, expected, expected_there, why) in DIFFERENCES {
        assert_ne!(expected, expected_there, "{azure}: this is no difference");
        let request = ConditionRequest { action: READ, repository: Some("team/app") };
        let found = azure.parse::<Condition>().ok().and_then(|condition| condition.evaluate(&request).ok());
        let there = regorus(spelled.unwrap_or(azure), READ, Some("team/app"));
        if (found, there) != (*expected, *expected_there) {
            writeln!(
                wrong,
                "{azure}: {found:?}, regorus {there:?}; listed {expected:?} and {expected_there:?} ({why})"
            )
            .unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}
