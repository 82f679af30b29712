//! Packet sockets for DHCP: one receives the replies of servers to clients on every interface, one
//! sends as any station of a segment.

// Kernel constants, struct sizes and in-range offsets go into the widths that the ABI wants.
#![allow(clippy::cast_possible_truncation)]

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::unix::AsyncFd;

use super::mailbox::CoreMailbox;
use super::net;

/// UDP's port for DHCP clients.
const CLIENT_PORT: u32 = 68;

/// Receives IPv4 packets to UDP port 68, in frames to any address.
#[derive(Debug)]
pub struct PacketListener(OwnedFd);

impl AsFd for PacketListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The origin of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketOrigin {
    /// Index of the interface.
    pub interface: u32,
    /// Source address of the frame; zeros if the frame is not Ethernet.
    pub mac: [u8; 6],
}

impl PacketListener {
    /// Needs CAP_NET_RAW.
    pub fn open() -> io::Result<Self> {
        let fd = open_packet_socket(libc::SOCK_DGRAM)?;
        filter_dhcp_answers(&fd, 0)?;
        bind_to_interface(&fd, 0)?;
        Ok(Self(fd))
    }

    /// Sends a whole IPv4 packet to every station on an interface.
    pub fn broadcast(&self, interface: u32, packet: &[u8]) -> io::Result<()> {
        broadcast_frame(&self.0, libc::ETH_P_IP as u16, interface, packet)
    }

    /// Receives the next packet without its frame, cut to the buffer; None: no packet is waiting.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> Option<(PacketOrigin, &'b [u8])> {
        let mut address = make_link_address(0, [0; 6]);
        let mut address_len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel writes into buffer and address, which live across the call, up to the
        // lengths given.
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
        Some((
            PacketOrigin { interface: u32::try_from(address.sll_ifindex).unwrap_or(0), mac },
            packet,
        ))
    }
}

/// Sends a packet of this Ethernet type to every station on an interface.
pub(super) fn broadcast_frame(
    socket: &OwnedFd,
    kind: u16,
    interface: u32,
    packet: &[u8],
) -> io::Result<()> {
    let address =
        libc::sockaddr_ll { sll_protocol: kind.to_be(), ..make_link_address(interface, [0xff; 6]) };
    // SAFETY: the kernel reads packet and address, which live across the call, up to the lengths
    // given.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens a packet socket for all interfaces that receives only ARP replies, without their frames.
pub(super) fn open_arp_replies() -> io::Result<OwnedFd> {
    const OPERATION: u32 = 6;
    const REPLY: u32 = 2;
    let fd = open_packet_socket(libc::SOCK_DGRAM)?;
    let program = [
        make_filter_step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, OPERATION),
        make_filter_step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, REPLY),
        make_filter_step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::from(u16::MAX)),
        make_filter_step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    attach_socket_filter(&fd, &program)?;
    bind_packet_socket(
        &fd,
        &libc::sockaddr_ll {
            sll_protocol: (libc::ETH_P_ARP as u16).to_be(),
            ..make_link_address(0, [0; 6])
        },
    )?;
    Ok(fd)
}

/// Sends as any station of one Ethernet segment, and receives the replies of DHCP servers to any of
/// them.
#[derive(Debug)]
pub struct PacketStations(OwnedFd);

/// Bytes of an Ethernet header without a VLAN tag: destination, source, type.
pub const ETHERNET_BYTES: usize = 14;

impl PacketStations {
    /// Opens the socket on this interface, which receives frames to all addresses (promiscuous)
    /// while the value lives. Reads and sends never wait. Needs CAP_NET_RAW.
    pub fn open(interface: u32) -> io::Result<Self> {
        let fd = open_packet_socket(libc::SOCK_RAW)?;
        filter_dhcp_answers(&fd, ETHERNET_BYTES as u32)?;
        net::grow_buffers(&SockRef::from(&fd));
        bind_to_interface(&fd, interface)?;
        let membership = libc::packet_mreq {
            mr_ifindex: interface.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        // SAFETY: the kernel reads the membership, which lives across the call, up to the length
        // given.
        check_socket_call(unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                (&raw const membership).cast(),
                size_of::<libc::packet_mreq>() as libc::socklen_t,
            )
        })?;
        Ok(Self(fd))
    }

    /// The same socket in the runtime of this thread, which wakes the task when a packet arrives.
    pub fn watched(self) -> io::Result<AsyncFd<Self>> {
        // SAFETY: `PacketStations` owns its descriptor and never changes it, `as_raw_fd` always
        // returns that one, and it is closed only with the value, which the AsyncFd owns from here
        // on and gives away to nobody before it has forgotten the descriptor.
        Ok(unsafe { AsyncFd::register(self) }?)
    }

    /// Sends a whole Ethernet frame as it is.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        SockRef::from(&self.0).send(frame).map(drop)
    }

    /// Receives the next frame to UDP port 68, with its Ethernet header, cut to the buffer;
    /// [`io::ErrorKind::WouldBlock`]: no frame is waiting.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
        let bytes = (&*SockRef::from(&self.0)).read(buffer)?;
        Ok(buffer.get(..bytes).unwrap_or_default())
    }
}

impl AsRawFd for PacketStations {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Receives nothing before it is bound.
fn open_packet_socket(kind: i32) -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointers. Protocol 0: nothing is received before the filter is in
    // place and it is bound.
    let fd = unsafe {
        libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// IPv4 of this interface; 0 is all.
fn bind_to_interface(fd: &OwnedFd, interface: u32) -> io::Result<()> {
    bind_packet_socket(fd, &make_link_address(interface, [0; 6]))
}

fn bind_packet_socket(fd: &OwnedFd, address: &libc::sockaddr_ll) -> io::Result<()> {
    // SAFETY: the kernel reads the address, which lives across the call, up to the length given.
    check_socket_call(unsafe {
        libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })
}

/// Passes only `udp dst port 68`, in whole packets or first fragments. The IPv4 header begins after
/// this many bytes.
fn filter_dhcp_answers(fd: &OwnedFd, ip: u32) -> io::Result<()> {
    let load =
        |size: u32, mode: u32, k: u32| make_filter_step(libc::BPF_LD | size | mode, 0, 0, ip + k);

    let program = [
        load(libc::BPF_B, libc::BPF_ABS, 9),
        make_equality_step(libc::IPPROTO_UDP as u32, 6),
        load(libc::BPF_H, libc::BPF_ABS, 6),
        make_filter_step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 4, 0, 0x1fff),
        make_filter_step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, ip),
        load(libc::BPF_H, libc::BPF_IND, 2),
        make_equality_step(CLIENT_PORT, 1),
        make_filter_step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::from(u16::MAX)),
        make_filter_step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    attach_socket_filter(fd, &program)
}

fn attach_socket_filter(fd: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let program =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program and its instructions live across the call; the kernel copies them and
    // only reads.
    check_socket_call(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    })
}

/// Sleeps until the mailbox's bell rings, one of the other descriptors is readable, or the time is
/// over.
pub fn wait_for_mailbox<T>(mailbox: &CoreMailbox<T>, others: &[BorrowedFd<'_>], at_most: Duration) {
    let others = others.iter().map(AsRawFd::as_raw_fd);
    let mut all: Vec<libc::pollfd> = std::iter::once(mailbox.fd())
        .chain(others)
        .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
        .collect();
    let milliseconds = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the kernel reads and writes as many elements as there are, which live across the
    // call.
    let ready = unsafe { libc::poll(all.as_mut_ptr(), all.len() as libc::nfds_t, milliseconds) };
    if ready > 0 && all[0].revents & libc::POLLIN != 0 {
        mailbox.bell().silence();
    }
}

fn make_filter_step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

/// Goes on if the loaded value is `k`, and skips `jf` steps otherwise.
fn make_equality_step(k: u32, jf: u8) -> libc::sock_filter {
    make_filter_step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, jf, k)
}

fn make_link_address(interface: u32, mac: [u8; 6]) -> libc::sockaddr_ll {
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

fn check_socket_call(answer: i32) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
