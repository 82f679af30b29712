//! A figure of several runs of one kind: its values, its unit, and how far they lie apart.

use ringboot_fleet::Pretty;
use serde::{Deserialize, Serialize};

/// What a figure is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Unit {
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MB/s")]
    MegabytesPerSecond,
    #[serde(rename = "bytes")]
    Octets,
    #[serde(rename = "")]
    Count,
}

/// A figure of each run of one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Values {
    pub(crate) runs: Vec<f64>,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// A figure of several runs of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// Of the whole run, not of one stage.
    pub(crate) is_main: bool,
    #[serde(flatten)]
    pub(crate) values: Values,
}

impl Unit {
    /// A value with its unit.
    pub(crate) fn shown(self, value: f64) -> String {
        match self {
            // Whole microseconds came in; a median of an even number of them may have a half.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Self::Microseconds => Pretty(value as u64).to_string(),
            Self::Seconds => format!("{value:.2} s"),
            Self::MegabytesPerSecond => format!("{value:.0} MB/s"),
            Self::Octets => format!("{:.0} MB", value / 1e6),
            Self::Count => format!("{value:.0}"),
        }
    }
}

impl Values {
    /// None of nothing.
    pub(crate) fn of(runs: Vec<f64>) -> Option<Self> {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { median: f64::midpoint(*low, *high), runs, min, max })
    }

    /// Greatest less least.
    pub(crate) fn spread(&self) -> f64 {
        self.max - self.min
    }

    /// The spread as a share of the median.
    pub(crate) fn apart(&self) -> String {
        if self.runs.len() < 2 || self.median <= 0.0 {
            return String::new();
        }
        format!("{:.0} %", self.spread() / self.median * 100.0)
    }
}
