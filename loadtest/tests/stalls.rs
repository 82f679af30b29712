//! Does loadtest tell the truth of a server that stands still, of one that is not there, and of its
//! own lateness?
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../tests/common"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used)]
mod common {
    pub mod process;
    pub mod watched;
}

mod schema;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, RwLock};
use std::thread::spawn;
use std::time::{Duration, Instant};

use common::process::Process;
use serde_json::Value;

/// Of a run of seconds, on a machine whose cores are busy.
const LIMIT: Duration = Duration::from_secs(60);
/// What nobody would take for noise, of a stop of 2 s.
const STOPPED_US: u64 = 1_500_000;

/// An HTTP server of a few octets that stands still for 2 s after so many answers. It ends with the
/// test.
fn server(answers_before: u32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // Whoever answers holds it for reading; the stop, for writing.
    let gate = Arc::new(RwLock::new(()));
    let (answered, answers) = channel();
    let stop = Arc::clone(&gate);
    spawn(move || {
        if answers.iter().take(answers_before as usize).count() == answers_before as usize {
            let _closed = stop.write();
            pause(Duration::from_secs(2));
        }
        answers.iter().for_each(drop);
    });
    spawn(move || {
        for stream in listener.incoming() {
            let (gate, answered) = (Arc::clone(&gate), answered.clone());
            spawn(move || {
                let mut stream = stream.unwrap();
                while answer(&mut stream, &gate).is_some() {
                    let _ = answered.send(());
                }
            });
        }
    });
    address
}

fn answer(stream: &mut TcpStream, gate: &RwLock<()>) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).ok()?;
        request.extend(octet);
    }
    let _open = gate.read();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour").ok()
}

/// A clock: nobody ever sends.
fn pause(time: Duration) {
    let (_sender, never) = channel::<()>();
    assert_eq!(never.recv_timeout(time), Err(RecvTimeoutError::Timeout));
}

/// Starts loadtest against this HTTP server; its report will be in the directory.
fn start(directory: &Path, server: SocketAddr, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command
        .args(["--server", "127.0.0.1", "--http", &server.to_string(), "--no-dhcp"])
        .args(arguments);
    Process::start({
        command.arg("--json").arg(directory.join("report.json"));
        command
    })
}

fn report(directory: &Path, load: &mut Process) -> Value {
    let status = load.wait(LIMIT).unwrap_or_else(|| panic!("{}", load.stderr.text()));
    assert!(status.success(), "{status}\n{}{}", load.stdout.text(), load.stderr.text());
    let report: Value =
        serde_json::from_str(&fs::read_to_string(directory.join("report.json")).unwrap()).unwrap();
    assert_eq!(schema::violations(&report), Vec::<String>::new());
    report
}

fn limits(report: &Value) -> String {
    report["limits"].to_string()
}

#[test]
fn a_server_that_stands_still_shows_in_open_load_and_is_told_of_in_closed_load() {
    let directories = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [closed, open] = &directories;
    let common = ["--scenario", "http-small", "--clients", "10", "--duration", "5s"];
    let mut runs = [
        start(closed.path(), server(300), &common),
        start(open.path(), server(300), &[&common[..], &["--rate", "300/s"]].concat()),
    ];
    let [of_closed, of_open] = &mut runs;
    let (of_closed, of_open) = (report(closed.path(), of_closed), report(open.path(), of_open));
    // Of 1,500 requests that were due, those of 2 s waited.
    let file = &of_open["stages"]["file"];
    assert_eq!(file["count"], 1500, "{of_open}");
    assert!(file["p999_us"].as_u64() >= Some(STOPPED_US), "{file}");
    assert!(file["p90_us"].as_u64() >= Some(500_000), "{file}");
    assert!(
        limits(&of_open).contains("HTTP: no answer to any machine for "),
        "{}",
        limits(&of_open)
    );
    assert_eq!(of_open["summary"]["never_begun"], 0);

    let silence = &of_closed["silences"][0];
    assert_eq!(silence["protocol"], "HTTP");
    assert!((1_900..5_000).contains(&silence["longest_ms"].as_u64().unwrap()), "{silence}");
    assert_eq!(silence["waiting"], 10);
    let said = limits(&of_closed);
    assert!(
        said.contains("HTTP: no answer to any machine for ")
            && said.contains("percentiles hardly show it"),
        "{said}"
    );
    // Ten of thousands: what closed load says by itself.
    let file = &of_closed["stages"]["file"];
    assert!(file["p99_us"].as_u64() < Some(500_000), "{file}");
    assert!(runs[0].stdout.text().contains(" requests/s\n"), "{}", runs[0].stdout.text());
}

/// A real server that is stopped for 2 s while 50 exchanges a second are due.
fn stopped(step: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let scenario = directory.path().join("open.toml");
    let text = format!(
        "[files]\n\"a\" = \"2KiB\"\n[[machine]]\nrate = \"poisson:50/s\"\nsteps = [{step}]\n"
    );
    fs::write(&scenario, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["--clients", "20", "--duration", "5s", "--scenario"]).arg(&scenario);
    command.arg("--json").arg(directory.path().join("report.json"));
    let mut load = Process::start(command);
    wait_served(load.pid());
    let server = child_of(load.pid());
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &server]).status().unwrap();
        assert!(sent.success(), "kill {name} {server}");
    };
    signal("-STOP");
    pause(Duration::from_secs(2));
    signal("-CONT");
    report(directory.path(), &mut load)
}

/// Returns when the private server of a loadtest has logged what it did for a machine.
fn wait_served(loadtest: u32) {
    const DONE: [&str; 2] = ["sent by TFTP", "dhcp: lease:"];
    let log = std::env::temp_dir().join(format!("ringboot-{loadtest}-0/server.log"));
    let deadline = Instant::now() + LIMIT;
    let is_served =
        || fs::read_to_string(&log).is_ok_and(|text| DONE.iter().any(|words| text.contains(words)));
    while !is_served() {
        assert!(Instant::now() < deadline, "nobody was served");
        pause(Duration::from_millis(5));
    }
}

fn child_of(parent: u32) -> String {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
    children.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn tftp_and_dhcp_of_a_real_server_show_its_stop_as_well() {
    let steps = [("loader", "TFTP", "{ tftp = \"a\" }"), ("dhcp", "DHCP", "{ dhcp = true }")];
    let runs = steps.map(|(stage, name, step)| (stage, name, spawn(move || stopped(step))));
    for (stage, name, run) in runs {
        let report = run.join().unwrap();
        let times = &report["stages"][stage];
        assert!((200..300).contains(&times["count"].as_u64().unwrap()), "{times}");
        assert!(times["p999_us"].as_u64() >= Some(STOPPED_US), "{name}: {times}");
        assert!(
            limits(&report).contains(&format!("{name}: no answer to any machine for ")),
            "{}",
            limits(&report)
        );
        assert_eq!(report["summary"]["failed"], 0);
    }
}

#[test]
fn a_generator_that_was_stopped_itself_says_so_and_counts_from_the_moment_that_was_meant() {
    let directory = tempfile::tempdir().unwrap();
    let arrival = ["--files", "http:a", "--clients", "200", "--arrival", "poisson:50/s"];
    let mut load = start(directory.path(), server(u32::MAX), &arrival);
    pause(Duration::from_secs(1));
    load.signal("STOP");
    pause(Duration::from_secs(2));
    load.signal("CONT");
    let report = report(directory.path(), &mut load);
    let late = &report["lateness"]["power_on"];
    assert_eq!(late["count"], 200);
    assert!(late["max_us"].as_u64() >= Some(STOPPED_US), "{late}");
    assert!(report["boot"]["max_us"].as_u64() >= Some(STOPPED_US), "{}", report["boot"]);
    let said = limits(&report);
    assert!(said.contains("the load generator was late: power-ons up to "), "{said}");
    assert!(!said.contains("no answer to any machine"), "the server did not stand still: {said}");
}

#[test]
fn a_server_that_is_not_there_is_told_of_within_two_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (files, said) in [
        ("tftp:a", format!("TFTP: nothing answers at {nobody} (port unreachable)")),
        ("http:a", format!("HTTP: nothing answers at {refused} (connection refused)")),
    ] {
        let begun = Instant::now();
        let tftp = nobody.to_string();
        let mut load = start(
            directory.path(),
            refused,
            &["--tftp", &tftp, "--files", files, "--clients", "20"],
        );
        load.stderr.wait_line(&said, Duration::from_secs(4));
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        load.signal("INT");
        assert_eq!(load.wait(LIMIT).unwrap().code(), Some(130));
        let report: Value = serde_json::from_str(
            &fs::read_to_string(directory.path().join("report.json")).unwrap(),
        )
        .unwrap();
        assert!(
            limits(&report).contains(&said)
                && !limits(&report).contains("the server limited this run"),
            "{}",
            limits(&report)
        );
        assert!(report["summary"]["retries"].as_u64() > Some(0), "{}", report["summary"]);
    }
}

#[test]
fn what_the_servers_sockets_drop_is_told_and_failed_machines_have_names() {
    let directory = tempfile::tempdir().unwrap();
    // Nobody reads it, and a default buffer holds fewer requests.
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (tftp, pid) = (deaf.local_addr().unwrap().to_string(), std::process::id().to_string());
    let arguments = ["--tftp", &tftp, "--pid", &pid, "--files", "tftp:a", "--clients", "2000"];
    let mut load = start(directory.path(), server(u32::MAX), &arguments);
    load.stderr.wait_line("TFTP: no answer for ", LIMIT);
    load.signal("INT");
    assert_eq!(load.wait(LIMIT).unwrap().code(), Some(130));
    let report: Value =
        serde_json::from_str(&fs::read_to_string(directory.path().join("report.json")).unwrap())
            .unwrap();
    assert_eq!(schema::violations(&report), Vec::<String>::new());
    assert!(
        report["server_drops"]["server_sockets"].as_u64() > Some(0),
        "{}",
        report["server_drops"]
    );
    assert!(
        limits(&report).contains("datagrams were dropped at the server's own sockets"),
        "{}",
        limits(&report)
    );

    let missing = ["--files", "http:missing", "--clients", "5", "--pid", &pid];
    let mut load = start(directory.path(), missing_everything(), &missing);
    assert_eq!(load.wait(LIMIT).unwrap().code(), Some(1));
    let said = load.stdout.text();
    assert!(said.contains("0 of 5 machines did all their steps"), "{said}");
    assert!(said.contains("no bytes came that could be checked"), "{said}");
    assert!(said.contains("they are 52:42:01:00:00:00 (machine 0)"), "{said}");
    assert!(said.contains(" and 2 more"), "{said}");
    let report: Value =
        serde_json::from_str(&fs::read_to_string(directory.path().join("report.json")).unwrap())
            .unwrap();
    let failed = report["failed_machines"].as_array().unwrap();
    assert_eq!(
        (failed.len(), &failed[0]["sentence"]),
        (5, &"HTTP: status 404 for /missing".into())
    );
}

/// An HTTP server without files.
fn missing_everything() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1000]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    address
}

#[test]
fn what_came_in_the_warm_up_is_not_counted() {
    let directory = tempfile::tempdir().unwrap();
    let warm = [
        "--scenario",
        "http-small",
        "--clients",
        "5",
        "--rate",
        "100/s",
        "--duration",
        "3s",
        "--warm-up",
        "2s",
    ];
    let mut load = start(directory.path(), server(u32::MAX), &warm);
    let report = report(directory.path(), &mut load);
    assert_eq!(
        (&report["stages"]["file"]["count"], &report["summary"]["machines"]),
        (&100.into(), &5.into())
    );
    let summary = &report["summary"];
    assert!((0.8..1.9).contains(&summary["wall_s"].as_f64().unwrap()), "{summary}");
    assert!((396..=440).contains(&summary["bytes"].as_u64().unwrap()), "{summary}");
    let said = load.stdout.text();
    assert!(said.contains("of the first 2.0 s (the warm-up) are not counted"), "{said}");
    let mut load =
        start(directory.path(), server(u32::MAX), &["--scenario", "http-small", "--warm-up", "1m"]);
    assert_eq!(load.wait(LIMIT).unwrap().code(), Some(2));
    assert!(load.stderr.text().contains("leaves nothing to count"), "{}", load.stderr.text());
}

#[test]
fn a_server_that_does_not_start_says_why_once() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.args(["--set", "tuning.spin=1", "--clients", "2"]);
    let mut load = Process::start(command);
    assert_eq!(load.wait(LIMIT).unwrap().code(), Some(2));
    assert_eq!(
        load.stderr.text().matches("unknown key `spin`").count(),
        1,
        "{}",
        load.stderr.text()
    );
}
