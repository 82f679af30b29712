//! PXELINUX: its modules, and its search for a configuration with all the misses that belong to it.

use std::net::Ipv4Addr;

use super::boot::{Boot, shortened};
use super::loaded::{Language, Loaded, under};
use super::loader::folder;
use super::menu;
use crate::clients::fetch::must;
use crate::clients::http::{Agent, Http};
use crate::failure::Failure;
use crate::net::segment::Port;
use crate::report::steps::Steps;
use ringboot_observe::events::Stage;
use ringboot_protocol::model::machine::Arch;
use ringboot_protocol::tftp::client::Behaviour;

impl<'a> Boot<'a> {
    /// ROM, lpxelinux, its modules, its search for a configuration with all the misses that belong
    /// to it (B-1).
    pub(crate) async fn pxelinux(
        &self,
        address: Ipv4Addr,
        loader: &str,
        steps: &mut Steps,
    ) -> Result<Loaded<'a>, Failure> {
        let tftp = self.tftp(address);
        let pxelinux = Behaviour::pxelinux();
        let folder = folder(loader);
        must(&tftp, &self.rom, loader).await?;
        let core = if self.arch == Arch::Bios { "ldlinux.c32" } else { "ldlinux.e64" };
        must(&tftp, &pxelinux, &format!("{folder}{core}")).await?;
        steps.enter(Stage::Menu);
        let (name, text) =
            self.search(&tftp, &pxelinux, self.pxelinux_names(&folder, address)).await?;
        if let Some(program) = menu::pxelinux(&text, "").program {
            // The menu program, its libraries, and the configuration once more.
            for name in [program.as_str(), "libcom32.c32", "libutil.c32"] {
                must(&tftp, &pxelinux, &under(&folder, name)).await?;
            }
            self.search(&tftp, &pxelinux, self.pxelinux_names(&folder, address)).await?;
        }
        let Port { mac, uuid, .. } = self.port;
        let http = Http::new(self.context, Agent::Syslinux { mac, uuid }, address);
        Ok(Loaded {
            tftp,
            http,
            behaviour: pxelinux,
            language: Language::Pxelinux { folder },
            name,
            text,
        })
    }

    /// UUID, hardware address, the address in hexadecimal shortened digit by digit, `default`
    /// (B-1).
    fn pxelinux_names(&self, folder: &str, address: Ipv4Addr) -> Vec<String> {
        let Port { mac, uuid, .. } = self.port;
        let mut names = vec![uuid.to_string(), format!("01-{}", mac.dashed())];
        names.extend(shortened(address));
        names.push("default".to_owned());
        names.into_iter().map(|name| format!("{folder}pxelinux.cfg/{name}")).collect()
    }
}
