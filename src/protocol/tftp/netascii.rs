//! Netascii: translates a whole file for the wire before the transfer cuts it into blocks (RFC 1350
//! §1, RFC 764).

use super::limits::NETASCII_BYTES_MAX;

/// The file is longer than `limits::NETASCII_BYTES_MAX`; the client gets ERROR 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a file of {bytes} bytes is too long for netascii (at most {NETASCII_BYTES_MAX})")]
pub struct NetasciiTooLong {
    /// Length of the file, bytes.
    pub bytes: usize,
}

/// Translates LF to CR LF, and CR to CR NUL (T-8).
///
/// A line of the file ends with LF alone, so every CR is a bare one: the CR LF of a DOS file leaves
/// as CR NUL CR LF, and the client restores the bytes of the file. The transfer cuts blocks from
/// the result: so a pair may straddle two blocks, and a retransmission has the same bytes.
pub fn translate_netascii(file: &[u8]) -> Result<Vec<u8>, NetasciiTooLong> {
    if file.len() > NETASCII_BYTES_MAX {
        return Err(NetasciiTooLong { bytes: file.len() });
    }
    let ends = file.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
    let mut wire = Vec::with_capacity(file.len() + ends);
    for byte in file {
        match byte {
            b'\n' => wire.extend_from_slice(b"\r\n"),
            b'\r' => wire.extend_from_slice(b"\r\0"),
            byte => wire.push(*byte),
        }
    }
    Ok(wire)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What a client makes of netascii.
    fn back(wire: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut bytes = wire.iter();
        while let Some(byte) = bytes.next() {
            file.push(match byte {
                b'\r' => match bytes.next().unwrap() {
                    b'\n' => b'\n',
                    b'\0' => b'\r',
                    other => panic!("CR before {other}"),
                },
                byte => *byte,
            });
        }
        file
    }

    #[test]
    fn t8_line_ends_are_translated_and_nothing_is_lost() {
        assert_eq!(translate_netascii(b"a\nb\rc").unwrap(), b"a\r\nb\r\0c");
        for file in
            [&b""[..], b"\n", b"\r", b"\r\n", b"\n\r", b"a\r", b"\r\r\n\n", b"plain", b"\0\r\0\n"]
        {
            assert_eq!(back(&translate_netascii(file).unwrap()), file, "{file:?}");
        }
    }

    #[test]
    fn t8_a_pair_may_straddle_two_blocks() {
        let file = [&[b'x'; 511][..], b"\nend"].concat();
        let wire = translate_netascii(&file).unwrap();
        assert_eq!((wire[511], wire[512]), (b'\r', b'\n'));
        assert_eq!(back(&wire), file);
    }

    #[test]
    fn t8_a_file_over_the_limit_is_refused() {
        assert_eq!(
            translate_netascii(&vec![b'\n'; NETASCII_BYTES_MAX]).map(|wire| wire.len()),
            Ok(2 * NETASCII_BYTES_MAX)
        );
        let bytes = NETASCII_BYTES_MAX + 1;
        assert_eq!(translate_netascii(&vec![b'\n'; bytes]), Err(NetasciiTooLong { bytes }));
    }
}
