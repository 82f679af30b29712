//! Why a message gets no answer.

use std::net::Ipv4Addr;

use super::limits::{DECLINES_PER_CIRCUIT_MAX, DECLINES_PER_MACHINE_MAX, HOPS_MAX};
use super::packet::MalformedMessage;
use super::reply::DoesNotFit;
use super::subnet::HoldReason;
use crate::model::network::Ipv4Network;

/// Why a message is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhcpSilence {
    #[error("not a DHCP request: {0}")]
    Malformed(#[from] MalformedMessage),
    #[error("passed more than {HOPS_MAX} relay agents")]
    Hops,
    #[error("the hardware address belongs to no station")]
    NotAStation,
    #[error("no subnet is configured for {0}")]
    NoSubnet(Ipv4Addr),
    #[error("no subnet is configured for {0}, and this came from beyond a router")]
    NoSubnetBehind(Ipv4Addr),
    #[error(
        "subnet {0} is served on its own link alone, and this came from beyond a router (`relay = \
         true` on it serves both)"
    )]
    NotForRelays(Ipv4Network),
    #[error("subnet {0} is switched off")]
    SubnetOff(Ipv4Network),
    #[error("message type {0} is not served")]
    NotServed(u8),
    #[error("the client chose server {0}")]
    OtherServer(Ipv4Addr),
    #[error("the request names no address")]
    NoAddressNamed,
    #[error("no address is free in subnet {0}")]
    NoAddressFree(Ipv4Network),
    #[error("subnet {0} is silent: {1}")]
    Held(Ipv4Network, HoldReason),
    #[error(
        "the client says nothing of network boot, and never did (`clients = \"pxe\"` on subnet {0})"
    )]
    NotPxe(Ipv4Network),
    #[error("the client has no reservation (`clients = \"known\"` on subnet {0})")]
    NotReserved(Ipv4Network),
    #[error("nothing is known of this client, and another server may know it")]
    UnknownClient,
    #[error("BOOTP without a reservation")]
    NoReservation,
    #[error("the same request waits for the store")]
    CommitPending,
    #[error("{0} is not held by this client")]
    NotHeld(Ipv4Addr),
    #[error("{0} lies outside of the subnet")]
    OutsideSubnet(Ipv4Addr),
    #[error("the client gave its address back")]
    Released,
    #[error("the client found its address in use")]
    Declined,
    #[error(
        "the client has declined {DECLINES_PER_MACHINE_MAX} addresses within an hour: until the \
         hour is over it gets none from the pools"
    )]
    LastDecline,
    #[error(
        "the client declined {DECLINES_PER_MACHINE_MAX} addresses within an hour, and gets none \
         from the pools"
    )]
    DeclinedTooMuch,
    /// True: the first one too many.
    #[error(
        "more than {DECLINES_PER_CIRCUIT_MAX} addresses were declined within an hour from there, \
         or too many in all: this one is not kept back"
    )]
    DeclineNotKept(bool),
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
}
