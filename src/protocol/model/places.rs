//! The places of machines in a queue: in the order of their arrival, from a machine's kernel to its
//! initrd.

use std::collections::HashMap;
use std::net::IpAddr;

/// Nanoseconds on a monotonic clock of the caller's choice.
pub type PlaceTick = u64;

/// Bodies of up to this many bytes have no place: they never wait.
pub const SMALL_BYTES: u64 = 1024 * 1024;
/// A machine without a body for this long loses its place, in nanoseconds.
pub const MEMORY: PlaceTick = 30_000_000_000;
/// Machines whose places the queue remembers; one more makes it forget machines that are idle for
/// [`MEMORY`].
pub const MACHINES_MAX: usize = 65_536;
/// Large bodies for which a machine keeps its place.
pub const BODIES_PER_PLACE: u32 = 4;
/// Places by which each further body of a machine with other bodies goes back.
pub const ROUND_PLACES: u64 = 32;

/// The machine's place, then the order among the machine's own bodies: less is earlier.
pub type BodyRank = (u64, u64);

/// Which machine's body comes before which. A body is a large answer by HTTP, or a large transfer
/// by TFTP.
#[derive(Debug, Default)]
pub struct MachinePlaces {
    machines: HashMap<IpAddr, PlacedMachine>,
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct PlacedMachine {
    place: u64,
    /// Bodies that the machine has begun at this place.
    begun: u32,
    bodies: u32,
    idle_since: PlaceTick,
}

impl MachinePlaces {
    /// Enters a new body, and returns its rank: that of the place which its machine has, or of the
    /// last one.
    pub fn begin_body(&mut self, now: PlaceTick, address: IpAddr) -> BodyRank {
        // A machine that is idle for `MEMORY` has lost its place, so the queue may forget it.
        if self.machines.len() >= MACHINES_MAX && !self.machines.contains_key(&address) {
            let kept = |machine: &PlacedMachine| {
                machine.bodies > 0 || now.saturating_sub(machine.idle_since) < MEMORY
            };
            self.machines.retain(|_, machine| kept(machine));
        }

        let next = self.next;
        self.next += 1;
        let new = PlacedMachine { place: next, begun: 0, bodies: 0, idle_since: now };
        let machine = self.machines.entry(address).or_insert(new);
        let is_forgotten = machine.bodies == 0 && now.saturating_sub(machine.idle_since) >= MEMORY;
        if is_forgotten || machine.begun >= BODIES_PER_PLACE {
            (machine.place, machine.begun) = (next, 0);
        }
        machine.begun += 1;
        machine.bodies += 1;

        // Each further body at the same time goes back, so that later machines soon get their
        // share.
        let place = match machine.bodies - 1 {
            0 => machine.place,
            others => next + u64::from(others) * ROUND_PLACES,
        };
        (place, next)
    }

    /// Notes that a body of this machine has ended.
    pub fn end_body(&mut self, now: PlaceTick, address: IpAddr) {
        if let Some(machine) = self.machines.get_mut(&address) {
            machine.bodies = machine.bodies.saturating_sub(1);
            machine.idle_since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(machine: usize) -> IpAddr {
        Ipv4Addr::from(0x0a00_0000 + u32::try_from(machine).unwrap_or(u32::MAX)).into()
    }

    #[test]
    fn of_more_machines_than_are_remembered_those_go_that_have_been_away() {
        let mut places = MachinePlaces::default();
        let visit = |places: &mut MachinePlaces, now, machine| {
            places.begin_body(now, address(machine));
            places.end_body(now, address(machine));
        };
        places.begin_body(0, address(0));
        (1..MACHINES_MAX - 1).for_each(|machine| visit(&mut places, 0, machine));
        visit(&mut places, MEMORY - 1, MACHINES_MAX);
        assert_eq!(places.machines.len(), MACHINES_MAX);
        visit(&mut places, MEMORY, MACHINES_MAX + 1);
        let mut kept: Vec<&IpAddr> = places.machines.keys().collect();
        kept.sort();
        let here = [&address(0), &address(MACHINES_MAX), &address(MACHINES_MAX + 1)];
        assert_eq!(kept, here, "the first has a body under way");
    }

    #[test]
    fn a_machine_keeps_its_place_for_four_bodies_within_30_s() {
        let mut places = MachinePlaces::default();
        let mut fetch = |now, machine| {
            let (place, _) = places.begin_body(now, address(machine));
            places.end_body(now, address(machine));
            place
        };
        assert_eq!([fetch(0, 1), fetch(0, 2)], [0, 1]);
        assert_eq!([fetch(1, 1), fetch(2, 1), fetch(MEMORY + 1, 1)], [0, 0, 0]);
        assert_eq!(fetch(MEMORY + 2, 1), 5, "the fifth goes to the end");
        assert_eq!(fetch(MEMORY, 2), 6, "away for 30 s");
    }
}
