//! Which step of a boot a file belongs to, and which line of the configuration names it.

use super::shelf::FileOrigin;
use crate::boot::menu::Entry;
use crate::images::Refusal;
use crate::observe::events::{Denial, Kind, Stage};
use crate::snapshot::Snapshot;

/// The stage of a name that was served.
pub fn stage_of(snapshot: &Snapshot, name: &str, origin: FileOrigin) -> Stage {
    match origin {
        FileOrigin::Menu => Stage::Menu,
        FileOrigin::Template => Stage::AnswerFile,
        FileOrigin::File => rule_for(snapshot, name).map_or(Stage::File, |(stage, _)| stage),
    }
}

/// A name that was refused, as the log and the timeline are told of it.
pub struct RefusedName {
    pub stage: Stage,
    pub kind: Kind,
    /// One sentence.
    pub text: String,
}

/// What to say of a name that was refused. Firmware and loaders ask for many names that are not
/// there; where a line of the configuration sent the machine to one, that line is told.
pub fn refused(
    snapshot: &Snapshot,
    (name, why): (String, String),
    refusal: Refusal,
    way: &str,
) -> RefusedName {
    let (stage, rule) =
        rule_for(snapshot, &name).map_or((Stage::File, None), |(stage, rule)| (stage, Some(rule)));
    let asks = rule.as_ref().map_or_else(String::new, |rule| format!("; {rule} asks for it"));
    let (stage, kind) = match refusal {
        Refusal::TemplateFailed => (Stage::AnswerFile, Kind::TemplateFailed),
        refusal => (stage, kind_of(name, refusal, rule)),
    };
    RefusedName { stage, kind, text: format!("{way} refused {why}{asks}") }
}

fn kind_of(name: String, refusal: Refusal, rule: Option<String>) -> Kind {
    let why = match refusal {
        Refusal::NotFound => return Kind::Missing { name, rule },
        Refusal::TemplateFailed => return Kind::TemplateFailed,
        Refusal::ReadFailed | Refusal::TooMany | Refusal::Busy => return Kind::Failed,
        Refusal::DotDot | Refusal::ControlCharacter => Denial::BadName,
        Refusal::Hidden => Denial::Hidden,
        Refusal::OutsideRoot => Denial::OutsideRoot,
        Refusal::NotRegular => Denial::NotAFile,
        Refusal::Unreadable => Denial::Unreadable,
        Refusal::Private => Denial::Private,
        Refusal::TooLarge => Denial::TooLarge,
    };
    Kind::Denied { name, why }
}

/// The first line of the configuration that names this file, in words.
fn rule_for(snapshot: &Snapshot, name: &str) -> Option<(Stage, String)> {
    let same = |configured: &str| {
        path_of(configured).trim_start_matches('/') == name.trim_start_matches('/')
    };
    let boot = &snapshot.dhcp.boot;
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
        } else if entry
            .arguments
            .split([' ', '=', ','])
            .any(|word| word.contains('/') && same(word))
        {
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
