//! Menus that somebody wrote by hand: which of their entries starts by itself, and whether it
//! installs without asking.
//!
//! They are served as they are. What is read here is for a warning alone, so what a loader would
//! make of a file is followed as far as a warning needs: included files and conditions that only
//! the machine can decide are not.

mod grub;
mod ipxe;
mod pxelinux;
mod unattended;

pub use self::unattended::Unattended;
use super::names::Loader;

/// Which loader reads a file of this path as a menu. None: no menu that we know.
pub fn menu_of(path: &str) -> Option<Loader> {
    let mut parts = path.rsplit('/');
    let name = parts.next()?;
    if parts.next() == Some("pxelinux.cfg") {
        return Some(Loader::Pxelinux);
    }
    if name.starts_with("grub.cfg") {
        return Some(Loader::Grub);
    }
    name.ends_with(".ipxe").then_some(Loader::Ipxe)
}

/// The default entries of this menu that install without asking, each once, in the order of the
/// file.
pub fn unattended_defaults(loader: Loader, text: &str) -> Vec<Unattended> {
    let mut found = match loader {
        Loader::Pxelinux => pxelinux::unattended_defaults(text),
        Loader::Grub => grub::unattended_defaults(text),
        Loader::Ipxe => ipxe::unattended_defaults(text),
    };
    found.sort_by_key(|one| one.line);
    found.dedup();
    found
}

#[cfg(test)]
mod tests;
