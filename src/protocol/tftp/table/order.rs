//! Whose blocks leave first where a link is the limit: those of the machine that came first.
//!
//! Two hundred equal transfers with equal shares of a full link all end at the same late time. In
//! order the median machine has its file after half of that time, and the last one no later, since
//! the link is never idle: the order only decides whose blocks are next in its queue. The queue
//! stays short, so a storm with windows loses no blocks in it.
//!
//! A transfer waits only where the engine finds a standing queue ([`BacklogMeter`]). It does not
//! wait longer than its client's timer allows ([`HELD_LOCKSTEP_MAX`], [`HELD_MAX`]): then it comes
//! before all others. Files of up to [`SMALL_BYTES`](crate::model::places::SMALL_BYTES) and clients
//! that have not sent an ACK never wait.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use super::super::Tick;
use super::super::backlog::BacklogMeter;
use super::super::id::TransferId;
use super::super::limits::{HELD_LOCKSTEP_MAX, HELD_MAX, ORDERED_LINKS_MAX, SECOND};
use super::super::options::NegotiatedTerms;
use crate::model::places::{BodyRank, MachinePlaces};

/// The large transfers of a table, by link.
#[derive(Debug, Default)]
pub(super) struct SendOrder {
    places: MachinePlaces,
    pub(super) links: Vec<OrderedLink>,
    /// Transfers that wait, on all links.
    pub(super) held: usize,
}

/// The transfers by one address of the server, which leave by one link.
#[derive(Debug)]
pub(super) struct OrderedLink {
    pub(super) address: Ipv4Addr,
    pub(super) meter: BacklogMeter,
    /// Transfers with a place.
    pub(super) large: usize,
    /// Bytes that may leave before the next look.
    pub(super) room: u64,
    /// Transfers that wait, in the order of their machines.
    pub(super) by_rank: BTreeSet<(BodyRank, TransferId)>,
    /// The same by the moment at which the client must hear something.
    pub(super) by_due: BTreeSet<(Tick, TransferId)>,
}

/// The place of a large transfer.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendPlace {
    link: usize,
    rank: BodyRank,
    /// How long the transfer may wait.
    patience: Tick,
    wait: PlaceWait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlaceWait {
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
        matches!(self.wait, PlaceWait::Held(_))
    }
}

impl SendOrder {
    /// Gives a large transfer its place; None: it never waits.
    pub(super) fn enter(
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
        Some(SendPlace { link: index, rank, patience: find_patience(terms), wait: PlaceWait::No })
    }

    /// Takes a transfer out that has ended.
    pub(super) fn leave(&mut self, now: Tick, id: TransferId, machine: IpAddr, place: SendPlace) {
        let link = &mut self.links[place.link];
        link.large -= 1;
        if let PlaceWait::Held(due) = place.wait {
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
            PlaceWait::Held(_) => true,
            PlaceWait::Over => {
                place.wait = PlaceWait::No;
                false
            }
            PlaceWait::No if !link.meter.is_full() => false,
            PlaceWait::No => {
                let due = now + place.patience;
                place.wait = PlaceWait::Held(due);
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

    /// Takes out the transfer whose place this is and lets it send.
    pub(super) fn release(&mut self, id: TransferId, place: &mut SendPlace) {
        if let PlaceWait::Held(due) = std::mem::replace(&mut place.wait, PlaceWait::Over) {
            self.links[place.link].take_out(id, place.rank, due);
            self.held -= 1;
        }
    }

    /// The transfer whose turn it is.
    pub(super) fn find_next(&self, now: Tick) -> Option<TransferId> {
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
