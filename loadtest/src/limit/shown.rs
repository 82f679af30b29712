//! A search for the limit on a terminal: a line for each run, then the answer in words.

use std::fmt::Write as _;

use ringboot_fleet::Pretty;

use super::answer::{Answer, Number, Run};
use super::search::{End, Search};
use crate::width::wrapped;

/// What is being tried, and what is known.
pub(super) fn progress(search: &Search, machines: u32) -> String {
    let number = search.level(machines).runs() + 1;
    let known = match (search.held(), search.missed()) {
        (None, None) => String::new(),
        (held, missed) => {
            let held = held.map_or("nothing held yet".to_owned(), |held| format!("{held} held"));
            let missed = missed.map_or(String::new(), |missed| format!(", {missed} missed"));
            format!("; {held}{missed}")
        }
    };
    format!("{machines} machines, run {number}{known}")
}

/// A run that is over.
pub(super) fn run(run: &Run, number: u32) -> String {
    let Run { machines, held, booted, wall_s, boot_max_us, missed, .. } = run;
    let verdict = if *held { "held" } else { "MISSED" };
    let slowest = Pretty(*boot_max_us);
    let why = if missed.is_empty() { String::new() } else { format!("; {}", missed.join("; ")) };
    wrapped(&format!(
        "{machines} machines, run {number}: {verdict}, {booted} booted in {wall_s:.2} s, the \
         slowest in {slowest}{why}"
    ))
}

/// The whole answer.
pub(super) fn text(answer: &Answer) -> String {
    let mut out = String::from("\n");
    out.push_str(&wrapped(&headline(answer)));
    for (number, ends, how) in [(answer.held, "hold", "held"), (answer.missed, "miss", "missed")] {
        let Some(Number { machines, level, share_at_least }) = number else { continue };
        let (hits, runs) = (if how == "held" { level.held } else { level.missed }, level.runs());
        let percent = share_at_least * 100.0;
        out.push_str(&wrapped(&format!(
            "{machines}: {how} in {hits} of {runs} runs; with 95 % confidence at least \
             {percent:.0} % of such runs {ends}"
        )));
    }
    if let Some(missed) = answer.missed.filter(|missed| missed.level.held > 0) {
        let (Number { machines, level, .. }, held) = (missed, missed.level.held);
        out.push_str(&wrapped(&format!(
            "! {machines} machines held in {held} of {} runs, so runs miss by chance: more \
             machines may boot mostly. A quiet host, a longer --within or a milder --expect tells.",
            level.runs()
        )));
    }
    if answer.end == End::TimeIsOver {
        out.push_str(&wrapped(&format!(
            "! The time was over ({:.0} s) before the two ends were close: a longer --budget \
             narrows them.",
            answer.took_s
        )));
    }
    for (number, gave_out) in answer.gave_out.iter().enumerate() {
        let head = if number == 0 { "What gave out" } else { "and" };
        out.push_str(&wrapped(&format!("{head}: {}.", gave_out.words)));
    }
    if let (Some(wanted), Some(passed)) = (answer.at_least, answer.passed) {
        // A String takes whatever is written to it.
        let _ = writeln!(out, "{}", verdict(wanted, passed, answer));
    }
    out
}

fn headline(answer: &Answer) -> String {
    let (within, expected) = (answer.within_s, answer.expected.join(", "));
    let of = format!("within {within} s each ({expected})");
    match (answer.held, answer.missed) {
        (Some(held), Some(missed)) => {
            format!(
                "{} machines at once boot {of} in every run; {} do not.",
                held.machines, missed.machines
            )
        }
        (Some(held), None) => {
            format!("{} machines at once boot {of}, and more were not tried.", held.machines)
        }
        (None, Some(missed)) if answer.end == End::AtLeast => {
            format!("Not even {} machines at once boot {of}.", missed.machines)
        }
        (None, _) => {
            format!(
                "No number of machines from {} on was run often enough to say that it boots {of}.",
                answer.least
            )
        }
    }
}

fn verdict(wanted: u32, passed: bool, answer: &Answer) -> String {
    match (passed, answer.held, answer.missed) {
        (true, ..) => format!("PASS: at least {wanted} machines"),
        (false, held, Some(missed)) if missed.machines <= wanted => {
            let held = held.map_or("no number".to_owned(), |held| held.machines.to_string());
            format!("FAIL: {wanted} machines were wanted, {held} held")
        }
        (false, ..) => format!(
            "FAIL: the time was over before {wanted} machines had held in {} runs",
            answer.repeat
        ),
    }
}
