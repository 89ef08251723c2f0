use std::collections::BTreeMap;

use postern_estate::Document;
use postern_model::{Reference, RepositoryName, ResourceId, Secret, Tag};
use postern_store::ImportCredentials;
use serde_json::{Value, json};

use crate::error::{ArmError, Condition};

/// Most tags and repositories of one import.
const MAX_TARGETS: usize = 100;
const MAX_HOST_BYTES: usize = 260;

/// What the body asks for.
pub(super) struct Order {
    pub(super) from: From,
    pub(super) repository: String,
    pub(super) reference: Reference,
    /// Repositories of the target with the tags that are made there.
    pub(super) targets: BTreeMap<RepositoryName, Vec<Tag>>,
    pub(super) overwrite: bool,
}

/// How the source is given.
pub(super) enum From {
    Registry(ResourceId),
    Host { host: String, credentials: Option<Login> },
}

pub(super) struct Login {
    pub(super) user: Option<String>,
    pub(super) password: Secret,
}

pub(super) fn invalid(message: impl Into<String>) -> ArmError {
    ArmError::new(Condition::InvalidParameters, message)
}

impl Order {
    pub(super) fn read(body: &Document) -> Result<Self, ArmError> {
        let source = body.get("source").and_then(Value::as_object);
        let source = source.ok_or_else(|| invalid("The property 'source' is required."))?;
        let image = text(source, "sourceImage")?;
        let image = image.ok_or_else(|| invalid("The property 'source.sourceImage' is required."))?;
        let (repository, reference) = image_of(image).ok_or_else(|| {
            invalid("The property 'source.sourceImage' must be 'repository:tag' or 'repository@digest'.")
        })?;
        let overwrite = match text(body, "mode")? {
            None => false,
            Some(mode) if mode.eq_ignore_ascii_case("NoForce") => false,
            Some(mode) if mode.eq_ignore_ascii_case("Force") => true,
            Some(_) => return Err(invalid("The property 'mode' must be 'NoForce' or 'Force'.")),
        };
        Ok(Self { from: from(source)?, repository, reference, targets: targets(body)?, overwrite })
    }

    /// A body that asks for the same, without what nobody may read.
    pub(super) fn body(&self) -> Document {
        let mut source = Document::new();
        let (key, value) = match &self.from {
            From::Registry(id) => ("resourceId", id.as_str()),
            From::Host { host, .. } => ("registryUri", host.as_str()),
        };
        source.insert(key.into(), value.into());
        source.insert("sourceImage".into(), format!("{}{}", self.repository, self.shown_reference()).into());
        let tagged = self.targets.iter().flat_map(|(name, tags)| tags.iter().map(move |tag| format!("{name}:{tag}")));
        let untagged = self.targets.iter().filter(|(_, tags)| tags.is_empty()).map(|(name, _)| name.to_string());
        let mut body = Document::new();
        body.insert("source".into(), source.into());
        body.insert("targetTags".into(), tagged.collect::<Vec<_>>().into());
        body.insert("untaggedTargetRepositories".into(), untagged.collect::<Vec<_>>().into());
        body.insert("mode".into(), if self.overwrite { "Force" } else { "NoForce" }.into());
        body
    }

    /// What [`Self::body`] leaves out.
    pub(super) fn secret(&self) -> Option<Secret> {
        let From::Host { credentials: Some(login), .. } = &self.from else { return None };
        let text = json!({"username": login.user, "password": login.password.expose()}).to_string();
        Some(Secret::new(text))
    }

    /// The order that a body and its secret were made of.
    pub(super) fn restore(body: &Document, secret: Option<&Secret>) -> Result<Self, ArmError> {
        let mut body = body.clone();
        let secret = secret.and_then(|secret| serde_json::from_str::<Value>(secret.expose()).ok());
        if let (Some(source), Some(credentials)) = (body.get_mut("source").and_then(Value::as_object_mut), secret) {
            source.insert("credentials".into(), credentials);
        }
        Self::read(&body)
    }

    pub(super) fn shown_source(&self) -> String {
        match &self.from {
            From::Registry(id) => id.name().to_owned(),
            From::Host { host, .. } => host.clone(),
        }
    }

    pub(super) fn shown_reference(&self) -> String {
        match &self.reference {
            Reference::Tag(tag) => format!(":{tag}"),
            Reference::Digest(digest) => format!("@{digest}"),
        }
    }
}

/// The login as it is sent to another server.
pub(super) fn credentials(login: Option<&Login>) -> Option<ImportCredentials> {
    login.map(|login| ImportCredentials { user: login.user.clone(), password: login.password.clone() })
}

fn from(source: &Document) -> Result<From, ArmError> {
    let credentials = match source.get("credentials") {
        None | Some(Value::Null) => None,
        Some(Value::Object(credentials)) => {
            let password = text(credentials, "password")?;
            let password =
                password.ok_or_else(|| invalid("The property 'source.credentials.password' is required."))?;
            let user = text(credentials, "username")?.map(str::to_owned);
            Some(Login { user, password: Secret::new(password) })
        }
        Some(_) => return Err(invalid("The property 'source.credentials' must be an object.")),
    };
    match (text(source, "resourceId")?, text(source, "registryUri")?) {
        (Some(id), None) => {
            if credentials.is_some() {
                return Err(invalid(
                    "A source given by 'resourceId' is read with the caller's rights: leave out 'credentials'.",
                ));
            }
            id.parse()
                .map(From::Registry)
                .map_err(|_| invalid("The property 'source.resourceId' is not a resource id."))
        }
        (None, Some(uri)) => {
            let host = uri.strip_prefix("https://").unwrap_or(uri).trim_end_matches('/').to_ascii_lowercase();
            let is_host =
                host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'[' | b']'));
            if host.is_empty() || host.len() > MAX_HOST_BYTES || !is_host {
                return Err(invalid("The property 'source.registryUri' must be a host name."));
            }
            Ok(From::Host { host, credentials })
        }
        _ => Err(invalid("Exactly one of 'source.resourceId' and 'source.registryUri' must be given.")),
    }
}

fn targets(body: &Document) -> Result<BTreeMap<RepositoryName, Vec<Tag>>, ArmError> {
    let mut targets: BTreeMap<RepositoryName, Vec<Tag>> = BTreeMap::new();
    let (tagged, untagged) = (texts(body, "targetTags")?, texts(body, "untaggedTargetRepositories")?);
    if tagged.len() + untagged.len() > MAX_TARGETS {
        return Err(invalid(format!("An import has at most {MAX_TARGETS} targets.")));
    }
    for target in tagged {
        let (name, tag) = target.split_once(':').unwrap_or((target, "latest"));
        let named = name.parse::<RepositoryName>().ok().zip(tag.parse::<Tag>().ok());
        let (name, tag) =
            named.ok_or_else(|| invalid("Each of 'targetTags' must be 'repository:tag' or 'repository'."))?;
        let tags = targets.entry(name).or_default();
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    }
    for name in untagged {
        let name = name.parse::<RepositoryName>();
        let name = name.map_err(|error| invalid(format!("untaggedTargetRepositories: {error}.")))?;
        targets.entry(name).or_default();
    }
    if targets.is_empty() {
        return Err(invalid("At least one of 'targetTags' and 'untaggedTargetRepositories' must name a target."));
    }
    Ok(targets)
}

/// `repository:tag`, `repository@digest`, or `repository` for its `latest`.
fn image_of(image: &str) -> Option<(String, Reference)> {
    let (name, reference) = if let Some((name, digest)) = image.split_once('@') {
        (name, Reference::Digest(digest.parse().ok()?))
    } else {
        let (name, tag) = image.split_once(':').unwrap_or((image, "latest"));
        (name, Reference::Tag(tag.parse().ok()?))
    };
    name.parse::<RepositoryName>().ok()?;
    Some((name.to_owned(), reference))
}

/// A text, where there is one that is not empty.
fn text<'a>(object: &'a Document, name: &str) -> Result<Option<&'a str>, ArmError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(invalid(format!("The property '{name}' must be a string."))),
    }
}

fn texts<'a>(body: &'a Document, name: &str) -> Result<Vec<&'a str>, ArmError> {
    let wrong = || invalid(format!("The property '{name}' must be a list of strings."));
    match body.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(entries)) => entries.iter().map(|entry| entry.as_str().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refusal(body: Value) -> String {
        format!("{:?}", Order::read(body.as_object().unwrap()).err().unwrap())
    }

    const ID: &str = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/r";

    #[test]
    fn bodies_are_read() {
        let body = json!({
            "source": {"registryUri": "https://Registry.Example:5000/", "sourceImage": "a/b:1", "credentials": {"password": "p"}},
            "targetTags": ["x", "x:2", "y/z:3", "x:2"],
            "untaggedTargetRepositories": ["w"],
            "mode": "force",
        });
        let order = Order::read(body.as_object().unwrap()).unwrap();
        assert!(order.overwrite);
        assert_eq!((order.repository.as_str(), order.shown_reference().as_str()), ("a/b", ":1"));
        let From::Host { host, credentials: Some(login) } = &order.from else { panic!() };
        assert_eq!(
            (host.as_str(), login.user.as_deref(), login.password.expose()),
            ("registry.example:5000", None, "p")
        );
        let targets: Vec<_> = order.targets.iter().map(|(name, tags)| format!("{name} {tags:?}")).collect();
        assert_eq!(targets, ["w []", "x [latest, 2]", "y/z [3]"]);
    }

    #[test]
    fn orders_are_kept_without_their_secret() {
        for (source, has_secret) in [
            (json!({"resourceId": ID, "sourceImage": "a:1"}), false),
            (json!({"registryUri": "h:5", "sourceImage": format!("a/b@sha256:{}", "0".repeat(64))}), false),
            (
                json!({"registryUri": "h", "sourceImage": "a", "credentials": {"username": "u", "password": "p\"w"}}),
                true,
            ),
            (json!({"registryUri": "h", "sourceImage": "a", "credentials": {"password": "p\"w"}}), true),
        ] {
            let body = json!({"source": source, "targetTags": ["x", "y:2", "y:1"], "untaggedTargetRepositories": ["z"], "mode": "Force"});
            let order = Order::read(body.as_object().unwrap()).unwrap();
            let (kept, secret) = (order.body(), order.secret());
            assert_eq!(secret.is_some(), has_secret);
            assert!(!Value::from(kept.clone()).to_string().contains("p\\\"w"));
            let again = Order::restore(&kept, secret.as_ref()).unwrap();
            assert_eq!(again.body(), kept);
            assert_eq!((&again.targets, again.overwrite), (&order.targets, true));
            assert_eq!(again.secret(), secret);
        }
    }

    #[test]
    fn bodies_are_refused() {
        let tags = json!(["x:1"]);
        for (body, expected) in [
            (json!({}), "'source' is required"),
            (json!({"source": {"resourceId": ID}, "targetTags": tags}), "'source.sourceImage' is required"),
            (
                json!({"source": {"resourceId": ID, "sourceImage": "A:1"}, "targetTags": tags}),
                "must be 'repository:tag'",
            ),
            (
                json!({"source": {"resourceId": ID, "sourceImage": "a@sha256:1"}, "targetTags": tags}),
                "'repository@digest'",
            ),
            (json!({"source": {"sourceImage": "a:1"}, "targetTags": tags}), "Exactly one"),
            (
                json!({"source": {"resourceId": ID, "registryUri": "h", "sourceImage": "a:1"}, "targetTags": tags}),
                "Exactly one",
            ),
            (
                json!({"source": {"resourceId": ID, "sourceImage": "a:1", "credentials": {"password": "p"}}, "targetTags": tags}),
                "leave out 'credentials'",
            ),
            (
                json!({"source": {"registryUri": "h", "sourceImage": "a:1", "credentials": {"username": "u"}}, "targetTags": tags}),
                "password' is required",
            ),
            (
                json!({"source": {"registryUri": "u@h/x", "sourceImage": "a:1"}, "targetTags": tags}),
                "must be a host name",
            ),
            (json!({"source": {"resourceId": ID, "sourceImage": "a:1"}}), "At least one"),
            (
                json!({"source": {"resourceId": ID, "sourceImage": "a:1"}, "targetTags": ["x@1"]}),
                "Each of 'targetTags'",
            ),
            (json!({"source": {"resourceId": ID, "sourceImage": "a:1"}, "targetTags": [1]}), "list of strings"),
            (json!({"source": {"resourceId": ID, "sourceImage": "a:1"}, "targetTags": tags, "mode": "x"}), "'mode'"),
        ] {
            let shown = refusal(body.clone());
            assert!(shown.contains(expected) && shown.contains("InvalidParameters"), "{body}: {shown}");
        }
    }
}
