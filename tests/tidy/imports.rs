//! Which file imports from which, read from the sources alone, and the circles that this makes.
//!
//! An arrow runs from a file to the file that *defines* what it names: through `use` and through
//! paths in the code, and through re-exports to where the definition stands. So a parent that
//! declares its children and hands their names on (`mod`, `pub use`) has no arrow to them, and a
//! child that takes such a name by way of its parent has none to the parent. Parent and child are a
//! circle when each names a definition of the other's own file.
//!
//! Methods are not followed: an `impl` of one type that is spread over several files makes no
//! arrow. Tests are left out.

use std::collections::{BTreeMap, BTreeSet};

/// Files of which each reaches every other one by arrows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    pub files: BTreeSet<String>,
    /// `a.rs -> b.rs: what the first names of the second`.
    pub ties: Vec<String>,
}

/// The circles among these sources: path and text. `roots`: each crate's name, and the folder of
/// its sources.
pub(crate) fn circles(sources: &[(String, String)], roots: &[(&str, &str)]) -> Vec<Circle> {
    let arrows = House::new(sources, roots).arrows();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        arrows.keys().map(|file| (file.as_str(), reach(file, &arrows))).collect();
    let mut circles = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (file, others) in &reached {
        if !others.contains(file) || seen.contains(file) {
            continue;
        }
        let mutual = |other: &&&str| reached.get(**other).is_some_and(|back| back.contains(file));
        let files: BTreeSet<&str> = others.iter().filter(mutual).copied().collect();
        let tie = |from: &str, to: &str| {
            let names = arrows.get(from)?.get(to)?;
            Some(format!(
                "{from} -> {to}: {}",
                names.iter().cloned().collect::<Vec<_>>().join(", ")
            ))
        };
        let ties =
            files.iter().flat_map(|from| files.iter().filter_map(|to| tie(from, to))).collect();
        seen.extend(&files);
        circles.push(Circle { files: files.into_iter().map(str::to_owned).collect(), ties });
    }
    circles
}

/// Each file, the files that it names something of, and what.
type Arrows = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Every file that one can come to from this one.
fn reach<'a>(file: &str, arrows: &'a Arrows) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![file];
    while let Some(at) = open.pop() {
        for next in arrows.get(at).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(next.as_str()) {
                open.push(next);
            }
        }
    }
    reached
}

/// The path of a module or of a definition, beginning with the crate's name.
type Path = Vec<String>;

/// All files of all crates, by the path of the module that each is.
struct House {
    modules: BTreeMap<Path, Module>,
}

#[derive(Default)]
struct Module {
    file: String,
    imports: Vec<Import>,
    /// Paths of two words and more, as the code names them.
    paths: Vec<Path>,
    /// Every word of the code, imports left out.
    words: BTreeSet<String>,
    /// What the file itself defines.
    defined: BTreeSet<String>,
    /// Modules that only tests have.
    test_modules: Vec<String>,
}

/// One name of a `use`.
struct Import {
    /// As it is written; `*` last for everything.
    path: Path,
    /// What it is called here.
    name: String,
    is_public: bool,
}

impl House {
    fn new(sources: &[(String, String)], roots: &[(&str, &str)]) -> Self {
        let mut modules = BTreeMap::new();
        for (file, text) in sources {
            let Some(path) = roots.iter().find_map(|(name, root)| module_path(file, name, root))
            else {
                continue;
            };
            // `lib.rs` comes before the `main.rs` of the same folder, which only starts it.
            modules.entry(path).or_insert_with(|| Module::read(file, text));
        }
        let tests_only: Vec<Path> = modules
            .iter()
            .flat_map(|(path, module)| {
                module
                    .test_modules
                    .iter()
                    .map(move |name| [&path[..], std::slice::from_ref(name)].concat())
            })
            .collect();
        modules.retain(|path, _| !tests_only.iter().any(|test| path.starts_with(test)));
        Self { modules }
    }

    fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (path, module) in &self.modules {
            let handed_on =
                |import: &&Import| import.is_public && !module.words.contains(&import.name);
            let imports = module
                .imports
                .iter()
                .filter(|import| !handed_on(import))
                .map(|import| &import.path);
            for named in imports.chain(&module.paths) {
                let Some((to, name)) =
                    self.absolute(path, named, 0).and_then(|named| self.definition(&named, 0))
                else {
                    continue;
                };
                if to.file != module.file {
                    arrows
                        .entry(module.file.clone())
                        .or_default()
                        .entry(to.file.clone())
                        .or_default()
                        .insert(name);
                }
            }
        }
        arrows
    }

    /// A path as a module names it, from its crate's name on. None: it leads out of these sources.
    fn absolute(&self, module: &[String], named: &[String], depth: u8) -> Option<Path> {
        let (first, rest) = named.split_first()?;
        match first.as_str() {
            "crate" => Some([&module[..1], rest].concat()),
            "self" => Some([module, rest].concat()),
            "super" => {
                let (_, parents) = module.split_last()?;
                let is_there = matches!(rest.first().map(String::as_str), Some("super"));
                if is_there {
                    self.absolute(parents, rest, depth)
                } else {
                    Some([parents, rest].concat())
                }
            }
            _ if self.modules.contains_key(&named[..1]) => Some(named.to_vec()),
            _ if self.modules.contains_key(&[module, &named[..1]].concat()) => {
                Some([module, named].concat())
            }
            _ => {
                let import = self
                    .modules
                    .get(module)?
                    .imports
                    .iter()
                    .find(|import| import.name == *first)?;
                let leads_on = depth < DEPTH_MAX && import.path[..] != named[..1];
                let start = leads_on.then(|| self.absolute(module, &import.path, depth + 1))??;
                Some([&start[..], rest].concat())
            }
        }
    }

    /// The file that defines this, and its name. None for a module: it is named only to name what
    /// is in it.
    fn definition(&self, path: &[String], depth: u8) -> Option<(&Module, String)> {
        let length =
            (1..=path.len()).rev().find(|length| self.modules.contains_key(&path[..*length]))?;
        let (at, rest) = path.split_at(length);
        let module = &self.modules[at];
        let (name, inner) = rest.split_first()?;
        if depth < DEPTH_MAX && !module.defined.contains(name) {
            let mut imports = module.imports.iter();
            if let Some(import) = imports.find(|import| import.name == *name) {
                let leads_to = self.absolute(at, &import.path, depth + 1)?;
                return self.definition(&[&leads_to[..], inner].concat(), depth + 1);
            }
            for import in module.imports.iter().filter(|import| import.name == "*") {
                let from = self.absolute(at, &import.path[..import.path.len() - 1], depth + 1);
                let found = from.filter(|from| {
                    self.modules.get(from).is_some_and(|one| one.defined.contains(name))
                });
                if let Some(from) = found {
                    return Some((&self.modules[&from], name.clone()));
                }
            }
        }
        Some((module, name.clone()))
    }
}

/// Re-exports of re-exports: more of them are a mistake of this reader.
const DEPTH_MAX: u8 = 8;

/// `src/dhcp/lease.rs` is `ringboot::dhcp::lease`, `src/dhcp/mod.rs` is `ringboot::dhcp`,
/// `src/lib.rs` is `ringboot`.
fn module_path(file: &str, name: &str, root: &str) -> Option<Path> {
    let inside = file.strip_prefix(root)?.strip_prefix('/')?.strip_suffix(".rs")?;
    let mut path: Path =
        std::iter::once(name).chain(inside.split('/')).map(str::to_owned).collect();
    let is_face =
        matches!(path.last().map(String::as_str), Some("mod" | "lib")) || inside == "main";
    if is_face {
        path.pop();
    }
    Some(path)
}

impl Module {
    fn read(file: &str, text: &str) -> Self {
        let mut module = Self { file: file.to_owned(), ..Self::default() };
        let tokens = tokens(text);
        let mut at = 0;
        let mut depth = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            let is_path = |token: &str| is_word(token) || token == "::";
            at += if rest.starts_with(TEST_ONLY) {
                module.skip_test(&rest[TEST_ONLY.len()..]) + TEST_ONLY.len()
            } else if rest[0] == "pub" && rest.get(1) == Some(&"(") {
                // `pub(in crate::room)` names a room and imports nothing; the mark stays for a
                // `use` that follows.
                rest.iter().position(|token| *token == ")").unwrap_or(0) + 1
            } else if rest[0] == "use" && rest.get(1) != Some(&"<") {
                let end = rest.iter().position(|token| *token == ";").unwrap_or(rest.len());
                let is_public = at > 0 && matches!(tokens[at - 1], "pub" | ")");
                module.import(&rest[1..end], &[], is_public);
                end + 1
            } else if is_word(rest[0]) {
                let length = rest.iter().take_while(|token| is_path(token)).count();
                let length = rest[..length]
                    .windows(2)
                    .position(|two| is_word(two[0]) && is_word(two[1]))
                    .map_or(length, |at| at + 1);
                let words: Path = rest[..length]
                    .iter()
                    .filter(|token| is_word(token))
                    .map(|word| (*word).to_owned())
                    .collect();
                if depth == 0 && DEFINING.contains(&rest[0]) {
                    module.defined.extend(rest.get(1).map(|name| (*name).to_owned()));
                }
                module.words.extend(words.iter().cloned());
                let is_member = at > 0 && matches!(tokens[at - 1], "." | "::");
                if words.len() > 1 && !is_member {
                    module.paths.push(words);
                }
                length
            } else {
                depth += i32::from(rest[0] == "{") - i32::from(rest[0] == "}");
                1
            };
        }
        module
    }

    /// How many tokens the item has that only tests are made with.
    fn skip_test(&mut self, item: &[&str]) -> usize {
        if let Some(at) = item.iter().position(|token| *token == "mod") {
            let is_file = item.get(at + 2) == Some(&";");
            let declared = is_file && !item[..at].iter().any(|token| matches!(*token, ";" | "{"));
            self.test_modules
                .extend(item.get(at + 1).filter(|_| declared).map(|name| (*name).to_owned()));
        }
        let mut depth = 0;
        for (at, token) in item.iter().enumerate() {
            match *token {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 && matches!(*token, ";" | "}") {
                return at + 1;
            }
        }
        item.len()
    }

    /// The tree of a `use`: `a::{b, c::d as e}`.
    fn import(&mut self, tree: &[&str], before: &[String], is_public: bool) {
        let mut path = before.to_vec();
        for (at, token) in tree.iter().enumerate() {
            match *token {
                "::" => {}
                "{" => {
                    let mut depth = 0;
                    let mut start = at + 1;
                    for (end, token) in tree.iter().enumerate().skip(at) {
                        depth += i32::from(*token == "{") - i32::from(*token == "}");
                        if (depth == 1 && *token == ",") || depth == 0 {
                            let one = &tree[start..end];
                            if !one.is_empty() {
                                self.import(one, &path, is_public);
                            }
                            start = end + 1;
                        }
                        if depth == 0 {
                            return;
                        }
                    }
                }
                "as" => {
                    let name = tree.get(at + 1).copied().unwrap_or("_");
                    return self.add_import(path, Some(name), is_public);
                }
                word => path.push(word.to_owned()),
            }
        }
        self.add_import(path, None, is_public);
    }

    fn add_import(&mut self, mut path: Path, name: Option<&str>, is_public: bool) {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        let Some(last) = path.last() else { return };
        let name = name.unwrap_or(last).to_owned();
        self.imports.push(Import { path, name, is_public });
    }
}

/// `#[cfg(test)]`
const TEST_ONLY: &[&str] = &["#", "[", "cfg", "(", "test", ")", "]"];
const DEFINING: [&str; 8] = ["fn", "struct", "enum", "trait", "const", "static", "type", "union"];

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Words and signs of a source; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(length) = raw_string(rest) {
            length
        } else if first == '"' {
            end_of_quoted(rest, '"')
        } else if first == '\'' && is_character(rest) {
            end_of_quoted(rest, '\'')
        } else {
            let length = if rest.starts_with("::") { 2 } else { word.max(first.len_utf8()) };
            if !first.is_whitespace() {
                tokens.push(&rest[..length]);
            }
            length
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of a raw string that begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.find(|c| c != '#')?;
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", &after[..hashes]);
    let start = text.len() - inside.len();
    Some(inside.find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// A character, and not the name of a lifetime.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    characters.next().is_some_and(|first| first == '\\' || characters.next() == Some('\''))
}

fn end_of_quoted(text: &str, quote: char) -> usize {
    let mut is_escaped = true;
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}
