//! The `oci-client` crate as a program: a client that shares no code with the server or with the Go tools.
//!
//! Credentials come from `REGISTRY_AUTH_FILE`, trust from `SSL_CERT_FILE`, the proxy from `HTTPS_PROXY`, as for any program.
#![expect(clippy::print_stdout, clippy::disallowed_methods, clippy::indexing_slicing, reason = "a program of its own")]

use std::error::Error;
use std::{env, fs};

use base64::Engine as _;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, Config, ImageLayer};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

const USAGE: &str = "usage: oci-client pull|push|tags|referrers IMAGE";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let verb = env::args().nth(1).ok_or(USAGE)?;
    let reference: Reference = env::args().nth(2).ok_or(USAGE)?.parse()?;
    let authorities = fs::read(env::var("SSL_CERT_FILE")?)?;
    let config = ClientConfig {
        extra_root_certificates: vec![Certificate { encoding: CertificateEncoding::Pem, data: authorities }],
        https_proxy: env::var("HTTPS_PROXY").ok(),
        ..ClientConfig::default()
    };
    let client = Client::new(config);
    let auth = credentials(reference.registry())?;
    match verb.as_str() {
        "pull" => {
            let accepted =
                vec!["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"];
            let image = client.pull(&reference, &auth, accepted).await?;
            println!("pulled {} in {} layers", image.digest.ok_or("no digest")?, image.layers.len());
        }
        "push" => {
            let layers = [ImageLayer::oci_v1(&b"a layer of the oci-client crate"[..], None)];
            let pushed = client.push(&reference, &layers, Config::oci_v1(&b"{}"[..], None), &auth, None).await?;
            println!("pushed {}", pushed.manifest_url);
        }
        "tags" => println!("{}", client.list_tags(&reference, &auth, None, None).await?.tags.join(" ")),
        "referrers" => {
            let digest = client.fetch_manifest_digest(&reference, &auth).await?;
            let found = client.pull_referrers(&reference.clone_with_digest(digest), None).await?;
            let types = found.manifests.into_iter().filter_map(|entry| entry.artifact_type);
            println!("{}", types.collect::<Vec<_>>().join(" "));
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

fn credentials(host: &str) -> Result<RegistryAuth, Box<dyn Error>> {
    let file: serde_json::Value = serde_json::from_slice(&fs::read(env::var("REGISTRY_AUTH_FILE")?)?)?;
    let Some(auth) = file["auths"][host]["auth"].as_str() else { return Ok(RegistryAuth::Anonymous) };
    let text = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(auth)?)?;
    let (user, password) = text.split_once(':').ok_or("malformed credentials")?;
    Ok(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}
