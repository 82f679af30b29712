//! The times of a report: quantiles for people, a curve for plots, the histogram for sums.

use hdrhistogram::Histogram;
use ringboot_fleet::StageTimes;
use serde::{Deserialize, Serialize};

use crate::histogram;

/// The distribution of the times of a stage or span, microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct TimeDistribution {
    pub(crate) count: u64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
    /// None for a span of several stages.
    pub(crate) retransmits: Option<u64>,
    /// Quantile and microseconds, rising.
    pub(crate) curve: Vec<(f64, u64)>,
    /// All times (HdrHistogram's V2, compressed, base64); None if there are none, and in reports of
    /// the first versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) histogram: Option<String>,
}

/// Quantiles of a curve: dense where the tail is.
const CURVE: [f64; 31] = [
    0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8,
    0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999, 1.0,
];

impl TimeDistribution {
    pub(super) fn from_stage(seen: &StageTimes) -> Self {
        Self { retransmits: Some(seen.retries), ..Self::from_histogram(&seen.times) }
    }

    pub(crate) fn from_histogram(times: &Histogram<u64>) -> Self {
        if times.is_empty() {
            return Self::default();
        }
        let [p50_us, p90_us, p99_us, p999_us] =
            [0.5, 0.9, 0.99, 0.999].map(|at| times.value_at_quantile(at));
        let curve = CURVE.iter().map(|&at| (at, times.value_at_quantile(at))).collect();
        let (count, max_us, histogram) =
            (times.len(), times.max(), histogram::encode_histogram(times));
        Self { count, p50_us, p90_us, p99_us, p999_us, max_us, retransmits: None, curve, histogram }
    }
}
