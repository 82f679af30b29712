//! What was on the wire: a packet capture read while it grows, decoded as DHCP, TFTP and HTTP
//! requests.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use dhcproto::v4::{Message, MessageType, Opcode};
use dhcproto::{Decodable, Decoder};

use super::net::{BRIDGE, Net};
use super::process::Process;
use super::watched::{Missing, Watched};

/// DHCP, the requests of TFTP and HTTP, ARP aside: what tells the story of a boot without its bulk.
pub const REQUESTS: &str = "port 67 or port 68 or port 4011 or udp dst port 69 or (tcp dst port 80 \
                            and tcp[tcpflags] & tcp-push != 0)";
/// Everything over UDP: every block and acknowledgement of a TFTP transfer.
pub const UDP: &str = "udp";

/// Enough for any DHCP packet and request head; longer packets are cut.
const SNAP_BYTES: &str = "2048";
const START_LIMIT: Duration = Duration::from_secs(20);

/// One UDP datagram or TCP segment.
#[derive(Clone)]
pub struct Packet {
    /// Since the Unix epoch, by the kernel's clock.
    pub at: Duration,
    pub ethernet_destination: [u8; 6],
    /// DF of IPv4.
    pub dont_fragment: bool,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// Else UDP.
    pub is_tcp: bool,
    pub payload: Vec<u8>,
}

/// A capture on the server's bridge; ends when dropped.
pub struct Capture {
    packets: Watched<Vec<Packet>>,
    tcpdump: Process,
}

impl Capture {
    /// Captures from now on; the raw packets also go to `file`, for a person with a packet viewer.
    pub fn start(net: &Net, filter: &str, file: &Path) -> Self {
        Self::start_on(net, BRIDGE, filter, file)
    }

    /// The same on another interface of the server.
    pub fn start_on(net: &Net, interface: &str, filter: &str, file: &Path) -> Self {
        super::need(&[("tcpdump", "tcpdump")]);
        let mut command = net.command("tcpdump");
        command.args([
            "-i",
            interface,
            "-n",
            "-U",
            "--immediate-mode",
            "-B",
            "8192",
            "-s",
            SNAP_BYTES,
            "-w",
            "-",
            filter,
        ]);
        let (tcpdump, output) = Process::start_with_raw_output(command);
        let packets = Watched::<Vec<Packet>>::default();
        let (ours, file) =
            (packets.clone(), std::fs::File::create(file).expect("a file for the capture"));
        std::thread::spawn(move || {
            // An error here is the end of tcpdump, in the middle of a record or not.
            let _ = read_records(Tee { from: output, to: file }, &ours);
            ours.end();
        });
        tcpdump.stderr.wait_line("listening on", START_LIMIT);
        Self { packets, tcpdump }
    }

    /// The first answer of `find` to all packets so far, now or within `limit`.
    pub fn wait_for<R>(
        &self,
        limit: Duration,
        find: impl FnMut(&Vec<Packet>) -> Option<R>,
    ) -> Result<R, Missing> {
        self.packets.wait_for(limit, find)
    }

    /// Waits for a DHCP message; fails the test with the time line where none comes.
    pub fn wait_dhcp(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&Message) -> bool,
    ) -> (Duration, Message) {
        let found = self.wait_for(limit, |packets| {
            packets.iter().find_map(|packet| {
                packet.dhcp().filter(&wanted).map(|message| (packet.at, message))
            })
        });
        found.unwrap_or_else(|missing| {
            panic!("{missing:?}: waited {limit:?} for {what}; seen:\n{self}")
        })
    }

    /// Waits for a TFTP or HTTP request whose name or target contains `part`; its time.
    pub fn wait_request(&self, part: &str, limit: Duration) -> Duration {
        let found = self.wait_for(limit, |packets| {
            let asked = |packet: &&Packet| packet.request().is_some_and(|line| line.contains(part));
            packets.iter().find(asked).map(|packet| packet.at)
        });
        found.unwrap_or_else(|missing| {
            panic!("{missing:?}: waited {limit:?} for a request of {part:?}; seen:\n{self}")
        })
    }

    /// All DHCP messages so far.
    pub fn dhcp(&self) -> Vec<(Duration, Message)> {
        self.packets
            .read(|all| all.iter().filter_map(|packet| Some((packet.at, packet.dhcp()?))).collect())
    }

    /// All TFTP and HTTP requests so far, once there are `count`: a client may end before tcpdump
    /// has written its last packet.
    pub fn wait_requests(&self, count: usize, limit: Duration) -> Vec<String> {
        let found = self.wait_for(limit, |packets| {
            let requests: Vec<_> = packets.iter().filter_map(Packet::request).collect();
            (requests.len() >= count).then_some(requests)
        });
        found.unwrap_or_else(|missing| {
            panic!("{missing:?}: waited {limit:?} for {count} requests; seen:\n{self}")
        })
    }

    /// All TFTP and HTTP requests so far, as `TFTP name options` and `HTTP GET /target`.
    pub fn requests(&self) -> Vec<String> {
        self.packets.read(|all| all.iter().filter_map(Packet::request).collect())
    }

    pub fn packets(&self) -> Vec<Packet> {
        self.packets.read(Clone::clone)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("on the wire:\n{self}");
        }
    }
}

/// The time line, in seconds from the first packet.
impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let packets = self.packets();
        let start = packets.first().map_or(Duration::ZERO, |packet| packet.at);
        for packet in &packets {
            if let Some(line) = packet.story() {
                writeln!(f, "{:9.3} {line}", packet.at.saturating_sub(start).as_secs_f64())?;
            }
        }
        Ok(())
    }
}

impl Packet {
    pub fn dhcp(&self) -> Option<Message> {
        let ports = [self.source.port(), self.destination.port()];
        let is_dhcp = ports.iter().any(|port| matches!(port, 67 | 68 | 4011));
        is_dhcp.then(|| Message::decode(&mut Decoder::new(&self.payload)).ok())?
    }

    /// A TFTP read or write request or an HTTP request line.
    pub fn request(&self) -> Option<String> {
        match (self.destination.port(), self.payload.as_slice()) {
            (69, [0, 1 | 2, fields @ ..]) => Some(format!(
                "TFTP {}",
                String::from_utf8_lossy(fields).trim_end_matches('\0').replace('\0', " ")
            )),
            (80, text) => {
                let line = text
                    .split(|&byte| byte == b'\r')
                    .next()
                    .and_then(|line| str::from_utf8(line).ok())?;
                line.contains(" HTTP/1.").then(|| format!("HTTP {line}"))
            }
            _ => None,
        }
    }

    fn story(&self) -> Option<String> {
        if let Some(request) = self.request() {
            return Some(format!("{} {request}", self.source.ip()));
        }
        let message = self.dhcp()?;
        let kind = message
            .opts()
            .msg_type()
            .map_or_else(|| "BOOTP".to_owned(), |kind| format!("{kind:?}"));
        let from = if message.opcode() == Opcode::BootRequest { "client" } else { "server" };
        let (xid, offered, file) = (message.xid(), message.yiaddr(), message.fname_str());
        let file = file.and_then(Result::ok).unwrap_or_default();
        Some(format!(
            "{from} {kind} xid={xid:08x} {}>{} yiaddr={offered} file={file:?}",
            self.source, self.destination
        ))
    }
}

/// From this machine's first DISCOVER to the first ACK after it: the whole of what its firmware
/// waits for an address.
pub fn discover_to_ack(messages: &[(Duration, Message)], mac: [u8; 6]) -> Option<Duration> {
    let of_kind = |kind: MessageType| {
        move |(_, message): &&(Duration, Message)| {
            message.chaddr() == mac && message.opts().msg_type() == Some(kind)
        }
    };
    let discover = messages.iter().find(of_kind(MessageType::Discover))?.0;
    let ack = messages.iter().filter(of_kind(MessageType::Ack)).find(|(at, _)| *at > discover)?.0;
    Some(ack - discover)
}

/// Reads from one side and keeps a copy of all that was read.
struct Tee<R> {
    from: R,
    to: std::fs::File,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.from.read(buffer)?;
        self.to.write_all(&buffer[..length])?;
        Ok(length)
    }
}

/// The classic pcap format: a header of 24 bytes, then records, each with a header of 16: seconds,
/// microseconds, length, length before the cut.
fn read_records(mut source: impl Read, packets: &Watched<Vec<Packet>>) -> std::io::Result<()> {
    source.read_exact(&mut [0u8; 24])?;
    loop {
        let mut head = [0u8; 16];
        source.read_exact(&mut head)?;
        let [seconds, micros, length, _] = std::array::from_fn(|n| {
            u32::from_ne_bytes([head[4 * n], head[4 * n + 1], head[4 * n + 2], head[4 * n + 3]])
        });
        let mut frame = vec![0u8; length as usize];
        source.read_exact(&mut frame)?;
        let at = Duration::new(u64::from(seconds), micros.saturating_mul(1000));
        if let Some(packet) = decode(at, &frame) {
            packets.update(|all| all.push(packet));
        }
    }
}

/// Ethernet, IPv4 or IPv6 without extension headers, UDP or TCP; None for anything else.
fn decode(at: Duration, frame: &[u8]) -> Option<Packet> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let (ethernet_destination, ip) = (*frame.first_chunk::<6>()?, frame.get(14..)?);
    let (protocol, source, destination, inner) = match frame.get(12..14)? {
        [0x08, 0x00] => {
            let header = 4 * usize::from(ip.first()? & 0x0f);
            let whole = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?])).min(ip.len());
            let address = |at: usize| Some(IpAddr::from(*ip.get(at..)?.first_chunk::<4>()?));
            (*ip.get(9)?, address(12)?, address(16)?, ip.get(header..whole)?)
        }
        [0x86, 0xdd] => {
            let address =
                |at: usize| Some(IpAddr::from(Ipv6Addr::from(*ip.get(at..)?.first_chunk::<16>()?)));
            (*ip.get(6)?, address(8)?, address(24)?, ip.get(40..)?)
        }
        _ => return None,
    };
    let dont_fragment = frame.get(12..14)? == [0x08, 0x00] && ip.get(6)? & 0x40 != 0;
    let port = |at: usize| Some(u16::from_be_bytes(*inner.get(at..)?.first_chunk::<2>()?));
    let header = match protocol {
        UDP => 8,
        TCP => 4 * usize::from(inner.get(12)? >> 4),
        _ => return None,
    };
    Some(Packet {
        at,
        ethernet_destination,
        dont_fragment,
        source: SocketAddr::new(source, port(0)?),
        destination: SocketAddr::new(destination, port(2)?),
        is_tcp: protocol == TCP,
        payload: inner.get(header..)?.to_vec(),
    })
}
