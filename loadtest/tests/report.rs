//! The program as it is started: real reports of real runs against a small HTTP server, their
//! schema, their comparison.
#![allow(clippy::unwrap_used, clippy::panic)]

mod schema;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::spawn;

use serde_json::Value;

#[test]
fn a_real_report_follows_its_schema() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(0);
    for (files, code, failed) in [("http:a,http:b", 0, 0), ("http:a,http:missing", 1, 20)] {
        let file = directory.path().join("report.json");
        let output = load(
            server,
            &["--files", files, "--json", file.to_str().unwrap(), "--pid", &own_pid()],
        );
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let report: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(schema::violations(&report), Vec::<String>::new());
        let summary = &report["summary"];
        assert_eq!((&summary["machines"], &summary["failed"]), (&20.into(), &failed.into()));
        assert_eq!(summary["bytes"], 20 * (BODY.len() * if failed == 0 { 2 } else { 1 }));
        assert!(summary["server_rss_bytes"].as_u64() > Some(0), "{summary}");
        assert_eq!(report["machines"].as_array().unwrap().len(), 20);
        let sums = |field: &str| {
            report["series"]
                .as_array()
                .unwrap()
                .iter()
                .map(|point| point[field].as_u64().unwrap())
                .sum::<u64>()
        };
        assert_eq!((sums("bytes"), sums("failed")), (summary["bytes"].as_u64().unwrap(), failed));
        if failed > 0 {
            let failure = &report["failures"][0];
            assert_eq!((&failure["stage"], &failure["machines"]), (&"file".into(), &20.into()));
            assert_eq!(failure["cause"], "HTTP: status 404 for /missing");
        }
    }
}

#[test]
fn what_is_expected_decides_over_the_exit_code_and_stands_in_the_report() {
    let server = server(0);
    for (expected, code, verdict) in [
        (&["all booted", "p99 boot < 1min"][..], 0, "PASS\n"),
        (&["max file < 0us"], 1, "FAIL: 1 of 1 not met\n"),
        (&["all booted", "failed > 0"], 1, "FAIL: 1 of 2 not met\n"),
    ] {
        let expect: Vec<&str> = expected.iter().flat_map(|text| ["--expect", text]).collect();
        let output = load(server, &[&["--files", "http:a"], &expect[..]].concat());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).ends_with(verdict), "{output:?}");
    }
    // A machine that failed is no failure of a run that allows for it; the report on standard
    // output is alone there.
    let half = ["--files", "http:missing", "--expect", "failed <= 100%", "--json", "-"];
    let output = load(server, &half);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema::violations(&report), Vec::<String>::new());
    assert_eq!(report["verdicts"][0]["measured"], "20 of 20 (100.00 %)");
    let wrong = load(server, &["--files", "http:a", "--expect", "p99 bot < 60s"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("there is no `bot`"), "{wrong:?}");
}

#[test]
fn the_schema_refuses_what_is_no_report() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.json");
    load(server(0), &["--files", "http:a", "--json", file.to_str().unwrap()]);
    let good: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    for (place, value) in [
        ("/version", 2.into()),
        ("/summary/wall_s", "5".into()),
        ("/summary/client_busy", 1.5.into()),
        ("/machines/0/2", 1.into()),
        ("/machines/0/4/0", (-1).into()),
        ("/machines/0/5", "soup".into()),
        ("/stages/file/p50_us", Value::Null),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        assert!(!schema::violations(&bad).is_empty(), "{place}");
    }
}

#[test]
fn a_server_that_refuses_is_named_as_the_limit() {
    // The first 15 requests are refused, and mended by trying again.
    let output = load(server(15), &["--files", "http:a"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("! 15 HTTP answers 503 or 429: the server limited this run"), "{said}");
    assert!(said.contains("20 of 20 machines did all their steps"), "{said}");
}

#[test]
fn quiet_is_quiet_and_a_page_stands_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report.html");
    let output =
        load(server(0), &["--files", "http:a", "--quiet", "--html", file.to_str().unwrap()]);
    assert!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
    let page = fs::read_to_string(file).unwrap();
    assert!(
        page.contains("20 of 20 machines did all their steps")
            && page.trim_end().ends_with("</html>")
    );
}

#[test]
fn files_and_servers_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let server = server(0);
    for number in 0..3 {
        let file = directory.path().join(format!("{number}.json"));
        load(server, &["--files", "http:a", "--json", file.to_str().unwrap()]);
    }
    let earlier = format!("earlier={}", directory.path().display());
    let now = format!("now={}:9,{}", server.ip(), server.port());
    let output = loadtest(&[
        "compare",
        &earlier,
        &now,
        "--json",
        "--",
        "--clients",
        "20",
        "--no-dhcp",
        "--files",
        "http:a",
    ]);
    assert!(output.status.success(), "{output:?}");
    let comparison: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&comparison["a"]["name"], &comparison["a"]["runs"]),
        (&"earlier".into(), &3.into())
    );
    assert_eq!((&comparison["b"]["name"], &comparison["b"]["runs"]), (&"now".into(), &3.into()));
    let figures = comparison["figures"].as_array().unwrap();
    let failed = figures.iter().find(|figure| figure["name"] == "failed").unwrap();
    assert_eq!(failed["verdict"], "inside the noise");
    assert!(figures.iter().any(|figure| figure["name"] == "file p99"), "{figures:?}");
}

#[test]
fn wrong_usage_of_compare_ends_with_2() {
    for wrong in [
        &["nothing.json", "nothing.json"][..],
        &["127.0.0.1:1", "127.0.0.1"],
        &["x.json"],
        &["a", "b", "--", "--clients"],
    ] {
        let output = loadtest(&[&["compare"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
}

const BODY: &[u8] = &[7; 50_000];

/// An HTTP server that knows every file but `missing` and refuses its first `refusals` requests; it
/// ends with the test.
fn server(refusals: i32) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let left = Arc::new(AtomicI32::new(refusals));
    spawn(move || {
        for stream in listener.incoming() {
            let left = Arc::clone(&left);
            spawn(move || serve(stream.unwrap(), &left));
        }
    });
    address
}

fn serve(mut stream: TcpStream, refusals_left: &AtomicI32) -> Option<()> {
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).ok()?;
            request.extend(octet);
        }
        let (status, body) = match String::from_utf8_lossy(&request) {
            _ if refusals_left.fetch_sub(1, Ordering::Relaxed) > 0 => {
                ("503 Service Unavailable", &[][..])
            }
            request if request.contains("missing") => ("404 Not Found", &[][..]),
            _ => ("200 OK", BODY),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).ok()?;
        stream.write_all(body).ok()?;
    }
}

/// 20 machines against this server.
fn load(server: SocketAddr, arguments: &[&str]) -> Output {
    let (address, http) = (server.ip().to_string(), server.to_string());
    let common = ["--clients", "20", "--server", &address, "--http", &http, "--no-dhcp"];
    loadtest(&[&common, arguments].concat())
}

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(Path::new(env!("CARGO_BIN_EXE_loadtest"))).args(arguments).output().unwrap()
}

fn own_pid() -> String {
    std::process::id().to_string()
}
