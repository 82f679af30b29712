//! What is told of each kind of message: its words, its level, its address and its kind in the
//! timeline, all pinned.

#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::net::Ipv4Addr;

use super::decide::{Decision, DhcpEventKind};
use super::limits::OFFER_HOLD_S;
use super::subnet::{
    AddressPool, AnsweringMode, ClientAdmission, HoldReason, OtherServer, Reservation, Subnet,
};
use super::testing::{Message, SERVER, Server, policy, relayed_subnet, subnet, unicast};
use crate::model::machine::Mac;

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 4, last)
}

/// A server whose pool is one address, and where machine 5 has 192.168.4.5.
fn server_with(change: impl FnOnce(&mut Subnet)) -> Server {
    let mut policy = policy();
    let subnet = &mut policy.subnets[0];
    subnet.pools = vec![AddressPool { first: address(10), last: address(10) }];
    let mac = Message::from(5).mac;
    subnet.reservations =
        vec![Reservation { mac, address: address(5), hostname: Some("five".into()) }].into();
    change(subnet);
    Server::new(policy)
}

fn server() -> Server {
    server_with(|_| ())
}

/// One machine has the only address of the pool.
fn full() -> Server {
    let mut server = server();
    server.bind(&Message::from(1));
    server
}

/// How most reasons begin.
const SYSTEM: &str = "a system (no boot options); subnet 192.168.4.0/24 by interface eth1";
const UEFI: &str =
    "PXE firmware on x64 UEFI (option 93 = 7); subnet 192.168.4.0/24 by interface eth1";

/// `name | kind | address | words`
#[derive(Default)]
struct Book(String);

impl Book {
    fn note(&mut self, name: &str, decision: &Decision) {
        let Some(event) = &decision.event else {
            let why =
                decision.silence.as_ref().map_or("answered".to_owned(), |why| format!("{why:?}"));
            return writeln!(self.0, "{name} | nothing is told | {why}").unwrap();
        };
        let kind = match &event.kind {
            DhcpEventKind::Silent(_) => "silent".to_owned(),
            DhcpEventKind::NoLoader(why) => format!("no loader ({why})"),
            other => format!("{other:?}").to_lowercase(),
        };
        assert_eq!(decision.silence.is_some(), decision.answer.is_none(), "{name}");
        let on = event.address.map_or("-".to_owned(), |address| address.to_string());
        let text = event.text.replace(SYSTEM, "[system]").replace(UEFI, "[uefi]");
        writeln!(self.0, "{name} | {kind} | {on} | {text}").unwrap();
    }

    #[track_caller]
    fn reads(&self, golden: &str) {
        for (line, expected) in self.0.lines().zip(golden.trim_start().lines()) {
            assert_eq!(line, expected);
        }
        assert_eq!(self.0.lines().count(), golden.trim().lines().count(), "{}", self.0);
    }
}

#[test]
fn every_answer_is_told_in_its_words() {
    let mut book = Book::default();
    let mut server = server();
    let first = Message::from(1).pxe(7);
    book.note("offer", &server.ask(&first.clone().discover()));
    book.note("offer again", &server.ask(&first.clone().discover()));
    book.note("lease", &server.ask(&first.clone().request(address(10))));
    book.note("offer of a lease", &server.ask(&first.clone().discover()));
    book.note("renewal", &server.ask_by(&first.clone().renew(address(10)), unicast(address(10))));
    book.note("reboot", &server.ask(&first.clone().init_reboot(address(10))));
    server.now += 600;
    book.note("offer of a lease that ends now", &server.ask(&first.clone().discover()));
    server.ask(&first.clone().request(address(10)));
    server.ask(&first.clone().release(address(10)));
    book.note("offer after a release", &server.ask(&first.clone().discover()));
    book.note("reserved", &server.ask(&Message::from(5).discover()));
    book.note("BOOTP", &server.ask(&Message::from(5)));
    book.note(
        "parameters",
        &server.ask_by(&Message::from(3).inform(address(180)), unicast(address(180))),
    );
    book.note(
        "another network",
        &server.ask(&Message::from(3).init_reboot(Ipv4Addr::new(10, 9, 9, 9))),
    );
    book.note("another client's", &server.ask(&Message::from(3).request(address(10))));
    book.note("nobody's", &server.ask(&Message::from(3).request(address(99))));
    book.note("ours", &server.ask(&Message::from(3).request(SERVER)));
    book.note("not the reserved one", &server.ask(&Message::from(5).request(address(10))));
    book.note("not its own", &server.ask(&Message::from(1).init_reboot(address(11))));
    book.note(
        "no lease",
        &server.ask_by(&Message::from(3).renew(address(10)), unicast(address(10))),
    );
    let asks = first.clone().discover();
    book.note("HTTP", &server.ask(&Message::from(1).http(16).discover()));
    book.note("iPXE", &server.ask(&Message::from(1).ipxe(7).discover()));
    book.note("no such loader", &server.ask(&Message::from(1).pxe(11).discover()));
    book.note("no such loader, bound", &server.ask(&Message::from(1).pxe(11).request(address(10))));
    for octets in [127, 128, 255, 256] {
        server.policy.boot.uefi_x64 = Some("d".repeat(octets));
        let decision = server.ask(&asks);
        let words =
            decision.reasons.as_str().replace(&"d".repeat(octets), "...").replace(UEFI, "[uefi]");
        writeln!(book.0, "{octets} octets | {words}").unwrap();
    }
    let mut twin = server_with(|_| ());
    let guid = |n: u8| Message::from(1).pxe(7).with(97, &[&[0][..], &[n; 16]].concat());
    twin.bind(&guid(1));
    book.note("twin", &twin.ask(&guid(2).request(address(10))));
    book.note("no twin", &twin.ask(&guid(2).request(address(10))));
    let crowded = Message::from(1).with(61, &[9; 200]).discover();
    let mut names = server_with(|subnet| subnet.domain_name_servers = vec![SERVER; 60]);
    book.note("too little room", &names.ask(&crowded));
    book.reads(ANSWERS);
}

const ANSWERS: &str = r#"
offer | offered | 192.168.4.10 | offer: [uefi]; address 192.168.4.10 from the pool; loader shimx64.efi because option 93 = 7
offer again | offered | 192.168.4.10 | offer: [uefi]; address 192.168.4.10 because the client had it before; loader shimx64.efi because option 93 = 7
lease | leased | 192.168.4.10 | lease: [uefi]; address 192.168.4.10 for 600 s; loader shimx64.efi because option 93 = 7
offer of a lease | offered | 192.168.4.10 | offer: [uefi]; address 192.168.4.10 by its lease; loader shimx64.efi because option 93 = 7
renewal | renewed | 192.168.4.10 | renewal: [uefi]; address 192.168.4.10 for 600 s; loader shimx64.efi because option 93 = 7
reboot | leased | 192.168.4.10 | lease: [uefi]; address 192.168.4.10 for 600 s; loader shimx64.efi because option 93 = 7
offer of a lease that ends now | offered | 192.168.4.10 | offer: [uefi]; address 192.168.4.10 because the client had it before; loader shimx64.efi because option 93 = 7
offer after a release | offered | 192.168.4.10 | offer: [uefi]; address 192.168.4.10 because the client had it before; loader shimx64.efi because option 93 = 7
reserved | offered | 192.168.4.5 | offer: [system]; address 192.168.4.5 by reservation; no boot file because the client says nothing of booting
BOOTP | leased | 192.168.4.5 | BOOTP reply: [system]; address 192.168.4.5 by reservation; loader pxelinux.0 because BOOTP
parameters | parameters | - | parameters: [system]; no boot file because the client says nothing of booting
another network | refused | 10.9.9.9 | refusal of 10.9.9.9: [system]; 10.9.9.9 refused: wrong network
another client's | refused | 192.168.4.10 | refusal of 192.168.4.10: [system]; 192.168.4.10 refused: the address belongs to another client
nobody's | refused | 192.168.4.99 | refusal of 192.168.4.99: [system]; 192.168.4.99 refused: not an address that is given here
ours | refused | 192.168.4.150 | refusal of 192.168.4.150: [system]; 192.168.4.150 refused: the address is the server's or the relay's own
not the reserved one | refused | 192.168.4.10 | refusal of 192.168.4.10: [system]; 192.168.4.10 refused: another address is reserved for this client
not its own | refused | 192.168.4.11 | refusal of 192.168.4.11: [system]; 192.168.4.11 refused: wrong address for this client
no lease | refused | 192.168.4.10 | refusal of 192.168.4.10: [system]; 192.168.4.10 refused: no lease on this address for this client
HTTP | offered | 192.168.4.10 | offer: HTTP Boot firmware on x64 UEFI (option 60 = HTTPClient, option 93 = 16); subnet 192.168.4.0/24 by interface eth1; address 192.168.4.10 because the client had it before; http://192.168.4.150/efi/bootx64.efi because the client is HTTP Boot firmware (option 60 = HTTPClient, option 93 = 16)
iPXE | offered | 192.168.4.10 | offer: iPXE on x64 UEFI (option 77 = iPXE, option 93 = 7); subnet 192.168.4.0/24 by interface eth1; address 192.168.4.10 because the client had it before; loader shimx64.efi for iPXE because option 77 = iPXE, option 93 = 7 and [boot] ipxe is not set
no such loader | no loader (no boot file because [boot] uefi-arm64 is not set (option 93 = 11)) | 192.168.4.10 | offer: PXE firmware on arm64 UEFI (option 93 = 11); subnet 192.168.4.0/24 by interface eth1; address 192.168.4.10 because the client had it before; no boot file because [boot] uefi-arm64 is not set (option 93 = 11)
no such loader, bound | no loader (no boot file because [boot] uefi-arm64 is not set (option 93 = 11)) | 192.168.4.10 | lease: PXE firmware on arm64 UEFI (option 93 = 11); subnet 192.168.4.0/24 by interface eth1; address 192.168.4.10 for 600 s; no boot file because [boot] uefi-arm64 is not set (option 93 = 11)
127 octets | [uefi]; address 192.168.4.10 by its lease; loader ... because option 93 = 7
128 octets | [uefi]; address 192.168.4.10 by its lease; loader ... because option 93 = 7; the name has 128 bytes: it goes into option 67 only, which shim does not read
255 octets | [uefi]; address 192.168.4.10 by its lease; loader ... because option 93 = 7; the name has 255 bytes: it goes into option 67 only, which shim does not read; options [15, 150, 66, 6, 59, 58, 28] left out, they do not fit
256 octets | [uefi]; address 192.168.4.10 by its lease; no boot file because its name has 256 bytes
twin | twin | 192.168.4.10 | lease: [uefi]; address 192.168.4.10 for 600 s; machines 02020202-0202-0202-0202-020202020202 and 01010101-0101-0101-0101-010101010101 have one hardware address; loader shimx64.efi because option 93 = 7
no twin | leased | 192.168.4.10 | lease: [uefi]; address 192.168.4.10 for 600 s; loader shimx64.efi because option 93 = 7
too little room | offered | 192.168.4.10 | offer: [system]; address 192.168.4.10 from the pool; no boot file because the client says nothing of booting; options [15, 150, 6] left out, they do not fit
"#;

#[test]
fn every_silence_is_told_in_its_words() {
    let mut book = Book::default();
    let stranger = Message::from(3);
    book.note("no address left", &full().ask(&stranger.clone().discover()));
    book.note("declined", &full().ask(&Message::from(1).decline(address(10))));
    book.note("not its own to decline", &full().ask(&stranger.clone().decline(address(10))));
    book.note("released", &full().ask(&Message::from(1).release(address(10))));
    book.note("not its own to release", &full().ask(&stranger.clone().release(address(10))));
    let elsewhere = [192, 168, 4, 2];
    let mut offered = server();
    offered.ask(&stranger.clone().discover());
    book.note(
        "chose another",
        &offered.ask(&stranger.clone().request(address(9)).with(54, &elsewhere)),
    );
    book.note(
        "chose another, unknown",
        &server().ask(&stranger.clone().request(address(9)).with(54, &elsewhere)),
    );
    book.note(
        "declines another's",
        &full().ask(&stranger.clone().decline(address(10)).with(54, &elsewhere)),
    );
    book.note("names no address", &server().ask(&stranger.clone().with(53, &[3])));
    book.note(
        "names no address to us",
        &server().ask(&stranger.clone().with(53, &[3]).with(54, &SERVER.octets())),
    );
    book.note("unknown here", &server().ask(&stranger.clone().init_reboot(address(10))));
    book.note("unknown here, renewing", &server().ask(&stranger.clone().renew(address(10))));
    book.note("BOOTP", &server().ask(&stranger));
    book.note("outside", &server().ask(&stranger.clone().inform(Ipv4Addr::new(8, 8, 8, 8))));
    let pending = |message: Message| {
        let mut server = server();
        server.ask(&Message::from(1).discover());
        let first = server.decide(&Message::from(1).request(address(10)), |_| ());
        server.leases.begin_commit(&first.changes, first.xid, server.now);
        server.ask(&message)
    };
    book.note("the same again", &pending(Message::from(1).request(address(10))));
    book.note("the same again, rebooting", &pending(Message::from(1).init_reboot(address(10))));
    book.note("the same again, renewing", &pending(Message::from(1).renew(address(10))));
    book.note("declined too early", &pending(Message::from(1).decline(address(10))));
    let mut pxe = server_with(|subnet| subnet.clients = ClientAdmission::Pxe);
    book.note("does not boot", &pxe.ask(&stranger.clone().discover()));
    let mut known = server_with(|subnet| subnet.clients = ClientAdmission::Known);
    book.note("not reserved", &known.ask(&stranger.clone().pxe(7).discover()));
    let other = OtherServer { mac: Mac([2; 6]), address: address(2) };
    for (name, held) in [
        ("no interface", HoldReason::NoInterface),
        ("looking", HoldReason::Looking),
        ("another server", HoldReason::OtherServer(other)),
    ] {
        let held = [(subnet().network, held)];
        let decision = server().ask_by(&stranger.clone().discover(), |arrival| {
            arrival.held = Box::leak(Box::new(held))
        });
        book.note(name, &decision);
    }
    let mut no_room = server();
    no_room.policy.boot.uefi_http = Some(format!("efi/{}", "b".repeat(200)));
    let told = no_room.ask(&Message::from(1).http(16).with(61, &[9; 250]).discover());
    assert!(told.changes.is_empty() && told.silence.is_some());
    let event = told.event.unwrap();
    writeln!(book.0, "no room | {}", event.text.split(':').next().unwrap()).unwrap();
    let mut off = server_with(|subnet| subnet.mode = AnsweringMode::Off);
    book.note("off", &off.ask(&stranger.clone().discover()));
    book.note(
        "no subnet",
        &server().ask_by(&stranger.clone().discover(), |a| a.interface = Some("eth7")),
    );
    let mut far = stranger.clone().relayed().discover();
    far.giaddr = Ipv4Addr::new(172, 16, 0, 1);
    book.note("unknown relay", &server().ask(&far));
    far.giaddr = Ipv4Addr::new(192, 168, 4, 1);
    book.note("closed to relays", &server().ask(&far));
    far.hops = 17;
    book.note("too many hops", &server().ask(&far));
    let mut group = stranger.clone().discover();
    group.mac = Mac([0xff; 6]);
    book.note("no station", &server().ask(&group));
    book.note("not served", &server().ask(&stranger.clone().with(53, &[9])));
    let mut lapsed = full();
    lapsed.now += 600 + OFFER_HOLD_S;
    lapsed.policy.subnets.push(Subnet { pools: Vec::new(), ..relayed_subnet() });
    book.note("after a lapse", &lapsed.ask(&stranger.discover()));
    book.reads(SILENCES);
}

const SILENCES: &str = r#"
no address left | silent | - | no answer, no address is free in subnet 192.168.4.0/24: [system]
declined | silent | 192.168.4.10 | the client found its address in use: [system]
not its own to decline | silent | - | no answer, 192.168.4.10 is not held by this client: [system]
released | silent | 192.168.4.10 | the client gave its address back: [system]
not its own to release | silent | - | no answer, 192.168.4.10 is not held by this client: [system]
chose another | silent | 192.168.4.10 | no answer, the client chose server 192.168.4.2: [system]
chose another, unknown | silent | - | no answer, the client chose server 192.168.4.2: [system]
declines another's | silent | - | no answer, the client chose server 192.168.4.2: [system]
names no address | silent | - | no answer, the request names no address: [system]
names no address to us | silent | - | no answer, the request names no address: [system]
unknown here | silent | - | no answer, this server has no record of the client, and another server may have one: [system]
unknown here, renewing | silent | - | no answer, this server has no record of the client, and another server may have one: [system]
BOOTP | silent | - | no answer, BOOTP without a reservation: [system]
outside | silent | - | no answer, 8.8.8.8 is outside of the subnet: [system]
the same again | silent | - | no answer, the same request waits for the store: [system]
the same again, rebooting | silent | - | no answer, the same request waits for the store: [system]
the same again, renewing | silent | - | no answer, the same request waits for the store: [system]
declined too early | silent | - | no answer, the same request waits for the store: [system]
does not boot | silent | - | no answer, the client says nothing of network boot, and never did (`clients = "pxe"` on subnet 192.168.4.0/24): [system]
not reserved | silent | - | no answer, the client has no reservation (`clients = "known"` on subnet 192.168.4.0/24): [uefi]
no interface | silent | - | no answer, subnet 192.168.4.0/24 is silent: its interface is not there, or has no address in it: [system]
looking | silent | - | no answer, subnet 192.168.4.0/24 is silent: looking for other DHCP servers: [system]
another server | silent | - | no answer, subnet 192.168.4.0/24 is silent: the DHCP server 192.168.4.2 (02:02:02:02:02:02) answered there: [system]
no room | no answer, the options that cannot be left out do not fit 548 bytes
off | silent | - | no answer, subnet 192.168.4.0/24 is switched off: a system (no boot options)
no subnet | silent | - | no answer, no subnet is configured for 192.168.4.150: a system (no boot options)
unknown relay | silent | - | no answer, no subnet is configured for 172.16.0.1, and this message came from beyond a router: a system (no boot options)
closed to relays | silent | - | no answer, subnet 192.168.4.0/24 serves only its own link, and this message came from beyond a router (`relay = true` on it serves both): a system (no boot options)
too many hops | nothing is told | Hops
no station | nothing is told | NotAStation
not served | nothing is told | NotServed(9)
after a lapse | offered | 192.168.4.10 | offer: [system]; address 192.168.4.10 from the pool; no boot file because the client says nothing of booting
"#;
