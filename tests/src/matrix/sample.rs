//! A sample of the whole input space: rows in which every two values that go together occur together; and another one of the part
//! behind an open wall, where those who are somebody ask for something.
//!
//! Each factor changes one part of a plain row. Rows are chosen greedily, always with the value that brings the most pairs that
//! were not there before; without any randomness, so that a row is found again by its number.

mod factors;

use std::cmp::Reverse;

use postern_access::Layer;

use self::factors::{APART, Factor, behind_the_wall, factors};
use super::{Answer, Row, Verdict};

/// A row before any factor changes it.
const PLAIN: &str = "name = 'sample'\nsource = 'sample'\nexpect = { verdict = 'deny' }";

/// All values of all factors, one after the other: the space that rows are chosen from.
struct Space {
    factors: Vec<Factor>,
    /// Where each value is in `factors`.
    values: Vec<(usize, usize)>,
}

/// Pairs of values that are in no row yet.
struct Left {
    pairs: Vec<Vec<bool>>,
    /// How many of them there are of a value.
    of: Vec<usize>,
}

impl Space {
    fn new(factors: Vec<Factor>) -> Self {
        let places = |(number, factor): (usize, &Factor)| (0..factor.values.len()).map(move |value| (number, value));
        let values = factors.iter().enumerate().flat_map(places).collect();
        Self { factors, values }
    }

    fn named(&self, value: usize) -> (&'static str, &str) {
        let (factor, value) = self.values[value];
        (self.factors[factor].name, &self.factors[factor].values[value].name)
    }

    /// Why the two values are no one request.
    fn apart(&self, one: usize, other: usize) -> Option<&'static str> {
        let is = |(factor, test): (&str, fn(&str) -> bool), (of, name): (&str, &str)| factor == of && test(name);
        let (one, other) = (self.named(one), self.named(other));
        let found = APART.iter().find(|apart| {
            (is(apart.one, one) && is(apart.other, other)) || (is(apart.one, other) && is(apart.other, one))
        });
        found.map(|apart| apart.why)
    }

    /// Every pair of values of two factors that go together.
    fn pairs(&self) -> Left {
        let all = 0..self.values.len();
        let go_together =
            |one: usize, other: usize| self.values[one].0 != self.values[other].0 && self.apart(one, other).is_none();
        let pairs: Vec<Vec<bool>> =
            all.clone().map(|one| all.clone().map(|other| go_together(one, other)).collect()).collect();
        let of = pairs.iter().map(|others| others.iter().filter(|left| **left).count()).collect();
        Left { pairs, of }
    }

    /// Rows as their values, each of which holds at least one pair that no row before it does.
    fn chosen(&self) -> Vec<Vec<usize>> {
        let together = self.pairs();
        let mut left = self.pairs();
        let mut rows = Vec::new();
        while let Some(pair) = left.first() {
            let row = self.complete(&together, &left, pair);
            left.strike(&row);
            rows.push(row);
        }
        rows
    }

    /// A value of each factor, beginning with two.
    fn complete(&self, together: &Left, left: &Left, pair: [usize; 2]) -> Vec<usize> {
        let mut chosen = pair.to_vec();
        for (factor, of) in self.factors.iter().enumerate() {
            if chosen.iter().any(|value| self.values[*value].0 == factor) {
                continue;
            }
            let candidates = (0..self.values.len()).filter(|value| self.values[*value].0 == factor);
            let fits = |value: &usize| chosen.iter().all(|other| together.pairs[*value][*other]);
            let gain = |value: &usize| {
                let new = chosen.iter().filter(|other| left.pairs[*value][**other]).count();
                // Of equals, the one with the most pairs still to come.
                (new, left.of[*value], Reverse(*value))
            };
            let best = candidates.filter(fits).max_by_key(gain);
            let others = || chosen.iter().map(|value| self.named(*value)).collect::<Vec<_>>();
            let best = best.unwrap_or_else(|| panic!("nothing of `{}` goes with {:?}", of.name, others()));
            chosen.push(best);
        }
        // Factors in their order: a condition is put on a role that is there.
        chosen.sort_unstable();
        chosen
    }

    fn row(&self, chosen: &[usize]) -> Row {
        let mut row: Row = toml::from_str(PLAIN).expect("a plain row");
        let mut names = Vec::new();
        for value in chosen {
            let (factor, name) = self.named(*value);
            names.push(format!("{factor}: {name}"));
            let (factor, value) = self.values[*value];
            (self.factors[factor].values[value].set)(&mut row);
        }
        row.name = names.join("; ");
        let pure = Answer::pure(&row.scene());
        (row.expect.verdict, row.expect.layer) = (pure.verdict, Some(pure.layer.as_str().to_owned()));
        // Fixes reach as far as the request was looked at: a server that refuses it knows of no lock, and of nobody who asks for a token.
        let looked_at = row.locks.is_none() || pure.layer == Layer::Content;
        if pure.verdict == Verdict::Deny && looked_at && !row.asks_for_token() {
            row.expect.fixes = Some(pure.fixes);
        }
        row
    }
}

impl Left {
    fn first(&self) -> Option<[usize; 2]> {
        let one = self.of.iter().position(|left| *left > 0)?;
        let other = self.pairs[one].iter().position(|left| *left)?;
        Some([one, other])
    }

    fn strike(&mut self, row: &[usize]) {
        for one in row {
            for other in row {
                if std::mem::take(&mut self.pairs[*one][*other]) {
                    self.of[*one] -= 1;
                }
            }
        }
    }
}

/// Both samples, with the pure decision's verdict, layer and fixes as what is expected.
pub fn sample() -> Vec<Row> {
    let of = |factors| {
        let space = Space::new(factors);
        space.chosen().iter().map(|chosen| space.row(chosen)).collect::<Vec<_>>()
    };
    [of(factors()), of(behind_the_wall())].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::matrix::NAMES;

    #[test]
    fn every_pair_is_in_a_row_or_is_no_request() {
        covers_every_pair(&Space::new(factors()));
        covers_every_pair(&Space::new(behind_the_wall()));
    }

    fn covers_every_pair(space: &Space) {
        let rows: Vec<BTreeSet<usize>> = space.chosen().into_iter().map(BTreeSet::from_iter).collect();
        assert!(rows.iter().all(|row| row.len() == space.factors.len()), "a row has a value of each factor");
        let (mut pairs, mut apart) = (0, 0);
        for one in 0..space.values.len() {
            for other in (one..space.values.len()).filter(|other| space.values[*other].0 != space.values[one].0) {
                let together = rows.iter().any(|row| row.contains(&one) && row.contains(&other));
                let why = space.apart(one, other);
                assert_eq!(together, why.is_none(), "{:?}, {:?}: {why:?}", space.named(one), space.named(other));
                pairs += 1;
                apart += usize::from(why.is_some());
            }
        }
        assert!(apart * 15 < pairs, "{apart} of {pairs} pairs are apart");
    }

    #[test]
    fn every_reason_parts_something() {
        let space = Space::new(factors());
        for apart in APART {
            let mut sides = [apart.one, apart.other].map(|(factor, test)| {
                (0..space.values.len()).any(|value| space.named(value).0 == factor && test(space.named(value).1))
            });
            assert!(sides.iter_mut().all(|parts| *parts), "{}", apart.why);
        }
    }

    /// A sample of one verdict would show nothing.
    #[test]
    fn verdicts_layers_and_ways_in_are_all_in_the_sample() {
        let rows = sample();
        let names: BTreeSet<&String> = rows.iter().map(|row| &row.name).collect();
        assert_eq!(names.len(), rows.len());
        let answers: Vec<Answer> = rows.iter().map(|row| Answer::pure(&row.scene())).collect();
        let allowed = answers.iter().filter(|answer| answer.verdict == Verdict::Allow).count();
        assert!(allowed * 10 > rows.len(), "{allowed} of {} are allowed", rows.len());
        let covered: BTreeSet<&str> = answers.iter().flat_map(|answer| answer.covered.iter().copied()).collect();
        for names in NAMES.iter().filter(|names| matches!(names.of, "Layer" | "Via" | "NetworkBlocker")) {
            let missing: Vec<_> = names.variants.iter().filter(|variant| !covered.contains(**variant)).collect();
            assert!(missing.is_empty(), "no row goes through {missing:?} of {}", names.of);
        }
    }

    #[test]
    fn the_sample_is_the_same_every_time() {
        let names = || sample().into_iter().map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names(), names());
    }
}
