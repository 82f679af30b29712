//! The goal of a search: the number of a run's report that it reduces.

use crate::json::ReportDocument;

/// The number. Less of each is better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TuneGoal {
    /// Time until the last machine is done; of a scenario with a set duration, the time of 1,000
    /// requests
    #[default]
    Wall,
    /// Time of the median machine
    Median,
    /// Time within which 99 of 100 machines are done
    P99,
    /// Processor time of the server; of a scenario with a set duration, for 1,000 requests
    Cpu,
}

impl TuneGoal {
    pub(super) const ALL: [Self; 4] = [Self::Wall, Self::Median, Self::P99, Self::Cpu];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Wall => "wall",
            Self::Median => "median",
            Self::P99 => "p99",
            Self::Cpu => "cpu",
        }
    }

    pub(super) fn describe(self, timed: bool) -> &'static str {
        match (self, timed) {
            (Self::Wall, false) => "time until the last machine is done",
            (Self::Wall, true) => "time of 1,000 requests",
            (Self::Median, _) => "time of the median machine",
            (Self::P99, _) => "time within which 99 of 100 machines are done",
            (Self::Cpu, false) => "processor time of the server",
            (Self::Cpu, true) => "processor time of the server for 1,000 requests",
        }
    }

    /// The goal of a run in seconds. `timed`: the scenario has a set duration. None: the report
    /// lacks the number.
    pub(super) fn measure_report(self, report: &ReportDocument, timed: bool) -> Option<f64> {
        let requests: u64 = report.stages.values().map(|times| times.count).sum();
        let work = if timed { requests as f64 / 1000.0 } else { 1.0 };
        let value = match self {
            Self::Wall => report.summary.wall_s / work,
            Self::Median => report.boot.p50_us as f64 / 1e6,
            Self::P99 => report.boot.p99_us as f64 / 1e6,
            Self::Cpu => report.summary.server_cpu_s? / work,
        };
        (value.is_finite() && value > 0.0).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::json::tests::made_up;

    #[test]
    fn a_run_of_a_set_time_is_measured_by_its_requests() {
        let mut report = made_up(500);
        (report.summary.wall_s, report.summary.server_cpu_s) = (10.0, Some(2.0));
        let requests: u64 = report.stages.values().map(|times| times.count).sum();
        assert_eq!(
            (
                TuneGoal::Wall.measure_report(&report, false),
                TuneGoal::Cpu.measure_report(&report, false)
            ),
            (Some(10.0), Some(2.0))
        );
        assert_eq!(TuneGoal::Wall.measure_report(&report, true), Some(10_000.0 / requests as f64));
        assert_eq!(
            TuneGoal::Median.measure_report(&report, true),
            Some(report.boot.p50_us as f64 / 1e6)
        );
        report.summary.server_cpu_s = Some(0.0);
        assert_eq!(TuneGoal::Cpu.measure_report(&report, false), None);
    }
}
