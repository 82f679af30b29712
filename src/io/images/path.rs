//! Names from the wire become clean paths under the root, or a refusal. Pure: it knows no file.

use super::hidden_names::is_hidden_name;
use super::limits::PATH_BYTES_MAX;

/// A relative path without empty, `.` or `..` components, and without hidden names. Empty: the
/// root itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CleanPath(Vec<u8>);

impl CleanPath {
    /// The components, with `/` between them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The root itself.
    pub(super) fn root() -> Self {
        Self(Vec::new())
    }

    /// The path of a name in this directory.
    pub(super) fn child(&self, name: &str) -> Self {
        let slash = if self.0.is_empty() { "" } else { "/" };
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(slash.as_bytes());
        bytes.extend_from_slice(name.as_bytes());
        Self(bytes)
    }

    /// The last component.
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|&b| b == b'/').next().unwrap_or_default()
    }

    /// The same path with a suffix on its last component (`ks.cfg` and `.j2`).
    pub fn with_suffix(&self, suffix: &str) -> Self {
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(suffix.as_bytes());
        Self(bytes)
    }

    /// The path of another file in the same directory.
    pub fn sibling(&self, name: &str) -> Self {
        let directory = self.0.iter().rposition(|&b| b == b'/').map_or(0, |slash| slash + 1);
        let mut bytes = self.0[..directory].to_vec();
        bytes.extend_from_slice(name.as_bytes());
        Self(bytes)
    }

    /// The path for logs; replaces bytes that are not UTF-8.
    pub fn display(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

/// Why a name has no content. TFTP and HTTP each map it to their own codes (T-53, H-24, H-30).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameRefusal {
    /// No file of this name exists.
    #[error("file not found")]
    NotFound,
    /// A `..` that leads above the root (T-58, H-24).
    #[error("the name leads above the root with `..`")]
    AboveRoot,
    /// A byte below 0x20, or 0x7F.
    #[error("the name has a control character")]
    ControlCharacter,
    /// A component such as `.git` or `.ssh` (T-58).
    #[error("ringboot hides files of version control, editors and passwords")]
    Hidden,
    /// A link leads outside the root.
    #[error("the name leads outside the root")]
    OutsideRoot,
    /// A directory, a FIFO, a device or a socket.
    #[error("not a regular file")]
    NotRegular,
    /// The file's mode does not allow every user to read it.
    #[error("not every user may read the file: `chmod o+r` lets ringboot serve it")]
    Unreadable,
    /// A file of [`super::RootFence::private`].
    #[error("ringboot never serves its own configuration and state")]
    Private,
    /// Longer than [`super::WHOLE_BYTES_MAX`], for a request that must read the file whole.
    #[error("the file is too large for this kind of request")]
    TooLarge,
    /// The disk or the file server reported an error.
    #[error("the file could not be read")]
    ReadFailed,
    /// The process has no file descriptor or mapping left.
    #[error("too many files are in use")]
    TooMany,
    /// The template has a fault, or its facts are missing; the log says which.
    #[error("the template could not be rendered")]
    TemplateFailed,
    /// The answer needs a disk, or every worker is busy: ask again.
    #[error("busy, ask again")]
    Busy,
}

/// Cleans a name with `/` between its components (T-56, T-58; resolves `/./`, B-20). It resolves
/// `a/../b` as text, without a look at what `a` is.
pub fn clean_path_name(name: &[u8]) -> Result<CleanPath, NameRefusal> {
    if name.iter().any(|&b| b < 0x20 || b == 0x7f) {
        return Err(NameRefusal::ControlCharacter);
    }
    // No file under the root has a longer path: the name is missing, not malformed.
    if name.len() > PATH_BYTES_MAX {
        return Err(NameRefusal::NotFound);
    }

    let mut path: Vec<u8> = Vec::with_capacity(name.len());
    for component in name.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if path.is_empty() => return Err(NameRefusal::AboveRoot),
            b".." => path.truncate(path.iter().rposition(|&b| b == b'/').unwrap_or(0)),
            _ => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    if path.split(|&b| b == b'/').any(is_hidden_name) {
        return Err(NameRefusal::Hidden);
    }
    Ok(CleanPath(path))
}

/// As [`clean_path_name`], for TFTP: `\` separates components too (T-56: Windows boot programs,
/// GRUB and shim write paths so).
pub fn clean_tftp_name(name: &[u8]) -> Result<CleanPath, NameRefusal> {
    let slashed: Vec<u8> = name.iter().map(|&b| if b == b'\\' { b'/' } else { b }).collect();
    clean_path_name(&slashed)
}

/// The path below one of these prefixes (T-57), for clients configured with the server's own
/// absolute paths.
pub fn strip_path_prefix(path: &CleanPath, prefixes: &[CleanPath]) -> Option<CleanPath> {
    prefixes.iter().find_map(|prefix| {
        let rest = path.0.strip_prefix(prefix.0.as_slice())?.strip_prefix(b"/")?;
        Some(CleanPath(rest.to_vec()))
    })
}

/// Cuts the name before its first byte of 0x80 or more: old ROMs read past the end of option 67
/// (T-61). None: the name has no such byte, or begins with one.
pub fn strip_trailing_garbage(name: &[u8]) -> Option<&[u8]> {
    let end = name.iter().position(|&b| b >= 0x80)?;
    let repaired = &name[..end];
    (!repaired.is_empty()).then_some(repaired)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn cleaned(name: &str) -> Vec<u8> {
        clean_tftp_name(name.as_bytes()).unwrap().as_bytes().to_vec()
    }

    #[test]
    fn t56_every_spelling_names_the_same_file() {
        for name in ["a/b", "/a/b", "//a//b", "./a/b", "a\\b", "\\a\\b", "/./a/./b", "a/b/"] {
            assert_eq!(cleaned(name), b"a/b", "{name}");
        }
        assert_eq!(cleaned("/"), b"");
    }

    #[test]
    fn t57_a_host_path_loses_its_prefix() {
        let prefixes = [
            clean_path_name(b"/tftpboot").unwrap(),
            clean_path_name(b"/var/lib/tftpboot").unwrap(),
        ];
        let path = clean_path_name(b"/var/lib/tftpboot/pxelinux.0").unwrap();
        assert_eq!(strip_path_prefix(&path, &prefixes).unwrap().as_bytes(), b"pxelinux.0");
        assert_eq!(strip_path_prefix(&clean_path_name(b"/tftpbootx/a").unwrap(), &prefixes), None);
        assert_eq!(strip_path_prefix(&clean_path_name(b"/tftpboot").unwrap(), &prefixes), None);
    }

    #[test]
    fn t58_what_leads_above_the_root_and_control_characters_are_refused() {
        for name in ["..", "../etc/passwd", "/../a", "a/../../b", "..\\..\\boot.ini", "./.."] {
            assert_eq!(clean_tftp_name(name.as_bytes()), Err(NameRefusal::AboveRoot), "{name}");
        }
        assert_eq!(clean_tftp_name(b"a\0b"), Err(NameRefusal::ControlCharacter));
        assert_eq!(clean_tftp_name(b"a\nb"), Err(NameRefusal::ControlCharacter));
        assert_eq!(cleaned("a..b/c..d"), b"a..b/c..d");
    }

    #[test]
    fn k3_dot_dot_inside_the_root_is_resolved_as_text() {
        for (name, path) in [
            ("bios/../images/k", "images/k"),
            ("/bios/../images/k", "images/k"),
            ("bios//.././images/k", "images/k"),
            ("bios\\..\\images\\k", "images/k"),
            ("a/b/../../c", "c"),
            ("a/b/..", "a"),
            ("a/..", ""),
            ("a/../b/../c/d", "c/d"),
            (".git/../k", "k"),
        ] {
            assert_eq!(cleaned(name), path.as_bytes(), "{name}");
        }
    }

    #[test]
    fn k1_dot_names_of_install_media_are_names_and_secrets_are_not() {
        assert_eq!(cleaned("el9/.treeinfo"), b"el9/.treeinfo");
        assert_eq!(cleaned("//.treeinfo"), b".treeinfo");
        assert_eq!(cleaned("debian/.disk/info"), b"debian/.disk/info");
        for name in ["a/.ssh/id", ".git/config", "x/../.env", "a/.ks.cfg.swp"] {
            assert_eq!(clean_tftp_name(name.as_bytes()), Err(NameRefusal::Hidden), "{name}");
        }
    }

    #[test]
    fn t61_garbage_at_the_end_of_a_name_is_cut_off() {
        assert_eq!(strip_trailing_garbage(b"pxelinux.0\xff\xff"), Some(&b"pxelinux.0"[..]));
        assert_eq!(strip_trailing_garbage(b"pxelinux.0\xffab\x90"), Some(&b"pxelinux.0"[..]));
        assert_eq!(strip_trailing_garbage(b"pxelinux.0"), None);
        assert_eq!(strip_trailing_garbage(b"\xff"), None);
    }

    #[test]
    fn t62_pxelinux_host_syntax_is_a_literal_name() {
        assert_eq!(cleaned("192.168.4.150::a"), b"192.168.4.150::a");
        assert_eq!(cleaned("::a"), b"::a");
    }

    #[test]
    fn t63_percent_signs_and_other_encodings_stay_as_they_are() {
        assert_eq!(cleaned("a%2fb"), b"a%2fb");
        assert_eq!(clean_tftp_name(b"caf\xe9.img").unwrap().as_bytes(), b"caf\xe9.img");
    }
}
