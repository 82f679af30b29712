//! Which firmware a machine has: its name, who speaks DHCP and TFTP for it, and its processor.

use super::loader::Loader;
use crate::net::dhcp::Speaker;
use ringboot_protocol::model::machine::{Arch, Mac};
use ringboot_protocol::tftp::client::{Ask, Behaviour};

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
    pub(crate) fn speaker(self) -> Speaker {
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

    /// The card's address: this one, but with the maker's prefix where a server knows the machine
    /// by that.
    pub(crate) fn mac(self, Mac([a, b, c, d, e, f]): Mac) -> Mac {
        match self {
            // Of the Pi 4 (IEEE registry: Raspberry Pi Trading).
            Self::RaspberryPi => Mac([0xdc, 0xa6, 0x32, d, e, f ^ c]),
            _ => Mac([a, b, c, d, e, f]),
        }
    }

    /// Who fetches the first file by TFTP.
    pub(super) fn rom(self) -> Behaviour {
        match self {
            Self::UefiPxe | Self::UefiHttp => Behaviour::edk2(),
            Self::BiosPxelinux | Self::BiosIpxe | Self::IpxeHttp => Behaviour::ipxe(),
            Self::UBoot => u_boot_manners(),
            Self::RaspberryPi => Behaviour::pi4(),
        }
    }

    pub(super) fn arch(self) -> Arch {
        match self {
            Self::UefiPxe | Self::UefiHttp | Self::IpxeHttp => Arch::UefiX64,
            Self::BiosPxelinux | Self::BiosIpxe => Arch::Bios,
            Self::UBoot | Self::RaspberryPi => Arch::UefiArm64,
        }
    }

    /// What a boot file of an unknown name is to this machine.
    pub(super) fn usual_loader(self) -> Loader {
        match self {
            Self::BiosPxelinux => Loader::Pxelinux,
            Self::UefiPxe => Loader::Shim,
            _ => Loader::Ipxe,
        }
    }
}

/// HTTP Boot's number of option 93 on x64.
const X64_HTTP: u16 = 16;

/// An arm64 build of U-Boot asks for no size. `tftpwindowsize` is 1 where nobody has set it.
fn u_boot_manners() -> Behaviour {
    let mut behaviour = Behaviour::uboot(1);
    behaviour.asks.retain(|ask| *ask != Ask::Tsize);
    behaviour
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t18_uboot_asks_in_the_order_that_was_captured() {
        assert_eq!(u_boot_manners().asks, [Ask::Timeout(5), Ask::Blksize(1468)]);
    }
}
