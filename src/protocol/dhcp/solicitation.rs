//! IPv6 router solicitations of a booting iPXE, and the advertisement that no router is here.
//!
//! iPXE solicits IPv6 routers after its IPv4 lease and waits 13 s for one before it loads its first
//! file. One advertisement with a lifetime of 0, no prefix and no flags ends the wait and
//! configures nothing (RFC 4861 section 4.2: such a router is no default router). It goes only to
//! the machine that solicited.

use std::net::Ipv6Addr;

use crate::model::machine::Mac;

/// ICMPv6 type of a router solicitation (RFC 4861 section 4.1).
pub const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
/// The option with the sender's hardware address (RFC 4861 section 4.6.1); its length counts units
/// of eight bytes.
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
/// Bytes before the options.
const SOLICITATION_BYTES: usize = 8;

/// The hardware address of the machine that solicits: of its option, or else of its link-local
/// address. None where neither has one.
pub fn find_solicitor(message: &[u8], source: Ipv6Addr) -> Option<Mac> {
    if message.first() != Some(&ROUTER_SOLICITATION) || message.get(1) != Some(&0) {
        return None;
    }
    let mut options = message.get(SOLICITATION_BYTES..)?;
    while let [kind, units, ..] = *options {
        let option = options.get(..8 * usize::from(units)).filter(|option| !option.is_empty())?;
        if kind == SOURCE_LINK_LAYER_ADDRESS {
            return Some(Mac(*option.get(2..)?.first_chunk::<6>()?));
        }
        options = &options[option.len()..];
    }
    extract_link_local_mac(source)
}

/// The hardware address in an address of RFC 4291 appendix A: `ff:fe` in the middle, one bit
/// inverted.
fn extract_link_local_mac(address: Ipv6Addr) -> Option<Mac> {
    let [.., a, b, c, 0xff, 0xfe, d, e, f] = address.octets() else { return None };
    address.is_unicast_link_local().then_some(Mac([a ^ 2, b, c, d, e, f]))
}

/// A router advertisement that offers no default router, from our hardware address. The kernel
/// fills in the checksum.
pub fn build_no_router_advertisement(own: Mac) -> [u8; 24] {
    let mut message = [0; 24];
    message[0] = ROUTER_ADVERTISEMENT;
    message[16..18].copy_from_slice(&[SOURCE_LINK_LAYER_ADDRESS, 1]);
    message[18..].copy_from_slice(&own.0);
    message
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]);

    #[test]
    fn who_solicits_is_read_from_the_option_or_from_the_address() {
        let address: Ipv6Addr = "fe80::5054:ff:fe12:3410".parse().unwrap();
        let bare = [ROUTER_SOLICITATION, 0, 1, 2, 0, 0, 0, 0];
        assert_eq!(find_solicitor(&bare, address), Some(MAC));
        let universal = "fe80::211:22ff:fe33:4455".parse().unwrap();
        assert_eq!(
            find_solicitor(&bare, universal),
            Some(Mac([0, 0x11, 0x22, 0x33, 0x44, 0x55])),
            "its bit is turned"
        );
        let local = "fe80::11:22ff:fe33:4455".parse().unwrap();
        assert_eq!(find_solicitor(&bare, local), Some(Mac([2, 0x11, 0x22, 0x33, 0x44, 0x55])));
        let other = Mac([2, 0, 0, 0, 0, 9]);
        let with_option = [&bare[..], &[14, 1, 0, 0, 0, 0, 0, 0], &[1, 1], &other.0].concat();
        assert_eq!(find_solicitor(&with_option, address), Some(other));
        assert_eq!(find_solicitor(&bare, "2001:db8::1".parse().unwrap()), None);
        assert_eq!(find_solicitor(&bare, Ipv6Addr::UNSPECIFIED), None);
    }

    #[test]
    fn what_is_cut_short_or_something_else_is_nobody() {
        let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let whole = [&[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0, 1, 1][..], &MAC.0].concat();
        assert_eq!(find_solicitor(&whole, address), Some(MAC));
        for len in 0..whole.len() {
            assert_eq!(find_solicitor(&whole[..len], address), None, "{len}");
        }
        let mut endless = whole.clone();
        endless[9] = 0;
        assert_eq!(find_solicitor(&endless, address), None);
        let mut advertisement = whole;
        advertisement[0] = ROUTER_ADVERTISEMENT;
        assert_eq!(find_solicitor(&advertisement, address), None);
    }

    #[test]
    fn the_advertisement_configures_nothing() {
        let message = build_no_router_advertisement(MAC);
        assert_eq!(message[0], 134);
        assert!(message[1..16].iter().all(|octet| *octet == 0), "no lifetime, no flags, no timers");
        assert_eq!(message[16..], [1, 1, 0x52, 0x54, 0, 0x12, 0x34, 0x10], "no prefix");
    }
}
