//! The report of a run: machines, times of each step, failures by cause, and its text.

pub(super) mod outcome;
pub(super) mod steps;
mod verdict;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::clients::lease::MachineLease;
use super::failure::BootFailure;
use super::limits::{FAILED_LISTED_MAX, RECORDS_MAX};
use super::measure::pressure::RunPressure;
use super::measure::progress::{ClientOddity, FleetProgress};
use super::measure::series::CountSeries;
use super::measure::times::{DhcpAnswerTimes, count_microseconds, make_time_histogram};
use super::report::outcome::{BootOutcome, StoppedBoot};
use ringboot_observe::events::MachineStage;
use ringboot_protocol::model::machine::Mac;

/// The figures of one run.
#[derive(Clone, Debug)]
pub struct FleetReport {
    /// Machines of the fleet.
    pub clients: u32,
    /// Power-ons: a machine that boots again counts again.
    pub machines: u32,
    /// Machines that have their kernel and initrd.
    pub booted: u32,
    /// From the end of the warm-up, or the first machine's power-on, to the last one's end.
    pub wall: Duration,
    /// Boots and requests that began within this time after the start are in no figure, except
    /// failures.
    pub warm_up: Duration,
    /// Some machines boot as firmware does; else all make plain requests.
    pub firmware: bool,
    /// Some machines fetch files.
    pub fetches: bool,
    /// Some requests are due at fixed moments, even if earlier ones have no answer yet.
    pub is_open: bool,
    /// Microseconds by which the generator itself switched machines on too late.
    pub late_power_ons: Histogram<u64>,
    /// The same for requests that are due at fixed moments, if a machine was free in time.
    pub late_requests: Histogram<u64>,
    /// Bytes of files received.
    pub octets: u64,
    /// Every byte was compared with the contents of its file, except menus.
    pub checked: bool,
    /// Repeated messages, and transfers that were resumed or started again.
    pub retries: u64,
    /// Each step, by machine.
    pub stages: BTreeMap<MachineStage, StageTimes>,
    /// The answers of DHCP.
    pub dhcp_times: DhcpAnswerTimes,
    /// Microseconds from power-on to the last byte of the kernel, of machines that loaded one.
    pub kernels: Histogram<u64>,
    /// Microseconds from power-on to the end of the last step, of machines that booted.
    pub boots: Histogram<u64>,
    /// Machines that did not boot, by cause ([`super::BootFailure::cause`]) and by the step in
    /// which they failed.
    pub failures: BTreeMap<(String, MachineStage), CauseTally>,
    /// The failed machines one by one, in the order of failure; at most [`FAILED_LISTED_MAX`].
    pub failed_machines: Vec<FailedMachine>,
    /// Machines that failed because a byte was wrong, missing or too many.
    pub wrong_contents: u32,
    /// Faults that clients tolerated, with their counts; those that never happened are absent.
    pub oddities: BTreeMap<ClientOddity, u64>,
    /// Each boot, in the order of power-on; at most the first [`RECORDS_MAX`] that ended.
    pub records: Vec<BootRecord>,
    /// Throughput over time.
    pub series: CountSeries,
    /// Signs of limits, of the generator and of the server.
    pub pressure: RunPressure,
    /// The last lease of each machine, in the order of their numbers.
    pub leases: Vec<MachineLease>,
    /// Addresses that the fleet released at the end (RELEASE).
    pub released: u32,
    /// The run was interrupted: the figures are of machines that had ended by then.
    pub interrupted: bool,
    /// Machines whose last boot ended.
    good: HashMap<u32, GoodBoot>,
    counts_from: Instant,
    /// Bytes and retries of the warm-up.
    before: (u64, u64),
}

/// A finished boot, which may still fail because of its address.
#[derive(Clone, Copy, Debug)]
struct GoodBoot {
    mac: Mac,
    /// Its place among the records.
    place: usize,
}

/// A machine that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedMachine {
    /// Its number in the fleet.
    pub machine: u32,
    /// Its hardware address.
    pub mac: Mac,
    /// The stage in which it failed.
    pub stage: MachineStage,
    /// The cause by which failures are counted ([`super::BootFailure::cause`]).
    pub cause: String,
    /// The whole sentence.
    pub sentence: String,
}

/// Machines that failed for one cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CauseTally {
    /// How many machines failed by this cause.
    pub machines: u32,
    /// The whole sentence of the first machine.
    pub example: String,
}

/// One step of all machines.
#[derive(Clone, Debug)]
pub struct StageTimes {
    /// Microseconds, of machines that finished the step.
    pub times: Histogram<u64>,
    /// Repeated messages, and transfers that were resumed or started again, also of machines that
    /// gave up in the step.
    pub retries: u64,
}

/// One boot, small enough to keep thousands of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootRecord {
    /// Microseconds from the start of the run to power-on.
    pub start_us: u64,
    /// Microseconds from the start of the run to the boot's end.
    pub end_us: u64,
    /// None if the machine booted; else the step in which it stopped.
    pub stopped_in: Option<MachineStage>,
    /// The name of its firmware.
    pub model: &'static str,
    /// Microseconds of the finished steps by stage, in the order of [`MachineStage::ALL`].
    pub stages_us: [u32; MachineStage::ALL.len()],
}

/// Bytes of a megabyte in the decimal system.
const MEGABYTE: f64 = 1e6;

impl FleetReport {
    /// The empty report of a fleet of `clients` machines.
    pub(crate) fn new(clients: u32, counts_from: Instant) -> Self {
        Self {
            clients,
            machines: 0,
            booted: 0,
            wall: Duration::ZERO,
            warm_up: Duration::ZERO,
            firmware: false,
            fetches: false,
            is_open: false,
            late_power_ons: make_time_histogram(),
            late_requests: make_time_histogram(),
            octets: 0,
            checked: false,
            retries: 0,
            stages: BTreeMap::new(),
            dhcp_times: DhcpAnswerTimes::default(),
            kernels: make_time_histogram(),
            boots: make_time_histogram(),
            failures: BTreeMap::new(),
            failed_machines: Vec::new(),
            wrong_contents: 0,
            oddities: BTreeMap::new(),
            records: Vec::new(),
            series: CountSeries::default(),
            pressure: RunPressure::default(),
            leases: Vec::new(),
            released: 0,
            interrupted: false,
            good: HashMap::new(),
            counts_from,
            before: (0, 0),
        }
    }

    /// A machine is switched on; a power-on of the warm-up does not count, or not yet.
    pub(crate) fn power_on(&mut self, is_warm_up: bool) {
        self.machines += u32::from(!is_warm_up);
    }

    pub(crate) fn add_late_power_on(&mut self, late: Duration) {
        self.late_power_ons.saturating_record(count_microseconds(late));
    }

    pub(super) fn add_late_request(&mut self, late: Duration) {
        self.late_requests.saturating_record(count_microseconds(late));
    }

    /// Steps that begin before this do not count.
    pub(crate) fn count_from(&mut self, counts_from: Instant) {
        self.counts_from = counts_from;
    }

    /// The warm-up is over: the figures until now do not count.
    pub(crate) fn forget_warm_up(&mut self, progress: &FleetProgress) {
        self.before = (progress.octets(), progress.retries());
    }

    /// The run is over, `lasted` after its start.
    pub(crate) fn close_run(&mut self, lasted: Duration, progress: &FleetProgress) {
        let (octets, retries) = self.before;
        self.wall = lasted.saturating_sub(self.warm_up);
        self.octets = progress.octets() - octets;
        self.retries = progress.retries() - retries;
    }

    /// A machine has finished a step.
    pub(super) fn add_step(
        &mut self,
        stage: MachineStage,
        begun: Instant,
        took: Duration,
        retries: u64,
    ) {
        if begun < self.counts_from {
            return;
        }
        let seen = self.stage(stage);
        seen.times.saturating_record(count_microseconds(took));
        seen.retries += retries;
    }

    /// Adds the end of one boot in a run that began at `run_begun`. Its finished steps have been
    /// added before.
    pub(crate) fn add_boot(&mut self, run_begun: Instant, outcome: BootOutcome) {
        let us = |moment: Instant| count_microseconds(moment.saturating_duration_since(run_begun));
        let record = BootRecord {
            start_us: us(outcome.begun),
            end_us: us(outcome.ended),
            stopped_in: outcome.end.as_ref().err().map(|stopped| stopped.stage),
            model: outcome.model,
            stages_us: outcome
                .stages
                .map(|took| u32::try_from(took.as_micros()).unwrap_or(u32::MAX)),
        };

        // Of the warm-up only failures count.
        if outcome.is_warm_up && outcome.end.is_ok() {
            return;
        }
        if let Some(time) = outcome.to_kernel.filter(|_| !outcome.is_warm_up) {
            self.kernels.saturating_record(count_microseconds(time));
        }
        match outcome.end {
            Ok(()) => {
                self.booted += 1;

                // `blame_machine` corrects the record at this place later, if the report keeps it
                // (RECORDS_MAX).
                self.good.insert(
                    outcome.machine,
                    GoodBoot { mac: outcome.mac, place: self.records.len() },
                );
                self.boots.saturating_record(record.end_us - record.start_us);
            }
            Err(StoppedBoot { stage, retries, failure }) => {
                self.stage(stage).retries += retries;
                self.good.remove(&outcome.machine);

                // `power_on` did not count a machine of the warm-up. Its failure does count, so
                // `machines` stays the sum of booted and failed ones.
                self.machines += u32::from(outcome.is_warm_up);
                self.count_failure(outcome.machine, outcome.mac, &failure, stage);
            }
        }
        if self.records.len() < RECORDS_MAX {
            self.records.push(record);
        }
    }

    /// The last boot of this machine counts as failed after all: something was wrong with its
    /// address.
    pub(crate) fn blame_machine(&mut self, machine: u32, failure: &BootFailure) {
        let Some(GoodBoot { mac, place }) = self.good.remove(&machine) else { return };
        self.booted -= 1;
        self.count_failure(machine, mac, failure, MachineStage::Dhcp);
        if let Some(record) = self.records.get_mut(place) {
            record.stopped_in = Some(MachineStage::Dhcp);
        }
    }

    /// All machines have ended.
    pub(crate) fn finish(&mut self) {
        self.leases.sort_by_key(|lease| lease.machine);
        self.records.sort_by_key(|record| record.start_us);
    }

    /// The run is interrupted: machines that are still running have neither booted nor failed.
    pub(crate) fn leave_out_unfinished(&mut self) {
        self.machines =
            self.booted + self.failures.values().map(|failed| failed.machines).sum::<u32>();
    }

    fn count_failure(
        &mut self,
        machine: u32,
        mac: Mac,
        failure: &BootFailure,
        stage: MachineStage,
    ) {
        if self.failed_machines.len() < FAILED_LISTED_MAX {
            self.failed_machines.push(FailedMachine {
                machine,
                mac,
                stage,
                cause: failure.cause(),
                sentence: failure.to_string(),
            });
        }
        self.wrong_contents += u32::from(failure.is_of_contents());
        let tally = self
            .failures
            .entry((failure.cause(), stage))
            .or_insert_with(|| CauseTally { machines: 0, example: failure.to_string() });
        tally.machines += 1;
    }

    fn stage(&mut self, stage: MachineStage) -> &mut StageTimes {
        self.stages
            .entry(stage)
            .or_insert_with(|| StageTimes { times: make_time_histogram(), retries: 0 })
    }

    /// Every step with the machines' times in microseconds, and the whole boot last.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let steps = self.stages.iter().map(|(stage, seen)| (spell_step_name(*stage), &seen.times));
        steps.chain([("whole boot", &self.boots)])
    }

    /// The slowest boot as a multiple of the median one; None if no machine booted.
    pub fn slowest_to_median(&self) -> Option<f64> {
        let median = self.boots.value_at_quantile(0.5);
        (median > 0).then(|| self.boots.max() as f64 / median as f64)
    }

    /// Machines that did not boot.
    pub fn failed(&self) -> u32 {
        self.machines - self.booted
    }

    /// A phrase that says what was verified of the bytes.
    pub fn describe_proof(&self) -> String {
        match (self.octets, self.wrong_contents) {
            (_, 1) => "1 machine got wrong contents".to_owned(),
            (_, wrong @ 2..) => format!("{wrong} machines got wrong contents"),
            (0, _) => "no bytes came that could be checked".to_owned(),
            _ if self.checked => "every byte checked".to_owned(),
            _ => "contents not checked".to_owned(),
        }
    }

    /// Megabytes a second over the whole run.
    pub fn megabytes_per_second(&self) -> f64 {
        self.megabytes() / self.wall.as_secs_f64().max(f64::EPSILON)
    }

    /// Megabytes received.
    pub fn megabytes(&self) -> f64 {
        // A double holds 2^53 bytes exactly, which are nine petabytes.
        self.octets as f64 / MEGABYTE
    }
}

impl fmt::Display for FleetReport {
    /// The table of steps and the failures, without a final newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:<10}{:>10}{:>12}{:>12}{:>12}", "step", "count", "p50", "p99", "max")?;
        for (name, times) in self.steps() {
            let [p50, p99, max] =
                [times.value_at_quantile(0.5), times.value_at_quantile(0.99), times.max()]
                    .map(PrettyMicroseconds);
            writeln!(f, "  {name:<10}{:>10}{p50:>12}{p99:>12}{max:>12}", times.len())?;
        }
        write!(
            f,
            "\n  {} of {} machines booted in {:.2} s: {:.0} MB, {:.0} MB/s, {}, {} retries",
            self.booted,
            self.machines,
            self.wall.as_secs_f64(),
            self.megabytes(),
            self.megabytes_per_second(),
            self.describe_proof(),
            self.retries
        )?;
        let mut causes: Vec<_> = self.failures.iter().collect();
        causes.sort_by_key(|(_, failed)| std::cmp::Reverse(failed.machines));
        for ((_, stage), CauseTally { machines, example }) in causes.iter().take(CAUSES_SHOWN_MAX) {
            write!(f, "\n  {machines:>6} failed: {example} ({})", stage.as_str())?;
        }
        Ok(())
    }
}

/// Causes of failure that the table lists: the report stays on one screen.
const CAUSES_SHOWN_MAX: usize = 6;

/// Microseconds in the unit that a person would choose.
#[derive(Clone, Copy, Debug)]
pub struct PrettyMicroseconds(pub u64);

impl fmt::Display for PrettyMicroseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0 as f64 / 1000.0;
        let text = match self.0 {
            ..10_000 => format!("{milliseconds:.2} ms"),
            10_000..1_000_000 => format!("{milliseconds:.0} ms"),
            _ => format!("{:.2} s", milliseconds / 1000.0),
        };
        f.pad(&text)
    }
}

fn spell_step_name(stage: MachineStage) -> &'static str {
    match stage {
        MachineStage::Dhcp => "DHCP",
        MachineStage::Loader => "loader",
        MachineStage::Menu => "menu",
        MachineStage::Kernel => "kernel",
        MachineStage::Initrd => "initrd",
        MachineStage::AnswerFile => "answers",
        MachineStage::File => "file",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A boot with these milliseconds for the stages.
    fn outcome(
        begun: Instant,
        took: &[(MachineStage, u32)],
        end: Result<(), StoppedBoot>,
    ) -> BootOutcome {
        let mut stages = [Duration::ZERO; MachineStage::ALL.len()];
        for &(stage, ms) in took {
            stages[stage as usize] += MS * ms;
        }
        let ended = begun + stages.iter().sum::<Duration>();
        let mac = Mac([2, 0, 0, 0, 0, 7]);
        let (to_kernel, is_warm_up) = (Some(210 * MS), false);
        BootOutcome {
            machine: 7,
            mac,
            model: "m",
            is_warm_up,
            begun,
            ended,
            to_kernel,
            stages,
            end,
        }
    }

    #[test]
    fn a_report_counts_boots_and_failures_by_cause() {
        let begun = Instant::now();
        let mut report = FleetReport::new(2, begun);
        (0..3).for_each(|_| report.power_on(false));
        report.add_step(MachineStage::Dhcp, begun, 3 * MS, 1);
        report.add_step(MachineStage::Dhcp, begun, 3 * MS, 2);
        report.add_boot(
            begun,
            outcome(begun, &[(MachineStage::Dhcp, 3), (MachineStage::Kernel, 2000)], Ok(())),
        );
        for _ in 0..2 {
            let stopped =
                StoppedBoot { stage: MachineStage::Menu, retries: 4, failure: BootFailure::NoMenu };
            report
                .add_boot(begun, outcome(begun + 5 * MS, &[(MachineStage::Dhcp, 3)], Err(stopped)));
        }
        report.wall = Duration::from_secs(2);
        assert_eq!(report.describe_proof(), "no bytes came that could be checked");
        report.octets = 4_000_000;
        assert_eq!(report.describe_proof(), "contents not checked");
        report.checked = true;
        assert_eq!(report.describe_proof(), "every byte checked");
        let text = report.to_string();
        assert_eq!((report.booted, report.failed()), (1, 2));
        assert!(text.contains("1 of 3 machines booted in 2.00 s: 4 MB, 2 MB/s"), "{text}");
        assert!(text.contains("2 failed: no menu found (menu)"), "{text}");
        let retries = |stage| report.stages[&stage].retries;
        assert_eq!((retries(MachineStage::Dhcp), retries(MachineStage::Menu)), (3, 8));
        assert_eq!(report.stages[&MachineStage::Dhcp].times.len(), 2);
    }

    #[test]
    fn a_boot_with_an_address_that_was_given_twice_turns_out_to_be_none() {
        let begun = Instant::now();
        let mut report = FleetReport::new(1, begun);
        report.power_on(false);
        report.add_boot(begun, outcome(begun, &[(MachineStage::Dhcp, 10)], Ok(())));
        report.blame_machine(8, &BootFailure::AddressDoubled);
        assert_eq!(report.booted, 1, "another machine");
        (0..2).for_each(|_| report.blame_machine(7, &BootFailure::AddressDoubled));
        assert_eq!(
            (
                report.booted,
                report.failed(),
                report.failures.values().map(|failed| failed.machines).sum::<u32>()
            ),
            (0, 1, 1)
        );
        assert_eq!(report.records[0].stopped_in, Some(MachineStage::Dhcp));
        assert_eq!(report.failed_machines.len(), 1);
    }

    #[test]
    fn wrong_octets_are_not_called_checked() {
        let begun = Instant::now();
        let mut report = FleetReport::new(2, begun);
        report.checked = true;
        for said in ["1 machine got wrong contents", "2 machines got wrong contents"] {
            let failure = BootFailure::WrongContent("a".into(), 0);
            let stopped = StoppedBoot { stage: MachineStage::File, retries: 0, failure };
            report.add_boot(begun, outcome(begun, &[], Err(stopped)));
            assert_eq!(report.describe_proof(), said);
        }
    }

    #[test]
    fn what_begins_in_the_warm_up_is_in_no_figure_but_a_failure_is_told() {
        let begun = Instant::now();
        let mut report = FleetReport::new(2, begun + 10 * MS);
        for (after, failure) in [(5, None), (20, None), (5, Some(BootFailure::NoMenu))] {
            let is_warm_up = after < 10;
            report.power_on(is_warm_up);
            let begun = begun + MS * after;
            report.add_step(MachineStage::Dhcp, begun, 3 * MS, 0);
            let end = failure.map_or(Ok(()), |failure| {
                Err(StoppedBoot { stage: MachineStage::Menu, retries: 0, failure })
            });
            report.add_boot(
                begun,
                BootOutcome { is_warm_up, ..outcome(begun, &[(MachineStage::Dhcp, 3)], end) },
            );
        }
        assert_eq!((report.machines, report.booted, report.failed()), (2, 1, 1));
        assert_eq!(
            (
                report.boots.len(),
                report.kernels.len(),
                report.stages[&MachineStage::Dhcp].times.len()
            ),
            (1, 1, 1)
        );
        let failed = &report.failed_machines[0];
        assert_eq!(
            (failed.mac.to_string().as_str(), failed.cause.as_str()),
            ("02:00:00:00:00:07", "no menu found")
        );
    }

    #[test]
    fn a_record_holds_each_stage_of_one_machine() {
        let begun = Instant::now();
        let mut report = FleetReport::new(1, begun);
        report.power_on(false);
        let steps =
            [(MachineStage::Dhcp, 10), (MachineStage::Kernel, 200), (MachineStage::Initrd, 3)];
        report.add_boot(begun, outcome(begun + 7 * MS, &steps, Ok(())));
        let stages_us = [10_000, 0, 0, 200_000, 3000, 0, 0];
        let record =
            BootRecord { start_us: 7000, end_us: 220_000, stopped_in: None, model: "m", stages_us };
        assert_eq!(report.records, [record]);
        assert!(size_of::<BootRecord>() <= 64, "{}", size_of::<BootRecord>());
        // The time to the kernel counts from power-on.
        assert!(
            report.kernels.equivalent(report.kernels.max(), 210_000),
            "{}",
            report.kernels.max()
        );
        assert_eq!(report.slowest_to_median(), Some(1.0));
    }

    #[test]
    fn times_are_written_in_the_unit_a_person_would_choose() {
        let written: Vec<_> = [70, 9_999, 12_345, 2_340_000]
            .into_iter()
            .map(|us| PrettyMicroseconds(us).to_string())
            .collect();
        assert_eq!(written, ["0.07 ms", "10.00 ms", "12 ms", "2.34 s"]);
    }
}
