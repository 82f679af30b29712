//! One simulated relay agent: a socket that a rack of machines shares, and the DHCP exchange of a machine through it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::context::Context;
use super::dhcp::{self, Answer, Ask, Kind, Speaker, Through};
use super::failure::Failure;
use super::limits::{ANSWERS_QUEUED_MAX, DHCP_OCTETS_MAX, DHCP_RETRY_FIRST, DHCP_RETRY_MAX, RELAY_RECEIVE_OCTETS};
use crate::boot::machine::{Mac, Uuid};

/// A machine as its relay agent knows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Port {
    pub(super) mac: Mac,
    pub(super) uuid: Uuid,
    /// Number of the switch port (option 82, sub-option 1).
    pub(super) circuit: u32,
}

/// The socket of one relay agent. Answers find their machine by hardware address and xid together: two machines were seen
/// with one xid, and one machine uses several.
#[derive(Debug)]
pub(super) struct Relay {
    context: Rc<Context>,
    socket: UdpSocket,
    server: SocketAddrV4,
    address: Ipv4Addr,
    own_port: bool,
    waiting: RefCell<HashMap<(Mac, u32), Sender<Answer>>>,
}

impl Relay {
    /// A port other than 67 means that answers are asked for there (RFC 8357); 0 is any.
    pub(super) fn open(context: Rc<Context>, at: SocketAddrV4, server: SocketAddrV4) -> io::Result<Rc<Self>> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        // What the kernel refuses beyond its limit, retransmission mends.
        let _ = socket.set_recv_buffer_size(RELAY_RECEIVE_OCTETS);
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Rc::new(Self {
            context,
            socket,
            server,
            address: *at.ip(),
            own_port: at.port() != DHCP_SERVER_PORT,
            waiting: RefCell::default(),
        }))
    }

    /// Hands answers to the machines that wait for them; never ends.
    pub(super) async fn listen(self: Rc<Self>) {
        let mut packet = [0u8; DHCP_OCTETS_MAX];
        loop {
            // An ICMP "port unreachable" of a server that is down ends a receive with an error: the machines repeat.
            let Ok(octets) = self.socket.recv(&mut packet).await else {
                yield_now().await;
                continue;
            };
            let Some(answer) = packet.get(..octets).and_then(dhcp::decode) else { continue };
            if let Some(machine) = self.waiting.borrow().get(&(answer.mac, answer.xid)) {
                // A full queue means answers that the machine will not read any more.
                let _ = machine.try_send(answer);
            }
        }
    }

    /// DISCOVER, OFFER, REQUEST, ACK: until the machine has an address, or its patience has ended.
    pub(super) async fn acquire(&self, port: Port, speaker: Speaker, xids: &mut Xids) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.context.pace.patience;
        loop {
            let mut line = self.line(port, speaker, xids.next());
            let discover = Question { kind: Kind::Discover, server: None, address: None, tries: u32::MAX };
            let Some(offer) = line.ask(discover, deadline).await? else { continue };
            let address = Some(offer.address);
            let request = Question { kind: Kind::Request, server: offer.server, address, tries: REQUESTS_MAX };
            match line.ask(request, deadline).await? {
                Some(answer) if answer.kind == Kind::Ack => return Ok(answer),
                // NAK, or silence: a server that has been restarted in between knows nothing of its offer.
                _ => self.context.progress.add_retry(),
            }
        }
    }

    /// INIT-REBOOT: asks for the address that the machine had. The address of the ACK; None for a NAK or silence.
    pub(super) async fn confirm(
        &self,
        port: Port,
        speaker: Speaker,
        xids: &mut Xids,
        had: Ipv4Addr,
    ) -> Option<Ipv4Addr> {
        let mut line = self.line(port, speaker, xids.next());
        let deadline = Instant::now() + self.context.pace.patience;
        let request = Question { kind: Kind::Request, server: None, address: Some(had), tries: REQUESTS_MAX };
        let answer = line.ask(request, deadline).await.ok().flatten()?;
        (answer.kind == Kind::Ack).then_some(answer.address)
    }

    fn line(&self, port: Port, speaker: Speaker, xid: u32) -> Line<'_> {
        let (sender, answers) = channel(ANSWERS_QUEUED_MAX);
        self.waiting.borrow_mut().insert((port.mac, xid), sender);
        let through = Through { relay: self.address, circuit: port.circuit, own_port: self.own_port };
        Line { relay: self, port, speaker, xid, through, answers }
    }
}

/// Where relay agents listen, unless they say otherwise (RFC 2131 section 4.1).
const DHCP_SERVER_PORT: u16 = 67;

/// REQUESTs sent before a client goes back to DISCOVER (RFC 2131 section 4.4.1 leaves the number open; EDK2 takes 4).
const REQUESTS_MAX: u32 = 4;

/// Transaction ids of one machine: a new one for each exchange.
#[derive(Clone, Debug)]
pub(super) struct Xids(pub(super) u64);

impl Xids {
    fn next(&mut self) -> u32 {
        // SplitMix64: different seeds never meet within a run.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0)
    }
}

/// One transaction: registered with the relay agent for as long as it lives.
struct Line<'a> {
    relay: &'a Relay,
    port: Port,
    speaker: Speaker,
    xid: u32,
    through: Through,
    answers: Receiver<Answer>,
}

/// What a client wants to know, and how often it asks.
struct Question {
    kind: Kind,
    server: Option<Ipv4Addr>,
    address: Option<Ipv4Addr>,
    tries: u32,
}

impl Line<'_> {
    /// Sends a message, again and again with growing pauses, until an answer to it comes. None after the last try.
    async fn ask(&mut self, question: Question, deadline: Instant) -> Result<Option<Answer>, Failure> {
        let Question { kind, server, address, tries } = question;
        let Port { mac, uuid, .. } = self.port;
        let ask = Ask { speaker: self.speaker, mac, uuid, xid: self.xid, server, address, kind };
        let packet = dhcp::encode(&ask, Some(&self.through));
        let Context { pace, progress, .. } = &*self.relay.context;
        let mut pause = pace.hurried(DHCP_RETRY_FIRST);
        for attempt in 0..tries {
            if attempt > 0 {
                progress.add_retry();
            }
            // A send that fails (server down, buffer full) is a lost packet like any other.
            let _ = self.relay.socket.send_to(&packet, self.relay.server).await;
            if let Some(answer) = self.answer_to(kind, pause).await {
                let returned = answer.relay_information.as_deref() == Some(&dhcp::relay_information(&self.through));
                return if returned { Ok(Some(answer)) } else { Err(Failure::DhcpRelayInformation) };
            }
            if Instant::now() >= deadline {
                return Err(Failure::DhcpSilent);
            }
            pause = (pause * 2).min(pace.hurried(DHCP_RETRY_MAX));
        }
        Ok(None)
    }

    /// The next answer that fits the question; a late second OFFER is no answer to a REQUEST.
    async fn answer_to(&mut self, kind: Kind, pause: Duration) -> Option<Answer> {
        timeout(pause, async {
            loop {
                let answer = self.answers.recv().await?;
                if (kind == Kind::Discover) == (answer.kind == Kind::Offer) {
                    return Some(answer);
                }
            }
        })
        .await
        .ok()
        .flatten()
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.relay.waiting.borrow_mut().remove(&(self.port.mac, self.xid));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket as Blocking;
    use std::thread::spawn;

    use tokio::task::{LocalSet, spawn_local};

    use super::super::content::Contents;
    use super::super::pace::Pace;
    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 77, 16, 1);

    /// A server that answers each message with the next of these kinds, or not at all.
    fn server(answers: Vec<Option<u8>>) -> SocketAddrV4 {
        let socket = Blocking::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        spawn(move || {
            for answer in answers {
                let mut packet = [0; 1500];
                let (octets, from) = socket.recv_from(&mut packet).unwrap();
                if let Some(kind) = answer {
                    packet[0] = 2;
                    packet[16..20].copy_from_slice(&ADDRESS.octets());
                    packet[242] = kind;
                    socket.send_to(&packet[..octets], from).unwrap();
                }
            }
        });
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
    }

    fn with_relay<T>(answers: Vec<Option<u8>>, work: impl AsyncFnOnce(&Relay, Port) -> T) -> (T, u64) {
        let server = server(answers);
        let pace = Pace { haste: 20, idle_waits: false, patience: Duration::from_secs(10) };
        let context = Rc::new(Context::new(server, Contents::default(), pace, std::sync::Arc::default()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let relay =
                Relay::open(Rc::clone(&context), SocketAddrV4::new(Ipv4Addr::new(127, 77, 0, 2), 0), server).unwrap();
            spawn_local(Rc::clone(&relay).listen());
            let port = Port { mac: Mac([2; 6]), uuid: Uuid([1; 16]), circuit: 9 };
            (work(&relay, port).await, context.progress.retries())
        })
    }

    const OFFER: Option<u8> = Some(2);
    const ACK: Option<u8> = Some(5);
    const NAK: Option<u8> = Some(6);

    #[test]
    fn d71_a_lost_message_is_repeated_and_a_nak_leads_back_to_discover() {
        let answers = vec![None, OFFER, None, NAK, OFFER, ACK];
        let acquire = async |relay: &Relay, port| relay.acquire(port, Speaker::Ipxe(0), &mut Xids(1)).await;
        let (answer, retries) = with_relay(answers, acquire);
        assert_eq!(answer.unwrap().address, ADDRESS);
        assert_eq!(retries, 3);
    }

    #[test]
    fn d24_a_refused_address_is_no_longer_ours() {
        let confirm = async |relay: &Relay, port| relay.confirm(port, Speaker::UefiPxe(7), &mut Xids(1), ADDRESS).await;
        assert_eq!(with_relay(vec![ACK], confirm).0, Some(ADDRESS));
        assert_eq!(with_relay(vec![NAK], confirm).0, None);
    }

    #[test]
    fn transaction_ids_of_one_seed_differ() {
        let mut xids = Xids(7);
        let mut seen: Vec<u32> = (0..1000).map(|_| xids.next()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 1000);
    }
}
