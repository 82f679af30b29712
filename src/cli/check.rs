//! `ringboot check`: says what is wrong before a machine is switched on. Exit 1 when there is an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::text::plural;
use super::{client, live, resources};
use crate::config::Config;
use crate::control::check::{self, Heard, HeardPool, Reader, Running, Subject};
use crate::control::examine::{reader, why_unread};
use crate::control::load::{self, Overrides};
use crate::control::loaders;
use crate::engine::privileges::{self, Ids};
use crate::fleet::walk;
use crate::guard;
use crate::observe::finding::{Finding, Severity};
use crate::observe::port_holder::Protocol;
use crate::serve::overview::Overview;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file; `-` is standard input [default: /etc/ringboot/ringboot.toml where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check this directory in the place of the configured root; without --config what `serve --root` would do
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// The admin socket of the server that runs here, in place of the one that the configuration names
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Judge a configuration for another host: look at nothing of this one but the root, where it is here or --root names it
    #[arg(long, conflicts_with_all = ["live", "socket"])]
    no_host: bool,
    /// Exit 1 for a warning, too
    #[arg(long)]
    strict: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Walk boot chains over the sockets of the running server instead: those of HOST (a hardware address, or the name or
    /// address of a reservation), else of every reserved machine and of an unknown one
    #[arg(long, value_name = "HOST", num_args = 0..=1, default_missing_value = "")]
    live: Option<String>,
    /// Walk as this firmware [default: the one the server last saw HOST with, else all that have a loader]
    #[arg(long, value_name = "KIND", requires = "live", value_parser = walk::KINDS.map(|(name, ..)| name))]
    firmware: Option<String>,
}

/// Runs the command. Exit 2: usage, or a configuration that cannot be read.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let (mut config, file) = match load::read_named(arguments.config.as_deref(), arguments.root.as_deref()) {
        Ok(read) => read,
        Err(error) => return unread(&error, arguments.json),
    };
    let wants_dhcp = config.dhcp.is_wanted();
    if let Some(host) = &arguments.live {
        let Some(file) = &file else {
            complain!(
                "--live walks what a configuration promises (loaders, a menu, machines), and a server of --root promises none of it: --config \
                 FILE names a configuration; the log of `ringboot serve -v` has each file that is asked for"
            );
            return ExitCode::from(2);
        };
        loaders::settle(&mut config.snapshot.dhcp.boot, &config.root, wants_dhcp, Path::new("/"));
        let (json, firmware, socket) = (arguments.json, arguments.firmware.as_deref(), arguments.socket.as_deref());
        return live::run(&live::Wanted { config: &config, file, socket, host, firmware, json });
    }
    let findings = match arguments.no_host {
        true => {
            let has_root = arguments.root.is_some() || config.root.exists();
            found(&mut config, wants_dhcp, Judge { reader: Reader::Elsewhere { has_root }, is_service: false }, None)
        }
        false => found_here(&mut config, wants_dhcp, file.as_deref(), arguments.socket.as_deref()),
    };
    let body = body(findings);
    let is_wrong = body["errors"] != 0 || arguments.strict && body["warnings"] != 0;
    let code = if is_wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    super::say(&if arguments.json { super::in_json(&body) } else { as_text(&body) }, code)
}

fn found_here(config: &mut Config, wants_dhcp: bool, file: Option<&Path>, socket: Option<&Path>) -> Vec<Finding> {
    // The file may be one that is not served yet: the running server is asked for what it alone knows, and not for its opinion.
    let status = client::told(socket.or(config.server.admin_socket.as_deref()), "/v1/status");
    let running = status.as_ref().map(running);
    let is_service = file.is_some_and(|file| file == Path::new(load::DEFAULT_CONFIG));
    let (reader, remark) = who_serves(config, status.as_ref(), is_service);
    let remark = remark.map(|remark| remark.at(config.places.key("server", "user")));
    let mut findings: Vec<Finding> = remark.into_iter().collect();
    findings.extend(found(config, wants_dhcp, Judge { reader, is_service }, running.as_ref()));
    findings
}

/// Who will open the files: whoever serves now, else the user that this process would become, else the one that the configuration names.
fn who_serves(config: &Config, status: Option<&Value>, is_service: bool) -> (Reader, Option<Finding>) {
    let own = privileges::own_ids();
    let user = |ids: Ids| match ids {
        Ids { uid: 0, .. } => Reader::Root,
        ids if ids.uid == own.uid => Reader::Caller,
        Ids { uid, gid } => Reader::User { uid, gid },
    };
    let number = |key: &str| u32::try_from(status?["user"][key].as_u64()?).ok();
    if let (Some(uid), Some(gid)) = (number("uid"), number("gid")) {
        return (user(Ids { uid, gid }), None);
    }
    if own.uid != 0 {
        // Somebody's own file is served by himself.
        let name = config.server.user.as_deref().or(is_service.then_some(guard::DEFAULT_USER));
        let named = name.and_then(|name| privileges::ids_of(name).ok().flatten());
        return (named.map_or(Reader::Caller, user), None);
    }
    match guard::account(config.server.user.as_deref()) {
        Ok(Some(account)) => (reader(Some(&account)), None),
        Ok(None) => (Reader::Root, Some(guard::stays_root(config.server.user.as_deref()))),
        Err(error) => (Reader::Root, Some(Finding::fatal(error.to_string(), ""))),
    }
}

/// There is no configuration to check: that is what is found.
fn unread(error: &anyhow::Error, json: bool) -> ExitCode {
    let code = ExitCode::from(2);
    if json {
        return super::say(&super::in_json(&body(why_unread(error))), code);
    }
    complain!("{error:#}");
    code
}

/// The findings of a running server on its own configuration, as the file is now and as the server's user may read.
pub(super) fn in_server(overrides: &Overrides, overview: &Overview) -> Value {
    let running = running(&resources::status(overview));
    body(match load::read(overrides) {
        Ok((mut config, _)) => {
            let wants_dhcp = config.dhcp.is_wanted() && !overrides.no_dhcp;
            found(&mut config, wants_dhcp, Judge { reader: reader(None), is_service: false }, Some(&running))
        }
        Err(error) => why_unread(&error),
    })
}

/// As whom a configuration is judged.
#[derive(Clone, Copy)]
struct Judge {
    reader: Reader,
    is_service: bool,
}

fn found(config: &mut Config, wants_dhcp: bool, judge: Judge, running: Option<&Running>) -> Vec<Finding> {
    let Judge { reader, is_service } = judge;
    let is_elsewhere = matches!(reader, Reader::Elsewhere { .. });
    let packages = if is_elsewhere { Path::new("/dev/null") } else { Path::new("/") };
    let borrowed = loaders::settle(&mut config.snapshot.dhcp.boot, &config.root, wants_dhcp, packages);
    let subject = Subject { config, borrowed: &borrowed, wants_dhcp, reader, is_service };
    let mut findings = check::configuration(subject);
    if !is_elsewhere {
        findings.extend(check::surroundings(subject, running));
    }
    findings
}

/// What `status` says that matters to a check.
fn running(status: &Value) -> Running {
    let words = |value: &Value| {
        let all = value.as_array().into_iter().flatten().filter_map(Value::as_str);
        all.map(str::to_owned).collect::<Vec<_>>()
    };
    let sockets = &status["sockets"];
    // Interfaces and addresses with their ports: `eth0:67`, `192.168.4.150:67`.
    let dhcp = words(&sockets["dhcp"]).into_iter().filter_map(|one| {
        let port = one.rsplit_once(':')?.1.parse().ok()?;
        Some(one.parse().unwrap_or(SocketAddr::from(([0; 4], port))))
    });
    let parsed = |value| words(value).into_iter().filter_map(|address| address.parse().ok());
    let udp = parsed(&sockets["tftp"]).chain(dhcp).map(|address| (Protocol::Udp, address));
    let tcp = parsed(&sockets["http"]).map(|address| (Protocol::Tcp, address));
    let heard = status["subnets"].as_array().into_iter().flatten().map(|subnet| {
        let word = |key: &str| subnet[key].as_str().map(str::to_owned);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let others = subnet["other_servers"].as_array().map_or(&[][..], Vec::as_slice);
        Heard {
            subnet: word("subnet").unwrap_or_default(),
            silent_because: word("silent_because"),
            other_servers: others
                .iter()
                .map(|other| format!("the DHCP server {} ({})", text(&other["address"]), text(&other["mac"])))
                .collect(),
            pool: subnet["pool"].is_object().then(|| HeardPool {
                said: text(&subnet["pool"]["said"]),
                is_full: subnet["pool"]["full_since_s"].is_u64(),
                is_nearly_full: subnet["pool"]["nearly_full"] == true,
            }),
        }
    });
    let pid = status["pid"].as_u64().unwrap_or(0);
    let unlocked = status["image_memory"]["unlocked"].as_u64().unwrap_or(0);
    Running {
        pid,
        sockets: udp.chain(tcp).collect(),
        heard: heard.collect(),
        unlocked,
        receive_buffer: status["receive_buffer"].as_u64().and_then(|bytes| usize::try_from(bytes).ok()),
        store_fault: status["dhcp"]["store"]["why"].as_str().map(str::to_owned),
        after_restart: words(&status["after_restart"]),
    }
}

/// The worst first, and counted.
fn body(mut findings: Vec<Finding>) -> Value {
    findings.sort_by_key(|finding| finding.severity);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    json!({
        "findings": findings.iter().map(finding).collect::<Vec<_>>(),
        "errors": count(Severity::Fatal) + count(Severity::Error),
        "warnings": count(Severity::Warning),
    })
}

/// One finding, for whoever reads it by a program.
pub(super) fn finding(finding: &Finding) -> Value {
    let position = finding.position.as_ref();
    json!({
        "severity": finding.severity.word(),
        "file": position.map(|position| &position.file),
        "line": position.and_then(|position| position.line),
        "column": position.and_then(|position| position.column),
        "text": finding.what,
        "hint": Some(&finding.hint).filter(|hint| !hint.is_empty()),
    })
}

/// Place and sentence of a finding: `ringboot.toml:4:8: what`.
pub(super) fn sentence(finding: &Value) -> String {
    let text = finding["text"].as_str().unwrap_or_default();
    let Some(file) = finding["file"].as_str() else { return text.to_owned() };
    let numbers = ["line", "column"].into_iter().filter_map(|key| finding[key].as_u64());
    let place = numbers.fold(file.to_owned(), |place, number| format!("{place}:{number}"));
    format!("{place}: {text}")
}

/// Findings as they are read: one line each, and one for a way out.
pub(super) fn lines(findings: &Value) -> String {
    let mut text = String::new();
    for finding in findings.as_array().into_iter().flatten() {
        let word = |key: &str| finding[key].as_str();
        text.push_str(&format!("{}: {}\n", word("severity").unwrap_or_default(), sentence(finding)));
        text.extend(word("hint").map(|hint| format!("  hint: {hint}\n")));
    }
    text
}

fn as_text(body: &Value) -> String {
    let number = |key: &str| body[key].as_u64().unwrap_or(0);
    lines(&body["findings"])
        + &format!("{}, {}\n", plural(number("errors"), "error"), plural(number("warnings"), "warning"))
}
