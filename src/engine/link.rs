//! A packet socket that hears what DHCP servers say to clients, on every interface, and sends to everybody on one of them.

// Kernel constants, struct sizes and in-range offsets go into the widths that the ABI wants.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::mailbox::Mailbox;

/// UDP's port for DHCP clients.
const CLIENT_PORT: u32 = 68;

/// Hears IPv4 packets to UDP port 68 in whatever frames they come.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Index of the interface.
    pub interface: u32,
    /// Sender of the frame; zeros where it is not Ethernet.
    pub mac: [u8; 6],
}

impl Listener {
    /// Needs CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket(2) takes no pointers. Protocol 0: nothing is received before the filter is in place and it is bound.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let listener = Self(unsafe { OwnedFd::from_raw_fd(fd) });
        listener.filter()?;
        let address = link_address(0, [0; 6]);
        // SAFETY: the kernel reads the address, which lives across the call, up to the length given.
        checked(unsafe {
            libc::bind(fd, (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as libc::socklen_t)
        })?;
        Ok(listener)
    }

    /// Sends a whole IPv4 packet to every station on an interface.
    pub fn broadcast(&self, interface: u32, packet: &[u8]) -> io::Result<()> {
        let address = link_address(interface, [0xff; 6]);
        // SAFETY: the kernel reads packet and address, which live across the call, up to the lengths given.
        let sent = unsafe {
            libc::sendto(
                self.0.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The next packet without its frame, cut to the buffer; None where there is none now.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<(Origin, &'b [u8])> {
        let mut address = link_address(0, [0; 6]);
        let mut address_len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel writes into buffer and address, which live across the call, up to the lengths given.
        let len = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                0,
                (&raw mut address).cast(),
                &raw mut address_len,
            )
        };
        let packet = buffer.get(..usize::try_from(len).ok()?)?;
        let [a, b, c, d, e, f, ..] = address.sll_addr;
        let mac = if address.sll_halen == 6 { [a, b, c, d, e, f] } else { [0; 6] };
        Some((Origin { interface: u32::try_from(address.sll_ifindex).unwrap_or(0), mac }, packet))
    }

    /// `udp dst port 68`, of whole packets or first fragments. Offsets are from the IPv4 header.
    fn filter(&self) -> io::Result<()> {
        let load = |size: u32, mode: u32, k: u32| step(libc::BPF_LD | size | mode, 0, 0, k);
        let unless_equal_drop = |k: u32, jf: u8| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, jf, k);
        let program = [
            load(libc::BPF_B, libc::BPF_ABS, 9),
            unless_equal_drop(libc::IPPROTO_UDP as u32, 6),
            load(libc::BPF_H, libc::BPF_ABS, 6),
            step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 4, 0, 0x1fff),
            step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0),
            load(libc::BPF_H, libc::BPF_IND, 2),
            unless_equal_drop(CLIENT_PORT, 1),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::from(u16::MAX)),
            step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the program and its instructions live across the call; the kernel copies them and only reads.
        checked(unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        })
    }
}

/// Sleeps until a packet has come, the mailbox's bell has rung, or the time is over.
pub fn wait<T>(listener: Option<&Listener>, mailbox: &Mailbox<T>, at_most: Duration) {
    let watched = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // A negative descriptor is passed over.
    let mut both = [watched(mailbox.fd()), watched(listener.map_or(-1, |listener| listener.0.as_raw_fd()))];
    let milliseconds = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the kernel reads and writes the two elements, which live across the call.
    let ready = unsafe { libc::poll(both.as_mut_ptr(), 2, milliseconds) };
    if ready > 0 && both[0].revents & libc::POLLIN != 0 {
        mailbox.silence();
    }
}

fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn link_address(interface: u32, mac: [u8; 6]) -> libc::sockaddr_ll {
    let [a, b, c, d, e, f] = mac;
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_IP as u16).to_be(),
        sll_ifindex: interface.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [a, b, c, d, e, f, 0, 0],
    }
}

fn checked(answer: i32) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
