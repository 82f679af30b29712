//! The contents of served files, so that a machine can check every byte without keeping the file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// The bytes that a file must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedContent {
    /// A function of seed and offset: it takes no memory, whatever the size.
    Generated {
        /// Chooses the contents: another seed gives other bytes.
        seed: u64,
        /// Size of the file in bytes.
        octets: u64,
    },
    /// A real file, read once for all machines.
    Kept(Arc<[u8]>),
}

impl ExpectedContent {
    /// Size of the whole file in bytes.
    pub fn octets(&self) -> u64 {
        match self {
            Self::Generated { octets, .. } => *octets,
            Self::Kept(file) => file.len() as u64,
        }
    }

    /// True if `bytes` are those of the file from `offset` on.
    pub fn matches(&self, offset: u64, bytes: &[u8]) -> bool {
        let Some(end) = offset.checked_add(bytes.len() as u64) else { return false };
        if end > self.octets() {
            return false;
        }
        match self {
            Self::Generated { seed, .. } => matches_generated(*seed, offset, bytes),
            Self::Kept(file) => {
                let Ok(start) = usize::try_from(offset) else { return false };
                file.get(start..start + bytes.len()) == Some(bytes)
            }
        }
    }

    /// The first place in the file at which `bytes`, received for `offset`, differ from the file;
    /// its end if they continue beyond it. None if all match.
    pub fn first_difference(&self, offset: u64, bytes: &[u8]) -> Option<u64> {
        let mut places = (offset..).zip(bytes);
        let different = places.find(|(at, octet)| !self.matches(*at, std::slice::from_ref(*octet)));
        different.map(|(at, _)| at)
    }

    /// Writes the whole file.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        let (seed, octets) = match self {
            Self::Kept(file) => return out.write_all(file),
            Self::Generated { seed, octets } => (*seed, *octets),
        };
        let mut written = 0u64;
        let mut chunk = Vec::with_capacity(CHUNK_WORDS * WORD);
        while written < octets {
            chunk.clear();
            let first = written / WORD as u64;
            (first..first + CHUNK_WORDS as u64).for_each(|index| {
                chunk.extend_from_slice(&generate_word(seed, index).to_le_bytes())
            });
            chunk.truncate(usize::try_from(octets - written).unwrap_or(usize::MAX));
            out.write_all(&chunk)?;
            written += chunk.len() as u64;
        }
        Ok(())
    }
}

/// Names under the server's root and their contents; one map for TFTP names and URL paths.
#[derive(Clone, Debug, Default)]
pub struct ContentMap(HashMap<String, ExpectedContent>);

impl ContentMap {
    /// `name` is a path under the root, with or without leading slashes.
    pub fn insert(&mut self, name: &str, content: ExpectedContent) {
        self.0.insert(normalize_name(name), content);
    }

    /// None if the contents of the file are unknown: its bytes are then only counted.
    pub fn find(&self, name: &str) -> Option<&ExpectedContent> {
        self.0.get(&normalize_name(name))
    }

    /// Every known file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ExpectedContent)> {
        self.0.iter().map(|(name, content)| (name.as_str(), content))
    }

    /// Writes every known file to its place below this directory.
    pub fn write_below(&self, root: &Path) -> io::Result<()> {
        for (name, content) in self.iter() {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            content.write_to(&mut File::create(path)?)?;
        }
        Ok(())
    }
}

/// One name for `a/b`, `/a/b` and `//a//b` (T-56).
fn normalize_name(name: &str) -> String {
    name.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

const WORD: usize = 8;
/// Words made per write: 64 KiB.
const CHUNK_WORDS: usize = 8192;
/// Odd, so that word numbers map to distinct values; the fraction of the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The word at `index` (little-endian in the file). Only additions, shifts and exclusive-ors, so
/// that the compiler checks several words at a time: checking must not use up the load generator's
/// processor.
fn generate_word(seed: u64, index: u64) -> u64 {
    let x = seed.wrapping_add(index.wrapping_mul(STEP));
    x ^ (x >> 29)
}

fn matches_generated(seed: u64, offset: u64, bytes: &[u8]) -> bool {
    let within = usize::try_from(offset % WORD as u64).unwrap_or(0);
    let mut index = offset / WORD as u64;
    let mut rest = bytes;

    // A piece may begin in the middle of a word: 1468, a usual block size, is no multiple of 8.
    if within != 0 {
        let (head, tail) = bytes.split_at(bytes.len().min(WORD - within));
        if generate_word(seed, index).to_le_bytes().get(within..within + head.len()) != Some(head) {
            return false;
        }
        index += 1;
        rest = tail;
    }
    let (words, tail) = rest.as_chunks::<WORD>();
    let mut x = seed.wrapping_add(index.wrapping_mul(STEP));

    // The loop has neither a branch nor a multiplication, so that the compiler checks several words
    // at a time: checking must not use up the load generator's processor.
    let mut differing = 0u64;
    for found in words {
        differing |= u64::from_le_bytes(*found) ^ x ^ (x >> 29);
        x = x.wrapping_add(STEP);
    }
    let last = generate_word(seed, index + words.len() as u64).to_le_bytes();
    differing == 0 && last.get(..tail.len()) == Some(tail)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(content: &ExpectedContent) -> Vec<u8> {
        let mut out = Vec::new();
        content.write_to(&mut out).unwrap();
        out
    }

    #[test]
    fn every_piece_of_a_generated_file_matches_where_it_belongs() {
        let content = ExpectedContent::Generated { seed: 7, octets: 200_003 };
        let file = file(&content);
        assert_eq!(file.len() as u64, content.octets());
        for (start, end) in [
            (0, 200_003),
            (0, 0),
            (1, 2),
            (7, 9),
            (8, 16),
            (3, 1471),
            (65_531, 131_075),
            (199_999, 200_003),
        ] {
            assert!(content.matches(start as u64, &file[start..end]), "{start}..{end}");
        }
    }

    #[test]
    fn a_wrong_octet_a_wrong_place_and_a_wrong_file_are_seen() {
        let content = ExpectedContent::Generated { seed: 7, octets: 100_000 };
        let file = file(&content);
        for wrong in [0usize, 5, 1000, 4095, 4096, 4099] {
            let mut piece = file[3..5000].to_vec();
            piece[wrong] ^= 0x10;
            assert!(!content.matches(3, &piece), "octet {wrong}");
            assert_eq!(content.first_difference(3, &piece), Some(3 + wrong as u64));
        }
        for offset in [0, 2, 4, 11, 1468, 65_536 + 3] {
            assert!(!content.matches(offset, &file[3..1471]), "at {offset}");
        }
        assert!(!ExpectedContent::Generated { seed: 8, octets: 100_000 }.matches(0, &file[..64]));
    }

    #[test]
    fn octets_past_the_end_never_match() {
        let content = ExpectedContent::Generated { seed: 7, octets: 8 };
        let longer = file(&ExpectedContent::Generated { seed: 7, octets: 16 });
        assert!(content.matches(0, &longer[..8]));
        assert!(!content.matches(0, &longer[..9]));
        assert_eq!(
            (content.first_difference(0, &longer[..9]), content.first_difference(0, &longer[..8])),
            (Some(8), None)
        );
        assert!(!content.matches(u64::MAX, &longer[..9]));
        let kept = ExpectedContent::Kept(Arc::from(*b"loader"));
        assert!(
            kept.matches(2, b"ader") && !kept.matches(2, b"aderX") && !kept.matches(2, b"adeR")
        );
    }

    #[test]
    fn t56_one_file_has_many_spellings() {
        let mut contents = ContentMap::default();
        contents.insert("/a//b", ExpectedContent::Generated { seed: 1, octets: 1 });
        for name in ["a/b", "/a/b", "//a//b", "./a/b"] {
            assert!(contents.find(name).is_some(), "{name}");
        }
        assert!(contents.find("a/c").is_none());
    }
}
