//! Encapsulated options: option 43 of PXE, option 175 of iPXE, option 82 of relay agents, and the
//! user classes of RFC 3004.

/// Option 43 for UEFI clients: sub-option 6 (discovery control) with bit 3 alone, "take the file
/// from this offer, no menu" (D-53, D-56).
///
/// Without it, an offer with `PXEClient` in option 60 sends EDK2 to port 4011. Sub-option 8 is left
/// out: EDK2 would use its first address as the TFTP server in place of siaddr (D-57).
pub(super) const BOOT_FROM_THIS_OFFER: [u8; 4] = [6, 1, 8, SUBOPTIONS_END];

/// Option 175 for iPXE: sub-option 176 (no-pxedhcp) = 1, "no ProxyDHCP reply will come". Saves 2 s
/// of each DHCP exchange (D-68).
pub(super) const NO_PROXY_DHCP: [u8; 3] = [176, 1, 1];

const SUBOPTIONS_END: u8 = 255;
const DISCOVERY_CONTROL: u8 = 6;
const BOOT_MENU: u8 = 9;
const MENU_PROMPT: u8 = 10;

/// Feature number of HTTP in iPXE's option 175 (`DHCP_EB_FEATURE_HTTP`).
const IPXE_FEATURE_HTTP: u8 = 0x13;
/// The numbers of features. Lower numbers (priority, keep-san, ...) are settings.
const IPXE_FEATURES: std::ops::RangeInclusive<u8> = 0x10..=0x4f;

/// Option 43 that makes the ROM of a Raspberry Pi boot from this server: a menu whose only entry is
/// `Raspberry Pi Boot` (D-59).
///
/// The ROM of the Pi 3B compares 20 bytes, so its text carries three trailing spaces.
pub(super) fn build_raspberry_pi_menu(three_spaces: bool) -> Vec<u8> {
    let text: &[u8] = if three_spaces { b"Raspberry Pi Boot   " } else { b"Raspberry Pi Boot" };
    let length = if three_spaces { 20 } else { 17 };
    let mut menu = vec![DISCOVERY_CONTROL, 1, 3, MENU_PROMPT, 4, 0];
    menu.extend_from_slice(b"PXE");
    menu.extend_from_slice(&[BOOT_MENU, length + 3, 0, 0, length]);
    menu.extend_from_slice(text);
    menu.push(SUBOPTIONS_END);
    menu
}

/// The value of one sub-option of a (code, length, value) list; None where it is missing or a
/// length before it overruns the list.
pub(super) fn find_suboption(list: &[u8], wanted: u8) -> Option<&[u8]> {
    split_suboptions(list).find(|(code, _)| *code == wanted).map(|(_, value)| value)
}

/// True where option 77 says `iPXE`: bare, as iPXE sends it, or as RFC 3004 tuples (D-46).
pub(super) fn user_class_is_ipxe(option_77: &[u8]) -> bool {
    match split_user_classes(option_77) {
        Some(classes) => classes.into_iter().any(|class| class == b"iPXE"),
        None => option_77 == b"iPXE",
    }
}

/// True unless option 175 lists features without HTTP. A list without any feature proves nothing
/// (D-70).
pub(super) fn ipxe_speaks_http(option_175: &[u8]) -> bool {
    let mut features =
        split_suboptions(option_175).filter(|(code, _)| IPXE_FEATURES.contains(code)).peekable();
    features.peek().is_none()
        || features.any(|(code, value)| code == IPXE_FEATURE_HTTP && value != [0])
}

/// Sub-options up to END or to a length that overruns the list.
fn split_suboptions(list: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let (&code, after) = rest.split_first()?;
        if code == SUBOPTIONS_END {
            return None;
        }
        let (&length, after) = after.split_first()?;
        let (value, after) = after.split_at_checked(usize::from(length))?;
        rest = after;
        Some((code, value))
    })
}

/// The classes of RFC 3004. None where the lengths do not add up: then the option is one bare
/// string.
fn split_user_classes(option_77: &[u8]) -> Option<Vec<&[u8]>> {
    let mut tuples = Vec::new();
    let mut rest = option_77;
    while let Some((&length, after)) = rest.split_first() {
        let (class, after) = after.split_at_checked(usize::from(length)).filter(|_| length > 0)?;
        tuples.push(class);
        rest = after;
    }
    Some(tuples)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    #[test]
    fn d46_user_class_is_read_bare_and_as_tuples() {
        assert!(user_class_is_ipxe(b"iPXE"));
        assert!(user_class_is_ipxe(b"\x04iPXE"));
        assert!(user_class_is_ipxe(b"\x03abc\x04iPXE"));
        assert!(
            !user_class_is_ipxe(b"\x04iPXEx"),
            "lengths that do not add up make it one bare string"
        );
        assert!(!user_class_is_ipxe(b"\x00\x04iPXE"), "a class has an octet at least");
        assert!(!user_class_is_ipxe(b"gPXE"));
        assert!(!user_class_is_ipxe(b""));
    }

    #[test]
    fn d56_option_43_is_code_length_value_closed_by_end() {
        assert_eq!(BOOT_FROM_THIS_OFFER, [6, 1, 8, 255]);
        assert_eq!(find_suboption(&BOOT_FROM_THIS_OFFER, 6), Some(&[8][..]));
        assert_eq!(find_suboption(&[6, 9, 8], 6), None);
        assert_eq!(find_suboption(&[255, 6, 1, 8], 6), None, "nothing after END counts");
    }

    #[test]
    fn d59_raspberry_pi_gets_its_menu() {
        let plain = build_raspberry_pi_menu(false);
        assert_eq!(plain, b"\x06\x01\x03\x0a\x04\x00PXE\x09\x14\x00\x00\x11Raspberry Pi Boot\xff");
        let pi_3 = build_raspberry_pi_menu(true);
        assert_eq!(
            pi_3,
            b"\x06\x01\x03\x0a\x04\x00PXE\x09\x17\x00\x00\x14Raspberry Pi Boot   \xff"
        );
    }

    #[test]
    fn d70_features_tell_an_ipxe_that_cannot_fetch_by_http() {
        assert!(ipxe_speaks_http(&[0xb1, 5, 1, 0x80, 0x86, 0x10, 0x0e, 0x13, 1, 1, 0x18, 1, 1]));
        assert!(!ipxe_speaks_http(&[0x15, 1, 1, 0x21, 1, 1]));
        assert!(!ipxe_speaks_http(&[0x13, 1, 0]));
        assert!(ipxe_speaks_http(&[]), "nothing said");
        assert!(ipxe_speaks_http(&[0xb1, 1, 1]), "a PCI id is no feature");
    }
}
