//! A dry run: the decision on a message that no client has sent.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::RunningDhcp;
use crate::dhcp::decide::{IncomingMessage, decide_answer};
use crate::dhcp::route::CLIENT_PORT;
use crate::engine::clock;
use crate::model::network::Ipv4Network;
use crate::serve::dhcp::interfaces::ipv4;
use crate::serve::dhcp::letters::DryRun;

impl RunningDhcp {
    /// Decides on a message and keeps the decision from having any effect: `decide` itself changes
    /// nothing.
    pub(super) fn try_out(&mut self, packet: &[u8], network: Ipv4Network) -> DryRun {
        let now = clock::now_s();
        self.state.leases.advance(now);

        // The message arrives as the broadcast of a client on the subnet's own segment would.
        let interface = self.find_interface(network);
        let first = interface
            .as_ref()
            .and_then(|name| ipv4(self.interfaces.find_by_name(name)?).next())
            .unwrap_or(self.address.unwrap_or(Ipv4Addr::UNSPECIFIED));
        let own = self.interfaces.find_own_on(self.state.subnets(), interface.as_deref(), first);
        let arrival = IncomingMessage {
            bytes: packet,
            source: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT),
            destination: Some(Ipv4Addr::BROADCAST),
            interface: interface.as_deref(),
            interface_address: own.address,
            here: self.interfaces.prefixes(own),
            ours: self.interfaces.own_addresses(),
            held: self.silent.subnets(),
        };

        // The seed stays as it is: the next client gets the address that it would have got without
        // the dry run.
        let policy = &self.state.generation().snapshot.dhcp;
        let decision = decide_answer(&arrival, &self.state.leases, policy, now, self.seed);

        let leases = decision.mac.into_iter().flat_map(|mac| self.state.leases.leases_of(mac));
        let last = leases.filter(|lease| lease.firmware.is_some()).max_by_key(|lease| lease.end_s);
        let last_firmware = last.and_then(|lease| lease.firmware);
        DryRun { decision, last_firmware }
    }

    /// The interface on which messages of this subnet arrive; for a subnet behind relays, any one
    /// of this host. None: they arrive at `listen-address`.
    fn find_interface(&self, network: Ipv4Network) -> Option<String> {
        if self.address.is_some() {
            return None;
        }
        let named =
            self.state.subnets().find_network(network).and_then(|one| one.interface.clone());
        named.or_else(|| self.sockets.first_interface().map(str::to_owned))
    }
}
