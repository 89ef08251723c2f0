//! Tasks and agent pools.
//!
//! Source: Microsoft.ContainerRegistry API description 2025-03-01-preview, tasks and agentPools; ACR Tasks documentation (read 2026-11).

use postern_access::AGENT_POOLS;
use postern_model::ResourceId;
use serde_json::Value;

use super::{invalid, malformed, shown};
use crate::identity::{IdentityTypes, user_identities};
use crate::resource::value_at;
use crate::types::SUBNETS;
use crate::{Document, Estate, Refusal, RefusalCode, Sku};

/// How long a run may take, in seconds.
const TIMEOUT: std::ops::RangeInclusive<i64> = 300..=28_800;
/// Most processors of a run.
const MAX_CPU: i64 = 64;
/// Most processors of all agents of a registry together, besides isolated ones, of which nobody has any.
const POOL_CPUS: i64 = 16;
/// Tiers of agent pools, with the processors of an agent.
const TIERS: [(&str, i64); 3] = [("S1", 2), ("S2", 4), ("S3", 8)];
const ISOLATED: &str = "I6";
/// Most entries in a list, and longest text in one.
const MAX_ENTRIES: usize = 100;
const MAX_TEXT_BYTES: usize = 512 * 1024;

const STATUS: &[&str] = &["Enabled", "Disabled"];
const SOURCE: &str = "properties.credentials.sourceRegistry";
const CUSTOM: &str = "properties.credentials.customRegistries";
const SYSTEM: &str = "[system]";

/// A property of the task, as far as it is there.
struct At<'a> {
    document: &'a Document,
    path: &'a [&'a str],
}

impl<'a> At<'a> {
    fn value(&self) -> Option<&'a Value> {
        value_at(self.document, self.path)
    }

    fn name(&self) -> String {
        self.path.join(".")
    }

    fn word(&self, words: &[&str]) -> Result<(), Refusal> {
        word(self.value(), &self.name(), words)
    }
}

fn word(value: Option<&Value>, name: &str, words: &[&str]) -> Result<(), Refusal> {
    let is_known =
        |value: &Value| value.as_str().is_some_and(|text| words.iter().any(|word| word.eq_ignore_ascii_case(text)));
    if value.is_none_or(is_known) {
        return Ok(());
    }
    Err(invalid(name, format!("The property '{name}' is one of: {}.", words.join(", "))))
}

fn texts(value: Option<&Value>, name: &str) -> Result<(), Refusal> {
    let is_short = |text: &Value| text.as_str().is_some_and(|text| text.len() <= MAX_TEXT_BYTES);
    match value {
        None => Ok(()),
        Some(Value::Array(list)) if list.len() <= MAX_ENTRIES && list.iter().all(is_short) => Ok(()),
        Some(_) => Err(malformed(name, format!("The property '{name}' is a list of at most {MAX_ENTRIES} texts."))),
    }
}

fn pairs(value: Option<&Value>, name: &str) -> Result<(), Refusal> {
    let is_pair = |pair: &Value| {
        pair.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty() && !name.contains('='))
            && pair.get("value").is_none_or(|value| value.is_null() || value.is_string())
            && pair.get("isSecret").is_none_or(|flag| flag.is_null() || flag.is_boolean())
    };
    match value {
        None => Ok(()),
        Some(Value::Array(list)) if list.len() <= MAX_ENTRIES && list.iter().all(is_pair) => Ok(()),
        Some(_) => Err(malformed(
            name,
            format!(
                "The property '{name}' is a list of at most {MAX_ENTRIES} objects with 'name', 'value' and 'isSecret'."
            ),
        )),
    }
}

/// Checks a task, but for what is written in languages of their own: schedules, task files and locations.
pub fn task(estate: &Estate, id: &ResourceId, document: &Document) -> Result<(), Refusal> {
    name(id, "task", 5..=50, b"-_")?;
    let at = |path: &'static [&'static str]| At { document, path };
    at(&["properties", "status"]).word(STATUS)?;
    at(&["properties", "platform", "os"]).word(&["Linux", "Windows"])?;
    at(&["properties", "platform", "architecture"]).word(&["amd64", "x86", "386", "arm", "arm64"])?;
    at(&["properties", "platform", "variant"]).word(&["v6", "v7", "v8"])?;
    number(&at(&["properties", "timeout"]), TIMEOUT)?;
    number(&at(&["properties", "agentConfiguration", "cpu"]), 1..=MAX_CPU)?;
    if let Some(pool) = at(&["properties", "agentPoolName"]).value() {
        let registry = id.parent().ok_or_else(|| malformed("id", "A task lies below a registry."))?;
        let name = pool.as_str().unwrap_or_default();
        if estate.get(&registry.child("agentPools", name)).is_none() {
            return Err(invalid(
                "properties.agentPoolName",
                format!("The agent pool '{}' was not found in the registry.", shown(name)),
            ));
        }
    }
    step(document)?;
    triggers(document)?;
    credentials(estate, document)
}

fn name(id: &ResourceId, what: &str, length: std::ops::RangeInclusive<usize>, extra: &[u8]) -> Result<(), Refusal> {
    let name = id.name();
    if length.contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte)) {
        return Ok(());
    }
    let extra = if extra.len() > 1 { "'-' and '_'" } else { "'-'" };
    let (least, most) = length.into_inner();
    Err(Refusal::at(
        RefusalCode::InvalidResourceName,
        "name",
        format!(
            "The name '{}' is not valid: the name of {what} has {least} to {most} letters and digits, {extra}.",
            shown(name)
        ),
    ))
}

fn number(at: &At<'_>, range: std::ops::RangeInclusive<i64>) -> Result<(), Refusal> {
    if at.value().is_none_or(|value| value.as_i64().is_some_and(|value| range.contains(&value))) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(invalid(at.name(), format!("The property '{}' is a number from {least} to {most}.", at.name())))
}

fn step(document: &Document) -> Result<(), Refusal> {
    let Some(step) = value_at(document, &["properties", "step"]) else { return Ok(()) };
    let Some(step) = step.as_object() else {
        return Err(malformed("properties.step", "The 'step' of a task is an object."));
    };
    let kind = step.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    let needed = match kind.as_str() {
        "docker" => "dockerFilePath",
        "filetask" => "taskFilePath",
        "encodedtask" => "encodedTaskContent",
        _ => {
            return Err(invalid(
                "properties.step.type",
                "The type of a step is one of: Docker, FileTask, EncodedTask.",
            ));
        }
    };
    for field in [needed, "contextPath", "contextAccessToken", "valuesFilePath", "encodedValuesContent", "target"] {
        let value = step.get(field).filter(|value| !value.is_null());
        let is_text = value.is_none_or(|value| value.as_str().is_some_and(|text| text.len() <= MAX_TEXT_BYTES));
        if !is_text || (field == needed && value.and_then(Value::as_str).is_none_or(str::is_empty)) {
            let target = format!("properties.step.{field}");
            return Err(malformed(target, format!("A step of this type needs the text '{field}'.")));
        }
    }
    let given = |field: &str| step.get(field).filter(|value| !value.is_null());
    texts(given("imageNames"), "properties.step.imageNames")?;
    pairs(given("arguments"), "properties.step.arguments")?;
    pairs(given("values"), "properties.step.values")?;
    for flag in ["isPushEnabled", "noCache"] {
        if given(flag).is_some_and(|value| !value.is_boolean()) {
            return Err(malformed(format!("properties.step.{flag}"), format!("'{flag}' is true or false.")));
        }
    }
    Ok(())
}

fn triggers(document: &Document) -> Result<(), Refusal> {
    let Some(trigger) = value_at(document, &["properties", "trigger"]) else { return Ok(()) };
    let list = |name: &str| trigger.get(name).filter(|value| !value.is_null());
    let timers = named(list("timerTriggers"), "properties.trigger.timerTriggers")?;
    let mut schedules = Vec::new();
    for timer in timers {
        let schedule = timer.get("schedule").and_then(Value::as_str).map(str::split_whitespace);
        let Some(schedule) = schedule.map(|words| words.collect::<Vec<_>>().join(" ")) else {
            return Err(malformed("properties.trigger.timerTriggers.schedule", "A timer trigger needs a 'schedule'."));
        };
        if schedules.contains(&schedule) {
            return Err(invalid(
                "properties.trigger.timerTriggers.schedule",
                format!("Two timer triggers have the schedule '{}': schedules must differ.", shown(&schedule)),
            ));
        }
        schedules.push(schedule);
        word(timer.get("status"), "properties.trigger.timerTriggers.status", STATUS)?;
    }
    let sources = named(list("sourceTriggers"), "properties.trigger.sourceTriggers")?;
    for source in sources {
        source_trigger(source)?;
    }
    let context =
        value_at(document, &["properties", "step", "contextPath"]).and_then(Value::as_str).unwrap_or_default();
    if !sources.is_empty() && (context.is_empty() || context == "/dev/null" || context.starts_with("oci://")) {
        return Err(invalid(
            "properties.trigger.sourceTriggers",
            "A task whose context is '/dev/null' or an artifact has no source triggers: nothing is committed there.",
        ));
    }
    if let Some(base) = list("baseImageTrigger") {
        let field = |name: &str| base.get(name).filter(|value| !value.is_null());
        let path = |name: &str| format!("properties.trigger.baseImageTrigger.{name}");
        if !field("name").is_some_and(is_trigger_name) {
            return Err(malformed(path("name"), "A base image trigger needs a 'name'."));
        }
        word(field("baseImageTriggerType"), &path("baseImageTriggerType"), &["Runtime", "All"])?;
        word(field("updateTriggerPayloadType"), &path("updateTriggerPayloadType"), &["Default", "Token"])?;
        word(field("status"), &path("status"), STATUS)?;
    }
    Ok(())
}

fn is_trigger_name(value: &Value) -> bool {
    value.as_str().is_some_and(|name| (1..=50).contains(&name.len()))
}

fn named<'a>(value: Option<&'a Value>, path: &str) -> Result<&'a [Value], Refusal> {
    let Some(value) = value else { return Ok(&[]) };
    let list = value.as_array().filter(|list| list.len() <= MAX_ENTRIES);
    let names = list.and_then(|list| {
        list.iter()
            .map(|one| one.get("name").filter(|name| is_trigger_name(name))?.as_str().map(str::to_ascii_lowercase))
            .collect::<Option<Vec<_>>>()
    });
    let (Some(list), Some(mut names)) = (list, names) else {
        return Err(malformed(path, format!("'{path}' is a list of at most {MAX_ENTRIES} triggers with a 'name'.")));
    };
    names.sort_unstable();
    if let Some([first, _]) = names.array_windows().find(|[first, second]| first == second) {
        return Err(invalid(path, format!("Two triggers are named '{}'.", shown(first))));
    }
    Ok(list)
}

fn source_trigger(trigger: &Value) -> Result<(), Refusal> {
    const PATH: &str = "properties.trigger.sourceTriggers";
    word(trigger.get("status"), &format!("{PATH}.status"), STATUS)?;
    let events = trigger.get("sourceTriggerEvents").and_then(Value::as_array).filter(|events| !events.is_empty());
    let Some(events) = events else {
        return Err(malformed(format!("{PATH}.sourceTriggerEvents"), "A source trigger needs 'sourceTriggerEvents'."));
    };
    for event in events {
        word(Some(event), &format!("{PATH}.sourceTriggerEvents"), &["commit", "pullrequest"])?;
    }
    let repository = trigger.get("sourceRepository").filter(|value| value.is_object());
    let Some(repository) = repository else {
        return Err(malformed(format!("{PATH}.sourceRepository"), "A source trigger needs a 'sourceRepository'."));
    };
    let kind = repository.get("sourceControlType");
    let path = format!("{PATH}.sourceRepository.sourceControlType");
    word(Some(kind.unwrap_or(&Value::Null)), &path, &["Github", "VisualStudioTeamService"])?;
    if repository.get("repositoryUrl").and_then(Value::as_str).is_none_or(str::is_empty) {
        let path = format!("{PATH}.sourceRepository.repositoryUrl");
        return Err(malformed(path, "A source trigger needs the 'repositoryUrl' of its repository."));
    }
    let login = repository.get("sourceControlAuthProperties").filter(|login| !login.is_null());
    let path = format!("{PATH}.sourceRepository.sourceControlAuthProperties.tokenType");
    word(login.and_then(|login| login.get("tokenType")), &path, &["PAT", "OAuth"])
}

fn credentials(estate: &Estate, document: &Document) -> Result<(), Refusal> {
    let Some(credentials) = value_at(document, &["properties", "credentials"]) else { return Ok(()) };
    let source = credentials.get("sourceRegistry").filter(|source| !source.is_null());
    word(source.and_then(|source| source.get("loginMode")), &format!("{SOURCE}.loginMode"), &["Default", "None"])?;
    identity(estate, document, source.and_then(|source| source.get("identity")), &format!("{SOURCE}.identity"))?;
    let logins = match credentials.get("customRegistries").filter(|logins| !logins.is_null()) {
        None => return Ok(()),
        Some(Value::Object(logins)) if logins.len() <= MAX_ENTRIES => logins,
        Some(_) => {
            return Err(malformed(CUSTOM, format!("'{CUSTOM}' has at most {MAX_ENTRIES} logins by their servers.")));
        }
    };
    for (server, login) in logins {
        let target = format!("{CUSTOM}.{}", shown(server));
        let is_host = !server.is_empty()
            && server.len() <= 255
            && server.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:".contains(&byte));
        if !is_host {
            return Err(invalid(CUSTOM, format!("'{}' is no login server.", shown(server))));
        }
        let field = |name: &str| login.get(name).filter(|value| !value.is_null());
        identity(estate, document, field("identity"), &format!("{target}.identity"))?;
        for name in ["userName", "password"] {
            let path = format!("{target}.{name}.type");
            word(
                field(name).map(|object| object.get("type").unwrap_or(&Value::Null)),
                &path,
                &["Opaque", "Vaultsecret"],
            )?;
        }
        let is_login = match (field("userName"), field("password")) {
            (Some(_), Some(_)) => true,
            (None, None) => field("identity").is_some(),
            _ => false,
        };
        if !is_login {
            return Err(malformed(target, "A login needs both 'userName' and 'password', or an 'identity'."));
        }
    }
    Ok(())
}

/// An identity that a login names must be one of the task's.
fn identity(estate: &Estate, document: &Document, named: Option<&Value>, target: &str) -> Result<(), Refusal> {
    let named = match named.filter(|value| !value.is_null()).map(Value::as_str) {
        None | Some(Some("")) => return Ok(()),
        Some(Some(named)) => named,
        Some(None) => return Err(malformed(target, "An identity is '[system]' or a client id.")),
    };
    if named.eq_ignore_ascii_case(SYSTEM) {
        if IdentityTypes::of(document).system {
            return Ok(());
        }
        return Err(invalid(target, "The task has no system-assigned identity, which '[system]' stands for."));
    }
    let is_own = user_identities(document).iter().any(|id| {
        let client = estate.user_identity(id).and_then(|(_, client)| client);
        client.is_some_and(|client| client.to_string().eq_ignore_ascii_case(named))
    });
    if is_own {
        return Ok(());
    }
    Err(invalid(target, format!("The task has no user-assigned identity with the client id '{}'.", shown(named))))
}

/// Checks an agent pool against what it was, if it was there before.
pub fn agent_pool(
    estate: &Estate,
    id: &ResourceId,
    document: &Document,
    existing: Option<&Document>,
) -> Result<(), Refusal> {
    name(id, "an agent pool", 3..=20, b"-")?;
    let registry = id.parent().ok_or_else(|| malformed("id", "An agent pool lies below a registry."))?;
    if estate.sku_of(&registry) != Sku::Premium {
        return Err(Refusal::new(
            RefusalCode::FeatureNotSupportedForSku,
            "Agent pools are a feature of the SKU Premium.",
        ));
    }
    for path in [["properties", "tier"], ["properties", "os"], ["properties", "virtualNetworkSubnetResourceId"]] {
        let text = |document: &Document| {
            value_at(document, &path).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase()
        };
        if existing.is_some_and(|existing| text(existing) != text(document)) {
            return Err(Refusal::at(
                RefusalCode::PropertyChangeNotAllowed,
                path.join("."),
                format!("The property '{}' of an agent pool cannot be changed.", path.join(".")),
            ));
        }
    }
    let at = |path: &'static [&'static str]| At { document, path };
    at(&["properties", "os"]).word(&["Linux"])?;
    number(&at(&["properties", "count"]), 0..=MAX_CPU)?;
    let tier = at(&["properties", "tier"]);
    tier.word(&[TIERS[0].0, TIERS[1].0, TIERS[2].0, ISOLATED])?;
    if tier.value().and_then(Value::as_str).is_some_and(|tier| tier.eq_ignore_ascii_case(ISOLATED)) {
        return Err(Refusal::at(
            RefusalCode::LimitExceeded,
            "properties.tier",
            "The quota of isolated agents is 0; more has to be asked for.",
        ));
    }
    if let Some(subnet) = at(&["properties", "virtualNetworkSubnetResourceId"]).value() {
        let id = subnet.as_str().and_then(|text| text.parse::<ResourceId>().ok()).filter(|id| id.is_type(SUBNETS));
        if id.is_none_or(|id| estate.get(&id).is_none()) {
            return Err(invalid(
                "properties.virtualNetworkSubnetResourceId",
                format!("The subnet '{}' was not found.", shown(subnet.as_str().unwrap_or_default())),
            ));
        }
    }
    let others = estate.children_of_type(&registry, AGENT_POOLS).filter(|pool| pool.id != *id);
    let used: i64 = others.map(|pool| processors(&pool.document())).sum();
    let wanted = processors(document);
    if used + wanted > POOL_CPUS {
        return Err(Refusal::at(
            RefusalCode::LimitExceeded,
            "properties.count",
            format!(
                "The agent pools of a registry have at most {POOL_CPUS} processors together: the others have {used}, and this one would \
                 have {wanted}."
            ),
        ));
    }
    Ok(())
}

fn processors(pool: &Document) -> i64 {
    let tier = value_at(pool, &["properties", "tier"]).and_then(Value::as_str).unwrap_or("S1");
    let each = TIERS.iter().find(|(name, _)| name.eq_ignore_ascii_case(tier)).map_or(0, |(_, each)| *each);
    let count = value_at(pool, &["properties", "count"]).and_then(Value::as_i64).unwrap_or(1);
    each.saturating_mul(count.clamp(0, MAX_CPU))
}
