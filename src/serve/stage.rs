//! Which step of a boot a file belongs to, and which line of the configuration names it.

use super::shelf::FileOrigin;
use crate::boot::menu::MenuEntry;
use crate::images::NameRefusal;
use crate::observe::events::{EventKind, FileDenial, MachineStage};
use crate::snapshot::Snapshot;

/// The stage of a name that was served.
pub(crate) fn stage_of(snapshot: &Snapshot, name: &str, origin: FileOrigin) -> MachineStage {
    match origin {
        FileOrigin::Menu => MachineStage::Menu,
        FileOrigin::Template => MachineStage::AnswerFile,
        FileOrigin::File => rule_for(snapshot, name).map_or(MachineStage::File, |(stage, _)| stage),
    }
}

/// The event for a refused name.
pub(crate) struct RefusedName {
    pub stage: MachineStage,
    pub kind: EventKind,
    /// One sentence.
    pub text: String,
}

/// Describes a refused name. Firmware and loaders ask for many names that do not exist; if a line
/// of the configuration sent the machine to this one, the sentence names that line.
pub(crate) fn refused(
    snapshot: &Snapshot,
    (name, why): (String, String),
    refusal: NameRefusal,
    way: &str,
) -> RefusedName {
    let (stage, rule) = rule_for(snapshot, &name)
        .map_or((MachineStage::File, None), |(stage, rule)| (stage, Some(rule)));
    let asks = rule.as_ref().map_or_else(String::new, |rule| format!("; {rule} asks for it"));
    let (stage, kind) = match refusal {
        NameRefusal::TemplateFailed => (MachineStage::AnswerFile, EventKind::TemplateFailed),
        refusal => (stage, kind_of(name, refusal, rule)),
    };
    RefusedName { stage, kind, text: format!("{way} refused {why}{asks}") }
}

fn kind_of(name: String, refusal: NameRefusal, rule: Option<String>) -> EventKind {
    let why = match refusal {
        NameRefusal::NotFound => return EventKind::Missing { name, rule },
        NameRefusal::TemplateFailed => return EventKind::TemplateFailed,
        NameRefusal::ReadFailed | NameRefusal::TooMany | NameRefusal::Busy => {
            return EventKind::Failed;
        }
        NameRefusal::AboveRoot | NameRefusal::ControlCharacter => FileDenial::BadName,
        NameRefusal::Hidden => FileDenial::Hidden,
        NameRefusal::OutsideRoot => FileDenial::OutsideRoot,
        NameRefusal::NotRegular => FileDenial::NotAFile,
        NameRefusal::Unreadable => FileDenial::Unreadable,
        NameRefusal::Private => FileDenial::Private,
        NameRefusal::TooLarge => FileDenial::TooLarge,
    };
    EventKind::Denied { name, why }
}

/// The first line of the configuration that names this file, with its stage.
fn rule_for(snapshot: &Snapshot, name: &str) -> Option<(MachineStage, String)> {
    let boot = &snapshot.dhcp.boot;
    let loaders = [
        ("bios", &boot.bios),
        ("uefi-x64", &boot.uefi_x64),
        ("uefi-ia32", &boot.uefi_ia32),
        ("uefi-arm64", &boot.uefi_arm64),
        ("uefi-http", &boot.uefi_http),
        ("ipxe", &boot.ipxe),
    ];
    for (key, file) in loaders {
        if file.as_deref().is_some_and(|file| is_same_path(file, name)) {
            return Some((MachineStage::Loader, format!("[boot] {key}")));
        }
    }
    let mut entries = snapshot.menu.iter().flat_map(|menu| &menu.entries);
    entries.find_map(|entry| find_entry_key(entry, name))
}

/// The key of a menu entry that names this file, with its stage.
fn find_entry_key(entry: &MenuEntry, name: &str) -> Option<(MachineStage, String)> {
    // An installer gets the URL of its answer file in an argument such as `inst.ks=URL` (B-15).
    let mut words = entry.arguments.split([' ', '=', ',']);
    let (stage, key) = if is_same_path(&entry.kernel, name) {
        (MachineStage::Kernel, "kernel")
    } else if entry.initrds.iter().any(|initrd| is_same_path(initrd, name)) {
        (MachineStage::Initrd, "initrd")
    } else if words.any(|word| word.contains('/') && is_same_path(word, name)) {
        (MachineStage::AnswerFile, "arguments")
    } else {
        return None;
    };
    Some((stage, format!("{key} of the menu entry `{}`", entry.label)))
}

fn is_same_path(configured: &str, name: &str) -> bool {
    path_of(configured).trim_start_matches('/') == name.trim_start_matches('/')
}

/// The path of an `http://` URL; anything else is a path already.
fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else { return location };
    rest.find('/').map_or("", |slash| &rest[slash..])
}
