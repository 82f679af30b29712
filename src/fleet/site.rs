//! The machines of a fleet, and what they share.

use std::rc::Rc;

use super::clients::station::MachineStation;
use super::machine::{MachineErrand, SimulatedMachine};
use super::net::context::FleetContext;
use super::net::segment::{FleetSegment, XidSource};
use super::plan::FleetPlan;
use super::scenario::deal_roles;
use super::schedule::ExchangeSchedule;

/// What the machines of a fleet share.
pub(super) struct FleetSite<'a> {
    pub(super) plan: &'a FleetPlan,
    pub(super) context: Rc<FleetContext>,
    pub(super) segments: Vec<Rc<FleetSegment>>,
    /// The schedule of each role; None without a rate.
    pub(super) schedules: Vec<Option<Rc<ExchangeSchedule>>>,
}

impl FleetSite<'_> {
    pub(super) fn make_machines(&self) -> impl Iterator<Item = SimulatedMachine> {
        let FleetPlan { machines, roles, seed, http, pick, within, .. } = self.plan;
        let errands: Vec<MachineErrand> =
            roles.iter().map(|role| MachineErrand::new(&role.does, *http, pick)).collect();
        (0..*machines).zip(deal_roles(roles)).map(move |(number, role)| {
            let rack = (number as usize)
                .checked_rem(self.segments.len())
                .and_then(|rack| self.segments.get(rack));
            let errand = errands[role].clone();
            let station = MachineStation {
                context: Rc::clone(&self.context),
                port: errand.make_port(*seed, number),
                segment: rack.map(Rc::clone),
                schedule: self.schedules.get(role).cloned().flatten(),
                xids: XidSource(seed.rotate_left(32) ^ u64::from(number)),
            };
            SimulatedMachine { station, errand, within: *within }
        })
    }
}
