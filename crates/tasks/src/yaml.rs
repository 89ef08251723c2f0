//! YAML as a tree with places, which is never larger than the limits below, whatever aliases ask for.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use crate::place::{Place, TextError};

/// How many values a document may have, with what its aliases stand for.
pub const MAX_YAML_NODES: usize = 20_000;
/// How long its texts may be together, in bytes, with what its aliases stand for.
pub const MAX_YAML_BYTES: usize = 4 * 1024 * 1024;
/// How deep its values may lie in one another.
pub const MAX_YAML_DEPTH: usize = 64;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) tree: Tree,
}

#[derive(Clone, Debug)]
pub(crate) enum Tree {
    Scalar {
        text: String,
        /// Without quotes: it may be a number, a truth value or nothing.
        is_plain: bool,
    },
    List(Vec<Node>),
    /// In the order of the document; of a key that stands there twice the last value counts.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// Nothing at all: `key:`, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.tree, Tree::Scalar { text, is_plain: true } if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.tree {
            Tree::Map(entries) => entries.iter().rev().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    fn size(&self) -> Size {
        match &self.tree {
            Tree::Scalar { text, .. } => Size { nodes: 1, bytes: text.len(), height: 1 },
            Tree::List(nodes) => nodes.iter().map(Self::size).fold(Size::of_one(), Size::with_child),
            Tree::Map(entries) => entries
                .iter()
                .map(|(key, node)| {
                    let size = node.size();
                    Size { bytes: size.bytes + key.len(), ..size }
                })
                .fold(Size::of_one(), Size::with_child),
        }
    }
}

#[derive(Clone, Copy)]
struct Size {
    nodes: usize,
    bytes: usize,
    height: usize,
}

impl Size {
    const fn of_one() -> Self {
        Self { nodes: 1, bytes: 0, height: 1 }
    }

    fn with_child(self, child: Self) -> Self {
        Self {
            nodes: self.nodes + child.nodes,
            bytes: self.bytes + child.bytes,
            height: self.height.max(child.height + 1),
        }
    }
}

/// A list or map that is not complete.
struct Open {
    place: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<String>),
}

/// Reads the first document; none if there is nothing in it.
pub(crate) fn parse(text: &str) -> Result<Option<Node>, TextError> {
    let mut reader = Reader { open: Vec::new(), root: None, anchors: HashMap::new(), nodes: 0, bytes: 0 };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| from_scanner(&error))?;
        if matches!(event, Event::DocumentEnd) {
            break;
        }
        reader.take(event, place_of(&span.start))?;
    }
    Ok(reader.root)
}

struct Reader {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    bytes: usize,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), TextError> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain && !is_text(tag.as_ref());
                self.complete(Node { place, tree: Tree::Scalar { text: text.into_owned(), is_plain } }, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(place, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => self.begin(place, anchor, Content::Map(Vec::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { place, anchor, content }) = self.open.pop() else { return Ok(()) };
                let tree = match content {
                    Content::List(nodes) => Tree::List(nodes),
                    Content::Map(entries, _) => Tree::Map(merged(entries)?),
                };
                self.complete(Node { place, tree }, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(TextError::at(place, "the alias stands for something that it is a part of"));
                };
                let size = node.size();
                if self.open.len() + size.height > MAX_YAML_DEPTH {
                    return Err(too_deep(place));
                }
                self.charge(size, place)?;
                let node = Node { place, ..self.anchors.get(&anchor).cloned().unwrap_or(empty(place)) };
                self.attach(node)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(())
            }
        }
    }

    fn begin(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), TextError> {
        if self.open.len() >= MAX_YAML_DEPTH {
            return Err(too_deep(place));
        }
        self.open.push(Open { place, anchor, content });
        Ok(())
    }

    fn complete(&mut self, node: Node, anchor: usize) -> Result<(), TextError> {
        let own = match &node.tree {
            Tree::Scalar { text, .. } => Size { nodes: 1, bytes: text.len(), height: 1 },
            _ => Size::of_one(),
        };
        self.charge(own, node.place)?;
        if anchor > 0 {
            self.charge(node.size(), node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        self.attach(node)
    }

    fn attach(&mut self, node: Node) -> Result<(), TextError> {
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(nodes)) => nodes.push(node),
            Some(Content::Map(entries, key)) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => match node.tree {
                    Tree::Scalar { text, .. } => *key = Some(text),
                    _ => return Err(TextError::at(node.place, "a key has to be text")),
                },
            },
        }
        Ok(())
    }

    fn charge(&mut self, size: Size, place: Place) -> Result<(), TextError> {
        self.nodes += size.nodes;
        self.bytes += size.bytes;
        if self.nodes > MAX_YAML_NODES || self.bytes > MAX_YAML_BYTES {
            return Err(TextError::at(
                place,
                format!(
                    "the document with what its aliases stand for is larger than {MAX_YAML_NODES} values or {MAX_YAML_BYTES} bytes"
                ),
            ));
        }
        Ok(())
    }
}

/// `<<: *other` takes over what the map itself does not say.
fn merged(entries: Vec<(String, Node)>) -> Result<Vec<(String, Node)>, TextError> {
    if entries.iter().all(|(key, _)| key != "<<") {
        return Ok(entries);
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key == "<<");
    for (_, node) in merges {
        let sources = match node.tree {
            Tree::List(nodes) => nodes,
            _ => vec![node],
        };
        for source in sources {
            let Tree::Map(entries) = source.tree else {
                return Err(TextError::at(source.place, "what is merged has to be a map"));
            };
            for (key, node) in entries {
                if own.iter().all(|(known, _)| *known != key) {
                    own.push((key, node));
                }
            }
        }
    }
    Ok(own)
}

fn empty(place: Place) -> Node {
    Node { place, tree: Tree::Scalar { text: String::new(), is_plain: true } }
}

fn too_deep(place: Place) -> TextError {
    TextError::at(place, format!("values lie more than {MAX_YAML_DEPTH} deep in one another"))
}

fn is_text(tag: Option<&Cow<'_, Tag>>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str")
}

fn place_of(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}

fn from_scanner(error: &ScanError) -> TextError {
    TextError::at(place_of(error.marker()), format!("not YAML: {}", error.info()))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn show(node: &Node) -> String {
        match &node.tree {
            Tree::Scalar { text, is_plain: true } => text.clone(),
            Tree::Scalar { text, .. } => format!("{text:?}"),
            Tree::List(nodes) => format!("[{}]", nodes.iter().map(show).collect::<Vec<_>>().join(" ")),
            Tree::Map(entries) => {
                let entries: Vec<_> = entries.iter().map(|(key, node)| format!("{key}={}", show(node))).collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    fn check(text: &str, expected: &str) {
        let found = match parse(text) {
            Ok(node) => node.as_ref().map(show).unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn documents() {
        check("", "");
        check("a: 1\nb: '1'\nc:\n  - x\n  - {d: e}\n", r#"{a=1 b="1" c=[x {d=e}]}"#);
        check("a: !!str 5\n", r#"{a="5"}"#);
        check("a: &x [1]\nb: *x\n", "{a=[1] b=[1]}");
        check("base: &b {x: 1, y: 2}\nme:\n  <<: *b\n  y: 3\n", "{base={x=1 y=2} me={y=3 x=1}}");
        check("a: |\n  #!/bin/sh\n  echo\n", "{a=\"#!/bin/sh\\necho\\n\"}");
        check("first: 1\n---\nsecond: 2\n", "{first=1}");
    }

    #[test]
    fn what_is_refused_says_where() {
        check("a: 1\n b: 2\n", "line 2, column 3: not YAML: mapping values are not allowed in this context");
        check("a: *x\n", "line 1, column 4: not YAML: while parsing node, found unknown anchor");
        check("a: &x [*x]\n", "line 1, column 8: the alias stands for something that it is a part of");
        check("? [a]\n: b\n", "line 1, column 3: a key has to be text");
        check("a: 1\n<<: 2\n", "line 2, column 5: what is merged has to be a map");
        check(&"[".repeat(65), "line 1, column 65: values lie more than 64 deep in one another");
    }

    #[test]
    fn aliases_do_not_multiply_without_end() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..10 {
            let alias = format!("*a{}", level - 1);
            writeln!(bomb, "a{level}: &a{level} [{}]", [alias.as_str(); 10].join(",")).unwrap();
        }
        let error = parse(&bomb).unwrap_err().to_string();
        assert!(error.contains("is larger than 20000 values"), "{error}");
        let mut deep = "a0: &a0 [x]\n".to_owned();
        for level in 1..100 {
            writeln!(deep, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
        }
        assert!(parse(&deep).unwrap_err().to_string().contains("more than 64 deep"));
    }
}
