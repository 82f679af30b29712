//! The header fields that mean something to this server, found by their names.

/// Header fields that this server reads; the number is a field's bit in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum HeaderField {
    /// Names this server; required by HTTP/1.1 (H-8).
    Host = 1,
    /// Keeps or ends the connection (H-7).
    Connection = 1 << 1,
    /// Length of the request's body.
    ContentLength = 1 << 2,
    /// Framing of the request's body; only chunked is accepted.
    TransferEncoding = 1 << 3,
    /// `100-continue`: the client waits before it sends its body.
    Expect = 1 << 4,
    /// The bytes of the file that the client wants (H-16).
    Range = 1 << 5,
    /// Range counts only for this version of the file (H-21).
    IfRange = 1 << 6,
    /// Answer only for one of these versions (H-20).
    IfMatch = 1 << 7,
    /// 304 for one of these versions (H-22).
    IfNoneMatch = 1 << 8,
    /// 304 unless the file is newer; ignored beside If-None-Match.
    IfModifiedSince = 1 << 9,
    /// 412 if the file is newer; ignored beside If-Match.
    IfUnmodifiedSince = 1 << 10,
    /// The client's program: iPXE gets Retry-After (H-14).
    UserAgent = 1 << 11,
}

/// Number of the fields.
pub(super) const FIELDS: usize = 12;

impl HeaderField {
    #[inline]
    pub(super) fn from_name(name: &[u8]) -> Option<Self> {
        let of_this_length: &[Self] = match name.len() {
            4 => &[Self::Host],
            5 => &[Self::Range],
            6 => &[Self::Expect],
            8 => &[Self::IfMatch, Self::IfRange],
            10 => &[Self::UserAgent, Self::Connection],
            13 => &[Self::IfNoneMatch],
            14 => &[Self::ContentLength],
            17 => &[Self::TransferEncoding, Self::IfModifiedSince],
            19 => &[Self::IfUnmodifiedSince],
            _ => return None,
        };
        of_this_length.iter().copied().find(|field| name.eq_ignore_ascii_case(field.name()))
    }

    #[inline]
    pub(super) fn index(self) -> usize {
        (self as u16).trailing_zeros() as usize
    }

    #[inline]
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Self::Host => b"host",
            Self::Connection => b"connection",
            Self::ContentLength => b"content-length",
            Self::TransferEncoding => b"transfer-encoding",
            Self::Expect => b"expect",
            Self::Range => b"range",
            Self::IfRange => b"if-range",
            Self::IfMatch => b"if-match",
            Self::IfNoneMatch => b"if-none-match",
            Self::IfModifiedSince => b"if-modified-since",
            Self::IfUnmodifiedSince => b"if-unmodified-since",
            Self::UserAgent => b"user-agent",
        }
    }
}
