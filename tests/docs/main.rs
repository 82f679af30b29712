//! What the pages tell to type is typed, what they show is printed, and their links lead somewhere.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../common/mod.rs"]
mod common;

mod blocks;
mod configurations;
mod links;
mod shape;
mod stories;

use blocks::{Block, Order, blocks_of};

/// Pages for users, from the top of the repository.
fn pages() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<PathBuf> =
        ["README.md", "CHANGELOG.md", "benches/peers/README.md"].map(PathBuf::from).into();
    for entry in fs::read_dir(top.join("docs")).unwrap() {
        let name = entry.unwrap().file_name();
        if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
            found.push(Path::new("docs").join(name));
        }
    }
    found.sort();
    found
}

fn all_blocks() -> Vec<Block> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |page: PathBuf| {
        blocks_of(&page.display().to_string(), &fs::read_to_string(top.join(&page)).unwrap())
    };
    pages().into_iter().flat_map(read).collect()
}

/// The blocks that a page gives to a story.
fn blocks_named(story: &str) -> Vec<Block> {
    let of_it = |block: &Block| matches!(&block.order, Order::Run(name) if name == story);
    let found: Vec<Block> = all_blocks().into_iter().filter(of_it).collect();
    assert!(!found.is_empty(), "no page has a block for the story `{story}`");
    found
}

#[test]
fn every_block_is_run_or_says_why_not() {
    let mut wrong = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    let blocks = all_blocks();
    assert!(blocks.len() > 30, "{} blocks: are the pages where they were?", blocks.len());
    for block in &blocks {
        match &block.order {
            Order::Run(name) if stories::named(name).is_some() => told.push(name),
            Order::Run(name) => wrong.push(format!("{block}: tests/docs has no story `{name}`")),
            Order::NotRun(why) if why.split_whitespace().count() < 4 => {
                wrong.push(format!("{block}: {why:?} is no reason"))
            }
            Order::NotRun(_) => {}
            Order::ByLanguage if block.language == "toml" => {}
            Order::ByLanguage => wrong.push(format!(
                "{block}: write `<!-- run: STORY -->` on the line before it, or `<!-- not run: why \
                 -->`"
            )),
        }
    }
    let untold = stories::STORIES.iter().filter(|(name, _)| !told.contains(name));
    wrong.extend(untold.map(|(name, _)| format!("no page has a block for the story `{name}`")));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
