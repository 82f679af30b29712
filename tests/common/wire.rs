//! Whole Ethernet frames on one interface of a namespace: a DHCP client, relay or server of any
//! address, past its kernel's own stack.
#![allow(unsafe_code, clippy::cast_possible_truncation)]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Message, OptionCode};
use dhcproto::{Decodable, Decoder};
use ringboot::dhcp::frame;
use ringboot::model::machine::Mac;
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};

use super::inside;

/// All Ethernet types.
const ETH_P_ALL: u16 = 3;
const BROADCAST: Mac = Mac([0xff; 6]);
/// Longer than any frame on these links.
const FRAME_MAX: usize = 2048;

/// A packet socket.
pub struct Wire {
    socket: Socket,
}

/// A DHCP message of a client; fields as RFC 2131 names them. `options` go in as they are, after
/// option 53.
#[derive(Clone, Debug)]
pub struct Dhcp {
    pub kind: u8,
    pub mac: Mac,
    pub xid: u32,
    pub broadcast: bool,
    pub ciaddr: Ipv4Addr,
    pub giaddr: Ipv4Addr,
    pub options: Vec<(u8, Vec<u8>)>,
}

/// A UDP datagram over IPv4.
#[derive(Debug)]
pub struct Datagram {
    pub from: SocketAddrV4,
    pub to: SocketAddrV4,
    pub payload: Vec<u8>,
}

/// A frame with a message of a DHCP server.
#[derive(Debug)]
pub struct Answer {
    /// Hardware address that the frame came from, and went to.
    pub from: Mac,
    pub to: Mac,
    /// Address and port of the sender.
    pub source: SocketAddrV4,
    pub message: Message,
}

impl Wire {
    /// Hears and sends everything on this interface of the namespace.
    pub fn open(namespace: &str, interface: &str) -> Self {
        let name = interface.to_owned();
        let socket = inside::run(namespace, move || {
            let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
            let socket =
                Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).expect("a packet socket");
            let name = std::ffi::CString::new(name).unwrap();
            // SAFETY: if_nametoindex reads a string that ends with a zero.
            let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            assert_ne!(index, 0, "no interface {name:?}");
            // SAFETY: the closure fills a sockaddr_ll, which a sockaddr_storage has room for, and
            // gives its length.
            let address = unsafe {
                SockAddr::try_init(|storage, length| {
                    let link = storage.cast::<libc::sockaddr_ll>();
                    (*link).sll_family = libc::AF_PACKET as u16;
                    (*link).sll_protocol = ETH_P_ALL.to_be();
                    (*link).sll_ifindex = index as i32;
                    *length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
                    Ok(())
                })
            };
            socket.bind(&address.unwrap().1).expect("bind to the interface");
            socket
        });
        let octets: libc::c_int = 64 << 20;
        // SAFETY: the option reads an int, which lives until the call returns. Floods are answered:
        // the limit of the machine is too small.
        let forced = unsafe {
            let value = (&raw const octets).cast();
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVBUFFORCE,
                value,
                size_of_val(&octets) as u32,
            )
        };
        assert_eq!(forced, 0, "a receive buffer of 64 MiB: {}", std::io::Error::last_os_error());
        Self { socket }
    }

    /// False where the link had no room.
    pub fn send(&self, frame: &[u8]) -> bool {
        self.socket.send(frame).is_ok()
    }

    /// From now on hears only what is for the ports of DHCP.
    pub fn only_dhcp(&self) {
        let filter = |code: u32, jt, jf, k| SockFilter::new(code as u16, jt, jf, k);
        let is = |k, jt, jf| filter(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k);
        let word = |k| filter(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, k);
        let octet = |k| filter(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, k);
        let ends = |k| filter(libc::BPF_RET | libc::BPF_K, 0, 0, k);
        // IPv4, UDP, destination port; headers without options, as everybody sends them.
        let program = [
            word(12),
            is(0x0800, 0, 6),
            octet(23),
            is(17, 0, 4),
            word(36),
            is(67, 1, 0),
            is(68, 0, 1),
            ends(u32::MAX),
            ends(0),
        ];
        self.socket.attach_filter(&program).expect("a filter");
    }

    /// The next frame, own ones excepted.
    pub fn hear(&self, until: Instant) -> Option<Vec<u8>> {
        loop {
            match self.next(until)? {
                (frame, false) => return Some(frame),
                _ if Instant::now() >= until => return None,
                _ => (),
            }
        }
    }

    /// The next frame, whoever sends it: on the interface of a server, its answers as well.
    pub fn hear_any(&self, until: Instant) -> Option<Vec<u8>> {
        self.next(until).map(|(frame, _)| frame)
    }

    /// A frame, and whether this host sends it.
    fn next(&self, until: Instant) -> Option<(Vec<u8>, bool)> {
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_micros(1));
        self.socket.set_read_timeout(Some(left)).expect("a timeout");
        let mut frame = vec![std::mem::MaybeUninit::uninit(); FRAME_MAX];
        let (octets, from) = self.socket.recv_from(&mut frame).ok()?;
        // SAFETY: a packet socket's address is a sockaddr_ll.
        let kind = unsafe { (*from.as_ptr().cast::<libc::sockaddr_ll>()).sll_pkttype };
        // SAFETY: the kernel has filled that many bytes.
        let frame = frame[..octets].iter().map(|octet| unsafe { octet.assume_init() }).collect();
        Some((frame, kind == libc::PACKET_OUTGOING))
    }

    /// Sends a datagram of any address. False where the link had no room.
    pub fn send_datagram(
        &self,
        source: Mac,
        destination: Mac,
        from: SocketAddrV4,
        to: SocketAddrV4,
        payload: &[u8],
    ) -> bool {
        self.send(
            &frame::build_ethernet_frame(source, destination, from, to, payload)
                .expect("a datagram"),
        )
    }

    /// The next UDP datagram, to anybody.
    pub fn datagram(&self, until: Instant) -> Option<Datagram> {
        loop {
            let frame = self.hear(until)?;
            let Some((from, payload)) = frame.get(14..).and_then(frame::parse_ipv4_datagram) else {
                continue;
            };
            let payload = payload.to_vec();
            let [a, b, c, d] = *frame[30..].first_chunk().expect("an IPv4 header");
            let port = u16::from_be_bytes(*frame[36..].first_chunk().expect("a UDP header"));
            return Some(Datagram {
                from,
                to: SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port),
                payload,
            });
        }
    }

    /// Sends a client's message as a broadcast.
    pub fn say(&self, message: &Dhcp) -> bool {
        self.send(&message.frame())
    }

    /// The next message of a server, to any client.
    pub fn answer(&self, until: Instant) -> Option<Answer> {
        loop {
            let frame = self.hear(until)?;
            if let Some(answer) = Answer::read(&frame) {
                return Some(answer);
            }
            // A link that is flooded has a next frame at any time.
            if Instant::now() >= until {
                return None;
            }
        }
    }

    /// Sends, and waits for the answer to this very message.
    pub fn ask(&self, message: &Dhcp, wait: Duration) -> Option<Answer> {
        let until = Instant::now() + wait;
        self.say(message);
        loop {
            let answer = self.answer(until).filter(|_| Instant::now() < until)?;
            if answer.message.xid() == message.xid && answer.message.chaddr() == message.mac.0 {
                return Some(answer);
            }
        }
    }

    /// DISCOVER and REQUEST, once each: the address that was acknowledged.
    pub fn lease(&self, mac: Mac, xid: u32, wait: Duration) -> Option<Ipv4Addr> {
        let offer = self.ask(&Dhcp::discover(mac, xid), wait)?;
        let ack =
            self.ask(&Dhcp::request(mac, xid, offer.server()?, offer.message.yiaddr()), wait)?;
        (ack.kind() == 5).then(|| ack.message.yiaddr())
    }
}

impl Dhcp {
    pub fn new(kind: u8, mac: Mac, xid: u32) -> Self {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        Self {
            kind,
            mac,
            xid,
            broadcast: true,
            ciaddr: unspecified,
            giaddr: unspecified,
            options: Vec::new(),
        }
    }

    pub fn discover(mac: Mac, xid: u32) -> Self {
        Self::new(1, mac, xid)
    }

    /// In state SELECTING.
    pub fn request(mac: Mac, xid: u32, server: Ipv4Addr, address: Ipv4Addr) -> Self {
        Self::new(3, mac, xid).with(54, &server.octets()).with(50, &address.octets())
    }

    pub fn decline(mac: Mac, xid: u32, server: Ipv4Addr, address: Ipv4Addr) -> Self {
        Self::new(4, mac, xid).with(54, &server.octets()).with(50, &address.octets())
    }

    pub fn with(mut self, code: u8, value: &[u8]) -> Self {
        self.options.push((code, value.to_vec()));
        self
    }

    /// The UDP payload, padded to 300 bytes as BOOTP wants.
    pub fn payload(&self) -> Vec<u8> {
        self.as_boot_operation(1, Ipv4Addr::UNSPECIFIED)
    }

    /// The same as a server's word (BOOTREPLY) that gives this address.
    pub fn reply_payload(&self, yiaddr: Ipv4Addr) -> Vec<u8> {
        self.as_boot_operation(2, yiaddr)
    }

    fn as_boot_operation(&self, operation: u8, yiaddr: Ipv4Addr) -> Vec<u8> {
        let mut bytes = vec![operation, 1, 6, 0];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend([0, 0, if self.broadcast { 0x80 } else { 0 }, 0]);
        for address in [self.ciaddr, yiaddr, Ipv4Addr::UNSPECIFIED, self.giaddr] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.mac.0);
        bytes.resize(236, 0);
        bytes.extend([0x63, 0x82, 0x53, 0x63, 53, 1, self.kind]);
        for (code, value) in &self.options {
            bytes.extend([*code, value.len() as u8]);
            bytes.extend(value);
        }
        bytes.push(255);
        bytes.resize(bytes.len().max(300), 0);
        bytes
    }

    /// From 0.0.0.0:68 to the broadcast address, as a client without an address sends it.
    pub fn frame(&self) -> Vec<u8> {
        self.frame_from(
            SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68),
            BROADCAST,
            SocketAddrV4::new(Ipv4Addr::BROADCAST, 67),
        )
    }

    /// From and to any address.
    pub fn frame_from(&self, from: SocketAddrV4, destination: Mac, to: SocketAddrV4) -> Vec<u8> {
        frame::build_ethernet_frame(self.mac, destination, from, to, &self.payload())
            .expect("a datagram")
    }
}

impl Answer {
    /// None for anything but a BOOTREPLY by UDP.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let (to, from) = (Mac(*frame.first_chunk()?), Mac(*frame.get(6..)?.first_chunk()?));
        let (source, payload) = frame::parse_ipv4_datagram(frame.get(14..)?)?;
        // A longer hardware address makes the decoder panic.
        let is_reply =
            frame.get(12..14)? == [8, 0] && payload.first() == Some(&2) && *payload.get(2)? <= 16;
        let message =
            is_reply.then(|| Message::decode(&mut Decoder::new(payload)).ok()).flatten()?;
        Some(Self { from, to, source, message })
    }

    /// Option 53: 2 is OFFER, 5 ACK, 6 NAK; 0 where there is none.
    pub fn kind(&self) -> u8 {
        self.message.opts().msg_type().map_or(0, u8::from)
    }

    /// Option 54.
    pub fn server(&self) -> Option<Ipv4Addr> {
        match self.message.opts().get(OptionCode::ServerIdentifier) {
            Some(DhcpOption::ServerIdentifier(address)) => Some(*address),
            _ => None,
        }
    }
}

/// A hardware address out of a number, of no maker.
pub fn mac(number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([0x02, 0x0b, a, b, c, d])
}
