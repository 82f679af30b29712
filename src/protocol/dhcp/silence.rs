//! The reasons for which a message gets no reply.

use std::net::Ipv4Addr;

use super::limits::{DECLINES_PER_CIRCUIT_MAX, DECLINES_PER_MACHINE_MAX, HOPS_MAX};
use super::packet::MalformedMessage;
use super::reply::DoesNotFit;
use super::subnet::HoldReason;
use crate::model::network::Ipv4Network;

/// Why a message gets no reply. The texts are for the log and for `ringboot why`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DhcpSilence {
    /// The packet is no BOOTP or DHCP request (D-1).
    #[error("not a DHCP request: {0}")]
    Malformed(#[from] MalformedMessage),
    /// `hops` is above the limit (D-51).
    #[error("passed more than {HOPS_MAX} relay agents")]
    Hops,
    /// `chaddr` is zero or a group address (D-1).
    #[error("the hardware address belongs to no station")]
    NotAStation,
    /// No subnet has the address of the receiving interface, or the address that a client wishes
    /// by option 118.
    #[error("no subnet is configured for {0}")]
    NoSubnet(Ipv4Addr),
    /// No subnet has the address that a relay or a routed client names.
    #[error("no subnet is configured for {0}, and this message came from beyond a router")]
    NoSubnetBehind(Ipv4Addr),
    /// The subnet exists, without `relay`.
    #[error(
        "subnet {0} serves only its own link, and this message came from beyond a router (`relay = \
         true` on it serves both)"
    )]
    NotForRelays(Ipv4Network),
    /// The subnet has `mode = "off"`.
    #[error("subnet {0} is switched off")]
    SubnetOff(Ipv4Network),
    /// The value of option 53 is none that a client sends to a server.
    #[error("message type {0} is not served")]
    NotServed(u8),
    /// Option 54 names another server (D-22).
    #[error("the client chose server {0}")]
    OtherServer(Ipv4Addr),
    /// A REQUEST with neither option 50 nor ciaddr.
    #[error("the request names no address")]
    NoAddressNamed,
    /// The pools have no address left for this client (D-19).
    #[error("no address is free in subnet {0}")]
    NoAddressFree(Ipv4Network),
    /// Another server, or the search for one, holds the subnet back.
    #[error("subnet {0} is silent: {1}")]
    Held(Ipv4Network, HoldReason),
    /// `clients = "pxe"`, and nothing of this machine ever booted from the network (D-52).
    #[error(
        "the client says nothing of network boot, and never did (`clients = \"pxe\"` on subnet {0})"
    )]
    NotPxe(Ipv4Network),
    /// `clients = "known"` (D-52).
    #[error("the client has no reservation (`clients = \"known\"` on subnet {0})")]
    NotReserved(Ipv4Network),
    /// A client that restarts or renews with an address of which this server has no record (D-24,
    /// D-25).
    #[error("this server has no record of the client, and another server may have one")]
    UnknownClient,
    /// BOOTP clients get reserved addresses only (D-31).
    #[error("BOOTP without a reservation")]
    NoReservation,
    /// A repeat of a REQUEST whose ACK is not yet durable.
    #[error("the same request waits for the store")]
    CommitPending,
    /// DECLINE or RELEASE of an address that the client does not have, or BOOTP whose reserved
    /// address is taken.
    #[error("{0} is not held by this client")]
    NotHeld(Ipv4Addr),
    /// INFORM from an address of no subnet on the link (D-29).
    #[error("{0} is outside of the subnet")]
    OutsideSubnet(Ipv4Addr),
    /// RELEASE is never answered (D-28).
    #[error("the client gave its address back")]
    Released,
    /// DECLINE is never answered (D-27).
    #[error("the client found its address in use")]
    Declined,
    /// The DECLINE that reaches the limit of its machine.
    #[error(
        "the client has declined {DECLINES_PER_MACHINE_MAX} addresses within an hour: until the \
         hour is over it gets none from the pools"
    )]
    LastDecline,
    /// The machine is above its limit: it gets only its own and its reserved address.
    #[error(
        "the client declined {DECLINES_PER_MACHINE_MAX} addresses within an hour, and gets none \
         from the pools"
    )]
    DeclinedTooMuch,
    /// The limit of the circuit, or of all circuits, is reached. True: by this DECLINE.
    #[error(
        "more than {DECLINES_PER_CIRCUIT_MAX} addresses were declined within an hour from the same \
         segment or relay, or too many in all: this one is not kept back"
    )]
    DeclineNotKept(bool),
    /// The reply needs options that do not fit the packet (D-5).
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
}
