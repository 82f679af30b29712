//! Fetches one file by the protocol of its URL.

use super::http::HttpFetcher;
use super::tftp::{FetchedTftp, TftpFetcher};
use super::url::{Url, UrlScheme};
use crate::failure::BootFailure;
use ringboot_protocol::tftp::client::ClientBehaviour;

/// Fetches a required file.
pub(crate) async fn fetch_required_file(
    tftp: &TftpFetcher<'_>,
    loader: &ClientBehaviour,
    name: &str,
) -> Result<(), BootFailure> {
    match tftp.fetch(loader, name, false).await? {
        FetchedTftp::File(_) => Ok(()),
        FetchedTftp::Missing => Err(BootFailure::TftpMissing(name.to_owned())),
    }
}

pub(crate) async fn fetch_url(
    tftp: &TftpFetcher<'_>,
    loader: &ClientBehaviour,
    http: &mut HttpFetcher<'_>,
    url: &Url,
    keep: bool,
) -> Result<Vec<u8>, BootFailure> {
    if url.scheme == UrlScheme::Http {
        return http.fetch(url, keep).await;
    }
    // B-13: drop one leading slash of a TFTP URL.
    let name = url.path.strip_prefix('/').unwrap_or(&url.path);
    match tftp.fetch(loader, name, keep).await? {
        FetchedTftp::File(text) => Ok(text),
        FetchedTftp::Missing => Err(BootFailure::TftpMissing(name.to_owned())),
    }
}
