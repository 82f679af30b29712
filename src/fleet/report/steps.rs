//! The steps of a boot as they begin and end, each with its time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::measure::progress::take_step_retries;
use crate::report::FleetReport;
use crate::schedule::ExchangeTurn;
use ringboot_observe::events::MachineStage;

/// The steps of a boot as they begin and end. There is no time between them, unless each has a
/// moment at which it is due.
pub(crate) struct BootSteps {
    pub(crate) now: MachineStage,
    power_on: Instant,
    begun: Instant,
    /// A step has begun and not ended.
    is_open: bool,
    pub(crate) is_warm_up: bool,
    pub(crate) to_kernel: Option<Duration>,
    pub(crate) stages: [Duration; MachineStage::ALL.len()],
    /// The report that counts each finished step.
    report: Rc<RefCell<FleetReport>>,
}

impl BootSteps {
    /// The first step begins.
    pub(crate) fn new(
        first: MachineStage,
        begun: Instant,
        report: Rc<RefCell<FleetReport>>,
    ) -> Self {
        let (is_open, is_warm_up) = (true, false);
        let stages = Default::default();
        Self {
            now: first,
            power_on: begun,
            begun,
            is_open,
            is_warm_up,
            to_kernel: None,
            stages,
            report,
        }
    }

    /// No step has begun yet: the first one is due later.
    pub(crate) fn wait(&mut self) {
        self.is_open = false;
    }

    /// Begins a step that was due at this moment, which may have passed.
    pub(crate) fn begin(&mut self, stage: MachineStage, turn: ExchangeTurn) {
        (self.now, self.begun, self.is_open) = (stage, turn.due, true);
        if turn.was_free {
            self.report.borrow_mut().add_late_request(turn.due.elapsed());
        }
    }

    /// Ends the present step and begins the next one.
    pub(crate) fn enter(&mut self, stage: MachineStage) {
        self.end();
        (self.now, self.is_open) = (stage, true);
    }

    /// Ends the present step.
    pub(crate) fn end(&mut self) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let now = Instant::now();
        let took = now - self.begun;
        if let Some(sum) = self.stages.get_mut(self.now as usize) {
            *sum += took;
        }
        if self.now == MachineStage::Kernel {
            self.to_kernel = Some(now - self.power_on);
        }
        let retries = take_step_retries();
        if !self.is_warm_up {
            self.report.borrow_mut().add_step(self.now, self.begun, took, retries);
        }
        self.begun = now;
    }
}
