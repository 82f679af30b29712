//! Machines against a server that is broken in one way at a time: each fault is reported as what it
//! is, or put up with and counted.
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)]

mod dhcp;
mod http;
#[path = "../schema/mod.rs"]
mod schema;
mod tftp;

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ringboot_fleet::{
    CauseTally, ClientOddity, DhcpAccess, DhcpRoute, Fleet, FleetPace, FleetPlan, FleetProgress,
    FleetReport, Scenario, WireSettings,
};
use ringboot_observe::events::MachineStage;
use serde_json::Value;

/// Of every run: enough to see that they are counted together.
const MACHINES: u32 = 3;
/// The file that everybody fetches.
const FILE: &str = "vmlinuz";
const OCTETS: usize = 100_000;
/// Nobody listens there.
const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);

/// Where the broken server is; the others are nowhere.
#[derive(Clone, Copy)]
enum Server {
    Dhcp(SocketAddrV4),
    Tftp(SocketAddrV4),
    Http(SocketAddrV4),
}

/// What the server's disk has for [`FILE`].
fn file() -> Vec<u8> {
    let mut file = Vec::new();
    scenario(r#"{ tftp = "vmlinuz" }"#)
        .make_contents()
        .find(FILE)
        .unwrap()
        .write_to(&mut file)
        .unwrap();
    file
}

/// What the file has at this place, made wrong there.
fn with_wrong_octet(at: usize) -> Vec<u8> {
    let mut file = file();
    file[at] ^= 0x20;
    file
}

fn steps(step: &str) -> String {
    format!("[files]\n\"{FILE}\" = \"{OCTETS}B\"\n[[machine]]\nsteps = [{step}]\n")
}

fn scenario(step: &str) -> Scenario {
    Scenario::parse("faults.toml", &steps(step)).unwrap()
}

/// Machines that make this one step, with a patience that suits a test.
fn run(server: Server, step: &str) -> FleetReport {
    play(server, &scenario(step))
}

fn play(server: Server, scenario: &Scenario) -> FleetReport {
    let lessor = match server {
        Server::Dhcp(server) => {
            let agent = SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 0);
            Some(DhcpAccess::new(DhcpRoute::Relay { agent, server }))
        }
        Server::Tftp(_) | Server::Http(_) => None,
    };
    let plan = FleetPlan {
        machines: MACHINES,
        roles: scenario.roles.clone(),
        arrival: scenario.arrival,
        duration: None,
        within: None,
        warm_up: Duration::ZERO,
        lessor,
        tftp: if let Server::Tftp(server) = server { server.into() } else { NOWHERE.into() },
        http: if let Server::Http(server) = server { server.into() } else { NOWHERE.into() },
        pick: String::new(),
        contents: scenario.make_contents(),
        pace: FleetPace {
            haste: 20,
            idle_waits: false,
            gives_up: false,
            patience: Duration::from_secs(1),
        },
        wire: WireSettings::default(),
        seed: 1,
    };
    Fleet::new(plan).run(&Arc::<FleetProgress>::default()).unwrap()
}

/// Every machine failed for this cause in this stage, and the first of them says it so.
#[track_caller]
fn assert_failed(report: &FleetReport, stage: MachineStage, cause: &str, example: &str) {
    assert_failed_machines(report, MACHINES, stage, cause, example);
}

#[track_caller]
fn assert_failed_machines(
    report: &FleetReport,
    machines: u32,
    stage: MachineStage,
    cause: &str,
    example: &str,
) {
    let failed = CauseTally { machines, example: example.to_owned() };
    assert_eq!(report.failures, [((cause.to_owned(), stage), failed)].into());
    assert_eq!(report.failed(), machines);
}

/// Every machine has its file; each was tried so often again, and put up with so many of these.
#[track_caller]
fn assert_put_up_with(
    report: &FleetReport,
    retries_each: u64,
    oddities_each: &[(ClientOddity, u64)],
) {
    assert_eq!((report.booted, &report.failures), (MACHINES, &[].into()));
    let each = |count: u64| count * u64::from(MACHINES);
    let expected = oddities_each.iter().map(|&(oddity, times)| (oddity, each(times))).collect();
    assert_eq!((report.retries, &report.oddities), (each(retries_each), &expected));
    assert!(report.checked);
}

/// The program on the same step: its exit code and its report.
fn loadtest(server: Server, step: &str) -> (Option<i32>, Value) {
    let directory = tempfile::tempdir().unwrap();
    let [scenario, report] = ["faults.toml", "report.json"].map(|name| directory.path().join(name));
    fs::write(&scenario, steps(step)).unwrap();
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_loadtest")));
    match server {
        Server::Tftp(at) => command.args(["--tftp", &at.to_string()]),
        Server::Http(at) => command.args(["--http", &at.to_string()]),
        Server::Dhcp(_) => panic!("needs other flags"),
    };
    command.args([
        "--server",
        "127.0.0.1",
        "--no-dhcp",
        "--made-files",
        "--quiet",
        "--clients",
        &MACHINES.to_string(),
    ]);
    let output =
        command.arg("--scenario").arg(&scenario).arg("--json").arg(&report).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(schema::violations(&report), Vec::<String>::new());
    (output.status.code(), report)
}

#[test]
fn a_fault_ends_the_program_with_1_and_stands_in_its_report() {
    let tftp = Server::Tftp(tftp::serve(tftp::Fault::WrongOctet(4711)));
    let http = Server::Http(http::serve(http::Fault::WrongOctet(4711)));
    for (server, step, stage, name) in [
        (tftp, r#"{ tftp = "vmlinuz", blksize = 1428, windowsize = 8 }"#, "loader", "vmlinuz"),
        (http, r#"{ http = "vmlinuz" }"#, "file", "/vmlinuz"),
    ] {
        let (code, report) = loadtest(server, step);
        assert_eq!((code, &report["summary"]["failed"]), (Some(1), &MACHINES.into()));
        let (cause, example) =
            (format!("wrong contents of {name}"), format!("wrong contents of {name} at byte 4711"));
        let failed = serde_json::json!({"cause": cause, "stage": stage, "machines": MACHINES,
            "example": example});
        assert_eq!(report["failures"], serde_json::json!([failed]));
    }
}

#[test]
fn a_fault_that_firmware_puts_up_with_ends_the_program_with_0_and_is_counted() {
    let server = Server::Http(http::serve(http::Fault::WholeForRest));
    let (code, report) = loadtest(server, r#"{ http = "vmlinuz" }"#);
    assert_eq!((code, &report["summary"]["retries"]), (Some(0), &MACHINES.into()));
    let oddities = report["oddities"].as_array().unwrap();
    let words: Vec<_> =
        oddities.iter().map(|odd| (odd["what"].as_str().unwrap(), odd["times"].as_u64())).collect();
    let expected = [ClientOddity::CutOff, ClientOddity::WholeForRest]
        .map(|oddity| (oddity.spell_plural(), Some(u64::from(MACHINES))));
    assert_eq!(words, expected);
}
