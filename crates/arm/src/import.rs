//! `importImage`: the caller's rights, then what both registries' walls say to the import service, then the copying.
//!
//! The service calls a target, and a source given by its resource id, over its own connection: a trusted service. A source given by
//! its login server it reads over the public path, as anybody: there is no bypass.
//!
//! Source: Azure Container Registry, "Import container images to a container registry"; Registries, Import Image (read 2026-11).

mod decide;
mod job;
mod order;

use std::sync::Arc;

use postern_access::{Credential, OperationKind, Verified};
use postern_estate::{Resource, types};
use postern_identity::Throttled;
use postern_model::{RepositoryName, ResourceId, Timestamp};
use postern_store::{Import, ImportError, ImportSource, ImportTarget, StoreError};

use self::decide::{Side, Way};
use self::order::{From, Order};
use crate::ArmState;
use crate::call::{Call, Caller};
use crate::error::{ArmError, Condition};
use crate::reply::Reply;

pub(crate) use self::job::{ImportJob, call_off, carry_out};

const READ: &str = "Microsoft.ContainerRegistry/registries/read";
const IMPORT: &str = "Microsoft.ContainerRegistry/registries/importImage/action";

/// Who asks for an import, and when.
struct Asking {
    state: Arc<ArmState>,
    caller: Caller,
    now: Timestamp,
    /// Whether what is allowed is recorded as well: what is allowed beforehand is decided once more when it is done.
    records_allows: bool,
}

impl Asking {
    fn authorize(&self, action: &str, scope: &ResourceId) -> Result<(), ArmError> {
        self.caller.authorize(&self.state.directory, action, scope)
    }
}

/// `POST {registry}/importImage`. The caller's right to it was looked at already.
///
/// What is refused now is refused at once; what is allowed now becomes a job, which decides again whenever it begins.
pub(crate) async fn image(call: &Call, registry: &Resource) -> Result<Reply, ArmError> {
    call.authorize(READ, &registry.id)?;
    let order = Order::read(call.body()?)?;
    let (state, caller) = (Arc::clone(&call.state), call.caller.clone());
    let asking = Asking { state, caller, now: call.now, records_allows: false };
    decide(&asking, registry, &order).await?;
    job::begin(call, registry, &order).await
}

/// Asks both registries; the permits are for now.
async fn decide(asking: &Asking, registry: &Resource, order: &Order) -> Result<Import, ArmError> {
    let mut targets = Vec::with_capacity(order.targets.len());
    for (name, tags) in &order.targets {
        let permits = decide::target(asking, registry, name, tags.first()).await?;
        targets.push(ImportTarget { blobs: permits.0, manifests: permits.1, tags: tags.clone() });
    }
    let source = source(asking, registry, order).await?;
    Ok(Import { source, reference: order.reference.clone(), targets, overwrite: order.overwrite, resumed: false })
}

async fn source(asking: &Asking, target: &Resource, order: &Order) -> Result<ImportSource, ArmError> {
    let name = order.repository.parse::<RepositoryName>();
    let name = name.map_err(|error| order::invalid(format!("source.sourceImage: {error}.")))?;
    let (rules, way, credential) = match &order.from {
        From::Registry(id) => {
            let id = &of_registry(asking, target, id)?;
            let rules = asking.state.directory.registry_by_id(id).ok_or_else(|| no_source(id.as_str()))?;
            let caller = postern_access::Caller::Principal(asking.caller.principal.clone());
            let credential = Credential::Verified(Verified { caller, claim: None, binding: None });
            (rules, Way::Trusted, credential)
        }
        From::Host { host, credentials } => {
            // `localhost` is the default registry for clients of this machine; here it is somebody else's name.
            let own = asking.state.directory.registry_by_host(host);
            let suffix = asking.state.directory.suffix();
            let Some(rules) = own.filter(|rules| decide::is_named(rules, host, &suffix)) else {
                let credentials = order::credentials(credentials.as_ref());
                return Ok(ImportSource::Elsewhere { host: host.clone(), repository: name, credentials });
            };
            let credential = decide::login(asking, &rules, credentials.as_ref()).map_err(throttled)?;
            (rules, Way::Public, credential)
        }
    };
    let side = Side::Source { target: &target.id };
    let mut permits = Vec::with_capacity(3);
    for kind in [OperationKind::PullManifest, OperationKind::PullBlob, OperationKind::ListReferrers] {
        let reference = (kind == OperationKind::PullManifest).then(|| order.reference.clone());
        let asked = decide::Asked { kind, repository: &name, reference };
        permits.push(decide::permit(asking, &rules, way, &credential, asked, side).await?);
    }
    let source = asking.state.directory.resource(&rules.id);
    let exports = source.as_ref().and_then(|source| source.text(&["policies", "exportPolicy", "status"]));
    if exports.is_some_and(|status| status.eq_ignore_ascii_case("disabled")) {
        return Err(ArmError::new(
            Condition::ImportDenied,
            format!(
                "Access to {} denied. The source registry does not let its content out: its exportPolicy.status is `disabled`. \
                 Fix: set properties.policies.exportPolicy.status to `enabled` on {}.",
                rules.login_server,
                rules.id.name()
            ),
        ));
    }
    let mut permits = permits.into_iter();
    match (permits.next(), permits.next(), permits.next()) {
        (Some(manifests), Some(blobs), Some(referrers)) => Ok(ImportSource::Here { manifests, blobs, referrers }),
        _ => Err(ArmError::internal()),
    }
}

/// The source registry's id, if the caller may know that it exists.
fn of_registry(asking: &Asking, target: &Resource, id: &ResourceId) -> Result<ResourceId, ArmError> {
    if !id.is_type(types::REGISTRIES) {
        return Err(order::invalid("source.resourceId must be the id of a registry."));
    }
    asking.authorize(READ, id).map_err(|_| asking.caller.forbidden_linked(IMPORT, &target.id, READ, id))?;
    Ok(id.clone())
}

fn no_source(named: &str) -> ArmError {
    ArmError::new(Condition::ResourceNotFound, format!("The source registry '{named}' was not found."))
}

fn throttled(throttled: Throttled) -> ArmError {
    ArmError::new(
        Condition::ImportDenied,
        format!(
            "The source registry takes no passwords for now, because too many were wrong; try again in {} seconds.",
            throttled.retry_after_seconds
        ),
    )
}

/// What the caller reads when the copying did not end well.
fn failed(target: &Resource, order: &Order, error: ImportError) -> ArmError {
    let name = target.id.name();
    let image = format!("{}{}", order.repository, order.shown_reference());
    match error {
        ImportError::Store(StoreError::TagExists(tag)) => ArmError::new(
            Condition::Conflict,
            format!(
                "Tag {tag} already exists in target registry {name}. Use mode Force (`az acr import --force`) to overwrite existing \
                 target tags."
            ),
        ),
        ImportError::Store(error @ StoreError::Locked(..)) => ArmError::new(
            Condition::Conflict,
            format!("The target registry {name} refused: {error}. Locks hold for imports too, whatever the mode."),
        ),
        ImportError::SourceLocked(error) => {
            ArmError::new(Condition::Conflict, format!("The source refused to give {image}: {error}."))
        }
        ImportError::NotInSource(what) => {
            ArmError::new(Condition::ImportSourceNotFound, format!("The source does not have {what} of {image}."))
        }
        ImportError::SourceRefused(why) => ArmError::new(
            Condition::ImportDenied,
            format!(
                "Access to {} denied. The source refused to give {image}: {why}. Fix: give credentials that may pull there.",
                order.shown_source()
            ),
        ),
        error @ (ImportError::Unsuitable(_) | ImportError::Unreachable(_) | ImportError::Interrupted(_)) => {
            ArmError::new(
                Condition::ImportDenied,
                format!("{image} of {} was not imported: {error}.", order.shown_source()),
            )
        }
        ImportError::Store(
            error @ (StoreError::TooLarge { .. }
            | StoreError::TooManyUploads { .. }
            | StoreError::TooManyUploadBytes { .. }),
        ) => ArmError::new(Condition::ImportDenied, format!("{image} was not imported: {error}.")),
        ImportError::Store(error) => error.into(),
    }
}
