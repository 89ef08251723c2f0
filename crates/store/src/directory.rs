use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::{ArcSwap, ArcSwapOption};
use postern_access::{RUNS, RegistryRules, Settings, Workload};
use postern_estate::{Document, Estate, Packed, Principal, Resource, types};
use postern_model::{PrincipalId, ResourceId, ResourceUid};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{Expected, ResourceChange, ResourceRow, Store, StoreError};

/// What a directory is opened with.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// Goes into every registry's rules.
    pub settings: Arc<Settings>,
    /// Registries are reached at `<name>.<suffix>`; may carry the port that answers show.
    pub suffix: String,
    /// The name of the registry that `localhost` stands for; without it, the only one.
    pub default_registry: Option<String>,
}

/// The live configuration: every resource in memory, and each registry's rules, compiled when they are first asked for.
///
/// Rules are read without locks. A change is in the table before it is in memory, and in memory before its future is done: it
/// holds from the next request. Changes come one after the other. Cheap to clone.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    store: Store,
    settings: ArcSwap<Settings>,
    /// The login server of the configured default registry, without port.
    default_host: Option<String>,
    /// As the estate's, readable without its lock. Never ahead of the estate.
    generation: AtomicU64,
    estate: RwLock<Estate>,
    registries: ArcSwap<Registries>,
    /// Runs without a task that have not ended: workloads that are no resources.
    runs: RwLock<HashMap<ResourceId, Workload>>,
    /// Held while rules are compiled and while they are forgotten: nothing compiled from an older estate survives a change.
    compiling: std::sync::Mutex<()>,
    writing: Mutex<()>,
}

/// Copied when a registry comes or goes: keys and values are cheap to clone.
#[derive(Clone, Default)]
struct Registries {
    by_host: HashMap<Arc<str>, Arc<Slot>>,
    by_id: HashMap<ResourceId, Arc<Slot>>,
}

struct Slot {
    id: ResourceId,
    rules: ArcSwapOption<RegistryRules>,
}

/// One change of the configuration.
#[derive(Clone, Debug)]
pub enum Change {
    /// Creates or replaces a resource.
    Put {
        /// Its id. A resource that exists keeps the spelling it has.
        id: ResourceId,
        /// Its content.
        document: Document,
        /// What must be there.
        expected: Expected,
    },
    /// Removes a resource and everything below it.
    Remove {
        /// Its id.
        id: ResourceId,
        /// What must be there.
        expected: Expected,
    },
}

/// What changes came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What was put, in the order asked for, and whether it is new.
    pub put: Vec<(Arc<Resource>, bool)>,
    /// What was removed: each resource asked for, and what was below it.
    pub removed: Vec<Arc<Resource>>,
    /// The generation that holds from now on.
    pub generation: u64,
}

impl Directory {
    /// Loads every resource.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a document cannot be read: a server that forgot one of its rules must not start.
    pub async fn open(store: &Store, options: DirectoryOptions) -> Result<Self, StoreError> {
        let mut estate = Estate::new(&options.suffix);
        let load = |row| {
            estate.insert(Arc::new(resource_of(row)?));
            Ok(())
        };
        let generation = store.resources().each(load).await?;
        estate.advance(generation);
        let all: Vec<ResourceId> = estate.all_registries().map(|registry| registry.id.clone()).collect();
        let mut registries = Registries::default();
        registries.update(&estate, all.iter());
        let suffix = estate.suffix();
        let host = |name: String| without_port(&format!("{}.{suffix}", name.to_ascii_lowercase())).to_owned();
        let default_host = options.default_registry.map(host);
        Ok(Self(Arc::new(Inner {
            store: store.clone(),
            settings: ArcSwap::new(options.settings),
            default_host,
            generation: AtomicU64::new(generation),
            estate: RwLock::new(estate),
            registries: ArcSwap::from_pointee(registries),
            runs: RwLock::default(),
            compiling: std::sync::Mutex::default(),
            writing: Mutex::default(),
        })))
    }

    fn estate(&self) -> RwLockReadGuard<'_, Estate> {
        self.0.estate.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at all resources at once. Changes wait meanwhile: be quick.
    pub fn with_estate<T>(&self, look: impl FnOnce(&Estate) -> T) -> T {
        look(&self.estate())
    }

    /// The server's settings.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.settings.load_full()
    }

    /// Replaces the settings: they hold from the next request.
    pub fn set_settings(&self, settings: Arc<Settings>) {
        let _compiling = self.0.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.settings.store(settings);
        self.0.registries.load().forget_all();
    }

    /// The login servers' suffix, with its port if it has one.
    pub fn suffix(&self) -> String {
        self.estate().suffix().to_owned()
    }

    /// The rules of the registry that a `Host` header names, with or without port: its login server, one of its data endpoints, or
    /// `localhost` for the default registry.
    pub fn registry_by_host(&self, host: &str) -> Option<Arc<RegistryRules>> {
        let host = without_port(host);
        let lower;
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            lower = host.to_ascii_lowercase();
            lower.as_str()
        } else {
            host
        };
        let registries = self.0.registries.load();
        let slot = registries.by_host.get(host).or_else(|| {
            let (name, rest) = host.split_once('.')?;
            let (_region, suffix) = rest.split_once(".data.")?;
            registries.by_host.get(format!("{name}.{suffix}").as_str())
        });
        if let Some(slot) = slot {
            return self.rules(slot);
        }
        is_this_machine(host).then(|| self.default_registry()).flatten()
    }

    /// The rules of a registry by its resource id.
    pub fn registry_by_id(&self, id: &ResourceId) -> Option<Arc<RegistryRules>> {
        self.rules(self.0.registries.load().by_id.get(id)?)
    }

    /// The rules of the configured default registry, else of the only one there is.
    pub fn default_registry(&self) -> Option<Arc<RegistryRules>> {
        let registries = self.0.registries.load();
        let slot = match &self.0.default_host {
            Some(host) => registries.by_host.get(host.as_str()),
            None => registries.by_id.values().next().filter(|_| registries.by_id.len() == 1),
        };
        self.rules(slot?)
    }

    fn rules(&self, slot: &Slot) -> Option<Arc<RegistryRules>> {
        if let Some(rules) = slot.rules.load_full() {
            return Some(rules);
        }
        let _compiling = self.0.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(rules) = slot.rules.load_full() {
            return Some(rules);
        }
        let compiled = self.estate().rules(&slot.id, &self.0.settings.load()).ok()?;
        for problem in &compiled.problems {
            tracing::warn!(resource.id = %problem.resource, problem = %problem.message, "a document is not taken at its word");
        }
        let rules = Arc::new(compiled.rules);
        slot.rules.store(Some(Arc::clone(&rules)));
        Some(rules)
    }

    /// One resource.
    pub fn resource(&self, id: &ResourceId) -> Option<Arc<Resource>> {
        self.estate().get(id).cloned()
    }

    /// The resources of a type within a scope, by id.
    pub fn list(&self, scope: &ResourceId, resource_type: &str) -> Vec<Arc<Resource>> {
        self.estate().list(scope, resource_type).cloned().collect()
    }

    /// A directory object by object id.
    pub fn principal(&self, id: PrincipalId) -> Option<Principal> {
        self.estate().principal(id)
    }

    /// A directory object by client id.
    pub fn principal_by_client_id(&self, client: Uuid) -> Option<Principal> {
        self.estate().principal_by_client_id(client)
    }

    /// A resource as the caller of a connection; also a run that is no resource, as long as it goes on.
    pub fn workload(&self, id: &ResourceId) -> Option<Workload> {
        let open =
            id.is_type(RUNS).then(|| self.0.runs.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned());
        open.flatten().or_else(|| self.estate().workload(id))
    }

    /// A run without a task goes on: from now on it can prove to be itself.
    pub fn open_run(&self, run: Workload) {
        self.0.runs.write().unwrap_or_else(PoisonError::into_inner).insert(run.resource.clone(), run);
    }

    /// It has ended: what it was issued is worth nothing any more.
    pub fn close_run(&self, id: &ResourceId) {
        self.0.runs.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The generation of the configuration.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Creates or replaces one resource; gives whether it is new.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when what is there is not what was expected.
    pub async fn put(
        &self,
        id: ResourceId,
        document: Document,
        expected: Expected,
    ) -> Result<(Arc<Resource>, bool), StoreError> {
        let outcome = self.change(move |_| Ok::<_, StoreError>(vec![Change::Put { id, document, expected }])).await?;
        outcome.put.into_iter().next().ok_or(StoreError::Interrupted)
    }

    /// Removes a resource and everything below it; gives what was removed, it being the first. Empty when it was not there.
    pub async fn remove(&self, id: ResourceId, expected: Expected) -> Result<Vec<Arc<Resource>>, StoreError> {
        self.change(move |_| Ok::<_, StoreError>(vec![Change::Remove { id, expected }]))
            .await
            .map(|outcome| outcome.removed)
    }

    /// Plans changes on the estate as it is and makes them, all or none, in one generation. No other change comes in between:
    /// what the plan saw still holds when it is carried out. It is, even when the caller goes away.
    pub async fn change<E>(
        &self,
        plan: impl FnOnce(&Estate) -> Result<Vec<Change>, E> + Send + 'static,
    ) -> Result<Outcome, E>
    where
        E: From<StoreError> + Send + 'static,
    {
        let this = self.clone();
        let work = async move {
            let _writing = this.0.writing.lock().await;
            let changes = this.with_estate(plan)?;
            Ok(this.carry_out(changes).await?)
        };
        tokio::spawn(work).await.map_err(|_| StoreError::Interrupted)?
    }

    async fn carry_out(&self, changes: Vec<Change>) -> Result<Outcome, StoreError> {
        let options = &self.0.store.inner().options;
        let now = options.clock.now();
        let mut rows = Vec::with_capacity(changes.len());
        let mut outcome = Outcome::default();
        for change in changes {
            match change {
                Change::Put { id, document, expected } => {
                    let before = self.resource(&id);
                    let id = before.as_ref().map_or(id, |before| before.id.clone());
                    let text = text_of(&document)?;
                    let resource = Resource {
                        content: Packed::new(&id, document),
                        id,
                        uid: before.as_ref().map_or_else(|| ResourceUid(options.random.uuid()), |before| before.uid),
                        generation: 0,
                        etag: options.random.uuid().to_string(),
                        created: before.as_ref().map_or(now, |before| before.created),
                        updated: now,
                    };
                    rows.push(ResourceChange::Put(row_of(&resource, text), expected));
                    outcome.put.push((Arc::new(resource), before.is_none()));
                }
                Change::Remove { id, expected } => {
                    let Some(resource) = self.resource(&id) else {
                        if matches!(expected, Expected::Etag(_)) {
                            return Err(StoreError::Conflict);
                        }
                        continue;
                    };
                    rows.push(ResourceChange::Remove(id.key(), expected));
                    outcome.removed.push(resource);
                    for below in self.with_estate(|estate| estate.descendants(&id)) {
                        rows.push(ResourceChange::Remove(below.key(), Expected::Any));
                        outcome.removed.extend(self.resource(&below));
                    }
                }
            }
        }
        if rows.is_empty() {
            outcome.generation = self.generation();
            return Ok(outcome);
        }
        outcome.generation = self.0.store.resources().write(rows).await?;
        for (resource, _) in &mut outcome.put {
            *resource = Arc::new(Resource { generation: outcome.generation, ..Resource::clone(resource) });
        }
        self.swap_in(&outcome);
        Ok(outcome)
    }

    fn swap_in(&self, outcome: &Outcome) {
        {
            let mut estate = self.0.estate.write().unwrap_or_else(PoisonError::into_inner);
            for resource in &outcome.removed {
                estate.remove(&resource.id, outcome.generation);
            }
            for (resource, _) in &outcome.put {
                estate.insert(Arc::clone(resource));
            }
            estate.advance(outcome.generation);
        }
        self.0.generation.fetch_max(outcome.generation, Ordering::Release);
        let changed = || outcome.put.iter().map(|(resource, _)| resource).chain(&outcome.removed);
        let _compiling = self.0.compiling.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that stay keep their slots, and with them their rules.
        let new = outcome.put.iter().filter(|(_, created)| *created).map(|(resource, _)| resource);
        let came_or_went = outcome.removed.iter().chain(new).map(|resource| &resource.id);
        let mut came_or_went = came_or_went.filter(|id| id.is_type(types::REGISTRIES)).peekable();
        if came_or_went.peek().is_some() {
            let mut registries = Registries::clone(&self.0.registries.load());
            registries.update(&self.estate(), came_or_went);
            self.0.registries.store(Arc::new(registries));
        }
        let registries = self.0.registries.load();
        changed().for_each(|resource| registries.forget(&resource.id));
    }
}

impl Registries {
    /// Takes in registries that came, and lets go of those that went. A name that two registries claim leads to neither.
    fn update<'a>(&mut self, estate: &Estate, changed: impl Iterator<Item = &'a ResourceId>) {
        for id in changed {
            self.by_id.remove(id);
            if estate.get(id).is_some() {
                let slot = Slot { id: id.clone(), rules: ArcSwapOption::empty() };
                self.by_id.insert(id.clone(), Arc::new(slot));
            }
            let host = estate.login_server(id);
            let host = without_port(&host);
            match estate.registry_named(id.name()).and_then(|registry| self.by_id.get(&registry.id)) {
                Some(slot) => drop(self.by_host.insert(host.into(), Arc::clone(slot))),
                None => drop(self.by_host.remove(host)),
            }
        }
    }

    /// Forgets the rules that a change of this resource touches.
    fn forget(&self, changed: &ResourceId) {
        let within_registry = changed.segments().any(|segment| segment.eq_ignore_ascii_case("registries"));
        if within_registry {
            // The registry itself, a child, or an extension of either.
            let registry =
                std::iter::successors(Some(changed.clone()), ResourceId::parent).find_map(|id| self.by_id.get(&id));
            if let Some(slot) = registry {
                slot.rules.store(None);
                return;
            }
        }
        let reaches_all = [types::ROLE_DEFINITIONS, types::DENY_ASSIGNMENTS, types::GROUPS, types::PRICINGS];
        let is = |name: &str| changed.is_type(name);
        if is(types::ROLE_ASSIGNMENTS) {
            let scope = changed.parent().unwrap_or_else(ResourceId::root);
            self.by_id.values().filter(|slot| slot.id.is_within(&scope)).for_each(|slot| slot.rules.store(None));
        } else if reaches_all.into_iter().any(is) {
            self.forget_all();
        }
    }

    fn forget_all(&self) {
        self.by_id.values().for_each(|slot| slot.rules.store(None));
    }
}

/// `host`, `host:port`, `[address]:port`: the part before the port, without a trailing dot.
fn without_port(host: &str) -> &str {
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.is_empty() => name,
        _ => host,
    };
    host.strip_suffix('.').unwrap_or(host)
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn text_of(document: &Document) -> Result<String, StoreError> {
    serde_json::to_string(document).map_err(|_| StoreError::Corrupt("resource document"))
}

fn row_of(resource: &Resource, document: String) -> ResourceRow {
    ResourceRow {
        id_key: resource.id.key(),
        id: resource.id.as_str().to_owned(),
        uid: resource.uid.to_string(),
        resource_type: resource.resource_type(),
        document,
        etag: resource.etag.clone(),
        generation: resource.generation,
        created: resource.created.unix_micros(),
        updated: resource.updated.unix_micros(),
    }
}

fn resource_of(row: ResourceRow) -> Result<Resource, StoreError> {
    let id: ResourceId = row.id.parse().map_err(|_| StoreError::Corrupt("resource id"))?;
    let document = serde_json::from_str(&row.document).map_err(|_| StoreError::Corrupt("resource document"))?;
    Ok(Resource {
        content: Packed::new(&id, document),
        id,
        uid: row.uid.parse().map_err(|_| StoreError::Corrupt("resource uid"))?,
        generation: row.generation,
        etag: row.etag,
        created: postern_model::Timestamp::from_unix_micros(row.created),
        updated: postern_model::Timestamp::from_unix_micros(row.updated),
    })
}

#[cfg(test)]
mod tests;
