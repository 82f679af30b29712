//! What requests and file servers do to TFTP, templates, lookups and the image cache.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use super::common::fuse::{self, FileServer};
use super::common::net::{Client, Net, SERVER};
use super::common::process::run;
use super::common::server::{self, Server};
use super::common::{inside, root};
use super::{DATAPATHS, Site, alone};

/// No answer of a test's server may take longer.
const LIMIT: Duration = Duration::from_secs(30);

/// One HTTP request: the status and the body.
fn get(client: &Client, path: &str) -> (u16, Vec<u8>) {
    let request = format!("GET /{path} HTTP/1.1\r\nHost: ringboot\r\nConnection: close\r\n\r\n");
    inside::run(client.name(), move || {
        let mut stream = TcpStream::connect((SERVER, 80)).expect("HTTP answers");
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .unwrap_or_else(|error| panic!("no answer to {request:?}: {error}"));
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let status = String::from_utf8_lossy(&answer[9..12]).parse().unwrap();
        (status, answer.split_off(end + 4))
    })
}

/// Templates that ask the engine for more than any stack, memory or patience has, by their names
/// without suffix.
fn deadly_templates() -> Vec<(String, String)> {
    const LINKS: usize = 30_000;
    let prefixed = |link: &str| format!("{{{{ {}1 }}}}", link.repeat(LINKS));
    let suffixed = |link: &str| format!("{{{{ ip{} }}}}", link.repeat(LINKS));
    let grown = |step: &str, last: &str| {
        format!(
            "{{% set ns = namespace(v=[1]) %}}{{% for i in range(100000) %}}{{% set ns.v = {step} \
             %}}{{% endfor %}}{last}"
        )
    };
    let nested = grown("[ns.v] if i < 50000 else ns.v", "");
    let sources = [
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif ip == '' %}x\n".repeat(LINKS)),
        prefixed("not "),
        prefixed("-"),
        prefixed("1 if ip else "),
        prefixed("("),
        suffixed("~ip"),
        suffixed(" or ip"),
        suffixed(" and ip"),
        suffixed("+ip"),
        suffixed("**2"),
        suffixed("|upper"),
        suffixed(".a"),
        suffixed("[0]"),
        suffixed("[0:]"),
        suffixed("()"),
        suffixed(" is none"),
        suffixed(" if ip"),
        format!("{{% set x {} %}}a{{% endset %}}", "|upper".repeat(LINKS)),
        format!("{{% for {}a{} in [1] %}}{{% endfor %}}", "(".repeat(LINKS), ")".repeat(LINKS)),
        "{% if 1 %}".repeat(LINKS),
        // Values that contain themselves: no stack is deep enough.
        "{% set ns = namespace(v=1) %}{% set ns.v = ns %}{{ ns }}".to_owned(),
        "{% set ns = namespace(v=1) %}{% set ns.v = [ns] %}{{ {ns: 1} }}".to_owned(),
        "{% set a = namespace(v=1) %}{% set b = namespace(v=1) %}{% set a.v = [a] %}{% set b.v = \
         [b] %}{{ [a] < [b] }}"
            .to_owned(),
        format!("{nested}{{{{ ns.v }}}}"),
        format!("{nested}{{{{ ns.v | pprint }}}}"),
        grown("ns.v[0:]", "{{ ns.v | list }}"),
        grown("ns.v + ['x' * 1000000]", "{{ ns.v | length }}"),
        "{% set ns = namespace(v='x') %}{% for i in range(60) %}{% set ns.v = ns.v ~ ns.v %}{% \
         endfor %}{{ ns.v }}"
            .to_owned(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".to_owned(),
    ];
    sources
        .into_iter()
        .enumerate()
        .map(|(number, source)| (format!("deadly-{number}.cfg"), source))
        .collect()
}

#[test]
fn no_template_ends_the_server_and_each_bad_one_costs_its_own_request() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-templates", datapath, "");
        let root = server::root(&site.scratch);
        // What a real operator writes: a branch for each of many machines.
        let branch = |host: u32| {
            format!("{{% elif ip == \"10.0.{}.{}\" %}}host{host}\n", host / 250, host % 250)
        };
        let many = format!(
            "{{% if ip == \"\" %}}{}{{% else %}}new{{% endif %}}",
            (0..1_800).map(branch).collect::<String>()
        );
        root::write(&root.join("many.cfg.j2"), many.as_bytes());
        let templates = deadly_templates();
        for (name, source) in &templates {
            assert!(source.len() <= 1 << 20, "{name}: {}", source.len());
            root::write(&root.join(format!("{name}.j2")), source.as_bytes());
        }
        let client = site.net.client_with_address(200);
        // By a machine of its own: the log has so many troubles of one in a minute, and no more.
        assert_eq!(get(&site.net.client_with_address(201), "deadly-20.cfg").0, 500);
        let before = site.honest.run(Duration::from_secs(3));
        let during = std::thread::scope(|scope| {
            let attack = scope.spawn(|| {
                for (name, source) in &templates {
                    let started = Instant::now();
                    let (status, _) = get(&client, name);
                    let took = started.elapsed();
                    println!(
                        "{datapath} {name} {status} {took:?} {}",
                        source.get(..60).unwrap_or(source)
                    );
                    assert!(status == 500 || status == 200, "{name}: {status}");
                    assert_eq!(get(&client, "many.cfg"), (200, b"new".to_vec()), "after {name}");
                }
            });
            let during = site.honest.run(Duration::from_secs(3));
            attack.join().unwrap();
            during
        });
        during.assert_no_worse(&before, 20);
        let log = site.server.log();
        assert!(
            log.contains("deadly-0.cfg.j2:10001:4: the {% if %} has more than 10000 {% elif %}"),
            "{log}"
        );
        assert!(
            log.contains("deadly-20.cfg.j2: it ended the process that renders templates (signal: "),
            "{log}"
        );
        site.server.stop();
    }
}

/// Asks for this again and again by 30 connections of one address, until told to stop: more than
/// 1,000 times a second, where the server is as fast, and no more, since attackers and server share
/// the processors.
fn flood(client: &Client, path: &str, is_over: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let one = |_| {
        let (request, is_over) =
            (format!("GET /{path} HTTP/1.1\r\nHost: ringboot\r\n\r\n"), Arc::clone(is_over));
        inside::start(client.name(), move || {
            while !is_over.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect((SERVER, 80)) else { continue };
                stream.set_read_timeout(Some(LIMIT)).unwrap();
                let mut answer = [0; 4096];
                let asked = stream.write_all(request.as_bytes());
                // The server may refuse: this is the attack.
                let _ = asked.and_then(|()| stream.read(&mut answer));
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    (0..30).map(one).collect()
}

#[test]
fn one_address_with_heavy_templates_and_listings_holds_nobody_elses_lookups() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new(
            "hostile-lookups",
            datapath,
            "[http]\nindex = [\"/\"]\n[tftp]\ncase-insensitive = true",
        );
        let root = server::root(&site.scratch);
        let heavy = "{% for a in range(9999) %}{% for b in range(9999) %}{% set x = a + b %}{% \
                     endfor %}{% endfor %}";
        root::write(&root.join("heavy.cfg.j2"), heavy.as_bytes());
        root::write(&root.join("light.cfg.j2"), b"{{ ip }}");
        fs::create_dir(root.join("many")).unwrap();
        for name in 0..20_000 {
            fs::write(root.join("many").join(format!("{name:05}.cfg")), b"").unwrap();
        }
        let (attacker, client) =
            (site.net.client_with_address(201), site.net.client_with_address(202));
        let mut number = 0;
        let mut lookups = || {
            let mut times: Vec<Duration> = (0..30)
                .map(|_| {
                    number += 1;
                    let started = Instant::now();
                    assert_eq!(get(&client, &format!("many/none-{number}")).0, 404);
                    assert_eq!(get(&client, "light.cfg"), (200, b"192.168.4.202".to_vec()));
                    started.elapsed()
                })
                .collect();
            times.sort_unstable();
            (times[15], times[29])
        };
        let quiet = site.honest.run(Duration::from_secs(3));
        let before = lookups();
        for attack in ["heavy.cfg", "many", "many/MISSING"] {
            let is_over = Arc::new(AtomicBool::new(false));
            let flood = flood(&attacker, attack, &is_over);
            let during = lookups();
            let honest = site.honest.run(Duration::from_secs(3));
            is_over.store(true, Ordering::Relaxed);
            flood.into_iter().for_each(|thread| thread.join().unwrap());
            println!(
                "{datapath} {attack}: median and worst lookup {before:?} before, {during:?} during"
            );
            assert!(
                during.0 < Duration::from_millis(500) && during.1 < Duration::from_secs(2),
                "{attack}: {during:?}"
            );
            honest.assert_no_worse(&quiet, 20);
        }
        site.server.stop();
    }
}

#[test]
fn check_compiles_every_template_as_a_request_does() {
    let scratch = super::Scratch::new("hostile-check");
    let root = server::root(&scratch);
    for (name, source) in deadly_templates() {
        root::write(&root.join("answers").join(format!("{name}.j2")), source.as_bytes());
    }
    root::write(&root.join("unended.cfg.j2"), b"a\n{% if ip %}\n");
    root::write(&root.join("fine.cfg.j2"), b"{{ mac }}");
    let found = check(&root);
    assert!(
        found
            .contains("root/answers/deadly-0.cfg.j2:10001:4: template: the {% if %} has more than"),
        "{found}"
    );
    assert!(found.contains("root/answers/deadly-5.cfg.j2:1:"), "{found}");
    assert!(found.contains("root/unended.cfg.j2:"), "{found}");
    assert!(!found.contains("fine.cfg"), "{found}");
}

fn check(root: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringboot"));
    command.args(["check", "--root"]).arg(root);
    run(command, LIMIT).failed().stdout
}

/// Asks for this by a connection of its own that waits however long it takes.
fn wait_for(client: &Client, path: String) -> JoinHandle<()> {
    inside::start(client.name(), move || {
        let mut stream = TcpStream::connect((SERVER, 80)).expect("HTTP answers");
        stream.set_read_timeout(Some(2 * LIMIT)).unwrap();
        write!(stream, "GET /{path} HTTP/1.1\r\nHost: ringboot\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .unwrap_or_else(|error| panic!("no answer for {path}: {error}"));
        assert!(answer.starts_with(b"HTTP/1.1 "), "{path}: an answer, whatever it is");
    })
}

#[test]
fn a_file_server_that_does_not_answer_holds_nobody_who_wants_other_files() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let scratch = super::Scratch::new("hostile-file-server");
        let remote = server::root(&scratch).join("remote");
        fs::create_dir(&remote).unwrap();
        let files = FileServer::mount(&remote);
        let site = Site::in_scratch(scratch, datapath, "");
        let root = server::root(&site.scratch);
        fs::create_dir(root.join("local")).unwrap();
        for number in 0..40 {
            fs::write(root.join(format!("local/{number}")), b"local").unwrap();
        }
        let client = site.net.client_with_address(203);
        let others: Vec<Client> = (0..6).map(|n| site.net.client_with_address(210 + n)).collect();
        assert_eq!(get(&client, "remote/known").1.len() as u64, fuse::LEN);
        let before = site.honest.run(Duration::from_secs(3));
        files.answers(false);
        // The file that every core knows, and names that only workers could look up: more than
        // there are threads.
        let waiting: Vec<_> = (0..60)
            .map(|n| {
                wait_for(
                    &others[n % 6],
                    if n < 6 { "remote/known".into() } else { format!("remote/{n}") },
                )
            })
            .collect();
        let mut times: Vec<Duration> = (0..40)
            .map(|number| {
                let started = Instant::now();
                assert_eq!(get(&client, &format!("local/{number}")), (200, b"local".to_vec()));
                started.elapsed()
            })
            .collect();
        let during = site.honest.run(Duration::from_secs(3));
        times.sort_unstable();
        println!(
            "{datapath}: local files beside a dead file server: median {:?}, worst {:?}",
            times[20], times[39]
        );
        assert!(
            times[20] < Duration::from_millis(200) && times[39] < Duration::from_secs(5),
            "{times:?}"
        );
        during.assert_no_worse(&before, 20);
        files.answers(true);
        waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        assert_eq!(get(&client, "remote/known").1.len() as u64, fuse::LEN, "it answers again");
        site.server.stop();
    }
}

#[test]
fn a_switched_root_is_served_and_touched_files_go_on() {
    let scratch = super::Scratch::new("hostile-root");
    let path = |name: &str| scratch.path().join(name);
    for name in ["one", "two"] {
        root::write(&path(name).join("file"), name.as_bytes());
        root::pattern_file(&path(name).join("large"), 4 << 20);
    }
    std::os::unix::fs::symlink("one", path("root")).unwrap();
    let net = Net::new();
    let server = Server::start_root(&net, &path("root"));
    let client = net.client_with_address(204);
    assert_eq!(get(&client, "file").1, b"one");
    let serves = |text: &[u8]| {
        let end = Instant::now() + LIMIT;
        while get(&client, "file").1 != text {
            assert!(Instant::now() < end, "{} is never served", text.escape_ascii());
        }
    };
    std::os::unix::fs::symlink("two", path("next")).unwrap();
    fs::rename(path("next"), path("root")).unwrap();
    serves(b"two");
    server.log_line("now leads to another directory", LIMIT);
    // A download that is under way while its file is touched comes whole; one whose file is
    // overwritten with its time put back does not.
    for (is_written, name) in [(false, "whole"), (true, "cut")] {
        let large = fs::File::options().read(true).write(true).open(path("two/large")).unwrap();
        let before = large.metadata().unwrap().modified().unwrap();
        let received = inside::run(client.name(), move || {
            let mut stream = TcpStream::connect((SERVER, 80)).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream
                .write_all(b"GET /large HTTP/1.1\r\nHost: ringboot\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut answer = vec![0; 1000];
            stream.read_exact(&mut answer).unwrap();
            if is_written {
                large.write_all_at(&[0; 10], 1000).unwrap();
            }
            let time = if is_written { before } else { SystemTime::now() };
            large.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
            let _ = stream.read_to_end(&mut answer); // cut short by a reset, or not
            let head = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            answer.len() - head
        });
        assert_eq!(received == 4 << 20, !is_written, "{name}: {received}");
    }
    server.stop();
}

#[test]
fn single_bytes_of_a_huge_file_push_nobodys_image_out_of_the_memory() {
    const MIB: u64 = 1 << 20;
    let _alone = alone();
    for datapath in DATAPATHS {
        let scratch = super::Scratch::new("hostile-bytes");
        let root = server::root(&scratch);
        fs::File::create(root.join("huge")).unwrap().set_len(4096 * MIB).unwrap();
        root::pattern_file(&root.join("image"), 24 << 20);
        let site = Site::in_scratch(scratch, datapath, "[tuning]\nimage-memory = 67108864");
        let (attacker, client) =
            (site.net.client_with_address(205), site.net.client_with_address(206));
        let downloads = || {
            let mut times: Vec<Duration> = (0..10)
                .map(|_| {
                    let started = Instant::now();
                    assert_eq!(get(&client, "image").1.len(), 24 << 20);
                    started.elapsed()
                })
                .collect();
            times.sort_unstable();
            (times[5], times[9])
        };
        downloads();
        let (before, honest) = (downloads(), site.honest.run(Duration::from_secs(3)));
        let is_over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..10)
            .map(|n| {
                let is_over = Arc::clone(&is_over);
                inside::start(attacker.name(), move || {
                    let mut stream = TcpStream::connect((SERVER, 80)).unwrap();
                    stream.set_read_timeout(Some(LIMIT)).unwrap();
                    let (mut at, mut answers) = (n * 397 * MIB, 0);
                    while !is_over.load(Ordering::Relaxed) {
                        at = (at + 1009 * MIB) % (4096 * MIB);
                        let head = format!(
                            "GET /huge HTTP/1.1\r\nHost: ringboot\r\nRange: bytes={at}-{at}\r\n\r\n"
                        );
                        stream.write_all(head.as_bytes()).unwrap();
                        let mut answer = Vec::new();
                        while !answer.ends_with(b"\r\n\r\n\0") {
                            let mut more = [0; 4096];
                            let len = stream.read(&mut more).unwrap();
                            assert!(len > 0, "{}", answer.escape_ascii());
                            answer.extend_from_slice(&more[..len]);
                        }
                        assert!(answer.starts_with(b"HTTP/1.1 206 "), "{}", answer.escape_ascii());
                        answers += 1;
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    answers
                })
            })
            .collect();
        let (during, met) = (downloads(), site.honest.run(Duration::from_secs(3)));
        is_over.store(true, Ordering::Relaxed);
        let answers: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        println!(
            "{datapath}: 24 MiB median and worst {before:?} before, {during:?} beside {answers} \
             single bytes"
        );
        assert!(
            answers > 100 && during.0 < before.0.max(Duration::from_millis(20)) * 10,
            "{before:?} {during:?}"
        );
        met.assert_no_worse(&honest, 20);
        site.server.stop();
    }
}
