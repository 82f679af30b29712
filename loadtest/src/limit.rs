//! `loadtest limit`: how many machines at once a server boots within a time, and which limit it
//! reaches beyond that.

mod answer;
mod gave_out;
mod search;
mod shown;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{bail, ensure};
use ringboot_fleet::{limits, parse_duration};

use crate::child::{self, ChildOutcome};
use crate::expect::RunExpectation;
use crate::interrupt::{self, InterruptFlag};
use crate::json::{ReportDocument, format_utc};
use crate::output::{is_stdout, write_output_file};
use crate::ticker::RunTicker;
use answer::{LimitAnswer, LimitRun, MachineNumber};
use search::{LimitQuestion, LimitSearch, LimitSearchEnd, LimitStep, MachineLevel};

/// Searches how many machines at once a server boots within a time
///
/// The search doubles the number of machines until a run misses, then tries the number in the
/// middle. A run holds if it meets every --expect; a machine that takes longer than --within has
/// failed. The answer has held in each of --repeat runs, and the report says how certain it is and
/// what gave out above it. Each run is its own process, with a private server unless --server names
/// one. Exit code 0: found (or, with --at-least, PASS); 1: not even the least number holds (or
/// FAIL).
#[derive(Debug, clap::Args)]
pub(crate) struct LimitArguments {
    /// Time for each machine, from its power-on to the end of its boot
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = parse_duration)]
    within: Duration,
    /// A condition for a run to hold; may be repeated [default: all booted]
    #[arg(long, value_name = "FIGURE OP BOUND")]
    expect: Vec<RunExpectation>,
    /// What machines do: a built-in scenario or a file [default: boot-storm]
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// A running server [default: a private one for each run]
    #[arg(long, value_name = "ADDR", conflicts_with = "ringboot")]
    server: Option<String>,
    /// Its process on this host: its processor time shows whether the server gave out
    #[arg(long, value_name = "PID", requires = "server")]
    server_pid: Option<u32>,
    /// The program of private servers [default: the `ringboot` beside this program]
    #[arg(long, value_name = "FILE")]
    ringboot: Option<PathBuf>,
    /// The number at which the search begins, and the least that it tries
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = build_machines_parser())]
    min: u32,
    /// The greatest number that it tries
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = build_machines_parser())]
    max: u32,
    /// PASS or FAIL: N machines must hold. The search begins with N; `--max N` ends it there
    #[arg(long, value_name = "N", value_parser = build_machines_parser())]
    at_least: Option<u32>,
    /// Runs in which a number must hold to be the answer
    #[arg(
        long,
        default_value_t = 3,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    repeat: u32,
    /// The difference between the greatest number that holds and the least that misses at which the
    /// search ends, in per cent of the first
    #[arg(
        long,
        default_value_t = 5,
        value_name = "PERCENT",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    precision: u32,
    /// The longest time of the search, except its last run; then it prints what it knows
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = parse_duration)]
    budget: Duration,
    /// Write the answer to this file as JSON (docs/loadtest.md); - is standard output, and nothing
    /// else is printed there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Arguments of each run, such as --no-dhcp --files pxelinux.0,vmlinuz or --verify length
    #[arg(last = true, value_name = "LOADTEST ARGUMENTS")]
    rest: Vec<String>,
}

fn build_machines_parser() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(limits::MACHINES_MAX))
}

pub(crate) fn run_limit(arguments: &LimitArguments) -> anyhow::Result<ExitCode> {
    let question = arguments.build_question()?;
    let mut runs = LimitRuns::new(arguments)?;
    let mut search = LimitSearch::new(question);
    let end = loop {
        match search.next_step(runs.ticker.elapsed()) {
            LimitStep::Done(end) => break end,
            LimitStep::Run(machines) => {
                let (held, took) = runs.run_machines(&search, machines)?;

                // An interrupted run says nothing about its number of machines, and must not count
                // as a miss.
                if runs.interrupted.is_set() {
                    writeln!(io::stderr(), "loadtest: interrupted: no limit was found")?;
                    return Ok(ExitCode::from(interrupt::EXIT));
                }
                search.record_run(machines, held, took);
            }
        }
    };
    runs.ticker.finish();
    let answer = runs.build_answer(arguments, &search, end);
    arguments.write(&answer)?;
    Ok(if answer.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl LimitArguments {
    fn build_question(&self) -> anyhow::Result<LimitQuestion> {
        let first = self.at_least.unwrap_or(self.min);

        // --at-least may be below --min: then the search may go down to it.
        let (least, most) = (self.min.min(first), self.max);
        ensure!(
            first <= most,
            "the search begins with {first} machines and may try only {most}: use a greater --max"
        );
        for word in &self.rest {
            let flag = word.split('=').next().unwrap_or_default();
            if let Some((_, why)) = NOT_OF_A_RUN.iter().find(|(name, _)| *name == flag) {
                bail!("{flag} after -- is not allowed in a search: {why}");
            }
        }
        let precision = f64::from(self.precision) / 100.0;
        Ok(LimitQuestion {
            least,
            most,
            first,
            repeat: self.repeat,
            precision,
            budget: self.budget,
        })
    }

    /// The arguments of every run, without the number of machines.
    fn build_run_arguments(&self) -> Vec<String> {
        let mut words = vec!["--within".to_owned(), format!("{}ms", self.within.as_millis())];
        for (flag, value) in [
            ("--scenario", self.scenario.clone()),
            ("--server", self.server.clone()),
            ("--pid", self.server_pid.map(|pid| pid.to_string())),
            ("--ringboot", self.ringboot.as_ref().map(|program| program.display().to_string())),
        ] {
            if let Some(value) = value {
                words.extend([flag.to_owned(), value]);
            }
        }
        words.extend(self.rest.iter().cloned());
        words
    }

    fn write(&self, answer: &LimitAnswer) -> anyhow::Result<()> {
        if let Some(file) = &self.json {
            write_output_file(file, (serde_json::to_string_pretty(answer)? + "\n").as_bytes())?;
        }
        if !self.json.as_deref().is_some_and(is_stdout) {
            io::stdout().lock().write_all(shown::format_limit_answer(answer).as_bytes())?;
        }
        Ok(())
    }

    fn expectations(&self) -> Vec<RunExpectation> {
        if self.expect.is_empty() {
            "all booted".parse().into_iter().collect()
        } else {
            self.expect.clone()
        }
    }
}

/// Flags that the search itself sets, each with a hint.
const NOT_OF_A_RUN: [(&str, &str); 7] = [
    ("--clients", "the search sets it between --min and --max"),
    ("--duration", "machines that boot again have no number at once"),
    ("--expect", "write it before the --"),
    ("--json", "write it before the --"),
    ("--within", "write it before the --"),
    ("--server", "write it before the --"),
    ("--repeat", "write it before the --"),
];

/// The runs of a search and their results.
struct LimitRuns {
    arguments: Vec<String>,
    expected: Vec<RunExpectation>,
    ticker: RunTicker,
    interrupted: InterruptFlag,
    done: Vec<LimitRun>,
    /// The report of the run with the fewest machines that missed, and of that with the most that
    /// held.
    missed: Option<(u32, ReportDocument)>,
    held: Option<(u32, ReportDocument)>,
}

impl LimitRuns {
    fn new(arguments: &LimitArguments) -> anyhow::Result<Self> {
        Ok(Self {
            arguments: arguments.build_run_arguments(),
            expected: arguments.expectations(),
            ticker: RunTicker::new()?,
            interrupted: InterruptFlag::watch()?,
            done: Vec::new(),
            missed: None,
            held: None,
        })
    }

    /// Makes a run with this number of machines: whether it holds, and its time.
    fn run_machines(
        &mut self,
        search: &LimitSearch,
        machines: u32,
    ) -> anyhow::Result<(bool, Duration)> {
        self.ticker.show_step(&shown::format_limit_progress(search, machines));
        let begun = Instant::now();
        let arguments =
            [&self.arguments[..], &["--clients".to_owned(), machines.to_string()]].concat();
        let report = match child::run_child_process(&arguments)? {
            ChildOutcome::Report(report) => *report,
            // `run_limit` looks for the interrupt before it counts this result.
            ChildOutcome::Interrupted => return Ok((false, begun.elapsed())),
            ChildOutcome::Failed(why) => bail!("the run with {machines} machines: {why}"),
        };
        let took = begun.elapsed();
        let verdicts: Vec<_> =
            self.expected.iter().map(|expected| expected.judge(&report)).collect();
        let missed = verdicts.iter().filter(|verdict| !verdict.is_met);
        let run = LimitRun {
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

        // Reports are large. The answer needs only those of the two runs next to the limit, one on
        // each side.
        let place = if held { &mut self.held } else { &mut self.missed };
        if place
            .as_ref()
            .is_none_or(|(before, ..)| if held { machines >= *before } else { machines <= *before })
        {
            *place = Some((machines, report));
        }
        let line = shown::format_limit_run(&run, search.level(machines).runs() + 1);
        self.ticker.print_above(|| io::stderr().write_all(line.as_bytes()))?;
        self.done.push(run);
        Ok((held, took))
    }

    /// The answer of the search, from all runs.
    fn build_answer(
        &self,
        arguments: &LimitArguments,
        search: &LimitSearch,
        end: LimitSearchEnd,
    ) -> LimitAnswer {
        let number = |machines: u32, share: fn(MachineLevel) -> f64| {
            let level = search.level(machines);
            MachineNumber { machines, level, share_at_least: share(level) }
        };
        let held = search.held().map(|machines| number(machines, MachineLevel::holds_at_least));

        // Host and server are the same in every run, so any report describes them.
        let any = self.missed.as_ref().or(self.held.as_ref()).map(|(_, report)| report);
        let took = self.ticker.elapsed();
        LimitAnswer {
            version: 1,
            held,
            missed: search.missed().map(|machines| number(machines, MachineLevel::misses_at_least)),
            end,
            at_least: arguments.at_least,
            passed: arguments
                .at_least
                .map(|wanted| held.is_some_and(|held| held.machines >= wanted)),
            within_s: arguments.within.as_secs_f64(),
            expected: arguments
                .expectations()
                .iter()
                .map(|expected| expected.text().to_owned())
                .collect(),
            repeat: arguments.repeat,
            took_s: took.as_secs_f64(),
            started: format_utc(SystemTime::now() - took),
            gave_out: self
                .missed
                .as_ref()
                .map_or_else(Vec::new, |(_, report)| gave_out::find_bottlenecks(report)),
            run: any.map(|report| report.run.clone()),
            runs: self.done.clone(),
            least: arguments.min.min(arguments.at_least.unwrap_or(arguments.min)),
        }
    }
}
