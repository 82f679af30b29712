//! PXELINUX: DEFAULT, UI, ONTIMEOUT, LABEL with KERNEL and APPEND, MENU DEFAULT.

use super::unattended::{Unattended, keyword};
use crate::boot::menu::unattended_argument;

#[derive(Debug, Default)]
struct Label {
    name: String,
    /// Lines of KERNEL (and its kin) and APPEND: their number and what they hand to the kernel.
    arguments: Vec<(usize, String)>,
    has_append: bool,
    is_menu_default: bool,
}

#[derive(Debug, Default)]
struct Menu {
    labels: Vec<Label>,
    /// APPEND before the first label: for labels without one of their own.
    append: Option<(usize, String)>,
    /// Values of DEFAULT and ONTIMEOUT, which name a label or are a command line of their own.
    starts: Vec<(usize, String)>,
    has_ui: bool,
}

pub(super) fn unattended_defaults(text: &str) -> Vec<Unattended> {
    let menu = read(text);
    let mut found = Vec::new();
    let mut is_named = false;
    for (line, start) in &menu.starts {
        match menu.labels.iter().find(|label| label.name.eq_ignore_ascii_case(start)) {
            Some(label) => {
                is_named = true;
                found.extend(unattended(label, &menu));
            }
            // A command line in the place of a label, such as `vmlinuz ks=...`.
            None => found.extend(unattended_argument(start).map(|argument| Unattended {
                line: *line,
                entry: start.clone(),
                argument: argument.to_owned(),
            })),
        }
    }
    let marked = menu.labels.iter().filter(|label| label.is_menu_default);
    found.extend(marked.filter_map(|label| unattended(label, &menu)));
    // The menu system begins at its first entry where nothing says otherwise.
    let is_marked = menu.labels.iter().any(|label| label.is_menu_default);
    if menu.has_ui && !is_named && !is_marked {
        found.extend(menu.labels.first().and_then(|label| unattended(label, &menu)));
    }
    found
}

fn read(text: &str) -> Menu {
    let mut menu = Menu::default();
    for (line, written) in (1..).zip(text.lines()) {
        let (word, rest) = keyword(written);
        match word.to_ascii_lowercase().as_str() {
            "label" => menu.labels.push(Label { name: rest.to_owned(), ..Label::default() }),
            "ui" => menu.has_ui = true,
            "default" if is_menu_program(rest) => menu.has_ui = true,
            "default" | "ontimeout" => menu.starts.push((line, rest.to_owned())),
            "append" => append(&mut menu, line, rest),
            "kernel" | "linux" | "boot" | "com32" => {
                if let Some(label) = menu.labels.last_mut() {
                    label.arguments.push((line, keyword(rest).1.to_owned()));
                }
            }
            "menu" if keyword(rest).0.eq_ignore_ascii_case("default") => {
                if let Some(label) = menu.labels.last_mut() {
                    label.is_menu_default = true;
                }
            }
            _ => {}
        }
    }
    menu
}

fn append(menu: &mut Menu, line: usize, rest: &str) {
    match menu.labels.last_mut() {
        Some(label) => {
            label.has_append = true;
            // `append -` is nothing, and keeps the common APPEND away too.
            label.arguments.push((line, rest.to_owned()));
        }
        None => menu.append = Some((line, rest.to_owned())),
    }
}

/// `DEFAULT vesamenu.c32`: a program that draws a menu, and no label.
fn is_menu_program(value: &str) -> bool {
    keyword(value).0.to_ascii_lowercase().ends_with("menu.c32")
}

fn unattended(label: &Label, menu: &Menu) -> Option<Unattended> {
    let common = menu.append.as_ref().filter(|_| !label.has_append);
    label.arguments.iter().chain(common).find_map(|(line, arguments)| {
        let argument = unattended_argument(arguments)?.to_owned();
        Some(Unattended { line: *line, entry: label.name.clone(), argument })
    })
}
