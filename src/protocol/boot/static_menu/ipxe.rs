//! iPXE: follows a script as a machine would at which nobody touches a key, as far as that can be
//! told without the machine.

use std::collections::HashMap;

use super::unattended::{Unattended, keyword};
use crate::boot::menu::unattended_argument;

/// Lines that are followed; a script that runs in circles ends here.
const STEPS_MAX: usize = 2_000;

#[derive(Debug)]
struct Run<'t> {
    lines: Vec<&'t str>,
    variables: HashMap<String, String>,
    /// `item` lines of the menu that is being made: the first is the default where `choose` names
    /// none.
    first_item: Option<String>,
    label: String,
    found: Vec<Unattended>,
}

/// What a command does to the way through the script.
enum Next {
    /// On, the command having succeeded or failed.
    On(bool),
    Goto(String),
    End,
}

pub(super) fn unattended_defaults(text: &str) -> Vec<Unattended> {
    let mut run = Run {
        lines: text.lines().collect(),
        variables: HashMap::new(),
        first_item: None,
        label: "(the script)".to_owned(),
        found: Vec::new(),
    };
    let mut at = 0;
    for _ in 0..STEPS_MAX {
        let Some(line) = run.lines.get(at).copied() else { break };
        match run.line(at + 1, line) {
            Next::On(_) => at += 1,
            Next::End => break,
            Next::Goto(label) => {
                let is_label = |line: &&str| {
                    line.trim().strip_prefix(':').is_some_and(|name| name.trim() == label)
                };
                match run.lines.iter().position(is_label) {
                    Some(target) => at = target,
                    None => break,
                }
            }
        }
    }
    run.found
}

impl Run<'_> {
    fn line(&mut self, number: usize, line: &str) -> Next {
        if let Some(label) = line.trim().strip_prefix(':') {
            self.label = label.trim().to_owned();
            return Next::On(true);
        }
        let mut ok = true;
        let mut wanted = true;
        for word in commands(line) {
            match word.as_str() {
                "&&" => wanted = ok,
                "||" => wanted = !ok,
                command if wanted => match self.command(number, command) {
                    Next::On(result) => ok = result,
                    other => return other,
                },
                _ => {}
            }
        }
        Next::On(ok)
    }

    fn command(&mut self, number: usize, command: &str) -> Next {
        let command = self.expand(command);
        let (name, rest) = keyword(&command);
        match name {
            "set" => {
                let (variable, value) = keyword(rest);
                self.variables.insert(variable.to_owned(), value.to_owned());
            }
            "menu" => self.first_item = None,
            "item" => self.item(rest),
            "choose" => self.choose(rest),
            "isset" => return Next::On(!rest.is_empty()),
            "iseq" => {
                let (left, right) = keyword(rest);
                return Next::On(left == right);
            }
            "kernel" | "imgargs" | "chain" | "boot" | "initrd" => {
                if let (true, Some(argument)) = (name != "initrd", unattended_argument(rest)) {
                    let (entry, argument) = (self.label.clone(), argument.to_owned());
                    self.found.push(Unattended { line: number, entry, argument });
                }
                if name == "chain" || name == "boot" {
                    return Next::End;
                }
            }
            "goto" => return Next::Goto(rest.to_owned()),
            "exit" | "sanboot" | "shell" | "reboot" | "poweroff" => return Next::End,
            // Nobody presses a key, nobody logs in.
            "prompt" | "login" => return Next::On(false),
            _ => {}
        }
        Next::On(true)
    }

    fn item(&mut self, rest: &str) {
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

    fn choose(&mut self, rest: &str) {
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

    /// `${name}` by its value, unknown ones by nothing.
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

/// A line in commands and the operators between them.
fn commands(line: &str) -> Vec<String> {
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
