//! One run: its start, its limits of time, and the report that its machines fill.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use tokio::time::sleep_until;

use super::net::context::FleetContext;
use super::plan::FleetPlan;
use super::report::FleetReport;
use super::scenario::RoleTask;

/// One run, as its machines know it.
#[derive(Clone, Debug)]
pub(super) struct FleetRun {
    pub(super) started: Instant,
    /// Machines begin again until then; None: each runs once.
    pub(super) until: Option<Instant>,
    /// Boots and requests that begin before do not count.
    pub(super) counts_from: Instant,
    pub(super) report: Rc<RefCell<FleetReport>>,
}

impl FleetRun {
    pub(super) fn begin(plan: &FleetPlan) -> Self {
        let mut report = FleetReport::new(plan.machines, Instant::now());
        report.warm_up = plan.warm_up;
        report.firmware = plan.roles.iter().any(|role| matches!(role.does, RoleTask::Boot(_)));
        report.fetches = plan.roles.iter().any(|role| role.does.fetches_files());
        report.is_open = plan.roles.iter().any(|role| role.rate.is_some());
        // The clock starts last: memory for the report would count as a delay of the first ones.
        let started = Instant::now();
        let counts_from = started + plan.warm_up;
        report.count_from(counts_from);
        let until = plan.duration.map(|duration| started + duration);
        Self { started, until, counts_from, report: Rc::new(RefCell::new(report)) }
    }

    /// Leaves the time until the end of the warm-up out of the counts.
    pub(super) async fn warm_up(self, context: Rc<FleetContext>) {
        if Instant::now() < self.counts_from {
            sleep_until(self.counts_from.into()).await;
            context.dhcp_times.take();
        }
        self.report.borrow_mut().forget_warm_up(&context.progress);
    }
}
