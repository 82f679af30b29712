//! System calls for one unit of work (a block, a window, a MiB, a request, a lease), thread by
//! thread, beside the committed counts: a change that adds a call for each of them fails here.
//!
//! `RINGBOOT_BLESS=1 cargo test --test syscalls` writes new counts; docs/measuring.md tells more.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../common/mod.rs"]
mod common;

mod counts;
mod tracer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::Scratch;
use counts::{CallBaseline, CallCounts, CallRow};
use ringboot::fleet::{
    ArrivalPattern, ContentProof, Fleet, FleetPace, FleetPlan, FleetProgress, ImageSizes,
    PrivateServer, Scenario, ServerSetting, WireSettings, limits,
};
use tracer::CallTracer;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/syscalls.txt");
/// No work of the table boots a system: the images are as small as they may be.
const IMAGES: ImageSizes = ImageSizes { kernel: 1, initrd: 1 };
/// One boot core on a ring. While a core polls, its calls depend on the time; no row has so few
/// transfers but at its end.
const SETTINGS: [&str; 3] =
    ["server.workers=1", "tuning.datapath=\"io_uring\"", "tuning.spin-us=0"];
/// Blessing takes the greatest counts of these.
const ROUNDS_BLESSED: usize = 5;
const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The time of all leases: each comes when the one before it is durable, so that no two of them
/// share a transaction.
const LEASES_APART: Duration = Duration::from_secs(2);

/// Something that machines do, and how often all of them together do it.
struct CountedWork {
    name: &'static str,
    unit: &'static str,
    units: u64,
    machines: u32,
    arrival: ArrivalPattern,
    steps: &'static str,
    /// The threads that do it; the calls of all others are one row.
    threads: &'static [&'static str],
}

/// Blocks of this size in a file; the last one is short, and may be empty.
const fn count_blocks(octets: u64, block: u64) -> u64 {
    octets / block + 1
}

const FILES: &str = "[files]\n\"512k\" = \"512KiB\"\n\"1m\" = \"1MiB\"\n\
                     \"8m\" = \"8MiB\"\n\"64m\" = \"64MiB\"\n\"4k\" = \"4KiB\"\n";
const TFTP: &[&str] = &["rb-tftp-0"];
const HTTP: &[&str] = &["rb-http-0"];

/// So many units that the calls for a request, and the few at the end of a run when a machine is
/// alone, hardly show.
const WORKS: [CountedWork; 9] = [
    CountedWork {
        name: "TFTP in lockstep, 1468 bytes",
        unit: "block",
        units: 32 * count_blocks(MIB, 1468),
        machines: 32,
        arrival: ArrivalPattern::All,
        steps: "{ tftp = \"1m\", blksize = 1468 }",
        threads: TFTP,
    },
    CountedWork {
        name: "TFTP in lockstep, 512 bytes",
        unit: "block",
        units: 32 * count_blocks(512 * KIB, 512),
        machines: 32,
        arrival: ArrivalPattern::All,
        steps: "{ tftp = \"512k\" }",
        threads: TFTP,
    },
    CountedWork {
        name: "TFTP in windows of 16",
        unit: "window",
        units: 2 * count_blocks(8 * MIB, 1468).div_ceil(16),
        machines: 1,
        arrival: ArrivalPattern::All,
        steps: "{ tftp = \"8m\", blksize = 1468, windowsize = 16, repeat = 2 }",
        threads: TFTP,
    },
    CountedWork {
        name: "TFTP in windows of 64",
        unit: "window",
        units: 4 * count_blocks(8 * MIB, 1468).div_ceil(64),
        machines: 1,
        arrival: ArrivalPattern::All,
        steps: "{ tftp = \"8m\", blksize = 1468, windowsize = 64, repeat = 4 }",
        threads: TFTP,
    },
    CountedWork {
        name: "HTTP, 64 MiB",
        unit: "MiB",
        units: 8 * 64,
        machines: 8,
        arrival: ArrivalPattern::All,
        steps: "{ http = \"64m\" }",
        threads: HTTP,
    },
    CountedWork {
        name: "HTTP, 8 MiB",
        unit: "MiB",
        units: 64 * 8,
        machines: 64,
        arrival: ArrivalPattern::All,
        steps: "{ http = \"8m\" }",
        threads: HTTP,
    },
    CountedWork {
        name: "HTTP, 1 MiB ranges on one connection",
        unit: "request",
        units: 32 * 32,
        machines: 32,
        arrival: ArrivalPattern::All,
        steps: "{ http = \"64m\", connection = \"keep\", range = \"1MiB\", repeat = 32 }",
        threads: HTTP,
    },
    CountedWork {
        name: "HTTP, 4 KiB on one connection",
        unit: "request",
        units: 32 * 200,
        machines: 32,
        arrival: ArrivalPattern::All,
        steps: "{ http = \"4k\", connection = \"keep\", repeat = 200 }",
        threads: HTTP,
    },
    CountedWork {
        name: "DHCP, DISCOVER to ACK",
        unit: "lease",
        units: 100,
        machines: 100,
        arrival: ArrivalPattern::Ramp(LEASES_APART),
        steps: "{ dhcp = true }",
        threads: &["rb-dhcp", "rb-store"],
    },
];

impl CountedWork {
    fn parse_scenario(&self) -> Scenario {
        let text = format!("{FILES}[[machine]]\nsteps = [{}]\n", self.steps);
        Scenario::parse(self.name, &text).unwrap()
    }

    /// Does it once against this server: a row for each of its threads, and one for all others.
    fn count_calls(&self, server: &PrivateServer, folder: &Path) -> Vec<CallRow> {
        let pace =
            FleetPace { haste: 1, idle_waits: false, gives_up: true, patience: limits::PATIENCE };
        let plan = FleetPlan {
            roles: self.parse_scenario().roles,
            arrival: self.arrival,
            wire: WireSettings { verify: ContentProof::Length, ..WireSettings::default() },
            ..server.make_plan(self.machines, pace, 1)
        };
        let tracer = CallTracer::attach(server.pid().unwrap(), folder);
        let report = Fleet::new(plan).run(&Arc::new(FleetProgress::default())).unwrap();
        let mut calls = tracer.finish();
        assert_eq!(report.failed(), 0, "{}: {:?}", self.name, report.failures);
        let own: Vec<_> = self
            .threads
            .iter()
            .map(|thread| (*thread, calls.remove(*thread).unwrap_or_default()))
            .collect();
        assert!(own.iter().all(|(_, calls)| !calls.is_empty()), "{}: {own:?}", self.name);
        let mut others = CallCounts::new();
        for (call, count) in calls.into_values().flatten() {
            *others.entry(call).or_default() += count;
        }
        let rows = own.into_iter().chain([("all others", others)]);
        let work = format!("{}: {}", self.name, self.unit);
        rows.map(|(thread, calls)| CallRow::new(&work, thread, &calls, self.units)).collect()
    }
}

fn read_baseline() -> String {
    std::fs::read_to_string(BASELINE).unwrap()
}

/// Counts every work, this many times, by one server.
fn count_rounds(rounds: usize) -> Vec<CallBaseline> {
    common::need(&[("strace", "strace")]);
    let scratch = Scratch::new("syscalls");
    let files = WORKS[0].parse_scenario().make_contents();
    let settings = SETTINGS.map(|setting| setting.parse::<ServerSetting>().unwrap());
    let program = Path::new(env!("CARGO_BIN_EXE_ringboot"));
    let server = PrivateServer::start_with(program, IMAGES, &files, 1, &settings, None).unwrap();
    let count = |round: usize| {
        let works = WORKS.iter().enumerate();
        let rows = works.flat_map(|(work, counted)| {
            counted.count_calls(&server, &scratch.path().join(format!("{round}-{work}")))
        });
        CallBaseline(rows.collect())
    };
    (0..rounds).map(count).collect()
}

#[test]
fn no_thread_makes_more_calls_for_a_unit_of_work_than_the_baseline_allows() {
    if std::env::var_os("RINGBOOT_BLESS").is_some() {
        let greatest = CallBaseline::take_greatest(count_rounds(ROUNDS_BLESSED));
        std::fs::write(BASELINE, greatest.to_string()).unwrap();
        return;
    }
    let baseline = CallBaseline::parse(&read_baseline()).unwrap();
    for counted in count_rounds(1) {
        println!("{}", baseline.compare(&counted));
        assert_eq!(baseline.list_failures(&counted), Vec::<String>::new());
    }
}

#[test]
fn one_call_more_for_each_unit_is_beyond_the_limit_of_every_row() {
    let baseline = CallBaseline::parse(&read_baseline()).unwrap();
    assert_eq!(baseline.list_failures(&baseline), Vec::<String>::new());
    for (at, row) in baseline.0.iter().enumerate() {
        // Of a kind that it makes already, and of one that it has never made.
        let kinds = row.kinds.keys().map(String::as_str).chain(["brk"]);
        for kind in kinds.filter(|kind| !counts::is_timed(kind)) {
            let mut more = baseline.clone();
            *more.0[at].kinds.entry(kind.to_owned()).or_default() += 1.0;
            let failures = baseline.list_failures(&more);
            let named = format!("{} makes", row.name());
            assert!(
                matches!(&failures[..], [said] if said.contains(&named) && said.contains(kind)),
                "{kind}: {failures:?}"
            );
        }
    }
}

#[test]
fn every_work_has_its_rows_and_no_row_is_without_its_work() {
    let text = read_baseline();
    let baseline = CallBaseline::parse(&text).unwrap();
    let threads = |work: &CountedWork| work.threads.len() + 1;
    assert_eq!(baseline.0.len(), WORKS.iter().map(threads).sum::<usize>());
    let mut fewer = baseline.clone();
    let gone = fewer.0.remove(0);
    for (before, now, said) in
        [(&baseline, &fewer, "was not counted"), (&fewer, &baseline, "is not in the baseline")]
    {
        let failures = before.list_failures(now);
        assert_eq!(failures.len(), 1, "{failures:?}");
        assert!(failures[0].contains(said) && failures[0].contains(&gone.name()), "{failures:?}");
    }
}
