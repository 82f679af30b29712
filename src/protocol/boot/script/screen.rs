//! What a menu needs in every dialect: who asks, the entries that are said, and the words around
//! them.

use std::net::IpAddr;

use crate::boot::menu::{self, Entry};
use crate::boot::names::Loader;
use crate::boot::plan::BootConfig;
use crate::model::machine::{Machine, Role};

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

/// Title of the entry that is in every menu.
pub(super) const LOCAL_TITLE: &str = "Boot from the local disk";

/// Stands where a menu's own title cannot be printed.
pub(super) const PLAIN_TITLE: &str = "Boot menu";

/// A menu with everything settled that does not depend on a loader's language.
pub(super) struct Screen<'a> {
    pub(super) title: &'a str,
    pub(super) entries: Vec<&'a Entry>,
    /// The entry that starts by itself, by its place in `entries`; None = the local disk.
    pub(super) start: Option<usize>,
    /// 0 waits for ever.
    pub(super) timeout_s: u32,
    pub(super) background: Option<&'a str>,
    pub(super) display: Option<&'a str>,
    pub(super) console: Option<&'a str>,
}

pub(super) fn is_u_boot(ask: &Ask<'_>) -> bool {
    ask.machine
        .and_then(|machine| machine.firmware)
        .is_some_and(|firmware| firmware.role == Role::UBoot)
}

/// For the first line of a menu: whose it is.
pub(super) fn whose(ask: &Ask<'_>) -> String {
    match ask.machine {
        Some(machine) => format!("rendered by ringboot for {}", machine.mac),
        None => "rendered by ringboot for any machine".to_owned(),
    }
}

/// Host, and port where it is not the usual one, as URLs have them.
pub(super) fn authority(ask: &Ask<'_>) -> String {
    let port = if ask.http_port == 80 { String::new() } else { format!(":{}", ask.http_port) };
    format!("{}{port}", host(ask.server))
}

pub(super) fn host(server: IpAddr) -> String {
    match server.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// The title without its hot key mark, and the key in lower case.
pub(super) fn hot_key(title: &str) -> (String, Option<char>) {
    let mark = title.find('^').and_then(|place| title[place + 1..].chars().next());
    let key = mark.filter(char::is_ascii_alphanumeric).map(|key| key.to_ascii_lowercase());
    (title.replace('^', ""), key)
}

impl Screen<'_> {
    /// The label of what starts by itself.
    pub(super) fn start_label(&self) -> &str {
        self.start
            .and_then(|index| self.entries.get(index))
            .map_or(menu::LOCAL_LABEL, |entry| &entry.label)
    }

    /// The entry's arguments and the console of the menu, unless the entry names its own.
    pub(super) fn arguments(&self, entry: &Entry) -> String {
        let own = entry.arguments.split(' ').any(|argument| argument.starts_with("console="));
        let mut arguments = entry.arguments.trim().to_owned();
        if let (false, Some(console)) = (own, self.console) {
            let blank = if arguments.is_empty() { "" } else { " " };
            arguments.push_str(&format!("{blank}console=tty0 console={console}"));
        }
        arguments
    }
}
