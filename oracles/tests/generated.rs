//! Addresses, scopes, names, patterns and conditions beyond any table: generated, the same in every run.
//!
//! `PROPTEST_RNG_SEED` gives others. What has failed once is in `regressions/` and is tried first.
#![expect(clippy::panic, reason = "a failed expectation is a failed test")]

use postern_access::{Inputs, evaluate, rights};
use postern_oracles::generate::{Case, Tape};
use postern_oracles::{Oracle, convert, differences, manages};
use proptest::prelude::*;
use proptest::test_runner::{Config, FileFailurePersistence, RngSeed, TestRunner};

const CASES: u32 = 25_000;
const SEED: u64 = 20_250_601;

#[track_caller]
fn holds(regressions: &'static str, length: usize, property: impl Fn(&mut Tape<'_>) -> Option<String>) {
    let mut config = Config {
        cases: CASES,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        ..Config::default()
    };
    if matches!(config.rng_seed, RngSeed::Random) {
        config.rng_seed = RngSeed::Fixed(SEED);
    }
    let seed = config.rng_seed;
    let tapes = prop::collection::vec(any::<u8>(), length);
    let outcome = TestRunner::new(config).run(&tapes, |choices| match property(&mut Tape::new(&choices)) {
        None => Ok(()),
        Some(difference) => Err(TestCaseError::fail(difference)),
    });
    if let Err(failure) = outcome {
        panic!("{failure}\nseed: {seed:?}");
    }
}

fn differs(case: &Case) -> Option<String> {
    let (origin, credential) = (convert::origin(&case.origin), convert::credential(&case.caller));
    let rules = convert::rules(&case.registry, &case.server);
    let content = case.locked.as_ref().map(|locked| convert::content(locked, &case.wish));
    let operation = convert::operation(&case.wish);
    let inputs = Inputs {
        origin: &origin,
        rules: &rules,
        credential: &credential,
        operation: &operation,
        content: content.as_ref(),
    };
    let oracle = Oracle::default();
    let answer =
        oracle.judge(&case.registry, &case.server, &case.origin, &case.caller, &case.wish, case.locked.as_ref());
    if let Some(difference) = differences(&answer, &evaluate(&inputs)) {
        return Some(format!("{difference}\n{case:#?}"));
    }
    let real = convert::caller(&case.caller.who)?;
    let given = convert::words(rights(&rules, &real, operation.repository.as_ref()));
    let expected = oracle.rights(&case.registry, &case.caller.who, case.wish.repository.as_deref());
    (given != expected).then(|| format!("rights {given:b}, the oracle says {expected:b}\n{case:#?}"))
}

#[test]
fn requests() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/requests.txt");
    holds(regressions, 400, |tape| differs(&tape.case()));
}

#[test]
fn management() {
    let regressions = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions/management.txt");
    holds(regressions, 200, |tape| {
        let (grants, denials, action, scope) = tape.management();
        let allowed = convert::manages(&grants, &denials, &action, &scope);
        let expected = manages(&grants, &denials, &action, &scope, None);
        (allowed != expected)
            .then(|| format!("the oracle says {expected}: {action} on {scope}\n{grants:#?}\n{denials:#?}"))
    });
}
