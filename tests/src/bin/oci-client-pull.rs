//! Pulls an image with the `oci-client` crate: a client that shares no code with the server or with the Go tools.
//!
//! Credentials come from `REGISTRY_AUTH_FILE`, trust from `SSL_CERT_FILE`, the proxy from `HTTPS_PROXY`, as for any program.
#![expect(clippy::print_stdout, clippy::disallowed_methods, clippy::indexing_slicing, reason = "a program of its own")]

use std::error::Error;
use std::{env, fs};

use base64::Engine as _;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let reference: Reference = env::args().nth(1).ok_or("usage: oci-client-pull IMAGE")?.parse()?;
    let authorities = fs::read(env::var("SSL_CERT_FILE")?)?;
    let config = ClientConfig {
        extra_root_certificates: vec![Certificate { encoding: CertificateEncoding::Pem, data: authorities }],
        https_proxy: env::var("HTTPS_PROXY").ok(),
        ..ClientConfig::default()
    };
    let client = Client::new(config);
    let accepted = vec!["application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip"];
    let image = client.pull(&reference, &credentials(reference.registry())?, accepted).await?;
    println!("pulled {} in {} layers", image.digest.ok_or("no digest")?, image.layers.len());
    Ok(())
}

fn credentials(host: &str) -> Result<RegistryAuth, Box<dyn Error>> {
    let file: serde_json::Value = serde_json::from_slice(&fs::read(env::var("REGISTRY_AUTH_FILE")?)?)?;
    let auth = file["auths"][host]["auth"].as_str().ok_or_else(|| format!("not logged in to {host}"))?;
    let text = String::from_utf8(base64::engine::general_purpose::STANDARD.decode(auth)?)?;
    let (user, password) = text.split_once(':').ok_or("malformed credentials")?;
    Ok(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}
