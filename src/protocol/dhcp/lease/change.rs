//! Changes of leases: applied at once, or when the store has committed them.

use std::net::Ipv4Addr;

use super::client::ClientIdentity;
use super::entry::LeaseTableEntry;
use super::table::LeaseTable;
use crate::dhcp::layout::LayoutPlace;
use crate::dhcp::lease_record::{Circuit, ClockSeconds, Lease, LeaseChange, LeaseRowState};
use crate::dhcp::limits::{LAPSE_ROWS_MAX, OFFER_HOLD_S};
use crate::model::machine::{Mac, Machine};

impl LeaseTable {
    /// Lets offers lapse, leases expire and quarantines end. Call it with the time before `decide`;
    /// it costs what has ended, and a call costs little. True: more is due.
    pub fn advance(&mut self, now: ClockSeconds) -> bool {
        for _ in 0..LAPSE_ROWS_MAX {
            let Some(&(at, address)) = self.timers.first() else { return false };
            if at > now {
                return false;
            }
            self.settle(address, now);
            // An address that settles into the same instant would turn here for ever.
            self.timers.remove(&(at, address));
        }
        true
    }

    /// Carries a change out. Volatile ones at once; `Bind` and `Free` only after their commit (see
    /// `begin_commit`).
    pub fn apply(&mut self, change: &LeaseChange, now: ClockSeconds) {
        match change {
            LeaseChange::Offer { address, machine, client_id, until_s, circuit } => {
                self.offer(*address, *machine, client_id.as_deref(), *until_s, *circuit, now);
            }
            LeaseChange::Bind(lease) => {
                self.insert(LeaseTableEntry::new((**lease).clone()), None, now)
            }
            LeaseChange::Release { address, mac, end_s } => {
                self.change(*address, *mac, now, |held| {
                    (held.lease.state, held.lease.end_s, held.offered_until_s) =
                        (LeaseRowState::Released, *end_s, 0);
                });
            }
            LeaseChange::Decline { address, mac, until_s } => {
                self.decline(*address, *mac, *until_s, now)
            }
            LeaseChange::Struck { mac, circuit, .. } => self.strikes.add(*mac, *circuit, now),
            LeaseChange::Forget { address, mac } => {
                self.change(*address, *mac, now, |held| held.offered_until_s = 0)
            }
            // A lease that was asked for since is on its way to the store, behind this.
            LeaseChange::Free { address } if !self.is_written(*address) => {
                self.remove(u32::from(*address))
            }
            LeaseChange::Free { .. } => {}
        }
    }

    /// Takes a decision's changes in: applies all but what waits for the store: `Free`, and `Bind`,
    /// whose address is held for the machine meanwhile. A repeat of the same REQUEST finds the
    /// commit pending and is not answered twice.
    pub fn begin_commit(&mut self, changes: &[LeaseChange], xid: u32, now: ClockSeconds) {
        for change in changes {
            let lease = match change {
                LeaseChange::Bind(lease) => lease,
                LeaseChange::Free { .. } => continue,
                _ => {
                    self.apply(change, now);
                    continue;
                }
            };
            let (address, machine) = (lease.address, Machine::from(&**lease));
            if self.waiting.insert((u32::from(address), lease.mac, xid)) {
                *self.committing.entry(u32::from(address)).or_default() += 1;
            }
            self.offer(
                address,
                machine,
                None,
                now.saturating_add(OFFER_HOLD_S),
                Circuit::default(),
                now,
            );
        }
    }

    /// The store has synced the changes (or failed to): binds what was waiting. After a failure the
    /// offer lapses by itself.
    pub fn finish_commit(
        &mut self,
        changes: &[LeaseChange],
        xid: u32,
        committed: bool,
        now: ClockSeconds,
    ) {
        for change in changes {
            match change {
                LeaseChange::Bind(lease) => {
                    let address = u32::from(lease.address);
                    if self.waiting.remove(&(address, lease.mac, xid))
                        && let Some(count) = self.committing.get_mut(&address)
                    {
                        *count -= 1;
                        if *count == 0 {
                            self.committing.remove(&address);
                        }
                    }
                    if !committed {
                        self.settle(address, now);
                    }
                }
                LeaseChange::Free { .. } => {}
                _ => continue,
            }
            if committed {
                self.apply(change, now);
            }
        }
    }

    /// A host to whom nobody has leased the address answers for it: it is kept back, as if this
    /// client had declined it.
    pub fn keep_back(
        &mut self,
        address: Ipv4Addr,
        mac: Mac,
        until_s: ClockSeconds,
        now: ClockSeconds,
    ) {
        self.decline(address, mac, until_s, now);
        if let Some(&row) = self.by_address.get(&u32::from(address))
            && let Some(held) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            held.is_in_use = held.lease.state == LeaseRowState::Declined;
        }
    }

    pub(super) fn offer(
        &mut self,
        address: Ipv4Addr,
        machine: Machine,
        client_id: Option<&[u8]>,
        until_s: ClockSeconds,
        circuit: Circuit,
        now: ClockSeconds,
    ) {
        let key = u32::from(address);
        let held = self.held(key);
        let client = ClientIdentity { mac: machine.mac, system: client_id };
        let is_its_own = |held: &LeaseTableEntry| {
            client.owns(&held.lease) && held.lease.state != LeaseRowState::Declined
        };
        if held.is_some_and(is_its_own) {
            return self.touch(key, now, |held| {
                held.offered_until_s = held.offered_until_s.max(until_s);
                if held.lease.state == LeaseRowState::Offered {
                    held.lease.end_s = held.offered_until_s;
                }
            });
        }
        let contested = held.is_some_and(
            |held| matches!(held.spot, LayoutPlace::Offered(until_s) if until_s > now),
        );
        let lease = Lease {
            address,
            mac: machine.mac,
            client_id: client_id.map(<[u8]>::to_vec),
            uuid: machine.uuid,
            firmware: machine.firmware,
            host_name: None,
            state: LeaseRowState::Offered,
            start_s: now,
            end_s: until_s,
        };
        let held =
            LeaseTableEntry { offered_until_s: until_s, contested, ..LeaseTableEntry::new(lease) };
        self.insert(held, circuit.offers_max().map(|_| circuit), now);
    }

    /// The machine no longer counts as the holder: it will be given another address.
    pub(super) fn decline(
        &mut self,
        address: Ipv4Addr,
        mac: Mac,
        until_s: ClockSeconds,
        now: ClockSeconds,
    ) {
        let Some(held) = self.held(u32::from(address)).filter(|held| held.lease.mac == mac) else {
            return;
        };
        let lease = Lease { state: LeaseRowState::Declined, end_s: until_s, ..held.lease.clone() };
        self.insert(LeaseTableEntry::new(lease), None, now);
    }

    pub(super) fn change(
        &mut self,
        address: Ipv4Addr,
        mac: Mac,
        now: ClockSeconds,
        with: impl FnOnce(&mut LeaseTableEntry),
    ) {
        let key = u32::from(address);
        let is_its_own = |held: &LeaseTableEntry| {
            held.lease.mac == mac && held.lease.state != LeaseRowState::Declined
        };
        if self.held(key).is_some_and(is_its_own) {
            self.touch(key, now, with);
        }
    }
}
