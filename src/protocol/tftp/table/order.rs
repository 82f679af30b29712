//! Whose blocks leave first where a link is the limit: those of the machine that came first.
//!
//! Two hundred equal transfers with equal shares of a full link all end at the same late time. In
//! order the median machine has its file after half of that time, and the last one no later, since
//! the link is never idle: the order only decides whose blocks are next in its queue. The queue
//! stays short, so a storm with windows loses no blocks in it.
//!
//! A transfer waits only where the engine finds a standing queue ([`BacklogMeter`]). It does not
//! wait longer than its client's timer allows ([`HELD_LOCKSTEP_MAX`], [`HELD_MAX`]): then it comes
//! before all others. Files of up to [`SMALL_BYTES`] and clients that have not sent an ACK never
//! wait.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::super::Tick;
use super::super::backlog::BacklogMeter;
use super::super::id::TransferId;
use super::super::limits::{HELD_LOCKSTEP_MAX, HELD_MAX, ORDERED_LINKS_MAX, SECOND};
use super::super::options::NegotiatedTerms;
use super::TransferTable;
use crate::model::places::{BodyRank, MachinePlaces, SMALL_BYTES};

/// The large transfers of a table, by link.
#[derive(Debug, Default)]
pub(super) struct SendOrder {
    places: MachinePlaces,
    links: Vec<OrderedLink>,
    /// Transfers that wait, on all links.
    held: usize,
}

/// The transfers by one address of the server, which leave by one link.
#[derive(Debug)]
struct OrderedLink {
    address: Ipv4Addr,
    meter: BacklogMeter,
    /// Transfers with a place.
    large: usize,
    /// Bytes that may leave before the next look.
    room: u64,
    /// Transfers that wait, in the order of their machines.
    by_rank: BTreeSet<(BodyRank, TransferId)>,
    /// The same by the moment at which the client must hear something.
    by_due: BTreeSet<(Tick, TransferId)>,
}

/// The place of a large transfer.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendPlace {
    link: usize,
    rank: BodyRank,
    /// How long the transfer may wait.
    patience: Tick,
    wait: TurnWait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnWait {
    /// The transfer waits for nothing but its client.
    No,
    /// It waits for its turn, at most until then.
    Held(Tick),
    /// It is its turn: it may send.
    Over,
}

impl SendPlace {
    /// The transfer has something to send and waits for its turn; its timers stand still.
    #[inline]
    pub(super) fn is_held(&self) -> bool {
        matches!(self.wait, TurnWait::Held(_))
    }
}

impl SendOrder {
    /// Gives a large transfer its place; None: it never waits.
    fn enter(
        &mut self,
        now: Tick,
        machine: IpAddr,
        link: Ipv4Addr,
        terms: &NegotiatedTerms,
    ) -> Option<SendPlace> {
        let known = self.links.iter().position(|known| known.address == link);
        let index = match known {
            Some(index) => index,
            None if self.links.len() >= ORDERED_LINKS_MAX => return None,
            None => {
                self.links.push(OrderedLink::new(now, link));
                self.links.len() - 1
            }
        };
        self.links[index].large += 1;
        let rank = self.places.begin_body(now, machine);
        Some(SendPlace { link: index, rank, patience: find_patience(terms), wait: TurnWait::No })
    }

    /// Takes a transfer out that has ended.
    pub(super) fn leave(&mut self, now: Tick, id: TransferId, machine: IpAddr, place: SendPlace) {
        let link = &mut self.links[place.link];
        link.large -= 1;
        if let TurnWait::Held(due) = place.wait {
            link.take_out(id, place.rank, due);
            self.held -= 1;
        }
        self.places.end_body(now, machine);
    }

    /// Whether a transfer that has something to send waits for its turn instead.
    #[inline]
    pub(super) fn holds(&mut self, now: Tick, id: TransferId, place: &mut SendPlace) -> bool {
        let link = &mut self.links[place.link];
        match place.wait {
            TurnWait::Held(_) => true,
            TurnWait::Over => {
                place.wait = TurnWait::No;
                false
            }
            TurnWait::No if !link.meter.is_full() => false,
            TurnWait::No => {
                let due = now + place.patience;
                place.wait = TurnWait::Held(due);
                link.by_rank.insert((place.rank, id));
                link.by_due.insert((due, id));
                self.held += 1;
                true
            }
        }
    }

    /// Counts bytes of content that a transfer sends.
    #[inline]
    pub(super) fn count_sent(&mut self, place: &SendPlace, bytes: u64) {
        let link = &mut self.links[place.link];
        link.meter.count_sent(bytes);
        link.room = link.room.saturating_sub(bytes);
    }

    /// The transfer whose turn it is.
    fn find_next(&self, now: Tick) -> Option<TransferId> {
        if self.held == 0 {
            return None;
        }
        self.links.iter().find_map(|link| link.find_next(now))
    }
}

impl OrderedLink {
    fn new(now: Tick, address: Ipv4Addr) -> Self {
        Self {
            address,
            meter: BacklogMeter::new(now),
            large: 0,
            room: 0,
            by_rank: BTreeSet::new(),
            by_due: BTreeSet::new(),
        }
    }

    fn find_next(&self, now: Tick) -> Option<TransferId> {
        if self.meter.is_full() && self.room == 0 {
            return None;
        }
        let overdue = self.by_due.first().filter(|(due, _)| *due <= now).map(|(_, id)| *id);
        overdue.or_else(|| self.by_rank.first().map(|(_, id)| *id))
    }

    fn take_out(&mut self, id: TransferId, rank: BodyRank, due: Tick) {
        self.by_rank.remove(&(rank, id));
        self.by_due.remove(&(due, id));
    }
}

/// How long the client of these terms hears nothing without harm.
fn find_patience(terms: &NegotiatedTerms) -> Tick {
    match terms.timeout_s {
        Some(seconds) => (Tick::from(seconds) * SECOND / 4).min(HELD_MAX),
        None if terms.window > 1 => HELD_MAX,
        None => HELD_LOCKSTEP_MAX,
    }
}

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
        if let TurnWait::Held(due) = std::mem::replace(&mut place.wait, TurnWait::Over) {
            self.order.links[place.link].take_out(id, place.rank, due);
            self.order.held -= 1;
        }
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
