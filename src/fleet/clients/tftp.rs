//! TFTP for simulated machines: a file asked for in a loader's manner, again and again until it is
//! there or patience has ended.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::limits::{TFTP_RETRY, TFTP_SILENCE_MAX};
use crate::measure::line::Nobody;
use crate::measure::progress::{Oddity, Refusal, add_step_retries};
use crate::net::checker::Checker;
use crate::net::context::Context;
use crate::net::hub::{Ended, Transfer};
use ringboot_protocol::tftp::client::{Ask, Behaviour, Client, Outcome};
use ringboot_protocol::tftp::limits::BLOCK_SIZE_DEFAULT;

/// How a transfer ended that was not a failure of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// The file; empty unless it was to be kept.
    File(Vec<u8>),
    /// ERROR 1: normal for most names a loader tries.
    Missing,
}

/// One machine's TFTP client.
#[derive(Debug)]
pub(crate) struct Tftp<'a> {
    context: &'a Context,
    /// The leased address: requests come from it.
    address: Ipv4Addr,
    seed: u64,
    /// Asks again where firmware would give up: a client of no firmware.
    is_patient: bool,
}

impl<'a> Tftp<'a> {
    pub(crate) fn new(context: &'a Context, address: Ipv4Addr, seed: u64) -> Self {
        Self { context, address, seed, is_patient: !context.pace.gives_up }
    }

    /// The same for a client of no firmware, which asks again until the fleet's patience ends.
    pub(crate) fn patient(self) -> Self {
        Self { is_patient: true, ..self }
    }

    /// Fetches a file, asking again from the beginning where a transfer breaks off.
    pub(crate) async fn fetch(
        &self,
        behaviour: &Behaviour,
        name: &str,
        keep: bool,
    ) -> Result<Fetched, Failure> {
        let mut checker = self.context.checker(name, keep);
        let deadline = Instant::now() + self.context.pace.patience;
        loop {
            checker.restart();
            let begun = Instant::now();
            let ended = self.attempt(behaviour, name, checker).await?;
            let (answered, nobody) = (ended.client.answered(), ended.nobody);
            checker = ended.checker;
            match ended.outcome? {
                Outcome::Complete { octets } => {
                    if let Some(walking) = &self.context.walking {
                        walking.write_down(checker.asked(
                            format!("tftp {name}"),
                            octets,
                            begun.elapsed(),
                        ));
                    }
                    return checker.finish().map(Fetched::File);
                }
                Outcome::Refused { code: 1 } => return Ok(Fetched::Missing),
                // 0 and 5: the server gave up, or has been restarted and knows nothing of this
                // transfer.
                outcome @ (Outcome::TimedOut | Outcome::Refused { code: 0 | 5 })
                    if self.goes_on(behaviour, outcome) && Instant::now() < deadline =>
                {
                    if outcome != Outcome::TimedOut {
                        self.context.progress.add_refusal(Refusal::TftpError);
                    }
                    self.context.progress.add_retry();
                    sleep(self.context.pace.hurried(TFTP_RETRY)).await;
                }
                Outcome::TimedOut if !self.is_patient => {
                    return Err(gave_up(behaviour, name, answered, nobody));
                }
                Outcome::TimedOut if answered => {
                    return Err(Failure::TftpStalled(name.to_owned(), checker.received()));
                }
                Outcome::TimedOut => {
                    let silent = || Failure::TftpSilent(name.to_owned());
                    return Err(nobody.map_or_else(silent, |nobody| {
                        Failure::Nobody("TFTP", nobody.to_string())
                    }));
                }
                Outcome::Refused { code } => {
                    return Err(Failure::TftpRefused(name.to_owned(), code));
                }
                Outcome::Disagreed(why) => {
                    return Err(Failure::TftpDisagreed(name.to_owned(), why));
                }
            }
        }
    }

    /// Whether the transfer is begun again. U-Boot does so after any ERROR but 1 and 2 (T-3); the
    /// others end the boot.
    fn goes_on(&self, behaviour: &Behaviour, outcome: Outcome) -> bool {
        self.is_patient || (behaviour.name == "uboot" && outcome != Outcome::TimedOut)
    }

    /// One request (with the size probe that goes before it) until its end.
    async fn attempt(
        &self,
        behaviour: &Behaviour,
        name: &str,
        checker: Checker,
    ) -> Result<Ended, Failure> {
        let Context { hub, pace, progress, .. } = self.context;
        let address = self.context.speaks_from(self.address, self.context.tftp.ip());
        let transfer = Transfer {
            client: Client::new(behaviour.clone(), name.as_bytes(), self.seed),
            probes: u8::from(behaviour.probe.is_some()),
            address,
            burst: burst(behaviour),
            silence: if self.is_patient { pace.hurried(TFTP_SILENCE_MAX) } else { Duration::MAX },
            checker,
            request: progress.tftp_request(),
        };
        let ended = hub.play(transfer).await?;
        let counted = ended.client.counters();
        add_step_retries(counted.retransmits);
        progress.add_oddities(Oddity::BlockAgain, counted.duplicates);
        progress.add_oddities(Oddity::BlockOutOfOrder, counted.out_of_order);
        progress.add_oddities(Oddity::Stray, counted.strays);
        Ok(ended)
    }
}

/// `answered` is of the last request: then the transfer had begun.
fn gave_up(behaviour: &Behaviour, name: &str, answered: bool, nobody: Option<Nobody>) -> Failure {
    let what = match nobody {
        Some(nobody) if !answered => format!("TFTP: {nobody}"),
        _ if answered => format!("TFTP: silence in the middle of {name}"),
        _ => format!("TFTP: no answer for {name}"),
    };
    let seconds = Duration::from_nanos(behaviour.patience.whole()).as_secs();
    Failure::GaveUp { who: behaviour.name, what, tries: behaviour.patience.tries.into(), seconds }
}

/// What a window of blocks takes of a receiving socket's buffer at most. Octets of the kernel's
/// memory.
fn burst(behaviour: &Behaviour) -> usize {
    /// Of the packet itself, which is in a block of memory with its headers and shared information,
    /// and of its description.
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
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use tokio::net::UdpSocket;
    use tokio::task::{LocalSet, spawn_local};

    use super::*;
    use crate::content::Contents;
    use crate::pace::Pace;

    /// What comes of a fetch from a server that answers its first request with ERROR 0, and the
    /// next with ERROR 1.
    fn fetch_refused(behaviour: &Behaviour, patient: bool) -> Result<Fetched, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let server = socket.local_addr().unwrap();
            spawn_local(async move {
                for code in [0, 1] {
                    let (_, from) = socket.recv_from(&mut [0; 1000]).await.unwrap();
                    socket.send_to(&[0, 5, 0, code, 0], from).await.unwrap();
                }
            });
            let pace = Pace {
                haste: 1,
                idle_waits: false,
                gives_up: true,
                patience: Duration::from_secs(5),
            };
            let context = Context::new(server, Contents::default(), pace, Arc::default());
            let tftp = Tftp::new(&context, Ipv4Addr::LOCALHOST, 1);
            let tftp = if patient { tftp.patient() } else { tftp };
            tftp.fetch(behaviour, "a", false).await
        })
    }

    #[test]
    fn t3_an_error_ends_a_boot_but_not_uboots_and_not_a_plain_client() {
        let refused = Err(Failure::TftpRefused("a".to_owned(), 0));
        assert_eq!(fetch_refused(&Behaviour::ipxe(), false), refused);
        assert_eq!(fetch_refused(&Behaviour::uboot(1), false), Ok(Fetched::Missing));
        assert_eq!(fetch_refused(&Behaviour::ipxe(), true), Ok(Fetched::Missing));
    }

    #[test]
    fn a_port_that_nobody_has_is_what_a_machine_says_that_hears_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        LocalSet::new().block_on(&runtime, async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let server = socket.local_addr().unwrap();
            drop(socket);
            let pace = Pace {
                haste: 1,
                idle_waits: false,
                gives_up: true,
                patience: Duration::from_secs(5),
            };
            let context = Context::new(server, Contents::default(), pace, Arc::default());
            let tftp = Tftp::new(&context, Ipv4Addr::LOCALHOST, 1);
            let said =
                tftp.fetch(&Behaviour::shim(), "grubx64.efi", false).await.unwrap_err().to_string();
            let nobody = format!("nothing answers at {server} (port unreachable)");
            assert_eq!(said, format!("shim gives up: TFTP: {nobody}, 6 tries in 24 s"));
            let said = tftp
                .patient()
                .fetch(&Behaviour::shim(), "grubx64.efi", false)
                .await
                .unwrap_err()
                .to_string();
            assert_eq!(said, format!("TFTP: {nobody}"));
            assert_eq!(context.progress.troubles(), [said]);
        });
    }

    #[test]
    fn t44_a_loader_that_gives_up_says_after_how_long() {
        let said = gave_up(&Behaviour::shim(), "grubx64.efi", false, None).to_string();
        assert_eq!(said, "shim gives up: TFTP: no answer for grubx64.efi, 6 tries in 24 s");
    }

    #[test]
    fn a_window_takes_as_much_memory_as_the_kernel_counts() {
        assert_eq!(burst(&Behaviour::pi3()), 1280);
        assert_eq!(burst(&Behaviour::generic(1468, 1)), 2304);
        assert_eq!(burst(&Behaviour::generic(1468, 64)), 64 * 2304);
    }
}
