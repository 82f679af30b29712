//! The lease audit: checks that the server still knows every lease, and gave no address twice.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use tokio::task::spawn_local;

use super::clients::lease::MachineLease;
use super::clients::station::MachineStation;
use super::machine::{MachineErrand, SimulatedMachine};
use super::report::FleetReport;
use ringboot_protocol::model::machine::Mac;

/// The result of an audit of the leases that machines were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseAudit {
    /// Leases that the audit checked.
    pub leases: usize,
    /// Leases that the server denied, changed or did not answer for.
    pub lost: Vec<MachineLease>,
    /// Leases whose address another machine was given too.
    pub doubled: Vec<MachineLease>,
}

impl LeaseAudit {
    /// Compares the leases of the machines with the server's answers now. `says` has the address by
    /// machine number.
    fn compare(leases: &[MachineLease], says: &HashMap<u32, Ipv4Addr>) -> Self {
        let mut holders: HashMap<Ipv4Addr, u32> = HashMap::new();
        for lease in leases {
            *holders.entry(lease.address).or_default() += 1;
        }
        Self {
            leases: leases.len(),
            lost: leases
                .iter()
                .filter(|lease| says.get(&lease.machine) != Some(&lease.address))
                .copied()
                .collect(),
            doubled: leases
                .iter()
                .filter(|lease| holders.get(&lease.address) != Some(&1))
                .copied()
                .collect(),
        }
    }

    /// Adds the result of a look into the server's durable store: `rows` are its bound leases.
    pub fn compare_store(&mut self, leases: &[MachineLease], rows: &[(Mac, Ipv4Addr)]) {
        let mut kept: HashMap<Mac, Vec<Ipv4Addr>> = HashMap::new();
        for &(mac, address) in rows {
            kept.entry(mac).or_default().push(address);
        }
        for lease in leases {
            let addresses = kept.get(&lease.mac).map_or(&[][..], Vec::as_slice);
            if !addresses.contains(&lease.address) && !self.lost.contains(lease) {
                self.lost.push(*lease);
            }
            if addresses.len() > 1 && !self.doubled.contains(lease) {
                self.doubled.push(*lease);
            }
        }
    }

    /// True if the server kept every lease.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty()
    }
}

/// Every machine comes back and asks for its former address.
pub(super) async fn audit_leases(
    machines: impl Iterator<Item = SimulatedMachine>,
    report: &FleetReport,
) -> LeaseAudit {
    let had: HashMap<u32, Ipv4Addr> =
        report.leases.iter().map(|lease| (lease.machine, lease.address)).collect();
    let mut questions = Vec::new();

    // The plan and the seed alone decide number and hardware address of a machine, so these are the
    // machines of the run. They all ask at once: one after the other, each silent lease would cost
    // all waits of its firmware.
    for machine in machines {
        let SimulatedMachine { station, errand: MachineErrand::Boot { model, .. }, .. } = machine
        else {
            continue;
        };
        let MachineStation { port, segment: Some(segment), mut xids, .. } = station else {
            continue;
        };
        let number = port.circuit;
        if let Some(&address) = had.get(&number) {
            questions.push(spawn_local(async move {
                let says = segment.confirm(port, model.speaker(), &mut xids, address).await;
                says.map(|says| (number, says))
            }));
        }
    }
    let mut says = HashMap::new();
    for question in questions {
        says.extend(question.await.ok().flatten());
    }
    LeaseAudit::compare(&report.leases, &says)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(machine: u8, last: u8) -> MachineLease {
        MachineLease {
            machine: machine.into(),
            mac: Mac([machine; 6]),
            address: Ipv4Addr::new(127, 77, 1, last),
            lease_s: 600,
        }
    }

    fn says(answers: &[(u32, u8)]) -> HashMap<u32, Ipv4Addr> {
        answers.iter().map(|&(machine, last)| (machine, lease(0, last).address)).collect()
    }

    #[test]
    fn a_denied_a_changed_and_a_doubled_lease_are_told_apart() {
        let leases = [lease(1, 1), lease(2, 2), lease(3, 3), lease(4, 3), lease(5, 5)];
        let audit = LeaseAudit::compare(&leases, &says(&[(1, 1), (2, 9), (3, 3), (4, 3)]));
        assert_eq!(audit.lost, [leases[1], leases[4]]);
        assert_eq!(audit.doubled, leases[2..4]);
        assert!(!audit.is_clean());
    }

    #[test]
    fn a_lease_that_the_store_does_not_have_or_has_twice_is_seen() {
        let leases = [lease(1, 1), lease(2, 2)];
        let rows = leases.map(|lease| (lease.mac, lease.address));
        let audit = |rows: &[(Mac, Ipv4Addr)]| {
            let mut audit = LeaseAudit::compare(&leases, &says(&[(1, 1), (2, 2)]));
            audit.compare_store(&leases, rows);
            audit
        };
        assert!(audit(&rows).is_clean());
        assert_eq!(audit(&rows[..1]).lost, leases[1..]);
        let twice = (leases[0].mac, lease(0, 7).address);
        assert_eq!(audit(&[rows[0], rows[1], twice]).doubled, leases[..1]);
    }
}
