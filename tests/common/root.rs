//! File trees to serve: Debian's installer and loaders from the installed packages, and files of
//! known content.

use std::path::{Path, PathBuf};

/// Debian 12's netboot installer for x86-64, text variant, with the loaders that Debian ships
/// beside it.
const INSTALLER: &str = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64";
const INSTALLER_PACKAGE: &str = "debian-installer-12-netboot-amd64";
/// iPXE as a UEFI program.
const IPXE: &str = "/usr/lib/ipxe/ipxe.efi";

/// The installer's kernel under the root.
pub const KERNEL: &str = "debian-installer/amd64/linux";
/// The installer's first file system under the root.
pub const INITRD: &str = "debian-installer/amd64/initrd.gz";

/// (source under the installer's directory, name under the root)
const FILES: [(&str, &str); 9] = [
    ("pxelinux.0", "pxelinux.0"),
    ("boot-screens/ldlinux.c32", "ldlinux.c32"),
    ("boot-screens/vesamenu.c32", "vesamenu.c32"),
    ("boot-screens/libcom32.c32", "libcom32.c32"),
    ("boot-screens/libutil.c32", "libutil.c32"),
    // shim, by the name that Debian's netboot archive gives it; it asks for grubx64.efi beside
    // itself (B-10).
    ("bootnetx64.efi", "bootnetx64.efi"),
    ("grubx64.efi", "grubx64.efi"),
    ("linux", KERNEL),
    ("initrd.gz", INITRD),
];

/// Lays out the Debian installer with its loaders as an operator would, without any menu (ringboot
/// renders those) and without GRUB's modules (the signed GRUB carries its own; that it asks for
/// more in vain is normal, B-8). Plain copies: a server must not need to follow any link.
pub fn debian(root: &Path) {
    super::need(&[(INSTALLER, INSTALLER_PACKAGE), (IPXE, "ipxe")]);
    for (source, name) in FILES {
        copy(&Path::new(INSTALLER).join(source), &root.join(name));
    }
    copy(Path::new(IPXE), &root.join("ipxe.efi"));
}

/// The partition of an installed UEFI system, reduced to a signed GRUB that says so and waits.
pub fn installed_disk(dir: &Path, says: &str) {
    copy(&Path::new(INSTALLER).join("grubx64.efi"), &dir.join("EFI/BOOT/BOOTX64.EFI"));
    // Where that GRUB looks for its configuration, on the disk from which it was started.
    write(
        &dir.join("debian-installer/amd64/grub/grub.cfg"),
        format!("echo '{says}'\nsleep 3600\n").as_bytes(),
    );
}

/// A file of `length` bytes whose content depends on its place, so that a lost, doubled or moved
/// block shows.
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

/// What an x86 kernel begins with: a boot sector, one sector of setup, `HdrS`.
pub fn kernel_image() -> Vec<u8> {
    let mut image = vec![0x90; 64 << 10];
    image[0x1f1] = 1;
    image[0x1f4..0x1f8].copy_from_slice(&(((64_u32 << 10) - 1024) >> 4).to_le_bytes());
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image
}

/// Writes a file with its parent directories.
pub fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a file under the root"))
        .expect("a directory under the root");
    std::fs::write(path, content).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn copy(source: &Path, target: &Path) {
    std::fs::create_dir_all(target.parent().expect("a file under the root"))
        .expect("a directory under the root");
    std::fs::copy(source, target).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
}
