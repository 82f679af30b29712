//! `[[quirk]]`: limits that the operator fixes for one machine, the machines of one maker or one
//! kind of firmware.

use std::num::NonZeroU64;

use super::values::read_number;
use crate::boot::quirks::{
    FixedQuirk, NoSubject, QuirkAllowance, QuirkSubject, parse_class, parse_oui,
};
use crate::config::file::{self, PlacedValue};
use crate::config::problem::ConfigComplaints;

/// Bytes a second: from a kilobit to ten gigabit.
const HTTP_RATE_RANGE: std::ops::RangeInclusive<u64> = 125..=1_250_000_000;

pub(super) fn resolve_quirks(
    written: Vec<file::QuirkTable>,
    complaints: &mut ConfigComplaints<'_>,
) -> Vec<FixedQuirk> {
    let mut fixed: Vec<FixedQuirk> = Vec::new();
    for one in written {
        let span = one.span.clone();
        let Some(quirk) = resolve_quirk(one, complaints) else { continue };
        if fixed.iter().any(|before| before.subject == quirk.subject) {
            let hint = "write all limits of one machine, maker or class into one [[quirk]]";
            complaints.add(&span, format!("{} already has a [[quirk]]", quirk.subject), hint);
        }
        fixed.push(quirk);
    }
    fixed
}

fn resolve_quirk(
    written: file::QuirkTable,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<FixedQuirk> {
    let file::QuirkTable { span, mac, oui, vendor_class, windowsize_max, blksize_max, http_rate } =
        written;
    let has_limit = windowsize_max.is_some() || blksize_max.is_some() || http_rate.is_some();
    let allowance = QuirkAllowance {
        window: windowsize_max
            .and_then(|at| read_number(&at, "windowsize-max", 1..=65_535, complaints)),
        blksize: blksize_max.and_then(|at| read_number(&at, "blksize-max", 8..=65_464, complaints)),
        http_rate: http_rate.and_then(|at| read_http_rate(&at, "http-rate", complaints)),
    };
    // A limit that is out of bounds has its own complaint.
    if !has_limit {
        let hint = "write `windowsize-max`, `blksize-max` or `http-rate`";
        complaints.add(&span, "this quirk sets no limit", hint);
    }

    // All three keys are collected first, so that two of them in one table are a fault too.
    let named: Vec<(PlacedValue<String>, SubjectReader)> = [
        (mac, read_machine as SubjectReader),
        (oui, |text| parse_oui(text).map(QuirkSubject::Oui)),
        (vendor_class, |text| parse_class(text).map(QuirkSubject::Class)),
    ]
    .into_iter()
    .filter_map(|(text, read)| Some((text?, read)))
    .collect();
    let [(text, read)] = &named[..] else {
        let hint = "write exactly one of `mac`, `oui` and `vendor-class`";
        complaints.add(&span, "a quirk is for one machine, one maker or one class", hint);
        return None;
    };

    let subject = read(text.get_ref());
    if subject.is_none() {
        complaints.add(
            &text.span(),
            format!("{:?} names no machine, maker or class", text.get_ref()),
            NoSubject.to_string(),
        );
    }
    Some(FixedQuirk { subject: subject?, allowance })
}

/// A limit of one HTTP connection, in bytes a second.
pub(super) fn read_http_rate(
    at: &PlacedValue<u64>,
    key: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<NonZeroU64> {
    read_number::<u64>(at, key, HTTP_RATE_RANGE, complaints).and_then(NonZeroU64::new)
}

/// Reads the value of one of the three keys; None for a text of another form.
type SubjectReader = fn(&str) -> Option<QuirkSubject>;

fn read_machine(text: &str) -> Option<QuirkSubject> {
    text.parse().ok().map(QuirkSubject::Machine)
}
