//! The exit codes of every command, in one table: `--help`, the manual pages and docs/exit-codes.md
//! are made from it.

/// One command, its codes and when it ends with them.
pub(super) struct Codes {
    /// As it is typed, with an option where that changes the codes.
    pub(super) command: &'static str,
    pub(super) codes: &'static [(u8, &'static str)],
}

/// What holds of every command, beside its own.
pub(super) const ALWAYS: &[(u8, &str)] =
    &[(1, "standard output could not be written"), (2, "the command line is not right")];

const fn of(command: &'static str, codes: &'static [(u8, &'static str)]) -> Codes {
    Codes { command, codes }
}

const UNREADABLE: (u8, &str) = (2, "the configuration cannot be read");

pub(super) const TABLE: &[Codes] = &[
    of(
        "serve",
        &[
            (0, "told to stop, and every transfer came to its end"),
            (
                1,
                "it could not start (a port, a right, the state of another server), a thread ended \
                 by itself, or transfers were cut off",
            ),
            (2, "the configuration cannot be read or served; systemd does not start it again"),
        ],
    ),
    of(
        "check",
        &[
            (0, "no error"),
            (1, "an error, with --strict a warning, or with --live a broken chain or no server"),
            UNREADABLE,
        ],
    ),
    of("loader list", &[(0, "told"), (2, "a configuration was named and cannot be read")]),
    of(
        "status",
        &[
            (0, "a server runs"),
            (1, "no server answers, or it is starting or stopping"),
            UNREADABLE,
        ],
    ),
    of(
        "status --exit-code",
        &[
            (0, "OK: all is well"),
            (
                1,
                "WARNING: a pool is nearly full, the configuration has an error, a change waits \
                 for a restart, a thread was begun again",
            ),
            (
                2,
                "CRITICAL: no server answers, a subnet is silent, its interface is down, a pool is \
                 full, the store fails, a thread stands still",
            ),
            (3, "UNKNOWN: the server cannot be asked"),
        ],
    ),
    of(
        "machines",
        &[
            (0, "told"),
            (1, "with --failed: there is one; or neither server nor history can be asked"),
            UNREADABLE,
        ],
    ),
    of(
        "lease list",
        &[(0, "told"), (1, "neither server nor lease database can be asked"), UNREADABLE],
    ),
    of(
        "lease free",
        &[(0, "done"), (1, "there is nothing to free, or a machine has the address"), UNREADABLE],
    ),
    of("look", &[(0, "told or done"), (1, "no server answers, or it answers no DHCP"), UNREADABLE]),
    of(
        "reload",
        &[
            (0, "published, and in force"),
            (1, "not reloaded: the old configuration stays; or no server answers"),
            UNREADABLE,
            (3, "published, and some of it takes effect after a restart"),
        ],
    ),
    of(
        "why",
        &[(0, "told"), (1, "nobody has heard of the machine, or there is no history"), UNREADABLE],
    ),
    of("quirk list", &[(0, "told"), (1, "neither server nor store can be asked"), UNREADABLE]),
    of("quirk pin", &[(0, "done"), (1, "neither server nor store could keep it"), UNREADABLE]),
    of("quirk forget", &[(0, "done"), (1, "there is no such limit"), UNREADABLE]),
    of(
        "demo",
        &[
            (0, "every machine booted, and no lease was lost or doubled"),
            (1, "one did not, or it was interrupted"),
        ],
    ),
    of("backup", &[(0, "written"), (1, "there is no backup"), UNREADABLE]),
    of("restore", &[(0, "restored"), (1, "nothing was restored"), UNREADABLE]),
    of("completions", &[(0, "printed")]),
    of("man", &[(0, "printed or written"), (1, "the directory could not be written")]),
];

/// The command line, with its codes in the help of each command.
pub(super) fn described(root: clap::Command) -> clap::Command {
    let names: Vec<String> = root.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    names.iter().fold(root, |root, name| with_codes(root, name))
}

fn with_codes(root: clap::Command, name: &str) -> clap::Command {
    root.mut_subcommand(name, |command| {
        let inner: Vec<String> =
            command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
        let command = inner.iter().fold(command, |command, inner| {
            let path = format!("{name} {inner}");
            command.mut_subcommand(inner.clone(), |one| one.after_help(help(&path)))
        });
        if inner.is_empty() { command.after_help(help(name)) } else { command }
    })
}

fn help(path: &str) -> String {
    let mut text = String::new();
    for Codes { command, codes } in TABLE {
        let Some(option) =
            command.strip_prefix(path).filter(|rest| rest.is_empty() || rest.starts_with(" --"))
        else {
            continue;
        };
        let with = if option.is_empty() { String::new() } else { format!(" with{option}") };
        text.push_str(&format!("Exit codes{with}:\n"));
        codes.iter().for_each(|(code, when)| text.push_str(&format!("  {code}  {when}\n")));
    }
    ALWAYS.iter().for_each(|(code, when)| text.push_str(&format!("  {code}  also: {when}\n")));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::CommandFactory;

    use super::*;

    const PAGE: &str = "docs/exit-codes.md";

    /// The table of the page, as the program has it.
    fn table() -> String {
        let mut text = "| command | code | when |\n|---|---|---|\n".to_owned();
        let any = Codes { command: "any", codes: ALWAYS };
        for Codes { command, codes } in std::iter::once(&any).chain(TABLE) {
            codes.iter().for_each(|(code, when)| {
                text.push_str(&format!("| `{command}` | {code} | {when} |\n"))
            });
        }
        text
    }

    #[test]
    fn the_page_has_this_table() {
        let page = std::fs::read_to_string(PAGE).unwrap();
        let begin = page.find("| command |").unwrap();
        let end = page[begin..].find("\n\n").map_or(page.len(), |at| begin + at + 1);
        if std::env::var_os("RINGBOOT_BLESS").is_some() {
            std::fs::write(PAGE, format!("{}{}{}", &page[..begin], table(), &page[end..])).unwrap();
            return;
        }
        assert_eq!(page[begin..end], table(), "RINGBOOT_BLESS=1 writes {PAGE}");
    }

    #[test]
    fn every_command_has_its_codes_in_the_table_and_in_its_help() {
        let mut root = described(super::super::Arguments::command());
        root.build();
        let mut seen = 0;
        for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
            let inner: Vec<&clap::Command> =
                command.get_subcommands().filter(|one| one.get_name() != "help").collect();
            let leaves = if inner.is_empty() { vec![command] } else { inner.clone() };
            for leaf in leaves {
                let path = if inner.is_empty() {
                    leaf.get_name().to_owned()
                } else {
                    format!("{} {}", command.get_name(), leaf.get_name())
                };
                let codes = TABLE
                    .iter()
                    .find(|codes| codes.command == path)
                    .unwrap_or_else(|| panic!("{path} has no codes"));
                let help = leaf.clone().render_help().to_string();
                for (code, when) in codes.codes {
                    let words = when.split_whitespace().next().unwrap();
                    assert!(help.contains(&format!("  {code}  {words}")), "{path} {code}: {help}");
                }
                seen += 1;
            }
        }
        assert_eq!(
            seen,
            TABLE.iter().filter(|codes| !codes.command.contains(" --")).count(),
            "no command too many"
        );
    }
}
