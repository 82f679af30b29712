//! Tests of DHCP messages against captures.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;

/// Every DHCP message of a client in a capture: BOOTP header to the last byte.
fn recorded(name: &str) -> Vec<Vec<u8>> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/recorded")
        .join(name)
        .with_extension("pcap");
    let file = std::fs::read(file).unwrap();
    let mut rest = &file[24..];
    let mut messages = Vec::new();
    while rest.len() > 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let (frame, after) = rest[16..].split_at(length);
        rest = after;
        // IPv4 over Ethernet without IP options, UDP to port 67.
        if frame[12..14] == [8, 0]
            && frame[14] == 0x45
            && frame[23] == 17
            && frame[36..38] == [0, 67]
        {
            messages.push(frame[42..].to_vec());
        }
    }
    messages
}

/// The message that a model sends in place of this recorded one.
fn played(speaker: DhcpSpeaker, message: &[u8], nth: u16) -> Vec<u8> {
    let option = |code| {
        (OptionCursor { rest: &message[240..] })
            .find(|(found, _)| *found == code)
            .map(|(_, value)| value)
    };
    let address =
        |code| option(code).map(|value| Ipv4Addr::from(*value.first_chunk::<4>().unwrap()));
    let uuid = option(97).map_or([0; 16], |value| value[1..17].try_into().unwrap());
    let ask = ClientMessage {
        speaker,
        mac: Mac(message[28..34].try_into().unwrap()),
        uuid: Uuid(uuid),
        xid: u32::from_be_bytes(message[4..8].try_into().unwrap()),
        nth,
        server: address(54),
        address: address(50),
        kind: DhcpMessageType::from_octet(option(53).unwrap()[0]).unwrap(),
    };
    encode_client_message(&ask, None)
}

#[test]
fn d52_every_speaker_says_octet_by_octet_what_was_recorded() {
    for (name, speaker) in [
        ("bios-ipxe", DhcpSpeaker::Ipxe(0)),
        ("bios-ipxe-sanboot-fast", DhcpSpeaker::Ipxe(0)),
        ("uefi-iperom-pxe", DhcpSpeaker::Ipxe(7)),
        ("uefi-pxe", DhcpSpeaker::UefiPxe(7)),
        ("arm64-pxe", DhcpSpeaker::UefiPxe(11)),
        ("uefi-http", DhcpSpeaker::UefiHttp(16)),
        ("uboot-arm64", DhcpSpeaker::UBoot),
    ] {
        let messages = recorded(name);
        let xid = &messages.first().unwrap()[4..8];
        for (nth, message) in (0..).zip(messages.iter().filter(|message| message[4..8] == *xid)) {
            assert_said(&played(speaker, message, nth), message, name);
        }
    }
    let grub: Vec<_> =
        recorded("uefi-http").into_iter().filter(|message| message[8] == 0xc8).collect();
    for (nth, message) in (0..).zip(&grub) {
        assert_said(&played(DhcpSpeaker::Grub, message, nth), message, "GRUB");
    }
    assert_eq!(grub.len(), 2);
}

/// Some pad with zeros to the length of a BOOTP message.
fn assert_said(played: &[u8], recorded: &[u8], name: &str) {
    let (real, padding) = recorded.split_at(played.len().min(recorded.len()));
    assert_eq!(played, real, "{name}");
    assert!(padding.iter().all(|octet| *octet == 0), "{name}");
}

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]);
const THROUGH: RelayHop =
    RelayHop { relay: Ipv4Addr::new(127, 77, 0, 2), circuit: 5, own_port: true };

fn ask(speaker: DhcpSpeaker, kind: DhcpMessageType) -> ClientMessage {
    ClientMessage {
        speaker,
        mac: MAC,
        uuid: Uuid([3; 16]),
        xid: 0x0102_0304,
        nth: 0,
        server: None,
        address: None,
        kind,
    }
}

fn codes(packet: &[u8]) -> Vec<u8> {
    (OptionCursor { rest: &packet[240..] }).map(|(code, _)| code).collect()
}

#[test]
fn d8_d18_d52_each_firmware_asks_as_it_was_captured() {
    let uefi = encode_client_message(
        &ask(DhcpSpeaker::UefiPxe(7), DhcpMessageType::Discover),
        Some(&THROUGH),
    );
    assert_eq!(codes(&uefi), [53, 57, 55, 97, 94, 93, 60, 82]);
    assert_eq!(uefi[10..12], [0x80, 0]);
    let ipxe = encode_client_message(
        &ask(DhcpSpeaker::Ipxe(0), DhcpMessageType::Discover),
        Some(&THROUGH),
    );
    assert_eq!(codes(&ipxe), [53, 57, 93, 94, 60, 77, 55, 175, 61, 97, 82]);
    assert_eq!((ipxe[9], &ipxe[10..12]), (4, [0u8, 0].as_slice()));
    let mut request = ask(DhcpSpeaker::Ipxe(0), DhcpMessageType::Request);
    request.server = Some(Ipv4Addr::LOCALHOST);
    request.address = Some(Ipv4Addr::new(127, 77, 1, 1));
    assert_eq!(
        codes(&encode_client_message(&request, Some(&THROUGH))),
        [53, 57, 93, 94, 60, 77, 55, 175, 61, 97, 54, 50, 82]
    );
}

#[test]
fn d49_d74_the_relay_adds_giaddr_a_hop_and_option_82_last() {
    let packet = encode_client_message(
        &ask(DhcpSpeaker::BiosRom, DhcpMessageType::Discover),
        Some(&THROUGH),
    );
    assert_eq!(packet[3], 1);
    assert_eq!(packet[24..28], [127, 77, 0, 2]);
    assert!(packet.ends_with(&[82, 8, 1, 4, 0, 0, 0, 5, 19, 0, 255]));
    let direct = encode_client_message(&ask(DhcpSpeaker::BiosRom, DhcpMessageType::Discover), None);
    assert_eq!((direct[3], &direct[24..28], codes(&direct).contains(&82)), (0, &[0; 4][..], false));
    let plain = RelayHop { own_port: false, ..THROUGH };
    assert!(
        encode_client_message(&ask(DhcpSpeaker::BiosRom, DhcpMessageType::Discover), Some(&plain))
            .ends_with(&[82, 6, 1, 4, 0, 0, 0, 5, 255])
    );
}

#[test]
fn d28_a_release_names_address_server_and_client_and_nothing_else() {
    let address = Ipv4Addr::new(192, 168, 4, 58);
    let release = |speaker| {
        let server = Some(Ipv4Addr::new(192, 168, 4, 150));
        ClientMessage { server, address: Some(address), ..ask(speaker, DhcpMessageType::Release) }
    };
    let packet = encode_client_message(&release(DhcpSpeaker::UefiPxe(7)), None);
    assert_eq!(
        (packet.len(), &packet[8..12], &packet[12..16]),
        (300, &[0u8; 4][..], &address.octets()[..])
    );
    assert_eq!(packet[16..28], [0; 12], "neither yiaddr nor siaddr nor giaddr");
    assert_eq!(packet[240..250], [53, 1, 7, 54, 4, 192, 168, 4, 150, 255]);
    let packet = encode_client_message(&release(DhcpSpeaker::Ipxe(0)), Some(&THROUGH));
    assert_eq!(
        (codes(&packet), &packet[24..28]),
        (vec![53, 54, 61, 82], &THROUGH.relay.octets()[..])
    );
}

#[test]
fn d42_the_boot_file_is_option_67_and_else_the_header() {
    let mut packet =
        encode_client_message(&ask(DhcpSpeaker::BiosRom, DhcpMessageType::Offer), Some(&THROUGH));
    packet[0] = 2;
    packet[108..118].copy_from_slice(b"pxelinux.0");
    assert_eq!(decode_dhcp_answer(&packet).unwrap().boot_file.as_deref(), Some("pxelinux.0"));
    packet.pop();
    packet.extend_from_slice(b"\x43\x05a.efi\x00\xff");
    let answer = decode_dhcp_answer(&packet).unwrap();
    assert_eq!(answer.boot_file.as_deref(), Some("a.efi"));
    assert_eq!((answer.kind, answer.xid, answer.mac), (DhcpMessageType::Offer, 0x0102_0304, MAC));
    assert_eq!(answer.relay_information, Some(encode_relay_information(&THROUGH)));
}

#[test]
fn d7_a_cut_answer_is_no_answer_and_never_a_panic() {
    let mut packet =
        encode_client_message(&ask(DhcpSpeaker::UefiPxe(7), DhcpMessageType::Ack), Some(&THROUGH));
    packet[0] = 2;
    for end in 0..243 {
        assert_eq!(decode_dhcp_answer(&packet[..end]), None, "{end} octets");
    }
    assert!(decode_dhcp_answer(&packet[..243]).is_some());
    packet[0] = 1;
    assert_eq!(decode_dhcp_answer(&packet), None);
}
