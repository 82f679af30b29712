//! U-Boot 2023.01 on arm64: `dhcp`, `pxe get` and `pxe boot`, all by TFTP (captures `uboot-arm64`,
//! `uboot-x86`).

use std::net::Ipv4Addr;

use super::boot::{Boot, shortened};
use super::loaded::{Language, Loaded, Place};
use super::menu;
use crate::clients::fetch::must;
use crate::clients::http::{Agent, Http};
use crate::failure::Failure;
use crate::report::steps::Steps;
use ringboot_observe::events::Stage;

impl Boot<'_> {
    /// The menu, then the entry that was picked (of several of this name the first that begins so):
    /// initial disk before kernel.
    pub(super) async fn u_boot(
        &self,
        address: Ipv4Addr,
        pick: &str,
        steps: &mut Steps,
    ) -> Result<(), Failure> {
        steps.enter(Stage::Menu);
        let tftp = self.tftp(address);
        let (name, text) = self.search(&tftp, &self.rom, self.u_boot_names(address)).await?;
        let http = Http::new(self.context, Agent::Grub, address);
        let language = Language::Pxelinux { folder: String::new() };
        let mut loaded = Loaded { tftp, http, behaviour: self.rom.clone(), language, name, text };
        let labels = menu::pxelinux_labels(&loaded.text);
        let label =
            labels.iter().find(|label| label.starts_with(pick)).map_or(pick, String::as_str);
        let choice = loaded.pick(label).await?;
        let initrds = choice.initrds.iter().map(|name| (name, Stage::Initrd));
        for (name, stage) in initrds.chain([(&choice.kernel, Stage::Kernel)]) {
            steps.enter(stage);
            match Place::of(name, "") {
                Some(Place::Tftp(path)) => must(&loaded.tftp, &self.rom, &path).await?,
                // It has no HTTP here.
                _ => return Err(Failure::BadUrl(name.clone())),
            }
        }
        Ok(())
    }

    /// No UUID: only with `pxeuuid` set. Boards put their own names before `default` (B-3); QEMU's
    /// is `default-arm`.
    fn u_boot_names(&self, address: Ipv4Addr) -> Vec<String> {
        let mut names = vec![format!("01-{}", self.port.mac.dashed())];
        names.extend(shortened(address));
        names.extend(["default-arm", "default"].map(str::to_owned));
        names.into_iter().map(|name| format!("pxelinux.cfg/{name}")).collect()
    }
}
