//! Which step of a boot a file belongs to, by its place in the configuration.

use super::shelf::Origin;
use crate::observe::events::Stage;
use crate::snapshot::Snapshot;

/// The stage of a name that was served.
pub fn stage_of(snapshot: &Snapshot, name: &str, origin: Origin) -> Stage {
    let same = |configured: &str| path_of(configured).trim_start_matches('/') == name.trim_start_matches('/');
    let boot = &snapshot.boot;
    let mut loaders = [&boot.bios, &boot.uefi_x64, &boot.uefi_ia32, &boot.uefi_arm64, &boot.uefi_http, &boot.ipxe]
        .into_iter()
        .flatten();
    let mut entries = snapshot.menu.iter().flat_map(|menu| &menu.entries);
    match origin {
        Origin::Menu => Stage::Menu,
        Origin::Template => Stage::AnswerFile,
        Origin::File if loaders.any(|loader| same(loader)) => Stage::Loader,
        Origin::File if entries.clone().any(|entry| same(&entry.kernel)) => Stage::Kernel,
        Origin::File if entries.any(|entry| entry.initrds.iter().any(|initrd| same(initrd))) => Stage::Initrd,
        Origin::File => Stage::File,
    }
}

/// The path of an `http://` URL; anything else is a path already.
fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else { return location };
    rest.find('/').map_or("", |slash| &rest[slash..])
}
