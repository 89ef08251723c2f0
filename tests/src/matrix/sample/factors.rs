//! What a row may be made of, and what of it goes together.

use postern_access::OperationKind;

use crate::matrix::{Assignment, Identity, Locks, Place, Rejected, Row, Workload, WorkloadKind};

/// What a condition says that concerns reading content, but for the repository that it names.
const READING: &str = "!(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'}) OR \
    @Request[Microsoft.ContainerRegistry/registries/repositories:name]";

/// Why credentials do not hold.
const INVALID: [&str; 12] = [
    "Malformed",
    "BadSignature",
    "Expired",
    "WrongAudience",
    "WrongTenant",
    "WrongKind",
    "RegistryReplaced",
    "ModeChanged",
    "ArmAudienceRefused",
    "UnknownCaller",
    "Disabled",
    "WrongPassword",
];

/// One part of a row, and what it may be.
pub(super) struct Factor {
    pub(super) name: &'static str,
    pub(super) values: Vec<Value>,
}

/// A value: its name, and what it makes of a row.
pub(super) struct Value {
    pub(super) name: String,
    pub(super) set: Box<dyn Fn(&mut Row)>,
}

fn value(name: impl Into<String>, set: impl Fn(&mut Row) + 'static) -> Value {
    Value { name: name.into(), set: Box::new(set) }
}

/// Values that stand for themselves.
fn texts(names: &[&'static str], set: fn(&mut Row, String)) -> Vec<Value> {
    names.iter().copied().map(|name| value(name, move |row| set(row, name.to_owned()))).collect()
}

fn flags(set: fn(&mut Row, bool)) -> Vec<Value> {
    [false, true].map(|on| value(if on { "on" } else { "off" }, move |row| set(row, on))).into()
}

/// Every factor. The large ones come first: they ask most of the others.
pub(super) fn factors() -> Vec<Factor> {
    let factor = |name, values| Factor { name, values };
    let places = Place::ALL.map(|place| value(place.as_str(), move |row| row.from.place = place));
    vec![
        factor("caller", callers()),
        factor("operation", operations()),
        factor("workload", workloads()),
        factor("place", places.into()),
        factor("role", roles()),
        factor("condition", conditions()),
        factor("claim", claims()),
        factor("locks", locks()),
        factor("IP rules", ip_rules()),
        factor("private endpoint", private_endpoints()),
        factor("switches", switches()),
        factor(
            "policy date",
            texts(&["current", "pre-2025-05-16", "grace", "2025-06-01"], |row, text| row.policy_date = text),
        ),
        factor("virtual network rules", subnets()),
        factor("tasks policy", texts(&["unset", "true", "false"], |row, text| row.registry.tasks_policy = text)),
        factor("public access", texts(&["Enabled", "Disabled"], |row, text| row.registry.public_access = text)),
        factor("default action", texts(&["Deny", "Allow"], |row, text| row.registry.default_action = text)),
        factor("bypass", texts(&["AzureServices", "None"], |row, text| row.registry.bypass = text)),
        factor(
            "mode",
            texts(&["LegacyRegistryPermissions", "AbacRepositoryPermissions"], |row, text| {
                row.registry.role_mode = text;
            }),
        ),
        factor("anonymous pull", flags(|row, on| row.registry.anonymous_pull = on)),
        factor("quarantine", quarantine()),
        factor("scanner plan", flags(|row, on| row.registry.scanner_plan = on)),
    ]
}

/// What is left of them when the wall is open, and the caller is somebody.
pub(super) fn behind_the_wall() -> Vec<Factor> {
    let mut factors = factors();
    let network = ["place", "IP rules", "private endpoint", "switches", "policy date", "virtual network rules"];
    factors.retain(|factor| !network.contains(&factor.name));
    for factor in &mut factors {
        match factor.name {
            "caller" => factor.values.retain(|value| value.name != "none" && !INVALID.contains(&value.name.as_str())),
            "public access" => factor.values.retain(|value| value.name == "Enabled"),
            "default action" => factor.values.retain(|value| value.name == "Allow"),
            _ => {}
        }
    }
    factors
}

fn operations() -> Vec<Value> {
    // That a request passes a manifest is in its body, which is not read before the caller is let in: of those who are not, something else
    // is recorded. The rows of `specs/access` show it.
    let told = OperationKind::ALL.into_iter().filter(|kind| *kind != OperationKind::WriteQuarantine);
    told.map(|kind| value(kind.as_str(), move |row| kind.as_str().clone_into(&mut row.operation.kind))).collect()
}

/// Callers, with what each needs to be itself.
fn callers() -> Vec<Value> {
    let mut callers = texts(&["none", "principal", "anonymous"], |row, text| row.caller.kind = text);
    callers.push(value("admin", |row| {
        "admin".clone_into(&mut row.caller.kind);
        row.registry.admin = true;
    }));
    for (name, actions) in [
        ("token that reads", ["repositories/team/app/content/read", "repositories/team/app/metadata/read"].as_slice()),
        ("token that deletes elsewhere", &["repositories/team/other/content/delete"]),
    ] {
        callers.push(value(name, move |row| {
            "token".clone_into(&mut row.caller.kind);
            row.caller.token.scope_map = actions.iter().map(|action| (*action).to_owned()).collect();
        }));
    }
    for (name, kind, bound) in [
        ("system identity", "system", "workload"),
        ("user identity", "user", "workload"),
        ("stolen token", "user", "other"),
        ("scanner", "scanner", "workload"),
    ] {
        callers.push(value(name, move |row| {
            kind.clone_into(&mut row.caller.kind);
            row.caller.bound = Some(bound.to_owned());
        }));
    }
    callers.extend(INVALID.map(|why| {
        value(why, move |row| {
            "invalid".clone_into(&mut row.caller.kind);
            row.caller.invalid = Some(why.to_owned());
        })
    }));
    callers
}

fn workloads() -> Vec<Value> {
    use Identity::{System, User};
    use WorkloadKind::{Cluster, ContainerGroup, Importer, Run, Scanner, Task, WebApp, Workspace};
    let workload = |name: &str, kind, identities: &'static [Identity], rejected| {
        value(name, move |row| row.from.workload = Some(Workload { kind, identities: identities.to_vec(), rejected }))
    };
    let both = &[System, User];
    vec![
        value("no workload", |_| {}),
        workload("container group: system, user", ContainerGroup, both, None),
        workload("container group: user", ContainerGroup, &[User], None),
        workload("container group: -", ContainerGroup, &[], None),
        workload("task: system, user", Task, both, None),
        workload("task: user", Task, &[User], None),
        workload("run: -", Run, &[], None),
        workload("workspace: system", Workspace, &[System], None),
        workload("workspace: user", Workspace, &[User], None),
        workload("scanner: -", Scanner, &[], None),
        workload("importer: -", Importer, &[], None),
        workload("web app: system, user", WebApp, both, None),
        workload("cluster: system, user", Cluster, both, None),
        workload("expired", ContainerGroup, both, Some(Rejected::Expired)),
        workload("unknown issuer", ContainerGroup, both, Some(Rejected::UnknownIssuer)),
        workload("malformed", ContainerGroup, both, Some(Rejected::Malformed)),
        workload("gone", ContainerGroup, both, Some(Rejected::ResourceGone)),
    ]
}

fn roles() -> Vec<Value> {
    let mut roles = vec![value("no role", |_| {})];
    for (role, by_group) in [
        ("AcrPull", false),
        ("AcrPush", true),
        ("AcrDelete", false),
        ("Owner", false),
        ("Reader", false),
        ("Container Registry Repository Reader", true),
        ("Container Registry Repository Contributor", false),
        ("Container Registry Repository Catalog Lister", false),
    ] {
        let name = if by_group { format!("{role}, by a group") } else { role.to_owned() };
        roles.push(value(name, move |row| {
            row.caller.also.push(Assignment { role: role.to_owned(), condition: None, by_group });
        }));
    }
    roles
}

/// Conditions on the role's assignment.
fn conditions() -> Vec<Value> {
    let mut conditions = vec![value("none", |_| {})];
    for (name, text) in [
        ("this repository", "StringEquals 'team/app'"),
        ("another repository", "StringEquals 'team/other'"),
        ("a prefix", "StringStartsWithIgnoreCase 'TEAM/'"),
    ] {
        conditions.push(value(name, move |row| {
            for assignment in &mut row.caller.also {
                assignment.condition = Some(format!("({READING} {text})"));
            }
        }));
    }
    conditions
}

fn claims() -> Vec<Value> {
    let claim = |entries: &'static [&'static str]| {
        value(format!("{entries:?}"), move |row| {
            row.caller.claim = Some(entries.iter().map(|entry| (*entry).to_owned()).collect());
        })
    };
    vec![
        value("everything", |_| {}),
        claim(&["team/app:pull"]),
        claim(&["team/app:pull,push"]),
        claim(&["team/other:pull,push"]),
    ]
}

/// What is locked on what the request touches.
fn locks() -> Vec<Value> {
    let mut locks = vec![value("no lock", |_| {})];
    let mut lock = |name, set: fn(&mut Locks)| {
        locks.push(value(name, move |row| set(row.locks.get_or_insert_default())));
    };
    lock("repository writeEnabled=false", |locks| locks.repository.push("writeEnabled".to_owned()));
    lock("repository readEnabled=false", |locks| locks.repository.push("readEnabled".to_owned()));
    lock("tag deleteEnabled=false", |locks| locks.tag.push("deleteEnabled".to_owned()));
    lock("manifest readEnabled=false", |locks| locks.manifest.push("readEnabled".to_owned()));
    locks
}

/// The policy, and whether somebody has passed what is read.
fn quarantine() -> Vec<Value> {
    let on = |name, quarantined| {
        value(name, move |row: &mut Row| {
            row.registry.quarantine = true;
            row.locks.get_or_insert_default().quarantined = quarantined;
        })
    };
    vec![value("off", |_| {}), on("on, passed", false), on("on, not passed", true)]
}

fn ip_rules() -> Vec<Value> {
    [&[][..], &["198.51.100.0/24"], &["203.0.113.9"], &["198.51.100.0/30", "192.0.2.40"], &["0.0.0.0/0"]]
        .map(|rules: &'static [&'static str]| {
            value(format!("{rules:?}"), move |row| {
                row.registry.ip_rules = rules.iter().map(|rule| (*rule).to_owned()).collect();
            })
        })
        .into()
}

fn subnets() -> Vec<Value> {
    [&[][..], &[Place::Subnet], &[Place::OtherSubnet]]
        .map(|subnets: &'static [Place]| {
            value(format!("{subnets:?}"), move |row| row.registry.subnets = subnets.to_vec())
        })
        .into()
}

fn private_endpoints() -> Vec<Value> {
    let mut values = vec![value("none", |_| {})];
    values.extend(texts(&["Approved", "Pending", "Rejected", "Disconnected"], |row, text| {
        row.registry.private_endpoint = Some(text);
    }));
    values
}

fn switches() -> Vec<Value> {
    vec![
        value("default", |_| {}),
        value("tasks policy alone", |row| row.switches.tasks_policy_requires_azure_services = Some(false)),
        value("quick runs", |row| row.switches.quick_run_bypass = Some(true)),
        value("tasks' user identities", |row| row.switches.tasks_user_identity_bypass = Some(true)),
        value("no container instances", |row| row.switches.aci_trusted = Some(false)),
    ]
}

/// Values of two factors that are no one request.
pub(super) struct Apart {
    pub(super) why: &'static str,
    pub(super) one: (&'static str, fn(&str) -> bool),
    pub(super) other: (&'static str, fn(&str) -> bool),
}

/// Every such pair. Most are a matter of how requests are made: the rows of `specs/access` that show them are in the list of those
/// seen elsewise.
pub(super) const APART: &[Apart] = &[
    Apart {
        why: "there is nobody to issue a token to",
        one: ("operation", |name| name == "issueToken"),
        other: ("caller", |name| matches!(name, "none" | "anonymous" | "scanner")),
    },
    Apart {
        why: "who has no token of the authority exchanges none",
        one: ("operation", |name| name == "exchangeToken"),
        other: ("caller", |name| {
            !matches!(name, "none" | "principal" | "ArmAudienceRefused" | "system identity" | "user identity")
        }),
    },
    Apart {
        why: "what asks for a token claims nothing yet",
        one: ("operation", |name| matches!(name, "issueToken" | "exchangeToken")),
        other: ("claim", |name| name != "everything"),
    },
    Apart {
        why: "a mount is a push to another repository, where these never may or which the scope map leaves out",
        one: ("operation", |name| name == "mountBlob"),
        other: ("caller", |name| matches!(name, "anonymous" | "scanner") || name.contains("token")),
    },
    Apart {
        why: "a mount is a push to another repository, of which these say nothing",
        one: ("operation", |name| name == "mountBlob"),
        other: ("claim", |name| name != "everything"),
    },
    Apart {
        why: "a mount is a push to another repository, of which an identity's token for this one says nothing",
        one: ("operation", |name| name == "mountBlob"),
        other: ("caller", |name| name.ends_with("identity")),
    },
    Apart {
        why: "a mount that content refuses becomes an upload",
        one: ("operation", |name| name == "mountBlob"),
        other: ("locks", |name| name == "repository readEnabled=false"),
    },
    Apart {
        why: "a mount that content refuses becomes an upload",
        one: ("operation", |name| name == "mountBlob"),
        other: ("quarantine", |name| name == "on, not passed"),
    },
    Apart {
        why: "a token is issued to a workload that has the identity",
        one: ("caller", |name| name == "system identity"),
        other: ("workload", |name| name.ends_with(": user") || name.ends_with(": -")),
    },
    Apart {
        why: "a token is issued to a workload that has the identity",
        one: ("caller", |name| name == "user identity"),
        other: ("workload", |name| name.ends_with(": system") || name.ends_with(": -")),
    },
    Apart {
        why: "the scanner's token is issued to the scanner",
        one: ("caller", |name| name == "scanner"),
        other: ("workload", |name| name.contains(':') && !name.starts_with("scanner")),
    },
    Apart {
        why: "nothing is assigned to the scanner",
        one: ("caller", |name| name == "scanner"),
        other: ("role", |name| name != "no role"),
    },
    Apart {
        why: "the scanner's token claims what it may and no more, so that it is sent for another one",
        one: ("caller", |name| name == "scanner"),
        other: ("operation", |name| {
            ["push", "delete", "untag", "writeMetadata", "listDeleted", "restoreDeleted"]
                .iter()
                .any(|writes| name.starts_with(writes))
        }),
    },
];
