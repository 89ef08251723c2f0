/// Every operation on the directory, as method and path: for the test that calls each of them as somebody who may not.
///
/// `<object>` stands for the id of somebody else.
pub const GRAPH_ENDPOINTS: &[(&str, &str)] = &[
    ("GET", "/v1.0/me"),
    ("GET", "/v1.0/me/ownedObjects"),
    ("POST", "/v1.0/directoryObjects/getByIds"),
    ("GET", "/v1.0/directoryObjects/<object>"),
    ("POST", "/v1.0/directoryObjects/<object>/getMemberGroups"),
    ("POST", "/v1.0/directoryObjects/<object>/checkMemberGroups"),
    ("GET", "/v1.0/groups/<object>/members"),
    ("POST", "/v1.0/groups/<object>/members/$ref"),
    ("DELETE", "/v1.0/groups/<object>/members/<object>/$ref"),
    ("GET", "/v1.0/servicePrincipals(appId='<object>')"),
    ("GET", "/v1.0/applications"),
    ("POST", "/v1.0/applications"),
    ("GET", "/v1.0/applications/<object>"),
    ("PATCH", "/v1.0/applications/<object>"),
    ("DELETE", "/v1.0/applications/<object>"),
    ("GET", "/v1.0/applications/<object>/owners"),
    ("GET", "/v1.0/applications/<object>/federatedIdentityCredentials"),
    ("POST", "/v1.0/applications/<object>/federatedIdentityCredentials"),
    ("GET", "/v1.0/applications/<object>/federatedIdentityCredentials/<object>"),
    ("PATCH", "/v1.0/applications/<object>/federatedIdentityCredentials/<object>"),
    ("DELETE", "/v1.0/applications/<object>/federatedIdentityCredentials/<object>"),
    ("POST", "/v1.0/applications/<object>/addPassword"),
    ("POST", "/v1.0/applications/<object>/removePassword"),
    ("GET", "/v1.0/servicePrincipals"),
    ("POST", "/v1.0/servicePrincipals"),
    ("GET", "/v1.0/servicePrincipals/<object>"),
    ("PATCH", "/v1.0/servicePrincipals/<object>"),
    ("DELETE", "/v1.0/servicePrincipals/<object>"),
    ("POST", "/v1.0/servicePrincipals/<object>/addPassword"),
    ("POST", "/v1.0/servicePrincipals/<object>/removePassword"),
    ("GET", "/v1.0/users"),
    ("POST", "/v1.0/users"),
    ("GET", "/v1.0/users/<object>"),
    ("PATCH", "/v1.0/users/<object>"),
    ("DELETE", "/v1.0/users/<object>"),
    ("GET", "/v1.0/groups"),
    ("POST", "/v1.0/groups"),
    ("GET", "/beta/groups/<object>"),
    ("PATCH", "/v1.0/groups/<object>"),
    ("DELETE", "/v1.0/groups/<object>"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_in_the_table() {
        // The arms of `dispatch`: `("GET", ["me"]) => …`, `("GET", [name, "owners"]) => …`.
        let source = include_str!("../graph.rs");
        let arms = source.lines().map(str::trim).filter(|line| line.starts_with("(\"") && line.contains("=>"));
        let mut seen = 0;
        for arm in arms {
            let words: Vec<&str> = arm.split("=>").next().unwrap_or_default().split('"').skip(1).step_by(2).collect();
            let (Some(method), last) = (words.first(), words.last()) else { continue };
            let fits = |(own, path): &&(&str, &str)| {
                let end = path.to_lowercase();
                own == method && last.is_none_or(|last| last == method || end.contains(&format!("/{last}")))
            };
            assert!(GRAPH_ENDPOINTS.iter().any(|endpoint| fits(&endpoint)), "no endpoint is {arm}");
            seen += 1;
        }
        assert!(seen >= 15, "`dispatch` is written otherwise now: {seen} arms");
    }
}
