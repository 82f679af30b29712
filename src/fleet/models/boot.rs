//! A machine that has an address: what the loaders of all firmware have in common.

use std::net::Ipv4Addr;

use crate::clients::fetch::fetch;
use crate::clients::http::{Agent, Http};
use crate::clients::tftp::{Fetched, Tftp};
use crate::clients::url::{Scheme, Url};
use crate::failure::Failure;
use crate::net::context::Context;
use crate::net::segment::Port;
use ringboot_protocol::model::machine::Arch;
use ringboot_protocol::tftp::client::Behaviour;

/// A machine that has an address and goes on with its loader.
pub(crate) struct Boot<'a> {
    pub(crate) context: &'a Context,
    pub(crate) port: Port,
    /// Who fetches the first file.
    pub(crate) rom: Behaviour,
    pub(crate) arch: Arch,
}

impl<'a> Boot<'a> {
    pub(super) fn tftp(&self, address: Ipv4Addr) -> Tftp<'a> {
        Tftp::new(self.context, address, u64::from(self.port.circuit))
    }

    /// The file that DHCP named: below the root by TFTP, or at a URL.
    pub(super) async fn fetch_first(&self, address: Ipv4Addr, file: &str) -> Result<(), Failure> {
        let at = Url::parse(file).unwrap_or_else(|| tftp_url(self.context, file));
        let mut http = Http::new(self.context, Agent::Ipxe, address);
        fetch(&self.tftp(address), &self.rom, &mut http, &at, false).await.map(drop)
    }

    /// Asks for one name after the other, as loaders do, until there is a file; gives the name too.
    pub(super) async fn search(
        &self,
        tftp: &Tftp<'_>,
        loader: &Behaviour,
        names: Vec<String>,
    ) -> Result<(String, String), Failure> {
        for name in names {
            if let Fetched::File(text) = tftp.fetch(loader, &name, true).await? {
                return Ok((name, String::from_utf8_lossy(&text).into_owned()));
            }
        }
        Err(Failure::NoMenu)
    }
}

pub(super) fn tftp_url(context: &Context, name: &str) -> Url {
    Url {
        scheme: Scheme::Tftp,
        server: context.tftp,
        path: format!("/{}", name.trim_start_matches('/')),
    }
}

/// `$grub_cpu` and `$grub_platform`.
pub(super) fn grub_platform(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::Bios => ("i386", "pc"),
        Arch::UefiIa32 => ("i386", "efi"),
        Arch::UefiArm64 => ("arm64", "efi"),
        Arch::UefiX64 | Arch::Other(_) => ("x86_64", "efi"),
    }
}

/// `7F4D0101`, `7F4D010`, ... `7`.
pub(super) fn shortened(address: Ipv4Addr) -> impl Iterator<Item = String> {
    let digits = format!("{:08X}", u32::from(address));
    (1..=digits.len()).rev().filter_map(move |length| digits.get(..length).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn b1_the_address_is_asked_for_digit_by_digit() {
        let names: Vec<_> = shortened(Ipv4Addr::new(192, 168, 4, 26)).collect();
        assert_eq!(names.first().unwrap(), "C0A8041A");
        assert_eq!(names.last().unwrap(), "C");
        assert_eq!(names.len(), 8);
    }
}
