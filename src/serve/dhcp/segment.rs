//! One served subnet on an interface, as the thread that looks for other servers watches it.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use super::findings::SegmentFinding;
use super::interfaces::ipv4;
use super::letters::SegmentStatus;
use crate::dhcp::limits::OTHER_SERVERS_MAX;
use crate::dhcp::other_servers::{
    self, LookResult, LookVerdict, MonotonicMillis, PriorKnowledge, RingbootMark, RivalLook,
    RivalResponse, ServerWatch,
};
use crate::dhcp::subnet::{OtherServer, Subnet};
use crate::engine::clock;
use crate::engine::link::PacketListener;
use crate::engine::net::NetworkInterface;
use crate::model::machine::Mac;
use crate::model::network::Ipv4Network;
use crate::snapshot::Snapshot;

/// Stores what a look has found, for the next start of the server.
pub type KeepLook = Box<dyn FnMut(&LookResult) + Send>;

/// A served subnet on an interface.
pub(super) struct WatchedSegment {
    pub(super) subnet: Ipv4Network,
    pub(super) interface: String,
    pub(super) relay: bool,
    pub(super) beside: bool,
    /// Some while the interface exists and has an address in the subnet.
    pub(super) here: Option<SegmentAddress>,
    is_running: bool,
    pub(super) watch: ServerWatch,
    pub(super) others: Vec<OtherServer>,
    /// Where the configuration names the subnet, `path:line`.
    pub(super) place: Option<String>,
    misplaced: Option<String>,
    pub(super) unsent_said: bool,
    /// The last verdict goes to the log as soon as the core knows it.
    pub(super) is_news: bool,
}

/// The server's own interface on a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentAddress {
    pub(super) index: u32,
    pub(super) address: Ipv4Addr,
    /// The hardware address in the looks: other servers reserve one address for this client.
    pub(super) mac: Mac,
}

impl WatchedSegment {
    pub(super) fn new(
        subnet: &Subnet,
        interface: &str,
        snapshot: &Snapshot,
        before: PriorKnowledge,
    ) -> Self {
        let place = snapshot.places.iter().find(|(network, _)| *network == subnet.network);
        Self {
            subnet: subnet.network,
            interface: interface.to_owned(),
            relay: subnet.relay,
            beside: subnet.allow_other_servers,
            here: None,
            is_running: false,
            watch: ServerWatch::new(subnet.allow_other_servers, before),
            others: Vec::new(),
            place: place.map(|(_, place)| place.clone()),
            misplaced: None,
            unsent_said: false,
            is_news: false,
        }
    }

    /// Keeps what is known of the segment, with the settings of a new configuration.
    pub(super) fn with_settings(mut self, next: Self) -> Self {
        self.watch.set_beside(next.beside);
        let Self { relay, beside, place, .. } = next;
        Self { relay, beside, place, ..self }
    }

    pub(super) fn is_at(&self, index: u32) -> bool {
        self.here.is_some_and(|here| here.index == index)
    }

    /// Follows the interface: its address in the subnet, its carrier, and whether it exists.
    pub(super) fn follow_interface(
        &mut self,
        found: Option<&NetworkInterface>,
        now: MonotonicMillis,
    ) {
        let here = found.and_then(|interface| {
            let address = find_address_in(interface, self.subnet, self.relay)?;
            let mac = if interface.mac == [0; 6] { Mac([2; 6]) } else { Mac(interface.mac) };
            Some(SegmentAddress { index: interface.index, address, mac })
        });

        // Another interface may lead to another network: the findings are void.
        let is_running = found.is_some_and(|interface| interface.is_running);
        let wire_came = !std::mem::replace(&mut self.is_running, is_running) && is_running;
        if here.map(|here| here.index) != self.here.map(|here| here.index) {
            self.watch.on_interface_down();
            self.others.clear();
            if here.is_some() {
                self.watch.on_interface_up(now);
            }
        } else if wire_came {
            self.watch.on_link_restored(now);
        }

        if let (Some(before), None, Some(interface)) = (self.here, here, found)
            && ipv4(interface).next().is_none()
        {
            tracing::warn!(
                "interface {} has lost its address {}: nothing is answered on {} until it has it \
                 again",
                self.interface,
                before.address,
                self.subnet
            );
        }
        self.here = here;

        // The interface has addresses, but none in the subnet: the configuration or the address is
        // wrong. Logged once for each set of addresses.
        let elsewhere =
            found.filter(|interface| here.is_none() && ipv4(interface).next().is_some());
        let misplaced = elsewhere.map(|interface| self.describe_misplaced(interface));
        if let Some(sentence) = &misplaced
            && self.misplaced != misplaced
        {
            tracing::warn!("{sentence}; nothing is answered there");
        }
        self.misplaced = misplaced;
    }

    /// The sentence for an interface outside of the subnet, with the addresses that it has.
    fn describe_misplaced(&self, interface: &NetworkInterface) -> String {
        let place = self.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
        let addresses: Vec<String> = ipv4(interface).map(|address| address.to_string()).collect();
        format!(
            "{place}subnet {} is not on interface {}, which has {}: correct one of them, or write \
             `relay = true` where relay agents alone bring its requests",
            self.subnet,
            interface.name,
            addresses.join(", ")
        )
    }

    pub(super) fn remember_server(&mut self, server: OtherServer) {
        if self.others.len() < OTHER_SERVERS_MAX && !self.others.contains(&server) {
            self.others.push(server);
        }
    }

    /// Responds to another ringboot that looks for servers on this segment.
    pub(super) fn answer_rival(
        &mut self,
        rival: &RivalLook,
        now: MonotonicMillis,
        listener: Option<&PacketListener>,
        keep: &mut KeepLook,
    ) {
        let Some(here) = self.here else { return };
        match self.watch.on_rival_look(rival, here.address, now) {
            RivalResponse::Silence => {}
            RivalResponse::Answer => {
                let mark = RingbootMark {
                    address: here.address,
                    serves: self.watch.hold_reason().is_none(),
                };
                let answer = other_servers::build_rival_answer(rival, mark);
                // The answer is lost if the link has no room: the rival looks again.
                let _ = listener
                    .zip(answer)
                    .map(|(listener, answer)| listener.broadcast(here.index, &answer));
            }
            RivalResponse::Yield(verdict) => self.apply_verdict(verdict, keep),
        }
    }

    /// Takes over the verdict of a look, and stores it for the next start.
    pub(super) fn apply_verdict(&mut self, verdict: LookVerdict, keep: &mut KeepLook) {
        let (server, is_news) = match verdict {
            LookVerdict::Nobody { is_news } => (None, is_news),
            LookVerdict::Server { server, is_news } => (Some(server), is_news),
            LookVerdict::Doubt(server) => {
                self.remember_server(server);
                tracing::info!(
                    "{server} has answered on {}, where {} is served: it is asked once more",
                    self.interface,
                    self.subnet
                );
                return;
            }
        };
        self.others = server.into_iter().collect();
        self.is_news |= is_news;
        keep(&LookResult { network: self.subnet, looked_s: clock::now_s(), server });
    }

    pub(super) fn finding(&self, started: Instant) -> SegmentFinding {
        let instant =
            |ms: Option<MonotonicMillis>| ms.map(|ms| started + Duration::from_millis(ms));
        SegmentFinding {
            network: self.subnet,
            interface: self.interface.clone(),
            held: self.watch.hold_reason(),
            misplaced: self.misplaced.clone(),
            others: self.others.clone(),
            beside: self.beside,
            answered: instant(self.watch.answered_ms()),
            looked: instant(self.watch.looked_ms()),
            next_look: instant(self.watch.next_look_ms()),
        }
    }

    pub(super) fn status(&self) -> SegmentStatus {
        let (network, interface, beside) = (self.subnet, self.interface.clone(), self.beside);
        SegmentStatus { network, interface, beside, held: self.watch.hold_reason() }
    }
}

/// The address from which the server answers a subnet's clients: one in the subnet, or any one
/// where relays alone bring its requests.
fn find_address_in(
    interface: &NetworkInterface,
    subnet: Ipv4Network,
    relay: bool,
) -> Option<Ipv4Addr> {
    let inside = ipv4(interface).find(|address| subnet.contains(*address));
    inside.or_else(|| ipv4(interface).next().filter(|_| relay))
}
