//! Files of the tree that are read for a warning: menus written by hand, and the heads of boot
//! programs.

use ringboot::boot::names::MenuLoader;
use ringboot::boot::pe::BootProgram;
use ringboot::boot::static_menu::find_unattended_defaults;

pub(crate) fn written_by_hand(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().count();
    for loader in [MenuLoader::Pxelinux, MenuLoader::Grub, MenuLoader::Ipxe] {
        for found in find_unattended_defaults(loader, &text) {
            assert!((1..=lines).contains(&found.line), "line {} of {lines}", found.line);
            assert!(!found.argument.is_empty(), "{found:?}");
        }
    }
}

pub(crate) fn program(bytes: &[u8]) {
    let program = BootProgram::detect(bytes);
    assert!(!program.describe().is_empty());
    assert_eq!(program == BootProgram::Empty, bytes.is_empty());
}
