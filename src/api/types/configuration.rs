//! The configuration that the server runs with.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Whether a subnet is served.
    SubnetMode {
        /// Machines get addresses.
        Server => "server",
        /// Nobody is answered.
        Off => "off",
    }
}

words! {
    /// Which machines of a subnet are answered.
    ServedClients {
        /// Machines that boot from the network, and reserved ones.
        Pxe => "pxe",
        /// Reserved machines alone.
        Known => "known",
        /// Every machine.
        Any => "any",
    }
}

/// What the current generation of the configuration says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationView {
    /// Counts from 1 with every start; each reload adds 1.
    pub generation: u64,
    /// Directory that is served by TFTP and HTTP.
    pub root: String,
    /// Address that machines are told to boot from. Null: the address by which each was reached.
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub advertise: Option<Ipv4Addr>,
    /// Port in the URLs that machines get.
    pub http_port: u16,
    pub subnets: Vec<ConfiguredSubnet>,
    /// Boot loaders by key of `[boot]`. Null: no loader for this kind of firmware.
    pub boot: BTreeMap<String, Option<String>>,
    /// Entries of the boot menu.
    pub menu: Vec<MenuLine>,
}

/// One `[[dhcp.subnet]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfiguredSubnet {
    /// Network in CIDR form.
    pub subnet: String,
    /// Interface on which it is served. Null: by relay agents alone.
    pub interface: Option<String>,
    /// Whether relay agents are answered.
    pub relay: bool,
    /// Name of the shared network that it is part of.
    pub shared_network: Option<String>,
    pub mode: SubnetMode,
    pub clients: ServedClients,
    /// Ranges of addresses that any machine may get: `FIRST-LAST`.
    pub pools: Vec<String>,
    /// How many machines have an address of their own.
    pub reservations: usize,
    /// Whether machines boot the default entry of the menu without being asked.
    pub install_by_default: bool,
}

/// One entry of the boot menu.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MenuLine {
    /// Name of the entry.
    pub label: String,
    /// Path or URL of the kernel that it boots.
    pub kernel: String,
}
