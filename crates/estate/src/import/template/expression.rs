use postern_model::ResourceId;
use serde_json::{Value, json};

use crate::Document;
use crate::import::{ImportError, Target, shown};

/// Deepest chain of parameters, variables and calls.
const MAX_CALLS: usize = 32;
/// Longest text that an expression may make.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// What an expression may refer to.
pub(super) struct Scope<'a> {
    pub(super) target: &'a Target,
    pub(super) parameters: Option<&'a Document>,
    pub(super) variables: Option<&'a Document>,
}

impl Scope<'_> {
    /// The value with every expression in it replaced.
    pub(super) fn evaluate(&self, value: &Value, at: &str) -> Result<Value, ImportError> {
        self.value(value, 0).map_err(|(expression, why)| ImportError::Expression {
            at: at.to_owned(),
            expression: shown(&expression),
            why,
        })
    }

    fn value(&self, value: &Value, depth: usize) -> Result<Value, (String, String)> {
        match value {
            Value::String(text) => match expression_in(text) {
                None => {
                    Ok(Value::String(text.strip_prefix("[[").map_or_else(|| text.clone(), |rest| format!("[{rest}"))))
                }
                Some(source) => self.run(source, depth).map_err(|why| (text.clone(), why)),
            },
            Value::Array(entries) => {
                entries.iter().map(|entry| self.value(entry, depth)).collect::<Result<_, _>>().map(Value::Array)
            }
            Value::Object(object) => {
                let entries = object.iter().map(|(key, entry)| {
                    let Value::String(key) = self.value(&Value::String(key.clone()), depth)? else {
                        return Err((key.clone(), "a key must be a text".into()));
                    };
                    Ok((key, self.value(entry, depth)?))
                });
                entries.collect::<Result<_, _>>().map(Value::Object)
            }
            other => Ok(other.clone()),
        }
    }

    fn run(&self, source: &str, depth: usize) -> Result<Value, String> {
        if depth > MAX_CALLS {
            return Err("it refers to itself, or too deep".into());
        }
        let mut parser = Parser { rest: source.trim(), scope: self, depth };
        let value = parser.expression()?;
        if parser.rest.is_empty() { Ok(value) } else { Err(format!("`{}` is left over", shown(parser.rest))) }
    }

    fn call(&self, function: &str, arguments: &[Value], depth: usize) -> Result<Value, String> {
        let texts = || -> Result<Vec<&str>, String> {
            arguments
                .iter()
                .map(|argument| argument.as_str().ok_or_else(|| format!("`{function}` takes texts")))
                .collect()
        };
        let subscription = format!("/subscriptions/{}", self.target.subscription);
        let group = format!("{subscription}/resourceGroups/{}", self.target.resource_group);
        match function.to_ascii_lowercase().as_str() {
            "parameters" => {
                let name = *texts()?.first().ok_or("`parameters` takes a name")?;
                let default =
                    self.parameters.and_then(|all| all.get(name)).and_then(|parameter| parameter.get("defaultValue"));
                let default = default.ok_or_else(|| format!("the parameter `{}` has no default value", shown(name)))?;
                self.value(default, depth + 1).map_err(|(_, why)| why)
            }
            "variables" => {
                let name = *texts()?.first().ok_or("`variables` takes a name")?;
                let value = self
                    .variables
                    .and_then(|all| all.get(name))
                    .ok_or_else(|| format!("there is no variable `{}`", shown(name)))?;
                self.value(value, depth + 1).map_err(|(_, why)| why)
            }
            "concat" => {
                let text = texts()?.concat();
                if text.len() > MAX_TEXT_BYTES { Err("the text is too long".into()) } else { Ok(text.into()) }
            }
            "tolower" => Ok(texts()?.concat().to_lowercase().into()),
            "toupper" => Ok(texts()?.concat().to_uppercase().into()),
            "subscription" => Ok(json!({"id": subscription, "subscriptionId": self.target.subscription})),
            "resourcegroup" => {
                Ok(json!({"id": group, "name": self.target.resource_group, "location": self.target.location}))
            }
            "resourceid" => resource_id(&group, &texts()?),
            "subscriptionresourceid" => resource_id(&subscription, &texts()?),
            "tenantresourceid" => resource_id("/", &texts()?),
            "extensionresourceid" => match texts()?.as_slice() {
                [base, rest @ ..] => resource_id(base, rest),
                [] => Err("`extensionResourceId` takes a resource id, a type and names".into()),
            },
            _ => Err(format!("the function `{}` is not known here", shown(function))),
        }
    }

    /// A template's `scope`: an id, or `type/name` of a resource of the same template.
    pub(super) fn scope_id(&self, text: &str, at: &str) -> Result<String, ImportError> {
        if text.starts_with('/') {
            return Ok(text.to_owned());
        }
        let group =
            format!("/subscriptions/{}/resourceGroups/{}", self.target.subscription, self.target.resource_group);
        let segments: Vec<&str> = text.split('/').collect();
        // `namespace/type/name/childType/childName`
        let is_whole = segments.len() >= 3 && segments.len() % 2 == 1;
        if !is_whole {
            return Err(ImportError::Shape { at: format!("the `scope` of {at}"), wanted: "a resource id" });
        }
        Ok(format!("{group}/providers/{text}"))
    }
}

/// The expression in `[…]`; `[[` is a literal bracket.
fn expression_in(text: &str) -> Option<&str> {
    text.strip_prefix('[').filter(|rest| !rest.starts_with('['))?.strip_suffix(']')
}

fn resource_id(base: &str, arguments: &[&str]) -> Result<Value, String> {
    let at = arguments.iter().position(|argument| argument.contains('/')).ok_or("a resource type is missing")?;
    let (before, rest) = arguments.split_at(at);
    let base = match before {
        [] => base.to_owned(),
        [group] => format!("{}/resourceGroups/{group}", base.split("/resourceGroups/").next().unwrap_or_default()),
        [subscription, group] => format!("/subscriptions/{subscription}/resourceGroups/{group}"),
        _ => return Err("too many texts come before the resource type".into()),
    };
    let [resource_type, names @ ..] = rest else { return Err("a resource type is missing".into()) };
    let id = id_within(&base, resource_type, &names.join("/"))
        .ok_or("there must be one name for each segment of the type")?;
    Ok(id.into())
}

/// `{base}/providers/{namespace}/{type}/{name}…` for a type `namespace/type/childType` and a name `name/childName`.
pub(super) fn id_within(base: &str, resource_type: &str, name: &str) -> Option<String> {
    let (namespace, types) = resource_type.split_once('/')?;
    let (types, names): (Vec<&str>, Vec<&str>) = (types.split('/').collect(), name.split('/').collect());
    if types.len() != names.len() || names.iter().any(|name| name.is_empty()) {
        return None;
    }
    let base = base.trim_end_matches('/');
    // Groups and subscriptions are no provider's resources.
    let start = match resource_type.to_ascii_lowercase().as_str() {
        "microsoft.resources/resourcegroups" => return Some(format!("{base}/resourceGroups/{name}")),
        _ => format!("{base}/providers/{namespace}"),
    };
    let id = types.iter().zip(names).fold(start, |id, (kind, name)| format!("{id}/{kind}/{name}"));
    id.parse::<ResourceId>().ok().map(|id| id.to_string())
}

struct Parser<'a, 'b> {
    rest: &'a str,
    scope: &'a Scope<'b>,
    depth: usize,
}

impl Parser<'_, '_> {
    fn eat(&mut self, token: char) -> bool {
        let rest = self.rest.trim_start();
        match rest.strip_prefix(token) {
            Some(after) => {
                self.rest = after.trim_start();
                true
            }
            None => false,
        }
    }

    fn expression(&mut self) -> Result<Value, String> {
        self.depth += 1;
        if self.depth > MAX_CALLS {
            return Err("it refers to itself, or too deep".into());
        }
        let mut value = self.primary()?;
        loop {
            if self.eat('.') {
                let name = self.word()?;
                value = value.get(&name).cloned().ok_or_else(|| format!("there is no property `{}`", shown(&name)))?;
            } else if self.eat('[') {
                let index = self.expression()?;
                let found = match &index {
                    Value::String(name) => value.get(name),
                    other => other.as_u64().and_then(|at| value.get(usize::try_from(at).ok()?)),
                };
                value = found.cloned().ok_or("there is nothing at that index")?;
                if !self.eat(']') {
                    return Err("a `]` is missing".into());
                }
            } else {
                self.depth -= 1;
                return Ok(value);
            }
        }
    }

    fn primary(&mut self) -> Result<Value, String> {
        if self.rest.starts_with('\'') {
            return self.literal();
        }
        let word = self.word()?;
        if let Ok(number) = word.parse::<i64>() {
            return Ok(number.into());
        }
        if !self.eat('(') {
            return Err(format!("`{}` is not a function call", shown(&word)));
        }
        let mut arguments = Vec::new();
        while !self.eat(')') {
            if !arguments.is_empty() && !self.eat(',') {
                return Err("a `,` or `)` is missing".into());
            }
            arguments.push(self.expression()?);
        }
        self.scope.call(&word, &arguments, self.depth)
    }

    fn word(&mut self) -> Result<String, String> {
        let end =
            self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if word.is_empty() { Err("a name is missing".into()) } else { Ok(word.to_owned()) }
    }

    fn literal(&mut self) -> Result<Value, String> {
        let mut text = String::new();
        let mut letters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, letter)) = letters.next() {
            if letter != '\'' {
                text.push(letter);
            } else if letters.next_if(|(_, next)| *next == '\'').is_some() {
                text.push('\'');
            } else {
                self.rest = self.rest.get(at + 1..).unwrap_or_default().trim_start();
                return Ok(text.into());
            }
        }
        Err("a text does not end".into())
    }
}
