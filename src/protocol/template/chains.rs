//! Refuses a template whose syntax tree would be too deep, before the engine builds the tree and
//! walks it by recursion.
//!
//! The engine limits how deep brackets and blocks nest. It does not limit chains: each `elif` is
//! inside the one before it, and so is each operand of `a ~ b ~ c`. This file counts the tokens of
//! the engine's own tokenizer, so that strings, comments and raw blocks do not count.

use minijinja::machinery::{Token, Tokenizer};
use minijinja::syntax::SyntaxConfig;

/// Tokens in one chain of an expression, and `elif`s in one `if`. The engine needs about 1 KiB of
/// stack for each.
pub(super) const CHAIN_MAX: usize = 10_000;

/// A chain that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChainTooLong {
    /// Where the chain becomes too long, in bytes of the source.
    pub(super) offset: usize,
    pub(super) kind: ChainKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChainKind {
    Elif,
    Expression,
}

/// Finds the first chain of more than [`CHAIN_MAX`] links. Each link is a token of a byte or more,
/// so a source of fewer bytes has no such chain: most answer files need no second pass.
pub(super) fn find_long_chain(source: &str, syntax: SyntaxConfig) -> Option<ChainTooLong> {
    if source.len() < CHAIN_MAX {
        return None;
    }
    let mut tokenizer = Tokenizer::new(source, "", false, syntax);
    let mut expression = ExpressionDepth::default();
    let mut branches = BranchDepth::default();
    let mut is_first = false;
    // If the tokenizer fails, the engine gets no further either.
    while let Ok(Some((token, span))) = tokenizer.next_token() {
        let was_first = std::mem::replace(&mut is_first, matches!(token, Token::BlockStart));
        match token {
            Token::VariableStart | Token::BlockStart => expression = ExpressionDepth::default(),
            Token::Ident(statement) if was_first => branches.statement(statement),
            Token::TemplateData(_) | Token::VariableEnd | Token::BlockEnd => {}
            token => expression.token(&token),
        }
        let kind = match (branches.depth > CHAIN_MAX, expression.depth() > CHAIN_MAX) {
            (true, _) => ChainKind::Elif,
            (false, true) => ChainKind::Expression,
            (false, false) => continue,
        };
        return Some(ChainTooLong { offset: span.start_offset as usize, kind });
    }
    None
}

/// How deep the branches of the open `if`s nest.
#[derive(Debug, Default)]
struct BranchDepth {
    /// Number of `elif`s of each open `if`.
    open: Vec<usize>,
    depth: usize,
}

impl BranchDepth {
    fn statement(&mut self, statement: &str) {
        match statement {
            "if" => self.open.push(0),
            "elif" => {
                self.depth += 1;
                self.open.iter_mut().next_back().into_iter().for_each(|elifs| *elifs += 1);
            }
            "endif" => self.depth -= self.open.pop().unwrap_or(0),
            _ => {}
        }
    }
}

/// An upper bound for the depth of an expression's tree: each token is at most one level.
#[derive(Debug)]
struct ExpressionDepth {
    /// The open brackets, the innermost last; the first entry is the level outside all brackets.
    brackets: Vec<OpenBracket>,
    /// Levels around the next token: the chains of all brackets, and the brackets.
    around: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct OpenBracket {
    /// Tokens since the last comma or colon, which separate expressions.
    chain: usize,
    /// The deepest bracket in that chain.
    inside: usize,
    /// The depth of the deepest expression before.
    deepest: usize,
}

impl OpenBracket {
    fn depth(&self) -> usize {
        self.deepest.max(self.chain + self.inside)
    }
}

impl Default for ExpressionDepth {
    fn default() -> Self {
        Self { brackets: vec![OpenBracket::default()], around: 1 }
    }
}

impl ExpressionDepth {
    fn token(&mut self, token: &Token<'_>) {
        match token {
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => {
                self.brackets.push(OpenBracket::default());
                self.around += 1;
            }
            // A closed bracket is one link of the chain around it, with its own depth inside.
            Token::BracketClose | Token::ParenClose | Token::BraceClose
                if self.brackets.len() > 1 =>
            {
                let closed = self.brackets.pop().unwrap_or_default();
                self.around -= closed.chain + 1;
                self.link(closed.depth());
            }
            // The expressions of a list stand beside each other, so only the deepest counts.
            Token::Comma | Token::Colon => {
                if let Some(bracket) = self.brackets.last_mut() {
                    self.around -= bracket.chain;
                    *bracket = OpenBracket { deepest: bracket.depth(), ..OpenBracket::default() };
                }
            }
            _ => self.link(0),
        }
    }

    /// Adds one token to the chain, with an expression of this depth inside it.
    fn link(&mut self, inside: usize) {
        if let Some(bracket) = self.brackets.last_mut() {
            bracket.chain += 1;
            bracket.inside = bracket.inside.max(inside);
            self.around += 1;
        }
    }

    fn depth(&self) -> usize {
        self.around + self.brackets.last().map_or(0, |bracket| bracket.inside)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const N: usize = CHAIN_MAX + 1;

    fn kind(source: &str) -> Option<ChainKind> {
        find_long_chain(source, SyntaxConfig::default()).map(|long| long.kind)
    }

    #[test]
    fn every_chain_that_the_engine_does_not_bound_is_too_long_with_enough_links() {
        let prefixed = |link: &str| format!("{{{{ {}1 }}}}", link.repeat(N));
        let suffixed = |link: &str| format!("{{{{ ip{} }}}}", link.repeat(N));
        for source in [
            prefixed("not "),
            prefixed("-"),
            prefixed("("),
            prefixed("not ["),
            prefixed("1 if 0 else "),
            suffixed(" ~ ip"),
            suffixed(" or ip"),
            suffixed("**2"),
            suffixed("|upper"),
            suffixed(".a"),
            suffixed("[0]"),
            suffixed("[0:]"),
            suffixed("()"),
            suffixed(" is none"),
            suffixed(" if ip"),
            format!("{{% set x {} %}}a{{% endset %}}", "|upper".repeat(N)),
            format!("{{% filter upper {} %}}a{{% endfilter %}}", "|upper".repeat(N)),
            format!("{{% for {}a{} in x %}}{{% endfor %}}", "(".repeat(N), ")".repeat(N)),
            // Deep in one bracket, which then hangs deep in a chain.
            format!("{{{{ ([a{}]{}) }}}}", "~a".repeat(N / 4 + 1), ".a".repeat(N / 4 + 1)),
        ] {
            assert_eq!(kind(&source), Some(ChainKind::Expression), "{}", &source[..40]);
        }
        let elifs = format!("\n{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(N));
        let found = find_long_chain(&elifs, SyntaxConfig::default()).unwrap();
        assert_eq!(found.kind, ChainKind::Elif);
        assert!(elifs[found.offset..].starts_with("elif"));
        let nested = format!("{{% if a %}}{}", "{% elif a %}".repeat(N / 2)).repeat(3);
        assert_eq!(kind(&nested), Some(ChainKind::Elif));
    }

    #[test]
    fn a_source_that_is_not_read_has_no_chain_that_is_too_long() {
        let ends =
            |links: usize, link: &str, rest: &str| format!("{{{{{}{rest}}}}}", link.repeat(links));
        for (link, rest) in [("-", "1"), ("(", "")] {
            // One byte for each link: nothing is denser.
            let most = ends(CHAIN_MAX - "{{}}".len() - rest.len(), link, rest);
            assert_eq!((most.len(), kind(&most)), (CHAIN_MAX, None));
            assert_eq!(kind(&ends(CHAIN_MAX, link, rest)), Some(ChainKind::Expression));
        }
    }

    #[test]
    fn what_is_long_without_being_deep_is_fine() {
        for source in [
            "{{ ip }}".repeat(N),
            "{% if a %}{% elif b %}{% endif %}".repeat(N),
            format!("{{% set hosts = {{ {} }} %}}", "\"10.0.0.1\": [\"a\", 1],".repeat(N)),
            format!("{{{{ ip }}}}{{# {} #}}", "not ".repeat(N)),
            format!("{{% raw %}}{}{{% endraw %}}", "{% elif a %}".repeat(N)),
            format!("{{{{ \"{}\" }}}}", "(".repeat(N)),
            format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(N - 1)),
            "))))}}".repeat(N),
        ] {
            assert_eq!(kind(&source), None, "{}", &source[..20]);
        }
    }
}
