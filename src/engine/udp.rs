//! The UDP driver of one core: multishot receives into the kernel's choice of buffers, batched sends, one enter per batch.

// Kernel constants, struct sizes and in-range offsets go into the widths that the ABI wants.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};

pub use super::slot::{Blocks, Source, Target, blocks_per_send};

use super::buffers::{Buffers, GROUP};
use super::control_message::{self, CONTROL_BYTES};
use super::limits::{RECEIVE_BUFFERS, SEND_SLOTS};
use super::mailbox::Mailbox;
use super::ring::{self, NoRing};
use super::slot::Slots;

/// A socket of a driver, numbered in the order of [`Driver::add`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketId(pub u16);

/// No slot or no queue entry is free: turn the driver and try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// What a turn of the driver has to tell.
#[derive(Debug)]
pub enum Completion<'a> {
    Datagram(Datagram<'a>),
    /// A send has left, or failed for this reason; `token` is the sender's own.
    Sent {
        token: u64,
        result: Result<(), SendError>,
    },
    /// The bell of the mailbox has rung.
    Woken,
}

/// Why a send failed, as far as its sender must tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The mapping has lost its bytes: the file was cut short (EFAULT).
    ContentGone,
    /// The path does not take segmented sends (EIO, EINVAL, EMSGSIZE): send single datagrams from now on.
    NoSegments,
    /// The network's or the client's matter; the raw error number.
    Other(i32),
}

/// A datagram as it arrived. The bytes are the driver's: look at them before the next turn.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub socket: SocketId,
    pub from: SocketAddr,
    /// The local address that the answer should leave from.
    pub local: IpAddr,
    /// Where it was sent to: may be a broadcast or multicast address.
    pub destination: IpAddr,
    /// Index of the interface it came in by; 0 = unknown.
    pub interface: u32,
    pub bytes: &'a [u8],
    /// It was longer than a receive buffer.
    pub truncated: bool,
}

/// How long a turn may wait for something to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all: submit, collect what is there.
    No,
    AtMost(Duration),
    Forever,
}

/// How long an operation of a socket that is taken away may take to end.
const CANCEL_PATIENCE: Duration = Duration::from_millis(200);

/// One core's ring with its sockets. Field order is drop order: the ring goes before the memory that the kernel was lent.
pub struct Driver {
    ring: IoUring,
    sockets: Vec<Socket>,
    slots: Slots,
    buffers: Buffers,
    /// Template of every receive: how much room for the sender's name and control messages.
    receive: Box<libc::msghdr>,
    bell: Option<(i32, Box<u64>)>,
    bell_armed: bool,
    /// Being dropped: nothing is armed again.
    closing: bool,
    /// Completions copied out of the ring, so that it is free while they are handled.
    completed: Vec<(u64, i32, u32)>,
}

#[derive(Debug)]
struct Socket {
    /// None once removed; the place is used again when the kernel has let go of its receive.
    fd: Option<OwnedFd>,
    /// The address it is bound to, for datagrams without PKTINFO.
    local: IpAddr,
    receives: bool,
    armed: bool,
}

/// What a completion's user data says: the kind above, the index below.
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const BELL: u64 = 3 << 32;
const KIND: u64 = 0xff << 32;

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("sockets", &self.sockets).field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl Driver {
    /// A driver for the calling thread, which must be the one that turns it.
    pub fn new() -> Result<Self, NoRing> {
        Self::with_buffers(RECEIVE_BUFFERS)
    }

    /// The same with so many receive buffers, a power of two.
    pub fn with_buffers(receive_buffers: u16) -> Result<Self, NoRing> {
        let ring = ring::for_this_thread()?;
        let buffers = Buffers::register(&ring, receive_buffers)?;
        // SAFETY: msghdr is integers and raw pointers, for which all zeros is a valid value.
        let mut receive: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        receive.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        receive.msg_controllen = CONTROL_BYTES;
        let slots = Slots::new();
        Ok(Self {
            ring,
            sockets: Vec::new(),
            slots,
            buffers,
            receive,
            bell: None,
            bell_armed: false,
            closing: false,
            completed: Vec::new(),
        })
    }

    /// Takes a bound socket over. `receives` = datagrams are wanted from it.
    pub fn add(&mut self, fd: OwnedFd, local: IpAddr, receives: bool) -> SocketId {
        let socket = Socket { fd: Some(fd), local, receives, armed: false };
        let vacant = self.sockets.iter().position(|socket| socket.fd.is_none() && !socket.armed);
        let index = vacant.unwrap_or(self.sockets.len());
        match self.sockets.get_mut(index) {
            Some(place) => *place = socket,
            None => self.sockets.push(socket),
        }
        SocketId(u16::try_from(index).unwrap_or(u16::MAX))
    }

    /// Closes a socket, for good with the next turn; what was queued on it is lost.
    pub fn remove(&mut self, socket: SocketId) {
        let Some(fd) = self.sockets.get_mut(usize::from(socket.0)).and_then(|socket| socket.fd.take()) else { return };
        // A receive that is armed keeps the socket open, and its port taken, after its descriptor is closed.
        let armed = CancelBuilder::fd(Fd(fd.as_raw_fd())).all();
        // ENOENT: nothing was in flight.
        let _ = self.ring.submitter().register_sync_cancel(Some(Timespec::from(CANCEL_PATIENCE)), armed);
    }

    /// Wakes up when this mailbox's bell rings. The mailbox must live as long as the driver turns.
    pub fn listen_to<T>(&mut self, mailbox: &Mailbox<T>) {
        self.bell = Some((mailbox.fd(), Box::new(0)));
        self.arm_bell();
    }

    /// Sends still in the kernel.
    pub fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    /// Whether one more send finds a slot.
    pub fn has_room(&self) -> bool {
        self.slots.in_flight() < SEND_SLOTS
    }

    /// Queues a datagram of copied bytes.
    pub fn send(
        &mut self,
        socket: SocketId,
        to: Target,
        from: Option<Source>,
        bytes: &[u8],
        token: u64,
    ) -> Result<(), Full> {
        let (slot, message) = self.slots.fill_copy(to, from, bytes, token).ok_or(Full)?;
        self.queue_send(socket, slot, message)
    }

    /// Queues a run of DATA blocks as one send; at most [`blocks_per_send`] of them.
    pub fn send_blocks(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        from: Option<Source>,
        blocks: &Blocks<'_>,
        token: u64,
    ) -> Result<(), Full> {
        let (slot, message) = self.slots.fill_blocks(to, from, blocks, token).ok_or(Full)?;
        self.queue_send(socket, slot, message)
    }

    /// Submits what is queued, waits as told, and hands over everything that has completed.
    pub fn turn(&mut self, wait: Wait, mut on: impl FnMut(Completion<'_>)) -> io::Result<()> {
        self.arm_receives();
        self.enter(wait)?;
        let mut completed = std::mem::take(&mut self.completed);
        completed.extend(self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())));
        for (user_data, result, flags) in completed.drain(..) {
            self.complete(user_data, result, flags, &mut on);
        }
        self.completed = completed;
        self.buffers.publish();
        Ok(())
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let busy = !self.ring.completion().is_empty();
        let submitter = self.ring.submitter();
        let answer = match wait {
            // Without completions to wait for, the enter must still run deferred work: GETEVENTS goes out with the flag set.
            Wait::No => submitter.submit(),
            _ if busy => submitter.submit(),
            Wait::Forever => submitter.submit_and_wait(1),
            Wait::AtMost(time) => {
                let time = Timespec::from(time);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
            }
        };
        match answer {
            Ok(_) => Ok(()),
            // The time is over; a signal came; the completion queue wants to be emptied first.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn complete(&mut self, user_data: u64, result: i32, flags: u32, on: &mut impl FnMut(Completion<'_>)) {
        let index = u16::try_from(user_data & 0xffff).unwrap_or(0);
        match user_data & KIND {
            RECEIVE => {
                if !cqueue::more(flags) {
                    // Ended: out of buffers (ENOBUFS) or an error of the network's; armed again at the next turn.
                    if let Some(socket) = self.sockets.get_mut(usize::from(index)) {
                        socket.armed = false;
                    }
                }
                let Some(buffer) = cqueue::buffer_select(flags) else { return };
                if let Ok(len) = usize::try_from(result)
                    && let Some(datagram) = self.datagram(SocketId(index), buffer, len)
                {
                    on(Completion::Datagram(datagram));
                }
                self.buffers.give_back(buffer);
            }
            SEND => {
                if let Some(finished) = self.slots.release(index) {
                    let result = if result < 0 { Err(send_error(-result, finished.segmented)) } else { Ok(()) };
                    on(Completion::Sent { token: finished.token, result });
                }
            }
            BELL => {
                on(Completion::Woken);
                self.bell_armed = false;
                self.arm_bell();
            }
            _ => {}
        }
    }

    fn datagram(&self, socket: SocketId, buffer: u16, len: usize) -> Option<Datagram<'_>> {
        // The borrow of the buffer's bytes ends before they go back: `on` sees them only inside its call.
        let bytes = self.buffers.bytes(buffer, len);
        let out = RecvMsgOut::parse(bytes, &self.receive).ok()?;
        let truncated = out.is_payload_truncated();
        let (name_at, control_at) = (RECV_OUT_BYTES, RECV_OUT_BYTES + self.receive.msg_namelen as usize);
        let payload_at = control_at + CONTROL_BYTES;
        let from = read_name(bytes.get(name_at..control_at)?)?;
        let control_len = out.control_data().len();
        let arrived = control_message::read(bytes.get(control_at..control_at + control_len)?);
        let bound = self.sockets.get(usize::from(socket.0))?.local;
        Some(Datagram {
            socket,
            from,
            local: arrived.local.unwrap_or(bound),
            destination: arrived.destination.unwrap_or(bound),
            interface: arrived.interface,
            bytes: bytes.get(payload_at..payload_at + out.payload_data().len())?,
            truncated,
        })
    }

    fn arm_receives(&mut self) {
        for index in 0..self.sockets.len() {
            let socket = &self.sockets[index];
            let Some(fd) = socket.fd.as_ref().filter(|_| socket.receives && !socket.armed && !self.closing) else {
                continue;
            };
            let entry = opcode::RecvMsgMulti::new(Fd(fd.as_raw_fd()), &raw const *self.receive, GROUP)
                .build()
                .user_data(RECEIVE | index as u64);
            // SAFETY: the message template is boxed and lives as long as the driver, as do the registered buffers.
            if unsafe { self.push(&entry) }.is_err() {
                return;
            }
            self.sockets[index].armed = true;
        }
    }

    fn arm_bell(&mut self) {
        let Some((fd, buffer)) = self.bell.as_mut().filter(|_| !self.closing) else { return };
        let entry = opcode::Read::new(Fd(*fd), (&raw mut **buffer).cast(), 8).build().user_data(BELL);
        // SAFETY: the eight bytes are boxed and live as long as the driver, whose ring is dropped before them.
        self.bell_armed = unsafe { self.push(&entry) }.is_ok();
    }

    /// Whether the kernel may still read or write memory of ours.
    fn is_lent(&self) -> bool {
        self.in_flight() > 0 || self.bell_armed || self.sockets.iter().any(|socket| socket.armed)
    }

    fn queue_send(&mut self, socket: SocketId, slot: u16, message: *const libc::msghdr) -> Result<(), Full> {
        let Some(fd) = self.sockets.get(usize::from(socket.0)).and_then(|socket| socket.fd.as_ref()) else {
            self.slots.release(slot);
            return Err(Full);
        };
        let entry = opcode::SendMsg::new(Fd(fd.as_raw_fd()), message).build().user_data(SEND | u64::from(slot));
        // SAFETY: the message and all it points to lie in the slot (or in content that the slot holds), which stays in place
        // until its completion releases it.
        let pushed = unsafe { self.push(&entry) };
        if pushed.is_err() {
            self.slots.release(slot);
        }
        pushed
    }

    /// Queues an entry; a full queue is submitted first.
    ///
    /// # Safety
    /// Everything that the entry points to must stay valid until its completion.
    unsafe fn push(&mut self, entry: &io_uring::squeue::Entry) -> Result<(), Full> {
        // SAFETY: the caller's promise is this function's own.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        let _ = self.ring.submit();
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| Full)
    }
}

impl Drop for Driver {
    /// Submits what is queued, cancels what does not end by itself, and waits until the kernel holds no memory of ours: the end
    /// of a ring takes place behind the back of its owner, who may have freed everything by then.
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_millis(200);
        const TURNS_MAX: u32 = 10;
        self.closing = true;
        let _ = self.turn(Wait::No, |_| {});
        // ENOENT: nothing was in flight.
        let _ = self.ring.submitter().register_sync_cancel(Some(Timespec::from(PATIENCE)), CancelBuilder::any());
        for _ in 0..TURNS_MAX {
            if !self.is_lent() || self.turn(Wait::AtMost(PATIENCE), |_| {}).is_err() {
                break;
            }
        }
    }
}

/// Of `struct io_uring_recvmsg_out`: four 32-bit words before the name. Bytes.
const RECV_OUT_BYTES: usize = 16;

fn send_error(number: i32, segmented: bool) -> SendError {
    match number {
        libc::EFAULT => SendError::ContentGone,
        libc::EIO | libc::EINVAL | libc::EMSGSIZE if segmented => SendError::NoSegments,
        number => SendError::Other(number),
    }
}

/// Reads a sockaddr_in or sockaddr_in6. None for any other family.
pub(super) fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddr::V4(SocketAddrV4::new(address, port)))
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (address, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            let flow = u32::from_ne_bytes(*flow);
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(*address), port, flow, scope)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;
    use std::time::Instant;

    use super::*;
    use crate::engine::net::{self, Binding};
    use crate::images::{Content, Found, Images, Workers, clean};

    fn driver_on_loopback(address: &str) -> (Driver, SocketId, SocketAddr) {
        let address = address.parse().unwrap();
        let fd = net::udp(&Binding { address, interface: None, shared: false }).unwrap();
        let bound = net::local_address(&fd).unwrap();
        let mut driver = Driver::new().unwrap();
        let socket = driver.add(fd, bound.ip(), true);
        (driver, socket, bound)
    }

    fn turn_until(driver: &mut Driver, mut done: impl FnMut(Completion<'_>) -> bool) {
        let started = Instant::now();
        let mut finished = false;
        while !finished {
            assert!(started.elapsed() < Duration::from_secs(5), "nothing happened");
            driver.turn(Wait::AtMost(Duration::from_millis(100)), |c| finished |= done(c)).unwrap();
        }
    }

    fn mapped_file(len: usize) -> (tempfile::TempDir, Content) {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
        std::fs::write(directory.path().join("image"), bytes).unwrap();
        let images = Images::open(directory.path(), Workers::start().unwrap()).unwrap();
        let Found::Ask(question) = images.catalog().find(&clean(b"image").unwrap()) else { panic!("known already") };
        let (sender, receiver) = std::sync::mpsc::channel();
        images.answer(question, move |answer| sender.send(answer).unwrap()).unwrap();
        (directory, receiver.recv().unwrap().unwrap())
    }

    #[test]
    fn a_datagram_tells_where_it_came_from_and_where_it_was_sent() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut driver, socket, bound) = driver_on_loopback(address);
            let client = UdpSocket::bind(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            client.send_to(b"hello", bound).unwrap();
            let mut answer = None;
            turn_until(&mut driver, |completion| {
                let Completion::Datagram(datagram) = completion else { return false };
                assert_eq!((datagram.bytes, datagram.local), (&b"hello"[..], bound.ip()));
                assert!(datagram.interface > 0);
                answer = Some((datagram.from, Source { address: datagram.local, interface: datagram.interface }));
                true
            });
            let (to, from) = answer.unwrap();
            driver.send(socket, Target::Ip(to), Some(from), b"world", 7).unwrap();
            turn_until(&mut driver, |c| matches!(c, Completion::Sent { token: 7, result: Ok(()) }));
            let mut bytes = [0; 16];
            assert_eq!(client.recv_from(&mut bytes).unwrap(), (5, bound));
        }
    }

    #[test]
    fn a_window_leaves_as_one_send_and_arrives_as_blocks() {
        let (_directory, content) = mapped_file(200_000);
        let (mut driver, socket, _) = driver_on_loopback("127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let blocks = Blocks { content: &content, first: 65_530, block_size: 1000, bytes: 5_000..14_500, count: 10 };
        driver.send_blocks(socket, client.local_addr().unwrap(), None, &blocks, 1).unwrap();
        turn_until(&mut driver, |c| matches!(c, Completion::Sent { token: 1, result: Ok(()) }));
        for n in 0..10u16 {
            let mut bytes = [0; 2000];
            let (len, _) = client.recv_from(&mut bytes).unwrap();
            assert_eq!(len, if n == 9 { 504 } else { 1004 });
            assert_eq!(bytes[..2], [0, 3]);
            assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]), 65_530u16.wrapping_add(n));
            let start = 5_000 + usize::from(n) * 1000;
            assert!(bytes[4..len].iter().enumerate().all(|(i, b)| *b == ((start + i) % 251) as u8));
        }
    }

    #[test]
    fn a_file_cut_short_under_a_send_is_an_error_and_not_a_signal() {
        let (directory, content) = mapped_file(200_000);
        std::fs::OpenOptions::new().write(true).open(directory.path().join("image")).unwrap().set_len(0).unwrap();
        assert!(!content.is_unchanged());
        let (mut driver, socket, _) = driver_on_loopback("127.0.0.1:0");
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let blocks = Blocks { content: &content, first: 1, block_size: 512, bytes: 0..5_120, count: 10 };
        driver.send_blocks(socket, client.local_addr().unwrap(), None, &blocks, 2).unwrap();
        turn_until(&mut driver, |c| matches!(c, Completion::Sent { token: 2, result: Err(SendError::ContentGone) }));
    }

    #[test]
    fn a_bell_wakes_a_sleeping_driver_again_and_again() {
        let (mut driver, _, _) = driver_on_loopback("127.0.0.1:0");
        let (letters, mailbox) = Mailbox::new().unwrap();
        driver.listen_to(&mailbox);
        for n in 0..3 {
            let letters = letters.clone();
            let sender = std::thread::spawn(move || letters.send(n));
            turn_until(&mut driver, |c| matches!(c, Completion::Woken));
            sender.join().unwrap();
            assert_eq!(mailbox.take(), Some(n));
        }
    }

    #[test]
    fn a_removed_socket_frees_its_port_and_its_place() {
        let (mut driver, socket, bound) = driver_on_loopback("127.0.0.1:0");
        driver.turn(Wait::No, |_| {}).unwrap();
        driver.remove(socket);
        driver.turn(Wait::No, |_| {}).unwrap();
        let fd = net::udp(&Binding { address: bound, interface: None, shared: false }).expect("the port is free");
        assert_eq!(driver.add(fd, bound.ip(), true), socket);
        driver.turn(Wait::No, |_| {}).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"again", bound).unwrap();
        turn_until(&mut driver, |c| matches!(c, Completion::Datagram(datagram) if datagram.bytes == b"again"));
    }

    #[test]
    fn what_was_queued_leaves_before_the_end_and_the_end_waits_for_nobody() {
        let (mut driver, socket, _) = driver_on_loopback("127.0.0.1:0");
        let (_, mailbox) = Mailbox::<()>::new().unwrap();
        driver.listen_to(&mailbox);
        driver.turn(Wait::No, |_| {}).unwrap();
        assert!(driver.is_lent());
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        driver.send(socket, Target::Ip(client.local_addr().unwrap()), None, b"last", 1).unwrap();
        let started = Instant::now();
        drop(driver);
        assert!(started.elapsed() < Duration::from_millis(200), "nothing had to be given up");
        assert_eq!(client.recv(&mut [0; 10]).unwrap(), 4);
    }

    #[test]
    fn more_datagrams_than_buffers_lose_nothing() {
        for buffers in [16, RECEIVE_BUFFERS] {
            overrun(buffers);
        }
    }

    fn overrun(buffers: u16) {
        let fd =
            net::udp(&Binding { address: "127.0.0.1:0".parse().unwrap(), interface: None, shared: false }).unwrap();
        let bound = net::local_address(&fd).unwrap();
        let mut driver = Driver::with_buffers(buffers).unwrap();
        driver.add(fd, bound.ip(), true);
        driver.turn(Wait::No, |_| {}).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let count = 2 * usize::from(buffers) + 10;
        for _ in 0..count {
            client.send_to(b"x", bound).unwrap();
        }
        let mut seen = 0;
        turn_until(&mut driver, |completion| {
            seen += usize::from(matches!(completion, Completion::Datagram(_)));
            seen == count
        });
    }
}
