//! The code itself is tidy: who may import whom, where `unsafe` may stand, what pure rooms may not
//! name.
#![allow(clippy::unwrap_used)]

#[path = "tidy/imports.rs"]
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imports::circles;

/// Each room with the rooms below it that it may name. `cli` may name every room.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("http", &["model"]),
    ("boot", &["model"]),
    ("tftp", &["model"]),
    ("dhcp", &["boot", "model"]),
    ("snapshot", &["boot", "dhcp", "model"]),
    ("observe", &["boot", "model"]),
    ("images", &["observe"]),
    ("engine", &["images", "model"]),
    ("template", &["dhcp", "model"]),
    ("render", &["template", "engine"]),
    ("store", &["boot", "dhcp", "engine", "observe", "model"]),
    ("guard", &["engine", "observe"]),
    ("config", &["boot", "dhcp", "http", "snapshot", "model"]),
    (
        "serve",
        &[
            "engine", "images", "render", "template", "store", "snapshot", "dhcp", "tftp", "http",
            "boot", "observe", "model",
        ],
    ),
    (
        "control",
        &[
            "config", "guard", "store", "render", "template", "engine", "images", "snapshot",
            "dhcp", "boot", "observe", "model",
        ],
    ),
    ("fleet", &["engine", "tftp", "dhcp", "boot", "observe", "model"]),
    (
        "api",
        &[
            "serve", "control", "fleet", "config", "store", "engine", "snapshot", "dhcp", "boot",
            "observe", "model",
        ],
    ),
    (
        "setup",
        &[
            "api", "control", "serve", "config", "guard", "store", "render", "engine", "images",
            "snapshot", "dhcp", "tftp", "http", "observe",
        ],
    ),
];

/// Rooms that are functions of their input.
const PURE: &[&str] = &["model", "boot", "tftp", "dhcp", "http", "template"];

/// What would make a pure room depend on the world.
const WORLD: &[&str] = &[
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "std::fs",
    "File::",
    "Instant::now",
    "SystemTime::now",
    "std::thread",
    "thread::",
    "io_uring",
    "tokio",
    "std::env",
    "rusqlite",
    "println!",
    "eprintln!",
];

/// Crates by the name that code calls them, each with the folder of its sources: inner ones first.
const CRATES: &[(&str, &str)] = &[
    ("ringboot_protocol", "src/protocol"),
    ("ringboot_observe", "src/observe"),
    ("ringboot_io", "src/io"),
    ("ringboot_fleet", "src/fleet"),
    ("ringboot", "src"),
    ("loadtest", "loadtest/src"),
];

/// Where rooms stand.
const FLOORS: &[&str] = &["src", "src/protocol", "src/io"];

/// Crates that the protocol crate does not link: what would let it know the world.
const WORLD_CRATES: &[&str] =
    &["libc", "tokio", "rustix", "socket2", "io-uring", "memmap2", "rusqlite", "hyper", "tracing"];

/// Rooms in which `unsafe` may stand, each with its proof.
const UNSAFE_ROOMS: &[&str] = &["engine", "images"];

/// What `rustfmt.toml` makes of code; comments and texts are wrapped by hand.
const WIDTH_MAX: usize = 100;

#[test]
fn rooms_import_only_along_the_arrows() {
    let mut wrong = Vec::new();
    for (room, allowed) in ARROWS {
        for (path, text) in sources_of(room) {
            for named in rooms_named(&text) {
                if named != *room && !allowed.contains(&named.as_str()) {
                    wrong.push(format!("{}: {room} may not name crate::{named}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Rooms stand on floors: what a room may name has its own arrows above it in the table, and is
/// named somewhere.
#[test]
fn arrows_go_down_and_each_is_used() {
    let mut wrong = Vec::new();
    for (at, (room, allowed)) in ARROWS.iter().enumerate() {
        let named: Vec<String> =
            sources_of(room).iter().flat_map(|(_, text)| rooms_named(text)).collect();
        for below in *allowed {
            if !ARROWS[..at].iter().any(|(name, _)| name == below) {
                wrong.push(format!(
                    "{room} -> {below} runs up: {below} stands after {room} in the table"
                ));
            }
            if !named.iter().any(|name| name == below) {
                wrong.push(format!("{room} -> {below} is allowed, and no file needs it"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever reads a file can read what it rests on first. `tests/tidy/imports.rs` says what makes an
/// arrow between two files.
#[test]
fn files_have_no_circle_of_imports() {
    let sources = ["src", "loadtest/src"].iter().flat_map(|root| rust_files(Path::new(root)));
    let sources: Vec<(String, String)> = sources
        .map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap()))
        .collect();
    assert!(sources.len() > 300, "{}", sources.len());
    let found = circles(&sources, CRATES);
    let wrong: Vec<String> = found.iter().map(|circle| circle.ties.join("\n  ")).collect();
    assert!(
        wrong.is_empty(),
        "circles of files that import from each other:\n  {}",
        wrong.join("\n\n  ")
    );
}

fn circle_of(sources: &[(&str, &str)]) -> Vec<Vec<String>> {
    let sources: Vec<_> =
        sources.iter().map(|(file, text)| ((*file).to_owned(), (*text).to_owned())).collect();
    let found = circles(&sources, CRATES);
    found.into_iter().map(|circle| circle.files.into_iter().collect()).collect()
}

#[test]
fn a_circle_of_imports_is_found_however_it_is_written() {
    let b = ("src/b.rs", "use super::c::Thing;\npub struct Other;\n");
    for names in [
        "use crate::b::Other;",
        "use super::{b::{self, Other as Mine}, d};",
        "fn f() -> crate::b::Other { todo() }",
        "use super::b;\nfn f() -> b::Other { b::f() }",
        "use crate::b::*;",
        "pub(crate) use crate::b::Other;\nfn f(_: Other) {}",
        "use crate::door::Other;",
        "#[cfg(test)]\nuse std::fs;\nuse crate::b::Other;",
    ] {
        let c = format!("{names}\npub struct Thing;\n");
        let door = ("src/door/mod.rs", "pub use super::b::*;\n");
        assert_eq!(circle_of(&[b, ("src/c.rs", &c), door]), [["src/b.rs", "src/c.rs"]], "{names}");
    }
    let three = [
        ("loadtest/src/main.rs", "mod a;\nmod b;\npub fn start() { a::run() }\n"),
        ("loadtest/src/a.rs", "pub fn run() { crate::b::run() }\n"),
        ("loadtest/src/b.rs", "use crate::start;\npub fn run() { start() }\n"),
    ];
    assert_eq!(
        circle_of(&three),
        [["loadtest/src/a.rs", "loadtest/src/b.rs", "loadtest/src/main.rs"]]
    );
}

#[test]
fn what_is_no_circle_of_imports_is_not_called_one() {
    let b = ("src/b.rs", "use super::c::Thing;\npub struct Other;\n");
    for names in [
        "// use crate::b::Other;",
        "const TEXT: &str = \"use crate::b::Other;\";",
        "const TEXT: &str = r#\"\"; use crate::b::Other; \"#;",
        "const QUOTE: char = '\"'; // use crate::b::Other;",
        "#[cfg(test)]\nmod tests {\n    use crate::b::Other;\n}",
        "#[cfg(test)]\nuse crate::b::Other;",
        "pub use crate::b::Other;",
        "pub(in crate::b) struct Hidden;",
        "use crate::b;",
        "use std::b::Other;",
    ] {
        let c = format!("{names}\npub struct Thing;\n");
        assert_eq!(circle_of(&[b, ("src/c.rs", &c)]), Vec::<Vec<String>>::new(), "{names}");
    }
    // A parent that declares and hands on, a child that takes a brother's name by way of its
    // parent, and a module of tests alone.
    let family = [
        ("src/a/mod.rs", "mod b;\nmod c;\n#[cfg(test)]\nmod t;\npub use b::Thing;\n"),
        ("src/a/b.rs", "pub struct Thing;\n"),
        ("src/a/c.rs", "use super::Thing;\nfn f(_: Thing) {}\n"),
        ("src/a/t.rs", "use super::b::Thing;\npub struct Made;\n"),
        ("src/a/b/more.rs", "use crate::a::t::Made;\n"),
    ];
    assert_eq!(circle_of(&family), Vec::<Vec<String>>::new());
    let uses = [family[0].1, "fn f(_: Thing) {}\npub struct Own;\n"].concat();
    let takes = [family[1].1, "use super::Own;\n"].concat();
    assert_eq!(
        circle_of(&[("src/a/mod.rs", &uses), ("src/a/b.rs", &takes)]),
        [["src/a/b.rs", "src/a/mod.rs"]]
    );
}

#[test]
fn every_room_has_its_arrows() {
    let mut rooms = vec!["observe".to_owned(), "fleet".to_owned()];
    for floor in FLOORS {
        let lib = fs::read_to_string(format!("{floor}/lib.rs")).unwrap();
        let declared =
            lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
        rooms.extend(declared.map(str::to_owned));
    }
    assert!(rooms.len() >= 20, "{rooms:?}");
    for room in rooms {
        assert!(
            room == "cli" || ARROWS.iter().any(|(name, _)| *name == room),
            "no arrows for {room}"
        );
    }
}

/// Cargo holds the purity of the protocol crate, and the compiler its safety.
#[test]
fn the_protocol_crate_links_nothing_of_the_world() {
    let manifest = fs::read_to_string("src/protocol/Cargo.toml").unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let dependencies = manifest["dependencies"].as_table().unwrap();
    assert!(dependencies.contains_key("dhcproto"), "{dependencies:?}");
    for name in WORLD_CRATES {
        assert!(!dependencies.contains_key(*name), "src/protocol/Cargo.toml links {name}");
    }
    for floor in ["src/protocol", "src/observe", "src/fleet", "src"] {
        let lib = fs::read_to_string(format!("{floor}/lib.rs")).unwrap();
        assert!(lib.contains("#![forbid(unsafe_code)]"), "{floor}/lib.rs");
    }
}

#[test]
fn pure_rooms_do_not_know_the_world() {
    let mut wrong = Vec::new();
    for room in PURE {
        for (path, text) in sources_of(room) {
            // A file of tests may measure time, as an inline module of tests may.
            if path.ends_with("tests.rs") {
                continue;
            }
            let code = without_tests(&text);
            for (number, line) in code.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in WORLD {
                    if code.contains(word) {
                        wrong.push(format!(
                            "{}:{}: {word} in a pure room",
                            path.display(),
                            number + 1
                        ));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_stands_only_where_its_proof_is_expected() {
    for path in rust_files(Path::new("src")) {
        let room =
            UNSAFE_ROOMS.iter().find(|room| path.starts_with(Path::new("src/io").join(room)));
        let text = fs::read_to_string(&path).unwrap();
        let lifts = text.contains("allow(unsafe_code)");
        let uses = text
            .lines()
            .any(|line| line.split("//").next().unwrap_or_default().contains("unsafe {"));
        assert!(!uses || room.is_some(), "{}: unsafe outside {UNSAFE_ROOMS:?}", path.display());
        assert!(!lifts || path == Path::new("src/io/lib.rs"), "{}: lifts the ban", path.display());
    }
}

#[test]
fn every_file_says_in_its_first_line_what_lives_there() {
    let roots = ["src", "tests", "benches", "loadtest/src"];
    for path in roots.iter().flat_map(|root| rust_files(Path::new(root))) {
        let text = fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! ") && first.len() > 12, "{}: {first:?}", path.display());
    }
}

/// Names of types that stand in several files, each the same idea in each of them.
const SHARED_NAMES: &[(&str, &str)] = &[
    ("Arguments", "what a command takes: `check::Arguments`"),
    ("Command", "the commands below a command: `lease::Command`"),
    ("Packet", "a packet of its protocol: `tftp::packet::Packet`"),
];

/// Who greps for a type finds one definition.
#[test]
fn no_two_types_have_one_name() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in ["src", "loadtest/src"].iter().flat_map(|root| rust_files(Path::new(root))) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if ["tests", "testing", "rules"].contains(&name.as_str()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for name in without_tests(&text).lines().filter_map(defined_type) {
            places.entry(name.to_owned()).or_default().push(path.display().to_string());
        }
    }
    assert!(places.len() > 800, "only {} types are found", places.len());
    let is_agreed = |name: &str| SHARED_NAMES.iter().any(|(shared, _)| *shared == name);
    let shared: Vec<String> = places
        .iter()
        .filter(|(name, files)| files.len() > 1 && !is_agreed(name))
        .map(|(name, files)| format!("{name}: {}", files.join(", ")))
        .collect();
    assert!(shared.is_empty(), "types that share a name:\n{}", shared.join("\n"));
    for (name, _) in SHARED_NAMES {
        assert!(places[*name].len() > 1, "{name} has one definition: take it off the list");
    }
}

/// The name of the type that a line at the left margin defines.
fn defined_type(line: &str) -> Option<&str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    let (keyword, rest) = line.split_once(' ')?;
    let is_type = ["struct", "enum", "trait", "union", "type"].contains(&keyword);
    rest.split(|letter: char| !letter.is_alphanumeric()).next().filter(|_| is_type)
}

#[test]
fn a_definition_of_a_type_is_found_however_visible_it_is() {
    let found = [
        "struct Ring {",
        "pub enum Mode {",
        "pub(super) trait Look {",
        "pub(in crate::a) type Tick = u64;",
    ];
    assert_eq!(found.map(defined_type), ["Ring", "Mode", "Look", "Tick"].map(Some));
    let other =
        ["fn build() {", "    struct Inner;", "impl Ring {", "// struct Ring", "pub use a::Ring;"];
    assert_eq!(other.map(defined_type), [None; 5]);
}

/// A reader sees two files beside each other. The row of a table is as wide as its columns.
#[test]
fn no_line_is_wider_than_a_page() {
    let mut wrong = Vec::new();
    for path in
        ["src", "tests", "benches", "loadtest"].iter().flat_map(|root| rust_files(Path::new(root)))
    {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > WIDTH_MAX && !line.contains(" | ") {
                wrong.push(format!("{}:{}", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "lines over {WIDTH_MAX} columns:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_half_done() {
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("FIX", "ME"),
        concat!("#[ig", "nore"),
    ];
    for path in ["src", "tests", "benches", "loadtest/src"]
        .iter()
        .flat_map(|root| rust_files(Path::new(root)))
    {
        let text = fs::read_to_string(&path).unwrap();
        for word in words {
            assert!(!text.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn every_test_that_the_page_on_security_names_is_there() {
    let page = fs::read_to_string("docs/security.md").unwrap();
    let named: Vec<(&str, &str)> =
        page.split('`').filter_map(|word| word.split_once(".rs::")).collect();
    assert!(named.len() > 40, "{}", named.len());
    for (file, test) in named {
        let text = fs::read_to_string(format!("{file}.rs")).unwrap();
        assert!(text.contains(&format!("fn {test}()")), "{file}.rs has no test {test}");
    }
}

/// Folders of the repository that pages name files in. Folders of `src` are named without it:
/// `engine/stream`.
const NAMED_FOLDERS: [&str; 6] = ["src", "tests", "benches", "loadtest", "docs", "config"];

#[test]
fn every_file_that_a_page_names_is_there() {
    let mut pages: Vec<PathBuf> =
        fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.extend(["README.md", "CHANGELOG.md"].map(PathBuf::from));
    let sources = paths_below(Path::new("src"));
    let (mut named, mut wrong) = (0, Vec::new());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for (line, path) in paths_named(&text, &sources) {
            named += 1;
            if !Path::new(path).exists() && !is_source(path, &sources) {
                wrong.push(format!("{}:{line}: there is no {path}", page.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(named > 200, "only {named} files are named");
}

#[test]
fn files_that_pages_name_are_found_in_text_and_not_in_examples() {
    let sources =
        ["src/engine", "src/engine/udp", "src/engine/udp/ring.rs", "src/http"].map(PathBuf::from);
    let page = "See `engine/udp`, `udp/ring` (and tests/gone.rs::a_test).\n```sh\nls \
                config/x.toml\n```\n\
                HTTP/1.1, /var/lib/src/x, ../docs/log.md, and/or; `docs/*.md`, `benches/run \
                --all`, `engine/tcp`.\n";
    let found = paths_named(page, &sources);
    let expected = [
        (1, "engine/udp"),
        (1, "udp/ring"),
        (1, "tests/gone.rs"),
        (5, "docs"),
        (5, "benches/run"),
        (5, "engine/tcp"),
    ];
    assert_eq!(found, expected);
    let known: Vec<bool> = found.iter().map(|(_, path)| is_source(path, &sources)).collect();
    assert_eq!(known, [true, true, false, false, false, false]);
}

/// Paths outside of fenced examples whose first part is a folder of the repository or of `src`,
/// each with its line. Of a pattern it is the folder that counts.
fn paths_named<'a>(page: &'a str, sources: &[PathBuf]) -> Vec<(usize, &'a str)> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "_./*-".contains(letter);
    let is_folder = |name: &str| {
        let is_room = |path: &PathBuf| path.extension().is_none() && path.ends_with(name);
        // An absolute path begins with no name, and every path ends with none.
        !name.is_empty() && (NAMED_FOLDERS.contains(&name) || sources.iter().any(is_room))
    };
    let mut named = Vec::new();
    let mut is_fenced = false;
    for (place, line) in page.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        if is_fence || is_fenced {
            continue;
        }
        let words = line
            .split(|letter| !is_part(letter))
            .map(|word| word.trim_end_matches(['.', '-', '/']));
        for word in
            words.filter(|word| word.split_once('/').is_some_and(|(folder, _)| is_folder(folder)))
        {
            let plain = word.split('*').next().unwrap_or_default();
            let path = if plain == word {
                word
            } else {
                plain.rsplit_once('/').map_or(plain, |(folder, _)| folder)
            };
            named.push((place + 1, path));
        }
    }
    named
}

/// Whether a file or folder of `src` ends in these parts, with or without `.rs`.
fn is_source(path: &str, sources: &[PathBuf]) -> bool {
    sources.iter().any(|source| source.ends_with(path) || source.with_extension("").ends_with(path))
}

/// Every file and folder below this one.
fn paths_below(folder: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(paths_below(&path));
        }
        paths.push(path);
    }
    paths
}

/// Ratios and tables of `benches/peers` are right for given samples.
#[test]
fn the_comparison_with_other_servers_says_what_its_samples_say() {
    let words = ["-B", "-m", "unittest", "discover", "-s", "benches/peers"];
    let ran = Command::new("python3").args(words).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("\nRan ") && !said.contains("\nRan 0 tests"), "{said}");
}

/// The tables of the README and of `benches/results` are those of the committed samples.
#[test]
fn the_tables_of_the_comparison_are_those_of_its_samples() {
    let words = ["-B", "benches/peers/report.py", "--check", "benches/results/peers.json"];
    let ran = Command::new("python3").args(words).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

/// `eprintln!` panics where standard error is full.
#[test]
fn no_line_of_ours_can_end_a_process_that_nobody_listens_to() {
    for path in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&path).unwrap();
        for word in [concat!("eprint", "ln!("), concat!("eprint", "!(")] {
            assert!(!without_tests(&text).contains(word), "{}: {word}", path.display());
        }
    }
}

/// Where JSON is read or written by keys in quotes, and why.
const UNTYPED_JSON: &[(&str, &str)] = &[(
    "src/api/types/sample.rs",
    "it makes samples of all types for tests, out of their document",
)];

/// JSON has one form, the types of `src/api/types`: the compiler compares who writes a field with
/// who reads it.
#[test]
fn no_json_is_read_or_written_by_keys_in_quotes() {
    let mut wrong = Vec::new();
    let mut excused = BTreeSet::new();
    for path in rust_files(Path::new("src")) {
        let shown = path.display().to_string();
        let found = untyped_json(without_tests(&fs::read_to_string(&path).unwrap()));
        match UNTYPED_JSON.iter().find(|(place, _)| shown.starts_with(place)) {
            Some((place, _)) if !found.is_empty() => drop(excused.insert(*place)),
            Some(_) => {}
            None => wrong.extend(found.iter().map(|line| format!("{shown}:{line}"))),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<&str> = UNTYPED_JSON.iter().map(|(place, _)| *place).collect();
    assert_eq!(excused, all, "left: what needs its exception, right: all exceptions");
}

#[test]
fn keys_in_quotes_are_found_and_lists_of_texts_are_not() {
    for code in [
        "let x = status[\"pid\"];",
        "status[\"a\"][\"b\"]",
        "ask()[\"b\"]",
        "json!({})",
        "use serde_json::{Value, json};",
        "fn f(value: &serde_json::Value) {}",
    ] {
        assert_eq!(untyped_json(code).len(), 1, "{code}");
    }
    for code in ["[\"a\", \"b\"]", "&[\"a\"]", "serde_json::to_string(&x)", "// status[\"pid\"]"] {
        assert_eq!(untyped_json(code), Vec::<String>::new(), "{code}");
    }
}

/// Lines that make or read JSON without a type, each with its number.
fn untyped_json(code: &str) -> Vec<String> {
    let is_index = |line: &str| {
        line.match_indices("[\"").any(|(at, _)| {
            let before = line[..at].chars().next_back();
            before.is_some_and(|last| last.is_alphanumeric() || "_)]?".contains(last))
        })
    };
    let is_untyped = |line: &str| {
        let names_value =
            line.contains("serde_json::") && (line.contains("Value") || line.contains("Map"));
        line.contains("json!(") || names_value || is_index(line)
    };
    let lines = code.lines().enumerate();
    lines
        .filter(|(_, line)| is_untyped(line.split("//").next().unwrap_or_default()))
        .map(|(number, line)| format!("{}: {}", number + 1, line.trim()))
        .collect()
}

/// An operation that is routed otherwise is in no document; one that is not routed is in none
/// either.
#[test]
fn every_operation_of_the_admin_api_is_documented_and_routed() {
    let others = [
        ".route(",
        ".route_service(",
        ".nest(",
        ".nest_service(",
        ".merge(",
        "axum::routing",
        "MethodRouter",
    ];
    let (mut described, mut routed) = (0, 0);
    for (path, text) in sources_of("api") {
        let code = without_tests(&text);
        for word in others {
            assert!(!code.contains(word), "{}: {word}: use .routes(routes!(...))", path.display());
        }
        described += code.matches("#[utoipa::path(").count();
        for handlers in code.split(".routes(routes!(").skip(1) {
            routed += handlers.split(')').next().unwrap_or_default().split(',').count();
        }
    }
    assert_eq!(described, routed, "left: handlers with a description, right: handlers with a path");
    assert!(routed >= 19, "{routed}");
}

fn sources_of(room: &str) -> Vec<(PathBuf, String)> {
    let folders = FLOORS.iter().map(|floor| Path::new(floor).join(room));
    let folder = folders.into_iter().find(|folder| folder.is_dir());
    let paths = rust_files(&folder.unwrap_or_else(|| panic!("there is no room {room}")));
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// Every `crate::room` and every room of a `use crate::{a, b}` in this source, tests left out.
fn rooms_named(text: &str) -> Vec<String> {
    let code: String = without_tests(text)
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect();
    // What the root crate calls `crate::dhcp` is `ringboot_protocol::dhcp` in the crates below it.
    let code = ["ringboot_protocol::", "ringboot_io::"]
        .iter()
        .fold(code, |code, name| code.replace(name, "crate::"))
        .replace("ringboot_observe", "crate::observe")
        .replace("ringboot_fleet", "crate::fleet");
    let mut rooms = Vec::new();
    for part in code.split("crate::").skip(1) {
        let word = |text: &str| {
            text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>()
        };
        match part.strip_prefix('{') {
            Some(group) => {
                let mut depth = 1;
                let mut start = true;
                for (at, character) in group.char_indices() {
                    match character {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => start = true,
                        c if start && c.is_ascii_lowercase() => {
                            rooms.push(word(&group[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
            None => rooms.push(word(part)),
        }
    }
    // `crate::net` in the fleet is a file of its own, no room.
    rooms.retain(|room| ARROWS.iter().any(|(name, _)| name == room));
    rooms
}

/// Unit tests stand last in a file: what comes after their attribute is not part of the room.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return files };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
