//! Tests of the messages that find other servers, and of the watch on them.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use std::net::{Ipv4Addr, SocketAddrV4};

use super::message::{ACK, OFFER};
use super::*;
use crate::dhcp::classify::{MessageFacts, MessageKind};
use crate::dhcp::frame;
use crate::dhcp::limits::{LOOK_AGAIN_MS, LOOK_FIRST_MS, LOOK_SPREAD};
use crate::dhcp::packet::{FLAG_BROADCAST, Packet};
use crate::dhcp::reply::{ReplyMessage, ReplyOptions};
use crate::dhcp::route::{CLIENT_PORT, SERVER_PORT};
use crate::dhcp::subnet::{HoldReason, OtherServer};
use crate::model::machine::Mac;

const PROBE: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SENDER: Mac = Mac([0x52, 0x54, 0, 0, 0, 2]);
const OTHER: OtherServer = OtherServer { mac: SENDER, address: Ipv4Addr::new(192, 168, 4, 2) };
const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 150);

/// Above and below the other's address.
const LOW: Ipv4Addr = Ipv4Addr::new(192, 168, 4, 1);
const MARK: RingbootMark = RingbootMark { address: OURS, serves: false };

fn reply(kind: u8, yiaddr: Ipv4Addr, server: Option<Ipv4Addr>) -> Vec<u8> {
    let mut chaddr = [0; 16];
    chaddr[..6].copy_from_slice(&PROBE.0);
    let none = Ipv4Addr::UNSPECIFIED;
    let server_id = server.map(|server| (54, server.octets().to_vec()));
    let reply = ReplyMessage {
        htype: 1,
        hlen: 6,
        xid: 7,
        flags: FLAG_BROADCAST,
        ciaddr: none,
        yiaddr,
        siaddr: none,
        giaddr: none,
        chaddr,
        file: Vec::new(),
        options: std::iter::once((53, vec![kind])).chain(server_id).collect::<ReplyOptions>(),
    };
    let (bytes, _) = reply.encode(1472).unwrap();
    let from = SocketAddrV4::new(server.unwrap_or(OTHER.address), SERVER_PORT);
    frame::build_ipv4_datagram(from, SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT), &bytes)
        .unwrap()
}

fn offer(server: Option<Ipv4Addr>) -> Vec<u8> {
    reply(OFFER, Ipv4Addr::new(192, 168, 4, 30), server)
}

#[test]
fn after_a_reload_who_is_silent_looks_as_at_the_start_and_who_serves_goes_on() {
    let mut watch = ServerWatch::new(false, PriorKnowledge::Nothing);
    watch.on_interface_up(0);
    watch.on_look_sent(7, 0);
    assert_eq!((watch.looked_ms(), watch.next_look_ms()), (Some(0), None), "it listens");
    let message = ServerMessage { xid: 7, server: OTHER, is_ringboot: false };
    assert!(watch.on_server_message(&message, OURS, 500).is_some());
    assert_eq!(watch.answered_ms(), Some(500));
    assert!(watch.next_look_ms().is_some_and(|at| at >= 500 + LOOK_AGAIN_MS));
    watch.look_again(1000);
    assert_eq!(
        (watch.hold_reason(), watch.next_look_ms()),
        (Some(HoldReason::Looking), Some(1000))
    );
    watch.on_look_sent(8, 1000);
    assert_eq!(
        watch.poll_deadline(1000 + LOOK_FIRST_MS),
        Some(LookVerdict::Nobody { is_news: true })
    );
    watch.look_again(9000);
    assert_eq!((watch.hold_reason(), watch.next_look_ms()), (None, Some(9000)), "served meanwhile");
}

#[test]
fn the_discover_is_one_that_any_server_answers_by_broadcast() {
    let packet = build_look_discover(PROBE, 7, MARK).unwrap();
    let (source, payload) = frame::parse_ipv4_datagram(&packet).unwrap();
    assert_eq!(source, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68));
    assert_eq!((&packet[16..20], &packet[22..24]), (&[255; 4][..], &67u16.to_be_bytes()[..]));
    let request = Packet::parse_request(payload).unwrap();
    let facts = MessageFacts::from_packet(&request);
    assert_eq!((facts.kind, facts.mac, request.xid), (MessageKind::Discover, PROBE, 7));
    assert!(request.wants_broadcast() && facts.boots_from_network() && facts.is_station());
}

#[test]
fn the_inform_comes_from_an_address_of_ours_and_asks_for_none() {
    let packet = build_look_inform(PROBE, 7, MARK).unwrap();
    let (source, payload) = frame::parse_ipv4_datagram(&packet).unwrap();
    assert_eq!((source, &packet[16..20]), (SocketAddrV4::new(OURS, 68), &[255; 4][..]));
    let request = Packet::parse_request(payload).unwrap();
    assert_eq!(
        (MessageFacts::from_packet(&request).kind, request.xid, request.ciaddr),
        (MessageKind::Inform, 7, OURS)
    );
    assert!(!request.wants_broadcast());
}

#[test]
fn a_server_is_known_by_its_identifier_or_its_address_and_we_are_none() {
    let heard = |packet: &[u8]| parse_server_message(packet, SENDER, &[OURS]);
    assert_eq!(heard(&offer(Some(OTHER.address))), Some(server_message(7)));
    assert_eq!(heard(&offer(None)), Some(server_message(7)));
    assert_eq!(heard(&offer(Some(OURS))), None);
    assert_eq!(heard(&build_look_discover(PROBE, 7, MARK).unwrap()), None, "a client's message");
    assert_eq!(
        heard(&reply(ACK, Ipv4Addr::UNSPECIFIED, Some(OTHER.address))),
        Some(server_message(7)),
        "an INFORM's answer"
    );
    let sent_by = |source: Ipv4Addr, mut packet: Vec<u8>| {
        packet[12..16].copy_from_slice(&source.octets());
        packet
    };
    assert_eq!(
        heard(&sent_by(OTHER.address, offer(Some(OURS)))),
        None,
        "ours, through a relay agent"
    );
    assert_eq!(
        heard(&sent_by(OURS, offer(Some(OTHER.address)))),
        None,
        "ours, in the name of a relay agent"
    );
    assert_eq!(
        heard(&sent_by(LOW, offer(Some(OTHER.address)))),
        Some(server_message(7)),
        "its identifier counts"
    );
    let proxy = reply(OFFER, Ipv4Addr::UNSPECIFIED, Some(OTHER.address));
    assert_eq!(heard(&proxy), None, "a ProxyDHCP server gives no addresses");
    assert_eq!(heard(&reply(6, Ipv4Addr::UNSPECIFIED, Some(OTHER.address))), None, "a NAK");
    let whole = offer(Some(OTHER.address));
    for cut in 0..whole.len() {
        let _ = heard(&whole[..cut]);
    }
}

fn watching(beside: bool, before: PriorKnowledge) -> ServerWatch {
    let mut watch = ServerWatch::new(beside, before);
    assert_eq!(watch.hold_reason(), Some(HoldReason::NoInterface));
    assert!(!watch.is_due(0) && watch.next_wakeup().is_none());
    watch.on_interface_up(100);
    assert!(watch.is_due(100));
    watch.on_look_sent(7, 100);
    watch
}

fn server_message(xid: u32) -> ServerMessage {
    ServerMessage { xid, server: OTHER, is_ringboot: false }
}

fn rival_at(address: Ipv4Addr, serves: bool) -> RivalLook {
    RivalLook { mac: SENDER, xid: 9, mark: RingbootMark { address, serves } }
}

const NOBODY: Option<LookVerdict> = Some(LookVerdict::Nobody { is_news: true });
const NEWS: Option<LookVerdict> = Some(LookVerdict::Server { server: OTHER, is_news: true });

/// Serves since 2.1 s, having looked at 0.1 s.
fn serving() -> ServerWatch {
    let mut watch = watching(false, PriorKnowledge::Nothing);
    assert_eq!(watch.poll_deadline(2100), NOBODY);
    watch
}

#[test]
fn a_look_says_whose_it_is_and_so_does_its_answer() {
    let payload = |packet: &[u8]| frame::parse_ipv4_datagram(packet).unwrap().1.to_vec();
    for packet in [build_look_discover(PROBE, 7, MARK), build_look_inform(PROBE, 7, MARK)] {
        let message = payload(&packet.unwrap());
        assert_eq!(parse_rival_look(&message), Some(RivalLook { mac: PROBE, xid: 7, mark: MARK }));
        assert_eq!(find_look_client(&message), Some(PROBE));
        for cut in 0..message.len() {
            let _ = parse_rival_look(&message[..cut]);
        }
        let mut relayed = message.clone();
        relayed[24] = 10;
        assert_eq!((parse_rival_look(&relayed), find_look_client(&relayed)), (None, Some(PROBE)));
        relayed[250] ^= 1;
        assert_eq!(
            (parse_rival_look(&relayed), find_look_client(&relayed)),
            (None, None),
            "anybody's"
        );
    }
    let mark = RingbootMark { address: OTHER.address, serves: true };
    let answer = build_rival_answer(&RivalLook { mac: PROBE, xid: 7, mark: MARK }, mark).unwrap();
    assert_eq!(
        parse_server_message(&answer, SENDER, &[OURS]),
        Some(ServerMessage { is_ringboot: true, ..server_message(7) })
    );
}

#[test]
fn nothing_is_offered_for_two_seconds_and_then_all_is_well_where_nobody_answers() {
    let mut watch = watching(false, PriorKnowledge::Nothing);
    assert_eq!((watch.hold_reason(), watch.poll_deadline(2099)), (Some(HoldReason::Looking), None));
    assert_eq!(watch.next_wakeup(), Some(2100));
    assert_eq!(watch.poll_deadline(2100), NOBODY);
    assert_eq!(watch.hold_reason(), None);
}

#[test]
fn looks_come_soon_at_first_and_then_every_five_minutes() {
    let (mut watch, mut now, mut pauses) = (serving(), 100, Vec::new());
    for xid in 0..7 {
        let next = watch.next_wakeup().unwrap();
        pauses.push((next - now) / 1000);
        now = next;
        assert!(watch.is_due(now) && !watch.is_due(now - 1));
        watch.on_look_sent(8 * xid, now);
        assert_eq!(watch.poll_deadline(now + 10_000), Some(LookVerdict::Nobody { is_news: false }));
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 300, 300]);
}

/// The first number shifts by nothing, and the one before the end of a turn by the most.
#[test]
fn two_servers_look_at_moments_of_their_own_and_no_later_than_an_eighth_of_the_pause() {
    let most = LOOK_AGAIN_MS / LOOK_SPREAD - 1;
    for (xid, later) in [
        (0, 0),
        (1, 1),
        (1874, most),
        (1875, 0),
        (3_749, most),
        (4_000_000_000, 4_000_000_000 % 1875),
    ] {
        let mut alone = watching(false, PriorKnowledge::Nothing);
        alone.on_look_sent(xid, 200);
        // The second pause is twice as long, and so is what it may be longer by.
        assert_eq!(alone.next_ms, 200 + 2 * LOOK_AGAIN_MS + u64::from(xid) % 3750);
        let mut beside = ServerWatch::new(false, PriorKnowledge::Nothing);
        beside.on_interface_up(100);
        beside.on_look_sent(xid, 100);
        assert_eq!(beside.next_ms, 100 + LOOK_AGAIN_MS + later, "{xid}");
        beside.on_server_message(&server_message(xid), OURS, 600).unwrap();
        assert_eq!(beside.next_wakeup(), Some(600 + LOOK_AGAIN_MS + later), "{xid}");
    }
}

#[test]
fn a_standby_looks_soon_at_first_and_then_every_minute_while_the_server_answers() {
    let mut watch = watching(false, PriorKnowledge::Nothing);
    watch.on_server_message(&server_message(7), OURS, 100).unwrap();
    let (mut now, mut pauses) = (100, Vec::new());
    for xid in 1..6 {
        let next = watch.next_wakeup().unwrap();
        pauses.push((next - now) / 1000);
        now = next;
        watch.on_look_sent(8 * xid, now);
        let verdict = watch.on_server_message(&server_message(8 * xid), OURS, now + 5);
        assert_eq!(verdict, Some(LookVerdict::Server { server: OTHER, is_news: false }));
    }
    assert_eq!(pauses, [15, 15, 30, 60, 60]);
}

#[test]
fn a_look_that_could_not_leave_is_tried_again_a_second_later() {
    let mut watch = ServerWatch::new(false, PriorKnowledge::Nothing);
    watch.on_interface_up(100);
    watch.on_send_failed(100);
    assert_eq!([100, 1099, 1100].map(|now| watch.is_due(now)), [false, false, true]);
    assert_eq!((watch.next_wakeup(), watch.hold_reason()), (Some(1100), Some(HoldReason::Looking)));
}

#[test]
fn a_client_that_asked_before_the_look_makes_it_longer_than_a_ping() {
    let mut watch = watching(false, PriorKnowledge::Nothing);
    watch.on_client_discover(900, 1000);
    assert_eq!(watch.next_wakeup(), Some(2100), "its first word came after the look");
    watch.on_client_discover(2000, 1000);
    assert_eq!((watch.poll_deadline(4099), watch.next_wakeup()), (None, Some(4100)));
    assert!(watch.poll_deadline(4100).is_some() && watch.hold_reason().is_none());
    watch.on_client_discover(9000, 4200);
    assert_eq!(watch.hold_reason(), None, "the look is over");
    let mut known = watching(false, PriorKnowledge::Alone);
    known.on_client_discover(9000, 200);
    assert_eq!(known.next_wakeup(), Some(600), "nobody was there a moment ago");
}

#[test]
fn a_server_that_answers_silences_the_subnet_until_a_look_finds_nobody() {
    let mut watch = watching(false, PriorKnowledge::Nothing);
    assert_eq!(watch.on_server_message(&server_message(7), OURS, 600), NEWS);
    assert_eq!(
        (watch.hold_reason(), watch.poll_deadline(9000)),
        (Some(HoldReason::OtherServer(OTHER)), None)
    );
    assert!(
        !watch.is_due(15_000) && watch.is_due(18_000),
        "soon: it may have been a single packet"
    );
    watch.on_look_sent(8, 18_000);
    assert_eq!(
        watch.poll_deadline(20_500),
        None,
        "two seconds are too short to call it gone: dnsmasq pings for three"
    );
    assert_eq!(watch.poll_deadline(28_000), NOBODY);
    assert_eq!(watch.hold_reason(), None);
}

#[test]
fn one_packet_silences_no_server_that_serves_and_two_answers_do() {
    let mut watch = serving();
    assert_eq!(
        watch.on_server_message(&server_message(7), OURS, 3200),
        Some(LookVerdict::Doubt(OTHER)),
        "a late answer"
    );
    assert_eq!(
        (watch.hold_reason(), watch.on_server_message(&server_message(7), OURS, 3300)),
        (None, None),
        "the same packet again"
    );
    assert!(!watch.is_due(5199) && watch.is_due(5200), "asked once more, seconds later");
    watch.on_look_sent(8, 5200);
    assert_eq!(
        (watch.on_server_message(&server_message(7), OURS, 5300), watch.hold_reason()),
        (None, None),
        "not the new number"
    );
    let mut silent = watch.clone();
    assert_eq!(silent.poll_deadline(15_200), NOBODY);
    assert_eq!(silent.hold_reason(), None);
    assert_eq!(watch.on_server_message(&server_message(8), OURS, 5400), NEWS);
    assert!(watch.hold_reason().is_some());
    assert!(watch.is_due(22_500));
}

#[test]
fn after_a_run_that_found_a_server_it_is_given_time_to_answer() {
    let mut watch = watching(false, PriorKnowledge::Beside);
    assert_eq!(
        (watch.poll_deadline(10_099), watch.hold_reason()),
        (None, Some(HoldReason::Looking))
    );
    assert!(watch.poll_deadline(10_100).is_some() && watch.hold_reason().is_none());
}

#[test]
fn a_server_that_speaks_to_others_is_a_reason_to_look_but_not_every_time() {
    let mut watch = serving();
    watch.on_look_sent(8, 60_000);
    watch.poll_deadline(70_000).unwrap();
    assert!(!watch.is_due(74_999));
    assert_eq!(watch.on_server_message(&server_message(99), OURS, 70_500), None);
    assert_eq!(
        (watch.hold_reason(), watch.is_due(74_999), watch.is_due(75_000)),
        (None, false, true)
    );
    watch.look_soon(90_000);
    assert!(watch.is_due(90_000));
}

#[test]
fn a_configuration_that_changes_its_mind_about_other_servers_counts_at_once() {
    let mut watch = watching(false, PriorKnowledge::Nothing);
    assert_eq!(watch.hold_reason(), Some(HoldReason::Looking));
    watch.set_beside(true);
    assert_eq!(watch.hold_reason(), None);
    watch.set_beside(false);
    assert_eq!(watch.hold_reason(), Some(HoldReason::Looking));
}

#[test]
fn beside_other_servers_it_looks_but_is_never_held() {
    let mut watch = watching(true, PriorKnowledge::Nothing);
    assert_eq!(watch.hold_reason(), None);
    assert_eq!(watch.on_server_message(&server_message(7), OURS, 600), NEWS);
    assert_eq!(watch.hold_reason(), None);
}

#[test]
fn after_a_run_alone_and_after_a_loss_of_the_wire_it_offers_soon() {
    let mut watch = watching(false, PriorKnowledge::Alone);
    assert_eq!((watch.hold_reason(), watch.poll_deadline(599)), (Some(HoldReason::Looking), None));
    assert_eq!((watch.poll_deadline(600), watch.hold_reason()), (NOBODY, None));
    watch.on_link_restored(20_000);
    assert!(watch.is_due(20_000) && watch.hold_reason() == Some(HoldReason::Looking));
    watch.on_look_sent(8, 20_000);
    assert_eq!((watch.poll_deadline(20_500), watch.hold_reason()), (NOBODY, None));
    watch.on_interface_down();
    watch.on_interface_up(30_000);
    watch.on_look_sent(9, 30_000);
    assert_eq!(
        (watch.poll_deadline(30_500), watch.hold_reason()),
        (None, Some(HoldReason::Looking)),
        "a new interface: the whole time"
    );
}

#[test]
fn of_two_ringboots_that_start_together_the_lower_address_serves() {
    let (mut low, mut high) =
        (watching(false, PriorKnowledge::Nothing), watching(false, PriorKnowledge::Nothing));
    let other = OtherServer { mac: SENDER, address: LOW };
    let yields = RivalResponse::Yield(LookVerdict::Server { server: other, is_news: true });
    assert_eq!(high.on_rival_look(&rival_at(LOW, false), OURS, 1000), yields);
    assert_eq!(low.on_rival_look(&rival_at(OURS, false), LOW, 1000), RivalResponse::Answer);
    assert_eq!((low.poll_deadline(2100), high.poll_deadline(2100)), (NOBODY, None));
    assert_eq!(
        (low.hold_reason(), high.hold_reason()),
        (None, Some(HoldReason::OtherServer(other)))
    );
    assert_eq!(
        high.on_rival_look(&rival_at(LOW, true), OURS, 2200),
        RivalResponse::Silence,
        "it stands by"
    );
    assert_eq!(
        low.on_rival_look(&rival_at(OURS, false), LOW, 17_000),
        RivalResponse::Answer,
        "it serves"
    );
    high.on_look_sent(8, 18_000);
    assert_eq!(
        high.on_rival_look(&rival_at(LOW, false), OURS, 18_100),
        RivalResponse::Yield(LookVerdict::Server { server: other, is_news: false })
    );
    high.on_look_sent(9, 40_000);
    let highest = Ipv4Addr::new(192, 168, 4, 200);
    assert_eq!(
        high.on_rival_look(&rival_at(highest, false), OURS, 40_100),
        RivalResponse::Answer,
        "it looks as well, and is lower"
    );
    let mut nowhere = ServerWatch::new(false, PriorKnowledge::Nothing);
    assert_eq!(nowhere.on_rival_look(&rival_at(OURS, false), LOW, 0), RivalResponse::Silence);
}

/// Two halves of a network grow together, or the first looks of both were lost.
#[test]
fn of_two_ringboots_that_serve_the_higher_address_yields() {
    let (mut low, mut high) = (serving(), serving());
    assert_eq!(high.on_rival_look(&rival_at(LOW, true), OURS, 5000), RivalResponse::Answer);
    assert!(high.is_due(5000), "and looks at once");
    for (address, serves) in
        [(LOW, false), (OURS, true), (OTHER.address.max(Ipv4Addr::new(192, 168, 4, 200)), true)]
    {
        let mut goes_on = serving();
        assert_eq!(
            goes_on.on_rival_look(&rival_at(address, serves), OURS, 5000),
            RivalResponse::Answer
        );
        assert!(!goes_on.is_due(5000), "{address}, serves: {serves}");
    }
    let mut in_doubt = serving();
    in_doubt.on_server_message(&server_message(7), OURS, 4000).unwrap();
    assert_eq!(in_doubt.on_rival_look(&rival_at(LOW, true), OURS, 5000), RivalResponse::Answer);
    assert!(!in_doubt.is_due(5999) && in_doubt.is_due(6000), "it is to be asked again as it is");
    let answer = |xid, address| ServerMessage {
        xid,
        server: OtherServer { mac: SENDER, address },
        is_ringboot: true,
    };
    assert_eq!(
        (low.on_server_message(&answer(7, OURS), LOW, 5000), low.hold_reason()),
        (None, None),
        "the lower one goes on"
    );
    assert_eq!(low.on_rival_look(&rival_at(OURS, true), LOW, 5000), RivalResponse::Answer);
    high.on_look_sent(8, 5000);
    assert!(matches!(
        high.on_server_message(&answer(8, LOW), OURS, 5001),
        Some(LookVerdict::Doubt(_))
    ));
    high.on_look_sent(9, 7001);
    assert!(matches!(
        high.on_server_message(&answer(9, LOW), OURS, 7002),
        Some(LookVerdict::Server { .. })
    ));
    assert!(high.hold_reason().is_some());
}

#[test]
fn an_operator_may_have_what_was_found_forgotten() {
    let mut watch = watching(false, PriorKnowledge::Beside);
    watch.on_server_message(&server_message(7), OURS, 600).unwrap();
    watch.forget(5000);
    assert!(watch.is_due(5000) && watch.hold_reason() == Some(HoldReason::Looking));
    watch.on_look_sent(8, 5000);
    assert_eq!(watch.poll_deadline(7000), NOBODY, "as at the first start");
}
