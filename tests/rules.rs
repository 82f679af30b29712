//! Every rule of the wire has a test that bears its number; `tests/rules.md` lists them.
//!
//! A test is named after its rule (`t17_…`, `d33_…`, `h1_…`, `b4_…`). After a change, `RINGBOOT_BLESS=1 cargo test --test rules`
//! writes the list anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Rules that no test is owed for yet, with the reason.
type NotOwed = &'static [(u32, &'static str)];

/// Each section: its letter, its number of rules, its title.
const SECTIONS: &[(char, u32, &str, NotOwed)] = &[
    ('T', 66, "TFTP", &[]),
    (
        'D',
        74,
        "DHCPv4, PXE, HTTP Boot",
        &[
            (9, "port 4011 comes with ProxyDHCP"),
            (60, "ProxyDHCP is later work"),
            (61, "ProxyDHCP is later work"),
            (62, "ProxyDHCP is later work"),
            (63, "ProxyDHCP is later work"),
            (64, "ProxyDHCP is later work"),
            (65, "ProxyDHCP is later work"),
        ],
    ),
    ('H', 34, "HTTP", &[]),
    ('B', 11, "boot loaders", &[]),
];

const LIST: &str = "tests/rules.md";

#[test]
fn every_rule_has_a_test_and_the_list_is_up_to_date() {
    let tests = tests_by_rule();
    let mut missing = Vec::new();
    let mut list = String::from(
        "# The rules of the wire and their tests\n\nMade by `tests/rules.rs`; a rule without a test fails there.\n",
    );
    for (letter, count, title, not_owed) in SECTIONS {
        write!(list, "\n## {letter}: {title}\n\n").unwrap();
        for number in 1..=*count {
            let named = tests.get(&(*letter, number));
            let reason = not_owed.iter().find(|(rule, _)| *rule == number).map(|(_, reason)| *reason);
            match (named, reason) {
                (Some(named), _) => writeln!(list, "- **{letter}-{number}** {}", named.join(", ")).unwrap(),
                (None, Some(reason)) => writeln!(list, "- **{letter}-{number}** no test: {reason}").unwrap(),
                (None, None) => missing.push(format!("{letter}-{number}")),
            }
        }
    }
    assert!(missing.is_empty(), "rules without a test: {}", missing.join(" "));
    if std::env::var_os("RINGBOOT_BLESS").is_some() {
        fs::write(LIST, &list).unwrap();
    }
    let kept = fs::read_to_string(LIST).unwrap_or_default();
    let new: Vec<&str> = list.lines().filter(|line| !kept.lines().any(|other| other == *line)).collect();
    let old: Vec<&str> = kept.lines().filter(|line| !list.lines().any(|other| other == *line)).collect();
    assert!(kept == list, "{LIST} is out of date, RINGBOOT_BLESS=1 writes it; new: {new:#?} old: {old:#?}");
}

/// Every function `x12_name` that stands under a test attribute, by rule.
fn tests_by_rule() -> BTreeMap<(char, u32), Vec<String>> {
    let mut rules: BTreeMap<(char, u32), Vec<String>> = BTreeMap::new();
    let mut files = Vec::new();
    collect(Path::new("src"), &mut files);
    collect(Path::new("tests"), &mut files);
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[") {
                is_test |= line.contains("test]") || line.contains("test(");
                continue;
            }
            let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            // A property's functions stand inside `proptest! {`, where the attribute is written too.
            if let Some(name) = declared.filter(|_| is_test).and_then(|rest| rest.split(['(', '<']).next())
                && let Some(rule) = rule_of(name)
            {
                rules.entry(rule).or_default().push(format!("`{name}` ({})", file.display()));
            }
            if !line.starts_with("//") {
                is_test = false;
            }
        }
    }
    rules
}

fn rule_of(name: &str) -> Option<(char, u32)> {
    let letter = name.chars().next()?.to_ascii_uppercase();
    let digits: String = name[1..].chars().take_while(char::is_ascii_digit).collect();
    let rest = name.get(1 + digits.len()..)?;
    let known = SECTIONS.iter().any(|(section, ..)| *section == letter);
    (known && rest.starts_with('_')).then_some((letter, digits.parse().ok()?))
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
