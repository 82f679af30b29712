//! What an adversary on the segment does: forged frames, floods, and clients that ask and then
//! stand still.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ringboot::dhcp::frame;
use ringboot::model::machine::Mac;
use ringboot::model::random::SeededRandom;

use super::common::net::SERVER;
use super::common::wire::{Answer, Dhcp, Wire, mac};

/// Addresses that the adversary speaks TCP from: its namespace has them all.
const STRANGERS: std::ops::Range<u8> = 208..224;
/// Machines of the adversary that hold leases: few enough to leave the honest ones theirs.
const HELD: u32 = 20;
/// Frames of one burst; between bursts it waits a millisecond, so that two processors are enough
/// for both sides.
const BURST: u32 = 4;

/// A kind of harm. Each is done over and over until the time is up.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blow {
    DiscoverFlood,
    OneMachineDiscovers,
    DeclineStorm,
    LeasesAndRenewals,
    ForgedServers,
    DamagedDhcp,
    OddOptions,
    AsksForTheServersAddress,
    ForgedRequests,
    BlindAcknowledgements,
    TransfersThatStandStill,
    DamagedTftp,
    SilentConnections,
    SlowHeads,
    UnreadAnswers,
    ResetsHalfWay,
    DamagedHttp,
}

pub(crate) const ALL: [Blow; 17] = [
    Blow::DiscoverFlood,
    Blow::OneMachineDiscovers,
    Blow::DeclineStorm,
    Blow::LeasesAndRenewals,
    Blow::ForgedServers,
    Blow::DamagedDhcp,
    Blow::OddOptions,
    Blow::AsksForTheServersAddress,
    Blow::ForgedRequests,
    Blow::BlindAcknowledgements,
    Blow::TransfersThatStandStill,
    Blow::DamagedTftp,
    Blow::SilentConnections,
    Blow::SlowHeads,
    Blow::UnreadAnswers,
    Blow::ResetsHalfWay,
    Blow::DamagedHttp,
];

/// Files that the adversary asks for: text full of line feeds, a large image, a template.
pub(crate) fn lay_out(root: &Path) {
    let directory = root.join("attack");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("lines"), vec![b'\n'; 4 << 20]).unwrap();
    std::fs::File::create(directory.join("image")).unwrap().set_len(64 << 20).unwrap();
    for number in 0..64 {
        std::fs::write(directory.join(format!("small-{number}")), vec![number; 4096]).unwrap();
    }
    std::fs::write(
        directory.join("answers.ks.j2"),
        "{% for n in range(200) %}{{ n }} {{ ip }}\n{% endfor %}",
    )
    .unwrap();
}

/// One adversary in its namespace, with the choices of its seed.
pub(crate) struct Adversary<'a> {
    pub wire: &'a Wire,
    pub random: SeededRandom,
    pub until: Instant,
}

impl Adversary<'_> {
    pub(crate) fn strike(&mut self, blow: Blow) {
        match blow {
            Blow::DiscoverFlood => {
                self.flood(|random| Dhcp::discover(mac(number(random)), number(random)).frame())
            }
            Blow::OneMachineDiscovers => {
                self.flood(|random| Dhcp::discover(mac(1), number(random)).frame())
            }
            Blow::DeclineStorm => self.decline(),
            Blow::LeasesAndRenewals => self.lease_and_renew(),
            Blow::ForgedServers => self.forge_servers(),
            Blow::DamagedDhcp => self.flood(damaged_dhcp),
            Blow::OddOptions => self.flood(odd_options),
            Blow::AsksForTheServersAddress => self.flood(asks_for_the_servers_address),
            Blow::ForgedRequests => self.flood(forged_request),
            Blow::BlindAcknowledgements => self.flood(blind_acknowledgement),
            Blow::TransfersThatStandStill => self.flood(|random| {
                let from = SocketAddrV4::new(stranger(random), port(random));
                datagram(
                    from,
                    69,
                    &request(
                        1,
                        "attack/image",
                        "octet",
                        &[("timeout", "255"), ("windowsize", "16")],
                    ),
                )
            }),
            Blow::DamagedTftp => self.flood(damaged_tftp),
            Blow::SilentConnections => self.connect(|_, _| None),
            Blow::SlowHeads => self.connect(|_, sent| {
                Some(b"GET /honest/menu HTTP/1.1\r\nHost: x\r\nX-Slow: "[sent % 44..][..1].to_vec())
            }),
            Blow::UnreadAnswers => self.connect(|random, sent| {
                let range = random.below(60 << 20);
                let line = format!(
                    "GET /attack/image HTTP/1.1\r\nHost: x\r\nRange: bytes={range}-\r\n\r\n"
                );
                (sent < 8).then(|| line.into_bytes())
            }),
            Blow::ResetsHalfWay => self.reset_half_way(),
            Blow::DamagedHttp => self.connect(|random, _| Some(damaged_http(random))),
        }
    }

    /// Frame after frame, about four thousand a second.
    fn flood(&mut self, mut make: impl FnMut(&mut SeededRandom) -> Vec<u8>) {
        while Instant::now() < self.until {
            for _ in 0..BURST {
                self.wire.send(&make(&mut self.random));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Declines every address that is offered, each time as another machine or always as the same.
    fn decline(&mut self) {
        let machines = 1 + self.random.below(200);
        while Instant::now() < self.until {
            let me = mac(0x0100_0000 + u32::try_from(self.random.below(machines)).unwrap());
            let xid = number(&mut self.random);
            let Some(offer) = self.wire.ask(&Dhcp::discover(me, xid), Duration::from_millis(20))
            else {
                continue;
            };
            let address = offer.message.yiaddr();
            self.wire.say(&Dhcp::decline(me, xid, offer.server().unwrap_or(address), address));
        }
    }

    /// A few machines that lease, and renew, rebind and give back out of turn.
    fn lease_and_renew(&mut self) {
        while Instant::now() < self.until {
            let me = mac(0x0200_0000 + number(&mut self.random) % HELD);
            let xid = number(&mut self.random);
            let Some(address) = self.wire.lease(me, xid, Duration::from_millis(100)) else {
                continue;
            };
            let renewal = Dhcp { ciaddr: address, broadcast: false, ..Dhcp::new(3, me, xid ^ 1) };
            for _ in 0..self.random.below(20) {
                self.wire.send(&renewal.frame_from(
                    SocketAddrV4::new(address, 68),
                    Mac([0xff; 6]),
                    server(67),
                ));
            }
            if self.random.below(3) == 0 {
                let release = Dhcp { ciaddr: address, ..Dhcp::new(7, me, xid ^ 2) };
                self.wire.say(&release.with(54, &server(67).ip().octets()));
            }
        }
    }

    /// Answers whatever is asked on the segment, as a server that does not exist.
    fn forge_servers(&mut self) {
        while let Some(frame) = self.wire.hear(self.until) {
            let Some(payload) =
                frame.get(14..).and_then(frame::parse_ipv4_datagram).map(|(_, payload)| payload)
            else {
                continue;
            };
            if payload.len() < 240 || payload[0] != 1 || Answer::read(&frame).is_some() {
                continue;
            }
            let kind = [2, 5, 6][usize::try_from(self.random.below(3)).unwrap()];
            let asked = u32::from_be_bytes(*payload[4..].first_chunk().unwrap());
            let forged = Dhcp::new(kind, Mac(*payload[28..].first_chunk().unwrap()), asked)
                .with(54, &[192, 168, 4, 66]);
            let bytes = forged.reply_payload(Ipv4Addr::new(192, 168, 4, 240));
            let from = SocketAddrV4::new(Ipv4Addr::new(192, 168, 4, 66), 67);
            // To the server alone: honest machines that believe a stranger are not the server's
            // matter.
            let to = SocketAddrV4::new(*server(68).ip(), 68);
            self.wire
                .send(&frame::build_ethernet_frame(mac(66), SERVER_MAC, from, to, &bytes).unwrap());
        }
    }

    /// Connections from several addresses; `say` gives what each sends next, or nothing.
    fn connect(&mut self, mut say: impl FnMut(&mut SeededRandom, usize) -> Option<Vec<u8>>) {
        let mut open: Vec<(TcpStream, usize)> = Vec::new();
        while Instant::now() < self.until {
            if open.len() < 300
                && let Some(stream) = connected(stranger(&mut self.random))
            {
                let _ = stream.set_nonblocking(true);
                open.push((stream, 0));
            }
            for (stream, sent) in &mut open {
                if let Some(bytes) = say(&mut self.random, *sent) {
                    let _ = stream.write(&bytes);
                    *sent += 1;
                }
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Downloads that are broken off by a reset after a part.
    fn reset_half_way(&mut self) {
        while Instant::now() < self.until {
            let Some(mut stream) = connected(stranger(&mut self.random)) else { continue };
            let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
            let _ = stream.write_all(b"GET /attack/image HTTP/1.1\r\nHost: x\r\n\r\n");
            let mut part = vec![0; usize::try_from(1 + self.random.below(300_000)).unwrap()];
            let _ = stream.read(&mut part);
            let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// The hardware address of the server's bridge (tests/common/net.rs).
const SERVER_MAC: Mac = Mac([0x52, 0x54, 0, 0, 4, 0x96]);

fn server(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(SERVER.parse().unwrap(), port)
}

/// Any 32 bits.
fn number(random: &mut SeededRandom) -> u32 {
    u32::try_from(random.next_number() >> 32).unwrap()
}

fn port(random: &mut SeededRandom) -> u16 {
    u16::try_from(1024 + random.below(60_000)).unwrap()
}

fn stranger(random: &mut SeededRandom) -> Ipv4Addr {
    let host =
        u64::from(STRANGERS.start) + random.below(u64::from(STRANGERS.end - STRANGERS.start));
    Ipv4Addr::new(192, 168, 4, u8::try_from(host).unwrap())
}

/// Any address of the segment but the server's and the honest machines'.
fn forged(random: &mut SeededRandom) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 4, u8::try_from(151 + random.below(100)).unwrap())
}

fn datagram(from: SocketAddrV4, port: u16, payload: &[u8]) -> Vec<u8> {
    frame::build_ethernet_frame(mac(u32::from(*from.ip())), SERVER_MAC, from, server(port), payload)
        .expect("a datagram")
}

fn connected(from: Ipv4Addr) -> Option<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from((from, 0)).into()).ok()?;
    socket
        .connect_timeout(&SocketAddr::from(server(80)).into(), Duration::from_millis(100))
        .ok()?;
    Some(socket.into())
}

fn request(operation: u8, name: &str, mode: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = vec![0, operation];
    let words =
        [name, mode].into_iter().chain(options.iter().flat_map(|(key, value)| [*key, *value]));
    for word in words {
        bytes.extend(word.as_bytes());
        bytes.push(0);
    }
    bytes
}

fn forged_request(random: &mut SeededRandom) -> Vec<u8> {
    let from = SocketAddrV4::new(forged(random), port(random));
    let small = format!("attack/small-{}", random.below(64));
    let payload = match random.below(6) {
        0 => request(1, "attack/lines", "netascii", &[]),
        1 => request(1, &small, "octet", &[("blksize", "1468"), ("tsize", "0")]),
        2 => request(1, &format!("missing-{}", number(random)), "octet", &[]),
        3 => request(1, "attack/answers.ks", "octet", &[]),
        4 => request(2, "attack/small-1", "octet", &[]),
        _ => request(1, "attack/image", "octet", &[("blksize", "65464"), ("windowsize", "64")]),
    };
    datagram(from, 69, &payload)
}

fn blind_acknowledgement(random: &mut SeededRandom) -> Vec<u8> {
    let from = SocketAddrV4::new(forged(random), 2000 + u16::try_from(random.below(4)).unwrap());
    match random.below(4) {
        0 => datagram(from, 69, &request(1, "attack/image", "octet", &[("windowsize", "32")])),
        _ => datagram(from, port(random), &[0, 4, 0, u8::try_from(random.below(3)).unwrap()]),
    }
}

fn damaged_tftp(random: &mut SeededRandom) -> Vec<u8> {
    let mut bytes = request(
        1,
        "attack/small-1",
        "octet",
        &[("blksize", "1468"), ("windowsize", "4"), ("tsize", "0")],
    );
    damage(&mut bytes, random);
    datagram(SocketAddrV4::new(forged(random), port(random)), 69, &bytes)
}

fn damaged_dhcp(random: &mut SeededRandom) -> Vec<u8> {
    let kind = u8::try_from(random.below(20)).unwrap();
    let message = Dhcp::new(kind, mac(0x0300_0000 + number(random) % 50), number(random))
        .with(55, &[1, 3, 6, 66, 67])
        .with(60, b"PXEClient:Arch:00007:UNDI:003016")
        .with(93, &[0, 7])
        .with(97, &[0; 17]);
    let mut bytes = message.payload();
    damage(&mut bytes, random);
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    frame::build_ethernet_frame(
        message.mac,
        Mac([0xff; 6]),
        from,
        SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
        &bytes,
    )
    .unwrap()
}

/// Subnet selection, giant relay options, identifiers of every length, relays that do not exist.
fn odd_options(random: &mut SeededRandom) -> Vec<u8> {
    let octets = usize::try_from(1 + random.below(250)).unwrap();
    let mut message = Dhcp::discover(mac(0x0400_0000 + number(random) % 200), number(random));
    message = match random.below(4) {
        0 => message.with(118, &[10, 7, 0, 0]),
        1 => message.with(82, &vec![1; octets]),
        2 => message.with(61, &vec![u8::try_from(octets).unwrap(); octets]),
        _ => Dhcp { giaddr: Ipv4Addr::from(number(random)), ..message },
    };
    message.frame()
}

fn asks_for_the_servers_address(random: &mut SeededRandom) -> Vec<u8> {
    let wanted: [u8; 4] = match random.below(5) {
        0 => server(67).ip().octets(),
        1 => [127, 0, 0, 1],
        2 => [192, 168, 4, 255],
        3 => [192, 168, 4, 0],
        _ => [255; 4],
    };
    let me = mac(0x0500_0000 + number(random) % 50);
    let message = Dhcp::new(3, me, number(random)).with(50, &wanted);
    match random.below(3) {
        0 => message.frame(),
        1 => message.with(54, &server(67).ip().octets()).frame(),
        _ => Dhcp { ciaddr: Ipv4Addr::from(wanted), ..message }.frame(),
    }
}

fn damaged_http(random: &mut SeededRandom) -> Vec<u8> {
    let names = [
        "honest/menu",
        "attack/small-3",
        "attack/answers.ks",
        "../../etc/passwd",
        "%00",
        "missing",
    ];
    let name = names[usize::try_from(random.below(6)).unwrap()];
    let mut bytes = format!(
        "GET /{name} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,5-9\r\nIf-Range: \
         \"x\"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    .into_bytes();
    if random.below(4) > 0 {
        damage(&mut bytes, random);
    }
    bytes
}

/// Some bytes changed, and sometimes the end cut off.
fn damage(bytes: &mut Vec<u8>, random: &mut SeededRandom) {
    for _ in 0..1 + random.below(6) {
        let place = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        bytes[place] = u8::try_from(random.below(256)).unwrap();
    }
    if random.below(3) == 0 {
        bytes.truncate(usize::try_from(1 + random.below(bytes.len() as u64)).unwrap());
    }
}
