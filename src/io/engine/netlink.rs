//! The interfaces and their addresses from the kernel (rtnetlink(7)), and a notice when any of them
//! changes.

// Casts give kernel constants and lengths the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use super::net::set_socket_option;

/// An interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Name, such as `eth0`.
    pub name: String,
    /// The kernel's number of the interface.
    pub index: u32,
    /// Largest IP packet, bytes.
    pub mtu: u32,
    /// Hardware address; zeros if it is not six bytes long.
    pub mac: [u8; 6],
    /// Switched on by an administrator.
    pub is_up: bool,
    /// The interface is up, and has a carrier as far as the driver can tell.
    pub is_running: bool,
    /// Its addresses, IPv4 and IPv6.
    pub addresses: Vec<IpAddr>,
    /// Its IPv4 addresses with the lengths of their prefixes.
    pub prefixes: Vec<(Ipv4Addr, u8)>,
}

/// Whether packets can pass an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CarrierState {
    /// The interface is up and has a carrier.
    Up,
    /// An administrator has switched it off.
    Down,
    /// The interface is up and has no carrier.
    NoCarrier,
}

impl CarrierState {
    /// The word for logs and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::NoCarrier => "no carrier",
        }
    }
}

impl NetworkInterface {
    /// The state of the interface.
    pub fn link(&self) -> CarrierState {
        match (self.is_up, self.is_running) {
            (false, _) => CarrierState::Down,
            (true, false) => CarrierState::NoCarrier,
            (true, true) => CarrierState::Up,
        }
    }
}

/// Lists every interface with its addresses, by index. An address belongs to its interface whatever
/// its label (`eth0:1`).
pub fn list_interfaces() -> io::Result<Vec<NetworkInterface>> {
    let socket = open_netlink_socket()?;
    let mut found = Vec::new();
    dump_netlink(&socket, libc::RTM_GETLINK, |payload| found.extend(read_link_message(payload)))?;
    dump_netlink(&socket, libc::RTM_GETADDR, |payload| {
        let Some((index, address, prefix)) = read_address_message(payload) else { return };
        let Some(interface) =
            found.iter_mut().find(|interface: &&mut NetworkInterface| interface.index == index)
        else {
            return;
        };
        interface.addresses.push(address);
        if let IpAddr::V4(address) = address {
            interface.prefixes.push((address, prefix));
        }
    })?;
    found.sort_by_key(|interface| interface.index);
    Ok(found)
}

/// A socket that becomes readable when an interface or an address is added, removed or changed.
#[derive(Debug)]
pub struct InterfaceChanges(OwnedFd);

impl InterfaceChanges {
    /// Subscribes to the changes of interfaces and addresses.
    pub fn open() -> io::Result<Self> {
        let socket = open_netlink_socket()?;
        socket.set_nonblocking(true)?;
        // A socket without a port of its own is passed over. SAFETY: the closure fills a
        // sockaddr_nl, which a sockaddr_storage has room for, and gives its length; the rest is
        // zeros.
        let (_, any) = unsafe {
            SockAddr::try_init(|storage, len| {
                (*storage.cast::<libc::sockaddr_nl>()).nl_family = libc::AF_NETLINK as u16;
                *len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
                Ok(())
            })
        }?;
        socket.bind(&any)?;
        for group in [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR] {
            set_socket_option(
                &socket,
                libc::SOL_NETLINK,
                libc::NETLINK_ADD_MEMBERSHIP,
                group.cast_signed(),
            )?;
        }
        Ok(Self(socket.into()))
    }

    /// Drains the notices. True: there was one, or too many for the socket.
    pub fn take(&self) -> bool {
        // The caller lists all interfaces again anyway: skip the content of the messages.
        let mut message = [0; 64];
        let (socket, mut any) = (SockRef::from(&self.0), false);
        for _ in 0..TAKEN_MAX {
            match (&*socket).read(&mut message) {
                Ok(_) => any = true,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(_) => break,
            }
        }
        any
    }
}

impl AsFd for InterfaceChanges {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Messages drained in one turn; the rest keeps the socket readable.
const TAKEN_MAX: usize = 1024;
/// The kernel never puts more into one datagram of a dump (netlink(7)). Bytes.
const DATAGRAM_MAX: usize = 64 * 1024;
/// Bytes of `nlmsghdr`, `ifinfomsg`, `ifaddrmsg` and `rtattr`.
const HEADER: usize = 16;
const LINK: usize = 16;
const ADDRESS: usize = 8;
const ATTRIBUTE: usize = 4;

fn open_netlink_socket() -> io::Result<Socket> {
    let route = Protocol::from(libc::NETLINK_ROUTE);
    Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(route))
}

/// Requests a dump of one kind, and passes on the payload of each message.
fn dump_netlink(socket: &Socket, kind: u16, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut request = Vec::with_capacity(HEADER + LINK);
    request.extend(((HEADER + LINK) as u32).to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Zeros behind the header ask for every family and every interface.
    request.resize(HEADER + LINK, 0);
    socket.send(&request)?;

    // A dump comes in several datagrams, and NLMSG_DONE ends it (netlink(7)).
    let mut datagram = vec![0; DATAGRAM_MAX];
    loop {
        let bytes = (&*socket).read(&mut datagram)?;
        let mut rest = datagram.get(..bytes).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        while let Some((kind, payload, after)) = split_netlink_message(rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(()),
                // struct nlmsgerr begins with the negative errno.
                libc::NLMSG_ERROR => {
                    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                    return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                }
                _ => each(payload),
            }
            rest = after;
        }
    }
}

/// Splits off the first message: its kind, its payload, and the rest.
fn split_netlink_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let len = read_native_u32(bytes, 0)? as usize;
    let payload = bytes.get(HEADER..len)?;
    Some((
        read_native_u16(bytes, 4)?,
        payload,
        bytes.get(len.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

/// Parses an `ifinfomsg` with its attributes.
fn read_link_message(payload: &[u8]) -> Option<NetworkInterface> {
    let (index, flags) = (read_native_u32(payload, 4)?, read_native_u32(payload, 8)?);
    let mut interface = NetworkInterface {
        name: String::new(),
        index,
        mtu: 0,
        mac: [0; 6],
        is_up: flags & libc::IFF_UP.cast_unsigned() != 0,
        is_running: flags & libc::IFF_RUNNING.cast_unsigned() != 0,
        addresses: Vec::new(),
        prefixes: Vec::new(),
    };

    for (kind, value) in split_attributes(payload.get(LINK..)?) {
        match kind {
            libc::IFLA_IFNAME => {
                // The kernel sends the name with its NUL.
                let name = value.strip_suffix(&[0]).unwrap_or(value);
                interface.name = String::from_utf8_lossy(name).into_owned();
            }
            libc::IFLA_MTU => interface.mtu = read_native_u32(value, 0)?,
            libc::IFLA_ADDRESS => interface.mac = value.try_into().unwrap_or_default(),
            _ => {}
        }
    }
    Some(interface)
}

/// Parses an `ifaddrmsg` with its attributes: index of the interface, local address, length of the
/// prefix.
fn read_address_message(payload: &[u8]) -> Option<(u32, IpAddr, u8)> {
    let (family, prefix, index) =
        (i32::from(*payload.first()?), *payload.get(1)?, read_native_u32(payload, 4)?);
    let mut found = None;
    for (kind, value) in split_attributes(payload.get(ADDRESS..)?) {
        // On a point-to-point link IFA_ADDRESS is the remote address, and IFA_LOCAL the local one.
        if kind == libc::IFA_LOCAL || kind == libc::IFA_ADDRESS && found.is_none() {
            found = match family {
                libc::AF_INET => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))),
                libc::AF_INET6 => {
                    Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)))
                }
                _ => None,
            };
        }
    }
    Some((index, found?, prefix))
}

fn split_attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(read_native_u16(bytes, 0)?);
        let attribute = (read_native_u16(bytes, 2)?, bytes.get(ATTRIBUTE..len)?);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(attribute)
    })
}

fn read_native_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn read_native_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::{Duration, Instant};

    use super::*;

    /// In a network namespace of its own, which ends with the thread.
    fn elsewhere<T: Send + 'static>(
        work: impl FnOnce(&dyn Fn(&[&str])) -> T + Send + 'static,
    ) -> T {
        let thread = std::thread::spawn(|| {
            // SAFETY: unshare takes no pointer, and concerns this thread alone, which ends here.
            let answer = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(answer, 0, "a network namespace needs root: {}", io::Error::last_os_error());
            let ip = |arguments: &[&str]| {
                assert!(
                    std::process::Command::new("ip").args(arguments).status().unwrap().success(),
                    "{arguments:?}"
                );
            };
            work(&ip)
        });
        thread.join().unwrap()
    }

    #[test]
    fn loopback_has_its_prefix() {
        let loopback = list_interfaces()
            .unwrap()
            .into_iter()
            .find(|interface| interface.name == "lo")
            .unwrap();
        assert!(loopback.prefixes.contains(&(Ipv4Addr::LOCALHOST, 8)), "{loopback:?}");
    }

    #[test]
    fn an_address_is_its_interfaces_whatever_its_label_and_its_peer() {
        let found = elsewhere(|ip| {
            let pair = ["type", "veth", "peer", "name", "e1"];
            ip(&[&["link", "add", "e0", "address", "02:00:00:00:00:07", "mtu", "1400"][..], &pair]
                .concat());
            ip(&["addr", "add", "192.168.4.150/24", "dev", "e0", "label", "e0:0"]);
            ip(&["addr", "add", "10.9.0.1", "peer", "10.9.0.2/32", "dev", "e0"]);
            ip(&["addr", "add", "fd00::7/64", "dev", "e0", "nodad"]);
            let down = list_interfaces().unwrap();
            ip(&["link", "set", "e0", "up"]);
            ip(&["link", "set", "e1", "up"]);
            // The kernel says a moment later that a carrier is there.
            let until = Instant::now() + Duration::from_secs(10);
            let mut up = list_interfaces().unwrap();
            while !up.iter().any(|one| one.name == "e0" && one.is_running) && Instant::now() < until
            {
                std::thread::sleep(Duration::from_millis(5));
                up = list_interfaces().unwrap();
            }
            (down, up)
        });
        let e0 =
            |all: &[NetworkInterface]| all.iter().find(|one| one.name == "e0").cloned().unwrap();
        let (down, up) = (e0(&found.0), e0(&found.1));
        assert_eq!(
            (up.mtu, up.mac, down.link(), up.link()),
            (1400, [2, 0, 0, 0, 0, 7], CarrierState::Down, CarrierState::Up)
        );
        let [a, b] = [Ipv4Addr::new(192, 168, 4, 150), Ipv4Addr::new(10, 9, 0, 1)];
        let mut prefixes = up.prefixes;
        prefixes.sort_unstable();
        assert_eq!(prefixes, [(b, 32), (a, 24)]);
        assert!(up.addresses.contains(&"fd00::7".parse().unwrap()), "{:?}", up.addresses);
    }

    #[test]
    fn changes_are_told() {
        elsewhere(|ip| {
            let changes = InterfaceChanges::open().unwrap();
            assert!(!changes.take());
            ip(&["addr", "add", "192.168.4.11/24", "dev", "lo"]);
            assert!(changes.take() && !changes.take());
            ip(&["link", "set", "lo", "up"]);
            assert!(changes.take());
        });
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        let whole: &[u8] = &[16, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(split_netlink_message(whole).is_some());
        for cut in 0..whole.len() {
            assert!(split_netlink_message(&whole[..cut]).is_none());
        }
        assert_eq!(split_attributes(&[0, 0, 3, 0, 9, 9]).count(), 0);
        assert_eq!(split_attributes(&[12, 0, 3, 0, 9, 9]).count(), 0);
    }

    /// As in `nsenter --net` or a container with the host's /sys, where files of that name tell of
    /// another interface.
    #[test]
    fn t17_the_mtu_is_that_of_our_own_network_namespace() {
        let found = elsewhere(|ip| {
            ip(&["link", "set", "lo", "mtu", "1400", "up"]);
            list_interfaces().unwrap()
        });
        let mtu = |found: &[NetworkInterface]| {
            found.iter().find(|one| one.name == "lo").map(|one| one.mtu)
        };
        assert_eq!(mtu(&found), Some(1400));
        assert_ne!(mtu(&list_interfaces().unwrap()), Some(1400));
    }
}
