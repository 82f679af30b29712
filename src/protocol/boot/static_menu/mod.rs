//! Menu files that an operator wrote: which entry starts by itself, and whether it installs without
//! asking.
//!
//! The server sends such files unchanged, and reads them only for a warning. So the parsers follow
//! a file as far as the warning needs, without included files and without conditions that only the
//! machine can decide.

mod grub;
mod ipxe;
mod pxelinux;
mod unattended;

pub use self::unattended::UnattendedEntry;
use super::names::MenuLoader;

/// The loader that reads a file of this path as its menu; None where none does.
pub fn detect_menu_loader(path: &str) -> Option<MenuLoader> {
    let mut parts = path.rsplit('/');
    let name = parts.next()?;
    if parts.next() == Some("pxelinux.cfg") {
        return Some(MenuLoader::Pxelinux);
    }
    if name.starts_with("grub.cfg") {
        return Some(MenuLoader::Grub);
    }
    name.ends_with(".ipxe").then_some(MenuLoader::Ipxe)
}

/// The default entries of this menu that install without asking, each once, in the order of the
/// file.
pub fn find_unattended_defaults(loader: MenuLoader, text: &str) -> Vec<UnattendedEntry> {
    let mut found = match loader {
        MenuLoader::Pxelinux => pxelinux::find_pxelinux_defaults(text),
        MenuLoader::Grub => grub::find_grub_defaults(text),
        MenuLoader::Ipxe => ipxe::find_ipxe_defaults(text),
    };
    found.sort_by_key(|one| one.line);
    found.dedup();
    found
}

#[cfg(test)]
mod tests;
