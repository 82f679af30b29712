//! Parts of the report that tell how far it can be trusted: lateness, silence, drops, and who
//! failed.

use ringboot_fleet::{Protocol, Report};
use ringboot_observe::events::Stage;
use serde::{Deserialize, Serialize};

use super::spelling::{milliseconds, name};
use super::times::Times;

/// How late the load generator itself began things, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lateness {
    /// Power-ons, against `--arrival`.
    pub(crate) power_on: Times,
    /// Requests of `--rate` for which a machine was free in time.
    pub(crate) request: Times,
}

/// The longest time in which a server answered nobody by one protocol, although it was asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Silence {
    pub(crate) protocol: String,
    pub(crate) longest_ms: u64,
    /// Since the run began.
    pub(crate) at_ms: u64,
    /// Requests that waited.
    pub(crate) waiting: u32,
}

/// A machine that failed, by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FailedMachine {
    pub(crate) machine: u32,
    pub(crate) mac: String,
    pub(crate) stage: String,
    /// As in `failures`.
    pub(crate) cause: String,
    /// With what differs from machine to machine.
    pub(crate) sentence: String,
}

/// What was done a second, by the protocol that it was asked by. None where a machine does more
/// than plain steps, or nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) leases_per_s: Option<f64>,
    pub(crate) transfers_per_s: Option<f64>,
    pub(crate) requests_per_s: Option<f64>,
}

impl Rates {
    pub(super) fn of(report: &Report) -> Self {
        let rate = |stage: Stage| {
            let count = report.stages.get(&stage).map_or(0, |seen| seen.times.len());
            (!report.firmware && count > 0)
                .then(|| count as f64 / report.wall.as_secs_f64().max(f64::EPSILON))
        };
        Self {
            leases_per_s: rate(Stage::Dhcp),
            transfers_per_s: rate(Stage::Loader),
            requests_per_s: rate(Stage::File),
        }
    }
}

impl Lateness {
    pub(super) fn of(report: &Report) -> Self {
        Self {
            power_on: Times::of(&report.late_power_ons),
            request: Times::of(&report.late_requests),
        }
    }
}

impl Silence {
    /// Of every protocol that was spoken.
    pub(super) fn all(report: &Report) -> Vec<Self> {
        let silences = Protocol::ALL.into_iter().zip(report.pressure.silences);
        let one = |(protocol, silence): (Protocol, ringboot_fleet::Silence)| Self {
            protocol: protocol.name().to_owned(),
            longest_ms: milliseconds(silence.lasted),
            at_ms: milliseconds(silence.at),
            waiting: silence.waiting,
        };
        silences.filter(|(_, silence)| !silence.lasted.is_zero()).map(one).collect()
    }
}

impl FailedMachine {
    pub(super) fn of(failed: &ringboot_fleet::FailedMachine) -> Self {
        let ringboot_fleet::FailedMachine { machine, mac, stage, cause, sentence } = failed;
        let (cause, sentence) = (cause.clone(), sentence.clone());
        Self { machine: *machine, mac: mac.to_string(), stage: name(*stage), cause, sentence }
    }
}
