//! `postern apply` and `postern export`: resources from and to a file, by the same requests that any client of the resource
//! manager sends.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use postern_estate::{Document, import};
use reqwest::Method;
use serde_json::Value;

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
    let needs_group = documents.iter().any(|document| id_of(document).to_lowercase().starts_with(&format!("{}/", group.to_lowercase())));
    if needs_group && client.send(Method::GET, &group, None).await.is_err() {
        let body = serde_json::json!({"location": target.location});
        client.send(Method::PUT, &group, Some(&body)).await?;
    }
    let mut applied = Vec::new();
    for document in documents {
        let id = id_of(&document).to_owned();
        let path = format!("{}?api-version={NEWEST}", id.replace('%', "%25").replace(' ', "%20"));
        client.send(Method::PUT, &path, Some(&Value::Object(document))).await?;
        applied.push(id);
    }
    Ok(applied)
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
