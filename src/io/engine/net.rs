//! Opens sockets with the options that a boot server needs.

// Casts give kernel constants, struct sizes and in-range offsets the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::limits::{SOCKET_RECEIVE_BYTES, SOCKET_SEND_BYTES};
pub use super::netlink::{CarrierState, NetworkInterface, list_interfaces};

/// The index of an interface; 0: no interface has this name.
pub fn find_interface_index(name: &str) -> u32 {
    std::ffi::CString::new(name).map_or(0, |name| {
        // SAFETY: the name is NUL-terminated.
        unsafe { libc::if_nametoindex(name.as_ptr()) }
    })
}

/// How to bind a UDP socket.
#[derive(Clone, Debug)]
pub struct SocketBinding<'a> {
    /// The local address and port.
    pub address: SocketAddr,
    /// Receive and send on this interface only.
    pub interface: Option<&'a str>,
    /// Share the port with other sockets; the kernel spreads clients over them.
    pub shared: bool,
}

/// Opens a bound UDP socket that reports the destination of each datagram, never sets DF (T-66),
/// and may send broadcasts.
pub fn open_udp_socket(binding: &SocketBinding<'_>) -> io::Result<OwnedFd> {
    let v6 = binding.address.is_ipv6();
    let socket =
        Socket::new(Domain::for_address(binding.address), Type::DGRAM, Some(Protocol::UDP))?;
    // Otherwise the socket would also take the port of IPv4, which has a socket of its own.
    if v6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(binding.shared)?;
    if let Some(interface) = binding.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }

    if v6 {
        set_socket_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    } else {
        socket.set_broadcast(true)?;
        set_socket_option(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        // The kernel sets DF by default, on which some ROMs fail (T-66, Q-9).
        set_socket_option(
            &socket,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_DONT,
        )?;
    }

    // The bind comes last: a datagram that arrived before the options could lack its interface.
    grow_buffers(&socket);
    socket.bind(&binding.address.into())?;
    Ok(socket.into())
}

/// Opens a socket that sends from this address and the port of `receiver`, and receives nothing.
///
/// The socket is connected to itself, so that every datagram from another sender still reaches
/// `receiver`; it still sends to any destination that a message names. Its datagrams need no
/// control message for their source, and get their IP identification from the socket's own counter
/// in place of the kernel's global ones, which cost a tenth of a datagram's total cost.
pub fn open_sender_beside(receiver: &OwnedFd, from: Ipv4Addr) -> io::Result<OwnedFd> {
    let address = SocketAddr::from((from, read_local_address(receiver)?.port())).into();
    let receiver = socket2::SockRef::from(receiver);
    let sender = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    set_socket_option(&sender, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
    grow_buffers(&sender);
    sender.set_reuse_port(true)?;
    // Share the port only during the bind, so that no other process can share it.
    receiver.set_reuse_port(true)?;
    let bound = sender.bind(&address);
    receiver.set_reuse_port(false)?;
    bound?;
    sender.set_reuse_port(false)?;
    sender.connect(&address)?;
    Ok(sender.into())
}

/// Lets the kernel join received datagrams of one sender and one length (UDP_GRO): a receive then
/// needs room for 64 KiB.
pub fn join_datagrams(socket: &impl AsRawFd) -> io::Result<()> {
    set_socket_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

/// Sets DF on all datagrams: for small ones, which then need no IP identification from the kernel.
pub fn forbid_fragments(socket: &impl AsRawFd) -> io::Result<()> {
    set_socket_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
}

/// Discards up to `most` bytes of a TCP socket without copying them (tcp(7): MSG_TRUNC); 0: the end
/// of the stream.
pub fn discard_input(socket: &impl AsRawFd, most: usize) -> io::Result<usize> {
    let flags = libc::MSG_TRUNC | libc::MSG_DONTWAIT;
    // SAFETY: with MSG_TRUNC the TCP of the kernel writes nothing, so the buffer may be null.
    let answer = unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), most, flags) };
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

/// Opens a listening TCP socket; several of them may share the port.
pub fn open_tcp_listener(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    /// Most connections that wait for an accept; the kernel caps it at net.core.somaxconn.
    const BACKLOG: i32 = 4096;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Lets the kernel complete an accept only after the client's first bytes (TCP_DEFER_ACCEPT): one
/// wake-up less for each connection. The kernel passes on a silent client after about a second.
pub fn accept_with_first_bytes(listener: &TcpListener) -> io::Result<()> {
    const SECONDS: i32 = 1;
    set_socket_option(listener, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, SECONDS)
}

/// Sets the congestion control of this listener's connections (tcp(7), TCP_CONGESTION). An error if
/// the kernel has none of that name, or does not let this process choose it.
pub fn set_congestion_control(listener: &TcpListener, name: &str) -> io::Result<()> {
    socket2::SockRef::from(listener).set_tcp_congestion(name.as_bytes())
}

/// Opens a socket that sends whole IPv4 packets in Ethernet frames to given hardware addresses
/// (D-15). Receives nothing.
pub fn open_link_sender() -> io::Result<OwnedFd> {
    // SAFETY: socket(2) takes no pointers. Protocol 0: nothing is received.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    grow_buffers(&socket2::SockRef::from(&fd));
    Ok(fd)
}

/// Opens a socket that sends whole IPv4 packets by the route to their destination, from any port.
/// Receives nothing. Needs CAP_NET_RAW.
pub fn open_packet_sender() -> io::Result<OwnedFd> {
    Ok(Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?.into())
}

/// Opens a socket that receives the IPv6 router solicitations of one interface and may answer them.
/// Needs CAP_NET_RAW.
pub fn open_router_solicitations(interface: &str, index: u32) -> io::Result<OwnedFd> {
    /// An option of icmp6.h that the libc crate lacks; set bits block a type.
    const ICMP6_FILTER: i32 = 1;
    const SOLICITATION: usize = 133;
    /// Hop limit of neighbour discovery (RFC 4861 section 6.1): no router has lowered it, so the
    /// sender is on the same link.
    const HOPS: u32 = 255;
    const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    let mut blocked = [u32::MAX; 8];
    blocked[SOLICITATION / 32] &= !(1 << (SOLICITATION % 32));
    // SAFETY: the kernel reads the 32 bytes of `blocked`, which live across the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMP6_FILTER,
            blocked.as_ptr().cast(),
            size_of_val(&blocked) as libc::socklen_t,
        )
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.set_unicast_hops_v6(HOPS)?;
    socket.join_multicast_v6(&ALL_ROUTERS, index)?;
    set_socket_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    Ok(socket.into())
}

/// Reads the address to which a socket is bound.
pub fn read_local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    let socket = socket2::SockRef::from(socket);
    socket.local_addr()?.as_socket().ok_or_else(|| io::Error::other("not an IP socket"))
}

/// Steers a group of sockets that share a port: the client's source address selects the socket, so
/// that one core serves a machine's TFTP and HTTP. Attach it to any one socket of the group after
/// all of them are bound.
pub fn steer_by_source(socket: &impl AsRawFd, v6: bool, sockets: u32) -> io::Result<()> {
    // Offsets from the network header: the IPv4 source address, or the last word of the IPv6 one.
    const SKF_NET_OFF: i32 = -0x10_0000;
    let source = if v6 { 20 } else { 12 };
    let offset = (SKF_NET_OFF + source).cast_unsigned();
    let program = [
        libc::sock_filter {
            code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
            jt: 0,
            jf: 0,
            k: offset,
        },
        libc::sock_filter {
            code: (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16,
            jt: 0,
            jf: 0,
            k: sockets.max(1),
        },
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_A) as u16, jt: 0, jf: 0, k: 0 },
    ];
    let program = libc::sock_fprog { len: 3, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program and its three instructions live across the call; the kernel copies them
    // and only reads.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Requests large buffers: past the sysctl limits if the process may, else up to them.
pub(super) fn grow_buffers(socket: &Socket) {
    let receive = i32::try_from(SOCKET_RECEIVE_BYTES).unwrap_or(i32::MAX);
    if set_socket_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, receive).is_err() {
        let _ = socket.set_recv_buffer_size(SOCKET_RECEIVE_BYTES);
    }
    let send = i32::try_from(SOCKET_SEND_BYTES).unwrap_or(i32::MAX);
    if set_socket_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, send).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_SEND_BYTES);
    }
}

/// Size of a socket's receive buffer, bytes. The kernel reports twice the requested size, since its
/// own records count too (socket(7)).
pub fn read_receive_buffer(socket: &OwnedFd) -> Option<usize> {
    socket2::SockRef::from(socket).recv_buffer_size().ok().map(|bytes| bytes / 2)
}

/// Bytes that the kernel has queued of a datagram socket's sends, as it counts them: with its own
/// records, a block of an Ethernet frame as 2304. They leave the count when the device has sent
/// them. None: the kernel does not say.
pub(super) fn read_send_queue(socket: &OwnedFd) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the request writes one int, which lives across the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if answer == 0 { u64::try_from(bytes).ok() } else { None }
}

pub(super) fn set_socket_option(
    socket: &impl AsRawFd,
    level: i32,
    option: i32,
    value: i32,
) -> io::Result<()> {
    // SAFETY: the kernel reads four bytes of `value`, which lives across the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn a_sender_beside_speaks_for_its_receiver_and_takes_nothing_from_it() {
        let any = SocketBinding {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            interface: None,
            shared: false,
        };
        let receiver = open_udp_socket(&any).unwrap();
        let address =
            SocketAddr::from(([127, 0, 0, 3], read_local_address(&receiver).unwrap().port()));
        let sender =
            UdpSocket::from(open_sender_beside(&receiver, Ipv4Addr::new(127, 0, 0, 3)).unwrap());
        let receiver = UdpSocket::from(receiver);
        let client = UdpSocket::bind("127.0.0.9:0").unwrap();
        for socket in [&receiver, &client] {
            socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        }
        sender.send_to(b"data", client.local_addr().unwrap()).unwrap();
        let mut bytes = [0; 10];
        assert_eq!(client.recv_from(&mut bytes).unwrap(), (4, address));
        client.send_to(b"ack", address).unwrap();
        assert_eq!(receiver.recv_from(&mut bytes).unwrap(), (3, client.local_addr().unwrap()));
        for shared in [false, true] {
            let error =
                open_udp_socket(&SocketBinding { address, interface: None, shared }).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EADDRINUSE), "nobody else gets the port");
        }
    }

    #[test]
    fn a_port_of_an_interface_has_one_owner() {
        let on_loopback = |port| SocketBinding {
            address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            interface: Some("lo"),
            shared: false,
        };
        let first = open_udp_socket(&on_loopback(0)).unwrap();
        let port = read_local_address(&first).unwrap().port();
        let second = open_udp_socket(&on_loopback(port)).unwrap_err();
        assert_eq!(
            second.raw_os_error(),
            Some(libc::EADDRINUSE),
            "two DHCP servers would both answer"
        );
    }

    #[test]
    fn a_machines_tftp_and_http_meet_on_the_core_that_its_address_picks() {
        const CORES: u32 = 3;
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let shared = |address| {
            open_udp_socket(&SocketBinding { address, interface: None, shared: true }).unwrap()
        };
        let first = shared(any);
        let at = read_local_address(&first).unwrap();
        let udp: Vec<UdpSocket> = [first, shared(at), shared(at)].map(UdpSocket::from).into();
        let first = open_tcp_listener(any, true).unwrap();
        let http = first.local_addr().unwrap();
        let tcp =
            [first, open_tcp_listener(http, true).unwrap(), open_tcp_listener(http, true).unwrap()];
        steer_by_source(&udp[0], false, CORES).unwrap();
        steer_by_source(&tcp[0], false, CORES).unwrap();
        for client in (1..=9).map(|last| Ipv4Addr::new(127, 9, 0, last)) {
            let core = (u32::from(client) % CORES) as usize;
            UdpSocket::bind((client, 0)).unwrap().send_to(b"?", at).unwrap();
            udp[core].set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            assert_eq!(udp[core].recv_from(&mut [0]).unwrap().1.ip(), client);
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from((client, 0)).into()).unwrap();
            socket.connect(&http.into()).unwrap();
            tcp[core].set_nonblocking(true).unwrap();
            assert_eq!(tcp[core].accept().unwrap().1.ip(), client);
        }
    }

    #[test]
    fn connections_have_the_congestion_control_of_their_listener() {
        let listener = open_tcp_listener("127.0.0.1:0".parse().unwrap(), false).unwrap();
        set_congestion_control(&listener, "reno").unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let name = socket2::SockRef::from(&accepted).tcp_congestion().unwrap();
        assert!(name.starts_with(b"reno"), "{name:?}");
        assert!(set_congestion_control(&listener, "no such thing").is_err());
    }
}
