//! A DHCP server that decides nothing: OFFER and ACK are the client's own message, with an address
//! made of its number.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;

use ringboot::engine::mmsg::{ArrivedDatagram, DatagramInbox, DatagramOutbox};
use ringboot::engine::net::{self, SocketBinding};

/// Offsets in a BOOTP message; option 53 is the first that our machines send.
const YIADDR: usize = 16;
const HARDWARE_ADDRESS: usize = 28;
const MESSAGE_TYPE: usize = 242;

/// Answers on a thread of this core.
pub(crate) fn serve() -> io::Result<SocketAddrV4> {
    let binding = SocketBinding {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        interface: None,
        shared: false,
    };
    let socket = net::open_udp_socket(&binding)?;
    let SocketAddr::V4(address) = net::read_local_address(&socket)? else {
        return Err(io::Error::other("not an IPv4 socket"));
    };
    thread::spawn(move || {
        let mut inbox = DatagramInbox::new(64, 1500);
        let mut outbox = DatagramOutbox::default();
        loop {
            if inbox.receive(&socket).is_err() {
                thread::yield_now();
                continue;
            }
            inbox.arrivals().for_each(|arrival| answer(&arrival, &mut outbox));
            let _ = outbox.flush(&socket);
        }
    });
    Ok(address)
}

fn answer(arrival: &ArrivedDatagram<'_>, outbox: &mut DatagramOutbox) {
    const DISCOVER: u8 = 1;
    const REQUEST: u8 = 3;
    let kind = match arrival.bytes.get(MESSAGE_TYPE) {
        Some(&DISCOVER) => 2,
        Some(&REQUEST) => 5,
        _ => return,
    };
    outbox.push(arrival.from, None, None, |bytes| {
        let start = bytes.len();
        bytes.extend_from_slice(arrival.bytes);
        let Some(message) = bytes.get_mut(start..) else { return };
        message[0] = 2;
        message[MESSAGE_TYPE] = kind;
        // 127.x.y.z of the last three octets of the hardware address.
        message[YIADDR] = 127;
        message.copy_within(HARDWARE_ADDRESS + 3..HARDWARE_ADDRESS + 6, YIADDR + 1);
    });
}
