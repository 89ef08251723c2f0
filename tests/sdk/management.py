"""The Python clients of the control plane, printing what they saw as JSON.

management.py journey GROUP SOURCE   everything from an empty group to a deleted one; SOURCE is the id of a registry with `notes:1`
management.py registries             the names of the registries that whoever it is may read

Where the resource manager is comes from ARM_ENDPOINT and SUBSCRIPTION_ID. Who it is comes from AZURE_TENANT_ID, AZURE_CLIENT_ID,
AZURE_CLIENT_SECRET and AZURE_AUTHORITY_HOST, or from a managed identity's endpoint when there is no secret. REGISTRY_PROXY is how
registries are reached by name.
"""

import json
import os
import sys
import uuid

import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from azure.mgmt.authorization.models import RoleAssignmentCreateParameters
from azure.mgmt.containerregistry import ContainerRegistryManagementClient
from azure.mgmt.msi import ManagedServiceIdentityClient
from azure.mgmt.msi.models import FederatedIdentityCredential, Identity
from azure.mgmt.network import NetworkManagementClient
from azure.mgmt.privatedns import PrivateDnsManagementClient
from azure.mgmt.resource import ResourceManagementClient

ENDPOINT = os.environ["ARM_ENDPOINT"]
SUBSCRIPTION = os.environ["SUBSCRIPTION_ID"]
ACR_PULL = "7f951dda-4ed3-4680-a7ca-43fe172d538d"
CONDITION = (
    "((!(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'})) OR "
    "(@Request[Microsoft.ContainerRegistry/registries/repositories:name] StringStartsWithIgnoreCase 'team/'))"
)


def credential():
    if "AZURE_CLIENT_SECRET" in os.environ:
        names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"]
        # The authority is none of those that the library knows, and it must not ask the internet about it.
        return ClientSecretCredential(*(os.environ[name] for name in names), disable_instance_discovery=True)
    return ManagedIdentityCredential()


def client(kind, who):
    scopes = ["https://management.azure.com/.default"]
    return kind(who, SUBSCRIPTION, base_url=ENDPOINT, credential_scopes=scopes, retry_total=0)


class Journey:
    def __init__(self, group, source):
        who = credential()
        self.group = group
        self.source = source
        self.seen = {}
        self.resources = client(ResourceManagementClient, who)
        self.acr = client(ContainerRegistryManagementClient, who)
        self.roles = client(AuthorizationManagementClient, who)
        self.identities = client(ManagedServiceIdentityClient, who)
        self.network = client(NetworkManagementClient, who)
        self.zones = client(PrivateDnsManagementClient, who)

    def refusal(self, action):
        """Status and code of the answer."""
        try:
            action()
        except HttpResponseError as error:
            return f"{error.status_code} {error.error.code if error.error else ''}"
        return "done"

    def make_group(self):
        groups = self.resources.resource_groups
        assert not groups.check_existence(self.group)
        made = groups.create_or_update(self.group, {"location": "eastus", "tags": {"purpose": "test"}})
        assert groups.check_existence(self.group)
        self.seen["group"] = [made.name, made.location, made.tags, made.properties.provisioning_state]

    def make_registry(self):
        name = self.group + "first"
        check = {"name": name, "type": "Microsoft.ContainerRegistry/registries"}
        free = self.acr.registries.check_name_availability(check)
        body = {"location": "eastus", "sku": {"name": "Premium"}, "tags": {"a": "b"}}
        made = self.acr.registries.begin_create(self.group, name, body).result()
        taken = self.acr.registries.check_name_availability(check)
        self.seen["name"] = [free.name_available, taken.name_available, taken.reason]
        self.seen["registry"] = [
            made.name,
            made.sku.name,
            made.sku.tier,
            made.provisioning_state,
            made.network_rule_set.default_action,
            made.public_network_access,
            made.policies.export_policy.status,
            made.role_assignment_mode,
        ]
        self.registry = made
        self.name = name

    def update(self, properties):
        poller = self.acr.registries.begin_update(self.group, self.name, {"properties": properties})
        return poller.result()

    def set_network_rules(self):
        rules = [{"value": value, "action": "Allow"} for value in ("203.0.113.0/24", "198.51.100.7")]
        updated = self.update({"networkRuleSet": {"defaultAction": "Deny", "ipRules": rules}})
        self.seen["rules"] = [rule.ip_address_or_range for rule in updated.network_rule_set.ip_rules]
        closed = self.update({"networkRuleBypassOptions": "None", "publicNetworkAccess": "Disabled"})
        self.seen["closed"] = [
            closed.network_rule_bypass_options,
            closed.public_network_access,
            closed.network_rule_set.default_action,
            len(closed.network_rule_set.ip_rules),
        ]
        six = [{"value": "2001:db8::/32", "action": "Allow"}]
        self.seen["wrong rule"] = self.refusal(lambda: self.update({"networkRuleSet": {"defaultAction": "Deny", "ipRules": six}}))
        opened = self.update({"publicNetworkAccess": "Enabled", "networkRuleSet": {"defaultAction": "Allow", "ipRules": []}})
        self.seen["opened"] = [opened.public_network_access, opened.network_rule_set.ip_rules]

    def connect(self):
        body = {
            "location": "eastus",
            "properties": {
                "addressSpace": {"addressPrefixes": ["10.7.0.0/16"]},
                "subnets": [{"name": "inner", "properties": {"addressPrefix": "10.7.0.0/24"}}],
            },
        }
        self.network.virtual_networks.begin_create_or_update(self.group, "vnet", body).result()
        outer = {"properties": {"addressPrefix": "10.7.1.0/24", "serviceEndpoints": [{"service": "Microsoft.ContainerRegistry"}]}}
        made = self.network.subnets.begin_create_or_update(self.group, "vnet", "outer", outer).result()
        self.seen["subnets"] = sorted(subnet.name for subnet in self.network.subnets.list(self.group, "vnet"))
        self.seen["service endpoints"] = [one.service for one in made.service_endpoints]
        subnet = self.network.subnets.get(self.group, "vnet", "inner")

        def endpoint(name, links):
            link = {"name": "link", "properties": {"privateLinkServiceId": self.registry.id, "groupIds": ["registry"]}}
            body = {"location": "eastus", "properties": {"subnet": {"id": subnet.id}, links: [link]}}
            return self.network.private_endpoints.begin_create_or_update(self.group, name, body).result()

        def states():
            found = self.acr.private_endpoint_connections.list(self.group, self.name)
            return sorted(
                [one.private_endpoint.id.rsplit("/")[-1], one.private_link_service_connection_state.status] for one in found
            )

        endpoint("auto", "privateLinkServiceConnections")
        manual = endpoint("manual", "manualPrivateLinkServiceConnections")
        self.seen["waiting"] = states()
        found = self.acr.private_endpoint_connections.list(self.group, self.name)
        waiting = next(one for one in found if one.private_endpoint.id == manual.id)
        for status in ("Approved", "Rejected"):
            state = {"status": status, "description": "by the test"}
            change = {"properties": {"privateLinkServiceConnectionState": state}}
            poller = self.acr.private_endpoint_connections.begin_create_or_update(self.group, self.name, waiting.name, change)
            poller.result()
            self.seen[status] = states()
        shown = self.network.private_endpoints.get(self.group, "manual")
        link = shown.manual_private_link_service_connections[0]
        self.seen["the endpoint's side"] = link.private_link_service_connection_state.status
        self.acr.private_endpoint_connections.begin_delete(self.group, self.name, waiting.name).result()
        self.network.private_endpoints.begin_delete(self.group, "auto").result()
        self.seen["after the endpoint's end"] = states()
        link = self.acr.registries.get_private_link_resource(self.group, self.name, "registry")
        self.seen["private link"] = [link.properties.group_id, link.properties.required_zone_names]

        zone = "privatelink.azurecr.io"
        self.zones.private_zones.begin_create_or_update(self.group, zone, {"location": "global"}).result()
        record = {"properties": {"ttl": 300, "aRecords": [{"ipv4Address": "10.7.0.4"}]}}
        self.zones.record_sets.create_or_update(self.group, zone, "A", "one", record)
        network = {"id": self.network.virtual_networks.get(self.group, "vnet").id}
        link = {"location": "global", "properties": {"registrationEnabled": False, "virtualNetwork": network}}
        self.zones.virtual_network_links.begin_create_or_update(self.group, zone, "here", link).result()
        addresses = [record.ipv4_address for record in self.zones.record_sets.get(self.group, zone, "A", "one").a_records]
        self.seen["zone"] = [addresses, [link.name for link in self.zones.virtual_network_links.list(self.group, zone)]]

    def login(self, user, password):
        """Status of a login at the registry."""
        proxies = {"https": os.environ["REGISTRY_PROXY"]}
        url = f"https://{self.registry.login_server}/v2/"
        return requests.get(url, auth=(user, password), proxies=proxies).status_code

    def make_tokens(self):
        body = {"properties": {"description": "reads", "actions": ["repositories/team/app/content/read"]}}
        scope_map = self.acr.scope_maps.begin_create(self.group, self.name, "readers", body).result()
        body = {"properties": {"scopeMapId": scope_map.id, "status": "enabled"}}
        token = self.acr.tokens.begin_create(self.group, self.name, "reader", body).result()
        self.seen["token"] = [token.name, token.status, token.scope_map_id == scope_map.id]
        wanted = {"tokenId": token.id, "name": "password1"}
        made = self.acr.registries.begin_generate_credentials(self.group, self.name, wanted).result()
        password = made.passwords[0]
        self.seen["credentials"] = [made.username, password.name, self.login(made.username, password.value)]
        shown = self.acr.tokens.get(self.group, self.name, "reader").credentials.passwords
        self.seen["kept passwords"] = [[one.name, one.value] for one in shown]
        self.acr.tokens.begin_update(self.group, self.name, "reader", {"properties": {"status": "disabled"}}).result()
        self.seen["disabled token"] = self.login(made.username, password.value)
        actions = ["repositories/team/app/content/read", "repositories/team/app/metadata/read"]
        change = {"properties": {"actions": actions}}
        changed = self.acr.scope_maps.begin_update(self.group, self.name, "readers", change).result()
        self.seen["scope map"] = [changed.actions, changed.properties.type]
        self.seen["scope map in use"] = self.refusal(
            lambda: self.acr.scope_maps.begin_delete(self.group, self.name, "readers").result()
        )
        self.acr.tokens.begin_delete(self.group, self.name, "reader").result()
        self.acr.scope_maps.begin_delete(self.group, self.name, "readers").result()
        self.seen["tokens left"] = [token.name for token in self.acr.tokens.list(self.group, self.name)]

    def use_admin_user(self):
        self.seen["no admin user"] = self.refusal(lambda: self.acr.registries.list_credentials(self.group, self.name))
        self.update({"adminUserEnabled": True})
        before = self.acr.registries.list_credentials(self.group, self.name)
        change = {"name": "password2"}
        after = self.acr.registries.regenerate_credential(self.group, self.name, change)
        self.seen["admin user"] = [
            before.username,
            [password.name for password in after.passwords],
            self.login(before.username, before.passwords[1].value),
            self.login(after.username, after.passwords[1].value),
        ]

    def assign_roles(self):
        identity = self.identities.user_assigned_identities.create_or_update(self.group, "app", Identity(location="eastus"))
        issuer = FederatedIdentityCredential(issuer="https://token.test", subject="repo:x", audiences=["api://x"])
        self.identities.federated_identity_credentials.create_or_update(self.group, "app", "pipeline", issuer)
        kept = self.identities.federated_identity_credentials.list(self.group, "app")
        self.seen["identity"] = [identity.name, identity.tenant_id == os.environ["AZURE_TENANT_ID"], [one.subject for one in kept]]
        attached = {"identity": {"type": "UserAssigned", "userAssignedIdentities": {identity.id: {}}}}
        updated = self.acr.registries.begin_update(self.group, self.name, attached).result()
        block = list(updated.identity.user_assigned_identities.values())[0]
        self.seen["attached"] = [updated.identity.type, block.principal_id == identity.principal_id]

        definitions = self.roles.role_definitions.list(self.registry.id, filter="roleName eq 'AcrPull'")
        definition = [one for one in definitions][0]
        self.seen["role"] = [definition.role_name, definition.name, definition.role_type]
        name = str(uuid.uuid5(uuid.NAMESPACE_URL, identity.id))
        wanted = RoleAssignmentCreateParameters(
            role_definition_id=definition.id, principal_id=identity.principal_id, principal_type="ServicePrincipal"
        )
        made = self.roles.role_assignments.create(self.registry.id, name, wanted)
        self.seen["assignment"] = [made.scope == self.registry.id, made.principal_type]
        again = str(uuid.uuid5(uuid.NAMESPACE_URL, identity.id + "again"))
        self.seen["assigned twice"] = self.refusal(lambda: self.roles.role_assignments.create(self.registry.id, again, wanted))
        nowhere = RoleAssignmentCreateParameters(
            role_definition_id=definition.id.replace(ACR_PULL, str(uuid.UUID(int=1))), principal_id=identity.principal_id
        )
        self.seen["unknown role"] = self.refusal(lambda: self.roles.role_assignments.create(self.registry.id, again, nowhere))
        of_registry = self.roles.role_assignments.list_for_scope(
            self.registry.id, filter=f"principalId eq '{identity.principal_id}'"
        )
        self.seen["assignments"] = [[one.role_definition_id == definition.id, one.condition] for one in of_registry]
        self.roles.role_assignments.delete(self.registry.id, name)
        self.update({"roleAssignmentMode": "AbacRepositoryPermissions"})
        readers = [one for one in self.roles.role_definitions.list(
            self.registry.id, filter="roleName eq 'Container Registry Repository Reader'"
        )]
        wanted = RoleAssignmentCreateParameters(
            role_definition_id=readers[0].id,
            principal_id=identity.principal_id,
            principal_type="ServicePrincipal",
            condition=CONDITION,
            condition_version="2.0",
        )
        made = self.roles.role_assignments.create(self.registry.id, name, wanted)
        self.seen["conditional"] = made.condition == CONDITION
        wanted.condition = "(@Request[nonsense"
        self.seen["wrong condition"] = self.refusal(lambda: self.roles.role_assignments.create(self.registry.id, again, wanted))

    def import_image(self):
        def order(mode):
            body = {
                "source": {"resourceId": self.source, "sourceImage": "notes:1"},
                "targetTags": ["imported:1"],
                "mode": mode,
            }
            self.acr.registries.begin_import_image(self.group, self.name, body).result()

        order("NoForce")
        self.seen["imported twice"] = self.refusal(lambda: order("NoForce"))
        order("Force")

    def list_all(self):
        for number in range(3):
            body = {"location": "westeurope", "sku": {"name": "Basic"}}
            self.acr.registries.begin_create(self.group, f"{self.group}{number}other", body).result()
        self.seen["registries"] = sorted(one.name for one in self.acr.registries.list_by_resource_group(self.group))
        assert set(self.seen["registries"]) <= {one.name for one in self.acr.registries.list()}
        only = "resourceType eq 'Microsoft.ContainerRegistry/registries'"
        pages = self.resources.resources.list_by_resource_group(self.group, filter=only, top=3).by_page()
        self.seen["pages"] = [len(list(page)) for page in pages]
        usages = self.acr.registries.list_usages(self.group, self.name)
        self.seen["usages"] = {one.name: [one.limit, one.unit] for one in usages.value}
        self.seen["used"] = {one.name: one.current_value for one in usages.value if one.current_value}
        self.seen["rules on Basic"] = self.refusal(lambda: self.acr.registries.begin_update(
            self.group,
            f"{self.group}0other",
            {"properties": {"networkRuleSet": {"defaultAction": "Deny", "ipRules": []}}},
        ).result())
        generic = self.resources.resources.get_by_id(self.registry.id, api_version="2019-05-01")
        self.seen["as it was in 2019"] = ["publicNetworkAccess" in generic.properties, "adminUserEnabled" in generic.properties]
        body = {"location": "eastus", "properties": {"serviceUri": "https://hooks.test/", "actions": ["push"]}}
        hook = self.acr.webhooks.begin_create(self.group, self.name, "mywebhook", body).result()
        self.seen["webhook"] = [hook.name, hook.actions]

    def delete_all(self):
        self.acr.registries.begin_delete(self.group, self.name).result()
        self.seen["deleted"] = self.refusal(lambda: self.acr.registries.get(self.group, self.name))
        self.acr.registries.begin_delete(self.group, self.name).result()
        self.resources.resource_groups.begin_delete(self.group).result()
        self.seen["deleted group"] = self.refusal(lambda: self.resources.resource_groups.get(self.group))
        assert not [one for one in self.acr.registries.list() if one.name.startswith(self.group)]


def main(verb, *rest):
    if verb == "registries":
        return [one.name for one in client(ContainerRegistryManagementClient, credential()).registries.list()]
    if verb != "journey":
        sys.exit(__doc__)
    journey = Journey(*rest)
    for step in (
        journey.make_group,
        journey.make_registry,
        journey.set_network_rules,
        journey.connect,
        journey.make_tokens,
        journey.use_admin_user,
        journey.assign_roles,
        journey.import_image,
        journey.list_all,
        journey.delete_all,
    ):
        step()
    return journey.seen


try:
    print(json.dumps(main(*sys.argv[1:]), indent=1))
except (ClientAuthenticationError, HttpResponseError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
