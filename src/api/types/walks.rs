//! Walks: `ringboot check --live` follows the boot chain of a machine over the running sockets.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// The firmware of a walk.
    WalkFirmware {
        /// PXE of a BIOS.
        Bios => "bios",
        /// PXE of UEFI on x86-64.
        UefiX64 => "uefi-x64",
        /// PXE of UEFI on 32-bit x86.
        UefiIa32 => "uefi-ia32",
        /// PXE of UEFI on ARM64.
        UefiArm64 => "uefi-arm64",
        /// HTTP boot of UEFI on x86-64.
        UefiHttp => "uefi-http",
        /// iPXE that a BIOS loaded.
        Ipxe => "ipxe",
        /// iPXE on x86-64.
        IpxeX64 => "ipxe-x64",
        /// iPXE on 32-bit x86.
        IpxeIa32 => "ipxe-ia32",
        /// iPXE on ARM64.
        IpxeArm64 => "ipxe-arm64",
    }
}

/// The machine to walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WalkRequest {
    /// Hardware address, in any spelling.
    pub machine: String,
    /// Its firmware.
    pub firmware: WalkFirmware,
    /// Subnet of the configuration in CIDR form. Left out: the one with a reservation for the
    /// machine, else the first.
    pub subnet: Option<String>,
}

/// The offer that the machine would get, and a loopback address that stands for it for a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WalkOffer {
    /// Whether the DHCP core made the offer. False: the server answers no DHCP, and the rest comes
    /// from `[boot]`.
    pub asked: bool,
    /// Loopback address that the server answers as this machine.
    #[schema(value_type = String, format = Ipv4)]
    pub source: Ipv4Addr,
    /// Address that the machine would get.
    #[schema(value_type = String, format = Ipv4)]
    pub address: Ipv4Addr,
    /// Server from which it would boot.
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub server: Option<Ipv4Addr>,
    /// Port of TFTP.
    pub tftp_port: u16,
    /// Name or URL of its boot loader. Null: it gets none.
    pub boot_file: Option<String>,
    /// Why it gets no boot loader. Null: it gets one.
    pub no_loader: Option<String>,
    /// Subnet in CIDR form.
    pub subnet: Option<String>,
    /// The reasons for the offer.
    pub reasons: Vec<String>,
    /// Why there is no offer. Null: there is one.
    pub silence: Option<SilenceReason>,
    /// Firmware with which the server last saw the machine.
    pub seen_as: Option<WalkFirmware>,
}

/// Why there is no offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilenceReason {
    /// The reason as a sentence.
    pub text: String,
    /// Key of `[[dhcp.subnet]]` that decides it.
    pub key: String,
}

/// An ended walk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedWalk {
    /// Sentences of the log about the walk.
    pub said: Vec<String>,
}
