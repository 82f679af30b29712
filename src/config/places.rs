//! Positions in the configuration file: the line behind a loader, a menu entry or a subnet, for
//! messages that name it.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use super::file::{self, PlacedValue};
use super::problem::{ConfigComplaints, find_text_position};
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;

/// A position in the file with its key: `ringboot.toml:42:10 ([boot] uefi-x64)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigPlace {
    /// The file as the operator named it.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// The key, such as `[boot] uefi-x64` or `kernel of the menu entry ...`.
    pub key: String,
}

impl fmt::Display for ConfigPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{} ({})", self.path, self.line, self.column, self.key)
    }
}

/// Finds positions of keys in a file. It reports no faults: `Config::parse` does.
#[derive(Debug, Default)]
pub struct ConfigPlaces {
    /// Empty: there is no file.
    path: String,
    text: String,
    /// Read at the first question; a server with a faultless configuration asks none.
    read: OnceLock<PlacedFile>,
}

#[derive(Debug, Default)]
struct PlacedFile {
    file: file::FileTable,
    /// The index of each subnet in the list of the file.
    subnets: HashMap<Ipv4Network, usize>,
    /// The byte offset of the reservation of each machine in each subnet.
    hosts: HashMap<(Ipv4Network, Mac), usize>,
}

impl ConfigPlaces {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), read: OnceLock::new() }
    }

    /// The path of the file as the operator named it; None: there is no file.
    pub fn path(&self) -> Option<&Path> {
        (!self.path.is_empty()).then(|| Path::new(&self.path))
    }

    /// A key that can be written once in the file, by its table. None where it is not written.
    pub fn find_key(&self, table: &str, key: &str) -> Option<ConfigPlace> {
        let file = self.file();
        let span = match (table, key) {
            ("", "root") => find_value_span(file.root.as_ref()),
            ("", "state") => find_value_span(file.state.as_ref()),
            ("server", "user") => find_value_span(file.server.as_ref()?.user.as_ref()),
            ("menu", "background") => find_value_span(file.menu.as_ref()?.background.as_ref()),
            ("menu", "display") => find_value_span(file.menu.as_ref()?.display.as_ref()),
            ("dhcp", "listen-address") => {
                find_value_span(file.dhcp.as_ref()?.listen_address.as_ref())
            }
            ("tuning", "image-memory") => {
                find_value_span(file.tuning.as_ref()?.image_memory.as_ref())
            }
            ("tuning", "datapath") => find_value_span(file.tuning.as_ref()?.datapath.as_ref()),
            _ => None,
        }?;
        let shown = if table.is_empty() { key.to_owned() } else { format!("[{table}] {key}") };
        Some(self.make_place(span.start, shown))
    }

    /// A directory of `[links] allow`.
    pub fn find_link_place(&self, place: &Path) -> Option<ConfigPlace> {
        let allowed = self.file().links.as_ref()?.allow.as_ref()?;
        let written = allowed.iter().find(|text| Path::new(text.get_ref()) == place)?;
        Some(self.make_place(written.span().start, "[links] allow".to_owned()))
    }

    /// The key `root`, if the file names this directory; `--root` may have named another.
    pub fn find_root(&self, root: &Path) -> Option<ConfigPlace> {
        let written = self.file().root.as_ref()?;
        root.ends_with(written.get_ref()).then(|| self.find_key("", "root"))?
    }

    /// An address of `listen` in `[tftp]` or `[http]`.
    pub fn find_listen(&self, table: &str, address: SocketAddr) -> Option<ConfigPlace> {
        let file = self.file();
        let listed = match table {
            "tftp" => file.tftp.as_ref()?.listen.as_ref()?,
            _ => file.http.as_ref()?.listen.as_ref()?,
        };
        let written = listed.iter().find(|text| text.get_ref().parse() == Ok(address))?;
        Some(self.make_place(written.span().start, format!("[{table}] listen")))
    }

    /// An interface in the list of `[server]`.
    pub fn find_server_interface(&self, name: &str) -> Option<ConfigPlace> {
        let listed = self.file().server.as_ref()?.interfaces.as_ref()?;
        let written = listed.iter().find(|text| text.get_ref() == name)?;
        Some(self.make_place(written.span().start, "[server] interfaces".to_owned()))
    }

    /// A key of `[boot]`; where it is not written, the table or the first line of the file.
    pub fn find_loader(&self, key: &str) -> ConfigPlace {
        let boot = self.file().boot.as_ref();
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
            (Some(at), _) => self.make_place(at.span().start, format!("[boot] {key}")),
            (None, Some(boot)) => {
                self.make_place(boot.span.start, format!("[boot], without {key}"))
            }
            (None, None) => self.make_place(0, format!("no [boot] {key} is written")),
        }
    }

    /// A key of the menu entry with this label: `kernel`, `arguments`, or else the initrd `name`.
    pub fn find_entry(&self, label: &str, key: &str, name: &str) -> Option<ConfigPlace> {
        let entries = self.file().menu.as_ref()?.entry.as_ref()?;
        let entry = entries
            .iter()
            .find(|entry| entry.label.as_ref().is_some_and(|at| at.get_ref() == label))?;
        let at = match key {
            "kernel" => entry.kernel.as_ref(),
            "arguments" => entry.arguments.as_ref(),
            _ => {
                let initrds = &entry.initrd.as_ref()?.0;
                let named =
                    initrds.iter().find(|at| name.ends_with(at.get_ref().trim_start_matches('/')));
                named.or(initrds.first())
            }
        };
        let start = at.map_or(entry.span.start, |at| at.span().start);
        Some(self.make_place(start, format!("{key} of the menu entry `{label}`")))
    }

    /// A key of a subnet; where it is not written, the line `subnet`.
    pub fn find_subnet(&self, network: Ipv4Network, key: &str) -> Option<ConfigPlace> {
        let subnet = self.find_subnet_table(network)?;
        let written = match key {
            "pools" => subnet.pools.as_ref().and_then(|pools| pools.first()).map(PlacedValue::span),
            "clients" => find_value_span(subnet.clients.as_ref()),
            "mode" => find_value_span(subnet.mode.as_ref()),
            "interface" => find_value_span(subnet.interface.as_ref()),
            "next-server" => find_value_span(subnet.next_server.as_ref()),
            "allow-other-servers" => subnet.allow_other_servers.as_ref().map(PlacedValue::span),
            "install-by-default" => subnet.install_by_default.as_ref().map(PlacedValue::span),
            _ => None,
        };
        let without = if written.is_some() || key == "subnet" { "" } else { "without " };
        let found = written.or_else(|| find_value_span(subnet.subnet.as_ref()))?;
        Some(self.make_place(found.start, format!("subnet {network}, {without}{key}")))
    }

    /// One pool of a subnet, by its index in the list.
    pub fn find_pool(&self, network: Ipv4Network, number: usize) -> Option<ConfigPlace> {
        let written = self.find_subnet_table(network)?.pools.as_ref()?.get(number)?;
        Some(self.make_place(written.span().start, format!("subnet {network}, pools")))
    }

    /// The address that is reserved for a machine in a subnet.
    pub fn find_reservation(&self, network: Ipv4Network, mac: Mac) -> Option<ConfigPlace> {
        let start = *self.read().hosts.get(&(network, mac))?;
        Some(self.make_place(start, format!("subnet {network}, host {mac}")))
    }

    fn find_subnet_table(&self, network: Ipv4Network) -> Option<&file::SubnetTable> {
        let subnets = self.file().dhcp.as_ref()?.subnet.as_ref()?;
        subnets.get(*self.read().subnets.get(&network)?)
    }

    fn file(&self) -> &file::FileTable {
        &self.read().file
    }

    fn read(&self) -> &PlacedFile {
        self.read.get_or_init(|| {
            let file = file::read_config_text(
                &self.text,
                &mut ConfigComplaints::new(&self.path, &self.text),
            )
            .unwrap_or_default();
            PlacedFile::from_file(file)
        })
    }

    fn make_place(&self, start: usize, key: String) -> ConfigPlace {
        let (line, column) = find_text_position(&self.text, start);
        ConfigPlace { path: self.path.clone(), line, column, key }
    }
}

impl PlacedFile {
    fn from_file(file: file::FileTable) -> Self {
        let (mut subnets, mut hosts) = (HashMap::new(), HashMap::new());
        let written =
            file.dhcp.as_ref().and_then(|dhcp| dhcp.subnet.as_deref()).unwrap_or_default();
        // The first of two equal ones counts, as in `resolve`.
        for (number, subnet) in written.iter().enumerate() {
            let Some(network) = subnet.subnet.as_ref().and_then(|at| at.get_ref().parse().ok())
            else {
                continue;
            };
            subnets.entry(network).or_insert(number);
            for host in subnet.host.iter().flatten() {
                let mac = host.mac.as_ref().and_then(|at| at.get_ref().parse::<Mac>().ok());
                if let Some((mac, address)) = mac.zip(host.address.as_ref()) {
                    hosts.entry((network, mac)).or_insert(address.span().start);
                }
            }
        }
        Self { file, subnets, hosts }
    }
}

fn find_value_span<T>(written: Option<&PlacedValue<T>>) -> Option<Range<usize>> {
    written.map(PlacedValue::span)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn keys_are_found_where_they_stand() {
        let text = "root = \"r\"\n[boot]\nbios = \"pxelinux.0\"\n[menu]\n[[menu.entry]]\nlabel = \
                    \"a\"\nkernel = \"k\"\n\
                    initrd = [\"i1\", \"i2\"]\n[[dhcp.subnet]]\nsubnet = \"10.0.7.0/24\"\npools = \
                    [\"10.0.7.10-10.0.7.20\"]\n\
                    [[dhcp.subnet.host]]\nmac = \"52-54-00-12-34-10\"\naddress = \"10.0.7.5\"\n";
        let places = ConfigPlaces::new("x.toml", text);
        let shown = |place: Option<ConfigPlace>| place.unwrap().to_string();
        assert_eq!(shown(Some(places.find_loader("bios"))), "x.toml:3:8 ([boot] bios)");
        assert_eq!(shown(Some(places.find_loader("ipxe"))), "x.toml:2:1 ([boot], without ipxe)");
        assert_eq!(
            shown(places.find_entry("a", "kernel", "")),
            "x.toml:7:10 (kernel of the menu entry `a`)"
        );
        assert_eq!(
            shown(places.find_entry("a", "initrd", "http://h/i2")),
            "x.toml:8:17 (initrd of the menu entry `a`)"
        );
        let network = "10.0.7.0/24".parse().unwrap();
        assert_eq!(
            shown(places.find_subnet(network, "pools")),
            "x.toml:11:10 (subnet 10.0.7.0/24, pools)"
        );
        assert_eq!(
            shown(places.find_subnet(network, "clients")),
            "x.toml:10:10 (subnet 10.0.7.0/24, without clients)"
        );
        assert_eq!(places.find_entry("b", "kernel", ""), None);
        assert_eq!(shown(places.find_pool(network, 0)), "x.toml:11:10 (subnet 10.0.7.0/24, pools)");
        let mac = "52:54:00:12:34:10".parse().unwrap();
        assert_eq!(
            shown(places.find_reservation(network, mac)),
            "x.toml:14:11 (subnet 10.0.7.0/24, host 52:54:00:12:34:10)"
        );
        assert_eq!(shown(places.find_root(Path::new("/srv/r"))), "x.toml:1:8 (root)");
        assert_eq!(
            places.find_root(Path::new("/another")),
            None,
            "it was not the file that named it"
        );
        assert_eq!((places.find_key("server", "user"), places.find_pool(network, 1)), (None, None));
        assert_eq!(ConfigPlaces::default().find_root(Path::new("r")), None, "no file");
    }
}
