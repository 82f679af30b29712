//! The UDP driver on io_uring: multishot receives into the kernel's choice of buffers, batched sends, one enter per batch.

// Kernel constants, struct sizes and in-range offsets go into the widths that the ABI wants.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, Timespec};
use io_uring::{IoUring, cqueue, opcode};

use super::{Blocks, Completion, Datagram, Full, SocketId, Source, Target, Wait, read_name, send_error};
use crate::engine::buffers::{Buffers, GROUP};
use crate::engine::control_message::{self, CONTROL_BYTES};
use crate::engine::ring::{self, NoRing};
use crate::engine::slot::Slots;

/// How long an operation of a socket that is taken away may take to end.
const CANCEL_PATIENCE: Duration = Duration::from_millis(200);

/// One core's ring with its sockets. Field order is drop order: the ring goes before the memory that the kernel was lent.
pub(super) struct RingDriver {
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

impl std::fmt::Debug for RingDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingDriver").field("sockets", &self.sockets).field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl RingDriver {
    pub(super) fn new(receive_buffers: u16) -> Result<Self, NoRing> {
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

    pub(super) fn add(&mut self, fd: OwnedFd, local: IpAddr, receives: bool) -> SocketId {
        let socket = Socket { fd: Some(fd), local, receives, armed: false };
        let vacant = self.sockets.iter().position(|socket| socket.fd.is_none() && !socket.armed);
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
        let Some(fd) = self.sockets.get_mut(usize::from(socket.0)).and_then(|socket| socket.fd.take()) else { return };
        // A receive that is armed keeps the socket open, and its port taken, after its descriptor is closed.
        let armed = CancelBuilder::fd(Fd(fd.as_raw_fd())).all();
        // ENOENT: nothing was in flight.
        let _ = self.ring.submitter().register_sync_cancel(Some(Timespec::from(CANCEL_PATIENCE)), armed);
    }

    pub(super) fn listen_to(&mut self, bell: RawFd) {
        self.bell = Some((bell, Box::new(0)));
        self.arm_bell();
    }

    pub(super) fn in_flight(&self) -> usize {
        self.slots.in_flight()
    }

    pub(super) fn send(
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

    pub(super) fn send_blocks(
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

    pub(super) fn turn(&mut self, wait: Wait, mut on: impl FnMut(Completion<'_>)) -> io::Result<()> {
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
        let wait = match wait {
            Wait::Poll { poll, then } => match self.poll(poll)? {
                true => Wait::No,
                false => then.map_or(Wait::Forever, Wait::AtMost),
            },
            wait => wait,
        };
        ring::enter(&mut self.ring, wait)
    }

    /// Submits what is queued, then looks until something has completed (true) or the time is over. Looking costs no system call
    /// but the one that gives way: the kernel raises a flag in the ring's memory when work waits for this thread.
    fn poll(&mut self, time: Duration) -> io::Result<bool> {
        if !self.ring.submission().is_empty() {
            self.ring.submit()?;
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
    #[inline]
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

impl Drop for RingDriver {
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
