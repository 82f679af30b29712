//! The exit codes of every command in one table, for `--help`, the manual pages and
//! docs/exit-codes.md.

/// The exit codes of one command.
pub(super) struct Codes {
    /// The command as it is typed, with an option that changes its codes.
    pub(super) command: &'static str,
    /// Each code and its meaning.
    pub(super) codes: &'static [(u8, &'static str)],
}

/// The codes of every command, besides its own.
pub(super) const ALWAYS: &[(u8, &str)] =
    &[(1, "standard output could not be written"), (2, "the command line is wrong")];

const fn codes_of(command: &'static str, codes: &'static [(u8, &'static str)]) -> Codes {
    Codes { command, codes }
}

const UNREADABLE: (u8, &str) = (2, "the configuration cannot be read");

pub(super) const TABLE: &[Codes] = &[
    codes_of(
        "serve",
        &[
            (0, "it got SIGTERM or SIGINT, and every transfer ended"),
            (
                1,
                "it could not start (a port, a right, the state directory of another server), a \
                 thread ended by itself, or transfers were cut off",
            ),
            (2, "the configuration cannot be read or served; systemd does not restart it"),
        ],
    ),
    codes_of(
        "check",
        &[
            (0, "no error"),
            (1, "an error, with --strict a warning, or with --live a broken chain or no server"),
            UNREADABLE,
        ],
    ),
    codes_of("loader list", &[(0, "printed"), (2, "a configuration was named and cannot be read")]),
    codes_of(
        "status",
        &[
            (0, "a server runs"),
            (1, "no server answers, or it is starting or stopping"),
            UNREADABLE,
        ],
    ),
    codes_of(
        "status --exit-code",
        &[
            (0, "OK: nothing is wrong"),
            (
                1,
                "WARNING: a pool is nearly full, the configuration has an error, a change waits \
                 for a restart, a thread was restarted",
            ),
            (
                2,
                "CRITICAL: no server answers, a subnet is silent, its interface is down, a pool is \
                 full, the store fails, a thread hangs",
            ),
            (3, "UNKNOWN: the server cannot be asked"),
        ],
    ),
    codes_of(
        "machines",
        &[
            (0, "printed"),
            (1, "with --failed: a machine failed; or neither server nor history can be read"),
            UNREADABLE,
        ],
    ),
    codes_of(
        "lease list",
        &[(0, "printed"), (1, "neither server nor lease database can be read"), UNREADABLE],
    ),
    codes_of(
        "lease free",
        &[(0, "done"), (1, "there is nothing to free, or a machine has the address"), UNREADABLE],
    ),
    codes_of(
        "look",
        &[(0, "printed or done"), (1, "no server answers, or it answers no DHCP"), UNREADABLE],
    ),
    codes_of(
        "reload",
        &[
            (0, "the new configuration is in force"),
            (1, "the old configuration stays in force, or no server answers"),
            UNREADABLE,
            (3, "the new configuration is in force, except changes that need a restart"),
        ],
    ),
    codes_of(
        "why",
        &[(0, "printed"), (1, "the machine is unknown, or there is no history"), UNREADABLE],
    ),
    codes_of(
        "quirk list",
        &[(0, "printed"), (1, "neither server nor store can be read"), UNREADABLE],
    ),
    codes_of(
        "quirk pin",
        &[(0, "done"), (1, "neither server nor store could store it"), UNREADABLE],
    ),
    codes_of("quirk forget", &[(0, "done"), (1, "there is no such limit"), UNREADABLE]),
    codes_of(
        "demo",
        &[
            (0, "every machine booted, and no lease was lost or doubled"),
            (1, "a machine or a lease failed, or it was interrupted"),
        ],
    ),
    codes_of("backup", &[(0, "written"), (1, "no backup was written"), UNREADABLE]),
    codes_of("restore", &[(0, "restored"), (1, "nothing was restored"), UNREADABLE]),
    codes_of("completions", &[(0, "printed")]),
    codes_of("man", &[(0, "printed or written"), (1, "the directory could not be written")]),
];

/// Adds the exit codes to the help of each command.
pub(super) fn describe_codes(root: clap::Command) -> clap::Command {
    let names: Vec<String> = root.get_subcommands().map(|one| one.get_name().to_owned()).collect();
    names.iter().fold(root, |root, name| with_codes(root, name))
}

fn with_codes(root: clap::Command, name: &str) -> clap::Command {
    root.mut_subcommand(name, |command| {
        let inner: Vec<String> =
            command.get_subcommands().map(|one| one.get_name().to_owned()).collect();
        let command = inner.iter().fold(command, |command, inner| {
            let path = format!("{name} {inner}");
            command.mut_subcommand(inner.clone(), |one| one.after_help(render_codes(&path)))
        });
        if inner.is_empty() { command.after_help(render_codes(name)) } else { command }
    })
}

fn render_codes(path: &str) -> String {
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
        let mut root = describe_codes(super::super::Arguments::command());
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
