//! Aliases of task files from v1.1.0 on: `$Registry` in the text, `acr` as a command.

use std::collections::BTreeMap;

use crate::file::fields::Fields;
use crate::place::TextError;
use crate::template::MAX_TEMPLATE_BYTES;
use crate::yaml;

/// How many files a task's aliases may come from.
pub const MAX_ALIAS_SOURCES: usize = 16;

/// What every task knows. The names of commands stand for images and need no `$`.
const BUILT_IN: &[(&str, &str)] = &[
    ("ID", "{{.Run.ID}}"),
    ("SharedVolume", "{{.Run.SharedVolume}}"),
    ("Registry", "{{.Run.Registry}}"),
    ("RegistryName", "{{.Run.RegistryName}}"),
    ("Date", "{{.Run.Date}}"),
    ("OS", "{{.Run.OS}}"),
    ("Architecture", "{{.Run.Architecture}}"),
    ("Commit", "{{.Run.Commit}}"),
    ("Branch", "{{.Run.Branch}}"),
    ("acr", "mcr.microsoft.com/acr/acr-cli:0.19"),
    ("az", "mcr.microsoft.com/acr/azure-cli:a80af84"),
    ("bash", "mcr.microsoft.com/acr/bash:a80af84"),
    ("curl", "mcr.microsoft.com/acr/curl:a80af84"),
    ("cssc", "mcr.microsoft.com/acr/cssc:latest"),
];

/// The text of a task file in its parts.
pub(crate) struct Parts {
    /// `alias:` and what belongs to it.
    pub(crate) aliases: String,
    /// All else.
    pub(crate) rest: String,
    /// Which line of the file each line of `rest` was, from 1.
    pub(crate) lines: Vec<usize>,
    /// Whether the file is of a version that knows aliases.
    pub(crate) has_aliases: bool,
}

/// Takes comments out, and the aliases apart where the version knows them.
pub(crate) fn separate(text: &str) -> Parts {
    let has_aliases = version(text) >= "v1.1.0";
    let mut parts = Parts { aliases: String::new(), rest: String::new(), lines: Vec::new(), has_aliases };
    let mut is_inside = false;
    for (index, line) in text.lines().enumerate() {
        let start = if has_aliases { line.trim_start() } else { line };
        if start.starts_with('#') {
            continue;
        }
        let is_top =
            line.split_once(':').is_some_and(|(key, _)| !key.is_empty() && !key.starts_with(char::is_whitespace));
        if has_aliases && is_top {
            is_inside = line.split_once(':').is_some_and(|(key, _)| key.trim_end() == "alias");
        }
        let part = if is_inside { &mut parts.aliases } else { &mut parts.rest };
        part.push_str(line);
        part.push('\n');
        if !is_inside {
            parts.lines.push(index + 1);
        }
    }
    parts
}

/// The first line that says something has to say it.
fn version(text: &str) -> &str {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    match first.and_then(|line| line.split_once(':')) {
        Some((key, value)) if key.trim_end() == "version" => {
            value.trim().trim_matches(|quote| matches!(quote, '"' | '\''))
        }
        _ => "",
    }
}

/// A task's aliases.
#[derive(Debug)]
pub(crate) struct Aliases {
    values: BTreeMap<String, String>,
    /// Files that further ones come from; the later win.
    pub(crate) sources: Vec<String>,
    directive: char,
}

impl Aliases {
    /// Reads `alias:` after its templates are filled in.
    pub(crate) fn parse(text: &str) -> Result<Self, TextError> {
        let mut aliases = Self { values: BTreeMap::new(), sources: Vec::new(), directive: '$' };
        let Some(node) = yaml::parse(text)? else { return Ok(aliases) };
        let Some(node) = node.get("alias").filter(|node| !node.is_null()) else { return Ok(aliases) };
        let fields = Fields::of(node, "alias")?;
        aliases.sources = fields.texts("src")?;
        if aliases.sources.len() > MAX_ALIAS_SOURCES {
            return Err(TextError::at(node.place, format!("aliases come from more than {MAX_ALIAS_SOURCES} files")));
        }
        aliases.add(fields.pairs("values")?);
        let directive = fields.text("directive")?;
        let mut characters = directive.chars();
        match (characters.next(), characters.next()) {
            (None, _) => {}
            (Some(only), None) if !only.is_ascii_alphanumeric() => aliases.directive = only,
            (Some(_), None) => {
                return Err(TextError::at(node.place, "overwritten directives may not be alphanumeric characters"));
            }
            _ => {
                return Err(TextError::at(node.place, "$ directive can only be overwritten by a single character"));
            }
        }
        Ok(aliases)
    }

    /// Takes up the content of its sources and what every task knows.
    pub(crate) fn complete(&mut self, sources: &[(String, String)]) -> Result<(), TextError> {
        for name in self.sources.clone().iter().rev() {
            let Some((_, text)) = sources.iter().find(|(known, _)| known == name) else {
                return Err(TextError::new(format!("the aliases' source {name:?} is not there")));
            };
            if text.len() > MAX_TEMPLATE_BYTES {
                return Err(TextError::new(format!("{name:?} is longer than {MAX_TEMPLATE_BYTES} bytes")));
            }
            let of_source = |error: TextError| TextError::new(format!("{name}: {error}"));
            if let Some(node) = yaml::parse(text).map_err(of_source)? {
                let wrapped =
                    yaml::Node { place: node.place, tree: yaml::Tree::Map(vec![("values".to_owned(), node)]) };
                self.add(Fields { node: &wrapped }.pairs("values").map_err(of_source)?);
            }
        }
        let built_in = BUILT_IN.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.add(built_in.collect());
        let is_key = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !self.values.keys().all(is_key) {
            return Err(TextError::new("alias key names only support alphanumeric characters"));
        }
        Ok(())
    }

    /// What is known already stays.
    fn add(&mut self, values: Vec<(String, String)>) {
        for (key, value) in values {
            self.values.entry(key).or_insert(value);
        }
    }

    /// Puts values in the place of `$name`; `$$` is `$`, and a name that nobody knows stays.
    pub(crate) fn replace(&self, text: &str) -> Result<String, TextError> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text.chars().peekable();
        while let Some(next) = rest.next() {
            if next != self.directive {
                out.push(next);
                continue;
            }
            if rest.next_if_eq(&self.directive).is_some() {
                out.push(self.directive);
                continue;
            }
            let mut name = String::new();
            while let Some(next) = rest.next_if(char::is_ascii_alphanumeric) {
                name.push(next);
            }
            if let Some(value) = self.values.get(&name) {
                out.push_str(value);
            } else {
                out.push(self.directive);
                out.push_str(&name);
            }
            if out.len() > MAX_TEMPLATE_BYTES {
                return Err(TextError::new(format!(
                    "the text with its aliases is longer than {MAX_TEMPLATE_BYTES} bytes"
                )));
            }
        }
        Ok(out)
    }

    /// A command whose first word is an alias.
    pub(crate) fn expand(&self, command: &str) -> String {
        let command = command.trim();
        let (first, rest) =
            command.split_at_checked(command.find(' ').unwrap_or(command.len())).unwrap_or((command, ""));
        match self.values.get(first) {
            Some(value) => format!("{value}{rest}"),
            None => command.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `aliases`, then a text and what it becomes.
    fn check(aliases: &str, text: &str, expected: &str) {
        let sources =
            [("a.yaml".to_owned(), "x: of a\ny: of a\n".to_owned()), ("b.yaml".to_owned(), "x: of b\n".to_owned())];
        let found = Aliases::parse(aliases).and_then(|mut aliases| {
            aliases.complete(&sources)?;
            aliases.replace(text)
        });
        assert_eq!(found.unwrap_or_else(|error| format!("! {error}")), expected, "{aliases} {text}");
    }

    #[test]
    fn replacing() {
        check("", "$Registry/a:$ID", "{{.Run.Registry}}/a:{{.Run.ID}}");
        check("", "$Registry$ID $$x $unknown $ $", "{{.Run.Registry}}{{.Run.ID}} $x $unknown $ $");
        check("alias:\n  values:\n    x: 1\n    Registry: mine\n", "$x-$Registry", "1-mine");
        check("alias:\n  directive: '@'\n  values: {x: 1}\n", "@x $x @@", "1 $x @");
        check("alias: {src: [a.yaml, b.yaml]}", "$x $y", "of b of a");
        check("alias: {src: [c.yaml]}", "", "! the aliases' source \"c.yaml\" is not there");
        check(
            "alias: {directive: ab}",
            "",
            "! line 1, column 8: $ directive can only be overwritten by a single character",
        );
        check(
            "alias: {directive: a}",
            "",
            "! line 1, column 8: overwritten directives may not be alphanumeric characters",
        );
        check("alias: {values: {a-b: c}}", "", "! alias key names only support alphanumeric characters");
        let long = format!("alias: {{values: {{x: {}}}}}", "x".repeat(1000));
        check(&long, &"$x".repeat(300), "! the text with its aliases is longer than 262144 bytes");
    }

    #[test]
    fn commands() {
        let mut aliases = Aliases::parse("alias: {values: {mine: host/image:1}}").unwrap();
        aliases.complete(&[]).unwrap();
        for (command, expected) in [
            ("acr purge --ago 1d", "mcr.microsoft.com/acr/acr-cli:0.19 purge --ago 1d"),
            ("mine", "host/image:1"),
            (" other acr", "other acr"),
        ] {
            assert_eq!(aliases.expand(command), expected);
        }
    }

    #[test]
    fn parts() {
        let parts = separate("# c\nversion: v1.1.0\nalias:\n  values:\n    a: b\n# c\nsteps:\n  # c\n- cmd: a\n");
        assert_eq!(parts.aliases, "alias:\n  values:\n    a: b\n");
        assert_eq!(parts.rest, "version: v1.1.0\nsteps:\n- cmd: a\n");
        assert_eq!(parts.lines, [2, 7, 9]);
        let old = separate("# c\nversion: v1.0.0\n  # stays\nalias: x\n");
        assert!(!old.has_aliases);
        assert_eq!(old.rest, "version: v1.0.0\n  # stays\nalias: x\n");
        for (text, expected) in
            [("version: v1.1.0", true), ("version: 'v1.1.0'", true), ("steps:\nversion: v1.1.0", false), ("", false)]
        {
            assert_eq!(separate(text).has_aliases, expected, "{text}");
        }
    }
}
