//! Tests of D-66 to D-73: HTTP Boot, iPXE and the architectures.

use std::net::Ipv4Addr;

use super::server;
use crate::boot::loader_choice::BootConfig;
use crate::dhcp::decide::DhcpEventKind;
use crate::dhcp::testing::{Message, SERVER, Server};

#[test]
fn d66_http_boot_gets_its_class_and_a_url() {
    for arch in [16, 17, 15, 19] {
        let offer = server().ask(&Message::from(1).http(arch).discover());
        assert_eq!(offer.option(60).unwrap(), b"HTTPClient");
        assert_eq!(offer.option(67).unwrap(), b"http://192.168.4.150/efi/bootx64.efi");
        assert_eq!(offer.option(43), None);
    }
    let mut without = server();
    without.policy.boot.uefi_http = None;
    let offer = without.ask(&Message::from(1).http(16).discover());
    assert_eq!(
        (offer.option(60), offer.option(67), offer.reply().file),
        (None, None, &b""[..]),
        "no TFTP name"
    );
    assert!(matches!(offer.event.unwrap().kind, DhcpEventKind::NoLoader(_)));
}

#[test]
fn d66_name_servers_come_with_the_url_even_unasked() {
    let offer = server().ask(&Message::from(1).http(16).with(55, &[1, 3]).discover());
    assert_eq!(offer.option(6).unwrap(), SERVER.octets());
}

#[test]
fn d67_the_url_is_in_the_header_too_and_60_is_exact() {
    let offer = server().ask(&Message::from(1).http(16).discover());
    assert_eq!(offer.reply().file, b"http://192.168.4.150/efi/bootx64.efi");
    assert_eq!(offer.option(60).unwrap(), b"HTTPClient");
}

#[test]
fn d68_ipxe_is_told_that_no_proxy_will_answer() {
    let mut server = server();
    for message in [Message::from(1).ipxe(0), Message::from(1).pxe(7).with(77, b"iPXE")] {
        let offer = server.ask(&message.clone().discover());
        assert_eq!(offer.option(175).unwrap(), [176, 1, 1]);
        let ack = server.ask(&message.request(offer.yiaddr()));
        assert_eq!(ack.option(175).unwrap(), [176, 1, 1]);
    }
    assert_eq!(server.ask(&Message::from(2).pxe(0).with(55, &[175]).discover()).option(175), None);
}

#[test]
fn d69_firmware_gets_ipxe_and_ipxe_gets_the_script() {
    let mut server = server();
    server.policy.boot = BootConfig { bios: Some("undionly.kpxe".into()), ..BootConfig::default() };
    let file =
        |server: &mut Server, message: Message| server.ask(&message.discover()).option(67).unwrap();
    assert_eq!(file(&mut server, Message::from(1).pxe(0)), b"undionly.kpxe");
    let script = b"http://192.168.4.150/boot.ipxe".to_vec();
    assert_eq!(file(&mut server, Message::from(1).pxe(0).with(77, b"iPXE")), script);
    assert_eq!(file(&mut server, Message::from(1).pxe(0).with(175, &[0x13, 1, 1])), script);
    assert_eq!(file(&mut server, Message::from(1).ipxe(0)), script);
    server.policy.http_port = 8080;
    assert_eq!(file(&mut server, Message::from(1).ipxe(0)), b"http://192.168.4.150:8080/boot.ipxe");
}

#[test]
fn d70_an_ipxe_without_http_is_sent_to_tftp() {
    let mut server = server();
    server.policy.boot.ipxe = None;
    server.policy.boot.bios = None;
    let crippled = Message::from(1).ipxe(0).with(175, &[0x15, 1, 1, 0x21, 1, 1]);
    assert_eq!(server.ask(&crippled.discover()).option(67).unwrap(), b"boot.ipxe");
}

#[test]
fn d71_ipxe_is_answered_each_time_it_asks_and_again_after_a_nak() {
    let mut server = server();
    let message = Message::from(1).ipxe(0).with(57, &1472u16.to_be_bytes());
    let mut offered = Vec::new();
    for wait in [0, 1, 2, 4, 8] {
        server.now += wait;
        let offer = server.ask(&message.clone().discover());
        assert!(offer.bytes().len() <= 1472);
        offered.push(offer.yiaddr());
    }
    assert_eq!(offered, vec![offered[0]; 5]);
    assert_eq!(
        server.ask(&message.clone().init_reboot(Ipv4Addr::new(10, 1, 1, 1))).message_type(),
        Some(6)
    );
    assert_eq!(server.ask(&message.discover()).message_type(), Some(2));
}

#[test]
fn d72_nine_boots_as_seven() {
    let file = |arch| server().ask(&Message::from(1).pxe(arch).discover()).option(67);
    assert_eq!(file(9), file(7));
}

#[test]
fn d73_unknown_architecture_gets_plain_dhcp_and_an_event() {
    let mut server = server();
    let offer = server.ask(&Message::from(1).pxe(27).discover());
    assert_eq!((offer.option(60), offer.option(67), offer.option(66)), (None, None, None));
    assert_eq!(offer.option(3).unwrap(), [192, 168, 4, 1]);
    let event = offer.event.unwrap();
    assert!(matches!(event.kind, DhcpEventKind::NoLoader(_)));
    assert!(event.text.contains("option 93 = 27"), "{}", event.text);
}
