//! UEFI HTTP Boot: the size first (HEAD), then the file (GET), on one connection.

use std::net::Ipv4Addr;

use super::boot::Boot;
use super::grub::shim_names;
use super::loader::folder;
use crate::clients::http::{Agent, Http};
use crate::clients::url::Url;
use crate::failure::Failure;

impl Boot<'_> {
    /// Fetches the file of a URL; gives where it was. A server that does not tell the size ends the
    /// attempt.
    pub(super) async fn uefi_http(&self, address: Ipv4Addr, file: &str) -> Result<Url, Failure> {
        let url = Url::parse(file).ok_or_else(|| Failure::BadUrl(file.to_owned()))?;
        let mut http = Http::new(self.context, Agent::Edk2, address);
        http.head(&url).await?;
        http.fetch(&url, false).await?;
        Ok(url)
    }

    /// Debian 12's shim over HTTP Boot fetches GRUB, which then stops at its prompt without a
    /// request: no boot (captures `uefi-http-shim`, `arm64-http-shim`).
    pub(super) async fn shim_by_http(&self, address: Ipv4Addr, shim: &Url) -> Result<(), Failure> {
        let mut http = Http::new(self.context, Agent::Edk2, address);
        let (_, grub) = shim_names(&folder(&shim.path), self.arch);
        // The slash is shim's.
        http.fetch(&Url { path: format!("/{grub}"), ..shim.clone() }, false).await?;
        Err(Failure::GrubPrompt)
    }
}
