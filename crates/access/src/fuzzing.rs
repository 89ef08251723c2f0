//! What holds for conditions and scope maps, whatever text they are read from.

use postern_model::RepositoryName;

use crate::{
    Condition, ConditionProblem, ConditionRequest, MAX_CONDITION_BYTES, MAX_CONDITION_DEPTH, MAX_SCOPE_MAP_ACTIONS,
    PolicyDate, ScopeMapActions,
};

const READ: &str = "Microsoft.ContainerRegistry/registries/repositories/content/read";
const WRITE: &str = "Microsoft.ContainerRegistry/registries/repositories/content/write";
const CATALOG: &str = "Microsoft.ContainerRegistry/registries/catalog/read";

/// One text as a condition.
pub fn conditions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(condition) = text.parse::<Condition>() else { return };
    assert!(text.len() <= MAX_CONDITION_BYTES);
    assert_eq!(condition.to_string(), text);
    // Deep or long ones may only fail to be read, with their negation, for that reason.
    let negated = format!("!({text})").parse::<Condition>();
    let is_near_a_limit = match negated.as_ref().err().map(|error| &error.problem) {
        None => true,
        Some(ConditionProblem::TooLong) => text.len() + 3 > MAX_CONDITION_BYTES,
        Some(ConditionProblem::TooDeep) => levels(text) + 2 > MAX_CONDITION_DEPTH,
        Some(_) => false,
    };
    assert!(is_near_a_limit, "{text}: {negated:?}");
    for action in [READ, WRITE, CATALOG, ""] {
        for repository in [None, Some("app"), Some("team/App-1.0"), Some("")] {
            let request = ConditionRequest { action, repository };
            let answer = condition.evaluate(&request);
            assert_eq!(answer, condition.evaluate(&request));
            if let Ok(negated) = &negated {
                assert_eq!(negated.evaluate(&request), answer.map(|holds| !holds), "{text}");
            }
        }
    }
}

/// At least as many levels as the text has.
fn levels(text: &str) -> usize {
    text.matches(['(', '!']).count() + text.to_ascii_uppercase().matches("NOT").count()
}

/// One text as the lines of a scope map, and as a policy date.
pub fn scope_maps(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<PolicyDate>();
    let lines: Vec<&str> = text.lines().collect();
    let Ok(map) = ScopeMapActions::parse(&lines) else { return };
    assert!(lines.len() <= MAX_SCOPE_MAP_ACTIONS);
    assert_eq!(ScopeMapActions::parse(lines.iter().rev()).as_ref(), Ok(&map), "order means nothing");
    let Ok(name) = "team/app".parse::<RepositoryName>() else { return };
    let allowed = map.allows(&name);
    for line in &lines {
        // No line takes anything away.
        if let Ok(alone) = ScopeMapActions::parse([line]) {
            assert_eq!(allowed.union(alone.allows(&name)), allowed);
        }
    }
}

#[cfg(test)]
#[path = "../../../fuzz/kept.rs"]
mod kept;

#[cfg(test)]
mod tests {
    #[test]
    fn kept_inputs() {
        super::kept::each("conditions", super::conditions);
        super::kept::each("scope_maps", super::scope_maps);
    }
}
