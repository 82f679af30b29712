//! The text of a menu for the loader that asks: what all have in common, and the choice of what starts by itself.

use std::net::IpAddr;

use super::menu::{self, Entry, Menu};
use super::names::Loader;
use super::plan::BootConfig;
use crate::model::machine::{Machine, Role};

mod grub;
mod ipxe;
mod pxelinux;

/// Who asks for a menu, how, and what the subnet allows.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    pub loader: Loader,
    /// From the requested name (`MenuName::prefix`).
    pub prefix: &'a str,
    /// The request came by HTTP, so this loader can fetch by HTTP.
    pub over_http: bool,
    /// None: the default menu, for anybody.
    pub machine: Option<&'a Machine>,
    /// Our address as this machine sees it.
    pub server: IpAddr,
    pub http_port: u16,
    /// `install-by-default` of the machine's subnet; false for machines outside all subnets.
    pub install_by_default: bool,
    /// Where iPXE on UEFI finds a GRUB that can boot the disk.
    pub boot: &'a BootConfig,
}

/// A menu ready to be served, and why it is as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub text: String,
    pub reasons: Vec<String>,
}

/// Renders a menu. Total: an entry that cannot be said safely is left out with a reason, whatever its text is.
pub fn render(menu: &Menu, ask: &Ask<'_>) -> Rendered {
    let mut reasons = Vec::new();
    let screen = Screen::new(menu, ask, &mut reasons);
    let text = match ask.loader {
        Loader::Pxelinux => pxelinux::text(&screen, ask),
        Loader::Grub => grub::text(&screen, ask),
        Loader::Ipxe => ipxe::text(&screen, ask),
    };
    Rendered { text, reasons }
}

/// Title of the entry that is in every menu.
const LOCAL_TITLE: &str = "Boot from the local disk";
/// Stands where a menu's own title cannot be printed.
const PLAIN_TITLE: &str = "Boot menu";

/// A menu with everything settled that does not depend on a loader's language.
struct Screen<'a> {
    title: &'a str,
    entries: Vec<&'a Entry>,
    /// The entry that starts by itself, by its place in `entries`; None = the local disk.
    start: Option<usize>,
    /// 0 waits for ever.
    timeout_s: u32,
    background: Option<&'a str>,
    display: Option<&'a str>,
    console: Option<&'a str>,
}

impl<'a> Screen<'a> {
    fn new(menu: &'a Menu, ask: &Ask<'_>, reasons: &mut Vec<String>) -> Self {
        let mut entries: Vec<&Entry> = Vec::new();
        for entry in &menu.entries {
            match left_out(entry, &entries, ask) {
                Some(reason) => reasons.push(format!("entry {:?} is left out: {reason}", entry.label)),
                None => entries.push(entry),
            }
        }
        let start = start(menu, &entries, ask, reasons);
        Self {
            title: if menu::title_fault(&menu.title).is_none() { &menu.title } else { PLAIN_TITLE },
            entries,
            start,
            timeout_s: menu.timeout_s,
            background: menu.background.as_deref().filter(|path| menu::path_fault(path).is_none()),
            display: menu.display.as_deref().filter(|path| menu::path_fault(path).is_none()),
            console: menu.console.as_deref().filter(|console| menu::console_fault(console).is_none()),
        }
    }

    /// The label of what starts by itself.
    fn start_label(&self) -> &str {
        self.start.and_then(|index| self.entries.get(index)).map_or(menu::LOCAL_LABEL, |entry| &entry.label)
    }

    /// The entry's arguments and the console of the menu, unless the entry names its own.
    fn arguments(&self, entry: &Entry) -> String {
        let own = entry.arguments.split(' ').any(|argument| argument.starts_with("console="));
        let mut arguments = entry.arguments.trim().to_owned();
        if let (false, Some(console)) = (own, self.console) {
            let blank = if arguments.is_empty() { "" } else { " " };
            arguments.push_str(&format!("{blank}console=tty0 console={console}"));
        }
        arguments
    }
}

/// Why this loader must not get this entry; None if it may.
fn left_out(entry: &Entry, before: &[&Entry], ask: &Ask<'_>) -> Option<String> {
    let mut taken = before.iter().map(|entry| entry.label.as_str()).chain([menu::LOCAL_LABEL]);
    if taken.any(|label| label.eq_ignore_ascii_case(&entry.label)) {
        return Some("its label is taken".to_owned());
    }
    let located =
        |what: &str, location: &str| menu::location_fault(location).map(|fault| format!("its {what} {fault}"));
    let fault = menu::label_fault(&entry.label)
        .map(|fault| format!("its label {fault}"))
        .or_else(|| menu::title_fault(&entry.title).map(|fault| format!("its title {fault}")))
        .or_else(|| menu::arguments_fault(&entry.arguments).map(|fault| format!("its arguments {fault}")))
        .or_else(|| located("kernel", &entry.kernel))
        .or_else(|| entry.initrds.iter().find_map(|initrd| located("initrd", initrd)))
        .or_else(|| (entry.initrds.len() > menu::INITRDS_MAX).then(|| "it has too many initrds".to_owned()));
    if fault.is_some() || !is_u_boot(ask) || ask.loader != Loader::Pxelinux {
        return fault;
    }
    pxelinux::u_boot_fault(entry, ask)
}

/// The rule that keeps disks whole: what an operator names as default starts by itself only where the subnet says so.
fn start(menu: &Menu, entries: &[&Entry], ask: &Ask<'_>, reasons: &mut Vec<String>) -> Option<usize> {
    let label = menu.default.as_deref()?;
    if !ask.install_by_default {
        reasons.push(format!(
            "the local disk is the default, not {label:?}: install-by-default is not set for this machine"
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

fn is_u_boot(ask: &Ask<'_>) -> bool {
    ask.machine.and_then(|machine| machine.firmware).is_some_and(|firmware| firmware.role == Role::UBoot)
}

/// For the first line of a menu: whose it is.
fn whose(ask: &Ask<'_>) -> String {
    match ask.machine {
        Some(machine) => format!("rendered by ringboot for {}", machine.mac),
        None => "rendered by ringboot for any machine".to_owned(),
    }
}

/// Host, and port where it is not the usual one, as URLs have them.
fn authority(ask: &Ask<'_>) -> String {
    let port = if ask.http_port == 80 { String::new() } else { format!(":{}", ask.http_port) };
    format!("{}{port}", host(ask.server))
}

fn host(server: IpAddr) -> String {
    match server.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// The title without its hot key mark, and the key in lower case.
fn hot_key(title: &str) -> (String, Option<char>) {
    let mark = title.find('^').and_then(|place| title[place + 1..].chars().next());
    let key = mark.filter(char::is_ascii_alphanumeric).map(|key| key.to_ascii_lowercase());
    (title.replace('^', ""), key)
}

#[cfg(test)]
mod tests;
