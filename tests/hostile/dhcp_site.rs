//! What clocks, own addresses and other DHCP servers of the segment do to the leases.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ringboot::model::machine::Mac;

use super::DATAPATHS;
use super::common::net::{Client, Net, SERVER};
use super::common::server::{self, Server};
use super::common::wire::{Dhcp, Wire, mac};
use super::common::{self, Scratch};

/// Of the bridge.
const SERVER_MAC: Mac = Mac([0x52, 0x54, 0, 0, 4, 0x96]);
const LIMIT: Duration = Duration::from_secs(30);
/// Long enough for an answer that should not come.
const SILENCE: Duration = Duration::from_millis(700);

/// A bridge with one client's wire; the server comes as a test wants it.
struct Segment {
    wire: Wire,
    client: Client,
    net: Net,
    scratch: Scratch,
}

impl Segment {
    fn new(name: &str) -> Self {
        let (scratch, net) = (Scratch::new(name), Net::new());
        let client = net.client("52:54:00:c1:51:01");
        Self { wire: Wire::open(client.name(), "eth0"), client, net, scratch }
    }

    /// The classic network with a pool of three addresses, for everybody.
    fn configuration(&self, datapath: &str) -> String {
        let classic = server::configuration(&self.scratch).replace("192.168.4.100", "192.168.4.12");
        format!("{classic}clients = \"any\"\n[tuning]\ndatapath = \"{datapath}\"\n")
    }

    /// The server, when it has found no other one.
    fn serve(&self, configuration: &str, environment: &[(&str, String)]) -> Server {
        let server = Server::start_in(&self.net, &self.scratch, configuration, environment);
        server.log_line("no other DHCP server answers", LIMIT);
        server
    }

    /// Asks until an address is acknowledged: the first words may fall into a look for other
    /// servers.
    fn lease(&self, number: u32) -> Ipv4Addr {
        let mut tries = (0..5).map(|_| self.wire.lease(mac(number), number, SILENCE));
        tries.find_map(|lease| lease).expect("an address")
    }

    fn is_offered(&self, number: u32) -> bool {
        self.wire.ask(&Dhcp::discover(mac(number), 1000 + number), SILENCE).is_some()
    }

    /// The word that a subnet is silent reaches the log a moment before it reaches the thread that
    /// offers.
    fn wait_until_nothing_is_offered(&self, number: u32) {
        let until = Instant::now() + LIMIT;
        while self.is_offered(number) {
            assert!(Instant::now() < until, "still offered");
        }
    }

    /// The kind of the answer that a client with this address gets to a broadcast REQUEST
    /// (REBINDING).
    fn renew(&self, client: Mac, address: Ipv4Addr) -> Option<u8> {
        let with_prefix = format!("{address}/24");
        self.client.ip(&["addr", "add", &with_prefix, "dev", "eth0"]);
        let request = Dhcp { ciaddr: address, ..Dhcp::new(3, client, 77) };
        let answer = self.wire.ask(&request, SILENCE);
        self.client.ip(&["addr", "del", &with_prefix, "dev", "eth0"]);
        answer.map(|answer| answer.kind())
    }

    /// How long each lease of the store lasts from the time that the store knows.
    fn left_s(&self) -> Vec<i64> {
        let database =
            rusqlite::Connection::open(self.scratch.path().join("state/ringboot.db")).unwrap();
        let mut statement = database.prepare("SELECT end_s - seen_s FROM leases, clock").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }
}

/// The wall clock of a process, set while it runs. Its other clocks go on as they are.
struct WallClock(PathBuf);

impl WallClock {
    fn new(scratch: &Scratch, ahead_s: i64) -> Self {
        let clock = Self(scratch.path().join("clock"));
        clock.set(ahead_s);
        clock
    }

    fn set(&self, ahead_s: i64) {
        let next = self.0.with_extension("next");
        std::fs::write(&next, format!("{ahead_s:+}")).unwrap();
        std::fs::rename(next, &self.0).unwrap();
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        common::need(&[("faketime", "faketime")]);
        let library =
            |directory: std::fs::DirEntry| directory.path().join("faketime/libfaketimeMT.so.1");
        let library = std::fs::read_dir("/usr/lib")
            .unwrap()
            .map(|one| library(one.unwrap()))
            .find(|path| path.exists());
        let shown = |path: &Path| path.display().to_string();
        vec![
            ("LD_PRELOAD", shown(&library.expect("libfaketime"))),
            ("FAKETIME_TIMESTAMP_FILE", shown(&self.0)),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
    }
}

const HOUR_S: i64 = 3600;
const TWO_YEARS_S: i64 = 730 * 24 * HOUR_S;

#[test]
fn a_step_of_the_wall_clock_in_either_direction_ends_no_lease() {
    for datapath in DATAPATHS {
        let segment = Segment::new("hostile-clock-steps");
        let (clock, configuration) =
            (WallClock::new(&segment.scratch, 0), segment.configuration(datapath));
        let server = segment.serve(&configuration, &clock.environment());
        let first = segment.lease(1);
        let mut leased = vec![first, segment.lease(2), segment.lease(3)];
        leased.sort_unstable();
        leased.dedup();
        assert_eq!(leased.len(), 3);
        assert!(!segment.is_offered(4), "the pool is full");
        clock.set(HOUR_S);
        server.log_line("the clock was set forward by 3600 s", LIMIT);
        assert!(!segment.is_offered(4), "the leases have 597 s left");
        clock.set(-HOUR_S);
        server.log_line("the clock was set back by 7200 s", LIMIT);
        assert!(!segment.is_offered(4), "the leases have 595 s left");
        assert_eq!(segment.renew(mac(1), first), Some(5));
        server.stop();
        // The next run knows when they end, whatever its wall clock says.
        for (ahead_s, step_s) in [(-HOUR_S, 0), (0, HOUR_S)] {
            clock.set(ahead_s + step_s);
            let server = Server::start_in(
                &segment.net,
                &segment.scratch,
                &configuration,
                &clock.environment(),
            );
            assert!(!segment.is_offered(4));
            assert_eq!(segment.renew(mac(1), first), Some(5));
            server.stop();
        }
    }
}

#[test]
fn leases_of_a_clock_that_was_two_years_ahead_are_not_immortal() {
    let segment = Segment::new("hostile-clock-ahead");
    let (clock, configuration) =
        (WallClock::new(&segment.scratch, TWO_YEARS_S), segment.configuration("epoll"));
    let server = segment.serve(&configuration, &clock.environment());
    let (first, _) = (segment.lease(1), segment.lease(2));
    clock.set(0);
    server.log_line("the clock was set back by 63072000 s", LIMIT);
    assert_eq!(segment.renew(mac(1), first), Some(5));
    segment.lease(3);
    server.stop();
    let left_s = segment.left_s();
    assert!(
        left_s.len() == 3 && left_s.iter().all(|left_s| (500..=660).contains(left_s)),
        "{left_s:?}"
    );
}

/// What ends a server, and what its clock says when it starts again.
#[test]
fn clocks_that_are_left_wrong_over_stops_kills_and_boots_double_no_lease() {
    let segment = Segment::new("hostile-clock-left");
    let (clock, configuration) =
        (WallClock::new(&segment.scratch, 0), segment.configuration("epoll"));
    let mut server = segment.serve(&configuration, &clock.environment());
    let first = segment.lease(1);
    for number in [2, 3] {
        segment.lease(number);
    }
    let ends: [(&str, i64); 8] = [
        ("stop", 8 * HOUR_S),
        ("kill", -TWO_YEARS_S),
        ("boot", TWO_YEARS_S),
        ("kill", 20 * TWO_YEARS_S),
        ("boot", -8 * HOUR_S),
        ("stop", -TWO_YEARS_S),
        ("boot", 0),
        ("kill", 60),
    ];
    let mut boot =
        String::from(std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim());
    for (number, (how, ahead_s)) in ends.into_iter().enumerate() {
        // Set in the last moment of one server, or while none runs.
        if number.is_multiple_of(2) {
            clock.set(ahead_s);
        }
        match how {
            "stop" => server.stop(),
            _ => server.kill(),
        }
        clock.set(ahead_s);
        if how == "boot" {
            boot = format!("boot-{number}");
        }
        let (net, environment) = (&segment.net, clock.environment());
        server =
            Server::start_after_boot(net, &segment.scratch, &configuration, &environment, &boot);
        server.log_line("no other DHCP server answers", LIMIT);
        assert!(!segment.is_offered(4), "{how} and a clock that is {ahead_s} s ahead");
        assert_eq!(
            segment.renew(mac(1), first),
            Some(5),
            "{how} and a clock that is {ahead_s} s ahead"
        );
    }
    server.stop();
    let left_s = segment.left_s();
    assert!(
        left_s.len() == 3 && left_s.iter().all(|left_s| (400..=660).contains(left_s)),
        "{left_s:?}"
    );
}

/// An OFFER or an ACK of a server that does not exist, to whoever looks.
fn forged_answer(look: &[u8], kind: u8, yiaddr: Ipv4Addr) -> Option<Vec<u8>> {
    let (_, payload) = ringboot::dhcp::frame::parse_ipv4_datagram(look.get(14..)?)?;
    let looker = ringboot::dhcp::other_servers::find_look_client(payload)?;
    let xid = u32::from_be_bytes(payload[4..8].try_into().unwrap());
    let nobody = Ipv4Addr::new(192, 168, 4, 66);
    let reply = Dhcp { mac: looker, ..Dhcp::new(kind, looker, xid) }.with(54, &nobody.octets());
    let (from, to) = (SocketAddrV4::new(nobody, 67), SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
    ringboot::dhcp::frame::build_ethernet_frame(
        mac(66),
        Mac([0xff; 6]),
        from,
        to,
        &reply.reply_payload(yiaddr),
    )
}

impl Segment {
    /// The next look of a server.
    fn next_look(&self) -> Vec<u8> {
        let until = Instant::now() + LIMIT;
        loop {
            let frame = self.wire.hear(until).expect("a look");
            if forged_answer(&frame, 2, Ipv4Addr::UNSPECIFIED).is_some() {
                return frame;
            }
        }
    }
}

/// A laptop with connection sharing, or somebody who means harm.
#[test]
fn forged_answers_to_a_look_never_take_the_leases_away_that_were_given() {
    let forge = &|datapath: &str| {
        let segment = Segment::new(&format!("hostile-forged-{datapath}"));
        let server = segment.serve(&segment.configuration(datapath), &[]);
        let first = segment.lease(1);
        let offered = Ipv4Addr::new(192, 168, 4, 30);
        // A ProxyDHCP server's OFFER has no address, and a NAK gives none.
        let look = segment.next_look();
        for kind in [2, 6] {
            segment.wire.send(&forged_answer(&look, kind, Ipv4Addr::UNSPECIFIED).unwrap());
        }
        assert!(segment.is_offered(2));
        // One packet makes it ask once more, and go on.
        segment.wire.send(&forged_answer(&look, 2, offered).unwrap());
        server.log_line("it is asked once more", LIMIT);
        assert!(segment.is_offered(2));
        // Every look is answered: no new clients, and all that was given goes on.
        let look = segment.next_look();
        segment.wire.send(&forged_answer(&look, 2, offered).unwrap());
        server.log_line("ringboot is silent on 192.168.4.0/24", LIMIT);
        segment.wait_until_nothing_is_offered(3);
        assert_eq!(segment.renew(mac(1), first), Some(5));
        let request = Dhcp::request(mac(1), 78, SERVER.parse().unwrap(), first);
        assert_eq!(segment.wire.ask(&request, SILENCE).map(|answer| answer.kind()), Some(5));
        let reboot = Dhcp::new(3, mac(1), 79).with(50, &first.octets());
        assert_eq!(segment.wire.ask(&reboot, SILENCE).map(|answer| answer.kind()), Some(5));
        server.stop();
    };
    // Each waits a quarter of a minute for a look.
    std::thread::scope(|scope| {
        DATAPATHS.iter().for_each(|datapath| drop(scope.spawn(move || forge(datapath))))
    });
}

/// The host's end of a wire, the client's end in a namespace of its own.
fn cable(net: &Net, client: &Client, interface: &str) {
    net.ip(&[
        "link",
        "add",
        interface,
        "type",
        "veth",
        "peer",
        "name",
        "wire0",
        "netns",
        client.name(),
    ]);
    net.ip(&["link", "set", interface, "up"]);
    client.ip(&["link", "set", "wire0", "up"]);
}

/// Ifupdown's aliases and keepalived's addresses have labels; some come late, and some go.
#[test]
fn own_addresses_are_known_as_they_come_and_go_whatever_their_label() {
    for datapath in DATAPATHS {
        let segment = Segment::new("hostile-own-addresses");
        let host = segment.net.client("52:54:00:c1:51:02");
        cable(&segment.net, &host, "e0");
        segment.net.ip(&["addr", "del", &format!("{SERVER}/24"), "dev", "br0"]);
        segment.net.ip(&["addr", "add", "10.9.0.1/24", "dev", "e0"]);
        segment.net.ip(&["addr", "add", &format!("{SERVER}/24"), "dev", "e0", "label", "e0:0"]);
        let configuration = segment.configuration(datapath).replace("\"br0\"", "\"e0\"");
        let server = segment.serve(&configuration, &[]);
        let wire = Wire::open(host.name(), "wire0");
        let ours: Ipv4Addr = SERVER.parse().unwrap();
        let ask = |number| {
            let discover = Dhcp::discover(mac(number), number);
            let mut tries = (0..5).map(|_| wire.ask(&discover, SILENCE));
            tries.find_map(|answer| answer).expect("an OFFER")
        };
        let offer = ask(1);
        assert_eq!(
            (offer.server(), offer.message.siaddr(), *offer.source.ip()),
            (Some(ours), ours, ours)
        );

        // Two of the three addresses of the pool are the server's own now, by whatever interface.
        segment.net.ip(&["addr", "add", "192.168.4.10/24", "dev", "e0", "label", "e0:vip"]);
        segment.net.ip(&["addr", "add", "192.168.4.11/32", "dev", "lo"]);
        let until = Instant::now() + LIMIT;
        for number in 10.. {
            let answer = wire.ask(&Dhcp::discover(mac(number), number), SILENCE);
            if answer.is_none_or(|answer| answer.message.yiaddr() == Ipv4Addr::new(192, 168, 4, 12))
            {
                break;
            }
            assert!(Instant::now() < until, "own addresses are given away");
        }
        server.stop();
    }
}

/// The interface has an address of another network first; the subnet's comes when a client has been
/// heard already.
#[test]
fn an_address_that_comes_late_is_the_servers_name_from_then_on() {
    for datapath in DATAPATHS {
        let segment = Segment::new("hostile-late-address");
        let host = segment.net.client("52:54:00:c1:51:02");
        cable(&segment.net, &host, "e0");
        segment.net.ip(&["addr", "del", &format!("{SERVER}/24"), "dev", "br0"]);
        let configuration = segment.configuration(datapath).replace("\"br0\"", "\"e0\"");
        let server = Server::start(&segment.net, &segment.scratch, &configuration);
        server.log_line("interface e0 has no IPv4 address", LIMIT);
        segment.net.ip(&["addr", "add", "10.9.0.1/24", "dev", "e0"]);
        server.log_line("interface e0 is there", LIMIT);
        let wire = Wire::open(host.name(), "wire0");
        assert!(wire.ask(&Dhcp::discover(mac(1), 1), SILENCE).is_none(), "not its network");
        segment.net.ip(&["addr", "add", &format!("{SERVER}/24"), "dev", "e0"]);
        server.log_line("192.168.4.0/24 is served", LIMIT);
        let ours: Ipv4Addr = SERVER.parse().unwrap();
        let mut tries = (0..5).map(|_| wire.ask(&Dhcp::discover(mac(1), 1), SILENCE));
        let offer = tries.find_map(|answer| answer).expect("an OFFER");
        assert_eq!(
            (offer.server(), offer.message.siaddr(), *offer.source.ip()),
            (Some(ours), ours, ours)
        );
        server.stop();
    }
}

/// A second ringboot, on a host of its own.
struct Second {
    server: Option<Server>,
    host: Client,
    scratch: Scratch,
    address: Ipv4Addr,
}

impl Second {
    fn new(segment: &Segment, last: u8) -> Self {
        let host = segment.net.client(&format!("52:54:00:c1:52:{last:02x}"));
        let address = Ipv4Addr::new(192, 168, 4, last);
        host.ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        Self { server: None, host, scratch: Scratch::new("hostile-second"), address }
    }

    /// With the same pool, as one who copies a configuration has it.
    fn configuration(&self, datapath: &str) -> String {
        let classic = server::configuration(&self.scratch).replace("\"br0\"", "\"eth0\"");
        let classic = classic.replace("192.168.4.100", "192.168.4.12");
        format!("{classic}clients = \"any\"\n[tuning]\ndatapath = \"{datapath}\"\n")
    }

    fn start(&mut self, datapath: &str) {
        self.server =
            Some(Server::start_on(&self.host, &self.scratch, &self.configuration(datapath)));
    }
}

impl Segment {
    /// Who acknowledges what to whom, while this machine and that ask for so long and take whatever
    /// is offered by whomever.
    fn acknowledged(&self, from: u32, time: Duration) -> Vec<(Ipv4Addr, Ipv4Addr, Mac)> {
        let (until, mut found) = (Instant::now() + time, Vec::new());
        for number in from.. {
            let machine = mac(number % 5 + from);
            self.wire.say(&Dhcp::discover(machine, number));
            let pause = Instant::now() + Duration::from_millis(50);
            while let Some(answer) = self.wire.answer(pause) {
                let (kind, address) = (answer.kind(), answer.message.yiaddr());
                let Some(server) = answer.server() else { continue };
                let to = Mac(answer.message.chaddr().first_chunk().copied().unwrap());
                match kind {
                    2 => drop(self.wire.say(&Dhcp::request(
                        to,
                        answer.message.xid(),
                        server,
                        address,
                    ))),
                    5 if !address.is_unspecified() => found.push((server, address, to)),
                    _ => {}
                }
            }
            if Instant::now() > until {
                break;
            }
        }
        found
    }
}

/// No address has two owners, and whoever acknowledged last has acknowledged all of the last.
fn assert_one_owner_each(acknowledged: &[(Ipv4Addr, Ipv4Addr, Mac)]) {
    let mut owners = std::collections::HashMap::new();
    for (server, address, machine) in acknowledged {
        let owner = owners.entry(address).or_insert(machine);
        assert_eq!(
            *owner, machine,
            "{server} gave {address} to a second machine: {acknowledged:?}"
        );
    }
}

/// The power comes back to a site.
#[test]
fn of_two_ringboots_that_start_together_one_serves() {
    for (datapath, last) in [("io_uring", 2), ("epoll", 200)] {
        let segment = Segment::new("hostile-two");
        let mut second = Second::new(&segment, last);
        let first = std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                Server::start_in(
                    &segment.net,
                    &segment.scratch,
                    &segment.configuration(datapath),
                    &[],
                )
            });
            second.start(datapath);
            first.join().unwrap()
        });
        let acknowledged = segment.acknowledged(100, Duration::from_secs(4));
        assert_one_owner_each(&acknowledged);
        let ours: Ipv4Addr = SERVER.parse().unwrap();
        let lower = ours.min(second.address);
        assert!(
            !acknowledged.is_empty() && acknowledged.iter().all(|(server, ..)| *server == lower),
            "{acknowledged:?}"
        );
        let standby = if lower == ours { second.server.as_ref().unwrap() } else { &first };
        standby.log_line("ringboot is silent on 192.168.4.0/24", LIMIT);
        first.stop();
        second.server.take().unwrap().stop();
    }
}

#[test]
fn a_ringboot_that_regains_its_wire_finds_who_took_over_and_keeps_its_own_leases() {
    for datapath in DATAPATHS {
        let segment = Segment::new("hostile-wire");
        let mut second = Second::new(&segment, 2);
        second.start(datapath);
        second.server.as_ref().unwrap().log_line("no other DHCP server answers", LIMIT);
        let own = segment.lease(1);
        segment.net.ip(&["link", "set", second.host.port(), "down"]);
        let first = segment.serve(&segment.configuration(datapath), &[]);
        let taken = segment.lease(2);
        segment.net.ip(&["link", "set", second.host.port(), "up"]);
        second.server.as_ref().unwrap().log_line("ringboot is silent on 192.168.4.0/24", LIMIT);
        let acknowledged = segment.acknowledged(100, Duration::from_secs(1));
        let ours: Ipv4Addr = SERVER.parse().unwrap();
        assert!(acknowledged.iter().all(|(server, ..)| *server == ours), "{acknowledged:?}");
        assert_eq!(segment.renew(mac(2), taken), Some(5), "the one that took over");
        let request = Dhcp::request(mac(1), 78, second.address, own);
        assert_eq!(
            segment.wire.ask(&request, SILENCE).map(|answer| answer.kind()),
            Some(5),
            "the one that was cut off"
        );
        first.stop();
        second.server.take().unwrap().stop();
    }
}

#[test]
fn a_reload_during_a_look_does_not_end_it() {
    let segment = Segment::new("hostile-reload-look");
    let configuration = segment.configuration("io_uring");
    let server = Server::start_in(&segment.net, &segment.scratch, &configuration, &[]);
    let mut reload = segment.net.command(env!("CARGO_BIN_EXE_ringboot"));
    reload.args(["reload", "--config"]).arg(segment.scratch.path().join("ringboot.toml"));
    std::fs::write(
        segment.scratch.path().join("ringboot.toml"),
        format!("{configuration}# another word\n"),
    )
    .unwrap();
    common::process::run(reload, LIMIT).ok();
    while !segment.is_offered(1) {}
    assert!(
        server.log().contains("no other DHCP server answers"),
        "offered before the look was over:\n{}",
        server.log()
    );
    server.stop();
}

/// A host with a fixed address in the pool: firmware and iPXE would take it all the same.
#[test]
fn an_address_that_a_host_uses_is_not_offered_and_only_the_first_offer_waits() {
    for datapath in DATAPATHS {
        let segment = Segment::new("hostile-conflict");
        let (host, at) = (segment.net.client("52:54:00:c1:51:07"), Ipv4Addr::new(192, 168, 4, 11));
        host.ip(&["addr", "add", &format!("{at}/24"), "dev", "eth0"]);
        let server = segment.serve(&segment.configuration(datapath), &[]);
        let mut leased = vec![segment.lease(1), segment.lease(2)];
        leased.sort_unstable();
        assert_eq!(leased, [Ipv4Addr::new(192, 168, 4, 10), Ipv4Addr::new(192, 168, 4, 12)]);
        assert!(!segment.is_offered(3));
        server.log_line("192.168.4.11 is in use by 52:54:00:c1:51:07", LIMIT);
        let asked = Instant::now();
        assert!(segment.is_offered(1));
        assert!(
            asked.elapsed() < Duration::from_millis(150),
            "its own address waits for nobody: {:?}",
            asked.elapsed()
        );
        server.stop();
    }
}

#[test]
fn a_first_offer_waits_a_moment_and_delays_nobody_else() {
    for datapath in DATAPATHS {
        let segment = Segment::new("hostile-probes");
        let configuration =
            segment.configuration(datapath).replace("192.168.4.12\"", "192.168.4.240\"");
        let server = segment.serve(&configuration, &[]);
        segment.lease(1);
        // A server that has no processor for a while makes single times longer: the middle one of
        // some counts.
        let first_offer = |number: u32| {
            let asked = Instant::now();
            let offer = segment.wire.ask(&Dhcp::discover(mac(number), number), LIMIT);
            assert!(offer.expect("an OFFER").server().is_some());
            asked.elapsed()
        };
        let took = middle([200, 201, 202, 203, 204].map(first_offer));
        assert!(
            (Duration::from_millis(150)..Duration::from_millis(500)).contains(&took),
            "{took:?}"
        );

        // A machine whose address is known to be free waits for none of those that came before it.
        let overtakes = |first: u32| {
            let others = first..first + 57;
            others.for_each(|n| assert!(segment.wire.say(&Dhcp::discover(mac(n), n))));
            let asked = Instant::now();
            assert!(segment.wire.ask(&Dhcp::discover(mac(1), first + 1000), LIMIT).is_some());
            asked.elapsed()
        };
        let took = middle([3, 60, 117].map(overtakes));
        assert!(took < Duration::from_millis(150), "{took:?}");
        server.stop();
    }
}

fn middle<const N: usize>(mut times: [Duration; N]) -> Duration {
    times.sort_unstable();
    times[N / 2]
}

/// A router with proxy ARP, or somebody who wants no address to be given.
#[test]
fn who_answers_for_every_address_is_not_believed_for_long() {
    for datapath in DATAPATHS {
        let segment = Segment::new("hostile-proxy-arp");
        let host = segment.net.client("52:54:00:c1:51:07");
        host.ip(&["addr", "add", "192.168.4.3/24", "dev", "eth0"]);
        host.ip(&["route", "add", "local", "192.168.4.0/25", "dev", "lo"]);
        let configuration =
            segment.configuration(datapath).replace("192.168.4.12\"", "192.168.4.60\"");
        let server = segment.serve(&configuration, &[]);
        let asked = Instant::now();
        segment.lease(1);
        server.log_line("and for more addresses than one host has", LIMIT);
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        for number in 2..6 {
            segment.lease(number);
        }
        server.stop();
    }
}

/// Behind a relay agent there is no ARP: the address is pinged.
#[test]
fn behind_a_relay_an_address_that_answers_a_ping_is_not_offered() {
    for datapath in DATAPATHS {
        let segment = Segment::new("hostile-ping");
        let relay = Ipv4Addr::new(192, 168, 4, 126);
        segment.client.ip(&["addr", "add", &format!("{relay}/24"), "dev", "eth0"]);
        for address in ["10.7.0.1/32", "10.7.0.10/32"] {
            segment.client.ip(&["addr", "add", address, "dev", "lo"]);
        }
        segment.net.ip(&["route", "add", "10.7.0.0/24", "via", &relay.to_string()]);
        let far = "[[dhcp.subnet]]\nsubnet = \"10.7.0.0/24\"\nrelay = true\nmode = \
                   \"server\"\nclients = \"any\"\n\
                   pools = [\"10.7.0.10-10.7.0.11\"]\n[tuning]\n";
        let server =
            segment.serve(&segment.configuration(datapath).replace("[tuning]\n", far), &[]);
        let ours: Ipv4Addr = SERVER.parse().unwrap();
        let to = SocketAddrV4::new(ours, 67);
        let ask = |number: u32| {
            let message =
                Dhcp { giaddr: Ipv4Addr::new(10, 7, 0, 1), ..Dhcp::discover(mac(number), number) };
            let until = Instant::now() + Duration::from_secs(3);
            segment.wire.send(&message.frame_from(SocketAddrV4::new(relay, 67), SERVER_MAC, to));
            while let Some(answer) = segment.wire.answer(until) {
                if answer.message.xid() == number {
                    return Some(answer.message.yiaddr());
                }
            }
            None
        };
        assert_eq!(ask(1), Some(Ipv4Addr::new(10, 7, 0, 11)));
        assert_eq!(ask(2), None);
        server.log_line("10.7.0.10 is in use by a host", LIMIT);
        server.stop();
    }
}

#[test]
fn an_operator_sees_what_was_found_and_has_it_forgotten() {
    let segment = Segment::new("hostile-look");
    let server =
        Server::start_in(&segment.net, &segment.scratch, &segment.configuration("epoll"), &[]);
    segment.wire.send(&forged_answer(&segment.next_look(), 5, Ipv4Addr::UNSPECIFIED).unwrap());
    let said = server.log_line("ringboot is silent on 192.168.4.0/24", LIMIT);
    let look = |more: &[&str]| {
        let mut command = segment.net.command(env!("CARGO_BIN_EXE_ringboot"));
        command
            .arg("look")
            .args(more)
            .arg("--config")
            .arg(segment.scratch.path().join("ringboot.toml"));
        common::process::run(command, LIMIT).ok().stdout
    };
    let told = look(&[]);
    let (start, aged) =
        told.trim_end().split_once(" answered on br0 ").unwrap_or_else(|| panic!("{told}"));
    let (age, end) = aged.split_once(": ").unwrap();
    assert!(age.contains(" s ago, and is asked again in "), "{told}");
    assert!(start.contains("the DHCP server 192.168.4.66"), "{told}");
    assert!(said.contains(&format!("{start} answered on br0: {end}")), "{told}{said}");
    assert!(!segment.is_offered(1));
    let again = look(&["--again"]);
    assert!(
        again.contains("no other DHCP server answers on br0 (last look ")
            && again.contains("is served"),
        "{again}"
    );
    server.log_line("no other DHCP server answers", LIMIT);
    assert!(look(&["--json"]).contains("\"looking\": false"));
    segment.lease(1);
    server.stop();
}
