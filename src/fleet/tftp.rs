//! TFTP for simulated machines: sockets, timers and checks around the pure client, which has each loader's manners.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

use super::context::{Checker, Context};
use super::failure::Failure;
use super::limits::{TFTP_DATAGRAMS_PER_TURN, TFTP_RETRY, TFTP_SILENCE_MAX};
use super::progress::Refusal;
use crate::tftp::Tick;
use crate::tftp::client::{Behaviour, Client, Outcome};

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
            match self.attempt(behaviour, name, &mut checker).await? {
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
                Outcome::TimedOut => return Err(Failure::TftpSilent(name.to_owned())),
                Outcome::Refused { code } => return Err(Failure::TftpRefused(name.to_owned(), code)),
                Outcome::Disagreed(why) => return Err(Failure::TftpDisagreed(name.to_owned(), why)),
            }
        }
    }

    /// One request (with the size probe that goes before it) until its end.
    async fn attempt(&self, behaviour: &Behaviour, name: &str, checker: &mut Checker<'_>) -> Result<Outcome, Failure> {
        let mut attempt = Attempt {
            context: self.context,
            client: Client::new(behaviour.clone(), name.as_bytes(), self.seed),
            begun: Instant::now(),
            socket: UdpSocket::bind(self.context.local_address(self.address, *self.context.tftp.ip())).await?,
            tid: None,
            number: 0,
        };
        let mut silent_since = attempt.begun;
        let mut request = self.context.progress.tftp_request();
        loop {
            attempt.send(self.address).await?;
            if let Some(outcome) = attempt.client.outcome() {
                self.context.progress.add_retries(attempt.client.counters().retransmits);
                return Ok(outcome);
            }
            let give_up = silent_since + self.context.pace.hurried(TFTP_SILENCE_MAX);
            let due = attempt.client.poll_timeout().map_or(give_up, |tick| attempt.moment(tick).min(give_up));
            match timeout_at(due, attempt.socket.readable()).await {
                Ok(ready) => {
                    ready?;
                    if attempt.receive(checker)? {
                        // A file of one block holds no place at the server.
                        if attempt.client.outcome().is_none() {
                            request.begins();
                        }
                        silent_since = Instant::now();
                    }
                    if checker.is_sample_full() && attempt.client.outcome().is_none() {
                        return Ok(attempt.end_sample(checker.received()).await);
                    }
                }
                Err(_) if Instant::now() >= give_up => return Ok(Outcome::TimedOut),
                Err(_) => attempt.client.handle_timeout(attempt.tick()),
            }
        }
    }
}

/// A client at work. Its timers are firmware's own, whatever the fleet's haste: hurried, PXELINUX's 110 ms would take a busy
/// server for a lost packet.
struct Attempt<'a> {
    context: &'a Context,
    client: Client,
    begun: Instant,
    socket: UdpSocket,
    /// Which of the client's sockets `socket` is.
    number: u8,
    /// The server's port, once it has answered.
    tid: Option<u16>,
}

impl Attempt<'_> {
    /// Sends all that the client has to say.
    async fn send(&mut self, from: Ipv4Addr) -> Result<(), Failure> {
        let server = self.context.tftp;
        let now = self.tick();
        while let Some(transmit) = self.client.poll_transmit(now) {
            if transmit.socket != self.number {
                self.number = transmit.socket;
                self.socket = UdpSocket::bind(self.context.local_address(from, *server.ip())).await?;
            }
            let to = SocketAddr::from((*server.ip(), transmit.to.unwrap_or(server.port())));
            // A send that fails is a lost datagram: the client's timer mends it.
            let _ = self.socket.send_to(transmit.bytes, to).await;
        }
        Ok(())
    }

    /// Takes in what has come, but not more than the client's queue of answers bears. True where the file has grown.
    fn receive(&mut self, checker: &mut Checker<'_>) -> Result<bool, Failure> {
        let now = self.tick();
        let Self { context, client, socket, tid, .. } = self;
        context.with_scratch(|buffer| {
            let mut grown = false;
            // An error of one receive is the network's; the timers decide what it means.
            for _ in 0..TFTP_DATAGRAMS_PER_TURN {
                let Ok((octets, from)) = socket.try_recv_from(buffer) else { break };
                if from.ip() != *context.tftp.ip() {
                    continue;
                }
                *tid = Some(from.port());
                let datagram = buffer.get(..octets).unwrap_or_default();
                if let Some(piece) = client.handle(now, from.port(), datagram) {
                    checker.take(piece.bytes)?;
                    grown = true;
                }
            }
            Ok(grown)
        })
    }

    /// A sample is enough: the server is told, so that it does not repeat blocks that nobody wants.
    async fn end_sample(&self, received: u64) -> Outcome {
        const ENOUGH: &[u8] = b"\0\x05\0\0User aborted the transfer\0";
        if let Some(port) = self.tid {
            // Lost, it costs the server its retransmissions.
            let _ = self.socket.send_to(ENOUGH, SocketAddr::from((*self.context.tftp.ip(), port))).await;
        }
        Outcome::Complete { octets: self.client.announced().unwrap_or(received) }
    }

    fn tick(&self) -> Tick {
        Tick::try_from(self.begun.elapsed().as_nanos()).unwrap_or(Tick::MAX)
    }

    fn moment(&self, tick: Tick) -> Instant {
        self.begun + Duration::from_nanos(tick)
    }
}
