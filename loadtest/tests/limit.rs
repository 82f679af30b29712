//! Was the load generator the limit? It says so when it was, and does not when a slow server was.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread::spawn;
use std::time::Duration;

use serde_json::Value;

/// Each machine's file.
const OCTETS: usize = 40_000_000;
/// Of a server that has all the time in the world.
const SMALL: usize = 400_000;

/// One run at a time has the processor.
static ALONE: Mutex<()> = Mutex::new(());

/// A server that does nothing but send zeros; in pieces with pauses between them where it is a slow
/// one.
fn serve(octets: usize, pause: Option<Duration>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming() {
            spawn(move || answer(stream.unwrap(), octets, pause));
        }
    });
    address
}

fn answer(mut stream: TcpStream, octets: usize, pause: Option<Duration>) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).ok()?;
        request.extend(octet);
    }
    stream
        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {octets}\r\n\r\n").as_bytes())
        .ok()?;
    let piece = vec![0; octets / 20];
    // Nobody ever sends: a clock.
    let (_sender, never) = channel::<()>();
    for _ in 0..20 {
        stream.write_all(&piece).ok()?;
        if let Some(pause) = pause {
            let _ = never.recv_timeout(pause);
        }
    }
    // Until the client has closed.
    stream.read_to_end(&mut Vec::new()).ok().map(drop)
}

/// 20 machines, all on the first processor of this process.
fn load(server: SocketAddr) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let mut command = Command::new("taskset");
    command.args([
        "-c",
        &processor(),
        env!("CARGO_BIN_EXE_loadtest"),
        "--server",
        "127.0.0.1",
        "--no-dhcp",
    ]);
    command.args([
        "--http",
        &server.to_string(),
        "--files",
        "http:zeros",
        "--clients",
        "20",
        "--quiet",
        "--json",
    ]);
    let output = command.arg(&report).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap()
}

/// The first that this process may use.
fn processor() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let list =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim();
    list.split([',', '-']).next().unwrap().to_owned()
}

fn says_that_it_was_the_limit(report: &Value) -> bool {
    let said = report["limits"].as_array().unwrap();
    let said = said
        .iter()
        .any(|limit| limit.as_str().unwrap().starts_with("the load generator was the limit"));
    assert_eq!(report["summary"]["client_was_limit"], said, "{}", report["limits"]);
    said
}

/// A program that uses all of that processor for as long as it lives here.
struct BusyLoop(Child);

impl BusyLoop {
    fn start() -> Self {
        let mut command = Command::new("taskset");
        command.args(["-c", &processor(), "sh", "-c", "while :; do :; done"]);
        Self(command.stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for BusyLoop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_only_sends_meets_a_generator_that_is_the_limit() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let report = load(serve(OCTETS, None));
    assert!(says_that_it_was_the_limit(&report), "{}", report["summary"]);
}

#[test]
fn a_generator_without_a_processor_of_its_own_is_the_limit() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // So many that the server, which has the other processors, is faster on a machine that is busy
    // with something else, too.
    let _others: Vec<BusyLoop> = (0..4).map(|_| BusyLoop::start()).collect();
    let report = load(serve(OCTETS, None));
    assert!(says_that_it_was_the_limit(&report), "{}", report["summary"]);
    assert!(report["summary"]["client_waiting"].as_f64() > Some(0.2), "{}", report["summary"]);
}

#[test]
fn a_slow_server_is_not_the_generators_limit() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let report = load(serve(SMALL, Some(Duration::from_millis(50))));
    assert!(!says_that_it_was_the_limit(&report), "{}", report["summary"]);
    assert!(report["summary"]["client_busy"].as_f64() < Some(0.5), "{}", report["summary"]);
}
