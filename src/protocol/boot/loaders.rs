//! Where distributions install boot loaders, which files each loader needs, and how to read a
//! loader's version.

use crate::model::machine::Arch;

/// A file of a package: the name under which clients request it, and its path, absolute or below
/// the directory of its kit.
pub type PackageFile = (&'static str, &'static str);

/// The loaders of one package, and the files that they load from their own directory.
#[derive(Clone, Copy, Debug)]
pub struct LoaderKit {
    /// The architecture that the loaders run on.
    pub arch: Arch,
    /// The directory of the package; each `*` component stands for any directory.
    pub directory: &'static str,
    /// The loaders, the preferred one first.
    pub loaders: &'static [PackageFile],
    /// Files that the loaders load; without the first one they do not start.
    pub companions: &'static [PackageFile],
}

/// A kit of PXELINUX with its modules in `$modules`.
macro_rules! pxelinux {
    ($directory:literal, $modules:literal) => {
        LoaderKit {
            arch: Arch::Bios,
            directory: $directory,
            loaders: &[("pxelinux.0", "pxelinux.0"), ("lpxelinux.0", "lpxelinux.0")],
            companions: &[
                ("ldlinux.c32", concat!($modules, "ldlinux.c32")),
                ("libcom32.c32", concat!($modules, "libcom32.c32")),
                ("libutil.c32", concat!($modules, "libutil.c32")),
                ("vesamenu.c32", concat!($modules, "vesamenu.c32")),
                ("menu.c32", concat!($modules, "menu.c32")),
                ("chain.c32", concat!($modules, "chain.c32")),
            ],
        }
    };
}

/// A kit of SYSLINUX for UEFI with its modules in `$modules`.
macro_rules! syslinux_efi {
    ($directory:literal, $modules:literal) => {
        LoaderKit {
            arch: Arch::UefiX64,
            directory: $directory,
            loaders: &[("syslinux.efi", "syslinux.efi")],
            companions: &[
                ("ldlinux.e64", concat!($modules, "ldlinux.e64")),
                ("libcom32.c32", concat!($modules, "libcom32.c32")),
                ("libutil.c32", concat!($modules, "libutil.c32")),
                ("vesamenu.c32", concat!($modules, "vesamenu.c32")),
                ("menu.c32", concat!($modules, "menu.c32")),
                ("chain.c32", concat!($modules, "chain.c32")),
            ],
        }
    };
}

const fn make_plain_kit(
    arch: Arch,
    directory: &'static str,
    loaders: &'static [PackageFile],
) -> LoaderKit {
    LoaderKit { arch, directory, loaders, companions: &[] }
}

/// The shim of SUSE loads `grub.efi`.
const SUSE_SHIM: &[PackageFile] = &[("shim.efi", "shim.efi")];
const SUSE_GRUB: &[PackageFile] = &[("grub.efi", "grub.efi"), ("MokManager.efi", "MokManager.efi")];

/// Every known kit, the preferred one of an architecture first: Debian and Ubuntu, the RHEL family,
/// SUSE.
///
/// Sources, beside the packages of Debian 12: for the RHEL family the %files of Fedora's
/// syslinux.spec 6.04 (syslinux-nonlinux, syslinux-tftpboot, syslinux-efi64), ipxe.spec 20240119
/// (ipxe-bootimgs-x86, ipxe-bootimgs-aarch64), shim.spec 15.8 and 16.1 and grub2's grub.macros
/// (/boot/efi is mode 0700, so its files are seldom served; since Fedora 43 /usr/lib/efi has shim
/// and GRUB too); for SUSE openSUSE's ipxe.spec 2.0.0 (ipxe-bootimgs), and shim and grub2, whose
/// grub.efi is a link from /usr/share/efi to /usr/share/grub2.
pub const KITS: &[LoaderKit] = &[
    pxelinux!("/usr/lib/PXELINUX", "/usr/lib/syslinux/modules/bios/"),
    pxelinux!("/usr/share/syslinux", ""),
    pxelinux!("/tftpboot", ""),
    pxelinux!(
        "/usr/lib/debian-installer/images/*/amd64/text/debian-installer/amd64",
        "boot-screens/"
    ),
    make_plain_kit(
        Arch::Bios,
        "/usr/lib/ipxe",
        &[("undionly.kpxe", "undionly.kpxe"), ("undionly.kkpxe", "undionly.kkpxe")],
    ),
    make_plain_kit(Arch::Bios, "/usr/share/ipxe", &[("undionly.kpxe", "undionly.kpxe")]),
    // Clients request the signed shim by the plain name: Secure Boot starts only that one. B-10: it
    // loads grubx64.efi, and GRUB's package has the network build under another name.
    LoaderKit {
        arch: Arch::UefiX64,
        directory: "/usr/lib/shim",
        loaders: &[
            ("shimx64.efi", "shimx64.efi.signed"),
            ("shimx64.efi.signed", "shimx64.efi.signed"),
        ],
        companions: &[
            ("grubx64.efi", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"),
            ("mmx64.efi", "mmx64.efi.signed"),
        ],
    },
    LoaderKit {
        arch: Arch::UefiX64,
        directory: "/boot/efi/EFI/*",
        loaders: &[("shimx64.efi", "shimx64.efi")],
        companions: &[("grubx64.efi", "grubx64.efi"), ("mmx64.efi", "mmx64.efi")],
    },
    LoaderKit {
        arch: Arch::UefiX64,
        directory: "/usr/lib/efi/shim/*/EFI/*",
        loaders: &[("shimx64.efi", "shimx64.efi")],
        companions: &[
            ("grubx64.efi", "/usr/lib/efi/grub2/*/EFI/*/grubx64.efi"),
            ("mmx64.efi", "mmx64.efi"),
        ],
    },
    LoaderKit {
        arch: Arch::UefiX64,
        directory: "/usr/share/efi/x86_64",
        loaders: SUSE_SHIM,
        companions: SUSE_GRUB,
    },
    LoaderKit {
        arch: Arch::UefiX64,
        directory: "/usr/lib64/efi",
        loaders: SUSE_SHIM,
        companions: SUSE_GRUB,
    },
    LoaderKit {
        arch: Arch::UefiX64,
        directory: "/usr/lib/debian-installer/images/*/amd64/text/debian-installer/amd64",
        loaders: &[("bootnetx64.efi", "bootnetx64.efi")],
        companions: &[("grubx64.efi", "grubx64.efi")],
    },
    make_plain_kit(
        Arch::UefiX64,
        "/usr/lib/ipxe",
        &[("ipxe.efi", "ipxe.efi"), ("snponly.efi", "snponly.efi")],
    ),
    make_plain_kit(
        Arch::UefiX64,
        "/usr/share/ipxe",
        &[
            ("ipxe-x86_64.efi", "ipxe-x86_64.efi"),
            ("ipxe-snponly-x86_64.efi", "ipxe-snponly-x86_64.efi"),
            ("snp-x86_64.efi", "snp-x86_64.efi"),
        ],
    ),
    syslinux_efi!("/usr/lib/SYSLINUX.EFI/efi64", "/usr/lib/syslinux/modules/efi64/"),
    syslinux_efi!("/usr/share/syslinux/efi64", ""),
    LoaderKit {
        arch: Arch::UefiArm64,
        directory: "/usr/lib/shim",
        loaders: &[("shimaa64.efi", "shimaa64.efi.signed")],
        companions: &[
            ("grubaa64.efi", "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed"),
            ("mmaa64.efi", "mmaa64.efi.signed"),
        ],
    },
    LoaderKit {
        arch: Arch::UefiArm64,
        directory: "/boot/efi/EFI/*",
        loaders: &[("shimaa64.efi", "shimaa64.efi")],
        companions: &[("grubaa64.efi", "grubaa64.efi"), ("mmaa64.efi", "mmaa64.efi")],
    },
    LoaderKit {
        arch: Arch::UefiArm64,
        directory: "/usr/lib/efi/shim/*/EFI/*",
        loaders: &[("shimaa64.efi", "shimaa64.efi")],
        companions: &[
            ("grubaa64.efi", "/usr/lib/efi/grub2/*/EFI/*/grubaa64.efi"),
            ("mmaa64.efi", "mmaa64.efi"),
        ],
    },
    LoaderKit {
        arch: Arch::UefiArm64,
        directory: "/usr/share/efi/aarch64",
        loaders: SUSE_SHIM,
        companions: SUSE_GRUB,
    },
    make_plain_kit(
        Arch::UefiArm64,
        "/usr/share/ipxe/arm64-efi",
        &[("snponly.efi", "snponly.efi"), ("ipxe.efi", "ipxe.efi")],
    ),
    make_plain_kit(Arch::UefiArm64, "/usr/share/ipxe", &[("snp-arm64.efi", "snp-arm64.efi")]),
    LoaderKit {
        arch: Arch::UefiIa32,
        directory: "/boot/efi/EFI/*",
        loaders: &[("shimia32.efi", "shimia32.efi")],
        companions: &[("grubia32.efi", "grubia32.efi")],
    },
    make_plain_kit(
        Arch::UefiIa32,
        "/usr/share/ipxe",
        &[("ipxe-i386.efi", "ipxe-i386.efi"), ("snp-i386.efi", "snp-i386.efi")],
    ),
];

/// File names to look for in the root, the preferred one first, where the key of an architecture is
/// not set.
pub fn list_usual_loaders(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Bios => &["pxelinux.0", "lpxelinux.0", "undionly.kpxe"],
        Arch::UefiX64 => {
            &["shimx64.efi", "bootnetx64.efi", "bootx64.efi", "shim.efi", "ipxe.efi", "snponly.efi"]
        }
        Arch::UefiIa32 => &["shimia32.efi", "bootia32.efi"],
        Arch::UefiArm64 => &["shimaa64.efi", "bootnetaa64.efi", "bootaa64.efi"],
        Arch::Other(_) => &[],
    }
}

/// Architectures for which ringboot finds a loader, with their keys in `[boot]`.
pub const ARCHITECTURES: [(&str, Arch); 4] = [
    ("bios", Arch::Bios),
    ("uefi-x64", Arch::UefiX64),
    ("uefi-ia32", Arch::UefiIa32),
    ("uefi-arm64", Arch::UefiArm64),
];

/// The packages with a loader for this architecture, by distribution.
pub fn name_loader_packages(arch: Arch) -> &'static str {
    match arch {
        Arch::Bios => {
            "pxelinux syslinux-common (Debian, Ubuntu), syslinux-nonlinux (RHEL family), syslinux \
             (SUSE)"
        }
        Arch::UefiX64 => {
            "shim-signed grub-efi-amd64-signed (Debian, Ubuntu), shim-x64 grub2-efi-x64 (RHEL \
             family), shim grub2-x86_64-efi (SUSE)"
        }
        Arch::UefiIa32 => {
            "shim-ia32 grub2-efi-ia32, ipxe-bootimgs-x86 (RHEL family), ipxe-bootimgs (SUSE)"
        }
        Arch::UefiArm64 => {
            "shim-signed:arm64 grub-efi-arm64-signed:arm64 (Debian, Ubuntu), shim-aa64 \
             grub2-efi-aa64 (RHEL family), shim grub2-arm64-efi, ipxe-bootimgs (SUSE)"
        }
        Arch::Other(_) => "",
    }
}

/// The version of a loader, where the file has it as plain text: `PXELINUX 6.04`, `shim 15.8`,
/// `GRUB 2.06`, `iPXE 1.0.0+git-20190125`. None for a compressed loader.
pub fn find_loader_version(file: &[u8]) -> Option<String> {
    const WORD_MAX: usize = 48;
    // (text before the version, name of the loader). shim and GRUB have it in their SBAT section,
    // shim in its distribution's line.
    let marks: [(&[u8], &str); 3] = [
        (b"PXELINUX ", "PXELINUX"),
        (b",shim,", "shim"),
        (b",Free Software Foundation,grub,", "GRUB"),
    ];
    for (mark, name) in marks {
        for at in find_mark_positions(file, mark) {
            let word =
                file[at + mark.len()..].iter().copied().take(WORD_MAX).take_while(is_version_byte);
            let word: String = word.map(char::from).collect();
            if word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.') {
                return Some(format!("{name} {word}"));
            }
        }
    }

    // iPXE has its version before `+git`, so the search goes backwards.
    let git = find_mark_positions(file, b"+git").next()?;
    let digits = file[..git]
        .iter()
        .rev()
        .take(WORD_MAX)
        .take_while(|b| b.is_ascii_digit() || **b == b'.')
        .count();
    let word = file[git - digits..].iter().copied().take(WORD_MAX).take_while(is_version_byte);
    (digits > 0).then(|| format!("iPXE {}", word.map(char::from).collect::<String>()))
}

fn is_version_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b".+-_~".contains(byte)
}

fn find_mark_positions<'f>(file: &'f [u8], mark: &'f [u8]) -> impl Iterator<Item = usize> + 'f {
    file.windows(mark.len())
        .enumerate()
        .filter(move |(_, window)| *window == mark)
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_where_they_stand_in_plain_text() {
        for (bytes, said) in [
            (&b"\0\r\nPXELINUX 6.04 PXE 20200816 \0"[..], Some("PXELINUX 6.04")),
            (b"PXELINUX boots PXELINUX 6.03\0", Some("PXELINUX 6.03")),
            (
                b"shim,4,UEFI shim,shim,1,https://\nshim.debian,1,Debian,shim,15.8,https://",
                Some("shim 15.8"),
            ),
            (b"\ngrub,5,Free Software Foundation,grub,2.06,https://", Some("GRUB 2.06")),
            (
                b"\0iPXE\x001.0.0+git-20190125.36a4c85-5.1\0",
                Some("iPXE 1.0.0+git-20190125.36a4c85-5.1"),
            ),
            (b"+git", None),
            (b"PXELINUX ", None),
            (b"", None),
        ] {
            assert_eq!(find_loader_version(bytes).as_deref(), said);
        }
    }

    #[test]
    fn b10_shim_brings_the_signed_grub_under_the_name_that_it_asks_for() {
        let shim =
            KITS.iter().find(|kit| kit.directory == "/usr/lib/shim" && kit.arch == Arch::UefiX64);
        let companions = shim.map(|kit| kit.companions).unwrap_or_default();
        assert_eq!(
            companions[0],
            ("grubx64.efi", "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed")
        );
    }

    #[test]
    fn every_architecture_has_a_kit_and_a_package_and_of_a_root_the_same_loader_is_preferred() {
        for (key, arch) in ARCHITECTURES {
            let kit = KITS.iter().find(|kit| kit.arch == arch);
            let preferred = kit.and_then(|kit| kit.loaders.first()).map(|(name, _)| name);
            assert_eq!(list_usual_loaders(arch).first(), preferred, "{key}");
            assert!(
                name_loader_packages(arch).contains("(RHEL family)")
                    && name_loader_packages(arch).contains("(SUSE)"),
                "{key}"
            );
        }
        let other = Arch::Other(22);
        assert_eq!((list_usual_loaders(other), name_loader_packages(other)), (&[][..], ""));
    }
}
