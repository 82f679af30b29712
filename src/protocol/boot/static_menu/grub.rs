//! GRUB: `set default=` by number, title or id, `menuentry` with its `linux` line, and commands
//! outside any entry.

use super::unattended::UnattendedEntry;
use crate::boot::menu::find_unattended_argument;

/// An entry or submenu, or the commands outside of all entries.
#[derive(Debug, Default)]
struct GrubEntry {
    title: String,
    id: Option<String>,
    /// The first line that starts an unattended installation.
    unattended: Option<UnattendedEntry>,
}

/// The block that an open brace began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GrubBlock {
    Entry,
    Other,
}

pub(super) fn find_grub_defaults(text: &str) -> Vec<UnattendedEntry> {
    let mut entries: Vec<GrubEntry> = Vec::new();
    let mut outside = GrubEntry { title: "(outside any entry)".to_owned(), ..GrubEntry::default() };
    let mut defaults: Vec<String> = Vec::new();
    let mut blocks: Vec<GrubBlock> = Vec::new();
    for (line, written) in (1..).zip(text.lines()) {
        let words = split_grub_words(written);
        let Some(first) = words.first().map(String::as_str) else { continue };
        let opens = words.last().is_some_and(|word| word == "{");
        match first {
            "menuentry" | "submenu" if opens => {
                // The default may be an entry of a submenu: all of them count as the submenu.
                if !blocks.contains(&GrubBlock::Entry) {
                    entries.push(parse_grub_entry(&words));
                }
                blocks.push(GrubBlock::Entry);
            }
            "}" => drop(blocks.pop()),
            _ if opens => blocks.push(GrubBlock::Other),
            "set" => defaults.extend(
                words.get(1).and_then(|word| word.strip_prefix("default=")).map(str::to_owned),
            ),
            "linux" | "linuxefi" | "linux16" => {
                let inside = blocks.contains(&GrubBlock::Entry);
                let of = if inside { entries.last_mut() } else { Some(&mut outside) };
                if let Some(of) = of {
                    note_grub_kernel(of, line, &words);
                }
            }
            _ => {}
        }
    }
    let mut found: Vec<UnattendedEntry> = outside.unattended.into_iter().collect();
    if defaults.is_empty() {
        defaults.push(String::new());
    }
    found.extend(
        defaults
            .iter()
            .filter_map(|default| find_grub_default(default, &entries)?.unattended.clone()),
    );
    found
}

fn parse_grub_entry(words: &[String]) -> GrubEntry {
    let id = words.iter().position(|word| word == "--id" || word == "$menuentry_id_option");
    let id = id.and_then(|at| words.get(at + 1)).cloned();
    let id =
        id.or_else(|| words.iter().find_map(|word| word.strip_prefix("--id=")).map(str::to_owned));
    GrubEntry { title: words.get(1).cloned().unwrap_or_default(), id, unattended: None }
}

fn note_grub_kernel(entry: &mut GrubEntry, line: usize, words: &[String]) {
    let arguments = words.get(2..).unwrap_or_default().join(" ");
    if let (None, Some(argument)) = (&entry.unattended, find_unattended_argument(&arguments)) {
        let argument = argument.to_owned();
        entry.unattended = Some(UnattendedEntry { line, entry: entry.title.clone(), argument });
    }
}

/// The entry that a value of `default` names; `1>0` is the first of submenu 1. A variable counts as
/// the first entry, as in GRUB where the variable is not set.
fn find_grub_default<'e>(default: &str, entries: &'e [GrubEntry]) -> Option<&'e GrubEntry> {
    let default = default.split('>').next().unwrap_or_default();
    if let Ok(number) = default.parse::<usize>() {
        return entries.get(number);
    }
    let by_name =
        entries.iter().find(|entry| entry.id.as_deref() == Some(default) || entry.title == default);
    by_name.or_else(|| entries.first())
}

/// The words of a line, without quotation marks, as in GRUB's shell, and without a comment.
fn split_grub_words(line: &str) -> Vec<String> {
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
