//! The text of a menu for the loader that asks: the part that all loaders share, and the choice of
//! the entry that starts by itself.

pub use self::screen::MenuRequest;
use self::screen::{MenuScreen, PLAIN_TITLE, is_u_boot};
use super::menu::{self, BootMenu, MenuEntry};
use super::names::MenuLoader;

mod grub;
mod ipxe;
mod pxelinux;
mod screen;

/// A menu, ready to be served, with the reasons for its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedMenu {
    /// The file, in the language of the loader.
    pub text: String,
    /// Which entries are left out, and which entry is the default, each with its reason.
    pub reasons: Vec<String>,
}

/// Renders a menu. Never fails: an entry that the loader's language cannot express safely is left
/// out, with a reason.
pub fn render_menu(menu: &BootMenu, ask: &MenuRequest<'_>) -> RenderedMenu {
    let mut reasons = Vec::new();
    let screen = build_menu_screen(menu, ask, &mut reasons);
    let text = match ask.loader {
        MenuLoader::Pxelinux => pxelinux::render_pxelinux_menu(&screen, ask),
        MenuLoader::Grub => grub::render_grub_menu(&screen, ask),
        MenuLoader::Ipxe => ipxe::render_ipxe_script(&screen, ask),
    };
    RenderedMenu { text, reasons }
}

/// The entries that this loader gets, and the one that starts by itself.
fn build_menu_screen<'a>(
    menu: &'a BootMenu,
    ask: &MenuRequest<'_>,
    reasons: &mut Vec<String>,
) -> MenuScreen<'a> {
    let mut entries: Vec<&MenuEntry> = Vec::new();
    for entry in &menu.entries {
        match find_exclusion_reason(entry, &entries, ask) {
            Some(reason) => reasons.push(format!("entry {:?} is left out: {reason}", entry.label)),
            None => entries.push(entry),
        }
    }

    // The start is an index into the entries that are left, so it is chosen after them.
    let start = choose_start_entry(menu, &entries, ask, reasons);

    // A fault in the title, a picture or the console costs that part alone, not the menu.
    MenuScreen {
        title: if menu::title_fault(&menu.title).is_none() { &menu.title } else { PLAIN_TITLE },
        entries,
        start,
        timeout_s: menu.timeout_s,
        background: menu.background.as_deref().filter(|path| menu::path_fault(path).is_none()),
        display: menu.display.as_deref().filter(|path| menu::path_fault(path).is_none()),
        console: menu.console.as_deref().filter(|console| menu::console_fault(console).is_none()),
    }
}

/// Why this loader must not get this entry; None if it may.
fn find_exclusion_reason(
    entry: &MenuEntry,
    before: &[&MenuEntry],
    ask: &MenuRequest<'_>,
) -> Option<String> {
    let mut taken = before.iter().map(|entry| entry.label.as_str()).chain([menu::LOCAL_LABEL]);
    if taken.any(|label| label.eq_ignore_ascii_case(&entry.label)) {
        return Some("its label is taken".to_owned());
    }
    let fault = find_text_fault(entry).or_else(|| find_file_fault(entry));
    if fault.is_some() || !is_u_boot(ask) || ask.loader != MenuLoader::Pxelinux {
        return fault;
    }
    pxelinux::u_boot_fault(entry, ask)
}

/// What is wrong with the label, the title or the arguments of an entry.
fn find_text_fault(entry: &MenuEntry) -> Option<String> {
    if let Some(fault) = menu::label_fault(&entry.label) {
        return Some(format!("its label {fault}"));
    }
    if let Some(fault) = menu::title_fault(&entry.title) {
        return Some(format!("its title {fault}"));
    }
    menu::arguments_fault(&entry.arguments).map(|fault| format!("its arguments {fault}"))
}

/// What is wrong with the kernel or the initrds of an entry.
fn find_file_fault(entry: &MenuEntry) -> Option<String> {
    let initrds = entry.initrds.iter().map(|initrd| ("initrd", initrd));
    for (what, location) in std::iter::once(("kernel", &entry.kernel)).chain(initrds) {
        if let Some(fault) = menu::location_fault(location) {
            return Some(format!("its {what} {fault}"));
        }
    }
    (entry.initrds.len() > menu::INITRDS_MAX).then(|| "it has too many initrds".to_owned())
}

/// The entry that starts by itself. This rule protects disks: the configured default starts only
/// where the subnet has `install-by-default`.
fn choose_start_entry(
    menu: &BootMenu,
    entries: &[&MenuEntry],
    ask: &MenuRequest<'_>,
    reasons: &mut Vec<String>,
) -> Option<usize> {
    let label = menu.default.as_deref()?;
    // An installer that starts by itself may erase a disk, so the operator must allow it.
    if !ask.install_by_default {
        reasons.push(format!(
            "the local disk is the default, not {label:?}: install-by-default is not set for this \
             machine"
        ));
        return None;
    }

    // This loader may not get the entry. Then no other entry takes its place.
    let Some(index) = entries.iter().position(|entry| entry.label == label) else {
        reasons.push(format!("the local disk is the default: this menu has no entry {label:?}"));
        return None;
    };

    let kind = match menu::find_entry_argument(entries[index]) {
        Some(argument) => format!("and installs unattended ({argument})"),
        None => "and asks a person before it installs anything".to_owned(),
    };
    reasons.push(format!("entry {label:?} starts by itself, by install-by-default, {kind}"));
    Some(index)
}

#[cfg(test)]
mod tests;
