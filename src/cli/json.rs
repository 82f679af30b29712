//! Texts as JSON writes them, for the `--json` of commands that list things.

use std::fmt::Write;

/// The text in quotation marks (RFC 8259, section 7).
pub(super) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            control if control < ' ' => {
                // A String takes whatever is written to it.
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// `{"key":value,...}`; values are JSON already.
pub(super) fn object(members: &[(&str, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(key, value)| format!("{}:{value}", string(key))).collect();
    format!("{{{}}}", members.join(","))
}

/// `null`, or the text.
pub(super) fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "null".to_owned(), string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_control_characters_are_escaped() {
        assert_eq!(string("a\"b\\c\nü"), "\"a\\\"b\\\\c\\u000aü\"");
        assert_eq!(object(&[("a", string("b")), ("c", optional(None))]), "{\"a\":\"b\",\"c\":null}");
    }
}
