//! `loadtest limit`: how many machines at once does this server boot within a stated time, and what
//! gives out beyond that?

mod answer;
mod gave_out;
mod search;
mod shown;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{bail, ensure};
use ringboot_fleet::{duration, limits};

use crate::child::{self, Ended};
use crate::expect::Expectation;
use crate::interrupt::{self, Interrupted};
use crate::json::{Document, utc};
use crate::output::{is_stdout, write_to};
use crate::ticker::Ticker;
use answer::{Answer, Number, Run};
use search::{End, Level, Next, Question, Search};

/// Searches how many machines at once a server boots within a stated time
///
/// Twice as many machines are switched on each time until a run misses, then the number between is
/// halved. A run holds when all that --expect says is met; a machine that takes longer than
/// --within has failed. The answer has held in all of --repeat runs, and the report says how sure
/// that is and what gave out above it. Each run is a process of its own, with a private server
/// unless --server names one. Exit code 0: found (or, with --at-least, PASS); 1: not even the least
/// number holds (or FAIL).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Time for each machine, from its power-on to the end of its boot
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    within: Duration,
    /// What a run must reach to hold; may be given several times [default: all booted]
    #[arg(long, value_name = "FIGURE OP BOUND")]
    expect: Vec<Expectation>,
    /// What machines do: a built-in scenario or a file [default: boot-storm]
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// A server that runs already [default: a private one for each run]
    #[arg(long, value_name = "ADDR", conflicts_with = "ringboot")]
    server: Option<String>,
    /// Its process, on this host: what it costs is looked at, for what gave out
    #[arg(long, value_name = "PID", requires = "server")]
    server_pid: Option<u32>,
    /// The program of private servers [default: the `ringboot` beside this program]
    #[arg(long, value_name = "FILE")]
    ringboot: Option<PathBuf>,
    /// Where the search begins, and the least number that is tried
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = machines())]
    min: u32,
    /// The greatest number that is tried
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = machines())]
    max: u32,
    /// PASS or FAIL: so many machines must hold. The search begins with them; `--max` of the same
    /// number ends it there
    #[arg(long, value_name = "N", value_parser = machines())]
    at_least: Option<u32>,
    /// Runs in which a number must hold to be the answer
    #[arg(
        long,
        default_value_t = 3,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    repeat: u32,
    /// How close the greatest number that holds and the least that misses must come, in per cent of
    /// the first
    #[arg(
        long,
        default_value_t = 5,
        value_name = "PERCENT",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    precision: u32,
    /// The search takes no longer, but for its last run; then it says what it knows
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = duration)]
    budget: Duration,
    /// Write what was found to this file as JSON (docs/loadtest.md); - is standard output, which
    /// then has nothing else
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Arguments of each run, such as --no-dhcp --files pxelinux.0,vmlinuz or --verify length
    #[arg(last = true, value_name = "LOADTEST ARGUMENTS")]
    rest: Vec<String>,
}

fn machines() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(limits::MACHINES_MAX))
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let question = arguments.question()?;
    let mut runs = Runs::new(arguments)?;
    let mut search = Search::new(question);
    let end = loop {
        match search.next(runs.ticker.elapsed()) {
            Next::Done(end) => break end,
            Next::Run(machines) => {
                let (held, took) = runs.one(&search, machines)?;
                if runs.interrupted.is() {
                    writeln!(io::stderr(), "loadtest: interrupted: no limit was found")?;
                    return Ok(ExitCode::from(interrupt::EXIT));
                }
                search.saw(machines, held, took);
            }
        }
    };
    runs.ticker.finish();
    let answer = runs.answer(arguments, &search, end);
    arguments.write(&answer)?;
    Ok(if answer.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Arguments {
    fn question(&self) -> anyhow::Result<Question> {
        let first = self.at_least.unwrap_or(self.min);
        let (least, most) = (self.min.min(first), self.max);
        ensure!(
            first <= most,
            "the search begins with {first} machines and may try {most}: say a greater --max"
        );
        for word in &self.rest {
            let flag = word.split('=').next().unwrap_or_default();
            if let Some((_, why)) = NOT_OF_A_RUN.iter().find(|(name, _)| *name == flag) {
                bail!("{flag} after -- is not for a search: {why}");
            }
        }
        let precision = f64::from(self.precision) / 100.0;
        Ok(Question { least, most, first, repeat: self.repeat, precision, budget: self.budget })
    }

    /// What every run is started with, but for the number of machines.
    fn of_a_run(&self) -> Vec<String> {
        let mut words = vec!["--within".to_owned(), format!("{}ms", self.within.as_millis())];
        let mut say = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([flag.to_owned(), value]);
            }
        };
        say("--scenario", self.scenario.clone());
        say("--server", self.server.clone());
        say("--pid", self.server_pid.map(|pid| pid.to_string()));
        say("--ringboot", self.ringboot.as_ref().map(|program| program.display().to_string()));
        words.extend(self.rest.iter().cloned());
        words
    }

    fn write(&self, answer: &Answer) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            write_to(file, (serde_json::to_string_pretty(answer)? + "\n").as_bytes())?;
        }
        if !self.json.as_deref().is_some_and(is_stdout) {
            io::stdout().lock().write_all(shown::text(answer).as_bytes())?;
        }
        Ok(())
    }

    fn expected(&self) -> Vec<Expectation> {
        if self.expect.is_empty() {
            "all booted".parse().into_iter().collect()
        } else {
            self.expect.clone()
        }
    }
}

/// Flags that the search itself sets, and what to say instead.
const NOT_OF_A_RUN: [(&str, &str); 7] = [
    ("--clients", "it is what is searched for; --min and --max are its bounds"),
    ("--duration", "a run in which machines begin again has no number at once"),
    ("--expect", "say it before the --"),
    ("--json", "say it before the --"),
    ("--within", "say it before the --"),
    ("--server", "say it before the --"),
    ("--repeat", "say it before the --"),
];

/// Runs, with what they told.
struct Runs {
    arguments: Vec<String>,
    expected: Vec<Expectation>,
    ticker: Ticker,
    interrupted: Interrupted,
    done: Vec<Run>,
    /// The report of the run with the fewest machines that missed, and of that with the most that
    /// held.
    missed: Option<(u32, Document)>,
    held: Option<(u32, Document)>,
}

impl Runs {
    fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        Ok(Self {
            arguments: arguments.of_a_run(),
            expected: arguments.expected(),
            ticker: Ticker::new()?,
            interrupted: Interrupted::watch()?,
            done: Vec::new(),
            missed: None,
            held: None,
        })
    }

    /// Whether a run with so many machines holds, and how long it took.
    fn one(&mut self, search: &Search, machines: u32) -> anyhow::Result<(bool, Duration)> {
        self.ticker.tell(&shown::progress(search, machines));
        let begun = Instant::now();
        let arguments =
            [&self.arguments[..], &["--clients".to_owned(), machines.to_string()]].concat();
        let report = match child::run(&arguments)? {
            Ended::Report(report) => *report,
            Ended::Interrupted => return Ok((false, begun.elapsed())),
            Ended::Failed(why) => bail!("the run with {machines} machines: {why}"),
        };
        let took = begun.elapsed();
        let verdicts: Vec<_> =
            self.expected.iter().map(|expected| expected.judge(&report)).collect();
        let missed = verdicts.iter().filter(|verdict| !verdict.is_met);
        let run = Run {
            machines,
            held: verdicts.iter().all(|verdict| verdict.is_met),
            booted: report.summary.booted,
            wall_s: report.summary.wall_s,
            boot_p99_us: report.boot.p99_us,
            boot_max_us: report.boot.max_us,
            missed: missed
                .map(|verdict| format!("{}: {}", verdict.expected, verdict.measured))
                .collect(),
        };
        let held = run.held;
        let place = if held { &mut self.held } else { &mut self.missed };
        if place
            .as_ref()
            .is_none_or(|(before, ..)| if held { machines >= *before } else { machines <= *before })
        {
            *place = Some((machines, report));
        }
        let line = shown::run(&run, search.level(machines).runs() + 1);
        self.ticker.in_front(|| io::stderr().write_all(line.as_bytes()))?;
        self.done.push(run);
        Ok((held, took))
    }

    /// What the search comes to, by all that the runs told.
    fn answer(&self, arguments: &Arguments, search: &Search, end: End) -> Answer {
        let number = |machines: u32, share: fn(Level) -> f64| {
            let level = search.level(machines);
            Number { machines, level, share_at_least: share(level) }
        };
        let held = search.held().map(|machines| number(machines, Level::holds_at_least));
        let any = self.missed.as_ref().or(self.held.as_ref()).map(|(_, report)| report);
        let took = self.ticker.elapsed();
        Answer {
            version: 1,
            held,
            missed: search.missed().map(|machines| number(machines, Level::misses_at_least)),
            end,
            at_least: arguments.at_least,
            passed: arguments
                .at_least
                .map(|wanted| held.is_some_and(|held| held.machines >= wanted)),
            within_s: arguments.within.as_secs_f64(),
            expected: arguments
                .expected()
                .iter()
                .map(|expected| expected.text().to_owned())
                .collect(),
            repeat: arguments.repeat,
            took_s: took.as_secs_f64(),
            started: utc(SystemTime::now() - took),
            gave_out: self
                .missed
                .as_ref()
                .map_or_else(Vec::new, |(_, report)| gave_out::judge(report)),
            run: any.map(|report| report.run.clone()),
            runs: self.done.clone(),
            least: arguments.min.min(arguments.at_least.unwrap_or(arguments.min)),
        }
    }
}
