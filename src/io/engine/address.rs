//! Converts addresses to and from the form of the kernel's socket calls.

// Casts give struct sizes the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ptr;

/// The destination of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramTarget {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A whole IPv4 packet, to the hardware address of a client that cannot answer ARP yet (D-15).
    Link {
        /// Index of the interface.
        interface: u32,
        /// The client's hardware address.
        mac: [u8; 6],
    },
}

/// The local address from which a datagram leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramSource {
    /// The source address.
    pub address: IpAddr,
    /// Interface index; 0: by the routing table.
    pub interface: u32,
}

/// Reads a sockaddr_in or sockaddr_in6. None for any other family.
pub(super) fn read_socket_name(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddr::V4(SocketAddrV4::new(address, port)))
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (address, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            let flow = u32::from_ne_bytes(*flow);
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(*address), port, flow, scope)))
        }
        _ => None,
    }
}

/// Writes the address in the kernel's form; returns its length.
pub(super) fn write_socket_name(
    name: &mut libc::sockaddr_storage,
    to: DatagramTarget,
) -> libc::socklen_t {
    fn put<T>(name: &mut libc::sockaddr_storage, value: T) -> libc::socklen_t {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        // SAFETY: sockaddr_storage is at least as large and as strictly aligned as every sockaddr
        // type.
        unsafe { ptr::from_mut(name).cast::<T>().write(value) };
        size_of::<T>() as libc::socklen_t
    }
    match to {
        DatagramTarget::Ip(SocketAddr::V4(to)) => put(
            name,
            libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: to.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.ip().octets()) },
                sin_zero: [0; 8],
            },
        ),
        DatagramTarget::Ip(SocketAddr::V6(to)) => put(
            name,
            libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: to.port().to_be(),
                sin6_flowinfo: to.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: to.ip().octets() },
                sin6_scope_id: to.scope_id(),
            },
        ),
        DatagramTarget::Link { interface, mac } => {
            let mut address = [0; 8];
            address[..6].copy_from_slice(&mac);
            // SAFETY: sockaddr_ll is plain integers, for which all zeros is a valid value.
            let mut link: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
            link.sll_family = libc::AF_PACKET as libc::sa_family_t;
            link.sll_protocol = (libc::ETH_P_IP as u16).to_be();
            link.sll_ifindex = i32::try_from(interface).unwrap_or(0);
            link.sll_halen = 6;
            link.sll_addr = address;
            put(name, link)
        }
    }
}
