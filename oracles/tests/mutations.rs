//! The comparisons can fail: each mistake that the oracle can make is noticed by at least one of them.

use postern_access::{Inputs, evaluate};
use postern_oracles::generate::{Case, Tape};
use postern_oracles::space::Space;
use postern_oracles::{Mutation, Oracle, SpecRow, convert, differences, manages, rows};

/// Pseudo-random tapes, the same in every run.
fn tapes() -> impl Iterator<Item = Vec<u8>> {
    let mut state = 20_250_316_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32).to_le_bytes()[0]
    };
    (0..20_000).map(move |_| (0..400).map(|_| next()).collect())
}

fn differs(case: &Case, oracle: Oracle) -> bool {
    let (origin, credential) = (convert::origin(&case.origin), convert::credential(&case.caller));
    let content = case.locked.as_ref().map(|locked| convert::content(locked, &case.wish));
    let inputs = Inputs {
        origin: &origin,
        rules: &convert::rules(&case.registry, &case.server),
        credential: &credential,
        operation: &convert::operation(&case.wish),
        content: content.as_ref(),
    };
    let answer =
        oracle.judge(&case.registry, &case.server, &case.origin, &case.caller, &case.wish, case.locked.as_ref());
    differences(&answer, &evaluate(&inputs)).is_some()
}

fn of_row(row: &SpecRow) -> Case {
    let SpecRow { registry, server, origin, caller, wish, locked, .. } = row.clone();
    Case { registry, server, origin, caller, wish, locked }
}

#[test]
fn every_mistake_is_noticed() {
    // Only a mistake may be noticed: without one, what is tried here agrees.
    let sound = |case: &Case| !differs(case, Oracle::default());
    let rows: Vec<Case> = rows().iter().map(of_row).collect();
    assert!(rows.iter().all(sound) && tapes().all(|tape| sound(&Tape::new(&tape).case())), "there is a difference");
    let spaces = Space::all();
    let mut unnoticed = Vec::new();
    for mutation in Mutation::ALL {
        let oracle = Oracle { mutation: Some(mutation) };
        let by_rows = || rows.iter().any(|case| differs(case, oracle)).then_some("the rows");
        let by_cases = || tapes().any(|tape| differs(&Tape::new(&tape).case(), oracle)).then_some("generated requests");
        let by_management = || {
            let wrong = tapes().any(|tape| {
                let (grants, denials, action, scope) = Tape::new(&tape).management();
                let judged = manages(&grants, &denials, &action, &scope, oracle.mutation);
                judged != convert::manages(&grants, &denials, &action, &scope)
            });
            wrong.then_some("generated management operations")
        };
        let by_spaces =
            || spaces.iter().find(|space| !space.compare(oracle, 1).differences.is_empty()).map(|space| space.name);
        match by_rows().or_else(by_cases).or_else(by_management).or_else(by_spaces) {
            Some(by) => println!("{mutation:?}: noticed by {by}"),
            None => unnoticed.push(mutation),
        }
    }
    assert!(unnoticed.is_empty(), "nothing notices {unnoticed:?}");
}
