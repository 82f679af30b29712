//! One file by whichever protocol its URL names.

use super::http::Http;
use super::tftp::{Fetched, Tftp};
use super::url::{Scheme, Url};
use crate::failure::Failure;
use ringboot_protocol::tftp::client::Behaviour;

/// Fetches a file that has to be there.
pub(crate) async fn must(tftp: &Tftp<'_>, loader: &Behaviour, name: &str) -> Result<(), Failure> {
    match tftp.fetch(loader, name, false).await? {
        Fetched::File(_) => Ok(()),
        Fetched::Missing => Err(Failure::TftpMissing(name.to_owned())),
    }
}

pub(crate) async fn fetch(
    tftp: &Tftp<'_>,
    loader: &Behaviour,
    http: &mut Http<'_>,
    url: &Url,
    keep: bool,
) -> Result<Vec<u8>, Failure> {
    if url.scheme == Scheme::Http {
        return http.fetch(url, keep).await;
    }
    // B-13: one leading slash of a TFTP URL is dropped.
    let name = url.path.strip_prefix('/').unwrap_or(&url.path);
    match tftp.fetch(loader, name, keep).await? {
        Fetched::File(text) => Ok(text),
        Fetched::Missing => Err(Failure::TftpMissing(name.to_owned())),
    }
}
