//! iPXE: follows a script as a machine without a person at its keyboard would, as far as the script
//! alone shows.

use std::collections::HashMap;

use super::unattended::{UnattendedEntry, split_keyword};
use crate::boot::menu::find_unattended_argument;

/// Lines that are followed, so that a script with a loop ends.
const STEPS_MAX: usize = 2_000;

#[derive(Debug)]
struct ScriptRun<'t> {
    lines: Vec<&'t str>,
    variables: HashMap<String, String>,
    /// The first `item` of the current menu: the default where `choose` names none.
    first_item: Option<String>,
    label: String,
    found: Vec<UnattendedEntry>,
}

/// Where the script goes after a command.
enum CommandEffect {
    /// To the next command; true: this one succeeded.
    Continue(bool),
    Goto(String),
    End,
}

pub(super) fn find_ipxe_defaults(text: &str) -> Vec<UnattendedEntry> {
    let mut run = ScriptRun {
        lines: text.lines().collect(),
        variables: HashMap::new(),
        first_item: None,
        label: "(the script)".to_owned(),
        found: Vec::new(),
    };

    let mut at = 0;
    for _ in 0..STEPS_MAX {
        let Some(line) = run.lines.get(at).copied() else { break };
        match run.run_line(at + 1, line) {
            CommandEffect::Continue(_) => at += 1,
            CommandEffect::End => break,
            CommandEffect::Goto(label) => {
                let target = run.lines.iter().position(|line| {
                    line.trim().strip_prefix(':').is_some_and(|name| name.trim() == label)
                });
                // iPXE ends a script that goes to a label which is not there.
                match target {
                    Some(target) => at = target,
                    None => break,
                }
            }
        }
    }
    run.found
}

impl ScriptRun<'_> {
    fn run_line(&mut self, number: usize, line: &str) -> CommandEffect {
        if let Some(label) = line.trim().strip_prefix(':') {
            self.label = label.trim().to_owned();
            return CommandEffect::Continue(true);
        }
        let mut ok = true;
        let mut wanted = true;
        for word in split_ipxe_commands(line) {
            match word.as_str() {
                "&&" => wanted = ok,
                "||" => wanted = !ok,
                command if wanted => match self.run_command(number, command) {
                    CommandEffect::Continue(result) => ok = result,
                    other => return other,
                },
                _ => {}
            }
        }
        CommandEffect::Continue(ok)
    }

    fn run_command(&mut self, number: usize, command: &str) -> CommandEffect {
        let command = self.expand(command);
        let (name, rest) = split_keyword(&command);
        match name {
            "set" => {
                let (variable, value) = split_keyword(rest);
                self.variables.insert(variable.to_owned(), value.to_owned());
            }
            "menu" => self.first_item = None,
            "item" => self.run_item(rest),
            "choose" => self.run_choose(rest),
            "isset" => return CommandEffect::Continue(!rest.is_empty()),
            "iseq" => {
                let (left, right) = split_keyword(rest);
                return CommandEffect::Continue(left == right);
            }
            "kernel" | "imgargs" | "chain" | "boot" | "initrd" => {
                if let (true, Some(argument)) = (name != "initrd", find_unattended_argument(rest)) {
                    let (entry, argument) = (self.label.clone(), argument.to_owned());
                    self.found.push(UnattendedEntry { line: number, entry, argument });
                }
                if name == "chain" || name == "boot" {
                    return CommandEffect::End;
                }
            }
            "goto" => return CommandEffect::Goto(rest.to_owned()),
            "exit" | "sanboot" | "shell" | "reboot" | "poweroff" => return CommandEffect::End,
            // No person presses a key or logs in.
            "prompt" | "login" => return CommandEffect::Continue(false),
            _ => {}
        }
        CommandEffect::Continue(true)
    }

    fn run_item(&mut self, rest: &str) {
        let mut words = rest.split_whitespace();
        while let Some(word) = words.next() {
            match word {
                "--gap" => return,
                "--key" | "--menu" => drop(words.next()),
                "--default" => {}
                label => {
                    self.first_item.get_or_insert_with(|| label.to_owned());
                    return;
                }
            }
        }
    }

    fn run_choose(&mut self, rest: &str) {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let named = words.iter().position(|word| matches!(*word, "--default" | "-d"));
        let named = named.and_then(|at| words.get(at + 1)).map(ToString::to_string);
        let named = named.or_else(|| {
            words.iter().find_map(|word| word.strip_prefix("--default=")).map(str::to_owned)
        });
        if let (Some(variable), Some(value)) =
            (words.last(), named.or_else(|| self.first_item.clone()))
        {
            self.variables.insert((*variable).to_owned(), value);
        }
    }

    /// Replaces `${name}` by its value, and an unknown name by nothing.
    fn expand(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, tail)) = after.split_once('}') else { break };
            out.push_str(before);
            out.push_str(self.variables.get(name).map_or("", String::as_str));
            rest = tail;
        }
        out + rest
    }
}

/// Splits a line into commands and the operators between them.
fn split_ipxe_commands(line: &str) -> Vec<String> {
    let line = line
        .split_once('#')
        .filter(|(before, _)| before.trim().is_empty())
        .map_or(line, |(before, _)| before);
    let mut commands = vec![String::new()];
    for word in line.split_whitespace() {
        if word == "&&" || word == "||" {
            commands.extend([word.to_owned(), String::new()]);
        } else if let Some(command) = commands.last_mut() {
            command.push_str(if command.is_empty() { "" } else { " " });
            command.push_str(word);
        }
    }
    commands
}
