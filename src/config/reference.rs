//! The meaning of each key, read from the comments of the shipped file, the only place where keys
//! are described. The manual page, the table of the documentation and hints use it.
//! [`super::find_value_kind`] has the kind of a key's value.

/// `config/ringboot.toml`, the file of the package.
const SHIPPED: &str = include_str!("../../config/ringboot.toml");
/// Begins the sentence about the value of a key that is not written.
const DEFAULT: &str = "Default: ";
/// The sentence of a key that must be written.
const REQUIRED: &str = "Required.";

/// A table of the file with the comment above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableReference {
    /// `[tftp]`, `[[dhcp.subnet]]`; empty for the keys above all tables.
    pub name: String,
    /// The comment above the table, as paragraphs.
    pub about: String,
    /// Its keys, in the order of the file.
    pub keys: Vec<KeyReference>,
}

/// One key of the shipped file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyReference {
    /// The key as it is written.
    pub name: String,
    /// The default, or an example, as TOML.
    pub value: String,
    /// All sentences of the comment above it.
    pub about: String,
}

impl KeyReference {
    /// True for a key that must be written.
    pub fn is_required(&self) -> bool {
        self.about.contains(REQUIRED)
    }

    /// The value of a key that is not written, in words or as TOML in backquotes.
    pub fn describe_default(&self) -> String {
        match self.about.split_once(DEFAULT) {
            Some((_, rest)) => {
                split_sentences(rest).next().unwrap_or_default().trim_end_matches('.').to_owned()
            }
            None if self.is_required() => "required".to_owned(),
            None => format!("`{}`", self.value),
        }
    }

    /// True where the value in the shipped file is the default.
    pub fn shows_default(&self) -> bool {
        !self.is_required() && !self.about.contains(DEFAULT)
    }

    /// The comment without the sentences about the default.
    pub fn describe_meaning(&self) -> String {
        let kept = split_sentences(&self.about)
            .filter(|sentence| !sentence.starts_with(DEFAULT) && *sentence != REQUIRED);
        kept.collect::<Vec<_>>().join(" ")
    }

    /// The first sentence of the comment.
    pub fn first_sentence(&self) -> String {
        split_sentences(&self.about).next().unwrap_or_default().to_owned()
    }
}

/// Sentences end with a full stop before a capital letter, a quote or a digit.
fn split_sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.match_indices(". ").map(|(at, _)| at + 1).find(|end| {
            let next = rest[*end..].trim_start().chars().next();
            next.is_some_and(|first| {
                first.is_uppercase() || first == '"' || first == '`' || first.is_ascii_digit()
            })
        });
        let (sentence, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after.trim_start();
        (!sentence.is_empty()).then_some(sentence)
    })
}

/// The comment at the beginning of the file, without its first two lines.
pub fn describe_config_file() -> String {
    join_paragraph(SHIPPED.lines().take_while(|line| line.starts_with('#')).skip(2))
}

fn join_paragraph<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut text = String::new();
    for line in lines.filter_map(|line| line.strip_prefix('#')) {
        let line = line.trim();
        text.push_str(if line.is_empty() { "\n\n" } else { " " });
        text.push_str(line);
    }
    text.trim().split("\n\n").map(str::trim).collect::<Vec<_>>().join("\n\n")
}

/// Every table of the shipped file with its keys, in its order.
pub fn read_reference_tables() -> Vec<TableReference> {
    let mut tables = vec![TableReference::default()];
    let mut above: Vec<&str> = Vec::new();
    for line in SHIPPED.lines() {
        // A key that is switched off (`#key = value`) is a key too; other comment lines have a
        // blank there.
        let plain = line.strip_prefix('#').unwrap_or(line);
        let about = || join_paragraph(above.iter().copied());
        if plain.starts_with('[') && plain.ends_with(']') {
            tables.push(TableReference {
                name: plain.to_owned(),
                about: about(),
                keys: Vec::new(),
            });
        } else if let Some((name, value)) =
            plain.split_once(" = ").filter(|(name, _)| is_key_name(name))
        {
            let Some(table) = tables.last_mut() else { continue };
            table.keys.push(KeyReference {
                name: name.to_owned(),
                value: value.to_owned(),
                about: about(),
            });
        } else if line.starts_with('#') {
            above.push(line);
            continue;
        }

        // A comment describes the table or key right below it. A blank line ends it.
        above.clear();
    }
    tables
}

fn is_key_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// `key = value` of the shipped file; None where it has no such key.
pub(super) fn find_key_example(table: &str, name: &str) -> Option<String> {
    let table = read_reference_tables().into_iter().find(|known| known.name == table)?;
    let key = table.keys.into_iter().find(|key| key.name == name)?;
    Some(format!("{name} = {}", key.value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::config::{Config, ConfigPlaces, find_value_kind};

    /// What a table must have before another key of it counts, in its variants: some keys exclude
    /// each other.
    fn around(table: &str) -> Vec<&'static str> {
        let subnet = "[[dhcp.subnet]]\nsubnet = \"192.168.4.0/24\"\nmode = \"server\"\ninterface = \
                      \"eth1\"\n";
        let relayed = "[server]\ninterfaces = [\"eth1\"]\n[[dhcp.subnet]]\nsubnet = \
                       \"192.168.4.0/24\"\nmode = \"server\"\nrelay = true\n";
        match table {
            "" => vec![""],
            "[server]" => vec![
                "[[dhcp.subnet]]\nsubnet = \"192.168.4.0/24\"\nmode = \"server\"\nrelay = \
                 true\n[server]\n",
                "[server]\n",
            ],
            "[tftp]" => vec!["[tftp]\n"],
            "[[tftp.client]]" => {
                vec!["[[tftp.client]]\n", "[[tftp.client]]\nnetwork = \"10.0.0.0/8\"\n"]
            }
            "[http]" => vec!["[http]\n"],
            "[dhcp]" => vec![
                "[[dhcp.subnet]]\nsubnet = \"192.168.4.0/24\"\nmode = \"server\"\nrelay = \
                 true\n[dhcp]\n",
                "[dhcp]\n",
            ],
            "[[dhcp.subnet]]" => vec![subnet, relayed],
            "[[dhcp.subnet.host]]" => vec![concat!(
                "[[dhcp.subnet]]\nsubnet = \"192.168.4.0/24\"\nmode = \"server\"\ninterface = \
                 \"eth1\"\n",
                "[[dhcp.subnet.host]]\nmac = \"52:54:00:12:34:10\"\naddress = \"192.168.4.5\"\n"
            )],
            "[links]" => vec!["[links]\n"],
            "[boot]" => vec!["[boot]\n"],
            "[menu]" => vec!["[menu]\n"],
            "[[menu.entry]]" => {
                vec![
                    "[menu]\n[[menu.entry]]\nlabel = \"rescue\"\nkernel = \
                     \"images/rescue/vmlinuz\"\n",
                ]
            }
            "[[quirk]]" => vec![
                "[[quirk]]\nmac = \"52:54:00:12:34:10\"\nhttp-rate = 1250000\n",
                "[[quirk]]\nhttp-rate = 1250000\n",
                "[[quirk]]\nmac = \"52:54:00:12:34:10\"\nblksize-max = 700\n",
            ],
            "[log]" => vec!["[log]\n"],
            "[tuning]" => vec!["[tuning]\n"],
            other => panic!("{other} is new: what must it have?"),
        }
    }

    /// Everything of a configuration but where it stands; None: it is refused.
    fn meant(lines: &str) -> Option<String> {
        let config = Config::parse(
            "/etc/ringboot/ringboot.toml",
            &format!("root = \"/srv/netboot\"\n{lines}"),
        )
        .ok()?;
        Some(format!("{:?}", Config { places: Arc::new(ConfigPlaces::default()), ..config }))
    }

    #[test]
    fn what_is_said_of_the_file_ends_before_its_first_key() {
        let about = describe_config_file();
        assert!(
            about.starts_with("Unchanged, this file") && about.contains("\n\nA list has"),
            "{about}"
        );
        assert!(!about.contains(REQUIRED), "{about}");
    }

    #[test]
    fn every_key_and_table_says_what_it_is_and_of_which_kind() {
        for table in read_reference_tables() {
            assert!(
                table.name.is_empty() || !table.about.is_empty(),
                "{} has nothing above it",
                table.name
            );
            for key in &table.keys {
                let name = format!("{} {}", table.name, key.name);
                assert!(key.describe_meaning().len() > 10, "{name}: {:?}", key.about);
                let first = key.value.chars().next().unwrap();
                let kind = find_value_kind(&table.name, &key.name);
                let fits = match kind {
                    "text" => first == '"',
                    "number" => first.is_ascii_digit(),
                    "true or false" => ["true", "false"].contains(&key.value.as_str()),
                    "duration" => first == '"' || first.is_ascii_digit(),
                    "text or list of texts" | "list of texts" => first == '[',
                    other => panic!("{name} is of the kind {other:?}"),
                };
                assert!(fits, "{name} = {} is no {kind}", key.value);
            }
        }
    }

    /// What the file shows as a default is what holds without the key, and what it shows as an
    /// example is something else.
    #[test]
    fn defaults_are_the_ones_that_hold() {
        let (mut seen, mut wrong) = (0, Vec::new());
        for table in read_reference_tables() {
            let around = around(&table.name);
            let needs = |key: &KeyReference| {
                around.iter().all(|around| around.contains(&format!("\n{} = ", key.name)))
            };
            for key in table.keys.iter().filter(|key| key.name != "root" && !needs(key)) {
                let line = format!("{} = {}\n", key.name, key.value);
                let both =
                    |around: &&str| Some((meant(around), meant(&format!("{around}{line}"))?));
                let is_default =
                    around.iter().find_map(both).map(|(without, with)| without == Some(with));
                if is_default != Some(key.shows_default()) {
                    wrong.push(format!(
                        "{} {line}is the default: {is_default:?}; {}",
                        table.name, key.about
                    ));
                }
                seen += 1;
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(seen > 70, "{seen}");
    }

    #[test]
    fn a_default_is_a_sentence_and_a_sentence_ends_before_the_next() {
        let key =
            |about: &str| KeyReference { name: "x".into(), value: "8".into(), about: about.into() };
        let said = key(
            "One thing (e.g. this). Default: the address of the interface. Another, 0.5 of it.",
        );
        assert_eq!(said.describe_default(), "the address of the interface");
        assert_eq!(said.describe_meaning(), "One thing (e.g. this). Another, 0.5 of it.");
        assert_eq!(said.first_sentence(), "One thing (e.g. this).");
        assert_eq!(key("One thing.").describe_default(), "`8`");
        assert_eq!(
            (
                key("One thing. Required.").describe_default(),
                key("One thing. Required.").describe_meaning()
            ),
            ("required".into(), "One thing.".into())
        );
    }
}
