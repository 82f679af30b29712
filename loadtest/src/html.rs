//! The report as one page: plots, tables, the command. It needs no network and no other file.

mod chart;
mod curves;
mod strip;
mod throughput;
mod waterfall;

use std::fmt::{self, Write};

use chart::{escape_report_text, format_measured_time, spell_stage_class, spell_stage_title};

use crate::json::{ReportDocument, TimeDistribution};
use crate::words;

/// The whole page.
pub(crate) fn build_report_page(report: &ReportDocument) -> String {
    let mut out = String::new();
    // A String takes whatever is written to it.
    let _ = write_report_page(&mut out, report);
    out
}

fn write_report_page(out: &mut String, report: &ReportDocument) -> fmt::Result {
    let headline = words::format_headline(report);
    writeln!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{headline}</title>"
    )?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(
        out,
        "<meta name=\"color-scheme\" content=\"light dark\"><style>\n{}</style></head><body>",
        include_str!("html/page.css")
    )?;
    writeln!(out, "<h1>{headline}</h1>")?;
    writeln!(
        out,
        "<p class=\"under\">{} &middot; {} &middot; seed {}</p>",
        escape_report_text(&report.run.started),
        escape_report_text(&report.run.scenario),
        report.run.seed
    )?;

    // Limits stand above all figures, because with a limit the figures are not the server's speed.
    for limit in &report.limits {
        writeln!(out, "<p class=\"limit\">{}</p>", escape_report_text(limit))?;
    }
    write_summary_tiles(out, report)?;
    writeln!(out, "<section><h2>Where the time went</h2>")?;
    write_stage_legend(out, report)?;
    writeln!(out, "{}</section>", waterfall::draw_waterfall(report))?;
    writeln!(out, "<section><h2>How long each stage took</h2>{}", curves::draw_curves(report))?;
    write_stage_table(out, report)?;
    writeln!(out, "</section>")?;
    writeln!(out, "<section><h2>Megabytes a second</h2>{}", throughput::draw_bytes(report))?;
    writeln!(out, "<h2>Machines done</h2>{}</section>", throughput::draw_machines(report))?;
    write_failures(out, report)?;
    write_oddities(out, report)?;
    writeln!(out, "<section><h2>Every machine, from power-on to its end</h2>")?;
    write_stage_legend(out, report)?;
    writeln!(out, "{}</section>", strip::draw_strip(report))?;
    write_run_details(out, report)?;
    writeln!(out, "<script>\n{}</script></body></html>", include_str!("html/page.js"))
}

/// The figures that readers look for first.
fn write_summary_tiles(out: &mut String, report: &ReportDocument) -> fmt::Result {
    let summary = &report.summary;
    let memory = match summary.server_rss_max_bytes {
        Some(bytes) => format!("{:.0} MB", bytes as f64 / 1e6),
        None => "&ndash;".to_owned(),
    };
    let whole = if summary.firmware { "median boot" } else { "median of all steps" };
    let tiles = [
        (format!("{:.0} MB/s", summary.bytes_per_s / 1e6), "received"),
        (
            if report.boot.count > 0 {
                format_measured_time(report.boot.p50_us)
            } else {
                "&ndash;".to_owned()
            },
            whole,
        ),
        (format_tile_number(summary.slowest_to_median, " &times;"), "slowest to median"),
        (format_tile_number(report.rates.requests_per_s, ""), "requests a second"),
        (summary.failed.to_string(), "failed"),
        (summary.retries.to_string(), "retries"),
        (format_tile_number(report.server_cpu_s_per_gb(), " s"), "server CPU for a GB"),
        (memory, "server memory at most"),
        (format!("{:.0} %", summary.client_busy * 100.0), "generator's core busy"),
    ];
    writeln!(out, "<div class=\"tiles\">")?;
    for (value, name) in tiles {
        writeln!(out, "<div><b>{value}</b><span>{name}</span></div>")?;
    }
    writeln!(out, "</div>")
}

/// A dash without a value.
fn format_tile_number(value: Option<f64>, unit: &str) -> String {
    value.map_or("&ndash;".to_owned(), |value| format!("{value:.2}{unit}"))
}

fn write_stage_legend(out: &mut String, report: &ReportDocument) -> fmt::Result {
    write!(out, "<p class=\"legend\">")?;
    for (stage, _) in report.stages_in_order() {
        write!(
            out,
            "<span><i class=\"{}\"></i>{}</span>",
            spell_stage_class(stage),
            spell_stage_title(stage)
        )?;
    }
    if report.summary.failed > 0 {
        write!(out, "<span><i class=\"failed\"></i>stopped here</span>")?;
    }
    writeln!(out, "</p>")
}

fn write_stage_table(out: &mut String, report: &ReportDocument) -> fmt::Result {
    write!(
        out,
        "<div \
         class=\"wide\"><table>\
         <tr><th>stage<th>count<th>p50<th>p90<th>p99<th>p99.9<th>max<th>retransmits</tr>"
    )?;
    let stages = report
        .stages_in_order()
        .map(|(stage, times)| (spell_stage_class(stage), spell_stage_title(stage), times));
    let spans =
        [("s-none", "to kernel", &report.to_kernel), ("s-boot", "whole boot", &report.boot)];
    let spans = spans.into_iter().map(|(class, name, times)| (class.to_owned(), name, times));
    for (class, name, times) in stages.chain(spans) {
        let TimeDistribution {
            count, p50_us, p90_us, p99_us, p999_us, max_us, retransmits, ..
        } = times;

        // A stage that no machine finished still has the retransmissions of those that gave up in
        // it. The two spans have none.
        if *count == 0 && retransmits.is_none() {
            continue;
        }
        write!(out, "<tr><td><i class=\"{class}\"></i>{name}<td>{count}")?;
        for us in [p50_us, p90_us, p99_us, p999_us, max_us] {
            write!(
                out,
                "<td>{}",
                if *count > 0 { format_measured_time(*us) } else { "&ndash;".to_owned() }
            )?;
        }
        writeln!(
            out,
            "<td>{}</tr>",
            retransmits.map_or(String::new(), |number| number.to_string())
        )?;
    }
    writeln!(out, "</table></div>")
}

fn write_failures(out: &mut String, report: &ReportDocument) -> fmt::Result {
    if report.failures.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "<section><h2>Failures</h2><div class=\"wide\"><table \
         class=\"words\"><tr><th>machines<th>stage<th>cause<th>first machines</tr>"
    )?;
    for failed in &report.failures {
        let (stage, cause) =
            (escape_report_text(&failed.stage), escape_report_text(&failed.describe()));
        let who =
            words::list_failed_machines(report, &failed.cause, &failed.stage, failed.machines)
                .unwrap_or_default();
        writeln!(
            out,
            "<tr><td>{}<td>{stage}<td>{cause}<td>{}</tr>",
            failed.machines,
            escape_report_text(&who)
        )?;
    }
    writeln!(out, "</table></div></section>")
}

fn write_oddities(out: &mut String, report: &ReportDocument) -> fmt::Result {
    if report.oddities.is_empty() {
        return Ok(());
    }
    write!(
        out,
        "<section><h2>Tolerated faults</h2><div class=\"wide\"><table \
         class=\"words\"><tr><th>times<th>fault</tr>"
    )?;
    for odd in &report.oddities {
        writeln!(out, "<tr><td>{}<td>{}</tr>", odd.times, escape_report_text(&odd.what))?;
    }
    writeln!(out, "</table></div></section>")
}

/// The data for a repetition of the run.
fn write_run_details(out: &mut String, report: &ReportDocument) -> fmt::Result {
    let run = &report.run;
    let summary = &report.summary;
    let rows = [
        ("command line", run.command_line.join(" ")),
        ("server", run.server.clone()),
        ("scenario, seed", format!("{}, {}", run.scenario, run.seed)),
        ("began", run.started.clone()),
        ("machine", format!("{}, {} processors, Linux {}", run.processor, run.cpus, run.kernel)),
        ("loadtest", run.loadtest.clone()),
        ("bytes", format!("{}, {}", summary.bytes, summary.proved)),
        ("source addresses", summary.sources.to_string()),
        ("server", format_processor_time(summary.server_cpu_s)),
        ("load generator", format_processor_time(summary.client_cpu_s)),
    ];
    write!(out, "<section><h2>The run</h2><table class=\"words\">")?;
    for (name, value) in rows {
        writeln!(out, "<tr><th>{name}<td>{}</tr>", escape_report_text(&value))?;
    }
    writeln!(out, "</table></section>")
}

fn format_processor_time(seconds: Option<f64>) -> String {
    seconds.map_or("not measured".to_owned(), |seconds| format!("{seconds:.2} CPU-s"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::made_up;

    /// Octets of a page of 5,000 machines.
    const PAGE_BYTES_MAX: usize = 1_000_000;

    #[test]
    fn a_page_of_5000_machines_is_one_small_file_that_needs_nothing_else() {
        let page = build_report_page(&made_up(5000));
        assert!(page.len() < PAGE_BYTES_MAX, "{}", page.len());
        for outside in ["http://", "https://", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(outside), "{outside} in the page");
        }
        for words in [
            "<title>4500 of 5000 machines booted in 5.00 s",
            "Where the time went",
            "&lt;k&gt;",
            "the load generator was the limit",
        ] {
            assert!(page.contains(words), "no {words:?} in the page");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"), "a position that is no number");
    }

    #[test]
    fn every_element_that_opens_closes() {
        let page = build_report_page(&made_up(50));
        for element in
            ["svg", "section", "g", "path", "div", "table", "title", "script", "style", "p"]
        {
            let opened = page.matches(&format!("<{element}>")).count()
                + page.matches(&format!("<{element} ")).count();
            let closed = page.matches(&format!("</{element}>")).count()
                + if element == "path" { page.matches("/>").count() } else { 0 };
            assert!(closed >= opened, "{element}: {opened} opened, {closed} closed");
        }
    }

    #[test]
    fn a_run_in_which_nothing_happened_has_a_page_too() {
        let mut report = made_up(2);
        report.stages.clear();
        report.series.clear();
        report.machines.clear();
        (report.boot, report.to_kernel) =
            (TimeDistribution::default(), TimeDistribution::default());
        assert!(build_report_page(&report).contains("No machine booted."));
    }
}
