//! TFTP as boot loaders speak it: a socket of the machine's own for each transfer, each loader's options and acknowledgements.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

use super::context::{Checker, Context, local_address};
use super::failure::Failure;
use super::limits::{TFTP_PAUSE_FIRST, TFTP_PAUSE_MAX, TFTP_RETRY, TFTP_TRIES_MAX};

/// Which program asks: they differ in their options and in what makes them repeat an ACK (section 1.9 of the wire rules).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loader {
    /// A BIOS ROM, as iPXE's asks (capture `bios-virtio`).
    Rom,
    Pxelinux,
    /// OVMF's question for the size, which it ends with ERROR 8 (T-52).
    Edk2Probe,
    Edk2,
    /// shim fetches with the firmware's window, but 512-octet blocks.
    Shim,
    /// Never repeats an ACK: the server must (T-43).
    Grub,
}

impl Loader {
    /// Options in the order in which they were captured.
    fn options(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rom => &[("blksize", "1432"), ("tsize", "0")],
            Self::Pxelinux => &[("tsize", "0"), ("blksize", "1408")],
            Self::Edk2Probe => &[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")],
            Self::Edk2 => &[("blksize", "1468"), ("windowsize", "4")],
            Self::Shim => &[("blksize", "512"), ("windowsize", "4")],
            Self::Grub => &[("blksize", "1024"), ("tsize", "0")],
        }
    }
}

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
}

impl<'a> Tftp<'a> {
    pub(super) fn new(context: &'a Context, address: Ipv4Addr) -> Self {
        Self { context, address }
    }

    /// Fetches a file, asking again from the beginning where a transfer breaks off.
    pub(super) async fn fetch(&self, loader: Loader, name: &str, keep: bool) -> Result<Fetched, Failure> {
        let mut checker = Checker::new(self.context, name, keep);
        let deadline = Instant::now() + self.context.pace.patience;
        loop {
            checker.restart();
            match self.attempt(loader, name, &mut checker).await? {
                End::Done if loader == Loader::Edk2Probe => return Ok(Fetched::File(Vec::new())),
                End::Done => return checker.finish().map(Fetched::File),
                End::Error(1) => return Ok(Fetched::Missing),
                // 0 and 5: the server gave up, or has been restarted and knows nothing of this transfer.
                End::Silent | End::Error(0 | 5) if Instant::now() < deadline => {
                    self.context.progress.add_retry();
                    sleep(self.context.pace.hurried(TFTP_RETRY)).await;
                }
                End::BadOptions => return Err(Failure::TftpOptions(name.to_owned())),
                End::Silent => return Err(Failure::TftpSilent(name.to_owned())),
                End::Error(code) => return Err(Failure::TftpRefused(name.to_owned(), code)),
            }
        }
    }

    async fn attempt(&self, loader: Loader, name: &str, checker: &mut Checker<'_>) -> Result<End, Failure> {
        let socket = UdpSocket::bind(local_address(self.address)).await?;
        let mut transfer = Transfer::new(loader, name);
        let mut server = SocketAddr::from(self.context.tftp);
        let mut heard = false;
        let mut pause = self.context.pace.hurried(TFTP_PAUSE_FIRST);
        let mut due = Instant::now() + pause;
        let mut silent_tries = 0;
        // A send that fails is a lost datagram: the timer mends it.
        let _ = socket.send_to(&transfer.reply, server).await;
        loop {
            let step = match timeout_at(due, socket.readable()).await {
                Ok(ready) => {
                    ready?;
                    self.receive(&socket, &mut transfer, &mut server, &mut heard, checker)
                }
                Err(_) => {
                    silent_tries += 1;
                    if silent_tries >= TFTP_TRIES_MAX {
                        return Ok(End::Silent);
                    }
                    self.context.progress.add_retry();
                    pause = (pause * 2).min(self.context.pace.hurried(TFTP_PAUSE_MAX));
                    due = Instant::now() + pause;
                    transfer.repeat()
                }
            };
            match step {
                Step::Nothing => {}
                Step::Reply | Step::Progress => {
                    if step == Step::Progress {
                        silent_tries = 0;
                        pause = self.context.pace.hurried(TFTP_PAUSE_FIRST);
                        due = Instant::now() + pause;
                    }
                    let _ = socket.send_to(&transfer.reply, server).await;
                }
                Step::Last(end, reply) => {
                    if reply {
                        let _ = socket.send_to(&transfer.reply, server).await;
                    }
                    return Ok(end);
                }
                Step::Failed(failure) => return Err(failure),
            }
        }
    }

    /// Reads what has come, until something is to be answered.
    fn receive(
        &self,
        socket: &UdpSocket,
        transfer: &mut Transfer,
        server: &mut SocketAddr,
        heard: &mut bool,
        checker: &mut Checker<'_>,
    ) -> Step {
        self.context.with_scratch(|buffer| {
            loop {
                let Ok((octets, from)) = socket.try_recv_from(buffer) else { return Step::Nothing };
                // The first answer's port is the transfer's; a datagram from any other is ignored, as all loaders do (T-49).
                if *heard && from != *server || from.ip() != server.ip() {
                    continue;
                }
                (*heard, *server) = (true, from);
                let step = transfer.handle(buffer.get(..octets).unwrap_or_default(), checker);
                if step != Step::Nothing {
                    return step;
                }
            }
        })
    }
}

/// How one request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Error(u16),
    /// The server granted what was not asked for.
    BadOptions,
    Silent,
}

/// What to do after a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Send the reply (again).
    Reply,
    /// Send the reply; the transfer has moved on.
    Progress,
    /// The transfer is over; true: the reply is its last word.
    Last(End, bool),
    Failed(Failure),
}

/// The client's side of one transfer.
#[derive(Debug)]
struct Transfer {
    loader: Loader,
    /// The datagram sent last: request, ACK or ERROR.
    reply: Vec<u8>,
    block_octets: usize,
    window: u16,
    /// Blocks of the running window that have come.
    in_window: u16,
    /// Number of the next block.
    expected: u16,
    started: bool,
}

impl Transfer {
    fn new(loader: Loader, name: &str) -> Self {
        let mut reply = vec![0, REQUEST];
        for text in [name, "octet"].into_iter().chain(loader.options().iter().flat_map(|(name, value)| [*name, *value]))
        {
            reply.extend_from_slice(text.as_bytes());
            reply.push(0);
        }
        Self { loader, reply, block_octets: 512, window: 1, in_window: 0, expected: 1, started: false }
    }

    /// One datagram of the server.
    fn handle(&mut self, datagram: &[u8], checker: &mut Checker<'_>) -> Step {
        match datagram {
            [0, OACK, options @ ..] => self.options_granted(options),
            [0, DATA, high, low, block @ ..] => self.block(u16::from_be_bytes([*high, *low]), block, checker),
            [0, ERROR, high, low, ..] => Step::Last(End::Error(u16::from_be_bytes([*high, *low])), false),
            _ => Step::Nothing,
        }
    }

    fn options_granted(&mut self, options: &[u8]) -> Step {
        if self.started {
            // The server has not seen ACK 0.
            return if self.expected == 1 { Step::Reply } else { Step::Nothing };
        }
        let mut texts = options.split(|octet| *octet == 0).map(String::from_utf8_lossy);
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            // T-11, T-12, T-17: only what was asked for, spelt as it was asked, never more of it.
            let asked = self.loader.options().iter().find(|(asked, _)| *asked == name);
            let (Some((_, asked)), Ok(granted)) = (asked, value.parse::<u64>()) else { return self.refuse_options() };
            let fits = name == "tsize" || asked.parse::<u64>().is_ok_and(|asked| granted <= asked);
            match (fits, name.as_ref()) {
                (false, _) => return self.refuse_options(),
                (true, "blksize") => self.block_octets = usize::try_from(granted).unwrap_or(0),
                (true, "windowsize") => self.window = u16::try_from(granted).unwrap_or(1),
                _ => {}
            }
        }
        self.started = true;
        if self.loader == Loader::Edk2Probe {
            self.reply = error(8, "User aborted the transfer");
            return Step::Last(End::Done, true);
        }
        self.reply = ack(0);
        Step::Progress
    }

    fn refuse_options(&mut self) -> Step {
        self.reply = error(8, "Malformatted OACK packet");
        Step::Last(End::BadOptions, true)
    }

    fn block(&mut self, number: u16, block: &[u8], checker: &mut Checker<'_>) -> Step {
        // T-22: GRUB never goes on without an OACK.
        if !self.started && self.loader == Loader::Grub {
            return Step::Nothing;
        }
        if number != self.expected || block.len() > self.block_octets {
            return self.unexpected(number);
        }
        self.started = true;
        if let Err(failure) = checker.take(block) {
            return Step::Failed(failure);
        }
        // T-24: after 65535 comes 0.
        self.expected = number.wrapping_add(1);
        self.in_window += 1;
        let last = block.len() < self.block_octets;
        if !last && self.in_window < self.window {
            return Step::Nothing;
        }
        self.acknowledge();
        if last { Step::Last(End::Done, true) } else { Step::Progress }
    }

    /// A block that is not the next one: repeated, or after a gap.
    fn unexpected(&mut self, number: u16) -> Step {
        let old = self.expected.wrapping_sub(number).cast_signed() > 0;
        if !self.started || self.loader == Loader::Grub && !old {
            return Step::Nothing;
        }
        self.acknowledge();
        Step::Reply
    }

    /// Nothing came for too long. GRUB repeats only its request (T-43).
    fn repeat(&mut self) -> Step {
        if self.started && self.loader == Loader::Grub {
            return Step::Nothing;
        }
        if self.started {
            self.acknowledge();
        }
        Step::Reply
    }

    /// What has come so far is the reply; the server counts a new window from it (T-37).
    fn acknowledge(&mut self) {
        self.in_window = 0;
        self.reply = ack(self.expected.wrapping_sub(1));
    }
}

const REQUEST: u8 = 1;
const DATA: u8 = 3;
const ACK: u8 = 4;
const ERROR: u8 = 5;
const OACK: u8 = 6;

fn ack(block: u16) -> Vec<u8> {
    let [high, low] = block.to_be_bytes();
    vec![0, ACK, high, low]
}

fn error(code: u8, text: &str) -> Vec<u8> {
    [&[0, ERROR, 0, code], text.as_bytes(), &[0]].concat()
}
