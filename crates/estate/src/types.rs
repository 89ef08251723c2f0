//! Names of the resource types that Postern reads.

/// A subscription.
pub const SUBSCRIPTIONS: &str = "Microsoft.Resources/subscriptions";
/// A resource group.
pub const RESOURCE_GROUPS: &str = "Microsoft.Resources/resourceGroups";
/// A registry.
pub const REGISTRIES: &str = "Microsoft.ContainerRegistry/registries";
/// A private endpoint's connection to a registry.
pub const PRIVATE_ENDPOINT_CONNECTIONS: &str = "Microsoft.ContainerRegistry/registries/privateEndpointConnections";
/// A registry's scope map.
pub const SCOPE_MAPS: &str = "Microsoft.ContainerRegistry/registries/scopeMaps";
/// A registry's repository-scoped token.
pub const TOKENS: &str = "Microsoft.ContainerRegistry/registries/tokens";
/// A role assignment.
pub const ROLE_ASSIGNMENTS: &str = "Microsoft.Authorization/roleAssignments";
/// A role definition.
pub const ROLE_DEFINITIONS: &str = "Microsoft.Authorization/roleDefinitions";
/// A deny assignment.
pub const DENY_ASSIGNMENTS: &str = "Microsoft.Authorization/denyAssignments";
/// A user-assigned managed identity.
pub const USER_ASSIGNED_IDENTITIES: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
/// Whose outside tokens are worth a token of the user-assigned managed identity.
pub const IDENTITY_FEDERATED_CREDENTIALS: &str =
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";
/// Whose outside tokens are worth a token of the application's service principal.
pub const APPLICATION_FEDERATED_CREDENTIALS: &str = "Microsoft.Graph/applications/federatedIdentityCredentials";
/// A private endpoint.
pub const PRIVATE_ENDPOINTS: &str = "Microsoft.Network/privateEndpoints";
/// A virtual network.
pub const VIRTUAL_NETWORKS: &str = "Microsoft.Network/virtualNetworks";
/// A part of a virtual network.
pub const SUBNETS: &str = "Microsoft.Network/virtualNetworks/subnets";
/// Rules for the traffic of a subnet.
pub const NETWORK_SECURITY_GROUPS: &str = "Microsoft.Network/networkSecurityGroups";
/// Where a subnet's traffic goes.
pub const ROUTE_TABLES: &str = "Microsoft.Network/routeTables";
/// A registry's webhook.
pub const WEBHOOKS: &str = "Microsoft.ContainerRegistry/registries/webhooks";
/// A plan of the security centre.
pub const PRICINGS: &str = "Microsoft.Security/pricings";
/// A service principal in the directory.
pub const SERVICE_PRINCIPALS: &str = "Microsoft.Graph/servicePrincipals";
/// An application registration in the directory.
pub const APPLICATIONS: &str = "Microsoft.Graph/applications";
/// A group in the directory.
pub const GROUPS: &str = "Microsoft.Graph/groups";
/// A person in the directory.
pub const USERS: &str = "Microsoft.Graph/users";
