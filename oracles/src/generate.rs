//! Cases made from a tape of choices. A shorter or lower tape makes a simpler case, so that a failing one shrinks.

use crate::rights::{Words, set};
use crate::space::{ENDPOINT, GROUP, OPERATIONS, OTHER, OTHER_SUBNET, REGISTRY, SUBNET, SYSTEM, USER, WORKLOADS, open};
use crate::{
    Assignment, Caller, Claim, DenyRule, LockedParts, ManagementRule, Origin, Registry, Role, ScopedToken, Server, Way,
    Who, Wish, Word, Workload, built_in, roles,
};

/// Choices, taken one after the other; behind the end every choice is the first.
#[derive(Clone, Debug)]
pub struct Tape<'a> {
    choices: &'a [u8],
}

/// A request to a registry.
#[derive(Clone, Debug)]
pub struct Case {
    /// The registry.
    pub registry: Registry,
    /// The server.
    pub server: Server,
    /// Where from.
    pub origin: Origin,
    /// As whom.
    pub caller: Caller,
    /// What.
    pub wish: Wish,
    /// The locks on it.
    pub locked: Option<LockedParts>,
}

const OPERATIONS_OF_REGISTRIES: [&str; 14] = [
    "Microsoft.ContainerRegistry/registries/quarantine/read",
    "Microsoft.ContainerRegistry/registries/quarantinedArtifacts/write",
    "Microsoft.ContainerRegistry/registries/pull/read",
    "Microsoft.ContainerRegistry/registries/push/write",
    "Microsoft.ContainerRegistry/registries/artifacts/delete",
    "Microsoft.ContainerRegistry/registries/metadata/read",
    "Microsoft.ContainerRegistry/registries/repositories/content/read",
    "Microsoft.ContainerRegistry/registries/repositories/content/write",
    "Microsoft.ContainerRegistry/registries/repositories/metadata/write",
    "Microsoft.ContainerRegistry/registries/catalog/read",
    "Microsoft.ContainerRegistry/registries/sign/write",
    "Microsoft.ContainerRegistry/registries/write",
    "Microsoft.ContainerRegistry/registries/tasks/read",
    "Microsoft.Authorization/roleAssignments/write",
];

const NAME: &str = "@Request[Microsoft.ContainerRegistry/registries/repositories:name]";

impl<'a> Tape<'a> {
    /// A tape of these choices.
    pub const fn new(choices: &'a [u8]) -> Self {
        Self { choices }
    }

    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        let Some((first, rest)) = self.choices.split_first() else { return 0 };
        self.choices = rest;
        usize::from(*first) % count
    }

    /// One of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Yes, once in `of` times.
    pub fn rarely(&mut self, of: usize) -> bool {
        self.below(of) == of - 1
    }

    fn yes(&mut self) -> bool {
        self.rarely(2)
    }

    fn list<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| make(self)).collect()
    }

    /// A request to a registry.
    pub fn case(&mut self) -> Case {
        let repository = self.repository();
        let operation = self.one(&OPERATIONS);
        let concerns_registry =
            ["ping", "exchangeToken", "issueToken", "listCatalog", "listDeletedCatalog"].contains(&operation);
        let base = self.below(3);
        Case {
            registry: self.registry(),
            server: self.server(),
            origin: self.origin(base),
            caller: self.caller(&repository),
            wish: Wish { operation, repository: (!concerns_registry).then_some(repository), by_digest: self.yes() },
            locked: self.rarely(4).then(|| LockedParts {
                repository: self.locks(),
                tag: self.locks(),
                manifest: self.locks(),
                quarantined: self.yes(),
            }),
        }
    }

    fn locks(&mut self) -> Vec<String> {
        self.list(2, |tape| tape.one(&["writeEnabled", "deleteEnabled", "readEnabled", "listEnabled"]).to_owned())
    }

    fn registry(&mut self) -> Registry {
        let closed = self.below(4) < 2;
        let subnets: &[&str] = if self.rarely(4) { &[SUBNET, OTHER_SUBNET] } else { &[] };
        Registry {
            public: !closed || self.yes(),
            default_allow: !closed,
            ip_rules: self.list(4, Self::ip_rule),
            subnets: self.list(subnets.len(), |tape| {
                let subnet = tape.one(subnets);
                tape.recased(subnet)
            }),
            connections: self.list(2, |tape| {
                let status = tape.one(&["Approved", "Pending", "Rejected", "Disconnected"]);
                (tape.recased(ENDPOINT), status)
            }),
            bypass: self.one(&["AzureServices", "None"]),
            tasks: self.one(&[None, Some(false), Some(true)]),
            abac: self.yes(),
            admin: self.yes(),
            anonymous: self.yes(),
            scanner: self.yes(),
            quarantine: self.rarely(3),
            assignments: {
                let mut number = 0;
                self.list(5, |tape| {
                    number += 1;
                    let (principal, scope, role) = (tape.one(&[OTHER, GROUP, SYSTEM, USER]), tape.scope(), tape.role());
                    let condition = tape.rarely(3).then(|| tape.condition(2));
                    Assignment::new(&format!("a{number}"), principal, &scope, role, condition.as_deref())
                })
            },
            token: self
                .yes()
                .then(|| ScopedToken { enabled: !self.rarely(4), scope_map: self.list(4, Self::scope_map) }),
            ..open()
        }
    }

    /// A rule about one of three neighbourhoods, of any length.
    fn ip_rule(&mut self) -> String {
        let base = self.below(3);
        let address = self.address(base);
        match self.below(40) {
            0..7 => address,
            bits => format!("{address}/{}", bits - 7),
        }
    }

    /// An address a few bits away from one of three.
    fn address(&mut self, base: usize) -> String {
        let mut bits = [0xC633_6407_u32, 0xCB00_7109, 0x0A01_0004][base];
        for _ in 0..self.below(4) {
            bits ^= 1 << self.below(32);
        }
        let [a, b, c, d] = bits.to_be_bytes();
        format!("{a}.{b}.{c}.{d}")
    }

    fn server(&mut self) -> Server {
        let dates = [
            "current",
            "grace",
            "pre-2025-05-16",
            "2025-05-15",
            "2025-05-16",
            "2025-05-31",
            "2025-06-01",
            "2024-12-31",
        ];
        Server {
            date: self.one(&dates).to_owned(),
            policy_requires_services: !self.rarely(3),
            quick_runs: self.rarely(3),
            user_identities: self.rarely(3),
            aci: !self.rarely(3),
        }
    }

    fn origin(&mut self, base: usize) -> Origin {
        let way = match self.below(8) {
            0..5 => Way::Public,
            5 => Way::Subnet(self.recased(SUBNET)),
            6 => Way::Endpoint(self.recased(ENDPOINT)),
            _ => Way::Misrouted,
        };
        let address = match self.below(8) {
            0 => "2001:db8::7".to_owned(),
            1 => format!("::ffff:{}", self.address(base)),
            _ => self.address(base),
        };
        let workload = match self.below(6) {
            0 | 1 => Workload::None,
            2 => Workload::Rejected,
            _ => Workload::Verified {
                resource_type: self.one(&WORKLOADS).to_owned(),
                uid: self.one(&[1, 2]),
                identities: self.list(2, |tape| tape.one(&[(SYSTEM, true), (USER, false), (OTHER, false)])),
            },
        };
        Origin { way, address, workload }
    }

    fn caller(&mut self, repository: &str) -> Caller {
        let who = match self.below(12) {
            0 => Who::Nobody,
            1 => Who::Invalid("Expired".to_owned()),
            2 => Who::Anonymous,
            3 => Who::Admin,
            4 | 5 => Who::Token(self.one(&["robot", "Robot"]).to_owned()),
            _ => Who::Principal {
                id: self.one(&[OTHER, SYSTEM, USER]),
                groups: self.list(1, |_| GROUP),
                first_party: self.rarely(8),
            },
        };
        let claim = self.rarely(3).then(|| Claim {
            repositories: self.list(2, |tape| {
                let name = if tape.yes() { tape.repository() } else { repository.to_owned() };
                (name, tape.words())
            }),
            catalog: self.yes(),
            deleted_catalog: self.yes(),
        });
        let verified = !matches!(who, Who::Nobody | Who::Invalid(_));
        let bound = (verified && self.rarely(6)).then(|| self.one(&[1, 2]));
        Caller { who, claim, bound }
    }

    fn words(&mut self) -> Words {
        const ALL: [Word; 8] = [
            Word::Pull,
            Word::Push,
            Word::Delete,
            Word::MetadataRead,
            Word::MetadataWrite,
            Word::MetadataDelete,
            Word::DeletedRead,
            Word::DeletedRestore,
        ];
        (0..self.below(4)).fold(0, |all, _| all | set(&[self.one(&ALL)]))
    }

    /// A repository's name out of few segments, some the beginning of others.
    pub fn repository(&mut self) -> String {
        let segments = ["team", "app", "te", "team-a", "apps", "42", "a"];
        let mut name = self.one(&segments).to_owned();
        for _ in 0..self.below(3) {
            name = format!("{name}/{}", self.one(&segments));
        }
        name
    }

    fn scope_map(&mut self) -> String {
        let verb = self.one(&["content/read", "content/write", "content/delete", "metadata/read", "metadata/write"]);
        let name = match self.below(4) {
            0 | 1 => self.repository(),
            2 => format!("{}/*", self.repository()),
            _ => "*".to_owned(),
        };
        format!("repositories/{name}/{verb}")
    }

    /// The text with some letters in the other case.
    fn recased(&mut self, text: &str) -> String {
        match self.below(4) {
            0 | 1 => text.to_owned(),
            2 => text.to_uppercase(),
            _ => text.to_lowercase(),
        }
    }

    /// A scope above the registry, or one that only looks so.
    fn scope(&mut self) -> String {
        let segments: Vec<&str> = REGISTRY.split('/').collect();
        let depth = self.one(&[segments.len(), 3, 5, 1]);
        let whole = segments[..depth].join("/");
        let scope = match self.below(6) {
            0..3 => self.recased(&whole),
            3 => whole[..whole.len().saturating_sub(1 + self.below(3))].trim_end_matches('/').to_owned(),
            4 => format!("{whole}{}", self.one(&["x", "/", "/x", "//"])),
            _ => format!("{whole}/providers/Microsoft.Other/things/t"),
        };
        if scope.starts_with('/') { scope } else { format!("/{scope}") }
    }

    fn role(&mut self) -> Role {
        if self.below(3) < 2 {
            let (name, ..) = self.one(&roles::BUILT_IN);
            return built_in(name);
        }
        Role {
            name: "custom".to_owned(),
            actions: self.list(3, Self::pattern),
            not_actions: self.list(2, Self::pattern),
            data_actions: self.list(3, Self::pattern),
            not_data_actions: self.list(2, Self::pattern),
        }
    }

    /// The name of an operation with some of it made a wildcard.
    fn pattern(&mut self) -> String {
        let name = self.one(&OPERATIONS_OF_REGISTRIES);
        let parts: Vec<&str> = name.split('/').collect();
        let pattern = match self.below(6) {
            0 | 1 => name.to_owned(),
            2 => format!("*/{}", parts[parts.len() - 1]),
            3 => format!("{}/*", parts[..parts.len() - 1].join("/")),
            4 => format!("{}*{}", &name[..self.below(name.len())], &name[name.len() - self.below(8)..]),
            _ => "*".to_owned(),
        };
        self.recased(&pattern)
    }

    /// A condition's text.
    pub fn condition(&mut self, depth: usize) -> String {
        let inner = depth.saturating_sub(1);
        match if depth == 0 { self.below(5) } else { self.below(9) } {
            0 => format!("ActionMatches{{'{}'}}", self.pattern()),
            1..4 => self.comparison(),
            4 => match self.below(4) {
                0 => format!("Exists {NAME}"),
                1 => format!("{NAME} NotExists"),
                2 => "@Environment[isPrivateLink] BoolEquals true".to_owned(),
                _ => "NotExists @Principal[a:b]".to_owned(),
            },
            5 => format!("{}({})", self.one(&["!", "NOT ", "not"]), self.condition(inner)),
            joined => {
                let by =
                    if joined == 6 { self.one(&[" AND ", "&&", " and "]) } else { self.one(&[" OR ", "||", " Or "]) };
                let operands: Vec<String> =
                    (0..2 + self.below(2)).map(|_| format!("({})", self.condition(inner))).collect();
                operands.join(by)
            }
        }
    }

    fn comparison(&mut self) -> String {
        let quantifier =
            self.one(&["", "ForAnyOfAnyValues:", "ForAllOfAnyValues:", "ForAnyOfAllValues:", "ForAllOfAllValues:"]);
        let not = self.one(&["", "Not"]);
        let (operator, values): (String, &[&str]) = match self.below(8) {
            0..4 => {
                let test = self.one(&["Equals", "StartsWith", "Like"]);
                let case = self.one(&["", "IgnoreCase"]);
                let values: &[&str] = match test {
                    "Like" => &["'team/*'", "'*'", "'te?m*'", "'*PP'", "'team'", r"'te\*'", r"'\?'"],
                    _ => &["'team'", "'team/app'", "'TEAM/'", "''", r"'it\'s'", r"'a\\b'"],
                };
                (format!("String{not}{test}{case}"), values)
            }
            4 | 5 => {
                let test = self.one(&["Equals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]);
                let not = if test == "Equals" { not } else { "" };
                (format!("Numeric{not}{test}"), &["42", "0", "-7", "'42'", "100"])
            }
            6 => {
                let test = self.one(&["Equals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"]);
                let not = if test == "Equals" { not } else { "" };
                let moments = &[
                    "'2024-02-29T12:00:00Z'",
                    "'2024-02-29T14:00:00+02:00'",
                    "'2025-01-01T00:00:00.5Z'",
                    "'1999-12-31T23:59:59Z'",
                ];
                (format!("DateTime{not}{test}"), moments)
            }
            _ if self.yes() => (format!("Bool{not}Equals"), &["true", "false", "'True'"]),
            _ => {
                let ids = &[
                    "'a1d0c6e8-3f02-4327-9846-1063f4ac58a6'",
                    "'A1D0C6E8-3F02-4327-9846-1063F4AC58A6'",
                    "'00000000-0000-0000-0000-000000000000'",
                ];
                (format!("Guid{not}Equals"), ids)
            }
        };
        let side = |tape: &mut Self| match quantifier {
            "" => tape.one(values).to_owned(),
            _ => format!("{{{}, {}}}", tape.one(values), tape.one(values)),
        };
        // A pattern has its place on the right only.
        let left = if self.rarely(3) && !operator.contains("Like") { side(self) } else { NAME.to_owned() };
        let right = side(self);
        format!("{left} {quantifier}{operator} {right}")
    }

    /// Role assignments, deny assignments, an operation and its scope.
    pub fn management(&mut self) -> (Vec<ManagementRule>, Vec<DenyRule>, String, String) {
        let rule = |tape: &mut Self| ManagementRule {
            scope: tape.scope(),
            actions: tape.list(2, Self::pattern),
            not_actions: tape.list(1, Self::pattern),
            condition: tape.rarely(5).then(|| tape.condition(1)),
        };
        let grants = self.list(3, rule);
        let denials = self.list(2, |tape| DenyRule { rule: rule(tape), here_only: tape.yes() });
        let scope = self.one(&[REGISTRY, "/subscriptions/s/resourceGroups/g", "/subscriptions/s", "/"]).to_owned();
        (grants, denials, self.one(&OPERATIONS_OF_REGISTRIES).to_owned(), scope)
    }
}
