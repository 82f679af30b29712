//! Which step of a boot a file belongs to, and which line of the configuration names it.

use super::shelf::Origin;
use crate::boot::menu::Entry;
use crate::images::Refusal;
use crate::observe::events::{Kind, Stage, Weight};
use crate::snapshot::Snapshot;

/// The stage of a name that was served.
pub fn stage_of(snapshot: &Snapshot, name: &str, origin: Origin) -> Stage {
    match origin {
        Origin::Menu => Stage::Menu,
        Origin::Template => Stage::AnswerFile,
        Origin::File => rule_for(snapshot, name).map_or(Stage::File, |(stage, _)| stage),
    }
}

/// What to say of a name that was refused. Firmware and loaders ask for many names that are not there; where a line of the
/// configuration sent the machine to one, that line is told.
pub fn refused(snapshot: &Snapshot, name: String, refusal: Refusal) -> (Stage, Weight, Kind) {
    let (stage, rule) = rule_for(snapshot, &name).map_or((Stage::File, None), |(stage, rule)| (stage, Some(rule)));
    match refusal {
        Refusal::NotFound => (stage, Weight::Detail, Kind::Missing { name, rule }),
        Refusal::TemplateFailed => (Stage::AnswerFile, Weight::Warning, Kind::TemplateFailed),
        _ => (stage, Weight::Warning, Kind::Denied { name }),
    }
}

/// The first line of the configuration that names this file, in words.
fn rule_for(snapshot: &Snapshot, name: &str) -> Option<(Stage, String)> {
    let same = |configured: &str| path_of(configured).trim_start_matches('/') == name.trim_start_matches('/');
    let boot = &snapshot.boot;
    let loaders = [
        ("bios", &boot.bios),
        ("uefi-x64", &boot.uefi_x64),
        ("uefi-ia32", &boot.uefi_ia32),
        ("uefi-arm64", &boot.uefi_arm64),
        ("uefi-http", &boot.uefi_http),
        ("ipxe", &boot.ipxe),
    ];
    let loader = loaders.into_iter().find(|(_, file)| file.as_deref().is_some_and(same));
    let in_entry = |entry: &Entry| {
        let (stage, key) = if same(&entry.kernel) {
            (Stage::Kernel, "kernel")
        } else if entry.initrds.iter().any(|initrd| same(initrd)) {
            (Stage::Initrd, "initrd")
        } else if entry.arguments.split([' ', '=', ',']).any(|word| word.contains('/') && same(word)) {
            (Stage::AnswerFile, "arguments")
        } else {
            return None;
        };
        Some((stage, format!("{key} of the menu entry `{}`", entry.label)))
    };
    loader
        .map(|(key, _)| (Stage::Loader, format!("[boot] {key}")))
        .or_else(|| snapshot.menu.iter().flat_map(|menu| &menu.entries).find_map(in_entry))
}

/// The path of an `http://` URL; anything else is a path already.
fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else { return location };
    rest.find('/').map_or("", |slash| &rest[slash..])
}
