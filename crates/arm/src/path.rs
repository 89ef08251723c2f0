use percent_encoding::percent_decode_str;
use postern_estate::Estate;
use postern_model::ResourceId;

use crate::error::{ArmError, Condition};

/// Longest path accepted.
const MAX_PATH_BYTES: usize = 4096;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `/metadata/endpoints`.
    Metadata,
    /// `/tenants`.
    Tenants,
    /// `/subscriptions`.
    Subscriptions,
    /// `/subscriptions/{s}/{what}`: `locations`, `resources`, `resourceGroups`, `providers`.
    SubscriptionList(ResourceId, String),
    /// `/subscriptions/{s}/resourceGroups/{g}/resources`.
    GroupResources(ResourceId),
    /// `/subscriptions/{s}/providers/{namespace}`, and with `/register` behind it.
    Namespace(ResourceId, String),
    /// `/providers/{namespace}/operations`.
    Operations(String),
    /// A resource by id.
    Resource(ResourceId),
    /// All resources of a type below a scope, or an operation of the scope: `scope`, `namespace/type`.
    Collection(ResourceId, String),
    /// All children of a type, or an operation of the resource: its id and the last segment.
    Children(ResourceId, String),
}

/// Takes a path apart: letters in any case, doubled slashes, percent-encoding.
pub(crate) fn parse(path: &str) -> Result<Target, ArmError> {
    let invalid = || ArmError::new(Condition::InvalidUri, "The request's path is not valid.");
    if path.len() > MAX_PATH_BYTES {
        return Err(invalid());
    }
    let mut segments = Vec::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        let segment = percent_decode_str(segment).decode_utf8().map_err(|_| invalid())?;
        if segment.contains('/') {
            return Err(invalid());
        }
        segments.push(segment.into_owned());
    }
    let lower: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let id = |count: usize| -> Result<ResourceId, ArmError> {
        format!("/{}", segments.get(..count).unwrap_or_default().join("/")).parse().map_err(|_| invalid())
    };
    let nothing = || ArmError::new(Condition::NoSuchOperation, "The request's path names nothing that this API has.");
    match lower.as_slice() {
        ["metadata", "endpoints"] => return Ok(Target::Metadata),
        ["tenants"] => return Ok(Target::Tenants),
        ["subscriptions"] => return Ok(Target::Subscriptions),
        ["subscriptions", _] => return id(2).map(Target::Resource),
        ["subscriptions", _, what @ ("locations" | "resources" | "resourcegroups" | "providers")] => {
            return id(2).map(|id| Target::SubscriptionList(id, (*what).to_owned()));
        }
        ["subscriptions", _, "resourcegroups", _] => return id(4).map(Target::Resource),
        ["subscriptions", _, "resourcegroups", _, "resources"] => return id(4).map(Target::GroupResources),
        ["subscriptions", _, "providers", _] | ["subscriptions", _, "providers", _, "register"] => {
            return id(2).map(|id| Target::Namespace(id, segments.get(3).cloned().unwrap_or_default()));
        }
        ["providers", _, "operations"] => return Ok(Target::Operations(segments.get(1).cloned().unwrap_or_default())),
        _ => {}
    }
    let provider = lower.iter().rposition(|segment| *segment == "providers").ok_or_else(nothing)?;
    // What comes before must be a scope.
    if !matches!(lower.first(), Some(&("subscriptions" | "providers"))) {
        return Err(nothing());
    }
    let behind = segments.len().saturating_sub(provider + 2);
    let last = segments.last().cloned().unwrap_or_default();
    match behind {
        0 => Err(nothing()),
        1 => {
            let namespace = segments.get(provider + 1).cloned().unwrap_or_default();
            id(provider).map(|scope| Target::Collection(scope, format!("{namespace}/{last}")))
        }
        even if even % 2 == 0 => id(segments.len()).map(Target::Resource),
        _ => id(segments.len() - 1).map(|parent| Target::Children(parent, last)),
    }
}

/// Words of ids whose spelling answers keep, whatever the caller's.
const WORDS: [&str; 52] = [
    "subscriptions",
    "resourceGroups",
    "providers",
    "Microsoft.ContainerRegistry",
    "Microsoft.Authorization",
    "Microsoft.ManagedIdentity",
    "Microsoft.Network",
    "Microsoft.ContainerInstance",
    "Microsoft.MachineLearningServices",
    "Microsoft.Security",
    "Microsoft.Insights",
    "Microsoft.Graph",
    "Microsoft.Web",
    "Microsoft.Resources",
    "Microsoft.Compute",
    "Microsoft.ContainerService",
    "registries",
    "privateEndpointConnections",
    "scopeMaps",
    "tokens",
    "tasks",
    "taskRuns",
    "runs",
    "agentPools",
    "webhooks",
    "replications",
    "cacheRules",
    "credentialSets",
    "connectedRegistries",
    "applications",
    "exportPipelines",
    "importPipelines",
    "pipelineRuns",
    "roleAssignments",
    "roleDefinitions",
    "userAssignedIdentities",
    "federatedIdentityCredentials",
    "virtualNetworks",
    "subnets",
    "networkSecurityGroups",
    "securityRules",
    "routeTables",
    "routes",
    "networkInterfaces",
    "virtualNetworkLinks",
    "privateEndpoints",
    "privateDnsZones",
    "containerGroups",
    "workspaces",
    "servicePrincipals",
    "groups",
    "users",
];

/// The id as it is stored, or would be: an existing resource's own spelling, else its nearest ancestor's and the documented words.
pub(crate) fn canonical(estate: &Estate, id: &ResourceId) -> ResourceId {
    let mut ancestor = Some(id.clone());
    while let Some(one) = ancestor {
        if let Some(stored) = estate.get(&one) {
            let rest = id.as_str().get(one.as_str().len()..).unwrap_or_default();
            return format!("{}{}", stored.id, with_words(rest)).parse().unwrap_or_else(|_| id.clone());
        }
        ancestor = one.parent();
    }
    with_words(id.as_str()).parse().unwrap_or_else(|_| id.clone())
}

fn with_words(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').collect();
    let mut after_provider = None;
    let respelled: Vec<&str> = segments
        .iter()
        .enumerate()
        .map(|(at, segment)| {
            let word = || WORDS.into_iter().find(|word| word.eq_ignore_ascii_case(segment)).unwrap_or(segment);
            if segment.eq_ignore_ascii_case("providers") {
                after_provider = Some(at);
                return "providers";
            }
            match after_provider {
                // The namespace, then types; names in between stay as they are.
                Some(provider) if at == provider + 1 || (at - provider) % 2 == 0 => word(),
                None if at % 2 == 1 => word(),
                Some(_) | None => segment,
            }
        })
        .collect();
    respelled.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: &str) {
        let shown = match parse(path) {
            Ok(target) => format!("{target:?}"),
            Err(_) => "refused".into(),
        };
        assert_eq!(shown, expected, "{path}");
    }

    #[test]
    fn paths() {
        check("/Metadata/endpoints", "Metadata");
        check("/subscriptions", "Subscriptions");
        check("/subscriptions/s", "Resource(/subscriptions/s)");
        check("/subscriptions/s/ResourceGroups", "SubscriptionList(/subscriptions/s, \"resourcegroups\")");
        check("/subscriptions/s/resourcegroups/g/", "Resource(/subscriptions/s/resourcegroups/g)");
        check("/subscriptions/s/providers/N", "Namespace(/subscriptions/s, \"N\")");
        check("/subscriptions/s/providers/N/register", "Namespace(/subscriptions/s, \"N\")");
        check("/subscriptions/s/providers/N/t", "Collection(/subscriptions/s, \"N/t\")");
        check(
            "/subscriptions/s/resourceGroups/g/providers/N//t/a",
            "Resource(/subscriptions/s/resourceGroups/g/providers/N/t/a)",
        );
        check("/subscriptions/s/providers/N/t/a/u", "Children(/subscriptions/s/providers/N/t/a, \"u\")");
        check("/subscriptions/s/providers/N/t/%5Bsystem%5D", "Resource(/subscriptions/s/providers/N/t/[system])");
        check("/providers/N/t/a", "Resource(/providers/N/t/a)");
        check("/providers/N/t", "Collection(/, \"N/t\")");
        check(
            "/subscriptions/s/providers/N/t/a/providers/M/u",
            "Collection(/subscriptions/s/providers/N/t/a, \"M/u\")",
        );
        for bad in [
            "/",
            "/x",
            "/x/providers/N/t/a",
            "/subscriptions/s/a%2Fb",
            "/subscriptions/%ff",
            "/subscriptions/../x",
            "/subscriptions/s/providers/N/t/a%00b",
            "/subscriptions/s/resourcegroups/g/x",
        ] {
            check(bad, "refused");
        }
    }

    #[test]
    fn ids_are_spelled_as_stored() {
        let documents = [r#"{"id": "/subscriptions/S/resourceGroups/MyGroup"}"#];
        let documents = documents.map(|text| serde_json::from_str(text).unwrap()).to_vec();
        let estate = Estate::from_documents("x", documents).unwrap();
        let check = |id: &str, expected: &str| assert_eq!(canonical(&estate, &id.parse().unwrap()).as_str(), expected);
        check("/SUBSCRIPTIONS/s/resourcegroups/mygroup", "/subscriptions/S/resourceGroups/MyGroup");
        check(
            "/subscriptions/s/resourcegroups/mygroup/PROVIDERS/microsoft.containerregistry/Registries/Tokens/scopemaps/Tokens",
            "/subscriptions/S/resourceGroups/MyGroup/providers/Microsoft.ContainerRegistry/registries/Tokens/scopeMaps/Tokens",
        );
        check(
            "/Providers/microsoft.graph/serviceprincipals/Users",
            "/providers/Microsoft.Graph/servicePrincipals/Users",
        );
    }
}
