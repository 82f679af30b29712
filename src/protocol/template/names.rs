//! Names that a template uses and nobody gives it, also where `default()` or `is defined` would
//! hide a slip of the pen.

use std::collections::HashSet;

use minijinja::machinery::{Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Template};

use super::vocabulary::VARIABLES;

/// What the engine gives inside of some statements.
const INSIDE: [&str; 5] = ["loop", "self", "super", "caller", "varargs"];

/// A name that is no variable, no function and nothing of the template's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub(super) name: String,
    /// In bytes of the source.
    pub(super) offset: usize,
}

/// The first such name.
pub(super) fn unknown(
    environment: &Environment<'_>,
    template: &Template<'_, '_>,
    syntax: SyntaxConfig,
) -> Option<Unknown> {
    let source = template.source();
    let mut names = template.undeclared_variables(false);
    names.retain(|name| !VARIABLES.contains(&name.as_str()) && !INSIDE.contains(&name.as_str()));
    if names.is_empty() {
        return None;
    }
    for (name, _) in environment.globals() {
        names.remove(name);
    }
    let words = Words::read(source, syntax);
    // What one block sets, another one may not see: the engine says so where it happens.
    names.retain(|name| !words.own.contains(name.as_str()));
    let first = words.used.iter().find(|(name, _)| names.contains(*name))?;
    Some(Unknown { name: first.0.to_owned(), offset: first.1 })
}

/// The words of a template.
#[derive(Default)]
struct Words<'s> {
    /// Names that are read or written, with their places.
    used: Vec<(&'s str, usize)>,
    /// Names that statements of the template make.
    own: HashSet<&'s str>,
}

/// What the names of the statement that is being read are for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// They are made, to the end: `macro f(x, y=1)`.
    Makes,
    /// They are made, to the `=` or `in`: `set x = 1`, `for x, y in z`.
    Begins,
    Uses,
}

impl Part {
    fn of(statement: &str) -> Self {
        match statement {
            "macro" | "call" | "import" | "from" => Self::Makes,
            "set" | "for" => Self::Begins,
            _ => Self::Uses,
        }
    }
}

impl<'s> Words<'s> {
    fn read(source: &'s str, syntax: SyntaxConfig) -> Self {
        let mut words = Self::default();
        let mut tokenizer = Tokenizer::new(source, "", false, syntax);
        let (mut part, mut is_first, mut is_attribute) = (Part::Uses, false, false);
        let mut last = None;
        while let Ok(Some((token, span))) = tokenizer.next_token() {
            match token {
                Token::Ident(statement) if is_first => part = Part::of(statement),
                Token::Ident("in") if part == Part::Begins => part = Part::Uses,
                Token::Ident(name) => {
                    if part != Part::Uses {
                        words.own.insert(name);
                    }
                    if !is_attribute {
                        words.used.push((name, span.start_offset as usize));
                    }
                    last = Some(name);
                }
                // `with x = 1`, and arguments by name.
                Token::Assign => {
                    words.own.extend(last);
                    part = if part == Part::Begins { Part::Uses } else { part };
                }
                Token::BlockEnd | Token::VariableEnd => part = Part::Uses,
                _ => {}
            }
            is_first = matches!(token, Token::BlockStart);
            is_attribute = matches!(token, Token::Dot);
        }
        words
    }
}
