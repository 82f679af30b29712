//! The scenario of a run and the arrival of its machines: built-in scenarios, files, and the
//! commands that list them and write their files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use ringboot_fleet::{
    ArrivalPattern, ArrivalRate, FleetPlan, MachineRole, RoleTask, Scenario, limits, parse_duration,
};

/// The scenarios of loadtest/scenarios, in the order of the list.
const BUILT_IN: [(&str, &str); 13] = [
    ("boot-storm", include_str!("../scenarios/boot-storm.toml")),
    ("zoo", include_str!("../scenarios/zoo.toml")),
    ("storm", include_str!("../scenarios/storm.toml")),
    ("tftp-lockstep", include_str!("../scenarios/tftp-lockstep.toml")),
    ("tftp-plain", include_str!("../scenarios/tftp-plain.toml")),
    ("tftp-window16", include_str!("../scenarios/tftp-window16.toml")),
    ("tftp-window64", include_str!("../scenarios/tftp-window64.toml")),
    ("http-small", include_str!("../scenarios/http-small.toml")),
    ("http-small-close", include_str!("../scenarios/http-small-close.toml")),
    ("http-large", include_str!("../scenarios/http-large.toml")),
    ("http-ranges", include_str!("../scenarios/http-ranges.toml")),
    ("http-many", include_str!("../scenarios/http-many.toml")),
    ("dhcp", include_str!("../scenarios/dhcp.toml")),
];

/// The number of machines if neither the command line nor the scenario has one.
const CLIENTS: u32 = 500;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The machines")]
pub(crate) struct ScenarioFlags {
    /// Number of machines [default: of the scenario, mostly 500]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::MACHINES_MAX))
    )]
    clients: Option<u32>,
    /// A built-in scenario (`loadtest scenarios` lists them), or a file (docs/loadtest.md)
    /// [default: boot-storm]
    #[arg(long, value_name = "NAME|FILE")]
    scenario: Option<String>,
    /// When machines start: all, ramp:30s (evenly over 30 s), poisson:50/s (at random, 50 a second
    /// on average), racks:20x40s (20 at once, the next 20 after 40 s) [default: of the scenario,
    /// mostly all]
    #[arg(long, value_name = "HOW")]
    arrival: Option<ArrivalPattern>,
    /// Repeat boots and steps for this time, such as 30s or 10m [default: of the scenario, mostly
    /// once for each machine]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Fail a boot that takes longer than this, such as 60s [default: the patience of the firmware]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    within: Option<Duration>,
    /// Make requests of plain steps at this rate, all machines together, even if earlier ones have
    /// no answer yet: 5000/s, or at random poisson:5000/s. A request that finds no free machine
    /// waits, and its time counts from the moment at which it was due [default: of the scenario,
    /// mostly each machine's next request after its answer]
    #[arg(long, value_name = "RATE")]
    rate: Option<ArrivalRate>,
    /// Do not count boots and requests that begin within this time after the start, such as 5s
    /// [default: of the scenario, mostly 0s]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    warm_up: Option<Duration>,
    /// Keep the waits in which firmware does nothing, such as iPXE's 3 s for a ProxyDHCP server;
    /// retransmission timers are always the firmware's own
    #[arg(long)]
    pub(crate) firmware_waits: bool,
    /// Runs with one seed use the same hardware addresses, transaction ids and moments
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
}

impl ScenarioFlags {
    /// The scenario that was asked for; None where nothing was said.
    pub(crate) fn scenario(&self) -> anyhow::Result<Option<Scenario>> {
        self.scenario.as_deref().map(find_scenario).transpose()
    }

    pub(crate) fn clients(&self, scenario: Option<&Scenario>) -> u32 {
        self.clients.or_else(|| scenario?.clients).unwrap_or(CLIENTS)
    }

    /// Puts into the plan who does what and when.
    pub(crate) fn direct(&self, scenario: &Scenario, plan: &mut FleetPlan) -> anyhow::Result<()> {
        // A flag of the command line goes before the scenario's own default.
        plan.machines = self.clients(Some(scenario));
        plan.roles.clone_from(&scenario.roles);
        plan.arrival = self.arrival.unwrap_or(scenario.arrival);
        plan.duration = self.duration.or(scenario.duration);
        plan.within = self.within;
        plan.warm_up = self.warm_up.unwrap_or(scenario.warm_up);
        ensure!(
            plan.duration.is_none_or(|duration| duration > plan.warm_up),
            "--warm-up {:?} leaves nothing to count: say a --duration that is longer",
            plan.warm_up
        );

        // One number for several roles would leave open which of them makes the requests.
        if let Some(rate) = self.rate {
            let [MachineRole { rate: of_role, does: RoleTask::Steps(_), .. }] =
                plan.roles.as_mut_slice()
            else {
                bail!(
                    "--rate is for a scenario with one [[machine]], of plain steps; in a file each \
                     [[machine]] may have a rate of its own"
                );
            };
            *of_role = Some(rate);
        }
        Ok(())
    }
}

/// The scenario that is played where nothing was said.
pub(crate) fn load_usual_scenario() -> anyhow::Result<Scenario> {
    find_scenario(BUILT_IN[0].0)
}

/// A built-in scenario, else a file.
pub(crate) fn find_scenario(name: &str) -> anyhow::Result<Scenario> {
    if let Some((name, text)) = BUILT_IN.iter().find(|(built_in, _)| *built_in == name) {
        return Ok(Scenario::parse(name, text)?);
    }
    let read = fs::read_to_string(name);
    if read.is_err() && !Path::new(name).exists() && !name.contains(['/', '.']) {
        return Err(anyhow!(
            "no scenario {name}; there are {}, and files",
            BUILT_IN.map(|(name, _)| name).join(", ")
        ));
    }
    Ok(Scenario::parse(name, &read.with_context(|| format!("cannot read {name}"))?)?)
}

/// Prints each built-in scenario with its sentence.
pub(crate) fn list_scenarios() -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for (name, _) in BUILT_IN {
        writeln!(out, "{name:<18}{}", find_scenario(name)?.about)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the files of a scenario, for another server to offer
///
/// Their contents are generated and the same on every host: a run with --made-files checks every
/// byte.
#[derive(Debug, clap::Args)]
pub(crate) struct FilesArguments {
    /// A built-in scenario or a file
    #[arg(long, value_name = "NAME|FILE")]
    scenario: String,
    /// The server's root; files of the same names are replaced
    directory: PathBuf,
}

impl FilesArguments {
    pub(crate) fn write(&self) -> anyhow::Result<ExitCode> {
        let scenario = find_scenario(&self.scenario)?;
        ensure!(!scenario.files.is_empty(), "scenario {} has no [files]", scenario.name);
        let shown = self.directory.display();
        scenario
            .make_contents()
            .write_below(&self.directory)
            .with_context(|| format!("cannot write below {shown}"))?;
        let mut out = io::stdout().lock();
        for (name, bytes) in &scenario.files {
            writeln!(out, "{bytes:>12}  {shown}/{name}")?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_built_in_scenario_is_right_and_says_what_it_is() {
        for (name, _) in BUILT_IN {
            let scenario = find_scenario(name).unwrap();
            assert_eq!(scenario.name, name);
            assert!(!scenario.about.is_empty() && scenario.clients.is_some(), "{name}");
        }
        let there =
            fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap().count();
        assert_eq!(there, BUILT_IN.len());
    }

    #[test]
    fn a_scenario_that_is_not_there_is_told_with_those_that_are() {
        assert!(
            find_scenario("boot-strom")
                .unwrap_err()
                .to_string()
                .contains("there are boot-storm, zoo, storm, ")
        );
        assert!(
            find_scenario("./none.toml")
                .unwrap_err()
                .to_string()
                .contains("cannot read ./none.toml")
        );
    }
}
