//! What it means: defaults filled in, texts turned into types, all checked that needs no file and
//! no socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::file::{self, PlacedValue};
use super::problem::ConfigComplaints;
use super::{
    Config, ConfigPlaces, DatapathChoice, HttpSettings, LogSettings, ServerSettings, TftpClient,
    TftpOptions, TftpSettings, TuningSettings,
};
use crate::boot::menu;
use crate::boot::plan::BootConfig;
use crate::dhcp::policy::DhcpPolicy;
use crate::http::schedule;
use crate::model::machine::Arch;
use crate::model::spelling::find_nearest_word;
use crate::snapshot::Snapshot;

mod entries;
mod quirks;
mod subnets;

const TFTP_PORT: u16 = 69;
const HTTP_PORT: u16 = 80;
const DHCP_PORT: u16 = 67;
/// Where commands find the server unless the file says otherwise.
pub const ADMIN_SOCKET: &str = "/run/ringboot/admin.sock";
/// Where leases live unless the file says otherwise.
const STATE: &str = "/var/lib/ringboot";
/// The prefixes that clients of old set-ups ask for (T-57).
const STRIP_PREFIXES: [&str; 3] = ["/tftpboot", "/srv/tftp", "/var/lib/tftpboot"];
/// A URL in option 67 must fit into one option (D-41).
const URL_MAX_BYTES: usize = 255;

/// Turns the file into a configuration. What is wrong becomes a complaint and a default, so that
/// the rest is checked too.
pub(super) fn resolve_config(
    base: &Path,
    file: file::FileKeys,
    complaints: &mut ConfigComplaints<'_>,
) -> Config {
    let dhcp = file.dhcp.unwrap_or_default();
    let server = file.server.unwrap_or_default();
    let tuning = resolve_tuning(file.tuning.unwrap_or_default(), complaints);
    let mut http = file.http.unwrap_or_default();
    let http_rate =
        http.rate.take().and_then(|at| quirks::resolve_http_rate(&at, "rate", complaints));
    let http = self::resolve_http(http, complaints);
    let written = dhcp.subnet.as_deref().unwrap_or_default();
    let subnets = subnets::resolve_subnets(written, complaints);
    let places = subnets::locate_subnets(written, complaints);
    let dhcp = subnets::resolve_dhcp_listeners(&dhcp, &server, &subnets, complaints);
    let policy = DhcpPolicy {
        subnets: subnets.into(),
        boot: resolve_boot(file.boot.unwrap_or_default(), complaints),
        advertise: server
            .advertise
            .as_ref()
            .and_then(|text| parse_typed_text(text, "an IPv4 address", complaints)),
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
    Config {
        root: resolve_directory(base, file.root, complaints),
        state: file
            .state
            .map_or_else(|| PathBuf::from(STATE), |state| base.join(state.into_inner())),
        server: self::resolve_server(base, &server, complaints),
        tftp: resolve_tftp(file.tftp.unwrap_or_default(), tuning.tid_sockets, complaints),
        http,
        dhcp,
        log: resolve_log(file.log.unwrap_or_default(), complaints),
        tuning,
        snapshot,
        places: Arc::new(ConfigPlaces::default()),
    }
}

/// The configuration of an empty file, but for its root.
pub(super) fn build_default_config() -> Config {
    let mut unheard = ConfigComplaints::new("", "");
    resolve_config(Path::new(""), file::FileKeys::default(), &mut unheard)
}

fn resolve_directory(
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

fn resolve_server(
    base: &Path,
    written: &file::ServerKeys,
    complaints: &mut ConfigComplaints<'_>,
) -> ServerSettings {
    let workers =
        written.workers.as_ref().and_then(|at| resolve_number(at, "workers", 1..=256, complaints));
    let user = written.user.as_ref().map(|user| resolve_user_name(user, complaints));
    let socket = written.admin_socket.as_ref().map_or(ADMIN_SOCKET, |at| at.get_ref().as_str());
    ServerSettings {
        workers: workers.map(|workers: u16| usize::from(workers)),
        admin_socket: (!socket.is_empty()).then(|| base.join(socket)),
        user,
    }
}

/// Whether there is such a user is asked at the start: the file may be checked on another machine.
fn resolve_user_name(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    let name = text.get_ref();
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
        complaints.add(
            &text.span(),
            format!("{name:?} is not the name of a user"),
            "write \"ringboot\"",
        );
    }
    name.clone()
}

fn resolve_tftp(
    written: file::TftpKeys,
    tid_sockets: u16,
    complaints: &mut ConfigComplaints<'_>,
) -> TftpSettings {
    let plain = TftpOptions {
        windowsize_max: 32,
        blksize_max: None,
        refuse_blksize: false,
        refuse_timeout: false,
        refuse_tsize: false,
        refuse_windowsize: false,
    };
    let options = resolve_tftp_options(
        plain,
        written.windowsize_max,
        written.blksize_max,
        written.refuse_options,
        complaints,
    );
    let strip = written.strip_prefixes.map_or_else(
        || STRIP_PREFIXES.map(str::to_owned).to_vec(),
        |list| list.into_iter().map(|prefix| resolve_stripped_prefix(prefix, complaints)).collect(),
    );
    TftpSettings {
        listen: resolve_listen_addresses(written.listen, TFTP_PORT, "tftp", complaints),
        per_source: resolve_source_limit(written.per_source, "per-source", 8, complaints),
        requests_per_second: resolve_source_limit(
            written.requests_per_second,
            "requests-per-second",
            100,
            complaints,
        ),
        queue: written
            .queue
            .and_then(|at| resolve_number(&at, "queue", 1..=65_536, complaints))
            .unwrap_or(1024),
        packets_per_ms: written
            .packets_per_ms
            .and_then(|at| resolve_number(&at, "packets-per-ms", 0..=1000, complaints))
            .and_then(NonZeroU16::new),
        port_range: written
            .port_range
            .and_then(|range| resolve_port_range(&range, tid_sockets, complaints)),
        case_insensitive: written.case_insensitive.is_some_and(PlacedValue::into_inner),
        strip_prefixes: strip,
        options,
        clients: written
            .client
            .unwrap_or_default()
            .into_iter()
            .map(|client| resolve_tftp_client(options, client, complaints))
            .collect(),
    }
}

fn resolve_tftp_client(
    base: TftpOptions,
    written: file::TftpClientKeys,
    complaints: &mut ConfigComplaints<'_>,
) -> TftpClient {
    if written.network.is_none() && written.mac.is_none() && written.arch.is_none() {
        let hint =
            "give `network`, `mac` or `arch`; for all clients write the same keys into [tftp]";
        complaints.add(&written.span, "this rule says what, but not for whom", hint);
    }
    TftpClient {
        network: written.network.and_then(|text| subnets::resolve_network(&text, complaints)),
        mac: written.mac.and_then(|text| parse_typed_text(&text, "a hardware address", complaints)),
        arch: written.arch.and_then(|text| resolve_arch(&text, complaints)),
        options: resolve_tftp_options(
            base,
            written.windowsize_max,
            written.blksize_max,
            written.refuse_options,
            complaints,
        ),
    }
}

fn resolve_tftp_options(
    base: TftpOptions,
    windowsize: Option<PlacedValue<u64>>,
    blksize: Option<PlacedValue<u64>>,
    refuse: Option<Vec<PlacedValue<String>>>,
    complaints: &mut ConfigComplaints<'_>,
) -> TftpOptions {
    let mut options = base;
    if let Some(max) =
        windowsize.and_then(|at| resolve_number(&at, "windowsize-max", 1..=65_535, complaints))
    {
        options.windowsize_max = max;
    }
    if let Some(max) =
        blksize.and_then(|at| resolve_number(&at, "blksize-max", 8..=65_464, complaints))
    {
        options.blksize_max = Some(max);
    }
    for name in refuse.into_iter().flatten() {
        match name.get_ref().as_str() {
            "blksize" => options.refuse_blksize = true,
            "timeout" => options.refuse_timeout = true,
            "tsize" => options.refuse_tsize = true,
            "windowsize" => options.refuse_windowsize = true,
            other => complain_unknown_word(
                other,
                &name.span(),
                "TFTP option",
                &["blksize", "timeout", "tsize", "windowsize"],
                complaints,
            ),
        }
    }
    options
}

fn resolve_arch(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> Option<Arch> {
    match text.get_ref().as_str() {
        "bios" => Some(Arch::Bios),
        "uefi-ia32" => Some(Arch::UefiIa32),
        "uefi-x64" => Some(Arch::UefiX64),
        "uefi-arm64" => Some(Arch::UefiArm64),
        other => {
            let known = ["bios", "uefi-ia32", "uefi-x64", "uefi-arm64"];
            complain_unknown_word(other, &text.span(), "architecture", &known, complaints);
            None
        }
    }
}

fn resolve_stripped_prefix(
    prefix: PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> String {
    let text = prefix.get_ref().trim_end_matches('/');
    if !text.starts_with('/') {
        complaints.add(
            &prefix.span(),
            format!("prefix {text:?} does not begin with /"),
            "write \"/tftpboot\"",
        );
    }
    text.to_owned()
}

fn resolve_port_range(
    text: &PlacedValue<String>,
    tid_sockets: u16,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<(u16, u16)> {
    let (first, last) = match parse_written_ports(text.get_ref()) {
        Ok(ends) => ends,
        Err(why) => {
            let what = format!("{:?} is not a range of ports{why}", text.get_ref());
            complaints.add(
                &text.span(),
                what,
                "write the lowest and the highest port: \"50000-50999\"",
            );
            return None;
        }
    };
    let ports = u32::from(last - first) + 1;
    if ports < u32::from(tid_sockets) {
        let what = format!(
            "{ports} ports are too few: every core opens {tid_sockets} sockets for transfers"
        );
        complaints.add(&text.span(), what, "widen the range or lower `tid-sockets` in [tuning]");
    }
    Some((first, last))
}

/// The error says which half is wrong, where there are two.
fn parse_written_ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').ok_or_else(String::new)?;
    let port = |text: &str| {
        let port = text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        port.ok_or_else(|| format!(": {:?} is no port from 1 to 65535", text.trim()))
    };
    match (port(first)?, port(last)?) {
        (first, last) if first > last => Err(": it runs backwards".to_owned()),
        ends => Ok(ends),
    }
}

/// Which half of an address with its port is wrong; empty where neither is by itself.
fn find_wrong_half(text: &str) -> String {
    let Some((address, port)) = text.rsplit_once(':') else { return ": it has no port".to_owned() };
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_address = address.parse::<Ipv4Addr>().is_ok()
        || bare.is_some_and(|bare| bare.parse::<Ipv6Addr>().is_ok());
    match (is_address, port.parse::<u16>().is_ok()) {
        (false, _) if address.parse::<Ipv6Addr>().is_ok() => {
            ": an IPv6 address stands in brackets".to_owned()
        }
        (false, _) => format!(": {address:?} is no address"),
        (true, false) => format!(": {port:?} is no port"),
        (true, true) => String::new(),
    }
}

fn resolve_http(written: file::HttpKeys, complaints: &mut ConfigComplaints<'_>) -> HttpSettings {
    let connections = written
        .connections
        .and_then(|at| resolve_number(&at, "connections", 1..=1_000_000, complaints));
    HttpSettings {
        listen: resolve_listen_addresses(written.listen, HTTP_PORT, "http", complaints),
        index: written
            .index
            .unwrap_or_default()
            .into_iter()
            .map(|at| resolve_index_prefix(&at, complaints))
            .collect(),
        index_file: written.index_file.map(|name| resolve_index_file(name, complaints)),
        per_source: resolve_source_limit(written.per_source, "per-source", 32, complaints),
        connections: connections.unwrap_or(10_000),
    }
}

/// `/centos/os` and `centos/os/` are the same directory: kept as `centos/os/`, and `/` as the empty
/// prefix.
fn resolve_index_prefix(
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

fn resolve_index_file(name: PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> String {
    if name.get_ref().is_empty() || name.get_ref().contains('/') {
        let what = format!("{:?} is not a file name", name.get_ref());
        complaints.add(&name.span(), what, "write a bare name: \"index.html\"");
    }
    name.into_inner()
}

fn resolve_boot(written: file::BootKeys, complaints: &mut ConfigComplaints<'_>) -> BootConfig {
    let mut pxe = |at: Option<PlacedValue<String>>| {
        at.map(|at| resolve_loader(at, LoaderTransport::Tftp, complaints))
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
            .map(|at| resolve_loader(at, LoaderTransport::HttpImages, complaints)),
        ipxe: written.ipxe.map(|at| resolve_loader(at, LoaderTransport::Both, complaints)),
    }
}

/// What the program that gets the name can do with it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LoaderTransport {
    /// A PXE ROM or UEFI's PXE: a name for TFTP.
    Tftp,
    /// UEFI HTTP Boot: a URL (or a path that becomes one) of a kind it knows by its ending (H-27).
    HttpImages,
    /// iPXE.
    Both,
}

fn resolve_loader(
    text: PlacedValue<String>,
    speaks: LoaderTransport,
    complaints: &mut ConfigComplaints<'_>,
) -> String {
    let (name, span) = (text.get_ref(), text.span());
    if let Some(fault) = menu::location_fault(name) {
        complaints.add(
            &span,
            format!("loader {name:?} {fault}"),
            "name a file under the root, such as \"pxelinux.0\"",
        );
    } else if speaks == LoaderTransport::Tftp && name.contains("://") {
        let hint = "give a path under the root; URLs are for `uefi-http` and `ipxe`";
        complaints.add(
            &span,
            format!("{name:?} is a URL, and PXE firmware speaks TFTP only"),
            hint,
        );
    } else if speaks == LoaderTransport::HttpImages
        && ![".efi", ".iso", ".img"].iter().any(|end| name.ends_with(end))
    {
        let what = format!(
            "UEFI HTTP Boot knows a file by its ending, and {name:?} has none that it knows"
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

fn resolve_log(written: file::LogKeys, complaints: &mut ConfigComplaints<'_>) -> LogSettings {
    let known = ["error", "warn", "info", "debug", "trace"];
    let level = written.level.and_then(|level| {
        if !known.contains(&level.get_ref().as_str()) {
            complain_unknown_word(level.get_ref(), &level.span(), "level", &known, complaints);
        }
        level.get_ref().parse().ok()
    });
    let facility = written.facility.and_then(|name| {
        let number =
            FACILITIES.iter().find(|(known, _)| known == name.get_ref()).map(|&(_, number)| number);
        if number.is_none() {
            complain_unknown_word(
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

/// Facilities that a service may log under, with their numbers (RFC 5424 table 1; names as in
/// syslog.conf(5)).
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

const DATAPATHS: [(&str, DatapathChoice); 3] = [
    ("auto", DatapathChoice::Auto),
    ("io_uring", DatapathChoice::IoUring),
    ("epoll", DatapathChoice::Epoll),
];
/// Octets: a range that is sent at once may touch two pieces of 8 MiB.
const IMAGE_MEMORY_MIN: u64 = 16 * 1024 * 1024;

/// Made for networks with losses and long ways, BBR sends by timers of its own, which cost more
/// than the copying on a provisioning network; so where the system has it, HTTP connections still
/// have what most systems have.
const CUBIC: &str = "cubic";
const SYSTEM: &str = "system";
const CONGESTIONS: [&str; 5] = [CUBIC, "reno", "bbr", "dctcp", SYSTEM];

fn resolve_tuning(
    written: file::TuningKeys,
    complaints: &mut ConfigComplaints<'_>,
) -> TuningSettings {
    let datapath = written.datapath.and_then(|name| {
        let known = DATAPATHS
            .iter()
            .find(|(known, _)| known == name.get_ref())
            .map(|&(_, datapath)| datapath);
        if known.is_none() {
            complain_unknown_word(
                name.get_ref(),
                &name.span(),
                "datapath",
                &DATAPATHS.map(|(known, _)| known),
                complaints,
            );
        }
        known
    });
    let spin_us =
        written.spin_us.and_then(|at| resolve_number(&at, "spin-us", 0..=10_000, complaints));
    let tid_sockets =
        written.tid_sockets.and_then(|at| resolve_number(&at, "tid-sockets", 1..=256, complaints));
    let http_chunk = written
        .http_chunk
        .and_then(|at| resolve_number(&at, "http-chunk", 4_096..=16_777_216, complaints));
    let http_slots =
        written.http_slots.and_then(|at| resolve_number(&at, "http-slots", 0..=10_000, complaints));
    let image_memory = written.image_memory.and_then(|at| {
        resolve_number(&at, "image-memory", IMAGE_MEMORY_MIN..=i64::MAX.unsigned_abs(), complaints)
    });
    let gso_segments =
        written.gso_segments.and_then(|at| resolve_number(&at, "gso-segments", 1..=64, complaints));
    let receive_buffers =
        written.receive_buffers.and_then(|at| resolve_power_of_two(&at, complaints));
    let tcp_congestion = written.tcp_congestion.and_then(|name| {
        let known = CONGESTIONS.iter().find(|known| *known == name.get_ref()).copied();
        if known.is_none() {
            complain_unknown_word(
                name.get_ref(),
                &name.span(),
                "tcp-congestion",
                &CONGESTIONS,
                complaints,
            );
        }
        known
    });
    TuningSettings {
        datapath: datapath.unwrap_or_default(),
        spin_us: spin_us.unwrap_or(50),
        tid_sockets: tid_sockets.unwrap_or(16),
        http_chunk: http_chunk.unwrap_or(4 * 1024 * 1024),
        tcp_congestion: Some(tcp_congestion.unwrap_or(CUBIC)).filter(|name| *name != SYSTEM),
        http_slots: Some(http_slots.unwrap_or(schedule::SLOTS)).filter(|slots| *slots > 0),
        image_memory,
        gso_segments: gso_segments.unwrap_or(64),
        receive_buffers: receive_buffers.unwrap_or(1024),
    }
}

/// `receive-buffers`: the kernel's ring of buffers wants a power of two.
fn resolve_power_of_two(
    at: &PlacedValue<u64>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<u16> {
    let count: u16 = resolve_number(at, "receive-buffers", 16..=16_384, complaints)?;
    if !count.is_power_of_two() {
        let (below, above) = (1 << count.ilog2(), count.next_power_of_two());
        let what = format!("receive-buffers = {count} is no power of two");
        complaints.add(&at.span(), what, format!("{below} and {above} are the nearest"));
        return None;
    }
    Some(count)
}

/// `["0.0.0.0:69", "[::]:69"]`; the default is both families on the usual port.
fn resolve_listen_addresses(
    written: Option<Vec<PlacedValue<String>>>,
    port: u16,
    section: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<SocketAddr> {
    let Some(list) = written else {
        return vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port),
        ];
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for text in list {
        match text.get_ref().parse() {
            Ok(address) if addresses.contains(&address) => {
                complaints.add(&text.span(), format!("{address} stands in the list twice"), "");
            }
            Ok(address) => addresses.push(address),
            Err(_) => {
                let what = format!(
                    "[{section}] cannot listen on {:?}{}",
                    text.get_ref(),
                    find_wrong_half(text.get_ref())
                );
                let hint = format!("write address and port: \"0.0.0.0:{port}\" or \"[::]:{port}\"");
                complaints.add(&text.span(), what, hint);
            }
        }
    }
    addresses
}

/// A number within its bounds.
fn resolve_number<T: TryFrom<u64>>(
    at: &PlacedValue<u64>,
    key: &str,
    allowed: RangeInclusive<u64>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<T> {
    let value = *at.get_ref();
    if let (true, Ok(value)) = (allowed.contains(&value), T::try_from(value)) {
        return Some(value);
    }
    let what = format!("{key} = {value} is out of bounds");
    complaints.add(
        &at.span(),
        what,
        format!("{} to {} are possible", allowed.start(), allowed.end()),
    );
    None
}

/// A limit per client address: 0 turns it off.
fn resolve_source_limit(
    at: Option<PlacedValue<u64>>,
    key: &str,
    default: u32,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<u32> {
    let limit =
        at.and_then(|at| resolve_number(&at, key, 0..=1_000_000, complaints)).unwrap_or(default);
    (limit > 0).then_some(limit)
}

/// A text that is one typed value.
fn parse_typed_text<T: FromStr>(
    at: &PlacedValue<String>,
    kind: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<T> {
    let value = at.get_ref().parse().ok();
    if value.is_none() {
        let hint = match kind {
            "an IPv4 address" => "write four numbers with dots: \"192.168.4.150\"",
            _ => "write six pairs of hexadecimal digits: \"52:54:00:12:34:10\"",
        };
        complaints.add(&at.span(), format!("{:?} is not {kind}", at.get_ref()), hint);
    }
    value
}

fn complain_unknown_word(
    found: &str,
    span: &Range<usize>,
    kind: &str,
    known: &[&str],
    complaints: &mut ConfigComplaints<'_>,
) {
    let hint = match find_nearest_word(found, known) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("possible are {}", known.join(", ")),
    };
    complaints.add(span, format!("{found:?} is not a known {kind}"), hint);
}
