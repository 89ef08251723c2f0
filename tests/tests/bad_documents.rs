//! What the resource manager should not be sent: each is refused with the documented code, and nothing of it is done.
#![expect(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test, also in what the tests share"
)]

use std::collections::BTreeMap;

use postern_tests::{Admin, Server};
use serde_json::{Value, json};

const PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
const CUSTOM_ROLE: &str = "11111111-2222-4333-8444-555555555555";

/// A subscription with some of everything, and the ids of what is in it.
struct Scene<'a> {
    admin: Admin<'a>,
    group: String,
    premium: String,
    standard: String,
    basic: String,
    connected: String,
    ruled: String,
    subnet: String,
    principal: String,
}

impl<'a> Scene<'a> {
    fn new(server: &'a Server) -> Self {
        let admin = Admin::of(server);
        let group = format!("/subscriptions/{}/resourceGroups/bad", server.bootstrap().subscription_id);
        let put = |path: &str, body: Value| admin.send("PUT", path, Some(&body));
        put(&group, json!({"location": "eastus"}));
        let registry = |name: &str| admin.id("bad", &format!("Microsoft.ContainerRegistry/registries/{name}"));
        let [premium, standard, basic, connected, ruled] =
            ["premium1", "standard1", "basic1", "connected1", "ruled1"].map(registry);
        for (path, sku) in [
            (&premium, "Premium"),
            (&standard, "Standard"),
            (&basic, "Basic"),
            (&connected, "Premium"),
            (&ruled, "Premium"),
        ] {
            put(path, json!({"location": "eastus", "sku": {"name": sku}}));
        }
        let network = admin.id("bad", "Microsoft.Network/virtualNetworks/net");
        put(&network, json!({"location": "eastus", "properties": {"subnets": [{"name": "inner", "properties": {}}]}}));
        let subnet = format!("{network}/subnets/inner");
        admin.update(
            &premium,
            &json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.7"}]}}),
        );
        let rules = json!([{"action": "Allow", "virtualNetworkSubnetResourceId": subnet}]);
        admin.update(&ruled, &json!({"networkRuleSet": {"defaultAction": "Deny", "virtualNetworkRules": rules}}));
        let identity = put(
            &admin.id("bad", "Microsoft.ManagedIdentity/userAssignedIdentities/someone"),
            json!({"location": "eastus"}),
        );
        let principal = text(&identity["properties"]["principalId"]);
        let scene = Self { admin, group, premium, standard, basic, connected, ruled, subnet, principal };
        scene.admin.send("PUT", &scene.endpoint("link"), Some(&scene.link(&scene.connected)));
        scene.admin.assign(PULL, &scene.principal, &scene.premium);
        let map = json!({"properties": {"actions": ["repositories/app/content/read"]}});
        scene.admin.send("PUT", &format!("{}/scopeMaps/readers", scene.premium), Some(&map));
        let token =
            json!({"properties": {"scopeMapId": format!("{}/scopeMaps/readers", scene.premium), "status": "enabled"}});
        scene.admin.send("PUT", &format!("{}/tokens/reader", scene.premium), Some(&token));
        let role = json!({"properties": {"roleName": "mine", "permissions": [{"actions": ["*/read"]}], "assignableScopes": [scene.group]}});
        scene.admin.send("PUT", &scene.role(CUSTOM_ROLE), Some(&role));
        scene.admin.assign(CUSTOM_ROLE, &scene.principal, &scene.group);
        scene
    }

    fn endpoint(&self, name: &str) -> String {
        self.admin.id("bad", &format!("Microsoft.Network/privateEndpoints/{name}"))
    }

    fn link(&self, service: &str) -> Value {
        let link = json!({"name": "c", "properties": {"groupIds": ["registry"], "privateLinkServiceId": service}});
        json!({"location": "eastus", "properties": {"subnet": {"id": self.subnet}, "privateLinkServiceConnections": [link]}})
    }

    fn role(&self, id: &str) -> String {
        format!("{}/providers/Microsoft.Authorization/roleDefinitions/{id}", self.group)
    }

    fn assignment(&self, number: u32) -> String {
        format!(
            "{}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-{number:012}",
            self.premium
        )
    }

    /// Everything there is, by id: a change of anything shows.
    fn everything(&self) -> BTreeMap<String, Value> {
        let all = self.admin.send("GET", "/postern/v1/export", None);
        let resources = all["value"].as_array().unwrap_or_else(|| panic!("no resources in {all}"));
        assert!(resources.len() > 10, "{all}");
        resources.iter().map(|one| (text(&one["id"]), one.clone())).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// A request, and what it is answered: status and code.
struct Row {
    what: &'static str,
    headers: &'static [&'static str],
    method: &'static str,
    path: String,
    body: Option<Value>,
    expected: &'static str,
}

fn row(what: &'static str, method: &'static str, path: impl Into<String>, body: Value, expected: &'static str) -> Row {
    let body = Some(body).filter(|body| !body.is_null());
    Row { what, headers: &[], method, path: path.into(), body, expected }
}

fn check(scene: &Scene<'_>, rows: Vec<Row>) {
    let before = scene.everything();
    let mut wrong = Vec::new();
    for Row { what, headers, method, path, body, expected } in rows {
        let (status, answer) = scene.admin.try_send_with(headers, method, &path, body.as_ref());
        let found = format!("{status} {}", answer["error"]["code"].as_str().unwrap_or_default());
        if found != expected {
            wrong.push(format!("{what}: {found} instead of {expected}: {}", answer["error"]["message"]));
        }
        let after = scene.everything();
        let differs = |id: &&String| before.get(*id) != after.get(*id);
        let changed: Vec<&String> = before.keys().chain(after.keys()).filter(differs).collect();
        assert!(changed.is_empty(), "{what} changed {changed:?}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn ids_and_shapes() {
    let server = Server::start();
    let scene = Scene::new(&server);
    let Scene { premium, group, .. } = &scene;
    let registry = |name: &str| scene.admin.id("bad", &format!("Microsoft.ContainerRegistry/registries/{name}"));
    let fresh = json!({"location": "eastus", "sku": {"name": "Premium"}});
    let patch =
        |what, properties: Value, expected| row(what, "PATCH", premium, json!({"properties": properties}), expected);
    let absent = premium.replace("premium1", "absent1");
    check(
        &scene,
        vec![
            row("a name of two letters", "PUT", registry("ab"), fresh.clone(), "400 InvalidResourceName"),
            row("a name of 51 letters", "PUT", registry(&"a".repeat(51)), fresh.clone(), "400 InvalidResourceName"),
            row("a name with a dash", "PUT", registry("my-registry"), fresh.clone(), "400 InvalidResourceName"),
            row("a reserved word", "PUT", registry("microsoftimages"), fresh.clone(), "400 ReservedResourceName"),
            row("an encoded slash", "PUT", registry("my%2Fregistry"), fresh.clone(), "400 InvalidRequestUri"),
            row(
                "an encoding that is no text",
                "PUT",
                registry("my%FFregistry"),
                fresh.clone(),
                "400 InvalidRequestUri",
            ),
            row(
                "an id cut short",
                "PUT",
                format!("{group}/providers/Microsoft.ContainerRegistry"),
                fresh.clone(),
                "404 InvalidResourceType",
            ),
            row(
                "a group that is not there",
                "PUT",
                premium.replace("/bad/", "/absent/"),
                fresh.clone(),
                "404 ResourceGroupNotFound",
            ),
            row(
                "a parent that is not there",
                "PUT",
                format!("{absent}/scopeMaps/readers"),
                json!({"properties": {"actions": ["repositories/a/content/read"]}}),
                "404 ParentResourceNotFound",
            ),
            row("a change of nothing", "PATCH", &absent, json!({}), "404 ResourceNotFound"),
            row("no body", "PUT", registry("another1"), Value::Null, "400 InvalidRequestContent"),
            row("a list", "PUT", registry("another1"), json!([]), "400 InvalidRequestContent"),
            row(
                "no location",
                "PUT",
                registry("another1"),
                json!({"sku": {"name": "Premium"}}),
                "400 LocationRequired",
            ),
            row("no tier", "PUT", registry("another1"), json!({"location": "eastus"}), "400 InvalidParameter"),
            row(
                "an unknown tier",
                "PUT",
                registry("another1"),
                json!({"location": "eastus", "sku": {"name": "Ultra"}}),
                "400 InvalidParameter",
            ),
            row(
                "the tier of old",
                "PUT",
                registry("another1"),
                json!({"location": "eastus", "sku": {"name": "Classic"}}),
                "400 InvalidParameter",
            ),
            row("a taken name", "PUT", premium.replace("/bad/", "/postern/"), fresh, "409 AlreadyInUse"),
            row("properties that are a list", "PATCH", premium, json!({"properties": []}), "400 InvalidRequestContent"),
            row(
                "an unknown identity",
                "PATCH",
                premium,
                json!({"identity": {"type": "Both"}}),
                "400 InvalidRequestContent",
            ),
            row("tags that are a number", "PATCH", premium, json!({"tags": 5}), "400 InvalidRequestContent"),
            patch("a switch that is a word", json!({"adminUserEnabled": "yes"}), "400 InvalidRequestContent"),
            patch("a word that is a switch", json!({"publicNetworkAccess": true}), "400 InvalidRequestContent"),
            patch("an unknown word", json!({"publicNetworkAccess": "Perhaps"}), "400 InvalidParameter"),
            patch("an unknown bypass", json!({"networkRuleBypassOptions": "Everybody"}), "400 InvalidParameter"),
            patch("an unknown mode", json!({"roleAssignmentMode": "Both"}), "400 InvalidParameter"),
            patch("rules that are a word", json!({"networkRuleSet": "Deny"}), "400 InvalidRequestContent"),
            patch("an unknown action", json!({"networkRuleSet": {"defaultAction": "Perhaps"}}), "400 InvalidParameter"),
            patch(
                "too long a retention",
                json!({"policies": {"retentionPolicy": {"days": 366, "status": "enabled"}}}),
                "400 InvalidParameter",
            ),
            patch(
                "no days at all",
                json!({"policies": {"softDeletePolicy": {"retentionDays": 0, "status": "enabled"}}}),
                "400 InvalidParameter",
            ),
            patch(
                "a policy that is a word",
                json!({"policies": {"quarantinePolicy": "enabled"}}),
                "400 InvalidRequestContent",
            ),
            patch(
                "an unknown status",
                json!({"policies": {"quarantinePolicy": {"status": "on"}}}),
                "400 InvalidParameter",
            ),
        ],
    );
}

#[test]
fn rules_and_tiers() {
    let server = Server::start();
    let scene = Scene::new(&server);
    let Scene { premium, standard, basic, connected, ruled, .. } = &scene;
    let patch = |what, path: &str, properties: Value, expected| {
        row(what, "PATCH", path, json!({"properties": properties}), expected)
    };
    let rules = |rules: Value| json!({"networkRuleSet": {"defaultAction": "Deny", "ipRules": rules}});
    let one = |value: &str| rules(json!([{"action": "Allow", "value": value}]));
    let many = |count: u32| {
        let all = (0..count)
            .map(|number| json!({"action": "Allow", "value": format!("203.0.{}.{}", number / 256, number % 256)}));
        rules(all.collect())
    };
    let mut rows: Vec<Row> = [
        "300.1.1.1",
        "203.0.113.0/33",
        "203.0.113.0/",
        "203.0.113",
        "",
        "any",
        "203.0.113.0/24,198.51.100.7",
        " 203.0.113.7",
    ]
    .into_iter()
    .map(|value| patch("an address that is none", premium, one(value), "400 InvalidParameter"))
    .collect();
    rows.extend(
        ["2001:db8::1", "2603:1030:210:402::90/125", "::ffff:203.0.113.7"]
            .map(|value| patch("an address of IPv6", premium, one(value), "400 InvalidParameter")),
    );
    let denied = rules(json!([]));
    let subnets = |subnet: &str| json!({"networkRuleSet": {"defaultAction": "Deny", "virtualNetworkRules": [{"action": "Allow", "virtualNetworkSubnetResourceId": subnet}]}});
    rows.extend([
        patch("a rule that is a word", premium, rules(json!(["203.0.113.7"])), "400 InvalidRequestContent"),
        patch("rules that are no list", premium, rules(json!({"value": "203.0.113.7"})), "400 InvalidRequestContent"),
        patch("a rule without an address", premium, rules(json!([{"action": "Allow"}])), "400 InvalidRequestContent"),
        patch(
            "a rule that denies",
            premium,
            rules(json!([{"action": "Deny", "value": "203.0.113.7"}])),
            "400 InvalidParameter",
        ),
        patch(
            "one good rule and a bad one",
            premium,
            rules(json!([{"value": "198.51.100.7"}, {"value": "x"}])),
            "400 InvalidParameter",
        ),
        patch(
            "a good switch and a bad rule",
            premium,
            json!({"adminUserEnabled": true, "networkRuleSet": {"ipRules": [{"value": "x"}]}}),
            "400 InvalidParameter",
        ),
        patch("a rule too many", premium, many(201), "400 LimitExceeded"),
        patch("a subnet that is none", premium, subnets("nonsense"), "400 InvalidParameter"),
        patch("rules on Standard", standard, denied.clone(), "400 FeatureNotSupportedForSku"),
        patch("rules on Basic", basic, denied, "400 FeatureNotSupportedForSku"),
        patch(
            "closing Standard",
            standard,
            json!({"publicNetworkAccess": "Disabled"}),
            "400 DisablingPublicNetworkAccessNotSupported",
        ),
        patch(
            "closing Basic",
            basic,
            json!({"publicNetworkAccess": "Disabled"}),
            "400 DisablingPublicNetworkAccessNotSupported",
        ),
        patch(
            "data endpoints on Standard",
            standard,
            json!({"dataEndpointEnabled": true}),
            "400 FeatureNotSupportedForSku",
        ),
        patch(
            "retention on Standard",
            standard,
            json!({"policies": {"retentionPolicy": {"days": 3, "status": "enabled"}}}),
            "400 FeatureNotSupportedForSku",
        ),
        patch(
            "pulls by nobody on Basic",
            basic,
            json!({"anonymousPullEnabled": true}),
            "400 FeatureNotSupportedForSku",
        ),
        patch("both kinds of links, the endpoint first", connected, subnets(&scene.subnet), "400 ValidationError"),
        row(
            "both kinds of links, the rules first",
            "PUT",
            scene.endpoint("late"),
            scene.link(ruled),
            "400 ValidationError",
        ),
        row(
            "a private endpoint of Standard",
            "PUT",
            scene.endpoint("late"),
            scene.link(standard),
            "400 FeatureNotSupportedForSku",
        ),
        row(
            "a private endpoint of nothing",
            "PUT",
            scene.endpoint("late"),
            scene.link(&premium.replace("premium1", "absent1")),
            "404 ResourceNotFound",
        ),
        row(
            "a private endpoint of nonsense",
            "PUT",
            scene.endpoint("late"),
            scene.link("nonsense"),
            "400 InvalidRequestContent",
        ),
        row(
            "a smaller tier with rules",
            "PATCH",
            premium,
            json!({"sku": {"name": "Basic"}}),
            "400 FeatureNotSupportedForSku",
        ),
        row(
            "a smaller tier with connections",
            "PATCH",
            connected,
            json!({"sku": {"name": "Standard"}, "properties": {"dataEndpointEnabled": false}}),
            "409 Conflict",
        ),
    ]);
    check(&scene, rows);
    scene.admin.send("PATCH", premium, Some(&json!({"properties": many(200)})));
}

#[test]
fn conflicts_roles_and_what_is_in_use() {
    let server = Server::start();
    let scene = Scene::new(&server);
    let Scene { premium, connected, group, .. } = &scene;
    let patch = |what, path: &str, properties: Value, expected| {
        row(what, "PATCH", path, json!({"properties": properties}), expected)
    };
    let wants = |role: &str, principal: &str| {
        let role = format!("{group}/providers/Microsoft.Authorization/roleDefinitions/{role}");
        json!({"properties": {"roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal"}})
    };
    let with = |mut body: Value, name: &str, value: &str| {
        body["properties"][name] = value.into();
        body
    };
    let principal = scene.principal.as_str();
    let push = "8311e382-0749-4cb8-b61a-304f252e45ec";
    let nobody = "00000000-0000-4000-8000-00000000dead";
    let token = |map: &str| json!({"properties": {"scopeMapId": map, "status": "enabled"}});
    let network = scene.subnet.trim_end_matches("/subnets/inner").to_owned();
    let mut rows = vec![
        row("an unknown role", "PUT", scene.assignment(1), wants(nobody, principal), "404 RoleDefinitionDoesNotExist"),
        row(
            "a role that is no id",
            "PUT",
            scene.assignment(1),
            with(wants(push, principal), "roleDefinitionId", "AcrPush"),
            "400 InvalidRequestContent",
        ),
        row("an unknown principal", "PUT", scene.assignment(1), wants(push, nobody), "400 PrincipalNotFound"),
        row(
            "a principal that is no id",
            "PUT",
            scene.assignment(1),
            wants(push, "someone"),
            "400 InvalidRequestContent",
        ),
        row(
            "another kind of principal",
            "PUT",
            scene.assignment(1),
            with(wants(push, principal), "principalType", "User"),
            "400 UnmatchedPrincipalType",
        ),
        row(
            "a condition that is none",
            "PUT",
            scene.assignment(1),
            with(with(wants(push, principal), "condition", "(@Request["), "conditionVersion", "2.0"),
            "400 InvalidCondition",
        ),
        row("the same again", "PUT", scene.assignment(1), wants(PULL, principal), "409 RoleAssignmentExists"),
        row("no body", "PUT", scene.assignment(1), Value::Null, "400 InvalidRequestContent"),
        row(
            "a name that is no id",
            "PUT",
            scene.assignment(1).replace("00000000-0000-4000-8000-000000000001", "mine"),
            wants(push, principal),
            "400 InvalidResourceName",
        ),
        row(
            "a built-in role's name",
            "PUT",
            scene.role(nobody),
            json!({"properties": {"roleName": "AcrPull", "permissions": [{"actions": ["*"]}], "assignableScopes": [group]}}),
            "409 RoleDefinitionWithSameNameExists",
        ),
        row(
            "a role that is assigned",
            "DELETE",
            scene.role(CUSTOM_ROLE),
            Value::Null,
            "400 RoleDefinitionHasAssignments",
        ),
        row("a scope map in use", "DELETE", format!("{premium}/scopeMaps/readers"), Value::Null, "409 Conflict"),
        row("a subnet in use", "DELETE", &scene.subnet, Value::Null, "400 InUseSubnetCannotBeDeleted"),
        row("a network in use", "DELETE", &network, Value::Null, "400 InUseSubnetCannotBeDeleted"),
        row(
            "a network without the subnet in use",
            "PUT",
            &network,
            json!({"location": "eastus", "properties": {"subnets": []}}),
            "400 InUseSubnetCannotBeDeleted",
        ),
        row(
            "another registry's scope map",
            "PUT",
            format!("{connected}/tokens/reader"),
            token(&format!("{premium}/scopeMaps/readers")),
            "400 InvalidParameter",
        ),
        row(
            "an unknown scope map",
            "PUT",
            format!("{premium}/tokens/other"),
            token(&format!("{premium}/scopeMaps/absent")),
            "400 InvalidParameter",
        ),
        row(
            "a scope map without actions",
            "PUT",
            format!("{premium}/scopeMaps/empty"),
            json!({"properties": {"actions": []}}),
            "400 InvalidRequestContent",
        ),
        row(
            "a scope map of nonsense",
            "PUT",
            format!("{premium}/scopeMaps/nonsense"),
            json!({"properties": {"actions": ["repositories/a/content/fly"]}}),
            "400 InvalidParameter",
        ),
        row(
            "a system scope map",
            "DELETE",
            format!("{premium}/scopeMaps/_repositories_pull"),
            Value::Null,
            "409 Conflict",
        ),
        patch("another zone", premium, json!({"zoneRedundancy": "Enabled"}), "409 PropertyChangeNotAllowed"),
        patch(
            "no export while it is open",
            premium,
            json!({"policies": {"exportPolicy": {"status": "disabled"}}}),
            "400 ValidationError",
        ),
        patch(
            "soft deletion with retention",
            premium,
            json!({"policies": {"softDeletePolicy": {"retentionDays": 7, "status": "enabled"}, "retentionPolicy": {"days": 7, "status": "enabled"}}}),
            "400 ValidationError",
        ),
        row(
            "another location",
            "PUT",
            premium,
            json!({"location": "westeurope", "sku": {"name": "Premium"}}),
            "409 InvalidResourceLocation",
        ),
    ];
    let mut stale =
        row("what somebody else has changed", "PATCH", premium, json!({"tags": {"a": "b"}}), "412 PreconditionFailed");
    stale.headers = &["If-Match: \"stale\""];
    let mut there = row(
        "what is there already",
        "PUT",
        premium,
        json!({"location": "eastus", "sku": {"name": "Premium"}}),
        "412 PreconditionFailed",
    );
    there.headers = &["If-None-Match: *"];
    let mut gone =
        row("a deletion of what somebody else has changed", "DELETE", premium, Value::Null, "412 PreconditionFailed");
    gone.headers = &["If-Match: \"stale\""];
    rows.extend([stale, there, gone]);
    check(&scene, rows);
}
