//! `[tuning]`: how cores speak to the kernel, and how much they do at once.

use super::values::{read_number, refuse_unknown_word};
use crate::config::file::{self, PlacedValue};
use crate::config::problem::ConfigComplaints;
use crate::config::settings::{DatapathChoice, TuningSettings};
use crate::http::schedule;

const DATAPATHS: [(&str, DatapathChoice); 3] = [
    ("auto", DatapathChoice::Auto),
    ("io_uring", DatapathChoice::IoUring),
    ("epoll", DatapathChoice::Epoll),
];
/// In bytes: a range in one send may touch two pieces of 8 MiB.
const IMAGE_MEMORY_MIN: u64 = 16 * 1024 * 1024;

/// The default, also where the system's own is BBR. BBR is made for long paths with losses and
/// sends by timers, which cost more than the copying on a provisioning network.
const CUBIC: &str = "cubic";
/// Leaves the choice to the system.
const SYSTEM: &str = "system";
const CONGESTIONS: [&str; 5] = [CUBIC, "reno", "bbr", "dctcp", SYSTEM];

pub(super) fn resolve_tuning(
    written: file::TuningTable,
    complaints: &mut ConfigComplaints<'_>,
) -> TuningSettings {
    let datapath = written.datapath.and_then(|name| {
        let known = DATAPATHS
            .iter()
            .find(|(known, _)| known == name.get_ref())
            .map(|&(_, datapath)| datapath);
        if known.is_none() {
            refuse_unknown_word(
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
        written.spin_us.and_then(|at| read_number(&at, "spin-us", 0..=10_000, complaints));
    let tid_sockets =
        written.tid_sockets.and_then(|at| read_number(&at, "tid-sockets", 1..=256, complaints));
    let http_chunk = written
        .http_chunk
        .and_then(|at| read_number(&at, "http-chunk", 4_096..=16_777_216, complaints));
    let http_slots =
        written.http_slots.and_then(|at| read_number(&at, "http-slots", 0..=10_000, complaints));
    let image_memory = written.image_memory.and_then(|at| {
        read_number(&at, "image-memory", IMAGE_MEMORY_MIN..=i64::MAX.unsigned_abs(), complaints)
    });
    let gso_segments =
        written.gso_segments.and_then(|at| read_number(&at, "gso-segments", 1..=64, complaints));
    let receive_buffers = written.receive_buffers.and_then(|at| read_power_of_two(&at, complaints));
    let tcp_congestion = written.tcp_congestion.and_then(|name| {
        let known = CONGESTIONS.iter().find(|known| *known == name.get_ref()).copied();
        if known.is_none() {
            refuse_unknown_word(
                name.get_ref(),
                &name.span(),
                "tcp-congestion",
                &CONGESTIONS,
                complaints,
            );
        }
        known
    });

    // `system` and `http-slots = 0` become None: the congestion control of the kernel, and equal
    // shares for all bodies.
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

/// `receive-buffers`: the buffer ring of the kernel needs a power of two.
fn read_power_of_two(at: &PlacedValue<u64>, complaints: &mut ConfigComplaints<'_>) -> Option<u16> {
    let count: u16 = read_number(at, "receive-buffers", 16..=16_384, complaints)?;
    if !count.is_power_of_two() {
        let (below, above) = (1 << count.ilog2(), count.next_power_of_two());
        let what = format!("receive-buffers = {count} is not a power of two");
        complaints.add(&at.span(), what, format!("{below} and {above} are the nearest"));
        return None;
    }
    Some(count)
}
