//! The firmware models: what each machine asks for, in which order, and how it waits.

mod grub;
mod ipxe;
mod loaded;
mod pxelinux;
mod raspberry_pi;
mod u_boot;
mod uefi_http;
pub(super) mod waits;

use std::net::Ipv4Addr;
use std::rc::Rc;

use crate::fleet::Lease;
use crate::fleet::context::Context;
use crate::fleet::dhcp::Speaker;
use crate::fleet::failure::Failure;
use crate::fleet::http::{Agent, Http};
use crate::fleet::limits::CHAINED_LOADERS_MAX;
use crate::fleet::machine::{Machine, Steps};
use crate::fleet::segment::Port;
use crate::fleet::tftp::{Fetched, Tftp};
use crate::fleet::url::{Scheme, Url};
use crate::model::machine::{Arch, Mac};
use crate::observe::events::Stage;
use crate::tftp::client::Behaviour;

pub(super) use grub::shim_names;
pub(super) use loaded::Loaded;

/// Which firmware a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// A BIOS ROM that is not iPXE, and PXELINUX.
    BiosPxelinux,
    /// iPXE in the card's ROM, on BIOS.
    BiosIpxe,
    /// OVMF's PXE stack, shim and GRUB.
    UefiPxe,
    /// OVMF's HTTP Boot, and the iPXE or GRUB that its URL leads to.
    UefiHttp,
    /// iPXE in the card's ROM, on UEFI, over HTTP.
    IpxeHttp,
    /// U-Boot on arm64: `dhcp`, `pxe get`, `pxe boot`.
    UBoot,
    /// The EEPROM of a Raspberry Pi 4.
    RaspberryPi,
}

impl Model {
    pub const ALL: [Self; 7] = [
        Self::BiosPxelinux,
        Self::BiosIpxe,
        Self::UefiPxe,
        Self::UefiHttp,
        Self::IpxeHttp,
        Self::UBoot,
        Self::RaspberryPi,
    ];

    /// The name in scenarios and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::BiosPxelinux => "bios-pxelinux",
            Self::BiosIpxe => "bios-ipxe",
            Self::UefiPxe => "uefi-pxe",
            Self::UefiHttp => "uefi-http",
            Self::IpxeHttp => "ipxe-http",
            Self::UBoot => "u-boot",
            Self::RaspberryPi => "raspberry-pi",
        }
    }

    /// Who speaks DHCP when this machine is switched on.
    pub(super) fn speaker(self) -> Speaker {
        match self {
            Self::BiosPxelinux => Speaker::BiosRom,
            Self::BiosIpxe => Speaker::Ipxe(Arch::Bios.number()),
            Self::UefiPxe => Speaker::UefiPxe(Arch::UefiX64.number()),
            Self::UefiHttp => Speaker::UefiHttp(X64_HTTP),
            Self::IpxeHttp => Speaker::Ipxe(Arch::UefiX64.number()),
            Self::UBoot => Speaker::UBoot,
            Self::RaspberryPi => Speaker::RaspberryPi,
        }
    }

    /// The card's address: this one, but with the maker's prefix where a server knows the machine by that.
    pub(super) fn mac(self, Mac([a, b, c, d, e, f]): Mac) -> Mac {
        match self {
            // Of the Pi 4 (IEEE registry: Raspberry Pi Trading).
            Self::RaspberryPi => Mac([0xdc, 0xa6, 0x32, d, e, f ^ c]),
            _ => Mac([a, b, c, d, e, f]),
        }
    }

    /// Who fetches the first file by TFTP.
    fn rom(self) -> Behaviour {
        match self {
            Self::UefiPxe | Self::UefiHttp => Behaviour::edk2(),
            Self::BiosPxelinux | Self::BiosIpxe | Self::IpxeHttp => Behaviour::ipxe(),
            Self::UBoot => u_boot::manners(),
            Self::RaspberryPi => Behaviour::pi4(),
        }
    }

    fn arch(self) -> Arch {
        match self {
            Self::UefiPxe | Self::UefiHttp | Self::IpxeHttp => Arch::UefiX64,
            Self::BiosPxelinux | Self::BiosIpxe => Arch::Bios,
            Self::UBoot | Self::RaspberryPi => Arch::UefiArm64,
        }
    }

    /// What a boot file of an unknown name is to this machine.
    fn usual_loader(self) -> Loader {
        match self {
            Self::BiosPxelinux => Loader::Pxelinux,
            Self::UefiPxe => Loader::Shim,
            _ => Loader::Ipxe,
        }
    }
}

/// HTTP Boot's number of option 93 on x64.
const X64_HTTP: u16 = 16;

/// What a boot file is, as far as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loader {
    Pxelinux,
    Shim,
    Grub,
    Script,
    Ipxe,
    Unknown,
}

impl Loader {
    pub(super) fn of(name: &str) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let begins = |words: &[&str]| words.iter().any(|word| file.starts_with(word));
        if file.ends_with(".ipxe") {
            Self::Script
        } else if file.contains("pxelinux") || begins(&["syslinux"]) {
            Self::Pxelinux
        } else if file.contains("ipxe") || begins(&["undionly", "snponly"]) {
            Self::Ipxe
        } else if begins(&["grub", "core."]) {
            Self::Grub
        } else if begins(&["shim", "bootnet", "bootx64", "bootaa64", "bootia32"]) {
            Self::Shim
        } else {
            Self::Unknown
        }
    }
}

/// From power-on to the last octet of the initial disk. A loader that is an iPXE asks DHCP once more.
pub(super) async fn boot(
    machine: &mut Machine,
    model: Model,
    pick: &str,
    steps: &mut Steps,
    lease: &mut Option<Lease>,
) -> Result<(), Failure> {
    let context = Rc::clone(&machine.context);
    let mut boot = Boot { context: &context, port: machine.port, rom: model.rom(), arch: model.arch() };
    let mut speaker = model.speaker();
    let mut file = String::new();
    for _ in 0..CHAINED_LOADERS_MAX {
        let answer = machine.acquire(speaker).await?;
        *lease = Some(Lease::of(machine.port, &answer));
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
                let address = machine.acquire(Speaker::Grub).await?.address;
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

/// A machine that has an address and goes on with its loader.
pub(super) struct Boot<'a> {
    pub(super) context: &'a Context,
    pub(super) port: Port,
    /// Who fetches the first file.
    pub(super) rom: Behaviour,
    pub(super) arch: Arch,
}

impl<'a> Boot<'a> {
    fn tftp(&self, address: Ipv4Addr) -> Tftp<'a> {
        Tftp::new(self.context, address, u64::from(self.port.circuit))
    }

    /// The file that DHCP named: below the root by TFTP, or at a URL.
    async fn fetch_first(&self, address: Ipv4Addr, file: &str) -> Result<(), Failure> {
        let at = Url::parse(file).unwrap_or_else(|| tftp_url(self.context, file));
        let mut http = Http::new(self.context, Agent::Ipxe, address);
        fetch(&self.tftp(address), &self.rom, &mut http, &at, false).await.map(drop)
    }

    /// Asks for one name after the other, as loaders do, until there is a file; gives the name too.
    async fn search(
        &self,
        tftp: &Tftp<'_>,
        loader: &Behaviour,
        names: Vec<String>,
    ) -> Result<(String, String), Failure> {
        for name in names {
            if let Fetched::File(text) = tftp.fetch(loader, &name, true).await? {
                return Ok((name, String::from_utf8_lossy(&text).into_owned()));
            }
        }
        Err(Failure::NoMenu)
    }
}

/// Fetches a file that has to be there.
pub(super) async fn must(tftp: &Tftp<'_>, loader: &Behaviour, name: &str) -> Result<(), Failure> {
    match tftp.fetch(loader, name, false).await? {
        Fetched::File(_) => Ok(()),
        Fetched::Missing => Err(Failure::TftpMissing(name.to_owned())),
    }
}

pub(super) async fn fetch(
    tftp: &Tftp<'_>,
    loader: &Behaviour,
    http: &mut Http<'_>,
    url: &Url,
    keep: bool,
) -> Result<Vec<u8>, Failure> {
    if url.scheme == Scheme::Http {
        return http.fetch(url, keep).await;
    }
    // B-13: one leading slash of a TFTP URL is dropped.
    let name = url.path.strip_prefix('/').unwrap_or(&url.path);
    match tftp.fetch(loader, name, keep).await? {
        Fetched::File(text) => Ok(text),
        Fetched::Missing => Err(Failure::TftpMissing(name.to_owned())),
    }
}

fn tftp_url(context: &Context, name: &str) -> Url {
    Url { scheme: Scheme::Tftp, server: context.tftp, path: format!("/{}", name.trim_start_matches('/')) }
}

/// The directory of a loader, with its slash; empty at the root (B-2).
pub(super) fn folder(loader: &str) -> String {
    loader.rsplit_once('/').map_or_else(String::new, |(folder, _)| format!("{folder}/"))
}

/// `$grub_cpu` and `$grub_platform`.
fn grub_platform(arch: Arch) -> (&'static str, &'static str) {
    match arch {
        Arch::Bios => ("i386", "pc"),
        Arch::UefiIa32 => ("i386", "efi"),
        Arch::UefiArm64 => ("arm64", "efi"),
        Arch::UefiX64 | Arch::Other(_) => ("x86_64", "efi"),
    }
}

/// `7F4D0101`, `7F4D010`, ... `7`.
fn shortened(address: Ipv4Addr) -> impl Iterator<Item = String> {
    let digits = format!("{:08X}", u32::from(address));
    (1..=digits.len()).rev().filter_map(move |length| digits.get(..length).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn b1_the_address_is_asked_for_digit_by_digit() {
        let names: Vec<_> = shortened(Ipv4Addr::new(192, 168, 4, 26)).collect();
        assert_eq!(names.first().unwrap(), "C0A8041A");
        assert_eq!(names.last().unwrap(), "C");
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn b2_a_loader_has_a_folder() {
        assert_eq!(folder("pxelinux.0"), "");
        assert_eq!(folder("a/b/pxelinux.0"), "a/b/");
    }
}
