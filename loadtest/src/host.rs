//! A server on the command line: an IPv4 or IPv6 address, or a name that is resolved.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A server with its name and its resolved address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerHost {
    text: String,
    pub(crate) address: IpAddr,
}

impl FromStr for ServerHost {
    type Err = String;

    /// `10.0.0.1`, `::1`, `[::1]` or a name.
    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        let address = match bare.parse() {
            Ok(address) => address,
            Err(_) => resolve_server_name(text, (text, 0))?.ip(),
        };
        Ok(Self { text: bare.to_owned(), address })
    }
}

impl fmt::Display for ServerHost {
    /// A name with its address.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address.to_string();
        if address == self.text {
            f.write_str(&address)
        } else {
            write!(f, "{} ({address})", self.text)
        }
    }
}

/// `10.0.0.1:69`, `[::1]:69` or `NAME:69`.
pub(crate) fn parse_server_place(text: &str) -> Result<SocketAddr, String> {
    if text.parse::<IpAddr>().is_ok()
        || text.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err())
    {
        return Err(format!(
            "{text} has no port: write ADDR:PORT, [ADDR]:PORT for IPv6, or NAME:PORT"
        ));
    }
    resolve_server_name(text, text)
}

/// Prefers IPv4, because only there each machine has its own address.
fn resolve_server_name(text: &str, name: impl ToSocketAddrs) -> Result<SocketAddr, String> {
    let addresses: Vec<SocketAddr> = name
        .to_socket_addrs()
        .map_err(|error| format!("{text} is neither an address nor a known host name: {error}"))?
        .collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| format!("{text} has no address"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_server_is_an_address_of_either_family_or_a_name() {
        for (text, address, shown) in [
            ("10.0.0.1", "10.0.0.1", "10.0.0.1"),
            ("::1", "::1", "::1"),
            ("[fd00::2]", "fd00::2", "fd00::2"),
            ("localhost", "127.0.0.1", "localhost (127.0.0.1)"),
        ] {
            let host: ServerHost = text.parse().unwrap();
            assert_eq!(
                (host.address, host.to_string().as_str()),
                (address.parse().unwrap(), shown),
                "{text}"
            );
        }
        let error = "no such host".parse::<ServerHost>().unwrap_err();
        assert!(
            error.contains("no such host is neither an address nor a known host name"),
            "{error}"
        );
    }

    #[test]
    fn a_place_has_a_port() {
        assert_eq!(parse_server_place("127.0.0.1:69"), Ok("127.0.0.1:69".parse().unwrap()));
        assert_eq!(parse_server_place("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
        assert_eq!(parse_server_place("localhost:80"), Ok("127.0.0.1:80".parse().unwrap()));
        for wrong in ["127.0.0.1", "[::1]", "::1", "localhost", ":", "a:b"] {
            assert!(parse_server_place(wrong).is_err(), "{wrong}");
        }
    }
}
