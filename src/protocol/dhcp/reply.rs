//! The encoder of replies: fields and ordered options in, bytes within the client's size limit out.
//!
//! dhcproto sorts options by code, puts 82 last and knows no Pad, so it cannot write the order of
//! D-33 and the Pads of D-43.

use std::net::Ipv4Addr;

use super::limits::{FILE_FIELD_BYTES_MAX, OPTION_BYTES_MAX, REPLY_BYTES_MAX, REPLY_BYTES_MIN};
use super::packet::{COOKIE, OP_REPLY, code};

/// A reply before it is encoded. `hops` and `secs` are always 0 (D-2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyMessage {
    /// Hardware type of the request.
    pub htype: u8,
    /// Length of the hardware address, bytes.
    pub hlen: u8,
    /// Transaction ID of the request.
    pub xid: u32,
    /// Flags of the request; a relayed NAK sets the broadcast bit.
    pub flags: u16,
    /// Address that the client uses; 0.0.0.0 in an OFFER.
    pub ciaddr: Ipv4Addr,
    /// Address that the server gives.
    pub yiaddr: Ipv4Addr,
    /// Server of the boot file.
    pub siaddr: Ipv4Addr,
    /// Relay agent of the request.
    pub giaddr: Ipv4Addr,
    /// Hardware address of the client, padded with zeros.
    pub chaddr: [u8; 16],
    /// Boot file. At most 127 bytes; a longer one is left out (D-42).
    pub file: Vec<u8>,
    /// Options in the order in which they are sent.
    pub options: ReplyOptions,
}

/// Options in the order in which they are sent. One buffer holds all values, since a reply has
/// twenty of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplyOptions {
    values: Vec<u8>,
    /// Code, and the start and end of its value in `values`.
    places: Vec<(u8, u32, u32)>,
}

impl ReplyOptions {
    /// No options, with room for those of most replies.
    pub(super) fn with_room() -> Self {
        Self { values: Vec::with_capacity(256), places: Vec::with_capacity(32) }
    }

    pub(super) fn push(&mut self, code: u8, value: &[u8]) {
        self.push_parts(code, std::iter::once(value));
    }

    /// Adds one option whose value comes in parts.
    pub(super) fn push_parts(&mut self, code: u8, parts: impl Iterator<Item = impl AsRef<[u8]>>) {
        let start = self.values.len();
        parts.for_each(|part| self.values.extend_from_slice(part.as_ref()));
        let [start, end] =
            [start, self.values.len()].map(|at| u32::try_from(at).unwrap_or(u32::MAX));
        self.places.push((code, start, end));
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u8, &[u8])> {
        self.places.iter().map(|&(code, start, end)| {
            (code, self.values.get(start as usize..end as usize).unwrap_or_default())
        })
    }

    /// The options with these codes, in this order, each once and without empty ones.
    pub(super) fn select_in_order(self, codes: impl Iterator<Item = u8>) -> Self {
        // For each code its index plus one; 0 where the code is missing.
        let mut at = [0_u8; 256];
        for (index, (code, value)) in (1..).zip(self.iter()) {
            at[usize::from(code)] = if value.is_empty() { 0 } else { index };
        }
        let mut places = Vec::with_capacity(self.places.len() + 1);
        for code in codes {
            let index = std::mem::take(&mut at[usize::from(code)]);
            places
                .extend(usize::from(index).checked_sub(1).and_then(|index| self.places.get(index)));
        }
        Self { places, ..self }
    }
}

/// The options that a reply needs do not fit the client's limit (D-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the options that cannot be left out do not fit {limit} bytes")]
pub struct DoesNotFit {
    /// Largest UDP payload that the client takes, bytes.
    pub limit: usize,
}

impl ReplyMessage {
    /// The bytes, and the codes that were dropped to stay within `limit` bytes of UDP payload (D-4,
    /// D-5). The relay removes its option 82, which therefore does not count against the client's
    /// limit; it is left out where the whole would not fit one frame (D-49).
    pub fn encode(&self, limit: usize) -> Result<(Vec<u8>, Vec<u8>), DoesNotFit> {
        let mut dropped = Vec::new();
        let mut bytes = self.encode_for_client(&dropped);
        while bytes.len() + END.len() > limit {
            dropped.push(self.next_to_drop(&dropped).ok_or(DoesNotFit { limit })?);
            bytes = self.encode_for_client(&dropped);
        }

        // Option 82 is the last option (D-49). The relay agent removes it again.
        let of_client = bytes.len();
        for (code, value) in
            self.options.iter().filter(|(code, _)| *code == code::RELAY_AGENT_INFORMATION)
        {
            push_option(&mut bytes, code, value);
        }
        if bytes.len() + END.len() > REPLY_BYTES_MAX {
            bytes.truncate(of_client);
            dropped.push(code::RELAY_AGENT_INFORMATION);
        }

        // A BOOTP message has 300 bytes at least (RFC 951), so zeros follow END (D-3).
        bytes.extend_from_slice(&END);
        bytes.resize(bytes.len().max(REPLY_BYTES_MIN), 0);
        Ok((bytes, dropped))
    }

    /// The option to drop next: first those that D-40 does not name, then those that D-5 allows to
    /// drop; of each the last.
    fn next_to_drop(&self, dropped: &[u8]) -> Option<u8> {
        let left = || {
            let codes = self.options.iter().rev().map(|(code, _)| code);
            codes.filter(|code| reaches_client(*code, dropped))
        };
        left()
            .find(|code| !KEPT.contains(code))
            .or_else(|| left().find(|code| !NEVER_DROPPED.contains(code)))
    }

    /// The bytes that reach the client: without option 82 and END.
    fn encode_for_client(&self, dropped: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REPLY_BYTES_MIN * 2);
        bytes.extend_from_slice(&[OP_REPLY, self.htype, self.hlen, 0]);
        bytes.extend_from_slice(&self.xid.to_be_bytes());
        // secs is 0, and so is hops above (D-2).
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            bytes.extend_from_slice(&address.octets());
        }
        bytes.extend_from_slice(&self.chaddr);

        // A name that does not fit the field goes into option 67 alone (D-42).
        bytes.resize(FILE_AT, 0);
        if self.file.len() <= FILE_FIELD_BYTES_MAX {
            bytes.extend_from_slice(&self.file);
        }

        bytes.resize(COOKIE_AT, 0);
        bytes.extend_from_slice(&COOKIE);
        for (code, value) in self.options.iter().filter(|(code, _)| reaches_client(*code, dropped))
        {
            push_option(&mut bytes, code, value);
        }
        bytes
    }
}

/// Whether the client gets this option: the relay agent removes option 82.
fn reaches_client(code: u8, dropped: &[u8]) -> bool {
    code != code::RELAY_AGENT_INFORMATION && !dropped.contains(&code)
}

/// Offset of the header's `file` field. `sname` before it stays empty, since option 66 carries the
/// same.
const FILE_AT: usize = 108;
const COOKIE_AT: usize = 236;
const END: [u8; 1] = [code::END];

/// Options that are dropped last (D-40); 82 has a limit of its own.
const KEPT: [u8; 19] =
    [1, 3, 6, 28, 43, 51, 53, 54, 58, 59, 60, 61, 66, 67, 97, 150, 175, 209, 210];

/// Options without which the reply is wrong (D-5). 56 is the reason of a NAK.
const NEVER_DROPPED: [u8; 10] = [53, 54, 51, 1, 3, 56, 61, 60, 43, 67];

/// Text that firmware reads as a C string. The Pad after it serves firmware that reads on until a
/// NUL, firmware that writes a NUL behind the text (EDK2, over the code of the next option), and
/// firmware that honours the length (D-43).
const PADDED: [u8; 3] = [code::CLASS_IDENTIFIER, code::TFTP_SERVER_NAME, code::BOOT_FILE_NAME];

/// Writes one option; a value over 255 bytes in consecutive pieces (D-41).
fn push_option(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    let mut pieces = value.chunks(OPTION_BYTES_MAX).peekable();
    loop {
        let piece = pieces.next().unwrap_or_default();
        bytes.extend_from_slice(&[code, u8::try_from(piece.len()).unwrap_or(u8::MAX)]);
        bytes.extend_from_slice(piece);
        if pieces.peek().is_none() {
            break;
        }
    }
    if PADDED.contains(&code) {
        bytes.push(code::PAD);
    }
}

#[cfg(test)]
impl FromIterator<(u8, Vec<u8>)> for ReplyOptions {
    fn from_iter<I: IntoIterator<Item = (u8, Vec<u8>)>>(all: I) -> Self {
        let mut options = Self::default();
        all.into_iter().for_each(|(code, value)| options.push(code, &value));
        options
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::dhcp::packet::Packet;

    fn reply(options: Vec<(u8, Vec<u8>)>) -> ReplyMessage {
        ReplyMessage {
            htype: 1,
            hlen: 6,
            xid: 0x0102_0304,
            flags: 0x8000,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::new(192, 168, 4, 26),
            siaddr: Ipv4Addr::new(192, 168, 4, 150),
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: [0xaa; 16],
            file: b"a.efi".to_vec(),
            options: options.into_iter().collect(),
        }
    }

    #[test]
    fn options_come_in_the_order_that_is_asked_for_once_and_never_empty() {
        let all = [(1, vec![7; 4]), (3, vec![]), (6, vec![8; 8]), (255, vec![9]), (0, vec![5])];
        let ordered = all
            .into_iter()
            .collect::<ReplyOptions>()
            .select_in_order([6, 3, 42, 255, 6, 0].into_iter());
        assert_eq!(ordered.iter().collect::<Vec<_>>(), [(6, &[8; 8][..]), (255, &[9]), (0, &[5])]);
        let mut options = ReplyOptions::with_room();
        options.push_parts(6, [[1, 2], [3, 4]].into_iter());
        options.push(3, &[]);
        assert_eq!(options.iter().collect::<Vec<_>>(), [(6, &[1, 2, 3, 4][..]), (3, &[])]);
    }

    #[test]
    fn d02_d03_header_cookie_end_and_padding_are_golden() {
        let (bytes, dropped) = reply(vec![(53, vec![2])]).encode(548).unwrap();
        let mut golden = vec![
            2, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0, 0, 0, 0, 0, 192, 168, 4, 26, 192, 168, 4, 150,
            0, 0, 0, 0,
        ];
        golden.extend([0xaa; 16]);
        golden.extend([0; 64]);
        golden.extend(b"a.efi");
        golden.resize(236, 0);
        golden.extend([99, 130, 83, 99, 53, 1, 2, 255]);
        golden.resize(300, 0);
        assert_eq!((bytes, dropped), (golden, vec![]));
    }

    #[test]
    fn d03_after_end_come_only_zeros_and_300_octets_at_least() {
        let (bytes, _) = reply(vec![(53, vec![2]), (54, vec![1, 2, 3, 4])]).encode(548).unwrap();
        assert_eq!(bytes.len(), 300);
        let end = 240 + 3 + 6;
        assert_eq!(bytes[end], 255);
        assert!(bytes[end + 1..].iter().all(|&b| b == 0));
        let (long, _) = reply(vec![(53, vec![2]), (43, vec![7; 100])]).encode(548).unwrap();
        assert_eq!(
            (long.len(), long.last()),
            (240 + 3 + 102 + 1, Some(&255)),
            "no more padding than asked for"
        );
    }

    #[test]
    fn d43_a_pad_follows_60_66_and_67() {
        let options = vec![
            (60, b"HTTPClient".to_vec()),
            (66, b"1.2.3.4".to_vec()),
            (67, b"x".to_vec()),
            (43, vec![6, 1, 8, 255]),
        ];
        let (bytes, _) = reply(options).encode(548).unwrap();
        let golden =
            b"\x3c\x0aHTTPClient\x00\x42\x071.2.3.4\x00\x43\x01x\x00\x2b\x04\x06\x01\x08\xff\xff";
        assert_eq!(&bytes[240..240 + golden.len()], golden);
    }

    #[test]
    fn d41_long_values_are_split_and_joined_again() {
        let value: Vec<u8> = (0..600).map(|n| n as u8).collect();
        let (bytes, _) = reply(vec![(82, value.clone())]).encode(1472).unwrap();
        assert_eq!(
            (bytes[240], bytes[241], bytes[240 + 257], bytes[241 + 257]),
            (82, 255, 82, 255)
        );
        assert_eq!(Packet::parse_reply(&bytes).unwrap().option(82), Some(&value[..]));
    }

    #[test]
    fn d05_under_pressure_the_unimportant_goes_first_and_some_never() {
        let options = vec![
            (53, vec![2]),
            (1, vec![255; 4]),
            (6, vec![1; 100]),
            (12, vec![b'h'; 60]),
            (15, vec![b'd'; 60]),
            (67, vec![b'f'; 200]),
            (97, vec![3; 17]),
        ];
        let reply = reply(options);
        let full = reply.encode(1472).unwrap().0.len();
        assert_eq!(reply.encode(full - 1).unwrap().1, vec![15], "not in D-40, the last first");
        assert_eq!(reply.encode(full - 100).unwrap().1, vec![15, 12]);
        assert_eq!(
            reply.encode(full - 125).unwrap().1,
            vec![15, 12, 97],
            "in D-40, but not of those that never go"
        );
        let (bytes, dropped) = reply.encode(548 - 60).unwrap();
        assert!(bytes.len() <= 488 && !dropped.contains(&67));
        assert_eq!(reply.encode(400), Err(DoesNotFit { limit: 400 }));
    }

    #[test]
    fn d49_option_82_comes_on_top_of_the_clients_limit_and_goes_where_a_frame_has_no_room() {
        let with = |octets: usize| {
            reply(vec![(53, vec![2]), (67, vec![b'f'; 250]), (82, vec![7; octets])])
        };
        let alone = with(0).encode(1472).unwrap().0.len() - 2;
        let (bytes, dropped) = with(255).encode(alone).unwrap();
        assert_eq!(
            (bytes.len(), dropped),
            (alone + 257, vec![]),
            "the client's limit counts what it gets to see"
        );
        let on_the_wire = |octets: usize| octets + 2 * octets.div_ceil(255);
        let most = (0..1472).rfind(|octets| alone + on_the_wire(*octets) <= 1472).unwrap();
        let (bytes, dropped) = with(most).encode(548).unwrap();
        assert_eq!((bytes.len(), dropped), (alone + on_the_wire(most), vec![]));
        let (bytes, dropped) = with(most + 1).encode(548).unwrap();
        assert_eq!((bytes.len(), dropped), (alone, vec![82]));
        assert_eq!(
            (bytes[alone - 1], Packet::parse_reply(&bytes).unwrap().option(82)),
            (255, None)
        );
    }

    #[test]
    fn d40_each_kept_option_outlives_one_that_is_not() {
        for kept in KEPT.into_iter().filter(|code| *code != 53) {
            let reply = reply(vec![(53, vec![2]), (17, vec![0; 30]), (kept, vec![0; 60])]);
            let full = reply.encode(1472).unwrap().0.len();
            assert_eq!(reply.encode(full - 1).unwrap().1, vec![17], "option {kept}");
        }
    }

    #[test]
    fn d42_a_name_over_127_octets_leaves_the_header_field_empty() {
        let with = |octets: usize| {
            ReplyMessage { file: vec![b'a'; octets], ..reply(vec![]) }.encode(548).unwrap().0
        };
        assert_eq!(&with(127)[108..236], &[&[b'a'; 127][..], &[0]].concat()[..]);
        assert_eq!(&with(128)[108..236], &[0; 128][..]);
    }
}
