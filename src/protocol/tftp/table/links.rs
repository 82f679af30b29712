//! The table's side of the order on a full link: which transfers have a place, whose turn it is,
//! and when to look at which link.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};

use super::super::Tick;
use super::super::id::TransferId;
use super::TransferTable;
use super::order::OrderedLink;
use crate::model::places::SMALL_BYTES;

impl<C> TransferTable<C> {
    /// Gives a transfer that its client has confirmed its place in the order.
    pub(super) fn enter_order(&mut self, now: Tick, id: TransferId) {
        let order = &mut self.order;
        let Some(session) = self.slots.get_mut(id.index as usize).and_then(|slot| slot.session(id))
        else {
            return;
        };
        // Only sockets of one address show the queue of one link.
        if let (IpAddr::V4(link), Some(terms), Some(_)) =
            (session.local.address, &session.terms, session.tid)
            && session.len > SMALL_BYTES
        {
            session.place = order.enter(now, session.peer.ip().to_canonical(), link, terms);
        }
    }

    /// The transfer whose turn it is on a full link.
    pub(super) fn release_next(&mut self, now: Tick) -> Option<TransferId> {
        let id = self.order.find_next(now)?;
        let session = self.slots.get_mut(id.index as usize)?.session(id)?;
        let place = session.place.as_mut()?;
        self.order.release(id, place);
        Some(id)
    }

    /// An address of the server whose link is due for a look: pass the bytes in the send queues of
    /// its sockets to [`Self::note_backlog`]. Call it until None, once a turn.
    pub fn find_look(&self, now: Tick) -> Option<Ipv4Addr> {
        let is_due = |link: &&OrderedLink| {
            (link.large > 1 || !link.by_rank.is_empty()) && link.meter.next_look() <= now
        };
        self.order.links.iter().find(is_due).map(|link| link.address)
    }

    /// Takes the length of a link's send queue, in bytes as the kernel counts them.
    pub fn note_backlog(&mut self, now: Tick, link: Ipv4Addr, backlog: u64) {
        let mut links = self.order.links.iter_mut();
        let Some(link) = links.find(|known| known.address == link) else { return };
        link.room = link.meter.look(now, backlog, !link.by_rank.is_empty()).unwrap_or(0);
    }

    /// When the next look is due without which transfers would wait; None: none waits.
    pub fn next_look(&self) -> Option<Tick> {
        if self.order.held == 0 {
            return None;
        }
        let links = self.order.links.iter().filter(|link| !link.by_rank.is_empty());
        links.map(|link| link.meter.next_look()).min()
    }

    /// Transfers that wait for their turn on a full link.
    pub fn held(&self) -> usize {
        self.order.held
    }
}
