//! Carries the steps of a plan out, each as soon as what it waits for is done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use postern_acr::{AcrCommand, Invocation, Output, Surroundings};
use postern_model::Secret;
use postern_tasks::dockerfile::{self, MAX_DOCKERFILE_BYTES};
use postern_tasks::lines::{self, BuiltImage, LogLine};
use postern_tasks::order::{Argument, ImageDependency, ImageName, Work};
use postern_tasks::{Outcome, Plan, PlannedStep, Settings, StepAction, StepStatus};

use tokio::sync::RwLock;

use crate::engine::{Build, Container, EngineError, Limits, is_image_name};
use crate::log::Log;
use crate::login::Logins;
use crate::run::{Failure, Site};
use crate::source::{inside, read_inside};

/// An image is pushed so often. Source: the open-source runner of Azure Container Registry Tasks (read 2026-11).
const PUSH_ATTEMPTS: u32 = 3;
const PUSH_PAUSE_SECONDS: u32 = 1;
/// The command line tool's image, whose part is done here.
const ACR_IMAGE: &str = "mcr.microsoft.com/acr/acr-cli";
/// Where steps find the run's files, and their home.
const WORKSPACE: &str = "/workspace";
const HOME: &str = "/acb/home";
/// What a failed step that is not a program ends with.
const GENERAL_FAILURE: i64 = 1;

/// What came of a run so far.
#[derive(Default)]
pub(crate) struct Done {
    /// What was pushed.
    pub(crate) outputs: Vec<ImageName>,
    /// What was built upon.
    pub(crate) dependencies: Vec<ImageDependency>,
}

/// The steps of a run.
pub(crate) struct Steps<'a> {
    pub(crate) site: &'a Site,
    /// The folder that paths of the plan begin in.
    pub(crate) context: &'a Path,
    pub(crate) plan: &'a Plan,
    pub(crate) logins: &'a Logins,
}

/// What steps share.
#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    /// While an image is built, no container changes the files that it is built of: what was checked is what is used.
    files: RwLock<()>,
}

/// What steps tell one another.
#[derive(Default)]
struct Known {
    /// Names of images that were built in this run: they are not looked for elsewhere.
    built: BTreeSet<String>,
    /// What each was built upon.
    bases: Vec<(String, Vec<ImageDependency>)>,
    /// What was pushed.
    pushed: Vec<ImageName>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// A program of it ended so.
    #[error("exit status {0}")]
    Exit(i64),
    /// It took too long.
    #[error("step timed out after {0}s")]
    TimedOut(u32),
    /// The engine could not do it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// It makes no sense.
    #[error("{0}")]
    Bad(String),
    /// Images were not pushed.
    #[error("failed to push images successfully")]
    NotPushed,
}

impl Steps<'_> {
    /// Carries them all out, or until one has failed.
    pub(crate) async fn carry_out(&self, done: &mut Done) -> Result<(), Failure> {
        let shared = Shared::default();
        let mut order = self.plan.order.clone();
        let mut running = FuturesUnordered::new();
        let mut first_error = None;
        loop {
            for index in order.ready() {
                if let Some(step) = self.plan.steps.get(index) {
                    let shared = &shared;
                    running.push(async move { (index, self.step(step, shared).await) });
                }
            }
            let Some((index, ended)) = running.next().await else { break };
            order.finished(index, if ended.is_ok() { Outcome::Successful } else { Outcome::Failed });
            if let Err(error) = ended {
                first_error.get_or_insert(error);
                // What runs beside it has nobody left to wait for.
                break;
            }
        }
        drop(running);
        let known = shared.known.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.summarize(&known, done).await;
        match first_error {
            None => Ok(()),
            Some(Failure { end, message }) => Err(Failure { end, message }),
        }
    }

    /// One step with its delays, attempts and repetitions.
    async fn step(&self, step: &PlannedStep, shared: &Shared) -> Result<(), Failure> {
        let (log, settings) = (&self.site.log, &step.settings);
        if settings.start_delay > 0 {
            log.line(&LogLine::StartDelay { id: &step.id, seconds: settings.start_delay }).await;
            tokio::time::sleep(Duration::from_secs(settings.start_delay.into())).await;
        }
        let directory = settings.working_directory.as_deref().unwrap_or_default();
        let network = settings.network.as_deref().unwrap_or_default();
        log.line(&LogLine::Executing { id: &step.id, timeout: settings.timeout, directory, network }).await;
        let begun = Instant::now();
        let limit = Duration::from_secs(settings.timeout.into());
        let ended = match tokio::time::timeout(limit, self.attempts(step, shared)).await {
            Ok(ended) => ended,
            Err(_) => Err(StepError::TimedOut(settings.timeout)),
        };
        let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        let marked = |status| LogLine::Marked { id: &step.id, status, micros };
        match ended {
            Ok(()) => {
                log.line(&marked(StepStatus::Successful)).await;
                Ok(())
            }
            Err(error) if settings.ignore_errors => {
                log.line(&LogLine::Ignored { id: &step.id, error: &error.to_string() }).await;
                log.line(&marked(StepStatus::Successful)).await;
                Ok(())
            }
            Err(error) => {
                log.line(&marked(StepStatus::Failed)).await;
                Err(match error {
                    StepError::Engine(EngineError::Missing(_)) => Failure::of_worker(error),
                    StepError::Exit(code) => Failure::of_run(lines::exit_status(code)),
                    error => Failure::of_run(format!("failed during run, err: {error}")),
                })
            }
        }
    }

    async fn attempts(&self, step: &PlannedStep, shared: &Shared) -> Result<(), StepError> {
        let (log, settings) = (&self.site.log, &step.settings);
        for _ in 0..=settings.repeat {
            let mut retries = settings.retries;
            loop {
                let error = match self.once(step, shared).await {
                    Ok(()) => break,
                    Err(error) => error,
                };
                // Only what ended by itself may end otherwise the next time.
                if !matches!(error, StepError::Exit(_)) || retries == 0 {
                    if !matches!(step.action, StepAction::Push(_)) {
                        log.line(&LogLine::NoRetries(&step.id)).await;
                    }
                    return Err(error);
                }
                retries -= 1;
                log.line(&LogLine::Retrying { id: &step.id, seconds: settings.retry_delay }).await;
                tokio::time::sleep(Duration::from_secs(settings.retry_delay.into())).await;
            }
        }
        Ok(())
    }

    async fn once(&self, step: &PlannedStep, shared: &Shared) -> Result<(), StepError> {
        match &step.action {
            StepAction::Build(build) => self.build(step, build, shared).await,
            StepAction::Push(images) => self.push(images, shared).await,
            StepAction::Cmd(words) => self.command(step, words, shared).await,
        }
    }

    fn engine(&self) -> Result<&crate::engine::RunEngine, StepError> {
        match &self.site.engine {
            Ok(engine) => Ok(engine),
            Err(EngineError::Missing(why)) => Err(EngineError::Missing(why.clone()).into()),
            Err(error) => Err(StepError::Bad(error.to_string())),
        }
    }

    fn limits(&self, settings: &Settings) -> Limits {
        let all = f64::from(self.site.order.cpu);
        let own = settings.cpus.as_deref().and_then(|cpus| cpus.parse::<f64>().ok()).filter(|cpus| *cpus > 0.0);
        Limits { cpus: own.unwrap_or(all).min(all), memory_bytes: self.site.memory_bytes }
    }

    async fn build(&self, step: &PlannedStep, build: &postern_tasks::Build, shared: &Shared) -> Result<(), StepError> {
        let (site, engine) = (self.site, self.engine()?);
        let _files = shared.files.write().await;
        let bad = |message: String| StepError::Bad(message);
        for tag in &build.tags {
            check_name(tag)?;
        }
        let context = inside(self.context, &build.context).filter(|path| path.is_dir()).ok_or_else(|| {
            bad(format!("the build's context `{}` is not a folder among the run's files", build.context))
        })?;
        let named = build.dockerfile.as_deref().unwrap_or("Dockerfile");
        // As docker does: from where the run's files are, and in the context where none is named.
        let (base, name) = if build.dockerfile.is_some() { (self.context, named) } else { (context.as_path(), named) };
        let text = read_inside(base, name, MAX_DOCKERFILE_BYTES)
            .map_err(|error| bad(format!("failed to read the Dockerfile `{named}`: {error}")))?;
        let arguments = self.build_arguments(build);
        let known =
            arguments.iter().map(|one| (one.name.clone(), one.value.expose().to_owned())).collect::<BTreeMap<_, _>>();
        site.log.line(&LogLine::Scanning).await;
        let bases = dockerfile::bases(&text, &known, build.target.as_deref())
            .map_err(|error| bad(format!("failed to scan dependencies: {error}")))?;
        if !engine.mounts_stay_inside() && dockerfile::has_mounts(&text) {
            return Err(bad(
                "RUN --mount needs buildah 1.38.1 or later on the worker's machine: earlier ones let it out of its folders".into(),
            ));
        }
        site.log.line(&LogLine::Scanned).await;
        if site.network.is_none() {
            // Steps reach what the worker reaches.
            site.effects_begin().await.map_err(|failure| StepError::Bad(failure.message))?;
        }
        // As it was read, under a name that means nothing.
        let dockerfile = site.folder.temporary().join("Dockerfile");
        std::fs::write(&dockerfile, &text).map_err(EngineError::Io)?;
        let mut dependencies = Vec::new();
        for base in bases {
            if locked(shared).built.contains(&base.image) {
                continue;
            }
            check_name(&base.image)?;
            engine.pull(&base.image, &site.log).await?;
            let mut image = image_name(&base.image);
            image.digest = engine.digest(&base.image).await;
            dependencies.push(ImageDependency { is_runtime: base.is_runtime, image });
        }
        site.log.line(&LogLine::Launching(&step.id)).await;
        let wanted = Build {
            context: &context,
            dockerfile: &dockerfile,
            tags: &build.tags,
            arguments: &arguments,
            target: build.target.as_deref(),
            no_cache: build.no_cache,
            labels: &build.labels,
        };
        let network = site.network.as_ref().map(|(network, _)| network);
        match engine.build(&wanted, self.limits(&step.settings), network, &site.log).await {
            Ok(()) => {}
            Err(EngineError::Exit(code)) => return Err(StepError::Exit(code.into())),
            Err(error) => return Err(error.into()),
        }
        site.log.line(&LogLine::Launched(&step.id)).await;
        let mut shared = locked(shared);
        for tag in &build.tags {
            shared.built.insert(tag.clone());
            shared.bases.retain(|(known, _)| known != tag);
            shared.bases.push((tag.clone(), dependencies.clone()));
        }
        Ok(())
    }

    /// Those of the line, with what the request says is secret kept so.
    fn build_arguments(&self, build: &postern_tasks::Build) -> Vec<Argument> {
        let asked: &[Argument] = match &self.site.order.work {
            Work::Docker(work) => &work.arguments,
            Work::File { .. } | Work::Encoded { .. } => &[],
        };
        let given = build.arguments.iter().map(|text| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            let is_secret = asked.iter().any(|known| known.name == name && known.is_secret)
                || self.plan.masks.iter().any(|mask| value.contains(mask.expose()));
            Argument { name: name.to_owned(), value: Secret::new(value), is_secret }
        });
        given.collect()
    }

    async fn push(&self, images: &[String], shared: &Shared) -> Result<(), StepError> {
        let (site, engine) = (self.site, self.engine()?);
        site.effects_begin().await.map_err(|failure| StepError::Bad(failure.message))?;
        for image in images {
            check_name(image)?;
            let mut attempt = 1;
            let digest = loop {
                site.log.line(&LogLine::Pushing { image, attempt }).await;
                match engine.push(image).await {
                    Ok(digest) => break digest,
                    Err(error) => {
                        site.log.plain(&error.to_string()).await;
                        site.explain(&error.to_string()).await;
                    }
                }
                if attempt == PUSH_ATTEMPTS {
                    site.log.line(&LogLine::PushFailed).await;
                    return Err(StepError::NotPushed);
                }
                site.log.line(&LogLine::PushRetry { image, seconds: PUSH_PAUSE_SECONDS }).await;
                tokio::time::sleep(Duration::from_secs(PUSH_PAUSE_SECONDS.into())).await;
                attempt += 1;
            };
            site.log.line(&LogLine::Pushed(image)).await;
            let pushed = ImageName { digest: Some(digest).filter(|digest| !digest.is_empty()), ..image_name(image) };
            locked(shared).pushed.push(pushed);
        }
        Ok(())
    }

    async fn command(&self, step: &PlannedStep, words: &[String], shared: &Shared) -> Result<(), StepError> {
        let (site, settings) = (self.site, &step.settings);
        let (image, rest) = words.split_first().ok_or_else(|| StepError::Bad("the step has no command".into()))?;
        site.effects_begin().await.map_err(|failure| StepError::Bad(failure.message))?;
        if is_acr(image) {
            site.log.line(&LogLine::Launching(&step.id)).await;
            let code = self.acr(rest).await;
            return self.judge(step, code).await;
        }
        if settings.privileged {
            return Err(StepError::Bad("privileged steps are not carried out by this worker".into()));
        }
        if settings.detach {
            return Err(StepError::Bad("steps in the background (`detach`) are not carried out yet".into()));
        }
        if !settings.mounts.is_empty() {
            return Err(StepError::Bad("volumes with secrets (`volumeMounts`) are not carried out yet".into()));
        }
        check_name(image)?;
        let engine = self.engine()?;
        let _files = shared.files.read().await;
        if !locked(shared).built.contains(image) {
            let mut retries = settings.download_retries;
            while let Err(error) = engine.pull(image, &site.log).await {
                if retries == 0 {
                    return Err(error.into());
                }
                retries -= 1;
                tokio::time::sleep(Duration::from_secs(settings.download_retry_delay.into())).await;
            }
        }
        site.log.line(&LogLine::Launching(&step.id)).await;
        let environment = self.environment(settings);
        let mounts = self.mounts();
        let entry_point = settings.entry_point.as_deref().map(postern_tasks::split_words).transpose();
        let entry_point = entry_point.map_err(|error| StepError::Bad(error.to_string()))?;
        let working_directory = settings.working_directory.as_deref().filter(|_| !settings.keeps_image_directory);
        let names: Vec<String> = self.plan.steps.iter().map(|step| step.id.clone()).collect();
        let container = Container {
            id: &step.id,
            number: self.plan.steps.iter().position(|known| known.id == step.id).unwrap_or_default(),
            image,
            command: rest,
            entry_point: entry_point.as_deref(),
            environment: &environment,
            working_directory: working_directory.or_else(|| (!settings.keeps_image_directory).then_some(WORKSPACE)),
            user: settings.user.as_deref(),
            mounts: &mounts,
            names: &names,
            limits: self.limits(settings),
        };
        let code = engine.run(&container, site.network.as_ref().map(|(network, _)| network), &site.log).await?;
        self.judge(step, code.into()).await
    }

    /// Whether an end is one that the step asks for.
    async fn judge(&self, step: &PlannedStep, code: i64) -> Result<(), StepError> {
        let (allowed, forbidden) = (&step.settings.exited_with, &step.settings.exited_without);
        let is_good = if allowed.is_empty() { code == 0 || !forbidden.is_empty() } else { allowed.contains(&code) };
        if is_good && !forbidden.contains(&code) {
            self.site.log.line(&LogLine::Launched(&step.id)).await;
            return Ok(());
        }
        Err(StepError::Exit(code))
    }

    /// What a container finds around it: its home with the logins, the way to the registries, whom to trust.
    fn environment(&self, settings: &Settings) -> Vec<String> {
        let site = self.site;
        let gateway = site.network.as_ref().map_or(&site.gateway, |(_, gateway)| gateway);
        let proxy = gateway.proxy_url.expose();
        let authorities = format!("{HOME}/authorities.crt");
        let mut environment = vec![
            format!("HOME={HOME}"),
            format!("DOCKER_CONFIG={HOME}/.docker"),
            format!("REGISTRY_AUTH_FILE={HOME}/.docker/config.json"),
            format!("HTTPS_PROXY={proxy}"),
            format!("https_proxy={proxy}"),
            format!("SSL_CERT_FILE={authorities}"),
            format!("CURL_CA_BUNDLE={authorities}"),
            format!("REQUESTS_CA_BUNDLE={authorities}"),
            format!("NODE_EXTRA_CA_CERTS={authorities}"),
            format!("IDENTITY_ENDPOINT={}", gateway.identity_endpoint),
            format!("IDENTITY_HEADER={}", gateway.identity_header.expose()),
        ];
        environment.extend(settings.env.iter().cloned());
        environment
    }

    fn mounts(&self) -> Vec<(PathBuf, String)> {
        vec![
            (self.context.to_path_buf(), WORKSPACE.to_owned()),
            (self.site.folder.home(), HOME.to_owned()),
            (self.site.authorities.clone(), format!("{HOME}/authorities.crt")),
        ]
    }

    /// The registry's own tool, carried out here.
    async fn acr(&self, words: &[String]) -> i64 {
        let site = self.site;
        let words = std::iter::once("acr").chain(words.iter().map(String::as_str));
        let invocation = match Invocation::from_words(words) {
            Ok(invocation) => invocation,
            Err(error) => {
                site.log.raw(&error.to_string().replace('\n', lines::LINE_END)).await;
                return GENERAL_FAILURE;
            }
        };
        // Both are about files of the machine.
        if !invocation.config.is_empty() || matches!(invocation.command, AcrCommand::Login(_) | AcrCommand::Logout(_)) {
            site.log
                .plain("Error: a step has the logins of its run: --config, login and logout are not for steps")
                .await;
            return GENERAL_FAILURE;
        }
        let registry = invocation.registry.clone().filter(|name| name.contains('.'));
        let server = match &invocation.registry {
            None => site.order.registry.clone(),
            Some(name) => registry.unwrap_or_else(|| format!("{name}{}", site.suffix)),
        };
        let surroundings = Surroundings {
            http: site.http.clone(),
            plain_http: false,
            registry: Some(site.order.registry.clone()),
            suffix: site.suffix.clone(),
            credentials: self.logins.of(&server).cloned(),
            config: None,
            password: None,
            concurrency: usize::try_from(site.order.cpu).unwrap_or(1),
            clock: site.log.clock(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let lines = Lines(site.log.clone());
        match postern_acr::run(&invocation, &surroundings, &lines).await {
            Ok(()) => 0,
            Err(error) => {
                site.log.plain(&format!("Error: {error}")).await;
                GENERAL_FAILURE
            }
        }
    }

    /// What the run has made, in the log and for the server.
    async fn summarize(&self, shared: &Known, done: &mut Done) {
        let log = &self.site.log;
        done.outputs.clone_from(&shared.pushed);
        done.dependencies = shared.bases.iter().flat_map(|(_, bases)| bases.iter().cloned()).collect();
        let bases_of =
            |image: &ImageName| shared.bases.iter().find(|(tag, _)| same_image(tag, image)).map(|(_, bases)| bases);
        if shared.pushed.is_empty() {
            return;
        }
        for step in &self.plan.steps {
            if matches!(step.action, StepAction::Build(_)) {
                log.line(&LogLine::Populating(&step.id)).await;
                log.line(&LogLine::Populated(&step.id)).await;
            }
        }
        log.line(&LogLine::DependenciesFound).await;
        let built: Vec<BuiltImage<'_>> = (shared.pushed.iter())
            .map(|image| {
                let bases = bases_of(image).map(Vec::as_slice).unwrap_or_default();
                let of_kind = |is_runtime: bool| {
                    bases.iter().filter(move |base| base.is_runtime == is_runtime).map(|base| &base.image)
                };
                BuiltImage { image, runtime: of_kind(true).next(), buildtime: of_kind(false).collect() }
            })
            .collect();
        log.raw(&lines::dependencies(&built)).await;
    }
}

/// Refuses what is not the name of an image in a registry.
fn check_name(name: &str) -> Result<(), StepError> {
    if is_image_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    Err(StepError::Bad(format!("`{shown}` is not the name of an image in a registry")))
}

/// Whether a word stands for the registry's own tool.
fn is_acr(image: &str) -> bool {
    let tool = image.strip_prefix(ACR_IMAGE);
    image == "acr" || tool.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']))
}

fn same_image(name: &str, image: &ImageName) -> bool {
    let parsed = image_name(name);
    (&parsed.registry, &parsed.repository, &parsed.tag) == (&image.registry, &image.repository, &image.tag)
}

/// The parts of an image's name. Without a registry it is one of Docker Hub, as for docker.
fn image_name(text: &str) -> ImageName {
    let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest.to_owned())));
    let (registry, path) = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host.to_owned(), path.to_owned()),
        Some(_) => ("registry.hub.docker.com".to_owned(), name.to_owned()),
        None => ("registry.hub.docker.com".to_owned(), format!("library/{name}")),
    };
    let (repository, tag) = match path.rsplit_once(':') {
        Some((repository, tag)) => (repository.to_owned(), Some(tag.to_owned())),
        None => (path, digest.is_none().then(|| "latest".to_owned())),
    };
    ImageName { registry, repository, tag, digest }
}

fn locked(shared: &Shared) -> std::sync::MutexGuard<'_, Known> {
    shared.known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Output of the registry's own tool.
struct Lines(Log);

impl Output for Lines {
    fn line(&self, text: &str) {
        self.0.now(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, registry: &str, repository: &str, tag: Option<&str>, digest: Option<&str>) {
        let name = image_name(text);
        let seen = (name.registry.as_str(), name.repository.as_str(), name.tag.as_deref(), name.digest.as_deref());
        assert_eq!(seen, (registry, repository, tag, digest), "{text}");
    }

    #[test]
    fn names_of_images() {
        check("r.azurecr.io/a/b:1", "r.azurecr.io", "a/b", Some("1"), None);
        check("r.azurecr.io:8443/a", "r.azurecr.io:8443", "a", Some("latest"), None);
        check("localhost/a:1", "localhost", "a", Some("1"), None);
        check("alpine", "registry.hub.docker.com", "library/alpine", Some("latest"), None);
        check("team/app:2", "registry.hub.docker.com", "team/app", Some("2"), None);
        check("r.io/a@sha256:00", "r.io", "a", None, Some("sha256:00"));
    }

    #[test]
    fn the_tool_of_the_registry() {
        assert!(
            is_acr("acr") && is_acr("mcr.microsoft.com/acr/acr-cli:0.19") && is_acr("mcr.microsoft.com/acr/acr-cli")
        );
        assert!(!is_acr("mcr.microsoft.com/acr/acr-client:1") && !is_acr("acr2") && !is_acr("r.io/acr"));
    }
}
