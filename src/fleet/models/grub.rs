//! GRUB, started by shim or by the firmware itself: its lists, and its search for a configuration.

use std::net::Ipv4Addr;

use super::boot::{Boot, grub_platform, shortened};
use super::loaded::{Language, Loaded};
use super::loader::folder;
use crate::clients::fetch::must;
use crate::clients::http::{Agent, Http};
use crate::clients::url::Url;
use crate::failure::Failure;
use crate::net::segment::Port;
use crate::report::steps::Steps;
use ringboot_observe::events::Stage;
use ringboot_protocol::model::machine::Arch;
use ringboot_protocol::tftp::client::Behaviour;

impl<'a> Boot<'a> {
    /// OVMF's size probe and fetch, shim's misses and its fetch of GRUB, GRUB's lists and its
    /// search for a configuration.
    pub(crate) async fn shim_and_grub(
        &self,
        address: Ipv4Addr,
        loader: &str,
        steps: &mut Steps,
    ) -> Result<Loaded<'a>, Failure> {
        let tftp = self.tftp(address);
        let shim = Behaviour::shim();
        must(&tftp, &self.rom, loader).await?;
        let (asides, second_stage) = shim_names(&folder(loader), self.arch);
        for name in asides {
            tftp.fetch(&shim, &name, false).await?;
        }
        must(&tftp, &shim, &second_stage).await?;
        steps.enter(Stage::Menu);
        self.grub_menu(address, loader).await
    }

    /// A GRUB that the firmware starts itself.
    pub(crate) async fn grub(
        &self,
        address: Ipv4Addr,
        loader: &str,
        steps: &mut Steps,
    ) -> Result<Loaded<'a>, Failure> {
        must(&self.tftp(address), &self.rom, loader).await?;
        steps.enter(Stage::Menu);
        self.grub_menu(address, loader).await
    }

    async fn grub_menu(&self, address: Ipv4Addr, loader: &str) -> Result<Loaded<'a>, Failure> {
        let (tftp, grub, folder) = (self.tftp(address), Behaviour::grub(), folder(loader));
        let (cpu, platform) = grub_platform(self.arch);
        for list in LISTS {
            tftp.fetch(&grub, &format!("/{folder}grub/{cpu}-{platform}/{list}"), false).await?;
        }
        let (name, text) = self.search(&tftp, &grub, self.grub_names(&folder, address)).await?;
        let server = self.context.tftp.ip().to_string();
        let http = Http::new(self.context, Agent::Grub, address);
        let language = Language::Grub { known: known(format!("tftp,{server}"), server, self.arch) };
        Ok(Loaded { tftp, http, behaviour: grub, language, name, text })
    }

    /// The same over HTTP, beside the loader at this URL: a connection for each file, and what is
    /// not there is a miss.
    pub(crate) async fn grub_by_http(
        &self,
        address: Ipv4Addr,
        loader: &Url,
    ) -> Result<Loaded<'a>, Failure> {
        let mut http = Http::new(self.context, Agent::Grub, address);
        let beside = |name: &str| loader.join(name).ok_or_else(|| Failure::BadUrl(name.to_owned()));
        let (cpu, platform) = grub_platform(self.arch);
        for list in LISTS {
            http.find(&beside(&format!("grub/{cpu}-{platform}/{list}"))?).await?;
        }
        let name = beside("grub/grub.cfg")?;
        let text = http.find(&name).await?.ok_or(Failure::NoMenu)?;
        let known = known(format!("http,{}", loader.authority()), loader.authority(), self.arch);
        let language = Language::Grub { known };
        let (name, text) = (name.to_string(), String::from_utf8_lossy(&text).into_owned());
        Ok(Loaded {
            tftp: self.tftp(address),
            http,
            behaviour: Behaviour::grub(),
            language,
            name,
            text,
        })
    }

    /// The same with GRUB's names, in the loader's folder first (Red Hat), then in `grub/` (Debian)
    /// (B-7, B-8).
    fn grub_names(&self, folder: &str, address: Ipv4Addr) -> Vec<String> {
        let Port { mac, uuid, .. } = self.port;
        let mut names = vec![format!("grub.cfg-{uuid}"), format!("grub.cfg-01-{}", mac.dashed())];
        names.extend(shortened(address).map(|digits| format!("grub.cfg-{digits}")));
        names.push("grub.cfg".to_owned());
        names.push("grub/grub.cfg".to_owned());
        names.into_iter().map(|name| format!("/{folder}{name}")).collect()
    }
}

/// What GRUB asks for before its configuration; it goes on without.
const LISTS: [&str; 4] = ["command.lst", "fs.lst", "crypto.lst", "terminal.lst"];

/// The variables that a menu may use.
fn known(root: String, server: String, arch: Arch) -> Vec<(String, String)> {
    let (cpu, platform) = grub_platform(arch);
    let known = [
        ("root", root),
        ("net_default_server", server),
        ("grub_cpu", cpu.to_owned()),
        ("grub_platform", platform.to_owned()),
    ];
    known.map(|(name, value)| (name.to_owned(), value)).into()
}

/// What shim asks for beside itself: files that are normally absent, and GRUB (B-10).
pub(crate) fn shim_names(folder: &str, arch: Arch) -> ([String; 3], String) {
    let asides = ["revocations_sku.efi", "revocations_sbat.efi", "shim_certificate_0.efi"];
    let grub = match arch {
        Arch::UefiIa32 => "grubia32.efi",
        Arch::UefiArm64 => "grubaa64.efi",
        _ => "grubx64.efi",
    };
    (asides.map(|name| format!("{folder}{name}")), format!("{folder}{grub}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn b10_shim_asks_beside_itself_for_what_is_absent_and_for_grub() {
        let (asides, second_stage) = shim_names(&folder("efi/bootnetx64.efi"), Arch::UefiX64);
        assert!(asides.iter().all(|name| name.starts_with("efi/")), "{asides:?}");
        assert_eq!(second_stage, "efi/grubx64.efi");
        assert_eq!(shim_names(&folder("bootnetx64.efi"), Arch::UefiX64).1, "grubx64.efi");
    }
}
