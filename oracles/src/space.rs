//! The finite part of what a decision depends on, every combination of it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use postern_access::{Inputs, evaluate, rights};

use crate::rights::set;
use crate::{
    Assignment, Caller, Claim, LockedParts, Oracle, Origin, Registry, ScopedToken, Server, Way, Who, Wish, Word, Words,
    Workload, built_in, convert, differences, roles,
};

/// The registry that every case is about.
pub const REGISTRY: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/example";
/// A subnet.
pub const SUBNET: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/a";
/// Another subnet.
pub const OTHER_SUBNET: &str =
    "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/n/subnets/b";
/// A private endpoint.
pub const ENDPOINT: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/e";
/// Another private endpoint.
pub const OTHER_ENDPOINT: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/privateEndpoints/f";

/// The caller's group.
pub const GROUP: u8 = 9;
/// The workload's system-assigned identity.
pub const SYSTEM: u8 = 1;
/// The workload's user-assigned identity.
pub const USER: u8 = 2;
/// A service principal of no workload.
pub const OTHER: u8 = 3;
/// The workload.
pub const WORKLOAD: u8 = 1;
/// Another workload.
pub const OTHER_WORKLOAD: u8 = 2;

/// Types of the workloads: every service, one that is not trusted, and one that is in no table.
pub const WORKLOADS: [&str; 8] = [
    "Microsoft.ContainerInstance/containerGroups",
    "Microsoft.Security/scanners",
    "Microsoft.MachineLearningServices/workspaces",
    "Microsoft.ContainerRegistry/importers",
    "Microsoft.ContainerRegistry/registries/tasks",
    "Microsoft.ContainerRegistry/registries/runs",
    "Microsoft.Web/sites",
    "Microsoft.ContainerService/managedClusters",
];

/// Every operation of the data plane.
pub const OPERATIONS: [&str; 21] = [
    "ping",
    "exchangeToken",
    "issueToken",
    "listCatalog",
    "pullManifest",
    "pullBlob",
    "listReferrers",
    "listTags",
    "pushBlob",
    "mountBlob",
    "pushManifest",
    "deleteManifest",
    "deleteBlob",
    "untag",
    "readMetadata",
    "writeMetadata",
    "writeQuarantine",
    "deleteRepository",
    "listDeletedCatalog",
    "listDeleted",
    "restoreDeleted",
];

/// Conditions that stand for the forms in use: one repository, a prefix, an unlisted action, a negation, no answer.
pub const CONDITIONS: [&str; 6] = [
    "(!(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'}) AND \
     !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/metadata/read'})) OR \
     (@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase 'team/app')",
    "!(ActionMatches{'Microsoft.ContainerRegistry/registries/*/write'}) || \
     @Request[Microsoft.ContainerRegistry/registries/repositories:name] StringStartsWithIgnoreCase 'Team/'",
    "NOT ActionMatches{'Microsoft.ContainerRegistry/registries/pull/read'} OR \
     @Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEquals 'team/app'",
    "@Request[Microsoft.ContainerRegistry/registries/repositories:name] ForAnyOfAnyValues:StringLike {'team/?pp', 'x'}",
    "NOT @Environment[isPrivateLink] BoolEquals true",
    "Exists @Request[Microsoft.ContainerRegistry/registries/repositories:name] AND \
     (ActionMatches{'*/read'} OR @Principal[a:b] StringEquals 'c')",
];

/// A part of the whole: every combination of its five axes.
pub struct Space {
    /// What it varies.
    pub name: &'static str,
    /// Registry and server.
    pub settings: Vec<(Registry, Server)>,
    /// Where the request comes from.
    pub origins: Vec<Origin>,
    /// As whom.
    pub callers: Vec<Caller>,
    /// What it wants.
    pub wishes: Vec<Wish>,
    /// The locks on it.
    pub locked: Vec<Option<LockedParts>>,
}

/// What a comparison over a space came to.
#[derive(Debug)]
pub struct Compared {
    /// Decisions compared.
    pub decisions: u64,
    /// The first differences.
    pub differences: Vec<String>,
}

impl Space {
    /// All of them.
    pub fn all() -> Vec<Self> {
        vec![
            Self::network(),
            Self::endpoints(),
            Self::identities(),
            Self::assignments(),
            Self::pairs(),
            Self::locks(),
            Self::quarantine(),
        ]
    }

    /// How many decisions.
    pub fn size(&self) -> u64 {
        let lengths =
            [self.settings.len(), self.origins.len(), self.callers.len(), self.wishes.len(), self.locked.len()];
        lengths.iter().map(|length| *length as u64).product()
    }

    /// Every setting of the gate for the public endpoint, every workload with every set of identities, every kind of credentials.
    pub fn network() -> Self {
        let mut settings = Vec::new();
        let rules: [&[&str]; 3] = [&[], &["198.51.100.0/24", "10.0.0.0/8"], &["192.0.2.0/24", "203.0.113.9"]];
        let subnets: [&[&str]; 3] = [&[], &[SUBNET], &[OTHER_SUBNET]];
        for public in [false, true] {
            for default_allow in [false, true] {
                for ip_rules in rules {
                    for subnets in subnets {
                        for bypass in ["AzureServices", "None"] {
                            for tasks in [None, Some(false), Some(true)] {
                                for server in servers() {
                                    let registry = Registry {
                                        public,
                                        default_allow,
                                        ip_rules: owned(ip_rules),
                                        subnets: owned(subnets),
                                        bypass,
                                        tasks,
                                        ..self::registry()
                                    };
                                    settings.push((registry, server));
                                }
                            }
                        }
                    }
                }
            }
        }
        let ways =
            [(Way::Public, "198.51.100.7"), (Way::Public, "2001:db8::7"), (Way::Subnet(SUBNET.to_owned()), "10.1.0.4")];
        Self {
            name: "network",
            settings,
            origins: origins(&ways),
            callers: network_callers(),
            wishes: vec![wish("pullManifest", Some("team/app"))],
            locked: vec![None],
        }
    }

    /// Every status of private endpoint connections, alone and in pairs, with the settings that must not matter.
    pub fn endpoints() -> Self {
        let one = |endpoint: &str, status| (endpoint.to_owned(), status);
        let mut connections = vec![vec![]];
        let statuses = ["Approved", "Pending", "Rejected", "Disconnected"];
        for status in statuses {
            connections.push(vec![one(ENDPOINT, status)]);
            for other in statuses {
                connections.push(vec![one(ENDPOINT, status), one(ENDPOINT, other)]);
                connections.push(vec![one(OTHER_ENDPOINT, other), one(ENDPOINT, status)]);
            }
        }
        let mut settings = Vec::new();
        for connections in connections {
            for public in [false, true] {
                for default_allow in [false, true] {
                    for bypass in ["AzureServices", "None"] {
                        for lists in 0..4 {
                            let ip_rules: &[&str] = if lists & 1 == 0 { &[] } else { &["0.0.0.0/0"] };
                            let subnets: &[&str] = if lists & 2 == 0 { &[] } else { &[SUBNET] };
                            let registry = Registry {
                                public,
                                default_allow,
                                bypass,
                                ip_rules: owned(ip_rules),
                                subnets: owned(subnets),
                                connections: connections.clone(),
                                ..registry()
                            };
                            settings.push((registry, Server::default()));
                        }
                    }
                }
            }
        }
        let ways = [
            (Way::Endpoint(ENDPOINT.to_owned()), "10.1.0.4"),
            (Way::Endpoint(OTHER_ENDPOINT.to_uppercase()), "10.1.0.4"),
            (Way::Endpoint("/subscriptions/s/e".to_owned()), "10.1.0.4"),
            (Way::Public, "198.51.100.7"),
            (Way::Misrouted, "10.1.0.4"),
        ];
        Self {
            name: "private endpoints",
            settings,
            origins: origins(&ways),
            callers: network_callers(),
            wishes: vec![wish("pullManifest", Some("team/app"))],
            locked: vec![None],
        }
    }

    /// Callers that are no roles: every kind of credentials and reason for them not to hold, every claim, every operation.
    pub fn identities() -> Self {
        let scope_maps: [&[&str]; 14] = [
            &[],
            &["repositories/team/app/content/read"],
            &["repositories/team/app/content/write"],
            &["repositories/team/app/content/read", "repositories/team/app/content/write"],
            &["repositories/team/app/content/delete"],
            &["repositories/team/app/metadata/read"],
            &["repositories/team/app/metadata/write"],
            &["repositories/team/*/content/read"],
            &["repositories/team/*/content/write", "repositories/team/app/content/read"],
            &["repositories/*/content/read"],
            &["repositories/*/metadata/read", "repositories/*/content/delete"],
            &["repositories/team/app/*/content/read"],
            &["repositories/te/*/content/read"],
            &["repositories/team/content/read"],
        ];
        let mut tokens = vec![None];
        for scope_map in scope_maps {
            for enabled in [false, true] {
                tokens.push(Some(ScopedToken { enabled, scope_map: owned(scope_map) }));
            }
        }
        let mut settings = Vec::new();
        for abac in [false, true] {
            for admin in [false, true] {
                for anonymous in [false, true] {
                    for scanner in [false, true] {
                        for token in &tokens {
                            let token = token.clone();
                            let registry = Registry { abac, admin, anonymous, scanner, token, ..open() };
                            settings.push((registry, Server::default()));
                        }
                    }
                }
            }
        }
        let mut callers = vec![caller(Who::Nobody, None)];
        callers.extend(convert::INVALID.map(|why| caller(Who::Invalid(format!("{why:?}")), None)));
        let principal = |first_party| Who::Principal { id: OTHER, groups: vec![GROUP], first_party };
        let token = || Who::Token("robot".to_owned());
        for who in [Who::Anonymous, Who::Admin, token(), principal(false), principal(true)] {
            callers.extend(claims().into_iter().map(|claim| caller(who.clone(), claim)));
        }
        Self { name: "identities", settings, origins: vec![internet()], callers, wishes: wishes(), locked: vec![None] }
    }

    /// Every built-in role in either mode, to the caller, its group or somebody else, with every form of condition.
    pub fn assignments() -> Self {
        let mut settings = Vec::new();
        for abac in [false, true] {
            for scanner in [false, true] {
                for (role, ..) in roles::BUILT_IN {
                    for principal in [OTHER, GROUP, USER] {
                        for condition in [None].into_iter().chain(CONDITIONS.map(Some)) {
                            let given = Assignment::new("1", principal, REGISTRY, built_in(role), condition);
                            let registry = Registry { abac, scanner, assignments: vec![given], ..open() };
                            settings.push((registry, Server::default()));
                        }
                    }
                }
            }
        }
        let principal = |first_party| Who::Principal { id: OTHER, groups: vec![GROUP], first_party };
        let of = |who: Who| claims().into_iter().map(move |claim| caller(who.clone(), claim));
        Self {
            name: "assignments",
            settings,
            origins: vec![internet()],
            callers: of(principal(false)).chain(of(principal(true))).collect(),
            wishes: wishes(),
            locked: vec![None],
        }
    }

    /// Every two built-in roles together, one of them by a group and under a condition.
    pub fn pairs() -> Self {
        let mut settings = Vec::new();
        for abac in [false, true] {
            for (first, ..) in roles::BUILT_IN {
                for (second, ..) in roles::BUILT_IN {
                    for condition in [None, Some(CONDITIONS[0]), Some(CONDITIONS[4])] {
                        let assignments = vec![
                            Assignment::new("1", OTHER, "/subscriptions/s", built_in(first), None),
                            Assignment::new("2", GROUP, REGISTRY, built_in(second), condition),
                        ];
                        settings.push((Registry { abac, assignments, ..open() }, Server::default()));
                    }
                }
            }
        }
        let who = Who::Principal { id: OTHER, groups: vec![GROUP], first_party: false };
        let some = [
            None,
            Some(Claim {
                repositories: vec![("team/app".to_owned(), PULL | PUSH)],
                catalog: true,
                deleted_catalog: false,
            }),
        ];
        Self {
            name: "pairs of assignments",
            settings,
            origins: vec![internet()],
            callers: some.into_iter().map(|claim| caller(who.clone(), claim)).collect(),
            wishes: wishes(),
            locked: vec![None],
        }
    }

    /// Every set of locks on repository, tag and manifest, for every operation.
    pub fn locks() -> Self {
        const ATTRIBUTES: [&str; 4] = ["writeEnabled", "deleteEnabled", "readEnabled", "listEnabled"];
        let some = |bits: usize| -> Vec<String> {
            let chosen = ATTRIBUTES.iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            chosen.map(|(_, name)| (*name).to_owned()).collect()
        };
        let locked = |bits: usize| LockedParts {
            repository: some(bits & 15),
            tag: some(bits >> 4 & 15),
            manifest: some(bits >> 8 & 15),
            quarantined: false,
        };
        Self {
            name: "locks",
            settings: vec![(Registry { admin: true, ..open() }, Server::default())],
            origins: vec![internet()],
            callers: vec![caller(Who::Admin, None)],
            wishes: wishes(),
            locked: (0..1 << 12).map(|bits| Some(locked(bits))).collect(),
        }
    }

    /// The quarantine on and off, for every built-in role in either mode, every claim and every operation by tag and digest.
    pub fn quarantine() -> Self {
        let mut settings = Vec::new();
        for abac in [false, true] {
            for quarantine in [false, true] {
                for (role, ..) in roles::BUILT_IN {
                    let given = Assignment::new("1", OTHER, REGISTRY, built_in(role), None);
                    let registry = Registry { abac, quarantine, assignments: vec![given], ..open() };
                    settings.push((registry, Server::default()));
                }
            }
        }
        let who = || Who::Principal { id: OTHER, groups: Vec::new(), first_party: false };
        let mut wishes = wishes();
        wishes.extend(wishes.clone().into_iter().map(|wish| Wish { by_digest: true, ..wish }));
        let locked = |quarantined| Some(LockedParts { quarantined, ..LockedParts::default() });
        Self {
            name: "quarantine",
            settings,
            origins: vec![internet()],
            callers: claims().into_iter().map(|claim| caller(who(), claim)).collect(),
            wishes,
            locked: vec![locked(false), locked(true)],
        }
    }

    /// Compares every decision of the space, on as many threads as there are processors; stops after `enough` differences.
    pub fn compare(&self, oracle: Oracle, enough: usize) -> Compared {
        let origins: Vec<_> = self.origins.iter().map(convert::origin).collect();
        let callers: Vec<_> = self.callers.iter().map(convert::credential).collect();
        let wishes: Vec<_> = self.wishes.iter().map(convert::operation).collect();
        let (next, decisions) = (AtomicUsize::new(0), AtomicU64::new(0));
        let work = || {
            let mut found = Vec::new();
            while let Some((registry, server)) = self.settings.get(next.fetch_add(1, Ordering::Relaxed)) {
                let rules = convert::rules(registry, server);
                let mut count = 0;
                for (origin, real_origin) in self.origins.iter().zip(&origins) {
                    for (caller, credential) in self.callers.iter().zip(&callers) {
                        for (wish, operation) in self.wishes.iter().zip(&wishes) {
                            for locked in &self.locked {
                                let content = locked.as_ref().map(|locked| convert::content(locked, wish));
                                let answer = oracle.judge(registry, server, origin, caller, wish, locked.as_ref());
                                let content = content.as_ref();
                                let inputs =
                                    Inputs { origin: real_origin, rules: &rules, credential, operation, content };
                                let difference = differences(&answer, &evaluate(&inputs));
                                count += 1;
                                if let Some(difference) = difference {
                                    found.push(format!(
                                        "{difference}\n  in {registry:?}\n  {server:?}\n  {origin:?}\n  {caller:?}\n  \
                                         {wish:?} {locked:?}"
                                    ));
                                }
                            }
                        }
                    }
                    if found.len() >= enough {
                        next.store(self.settings.len(), Ordering::Relaxed);
                        break;
                    }
                }
                found.extend(self.compare_rights(oracle, registry, &rules));
                decisions.fetch_add(count, Ordering::Relaxed);
            }
            found
        };
        let threads = thread::available_parallelism().map_or(1, Into::into);
        let differences = thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            running.into_iter().flat_map(|thread| thread.join().expect("a comparing thread")).collect()
        });
        Compared { decisions: decisions.into_inner(), differences }
    }

    fn compare_rights(
        &self,
        oracle: Oracle,
        registry: &Registry,
        rules: &postern_access::RegistryRules,
    ) -> Vec<String> {
        let mut found = Vec::new();
        for caller in self.callers.iter().filter(|caller| caller.claim.is_none()) {
            let Some(real) = convert::caller(&caller.who) else { continue };
            for repository in [None, Some("team/app"), Some("other")] {
                let name = repository.map(|name| name.parse().expect("a repository name"));
                let given = convert::words(rights(rules, &real, name.as_ref()));
                let expected = oracle.rights(registry, &caller.who, repository);
                if given != expected {
                    found.push(format!(
                        "rights of {:?} on {repository:?} are {:?}, the oracle says {:?}, in {registry:?}",
                        caller.who,
                        convert::actions(given),
                        convert::actions(expected)
                    ));
                }
            }
        }
        found
    }
}

const PULL: Words = set(&[Word::Pull]);
const PUSH: Words = set(&[Word::Push]);

/// A registry closed to the public, the caller with a right to pull.
fn registry() -> Registry {
    Registry {
        id: REGISTRY.to_owned(),
        public: false,
        default_allow: false,
        ip_rules: Vec::new(),
        subnets: Vec::new(),
        connections: vec![(ENDPOINT.to_owned(), "Approved")],
        bypass: "AzureServices",
        tasks: None,
        abac: false,
        admin: true,
        anonymous: false,
        scanner: false,
        quarantine: false,
        assignments: vec![Assignment::new("1", SYSTEM, "/", built_in("AcrPull"), None)],
        token: None,
    }
}

/// A registry open to the public, and nobody has any right.
pub fn open() -> Registry {
    Registry { public: true, default_allow: true, admin: false, assignments: Vec::new(), ..registry() }
}

fn internet() -> Origin {
    Origin { way: Way::Public, address: "203.0.113.9".to_owned(), workload: Workload::None }
}

fn servers() -> Vec<Server> {
    let mut servers = Vec::new();
    for date in ["pre-2025-05-16", "2025-05-31", "current"] {
        for switches in 0..16 {
            servers.push(Server {
                date: date.to_owned(),
                policy_requires_services: switches & 1 == 0,
                quick_runs: switches & 2 != 0,
                user_identities: switches & 4 != 0,
                aci: switches & 8 == 0,
            });
        }
    }
    servers
}

fn origins(ways: &[(Way, &str)]) -> Vec<Origin> {
    let mut workloads = vec![Workload::None, Workload::Rejected];
    for resource_type in WORKLOADS {
        let sets: [&[(u8, bool)]; 4] = [&[], &[(SYSTEM, true)], &[(USER, false)], &[(USER, false), (SYSTEM, true)]];
        for identities in sets {
            workloads.push(Workload::Verified {
                resource_type: resource_type.to_owned(),
                uid: WORKLOAD,
                identities: identities.to_vec(),
            });
        }
    }
    let every = |(way, address): &(Way, &str), workload: &Workload| Origin {
        way: way.clone(),
        address: (*address).to_owned(),
        workload: workload.clone(),
    };
    ways.iter().flat_map(|way| workloads.iter().map(move |workload| every(way, workload))).collect()
}

fn network_callers() -> Vec<Caller> {
    let mut callers = vec![
        caller(Who::Nobody, None),
        caller(Who::Invalid("Expired".to_owned()), None),
        caller(Who::Anonymous, None),
        caller(Who::Admin, None),
        caller(Who::Token("robot".to_owned()), None),
    ];
    for id in [SYSTEM, USER, OTHER] {
        for bound in [None, Some(WORKLOAD), Some(OTHER_WORKLOAD)] {
            let who = Who::Principal { id, groups: Vec::new(), first_party: false };
            callers.push(Caller { bound, ..caller(who, None) });
        }
    }
    callers
}

fn caller(who: Who, claim: Option<Claim>) -> Caller {
    Caller { who, claim, bound: None }
}

fn claims() -> Vec<Option<Claim>> {
    let all = set(&[Word::Delete, Word::MetadataRead, Word::MetadataWrite, Word::MetadataDelete]) | PULL | PUSH;
    let on = |repository: &str, words| {
        Some(Claim { repositories: vec![(repository.to_owned(), words)], ..Claim::default() })
    };
    vec![
        None,
        Some(Claim::default()),
        Some(Claim { catalog: true, ..Claim::default() }),
        Some(Claim { deleted_catalog: true, ..Claim::default() }),
        on("team/app", set(&[Word::DeletedRead])),
        on("team/app", set(&[Word::DeletedRead, Word::DeletedRestore])),
        on("team/app", PULL),
        on("team/app", PULL | PUSH),
        on("team/app", set(&[Word::Delete])),
        on("team/app", set(&[Word::MetadataRead])),
        on("team/app", set(&[Word::MetadataWrite])),
        on("team/app", all),
        on("other", all),
    ]
}

fn wishes() -> Vec<Wish> {
    let mut wishes = Vec::new();
    for operation in OPERATIONS {
        if ["ping", "exchangeToken", "issueToken", "listCatalog", "listDeletedCatalog"].contains(&operation) {
            wishes.push(wish(operation, None));
        } else {
            wishes.extend(["team/app", "team", "other"].map(|repository| wish(operation, Some(repository))));
        }
    }
    wishes
}

fn wish(operation: &'static str, repository: Option<&str>) -> Wish {
    Wish { operation, repository: repository.map(str::to_owned), by_digest: false }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
