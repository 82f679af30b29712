//! A menu in PXELINUX's language, also spoken by SYSLINUX for EFI and by U-Boot's `pxe get` (B-1 to
//! B-6).
//!
//! Only directives of B-4, and SERIAL, DISPLAY and MENU BACKGROUND. U-Boot ignores what it does not
//! know.

use std::fmt::Write;

use super::screen::{Ask, LOCAL_TITLE, Screen, hot_key, is_u_boot, whose};
use crate::boot::menu::{self, Entry, LOCAL_LABEL, Serial};

/// Without a background the menu is a text screen that needs no module; with one it is vesamenu's.
const VESAMENU: &str = "vesamenu.c32";

pub(super) fn text(screen: &Screen<'_>, ask: &Ask<'_>) -> String {
    let mut text = String::new();
    // SERIAL works for sure only as the first directive of the file.
    if let Some(Serial { port: Some(port), baud, .. }) = screen.console.and_then(Serial::parse) {
        line(&mut text, format_args!("SERIAL {port} {baud}"));
    }
    line(&mut text, format_args!("# {}", whose(ask)));
    let start = screen.start_label();
    let background = screen.background.filter(|_| !is_u_boot(ask));
    if background.is_some() {
        line(&mut text, format_args!("DEFAULT {VESAMENU}\nPROMPT 0"));
    } else {
        line(&mut text, format_args!("DEFAULT {start}\nPROMPT 1"));
    }
    // U-Boot takes the last of DEFAULT and ONTIMEOUT as its default, so ONTIMEOUT stands behind and
    // names a label.
    line(
        &mut text,
        format_args!("TIMEOUT {}\nONTIMEOUT {start}", screen.timeout_s.saturating_mul(10)),
    );
    if let Some(display) = screen.display.filter(|_| !is_u_boot(ask)) {
        line(&mut text, format_args!("DISPLAY {}", file(display, ask.prefix)));
    }
    line(&mut text, format_args!("MENU TITLE {}", screen.title));
    match background {
        Some(picture) => {
            line(&mut text, format_args!("MENU BACKGROUND {}", file(picture, ask.prefix)))
        }
        None => prompt(&mut text, screen),
    }
    label(&mut text, LOCAL_LABEL, LOCAL_TITLE, start);
    line(&mut text, format_args!("  LOCALBOOT 0"));
    for entry in &screen.entries {
        self::entry(&mut text, screen, entry, ask);
    }
    text
}

/// U-Boot needs relative names, takes one initrd, and has a habit that makes unattended entries a
/// danger.
pub(super) fn u_boot_fault(entry: &Entry, ask: &Ask<'_>) -> Option<String> {
    if let (false, Some(argument)) = (ask.install_by_default, menu::unattended(entry)) {
        return Some(format!(
            "U-Boot tries every other entry after one that failed, and {argument} installs \
             unattended"
        ));
    }
    if entry.initrds.len() > 1 {
        return Some("U-Boot loads one initrd only".to_owned());
    }
    let outside =
        |location: &str| file(location, ask.prefix).contains("::") || menu::url(location).is_some();
    let reached =
        std::iter::once(&entry.kernel).chain(&entry.initrds).all(|location| !outside(location));
    (!reached).then(|| format!("U-Boot reaches files below {:?} only", ask.prefix))
}

/// What a person reads at the `boot:` prompt.
fn prompt(text: &mut String, screen: &Screen<'_>) {
    line(text, format_args!("SAY {}\nSAY {LOCAL_LABEL} - {LOCAL_TITLE}", screen.title));
    for entry in &screen.entries {
        line(text, format_args!("SAY {} - {}", entry.label, hot_key(&entry.title).0));
    }
}

fn label(text: &mut String, label: &str, title: &str, start: &str) {
    line(text, format_args!("LABEL {label}\n  MENU LABEL {title}"));
    if label == start {
        line(text, format_args!("  MENU DEFAULT"));
    }
}

fn entry(text: &mut String, screen: &Screen<'_>, entry: &Entry, ask: &Ask<'_>) {
    label(text, &entry.label, &entry.title, screen.start_label());
    let url = std::iter::once(&entry.kernel)
        .chain(&entry.initrds)
        .any(|location| menu::url(location).is_some());
    if url && !ask.over_http {
        line(text, format_args!("  # a URL: lpxelinux.0 can fetch it, pxelinux.0 cannot"));
    }
    line(text, format_args!("  LINUX {}", file(&entry.kernel, ask.prefix)));
    if !entry.initrds.is_empty() {
        let initrds: Vec<String> =
            entry.initrds.iter().map(|initrd| file(initrd, ask.prefix)).collect();
        line(text, format_args!("  INITRD {}", initrds.join(",")));
    }
    let arguments = screen.arguments(entry);
    if !arguments.is_empty() {
        line(text, format_args!("  APPEND {arguments}"));
    }
    // The older spelling of SYSAPPEND 2, which U-Boot knows too: BOOTIF=01-aa-bb-cc-dd-ee-ff.
    line(text, format_args!("  IPAPPEND 2"));
}

/// Names are relative to the prefix; `::` goes round it, to the root of the TFTP server.
fn file(location: &str, prefix: &str) -> String {
    if menu::url(location).is_some() {
        return location.to_owned();
    }
    let path = location.trim_start_matches('/');
    match path.strip_prefix(prefix) {
        Some(below) if !below.is_empty() => below.to_owned(),
        _ => format!("::{path}"),
    }
}

fn line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{content}");
}
