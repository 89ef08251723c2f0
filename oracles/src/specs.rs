//! The rows of `specs/access`, read once more and in another way: straight from the tables into facts.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use crate::rights::{Words, set};
use crate::space::{
    ENDPOINT, GROUP, OPERATIONS, OTHER, OTHER_ENDPOINT, OTHER_SUBNET, OTHER_WORKLOAD, REGISTRY, SUBNET, SYSTEM, USER,
    WORKLOAD,
};
use crate::{
    Assignment, Caller, Claim, LockedParts, Origin, Registry, ScopedToken, Server, Way, Who, Wish, Word, Workload,
    built_in,
};

const SCANNER: u8 = 4;

/// One row with all its axes chosen.
#[derive(Clone, Debug)]
pub struct SpecRow {
    /// File and name.
    pub name: String,
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
    /// The answer.
    pub expected: Expected,
}

/// What a row expects.
#[derive(Clone, Debug)]
pub struct Expected {
    /// It happens.
    pub allow: bool,
    /// The layer that refuses.
    pub layer: Option<String>,
    /// The way in, as it prints.
    pub via: Option<String>,
    /// Everything in the way in that layer; `None` where the row does not say.
    pub blockers: Option<Vec<String>>,
}

/// Every row of every file.
pub fn rows() -> Vec<SpecRow> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../specs/access");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("specs/access can be listed")
        .map(|entry| entry.expect("specs/access can be listed").path())
        .collect();
    files.sort_unstable();
    let mut rows = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a file of specs/access can be read");
        let whole: Table = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let defaults = Value::Table(table(whole.get("defaults")));
        let conditions = table(whole.get("conditions"));
        for row in whole.get("row").and_then(Value::as_array).into_iter().flatten() {
            for (chosen, suffix) in choices(row) {
                let merged = over(&defaults, &chosen);
                let name = format!("{}: {}{suffix}", file.display(), text_at(&merged, "name"));
                rows.extend(
                    operations(&merged)
                        .into_iter()
                        .map(|(operation, allow)| read(&name, &over(&merged, &operation), &conditions, allow)),
                );
            }
        }
    }
    rows
}

/// One value for every combination of a row's axes.
fn choices(row: &Value) -> Vec<(Value, String)> {
    let mut chosen = vec![(row.clone(), String::new())];
    for (path, values) in table(row.get("each")) {
        let values = values.as_array().expect("an axis is a list").clone();
        chosen = chosen
            .iter()
            .flat_map(|(row, name)| {
                let path = &path;
                values.iter().map(move |value| {
                    let nested = path
                        .rsplit('.')
                        .fold(value.clone(), |inner, key| Value::Table(Table::from_iter([(key.to_owned(), inner)])));
                    (over(row, &nested), format!("{name} — {value}"))
                })
            })
            .collect();
    }
    chosen
}

/// With `may`, one row per operation that needs a right; `Some` says whether it may.
fn operations(row: &Value) -> Vec<(Value, Option<bool>)> {
    let Some(may) = row.get("may").and_then(Value::as_array) else {
        return vec![(Value::Table(Table::new()), None)];
    };
    let kind = |operation: &str| {
        let kind = Table::from_iter([("kind".to_owned(), Value::String(operation.to_owned()))]);
        Value::Table(Table::from_iter([("operation".to_owned(), Value::Table(kind))]))
    };
    let wanting = OPERATIONS.iter().filter(|operation| !["ping", "exchangeToken", "issueToken"].contains(operation));
    wanting.map(|operation| (kind(operation), Some(may.iter().any(|one| one.as_str() == Some(operation))))).collect()
}

/// The second over the first: tables are joined, `from = "place"` is a table of that place.
fn over(below: &Value, above: &Value) -> Value {
    match (below, above) {
        (Value::Table(below), Value::Table(above)) => {
            let mut joined = below.clone();
            for (key, value) in above {
                let value = below.get(key).map_or_else(|| value.clone(), |under| over(under, value));
                joined.insert(key.clone(), value);
            }
            Value::Table(joined)
        }
        _ => above.clone(),
    }
}

fn read(name: &str, row: &Value, conditions: &Table, may: Option<bool>) -> SpecRow {
    let registry = table(row.get("registry"));
    let switches = table(row.get("switches"));
    let switch = |name: &str, default| switches.get(name).and_then(Value::as_bool).unwrap_or(default);
    let expect = table(row.get("expect"));
    let string = |key: &str| expect.get(key).and_then(Value::as_str).map(str::to_owned);
    let allow = may.unwrap_or_else(|| string("verdict").expect("a row has a verdict") == "allow");
    let layer = string("layer").or_else(|| (may == Some(false)).then(|| "authorization".to_owned()));
    SpecRow {
        name: name.to_owned(),
        server: Server {
            date: row.get("policy-date").and_then(Value::as_str).unwrap_or("current").to_owned(),
            policy_requires_services: switch("tasksPolicyRequiresAzureServices", true),
            quick_runs: switch("quickRunBypass", false),
            user_identities: switch("tasksUserIdentityBypass", false),
            aci: switch("aciTrusted", true),
        },
        registry: read_registry(&registry, &table(row.get("as")), conditions),
        origin: read_origin(row.get("from")),
        caller: read_caller(&table(row.get("as"))),
        wish: read_wish(&table(row.get("operation"))),
        locked: row.get("locks").map(|locks| {
            let list = |part: &str| texts(locks.get(part));
            let quarantined = locks.get("quarantined").and_then(Value::as_bool).unwrap_or(false);
            LockedParts { repository: list("repository"), tag: list("tag"), manifest: list("manifest"), quarantined }
        }),
        expected: Expected {
            allow,
            layer: layer.filter(|_| !allow),
            via: string("via"),
            blockers: expect.get("blockers").map(|blockers| texts(Some(blockers))),
        },
    }
}

fn read_registry(registry: &Table, caller: &Table, conditions: &Table) -> Registry {
    let string = |key: &str| registry.get(key).and_then(Value::as_str);
    let flag = |key: &str| registry.get(key).and_then(Value::as_bool).unwrap_or(false);
    let status = |text: &str| {
        let known = ["Approved", "Pending", "Rejected", "Disconnected"];
        known.into_iter().find(|known| *known == text).expect("a connection's status")
    };
    Registry {
        id: REGISTRY.to_owned(),
        public: string("public-access") == Some("Enabled"),
        default_allow: string("default-action") == Some("Allow"),
        ip_rules: texts(registry.get("ip-rules")),
        subnets: texts(registry.get("subnets")).iter().map(|name| subnet(name).to_owned()).collect(),
        connections: string("private-endpoint").map(|text| (ENDPOINT.to_owned(), status(text))).into_iter().collect(),
        bypass: if string("bypass") == Some("None") { "None" } else { "AzureServices" },
        tasks: match string("tasks-policy") {
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some("unset") | None => None,
            other => panic!("{other:?} is no tasks policy"),
        },
        abac: string("role-mode") == Some("AbacRepositoryPermissions"),
        admin: flag("admin"),
        anonymous: flag("anonymous-pull"),
        scanner: flag("scanner-plan"),
        quarantine: flag("quarantine"),
        assignments: read_assignments(caller, conditions),
        token: read_token(&table(caller.get("token"))),
    }
}

fn read_assignments(caller: &Table, conditions: &Table) -> Vec<Assignment> {
    let Some(id) = principal(caller) else { return Vec::new() };
    let mut written = vec![caller.clone()];
    written.extend(caller.get("also").and_then(Value::as_array).into_iter().flatten().map(|one| table(Some(one))));
    let read = |(at, one): (usize, &Table)| {
        let role = one.get("role").and_then(Value::as_str)?;
        let by_group = one.get("by-group").and_then(Value::as_bool).unwrap_or(false);
        let condition = one.get("condition").and_then(Value::as_str).map(|name| {
            conditions.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("condition `{name}` is not there"))
        });
        let to = if by_group { GROUP } else { id };
        Some(Assignment::new(&at.to_string(), to, REGISTRY, built_in(role), condition))
    };
    written.iter().enumerate().filter_map(read).collect()
}

fn read_token(token: &Table) -> Option<ScopedToken> {
    let enabled = match token.get("status").and_then(Value::as_str) {
        Some("absent") => return None,
        status => status != Some("disabled"),
    };
    Some(ScopedToken { enabled, scope_map: texts(token.get("scope-map")) })
}

fn principal(caller: &Table) -> Option<u8> {
    Some(match caller.get("kind").and_then(Value::as_str)? {
        "system" => SYSTEM,
        "user" => USER,
        "principal" => OTHER,
        "scanner" => SCANNER,
        _ => return None,
    })
}

fn read_caller(caller: &Table) -> Caller {
    let kind = caller.get("kind").and_then(Value::as_str).unwrap_or("none");
    let who = match kind {
        "none" => Who::Nobody,
        "invalid" => Who::Invalid(caller.get("invalid").and_then(Value::as_str).expect("a reason").to_owned()),
        "anonymous" => Who::Anonymous,
        "admin" => Who::Admin,
        "token" => Who::Token("robot".to_owned()),
        _ => Who::Principal {
            id: principal(caller).expect("a principal"),
            groups: vec![GROUP],
            first_party: kind == "scanner",
        },
    };
    let bound = caller.get("bound").and_then(Value::as_str);
    Caller {
        who,
        claim: caller.get("claim").map(|claim| read_claim(&texts(Some(claim)))),
        bound: bound.map(|to| if to == "workload" { WORKLOAD } else { OTHER_WORKLOAD }),
    }
}

fn read_claim(entries: &[String]) -> Claim {
    let mut claim = Claim::default();
    for entry in entries {
        match entry.split_once(':') {
            None if entry == "deleted-catalog" => claim.deleted_catalog = true,
            None => claim.catalog = true,
            Some((repository, words)) => {
                let words = words.split(',').fold(0, |all, word| all | scope_word(word));
                claim.repositories.push((repository.to_owned(), words));
            }
        }
    }
    claim
}

/// A word of a token scope; `*` is everything that a scope can name.
fn scope_word(word: &str) -> Words {
    const ALL: [(&str, Word); 7] = [
        ("pull", Word::Pull),
        ("push", Word::Push),
        ("delete", Word::Delete),
        ("metadata_read", Word::MetadataRead),
        ("metadata_write", Word::MetadataWrite),
        ("deleted_read", Word::DeletedRead),
        ("deleted_restore", Word::DeletedRestore),
    ];
    ALL.iter().filter(|(name, _)| *name == word || word == "*").fold(0, |all, (_, word)| all | set(&[*word]))
}

fn read_origin(from: Option<&Value>) -> Origin {
    let place = match from {
        Some(Value::String(place)) => place.as_str(),
        Some(from) => from.get("place").and_then(Value::as_str).unwrap_or("internet"),
        None => "internet",
    };
    let (way, address) = match place {
        "internet" => (Way::Public, "203.0.113.9"),
        "office" => (Way::Public, "198.51.100.7"),
        "ipv6" => (Way::Public, "2001:db8::7"),
        "shared-pool" => (Way::Public, "192.0.2.40"),
        "private-endpoint" => (Way::Endpoint(ENDPOINT.to_owned()), "10.0.0.4"),
        "other-private-endpoint" => (Way::Endpoint(OTHER_ENDPOINT.to_owned()), "10.0.0.4"),
        "misrouted" => (Way::Misrouted, "10.0.0.4"),
        name => (Way::Subnet(subnet(name).to_owned()), "10.1.0.4"),
    };
    let workload = from.and_then(|from| from.get("workload"));
    Origin { way, address: address.to_owned(), workload: workload.map_or(Workload::None, read_workload) }
}

fn subnet(name: &str) -> &'static str {
    match name {
        "subnet" => SUBNET,
        "other-subnet" => OTHER_SUBNET,
        other => panic!("`{other}` is no subnet"),
    }
}

fn read_workload(workload: &Value) -> Workload {
    if workload.get("rejected").is_some() {
        return Workload::Rejected;
    }
    let resource_type = match text_at(workload, "type") {
        "container-group" => "Microsoft.ContainerInstance/containerGroups",
        "task" => "Microsoft.ContainerRegistry/registries/tasks",
        "run" => "Microsoft.ContainerRegistry/registries/runs",
        "workspace" => "Microsoft.MachineLearningServices/workspaces",
        "scanner" => "Microsoft.Security/scanners",
        "importer" => "Microsoft.ContainerRegistry/importers",
        "web-app" => "Microsoft.Web/sites",
        "cluster" => "Microsoft.ContainerService/managedClusters",
        other => panic!("`{other}` is no workload"),
    };
    let identities = texts(workload.get("identities"));
    Workload::Verified {
        resource_type: resource_type.to_owned(),
        uid: WORKLOAD,
        identities: identities
            .iter()
            .map(|kind| if kind == "system" { (SYSTEM, true) } else { (USER, false) })
            .collect(),
    }
}

fn read_wish(operation: &Table) -> Wish {
    let kind = operation.get("kind").and_then(Value::as_str).unwrap_or("pullManifest");
    let operation_name = OPERATIONS.into_iter().find(|known| *known == kind).expect("an operation");
    let concerns_registry =
        ["ping", "exchangeToken", "issueToken", "listCatalog", "listDeletedCatalog"].contains(&kind);
    let repository = operation.get("repository").and_then(Value::as_str).unwrap_or("team/app");
    let by_digest = operation.get("by-digest").and_then(Value::as_bool).unwrap_or(false);
    let repository = (!concerns_registry).then(|| repository.to_owned());
    Wish { operation: operation_name, repository, by_digest }
}

fn table(value: Option<&Value>) -> Table {
    value.and_then(Value::as_table).cloned().unwrap_or_default()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|text| text.as_str().expect("a list of texts").to_owned()).collect()
}

fn text_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_else(|| panic!("`{key}` is missing"))
}
