//! Menus as people write them, harmless and not.

use super::*;

/// `line entry argument` of each finding.
fn found(loader: Loader, text: &str) -> Vec<String> {
    let show = |one: &Unattended| format!("{} {} {}", one.line, one.entry, one.argument);
    unattended_defaults(loader, text).iter().map(show).collect()
}

#[test]
fn the_classic_menu_that_wipes_every_disk_is_found() {
    let text = include_str!("../../../../tests/classic/pxelinux.cfg-default");
    assert_eq!(found(Loader::Pxelinux, text), ["11 linux ks=http://192.168.4.150/ks.cfg"]);
    let harmless = text
        .replace("  menu default\n", "")
        .replace("label linux", "label local\n localboot 0\nlabel linux");
    assert_eq!(
        found(Loader::Pxelinux, &harmless),
        [""; 0],
        "the first entry is the default, and it boots the disk"
    );
}

#[test]
fn pxelinux_starts_what_default_and_ontimeout_name() {
    for (text, expected) in [
        ("DEFAULT a\nLABEL a\n KERNEL k\n APPEND ks=x\n", vec!["4 a ks=x"]),
        ("default A\nlabel a\n kernel k\n append quiet\n", vec![]),
        ("DEFAULT b\nLABEL a\n KERNEL k\n APPEND ks=x\nLABEL b\n LOCALBOOT 0\n", vec![]),
        (
            "DEFAULT b\nONTIMEOUT a\nLABEL a\n LINUX k autoyast=x\nLABEL b\n LOCALBOOT 0\n",
            vec!["4 a autoyast=x"],
        ),
        ("DEFAULT vmlinuz initrd=i inst.ks=x\n", vec!["1 vmlinuz initrd=i inst.ks=x inst.ks=x"]),
        ("APPEND ks=x\nDEFAULT a\nLABEL a\n KERNEL k\n", vec!["1 a ks=x"]),
        ("APPEND ks=x\nDEFAULT a\nLABEL a\n KERNEL k\n APPEND -\n", vec![]),
        ("UI menu.c32\nLABEL a\n KERNEL k\n APPEND ks=x\n", vec!["4 a ks=x"]),
        ("DEFAULT VesaMenu.c32 more.cfg\nLABEL a\n KERNEL k\n APPEND ks=x\n", vec!["4 a ks=x"]),
        (
            "UI menu.c32\nDEFAULT b\nLABEL a\n KERNEL k\n APPEND ks=x\nLABEL b\n LOCALBOOT 0\n",
            vec![],
        ),
        ("LABEL a\n KERNEL k\n APPEND ks=x\n", vec![]),
        (
            "LABEL a\n LOCALBOOT 0\nLABEL b\n MENU DEFAULT\n KERNEL k\n APPEND ks=x\n",
            vec!["6 b ks=x"],
        ),
        ("LABEL a\n LOCALBOOT 0\nLABEL b\n MENU LABEL Default\n KERNEL k\n APPEND ks=x\n", vec![]),
    ] {
        assert_eq!(found(Loader::Pxelinux, text), expected, "{text}");
    }
}

#[test]
fn grub_defaults_are_numbers_titles_and_ids() {
    let menu = "menuentry 'Disk' --id disk {\n exit\n}\nmenuentry \"Install it\" --class os --id \
                in {\n linux /k \"auto=true\" quiet\n initrd /i\n}\nsubmenu More {\n menuentry x \
                {\n  linux /k ks=y\n }\n}\n";
    let with = |default: &str| found(Loader::Grub, &format!("set default={default}\n{menu}"));
    for installs in ["1", "\"Install it\"", "in"] {
        assert_eq!(with(installs), ["6 Install it auto=true"], "{installs}");
    }
    for harmless in ["0", "disk", "9", "${saved}"] {
        assert_eq!(with(harmless), [""; 0], "{harmless}");
    }
    assert_eq!(with("'2>0'"), ["11 More ks=y"]);
    assert_eq!(found(Loader::Grub, menu), [""; 0]);
    assert_eq!(
        found(Loader::Grub, "linux /k preseed/url=z\nboot\n"),
        ["1 (outside any entry) preseed/url=z"]
    );
    assert_eq!(found(Loader::Grub, "function f {\n echo\n}\n# linux /k ks=x\n"), [""; 0]);
    assert_eq!(found(Loader::Grub, "}\n}\nmenuentry {\nlinux\n"), [""; 0]);
    // A block of another kind inside an entry ends before the entry does; a hash within a word
    // begins no comment.
    let nested = "set default=0\nmenuentry in {\n if a {\n echo\n }\n linux /k#1 ks=x # \
                  ks=y\n}\nlinux /k auto=true\n";
    assert_eq!(found(Loader::Grub, nested), ["6 in ks=x", "8 (outside any entry) auto=true"]);
    let comment = "set default=0\nmenuentry in {\n linux /k # ks=x\n}\n";
    assert_eq!(found(Loader::Grub, comment), [""; 0]);
    // Without its brace a menuentry is no block, and what follows stands outside.
    assert_eq!(
        found(Loader::Grub, "set default=0\nmenuentry in\nlinux /k ks=x\n"),
        ["3 (outside any entry) ks=x"]
    );
}

#[test]
fn ipxe_scripts_are_followed_as_if_nobody_touched_a_key() {
    let menu = "#!ipxe\nisset ${d} || set d disk\nmenu Rack\nitem --gap -- x\nitem --key i install \
                Install\nitem disk Disk\n\
                choose --timeout 5000 --default ${d} target && goto ${target}\n:install\nkernel k \
                ks=x\nboot\n:disk\nexit\n";
    assert_eq!(found(Loader::Ipxe, menu), [""; 0]);
    let installs = menu.replace("set d disk", "set d install");
    assert_eq!(found(Loader::Ipxe, &installs), ["9 install ks=x"]);
    let first = menu.replace("--default ${d} ", "");
    assert_eq!(found(Loader::Ipxe, &first), ["9 install ks=x"], "the first item is the default");
    assert_eq!(
        found(
            Loader::Ipxe,
            "#!ipxe\nprompt --timeout 3000 Press a key && goto in || exit\n:in\nkernel k ks=x\n"
        ),
        [""; 0]
    );
    assert_eq!(
        found(Loader::Ipxe, "#!ipxe\nkernel k url=http://a/preseed.cfg\nboot || goto x\n"),
        ["2 (the script) url=http://a/preseed.cfg"]
    );
    assert_eq!(found(Loader::Ipxe, "#!ipxe\n:a\ngoto a\n"), [""; 0], "a circle ends");
    // A second menu has items of its own.
    let second = "#!ipxe\nmenu A\nitem in In\nmenu B\nitem out Out\nchoose t && goto \
                  ${t}\n:in\nkernel k ks=x\nboot\n:out\nexit\n";
    assert_eq!(found(Loader::Ipxe, second), [""; 0]);
    for (condition, installs) in
        [("iseq a a", true), ("iseq a b", false), ("isset x", true), ("isset ${none}", false)]
    {
        let script = format!("#!ipxe\n{condition} && kernel k ks=x ||\n");
        assert_eq!(!found(Loader::Ipxe, &script).is_empty(), installs, "{condition}");
    }
    // What is started does not come back; the disk, the shell and the power switch are no
    // installation.
    for end in ["chain other", "boot", "exit", "sanboot", "shell", "reboot", "poweroff"] {
        let script = format!("#!ipxe\n{end}\nkernel k ks=x\n");
        assert_eq!(found(Loader::Ipxe, &script), [""; 0], "{end}");
    }
    assert_eq!(
        found(Loader::Ipxe, "#!ipxe\ninitrd i ks=x\nkernel k\nboot\n"),
        [""; 0],
        "nothing reads the arguments of an initrd"
    );
    for start in ["kernel k", "imgargs k", "chain k"] {
        assert_eq!(
            found(Loader::Ipxe, &format!("#!ipxe\n{start} ks=x\n")),
            ["2 (the script) ks=x"],
            "{start}"
        );
    }
}

#[test]
fn a_menu_is_known_by_its_place() {
    assert_eq!(menu_of("old/pxelinux.cfg/01-52-54-00-12-34-10"), Some(Loader::Pxelinux));
    assert_eq!(menu_of("efi/grub.cfg-C0A8"), Some(Loader::Grub));
    assert_eq!(menu_of("menu.ipxe"), Some(Loader::Ipxe));
    for other in ["pxelinux.cfg", "pxelinux.0", "ks.cfg", "ipxe.efi"] {
        assert_eq!(menu_of(other), None, "{other}");
    }
}
