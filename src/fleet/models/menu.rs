//! How a loader reads its menu: the kernel and initrds of the chosen entry.
//!
//! It understands only what a boot menu uses; it is not a shell.

use std::collections::HashMap;

/// The files of an entry. Names are as written in the menu: a path, an `http://` URL, or GRUB's
/// `(http,address)/path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BootChoice {
    pub(crate) kernel: String,
    pub(crate) initrds: Vec<String>,
    /// The kernel's command line.
    pub(crate) arguments: String,
    /// Lines of the menu that name these, from 1; 0 if there is none.
    pub(crate) lines: ChoiceLines,
}

/// The lines of a menu that name the parts of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChoiceLines {
    pub(crate) kernel: usize,
    pub(crate) initrd: usize,
    pub(crate) arguments: usize,
}

/// Labels of a PXELINUX configuration, the default one first.
pub(super) fn list_pxelinux_labels(text: &str) -> Vec<String> {
    let (mut labels, mut default) = (Vec::new(), None);
    for line in text.lines() {
        let (word, rest) = split_first_word(line);
        match word.to_ascii_lowercase().as_str() {
            "label" => labels.push(rest.to_owned()),
            "default" if !rest.contains(".c32") => {
                default = default.or_else(|| Some(rest.to_owned()))
            }
            "menu" if rest.eq_ignore_ascii_case("default") => default = labels.last().cloned(),
            _ => {}
        }
    }
    put_default_first(labels, default.as_deref())
}

/// Ids or titles of a GRUB configuration, the default one first.
pub(super) fn list_grub_labels(text: &str) -> Vec<String> {
    let (mut labels, mut default) = (Vec::new(), None);
    for line in text.lines() {
        let (word, rest) = split_first_word(line);
        match word {
            "menuentry" => {
                let words = split_menu_words(rest);
                let id =
                    words.iter().position(|word| word == "--id").and_then(|at| words.get(at + 1));
                labels.extend(id.or(words.first()).cloned());
            }
            "set" => {
                default = rest
                    .strip_prefix("default=")
                    .map(|value| value.trim_matches(['"', '\'']))
                    .or(default)
            }
            _ => {}
        }
    }

    // `default` has a number, which counts entries from 0, or an id.
    let by_number = default.and_then(|default| labels.get(default.parse::<usize>().ok()?).cloned());
    put_default_first(labels, by_number.as_deref().or(default))
}

/// Labels of an iPXE script's menu, the default one first; none if the script has no menu.
pub(super) fn list_ipxe_labels(text: &str) -> Vec<String> {
    let (mut labels, mut default) = (Vec::new(), None);
    for line in text.lines() {
        let (word, rest) = split_first_word(line);
        match word {
            "item" => {
                let read = IpxeWords::read(rest, ITEM_VALUES);

                // `item --gap` is a line of text, which nobody can choose.
                let is_gap = read.options.iter().any(|(name, _)| matches!(*name, "--gap" | "-g"));
                labels.extend(
                    read.operands.first().filter(|_| !is_gap).map(|label| (*label).to_owned()),
                );
            }
            "choose" => {
                let read = IpxeWords::read(rest, CHOOSE_VALUES);
                default = read
                    .options
                    .iter()
                    .find(|(name, _)| matches!(*name, "--default" | "-d"))
                    .and_then(|(_, value)| *value);
            }
            _ => {}
        }
    }
    put_default_first(labels, default)
}

fn put_default_first(mut labels: Vec<String>, default: Option<&str>) -> Vec<String> {
    if let Some(at) = default.and_then(|default| labels.iter().position(|label| label == default)) {
        let first = labels.remove(at);
        labels.insert(0, first);
    }
    labels
}

/// The parts of a configuration that PXELINUX reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PxelinuxChoice {
    /// The menu program, such as `vesamenu.c32`, if one is named.
    pub(crate) program: Option<String>,
    pub(crate) choice: Option<BootChoice>,
}

/// Reads a PXELINUX configuration for the entry with this label.
pub(crate) fn read_pxelinux_entry(text: &str, label: &str) -> PxelinuxChoice {
    let mut read = PxelinuxChoice::default();
    let mut choice = BootChoice::default();
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        let (word, rest) = split_first_word(line);
        match word.to_ascii_lowercase().as_str() {
            // `default` names either a label or the menu program, whose ending tells it.
            "ui" | "default" if rest.contains(".c32") => {
                read.program = Some(split_first_word(rest).0.to_owned())
            }
            "label" => inside = rest == label,
            "kernel" | "linux" if inside => {
                let (kernel, arguments) = split_first_word(rest);
                kernel.clone_into(&mut choice.kernel);
                add_kernel_arguments(&mut choice, number, arguments);
                choice.lines.kernel = number;
            }
            "initrd" if inside => {
                choice.initrds = rest.split(',').map(str::to_owned).collect();
                choice.lines.initrd = number;
            }
            // `initrd=` in the arguments is the older spelling of `INITRD`: PXELINUX loads these
            // files, too.
            "append" if inside => {
                add_kernel_arguments(&mut choice, number, rest);
                let given =
                    rest.split_whitespace().find_map(|argument| argument.strip_prefix("initrd="));
                if given.is_some() {
                    choice.lines.initrd = number;
                }
                choice.initrds.extend(
                    given.into_iter().flat_map(|names| names.split(',')).map(str::to_owned),
                );
            }
            _ => {}
        }
    }
    read.choice = (!choice.kernel.is_empty()).then_some(choice);
    read
}

/// Reads a GRUB configuration for the entry whose `--id` is this label, or whose title contains it.
pub(crate) fn read_grub_entry(
    text: &str,
    label: &str,
    known: &[(&str, &str)],
) -> Option<BootChoice> {
    let mut variables = ScriptVariables::new(known);
    let mut choice = BootChoice::default();
    let mut inside = false;
    for (number, line) in (1..).zip(text.lines()) {
        let (word, rest) = split_first_word(line);
        match word {
            // Variables count from every line above, whatever entry it is in: this reader follows
            // no branches.
            "set" => variables.assign(rest.split_once('=')),
            "menuentry" => {
                let words = split_menu_words(rest);
                let id =
                    words.iter().position(|word| word == "--id").and_then(|at| words.get(at + 1));
                inside = id.map_or_else(
                    || words.first().is_some_and(|title| title.contains(label)),
                    |id| id == label,
                );
            }
            // Distributions' GRUBs have these other names for the same commands.
            "linux" | "linuxefi" | "linux16" if inside => {
                let (kernel, arguments) = split_first_word(rest);
                choice.kernel = variables.expand(kernel);
                add_kernel_arguments(
                    &mut choice,
                    number,
                    &variables.expand(&split_menu_words(arguments).join(" ")),
                );
                choice.lines.kernel = number;
            }
            "initrd" | "initrdefi" | "initrd16" if inside => {
                choice.lines.initrd = number;
                choice.initrds =
                    rest.split_whitespace().map(|name| variables.expand(name)).collect();
            }
            "}" => inside = false,
            _ => {}
        }
    }
    (!choice.kernel.is_empty()).then_some(choice)
}

/// What iPXE does at the end of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IpxeEnd {
    Boot(BootChoice),
    /// It runs another script.
    Chain(String),
}

/// Reads an iPXE script for a person who chooses this label in the menu: with the label, from it
/// on.
pub(crate) fn run_ipxe_script(text: &str, label: &str, known: &[(&str, &str)]) -> Option<IpxeEnd> {
    if !text.starts_with("#!ipxe\n") {
        return None;
    }
    let mut variables = ScriptVariables::new(known);
    let marker = format!(":{label}");
    let is_marked = text.lines().any(|line| line.trim() == marker);
    if !is_marked && !list_ipxe_labels(text).is_empty() {
        // A person cannot choose an entry that the menu does not have.
        return None;
    }
    let mut running = !is_marked;
    let mut choice = BootChoice::default();
    for (number, line) in (1..).zip(text.lines()) {
        // `kernel ... || goto failed`: only the first part runs if it succeeds.
        let command = line.split("||").next().unwrap_or_default().trim();
        let (word, rest) = split_first_word(command);
        running |= command == marker;
        match word {
            "set" => variables.assign(rest.split_once(char::is_whitespace)),
            _ if !running => {}
            "kernel" | "initrd" | "chain" | "imgexec" => {
                let name = variables.expand(IpxeWords::read(rest, IMAGE_VALUES).operands.first()?);
                match word {
                    "kernel" => {
                        choice.kernel = name;
                        add_kernel_arguments(&mut choice, number, &variables.expand(rest));
                        choice.lines.kernel = number;
                    }
                    "initrd" => {
                        choice.initrds.push(name);
                        choice.lines.initrd = number;
                    }
                    _ => return Some(IpxeEnd::Chain(name)),
                }
            }
            "boot" if !choice.kernel.is_empty() => return Some(IpxeEnd::Boot(choice)),
            _ => {}
        }
    }
    (!choice.kernel.is_empty()).then_some(IpxeEnd::Boot(choice))
}

fn add_kernel_arguments(choice: &mut BootChoice, line: usize, arguments: &str) {
    if !arguments.is_empty() {
        let blank = if choice.arguments.is_empty() { "" } else { " " };
        choice.arguments.push_str(&format!("{blank}{arguments}"));
        choice.lines.arguments = line;
    }
}

/// Options of iPXE's commands that take a value (its source: src/hci/commands/menu_cmd.c,
/// image_cmd.c).
const ITEM_VALUES: &[&str] = &["--menu", "-m", "--key", "-k"];
const CHOOSE_VALUES: &[&str] = &["--menu", "-m", "--default", "-d", "--timeout", "-t"];
const IMAGE_VALUES: &[&str] = &["--name", "-n", "--timeout", "-t"];

/// The words after a command of iPXE.
#[derive(Debug, Default)]
struct IpxeWords<'a> {
    /// The options, with their values if they have one.
    options: Vec<(&'a str, Option<&'a str>)>,
    operands: Vec<&'a str>,
}

impl<'a> IpxeWords<'a> {
    /// Options end at the first word that is none; for those in `valued` the next word is the
    /// value, unless it follows a `=`.
    fn read(rest: &'a str, valued: &[&str]) -> Self {
        let mut read = Self::default();
        let mut words = rest.split_whitespace();
        while let Some(word) = words.next() {
            if !word.starts_with('-') || !read.operands.is_empty() {
                read.operands.push(word);
            } else if word != "--" {
                let (name, value) =
                    word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
                read.options.push((
                    name,
                    value.or_else(|| valued.contains(&name).then(|| words.next()).flatten()),
                ));
            }
        }
        read
    }
}

/// The first word of a line, and the trimmed rest.
fn split_first_word(line: &str) -> (&str, &str) {
    let line = line.trim();
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (word, rest.trim())
}

/// Words of a line in GRUB's quoting, with `'` and `"`.
fn split_menu_words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// `set name=value` and `$name`, `${name}`.
struct ScriptVariables(HashMap<String, String>);

impl ScriptVariables {
    fn new(known: &[(&str, &str)]) -> Self {
        Self(known.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn assign(&mut self, pair: Option<(&str, &str)>) {
        if let Some((name, value)) = pair {
            let value = self.expand(value.trim().trim_matches(['"', '\'']));
            self.0.insert(name.trim().to_owned(), value);
        }
    }

    /// The text with every variable replaced; an unknown one is empty.
    fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (name, tail) = match after
                .strip_prefix('{')
                .and_then(|braced| braced.split_once('}'))
            {
                Some(split) => split,
                None => after.split_at(
                    after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len()),
                ),
            };
            out.push_str(self.0.get(name).map_or("", String::as_str));
            rest = tail;
        }
        out.push_str(rest);
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn choice(kernel: &str, initrds: &[&str]) -> BootChoice {
        let initrds = initrds.iter().map(|name| (*name).to_owned()).collect();
        BootChoice { kernel: kernel.to_owned(), initrds, ..BootChoice::default() }
    }

    /// Only the names.
    fn plain(choice: Option<BootChoice>) -> Option<BootChoice> {
        choice.map(|choice| BootChoice {
            arguments: String::new(),
            lines: ChoiceLines::default(),
            ..choice
        })
    }

    #[test]
    fn b4_pxelinux_entries_by_label_with_initrd_in_either_place() {
        let text = "DEFAULT vesamenu.c32\nLABEL local\n  LOCALBOOT 0\nLABEL a\n  KERNEL /linux\n  \
                    APPEND initrd=/i1,/i2 quiet\n\
                    label b\n  menu label ^B\n  linux http://127.0.0.1/k\n  initrd \
                    http://127.0.0.1/i\n";
        let read = read_pxelinux_entry(text, "a");
        assert_eq!(read.program.as_deref(), Some("vesamenu.c32"));
        assert_eq!(
            read.choice.as_ref().map(|choice| choice.arguments.as_str()),
            Some("initrd=/i1,/i2 quiet")
        );
        assert_eq!(
            read.choice.as_ref().unwrap().lines,
            ChoiceLines { kernel: 5, initrd: 6, arguments: 6 }
        );
        assert_eq!(list_pxelinux_labels(text), ["local", "a", "b"]);
        assert_eq!(plain(read.choice), Some(choice("/linux", &["/i1", "/i2"])));
        assert_eq!(
            plain(read_pxelinux_entry(text, "b").choice),
            Some(choice("http://127.0.0.1/k", &["http://127.0.0.1/i"]))
        );
        assert_eq!(read_pxelinux_entry(text, "local").choice, None);
    }

    #[test]
    fn b9_grub_entries_by_id_or_title_with_variables() {
        let text = "set timeout=5\nset http='(http,127.0.0.1:8080)'\nmenuentry 'Local disk' --id \
                    local {\n exit\n}\n\
                    menuentry \"Demo system\" --id demo {\n  linux ${http}/k quiet\n  initrd \
                    $http/i /j\n}\n\
                    menuentry 'Other' {\n linux /o\n}\n";
        let http = "(http,127.0.0.1:8080)";
        assert_eq!(
            plain(read_grub_entry(text, "demo", &[])),
            Some(choice(&format!("{http}/k"), &[&format!("{http}/i"), "/j"]))
        );
        assert_eq!(plain(read_grub_entry(text, "Other", &[])), Some(choice("/o", &[])));
        assert_eq!(read_grub_entry(text, "local", &[]), None);
        assert_eq!(list_grub_labels(&format!("set default=1\n{text}")), ["demo", "local", "Other"]);
    }

    #[test]
    fn b11_ipxe_scripts_start_at_octet_0_and_run_from_the_label() {
        let text = "#!ipxe\nset base http://127.0.0.1\nmenu Boot\nitem demo Demo\nchoose target && \
                    goto ${target}\n\
                    :other\nkernel /no\nboot\n:demo\nimgfree\nkernel --name k ${base}/k quiet || \
                    goto failed\n\
                    initrd ${base}/i || goto failed\nboot || goto failed\n:failed\nshell\n";
        let wanted = choice("http://127.0.0.1/k", &["http://127.0.0.1/i"]);
        let Some(IpxeEnd::Boot(booted)) = run_ipxe_script(text, "demo", &[]) else {
            panic!("an entry")
        };
        assert_eq!(plain(Some(booted)), Some(wanted));
        assert_eq!(list_ipxe_labels(text), ["demo"]);
        assert_eq!(run_ipxe_script(&format!(" {text}"), "demo", &[]), None);
        assert_eq!(run_ipxe_script(text, "nosuch", &[]), None, "nobody can pick it");
        let chain = "#!ipxe\nchain --replace menu.ipxe?mac=${mac}\n";
        assert_eq!(
            run_ipxe_script(chain, "demo", &[("mac", "1-2")]),
            Some(IpxeEnd::Chain("menu.ipxe?mac=1-2".to_owned()))
        );
    }

    #[test]
    fn b11_the_label_of_an_ipxe_item_is_what_stands_behind_its_options() {
        let labels = |lines: &str| {
            list_ipxe_labels(&format!(
                "#!ipxe\nmenu x\n{lines}\nchoose --timeout 9 --default b target\n"
            ))
        };
        for (lines, wanted) in [
            ("item a Title", &["a"][..]),
            ("item --key r rescue Rescue", &["rescue"]),
            ("item -k r rescue Rescue\nitem --key=i install - Install", &["rescue", "install"]),
            ("item --gap -- Systems\nitem -g x\nitem --menu other --key 0x1 a", &["a"]),
            ("item a\nitem --default b", &["b", "a"]),
        ] {
            assert_eq!(labels(lines), wanted, "{lines}");
        }
        assert_eq!(
            list_ipxe_labels("#!ipxe\nitem a\nitem b\nchoose --default=b target\n"),
            ["b", "a"]
        );
        let text = "#!ipxe\nitem --key i install Install\nitem --key r rescue Rescue\nchoose \
                    target && goto ${target}\n\
                    :install\nkernel -n k /k1\nboot\n:rescue\nkernel --timeout=9 /k2 -q\ninitrd \
                    --name i /i2\nboot\n";
        for (label, wanted) in
            [("install", choice("/k1", &[])), ("rescue", choice("/k2", &["/i2"]))]
        {
            let Some(IpxeEnd::Boot(booted)) = run_ipxe_script(text, label, &[]) else {
                panic!("{label}")
            };
            assert_eq!(plain(Some(booted)), Some(wanted));
        }
    }
}
