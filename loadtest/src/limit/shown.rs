//! A search for the limit on a terminal: a line for each run, then the answer in sentences.

use std::fmt::Write as _;

use ringboot_fleet::PrettyMicroseconds;

use super::answer::{LimitAnswer, LimitRun, MachineNumber};
use super::search::{LimitSearch, LimitSearchEnd};
use crate::width::wrap_sentence;

/// The present run and the ends so far.
pub(super) fn format_limit_progress(search: &LimitSearch, machines: u32) -> String {
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

/// The line of a finished run.
pub(super) fn format_limit_run(run: &LimitRun, number: u32) -> String {
    let LimitRun { machines, held, booted, wall_s, boot_max_us, missed, .. } = run;
    let verdict = if *held { "held" } else { "MISSED" };
    let slowest = PrettyMicroseconds(*boot_max_us);
    let why = if missed.is_empty() { String::new() } else { format!("; {}", missed.join("; ")) };
    wrap_sentence(&format!(
        "{machines} machines, run {number}: {verdict}, {booted} booted in {wall_s:.2} s, the \
         slowest in {slowest}{why}"
    ))
}

/// The whole answer.
pub(super) fn format_limit_answer(answer: &LimitAnswer) -> String {
    let mut out = String::from("\n");
    out.push_str(&wrap_sentence(&format_limit_headline(answer)));
    for (number, ends, how) in [(answer.held, "hold", "held"), (answer.missed, "miss", "missed")] {
        let Some(MachineNumber { machines, level, share_at_least }) = number else { continue };
        let (hits, runs) = (if how == "held" { level.held } else { level.missed }, level.runs());
        let percent = share_at_least * 100.0;
        out.push_str(&wrap_sentence(&format!(
            "{machines}: {how} in {hits} of {runs} runs; with 95 % confidence at least \
             {percent:.0} % of such runs {ends}"
        )));
    }
    if let Some(missed) = answer.missed.filter(|missed| missed.level.held > 0) {
        let (MachineNumber { machines, level, .. }, held) = (missed, missed.level.held);
        out.push_str(&wrap_sentence(&format!(
            "! {machines} machines held in {held} of {} runs, so runs miss by chance: a greater \
             number may hold in most runs. Repeat with a quiet host, a longer --within or a milder \
             --expect.",
            level.runs()
        )));
    }
    if answer.end == LimitSearchEnd::TimeIsOver {
        out.push_str(&wrap_sentence(&format!(
            "! The budget ended ({:.0} s) before the two ends were close: a longer --budget \
             narrows them.",
            answer.took_s
        )));
    }
    for (number, gave_out) in answer.gave_out.iter().enumerate() {
        let head = if number == 0 { "What gave out" } else { "and" };
        out.push_str(&wrap_sentence(&format!("{head}: {}.", gave_out.words)));
    }
    if let (Some(wanted), Some(passed)) = (answer.at_least, answer.passed) {
        // A String takes whatever is written to it.
        let _ = writeln!(out, "{}", format_limit_verdict(wanted, passed, answer));
    }
    out
}

fn format_limit_headline(answer: &LimitAnswer) -> String {
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
            format!("{} machines at once boot {of}; a greater number was not tried.", held.machines)
        }
        (None, Some(missed)) if answer.end == LimitSearchEnd::AtLeast => {
            format!("Not even {} machines at once boot {of}.", missed.machines)
        }
        (None, _) => {
            format!(
                "No number of machines from {} on had enough runs to say that it boots {of}.",
                answer.least
            )
        }
    }
}

fn format_limit_verdict(wanted: u32, passed: bool, answer: &LimitAnswer) -> String {
    match (passed, answer.held, answer.missed) {
        (true, ..) => format!("PASS: at least {wanted} machines"),
        (false, held, Some(missed)) if missed.machines <= wanted => {
            let held = held.map_or("no number".to_owned(), |held| held.machines.to_string());
            format!("FAIL: {wanted} machines are required, {held} held")
        }
        (false, ..) => format!(
            "FAIL: the budget ended before {wanted} machines had held in {} runs",
            answer.repeat
        ),
    }
}
