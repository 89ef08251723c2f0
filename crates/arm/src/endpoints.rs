/// Every operation, as method and path: for the test that calls each of them as somebody who may not.
///
/// `<subscription>`, `<group>` (a resource group's id), `<registry>` and `<principal>` (resource ids) stand for what is there.
pub const ENDPOINTS: &[(&str, &str)] = &[
    ("GET", "/metadata/endpoints"),
    ("GET", "/tenants"),
    ("GET", "/subscriptions"),
    ("GET", "/subscriptions/<subscription>/locations"),
    ("GET", "/subscriptions/<subscription>/resources"),
    ("GET", "/subscriptions/<subscription>/resourceGroups"),
    ("GET", "/subscriptions/<subscription>/providers"),
    ("GET", "<group>/resources"),
    ("GET", "/subscriptions/<subscription>/providers/Microsoft.ContainerRegistry"),
    ("POST", "/subscriptions/<subscription>/providers/Microsoft.ContainerRegistry/register"),
    ("GET", "/providers/Microsoft.ContainerRegistry/operations"),
    ("GET", "<registry>"),
    ("HEAD", "<registry>"),
    ("PUT", "<registry>"),
    ("PATCH", "<registry>"),
    ("DELETE", "<registry>"),
    ("GET", "<group>/providers/Microsoft.ContainerRegistry/registries"),
    ("GET", "<registry>/providers/Microsoft.Authorization/roleAssignments"),
    ("GET", "<registry>/providers/Microsoft.Authorization/roleDefinitions"),
    ("GET", "/providers/Microsoft.Graph/servicePrincipals"),
    ("GET", "<registry>/tokens"),
    ("GET", "/subscriptions/<subscription>/providers/Microsoft.Network/locations/eastus/serviceTags"),
    ("POST", "/subscriptions/<subscription>/providers/Microsoft.ContainerRegistry/checkNameAvailability"),
    ("POST", "<registry>/issueWorkloadCertificate"),
    ("POST", "<registry>/listCredentials"),
    ("POST", "<registry>/regenerateCredential"),
    ("POST", "<registry>/generateCredentials"),
    ("POST", "<registry>/importImage"),
    ("GET", "<registry>/operationStatuses/registries-00000000-0000-0000-0000-000000000001"),
    ("GET", "<registry>/operationResults/registries-00000000-0000-0000-0000-000000000001"),
    ("POST", "<registry>/tasks/mytask/listDetails"),
    ("POST", "<registry>/scheduleRun"),
    ("POST", "<registry>/listBuildSourceUploadUrl"),
    ("GET", "<registry>/runs"),
    ("GET", "<registry>/runs/ca1"),
    ("PATCH", "<registry>/runs/ca1"),
    ("POST", "<registry>/runs/ca1/cancel"),
    ("POST", "<registry>/runs/ca1/listLogSasUrl"),
    ("POST", "<registry>/taskRuns/myrun/listDetails"),
    ("POST", "<registry>/agentPools/mypool/listQueueStatus"),
    ("POST", "<registry>/webhooks/mywebhook/getCallbackConfig"),
    ("POST", "<principal>/addPassword"),
    ("POST", "<principal>/removePassword"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path;

    fn filled(path: &str) -> String {
        path.replace("<subscription>", "s")
            .replace("<group>", "/subscriptions/s/resourceGroups/g")
            .replace(
                "<registry>",
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/r",
            )
            .replace("<principal>", "/providers/Microsoft.Graph/servicePrincipals/p")
    }

    /// The names of the kinds of targets that the table calls with a method.
    fn has(method: &str, kind: &str) -> bool {
        ENDPOINTS.iter().any(|(own, path)| {
            let target = path::parse(&filled(path)).unwrap_or_else(|_| panic!("{path} is no path"));
            *own == method && format!("{target:?}").split('(').next() == Some(kind)
        })
    }

    #[test]
    fn every_operation_is_in_the_table() {
        let mut seen = 0;
        // The arms of `dispatch`: `("GET" | "POST", Target::Kind(…)) => …`.
        for line in include_str!("call.rs").lines().map(str::trim).filter(|line| line.starts_with("(\"")) {
            let Some((methods, rest)) = line.split_once(", Target::") else { continue };
            let kind = rest.split(['(', ')']).next().unwrap();
            for method in methods.trim_start_matches('(').split(" | ").map(|word| word.trim_matches('"')) {
                assert!(has(method, kind), "no endpoint calls {method} on a {kind}");
                seen += 1;
            }
        }
        assert!(seen >= 16, "`dispatch` is written otherwise now: {seen} arms");
        // The operations: lower-case words that are compared with the path's last segment.
        let source = include_str!("actions.rs");
        let words = source.split('"').skip(1).step_by(2);
        let operations = words.filter(|word| word.len() > 4 && word.bytes().all(|byte| byte.is_ascii_lowercase()));
        let operations: Vec<&str> = operations.filter(|word| !["message", "reason"].contains(word)).collect();
        assert!(operations.contains(&"listcredentials"), "`actions` is written otherwise now");
        for operation in operations.iter().filter(|word| !matches!(**word, "notafter" | "certificate")) {
            let end = format!("/{operation}");
            assert!(
                ENDPOINTS.iter().any(|(_, path)| path.to_lowercase().ends_with(&end)),
                "no endpoint is {operation}"
            );
        }
    }
}
