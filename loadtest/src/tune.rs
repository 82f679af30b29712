//! `loadtest tune`: searches better numbers for a configuration by measuring them beside those of
//! now, and says when there are none.

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
use ringboot_fleet::{Scenario, limits, parse_duration};
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
/// Every value is measured beside the value of now, in the same rounds, against a private server
/// that is started anew for each run. A value is taken only where it is better by more than the
/// noise. Nothing is written unless --out or --write says where.
#[derive(Debug, clap::Args)]
pub(crate) struct TuneArguments {
    /// What machines do: a built-in scenario or a file [default: boot-storm]
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// How many machines [default: of the scenario, mostly 500]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::MACHINES_MAX))
    )]
    clients: Option<u32>,
    /// What shall become less
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
    /// The whole search takes no longer; knobs that it has no time for are named
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = parse_duration)]
    budget: Duration,
    /// Only this knob, with its usual values or with these; may be given several times [default:
    /// all that matter for the scenario, of workers, windowsize-max, http-slots, http-chunk,
    /// gso-segments, spin-us, receive-buffers]
    #[arg(long, value_name = "NAME[=V,V...]", value_parser = knobs::parse_wanted_knob)]
    knob: Vec<WantedKnob>,
    /// The server program [default: the `ringboot` beside this program]
    #[arg(long, value_name = "FILE")]
    ringboot: Option<PathBuf>,
    /// Write what was found to this new file, as lines of a configuration
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    out: Option<PathBuf>,
    /// Begin with the values of this configuration, and put what was found into it; all else in it
    /// stays as it is
    #[arg(long, value_name = "CONFIG")]
    write: Option<PathBuf>,
    /// Write although the load goes over loopback
    #[arg(long)]
    force: bool,
    /// Write everything that was measured to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Not possible: the server must be started anew for each value
    #[arg(long, value_name = "ADDR", hide = true)]
    server: Option<String>,
    /// Arguments of each run, such as --verify length or --loss 1%
    #[arg(last = true, value_name = "LOADTEST ARGUMENTS")]
    rest: Vec<String>,
}

/// Exit code 0 whatever was found, 1 when there was no time to try anything, 130 when it was
/// interrupted.
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
    arguments.refuse_what_cannot_be()?;
    let begin = TuneStart::read(arguments)?;
    let scenario = arguments
        .scenario
        .as_deref()
        .map_or_else(scenario::load_usual_scenario, scenario::find_scenario)?;
    let (knobs, not_worth) = knobs::choose_knobs(&arguments.knob, &begin.config, &scenario)?;
    let timed = scenario.duration.is_some()
        || arguments.rest.iter().any(|word| word.starts_with("--duration"));
    let mut runs =
        TuneRuns::new(arguments.of_a_run(&scenario), begin.config.clone(), arguments.goal, timed)?;
    print_tune_text(&runs, &arguments.heading(&scenario, timed))?;
    let (first, run) = runs.warm_up()?;
    let rounds = arguments.runs as usize;
    let mut search = KnobSearch::new(knobs, TuneBounds { rounds, budget: arguments.budget, run });
    let needed = search.time_needed(&runs);
    let machines = first.summary.machines;
    print_tune_text(
        &runs,
        &wrap_sentence(&format!(
            "One run with {machines} machines takes {:.1} s; all knobs need about {}, and have {} \
             (--budget).",
            run.as_secs_f64(),
            format_rough_time(needed),
            format_rough_time(arguments.budget),
        )),
    )?;
    if first.summary.client_was_limit {
        let hint = arguments.less_to_do();
        print_tune_text(
            &runs,
            &wrap_sentence(&format!(
                "! The load generator is the limit, not the server: little can be seen to be \
                 better.{hint}"
            )),
        )?;
    }

    let least = search.time_of_least(&runs);
    let mut found = TuneFindings { tried: Vec::new(), left_out: not_worth, together: None };
    while let Some(tried) = search.next(&mut runs)? {
        print_tune_text(&runs, &shown::format_tried_knob(&tried, arguments.goal))?;
        found.tried.push(tried);
    }
    let before = runs.done().len();
    found.together = match search.together(&mut runs) {
        Err(TuneStop::TimeIsOver) => Some(RoundRatios::default()),
        other => other?,
    };
    runs.finish();
    for knob in search.left_out() {
        found.left_out.insert(
            knob,
            "there was no time: give it a longer --budget, or a run fewer --clients".to_owned(),
        );
    }
    let outcome = TuneOutcome { arguments, begin, first, found, runs: &runs, timed };
    outcome.say(search.best(), runs.done().get(before..).unwrap_or_default())?;
    outcome.write(search.best())?;
    if outcome.found.tried.is_empty() && !search.left_out().is_empty() {
        let least = format_rough_time(least);
        writeln!(
            io::stderr(),
            "loadtest: no knob was tried: even one needs about {least} (--budget), or fewer \
             --clients"
        )?;
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_tune_text(runs: &TuneRuns, text: &str) -> io::Result<()> {
    runs.in_front(|| io::stdout().lock().write_all(text.as_bytes()))
}

impl TuneArguments {
    fn refuse_what_cannot_be(&self) -> anyhow::Result<()> {
        let named = |word: &&String| word.split('=').next() == Some("--server");
        if self.server.is_some() || self.rest.iter().any(|word| named(&word)) {
            bail!(
                "a server that runs already cannot be tuned from here: its process would have to \
                 be started anew for each value, and loadtest does not reach it. Run `loadtest \
                 tune` on the machine of that server, without --server: it starts a private server \
                 there, which has its processors and its kernel (but not its network card). To try \
                 one change over the network, measure before and after it with `loadtest --server \
                 ADDR --json FILE`, and hold them against each other with `loadtest compare`"
            );
        }
        if let Some(file) = self.out.as_ref().or(self.write.as_ref()).filter(|_| !self.force) {
            bail!(
                "nothing would be written to {}: the load goes over loopback, which has no network \
                 card, loses nothing and raises no interrupts, so what is best there may be worse \
                 on your network. Without --out and --write the search is shown all the same; with \
                 --force it is written",
                file.display()
            );
        }
        let there = self.out.as_ref().filter(|file| file.exists());
        ensure!(
            there.is_none(),
            "{} is there already; --write puts values into a configuration",
            there.map_or(String::new(), |file| file.display().to_string())
        );
        Ok(())
    }

    /// What every run is started with.
    fn of_a_run(&self, scenario: &Scenario) -> Vec<String> {
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
        words.extend(self.rest.iter().cloned());
        words
    }

    /// How the generator gets faster, where that has not been done.
    fn less_to_do(&self) -> &'static str {
        match self.rest.iter().any(|word| word.starts_with("--verify")) {
            true => "",
            false => " `-- --verify length` makes it faster.",
        }
    }

    fn heading(&self, scenario: &Scenario, timed: bool) -> String {
        let goal = format!("Goal: {}, the {}.", self.goal.name(), self.goal.words(timed));
        let what = format!(
            "Scenario {}. {goal} {}",
            scenario.name,
            shown::describe_tune_rule(self.runs as usize)
        );
        let loopback = "! Over loopback: no network card, no loss, no interrupts. Segmented sends, \
                        windows and polling are worth something else on a network.";
        wrap_sentence(&what) + &wrap_sentence(loopback)
    }
}

/// What the search begins with.
struct TuneStart {
    /// The file that is to be changed, and its text.
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

/// What a search has found.
#[derive(Serialize)]
struct TuneFindings {
    tried: Vec<TriedKnob>,
    /// Knobs that were not tried, and why.
    left_out: std::collections::BTreeMap<&'static str, String>,
    /// All winners beside now; None where there is no winner, nothing in it where the time was
    /// over.
    together: Option<RoundRatios>,
}

/// A search that is over.
struct TuneOutcome<'a> {
    arguments: &'a TuneArguments,
    begin: TuneStart,
    first: ReportDocument,
    found: TuneFindings,
    runs: &'a TuneRuns,
    timed: bool,
}

impl TuneOutcome<'_> {
    /// True where all winners together have won every round beside now.
    fn is_better(&self) -> bool {
        self.found.together.as_ref().is_some_and(RoundRatios::have_won)
    }

    fn say(&self, best: &KnobValues, together: &[TuneRun]) -> io::Result<()> {
        let mut out = String::new();
        if let Some(ratios) = self.found.together.as_ref().filter(|ratios| !ratios.0.is_empty()) {
            out += &shown::format_joint_result(together, ratios, self.arguments.goal, self.timed);
        }
        out.push('\n');
        let mut reasons: Vec<&String> = self.found.left_out.values().collect();
        reasons.sort();
        reasons.dedup();
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
        let done = self.runs.done();
        let limited = done.iter().filter(|run| run.generator_was_limit).count();
        if limited > 0 {
            let all = done.len();
            out += &wrap_sentence(&format!(
                "! In {limited} of {all} runs the load generator was the limit: there no value of \
                 the server's could look better.{}",
                self.arguments.less_to_do()
            ));
        }
        for failure in done.iter().filter_map(|run| run.failure.as_deref()).take(FAILURES_SHOWN_MAX)
        {
            out += &wrap_sentence(&format!("! a run failed: {failure}"));
        }
        out += &wrap_sentence(&self.verdict(best));
        if self.is_better() {
            out += "\n";
            out += &self.block(best);
        }
        io::stdout().lock().write_all(out.as_bytes())
    }

    fn verdict(&self, best: &KnobValues) -> String {
        let now = if self.begin.file.is_some() { "what the file has now" } else { "the defaults" };
        match &self.found.together {
            None if self.found.tried.is_empty() => {
                format!("Nothing was tried: {now} may be good or bad.")
            }
            None => format!("Nothing beats {now}: leave everything as it is."),
            Some(ratios) if ratios.0.is_empty() => {
                format!(
                    "The time is over before all that was taken could be measured beside {now}: \
                     leave everything as it is."
                )
            }
            Some(ratios) if !self.is_better() => {
                let shown = shown::format_ratios(ratios);
                format!(
                    "Together they are no better than {now}, {shown}: leave everything as it is."
                )
            }
            Some(ratios) => {
                let (knobs, goal) = (best.len(), self.arguments.goal.name());
                format!("{knobs} changed: {goal} beside {now} is {}.", shown::format_ratios(ratios))
            }
        }
    }

    fn block(&self, best: &KnobValues) -> String {
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
                "Scenario {}, {} machines, over LOOPBACK: measure again on your network.",
                run.scenario, summary.machines
            ),
            format!("All together: {} {together}.", self.arguments.goal.name()),
        ];
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

    fn write(&self, best: &KnobValues) -> anyhow::Result<()> {
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
            let mut new = fs::File::create_new(file)
                .with_context(|| format!("cannot write {}", file.display()))?;
            new.write_all(self.block(best).as_bytes())?;
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
            runs: self.runs.done(),
        };
        let text = serde_json::to_string_pretty(&document)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// Failures of runs that are listed; the JSON file has all of them.
const FAILURES_SHOWN_MAX: usize = 3;

/// What --json writes.
#[derive(Serialize)]
struct TuneDocument<'a> {
    version: u32,
    run: &'a json::RunDescription,
    machines: u32,
    goal: &'static str,
    /// The names of the numbers that each run has, all in seconds.
    goals: [&'static str; TuneGoal::ALL.len()],
    #[serde(flatten)]
    found: &'a TuneFindings,
    /// What should be changed; empty where nothing should.
    best: &'a KnobValues,
    runs: &'a [TuneRun],
}

/// Puts the winners into the configuration and says what was there before.
fn put_winners(file: &Path, text: &str, best: &KnobValues) -> anyhow::Result<()> {
    let entries: Vec<SettingEntry> = best
        .iter()
        .filter_map(|(name, value)| {
            let spec = knobs::find_knob_spec(name)?;
            Some(SettingEntry { table: spec.table, key: spec.name, value: *value })
        })
        .collect();
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
        "  what it was is in {}; `ringboot check` looks it over; a restart takes it up",
        backup.display()
    )?;
    Ok(())
}
