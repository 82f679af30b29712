//! Finds boot loaders in the root and in the directories of distribution packages.
//!
//! The server copies and downloads nothing: it serves the files of a package from their own place.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::boot::loader_choice::BootConfig;
use crate::boot::loaders::{ARCHITECTURES, KITS, LoaderKit, PackageFile, list_usual_loaders};
use crate::boot::pe::{BootProgram, HEAD_BYTES};
use crate::images::{CleanPath, clean_path_name};
use crate::model::machine::Arch;

/// Directories that one `*` matches at most; an ESP and the installer images have a handful.
const DIRECTORIES_MAX: usize = 64;

/// A loader on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundLoader {
    /// The architecture of the machines that can run it.
    pub arch: Arch,
    /// The name under which the server serves it.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// Files that it loads from its own directory: the name and the path of each.
    pub companions: Vec<(String, PathBuf)>,
}

/// Files that the server serves from packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BorrowedFiles {
    /// The path of each file by the name under which it is served.
    pub files: HashMap<CleanPath, PathBuf>,
    /// One sentence for each loader, for the log.
    pub reasons: Vec<String>,
}

/// The keys of `[boot]` and their values.
pub fn list_boot_keys(boot: &BootConfig) -> [(&'static str, Option<&str>); 6] {
    [
        ("bios", boot.bios.as_deref()),
        ("uefi-x64", boot.uefi_x64.as_deref()),
        ("uefi-ia32", boot.uefi_ia32.as_deref()),
        ("uefi-arm64", boot.uefi_arm64.as_deref()),
        ("uefi-http", boot.uefi_http.as_deref()),
        ("ipxe", boot.ipxe.as_deref()),
    ]
}

/// Fills in the loaders that `[boot]` does not name, where DHCP is on, and borrows loaders that the
/// root does not have from packages. `system` is `/` except in tests.
pub fn settle_loaders(
    boot: &mut BootConfig,
    root: &Path,
    wants_dhcp: bool,
    system: &Path,
) -> BorrowedFiles {
    let mut borrowed = BorrowedFiles::default();
    if wants_dhcp {
        for (key, arch) in [("bios", Arch::Bios), ("uefi-x64", Arch::UefiX64)] {
            let value = if arch == Arch::Bios { &mut boot.bios } else { &mut boot.uefi_x64 };
            if value.is_none()
                && let Some(name) = choose_default_loader(arch, root, system)
            {
                borrowed
                    .reasons
                    .push(format!("[boot] {key} is not set: {name} was found and is used"));
                *value = Some(name);
            }
        }
    }

    // Names that the root does not have come from packages, with the files that they load.
    for (key, value) in list_boot_keys(boot) {
        let Some(path) = value
            .filter(|value| !value.contains("://"))
            .and_then(|name| clean_path_name(name.as_bytes()).ok())
        else {
            continue;
        };
        if root.join(&*path.display()).exists() {
            continue;
        }
        if let Some(found) = find_named_loader(key, &path, system) {
            borrowed.reasons.push(format!(
                "{} is served from {}",
                path.display(),
                found.path.display()
            ));
            for (name, companion) in found.companions {
                borrowed.files.entry(path.sibling(&name)).or_insert(companion);
            }
            borrowed.files.insert(path, found.path);
        }
    }
    borrowed
}

/// Every loader that packages have installed in a known place.
pub fn find_packaged_loaders(system: &Path) -> Vec<FoundLoader> {
    KITS.iter()
        .flat_map(|kit| {
            expand_directories(kit.directory, system)
                .into_iter()
                .map(move |directory| (kit, directory))
        })
        .flat_map(|(kit, directory)| {
            kit.loaders
                .iter()
                .filter_map(move |file| build_found_loader(kit, &directory, *file, system))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Loaders with a usual name at the top of the root.
pub fn find_root_loaders(root: &Path) -> Vec<FoundLoader> {
    let all = ARCHITECTURES
        .iter()
        .flat_map(|(_, arch)| list_usual_loaders(*arch).iter().map(|name| (*arch, *name)));
    all.filter_map(|(arch, name)| {
        let path = root.join(name);
        path.is_file().then(|| FoundLoader {
            arch,
            name: name.to_owned(),
            path,
            companions: Vec::new(),
        })
    })
    .collect()
}

/// The kind of a program by its first bytes.
pub fn read_program_kind(path: &Path) -> std::io::Result<BootProgram> {
    read_file_head(path).map(|head| BootProgram::detect(&head))
}

/// The first bytes of a file, which show its kind.
pub fn read_file_head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    fs::File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// The loader for an architecture whose key is not set: one in the root, else one of a package with
/// every companion.
fn choose_default_loader(arch: Arch, root: &Path, system: &Path) -> Option<String> {
    let in_root = list_usual_loaders(arch).iter().find(|name| root.join(name).is_file());
    if let Some(name) = in_root {
        return Some((*name).to_owned());
    }
    let mut packaged = find_packaged_loaders(system).into_iter();
    packaged.find(|found| found.arch == arch && is_complete(found)).map(|found| found.name)
}

/// Whether the loader has the companion that it cannot run without.
fn is_complete(found: &FoundLoader) -> bool {
    let kit = KITS.iter().find(|kit| kit.loaders.iter().any(|(name, _)| *name == found.name));
    let needed = kit.and_then(|kit| kit.companions.first());
    needed.is_none_or(|(name, _)| found.companions.iter().any(|(companion, _)| companion == name))
}

/// The loader of a package with this file name and an architecture that fits the key.
fn find_named_loader(key: &str, path: &CleanPath, system: &Path) -> Option<FoundLoader> {
    find_packaged_loaders(system)
        .into_iter()
        .find(|found| fits_boot_key(found.arch, key) && found.name.as_bytes() == path.file_name())
}

fn fits_boot_key(arch: Arch, key: &str) -> bool {
    match ARCHITECTURES.iter().find(|(known, _)| *known == key) {
        Some((_, wanted)) => arch == *wanted,
        // `uefi-http` and `ipxe` are for all architectures.
        None => key == "ipxe" || arch != Arch::Bios,
    }
}

fn build_found_loader(
    kit: &LoaderKit,
    directory: &Path,
    (name, file): PackageFile,
    system: &Path,
) -> Option<FoundLoader> {
    let place = |file: &str| match file.strip_prefix('/') {
        Some(absolute) => expand_path_pattern(absolute, system),
        None => vec![directory.join(file)],
    };
    // A pattern lists the newest version first.
    let path = place(file).into_iter().next()?;
    // A loader without its companions is listed too: only the choice of a default demands them, and
    // `check` names what is missing.
    let companions = kit.companions.iter().filter_map(|(name, file)| {
        let public = place(file).into_iter().find(|path| is_public_file(path))?;
        Some(((*name).to_owned(), public))
    });
    is_public_file(&path).then(|| FoundLoader {
        arch: kit.arch,
        name: name.to_owned(),
        path,
        companions: companions.collect(),
    })
}

/// The directories that a pattern matches.
fn expand_directories(pattern: &str, system: &Path) -> Vec<PathBuf> {
    expand_path_pattern(pattern, system).into_iter().filter(|path| path.is_dir()).collect()
}

/// Replaces each `*` by every name that it matches, the last name (the newest installer) first.
fn expand_path_pattern(pattern: &str, system: &Path) -> Vec<PathBuf> {
    let pattern = pattern.trim_start_matches('/');
    let Some((before, after)) = pattern.split_once('*') else { return vec![system.join(pattern)] };
    let entries =
        fs::read_dir(system.join(before)).into_iter().flatten().flatten().take(DIRECTORIES_MAX);
    let mut names: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.iter().flat_map(|name| expand_path_pattern(after, name)).collect()
}

/// True for a file that every user may read; the server serves no other.
fn is_public_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for file in files {
            let path = tree.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        tree
    }

    fn debian() -> tempfile::TempDir {
        tree(&[
            "usr/lib/PXELINUX/pxelinux.0",
            "usr/lib/syslinux/modules/bios/ldlinux.c32",
            "usr/lib/syslinux/modules/bios/menu.c32",
            "usr/lib/syslinux/modules/bios/hdt.c32",
            "usr/lib/shim/shimx64.efi.signed",
            "usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
            "usr/lib/ipxe/ipxe.efi",
        ])
    }

    fn names(borrowed: &BorrowedFiles) -> Vec<String> {
        let mut names: Vec<String> =
            borrowed.files.keys().map(|name| name.display().into_owned()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_named_loader_comes_from_its_package_with_what_it_loads() {
        let (system, root) = (debian(), tree(&["ipxe.efi"]));
        let mut boot = BootConfig {
            bios: Some("boot/pxelinux.0".into()),
            uefi_x64: Some("/shimx64.efi".into()),
            uefi_http: Some("ipxe.efi".into()),
            ..BootConfig::default()
        };
        let borrowed = settle_loaders(&mut boot, root.path(), true, system.path());
        let expected =
            ["boot/ldlinux.c32", "boot/menu.c32", "boot/pxelinux.0", "grubx64.efi", "shimx64.efi"];
        assert_eq!(
            names(&borrowed),
            expected,
            "and never a whole directory, and never what the root has"
        );
        let grub = &borrowed.files[&clean_path_name(b"grubx64.efi").unwrap()];
        assert!(grub.ends_with("usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"));
        assert!(
            borrowed.reasons[0].contains("boot/pxelinux.0 is served from"),
            "{:?}",
            borrowed.reasons
        );
    }

    #[test]
    fn what_is_found_is_the_default_where_dhcp_is_on() {
        let system = debian();
        let mut boot = BootConfig::default();
        assert_eq!(
            settle_loaders(&mut boot, system.path(), false, system.path()),
            BorrowedFiles::default()
        );
        assert_eq!(boot, BootConfig::default());
        let borrowed = settle_loaders(&mut boot, system.path(), true, system.path());
        assert_eq!(
            (boot.bios.as_deref(), boot.uefi_x64.as_deref()),
            (Some("pxelinux.0"), Some("shimx64.efi"))
        );
        assert!(borrowed.reasons[0].contains("[boot] bios is not set: pxelinux.0 was found"));
        let (mut boot, root) = (BootConfig::default(), tree(&["bootx64.efi"]));
        settle_loaders(&mut boot, root.path(), true, system.path());
        assert_eq!(boot.uefi_x64.as_deref(), Some("bootx64.efi"), "the root's own goes first");
    }

    #[test]
    fn a_shim_without_its_grub_is_no_default() {
        let system = tree(&["usr/lib/shim/shimx64.efi.signed", "usr/lib/ipxe/ipxe.efi"]);
        let mut boot = BootConfig::default();
        settle_loaders(&mut boot, system.path(), true, system.path());
        assert_eq!(boot.uefi_x64.as_deref(), Some("ipxe.efi"));
    }

    #[test]
    fn other_distributions_and_the_newest_installer_are_known() {
        let system = tree(&[
            "usr/share/syslinux/pxelinux.0",
            "usr/share/syslinux/ldlinux.c32",
            "boot/efi/EFI/fedora/shimx64.efi",
            "boot/efi/EFI/fedora/grubx64.efi",
            "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/bootnetx64.efi",
            "usr/lib/debian-installer/images/13/amd64/text/debian-installer/amd64/bootnetx64.efi",
        ]);
        let mut boot =
            BootConfig { uefi_http: Some("bootnetx64.efi".into()), ..BootConfig::default() };
        let borrowed = settle_loaders(&mut boot, Path::new("/nonexistent"), true, system.path());
        assert_eq!(
            names(&borrowed),
            ["bootnetx64.efi", "grubx64.efi", "ldlinux.c32", "pxelinux.0", "shimx64.efi"]
        );
        assert!(
            borrowed.files[&clean_path_name(b"bootnetx64.efi").unwrap()]
                .to_string_lossy()
                .contains("/13/")
        );
        assert!(
            borrowed.files[&clean_path_name(b"grubx64.efi").unwrap()]
                .to_string_lossy()
                .contains("fedora")
        );
    }

    #[test]
    fn shim_and_grub_of_two_packages_are_brought_together_by_their_versions() {
        let system = tree(&[
            "usr/lib/efi/shim/15.8-4/EFI/fedora/shimx64.efi",
            "usr/lib/efi/shim/16.1-5/EFI/BOOT/BOOTX64.EFI",
            "usr/lib/efi/shim/16.1-5/EFI/fedora/shimx64.efi",
            "usr/lib/efi/shim/16.1-5/EFI/fedora/mmx64.efi",
            "usr/lib/efi/grub2/2.12-40/EFI/fedora/grubx64.efi",
        ]);
        let mut boot = BootConfig::default();
        let borrowed = settle_loaders(&mut boot, Path::new("/nonexistent"), true, system.path());
        assert_eq!(names(&borrowed), ["grubx64.efi", "mmx64.efi", "shimx64.efi"]);
        assert!(
            borrowed.files[&clean_path_name(b"shimx64.efi").unwrap()]
                .to_string_lossy()
                .contains("/16.1-5/")
        );
    }

    #[test]
    fn suse_keeps_shim_and_grub_in_one_place_for_each_architecture() {
        let system = tree(&[
            "usr/share/efi/x86_64/shim.efi",
            "usr/share/grub2/x86_64-efi/grub.efi",
            "usr/share/efi/aarch64/shim.efi",
            "usr/share/efi/aarch64/grub.efi",
            "usr/share/ipxe/undionly.kpxe",
            "usr/share/ipxe/snp-arm64.efi",
        ]);
        let link = system.path().join("usr/share/efi/x86_64/grub.efi");
        std::os::unix::fs::symlink("../../grub2/x86_64-efi/grub.efi", link).unwrap();
        let mut boot = BootConfig::default();
        let borrowed = settle_loaders(&mut boot, Path::new("/nonexistent"), true, system.path());
        assert_eq!(names(&borrowed), ["grub.efi", "shim.efi", "undionly.kpxe"]);
        let mut boot = BootConfig { uefi_arm64: Some("shim.efi".into()), ..BootConfig::default() };
        let borrowed = settle_loaders(&mut boot, Path::new("/nonexistent"), false, system.path());
        assert!(
            borrowed.files[&clean_path_name(b"grub.efi").unwrap()]
                .to_string_lossy()
                .contains("aarch64")
        );
    }

    #[test]
    fn a_loader_of_another_architecture_or_for_the_owner_alone_is_none() {
        let system = debian();
        let mut boot = BootConfig { uefi_arm64: Some("ipxe.efi".into()), ..BootConfig::default() };
        assert_eq!(
            names(&settle_loaders(&mut boot, Path::new("/nonexistent"), false, system.path())),
            [""; 0]
        );
        let loader = system.path().join("usr/lib/PXELINUX/pxelinux.0");
        fs::set_permissions(&loader, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(find_packaged_loaders(system.path()).iter().all(|found| found.path != loader));
    }
}
