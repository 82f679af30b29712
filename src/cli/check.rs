//! `ringboot check`: says what is wrong before a machine is switched on. Exit 1 when there is an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::text::plural;
use super::{client, live, resources, serve};
use crate::config::Config;
use crate::control::check::{self, Heard, Running, Subject};
use crate::control::loaders;
use crate::fleet::walk;
use crate::guard::{self, Account};
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
    let (mut config, file) = match serve::read_named(arguments.config.as_deref(), arguments.root.as_deref()) {
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
        loaders::settle(&mut config.snapshot.boot, &config.root, wants_dhcp, Path::new("/"));
        let (json, firmware, socket) = (arguments.json, arguments.firmware.as_deref(), arguments.socket.as_deref());
        return live::run(&live::Wanted { config: &config, file, socket, host, firmware, json });
    }
    let (account, unknown) = match guard::account(config.server.user.as_deref()) {
        Ok(account) => (account, None),
        Err(error) => (None, Some(Finding::fatal(error.to_string(), ""))),
    };
    // The file may be one that is not served yet: the running server is asked for what it alone knows, and not for its opinion.
    let socket = arguments.socket.as_deref().or(config.server.admin_socket.as_deref());
    let running = client::told(socket, "/v1/status").map(|status| running(&status));
    let mut findings: Vec<Finding> = unknown.into_iter().collect();
    findings.extend(found(&mut config, wants_dhcp, account.as_ref(), running.as_ref()));
    let body = body(findings);
    let code = if body["errors"] == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    super::say(&if arguments.json { super::in_json(&body) } else { as_text(&body) }, code)
}

/// There is no configuration to check: that is what is found.
fn unread(error: &anyhow::Error, json: bool) -> ExitCode {
    let code = ExitCode::from(2);
    if json {
        return super::say(&super::in_json(&body(serve::why_unread(error))), code);
    }
    complain!("{error:#}");
    code
}

/// The findings of a running server on its own configuration, as the file is now and as the server's user may read.
pub(super) fn in_server(arguments: &serve::Arguments, overview: &Overview) -> Value {
    let running = running(&resources::status(overview));
    body(match serve::read(arguments) {
        Ok((mut config, _)) => {
            let wants_dhcp = config.dhcp.is_wanted() && !arguments.no_dhcp;
            found(&mut config, wants_dhcp, None, Some(&running))
        }
        Err(error) => serve::why_unread(&error),
    })
}

fn found(config: &mut Config, wants_dhcp: bool, account: Option<&Account>, running: Option<&Running>) -> Vec<Finding> {
    let borrowed = loaders::settle(&mut config.snapshot.boot, &config.root, wants_dhcp, Path::new("/"));
    let subject = Subject { config, borrowed: &borrowed, wants_dhcp, reader: serve::reader(account) };
    let mut findings = check::configuration(subject);
    findings.extend(check::templates(&config.root));
    findings.extend(check::surroundings(subject, running));
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
        }
    });
    let pid = status["pid"].as_u64().unwrap_or(0);
    let unlocked = status["image_memory"]["unlocked"].as_u64().unwrap_or(0);
    Running { pid, sockets: udp.chain(tcp).collect(), heard: heard.collect(), unlocked }
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
