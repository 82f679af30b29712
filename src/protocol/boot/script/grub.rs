//! A menu in GRUB's language, for BIOS and every UEFI processor alike: the menu asks GRUB on which
//! it runs (B-7 to B-9).

use std::fmt::Write;

use super::screen::{LOCAL_TITLE, MenuRequest, MenuScreen, describe_menu_owner, split_hot_key};
use crate::boot::menu::{self, LOCAL_LABEL, MenuEntry, SerialConsole};

pub(super) fn render_grub_menu(screen: &MenuScreen<'_>, ask: &MenuRequest<'_>) -> String {
    let mut text = format!("# {}\n", describe_menu_owner(ask));
    if let Some(serial) = screen.console.and_then(SerialConsole::parse) {
        text.push_str(&render_grub_terminal(serial));
    }
    // GRUB counts entries from 0, which is the local disk. The default is a number, since a name
    // would also match the title of an entry.
    let start = screen.start.map_or(0, |index| index + 1);
    let timeout =
        if screen.timeout_s == 0 { "-1".to_owned() } else { screen.timeout_s.to_string() };
    // The local disk entry changes $root, so $net keeps the device that files come from.
    let _ = writeln!(
        text,
        "set net=$root\nset default={start}\nset timeout={timeout}\nset timeout_style=menu"
    );
    let _ = writeln!(text, "echo {}", quote_grub_text(screen.title));
    let _ = writeln!(
        text,
        "menuentry {} --id {LOCAL_LABEL} {{\n{LOCAL_BOOT}}}",
        quote_grub_text(LOCAL_TITLE)
    );
    for entry in &screen.entries {
        render_grub_entry(&mut text, screen, entry, ask);
    }
    text
}

/// Boots the disk. `exit` does not suffice on UEFI: OVMF then opens its own menu instead of the
/// next boot entry.
///
/// The loaders of the systems come before \EFI\BOOT, which may hold the "fallback" loader of shim:
/// that one writes boot entries and restarts the machine, which then boots from the network again,
/// without end.
const LOCAL_BOOT: &str = "  if [ \"$grub_platform\" = efi ]; then
    if [ \"$grub_cpu\" = x86_64 ]; then set cpu=x64; set removable=BOOTX64; fi
    if [ \"$grub_cpu\" = arm64 ]; then set cpu=aa64; set removable=BOOTAA64; fi
    if [ \"$grub_cpu\" = i386 ]; then set cpu=ia32; set removable=BOOTIA32; fi
    echo 'Looking for the boot loader on the disks. \"no such device\" means that a loader \
    is not there.'
    for system in debian ubuntu redhat centos rocky almalinux fedora opensuse sles; do
      for loader in shim grub; do
        if search --no-floppy --file --set=root /EFI/$system/$loader$cpu.efi; then
          chainloader ($root)/EFI/$system/$loader$cpu.efi
          boot
        fi
      done
    done
    if search --no-floppy --file --set=root /EFI/Microsoft/Boot/bootmgfw.efi; then
      chainloader ($root)/EFI/Microsoft/Boot/bootmgfw.efi
      boot
    fi
    if search --no-floppy --file --set=root /EFI/BOOT/$removable.EFI; then
      chainloader ($root)/EFI/BOOT/$removable.EFI
      boot
    fi
  else
    set root=(hd0)
    chainloader (hd0)+1
    boot
  fi
  echo 'No boot loader was found on the disks of this machine.'
  sleep 10
";

/// The serial terminal. GRUB drives ttyS ports on BIOS and on x86 UEFI; the firmware drives other
/// consoles.
fn render_grub_terminal(serial: SerialConsole) -> String {
    let Some(port) = serial.port else { return String::new() };
    let SerialConsole { baud, bits, .. } = serial;
    let parity = match serial.parity {
        'e' => "even",
        'o' => "odd",
        _ => "no",
    };
    format!(
        "if serial --unit={port} --speed={baud} --word={bits} --parity={parity} --stop=1; then
  terminal_input serial console
  terminal_output serial console
fi
"
    )
}

fn render_grub_entry(
    text: &mut String,
    screen: &MenuScreen<'_>,
    entry: &MenuEntry,
    ask: &MenuRequest<'_>,
) {
    let (title, key) = split_hot_key(&entry.title);
    let key = key.map(|key| format!(" --hotkey={key}")).unwrap_or_default();
    let _ = writeln!(text, "menuentry {} --id {}{key} {{", quote_grub_text(&title), entry.label);

    // GRUB's shell ends a command at `;` and expands `$`, so each argument is quoted on its own.
    let _ = write!(text, "  linux {}", format_grub_path(&entry.kernel));
    for word in split_kernel_arguments(&screen.kernel_arguments(entry)) {
        let _ = write!(text, " {}", quote_grub_text(&word));
    }

    // An installer uses the network card that BOOTIF names. PXELINUX adds BOOTIF by itself, and
    // GRUB does not.
    if !entry.arguments.contains("BOOTIF=") {
        let _ = write!(text, " BOOTIF=01-{}", format_bootif(ask));
    }
    text.push('\n');
    if !entry.initrds.is_empty() {
        let initrds: Vec<String> =
            entry.initrds.iter().map(|initrd| format_grub_path(initrd)).collect();
        let _ = writeln!(text, "  initrd {}", initrds.join(" "));
    }
    text.push_str("}\n");
}

/// The value of BOOTIF: with hyphens for a known machine. GRUB's variable has colons, which
/// installers accept as well.
fn format_bootif(ask: &MenuRequest<'_>) -> String {
    ask.machine.map_or_else(|| "$net_default_mac".to_owned(), |machine| machine.mac.to_dashed())
}

/// A path on the device that the menu came from, or a URL in GRUB's syntax (B-9).
fn format_grub_path(location: &str) -> String {
    match menu::split_http_url(location) {
        Some((authority, path)) => format!("(http,{authority}){path}"),
        None => format!("($net)/{}", location.trim_start_matches('/')),
    }
}

/// Splits the arguments as a kernel does, at blanks outside of quotation marks, and drops the
/// marks: GRUB adds its own.
fn split_kernel_arguments(arguments: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut inside = false;
    for letter in arguments.chars() {
        match letter {
            '"' => inside = !inside,
            ' ' if !inside => words.push(String::new()),
            other => words.iter_mut().last().into_iter().for_each(|word| word.push(other)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Quotes a text for GRUB's shell. Only a single quote is special within single quotes.
fn quote_grub_text(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
