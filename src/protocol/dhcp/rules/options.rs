//! Tests of D-20 and D-33 to D-45: the options of a reply, their order and their form.

use std::net::Ipv4Addr;

use super::{address, server, server_with};
use crate::dhcp::decide::DhcpEventKind;
use crate::dhcp::packet::COOKIE;
use crate::dhcp::testing::{Message, SERVER};

/// An OFFER byte for byte: D-3 padding, D-33 order, D-43 Pads, D-53 options.
#[test]
fn d33_offer_to_uefi_pxe_is_golden() {
    let prl = [1, 3, 6, 15, 66, 67, 43, 60, 97];
    let guid = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
    let offer = server().ask(&Message::from(1).pxe(7).with(97, &guid).with(55, &prl).discover());
    let t1_t2 = [offer.option(58).unwrap(), offer.option(59).unwrap()];
    let golden = [
        &[53, 1, 2, 1, 4, 255, 255, 255, 0, 3, 4, 192, 168, 4, 1, 28, 4, 192, 168, 4, 255][..],
        &[51, 4, 0, 0, 2, 88, 54, 4, 192, 168, 4, 150, 58, 4],
        &t1_t2[0],
        &[59, 4],
        &t1_t2[1],
        &[6, 4, 192, 168, 4, 150, 15, 9],
        b"itwish.cn",
        b"\x42\x0d192.168.4.150\x00",
        b"\x43\x0bshimx64.efi\x00",
        &[43, 4, 6, 1, 8, 255],
        b"\x3c\x09PXEClient\x00",
        &[97, 17],
        &guid,
        &[255],
    ]
    .concat();
    let area = &offer.bytes()[240..];
    assert_eq!(&area[..golden.len()], &golden[..]);
    assert!(area[golden.len()..].iter().all(|&b| b == 0));
    assert_eq!(offer.bytes()[236..240], COOKIE);
}

#[test]
fn d33_mask_and_router_come_unasked_and_first() {
    let offer = server().ask(&Message::from(1).with(55, &[15, 6]).discover());
    assert_eq!(offer.codes(), [53, 1, 3, 28, 51, 54, 58, 59, 15, 6]);
    let bare = server().ask(&Message::from(1).discover());
    assert_eq!(bare.codes()[..8], [53, 1, 3, 28, 51, 54, 58, 59]);
    assert!(bare.codes().contains(&6), "a client without a list gets what there is");
}

#[test]
fn d33_name_servers_are_told_to_who_boots_by_names_and_else_to_who_asks() {
    let of = |message: Message| {
        let offer = server().ask(&message.with(55, &[1, 3]).discover());
        [6, 15].map(|code| offer.option(code).is_some())
    };
    assert_eq!(of(Message::from(1).pxe(7)), [false, false]);
    assert_eq!(of(Message::from(1).http(16)), [true, false]);
    assert_eq!(of(Message::from(1).ipxe(0)), [true, false]);
}

#[test]
fn d34_some_options_are_never_sent() {
    let wish = Message::from(1).pxe(7).with(55, &[50, 55, 57, 61, 52, 80]).with(57, &[5, 0]);
    let wish = wish.with(50, &address(30).octets());
    let offer = server().ask(&wish.discover());
    for code in [50, 55, 57, 61, 52, 80] {
        assert_eq!(offer.option(code), None, "option {code}");
    }
}

#[test]
fn d35_times_are_sent_and_in_order() {
    let ack = server().ask(&Message::from(1).with(51, &7200u32.to_be_bytes()).discover());
    let seconds = |code| u32::from_be_bytes(ack.option(code).unwrap().try_into().unwrap());
    assert_eq!(seconds(51), 7200, "as asked for");
    assert!(seconds(58) < seconds(59) && seconds(59) < seconds(51));
}

#[test]
fn d42_boot_file_and_server_are_in_header_and_options() {
    for message in [Message::from(1).pxe(7), Message::from(1).pxe(0), Message::from(1).ipxe(0)] {
        let offer = server().ask(&message.discover());
        assert_eq!(offer.option(67).unwrap(), offer.reply().file);
        assert_eq!(offer.option(66).unwrap(), b"192.168.4.150");
        assert_eq!(offer.reply().siaddr, SERVER);
    }
}

#[test]
fn d42_a_long_name_goes_into_option_67_only_with_a_word_of_warning() {
    let mut server = server();
    server.policy.boot.uefi_x64 = Some("d/".repeat(70));
    let offer = server.ask(&Message::from(1).pxe(7).discover());
    assert_eq!(offer.option(67).unwrap().len(), 140);
    assert_eq!(offer.reply().file, b"");
    assert!(offer.reasons.iter().any(|reason| reason.contains("140 bytes")));
}

#[test]
fn d41_a_list_has_as_many_addresses_as_one_option_holds() {
    for (servers, octets) in [(62, 248), (63, 252), (64, 252), (200, 252)] {
        let mut server = server_with(|subnet| subnet.ntp_servers = vec![SERVER; servers]);
        let offer = server.ask(&Message::from(1).with(57, &1500u16.to_be_bytes()).discover());
        assert_eq!(offer.option(42).unwrap().len(), octets, "{servers} servers");
    }
}

#[test]
fn d41_a_name_that_would_be_split_is_not_sent() {
    let mut server = server();
    server.policy.boot.uefi_x64 = Some("d/".repeat(128));
    let offer = server.ask(&Message::from(1).pxe(7).discover());
    assert_eq!((offer.option(67), offer.option(60)), (None, None));
    assert!(matches!(offer.event.unwrap().kind, DhcpEventKind::NoLoader(_)));
}

#[test]
fn d43_pads_follow_60_66_and_67_in_a_whole_reply() {
    let offer = server().ask(&Message::from(1).http(16).discover());
    let after = |code: u8| {
        let value = offer.option(code).unwrap();
        let wire = [&[code, value.len() as u8], &value[..]].concat();
        let at = offer.bytes().windows(wire.len()).position(|window| window == wire).unwrap();
        offer.bytes()[at + wire.len()]
    };
    assert_eq!([after(60), after(66), after(67)], [0, 0, 0]);
}

#[test]
fn d44_server_is_a_dotted_quad_in_66_and_an_address_in_150() {
    let asked = server().ask(&Message::from(1).pxe(0).with(55, &[66, 150]).discover());
    assert_eq!(asked.option(66).unwrap(), b"192.168.4.150");
    assert_eq!(asked.option(150).unwrap(), SERVER.octets());
    let unasked = server().ask(&Message::from(1).pxe(0).with(55, &[1]).discover());
    assert_eq!(unasked.option(150), None);
}

#[test]
fn d45_pxelinux_options_come_unasked() {
    let mut server = server_with(|s| {
        s.pxelinux_config = Some("menu.cfg".into());
        s.pxelinux_prefix = Some("http://192.168.4.150/boot".into());
    });
    let offer = server.ask(&Message::from(1).pxe(0).with(55, &[1, 3]).discover());
    assert_eq!(offer.option(209).unwrap(), b"menu.cfg");
    assert_eq!(offer.option(210).unwrap(), b"http://192.168.4.150/boot/");
}

/// siaddr, option 66, option 150 and the URL of HTTP Boot.
#[test]
fn d20_advertise_is_where_files_come_from() {
    let mut server = server();
    let advertised = Ipv4Addr::new(203, 0, 113, 5);
    server.policy.advertise = Some(advertised);
    let bios = server.ask(&Message::from(1).pxe(0).with(55, &[66, 67, 150]).discover());
    assert_eq!(
        (bios.reply().siaddr, bios.option(66).unwrap()),
        (advertised, b"203.0.113.5".to_vec())
    );
    assert_eq!(bios.option(150), Some(advertised.octets().to_vec()));
    assert_eq!(bios.option(54), Some(SERVER.octets().to_vec()), "but the server is who it is");
    let http = server.ask(&Message::from(2).http(16).discover());
    assert_eq!(http.option(67).unwrap(), b"http://203.0.113.5/efi/bootx64.efi");
}
