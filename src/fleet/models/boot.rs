//! A machine with an address: the common part of all loaders.

use std::net::Ipv4Addr;

use crate::clients::fetch::fetch_url;
use crate::clients::http::{HttpAgent, HttpFetcher};
use crate::clients::tftp::{FetchedTftp, TftpFetcher};
use crate::clients::url::{Url, UrlScheme};
use crate::failure::BootFailure;
use crate::net::context::FleetContext;
use crate::net::segment::MachinePort;
use ringboot_protocol::model::machine::Arch;
use ringboot_protocol::tftp::client::ClientBehaviour;

/// A machine with an address, which goes on with its loader.
pub(crate) struct BootingMachine<'a> {
    pub(crate) context: &'a FleetContext,
    pub(crate) port: MachinePort,
    /// The program that fetches the first file.
    pub(crate) rom: ClientBehaviour,
    pub(crate) arch: Arch,
}

impl<'a> BootingMachine<'a> {
    pub(super) fn make_tftp_fetcher(&self, address: Ipv4Addr) -> TftpFetcher<'a> {
        TftpFetcher::new(self.context, address, u64::from(self.port.circuit))
    }

    /// The file that DHCP named: below the root by TFTP, or at a URL.
    pub(super) async fn fetch_first(
        &self,
        address: Ipv4Addr,
        file: &str,
    ) -> Result<(), BootFailure> {
        let at = Url::parse(file).unwrap_or_else(|| build_tftp_url(self.context, file));
        let mut http = HttpFetcher::new(self.context, HttpAgent::Ipxe, address);
        fetch_url(&self.make_tftp_fetcher(address), &self.rom, &mut http, &at, false)
            .await
            .map(drop)
    }

    /// Tries one name after the other, as loaders do, until one exists; returns the name too.
    pub(super) async fn search_names(
        &self,
        tftp: &TftpFetcher<'_>,
        loader: &ClientBehaviour,
        names: Vec<String>,
    ) -> Result<(String, String), BootFailure> {
        for name in names {
            if let FetchedTftp::File(text) = tftp.fetch(loader, &name, true).await? {
                return Ok((name, String::from_utf8_lossy(&text).into_owned()));
            }
        }
        Err(BootFailure::NoMenu)
    }
}

pub(super) fn build_tftp_url(context: &FleetContext, name: &str) -> Url {
    Url {
        scheme: UrlScheme::Tftp,
        server: context.tftp,
        path: format!("/{}", name.trim_start_matches('/')),
    }
}

/// `$grub_cpu` and `$grub_platform`.
pub(super) fn spell_grub_platform(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::Bios => ("i386", "pc"),
        Arch::UefiIa32 => ("i386", "efi"),
        Arch::UefiArm64 => ("arm64", "efi"),
        Arch::UefiX64 | Arch::Other(_) => ("x86_64", "efi"),
    }
}

/// `7F4D0101`, `7F4D010`, ... `7`.
pub(super) fn list_shortened_addresses(address: Ipv4Addr) -> impl Iterator<Item = String> {
    let digits = format!("{:08X}", u32::from(address));
    (1..=digits.len()).rev().filter_map(move |length| digits.get(..length).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn b1_the_address_is_asked_for_digit_by_digit() {
        let names: Vec<_> = list_shortened_addresses(Ipv4Addr::new(192, 168, 4, 26)).collect();
        assert_eq!(names.first().unwrap(), "C0A8041A");
        assert_eq!(names.last().unwrap(), "C");
        assert_eq!(names.len(), 8);
    }
}
