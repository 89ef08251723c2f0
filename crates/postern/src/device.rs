//! `postern device`: answers devices that wait to be signed in.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{AdminClient, ServerArgument};
use crate::{runtime, say};

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// Sign a device in that shows this code, as with `az login --use-device-code`.
    Approve(ApproveArguments),
    /// Refuse it.
    Decline(DeclineArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ApproveArguments {
    /// The code that the device shows.
    code: String,
    /// Whom it shall act as: a user principal name or an object id. Default: the server's administrator, for eight hours.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    server: ServerArgument,
}

#[derive(Debug, Args)]
pub(crate) struct DeclineArguments {
    /// The code that the device shows.
    code: String,
    #[command(flatten)]
    server: ServerArgument,
}

pub(crate) fn run(command: DeviceCommand) -> anyhow::Result<ExitCode> {
    let (code, verb, user, server) = match command {
        DeviceCommand::Approve(ApproveArguments { code, user, server }) => (code, "approve", user, server),
        DeviceCommand::Decline(DeclineArguments { code, server }) => (code, "decline", None, server),
    };
    let path = format!("/postern/v1/deviceLogins/{}/{verb}", in_path(&code));
    let body = user.as_ref().map(|user| json!({ "user": user }));
    let login = runtime()?.block_on(async {
        let client = AdminClient::connect(&server.server).await?;
        client.send(Method::POST, &path, body.as_ref()).await
    })?;
    let text = |name: &str| login.get(name).and_then(Value::as_str).unwrap_or_default();
    let whom = user.as_deref().unwrap_or("the administrator");
    let outcome = if verb == "approve" { format!("signed in as {whom}") } else { "declined".to_owned() };
    say(format!("{outcome}: the sign-in that began at {} from {}", text("begun"), text("source")));
    Ok(ExitCode::SUCCESS)
}

/// A code as part of a path: letters, digits and hyphens are what codes have; anything else is none.
fn in_path(code: &str) -> String {
    let kept: String = code.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    if kept.is_empty() { "-".to_owned() } else { kept }
}
