//! Menus as text: each loader, each kind of machine, and texts that try to break out.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

use proptest::prelude::*;

use super::*;
use crate::boot::loader_choice::BootConfig;
use crate::boot::menu::LOCAL_LABEL;
use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac, Machine};

const LOADERS: [MenuLoader; 3] = [MenuLoader::Pxelinux, MenuLoader::Grub, MenuLoader::Ipxe];

fn entry(label: &str, title: &str, kernel: &str, initrds: &[&str], arguments: &str) -> MenuEntry {
    MenuEntry {
        label: label.to_owned(),
        title: title.to_owned(),
        kernel: kernel.to_owned(),
        initrds: initrds.iter().map(|&initrd| initrd.to_owned()).collect(),
        arguments: arguments.to_owned(),
    }
}

/// The menu of the classic set-up, without its picture, and a second entry that asks a person.
fn office() -> BootMenu {
    BootMenu {
        title: "Welcome to CentOS 6.6!".to_owned(),
        entries: vec![
            entry(
                "linux",
                "^Install or upgrade an PXE system",
                "vmlinuz",
                &["initrd.img"],
                "ks=http://192.168.4.150/ks.cfg",
            ),
            entry(
                "rescue",
                "^Rescue it's \"here\"",
                "/rescue/vmlinuz",
                &["rescue/ucode.img", "rescue/initrd.img"],
                "quiet",
            ),
        ],
        default: Some("linux".to_owned()),
        timeout_s: 60,
        background: None,
        display: None,
        console: None,
    }
}

fn machine(role: FirmwareRole, arch: Arch) -> Machine {
    let firmware = Some(Firmware { role, arch: Some(arch) });
    Machine { mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x10]), uuid: None, firmware }
}

fn ask(loader: MenuLoader, boot: &BootConfig) -> MenuRequest<'_> {
    MenuRequest {
        loader,
        prefix: "",
        over_http: false,
        machine: None,
        server: "192.168.4.150".parse().unwrap(),
        http_port: 80,
        install_by_default: false,
        boot,
    }
}

fn text(menu: &BootMenu, loader: MenuLoader) -> String {
    render_menu(menu, &ask(loader, &BootConfig::default())).text
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|found| found.trim() == line)
}

// --- whole texts ---

#[test]
fn b4_pxelinux_menu_for_a_bios_machine() {
    let machine = machine(FirmwareRole::Pxe, Arch::Bios);
    let boot = BootConfig::default();
    let asked = MenuRequest { machine: Some(&machine), ..ask(MenuLoader::Pxelinux, &boot) };
    insta::assert_snapshot!(render_menu(&office(), &asked).text);
}

#[test]
fn s48_vesamenu_with_picture_text_and_serial_console() {
    let menu = BootMenu {
        background: Some("splash.jpg".to_owned()),
        display: Some("boot.msg".to_owned()),
        console: Some("ttyS1,57600n8".to_owned()),
        ..office()
    };
    insta::assert_snapshot!(text(&menu, MenuLoader::Pxelinux));
}

#[test]
fn b8_grub_menu_for_a_uefi_machine() {
    let machine = machine(FirmwareRole::Pxe, Arch::UefiX64);
    let boot = BootConfig::default();
    let asked = MenuRequest { machine: Some(&machine), ..ask(MenuLoader::Grub, &boot) };
    insta::assert_snapshot!(render_menu(&office(), &asked).text);
}

#[test]
fn b9_grub_menu_with_serial_console_and_a_url() {
    let mut menu = BootMenu { console: Some("ttyS0,115200n8".to_owned()), ..office() };
    menu.entries = vec![entry(
        "live",
        "Live",
        "http://10.0.0.1:8080/live/vmlinuz",
        &[],
        "dyndbg=\"file a.c +p\" ds=nocloud;s=h",
    )];
    insta::assert_snapshot!(text(&menu, MenuLoader::Grub));
}

#[test]
fn b11_ipxe_script_for_any_machine() {
    let boot = BootConfig {
        uefi_x64: Some("bootnetx64.efi".to_owned()),
        uefi_arm64: Some("/arm64/grubaa64.efi".to_owned()),
        uefi_ia32: Some("snponly-ia32.efi".to_owned()),
        ..BootConfig::default()
    };
    insta::assert_snapshot!(render_menu(&office(), &ask(MenuLoader::Ipxe, &boot)).text);
}

// --- the rule that keeps disks whole ---

#[test]
fn s56_in_every_menu_the_default_and_the_timeout_are_the_local_disk() {
    for loader in LOADERS {
        let rendered = render_menu(&office(), &ask(loader, &BootConfig::default()));
        assert_eq!(starts_with(&rendered.text, loader), LOCAL_LABEL, "{loader:?}");
        assert!(
            rendered.reasons.iter().any(|reason| reason.contains("install-by-default is not set")),
            "{loader:?}"
        );
    }
}

#[test]
fn s56_even_an_attended_entry_is_no_default_without_the_switch() {
    let menu = BootMenu { default: Some("rescue".to_owned()), ..office() };
    for loader in LOADERS {
        assert_eq!(starts_with(&text(&menu, loader), loader), LOCAL_LABEL, "{loader:?}");
    }
}

#[test]
fn s83_the_switch_and_a_named_default_make_an_entry_start_by_itself() {
    let boot = BootConfig::default();
    for loader in LOADERS {
        let asked = MenuRequest { install_by_default: true, ..ask(loader, &boot) };
        let rendered = render_menu(&office(), &asked);
        assert_eq!(starts_with(&rendered.text, loader), "linux", "{loader:?}");
        assert!(
            rendered.reasons[0].contains("installs unattended (ks=http://192.168.4.150/ks.cfg)"),
            "{rendered:?}"
        );
        let unnamed = BootMenu { default: None, ..office() };
        assert_eq!(
            starts_with(&render_menu(&unnamed, &asked).text, loader),
            LOCAL_LABEL,
            "the switch alone does nothing"
        );
        let gone = BootMenu { default: Some("linuks".to_owned()), ..office() };
        assert_eq!(
            starts_with(&render_menu(&gone, &asked).text, loader),
            LOCAL_LABEL,
            "nor does a name that is not there"
        );
    }
}

/// The label that a loader would start when nobody touches a key.
fn starts_with(text: &str, loader: MenuLoader) -> String {
    let after = |key: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(key))
            .unwrap_or_else(|| panic!("{key} in {text}"));
        line.split(' ').next().unwrap().to_owned()
    };
    match loader {
        MenuLoader::Pxelinux => {
            let menu_default =
                text.split("  MENU DEFAULT").next().unwrap().rsplit("LABEL ").nth(1).unwrap();
            assert_eq!(menu_default.lines().next().unwrap(), after("ONTIMEOUT "));
            assert_eq!(text.matches("MENU DEFAULT").count(), 1);
            assert_eq!(after("DEFAULT "), after("ONTIMEOUT "));
            after("ONTIMEOUT ")
        }
        MenuLoader::Grub => {
            let index: usize = after("set default=").parse().unwrap();
            let entry =
                text.lines().filter(|line| line.starts_with("menuentry ")).nth(index).unwrap();
            entry.split(" --id ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
        }
        MenuLoader::Ipxe => after("choose --default "),
    }
}

#[test]
fn s58_what_makes_an_entry_unattended() {
    let unattended = |arguments: &str| {
        menu::find_entry_argument(&entry("x", "x", "k", &[], arguments)).map(str::to_owned)
    };
    for argument in [
        "ks=http://h/ks.cfg",
        "inst.ks=http://h/ks.cfg",
        "url=http://h/preseed.cfg",
        "preseed/url=http://h/p",
        "preseed/file=/cdrom/p",
        "auto=true",
        "autoinstall",
        "autoyast=http://h/a.xml",
        "ignition.config.url=http://h/i.ign",
        "coreos.inst.install_dev=/dev/sda",
    ] {
        assert_eq!(unattended(&format!("quiet {argument} ---")).as_deref(), Some(argument));
    }
    for arguments in [
        "",
        "quiet",
        "rescue inst.stage2=http://h/",
        "auto=false",
        "inst.repo=http://h/os",
        "ksdevice=eth0",
    ] {
        assert_eq!(unattended(arguments), None, "{arguments}");
    }
}

// --- local boot ---

#[test]
fn b6_local_boot_is_right_for_each_loader_and_firmware() {
    assert!(has_line(&text(&office(), MenuLoader::Pxelinux), "LOCALBOOT 0"));
    let grub = text(&office(), MenuLoader::Grub);
    let place = |part: &str| grub.find(part).unwrap_or_else(|| panic!("{part}"));
    assert!(
        place("/EFI/$system/$loader$cpu.efi") < place("/EFI/BOOT/$removable.EFI"),
        "the systems' loaders come first"
    );
    assert!(has_line(&grub, "chainloader (hd0)+1"));
    for (cpu, name) in [("x86_64", "BOOTX64"), ("arm64", "BOOTAA64"), ("i386", "BOOTIA32")] {
        assert!(
            grub.contains(&format!("= {cpu} ]; then set cpu="))
                && grub.contains(&format!("set removable={name}"))
        );
    }
    assert!(!grub.contains("exit"), "UEFI firmware does not go on after a GRUB that ends");
    let ipxe = text(&office(), MenuLoader::Ipxe);
    assert!(has_line(&ipxe, "sanboot --no-describe --drive 0x80 || exit"));
    assert!(ipxe.ends_with("exit 1\n"));
}

#[test]
fn b6_ipxe_on_uefi_chains_a_configured_grub_but_never_itself() {
    let chained = |path: &str| {
        let boot = BootConfig { uefi_x64: Some(path.to_owned()), ..BootConfig::default() };
        render_menu(&office(), &ask(MenuLoader::Ipxe, &boot))
            .text
            .contains("chain tftp://192.168.4.150/")
    };
    assert!(chained("grubx64.efi") && chained("boot/shimx64.efi") && chained("bootnetx64.efi"));
    let boot =
        BootConfig { uefi_x64: Some("boot/shimx64.efi".to_owned()), ..BootConfig::default() };
    let text = render_menu(&office(), &ask(MenuLoader::Ipxe, &boot)).text;
    let place =
        |name: &str| text.find(&format!("chain tftp://192.168.4.150/boot/{name} ||")).unwrap();
    assert!(
        place("grubx64.efi") < place("shimx64.efi"),
        "shim does not get through iPXE, its GRUB does"
    );
    assert!(!chained("ipxe.efi") && !chained("snponly.efi") && !chained("a/../grub.efi"));
}

// --- paths ---

#[test]
fn b2_pxelinux_paths_are_relative_below_the_prefix_and_go_round_it_elsewhere() {
    let boot = BootConfig::default();
    let menu = BootMenu {
        entries: vec![entry("x", "x", "/bios/images/vmlinuz", &["initrd.img", "bios/i"], "")],
        ..office()
    };
    let at = |prefix| {
        render_menu(&menu, &MenuRequest { prefix, ..ask(MenuLoader::Pxelinux, &boot) }).text
    };
    assert!(
        has_line(&at(""), "LINUX bios/images/vmlinuz")
            && has_line(&at(""), "INITRD initrd.img,bios/i")
    );
    assert!(
        has_line(&at("bios/"), "LINUX images/vmlinuz")
            && has_line(&at("bios/"), "INITRD ::initrd.img,i")
    );
    assert!(has_line(&at("my_"), "LINUX ::bios/images/vmlinuz"));
}

#[test]
fn b5_urls_are_marked_where_the_loader_may_not_fetch_them() {
    let boot = BootConfig::default();
    let menu = BootMenu { entries: vec![entry("x", "x", "http://h/k", &[], "")], ..office() };
    let by_tftp = render_menu(&menu, &ask(MenuLoader::Pxelinux, &boot)).text;
    assert!(has_line(&by_tftp, "LINUX http://h/k") && by_tftp.contains("lpxelinux.0 can fetch it"));
    let by_http =
        render_menu(&menu, &MenuRequest { over_http: true, ..ask(MenuLoader::Pxelinux, &boot) })
            .text;
    assert!(!by_http.contains("lpxelinux.0"), "whoever reads its menu by HTTP can fetch by HTTP");
}

#[test]
fn b9_grub_keeps_the_place_its_files_come_from() {
    let grub = text(&office(), MenuLoader::Grub);
    assert!(grub.find("set net=$root").unwrap() < grub.find("--set=root").unwrap());
    assert!(has_line(&grub, "initrd ($net)/rescue/ucode.img ($net)/rescue/initrd.img"));
}

#[test]
fn b12_ipxe_names_every_initrd_on_the_command_line() {
    let ipxe = text(&office(), MenuLoader::Ipxe);
    assert!(ipxe.contains(
        "kernel http://192.168.4.150/rescue/vmlinuz initrd=initrd0 initrd=initrd1 quiet "
    ));
    assert!(has_line(
        &ipxe,
        "initrd --name initrd1 http://192.168.4.150/rescue/initrd.img || goto _failed"
    ));
}

#[test]
fn b13_ipxe_urls_have_the_port_and_the_brackets_that_they_need() {
    let boot = BootConfig { uefi_x64: Some("/grubx64.efi".to_owned()), ..BootConfig::default() };
    let asked = MenuRequest {
        server: "fd00::1".parse().unwrap(),
        http_port: 8080,
        ..ask(MenuLoader::Ipxe, &boot)
    };
    let ipxe = render_menu(&office(), &asked).text;
    assert!(ipxe.contains("kernel http://[fd00::1]:8080/vmlinuz "));
    assert!(ipxe.contains("tftp://[fd00::1]/grubx64.efi "));
    let mapped = MenuRequest { server: "::ffff:192.168.4.150".parse().unwrap(), ..asked };
    assert!(
        render_menu(&office(), &mapped).text.contains("kernel http://192.168.4.150:8080/vmlinuz ")
    );
}

#[test]
fn b11_the_script_starts_with_its_magic_and_every_failing_step_goes_somewhere() {
    let ipxe = text(&office(), MenuLoader::Ipxe);
    assert!(ipxe.starts_with("#!ipxe\n"));
    for line in ipxe.lines().filter(|line| {
        ["kernel ", "initrd ", "boot", "choose "].iter().any(|c| line.starts_with(c))
    }) {
        assert!(line.contains("|| goto "), "{line}");
    }
    assert_eq!(ipxe.matches("goto _menu").count(), 1, "one more try, not a circle");
}

// --- the network card and the console ---

#[test]
fn b4_the_booting_card_is_handed_on_by_every_loader() {
    let known = machine(FirmwareRole::Pxe, Arch::UefiX64);
    let boot = BootConfig::default();
    assert_eq!(text(&office(), MenuLoader::Pxelinux).matches("  IPAPPEND 2\n").count(), 2);
    let grub = render_menu(
        &office(),
        &MenuRequest { machine: Some(&known), ..ask(MenuLoader::Grub, &boot) },
    )
    .text;
    assert_eq!(grub.matches(" BOOTIF=01-52-54-00-12-34-10\n").count(), 2);
    assert_eq!(
        text(&office(), MenuLoader::Grub).matches(" BOOTIF=01-$net_default_mac\n").count(),
        2
    );
    assert_eq!(
        text(&office(), MenuLoader::Ipxe).matches(" BOOTIF=01-${netX/mac:hexhyp} ||").count(),
        2
    );
}

#[test]
fn b4_the_console_reaches_loaders_and_kernels_unless_an_entry_has_its_own() {
    let mut menu = BootMenu { console: Some("ttyS1,57600e7".to_owned()), ..office() };
    menu.entries[1].arguments = "console=ttyS9".to_owned();
    let pxelinux = text(&menu, MenuLoader::Pxelinux);
    assert!(pxelinux.starts_with("SERIAL 1 57600\n"), "SERIAL must be the first line");
    assert!(has_line(&pxelinux, "APPEND console=ttyS9"));
    let grub = text(&menu, MenuLoader::Grub);
    assert!(grub.contains("serial --unit=1 --speed=57600 --word=7 --parity=even --stop=1"));
    assert!(
        grub.contains("terminal_input serial console")
            && grub.contains("terminal_output serial console")
    );
    for loader in LOADERS {
        let found = text(&menu, loader).replace('\'', "");
        assert_eq!(found.matches("console=tty0 console=ttyS1,57600e7").count(), 1, "{loader:?}");
    }
    let arm = BootMenu { console: Some("ttyAMA0,115200".to_owned()), ..office() };
    assert!(!text(&arm, MenuLoader::Grub).contains("serial --unit"), "this port is the firmware's");
    assert!(text(&arm, MenuLoader::Grub).contains("'console=ttyAMA0,115200'"));
}

#[test]
fn s49_the_prompt_waits_where_there_is_no_picture_menu() {
    assert!(has_line(&text(&office(), MenuLoader::Pxelinux), "PROMPT 1"));
    let menu = BootMenu { background: Some("splash.png".to_owned()), ..office() };
    assert!(has_line(&text(&menu, MenuLoader::Pxelinux), "PROMPT 0"), "vesamenu waits by itself");
}

/// PXELINUX's limit with everything as long as it may be.
#[test]
fn b4_the_longest_command_line_fits_into_append() {
    let path = |letter: &str| letter.repeat(menu::PATH_MAX_BYTES);
    let mut longest = entry("x", "x", "k", &[], &"a".repeat(menu::ARGUMENTS_MAX_BYTES));
    longest.initrds = ["a", "b", "c", "d"].map(path).to_vec();
    let menu = BootMenu {
        entries: vec![longest.clone()],
        console: Some("ttyS100,4000000n8r".to_owned()),
        ..office()
    };
    let boot = BootConfig::default();
    let rendered =
        render_menu(&menu, &MenuRequest { prefix: "bios/", ..ask(MenuLoader::Pxelinux, &boot) })
            .text;
    let line =
        |key: &str| rendered.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap().len();
    let bootif = " BOOTIF=01-52-54-00-12-34-10".len();
    assert!(line("APPEND ") + " initrd=".len() + line("INITRD ") + bootif < 2047);
    longest.initrds.push("e".to_owned());
    let menu = BootMenu { entries: vec![longest], ..menu };
    assert!(
        render_menu(&menu, &ask(MenuLoader::Grub, &boot)).reasons[0]
            .ends_with("it has too many initrds")
    );
}

#[test]
fn s50_the_timeout_has_each_loaders_unit() {
    assert!(has_line(&text(&office(), MenuLoader::Pxelinux), "TIMEOUT 600"));
    assert!(has_line(&text(&office(), MenuLoader::Grub), "set timeout=60"));
    assert!(text(&office(), MenuLoader::Ipxe).contains(" --timeout 60000 "));
    let forever = BootMenu { timeout_s: 0, ..office() };
    assert!(has_line(&text(&forever, MenuLoader::Pxelinux), "TIMEOUT 0"));
    assert!(has_line(&text(&forever, MenuLoader::Grub), "set timeout=-1"));
    assert!(!text(&forever, MenuLoader::Ipxe).contains("--timeout"));
}

#[test]
fn s55_hot_keys_reach_every_loader() {
    assert!(has_line(
        &text(&office(), MenuLoader::Pxelinux),
        "MENU LABEL ^Install or upgrade an PXE system"
    ));
    assert!(
        text(&office(), MenuLoader::Grub)
            .contains("menuentry 'Install or upgrade an PXE system' --id linux --hotkey=i {")
    );
    assert!(has_line(
        &text(&office(), MenuLoader::Ipxe),
        "item --key i linux Install or upgrade an PXE system"
    ));
}

// --- U-Boot ---

/// U-Boot goes on to every other entry after one that failed, so an installation must not be among
/// them.
#[test]
fn b3_u_boot_gets_no_entry_that_it_could_fall_into() {
    let u_boot = machine(FirmwareRole::UBoot, Arch::Other(22));
    let boot = BootConfig::default();
    let asked = MenuRequest { machine: Some(&u_boot), ..ask(MenuLoader::Pxelinux, &boot) };
    let mut menu = office();
    menu.background = Some("splash.jpg".to_owned());
    menu.entries[1].initrds.truncate(1);
    let rendered = render_menu(&menu, &asked);
    assert!(!rendered.text.contains("ks=") && rendered.text.contains("LABEL rescue"));
    assert!(!rendered.text.contains("vesamenu") && !rendered.text.contains("BACKGROUND"));
    assert!(
        rendered
            .reasons
            .iter()
            .any(|reason| reason.starts_with("entry \"linux\" is left out: U-Boot tries"))
    );
    let armed = render_menu(&menu, &MenuRequest { install_by_default: true, ..asked });
    assert_eq!(starts_with(&armed.text, MenuLoader::Pxelinux), "linux");
    let below = render_menu(&menu, &MenuRequest { prefix: "rescue/", ..asked });
    assert!(has_line(&below.text, "LINUX vmlinuz"));
    let elsewhere = render_menu(&menu, &MenuRequest { prefix: "arm64/", ..asked });
    assert!(
        elsewhere
            .reasons
            .iter()
            .any(|reason| reason.contains("U-Boot reaches files below \"arm64/\" only"))
    );
}

// --- nothing breaks out ---

#[test]
fn h25_an_entry_that_cannot_be_said_is_left_out_with_the_reason() {
    for (label, title, kernel, arguments) in [
        ("x y", "t", "k", ""),
        ("x", "t\nLABEL evil", "k", ""),
        ("x", "t", "my kernel", ""),
        ("x", "t", "内核", ""),
        ("x", "t", "../k", ""),
        ("x", "t", "k", "a\n}"),
        ("x", "t", "k", "${exit}"),
    ] {
        let menu =
            BootMenu { entries: vec![entry(label, title, kernel, &[], arguments)], ..office() };
        for loader in LOADERS {
            let rendered = render_menu(&menu, &ask(loader, &BootConfig::default()));
            assert!(rendered.reasons[0].starts_with("entry "), "{rendered:?}");
            assert!(!rendered.text.contains("evil") && !rendered.text.contains("my kernel"));
        }
    }
}

#[test]
fn s54_an_entry_cannot_take_the_label_of_another_or_of_the_disk() {
    let entries =
        ["one", "ONE", "local", "Local"].map(|label| entry(label, "t", "k", &[], "")).to_vec();
    let menu = BootMenu { entries, default: Some("local".to_owned()), ..office() };
    let boot = BootConfig::default();
    for loader in LOADERS {
        let rendered =
            render_menu(&menu, &MenuRequest { install_by_default: true, ..ask(loader, &boot) });
        assert_eq!(
            rendered.reasons.iter().filter(|reason| reason.ends_with("its label is taken")).count(),
            3
        );
        assert_eq!(starts_with(&rendered.text, loader), LOCAL_LABEL);
    }
}

/// Texts with everything that is special somewhere, and harmless ones between them.
fn nasty() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "a",
        "B7",
        " ",
        "'",
        "\"",
        "\\",
        "$",
        "{",
        "}",
        "${x}",
        "$(x)",
        "`",
        "\n",
        "\r",
        "\t",
        ";",
        " ; ",
        "&&",
        " || ",
        "#",
        "|",
        "<",
        ">",
        "^",
        "é",
        "内",
        "--",
        "=",
        "/",
        "..",
        "::",
        "(",
        ")",
        "*",
        "?",
        "LABEL x",
        "menuentry",
        "goto",
        "\0",
        "%",
    ]);
    prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat())
}

/// A GRUB text without what stands in single quotes; panics on a quote that is not closed in its
/// line.
fn unquoted(text: &str) -> String {
    let line = |line: &str| {
        let plain = line.replace(r"'\''", "");
        assert!(plain.matches('\'').count().is_multiple_of(2), "{line}");
        plain.split('\'').step_by(2).collect::<String>()
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

proptest! {
    #[test]
    fn b4_no_text_breaks_out_of_a_menu(
        title in nasty(),
        labels in prop::collection::vec(nasty(), 3),
        titles in prop::collection::vec(nasty(), 3),
        kernels in prop::collection::vec(nasty(), 3),
        arguments in prop::collection::vec(nasty(), 3),
        console in nasty(),
    ) {
        let entries: Vec<MenuEntry> = (0..3)
            .map(|i| {
                let label = if i == 0 { "fine" } else { &labels[i] };
                let kernel = if i < 2 { "vmlinuz" } else { &kernels[i] };
                entry(label, &titles[i], kernel, &[], &arguments[i])
            })
            .collect();
        let menu = BootMenu {
            title,
            entries,
            console: Some(console),
            background: Some(kernels[0].clone()),
            ..office()
        };
        is_whole_for_each_loader(&menu)?;
    }
}

/// What broke out once: a title that ends with the sign of an abbreviation.
#[test]
fn b4_a_title_of_a_caret_alone_stays_in_its_menu() {
    let entries = ["fine", "", ""].map(|label| entry(label, "", "", &[], ""));
    let mut menu = BootMenu { entries: entries.into(), console: Some(String::new()), ..office() };
    menu.entries[0] = entry("fine", "^;", "vmlinuz", &[], "");
    is_whole_for_each_loader(&menu).unwrap();
}

/// A menu in every loader's language has as many entries as it shows, and nothing else.
fn is_whole_for_each_loader(menu: &BootMenu) -> Result<(), TestCaseError> {
    for loader in LOADERS {
        let rendered = render_menu(menu, &ask(loader, &BootConfig::default()));
        let is_left_out = |reason: &&String| reason.contains("is left out");
        let left_out = rendered.reasons.iter().filter(is_left_out).count();
        let shown = menu.entries.len() - left_out;
        let is_plain = |byte: u8| byte == b'\n' || byte == b' ' || byte.is_ascii_graphic();
        prop_assert!(rendered.text.bytes().all(is_plain));
        match loader {
            MenuLoader::Pxelinux => pxelinux_is_whole(&rendered.text, shown)?,
            MenuLoader::Grub => grub_is_whole(&rendered.text, shown)?,
            MenuLoader::Ipxe => ipxe_is_whole(&rendered.text, shown)?,
        }
    }
    Ok(())
}

fn pxelinux_is_whole(text: &str, shown: usize) -> Result<(), TestCaseError> {
    const DIRECTIVES: [&str; 15] = [
        "#",
        "SERIAL",
        "DEFAULT",
        "PROMPT",
        "TIMEOUT",
        "ONTIMEOUT",
        "DISPLAY",
        "MENU",
        "SAY",
        "LABEL",
        "LOCALBOOT",
        "LINUX",
        "INITRD",
        "APPEND",
        "IPAPPEND",
    ];
    for line in text.lines() {
        prop_assert!(DIRECTIVES.contains(&line.trim_start().split(' ').next().unwrap()), "{line}");
    }
    prop_assert_eq!(text.lines().filter(|line| line.starts_with("LABEL ")).count(), shown + 1);
    prop_assert_eq!(
        text.lines().filter(|line| line.trim_start().starts_with("LINUX ")).count(),
        shown
    );
    Ok(())
}

fn grub_is_whole(text: &str, shown: usize) -> Result<(), TestCaseError> {
    let skeleton = unquoted(text);
    let (head, entries) = skeleton.split_once("\nmenuentry  --id local {\n").unwrap();
    prop_assert_eq!(head.lines().filter(|line| line.starts_with("menuentry")).count(), 0);
    prop_assert_eq!(
        entries.lines().filter(|line| line.starts_with("menuentry  --id ")).count(),
        shown
    );
    prop_assert_eq!(entries.lines().filter(|line| *line == "}").count(), shown + 1);
    for line in entries.lines().filter(|line| line.starts_with("  linux ")) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        prop_assert!(
            words.len() == 2 || (words.len() == 3 && words[2].starts_with("BOOTIF=")),
            "{line}"
        );
    }
    Ok(())
}

fn ipxe_is_whole(text: &str, shown: usize) -> Result<(), TestCaseError> {
    const COMMANDS: [&str; 16] = [
        "menu", "item", "choose", "goto", "imgfree", "kernel", "initrd", "boot", "echo", "isset",
        "set", "sleep", "iseq", "sanboot", "chain", "exit",
    ];
    const EXPANDED: [&str; 5] =
        ["${chosen}", "${netX/mac:hexhyp}", "${again}", "${platform}", "${buildarch}"];
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', ':'])) {
        let words: Vec<&str> = line.split(' ').collect();
        prop_assert!(COMMANDS.contains(&words[0]), "{line}");
        prop_assert!(!words.contains(&";") && !words.contains(&"#"), "{line}");
        let joined = words.iter().filter(|word| ["||", "&&"].contains(word)).count();
        let own =
            ["choose", "kernel", "initrd", "boot", "isset", "iseq", "sanboot"].contains(&words[0]);
        prop_assert!(joined <= if own { 2 } else { 0 }, "{line}");
    }
    let expanded: usize = EXPANDED.iter().map(|known| text.matches(known).count()).sum();
    prop_assert_eq!(text.matches("${").count(), expanded);
    prop_assert_eq!(text.lines().filter(|line| line.starts_with("item ")).count(), shown + 1);
    prop_assert_eq!(text.lines().filter(|line| line.starts_with("kernel ")).count(), shown);
    Ok(())
}
