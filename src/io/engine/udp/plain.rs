//! The UDP driver without a ring: epoll reports ready sockets, recvmmsg and sendmmsg move batches.

// Casts give kernel constants, struct sizes and in-range offsets the widths of the ABI.
#![allow(clippy::cast_possible_truncation)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use super::completion::{
    ReceivedDatagram, SendQueueFull, SocketId, UdpCompletion, make_send_error,
};
use crate::engine::address::{DatagramSource, DatagramTarget};
use crate::engine::limits::{RECEIVE_BATCH, RECEIVE_BATCHES_MAX, RECEIVED_BYTES_MAX};
use crate::engine::mailbox::MailboxBell;
use crate::engine::mmsg::DatagramInbox;
use crate::engine::ring::ride_out_error;
use crate::engine::slot::{BlockBatch, SendSlots};
use crate::engine::wait::TurnWait;

/// One core's sockets, and their queued sends.
pub(super) struct PlainDriver {
    epoll: OwnedFd,
    sockets: Vec<PlainSocket>,
    slots: SendSlots,
    inbox: DatagramInbox,
    bell: Option<MailboxBell>,
    bell_watched: bool,
}

struct PlainSocket {
    /// None after the removal; the place is reused.
    fd: Option<OwnedFd>,
    /// The address to which the socket is bound, for datagrams without PKTINFO.
    local: IpAddr,
    receives: bool,
    /// The events that epoll watches now.
    watched: i32,
    /// Messages of `slots`, in sending order.
    queued: Vec<libc::mmsghdr>,
    slots: Vec<u16>,
    /// The socket is full: epoll reports when it has room. The queued sends are parked, and the
    /// driver accepts no more.
    is_blocked: bool,
}

/// The data of an epoll event: a socket's place, or this number for the bell.
const BELL: u64 = u64::MAX;
/// Events of one epoll_wait; the rest follows in the next turn.
const EVENTS_MAX: usize = 64;
/// How long a turn sleeps at most while epoll does not watch every socket: the kernel has no memory
/// for a watch, or the user has too many.
const UNWATCHED_SLEEP: Duration = Duration::from_millis(20);

impl std::fmt::Debug for PlainDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlainDriver")
            .field("sockets", &self.sockets.len())
            .field("slots", &self.slots)
            .finish_non_exhaustive()
    }
}

impl PlainDriver {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 takes no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        let inbox = DatagramInbox::new(RECEIVE_BATCH, RECEIVED_BYTES_MAX);
        Ok(Self {
            epoll,
            sockets: Vec::new(),
            slots: SendSlots::new(),
            inbox,
            bell: None,
            bell_watched: false,
        })
    }

    pub(super) fn add(&mut self, fd: OwnedFd, local: IpAddr, receives: bool) -> SocketId {
        let vacant = self.sockets.iter().position(|socket| socket.fd.is_none());
        let index = vacant.unwrap_or(self.sockets.len());
        let (queued, slots) = (Vec::new(), Vec::new());
        let socket = PlainSocket {
            fd: Some(fd),
            local,
            receives,
            watched: 0,
            queued,
            slots,
            is_blocked: false,
        };
        match self.sockets.get_mut(index) {
            Some(place) => *place = socket,
            None => self.sockets.push(socket),
        }
        // If the kernel refuses, the next turn tries again.
        self.follow_watch(index);
        SocketId(u16::try_from(index).unwrap_or(u16::MAX))
    }

    pub(super) fn fd(&self, socket: SocketId) -> Option<&OwnedFd> {
        self.sockets.get(usize::from(socket.0))?.fd.as_ref()
    }

    pub(super) fn remove(&mut self, socket: SocketId) {
        let Some(socket) = self.sockets.get_mut(usize::from(socket.0)) else { return };
        // Closing the only descriptor of a socket also ends its watch.
        socket.fd = None;
        socket.queued.clear();
        if std::mem::take(&mut socket.is_blocked) {
            self.slots.unpark(socket.slots.len());
        }
        for slot in socket.slots.drain(..) {
            self.slots.release(slot);
        }
    }

    pub(super) fn listen_to(&mut self, bell: MailboxBell) {
        self.bell_watched = self.watch(libc::EPOLL_CTL_ADD, bell.fd(), libc::EPOLLIN, BELL).is_ok();
        self.bell = Some(bell);
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
        self.queue(socket, slot)
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
        self.queue(socket, slot)
    }

    pub(super) fn run_turn(
        &mut self,
        wait: TurnWait,
        mut on: impl FnMut(UdpCompletion<'_>),
    ) -> io::Result<()> {
        let was_full = self.slots.is_full();
        let has_failed = self.flush(&mut on);
        // Do not sleep: a caller that waited for a slot, or gets a failure, has work to do first.
        let must_not_sleep = has_failed || was_full && !self.slots.is_full();
        let wait = if must_not_sleep { TurnWait::No } else { wait };
        if self.follow_watches() {
            return self.receive(wait, &mut on);
        }
        let wait = match wait {
            TurnWait::AtMost(time) => TurnWait::AtMost(time.min(UNWATCHED_SLEEP)),
            TurnWait::Forever | TurnWait::Poll { .. } => TurnWait::AtMost(UNWATCHED_SLEEP),
            TurnWait::No => TurnWait::No,
        };
        self.receive(wait, &mut on)?;
        self.look_at_unwatched(&mut on);
        Ok(())
    }

    pub(super) fn submit(&mut self, mut on: impl FnMut(UdpCompletion<'_>)) {
        self.flush(&mut on);
    }

    /// Sends the queued messages; returns whether one could not leave.
    fn flush(&mut self, on: &mut impl FnMut(UdpCompletion<'_>)) -> bool {
        let mut has_failed = false;
        for index in 0..self.sockets.len() {
            has_failed |= self.flush_socket(index, on);
        }
        has_failed
    }

    fn flush_socket(&mut self, index: usize, on: &mut impl FnMut(UdpCompletion<'_>)) -> bool {
        let (socket, slots) = (&mut self.sockets[index], &mut self.slots);
        if socket.queued.is_empty() || socket.is_blocked {
            return false;
        }

        let mut has_failed = false;
        let mut finished = |slots: &mut SendSlots, slot, error: Option<i32>| {
            has_failed |= error.is_some();
            let Some(finished) = slots.release(slot) else { return };
            let result =
                error.map_or(Ok(()), |number| Err(make_send_error(number, finished.segmented)));
            on(UdpCompletion::Sent { token: finished.token, result });
        };
        socket.flush(|slot, error| finished(slots, slot, error));

        // Parked sends wait for room. What finds no place fails, so that one full socket never
        // holds the slots of the others.
        if socket.is_blocked {
            let parked = (0..socket.slots.len()).take_while(|parked| slots.park(*parked)).count();
            socket.queued.truncate(parked);
            for slot in socket.slots.drain(parked..) {
                finished(slots, slot, Some(libc::EAGAIN));
            }
        }
        has_failed
    }

    /// Sends the parked messages of a socket that may have room again.
    fn send_parked(&mut self, index: usize, on: &mut impl FnMut(UdpCompletion<'_>)) {
        let Some(socket) = self.sockets.get_mut(index).filter(|socket| socket.is_blocked) else {
            return;
        };
        socket.is_blocked = false;
        self.slots.unpark(socket.slots.len());
        self.flush_socket(index, on);
        if !self.sockets[index].is_blocked {
            on(UdpCompletion::Room(SocketId(index as u16)));
        }
    }

    fn receive(
        &mut self,
        wait: TurnWait,
        on: &mut impl FnMut(UdpCompletion<'_>),
    ) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let ready = match wait {
            TurnWait::No => self.wait_events(&mut events, Some(Duration::ZERO))?,
            TurnWait::AtMost(time) => self.wait_events(&mut events, Some(time))?,
            TurnWait::Forever => self.wait_events(&mut events, None)?,
            TurnWait::Poll { poll, then } => match self.poll(&mut events, poll)? {
                0 => self.wait_events(&mut events, then)?,
                ready => ready,
            },
        };

        for event in events.iter().take(ready) {
            if event.u64 == BELL {
                self.silence_bell();
                on(UdpCompletion::Woken);
                continue;
            }
            let index = usize::try_from(event.u64).unwrap_or(usize::MAX);
            if event.events & libc::EPOLLOUT.cast_unsigned() != 0 {
                self.send_parked(index, on);
            }
            // An error also comes as an event (epoll(7)): the receive takes it off the socket.
            if event.events & !libc::EPOLLOUT.cast_unsigned() != 0 {
                self.receive_from(index, on);
            }
        }
        Ok(())
    }

    fn silence_bell(&self) {
        if let Some(bell) = &self.bell {
            bell.silence();
        }
    }

    /// Checks the sockets that epoll does not watch: slower, but no event is missed.
    fn look_at_unwatched(&mut self, on: &mut impl FnMut(UdpCompletion<'_>)) {
        if !self.bell_watched && self.bell.as_ref().is_some_and(MailboxBell::is_ringing) {
            self.silence_bell();
            on(UdpCompletion::Woken);
        }
        for index in 0..self.sockets.len() {
            let socket = &self.sockets[index];
            let missing = socket.wanted() & !socket.watched;
            if missing & libc::EPOLLOUT != 0 {
                self.send_parked(index, on);
            }
            if missing & libc::EPOLLIN != 0 {
                self.receive_from(index, on);
            }
        }
    }

    /// Waits for events for this long; None: without a limit.
    fn wait_events(
        &self,
        events: &mut [libc::epoll_event; EVENTS_MAX],
        time: Option<Duration>,
    ) -> io::Result<usize> {
        // SAFETY: the kernel writes at most EVENTS_MAX events into the array, which lives across
        // the call.
        let ready = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                EVENTS_MAX as i32,
                round_up_milliseconds(time),
            )
        };
        usize::try_from(ready)
            .or_else(|_| ride_out_error(Err(io::Error::last_os_error())).map(|()| 0))
    }

    /// Polls until an event comes or the time is over, and yields in between.
    fn poll(
        &self,
        events: &mut [libc::epoll_event; EVENTS_MAX],
        time: Duration,
    ) -> io::Result<usize> {
        let until = Instant::now() + time;
        loop {
            let ready = self.wait_events(events, Some(Duration::ZERO))?;
            if ready > 0 || Instant::now() >= until {
                return Ok(ready);
            }
            std::thread::yield_now();
        }
    }

    /// Receives from a socket, up to a bound, so that the others get their turn.
    fn receive_from(&mut self, index: usize, on: &mut impl FnMut(UdpCompletion<'_>)) {
        let Some(socket) = self.sockets.get(index).filter(|socket| socket.receives) else { return };
        let Some(fd) = &socket.fd else { return };
        for _ in 0..RECEIVE_BATCHES_MAX {
            let count = match self.inbox.receive(fd) {
                Ok(count) => count,
                // The socket is empty. Any other error comes from the network and occurs once, or
                // is a shortage that passes.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    let _ = ride_out_error(Err(error));
                    return;
                }
            };
            for arrival in self.inbox.arrivals() {
                on(UdpCompletion::Datagram(ReceivedDatagram {
                    socket: SocketId(index as u16),
                    from: arrival.from,
                    local: arrival.local.unwrap_or(socket.local),
                    destination: arrival.destination.unwrap_or(socket.local),
                    interface: arrival.interface,
                    bytes: arrival.bytes,
                    truncated: arrival.is_truncated,
                }));
            }
            if count < self.inbox.capacity() {
                return;
            }
        }
    }

    fn queue(&mut self, socket: SocketId, slot: u16) -> Result<(), SendQueueFull> {
        let socket =
            self.sockets.get_mut(usize::from(socket.0)).filter(|socket| socket.fd.is_some());
        let (Some(socket), Some(message)) = (socket, self.slots.message(slot)) else {
            self.slots.release(slot);
            return Err(SendQueueFull);
        };
        // SAFETY: `message` leads to the header in the slot that was just filled. The copy points
        // into the same slot (and into content that the slot holds), which stays in place until it
        // is released, and that is after the send.
        let msg_hdr = unsafe { *message };
        socket.queued.push(libc::mmsghdr { msg_hdr, msg_len: 0 });
        socket.slots.push(slot);
        Ok(())
    }

    /// Updates the watches of all sockets. False: epoll does not watch all of them.
    fn follow_watches(&mut self) -> bool {
        if let (Some(bell), false) = (&self.bell, self.bell_watched) {
            self.bell_watched =
                self.watch(libc::EPOLL_CTL_ADD, bell.fd(), libc::EPOLLIN, BELL).is_ok();
        }
        let is_bell_watched = self.bell_watched || self.bell.is_none();
        (0..self.sockets.len()).fold(is_bell_watched, |all, index| self.follow_watch(index) && all)
    }

    fn follow_watch(&mut self, index: usize) -> bool {
        let Some(socket) = self.sockets.get(index) else { return true };
        let (wanted, watched) = (socket.wanted(), socket.watched);
        let Some(fd) = socket.fd.as_ref().map(AsRawFd::as_raw_fd).filter(|_| wanted != watched)
        else {
            return true;
        };
        let how = match (watched, wanted) {
            (0, _) => libc::EPOLL_CTL_ADD,
            (_, 0) => libc::EPOLL_CTL_DEL,
            _ => libc::EPOLL_CTL_MOD,
        };
        let is_done = self.watch(how, fd, wanted, index as u64).is_ok();
        if is_done {
            self.sockets[index].watched = wanted;
        }
        is_done
    }

    fn watch(&self, how: i32, fd: RawFd, wanted: i32, about: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: wanted.cast_unsigned(), u64: about };
        // SAFETY: the kernel reads one event, which lives across the call.
        let answer = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), how, fd, &raw mut event) };
        if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for PlainDriver {
    /// Sends queued messages as far as the kernel accepts them now.
    fn drop(&mut self) {
        self.flush(&mut |_| {});
    }
}

impl PlainSocket {
    fn wanted(&self) -> i32 {
        let receive = if self.receives && self.fd.is_some() { libc::EPOLLIN } else { 0 };
        receive | if self.is_blocked { libc::EPOLLOUT } else { 0 }
    }

    /// Sends the queue. Calls `finished` for each slot that the kernel has returned, with the
    /// number of its error.
    fn flush(&mut self, mut finished: impl FnMut(u16, Option<i32>)) {
        let Some(fd) = self.fd.as_ref().map(AsRawFd::as_raw_fd) else { return };
        self.is_blocked = false;
        let mut done = 0;
        while done < self.queued.len() && !self.is_blocked {
            let rest = &mut self.queued[done..];
            // SAFETY: every header points into a slot that is in use (see `queue`), and `rest` is a
            // slice of such headers with its true length, which is below UIO_MAXIOV as there are
            // fewer slots. The kernel keeps no pointer beyond the call.
            let answer = unsafe {
                libc::sendmmsg(
                    fd,
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(answer) {
                Ok(sent) => {
                    self.slots[done..done + sent].iter().for_each(|slot| finished(*slot, None));
                    done += sent;
                }
                Err(_) => match io::Error::last_os_error().raw_os_error().unwrap_or(0) {
                    libc::EINTR => {}
                    libc::EAGAIN => self.is_blocked = true,
                    // The kernel refused the first of the rest; the others may leave.
                    number => {
                        finished(self.slots[done], Some(number));
                        done += 1;
                    }
                },
            }
        }
        self.queued.drain(..done);
        self.slots.drain(..done);
    }
}

/// epoll counts in milliseconds: round up, or the wait for a timer would become a busy loop.
fn round_up_milliseconds(time: Option<Duration>) -> i32 {
    let Some(time) = time else { return -1 };
    let milliseconds = time.as_nanos().div_ceil(Duration::from_millis(1).as_nanos());
    i32::try_from(milliseconds).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::UdpSocket;

    use super::*;
    use crate::engine::mailbox::CoreMailbox;

    /// Of another kind, so that every watch is refused, as where the kernel has no memory for one.
    fn without_epoll<R>(driver: &mut PlainDriver, work: impl FnOnce(&mut PlainDriver) -> R) -> R {
        let epoll =
            std::mem::replace(&mut driver.epoll, UdpSocket::bind("127.0.0.1:0").unwrap().into());
        let done = work(driver);
        driver.epoll = epoll;
        done
    }

    #[test]
    fn what_could_not_be_watched_is_heard_all_the_same_and_watched_later() {
        let mut driver = PlainDriver::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bound = socket.local_addr().unwrap();
        let (letters, mailbox) = CoreMailbox::new().unwrap();
        without_epoll(&mut driver, |driver| {
            driver.add(socket.into(), bound.ip(), true);
            driver.listen_to(mailbox.bell());
            assert!(!driver.follow_watches(), "neither is watched");
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"heard", bound).unwrap();
            letters.send(1);
            let (mut heard, mut woken) = (0, 0);
            driver.look_at_unwatched(&mut |completion| match completion {
                UdpCompletion::Datagram(datagram) => {
                    heard += usize::from(datagram.bytes == b"heard")
                }
                UdpCompletion::Woken => woken += 1,
                _ => {}
            });
            assert_eq!((heard, woken), (1, 1));
        });
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"watched", bound).unwrap();
        let mut heard = 0;
        driver
            .run_turn(TurnWait::AtMost(Duration::from_secs(5)), |c| {
                heard += usize::from(matches!(c, UdpCompletion::Datagram(_)))
            })
            .unwrap();
        assert_eq!(
            (heard, driver.sockets[0].watched, driver.bell_watched),
            (1, libc::EPOLLIN, true)
        );
    }
}
