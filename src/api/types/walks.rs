//! Walks: the boot chain of a machine, tried by `ringboot check --live` over the running sockets.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Firmware as which a chain is walked.
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

/// Who is to be walked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WalkRequest {
    /// Hardware address, in any spelling.
    pub machine: String,
    pub firmware: WalkFirmware,
    /// Subnet in CIDR form, as the configuration has it. Left out: the one that has a reservation
    /// for the machine, else the first.
    pub subnet: Option<String>,
}

/// What the machine would be offered, and the loopback address that stands for it for a minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WalkOffer {
    /// Whether the DHCP core was asked. False: no DHCP is answered, and the rest is what `[boot]`
    /// says.
    pub asked: bool,
    /// Loopback address that is answered as this machine.
    #[schema(value_type = String, format = Ipv4)]
    pub source: Ipv4Addr,
    /// Address that the machine would get.
    #[schema(value_type = String, format = Ipv4)]
    pub address: Ipv4Addr,
    /// Address that it would boot from.
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub server: Option<Ipv4Addr>,
    /// Port of TFTP.
    pub tftp_port: u16,
    /// Name or URL of its boot loader.
    pub boot_file: Option<String>,
    /// Why it gets none.
    pub no_loader: Option<String>,
    /// Subnet in CIDR form.
    pub subnet: Option<String>,
    /// What led to the offer.
    pub reasons: Vec<String>,
    /// Why there is no offer.
    pub silence: Option<SilenceReason>,
    /// Firmware that the machine was last seen with.
    pub seen_as: Option<WalkFirmware>,
}

/// Why there is no offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilenceReason {
    /// A sentence.
    pub text: String,
    /// Key of `[[dhcp.subnet]]` that decides on it.
    pub key: String,
}

/// A walk that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedWalk {
    /// What the server said meanwhile, in the words of the log.
    pub said: Vec<String>,
}
