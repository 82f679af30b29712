//! The program as somebody uses it who must accept a server: what it is called, how it is helped by
//! a shell, what its exit codes say.
#![allow(clippy::unwrap_used, clippy::panic)]

mod schema;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Duration;

use serde_json::Value;

#[test]
fn the_command_line_completes_itself_and_every_command_has_its_page() {
    let scratch = tempfile::tempdir().unwrap();
    for (shell, words) in
        [("bash", "complete -F"), ("zsh", "#compdef loadtest"), ("fish", "complete -c loadtest")]
    {
        let script = text(&loadtest(&["completions", shell]).stdout);
        assert!(script.contains(words) && script.contains("compare"), "{shell}: {script}");
    }
    let written = loadtest(&["man", scratch.path().to_str().unwrap()]);
    assert!(written.status.success() && written.stdout.is_empty(), "{written:?}");
    let help = text(&loadtest(&["--help"]).stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(commands.contains(&"tune") && commands.len() >= 6, "{help}");
    for name in commands {
        let page = scratch.path().join(format!("loadtest-{name}.1"));
        assert!(
            fs::read_to_string(&page).is_ok_and(|page| page.contains(".TH")),
            "{}",
            page.display()
        );
    }
    let page = text(&loadtest(&["man"]).stdout);
    assert!(
        page == fs::read_to_string(scratch.path().join("loadtest.1")).unwrap()
            && !page.contains("help(1)"),
        "{page}"
    );
    let wrong = loadtest(&["completions", "perl"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn a_budget_for_nothing_is_said_to_be_one() {
    let scratch = tempfile::tempdir().unwrap();
    let lone = scratch.path().join("lone.toml");
    fs::write(
        &lone,
        "clients = 1\n[files]\n\"a\" = \"1KiB\"\n[[machine]]\nsteps = [{ tftp = \"a\" }]\n",
    )
    .unwrap();
    let output = loadtest(&["tune", "--scenario", lone.to_str().unwrap(), "--budget", "1s"]);
    let (said, told) = (text(&output.stdout), text(&output.stderr));
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("the budget is 1 s (--budget)") && said.contains("No knob was tried"),
        "{said}"
    );
    assert!(told.contains("the budget is too small for any knob: use --budget "), "{told}");
    assert_eq!(output.status.code(), Some(1));
}

/// Each answer takes so long, and one waits for the other: so many machines take so many times as
/// long.
const ANSWER: Duration = Duration::from_millis(20);

#[test]
fn the_limit_of_a_slow_server_is_found_and_what_gave_out_is_the_time() {
    let server = server(ANSWER);
    // 50 answers are a second; a busy machine adds to it.
    let output =
        limit(server, &["--within", "1s", "--precision", "20", "--repeat", "2", "--json", "-"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (held, missed) = (&answer["held"], &answer["missed"]);
    let machines = |number: &Value| number["machines"].as_u64().unwrap();
    assert!((10..=50).contains(&machines(held)) && machines(missed) > machines(held), "{answer}");
    assert!(machines(missed) <= 80, "{answer}");
    assert_eq!((&held["held"], &held["missed"]), (&2.into(), &0.into()), "{answer}");
    assert!(missed["missed"].as_u64() >= Some(1) && answer["end"] == "narrow", "{answer}");
    assert_eq!(answer["gave_out"][0]["what"], "time", "{answer}");
    let words = answer["gave_out"][0]["words"].as_str().unwrap();
    assert!(words.contains("not done within 1s (file)"), "{words}");
    let told = text(&output.stderr);
    assert!(
        told.contains("10 machines, run 1") && told.contains("MISSED") && told.contains(": held"),
        "{told}"
    );
}

#[test]
fn a_number_that_was_wanted_holds_or_does_not() {
    let server = server(ANSWER);
    for (wanted, code, verdict) in
        [("5", 0, "PASS: at least 5 machines\n"), ("400", 1, "FAIL: 400 machines are required, ")]
    {
        let words = [
            "--within",
            "1s",
            "--at-least",
            wanted,
            "--max",
            wanted,
            "--min",
            "5",
            "--repeat",
            "2",
            "--budget",
            "20s",
        ];
        let output = limit(server, &words);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(text(&output.stdout).contains(verdict), "{output:?}");
    }
    let output = limit(server, &["--within", "1ms", "--min", "3", "--repeat", "1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stdout).contains("Not even 3 machines at once boot"), "{output:?}");
    for (wrong, why) in [
        (&["--at-least", "50", "--max", "20"][..], "begins with 50 machines and may try only 20"),
        (&["--", "--clients", "5"], "is not allowed in a search"),
        (&["--expect", "p99 bot < 1s"], "there is no `bot`"),
        (&["--", "--nonsense"], "unexpected argument '--nonsense'"),
    ] {
        let output = loadtest(&[&["limit"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(why), "{output:?}");
    }
}

#[test]
fn machines_that_take_too_long_have_failed_and_are_exported_so() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let (json, csv, hdr) = (path("a.json"), path("a.csv"), path("a.hdr"));
    let output = load(
        server(ANSWER),
        &["--clients", "20", "--within", "200ms", "--json", &json, "--csv", &csv, "--hdr", &hdr],
    );
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(schema::violations(&report), Vec::<String>::new());
    assert_eq!(report["failures"][0]["cause"], "not done within 200ms", "{report}");
    let (booted, failed) = (
        report["summary"]["booted"].as_u64().unwrap(),
        report["summary"]["failed"].as_u64().unwrap(),
    );
    assert!(
        booted <= 10 && booted + failed == 20 && report["boot"]["max_us"].as_u64() <= Some(200_200),
        "{report}"
    );
    let csv = fs::read_to_string(csv).unwrap();
    assert!(csv.starts_with("machine,model,power_on_s,end_s,booted,stopped_in,boot_s,"), "{csv}");
    assert_eq!(csv.lines().count(), 21);
    assert_eq!(
        csv.lines().filter(|row| row.contains(",false,file,,")).count() as u64,
        failed,
        "{csv}"
    );
    let hdr = fs::read_to_string(hdr).unwrap();
    assert!(
        hdr.contains("#[Histogram log format version 1.3]") && hdr.contains("\nTag=file,0.000,"),
        "{hdr}"
    );
    let alone = load(server(Duration::ZERO), &["--clients", "3", "--csv", "-"]);
    assert!(
        text(&alone.stdout).starts_with("machine,") && text(&alone.stdout).lines().count() == 4,
        "{alone:?}"
    );
}

#[test]
fn a_comparison_fails_by_its_own_rule_of_noise() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, pause) in [("fast", Duration::ZERO), ("slow", ANSWER)] {
        fs::create_dir(scratch.path().join(name)).unwrap();
        let server = server(pause);
        for run in 0..3 {
            let file = scratch.path().join(format!("{name}/{run}.json")).display().to_string();
            assert!(load(server, &["--clients", "20", "--json", &file]).status.success());
        }
    }
    let (fast, slow) = (scratch.path().join("fast"), scratch.path().join("slow"));
    let compare = |a: &std::path::Path, b: &std::path::Path, reason: &str| {
        loadtest(&["compare", a.to_str().unwrap(), b.to_str().unwrap(), "--fail-if", reason])
    };
    let worse = compare(&fast, &slow, "p99 boot worse 50%");
    assert_eq!(worse.status.code(), Some(1), "{worse:?}");
    assert!(text(&worse.stdout).contains("\nFAIL: B is worse in boot p99 by "), "{worse:?}");
    for (a, b, reason) in
        [(&slow, &fast, "p99 boot worse"), (&slow, &fast, "worse"), (&fast, &fast, "worse")]
    {
        let output = compare(a, b, reason);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(text(&output.stdout).ends_with("\nPASS\n"), "{output:?}");
    }
    let one = compare(&fast.join("0.json"), &slow.join("0.json"), "worse");
    assert_eq!(one.status.code(), Some(2), "{one:?}");
    assert!(text(&one.stderr).contains("needs at least 3 runs of each side"), "{one:?}");
}

#[test]
fn a_run_is_repeated_and_what_is_expected_must_be_met_by_every_run() {
    let server = server(Duration::ZERO);
    let output =
        load(server, &["--clients", "5", "--repeat", "3", "--expect", "all booted", "--json", "-"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema::violations(&report), Vec::<String>::new());
    assert_eq!(report["repeats"]["runs"].as_array().unwrap().len(), 3);
    let wall = &report["repeats"]["figures"][0];
    assert!(wall["name"] == "wall" && wall["min"].as_f64() <= wall["median"].as_f64(), "{wall}");
    assert_eq!(
        report["verdicts"][0]["measured"],
        format!("met in 3 of 3 runs: {}", ["5 of 5 (100.00 %)"; 3].join(", "))
    );
    let told = text(&output.stderr);
    assert!(
        told.contains("run 1 of 3: 5 of 5 machines") && told.contains("run 3 of 3: "),
        "{told}"
    );
    let slow = load(server, &["--clients", "5", "--repeat", "2", "--expect", "max boot < 1us"]);
    assert_eq!(slow.status.code(), Some(1), "{slow:?}");
    let said = text(&slow.stdout);
    assert!(
        said.contains("the middle one. All 2 runs:") && said.contains("met in 0 of 2 runs"),
        "{said}"
    );
    let missing = load(server, &["--clients", "2", "--repeat", "2", "--within", "0ms"]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
}

#[test]
fn reports_of_two_generators_become_one() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let server = server(Duration::ZERO);
    let (a, b, both) = (path("a.json"), path("b.json"), path("both.json"));
    for (file, clients) in [(&a, "7"), (&b, "5")] {
        assert!(load(server, &["--clients", clients, "--json", file]).status.success());
    }
    let merged = loadtest(&[
        "merge",
        &a,
        &b,
        "--expect",
        "booted == 12",
        "--json",
        &both,
        "--csv",
        &path("both.csv"),
    ]);
    assert_eq!(merged.status.code(), Some(0), "{merged:?}");
    let said = text(&merged.stdout);
    assert!(
        said.contains("12 of 12 machines") && said.contains("PASS  booted == 12: 12 of 12"),
        "{said}"
    );
    assert!(said.contains("! the runs did not overlap"), "one after the other: {said}");
    let report: Value = serde_json::from_str(&fs::read_to_string(both).unwrap()).unwrap();
    assert_eq!(schema::violations(&report), Vec::<String>::new());
    assert_eq!(
        (&report["stages"]["file"]["count"], &report["parts"][1]["machines"]),
        (&12.into(), &5.into())
    );
    assert_eq!(fs::read_to_string(path("both.csv")).unwrap().lines().count(), 13);
    let missed = loadtest(&["merge", &a, &b, "--expect", "booted > 12", "--quiet"]);
    assert_eq!(
        (missed.status.code(), missed.stdout.len(), missed.stderr.len()),
        (Some(1), 0, 0),
        "{missed:?}"
    );
    for wrong in
        [&["merge", &a][..], &["merge", &a, "/none.json"], &["merge", &a, &path("both.csv")]]
    {
        assert_eq!(loadtest(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn what_is_read_fits_the_width_that_columns_says() {
    let server = server(Duration::ZERO);
    for columns in [40, 60, 80] {
        let (address, http) = (server.ip().to_string(), server.to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args([
            "--server",
            &address,
            "--http",
            &http,
            "--no-dhcp",
            "--files",
            "http:a",
            "--clients",
            "3",
        ]);
        let output =
            command.args(["--repeat", "2"]).env("COLUMNS", columns.to_string()).output().unwrap();
        let said = text(&output.stdout);
        assert!(said.lines().all(|line| line.chars().count() <= columns), "{columns}: {said}");
        assert_eq!(said.contains("p99.9"), columns == 80, "{said}");
        assert!(said.lines().next().unwrap().contains("max"), "{said}");
        let help = Command::new(env!("CARGO_BIN_EXE_loadtest"))
            .arg("--help")
            .env("COLUMNS", columns.to_string())
            .output();
        let help = text(&help.unwrap().stdout);
        let longest = help.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(columns == 40 || longest.chars().count() <= columns, "{columns}: {longest}");
    }
}

/// A search with this server; its machines fetch one file.
fn limit(server: SocketAddr, arguments: &[&str]) -> Output {
    let (address, http) = (server.ip().to_string(), server.to_string());
    let of_a_run = ["--", "--http", &http, "--no-dhcp", "--files", "http:a"];
    loadtest(&[&["limit", "--server", &address], arguments, &of_a_run].concat())
}

/// A run with this server; its machines fetch one file.
fn load(server: SocketAddr, arguments: &[&str]) -> Output {
    let (address, http) = (server.ip().to_string(), server.to_string());
    let common = ["--server", &address, "--http", &http, "--no-dhcp", "--files", "http:a"];
    loadtest(&[&common, arguments].concat())
}

/// An HTTP server that answers one request after the other, and takes so long for each; it ends
/// with the test.
fn server(pause: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let turn = Arc::new(Mutex::new(()));
    spawn(move || {
        for stream in listener.incoming() {
            let turn = Arc::clone(&turn);
            spawn(move || answer(stream.unwrap(), pause, &turn));
        }
    });
    address
}

fn answer(mut stream: TcpStream, pause: Duration, turn: &Mutex<()>) -> Option<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).ok()?;
        request.extend(octet);
    }
    let _turn = turn.lock().unwrap();
    // Nobody ever sends: a clock.
    let (_sender, never) = channel::<()>();
    let _ = never.recv_timeout(pause);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").ok()
}

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
