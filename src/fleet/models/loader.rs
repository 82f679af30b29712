//! The kind of a boot file by its name, and its directory.

/// The kind of a boot file by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoaderKind {
    Pxelinux,
    Shim,
    Grub,
    Script,
    Ipxe,
    Unknown,
}

impl LoaderKind {
    pub(crate) fn from_name(name: &str) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let begins = |words: &[&str]| words.iter().any(|word| file.starts_with(word));
        if file.ends_with(".ipxe") {
            Self::Script
        } else if file.contains("pxelinux") || begins(&["syslinux"]) {
            Self::Pxelinux
        } else if file.contains("ipxe") || begins(&["undionly", "snponly"]) {
            Self::Ipxe
        } else if begins(&["grub", "core."]) {
            Self::Grub
        } else if begins(&["shim", "bootnet", "bootx64", "bootaa64", "bootia32"]) {
            Self::Shim
        } else {
            Self::Unknown
        }
    }
}

/// The directory of a loader, with its slash; empty at the root (B-2).
pub(crate) fn find_loader_folder(loader: &str) -> String {
    loader.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b2_a_loader_has_a_folder() {
        assert_eq!(find_loader_folder("pxelinux.0"), "");
        assert_eq!(find_loader_folder("a/b/pxelinux.0"), "a/b/");
    }
}
