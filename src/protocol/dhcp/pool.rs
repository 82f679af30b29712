//! Which addresses of a range are free: a bitmap with a summary, so that a search of a full /16
//! reads a few words.

use std::net::Ipv4Addr;

/// One range of addresses, both ends included, and a bit per address: set = free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FreeMap {
    first: u32,
    count: u32,
    /// Bits that are set.
    free: u32,
    words: Vec<u64>,
    /// One bit per word: set = the word has a free address.
    summary: Vec<u64>,
}

impl FreeMap {
    /// A map in which all addresses of the range are free. None where the range is empty.
    pub(super) fn new(first: u32, last: u32) -> Option<Self> {
        let count = last.checked_sub(first)?.checked_add(1)?;
        let words = build_filled_bitmap(count as usize);
        let summary = build_filled_bitmap(words.len());
        Some(Self { first, count, free: count, words, summary })
    }

    pub(super) fn first(&self) -> u32 {
        self.first
    }

    pub(super) fn size(&self) -> usize {
        self.count as usize
    }

    /// How many addresses are free.
    pub(super) fn free_count(&self) -> usize {
        self.free as usize
    }

    pub(super) fn contains(&self, address: u32) -> bool {
        address.checked_sub(self.first).is_some_and(|offset| offset < self.count)
    }

    /// Marks an address as free or used. An address outside of the range changes nothing.
    pub(super) fn set(&mut self, address: u32, free: bool) {
        if !self.contains(address) {
            return;
        }
        let offset = (address - self.first) as usize;
        let Some(word) = self.words.get_mut(offset / 64) else { return };
        let bit = 1u64 << (offset % 64);
        if (*word & bit != 0) == free {
            return;
        }
        *word ^= bit;
        self.free = if free { self.free + 1 } else { self.free - 1 };
        let (any, bit) = (*word != 0, 1u64 << (offset / 64 % 64));
        let Some(summary) = self.summary.get_mut(offset / 64 / 64) else { return };
        *summary = if any { *summary | bit } else { *summary & !bit };
    }

    /// The first free address at or after the place that `start` modulo the size falls on, or else
    /// the first of all.
    pub(super) fn next_free(&self, start: u64) -> Option<Ipv4Addr> {
        let start = usize::try_from(start % u64::from(self.count)).unwrap_or(0);
        let offset = self.find_from(start).or_else(|| self.find_from(0))?;
        Some(Ipv4Addr::from(self.first.checked_add(u32::try_from(offset).ok()?)?))
    }

    fn find_from(&self, start: usize) -> Option<usize> {
        let within = self.words.get(start / 64)? & (u64::MAX << (start % 64));
        if within != 0 {
            return Some(start / 64 * 64 + within.trailing_zeros() as usize);
        }
        let word = find_next_bit(&self.summary, start / 64 + 1)?;
        Some(word * 64 + self.words.get(word)?.trailing_zeros() as usize)
    }
}

/// A bitmap with `bits` bits, all set.
fn build_filled_bitmap(bits: usize) -> Vec<u64> {
    let mut words = vec![u64::MAX; bits.div_ceil(64)];
    if let (Some(last), rest @ 1..) = (words.last_mut(), bits % 64) {
        *last = (1 << rest) - 1;
    }
    words
}

fn find_next_bit(words: &[u64], start: usize) -> Option<usize> {
    let first = words.get(start / 64)? & (u64::MAX << (start % 64));
    if first != 0 {
        return Some(start / 64 * 64 + first.trailing_zeros() as usize);
    }
    let at = words.iter().skip(start / 64 + 1).position(|&word| word != 0)? + start / 64 + 1;
    Some(at * 64 + words.get(at)?.trailing_zeros() as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    #[test]
    fn every_address_is_found_once_wherever_the_search_starts() {
        let (first, last) = (0x0a00_000a, 0x0a00_000a + 9_999);
        let mut map = FreeMap::new(first, last).unwrap();
        let mut seen = std::collections::HashSet::new();
        for n in 0..10_000u64 {
            let address = u32::from(map.next_free(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap());
            assert!((first..=last).contains(&address) && seen.insert(address));
            map.set(address, false);
            assert_eq!(map.free_count(), 10_000 - seen.len());
        }
        assert_eq!(map.next_free(5), None);
        map.set(first + 77, true);
        map.set(first + 77, true);
        assert_eq!(map.free_count(), 1, "an address is counted once");
        assert_eq!(map.next_free(9_000), Some(Ipv4Addr::from(first + 77)), "the search goes round");
        map.set(last + 1, true);
        assert!(FreeMap::new(2, 1).is_none());
    }

    /// Over the bounds of words and of the summary's words.
    #[test]
    fn the_next_free_address_is_the_first_at_or_after_the_place_and_else_the_first_of_all() {
        const FREE: [u32; 7] = [3, 70, 127, 4095, 4100, 8191, 8300];
        let mut map = FreeMap::new(0, 8999).unwrap();
        (0..9000).for_each(|n| map.set(n, false));
        // Twice: what is free stays free.
        FREE.iter().chain(&FREE).for_each(|n| map.set(*n, true));
        for start in 0..9000 {
            let expected = *FREE.iter().find(|free| **free >= start).unwrap_or(&FREE[0]);
            assert_eq!(
                map.next_free(u64::from(start)),
                Some(Ipv4Addr::from(expected)),
                "from {start}"
            );
        }
    }

    #[test]
    fn a_new_map_is_all_free_and_nothing_beyond() {
        for count in [1, 63, 64, 65, 4096, 4097] {
            let mut map = FreeMap::new(0, count - 1).unwrap();
            for n in 0..count {
                assert_eq!(map.next_free(u64::from(n)), Some(Ipv4Addr::from(n)), "{count}");
            }
            (0..count).for_each(|n| map.set(n, false));
            assert_eq!(map.next_free(0), None, "{count}");
        }
    }
}
