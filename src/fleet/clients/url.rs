//! The URLs of boot clients: `http`, a literal address, a port, a path.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// An absolute `http` or `tftp` URL with a literal address: boot loaders resolve no names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) scheme: UrlScheme,
    pub(crate) server: SocketAddr,
    /// The path of the request line, with its leading `/`.
    pub(crate) path: String,
}

/// The protocol of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UrlScheme {
    Http,
    Tftp,
}

impl UrlScheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Tftp => 69,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tftp => "tftp",
        }
    }
}

impl Url {
    /// None for anything other than `http://ADDRESS[:PORT]/...` and its `tftp` counterpart.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = [UrlScheme::Http, UrlScheme::Tftp].into_iter().find_map(|scheme| {
            Some((scheme, text.strip_prefix(scheme.name())?.strip_prefix("://")?))
        })?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // An IPv6 address is in brackets (RFC 3986 section 3.2.2).
        let (address, port): (IpAddr, _) =
            match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
                Some((address, port)) => (IpAddr::V6(address.parse().ok()?), port),
                None => {
                    let (address, port) = host.split_at(host.find(':').unwrap_or(host.len()));
                    (IpAddr::V4(address.parse().ok()?), port)
                }
            };
        let port =
            if port.is_empty() { scheme.port() } else { port.strip_prefix(':')?.parse().ok()? };
        let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        Some(Self { scheme, server: SocketAddr::new(address, port), path })
    }

    /// The host as in a URL and in `Host`: with the port only if it is not the default one.
    pub(crate) fn authority(&self) -> String {
        match self.server {
            server if server.port() != self.scheme.port() => server.to_string(),
            SocketAddr::V4(server) => server.ip().to_string(),
            SocketAddr::V6(server) => format!("[{}]", server.ip()),
        }
    }

    /// Resolves a reference in the script of this URL: absolute, from the root (`/x`), or beside
    /// the script.
    pub(crate) fn join(&self, reference: &str) -> Option<Self> {
        if reference.contains("://") {
            return Self::parse(reference);
        }
        let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = if reference.starts_with('/') {
            reference.to_owned()
        } else {
            format!("{folder}/{reference}")
        };
        Some(Self { path, ..self.clone() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.name(), self.authority(), self.path)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_url_is_an_address_a_port_and_a_path() {
        let url = Url::parse("http://127.0.0.1:8080/boot.ipxe").unwrap();
        assert_eq!(
            (url.server.to_string().as_str(), url.path.as_str()),
            ("127.0.0.1:8080", "/boot.ipxe")
        );
        assert_eq!(Url::parse("tftp://10.0.0.1").unwrap().to_string(), "tftp://10.0.0.1/");
        assert_eq!(
            (url.authority().as_str(), url.to_string().as_str()),
            ("127.0.0.1:8080", "http://127.0.0.1:8080/boot.ipxe")
        );
        for wrong in ["ftp://127.0.0.1/x", "http://boot/x", "http://127.0.0.1:x/", "/x", ""] {
            assert_eq!(Url::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_reference_is_read_where_its_script_stands() {
        let script = Url::parse("http://127.0.0.1/a/boot.ipxe").unwrap();
        assert_eq!(script.join("linux").unwrap().path, "/a/linux");
        assert_eq!(script.join("/linux").unwrap().path, "/linux");
        for (text, server, authority) in [
            ("http://[::1]/x", "[::1]:80", "[::1]"),
            ("http://[fd00::2]:8080/x", "[fd00::2]:8080", "[fd00::2]:8080"),
            ("tftp://127.0.0.1/x", "127.0.0.1:69", "127.0.0.1"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(
                (url.server, url.authority().as_str(), url.path.as_str()),
                (server.parse().unwrap(), authority, "/x")
            );
        }
        for wrong in [
            "http://[::1",
            "http://[::1]80/",
            "http://::1/",
            "http://[127.0.0.1]/",
            "http://127.0.0.1:/",
        ] {
            assert!(Url::parse(wrong).is_none(), "{wrong}");
        }
        assert_eq!(
            script.join("http://127.0.0.2/x").unwrap().server.ip(),
            IpAddr::from([127, 0, 0, 2])
        );
    }
}
