//! The HTML page of a directory listing, if the operator switched it on (H-28).

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::limits::LISTING_NAMES_MAX;

/// Bytes that a URL path may contain unencoded.
const ENCODED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Renders a page with these names of a directory; a directory's name ends in `/`. Links are
/// absolute, so they work whether or not the requested URL ends in a slash (the server never
/// redirects, H-13).
pub fn render_directory_page(directory: &[u8], names: &[String]) -> String {
    let mut page = String::with_capacity(256 + 96 * names.len().min(LISTING_NAMES_MAX));
    // The name of a directory is bytes: links keep all of them, and only the title replaces some.
    let base = percent_encode(directory, ENCODED).to_string();
    let base = if base.is_empty() { "/".to_owned() } else { format!("/{base}/") };
    let title = format!("/{}", String::from_utf8_lossy(directory));
    let title = escape_html(&title);
    let _ = write!(
        page,
        "<!doctype html>\n<meta \
         charset=\"utf-8\">\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if let Some(parent) =
        base.strip_suffix('/').and_then(|base| base.rfind('/').map(|slash| &base[..=slash]))
    {
        let _ = writeln!(page, "<li><a href=\"{parent}\">../</a>");
    }

    for name in names.iter().take(LISTING_NAMES_MAX) {
        let href = percent_encode(name.as_bytes(), ENCODED);
        let _ = writeln!(page, "<li><a href=\"{base}{href}\">{}</a>", escape_html(name));
    }
    page.push_str("</ul>\n");
    if names.len() > LISTING_NAMES_MAX {
        let _ = writeln!(page, "<p>{} more are not shown.</p>", names.len() - LISTING_NAMES_MAX);
    }
    page
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h28_names_in_a_listing_are_escaped() {
        let page = render_directory_page(
            b"iso/a b",
            &["<script>&\"'.img".to_owned(), "x?y#z%2f".to_owned(), "sub/".to_owned()],
        );
        assert!(page.contains("<h1>/iso/a b</h1>"), "{page}");
        assert!(page.contains("&lt;script&gt;&amp;&quot;&#39;.img</a>"), "{page}");
        assert!(page.contains("href=\"/iso/a%20b/%3Cscript%3E%26%22%27.img\""), "{page}");
        assert!(page.contains("href=\"/iso/a%20b/x%3Fy%23z%252f\""), "{page}");
        assert!(page.contains("href=\"/iso/a%20b/sub/\""), "{page}");
        assert!(page.contains("<a href=\"/iso/\">../</a>"), "{page}");
        assert!(!page.contains("<script>"), "{page}");
    }

    #[test]
    fn h28_the_root_has_no_parent_and_a_long_listing_says_that_it_is_cut() {
        let names: Vec<String> = (0..LISTING_NAMES_MAX + 7).map(|n| n.to_string()).collect();
        let page = render_directory_page(b"", &names);
        assert!(
            !page.contains("../")
                && page.contains("<h1>/</h1>")
                && page.contains("<p>7 more are not shown.</p>")
        );
        assert!(!render_directory_page(b"", &names[..LISTING_NAMES_MAX]).contains("not shown"));
    }
}
