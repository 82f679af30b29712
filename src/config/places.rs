//! Where things stand in a configuration file: the line behind a loader, a menu entry, a subnet, for whoever names it.

use std::fmt;

use super::file::{self, At};
use super::problem::{Complaints, position};
use crate::dhcp::subnet::Network;

/// A place in the file: `ringboot.toml:42:10 ([boot] uefi-x64)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key, in words.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{} ({})", self.path, self.line, self.column, self.key)
    }
}

/// A file that can be asked where its keys stand. What is wrong in it is not told: that is `Config::parse`'s business.
#[derive(Debug)]
pub struct Places {
    path: String,
    text: String,
    file: file::File,
}

impl Places {
    pub fn read(path: &str, text: &str) -> Self {
        let file = file::read(text, &mut Complaints::new(path, text)).unwrap_or_default();
        Self { path: path.to_owned(), text: text.to_owned(), file }
    }

    /// A key of `[boot]`; the table, or the file's first line, where it is not written.
    pub fn boot(&self, key: &str) -> Place {
        let boot = self.file.boot.as_ref();
        let written = boot.and_then(|boot| match key {
            "bios" => boot.bios.as_ref(),
            "uefi-x64" => boot.uefi_x64.as_ref(),
            "uefi-ia32" => boot.uefi_ia32.as_ref(),
            "uefi-arm64" => boot.uefi_arm64.as_ref(),
            "uefi-http" => boot.uefi_http.as_ref(),
            "ipxe" => boot.ipxe.as_ref(),
            _ => None,
        });
        match (written, boot) {
            (Some(at), _) => self.place(at.span().start, format!("[boot] {key}")),
            (None, Some(boot)) => self.place(boot.span.start, format!("[boot], without {key}")),
            (None, None) => self.place(0, format!("no [boot] {key} is written")),
        }
    }

    /// A key of the menu entry with this label: `kernel`, `arguments`, or the initrd of this name.
    pub fn entry(&self, label: &str, key: &str, name: &str) -> Option<Place> {
        let entries = self.file.menu.as_ref()?.entry.as_ref()?;
        let entry = entries.iter().find(|entry| entry.label.as_ref().is_some_and(|at| at.get_ref() == label))?;
        let at = match key {
            "kernel" => entry.kernel.as_ref(),
            "arguments" => entry.arguments.as_ref(),
            _ => {
                let initrds = &entry.initrd.as_ref()?.0;
                let same = |at: &&At<String>| name.ends_with(at.get_ref().trim_start_matches('/'));
                initrds.iter().find(same).or(initrds.first())
            }
        };
        let start = at.map_or(entry.span.start, |at| at.span().start);
        Some(self.place(start, format!("{key} of the menu entry `{label}`")))
    }

    /// A key of a subnet; its `subnet` line where the key is not written.
    pub fn subnet(&self, network: Network, key: &str) -> Option<Place> {
        let subnets = self.file.dhcp.as_ref()?.subnet.as_ref()?;
        let is_it = |one: &&file::Subnet| {
            one.subnet.as_ref().is_some_and(|at| at.get_ref().parse::<Network>().is_ok_and(|read| read == network))
        };
        let subnet = subnets.iter().find(is_it)?;
        let text = |at: &Option<At<String>>| at.as_ref().map(At::span);
        let written = match key {
            "pools" => subnet.pools.as_ref().and_then(|pools| pools.first()).map(At::span),
            "clients" => text(&subnet.clients),
            "mode" => text(&subnet.mode),
            "interface" => text(&subnet.interface),
            "next-server" => text(&subnet.next_server),
            "allow-other-servers" => subnet.allow_other_servers.as_ref().map(At::span),
            _ => None,
        };
        let without = if written.is_some() || key == "subnet" { "" } else { "without " };
        let span = written.or_else(|| text(&subnet.subnet))?;
        Some(self.place(span.start, format!("subnet {network}, {without}{key}")))
    }

    fn place(&self, start: usize, key: String) -> Place {
        let (line, column) = position(&self.text, start);
        Place { path: self.path.clone(), line, column, key }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_found_where_they_stand() {
        let text = "root = \"r\"\n[boot]\nbios = \"pxelinux.0\"\n[menu]\n[[menu.entry]]\nlabel = \"a\"\nkernel = \"k\"\n\
                    initrd = [\"i1\", \"i2\"]\n[[dhcp.subnet]]\nsubnet = \"10.0.7.0/24\"\npools = [\"10.0.7.10-10.0.7.20\"]\n";
        let places = Places::read("x.toml", text);
        let shown = |place: Option<Place>| place.unwrap().to_string();
        assert_eq!(shown(Some(places.boot("bios"))), "x.toml:3:8 ([boot] bios)");
        assert_eq!(shown(Some(places.boot("ipxe"))), "x.toml:2:1 ([boot], without ipxe)");
        assert_eq!(shown(places.entry("a", "kernel", "")), "x.toml:7:10 (kernel of the menu entry `a`)");
        assert_eq!(shown(places.entry("a", "initrd", "http://h/i2")), "x.toml:8:17 (initrd of the menu entry `a`)");
        let network = "10.0.7.0/24".parse().unwrap();
        assert_eq!(shown(places.subnet(network, "pools")), "x.toml:11:10 (subnet 10.0.7.0/24, pools)");
        assert_eq!(shown(places.subnet(network, "clients")), "x.toml:10:10 (subnet 10.0.7.0/24, without clients)");
        assert_eq!(places.entry("b", "kernel", ""), None);
    }
}
