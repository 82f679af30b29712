//! Options that firmware sends, and what the server makes of them.
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
    let Some(Packet::Read(Ok(asked))) = parse_tftp_packet(&request) else { panic!("{request:?}") };
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
    assert_eq!(ask(&[("blksize", "600"), ("blksize", "1024")]), [("blksize".into(), "600".into())]);
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
    let answer = ask(&[("blksize", "-1"), ("timeout", "0"), ("windowsize", "4"), ("tsize", "")]);
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
    assert_eq!(with(OptionPolicy { blksize: false, ..OptionPolicy::default() }).block_size, 512);
    assert_eq!(
        with(OptionPolicy { block_size_max: 1024, ..OptionPolicy::default() }).block_size,
        1024
    );
    assert_eq!(with(OptionPolicy { window_max: 1, ..OptionPolicy::default() }).window, 1);
}
