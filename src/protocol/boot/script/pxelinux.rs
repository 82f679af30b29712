//! A menu in PXELINUX's language, which SYSLINUX for EFI and U-Boot's `pxe get` read too (B-1 to
//! B-6).
//!
//! It uses the directives of B-4, and SERIAL, DISPLAY and MENU BACKGROUND. U-Boot ignores
//! directives that it does not know.

use std::fmt::Write;

use super::screen::{
    LOCAL_TITLE, MenuRequest, MenuScreen, describe_menu_owner, is_u_boot, split_hot_key,
};
use crate::boot::menu::{self, LOCAL_LABEL, MenuEntry, SerialConsole};

/// The module that draws a menu with a background. Without a background the menu is text, and needs
/// no module.
const VESAMENU: &str = "vesamenu.c32";

pub(super) fn render_pxelinux_menu(screen: &MenuScreen<'_>, ask: &MenuRequest<'_>) -> String {
    let mut text = String::new();
    // SERIAL works reliably only as the first directive of the file.
    if let Some(SerialConsole { port: Some(port), baud, .. }) =
        screen.console.and_then(SerialConsole::parse)
    {
        push_menu_line(&mut text, format_args!("SERIAL {port} {baud}"));
    }
    push_menu_line(&mut text, format_args!("# {}", describe_menu_owner(ask)));
    let start = screen.start_label();
    let background = screen.background.filter(|_| !is_u_boot(ask));
    if background.is_some() {
        push_menu_line(&mut text, format_args!("DEFAULT {VESAMENU}\nPROMPT 0"));
    } else {
        push_menu_line(&mut text, format_args!("DEFAULT {start}\nPROMPT 1"));
    }
    // U-Boot takes the last of DEFAULT and ONTIMEOUT as its default, so ONTIMEOUT comes second and
    // names a label.
    push_menu_line(
        &mut text,
        format_args!("TIMEOUT {}\nONTIMEOUT {start}", screen.timeout_s.saturating_mul(10)),
    );
    if let Some(display) = screen.display.filter(|_| !is_u_boot(ask)) {
        push_menu_line(
            &mut text,
            format_args!("DISPLAY {}", format_pxelinux_path(display, ask.prefix)),
        );
    }
    push_menu_line(&mut text, format_args!("MENU TITLE {}", screen.title));
    match background {
        Some(picture) => push_menu_line(
            &mut text,
            format_args!("MENU BACKGROUND {}", format_pxelinux_path(picture, ask.prefix)),
        ),
        None => render_pxelinux_prompt(&mut text, screen),
    }
    render_pxelinux_label(&mut text, LOCAL_LABEL, LOCAL_TITLE, start);
    push_menu_line(&mut text, format_args!("  LOCALBOOT 0"));
    for entry in &screen.entries {
        render_pxelinux_entry(&mut text, screen, entry, ask);
    }
    text
}

/// Why U-Boot must not get this entry. It needs relative names, loads one initrd, and tries every
/// other entry after a failed one, which makes unattended entries dangerous.
pub(super) fn u_boot_fault(entry: &MenuEntry, ask: &MenuRequest<'_>) -> Option<String> {
    if let (false, Some(argument)) = (ask.install_by_default, menu::find_entry_argument(entry)) {
        return Some(format!(
            "U-Boot tries every other entry after one that failed, and {argument} installs \
             unattended"
        ));
    }
    if entry.initrds.len() > 1 {
        return Some("U-Boot loads one initrd only".to_owned());
    }
    let reached = std::iter::once(&entry.kernel).chain(&entry.initrds).all(|location| {
        !format_pxelinux_path(location, ask.prefix).contains("::")
            && menu::split_http_url(location).is_none()
    });
    (!reached).then(|| format!("U-Boot reaches files below {:?} only", ask.prefix))
}

/// The lines above the `boot:` prompt.
fn render_pxelinux_prompt(text: &mut String, screen: &MenuScreen<'_>) {
    push_menu_line(text, format_args!("SAY {}\nSAY {LOCAL_LABEL} - {LOCAL_TITLE}", screen.title));
    for entry in &screen.entries {
        push_menu_line(
            text,
            format_args!("SAY {} - {}", entry.label, split_hot_key(&entry.title).0),
        );
    }
}

fn render_pxelinux_label(text: &mut String, label: &str, title: &str, start: &str) {
    push_menu_line(text, format_args!("LABEL {label}\n  MENU LABEL {title}"));
    if label == start {
        push_menu_line(text, format_args!("  MENU DEFAULT"));
    }
}

fn render_pxelinux_entry(
    text: &mut String,
    screen: &MenuScreen<'_>,
    entry: &MenuEntry,
    ask: &MenuRequest<'_>,
) {
    render_pxelinux_label(text, &entry.label, &entry.title, screen.start_label());
    let url = std::iter::once(&entry.kernel)
        .chain(&entry.initrds)
        .any(|location| menu::split_http_url(location).is_some());
    if url && !ask.over_http {
        push_menu_line(
            text,
            format_args!("  # a URL: lpxelinux.0 can fetch it, pxelinux.0 cannot"),
        );
    }
    push_menu_line(
        text,
        format_args!("  LINUX {}", format_pxelinux_path(&entry.kernel, ask.prefix)),
    );
    if !entry.initrds.is_empty() {
        let initrds: Vec<String> =
            entry.initrds.iter().map(|initrd| format_pxelinux_path(initrd, ask.prefix)).collect();
        push_menu_line(text, format_args!("  INITRD {}", initrds.join(",")));
    }
    let arguments = screen.kernel_arguments(entry);
    if !arguments.is_empty() {
        push_menu_line(text, format_args!("  APPEND {arguments}"));
    }
    // The older name of SYSAPPEND 2, which U-Boot knows too: BOOTIF=01-aa-bb-cc-dd-ee-ff.
    push_menu_line(text, format_args!("  IPAPPEND 2"));
}

/// A name relative to the prefix; `::` before a path makes it relative to the root of the TFTP
/// server.
fn format_pxelinux_path(location: &str, prefix: &str) -> String {
    if menu::split_http_url(location).is_some() {
        return location.to_owned();
    }
    let path = location.trim_start_matches('/');
    match path.strip_prefix(prefix) {
        Some(below) if !below.is_empty() => below.to_owned(),
        _ => format!("::{path}"),
    }
}

fn push_menu_line(text: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{content}");
}
