//! `[tftp]` and `[[tftp.client]]`: the sockets of TFTP, its limits, and what clients may negotiate.

use std::num::NonZeroU16;

use super::networks::read_network;
use super::values::{
    parse_text, read_limit, read_listen_addresses, read_number, refuse_unknown_word,
};
use crate::config::file::{self, PlacedValue};
use crate::config::problem::ConfigComplaints;
use crate::config::settings::{TftpClient, TftpOptions, TftpSettings};
use crate::model::machine::Arch;

const TFTP_PORT: u16 = 69;
/// The prefixes in the requests of clients from old set-ups (T-57).
const STRIP_PREFIXES: [&str; 3] = ["/tftpboot", "/srv/tftp", "/var/lib/tftpboot"];

pub(super) fn resolve_tftp(
    written: file::TftpTable,
    tid_sockets: u16,
    workers: Option<usize>,
    complaints: &mut ConfigComplaints<'_>,
) -> TftpSettings {
    // U-Boot never finishes a transfer with windows of more than 32 blocks (T-20). Without a block
    // size the MTU of the way to the client decides (T-17).
    let plain = TftpOptions {
        windowsize_max: 32,
        blksize_max: None,
        refuse_blksize: false,
        refuse_timeout: false,
        refuse_tsize: false,
        refuse_windowsize: false,
    };
    let options = resolve_options(
        plain,
        written.windowsize_max,
        written.blksize_max,
        written.refuse_options,
        complaints,
    );

    let strip = written.strip_prefixes.map_or_else(
        || STRIP_PREFIXES.map(str::to_owned).to_vec(),
        |list| list.into_iter().map(|prefix| read_stripped_prefix(prefix, complaints)).collect(),
    );
    TftpSettings {
        listen: read_listen_addresses(written.listen, TFTP_PORT, "tftp", complaints),
        per_source: read_limit(written.per_source, "per-source", 8, complaints),
        requests_per_second: read_limit(
            written.requests_per_second,
            "requests-per-second",
            100,
            complaints,
        ),
        queue: written
            .queue
            .and_then(|at| read_number(&at, "queue", 1..=65_536, complaints))
            .unwrap_or(1024),
        packets_per_ms: written
            .packets_per_ms
            .and_then(|at| read_number(&at, "packets-per-ms", 0..=1000, complaints))
            .and_then(NonZeroU16::new),
        port_range: written
            .port_range
            .and_then(|range| read_port_range(&range, tid_sockets, workers, complaints)),
        case_insensitive: written.case_insensitive.is_some_and(PlacedValue::into_inner),
        strip_prefixes: strip,
        options,
        clients: written
            .client
            .unwrap_or_default()
            .into_iter()
            .map(|client| resolve_client(options, client, complaints))
            .collect(),
    }
}

fn resolve_client(
    base: TftpOptions,
    written: file::TftpClientTable,
    complaints: &mut ConfigComplaints<'_>,
) -> TftpClient {
    // The first rule that fits a client counts. A rule without a condition would hide all rules
    // below.
    if written.network.is_none() && written.mac.is_none() && written.arch.is_none() {
        let hint =
            "write `network`, `mac` or `arch`; for all clients write the same keys into [tftp]";
        complaints.add(&written.span, "this rule matches no client", hint);
    }
    TftpClient {
        network: written.network.and_then(|text| read_network(&text, complaints)),
        mac: written.mac.and_then(|text| parse_text(&text, "a hardware address", complaints)),
        arch: written.arch.and_then(|text| read_arch(&text, complaints)),
        options: resolve_options(
            base,
            written.windowsize_max,
            written.blksize_max,
            written.refuse_options,
            complaints,
        ),
    }
}

fn resolve_options(
    base: TftpOptions,
    windowsize: Option<PlacedValue<u64>>,
    blksize: Option<PlacedValue<u64>>,
    refuse: Option<Vec<PlacedValue<String>>>,
    complaints: &mut ConfigComplaints<'_>,
) -> TftpOptions {
    let mut options = base;
    if let Some(max) =
        windowsize.and_then(|at| read_number(&at, "windowsize-max", 1..=65_535, complaints))
    {
        options.windowsize_max = max;
    }
    if let Some(max) =
        blksize.and_then(|at| read_number(&at, "blksize-max", 8..=65_464, complaints))
    {
        options.blksize_max = Some(max);
    }

    // The list adds to the base: the list of a client cannot take back a refusal of `[tftp]`.
    for name in refuse.into_iter().flatten() {
        match name.get_ref().as_str() {
            "blksize" => options.refuse_blksize = true,
            "timeout" => options.refuse_timeout = true,
            "tsize" => options.refuse_tsize = true,
            "windowsize" => options.refuse_windowsize = true,
            other => refuse_unknown_word(
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

fn read_arch(text: &PlacedValue<String>, complaints: &mut ConfigComplaints<'_>) -> Option<Arch> {
    match text.get_ref().as_str() {
        "bios" => Some(Arch::Bios),
        "uefi-ia32" => Some(Arch::UefiIa32),
        "uefi-x64" => Some(Arch::UefiX64),
        "uefi-arm64" => Some(Arch::UefiArm64),
        other => {
            let known = ["bios", "uefi-ia32", "uefi-x64", "uefi-arm64"];
            refuse_unknown_word(other, &text.span(), "architecture", &known, complaints);
            None
        }
    }
}

fn read_stripped_prefix(
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

fn read_port_range(
    text: &PlacedValue<String>,
    tid_sockets: u16,
    workers: Option<usize>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<(u16, u16)> {
    let (first, last) = match parse_port_range(text.get_ref()) {
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

    // Each transfer socket of each core has a port of its own. Without `workers` the server counts
    // the cores at its start, so this counts the sockets of one.
    let ports = usize::from(last - first) + 1;
    let cores = workers.unwrap_or(1);
    if ports < usize::from(tid_sockets) * cores {
        let each = if cores == 1 {
            "each core opens".to_owned()
        } else {
            format!("each of {cores} cores opens")
        };
        let what = format!("{ports} ports are too few: {each} {tid_sockets} sockets for transfers");
        complaints.add(&text.span(), what, "widen the range or lower `tid-sockets` in [tuning]");
    }
    Some((first, last))
}

/// An error names the wrong half of a text with two halves, and is empty for any other text.
fn parse_port_range(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').ok_or_else(String::new)?;
    match (parse_port(first)?, parse_port(last)?) {
        (first, last) if first > last => Err(": the first port is higher than the last".to_owned()),
        ends => Ok(ends),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!(": {:?} is not a port from 1 to 65535", text.trim())),
    }
}
