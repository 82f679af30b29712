//! Networks of the file, and the addresses that belong into one.

use std::net::Ipv4Addr;

use super::values::parse_text;
use crate::config::file::PlacedValue;
use crate::config::problem::ConfigComplaints;
use crate::model::network::Ipv4Network;

/// Reads `192.168.4.0/24`. Host bits become a complaint and are cleared.
pub(super) fn read_network(
    text: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<Ipv4Network> {
    let written = match parse_network(text.get_ref()) {
        Ok(written) => written,
        Err(why) => {
            let what = format!("{:?} is not a network{why}", text.get_ref());
            complaints.add(
                &text.span(),
                what,
                "write an address and a prefix length: \"192.168.4.0/24\"",
            );
            return None;
        }
    };

    // The corrected network lets the same run check the rest of the subnet.
    let address = Ipv4Addr::from(u32::from(written.address) & u32::from(written.mask()));
    let network = Ipv4Network { address, ..written };
    if network != written {
        let what = format!("{} has bits set outside its prefix", text.get_ref());
        complaints.add(&text.span(), what, format!("the network is {}", network));
    }
    Some(network)
}

/// An error names the wrong half of a text with two halves, and is empty for any other text.
fn parse_network(text: &str) -> Result<Ipv4Network, String> {
    let (address, prefix) = text.split_once('/').ok_or_else(String::new)?;
    let address = address.parse().map_err(|_| format!(": {address:?} is not an IPv4 address"))?;
    let length = prefix.parse::<u8>().ok().filter(|length| *length <= 32);
    let prefix =
        length.ok_or_else(|| format!(": {prefix:?} is not a prefix length from 0 to 32"))?;
    Ok(Ipv4Network { address, prefix })
}

pub(super) fn read_addresses(
    written: Option<&[PlacedValue<String>]>,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Ipv4Addr> {
    written
        .unwrap_or_default()
        .iter()
        .filter_map(|text| parse_text(text, "an IPv4 address", complaints))
        .collect()
}

pub(super) fn read_inside_addresses(
    written: Option<&[PlacedValue<String>]>,
    network: Ipv4Network,
    kind: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<Ipv4Addr> {
    for text in written.unwrap_or_default() {
        if let Ok(address) = text.get_ref().parse::<Ipv4Addr>()
            && !network.contains(address)
        {
            let what = format!("{kind} {address} is outside subnet {}", network);
            complaints.add(
                &text.span(),
                what,
                "machines reach it without a router, so it must be inside the subnet",
            );
        }
    }
    read_addresses(written, complaints)
}

/// The first and the last address that a machine can have.
pub(super) fn usable_range(network: Ipv4Network) -> (Ipv4Addr, Ipv4Addr) {
    let (first, last) = (u32::from(network.address), u32::from(network.broadcast()));
    let edge = u32::from(network.prefix < 31);
    (Ipv4Addr::from(first + edge), Ipv4Addr::from(last - edge))
}
