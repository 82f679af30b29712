//! Finds the program that holds a port which the server could not bind: read from /proc, so that
//! the operator need not run `ss`.

use std::fs;
use std::path::Path;

/// Selects the kernel's socket tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketProtocol {
    /// Bound sockets.
    Udp,
    /// Listening sockets.
    Tcp,
}

/// `dnsmasq (pid 812)`. None where /proc does not show it: another namespace, or not root.
pub fn find_port_holder(protocol: SocketProtocol, port: u16) -> Option<String> {
    let tables = match protocol {
        SocketProtocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
        SocketProtocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
    };
    tables.iter().find_map(|table| {
        let text = fs::read_to_string(table).ok()?;
        text.lines()
            .skip(1)
            .filter_map(|line| parse_socket_inode(line, protocol, port))
            .find_map(|inode| find_inode_process(&inode))
    })
}

/// A line is `sl local_address rem_address st … inode …`; the port is the hexadecimal tail of the
/// local address.
fn parse_socket_inode(line: &str, protocol: SocketProtocol, port: u16) -> Option<String> {
    const TCP_LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, held) = fields.get(1)?.rsplit_once(':')?;
    let listens = protocol == SocketProtocol::Udp || fields.get(3) == Some(&TCP_LISTEN);
    let same = u16::from_str_radix(held, 16).ok()? == port && listens;
    same.then(|| fields.get(9).map(ToString::to_string)).flatten()
}

fn find_inode_process(inode: &str) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let own = std::process::id().to_string();
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().into_string().ok()?;
        if pid == own || !pid.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let holds = fs::read_dir(process.path().join("fd"))
            .ok()?
            .flatten()
            .any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link == Path::new(&wanted)));
        let name = fs::read_to_string(process.path().join("comm")).ok()?;
        holds.then(|| format!("{} (pid {pid})", name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_port_gives_its_inode() {
        let line = "  812: 00000000:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 \
                    0 4711 2 0 0";
        assert_eq!(parse_socket_inode(line, SocketProtocol::Udp, 69), Some("4711".to_owned()));
        assert_eq!(parse_socket_inode(line, SocketProtocol::Udp, 70), None);
        assert_eq!(parse_socket_inode(line, SocketProtocol::Tcp, 69), None);
        assert_eq!(parse_socket_inode("", SocketProtocol::Udp, 69), None);
    }
}
