//! Conditional requests: If-Match and the other conditions, in the order of RFC 9110 §13.2.2
//! (H-19).

use std::time::{Duration, SystemTime};

use super::request::{HeaderField, RequestHead};

/// The result of the conditions of a GET or HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreconditionOutcome {
    /// Send the response.
    Proceed {
        /// Whether a Range header counts (If-Range, H-21).
        range: bool,
    },
    /// Send 304 (H-22).
    NotModified,
    /// Send 412 (H-20).
    Failed,
}

/// Evaluates the conditions against a strong ETag and a time of last change in whole seconds.
pub fn evaluate_preconditions(
    request: &RequestHead<'_>,
    etag: &str,
    last_modified: SystemTime,
) -> PreconditionOutcome {
    let date = |field| request.get(field).and_then(parse_date_value);

    // A date counts only where the request has no tag of the same purpose (RFC 9110 section
    // 13.2.2).
    if request.has_field(HeaderField::IfMatch) {
        if !matches_etag_list(request, HeaderField::IfMatch, etag, EtagComparison::Strong) {
            return PreconditionOutcome::Failed;
        }
    } else if date(HeaderField::IfUnmodifiedSince).is_some_and(|date| last_modified > date) {
        return PreconditionOutcome::Failed;
    }

    // If-Match compares tags strongly, If-None-Match weakly (RFC 9110 sections 13.1.1 and 13.1.2).
    if request.has_field(HeaderField::IfNoneMatch) {
        if matches_etag_list(request, HeaderField::IfNoneMatch, etag, EtagComparison::Weak) {
            return PreconditionOutcome::NotModified;
        }
    } else if date(HeaderField::IfModifiedSince).is_some_and(|date| last_modified <= date) {
        return PreconditionOutcome::NotModified;
    }

    PreconditionOutcome::Proceed { range: matches_if_range(request, etag) }
}

/// A time without its fraction, as in an HTTP date.
pub fn truncate_to_seconds(time: SystemTime) -> SystemTime {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EtagComparison {
    Strong,
    Weak,
}

/// Whether a list of entity tags contains this one; `*` matches every tag.
fn matches_etag_list(
    request: &RequestHead<'_>,
    field: HeaderField,
    etag: &str,
    comparison: EtagComparison,
) -> bool {
    request.values(field).any(|mut rest| {
        if rest == b"*" {
            return true;
        }
        // Tags may contain commas, so go from quote to quote.
        while let Some(open) = rest.iter().position(|&b| b == b'"') {
            let Some(len) = rest[open + 1..].iter().position(|&b| b == b'"') else { return false };
            let close = open + 1 + len;
            let is_weak = rest[..open].ends_with(b"W/");
            if &rest[open..=close] == etag.as_bytes()
                && !(is_weak && comparison == EtagComparison::Strong)
            {
                return true;
            }
            rest = &rest[close + 1..];
        }
        false
    })
}

/// Whether If-Range allows a partial response: only the same strong tag does. A date is weak (RFC
/// 9110 §8.8.2.2): a file may change twice within a second.
fn matches_if_range(request: &RequestHead<'_>, etag: &str) -> bool {
    request.get(HeaderField::IfRange).is_none_or(|value| value == etag.as_bytes())
}

fn parse_date_value(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?.trim()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::http::request::{ParsedHead, parse_request_head};

    const ETAG: &str = "\"1f-a,b-77\"";
    const BEFORE: &str = "Sat, 03 Jan 2026 04:05:05 GMT";
    const SAME: &str = "Sat, 03 Jan 2026 04:05:06 GMT";
    const AFTER: &str = "Sat, 03 Jan 2026 04:05:07 GMT";
    const GO: PreconditionOutcome = PreconditionOutcome::Proceed { range: true };

    fn verdict(conditions: &[(&str, &str)]) -> PreconditionOutcome {
        let lines: String =
            conditions.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let ParsedHead::Whole(request, _) = parse_request_head(head.as_bytes()) else {
            panic!("{head}")
        };
        evaluate_preconditions(&request, ETAG, httpdate::parse_http_date(SAME).unwrap())
    }

    #[test]
    fn h20_a_failed_precondition_is_412() {
        assert_eq!(verdict(&[("if-match", ETAG)]), GO);
        assert_eq!(verdict(&[("if-match", "*")]), GO);
        assert_eq!(verdict(&[("if-match", "\"x\", \"1f-a,b-77\"")]), GO);
        assert_eq!(verdict(&[("if-match", "\"x\"")]), PreconditionOutcome::Failed);
        assert_eq!(verdict(&[("if-match", "W/\"1f-a,b-77\"")]), PreconditionOutcome::Failed);
        assert_eq!(verdict(&[("if-unmodified-since", SAME)]), GO);
        assert_eq!(verdict(&[("if-unmodified-since", AFTER)]), GO);
        assert_eq!(verdict(&[("if-unmodified-since", BEFORE)]), PreconditionOutcome::Failed);
        assert_eq!(verdict(&[("if-unmodified-since", "yesterday")]), GO);
    }

    #[test]
    fn h22_a_matching_tag_or_date_is_304() {
        for value in [ETAG, "*", "\"x\", W/\"1f-a,b-77\""] {
            assert_eq!(
                verdict(&[("if-none-match", value)]),
                PreconditionOutcome::NotModified,
                "{value}"
            );
        }
        assert_eq!(verdict(&[("if-none-match", "\"x\"")]), GO);
        assert_eq!(verdict(&[("if-none-match", "\"1f-a,b-77")]), GO);
        assert_eq!(
            verdict(&[("if-none-match", "\"x\"1f-a,b-77\"y\"")]),
            GO,
            "what stands between two tags is none"
        );
        assert_eq!(verdict(&[("if-modified-since", SAME)]), PreconditionOutcome::NotModified);
        assert_eq!(verdict(&[("if-modified-since", BEFORE)]), GO);
    }

    #[test]
    fn h19_the_order_of_conditions_is_that_of_the_rfc() {
        assert_eq!(
            verdict(&[("if-match", "\"x\""), ("if-none-match", ETAG)]),
            PreconditionOutcome::Failed
        );
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
            PreconditionOutcome::Failed
        );
        assert_eq!(
            verdict(&[("if-none-match", ETAG), ("if-range", "\"x\"")]),
            PreconditionOutcome::NotModified
        );
    }

    #[test]
    fn h21_if_range_wants_the_same_strong_tag() {
        assert_eq!(verdict(&[("if-range", ETAG)]), GO);
        for value in ["\"x\"", "W/\"1f-a,b-77\"", BEFORE, SAME, AFTER, "nonsense"] {
            assert_eq!(
                verdict(&[("if-range", value)]),
                PreconditionOutcome::Proceed { range: false },
                "{value}"
            );
        }
    }

    #[test]
    fn h23_dates_are_compared_without_their_fraction() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(7_654);
        assert_eq!(truncate_to_seconds(time), SystemTime::UNIX_EPOCH + Duration::from_secs(7));
    }
}
