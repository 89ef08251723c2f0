//! Go's text templates with the common functions of Sprig, as task files use them.
//!
//! What is not there prints as nothing, which is what the runner makes of Go's `<no value>`.

mod collections;
mod dates;
mod format;
mod functions;
mod lex;
mod parse;
mod run;
#[cfg(test)]
mod tests;
mod texts;
pub(crate) mod value;

pub use parse::MAX_TEMPLATE_DEPTH;
use postern_model::{Secret, Timestamp};
pub use run::{MAX_TEMPLATE_OUTPUT, MAX_TEMPLATE_WORK};
pub use value::{Text, Value};

use crate::place::{Place, TextError};

/// How long a template may be, in bytes.
pub const MAX_TEMPLATE_BYTES: usize = 256 * 1024;

/// What a template becomes.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// The text, with its secrets.
    pub text: String,
    /// Pieces of the text that are secret or made of something secret.
    pub secrets: Vec<Secret>,
}

/// Fills in a template. `now` is what the function of that name answers.
pub fn render(source: &str, data: &Value, now: Timestamp) -> Result<Rendered, TextError> {
    if source.len() > MAX_TEMPLATE_BYTES {
        return Err(TextError::new(format!("the text is longer than {MAX_TEMPLATE_BYTES} bytes")));
    }
    let place = |(at, problem): lex::Problem| TextError::at(Place::of(source, at), problem);
    let nodes = lex::tokens(source).and_then(|tokens| parse::parse(tokens, source.len())).map_err(place)?;
    let (text, secrets) = run::run(&nodes, data, now).map_err(place)?;
    Ok(Rendered { text, secrets: secrets.into_iter().map(Secret::new).collect() })
}

/// A moment in one of Go's layouts.
pub(crate) fn layout(layout: &str, moment: Timestamp) -> String {
    dates::layout(layout, moment).unwrap_or_default()
}

/// A value as JSON.
pub(crate) fn to_json(value: &Value) -> String {
    collections::to_json(value).to_string()
}

/// Whether a template can be read at all.
pub fn check(source: &str) -> Result<(), TextError> {
    lex::tokens(source)
        .and_then(|tokens| parse::parse(tokens, source.len()))
        .map(|_| ())
        .map_err(|(at, problem)| TextError::at(Place::of(source, at), problem))
}
