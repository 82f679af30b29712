//! The firmware of a machine: its name, its DHCP and TFTP programs, and its processor.

use super::loader::LoaderKind;
use crate::net::dhcp::DhcpSpeaker;
use ringboot_protocol::model::machine::{Arch, Mac};
use ringboot_protocol::tftp::client::{AskedOption, ClientBehaviour};

/// The firmware of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirmwareModel {
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

impl FirmwareModel {
    /// All models, in the order of docs/loadtest.md.
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

    /// The DHCP program at power-on.
    pub(crate) fn speaker(self) -> DhcpSpeaker {
        match self {
            Self::BiosPxelinux => DhcpSpeaker::BiosRom,
            Self::BiosIpxe => DhcpSpeaker::Ipxe(Arch::Bios.number()),
            Self::UefiPxe => DhcpSpeaker::UefiPxe(Arch::UefiX64.number()),
            Self::UefiHttp => DhcpSpeaker::UefiHttp(X64_HTTP),
            Self::IpxeHttp => DhcpSpeaker::Ipxe(Arch::UefiX64.number()),
            Self::UBoot => DhcpSpeaker::UBoot,
            Self::RaspberryPi => DhcpSpeaker::RaspberryPi,
        }
    }

    /// The card's address: this one, or with the maker's prefix if servers recognise the machine by
    /// that.
    pub(crate) fn mac(self, Mac([a, b, c, d, e, f]): Mac) -> Mac {
        match self {
            // The prefix of the Pi 4 (IEEE registry: Raspberry Pi Trading).
            Self::RaspberryPi => Mac([0xdc, 0xa6, 0x32, d, e, f ^ c]),
            _ => Mac([a, b, c, d, e, f]),
        }
    }

    /// The program that fetches the first file by TFTP.
    pub(super) fn rom(self) -> ClientBehaviour {
        match self {
            Self::UefiPxe | Self::UefiHttp => ClientBehaviour::edk2(),
            Self::BiosPxelinux | Self::BiosIpxe | Self::IpxeHttp => ClientBehaviour::ipxe(),
            Self::UBoot => build_u_boot_behaviour(),
            Self::RaspberryPi => ClientBehaviour::pi4(),
        }
    }

    pub(super) fn arch(self) -> Arch {
        match self {
            Self::UefiPxe | Self::UefiHttp | Self::IpxeHttp => Arch::UefiX64,
            Self::BiosPxelinux | Self::BiosIpxe => Arch::Bios,
            Self::UBoot | Self::RaspberryPi => Arch::UefiArm64,
        }
    }

    /// The kind that this machine assumes of a boot file with an unknown name.
    pub(super) fn usual_loader(self) -> LoaderKind {
        match self {
            Self::BiosPxelinux => LoaderKind::Pxelinux,
            Self::UefiPxe => LoaderKind::Shim,
            _ => LoaderKind::Ipxe,
        }
    }
}

/// HTTP Boot's value of option 93 on x64.
const X64_HTTP: u16 = 16;

/// An arm64 build of U-Boot asks for no size. `tftpwindowsize` is 1 by default.
fn build_u_boot_behaviour() -> ClientBehaviour {
    let mut behaviour = ClientBehaviour::uboot(1);
    behaviour.asks.retain(|ask| *ask != AskedOption::Tsize);
    behaviour
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t18_uboot_asks_in_the_order_that_was_captured() {
        assert_eq!(
            build_u_boot_behaviour().asks,
            [AskedOption::Timeout(5), AskedOption::Blksize(1468)]
        );
    }
}
