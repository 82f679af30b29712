//! A comparison on a terminal: a line for each figure, in 80 columns.

use std::fmt::{self, Write};

use super::figures::{ComparedFigure, DifferenceVerdict, SideComparison};
use crate::width::{TableColumn, TableLayout, count_output_columns, wrap_sentence};

/// The whole comparison as text.
pub(super) fn format_comparison(comparison: &SideComparison) -> String {
    let mut out = String::new();
    // A String takes whatever is written to it.
    let _ = write_comparison_table(&mut out, comparison);
    for note in &comparison.notes {
        out.push_str(&wrap_sentence(&format!("! {note}")));
    }
    out
}

/// Name, median and spread of both sides, ratio, range of ratios, verdict.
const FIGURES: [TableColumn; 8] = [
    TableColumn::text(18, 0),
    TableColumn::number(9, 1),
    TableColumn::number(7, 3),
    TableColumn::number(10, 1),
    TableColumn::number(7, 3),
    TableColumn::number(7, 0),
    TableColumn::text(13, 2),
    TableColumn::text(9, 0),
];

fn write_comparison_table(out: &mut String, comparison: &SideComparison) -> fmt::Result {
    let SideComparison { a, b, .. } = comparison;
    let sides = [a, b].map(|side| format!("{} ({} runs)", side.name, side.runs));
    let [a, b] = sides;
    out.push_str(&wrap_sentence(&format!(
        "A is {a}, B is {b}; medians, and the spread of the runs (apart)"
    )));
    writeln!(out)?;
    let layout = TableLayout::new(&FIGURES, count_output_columns());
    out.write_str(&layout.line(&["figure", "A", "apart", "B", "apart", "B/A", "range", "B is"]))?;
    for figure in &comparison.figures {
        let (left, right) =
            (figure.unit.format_value(figure.a.median), figure.unit.format_value(figure.b.median));
        let ratio = figure.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let range = figure
            .ratio_range
            .map_or(String::new(), |(least, most)| format!("{least:.2}-{most:.2}"));
        let (apart_a, apart_b) = (figure.a.format_spread(), figure.b.format_spread());
        let cells =
            [&figure.name, &left, &apart_a, &right, &apart_b, &ratio, &range].map(String::as_str);
        out.write_str(&layout.line(&[&cells[..], &[spell_difference(figure)]].concat()))?;
    }

    // The two short words of the last column need an explanation where they occur, once.
    for (verdict, words) in
        [(DifferenceVerdict::Noise, NOISE), (DifferenceVerdict::Unknown, TOO_FEW)]
    {
        if comparison.figures.iter().any(|figure| figure.verdict == verdict) {
            write!(out, "\n{}", wrap_sentence(words))?;
        }
    }
    writeln!(out)
}

const NOISE: &str = "noise: the runs of A and B overlap, or the medians differ by less than the \
                     runs of one side: no difference was measured";
const TOO_FEW: &str = "too few: with fewer than 3 runs of each side the noise is unknown";

fn spell_difference(figure: &ComparedFigure) -> &'static str {
    match figure.verdict {
        DifferenceVerdict::Better => "better",
        DifferenceVerdict::Worse => "worse",
        DifferenceVerdict::Noise => "noise",
        DifferenceVerdict::Unknown => "too few",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::tests::made_up;

    #[test]
    fn a_comparison_is_readable_in_80_columns() {
        let faster = || {
            let mut report = made_up(500);
            report.summary.wall_s = 2.5;
            report
        };
        let a = [made_up(500), made_up(500), made_up(500)];
        let comparison = SideComparison::new("A", "B", &a, &[faster(), faster(), faster()]);
        let text = format_comparison(&comparison);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let wall =
            text.lines().find(|line| line.trim_start().starts_with("wall")).unwrap_or_default();
        let words: Vec<_> = wall.split_whitespace().collect();
        assert_eq!(words.join(" "), "wall 5.00 s 0 % 2.50 s 0 % 0.50 0.50-0.50 better");
        assert!(
            text.contains("noise") && text.contains("! A, 3 of 3 runs: the load generator"),
            "{text}"
        );
    }
}
