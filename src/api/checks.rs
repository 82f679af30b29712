//! Checks of a configuration, the same in a running server and in `ringboot check`.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::extract::State;

use super::error::{ApiError, ServerFault};
use super::extract::Json;
use super::state::{ApiState, in_background};
use super::status::{dhcp_sockets, subnet_status};
use super::types::{CheckReport, ServerStatus, SubnetStatus};
use super::words::finding_entries;
use crate::config::Config;
use crate::control::check::{
    self, CheckSubject, FileReader, HeardPool, HeardSubnet, RunningServer,
};
use crate::control::examine::{choose_file_reader, explain_unread_config};
use crate::control::load::{self, ConfigOverrides};
use crate::control::loaders;
use crate::observe::finding::{CheckFinding, CheckSeverity};
use crate::observe::port_holder::SocketProtocol;
use crate::serve::overview::ServerOverview;

/// Checks the server's own configuration file as it is now, as the server's user.
///
/// The server publishes nothing: a reload does that.
#[utoipa::path(
    get,
    path = "/v1/check",
    tag = "check",
    responses((status = 200, description = "The findings.", body = CheckReport), ServerFault),
)]
pub async fn check_configuration(
    State(api): State<Arc<ApiState>>,
) -> Result<Json<CheckReport>, ApiError> {
    in_background(move || Ok(check_in_server(&api.overrides, &*api.overview()?))).await
}

/// The findings of a running server about its configuration file as it is now, with the rights of
/// the server's user.
fn check_in_server(overrides: &ConfigOverrides, overview: &ServerOverview) -> CheckReport {
    check_report(match load::read_serve_config(overrides) {
        Ok(mut config) => {
            let wants_dhcp = config.dhcp.is_wanted() && !overrides.no_dhcp;
            let judge = Judge { reader: choose_file_reader(None), is_service: false };
            collect_findings(&mut config, wants_dhcp, judge, Some(&describe_this_server(overview)))
        }
        Err(error) => explain_unread_config(&error),
    })
}

/// The rights with which a configuration is checked.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    /// The user who opens the served files.
    pub reader: FileReader,
    /// The configuration is that of the packaged service, which has fewer rights than root.
    pub is_service: bool,
}

/// Settles the loaders of a configuration, and runs every check on it.
pub fn collect_findings(
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

/// The facts of this server for a check.
fn describe_this_server(overview: &ServerOverview) -> RunningServer {
    let known = overview.findings.as_ref().map(|findings| findings.read()).unwrap_or_default();
    let generation = overview.generation();
    let subnets = generation.snapshot.dhcp.subnets.iter();
    let store = overview.store.as_ref().map(|store| store.report());
    RunningServer {
        pid: std::process::id().into(),
        sockets: held_sockets(&overview.tftp, &overview.http, &dhcp_sockets(overview, &known)),
        heard: subnets
            .map(|subnet| heard_subnet(subnet_status(overview, &known, subnet)))
            .collect(),
        unlocked: overview.images.memory().usage().unlocked,
        receive_buffer: overview.receive_buffer,
        store_fault: store.and_then(|report| report.why).map(|(why, _)| why),
        after_restart: overview.after_restart.load().to_vec(),
    }
}

/// The facts for a check in the status of a server.
pub fn describe_server(status: ServerStatus) -> RunningServer {
    let ServerStatus { pid, sockets, subnets, image_memory, receive_buffer, dhcp, .. } = status;
    RunningServer {
        pid: pid.into(),
        sockets: held_sockets(&sockets.tftp, &sockets.http, &sockets.dhcp),
        heard: subnets.into_iter().map(heard_subnet).collect(),
        unlocked: image_memory.unlocked,
        receive_buffer,
        store_fault: dhcp.and_then(|dhcp| dhcp.store?.why),
        after_restart: status.after_restart,
    }
}

fn held_sockets(
    tftp: &[SocketAddr],
    http: &[SocketAddr],
    dhcp: &[String],
) -> Vec<(SocketProtocol, SocketAddr)> {
    // Interfaces and addresses with their ports: `eth0:67`, `192.168.4.150:67`.
    let dhcp = dhcp.iter().filter_map(|shown| {
        let port = shown.rsplit_once(':')?.1.parse().ok()?;
        Some(shown.parse().unwrap_or(SocketAddr::from(([0; 4], port))))
    });
    let udp = tftp.iter().copied().chain(dhcp).map(|address| (SocketProtocol::Udp, address));
    udp.chain(http.iter().map(|address| (SocketProtocol::Tcp, *address))).collect()
}

fn heard_subnet(subnet: SubnetStatus) -> HeardSubnet {
    let others = subnet.other_servers.iter();
    HeardSubnet {
        other_servers: others
            .map(|other| format!("the DHCP server {} ({})", other.address, other.mac))
            .collect(),
        subnet: subnet.subnet,
        silent_because: subnet.silent_because,
        pool: subnet.pool.map(|pool| HeardPool {
            is_full: pool.full_since_s.is_some(),
            is_nearly_full: pool.nearly_full,
            said: pool.said,
        }),
    }
}

/// Sorts the findings, the worst first, and counts them.
pub fn check_report(mut findings: Vec<CheckFinding>) -> CheckReport {
    findings.sort_by_key(|finding| finding.severity);
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    CheckReport {
        errors: count(CheckSeverity::Fatal) + count(CheckSeverity::Error),
        warnings: count(CheckSeverity::Warning),
        findings: finding_entries(&findings),
    }
}
