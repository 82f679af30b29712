//! `loadtest tune`: searches better numbers for a configuration by measuring them beside the
//! present ones, and says when there are none.

mod bench;
mod edit;
mod goal;
mod knobs;
mod search;
mod shown;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail, ensure};
use ringboot::config::Config;
use ringboot_fleet::{LinkRate, Scenario, limits, parse_duration};
use serde::Serialize;

use crate::interrupt;
use crate::json::{self, ReportDocument, format_utc};
use crate::scenario;
use crate::table::format_rough_time;
use crate::width::wrap_sentence;
use bench::{TuneRun, TuneRuns};
use edit::SettingEntry;
use goal::TuneGoal;
use knobs::WantedKnob;
use search::{KnobSearch, KnobValues, KnobVerdict, RoundRatios, TriedKnob, TuneBounds, TuneStop};

/// Searches better numbers for a configuration, one knob at a time
///
/// The search measures every value beside the present one, in the same rounds, with a new private
/// server for each run, over loopback or over a link (--link). It takes a value only if it is
/// better by more than the noise. It writes nothing without --out or --write.
#[derive(Debug, clap::Args)]
pub(crate) struct TuneArguments {
    /// What machines do: a built-in scenario or a file [default: boot-storm]
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// Number of machines [default: of the scenario, mostly 500]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::MACHINES_MAX))
    )]
    clients: Option<u32>,
    /// The number that the search reduces
    #[arg(long, value_enum, default_value_t)]
    goal: TuneGoal,
    /// Rounds for each knob
    #[arg(
        long,
        default_value_t = 3,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(3..=50)
    )]
    runs: u32,
    /// The longest time of the whole search; the end names the knobs that it did not try
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = parse_duration)]
    budget: Duration,
    /// Try only this knob, with its usual values or with these; may be repeated [default: all that
    /// matter for the scenario, of workers, windowsize-max, http-slots, http-chunk, gso-segments,
    /// spin-us, receive-buffers, tid-sockets]
    #[arg(long, value_name = "NAME[=V,V...]", value_parser = knobs::parse_wanted_knob)]
    knob: Vec<WantedKnob>,
    /// The server program [default: the `ringboot` beside this program]
    #[arg(long, value_name = "FILE")]
    ringboot: Option<PathBuf>,
    /// Write the winners to this new file, as lines of a configuration
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    out: Option<PathBuf>,
    /// Begin with the values of this configuration, and write the winners into it; the rest of the
    /// file stays the same
    #[arg(long, value_name = "CONFIG")]
    write: Option<PathBuf>,
    /// Not over loopback: the server and the machines are in network namespaces of their own, with
    /// a link of this rate between them (needs root and --yes): 1gbit, 10gbit, 100mbit, or unshaped
    #[arg(long, value_name = "RATE")]
    link: Option<LinkRate>,
    /// Make the network namespaces of --link; each run's end with it
    #[arg(long, requires = "link")]
    yes: bool,
    /// Write although the load goes over loopback
    #[arg(long)]
    force: bool,
    /// Write all measurements to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Not possible: each value needs a new start of the server
    #[arg(long, value_name = "ADDR", hide = true)]
    server: Option<String>,
    /// Arguments of each run, such as --verify length or --loss 1%
    #[arg(last = true, value_name = "LOADTEST ARGUMENTS")]
    rest: Vec<String>,
}

/// Exit code 0 with and without winners, 1 if the budget is too small for any knob, 130 if the
/// search was interrupted.
pub(crate) fn run_tune(arguments: &TuneArguments) -> anyhow::Result<ExitCode> {
    match run_knob_search(arguments) {
        Err(error) if error.downcast_ref() == Some(&TuneStop::Interrupted) => {
            writeln!(io::stderr(), "loadtest: interrupted; nothing is written")?;
            Ok(ExitCode::from(interrupt::EXIT))
        }
        other => other,
    }
}

fn run_knob_search(arguments: &TuneArguments) -> anyhow::Result<ExitCode> {
    arguments.refuse_impossible()?;
    let begin = TuneStart::read(arguments)?;
    let scenario = arguments
        .scenario
        .as_deref()
        .map_or_else(scenario::load_usual_scenario, scenario::find_scenario)?;
    let (knobs, not_worth) = knobs::choose_knobs(&arguments.knob, &begin.config, &scenario)?;

    // All runs of a set duration take the same time, so the goal counts what they did in it: the
    // time of 1,000 requests.
    let timed = scenario.duration.is_some()
        || arguments.rest.iter().any(|word| word.starts_with("--duration"));
    let mut runs = TuneRuns::new(
        arguments.build_run_arguments(&scenario),
        begin.config.clone(),
        arguments.goal,
        timed,
    )?;
    print_tune_text(&runs, &arguments.format_heading(&scenario, timed))?;

    // This run does not count: it finds cold caches, and shows how long a run takes.
    let (first, run) = runs.warm_up()?;
    let rounds = arguments.runs as usize;
    let mut search = KnobSearch::new(knobs, TuneBounds { rounds, budget: arguments.budget, run });
    let needed = search.time_needed(&runs);
    let machines = first.summary.machines;
    print_tune_text(
        &runs,
        &wrap_sentence(&format!(
            "One run with {machines} machines takes {:.1} s; all knobs need about {}, the budget \
             is {} (--budget).",
            run.as_secs_f64(),
            format_rough_time(needed),
            format_rough_time(arguments.budget),
        )),
    )?;
    if first.summary.client_was_limit {
        let hint = arguments.hint_less_work();
        print_tune_text(
            &runs,
            &wrap_sentence(&format!(
                "! The load generator is the limit, not the server: a better value hardly shows.\
                 {hint}"
            )),
        )?;
    }

    let least = search.time_of_least(&runs);
    let mut found = TuneFindings { tried: Vec::new(), left_out: not_worth, together: None };
    while let Some(tried) = search.try_next_knob(&mut runs)? {
        print_tune_text(&runs, &shown::format_tried_knob(&tried, arguments.goal))?;
        found.tried.push(tried);
    }

    // The search takes each winner by itself. Only new runs of all winners together decide what it
    // recommends. An empty result means that the budget ended before.
    let before = runs.finished_runs().len();
    found.together = match search.confirm_together(&mut runs) {
        Err(TuneStop::TimeIsOver) => Some(RoundRatios::default()),
        other => other?,
    };
    runs.finish();
    for knob in search.left_out() {
        found.left_out.insert(
            knob,
            "the budget is too small: use a longer --budget or fewer --clients".to_owned(),
        );
    }
    let outcome = TuneOutcome { arguments, begin, first, found, runs: &runs, timed };
    outcome.print_outcome(search.best(), runs.finished_runs().get(before..).unwrap_or_default())?;
    outcome.write_files(search.best())?;
    if outcome.found.tried.is_empty() && !search.left_out().is_empty() {
        let least = format_rough_time(least);
        writeln!(
            io::stderr(),
            "loadtest: the budget is too small for any knob: use --budget {least} or more, or \
             fewer --clients"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_tune_text(runs: &TuneRuns, text: &str) -> io::Result<()> {
    runs.print_above(|| io::stdout().lock().write_all(text.as_bytes()))
}

impl TuneArguments {
    fn refuse_impossible(&self) -> anyhow::Result<()> {
        // Everything here is refused before the search, which takes minutes.
        let flags: Vec<_> = self.rest.iter().map(|word| word.split('=').next()).collect();
        ensure!(
            !flags.contains(&Some("--link")),
            "write --link before the --, so that the result says over what it was measured"
        );
        ensure!(
            self.link.is_none() || self.yes,
            "--link makes two network namespaces on this host for each run, which end with it: \
             add --yes"
        );
        if self.server.is_some() || flags.contains(&Some("--server")) {
            bail!(
                "loadtest cannot tune a running server: each value needs a new start of its \
                 process, which loadtest does not control. Run `loadtest tune` on the machine of \
                 that server, without --server: it starts a private server there, which has its \
                 processors and its kernel, but not its network card; --link 10gbit puts a link \
                 between the server and the machines. To try one change over the network, measure \
                 before and after it with `loadtest --server ADDR --json FILE`, and compare the \
                 reports with `loadtest compare`"
            );
        }
        let may_write = self.force || self.link.is_some();
        if let Some(file) = self.out.as_ref().or(self.write.as_ref()).filter(|_| !may_write) {
            bail!(
                "not written to {} without --link or --force: the load goes over loopback, which \
                 has no network card, loses no packets and raises no interrupts, so the best \
                 values there may be worse on your network. Without --out and --write the search \
                 only prints them",
                file.display()
            );
        }
        let there = self.out.as_ref().filter(|file| file.exists());
        ensure!(
            there.is_none(),
            "{} exists; --write writes values into a configuration",
            there.map_or(String::new(), |file| file.display().to_string())
        );
        Ok(())
    }

    /// The arguments of every run.
    fn build_run_arguments(&self, scenario: &Scenario) -> Vec<String> {
        let mut words = vec![
            "--scenario".to_owned(),
            self.scenario.clone().unwrap_or_else(|| scenario.name.clone()),
        ];
        if let Some(clients) = self.clients {
            words.extend(["--clients".to_owned(), clients.to_string()]);
        }
        if let Some(program) = &self.ringboot {
            words.extend(["--ringboot".to_owned(), program.display().to_string()]);
        }
        if let Some(rate) = self.link {
            words.extend(["--link".to_owned(), rate.to_string(), "--yes".to_owned()]);
        }
        words.extend(self.rest.iter().cloned());
        words
    }

    /// A hint how the generator gets faster, unless the arguments already do so.
    fn hint_less_work(&self) -> &'static str {
        match self.rest.iter().any(|word| word.starts_with("--verify")) {
            true => "",
            false => " `-- --verify length` makes it faster.",
        }
    }

    fn format_heading(&self, scenario: &Scenario, timed: bool) -> String {
        let goal = format!("Goal: {}, the {}.", self.goal.name(), self.goal.describe(timed));
        let what = format!(
            "Scenario {}. {goal} {}",
            scenario.name,
            shown::describe_tune_rule(self.runs as usize)
        );
        wrap_sentence(&what) + &wrap_sentence(&self.describe_way())
    }

    /// The way between the server and the machines, and what it lacks.
    fn describe_way(&self) -> String {
        match self.link {
            None => "! Over loopback: no network card, no loss, no interrupts. Segmented sends, \
                     windows and polling have another effect on a network."
                .to_owned(),
            Some(rate) => format!(
                "Over a link between two network namespaces ({rate}): the kernel cuts windows \
                 into packets, and a full queue drops them. There is no network card, and no \
                 interrupt."
            ),
        }
    }

    /// The same for a written result.
    fn format_way(&self) -> String {
        match self.link {
            None => "LOOPBACK: measure again on your network".to_owned(),
            Some(rate) => {
                format!("a link between two network namespaces of this host ({rate})")
            }
        }
    }
}

/// The values with which the search begins.
struct TuneStart {
    /// The file of --write, and its text.
    file: Option<(PathBuf, String)>,
    config: Config,
}

impl TuneStart {
    fn read(arguments: &TuneArguments) -> anyhow::Result<Self> {
        let Some(file) = &arguments.write else {
            return Ok(Self { file: None, config: Config::for_root("/") });
        };
        let shown = file.display().to_string();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
        let config = Config::parse(&shown, &text);
        let config =
            config.map_err(|problems| anyhow!("the configuration is wrong\n{problems}"))?;
        Ok(Self { file: Some((file.clone(), text)), config })
    }
}

/// The results of a search.
#[derive(Serialize)]
struct TuneFindings {
    tried: Vec<TriedKnob>,
    /// Knobs that the search did not try, and why.
    left_out: std::collections::BTreeMap<&'static str, String>,
    /// All winners beside the present values; None without a winner, empty if the budget ended
    /// before.
    together: Option<RoundRatios>,
}

/// A finished search.
struct TuneOutcome<'a> {
    arguments: &'a TuneArguments,
    begin: TuneStart,
    first: ReportDocument,
    found: TuneFindings,
    runs: &'a TuneRuns,
    timed: bool,
}

impl TuneOutcome<'_> {
    /// True if all winners together have won beside the present values.
    fn is_better(&self) -> bool {
        self.found.together.as_ref().is_some_and(RoundRatios::have_won)
    }

    fn print_outcome(&self, best: &KnobValues, together: &[TuneRun]) -> io::Result<()> {
        let mut out = String::new();
        if let Some(ratios) = self.found.together.as_ref().filter(|ratios| !ratios.0.is_empty()) {
            out += &shown::format_joint_result(together, ratios, self.arguments.goal, self.timed);
        }
        out.push('\n');
        let mut reasons: Vec<&String> = self.found.left_out.values().collect();
        reasons.sort();
        reasons.dedup();

        // Knobs with the same reason share a line.
        for why in reasons {
            let knobs = self
                .found
                .left_out
                .iter()
                .filter(|(_, other)| *other == why)
                .map(|(knob, _)| *knob);
            out += &wrap_sentence(&format!(
                "not tried: {}: {why}",
                knobs.collect::<Vec<_>>().join(", ")
            ));
        }

        let done = self.runs.finished_runs();
        let limited = done.iter().filter(|run| run.generator_was_limit).count();
        if limited > 0 {
            let all = done.len();
            out += &wrap_sentence(&format!(
                "! In {limited} of {all} runs the load generator was the limit: there no value of \
                 the server can look better.{}",
                self.arguments.hint_less_work()
            ));
        }
        for failure in done.iter().filter_map(|run| run.failure.as_deref()).take(FAILURES_SHOWN_MAX)
        {
            out += &wrap_sentence(&format!("! a run failed: {failure}"));
        }
        out += &wrap_sentence(&self.describe_verdict(best));
        if self.is_better() {
            out += "\n";
            out += &self.format_block(best);
        }
        io::stdout().lock().write_all(out.as_bytes())
    }

    fn describe_verdict(&self, best: &KnobValues) -> String {
        let now = if self.begin.file.is_some() { "the values of the file" } else { "the defaults" };
        match &self.found.together {
            None if self.found.tried.is_empty() => {
                format!("No knob was tried: {now} may be good or bad.")
            }
            None => format!("No value beats {now}: change nothing."),
            Some(ratios) if ratios.0.is_empty() => {
                format!(
                    "The budget ended before all winners could run together beside {now}: change \
                     nothing."
                )
            }
            Some(ratios) if !self.is_better() => {
                let shown = shown::format_ratios(ratios);
                format!("Together they are no better than {now}, {shown}: change nothing.")
            }
            Some(ratios) => {
                let (knobs, goal) = (best.len(), self.arguments.goal.name());
                let (gain, shown) = (shown::format_gain(ratios), shown::format_ratios(ratios));
                format!("{knobs} changed: {goal} beside {now} is {gain}: {shown}.")
            }
        }
    }

    fn format_block(&self, best: &KnobValues) -> String {
        let (run, summary) = (&self.first.run, &self.first.summary);
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let together = self.found.together.as_ref().map_or(String::new(), shown::format_ratios);
        let mut about = vec![
            format!(
                "Found by `loadtest tune` on {}, {}.",
                host.trim(),
                format_utc(SystemTime::now())
            ),
            format!("{}, {} processors, Linux {}.", run.processor, run.cpus, run.kernel),
            format!(
                "Scenario {}, {} machines, over {}.",
                run.scenario,
                summary.machines,
                self.arguments.format_way()
            ),
            format!("All together: {} {together}.", self.arguments.goal.name()),
        ];

        // A knob may have won twice. Only the win with the recommended value is of use.
        for tried in &self.found.tried {
            let KnobVerdict::Won { value, confirmation } = &tried.verdict else { continue };
            if best.get(tried.knob) == Some(value) {
                about.push(format!(
                    "{} = {value} beside {}: {}.",
                    tried.knob,
                    tried.reference,
                    shown::format_ratios(confirmation)
                ));
            }
        }
        shown::format_config_block(best, &self.begin.config, &about)
    }

    fn write_files(&self, best: &KnobValues) -> anyhow::Result<()> {
        // The JSON file has the measurements of every search, also of one without a winner.
        if let Some(file) = &self.arguments.json {
            self.write_json(file, best)?;
        }
        if !self.is_better() {
            let asked = self.arguments.out.is_some() || self.arguments.write.is_some();
            return if asked {
                Ok(writeln!(io::stdout(), "\n  nothing is written")?)
            } else {
                Ok(())
            };
        }
        if let Some(file) = &self.arguments.out {
            // The file may have appeared since `refuse_impossible` looked: never write over it.
            let mut new = fs::File::create_new(file)
                .with_context(|| format!("cannot write {}", file.display()))?;
            new.write_all(self.format_block(best).as_bytes())?;
            writeln!(io::stdout(), "\n  written to {}", file.display())?;
        }
        match &self.begin.file {
            Some((file, text)) => put_winners(file, text, best),
            None => Ok(()),
        }
    }

    fn write_json(&self, file: &Path, best: &KnobValues) -> anyhow::Result<()> {
        let empty = KnobValues::new();
        let document = TuneDocument {
            version: 1,
            run: &self.first.run,
            machines: self.first.summary.machines,
            goal: self.arguments.goal.name(),
            goals: TuneGoal::ALL.map(TuneGoal::name),
            found: &self.found,
            best: if self.is_better() { best } else { &empty },
            runs: self.runs.finished_runs(),
        };
        let text = serde_json::to_string_pretty(&document)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Failures of runs that the search prints; the JSON file has all of them.
const FAILURES_SHOWN_MAX: usize = 3;

/// What --json writes.
#[derive(Serialize)]
struct TuneDocument<'a> {
    version: u32,
    run: &'a json::RunDescription,
    machines: u32,
    goal: &'static str,
    /// The names of the goals of each run, all in seconds.
    goals: [&'static str; TuneGoal::ALL.len()],
    #[serde(flatten)]
    found: &'a TuneFindings,
    /// The recommended changes; empty if there are none.
    best: &'a KnobValues,
    runs: &'a [TuneRun],
}

/// Writes the winners into the configuration and prints the old values.
fn put_winners(file: &Path, text: &str, best: &KnobValues) -> anyhow::Result<()> {
    let entries: Vec<SettingEntry> = best
        .iter()
        .filter_map(|(name, value)| {
            let spec = knobs::find_knob_spec(name)?;
            Some(SettingEntry { table: spec.table, key: spec.name, value: *value })
        })
        .collect();

    // `text` is the file as the search read it. If the file is another one by now,
    // `replace_config_file` refuses to write.
    let (new, changes) = edit::edit_entries(&file.display().to_string(), text, &entries)?;
    let stamp = format!("before-tune-{}", format_utc(SystemTime::now()).replace([':', '-'], ""));
    let backup = edit::replace_config_file(file, text, &new, &stamp)?;
    let mut out = io::stdout().lock();
    writeln!(out, "\n  {}:", file.display())?;
    for change in changes {
        let SettingEntry { table, key, value } = change.entry;
        writeln!(
            out,
            "    [{table}] {key}: {} -> {value}",
            change.old.as_deref().unwrap_or("not set")
        )?;
    }
    writeln!(
        out,
        "  the old file is {}; check the new one with `ringboot check`, then restart ringboot",
        backup.display()
    )?;
    Ok(())
}
