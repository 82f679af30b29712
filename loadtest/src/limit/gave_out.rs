//! Finds what gave out in a run that missed: the generator, the server's processors, full buffers,
//! the link, or only the time.

use std::fs;
use std::net::Ipv4Addr;

use serde::Serialize;

use crate::drops::KernelDrops;
use crate::json::ReportDocument;

/// One thing at its limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct GaveOut {
    pub(super) what: BottleneckKind,
    /// A sentence with the numbers that prove it.
    pub(super) words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum BottleneckKind {
    /// The load generator: the server may boot more.
    Generator,
    /// All processors that the server may use, or the one of its busiest thread.
    ServerProcessor,
    /// A limit of the server that the report names.
    ServerLimit,
    /// Datagrams or connections that this host dropped.
    Drops,
    Link,
    /// No other limit was found: machines needed longer than --within.
    Time,
}

/// A processor that is busy for more than this share of the loaded time is at its limit.
const BUSY_SHARE_MIN: f64 = 0.85;
/// A link that carries more than this share of its speed is full: headers and acknowledgements take
/// the rest.
const LINK_SHARE_MIN: f64 = 0.85;
/// The share of the bytes after which the load is over.
const LOADED_SHARE: f64 = 0.9;

/// What gave out, the most important first. Never empty.
pub(super) fn find_bottlenecks(report: &ReportDocument) -> Vec<GaveOut> {
    let link = find_report_server(report).and_then(ServerInterface::find_route_to);
    judge_bottlenecks(report, link.as_ref())
}

fn judge_bottlenecks(report: &ReportDocument, link: Option<&ServerInterface>) -> Vec<GaveOut> {
    let mut all = Vec::new();
    let mut add =
        |what, words: Option<String>| all.extend(words.map(|words| GaveOut { what, words }));

    // The generator comes first: where it was the limit, the other signs say little about the
    // server.
    let summary = &report.summary;
    add(
        BottleneckKind::Generator,
        summary.client_was_limit.then(|| describe_generator_limit(report)),
    );
    add(BottleneckKind::ServerProcessor, describe_server_processor(report));
    add(BottleneckKind::Link, link.and_then(|link| link.describe_full_link(summary.bytes_per_s)));
    let drops = report.server_drops.iter().flat_map(KernelDrops::describe).collect::<Vec<String>>();
    add(BottleneckKind::Drops, (!drops.is_empty()).then(|| drops.join("; ")));

    // The report's limits repeat what the generator and the drops have said above.
    for limit in report
        .limits
        .iter()
        .filter(|limit| !limit.starts_with("the load generator") && !drops.contains(limit))
    {
        add(BottleneckKind::ServerLimit, Some(limit.clone()));
    }
    if all.is_empty() {
        all.push(GaveOut { what: BottleneckKind::Time, words: describe_time_limit(report) });
    }
    all
}

fn describe_generator_limit(report: &ReportDocument) -> String {
    let (busy, waiting) =
        (report.summary.client_busy * 100.0, report.summary.client_waiting * 100.0);
    format!(
        "the load generator: its thread was busy {busy:.0} % of the time and waited for a \
         processor {waiting:.0} %; the server may boot more machines than this"
    )
}

/// The share of the loaded time that the server's processors were busy, and that of its busiest
/// thread.
fn describe_server_processor(report: &ReportDocument) -> Option<String> {
    let summary = &report.summary;
    let (loaded_s, cpus) = (measure_loaded_seconds(report), report.run.cpus as f64);
    let share = summary.server_cpu_s? / loaded_s;
    if share >= BUSY_SHARE_MIN * cpus {
        return Some(format!("the server's processors: {:.2} of {cpus:.0} busy", share.min(cpus)));
    }
    let thread = summary.server_thread_cpu_s? / loaded_s;
    (thread >= BUSY_SHARE_MIN).then(|| {
        let percent = thread.min(1.0) * 100.0;
        format!(
            "one thread of the server: it used its processor {percent:.0} % of the time, and a \
                 second processor does not help it"
        )
    })
}

/// Seconds from the start until 90 % of the bytes had arrived: after that a few machines wait for a
/// timer.
fn measure_loaded_seconds(report: &ReportDocument) -> f64 {
    let enough = report.summary.bytes as f64 * LOADED_SHARE;
    let mut bytes = 0;
    let end = report.series.iter().find(|point| {
        bytes += point.bytes;
        bytes as f64 >= enough
    });
    end.filter(|_| report.summary.bytes > 0)
        .map_or(report.summary.wall_s, |end| end.t_ms as f64 / 1e3)
        .max(1e-3)
}

fn describe_time_limit(report: &ReportDocument) -> String {
    let first = report.failures.first().map_or(String::new(), |failed| {
        format!("; the most frequent failure is {} ({})", failed.cause, failed.stage)
    });
    format!("the time: no processor, buffer or link reached its limit{first}")
}

/// The server's address; None for a private server, and for IPv6.
fn find_report_server(report: &ReportDocument) -> Option<Ipv4Addr> {
    let (_, address) = report.run.server.rsplit_once(' ').unwrap_or(("", &report.run.server));
    address.trim_matches(['(', ')']).parse().ok()
}

/// The interface that leads to the server.
#[derive(Debug)]
struct ServerInterface {
    interface: String,
    megabits_per_s: u64,
}

impl ServerInterface {
    /// None on loopback, and if the driver reports no speed.
    fn find_route_to(server: Ipv4Addr) -> Option<Self> {
        if server.is_loopback() {
            return None;
        }
        let interface = find_route_interface(&fs::read_to_string("/proc/net/route").ok()?, server)?;
        let speed = fs::read_to_string(format!("/sys/class/net/{interface}/speed")).ok()?;
        let megabits_per_s = speed.trim().parse::<u64>().ok().filter(|speed| *speed > 0)?;
        Some(Self { interface, megabits_per_s })
    }

    fn describe_full_link(&self, bytes_per_s: f64) -> Option<String> {
        let share = bytes_per_s * 8.0 / (self.megabits_per_s as f64 * 1e6);
        let Self { interface, megabits_per_s } = self;
        let percent = share * 100.0;
        (share >= LINK_SHARE_MIN).then(|| {
            format!(
                "the link: {interface} with {megabits_per_s} Mbit/s carried files for \
                     {percent:.0} % of that"
            )
        })
    }
}

/// The interface of the longest prefix that has this address (proc(5): hexadecimal numbers of this
/// host's byte order).
fn find_route_interface(table: &str, server: Ipv4Addr) -> Option<String> {
    let address = u32::from_ne_bytes(server.octets());
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (destination, mask) =
            (parse_route_number(fields.get(1)?)?, parse_route_number(fields.get(7)?)?);
        (address & mask == destination).then(|| (mask.count_ones(), fields[0].to_owned()))
    });
    routes.max_by_key(|(bits, _)| *bits).map(|(_, interface)| interface)
}

fn parse_route_number(text: &str) -> Option<u32> {
    u32::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::made_up;

    fn seen(report: &ReportDocument, link: Option<&ServerInterface>) -> Vec<BottleneckKind> {
        judge_bottlenecks(report, link).iter().map(|gave_out| gave_out.what).collect()
    }

    /// A run of 5 s, whose bytes come evenly, with nothing at its limit.
    fn idle() -> ReportDocument {
        let mut report = made_up(500);
        report.limits.clear();
        report.summary.client_was_limit = false;
        report.run.cpus = 2;
        (report.summary.server_cpu_s, report.summary.server_thread_cpu_s) = (Some(1.0), Some(0.5));
        report
    }

    #[test]
    fn where_nothing_was_at_its_limit_it_was_the_time() {
        let gave_out = judge_bottlenecks(&idle(), None);
        assert_eq!(gave_out[0].what, BottleneckKind::Time);
        assert!(
            gave_out[0].words.contains("failure is HTTP: no answer for /<k> (kernel)"),
            "{gave_out:?}"
        );
    }

    #[test]
    fn a_server_is_at_its_limit_with_all_of_its_processors_or_with_the_one_of_a_thread() {
        let mut report = idle();
        // 4.5 s pass until 90 % of the bytes have come.
        report.summary.server_cpu_s = Some(8.0);
        let gave_out = judge_bottlenecks(&report, None);
        assert_eq!(gave_out[0].words, "the server's processors: 1.78 of 2 busy");
        (report.summary.server_cpu_s, report.summary.server_thread_cpu_s) = (Some(4.4), Some(4.3));
        let gave_out = judge_bottlenecks(&report, None);
        assert!(
            gave_out[0].words.starts_with("one thread of the server: it used its processor 96 %"),
            "{gave_out:?}"
        );
        report.summary.server_thread_cpu_s = Some(2.0);
        assert_eq!(seen(&report, None), [BottleneckKind::Time]);
        report.summary.server_cpu_s = None;
        assert_eq!(seen(&report, None), [BottleneckKind::Time]);
    }

    #[test]
    fn the_generator_comes_first_and_everything_that_was_seen_is_said() {
        let mut report = idle();
        report.summary.client_was_limit = true;
        report.server_drops =
            Some(KernelDrops { udp_receive_buffer: 7, udp_errors: 7, ..KernelDrops::default() });
        report.limits = report.server_drops.iter().flat_map(KernelDrops::describe).collect();
        report.limits.extend([
            "the load generator was the limit".into(),
            "480 HTTP answers 503: a limit".into(),
        ]);
        let link = ServerInterface { interface: "eth1".into(), megabits_per_s: 3500 };
        let what = seen(&report, Some(&link));
        assert_eq!(
            what,
            [
                BottleneckKind::Generator,
                BottleneckKind::Link,
                BottleneckKind::Drops,
                BottleneckKind::ServerLimit
            ]
        );
        let slow = ServerInterface { megabits_per_s: 10_000, ..link };
        assert_eq!(slow.describe_full_link(report.summary.bytes_per_s), None);
    }

    #[test]
    fn a_server_is_reached_by_the_longest_prefix() {
        let number = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let line = |name: &str, destination, mask| {
            format!(
                "{name}\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n",
                number(destination),
                number(mask)
            )
        };
        let table = "Iface\tDestination ...\n".to_owned()
            + &line("eth0", [0; 4], [0; 4])
            + &line("eth1", [10, 5, 0, 0], [255, 255, 0, 0]);
        assert_eq!(
            find_route_interface(&table, Ipv4Addr::new(10, 5, 3, 4)).as_deref(),
            Some("eth1")
        );
        assert_eq!(
            find_route_interface(&table, Ipv4Addr::new(10, 6, 3, 4)).as_deref(),
            Some("eth0")
        );
        assert_eq!(find_route_interface("Iface\n", Ipv4Addr::new(10, 6, 3, 4)), None);
    }
}
