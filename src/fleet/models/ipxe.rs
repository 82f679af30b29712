//! iPXE with its script.

use std::net::Ipv4Addr;

use super::boot::{BootingMachine, build_tftp_url, spell_grub_platform};
use super::loaded::{MenuLanguage, RunningLoader};
use crate::clients::fetch::fetch_url;
use crate::clients::http::{HttpAgent, HttpFetcher};
use crate::clients::url::Url;
use crate::failure::BootFailure;
use crate::net::segment::MachinePort;
use ringboot_protocol::model::machine::Arch;
use ringboot_protocol::tftp::client::ClientBehaviour;

impl<'a> BootingMachine<'a> {
    /// The script that DHCP named.
    pub(crate) async fn ipxe(
        &self,
        address: Ipv4Addr,
        script: &str,
    ) -> Result<RunningLoader<'a>, BootFailure> {
        let tftp = self.make_tftp_fetcher(address);
        let MachinePort { mac, uuid, .. } = self.port;
        let (buildarch, _) = spell_grub_platform(self.arch);
        let platform = if self.arch == Arch::Bios { "pcbios" } else { "efi" };
        let known = [
            ("mac", mac.to_string()),
            ("net0/mac", mac.to_string()),
            ("net0/mac:hexhyp", mac.to_dashed()),
            ("mac:hexhyp", mac.to_dashed()),
            ("uuid", uuid.to_string()),
            ("net0/ip", address.to_string()),
            ("ip", address.to_string()),
            ("buildarch", if self.arch == Arch::Bios { "x86_64" } else { buildarch }.to_owned()),
            ("platform", platform.to_owned()),
        ];
        let known = known.map(|(name, value)| (name.to_owned(), value)).into();

        // A name without a scheme is a file of the TFTP server.
        let at = Url::parse(script).unwrap_or_else(|| build_tftp_url(self.context, script));
        let mut http = HttpFetcher::new(self.context, HttpAgent::Ipxe, address);
        let behaviour = ClientBehaviour::ipxe();
        let text = fetch_url(&tftp, &behaviour, &mut http, &at, true).await?;
        let (name, text) = (at.to_string(), String::from_utf8_lossy(&text).into_owned());
        Ok(RunningLoader {
            tftp,
            http,
            behaviour,
            language: MenuLanguage::Ipxe { at, known },
            name,
            text,
        })
    }
}
