//! `postern demo`: the main job on one machine, without root. A registry is locked down step by step; each row of the table is a
//! real HTTPS request from its place, and what it says about the decision is read back from the audit records.

mod caller;
mod image;
mod stage;
mod story;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::stage::Stage;
use crate::{runtime, say};

#[derive(Debug, Args)]
pub(crate) struct DemoArguments {
    /// Exit after the table.
    #[arg(long)]
    once: bool,
    /// The port to listen on; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Keep the data in this folder; default: a folder that goes away.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(crate) fn run(arguments: DemoArguments) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut stage = Stage::build(arguments.port, arguments.data.as_deref()).await?;
        say("A registry, `myregistry`, is locked down. Who still gets in, and why?\n");
        let told = story::play(&mut stage).await;
        if told.is_ok() {
            say(table::render(&stage.rows));
            if !arguments.once {
                how_to_go_on(&stage)?;
                tokio::select! {
                    _ = terminate.recv() => {}
                    stopped = tokio::signal::ctrl_c() => stopped?,
                }
            }
        }
        stage.clear().await;
        told.map(|()| ExitCode::SUCCESS)
    })
}

fn how_to_go_on(stage: &Stage) -> anyhow::Result<()> {
    let bootstrap = stage.bootstrap();
    let address: SocketAddr = crate::client::first_address(bootstrap)?;
    let (port, folder) = (address.port(), stage.folder().display());
    let (user, file, authority) =
        (&bootstrap.client_id, stage.running().bootstrap_file.display(), bootstrap.ca_file.display());
    let trust = bootstrap.ca_file.parent().unwrap_or(stage.folder()).display();
    say(format_args!(
        "It goes on serving; stop it with Ctrl-C. `localhost:{port}` is the registry `postern`, which is open.

The administrator's name is {user}, the password is in {file}:
  PASSWORD=$(sed -n 's/.*\"clientSecret\": \"\\(.*\\)\".*/\\1/p' {file})

docker  docker login localhost:{port} -u {user} --password-stdin <<< $PASSWORD
        docker pull localhost:{port}/hello-world:v1
podman  podman run --rm --creds {user}:$PASSWORD --cert-dir {trust} localhost:{port}/hello-world:v1
skopeo  skopeo inspect --creds {user}:$PASSWORD --cert-dir {trust} docker://localhost:{port}/hello-world:v1
oras    oras manifest fetch --plain-http=false --ca-file {authority} -u {user} -p $PASSWORD localhost:{port}/hello-world:v1

Why a row is as it is:
  postern explain --server {folder} ID
What if:
  postern explain --server {folder} --as mycontainer --from internet --pull myregistry{suffix}/hello-world:v1
",
        suffix = bootstrap.registry_suffix,
    ));
    Ok(())
}
