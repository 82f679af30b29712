//! The text of a menu for the loader that asks: what all have in common, and the choice of what
//! starts by itself.

pub use self::screen::Ask;
use self::screen::{PLAIN_TITLE, Screen, is_u_boot};
use super::menu::{self, Entry, Menu};
use super::names::Loader;

mod grub;
mod ipxe;
mod pxelinux;
mod screen;

/// A menu ready to be served, and why it is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    pub reasons: Vec<String>,
}

/// Renders a menu. Total: an entry that cannot be said safely is left out with a reason, whatever
/// its text is.
pub fn render(menu: &Menu, ask: &Ask<'_>) -> Rendered {
    let mut reasons = Vec::new();
    let screen = screen(menu, ask, &mut reasons);
    let text = match ask.loader {
        Loader::Pxelinux => pxelinux::text(&screen, ask),
        Loader::Grub => grub::text(&screen, ask),
        Loader::Ipxe => ipxe::text(&screen, ask),
    };
    Rendered { text, reasons }
}

/// Which entries this loader gets, and which of them starts by itself.
fn screen<'a>(menu: &'a Menu, ask: &Ask<'_>, reasons: &mut Vec<String>) -> Screen<'a> {
    let mut entries: Vec<&Entry> = Vec::new();
    for entry in &menu.entries {
        match left_out(entry, &entries, ask) {
            Some(reason) => reasons.push(format!("entry {:?} is left out: {reason}", entry.label)),
            None => entries.push(entry),
        }
    }
    let start = start(menu, &entries, ask, reasons);
    Screen {
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
fn left_out(entry: &Entry, before: &[&Entry], ask: &Ask<'_>) -> Option<String> {
    let mut taken = before.iter().map(|entry| entry.label.as_str()).chain([menu::LOCAL_LABEL]);
    if taken.any(|label| label.eq_ignore_ascii_case(&entry.label)) {
        return Some("its label is taken".to_owned());
    }
    let located = |what: &str, location: &str| {
        menu::location_fault(location).map(|fault| format!("its {what} {fault}"))
    };
    let fault = menu::label_fault(&entry.label)
        .map(|fault| format!("its label {fault}"))
        .or_else(|| menu::title_fault(&entry.title).map(|fault| format!("its title {fault}")))
        .or_else(|| {
            menu::arguments_fault(&entry.arguments).map(|fault| format!("its arguments {fault}"))
        })
        .or_else(|| located("kernel", &entry.kernel))
        .or_else(|| entry.initrds.iter().find_map(|initrd| located("initrd", initrd)))
        .or_else(|| {
            (entry.initrds.len() > menu::INITRDS_MAX).then(|| "it has too many initrds".to_owned())
        });
    if fault.is_some() || !is_u_boot(ask) || ask.loader != Loader::Pxelinux {
        return fault;
    }
    pxelinux::u_boot_fault(entry, ask)
}

/// The rule that keeps disks whole: what an operator names as default starts by itself only where
/// the subnet says so.
fn start(
    menu: &Menu,
    entries: &[&Entry],
    ask: &Ask<'_>,
    reasons: &mut Vec<String>,
) -> Option<usize> {
    let label = menu.default.as_deref()?;
    if !ask.install_by_default {
        reasons.push(format!(
            "the local disk is the default, not {label:?}: install-by-default is not set for this \
             machine"
        ));
        return None;
    }
    let Some(index) = entries.iter().position(|entry| entry.label == label) else {
        reasons.push(format!("the local disk is the default: this menu has no entry {label:?}"));
        return None;
    };
    let kind = match menu::unattended(entries[index]) {
        Some(argument) => format!("and installs unattended ({argument})"),
        None => "and asks a person before it installs anything".to_owned(),
    };
    reasons.push(format!("entry {label:?} starts by itself, by install-by-default, {kind}"));
    Some(index)
}

#[cfg(test)]
mod tests;
