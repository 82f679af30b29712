//! The place of a fleet: what its machines share, and the machines that stand there.

use std::rc::Rc;

use super::clients::station::Station;
use super::machine::{Errand, Machine};
use super::net::context::Context;
use super::net::segment::{Segment, Xids};
use super::plan::Plan;
use super::scenario::dealt;
use super::schedule::Schedule;

/// Where machines stand: what they share.
pub(super) struct Site<'a> {
    pub(super) plan: &'a Plan,
    pub(super) context: Rc<Context>,
    pub(super) segments: Vec<Rc<Segment>>,
    /// One for each role.
    pub(super) schedules: Vec<Option<Rc<Schedule>>>,
}

impl Site<'_> {
    pub(super) fn machines(&self) -> impl Iterator<Item = Machine> {
        let Plan { machines, roles, seed, http, pick, within, .. } = self.plan;
        let errands: Vec<Errand> =
            roles.iter().map(|role| Errand::new(&role.does, *http, pick)).collect();
        (0..*machines).zip(dealt(roles)).map(move |(number, role)| {
            let rack = (number as usize)
                .checked_rem(self.segments.len())
                .and_then(|rack| self.segments.get(rack));
            let errand = errands[role].clone();
            let station = Station {
                context: Rc::clone(&self.context),
                port: errand.port(*seed, number),
                segment: rack.map(Rc::clone),
                schedule: self.schedules.get(role).cloned().flatten(),
                xids: Xids(seed.rotate_left(32) ^ u64::from(number)),
            };
            Machine { station, errand, within: *within }
        })
    }
}
