//! `postern apply` and `postern export`: resources from and to a file, by the same requests that any client of the resource
//! manager sends.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use aws_lc_rs::digest::{SHA256, digest};
use clap::Args;
use postern_estate::{Document, import, types};
use postern_model::ResourceId;
use reqwest::Method;
use serde_json::Value;
use uuid::Uuid;

use crate::client::{AdminClient, ServerArgument};
use crate::{runtime, say};

/// Knows every property, so that a file says all there is to say about a resource.
const NEWEST: &str = "2026-09-01-preview";
const EXAMPLE_SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";
const DEFAULT_GROUP: &str = "postern";
const DEFAULT_LOCATION: &str = "eastus";

#[derive(Debug, Args)]
pub(crate) struct ApplyArguments {
    #[command(flatten)]
    server: ServerArgument,
    /// JSON: a resource, a list (`az resource list`, `az acr show`), or an ARM template. `-` reads standard input.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The resource group that a template goes into; it is made if it is missing.
    #[arg(long, default_value = DEFAULT_GROUP, value_name = "NAME")]
    group: String,
    /// The location of a group that is made.
    #[arg(long, default_value = DEFAULT_LOCATION, value_name = "NAME")]
    location: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    #[command(flatten)]
    server: ServerArgument,
    /// The scope whose resources are printed; default: everything.
    #[arg(long, default_value = "/", value_name = "RESOURCE ID")]
    scope: String,
}

pub(crate) fn apply(arguments: ApplyArguments) -> anyhow::Result<ExitCode> {
    let text = if arguments.file.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(&arguments.file).with_context(|| format!("cannot read {}", arguments.file.display()))?
    };
    runtime()?.block_on(async {
        let client = AdminClient::connect(&arguments.server.server).await?;
        let target = import::Target {
            subscription: client.bootstrap.subscription_id.clone(),
            resource_group: arguments.group.clone(),
            location: arguments.location.clone(),
        };
        for id in put_all(&client, &text, &target).await? {
            say(format_args!("applied {id}"));
        }
        anyhow::Ok(ExitCode::SUCCESS)
    })
}

/// Creates or updates every resource of the text; a template's group is made first if it is missing.
pub(crate) async fn put_all(client: &AdminClient, text: &str, target: &import::Target) -> anyhow::Result<Vec<String>> {
    let documents = import::parse(text, Some(target))?;
    let group = format!("/subscriptions/{}/resourceGroups/{}", target.subscription, target.resource_group);
    let needs_group = documents
        .iter()
        .any(|document| id_of(document).to_lowercase().starts_with(&format!("{}/", group.to_lowercase())));
    if needs_group && client.send(Method::GET, &group, None).await.is_err() {
        let body = serde_json::json!({"location": target.location});
        client.send(Method::PUT, &group, Some(&body)).await?;
    }
    let mut applied = Vec::new();
    for mut document in documents {
        if is_role_assignment(&document) {
            settle_role_assignment(client, &mut document).await?;
        }
        let id = id_of(&document).to_owned();
        let path = format!("{}?api-version={NEWEST}", id.replace('%', "%25").replace(' ', "%20"));
        client.send(Method::PUT, &path, Some(&Value::Object(document))).await?;
        applied.push(id);
    }
    Ok(applied)
}

fn is_role_assignment(document: &Document) -> bool {
    id_of(document).parse().is_ok_and(|id: ResourceId| id.is_type(types::ROLE_ASSIGNMENTS))
}

/// Files are written before the identities in them exist. So a role assignment may name its principal by the resource that has the
/// identity, its role by name, and itself by any text; here they become what the resource manager takes.
async fn settle_role_assignment(client: &AdminClient, document: &mut Document) -> anyhow::Result<()> {
    let id: ResourceId = id_of(document).parse()?;
    let scope = id.parent().unwrap_or_else(ResourceId::root);
    if id.name().parse::<Uuid>().is_err() {
        let mut bytes = [0; 16];
        let digest = digest(&SHA256, id.key().as_bytes());
        bytes.iter_mut().zip(digest.as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
        let name = uuid::Builder::from_random_bytes(bytes).into_uuid().to_string();
        let base = scope.as_str().trim_end_matches('/');
        document.insert("id".into(), format!("{base}/providers/{}/{name}", types::ROLE_ASSIGNMENTS).into());
        document.insert("name".into(), name.into());
    }
    let Some(Value::Object(properties)) = document.get_mut("properties") else { return Ok(()) };
    let text =
        |properties: &Document, key: &str| properties.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let owner = text(properties, "principalId");
    if owner.starts_with('/') {
        let found = client.send(Method::GET, &owner, None).await?;
        let principal = found.pointer("/identity/principalId").or_else(|| found.pointer("/properties/principalId"));
        let principal = principal.with_context(|| format!("`{owner}` has no identity to assign a role to"))?;
        properties.insert("principalId".into(), principal.clone());
    }
    let role = text(properties, "roleDefinitionId");
    if !role.starts_with('/') {
        let filter = crate::client::form_body(&[("$filter", &format!("roleName eq '{}'", role.replace('\'', "''")))]);
        let path = format!("{scope}/providers/{}?{filter}", types::ROLE_DEFINITIONS);
        let found = client.send(Method::GET, &path, None).await?;
        let definition = found.pointer("/value/0/id").with_context(|| format!("there is no role `{role}`"))?;
        properties.insert("roleDefinitionId".into(), definition.clone());
    }
    Ok(())
}

fn id_of(document: &Document) -> &str {
    document.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// The documents of a file that is not applied anywhere.
pub(crate) fn documents(text: &str) -> anyhow::Result<Vec<Document>> {
    let target = import::Target {
        subscription: EXAMPLE_SUBSCRIPTION.into(),
        resource_group: DEFAULT_GROUP.into(),
        location: DEFAULT_LOCATION.into(),
    };
    Ok(import::parse(text, Some(&target))?)
}

pub(crate) fn export(arguments: ExportArguments) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let client = AdminClient::connect(&arguments.server.server).await?;
        let scope = crate::client::form_body(&[("scope", &arguments.scope)]);
        let estate = client.send(Method::GET, &format!("/postern/v1/export?{scope}"), None).await?;
        say(serde_json::to_string_pretty(&estate)?);
        anyhow::Ok(ExitCode::SUCCESS)
    })
}
