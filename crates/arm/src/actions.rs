//! POST: operations that are no resources.

use postern_access::{AGENT_POOLS, RUNS, TASKS};
use postern_estate::{types, validate};
use postern_identity::WorkloadCertificateError;
use postern_model::ResourceId;
use serde_json::json;

use crate::call::Call;
use crate::credentials;
use crate::error::{ArmError, Condition};
use crate::reply::Reply;
use crate::resources::{not_found, type_of};
use crate::{import, providers, runs};

/// `POST {scope}/providers/{namespace}/{operation}`.
pub(crate) fn of_scope(call: &Call, scope: &ResourceId, operation: &str) -> Result<Reply, ArmError> {
    if operation.eq_ignore_ascii_case("Microsoft.ContainerRegistry/checkNameAvailability") {
        return check_name(call, scope);
    }
    Err(unknown(operation))
}

/// `POST {resource}/{operation}`.
pub(crate) async fn of_resource(call: &Call, id: &ResourceId, operation: &str) -> Result<Reply, ArmError> {
    let resource_type = type_of(id)?;
    call.authorize(&format!("{resource_type}/{operation}/action"), id)?;
    if id.is_type(RUNS) {
        return match operation.to_ascii_lowercase().as_str() {
            "cancel" => runs::cancel(call, id).await,
            "listlogsasurl" => runs::log_link(call, id).await,
            _ => Err(unknown(&format!("{resource_type}/{operation}"))),
        };
    }
    let resource = call.state.directory.resource(id);
    let resource = resource.ok_or_else(|| call.state.directory.with_estate(|estate| not_found(estate, id)))?;
    let lower = operation.to_ascii_lowercase();
    if lower == "issueworkloadcertificate" {
        let certificate = call
            .state
            .identity
            .issue_workload_certificate(&resource, call.body_text("csr")?, call.now)
            .map_err(refused_certificate)?;
        return Ok(Reply::ok(json!({
            "certificate": certificate.certificate_pem,
            "ca": certificate.ca_pem,
            "notAfter": certificate.not_after.to_string(),
        })));
    }
    if resource.id.is_type(types::REGISTRIES) {
        match lower.as_str() {
            "listcredentials" => return credentials::list(call, &resource).await,
            "regeneratecredential" => return credentials::regenerate(call, &resource).await,
            "importimage" => return import::image(call, &resource).await,
            "generatecredentials" => return credentials::generate(call, &resource).await,
            "schedulerun" => return runs::schedule(call, &resource).await,
            "listbuildsourceuploadurl" => return Ok(runs::upload_target(call, &resource)),
            _ => {}
        }
    }
    if resource.id.is_type(types::WEBHOOKS) && lower == "getcallbackconfig" {
        return Ok(Reply::ok(providers::callback(&resource)));
    }
    if resource.id.is_type(TASKS) && lower == "listdetails" {
        let details =
            call.state.directory.with_estate(|estate| providers::task_details(estate, &resource, call.version));
        return Ok(Reply::ok(details.into()));
    }
    if resource.id.is_type(AGENT_POOLS) && lower == "listqueuestatus" {
        return runs::queue(call, &resource).await;
    }
    if resource.id.is_type(runs::TASK_RUNS) && lower == "listdetails" {
        return runs::task_run_details(call, &resource).await;
    }
    if resource.id.is_type(types::SERVICE_PRINCIPALS) {
        match lower.as_str() {
            "addpassword" => return credentials::add_password(call, credentials::secrets_of(&resource)?).await,
            "removepassword" => return credentials::remove_password(call, credentials::secrets_of(&resource)?).await,
            _ => {}
        }
    }
    Err(unknown(&format!("{resource_type}/{operation}")))
}

fn unknown(operation: &str) -> ArmError {
    let shown: String = operation.chars().filter(|c| !c.is_control()).take(150).collect();
    ArmError::new(Condition::NoSuchOperation, format!("The operation '{shown}' is not known."))
}

fn refused_certificate(error: WorkloadCertificateError) -> ArmError {
    match error {
        WorkloadCertificateError::FirstParty => {
            ArmError::new(Condition::Conflict, "Certificates for the server's own services cannot be requested.")
        }
        WorkloadCertificateError::BadRequest => {
            ArmError::new(Condition::InvalidContent, "The certificate signing request is not valid.")
        }
        WorkloadCertificateError::Signing(error) => {
            tracing::error!(error = %error, "a workload certificate could not be signed");
            ArmError::internal()
        }
    }
}

/// Source: Microsoft.ContainerRegistry, Registries, Check Name Availability (read 2026-11).
fn check_name(call: &Call, scope: &ResourceId) -> Result<Reply, ArmError> {
    call.authorize("Microsoft.ContainerRegistry/checkNameAvailability/read", scope)?;
    let name = call.body_text("name")?;
    let kind = call.body_text("type")?;
    if !kind.eq_ignore_ascii_case(types::REGISTRIES) {
        return Err(ArmError::new(
            Condition::InvalidContent,
            "The 'type' must be 'Microsoft.ContainerRegistry/registries'.",
        ));
    }
    if let Err(refusal) = validate::registry_name(name) {
        return Ok(Reply::ok(json!({"nameAvailable": false, "reason": "Invalid", "message": refusal.message})));
    }
    let (taken, suffix) =
        call.state.directory.with_estate(|estate| (estate.is_registry_name_taken(name), estate.suffix().to_owned()));
    if taken {
        let message = format!("The registry {name} is already in use.");
        return Ok(Reply::ok(json!({"nameAvailable": false, "reason": "AlreadyExists", "message": message})));
    }
    let server = format!("{}.{suffix}", name.to_ascii_lowercase());
    Ok(Reply::ok(json!({"nameAvailable": true, "availableLoginServerName": server})))
}
