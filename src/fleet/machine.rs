//! One simulated machine from power-on to its kernel and initrd, in the steps of its firmware.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::clients::lease::MachineLease;
use super::clients::station::MachineStation;
use super::failure::BootFailure;
use super::limits::AGAIN_AFTER_FAILURE;
use super::measure::progress::take_step_retries;
use super::models::{self, FirmwareModel};
use super::net::segment::MachinePort;
use super::report::outcome::{BootOutcome, StoppedBoot};
use super::report::steps::BootSteps;
use super::requests::RequestRunner;
use super::run::FleetRun;
use super::scenario::{self, RoleTask};
use ringboot_observe::events::MachineStage;
use ringboot_protocol::model::machine::{Mac, Uuid};

/// A machine before its power-on.
#[derive(Debug)]
pub(super) struct SimulatedMachine {
    pub(super) station: MachineStation,
    pub(super) errand: MachineErrand,
    /// The longest time of a boot; a longer one has failed.
    pub(super) within: Option<Duration>,
}

/// The task of a machine.
#[derive(Clone, Debug)]
pub(super) enum MachineErrand {
    Boot {
        model: FirmwareModel,
        /// The menu entry that the person at the console chooses.
        pick: Rc<str>,
    },
    Steps {
        steps: Rc<[scenario::ScenarioStep]>,
        http: SocketAddr,
    },
}

impl SimulatedMachine {
    /// Switches the machine on, again and again if the run has a duration. The first time it is due
    /// at `due`, and its time counts from then, even if this is late.
    pub(super) async fn run_boots(mut self, run: FleetRun, due: Instant) {
        let goes_on = || run.until.is_some_and(|until| Instant::now() < until);
        let mut lease = None;
        let mut begun = due;
        run.report.borrow_mut().add_late_power_on(due.elapsed());
        loop {
            let outcome = self.boot(&run, begun, &mut lease).await;
            let failed = outcome.end.is_err();
            run.report.borrow_mut().add_boot(run.started, outcome);
            if failed && goes_on() {
                sleep(AGAIN_AFTER_FAILURE).await;
            }
            // Plain steps have repeated themselves already, on their connections.
            if matches!(self.errand, MachineErrand::Steps { .. }) || !goes_on() {
                break;
            }
            begun = Instant::now();
        }
        run.report.borrow_mut().leases.extend(lease);
    }

    async fn boot(
        &mut self,
        run: &FleetRun,
        begun: Instant,
        lease: &mut Option<MachineLease>,
    ) -> BootOutcome {
        // Each plain step counts by itself.
        let is_warm_up =
            matches!(self.errand, MachineErrand::Boot { .. }) && begun < run.counts_from;
        run.report.borrow_mut().power_on(is_warm_up);
        let mut steps = BootSteps::new(self.errand.first_stage(), begun, Rc::clone(&run.report));
        steps.is_warm_up = is_warm_up;
        let within = self.within;
        let work = async {
            match self.errand.clone() {
                MachineErrand::Steps { steps: asked, http } => {
                    RequestRunner::new(&mut self.station, http)
                        .run_requests(&asked, run.until, &mut steps, lease)
                        .await
                }
                MachineErrand::Boot { model, pick } => {
                    models::boot_model(&mut self.station, model, &pick, &mut steps, lease).await
                }
            }
        };
        let end = run_in_time(within, begun, work).await;
        self.station.context.progress.add_machine(end.is_ok());
        let end = match end {
            Ok(()) => {
                steps.end();
                Ok(())
            }
            Err(failure) => {
                Err(StoppedBoot { stage: steps.now, retries: take_step_retries(), failure })
            }
        };
        let BootSteps { to_kernel, stages, .. } = steps;
        let (MachinePort { mac, circuit: machine, .. }, model, ended) =
            (self.station.port, self.errand.task_name(), Instant::now());
        BootOutcome { machine, mac, model, is_warm_up, begun, ended, to_kernel, stages, end }
    }
}

/// Ends this work if it takes longer. A result that a busy thread sees only afterwards was too late
/// as well.
async fn run_in_time(
    within: Option<Duration>,
    begun: Instant,
    work: impl Future<Output = Result<(), BootFailure>>,
) -> Result<(), BootFailure> {
    let Some(within) = within else { return work.await };
    let late = Err(BootFailure::Late(within));
    let end = timeout(within.saturating_sub(begun.elapsed()), work).await.unwrap_or(late.clone());
    if end.is_ok() && begun.elapsed() > within { late } else { end }
}

impl MachineErrand {
    pub(super) fn new(does: &RoleTask, http: SocketAddr, pick: &str) -> Self {
        match does {
            RoleTask::Boot(model) => Self::Boot { model: *model, pick: Rc::from(pick) },
            RoleTask::Steps(steps) => Self::Steps { steps: Rc::from(steps.as_slice()), http },
        }
    }

    fn first_stage(&self) -> MachineStage {
        match self {
            Self::Boot { .. } => MachineStage::Dhcp,
            Self::Steps { steps, .. } => {
                steps.first().map_or(MachineStage::File, |step| step.request.stage())
            }
        }
    }

    /// The identity of machine `number` of a seed. Its hardware address is a locally administered
    /// one (0x02 of the first byte), no vendor's and no virtual machine's: "RB", then bytes of seed
    /// and number. A model that servers recognise by its maker has that maker's prefix.
    pub(super) fn make_port(&self, seed: u64, number: u32) -> MachinePort {
        let [_, a, b, c] = number.to_be_bytes();
        let mac = Mac([b'R', b'B', seed.to_le_bytes()[0] ^ a, b, c, seed.to_le_bytes()[1]]);
        let mac = match self {
            Self::Boot { model, .. } => model.mac(mac),
            Self::Steps { .. } => mac,
        };
        let mut uuid = [0x40; 16];
        uuid[..8].copy_from_slice(&seed.to_le_bytes());
        uuid[10..].copy_from_slice(&mac.0);
        MachinePort { mac, uuid: Uuid(uuid), circuit: number }
    }

    /// The name of the task, for the report.
    fn task_name(&self) -> &'static str {
        match self {
            Self::Boot { model, .. } => model.name(),
            Self::Steps { .. } => "steps",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use super::super::limits::MACHINES_MAX;
    use super::*;

    #[test]
    fn hardware_addresses_of_a_seed_are_locally_administered_stations_and_all_different() {
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        for seed in [0, 1, 0xffff, u64::MAX] {
            let macs = |model: FirmwareModel| -> HashSet<Mac> {
                let errand = MachineErrand::new(&RoleTask::Boot(model), http, "");
                (0..MACHINES_MAX).map(|number| errand.make_port(seed, number).mac).collect()
            };
            let usual = macs(FirmwareModel::UefiPxe);
            assert_eq!(usual.len(), MACHINES_MAX as usize);
            assert!(usual.iter().all(|mac| mac.0[0] & 0b11 == 0b10));
            let of_a_maker = macs(FirmwareModel::RaspberryPi);
            assert_eq!(of_a_maker.len(), MACHINES_MAX as usize);
            assert!(of_a_maker.is_disjoint(&usual));
        }
    }
}
