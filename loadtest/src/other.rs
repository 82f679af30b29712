//! The flags of a running server: its addresses, what machines fetch, and the expected contents.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use ringboot_fleet::{
    ArrivalPattern, ContentMap, ExpectedContent, FleetPace, FleetPlan, MachineRole, RoleTask,
    Scenario, ScenarioStep, StepRequest, WireSettings,
};
use ringboot_protocol::tftp::client::ClientBehaviour;

use crate::dhcp::DhcpFlags;
use crate::host::{self, ServerHost};
use crate::scenario;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Another server")]
pub(crate) struct ServerFlags {
    /// A running server: its IPv4 or IPv6 address, or its name. If it is not on loopback, the plan
    /// of the run is printed first, and --yes is needed
    #[arg(long, value_name = "ADDR")]
    pub(crate) server: Option<ServerHost>,
    /// Its TFTP [default: port 69 of --server]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        requires = "server",
        value_parser = host::parse_server_place
    )]
    tftp: Option<SocketAddr>,
    /// Its HTTP [default: port 80 of --server]
    #[arg(
        long,
        value_name = "ADDR:PORT",
        requires = "server",
        value_parser = host::parse_server_place
    )]
    http: Option<SocketAddr>,
    /// The menu entry that every machine chooses
    #[arg(long, value_name = "LABEL", requires = "dhcp")]
    entry: Option<String>,
    /// Use no DHCP: machines fetch --files, or play a --scenario of plain steps
    #[arg(long, requires = "server")]
    no_dhcp: bool,
    /// Files to fetch: the first by TFTP, the others by HTTP on one connection, unless written as
    /// `tftp:NAME` or `http:PATH`
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        requires = "no_dhcp",
        conflicts_with = "scenario"
    )]
    files: Vec<String>,
    /// The server offers the files that `loadtest files` wrote for this scenario: check every byte
    #[arg(long, requires = "server", requires = "scenario")]
    made_files: bool,
    /// Compare every byte with the files of the same names in this directory
    #[arg(long, value_name = "DIR", requires = "server")]
    verify_root: Option<PathBuf>,
}

impl ServerFlags {
    /// The named scenario, else the one that --files makes, else the default one.
    pub(crate) fn choose_scenario(
        &self,
        flags: &scenario::ScenarioFlags,
    ) -> anyhow::Result<Scenario> {
        match flags.scenario()? {
            Some(named) => Ok(named),
            None if !self.files.is_empty() => Ok(build_fetch_scenario(&self.files)),
            None if self.no_dhcp => {
                bail!(
                    "--no-dhcp needs files that machines fetch: --files NAME,... or --scenario NAME"
                )
            }
            None => scenario::load_usual_scenario(),
        }
    }

    /// The plan without roles and times, which the scenario adds.
    pub(crate) fn build_plan(
        &self,
        server: &ServerHost,
        dhcp: &DhcpFlags,
        pace: FleetPace,
        seed: u64,
        scenario: &Scenario,
    ) -> anyhow::Result<FleetPlan> {
        let at = |given: Option<SocketAddr>, port| {
            given.unwrap_or(SocketAddr::new(server.address, port))
        };
        let boots = scenario.roles.iter().any(|role| matches!(role.does, RoleTask::Boot(_)));
        let lessor = dhcp.build_access(server)?;
        ensure!(
            lessor.is_some() || self.no_dhcp,
            "--server needs either --dhcp with --interface or --relay, or --no-dhcp --files \
             NAME,..."
        );
        ensure!(
            lessor.is_none() || !boots || self.entry.is_some(),
            "name the menu entry that machines choose: --entry LABEL"
        );

        // Without one of these flags the contents are unknown, and machines only count bytes.
        let mut contents =
            if self.made_files { scenario.make_contents() } else { ContentMap::default() };
        if let Some(directory) = &self.verify_root {
            read_files_below(directory, Path::new(""), &mut contents)
                .with_context(|| format!("cannot read {}", directory.display()))?;
        }
        Ok(FleetPlan {
            machines: 1,
            roles: Vec::new(),
            arrival: ArrivalPattern::All,
            duration: None,
            within: None,
            warm_up: Duration::ZERO,
            lessor,
            tftp: at(self.tftp, 69),
            http: at(self.http, 80),
            pick: self.entry.clone().unwrap_or_default(),
            contents,
            pace,
            wire: WireSettings::default(),
            seed,
        })
    }
}

/// The scenario that --files makes: the first file by TFTP as a BIOS ROM asks for its loader, the
/// others on one HTTP connection.
fn build_fetch_scenario(files: &[String]) -> Scenario {
    let steps = files
        .iter()
        .enumerate()
        .map(|(index, name)| ScenarioStep { request: build_fetch(index, name), repeat: 1 })
        .collect();
    Scenario {
        name: "files".to_owned(),
        about: String::new(),
        clients: None,
        arrival: ArrivalPattern::All,
        duration: None,
        warm_up: Duration::ZERO,
        files: BTreeMap::new(),
        roles: vec![MachineRole::stepping(1, steps)],
    }
}

/// The request for one name of --files: `tftp:` and `http:` before it choose the protocol, else its
/// place does.
fn build_fetch(index: usize, name: &str) -> StepRequest {
    let (name, by_tftp) = match (name.strip_prefix("tftp:"), name.strip_prefix("http:")) {
        (Some(name), _) => (name, true),
        (_, Some(path)) => (path, false),
        _ => (name, index == 0),
    };
    if by_tftp {
        return StepRequest::Tftp { name: name.to_owned(), behaviour: ClientBehaviour::ipxe() };
    }
    let path = format!("/{}", name.trim_start_matches('/'));
    StepRequest::Http { path, keep: true, range: None }
}

/// Every file below `root/below`, by its name under the root.
fn read_files_below(root: &Path, below: &Path, contents: &mut ContentMap) -> io::Result<()> {
    for entry in root.join(below).read_dir()? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            read_files_below(root, &name, contents)?;
        } else if kind.is_file() {
            contents.insert(
                &name.to_string_lossy(),
                ExpectedContent::Kept(Arc::from(fs::read(entry.path())?)),
            );
        }
    }
    Ok(())
}
