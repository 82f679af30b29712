//! One message with everything that decides its reply, and the questions that the server asks about
//! it.

use std::net::Ipv4Addr;

use super::arrival::IncomingMessage;
use super::classify::{MessageFacts, MessageKind, hash_bytes, is_boot_firmware};
use super::lease::{
    AddressAvailability, AddressRequest, Circuit, ClientIdentity, ClockSeconds, Lease,
    LeaseRowState, LeaseTable,
};
use super::packet::Packet;
use super::select::SelectedLink;
use super::silence::DhcpSilence;
use super::subnet::{ClientAdmission, HoldReason, Reservation, Subnet};
use super::times::LeaseTimes;
use crate::dhcp::policy::DhcpPolicy;

/// One message with everything that decides its reply.
#[derive(Clone, Copy)]
pub(super) struct MessageContext<'a, 's> {
    pub(super) arrival: &'a IncomingMessage<'a>,
    pub(super) packet: &'a Packet<'a>,
    pub(super) facts: &'a MessageFacts<'a>,
    pub(super) selected: &'a SelectedLink<'s>,
    /// The subnet of the link that the message is about.
    pub(super) subnet: &'s Subnet,
    pub(super) leases: &'a LeaseTable,
    pub(super) policy: &'a DhcpPolicy,
    pub(super) now: ClockSeconds,
    /// Spreads the choice of free addresses; the same seed gives the same choice.
    pub(super) seed: u64,
}

// --- the subnet ---

impl<'a, 's> MessageContext<'a, 's> {
    /// The subnet that the message is about, where several share the client's link. The first that
    /// fits: the subnet of the address that the message names, of a reservation, of the client's
    /// lease, of the requested address, of a pool with a free address.
    pub(super) fn choose_subnet_of_link(&self) -> &'s Subnet {
        if self.selected.others.is_empty() {
            return self.subnet;
        }

        // An address that the client claims decides, even where the server will refuse it.
        let named = match self.facts.kind {
            MessageKind::Discover | MessageKind::Bootp => None,
            MessageKind::Inform => Some(self.inform_address()),
            MessageKind::Renewing | MessageKind::Release => Some(self.packet.ciaddr),
            _ => self.facts.requested.or(Some(self.packet.ciaddr)),
        };
        if let Some(named) = named
            && let Some(subnet) = self.link_subnets().find(|subnet| subnet.network.contains(named))
        {
            return subnet;
        }

        // Otherwise only a subnet that would answer counts.
        let subnets = self.link_subnets().map(|subnet| Self { subnet, ..*self });
        let serving: Vec<Self> = subnets
            .filter(|at| at.check_not_held().is_ok() && at.check_admission().is_ok())
            .collect();
        let own = self.find_own_lease().map(|lease| lease.address);
        let requested = self.facts.requested;
        let found = serving
            .iter()
            .find(|at| at.reservation().is_some_and(|reserved| at.may_hold(reserved.address)))
            .or_else(|| serving.iter().find(|at| own.is_some_and(|own| at.may_give(own))))
            .or_else(|| serving.iter().find(|at| requested.is_some_and(|it| at.is_free(it))));
        let found = match found {
            Some(found) => Some(found),
            None => serving.iter().find(|at| at.choose_address().is_some()).or(serving.first()),
        };
        found.map_or(self.subnet, |at| at.subnet)
    }

    /// All subnets of the client's link, the one by which the link was found first.
    fn link_subnets(&self) -> impl Iterator<Item = &'s Subnet> {
        std::iter::once(self.selected.subnet).chain(self.selected.others.iter().copied())
    }

    /// Err where another server, or the search for one, holds the subnet back from answering.
    pub(super) fn check_not_held(&self) -> Result<(), DhcpSilence> {
        let network = self.subnet.network;
        let held = self.arrival.held;
        let Ok(place) = held.binary_search_by_key(&network, |(held, _)| *held) else {
            return Ok(());
        };
        match held[place].1 {
            HoldReason::Looking | HoldReason::OtherServer(_) if self.is_for_us_alone() => Ok(()),
            why => Err(DhcpSilence::Held(network, why)),
        }
    }

    /// True where no other server may answer this message: it names us, or a lease that we gave.
    /// RFC 2131 expects several servers (sections 3.1 and 4.3.2): a server that withholds its
    /// offers still serves the leases that it gave.
    fn is_for_us_alone(&self) -> bool {
        let has_lease = |address: Ipv4Addr| {
            let lease = self.leases.get(address).filter(|lease| lease.mac == self.facts.mac);
            lease.is_some_and(|lease| lease.state == LeaseRowState::Bound && lease.end_s > self.now)
        };
        let is_sent_to_us = self.arrival.is_unicast() && self.packet.giaddr.is_unspecified();
        match self.facts.kind {
            MessageKind::Selecting => {
                self.facts.server_id.is_some_and(|server| self.is_ours(server))
            }
            MessageKind::InitReboot => self.facts.requested.is_some_and(has_lease),
            MessageKind::Renewing => is_sent_to_us || has_lease(self.packet.ciaddr),
            MessageKind::Inform => is_sent_to_us,
            _ => false,
        }
    }

    /// Err where the subnet's `clients` leaves this client out (D-52). GRUB and an installed system
    /// say nothing of booting: what the firmware of the machine said before them counts.
    pub(super) fn check_admission(&self) -> Result<(), DhcpSilence> {
        let (subnet, facts) = (self.subnet, self.facts);
        let is_reserved = self.reservation().is_some();
        match subnet.clients {
            ClientAdmission::Any => Ok(()),
            ClientAdmission::Known if is_reserved => Ok(()),
            ClientAdmission::Known => Err(DhcpSilence::NotReserved(subnet.network)),
            ClientAdmission::Pxe if is_reserved || facts.boots_from_network() => Ok(()),
            ClientAdmission::Pxe if self.leases.has_booted(facts.mac) => Ok(()),
            ClientAdmission::Pxe => Err(DhcpSilence::NotPxe(subnet.network)),
        }
    }
}

// --- the client ---

impl<'a, 's> MessageContext<'a, 's> {
    /// The client that a lease is for. While machines are provisioned, all that runs on one machine
    /// is one client (D-38). Where the subnet serves everybody, systems that name themselves
    /// differently are different clients, even with one hardware address (D-37).
    pub(super) fn client_identity(&self) -> ClientIdentity<'a> {
        let system = self.system_id().filter(|_| self.subnet.clients == ClientAdmission::Any);
        ClientIdentity { mac: self.facts.mac, system }
    }

    /// The system by its option 61; empty where option 61 is the hardware address with its type.
    /// None for boot firmware, and for GRUB, which sends neither option 61 nor 55: it takes over
    /// from the firmware and hands over to a system.
    pub(super) fn system_id(&self) -> Option<&'a [u8]> {
        let facts = self.facts;
        let says_nothing = facts.client_id.is_none() && facts.wanted.is_none();
        if is_boot_firmware(facts.firmware) || says_nothing {
            return None;
        }
        let hardware_address = Some((&1, &facts.mac.0[..]));
        Some(facts.client_id.filter(|id| id.split_first() != hardware_address).unwrap_or_default())
    }

    /// Where the message came from, for the limits of offers and declines.
    pub(super) fn circuit(&self) -> Circuit {
        Circuit::new(self.subnet.network, self.packet.giaddr, self.facts.relay.circuit)
    }

    /// True where the client declined too many addresses within an hour (D-27).
    pub(super) fn is_silenced(&self) -> bool {
        self.leases.is_silenced(self.facts.mac, self.now)
    }

    pub(super) fn reservation(&self) -> Option<&'s Reservation> {
        self.subnet.reserved_for(self.facts.mac)
    }

    /// The client's reservations in all subnets of the link.
    pub(super) fn link_reservations(&self) -> impl Iterator<Item = &'s Reservation> {
        self.link_subnets().filter_map(|subnet| subnet.reserved_for(self.facts.mac))
    }

    /// The host name of the reservation.
    pub(super) fn reserved_host_name(&self) -> Option<&str> {
        self.reservation()?.hostname.as_deref()
    }

    /// The lease or offer of the client on this link that counts (see `ClientIdentity::rank`).
    pub(super) fn find_own_lease(&self) -> Option<&Lease> {
        let client = self.client_identity();
        let leases = self
            .link_subnets()
            .filter_map(|subnet| self.leases.find_client_lease(client, subnet.network, self.now));
        leases.max_by_key(|lease| client.rank(lease, self.now))
    }

    /// The address of a client that asks for parameters only: `ciaddr`, or the source address of a
    /// client that leaves `ciaddr` empty.
    pub(super) fn inform_address(&self) -> Ipv4Addr {
        if self.packet.ciaddr.is_unspecified() {
            *self.arrival.source.ip()
        } else {
            self.packet.ciaddr
        }
    }

    /// The server that a REQUEST chose, where it is not this one (D-22).
    pub(super) fn chosen_other_server(&self) -> Option<Ipv4Addr> {
        self.facts
            .server_id
            .filter(|server| self.facts.kind == MessageKind::Selecting && !self.is_ours(*server))
    }

    pub(super) fn lease_times(&self) -> LeaseTimes {
        LeaseTimes::new(
            self.facts.lease_time_s,
            self.facts.firmware.role,
            self.subnet,
            hash_bytes(&self.facts.mac.0),
        )
    }
}

// --- an address ---

impl MessageContext<'_, '_> {
    /// How an address stands to this client.
    pub(super) fn availability(&self, address: Ipv4Addr) -> AddressAvailability {
        self.leases.availability(address, self.client_identity(), self.now)
    }

    /// An address for a client that has none here (see `LeaseTable::choose_address`).
    pub(super) fn choose_address(&self) -> Option<Ipv4Addr> {
        let mut ours = self.arrival.ours.to_vec();
        ours.extend([self.arrival.interface_address, self.packet.giaddr, self.server_identifier()]);
        ours.extend(self.policy.advertise);
        let request = AddressRequest {
            network: self.subnet.network,
            mac: self.facts.mac,
            circuit: self.circuit(),
            seed: self.seed,
            ours: &ours,
        };
        self.leases.choose_address(&request, self.now)
    }

    /// True where the subnet may give the address and no client has it.
    pub(super) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.may_give(address) && self.availability(address) == AddressAvailability::Free
    }

    /// True where the client has a lease or an offer of another address.
    pub(super) fn holds_another(&self, address: Ipv4Addr) -> bool {
        self.find_own_lease().is_some_and(|lease| {
            lease.state != LeaseRowState::Released
                && lease.end_s > self.now
                && lease.address != address
        })
    }

    /// True where the client has, or had, a lease or an offer of the address, or a reservation.
    pub(super) fn is_known_at(&self, address: Ipv4Addr) -> bool {
        let availability = self.availability(address);
        let is_reserved = self.reservation().is_some_and(|reserved| reserved.address == address);
        matches!(availability, AddressAvailability::Own(_))
            || (is_reserved && availability != AddressAvailability::Taken)
    }

    /// True where the configuration gives the address to this client, from a pool or by
    /// reservation, and neither the server nor a relay uses it. An old lease outside of the pools
    /// does not count.
    pub(super) fn may_give(&self, address: Ipv4Addr) -> bool {
        self.subnet.network.contains(address)
            && !self.is_infrastructure(address)
            && (self.leases.is_in_pool(address)
                || self.reservation().is_some_and(|reserved| reserved.address == address))
    }

    /// True where neither the server, a relay nor another client has the address.
    pub(super) fn may_hold(&self, address: Ipv4Addr) -> bool {
        !self.is_infrastructure(address) && self.availability(address) != AddressAvailability::Taken
    }

    /// Err while the same REQUEST waits for the store, or that of another system with this hardware
    /// address may.
    pub(super) fn check_not_committing(&self, address: Ipv4Addr) -> Result<(), DhcpSilence> {
        let is_the_same = self.leases.is_committing(address, self.facts.mac, self.packet.xid);
        let holder = self.leases.get(address).map(|lease| lease.mac);
        let holder = holder.filter(|_| self.leases.is_written(address));
        let may_be_anothers =
            self.client_identity().system.is_some() && holder == Some(self.facts.mac);
        if is_the_same || may_be_anothers { Err(DhcpSilence::CommitPending) } else { Ok(()) }
    }
}

// --- the server ---

impl MessageContext<'_, '_> {
    /// D-27, D-28: a message for another server changes nothing here. Without option 54 it counts
    /// as ours.
    pub(super) fn check_server_identifier(&self) -> Result<(), DhcpSilence> {
        match self.facts.server_id {
            Some(other) if !self.is_ours(other) => Err(DhcpSilence::OtherServer(other)),
            _ => Ok(()),
        }
    }

    /// Option 54 of the reply: our address on the client's segment, unless the relay asks to stand
    /// in for us (D-20, D-50).
    pub(super) fn server_identifier(&self) -> Ipv4Addr {
        self.facts.relay.server_override.unwrap_or(self.source_address())
    }

    /// Our address on the receiving interface; where that has several, the one in the client's
    /// subnet.
    pub(super) fn source_address(&self) -> Ipv4Addr {
        let main = self.arrival.interface_address;
        let is_direct = self.packet.giaddr.is_unspecified() && !self.selected.off_link;
        let is_nearer = |address: &Ipv4Addr| is_direct && self.subnet.network.contains(*address);
        if is_nearer(&main) {
            return main;
        }
        self.arrival.here.iter().map(|(address, _)| *address).find(is_nearer).unwrap_or(main)
    }

    /// The server that boot files come from: siaddr, options 66 and 150, the URL of HTTP Boot.
    pub(super) fn next_server(&self) -> Ipv4Addr {
        self.subnet.next_server.or(self.policy.advertise).unwrap_or(self.source_address())
    }

    /// True for an address of this host, or of the relay agent between it and the client: no client
    /// may get it.
    pub(super) fn is_infrastructure(&self, address: Ipv4Addr) -> bool {
        self.is_ours(address) || address == self.packet.giaddr
    }

    /// True for an address of this server.
    pub(super) fn is_ours(&self, address: Ipv4Addr) -> bool {
        address == self.server_identifier()
            || address == self.arrival.interface_address
            || self.arrival.ours.binary_search(&address).is_ok()
            || self.policy.advertise == Some(address)
    }
}
