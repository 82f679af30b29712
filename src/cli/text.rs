//! Folds text to the width of the terminal.

/// Breaks lines that are wider than `width` at blanks, and indents the rest of a line.
pub(super) fn fold_lines(text: &str, width: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let indent = line.len() - line.trim_start_matches(' ').len() + FURTHER_IN;
        let mut rest = line;
        let mut room = width;
        while let Some(at) = find_break(rest, room).filter(|_| width > 2 * indent) {
            out.push_str(rest[..at].trim_end());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            rest = rest[at..].trim_start();
            room = width - indent;
        }
        out.push_str(rest);
        out.push('\n');
    }
    out
}

/// Columns by which the rest of a line is indented.
const FURTHER_IN: usize = 4;

/// The byte offset of the last blank within `room` columns, if the line is wider; a longer word
/// stays whole.
fn find_break(line: &str, room: usize) -> Option<usize> {
    let (end, _) = line.char_indices().nth(room)?;
    let text_begins = line.len() - line.trim_start_matches(' ').len();
    let is_break = |at: &usize| *at > text_begins && !line[*at..].trim_start().is_empty();
    line[..end]
        .rfind(' ')
        .filter(is_break)
        .or_else(|| line[end..].find(' ').map(|at| end + at).filter(is_break))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_no_wider_than_the_terminal_and_its_rest_stands_further_in() {
        assert_eq!(fold_lines("one two three\n", 20), "one two three\n");
        assert_eq!(
            fold_lines("one two three four\nfive\n", 12),
            "one two\n    three\n    four\nfive\n"
        );
        assert_eq!(
            fold_lines("  subnet  10.0.0.0/8 by relays", 24),
            "  subnet  10.0.0.0/8 by\n      relays\n"
        );
        assert_eq!(
            fold_lines("a-word-that-is-longer and more", 10),
            "a-word-that-is-longer\n    and\n    more\n"
        );
        assert_eq!(fold_lines("é é é é é é\n", 11), "é é é é é é\n", "columns are characters");
        assert_eq!(fold_lines("too narrow for this", 6), "too narrow for this\n");
        for width in 1..80 {
            let line = "  subnet     192.168.4.0/24 by interface eth1, mode server, SILENT: the \
                        DHCP server answers";
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(words(&fold_lines(line, width)), words(line), "{width}");
        }
    }
}
