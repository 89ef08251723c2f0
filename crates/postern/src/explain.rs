//! `postern explain`: why a request was decided as it was, or how one would be.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use postern_access::{
    Caller, Credential, Ingress, Inputs, Operation, OperationKind, Origin, PrincipalKind, RegistryRules, Verified,
    Workload, WorkloadState, evaluate,
};
use postern_audit::{Record, render};
use postern_estate::Estate;
use postern_identity::FirstPartyService;
use postern_model::{CorrelationId, IdentityKind, PrincipalId, Reference, RepositoryName, ResourceId, Timestamp};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::client::{AdminClient, ServerArgument};
use crate::config::Config;
use crate::places::Places;
use crate::{runtime, say};

/// A public address that is nobody's: where a caller is from unless told.
const SOMEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 99));

#[derive(Debug, Args)]
pub(crate) struct ExplainArguments {
    /// The id of a request that was made: from the refusal's body, or the `x-ms-correlation-request-id` header.
    #[arg(conflicts_with_all = ["as", "from", "pull", "push", "delete", "catalog"])]
    id: Option<CorrelationId>,
    #[command(flatten)]
    server: ServerArgument,
    /// Ask an estate file instead of a server.
    #[arg(long, value_name = "FILE")]
    estate: Option<PathBuf>,
    /// With --estate: the configuration that says how decisions are made and which places there are.
    #[arg(long, value_name = "FILE", requires = "estate")]
    config: Option<PathBuf>,
    /// The registry's name, unless the image names it.
    #[arg(long, value_name = "NAME")]
    registry: Option<String>,
    /// Who: `none`, `anonymous`, `admin`, `scanner`, `importer`, `token:NAME`, an object id, a client id, a principal's name, or
    /// the resource id of a workload.
    #[arg(long, value_name = "WHO")]
    r#as: Option<String>,
    /// The user-assigned identity that the workload uses; default: its system-assigned one, or else its first.
    #[arg(long, value_name = "RESOURCE ID")]
    identity: Option<String>,
    /// Where from: an address, a place's name, `private-endpoint:NAME` or `subnet:RESOURCE ID`.
    #[arg(long, value_name = "WHERE")]
    from: Option<String>,
    /// Pull this image: `repository:tag`, `repository@digest`, or with the login server in front.
    #[arg(long, value_name = "IMAGE", group = "what")]
    pull: Option<String>,
    /// Push this image.
    #[arg(long, value_name = "IMAGE", group = "what")]
    push: Option<String>,
    /// Delete this image.
    #[arg(long, value_name = "IMAGE", group = "what")]
    delete: Option<String>,
    /// List the repositories.
    #[arg(long, group = "what")]
    catalog: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A hypothetical request, as it travels to the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Question {
    /// The registry's name; `None`: the default one.
    pub(crate) registry: Option<String>,
    /// Who calls, in the form of `--as`.
    pub(crate) r#as: String,
    /// The identity that a workload uses.
    pub(crate) identity: Option<String>,
    /// Where from, in the form of `--from`.
    pub(crate) from: Option<String>,
    /// The operation's name, as in records.
    pub(crate) operation: String,
    /// The repository.
    pub(crate) repository: Option<String>,
    /// The tag or digest.
    pub(crate) reference: Option<String>,
}

pub(crate) fn run(arguments: ExplainArguments) -> anyhow::Result<ExitCode> {
    let record = match (&arguments.id, &arguments.estate) {
        (Some(id), _) => runtime()?.block_on(async {
            let client = AdminClient::connect(&arguments.server.server).await?;
            client.send(Method::GET, &format!("/postern/v1/decisions/{id}"), None).await
        })?,
        (None, Some(file)) => from_file(&arguments, file)?,
        (None, None) => runtime()?.block_on(async {
            let question = serde_json::to_value(question(&arguments)?)?;
            let client = AdminClient::connect(&arguments.server.server).await?;
            client.send(Method::POST, "/postern/v1/explain", Some(&question)).await
        })?,
    };
    if arguments.json {
        say(serde_json::to_string_pretty(&record)?);
    } else {
        say(in_words(&record));
    }
    Ok(ExitCode::SUCCESS)
}

fn from_file(arguments: &ExplainArguments, file: &std::path::Path) -> anyhow::Result<Value> {
    let config = Config::load(arguments.config.as_deref())?;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let documents = crate::apply::documents(&text)?;
    let estate = Estate::from_documents(&config.server.suffix, documents)?;
    let settings = Arc::new(config.access.settings()?);
    let question = question(arguments)?;
    let registry = if let Some(name) = &question.registry {
        estate.registry_named(name).with_context(|| format!("the file has no registry `{name}`"))?
    } else {
        let mut all = estate.all_registries();
        match (all.next(), all.next()) {
            (Some(only), None) => only,
            _ => bail!("say which registry with --registry"),
        }
    };
    let rules = Arc::new(estate.rules(&registry.id.clone(), &settings)?.rules);
    let places = Places::new(&config.places)?;
    question.answer(&estate, rules, &places, Timestamp::from_unix_seconds(0))
}

fn question(arguments: &ExplainArguments) -> anyhow::Result<Question> {
    let (operation, image) = match (&arguments.pull, &arguments.push, &arguments.delete, arguments.catalog) {
        (Some(image), _, _, _) => (OperationKind::PullManifest, Some(image)),
        (_, Some(image), _, _) => (OperationKind::PushManifest, Some(image)),
        (_, _, Some(image), _) => (OperationKind::DeleteManifest, Some(image)),
        (_, _, _, true) => (OperationKind::ListCatalog, None),
        _ => bail!("give a request's id, or say what with --pull, --push, --delete or --catalog"),
    };
    let image = image.map(|image| Image::parse(image)).transpose()?.unwrap_or_default();
    Ok(Question {
        registry: arguments.registry.clone().or(image.registry),
        r#as: arguments.r#as.clone().unwrap_or_else(|| "none".into()),
        identity: arguments.identity.clone(),
        from: arguments.from.clone(),
        operation: operation.as_str().into(),
        repository: image.repository,
        reference: image.reference,
    })
}

/// An image as people write it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    registry: Option<String>,
    pub(crate) repository: Option<String>,
    pub(crate) reference: Option<String>,
}

impl Image {
    /// `[login server/]repository[:tag|@digest]`
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let (registry, rest) = match text.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) => {
                let name = host.split(['.', ':']).next().unwrap_or(host);
                ((name != "localhost").then(|| name.to_owned()), rest)
            }
            _ => (None, text),
        };
        let (repository, reference) = match (rest.split_once('@'), rest.rsplit_once(':')) {
            (Some((repository, digest)), _) => (repository, digest),
            (None, Some((repository, tag))) => (repository, tag),
            (None, None) => (rest, "latest"),
        };
        repository.parse::<RepositoryName>()?;
        reference.parse::<Reference>()?;
        Ok(Self { registry, repository: Some(repository.into()), reference: Some(reference.into()) })
    }
}

impl Question {
    /// Decides the hypothetical request and says why, as a record without id.
    pub(crate) fn answer(
        &self,
        estate: &Estate,
        rules: Arc<RegistryRules>,
        places: &Places,
        time: Timestamp,
    ) -> anyhow::Result<Value> {
        let (credential, workload) = self.caller(estate)?;
        let origin = self.origin(estate, places, workload)?;
        let operation = self.operation()?;
        let inputs =
            Inputs { origin: &origin, rules: &rules, credential: &credential, operation: &operation, content: None };
        let decision = evaluate(&inputs);
        let status = match decision.permit() {
            Ok(_) => 200,
            Err(postern_access::Layer::Network) => 403,
            Err(postern_access::Layer::Authentication | postern_access::Layer::Authorization) => 401,
            Err(postern_access::Layer::Content) => 405,
        };
        let id = CorrelationId(Uuid::nil());
        let record = Record {
            id,
            time,
            rules,
            origin,
            credential,
            operation,
            content: None,
            decision,
            status,
            user_agent: None,
        };
        let mut value = render(&record);
        if let Some(object) = value.as_object_mut() {
            object.remove("id");
            object.remove("time");
            object.insert("hypothetical".into(), true.into());
        }
        Ok(value)
    }

    /// The resources that it names by id.
    pub(crate) fn resources(&self) -> Vec<ResourceId> {
        let from = self.from.as_deref().unwrap_or_default();
        let endpoint = from.strip_prefix("private-endpoint:").or_else(|| from.strip_prefix("subnet:"));
        let named = [Some(self.r#as.as_str()), self.identity.as_deref(), endpoint].into_iter().flatten();
        named.filter(|text| text.starts_with('/')).filter_map(|text| text.parse().ok()).collect()
    }

    fn operation(&self) -> anyhow::Result<Operation> {
        let kind = OperationKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == self.operation)
            .with_context(|| format!("`{}` is not an operation", shown(&self.operation)))?;
        let repository = self.repository.as_deref().map(str::parse::<RepositoryName>).transpose()?;
        let reference = self.reference.as_deref().map(str::parse::<Reference>).transpose()?;
        let of_registry = matches!(kind, OperationKind::ListCatalog | OperationKind::ListDeletedCatalog);
        let needs_repository = !kind.required().is_empty() && !of_registry;
        ensure!(
            repository.is_some() == needs_repository,
            "operation `{}` needs {} repository",
            kind.as_str(),
            if needs_repository { "a" } else { "no" }
        );
        Ok(Operation { kind, repository, reference })
    }

    fn origin(&self, estate: &Estate, places: &Places, workload: WorkloadState) -> anyhow::Result<Origin> {
        let origin = |ingress, address, place: &str| Origin {
            ingress,
            address,
            place: place.into(),
            simulated: false,
            workload: workload.clone(),
        };
        let from = self.from.as_deref().unwrap_or_default();
        if from.is_empty() {
            return Ok(origin(Ingress::Public, SOMEWHERE, "somewhere on the internet"));
        }
        if let Ok(address) = from.parse::<IpAddr>() {
            return Ok(origin(Ingress::Public, address, "public"));
        }
        if let Some(endpoint) = from.strip_prefix("private-endpoint:") {
            let id = find(estate, endpoint, "Microsoft.Network/privateEndpoints")?;
            return Ok(origin(Ingress::PrivateEndpoint(id), SOMEWHERE, "private endpoint"));
        }
        if let Some(subnet) = from.strip_prefix("subnet:") {
            let id = subnet.parse::<ResourceId>().context("a subnet is given by its resource id")?;
            return Ok(origin(Ingress::Subnet(id), SOMEWHERE, "subnet"));
        }
        let arrival = places.named(from).with_context(|| {
            format!("`{}` is no address and no place; places are: {}", shown(from), places.names().join(", "))
        })?;
        Ok(Origin {
            ingress: arrival.ingress,
            address: arrival.address,
            place: arrival.place,
            simulated: arrival.simulated,
            workload,
        })
    }

    fn caller(&self, estate: &Estate) -> anyhow::Result<(Credential, WorkloadState)> {
        let verified = |caller| Credential::Verified(Verified { caller, claim: None, binding: None });
        let who = self.r#as.as_str();
        Ok(match who {
            "none" => (Credential::None, WorkloadState::None),
            "anonymous" => (verified(Caller::Anonymous), WorkloadState::None),
            "admin" => (verified(Caller::Admin), WorkloadState::None),
            "scanner" => {
                let service = FirstPartyService::Scanner;
                let caller = service.caller().context("the scanner calls as itself")?;
                (verified(Caller::Principal(Arc::new(caller))), WorkloadState::Verified(Arc::new(service.workload())))
            }
            "importer" => (Credential::None, WorkloadState::Verified(Arc::new(FirstPartyService::Importer.workload()))),
            _ if who.starts_with("token:") => {
                let name = who.trim_start_matches("token:");
                (verified(Caller::RepositoryToken(name.into())), WorkloadState::None)
            }
            _ if who.starts_with('/') => {
                let id = who.parse::<ResourceId>()?;
                let workload = estate.workload(&id).with_context(|| format!("there is no resource `{id}`"))?;
                let credential = match self.identity_of(estate, &workload)? {
                    Some(principal) => verified(Caller::Principal(principal_named(estate, principal)?)),
                    None => Credential::None,
                };
                (credential, WorkloadState::Verified(Arc::new(workload)))
            }
            _ => (verified(Caller::Principal(principal_by_text(estate, who)?)), WorkloadState::None),
        })
    }

    fn identity_of(&self, estate: &Estate, workload: &Workload) -> anyhow::Result<Option<PrincipalId>> {
        let Some(wanted) = &self.identity else {
            let system = workload.identities.iter().find(|identity| identity.kind == IdentityKind::SystemAssigned);
            return Ok(system.or(workload.identities.first()).map(|identity| identity.principal));
        };
        let id = wanted.parse::<ResourceId>()?;
        let (principal, _) = estate.user_identity(&id).with_context(|| format!("there is no identity `{id}`"))?;
        let given = workload.identities.iter().any(|own| own.principal == principal);
        ensure!(given, "the workload was not given identity `{}`", id.name());
        Ok(Some(principal))
    }
}

fn principal_named(estate: &Estate, id: PrincipalId) -> anyhow::Result<Arc<postern_access::Principal>> {
    let principal = estate.principal(id).with_context(|| format!("there is no principal {id}"))?;
    Ok(Arc::new(principal.as_caller()))
}

fn principal_by_text(estate: &Estate, text: &str) -> anyhow::Result<Arc<postern_access::Principal>> {
    let found = if let Ok(id) = text.parse::<Uuid>() {
        estate.principal(PrincipalId(id)).or_else(|| estate.principal_by_client_id(id))
    } else {
        let mut named = estate
            .principal_ids()
            .into_iter()
            .filter_map(|id| estate.principal(id))
            .filter(|principal| principal.kind != PrincipalKind::Group && *principal.display_name == *text);
        let first = named.next();
        ensure!(named.next().is_none(), "several principals are called `{}`: give an object id", shown(text));
        first
    };
    let principal = found.with_context(|| format!("there is no principal `{}`", shown(text)))?;
    Ok(Arc::new(principal.as_caller()))
}

fn find(estate: &Estate, text: &str, resource_type: &str) -> anyhow::Result<ResourceId> {
    if text.starts_with('/') {
        return Ok(text.parse()?);
    }
    let mut named = estate
        .iter()
        .filter(|resource| resource.id.is_type(resource_type) && resource.id.name().eq_ignore_ascii_case(text));
    match (named.next(), named.next()) {
        (Some(only), None) => Ok(only.id.clone()),
        (None, _) => bail!("there is no `{}` of type {resource_type}", shown(text)),
        (Some(_), Some(_)) => bail!("several resources are called `{}`: give a resource id", shown(text)),
    }
}

/// Text from outside, short and without control characters.
fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

/// A record for people.
pub(crate) fn in_words(record: &Value) -> String {
    let text = |pointer: &str| match record.pointer(pointer) {
        Some(Value::String(text)) => shown_long(text),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    };
    let mut lines = vec![format!(
        "{} {} by {}: {}{} on {}",
        text("/verdict"),
        text("/status"),
        text("/decidedBy"),
        text("/operation"),
        match (text("/repository"), text("/reference")) {
            (repository, _) if repository.is_empty() => repository,
            (repository, reference) if reference.is_empty() => format!(" {repository}"),
            (repository, digest) if digest.contains(':') => format!(" {repository}@{digest}"),
            (repository, tag) => format!(" {repository}:{tag}"),
        },
        text("/loginServer"),
    )];
    let simulated = if text("/origin/simulated") == "true" { ", simulated" } else { "" };
    lines.push(format!(
        "  from  {}, {} (place `{}`{simulated})",
        text("/origin/address"),
        text("/origin/ingress"),
        text("/origin/place")
    ));
    let workload = text("/origin/workload/resource");
    if !workload.is_empty() {
        lines.push(format!("  workload  {workload}"));
    }
    for layer in record.pointer("/layers").and_then(Value::as_array).into_iter().flatten() {
        let part = |key: &str| layer.get(key).and_then(Value::as_str).unwrap_or_default();
        let findings = layer.get("findings").and_then(Value::as_array).into_iter().flatten();
        let findings = findings.filter_map(Value::as_str).map(shown_long).collect::<Vec<_>>().join("; ");
        lines.push(format!("  {:<15} {:<8} {findings}", part("layer"), part("outcome")).trim_end().to_owned());
    }
    let fixes = record.pointer("/fixes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if !fixes.is_empty() {
        lines.push("  what would allow it, any one of:".into());
    }
    for fix in fixes {
        let changes = fix.as_array().into_iter().flatten().filter_map(Value::as_str).map(shown_long);
        lines.push(format!("    - {}", changes.collect::<Vec<_>>().join(", and ")));
    }
    let id = text("/id");
    if !id.is_empty() {
        lines.push(format!("  at {}, rules of generation {}, id {id}", text("/time"), text("/generation")));
    }
    lines.join("\n")
}

fn shown_long(text: &str) -> String {
    text.chars().take(512).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(Option<&str>, &str, &str)>) {
        let image = Image::parse(text).ok();
        let parts = image.as_ref().map(|image| {
            (image.registry.as_deref(), image.repository.as_deref().unwrap(), image.reference.as_deref().unwrap())
        });
        assert_eq!(parts, expected, "{text}");
    }

    #[test]
    fn images() {
        check("app", Some((None, "app", "latest")));
        check("team/app:1.0", Some((None, "team/app", "1.0")));
        check("myreg.azurecr.io.localhost:5443/team/app:1.0", Some((Some("myreg"), "team/app", "1.0")));
        check("localhost:5443/app", Some((None, "app", "latest")));
        let digest = format!("sha256:{}", "a".repeat(64));
        check(&format!("app@{digest}"), Some((None, "app", digest.as_str())));
        check("App:1", None);
        check("app:", None);
    }
}
