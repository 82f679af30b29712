//! One simulated machine from power-on to its kernel and initial disk, in the steps of its
//! firmware.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::clients::lease::Lease;
use super::clients::station::Station;
use super::failure::Failure;
use super::limits::AGAIN_AFTER_FAILURE;
use super::measure::progress::take_step_retries;
use super::models::{self, Model};
use super::net::segment::Port;
use super::report::outcome::{Outcome, Stopped};
use super::report::steps::Steps;
use super::requests::Requests;
use super::run::Run;
use super::scenario::{self, Does};
use ringboot_observe::events::Stage;
use ringboot_protocol::model::machine::{Mac, Uuid};

/// A machine before it is switched on, and again.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) station: Station,
    pub(super) errand: Errand,
    /// A boot that takes longer has failed.
    pub(super) within: Option<Duration>,
}

/// What a machine is there for.
#[derive(Clone, Debug)]
pub(super) enum Errand {
    Boot {
        model: Model,
        /// The menu entry that the person at the console picks.
        pick: Rc<str>,
    },
    Steps {
        steps: Rc<[scenario::Step]>,
        http: SocketAddr,
    },
}

impl Machine {
    /// Switches the machine on; where there is a time until which machines begin again, again and
    /// again.
    ///
    /// The first time it was to be switched on at `due`, and its time counts from then, however
    /// late this is.
    pub(super) async fn live(mut self, run: Run, due: Instant) {
        let goes_on = || run.until.is_some_and(|until| Instant::now() < until);
        let mut lease = None;
        let mut begun = due;
        run.report.borrow_mut().add_late_power_on(due.elapsed());
        loop {
            let outcome = self.boot(&run, begun, &mut lease).await;
            let failed = outcome.end.is_err();
            run.report.borrow_mut().add(run.started, outcome);
            if failed && goes_on() {
                sleep(AGAIN_AFTER_FAILURE).await;
            }
            // Steps have been repeated already, on the connections that they have.
            if matches!(self.errand, Errand::Steps { .. }) || !goes_on() {
                break;
            }
            begun = Instant::now();
        }
        run.report.borrow_mut().leases.extend(lease);
    }

    async fn boot(&mut self, run: &Run, begun: Instant, lease: &mut Option<Lease>) -> Outcome {
        // Of plain steps each counts by itself.
        let is_warm_up = matches!(self.errand, Errand::Boot { .. }) && begun < run.counts_from;
        run.report.borrow_mut().power_on(is_warm_up);
        let mut steps = Steps::new(self.errand.first_stage(), begun, Rc::clone(&run.report));
        steps.is_warm_up = is_warm_up;
        let within = self.within;
        let work = async {
            match self.errand.clone() {
                Errand::Steps { steps: asked, http } => {
                    Requests::new(&mut self.station, http)
                        .all(&asked, run.until, &mut steps, lease)
                        .await
                }
                Errand::Boot { model, pick } => {
                    models::boot(&mut self.station, model, &pick, &mut steps, lease).await
                }
            }
        };
        let end = in_time(within, begun, work).await;
        self.station.context.progress.add_machine(end.is_ok());
        let end = match end {
            Ok(()) => {
                steps.end();
                Ok(())
            }
            Err(failure) => {
                Err(Stopped { stage: steps.now, retries: take_step_retries(), failure })
            }
        };
        let Steps { to_kernel, stages, .. } = steps;
        let (Port { mac, circuit: machine, .. }, model, ended) =
            (self.station.port, self.errand.model(), Instant::now());
        Outcome { machine, mac, model, is_warm_up, begun, ended, to_kernel, stages, end }
    }
}

/// Ends this work where it takes longer. What a busy thread saw only afterwards was too late as
/// well.
async fn in_time(
    within: Option<Duration>,
    begun: Instant,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let Some(within) = within else { return work.await };
    let late = Err(Failure::Late(within));
    let end = timeout(within.saturating_sub(begun.elapsed()), work).await.unwrap_or(late.clone());
    if end.is_ok() && begun.elapsed() > within { late } else { end }
}

impl Errand {
    pub(super) fn new(does: &Does, http: SocketAddr, pick: &str) -> Self {
        match does {
            Does::Boot(model) => Self::Boot { model: *model, pick: Rc::from(pick) },
            Does::Steps(steps) => Self::Steps { steps: Rc::from(steps.as_slice()), http },
        }
    }

    fn first_stage(&self) -> Stage {
        match self {
            Self::Boot { .. } => Stage::Dhcp,
            Self::Steps { steps, .. } => {
                steps.first().map_or(Stage::File, |step| step.request.stage())
            }
        }
    }

    /// Who machine `number` of a seed is. Its hardware address is a locally administered one (0x02
    /// of the first octet), no vendor's and no virtual machine's: "RB", then what seed and number
    /// make. A model that servers know by its maker has that one's.
    pub(super) fn port(&self, seed: u64, number: u32) -> Port {
        let [_, a, b, c] = number.to_be_bytes();
        let mac = Mac([b'R', b'B', seed.to_le_bytes()[0] ^ a, b, c, seed.to_le_bytes()[1]]);
        let mac = match self {
            Self::Boot { model, .. } => model.mac(mac),
            Self::Steps { .. } => mac,
        };
        let mut uuid = [0x40; 16];
        uuid[..8].copy_from_slice(&seed.to_le_bytes());
        uuid[10..].copy_from_slice(&mac.0);
        Port { mac, uuid: Uuid(uuid), circuit: number }
    }

    /// The name of who does this, for the report.
    fn model(&self) -> &'static str {
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
            let macs = |model: Model| -> HashSet<Mac> {
                let errand = Errand::new(&Does::Boot(model), http, "");
                (0..MACHINES_MAX).map(|number| errand.port(seed, number).mac).collect()
            };
            let usual = macs(Model::UefiPxe);
            assert_eq!(usual.len(), MACHINES_MAX as usize);
            assert!(usual.iter().all(|mac| mac.0[0] & 0b11 == 0b10));
            let of_a_maker = macs(Model::RaspberryPi);
            assert_eq!(of_a_maker.len(), MACHINES_MAX as usize);
            assert!(of_a_maker.is_disjoint(&usual));
        }
    }
}
