//! A menu as an iPXE script, for BIOS and UEFI alike: the script asks iPXE on which it runs (B-11
//! to B-13).

use std::fmt::Write;

use super::screen::{
    LOCAL_TITLE, MenuRequest, MenuScreen, describe_menu_owner, format_authority, format_url_host,
    split_hot_key,
};
use crate::boot::loader_choice::BootConfig;
use crate::boot::menu::{self, LOCAL_LABEL, MenuEntry};

/// Labels of the script itself begin with `_`; labels of entries never do.
pub(super) fn render_ipxe_script(screen: &MenuScreen<'_>, ask: &MenuRequest<'_>) -> String {
    let mut text = format!("#!ipxe\n# {}\n", describe_menu_owner(ask));
    if screen.console.is_some() {
        text.push_str(
            "# iPXE's own console is a matter of its build; the kernels get console= below\n",
        );
    }

    let _ = writeln!(text, ":_menu\nmenu {}", screen.title);
    let _ = writeln!(text, "item {LOCAL_LABEL} {LOCAL_TITLE}");
    for entry in &screen.entries {
        let (title, key) = split_hot_key(&entry.title);
        let key = key.map(|key| format!("--key {key} ")).unwrap_or_default();
        let _ = writeln!(text, "item {key}{} {title}", entry.label);
    }

    // iPXE counts the timeout in milliseconds. Without one, the menu waits for a person.
    let timeout = match screen.timeout_s {
        0 => String::new(),
        seconds => format!("--timeout {} ", u64::from(seconds) * 1000),
    };
    // `choose` fails when a person leaves the menu with Escape: then the local disk starts.
    let _ = writeln!(
        text,
        "choose --default {} {timeout}chosen || goto {LOCAL_LABEL}",
        screen.start_label()
    );
    text.push_str("goto ${chosen}\n");
    for entry in &screen.entries {
        render_ipxe_entry(&mut text, screen, entry, ask);
    }
    text.push_str(FAILED);
    text.push_str(&render_local_boot(ask));
    text
}

/// After a failure the script tries once more, since a server may be busy; then it boots the disk,
/// so that no machine loops.
const FAILED: &str = "
:_failed
echo This entry could not be started.
isset ${again} && goto local ||
set again yes
sleep 10
goto _menu
";

fn render_ipxe_entry(
    text: &mut String,
    screen: &MenuScreen<'_>,
    entry: &MenuEntry,
    ask: &MenuRequest<'_>,
) {
    let _ =
        write!(text, "\n:{}\nimgfree\nkernel {}", entry.label, format_ipxe_url(&entry.kernel, ask));
    // B-12: a kernel on UEFI finds its initrds by these names; on BIOS it ignores them.
    for index in 0..entry.initrds.len() {
        let _ = write!(text, " initrd=initrd{index}");
    }
    let arguments = screen.kernel_arguments(entry);
    if !arguments.is_empty() {
        let _ = write!(text, " {arguments}");
    }
    if !arguments.contains("BOOTIF=") {
        text.push_str(" BOOTIF=01-${netX/mac:hexhyp}");
    }
    text.push_str(" || goto _failed\n");
    for (index, initrd) in entry.initrds.iter().enumerate() {
        let _ = writeln!(
            text,
            "initrd --name initrd{index} {} || goto _failed",
            format_ipxe_url(initrd, ask)
        );
    }
    text.push_str("boot || goto _failed\n");
}

/// Boots the disk. On BIOS iPXE starts the disk itself. On UEFI it starts a configured GRUB, which
/// starts the loader of the disk; without one, `exit 1` makes most firmware go on to its next boot
/// entry. No `chain --replace`: it would end this script even where the firmware refuses the GRUB.
fn render_local_boot(ask: &MenuRequest<'_>) -> String {
    let mut text = format!("\n:{LOCAL_LABEL}\niseq ${{platform}} efi && goto _efi ||\n");
    text.push_str("sanboot --no-describe --drive 0x80 || exit\n\n:_efi\n");
    for (cpu, path) in list_disk_grubs(ask.boot) {
        let _ = writeln!(
            text,
            "iseq ${{buildarch}} {cpu} && chain tftp://{}/{} ||",
            format_url_host(ask.server),
            path.trim_start_matches('/')
        );
    }
    text.push_str("exit 1\n");
    text
}

/// The programs that may start the loader of the disk, with iPXE's name of the processor: a
/// configured GRUB, and for a configured shim first the GRUB beside it. iPXE (the build of 2019 in
/// Debian 12, seen on OVMF) answers shim's reads with a rounded length, upon which shim calls its
/// GRUB a "Malformed binary" and the boot ends. They are loaded by TFTP, because a GRUB that was
/// loaded over HTTP does not find the server again.
fn list_disk_grubs(boot: &BootConfig) -> Vec<(&'static str, String)> {
    let loaders = [
        ("x86_64", "grubx64.efi", &boot.uefi_x64),
        ("i386", "grubia32.efi", &boot.uefi_ia32),
        ("arm64", "grubaa64.efi", &boot.uefi_arm64),
    ];
    let mut grubs = Vec::new();
    for (cpu, beside_shim, path) in loaders {
        // A loader that is configured as a URL has no name for TFTP.
        let Some(path) = path.as_deref().filter(|path| menu::path_fault(path).is_none()) else {
            continue;
        };

        let (directory, name) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        let name = name.to_ascii_lowercase();
        // Distributions also ship shim as BOOTX64.EFI, the name for removable disks.
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

fn format_ipxe_url(location: &str, ask: &MenuRequest<'_>) -> String {
    match menu::split_http_url(location) {
        Some(_) => location.to_owned(),
        None => format!("http://{}/{}", format_authority(ask), location.trim_start_matches('/')),
    }
}
