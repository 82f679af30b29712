//! What was written: the keys of the configuration file with their places. What they mean is
//! `resolve`'s business.

use std::ops::Range;

use toml::de::{DeTable, DeValue};

use super::problem::ConfigComplaints;
use crate::model::spelling::nearest_word;

/// One value and where it stands in the file.
pub(super) type At<T> = toml::Spanned<T>;

/// Reads the whole file; None after an error of syntax. A value that could not be read is absent,
/// and among the complaints.
pub(super) fn read(text: &str, complaints: &mut ConfigComplaints<'_>) -> Option<FileTable> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        let span = table.span();
        return FileTable::from_table(span, table.into_inner(), complaints);
    }
    // After a syntax error the rest of the tree is a guess: say what the parser says and nothing
    // more.
    for error in errors {
        complaints.add(&error.span().unwrap_or(0..0), error.message().trim(), "");
    }
    None
}

/// A kind of value that a key can hold.
pub(super) trait WrittenValue: Sized {
    /// What it looks like, for hints.
    const EXAMPLE: &'static str;
    /// The kind in a word or two, and a list of it, for the documentation.
    const KIND: &'static str;
    const LIST_KIND: &'static str = "list";

    /// None: it was something else, and the complaint has been made.
    fn read(
        key: &str,
        value: At<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self>;
}

/// Declares the tables of the file: each field with its key, so that the key is written down once.
macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident in $table:literal {
        $($field:ident: $kind:ty = $key:literal,)*
    })*) => { $(
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(super) struct $name {
            /// Where the table begins. Tables without required keys have no use for it.
            #[allow(dead_code)]
            pub(super) span: Range<usize>,
            $(pub(super) $field: Option<$kind>,)*
        }

        impl $name {
            /// Every key of this table, in the order of the documentation.
            pub(super) const KEYS: &'static [&'static str] = &[$($key),*];
            const KINDS: &'static [&'static str] = &[$(<$kind as WrittenValue>::KIND),*];

            fn from_table(
                span: Range<usize>,
                table: DeTable<'_>,
                complaints: &mut ConfigComplaints<'_>,
            ) -> Option<Self> {
                let mut read = Self { span, ..Self::default() };
                for (key, value) in table {
                    match key.get_ref().as_ref() {
                        $($key => {
                            read.$field = WrittenValue::read($key, value, complaints);
                            if read.$field.is_none() {
                                complaints.exemplify(super::reference::example($table, $key));
                            }
                        })*
                        unknown => refuse_unknown(unknown, key.span(), Self::KEYS, complaints),
                    }
                }
                Some(read)
            }
        }

        impl WrittenValue for $name {
            const EXAMPLE: &'static str = "a table of its own keys";
            const KIND: &'static str = "table";

            fn read(
                key: &str,
                value: At<DeValue<'_>>,
                complaints: &mut ConfigComplaints<'_>,
            ) -> Option<Self> {
                let span = value.span();
                match value.into_inner() {
                    DeValue::Table(table) => Self::from_table(span, table, complaints),
                    other => refuse::<Self>(key, &span, &other, complaints),
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
        root: At<String> = "root",
        state: At<String> = "state",
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
    /// `[server]`
    ServerTable in "[server]" {
        interfaces: Vec<At<String>> = "interfaces",
        workers: At<u64> = "workers",
        advertise: At<String> = "advertise",
        admin_socket: At<String> = "admin-socket",
        user: At<String> = "user",
    }
    /// `[tftp]`
    TftpTable in "[tftp]" {
        listen: Vec<At<String>> = "listen",
        per_source: At<u64> = "per-source",
        requests_per_second: At<u64> = "requests-per-second",
        queue: At<u64> = "queue",
        windowsize_max: At<u64> = "windowsize-max",
        blksize_max: At<u64> = "blksize-max",
        refuse_options: Vec<At<String>> = "refuse-options",
        packets_per_ms: At<u64> = "packets-per-ms",
        port_range: At<String> = "port-range",
        case_insensitive: At<bool> = "case-insensitive",
        strip_prefixes: Vec<At<String>> = "strip-prefixes",
        client: Vec<TftpClientTable> = "client",
    }
    /// `[[tftp.client]]`
    TftpClientTable in "[[tftp.client]]" {
        network: At<String> = "network",
        mac: At<String> = "mac",
        arch: At<String> = "arch",
        windowsize_max: At<u64> = "windowsize-max",
        blksize_max: At<u64> = "blksize-max",
        refuse_options: Vec<At<String>> = "refuse-options",
    }
    /// `[http]`
    HttpTable in "[http]" {
        listen: Vec<At<String>> = "listen",
        index: Vec<At<String>> = "index",
        index_file: At<String> = "index-file",
        per_source: At<u64> = "per-source",
        connections: At<u64> = "connections",
        rate: At<u64> = "rate",
    }
    /// `[dhcp]`
    DhcpTable in "[dhcp]" {
        listen_address: At<String> = "listen-address",
        listen_port: At<u64> = "listen-port",
        subnet: Vec<SubnetTable> = "subnet",
    }
    /// `[[dhcp.subnet]]`
    SubnetTable in "[[dhcp.subnet]]" {
        subnet: At<String> = "subnet",
        interface: At<String> = "interface",
        relay: At<bool> = "relay",
        shared_network: At<String> = "shared-network",
        mode: At<String> = "mode",
        clients: At<String> = "clients",
        allow_other_servers: At<bool> = "allow-other-servers",
        conflict_detection: At<bool> = "conflict-detection",
        pools: Vec<At<String>> = "pools",
        routers: Vec<At<String>> = "routers",
        domain_name: At<String> = "domain-name",
        domain_name_servers: Vec<At<String>> = "domain-name-servers",
        ntp_servers: Vec<At<String>> = "ntp-servers",
        default_lease_time: At<WrittenSeconds> = "default-lease-time",
        max_lease_time: At<WrittenSeconds> = "max-lease-time",
        authoritative: At<bool> = "authoritative",
        next_server: At<String> = "next-server",
        install_by_default: At<bool> = "install-by-default",
        pxelinux_config: At<String> = "pxelinux-config",
        pxelinux_prefix: At<String> = "pxelinux-prefix",
        host: Vec<HostTable> = "host",
    }
    /// `[[dhcp.subnet.host]]`
    HostTable in "[[dhcp.subnet.host]]" {
        mac: At<String> = "mac",
        address: At<String> = "address",
        hostname: At<String> = "hostname",
    }
    /// `[boot]`
    BootTable in "[boot]" {
        bios: At<String> = "bios",
        uefi_x64: At<String> = "uefi-x64",
        uefi_ia32: At<String> = "uefi-ia32",
        uefi_arm64: At<String> = "uefi-arm64",
        uefi_http: At<String> = "uefi-http",
        ipxe: At<String> = "ipxe",
    }
    /// `[menu]`
    MenuTable in "[menu]" {
        title: At<String> = "title",
        default: At<String> = "default",
        timeout: At<WrittenSeconds> = "timeout",
        background: At<String> = "background",
        display: At<String> = "display",
        console: At<String> = "console",
        entry: Vec<EntryTable> = "entry",
    }
    /// `[[menu.entry]]`
    EntryTable in "[[menu.entry]]" {
        label: At<String> = "label",
        title: At<String> = "title",
        kernel: At<String> = "kernel",
        initrd: OneOrMany = "initrd",
        arguments: At<String> = "arguments",
    }
    /// `[[quirk]]`
    QuirkTable in "[[quirk]]" {
        mac: At<String> = "mac",
        oui: At<String> = "oui",
        vendor_class: At<String> = "vendor-class",
        windowsize_max: At<u64> = "windowsize-max",
        blksize_max: At<u64> = "blksize-max",
        http_rate: At<u64> = "http-rate",
    }
    /// `[log]`
    LogTable in "[log]" {
        level: At<String> = "level",
        facility: At<String> = "facility",
    }
    /// `[tuning]`
    TuningTable in "[tuning]" {
        datapath: At<String> = "datapath",
        spin_us: At<u64> = "spin-us",
        tid_sockets: At<u64> = "tid-sockets",
        http_chunk: At<u64> = "http-chunk",
        http_slots: At<u64> = "http-slots",
        tcp_congestion: At<String> = "tcp-congestion",
        image_memory: At<u64> = "image-memory",
        gso_segments: At<u64> = "gso-segments",
        receive_buffers: At<u64> = "receive-buffers",
    }
}

/// The kind of a key's value: "text", "number", "list of texts", ...
pub fn kind_of(table: &str, key: &str) -> &'static str {
    let known = TABLES.iter().find(|(name, ..)| *name == table);
    let place = |keys: &[&str]| keys.iter().position(|known| *known == key);
    known.and_then(|(_, keys, kinds)| kinds.get(place(keys)?)).copied().unwrap_or("unknown")
}

/// A duration: `600`, `"90s"`, `"10m"`, `"12h"`, `"2d"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenSeconds(pub(super) u64);

/// `"initrd.img"` or `["microcode.img", "initrd.img"]`.
#[derive(Debug, Default)]
pub(super) struct OneOrMany(pub(super) Vec<At<String>>);

impl WrittenValue for String {
    const EXAMPLE: &'static str = "text in quotes";
    const KIND: &'static str = "text";
    const LIST_KIND: &'static str = "list of texts";

    fn read(
        key: &str,
        value: At<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let span = value.span();
        match value.into_inner() {
            DeValue::String(text) => Some(text.into_owned()),
            other => refuse::<Self>(key, &span, &other, complaints),
        }
    }
}

impl WrittenValue for bool {
    const EXAMPLE: &'static str = "true or false";
    const KIND: &'static str = "true or false";

    fn read(
        key: &str,
        value: At<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Boolean(yes) => Some(*yes),
            other => refuse::<Self>(key, &value.span(), other, complaints),
        }
    }
}

impl WrittenValue for u64 {
    const EXAMPLE: &'static str = "a whole number, such as 8, without quotes";
    const KIND: &'static str = "number";

    fn read(
        key: &str,
        value: At<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let number = match value.get_ref() {
            DeValue::Integer(digits) => Self::from_str_radix(digits.as_str(), digits.radix()).ok(),
            _ => None,
        };
        number.or_else(|| refuse::<Self>(key, &value.span(), value.get_ref(), complaints))
    }
}

impl WrittenValue for WrittenSeconds {
    const EXAMPLE: &'static str =
        "a number of seconds, or text such as \"90s\", \"10m\", \"12h\" or \"2d\"";
    const KIND: &'static str = "duration";

    fn read(
        key: &str,
        value: At<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let seconds = match value.get_ref() {
            DeValue::Integer(digits) => u64::from_str_radix(digits.as_str(), digits.radix()).ok(),
            DeValue::String(text) => seconds(text),
            _ => None,
        };
        seconds
            .map(Self)
            .or_else(|| refuse::<Self>(key, &value.span(), value.get_ref(), complaints))
    }
}

impl WrittenValue for OneOrMany {
    const EXAMPLE: &'static str = "text in quotes, or a list of such texts";
    const KIND: &'static str = "text or list of texts";

    fn read(
        key: &str,
        value: At<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(_) => {
                WrittenValue::read(key, value, complaints).map(|one| Self(vec![one]))
            }
            DeValue::Array(_) => WrittenValue::read(key, value, complaints).map(Self),
            other => refuse::<Self>(key, &value.span(), other, complaints),
        }
    }
}

impl<T: WrittenValue> WrittenValue for At<T> {
    const EXAMPLE: &'static str = T::EXAMPLE;
    const KIND: &'static str = T::KIND;
    const LIST_KIND: &'static str = T::LIST_KIND;

    fn read(
        key: &str,
        value: At<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let span = value.span();
        T::read(key, value, complaints).map(|read| Self::new(span, read))
    }
}

impl<T: WrittenValue> WrittenValue for Vec<T> {
    const EXAMPLE: &'static str = "a list in square brackets";
    const KIND: &'static str = T::LIST_KIND;

    fn read(
        key: &str,
        value: At<DeValue<'_>>,
        complaints: &mut ConfigComplaints<'_>,
    ) -> Option<Self> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(items) => {
                Some(items.into_iter().filter_map(|item| T::read(key, item, complaints)).collect())
            }
            other => {
                let hint = format!("write {}, each item {}", Self::EXAMPLE, T::EXAMPLE);
                complaints.add(
                    &span,
                    format!("{key} is a list, this is {}", found_kind(&other)),
                    hint,
                );
                None
            }
        }
    }
}

fn refuse<T: WrittenValue>(
    key: &str,
    span: &Range<usize>,
    found: &DeValue<'_>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<T> {
    complaints.add(
        span,
        format!("{key} cannot be {}", found_kind(found)),
        format!("write {}", T::EXAMPLE),
    );
    None
}

fn refuse_unknown(
    key: &str,
    span: Range<usize>,
    known: &[&str],
    complaints: &mut ConfigComplaints<'_>,
) {
    let hint = match nearest_word(key, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.join(", ")),
    };
    complaints.add(&span, format!("unknown key `{key}`"), hint);
}

fn found_kind(value: &DeValue<'_>) -> String {
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

fn seconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        _ => return None,
    };
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    plain.then(|| digits.parse::<u64>().ok()?.checked_mul(unit)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(seconds("90s"), Some(90));
        assert_eq!(seconds("10m"), Some(600));
        assert_eq!(seconds("12h"), Some(43_200));
        assert_eq!(seconds("2d"), Some(172_800));
        for wrong in ["", "h", "12", "1.5h", "+2h", "12 h", "12H", "99999999999999999999d"] {
            assert_eq!(seconds(wrong), None, "{wrong:?}");
        }
    }
}
