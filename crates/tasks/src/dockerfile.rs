//! Which images a Dockerfile builds upon: they are fetched before, as whoever builds may, and are what a base image trigger waits for.
//!
//! Source: Docker, "Dockerfile reference": FROM, ARG, COPY, RUN (read 2026-11).

use std::collections::{BTreeMap, HashMap};

/// Longest Dockerfile that is looked at.
pub const MAX_DOCKERFILE_BYTES: usize = 1 << 20;
/// Most stages.
const MAX_STAGES: usize = 1000;
/// Longest name after its variables were filled in.
const MAX_NAME_BYTES: usize = 4096;
/// The stage that begins with nothing.
const SCRATCH: &str = "scratch";

/// An image that a build needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// As the Dockerfile names it.
    pub image: String,
    /// Whether what is built is made on it, and not only with it.
    pub is_runtime: bool,
}

/// Why a Dockerfile is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerfileError {
    /// Too long.
    #[error("the Dockerfile is larger than {} KiB", MAX_DOCKERFILE_BYTES >> 10)]
    TooLarge,
    /// It has too many stages.
    #[error("the Dockerfile has more than {MAX_STAGES} stages")]
    TooManyStages,
    /// Nothing to begin with.
    #[error("the Dockerfile has no FROM")]
    NoStage,
    /// `FROM` names nothing.
    #[error("line {line}: FROM names no image")]
    NoImage {
        /// The line, from 1.
        line: usize,
    },
    /// A variable makes a name too long.
    #[error("line {line}: the image's name is too long")]
    TooLong {
        /// The line, from 1.
        line: usize,
    },
    /// There is no such stage.
    #[error("the Dockerfile has no stage `{0}`")]
    NoSuchStage(String),
}

/// One stage.
struct Stage {
    name: Option<String>,
    from: String,
    /// Images and stages that files are taken from.
    uses: Vec<String>,
}

/// The images that building up to `target` (none: the last stage) needs, each once, in the order they are met. `arguments` are those of
/// the build.
pub fn bases(
    text: &str,
    arguments: &BTreeMap<String, String>,
    target: Option<&str>,
) -> Result<Vec<Base>, DockerfileError> {
    let stages = stages(text, arguments)?;
    let last = match target {
        None => stages.len().checked_sub(1).ok_or(DockerfileError::NoStage)?,
        Some(target) => find(&stages, target, stages.len()).ok_or_else(|| {
            DockerfileError::NoSuchStage(target.chars().filter(|c| !c.is_control()).take(100).collect())
        })?,
    };
    // Which stages are needed, and which of them are below the last one.
    let mut needed = vec![false; stages.len()];
    let mut below = vec![false; stages.len()];
    let mark = |marks: &mut Vec<bool>, at: usize| marks.get_mut(at).map(|mark| *mark = true);
    mark(&mut needed, last);
    mark(&mut below, last);
    for at in (0..=last).rev() {
        let Some(stage) = stages.get(at).filter(|_| needed.get(at) == Some(&true)) else { continue };
        for name in stage.uses.iter().chain([&stage.from]) {
            if let Some(other) = find(&stages, name, at) {
                mark(&mut needed, other);
                if *name == stage.from && below.get(at) == Some(&true) {
                    mark(&mut below, other);
                }
            }
        }
    }
    let mut found: Vec<Base> = Vec::new();
    let mut add = |image: &str, is_runtime: bool| {
        if image.eq_ignore_ascii_case(SCRATCH) {
            return;
        }
        match found.iter_mut().find(|base| base.image == image) {
            Some(base) => base.is_runtime |= is_runtime,
            None => found.push(Base { image: image.to_owned(), is_runtime }),
        }
    };
    for (at, stage) in stages.iter().enumerate().filter(|(at, _)| needed.get(*at) == Some(&true)) {
        if find(&stages, &stage.from, at).is_none() {
            add(&stage.from, below.get(at) == Some(&true));
        }
        for used in &stage.uses {
            if find(&stages, used, at).is_none() {
                add(used, false);
            }
        }
    }
    Ok(found)
}

/// Whether a step mounts something, also one that images made from this one carry out.
pub fn has_mounts(text: &str) -> bool {
    instructions(text).iter().any(|(_, instruction)| {
        let mut words = instruction.split_whitespace().skip_while(|word| word.eq_ignore_ascii_case("ONBUILD"));
        words.next().is_some_and(|keyword| keyword.eq_ignore_ascii_case("RUN"))
            && words.take_while(|word| word.starts_with("--")).any(|flag| flag.starts_with("--mount"))
    })
}

/// The stage before `end` with this name or number.
fn find(stages: &[Stage], name: &str, end: usize) -> Option<usize> {
    let named = |stage: &Stage| stage.name.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(name));
    let before = stages.get(..end)?;
    before.iter().rposition(named).or_else(|| name.parse::<usize>().ok().filter(|number| *number < end))
}

fn stages(text: &str, arguments: &BTreeMap<String, String>) -> Result<Vec<Stage>, DockerfileError> {
    if text.len() > MAX_DOCKERFILE_BYTES {
        return Err(DockerfileError::TooLarge);
    }
    let mut stages: Vec<Stage> = Vec::new();
    // Those before the first FROM alone count in FROM.
    let mut globals: HashMap<String, String> = HashMap::new();
    for (line, instruction) in instructions(text) {
        let mut words = instruction.split_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        let filled = |text: &str| fill(text, &globals).ok_or(DockerfileError::TooLong { line });
        match keyword.as_str() {
            "ARG" if stages.is_empty() => {
                for word in words {
                    let (name, preset) = word.split_once('=').unwrap_or((word, ""));
                    let value = match arguments.get(name) {
                        Some(value) => value.clone(),
                        None => fill(unquoted(preset), &globals).ok_or(DockerfileError::TooLong { line })?,
                    };
                    globals.insert(name.to_owned(), value);
                }
            }
            "FROM" => {
                if stages.len() >= MAX_STAGES {
                    return Err(DockerfileError::TooManyStages);
                }
                let mut words = words.filter(|word| !word.starts_with("--"));
                let from = filled(unquoted(words.next().unwrap_or_default()))?;
                if from.is_empty() {
                    return Err(DockerfileError::NoImage { line });
                }
                let name =
                    words.next().filter(|word| word.eq_ignore_ascii_case("AS")).and(words.next()).map(str::to_owned);
                stages.push(Stage { name, from, uses: Vec::new() });
            }
            "COPY" | "ADD" | "RUN" => {
                let Some(stage) = stages.last_mut() else { continue };
                for flag in words.take_while(|word| word.starts_with("--")) {
                    let from = flag.strip_prefix("--from=").or_else(|| {
                        let mount = flag.strip_prefix("--mount=")?;
                        mount.split(',').find_map(|part| part.strip_prefix("from="))
                    });
                    if let Some(from) = from {
                        stage.uses.push(fill(unquoted(from), &globals).ok_or(DockerfileError::TooLong { line })?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(stages)
}

/// The instructions with the lines that they begin at: without comments, with their continuations, without the content of here-documents.
fn instructions(text: &str) -> Vec<(usize, String)> {
    let escape = text
        .lines()
        .map_while(|line| line.trim().strip_prefix('#'))
        .find_map(|directive| {
            directive.trim().strip_prefix("escape").and_then(|rest| rest.trim_start().strip_prefix('='))
        })
        .and_then(|value| value.trim().chars().next())
        .unwrap_or('\\');
    let mut found = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, first)) = lines.next() {
        let mut instruction = String::new();
        let mut next = Some(first);
        while let Some(line) = next {
            let line = line.trim();
            next = None;
            if line.starts_with('#') || line.is_empty() {
                // Comments within an instruction are no part of it, and do not end it.
                if !instruction.is_empty() {
                    next = lines.next().map(|(_, line)| line);
                }
                continue;
            }
            match line.strip_suffix(escape) {
                Some(begun) => {
                    instruction.push_str(begun);
                    instruction.push(' ');
                    next = lines.next().map(|(_, line)| line);
                }
                None => instruction.push_str(line),
            }
        }
        for end in heredocs(&instruction) {
            for (_, line) in lines.by_ref() {
                if line.trim_start_matches('\t') == end {
                    break;
                }
            }
        }
        if !instruction.is_empty() {
            found.push((number, instruction));
        }
    }
    found
}

/// The words that end the here-documents of an instruction.
fn heredocs(instruction: &str) -> Vec<String> {
    let keyword = instruction.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if !matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
        return Vec::new();
    }
    let begins = instruction.split_whitespace().filter_map(|word| word.strip_prefix("<<"));
    let names = begins.map(|word| unquoted(word.strip_prefix('-').unwrap_or(word)).to_owned());
    names.filter(|name| name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')).collect()
}

fn unquoted(word: &str) -> &str {
    let inner = |quote| word.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(word)
}

/// Fills in `$NAME`, `${NAME}`, `${NAME:-preset}` and `${NAME:+instead}`; none when it grows too long.
fn fill(text: &str, values: &HashMap<String, String>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, behind) = rest.split_at(at);
        filled.push_str(before);
        let behind = behind.strip_prefix('$').unwrap_or(behind);
        let value = |name: &str| values.get(name).map(String::as_str).unwrap_or_default();
        if let Some((inner, after)) = behind.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            let (name, instead) = inner.split_once(':').map_or((inner, None), |(name, instead)| (name, Some(instead)));
            let known = value(name);
            filled.push_str(match (instead.and_then(|text| text.split_at_checked(1)), known.is_empty()) {
                (Some(("-", preset)), true) => preset,
                (Some(("+", _)), true) => "",
                (Some(("+", instead)), false) => instead,
                _ => known,
            });
            rest = after;
        } else {
            let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
            let (name, after) = behind.split_at(end);
            filled.push_str(value(name));
            rest = after;
        }
        if filled.len() > MAX_NAME_BYTES {
            return None;
        }
    }
    filled.push_str(rest);
    (filled.len() <= MAX_NAME_BYTES).then_some(filled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, target: Option<&str>, expected: Result<&[(&str, bool)], &str>) {
        let arguments = BTreeMap::from([("TAG".to_owned(), "2".to_owned())]);
        let seen = bases(text, &arguments, target).map_err(|error| error.to_string());
        let seen = seen
            .as_deref()
            .map(|bases| bases.iter().map(|base| (base.image.as_str(), base.is_runtime)).collect::<Vec<_>>());
        assert_eq!(seen.map_err(String::as_str), expected.map(<[_]>::to_vec), "{text}");
    }

    #[test]
    fn images_are_found() {
        check("FROM a:1\nRUN x", None, Ok(&[("a:1", true)]));
        check(
            "from  --platform=linux/amd64 a:1 as build\nFROM b\nCOPY --from=build /x /x",
            None,
            Ok(&[("a:1", false), ("b", true)]),
        );
        check("FROM a AS base\nFROM base\nFROM base AS last", None, Ok(&[("a", true)]));
        check("FROM a AS base\nFROM b\nCOPY --from=0 . .", None, Ok(&[("a", false), ("b", true)]));
        check("FROM a AS unused\nFROM b", None, Ok(&[("b", true)]));
        check("FROM a AS one\nFROM b AS two", Some("one"), Ok(&[("a", true)]));
        check("FROM scratch\nCOPY --from=tools:3 /x /", None, Ok(&[("tools:3", false)]));
        check(
            "FROM a\nRUN --mount=type=bind,from=cache:1,target=/c true",
            None,
            Ok(&[("a", true), ("cache:1", false)]),
        );
        check("ARG TAG=1\nARG NAME=\"x\"\nFROM $NAME:${TAG}", None, Ok(&[("x:2", true)]));
        check("ARG V\nFROM a:${V:-7}${V:+no}", None, Ok(&[("a:7", true)]));
        check("FROM a\nARG NAME=x\nFROM b${NAME}", None, Ok(&[("b", true)]));
        check("# escape=`\nFROM `\n  # a remark\n\n  a:1", None, Ok(&[("a:1", true)]));
        check("FROM a\nRUN <<EOF\nFROM b\nEOF\nCOPY --from=c . .", None, Ok(&[("a", true), ("c", false)]));
        check("FROM a AS x\nFROM x AS x\nFROM x", None, Ok(&[("a", true)]));
    }

    #[test]
    fn mounts_are_found() {
        for text in [
            "FROM a\nRUN --mount=type=cache,target=/x y",
            "FROM a\nonbuild run --network=none --mount type=bind x",
            "FROM a\nRUN \\\n --mount=x y",
        ] {
            assert!(has_mounts(text), "{text}");
        }
        for text in ["FROM a\nRUN x --mount=y", "FROM a\nCOPY --mount=x y z", "# RUN --mount=x"] {
            assert!(!has_mounts(text), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood() {
        check("", None, Err("the Dockerfile has no FROM"));
        check("RUN x", None, Err("the Dockerfile has no FROM"));
        check("\nFROM", None, Err("line 2: FROM names no image"));
        check("FROM $NONE", None, Err("line 1: FROM names no image"));
        check("FROM a", Some("b"), Err("the Dockerfile has no stage `b`"));
        check(&"FROM a\n".repeat(MAX_STAGES + 1), None, Err("the Dockerfile has more than 1000 stages"));
        let doubling =
            (0..40).map(|at| format!("ARG A{}=${{A{at}}}${{A{at}}}xx\n", at + 1)).collect::<Vec<_>>().concat();
        check(&format!("{doubling}FROM $A40"), None, Err("line 12: the image's name is too long"));
    }

    proptest! {
        #[test]
        fn anything_has_an_answer(text in "(FROM|ARG|COPY|RUN|[a-z$={}:<#\\\\ \\n-]{1,12}){0,30}", target in proptest::option::of("[a-z0-3]{1,2}")) {
            if let Ok(found) = bases(&text, &BTreeMap::new(), target.as_deref()) {
                for base in found {
                    prop_assert!(!base.image.eq_ignore_ascii_case(SCRATCH));
                    prop_assert!(!base.image.contains(char::is_whitespace));
                }
            }
        }
    }
}
