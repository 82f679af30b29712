//! The header fields that mean something to this server, found by their names.

/// Header fields that mean something to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum HeaderField {
    Host = 1,
    Connection = 1 << 1,
    ContentLength = 1 << 2,
    TransferEncoding = 1 << 3,
    Expect = 1 << 4,
    Range = 1 << 5,
    IfRange = 1 << 6,
    IfMatch = 1 << 7,
    IfNoneMatch = 1 << 8,
    IfModifiedSince = 1 << 9,
    IfUnmodifiedSince = 1 << 10,
    UserAgent = 1 << 11,
}

/// How many of them there are.
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
