//! TFTP for simulated machines: fetches a file as a loader does, and retries until it has the file
//! or its patience ends.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::failure::BootFailure;
use crate::limits::{TFTP_RETRY, TFTP_SILENCE_MAX};
use crate::measure::line::NobodyThere;
use crate::measure::progress::{ClientOddity, ServerRefusal, add_step_retries};
use crate::net::checker::ContentChecker;
use crate::net::context::FleetContext;
use crate::net::hub::{FinishedTransfer, HubTransfer};
use ringboot_protocol::tftp::client::{AskedOption, ClientBehaviour, ClientOutcome, FetchClient};
use ringboot_protocol::tftp::limits::BLOCK_SIZE_DEFAULT;

/// The end of a transfer that is no failure of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FetchedTftp {
    /// The file; empty unless the caller wants to keep it.
    File(Vec<u8>),
    /// ERROR 1: normal for most names that a loader tries.
    Missing,
}

/// One machine's TFTP client.
#[derive(Debug)]
pub(crate) struct TftpFetcher<'a> {
    context: &'a FleetContext,
    /// The source address: the lease, or unspecified.
    address: Ipv4Addr,
    seed: u64,
    /// Retry after firmware would give up: a client without firmware.
    is_patient: bool,
}

impl<'a> TftpFetcher<'a> {
    pub(crate) fn new(context: &'a FleetContext, address: Ipv4Addr, seed: u64) -> Self {
        Self { context, address, seed, is_patient: !context.pace.gives_up }
    }

    /// The same for a client without firmware, which retries until the fleet's patience ends.
    pub(crate) fn with_patience(self) -> Self {
        Self { is_patient: true, ..self }
    }

    /// Fetches a file, from the beginning again if a transfer breaks off.
    pub(crate) async fn fetch(
        &self,
        behaviour: &ClientBehaviour,
        name: &str,
        keep: bool,
    ) -> Result<FetchedTftp, BootFailure> {
        let mut checker = self.context.make_checker(name, keep);
        let deadline = Instant::now() + self.context.pace.patience;
        loop {
            checker.restart();
            let begun = Instant::now();
            let ended = self.attempt(behaviour, name, checker).await?;
            let (answered, nobody) = (ended.client.has_answer(), ended.nobody);
            checker = ended.checker;
            match ended.outcome? {
                ClientOutcome::Complete { octets } => {
                    if let Some(walking) = &self.context.walking {
                        walking.write_down(checker.record_file(
                            format!("tftp {name}"),
                            octets,
                            begun.elapsed(),
                        ));
                    }
                    return checker.finish().map(FetchedTftp::File);
                }
                ClientOutcome::Refused { code: 1 } => return Ok(FetchedTftp::Missing),
                // 0 and 5: the server gave up, or has restarted and does not know this transfer.
                outcome @ (ClientOutcome::TimedOut | ClientOutcome::Refused { code: 0 | 5 })
                    if self.begins_again(behaviour, outcome) && Instant::now() < deadline =>
                {
                    if outcome != ClientOutcome::TimedOut {
                        self.context.progress.add_refusal(ServerRefusal::TftpError);
                    }
                    self.context.progress.add_retry();
                    sleep(self.context.pace.scale_wait(TFTP_RETRY)).await;
                }
                ClientOutcome::TimedOut if !self.is_patient => {
                    return Err(explain_give_up(behaviour, name, answered, nobody));
                }
                ClientOutcome::TimedOut if answered => {
                    return Err(BootFailure::TftpStalled(name.to_owned(), checker.received()));
                }
                ClientOutcome::TimedOut => {
                    return Err(match nobody {
                        Some(nobody) => BootFailure::Nobody("TFTP", nobody.to_string()),
                        None => BootFailure::TftpSilent(name.to_owned()),
                    });
                }
                ClientOutcome::Refused { code } => {
                    return Err(BootFailure::TftpRefused(name.to_owned(), code));
                }
                ClientOutcome::Disagreed(why) => {
                    return Err(BootFailure::TftpDisagreed(name.to_owned(), why));
                }
            }
        }
    }

    /// Whether the transfer begins again after an ERROR. U-Boot does so after any ERROR but 1 and 2
    /// (T-3); for the others it ends the boot.
    fn begins_again(&self, behaviour: &ClientBehaviour, outcome: ClientOutcome) -> bool {
        self.is_patient || (behaviour.name == "uboot" && outcome != ClientOutcome::TimedOut)
    }

    /// One request (with the size probe before it) until its end.
    async fn attempt(
        &self,
        behaviour: &ClientBehaviour,
        name: &str,
        checker: ContentChecker,
    ) -> Result<FinishedTransfer, BootFailure> {
        let FleetContext { hub, pace, progress, .. } = self.context;
        let address = self.context.speaks_from(self.address, self.context.tftp.ip());

        // A machine with firmware has only the timers of its client. A patient client also ends a
        // silent transfer, as a person at the console would restart it.
        let transfer = HubTransfer {
            client: FetchClient::new(behaviour.clone(), name.as_bytes(), self.seed),
            probes: u8::from(behaviour.probe.is_some()),
            address,
            burst: compute_window_burst(behaviour),
            silence: if self.is_patient {
                pace.scale_wait(TFTP_SILENCE_MAX)
            } else {
                Duration::MAX
            },
            checker,
            request: progress.tftp_request(),
        };
        let ended = hub.play_transfer(transfer).await?;

        // The hub has counted these retries for the fleet while the transfer ran. Only here, in the
        // machine's own task, do they count for its step.
        let counted = ended.client.counters();
        add_step_retries(counted.retransmits);
        progress.add_oddities(ClientOddity::BlockAgain, counted.duplicates);
        progress.add_oddities(ClientOddity::BlockOutOfOrder, counted.out_of_order);
        progress.add_oddities(ClientOddity::Stray, counted.strays);
        Ok(ended)
    }
}

/// `answered`: the last request had an answer, so the transfer had begun.
fn explain_give_up(
    behaviour: &ClientBehaviour,
    name: &str,
    answered: bool,
    nobody: Option<NobodyThere>,
) -> BootFailure {
    let what = match nobody {
        Some(nobody) if !answered => format!("TFTP: {nobody}"),
        _ if answered => format!("TFTP: silence in the middle of {name}"),
        _ => format!("TFTP: no answer for {name}"),
    };
    let seconds = Duration::from_nanos(behaviour.patience.total_time()).as_secs();
    BootFailure::GaveUp {
        who: behaviour.name,
        what,
        tries: behaviour.patience.tries.into(),
        seconds,
    }
}

/// The most that a window of blocks takes of a receiving socket's buffer, in bytes of the kernel's
/// memory.
fn compute_window_burst(behaviour: &ClientBehaviour) -> usize {
    /// For each packet: the block of memory with its headers and shared information, and its
    /// descriptor.
    const AROUND: usize = 384;
    const DESCRIPTION: usize = 256;
    let (mut block, mut window) = (usize::from(BLOCK_SIZE_DEFAULT), 1);
    for ask in &behaviour.asks {
        match *ask {
            AskedOption::Blksize(octets) => block = octets.into(),
            AskedOption::Windowsize(blocks) => window = blocks.into(),
            AskedOption::Tsize | AskedOption::Timeout(_) => {}
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
    use crate::content::ContentMap;
    use crate::pace::FleetPace;

    /// The result of a fetch from a server that answers the first request with ERROR 0, and the
    /// next with ERROR 1.
    fn fetch_refused(
        behaviour: &ClientBehaviour,
        patient: bool,
    ) -> Result<FetchedTftp, BootFailure> {
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
            let pace = FleetPace {
                haste: 1,
                idle_waits: false,
                gives_up: true,
                patience: Duration::from_secs(5),
            };
            let context = FleetContext::new(server, ContentMap::default(), pace, Arc::default());
            let tftp = TftpFetcher::new(&context, Ipv4Addr::LOCALHOST, 1);
            let tftp = if patient { tftp.with_patience() } else { tftp };
            tftp.fetch(behaviour, "a", false).await
        })
    }

    #[test]
    fn t3_an_error_ends_a_boot_but_not_uboots_and_not_a_plain_client() {
        let refused = Err(BootFailure::TftpRefused("a".to_owned(), 0));
        assert_eq!(fetch_refused(&ClientBehaviour::ipxe(), false), refused);
        assert_eq!(fetch_refused(&ClientBehaviour::uboot(1), false), Ok(FetchedTftp::Missing));
        assert_eq!(fetch_refused(&ClientBehaviour::ipxe(), true), Ok(FetchedTftp::Missing));
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
            let pace = FleetPace {
                haste: 1,
                idle_waits: false,
                gives_up: true,
                patience: Duration::from_secs(5),
            };
            let context = FleetContext::new(server, ContentMap::default(), pace, Arc::default());
            let tftp = TftpFetcher::new(&context, Ipv4Addr::LOCALHOST, 1);
            let said = tftp
                .fetch(&ClientBehaviour::shim(), "grubx64.efi", false)
                .await
                .unwrap_err()
                .to_string();
            let nobody = format!("nothing answers at {server} (port unreachable)");
            assert_eq!(said, format!("shim gives up: TFTP: {nobody}, 6 tries in 24 s"));
            let said = tftp
                .with_patience()
                .fetch(&ClientBehaviour::shim(), "grubx64.efi", false)
                .await
                .unwrap_err()
                .to_string();
            assert_eq!(said, format!("TFTP: {nobody}"));
            assert_eq!(context.progress.list_troubles(), [said]);
        });
    }

    #[test]
    fn t44_a_loader_that_gives_up_says_after_how_long() {
        let said =
            explain_give_up(&ClientBehaviour::shim(), "grubx64.efi", false, None).to_string();
        assert_eq!(said, "shim gives up: TFTP: no answer for grubx64.efi, 6 tries in 24 s");
    }

    #[test]
    fn a_window_takes_as_much_memory_as_the_kernel_counts() {
        assert_eq!(compute_window_burst(&ClientBehaviour::pi3()), 1280);
        assert_eq!(compute_window_burst(&ClientBehaviour::generic(1468, 1)), 2304);
        assert_eq!(compute_window_burst(&ClientBehaviour::generic(1468, 64)), 64 * 2304);
    }
}
