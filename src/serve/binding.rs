//! Binding a socket: the wait for the port of a killed server, and the sentence for an address that
//! the kernel refuses.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::failure::ServerFailure;
use crate::observe::port_holder::{SocketProtocol, find_port_holder};

/// Longest time that the kernel takes to close the sockets of a ring whose process was killed: it
/// takes milliseconds, more under load.
const RELEASED_AFTER: Duration = Duration::from_secs(3);
const RELEASE_LOOK: Duration = Duration::from_millis(10);

/// Binds a socket. A port in use that no living program holds belongs to a server that was killed:
/// the kernel tears its ring down, with the sockets, after its process has ended. The next server
/// waits for that.
pub fn once_released<S>(
    protocol: SocketProtocol,
    port: u16,
    bind: impl Fn() -> io::Result<S>,
) -> io::Result<S> {
    let deadline = Instant::now() + RELEASED_AFTER;
    loop {
        match bind() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && Instant::now() < deadline
                    && find_port_holder(protocol, port).is_none() =>
            {
                std::thread::sleep(RELEASE_LOOK);
            }
            bound => return bound,
        }
    }
}

/// The failure for an address that could not be bound: which program holds it, and what to do.
pub fn refused(
    what: &'static str,
    protocol: SocketProtocol,
    address: SocketAddr,
) -> impl Fn(io::Error) -> ServerFailure {
    move |error| {
        let reason = match error.raw_os_error() {
            Some(libc::EACCES | libc::EPERM) => format!(
                "not permitted. Ports below 1024 need root or CAP_NET_BIND_SERVICE; without \
                 either, take another port, such as {}:{}",
                address.ip(),
                address.port().saturating_add(8000)
            ),
            Some(libc::EADDRINUSE) => match find_port_holder(protocol, address.port()) {
                Some(program) => {
                    format!("{program} holds this port. Stop it, or take another address or port")
                }
                // /proc does not show the holder: it runs in another namespace, or this process is
                // not root.
                None => {
                    "another program holds this port (`ss -lnp` tells which). Stop it, or take \
                         another port"
                        .into()
                }
            },
            Some(libc::EADDRNOTAVAIL) => "no interface of this machine has that address".into(),
            _ => error.to_string(),
        };
        ServerFailure::Bind { what, address: address.to_string(), reason }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::engine::net::{self, SocketBinding};

    #[test]
    fn a_port_that_no_program_holds_any_longer_is_waited_for() {
        let udp = |address| {
            net::open_udp_socket(&SocketBinding { address, interface: None, shared: false })
                .and_then(|fd| Ok((net::read_local_address(&fd)?, fd)))
        };
        let (address, held) = udp(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        // Like a killed server's: `holder` looks at other processes only.
        let release = std::thread::spawn(move || {
            std::thread::sleep(5 * RELEASE_LOOK);
            drop(held);
        });
        let begun = Instant::now();
        assert!(once_released(SocketProtocol::Udp, address.port(), || udp(address)).is_ok());
        assert!(
            begun.elapsed() >= 5 * RELEASE_LOOK && begun.elapsed() < RELEASED_AFTER,
            "{:?}",
            begun.elapsed()
        );
        release.join().unwrap();
    }
}
