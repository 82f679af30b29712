//! Request targets become names under the root: decoded once, attacks refused (H-24). Pure: it
//! knows no file.

/// Why a target names no file. Each gets 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// GRUB with a prefix without parentheses sends `GET http,192.168.4.150/grub/grub.cfg`.
    #[error("the target is neither a path nor an http URL")]
    Form,
    /// A percent sign without two hexadecimal digits.
    #[error("a percent sign without two hexadecimal digits")]
    Encoding,
    /// An encoded `/` or `\`.
    #[error("a NUL, or an encoded slash or backslash")]
    EncodedSeparator,
}

/// The decoded path of an origin-form (`/a/b?q`) or absolute-form (`http://host/a/b?q`) target,
/// query left out. Empty, `.` and `..` components stay for the caller to resolve; `\` counts as `/`
/// (T-56), an encoded one is an error.
pub fn decode_target_path(target: &[u8]) -> Result<Vec<u8>, BadTarget> {
    let path = find_target_path(target).ok_or(BadTarget::Form)?;
    let end = path.iter().position(|&b| b == b'?' || b == b'#').unwrap_or(path.len());
    decode_percent(&path[..end])
}

/// Whether a target ends with a slash, so that it names a directory and no file.
pub fn names_directory(target: &[u8]) -> bool {
    find_target_path(target).is_some_and(|path| {
        let end = path.iter().position(|&b| b == b'?' || b == b'#').unwrap_or(path.len());
        matches!(path[..end].last(), Some(b'/' | b'\\'))
    })
}

/// Strips scheme and host: the rest begins with the path.
fn find_target_path(target: &[u8]) -> Option<&[u8]> {
    if target.first() == Some(&b'/') {
        return Some(target);
    }
    let rest = strip_scheme(target, b"http://").or_else(|| strip_scheme(target, b"https://"))?;
    let authority =
        rest.iter().position(|&b| matches!(b, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    if authority == 0 {
        return None;
    }
    Some(&rest[authority..])
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = target.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn decode_percent(path: &[u8]) -> Result<Vec<u8>, BadTarget> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    // Each byte is decoded once (H-24): `%252e` becomes `%2e`, and never a dot.
    while let Some(&byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high =
                    bytes.next().and_then(|&b| parse_hex_digit(b)).ok_or(BadTarget::Encoding)?;
                let low =
                    bytes.next().and_then(|&b| parse_hex_digit(b)).ok_or(BadTarget::Encoding)?;
                match high * 16 + low {
                    0 | b'/' | b'\\' => return Err(BadTarget::EncodedSeparator),
                    value => value,
                }
            }
            b'\\' => b'/',
            0 => return Err(BadTarget::EncodedSeparator),
            _ => byte,
        });
    }
    Ok(decoded)
}

fn parse_hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn h24_origin_and_absolute_form_name_the_same_file() {
        for target in [
            "/a/b",
            "/a/b?mac=52:54",
            "http://192.168.4.150/a/b",
            "HTTP://host:8080/a/b?x#y",
            "/%61/b",
            "/a\\b",
        ] {
            assert_eq!(decode_target_path(target.as_bytes()).unwrap(), b"/a/b", "{target}");
        }
        assert_eq!(decode_target_path(b"http://host").unwrap(), b"");
        assert_eq!(decode_target_path(b"//grubx64.efi").unwrap(), b"//grubx64.efi");
    }

    #[test]
    fn h24_percent_is_decoded_once_and_only_once() {
        assert_eq!(decode_target_path(b"/%252e%252e/a%20b").unwrap(), b"/%2e%2e/a b");
        assert_eq!(decode_target_path(b"/caf%E9.img").unwrap(), b"/caf\xe9.img");
        assert_eq!(decode_target_path(b"/%01%0a%7F%ff").unwrap(), b"/\x01\x0a\x7f\xff");
        for target in ["/%", "/%2", "/%zz", "/a%4"] {
            assert_eq!(decode_target_path(target.as_bytes()), Err(BadTarget::Encoding), "{target}");
        }
    }

    #[test]
    fn k18_a_slash_at_the_end_names_a_directory() {
        for target in ["/", "/a/", "/a/?q", "http://h/a/", "/a\\", "/a//"] {
            assert!(names_directory(target.as_bytes()), "{target}");
        }
        for target in ["/a", "/a?q/", "/a#/", "http://h", "/a/b.", "*"] {
            assert!(!names_directory(target.as_bytes()), "{target}");
        }
    }

    #[test]
    fn h24_dot_dot_is_the_same_in_every_spelling() {
        for target in ["/a/../b", "/a/%2e%2e/b", "/a/.%2E/b", "/a\\..\\b", "http://h/a/../b"] {
            assert_eq!(decode_target_path(target.as_bytes()).unwrap(), b"/a/../b", "{target}");
        }
        assert_eq!(decode_target_path(b"/a/%252e%252e/b").unwrap(), b"/a/%2e%2e/b");
    }

    #[test]
    fn h24_encoded_nul_slash_and_backslash_are_refused() {
        for target in ["/a%00", "/a\0", "/a%2fb", "/a%2Fb", "/a%5cb", "/a%5C"] {
            assert_eq!(
                decode_target_path(target.as_bytes()),
                Err(BadTarget::EncodedSeparator),
                "{target}"
            );
        }
    }

    #[test]
    fn h24_targets_that_are_no_path_are_refused() {
        for target in [
            "",
            "*",
            "a/b",
            "http,192.168.4.150/grub/grub.cfg",
            "host:80",
            "http://",
            "http:///a",
            "ftp://h/a",
        ] {
            assert_eq!(decode_target_path(target.as_bytes()), Err(BadTarget::Form), "{target}");
        }
    }
}
