//! File trees to serve: Debian's installer and boot loaders from the installed packages, and small files of known content.

use std::path::{Path, PathBuf};

/// Debian 12's netboot installer for x86-64, text variant.
const INSTALLER_PACKAGE: &str = "debian-installer-12-netboot-amd64";
/// The installer's kernel under the root.
pub const KERNEL: &str = "debian-installer/amd64/linux";
/// The installer's first file system under the root.
pub const INITRD: &str = "debian-installer/amd64/initrd.gz";

/// Where the files of the tree come from: (source, name under the root, package).
const FILES: [(&str, &str, &str); 10] = [
    ("/usr/lib/PXELINUX/pxelinux.0", "pxelinux.0", "pxelinux"),
    ("/usr/lib/syslinux/modules/bios/ldlinux.c32", "ldlinux.c32", "syslinux-common"),
    ("/usr/lib/syslinux/modules/bios/vesamenu.c32", "vesamenu.c32", "syslinux-common"),
    ("/usr/lib/syslinux/modules/bios/libcom32.c32", "libcom32.c32", "syslinux-common"),
    ("/usr/lib/syslinux/modules/bios/libutil.c32", "libutil.c32", "syslinux-common"),
    // The name that Debian's netboot archive gives to shim; shim asks for grubx64.efi beside itself (B-10).
    ("/usr/lib/shim/shimx64.efi.signed", "bootnetx64.efi", "shim-signed"),
    ("/usr/lib/grub/x86_64-efi-signed/grubnetx64-installer.efi.signed", "grubx64.efi", "grub-efi-amd64-signed"),
    ("/usr/lib/ipxe/ipxe.efi", "ipxe.efi", "ipxe"),
    ("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux", KERNEL, INSTALLER_PACKAGE),
    ("/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/initrd.gz", INITRD, INSTALLER_PACKAGE),
];

/// Lays out the Debian installer with its loaders as an operator would, without any menu (ringboot renders those) and
/// without GRUB's modules (the signed GRUB carries its own; that it asks for more in vain is normal, B-8).
/// Plain copies: a server must not need to follow any link.
pub fn debian(root: &Path) {
    super::need(&FILES.map(|(source, _, package)| (source, package)));
    for (source, name, _) in FILES {
        let target = root.join(name);
        std::fs::create_dir_all(target.parent().expect("a file under the root")).expect("a directory under the root");
        std::fs::copy(source, &target).unwrap_or_else(|error| panic!("{source}: {error}"));
    }
}

/// A file of `length` octets whose content depends on its place, so that a lost, doubled or moved block shows.
pub fn pattern_file(path: &Path, length: usize) -> PathBuf {
    write(path, &pattern(length));
    path.to_owned()
}

/// A fixed pseudo-random sequence (xorshift, 64 bits): no period that a block size could share.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut content = Vec::with_capacity(length + 8);
    while content.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    content.truncate(length);
    content
}

/// Writes a file with its parent directories.
pub fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file under the root")).expect("a directory under the root");
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
