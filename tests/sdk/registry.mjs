// The JavaScript client of the data plane against a registry, printing what it saw as JSON.
//
// registry.mjs journey ENDPOINT REPOSITORY   everything the client can do, from an empty repository to a deleted one
// registry.mjs list ENDPOINT                 the names of the repositories
// registry.mjs push ENDPOINT REPOSITORY TAG  a manifest and its blobs
// registry.mjs pull ENDPOINT REPOSITORY TAG  the tag and the note of the last layer
// registry.mjs tags ENDPOINT REPOSITORY      the tags
//
// Who it is comes from AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_AUTHORITY_HOST, from a managed identity's
// endpoint when there is no secret, or is nobody when ANONYMOUS is set. AUDIENCE is what its token is for, and CLOCK_FILE is where the registry's clock is set.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";

// The packages lie in a folder of their own, outside of the checkout.
const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);
const { ContainerRegistryClient, ContainerRegistryContentClient } = require("@azure/container-registry");
const { ClientSecretCredential, ManagedIdentityCredential } = require("@azure/identity");

// More than the four MiB that the client sends at once.
const LARGE = Buffer.alloc(5 * 1024 * 1024, "postern");
const TAGS = ["1", "2", "3", "latest", "old"];
const audience = process.env.AUDIENCE ?? "https://containerregistry.azure.net";
const options = { audience, retryOptions: { maxRetries: 0 } };

function credential() {
  const { AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET } = process.env;
  if (!AZURE_CLIENT_SECRET) return new ManagedIdentityCredential();
  // The authority is none of those that the library knows, and it must not ask the internet about it.
  const settings = { disableInstanceDiscovery: true };
  return new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, settings);
}

function clients(endpoint, repository) {
  // Nobody can read properties; the client of contents wants a credential.
  if (process.env.ANONYMOUS) return { registry: new ContainerRegistryClient(endpoint, options) };
  const login = credential();
  return {
    registry: new ContainerRegistryClient(endpoint, login, options),
    content: repository && new ContainerRegistryContentClient(endpoint, repository, login, options),
  };
}

async function push(content, tag, note) {
  const config = await content.uploadBlob(Buffer.from("{}"));
  const layers = [];
  for (const data of [Readable.from([LARGE]), Buffer.from(note)]) {
    const { digest, sizeInBytes } = await content.uploadBlob(data);
    layers.push({ mediaType: "application/octet-stream", digest, size: sizeInBytes });
  }
  const manifest = {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config: { mediaType: "application/vnd.oci.image.config.v1+json", digest: config.digest, size: config.sizeInBytes },
    layers,
  };
  return (await content.setManifest(manifest, { tag })).digest;
}

async function pull(content, reference) {
  const { digest, manifest } = await content.getManifest(reference);
  const blobs = [];
  for (const layer of manifest.layers) {
    blobs.push(await buffer((await content.downloadBlob(layer.digest)).content));
  }
  return { digest, blobs };
}

/** Status and code of the registry's answer. */
async function refusal(action) {
  try {
    await action();
  } catch (error) {
    if (error.statusCode === undefined) throw error;
    return `${error.statusCode} ${JSON.parse(error.response.bodyAsText).errors[0].code}`;
  }
  return "allowed";
}

async function pages(paged, size) {
  const all = [];
  for await (const page of paged.byPage({ maxPageSize: size })) {
    if ([...page].length) all.push([...page].map((one) => one.name ?? one.digest ?? one));
  }
  return all;
}

async function journey(endpoint, name) {
  const seen = {};
  const { registry, content } = clients(endpoint, name);
  const digests = {};
  for (const tag of TAGS) digests[tag] = await push(content, tag, `note ${tag}`);
  const siblings = ["a", "b", "c"].map((letter) => `${name}-${letter}`);
  for (const sibling of siblings) await push(clients(endpoint, sibling).content, "1", sibling);
  const { digest, blobs } = await pull(content, "2");
  assert.equal(digest, digests["2"]);
  assert.ok(blobs[0].equals(LARGE));
  assert.equal(blobs[1].toString(), "note 2");
  const raw = (await content.getManifest(digest)).content ?? Buffer.alloc(0);
  if (raw.length) assert.equal(`sha256:${createHash("sha256").update(raw).digest("hex")}`, digest);

  seen["repositories"] = await pages(registry.listRepositoryNames(), 3);
  const repository = registry.getRepository(name);
  const artifact = registry.getArtifact(name, "1");
  seen["tags"] = await pages(artifact.listTagProperties(), 2);
  seen["newest first"] = await pages(registry.getArtifact(name, "2").listTagProperties({ order: "LastUpdatedOnDescending" }));
  const manifests = await pages(repository.listManifestProperties(), 2);
  assert.deepEqual(manifests.flat().sort(), Object.values(digests).sort());
  seen["manifest pages"] = manifests.map((page) => page.length);

  const properties = await repository.getProperties();
  seen["repository"] = [properties.name, properties.manifestCount, properties.tagCount, properties.canDelete];
  const manifest = await artifact.getManifestProperties();
  seen["manifest"] = [manifest.tags, manifest.sizeInBytes, manifest.canWrite, manifest.digest === digests["1"]];
  const tag = await artifact.getTagProperties("latest");
  seen["tag"] = [tag.name, tag.digest === digests["latest"], tag.createdOn <= tag.lastUpdatedOn];

  if (process.env.CLOCK_FILE) {
    // Longer than an access token lasts, and shorter than the token that it is got with.
    writeFileSync(process.env.CLOCK_FILE, "+90m");
    seen["after the token's end"] = (await repository.getProperties()).name;
  }

  const locked = await artifact.updateTagProperties("1", { canWrite: false, canDelete: false });
  seen["locked tag"] = [locked.canWrite, locked.canDelete, locked.canRead];
  seen["moving a locked tag"] = await refusal(() => push(content, "1", "moved"));
  seen["removing a locked tag"] = await refusal(() => artifact.deleteTag("1"));
  await artifact.updateTagProperties("1", { canWrite: true, canDelete: true });
  await registry.getArtifact(name, "2").updateManifestProperties({ canRead: false });
  seen["pulling what cannot be read"] = await refusal(() => pull(content, "2"));
  await registry.getArtifact(name, "2").updateManifestProperties({ canRead: true });
  await repository.updateProperties({ canDelete: false });
  seen["deleting a locked repository"] = await refusal(() => repository.delete());
  await repository.updateProperties({ canDelete: true });

  await artifact.deleteTag("old");
  await registry.getArtifact(name, "3").delete();
  await content.deleteManifest(digests["3"]);
  const orphan = await content.uploadBlob(Buffer.from("of no manifest"));
  await content.deleteBlob(orphan.digest);
  seen["deleted blob"] = await refusal(() => content.downloadBlob(orphan.digest));
  seen["tags left"] = await pages(artifact.listTagProperties());
  for (const one of [name, ...siblings]) await registry.deleteRepository(one);
  seen["deleted repository"] = await refusal(() => repository.getProperties());
  seen["repositories left"] = await pages(registry.listRepositoryNames());
  return seen;
}

const [verb, endpoint, repository, tag] = process.argv.slice(2);
try {
  const verbs = {
    journey: () => journey(endpoint, repository),
    list: async () => (await pages(clients(endpoint).registry.listRepositoryNames())).flat(),
    tags: async () => {
      const artifact = clients(endpoint).registry.getArtifact(repository, "1");
      return (await pages(artifact.listTagProperties())).flat();
    },
    push: () => push(clients(endpoint, repository).content, tag, "anything"),
    pull: async () => [tag, (await pull(clients(endpoint, repository).content, tag)).blobs[1].toString()],
  };
  console.log(JSON.stringify(await verbs[verb](), null, 1));
} catch (error) {
  if (error.statusCode === undefined) throw error;
  console.error(`${error.name}: ${error.statusCode} ${error.message}`);
  process.exitCode = 1;
}
