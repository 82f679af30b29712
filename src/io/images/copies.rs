//! A budget for copies: texts made for one request, or a file translated for netascii, which take
//! memory until the last client has received them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::limits::{COPIES_MEMORY_MAX, COPIES_MEMORY_MIN, COPIES_OF_ONE, COPIES_SHARE, COPY_FREE};
use super::path::NameRefusal;

/// The budget for copies, and its use.
#[derive(Debug)]
pub struct CopyBudget {
    budget: u64,
    held: Mutex<HeldCopies>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct HeldCopies {
    bytes: u64,
    /// Bytes by the address of the client; for IPv6 by its network.
    by_source: HashMap<IpAddr, u64>,
}

/// One copy's share of the budget; dropping it returns the share.
#[derive(Debug)]
pub struct CopyShare {
    copies: Arc<CopyBudget>,
    source: IpAddr,
    bytes: u64,
}

/// The use of the budget for copies, for `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiesUse {
    /// The budget, bytes.
    pub budget: u64,
    /// Bytes that copies occupy now.
    pub held: u64,
    /// Requests refused because the budget was spent.
    pub refused: u64,
}

impl CopyBudget {
    /// A budget that is a share of the memory that the process may have.
    pub fn for_memory(memory_bytes: u64) -> Arc<Self> {
        let (part, of) = COPIES_SHARE;
        Self::new((memory_bytes / of * part).clamp(COPIES_MEMORY_MIN, COPIES_MEMORY_MAX))
    }

    fn new(budget: u64) -> Arc<Self> {
        Arc::new(Self { budget, held: Mutex::default(), refused: AtomicU64::new(0) })
    }

    /// Reserves room for a copy of this many bytes on behalf of this address. Refuses if the
    /// address, or all addresses together, have used their share. A small copy needs no share.
    pub fn reserve_share(
        self: &Arc<Self>,
        source: IpAddr,
        bytes: u64,
    ) -> Result<Option<CopyShare>, NameRefusal> {
        if bytes <= COPY_FREE {
            return Ok(None);
        }
        let source = find_source_owner(source);
        let (part, of) = COPIES_OF_ONE;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.by_source.get(&source).copied().unwrap_or(0);
        if held.bytes + bytes > self.budget || own + bytes > self.budget / of * part {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(NameRefusal::Busy);
        }
        held.bytes += bytes;
        *held.by_source.entry(source).or_default() += bytes;
        Ok(Some(CopyShare { copies: Arc::clone(self), source, bytes }))
    }

    /// The use of the budget now.
    pub fn usage(&self) -> CopiesUse {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).bytes;
        CopiesUse { budget: self.budget, held, refused: self.refused.load(Ordering::Relaxed) }
    }
}

impl Drop for CopyShare {
    fn drop(&mut self) {
        let mut held = self.copies.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.bytes -= self.bytes;
        if let Some(own) = held.by_source.get_mut(&self.source) {
            *own -= self.bytes;
            if *own == 0 {
                held.by_source.remove(&self.source);
            }
        }
    }
}

/// A host owns all addresses of its IPv6 network (/64).
fn find_source_owner(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from(u128::from(v6) >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn copies_have_a_budget_each_source_a_share_and_both_come_back() {
        let copies = CopyBudget::new(64 * MIB);
        let source = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut held: Vec<_> =
            (0..4).map(|_| copies.reserve_share(source(1), 8 * MIB).unwrap()).collect();
        assert_eq!(
            copies.reserve_share(source(1), MIB).unwrap_err(),
            NameRefusal::Busy,
            "half of it is the most for one"
        );
        held.push(copies.reserve_share(source(2), 32 * MIB).unwrap());
        assert_eq!(copies.reserve_share(source(3), MIB).unwrap_err(), NameRefusal::Busy);
        assert!(
            copies.reserve_share(source(3), COPY_FREE).unwrap().is_none(),
            "a small one is always made"
        );
        assert_eq!(copies.usage(), CopiesUse { budget: 64 * MIB, held: 64 * MIB, refused: 2 });
        held.pop();
        assert!(copies.reserve_share(source(3), MIB).is_ok());
        held.clear();
        assert_eq!(copies.usage().held, 0);
        assert!(copies.held.lock().unwrap().by_source.is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let copies = CopyBudget::new(64 * MIB);
        let [one, two, other] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|text| text.parse().unwrap());
        let _held = copies.reserve_share(one, 32 * MIB).unwrap();
        assert!(copies.reserve_share(two, MIB).is_err());
        assert!(copies.reserve_share(other, MIB).is_ok());
    }

    #[test]
    fn the_largest_copy_fits_every_budget() {
        let copies = CopyBudget::for_memory(0);
        assert!(copies.reserve_share(IpAddr::from([10, 0, 0, 1]), 32 * MIB).is_ok());
        assert_eq!(CopyBudget::for_memory(u64::MAX).usage().budget, COPIES_MEMORY_MAX);
    }
}
