//! Conditional requests: If-Match and its sisters, in the order of RFC 9110 §13.2.2 (H-19).

use std::time::{Duration, SystemTime};

use super::request::{Field, Request};

/// What the conditions of a GET or HEAD come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Answer; a Range header counts only where `range` says so (If-Range, H-21).
    Proceed { range: bool },
    /// 304 (H-22).
    NotModified,
    /// 412 (H-20).
    Failed,
}

/// Weighs the conditions against a strong ETag and a time of last change in whole seconds.
pub fn evaluate(request: &Request<'_>, etag: &str, last_modified: SystemTime) -> Verdict {
    let date = |field| request.get(field).and_then(date);
    if request.has(Field::IfMatch) {
        if !lists(request, Field::IfMatch, etag, Comparison::Strong) {
            return Verdict::Failed;
        }
    } else if date(Field::IfUnmodifiedSince).is_some_and(|date| last_modified > date) {
        return Verdict::Failed;
    }
    if request.has(Field::IfNoneMatch) {
        if lists(request, Field::IfNoneMatch, etag, Comparison::Weak) {
            return Verdict::NotModified;
        }
    } else if date(Field::IfModifiedSince).is_some_and(|date| last_modified <= date) {
        return Verdict::NotModified;
    }
    Verdict::Proceed { range: if_range(request, etag) }
}

/// A time without its fraction: what an HTTP date can say.
pub fn whole_seconds(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags holds this one; `*` holds every one.
fn lists(request: &Request<'_>, field: Field, etag: &str, comparison: Comparison) -> bool {
    request.all(field).any(|mut rest| {
        if rest == b"*" {
            return true;
        }
        // Tags may hold commas, so the list is walked from quote to quote.
        while let Some(open) = rest.iter().position(|&b| b == b'"') {
            let Some(len) = rest[open + 1..].iter().position(|&b| b == b'"') else { return false };
            let close = open + 1 + len;
            let is_weak = rest[..open].ends_with(b"W/");
            if &rest[open..=close] == etag.as_bytes()
                && !(is_weak && comparison == Comparison::Strong)
            {
                return true;
            }
            rest = &rest[close + 1..];
        }
        false
    })
}

/// Only the same strong tag joins a part to what the client has. A date is weak (RFC 9110
/// §8.8.2.2): nobody knows that a file has not changed twice within its second.
fn if_range(request: &Request<'_>, etag: &str) -> bool {
    request.get(Field::IfRange).is_none_or(|value| value == etag.as_bytes())
}

fn date(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::request::{Parsed, parse};

    const ETAG: &str = "\"1f-a,b-77\"";
    const BEFORE: &str = "Sat, 03 Jan 2026 04:05:05 GMT";
    const SAME: &str = "Sat, 03 Jan 2026 04:05:06 GMT";
    const AFTER: &str = "Sat, 03 Jan 2026 04:05:07 GMT";
    const GO: Verdict = Verdict::Proceed { range: true };

    fn verdict(conditions: &[(&str, &str)]) -> Verdict {
        let lines: String =
            conditions.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let Parsed::Whole(request, _) = parse(head.as_bytes()) else { panic!("{head}") };
        evaluate(&request, ETAG, httpdate::parse_http_date(SAME).unwrap())
    }

    #[test]
    fn h20_a_failed_precondition_is_412() {
        assert_eq!(verdict(&[("if-match", ETAG)]), GO);
        assert_eq!(verdict(&[("if-match", "*")]), GO);
        assert_eq!(verdict(&[("if-match", "\"x\", \"1f-a,b-77\"")]), GO);
        assert_eq!(verdict(&[("if-match", "\"x\"")]), Verdict::Failed);
        assert_eq!(verdict(&[("if-match", "W/\"1f-a,b-77\"")]), Verdict::Failed);
        assert_eq!(verdict(&[("if-unmodified-since", SAME)]), GO);
        assert_eq!(verdict(&[("if-unmodified-since", AFTER)]), GO);
        assert_eq!(verdict(&[("if-unmodified-since", BEFORE)]), Verdict::Failed);
        assert_eq!(verdict(&[("if-unmodified-since", "yesterday")]), GO);
    }

    #[test]
    fn h22_a_matching_tag_or_date_is_304() {
        for value in [ETAG, "*", "\"x\", W/\"1f-a,b-77\""] {
            assert_eq!(verdict(&[("if-none-match", value)]), Verdict::NotModified, "{value}");
        }
        assert_eq!(verdict(&[("if-none-match", "\"x\"")]), GO);
        assert_eq!(verdict(&[("if-none-match", "\"1f-a,b-77")]), GO);
        assert_eq!(
            verdict(&[("if-none-match", "\"x\"1f-a,b-77\"y\"")]),
            GO,
            "what stands between two tags is none"
        );
        assert_eq!(verdict(&[("if-modified-since", SAME)]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-modified-since", BEFORE)]), GO);
    }

    #[test]
    fn h19_the_order_of_conditions_is_that_of_the_rfc() {
        assert_eq!(verdict(&[("if-match", "\"x\""), ("if-none-match", ETAG)]), Verdict::Failed);
        assert_eq!(
            verdict(&[("if-match", ETAG), ("if-unmodified-since", BEFORE)]),
            GO,
            "If-Match shadows the date"
        );
        assert_eq!(
            verdict(&[("if-none-match", "\"x\""), ("if-modified-since", SAME)]),
            GO,
            "and so does If-None-Match"
        );
        assert_eq!(
            verdict(&[("if-unmodified-since", BEFORE), ("if-modified-since", SAME)]),
            Verdict::Failed
        );
        assert_eq!(
            verdict(&[("if-none-match", ETAG), ("if-range", "\"x\"")]),
            Verdict::NotModified
        );
    }

    #[test]
    fn h21_if_range_wants_the_same_strong_tag() {
        assert_eq!(verdict(&[("if-range", ETAG)]), GO);
        for value in ["\"x\"", "W/\"1f-a,b-77\"", BEFORE, SAME, AFTER, "nonsense"] {
            assert_eq!(
                verdict(&[("if-range", value)]),
                Verdict::Proceed { range: false },
                "{value}"
            );
        }
    }

    #[test]
    fn h23_dates_are_compared_without_their_fraction() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(7_654);
        assert_eq!(whole_seconds(time), SystemTime::UNIX_EPOCH + Duration::from_secs(7));
    }
}
