/// A mistake that somebody could make in the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The bypass holds although there are virtual network rules.
    BypassIgnoresSubnetRules,
    /// The bypass holds although `networkRuleBypassOptions` is `None`.
    BypassIgnoresOptions,
    /// A task may bypass with a user-assigned identity.
    TasksTakeUserIdentity,
    /// An unset tasks policy is read as `true` in the current phase.
    UnsetPolicyIsYes,
    /// An unset tasks policy is read as `false` in the grace period.
    UnsetPolicyIsNoInGrace,
    /// The grace period begins a day late.
    GraceBeginsLate,
    /// The grace period ends a day late.
    GraceEndsLate,
    /// Any principal may use the trust of a workload.
    BypassForAnyPrincipal,
    /// Quick runs bypass as tasks do.
    QuickRunsBypass,
    /// A trusted workload passes by a private endpoint that is not approved.
    BypassByUnapprovedEndpoint,
    /// IP rules hold although public access is disabled.
    IpRulesSurviveDisabling,
    /// `defaultAction` `Allow` holds although public access is disabled.
    DefaultAllowSurvivesDisabling,
    /// IP rules match the private address of a subnet.
    IpRulesMatchSubnets,
    /// A pending private endpoint connection is enough.
    PendingEndpointIsEnough,
    /// A token that is bound to a workload works anywhere.
    BindingIgnored,
    /// App Service is trusted.
    AppServiceTrusted,
    /// IP rules match one bit less.
    PrefixOneShort,
    /// IP rules match one bit more.
    PrefixOneLong,
    /// Only the first IP rule counts.
    OnlyFirstIpRule,
    /// A scope is matched inside of a segment.
    ScopePrefixInsideSegment,
    /// Scopes compare with case.
    ScopeCaseCounts,
    /// Roles of groups do not count.
    GroupsIgnored,
    /// Conditions do not count.
    ConditionIgnored,
    /// A condition without an answer holds.
    ConditionFaultHolds,
    /// `AND` in conditions is read as `OR`.
    AndIsOr,
    /// `StringStartsWith` compares whole texts.
    StartsWithIsEquals,
    /// `notActions` do not subtract.
    NotActionsIgnored,
    /// Repository roles are honoured in the legacy mode.
    DataActionsInLegacyMode,
    /// Registry roles are honoured in the ABAC mode.
    ActionsInAbacMode,
    /// Pushing needs no `pull`.
    PushNeedsNoPull,
    /// A token's claim does not limit.
    ClaimIgnored,
    /// A token's claim is enough.
    ClaimIsEnough,
    /// A scope map's `a/*` covers `a` itself.
    WildcardCoversPrefix,
    /// A scope map's `a/*` covers `ab/c`.
    WildcardInsideSegment,
    /// A disabled repository-scoped token works.
    DisabledTokenWorks,
    /// Anonymous pull lists the catalog.
    AnonymousListsCatalog,
    /// The trust of a workload stands in for a role.
    BypassGrantsRights,
    /// Credentials are checked before the network.
    AuthenticationBeforeNetwork,
    /// A locked tag may be removed.
    TagLockLetsRemove,
    /// A repository's `deleteEnabled` keeps its images.
    RepositoryDeleteLockKeepsImages,
    /// Whoever looks after the quarantine pulls by tag.
    QuarantineReaderPullsByTag,
    /// Deny assignments do not count.
    DenyIgnored,
    /// A deny assignment reaches below its scope although it should not.
    DenyReachesBelow,
}

impl Mutation {
    /// Every one.
    pub const ALL: [Self; 43] = [
        Self::BypassIgnoresSubnetRules,
        Self::BypassIgnoresOptions,
        Self::TasksTakeUserIdentity,
        Self::UnsetPolicyIsYes,
        Self::UnsetPolicyIsNoInGrace,
        Self::GraceBeginsLate,
        Self::GraceEndsLate,
        Self::BypassForAnyPrincipal,
        Self::QuickRunsBypass,
        Self::BypassByUnapprovedEndpoint,
        Self::IpRulesSurviveDisabling,
        Self::DefaultAllowSurvivesDisabling,
        Self::IpRulesMatchSubnets,
        Self::PendingEndpointIsEnough,
        Self::BindingIgnored,
        Self::AppServiceTrusted,
        Self::PrefixOneShort,
        Self::PrefixOneLong,
        Self::OnlyFirstIpRule,
        Self::ScopePrefixInsideSegment,
        Self::ScopeCaseCounts,
        Self::GroupsIgnored,
        Self::ConditionIgnored,
        Self::ConditionFaultHolds,
        Self::AndIsOr,
        Self::StartsWithIsEquals,
        Self::NotActionsIgnored,
        Self::DataActionsInLegacyMode,
        Self::ActionsInAbacMode,
        Self::PushNeedsNoPull,
        Self::ClaimIgnored,
        Self::ClaimIsEnough,
        Self::WildcardCoversPrefix,
        Self::WildcardInsideSegment,
        Self::DisabledTokenWorks,
        Self::AnonymousListsCatalog,
        Self::BypassGrantsRights,
        Self::AuthenticationBeforeNetwork,
        Self::TagLockLetsRemove,
        Self::RepositoryDeleteLockKeepsImages,
        Self::QuarantineReaderPullsByTag,
        Self::DenyIgnored,
        Self::DenyReachesBelow,
    ];
}
