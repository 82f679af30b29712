//! Changes of leases: volatile ones at once, durable ones when the store has committed them.

use std::net::Ipv4Addr;

use super::client::ClientIdentity;
use super::entry::LeaseTableEntry;
use super::table::LeaseTable;
use crate::dhcp::layout::LayoutPlace;
use crate::dhcp::lease_record::{Circuit, ClockSeconds, Lease, LeaseChange, LeaseRowState};
use crate::dhcp::limits::{LAPSE_ROWS_MAX, OFFER_HOLD_S};
use crate::model::machine::{Mac, Machine};

impl LeaseTable {
    /// Lets offers lapse, leases expire and quarantines end. Call it with the time before
    /// `decide_answer`. A call handles `LAPSE_ROWS_MAX` rows at most; true: more are due.
    pub fn advance(&mut self, now: ClockSeconds) -> bool {
        for _ in 0..LAPSE_ROWS_MAX {
            let Some(&(at, address)) = self.timers.first() else { return false };
            if at > now {
                return false;
            }
            self.reattach_row(address, now);
            // A row whose new timer is the same would be the first again, without end.
            self.timers.remove(&(at, address));
        }
        true
    }

    /// Carries out a change. Call it at once for a volatile change; for `Bind` and `Free` only
    /// after their commit (see `begin_commit`).
    pub fn apply(&mut self, change: &LeaseChange, now: ClockSeconds) {
        match change {
            LeaseChange::Offer { address, machine, client_id, until_s, circuit } => {
                self.offer(*address, *machine, client_id.as_deref(), *until_s, *circuit, now);
            }
            LeaseChange::Bind(lease) => {
                self.insert(LeaseTableEntry::new((**lease).clone()), None, now)
            }
            LeaseChange::Release { address, mac, end_s } => {
                self.update_own(*address, *mac, now, |entry| {
                    (entry.lease.state, entry.lease.end_s, entry.offered_until_s) =
                        (LeaseRowState::Released, *end_s, 0);
                });
            }
            LeaseChange::Decline { address, mac, until_s } => {
                self.decline(*address, *mac, *until_s, now)
            }
            LeaseChange::Struck { mac, circuit, .. } => self.strikes.add(*mac, *circuit, now),
            LeaseChange::Forget { address, mac } => {
                self.update_own(*address, *mac, now, |entry| entry.offered_until_s = 0)
            }
            // A newer lease of the address may be on its way to the store, behind this change.
            LeaseChange::Free { address } if !self.is_written(*address) => {
                self.remove(u32::from(*address))
            }
            LeaseChange::Free { .. } => {}
        }
    }

    /// Applies the volatile changes of a decision. `Free` and `Bind` wait for the store; the
    /// address of a `Bind` is held for its machine meanwhile. A repeat of the same REQUEST finds
    /// the commit pending and gets no second reply.
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
            // The first report on this REQUEST removes it from `waiting`, so a repeat must not
            // count.
            if self.waiting.insert((u32::from(address), lease.mac, xid)) {
                *self.committing.entry(u32::from(address)).or_default() += 1;
            }

            // An offer keeps the address from other clients. It lapses by itself if the commit
            // fails.
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

    /// Applies the changes that waited for the store, once it has synced them. After a failed
    /// commit (`committed` false) the offer lapses by itself.
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
                    // Several REQUESTs for one address may be on their way: the last report ends
                    // the wait.
                    if self.waiting.remove(&(address, lease.mac, xid))
                        && let Some(count) = self.committing.get_mut(&address)
                    {
                        *count -= 1;
                        if *count == 0 {
                            self.committing.remove(&address);
                        }
                    }
                    // The commit no longer occupies the address, so the row may belong elsewhere
                    // now.
                    if !committed {
                        self.reattach_row(address, now);
                    }
                }
                LeaseChange::Free { .. } => {}
                // `begin_commit` has already applied the volatile changes.
                _ => continue,
            }
            if committed {
                self.apply(change, now);
            }
        }
    }

    /// Keeps an address back because a host answers for it without a lease, as if this client had
    /// declined it.
    pub fn keep_back(
        &mut self,
        address: Ipv4Addr,
        mac: Mac,
        until_s: ClockSeconds,
        now: ClockSeconds,
    ) {
        self.decline(address, mac, until_s, now);
        if let Some(&row) = self.by_address.get(&u32::from(address))
            && let Some(entry) = self.rows.get_mut(row as usize).and_then(Option::as_mut)
        {
            entry.is_in_use = entry.lease.state == LeaseRowState::Declined;
        }
    }

    fn offer(
        &mut self,
        address: Ipv4Addr,
        machine: Machine,
        client_id: Option<&[u8]>,
        until_s: ClockSeconds,
        circuit: Circuit,
        now: ClockSeconds,
    ) {
        let key = u32::from(address);
        let entry = self.entry(key);

        // The client's own lease stays as it is, with the offer on top.
        let client = ClientIdentity { mac: machine.mac, system: client_id };
        if let Some(entry) = entry
            && client.owns(&entry.lease)
            && entry.lease.state != LeaseRowState::Declined
        {
            return self.update_row(key, now, |entry| {
                entry.offered_until_s = entry.offered_until_s.max(until_s);
                if entry.lease.state == LeaseRowState::Offered {
                    entry.lease.end_s = entry.offered_until_s;
                }
            });
        }

        let contested = entry.is_some_and(
            |entry| matches!(entry.spot, LayoutPlace::Offered(until_s) if until_s > now),
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
        let entry =
            LeaseTableEntry { offered_until_s: until_s, contested, ..LeaseTableEntry::new(lease) };
        self.insert(entry, circuit.offers_max().map(|_| circuit), now);
    }

    /// The machine no longer counts as the holder: its next DISCOVER gets another address.
    fn decline(&mut self, address: Ipv4Addr, mac: Mac, until_s: ClockSeconds, now: ClockSeconds) {
        let Some(entry) = self.entry(u32::from(address)).filter(|entry| entry.lease.mac == mac)
        else {
            return;
        };
        let lease = Lease { state: LeaseRowState::Declined, end_s: until_s, ..entry.lease.clone() };
        self.insert(LeaseTableEntry::new(lease), None, now);
    }

    /// Changes the row of an address, where this machine has it.
    fn update_own(
        &mut self,
        address: Ipv4Addr,
        mac: Mac,
        now: ClockSeconds,
        change: impl FnOnce(&mut LeaseTableEntry),
    ) {
        let key = u32::from(address);
        if let Some(entry) = self.entry(key)
            && entry.lease.mac == mac
            && entry.lease.state != LeaseRowState::Declined
        {
            self.update_row(key, now, change);
        }
    }
}
