//! `ringboot demo` as a newcomer starts it: no configuration, no root, a power cut half-way,
//! nothing left behind.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

mod common;

use common::Scratch;
use common::process::Process;

/// A demo of a few dozen machines takes seconds; cores may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn s9_every_machine_boots_through_a_power_cut_and_no_lease_is_lost() {
    let scratch = Scratch::new("demo");
    let mut demo = start(&scratch, &["--once", "--clients", "40"]);
    assert_report(&mut demo, 40);
    assert_nothing_left(scratch.path());
}

#[test]
fn two_demos_at_once_do_not_meet() {
    let scratch = Scratch::new("demos");
    let mut demos = [(); 2].map(|()| start(&scratch, &["--once", "--clients", "12"]));
    demos.iter_mut().for_each(|demo| assert_report(demo, 12));
    assert_nothing_left(scratch.path());
}

#[test]
fn without_once_it_serves_on_until_ctrl_c() {
    let scratch = Scratch::new("demo-serves");
    let mut demo = start(&scratch, &["--clients", "3"]);
    demo.stdout.wait_line("Still serving", LIMIT);
    let script = get(&http_address(&demo), "/boot.ipxe");
    assert!(script.contains(" 200 OK\r\n") && script.contains("\r\n\r\n#!ipxe\n"), "{script}");
    demo.signal("INT");
    let status = demo.wait(LIMIT).expect("Ctrl-C ends the demo");
    assert!(status.success(), "{status}");
    assert_nothing_left(scratch.path());
}

#[test]
fn a_demo_that_is_killed_takes_its_server_with_it() {
    let scratch = Scratch::new("demo-killed");
    let mut demo = start(&scratch, &["--clients", "3"]);
    demo.stdout.wait_line("Still serving", LIMIT);
    let mut connection = TcpStream::connect(http_address(&demo)).unwrap();
    // A server accepts with a client's first bytes; before, nobody is told of its end.
    connection.write_all(b"GET /vmlinuz HTTP/1.1\r\n").unwrap();
    demo.signal("KILL");
    demo.wait(LIMIT).expect("SIGKILL ends any process");
    // The server's end of the connection closes with its process; a server that lives on closes it
    // after its idle time.
    connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let ended = connection.read(&mut [0]);
    assert!(
        !matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
        "the server lives on"
    );
    assert_no_process_of(scratch.path());
}

/// Small images, and scratch files in a directory that the test can look into.
fn start(scratch: &Scratch, arguments: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
    command.arg("demo").args(arguments).args(["--kernel-mib", "1", "--initrd-mib", "2"]);
    command.env("TMPDIR", scratch.path());
    Process::start(command)
}

fn assert_report(demo: &mut Process, machines: u32) {
    let status = demo.wait(LIMIT).expect("--once ends by itself");
    assert!(demo.stdout.wait_end(LIMIT));
    let report = demo.stdout.text();
    assert!(status.success(), "{status}\n{report}\n{}", demo.stderr.text());
    let booted = format!("{machines} of {machines} machines booted in ");
    let audit = format!("lease audit: {machines} leases, 0 lost, 0 doubled");
    for words in [
        &booted,
        &audit,
        "p50",
        "p99",
        "max",
        "MB/s",
        "CPU-s/GB",
        "killed with -9",
        "loopback is not a NIC",
    ] {
        assert!(report.contains(words), "no {words:?} in:\n{report}");
    }
    for step in ["DHCP", "loader", "menu", "kernel", "initrd", "whole boot"] {
        assert!(
            report.lines().any(|line| line.trim_start().starts_with(step)),
            "no {step} in:\n{report}"
        );
    }
    assert!(report.lines().count() <= 24, "more than a screen:\n{report}");
}

/// Neither files nor a process that names the directory.
fn assert_nothing_left(directory: &Path) {
    let left: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_no_process_of(directory);
}

fn assert_no_process_of(directory: &Path) {
    let name = directory.to_str().unwrap();
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&words).contains(name),
            "{} lives on",
            process.path().display()
        );
    }
}

/// `HTTP 127.0.0.1:40080` in the demo's first line.
fn http_address(demo: &Process) -> String {
    let line = demo.stdout.wait_line("HTTP ", LIMIT);
    line.split_once("HTTP ").unwrap().1.trim().to_owned()
}

fn get(server: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(server).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
