//! What the box knows and how it says so: machines and where they stand, pools and how full they
//! are, one line for a monitor.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

mod common;

use common::process::{Process, run};
use common::relayed::{ACK, BINARY, DISCOVER, LIMIT, RELEASE, REQUEST, RESERVED, Relayed};

/// From an empty pool to one that is full and has room again: what screen, JSON, log, monitor and
/// list of machines say.
#[test]
fn a_pool_that_fills_is_seen_everywhere_before_a_machine_fails_and_after() {
    let world = Relayed::new("facts-pool", "127.77.1.1-127.77.1.4");
    let gone = world.ringboot(&["status", "--exit-code"]);
    assert_eq!(gone.status.code(), Some(2), "{}{}", gone.stdout, gone.stderr);
    assert!(
        gone.stdout.starts_with("CRITICAL: no server answers on ") && gone.stderr.is_empty(),
        "{}",
        gone.stdout
    );
    let mut server = world.start();
    let well = world.ringboot(&["status", "--exit-code"]).ok();
    assert_eq!(well.stdout, "OK: DHCP on 1 subnet, 0 leases run\n");
    let screen = world.until(&["status"], "0 of 4 addresses given").ok().stdout;
    assert!(
        !screen.contains("FULL") && screen.contains("  leases     0 known, 0 commits pending"),
        "{screen}"
    );

    let addresses: Vec<Ipv4Addr> = (1..=4).map(|machine| world.lease(machine)).collect();
    let screen = world.until(&["status"], "FULL since").ok().stdout;
    let subnet =
        "  subnet     127.77.0.0/16 by relays, mode server, 4 of 4 addresses given, FULL since ";
    assert!(
        screen.contains(subnet)
            && screen.contains("  leases     4 known (4 bound), 0 commits pending"),
        "{screen}"
    );
    let status = world.json(&["status", "--json"]);
    let pool = &status["subnets"][0]["pool"];
    let counts = ["addresses", "free", "bound", "offered", "ended", "kept_back"]
        .map(|key| pool[key].as_u64().unwrap());
    assert_eq!((counts, pool["nearly_full"].as_bool()), ([4, 0, 4, 0, 0, 0], Some(true)));
    assert!(
        pool["full_since_s"].as_u64().unwrap() < 60 && status["health"]["level"] == "CRITICAL",
        "{status}"
    );
    let watched = world.ringboot(&["status", "--exit-code"]);
    let line = "CRITICAL: the pools of subnet 127.77.0.0/16 are full: 4 of 4 addresses given\n";
    assert_eq!((watched.status.code(), watched.stdout.as_str()), (Some(2), line));
    assert_eq!(world.ringboot(&["status", "--exit-code", "--json"]).status.code(), Some(2));

    // The fifth machine gets nothing, and is found without knowing whom to ask for.
    world.say(DISCOVER, 5, None);
    let failed = world.until(&["machines", "--failed"], "52:54:00:00:00:05");
    assert_eq!(failed.status.code(), Some(1));
    assert!(
        failed.stdout.contains("  failed ") && failed.stdout.contains("The pool is full: "),
        "{}",
        failed.stdout
    );
    assert!(!failed.stdout.contains("52:54:00:00:00:01"), "{}", failed.stdout);
    let all = world.ringboot(&["machines"]).ok().stdout;
    let lines: Vec<&str> = all.lines().collect();
    assert!(lines.len() == 7 && lines[0].starts_with("52:54:00:00:00:05 "), "{all}");
    assert_eq!(lines[5], format!("{RESERVED}  127.77.200.9     unseen   -        node9"));
    assert!(lines[6].starts_with("1 failed, ") && lines[6].ends_with(", 1 unseen"), "{all}");
    assert_eq!(
        world.json(&["machines", "--unseen", "--json"])["machines"][0]["host_name"],
        "node9"
    );
    let elsewhere = world.ringboot(&["machines", "--failed", "--subnet", "10.0.0.0/8"]).ok().stdout;
    assert_eq!(elsewhere, "no machine is known\n");

    // One goes: there is room, and its lease is over.
    world.say(RELEASE, 1, Some(addresses[0]));
    let screen = world.until(&["status"], "3 of 4 addresses given").ok().stdout;
    assert!(
        !screen.contains("FULL") && screen.contains("(3 bound, 1 ended or given back)"),
        "{screen}"
    );
    world.ringboot(&["status", "--exit-code"]).ok();
    world.lease(1);
    world.until(&["status"], "FULL since").ok();
    let log = server.stderr.text();
    let count = |words: &str| log.matches(words).count();
    let said = [
        "are FULL: 4 of 4 addresses given, and further machines get none",
        "have room again: 3 of 4",
    ]
    .map(count);
    assert_eq!(said, [2, 1], "once for each crossing:\n{log}");

    // The history of a stopped server says the same of machines that were heard of, within a
    // second.
    let kept = || {
        let mut command = Command::new(BINARY);
        command.args(["machines", "--failed", "--state"]).arg(world.scratch.path().join("state"));
        run(command, LIMIT)
    };
    assert!(server.stop(LIMIT).success());
    let kept = kept();
    assert_eq!(kept.status.code(), Some(1), "{}{}", kept.stdout, kept.stderr);
    assert!(
        kept.stdout.starts_with("52:54:00:00:00:05 ") && kept.stdout.contains("The pool is full: "),
        "{}",
        kept.stdout
    );
    let stopped = world.ringboot(&["machines"]).ok().stdout;
    assert_eq!(stopped.lines().count(), 6, "reservations are in no database: {stopped}");
}

/// A rack of 2,000: each is in the list, in bounded time.
#[test]
fn two_thousand_machines_are_listed() {
    let world = Relayed::new("facts-rack", "127.77.1.0-127.77.9.255");
    let mut server = world.start();
    const AT_ONCE: u16 = 100;
    for first in (1..=2000).step_by(usize::from(AT_ONCE)) {
        (first..first + AT_ONCE).for_each(|machine| world.say(DISCOVER, machine, None));
        for _ in 0..AT_ONCE {
            let (_, machine, address) = world.hear();
            world.say(REQUEST, machine, Some(address));
        }
        (0..AT_ONCE).for_each(|_| assert_eq!(world.hear().0, ACK));
    }
    let began = Instant::now();
    let listed = world.json(&["machines", "--json"]);
    let took = began.elapsed();
    assert_eq!(listed["machines"].as_array().unwrap().len(), 2001);
    assert!(took < Duration::from_secs(10), "{took:?}");
    let text = world.ringboot(&["machines"]).ok().stdout;
    assert!(
        text.lines().count() == 1002
            && text.contains("1001 more: --failed, --booting and --subnet"),
        "{text}"
    );
    world.until(&["status"], "2000 of 2304 addresses given").ok();
    let watched = world.ringboot(&["status", "--exit-code"]);
    assert_eq!(watched.status.code(), Some(1), "{}", watched.stdout);
    assert!(
        watched.stdout.starts_with("WARNING: the pools of subnet 127.77.0.0/16 are nearly full: "),
        "{}",
        watched.stdout
    );
    assert_eq!(server.stderr.text().matches("are nearly full: ").count(), 1);
    assert!(server.stop(LIMIT).success());
}

/// `serve --root` is the mode of somebody who looks at ringboot for the first time: it can be asked
/// as well, and says what it cannot know.
#[test]
fn a_server_without_a_configuration_is_asked_like_any_other() {
    let scratch = common::Scratch::new("facts-root");
    std::fs::create_dir(scratch.path().join("root")).unwrap();
    std::fs::write(scratch.path().join("root/hello"), "hello\n").unwrap();
    let (root, socket) = (scratch.path().join("root"), scratch.path().join("my.sock"));
    let (root, socket) = (root.to_str().unwrap(), socket.to_str().unwrap());
    let start = |more: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args([
            "serve",
            "--tftp",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--root",
            root,
            "--socket",
            socket,
        ]);
        command.args(more);
        let process = Process::start(command);
        let ready = process.stdout.wait_for(LIMIT, |text| {
            text.lines().find(|line| line.starts_with("READY")).map(str::to_owned)
        });
        (process, ready.unwrap())
    };
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(arguments).args(["--socket", socket]);
        run(command, LIMIT)
    };
    let (mut server, ready) = start(&["-v"]);
    let http = ready.split_whitespace().find_map(|word| word.strip_prefix("http=")).unwrap();
    let get = |path: &str| {
        let mut stream = std::net::TcpStream::connect(http).unwrap();
        std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        answer
    };
    assert!(get("/hello").ends_with("hello\n"));
    // A name that a loader tries and can do without.
    assert!(get("/pxelinux.cfg/01-52-54-00-00-00-01").contains(" 404 "));
    let screen = ask(&["status"]).ok().stdout;
    assert!(
        screen.contains("  dhcp       not answered") && screen.contains("2 HTTP requests"),
        "{screen}"
    );
    assert_eq!(ask(&["status", "--exit-code"]).ok().stdout, "OK: files are served, without DHCP\n");
    let machines = ask(&["machines"]).ok().stdout;
    assert!(
        machines.starts_with("this server answers no DHCP, so it has no list of machines"),
        "{machines}"
    );
    assert_eq!(ask(&["machines", "--failed"]).status.code(), Some(0));
    for arguments in [&["lease", "list"][..], &["look"], &["backup", "/nonexistent/copy.db"]] {
        let said = ask(arguments).failed();
        assert_eq!(said.status.code(), Some(1), "{arguments:?}");
    }
    assert!(
        ask(&["lease", "list"]).stderr.contains("answers no DHCP"),
        "{}",
        ask(&["lease", "list"]).stderr
    );
    assert!(ask(&["reload"]).ok().stdout.starts_with("reloaded: generation 2"));
    assert!(ask(&["check", "--root", root]).ok().stdout.contains("0 errors"));
    let live = ask(&["check", "--root", root, "--live"]);
    assert_eq!(live.status.code(), Some(2));
    assert!(live.stderr.contains("--root has none"), "{}", live.stderr);
    assert!(server.stop(LIMIT).success());
    assert!(server.stderr.text().contains("DEBUG"), "-v shows more: {}", server.stderr.text());

    let (mut server, _) = start(&["--log-level", "error"]);
    assert!(server.stop(LIMIT).success());
    assert_eq!(server.stderr.text(), "", "nothing was wrong");
}

/// Without --socket the usual path is taken, where it can be made; commands find it without being
/// told.
#[test]
fn a_server_without_a_configuration_is_found_at_the_usual_path() {
    let scratch = common::Scratch::new("facts-usual");
    let mut command = Command::new("unshare");
    let script = "mount -t tmpfs none /run && { \"$0\" serve --root \"$1\" --tftp 127.0.0.1:0 \
                  --http 127.0.0.1:0 >/dev/null & } && n=0; until \"$0\" status; do n=$((n+1)); [ \
                  $n -lt 300 ] || break; sleep 0.1; done 2>/dev/null; kill $!; wait $!";
    command.args(["-m", "sh", "-c", script, BINARY]).arg(scratch.path());
    let said = run(command, LIMIT).ok();
    assert!(said.stdout.contains("  dhcp       not answered"), "{}{}", said.stdout, said.stderr);
}
