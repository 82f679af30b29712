//! The checks of `ringboot check`: files, menus, addresses, ports and the firewall, before a
//! machine is switched on. They only read.

use std::io;
use std::path::Path;

use self::files::CheckedTree;
pub use self::subject::{CheckSubject, FileReader, HeardPool, HeardSubnet, RunningServer};
use super::served::open_resolver;
use super::static_menus::{self, RootSurvey};
use crate::boot::menu;
use crate::config::{Config, ConfigPlace, ConfigProblem, ConfigProblems};
use crate::dhcp::limits::{LEASE_BYTES, POOL_ADDRESSES_MANY};
use crate::dhcp::subnet::{AddressPool, AnsweringMode};
use crate::engine::net;
use crate::images::MemoryCeiling;
use crate::observe::finding::{CheckFinding, FilePosition};
use crate::render::TemplateRenderer;
use crate::template::SOURCE_MAX_BYTES;

mod files;
mod firewall;
mod interfaces;
mod memory;
mod rival;
mod state;
mod subject;
mod surroundings;

pub use surroundings::check_surroundings;

impl From<ConfigPlace> for FilePosition {
    fn from(ConfigPlace { path, line, column, .. }: ConfigPlace) -> Self {
        Self { file: path, line: Some(line), column: Some(column) }
    }
}

/// The faults in the text of a configuration, as findings.
pub fn report_problems(problems: &ConfigProblems) -> Vec<CheckFinding> {
    problems.0.iter().map(report_problem).collect()
}

fn report_problem(problem: &ConfigProblem) -> CheckFinding {
    let ConfigProblem { path, line, column, what, hint } = problem.clone();
    let position = FilePosition { file: path, line: Some(line), column: Some(column) };
    CheckFinding::fatal(what, hint.unwrap_or_default()).at_position(Some(position))
}

/// Checks the configuration and the files that it names. `serve` does the same before it binds a
/// socket.
pub fn check_configuration(subject: CheckSubject<'_>) -> Vec<CheckFinding> {
    let CheckSubject { config, reader, .. } = subject;
    let mut findings = Vec::new();
    if let FileReader::Elsewhere { has_root } = reader {
        findings.push(report_left_out(config, has_root));
        findings.extend(interfaces::find_own_addresses(config, &[]));
    } else {
        findings.extend(state::check_state_directory(subject));
        let present = net::list_interfaces().unwrap_or_default();
        findings.extend(interfaces::find_misplaced_subnets(config, &present));
        findings.extend(interfaces::find_own_addresses(config, &present));
    }

    findings.extend(check_reservations(config));
    findings.extend(check_pools(config));
    findings.extend(check_unasked_installs(config));
    if reader == (FileReader::Elsewhere { has_root: false }) {
        return findings;
    }
    match files::find_wrong_root(subject) {
        // Then nothing under it can be checked.
        Some(wrong) => findings.push(wrong),
        None => findings.extend(check_under_root(subject)),
    }
    findings
}

fn report_left_out(config: &Config, has_root: bool) -> CheckFinding {
    let root =
        if has_root { String::new() } else { format!(", the root {}", config.root.display()) };
    CheckFinding::note(format!(
        "for another host (--no-host): not checked are interfaces, ports, firewall, users and \
         their rights, limits of the kernel, memory, the state directory, loaders of packages{root}"
    ))
}

fn check_under_root(subject: CheckSubject<'_>) -> Vec<CheckFinding> {
    let CheckSubject { config, borrowed, reader, .. } = subject;
    let names = match open_resolver(config, borrowed, reader) {
        Ok(names) => names,
        Err(error) => {
            let what = format!("opening the root {}: {error}", config.root.display());
            return vec![CheckFinding::error(what, "")];
        }
    };
    let tree = CheckedTree { subject, names: &names };
    let mut findings = files::check_boot_loaders(tree);
    findings.extend(files::check_menu(tree));
    findings.extend(files::check_links(config));

    let survey = static_menus::survey_root(&config.root, &names, config.tftp.case_insensitive);
    findings.extend(check_static_menus(&config.root, &survey));
    let renderer = TemplateRenderer::default();
    findings.extend(
        survey
            .templates
            .iter()
            .filter_map(|name| check_template(&renderer, &config.root.join(name), reader)),
    );

    // With `--no-host` the server runs elsewhere, and the memory of this host says nothing.
    if !matches!(reader, FileReader::Elsewhere { .. }) {
        let place = config.places.find_key("tuning", "image-memory");
        let found = memory::check_memory_budget(
            config.tuning.image_memory,
            survey.largest.as_ref(),
            &MemoryCeiling::read(),
        );
        findings.extend(found.into_iter().map(|finding| finding.at_position(place.clone())));
    }
    findings
}

/// Compiles a template, as a request for it would.
fn check_template(
    renderer: &TemplateRenderer,
    path: &Path,
    reader: FileReader,
) -> Option<CheckFinding> {
    let at = |line, column| Some(FilePosition { file: path.display().to_string(), line, column });
    if let Some(closed) = files::find_unreadable_file("the template", path, reader) {
        return Some(closed.at_position(at(None, None)));
    }
    // The server refuses a larger one by its size, so `check` does not read it either.
    if std::fs::metadata(path).is_ok_and(|found| found.len() > SOURCE_MAX_BYTES as u64) {
        let what = format!("the template has more than {SOURCE_MAX_BYTES} bytes");
        return Some(
            CheckFinding::error(what, "serve large files as they are, without a template")
                .at_position(at(None, None)),
        );
    }
    match std::fs::read_to_string(path) {
        Ok(source) => {
            let error = renderer.compile(&path.display().to_string(), &source).err()?;
            Some(
                CheckFinding::error(format!("template: {}", error.what), error.hint)
                    .at_position(at(error.line, error.column)),
            )
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(
            CheckFinding::error("the template is not UTF-8 text", "save it as UTF-8")
                .at_position(at(None, None)),
        ),
        Err(error) => Some(
            CheckFinding::error(format!("the template cannot be read: {error}"), "")
                .at_position(at(None, None)),
        ),
    }
}

/// Reservations inside a pool: the address is kept for its machine, so the pool is one address
/// smaller than it looks.
fn check_reservations(config: &Config) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    // A subnet that is off leases nothing, so an overlap does no harm there.
    for subnet in
        config.snapshot.dhcp.subnets.iter().filter(|subnet| subnet.mode == AnsweringMode::Server)
    {
        for reserved in &subnet.reservations {
            let pool = subnet
                .pools
                .iter()
                .find(|pool| (pool.first..=pool.last).contains(&reserved.address));
            if let Some(pool) = pool {
                let what = format!(
                    "the address {} of {} lies inside the pool {}-{}",
                    reserved.address, reserved.mac, pool.first, pool.last
                );
                let hint = "no other machine gets it, except one that leases it now, until that \
                            lease ends: reserve an address outside the pools";
                let place = config.places.find_reservation(subnet.network, reserved.mac);
                findings.push(CheckFinding::warning(what, hint).at_position(place));
            }
        }
    }
    findings
}

/// Subnets whose machines install, and wipe their disks, without a question.
fn check_unasked_installs(config: &Config) -> Vec<CheckFinding> {
    let snapshot = &config.snapshot;
    let entries =
        snapshot.menu.iter().flat_map(|menu| menu.entries.iter().map(move |entry| (menu, entry)));
    let default =
        entries.filter(|(menu, entry)| menu.default.as_deref() == Some(entry.label.as_str()));
    let unattended =
        default.filter_map(|(_, entry)| Some((entry, menu::find_entry_argument(entry)?)));

    let mut findings = Vec::new();
    for (entry, argument) in unattended {
        // On every other subnet a rendered menu boots the local disk by itself.
        for subnet in snapshot.dhcp.subnets.iter().filter(|subnet| subnet.install_by_default) {
            let what = format!(
                "every machine that boots on {} INSTALLS BY ITSELF: install-by-default = true, and \
                 the menu's default entry `{}` is unattended ({argument})",
                subnet.network, entry.label
            );
            let place = config.places.find_subnet(subnet.network, "install-by-default");
            findings.push(CheckFinding::warning(what, "").at_position(place));
        }
    }
    findings
}

/// Pools so large that their leases need much memory: with `clients = "any"` any host can take one.
fn check_pools(config: &Config) -> Option<CheckFinding> {
    let served =
        config.snapshot.dhcp.subnets.iter().filter(|subnet| subnet.mode == AnsweringMode::Server);
    let addresses: u64 = served.flat_map(|subnet| &subnet.pools).map(AddressPool::size).sum();
    let mb = addresses.saturating_mul(LEASE_BYTES) / 1_000_000;
    let what = format!(
        "the pools hold {addresses} addresses: with a lease on each the server needs {mb} MB of \
         memory"
    );
    (addresses > POOL_ADDRESSES_MANY)
        .then(|| CheckFinding::warning(what, "give pools the size of the racks behind them"))
}

fn check_static_menus(root: &Path, survey: &RootSurvey) -> Vec<CheckFinding> {
    let mut findings: Vec<CheckFinding> = survey
        .dangers
        .iter()
        .map(|danger| {
            let (found, path) = (&danger.unattended, root.join(&danger.path));
            let what = format!(
                "the default entry `{}` of this menu INSTALLS BY ITSELF ({})",
                found.entry, found.argument
            );
            let hint = "it is served as it is. Make an entry that boots the disk the default, or \
                        take the file away and write the entry into [menu]";
            let position = FilePosition {
                file: path.display().to_string(),
                line: Some(found.line),
                column: None,
            };
            CheckFinding::warning(what, hint).at_position(Some(position))
        })
        .collect();

    // No finding means checked and correct, so a note names what the survey did not read.
    if survey.is_cut_short {
        findings.push(CheckFinding::note(format!(
            "{}: not every menu under the root was read: more than {} names, or deeper than {} \
             directories",
            root.display(),
            static_menus::NAMES_MAX,
            static_menus::DEPTH_MAX
        )));
    }
    findings
}

#[cfg(test)]
mod tests;
