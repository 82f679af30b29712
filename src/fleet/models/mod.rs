//! The firmware models: the files of each machine, their order, and its waits.

mod boot;
mod grub;
mod ipxe;
mod loaded;
mod loader;
pub(super) mod menu;
mod model;
mod pxelinux;
mod raspberry_pi;
mod u_boot;
mod uefi_http;

use std::rc::Rc;

use super::clients::lease::MachineLease;
use super::clients::station::MachineStation;
use super::net::dhcp::DhcpSpeaker;
use super::report::steps::BootSteps;
use crate::failure::BootFailure;
use crate::limits::CHAINED_LOADERS_MAX;
use ringboot_observe::events::MachineStage;
use ringboot_protocol::tftp::client::ClientBehaviour;

pub(super) use boot::BootingMachine;
pub(super) use grub::list_shim_names;
pub(super) use loaded::RunningLoader;
pub(super) use loader::{LoaderKind, find_loader_folder};
pub use model::FirmwareModel;

/// From power-on to the last byte of the initrd. A loader that is an iPXE uses DHCP once more.
pub(super) async fn boot_model(
    station: &mut MachineStation,
    model: FirmwareModel,
    pick: &str,
    steps: &mut BootSteps,
    lease: &mut Option<MachineLease>,
) -> Result<(), BootFailure> {
    let context = Rc::clone(&station.context);
    let mut boot = BootingMachine {
        context: &context,
        port: station.port,
        rom: model.rom(),
        arch: model.arch(),
    };
    let mut speaker = model.speaker();
    let mut file = String::new();

    // Each turn is one lease. A server that names the same loader for ever (D-69) must not keep the
    // machine for ever.
    for _ in 0..CHAINED_LOADERS_MAX {
        let answer = station.acquire(speaker).await?;
        *lease = Some(MachineLease::from_answer(station.port, &answer));
        let address = answer.address;

        // These two ask for names of their own and need no boot file.
        match model {
            FirmwareModel::UBoot => return boot.u_boot(address, pick, steps).await,
            FirmwareModel::RaspberryPi => return boot.raspberry_pi(address, steps).await,
            _ => {}
        }
        file = answer.boot_file.ok_or(BootFailure::NoBootFile)?;

        // A name that says nothing stands for the loader that this firmware usually gets.
        let loader = match LoaderKind::from_name(&file) {
            LoaderKind::Unknown => model.usual_loader(),
            known => known,
        };
        let by_http = matches!(speaker, DhcpSpeaker::UefiHttp(_));

        // A script is the menu itself: no loader comes before it.
        steps.enter(if loader == LoaderKind::Script {
            MachineStage::Menu
        } else {
            MachineStage::Loader
        });
        let mut loaded = match loader {
            LoaderKind::Script => boot.ipxe(address, &file).await?,
            LoaderKind::Ipxe | LoaderKind::Unknown => {
                if by_http {
                    boot.uefi_http(address, &file).await?;
                } else {
                    boot.fetch_first(address, &file).await?;
                }
                steps.enter(MachineStage::Dhcp);
                speaker = DhcpSpeaker::Ipxe(boot.arch.number());
                boot.rom = ClientBehaviour::ipxe();
                continue;
            }
            LoaderKind::Pxelinux => boot.pxelinux(address, &file, steps).await?,
            _ if by_http => {
                let url = boot.uefi_http(address, &file).await?;
                if loader == LoaderKind::Shim {
                    return boot.shim_by_http(address, &url).await;
                }

                // GRUB from HTTP Boot does not take over the firmware's address: it asks for one as
                // a client of its own.
                steps.enter(MachineStage::Dhcp);
                let address = station.acquire(DhcpSpeaker::Grub).await?.address;
                steps.enter(MachineStage::Menu);
                boot.grub_by_http(address, &url).await?
            }
            LoaderKind::Shim => boot.shim_and_grub(address, &file, steps).await?,
            LoaderKind::Grub => boot.grub(address, &file, steps).await?,
        };
        let choice = loaded.pick_entry(pick).await?;
        return loaded.fetch_images(choice, steps).await;
    }
    Err(BootFailure::LoaderLoop(file))
}
