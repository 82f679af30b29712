//! What a menu needs in every language: the request, the chosen entries, and the texts around them.

use std::net::IpAddr;

use crate::boot::loader_choice::BootConfig;
use crate::boot::menu::{self, MenuEntry};
use crate::boot::names::MenuLoader;
use crate::model::machine::{FirmwareRole, Machine};

/// A request for a menu: the loader, the machine, and what its subnet allows.
#[derive(Clone, Copy, Debug)]
pub struct MenuRequest<'a> {
    /// The loader that asks.
    pub loader: MenuLoader,
    /// `MenuName::prefix` of the requested name.
    pub prefix: &'a str,
    /// True for a request by HTTP: this loader can fetch by HTTP.
    pub over_http: bool,
    /// The machine that asks; None: an unknown one, which gets the default menu.
    pub machine: Option<&'a Machine>,
    /// The address of this server, as the machine sees it.
    pub server: IpAddr,
    /// TCP port of HTTP, for URLs.
    pub http_port: u16,
    /// `install-by-default` of the machine's subnet; false for machines outside all subnets.
    pub install_by_default: bool,
    /// The configured loaders: iPXE on UEFI boots the disk by one that is GRUB, or shim.
    pub boot: &'a BootConfig,
}

/// Title of the entry for the local disk, which every menu has.
pub(super) const LOCAL_TITLE: &str = "Boot from the local disk";

/// The title in place of one that loaders cannot print.
pub(super) const PLAIN_TITLE: &str = "Boot menu";

/// A menu after all choices that do not depend on the language of a loader.
pub(super) struct MenuScreen<'a> {
    pub(super) title: &'a str,
    pub(super) entries: Vec<&'a MenuEntry>,
    /// Index in `entries` of the entry that starts by itself; None = the local disk.
    pub(super) start: Option<usize>,
    /// Seconds until it starts; 0 waits without end.
    pub(super) timeout_s: u32,
    pub(super) background: Option<&'a str>,
    pub(super) display: Option<&'a str>,
    pub(super) console: Option<&'a str>,
}

pub(super) fn is_u_boot(ask: &MenuRequest<'_>) -> bool {
    ask.machine
        .and_then(|machine| machine.firmware)
        .is_some_and(|firmware| firmware.role == FirmwareRole::UBoot)
}

/// The comment in the first line of a menu: the machine that it is for.
pub(super) fn describe_menu_owner(ask: &MenuRequest<'_>) -> String {
    match ask.machine {
        Some(machine) => format!("rendered by ringboot for {}", machine.mac),
        None => "rendered by ringboot for any machine".to_owned(),
    }
}

/// The host for URLs, with the port where it is not 80.
pub(super) fn format_authority(ask: &MenuRequest<'_>) -> String {
    let port = if ask.http_port == 80 { String::new() } else { format!(":{}", ask.http_port) };
    format!("{}{port}", format_url_host(ask.server))
}

pub(super) fn format_url_host(server: IpAddr) -> String {
    match server.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// The title without its hot key mark, and the key in lower case.
pub(super) fn split_hot_key(title: &str) -> (String, Option<char>) {
    let mark = title.find('^').and_then(|place| title[place + 1..].chars().next());
    let key = mark.filter(char::is_ascii_alphanumeric).map(|key| key.to_ascii_lowercase());
    (title.replace('^', ""), key)
}

impl MenuScreen<'_> {
    /// The label of the entry that starts by itself.
    pub(super) fn start_label(&self) -> &str {
        self.start
            .and_then(|index| self.entries.get(index))
            .map_or(menu::LOCAL_LABEL, |entry| &entry.label)
    }

    /// The entry's arguments with the console of the menu, unless the entry has its own.
    pub(super) fn kernel_arguments(&self, entry: &MenuEntry) -> String {
        let own = entry.arguments.split(' ').any(|argument| argument.starts_with("console="));
        let mut arguments = entry.arguments.trim().to_owned();
        if let (false, Some(console)) = (own, self.console) {
            let blank = if arguments.is_empty() { "" } else { " " };
            arguments.push_str(&format!("{blank}console=tty0 console={console}"));
        }
        arguments
    }
}
