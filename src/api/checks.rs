//! What is wrong with a configuration, as JSON: the same judgement in a running server and in
//! `ringboot check`.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::findings::finding_json;
use super::status;
use crate::config::Config;
use crate::control::check::{
    self, CheckSubject, FileReader, HeardPool, HeardSubnet, RunningServer,
};
use crate::control::examine::{choose_file_reader, explain_unread_config};
use crate::control::load::{self, ConfigOverrides};
use crate::control::loaders;
use crate::observe::finding::{CheckFinding, FindingSeverity};
use crate::observe::port_holder::SocketProtocol;
use crate::serve::overview::Overview;

/// The findings of a running server on its own configuration, as the file is now and as the
/// server's user may read.
pub fn in_server(overrides: &ConfigOverrides, overview: &Overview) -> Value {
    let running = running(&status::status(overview));
    body(match load::read_serve_config(overrides) {
        Ok((mut config, _)) => {
            let wants_dhcp = config.dhcp.is_wanted() && !overrides.no_dhcp;
            found(
                &mut config,
                wants_dhcp,
                Judge { reader: choose_file_reader(None), is_service: false },
                Some(&running),
            )
        }
        Err(error) => explain_unread_config(&error),
    })
}

/// As whom a configuration is judged.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    pub reader: FileReader,
    pub is_service: bool,
}

pub fn found(
    config: &mut Config,
    wants_dhcp: bool,
    judge: Judge,
    running: Option<&RunningServer>,
) -> Vec<CheckFinding> {
    let Judge { reader, is_service } = judge;
    let is_elsewhere = matches!(reader, FileReader::Elsewhere { .. });
    let packages = if is_elsewhere { Path::new("/dev/null") } else { Path::new("/") };
    let borrowed =
        loaders::settle_loaders(&mut config.snapshot.dhcp.boot, &config.root, wants_dhcp, packages);
    let subject = CheckSubject { config, borrowed: &borrowed, wants_dhcp, reader, is_service };
    let mut findings = check::check_configuration(subject);
    if !is_elsewhere {
        findings.extend(check::check_surroundings(subject, running));
    }
    findings
}

/// What `status` says that matters to a check.
pub fn running(status: &Value) -> RunningServer {
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
    let udp = parsed(&sockets["tftp"]).chain(dhcp).map(|address| (SocketProtocol::Udp, address));
    let tcp = parsed(&sockets["http"]).map(|address| (SocketProtocol::Tcp, address));
    let heard = status["subnets"].as_array().into_iter().flatten().map(|subnet| {
        let word = |key: &str| subnet[key].as_str().map(str::to_owned);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let others = subnet["other_servers"].as_array().map_or(&[][..], Vec::as_slice);
        HeardSubnet {
            subnet: word("subnet").unwrap_or_default(),
            silent_because: word("silent_because"),
            other_servers: others
                .iter()
                .map(|other| {
                    format!("the DHCP server {} ({})", text(&other["address"]), text(&other["mac"]))
                })
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
    RunningServer {
        pid,
        sockets: udp.chain(tcp).collect(),
        heard: heard.collect(),
        unlocked,
        receive_buffer: status["receive_buffer"]
            .as_u64()
            .and_then(|bytes| usize::try_from(bytes).ok()),
        store_fault: status["dhcp"]["store"]["why"].as_str().map(str::to_owned),
        after_restart: words(&status["after_restart"]),
    }
}

/// The worst first, and counted.
pub fn body(mut findings: Vec<CheckFinding>) -> Value {
    findings.sort_by_key(|finding| finding.severity);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    json!({
        "findings": findings.iter().map(finding_json).collect::<Vec<_>>(),
        "errors": count(FindingSeverity::Fatal) + count(FindingSeverity::Error),
        "warnings": count(FindingSeverity::Warning),
    })
}
