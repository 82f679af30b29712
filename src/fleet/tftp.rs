//! TFTP for simulated machines: a file asked for in a loader's manner, again and again until it is there or patience has ended.

use std::net::Ipv4Addr;

use tokio::time::{Instant, sleep};

use super::context::{Checker, Context};
use super::failure::Failure;
use super::hub::{Ended, Transfer};
use super::limits::{TFTP_RETRY, TFTP_SILENCE_MAX};
use super::progress::{Oddity, Refusal};
use crate::tftp::client::{Ask, Behaviour, Client, Outcome};
use crate::tftp::limits::BLOCK_SIZE_DEFAULT;

/// How a transfer ended that was not a failure of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The file; empty unless it was to be kept.
    File(Vec<u8>),
    /// ERROR 1: normal for most names a loader tries.
    Missing,
}

/// One machine's TFTP client.
#[derive(Debug)]
pub(super) struct Tftp<'a> {
    context: &'a Context,
    /// The leased address: requests come from it.
    address: Ipv4Addr,
    seed: u64,
}

impl<'a> Tftp<'a> {
    pub(super) fn new(context: &'a Context, address: Ipv4Addr, seed: u64) -> Self {
        Self { context, address, seed }
    }

    /// Fetches a file, asking again from the beginning where a transfer breaks off.
    pub(super) async fn fetch(&self, behaviour: &Behaviour, name: &str, keep: bool) -> Result<Fetched, Failure> {
        let mut checker = Checker::new(self.context, name, keep);
        let deadline = Instant::now() + self.context.pace.patience;
        loop {
            checker.restart();
            let begun = Instant::now();
            let ended = self.attempt(behaviour, name, checker).await?;
            let answered = ended.client.answered();
            checker = ended.checker;
            match ended.outcome? {
                Outcome::Complete { octets } => {
                    if let Some(walking) = &self.context.walking {
                        walking.write_down(checker.asked(format!("tftp {name}"), octets, begun.elapsed()));
                    }
                    return checker.finish().map(Fetched::File);
                }
                Outcome::Refused { code: 1 } => return Ok(Fetched::Missing),
                // 0 and 5: the server gave up, or has been restarted and knows nothing of this transfer.
                outcome @ (Outcome::TimedOut | Outcome::Refused { code: 0 | 5 }) if Instant::now() < deadline => {
                    if outcome != Outcome::TimedOut {
                        self.context.progress.add_refusal(Refusal::TftpError);
                    }
                    self.context.progress.add_retry();
                    sleep(self.context.pace.hurried(TFTP_RETRY)).await;
                }
                Outcome::TimedOut if answered => {
                    return Err(Failure::TftpStalled(name.to_owned(), checker.received()));
                }
                Outcome::TimedOut => return Err(Failure::TftpSilent(name.to_owned())),
                Outcome::Refused { code } => return Err(Failure::TftpRefused(name.to_owned(), code)),
                Outcome::Disagreed(why) => return Err(Failure::TftpDisagreed(name.to_owned(), why)),
            }
        }
    }

    /// One request (with the size probe that goes before it) until its end.
    async fn attempt(&self, behaviour: &Behaviour, name: &str, checker: Checker) -> Result<Ended, Failure> {
        let Context { hub, pace, progress, .. } = self.context;
        let address = self.context.speaks_from(self.address, *self.context.tftp.ip());
        let transfer = Transfer {
            client: Client::new(behaviour.clone(), name.as_bytes(), self.seed),
            probes: u8::from(behaviour.probe.is_some()),
            address,
            burst: burst(behaviour),
            silence: pace.hurried(TFTP_SILENCE_MAX),
            checker,
            request: progress.tftp_request(),
        };
        let ended = hub.play(transfer).await?;
        let counted = ended.client.counters();
        progress.add_retries(counted.retransmits);
        progress.add_oddities(Oddity::BlockAgain, counted.duplicates);
        progress.add_oddities(Oddity::BlockOutOfOrder, counted.out_of_order);
        progress.add_oddities(Oddity::Stray, counted.strays);
        Ok(ended)
    }
}

/// What a window of blocks takes of a receiving socket's buffer at most. Octets of the kernel's memory.
fn burst(behaviour: &Behaviour) -> usize {
    /// Of the packet itself, which is in a block of memory with its headers and shared information, and of its description.
    const AROUND: usize = 384;
    const DESCRIPTION: usize = 256;
    let (mut block, mut window) = (usize::from(BLOCK_SIZE_DEFAULT), 1);
    for ask in &behaviour.asks {
        match *ask {
            Ask::Blksize(octets) => block = octets.into(),
            Ask::Windowsize(blocks) => window = blocks.into(),
            Ask::Tsize | Ask::Timeout(_) => {}
        }
    }
    window * ((block + AROUND).next_power_of_two() + DESCRIPTION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_takes_as_much_memory_as_the_kernel_counts() {
        assert_eq!(burst(&Behaviour::pi3()), 1280);
        assert_eq!(burst(&Behaviour::generic(1468, 1)), 2304);
        assert_eq!(burst(&Behaviour::generic(1468, 64)), 64 * 2304);
    }
}
