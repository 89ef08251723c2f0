use std::fmt::Write as _;

use postern_access::Layer;

use super::{Answer, Row, Section, Verdict};

const HEAD: &str = "\
# Access matrix

Every row is one request and the answer it gets. Generated from `specs/access/*.toml` by the decision itself: `cargo xtask
bless` writes it, the tests compare it.

A denial lists everything that stood in the way in the layer that refused; what later layers would object to follows after
“then”. A fix is the smallest set of changes that lifts the denial; alternatives stand on lines of their own. A caller without
credentials whom the gate let in is challenged next (401), as every client is that begins.

| layer | refusal |
| --- | --- |
| network | 403, code `DENIED`, “client with IP …” |
| authentication | 401, code `UNAUTHORIZED` |
| authorization | 401 when the presented token does not claim the action or the caller is anonymous, else 403, code `DENIED` |
| content | 405, code `REGISTRY_DISALLOWED_OPERATION`; 404, code `MANIFEST_UNKNOWN`, for a tag that leads to a quarantined manifest |

A server agrees with every row but for the few in `tests/src/matrix/live/elsewise.rs`, where HTTP answers earlier or differently.

| source | what it stands for |
| --- | --- |
| access-model §1–3 | Azure Container Registry documentation: public IP network rules, private link, service endpoints, dedicated data endpoints |
| access-model §4 | “Allow trusted services to securely access a network-restricted container registry”, and its earlier editions |
| access-model §5 | “Manage network bypass policy for tasks”, and “Azure Container Registry Tasks: access network-restricted registry” (2023-05-12) |
| access-model §6 | “Import container images to a container registry” |
| access-model §7–9 | texts seen from the service; where sources disagree, the choice made here, each with a switch |
| auth-and-rbac | documentation of authentication, repository-scoped tokens, the registry's roles, repository permissions with conditions |
| data-plane | “Lock a container image”; “Quarantine pattern”; OCI distribution specification |
| design, choice | decided here: `docs/adr/` |
";

/// The matrix as a document.
pub fn markdown(sections: &[Section]) -> String {
    let mut text = HEAD.to_owned();
    for section in sections {
        let (grouped, single): (Vec<&Row>, Vec<&Row>) = section.rows.iter().partition(|row| row.group.is_some());
        let _ = write!(text, "\n## {}\n\n{}\n", section.title, section.about.trim());
        if !single.is_empty() {
            text.push_str("\n| case | registry | from | as | wants | answer | why | smallest fixes | source |\n");
            text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
            text.extend(single.into_iter().map(line));
        }
        if !grouped.is_empty() {
            text.push_str(
                "\n| case | registry | as | may | may not | source |\n| --- | --- | --- | --- | --- | --- |\n",
            );
            text.extend(grouped.chunk_by(|left, right| left.group == right.group).map(group_line));
        }
    }
    text
}

fn line(row: &Row) -> String {
    let answer = Answer::pure(&row.scene());
    let verdict = match (answer.verdict, answer.status) {
        (Verdict::Allow, _) => "**allow**".to_owned(),
        (Verdict::Deny, status) => {
            format!("**deny** {}, {}", status.unwrap_or_default(), answer.layer.as_str())
        }
    };
    let cells = [
        row.name.clone(),
        registry(row),
        from(row),
        caller(row),
        operation(row),
        verdict,
        why(&answer),
        answer.fixes.join("<br>"),
        row.source.clone(),
    ];
    format!("| {} |\n", cells.map(escaped).join(" | "))
}

fn group_line(rows: &[&Row]) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let with = |verdict: Verdict| {
        let kinds = rows.iter().filter(|row| Answer::pure(&row.scene()).verdict == verdict);
        kinds.map(|row| row.operation.kind.as_str()).collect::<Vec<_>>().join(", ")
    };
    let cells = [
        first.name.clone(),
        registry(first),
        caller(first),
        with(Verdict::Allow),
        with(Verdict::Deny),
        first.source.clone(),
    ];
    format!("| {} |\n", cells.map(escaped).join(" | "))
}

fn escaped(cell: String) -> String {
    let cell = cell.replace('|', "\\|");
    if cell.is_empty() { "—".to_owned() } else { cell }
}

fn why(answer: &Answer) -> String {
    if answer.verdict == Verdict::Allow {
        return [answer.via.clone(), answer.ground.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ");
    }
    let texts = |layer: fn(Layer, Layer) -> bool| {
        let of_layer = answer.blockers.iter().filter(|blocker| layer(blocker.layer, answer.layer));
        of_layer.map(|blocker| blocker.text.as_str()).collect::<Vec<_>>().join("; ")
    };
    let (here, later) = (texts(|layer, deciding| layer == deciding), texts(|layer, deciding| layer != deciding));
    if later.is_empty() { here } else { format!("{here}<br>then: {later}") }
}

/// What differs from a registry that is closed and otherwise as created.
fn registry(row: &Row) -> String {
    let registry = &row.registry;
    let mut parts = vec![match (registry.public_access.as_str(), registry.default_action.as_str()) {
        ("Enabled", "Allow") => "all networks".to_owned(),
        ("Enabled", _) => "selected networks".to_owned(),
        (_, "Allow") => "public access off, default Allow".to_owned(),
        _ => "public access off".to_owned(),
    }];
    let mut add = |is: bool, text: String| {
        if is {
            parts.push(text);
        }
    };
    add(!registry.ip_rules.is_empty(), format!("IP rules {}", registry.ip_rules.join(", ")));
    let subnets: Vec<&str> = registry.subnets.iter().map(|place| place.as_str()).collect();
    add(!subnets.is_empty(), format!("virtual network rule: {}", subnets.join(", ")));
    if let Some(status) = &registry.private_endpoint {
        add(true, format!("private endpoint {status}"));
    }
    add(registry.bypass == "None", "trusted services off".to_owned());
    add(registry.tasks_policy != "unset", format!("tasks policy {}", registry.tasks_policy));
    add(registry.role_mode.starts_with("Abac"), "ABAC mode".to_owned());
    add(registry.admin, "admin user on".to_owned());
    add(registry.anonymous_pull, "anonymous pull on".to_owned());
    add(registry.scanner_plan, "scanner plan on".to_owned());
    add(registry.quarantine, "quarantine on".to_owned());
    add(row.policy_date != "current", format!("policy date {}", row.policy_date));
    let switches = [
        ("tasksPolicyRequiresAzureServices", row.switches.tasks_policy_requires_azure_services),
        ("quickRunBypass", row.switches.quick_run_bypass),
        ("tasksUserIdentityBypass", row.switches.tasks_user_identity_bypass),
        ("aciTrusted", row.switches.aci_trusted),
    ];
    for (name, value) in switches {
        if let Some(value) = value {
            parts.push(format!("`{name}={value}`"));
        }
    }
    if let Some(locks) = &row.locks {
        for (what, names) in [("repository", &locks.repository), ("tag", &locks.tag), ("manifest", &locks.manifest)] {
            parts.extend(names.iter().map(|name| format!("{what} `{name}=false`")));
        }
    }
    parts.join(", ")
}

fn from(row: &Row) -> String {
    let place = row.from.place.as_str();
    let Some(workload) = &row.from.workload else { return place.to_owned() };
    let kind = workload.kind.resource_type();
    let identities = workload.identities.iter().map(|identity| format!("{identity:?}").to_lowercase());
    let identities = identities.collect::<Vec<_>>().join(" and ");
    let with = match (&workload.rejected, identities.is_empty()) {
        (Some(why), _) => format!("certificate not accepted: {why:?}"),
        (None, true) => "no identity".to_owned(),
        (None, false) => format!("{identities} identity"),
    };
    format!("{place}, `{kind}` ({with})")
}

fn caller(row: &Row) -> String {
    let caller = &row.caller;
    let mut text = match caller.kind.as_str() {
        "none" => "no credentials".to_owned(),
        "invalid" => "credentials that do not hold".to_owned(),
        "anonymous" => "anonymous token".to_owned(),
        "admin" => "admin user".to_owned(),
        "token" => match caller.token.status.as_str() {
            "enabled" => format!("repository token with {}", caller.token.scope_map.join(", ")),
            status => format!("repository token, {status}, with {}", caller.token.scope_map.join(", ")),
        },
        "system" => "its system identity".to_owned(),
        "user" => "its user identity".to_owned(),
        "principal" => "a service principal".to_owned(),
        other => other.to_owned(),
    };
    for assignment in caller.assignments() {
        let group = if assignment.by_group { " (by a group)" } else { "" };
        let _ = write!(text, ", {}{group}", assignment.role);
        if let Some(condition) = assignment.condition {
            let _ = write!(text, " if `{}`", condition.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    if let Some(claim) = &caller.claim {
        let _ =
            write!(text, ", token claims {}", if claim.is_empty() { "nothing".to_owned() } else { claim.join(" ") });
    }
    match caller.bound.as_deref() {
        Some("workload") => text.push_str(", token issued to this workload"),
        Some(_) => text.push_str(", token issued to another workload"),
        None => {}
    }
    text
}

fn operation(row: &Row) -> String {
    let wanted = row.scene().operation;
    if row.operation.by_digest && wanted.reference.is_some() {
        return format!("{} `{}@<digest>`", wanted.kind.as_str(), row.operation.repository);
    }
    match (wanted.repository, wanted.reference) {
        (None, _) => wanted.kind.as_str().to_owned(),
        (Some(repository), None) => format!("{} `{repository}`", wanted.kind.as_str()),
        (Some(repository), Some(reference)) => format!("{} `{repository}:{reference}`", wanted.kind.as_str()),
    }
}
