//! The firmware models: what each machine asks for, in which order, and how it waits.

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

use super::clients::lease::Lease;
use super::clients::station::Station;
use super::net::dhcp::Speaker;
use super::report::steps::Steps;
use crate::failure::Failure;
use crate::limits::CHAINED_LOADERS_MAX;
use ringboot_observe::events::Stage;
use ringboot_protocol::tftp::client::Behaviour;

pub(super) use boot::Boot;
pub(super) use grub::shim_names;
pub(super) use loaded::Loaded;
pub(super) use loader::{Loader, folder};
pub use model::Model;

/// From power-on to the last octet of the initial disk. A loader that is an iPXE asks DHCP once
/// more.
pub(super) async fn boot(
    station: &mut Station,
    model: Model,
    pick: &str,
    steps: &mut Steps,
    lease: &mut Option<Lease>,
) -> Result<(), Failure> {
    let context = Rc::clone(&station.context);
    let mut boot =
        Boot { context: &context, port: station.port, rom: model.rom(), arch: model.arch() };
    let mut speaker = model.speaker();
    let mut file = String::new();
    for _ in 0..CHAINED_LOADERS_MAX {
        let answer = station.acquire(speaker).await?;
        *lease = Some(Lease::of(station.port, &answer));
        let address = answer.address;
        match model {
            Model::UBoot => return boot.u_boot(address, pick, steps).await,
            Model::RaspberryPi => return boot.raspberry_pi(address, steps).await,
            _ => {}
        }
        file = answer.boot_file.ok_or(Failure::NoBootFile)?;
        let loader = match Loader::of(&file) {
            Loader::Unknown => model.usual_loader(),
            known => known,
        };
        let by_http = matches!(speaker, Speaker::UefiHttp(_));
        steps.enter(if loader == Loader::Script { Stage::Menu } else { Stage::Loader });
        let mut loaded = match loader {
            Loader::Script => boot.ipxe(address, &file).await?,
            Loader::Ipxe | Loader::Unknown => {
                if by_http {
                    boot.uefi_http(address, &file).await?;
                } else {
                    boot.fetch_first(address, &file).await?;
                }
                steps.enter(Stage::Dhcp);
                speaker = Speaker::Ipxe(boot.arch.number());
                boot.rom = Behaviour::ipxe();
                continue;
            }
            Loader::Pxelinux => boot.pxelinux(address, &file, steps).await?,
            _ if by_http => {
                let url = boot.uefi_http(address, &file).await?;
                if loader == Loader::Shim {
                    return boot.shim_by_http(address, &url).await;
                }
                steps.enter(Stage::Dhcp);
                let address = station.acquire(Speaker::Grub).await?.address;
                steps.enter(Stage::Menu);
                boot.grub_by_http(address, &url).await?
            }
            Loader::Shim => boot.shim_and_grub(address, &file, steps).await?,
            Loader::Grub => boot.grub(address, &file, steps).await?,
        };
        let choice = loaded.pick(pick).await?;
        return loaded.images(choice, steps).await;
    }
    Err(Failure::LoaderLoop(file))
}
