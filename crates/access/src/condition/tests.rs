use super::*;

const READ: &str = "Microsoft.ContainerRegistry/registries/repositories/content/read";
const WRITE: &str = "Microsoft.ContainerRegistry/registries/repositories/content/write";
const NAME: &str = "@Request[Microsoft.ContainerRegistry/registries/repositories:name]";

/// A condition as `az role assignment list` shows it: reader of one repository.
const READER: &str = "( (  !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/content/read'})  AND  \
    !(ActionMatches{'Microsoft.ContainerRegistry/registries/repositories/metadata/read'}) ) OR  (  \
    @Request[Microsoft.ContainerRegistry/registries/repositories:name] StringEqualsIgnoreCase 'hello-world' ))";

/// The outcome for a pull from `team/app`: `true`, `false`, or the start of the fault's or error's text.
#[track_caller]
fn check(text: &str, expected: &str) {
    let text = text.replace("@Name", NAME);
    let outcome = match text.parse::<Condition>() {
        Err(error) => error.to_string(),
        Ok(condition) => {
            assert_eq!(condition.to_string(), text);
            let request = ConditionRequest { action: READ, repository: Some("team/app") };
            condition.evaluate(&request).map_or_else(|fault| fault.to_string(), |holds| holds.to_string())
        }
    };
    assert_eq!(outcome, expected, "{text}");
}

#[track_caller]
fn check_request(condition: &str, action: &str, repository: Option<&str>, expected: Option<bool>) {
    let condition: Condition = condition.parse().unwrap();
    let outcome = condition.evaluate(&ConditionRequest { action, repository }).ok();
    assert_eq!(outcome, expected, "{action} on {repository:?}");
}

#[test]
fn as_az_writes_them() {
    check_request(READER, READ, Some("hello-world"), Some(true));
    check_request(READER, READ, Some("Hello-World"), Some(true));
    check_request(READER, READ, Some("hello-world2"), Some(false));
    check_request(READER, READ, Some("other"), Some(false));
    check_request(READER, READ, None, None);
    check_request(READER, WRITE, Some("other"), Some(true));
    check_request(READER, "Microsoft.ContainerRegistry/registries/catalog/read", None, Some(true));
    let delegation = "((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'})) OR (@Request[Microsoft.Authorization/\
        roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {5e467623-bb1f-42f4-a55d-6e525e11384b, \
        a795c7a0-d4a2-40c1-ae25-d81f01202912})) AND ((!(ActionMatches{'Microsoft.Authorization/roleAssignments/delete'})) \
        OR (@Resource[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals \
        {5e467623-bb1f-42f4-a55d-6e525e11384b}))";
    check_request(delegation, "Microsoft.Authorization/roleAssignments/read", None, Some(true));
    check_request(delegation, "Microsoft.Authorization/roleAssignments/write", None, None);
}

#[test]
fn boolean_grammar() {
    const T: &str = "ActionMatches{'*/read'}";
    const F: &str = "ActionMatches{'*/write'}";
    for (text, expected) in [
        (T.into(), "true"),
        (format!("!{T}"), "false"),
        (format!("NOT {T}"), "false"),
        (format!("not({F})"), "true"),
        (format!("!!{T}"), "true"),
        (format!("{T} AND {F}"), "false"),
        (format!("{T}&&{T}&&{T}"), "true"),
        (format!("{F} or {F} Or {T}"), "true"),
        (format!("{F}||{F}"), "false"),
        (format!("({T} AND {F}) OR {T}"), "true"),
        (format!("{T} AND ({F} OR {T})"), "true"),
        (format!("\n\t{T}\r\n and {T} "), "true"),
        ("actionmatches { 'microsoft.containerregistry/*' }".into(), "true"),
    ] {
        check(&text, expected);
    }
}

#[test]
fn comparisons() {
    for (text, expected) in [
        ("@Name StringEquals 'team/app'", "true"),
        ("@Name StringEquals 'Team/App'", "false"),
        ("@Name stringequalsignorecase 'Team/App'", "true"),
        ("@Name StringNotEquals 'team/app'", "false"),
        ("@Name StringNotEqualsIgnoreCase 'TEAM'", "true"),
        ("@Name StringStartsWith 'team/'", "true"),
        ("@Name StringStartsWith 'Team/'", "false"),
        ("@Name StringStartsWithIgnoreCase 'TEAM/'", "true"),
        ("@Name StringStartsWithIgnoreCase 'team/app/'", "false"),
        ("@Name StringNotStartsWith 'x'", "true"),
        ("@Name StringNotStartsWithIgnoreCase 'TEAM'", "false"),
        ("@Name StringLike 'team/*'", "true"),
        ("@Name StringLike 'Team/*'", "false"),
        ("@Name StringLikeIgnoreCase 'TEAM/?PP'", "true"),
        ("@Name StringNotLike '*x*'", "true"),
        ("@Name StringNotLikeIgnoreCase 'T*P'", "false"),
        ("@Name StringEquals ''", "false"),
        ("@Name StringStartsWith ''", "true"),
        ("@request[microsoft.containerregistry/registries/Repositories:NAME] StringEquals 'team/app'", "true"),
        ("'team/app' StringEquals @Name", "true"),
        ("@Name StringEquals @Name", "true"),
        (r"'it\'s' StringEquals 'it\'s'", "true"),
        (r"'a\\' StringEquals 'a\\'", "true"),
        ("2 NumericLessThan 10", "true"),
        ("'2' NumericGreaterThan 10", "false"),
        ("2 NumericLessThanEquals 2", "true"),
        ("-1 NumericGreaterThanEquals 2", "false"),
        ("2 NumericNotEquals 2", "false"),
        ("true BoolEquals TRUE", "true"),
        ("true BoolNotEquals 'false'", "true"),
        ("'2026-01-01T00:00:00Z' DateTimeLessThan '2026-01-01T00:00:00.5Z'", "true"),
        ("2026-01-01T00:00:00Z DateTimeEquals '2026-01-01T01:00:00+01:00'", "true"),
        ("5E467623-bb1f-42f4-a55d-6e525e11384b GuidEquals '5e467623-bb1f-42f4-a55d-6e525e11384b'", "true"),
        ("5e467623-bb1f-42f4-a55d-6e525e11384b GuidNotEquals 5e467623-bb1f-42f4-a55d-6e525e11384b", "false"),
    ] {
        check(text, expected);
    }
}

#[test]
fn sets() {
    for (text, expected) in [
        ("@Name ForAnyOfAnyValues:StringEquals {'a', 'team/app'}", "true"),
        ("@Name ForAnyOfAnyValues:StringEquals {'a'}", "false"),
        ("@Name ForAnyOfAllValues:StringNotEquals {'a','b'}", "true"),
        ("@Name foranyofallvalues:stringnotequalsignorecase {'a','TEAM/app'}", "false"),
        ("@Name ForAnyOfAnyValues:StringStartsWithIgnoreCase {'other/', 'Team/'}", "true"),
        ("@Name ForAnyOfAnyValues:StringLike {'x*', '*app'}", "true"),
        ("{'red', 'blue'} ForAnyOfAnyValues:StringEquals {'blue', 'green'}", "true"),
        ("{'red', 'blue'} ForAnyOfAnyValues:StringEquals {'orange', 'green'}", "false"),
        ("{'red', 'blue'} ForAllOfAnyValues:StringEquals {'orange', 'red', 'blue'}", "true"),
        ("{'red', 'blue'} ForAllOfAnyValues:StringEquals {'red', 'green'}", "false"),
        ("{10, 20} ForAnyOfAllValues:NumericLessThan {15, 18}", "true"),
        ("{10, 20} ForAllOfAllValues:NumericLessThan {5, 15, 18}", "false"),
        ("{10, 20} ForAllOfAllValues:NumericLessThan {25, 30}", "true"),
        ("{10, 20} ForAllOfAllValues:NumericLessThan {15, 25, 30}", "false"),
    ] {
        check(text, expected);
    }
}

#[test]
fn what_the_request_does_not_carry() {
    const ENVIRONMENT: &str = "the request has no attribute `@Environment[isPrivateLink]`";
    for (text, expected) in [
        ("Exists @Name", "true"),
        ("@Name Exists", "true"),
        ("NotExists @Name", "false"),
        ("NOT Exists @Environment[isPrivateLink]", ENVIRONMENT),
        ("Exists @Environment[isPrivateLink]", ENVIRONMENT),
        ("@Environment[isPrivateLink] NotExists", ENVIRONMENT),
        ("@Environment[isPrivateLink] BoolEquals true", ENVIRONMENT),
        ("!(@Environment[isPrivateLink] BoolEquals true)", ENVIRONMENT),
        ("@Environment[isPrivateLink] BoolEquals true AND ActionMatches{'*'}", ENVIRONMENT),
        ("@Environment[isPrivateLink] BoolEquals true AND ActionMatches{'x'}", "false"),
        ("ActionMatches{'x'} AND @Environment[isPrivateLink] BoolEquals true", "false"),
        ("@Environment[isPrivateLink] BoolEquals true OR ActionMatches{'*'}", "true"),
        ("@Environment[isPrivateLink] BoolEquals true OR ActionMatches{'x'}", ENVIRONMENT),
        (
            "@Resource[Microsoft.ContainerRegistry/registries/repositories:name] StringEquals 'team/app'",
            "the request has no attribute `@Resource[Microsoft.ContainerRegistry/registries/repositories:name]`",
        ),
        (
            "@Principal[Microsoft.Directory/CustomSecurityAttributes/Id:A_b] StringEquals @Name",
            "the request has no attribute `@Principal[Microsoft.Directory/CustomSecurityAttributes/Id:A_b]`",
        ),
        (
            "@Resource[Microsoft.Storage/blobs/tags:Project<$key_case_sensitive$>] StringEquals 'x'",
            "the request has no attribute `@Resource[Microsoft.Storage/blobs/tags:Project<$key_case_sensitive$>]`",
        ),
        ("SubOperationMatches{'Blob.List'}", "`SubOperationMatches` has no meaning for a registry"),
        ("!(ActionMatches{'x'} AND SubOperationMatches{'Blob.List'})", "true"),
        ("@Name NumericEquals 5", "an attribute's value is not of the kind that the operator compares"),
        (
            "@Name GuidNotEquals 5e467623-bb1f-42f4-a55d-6e525e11384b",
            "an attribute's value is not of the kind that the operator compares",
        ),
    ] {
        check(text, expected);
    }
}

#[test]
fn refusals_say_where_and_why() {
    const START: &str = "expected `(`, `!`, `ActionMatches`, an attribute or a value, found";
    for (text, position, problem) in [
        ("", 0, format!("{START} the end")),
        ("  ", 2, format!("{START} the end")),
        ("()", 1, format!("{START} `)`")),
        ("(ActionMatches{'a'}", 19, "expected `)`, `AND` or `OR`, found the end".into()),
        ("ActionMatches{'a'})", 18, "expected `AND`, `OR` or the end, found `)`".into()),
        (
            "ActionMatches{'a'} ActionMatches{'a'}",
            19,
            "expected `AND`, `OR` or the end, found `ActionMatches{'a'}`".into(),
        ),
        ("ActionMatches{'a'} AND", 22, format!("{START} the end")),
        ("ActionMatches('a')", 13, "expected `{`, found `('a')`".into()),
        ("ActionMatches{'a}", 14, ConditionProblem::Unclosed.to_string()),
        ("ActionMatches{'a\\'}", 14, ConditionProblem::Unclosed.to_string()),
        ("ActionMatches{'a','b'}", 17, "expected `}`, found `,'b'}`".into()),
        ("ActionMatches{'a'} AND ActionMatches{'b'} OR ActionMatches{'c'}", 42, ConditionProblem::Mixed.to_string()),
        ("@Request[a] Equals 'b'", 12, "`Equals` is not an operator".into()),
        ("@Request[a] ForSome:StringEquals {'b'}", 12, "`ForSome:StringEquals` is not an operator".into()),
        ("@Request[a] NumericNotLessThan 1", 12, "`NumericNotLessThan` is not an operator".into()),
        ("@Request[a]", 11, "expected an operator, found the end".into()),
        ("@Request[a] StringEquals", 24, "expected a value, found the end".into()),
        ("@Request[a] StringEquals b", 25, "the operator needs quoted text".into()),
        ("@Request[a] NumericEquals 'b'", 26, "the operator needs a whole number".into()),
        ("@Request[a] NumericEquals 1.5", 26, "the operator needs a whole number".into()),
        ("@Request[a] BoolEquals 1", 23, "the operator needs `true` or `false`".into()),
        ("@Request[a] GuidEquals 'b'", 23, "the operator needs a GUID".into()),
        ("@Request[a] DateTimeEquals '2026'", 27, "the operator needs a date and time as in RFC 3339".into()),
        ("@Request[a] StringLike @Request[b]", 12, "the operator needs a quoted pattern on its right".into()),
        ("@Request[a] StringEquals {'b'}", 12, ConditionProblem::SetWithoutQuantifier.to_string()),
        ("@Request[a] ForAnyOfAnyValues:StringEquals {}", 44, "expected a value, found `}`".into()),
        ("@Request[a] ForAnyOfAnyValues:StringEquals {'b',}", 48, "expected a value, found `}`".into()),
        ("@Request[a] ForAnyOfAnyValues:StringEquals {'b'", 47, "expected `,` or `}`, found the end".into()),
        ("@Wish[a] StringEquals 'b'", 1, ConditionProblem::UnknownSource("Wish".into()).to_string()),
        ("@Request StringEquals 'b'", 9, "expected `[`, found `StringEquals`".into()),
        ("@Request[] StringEquals 'b'", 9, "expected an attribute's name, found `]`".into()),
        ("@Request[a StringEquals 'b'", 24, "expected `]`, found `'b'`".into()),
        ("Exists 'a'", 7, "expected an attribute: `@Request[…]`, found `'a'`".into()),
        ("true", 4, "expected an operator, found the end".into()),
    ] {
        check(text, &format!("condition cannot be read at byte {position}: {problem}"));
    }
}

#[test]
fn limits_at_the_edge_and_one_past() {
    let nested = |depth: usize| format!("{}ActionMatches{{'*'}}{}", "(".repeat(depth), ")".repeat(depth));
    check(&nested(MAX_CONDITION_DEPTH), "true");
    check(&nested(MAX_CONDITION_DEPTH + 1), "condition cannot be read at byte 33: nested more than 32 levels deep");
    let negated = "!".repeat(MAX_CONDITION_BYTES - 18) + "ActionMatches{'*'}";
    check(&negated, "condition cannot be read at byte 33: nested more than 32 levels deep");

    let set = |count: usize| format!("1 ForAnyOfAnyValues:NumericEquals {{{}1}}", "2,".repeat(count - 1));
    check(&set(MAX_CONDITION_VALUES), "true");
    assert_eq!(
        set(MAX_CONDITION_VALUES + 1).parse::<Condition>().unwrap_err().problem,
        ConditionProblem::TooManyValues
    );

    let long = |bytes: usize| format!("{:bytes$}", "ActionMatches{'*'}");
    check(&long(MAX_CONDITION_BYTES), "true");
    check(&long(MAX_CONDITION_BYTES + 1), "condition cannot be read at byte 8192: longer than 8192 bytes");
}

/// No prefix of a condition, and no condition with a byte replaced, brings the parser to a panic.
#[test]
fn damaged_text_is_refused_or_read_but_never_panics() {
    for cut in 0..READER.len() {
        let (start, rest) = READER.split_at(cut);
        assert!(start.parse::<Condition>().is_err(), "{cut}");
        for replacement in ["'", "(", ")", "é", "\0", "\\", "}"] {
            let damaged = format!("{start}{replacement}{}", rest.split_at(1).1);
            if let Ok(condition) = damaged.parse::<Condition>() {
                let _ = condition.evaluate(&ConditionRequest { action: READ, repository: Some("a") });
            }
        }
    }
}
