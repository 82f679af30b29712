//! The summary of a run, which readers of a report look at first.

use ringboot_fleet::FleetReport;
use serde::{Deserialize, Serialize};

use super::circumstances::RunCircumstances;

/// The single figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunSummary {
    pub(crate) machines: u32,
    pub(crate) booted: u32,
    pub(crate) failed: u32,
    pub(crate) wall_s: f64,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_s: f64,
    pub(crate) checked: bool,
    pub(crate) retries: u64,
    /// Reports of the first versions do not have it.
    #[serde(default)]
    pub(crate) released: u32,
    /// Ctrl-C or SIGTERM ended the run: machines that were still running do not count.
    #[serde(default)]
    pub(crate) interrupted: bool,
    /// Some machines boot as firmware does; else all make plain requests.
    #[serde(default = "assume_checked")]
    pub(crate) firmware: bool,
    /// Some machines fetch files.
    #[serde(default = "assume_checked")]
    pub(crate) fetches: bool,
    /// A sentence on the verified bytes. Reports of the first versions do not have it.
    #[serde(default)]
    pub(crate) proved: String,
    /// Machines that failed because of a byte that was wrong, missing or too many.
    #[serde(default)]
    pub(crate) wrong_contents: u32,
    /// Boots and requests that began within this time after the start do not count.
    #[serde(default)]
    pub(crate) warm_up_s: f64,
    /// Requests that were due by `--rate` and were never made.
    #[serde(default)]
    pub(crate) never_begun: u64,
    /// Requests of `--rate` that found no machine free when they were due.
    #[serde(default)]
    pub(crate) waited: u64,
    pub(crate) slowest_to_median: Option<f64>,
    pub(crate) sources: u32,
    pub(crate) client_cpu_s: Option<f64>,
    pub(crate) client_busy: f64,
    pub(crate) client_waiting: f64,
    pub(crate) client_was_limit: bool,
    pub(crate) server_cpu_s: Option<f64>,
    /// Of its busiest thread.
    #[serde(default)]
    pub(crate) server_thread_cpu_s: Option<f64>,
    pub(crate) server_rss_bytes: Option<u64>,
    pub(crate) server_rss_max_bytes: Option<u64>,
}

/// The value in reports of the first versions, which lack the field.
fn assume_checked() -> bool {
    true
}

impl RunSummary {
    pub(super) fn from_report(report: &FleetReport, around: &RunCircumstances) -> Self {
        let server = around.server_spent.flatten();
        Self {
            machines: report.machines,
            booted: report.booted,
            failed: report.failed(),
            wall_s: report.wall.as_secs_f64(),
            bytes: report.octets,
            bytes_per_s: report.octets as f64 / report.wall.as_secs_f64().max(f64::EPSILON),
            checked: report.checked,
            retries: report.retries,
            released: report.released,
            interrupted: report.interrupted,
            firmware: report.firmware,
            fetches: report.fetches,
            proved: report.describe_proof(),
            wrong_contents: report.wrong_contents,
            warm_up_s: report.warm_up.as_secs_f64(),
            never_begun: report.pressure.never_begun,
            waited: report.pressure.waited,
            slowest_to_median: report.slowest_to_median(),
            sources: report.pressure.sources,
            client_cpu_s: around.client.map(|spent| spent.processor.as_secs_f64()),
            client_busy: report.generator_busy(),
            client_waiting: report.generator_waiting(),
            client_was_limit: report.generator_was_limit(),
            server_cpu_s: server.map(|spent| spent.processor.as_secs_f64()),
            server_thread_cpu_s: server.map(|spent| spent.busiest_thread.as_secs_f64()),
            server_rss_bytes: server.map(|spent| spent.resident),
            server_rss_max_bytes: server.map(|spent| spent.resident_max),
        }
    }
}
