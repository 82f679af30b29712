//! Which loader a firmware class gets, what a requested name means, and why.

/// The loader of each firmware class: a path under the root, or (iPXE, HTTP Boot) an `http://` URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootConfig {
    pub bios: Option<String>,
    pub uefi_x64: Option<String>,
    pub uefi_ia32: Option<String>,
    pub uefi_arm64: Option<String>,
    /// UEFI HTTP Boot: an `http://` URL or a path under the root from which the URL is made.
    pub uefi_http: Option<String>,
    pub ipxe: Option<String>,
}
