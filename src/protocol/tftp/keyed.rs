//! The hash of a table's keys: as safe against floods as a slow one, at the price of a few
//! multiplications a packet.
//!
//! Pair-multiply-shift (M. Thorup, "High Speed Hashing for Integers and Strings", section 3.5):
//! with random coefficients two different keys collide with a probability of 2^-32, *whichever* two
//! they are. Who floods us with requests chooses addresses and ports, but does not know the
//! coefficients, and no answer tells of them.

use std::hash::{BuildHasher, Hasher};

use crate::model::random::{Random, mix};

/// Most words of 64 bits in one key.
const WORDS_MAX: usize = 4;

/// The coefficients of one table: two for each word.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    coefficients: [(u64, u64); WORDS_MAX],
}

impl Keyed {
    pub(super) fn new(random: &mut Random) -> Self {
        Self { coefficients: std::array::from_fn(|_| (random.next_number(), random.next_number())) }
    }
}

impl BuildHasher for Keyed {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher { coefficients: self.coefficients, words: 0, sum: 0 }
    }
}

/// For keys that are written as a fixed number of words.
#[derive(Debug)]
pub(super) struct KeyedHasher {
    coefficients: [(u64, u64); WORDS_MAX],
    words: usize,
    sum: u64,
}

impl Hasher for KeyedHasher {
    #[allow(clippy::cast_possible_truncation)] // the lower half
    fn write_u64(&mut self, word: u64) {
        let (low, high) = (u64::from(word as u32), word >> 32);
        // A fifth word would take the first coefficients again: less random, not wrong.
        let (a, b) = self.coefficients[self.words % WORDS_MAX];
        self.sum = self.sum.wrapping_add(a.wrapping_add(low).wrapping_mul(b.wrapping_add(high)));
        self.words += 1;
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    /// The upper half of the sum is the hash. A one-to-one mixture makes no two of them equal,
    /// breaks the even steps in which neighbouring keys go, and fills the lowest and the highest
    /// bits, at which the map looks.
    fn finish(&self) -> u64 {
        mix(self.sum >> 32)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn hash(keyed: &Keyed, words: [u64; 3]) -> u64 {
        hash_of(keyed, &words)
    }

    fn hash_of(keyed: &Keyed, words: &[u64]) -> u64 {
        let mut hasher = keyed.build_hasher();
        words.iter().for_each(|word| hasher.write_u64(*word));
        hasher.finish()
    }

    /// Keys that differ in few bits, in any word, as a flood's would: no place gets more than its
    /// share.
    #[test]
    fn t65_neighbouring_keys_spread_over_all_places_whatever_the_seed() {
        const PLACES: u64 = 1024;
        for seed in 0..8 {
            let keyed = Keyed::new(&mut Random::new(seed));
            for (step, word) in [(1, 0), (1 << 16, 1), (1 << 32, 1), (256, 2)] {
                let (mut low, mut high) = (HashMap::new(), HashMap::new());
                for n in 0..16 * PLACES {
                    let mut key = [0x7f00_0001, 0, 69];
                    key[word] += n * step;
                    let hash = hash(&keyed, key);
                    *low.entry(hash % PLACES).or_insert(0u32) += 1;
                    *high.entry(hash >> 57).or_insert(0u32) += 1;
                }
                // 16 is the mean; of truly random hashes the fullest of 1024 places has about 32.
                let most = low.values().max().copied().unwrap_or(0);
                assert!(most < 64, "seed {seed}, word {word}: {most} of 16 in one place");
                assert!(high.len() > 100, "seed {seed}, word {word}: {} of 128 tags", high.len());
            }
        }
    }

    /// Pairs that a hash of the same products would make equal for many seeds, were its words or
    /// its halves not kept apart.
    #[test]
    fn t65_two_keys_are_never_equal_for_many_seeds_whichever_two_they_are() {
        for (one, other) in [
            ([1, 2, 3], [2, 1, 3]),
            ([1, 2, 3], [1, 3, 2]),
            ([1, 2, 3], [3, 2, 1]),
            ([0, 0, 0], [1 << 63, 0, 0]),
            ([0, 0, 0], [1 << 31, 0, 0]),
            ([0, 0, 0], [0, 1 << 63 | 1 << 31, 0]),
            ([0, 0, 7 << 32], [0, 0, 7]),
        ] {
            let is_equal = |seed: &u64| {
                let keyed = Keyed::new(&mut Random::new(*seed));
                hash(&keyed, one) == hash(&keyed, other)
            };
            assert_eq!((0..200).filter(is_equal).count(), 0, "{one:x?} {other:x?}");
        }
    }

    #[test]
    fn bytes_are_words_of_eight() {
        let keyed = Keyed::new(&mut Random::new(7));
        let mut bytes = keyed.build_hasher();
        bytes.write(&[1, 0, 0, 0, 0, 0, 0, 2, 3]);
        assert_eq!(bytes.finish(), hash_of(&keyed, &[2 << 56 | 1, 3]));
    }

    #[test]
    fn another_seed_is_another_hash() {
        let of = |seed| hash(&Keyed::new(&mut Random::new(seed)), [1, 2, 3]);
        assert_ne!(of(1), of(2));
    }
}
