//! The configuration in force.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

words! {
    /// Whether the server answers DHCP on a subnet.
    SubnetMode {
        /// The server leases addresses.
        Server => "server",
        /// The server answers no machine.
        Off => "off",
    }
}

words! {
    /// The machines of a subnet that the server answers.
    ServedClients {
        /// Machines that boot from the network, and machines with a reservation.
        Pxe => "pxe",
        /// Only machines with a reservation.
        Known => "known",
        /// Every machine.
        Any => "any",
    }
}

/// The generation of the configuration that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigurationView {
    /// Counts from 1 with every start; each reload adds 1.
    pub generation: u64,
    /// Directory that TFTP and HTTP serve.
    pub root: String,
    /// Address of the server in replies to machines. Null: the address that each machine reaches.
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub advertise: Option<Ipv4Addr>,
    /// Port in the URLs of boot files.
    pub http_port: u16,
    /// In the order of the configuration file.
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
    /// Interface on which the server answers. Null: only relay agents reach the subnet.
    pub interface: Option<String>,
    /// Whether the server answers relay agents.
    pub relay: bool,
    /// Name of the shared network to which it belongs. Null: none.
    pub shared_network: Option<String>,
    /// Whether the server answers there.
    pub mode: SubnetMode,
    /// The machines that the server answers there.
    pub clients: ServedClients,
    /// Ranges of addresses for machines without a reservation: `FIRST-LAST`.
    pub pools: Vec<String>,
    /// The number of reservations.
    pub reservations: usize,
    /// Whether machines boot the default entry of the menu without a question.
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
