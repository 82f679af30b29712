//! What clients do to the table of leases: declines, empty pools, odd identifiers, foreign
//! segments, reloads, big tables.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ringboot::dhcp::lease::{Lease, LeaseChange, LeaseRowState};
use ringboot::model::machine::Mac;
use ringboot::store::{LeaseStore, SqliteStore};

use super::common::Scratch;
use super::common::net::{Client, Net, SERVER};
use super::common::process::run;
use super::common::server::{self, Server};
use super::common::wire::{Dhcp, Wire, mac};
use super::{DATAPATHS, Site, alone};

/// Long for an answer on a busy machine.
const ANSWER: Duration = Duration::from_secs(3);
/// Long enough for an answer that is not to come.
const SILENCE: Duration = Duration::from_millis(200);
const COMMAND: Duration = Duration::from_secs(60);
/// The classic pool: 192.168.4.10 to .100.
const POOL: usize = 91;

/// A namespace on the server's segment, for whoever the test invents.
fn stranger(net: &Net) -> (Client, Wire) {
    let client = net.client("02:0b:00:00:00:00");
    let wire = Wire::open(client.name(), "eth0");
    (client, wire)
}

fn server_address() -> Ipv4Addr {
    SERVER.parse().unwrap()
}

/// DISCOVER, and DECLINE of what was offered. None: nothing was.
fn decline(wire: &Wire, mac: Mac, xid: u32, wait: Duration) -> Option<Ipv4Addr> {
    let address = wire.ask(&Dhcp::discover(mac, xid), wait)?.message.yiaddr();
    wire.say(&Dhcp::decline(mac, xid, server_address(), address));
    Some(address)
}

/// A lease for a machine that asks again, as machines do.
fn lease(wire: &Wire, mac: Mac) -> Option<Ipv4Addr> {
    (0..4).find_map(|n| {
        wire.lease(mac, u32::from_be_bytes([n, mac.0[3], mac.0[4], mac.0[5]]), ANSWER)
    })
}

fn ringboot(net: &Net, arguments: &[&str], scratch: &Scratch) -> Command {
    let mut command = net.command(env!("CARGO_BIN_EXE_ringboot"));
    command.args(arguments).arg("--config").arg(scratch.path().join("ringboot.toml"));
    command
}

/// One machine with a broken check, then many that are invented: a few addresses are kept back, one
/// warning each is said, and whoever comes after them gets an address, also when every free one is
/// gone.
#[test]
fn a_storm_of_declines_leaves_the_pool_to_others() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-declines", datapath, "");
        let before = site.honest.run(Duration::from_secs(2));
        let (_client, wire) = stranger(&site.net);
        // A DISCOVER may overtake the DECLINE before it, and is then offered that address once
        // more.
        let declined: HashSet<Ipv4Addr> =
            (0..20).filter_map(|xid| decline(&wire, mac(1), xid, SILENCE)).collect();
        assert_eq!(declined.len(), 4, "{datapath}: then silence");
        site.server.log_line("declined 4 addresses within an hour", ANSWER);
        for n in 100..300 {
            decline(&wire, mac(n), n, SILENCE);
        }
        let during = site.honest.run(Duration::from_secs(2));
        during.assert_no_worse(&before, 15);
        let mut given: Vec<Ipv4Addr> = (1000..1041).filter_map(|n| lease(&wire, mac(n))).collect();
        assert_eq!(
            given.len(),
            POOL - 50,
            "{datapath}: every address that no honest machine holds"
        );
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), POOL - 50, "{datapath}: none of them twice");
        assert_eq!(site.server.log().matches("until the hour is over").count(), 1, "{datapath}");
        site.server.stop();
    }
}

/// DISCOVERs of invented machines, Raspberry Pis among them, faster than offers lapse: who means it
/// gets an address at once.
#[test]
fn a_flood_of_discovers_keeps_nobody_out_of_the_pool() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("hostile-discovers", datapath, "");
        let before = site.honest.run(Duration::from_secs(2));
        let flood = site.net.client("02:0b:00:00:00:01");
        let over = Arc::new(AtomicBool::new(false));
        let flooding = {
            let (over, name) = (Arc::clone(&over), flood.name().to_owned());
            std::thread::spawn(move || {
                let wire = Wire::open(&name, "eth0");
                let mut sent = 0u32;
                while !over.load(Ordering::Relaxed) {
                    let [_, a, b, c] = sent.to_be_bytes();
                    let pi = Mac([0xb8, 0x27, 0xeb, a, b, c]);
                    let message = match sent % 2 {
                        0 => Dhcp::discover(mac(0x0100_0000 + sent), sent),
                        _ => Dhcp::discover(pi, sent)
                            .with(60, b"PXEClient:Arch:00000:UNDI:002001")
                            .with(93, &[0, 0]),
                    };
                    wire.say(&message);
                    sent += 1;
                    // Far more than the pool has in the time that an offer is held, and little
                    // enough for a build without optimisation.
                    std::thread::sleep(Duration::from_millis(2));
                }
                sent
            })
        };
        let (_client, wire) = stranger(&site.net);
        // The pool is full of offers when the first one comes.
        std::thread::sleep(Duration::from_millis(500));
        let newcomers: Vec<Ipv4Addr> = (1000..1030).filter_map(|n| lease(&wire, mac(n))).collect();
        let during = site.honest.run(Duration::from_secs(2));
        over.store(true, Ordering::Relaxed);
        let sent = flooding.join().unwrap();
        assert!(sent as usize > 4 * POOL, "{sent} DISCOVERs are no flood");
        assert_eq!(newcomers.len(), 30, "{datapath}: {newcomers:?} beside {sent} DISCOVERs");
        during.assert_no_worse(&before, 20);
        site.server.stop();
    }
}

/// The same through a relay agent: one port's flood takes none of the addresses that another port's
/// machines get.
#[test]
fn a_flood_behind_one_circuit_is_that_circuits_affair() {
    let _alone = alone();
    let lines = "[[dhcp.subnet]]\nsubnet = \"10.7.0.0/16\"\nmode = \"server\"\nrelay = \
                 true\nclients = \"any\"\n\
                 pools = [\"10.7.1.0-10.7.1.255\"]";
    let site = Site::new("hostile-circuit", DATAPATHS[0], lines);
    let (_client, wire) = stranger(&site.net);
    let relayed = |n: u32, circuit: &[u8]| {
        let id = [&[1, circuit.len() as u8], circuit].concat();
        let mut message = Dhcp::discover(mac(n), n).with(82, &id);
        message.giaddr = Ipv4Addr::new(10, 7, 0, 1);
        message
    };
    for n in 0..2000 {
        wire.say(&relayed(n, b"port-1"));
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let status = || {
        let said =
            run(ringboot(&site.net, &["status", "--json"], &site.scratch), COMMAND).ok().stdout;
        let status: serde_json::Value = serde_json::from_str(&said).unwrap();
        (status["dhcp"]["received"].as_u64().unwrap(), status["dhcp"]["leases"].as_u64().unwrap())
    };
    let until = Instant::now() + 10 * ANSWER;
    while status().0 < 2000 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(status().1, 128, "offers of one port");
    for n in 5000..5100 {
        wire.say(&relayed(n, b"port-2"));
    }
    while status().0 < 2100 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(status().1, 228, "and of another");
    site.server.stop();
}

fn row(address: u32, number: u32, end_s: u64) -> LeaseChange {
    LeaseChange::Bind(Box::new(Lease {
        address: Ipv4Addr::from(address),
        mac: mac(0x0200_0000 + number),
        client_id: None,
        uuid: None,
        firmware: None,
        host_name: None,
        state: LeaseRowState::Bound,
        start_s: end_s - 80_000,
        end_s,
    }))
}

/// A store with so many leases that run, as the product writes them.
fn write_leases(state: &Path, count: u32, address: impl Fn(u32) -> u32) {
    std::fs::create_dir_all(state).unwrap();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut store = SqliteStore::open(&state.join("ringboot.db")).unwrap();
    for from in (0..count).step_by(50_000) {
        let to = count.min(from + 50_000);
        store
            .commit(&(from..to).map(|n| row(address(n), n, now + 40_000)).collect::<Vec<_>>())
            .unwrap();
    }
}

/// What a machine of before would take minutes for. RINGBOOT_LEASES says how many
/// (docs/measuring.md has the figures of a million).
#[test]
fn a_start_with_many_leases_is_short_and_takes_little_more_than_they_do() {
    let count: u32 =
        std::env::var("RINGBOOT_LEASES").map_or(100_000, |count| count.parse().unwrap());
    let _alone = alone();
    let scratch = Scratch::new("hostile-start");
    let net = Net::new();
    let first = u32::from(Ipv4Addr::new(10, 0, 1, 0));
    write_leases(&scratch.path().join("state"), count, |n| first + n);
    let subnet = "[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\nmode = \"server\"\nrelay = \
                  true\nclients = \"any\"\n\
                  pools = [\"10.0.1.0-10.31.255.255\"]\n";
    let text = format!("{}clients = \"any\"\n{subnet}", server::configuration(&scratch));
    let began = Instant::now();
    let server = Server::start(&net, &scratch, &text);
    let took = began.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = status.lines().find_map(|line| {
        line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let peak_mb = peak.unwrap() / 1024;
    // Processor time, user's and kernel's: on a busy machine the clock on the wall tells of others.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    let spent = Duration::from_millis(ticks * 10);
    println!(
        "{count} leases: READY after {took:?}, {spent:?} of a processor, at most {peak_mb} MiB"
    );
    assert!(server.log().contains(&format!(": {count}\n")), "{}", server.log());
    assert!(spent < Duration::from_secs(2) + Duration::from_micros(20) * count, "{spent:?}");
    assert!(peak_mb < 80 + u64::from(count) * 400 / (1 << 20), "{peak_mb} MiB");
    server.stop();
}

/// Times differ from one call to the next.
fn without_times(said: &str) -> String {
    said.replace("for 60 min", "for 1 h")
        .replace("for 59 min", "for 1 h")
        .replace("for 58 min", "for 1 h")
}

/// An operator sees what a machine with a broken check has done, and lets go of it, while the
/// server runs and while it does not.
#[test]
fn what_was_declined_is_seen_and_let_go_of_by_command() {
    let _alone = alone();
    let site = Site::new("hostile-lease-command", DATAPATHS[0], "");
    let (_client, wire) = stranger(&site.net);
    let say = |arguments: &[&str]| run(ringboot(&site.net, arguments, &site.scratch), COMMAND);
    assert_eq!(say(&["lease", "list"]).ok().stdout, "no address\n");
    let given = lease(&wire, mac(2)).unwrap();
    let declined: HashSet<Ipv4Addr> =
        (0..20).filter_map(|xid| decline(&wire, mac(1), xid, SILENCE)).collect();
    assert_eq!(declined.len(), 4);
    site.server.log_line("declined 4 addresses within an hour", ANSWER);
    let all = say(&["lease", "list"]).ok().stdout;
    assert!(all.contains(&format!("{given:<15}  {}  bound     for ", mac(2))), "{all}");
    for address in &declined {
        assert!(all.contains(&format!("{address:<15}  {}  declined  for ", mac(1))), "{all}");
    }
    let silenced =
        format!("{} declined so many addresses that it gets none from the pools for ", mac(1));
    assert!(all.contains(&silenced) && all.ends_with("1 bound, 4 declined\n"), "{all}");
    let filters = ["--only=declined", &format!("--machine={}", mac(1)), "--subnet=192.168.4.0/24"];
    for filter in filters {
        let some = say(&["lease", "list", filter, "--json"]).ok().stdout;
        let some: serde_json::Value = serde_json::from_str(&some).unwrap();
        let count = if filter.contains("subnet") { 5 } else { 4 };
        assert_eq!(some["leases"].as_array().unwrap().len(), count, "{filter}: {some}");
    }
    let none = say(&["lease", "list", "--subnet=10.0.0.0/8"]).ok().stdout;
    assert!(none.ends_with("no address\n"), "{none}");

    let refused = say(&["lease", "free", &given.to_string()]).failed();
    let is_live =
        refused.stderr.contains("a machine has this address") && refused.stderr.contains("--force");
    assert!(is_live && refused.status.code() == Some(1), "{}", refused.stderr);
    let nothing = say(&["lease", "free", "192.168.4.200"]).failed();
    assert!(
        nothing.stderr.contains("neither leased nor offered") && nothing.status.code() == Some(1),
        "{}",
        nothing.stderr
    );
    for (wrong, word) in [
        (["lease", "free", "node1"], "neither an IP address nor a hardware address"),
        (["lease", "free", "fe80::1"], "IPv4"),
        (["lease", "list", "--only=free"], "one of bound, offered, ended"),
        (["lease", "list", "--subnet=10.0.0.0"], "10.0.0.0"),
    ] {
        let said = say(&wrong).failed();
        assert!(
            said.status.code() == Some(2) && said.stderr.contains(word),
            "{wrong:?}: {}",
            said.stderr
        );
    }

    assert_eq!(
        wire.ask(&Dhcp::discover(mac(1), 77), SILENCE).map(|answer| answer.kind()),
        None,
        "it is silenced"
    );
    let freed = say(&["lease", "free", &mac(1).to_string()]).ok().stdout;
    assert_eq!(
        freed,
        format!("4 addresses are free, and the declines of {} no longer count\n", mac(1))
    );
    assert_eq!(say(&["lease", "list"]).ok().stdout.lines().last(), Some("1 bound"));
    let again = decline(&wire, mac(1), 78, ANSWER).expect("it gets an address again");
    let until = Instant::now() + ANSWER;
    while !say(&["lease", "list"])
        .ok()
        .stdout
        .contains(&format!("{again:<15}  {}  declined", mac(1)))
    {
        assert!(Instant::now() < until, "{again} is not declined");
    }
    let forced = say(&["lease", "free", &given.to_string(), "--force"]).ok().stdout;
    assert_eq!(forced, format!("{given} is free: it was bound ({})\n", mac(2)));

    let running = say(&["lease", "list"]).ok().stdout;
    assert!(running.ends_with("1 declined\n"), "{running}");
    let Site { server, net, scratch, .. } = site;
    server.stop();
    let say = |arguments: &[&str]| run(ringboot(&net, arguments, &scratch), COMMAND);
    let stopped = say(&["lease", "list"]).ok().stdout;
    assert_eq!(without_times(&running), without_times(&stopped), "the same sentences");
    let freed = say(&["lease", "free", "--declined"]).ok().stdout;
    assert_eq!(freed, "1 address is free, and no decline counts any longer\n");
    let nothing = say(&["lease", "free", "--declined"]).failed();
    assert!(nothing.stderr.contains("nothing to free"), "{}", nothing.stderr);
    assert_eq!(say(&["lease", "list"]).ok().stdout, "no address\n");
}

/// How long this thread has waited for a processor that others had: the second number of its
/// schedstat (Documentation/scheduler/sched-stats.rst of Linux), in nanoseconds.
fn waited_for_processor(thread: &Path) -> Duration {
    let said = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    Duration::from_nanos(said.split_whitespace().nth(1).unwrap().parse().unwrap())
}

/// The directory of a thread of this process with this name.
fn thread_named(pid: u32, name: &str) -> PathBuf {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|thread| thread.unwrap().path());
    let is_it = |thread: &PathBuf| {
        std::fs::read_to_string(thread.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    threads.into_iter().find(is_it).unwrap_or_else(|| panic!("no thread {name}"))
}

/// A thousand subnets of four pools each, a hundred thousand leases: while a reload goes through
/// them, no client waits.
#[test]
fn a_reload_with_many_leases_and_pools_is_no_pause() {
    const SUBNETS: u32 = 1000;
    const LEASES: u32 = 100_000;
    let _alone = alone();
    let scratch = Scratch::new("hostile-reload");
    let net = Net::new();
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    write_leases(&scratch.path().join("state"), LEASES, |n| first + n / 100 * 256 + 10 + n % 100);
    let mut subnets = String::new();
    for n in 0..SUBNETS {
        let net = format!("10.{}.{}", n >> 8, n & 255);
        let pools = [10, 40, 70, 100]
            .map(|from| format!("\"{net}.{from}-{net}.{}\"", from + 25))
            .join(", ");
        subnets.push_str(&format!(
            "[[dhcp.subnet]]\nsubnet = \"{net}.0/24\"\nmode = \"server\"\nrelay = true\nclients = \
             \"any\"\npools = [{pools}]\n"
        ));
    }
    let text = format!("{}clients = \"any\"\n{subnets}", server::configuration(&scratch));
    let server = Server::start(&net, &scratch, &text);
    server.log_line("no other DHCP server answers", Duration::from_secs(30));
    let (_client, wire) = stranger(&net);
    // Whoever is not known yet may wait until its address has been looked for on the wire.
    wire.ask(&Dhcp::discover(mac(7), u32::MAX), ANSWER).expect("an OFFER before any reload");
    let threads = [thread_named(server.pid(), "rb-dhcp"), "/proc/thread-self".into()];
    let waited = || threads.iter().map(|thread| waited_for_processor(thread)).sum::<Duration>();
    // The slowest answer, less what either side waited for a processor meanwhile: that is other
    // programs' doing.
    let slowest_while = |from: u32, goes_on: &dyn Fn() -> bool| {
        let mut slowest = Duration::ZERO;
        let mut xid = from;
        while goes_on() {
            let (asked, before) = (Instant::now(), waited());
            let offer =
                wire.ask(&Dhcp::discover(mac(7), xid), ANSWER).expect("an OFFER during a reload");
            slowest = slowest.max(asked.elapsed().saturating_sub(waited() - before));
            assert_eq!(offer.kind(), 2);
            xid += 1;
        }
        slowest
    };
    let until = Instant::now() + Duration::from_secs(1);
    let quiet = slowest_while(1 << 24, &|| Instant::now() < until);
    let mut slowest = Duration::ZERO;
    let mut reloads = Vec::new();
    for n in 0..3 {
        let command = ringboot(&net, &["reload"], &scratch);
        let reloading = std::thread::spawn(move || run(command, COMMAND));
        slowest = slowest.max(slowest_while(n << 20, &|| !reloading.is_finished()));
        reloads.push(reloading.join().unwrap().ok().stdout);
    }
    println!(
        "slowest OFFER during three reloads: {slowest:?}, and without: {quiet:?}; {reloads:?}"
    );
    for (said, generation) in reloads.iter().zip(2..) {
        assert!(said.starts_with(&format!("reloaded: generation {generation}\n")), "{said}");
    }
    assert!(slowest < Duration::from_millis(100), "{slowest:?}, and {quiet:?} without a reload");
    server.stop();
}
