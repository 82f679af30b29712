//! The keys of the configuration file with their values and positions; `resolve` gives them their
//! meaning.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::problem::ConfigComplaints;
use crate::model::spelling::find_nearest_word;

/// One value with its position in the file.
pub(super) type PlacedValue<T> = toml::Spanned<T>;

/// Reads the whole file; None after a syntax error. A value of the wrong kind is absent from the
/// result and has a complaint.
pub(super) fn read_config_text(
    text: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<FileTable> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let span = table.span();
        return FileTable::from_table(span, table.into_inner(), complaints);
    }
    // After a syntax error the rest of the tree is a guess: report the syntax error alone.
    for error in errors {
        complaints.add(&error.span().unwrap_or(0..0), error.message().trim(), "");
    }
    None
}

/// A kind of value that a key can hold.
pub(super) trait FileValue: Sized {
    /// A description for hints: `write EXAMPLE`.
    const EXAMPLE: &'static str;
    /// The kind in a word or two, for the documentation.
    const KIND: &'static str;
    /// The kind of a list of such values, for the documentation.
    const LIST_KIND: &'static str = "list";

    /// None for a value of another kind; then a complaint was added.
    fn read(
        key: &str,
        value: PlacedValue<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self>;
}

/// Declares the tables of the file: each field beside its key, so that a key is written only once.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident in $table:literal {
        $($field:ident: $kind:ty = $key:literal,)*
    })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            /// Where the table begins. Tables without required keys do not use it.
            #[allow(dead_code)]
            pub(super) span: Range<usize>,
            $(pub(super) $field: Option<$kind>,)*
        }

        impl $name {
            /// Every key of this table, in the order of the documentation.
            pub(super) const KEYS: &'static [&'static str] = &[$($key),*];
            const KINDS: &'static [&'static str] = &[$(<$kind as FileValue>::KIND),*];

            fn from_table(
                span: Range<usize>,
                table: DeTable<'_>,
                complaints: &mut ConfigComplaints<'_>,
            ) -> Option<Self> {
                let mut read = Self { span, ..Self::default() };
                for (key, value) in table {
                    match key.get_ref().as_ref() {
                        $($key => {
                            read.$field = FileValue::read($key, value, complaints);
                            if read.$field.is_none() {
                                let example = super::reference::find_key_example($table, $key);
                                complaints.append_example(example);
                            }
                        })*
                        unknown => refuse_unknown_key(unknown, key.span(), Self::KEYS, complaints),
                    }
                }
                Some(read)
            }
        }

        impl FileValue for $name {
            const EXAMPLE: &'static str = "a table of its own keys";
            const KIND: &'static str = "table";

            fn read(
                key: &str,
                value: PlacedValue<DeValue<'_>>,
                complaints: &mut ConfigComplaints<'_>,
            ) -> Option<Self> {
                let span = value.span();
                match value.into_inner() {
                    DeValue::Table(table) => Self::from_table(span, table, complaints),
                    other => refuse_value::<Self>(key, &span, &other, complaints),
                }
            }
        }
    )*
        /// Every table with its keys, and the kind of each.
        pub(super) const TABLES: &[(&str, &[&str], &[&str])] = &[$(($table, $name::KEYS,
            $name::KINDS)),*];
    };
}

tables! {
    /// The file itself.
    FileTable in "" {
        root: PlacedValue<String> = "root",
        state: PlacedValue<String> = "state",
        links: LinksTable = "links",
        server: ServerTable = "server",
        tftp: TftpTable = "tftp",
        http: HttpTable = "http",
        dhcp: DhcpTable = "dhcp",
        boot: BootTable = "boot",
        menu: MenuTable = "menu",
        quirk: Vec<QuirkTable> = "quirk",
        log: LogTable = "log",
        tuning: TuningTable = "tuning",
    }
    /// `[links]`
    LinksTable in "[links]" {
        allow: Vec<PlacedValue<String>> = "allow",
    }
    /// `[server]`
    ServerTable in "[server]" {
        interfaces: Vec<PlacedValue<String>> = "interfaces",
        workers: PlacedValue<u64> = "workers",
        advertise: PlacedValue<String> = "advertise",
        admin_socket: PlacedValue<String> = "admin-socket",
        user: PlacedValue<String> = "user",
    }
    /// `[tftp]`
    TftpTable in "[tftp]" {
        listen: Vec<PlacedValue<String>> = "listen",
        per_source: PlacedValue<u64> = "per-source",
        requests_per_second: PlacedValue<u64> = "requests-per-second",
        queue: PlacedValue<u64> = "queue",
        windowsize_max: PlacedValue<u64> = "windowsize-max",
        blksize_max: PlacedValue<u64> = "blksize-max",
        refuse_options: Vec<PlacedValue<String>> = "refuse-options",
        packets_per_ms: PlacedValue<u64> = "packets-per-ms",
        port_range: PlacedValue<String> = "port-range",
        case_insensitive: PlacedValue<bool> = "case-insensitive",
        strip_prefixes: Vec<PlacedValue<String>> = "strip-prefixes",
        client: Vec<TftpClientTable> = "client",
    }
    /// `[[tftp.client]]`
    TftpClientTable in "[[tftp.client]]" {
        network: PlacedValue<String> = "network",
        mac: PlacedValue<String> = "mac",
        arch: PlacedValue<String> = "arch",
        windowsize_max: PlacedValue<u64> = "windowsize-max",
        blksize_max: PlacedValue<u64> = "blksize-max",
        refuse_options: Vec<PlacedValue<String>> = "refuse-options",
    }
    /// `[http]`
    HttpTable in "[http]" {
        listen: Vec<PlacedValue<String>> = "listen",
        index: Vec<PlacedValue<String>> = "index",
        index_file: PlacedValue<String> = "index-file",
        per_source: PlacedValue<u64> = "per-source",
        connections: PlacedValue<u64> = "connections",
        rate: PlacedValue<u64> = "rate",
    }
    /// `[dhcp]`
    DhcpTable in "[dhcp]" {
        listen_address: PlacedValue<String> = "listen-address",
        listen_port: PlacedValue<u64> = "listen-port",
        subnet: Vec<SubnetTable> = "subnet",
    }
    /// `[[dhcp.subnet]]`
    SubnetTable in "[[dhcp.subnet]]" {
        subnet: PlacedValue<String> = "subnet",
        interface: PlacedValue<String> = "interface",
        relay: PlacedValue<bool> = "relay",
        shared_network: PlacedValue<String> = "shared-network",
        mode: PlacedValue<String> = "mode",
        clients: PlacedValue<String> = "clients",
        allow_other_servers: PlacedValue<bool> = "allow-other-servers",
        conflict_detection: PlacedValue<bool> = "conflict-detection",
        pools: Vec<PlacedValue<String>> = "pools",
        routers: Vec<PlacedValue<String>> = "routers",
        domain_name: PlacedValue<String> = "domain-name",
        domain_name_servers: Vec<PlacedValue<String>> = "domain-name-servers",
        ntp_servers: Vec<PlacedValue<String>> = "ntp-servers",
        default_lease_time: PlacedValue<SecondsValue> = "default-lease-time",
        max_lease_time: PlacedValue<SecondsValue> = "max-lease-time",
        authoritative: PlacedValue<bool> = "authoritative",
        next_server: PlacedValue<String> = "next-server",
        install_by_default: PlacedValue<bool> = "install-by-default",
        pxelinux_config: PlacedValue<String> = "pxelinux-config",
        pxelinux_prefix: PlacedValue<String> = "pxelinux-prefix",
        host: Vec<HostTable> = "host",
    }
    /// `[[dhcp.subnet.host]]`
    HostTable in "[[dhcp.subnet.host]]" {
        mac: PlacedValue<String> = "mac",
        address: PlacedValue<String> = "address",
        hostname: PlacedValue<String> = "hostname",
    }
    /// `[boot]`
    BootTable in "[boot]" {
        bios: PlacedValue<String> = "bios",
        uefi_x64: PlacedValue<String> = "uefi-x64",
        uefi_ia32: PlacedValue<String> = "uefi-ia32",
        uefi_arm64: PlacedValue<String> = "uefi-arm64",
        uefi_http: PlacedValue<String> = "uefi-http",
        ipxe: PlacedValue<String> = "ipxe",
    }
    /// `[menu]`
    MenuTable in "[menu]" {
        title: PlacedValue<String> = "title",
        default: PlacedValue<String> = "default",
        timeout: PlacedValue<SecondsValue> = "timeout",
        background: PlacedValue<String> = "background",
        display: PlacedValue<String> = "display",
        console: PlacedValue<String> = "console",
        entry: Vec<EntryTable> = "entry",
    }
    /// `[[menu.entry]]`
    EntryTable in "[[menu.entry]]" {
        label: PlacedValue<String> = "label",
        title: PlacedValue<String> = "title",
        kernel: PlacedValue<String> = "kernel",
        initrd: OneOrMany = "initrd",
        arguments: PlacedValue<String> = "arguments",
    }
    /// `[[quirk]]`
    QuirkTable in "[[quirk]]" {
        mac: PlacedValue<String> = "mac",
        oui: PlacedValue<String> = "oui",
        vendor_class: PlacedValue<String> = "vendor-class",
        windowsize_max: PlacedValue<u64> = "windowsize-max",
        blksize_max: PlacedValue<u64> = "blksize-max",
        http_rate: PlacedValue<u64> = "http-rate",
    }
    /// `[log]`
    LogTable in "[log]" {
        level: PlacedValue<String> = "level",
        facility: PlacedValue<String> = "facility",
    }
    /// `[tuning]`
    TuningTable in "[tuning]" {
        datapath: PlacedValue<String> = "datapath",
        spin_us: PlacedValue<u64> = "spin-us",
        tid_sockets: PlacedValue<u64> = "tid-sockets",
        http_chunk: PlacedValue<u64> = "http-chunk",
        http_slots: PlacedValue<u64> = "http-slots",
        tcp_congestion: PlacedValue<String> = "tcp-congestion",
        image_memory: PlacedValue<u64> = "image-memory",
        gso_segments: PlacedValue<u64> = "gso-segments",
        receive_buffers: PlacedValue<u64> = "receive-buffers",
    }
}

/// The kind of a key's value: "text", "number", "list of texts", ...
pub fn find_value_kind(table: &str, key: &str) -> &'static str {
    find_known_kind(table, key).unwrap_or("unknown")
}

fn find_known_kind(table: &str, key: &str) -> Option<&'static str> {
    let (_, keys, kinds) = TABLES.iter().find(|(name, ..)| *name == table)?;
    let index = keys.iter().position(|known| *known == key)?;
    kinds.get(index).copied()
}

/// A duration: `600`, `"90s"`, `"10m"`, `"12h"`, `"2d"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SecondsValue(pub(super) u64);

/// `"initrd.img"` or `["microcode.img", "initrd.img"]`.
#[derive(Debug, Default)]
pub(super) struct OneOrMany(pub(super) Vec<PlacedValue<String>>);

impl FileValue for String {
    const EXAMPLE: &'static str = "text in quotes";
    const KIND: &'static str = "text";
    const LIST_KIND: &'static str = "list of texts";

    fn read(
        key: &str,
        value: PlacedValue<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let span = value.span();
        match value.into_inner() {
            DeValue::String(text) => Some(text.into_owned()),
            other => refuse_value::<Self>(key, &span, &other, complaints),
        }
    }
}

impl FileValue for bool {
    const EXAMPLE: &'static str = "true or false";
    const KIND: &'static str = "true or false";

    fn read(
        key: &str,
        value: PlacedValue<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(*yes),
            other => refuse_value::<Self>(key, &value.span(), other, complaints),
        }
    }
}

impl FileValue for u64 {
    const EXAMPLE: &'static str = "a whole number, such as 8, without quotes";
    const KIND: &'static str = "number";

    fn read(
        key: &str,
        value: PlacedValue<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let number = match value.get_ref() {
            DeValue::Integer(digits) => Self::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        number.or_else(|| refuse_value::<Self>(key, &value.span(), value.get_ref(), complaints))
    }
}

impl FileValue for SecondsValue {
    const EXAMPLE: &'static str =
        "a number of seconds, or text such as \"90s\", \"10m\", \"12h\" or \"2d\"";
    const KIND: &'static str = "duration";

    fn read(
        key: &str,
        value: PlacedValue<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let seconds = match value.get_ref() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => parse_seconds(text),
            _ => None,
        };
        seconds
            .map(Self)
            .or_else(|| refuse_value::<Self>(key, &value.span(), value.get_ref(), complaints))
    }
}

impl FileValue for OneOrMany {
    const EXAMPLE: &'static str = "text in quotes, or a list of such texts";
    const KIND: &'static str = "text or list of texts";

    fn read(
        key: &str,
        value: PlacedValue<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => {
                FileValue::read(key, value, complaints).map(|one| Self(vec![one]))
            }
            DeValue::Array(_) => FileValue::read(key, value, complaints).map(Self),
            other => refuse_value::<Self>(key, &value.span(), other, complaints),
        }
    }
}

impl<T: FileValue> FileValue for PlacedValue<T> {
    const EXAMPLE: &'static str = T::EXAMPLE;
    const KIND: &'static str = T::KIND;
    const LIST_KIND: &'static str = T::LIST_KIND;

    fn read(
        key: &str,
        value: PlacedValue<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let span = value.span();
        T::read(key, value, complaints).map(|read| Self::new(span, read))
    }
}

impl<T: FileValue> FileValue for Vec<T> {
    const EXAMPLE: &'static str = "a list in square brackets";
    const KIND: &'static str = T::LIST_KIND;

    fn read(
        key: &str,
        value: PlacedValue<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(items) => {
                Some(items.into_iter().filter_map(|item| T::read(key, item, complaints)).collect())
            }
            other => {
                let what = format!("{key} must be a list, not {}", describe_found_value(&other));
                let hint = format!("write {}, each item {}", Self::EXAMPLE, T::EXAMPLE);
                complaints.add(&span, what, hint);
                None
            }
        }
    }
}

fn refuse_value<T: FileValue>(
    key: &str,
    span: &Range<usize>,
    found: &DeValue<'_>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<T> {
    complaints.add(
        span,
        format!("{key} cannot be {}", describe_found_value(found)),
        format!("write {}", T::EXAMPLE),
    );
    None
}

/// Words of ISC dhcpd, dnsmasq and xinetd for what has another key here.
const WORDS_OF_OTHERS: &[(&[&str], &str)] = &[
    (
        &["filename", "bootfile", "boot-file", "dhcp-boot", "bootfile-name"],
        "boot files have keys in [boot], one for each kind of firmware: bios, uefi-x64, ...",
    ),
    (
        &["range", "ranges", "dhcp-range"],
        "write `pools = [\"192.168.4.10-192.168.4.100\"]` in [[dhcp.subnet]]",
    ),
    (
        &["fixed-address", "fixed-ip", "ip", "ip-address"],
        "write `address = \"192.168.4.10\"` in [[dhcp.subnet.host]]",
    ),
    (
        &["hardware", "hardware-ethernet", "hwaddr", "ethernet"],
        "write `mac = \"52:54:00:12:34:10\"` in [[dhcp.subnet.host]]",
    ),
    (&["dhcp-host", "reservation", "reservations"], "each machine is a [[dhcp.subnet.host]]"),
    (
        &["netmask", "subnet-mask"],
        "the mask is a part of the network: `subnet = \"192.168.4.0/24\"` in [[dhcp.subnet]]",
    ),
    (
        &["gateway", "gateways", "option-routers"],
        "write `routers = [\"192.168.4.1\"]` in [[dhcp.subnet]]",
    ),
    (
        &["dns", "dns-server", "dns-servers", "nameserver", "nameservers"],
        "write `domain-name-servers = [\"192.168.4.1\"]` in [[dhcp.subnet]]",
    ),
    (&["lease-time", "dhcp-lease-time"], "write `default-lease-time` in [[dhcp.subnet]]"),
    (&["deny", "ignore", "allow-unknown", "unknown-clients"], "write `clients` in [[dhcp.subnet]]"),
    (
        &["tftp-root", "tftproot", "document-root"],
        "write `root` above all tables: one tree for both",
    ),
    (&["cps"], "write `requests-per-second` in [tftp]"),
];

fn refuse_unknown_key(
    key: &str,
    span: Range<usize>,
    known: &[&str],
    complaints: &mut ConfigComplaints<'_>,
) {
    let word = key.to_ascii_lowercase().replace('_', "-");
    let elsewhere = WORDS_OF_OTHERS.iter().find(|(words, _)| words.contains(&word.as_str()));
    let hint = match (elsewhere, find_nearest_word(key, known)) {
        (Some((_, hint)), _) => (*hint).to_owned(),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) => format!("the keys of this table are: {}", known.join(", ")),
    };
    complaints.add(&span, format!("unknown key `{key}`"), hint);
}

fn describe_found_value(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(yes) => format!("{yes}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

fn parse_seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    // `parse` would accept a sign too.
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_seconds("90s"), Some(90));
        assert_eq!(parse_seconds("10m"), Some(600));
        assert_eq!(parse_seconds("12h"), Some(43_200));
        assert_eq!(parse_seconds("2d"), Some(172_800));
        for wrong in ["", "h", "12", "1.5h", "+2h", "12 h", "12H", "99999999999999999999d"] {
            assert_eq!(parse_seconds(wrong), None, "{wrong:?}");
        }
    }
}
