use std::convert::Infallible;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

/// The digest of a letter, so that tables can be read.
fn digest(name: char) -> Digest {
    let mut bytes = [0; 32];
    bytes[0] = u8::try_from(u32::from(name)).unwrap();
    Digest::Sha256(bytes)
}

fn name(digest: Digest) -> char {
    char::from(digest.as_bytes()[0])
}

fn limits() -> Limits {
    Limits { before: at(NOW), keep: 0, include_locked: false }
}

/// `a:1,2 [b c] >d @500 !locked ?obscure`: digest, tags, what it lists, its subject, its time.
fn entry(text: &str) -> ManifestEntry {
    let mut words = text.split_whitespace().peekable();
    let (digest_name, tags) = {
        let first = words.next().unwrap();
        let (digest_name, tags) = first.split_once(':').unwrap_or((first, ""));
        (digest_name.chars().next().unwrap(), tags)
    };
    let mut made = ManifestEntry {
        digest: digest(digest_name),
        updated: at(100),
        is_locked: false,
        is_obscure: false,
        tags: tags.split(',').filter(|tag| !tag.is_empty()).map(|tag| tag.parse().unwrap()).collect(),
        children: Vec::new(),
        subject: None,
    };
    for word in words {
        let (kind, rest) = word.split_at(1);
        match kind {
            "[" => made.children = rest.trim_end_matches(']').chars().map(digest).collect(),
            ">" => made.subject = rest.chars().next().map(digest),
            "@" => made.updated = at(rest.parse().unwrap()),
            "!" => made.is_locked = true,
            "?" => made.is_obscure = true,
            _ => panic!("{word}"),
        }
    }
    made
}

fn steps(found: &[ManifestEntry], limits: &Limits) -> Vec<String> {
    let plan = Plan::new(found, limits);
    plan.steps().iter().map(|step| step.iter().map(|one| name(one.digest)).collect()).collect()
}

/// The manifests, and the steps in which some of them go.
#[track_caller]
fn check_with(limits: &Limits, found: &[&str], expected: &[&str]) {
    let entries: Vec<ManifestEntry> = found.iter().map(|text| entry(text)).collect();
    assert_eq!(steps(&entries, limits), expected, "{found:?}");
}

#[track_caller]
fn check(found: &[&str], expected: &[&str]) {
    check_with(&limits(), found, expected);
}

#[test]
fn what_has_no_tag_goes() {
    check(&[], &[]);
    check(&["a:1", "b", "c"], &["bc"]);
    check(&["a:1", "b @999", "c @1000", "d @2000"], &["b"]);
    check(&["a !locked", "b ?obscure", "c"], &["c"]);
    check_with(&Limits { include_locked: true, ..limits() }, &["a !locked", "b ?obscure", "c"], &["ac"]);
}

#[test]
fn what_an_index_that_stays_lists_stays() {
    check(&["i:1 [abc]", "a", "b", "c", "d"], &["d"]);
    check(&["i:1 [jc]", "j [ab]", "a", "b", "c", "d"], &["d"]);
    check(&["i !locked [a]", "a", "b"], &["b"]);
    check(&["i ?obscure [a]", "a", "b"], &["b"]);
    check(&["i @5000 [a]", "a", "b"], &["b"]);
    // Listed by one that goes and by one that stays.
    check(&["i [ab]", "j:1 [b]", "a", "b"], &["i", "a"]);
    check(&["i:1 [z]", "a"], &["a"]);
}

#[test]
fn whoever_lists_goes_first() {
    check(&["i [ab]", "a", "b"], &["i", "ab"]);
    check(&["i [jc]", "j [ab]", "a", "b", "c", "d"], &["di", "cj", "ab"]);
    check(&["i [a]", "j [i]", "k [ia]", "a"], &["jk", "i", "a"]);
    // An index of referrers goes before what those would go with.
    check(&["j [s]", "s >a", "a"], &["j", "a"]);
    // What no registry has.
    check(&["a [b]", "b [a]", "c [c]", "d", "e"], &["cde"]);
    // What one can have: of each, a referrer lists the other.
    check(&["a", "b", "s [b] >a", "t [a] >b", "c"], &["c"]);
}

#[test]
fn referrers_share_the_fate_of_their_subject() {
    check(&["a:1", "s >a", "t >s"], &[]);
    check(&["a", "s >a", "t >s"], &["a"]);
    // However new: it goes with what it says something of.
    check(&["a", "s >a @5000"], &["a"]);
    // The subject is not here: nobody knows when it comes.
    check(&["s >z", "t >s"], &[]);
    check(&["i:1 [ab]", "a", "b", "s >i", "t >a", "u >c", "c"], &["c"]);
    // A subject's referrers are deleted with it: one with a tag or a lock keeps it.
    check(&["a", "s:sig >a"], &[]);
    check(&["a", "s >a", "t:1 >s"], &[]);
    check(&["a", "s >a !locked"], &[]);
    check(&["a", "s >a ?obscure"], &[]);
    // And what it lists, and what that is said of.
    check(&["i [ab]", "a", "b", "s:1 >i"], &[]);
    check(&["a", "s [b] >a", "b"], &["a", "b"]);
    check(&["a:1", "s [b] >a", "b"], &[]);
    check(&["s [b] >z", "b"], &[]);
    check(&["a >b", "b >a"], &[]);
}

#[test]
fn the_newest_are_kept_with_all_that_they_list() {
    let keep = |keep| Limits { keep, ..limits() };
    let found = ["a @10", "b @20", "c @30", "d:1 @5"];
    check_with(&keep(1), &found, &["ab"]);
    check_with(&keep(2), &found, &["a"]);
    check_with(&keep(3), &found, &[]);
    check_with(&keep(9), &found, &[]);
    check_with(&keep(1), &["a @30", "b @30"], &["b"]);
    let indexes = ["i [ab] @10", "a @50", "b @51", "j [cd] @20", "c @5", "d @6"];
    check_with(&keep(0), &indexes, &["ij", "abcd"]);
    check_with(&keep(1), &indexes, &["i", "ab"]);
    check_with(&keep(2), &indexes, &[]);
}

#[test]
fn what_stays_after_all_keeps_what_it_needs() {
    let found = ["i [ja]", "j [b]", "a", "b", "c", "s >c"].map(entry);
    let plan = Plan::new(&found, &limits());
    let needed = |from: char| {
        let mut names: Vec<char> = plan.needed_by([digest(from)]).into_iter().map(name).collect();
        names.sort_unstable();
        names.into_iter().collect::<String>()
    };
    assert_eq!(needed('i'), "abij");
    assert_eq!(needed('j'), "bj");
    assert_eq!(needed('c'), "cs");
    assert_eq!(needed('a'), "a");
}

#[test]
fn tags_go_by_name_age_lock_and_count() {
    let tag = |name: &str, seconds: i64, is_locked: bool| TagEntry {
        name: name.parse().unwrap(),
        updated: at(seconds),
        is_locked,
    };
    let found = [
        tag("a1", 10, false),
        tag("a2", 30, false),
        tag("a3", 20, true),
        tag("a4", 1000, false),
        tag("b1", 5, false),
        tag("a0", 30, false),
    ];
    let check = |limits: &Limits, expected: &[&str]| {
        let chosen = tags(&found, limits, |tag| Ok::<_, Infallible>(tag.as_str().starts_with('a'))).unwrap();
        let names: Vec<&str> = chosen.iter().map(|tag| tag.name.as_str()).collect();
        assert_eq!(names, expected, "{limits:?}");
    };
    check(&limits(), &["a0", "a2", "a1"]);
    check(&Limits { keep: 1, ..limits() }, &["a2", "a1"]);
    check(&Limits { keep: 3, ..limits() }, &[]);
    check(&Limits { include_locked: true, ..limits() }, &["a0", "a2", "a3", "a1"]);
    check(&Limits { before: at(2000), ..limits() }, &["a4", "a0", "a2", "a1"]);
    check(&Limits { before: at(10), ..limits() }, &[]);
    assert_eq!(tags(&found, &limits(), |_| Err("too slow")), Err("too slow"));
}

// ---- Properties ------------------------------------------------------------------------------------------------------

/// A repository of up to so many manifests, in which whoever lists or refers was made after what it names, or names what is not there.
const MAX_MANIFESTS: usize = 12;

fn repository() -> impl Strategy<Value = Vec<ManifestEntry>> {
    let one = (
        proptest::bool::weighted(0.3),
        proptest::bool::weighted(0.1),
        proptest::bool::weighted(0.05),
        vec(0..MAX_MANIFESTS, 0..4),
        option::weighted(0.3, 0..MAX_MANIFESTS),
        0..1200_i64,
        proptest::bool::weighted(0.5),
    );
    vec(one, 0..MAX_MANIFESTS).prop_map(|made| {
        let letter = |at: usize| digest(char::from(b'a' + u8::try_from(at).unwrap()));
        made.into_iter()
            .enumerate()
            .map(|(number, (tagged, is_locked, is_obscure, children, subject, seconds, lists))| ManifestEntry {
                digest: letter(number),
                updated: at(seconds),
                is_locked,
                is_obscure,
                tags: tagged.then(|| "1".parse().unwrap()).into_iter().collect(),
                children: children.into_iter().filter(|child| lists && *child < number).map(letter).collect(),
                subject: subject.filter(|subject| *subject != number && *subject < number + 2).map(letter),
            })
            .collect()
    })
}

fn any_limits() -> impl Strategy<Value = Limits> {
    (0..4_usize, any::<bool>()).prop_map(|(keep, include_locked)| Limits { before: at(NOW), keep, include_locked })
}

/// What a registry does: the manifest, whatever refers to it, whatever refers to that.
fn delete(left: &mut Vec<ManifestEntry>, gone: Digest) {
    let mut open = vec![gone];
    while let Some(next) = open.pop() {
        open.extend(left.iter().filter(|one| one.subject == Some(next)).map(|one| one.digest));
        left.retain(|one| one.digest != next);
    }
}

/// All that a pull of these needs and what is said of it, as far as it is there.
fn whole(found: &[ManifestEntry], roots: &[Digest]) -> HashSet<Digest> {
    let mut seen = HashSet::new();
    let mut open = roots.to_vec();
    while let Some(next) = open.pop() {
        if let Some(entry) = found.iter().find(|one| one.digest == next)
            && seen.insert(next)
        {
            open.extend(&entry.children);
            open.extend(found.iter().filter(|one| one.subject == Some(next)).map(|one| one.digest));
        }
    }
    seen
}

proptest! {
    /// After every single deletion: what has a tag, or a lock, or cannot be judged, is there with all that it lists and all that is said
    /// of it.
    #[test]
    fn nothing_that_stays_loses_a_part(found in repository(), limits in any_limits()) {
        let stay: Vec<Digest> = found
            .iter()
            .filter(|one| one.is_obscure || !one.tags.is_empty() || (one.is_locked && !limits.include_locked))
            .map(|one| one.digest)
            .collect();
        let needed = whole(&found, &stay);
        let mut left = found.clone();
        let plan = Plan::new(&found, &limits);
        for entry in plan.steps().iter().flatten() {
            prop_assert!(left.iter().any(|one| one.digest == entry.digest), "it went with something else before its turn");
            delete(&mut left, entry.digest);
            let there: HashSet<Digest> = left.iter().map(|one| one.digest).collect();
            prop_assert!(needed.is_subset(&there), "{:?} is missing", needed.difference(&there).collect::<Vec<_>>());
            // Nor is there an index without what it lists, other than before.
            for one in &left {
                for child in &one.children {
                    prop_assert!(there.contains(child) || !found.iter().any(|one| one.digest == *child), "{one:?} lacks {child:?}");
                }
            }
        }
    }

    /// What goes has no tag, is old, refers to nothing and has no lock that counts.
    #[test]
    fn only_what_may_go_goes(found in repository(), limits in any_limits()) {
        let plan = Plan::new(&found, &limits);
        for entry in plan.steps().iter().flatten() {
            prop_assert!(entry.tags.is_empty() && entry.subject.is_none() && !entry.is_obscure);
            prop_assert!(entry.updated < limits.before && (limits.include_locked || !entry.is_locked));
        }
    }

    /// A second run finds nothing to do.
    #[test]
    fn a_second_run_changes_nothing(found in repository(), limits in any_limits()) {
        let mut left = found.clone();
        for entry in Plan::new(&found, &limits).steps().iter().flatten() {
            delete(&mut left, entry.digest);
        }
        prop_assert_eq!(steps(&left, &limits), Vec::<String>::new());
    }

    /// A tag more, a lock more, or more to be kept never lets anything else go.
    #[test]
    fn more_reasons_to_stay_let_nothing_go(found in repository(), limits in any_limits(), at in 0..MAX_MANIFESTS, lock in any::<bool>()) {
        let limits = Limits { keep: 0, ..limits };
        let goes = |found: &[ManifestEntry], limits: &Limits| -> HashSet<char> { steps(found, limits).concat().chars().collect() };
        let before = goes(&found, &limits);
        let mut more = found.clone();
        if let Some(entry) = more.get_mut(at) {
            if lock { entry.is_locked = true; } else { entry.tags.insert("2".parse().unwrap()); }
        }
        let with_more = goes(&more, &limits);
        prop_assert!(with_more.is_subset(&before));
        let with_keep = goes(&found, &Limits { keep: 2, ..limits });
        prop_assert!(with_keep.is_subset(&before));
    }
}
