//! Who may have a connection now, who waits, who is refused (H-34). Addresses in, decisions out;
//! holds what waits, whatever it is.
//!
//! Room is shared by source: an IPv4 address, or the /64 network of an IPv6 address, in which one
//! machine may have any number of addresses. Who waits longest is served first, but where all are
//! one too many, the source that has least is before the others, and where the queue is full, the
//! source that has most in it makes room.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};

use super::limits::{NETWORK_SHARES, REFUSALS_MAX, WAITING_MAX};

/// The connections of one core, counted by client address, and those that wait for room.
#[derive(Debug)]
pub struct ConnectionAdmission<T> {
    per_address_max: Option<usize>,
    running_max: usize,
    waiting_max: usize,
    running: usize,
    /// By address, and for IPv6 by network too.
    counts: HashMap<IpAddr, SourceCounts>,
    waiting: VecDeque<(IpAddr, T)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SourceCounts {
    running: usize,
    /// Counted by source alone.
    waiting: usize,
}

/// How many connections a core serves at a time, and how many wait, where it may have so many
/// descriptors for them: a client that is not even accepted hears nothing, one that waits is served
/// or told to come again.
pub fn divide_connections(descriptors: usize, running_max: usize) -> (usize, usize) {
    let waiting = WAITING_MAX.min(descriptors / 8).max(1);
    let refusals = REFUSALS_MAX.min(descriptors / 8);
    (running_max.min(descriptors.saturating_sub(waiting + refusals)).max(1), waiting)
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub enum AdmissionOutcome<T> {
    /// Serve it, and call [`ConnectionAdmission::leave`] when it ends.
    Start(T),
    /// It is kept; a later [`ConnectionAdmission::leave`] hands it out, unless
    /// [`ConnectionAdmission::quit`] takes it back.
    Waits,
    /// It is kept in the place of this one, which is to be refused.
    WaitsInPlaceOf(T),
    /// There is no room to wait either.
    Refuse(T),
}

/// What shares its room: networks are written as their address with nothing behind the prefix,
/// which no machine has.
pub fn find_address_source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(u128::from(address) >> 64 << 64)),
    }
}

impl<T: PartialEq> ConnectionAdmission<T> {
    /// Without `per_address_max` only the total counts. Loopback is never limited by address.
    pub fn new(per_address_max: Option<usize>, running_max: usize) -> Self {
        Self {
            per_address_max,
            running_max,
            waiting_max: WAITING_MAX,
            running: 0,
            counts: HashMap::new(),
            waiting: VecDeque::new(),
        }
    }

    /// With room for so many to wait.
    #[must_use]
    pub fn with_waiting(self, waiting_max: usize) -> Self {
        Self { waiting_max, ..self }
    }

    pub fn arrive(&mut self, address: IpAddr, connection: T) -> AdmissionOutcome<T> {
        if self.has_room(address) {
            self.start(address);
            return AdmissionOutcome::Start(connection);
        }
        let displaced = if self.waiting.len() < self.waiting_max {
            None
        } else {
            match self.displace(address) {
                Some(displaced) => Some(displaced),
                None => return AdmissionOutcome::Refuse(connection),
            }
        };
        self.counts.entry(find_address_source(address)).or_default().waiting += 1;
        self.waiting.push_back((address, connection));
        displaced.map_or(AdmissionOutcome::Waits, AdmissionOutcome::WaitsInPlaceOf)
    }

    /// A connection has ended: the one that has room now and comes next, to be served.
    pub fn leave(&mut self, address: IpAddr) -> Option<(IpAddr, T)> {
        let was_full = self.running >= self.running_max;
        self.running = self.running.saturating_sub(1);
        self.uncount(address, |counts| counts.running -= 1);
        let next =
            if was_full { self.find_neediest() } else { self.next_of(find_address_source(address)) }?;
        let (address, connection) = self.take(next)?;
        self.start(address);
        Some((address, connection))
    }

    /// One that waits is gone, or is given up.
    pub fn remove_waiting(&mut self, connection: &T) {
        if let Some(place) = self.waiting.iter().position(|(_, waiting)| waiting == connection) {
            self.take(place);
        }
    }

    /// Gives back all that wait: nothing new is served any more.
    pub fn close(&mut self) -> Vec<T> {
        self.counts.retain(|_, counts| {
            counts.waiting = 0;
            counts.running > 0
        });
        std::mem::take(&mut self.waiting).into_iter().map(|(_, connection)| connection).collect()
    }

    pub fn running(&self) -> usize {
        self.running
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Connections that the source of this address has.
    pub fn share(&self, address: IpAddr) -> usize {
        self.counts.get(&find_address_source(address)).map_or(0, |counts| counts.running)
    }

    /// Where nobody is served because all connections are taken: what the source that has least of
    /// those that wait has.
    pub fn least_share_in_need(&self) -> Option<usize> {
        if self.running < self.running_max {
            return None;
        }
        let in_bounds = self.waiting.iter().filter(|(address, _)| self.is_in_bounds(*address));
        in_bounds.map(|(address, _)| self.share(*address)).min()
    }

    fn start(&mut self, address: IpAddr) {
        self.running += 1;
        for key in list_count_keys(address) {
            self.counts.entry(key).or_default().running += 1;
        }
    }

    fn uncount(&mut self, address: IpAddr, take: impl Fn(&mut SourceCounts)) {
        for key in list_count_keys(address) {
            if let Some(counts) = self.counts.get_mut(&key) {
                take(counts);
                self.forget_if_empty(key);
            }
        }
    }

    fn forget_if_empty(&mut self, key: IpAddr) {
        if self.counts.get(&key).is_some_and(|counts| counts.running + counts.waiting == 0) {
            self.counts.remove(&key);
        }
    }

    fn take(&mut self, place: usize) -> Option<(IpAddr, T)> {
        let (address, connection) = self.waiting.remove(place)?;
        let source = find_address_source(address);
        if let Some(counts) = self.counts.get_mut(&source) {
            counts.waiting -= 1;
            self.forget_if_empty(source);
        }
        Some((address, connection))
    }

    fn has_room(&self, address: IpAddr) -> bool {
        self.running < self.running_max && self.is_in_bounds(address)
    }

    /// Whether the address, and its network, have less than they may.
    fn is_in_bounds(&self, address: IpAddr) -> bool {
        let limit = self.per_address_max.filter(|_| !address.to_canonical().is_loopback());
        let has_less = |key, most| self.counts.get(&key).is_none_or(|counts| counts.running < most);
        limit.is_none_or(|limit| {
            let [own, network] = [address.to_canonical(), find_address_source(address)];
            has_less(own, limit)
                && (own == network || has_less(network, limit.saturating_mul(NETWORK_SHARES)))
        })
    }

    /// Where all were one too many: of those that have room, the one whose source has least, and of
    /// these the first.
    fn find_neediest(&self) -> Option<usize> {
        let with_room =
            self.waiting.iter().enumerate().filter(|(_, (address, _))| self.has_room(*address));
        with_room.min_by_key(|(_, (address, _))| self.share(*address)).map(|(place, _)| place)
    }

    /// Only connections of the same source have room that they did not have before.
    fn next_of(&self, of: IpAddr) -> Option<usize> {
        self.counts.get(&of).filter(|counts| counts.waiting > 0)?;
        self.waiting
            .iter()
            .position(|(address, _)| find_address_source(*address) == of && self.has_room(*address))
    }

    /// The last one of the source that has most in the queue, if that is more than this newcomer's
    /// would have.
    fn displace(&mut self, newcomer: IpAddr) -> Option<T> {
        let waiting = |address| {
            self.counts.get(&find_address_source(address)).map_or(0, |counts| counts.waiting)
        };
        // The last of equal ones.
        let (place, most) = self
            .waiting
            .iter()
            .enumerate()
            .map(|(place, (address, _))| (place, waiting(*address)))
            .max_by_key(|(_, n)| *n)?;
        (most > waiting(newcomer) + 1)
            .then(|| self.take(place).map(|(_, connection)| connection))?
    }
}

/// The address, and its network where that is something else.
fn list_count_keys(address: IpAddr) -> impl Iterator<Item = IpAddr> {
    let (own, network) = (address.to_canonical(), find_address_source(address));
    std::iter::once(own).chain((own != network).then_some(network))
}
