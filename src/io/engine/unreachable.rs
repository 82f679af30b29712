//! ICMP errors for datagrams that the network did not deliver, read from a socket's error queue
//! (ip(7), IP_RECVERR).

// Casts give kernel constants and struct sizes the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use super::address::read_socket_name;
use super::control_message::{self, CONTROL_BYTES, DeliveryError};
use super::net::set_socket_option;

/// A datagram that reached no process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreachableNotice {
    /// The destination of the datagram.
    pub to: SocketAddr,
    /// The local address from which it left.
    pub local: Option<IpAddr>,
    /// The reason, for logs.
    pub why: &'static str,
}

/// Makes the socket queue such errors. Each also fails the next send or receive once, though that
/// call is not at fault.
pub fn keep_unreachable(socket: &impl AsRawFd) -> io::Result<()> {
    set_socket_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
}

/// Passes on all errors since the last call.
pub fn take_unreachable(socket: &impl AsRawFd, mut take: impl FnMut(UnreachableNotice)) {
    while let Some(word) = take_next_notice(socket) {
        word.into_iter().for_each(&mut take);
    }
}

/// Reads one error. None: the queue is empty; an inner None: the error is not about an unreachable
/// destination.
fn take_next_notice(socket: &impl AsRawFd) -> Option<Option<UnreachableNotice>> {
    let mut name = [0; size_of::<libc::sockaddr_in6>()];
    let mut control = [0; CONTROL_BYTES];
    // SAFETY: msghdr is integers and raw pointers, for which all zeros is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = name.len() as libc::socklen_t;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = control.len();
    // SAFETY: the header leads to a name and a control buffer of the lengths that it tells, which
    // live across the call, and to no payload: the kernel cuts that off. It keeps no pointer.
    let answer = unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
    };
    if answer < 0 {
        return None;
    }
    let trouble = control_message::read_delivery_error(control.get(..header.msg_controllen)?);
    let to = name.get(..header.msg_namelen as usize).and_then(read_socket_name);
    let local =
        control_message::read_control_messages(control.get(..header.msg_controllen)?).destination;
    let why = trouble.and_then(describe_unreachable);
    Some(to.zip(why).map(|(to, why)| UnreachableNotice { to, local, why }))
}

/// The reason in ICMP type 3, by its code (RFC 792, RFC 1812 section 5.2.7.1).
fn describe_unreachable(trouble: DeliveryError) -> Option<&'static str> {
    const BY_ICMP: u8 = 2;
    const DESTINATION_UNREACHABLE: u8 = 3;
    match trouble {
        DeliveryError { origin: BY_ICMP, kind: DESTINATION_UNREACHABLE, code } => match code {
            0 | 6 | 11 => Some("network unreachable"),
            1 | 7 | 8 | 12 => Some("host unreachable"),
            2 => Some("protocol unreachable"),
            3 => Some("port unreachable"),
            9 | 10 | 13 => Some("administratively prohibited"),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;
    use crate::engine::mmsg::DatagramOutbox;
    use crate::engine::net::{SocketBinding, open_udp_socket};

    #[test]
    fn a_port_that_nobody_has_is_told_with_both_addresses_and_costs_no_other_datagram() {
        let binding = SocketBinding {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            interface: None,
            shared: false,
        };
        let socket = open_udp_socket(&binding).unwrap();
        keep_unreachable(&socket).unwrap();
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let somebody = UdpSocket::bind("127.0.0.1:0").unwrap();
        let us = IpAddr::from([127, 78, 0, 9]);
        let mut outbox = DatagramOutbox::default();
        for to in [nobody, somebody.local_addr().unwrap(), nobody, somebody.local_addr().unwrap()] {
            outbox.push(to, Some(us), None, |bytes| bytes.push(7));
        }
        outbox.flush(&socket).unwrap();
        let mut told = Vec::new();
        take_unreachable(&socket, |word| told.push(word));
        assert_eq!(
            told,
            [UnreachableNotice { to: nobody, local: Some(us), why: "port unreachable" }; 2]
        );
        somebody.set_nonblocking(true).unwrap();
        assert_eq!(
            std::iter::from_fn(|| somebody.recv(&mut [0; 9]).ok()).count(),
            2,
            "each refusal met another send"
        );
        take_unreachable(&socket, |_| unreachable!());
    }
}
