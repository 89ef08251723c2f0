//! Values of a YAML map by the kind that is expected, as Go's YAML reads them.

use crate::place::TextError;
use crate::template::value::integer;
use crate::yaml::{Node, Tree};

/// A map in a task file; keys that nobody asks for are not looked at, as in the runner.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    pub(crate) node: &'a Node,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(node: &'a Node, what: &str) -> Result<Self, TextError> {
        match node.tree {
            Tree::Map(_) => Ok(Self { node }),
            _ => Err(expected(node, &format!("a map for {what}"))),
        }
    }

    fn get(self, key: &str) -> Option<&'a Node> {
        self.node.get(key).filter(|node| !node.is_null())
    }

    pub(crate) fn text(self, key: &str) -> Result<String, TextError> {
        self.get(key).map_or(Ok(String::new()), |node| text(node, key))
    }

    pub(crate) fn texts(self, key: &str) -> Result<Vec<String>, TextError> {
        self.nodes(key)?.iter().map(|node| text(node, key)).collect()
    }

    pub(crate) fn number(self, key: &str) -> Result<i64, TextError> {
        self.get(key).map_or(Ok(0), |node| number(node, key))
    }

    pub(crate) fn numbers(self, key: &str) -> Result<Vec<i64>, TextError> {
        self.nodes(key)?.iter().map(|node| number(node, key)).collect()
    }

    pub(crate) fn flag(self, key: &str) -> Result<bool, TextError> {
        let Some(node) = self.get(key) else { return Ok(false) };
        match &node.tree {
            Tree::Scalar { text, is_plain: true } => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "y" => Ok(true),
                "false" | "no" | "off" | "n" => Ok(false),
                _ => Err(expected(node, &format!("true or false for {key}"))),
            },
            _ => Err(expected(node, &format!("true or false for {key}"))),
        }
    }

    /// The elements of a list.
    pub(crate) fn nodes(self, key: &str) -> Result<&'a [Node], TextError> {
        match self.get(key).map(|node| (node, &node.tree)) {
            None => Ok(&[]),
            Some((_, Tree::List(nodes))) => Ok(nodes),
            Some((node, _)) => Err(expected(node, &format!("a list for {key}"))),
        }
    }

    /// Names with texts, in a map or in a list of maps.
    pub(crate) fn pairs(self, key: &str) -> Result<Vec<(String, String)>, TextError> {
        let Some(node) = self.get(key) else { return Ok(Vec::new()) };
        let maps = match &node.tree {
            Tree::List(nodes) => nodes.iter().collect(),
            _ => vec![node],
        };
        let mut pairs = Vec::new();
        for map in maps {
            let Tree::Map(entries) = &map.tree else { return Err(expected(map, &format!("a map for {key}"))) };
            for (name, node) in entries {
                pairs.push((name.clone(), if node.is_null() { String::new() } else { text(node, name)? }));
            }
        }
        Ok(pairs)
    }
}

fn text(node: &Node, key: &str) -> Result<String, TextError> {
    match &node.tree {
        Tree::Scalar { text, .. } => Ok(text.clone()),
        _ => Err(expected(node, &format!("text for {key}"))),
    }
}

fn number(node: &Node, key: &str) -> Result<i64, TextError> {
    match &node.tree {
        Tree::Scalar { text, is_plain: true } => integer(text),
        _ => None,
    }
    .ok_or_else(|| expected(node, &format!("a whole number for {key}")))
}

fn expected(node: &Node, what: &str) -> TextError {
    let found = match &node.tree {
        Tree::Scalar { .. } => "a text",
        Tree::List(_) => "a list",
        Tree::Map(_) => "a map",
    };
    TextError::at(node.place, format!("expected {what}, found {found}"))
}
