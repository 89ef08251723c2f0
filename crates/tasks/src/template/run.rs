use postern_model::Timestamp;

use super::functions::{Call, Function};
use super::lex::Problem;
use super::parse::{Base, Command, Node, Operand, Pipe};
use super::value::Value;

/// How long what a template becomes may be, in bytes.
pub const MAX_TEMPLATE_OUTPUT: usize = 1024 * 1024;
/// How much may be worked through on the way, in values and bytes.
pub const MAX_TEMPLATE_WORK: usize = 16 * 1024 * 1024;
/// What each step on the way counts for.
const STEP_WORK: usize = 8;

/// What the runner removes from what Go prints.
const NO_VALUE: &str = "<no value>";

/// Whether a loop goes on.
enum Flow {
    On,
    Break,
    Continue,
}

pub(super) fn run(nodes: &[Node], data: &Value, now: Timestamp) -> Result<(String, Vec<String>), Problem> {
    let mut run = Run { out: String::new(), secrets: Vec::new(), variables: vec![("$", data.clone())], work: 0, now };
    run.nodes(nodes, data)?;
    Ok((run.out.replace(NO_VALUE, ""), run.secrets))
}

struct Run<'a> {
    out: String,
    secrets: Vec<String>,
    variables: Vec<(&'a str, Value)>,
    work: usize,
    now: Timestamp,
}

impl<'a> Run<'a> {
    fn nodes(&mut self, nodes: &'a [Node], dot: &Value) -> Result<Flow, Problem> {
        for node in nodes {
            self.charge(0, STEP_WORK)?;
            let flow = match node {
                Node::Plain(text) => {
                    self.print(0, text)?;
                    Flow::On
                }
                Node::Output(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.variables.is_empty() {
                        self.output(pipe.at, &value)?;
                    }
                    Flow::On
                }
                Node::If { pipe, then, otherwise } => self.scope(|run| {
                    let value = run.pipe(pipe, dot)?;
                    run.nodes(if value.is_true() { then } else { otherwise }, dot)
                })?,
                Node::With { pipe, then, otherwise } => self.scope(|run| {
                    let value = run.pipe(pipe, dot)?;
                    if value.is_true() { run.nodes(then, &value) } else { run.nodes(otherwise, dot) }
                })?,
                Node::Range { pipe, then, otherwise } => self.scope(|run| run.range(pipe, then, otherwise, dot))?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if !matches!(flow, Flow::On) {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    /// Variables that are declared inside end with it.
    fn scope<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        let known = self.variables.len();
        let result = inner(self);
        self.variables.truncate(known);
        result
    }

    fn range(&mut self, pipe: &'a Pipe, then: &'a [Node], otherwise: &'a [Node], dot: &Value) -> Result<Flow, Problem> {
        let value = self.commands(pipe, dot)?;
        let entries: Vec<(Value, Value)> = match &value {
            Value::Nil => Vec::new(),
            Value::List(values) => {
                values.iter().enumerate().map(|(index, value)| (int(index), value.clone())).collect()
            }
            Value::Map(entries) => {
                entries.iter().map(|(key, value)| (Value::text(key.as_str()), value.clone())).collect()
            }
            other => return Err((pipe.at, format!("range can't iterate over {}", other.kind()))),
        };
        if entries.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, value) in entries {
            self.charge(pipe.at, STEP_WORK)?;
            let flow = self.scope(|run| {
                match pipe.variables.as_slice() {
                    [] => {}
                    [one] => run.set(one, value.clone(), pipe.is_assignment),
                    [first, second, ..] => {
                        run.set(first, key, pipe.is_assignment);
                        run.set(second, value.clone(), pipe.is_assignment);
                    }
                }
                run.nodes(then, &value)
            })?;
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &'a str, value: Value, is_assignment: bool) {
        match self.variables.iter_mut().rev().find(|(known, _)| is_assignment && *known == name) {
            Some((_, known)) => *known = value,
            None => self.variables.push((name, value)),
        }
    }

    fn pipe(&mut self, pipe: &'a Pipe, dot: &Value) -> Result<Value, Problem> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            self.set(name, value.clone(), pipe.is_assignment);
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &'a Pipe, dot: &Value) -> Result<Value, Problem> {
        let mut last = None;
        for command in &pipe.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&mut self, command: &'a Command, dot: &Value, last: Option<Value>) -> Result<Value, Problem> {
        match &command.first.base {
            Base::Function(function) if command.first.fields.is_empty() => {
                self.call(function, command.at, &command.arguments, dot, last)
            }
            _ => self.operand(&command.first, dot),
        }
    }

    fn call(
        &mut self,
        function: &'static Function,
        at: usize,
        operands: &'a [Operand],
        dot: &Value,
        last: Option<Value>,
    ) -> Result<Value, Problem> {
        let count = operands.len() + usize::from(last.is_some());
        function.check_count(count).map_err(|problem| (at, problem))?;
        let stops_at = function.stops_at();
        let mut arguments = Vec::with_capacity(count);
        for operand in operands {
            let value = self.operand(operand, dot)?;
            // `and` and `or` look no further than they must.
            if stops_at == Some(value.is_true()) {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(last);
        if stops_at.is_some() {
            let found = arguments.iter().find(|value| stops_at == Some(value.is_true())).or(arguments.last());
            return Ok(found.cloned().unwrap_or(Value::Nil));
        }
        let (weight, is_secret) =
            arguments.iter().map(Value::weigh).fold((STEP_WORK, false), |sum, one| (sum.0 + one.0, sum.1 || one.1));
        self.charge(at, weight)?;
        let call = Call { arguments: &arguments, now: self.now };
        let value =
            (function.run)(&call).map_err(|problem| (at, format!("error calling {}: {problem}", function.name)))?;
        let (weight, is_known) = value.weigh();
        self.charge(at, weight)?;
        // What comes out of a collection says itself whether it is secret.
        Ok(if is_secret && !is_known && !function.is_selection { value.into_secret() } else { value })
    }

    fn operand(&mut self, operand: &'a Operand, dot: &Value) -> Result<Value, Problem> {
        let mut value = match &operand.base {
            Base::Dot => dot.clone(),
            Base::Nil => Value::Nil,
            Base::Literal(value) => value.clone(),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found.map_or(Value::Nil, |(_, value)| value.clone())
            }
            Base::Function(function) => self.call(function, operand.at, &[], dot, None)?,
            Base::Pipe(pipe) => self.pipe(pipe, dot)?,
        };
        for name in &operand.fields {
            value = match &value {
                Value::Map(entries) => entries.get(name).cloned().unwrap_or(Value::Nil),
                Value::Nil => {
                    return Err((
                        operand.at,
                        format!("nil pointer evaluating interface {{}}.{name}: what it is looked up in is not there"),
                    ));
                }
                other => return Err((operand.at, format!("can't evaluate field {name} in type {}", other.kind()))),
            };
        }
        Ok(value)
    }

    fn output(&mut self, at: usize, value: &Value) -> Result<(), Problem> {
        let (weight, is_secret) = value.weigh();
        self.charge(at, weight)?;
        if matches!(value, Value::Nil) {
            return Ok(());
        }
        let text = value.show();
        if is_secret && !text.is_empty() && !self.secrets.contains(&text) {
            self.secrets.push(text.clone());
        }
        self.print(at, &text)
    }

    fn print(&mut self, at: usize, text: &str) -> Result<(), Problem> {
        if self.out.len() + text.len() > MAX_TEMPLATE_OUTPUT {
            return Err((at, format!("the text becomes longer than {MAX_TEMPLATE_OUTPUT} bytes")));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn charge(&mut self, at: usize, weight: usize) -> Result<(), Problem> {
        self.work += weight;
        if self.work > MAX_TEMPLATE_WORK {
            return Err((at, "the template is too much work".to_owned()));
        }
        Ok(())
    }
}

fn int(index: usize) -> Value {
    Value::Int(i64::try_from(index).unwrap_or(i64::MAX))
}
