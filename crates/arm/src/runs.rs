//! Runs of tasks, quick builds and quick runs; and runs as resources.
//!
//! Source: Microsoft.ContainerRegistry 2019-06-01-preview: Registries, Runs, Task Runs, Agent Pools (read 2026-11).

use http::StatusCode;
use postern_access::{AGENT_POOLS, RUNS, TASKS};
use postern_estate::{Document, Resource, types};
use postern_model::{PrincipalId, ResourceId, Timestamp};
use postern_runs::{Ask, Runs, RunsError, Trigger};
use postern_store::{Change, Expected, Run, RunFilter, RunNumber, RunStatus};
use serde_json::{Value, json};

use crate::ArmState;
use crate::call::Call;
use crate::error::{ArmError, Condition};
use crate::filter::{self, Term};
use crate::lists::{Paging, SKIP_TOKEN, next_link, unknown_filter};
use crate::providers;
use crate::reply::Reply;
use crate::resources::not_found;

pub(crate) const TASK_RUNS: &str = "Microsoft.ContainerRegistry/registries/taskRuns";
/// Where a task run keeps the id of its last run; nothing shows it.
pub(crate) const LAST_RUN: &str = "posternLastRun";

impl From<RunsError> for ArmError {
    fn from(error: RunsError) -> Self {
        match error {
            RunsError::Invalid(message) => Self::new(Condition::InvalidParameters, message),
            RunsError::NotFound(message) => Self::new(Condition::ResourceNotFound, message),
            RunsError::Conflict(message) => Self::new(Condition::Conflict, message),
            RunsError::Store(error) => error.into(),
        }
    }
}

/// `POST {registry}/scheduleRun`.
pub(crate) async fn schedule(call: &Call, registry: &Resource) -> Result<Reply, ArmError> {
    let (caller, body) = (call.caller.principal.id, call.body()?);
    may_override(call, body)?;
    let run = call.state.runs.schedule(ask(registry, body, caller)).await?;
    Ok(Reply::ok(Runs::shown(&registry.id, &run)))
}

/// A task's steps run with its identity and its secrets. Who brings other files, or has them carried out elsewhere, says what is done with
/// those: this is for who may write the task.
fn may_override(call: &Call, request: &Document) -> Result<(), ArmError> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let Some(task) = text(request.get("taskId")).and_then(|id| id.parse::<ResourceId>().ok()) else { return Ok(()) };
    let overrides = request.get("overrideTaskStepProperties");
    let brings_files = ["contextPath", "file"].iter().any(|key| text(overrides.and_then(|it| it.get(*key))).is_some());
    let pool = text(request.get("agentPoolName"));
    let own_pool = call.state.directory.resource(&task).and_then(|task| task.text(&["agentPoolName"]));
    if brings_files || (pool.is_some() && pool != own_pool) {
        call.authorize(&format!("{TASKS}/write"), &task)?;
    }
    Ok(())
}

fn ask<'a>(registry: &'a Resource, body: &'a Document, caller: PrincipalId) -> Ask<'a> {
    Ask { registry, body, caller: Some(caller), trigger: Trigger::Manual, identities: Vec::new() }
}

/// `POST {registry}/listBuildSourceUploadUrl`.
pub(crate) fn upload_target(call: &Call, registry: &Resource) -> Reply {
    let target = call.state.runs.upload_target(registry.uid.into());
    Reply::ok(json!({"uploadUrl": format!("{}{}", call.base, target.link), "relativePath": target.relative_path}))
}

/// `GET {registry}/runs`, the newest first.
pub(crate) async fn list(call: &Call, registry: &ResourceId) -> Result<Reply, ArmError> {
    let registry = registry_of(call, registry)?;
    let filter = filter_of(call)?;
    let size = Paging::of(call)?.size();
    let before = call.query.get(SKIP_TOKEN).map(|token| {
        RunNumber::parse(token).ok_or_else(|| {
            ArmError::new(
                Condition::InvalidParameters,
                "The query parameter '$skiptoken' is not one that was given out.",
            )
        })
    });
    let limit = u32::try_from(size).unwrap_or(u32::MAX).saturating_add(1);
    let mut runs = call.state.store.runs().list(registry.uid.into(), &filter, before.transpose()?, limit).await?;
    let has_more = runs.len() > size;
    runs.truncate(size);
    let next = runs.last().filter(|_| has_more).map(|last| next_link(call, &last.number.to_string()));
    let values: Vec<Value> = runs.iter().map(|run| Runs::shown(&registry.id, run)).collect();
    let mut body = json!({"value": values});
    if let (Some(next), Some(body)) = (next, body.as_object_mut()) {
        body.insert("nextLink".into(), next.into());
    }
    Ok(Reply::ok(body))
}

fn filter_of(call: &Call) -> Result<RunFilter, ArmError> {
    let mut filter = RunFilter::default();
    let time = |text: &str| {
        text.parse::<Timestamp>()
            .map_err(|_| ArmError::new(Condition::InvalidFilter, "A time in $filter is not an RFC 3339 date and time."))
    };
    for term in filter::parse(call.query.get("$filter"))? {
        match &term {
            Term::Equals(name, value) => match name.as_str() {
                "taskname" => filter.task = Some(value.clone()),
                "agentpoolname" => filter.pool = Some(value.clone()),
                "runtype" => filter.kind = Some(value.clone()),
                "status" => {
                    let status = RunStatus::parse(value).ok_or_else(|| {
                        ArmError::new(Condition::InvalidFilter, "The Status in $filter is not one that a run can have.")
                    })?;
                    filter.status = Some(status);
                }
                _ => return Err(unknown_filter(name)),
            },
            Term::Contains(name, value) if name == "outputimagemanifests" => filter.image = Some(value.clone()),
            Term::AtLeast(name, value) if name == "createtime" => filter.created_from = Some(time(value)?),
            Term::AtMost(name, value) if name == "createtime" => filter.created_to = Some(time(value)?),
            other => return Err(unknown_filter(other.name())),
        }
    }
    Ok(filter)
}

/// `GET {registry}/runs/{id}`.
pub(crate) async fn get(call: &Call, id: &ResourceId) -> Result<Reply, ArmError> {
    let (registry, run) = find(call, id).await?;
    Ok(Reply::ok(Runs::shown(&registry, &run)))
}

/// `PATCH {registry}/runs/{id}`: whether it is kept. Clients put that at the top.
pub(crate) async fn update(call: &Call, id: &ResourceId) -> Result<Reply, ArmError> {
    if call.method != http::Method::PATCH {
        return Err(ArmError::new(Condition::MethodNotAllowed, "Runs are not created: ask for one by scheduleRun."));
    }
    call.authorize(&format!("{RUNS}/write"), id)?;
    let (registry, run) = find(call, id).await?;
    let body = call.body()?;
    let nested = body.get("properties").and_then(|properties| properties.get("isArchiveEnabled"));
    let archived = match body.get("isArchiveEnabled").or(nested) {
        None | Some(Value::Null) => return Ok(Reply::ok(Runs::shown(&registry, &run))),
        Some(Value::Bool(archived)) => *archived,
        Some(_) => {
            return Err(ArmError::new(
                Condition::InvalidParameters,
                "The property 'isArchiveEnabled' must be true or false.",
            ));
        }
    };
    let changed = call.state.store.runs().archive(run.registry, run.number, archived).await?;
    Ok(Reply::ok(Runs::shown(&registry, &changed.unwrap_or(run))))
}

/// `POST {registry}/runs/{id}/cancel`. Nothing happens to a run that has ended.
pub(crate) async fn cancel(call: &Call, id: &ResourceId) -> Result<Reply, ArmError> {
    let (_, run) = find(call, id).await?;
    call.state.runs.cancel(&run).await?;
    Ok(Reply::empty(StatusCode::OK))
}

/// `POST {registry}/runs/{id}/listLogSasUrl`.
pub(crate) async fn log_link(call: &Call, id: &ResourceId) -> Result<Reply, ArmError> {
    let (_, run) = find(call, id).await?;
    Ok(Reply::ok(json!({"logLink": format!("{}{}", call.base, call.state.runs.log_link(&run))})))
}

/// `POST {registry}/agentPools/{pool}/listQueueStatus`.
pub(crate) async fn queue(call: &Call, pool: &Resource) -> Result<Reply, ArmError> {
    let registry = pool.id.parent().ok_or_else(ArmError::internal)?;
    let registry = registry_of(call, &registry)?;
    let count = call.state.store.runs().waiting(registry.uid.into(), pool.uid.0).await?;
    Ok(Reply::ok(json!({"count": count})))
}

fn registry_of(call: &Call, id: &ResourceId) -> Result<std::sync::Arc<Resource>, ArmError> {
    let found = call.state.directory.resource(id).filter(|found| found.id.is_type(types::REGISTRIES));
    found.ok_or_else(|| call.state.directory.with_estate(|estate| not_found(estate, id)))
}

/// A run and its registry's id. The caller's right to it was looked at already.
async fn find(call: &Call, id: &ResourceId) -> Result<(ResourceId, Run), ArmError> {
    let registry = registry_of(call, &id.parent().ok_or_else(ArmError::internal)?)?;
    let run = call.state.runs.find(registry.uid.into(), id.name()).await?;
    let run = run.ok_or_else(|| call.state.directory.with_estate(|estate| not_found(estate, id)))?;
    Ok((registry.id.clone(), run))
}

/// What goes with a registry, an agent pool or a task that is gone.
pub(crate) async fn call_off(state: &ArmState, resource: &Resource) {
    let result = if resource.id.is_type(types::REGISTRIES) {
        state.runs.registry_removed(resource.uid.into()).await
    } else if resource.id.is_type(AGENT_POOLS) {
        state.runs.pool_removed(resource.uid).await
    } else if resource.id.is_type(TASKS) {
        state.runs.task_removed(resource.uid).await
    } else {
        Ok(())
    };
    if let Err(error) = result {
        tracing::error!(resource.id = %resource.id, error = %error, "runs of a deleted resource could not be called off");
    }
}

/// What a task run is to do, looked at before it is stored.
pub(crate) struct TaskRun {
    tag_before: Option<Value>,
}

impl TaskRun {
    /// Refuses what could not be run. Who may not write it learns nothing here.
    pub(crate) async fn prepare(call: &Call, id: &ResourceId, body: &Document) -> Result<Self, ArmError> {
        call.authorize(&format!("{TASK_RUNS}/write"), id)?;
        let before = call.state.directory.resource(id);
        let tag_before = before.as_ref().map(|before| before.property(&["forceUpdateTag"]).unwrap_or_default());
        let request = body.get("properties").and_then(|properties| properties.get("runRequest"));
        let parent = id.parent().and_then(|parent| call.state.directory.resource(&parent));
        // A patch may leave it as it is, and without a registry it is refused anyway.
        if let (Some(Value::Object(request)), Some(registry)) = (request, parent) {
            may_override(call, request)?;
            call.state.runs.prepare(ask(&registry, request, call.caller.principal.id)).await?;
        }
        Ok(Self { tag_before })
    }

    /// Runs it if it is new, or its tag is.
    pub(crate) async fn begin(self, call: &Call, stored: &Resource, created: bool) -> Result<Reply, ArmError> {
        let tag = stored.property(&["forceUpdateTag"]).unwrap_or_default();
        let request = stored.property(&["runRequest"]);
        let registry = registry_of(call, &stored.id.parent().ok_or_else(ArmError::internal)?)?;
        if let (true, Some(Value::Object(request))) = (self.tag_before != Some(tag), &request) {
            let workload = call.state.directory.workload(&stored.id);
            let identities = workload.map(|workload| workload.identities).unwrap_or_default();
            let run = call
                .state
                .runs
                .schedule(Ask { identities, ..ask(&registry, request, call.caller.principal.id) })
                .await?;
            let (id, uid) = (stored.id.clone(), stored.uid);
            let noted = call.state.directory.change(move |estate| {
                let Some(current) = estate.get(&id).filter(|current| current.uid == uid) else { return Ok(Vec::new()) };
                let mut document = current.document();
                if let Some(properties) = document.get_mut("properties").and_then(Value::as_object_mut) {
                    properties.insert(LAST_RUN.into(), run.number.to_string().into());
                }
                Ok::<_, ArmError>(vec![Change::Put { id, document, expected: Expected::Any }])
            });
            noted.await?;
        }
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        let shown = call.state.directory.with_estate(|estate| {
            let resource = estate.get(&stored.id)?;
            Some(providers::of(TASK_RUNS).project(estate, resource, call.version))
        });
        let shown = shown.ok_or_else(|| ArmError::new(Condition::Conflict, "The task run was deleted meanwhile."))?;
        with_results(call, TASK_RUNS, Reply::new(status, Value::Object(shown))).await
    }
}

/// `POST {registry}/taskRuns/{name}/listDetails`: with its secrets.
pub(crate) async fn task_run_details(call: &Call, task_run: &Resource) -> Result<Reply, ArmError> {
    let document = call.state.directory.with_estate(|estate| estate.project(task_run, call.version));
    with_results(call, TASK_RUNS, Reply::ok(Value::Object(document))).await
}

/// Task runs with what has become of them.
pub(crate) async fn with_results(call: &Call, resource_type: &str, mut reply: Reply) -> Result<Reply, ArmError> {
    if !resource_type.eq_ignore_ascii_case(TASK_RUNS) {
        return Ok(reply);
    }
    let Some(body) = reply.body_mut() else { return Ok(reply) };
    let is_list = body.get("value").is_some_and(Value::is_array);
    let one = if is_list { None } else { Some(&mut *body) };
    if let Some(one) = one {
        complete(call, one).await?;
        return Ok(reply);
    }
    for one in body.get_mut("value").and_then(Value::as_array_mut).into_iter().flatten() {
        complete(call, one).await?;
    }
    Ok(reply)
}

async fn complete(call: &Call, task_run: &mut Value) -> Result<(), ArmError> {
    let id = task_run.get("id").and_then(Value::as_str).and_then(|id| id.parse::<ResourceId>().ok());
    let registry = id.and_then(|id| id.parent()).and_then(|id| call.state.directory.resource(&id));
    let Some(properties) = task_run.get_mut("properties").and_then(Value::as_object_mut) else { return Ok(()) };
    let last = properties.remove(LAST_RUN);
    let (Some(registry), Some(last)) = (registry, last.as_ref().and_then(Value::as_str)) else { return Ok(()) };
    let run = call.state.runs.find(registry.uid.into(), last).await?;
    let state = match run.as_ref().map(|run| run.status) {
        Some(RunStatus::Queued | RunStatus::Started | RunStatus::Running) => "Creating",
        Some(RunStatus::Succeeded) | None => "Succeeded",
        Some(RunStatus::Canceled) => "Canceled",
        Some(RunStatus::Failed | RunStatus::Error | RunStatus::Timeout) => "Failed",
    };
    properties.insert("provisioningState".into(), state.into());
    properties.extend(run.map(|run| ("runResult".to_owned(), Runs::shown(&registry.id, &run))));
    Ok(())
}
