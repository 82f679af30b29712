//! The width of the printed text: sentences that wrap, and tables that leave out their least
//! important columns on a narrow terminal.

use std::io;

use terminal_size::{Width, terminal_size_of};

/// The greatest width of a line, however wide the terminal is.
const COLUMNS_MAX: usize = 80;
/// The least width for which lines are made.
const COLUMNS_MIN: usize = 40;

/// Columns of standard output: from COLUMNS, else of the terminal, else 80; never more than 80.
pub(crate) fn count_output_columns() -> usize {
    let terminal = terminal_size_of(io::stdout()).map(|(Width(columns), _)| columns);
    decide_columns(std::env::var("COLUMNS").ok().as_deref(), terminal)
}

fn decide_columns(variable: Option<&str>, terminal: Option<u16>) -> usize {
    let wanted =
        variable.and_then(|columns| columns.trim().parse().ok()).filter(|columns| *columns > 0);
    wanted.or(terminal.map(usize::from)).unwrap_or(COLUMNS_MAX).clamp(COLUMNS_MIN, COLUMNS_MAX)
}

/// Lines that keep to the width of the output, the first indented by two, the others by four.
pub(crate) fn wrap_sentence(sentence: &str) -> String {
    let room = count_output_columns();
    let mut out = String::new();
    let mut line = " ".to_owned();
    for word in sentence.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > room {
            out.push_str(&line);
            out.push('\n');
            line = "   ".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    out + &line + "\n"
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableColumn {
    /// Characters, with the gap to the previous column.
    width: usize,
    /// A narrow table leaves out the columns with the greatest rank first.
    rank: u8,
    /// Text begins at the left, after a gap of two; numbers end at the right.
    is_text: bool,
}

impl TableColumn {
    pub(crate) const fn number(width: usize, rank: u8) -> Self {
        Self { width, rank, is_text: false }
    }

    pub(crate) const fn text(width: usize, rank: u8) -> Self {
        Self { width, rank, is_text: true }
    }
}

/// The columns of a table that fit.
#[derive(Debug)]
pub(crate) struct TableLayout<'a> {
    columns: &'a [TableColumn],
    /// Columns of a greater rank are left out.
    rank_max: u8,
}

/// The width of all columns up to this rank.
fn sum_widths(columns: &[TableColumn], rank_max: u8) -> usize {
    columns.iter().filter(|column| column.rank <= rank_max).map(|column| column.width).sum()
}

impl<'a> TableLayout<'a> {
    pub(crate) fn new(columns: &'a [TableColumn], room: usize) -> Self {
        let most = columns.iter().map(|column| column.rank).max().unwrap_or(0);
        let rank_max =
            (0..=most).rev().find(|rank| sum_widths(columns, *rank) <= room).unwrap_or(0);
        Self { columns, rank_max }
    }

    /// A line of the table, with its end.
    pub(crate) fn line(&self, cells: &[&str]) -> String {
        let mut line = String::new();
        for (column, cell) in
            self.columns.iter().zip(cells).filter(|(column, _)| column.rank <= self.rank_max)
        {
            let width = column.width;
            line += &if column.is_text {
                format!("  {cell:<0$}", width - 2)
            } else {
                format!("{cell:>width$}")
            };
        }
        format!("{}\n", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_width_is_what_columns_says_then_the_terminals_then_80() {
        for (variable, terminal, columns) in [
            (None, None, 80),
            (None, Some(60), 60),
            (Some("50"), Some(60), 50),
            (Some("200"), Some(60), 80),
            (Some("nonsense"), Some(60), 60),
            (Some("0"), None, 80),
            (None, Some(10), 40),
        ] {
            assert_eq!(decide_columns(variable, terminal), columns, "{variable:?} {terminal:?}");
        }
    }

    #[test]
    fn a_table_leaves_out_what_matters_least() {
        let columns = [
            TableColumn::text(8, 0),
            TableColumn::number(6, 2),
            TableColumn::number(6, 1),
            TableColumn::text(6, 0),
        ];
        let line = |room| TableLayout::new(&columns, room).line(&["name", "a", "b", "c"]);
        assert_eq!(line(80), "  name       a     b  c\n");
        assert_eq!(line(25), "  name       b  c\n");
        assert_eq!(line(19), "  name    c\n");
        assert_eq!(line(1), "  name    c\n");
    }

    #[test]
    fn a_long_sentence_goes_on_in_the_next_line() {
        let sentence = "word ".repeat(40);
        let text = wrap_sentence(&sentence);
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.len() <= 80), "{text}");
        assert_eq!(text.split_whitespace().count(), 40);
    }
}
