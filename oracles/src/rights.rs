use crate::conditions::{Attributes, Condition};
use crate::text::{covers, within};
use crate::{Caller, Mutation, Registry, Role, Who, Wish};

/// A right on content, by its word in a token scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the token scopes")]
pub enum Word {
    Pull,
    Push,
    Delete,
    MetadataRead,
    MetadataWrite,
    MetadataDelete,
    DeletedRead,
    DeletedRestore,
    Catalog,
    QuarantineRead,
    QuarantineWrite,
    Sign,
}

/// A set of words, one bit each.
pub type Words = u32;

/// Words with the operation that gives each, and whether the role subtracts it again.
pub(crate) type Given = Vec<(Word, &'static str, bool)>;

/// What a role's `actions` give in the legacy mode, section 6.
const ACTIONS: [(&str, &[Word]); 10] = [
    ("Microsoft.ContainerRegistry/registries/pull/read", &[Word::Pull, Word::MetadataRead, Word::Catalog]),
    ("Microsoft.ContainerRegistry/registries/push/write", &[Word::Push]),
    ("Microsoft.ContainerRegistry/registries/artifacts/delete", &[Word::Delete]),
    ("Microsoft.ContainerRegistry/registries/metadata/read", &[Word::MetadataRead]),
    ("Microsoft.ContainerRegistry/registries/metadata/write", &[Word::MetadataWrite]),
    ("Microsoft.ContainerRegistry/registries/deleted/read", &[Word::DeletedRead]),
    ("Microsoft.ContainerRegistry/registries/deleted/restore/action", &[Word::DeletedRestore]),
    ("Microsoft.ContainerRegistry/registries/quarantine/read", &[Word::QuarantineRead]),
    ("Microsoft.ContainerRegistry/registries/quarantine/write", &[Word::QuarantineWrite]),
    (SIGN, &[Word::Sign]),
];
const SIGN: &str = "Microsoft.ContainerRegistry/registries/sign/write";

/// What a role's `dataActions` give in the ABAC mode, section 6.
const DATA_ACTIONS: [(&str, &[Word]); 9] = [
    ("Microsoft.ContainerRegistry/registries/repositories/content/read", &[Word::Pull]),
    ("Microsoft.ContainerRegistry/registries/repositories/content/write", &[Word::Push]),
    ("Microsoft.ContainerRegistry/registries/repositories/content/delete", &[Word::Delete]),
    ("Microsoft.ContainerRegistry/registries/repositories/metadata/read", &[Word::MetadataRead]),
    ("Microsoft.ContainerRegistry/registries/repositories/metadata/write", &[Word::MetadataWrite]),
    ("Microsoft.ContainerRegistry/registries/repositories/metadata/delete", &[Word::MetadataDelete]),
    ("Microsoft.ContainerRegistry/registries/catalog/read", &[Word::Catalog]),
    ("Microsoft.ContainerRegistry/registries/quarantinedArtifacts/read", &[Word::QuarantineRead]),
    ("Microsoft.ContainerRegistry/registries/quarantinedArtifacts/write", &[Word::QuarantineWrite]),
];

/// Everything that a role gives in a mode.
pub(crate) fn given(role: &Role, abac: bool) -> Given {
    let mut given = Vec::new();
    let (table, listed, taken): (&[(&str, &[Word])], _, _) = if abac {
        (&DATA_ACTIONS, &role.data_actions, &role.not_data_actions)
    } else {
        (&ACTIONS, &role.actions, &role.not_actions)
    };
    for (operation, words) in table {
        // A `*` covers content, but not signing: that is named.
        let by_name = *operation != SIGN || listed.iter().any(|pattern| pattern.eq_ignore_ascii_case(SIGN));
        if by_name && listed.iter().any(|pattern| covers(pattern, operation)) {
            let subtracted = taken.iter().any(|pattern| covers(pattern, operation));
            given.extend(words.iter().map(|word| (*word, *operation, subtracted)));
        }
    }
    given
}

/// What an operation needs: one of these sets. Sections 2 and 8.
fn needs(operation: &str, mutation: Option<Mutation>) -> &'static [&'static [Word]] {
    match operation {
        "ping" | "exchangeToken" | "issueToken" => &[],
        "listCatalog" => &[&[Word::Catalog]],
        "pullManifest" | "pullBlob" | "listReferrers" | "mountBlob" => &[&[Word::Pull]],
        "listTags" => &[&[Word::Pull], &[Word::MetadataRead]],
        "pushBlob" | "pushManifest" if mutation == Some(Mutation::PushNeedsNoPull) => &[&[Word::Push]],
        "pushBlob" | "pushManifest" => &[&[Word::Pull, Word::Push]],
        "deleteManifest" | "deleteBlob" | "deleteRepository" => &[&[Word::Delete]],
        "untag" => &[&[Word::Delete], &[Word::MetadataWrite], &[Word::MetadataDelete]],
        "readMetadata" => &[&[Word::MetadataRead]],
        "writeMetadata" => &[&[Word::MetadataWrite]],
        "listDeletedCatalog" | "listDeleted" => &[&[Word::DeletedRead]],
        "restoreDeleted" => &[&[Word::DeletedRead, Word::DeletedRestore]],
        "writeQuarantine" => &[&[Word::QuarantineWrite]],
        other => panic!("`{other}` is no operation"),
    }
}

pub(crate) const fn set(words: &[Word]) -> Words {
    let mut set = 0;
    let mut at = 0;
    while at < words.len() {
        set |= 1 << words[at] as u32;
        at += 1;
    }
    set
}

const READ: Words = set(&[Word::Pull, Word::MetadataRead]);
const READ_AND_LIST: Words = READ | set(&[Word::Catalog]);
const EVERYTHING: Words = (1 << 12) - 1;

/// What keeps a verified caller from an operation; each is one bit of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[expect(missing_docs, reason = "the names are those of the decision's blockers")]
pub enum Refusal {
    TokenLacks = 1,
    NoAssignment = 1 << 1,
    RoleNotHonoured = 1 << 2,
    ConditionNotMet = 1 << 3,
    ScopeMapLacks = 1 << 4,
    TokenDisabled = 1 << 5,
    TokenUnknown = 1 << 6,
    AdminDisabled = 1 << 7,
    AnonymousPullOff = 1 << 8,
    AnonymousNever = 1 << 9,
    ScannerPlanOff = 1 << 10,
}

impl Refusal {
    /// Every one.
    pub const ALL: [Self; 11] = [
        Self::TokenLacks,
        Self::NoAssignment,
        Self::RoleNotHonoured,
        Self::ConditionNotMet,
        Self::ScopeMapLacks,
        Self::TokenDisabled,
        Self::TokenUnknown,
        Self::AdminDisabled,
        Self::AnonymousPullOff,
        Self::AnonymousNever,
        Self::ScannerPlanOff,
    ];
}

/// An assignment that would have given what was missing, and why it did not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Near {
    /// By its role in the other mode.
    NotHonoured(String),
    /// But for its condition.
    ConditionNotMet(String),
}

/// Whether a verified caller may, and if not, the refusals, what is missing (where the operation has only one set of needs), and the
/// assignments that come near.
pub(crate) struct Finding {
    pub(crate) refusals: u32,
    pub(crate) missing: Option<Words>,
    pub(crate) near: Vec<Near>,
}

/// Layer 3 for a verified caller.
pub(crate) fn authorize(
    registry: &Registry,
    caller: &Caller,
    wish: &Wish,
    mutation: Option<Mutation>,
) -> Option<Finding> {
    let mut sets: Vec<Words> = needs(wish.operation, mutation).iter().map(|words| set(words)).collect();
    // Section 8 of the data plane: who looks after the quarantine reads by digest.
    if registry.quarantine && (wish.operation == "pullBlob" || (wish.operation == "pullManifest" && wish.by_digest)) {
        sets.push(set(&[Word::QuarantineRead]));
    }
    if sets.is_empty() {
        return None;
    }
    let claimed: Vec<Words> =
        sets.iter().copied().filter(|needed| covered_by_claim(*needed, caller, wish, mutation)).collect();
    let considered = if claimed.is_empty() { &sets } else { &claimed };
    let repository = wish.repository.as_deref();
    let mut held = rights(registry, &caller.who, repository, mutation);
    if mutation == Some(Mutation::ClaimIsEnough) && caller.claim.is_some() && !claimed.is_empty() {
        held = EVERYTHING;
    }
    let has_right = considered.iter().any(|needed| needed & !held == 0);
    if !claimed.is_empty() && has_right {
        return Some(Finding { refusals: 0, missing: None, near: Vec::new() });
    }
    let mut finding = Finding { refusals: 0, missing: None, near: Vec::new() };
    if claimed.is_empty() {
        finding.refusals |= Refusal::TokenLacks as u32;
    }
    // A disabled token or admin user is told even where its claim is the first thing that lacks.
    let missing = considered.first().map_or(0, |needed| needed & !held);
    if !has_right {
        finding.missing = (sets.len() == 1).then_some(missing);
    }
    refuse(registry, &caller.who, repository, (considered, missing, has_right), &mut finding, mutation);
    Some(finding)
}

fn refuse(
    registry: &Registry,
    who: &Who,
    repository: Option<&str>,
    (considered, missing, has_right): (&[Words], Words, bool),
    finding: &mut Finding,
    mutation: Option<Mutation>,
) {
    let mut refuse = |refusal: Refusal| finding.refusals |= refusal as u32;
    let fits = |set: Words| considered.iter().any(|needed| needed & !set == 0);
    if has_right {
        return;
    }
    match who {
        Who::Nobody | Who::Invalid(_) => {}
        Who::Anonymous => refuse(if fits(READ) { Refusal::AnonymousPullOff } else { Refusal::AnonymousNever }),
        Who::Admin => refuse(Refusal::AdminDisabled),
        Who::Token(_) => match &registry.token {
            None => refuse(Refusal::TokenUnknown),
            Some(token) => {
                if !token.enabled {
                    refuse(Refusal::TokenDisabled);
                }
                if !fits(scope_map(&token.scope_map, repository, mutation)) {
                    refuse(Refusal::ScopeMapLacks);
                }
            }
        },
        Who::Principal { first_party: true, .. } if fits(READ_AND_LIST) && !registry.scanner => {
            refuse(Refusal::ScannerPlanOff);
        }
        Who::Principal { first_party: true, .. } => refuse(Refusal::NoAssignment),
        Who::Principal { .. } => {
            refuse(Refusal::NoAssignment);
            for assignment in assignments(registry, who, mutation) {
                let [here, other] = if registry.abac { [1, 0] } else { [0, 1] };
                let words = |mode: usize| {
                    let kept = assignment.given[mode].iter().filter(|(.., subtracted)| !subtracted);
                    kept.fold(0, |set, (word, ..)| set | 1 << *word as u32)
                };
                let role = || assignment.role.name.clone();
                if words(here) & missing != 0 {
                    finding.near.push(Near::ConditionNotMet(role()));
                } else if words(other) & missing != 0 {
                    finding.near.push(Near::NotHonoured(role()));
                }
            }
        }
    }
    finding.near.sort();
    for near in &finding.near {
        finding.refusals |= match near {
            Near::NotHonoured(_) => Refusal::RoleNotHonoured as u32,
            Near::ConditionNotMet(_) => Refusal::ConditionNotMet as u32,
        };
    }
}

/// Whether a verified caller has this right and its token claims it.
pub(crate) fn claimed_and_held(
    registry: &Registry,
    caller: &Caller,
    wish: &Wish,
    word: Word,
    mutation: Option<Mutation>,
) -> bool {
    let needed = set(&[word]);
    covered_by_claim(needed, caller, wish, mutation)
        && needed & !rights(registry, &caller.who, wish.repository.as_deref(), mutation) == 0
}

fn covered_by_claim(needed: Words, caller: &Caller, wish: &Wish, mutation: Option<Mutation>) -> bool {
    let Some(claim) = &caller.claim else { return true };
    if mutation == Some(Mutation::ClaimIgnored) {
        return true;
    }
    let mut claimed = 0;
    if let Some(repository) = &wish.repository {
        for (name, words) in &claim.repositories {
            if name == repository {
                claimed |= words;
            }
        }
    } else {
        if claim.catalog {
            claimed |= set(&[Word::Catalog]);
        }
        if claim.deleted_catalog && wish.operation == "listDeletedCatalog" {
            claimed |= set(&[Word::DeletedRead]);
        }
    }
    // Scopes have no words for the quarantine; these stand for them.
    for (word, stands_for) in [(Word::Pull, Word::QuarantineRead), (Word::MetadataWrite, Word::QuarantineWrite)] {
        if claimed & set(&[word]) != 0 {
            claimed |= set(&[stands_for]);
        }
    }
    needed & !claimed == 0
}

/// Everything that a caller may do on a repository, or with the registry as a whole.
pub(crate) fn rights(registry: &Registry, who: &Who, repository: Option<&str>, mutation: Option<Mutation>) -> Words {
    match who {
        Who::Admin if registry.admin => EVERYTHING,
        Who::Anonymous if registry.anonymous && mutation == Some(Mutation::AnonymousListsCatalog) => READ_AND_LIST,
        Who::Anonymous if registry.anonymous => READ,
        Who::Token(_) => match &registry.token {
            Some(token) if token.enabled || mutation == Some(Mutation::DisabledTokenWorks) => {
                scope_map(&token.scope_map, repository, mutation)
            }
            _ => 0,
        },
        // A service of the server has what its plan gives, and no roles: its owner sets up none.
        Who::Principal { first_party: true, .. } => {
            if registry.scanner {
                READ_AND_LIST
            } else {
                0
            }
        }
        Who::Principal { .. } => by_assignments(registry, who, repository, mutation),
        Who::Nobody | Who::Invalid(_) | Who::Anonymous | Who::Admin => 0,
    }
}

/// Section 10: the union over assignments; each condition is asked about the operation that gives the right.
fn by_assignments(registry: &Registry, who: &Who, repository: Option<&str>, mutation: Option<Mutation>) -> Words {
    let mut held = 0;
    for assignment in assignments(registry, who, mutation) {
        for (mode, given) in assignment.given.iter().enumerate() {
            let honoured = (mode == 1) == registry.abac
                || (mode == 1 && mutation == Some(Mutation::DataActionsInLegacyMode))
                || (mode == 0 && mutation == Some(Mutation::ActionsInAbacMode));
            if !honoured {
                continue;
            }
            for (word, operation, subtracted) in given {
                if *subtracted && mutation != Some(Mutation::NotActionsIgnored) {
                    continue;
                }
                let holds = assignment.condition.as_ref().is_none_or(|(_, condition)| {
                    let answer = condition.holds(&Attributes { action: operation, repository }, mutation);
                    let unknown = mutation == Some(Mutation::ConditionFaultHolds);
                    answer.unwrap_or(unknown) || mutation == Some(Mutation::ConditionIgnored)
                });
                if holds {
                    held |= 1 << *word as u32;
                }
            }
        }
    }
    held
}

/// The assignments to the caller and its groups that reach the registry.
fn assignments<'a>(
    registry: &'a Registry,
    who: &Who,
    mutation: Option<Mutation>,
) -> impl Iterator<Item = &'a crate::Assignment> {
    let mut principals = Vec::new();
    if let Who::Principal { id, groups, .. } = who {
        principals.push(*id);
        if mutation != Some(Mutation::GroupsIgnored) {
            principals.extend(groups);
        }
    }
    registry
        .assignments
        .iter()
        .filter(move |one| principals.contains(&one.principal) && within(&registry.id, &one.scope, mutation))
}

/// Section 5: what the lines of a scope map say about a repository; nothing about the registry as a whole.
fn scope_map(lines: &[String], repository: Option<&str>, mutation: Option<Mutation>) -> Words {
    let Some(repository) = repository else { return 0 };
    let mut held = 0;
    for line in lines {
        let Some(rest) = line.strip_prefix("repositories/") else { continue };
        let parts: Vec<&str> = rest.split('/').collect();
        let (name, verb) = parts.split_at(parts.len().saturating_sub(2));
        let word = match verb {
            ["content", "read"] => Word::Pull,
            ["content", "write"] => Word::Push,
            ["content", "delete"] => Word::Delete,
            ["metadata", "read"] => Word::MetadataRead,
            ["metadata", "write"] => Word::MetadataWrite,
            other => panic!("{other:?} is no verb of a scope map"),
        };
        let own: Vec<&str> = repository.split('/').collect();
        let covered = match name {
            [above @ .., "*"] if mutation == Some(Mutation::WildcardInsideSegment) => {
                repository.starts_with(&above.join("/"))
            }
            [above @ .., "*"] => {
                let least = above.len() + usize::from(mutation != Some(Mutation::WildcardCoversPrefix));
                own.len() >= least && own.starts_with(above)
            }
            exact => own == exact,
        };
        if covered {
            held |= 1 << word as u32;
        }
    }
    held
}

/// A role assignment or role as the resource manager's operations see it.
#[derive(Clone, Debug)]
pub struct ManagementRule {
    /// Where it holds.
    pub scope: String,
    /// `actions`.
    pub actions: Vec<String>,
    /// `notActions`.
    pub not_actions: Vec<String>,
    /// Its condition.
    pub condition: Option<String>,
}

/// A deny assignment.
#[derive(Clone, Debug)]
pub struct DenyRule {
    /// Where, what, and when.
    pub rule: ManagementRule,
    /// `doNotApplyToChildScopes`.
    pub here_only: bool,
}

/// Section 10 for an operation of the resource manager: an assignment gives it, and no deny assignment takes it away.
pub fn manages(
    grants: &[ManagementRule],
    denials: &[DenyRule],
    action: &str,
    scope: &str,
    mutation: Option<Mutation>,
) -> bool {
    let covered = |rule: &ManagementRule| {
        let subtracts = mutation != Some(Mutation::NotActionsIgnored);
        rule.actions.iter().any(|pattern| covers(pattern, action))
            && !(subtracts && rule.not_actions.iter().any(|pattern| covers(pattern, action)))
    };
    let answer = |rule: &ManagementRule| {
        let Some(text) = &rule.condition else { return Some(true) };
        let condition = Condition::read(text).expect("a condition");
        condition.holds(&Attributes { action, repository: None }, mutation)
    };
    let given = grants.iter().any(|rule| {
        let unknown = mutation == Some(Mutation::ConditionFaultHolds);
        within(scope, &rule.scope, mutation)
            && covered(rule)
            && (answer(rule).unwrap_or(unknown) || mutation == Some(Mutation::ConditionIgnored))
    });
    let taken = denials.iter().any(|DenyRule { rule, here_only }| {
        let reaches = within(scope, &rule.scope, mutation)
            && (!here_only || within(&rule.scope, scope, mutation) || mutation == Some(Mutation::DenyReachesBelow));
        // What cannot be known takes away.
        reaches && covered(rule) && answer(rule).unwrap_or(true)
    });
    given && (!taken || mutation == Some(Mutation::DenyIgnored))
}
