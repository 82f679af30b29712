//! The committed counts, and what is said of counts that differ from them.

use std::fmt;

/// An operation may become dearer than the baseline by so much, percent.
pub(crate) const DEARER_PERCENT_MAX: u64 = 10;
/// The same where another release of the compiler made the code: it moves counts by itself, but not
/// by so much, percent.
pub(crate) const DEARER_PERCENT_MAX_OTHER_COMPILER: u64 = 30;
/// An operation that has become cheaper by more than this deserves a new baseline, percent.
pub(crate) const CHEAPER_PERCENT: u64 = 10;

const BLESS: &str = "RINGBOOT_BLESS=1 cargo bench --profile counting --bench instructions";

/// What made the code that was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// As in `rustc -vV`: `1.95.0`.
    pub release: String,
    /// `x86_64-unknown-linux-gnu`.
    pub host: String,
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.release, self.host)
    }
}

/// Instructions per operation, and of which compiler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Baseline {
    pub compiler: Compiler,
    /// (name, instructions), in the order in which they were counted.
    pub counts: Vec<(String, u64)>,
}

/// What a comparison says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// A line for each operation.
    pub table: Vec<String>,
    pub warnings: Vec<String>,
    /// Any of these fails the run.
    pub failures: Vec<String>,
}

impl Baseline {
    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines =
            text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let compiler =
            lines.next().and_then(|line| line.strip_prefix("rustc ")?.split_once(" on "));
        let (release, host) =
            compiler.ok_or("the baseline does not begin with `rustc RELEASE on HOST`")?;
        let count = |line: &str| {
            let (count, name) = line.trim().split_once(' ')?;
            Some((name.trim().to_owned(), count.parse().ok()?))
        };
        let counts = lines
            .map(|line| count(line).ok_or_else(|| format!("the baseline says {line:?}: no count")));
        let compiler = Compiler { release: release.to_owned(), host: host.to_owned() };
        Ok(Self { compiler, counts: counts.collect::<Result<_, _>>()? })
    }

    /// Holds `counted` against this baseline.
    pub(crate) fn judge(&self, counted: &Self) -> Report {
        let mut report = Report::default();
        let limit = self.limit(&counted.compiler, &mut report.warnings);
        for (name, count) in &counted.counts {
            let Some(before) = self.count(name) else {
                report.table.push(format!("{:>10} {count:>10} {:>8}  {name}", "-", "new"));
                report.failures.push(format!("{name:?} is not in the baseline: {BLESS}"));
                continue;
            };
            let change = percent(before, *count);
            report.table.push(format!("{before:>10} {count:>10} {change:>+7.1}%  {name}"));
            if limit.is_some_and(|limit| is_dearer(before, *count, limit)) {
                report.failures.push(format!(
                    "{name:?} takes {count} instructions, {change:+.1} % of {before}; the limit is \
                     +{} %. If it must be so: {BLESS}",
                    limit.unwrap_or_default()
                ));
            } else if count * 100 < before * (100 - CHEAPER_PERCENT) {
                report.warnings.push(format!(
                    "{name:?} has become cheaper ({change:+.1} %), keep that: {BLESS}"
                ));
            }
        }
        let gone = self.counts.iter().filter(|(name, _)| counted.count(name).is_none());
        report.failures.extend(
            gone.map(|(name, _)| {
                format!("{name:?} is in the baseline and was not counted: {BLESS}")
            }),
        );
        report
    }

    fn count(&self, name: &str) -> Option<u64> {
        self.counts.iter().find(|(known, _)| known == name).map(|(_, count)| *count)
    }

    /// The limit for counts of this compiler, percent; None on other processors, where nothing can
    /// be compared.
    fn limit(&self, here: &Compiler, warnings: &mut Vec<String>) -> Option<u64> {
        if *here == self.compiler {
            return Some(DEARER_PERCENT_MAX);
        }
        if here.host != self.compiler.host {
            warnings.push(format!(
                "NOTHING IS COMPARED: the baseline is of {}, this is {here}",
                self.compiler
            ));
            return None;
        }
        warnings.push(format!(
            "the baseline is of rustc {}, this is {here}: the limit is \
             +{DEARER_PERCENT_MAX_OTHER_COMPILER} % in place of +{DEARER_PERCENT_MAX} % until \
             somebody runs {BLESS}",
            self.compiler
        ));
        Some(DEARER_PERCENT_MAX_OTHER_COMPILER)
    }
}

fn is_dearer(before: u64, now: u64, limit_percent: u64) -> bool {
    now * 100 > before * (100 + limit_percent)
}

#[allow(clippy::cast_precision_loss)] // counts are far below 2^53
fn percent(before: u64, now: u64) -> f64 {
    (now as f64 / before as f64 - 1.0) * 100.0
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Instructions per operation, counted by callgrind in code of the profile counting."
        )?;
        writeln!(f, "# Written by: {BLESS} (docs/measuring.md)")?;
        writeln!(f, "rustc {}", self.compiler)?;
        self.counts.iter().try_for_each(|(name, count)| writeln!(f, "{count:>8} {name}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>10} {:>10} {:>8}  instructions per operation",
            "baseline", "now", "change"
        )?;
        self.table.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        self.warnings.iter().try_for_each(|line| writeln!(f, "instructions: warning: {line}"))?;
        self.failures.iter().try_for_each(|line| writeln!(f, "instructions: FAILED: {line}"))
    }
}
