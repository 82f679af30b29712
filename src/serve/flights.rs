//! The transfers under way. Control asks the cores for them on demand, so that they cost the data
//! path nothing.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::observe::flight::TransferProgress;

/// How long control waits for the answers of the cores.
const ANSWERED_MAX: Duration = Duration::from_millis(500);

/// A transfer that has not ended.
#[derive(Clone, Debug)]
pub struct TransferUnderWay {
    /// The client, in canonical form.
    pub peer: IpAddr,
    /// The file, as a path in the root.
    pub name: String,
    /// Since the request.
    pub age: Duration,
    /// Since the client last made progress.
    pub still: Duration,
    /// How much of the file the client has.
    pub way: TransferProgress,
    /// Bytes of the whole answer; 0: not known yet.
    pub bytes: u64,
    /// Bytes of it that the client has.
    pub got: u64,
    /// Other machines go first for now.
    pub in_line: bool,
}

/// Where a core sends its answer.
pub type InquiryReport = SyncSender<Vec<TransferUnderWay>>;

/// A handle by which control asks one core for its transfers.
#[derive(Clone)]
pub struct CoreInquiry(Arc<dyn Fn(InquiryReport) + Send + Sync>);

impl fmt::Debug for CoreInquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inquiry")
    }
}

impl CoreInquiry {
    /// `ask` sends a letter to the core, which answers into the report.
    pub fn new(ask: impl Fn(InquiryReport) + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }
}

/// The transfers of these cores. A core that does not answer in time is left out.
pub fn ask_cores(cores: &[CoreInquiry]) -> Vec<TransferUnderWay> {
    let (report, reports) = sync_channel(cores.len().max(1));
    cores.iter().for_each(|core| (core.0)(report.clone()));
    // With this end dropped, `recv` fails at once when no living core holds another one.
    drop(report);
    let until = Instant::now() + ANSWERED_MAX;
    std::iter::from_fn(|| {
        reports.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
    })
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_core_is_asked_and_one_that_has_ended_or_stands_still_holds_up_nobody() {
        let under_way = |name: &str| TransferUnderWay {
            peer: IpAddr::from([10, 0, 0, 1]),
            name: name.to_owned(),
            age: Duration::ZERO,
            still: Duration::ZERO,
            way: TransferProgress::Waiting,
            bytes: 0,
            got: 0,
            in_line: false,
        };
        let (one, two) = (under_way("one"), under_way("two"));
        let answers = |answer: TransferUnderWay| {
            CoreInquiry::new(move |report| report.try_send(vec![answer.clone()]).unwrap())
        };
        let (kept, held) = sync_channel(1);
        let stands_still = CoreInquiry::new(move |report| kept.try_send(report).unwrap());
        let begun = Instant::now();
        let found = ask_cores(&[answers(one), CoreInquiry::new(drop), stands_still, answers(two)]);
        assert_eq!(found.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
        assert!(begun.elapsed() < 10 * ANSWERED_MAX);
        drop(held);
        assert!(ask_cores(&[]).is_empty());
    }
}
