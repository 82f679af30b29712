//! The fenced blocks of a page of Markdown, each with what the page says of running it.

use std::fmt;

/// One fenced block.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The page, from the top of the repository.
    pub page: String,
    /// The line of the fence.
    pub line: usize,
    /// What stands behind the fence: `sh`, `toml`, `console`, ... or nothing.
    pub language: String,
    pub text: String,
    pub order: Order,
}

/// What the comment before a block says: `<!-- run: NAME -->`, or `<!-- not run: why -->`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// As blocks of its language are run.
    ByLanguage,
    /// In the world of that name.
    Run(String),
    /// Not at all, for that reason.
    NotRun(String),
}

impl fmt::Display for Block {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.page, self.line)
    }
}

/// All blocks of a page. A fence that nobody closes ends with the page, and is found by its missing
/// text.
pub(crate) fn blocks_of(page: &str, markdown: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    let mut order = Order::ByLanguage;
    for (number, line) in markdown.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (&mut open, fence) {
            (None, Some(language)) => {
                let order = std::mem::replace(&mut order, Order::ByLanguage);
                let (page, language) = (page.to_owned(), language.trim().to_owned());
                open = Some(Block { page, line: number + 1, language, text: String::new(), order });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) if !line.trim().is_empty() => order = order_of(line),
            (None, None) => {}
        }
    }
    assert!(
        open.is_none(),
        "{page}: the block at line {} is not closed",
        open.map_or(0, |block| block.line)
    );
    found
}

fn order_of(line: &str) -> Order {
    let comment =
        line.trim().strip_prefix("<!--").and_then(|rest| rest.strip_suffix("-->")).map(str::trim);
    let said = |prefix| {
        comment.and_then(|text: &str| text.strip_prefix(prefix)).map(|text| text.trim().to_owned())
    };
    match (said("run:"), said("not run:")) {
        (Some(name), _) => Order::Run(name),
        (None, Some(why)) => Order::NotRun(why),
        (None, None) => Order::ByLanguage,
    }
}

/// A command of a `console` block with the lines that it prints.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    pub command: String,
    pub printed: Vec<String>,
}

/// The commands of a block, each a line that begins with `$ `.
pub(crate) fn exchanges_of(text: &str) -> Vec<Exchange> {
    let mut found: Vec<Exchange> = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => {
                found.push(Exchange { command: command.to_owned(), printed: Vec::new() })
            }
            (None, Some(last)) => last.printed.push(line.to_owned()),
            (None, None) => panic!(
                "a block of output without its command, a line that begins with `$ `: {line}"
            ),
        }
    }
    found
}

#[test]
fn a_block_has_its_language_and_its_order() {
    let page = "text\n<!-- run: rack -->\n```sh\nls\n```\n<!-- not run: why \
                -->\n\n```\nx\n```\nmore\n```toml\na = 1\n```\n";
    let found = blocks_of("p.md", page);
    let orders: Vec<_> = found
        .iter()
        .map(|block| (block.line, block.language.as_str(), block.order.clone()))
        .collect();
    let expected = [
        (3, "sh", Order::Run("rack".into())),
        (8, "", Order::NotRun("why".into())),
        (12, "toml", Order::ByLanguage),
    ];
    assert_eq!(orders, expected);
    assert_eq!(found[2].text, "a = 1\n");
}

#[test]
fn a_console_block_falls_into_commands_with_what_they_print() {
    let found = exchanges_of("$ a b\none\ntwo\n$ c\n");
    assert_eq!(
        found[0],
        Exchange { command: "a b".into(), printed: vec!["one".into(), "two".into()] }
    );
    assert_eq!(found[1], Exchange { command: "c".into(), printed: Vec::new() });
}
