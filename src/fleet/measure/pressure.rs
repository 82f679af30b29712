//! The signs of limits in a run, its own and the server's, and the sentences for the server's
//! signs.

use std::time::Duration;

use super::line::{AskedProtocol, NobodyThere};
use super::progress::{FleetProgress, ServerRefusal, TftpQueue};
use super::silence::LongestSilence;
use super::watch::{ThreadTime, WatchedRun};
use crate::limits::SILENCE_TOLD;

/// The signs of limits in a run, its own and the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunPressure {
    /// Processor time of the thread of all machines.
    pub busy: Duration,
    /// Time in which that thread was ready while another program had its processor.
    pub waiting: Duration,
    /// Source addresses of the machines.
    pub sources: u32,
    /// Refusals of servers, in the order of [`ServerRefusal::ALL`].
    pub refusals: [u64; ServerRefusal::ALL.len()],
    /// How the server admitted TFTP transfers.
    pub tftp: TftpQueue,
    /// The longest time without any answer, in the order of [`AskedProtocol::ALL`].
    pub silences: [LongestSilence; AskedProtocol::ALL.len()],
    /// Receives with at least one byte, in the same order.
    pub(crate) heard: [u64; AskedProtocol::ALL.len()],
    /// Addresses at which no server listens, in the same order.
    pub(crate) nobody: [Option<NobodyThere>; AskedProtocol::ALL.len()],
    /// The longest time in which the generator's thread did not run when it should have, because
    /// its program was stopped.
    pub away_max: Duration,
    /// Requests that were due at fixed moments and were never made, because no machine was free.
    pub never_begun: u64,
    /// Such requests that found no machine free when they were due.
    pub waited: u64,
}

/// Fewer refusals than one for this many machines are an accident, not a limit.
const MACHINES_PER_REFUSAL_MAX: u64 = 10;
/// A limit counts if this many times as many transfers went through it.
const TURNS_MIN: u32 = 3;

impl RunPressure {
    pub(crate) fn read(progress: &FleetProgress, seen: &WatchedRun, sources: u32) -> Self {
        let ThreadTime { busy, waiting } = seen.spent;
        Self {
            busy,
            waiting,
            sources,
            refusals: ServerRefusal::ALL.map(|refusal| progress.count_refusals(refusal)),
            tftp: progress.tftp_queue(),
            silences: seen.silences,
            nobody: AskedProtocol::ALL.map(|protocol| progress.line(protocol).find_absent_server()),
            away_max: seen.away_max,
            heard: AskedProtocol::ALL.map(|protocol| progress.line(protocol).count_answers()),
            never_begun: 0,
            waited: 0,
        }
    }

    /// Sentences about servers that answered no machine, at all or for a while.
    pub(crate) fn describe_silence(&self, machines: u32, hides: &str) -> Vec<String> {
        let mut sentences = Vec::new();
        for protocol in AskedProtocol::ALL {
            let (name, place) = (protocol.name(), protocol as usize);
            let LongestSilence { lasted, at, waiting } = self.silences[place];

            // A few waiting machines are stragglers that wait for their own timers: the server is
            // not silent.
            let is_told = lasted >= SILENCE_TOLD
                && u64::from(waiting) * MACHINES_PER_REFUSAL_MAX >= u64::from(machines);
            if let Some(nobody) = self.nobody[place] {
                sentences.push(format!("{name}: {nobody}"));
            } else if is_told && self.heard[place] == 0 {
                sentences.push(format!(
                    "{name}: no answer in {:.2} s to any of {waiting} requests",
                    lasted.as_secs_f64()
                ));
            } else if is_told {
                sentences.push(format!(
                    "{name}: no answer to any machine for {:.2} s, from {:.2} s on, while \
                     {waiting} requests waited{hides}",
                    lasted.as_secs_f64(),
                    at.as_secs_f64()
                ));
            }
        }
        sentences
    }

    /// A sentence for each sign of a limit of the server.
    pub(crate) fn describe_server_limits(&self, machines: u32) -> Vec<String> {
        let mut sentences = Vec::new();
        let shared = self.sources < machines;
        let whose = if shared {
            let addresses = if self.sources == 1 { "address" } else { "addresses" };
            format!(
                "the server limited this run: {machines} machines used {} source {addresses}, and \
                 a server with limits per source address sees only that many clients",
                self.sources
            )
        } else {
            "the server limited this run; not a per-address limit, since every machine used its \
             own source address"
                .to_owned()
        };
        for (refusal, count) in ServerRefusal::ALL.into_iter().zip(self.refusals) {
            // An absent server has no limit.
            let is_nobody = refusal == ServerRefusal::NoConnection
                && self.nobody[AskedProtocol::Http as usize].is_some();
            if count * MACHINES_PER_REFUSAL_MAX >= u64::from(machines) && count > 1 && !is_nobody {
                sentences.push(format!("{count} {}: {whose}", refusal.spell_plural()));
            }
        }
        let TftpQueue { transfers, at_once_max, begun_at_max, waiting_at_max } = self.tftp;
        let many =
            transfers >= at_once_max.saturating_mul(TURNS_MIN) && waiting_at_max >= at_once_max;
        if at_once_max > 0 && many && begun_at_max >= transfers / 2 {
            sentences.push(format!(
                "never more than {at_once_max} TFTP transfers at once while up to {waiting_at_max} \
                 requests waited, each answered only after another ended: {whose}"
            ));
        }
        sentences
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pressure(sources: u32, refusals: [u64; 3], tftp: TftpQueue) -> Vec<String> {
        RunPressure { sources, refusals, tftp, ..RunPressure::default() }
            .describe_server_limits(500)
    }

    #[test]
    fn silence_is_told_where_many_waited_and_absence_is_no_limit() {
        let silent = |waiting| LongestSilence { lasted: 2 * SECOND, at: SECOND, waiting };
        let mut pressure = RunPressure { sources: 500, heard: [9; 3], ..RunPressure::default() };
        pressure.silences[1] = silent(49);
        assert_eq!(
            pressure.describe_silence(500, ""),
            Vec::<String>::new(),
            "a straggler that waits for its timer"
        );
        pressure.silences[1] = silent(50);
        let said =
            "TFTP: no answer to any machine for 2.00 s, from 1.00 s on, while 50 requests waited.";
        assert_eq!(pressure.describe_silence(500, "."), [said]);
        pressure.heard[1] = 0;
        assert_eq!(
            pressure.describe_silence(500, "."),
            ["TFTP: no answer in 2.00 s to any of 50 requests"]
        );
        let at = "127.0.0.1:80".parse().unwrap();
        (pressure.nobody[2], pressure.refusals) =
            (Some(NobodyThere { at, why: "connection refused" }), [0, 0, 93]);
        assert_eq!(
            pressure.describe_silence(500, "")[1],
            "HTTP: nothing answers at 127.0.0.1:80 (connection refused)"
        );
        assert_eq!(pressure.describe_server_limits(500), Vec::<String>::new());
    }

    #[test]
    fn refusals_of_one_source_address_are_called_a_limit_per_source() {
        let queue = TftpQueue::default();
        assert_eq!(pressure(1, [0, 49, 0], queue), Vec::<String>::new());
        let said = pressure(1, [0, 480, 0], queue);
        assert!(said.len() == 1 && said[0].starts_with("480 HTTP answers 503"), "{said:?}");
        assert!(said[0].contains("500 machines used 1 source address,"), "{said:?}");
        let said = pressure(500, [77, 0, 0], queue);
        assert!(said[0].contains("not a per-address limit"), "{said:?}");
    }

    #[test]
    fn transfers_that_begin_only_when_others_end_are_called_a_limit() {
        let limited =
            TftpQueue { transfers: 500, at_once_max: 20, begun_at_max: 481, waiting_at_max: 480 };
        let said = pressure(1, [0; 3], limited);
        assert!(
            said.len() == 1 && said[0].starts_with("never more than 20 TFTP transfers at once"),
            "{said:?}"
        );
        // The server admitted all of them; then the fleet had no more requests.
        let open =
            TftpQueue { transfers: 2000, at_once_max: 498, begun_at_max: 1, waiting_at_max: 2 };
        assert_eq!(pressure(1, [0; 3], open), Vec::<String>::new());
    }
}
