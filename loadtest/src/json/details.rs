//! Parts of the report that qualify its figures: lateness, silence, rates and failed machines.

use ringboot_fleet::{AskedProtocol, FleetReport};
use ringboot_observe::events::MachineStage;
use serde::{Deserialize, Serialize};

use super::spelling::{count_milliseconds, spell_stage_name};
use super::times::TimeDistribution;

/// The delays of the load generator itself, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct GeneratorLateness {
    /// Power-ons, against `--arrival`.
    pub(crate) power_on: TimeDistribution,
    /// Requests of `--rate` for which a machine was free in time.
    pub(crate) request: TimeDistribution,
}

/// The longest time in which a server answered no machine by one protocol while requests waited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SilenceEntry {
    pub(crate) protocol: String,
    pub(crate) longest_ms: u64,
    /// Its start, since the run began.
    pub(crate) at_ms: u64,
    /// Requests that waited meanwhile.
    pub(crate) waiting: u32,
}

/// A machine that failed, by its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FailedMachineEntry {
    pub(crate) machine: u32,
    pub(crate) mac: String,
    pub(crate) stage: String,
    /// As in `failures`.
    pub(crate) cause: String,
    /// The cause with details that differ from machine to machine.
    pub(crate) sentence: String,
}

/// Plain requests a second, by protocol. None if machines have firmware, or made none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProtocolRates {
    pub(crate) leases_per_s: Option<f64>,
    pub(crate) transfers_per_s: Option<f64>,
    pub(crate) requests_per_s: Option<f64>,
}

impl ProtocolRates {
    pub(super) fn from_report(report: &FleetReport) -> Self {
        Self {
            leases_per_s: compute_request_rate(report, MachineStage::Dhcp),
            transfers_per_s: compute_request_rate(report, MachineStage::Loader),
            requests_per_s: compute_request_rate(report, MachineStage::File),
        }
    }
}

fn compute_request_rate(report: &FleetReport, stage: MachineStage) -> Option<f64> {
    let count = report.stages.get(&stage).map_or(0, |seen| seen.times.len());
    (!report.firmware && count > 0)
        .then(|| count as f64 / report.wall.as_secs_f64().max(f64::EPSILON))
}

impl GeneratorLateness {
    pub(super) fn from_report(report: &FleetReport) -> Self {
        Self {
            power_on: TimeDistribution::from_histogram(&report.late_power_ons),
            request: TimeDistribution::from_histogram(&report.late_requests),
        }
    }
}

impl SilenceEntry {
    /// One for every protocol of the run.
    pub(super) fn list_silences(report: &FleetReport) -> Vec<Self> {
        let silences = AskedProtocol::ALL.into_iter().zip(report.pressure.silences);
        silences
            .filter(|(_, silence)| !silence.lasted.is_zero())
            .map(|(protocol, silence)| Self {
                protocol: protocol.name().to_owned(),
                longest_ms: count_milliseconds(silence.lasted),
                at_ms: count_milliseconds(silence.at),
                waiting: silence.waiting,
            })
            .collect()
    }
}

impl FailedMachineEntry {
    pub(super) fn from_failed(failed: &ringboot_fleet::FailedMachine) -> Self {
        let ringboot_fleet::FailedMachine { machine, mac, stage, cause, sentence } = failed;
        let (cause, sentence) = (cause.clone(), sentence.clone());
        Self {
            machine: *machine,
            mac: mac.to_string(),
            stage: spell_stage_name(*stage),
            cause,
            sentence,
        }
    }
}
