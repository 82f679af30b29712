//! Names that the server hides, wherever under the root they lie: what version control, editors,
//! shells and programs with passwords leave behind. Pure: it knows no file.
//!
//! Other names with a leading dot are served and listed: install media have `.treeinfo`,
//! `.discinfo`, `.disk/info` and `.composeinfo`, and installers ask for them first.

/// Whole names of files and directories.
const NAMES: [&str; 22] = [
    ".env",
    ".ssh",
    ".gnupg",
    ".pki",
    ".svn",
    ".bzr",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".config",
    ".password-store",
    ".netrc",
    ".pgpass",
    ".my.cnf",
    ".npmrc",
    ".pypirc",
    ".smbcredentials",
    ".viminfo",
    ".lesshst",
    ".xauthority",
    ".envrc",
];

/// How names begin: `.git-credentials`, `.htpasswd`, `.env.local`, Emacs's locks, what a file
/// server keeps of a file that was removed while it was open.
const BEGINNINGS: [&str; 8] =
    [".git", ".hg", ".ht", ".env.", ".vault", ".#", ".nfs0", ".fuse_hidden"];

/// How names end: `.bash_history`, undo files and copies of editors.
const ENDS: [&str; 2] = ["_history", "~"];

/// Whether the server hides a component of a path. Without regard to case: on some
/// file systems `.GIT` is `.git`.
pub fn is_hidden_name(component: &[u8]) -> bool {
    if component.first() != Some(&b'.') {
        return false;
    }
    let name = component.to_ascii_lowercase();
    NAMES.iter().any(|hidden| name == hidden.as_bytes())
        || BEGINNINGS.iter().any(|beginning| name.starts_with(beginning.as_bytes()))
        || ENDS.iter().any(|end| name.ends_with(end.as_bytes()))
        || is_swap_file(&name)
}

/// Vim's `.ks.cfg.swp`; while there is one, `.swo`, then `.swn`, down to `.swa`.
fn is_swap_file(name: &[u8]) -> bool {
    matches!(name, [.., b'.', b's', b'w', b'a'..=b'p'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_names_of_install_media_are_served() {
        for name in [
            ".treeinfo",
            ".discinfo",
            ".disk",
            ".composeinfo",
            ".productinfo",
            ".buildstamp",
            ".well-known",
            ".content.xml",
            ".mirror",
            ".zsync",
            ".environment.img",
            "..data",
            "...",
            "swp",
            "x.swp",
            "git",
            "backup~",
        ] {
            assert!(!is_hidden_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn k1_what_version_control_editors_and_shells_leave_is_not() {
        for name in [
            ".git",
            ".GIT",
            ".gitconfig",
            ".git-credentials",
            ".hg",
            ".hgignore",
            ".svn",
            ".ssh",
            ".Ssh",
            ".htaccess",
            ".htpasswd",
            ".env",
            ".env.production",
            ".envrc",
            ".netrc",
            ".vault_pass",
            ".bash_history",
            ".BASH_HISTORY",
            ".KS.CFG.SWP",
            ".Git-Credentials",
            ".python_history",
            ".ks.cfg.swp",
            ".swp",
            ".ks.cfg.swo",
            ".ks.cfg.un~",
            ".#ks.cfg",
            ".nfs00000000004a1b2c00000001",
            ".fuse_hidden0000000100000001",
        ] {
            assert!(is_hidden_name(name.as_bytes()), "{name}");
        }
    }
}
