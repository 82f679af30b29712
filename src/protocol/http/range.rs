//! The Range header: the bytes of a file that a client requests (RFC 9110 §14).

use std::ops::Range;

use super::limits::{PARTS_MAX, UNORDERED_PARTS_MAX};

/// The meaning of a Range header for a file of a given length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRanges {
    /// The header is malformed, has another unit, or requests too much: ignore it (H-17, H-18).
    Whole,
    /// The header selects no byte of the file: 416.
    Unsatisfiable,
    /// One range, within the file and not empty.
    One(Range<u64>),
    /// Two or more ranges that do not overlap, each within the file and not empty, in the order of
    /// the request.
    Several(Vec<Range<u64>>),
}

/// Parses a Range header for a file of `len` bytes.
pub fn parse_range_header(header: &[u8], len: u64) -> ByteRanges {
    let Some((unit, set)) = header.split_at_checked(b"bytes=".len()) else {
        return ByteRanges::Whole;
    };
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return ByteRanges::Whole;
    }
    let mut specs =
        set.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|spec| !spec.is_empty());
    let wanted = match (specs.next(), specs.next()) {
        (None, _) => None,
        (Some(spec), None) => parse_range_spec(spec, len)
            .map(|range| range.map_or(ByteRanges::Unsatisfiable, ByteRanges::One)),
        (Some(one), Some(two)) => parse_several_ranges([one, two].into_iter().chain(specs), len),
    };
    match wanted {
        // A suffix of an empty file is satisfiable, but 206 cannot express it: send the whole,
        // which is the same.
        Some(ByteRanges::One(range)) if range.is_empty() => ByteRanges::Whole,
        wanted => wanted.unwrap_or(ByteRanges::Whole),
    }
}

/// Parses several ranges; None: ignore the header.
fn parse_several_ranges<'a>(specs: impl Iterator<Item = &'a [u8]>, len: u64) -> Option<ByteRanges> {
    let mut wanted = Vec::new();
    for spec in specs {
        wanted.extend(parse_range_spec(spec, len)?);
    }
    let total = wanted.iter().try_fold(0u64, |sum, range| sum.checked_add(range.end - range.start));
    let is_ascending = wanted.windows(2).all(|pair| pair[0].end <= pair[1].start);
    let parts_max = if is_ascending { PARTS_MAX } else { UNORDERED_PARTS_MAX };
    let mut parts = merge_ranges(wanted);
    // Clients request neither more than the file has nor many pieces here and there: ignore such a
    // header, which costs the server work and helps no client.
    if total.is_none_or(|total| total > len) || parts.len() > parts_max {
        return None;
    }
    Some(match (parts.pop(), parts.is_empty()) {
        (None, _) => ByteRanges::Unsatisfiable,
        (Some(one), true) => ByteRanges::One(one),
        (Some(last), false) => {
            parts.push(last);
            ByteRanges::Several(parts)
        }
    })
}

/// Parses one `a-b`, `a-` or `-n`. None: malformed; Some(None): outside the file.
fn parse_range_spec(spec: &[u8], len: u64) -> Option<Option<Range<u64>>> {
    let dash = spec.iter().position(|&b| b == b'-')?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    if first.is_empty() {
        let suffix = parse_range_number(last)?;
        return Some((suffix > 0).then(|| len.saturating_sub(suffix)..len));
    }
    let first = parse_range_number(first)?;
    let end = if last.is_empty() {
        len
    } else {
        parse_range_number(last).filter(|&last| last >= first)?.saturating_add(1).min(len)
    };
    Some((first < len).then_some(first..end))
}

/// Parses digits only; a number that does not fit counts as endless.
fn parse_range_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |n, d| n.saturating_mul(10).saturating_add(u64::from(d - b'0'))))
}

/// Joins overlapping and touching ranges; each joined range takes the place of its first member.
fn merge_ranges(wanted: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted: Vec<(usize, Range<u64>)> = wanted.into_iter().enumerate().collect();
    sorted.sort_by_key(|(_, range)| range.start);
    let mut merged: Vec<(usize, Range<u64>)> = Vec::new();
    for (place, range) in sorted {
        match merged.last_mut() {
            Some((first, last)) if range.start <= last.end => {
                last.end = last.end.max(range.end);
                *first = place.min(*first);
            }
            _ => merged.push((place, range)),
        }
    }
    merged.sort_by_key(|(place, _)| *place);
    merged.into_iter().map(|(_, range)| range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn one(range: Range<u64>) -> ByteRanges {
        ByteRanges::One(range)
    }

    #[test]
    fn h16_the_three_forms_of_a_range() {
        assert_eq!(parse_range_header(b"bytes=0-0", 100), one(0..1));
        assert_eq!(parse_range_header(b"bytes=10-19", 100), one(10..20));
        assert_eq!(parse_range_header(b"bytes=90-1000", 100), one(90..100));
        assert_eq!(parse_range_header(b"bytes=40-", 100), one(40..100));
        assert_eq!(parse_range_header(b"bytes=-30", 100), one(70..100));
        assert_eq!(parse_range_header(b"bytes=-300", 100), one(0..100));
        assert_eq!(parse_range_header(b"Bytes=1-2", 100), one(1..3));
        assert_eq!(parse_range_header(b"bytes=-0", 100), ByteRanges::Unsatisfiable);
    }

    #[test]
    fn h11_offsets_are_64_bits_wide() {
        let len = 6 * 1024 * 1024 * 1024;
        assert_eq!(
            parse_range_header(b"bytes=5368709120-5368711167", len),
            one(5_368_709_120..5_368_711_168)
        );
        assert_eq!(
            parse_range_header(b"bytes=5368709120-99999999999999999999999999", len),
            one(5_368_709_120..len)
        );
        assert_eq!(
            parse_range_header(b"bytes=99999999999999999999999999-", len),
            ByteRanges::Unsatisfiable
        );
    }

    #[test]
    fn h17_beyond_the_end_is_unsatisfiable_and_nonsense_is_ignored() {
        assert_eq!(parse_range_header(b"bytes=100-", 100), ByteRanges::Unsatisfiable);
        assert_eq!(parse_range_header(b"bytes=100-200", 100), ByteRanges::Unsatisfiable);
        assert_eq!(parse_range_header(b"bytes=0-", 0), ByteRanges::Unsatisfiable);
        assert_eq!(parse_range_header(b"bytes=-5", 0), ByteRanges::Whole);
        for header in [
            "bytes=5-4",
            "bytes=a-b",
            "bytes=1",
            "bytes=",
            "bytes=-",
            "bytes=1-2x",
            "items=0-1",
            "bytes",
            "",
            "bytes=0x1-2",
        ] {
            assert_eq!(parse_range_header(header.as_bytes(), 100), ByteRanges::Whole, "{header}");
        }
        assert_eq!(parse_range_header(b"bytes=0-1,5-4", 100), ByteRanges::Whole);
    }

    #[test]
    fn h18_several_ranges_are_merged_and_limited() {
        assert_eq!(
            parse_range_header(b"bytes=50-59, 0-9", 100),
            ByteRanges::Several(vec![50..60, 0..10])
        );
        assert_eq!(
            parse_range_header(b"bytes=0-9,5-14,15-19,40-49", 100),
            ByteRanges::Several(vec![0..20, 40..50])
        );
        assert_eq!(parse_range_header(b"bytes=0-9,200-300", 100), one(0..10));
        assert_eq!(parse_range_header(b"bytes=200-,300-", 100), ByteRanges::Unsatisfiable);
        assert_eq!(
            parse_range_header(b"bytes=0-49,50-99", 100),
            one(0..100),
            "as many bytes as the file has"
        );
        assert_eq!(
            parse_range_header(b"bytes=0-50,50-99", 100),
            ByteRanges::Whole,
            "more bytes than the file has"
        );
    }

    #[test]
    fn k14_many_ranges_are_parts_where_they_ascend() {
        let crumbs = |order: &mut dyn Iterator<Item = u64>| {
            let words: Vec<String> = order.map(|i| format!("{0}-{0}", i * 2)).collect();
            match parse_range_header(format!("bytes={}", words.join(",")).as_bytes(), 1000) {
                ByteRanges::Several(parts) => parts.len(),
                other => {
                    assert_eq!(other, ByteRanges::Whole);
                    0
                }
            }
        };
        for (count, parts) in [(8, 8), (9, 9), (20, 20), (255, 255), (256, 256), (257, 0)] {
            assert_eq!(crumbs(&mut (0..count)), parts, "{count} ascending");
        }
        for (count, parts) in [(8, 8), (9, 0)] {
            assert_eq!(crumbs(&mut (0..count).rev()), parts, "{count} descending");
        }
        // Two that overlap make all of them unordered.
        assert_eq!(crumbs(&mut [0, 1, 2, 3, 4, 5, 6, 7, 8, 8].into_iter()), 0);
    }

    proptest! {
        #[test]
        fn h16_parts_stay_inside_the_file_whatever_is_asked(
            header in "bytes=[-0-9, ]{0,60}",
            len in 0u64..2000,
        ) {
            let parts = match parse_range_header(header.as_bytes(), len) {
                ByteRanges::One(part) => vec![part],
                ByteRanges::Several(parts) => parts,
                ByteRanges::Whole | ByteRanges::Unsatisfiable => Vec::new(),
            };
            {
                prop_assert!(parts.len() <= PARTS_MAX);
                prop_assert!(parts.iter().all(|part| part.start < part.end && part.end <= len));
                prop_assert!(parts.iter().map(|part| part.end - part.start).sum::<u64>() <= len);
            }
        }

        #[test]
        fn h17_any_bytes_are_survived(
            header in proptest::collection::vec(any::<u8>(), 0..200),
            len in any::<u64>(),
        ) {
            parse_range_header(&header, len);
        }
    }
}
