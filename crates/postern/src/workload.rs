//! `postern workload run`: a program that runs as a workload, unmodified: its connections go through the workload gateway, its
//! clients find a managed identity endpoint, trust the server and are logged in.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use postern_identity::{
    CertificateSource, Gateway, GatewayError, GatewayOptions, REFRESH_TOKEN_USER, WorkloadCertificate, WorkloadKey,
};
use postern_model::{ResourceId, Secret, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};

use crate::bootstrap::{Bootstrap, write_private};
use crate::client::{AdminClient, FORM, ServerArgument, first_address, form_body, http_client, token_of};
use crate::server::Names;
use crate::{environment, runtime, say};

/// The audience of tokens for registries.
pub(crate) const AUDIENCE: &str = "https://containerregistry.azure.net";

#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadCommand {
    /// Run a program as a workload.
    Run(RunArguments),
    /// Write a workload's certificate and key, in the form of a `certs.d` folder.
    Certificate(CertificateArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    #[command(flatten)]
    server: ServerArgument,
    /// The resource to run as.
    #[arg(long = "as", value_name = "RESOURCE ID")]
    resource: ResourceId,
    /// The user-assigned identity to log in with; default: the system-assigned one, or else the only one.
    #[arg(long, value_name = "RESOURCE ID")]
    identity: Option<ResourceId>,
    /// Registries to log in to; default: all.
    #[arg(long = "registry", value_name = "NAME")]
    registries: Vec<String>,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct CertificateArguments {
    #[command(flatten)]
    server: ServerArgument,
    /// The resource to get a certificate for.
    #[arg(long = "as", value_name = "RESOURCE ID")]
    resource: ResourceId,
    /// The folder to write `ca.crt`, `client.cert` and `client.key` to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) fn run(command: WorkloadCommand) -> anyhow::Result<ExitCode> {
    runtime()?.block_on(async {
        match command {
            WorkloadCommand::Run(arguments) => run_program(arguments).await,
            WorkloadCommand::Certificate(arguments) => write_certificate(arguments).await,
        }
    })
}

async fn write_certificate(arguments: CertificateArguments) -> anyhow::Result<ExitCode> {
    let client = AdminClient::connect(&arguments.server.server).await?;
    let key = WorkloadKey::generate()?;
    let certificate = certificate(&client, &arguments.resource, &key.request_pem()?).await?;
    fs::create_dir_all(&arguments.out)?;
    fs::copy(&client.bootstrap.ca_file, arguments.out.join("ca.crt"))?;
    fs::write(arguments.out.join("client.cert"), certificate.certificate_pem)?;
    write_private(&arguments.out.join("client.key"), key.pem().expose().as_bytes())?;
    say(format_args!("wrote a certificate for {} to {}", arguments.resource, arguments.out.display()));
    Ok(ExitCode::SUCCESS)
}

/// Has a certificate made for the key of a signing request.
pub(crate) async fn certificate(
    client: &AdminClient,
    resource: &ResourceId,
    request: &str,
) -> anyhow::Result<WorkloadCertificate> {
    let body = json!({"csr": request});
    let answer = client.send(Method::POST, &format!("{resource}/issueWorkloadCertificate"), Some(&body)).await?;
    let text = |name: &str| {
        answer
            .get(name)
            .and_then(Value::as_str)
            .map(str::to_owned)
            .with_context(|| format!("the answer holds no {name}"))
    };
    Ok(WorkloadCertificate {
        certificate_pem: text("certificate")?,
        ca_pem: text("ca")?,
        not_after: text("notAfter")?.parse::<Timestamp>()?,
    })
}

/// A gateway whose certificates the administrator asks for.
pub(crate) async fn gateway(
    client: AdminClient,
    resource: ResourceId,
    local_address: Option<IpAddr>,
) -> anyhow::Result<Gateway> {
    let bootstrap = client.bootstrap.clone();
    let client = Arc::new(client);
    let issue = move |request: String| {
        let (client, resource) = (Arc::clone(&client), resource.clone());
        async move {
            certificate(&client, &resource, &request).await.map_err(|error| GatewayError::Refused(format!("{error:#}")))
        }
    };
    gateway_with(&bootstrap, Arc::new(issue), local_address).await
}

/// A gateway with certificates from elsewhere.
pub(crate) async fn gateway_with(
    bootstrap: &Bootstrap,
    certificates: Arc<dyn CertificateSource>,
    local_address: Option<IpAddr>,
) -> anyhow::Result<Gateway> {
    let suffix = bootstrap.registry_suffix.trim_start_matches('.').split(':').next().unwrap_or_default();
    let options = GatewayOptions {
        server: first_address(bootstrap)?.to_string(),
        ca_pem: fs::read_to_string(&bootstrap.ca_file)?,
        server_name: Names::new(suffix).gateway().to_owned(),
        authority: "localhost".into(),
        suffix: suffix.to_owned(),
        names: vec!["localhost".into()],
        direct: true,
        instance_metadata: false,
        listen: None,
        listener: None,
        local_address,
        certificates,
        clock: environment::clock(),
        random: environment::random(),
    };
    Ok(Gateway::start(options).await?)
}

async fn run_program(arguments: RunArguments) -> anyhow::Result<ExitCode> {
    let admin = AdminClient::connect(&arguments.server.server).await?;
    let bootstrap = admin.bootstrap.clone();
    let registries = if arguments.registries.is_empty() { registry_names(&admin).await? } else { arguments.registries };
    let client_id = match &arguments.identity {
        Some(identity) => Some(client_id_of(&admin, identity).await?),
        None => None,
    };
    let gateway = gateway(admin, arguments.resource, None).await?;
    let folder = Folder::new()?;
    let hosts = registries.iter().map(|name| format!("{}{}", name.to_lowercase(), bootstrap.registry_suffix));
    let credentials = log_in(&bootstrap, &gateway, hosts, client_id.as_deref()).await?;
    folder.write("config.json", credentials.to_string().as_bytes())?;
    let mut authorities = fs::read(&bootstrap.ca_file)?;
    for system in ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"] {
        if let Ok(system) = fs::read(system) {
            authorities.extend(system);
            break;
        }
    }
    folder.write("ca.crt", &authorities)?;

    let (program, rest) = arguments.command.split_first().context("no command")?;
    let mut command = tokio::process::Command::new(program);
    command.args(rest);
    for (name, value) in variables(&gateway, &folder, client_id.as_deref()) {
        command.env(name, value);
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let status = child.wait().await?;
    drop(gateway);
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// What clients read: Go, Python, Node, curl and the container tools each have a variable of their own.
fn variables(gateway: &Gateway, folder: &Folder, client_id: Option<&str>) -> Vec<(&'static str, String)> {
    let proxy = gateway.proxy_url.expose().to_owned();
    let authorities = folder.path("ca.crt");
    let secret = gateway.identity_header.expose().to_owned();
    let mut variables = vec![
        ("HTTPS_PROXY", proxy.clone()),
        ("https_proxy", proxy),
        ("SSL_CERT_FILE", authorities.clone()),
        ("REQUESTS_CA_BUNDLE", authorities.clone()),
        ("CURL_CA_BUNDLE", authorities.clone()),
        ("NODE_EXTRA_CA_CERTS", authorities),
        ("IDENTITY_ENDPOINT", gateway.identity_endpoint.clone()),
        ("IDENTITY_HEADER", secret.clone()),
        ("MSI_ENDPOINT", gateway.identity_endpoint.clone()),
        ("MSI_SECRET", secret),
        ("REGISTRY_AUTH_FILE", folder.path("config.json")),
        ("DOCKER_CONFIG", folder.0.display().to_string()),
    ];
    variables.extend(client_id.map(|id| ("AZURE_CLIENT_ID", id.to_owned())));
    variables
}

/// Logs in to the registries as clients keep it. A registry that refuses is left out: the program's own attempt then tells why.
async fn log_in(
    bootstrap: &Bootstrap,
    gateway: &Gateway,
    hosts: impl Iterator<Item = String>,
    client_id: Option<&str>,
) -> anyhow::Result<Value> {
    let client = http_client(bootstrap)?.proxy(reqwest::Proxy::all(gateway.proxy_url.expose())?).build()?;
    let mut auths = serde_json::Map::new();
    let Ok(token) = managed_identity_token(gateway, client_id).await else { return Ok(json!({"auths": {}})) };
    for host in hosts {
        let form = form_body(&[
            ("grant_type", "access_token"),
            ("service", &host),
            ("tenant", &bootstrap.tenant_id),
            ("access_token", token.expose()),
        ]);
        let request = client.post(format!("https://{host}/oauth2/exchange")).header("content-type", FORM).body(form);
        if let Ok(refresh) = token_of(request.send().await?, "refresh_token").await {
            let login = format!("{REFRESH_TOKEN_USER}:{}", refresh.expose());
            auths.insert(host, json!({"auth": STANDARD.encode(login)}));
        }
    }
    Ok(json!({"auths": auths}))
}

/// A managed identity's token for registries, asked for as any program in the workload would.
pub(crate) async fn managed_identity_token(gateway: &Gateway, client_id: Option<&str>) -> anyhow::Result<Secret> {
    let mut url = format!("{}?api-version=2019-08-01&resource={AUDIENCE}", gateway.identity_endpoint);
    if let Some(client_id) = client_id {
        url = format!("{url}&client_id={client_id}");
    }
    let request = reqwest::Client::builder().no_proxy().build()?.get(url);
    token_of(request.header("x-identity-header", gateway.identity_header.expose()).send().await?, "access_token").await
}

async fn client_id_of(admin: &AdminClient, identity: &ResourceId) -> anyhow::Result<String> {
    let found = admin.send(Method::GET, identity.as_str(), None).await?;
    match found.pointer("/properties/clientId").and_then(Value::as_str) {
        Some(id) => Ok(id.to_owned()),
        None => bail!("`{identity}` is not a user-assigned identity"),
    }
}

/// The names of all registries that the administrator sees.
pub(crate) async fn registry_names(admin: &AdminClient) -> anyhow::Result<Vec<String>> {
    let subscription = &admin.bootstrap.subscription_id;
    let list = admin
        .send(
            Method::GET,
            &format!("/subscriptions/{subscription}/providers/Microsoft.ContainerRegistry/registries"),
            None,
        )
        .await?;
    let names = list.pointer("/value").and_then(Value::as_array).into_iter().flatten();
    Ok(names.filter_map(|registry| registry.get("name")?.as_str().map(str::to_owned)).collect())
}

/// A private folder that goes away with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("postern-workload-{}", environment::random().uuid()));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        write_private(&self.0.join(name), bytes)
    }

    fn path(&self, name: &str) -> String {
        Path::new(&self.0).join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
