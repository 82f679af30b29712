//! A menu in GRUB's language, for BIOS and each UEFI processor alike: GRUB says on which it runs
//! (B-7 to B-9).

use std::fmt::Write;

use super::screen::{Ask, LOCAL_TITLE, Screen, hot_key, whose};
use crate::boot::menu::{self, Entry, LOCAL_LABEL, Serial};

pub(super) fn text(screen: &Screen<'_>, ask: &Ask<'_>) -> String {
    let mut text = format!("# {}\n", whose(ask));
    if let Some(serial) = screen.console.and_then(Serial::parse) {
        text.push_str(&terminal(serial));
    }
    // Entries are counted from 0, and 0 is the local disk. A number, since a name would also fit an
    // entry's title.
    let start = screen.start.map_or(0, |index| index + 1);
    let timeout =
        if screen.timeout_s == 0 { "-1".to_owned() } else { screen.timeout_s.to_string() };
    // Booting the disk moves $root, so the place that files come from is kept under a name of its
    // own.
    let _ = writeln!(
        text,
        "set net=$root\nset default={start}\nset timeout={timeout}\nset timeout_style=menu"
    );
    let _ = writeln!(text, "echo {}", quoted(screen.title));
    let _ =
        writeln!(text, "menuentry {} --id {LOCAL_LABEL} {{\n{LOCAL_BOOT}}}", quoted(LOCAL_TITLE));
    for entry in &screen.entries {
        self::entry(&mut text, screen, entry, ask);
    }
    text
}

/// Boots the disk. `exit` is not enough on UEFI: OVMF then opens its own menu instead of the next
/// boot entry.
///
/// The systems' own loaders come before \EFI\BOOT: what lies there may be the "fallback" loader of
/// shim, which writes boot entries and restarts the machine, and that would bring it back to us for
/// ever.
const LOCAL_BOOT: &str = "  if [ \"$grub_platform\" = efi ]; then
    if [ \"$grub_cpu\" = x86_64 ]; then set cpu=x64; set removable=BOOTX64; fi
    if [ \"$grub_cpu\" = arm64 ]; then set cpu=aa64; set removable=BOOTAA64; fi
    if [ \"$grub_cpu\" = i386 ]; then set cpu=ia32; set removable=BOOTIA32; fi
    echo 'Looking for the boot loader on the disks. \"no such device\" tells of those that are not \
    there.'
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

/// GRUB drives ttyS ports on BIOS and on x86 UEFI; other consoles are the firmware's.
fn terminal(serial: Serial) -> String {
    let Some(port) = serial.port else { return String::new() };
    let Serial { baud, bits, .. } = serial;
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

fn entry(text: &mut String, screen: &Screen<'_>, entry: &Entry, ask: &Ask<'_>) {
    let (title, key) = hot_key(&entry.title);
    let key = key.map(|key| format!(" --hotkey={key}")).unwrap_or_default();
    let _ = writeln!(text, "menuentry {} --id {}{key} {{", quoted(&title), entry.label);
    let _ = write!(text, "  linux {}", file(&entry.kernel));
    for word in words(&screen.arguments(entry)) {
        let _ = write!(text, " {}", quoted(&word));
    }
    if !entry.arguments.contains("BOOTIF=") {
        let _ = write!(text, " BOOTIF=01-{}", bootif(ask));
    }
    text.push('\n');
    if !entry.initrds.is_empty() {
        let initrds: Vec<String> = entry.initrds.iter().map(|initrd| file(initrd)).collect();
        let _ = writeln!(text, "  initrd {}", initrds.join(" "));
    }
    text.push_str("}\n");
}

/// Hyphens where we know the machine. GRUB's own variable has colons, which installers turn round
/// as well.
fn bootif(ask: &Ask<'_>) -> String {
    ask.machine.map_or_else(|| "$net_default_mac".to_owned(), |machine| machine.mac.dashed())
}

/// Files come from where this menu came from; URLs become GRUB's own spelling of them (B-9).
fn file(location: &str) -> String {
    match menu::url(location) {
        Some((authority, path)) => format!("(http,{authority}){path}"),
        None => format!("($net)/{}", location.trim_start_matches('/')),
    }
}

/// The arguments as a kernel parts them: by blanks outside quotation marks, and without the marks,
/// since GRUB sets its own.
fn words(arguments: &str) -> Vec<String> {
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

/// Nothing is special within single quotes, so a quote itself is the one thing that needs care.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
