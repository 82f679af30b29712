//! iPXE at its script.

use std::net::Ipv4Addr;

use super::boot::{Boot, grub_platform, tftp_url};
use super::loaded::{Language, Loaded};
use crate::clients::fetch::fetch;
use crate::clients::http::{Agent, Http};
use crate::clients::url::Url;
use crate::failure::Failure;
use crate::net::segment::Port;
use ringboot_protocol::model::machine::Arch;
use ringboot_protocol::tftp::client::Behaviour;

impl<'a> Boot<'a> {
    /// The script that DHCP named.
    pub(crate) async fn ipxe(
        &self,
        address: Ipv4Addr,
        script: &str,
    ) -> Result<Loaded<'a>, Failure> {
        let tftp = self.tftp(address);
        let Port { mac, uuid, .. } = self.port;
        let (buildarch, _) = grub_platform(self.arch);
        let platform = if self.arch == Arch::Bios { "pcbios" } else { "efi" };
        let known = [
            ("mac", mac.to_string()),
            ("net0/mac", mac.to_string()),
            ("net0/mac:hexhyp", mac.dashed()),
            ("mac:hexhyp", mac.dashed()),
            ("uuid", uuid.to_string()),
            ("net0/ip", address.to_string()),
            ("ip", address.to_string()),
            ("buildarch", if self.arch == Arch::Bios { "x86_64" } else { buildarch }.to_owned()),
            ("platform", platform.to_owned()),
        ];
        let known = known.map(|(name, value)| (name.to_owned(), value)).into();
        let at = Url::parse(script).unwrap_or_else(|| tftp_url(self.context, script));
        let mut http = Http::new(self.context, Agent::Ipxe, address);
        let behaviour = Behaviour::ipxe();
        let text = fetch(&tftp, &behaviour, &mut http, &at, true).await?;
        let (name, text) = (at.to_string(), String::from_utf8_lossy(&text).into_owned());
        Ok(Loaded { tftp, http, behaviour, language: Language::Ipxe { at, known }, name, text })
    }
}
