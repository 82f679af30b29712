//! The open connections of a driver, on a ring or on epoll: what each sends, and what to report and
//! do next.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use socket2::SockRef;

use super::event::{ConnectionId, SendBody, TcpEvent};
use super::outgoing::{OutgoingProgress, OutgoingSend, SendStatus, ShortSend};
use crate::engine::limits::{STREAM_INPUT_BYTES, STREAM_KEEPALIVE, STREAM_TURN_BYTES};

#[derive(Debug, Default)]
pub(super) struct ConnectionSlab {
    slots: Vec<ConnectionSlot>,
    free: Vec<u32>,
    /// Results of sends since the last turn.
    reports: Vec<SendReport>,
    /// Connections whose sends can go on; each waits for its turn.
    ready: VecDeque<ConnectionId>,
    /// Connections whose socket is full, for the ring to wait for room. Epoll reports room by
    /// itself.
    pub(super) full: Vec<ConnectionId>,
    /// Connections from which the driver should receive.
    pub(super) inputs: Vec<ConnectionId>,
    short: ShortSend,
}

#[derive(Debug)]
struct ConnectionSlot {
    generation: u32,
    connection: Option<TcpConnection>,
}

#[derive(Debug)]
pub(super) struct TcpConnection {
    socket: OwnedFd,
    outgoing: OutgoingSend,
    /// From [`super::TcpDriver::send`] until the driver has reported its end.
    pub(super) is_sending: bool,
    /// The owner has paused the input.
    pub(super) is_paused: bool,
    /// No further input follows.
    pub(super) has_ended: bool,
    /// The connection is in `inputs`.
    pub(super) is_wanted: bool,
    /// The connection is in `ready`.
    is_ready: bool,
    /// FIN follows the current send.
    shuts_down: bool,
    /// The client has sent at least once, so more is likely: the ring arms a multishot receive
    /// instead of a single one.
    pub(super) has_received: bool,
    /// On the ring: a receive is in the kernel.
    pub(super) is_receiving: bool,
    /// On the ring: a wait for room is in the kernel.
    pub(super) awaits_room: bool,
    /// On epoll: an event announced the end of the input or an error, which a receive will find.
    pub(super) has_hung_up: bool,
}

#[derive(Clone, Copy, Debug)]
struct SendReport {
    id: ConnectionId,
    progress: OutgoingProgress,
    left: u64,
}

/// Sets the options that each connection inherits from its listener.
pub(super) fn prepare_listener(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let options = SockRef::from(listener);
    options.set_tcp_nodelay(true)?;
    options.set_keepalive(true)?;
    let probes =
        socket2::TcpKeepalive::new().with_time(STREAM_KEEPALIVE).with_interval(STREAM_KEEPALIVE);
    options.set_tcp_keepalive(&probes)?;
    options.set_recv_buffer_size(STREAM_INPUT_BYTES)
}

impl ConnectionSlab {
    pub(super) fn new(short: ShortSend) -> Self {
        Self { short, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&TcpConnection> {
        let slot = self.slots.get(id.index())?;
        slot.connection.as_ref().filter(|_| slot.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut TcpConnection> {
        let slot = self.slots.get_mut(id.index())?;
        slot.connection.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// Adds an accepted socket, and reports it. None: the client has already left.
    pub(super) fn accepted(
        &mut self,
        socket: OwnedFd,
        on: &mut impl FnMut(TcpEvent<'_>),
    ) -> Option<ConnectionId> {
        let peer = SockRef::from(&socket).peer_addr().ok()?.as_socket()?;
        let id = self.insert(TcpConnection::new(socket));
        self.want_input(id);
        on(TcpEvent::Accepted { id, peer });
        Some(id)
    }

    fn insert(&mut self, connection: TcpConnection) -> ConnectionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(ConnectionSlot { generation: 0, connection: None });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.connection = Some(connection);
        ConnectionId { index, generation: slot.generation }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<TcpConnection> {
        self.get(id)?;
        self.free.push(id.index);
        self.slots[id.index()].connection.take()
    }

    /// Requests input from the client, unless the owner has paused it; once is enough.
    pub(super) fn want_input(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if !connection.is_wanted && connection.takes_input() {
            connection.is_wanted = true;
            self.inputs.push(id);
        }
    }

    /// The next connection from which to receive now.
    pub(super) fn take_wanted(&mut self, id: ConnectionId) -> Option<&mut TcpConnection> {
        let connection = self.get_mut(id)?;
        connection.is_wanted = false;
        connection.takes_input().then_some(connection)
    }

    /// Reports the end of the input: the client has ended its side (0), or the connection has this
    /// error.
    pub(super) fn end(&mut self, id: ConnectionId, error: i32, on: &mut impl FnMut(TcpEvent<'_>)) {
        let Some(connection) = self.get_mut(id) else { return };
        if !std::mem::replace(&mut connection.has_ended, true) {
            on(TcpEvent::Ended { id, is_reset: error != 0 && !is_shortage(error) });
        }
    }

    /// Notes that the socket has room again, or an error that the next try will find.
    pub(super) fn has_room(&mut self, id: ConnectionId) {
        if self.get(id).is_some_and(|connection| connection.outgoing.left() > 0) {
            self.make_ready(id);
        }
    }

    pub(super) fn send(
        &mut self,
        id: ConnectionId,
        head: &[u8],
        body: SendBody,
        more_to_come: bool,
    ) {
        let short = self.short;
        let Some(connection) = self.get_mut(id) else { return };
        debug_assert!(!connection.is_sending, "one send at a time");
        connection.is_sending = true;
        let progress =
            connection.outgoing.begin(connection.socket.as_fd(), head, body, more_to_come, short);
        let left = connection.after(progress);
        if progress.bytes > 0 || !matches!(progress.next, SendStatus::Full) {
            self.reports.push(SendReport { id, progress, left });
        }
        self.queue(id, progress.next);
    }

    /// Reports the results of sends. Returns whether there was one, or a send waits for its turn.
    pub(super) fn report(&mut self, on: &mut impl FnMut(TcpEvent<'_>)) -> bool {
        let mut reports = std::mem::take(&mut self.reports);
        let has_told = !reports.is_empty();
        for SendReport { id, progress, left } in reports.drain(..) {
            self.tell(id, progress, left, on);
        }
        self.reports = reports;
        has_told || !self.ready.is_empty()
    }

    /// Continues sends that have room: one step each, in order, until the turn has sent its share.
    pub(super) fn go_on(&mut self, on: &mut impl FnMut(TcpEvent<'_>)) {
        let (mut budget, short) = (STREAM_TURN_BYTES, self.short);
        for _ in 0..self.ready.len() {
            if budget == 0 {
                break;
            }
            let Some(id) = self.ready.pop_front() else { break };
            let Some(connection) = self.get_mut(id) else { continue };
            connection.is_ready = false;
            let progress = connection.outgoing.go_on(connection.socket.as_fd(), short);
            let left = connection.after(progress);
            self.queue(id, progress.next);
            budget = budget.saturating_sub(progress.bytes);
            self.tell(id, progress, left, on);
        }
    }

    fn queue(&mut self, id: ConnectionId, next: SendStatus) {
        match next {
            SendStatus::More => self.make_ready(id),
            SendStatus::Full => self.full.push(id),
            SendStatus::Done | SendStatus::Failed(_) => {}
        }
    }

    fn make_ready(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if !std::mem::replace(&mut connection.is_ready, true) {
            self.ready.push_back(id);
        }
    }

    fn tell(
        &mut self,
        id: ConnectionId,
        progress: OutgoingProgress,
        left: u64,
        on: &mut impl FnMut(TcpEvent<'_>),
    ) {
        let Some(connection) = self.get_mut(id) else { return };
        let bytes = progress.bytes;
        match progress.next {
            SendStatus::Failed(why) => {
                connection.is_sending = false;
                on(TcpEvent::SendFailed { id, why });
            }
            SendStatus::Done => {
                connection.is_sending = false;
                on(TcpEvent::Sent { id, bytes, left });
            }
            SendStatus::More | SendStatus::Full if bytes > 0 => {
                on(TcpEvent::Sent { id, bytes, left })
            }
            // A step that sent nothing is no news: the send goes on by itself.
            SendStatus::More | SendStatus::Full => {}
        }
    }

    pub(super) fn shutdown_write(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.shuts_down = true;
        if connection.outgoing.left() == 0 {
            connection.shutdown();
        }
    }
}

impl TcpConnection {
    fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            outgoing: OutgoingSend::default(),
            is_sending: false,
            is_paused: false,
            has_ended: false,
            is_wanted: false,
            is_ready: false,
            shuts_down: false,
            has_received: false,
            is_receiving: false,
            awaits_room: false,
            has_hung_up: false,
        }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// A send has finished, and the driver has not reported it yet.
    pub(super) fn has_news(&self) -> bool {
        self.is_sending && self.outgoing.left() == 0
    }

    fn takes_input(&self) -> bool {
        !self.is_paused && !self.has_ended && !self.is_receiving
    }

    /// Handles the result of a try to send; `left`: bytes that remain.
    fn after(&mut self, progress: OutgoingProgress) -> u64 {
        if progress.next == SendStatus::Done && self.shuts_down {
            self.shutdown();
        }
        self.outgoing.left()
    }

    fn shutdown(&self) {
        // ENOTCONN: the client has closed first.
        let _ = SockRef::from(&self.socket).shutdown(Shutdown::Write);
    }

    pub(super) fn local(&self) -> Option<SocketAddr> {
        SockRef::from(&self.socket).local_addr().ok()?.as_socket()
    }

    /// None: the connection is broken.
    pub(super) fn unacknowledged(&self) -> Option<u64> {
        let bytes = self.bytes_of(libc::TIOCOUTQ);
        // After a reset the kernel no longer updates the count.
        (bytes == 0 || !self.is_broken()).then_some(bytes)
    }

    pub(super) fn has_unread(&self) -> bool {
        self.bytes_of(libc::FIONREAD) > 0
    }

    fn bytes_of(&self, request: libc::Ioctl) -> u64 {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is open, and both requests that are made here (TIOCOUTQ, FIONREAD)
        // write one int.
        let answer = unsafe { libc::ioctl(self.fd(), request, &raw mut bytes) };
        if answer == 0 { u64::try_from(bytes).unwrap_or(0) } else { 0 }
    }

    fn is_broken(&self) -> bool {
        /// `tcpi_state` of a connection that was reset or has run into its last timeout
        /// (TCP_CLOSE).
        const CLOSED: u8 = 7;
        let mut state = 0u8;
        let mut len: libc::socklen_t = 1;
        // SAFETY: the kernel writes at most `len` bytes, which is one, the state with which
        // tcp_info begins; both live across the call.
        let answer = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::IPPROTO_TCP,
                libc::TCP_INFO,
                (&raw mut state).cast(),
                &raw mut len,
            )
        };
        answer == 0 && state == CLOSED
    }

    pub(super) fn discard_on_close(&self) {
        // It cannot fail on a socket.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }

    pub(super) fn pace(&self, bytes_per_second: Option<NonZeroU64>) {
        let rate = bytes_per_second.map_or(u64::MAX, NonZeroU64::get);
        // SAFETY: the kernel reads the eight bytes of `rate`, which live across the call. It cannot
        // fail on a TCP socket.
        let _ = unsafe {
            libc::setsockopt(
                self.fd(),
                libc::SOL_SOCKET,
                libc::SO_MAX_PACING_RATE,
                (&raw const rate).cast(),
                size_of::<u64>() as libc::socklen_t,
            )
        };
    }
}

/// The reaction to a failed accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcceptFailure {
    /// No client waits.
    Nobody,
    /// The waiting client has left, or its network is down: try the next one (accept(2)).
    Next,
    /// Pause: the next try would fail too, because of a shortage or a filter.
    Pause,
}

pub(super) fn judge_accept(error: i32) -> AcceptFailure {
    match error {
        libc::EAGAIN => AcceptFailure::Nobody,
        libc::EINTR
        | libc::ECONNABORTED
        | libc::EPROTO
        | libc::ENETDOWN
        | libc::ENETUNREACH
        | libc::EHOSTDOWN
        | libc::EHOSTUNREACH
        | libc::ENONET => AcceptFailure::Next,
        _ => AcceptFailure::Pause,
    }
}

/// Whether an error is a shortage and no fault.
fn is_shortage(error: i32) -> bool {
    matches!(error, libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
}

/// Joins the kind of an event and the connection into the one number that the kernel returns.
pub(super) fn join_event_key(kind: u8, id: ConnectionId) -> u64 {
    u64::from(kind) << 56 | u64::from(id.index & INDEX_MAX) << 32 | u64::from(id.generation)
}

/// Splits a number that [`key`] has joined.
pub(super) fn split_event_key(key: u64) -> (u8, ConnectionId) {
    let id = ConnectionId { index: (key >> 32) as u32 & INDEX_MAX, generation: key as u32 };
    ((key >> 56) as u8, id)
}

/// Far more connections than a process may have descriptors.
const INDEX_MAX: u32 = (1 << 24) - 1;
