//! PXELINUX: its modules, and its search for a configuration with all its misses.

use std::net::Ipv4Addr;

use super::boot::{BootingMachine, list_shortened_addresses};
use super::loaded::{MenuLanguage, RunningLoader, resolve_pxelinux_name};
use super::loader::find_loader_folder;
use super::menu;
use crate::clients::fetch::fetch_required_file;
use crate::clients::http::{HttpAgent, HttpFetcher};
use crate::failure::BootFailure;
use crate::net::segment::MachinePort;
use crate::report::steps::BootSteps;
use ringboot_observe::events::MachineStage;
use ringboot_protocol::model::machine::Arch;
use ringboot_protocol::tftp::client::ClientBehaviour;

impl<'a> BootingMachine<'a> {
    /// ROM, lpxelinux, its modules, its search for a configuration with all its misses (B-1).
    pub(crate) async fn pxelinux(
        &self,
        address: Ipv4Addr,
        loader: &str,
        steps: &mut BootSteps,
    ) -> Result<RunningLoader<'a>, BootFailure> {
        let tftp = self.make_tftp_fetcher(address);
        let pxelinux = ClientBehaviour::pxelinux();
        let folder = find_loader_folder(loader);
        fetch_required_file(&tftp, &self.rom, loader).await?;
        let core = if self.arch == Arch::Bios { "ldlinux.c32" } else { "ldlinux.e64" };
        fetch_required_file(&tftp, &pxelinux, &format!("{folder}{core}")).await?;
        steps.enter(MachineStage::Menu);
        let (name, text) =
            self.search_names(&tftp, &pxelinux, self.pxelinux_names(&folder, address)).await?;
        if let Some(program) = menu::read_pxelinux_entry(&text, "").program {
            // The menu program, its libraries, and the configuration once more.
            for name in [program.as_str(), "libcom32.c32", "libutil.c32"] {
                fetch_required_file(&tftp, &pxelinux, &resolve_pxelinux_name(&folder, name))
                    .await?;
            }
            self.search_names(&tftp, &pxelinux, self.pxelinux_names(&folder, address)).await?;
        }
        let MachinePort { mac, uuid, .. } = self.port;
        let http = HttpFetcher::new(self.context, HttpAgent::Syslinux { mac, uuid }, address);
        Ok(RunningLoader {
            tftp,
            http,
            behaviour: pxelinux,
            language: MenuLanguage::Pxelinux { folder },
            name,
            text,
        })
    }

    /// UUID, hardware address, the address in hexadecimal shortened digit by digit, `default`
    /// (B-1).
    fn pxelinux_names(&self, folder: &str, address: Ipv4Addr) -> Vec<String> {
        let MachinePort { mac, uuid, .. } = self.port;
        let mut names = vec![uuid.to_string(), format!("01-{}", mac.to_dashed())];
        names.extend(list_shortened_addresses(address));
        names.push("default".to_owned());
        names.into_iter().map(|name| format!("{folder}pxelinux.cfg/{name}")).collect()
    }
}
