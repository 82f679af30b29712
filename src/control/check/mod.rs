//! What could be known before a machine is switched on: files, menus, addresses, ports, the
//! firewall. Looks only, changes nothing.

use std::io;
use std::path::Path;

pub use self::subject::{Heard, HeardPool, Reader, Running, Subject};
use super::static_menus::{self, Survey};
use crate::boot::menu;
use crate::config::{Config, ConfigProblem, ConfigProblems, Place};
use crate::dhcp::limits::{LEASE_OCTETS, POOL_ADDRESSES_MANY};
use crate::dhcp::subnet::{Mode, Pool};
use crate::engine::net;
use crate::images::MemoryCeiling;
use crate::observe::finding::{Finding, Position};
use crate::render::Renderer;
use crate::template::SOURCE_MAX_BYTES;

mod files;
mod firewall;
mod interfaces;
mod memory;
mod rival;
mod state;
mod subject;
mod surroundings;

pub use surroundings::surroundings;

impl From<Place> for Position {
    fn from(Place { path, line, column, .. }: Place) -> Self {
        Self { file: path, line: Some(line), column: Some(column) }
    }
}

/// What is wrong with the text of a configuration.
pub fn problems(problems: &ConfigProblems) -> Vec<Finding> {
    let finding = |problem: &ConfigProblem| {
        let ConfigProblem { path, line, column, what, hint } = problem.clone();
        let position = Position { file: path, line: Some(line), column: Some(column) };
        Finding::fatal(what, hint.unwrap_or_default()).at(Some(position))
    };
    problems.0.iter().map(finding).collect()
}

/// What the configuration and the files that it names say; `serve` asks the same before it binds
/// anything.
pub fn configuration(subject: Subject<'_>) -> Vec<Finding> {
    let Subject { config, reader, .. } = subject;
    let mut findings = Vec::new();
    if let Reader::Elsewhere { has_root } = reader {
        findings.push(left_out(config, has_root));
        findings.extend(interfaces::own_addresses(config, &[]));
    } else {
        findings.extend(state::directory(subject));
        let present = net::interfaces().unwrap_or_default();
        findings.extend(interfaces::misplaced(config, &present));
        findings.extend(interfaces::own_addresses(config, &present));
    }
    findings.extend(reservations(config));
    findings.extend(pools(config));
    findings.extend(installs_by_itself(config));
    if reader == (Reader::Elsewhere { has_root: false }) {
        return findings;
    }
    match files::wrong_root(subject) {
        // Nothing under it can be looked at.
        Some(wrong) => findings.push(wrong),
        None => findings.extend(under_root(subject)),
    }
    findings
}

fn left_out(config: &Config, has_root: bool) -> Finding {
    let root =
        if has_root { String::new() } else { format!(", the root {}", config.root.display()) };
    Finding::note(format!(
        "for another host (--no-host): not looked at are interfaces, ports, firewall, users and \
         their rights, limits of the kernel, memory, the state directory, loaders of packages{root}"
    ))
}

fn under_root(subject: Subject<'_>) -> Vec<Finding> {
    let Subject { config, reader, .. } = subject;
    let mut findings = files::loaders(subject);
    findings.extend(files::menu(subject));
    let survey = static_menus::survey(&config.root);
    findings.extend(menus_by_hand(&config.root, &survey));
    let renderer = Renderer::default();
    findings.extend(
        survey
            .templates
            .iter()
            .filter_map(|name| template(&renderer, &config.root.join(name), reader)),
    );
    if !matches!(reader, Reader::Elsewhere { .. }) {
        let place = config.places.key("tuning", "image-memory");
        let found = memory::budget(
            config.tuning.image_memory,
            survey.largest.as_ref(),
            &MemoryCeiling::read(),
        );
        findings.extend(found.into_iter().map(|finding| finding.at(place.clone())));
    }
    findings
}

/// Compiles a template, as a request for it would.
fn template(renderer: &Renderer, path: &Path, reader: Reader) -> Option<Finding> {
    let at = |line, column| Some(Position { file: path.display().to_string(), line, column });
    if let Some(closed) = files::unreadable("the template", path, reader) {
        return Some(closed.at(at(None, None)));
    }
    // A larger one is refused by its size, and not read for that.
    if std::fs::metadata(path).is_ok_and(|found| found.len() > SOURCE_MAX_BYTES as u64) {
        let what = format!("the template has more than {SOURCE_MAX_BYTES} bytes");
        return Some(
            Finding::error(what, "serve large files as they are, without a template")
                .at(at(None, None)),
        );
    }
    match std::fs::read_to_string(path) {
        Ok(source) => {
            let error = renderer.compile(&path.display().to_string(), &source).err()?;
            Some(
                Finding::error(format!("template: {}", error.what), error.hint)
                    .at(at(error.line, error.column)),
            )
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(
            Finding::error("the template is not UTF-8 text", "save it as UTF-8").at(at(None, None)),
        ),
        Err(error) => Some(
            Finding::error(format!("the template cannot be read: {error}"), "").at(at(None, None)),
        ),
    }
}

/// A reservation inside a pool is kept for its machine, and the pool is one address smaller than it
/// looks.
fn reservations(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for subnet in config.snapshot.dhcp.subnets.iter().filter(|subnet| subnet.mode == Mode::Server) {
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
                let hint = "no other machine gets it, but one that has it by a lease keeps it \
                            until that ends: reserve outside the pools";
                let place = config.places.reservation(subnet.network, reserved.mac);
                findings.push(Finding::warning(what, hint).at(place));
            }
        }
    }
    findings
}

/// A subnet whose machines wipe their disks without a question.
fn installs_by_itself(config: &Config) -> Vec<Finding> {
    let snapshot = &config.snapshot;
    let entries =
        snapshot.menu.iter().flat_map(|menu| menu.entries.iter().map(move |entry| (menu, entry)));
    let default =
        entries.filter(|(menu, entry)| menu.default.as_deref() == Some(entry.label.as_str()));
    let unattended = default.filter_map(|(_, entry)| Some((entry, menu::unattended(entry)?)));
    let subnets = |found| {
        snapshot
            .dhcp
            .subnets
            .iter()
            .filter(|subnet| subnet.install_by_default)
            .map(move |subnet| (subnet, found))
    };
    let all = unattended.flat_map(subnets);
    all.map(|(subnet, (entry, argument))| {
        let what = format!(
            "every machine that boots on {} INSTALLS BY ITSELF: install-by-default = true, and the \
             menu's default entry `{}` is unattended ({argument})",
            subnet.network, entry.label
        );
        Finding::warning(what, "").at(config.places.subnet(subnet.network, "install-by-default"))
    })
    .collect()
}

/// Leases are in memory, whoever asks for them: any host of the network where `clients = "any"`.
fn pools(config: &Config) -> Option<Finding> {
    let served = config.snapshot.dhcp.subnets.iter().filter(|subnet| subnet.mode == Mode::Server);
    let addresses: u64 = served.flat_map(|subnet| &subnet.pools).map(Pool::size).sum();
    let mb = addresses.saturating_mul(LEASE_OCTETS) / 1_000_000;
    let what = format!(
        "the pools hold {addresses} addresses: with a lease on each the server needs {mb} MB of \
         memory"
    );
    (addresses > POOL_ADDRESSES_MANY)
        .then(|| Finding::warning(what, "give pools the size of the racks behind them"))
}

fn menus_by_hand(root: &Path, survey: &Survey) -> Vec<Finding> {
    let mut findings: Vec<Finding> = survey
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
            let position =
                Position { file: path.display().to_string(), line: Some(found.line), column: None };
            Finding::warning(what, hint).at(Some(position))
        })
        .collect();
    if survey.is_cut_short {
        findings.push(Finding::note(format!(
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
