//! The rules of the wire: each is defined once in `docs/rules.md` and has a test that bears its
//! number, or says there why it has none.
//!
//! A test is named after its rule (`t17_…`, `d33_…`, `h1_…`, `b4_…`); `tests/rules.md` lists them.
//! After a change, `RINGBOOT_BLESS=1 cargo test --test rules` writes the list anew.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/rules.md";
const LIST: &str = "tests/rules.md";

/// Where a rule may be named.
const NAMED_IN: [&str; 8] =
    ["src", "loadtest", "tests", "benches", "config", "docs", "README.md", "CHANGELOG.md"];

/// Where a test may bear the number of a rule.
const TESTED_IN: [&str; 2] = ["src", "tests"];

/// The code of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RuleCode {
    letter: char,
    number: u32,
}

impl fmt::Display for RuleCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.letter, self.number)
    }
}

/// A chapter of the page: `## T: TFTP` and the rules below it.
#[derive(Debug)]
struct RuleSection {
    letter: char,
    title: String,
    rules: Vec<RuleEntry>,
}

#[derive(Debug)]
struct RuleEntry {
    code: RuleCode,
    excuse: Option<Excuse>,
}

/// What a rule says in place of a test of its own.
#[derive(Debug, PartialEq, Eq)]
enum Excuse {
    /// `*No test: why.*`
    NoTest(String),
    /// `*Kept by: T-17, T-66.*`: the tests of these rules hold this one too.
    KeptBy(Vec<RuleCode>),
}

/// The names of the tests of each rule, each with its file.
type TestNames = BTreeMap<RuleCode, Vec<String>>;

#[test]
fn every_rule_is_defined_once_and_in_order() {
    let (sections, faults) = read_page(&fs::read_to_string(PAGE).unwrap());
    assert!(faults.is_empty(), "{PAGE}:\n{}", faults.join("\n"));
    // The page is read at all: a section that loses its heading would take its rules with it.
    assert!(sections.len() >= 5 && sections.iter().all(|section| section.rules.len() >= 10));
}

#[test]
fn every_code_that_a_file_names_is_defined() {
    let (sections, _) = read_page(&fs::read_to_string(PAGE).unwrap());
    let files = texts_in(&NAMED_IN);
    let undefined = undefined_codes(&sections, &files);
    assert!(undefined.is_empty(), "not in {PAGE}:\n{}", undefined.join("\n"));
    let named: usize = files.iter().map(|(_, text)| codes_in(&sections, text).len()).sum();
    assert!(named > 500, "only {named} codes were found in {} files", files.len());
}

#[test]
fn every_rule_has_a_test_or_a_reason_and_the_list_is_up_to_date() {
    let (sections, _) = read_page(&fs::read_to_string(PAGE).unwrap());
    let tests = tests_by_rule(&sections, &texts_in(&TESTED_IN));
    let faults = coverage_faults(&sections, &tests);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let list = write_list(&sections, &tests);
    if std::env::var_os("RINGBOOT_BLESS").is_some() {
        fs::write(LIST, &list).unwrap();
    }
    let kept = fs::read_to_string(LIST).unwrap_or_default();
    let new: Vec<&str> =
        list.lines().filter(|line| !kept.lines().any(|other| other == *line)).collect();
    let old: Vec<&str> =
        kept.lines().filter(|line| !list.lines().any(|other| other == *line)).collect();
    assert!(
        kept == list,
        "{LIST} is out of date, RINGBOOT_BLESS=1 writes it; new: {new:#?} old: {old:#?}"
    );
}

// --- the page ---

/// The rules of the page, and what is wrong with how they stand there.
fn read_page(page: &str) -> (Vec<RuleSection>, Vec<String>) {
    let headings = page.lines().filter_map(|line| read_heading(line.strip_prefix("## ")?));
    let letters: Vec<char> = headings.map(|(letter, _)| letter).collect();
    let mut sections: Vec<RuleSection> = Vec::new();
    let mut faults = Vec::new();
    for (place, line) in page.lines().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            match read_heading(heading) {
                Some((letter, _)) if sections.iter().any(|section| section.letter == letter) => {
                    faults.push(format!("line {}: a second section {letter}", place + 1));
                }
                Some((letter, title)) => {
                    sections.push(RuleSection {
                        letter,
                        title: title.to_owned(),
                        rules: Vec::new(),
                    });
                }
                None => faults
                    .push(format!("line {}: a section without its letter: {heading}", place + 1)),
            }
        } else if line.starts_with("- ") {
            let Some((code, text)) = read_item(line, page.lines().skip(place + 1)) else {
                faults
                    .push(format!("line {}: an item that begins with no code: {line}", place + 1));
                continue;
            };
            let Some(section) = sections.last_mut().filter(|section| section.letter == code.letter)
            else {
                faults.push(format!("{code} does not stand in section {}", code.letter));
                continue;
            };
            let excuse = read_excuse(&text, &letters);
            faults.extend(order_fault(section, code));
            faults.extend(text_fault(code, &text, excuse.as_ref()));
            section.rules.push(RuleEntry { code, excuse });
        }
    }
    (sections, faults)
}

/// Numbers begin with 1 and leave none out.
fn order_fault(section: &RuleSection, code: RuleCode) -> Option<String> {
    if section.rules.iter().any(|rule| rule.code == code) {
        return Some(format!("{code} is defined twice"));
    }
    let next = section.rules.last().map_or(1, |last| last.code.number + 1);
    (code.number != next)
        .then(|| format!("{code} is out of order: {}-{next} comes here", code.letter))
}

/// A rule is a sentence at least, then in parentheses who says so.
fn text_fault(code: RuleCode, text: &str, excuse: Option<&Excuse>) -> Option<String> {
    let parts = text.strip_suffix(')').and_then(|text| text.rsplit_once('('));
    if !parts.is_some_and(|(text, source)| text.contains(' ') && !source.trim().is_empty()) {
        return Some(format!(
            "{code} has no text, or does not end with its sources in parentheses"
        ));
    }
    let has_clause = text.contains("*No test") || text.contains("*Kept by");
    (has_clause != excuse.is_some()).then(|| {
        format!("{code} has a malformed excuse: `*No test: why.*` or `*Kept by: T-1, T-2.*`")
    })
}

/// The letter and the title of `T: TFTP`.
fn read_heading(heading: &str) -> Option<(char, &str)> {
    let (letter, title) = heading.split_once(": ")?;
    let letter = letter.parse().ok().filter(char::is_ascii_uppercase)?;
    Some((letter, title.trim()))
}

/// The code and the text of `- **T-1** text`, which goes on in the lines below that begin with two
/// blanks.
fn read_item<'a>(
    line: &'a str,
    below: impl Iterator<Item = &'a str>,
) -> Option<(RuleCode, String)> {
    let (code, text) = line.strip_prefix("- **")?.split_once("** ")?;
    let (letter, number) = code.split_once('-')?;
    let letter = letter.parse().ok().filter(char::is_ascii_uppercase)?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    let more = below.take_while(|line| line.starts_with("  ")).map(str::trim);
    let text = std::iter::once(text.trim()).chain(more).collect::<Vec<_>>().join(" ");
    Some((RuleCode { letter, number }, text))
}

fn read_excuse(text: &str, letters: &[char]) -> Option<Excuse> {
    let clause = |begin: &str| {
        text.split_once(begin).and_then(|(_, rest)| rest.split_once(".*")).map(|(clause, _)| clause)
    };
    if let Some(why) = clause("*No test: ") {
        // One word is no reason.
        return why.contains(' ').then(|| Excuse::NoTest(why.to_owned()));
    }
    let codes = find_codes(clause("*Kept by: ")?, letters);
    (!codes.is_empty()).then_some(Excuse::KeptBy(codes))
}

// --- the codes ---

/// Every code in a text, of the sections that the page has.
fn codes_in(sections: &[RuleSection], text: &str) -> Vec<RuleCode> {
    let letters: Vec<char> = sections.iter().map(|section| section.letter).collect();
    find_codes(text, &letters)
}

/// `T-35`, but neither a part of a word (`U-Boot`, `BT-5`, `T-5th`) nor of a chain (`01-T-5-x`,
/// `T-5.1`).
fn find_codes(text: &str, letters: &[char]) -> Vec<RuleCode> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    for (place, _) in text.match_indices('-') {
        let Some((&letter, before)) = bytes[..place].split_last() else { continue };
        let letter = char::from(letter);
        if !letters.contains(&letter)
            || before.last().is_some_and(|byte| is_word(byte) || *byte == b'-')
        {
            continue;
        }
        let digits: String = text[place + 1..].chars().take_while(char::is_ascii_digit).collect();
        let goes_on = match &bytes[place + 1 + digits.len()..] {
            [b'-' | b'.', next, ..] | [next, ..] => is_word(next),
            [] => false,
        };
        if let (false, Ok(number)) = (goes_on, digits.parse()) {
            found.push(RuleCode { letter, number });
        }
    }
    found
}

/// Each code that the page does not define, with the line that names it.
fn undefined_codes(sections: &[RuleSection], files: &[(PathBuf, String)]) -> Vec<String> {
    let mut undefined = Vec::new();
    for (path, text) in files {
        for (place, line) in text.lines().enumerate() {
            let unknown = codes_in(sections, line)
                .into_iter()
                .filter(|code| find_rule(sections, *code).is_none());
            undefined
                .extend(unknown.map(|code| format!("{}:{}: {code}", path.display(), place + 1)));
        }
    }
    undefined
}

fn find_rule(sections: &[RuleSection], code: RuleCode) -> Option<&RuleEntry> {
    sections.iter().flat_map(|section| &section.rules).find(|rule| rule.code == code)
}

// --- the tests ---

/// Every function `x12_name` that stands under a test attribute, by rule.
fn tests_by_rule(sections: &[RuleSection], files: &[(PathBuf, String)]) -> TestNames {
    let mut tests = TestNames::new();
    for (path, text) in
        files.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
    {
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[") {
                is_test |= line.contains("test]") || line.contains("test(");
                continue;
            }
            let declared = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            // A property's functions stand inside `proptest! {`, where the attribute is written
            // too.
            if let Some(name) =
                declared.filter(|_| is_test).and_then(|rest| rest.split(['(', '<']).next())
                && let Some(code) = rule_of_test(sections, name)
            {
                tests.entry(code).or_default().push(format!("`{name}` ({})", path.display()));
            }
            if !line.starts_with("//") {
                is_test = false;
            }
        }
    }
    tests
}

fn rule_of_test(sections: &[RuleSection], name: &str) -> Option<RuleCode> {
    let letter = name.chars().next()?.to_ascii_uppercase();
    let digits: String = name[1..].chars().take_while(char::is_ascii_digit).collect();
    let is_named_after_rule = name.get(1 + digits.len()..)?.starts_with('_');
    let is_known = sections.iter().any(|section| section.letter == letter);
    let number = digits.parse().ok()?;
    (is_known && is_named_after_rule).then_some(RuleCode { letter, number })
}

/// Rules without a test and without a reason, reasons that are none, and tests of rules that are
/// not defined.
fn coverage_faults(sections: &[RuleSection], tests: &TestNames) -> Vec<String> {
    let mut faults = Vec::new();
    for RuleEntry { code, excuse } in sections.iter().flat_map(|section| &section.rules) {
        match (tests.contains_key(code), excuse) {
            (false, None) => {
                faults.push(format!("{code} has neither a test nor a reason in {PAGE}"))
            }
            (true, Some(_)) => {
                faults.push(format!("{code} has a test, and still says in {PAGE} why it has none"))
            }
            (false, Some(Excuse::KeptBy(others))) => {
                let untested = others.iter().filter(|other| !tests.contains_key(other));
                faults.extend(
                    untested.map(|other| format!("{code} is kept by {other}, which has no test")),
                );
            }
            (true, None) | (false, Some(Excuse::NoTest(_))) => {}
        }
    }
    let undefined = tests.iter().filter(|(code, _)| find_rule(sections, **code).is_none());
    faults.extend(undefined.map(|(code, names)| {
        format!("{code} has a test but is not in {PAGE}: {}", names.join(", "))
    }));
    faults
}

fn write_list(sections: &[RuleSection], tests: &TestNames) -> String {
    let mut list = String::from(
        "# The rules of the wire and their tests\n\n\
         Made by `tests/rules.rs` from [docs/rules.md](../docs/rules.md), which says what each \
         rule is.\n",
    );
    for section in sections {
        write!(list, "\n## {}: {}\n\n", section.letter, section.title).unwrap();
        for RuleEntry { code, excuse } in &section.rules {
            let said = match (tests.get(code), excuse) {
                (Some(names), _) => names.join(", "),
                (None, Some(Excuse::NoTest(why))) => format!("no test: {why}"),
                (None, Some(Excuse::KeptBy(others))) => {
                    format!(
                        "kept by {}",
                        others.iter().map(RuleCode::to_string).collect::<Vec<_>>().join(", ")
                    )
                }
                (None, None) => "no test".to_owned(),
            };
            writeln!(list, "- **{code}** {said}").unwrap();
        }
    }
    list
}

// --- files ---

/// Every text below these files and folders, sorted. What is not UTF-8, such as a capture, names no
/// rule.
fn texts_in(roots: &[&str]) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    for root in roots {
        assert!(Path::new(root).exists(), "{root} is gone: where do its rules stand now?");
        collect_files(Path::new(root), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = fs::read(&path).unwrap();
        String::from_utf8(bytes).ok().map(|text| (path, text))
    };
    paths.into_iter().filter_map(read).collect()
}

fn collect_files(path: &Path, paths: &mut Vec<PathBuf>) {
    // What a fuzzer builds is no part of the repository.
    if path.file_name().is_some_and(|name| name == "target") {
        return;
    }
    if !path.is_dir() {
        return paths.push(path.to_owned());
    }
    for entry in fs::read_dir(path).unwrap() {
        collect_files(&entry.unwrap().path(), paths);
    }
}

// --- the checks can fail ---

/// A page with two rules of a test each, one that others keep, and one without.
const SMALL: &str = "\
# Rules

## X: one

- **X-1** The first rule. (policy)
- **X-2** The second rule goes on
  in a line below. (RFC 1)

## Y: two

- **Y-1** Held elsewhere. *Kept by: X-1,
  X-2.* (policy)
- **Y-2** Later work. *No test: not written yet.* (policy)
";

fn small_tests() -> TestNames {
    let file = "#[test]\nfn x1_a() {}\n#[test]\n// Why.\nfn x2_b() {}\nfn y2_is_no_test() {}\n";
    tests_by_rule(&read_page(SMALL).0, &[(PathBuf::from("a.rs"), file.to_owned())])
}

fn faults_of(page: &str) -> String {
    read_page(page).1.join("; ")
}

#[test]
fn a_sound_page_has_no_fault() {
    let (sections, faults) = read_page(SMALL);
    assert!(faults.is_empty(), "{faults:?}");
    assert_eq!(coverage_faults(&sections, &small_tests()), Vec::<String>::new());
    let list = write_list(&sections, &small_tests());
    let items: Vec<&str> = list.lines().filter(|line| line.starts_with("- ")).collect();
    let expected = [
        "- **X-1** `x1_a` (a.rs)",
        "- **X-2** `x2_b` (a.rs)",
        "- **Y-1** kept by X-1, X-2",
        "- **Y-2** no test: not written yet",
    ];
    assert_eq!(items, expected);
}

#[test]
fn a_rule_that_is_twice_missing_or_out_of_order_is_a_fault() {
    let twice = SMALL.replace("**X-2**", "**X-1**");
    assert_eq!(faults_of(&twice), "X-1 is defined twice");
    let gap = SMALL.replace("**X-2**", "**X-3**");
    assert_eq!(faults_of(&gap), "X-3 is out of order: X-2 comes here");
    let swapped = SMALL
        .replace("**X-1**", "**X-0x**")
        .replace("**X-2**", "**X-1**")
        .replace("**X-0x**", "**X-2**");
    assert!(
        faults_of(&swapped).contains("X-2 is out of order: X-1 comes here"),
        "{}",
        faults_of(&swapped)
    );
    let elsewhere = SMALL.replace("**X-2**", "**Y-2**");
    assert_eq!(faults_of(&elsewhere), "Y-2 does not stand in section Y");
}

#[test]
fn a_page_that_cannot_be_read_is_a_fault() {
    assert!(
        faults_of(&SMALL.replace("## Y: two", "## Two"))
            .contains("a section without its letter: Two")
    );
    assert!(faults_of(&SMALL.replace("## Y: two", "## X: two")).contains("a second section X"));
    assert!(faults_of(&SMALL.replace("**X-1**", "**X1**")).contains("begins with no code"));
    assert!(
        faults_of(&SMALL.replace("first rule. (policy)", "first rule."))
            .contains("X-1 has no text")
    );
    assert!(faults_of(&SMALL.replace("The first rule. ", "")).contains("X-1 has no text"));
    assert!(
        faults_of(&SMALL.replace("not written yet.*", "not written yet*"))
            .contains("Y-2 has a malformed excuse")
    );
    assert!(
        faults_of(&SMALL.replace("not written yet.*", "later.*"))
            .contains("Y-2 has a malformed excuse")
    );
    assert!(
        faults_of(&SMALL.replace("X-1,\n  X-2.*", "nobody.*"))
            .contains("Y-1 has a malformed excuse")
    );
}

#[test]
fn a_rule_without_a_test_and_without_a_reason_is_a_fault() {
    let (sections, _) = read_page(&SMALL.replace(" *No test: not written yet.*", ""));
    let faults = coverage_faults(&sections, &small_tests());
    assert_eq!(faults, [format!("Y-2 has neither a test nor a reason in {PAGE}")]);
}

#[test]
fn a_reason_beside_a_test_or_with_an_untested_rule_is_a_fault() {
    let tested = SMALL.replace("The first rule.", "The first rule. *No test: not written yet.*");
    let faults = coverage_faults(&read_page(&tested).0, &small_tests());
    assert_eq!(faults, [format!("X-1 has a test, and still says in {PAGE} why it has none")]);
    let leans_on_nothing = SMALL.replace("*Kept by: X-1,\n  X-2.*", "*Kept by: Y-2, X-7.*");
    let faults = coverage_faults(&read_page(&leans_on_nothing).0, &small_tests());
    assert_eq!(
        faults,
        ["Y-1 is kept by Y-2, which has no test", "Y-1 is kept by X-7, which has no test"]
    );
}

#[test]
fn a_test_of_a_rule_that_is_not_defined_is_a_fault() {
    let (sections, _) = read_page(SMALL);
    let file = "#[test]\nfn x1_a() {}\n#[test]\nfn x2_b() {}\n#[tokio::test]\nasync fn x9_c() {}\n";
    let tests = tests_by_rule(&sections, &[(PathBuf::from("a.rs"), file.to_owned())]);
    let faults = coverage_faults(&sections, &tests);
    assert_eq!(faults, [format!("X-9 has a test but is not in {PAGE}: `x9_c` (a.rs)")]);
}

#[test]
fn a_code_that_is_not_defined_is_found_with_its_line() {
    let (sections, _) = read_page(SMALL);
    let text = "fine (X-1, Y-2)\nX-3 to X-4; see `Y-3`, X-2's\n";
    let undefined = undefined_codes(&sections, &[(PathBuf::from("a.md"), text.to_owned())]);
    assert_eq!(undefined, ["a.md:2: X-3", "a.md:2: X-4", "a.md:2: Y-3"]);
}

#[test]
fn only_whole_codes_of_the_pages_own_letters_are_codes() {
    let found = |text| {
        find_codes(text, &['X', 'Y']).iter().map(RuleCode::to_string).collect::<Vec<_>>().join(" ")
    };
    for text in [
        "U-Boot K-1 x-1",
        "AX-1 1X-1 _X-1",
        "X-1th X-1_a X-",
        "01-X-1 X-1-2 X-1.5",
        "X-99999999999",
    ] {
        assert_eq!(found(text), "", "{text}");
    }
    assert_eq!(found("X-1…X-2–X-3 (X-4): X-5. Y-6, X-7"), "X-1 X-2 X-3 X-4 X-5 Y-6 X-7");
}
