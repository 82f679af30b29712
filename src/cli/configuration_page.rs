//! `ringboot man --configuration`: makes ringboot.toml(5) and the table of keys in
//! docs/configuration.md from the shipped file.

use clap::ValueEnum;
use roff::{Roff, bold, roman};

use crate::config::find_value_kind;
use crate::config::reference::{self, KeyReference, TableReference};

/// The name of the page in a directory of manual pages.
pub(super) const FILE: &str = "ringboot.toml.5";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// The manual page, for `man -l -`
    Roff,
    /// The table of docs/configuration.md
    Markdown,
}

pub(super) fn render_page(format: Format) -> String {
    match format {
        Format::Roff => render_manual(),
        Format::Markdown => render_table(),
    }
}

fn render_manual() -> String {
    let mut page = Roff::new();
    page.control(
        "TH",
        ["ringboot.toml", "5", "", concat!("ringboot ", env!("CARGO_PKG_VERSION")), ""],
    );
    page.control("SH", ["NAME"]);
    page.text([roman("ringboot.toml - the configuration of ringboot(1)")]);
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in reference::describe_config_file().split("\n\n") {
        page.control("PP", []);
        page.text([roman(paragraph)]);
    }
    for table in reference::read_reference_tables() {
        write_table(&mut page, &table);
    }
    page.control("SH", ["FILES"]);
    page.text([
        bold("/etc/ringboot/ringboot.toml"),
        roman(", which \"ringboot check\" checks and \"ringboot reload\" reads again."),
    ]);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("ringboot(1), ringboot-serve(1), ringboot-check(1), ringboot-reload(1)")]);
    page.to_roff()
}

fn write_table(page: &mut Roff, table: &TableReference) {
    page.control("SH", [if table.name.is_empty() { "ABOVE ALL TABLES" } else { &table.name }]);
    if !table.about.is_empty() {
        page.text([roman(table.about.replace("\n\n", " "))]);
    }
    for key in &table.keys {
        page.control("TP", []);
        page.text([bold(&key.name), roman(format!(" = {}", key.value))]);
        page.text([roman(format!("{} {}", key.describe_meaning(), describe_default(table, key)))]);
    }
}

/// "A number; default 8."
fn describe_default(table: &TableReference, key: &KeyReference) -> String {
    let kind = find_value_kind(&table.name, &key.name);
    match (key.is_required(), key.shows_default()) {
        (true, _) => format!("({kind}, required)"),
        (false, true) => format!("({kind}; this is the default)"),
        (false, false) => format!("({kind}; an example. Default: {})", key.describe_default()),
    }
}

fn render_table() -> String {
    let mut text =
        "| table | key | kind | default | what it is |\n|---|---|---|---|---|\n".to_owned();
    for table in reference::read_reference_tables() {
        for key in &table.keys {
            let name =
                if table.name.is_empty() { String::new() } else { format!("`{}`", table.name) };
            let what = key.first_sentence().replace('|', "\\|");
            text.push_str(&format!(
                "| {name} | `{}` | {} | {} | {what} |\n",
                key.name,
                find_value_kind(&table.name, &key.name),
                key.describe_default()
            ));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DOCUMENT: &str = "docs/configuration.md";

    #[test]
    fn the_page_on_the_configuration_has_this_table() {
        let page = std::fs::read_to_string(DOCUMENT).unwrap();
        let begin = page.find("| table | key |").unwrap();
        let end = page[begin..].find("\n\n").map_or(page.len(), |at| begin + at + 1);
        if std::env::var_os("RINGBOOT_BLESS").is_some() {
            std::fs::write(
                DOCUMENT,
                format!("{}{}{}", &page[..begin], render_table(), &page[end..]),
            )
            .unwrap();
            return;
        }
        assert_eq!(page[begin..end], render_table(), "RINGBOOT_BLESS=1 writes {DOCUMENT}");
    }

    #[test]
    fn the_manual_page_has_every_table_and_key() {
        let manual = render_manual();
        for table in reference::read_reference_tables() {
            assert!(
                table.name.is_empty()
                    || manual.contains(&format!(".SH {}", table.name))
                    || manual.contains(&format!(".SH \"{}\"", table.name)),
                "{}: {manual}",
                table.name
            );
            for key in table.keys {
                let name = key.name.replace('-', "\\-");
                assert!(manual.contains(&format!("\\fB{name}\\fR")), "{} {}", table.name, key.name);
            }
        }
    }
}
