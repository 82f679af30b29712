//! What a Host field may name (RFC 9112 §3.2, RFC 3986 §3.2.2).

use std::net::Ipv6Addr;

/// Whether this is a host, perhaps with a port, or empty (RFC 9112 §3.2). RFC 3986 allows a comma
/// in a name; this function does not, since two joined Host lines look so.
#[inline]
pub(super) fn is_host_value(value: &[u8]) -> bool {
    // Nearly every host is a plain name or an IPv4 address.
    if value.iter().all(|&b| is_host_name_byte(b)) {
        return true;
    }
    let (is_named, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = rest.iter().position(|&b| b == b']') else { return false };
            (is_ip_literal(&rest[..end]), &rest[end + 1..])
        }
        None => {
            let (name, port) =
                value.split_at(value.iter().position(|&b| b == b':').unwrap_or(value.len()));
            (is_host_name(name), port)
        }
    };
    is_named && (port.is_empty() || (port[0] == b':' && port[1..].iter().all(u8::is_ascii_digit)))
}

/// Whether this may stand between brackets: an IPv6 address, perhaps with a zone (RFC 6874), or an
/// address of a later version.
fn is_ip_literal(bytes: &[u8]) -> bool {
    let (address, zone) =
        bytes.split_at(bytes.iter().position(|&b| b == b'%').unwrap_or(bytes.len()));
    let is_v6 =
        std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
    let is_later = matches!(address, [b'v' | b'V', version, b'.', rest @ ..]
        if version.is_ascii_hexdigit()
            && !rest.is_empty()
            && rest.iter().all(|&b| b == b':' || is_host_name_byte(b)));
    (is_v6 && zone.iter().all(|&b| b == b'%' || is_host_name_byte(b)))
        || (is_later && zone.is_empty())
}

fn is_host_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            (byte, after) if is_host_name_byte(byte) => after,
            _ => return false,
        };
    }
    true
}

#[inline]
fn is_host_name_byte(byte: u8) -> bool {
    NAME_BYTES[usize::from(byte)]
}

/// True for `unreserved` and `sub-delims` of RFC 3986 without the comma.
const NAME_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0_u8;
    while byte.is_ascii() {
        bytes[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
            );
        byte += 1;
    }
    bytes
};
