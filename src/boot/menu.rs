//! The one menu model, and its text for PXELINUX, GRUB and iPXE.

/// A boot menu as the operator wrote it; rendered for the loader that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Menu {
    pub title: String,
    pub entries: Vec<Entry>,
    /// Label of the entry that the operator wants as default; None = local boot.
    pub default: Option<String>,
    /// Seconds until the default entry starts; 0 waits for ever.
    pub timeout_s: u32,
    /// Picture for vesamenu, a path under the root.
    pub background: Option<String>,
    /// Text file shown above the prompt by PXELINUX, a path under the root.
    pub display: Option<String>,
    /// Serial console, such as `ttyS0,115200n8`: on all three loaders and the kernel's command line.
    pub console: Option<String>,
}

/// One line of the menu.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Short unique name.
    pub label: String,
    /// What the person at the console reads; `^` marks PXELINUX's hot key.
    pub title: String,
    /// Path under the root (or an http URL).
    pub kernel: String,
    pub initrds: Vec<String>,
    pub arguments: String,
}
