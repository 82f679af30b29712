//! Which requested names are menus that ringboot renders, for which loader and which machine.

use crate::model::machine::Mac;

/// A boot loader that reads a menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MenuLoader {
    /// PXELINUX, SYSLINUX for EFI, and U-Boot's `pxe get`.
    Pxelinux,
    /// GRUB 2.
    Grub,
    /// iPXE.
    Ipxe,
}

/// The part of a name that says which machine asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MenuKey<'a> {
    /// `01-52-54-00-12-34-10`
    Mac(Mac),
    /// A UUID, in the byte order of the loader; no menu is rendered for it.
    Uuid(&'a str),
    /// The machine's IPv4 address as eight hexadecimal digits, or the first of them.
    IpHex(&'a str),
    /// No machine: `default`, `grub.cfg`, `boot.ipxe`.
    Default,
}

/// A requested name that is the name of a menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MenuName<'a> {
    /// The loader that asks by this name.
    pub loader: MenuLoader,
    /// The machine that asks, as the name gives it.
    pub key: MenuKey<'a>,
    /// The prefix that the loader puts before the file names in a menu: the directory of the menu
    /// (for PXELINUX the one above `pxelinux.cfg/`), with its slash, or empty.
    pub prefix: &'a str,
}

impl MenuName<'_> {
    /// True for the names with the hardware address and for the default name. All names in between
    /// are a miss (ERROR 1), so that the loader goes on to the name that identifies the machine
    /// (B-1, B-7).
    pub fn is_rendered(self) -> bool {
        matches!(self.key, MenuKey::Mac(_) | MenuKey::Default)
    }

    /// The name of a static menu that every machine would find in this directory: such a file
    /// governs the directory.
    pub fn general_name(self) -> Option<&'static str> {
        match (self.loader, self.key) {
            (_, MenuKey::Default) | (MenuLoader::Ipxe, _) => None,
            (MenuLoader::Pxelinux, _) => Some("default"),
            (MenuLoader::Grub, _) => Some("grub.cfg"),
        }
    }
}

/// Parses a requested path, with or without leading slashes. None: not the name of a menu.
pub fn parse_menu_name(path: &[u8]) -> Option<MenuName<'_>> {
    let path = std::str::from_utf8(path).ok()?.trim_start_matches('/');
    let file = path.rfind('/').map_or(0, |slash| slash + 1);
    let (directory, name) = path.split_at(file);

    // PXELINUX names files relative to the directory above `pxelinux.cfg/` (B-2).
    if let Some(prefix) = directory.strip_suffix("pxelinux.cfg/") {
        let key = if name == "default" { Some(MenuKey::Default) } else { parse_menu_key(name) };
        return key.map(|key| MenuName { loader: MenuLoader::Pxelinux, key, prefix });
    }

    // A signed GRUB has its own prefix built in, so the name counts in every directory (B-8).
    if let Some(rest) = name.strip_prefix("grub.cfg") {
        let key = if rest.is_empty() {
            Some(MenuKey::Default)
        } else {
            rest.strip_prefix('-').and_then(parse_menu_key)
        };
        return key.map(|key| MenuName { loader: MenuLoader::Grub, key, prefix: directory });
    }

    // DHCP gives iPXE this name in the root.
    (path == "boot.ipxe").then_some(MenuName {
        loader: MenuLoader::Ipxe,
        key: MenuKey::Default,
        prefix: "",
    })
}

/// True for names that firmware and loaders request and do not need: menus under other names,
/// shim's lists, GRUB's tables, fonts and translations, files that a Raspberry Pi requests before
/// its kernel. A miss of such a name is no fault.
pub fn is_optional_file(name: &str) -> bool {
    const ENDS: [&str; 5] = [".lst", ".pf2", ".mo", ".gmo", ".sig"];
    /// Requests of a Raspberry Pi 4 (B-14).
    const PI: [&str; 8] = [
        "config.txt",
        "cmdline.txt",
        "recover4.elf",
        "recovery.elf",
        "dt-blob.bin",
        "bootcfg.txt",
        "overlay_map.dtb",
        "armstub8-gic.bin",
    ];
    let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
    parse_menu_name(name.as_bytes()).is_some()
        || folder.ends_with("pxelinux.cfg")
        || file.starts_with("revocations")
        || file.starts_with("shim_certificate")
        || ENDS.iter().any(|end| file.ends_with(end))
        || PI.contains(&file)
        || is_serial_number_folder(folder, file)
}

/// True for the directory that a Raspberry Pi tries first: its serial number.
fn is_serial_number_folder(folder: &str, file: &str) -> bool {
    let folder = folder.trim_start_matches('/');
    let is_serial = folder.len() == 8 && is_hex(folder);
    is_serial && matches!(file, "start4.elf" | "start.elf")
}

fn parse_menu_key(name: &str) -> Option<MenuKey<'_>> {
    /// Hardware type 1, Ethernet, as PXELINUX and GRUB write it.
    const ETHERNET: &str = "01-";
    if let Some(mac) = name.strip_prefix(ETHERNET).and_then(|mac| mac.parse().ok()) {
        return Some(MenuKey::Mac(mac));
    }
    if (1..=8).contains(&name.len()) && is_hex(name) {
        return Some(MenuKey::IpHex(name));
    }
    let groups = name.split('-').map(str::len);
    (groups.eq([8, 4, 4, 4, 12]) && is_hex(&name.replace('-', ""))).then_some(MenuKey::Uuid(name))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]);

    fn name(path: &str) -> Option<(MenuLoader, MenuKey<'_>, &str)> {
        parse_menu_name(path.as_bytes()).map(|name| (name.loader, name.key, name.prefix))
    }

    /// The ten names of a PXELINUX boot, as captured (and the U-Boot ones between them).
    #[test]
    fn b1_pxelinux_names_are_rendered_for_mac_and_default_only() {
        let asked = [
            ("pxelinux.cfg/33221100-5544-7766-8899-aabbccddee00", false),
            ("pxelinux.cfg/01-52-54-00-12-34-10", true),
            ("pxelinux.cfg/C0A8041A", false),
            ("pxelinux.cfg/C0A8041", false),
            ("pxelinux.cfg/C0", false),
            ("pxelinux.cfg/C", false),
            ("pxelinux.cfg/default", true),
        ];
        for (path, rendered) in asked {
            let name = parse_menu_name(path.as_bytes()).expect(path);
            assert_eq!(
                (name.loader, name.is_rendered(), name.prefix),
                (MenuLoader::Pxelinux, rendered, ""),
                "{path}"
            );
        }
        assert_eq!(
            name("pxelinux.cfg/01-52-54-00-12-34-10"),
            Some((MenuLoader::Pxelinux, MenuKey::Mac(MAC), ""))
        );
        assert_eq!(
            name("pxelinux.cfg/C0A8041A"),
            Some((MenuLoader::Pxelinux, MenuKey::IpHex("C0A8041A"), ""))
        );
    }

    #[test]
    fn what_loaders_ask_for_in_vain_is_optional_and_what_they_need_is_not() {
        let optional = [
            "pxelinux.cfg/C0A8041",
            "pxelinux.cfg/default-arm",
            "x/grub.cfg-01-52-54-00-12-34-10",
            "efi/revocations_sku.efi",
            "shim_certificate_0.efi",
            "grub/x86_64-efi/command.lst",
            "12345678/start4.elf",
            "config.txt",
        ];
        assert!(optional.iter().all(|name| is_optional_file(name)));
        let needed = [
            "debian/linux",
            "ldlinux.c32",
            "grubx64.efi",
            "start4.elf",
            "ks.cfg",
            "pxelinux.0",
            "1234567/start.elf",
        ];
        assert!(needed.iter().all(|name| !is_optional_file(name)));
    }

    /// The whole search of a PXELINUX boot: eight shortened addresses, one after the other, are
    /// misses.
    #[test]
    fn s59_addresses_shortened_digit_by_digit_are_misses() {
        for digits in 1..=8 {
            let path = format!("pxelinux.cfg/{}", &"C0A8041A"[..digits]);
            let name = parse_menu_name(path.as_bytes()).expect(&path);
            assert!(matches!(name.key, MenuKey::IpHex(_)) && !name.is_rendered(), "{path}");
        }
    }

    #[test]
    fn b2_the_prefix_is_what_stands_before_pxelinux_cfg() {
        assert_eq!(
            name("/boot/bios/pxelinux.cfg/default"),
            Some((MenuLoader::Pxelinux, MenuKey::Default, "boot/bios/"))
        );
        // A loader called my_pxelinux.0: the prefix ends at the last sign that is no letter, digit,
        // dot or hyphen.
        assert_eq!(
            name("my_pxelinux.cfg/default"),
            Some((MenuLoader::Pxelinux, MenuKey::Default, "my_"))
        );
        assert_eq!(name("pxelinux.cfg/x/default"), None);
    }

    /// U-Boot's own names between the address and `default` are no menus: a miss brings it to
    /// `default`.
    #[test]
    fn b3_names_of_u_boot_boards_are_no_menus() {
        for path in
            ["pxelinux.cfg/default-x86-qemu-qemu-x86", "pxelinux.cfg/default-arm", "C0A8041A.img"]
        {
            assert_eq!(name(path), None, "{path}");
        }
    }

    #[test]
    fn b7_grub_names_are_rendered_for_mac_and_the_plain_name() {
        for (path, rendered) in [
            ("grub/grub.cfg-33221100-5544-7766-8899-aabbccddee00", false),
            ("grub/grub.cfg-01-52-54-00-12-34-10", true),
            ("grub/grub.cfg-C0A8041A", false),
            ("grub/grub.cfg-C", false),
            ("grub/grub.cfg", true),
        ] {
            let name = parse_menu_name(path.as_bytes()).expect(path);
            assert_eq!(
                (name.loader, name.is_rendered(), name.prefix),
                (MenuLoader::Grub, rendered, "grub/"),
                "{path}"
            );
        }
    }

    #[test]
    fn b8_grub_names_are_known_in_every_directory() {
        for (path, prefix) in [
            ("grub.cfg", ""),
            ("/debian-installer/arm64/grub/grub.cfg", "debian-installer/arm64/grub/"),
            ("//EFI/BOOT/grub.cfg", "EFI/BOOT/"),
        ] {
            assert_eq!(name(path), Some((MenuLoader::Grub, MenuKey::Default, prefix)), "{path}");
        }
        for path in [
            "grub/grub.cfg.bak",
            "grub/grub.cfgs",
            "grub/grub.cfg-",
            "grub/grub.cfg-mine",
            "grub.cfg/x",
        ] {
            assert_eq!(name(path), None, "{path}");
        }
    }

    #[test]
    fn b11_the_ipxe_script_is_one_name_in_the_root() {
        assert_eq!(name("/boot.ipxe"), Some((MenuLoader::Ipxe, MenuKey::Default, "")));
        assert_eq!(name("x/boot.ipxe"), None);
        assert_eq!(name("boot.ipxe.bak"), None);
    }

    #[test]
    fn b1_other_bytes_are_no_menu() {
        for path in [
            &b"pxelinux.cfg/\xff\xfe"[..],
            b"",
            b"/",
            b"pxelinux.cfg/",
            b"pxelinux.0",
            b"pxelinux.cfg/C0A8041A9",
        ] {
            assert_eq!(parse_menu_name(path), None);
        }
        assert_eq!(name("pxelinux.cfg/06-52-54-00-12-34-10"), None, "not Ethernet");
        assert_eq!(name("pxelinux.cfg/01-52-54-00-12-34"), None);
    }
}
