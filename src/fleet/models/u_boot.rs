//! U-Boot 2023.01 on arm64: `dhcp`, `pxe get` and `pxe boot`, all by TFTP (captures `uboot-arm64`,
//! `uboot-x86`).

use std::net::Ipv4Addr;

use super::boot::{BootingMachine, list_shortened_addresses};
use super::loaded::{MenuLanguage, MenuPlace, RunningLoader};
use super::menu;
use crate::clients::fetch::fetch_required_file;
use crate::clients::http::{HttpAgent, HttpFetcher};
use crate::failure::BootFailure;
use crate::report::steps::BootSteps;
use ringboot_observe::events::MachineStage;

impl BootingMachine<'_> {
    /// The menu, then the chosen entry (of several with this name the first that begins so): initrd
    /// before kernel.
    pub(super) async fn u_boot(
        &self,
        address: Ipv4Addr,
        pick: &str,
        steps: &mut BootSteps,
    ) -> Result<(), BootFailure> {
        steps.enter(MachineStage::Menu);
        let tftp = self.make_tftp_fetcher(address);
        let (name, text) = self.search_names(&tftp, &self.rom, self.u_boot_names(address)).await?;
        let http = HttpFetcher::new(self.context, HttpAgent::Grub, address);
        let language = MenuLanguage::Pxelinux { folder: String::new() };
        let mut loaded =
            RunningLoader { tftp, http, behaviour: self.rom.clone(), language, name, text };
        let labels = menu::list_pxelinux_labels(&loaded.text);
        let label =
            labels.iter().find(|label| label.starts_with(pick)).map_or(pick, String::as_str);
        let choice = loaded.pick_entry(label).await?;
        let initrds = choice.initrds.iter().map(|name| (name, MachineStage::Initrd));
        for (name, stage) in initrds.chain([(&choice.kernel, MachineStage::Kernel)]) {
            steps.enter(stage);
            match MenuPlace::parse_pxelinux(name, "") {
                Some(MenuPlace::Tftp(path)) => {
                    fetch_required_file(&loaded.tftp, &self.rom, &path).await?
                }
                // This U-Boot has no HTTP.
                _ => return Err(BootFailure::BadUrl(name.clone())),
            }
        }
        Ok(())
    }

    /// No UUID: only with `pxeuuid` set. Boards put their own names before `default` (B-3); QEMU's
    /// is `default-arm`.
    fn u_boot_names(&self, address: Ipv4Addr) -> Vec<String> {
        let mut names = vec![format!("01-{}", self.port.mac.to_dashed())];
        names.extend(list_shortened_addresses(address));
        names.extend(["default-arm", "default"].map(str::to_owned));
        names.into_iter().map(|name| format!("pxelinux.cfg/{name}")).collect()
    }
}
