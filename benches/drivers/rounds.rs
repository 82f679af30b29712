//! Drives the servers in turn, round after round, and prints medians and ratios with their spread.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::client::Client;
use super::{Contender, ServedFile};

/// Above this share of its processor, the client and not the server is the limit.
const CLIENT_LIMITED: f64 = 0.95;

/// How often and how long each server is driven.
pub(crate) struct Schedule {
    rounds: usize,
    /// Before the clock starts: connections are accepted, buffers have their size, the file is
    /// known resident.
    warm_up: Duration,
    measured: Duration,
    /// No round begins after this time: where the processors are busy otherwise, answers come late.
    longest: Duration,
}

impl Schedule {
    pub(crate) fn measuring() -> Self {
        let (warm_up, measured) = (Duration::from_millis(100), Duration::from_millis(500));
        Self { rounds: 7, warm_up, measured, longest: Duration::from_secs(18) }
    }

    pub(crate) fn trying() -> Self {
        let (warm_up, measured) = (Duration::ZERO, Duration::from_millis(50));
        Self { rounds: 1, warm_up, measured, longest: Duration::ZERO }
    }
}

/// What one server did in one round.
#[derive(Clone, Copy)]
struct Figure {
    requests_per_second: f64,
    /// Microseconds of processor time, the kernel's part included. All threads of this process but
    /// the client's: the servers that are not driven sleep.
    server_cost: f64,
    /// Which share of its processor the client used.
    client_load: f64,
}

/// All rounds of one file: `figures[contender][round]`.
pub(crate) struct Comparison<'a> {
    file: &'a ServedFile,
    contenders: &'a [Contender],
    figures: Vec<Vec<Figure>>,
    /// How many processors other programs kept busy meanwhile.
    others: f64,
}

pub(crate) fn compare<'a>(
    contenders: &'a [Contender],
    file: &'a ServedFile,
    schedule: &Schedule,
) -> io::Result<Comparison<'a>> {
    let mut figures = vec![Vec::new(); contenders.len()];
    let (started, busy_before) = (Instant::now(), busy_seconds()?);
    let used_before = Used::now();
    for round in 0..schedule.rounds {
        if round > 0 && started.elapsed() > schedule.longest {
            break;
        }
        // Each server is the first of a round in its turn: what disturbs a round does not always
        // meet the same one.
        for place in 0..contenders.len() {
            let number = (round + place) % contenders.len();
            let Contender { name, address } = &contenders[number];
            let fault =
                |error: io::Error| io::Error::other(format!("{name}, {}: {error}", file.name));
            let client = Client::connect(*address, file).map_err(fault)?;
            figures[number].push(drive(client, schedule).map_err(fault)?);
        }
    }
    let others = busy_seconds()? - busy_before - (Used::now().process - used_before.process);
    let others = others.max(0.0) / started.elapsed().as_secs_f64();
    Ok(Comparison { file, contenders, figures, others })
}

fn drive(mut client: Client, schedule: &Schedule) -> io::Result<Figure> {
    client.load(schedule.warm_up)?;
    let used_before = Used::now();
    let started = Instant::now();
    let answers = client.load(schedule.measured)?;
    let wall = started.elapsed().as_secs_f64();
    let used = Used::now();
    let client_time = used.client - used_before.client;
    let server_time = used.process - used_before.process - client_time;
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let answers = answers as f64;
    Ok(Figure {
        requests_per_second: answers / wall,
        server_cost: server_time * 1e6 / answers,
        client_load: client_time / wall,
    })
}

/// Seconds of processor time so far.
struct Used {
    process: f64,
    /// The calling thread is the client.
    client: f64,
}

impl Used {
    fn now() -> Self {
        let seconds = |clock| {
            let time = clock_gettime(clock);
            #[allow(clippy::cast_precision_loss)] // far below 2^52
            let (whole, part) = (time.tv_sec as f64, time.tv_nsec as f64);
            whole + part / 1e9
        };
        Self { process: seconds(ClockId::ProcessCPUTime), client: seconds(ClockId::ThreadCPUTime) }
    }
}

/// Seconds that all processors of the machine have worked so far (proc_stat(5); the unit is 10 ms
/// on every Linux).
fn busy_seconds() -> io::Result<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let text = std::fs::read_to_string("/proc/stat")?;
    let mut fields = text.lines().next().unwrap_or_default().split_whitespace();
    if fields.next() != Some("cpu") {
        return Err(io::Error::other("/proc/stat does not begin with the sum of the processors"));
    }
    let ticks: Vec<f64> = fields.filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq
    let &[user, nice, system, _, _, irq, softirq, ..] = ticks.as_slice() else {
        return Err(io::Error::other("/proc/stat says too little of the processors"));
    };
    Ok((user + nice + system + irq + softirq) / TICKS_PER_SECOND)
}

/// The middle one of several rounds, with the least and the most.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    /// Of at least one number.
    fn of(numbers: impl Iterator<Item = f64>) -> Self {
        let mut numbers: Vec<f64> = numbers.collect();
        numbers.sort_by(f64::total_cmp);
        Self {
            median: numbers[numbers.len() / 2],
            least: numbers[0],
            most: numbers[numbers.len() - 1],
        }
    }

    fn format(&self, decimals: usize) -> String {
        let Self { median, least, most } = self;
        format!("{median:.decimals$} ({least:.decimals$}-{most:.decimals$})")
    }
}

impl Comparison<'_> {
    /// A table of the servers; the ratios are of runs of the same round, to the first server.
    pub(crate) fn print(&self) {
        let (name, connections) = (self.file.name.replace('-', " "), self.file.connections);
        let rounds = self.figures.first().map_or(0, Vec::len);
        println!(
            "\n{name}, {connections} connections kept alive; rounds: {rounds}, median (least-most)."
        );
        println!("Other programs kept {:.1} processors busy.\n", self.others);
        println!(
            "| server | requests/s | ratio | server's CPU, us a request | ratio | client's CPU |"
        );
        println!("|---|---|---|---|---|---|");
        for (contender, figures) in self.contenders.iter().zip(&self.figures) {
            let spread = |value: fn(&Figure) -> f64| Spread::of(figures.iter().map(value));
            let ratio = |value: fn(&Figure) -> f64| {
                let pairs = figures.iter().zip(&self.figures[0]);
                Spread::of(pairs.map(|(figure, first)| value(figure) / value(first))).format(2)
            };
            let load = spread(|figure| figure.client_load).median;
            println!(
                "| {} | {} | {} | {} | {} | {:.0} %{} |",
                contender.name,
                spread(|figure| figure.requests_per_second).format(0),
                ratio(|figure| figure.requests_per_second),
                spread(|figure| figure.server_cost).format(1),
                ratio(|figure| figure.server_cost),
                load * 100.0,
                if load > CLIENT_LIMITED { ", client-limited" } else { "" },
            );
        }
    }
}
