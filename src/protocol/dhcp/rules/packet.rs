//! Tests of D-1 to D-8: which packets are read, and what of them is in the reply.

use super::{server, server_with};
use crate::dhcp::decide::DhcpSilence;
use crate::dhcp::testing::{Message, SERVER};
use crate::model::machine::Mac;

#[test]
fn d01_what_is_no_request_is_dropped_silently() {
    let mut server = server();
    for (at, value) in [(0usize, 2u8), (2, 17), (2, 255), (236, 0)] {
        let mut bytes = Message::from(1).discover().bytes();
        bytes[at] = value;
        let decision = server.decide(&Message::from(1).discover(), |arrival| {
            arrival.bytes = Box::leak(bytes.into())
        });
        assert!(
            decision.answer.is_none() && decision.changes.is_empty() && decision.event.is_none()
        );
        assert!(matches!(decision.silence, Some(DhcpSilence::Malformed(_))));
    }
    let mut group = Message::from(1).discover();
    group.mac = Mac([0xff; 6]);
    assert_eq!(server.ask(&group).silence, Some(DhcpSilence::NotAStation));
}

#[test]
fn d02_reply_copies_the_fields_of_its_request() {
    let mut message = Message::from(1).relayed().discover();
    (message.xid, message.flags, message.secs) = (0xfeed_f00d, 0x8001, 77);
    let decision = server().ask(&message);
    let (bytes, sent) = (decision.bytes(), message.bytes());
    assert_eq!((bytes[0], bytes[3]), (2, 0), "op and hops");
    assert_eq!(bytes[1..3], sent[1..3], "htype and hlen");
    assert_eq!(bytes[4..8], sent[4..8], "xid");
    assert_eq!(bytes[8..10], [0, 0], "secs");
    assert_eq!(bytes[10..12], sent[10..12], "flags");
    assert_eq!(bytes[24..44], sent[24..44], "giaddr and all sixteen octets of chaddr");
}

#[test]
fn d04_reply_stays_within_what_the_client_takes() {
    for (size, limit) in [(None, 548), (Some(576u16), 548), (Some(1472), 1444), (Some(65280), 1472)]
    {
        let mut server = server_with(|s| s.domain_name_servers = vec![SERVER; 60]);
        let mut message =
            Message::from(1).ipxe(0).with(55, &[6, 15]).with(61, &[9; 200]).discover();
        if let Some(size) = size {
            message = message.with(57, &size.to_be_bytes());
        }
        let offer = server.ask(&message);
        assert!(offer.bytes().len() <= limit, "{size:?}");
        assert_eq!(offer.option(6).is_some(), limit > 548, "dropped only under pressure");
    }
}

#[test]
fn d05_what_does_not_fit_at_all_is_an_event_and_no_answer() {
    let message = Message::from(1).http(16).with(61, &[9; 250]).discover();
    let mut server = server();
    server.policy.boot.uefi_http = Some(format!("efi/{}", "b".repeat(200)));
    let decision = server.ask(&message);
    assert!(matches!(decision.silence, Some(DhcpSilence::DoesNotFit(_))));
    assert!(decision.answer.is_none() && decision.changes.is_empty() && decision.event.is_some());
}

#[test]
fn d06_overload_is_off_so_file_stays_readable() {
    let mut server = server_with(|s| s.domain_name_servers = vec![SERVER; 60]);
    let offer =
        server.ask(&Message::from(1).pxe(7).with(55, &[6, 15]).with(61, &[9; 120]).discover());
    assert_eq!(offer.option(52), None);
    assert_eq!(offer.reply().file, b"shimx64.efi");
    assert_eq!(offer.bytes()[44..108], [0; 64], "sname holds no options");
}

#[test]
fn d08_secs_changes_nothing() {
    let mut message = Message::from(1).ipxe(0).discover();
    let early = server().ask(&message).answer;
    message.secs = u16::MAX;
    assert_eq!(server().ask(&message).answer, early);
}
