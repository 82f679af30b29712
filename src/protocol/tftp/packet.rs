//! Parses and writes the five packets of TFTP and the option acknowledgement. Parsing borrows from
//! the datagram and allocates nothing.

use std::fmt;

use super::limits::{ERROR_TEXT_BYTES_MAX, REQUEST_BYTES_MAX};

/// A parsed datagram (RFC 1350 §5, RFC 2347).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// RRQ, or its fault: the server answers a faulty request, so a fault is no error of the
    /// parser.
    Read(Result<ReadRequest<'a>, TftpRefusal>),
    /// WRQ. The server refuses it, so the parser does not read its fields (T-3).
    Write,
    /// DATA: one block of the file.
    Data {
        /// Number of the block, modulo 65536.
        block: u16,
        /// Bytes of the block; fewer than the block size in the last one.
        payload: &'a [u8],
    },
    /// ACK of a block, or of the OACK.
    Ack {
        /// Number of the block, modulo 65536; 0 for the OACK.
        block: u16,
    },
    /// ERROR: the sender ends the transfer.
    Error {
        /// One of [`ErrorCode`], or any other number.
        code: u16,
        /// Text for people, without its NUL.
        message: &'a [u8],
    },
    /// OACK with the granted options (RFC 2347).
    OptionAck(Options<'a>),
}

/// Parses a datagram; None: not TFTP, or too short for its opcode (T-4, T-30).
pub fn parse_tftp_packet(bytes: &[u8]) -> Option<Packet<'_>> {
    let (opcode, body) = bytes.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*opcode) {
        opcode::RRQ => Some(Packet::Read(parse_read_request(bytes))),
        opcode::WRQ => Some(Packet::Write),
        opcode::DATA => {
            let (block, payload) = body.split_first_chunk::<2>()?;
            Some(Packet::Data { block: u16::from_be_bytes(*block), payload })
        }
        // Ignore bytes after the block number (T-30).
        opcode::ACK => Some(Packet::Ack { block: u16::from_be_bytes(*body.first_chunk::<2>()?) }),
        opcode::ERROR => {
            let (code, text) = body.split_first_chunk::<2>()?;
            let message = split_at_nul(text).map_or(text, |(message, _)| message);
            Some(Packet::Error { code: u16::from_be_bytes(*code), message })
        }
        opcode::OACK => Some(Packet::OptionAck(Options { rest: body })),
        _ => None,
    }
}

/// A read request, borrowed from its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest<'a> {
    /// The name as the client sent it: any encoding, not decoded (T-63).
    pub name: &'a [u8],
    /// The `mode` field, in any case of its letters.
    pub mode: TransferMode,
    /// The options of RFC 2347, which follow the mode.
    pub options: Options<'a>,
    /// The datagram from its opcode to the end of the last whole option; the parser ignores the
    /// rest (T-7).
    meaning: &'a [u8],
}

/// How the bytes of the file become the bytes of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransferMode {
    /// Unchanged; `octet` on the wire.
    #[default]
    Octet,
    /// With translated line ends (T-8).
    Netascii,
}

/// Pairs of name and value, in the order sent. The iterator leaves out a last name without a value
/// (T-7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = split_at_nul(self.rest)?;
        let (value, rest) = split_at_nul(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// A read request that outlives its datagram. Two are equal if their datagrams are equal up to the
/// last whole option.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoredReadRequest {
    datagram: Box<[u8]>,
    name_end: usize,
    options_start: usize,
    mode: TransferMode,
}

impl StoredReadRequest {
    /// The name as sent, without its NUL.
    pub fn name(&self) -> &[u8] {
        self.datagram.get(2..self.name_end).unwrap_or_default()
    }

    /// The transfer mode.
    pub fn mode(&self) -> TransferMode {
        self.mode
    }

    /// The options, in the order sent.
    pub fn options(&self) -> Options<'_> {
        Options { rest: self.datagram.get(self.options_start..).unwrap_or_default() }
    }

    /// The request has a `tsize`: the client may want the size and nothing else (T-52).
    pub fn asks_size(&self) -> bool {
        self.options().any(|(name, _)| name.eq_ignore_ascii_case(b"tsize"))
    }

    /// Whether `asked` repeats this request (T-49).
    pub fn is_repeated_by(&self, asked: &ReadRequest<'_>) -> bool {
        *self.datagram == *asked.meaning
    }
}

impl From<&ReadRequest<'_>> for StoredReadRequest {
    fn from(asked: &ReadRequest<'_>) -> Self {
        let options_bytes: usize =
            asked.options.map(|(name, value)| name.len() + value.len() + 2).sum();
        Self {
            datagram: asked.meaning.into(),
            name_end: 2 + asked.name.len(),
            options_start: asked.meaning.len() - options_bytes,
            mode: asked.mode,
        }
    }
}

impl fmt::Debug for StoredReadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredReadRequest")
            .field("name", &self.name().escape_ascii().to_string())
            .finish_non_exhaustive()
    }
}

/// Why the server refuses a request: the code and text of an ERROR. The text is a constant of the
/// program, so it cannot contain a path of this server (T-53).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TftpRefusal {
    /// The code on the wire.
    pub code: ErrorCode,
    /// The text on the wire, printable ASCII.
    pub text: &'static str,
}

impl TftpRefusal {
    /// No file of this name exists.
    pub const NOT_FOUND: Self = Self { code: ErrorCode::NotFound, text: "File not found" };
    /// The file exists and is never served, or the client asks to write.
    pub const ACCESS_VIOLATION: Self =
        Self { code: ErrorCode::AccessViolation, text: "Access violation" };
    /// The server failed; its log says why.
    pub const INTERNAL: Self = Self { code: ErrorCode::Undefined, text: "Internal error" };
}

/// Error codes that the server knows (T-53; RFC 1350 appendix I).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// An internal error, or the end of a transfer whose client fell silent.
    Undefined = 0,
    /// No such file, or an empty name.
    NotFound = 1,
    /// A write request, or a file that is outside the root, not regular or not readable.
    AccessViolation = 2,
    /// A malformed request, or an unknown mode.
    Illegal = 4,
    /// The datagram came from a port without a transfer (T-48).
    UnknownTid = 5,
    /// Only clients send it: they reject the options, or wanted only the size (T-52).
    OptionsRefused = 8,
}

/// Builds the header of a DATA packet.
pub fn build_data_header(block: u16) -> [u8; 4] {
    let [high, low] = block.to_be_bytes();
    [0, 3, high, low]
}

/// Replaces the content of `out` with an ACK.
pub fn write_ack(out: &mut Vec<u8>, block: u16) {
    write_opcode(out, opcode::ACK);
    out.extend_from_slice(&block.to_be_bytes());
}

/// Replaces the content of `out` with an ERROR. Cuts the text to its limit and to printable ASCII
/// (T-53).
pub fn write_error(out: &mut Vec<u8>, refusal: TftpRefusal) {
    write_opcode(out, opcode::ERROR);
    out.extend_from_slice(&(refusal.code as u16).to_be_bytes());
    let text = refusal.text.bytes().filter(|byte| byte.is_ascii_graphic() || *byte == b' ');
    out.extend(text.take(ERROR_TEXT_BYTES_MAX));
    out.push(0);
}

/// Replaces the content of `out` with a read request; [`write_option`] appends options.
pub fn write_read_request(out: &mut Vec<u8>, name: &[u8], mode: &[u8]) {
    write_opcode(out, opcode::RRQ);
    for text in [name, mode] {
        out.extend_from_slice(text);
        out.push(0);
    }
}

/// Replaces the content of `out` with an empty OACK; [`write_option`] appends options.
pub fn write_option_ack(out: &mut Vec<u8>) {
    write_opcode(out, opcode::OACK);
}

/// Appends one option to a request or an OACK. The name keeps its spelling (T-12).
pub fn write_option(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.push(0);
    push_decimal(out, value);
    out.push(0);
}

mod opcode {
    pub(super) const RRQ: u16 = 1;
    pub(super) const WRQ: u16 = 2;
    pub(super) const DATA: u16 = 3;
    pub(super) const ACK: u16 = 4;
    pub(super) const ERROR: u16 = 5;
    pub(super) const OACK: u16 = 6;
}

const TOO_LONG: TftpRefusal = TftpRefusal { code: ErrorCode::Illegal, text: "Request too long" };
const MALFORMED: TftpRefusal = TftpRefusal { code: ErrorCode::Illegal, text: "Malformed request" };
const BAD_MODE: TftpRefusal =
    TftpRefusal { code: ErrorCode::Illegal, text: "Mode is neither octet nor netascii" };
const NO_NAME: TftpRefusal = TftpRefusal { code: ErrorCode::NotFound, text: "Empty file name" };

/// Parses an RRQ (T-1, T-2, T-5, T-6, T-7).
fn parse_read_request(bytes: &[u8]) -> Result<ReadRequest<'_>, TftpRefusal> {
    if bytes.len() > REQUEST_BYTES_MAX {
        return Err(TOO_LONG);
    }
    let body = bytes.get(2..).ok_or(MALFORMED)?;
    let (name, rest) = split_at_nul(body).ok_or(MALFORMED)?;
    let (mode, rest) = split_at_nul(rest).ok_or(MALFORMED)?;
    if name.is_empty() {
        return Err(NO_NAME);
    }

    let mode = match mode {
        mode if mode.eq_ignore_ascii_case(b"octet") => TransferMode::Octet,
        mode if mode.eq_ignore_ascii_case(b"netascii") => TransferMode::Netascii,
        _ => return Err(BAD_MODE),
    };

    // Find the end of the last whole option: the request means nothing beyond it.
    let mut pairs = Options { rest };
    let options_bytes = loop {
        let before = pairs.rest.len();
        if pairs.next().is_none() {
            break rest.len() - before;
        }
    };
    let (options, tail) = rest.split_at(options_bytes);
    let meaning = &bytes[..bytes.len() - tail.len()];
    Ok(ReadRequest { name, mode, options: Options { rest: options }, meaning })
}

/// The bytes before the next NUL, and those after it.
fn split_at_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

fn write_opcode(out: &mut Vec<u8>, opcode: u16) {
    out.clear();
    out.extend_from_slice(&opcode.to_be_bytes());
}

/// Appends decimal digits without the allocation of `to_string`.
fn push_decimal(out: &mut Vec<u8>, mut value: u64) {
    let start = out.len();
    loop {
        out.push(b'0' + (value % 10) as u8);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out[start..].reverse();
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(bytes: &[u8]) -> Result<ReadRequest<'_>, TftpRefusal> {
        match parse_tftp_packet(bytes) {
            Some(Packet::Read(result)) => result,
            other => panic!("not a read request: {other:?}"),
        }
    }

    fn code(bytes: &[u8]) -> ErrorCode {
        read(bytes).unwrap_err().code
    }

    #[test]
    fn t1_a_request_is_name_mode_and_options() {
        let asked = read(b"\0\x01pxelinux.0\0octet\0tsize\x000\0blksize\x001408\0").unwrap();
        assert_eq!(asked.name, b"pxelinux.0");
        assert_eq!(asked.mode, TransferMode::Octet);
        let options: Vec<_> = asked.options.collect();
        assert_eq!(options, [(&b"tsize"[..], &b"0"[..]), (b"blksize", b"1408")]);
    }

    #[test]
    fn t2_modes_compare_without_case_and_mail_is_refused() {
        assert_eq!(read(b"\0\x01a\0OcTeT\0").unwrap().mode, TransferMode::Octet);
        assert_eq!(read(b"\0\x01a\0NETASCII\0").unwrap().mode, TransferMode::Netascii);
        assert_eq!(code(b"\0\x01a\0mail\0"), ErrorCode::Illegal);
        assert_eq!(code(b"\0\x01a\0octet \0"), ErrorCode::Illegal);
        assert_eq!(code(b"\0\x01a\0\0"), ErrorCode::Illegal);
    }

    #[test]
    fn t4_unknown_opcodes_are_no_packets() {
        for bytes in
            [&b"\0\0\0\0"[..], b"\0\x07\0\0", b"\xff\xffxx", b"\x01\0a\0octet\0", b"\0", b""]
        {
            assert_eq!(parse_tftp_packet(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn t5_requests_over_512_octets_are_read_up_to_1500() {
        let request = |name: usize| [b"\0\x01", &vec![b'n'; name][..], b"\0octet\0"].concat();
        assert_eq!(read(&request(600)).unwrap().name.len(), 600);
        assert_eq!(read(&request(1500 - 9)).unwrap().name.len(), 1491);
        assert_eq!(code(&request(1500 - 8)), ErrorCode::Illegal);
    }

    #[test]
    fn t6_missing_nul_is_malformed_and_an_empty_name_is_not_found() {
        for bytes in [&b"\0\x01"[..], b"\0\x01\0", b"\0\x01a", b"\0\x01a\0octet", b"\0\x01a\0"] {
            assert_eq!(code(bytes), ErrorCode::Illegal, "{bytes:?}");
        }
        assert_eq!(code(b"\0\x01\0octet\0"), ErrorCode::NotFound);
    }

    #[test]
    fn t7_a_tail_without_value_is_ignored_and_empty_values_are_legal() {
        let asked = read(b"\0\x01a\0octet\0multicast\0\0blksize\x00512\0tsize\0").unwrap();
        assert_eq!(asked.options.count(), 2);
        let garbage = read(b"\0\x01a\0octet\0blksize\x00512\0\xff\xfe").unwrap();
        assert_eq!(garbage.options.count(), 1);
        let clean = read(b"\0\x01a\0octet\0blksize\x00512\0").unwrap();
        assert!(
            StoredReadRequest::from(&clean).is_repeated_by(&garbage),
            "the tail is no part of the request"
        );
    }

    #[test]
    fn t30_an_ack_may_be_longer_but_not_shorter() {
        assert_eq!(
            parse_tftp_packet(b"\0\x04\x12\x34trailing"),
            Some(Packet::Ack { block: 0x1234 })
        );
        assert_eq!(parse_tftp_packet(b"\0\x04\x12"), None);
        assert_eq!(parse_tftp_packet(b"\0\x03\0"), None);
    }

    #[test]
    fn t53_error_text_ends_with_nul_and_is_short_ascii() {
        let mut out = Vec::new();
        write_error(&mut out, TftpRefusal::NOT_FOUND);
        assert_eq!(out, b"\0\x05\0\x01File not found\0");
        let long = "é\n0123456789".repeat(40);
        write_error(&mut out, TftpRefusal { code: ErrorCode::Undefined, text: long.leak() });
        assert_eq!(out.len(), 4 + 127 + 1);
        assert!(out[4..131].iter().all(u8::is_ascii_digit));
        assert_eq!(
            parse_tftp_packet(&out)
                .map(|p| matches!(p, Packet::Error { code: 0, message } if message.len() == 127)),
            Some(true)
        );
    }

    #[test]
    fn t63_names_are_bytes_and_percent_is_literal() {
        let asked = read(b"\0\x01%2e\xff\xc3(\0octet\0").unwrap();
        assert_eq!(asked.name, b"%2e\xff\xc3(");
        assert_eq!(StoredReadRequest::from(&asked).name(), asked.name);
    }

    #[test]
    fn an_owned_request_says_what_the_borrowed_one_said() {
        let asked = read(b"\0\x01grub.cfg\0netascii\0tsize\x000\0odd").unwrap();
        let request = StoredReadRequest::from(&asked);
        assert_eq!((request.name(), request.mode()), (asked.name, asked.mode));
        assert!(request.options().eq(asked.options));
        assert_eq!(format!("{request:?}"), "StoredReadRequest { name: \"grub.cfg\", .. }");
        for (datagram, asks_size) in [
            (&b"\0\x01f\0octet\0TSize\x000\0"[..], true),
            (b"\0\x01tsize\0octet\0blksize\x00512\0tsize\0", false),
        ] {
            assert_eq!(
                StoredReadRequest::from(&read(datagram).unwrap()).asks_size(),
                asks_size,
                "{datagram:?}"
            );
        }
    }

    #[test]
    fn decimals_are_written_whole() {
        let mut out = Vec::new();
        for value in [0, 9, 10, 1468, u64::MAX] {
            out.clear();
            push_decimal(&mut out, value);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
