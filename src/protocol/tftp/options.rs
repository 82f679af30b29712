//! Option negotiation: what the client asked, what the operator allows, and the OACK that follows
//! from both.

use super::limits::{
    BLOCK_SIZE_DEFAULT, BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, WINDOW_DEFAULT_MAX, WINDOW_MAX,
};
use super::packet::{Options, TransferMode, write_option, write_option_ack};

/// What may be granted: the switches for firmware that asks for options and then fails on them
/// (T-23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionPolicy {
    /// False: `blksize` is ignored. All four false is plain RFC 1350: no OACK is ever sent.
    pub blksize: bool,
    /// False: `timeout` is ignored.
    pub timeout: bool,
    /// False: `tsize` is ignored.
    pub tsize: bool,
    /// False: `windowsize` is ignored.
    pub windowsize: bool,
    /// Largest block, bytes; the MTU may lower it further.
    pub block_size_max: u16,
    /// Largest window, blocks.
    pub window_max: u16,
}

impl Default for OptionPolicy {
    fn default() -> Self {
        Self {
            blksize: true,
            timeout: true,
            tsize: true,
            windowsize: true,
            block_size_max: BLOCK_SIZE_MAX,
            window_max: WINDOW_DEFAULT_MAX,
        }
    }
}

/// What both sides now keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiatedTerms {
    /// Octets in every block but the last.
    pub block_size: u16,
    /// Blocks that may be in flight.
    pub window: u16,
    /// The client's own retransmission interval, seconds (T-21).
    pub timeout_s: Option<u8>,
    /// An OACK opens the transfer; without one, DATA 1 does (T-13).
    pub acknowledged: bool,
}

/// Answers `options` for a file of `len` bytes and writes the OACK to `oack` (of no meaning if
/// [`NegotiatedTerms::acknowledged`] is false). Calling it again gives the same OACK, so none needs
/// to be kept.
///
/// A wrong or forbidden value leaves its option out, it never refuses the request (T-15).
pub fn negotiate_options(
    options: Options<'_>,
    policy: &OptionPolicy,
    mode: TransferMode,
    len: u64,
    oack: &mut Vec<u8>,
) -> NegotiatedTerms {
    let mut terms = NegotiatedTerms {
        block_size: BLOCK_SIZE_DEFAULT,
        window: 1,
        timeout_s: None,
        acknowledged: false,
    };
    write_option_ack(oack);
    let mut seen = [false; 4];
    for (name, value) in options {
        let Some(option) = KnownOption::from_name(name) else { continue };
        // The first of several wins, even if it was refused (T-10).
        if std::mem::replace(&mut seen[option as usize], true) {
            continue;
        }
        let granted = parse_decimal(value)
            .filter(|_| option.is_allowed(policy))
            .and_then(|asked| option.grant(asked, policy, mode, len, &mut terms));
        if let Some(granted) = granted {
            write_option(oack, name, granted);
            terms.acknowledged = true;
        }
    }
    terms
}

/// A number in decimal digits; one too large for 64 bits is the largest. None = not a number.
pub(super) fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
    })
}

#[derive(Clone, Copy, Debug)]
enum KnownOption {
    Blksize,
    Timeout,
    Tsize,
    Windowsize,
}

impl KnownOption {
    /// None = an option we do not know, left out of the OACK (T-14).
    fn from_name(name: &[u8]) -> Option<Self> {
        let known = [
            (&b"blksize"[..], Self::Blksize),
            (b"timeout", Self::Timeout),
            (b"tsize", Self::Tsize),
            (b"windowsize", Self::Windowsize),
        ];
        known
            .into_iter()
            .find(|(spelling, _)| name.eq_ignore_ascii_case(spelling))
            .map(|(_, option)| option)
    }

    /// T-23: the operator's switch for this option.
    fn is_allowed(self, policy: &OptionPolicy) -> bool {
        match self {
            Self::Blksize => policy.blksize,
            Self::Timeout => policy.timeout,
            Self::Tsize => policy.tsize,
            Self::Windowsize => policy.windowsize,
        }
    }

    /// The value to answer, entered into the terms; None = leave the option out.
    fn grant(
        self,
        asked: u64,
        policy: &OptionPolicy,
        mode: TransferMode,
        len: u64,
        terms: &mut NegotiatedTerms,
    ) -> Option<u64> {
        match self {
            // T-17: never more than asked, and values over the RFC's range are cut to what we can
            // do.
            Self::Blksize => {
                let cap = policy.block_size_max.clamp(BLOCK_SIZE_MIN, BLOCK_SIZE_MAX);
                let size = u16::try_from(asked).unwrap_or(u16::MAX).min(cap);
                if size < BLOCK_SIZE_MIN {
                    return None;
                }
                terms.block_size = size;
                Some(u64::from(size))
            }
            // T-18: the same value or none; U-Boot aborts on any other.
            Self::Timeout => {
                terms.timeout_s = Some(u8::try_from(asked).ok().filter(|seconds| *seconds > 0)?);
                Some(asked)
            }
            // T-19: a translated file's size isn't the size the client will see.
            Self::Tsize => (mode == TransferMode::Octet).then_some(len),
            // T-20
            Self::Windowsize => {
                let asked = u16::try_from(asked).ok().filter(|blocks| *blocks > 0)?;
                terms.window = asked.min(policy.window_max.clamp(1, WINDOW_MAX));
                Some(u64::from(terms.window))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::packet::{Packet, parse_tftp_packet};
    use super::*;

    /// Negotiates `pairs` for a file of 1000 bytes and returns the terms and the OACK's pairs.
    fn ask_with(
        policy: OptionPolicy,
        mode: TransferMode,
        pairs: &[(&str, &str)],
    ) -> (NegotiatedTerms, Vec<(String, String)>) {
        let mut request = b"\0\x01f\0octet\0".to_vec();
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            request.extend_from_slice(text.as_bytes());
            request.push(0);
        }
        let Some(Packet::Read(Ok(asked))) = parse_tftp_packet(&request) else {
            panic!("{request:?}")
        };
        let mut oack = Vec::new();
        let terms = negotiate_options(asked.options, &policy, mode, 1000, &mut oack);
        let Some(Packet::OptionAck(options)) = parse_tftp_packet(&oack) else { panic!("{oack:?}") };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (terms, options.map(|(name, value)| (text(name), text(value))).collect())
    }

    fn ask(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        ask_with(
            OptionPolicy { block_size_max: 1468, ..OptionPolicy::default() },
            TransferMode::Octet,
            pairs,
        )
        .1
    }

    /// The value answered to one option.
    fn one(name: &str, value: &str) -> Option<String> {
        ask(&[(name, value)]).pop().map(|(_, value)| value)
    }

    #[test]
    fn t10_case_and_order_do_not_matter_and_the_first_of_a_pair_wins() {
        assert_eq!(ask(&[("TSize", "0"), ("BLKSIZE", "1024")]), ask_swapped());
        assert_eq!(
            ask(&[("blksize", "600"), ("blksize", "1024")]),
            [("blksize".into(), "600".into())]
        );
        assert_eq!(ask(&[("blksize", "x"), ("BlkSize", "1024")]), []);

        fn ask_swapped() -> Vec<(String, String)> {
            let mut answer = ask(&[("BLKSIZE", "1024"), ("TSize", "0")]);
            answer.reverse();
            answer
        }
    }

    #[test]
    fn t11_only_what_was_asked_is_answered() {
        assert_eq!(ask(&[("blksize", "1024")]), [("blksize".into(), "1024".into())]);
        assert_eq!(ask(&[("tsize", "0")]), [("tsize".into(), "1000".into())]);
    }

    #[test]
    fn t12_names_come_back_as_they_were_spelt() {
        assert_eq!(
            ask(&[("BlkSize", "512"), ("tSIZE", "0")]),
            [("BlkSize".into(), "512".into()), ("tSIZE".into(), "1000".into())]
        );
    }

    #[test]
    fn t13_nothing_accepted_is_no_acknowledgement() {
        for pairs in [&[][..], &[("multicast", "")], &[("blksize", "7"), ("windowsize", "0")]] {
            assert!(
                !ask_with(OptionPolicy::default(), TransferMode::Octet, pairs).0.acknowledged,
                "{pairs:?}"
            );
        }
    }

    #[test]
    fn t14_unknown_options_are_left_out() {
        let answer = ask(&[
            ("multicast", ""),
            ("msftwindow", "31416"),
            ("blksize2", "512"),
            ("utimeout", "9"),
            ("tsize", "0"),
        ]);
        assert_eq!(answer, [("tsize".into(), "1000".into())]);
    }

    #[test]
    fn t15_a_wrong_value_leaves_out_its_option_only() {
        let answer =
            ask(&[("blksize", "-1"), ("timeout", "0"), ("windowsize", "4"), ("tsize", "")]);
        assert_eq!(answer, [("windowsize".into(), "4".into())]);
    }

    #[test]
    fn t17_blksize_is_never_more_than_asked_or_than_the_cap() {
        for (asked, answer) in [
            ("8", Some("8")),
            ("512", Some("512")),
            ("1468", Some("1468")),
            ("1469", Some("1468")),
            ("65464", Some("1468")),
            ("65465", Some("1468")),
            ("99999999999999999999999", Some("1468")),
            ("7", None),
            ("0", None),
            ("", None),
            ("1k", None),
            ("+512", None),
            (" 512", None),
        ] {
            assert_eq!(one("blksize", asked).as_deref(), answer, "{asked}");
        }
        let wide = ask_with(OptionPolicy::default(), TransferMode::Octet, &[("blksize", "65535")]);
        assert_eq!(wide.0.block_size, 65464);
    }

    #[test]
    fn t18_timeout_is_echoed_or_left_out() {
        for (asked, answer) in
            [("1", Some("1")), ("5", Some("5")), ("255", Some("255")), ("0", None), ("256", None)]
        {
            assert_eq!(one("timeout", asked).as_deref(), answer, "{asked}");
        }
    }

    #[test]
    fn t19_tsize_is_the_exact_size_and_absent_for_netascii() {
        for asked in ["0", "1", "12345678901234567890"] {
            assert_eq!(one("tsize", asked).as_deref(), Some("1000"));
        }
        assert_eq!(one("tsize", "x"), None);
        assert!(
            !ask_with(OptionPolicy::default(), TransferMode::Netascii, &[("tsize", "0")])
                .0
                .acknowledged
        );
        let mut oack = Vec::new();
        let size = 5_000_000_000u64;
        let asked = b"\0\x01f\0octet\0tsize\x000\0";
        let Some(Packet::Read(Ok(asked))) = parse_tftp_packet(asked) else { panic!() };
        negotiate_options(
            asked.options,
            &OptionPolicy::default(),
            TransferMode::Octet,
            size,
            &mut oack,
        );
        assert_eq!(oack, b"\0\x06tsize\x005000000000\0");
    }

    #[test]
    fn t20_windowsize_is_capped_and_out_of_range_is_left_out() {
        for (asked, answer) in [
            ("1", Some("1")),
            ("4", Some("4")),
            ("33", Some("32")),
            ("65535", Some("32")),
            ("0", None),
            ("65536", None),
        ] {
            assert_eq!(one("windowsize", asked).as_deref(), answer, "{asked}");
        }
        let wide = OptionPolicy { window_max: u16::MAX, ..OptionPolicy::default() };
        assert_eq!(
            ask_with(wide, TransferMode::Octet, &[("windowsize", "65535")]).0.window,
            WINDOW_MAX
        );
    }

    #[test]
    fn t22_any_option_granted_brings_an_acknowledgement() {
        assert!(
            ask_with(
                OptionPolicy::default(),
                TransferMode::Octet,
                &[("blksize", "1024"), ("tsize", "0")]
            )
            .0
            .acknowledged
        );
        let no_blksize = OptionPolicy { blksize: false, ..OptionPolicy::default() };
        let (terms, answer) =
            ask_with(no_blksize, TransferMode::Octet, &[("blksize", "1024"), ("tsize", "0")]);
        assert!(terms.acknowledged);
        assert_eq!(answer, [("tsize".into(), "1000".into())]);
    }

    #[test]
    fn t23_switches_turn_options_off_or_down() {
        let all = [("blksize", "1468"), ("windowsize", "16"), ("tsize", "0")];
        let with = |policy| ask_with(policy, TransferMode::Octet, &all).0;
        let no_timeout = ask_with(
            OptionPolicy { timeout: false, ..OptionPolicy::default() },
            TransferMode::Octet,
            &[("timeout", "5")],
        );
        assert_eq!((no_timeout.0.timeout_s, no_timeout.0.acknowledged), (None, false));
        let none = OptionPolicy {
            blksize: false,
            timeout: false,
            tsize: false,
            windowsize: false,
            ..OptionPolicy::default()
        };
        assert!(!with(none).acknowledged);
        assert_eq!(with(OptionPolicy { windowsize: false, ..OptionPolicy::default() }).window, 1);
        assert_eq!(
            with(OptionPolicy { blksize: false, ..OptionPolicy::default() }).block_size,
            512
        );
        assert_eq!(
            with(OptionPolicy { block_size_max: 1024, ..OptionPolicy::default() }).block_size,
            1024
        );
        assert_eq!(with(OptionPolicy { window_max: 1, ..OptionPolicy::default() }).window, 1);
    }
}
