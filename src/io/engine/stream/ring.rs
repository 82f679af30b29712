//! Connections on io_uring: accepts and receives stay armed in the kernel, which fills buffers of
//! its choice; one enter per turn.
//!
//! The kernel uses only the receive buffers, which are one block for all connections, and the eight
//! bytes of the bell. So the driver can close a connection and reuse its place at any time: a late
//! completion carries the old connection's number, and at most returns a buffer.

use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use socket2::SockRef;

use super::connections::{
    AcceptFailure, ConnectionSlab, TcpConnection, join_event_key, judge_accept, split_event_key,
};
use super::event::{ConnectionId, TcpEvent};
use crate::engine::buffers::{GROUP, ReceiveBuffers};
use crate::engine::limits::{ACCEPT_PAUSE, RECEIVE_BUFFERS, STREAM_COMPLETIONS_MAX};
use crate::engine::ring::{self, NoRing};
use crate::engine::wait::TurnWait;

/// Field order is drop order: the ring goes before the memory that the kernel uses.
pub(super) struct TcpRing {
    ring: IoUring,
    buffers: ReceiveBuffers,
    bell: Option<(RawFd, Box<u64>)>,
    is_bell_armed: bool,
    listeners: Vec<RingListener>,
    /// Number of the next listener.
    next_listener: u32,
    /// After a shortage: when to accept again.
    paused_until: Option<Instant>,
    /// Receives in the kernel.
    receiving: usize,
    /// The driver is being dropped: it arms nothing again.
    is_closing: bool,
    /// Completions copied out of the ring, so that the ring is free during their handling.
    completed: Vec<(u64, i32, u32)>,
    overflows: u64,
}

struct RingListener {
    socket: TcpListener,
    number: u32,
    is_armed: bool,
}

/// The operation of a completion.
const ACCEPT: u8 = 1;
const RECEIVE: u8 = 2;
const ROOM: u8 = 3;
const BELL: u8 = 4;
const CANCEL: u8 = 5;

/// The number of an operation that belongs to no connection.
const NOBODY: ConnectionId = ConnectionId { index: 0, generation: 0 };

impl std::fmt::Debug for TcpRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TcpRing").field("receiving", &self.receiving).finish_non_exhaustive()
    }
}

impl TcpRing {
    pub(super) fn new() -> Result<Self, NoRing> {
        let ring = ring::build_sized_ring(STREAM_COMPLETIONS_MAX)?;
        let buffers = ReceiveBuffers::register(&ring, RECEIVE_BUFFERS)?;
        Ok(Self {
            ring,
            buffers,
            bell: None,
            is_bell_armed: false,
            listeners: Vec::new(),
            next_listener: 0,
            paused_until: None,
            receiving: 0,
            is_closing: false,
            completed: Vec::new(),
            overflows: 0,
        })
    }

    pub(super) fn listen(&mut self, socket: TcpListener) {
        self.listeners.push(RingListener { socket, number: self.next_listener, is_armed: false });
        self.next_listener += 1;
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &TcpListener> {
        self.listeners.iter().map(|listener| &listener.socket)
    }

    /// The accepts end by themselves on a shut-down socket.
    pub(super) fn stop_listening(&mut self) {
        for listener in self.listeners.drain(..) {
            let _ = SockRef::from(&listener.socket).shutdown(Shutdown::Both);
        }
    }

    pub(super) fn listen_to(&mut self, bell: RawFd) {
        self.bell = Some((bell, Box::new(0)));
        self.arm_bell();
    }

    pub(super) fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Cancels a receive that is in the kernel.
    pub(super) fn stop_receiving(&mut self, id: ConnectionId, connection: &TcpConnection) {
        if connection.is_receiving {
            self.cancel(join_event_key(RECEIVE, id));
        }
    }

    /// An operation in the kernel keeps the socket open, although its descriptor is closed.
    pub(super) fn forget(&mut self, id: ConnectionId, connection: &TcpConnection) {
        self.stop_receiving(id, connection);
        if connection.awaits_room {
            self.cancel(join_event_key(ROOM, id));
        }
    }

    /// Queues the operations that the kernel should do. Call it before the reports: a caller that
    /// learns that a response has left may close the connection, and then a receive would have been
    /// armed for nothing.
    pub(super) fn arm(&mut self, connections: &mut ConnectionSlab) {
        self.arm_accepts();
        self.arm_receives(connections);
        self.arm_room(connections);
    }

    pub(super) fn run_turn(
        &mut self,
        connections: &mut ConnectionSlab,
        wait: TurnWait,
        on: &mut impl FnMut(TcpEvent<'_>),
    ) -> io::Result<()> {
        self.enter(self.no_longer_than_the_pause(wait))?;
        let mut completed = std::mem::take(&mut self.completed);
        completed.extend(
            self.ring.completion().map(|entry| (entry.user_data(), entry.result(), entry.flags())),
        );
        for (user_data, result, flags) in completed.drain(..) {
            self.complete(connections, user_data, result, flags, on);
        }
        self.completed = completed;
        self.buffers.publish();
        Ok(())
    }

    fn no_longer_than_the_pause(&self, wait: TurnWait) -> TurnWait {
        let Some(until) = self.paused_until else { return wait };
        let pause = until.saturating_duration_since(Instant::now());
        match wait {
            TurnWait::No => TurnWait::No,
            TurnWait::AtMost(time) | TurnWait::Poll { then: Some(time), .. } => {
                TurnWait::AtMost(time.min(pause))
            }
            TurnWait::Forever | TurnWait::Poll { then: None, .. } => TurnWait::AtMost(pause),
        }
    }

    fn enter(&mut self, wait: TurnWait) -> io::Result<()> {
        let submission = self.ring.submission();
        let (is_empty, has_work, overflows) =
            (submission.is_empty(), submission.taskrun(), submission.cq_overflow());
        drop(submission);
        self.overflows += u64::from(overflows);
        if wait == TurnWait::No && is_empty && !has_work && !overflows {
            return Ok(());
        }
        ring::enter_ring(&mut self.ring, wait)
    }

    fn complete(
        &mut self,
        connections: &mut ConnectionSlab,
        user_data: u64,
        result: i32,
        flags: u32,
        on: &mut impl FnMut(TcpEvent<'_>),
    ) {
        let (kind, id) = split_event_key(user_data);
        match kind {
            ACCEPT => self.accepted(connections, id.index, result, flags, on),
            RECEIVE => self.received(connections, id, result, flags, on),
            ROOM => {
                if let Some(connection) = connections.get_mut(id) {
                    connection.awaits_room = false;
                    connections.has_room(id);
                }
            }
            BELL => {
                // The read has reset the eventfd and is over: without another one, the next ring is
                // missed.
                self.is_bell_armed = false;
                self.arm_bell();
                on(TcpEvent::Woken);
            }
            // A cancellation: it found nothing to cancel.
            _ => {}
        }
    }

    fn accepted(
        &mut self,
        connections: &mut ConnectionSlab,
        number: u32,
        result: i32,
        flags: u32,
        on: &mut impl FnMut(TcpEvent<'_>),
    ) {
        if !cqueue::more(flags)
            && let Some(listener) =
                self.listeners.iter_mut().find(|listener| listener.number == number)
        {
            listener.is_armed = false;
        }
        if result >= 0 {
            // SAFETY: the kernel has just given us this descriptor in an accept's completion, and
            // nobody else knows it.
            let socket = unsafe { OwnedFd::from_raw_fd(result) };
            connections.accepted(socket, on);
        } else if judge_accept(-result) == AcceptFailure::Pause
            && result != -libc::ECANCELED
            && !self.listeners.is_empty()
        {
            self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
            on(TcpEvent::AcceptFailed(-result));
        }
    }

    fn received(
        &mut self,
        connections: &mut ConnectionSlab,
        id: ConnectionId,
        result: i32,
        flags: u32,
        on: &mut impl FnMut(TcpEvent<'_>),
    ) {
        let has_finished = !cqueue::more(flags);
        self.receiving -= usize::from(has_finished);

        // The connection may have been closed meanwhile: then only the buffer goes back.
        if let Some(connection) = connections.get_mut(id) {
            connection.is_receiving &= !has_finished;
            if let (Ok(len @ 1..), Some(buffer)) =
                (usize::try_from(result), cqueue::buffer_select(flags))
            {
                connection.has_received = true;
                on(TcpEvent::Received { id, bytes: self.buffers.bytes(buffer, len) });
            } else if !matches!(
                -result,
                libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN
            ) {
                connections.end(id, -result.min(0), on);
            }
            if has_finished {
                connections.want_input(id);
            }
        }

        if let Some(buffer) = cqueue::buffer_select(flags) {
            self.buffers.give_back(buffer);
        }
    }

    fn arm_accepts(&mut self) {
        if self.paused_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.paused_until = None;
        for place in 0..self.listeners.len() {
            let RingListener { socket, number, is_armed: false } = &self.listeners[place] else {
                continue;
            };
            let entry = opcode::AcceptMulti::new(Fd(socket.as_raw_fd()))
                .flags(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
            let entry = entry
                .build()
                .user_data(join_event_key(ACCEPT, ConnectionId { index: *number, generation: 0 }));
            // SAFETY: the entry has no pointer.
            self.listeners[place].is_armed = unsafe { self.push(&entry) };
        }
    }

    /// The first receive of a connection is a single one: many clients send one request, and the
    /// driver then has nothing to cancel at the close. Further receives are multishot and stay
    /// armed.
    fn arm_receives(&mut self, connections: &mut ConnectionSlab) {
        let mut inputs = std::mem::take(&mut connections.inputs);
        inputs.retain(|id| {
            let Some(connection) = connections.take_wanted(*id) else { return false };
            if connection.has_news() {
                connection.is_wanted = true;
                return true;
            }
            let fd = Fd(connection.fd());
            let entry = if connection.has_received {
                opcode::RecvMulti::new(fd, GROUP).build()
            } else {
                opcode::Recv::new(fd, std::ptr::null_mut(), 0)
                    .buf_group(GROUP)
                    .build()
                    .flags(Flags::BUFFER_SELECT)
            };
            // SAFETY: the entry names buffers of the group, which are registered and live as long
            // as the ring.
            connection.is_receiving =
                unsafe { self.push(&entry.user_data(join_event_key(RECEIVE, *id))) };
            self.receiving += usize::from(connection.is_receiving);
            connection.is_wanted = !connection.is_receiving;
            connection.is_wanted
        });
        connections.inputs = inputs;
    }

    fn arm_room(&mut self, connections: &mut ConnectionSlab) {
        let mut full = std::mem::take(&mut connections.full);
        full.retain(|id| {
            let Some(connection) =
                connections.get_mut(*id).filter(|connection| !connection.awaits_room)
            else {
                return false;
            };
            let entry = opcode::PollAdd::new(Fd(connection.fd()), libc::POLLOUT as u32).build();
            // SAFETY: the entry has no pointer.
            connection.awaits_room =
                unsafe { self.push(&entry.user_data(join_event_key(ROOM, *id))) };
            !connection.awaits_room
        });
        connections.full = full;
    }

    fn arm_bell(&mut self) {
        let Some((fd, count)) = self.bell.as_mut().filter(|_| !self.is_closing) else { return };
        let entry =
            opcode::Read::new(Fd(*fd), (&raw mut **count).cast(), size_of::<u64>() as u32).build();
        // SAFETY: the eight bytes are boxed and live as long as the driver, whose ring is dropped
        // before them.
        self.is_bell_armed = unsafe { self.push(&entry.user_data(join_event_key(BELL, NOBODY))) };
    }

    /// Its completion, if any, says that there was nothing to cancel.
    fn cancel(&mut self, key_of_it: u64) {
        let entry = opcode::AsyncCancel::new(key_of_it).build().flags(Flags::SKIP_SUCCESS);
        // SAFETY: the entry has no pointer.
        unsafe { self.push(&entry.user_data(join_event_key(CANCEL, NOBODY))) };
    }

    /// Queues an entry; submits a full queue first. False: the queue has no place.
    ///
    /// # Safety
    /// Everything that the entry points to must stay valid until its completion.
    unsafe fn push(&mut self, entry: &Entry) -> bool {
        // SAFETY: the caller's promise is this function's own.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return true;
        }
        let _ = self.ring.submit();
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Whether the kernel may still write to memory of this driver.
    pub(super) fn is_lent(&self) -> bool {
        self.receiving > 0 || self.is_bell_armed
    }

    /// Cancels all operations in the kernel. Closes connections that were accepted meanwhile.
    pub(super) fn settle(&mut self) {
        const PATIENCE: Duration = Duration::from_millis(200);
        const TURNS_MAX: u32 = 10;
        self.is_closing = true;
        self.stop_listening();
        let _ = self.enter(TurnWait::No);
        // ENOENT: nothing was in flight.
        let _ = self
            .ring
            .submitter()
            .register_sync_cancel(Some(Timespec::from(PATIENCE)), CancelBuilder::any());
        let mut nobody = ConnectionSlab::default();
        for _ in 0..TURNS_MAX {
            if !self.is_lent()
                || self.run_turn(&mut nobody, TurnWait::AtMost(PATIENCE), &mut |_| {}).is_err()
            {
                break;
            }
        }
    }
}

impl Drop for TcpRing {
    /// The kernel ends a ring asynchronously, when its owner may have freed everything.
    fn drop(&mut self) {
        self.settle();
    }
}
