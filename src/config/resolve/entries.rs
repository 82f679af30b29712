//! `[menu]` and `[[menu.entry]]`: texts that every loader can print, paths that it can request,
//! labels that exist.

use std::ops::Range;

use super::values::read_number;
use crate::boot::menu::{self, BootMenu, LOCAL_LABEL, MenuEntry};
use crate::config::file::{self, PlacedValue, SecondsValue};
use crate::config::problem::ConfigComplaints;
use crate::model::spelling::find_nearest_word;

/// PXELINUX counts tenths of a second up to 35,996.
const TIMEOUT_MAX_S: u64 = 3_599;
/// The timeout where the file has none.
const TIMEOUT_S: u32 = 10;
/// The title where the file has none.
const TITLE: &str = "Boot menu";

pub(super) fn resolve_menu(
    written: file::MenuTable,
    complaints: &mut ConfigComplaints<'_>,
) -> BootMenu {
    let mut entries: Vec<MenuEntry> = Vec::new();
    // Each entry sees those before it, so the complaint about a repeated label names the first one.
    for one in written.entry.unwrap_or_default() {
        if let Some(entry) = resolve_entry(one, &entries, complaints) {
            entries.push(entry);
        }
    }
    let default =
        written.default.as_ref().and_then(|at| find_default_entry(at, &entries, complaints));
    BootMenu {
        title: written.title.map_or_else(
            || TITLE.to_owned(),
            |at| check_text(at, menu::title_fault, "title", complaints),
        ),
        default,
        timeout_s: written
            .timeout
            .and_then(|at| read_timeout(&at, complaints))
            .unwrap_or(TIMEOUT_S),
        background: written
            .background
            .map(|at| check_text(at, menu::path_fault, "background", complaints)),
        display: written.display.map(|at| check_text(at, menu::path_fault, "display", complaints)),
        console: written
            .console
            .map(|at| check_text(at, menu::console_fault, "console", complaints)),
        entries,
    }
}

fn resolve_entry(
    written: file::EntryTable,
    before: &[MenuEntry],
    complaints: &mut ConfigComplaints<'_>,
) -> Option<MenuEntry> {
    // Both are looked for first, so that one run reports both.
    if written.label.is_none() {
        complain_of_missing("label", "rescue", &written.span, complaints);
    }
    if written.kernel.is_none() {
        complain_of_missing("kernel", "images/vmlinuz", &written.span, complaints);
    }
    let label = written.label?;

    if let Some(first) =
        before.iter().find(|entry| entry.label.eq_ignore_ascii_case(label.get_ref()))
    {
        let what =
            format!("the entry {:?} already has the label {:?}", first.title, label.get_ref());
        complaints.add(&label.span(), what, "give each entry a label of its own");
    } else if label.get_ref().eq_ignore_ascii_case(LOCAL_LABEL) {
        let what = format!("the entry that boots the disk already has the label {LOCAL_LABEL:?}");
        let hint = "every menu has that entry by itself: remove this one or rename it";
        complaints.add(&label.span(), what, hint);
    }

    let label = check_text(label, menu::label_fault, "label", complaints);
    let title = written
        .title
        .map_or_else(|| label.clone(), |at| check_text(at, menu::title_fault, "title", complaints));
    let initrds = written.initrd.map(|list| list.0).unwrap_or_default();
    if let Some(extra) = initrds.get(menu::INITRDS_MAX) {
        let hint = "join some: initrds are cpio archives, and `cat` joins several into one";
        complaints.add(&extra.span(), format!("more than {} initrds", menu::INITRDS_MAX), hint);
    }
    let initrds = initrds
        .into_iter()
        .map(|at| check_text(at, menu::location_fault, "initrd", complaints))
        .collect();
    let arguments = written
        .arguments
        .map(|at| check_text(at, menu::arguments_fault, "arguments", complaints))
        .unwrap_or_default();
    let kernel = check_text(written.kernel?, menu::location_fault, "kernel", complaints);
    Some(MenuEntry { label, title, kernel, initrds, arguments })
}

fn complain_of_missing(
    key: &str,
    example: &str,
    span: &Range<usize>,
    complaints: &mut ConfigComplaints<'_>,
) {
    complaints.add(span, format!("`{key}` is missing"), format!("write {key} = \"{example}\""));
}

/// The label of the default entry. None for the entry that boots the disk, which is the default
/// anyway.
fn find_default_entry(
    at: &PlacedValue<String>,
    entries: &[MenuEntry],
    complaints: &mut ConfigComplaints<'_>,
) -> Option<String> {
    let label = at.get_ref();
    if label == LOCAL_LABEL {
        return None;
    }
    if !entries.iter().any(|entry| entry.label == *label) {
        let labels: Vec<&str> =
            entries.iter().map(|entry| entry.label.as_str()).chain([LOCAL_LABEL]).collect();
        let hint = match find_nearest_word(label, &labels) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("the menu has: {}", labels.join(", ")),
        };
        complaints.add(&at.span(), format!("no entry has the label {label:?}"), hint);
    }
    Some(label.clone())
}

fn read_timeout(
    at: &PlacedValue<SecondsValue>,
    complaints: &mut ConfigComplaints<'_>,
) -> Option<u32> {
    read_number(
        &PlacedValue::new(at.span(), at.get_ref().0),
        "timeout",
        0..=TIMEOUT_MAX_S,
        complaints,
    )
}

/// A text of the menu; a fault becomes a complaint.
fn check_text(
    at: PlacedValue<String>,
    fault: fn(&str) -> Option<&'static str>,
    key: &str,
    complaints: &mut ConfigComplaints<'_>,
) -> String {
    if let Some(fault) = fault(at.get_ref()) {
        complaints.add(&at.span(), format!("{key} {:?} {fault}", at.get_ref()), "");
    }
    at.into_inner()
}
