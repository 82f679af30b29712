//! The DHCP core's inbox: messages and router solicitations, copied out of the driver, in the order
//! in which the core answers them.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::plan::DhcpCounters;
use super::waiting::WaitingMessages;
use crate::dhcp::packet::Packet;
use crate::dhcp::solicitation;
use crate::engine::udp::{ReceivedDatagram, SocketId};
use crate::model::machine::Mac;

/// Router solicitations that may wait; one more is dropped, and iPXE solicits again.
const SOLICITATIONS_MAX: usize = 1024;

/// Values of option 53.
pub(super) const DISCOVER: u8 = 1;
const REQUEST: u8 = 3;
const DECLINE: u8 = 4;
const RELEASE: u8 = 7;
const INFORM: u8 = 8;

/// Where a message came in, which decides where its answer leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct WayIn {
    pub(super) socket: SocketId,
    pub(super) interface: u32,
    /// The address of this server that the client sent to; None for a broadcast.
    pub(super) asked: Option<Ipv4Addr>,
}

/// A message copied out of the driver: the core answers it after the driver's turn, with the
/// driver free to send.
#[derive(Clone, Debug)]
pub(super) struct ReceivedMessage {
    pub(super) bytes: Vec<u8>,
    pub(super) source: SocketAddrV4,
    pub(super) destination: Ipv4Addr,
    pub(super) local: Ipv4Addr,
    pub(super) way: WayIn,
    /// Option 53, as [`Packet::peek_type`] reads it.
    pub(super) kind: Option<u8>,
}

/// A client's question for an IPv6 router, and where the answer goes.
#[derive(Debug)]
pub(super) struct RouterSolicitation {
    pub(super) from: Option<Mac>,
    pub(super) source: SocketAddrV6,
    pub(super) socket: SocketId,
}

/// The messages and solicitations that wait for the core.
#[derive(Debug, Default)]
pub(super) struct DhcpInbox {
    pub(super) messages: WaitingMessages<ReceivedMessage>,
    pub(super) solicitations: VecDeque<RouterSolicitation>,
    /// Datagrams that the driver has handed over, dropped ones included.
    arrived: u64,
}

impl DhcpInbox {
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.solicitations.is_empty()
    }

    /// Datagrams that have arrived since the last call.
    pub(super) fn take_arrived(&mut self) -> u64 {
        std::mem::take(&mut self.arrived)
    }

    /// Keeps a datagram, or drops and counts it where too many wait.
    pub(super) fn push_datagram(
        &mut self,
        datagram: &ReceivedDatagram<'_>,
        counters: &DhcpCounters,
    ) {
        self.arrived += 1;
        if let SocketAddr::V6(source) = datagram.from {
            return self.push_solicitation(datagram, source);
        }
        let (SocketAddr::V4(source), IpAddr::V4(destination), IpAddr::V4(local)) =
            (datagram.from, datagram.destination, datagram.local)
        else {
            return;
        };

        // A message that is cut has lost options. No client sends one longer than a receive buffer
        // (`MESSAGE_BYTES_MAX`).
        if datagram.truncated {
            return;
        }

        // A dropped message is counted here; `count_message` counts the others when the core
        // answers them.
        let kind = Packet::peek_type(datagram.bytes);
        let begins = matches!(kind, None | Some(DISCOVER));
        if !self.messages.has_room(begins) {
            counters.received.add(1);
            return counters.dropped.add(1);
        }

        // A routed answer leaves from the address that the client asked; a broadcast names none.
        let asked = (destination == local).then_some(local);
        let way = WayIn { socket: datagram.socket, interface: datagram.interface, asked };
        let bytes = datagram.bytes.to_vec();
        self.messages
            .push(begins, ReceivedMessage { bytes, source, destination, local, way, kind });
    }

    fn push_solicitation(&mut self, datagram: &ReceivedDatagram<'_>, source: SocketAddrV6) {
        if self.solicitations.len() < SOLICITATIONS_MAX {
            let from = solicitation::find_solicitor(datagram.bytes, *source.ip());
            let socket = datagram.socket;
            self.solicitations.push_back(RouterSolicitation { from, source, socket });
        }
    }
}

/// Counts a message by the type that it names.
pub(super) fn count_message(counters: &DhcpCounters, kind: Option<u8>) {
    counters.received.add(1);
    let of_kind = match kind {
        Some(DISCOVER) => &counters.discovers,
        Some(REQUEST) => &counters.requests,
        Some(DECLINE) => &counters.declines,
        Some(RELEASE) => &counters.releases,
        Some(INFORM) => &counters.informs,
        _ => &counters.others,
    };
    of_kind.add(1);
}
