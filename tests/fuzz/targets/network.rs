//! Frames and packets of the segment: IPv4 and UDP headers, words of other DHCP servers, IPv6
//! router solicitations.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use arbitrary::Unstructured;
use ringboot::dhcp::{frame, other_servers, solicitation};
use ringboot::model::machine::Mac;

pub(crate) fn frame(bytes: &[u8]) {
    if let Some((source, payload)) = frame::parse_ipv4_datagram(bytes) {
        assert!(payload.len() + 28 <= bytes.len(), "a payload longer than its packet");
        // What is built from it is read as the same.
        let built =
            frame::build_ipv4_datagram(source, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68), payload)
                .unwrap();
        assert_eq!(frame::parse_ipv4_datagram(&built), Some((source, payload)));
    }
    let ours = [Ipv4Addr::new(192, 168, 4, 150)];
    if let Some(word) = other_servers::parse_server_message(bytes, Mac([2, 0, 0, 0, 0, 1]), &ours) {
        assert!(!ours.contains(&word.server.address), "our own word counts as another's");
    }
}

pub(crate) fn solicitation(bytes: &[u8]) {
    let mut input = Unstructured::new(bytes);
    let Ok(source) = input.arbitrary::<[u8; 16]>() else { return };
    let message = input.take_rest();
    if solicitation::find_solicitor(message, Ipv6Addr::from(source)).is_some() {
        assert_eq!(message.first(), Some(&133), "only a router solicitation has a solicitor");
    }
}
