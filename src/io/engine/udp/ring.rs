//! The UDP driver on io_uring: multishot receives into buffers that the kernel chooses, batched
//! sends, one enter per batch.

// Casts give kernel constants, struct sizes and in-range offsets the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::completion::{
    ReceivedDatagram, SendQueueFull, SocketId, UdpCompletion, make_send_error,
};
use crate::engine::address::{DatagramSource, DatagramTarget, read_socket_name};
use crate::engine::buffers::{GROUP, ReceiveBuffers};
use crate::engine::control_message::{self, CONTROL_BYTES};
use crate::engine::ring::{self, NoRing};
use crate::engine::slot::{BlockBatch, SendSlots};
use crate::engine::wait::TurnWait;

/// How long an operation of a removed socket may take to end.
const CANCEL_PATIENCE: Duration = Duration::from_millis(200);

/// One core's ring with its sockets. Field order is drop order: the ring goes before the memory
/// that the kernel uses.
pub(super) struct RingDriver {
    ring: IoUring,
    sockets: Vec<RingSocket>,
    slots: SendSlots,
    buffers: ReceiveBuffers,
    /// Template of every receive: the room for the sender's address and control messages.
    receive: Box<libc::msghdr>,
    bell: Option<(i32, Box<u64>)>,
    bell_armed: bool,
    /// The driver is being dropped: it arms nothing again.
    closing: bool,
    /// Completions copied out of the ring, so that the ring is free during their handling. If a
    /// handler panics, the completions after it stay.
    completed: VecDeque<(u64, i32, u32)>,
    /// Descriptors of removed sockets: open until no queued entry names them, since the kernel
    /// reuses the number of a closed one.
    leaving: Vec<OwnedFd>,
}

#[derive(Debug)]
struct RingSocket {
    /// None after the removal; the place is reused when the kernel has ended its receive.
    fd: Option<OwnedFd>,
    /// The address to which the socket is bound, for datagrams without PKTINFO.
    local: IpAddr,
    receives: bool,
    armed: bool,
    /// Sends that are queued or in the kernel.
    sending: u16,
    /// The send buffer is full: sends that could not leave are parked, in order, and the driver
    /// accepts no more until there is room.
    is_blocked: bool,
    parked: VecDeque<u16>,
    /// The kernel will report room in the send buffer.
    awaited: bool,
}

impl RingSocket {
    /// Removed, and no completion will name this place any more.
    fn is_vacant(&self) -> bool {
        self.fd.is_none() && !self.armed && !self.awaited && self.sending == 0
    }
}

/// The user data of a completion: the kind in the high bits, the socket of a send in the middle,
/// the index in the low bits.
const RECEIVE: u64 = 1 << 32;
const SEND: u64 = 2 << 32;
const BELL: u64 = 3 << 32;
const ROOM: u64 = 4 << 32;
const KIND: u64 = 0xff << 32;

impl std::fmt::Debug for RingDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingDriver")
            .field("sockets", &self.sockets)
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl RingDriver {
    pub(super) fn new(receive_buffers: u16) -> Result<Self, NoRing> {
        let ring = ring::build_thread_ring()?;
        let buffers = ReceiveBuffers::register(&ring, receive_buffers)?;
        // SAFETY: msghdr is integers and raw pointers, for which all zeros is a valid value.
        let mut receive: Box<libc::msghdr> = Box::new(unsafe { std::mem::zeroed() });
        receive.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        receive.msg_controllen = CONTROL_BYTES;
        let slots = SendSlots::new();
        Ok(Self {
            ring,
            sockets: Vec::new(),
            slots,
            buffers,
            receive,
            bell: None,
            bell_armed: false,
            closing: false,
            completed: VecDeque::new(),
            leaving: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, fd: OwnedFd, local: IpAddr, receives: bool) -> SocketId {
        let socket = RingSocket {
            fd: Some(fd),
            local,
            receives,
            armed: false,
            sending: 0,
            is_blocked: false,
            parked: VecDeque::new(),
            awaited: false,
        };
        let vacant = self.sockets.iter().position(RingSocket::is_vacant);
        let index = vacant.unwrap_or(self.sockets.len());
        match self.sockets.get_mut(index) {
            Some(place) => *place = socket,
            None => self.sockets.push(socket),
        }
        SocketId(u16::try_from(index).unwrap_or(u16::MAX))
    }

    pub(super) fn fd(&self, socket: SocketId) -> Option<&OwnedFd> {
        self.sockets.get(usize::from(socket.0))?.fd.as_ref()
    }

    pub(super) fn remove(&mut self, socket: SocketId) {
        let Some(socket) = self.sockets.get_mut(usize::from(socket.0)) else { return };
        let Some(fd) = socket.fd.take() else { return };
        let is_armed = socket.armed || socket.awaited;
        self.slots.unpark(socket.parked.len());
        for slot in std::mem::take(&mut socket.parked) {
            self.slots.release(slot);
        }
        socket.is_blocked = false;
        // Queued sends still leave by this socket.
        let _ = ring::submit_queued(&mut self.ring);
        if is_armed {
            // An armed receive keeps the socket open, and its port occupied, after its descriptor
            // is closed.
            let armed = CancelBuilder::fd(Fd(fd.as_raw_fd())).all();
            // ENOENT: nothing was in flight.
            let _ = self
                .ring
                .submitter()
                .register_sync_cancel(Some(Timespec::from(CANCEL_PATIENCE)), armed);
        }
        self.leaving.push(fd);
        self.close_leaving();
    }

    /// Closes removed sockets, unless entries are still queued: the kernel had no room for them.
    fn close_leaving(&mut self) {
        if self.ring.submission().is_empty() {
            self.leaving.clear();
        }
    }

    pub(super) fn listen_to(&mut self, bell: RawFd) {
        self.bell = Some((bell, Box::new(0)));
        self.arm_bell();
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    pub(super) fn is_blocked(&self, socket: SocketId) -> bool {
        self.sockets.get(usize::from(socket.0)).is_some_and(|socket| socket.is_blocked)
    }

    pub(super) fn send(
        &mut self,
        socket: SocketId,
        to: DatagramTarget,
        from: Option<DatagramSource>,
        bytes: &[u8],
        token: u64,
    ) -> Result<(), SendQueueFull> {
        if self.is_blocked(socket) {
            return Err(SendQueueFull);
        }
        let slot = self.slots.fill_copy(to, from, bytes, token).ok_or(SendQueueFull)?;
        self.queue_send(socket, slot)
    }

    pub(super) fn send_blocks(
        &mut self,
        socket: SocketId,
        to: SocketAddr,
        from: Option<DatagramSource>,
        blocks: &BlockBatch<'_>,
        token: u64,
    ) -> Result<(), SendQueueFull> {
        if self.is_blocked(socket) {
            return Err(SendQueueFull);
        }
        let slot = self.slots.fill_blocks(to, from, blocks, token).ok_or(SendQueueFull)?;
        self.queue_send(socket, slot)
    }

    pub(super) fn run_turn(
        &mut self,
        wait: TurnWait,
        mut on: impl FnMut(UdpCompletion<'_>),
    ) -> io::Result<()> {
        self.arm();
        self.enter(wait)?;
        self.close_leaving();
        self.completed.extend(
            self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())),
        );
        while let Some((user_data, result, flags)) = self.completed.pop_front() {
            self.complete(user_data, result, flags, &mut on);
        }
        self.buffers.publish();
        Ok(())
    }

    fn enter(&mut self, wait: TurnWait) -> io::Result<()> {
        let wait = match wait {
            TurnWait::Poll { poll, then } => match self.poll(poll)? {
                true => TurnWait::No,
                false => then.map_or(TurnWait::Forever, TurnWait::AtMost),
            },
            wait => wait,
        };
        ring::enter_ring(&mut self.ring, wait)
    }

    /// Submits the queued entries, then polls until something has completed (true) or the time is
    /// over. Polling costs no system call but the yield: the kernel raises a flag in the ring's
    /// memory when work waits for this thread.
    fn poll(&mut self, time: Duration) -> io::Result<bool> {
        if !self.ring.submission().is_empty() {
            ring::submit_queued(&mut self.ring)?;
        }
        let until = Instant::now() + time;
        loop {
            if !self.ring.completion().is_empty() || self.ring.submission().taskrun() {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }

    fn complete(
        &mut self,
        user_data: u64,
        result: i32,
        flags: u32,
        on: &mut impl FnMut(UdpCompletion<'_>),
    ) {
        let index = u16::try_from(user_data & 0xffff).unwrap_or(0);
        match user_data & KIND {
            RECEIVE => {
                if !cqueue::more(flags) {
                    // The receive has ended: out of buffers (ENOBUFS), or an error of the network.
                    // The next turn arms it again.
                    if let Some(socket) = self.sockets.get_mut(usize::from(index)) {
                        socket.armed = false;
                    }
                }
                let Some(buffer) = cqueue::buffer_select(flags) else { return };
                if let Ok(len) = usize::try_from(result)
                    && let Some(datagram) = self.datagram(SocketId(index), buffer, len)
                {
                    on(UdpCompletion::Datagram(datagram));
                }
                self.buffers.give_back(buffer);
            }
            SEND => {
                let socket = usize::try_from(user_data >> 16 & 0xffff).unwrap_or(0);
                if let Some(socket) = self.sockets.get_mut(socket) {
                    socket.sending = socket.sending.saturating_sub(1);
                }
                if result == -libc::EAGAIN && self.park(socket, index) {
                    return;
                }
                if let Some(finished) = self.slots.release(index) {
                    let result = if result < 0 {
                        Err(make_send_error(-result, finished.segmented))
                    } else {
                        Ok(())
                    };
                    on(UdpCompletion::Sent { token: finished.token, result });
                }
            }
            BELL => {
                // Clear it first: a handler that panics must not leave it marked as armed.
                self.bell_armed = false;
                self.arm_bell();
                on(UdpCompletion::Woken);
            }
            ROOM if self.send_parked(usize::from(index)) => {
                on(UdpCompletion::Room(SocketId(index)))
            }
            _ => {}
        }
    }

    fn datagram(&self, socket: SocketId, buffer: u16, len: usize) -> Option<ReceivedDatagram<'_>> {
        // The borrow of the buffer's bytes ends before the driver returns the buffer: `on` sees
        // them only inside its call.
        let bytes = self.buffers.bytes(buffer, len);
        let out = RecvMsgOut::parse(bytes, &self.receive).ok()?;
        let truncated = out.is_payload_truncated();
        let (name_at, control_at) =
            (RECV_OUT_BYTES, RECV_OUT_BYTES + self.receive.msg_namelen as usize);
        let payload_at = control_at + CONTROL_BYTES;
        let from = read_socket_name(bytes.get(name_at..control_at)?)?;
        let control_len = out.control_data().len();
        let arrived = control_message::read_control_messages(
            bytes.get(control_at..control_at + control_len)?,
        );
        let bound = self.sockets.get(usize::from(socket.0))?.local;
        Some(ReceivedDatagram {
            socket,
            from,
            local: arrived.local.unwrap_or(bound),
            destination: arrived.destination.unwrap_or(bound),
            interface: arrived.interface,
            bytes: bytes.get(payload_at..payload_at + out.payload_data().len())?,
            truncated,
        })
    }

    /// Parks a send for which its socket has no room. False: the send is lost.
    fn park(&mut self, socket: usize, slot: u16) -> bool {
        let Some(socket) = self.sockets.get_mut(socket).filter(|socket| socket.fd.is_some()) else {
            return false;
        };
        socket.is_blocked = true;
        let is_parked = self.slots.park(socket.parked.len());
        if is_parked {
            socket.parked.push_back(slot);
        }
        is_parked
    }

    /// Sends the parked sends of a socket that has room. False: the socket was removed.
    fn send_parked(&mut self, index: usize) -> bool {
        let Some(socket) = self.sockets.get_mut(index) else { return false };
        (socket.awaited, socket.is_blocked) = (false, false);
        let parked = std::mem::take(&mut socket.parked);
        self.slots.unpark(parked.len());
        for slot in parked {
            if self.push_send(index, slot).is_err() {
                self.slots.release(slot);
            }
        }
        self.sockets.get(index).is_some_and(|socket| socket.fd.is_some())
    }

    /// Arms every operation that should wait and does not: at the start, and after it has ended or
    /// could not be queued.
    fn arm(&mut self) {
        if !self.bell_armed {
            self.arm_bell();
        }
        self.arm_receives();
        self.await_room();
    }

    fn await_room(&mut self) {
        for index in 0..self.sockets.len() {
            let socket = &self.sockets[index];
            let Some(fd) = socket
                .fd
                .as_ref()
                .filter(|_| socket.is_blocked && !socket.awaited && !self.closing)
            else {
                continue;
            };
            let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), libc::POLLOUT as u32)
                .build()
                .user_data(ROOM | index as u64);
            // SAFETY: the entry points to nothing.
            self.sockets[index].awaited = unsafe { self.push(&entry) }.is_ok();
        }
    }

    fn arm_receives(&mut self) {
        for index in 0..self.sockets.len() {
            let socket = &self.sockets[index];
            let Some(fd) =
                socket.fd.as_ref().filter(|_| socket.receives && !socket.armed && !self.closing)
            else {
                continue;
            };
            let entry =
                opcode::RecvMsgMulti::new(Fd(fd.as_raw_fd()), &raw const *self.receive, GROUP)
                    .build()
                    .user_data(RECEIVE | index as u64);
            // SAFETY: the message template is boxed and lives as long as the driver, as do the
            // registered buffers.
            if unsafe { self.push(&entry) }.is_err() {
                return;
            }
            self.sockets[index].armed = true;
        }
    }

    fn arm_bell(&mut self) {
        let Some((fd, buffer)) = self.bell.as_mut().filter(|_| !self.closing) else { return };
        let entry =
            opcode::Read::new(Fd(*fd), (&raw mut **buffer).cast(), 8).build().user_data(BELL);
        // SAFETY: the eight bytes are boxed and live as long as the driver, whose ring is dropped
        // before them.
        self.bell_armed = unsafe { self.push(&entry) }.is_ok();
    }

    /// Whether the kernel may still read or write memory of this driver.
    fn is_lent(&self) -> bool {
        self.in_flight() > 0 || self.bell_armed || self.sockets.iter().any(|socket| socket.armed)
    }

    fn queue_send(&mut self, socket: SocketId, slot: u16) -> Result<(), SendQueueFull> {
        let pushed = self.push_send(usize::from(socket.0), slot);
        if pushed.is_err() {
            self.slots.release(slot);
        }
        pushed
    }

    /// Queues the send of a filled slot. The send never waits in the kernel: a full socket fails
    /// it.
    fn push_send(&mut self, index: usize, slot: u16) -> Result<(), SendQueueFull> {
        let message = self.slots.message(slot).ok_or(SendQueueFull)?;
        let socket = self.sockets.get_mut(index).ok_or(SendQueueFull)?;
        let fd = Fd(socket.fd.as_ref().ok_or(SendQueueFull)?.as_raw_fd());
        let entry = opcode::SendMsg::new(fd, message)
            .flags(libc::MSG_DONTWAIT as u32)
            .build()
            .user_data(SEND | (index as u64) << 16 | u64::from(slot));
        // SAFETY: the message and all it points to lie in the slot (or in content that the slot
        // holds), which stays in place until its completion releases it.
        unsafe { self.push(&entry) }?;
        self.sockets[index].sending += 1;
        Ok(())
    }

    /// Queues an entry; submits a full queue first.
    ///
    /// # Safety
    /// Everything that the entry points to must stay valid until its completion.
    #[inline]
    unsafe fn push(&mut self, entry: &io_uring::squeue::Entry) -> Result<(), SendQueueFull> {
        // SAFETY: the caller's promise is this function's own.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        let _ = ring::submit_queued(&mut self.ring);
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.map_err(|_| SendQueueFull)
    }
}

impl Drop for RingDriver {
    /// Submits the queued entries, cancels operations that do not end by themselves, and waits
    /// until the kernel uses no memory of this driver: the kernel ends a ring asynchronously, when
    /// its owner may have freed everything.
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_millis(200);
        const TURNS_MAX: u32 = 10;
        self.closing = true;
        let _ = self.run_turn(TurnWait::No, |_| {});
        // ENOENT: nothing was in flight.
        let _ = self
            .ring
            .submitter()
            .register_sync_cancel(Some(Timespec::from(PATIENCE)), CancelBuilder::any());
        for _ in 0..TURNS_MAX {
            if !self.is_lent() || self.run_turn(TurnWait::AtMost(PATIENCE), |_| {}).is_err() {
                break;
            }
        }
    }
}

/// Size of `struct io_uring_recvmsg_out`, bytes: four 32-bit words before the address.
const RECV_OUT_BYTES: usize = 16;
