//! The committed counts of system calls, and what is said of counts that differ from them.

use std::collections::BTreeMap;
use std::fmt;

/// A kind of call may have this share more than its baseline, and [`CALLS_SPARE`] beside it:
/// together less than one call, for every kind of which a unit makes fewer than eight.
const SHARE_SPARE: f64 = 0.05;
/// Calls for a unit. A socket buffer that a busy machine drains in smaller pieces makes half a
/// sendfile more for a MiB.
const CALLS_SPARE: f64 = 0.6;
/// How often a core makes these depends on the time: it wakes a thread that sleeps, and looks until
/// a client has acknowledged everything. Six programs beside the test make three times as many.
const TIMED: [&str; 4] = ["futex", "getsockopt", "ioctl", "restart_syscall"];
/// Of the baseline of a timed kind, and one call more.
const TIMED_TIMES: f64 = 3.0;
/// A kind that is rarer is not written: a few calls at the start and the end of a run.
const WRITTEN_MIN: f64 = 0.005;

const BLESS: &str = "RINGBOOT_BLESS=1 cargo test --test syscalls";

/// Calls by their names.
pub(crate) type CallCounts = BTreeMap<String, u64>;

/// The calls of one thread for a unit of one work.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallRow {
    work: String,
    thread: String,
    /// Calls for a unit, by kind: the mean of all units.
    pub(crate) kinds: BTreeMap<String, f64>,
}

/// The rows in the order in which they were counted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallBaseline(pub(crate) Vec<CallRow>);

impl CallRow {
    pub(crate) fn new(work: &str, thread: &str, calls: &CallCounts, units: u64) -> Self {
        #[allow(clippy::cast_precision_loss)] // a test makes far less than 2^53 calls
        let share = |count: u64| count as f64 / units as f64;
        let kinds = calls.iter().map(|(kind, count)| (kind.clone(), share(*count)));
        Self {
            work: work.to_owned(),
            thread: thread.to_owned(),
            kinds: kinds.filter(|(_, calls)| *calls >= WRITTEN_MIN).collect(),
        }
    }

    /// What distinguishes it from the other rows.
    pub(crate) fn name(&self) -> String {
        format!("{} | {}", self.work, self.thread)
    }

    /// The most calls of this kind that are no failure.
    fn limit(&self, kind: &str) -> f64 {
        let calls = self.kinds.get(kind).copied().unwrap_or_default();
        match TIMED.contains(&kind) {
            true => calls * TIMED_TIMES + 1.0,
            false => calls * (1.0 + SHARE_SPARE) + CALLS_SPARE,
        }
    }

    fn total(&self) -> f64 {
        self.kinds.values().sum()
    }
}

impl CallBaseline {
    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let rows = lines.map(|line| parse_row(line).ok_or_else(|| format!("no row: {line:?}")));
        rows.collect::<Result<_, _>>().map(Self)
    }

    /// The greatest count of each kind in these rounds: what is slow on a busy machine differs from
    /// round to round.
    pub(crate) fn take_greatest(rounds: Vec<Self>) -> Self {
        let mut rounds = rounds.into_iter();
        let mut greatest = rounds.next().unwrap_or_else(|| Self(Vec::new()));
        for (row, other) in rounds.flat_map(|round| round.0.into_iter().enumerate()) {
            for (kind, calls) in other.kinds {
                let kept = greatest.0[row].kinds.entry(kind).or_default();
                *kept = kept.max(calls);
            }
        }
        greatest
    }

    /// What is too much, unknown or missing in `counted`.
    pub(crate) fn list_failures(&self, counted: &Self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in &counted.0 {
            let Some(before) = self.find(row) else {
                failures.push(format!("{} is not in the baseline: {BLESS}", row.name()));
                continue;
            };
            let more = row.kinds.iter().filter(|(kind, calls)| **calls > before.limit(kind));
            failures.extend(more.map(|(kind, calls)| {
                format!(
                    "{} makes {calls:.2} {kind}; the baseline has {:.2} and allows {:.2}. If it \
                     must be so: {BLESS}",
                    row.name(),
                    before.kinds.get(kind).copied().unwrap_or_default(),
                    before.limit(kind)
                )
            }));
        }
        let gone = self.0.iter().filter(|row| counted.find(row).is_none());
        failures.extend(
            gone.map(|row| {
                format!("{} is in the baseline and was not counted: {BLESS}", row.name())
            }),
        );
        failures
    }

    /// Calls in the baseline and now, row by row, for people.
    pub(crate) fn compare(&self, counted: &Self) -> String {
        let mut table = format!("{:>9}{:>9}  calls for a unit\n", "baseline", "now");
        for row in &counted.0 {
            let before = self.find(row).map_or(f64::NAN, CallRow::total);
            table += &format!("{before:>9.2}{:>9.2}  {}\n", row.total(), row.name());
        }
        table
    }

    fn find(&self, wanted: &CallRow) -> Option<&CallRow> {
        self.0.iter().find(|row| row.name() == wanted.name())
    }
}

/// Whether one call more of this kind may go unnoticed, because it depends on the time.
pub(crate) fn is_timed(kind: &str) -> bool {
    TIMED.contains(&kind)
}

fn parse_row(line: &str) -> Option<CallRow> {
    let mut fields = line.split('|').map(str::trim);
    let (_total, work, thread) = (fields.next()?, fields.next()?, fields.next()?);
    let kinds = fields.next()?.split(", ").filter(|kind| !kind.is_empty()).map(|kind| {
        let (name, calls) = kind.split_once(' ')?;
        Some((name.to_owned(), calls.parse().ok()?))
    });
    let kinds = kinds.collect::<Option<_>>()?;
    Some(CallRow { work: work.to_owned(), thread: thread.to_owned(), kinds })
}

impl fmt::Display for CallBaseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# System calls of the server's threads for a unit of work, counted by strace."
        )?;
        writeln!(f, "# Written by: {BLESS} (docs/measuring.md)")?;
        writeln!(f, "# all | work: unit | thread | calls of each kind")?;
        for row in &self.0 {
            let kinds: Vec<String> =
                row.kinds.iter().map(|(kind, calls)| format!("{kind} {calls:.2}")).collect();
            let total = row.total();
            let line = format!(
                "{total:5.2} | {:<45} | {:<10} | {}",
                row.work,
                row.thread,
                kinds.join(", ")
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
