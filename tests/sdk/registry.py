"""The Python client of the data plane against a registry, printing what it saw as JSON.

registry.py journey ENDPOINT REPOSITORY   everything the client can do, from an empty repository to a deleted one
registry.py list ENDPOINT                 the names of the repositories
registry.py push ENDPOINT REPOSITORY TAG  a manifest and its blobs
registry.py pull ENDPOINT REPOSITORY TAG  the tag and the note of the last layer
registry.py tags ENDPOINT REPOSITORY      the tags

Who it is comes from AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_AUTHORITY_HOST, from a managed identity's
endpoint when there is no secret, or is nobody when ANONYMOUS is set. AUDIENCE is what its token is for.
"""

import io
import json
import os
import sys

from azure.containerregistry import ArtifactTagOrder, ContainerRegistryClient
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential

# More than the four MiB that the client sends and asks for at once.
LARGE = bytes(range(256)) * (20 * 1024)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
TAGS = ["1", "2", "3", "latest", "old"]


def client(endpoint):
    if os.environ.get("ANONYMOUS"):
        return ContainerRegistryClient(endpoint, None, retry_total=0)
    if "AZURE_CLIENT_SECRET" in os.environ:
        names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"]
        # The authority is none of those that the library knows, and it must not ask the internet about it.
        credential = ClientSecretCredential(*(os.environ[name] for name in names), disable_instance_discovery=True)
    else:
        credential = ManagedIdentityCredential()
    audience = os.environ.get("AUDIENCE", "https://containerregistry.azure.net")
    return ContainerRegistryClient(endpoint, credential, audience=audience, retry_total=0)


def push(registry, repository, tag, note):
    config, _ = registry.upload_blob(repository, io.BytesIO(b"{}"))
    layers = []
    for data in (LARGE, note.encode()):
        digest, size = registry.upload_blob(repository, io.BytesIO(data))
        layers.append({"mediaType": "application/octet-stream", "digest": digest, "size": size})
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2},
        "layers": layers,
    }
    return registry.set_manifest(repository, manifest, tag=tag, media_type=MANIFEST)


def pull(registry, repository, reference):
    found = registry.get_manifest(repository, reference)
    blobs = [b"".join(registry.download_blob(repository, layer["digest"])) for layer in found.manifest["layers"]]
    return found.digest, blobs


def refusal(action):
    """Status and code of the registry's answer."""
    try:
        action()
    except HttpResponseError as error:
        error.response.read()
        code = error.response.json()["errors"][0]["code"]
        return f"{error.status_code} {code}"
    return "allowed"


def pages(paged):
    found = [[getattr(one, "name", None) or getattr(one, "digest", one) for one in page] for page in paged.by_page()]
    return [page for page in found if page]


def journey(registry, repository):
    seen = {}
    digests = {tag: push(registry, repository, tag, f"note {tag}") for tag in TAGS}
    for sibling in ("a", "b", "c"):
        push(registry, f"{repository}-{sibling}", "1", sibling)
    digest, blobs = pull(registry, repository, "2")
    assert digest == digests["2"] and blobs == [LARGE, b"note 2"]
    assert pull(registry, repository, digests["3"])[1][1] == b"note 3"

    seen["repositories"] = pages(registry.list_repository_names(results_per_page=3))
    seen["tags"] = pages(registry.list_tag_properties(repository, results_per_page=2))
    newest = pages(registry.list_tag_properties(repository, order_by=ArtifactTagOrder.LAST_UPDATED_ON_DESCENDING))
    seen["newest first"] = newest
    manifests = pages(registry.list_manifest_properties(repository, results_per_page=2))
    assert sorted(sum(manifests, [])) == sorted(digests.values())
    seen["manifest pages"] = [len(page) for page in manifests]

    properties = registry.get_repository_properties(repository)
    seen["repository"] = [properties.name, properties.manifest_count, properties.tag_count, properties.can_delete]
    manifest = registry.get_manifest_properties(repository, "1")
    seen["manifest"] = [manifest.tags, manifest.size_in_bytes, manifest.can_write, manifest.digest == digests["1"]]
    tag = registry.get_tag_properties(repository, "latest")
    seen["tag"] = [tag.name, tag.digest == digests["latest"], tag.created_on <= tag.last_updated_on]

    locked = registry.update_tag_properties(repository, "1", can_write=False, can_delete=False)
    seen["locked tag"] = [locked.can_write, locked.can_delete, locked.can_read]
    seen["moving a locked tag"] = refusal(lambda: push(registry, repository, "1", "moved"))
    seen["removing a locked tag"] = refusal(lambda: registry.delete_tag(repository, "1"))
    registry.update_tag_properties(repository, "1", can_write=True, can_delete=True)
    registry.update_manifest_properties(repository, "2", can_read=False)
    seen["pulling what cannot be read"] = refusal(lambda: pull(registry, repository, "2"))
    registry.update_manifest_properties(repository, "2", can_read=True)
    registry.update_repository_properties(repository, can_delete=False)
    seen["deleting a locked repository"] = refusal(lambda: registry.delete_repository(repository))
    registry.update_repository_properties(repository, can_delete=True)

    registry.delete_tag(repository, "old")
    registry.delete_manifest(repository, "3")
    registry.delete_manifest(repository, digests["3"])
    orphan, _ = registry.upload_blob(repository, io.BytesIO(b"of no manifest"))
    registry.delete_blob(repository, orphan)
    seen["deleted blob"] = refusal(lambda: registry.download_blob(repository, orphan))
    seen["tags left"] = pages(registry.list_tag_properties(repository))
    for name in (repository, *(f"{repository}-{sibling}" for sibling in ("a", "b", "c"))):
        registry.delete_repository(name)
    registry.delete_repository(repository)
    seen["deleted repository"] = refusal(lambda: registry.get_repository_properties(repository))
    seen["repositories left"] = pages(registry.list_repository_names())
    return seen


def main(verb, endpoint, *rest):
    with client(endpoint) as registry:
        if verb == "journey":
            return journey(registry, *rest)
        if verb == "list":
            return list(registry.list_repository_names())
        if verb == "tags":
            return [tag.name for tag in registry.list_tag_properties(*rest)]
        if verb == "push":
            return push(registry, *rest, "anything")
        if verb == "pull":
            return [rest[1], pull(registry, *rest)[1][1].decode()]
    sys.exit(__doc__)


try:
    print(json.dumps(main(*sys.argv[1:]), indent=1))
except (ClientAuthenticationError, ResourceNotFoundError, HttpResponseError) as error:
    sys.exit(f"{type(error).__name__}: {error}")
