//! The network of a fleet: sockets, relay agents and links, how machines share them, and simulated
//! losses.

pub(super) mod checker;
pub(super) mod context;
pub(super) mod dhcp;
pub(super) mod hub;
pub(super) mod impair;
pub(super) mod ledger;
pub(super) mod lessor;
pub(super) mod link;
pub(super) mod relay;
pub(super) mod release;
pub(super) mod segment;
pub(super) mod wire;
