//! PXELINUX: DEFAULT, UI, ONTIMEOUT, LABEL with KERNEL and APPEND, MENU DEFAULT.

use super::unattended::{UnattendedEntry, split_keyword};
use crate::boot::menu::find_unattended_argument;

#[derive(Debug, Default)]
struct PxelinuxLabel {
    name: String,
    /// Lines of KERNEL (or its synonyms) and APPEND: their numbers, and the arguments in them.
    arguments: Vec<(usize, String)>,
    has_append: bool,
    is_menu_default: bool,
}

#[derive(Debug, Default)]
struct PxelinuxMenu {
    labels: Vec<PxelinuxLabel>,
    /// APPEND before the first label, which applies to labels without their own.
    append: Option<(usize, String)>,
    /// Values of DEFAULT and ONTIMEOUT: a label, or a command line.
    starts: Vec<(usize, String)>,
    has_ui: bool,
}

pub(super) fn find_pxelinux_defaults(text: &str) -> Vec<UnattendedEntry> {
    let menu = parse_pxelinux_menu(text);
    let mut found = Vec::new();
    let mut is_named = false;
    for (line, start) in &menu.starts {
        match menu.labels.iter().find(|label| label.name.eq_ignore_ascii_case(start)) {
            Some(label) => {
                is_named = true;
                found.extend(find_label_argument(label, &menu));
            }
            // A command line in place of a label, such as `vmlinuz ks=...`.
            None => found.extend(find_unattended_argument(start).map(|argument| UnattendedEntry {
                line: *line,
                entry: start.clone(),
                argument: argument.to_owned(),
            })),
        }
    }
    let marked = menu.labels.iter().filter(|label| label.is_menu_default);
    found.extend(marked.filter_map(|label| find_label_argument(label, &menu)));
    // A menu program starts its first entry where no label is marked or named.
    let is_marked = menu.labels.iter().any(|label| label.is_menu_default);
    if menu.has_ui && !is_named && !is_marked {
        found.extend(menu.labels.first().and_then(|label| find_label_argument(label, &menu)));
    }
    found
}

fn parse_pxelinux_menu(text: &str) -> PxelinuxMenu {
    let mut menu = PxelinuxMenu::default();
    for (line, written) in (1..).zip(text.lines()) {
        let (word, rest) = split_keyword(written);
        // PXELINUX reads its keywords without regard to case.
        match word.to_ascii_lowercase().as_str() {
            "label" => menu
                .labels
                .push(PxelinuxLabel { name: rest.to_owned(), ..PxelinuxLabel::default() }),
            "ui" => menu.has_ui = true,
            // DEFAULT with a menu program starts the menu, and the menu chooses the entry.
            "default" if is_menu_program(rest) => menu.has_ui = true,
            "default" | "ontimeout" => menu.starts.push((line, rest.to_owned())),
            "append" => note_pxelinux_append(&mut menu, line, rest),
            "kernel" | "linux" | "boot" | "com32" => {
                if let Some(label) = menu.labels.last_mut() {
                    label.arguments.push((line, split_keyword(rest).1.to_owned()));
                }
            }
            "menu" if split_keyword(rest).0.eq_ignore_ascii_case("default") => {
                if let Some(label) = menu.labels.last_mut() {
                    label.is_menu_default = true;
                }
            }
            _ => {}
        }
    }
    menu
}

fn note_pxelinux_append(menu: &mut PxelinuxMenu, line: usize, rest: &str) {
    match menu.labels.last_mut() {
        Some(label) => {
            label.has_append = true;
            // `append -` is empty, and overrides the common APPEND too.
            label.arguments.push((line, rest.to_owned()));
        }
        None => menu.append = Some((line, rest.to_owned())),
    }
}

/// True for a program that draws a menu, as in `DEFAULT vesamenu.c32`.
fn is_menu_program(value: &str) -> bool {
    split_keyword(value).0.to_ascii_lowercase().ends_with("menu.c32")
}

fn find_label_argument(label: &PxelinuxLabel, menu: &PxelinuxMenu) -> Option<UnattendedEntry> {
    let common = menu.append.as_ref().filter(|_| !label.has_append);
    label.arguments.iter().chain(common).find_map(|(line, arguments)| {
        let argument = find_unattended_argument(arguments)?.to_owned();
        Some(UnattendedEntry { line: *line, entry: label.name.clone(), argument })
    })
}
