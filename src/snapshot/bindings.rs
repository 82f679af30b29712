//! Which machine holds an address: one fixed slot for each address of a pool or reservation, which
//! the DHCP core writes and boot cores read without a lock.

use std::net::Ipv4Addr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::dhcp::subnet::Subnet;
use crate::model::binding::AddressBinding;
use crate::model::machine::{Arch, Firmware, FirmwareRole, Mac, Machine, Uuid};

/// Every address that ringboot can give, with a slot for its holder.
#[derive(Debug, Default)]
pub struct AddressBindings {
    /// (first address, addresses, first slot), by first address; ranges do not overlap.
    ranges: Vec<(u32, u32, usize)>,
    slots: usize,
    /// Each page is allocated when its first address is leased: memory grows with the leases, not
    /// with the pools.
    pages: Box<[OnceLock<Box<SlotPage>>]>,
}

/// Slots of one page.
const PAGE_SLOTS: usize = 64;

type SlotPage = [BindingSlot; PAGE_SLOTS];

impl AddressBindings {
    /// Slots for every pool and reservation address of these subnets.
    pub fn new(subnets: &[Subnet]) -> Self {
        let mut wanted: Vec<(u32, u32)> = Vec::new();
        for subnet in subnets {
            wanted.extend(subnet.pools.iter().map(|p| (u32::from(p.first), u32::from(p.last))));
            wanted.extend(
                subnet.reservations.iter().map(|r| (u32::from(r.address), u32::from(r.address))),
            );
        }
        wanted.sort_unstable();
        let mut ranges: Vec<(u32, u32, usize)> = Vec::new();
        let mut slots = 0usize;
        for (first, last) in wanted {
            if last < first {
                continue;
            }
            let first = match ranges.last() {
                Some(&(start, count, _)) if first - start < count => start.checked_add(count),
                _ => Some(first),
            };
            // None: the range would begin past the last address there is, so the one before covers
            // it.
            let Some(first) = first.filter(|first| *first <= last) else { continue };
            let count = last - first + 1;
            ranges.push((first, count, slots));
            slots += count as usize;
        }
        Self {
            ranges,
            slots,
            pages: (0..slots.div_ceil(PAGE_SLOTS)).map(|_| OnceLock::new()).collect(),
        }
    }

    /// The holder of this address, even if its lease has expired; None: it never had a holder, or
    /// is in no pool and no reservation.
    pub fn read(&self, address: Ipv4Addr) -> Option<AddressBinding> {
        let (page, slot) = self.place(address)?;
        page.get()?.get(slot)?.read()
    }

    /// Writes the holder of an address. Only the DHCP core calls this, before the ACK leaves.
    /// False: the address is in no pool and no reservation.
    pub fn write(&self, address: Ipv4Addr, binding: Option<AddressBinding>) -> bool {
        let Some((page, slot)) = self.place(address) else { return false };
        if binding.is_none() && page.get().is_none() {
            return true;
        }
        let page = page.get_or_init(|| Box::new(std::array::from_fn(|_| BindingSlot::default())));
        if let Some(slot) = page.get(slot) {
            slot.write(binding);
        }
        true
    }

    /// How many addresses have a slot.
    pub fn len(&self) -> usize {
        self.slots
    }

    /// True where no pool and no reservation is configured.
    pub fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// The page of an address, and its slot there.
    fn place(&self, address: Ipv4Addr) -> Option<(&OnceLock<Box<SlotPage>>, usize)> {
        let address = u32::from(address);
        let after = self.ranges.partition_point(|&(first, _, _)| first <= address);
        let &(first, count, start) = self.ranges.get(after.checked_sub(1)?)?;
        let offset = address - first;
        let slot = (offset < count).then_some(start + offset as usize)?;
        Some((self.pages.get(slot / PAGE_SLOTS)?, slot % PAGE_SLOTS))
    }
}

/// Bits above the 48 of the hardware address.
const HELD: u64 = 1 << 63;
const HAS_UUID: u64 = 1 << 62;

/// A sequence lock over five words: its sequence is odd while the writer writes.
#[derive(Debug, Default)]
struct BindingSlot {
    sequence: AtomicU32,
    words: [AtomicU64; 5],
}

impl BindingSlot {
    fn write(&self, binding: Option<AddressBinding>) {
        let words = binding.map_or([0; 5], pack_binding);
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        for (slot, word) in self.words.iter().zip(words) {
            slot.store(word, Ordering::Relaxed);
        }
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
    }

    fn read(&self) -> Option<AddressBinding> {
        loop {
            let before = self.sequence.load(Ordering::Acquire);
            let mut words = [0u64; 5];
            for (word, slot) in words.iter_mut().zip(&self.words) {
                *word = slot.load(Ordering::Relaxed);
            }
            fence(Ordering::Acquire);
            // The writer needs only a few stores: trying again is cheaper than any lock.
            if before.is_multiple_of(2) && self.sequence.load(Ordering::Relaxed) == before {
                return unpack_binding(words);
            }
            std::hint::spin_loop();
        }
    }
}

fn pack_binding(binding: AddressBinding) -> [u64; 5] {
    let Machine { mac, uuid, firmware } = binding.machine;
    let [a, b, c, d, e, f] = mac.0;
    let mut head = u64::from_be_bytes([0, 0, a, b, c, d, e, f]) | HELD;
    let uuid_words = uuid.map_or([0, 0], |u| {
        head |= HAS_UUID;
        let value = u128::from_be_bytes(u.0);
        [(value >> 64) as u64, u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0)]
    });
    [head, binding.lease_end_s, firmware.map_or(0, pack_firmware), uuid_words[0], uuid_words[1]]
}

fn unpack_binding(words: [u64; 5]) -> Option<AddressBinding> {
    let [head, lease_end_s, firmware, high, low] = words;
    if head & HELD == 0 {
        return None;
    }
    let [_, _, a, b, c, d, e, f] = head.to_be_bytes();
    let uuid = (head & HAS_UUID != 0)
        .then(|| Uuid(((u128::from(high) << 64) | u128::from(low)).to_be_bytes()));
    Some(AddressBinding {
        machine: Machine {
            mac: Mac([a, b, c, d, e, f]),
            uuid,
            firmware: unpack_firmware(firmware),
        },
        lease_end_s,
    })
}

/// Layout: 0 = none; else role + 1 in bits 0..8, arch kind in bits 8..16 (0 = not said), its number
/// in bits 16..32.
fn pack_firmware(firmware: Firmware) -> u64 {
    let role = match firmware.role {
        FirmwareRole::Pxe => 1,
        FirmwareRole::HttpBoot => 2,
        FirmwareRole::Ipxe => 3,
        FirmwareRole::RaspberryPi => 4,
        FirmwareRole::UBoot => 5,
        FirmwareRole::System => 6,
    };
    let (kind, number) = match firmware.arch {
        None => (0, 0),
        Some(Arch::Bios) => (1, 0),
        Some(Arch::UefiIa32) => (2, 0),
        Some(Arch::UefiX64) => (3, 0),
        Some(Arch::UefiArm64) => (4, 0),
        Some(Arch::Other(number)) => (5, u64::from(number)),
    };
    role | kind << 8 | number << 16
}

fn unpack_firmware(word: u64) -> Option<Firmware> {
    let role = match word & 0xff {
        1 => FirmwareRole::Pxe,
        2 => FirmwareRole::HttpBoot,
        3 => FirmwareRole::Ipxe,
        4 => FirmwareRole::RaspberryPi,
        5 => FirmwareRole::UBoot,
        6 => FirmwareRole::System,
        _ => return None,
    };
    let arch = match (word >> 8) & 0xff {
        1 => Some(Arch::Bios),
        2 => Some(Arch::UefiIa32),
        3 => Some(Arch::UefiX64),
        4 => Some(Arch::UefiArm64),
        5 => Some(Arch::Other(u16::try_from((word >> 16) & 0xffff).unwrap_or(u16::MAX))),
        _ => None,
    };
    Some(Firmware { role, arch })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;

    fn binding(n: u8) -> AddressBinding {
        AddressBinding {
            machine: Machine {
                mac: Mac([n; 6]),
                uuid: Some(Uuid([n; 16])),
                firmware: Some(Firmware {
                    role: FirmwareRole::Ipxe,
                    arch: Some(Arch::Other(u16::from(n))),
                }),
            },
            lease_end_s: u64::from(n),
        }
    }

    #[test]
    fn a_pool_takes_memory_where_its_addresses_are_held() {
        use crate::config::Config;
        use crate::dhcp::subnet::AddressPool;
        let pool =
            |first: [u8; 4], last: [u8; 4]| AddressPool { first: first.into(), last: last.into() };
        let pools =
            vec![pool([10, 0, 0, 1], [10, 255, 255, 254]), pool([11, 0, 0, 7], [11, 0, 0, 9])];
        let text = "root = \"/\"\n[[dhcp.subnet]]\nsubnet = \"10.0.0.0/8\"\nmode = \"off\"\n";
        let subnet = Config::parse("test", text).unwrap().snapshot.dhcp.subnets[0].clone();
        let bindings = AddressBindings::new(&[Subnet { pools, ..subnet }]);
        let made = || bindings.pages.iter().filter(|page| page.get().is_some()).count();
        assert_eq!((bindings.len(), made()), ((1 << 24) - 2 + 3, 0));
        for [a, b, c, d] in [[10, 0, 0, 1], [10, 255, 255, 254], [11, 0, 0, 7], [11, 0, 0, 9]] {
            let address = Ipv4Addr::new(a, b, c, d);
            assert!(bindings.write(address, None) && bindings.read(address).is_none());
            assert!(bindings.write(address, Some(binding(d))));
            assert_eq!(bindings.read(address), Some(binding(d)));
        }
        assert!(made() <= 3);
        assert!(!bindings.write(Ipv4Addr::new(11, 0, 0, 10), Some(binding(1))));
        assert_eq!(bindings.read(Ipv4Addr::new(11, 0, 0, 8)), None);
    }

    #[test]
    fn a_slot_gives_back_what_was_written() {
        let slot = BindingSlot::default();
        assert_eq!(slot.read(), None);
        slot.write(Some(binding(7)));
        assert_eq!(slot.read(), Some(binding(7)));
        let bare = AddressBinding {
            machine: Machine { mac: Mac([1; 6]), uuid: None, firmware: None },
            lease_end_s: 0,
        };
        slot.write(Some(bare));
        assert_eq!(slot.read(), Some(bare));
        slot.write(None);
        assert_eq!(slot.read(), None);
    }

    #[test]
    fn a_reader_never_sees_half_a_binding() {
        // Miri tries an order of its own at each step.
        let rounds: u32 = if cfg!(miri) { 300 } else { 200_000 };
        let slot = BindingSlot::default();
        slot.write(Some(binding(0)));
        std::thread::scope(|scope| {
            scope.spawn(|| (0..rounds).for_each(|n| slot.write(Some(binding((n % 251) as u8)))));
            for _ in 0..rounds {
                let seen = slot.read().expect("always held");
                assert_eq!(seen, binding(seen.machine.mac.0[0]));
            }
        });
    }
}
