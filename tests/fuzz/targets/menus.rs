//! Files of the tree that are read for a warning: menus written by hand, and the heads of boot
//! programs.

use ringboot::boot::names::Loader;
use ringboot::boot::pe::Program;
use ringboot::boot::static_menu::unattended_defaults;

pub(crate) fn written_by_hand(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().count();
    for loader in [Loader::Pxelinux, Loader::Grub, Loader::Ipxe] {
        for found in unattended_defaults(loader, &text) {
            assert!((1..=lines).contains(&found.line), "line {} of {lines}", found.line);
            assert!(!found.argument.is_empty(), "{found:?}");
        }
    }
}

pub(crate) fn program(bytes: &[u8]) {
    let program = Program::of(bytes);
    assert!(!program.describe().is_empty());
    assert_eq!(program == Program::Empty, bytes.is_empty());
}
