use super::value::Value;

/// A piece of a template, with the byte that it begins at.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
    /// Whether there is a gap before it.
    pub(super) is_apart: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Outside of `{{…}}`.
    Plain(String),
    Open,
    Close,
    /// `.name`
    Field(String),
    Dot,
    /// `$` or `$name`
    Variable(String),
    /// A function or a word of the language.
    Word(String),
    Literal(Value),
    OpenBracket,
    CloseBracket,
    Pipe,
    Comma,
    Declare,
    Assign,
}

impl Kind {
    pub(super) fn name(&self) -> String {
        match self {
            Self::Plain(_) | Self::Open | Self::Close => "the end of the action".to_owned(),
            Self::Field(name) => format!("<.{name}>"),
            Self::Variable(name) | Self::Word(name) => format!("<{name}>"),
            Self::Dot => "<.>".to_owned(),
            Self::Literal(value) => format!("<{}>", value.show()),
            Self::OpenBracket => "<(>".to_owned(),
            Self::CloseBracket => "<)>".to_owned(),
            Self::Pipe => "<|>".to_owned(),
            Self::Comma => "<,>".to_owned(),
            Self::Declare => "<:=>".to_owned(),
            Self::Assign => "<=>".to_owned(),
        }
    }
}

/// What is wrong, at which byte.
pub(super) type Problem = (usize, String);

/// Cuts a template into its pieces.
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, Problem> {
    let mut lexer = Lexer { source, at: 0, found: Vec::new() };
    lexer.run()?;
    Ok(lexer.found)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    found: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn add(&mut self, at: usize, kind: Kind, is_apart: bool) {
        self.found.push(Token { at, kind, is_apart });
    }

    fn run(&mut self) -> Result<(), Problem> {
        let mut is_trimmed = false;
        loop {
            let rest = self.rest();
            let start = self.at;
            let Some(length) = rest.find("{{") else {
                self.plain(start, rest, is_trimmed, false);
                return Ok(());
            };
            let text = rest.get(..length).unwrap_or_default();
            self.at += length + 2;
            let action = self.at - 2;
            let trims = self.rest().starts_with('-') && self.rest().chars().nth(1).is_some_and(is_space);
            self.plain(start, text, is_trimmed, trims);
            self.at += usize::from(trims);
            is_trimmed = self.action(action)?;
        }
    }

    fn plain(&mut self, at: usize, text: &str, trims_start: bool, trims_end: bool) {
        let text = if trims_start { text.trim_start_matches(is_space) } else { text };
        let text = if trims_end { text.trim_end_matches(is_space) } else { text };
        if !text.is_empty() {
            self.add(at, Kind::Plain(text.to_owned()), false);
        }
    }

    /// Up to `}}`; true if what follows is to be trimmed.
    fn action(&mut self, start: usize) -> Result<bool, Problem> {
        let before = self.rest();
        let inner = before.trim_start_matches(is_space);
        if inner.starts_with("/*") {
            return self.comment(start, inner.len());
        }
        self.add(start, Kind::Open, false);
        let mut is_apart = true;
        let mut depth = 0_usize;
        loop {
            let rest = self.rest();
            let gap = rest.len() - rest.trim_start_matches(is_space).len();
            if gap > 0 {
                self.at += gap;
                is_apart = true;
                if self.rest().starts_with("-}}") {
                    let at = self.at;
                    self.at += 3;
                    return self.close(at, depth, true);
                }
                continue;
            }
            if rest.starts_with("}}") {
                let at = self.at;
                self.at += 2;
                return self.close(at, depth, false);
            }
            let Some(first) = rest.chars().next() else {
                return Err((start, "unclosed action".to_owned()));
            };
            match first {
                '(' => depth += 1,
                ')' if depth == 0 => return Err((self.at, "unexpected right paren".to_owned())),
                ')' => depth -= 1,
                _ => {}
            }
            let at = self.at;
            let kind = self.piece(first)?;
            self.add(at, kind, is_apart);
            is_apart = false;
        }
    }

    fn close(&mut self, at: usize, depth: usize, trims: bool) -> Result<bool, Problem> {
        if depth > 0 {
            return Err((at, "unclosed left paren".to_owned()));
        }
        self.add(at, Kind::Close, true);
        Ok(trims)
    }

    fn comment(&mut self, start: usize, length: usize) -> Result<bool, Problem> {
        self.at = self.source.len() - length;
        let Some(end) = self.rest().find("*/") else { return Err((start, "unclosed comment".to_owned())) };
        self.at += end + 2;
        let rest = self.rest();
        let gap = rest.len() - rest.trim_start_matches(is_space).len();
        let after = rest.get(gap..).unwrap_or_default();
        if gap > 0 && after.starts_with("-}}") {
            self.at += gap + 3;
            return Ok(true);
        }
        if rest.starts_with("}}") {
            self.at += 2;
            return Ok(false);
        }
        Err((start, "comment ends before closing delimiter".to_owned()))
    }

    fn piece(&mut self, first: char) -> Result<Kind, Problem> {
        let rest = self.rest();
        let single = match first {
            '(' => Some(Kind::OpenBracket),
            ')' => Some(Kind::CloseBracket),
            '|' => Some(Kind::Pipe),
            ',' => Some(Kind::Comma),
            '=' => Some(Kind::Assign),
            _ => None,
        };
        if let Some(kind) = single {
            self.at += 1;
            return Ok(kind);
        }
        let next = rest.chars().nth(1);
        match first {
            ':' if next == Some('=') => {
                self.at += 2;
                Ok(Kind::Declare)
            }
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => self.character(),
            '.' if next.is_some_and(is_word_start) => {
                self.at += 1;
                Ok(Kind::Field(self.word()))
            }
            '.' if !next.is_some_and(|next| next.is_ascii_digit()) => {
                self.at += 1;
                Ok(Kind::Dot)
            }
            '$' => {
                self.at += 1;
                Ok(Kind::Variable(format!("${}", self.word())))
            }
            '+' | '-' | '.' | '0'..='9' => self.number(),
            _ if is_word_start(first) => {
                let word = self.word();
                Ok(match word.as_str() {
                    "true" => Kind::Literal(Value::Bool(true)),
                    "false" => Kind::Literal(Value::Bool(false)),
                    _ => Kind::Word(word),
                })
            }
            _ => Err((self.at, format!("unexpected {first:?}"))),
        }
    }

    fn word(&mut self) -> String {
        let word: String = self.rest().chars().take_while(|next| is_word(*next)).collect();
        self.at += word.len();
        word
    }

    fn raw(&mut self) -> Result<Kind, Problem> {
        let start = self.at;
        let inner = self.rest().get(1..).unwrap_or_default();
        let Some(end) = inner.find('`') else { return Err((start, "unterminated raw quoted string".to_owned())) };
        self.at += end + 2;
        Ok(Kind::Literal(Value::text(inner.get(..end).unwrap_or_default())))
    }

    fn quoted(&mut self) -> Result<Kind, Problem> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(next) = self.rest().chars().next().filter(|next| *next != '\n') else {
                return Err((start, "unterminated quoted string".to_owned()));
            };
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(Kind::Literal(Value::text(text))),
                '\\' => text.push(self.escape()?),
                _ => text.push(next),
            }
        }
    }

    fn character(&mut self) -> Result<Kind, Problem> {
        let start = self.at;
        self.at += 1;
        let problem = || (start, "malformed character constant".to_owned());
        let mut next = self.rest().chars().next().ok_or_else(problem)?;
        self.at += next.len_utf8();
        if next == '\\' {
            next = self.escape()?;
        }
        if !self.rest().starts_with('\'') {
            return Err(problem());
        }
        self.at += 1;
        Ok(Kind::Literal(Value::Int(i64::from(u32::from(next)))))
    }

    fn escape(&mut self) -> Result<char, Problem> {
        let at = self.at - 1;
        let problem = || (at, "unknown escape sequence".to_owned());
        let next = self.rest().chars().next().ok_or_else(problem)?;
        self.at += next.len_utf8();
        let digits = match next {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            '0' => return Ok('\0'),
            '\\' | '"' | '\'' => return Ok(next),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(problem()),
        };
        let text = self.rest().get(..digits).ok_or_else(problem)?;
        self.at += digits;
        u32::from_str_radix(text, 16).ok().and_then(char::from_u32).ok_or_else(problem)
    }

    fn number(&mut self) -> Result<Kind, Problem> {
        let start = self.at;
        let text: String = self
            .rest()
            .char_indices()
            .take_while(|(index, next)| {
                next.is_ascii_alphanumeric()
                    || *next == '.'
                    || *next == '_'
                    || (matches!(next, '+' | '-') && is_signed(self.rest(), *index))
            })
            .map(|(_, next)| next)
            .collect();
        self.at += text.len();
        if let Some(number) = super::value::integer(&text) {
            return Ok(Kind::Literal(Value::Int(number)));
        }
        let is_float = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        match text.parse() {
            Ok(number) if is_float => Ok(Kind::Literal(Value::Float(number))),
            _ => Err((start, format!("bad number syntax: {text:?}"))),
        }
    }
}

/// Whether a sign at this byte belongs to the number: at its begin or after its exponent.
fn is_signed(text: &str, index: usize) -> bool {
    index == 0 || text.get(..index).is_some_and(|before| before.ends_with(['e', 'E']) && !before.starts_with("0x"))
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

fn is_word_start(character: char) -> bool {
    character == '_' || character.is_alphabetic()
}

fn is_word(character: char) -> bool {
    character == '_' || character.is_alphanumeric()
}
