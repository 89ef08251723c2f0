/// Why a document is not accepted: what the resource manager answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The kind, with its wire name and status.
    pub code: RefusalCode,
    /// What the caller reads.
    pub message: String,
    /// The property it is about: `properties.networkRuleSet.ipRules`.
    pub target: Option<String>,
}

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $wire:literal;)*) => {
        /// The kinds of [`Refusal`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RefusalCode { $($(#[$doc])* $name,)* }

        impl RefusalCode {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The wire name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $wire,)* }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }
        }
    };
}

refusal_codes! {
    /// The document is not of the expected shape.
    InvalidRequestContent = 400, "InvalidRequestContent";
    /// A value outside its range or set.
    InvalidParameter = 400, "InvalidParameter";
    /// Values that exclude each other.
    ValidationError = 400, "ValidationError";
    /// `location` is missing.
    LocationRequired = 400, "LocationRequired";
    /// The name breaks the rules of its type.
    InvalidResourceName = 400, "InvalidResourceName";
    /// The name holds a word that is not allowed.
    ReservedResourceName = 400, "ReservedResourceName";
    /// Only Premium may disable public access.
    DisablingPublicNetworkAccessNotSupported = 400, "DisablingPublicNetworkAccessNotSupported";
    /// A feature that the SKU does not have.
    FeatureNotSupportedForSku = 400, "FeatureNotSupportedForSku";
    /// More of something than the SKU allows.
    LimitExceeded = 400, "LimitExceeded";
    /// A property that is only settable at creation.
    PropertyChangeNotAllowed = 409, "PropertyChangeNotAllowed";
    /// A role assignment's principal is not known.
    PrincipalNotFound = 400, "PrincipalNotFound";
    /// A role assignment's principal is of another type than stated.
    UnmatchedPrincipalType = 400, "UnmatchedPrincipalType";
    /// A role assignment's condition does not parse.
    InvalidCondition = 400, "InvalidCondition";
    /// A role assignment's role is not known.
    RoleDefinitionDoesNotExist = 404, "RoleDefinitionDoesNotExist";
    /// The same principal has the same role at the same scope under another name.
    RoleAssignmentExists = 409, "RoleAssignmentExists";
    /// A role assignment cannot change what it is about.
    RoleAssignmentUpdateNotPermitted = 409, "RoleAssignmentUpdateNotPermitted";
    /// A name that built-in roles have.
    RoleDefinitionWithSameNameExists = 409, "RoleDefinitionWithSameNameExists";
    /// The registry's name is taken.
    AlreadyInUse = 409, "AlreadyInUse";
    /// Another one says the same already.
    AlreadyThere = 409, "Conflict";
    /// Something of the system's own that nobody may change.
    SystemDefined = 409, "Conflict";
}

impl Refusal {
    /// A refusal that is about no property in particular.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), target: None }
    }

    /// A refusal about a property.
    pub fn at(code: RefusalCode, target: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), target: Some(target.into()) }
    }
}
