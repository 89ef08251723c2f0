// The JavaScript client of the control plane, printing what it saw as JSON.
//
// management.mjs journey GROUP REGION   a registry in the group, from its name to its end
// management.mjs registries             the names of the registries that whoever it is may read
//
// Where the resource manager is comes from ARM_ENDPOINT and SUBSCRIPTION_ID. Who it is comes from AZURE_TENANT_ID, AZURE_CLIENT_ID,
// AZURE_CLIENT_SECRET and AZURE_AUTHORITY_HOST, or from a managed identity's endpoint when there is no secret.

import { createRequire } from "node:module";

// The packages lie in a folder of their own, outside of the checkout.
const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);
const { ContainerRegistryManagementClient } = require("@azure/arm-containerregistry");
const { ClientSecretCredential, ManagedIdentityCredential } = require("@azure/identity");

const type = "Microsoft.ContainerRegistry/registries";

function credential() {
  const { AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET } = process.env;
  if (!AZURE_CLIENT_SECRET) return new ManagedIdentityCredential();
  // The authority is none of those that the library knows, and it must not ask the internet about it.
  const settings = { disableInstanceDiscovery: true };
  return new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, settings);
}

function manager() {
  const options = {
    endpoint: process.env.ARM_ENDPOINT,
    credentials: { scopes: ["https://management.azure.com/.default"] },
    retryOptions: { maxRetries: 0 },
  };
  return new ContainerRegistryManagementClient(credential(), process.env.SUBSCRIPTION_ID, options);
}

async function names(list) {
  const found = [];
  for await (const one of list) found.push(one.name);
  return found;
}

/** Status and code of the answer. */
async function refusal(promise) {
  try {
    await promise;
    return "done";
  } catch (error) {
    if (!error.statusCode) throw error;
    return `${error.statusCode} ${error.code}`;
  }
}

async function journey(group, location) {
  const acr = manager();
  const seen = {};
  const name = `${group}first`;
  const free = await acr.registries.checkNameAvailability({ name, type });
  const made = await acr.registries.create(group, name, { location, sku: { name: "Premium" } });
  const taken = await acr.registries.checkNameAvailability({ name, type });
  seen.name = [free.nameAvailable, taken.nameAvailable, taken.reason];
  seen.registry = [made.name, made.sku.tier, made.provisioningState, made.networkRuleSet.defaultAction, made.creationDate instanceof Date];

  const update = (change) => acr.registries.update(group, name, change);
  const ipRules = [{ action: "Allow", iPAddressOrRange: "203.0.113.0/24" }];
  const closed = await update({ networkRuleSet: { defaultAction: "Deny", ipRules }, networkRuleBypassOptions: "None" });
  seen.closed = [closed.networkRuleSet.defaultAction, closed.networkRuleSet.ipRules, closed.networkRuleBypassOptions];
  const wrong = [{ action: "Allow", iPAddressOrRange: "not an address" }];
  seen["wrong rule"] = await refusal(update({ networkRuleSet: { defaultAction: "Deny", ipRules: wrong } }));
  const got = await acr.registries.get(group, name);
  seen["still there"] = got.networkRuleSet.ipRules;

  const actions = ["repositories/app/content/read"];
  const map = await acr.scopeMaps.create(group, name, "readers", { actions });
  const token = await acr.tokens.create(group, name, "reader", { scopeMapId: map.id, status: "enabled" });
  const made1 = await acr.registries.generateCredentials(group, name, { tokenId: token.id, name: "password1" });
  seen.credentials = [made1.username, made1.passwords.map((one) => [one.name, one.value.length > 30])];
  const off = await acr.tokens.update(group, name, "reader", { status: "disabled" });
  seen.token = [off.status, off.scopeMapId === map.id];
  seen.maps = (await names(acr.scopeMaps.list(group, name))).filter((one) => !one.startsWith("_"));
  await acr.tokens.delete(group, name, "reader");
  await acr.scopeMaps.delete(group, name, "readers");
  seen.tokens = await names(acr.tokens.list(group, name));

  seen["no admin user"] = await refusal(acr.registries.listCredentials(group, name));
  await update({ adminUserEnabled: true });
  const before = await acr.registries.listCredentials(group, name);
  const after = await acr.registries.regenerateCredential(group, name, { name: "password" });
  const same = before.passwords.map((one, index) => one.value === after.passwords[index].value);
  seen["admin user"] = [before.username, same];

  const links = acr.registries.listPrivateLinkResources(group, name);
  seen.links = await names(links);
  const usages = await acr.registries.listUsages(group, name);
  seen.usages = usages.value.filter((one) => ["Size", "IPRules"].includes(one.name));
  const hook = { location, serviceUri: "https://hooks.test/", actions: ["push"] };
  seen.webhook = (await acr.webhooks.create(group, name, "mywebhook", hook)).actions;

  for (const index of [0, 1]) await acr.registries.create(group, `${group}${index}other`, { location, sku: { name: "Basic" } });
  seen.registries = (await names(acr.registries.listByResourceGroup(group))).sort();
  const poller = acr.registries.delete(group, name);
  await poller.pollUntilDone();
  seen.deleted = [poller.operationState.status, await refusal(acr.registries.get(group, name))];
  seen.left = (await names(acr.registries.listByResourceGroup(group))).sort();
  return seen;
}

const [verb, ...rest] = process.argv.slice(2);
const verbs = { journey, registries: () => names(manager().registries.list()) };
try {
  console.log(JSON.stringify(await verbs[verb](...rest), null, 1));
} catch (error) {
  console.error(`${error.name}: ${error.message}`);
  process.exitCode = 1;
}
