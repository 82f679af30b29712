//! What the network says of datagrams that it did not deliver (ICMP): read from a socket's error
//! queue (ip(7), IP_RECVERR).

// Kernel constants and struct sizes go into the widths that the ABI wants.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use super::address::read_name;
use super::control_message::{self, CONTROL_BYTES, Trouble};
use super::net::set_option;

/// A datagram that came to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// Where it was sent to.
    pub to: SocketAddr,
    /// Where it was sent from.
    pub local: Option<IpAddr>,
    /// As people say it.
    pub why: &'static str,
}

/// From now on the socket keeps such words. Each also fails the next send or receive once, for no
/// fault of that one.
pub fn keep_unreachable(socket: &impl AsRawFd) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
}

/// All that were said since the last call.
pub fn take_unreachable(socket: &impl AsRawFd, mut take: impl FnMut(Unreachable)) {
    while let Some(word) = next(socket) {
        word.into_iter().for_each(&mut take);
    }
}

/// None where the queue is empty; an inner None is of something else than an unreachable
/// destination.
fn next(socket: &impl AsRawFd) -> Option<Option<Unreachable>> {
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
    let trouble = control_message::trouble(control.get(..header.msg_controllen)?);
    let to = name.get(..header.msg_namelen as usize).and_then(read_name);
    let local = control_message::read(control.get(..header.msg_controllen)?).destination;
    let why = trouble.and_then(words);
    Some(to.zip(why).map(|(to, why)| Unreachable { to, local, why }))
}

/// Of ICMP type 3, by its code (RFC 792, RFC 1812 section 5.2.7.1).
fn words(trouble: Trouble) -> Option<&'static str> {
    const BY_ICMP: u8 = 2;
    const DESTINATION_UNREACHABLE: u8 = 3;
    match trouble {
        Trouble { origin: BY_ICMP, kind: DESTINATION_UNREACHABLE, code } => match code {
            0 | 6 | 11 => Some("network unreachable"),
            1 | 7 | 8 | 12 => Some("host unreachable"),
            2 => Some("protocol unreachable"),
            3 => Some("port unreachable"),
            9 | 10 | 13 => Some("forbidden on the way"),
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
    use crate::engine::mmsg::Outbox;
    use crate::engine::net::{Binding, udp};

    #[test]
    fn a_port_that_nobody_has_is_told_with_both_addresses_and_costs_no_other_datagram() {
        let binding = Binding {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            interface: None,
            shared: false,
        };
        let socket = udp(&binding).unwrap();
        keep_unreachable(&socket).unwrap();
        let nobody = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let somebody = UdpSocket::bind("127.0.0.1:0").unwrap();
        let us = IpAddr::from([127, 78, 0, 9]);
        let mut outbox = Outbox::default();
        for to in [nobody, somebody.local_addr().unwrap(), nobody, somebody.local_addr().unwrap()] {
            outbox.push(to, Some(us), None, |bytes| bytes.push(7));
        }
        outbox.flush(&socket).unwrap();
        let mut told = Vec::new();
        take_unreachable(&socket, |word| told.push(word));
        assert_eq!(told, [Unreachable { to: nobody, local: Some(us), why: "port unreachable" }; 2]);
        somebody.set_nonblocking(true).unwrap();
        assert_eq!(
            std::iter::from_fn(|| somebody.recv(&mut [0; 9]).ok()).count(),
            2,
            "each refusal met another send"
        );
        take_unreachable(&socket, |_| unreachable!());
    }
}
