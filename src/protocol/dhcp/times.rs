//! The lease time, and the times T1 and T2 at which a client renews and rebinds its lease.

use super::subnet::Subnet;
use crate::model::machine::FirmwareRole;

/// Lease time, T1 (option 58) and T2 (option 59), seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeaseTimes {
    pub(super) lease_s: u32,
    pub(super) renew_s: u32,
    pub(super) rebind_s: u32,
}

/// Thousandths by which T1 and T2 vary up and down, so that 500 machines that boot together do not
/// renew together (D-35).
const SPREAD_PER_MILLE: u64 = 50;

impl LeaseTimes {
    /// The time that the client asks for (option 51) up to the subnet's maximum, or else the
    /// subnet's default for this class of program. `identity` spreads T1 and T2.
    pub(super) fn new(
        requested_s: Option<u32>,
        role: FirmwareRole,
        subnet: &Subnet,
        identity: u64,
    ) -> Self {
        let default_s = match role {
            FirmwareRole::System => subnet.default_lease_time_s,
            FirmwareRole::Pxe
            | FirmwareRole::HttpBoot
            | FirmwareRole::Ipxe
            | FirmwareRole::UBoot
            | FirmwareRole::RaspberryPi => subnet.firmware_lease_time_s,
        };
        let lease_s = requested_s.unwrap_or(default_s).min(subnet.max_lease_time_s).max(1);

        // The two halves of the hash spread T1 and T2 independently of each other.
        let part = |per_mille: u64, share: u64| {
            let spread = 1000 - SPREAD_PER_MILLE + share % (2 * SPREAD_PER_MILLE + 1);
            u32::try_from(u64::from(lease_s) * per_mille * spread / 1_000_000).unwrap_or(u32::MAX)
        };

        // T1 comes before T2, and T2 before the end, also for the shortest lease (D-35).
        let rebind_s = part(875, identity).min(lease_s.saturating_sub(1));
        let renew_s = part(500, identity >> 32).min(rebind_s.saturating_sub(1));
        Self { lease_s, renew_s, rebind_s }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::classify::hash_bytes;
    use crate::dhcp::testing::subnet;

    #[test]
    fn d35_t1_and_t2_lie_within_five_percent_and_in_order() {
        let subnet = Subnet { default_lease_time_s: 600, max_lease_time_s: 7200, ..subnet() };
        let mut seen = std::collections::HashSet::new();
        for n in 0..500u32 {
            let times = LeaseTimes::new(
                Some(7200),
                FirmwareRole::System,
                &subnet,
                hash_bytes(&n.to_be_bytes()),
            );
            assert!((3420..=3780).contains(&times.renew_s), "{times:?}");
            assert!((5985..=6615).contains(&times.rebind_s), "{times:?}");
            seen.insert(times.renew_s);
        }
        assert!(seen.len() > 50, "spread over the machines");
        let of = |n: u32| {
            LeaseTimes::new(None, FirmwareRole::System, &subnet, hash_bytes(&n.to_be_bytes()))
        };
        assert_eq!(of(7), of(7), "a function of its input");
        for lease in [3, 4, 10, 60] {
            let tight = Subnet { max_lease_time_s: lease, ..subnet.clone() };
            for n in 0..200u32 {
                let t = LeaseTimes::new(
                    None,
                    FirmwareRole::System,
                    &tight,
                    hash_bytes(&n.to_be_bytes()),
                );
                assert!(t.renew_s < t.rebind_s && t.rebind_s < t.lease_s, "{t:?}");
            }
        }
    }

    #[test]
    fn d35_option_51_is_honoured_up_to_the_maximum() {
        let subnet = Subnet { default_lease_time_s: 600, max_lease_time_s: 7200, ..subnet() };
        let lease =
            |requested| LeaseTimes::new(requested, FirmwareRole::System, &subnet, 0).lease_s;
        assert_eq!([lease(None), lease(Some(300)), lease(Some(u32::MAX))], [600, 300, 7200]);
    }

    #[test]
    fn d35_firmware_and_loaders_have_a_lease_time_of_their_own() {
        let subnet = Subnet {
            default_lease_time_s: 43_200,
            firmware_lease_time_s: 600,
            max_lease_time_s: 86_400,
            ..subnet()
        };
        let lease = |role, requested| LeaseTimes::new(requested, role, &subnet, 0).lease_s;
        for role in [
            FirmwareRole::Pxe,
            FirmwareRole::HttpBoot,
            FirmwareRole::Ipxe,
            FirmwareRole::UBoot,
            FirmwareRole::RaspberryPi,
        ] {
            assert_eq!((lease(role, None), lease(role, Some(3600))), (600, 3600), "{role}");
        }
        assert_eq!(lease(FirmwareRole::System, None), 43_200);
    }
}
