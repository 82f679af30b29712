//! Connections on epoll, for kernels that refuse a ring: edge-triggered events report changes,
//! plain system calls do the rest.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use super::connections::{
    AcceptFailure, ConnectionSlab, join_event_key, judge_accept, split_event_key,
};
use super::event::{ConnectionId, TcpEvent};
use crate::engine::limits::{ACCEPT_PAUSE, ACCEPTS_PER_TURN};
use crate::engine::ring::ride_out_error;
use crate::engine::wait::TurnWait;

#[derive(Debug)]
pub(super) struct TcpEpoll {
    epoll: OwnedFd,
    bell: Option<RawFd>,
    listeners: Vec<EpollListener>,
    /// After a shortage: when to accept again.
    paused_until: Option<Instant>,
    buffer: Box<[u8]>,
    /// Buffer for the events of one wait.
    events: Vec<libc::epoll_event>,
}

#[derive(Debug)]
struct EpollListener {
    socket: TcpListener,
    /// A client may be waiting.
    is_ready: bool,
}

/// Bytes received from one connection in a turn.
const RECEIVE_BYTES: usize = 16 * 1024;
/// Events of one wait.
const EVENTS_MAX: usize = 1024;

/// The subject of an event.
const LISTENER: u8 = 1;
const CONNECTION: u8 = 2;
const BELL: u8 = 3;

impl TcpEpoll {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            epoll,
            bell: None,
            listeners: Vec::new(),
            paused_until: None,
            buffer: vec![0; RECEIVE_BYTES].into_boxed_slice(),
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    pub(super) fn listen(&mut self, socket: TcpListener) -> io::Result<()> {
        let index = u32::try_from(self.listeners.len()).unwrap_or(u32::MAX);
        let once = libc::EPOLLIN | libc::EPOLLET;
        self.watch(
            socket.as_raw_fd(),
            once,
            join_event_key(LISTENER, ConnectionId { index, generation: 0 }),
        )?;
        self.listeners.push(EpollListener { socket, is_ready: true });
        Ok(())
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = &TcpListener> {
        self.listeners.iter().map(|listener| &listener.socket)
    }

    pub(super) fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    pub(super) fn listen_to(&mut self, bell: RawFd) -> io::Result<()> {
        self.watch(
            bell,
            libc::EPOLLIN,
            join_event_key(BELL, ConnectionId { index: 0, generation: 0 }),
        )?;
        self.bell = Some(bell);
        Ok(())
    }

    pub(super) fn run_turn(
        &mut self,
        connections: &mut ConnectionSlab,
        wait: TurnWait,
        on: &mut impl FnMut(TcpEvent<'_>),
    ) -> io::Result<()> {
        // Epoll reports room without a request.
        connections.full.clear();
        let timeout = self.timeout(connections, wait);
        self.wait(timeout)?;
        for place in 0..self.events.len() {
            let libc::epoll_event { events, u64: user_data } = self.events[place];
            let (kind, id) = split_event_key(user_data);
            match kind {
                CONNECTION => note_epoll_event(connections, id, events.cast_signed()),
                LISTENER => {
                    if let Some(listener) = self.listeners.get_mut(id.index()) {
                        listener.is_ready = true;
                    }
                }
                _ => {
                    self.silence();
                    on(TcpEvent::Woken);
                }
            }
        }
        self.receive(connections, on);
        self.accept(connections, on);
        Ok(())
    }

    /// Milliseconds to wait; 0 if the turn before left work.
    fn timeout(&mut self, connections: &ConnectionSlab, wait: TurnWait) -> i32 {
        let now = self.paused_until.map(|_| Instant::now());
        self.paused_until = self.paused_until.filter(|until| now < Some(*until));
        let has_guests =
            self.paused_until.is_none() && self.listeners.iter().any(|listener| listener.is_ready);
        let pause = self.paused_until.zip(now).map(|(until, now)| until - now);
        let time = match wait {
            TurnWait::No => return 0,
            _ if has_guests || !connections.inputs.is_empty() => return 0,
            TurnWait::AtMost(time) => Some(pause.map_or(time, |pause| time.min(pause))),
            TurnWait::Forever | TurnWait::Poll { then: None, .. } => pause,
            TurnWait::Poll { then: Some(time), .. } => {
                Some(pause.map_or(time, |pause| time.min(pause)))
            }
        };
        // Round up: a wait that ends too early causes a useless turn.
        time.map_or(-1, |time| i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX))
    }

    fn wait(&mut self, timeout: i32) -> io::Result<()> {
        self.events.clear();
        let room = self.events.capacity() as i32;
        // SAFETY: the vector has room for as many events as are asked for, and lives across the
        // call.
        let answer = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, timeout)
        };
        match usize::try_from(answer) {
            Ok(count) => {
                // SAFETY: the kernel has filled so many events, no more than there is room for.
                unsafe { self.events.set_len(count) };
                Ok(())
            }
            Err(_) => ride_out_error(Err(io::Error::last_os_error())),
        }
    }

    /// Receives once from each connection that may have input.
    fn receive(&mut self, connections: &mut ConnectionSlab, on: &mut impl FnMut(TcpEvent<'_>)) {
        let inputs = std::mem::take(&mut connections.inputs);
        for id in &inputs {
            let Some(connection) = connections.take_wanted(*id) else { continue };
            let (fd, has_hung_up) = (connection.fd(), connection.has_hung_up);
            // SAFETY: the kernel writes at most the buffer's length into it; it lives across the
            // call.
            let answer = unsafe {
                libc::recv(
                    fd,
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(answer) {
                Ok(len @ 1..) => {
                    on(TcpEvent::Received {
                        id: *id,
                        bytes: &self.buffer[..len.min(RECEIVE_BYTES)],
                    });
                    if len == RECEIVE_BYTES || has_hung_up {
                        connections.want_input(*id);
                    }
                }
                Ok(0) => connections.end(*id, 0, on),
                Err(_) => match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
                    libc::EAGAIN => {}
                    libc::EINTR => connections.want_input(*id),
                    error => connections.end(*id, error, on),
                },
            }
        }
        if connections.inputs.is_empty() {
            // Reuse the memory.
            connections.inputs = inputs;
            connections.inputs.clear();
        }
    }

    fn accept(&mut self, connections: &mut ConnectionSlab, on: &mut impl FnMut(TcpEvent<'_>)) {
        for place in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.listeners[place].is_ready || self.paused_until.is_some() {
                    break;
                }
                self.accept_one(place, connections, on);
            }
        }
    }

    fn accept_one(
        &mut self,
        place: usize,
        connections: &mut ConnectionSlab,
        on: &mut impl FnMut(TcpEvent<'_>),
    ) {
        let listener = &mut self.listeners[place];
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let nowhere = std::ptr::null_mut();
        // SAFETY: no address is asked for, so the null pointers are never written to.
        let answer =
            unsafe { libc::accept4(listener.socket.as_raw_fd(), nowhere, nowhere.cast(), flags) };
        if answer < 0 {
            let error = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            match judge_accept(error) {
                AcceptFailure::Nobody => listener.is_ready = false,
                AcceptFailure::Next => {}
                AcceptFailure::Pause => {
                    self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                    on(TcpEvent::AcceptFailed(error));
                }
            }
            return;
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(answer) };
        let Some(id) = connections.accepted(socket, on) else { return };
        let all = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
        if self.watch(answer, all, join_event_key(CONNECTION, id)).is_err() {
            // The kernel has no memory for the watch (or a limit, epoll(7)): without events the
            // connection must end.
            connections.end(id, libc::ENOTCONN, on);
        }
    }

    fn watch(&self, fd: RawFd, events: i32, user_data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: user_data };
        // SAFETY: the kernel reads the event, which lives across the call. A descriptor that is
        // closed leaves by itself.
        let answer = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event)
        };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Resets the bell, so that the driver can wait for it again.
    fn silence(&self) {
        let Some(bell) = self.bell else { return };
        let mut count = [0u8; 8];
        // SAFETY: the descriptor is an open eventfd that has rung, and eight bytes are written to
        // `count`.
        let _ = unsafe { libc::read(bell, count.as_mut_ptr().cast(), count.len()) };
    }
}

/// Handles an event of a connection.
fn note_epoll_event(connections: &mut ConnectionSlab, id: ConnectionId, events: i32) {
    let Some(connection) = connections.get_mut(id) else { return };
    const END: i32 = libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR;
    connection.has_hung_up |= events & END != 0;
    if events & (libc::EPOLLIN | END) != 0 {
        connections.want_input(id);
    }
    if events & (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) != 0 {
        connections.has_room(id);
    }
}
