use super::*;

const TIMEOUT: u64 = 60;

#[track_caller]
fn check(filters: &[&str], repository: &str, tag: &str, expected: bool) {
    let filters = Filters::parse(filters.iter().copied(), TIMEOUT).unwrap_or_else(|error| panic!("{error}"));
    let matches = filters.matches(&repository.parse().unwrap(), &tag.parse().unwrap());
    assert_eq!(matches, Ok(expected), "{filters:?} of {repository}:{tag}");
}

#[test]
fn the_repository_is_matched_as_a_whole_and_the_tag_anywhere() {
    check(&["hello-world:.*"], "hello-world", "1", true);
    check(&["hello-world:.*"], "hello-world-2", "1", false);
    check(&["hello-world:.*"], "my/hello-world", "1", false);
    check(&[".*:.*"], "my/hello-world", "1", true);
    check(&["hello:^hello.*"], "hello", "hello-1", true);
    check(&["hello:^hello.*"], "hello", "a-hello-1", false);
    check(&["hello:\\w*test\\w*"], "hello", "a_test_b", true);
    check(&["hello:test"], "hello", "a-test-b", true);
    check(&["my/.*:1"], "my/app", "v1", true);
    check(&["app|web:.*"], "web", "1", true);
    // The tool that people know takes this for `^app` or `web$`.
    check(&["app|web:.*"], "app-of-somebody-else", "1", false);
}

#[test]
fn filters_add_up() {
    let filters = ["app:^dev-", "app:^pr-", "web:.*"];
    check(&filters, "app", "dev-1", true);
    check(&filters, "app", "pr-1", true);
    check(&filters, "app", "1", false);
    check(&filters, "web", "1", true);
    // A flag holds for its own filter.
    check(&["app:(?i)DEV", "app:PR"], "app", "pr", false);
}

#[test]
fn lookarounds_groups_and_classes() {
    check(&["app:^(?!latest$).*"], "app", "latest", false);
    check(&["app:^(?!latest$).*"], "app", "latest-1", true);
    check(&["app:(?<!-rc)$"], "app", "1-rc", false);
    check(&["app:^(?:dev|pr)-"], "app", "pr-7", true);
    check(&["(?:app|web):^v"], "web", "v1", true);
    check(&["(?i:APP):(?i:V)1"], "app", "v1", true);
    check(&["app:^[[:alpha:]]+$"], "app", "abc", true);
    check(&["app:^[[:alpha:]]+$"], "app", "abc1", false);
    check(&["app:^[^[:digit:]]+$"], "app", "abc", true);
    check(&["app:^(a|b)\\1$"], "app", "aa", true);
    check(&["app:^(a|b)\\1$"], "app", "ab", false);
    check(&["app:^[a-z._-]+$"], "app", "a-b", true);
}

#[test]
fn what_is_no_filter_says_so() {
    let refused = |text: &str| match Filters::parse([text], TIMEOUT) {
        Ok(filters) => panic!("{text}: {filters:?}"),
        Err(error) => error,
    };
    for text in ["hello", "a:b:c", "", "app:v1:v2", "(?:a)"] {
        assert_eq!(refused(text), FilterError::NotTwo(text.into()));
    }
    assert_eq!(refused(":.*"), FilterError::NoRepository(":.*".into()));
    assert_eq!(refused("app:"), FilterError::NoTag("app:".into()));
    for text in ["app:(", "app:[", "app:*", ")(:x", "app:(?<n", "(:a"] {
        assert!(matches!(refused(text), FilterError::BadExpression { .. } | FilterError::NotTwo(_)), "{text}");
    }
    assert_eq!(refused(&format!("app:{}", "a".repeat(MAX_FILTER_BYTES))), FilterError::TooLarge);
    let many = vec!["a:b"; MAX_FILTERS + 1];
    assert_eq!(Filters::parse(many, TIMEOUT).map(|_| ()), Err(FilterError::TooLarge));
}

#[test]
fn what_engines_read_differently_is_refused() {
    for text in ["app:[a-z-[aeiou]]", "app:[a-z&&[^q]]", "app:[a&&b]", "app:[a--b]", "app:[a~~b]", "[a[b]]:x"] {
        let outcome = Filters::parse([text], TIMEOUT).map(|_| ());
        assert!(matches!(outcome, Err(FilterError::Ambiguous { .. })), "{text}: {outcome:?}");
    }
    for text in ["app:[\\[a]", "app:[]a]", "app:[^]a]", "app:a&&b", "app:a--b", "app:\\[a"] {
        assert!(Filters::parse([text], TIMEOUT).is_ok(), "{text}");
    }
}

#[test]
fn backtracking_has_an_end() {
    let filters = Filters::parse(["app:^(a|aa|aaa)+(?=b)$"], 1).unwrap();
    let outcome = filters.matches(&"app".parse().unwrap(), &"a".repeat(100).parse().unwrap());
    assert!(matches!(outcome, Err(FilterError::TooSlow { .. })), "{outcome:?}");
    // Without lookarounds and back references there is no backtracking.
    let filters = Filters::parse(["app:^(a|aa|aaa)+b$"], 1).unwrap();
    assert_eq!(filters.matches(&"app".parse().unwrap(), &"a".repeat(100).parse().unwrap()), Ok(false));
}
