//! GRUB: `set default=` by number, title or id, `menuentry` with its `linux` line, and commands
//! outside any entry.

use super::unattended::Unattended;
use crate::boot::menu::unattended_argument;

/// An entry (or submenu) of the menu, or the commands outside of all.
#[derive(Debug, Default)]
struct Entry {
    title: String,
    id: Option<String>,
    /// The first line that starts a kernel without asking.
    unattended: Option<Unattended>,
}

/// What an open brace belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Entry,
    Other,
}

pub(super) fn unattended_defaults(text: &str) -> Vec<Unattended> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut outside = Entry { title: "(outside any entry)".to_owned(), ..Entry::default() };
    let mut defaults: Vec<String> = Vec::new();
    let mut blocks: Vec<Block> = Vec::new();
    for (line, written) in (1..).zip(text.lines()) {
        let words = words(written);
        let Some(first) = words.first().map(String::as_str) else { continue };
        let opens = words.last().is_some_and(|word| word == "{");
        match first {
            "menuentry" | "submenu" if opens => {
                // What a submenu holds is one step away from the default: the entry is the
                // submenu's.
                if !blocks.contains(&Block::Entry) {
                    entries.push(entry(&words));
                }
                blocks.push(Block::Entry);
            }
            "}" => drop(blocks.pop()),
            _ if opens => blocks.push(Block::Other),
            "set" => defaults.extend(
                words.get(1).and_then(|word| word.strip_prefix("default=")).map(str::to_owned),
            ),
            "linux" | "linuxefi" | "linux16" => {
                let inside = blocks.contains(&Block::Entry);
                let of = if inside { entries.last_mut() } else { Some(&mut outside) };
                if let Some(of) = of {
                    start(of, line, &words);
                }
            }
            _ => {}
        }
    }
    let mut found: Vec<Unattended> = outside.unattended.into_iter().collect();
    if defaults.is_empty() {
        defaults.push(String::new());
    }
    found.extend(
        defaults.iter().filter_map(|default| chosen(default, &entries)?.unattended.clone()),
    );
    found
}

fn entry(words: &[String]) -> Entry {
    let id = words.iter().position(|word| word == "--id" || word == "$menuentry_id_option");
    let id = id.and_then(|at| words.get(at + 1)).cloned();
    let id =
        id.or_else(|| words.iter().find_map(|word| word.strip_prefix("--id=")).map(str::to_owned));
    Entry { title: words.get(1).cloned().unwrap_or_default(), id, unattended: None }
}

fn start(entry: &mut Entry, line: usize, words: &[String]) {
    let arguments = words.get(2..).unwrap_or_default().join(" ");
    if let (None, Some(argument)) = (&entry.unattended, unattended_argument(&arguments)) {
        let argument = argument.to_owned();
        entry.unattended = Some(Unattended { line, entry: entry.title.clone(), argument });
    }
}

/// The entry that a value of `default` means; `1>0` is the first of the submenu 1. What cannot be
/// told (a variable) is the first one, as it is for GRUB where the variable is not set.
fn chosen<'e>(default: &str, entries: &'e [Entry]) -> Option<&'e Entry> {
    let default = default.split('>').next().unwrap_or_default();
    if let Ok(number) = default.parse::<usize>() {
        return entries.get(number);
    }
    let by_name =
        entries.iter().find(|entry| entry.id.as_deref() == Some(default) || entry.title == default);
    by_name.or_else(|| entries.first())
}

/// The words of a line, quotes taken away as GRUB's shell does; nothing after a comment sign.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    for character in line.chars() {
        match (quote, character) {
            (Some(open), _) if open == character => quote = None,
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, ' ' | '\t' | ';') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}
