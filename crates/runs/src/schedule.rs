//! From a request to a run that waits for its worker.

use std::sync::Arc;

use postern_access::{RUNS, TASKS, Workload, WorkloadIdentity};
use postern_estate::{Document, Resource};
use postern_model::{PrincipalId, RegistryUid, ResourceId, ResourceUid, Secret};
use postern_store::{NewJob, NewRun, Run};
use postern_tasks::order::{RegistryLogin, RunOrder, Source, Work};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::logins::{self, Logins};
use crate::request::{self, Asked, From, shown};
use crate::{PoolRun, RunJob, Runs, RunsError, SharedRun, run_id};

/// Who asks for a run, and of what.
pub struct Ask<'a> {
    /// The registry that it belongs to.
    pub registry: &'a Resource,
    /// The request, as `scheduleRun` takes it.
    pub body: &'a Document,
    /// Who asks; nobody where a trigger does.
    pub caller: Option<PrincipalId>,
    /// What began it.
    pub trigger: Trigger,
    /// What a quick run may prove to be beside itself.
    pub identities: Vec<WorkloadIdentity>,
}

/// What began a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Somebody asked for it.
    Manual,
    /// Its time had come.
    Timer {
        /// The trigger's name.
        name: String,
        /// The time, as it is shown.
        occurrence: String,
    },
}

impl Trigger {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Timer { .. } => "timer",
        }
    }
}

/// A run's order as it is kept, sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) order: RunOrder,
    /// Whether its worker gets a token of the registry for it.
    pub(crate) default_login: bool,
    /// The same as whoever asked for it.
    pub(crate) as_caller: bool,
    /// Who asked for it.
    pub(crate) caller: Option<Uuid>,
}

/// What of a run is kept beside its row.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kind {
    /// The registry's id.
    pub(crate) registry: String,
    /// The task's id.
    pub(crate) task: Option<String>,
    /// What a quick run may prove to be beside itself: object ids, and whether it is the system's.
    #[serde(default)]
    pub(crate) identities: Vec<(Uuid, bool)>,
    /// Properties that never change.
    pub(crate) shown: Map<String, Value>,
}

/// A request that has been looked at.
pub struct Prepared {
    registry: RegistryUid,
    kept: Kept,
    kind: Kind,
    task: Option<(String, Uuid)>,
    pool: Option<(String, Uuid)>,
    run_type: &'static str,
    context: Option<String>,
    archived: bool,
    key: Option<String>,
}

impl Prepared {
    /// Asked for twice under the same key it is one run.
    pub(crate) fn under(self, key: String) -> Self {
        Self { key: Some(key), ..self }
    }
}

impl Runs {
    /// Looks at a request and makes a run of it.
    ///
    /// # Errors
    /// When it is not one that can be carried out.
    pub async fn schedule(&self, ask: Ask<'_>) -> Result<Run, RunsError> {
        let prepared = self.prepare(ask).await?;
        self.begin(prepared).await
    }

    /// Looks at a request.
    ///
    /// # Errors
    /// When it is not one that can be carried out.
    pub async fn prepare(&self, ask: Ask<'_>) -> Result<Prepared, RunsError> {
        let registry = ask.registry;
        let kind = ask.body.get("type").and_then(Value::as_str).unwrap_or_default();
        let rules = self.0.directory.registry_by_id(&registry.id);
        let rules = rules.ok_or_else(|| RunsError::NotFound("The registry was not found.".into()))?;
        let (asked, task, token) = if kind.eq_ignore_ascii_case("TaskRunRequest") {
            let task = self.task_of(registry, ask.body)?;
            let properties = task.properties().unwrap_or_default();
            let (mut asked, overrides) = request::of_task(&properties, ask.body.get("overrideTaskStepProperties"))?;
            let own: request::Common = request::read(&Value::Object(ask.body.clone()))?;
            asked.common.agent_pool_name = own.agent_pool_name.or(asked.common.agent_pool_name);
            asked.common.log_template = own.log_template.or(asked.common.log_template);
            asked.common.is_archive_enabled = own.is_archive_enabled;
            (asked, Some(task), overrides.update_trigger_token)
        } else {
            (request::quick(kind, ask.body)?, None, None)
        };
        let is_quick = task.is_none();
        let logins = logins::of(asked.common.credentials.as_ref(), &self.0.directory, &rules, is_quick)?;
        if logins.as_caller && ask.caller.is_none() {
            return Err(RunsError::invalid("The identity [caller] is for who asks for a run."));
        }
        let pool = match asked.common.agent_pool_name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => Some(self.pool_of(&registry.id, name)?),
            None => None,
        };
        let (source, context) = self.source_of(registry.uid.into(), &asked.source).await?;
        let run_type = match (&asked.work, is_quick) {
            (Work::Docker(_), true) => "QuickBuild",
            (Work::Docker(_), false) => "AutoBuild",
            (Work::File { .. } | Work::Encoded { .. }, true) => "QuickRun",
            (Work::File { .. } | Work::Encoded { .. }, false) => "AutoRun",
        };
        let mut shown = properties(&asked, &logins);
        let task_name = task.as_ref().map(|task| task.id.name().to_owned());
        shown.extend(task_name.clone().map(|name| ("task".to_owned(), name.into())));
        shown.extend(token.map(|token| ("updateTriggerToken".to_owned(), token.into())));
        if let Trigger::Timer { name, occurrence } = &ask.trigger {
            let timer = json!({"timerTriggerName": name, "scheduleOccurrence": occurrence});
            shown.insert("timerTrigger".into(), timer);
        }
        let identity =
            |one: &WorkloadIdentity| (one.principal.0, one.kind == postern_model::IdentityKind::SystemAssigned);
        let order = RunOrder {
            run_id: String::new(),
            registry: logins::with_port(&self.0.directory, &rules),
            registry_name: registry.id.name().to_owned(),
            task_name: task_name.clone(),
            workload: task.as_ref().map(|task| task.id.to_string()).unwrap_or_default(),
            triggered_by: ask.trigger.as_str().to_owned(),
            created: self.now().unix_seconds(),
            os: asked.os,
            architecture: asked.architecture,
            timeout_seconds: asked.timeout_seconds,
            cpu: asked.cpu,
            source,
            work: asked.work,
            logins: logins.others,
        };
        Ok(Prepared {
            registry: registry.uid.into(),
            kept: Kept {
                order,
                default_login: logins.default,
                as_caller: logins.as_caller,
                caller: ask.caller.map(|caller| caller.0),
            },
            kind: Kind {
                registry: registry.id.to_string(),
                task: task.as_ref().map(|task| task.id.to_string()),
                identities: ask.identities.iter().map(identity).collect(),
                shown,
            },
            task: task_name.zip(task.map(|task| task.uid.0)),
            pool,
            run_type,
            context,
            archived: asked.common.is_archive_enabled.unwrap_or(false),
            key: None,
        })
    }

    /// Makes a run of a request that has been looked at.
    ///
    /// # Errors
    /// When the registry has too many open ones, or the store fails.
    pub async fn begin(&self, prepared: Prepared) -> Result<Run, RunsError> {
        let cannot = |_| RunsError::invalid("The request cannot be kept.");
        let uid = self.0.random.uuid();
        let Prepared { registry, kept, kind, task, pool, run_type, context, archived, key } = prepared;
        let new = NewRun {
            registry,
            uid,
            task,
            pool,
            kind: run_type,
            document: serde_json::to_string(&kind).map_err(cannot)?,
            order: Secret::new(serde_json::to_string(&kept).map_err(cannot)?),
            context,
        };
        let runs = self.0.store.runs();
        let job = RunJob { run: uid };
        let run = if let Some(pool) = new.pool.as_ref().map(|(_, pool)| pool.to_string()) {
            let job = NewJob::<PoolRun>::new(pool, job);
            runs.schedule(new, key.into_iter().fold(job, NewJob::key)).await?
        } else {
            let job = NewJob::<SharedRun>::new(registry.to_string(), job);
            runs.schedule(new, key.into_iter().fold(job, NewJob::key)).await?
        };
        let run = run.ok_or_else(|| RunsError::Conflict("The run was asked for before.".into()))?;
        tracing::info!(run.id = %run.number, run.kind = run_type, registry.uid = %registry, "a run is queued");
        if archived {
            let archived = runs.archive(registry, run.number, true).await?;
            return Ok(archived.unwrap_or(run));
        }
        Ok(run)
    }

    /// Lets a quick run prove to be itself.
    pub(crate) fn announce(&self, run: &Run) -> Result<(), RunsError> {
        let kind = kind_of(run)?;
        if kind.task.is_none() {
            use postern_model::IdentityKind::{SystemAssigned, UserAssigned};
            let identities = kind.identities.iter().map(|(principal, is_system)| WorkloadIdentity {
                principal: PrincipalId(*principal),
                kind: if *is_system { SystemAssigned } else { UserAssigned },
            });
            self.0.directory.open_run(Workload {
                resource: run_id(&registry_of(&kind)?, run.number),
                resource_type: RUNS.into(),
                uid: ResourceUid(run.uid),
                identities: identities.collect(),
            });
        }
        Ok(())
    }

    fn task_of(&self, registry: &Resource, body: &Document) -> Result<Arc<Resource>, RunsError> {
        let id = body.get("taskId").and_then(Value::as_str).filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| RunsError::invalid("The property 'taskId' is required."))?;
        let not_found = || RunsError::NotFound(format!("The task '{}' was not found.", shown(id)));
        let parsed: ResourceId = id.parse().map_err(|_| not_found())?;
        if !parsed.is_type(TASKS) || parsed.parent().as_ref() != Some(&registry.id) {
            return Err(not_found());
        }
        let task = self.0.directory.resource(&parsed).ok_or_else(not_found)?;
        let status = task.text(&["status"]);
        if status.is_some_and(|status| !status.eq_ignore_ascii_case("Enabled")) {
            return Err(RunsError::Conflict(format!("The task '{}' is disabled and cannot be run.", task.id.name())));
        }
        Ok(task)
    }

    fn pool_of(&self, registry: &ResourceId, name: &str) -> Result<(String, Uuid), RunsError> {
        let not_found = || RunsError::NotFound(format!("The agent pool '{}' was not found.", shown(name)));
        if name.contains('/') {
            return Err(not_found());
        }
        let pool = self.0.directory.resource(&registry.child("agentPools", name)).ok_or_else(not_found)?;
        let state = pool.text(&["provisioningState"]);
        if state.is_some_and(|state| state.eq_ignore_ascii_case("Deleting")) {
            return Err(RunsError::Conflict(format!("The agent pool '{}' is being deleted.", pool.id.name())));
        }
        Ok((pool.id.name().to_owned(), pool.uid.0))
    }

    async fn source_of(&self, registry: RegistryUid, from: &From) -> Result<(Source, Option<String>), RunsError> {
        match from {
            From::Source(source) => Ok((source.clone(), None)),
            From::Uploaded(name) => {
                let missing = || {
                    RunsError::invalid(format!(
                        "There is no upload '{}{}{}', or no longer: ask for another upload URL.",
                        request::UPLOADS,
                        shown(name),
                        request::UPLOAD_SUFFIX
                    ))
                };
                if !postern_store::Contexts::is_name(name) {
                    return Err(missing());
                }
                let found = self.0.store.runs().contexts().open(registry, name).await?;
                found.ok_or_else(missing)?;
                Ok((Source::Uploaded, Some(name.clone())))
            }
        }
    }

    /// A run's order as it is kept; none once it has ended.
    pub(crate) async fn order_of(&self, run: &Run) -> Result<Option<Kept>, RunsError> {
        let Some(order) = self.0.store.runs().order(run.uid).await? else { return Ok(None) };
        let kept = serde_json::from_str(order.expose());
        kept.map(Some).map_err(|_| postern_store::StoreError::Corrupt("run order").into())
    }
}

pub(crate) fn kind_of(run: &Run) -> Result<Kind, RunsError> {
    serde_json::from_str(&run.document).map_err(|_| postern_store::StoreError::Corrupt("run").into())
}

pub(crate) fn registry_of(kind: &Kind) -> Result<ResourceId, RunsError> {
    kind.registry.parse().map_err(|_| postern_store::StoreError::Corrupt("run").into())
}

/// Properties that never change.
fn properties(asked: &Asked, logins: &Logins) -> Map<String, Value> {
    let mut platform = json!({"os": asked.os, "architecture": asked.architecture});
    if let (Some(variant), Some(platform)) = (&asked.variant, platform.as_object_mut()) {
        platform.insert("variant".into(), variant.as_str().into());
    }
    let own = logins.default || logins.as_caller;
    let servers = |logins: &[RegistryLogin]| logins.iter().map(|login| login.server.clone()).collect::<Vec<_>>();
    let shown = json!({
        "platform": platform,
        "agentConfiguration": {"cpu": asked.cpu},
        "sourceRegistryAuth": if own { "Default" } else { "None" },
        "customRegistries": servers(&logins.others),
    });
    let mut shown = if let Value::Object(shown) = shown { shown } else { Map::new() };
    shown.extend(asked.common.log_template.clone().map(|template| ("logTemplate".to_owned(), template.into())));
    shown
}
