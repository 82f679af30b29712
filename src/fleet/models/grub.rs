//! GRUB, started by shim or by the firmware itself: its lists, and its search for a configuration.

use std::net::Ipv4Addr;

use super::boot::{BootingMachine, list_shortened_addresses, spell_grub_platform};
use super::loaded::{MenuLanguage, RunningLoader};
use super::loader::find_loader_folder;
use crate::clients::fetch::fetch_required_file;
use crate::clients::http::{HttpAgent, HttpFetcher};
use crate::clients::url::Url;
use crate::failure::BootFailure;
use crate::net::segment::MachinePort;
use crate::report::steps::BootSteps;
use ringboot_observe::events::MachineStage;
use ringboot_protocol::model::machine::Arch;
use ringboot_protocol::tftp::client::ClientBehaviour;

impl<'a> BootingMachine<'a> {
    /// OVMF's size probe and fetch, shim's misses and its fetch of GRUB, GRUB's lists and its
    /// search for a configuration.
    pub(crate) async fn shim_and_grub(
        &self,
        address: Ipv4Addr,
        loader: &str,
        steps: &mut BootSteps,
    ) -> Result<RunningLoader<'a>, BootFailure> {
        let tftp = self.make_tftp_fetcher(address);
        let shim = ClientBehaviour::shim();
        fetch_required_file(&tftp, &self.rom, loader).await?;
        let (asides, second_stage) = list_shim_names(&find_loader_folder(loader), self.arch);
        for name in asides {
            tftp.fetch(&shim, &name, false).await?;
        }
        fetch_required_file(&tftp, &shim, &second_stage).await?;
        steps.enter(MachineStage::Menu);
        self.grub_menu(address, loader).await
    }

    /// A GRUB that the firmware starts itself.
    pub(crate) async fn grub(
        &self,
        address: Ipv4Addr,
        loader: &str,
        steps: &mut BootSteps,
    ) -> Result<RunningLoader<'a>, BootFailure> {
        fetch_required_file(&self.make_tftp_fetcher(address), &self.rom, loader).await?;
        steps.enter(MachineStage::Menu);
        self.grub_menu(address, loader).await
    }

    async fn grub_menu(
        &self,
        address: Ipv4Addr,
        loader: &str,
    ) -> Result<RunningLoader<'a>, BootFailure> {
        let (tftp, grub, folder) =
            (self.make_tftp_fetcher(address), ClientBehaviour::grub(), find_loader_folder(loader));
        let (cpu, platform) = spell_grub_platform(self.arch);
        for list in LISTS {
            tftp.fetch(&grub, &format!("/{folder}grub/{cpu}-{platform}/{list}"), false).await?;
        }
        let (name, text) =
            self.search_names(&tftp, &grub, self.grub_names(&folder, address)).await?;
        let server = self.context.tftp.ip().to_string();
        let http = HttpFetcher::new(self.context, HttpAgent::Grub, address);
        let language = MenuLanguage::Grub {
            known: build_grub_variables(format!("tftp,{server}"), server, self.arch),
        };
        Ok(RunningLoader { tftp, http, behaviour: grub, language, name, text })
    }

    /// The same over HTTP, beside the loader at this URL: a connection for each file; a missing
    /// file is a miss.
    pub(crate) async fn grub_by_http(
        &self,
        address: Ipv4Addr,
        loader: &Url,
    ) -> Result<RunningLoader<'a>, BootFailure> {
        let mut http = HttpFetcher::new(self.context, HttpAgent::Grub, address);
        let beside =
            |name: &str| loader.join(name).ok_or_else(|| BootFailure::BadUrl(name.to_owned()));
        let (cpu, platform) = spell_grub_platform(self.arch);
        for list in LISTS {
            http.find(&beside(&format!("grub/{cpu}-{platform}/{list}"))?).await?;
        }
        let name = beside("grub/grub.cfg")?;
        let text = http.find(&name).await?.ok_or(BootFailure::NoMenu)?;

        // `$root` is the place that GRUB came from. A menu writes its files as `($net)/path` with
        // that place (B-9), so they come over HTTP as well.
        let known = build_grub_variables(
            format!("http,{}", loader.authority()),
            loader.authority(),
            self.arch,
        );
        let language = MenuLanguage::Grub { known };
        let (name, text) = (name.to_string(), String::from_utf8_lossy(&text).into_owned());
        Ok(RunningLoader {
            tftp: self.make_tftp_fetcher(address),
            http,
            behaviour: ClientBehaviour::grub(),
            language,
            name,
            text,
        })
    }

    /// The same with GRUB's names, in the loader's folder first (Red Hat), then in `grub/` (Debian)
    /// (B-7, B-8).
    fn grub_names(&self, folder: &str, address: Ipv4Addr) -> Vec<String> {
        let MachinePort { mac, uuid, .. } = self.port;
        let mut names =
            vec![format!("grub.cfg-{uuid}"), format!("grub.cfg-01-{}", mac.to_dashed())];
        names.extend(list_shortened_addresses(address).map(|digits| format!("grub.cfg-{digits}")));
        names.push("grub.cfg".to_owned());
        names.push("grub/grub.cfg".to_owned());
        names.into_iter().map(|name| format!("/{folder}{name}")).collect()
    }
}

/// The lists that GRUB requests before its configuration, and does not need.
const LISTS: [&str; 4] = ["command.lst", "fs.lst", "crypto.lst", "terminal.lst"];

/// The variables that a menu may use.
fn build_grub_variables(root: String, server: String, arch: Arch) -> Vec<(String, String)> {
    let (cpu, platform) = spell_grub_platform(arch);
    let known = [
        ("root", root),
        ("net_default_server", server),
        ("grub_cpu", cpu.to_owned()),
        ("grub_platform", platform.to_owned()),
    ];
    known.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The files beside itself that shim requests: files that are normally absent, and GRUB (B-10).
pub(crate) fn list_shim_names(folder: &str, arch: Arch) -> ([String; 3], String) {
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
        let (asides, second_stage) =
            list_shim_names(&find_loader_folder("efi/bootnetx64.efi"), Arch::UefiX64);
        assert!(asides.iter().all(|name| name.starts_with("efi/")), "{asides:?}");
        assert_eq!(second_stage, "efi/grubx64.efi");
        assert_eq!(
            list_shim_names(&find_loader_folder("bootnetx64.efi"), Arch::UefiX64).1,
            "grubx64.efi"
        );
    }
}
