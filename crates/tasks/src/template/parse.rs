use super::functions;
use super::lex::{Kind, Problem, Token};
use super::value::Value;

/// How deep blocks and brackets may lie in one another.
pub const MAX_TEMPLATE_DEPTH: usize = 64;

#[derive(Debug)]
pub(super) enum Node {
    Plain(String),
    Output(Pipe),
    If { pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    With { pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    Range { pipe: Pipe, then: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

/// `$x, $y := command | command`
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) at: usize,
    pub(super) variables: Vec<String>,
    pub(super) is_assignment: bool,
    pub(super) commands: Vec<Command>,
}

/// A value, or a function with its arguments.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) at: usize,
    pub(super) first: Operand,
    pub(super) arguments: Vec<Operand>,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) at: usize,
    pub(super) base: Base,
    pub(super) fields: Vec<String>,
}

#[derive(Debug)]
pub(super) enum Base {
    Dot,
    Nil,
    Variable(String),
    Literal(Value),
    Function(&'static functions::Function),
    Pipe(Box<Pipe>),
}

/// How a list of nodes ended, and where.
enum End {
    Finish(usize),
    Else(usize),
    Source,
}

pub(super) fn parse(tokens: Vec<Token>, length: usize) -> Result<Vec<Node>, Problem> {
    let mut parser = Parser { tokens, at: 0, length, variables: vec!["$".to_owned()], depth: 0, loops: 0 };
    match parser.nodes()? {
        (nodes, End::Source) => Ok(nodes),
        (_, End::Finish(at)) => Err((at, "unexpected {{end}}".to_owned())),
        (_, End::Else(at)) => Err((at, "unexpected {{else}}".to_owned())),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    length: usize,
    /// Names that are known here.
    variables: Vec<String>,
    depth: usize,
    loops: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(self.length, |token| token.at)
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Result<T, Problem> {
        Err((self.position(), problem.into()))
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Problem>) -> Result<T, Problem> {
        if self.depth >= MAX_TEMPLATE_DEPTH {
            return self.fail(format!("blocks or brackets lie more than {MAX_TEMPLATE_DEPTH} deep in one another"));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, End), Problem> {
        let mut nodes = Vec::new();
        while let Some(token) = self.next() {
            let at = token.at;
            if let Kind::Plain(text) = token.kind {
                nodes.push(Node::Plain(text));
                continue;
            }
            let word = match self.peek() {
                Some(Kind::Word(word)) => word.clone(),
                _ => String::new(),
            };
            match word.as_str() {
                "end" => {
                    self.next();
                    self.close("end")?;
                    return Ok((nodes, End::Finish(at)));
                }
                "else" => {
                    self.next();
                    return Ok((nodes, End::Else(at)));
                }
                "if" | "with" | "range" => {
                    self.next();
                    nodes.push(self.deeper(|parser| parser.block(&word, at))?);
                }
                "break" | "continue" => {
                    self.next();
                    if self.loops == 0 {
                        return Err((at, format!("{{{{{word}}}}} outside {{{{range}}}}")));
                    }
                    self.close(&word)?;
                    nodes.push(if word == "break" { Node::Break } else { Node::Continue });
                }
                "define" | "template" | "block" => {
                    return Err((at, format!("{{{{{word}}}}} is not supported in a task file")));
                }
                _ => {
                    let pipe = self.pipe(true)?;
                    if pipe.variables.len() > 1 {
                        return Err((at, "too many declarations in command".to_owned()));
                    }
                    self.close("command")?;
                    nodes.push(Node::Output(pipe));
                }
            }
        }
        Ok((nodes, End::Source))
    }

    fn block(&mut self, word: &str, at: usize) -> Result<Node, Problem> {
        let known = self.variables.len();
        let pipe = self.pipe(true)?;
        self.close(word)?;
        self.loops += usize::from(word == "range");
        let body = self.nodes();
        self.loops -= usize::from(word == "range");
        let (then, mut end) = body?;
        let mut otherwise = Vec::new();
        if let End::Else(else_at) = end {
            let chained = match self.peek() {
                Some(Kind::Word(next)) if next == word && word != "range" => true,
                Some(Kind::Close) => false,
                _ => return self.fail("unexpected words after {{else"),
            };
            if chained {
                self.next();
                otherwise = vec![self.deeper(|parser| parser.block(word, else_at))?];
                end = End::Finish(else_at);
            } else {
                self.close("else")?;
                (otherwise, end) = self.nodes()?;
            }
        }
        self.variables.truncate(known);
        match end {
            End::Finish(_) => {}
            End::Else(at) => return Err((at, "unexpected {{else}}".to_owned())),
            End::Source => return Err((at, format!("unexpected end of the text: {{{{{word}}}}} has no {{{{end}}}}"))),
        }
        Ok(match word {
            "if" => Node::If { pipe, then, otherwise },
            "with" => Node::With { pipe, then, otherwise },
            _ => Node::Range { pipe, then, otherwise },
        })
    }

    fn close(&mut self, what: &str) -> Result<(), Problem> {
        match self.next() {
            Some(Token { kind: Kind::Close, .. }) => Ok(()),
            Some(token) => Err((token.at, format!("unexpected {} in {what}", token.kind.name()))),
            None => Err((self.length, "unclosed action".to_owned())),
        }
    }

    /// Up to what closes it, which stays.
    fn pipe(&mut self, may_declare: bool) -> Result<Pipe, Problem> {
        let at = self.position();
        let mut commands = Vec::new();
        let (variables, is_assignment) = if may_declare { self.declaration()? } else { (Vec::new(), false) };
        loop {
            commands.push(self.command()?);
            match self.peek() {
                Some(Kind::Pipe) => {
                    self.next();
                }
                Some(Kind::Close | Kind::CloseBracket) => break,
                Some(kind) => {
                    let name = kind.name();
                    return self.fail(format!("unexpected {name} in operand"));
                }
                None => return self.fail("unclosed action"),
            }
        }
        for command in commands.iter().skip(1) {
            if !matches!(command.first.base, Base::Function(_)) || !command.first.fields.is_empty() {
                return Err((command.at, "what stands after | has to be a function".to_owned()));
            }
        }
        if !is_assignment {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipe { at, variables, is_assignment, commands })
    }

    /// `$x :=`, `$x, $y :=` or `$x =`
    fn declaration(&mut self) -> Result<(Vec<String>, bool), Problem> {
        let start = self.at;
        let mut names = Vec::new();
        while let Some(Kind::Variable(name)) = self.peek() {
            names.push(name.clone());
            self.at += 1;
            match self.peek() {
                Some(Kind::Comma) if names.len() < 2 => self.at += 1,
                Some(Kind::Declare) => {
                    self.at += 1;
                    return Ok((names, false));
                }
                Some(Kind::Assign) => {
                    if let Some(name) = names.iter().find(|name| !self.variables.contains(name)) {
                        return self.fail(format!("undefined variable {name:?}"));
                    }
                    self.at += 1;
                    return Ok((names, true));
                }
                _ => break,
            }
        }
        self.at = start;
        Ok((Vec::new(), false))
    }

    fn command(&mut self) -> Result<Command, Problem> {
        let at = self.position();
        let Some(first) = self.operand()? else { return self.fail("missing value for command") };
        let mut arguments = Vec::new();
        while let Some(operand) = self.operand()? {
            arguments.push(operand);
        }
        if matches!(first.base, Base::Nil) {
            return Err((at, "nil is not a command".to_owned()));
        }
        if !arguments.is_empty() && !matches!(first.base, Base::Function(_)) {
            return Err((at, "only a function takes arguments".to_owned()));
        }
        Ok(Command { at, first, arguments })
    }

    fn operand(&mut self) -> Result<Option<Operand>, Problem> {
        let at = self.position();
        let begins = matches!(
            self.peek(),
            Some(Kind::Field(_) | Kind::Dot | Kind::Variable(_) | Kind::Word(_) | Kind::Literal(_) | Kind::OpenBracket)
        );
        let Some(token) = begins.then(|| self.next()).flatten() else { return Ok(None) };
        let mut fields = Vec::new();
        let base = match token.kind {
            Kind::Dot => Base::Dot,
            Kind::Field(name) => {
                fields.push(name);
                Base::Dot
            }
            Kind::Variable(name) if self.variables.contains(&name) => Base::Variable(name),
            Kind::Variable(name) => return Err((at, format!("undefined variable {name:?}"))),
            Kind::Literal(value) => Base::Literal(value),
            Kind::Word(name) if name == "nil" => Base::Nil,
            Kind::Word(name) => match functions::find(&name) {
                Some(function) => Base::Function(function),
                None => return Err((at, format!("function {name:?} not defined"))),
            },
            _ => {
                let pipe = self.deeper(|parser| parser.pipe(false))?;
                match self.next() {
                    Some(Token { kind: Kind::CloseBracket, .. }) => Base::Pipe(Box::new(pipe)),
                    _ => return Err((at, "unclosed left paren".to_owned())),
                }
            }
        };
        while let Some(Token { kind: Kind::Field(name), is_apart: false, .. }) = self.tokens.get(self.at) {
            fields.push(name.clone());
            self.at += 1;
        }
        if !fields.is_empty() && matches!(base, Base::Literal(_) | Base::Nil) {
            return Err((at, "unexpected . after a term that has no fields".to_owned()));
        }
        Ok(Some(Operand { at, base, fields }))
    }
}
