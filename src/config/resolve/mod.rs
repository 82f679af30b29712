//! Turns the tables of the file into settings: fills in defaults, parses texts into types, and
//! checks everything that needs no file and no socket.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::file::{self, PlacedValue};
use super::places::ConfigPlaces;
use super::problem::ConfigComplaints;
use super::settings::{Config, HttpSettings, LogSettings, ServerSettings};
use crate::boot::loader_choice::BootConfig;
use crate::boot::menu;
use crate::dhcp::policy::DhcpPolicy;
use crate::snapshot::Snapshot;

mod entries;
mod listeners;
mod networks;
mod pools;
mod quirks;
mod reservations;
mod subnets;
mod tftp;
mod tuning;
mod values;

use values::{parse_text, read_limit, read_listen_addresses, read_number, refuse_unknown_word};

const HTTP_PORT: u16 = 80;
/// The admin socket where the file does not name another.
pub const ADMIN_SOCKET: &str = "/run/ringboot/admin.sock";
/// The state directory where the file does not name another.
const STATE: &str = "/var/lib/ringboot";
/// A URL in option 67 must fit into one option, whose length is one byte (D-41).
const URL_MAX_BYTES: usize = 255;

/// Turns the file into a configuration. A fault becomes a complaint and a default value, so that
/// the rest of the file is checked too.
pub(super) fn resolve_file(
    base: &Path,
    file: file::FileTable,
    complaints: &mut ConfigComplaints<'_>,
) -> Config {
    // The policy below needs values of four tables, so these come first.
    let dhcp = file.dhcp.unwrap_or_default();
    let server = file.server.unwrap_or_default();
    let tuning = tuning::resolve_tuning(file.tuning.unwrap_or_default(), complaints);
    let mut http = file.http.unwrap_or_default();
    let http_rate = http.rate.take().and_then(|at| quirks::read_http_rate(&at, "rate", complaints));
    let http = resolve_http(http, complaints);

    let written = dhcp.subnet.as_deref().unwrap_or_default();
    let subnets = subnets::resolve_subnets(written, complaints);
    let places = subnets::place_subnets(written, complaints);
    let dhcp = listeners::resolve_listeners(&dhcp, &server, &subnets, complaints);
    let policy = DhcpPolicy {
        subnets: subnets.into(),
        boot: resolve_loaders(file.boot.unwrap_or_default(), complaints),
        advertise: server
            .advertise
            .as_ref()
            .and_then(|text| parse_text(text, "an IPv4 address", complaints)),
        http_port: http.listen.first().map_or(HTTP_PORT, SocketAddr::port),
    };

    let snapshot = Snapshot {
        dhcp: policy,
        places,
        dhcp_interfaces: dhcp.interfaces.clone(),
        menu: file.menu.map(|menu| entries::resolve_menu(menu, complaints)),
        http_rate,
        quirks: quirks::resolve_quirks(file.quirk.unwrap_or_default(), complaints),
    };

    let server = resolve_server(base, &server, complaints);
    let tftp = file.tftp.unwrap_or_default();
    Config {
        root: resolve_root(base, file.root, complaints),
        links: resolve_links(file.links.unwrap_or_default(), complaints),
        state: file
            .state
            .map_or_else(|| PathBuf::from(STATE), |state| base.join(state.into_inner())),
        tftp: tftp::resolve_tftp(tftp, tuning.tid_sockets, server.workers, complaints),
        server,
        http,
        dhcp,
        log: resolve_log(file.log.unwrap_or_default(), complaints),
        tuning,
        snapshot,
        places: Arc::new(ConfigPlaces::default()),
    }
}

/// The configuration of an empty file, but for its root.
pub(super) fn resolve_defaults() -> Config {
    // The one complaint of an empty file is the missing root.
    let mut ignored = ConfigComplaints::new("", "");
    resolve_file(Path::new(""), file::FileTable::default(), &mut ignored)
}

fn resolve_root(
    base: &Path,
    root: Option<PlacedValue<String>>,
    complaints: &mut ConfigComplaints<'_>,
) -> PathBuf {
    match root {
        Some(root) => base.join(root.into_inner()),
        None => {
            complaints.add(
                &(0..0),
                "`root` is missing",
                "name the directory to serve: root = \"/srv/netboot\"",
            );
            PathBuf::new()
        }
    }
}

fn resolve_links(written: file::LinksTable, complaints: &mut ConfigComplaints<'_>) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for text in written.allow.unwrap_or_default() {
        let place = PathBuf::from(text.get_ref());
        let hint = "name the directory itself: \"/usr/lib/syslinux\", \"/mnt/iso\"";
        let is_plain = place.components().all(|part| !matches!(part, Component::ParentDir));
        if !place.is_absolute() || !is_plain {
            let what = format!("{:?} is no absolute path without `..`", text.get_ref());
            complaints.add(&text.span(), what, hint);
        } else if exposes_machine(&place) {
            let what = format!("links into {} would expose this machine", place.display());
            complaints.add(&text.span(), what, hint);
        } else {
            places.push(place);
        }
    }
    places
}

/// Whether a directory holds more than boot files on every machine: links must not lead there.
pub fn exposes_machine(place: &Path) -> bool {
    /// These alone: what lies below them may be meant.
    const ALONE: [&str; 5] = ["/", "/home", "/var", "/usr", "/run"];
    /// These with everything below them.
    const WHOLE: [&str; 5] = ["/etc", "/root", "/proc", "/sys", "/dev"];
    ALONE.iter().any(|never| place.components().eq(Path::new(never).components()))
        || WHOLE.iter().any(|never| place.starts_with(never))
}

fn resolve_server(
    base: &Path,
    written: &file::ServerTable,
    complaints: &mut ConfigComplaints<'_>,
) -> ServerSettings {
    let workers =
        written.workers.as_ref().and_then(|at| read_number(at, "workers", 1..=256, complaints));
    let user = written.user.as_ref().map(|user| read_user_name(user, complaints));
    let socket = written.admin_socket.as_ref().map_or(ADMIN_SOCKET, |at| at.get_ref().as_str());
    ServerSettings {
        workers: workers.map(|workers: u16| usize::from(workers)),
        admin_socket: (!socket.is_empty()).then(|| base.join(socket)),
        user,
    }
}

/// Checks the form of the name only: the file may be checked on a machine without that user.
fn read_user_name(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    let name = text.get_ref();
    if name.is_empty() || name.starts_with('-') || !name.chars().all(is_user_character) {
        let what = format!("{name:?} is not a user name");
        complaints.add(&text.span(), what, "write \"ringboot\"");
    }
    name.clone()
}

fn is_user_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "._-".contains(character)
}

fn resolve_http(written: file::HttpTable, complaints: &mut ConfigComplaints<'_>) -> HttpSettings {
    let connections = written
        .connections
        .and_then(|at| read_number(&at, "connections", 1..=1_000_000, complaints));
    HttpSettings {
        listen: read_listen_addresses(written.listen, HTTP_PORT, "http", complaints),
        index: written
            .index
            .unwrap_or_default()
            .into_iter()
            .map(|at| read_index_directory(&at, complaints))
            .collect(),
        index_file: written.index_file.map(|name| read_index_file(name, complaints)),
        per_source: read_limit(written.per_source, "per-source", 32, complaints),
        connections: connections.unwrap_or(10_000),
    }
}

/// `/centos/os` and `centos/os/` are the same directory and become `centos/os/`; `/` becomes the
/// empty prefix.
fn read_index_directory(
    text: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> String {
    let path = text.get_ref().trim_matches('/');
    if path.is_empty() {
        return String::new();
    }
    if let Some(fault) = menu::path_fault(path) {
        complaints.add(
            &text.span(),
            format!("{:?} {fault}", text.get_ref()),
            "name a directory under the root",
        );
    }
    format!("{path}/")
}

fn read_index_file(name: PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    if name.get_ref().is_empty() || name.get_ref().contains('/') {
        let what = format!("{:?} is not a file name", name.get_ref());
        complaints.add(&name.span(), what, "write a bare name: \"index.html\"");
    }
    name.into_inner()
}

fn resolve_loaders(written: file::BootTable, complaints: &mut ConfigComplaints<'_>) -> BootConfig {
    let mut pxe = |at: Option<PlacedValue<String>>| {
        at.map(|at| check_loader(at, LoaderTransport::Tftp, complaints))
    };
    let (bios, uefi_x64) = (pxe(written.bios), pxe(written.uefi_x64));
    let (uefi_ia32, uefi_arm64) = (pxe(written.uefi_ia32), pxe(written.uefi_arm64));
    BootConfig {
        bios,
        uefi_x64,
        uefi_ia32,
        uefi_arm64,
        uefi_http: written
            .uefi_http
            .map(|at| check_loader(at, LoaderTransport::HttpImages, complaints)),
        ipxe: written.ipxe.map(|at| check_loader(at, LoaderTransport::Both, complaints)),
    }
}

/// What the program that gets the name of a loader can load.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LoaderTransport {
    /// A PXE ROM or UEFI's PXE: a name for TFTP.
    Tftp,
    /// UEFI HTTP Boot: a URL, or a path that becomes one, with an ending that it knows (H-27).
    HttpImages,
    /// iPXE: TFTP and HTTP.
    Both,
}

fn check_loader(
    text: PlacedValue<String>,
    speaks: LoaderTransport,
    complaints: &mut ConfigComplaints<'_>,
) -> String {
    let (name, span) = (text.get_ref(), text.span());
    // One complaint for each name is enough: the operator writes another name anyway.
    if let Some(fault) = menu::location_fault(name) {
        complaints.add(
            &span,
            format!("loader {name:?} {fault}"),
            "name a file under the root, such as \"pxelinux.0\"",
        );
    } else if speaks == LoaderTransport::Tftp && name.contains("://") {
        let what = format!("{name:?} is a URL, and PXE firmware speaks TFTP only");
        let hint = "write a path under the root; URLs are for `uefi-http` and `ipxe`";
        complaints.add(&span, what, hint);
    } else if speaks == LoaderTransport::HttpImages
        && ![".efi", ".iso", ".img"].iter().any(|end| name.ends_with(end))
    {
        let what = format!(
            "UEFI HTTP Boot needs a file name with an ending that it knows, unlike {name:?}"
        );
        complaints.add(&span, what, "name a file that ends in .efi, .iso or .img");
    } else if name.len() > URL_MAX_BYTES {
        let what = format!(
            "{} bytes do not fit into the DHCP option for the boot file ({URL_MAX_BYTES})",
            name.len()
        );
        complaints.add(&span, what, "use a shorter name");
    }
    text.into_inner()
}

fn resolve_log(written: file::LogTable, complaints: &mut ConfigComplaints<'_>) -> LogSettings {
    let known = ["error", "warn", "info", "debug", "trace"];
    // The parser of `Level` also takes numbers and capitals, which the file does not allow.
    let level = written.level.and_then(|level| {
        if !known.contains(&level.get_ref().as_str()) {
            refuse_unknown_word(level.get_ref(), &level.span(), "level", &known, complaints);
        }
        level.get_ref().parse().ok()
    });
    let facility = written.facility.and_then(|name| {
        let number =
            FACILITIES.iter().find(|(known, _)| known == name.get_ref()).map(|&(_, number)| number);
        if number.is_none() {
            refuse_unknown_word(
                name.get_ref(),
                &name.span(),
                "syslog facility",
                &FACILITIES.map(|(known, _)| known),
                complaints,
            );
        }
        number
    });
    LogSettings { level: level.unwrap_or(tracing::Level::INFO), facility }
}

/// Facilities for services with their numbers (RFC 5424 table 1); names as in syslog.conf(5).
const FACILITIES: [(&str, u8); 11] = [
    ("user", 1),
    ("daemon", 3),
    ("syslog", 5),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
