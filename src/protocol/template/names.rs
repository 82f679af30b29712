//! Finds names in a template that nothing defines, also where `default()` or `is defined` would
//! hide a typing error.

use std::collections::HashSet;

use minijinja::machinery::{Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Template};

use super::vocabulary::VARIABLES;

/// Names that the engine defines inside some statements.
const INSIDE: [&str; 5] = ["loop", "self", "super", "caller", "varargs"];

/// A name that is no variable, no function, and not defined by the template itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnknownName {
    pub(super) name: String,
    /// Position in the source, bytes.
    pub(super) offset: usize,
}

/// Finds the first unknown name.
pub(super) fn find_unknown_name(
    environment: &Environment<'_>,
    template: &Template<'_, '_>,
    syntax: SyntaxConfig,
) -> Option<UnknownName> {
    let source = template.source();
    let mut names = template.undeclared_variables(false);
    names.retain(|name| !VARIABLES.contains(&name.as_str()) && !INSIDE.contains(&name.as_str()));
    if names.is_empty() {
        return None;
    }
    for (name, _) in environment.globals() {
        names.remove(name);
    }
    let words = TemplateWords::read(source, syntax);
    // One block may not see a name that another one sets: the engine reports that when it renders.
    names.retain(|name| !words.own.contains(name.as_str()));
    let first = words.used.iter().find(|(name, _)| names.contains(*name))?;
    Some(UnknownName { name: first.0.to_owned(), offset: first.1 })
}

/// The names in a template.
#[derive(Default)]
struct TemplateWords<'s> {
    /// Names that the template reads or writes, with their positions.
    used: Vec<(&'s str, usize)>,
    /// Names that statements of the template define.
    own: HashSet<&'s str>,
}

/// The purpose of the names in the current statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NamePurpose {
    /// The statement defines all its names: `macro f(x, y=1)`.
    Makes,
    /// The statement defines the names before `=` or `in`: `set x = 1`, `for x, y in z`.
    Begins,
    Uses,
}

impl NamePurpose {
    fn of(statement: &str) -> Self {
        match statement {
            "macro" | "call" | "import" | "from" => Self::Makes,
            "set" | "for" => Self::Begins,
            _ => Self::Uses,
        }
    }
}

impl<'s> TemplateWords<'s> {
    fn read(source: &'s str, syntax: SyntaxConfig) -> Self {
        let mut words = Self::default();
        let mut tokenizer = Tokenizer::new(source, "", false, syntax);
        let (mut part, mut is_first, mut is_attribute) = (NamePurpose::Uses, false, false);
        let mut last = None;
        while let Ok(Some((token, span))) = tokenizer.next_token() {
            match token {
                Token::Ident(statement) if is_first => part = NamePurpose::of(statement),
                Token::Ident("in") if part == NamePurpose::Begins => part = NamePurpose::Uses,
                Token::Ident(name) => {
                    if part != NamePurpose::Uses {
                        words.own.insert(name);
                    }
                    if !is_attribute {
                        words.used.push((name, span.start_offset as usize));
                    }
                    last = Some(name);
                }
                // `with x = 1`, and keyword arguments.
                Token::Assign => {
                    words.own.extend(last);
                    part = if part == NamePurpose::Begins { NamePurpose::Uses } else { part };
                }
                Token::BlockEnd | Token::VariableEnd => part = NamePurpose::Uses,
                _ => {}
            }
            is_first = matches!(token, Token::BlockStart);
            is_attribute = matches!(token, Token::Dot);
        }
        words
    }
}
