//! Pools of a subnet: their addresses, their overlaps, and how many addresses all pools have.

use std::net::Ipv4Addr;
use std::ops::Range;

use super::networks::usable_range;
use crate::config::file::{self, PlacedValue};
use crate::config::problem::ConfigComplaints;
use crate::dhcp::limits::POOL_ADDRESSES_MAX;
use crate::dhcp::subnet::{AddressPool, Subnet};
use crate::model::network::Ipv4Network;

pub(super) fn read_pools(
    written: &file::SubnetTable,
    network: Ipv4Network,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<AddressPool> {
    let (mut pools, mut spans): (Vec<AddressPool>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
    for text in written.pools.iter().flatten() {
        let Some(pool) = read_pool(text, complaints) else { continue };
        let shown = format!("{}-{}", pool.first, pool.last);
        if !network.contains(pool.first) || !network.contains(pool.last) {
            let what = format!("pool {shown} is outside subnet {}", network);
            let (first, last) = usable_range(network);
            complaints.add(
                &text.span(),
                what,
                format!("machines there can have {first} to {last}"),
            );
        } else if network.prefix < 31
            && (pool.first == network.address || pool.last == network.broadcast())
        {
            let what =
                format!("pool {shown} contains the network address or the broadcast address");
            let (first, last) = usable_range(network);
            complaints.add(
                &text.span(),
                what,
                format!("machines there can have {first} to {last}"),
            );
        }
        // A pool outside its subnet stays in the list, so the same run finds its overlaps too.
        spans.push(text.span());
        pools.push(pool);
    }

    let ranges: Vec<(Ipv4Addr, Ipv4Addr)> =
        pools.iter().map(|pool| (pool.first, pool.last)).collect();
    for (index, before) in find_overlaps(&ranges) {
        let (pool, other) = (pools[index], pools[before]);
        let what = format!(
            "pool {}-{} overlaps pool {}-{}",
            pool.first, pool.last, other.first, other.last
        );
        complaints.add(&spans[index], what, "join the two, or move one of them");
    }
    pools
}

fn read_pool(
    text: &PlacedValue<String>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<AddressPool> {
    match parse_pool(text.get_ref()) {
        Ok(pool) if pool.first > pool.last => {
            let what = format!("pool {} begins after its end", text.get_ref());
            complaints.add(&text.span(), what, format!("write \"{}-{}\"", pool.last, pool.first));
            None
        }
        Ok(pool) => Some(pool),
        Err(why) => {
            let what = format!("{:?} is not a pool{why}", text.get_ref());
            complaints.add(
                &text.span(),
                what,
                "write the first and the last address: \"192.168.4.10-192.168.4.100\"",
            );
            None
        }
    }
}

/// An error names the wrong half of a text with two halves, and is empty for any other text.
fn parse_pool(text: &str) -> Result<AddressPool, String> {
    let (first, last) = text.split_once('-').ok_or_else(String::new)?;
    Ok(AddressPool { first: parse_pool_end(first)?, last: parse_pool_end(last)? })
}

fn parse_pool_end(text: &str) -> Result<Ipv4Addr, String> {
    text.trim().parse().map_err(|_| format!(": {:?} is not an IPv4 address", text.trim()))
}

/// Pairs of ranges that share an address, in the order of the file, the later range of a pair
/// first. Not every pair, but every range that overlaps another is in one.
pub(super) fn find_overlaps(ranges: &[(Ipv4Addr, Ipv4Addr)]) -> Vec<(usize, usize)> {
    let mut sorted: Vec<usize> = (0..ranges.len()).collect();
    sorted.sort_by_key(|index| (ranges[*index].0, std::cmp::Reverse(ranges[*index].1), *index));
    let mut found = Vec::new();
    let mut furthest: Option<usize> = None;
    for index in sorted {
        match furthest {
            Some(before) if ranges[index].0 <= ranges[before].1 => {
                found.push((index.max(before), index.min(before)));
                if ranges[index].1 > ranges[before].1 {
                    furthest = Some(index);
                }
            }
            _ => furthest = Some(index),
        }
    }
    found.sort_unstable();
    found
}

/// Complains about pools with more addresses than a /8 has: a slip, and too many for the memory.
pub(super) fn check_pool_addresses(
    subnets: &[(Range<usize>, Subnet)],
    complaints: &mut ConfigComplaints<'_>,
) {
    let mut sum = 0;
    for (span, subnet) in subnets {
        // Only the subnet that passes the limit gets a complaint: each later one would repeat it.
        let before = sum;
        sum += subnet.pools.iter().map(AddressPool::size).sum::<u64>();
        if before <= POOL_ADDRESSES_MAX && sum > POOL_ADDRESSES_MAX {
            let what = format!(
                "with the pools of subnet {} all pools together have {sum} addresses",
                subnet.network
            );
            complaints.add(
                span,
                what,
                format!("at most {POOL_ADDRESSES_MAX} are possible, as many as 10.0.0.0/8 has"),
            );
        }
    }
}
