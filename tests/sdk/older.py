"""The Python client of the control plane as it was in 2021, with every api-version that it has, printing what it saw as JSON.

older.py shapes GROUP REGISTRY     what each version shows of a registry
older.py put GROUP REGISTRY        puts back, version by version, what was got; gives the versions
older.py rule GROUP REGISTRY CIDR  denies all but one range, version by version; gives what each then shows of it
older.py tokens GROUP REGISTRY     a scope map, a token and its password; gives their names

Where the resource manager is comes from ARM_ENDPOINT and SUBSCRIPTION_ID, who it is from AZURE_TENANT_ID, AZURE_CLIENT_ID,
AZURE_CLIENT_SECRET and AZURE_AUTHORITY_HOST.
"""

import json
import os
import sys

from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential
from azure.mgmt.containerregistry import ContainerRegistryManagementClient

# Those that have registries, without the first: it knows storage accounts instead of content.
VERSIONS = [
    "2017-10-01",
    "2019-05-01",
    "2019-12-01-preview",
    "2020-11-01-preview",
    "2021-06-01-preview",
    "2021-08-01-preview",
]
TOKEN_VERSIONS = ["2019-05-01-preview", "2020-11-01-preview", "2021-08-01-preview"]


def client(version):
    names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"]
    # The authority is none of those that the library knows, and it must not ask the internet about it.
    who = ClientSecretCredential(*(os.environ[name] for name in names), disable_instance_discovery=True)
    scopes = ["https://management.azure.com/.default"]
    return ContainerRegistryManagementClient(
        who,
        os.environ["SUBSCRIPTION_ID"],
        api_version=version,
        base_url=os.environ["ARM_ENDPOINT"],
        credential_scopes=scopes,
        retry_total=0,
    )


def shapes(group, name):
    envelope = {"id", "name", "type", "location", "creation_date", "system_data"}
    shown = {version: client(version).registries.get(group, name).as_dict() for version in VERSIONS}
    return {version: {key: value for key, value in one.items() if key not in envelope} for version, one in shown.items()}


def put(group, name):
    for version in VERSIONS:
        registries = client(version).registries
        registries.begin_create(group, name, registries.get(group, name)).result()
    return VERSIONS


def rule(group, name, value):
    seen = {}
    for version in VERSIONS:
        acr = client(version)
        models = acr.models(version)
        rules = models.NetworkRuleSet(default_action="Deny", ip_rules=[models.IPRule(ip_address_or_range=value)])
        change = models.RegistryUpdateParameters(network_rule_set=rules)
        changed = acr.registries.begin_update(group, name, change).result()
        seen[version] = changed.network_rule_set.as_dict()
    return seen


def tokens(group, name):
    seen = {}
    for number, version in enumerate(TOKEN_VERSIONS):
        acr = client(version)
        models = acr.models(version)
        actions = ["repositories/hello/content/read"]
        scope_map = models.ScopeMap(actions=actions)
        scope_map = acr.scope_maps.begin_create(group, name, f"readers{number}", scope_map).result()
        token = models.Token(scope_map_id=scope_map.id, status="enabled")
        token = acr.tokens.begin_create(group, name, f"reader{number}", token).result()
        wanted = models.GenerateCredentialsParameters(token_id=token.id, name="password1")
        made = acr.registries.begin_generate_credentials(group, name, wanted).result()
        seen[version] = [made.username, [one.name for one in made.passwords], token.provisioning_state]
    return seen


try:
    verb, *rest = sys.argv[1:]
    verbs = {"shapes": shapes, "put": put, "rule": rule, "tokens": tokens}
    print(json.dumps(verbs[verb](*rest), indent=1))
except HttpResponseError as error:
    sys.exit(f"{type(error).__name__}: {error}")
