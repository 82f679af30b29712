//! What a client must never be told, and what it must always be: own addresses, foreign segments,
//! shared links, option 82.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use super::common::net::{BRIDGE, Client, Net};
use super::common::process;
use super::common::server::{self, Server};
use super::common::wire::{Answer, Dhcp, Wire, mac};
use super::common::{Scratch, SetOnDrop};
use super::{DATAPATHS, Site, alone};

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);
/// From a message to its answer on a machine whose cores are busy.
const WAIT: Duration = Duration::from_secs(5);
/// Long enough for an answer that must not come: answers take well under a millisecond here.
const SILENCE: Duration = Duration::from_millis(300);
/// Before a message is sent again.
const AGAIN: Duration = Duration::from_millis(800);
const ACK: u8 = 5;
const NAK: u8 = 6;

/// A server on `br0`, which has these addresses beside 192.168.4.150, and a client's wire on it.
struct Bench {
    wire: Wire,
    // Namespaces of clients go before the server's.
    client: Client,
    server: Server,
    net: Net,
    scratch: Scratch,
}

impl Bench {
    /// `configure` makes the configuration out of the classic one.
    fn new(
        name: &str,
        datapath: &str,
        addresses: &[&str],
        configure: impl FnOnce(String) -> String,
    ) -> Self {
        let scratch = Scratch::new(name);
        let net = Net::new();
        for address in addresses {
            net.ip(&["addr", "add", address, "dev", BRIDGE]);
        }
        let configuration = configure(
            server::configuration(&scratch).replace("[server]\n", "[server]\nworkers = 1\n"),
        );
        let text = format!(
            "{configuration}\n[log]\nlevel = \"debug\"\n[tuning]\ndatapath = \"{datapath}\"\n"
        );
        let server = Server::start(&net, &scratch, &text);
        server.log_line("no other DHCP server answers", Duration::from_secs(30));
        let client = net.client("52:54:00:a5:00:01");
        let wire = Wire::open(client.name(), "eth0");
        let bench = Self { wire, client, server, net, scratch };
        // Nothing is kept of a machine that is refused.
        let stranger = init_reboot(99, Ipv4Addr::new(10, 9, 9, 9))
            .with(60, b"PXEClient:Arch:00007:UNDI:003000");
        assert_eq!(bench.ask(&stranger).map(|answer| answer.kind()), Some(NAK));
        bench
    }

    /// As clients do it, again and again: the log tells of the end of a look before the server acts
    /// on it.
    fn ask(&self, message: &Dhcp) -> Option<Answer> {
        let until = Instant::now() + WAIT;
        std::iter::from_fn(|| (Instant::now() < until).then(|| self.wire.ask(message, AGAIN)))
            .flatten()
            .next()
    }

    fn silent(&self, message: &Dhcp) {
        let answer = self.wire.ask(message, SILENCE);
        assert!(answer.is_none(), "{message:?} got {answer:?}");
    }

    fn lease(&self, number: u32) -> Ipv4Addr {
        let offer = self.ask(&Dhcp::discover(mac(number), number)).expect("an offer");
        let ask = Dhcp::request(
            mac(number),
            number,
            offer.server().expect("option 54"),
            offer.message.yiaddr(),
        );
        let ack = self.ask(&ask).expect("an answer");
        assert_eq!(ack.kind(), ACK);
        ack.message.yiaddr()
    }
}

fn request(number: u32, address: Ipv4Addr) -> Dhcp {
    Dhcp::request(mac(number), number, SERVER, address)
}

/// In state INIT-REBOOT, without option 54.
fn init_reboot(number: u32, address: Ipv4Addr) -> Dhcp {
    Dhcp::new(3, mac(number), number).with(50, &address.octets())
}

/// 192.168.4.10 and .11 are the server's, the latter comes by reservation, and the pool has one
/// address besides.
#[test]
fn an_address_of_the_server_is_given_to_nobody_by_any_way() {
    for datapath in DATAPATHS {
        let [ten, eleven, twelve] = [10, 11, 12].map(|last| Ipv4Addr::new(192, 168, 4, last));
        let bench =
            Bench::new("answers-own", datapath, &["192.168.4.10/24", "192.168.4.11/32"], |text| {
                let pool = text.replace("192.168.4.10-192.168.4.100", "192.168.4.10-192.168.4.12");
                let host = format!(
                    "[[dhcp.subnet.host]]\nmac = \"{}\"\naddress = \"192.168.4.11\"\n",
                    mac(7)
                );
                format!("{pool}authoritative = true\nclients = \"any\"\n{host}")
            });
        bench.server.log_line("192.168.4.10, an address of this machine", WAIT);
        bench.server.log_line(
            "192.168.4.11, reserved for 02:0b:00:00:00:07, is an address of this machine",
            WAIT,
        );
        for own in [ten, eleven, SERVER, Ipv4Addr::LOCALHOST] {
            for (number, by) in [(1, SERVER), (2, Ipv4Addr::LOCALHOST), (7, SERVER)] {
                let refused =
                    bench.ask(&Dhcp::request(mac(number), number, by, own)).expect("an answer");
                assert_eq!(refused.kind(), NAK, "{own} by {by}");
                let refused = bench.ask(&init_reboot(number, own)).expect("an answer");
                assert_eq!(refused.kind(), NAK, "{own}");
            }
        }
        let offer =
            bench.ask(&Dhcp::discover(mac(1), 20).with(50, &ten.octets())).expect("an offer");
        assert_eq!(offer.message.yiaddr(), twelve, "the only one that is left");
        assert_eq!(bench.ask(&request(1, twelve)).map(|answer| answer.kind()), Some(ACK));
        bench.silent(&Dhcp::discover(mac(2), 21));
        bench.silent(&Dhcp::discover(mac(7), 22));
        bench.server.stop();
    }
}

/// br0 has 192.168.4.150, and the subnet is one that only relays bring there.
#[test]
fn a_subnet_for_relays_gives_nothing_to_the_segment_that_they_come_by() {
    for datapath in DATAPATHS {
        let bench = Bench::new("answers-relay", datapath, &[], |text| {
            let far = "[[dhcp.subnet]]\nsubnet = \"10.7.0.0/24\"\ninterface = \"br0\"\nmode = \
                       \"server\"\nrelay = true\n\
                       authoritative = true\nclients = \"any\"\npools = \
                       [\"10.7.0.50-10.7.0.99\"]\n";
            // 192.168.4.0/24 is for machines that boot alone: an unknown one gets nothing there
            // either.
            format!("{text}\n{far}")
        });
        let far = Ipv4Addr::new(10, 7, 0, 0);
        let stray = Ipv4Addr::new(10, 7, 0, 60);
        bench.silent(&Dhcp::discover(mac(1), 1));
        bench.silent(&Dhcp::discover(mac(1), 2).with(118, &far.octets()));
        bench.silent(&Dhcp::discover(mac(1), 3).with(82, &[&[5, 4][..], &far.octets()].concat()));
        bench.silent(&init_reboot(1, stray));
        bench.silent(&request(1, stray));
        // What boots gets an address of the segment that it is on, whatever it wishes.
        let boots =
            |xid: u32| Dhcp::discover(mac(2), xid).with(60, b"PXEClient:Arch:00007:UNDI:003000");
        let offer = bench
            .ask(&boots(4).with(82, &[&[5, 4][..], &far.octets()].concat()))
            .expect("an offer");
        assert_eq!(offer.message.yiaddr().octets()[..3], [192, 168, 4]);
        bench.silent(&boots(5).with(118, &far.octets()));
        bench.server.stop();
    }
}

/// Two machines more than the first subnet has addresses for, and one that is reserved in the
/// second.
#[test]
fn subnets_of_one_interface_are_one_link() {
    for datapath in DATAPATHS {
        let bench = Bench::new("answers-link", datapath, &["192.168.5.150/24"], |text| {
            let pool = text.replace("192.168.4.10-192.168.4.100", "192.168.4.10-192.168.4.11");
            let second =
                pool.split_once("[[dhcp.subnet]]").unwrap().1.replace("192.168.4.", "192.168.5.");
            let second = second
                .replace("192.168.5.150", "192.168.4.150")
                .replace("192.168.5.11", "192.168.5.99");
            let host =
                format!("[[dhcp.subnet.host]]\nmac = \"{}\"\naddress = \"192.168.5.7\"\n", mac(7));
            format!("{pool}clients = \"any\"\n[[dhcp.subnet]]{second}clients = \"any\"\n{host}")
        });
        bench.server.log_lines("no other DHCP server answers", 2, WAIT);
        assert_eq!(bench.lease(7), Ipv4Addr::new(192, 168, 5, 7), "by reservation");
        let given: Vec<Ipv4Addr> = (1..=4).map(|number| bench.lease(number)).collect();
        let mut thirds: Vec<u8> = given.iter().map(|address| address.octets()[2]).collect();
        thirds.sort_unstable();
        assert_eq!(thirds, [4, 4, 5, 5], "{given:?}");
        for (number, own) in (1..).zip(&given) {
            assert_eq!(bench.lease(number), *own, "what it had");
            let ack = bench.ask(&init_reboot(number, *own)).expect("an answer");
            assert_eq!((ack.kind(), ack.message.yiaddr()), (ACK, *own));
            let near = Ipv4Addr::new(192, 168, own.octets()[2], 150);
            assert_eq!(
                (ack.server(), *ack.source.ip()),
                (Some(near), near),
                "our address in that subnet"
            );
        }
        bench.server.stop();
    }
}

#[test]
fn a_request_of_what_was_offered_is_right_without_option_54() {
    let bench = Bench::new("answers-54", DATAPATHS[0], &[], |text| {
        format!("{text}authoritative = true\nclients = \"any\"\n")
    });
    for number in 1..=20 {
        let offered =
            bench.ask(&Dhcp::discover(mac(number), number)).expect("an offer").message.yiaddr();
        let ack = bench.ask(&init_reboot(number, offered)).expect("an answer");
        assert_eq!((ack.kind(), ack.message.yiaddr()), (ACK, offered));
    }
    bench.server.stop();
}

/// The relay agent is the client's namespace, at 192.168.4.1.
#[test]
fn a_long_option_82_comes_back_or_is_left_out_and_the_answer_comes_all_the_same() {
    for datapath in DATAPATHS {
        let bench = Bench::new("answers-82", datapath, &[], |text| {
            format!("{text}relay = true\nclients = \"any\"\n")
        });
        bench.client.ip(&["addr", "add", "192.168.4.1/24", "dev", "eth0"]);
        let relay = SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, 1), 67);
        let cases = [
            (1, 0, false),
            (2, 220, true),
            (3, 240, true),
            (4, 250, true),
            (5, 900, true),
            (6, 1170, false),
        ];
        for (number, octets, is_echoed) in cases {
            let mut message =
                Dhcp::discover(mac(number), number).with(60, b"PXEClient:Arch:00007:UNDI:003000");
            message.giaddr = *relay.ip();
            for piece in vec![1; octets].chunks(250) {
                message = message.with(82, piece);
            }
            let server = ringboot::model::machine::Mac([0x52, 0x54, 0, 0, 0x04, 0x96]);
            let frame = message.frame_from(relay, server, SocketAddrV4::new(SERVER, 67));
            assert!(bench.wire.send(&frame));
            let until = Instant::now() + WAIT;
            let answer = loop {
                let answer = bench
                    .wire
                    .answer(until)
                    .unwrap_or_else(|| panic!("no answer with {octets} octets of option 82"));
                if answer.message.xid() == number {
                    break answer;
                }
            };
            let has_82 = answer
                .message
                .opts()
                .get(dhcproto::v4::OptionCode::RelayAgentInformation)
                .is_some();
            assert_eq!(has_82, is_echoed, "{octets} octets");
            for code in [58, 59] {
                let code = dhcproto::v4::OptionCode::from(code);
                assert!(
                    answer.message.opts().get(code).is_some(),
                    "{code:?} is left out for {octets} octets of option 82"
                );
            }
        }
        bench.server.stop();
    }
}

/// Two containers and their host, behind one hardware address.
#[test]
fn systems_with_identifiers_of_their_own_share_no_address() {
    let bench =
        Bench::new("answers-61", DATAPATHS[0], &[], |text| format!("{text}clients = \"any\"\n"));
    let name = |message: Dhcp, id: &[u8]| {
        let message = message.with(55, &[1, 3]);
        if id.is_empty() { message } else { message.with(61, id) }
    };
    let ids: [&[u8]; 3] = [b"\0container-a", b"\0container-b", b""];
    let mut given = Vec::new();
    for (xid, id) in (1..).zip(ids) {
        let offer = bench.ask(&name(Dhcp::discover(mac(1), xid), id)).expect("an offer");
        let address = offer.message.yiaddr();
        let ack =
            bench.ask(&name(Dhcp::request(mac(1), xid, SERVER, address), id)).expect("an answer");
        assert_eq!((ack.kind(), ack.message.yiaddr()), (ACK, address));
        assert!(!given.contains(&address), "{given:?}");
        given.push(address);
    }
    for (xid, (id, own)) in (10..).zip(ids.iter().zip(&given)) {
        let offer = bench.ask(&name(Dhcp::discover(mac(1), xid), id)).expect("an offer");
        assert_eq!(offer.message.yiaddr(), *own, "what it had");
        let other = *given.iter().find(|other| *other != own).unwrap();
        let refused =
            bench.ask(&name(Dhcp::request(mac(1), xid, SERVER, other), id)).expect("an answer");
        assert_eq!(refused.kind(), NAK);
    }
    // Firmware hands its address on to whatever system it loads.
    let firmware =
        |message: Dhcp| message.with(60, b"PXEClient:Arch:00007:UNDI:003000").with(93, &[0, 7]);
    let own = bench.ask(&firmware(Dhcp::discover(mac(2), 20))).expect("an offer").message.yiaddr();
    let ack = bench.ask(&firmware(Dhcp::request(mac(2), 20, SERVER, own))).expect("an answer");
    assert_eq!(ack.kind(), ACK);
    let installer =
        bench.ask(&name(Dhcp::discover(mac(2), 21), b"\xff\0\0\0\x01duid")).expect("an offer");
    assert_eq!(installer.message.yiaddr(), own);
    bench.server.stop();
}

#[test]
fn a_bootp_lease_ends_with_its_reservation_by_a_reload_and_by_a_restart() {
    let host = format!("[[dhcp.subnet.host]]\nmac = \"{}\"\naddress = \"192.168.4.10\"\n", mac(1));
    for is_restarted in [false, true] {
        let bench = Bench::new("answers-bootp", DATAPATHS[0], &[], |text| {
            format!("{}clients = \"any\"\n{host}", text.replace("192.168.4.100", "192.168.4.10"))
        });
        let own = Ipv4Addr::new(192, 168, 4, 10);
        let bootp = |xid: u32| {
            // Option 53 becomes Pads.
            let mut frame = Dhcp::discover(mac(1), xid).frame();
            let at = 14 + 20 + 8 + 240;
            assert_eq!(frame[at..at + 3], [53, 1, 1]);
            frame[at..at + 3].fill(0);
            // Without a checksum (RFC 768).
            frame[14 + 20 + 6..14 + 20 + 8].fill(0);
            frame
        };
        assert!(bench.wire.send(&bootp(1)));
        let answer = bench.wire.answer(Instant::now() + WAIT).expect("a BOOTP reply");
        assert_eq!((answer.kind(), answer.message.yiaddr()), (0, own));
        bench.silent(&Dhcp::discover(mac(2), 2));
        let file = bench.scratch.path().join("ringboot.toml");
        let text = std::fs::read_to_string(&file).unwrap().replace(&host, "");
        let bench = if is_restarted {
            let Bench { wire, client, server, net, scratch } = bench;
            server.stop();
            let server = Server::start(&net, &scratch, &text);
            server.log_line("no other DHCP server answers", Duration::from_secs(30));
            Bench { wire, client, server, net, scratch }
        } else {
            std::fs::write(&file, text).unwrap();
            let mut command = bench.net.command(env!("CARGO_BIN_EXE_ringboot"));
            command.args(["reload", "--socket"]).arg(bench.scratch.path().join("admin.sock"));
            process::run(command, WAIT).ok();
            bench
        };
        assert_eq!(bench.lease(2), own);
        bench.server.stop();
    }
}

/// Fifty honest machines beside one that asks for addresses of the server and of other segments.
#[test]
fn honest_machines_do_not_feel_those_that_ask_for_what_they_may_not_have() {
    let _alone = alone();
    for datapath in DATAPATHS {
        let site = Site::new("answers-honest", datapath, "");
        let before = site.honest.run(Duration::from_secs(3));
        let client = site.net.client("52:54:00:a5:00:02");
        let wire = Wire::open(client.name(), "eth0");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let (during, asked) = std::thread::scope(|scope| {
            let attack = scope.spawn(|| {
                let mut number = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    number += 1;
                    wire.say(&request(number % 8, SERVER));
                    wire.say(&init_reboot(number % 8, Ipv4Addr::LOCALHOST));
                    wire.say(&Dhcp::discover(mac(number % 8), number).with(118, &[10, 7, 0, 0]));
                    std::thread::sleep(Duration::from_millis(1));
                }
                number * 3
            });
            let ends_attack = SetOnDrop(&stop);
            let during = site.honest.run(Duration::from_secs(3));
            drop(ends_attack);
            (during, attack.join().expect("the attack"))
        });
        println!("{datapath}: {asked} hostile messages");
        during.assert_no_worse(&before, 15);
        site.server.stop();
    }
}
