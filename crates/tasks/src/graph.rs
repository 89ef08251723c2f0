//! Which step waits for which, and what can start when.
//!
//! ```text
//!  ready() ─▶ steps to start ─▶ finished(step, outcome) ─▶ ready() ─▶ … ─▶ is_over()
//! ```

use std::collections::HashMap;

/// Says that a step waits for nothing.
const AT_ONCE: &str = "-";
/// The runner's name for the beginning.
const ROOT: &str = "acb_root";

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// The step before it, if there is one.
    Previous,
    /// Nothing.
    AtOnce,
    /// All of these.
    After(Vec<String>),
}

impl When {
    /// As a task file says it.
    pub fn parse(id: &str, names: &[String]) -> Result<Self, GraphError> {
        match names {
            [] => Ok(Self::Previous),
            [only] if only == AT_ONCE => Ok(Self::AtOnce),
            names if names.iter().any(|name| name == AT_ONCE) => Err(GraphError::NotAlone),
            names if names.iter().any(|name| name == id) => Err(GraphError::Itself(id.to_owned())),
            names => Ok(Self::After(names.to_vec())),
        }
    }
}

/// Why steps cannot be put in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// `-` and something else.
    #[error("step cannot contain other IDs in when if the immediate execution token is specified")]
    NotAlone,
    /// A step waits for itself.
    #[error("Step ID: {0} is self-referenced")]
    Itself(String),
    /// Two steps have one id.
    #[error("{0} already exists as a vertex")]
    Twice(String),
    /// The id is taken.
    #[error("{ROOT} is a reserved ID, it can't be used")]
    Reserved,
    /// There is no such step.
    #[error("{from} does not exist as a vertex [from: {from}, to: {to}]")]
    Unknown {
        /// What a step waits for.
        from: String,
        /// The step.
        to: String,
    },
    /// Steps wait for one another.
    #[error("the steps wait for one another: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should, or its errors are ignored.
    Successful,
    /// Otherwise: nothing further begins.
    Failed,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepStatus {
    /// It has not begun; at the end of a run: it was left out.
    Skipped,
    /// It runs.
    InProgress,
    /// It did what it should.
    Successful,
    /// It did not.
    Failed,
}

impl StepStatus {
    /// As logs say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Skipped => "skipped",
            Self::InProgress => "inprogress",
            Self::Successful => "successful",
            Self::Failed => "failed",
        }
    }
}

/// The steps of a run by their index, what each waits for, and how far they are.
#[derive(Clone, Debug)]
pub struct Steps {
    parents: Vec<Vec<usize>>,
    states: Vec<StepStatus>,
}

impl Steps {
    /// Puts steps in order, in which there is no circle.
    pub fn new<'a>(steps: impl IntoIterator<Item = (&'a str, &'a When)>) -> Result<Self, GraphError> {
        let steps: Vec<(&str, &When)> = steps.into_iter().collect();
        let mut indices = HashMap::new();
        for (index, (id, _)) in steps.iter().enumerate() {
            if *id == ROOT {
                return Err(GraphError::Reserved);
            }
            if indices.insert(*id, index).is_some() {
                return Err(GraphError::Twice((*id).to_owned()));
            }
        }
        let mut parents = Vec::with_capacity(steps.len());
        for (index, (id, when)) in steps.iter().enumerate() {
            parents.push(match when {
                When::Previous => index.checked_sub(1).into_iter().collect(),
                When::AtOnce => Vec::new(),
                When::After(names) => names
                    .iter()
                    .map(|name| match indices.get(name.as_str()) {
                        Some(parent) if *parent == index => Err(GraphError::Itself(name.clone())),
                        Some(parent) => Ok(*parent),
                        None => Err(GraphError::Unknown { from: name.clone(), to: (*id).to_owned() }),
                    })
                    .collect::<Result<_, _>>()?,
            });
        }
        let graph = Self { states: vec![StepStatus::Skipped; parents.len()], parents };
        match graph.circle() {
            None => Ok(graph),
            Some(circle) => {
                let name = |index: &usize| steps.get(*index).map(|(id, _)| (*id).to_owned());
                Err(GraphError::Cycle(circle.iter().filter_map(name).collect()))
            }
        }
    }

    /// Steps that wait for one another, in the order in which they would run, the first one again at the end.
    fn circle(&self) -> Option<Vec<usize>> {
        let mut is_clear = vec![false; self.parents.len()];
        loop {
            let before = is_clear.iter().filter(|clear| **clear).count();
            for (index, parents) in self.parents.iter().enumerate() {
                if parents.iter().all(|parent| is_clear.get(*parent).copied().unwrap_or(true))
                    && let Some(clear) = is_clear.get_mut(index)
                {
                    *clear = true;
                }
            }
            if is_clear.iter().filter(|clear| **clear).count() == before {
                break;
            }
        }
        // Whoever is left waits for somebody who is left: going back comes around.
        let mut path = vec![is_clear.iter().position(|clear| !clear)?];
        loop {
            let parents = self.parents.get(*path.last()?)?;
            let next = *parents.iter().find(|parent| is_clear.get(**parent) == Some(&false))?;
            if let Some(start) = path.iter().position(|known| *known == next) {
                let mut circle = path.split_off(start);
                circle.push(next);
                circle.reverse();
                return Some(circle);
            }
            path.push(next);
        }
    }

    /// Steps that can start now; they count as started from then on.
    pub fn ready(&mut self) -> Vec<usize> {
        if self.has_failed() {
            return Vec::new();
        }
        let is_done = |parent: &usize| self.states.get(*parent) == Some(&StepStatus::Successful);
        let ready: Vec<usize> = (self.states.iter().zip(&self.parents).enumerate())
            .filter(|(_, (state, parents))| **state == StepStatus::Skipped && parents.iter().all(is_done))
            .map(|(index, _)| index)
            .collect();
        for index in &ready {
            self.set(*index, StepStatus::InProgress);
        }
        ready
    }

    /// A step has ended; its further ends mean nothing.
    pub fn finished(&mut self, step: usize, outcome: Outcome) {
        if self.states.get(step) == Some(&StepStatus::InProgress) {
            self.set(
                step,
                match outcome {
                    Outcome::Successful => StepStatus::Successful,
                    Outcome::Failed => StepStatus::Failed,
                },
            );
        }
    }

    fn set(&mut self, step: usize, status: StepStatus) {
        if let Some(state) = self.states.get_mut(step) {
            *state = status;
        }
    }

    /// Whether a step has failed, so that nothing further begins.
    pub fn has_failed(&self) -> bool {
        self.states.contains(&StepStatus::Failed)
    }

    /// Whether nothing runs and nothing will.
    pub fn is_over(&self) -> bool {
        !self.states.contains(&StepStatus::InProgress)
            && (self.has_failed() || !self.states.contains(&StepStatus::Skipped))
    }

    /// Where a step is.
    pub fn status(&self, step: usize) -> Option<StepStatus> {
        self.states.get(step).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `a b:- c:a,b` are three steps.
    fn read(text: &str) -> Result<Steps, GraphError> {
        let steps = text
            .split_whitespace()
            .map(|step| {
                let (id, when) = step.split_once(':').unwrap_or((step, ""));
                let names: Vec<String> = when.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
                When::parse(id, &names).map(|when| (id.to_owned(), when))
            })
            .collect::<Result<Vec<_>, _>>()?;
        Steps::new(steps.iter().map(|(id, when)| (id.as_str(), when)))
    }

    /// Runs all that can run together, until nothing is left; a step named in capitals fails.
    fn check(text: &str, expected: &str) {
        let names: Vec<&str> = text.split_whitespace().map(|step| step.split(':').next().unwrap()).collect();
        let found = match read(text) {
            Err(error) => format!("! {error}"),
            Ok(mut steps) => {
                let mut rounds = Vec::new();
                while !steps.is_over() {
                    let ready = steps.ready();
                    assert!(!ready.is_empty(), "{text} is stuck");
                    rounds.push(ready.iter().map(|step| names[*step]).collect::<Vec<_>>().join(","));
                    for step in ready {
                        let fails = names[step].chars().all(char::is_uppercase);
                        steps.finished(step, if fails { Outcome::Failed } else { Outcome::Successful });
                    }
                }
                rounds.join(" ")
            }
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn order() {
        check("", "");
        check("a b c", "a b c");
        check("a:- b:- c:a,b", "a,b c");
        check("a b:- c d:a", "a,b c,d");
        check("a:b b:-", "b a");
        check("a B c", "a B");
        check("a:- B:- c:a d:B", "a,B");
        check("a:- a:-", "! a already exists as a vertex");
        check("a b:x", "! x does not exist as a vertex [from: x, to: b]");
        check("a:a", "! Step ID: a is self-referenced");
        check("a:-,b b", "! step cannot contain other IDs in when if the immediate execution token is specified");
        check("acb_root", "! acb_root is a reserved ID, it can't be used");
        check("a:c b:a c:b d", "! the steps wait for one another: a -> b -> c -> a");
        check("x a:b b", "! the steps wait for one another: a -> b -> a");
    }

    proptest! {
        #[test]
        fn every_step_runs_once_after_its_parents(edges in proptest::collection::vec((0_usize..12, 0_usize..12), 0..30)) {
            let ids: Vec<String> = (0..12).map(|index| format!("s{index}")).collect();
            let whens: Vec<When> = (0..12)
                .map(|index| {
                    let after: Vec<String> = edges.iter().filter(|(from, to)| *to == index && from != to).map(|(from, _)| ids[*from].clone()).collect();
                    if after.is_empty() { When::AtOnce } else { When::After(after) }
                })
                .collect();
            let is_forward = edges.iter().all(|(from, to)| from <= to);
            match Steps::new(ids.iter().map(String::as_str).zip(&whens)) {
                Err(error) => {
                    let is_circle = matches!(error, GraphError::Cycle(_));
                    prop_assert!(is_circle && !is_forward, "{}", error);
                }
                Ok(mut steps) => {
                    let mut order = Vec::new();
                    while !steps.is_over() {
                        for step in steps.ready() {
                            order.push(step);
                            steps.finished(step, Outcome::Successful);
                        }
                    }
                    prop_assert_eq!(order.len(), 12);
                    let at = |step: usize| order.iter().position(|known| *known == step).unwrap();
                    for (from, to) in edges.iter().filter(|(from, to)| from != to) {
                        prop_assert!(at(*from) < at(*to));
                    }
                }
            }
        }
    }
}
