//! UEFI HTTP Boot: the size first (HEAD), then the file (GET), on one connection.

use std::net::Ipv4Addr;

use super::boot::BootingMachine;
use super::grub::list_shim_names;
use super::loader::find_loader_folder;
use crate::clients::http::{HttpAgent, HttpFetcher};
use crate::clients::url::Url;
use crate::failure::BootFailure;

impl BootingMachine<'_> {
    /// Fetches the file of a URL; returns its final URL. A server without Content-Length ends the
    /// attempt.
    pub(super) async fn uefi_http(
        &self,
        address: Ipv4Addr,
        file: &str,
    ) -> Result<Url, BootFailure> {
        let url = Url::parse(file).ok_or_else(|| BootFailure::BadUrl(file.to_owned()))?;
        let mut http = HttpFetcher::new(self.context, HttpAgent::Edk2, address);
        http.head(&url).await?;
        http.fetch(&url, false).await?;
        Ok(url)
    }

    /// Debian 12's shim over HTTP Boot fetches GRUB, which then stops at its prompt without a
    /// request: no boot (captures `uefi-http-shim`, `arm64-http-shim`).
    pub(super) async fn shim_by_http(
        &self,
        address: Ipv4Addr,
        shim: &Url,
    ) -> Result<(), BootFailure> {
        let mut http = HttpFetcher::new(self.context, HttpAgent::Edk2, address);
        let (_, grub) = list_shim_names(&find_loader_folder(&shim.path), self.arch);
        // shim adds the slash.
        http.fetch(&Url { path: format!("/{grub}"), ..shim.clone() }, false).await?;
        Err(BootFailure::GrubPrompt)
    }
}
