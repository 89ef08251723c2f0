//! Whether what a server answered is what the pure decision says.

use postern_access::{Layer, OperationKind};

use super::{ELSEWISE, Elsewise, Outcome};
use crate::matrix::{Answer, Row, Verdict};

/// In what the outcomes differ from their rows and from the pure decision, in words. Rows that are seen elsewise have to be seen so.
pub fn differences(outcomes: &[(&Row, Outcome)]) -> Vec<String> {
    let differs = |(row, outcome): &(&Row, Outcome)| match (row.elsewise(), row.compare_live(outcome)) {
        (None, agreed) => agreed.err(),
        (Some(_), Ok(())) => Some(format!("{}: agrees by now, strike it from the list", row.name)),
        (Some(elsewise), Err(_)) if elsewise.is(outcome) => None,
        (Some(elsewise), Err(_)) => Some(format!("{}: {outcome:?}, expected {elsewise:?}", row.name)),
    };
    outcomes.iter().filter_map(differs).collect()
}

/// Mistakes that [`differences`] would not have found in these outcomes. Each row is compared once more as if it said the opposite, or
/// as if its registry were set up so that the pure decision is another one.
pub fn unnoticed(outcomes: &[(&Row, Outcome)]) -> Vec<String> {
    let mut unnoticed = Vec::new();
    for (row, outcome) in outcomes.iter().filter(|(row, _)| row.elsewise().is_none()) {
        for (mistake, mistaken) in row.mistakes() {
            if mistaken.compare_live(outcome).is_ok() {
                unnoticed.push(format!("{} ({}): {mistake}", row.name, row.operation.kind));
            }
        }
    }
    unnoticed
}

impl Row {
    /// What of this row no request shows as it stands.
    pub fn elsewise(&self) -> Option<&'static Elsewise> {
        ELSEWISE.iter().find(|one| one.row == self.name && one.kind == self.operation.kind)
    }

    /// Whether a server's outcome is the one that the row asks for and the pure decision gives; if not, in what it differs. A real
    /// token may say more than the row does (whom it was issued to), so that what a layer found may be more, too.
    pub fn compare_live(&self, outcome: &Outcome) -> Result<(), String> {
        let pure = Answer::pure(&self.scene());
        let mut wrong = Vec::new();
        let mut check = |right: bool, what: String| {
            if !right {
                wrong.push(what);
            }
        };
        check(outcome.verdict == self.expect.verdict, format!("verdict is {:?}", outcome.verdict));
        let layer = pure.layer.as_str();
        check(outcome.layer == layer, format!("layer is {}, expected {layer}", outcome.layer));
        if let Some(layer) = &self.expect.layer {
            check(outcome.layer == *layer, format!("layer is {}, expected {layer}", outcome.layer));
        }
        check(outcome.via == pure.via, format!("via is {:?}, expected {:?}", outcome.via, pure.via));
        match self.expect.verdict {
            Verdict::Allow => {
                let refused = matches!(outcome.status, 401 | 403 | 405 | 500..);
                check(!refused, format!("the status is {}", outcome.status));
                let mounts = self.kind() == OperationKind::MountBlob;
                check(!mounts || outcome.status == 201, format!("the blob was not mounted: {}", outcome.status));
            }
            Verdict::Deny => {
                let status = self.expect.status.or(pure.status);
                check(Some(outcome.status) == status, format!("status is {}, expected {status:?}", outcome.status));
            }
        }
        if let Some(fixes) = &self.expect.fixes {
            check(outcome.fixes == *fixes, format!("fixes are {:?}, expected {fixes:?}", outcome.fixes));
        }
        for (layer, came_to, findings) in &pure.lines {
            let Some((_, found_to, found)) = outcome.layers.iter().find(|found| found.0 == layer.as_str()) else {
                check(false, format!("nothing is recorded of {}", layer.as_str()));
                continue;
            };
            let agrees = match layer {
                // Content that no lock concerns may be looked at or not.
                Layer::Content => (found_to == "denied") == (*came_to == "denied"),
                _ => found_to == came_to,
            };
            // Names and roles of those who are let in are the server's own.
            let told = *layer == Layer::Network || *came_to == "denied";
            let (less, more) = match (self.asks_for_token(), layer) {
                // At the wall nobody knows yet to whom a token was issued.
                (true, Layer::Network) => (found, findings),
                _ => (findings, found),
            };
            let agrees = agrees && (!told || less.iter().all(|finding| more.contains(finding)));
            check(agrees, format!("{} {found_to}: {found:?}, expected {came_to}: {findings:?}", layer.as_str()));
            if *layer == pure.layer && self.asks_for_token() && self.expect.verdict == Verdict::Deny {
                break;
            }
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!("{} ({}): {}", self.name, self.operation.kind, wrong.join("; ")))
        }
    }

    /// The row with another expectation, or with another registry where that makes a difference.
    fn mistakes(&self) -> Vec<(&'static str, Self)> {
        let mut opposite = self.clone();
        opposite.expect.verdict = match self.expect.verdict {
            Verdict::Allow => Verdict::Deny,
            Verdict::Deny => Verdict::Allow,
        };
        let mut mistakes = vec![("the verdict inverted", opposite)];
        if let Some(layer) = &self.expect.layer {
            let mut other = self.clone();
            other.expect.layer = Some(if layer == "network" { "authorization" } else { "network" }.to_owned());
            mistakes.push(("another layer", other));
        }
        let changes: [Change; 5] = [
            ("public access", |row| flip(&mut row.registry.public_access, "Enabled", "Disabled")),
            ("the default action", |row| flip(&mut row.registry.default_action, "Allow", "Deny")),
            ("trusted services", |row| flip(&mut row.registry.bypass, "AzureServices", "None")),
            ("the tasks policy", |row| flip(&mut row.registry.tasks_policy, "true", "false")),
            ("the role assignment mode", |row| {
                flip(&mut row.registry.role_mode, "LegacyRegistryPermissions", "AbacRepositoryPermissions");
            }),
        ];
        let of = |row: &Self| {
            let Answer { verdict, layer, via, .. } = Answer::pure(&row.scene());
            (verdict, layer, via)
        };
        let right = of(self);
        for (name, change) in changes {
            let mut changed = self.clone();
            change(&mut changed);
            let (verdict, layer, via) = of(&changed);
            if (verdict, layer, &via) != (right.0, right.1, &right.2) {
                changed.expect.verdict = verdict;
                changed.expect.layer = Some(layer.as_str().to_owned());
                (changed.expect.status, changed.expect.via) = (None, via);
                mistakes.push((name, changed));
            }
        }
        mistakes
    }
}

/// What a registry's owner may have set otherwise.
type Change = (&'static str, fn(&mut Row));

fn flip(text: &mut String, one: &str, other: &str) {
    if text == one { other } else { one }.clone_into(text);
}

impl Elsewise {
    /// Whether the outcome is the one that is stated.
    pub fn is(&self, outcome: &Outcome) -> bool {
        let denied = (outcome.verdict == Verdict::Deny).then_some(outcome.layer.as_str());
        denied == self.denied.map(Layer::as_str) && outcome.status == self.status
    }
}
