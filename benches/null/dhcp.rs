//! A DHCP server that decides nothing: OFFER and ACK are prepared, but for what the client said of
//! itself, and the address is made of its hardware address.

use std::net::Ipv4Addr;

use ringboot::engine::mmsg::{ArrivedDatagram, DatagramOutbox};

/// Offsets in a BOOTP message; option 53 is the first that our machines and perfdhcp send.
const YIADDR: usize = 16;
/// Two bytes of the hardware address in which our machines differ.
const NUMBER: usize = 28 + 3;
const SERVER_NAME: usize = 44;
const MESSAGE_TYPE: usize = 242;
const OPTIONS: usize = 240;

const RELAY_INFORMATION: u8 = 82;
const END: u8 = 255;

/// What every answer has in common.
pub(crate) struct PreparedAnswer {
    /// A whole message with options 53, 54, 51 and 1, without an end.
    message: Vec<u8>,
    /// The first half of every address.
    network: [u8; 2],
}

impl PreparedAnswer {
    /// From this server.
    pub(crate) fn new(server: Ipv4Addr) -> Self {
        let mut message = vec![0; SERVER_NAME];
        message.resize(OPTIONS - 4, 0);
        message.extend_from_slice(&[0x63, 0x82, 0x53, 0x63, 53, 1, 0, 54, 4]);
        message.extend_from_slice(&server.octets());
        message.extend_from_slice(&[51, 4, 0, 0, 14, 16, 1, 4, 255, 0, 0, 0]);
        let [first, second, ..] = server.octets();
        Self { message, network: [first, second] }
    }

    pub(crate) fn answer(&self, arrival: &ArrivedDatagram<'_>, outbox: &mut DatagramOutbox) {
        const DISCOVER: u8 = 1;
        const REQUEST: u8 = 3;
        let kind = match arrival.bytes.get(MESSAGE_TYPE) {
            Some(&DISCOVER) => 2,
            Some(&REQUEST) => 5,
            _ => return,
        };
        let Some(of_client) = arrival.bytes.get(..SERVER_NAME) else { return };
        outbox.push(arrival.from, None, None, |bytes| {
            let start = bytes.len();
            bytes.extend_from_slice(&self.message);
            let Some(message) = bytes.get_mut(start..) else { return };
            message[..SERVER_NAME].copy_from_slice(of_client);
            message[0] = 2;
            message[MESSAGE_TYPE] = kind;
            message[YIADDR..YIADDR + 2].copy_from_slice(&self.network);
            message.copy_within(NUMBER..NUMBER + 2, YIADDR + 2);
            bytes.extend_from_slice(find_relay_information(arrival.bytes));
            bytes.push(END);
        });
    }
}

/// Option 82 with its code and length, which an answer repeats (RFC 3046 section 2.2); empty if the
/// message has none.
fn find_relay_information(message: &[u8]) -> &[u8] {
    let mut rest = message.get(OPTIONS..).unwrap_or_default();
    while let &[code, length, ..] = rest {
        let whole = 2 + usize::from(length);
        if code == RELAY_INFORMATION {
            return rest.get(..whole).unwrap_or_default();
        }
        rest = rest.get(whole..).unwrap_or_default();
    }
    &[]
}
