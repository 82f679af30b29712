//! A figure of several runs of one kind: its values, its unit, and its spread.

use ringboot_fleet::PrettyMicroseconds;
use serde::{Deserialize, Serialize};

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum FigureUnit {
    #[serde(rename = "us")]
    Microseconds,
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "MB/s")]
    MegabytesPerSecond,
    #[serde(rename = "bytes")]
    Bytes,
    #[serde(rename = "")]
    Count,
}

/// A figure of each run of one side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FigureValues {
    pub(crate) runs: Vec<f64>,
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// A figure of several runs of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FigureSpread {
    pub(crate) name: String,
    pub(crate) unit: FigureUnit,
    /// Of the whole run, not of one stage.
    pub(crate) is_main: bool,
    #[serde(flatten)]
    pub(crate) values: FigureValues,
}

impl FigureUnit {
    /// A value with its unit.
    pub(crate) fn format_value(self, value: f64) -> String {
        match self {
            // The values are whole microseconds; the median of an even number may have a half.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Self::Microseconds => PrettyMicroseconds(value as u64).to_string(),
            Self::Seconds => format!("{value:.2} s"),
            Self::MegabytesPerSecond => format!("{value:.0} MB/s"),
            Self::Bytes => format!("{:.0} MB", value / 1e6),
            Self::Count => format!("{value:.0}"),
        }
    }
}

impl FigureValues {
    /// None without runs.
    pub(crate) fn from_runs(runs: Vec<f64>) -> Option<Self> {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(Self { median: f64::midpoint(*low, *high), runs, min, max })
    }

    /// The greatest value minus the least.
    pub(crate) fn spread(&self) -> f64 {
        self.max - self.min
    }

    /// The spread as a share of the median.
    pub(crate) fn format_spread(&self) -> String {
        if self.runs.len() < 2 || self.median <= 0.0 {
            return String::new();
        }
        format!("{:.0} %", self.spread() / self.median * 100.0)
    }
}
