//! A menu as an iPXE script, for BIOS and UEFI alike: iPXE itself says on which it runs (B-11 to
//! B-13).

use std::fmt::Write;

use super::screen::{Ask, LOCAL_TITLE, Screen, authority, host, hot_key, whose};
use crate::boot::menu::{self, Entry, LOCAL_LABEL};
use crate::boot::plan::BootConfig;

/// Labels of our own begin with `_`, labels of entries never do.
pub(super) fn text(screen: &Screen<'_>, ask: &Ask<'_>) -> String {
    let mut text = format!("#!ipxe\n# {}\n", whose(ask));
    if screen.console.is_some() {
        text.push_str(
            "# iPXE's own console is a matter of its build; the kernels get console= below\n",
        );
    }
    let _ = writeln!(text, ":_menu\nmenu {}", screen.title);
    let _ = writeln!(text, "item {LOCAL_LABEL} {LOCAL_TITLE}");
    for entry in &screen.entries {
        let (title, key) = hot_key(&entry.title);
        let key = key.map(|key| format!("--key {key} ")).unwrap_or_default();
        let _ = writeln!(text, "item {key}{} {title}", entry.label);
    }
    let timeout = match screen.timeout_s {
        0 => String::new(),
        seconds => format!("--timeout {} ", u64::from(seconds) * 1000),
    };
    let _ = writeln!(
        text,
        "choose --default {} {timeout}chosen || goto {LOCAL_LABEL}",
        screen.start_label()
    );
    text.push_str("goto ${chosen}\n");
    for entry in &screen.entries {
        self::entry(&mut text, screen, entry, ask);
    }
    text.push_str(FAILED);
    text.push_str(&local(ask));
    text
}

/// Once more after a failure, since a server may be busy; then the disk, so that no machine turns
/// in circles.
const FAILED: &str = "
:_failed
echo This entry could not be started.
isset ${again} && goto local ||
set again yes
sleep 10
goto _menu
";

fn entry(text: &mut String, screen: &Screen<'_>, entry: &Entry, ask: &Ask<'_>) {
    let _ = write!(text, "\n:{}\nimgfree\nkernel {}", entry.label, file(&entry.kernel, ask));
    // B-12: a kernel that UEFI starts finds its initrds by these names; a kernel that BIOS starts
    // does not look.
    for index in 0..entry.initrds.len() {
        let _ = write!(text, " initrd=initrd{index}");
    }
    let arguments = screen.arguments(entry);
    if !arguments.is_empty() {
        let _ = write!(text, " {arguments}");
    }
    if !arguments.contains("BOOTIF=") {
        text.push_str(" BOOTIF=01-${netX/mac:hexhyp}");
    }
    text.push_str(" || goto _failed\n");
    for (index, initrd) in entry.initrds.iter().enumerate() {
        let _ = writeln!(text, "initrd --name initrd{index} {} || goto _failed", file(initrd, ask));
    }
    text.push_str("boot || goto _failed\n");
}

/// BIOS: the disk is started directly. UEFI: a GRUB of ours that starts the disk's loader; `exit 1`
/// is what is left where there is none, and makes most firmware go to its next boot entry. No
/// `chain --replace`: that would end this script even where the firmware refuses the GRUB.
fn local(ask: &Ask<'_>) -> String {
    let mut text = format!("\n:{LOCAL_LABEL}\niseq ${{platform}} efi && goto _efi ||\n");
    text.push_str("sanboot --no-describe --drive 0x80 || exit\n\n:_efi\n");
    for (cpu, path) in grubs(ask.boot) {
        let _ = writeln!(
            text,
            "iseq ${{buildarch}} {cpu} && chain tftp://{}/{} ||",
            host(ask.server),
            path.trim_start_matches('/')
        );
    }
    text.push_str("exit 1\n");
    text
}

/// What may start the disk's loader, by iPXE's name of the processor: configured GRUBs, and for a
/// configured shim the GRUB beside it first. iPXE (the build of 2019 in Debian 12, seen on OVMF)
/// answers shim's reads with a rounded length, shim then calls its GRUB a "Malformed binary" and
/// the boot ends. By TFTP, because a GRUB that was started over HTTP does not find its way back to
/// the server.
fn grubs(boot: &BootConfig) -> Vec<(&'static str, String)> {
    let loaders = [
        ("x86_64", "grubx64.efi", &boot.uefi_x64),
        ("i386", "grubia32.efi", &boot.uefi_ia32),
        ("arm64", "grubaa64.efi", &boot.uefi_arm64),
    ];
    let mut grubs = Vec::new();
    for (cpu, beside_shim, path) in loaders {
        let Some(path) = path.as_deref().filter(|path| menu::path_fault(path).is_none()) else {
            continue;
        };
        let (directory, name) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        let name = name.to_ascii_lowercase();
        let is_shim = ["shim", "boot"].iter().any(|kind| name.starts_with(kind));
        if is_shim {
            grubs.push((cpu, format!("{directory}{beside_shim}")));
        }
        if is_shim || name.starts_with("grub") {
            grubs.push((cpu, path.to_owned()));
        }
    }
    grubs
}

fn file(location: &str, ask: &Ask<'_>) -> String {
    match menu::url(location) {
        Some(_) => location.to_owned(),
        None => format!("http://{}/{}", authority(ask), location.trim_start_matches('/')),
    }
}
