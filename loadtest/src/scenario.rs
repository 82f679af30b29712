//! Which scenario is played and how machines arrive: the built-in ones, files, and the commands
//! that list them and write their files.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use ringboot_fleet::{Arrival, Does, Plan, Rate, Role, Scenario, duration, limits};

/// Those of loadtest/scenarios, in the order in which they are listed.
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

/// Machines where neither the command line nor the scenario says how many.
const CLIENTS: u32 = 500;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What machines do")]
pub(crate) struct Flags {
    /// How many machines [default: of the scenario, mostly 500]
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
    /// When they are switched on: all, ramp:30s (evenly over 30 s), poisson:50/s (at random, 50 a
    /// second on average), racks:20x40s (20 at once, the next 20 after 40 s) [default: of the
    /// scenario, mostly all]
    #[arg(long, value_name = "HOW")]
    arrival: Option<Arrival>,
    /// Machines begin again until then, such as 30s or 10m [default: of the scenario, mostly once
    /// each]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// A boot that takes longer than this has failed, such as 60s [default: as long as its firmware
    /// has patience]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    within: Option<Duration>,
    /// Requests of plain steps are due so often, all machines together, whether or not those before
    /// have their answers: 5000/s, or at random poisson:5000/s. A request that finds no machine
    /// free waits, and its time counts from the moment at which it was due [default: of the
    /// scenario, mostly each machine's next request when it has its answer]
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// What begins so long after the start is not counted, such as 5s [default: of the scenario,
    /// mostly 0s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    warm_up: Option<Duration>,
    /// Keep the waits in which firmware does nothing, such as iPXE's 3 s for a ProxyDHCP server;
    /// timers of retransmission are always the firmware's own
    #[arg(long)]
    pub(crate) firmware_waits: bool,
    /// Runs with one seed use the same hardware addresses, transaction ids and moments
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,
}

impl Flags {
    /// The scenario that was asked for; None where nothing was said.
    pub(crate) fn scenario(&self) -> anyhow::Result<Option<Scenario>> {
        self.scenario.as_deref().map(find).transpose()
    }

    pub(crate) fn clients(&self, scenario: Option<&Scenario>) -> u32 {
        self.clients.or_else(|| scenario?.clients).unwrap_or(CLIENTS)
    }

    /// Puts into the plan who does what and when.
    pub(crate) fn direct(&self, scenario: &Scenario, plan: &mut Plan) -> anyhow::Result<()> {
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
        if let Some(rate) = self.rate {
            let [Role { rate: of_role, does: Does::Steps(_), .. }] = plan.roles.as_mut_slice()
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
pub(crate) fn usual() -> anyhow::Result<Scenario> {
    find(BUILT_IN[0].0)
}

/// A built-in scenario, else a file.
pub(crate) fn find(name: &str) -> anyhow::Result<Scenario> {
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
pub(crate) fn list() -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    for (name, _) in BUILT_IN {
        writeln!(out, "{name:<18}{}", find(name)?.about)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the files that a scenario asks for, for another server to offer
///
/// Their contents are made up, the same on every machine: a run with --made-files checks every
/// octet.
#[derive(Debug, clap::Args)]
pub(crate) struct Files {
    /// A built-in scenario or a file
    #[arg(long, value_name = "NAME|FILE")]
    scenario: String,
    /// Where the server's root is; files of the same names are replaced
    directory: PathBuf,
}

impl Files {
    pub(crate) fn write(&self) -> anyhow::Result<ExitCode> {
        let scenario = find(&self.scenario)?;
        ensure!(!scenario.files.is_empty(), "scenario {} has no [files]", scenario.name);
        let shown = self.directory.display();
        scenario
            .contents()
            .write_below(&self.directory)
            .with_context(|| format!("cannot write below {shown}"))?;
        let mut out = io::stdout().lock();
        for (name, octets) in &scenario.files {
            writeln!(out, "{octets:>12}  {shown}/{name}")?;
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
            let scenario = find(name).unwrap();
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
            find("boot-strom")
                .unwrap_err()
                .to_string()
                .contains("there are boot-storm, zoo, storm, ")
        );
        assert!(find("./none.toml").unwrap_err().to_string().contains("cannot read ./none.toml"));
    }
}
